# S72, S32, S43: holds made, posted, voided and expired, journals reversed,
# batches posted and limits changed, all at once on a few accounts, at every
# isolation level: no limit is passed at any time, nothing happens twice,
# nobody is deadlocked, and the books agree afterwards.
use strict;
use warnings;

use IPC::Run;
use PaymentTest;
use PostgreSQL::Test::Utils;
use Test::More;

use constant { SECONDS => 6, CLIENTS => 6, SELLERS => 3 };

my $t = PaymentTest->new('races', settings => { deadlock_timeout => '200ms', max_prepared_transactions => 2 });
my $dir = PostgreSQL::Test::Utils::tempdir();

# One random thing to one random seller.  What the rules refuse is an answer.
$t->sql(sprintf(q{
    CREATE TABLE accounts AS SELECT n, payment.open_account('races_seller', 'liability', 'USD', payment.new_id(), NULL, 0) AS seller
    FROM generate_series(0, %d) n;
    CREATE TABLE other AS SELECT payment.open_account('races_cash', 'asset', 'USD') AS cash,
        payment.open_account('races_out', 'liability', 'USD', payment.new_id(), NULL, 0) AS out;
    CREATE FUNCTION churn(what int, n int, x bigint) RETURNS text LANGUAGE plpgsql AS $$
    DECLARE
        s uuid := (SELECT seller FROM accounts a WHERE a.n = churn.n);
        c uuid := (SELECT cash FROM other);
        o uuid := (SELECT other.out FROM other);
        h uuid;
        j uuid;
    BEGIN
        IF what IN (6, 7, 8, 9) THEN
            SELECT id INTO h FROM payment.hold WHERE account_id = s AND state = 'open' ORDER BY id DESC OFFSET x %% 3 LIMIT 1;
        ELSIF what IN (10, 11) THEN
            SELECT id INTO j FROM payment.journal WHERE kind IN ('in', 'out', 'hold_posted') ORDER BY id DESC OFFSET x %% 5 LIMIT 1;
        END IF;
        CASE what
            WHEN 0 THEN PERFORM payment.post_journal('in', ARRAY[s, c], ARRAY[-x, x]);
            WHEN 1 THEN PERFORM payment.post_journal('out', ARRAY[s, c], ARRAY[2 * x, -2 * x]);
            WHEN 2 THEN PERFORM payment.post_journals('{in,out,in}', '{1,1,2,2,3,3}', ARRAY[s, c, s, o, c, s],
                ARRAY[-x, x, x, -x, x, -x]);
            WHEN 3, 4 THEN PERFORM payment.create_hold(s, x);
            WHEN 5 THEN PERFORM payment.create_hold(s, x, expires_at => clock_timestamp() + x * interval '5 ms');
            WHEN 6 THEN PERFORM payment.post_hold(h, ARRAY[o]);
            WHEN 7 THEN PERFORM payment.post_hold(h, ARRAY[o, c], ARRAY[-x / 4 - 1, -1], x %% 2 = 0);
            WHEN 8, 9 THEN PERFORM payment.void_hold(h);
            WHEN 10 THEN PERFORM payment.reverse_journal(j, x / 2 + 1);
            WHEN 11 THEN PERFORM payment.reverse_journal(j);
            WHEN 12 THEN PERFORM payment.set_account_limits(s, NULL, -x);
            WHEN 13 THEN PERFORM payment.set_account_limits(s, NULL, 0);
            ELSE PERFORM payment.expire_holds(100);
        END CASE;
        RETURN 'done';
    EXCEPTION WHEN SQLSTATE 'PY001' OR SQLSTATE 'PY202' OR SQLSTATE 'PY206' OR SQLSTATE 'PY207' OR SQLSTATE 'PY208' THEN
        IF SQLSTATE = 'PY001' AND h IS NOT NULL THEN
            RAISE;
        END IF;
        RETURN SQLSTATE;
    END
    $$;
    SELECT payment.post_journal('in', ARRAY[seller, cash], '{-500,500}') FROM accounts, other}, SELLERS - 1));

my %run;
foreach my $level ('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE')
{
    my $file = "$dir/" . $level =~ tr/ /_/r;
    PostgreSQL::Test::Utils::append_to_file($file, sprintf(
        "\\set what random(0, 14)\n\\set n random(0, %d)\n\\set x random(1, 200)\n"
          . "BEGIN ISOLATION LEVEL $level;\nSELECT churn(:what, :n, :x);\nCOMMIT;\n", SELLERS - 1));
    $run{$level} = { output => '' };
    $run{$level}{harness} = IPC::Run::start(
        [ 'pgbench', '-n', '-h', $t->node->host, '-p', $t->node->port, '-f', $file, '-c', CLIENTS, '-j', 1,
          '-T', SECONDS, '--max-tries', 1000, $t->database ],
        '<', \undef, '>', \$run{$level}{output}, '2>&1', IPC::Run::timeout(10 * SECONDS + 60));
}

# while they run, and at each moment that a snapshot shows
my @wrong;
my $until = time + SECONDS - 1;
my $looks = 0;
while (time < $until)
{
    push @wrong, $t->sql(q{SELECT * FROM payment.verify()});
    $looks++;
}
is(join('', @wrong), '', "S72 nothing wrong in $looks looks at the running ledger");

