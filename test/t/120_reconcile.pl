# The sandbox's settlement files, true and with planted differences, against
# the orders: reconciliation names exactly what differs.
use strict;
use warnings;

use PaymentTest;
use Test::More;

my $t = PaymentTest->new('reconcile');
$t->start_sandbox({ flags => [ '--seed', 11 ] });
my %psp_fee = (
    USD => { fixed => 30,  basis_points => 290 },
    EUR => { fixed => 25,  basis_points => 150 },
    JPY => { fixed => 30,  basis_points => 360 },
    KWD => { fixed => 100, basis_points => 290 });
$t->register_psp('sandbox', settings => { fees => \%psp_fee, requests_per_second => 1000 });
$t->register_seller($_) foreach qw(alice bob);

my @currencies = sort keys %psp_fee;

# So many payments of two orders each; returns the ids of all orders.
sub sell
{
    my ($key, $payments) = @_;
    my @orders = map {
        my $currency = $currencies[ $_ % @currencies ];
        my (undef, @ids) = $t->checkout("$key $_", [ 'alice ' . (1000 + 7 * $_) . " $currency", "bob 50$_ $currency" ]);
        @ids
    } 1 .. $payments;
    $t->wait_until_idle;
    return @orders;
}

sub reconcile
{
    return $t->sql(q(SELECT lines_matched, lines_excepted, exceptions_opened, exceptions_closed FROM payment.reconcile('sandbox')));
}

# Exceptions that are open, as "type of what".
sub open_exceptions
{
    return [ sort split /\n/, $t->sql(<<'SQL') ];
SELECT type || ' ' || CASE type WHEN 'missing_internal' THEN psp_reference ELSE order_id::text END
FROM payment.exception WHERE closed_at IS NULL
SQL
}

# What the sandbox planted, in the words of our exceptions.
my %type = (amount => 'amount', missing => 'missing_external', unknown => 'missing_internal', duplicate => 'duplicate',
    fee => 'fee', currency => 'currency');
sub planted
{
    my ($settlement) = @_;
    return [ sort map { "$type{ $_->{kind} } " . ($_->{kind} eq 'unknown' ? $_->{payment_intent} : $_->{payment_order}) }
          @{ $settlement->{planted} } ];
}

