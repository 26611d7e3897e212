# The ledger's upkeep beside load: slots are merged by the worker, partitions
# are detached, statements are read; verify() runs on a standby, shows how far
# it is, and finds whatever a superuser planted, in every partition.
use strict;
use warnings;

use PaymentTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $t = PaymentTest->new('upkeep', init => [ allows_streaming => 1 ]);
my $dir = PostgreSQL::Test::Utils::tempdir();

$t->node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($t->node, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "hot_standby_feedback = on\nmax_standby_streaming_delay = 60s");
$standby->start;

$t->sql(q{SELECT payment.create_partitions();
    SELECT payment.open_account('upkeep_' || n, 'asset', 'USD') FROM generate_series(1, 20) n;
    SELECT payment.open_account('owed_' || n, 'liability', 'USD', NULL, NULL, 0) FROM generate_series(1, 20) n});

# a partition of the next six seconds, beside that of the month
$t->sql(q{
    SELECT partition::text AS month, from_time FROM payment.time_partition
        WHERE parent = 'payment.journal'::regclass AND now() BETWEEN from_time AND until_time \gset
    DO $$
    DECLARE
        parent text;
        month text := (SELECT to_char(now() AT TIME ZONE 'UTC', '"_p"YYYYMM'));
        t0 timestamptz := clock_timestamp();
        t1 timestamptz := t0 + interval '6 s';
        until_id text;
    BEGIN
        FOREACH parent IN ARRAY ARRAY['journal', 'entry']
        LOOP
            EXECUTE format('ALTER TABLE payment.%I DETACH PARTITION payment.%I', parent, parent || month);
            EXECUTE format('CREATE TABLE payment.%I (LIKE payment.%I INCLUDING ALL)', parent || '_early', parent || '_default');
            EXECUTE format('CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON payment.%I '
                'FOR EACH STATEMENT EXECUTE FUNCTION payment.guard_ledger()', parent || '_early');
            EXECUTE format('ALTER TABLE payment.%I ATTACH PARTITION payment.%I FOR VALUES FROM (%L) TO (%L)', parent,
                parent || '_early', payment.id_floor(t0 - interval '1 s'), payment.id_floor(t1));
            EXECUTE format('ALTER TABLE payment.%I ATTACH PARTITION payment.%I FOR VALUES FROM (%L) TO (%L)', parent,
                parent || month, payment.id_floor(t1), payment.id_floor(date_trunc('month', now(), 'UTC') + interval '1 month'));
        END LOOP;
    END $$});

# ---- detaching and reading beside load ----

my $script = "$dir/post.sql";
append_to_file($script, q{\set n random(1, 20)
\set m random(1, 20)
\set x random(1, 100)
SELECT payment.post_journal('load', ARRAY[(SELECT id FROM payment.account WHERE code = 'upkeep_' || :n),
    (SELECT id FROM payment.account WHERE code = 'owed_' || :m)], ARRAY[:x, -:x]);
});
my $load = IPC::Run::start([ $t->node->installed_command('pgbench'), '-n', '-c', 4, '-T', 14, '-R', 1000, '-f', $script,
    $t->node->connstr('shop') ], '>', \my $out, '2>', \my $err);

my $reading = q{SELECT bool_and(ok) FROM (
    SELECT sum(coalesce(debit, 0) - coalesce(credit, 0)) FILTER (WHERE line = 'entry')
        + max(balance) FILTER (WHERE line = 'opening') = max(balance) FILTER (WHERE line = 'closing') AS ok
    FROM payment.account a, payment.statement(a.id, page_size => 10000) s
    WHERE a.code LIKE 'upkeep%' GROUP BY a.id) x};
my $trial = q{SELECT sum(debit) = sum(credit) FROM payment.trial_balance()};
my ($reads, $right) = (0, 0);
my $read = sub {
    $reads += 2;
    $right += ($t->sql($reading) ne 'f') + ($t->sql($trial) eq 't');
};
$t->wait_for(q{SELECT count(*) > 500 FROM payment.entry_early}, what => 'some entries');
$read->() for 1 .. 3;
$t->wait_for(q{SELECT count(*) > 500 FROM payment.entry WHERE tableoid <> 'payment.entry_early'::regclass},
    what => 'entries of after the early partition');
