# S63: the payer's currency is not the one that the PSP pays out in. Real worker, sandbox and settlement files: whatever
# the rates are, nothing is left that the PSP owes once its file is reconciled, and sellers have what was sold.
use strict;
use warnings;

use HTTP::Tiny ();
use JSON::PP   ();
use PaymentTest;
use Test::More;

my $t = PaymentTest->new('fx');
my @fees = ('--fee', 'USD=30,290', '--fee', 'KWD=100,290');

# What one unit settles for, from now on; the book is kept.
sub rates
{
    my (%rate) = @_;
    $t->stop_sandbox if $t->{sandbox};
    $t->start_sandbox({ port => $t->{port}, flags => [ @fees, map { ('--settlement-currency' => "$_:$rate{$_}") } sort keys %rate ] });
    $t->{port} = $t->sandbox_port;
    return;
}

rates('eur=usd' => '1.0845', 'jpy=usd' => '0.0065', 'usd=kwd' => '0.3071');
$t->register_psp('sandbox', settings => { requests_per_second => 1000 });
$t->register_seller('alice');
$t->sql(q(SELECT payment.set_fee_schedule(0, 1000, payment.seller_id('alice'), c) FROM unnest('{EUR,JPY,USD,CHF}'::text[]) AS c));

sub buy
{
    my ($key, $money, %argument) = @_;
    my (undef, $order) = $t->checkout($key, ["alice $money"], %argument);
    return $order;
}

sub order { my ($id) = @_; return ($t->rows("SELECT * FROM payment.order_record WHERE id = '$id'"))[0] }

sub give_back
{
    my ($order, $amount, $key) = @_;
    return $t->call('refund', payment_order => $order, amount => $amount, idempotency_key => $key);
}

# the sandbox's transaction of the charge of an order
sub transaction
{
    my ($order) = @_;
    my $name = order($order)->{psp_reference};
    chomp(my $secret = PaymentTest::slurp_file($t->secrets_dir . '/sandbox'));
    my $answer = HTTP::Tiny->new(timeout => 30)->get($t->sandbox_url . "/v1/payment_intents/$name?expand[]=latest_charge.balance_transaction",
        { headers => { Authorization => "Bearer $secret" } });
    die $answer->{content} if !$answer->{success};
    return JSON::PP->new->utf8->decode($answer->{content})->{latest_charge}{balance_transaction};
}