# What is still owed by the PSP has to follow from captures and files alone;
# a line that was there before is the same money, not more of it.
sub receivable_is_explained
{
    my ($name) = @_;
    my %expected;
    my ($captured, $unidentified) = map { $t->balances($_) } qw(psp_receivable unidentified_receipts);
    my @rows = $t->rows(<<'SQL');
SELECT currency, sum(amount)::bigint AS amount FROM (
    SELECT currency, captured_amount AS amount FROM payment.payment_order
    UNION ALL SELECT currency, -gross FROM payment.settlement_line WHERE NOT repeated
    -- fees that answers told and no line has told yet
    UNION ALL SELECT settled_currency, -psp_fee FROM payment.unsettled_order WHERE psp_fee > 0) AS b
GROUP BY currency
SQL
    foreach my $row (@rows)
    {
        # unidentified receipts are a credit, and were taken out once more
        my $owed = $row->{amount} - ($unidentified->{ $row->{currency} } // 0);
        $expected{ $row->{currency} } = $owed if $owed;
    }
    is_deeply($captured, \%expected, $name);
    is($t->sql('SELECT * FROM payment.verify()'), '', "$name: verify() finds nothing");
    return;
}

subtest 'a file without differences' => sub {
    my @orders = sell('true', 8);
    my $settlement = $t->settle;
    $t->import_settlement('true.csv', $t->settlement_csv($settlement->{id}));
    is(reconcile(), '16|0|0|0', 'all lines match');
    is_deeply(open_exceptions(), [], 'no exception');
    is_deeply($t->balances('psp_receivable'), {}, 'the PSP owes nothing');
    is($t->sql('SELECT count(*) FROM payment.exception'), 0, 'nor was there ever one');
};

subtest 'S54 S55 a file with one difference of each kind' => sub {
    sell('planted', 8);
    my $settlement = $t->settle(plant => 'amount:1,missing:1,unknown:1,duplicate:1,fee:1,currency:1');
    is(scalar @{ planted($settlement) }, 6, 'six differences are planted');
    $t->import_settlement('planted.csv', $t->settlement_csv($settlement->{id}));
    my ($matched, $excepted, $opened) = split /\|/, reconcile();
    is_deeply(open_exceptions(), planted($settlement), 'S54 S55 exactly these are named');
    is($opened, 6, 'each once');
    is($matched + $excepted, $settlement->{lines}, 'no line is forgotten');
    is(reconcile(), '0|0|0|0', 'a second run finds nothing new');
    is_deeply(open_exceptions(), planted($settlement), 'and leaves them as they are');

    my ($duplicate) = grep { $_->{kind} eq 'duplicate' } @{ $settlement->{planted} };
    is($t->sql("SELECT count(*) FROM payment.settlement_line WHERE order_id = '$duplicate->{payment_order}' AND match = 'matched'"),
        1, 'S54 the first of the two lines settles the order');
    $t->charged_once($duplicate->{payment_order}, 'S54 the order is credited once');

    my ($unknown) = grep { $_->{kind} eq 'unknown' } @{ $settlement->{planted} };
    my $currency = "\U$unknown->{stated}{currency}";
    is($t->sql(<<"SQL"), $unknown->{stated}{gross}, 'S55 the money of the unknown order is in unidentified_receipts');
SELECT coalesce(-sum(e.amount), 0) FROM payment.entry e JOIN payment.account a ON a.id = e.account_id
    JOIN payment.journal j ON j.id = e.journal_id
WHERE a.code = 'unidentified_receipts' AND a.currency = '$currency'
    AND e.amount = -($unknown->{stated}{gross})
SQL
    receivable_is_explained('S55 what the PSP still owes is explained');
    is($t->sql('SELECT count(*) FROM payment.task'), 0, 'nothing is sent because of a file');
    is($t->sql(q(SELECT status FROM payment.settlement WHERE file_name = 'planted.csv')), 'partially_matched', 'the file says so');
};

# A file's lines: the header, and the others with their order in front.
sub lines_of
{
    my ($file) = @_;
    my ($header, @lines) = split /^/, $file;
    my @rows = PaymentTest::parse_csv($file);
    return ($header, map { [ $rows[$_]{'payment_metadata[payment_order]'}, $lines[$_] ] } 0 .. $#lines);
}

subtest 'S56 a line comes a file later' => sub {
    my $before = open_exceptions();
    sell('late', 4);
    my ($header, @lines) = lines_of($t->settlement_csv($t->settle->{id}));
    my $late = splice @lines, 2, 1;
    $t->import_settlement('early.csv', join '', $header, map { $_->[1] } @lines);
    is(reconcile(), '7|0|1|0', 'one is missing');
    is_deeply(open_exceptions(), [ sort @$before, "missing_external $late->[0]" ], 'S56 by name');
    $t->import_settlement('late.csv', $header . $late->[1]);
    is(reconcile(), '1|0|0|1', 'the next file has it');
    is_deeply(open_exceptions(), $before, 'S56 it closes itself');
    receivable_is_explained('S56 money');
};

subtest 'S54 the second claim comes a file later' => sub {
    my $before = open_exceptions();
    my @orders = sell('again', 1);
    my ($header, @lines) = lines_of($t->settlement_csv($t->settle->{id}));
    $t->import_settlement('first.csv', join '', $header, map { $_->[1] } @lines);
    is(reconcile(), '2|0|0|0', 'settled');
    my $again = $lines[0][1] =~ s/txn_\w+/txn_claimedagain/r;
    isnt($again, $lines[0][1], 'another line of the PSP');
    $t->import_settlement('again.csv', $header . $again);
    is(reconcile(), '0|1|1|0', 'S54 is no match');
    is_deeply(open_exceptions(), [ sort @$before, "duplicate $lines[0][0]" ], 'S54 but a duplicate');
    $t->charged_once($_, 'S54 one credit each') foreach @orders;
    receivable_is_explained('S54 money');
};

subtest 'S51 S52 S53 files that are no good' => sub {
    my $state = sub { return $t->sql(<<'SQL') };
SELECT (SELECT count(*) FROM payment.settlement_file), (SELECT count(*) FROM payment.settlement_line),
    (SELECT count(*) FROM payment.journal)
SQL
    sell('no good', 4);
    my $file = $t->settlement_csv($t->settle->{id});
    my $before = $state->();
    is($t->sqlstate($t->import_text('cut.csv', substr $file, 0, length($file) - 40)), 'PY400', 'S52 truncated');
    is($t->sqlstate($t->import_text('html.csv', '<html><body>Bad Gateway</body></html>')), 'PY400', 'S52 an error page');
    is($t->sqlstate($t->import_text('empty.csv', '')), 'PY400', 'S52 nothing at all');
    is($t->sqlstate($t->import_text('comma.csv', $file =~ s/(\d)\.(\d\d\b)/$1,$2/gr)), 'PY400', 'S52 decimal commas');
    is($state->(), $before, 'nothing of them is left behind');

    my ($header, @lines) = lines_of($file);
    my $twice = join '', "\xEF\xBB\xBF", $header, map({ $_->[1] } @lines), $lines[3][1];
    $t->import_settlement('twice.csv', $twice =~ s/\r?\n/\r\n/gr);
    is(reconcile(), '8|1|1|0', 'S53 a line that is there twice matches once; S52 BOM and CRLF do no harm');
    is($t->sqlstate($t->import_text('again.csv', $twice =~ s/\r?\n/\r\n/gr)), 'PY401', 'S51 the same content is refused');
    receivable_is_explained('S53 money');
};

subtest 'S64 two runs at once' => sub {
    sell('overlap', 8);
    my $settlement = $t->settle(plant => 'unknown:1,duplicate:1');
    my $before = $t->sql('SELECT count(*) FROM payment.exception');
    $t->import_settlement('overlap.csv', $t->settlement_csv($settlement->{id}));
    my @runs = map { $t->start_sql(q(SELECT payment.reconcile('sandbox'))) } 1 .. 4;
    my @errors = grep { $_ ne '' } map { ($t->finish_sql($_))[2] } @runs;
    is_deeply(\@errors, [], 'none fails');
    is($t->sql('SELECT count(*) FROM payment.exception') - $before, 2, 'S64 one effect');
    receivable_is_explained('S64 money');
};

$t->books_agree('book equals ledger, order by order');
$t->finish;