foreach my $level (sort keys %run)
{
    $run{$level}{harness}->finish;
    my $output = $run{$level}{output};
    my ($count) = $output =~ /actually processed: (\d+)/;
    unlike($output, qr/ERROR: (?!.*(could not serialize|was changed while))/, "S72 $level: only errors that are meant");
    cmp_ok($count // 0, '>', 100, "S72 $level: $count transactions");
    note($output);
}
is($t->sql('SELECT * FROM payment.verify()'), '', 'S72 the ledger is true');
is($t->sql('SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()'), 0, 'no deadlock');

# each ending came about, and what was posted of holds is what their journals took
is($t->sql(q{SELECT string_agg(DISTINCT state, ' ' ORDER BY state) FROM payment.hold WHERE state <> 'open'}),
    'expired posted voided', 'holds ended in every way');
is($t->sql(q{SELECT sum(posted) = (SELECT sum(e.amount) FROM payment.journal j JOIN payment.entry e ON e.journal_id = j.id
            JOIN accounts a ON a.seller = e.account_id WHERE j.kind = 'hold_posted') FROM payment.hold}),
    't', 'Σ posted of all holds is what was taken');
is($t->sql(q{SELECT count(*) > 0 FROM payment.reversal WHERE cardinality(reversals) > 1}), 't', 'S32 journals were reversed in parts');
is($t->sql(q{SELECT count(*) FROM (SELECT unnest(reversals) AS id FROM payment.reversal
            EXCEPT SELECT id FROM payment.journal WHERE kind = 'reversal') x}), 0, 'each reversal on record is there');
is($t->sql(q{SELECT bool_and((b).posted >= 0 AND (b).available >= 0) FROM (SELECT payment.balance(seller) AS b FROM accounts) x}),
    't', 'S43 nobody spent what was not there');

# S32: many take parts of one journal, until nothing is left
{
    $t->sql(q{
        CREATE TABLE target AS SELECT payment.post_journal('target', ARRAY[cash, out], '{2000,-2000}') AS id FROM other;
        CREATE FUNCTION take_back(x bigint) RETURNS text LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM payment.reverse_journal(id, x) FROM target;
            RETURN 'done';
        EXCEPTION WHEN SQLSTATE 'PY208' THEN
            RETURN SQLSTATE;
        END
        $$});
    PostgreSQL::Test::Utils::append_to_file("$dir/target", "SELECT take_back(7);\n");
    my $output = '';
    IPC::Run::run([ 'pgbench', '-n', '-h', $t->node->host, '-p', $t->node->port, '-f', "$dir/target", '-c', 16, '-j', 1, '-t', 25,
          $t->database ], '<', \undef, '>', \$output, '2>&1', IPC::Run::timeout(60));
    unlike($output, qr/ERROR/, 'S32 no error');
    is($t->sql(q{SELECT cardinality(reversals), (SELECT sum(amount) FROM payment.entry, other
            WHERE journal_id = ANY (reversals) AND account_id = cash) FROM payment.reversal, target WHERE journal_id = id}),
        '285|-1995', 'S32 never more than the original');
}

# the worker writes down what is over
$t->sql(q{SELECT payment.void_hold(id) FROM payment.hold WHERE state = 'open' AND expires_at IS NULL;
    SELECT payment.set_account_limits(seller, NULL, 0) FROM accounts;
    SELECT payment.post_journal('in', ARRAY[seller, cash], '{-500,500}') FROM accounts, other;
    SELECT payment.create_hold(seller, 500, expires_at => clock_timestamp() + interval '1 s') FROM accounts});
is($t->sql(q{SELECT bool_and((payment.balance(seller)).pending >= 500) FROM accounts}), 't', 'holds count');
$t->wait_for(q{SELECT bool_and(state <> 'open') FROM payment.hold}, what => 'the worker to expire holds');
is($t->sql(q{SELECT sum((payment.balance(seller)).pending) FROM accounts}), 0, 'and count no longer');
is($t->sql('SELECT * FROM payment.verify()'), '', 'the ledger is true');

# a table whose first rows are just being written is not empty
$t->create_database('first');
$t->sql(q{
    CREATE TABLE accounts AS SELECT payment.open_account('first_a', 'asset', 'USD') AS a, payment.open_account('first_b', 'asset', 'USD') AS b;
    BEGIN;
    SELECT payment.post_journal('first', ARRAY[a, b], '{1,-1}') FROM accounts;
    SELECT payment.create_hold(a, 1) FROM accounts;
    PREPARE TRANSACTION 'first'}, database => 'first');
foreach my $table (qw(journal journal_default entry entry_default balance_slot hold))
{
    is($t->sqlstate("COPY payment.$table FROM '/dev/null'", database => 'first'), 'PY203', "S65 $table: nothing beside the first rows");
}
is($t->sqlstate("COPY payment.reversal FROM '/dev/null'", database => 'first'), '00000', 'an empty table can be restored');
$t->sql(q{COMMIT PREPARED 'first'}, database => 'first');
is($t->sql('SELECT * FROM payment.verify()', database => 'first'), '', 'the ledger is true');

$t->finish;