my @detached = split /\n/, $t->sql(q{SELECT parent, partition FROM payment.detach_partitions(clock_timestamp())});
is_deeply(\@detached, [ 'journal|payment.journal_early', 'entry|payment.entry_early' ], 'detached beside load');
is($t->sql('SELECT * FROM payment.verify()'), '', 'the ledger is true beside load');
$read->() for 1 .. 3;
$load->finish;
like($out, qr/number of failed transactions: 0 /, 'no posting failed because of it');
is($right, $reads, 'each statement and trial balance added up');
is($t->sql('SELECT * FROM payment.verify()'), '', 'the ledger is true afterwards');
is($t->sql(q{SELECT count(*) FROM payment.account a WHERE code LIKE 'upkeep%'
    AND (payment.balance(id)).posted <> (SELECT balance FROM payment.statement(a.id, 'infinity') WHERE line = 'closing')
    AND (payment.balance(id)).posted <> (SELECT sum(amount) FROM (SELECT account_id, amount FROM payment.entry
        UNION ALL SELECT account_id, amount FROM payment.entry_early) e WHERE account_id = a.id)}), '0',
    'balances are those of all entries');
$t->sql('DROP TABLE payment.journal_early, payment.entry_early');
is($t->sql('SELECT * FROM payment.verify()'), '', 'the archived tables are not needed');

# ---- the worker merges slots ----

$t->wait_for_dispatcher;
my @many = map { $t->node->background_psql('shop') } 1 .. 5;
$_->query_safe(q{BEGIN; SELECT payment.post_journal('slots', ARRAY(SELECT id FROM payment.account
    WHERE code IN ('upkeep_1', 'upkeep_2')), '{1,-1}')}) foreach @many;
$_->query_safe('COMMIT') foreach @many;
$_->quit foreach @many;
my $slots = q{SELECT max(n) FROM (SELECT count(*) n FROM payment.balance_slot GROUP BY account_id) x};
cmp_ok($t->sql($slots), '>=', 5, 'an account touched by five at once has a slot for each');
$t->kill_dispatcher('TERM');
$t->wait_for("SELECT ($slots) = 1", what => 'slots are merged');
is($t->sql('SELECT * FROM payment.verify()'), '', 'the ledger is true');

# ---- verify on a standby ----

$t->node->wait_for_catchup($standby);
is($standby->safe_psql('shop', 'SELECT * FROM payment.verify()'), '', 'verify runs on a standby');
is($standby->safe_psql('shop', q{SELECT (payment.balance(id)).posted FROM payment.account WHERE code = 'upkeep_3'}),
    $t->sql(q{SELECT (payment.balance(id)).posted FROM payment.account WHERE code = 'upkeep_3'}), 'so do balances');
is($standby->safe_psql('shop', q{SELECT balance FROM payment.account a, payment.statement(a.id, 'infinity') WHERE code = 'upkeep_3' AND line = 'closing'}),
    $t->sql(q{SELECT (payment.balance(id)).posted FROM payment.account WHERE code = 'upkeep_3'}), 'so do statements');
foreach my $call ('create_partitions()', "detach_partitions('2020-01-01')", 'merge_balance_slots(1)')
{
    my $err = '';
    $standby->psql('shop', "SELECT payment.$call", stderr => \$err);
    like($err, qr/read-only transaction/, "$call does not");
}

# ---- progress ----

my $blocker = $t->node->background_psql('shop');
$blocker->query_safe('BEGIN; LOCK TABLE payment.reversal IN ACCESS EXCLUSIVE MODE');
my $verify = $t->start_sql('SELECT * FROM payment.verify()');
$t->wait_for(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ '^payment.verify\(\): check \d+ of \d+, reversal_record$'},
    what => 'verify shows how far it is');
$blocker->query_safe('COMMIT');
$blocker->quit;
my ($status, $rows) = $t->finish_sql($verify);
is("$status $rows", '0 ', 'and comes to its end');

# ---- whatever is planted is found ----