# Told and booked is what the sandbox has in its book.
sub is_exchanged
{
    my ($order, $name) = @_;
    my $row = order($order);
    my $tx = transaction($order);
    is_deeply([ @$row{qw(settled_currency settled_amount psp_fee)} ], [ uc $tx->{currency}, @$tx{qw(amount fee)} ], "$name: as the PSP has it");
    cmp_ok($row->{exchange_rate} // 0, '==', $tx->{exchange_rate} // 0, "$name: with its rate");
    my %legs = map { ("$_->{code} $_->{currency}" => $_->{amount}) } $t->rows(<<"SQL");
SELECT a.code, a.currency, sum(e.amount) AS amount FROM payment.journal j JOIN payment.entry e ON e.journal_id = j.id
    JOIN payment.account a ON a.id = e.account_id WHERE j.subject = '$order' GROUP BY 1, 2 HAVING sum(e.amount) <> 0
SQL
    my $share = $row->{captured_amount} - $row->{platform_fee};
    is_deeply(\%legs, {
            "seller_pending $row->{currency}" => -$share,
            ($row->{platform_fee} ? ("platform_fee $row->{currency}" => -$row->{platform_fee}) : ()),
            $row->{currency} eq uc $tx->{currency}
            ? ("psp_receivable $row->{currency}" => $row->{captured_amount})
            : (
                "fx_clearing $row->{currency}" => $row->{captured_amount},
                "fx_clearing \U$tx->{currency}" => -$tx->{amount},
                "psp_receivable \U$tx->{currency}" => $tx->{amount}) },
        "$name: the seller has what was sold, the PSP owes what it settles");
    return;
}

sub all_is_well
{
    my ($name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is($t->sql('SELECT * FROM payment.verify()'), '', "$name: verify() finds nothing");
    is($t->sql('SELECT count(*) FROM (SELECT FROM payment.trial_balance() GROUP BY currency HAVING sum(debit) <> sum(credit)) AS b'),
        0, "$name: the books balance in each currency");
    return;
}

sub reconcile
{
    return $t->sql(q(SELECT lines_matched, lines_excepted, exceptions_opened FROM payment.reconcile('sandbox', '-infinity')));
}

my %order;
subtest 'S63 told by the answer' => sub {
    my %money = (euros => '2000 EUR', one => '1 EUR', yen => '123457 JPY', little => '3 JPY', dollars => '1099 USD', francs => '700 CHF');
    $order{$_} = buy($_, $money{$_}) foreach sort keys %money;
    $t->wait_until_idle;
    is_exchanged($order{$_}, $_) foreach sort keys %money;
    my %wallet = map { $_->{currency} => $_->{pending} } $t->rows(q(SELECT currency, pending FROM payment.wallet WHERE seller = 'alice'));
    is_deeply(\%wallet, { EUR => 1801, JPY => 111_114, USD => 989, CHF => 630 }, 'wallets are in the currencies that payers paid');
    all_is_well('told');
};

subtest 'S63 told by a lookup' => sub {
    foreach my $fault (qw(lost_answer truncated_body error_500_after))
    {
        $t->faults($fault => 'next:1');
        $order{$fault} = buy($fault, '1500 EUR');
        $t->wait_until_idle;
        is_exchanged($order{$fault}, $fault);
    }
    all_is_well('looked up');
};

subtest 'S63 captures in parts' => sub {
    my $order = $order{parts} = buy('parts', '2000 EUR', capture => 'manual');
    $t->wait_until_idle;
    is(order($order)->{settled_currency}, undef, 'what is only reserved is not settled');
    $t->call('capture', payment_order => $order, idempotency_key => 'part', amount => 1234);
    $t->wait_until_idle;
    is_deeply([ @{ order($order) }{qw(status captured_amount settled_amount exchanged_amount)} ], [ 'captured', 1234, 1338, 1234 ], 'captured in part, and the rest let go');
    all_is_well('captured');
};

my %refund;
subtest 'S63 refunds by another rate' => sub {
    rates('eur=usd' => '1.1201', 'jpy=usd' => '0.0061', 'usd=kwd' => '0.3071');
    $refund{euros} = give_back($order{euros}, 500, 'back 1');
    $refund{yen} = give_back($order{yen}, 123_457, 'back 2');
    $refund{francs} = give_back($order{francs}, 100, 'back 3');
    $t->wait_until_idle;
    my %is = map { $_->{id} => "$_->{status} $_->{settled}" } $t->rows(
        q(SELECT id, status, coalesce(settled_amount || ' ' || settled_currency, 'as it was') AS settled FROM payment.refund));
    is_deeply(\%is, { $refund{euros} => 'succeeded 560 USD', $refund{yen} => 'succeeded 75309 USD', $refund{francs} => 'succeeded as it was' },
        'what the PSP takes for them');
    # 21.69 were got for 20.00, 802.47 for the yen: the euros rose, the yen fell
    is_deeply($t->balances('fx_gain'), { USD => (560 - 542) + (75_309 - 80_247) }, 'the difference is gain and loss');
    is_deeply([ @{ order($order{yen}) }{qw(exchanged_amount exchanged_for)} ], [ 0, 0 ], 'nothing is left of what was given back whole');
    all_is_well('refunded');
};

subtest 'S63 settled and reconciled' => sub {
    my $settlement = $t->settle;
    my $file = $t->settlement_csv($settlement->{id});
    my ($lines) = $settlement->{lines};
    $t->import_settlement('night.csv', $file);
    is_deeply($t->balances('psp_receivable'), {}, 'the PSP owes nothing more, in no currency');
    is(reconcile(), "$lines|0|0", 'every line matches');
    is_deeply($t->balances('psp_receivable'), {}, 'and owes nothing after that, either');
    my %net = map { (uc $_->{currency} => $_->{amount}) } @{ $settlement->{payouts} };
    my %fee = map { (uc $_->{currency} => $_->{fee} + $_->{others_fee}) } @{ $settlement->{payouts} };
    is_deeply($t->balances('settlement_in_transit'), \%net, 'what is on its way is what the PSP pays out');
    is_deeply($t->balances('psp_fee'), \%fee, 'its fees are booked once');
    is($t->sql('SELECT count(*) FROM payment.unsettled_order'), 0, 'nothing waits to be settled');
    all_is_well('settled');
};

# A file's lines, one changed by the code; the order that it is about.
sub with_line
{
    my ($file, $order, $change) = @_;
    my $name = order($order)->{psp_reference};
    return join "\n", map { /\b\Q$name\E\b/ ? $change->($_) : $_ } split /\n/, $file;
}

subtest 'S63 lines that tell otherwise' => sub {
    my $gain = $t->balances('fx_gain')->{USD};
    my ($near, $far, $wrong) = map { buy("other $_", '4000 EUR') } qw(near far wrong);
    $t->wait_until_idle;
    my $settlement = $t->settle;
    my $file = $t->settlement_csv($settlement->{id});
    # 44.80 USD each: 3 cents more; a dollar less; another amount of euros
    $file = with_line($file, $near, sub { $_[0] =~ s/\b44\.80\b/44.83/r =~ s/\b(\d+)\.(\d\d)(?=,charge)/sprintf '%.2f', "$1.$2" + 0.03/er });
    $file = with_line($file, $far, sub { $_[0] =~ s/\b44\.80\b/43.80/r =~ s/\b(\d+)\.(\d\d)(?=,charge)/sprintf '%.2f', "$1.$2" - 1/er });
    $file = with_line($file, $wrong, sub { $_[0] =~ s/\b40\.00\b/41.00/r });
    $t->import_settlement('otherwise.csv', "$file\n");
    is(reconcile(), '1|2|2', 'one within the tolerance, two not');
    is($t->balances('fx_gain')->{USD}, $gain - 3, 'what is within is gain');
    is(order($near)->{settled_amount}, 4483, 'and what was settled in the end');
    is($t->sql("SELECT string_agg(concat_ws(' ', order_id = '$far', type, currency, expected_amount, actual_amount), ', ' ORDER BY order_id = '$wrong') FROM payment.exception WHERE closed_at IS NULL"),
        't amount USD 4480 4380, f amount EUR 4000 4100', 'what is not is an exception');
    is_deeply($t->balances('psp_receivable'), { USD => 100 }, 'of which the PSP owes the difference still');
    all_is_well('otherwise');
};

subtest 'S63 what no answer told, the line tells' => sub {
    my $order = buy('silent', '3000 EUR');
    $t->wait_until_idle;
    my $before = $t->balances('psp_receivable');
    # a PSP that told nothing of what it settles
    $t->register_psp('silent', adapter => 'none', settings => {});
    my (undef, $quiet) = $t->checkout('quiet', ['alice 3000 EUR'], psp => 'silent');
    $t->sql(<<"SQL");
SELECT payment.record_outcomes(array_agg(ROW(c.attempt_id, 'succeeded', 200, 1, 'pi_quiet', c.amount, c.currency,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome))
FROM payment.claim_tasks((SELECT id FROM payment.psp WHERE name = 'silent'), 10, 60000) AS c
SQL
    my $text = $t->settlement_csv($t->settle->{id});
    my $name = order($order)->{psp_reference};
    (my $theirs = $text) =~ s/\Q$name\E/pi_quiet/g;
    $theirs =~ s/\Q$order\E/$quiet/g;
    $t->import_settlement('silent.csv', $theirs, psp => 'silent');
    is($t->sql(q(SELECT lines_matched, lines_excepted FROM payment.reconcile('silent', '-infinity'))), '1|0', 'its line matches');
    is_deeply([ @{ order($quiet) }{qw(settled_currency settled_amount exchanged_amount exchanged_for exchange_rate psp_fee)} ],
        [ 'USD', 3360, 3000, 3360, undef, undef ], 'it is exchanged by the line');
    is_deeply($t->balances('psp_receivable'), $before, 'and nothing of it is owed');
    all_is_well('silent');
};

$t->finish;
