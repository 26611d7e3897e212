# One day of a marketplace, from checkout to a reconciled ledger: several
# sellers, four currencies, every step checked at the sandbox's book, too.
use strict;
use warnings;

use JSON::PP;
use PaymentTest;
use Test::More;

my $t = PaymentTest->new('end_to_end');
$t->start_sandbox({ flags => [ '--payout-delay-ms', 100 ] });

# Everybody has the rights of a role, nobody more.
$t->sql(<<'SQL');
CREATE ROLE shop LOGIN IN ROLE payment_app;
CREATE ROLE bookkeeper LOGIN IN ROLE payment_finance;
CREATE ROLE admin LOGIN IN ROLE payment_admin;
SQL
sub as { my ($role, $query) = @_; return $t->sql("SET ROLE $role; $query") }

my %psp_fee = (
    USD => { fixed => 30,  basis_points => 290 },
    EUR => { fixed => 25,  basis_points => 150 },
    JPY => { fixed => 30,  basis_points => 360 },
    KWD => { fixed => 100, basis_points => 290 });
$t->register_psp('sandbox', settings => { fees => \%psp_fee });
my %seller = map { $_ => as('shop', $t->call_text('register_seller', reference => $_, name => $_)) } qw(alice bob carol house);
as('admin', $t->call_text('set_fee_schedule', fixed => 0, basis_points => 1000));
as('admin', $t->call_text('set_fee_schedule', fixed => 0, basis_points => 10_000, seller => $seller{house}));

# key => orders; amounts as numbers are minor units, as text major ones
my %third = (currency => 'USD', reference => 'a third');
my @thirds = split /,/, as('shop', 'SELECT array_to_string(payment.split_money(100, ARRAY[1, 1, 1]), $$,$$)');
my @purchases = (
    [ usd => [ 'alice 12345 USD', { seller => 'bob', amount => '20.00', currency => 'USD', reference => 'lamp' } ] ],
    [ eur => [ 'alice 9999 EUR', 'bob 1 EUR', 'carol 500 EUR' ] ],
    [ jpy => [ { seller => 'carol', amount => '1000000', currency => 'JPY' } ] ],
    [ kwd => [ { seller => 'carol', amount => '1.234',   currency => 'KWD' } ] ],
    [ thirds => [ map { { %third, seller => $_, amount => shift(@thirds) + 0 } } qw(alice bob carol) ] ],
    [ house => ['house 700 USD'] ]);
my %orders;
foreach my $purchase (@purchases)
{
    my ($key, $orders) = @$purchase;
    my ($payment, @ids) = split / /, as('shop', $t->checkout_text($key, $orders));
    $orders{$key} = \@ids;
}
$t->wait_until_idle;

subtest 'payments' => sub {
    is(as('shop', q(SELECT string_agg(DISTINCT status, ' ') FROM payment.payment)), 'succeeded', 'all succeed');
    is(as('shop', q(SELECT string_agg(DISTINCT status || classic_status, ' ') FROM payment.payment_order)),
        'capturedSUCCESS', 'all orders are captured');
    $t->charged_once($_, "one charge for each order") foreach map { @$_ } values %orders;
    my %amount = map { $_->{payment_order} => "$_->{amount} $_->{currency}" } $t->charges;
    is($amount{ $orders{jpy}[0] }, '1000000 jpy', 'S61 JPY 1,000,000 at the PSP');
    is($amount{ $orders{kwd}[0] }, '1234 kwd', 'S61 KWD 1.234 at the PSP');
    is_deeply([ map { $amount{$_} } @{ $orders{thirds} } ], [ '33 usd', '33 usd', '34 usd' ],
        'S62 1.00 in three, the last takes the remainder');
    is($t->sql(q(SELECT sum(amount) FROM payment.payment_order WHERE reference = 'a third')), 100, 'S62 and all is 1.00');
};