my $month = $t->sql(q{SELECT to_char(now() AT TIME ZONE 'UTC', '"p"YYYYMM')});
sub found_ok
{
    my ($what, $change, @checks) = @_;
    my $found = $t->sql(qq{BEGIN;
        SELECT format('ALTER TABLE %s DISABLE TRIGGER ALL', partition) FROM payment.time_partition \\gexec
        ALTER TABLE payment.balance_slot DISABLE TRIGGER ALL;
        ALTER TABLE payment.detached_balance DISABLE TRIGGER ALL;
        ALTER TABLE payment.detached_partition DISABLE TRIGGER ALL;
        ALTER TABLE payment.account DISABLE TRIGGER ALL;
        SELECT id AS one FROM payment.journal ORDER BY id LIMIT 1 \\gset
        $change;
        SELECT string_agg(DISTINCT check_name, ' ' ORDER BY check_name) FROM payment.verify();
        ROLLBACK});
    is($found, join(' ', @checks), "verify finds: $what");
    return;
}
found_ok('an amount changed', "UPDATE payment.entry_$month SET amount = amount + 1 WHERE journal_id = :'one' AND leg = 1",
    'balance', 'zero_sum');
found_ok('two amounts changed', "UPDATE payment.entry_$month SET amount = amount + sign(amount)::int WHERE journal_id = :'one'",
    'balance');
found_ok('an entry moved', "UPDATE payment.entry_$month SET account_id = (SELECT id FROM payment.account WHERE code = 'upkeep_19') WHERE journal_id = :'one' AND leg = 1",
    'balance');
found_ok('an entry deleted', "DELETE FROM payment.entry_$month WHERE journal_id = :'one' AND leg = 1", 'balance',
    'journal_entries', 'zero_sum');
found_ok('an entry added', "INSERT INTO payment.entry_$month SELECT journal_id, 3, account_id, 5 FROM payment.entry WHERE journal_id = :'one' AND leg = 1",
    'balance', 'zero_sum');
found_ok('a pair of entries added', "INSERT INTO payment.entry_$month SELECT journal_id, leg + 2, account_id, amount FROM payment.entry WHERE journal_id = :'one'",
    'balance');
found_ok('an entry of an unknown journal', "INSERT INTO payment.entry_default SELECT '00000000-0000-7000-8000-000000000000', leg, account_id, amount FROM payment.entry WHERE journal_id = :'one'",
    'balance', 'entry_journal');
found_ok('a journal deleted', "DELETE FROM payment.journal_$month WHERE id = :'one'", 'entry_journal');
found_ok('a journal deleted with its entries', "DELETE FROM payment.journal_$month WHERE id = :'one'; DELETE FROM payment.entry_$month WHERE journal_id = :'one'",
    'balance');
found_ok('a journal without entries', "INSERT INTO payment.journal_default VALUES ('00000000-0000-7000-8000-000000000000', 'planted', NULL, NULL, now(), now())",
    'journal_entries');
found_ok('a slot changed', q{UPDATE payment.balance_slot SET balance = balance + 1 WHERE account_id = (SELECT id FROM payment.account WHERE code = 'upkeep_3')},
    'balance');
found_ok('a slot deleted', q{DELETE FROM payment.balance_slot WHERE account_id = (SELECT id FROM payment.account WHERE code = 'upkeep_3')},
    'balance');
found_ok('a slot added', q{INSERT INTO payment.balance_slot SELECT id, 1, 1 FROM payment.account WHERE code = 'upkeep_3'}, 'balance');
found_ok('a detached balance changed', q{UPDATE payment.detached_balance SET amount = amount + 1 WHERE account_id = (SELECT id FROM payment.account WHERE code = 'upkeep_3')},
    'balance', 'detached_zero_sum');
found_ok('detached balances deleted', 'DELETE FROM payment.detached_balance', 'balance');
found_ok('a detached partition forgotten', 'DELETE FROM payment.detached_partition', 'detached_partition');
found_ok('detached balances made up', q{INSERT INTO payment.detached_balance SELECT id, '00000000-0000-7000-8000-000000000000', CASE code WHEN 'upkeep_3' THEN 1 ELSE -1 END
    FROM payment.account WHERE code IN ('upkeep_3', 'upkeep_4')}, 'balance', 'detached_partition');
found_ok('a limit that is passed', q{UPDATE payment.account SET max_balance = -1000000 WHERE code = 'owed_3'}, 'limit');
found_ok('a closed account with money', q{UPDATE payment.account SET state = 'closed' WHERE code = 'owed_3'}, 'closed_account');
found_ok('a partition dropped', "DROP TABLE payment.entry_$month", 'balance', 'journal_entries');
found_ok('nothing', 'SELECT 1 WHERE false', ());

$standby->stop('fast');
$t->finish;