subtest 'wallets' => sub {
    is_deeply(
        [ split /\n/, as('shop', 'SELECT seller, currency, pending, available FROM payment.wallet WHERE seller <> $$house$$ ORDER BY 1, 2') ],
        [   'alice|EUR|8999|0',  'alice|USD|11141|0', 'bob|EUR|1|0', 'bob|USD|1830|0',
            'carol|EUR|450|0',   'carol|JPY|900000|0', 'carol|KWD|1111|0', 'carol|USD|31|0', ],
        'nine tenths each, the fee half-even; nothing is available yet');
    is_deeply($t->balances('platform_fee'), { USD => -1234 - 200 - 9 - 700, EUR => -1000 - 50, JPY => -100_000, KWD => -123 },
        'the platform has the rest');
};

subtest 'receipt' => sub {
    my $receipt = JSON::PP->new->utf8->decode(as('shop', $t->call_text('receipt', payment_order => $orders{kwd}[0])));
    is(JSON::PP->new->canonical->encode($receipt->{amounts}{amount}), '{"major":"1.234","minor":1234}', 'S61 KWD 1.234');
    my ($yen) = as('shop', $t->call_text('receipt', payment_order => $orders{jpy}[0])) =~ /"major": "(\d+)"/;
    is($yen, '1000000', 'S61 JPY has no decimals');
    is($receipt->{status}, 'captured', 'its status');
    is(scalar @{ $receipt->{history} }, 3, 'its history');
    is(scalar @{ $receipt->{attempts} }, 1, 'its attempt');
    like($receipt->{psp_reference} // '', qr/^pi_/, "the PSP's reference");
};

subtest 'release' => sub {
    my $house = $orders{house}[0];
    is(as('shop', "SELECT bool_and(payment.release(id)) FROM payment.payment_order"), 't', 'the holding period is over');
    is(as('shop', "SELECT payment.release('$house')"), 'f', 'once');
    is(as('shop', 'SELECT sum(pending) FROM payment.wallet'), 0, 'nothing is pending');
    is(as('shop', q(SELECT available FROM payment.wallet WHERE seller = 'carol' AND currency = 'JPY')), 900_000, 'but available');
    is($t->sql('SELECT * FROM payment.verify()'), '', 'verify() finds nothing, though the house takes all');
};

sub payout
{
    my ($key, $seller, $amount, $currency, %argument) = @_;
    return $t->call_text('payout', idempotency_key => $key, seller => $seller{$seller}, amount => $amount,
        currency => $currency, destination => "ba_sandbox_$seller", %argument);
}

subtest 'payouts' => sub {
    is($t->sqlstate('SET ROLE shop; ' . payout('too much', 'carol', 900_001, 'JPY')), 'PY202', 'not more than there is');
    is($t->sqlstate('SET ROLE shop; ' . payout('no such money', 'bob', 1, 'JPY')), 'PY202', 'nor of another currency');
    my @paid = map { as('shop', payout(@$_)) }
      ([ 'p1', 'carol', 900_000, 'JPY' ], [ 'p2', 'carol', 1111, 'KWD' ], [ 'p3', 'alice', 11_141, 'USD' ], [ 'p4', 'alice', 1, 'EUR' ]);
    is(as('shop', payout('p1', 'carol', 900_000, 'JPY')), $paid[0], 'clicked twice, asked for once');
    my ($failed, $left) = split /\n/, as('shop', 'BEGIN; ' . payout('p5', 'bob', 1830, 'USD', destination => 'ba_sandbox_fail')
          . q(; SELECT available FROM payment.wallet WHERE seller = 'bob' AND currency = 'USD'; COMMIT));
    is($left, 0, 'the money is reserved');
    $t->wait_until_idle;
    my %status = map { split /\|/ } split /\n/, as('shop', 'SELECT id, status FROM payment.payout');
    is_deeply(\%status, { (map { $_ => 'paid' } @paid), $failed => 'failed' }, 'paid, and one failed');
    is(as('shop', q(SELECT available FROM payment.wallet WHERE seller = 'bob' AND currency = 'USD')), 1830,
        'whose money is back');
    is_deeply([ sort map { "$_->{payout} $_->{amount} $_->{currency} $_->{status}" } $t->payouts ],
        [ sort "$paid[0] 900000 jpy paid", "$paid[1] 1111 kwd paid", "$paid[2] 11141 usd paid", "$paid[3] 1 eur paid",
            "$failed 1830 usd failed" ], "the sandbox's book says the same");
    is_deeply($t->balances('bank'), { JPY => -900_000, KWD => -1111, USD => -11_141, EUR => -1 }, 'and so does the ledger');
    is_deeply($t->balances('payout_clearing'), {}, 'nothing is on its way');
};

subtest 'settlement and reconciliation' => sub {
    my $settlement = $t->settle;
    my $file = $t->settlement_csv($settlement->{id});
    my $import = $t->import_text('night.csv', $file);
    as('bookkeeper', $import);
    is($t->sqlstate("SET ROLE bookkeeper; $import"), 'PY401', 'S51 the same file again is refused');
    is($t->sqlstate('SET ROLE bookkeeper; ' . $t->import_text('other name.csv', $file)), 'PY401', 'S51 under another name, too');
    my %book = %{ $t->book->{currencies} };
    is_deeply($t->balances('psp_fee'), { map { uc $_ => $book{$_}{fee} } keys %book }, "the PSP's fees are posted");
    is_deeply($t->balances('settlement_in_transit'), { map { uc $_ => $book{$_}{net} } keys %book }, 'the net is on its way');
    is_deeply($t->balances('psp_receivable'), {}, 'the PSP owes nothing more');
    is(as('bookkeeper', q(SELECT lines_matched, lines_excepted, exceptions_opened FROM payment.reconcile('sandbox'))),
        '11|0|0', 'every line matches');
    is(as('bookkeeper', q(SELECT lines_matched, lines_excepted, exceptions_opened FROM payment.reconcile('sandbox'))),
        '0|0|0', 'a second run finds nothing new');
    is(as('bookkeeper', 'SELECT status, line_count, matched, excepted, pending FROM payment.settlement'),
        'matched|11|11|0|0', 'the file is matched');
    is(as('bookkeeper', 'SELECT count(*) FROM payment.exception'), 0, 'no exception');
    my $receipt = JSON::PP->new->utf8->decode(as('shop', $t->call_text('receipt', payment_order => $orders{jpy}[0])));
    is($receipt->{amounts}{psp_fee}{minor}, 36_030, "the receipt knows the PSP's fee now");
};

subtest 'the books' => sub {
    my %book = %{ $t->book->{currencies} };
    my %charged = map { uc $_ => "$book{$_}{charges_succeeded} $book{$_}{gross} $book{$_}{payouts_paid} $book{$_}{payouts_paid_sum}" }
      keys %book;
    my %posted = map { split /=/ } split /\n/, $t->sql(<<'SQL');
SELECT format('%s=%s %s %s %s', a.currency,
    count(*) FILTER (WHERE j.kind = 'capture' AND a.code = 'psp_receivable'),
    sum(e.amount) FILTER (WHERE j.kind = 'capture' AND a.code = 'psp_receivable'),
    count(*) FILTER (WHERE j.kind = 'payout_paid' AND a.code = 'bank'),
    -sum(e.amount) FILTER (WHERE j.kind = 'payout_paid' AND a.code = 'bank'))
FROM payment.journal j JOIN payment.entry e ON e.journal_id = j.id JOIN payment.account a ON a.id = e.account_id
GROUP BY a.currency
SQL
    is_deeply(\%posted, \%charged, "the sandbox's book equals the ledger, in number and sum");
    is(as('bookkeeper', 'SELECT bool_and(d = c) FROM (SELECT sum(debit) AS d, sum(credit) AS c FROM payment.trial_balance() GROUP BY currency) AS s'),
        't', 'debits equal credits in every currency');
    $t->books_agree('book equals ledger order by order, verify() finds nothing');
    is($t->sql('SELECT count(*) FROM payment.task'), 0, 'nothing is left to do');
};

$t->finish;
