# Time partitions: the worker makes them ahead, making them stops nobody, what
# they hold survives dump and restore, and DROP EXTENSION does not take it away
# unasked.
use strict;
use warnings;

use PaymentTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $t = PaymentTest->new('partitions');
my $dir = PostgreSQL::Test::Utils::tempdir();
my @tables = qw(journal entry payment_record order_record refund_record payout_record status_history attempt settlement_line event);

# those, and others that this test writes nothing to
my $parents = $t->sql(q{SELECT count(*) FROM pg_partitioned_table AS p JOIN pg_class AS c ON c.oid = p.partrelid
    WHERE c.relnamespace = 'payment'::regnamespace});
cmp_ok($parents, '>', @tables, 'tables that grow with payments are partitioned');

sub partitions
{
    my ($parent, %option) = @_;
    return $t->sql("SELECT count(*) FROM pg_inherits WHERE inhparent = 'payment.$parent'::regclass", %option);
}

# ---- the worker ----

$t->wait_for_dispatcher;
$t->wait_for("SELECT started_at < now() - interval '2 s' FROM payment.worker_status WHERE database = 'shop'",
    what => 'the dispatcher is at work');
is(partitions('journal'), 1, 'no partition is made before there is a PSP: a restore may be going on');

sub order_flow
{
    my ($name, %option) = @_;
    $t->sql(qq{
        SELECT payment.checkout('key $name ' || n, 'payer', '[{"seller": "alice", "amount": 1000, "currency": "USD"}]',
            payment_method => 'pm') FROM generate_series(1, 5) n;
        SELECT payment.record_outcomes(array_agg(ROW(c.attempt_id, 'succeeded', 200, 25, 'ref_' || c.object_id, c.amount,
            c.currency, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome))
        FROM payment.claim_tasks((SELECT id FROM payment.psp), 100, 60000) c;
        SELECT payment.release(id) FROM payment.order_record WHERE released_at IS NULL;
        SELECT payment.refund(max(id::text)::uuid, 100, 'refund $name') FROM payment.order_record;
        SELECT payment.payout(payment.seller_id('alice'), 500, 'USD', 'bank', 'payout $name');
        SELECT payment.import_settlement('psp', 'stripe_csv', 'file $name',
            convert_to('balance_transaction_id,created_utc,available_on_utc,currency,gross,fee,net,reporting_category,source_id'
            || E'\n' || 'txn_' || md5('$name') || ',2026-01-01 00:00:00,2026-01-03 00:00:00,usd,10.00,0.59,9.41,charge,ref_'
            || (SELECT id FROM payment.order_record ORDER BY id DESC LIMIT 1) || E'\n', 'UTF8'))}, %option);
    return;
}

my $register = q{
    SELECT payment.register_psp('psp', 'none', 'http://127.0.0.1:1', 'none');
    SELECT payment.register_seller('alice', 'Alice')};

$t->sql($register);
$t->kill_dispatcher('TERM');
$t->wait_for("SELECT count(*) = $parents * 4 FROM payment.time_partition", what => 'the worker makes partitions ahead');
is($t->sql(q{SELECT min(from_time) = date_trunc('month', now(), 'UTC') + interval '1 month',
    max(until_time) = date_trunc('month', now(), 'UTC') + interval '4 months'
    FROM payment.time_partition}), 't|t', 'three months ahead, but not the current one');
is($t->sql('SELECT payment.create_partitions()'), $parents, 'an administrator makes the current ones while there are no rows');
is($t->sql('SELECT payment.create_partitions()'), '0', 'a second time nothing is left to do');

# ---- rows go there, guards and rules hold there ----

my $month = $t->sql(q{SELECT to_char(now() AT TIME ZONE 'UTC', '"p"YYYYMM')});
order_flow('one');
foreach my $table (@tables)
{
    is($t->sql("SELECT count(*) FROM payment.${table}_default"), '0', "$table: nothing goes to the default partition");
    cmp_ok($t->sql("SELECT count(*) FROM payment.${table}_$month"), '>', 0, "$table: rows go to the current partition");
    foreach my $write ("DELETE FROM payment.${table}_$month", "TRUNCATE payment.${table}_$month",
        "INSERT INTO payment.${table}_$month SELECT * FROM payment.${table}_$month",
        "SET session_replication_role = replica; DELETE FROM payment.${table}_$month")
    {
        like($t->sqlstate($write), qr/^PY[23]0[13]$/, "S65 refused: $write");
    }
}
is($t->sqlstate("UPDATE payment.order_record_$month SET status = 'created'"), 'PY300', 'the state machine holds there');
is($t->sqlstate("UPDATE payment.order_record SET amount = 1"), 'PY302', 'so do guards of columns');
is($t->sql('SELECT count(DISTINCT object_id) FROM payment.status_history WHERE object = \'payment_order\''), '5',
    'histories are written there');
is($t->sql('SELECT * FROM payment.verify()'), '', 'the ledger is true');

# ---- making partitions beside others' work ----

# a transaction that has read the default partition, and others at work
my $reader = $t->start_sql(q{BEGIN; SELECT count(*) FROM payment.journal; SELECT pg_sleep(13); COMMIT});
$t->wait_for(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(13)%' AND wait_event = 'PgSleep'});
$t->sql(q{SELECT payment.open_account('beside_a', 'asset', 'USD'), payment.open_account('beside_b', 'asset', 'USD')});
my $script = "$dir/post.sql";
append_to_file($script, q{SELECT payment.post_journal('beside', ARRAY(SELECT id FROM payment.account WHERE code LIKE 'beside%'), '{1,-1}');
});
my $load = IPC::Run::start([ $t->node->installed_command('pgbench'), '-n', '-c', 4, '-T', 14, '-f', $script, '-l',
    "--log-prefix=$dir/latency", $t->node->connstr('shop') ], '>', \my $out, '2>', \my $err);
is($t->sqlstate(q{SELECT payment.create_partitions(now() + interval '1 year')}), '55P03',
    'partitions are not made while somebody uses the default partition');
$t->finish_sql($reader);
cmp_ok($t->sql(q{SELECT payment.create_partitions(now() + interval '1 year')}), '>=', 64, 'afterwards they are');
$load->finish;
like($out, qr/number of failed transactions: 0 /, 'nobody failed because of it');
my @latency = sort { $a <=> $b } map { (split ' ')[2] / 1000 } map { split /\n/, slurp_file($_) } glob "$dir/latency.*";
cmp_ok($latency[-1], '<', 6000, "nobody waited long (longest of " . @latency . ": $latency[-1] ms)");
is($t->sql('SELECT * FROM payment.verify()'), '', 'the ledger is true');

# the default partition has rows of a range: it stays without a partition
$t->create_database('late');
$t->sql(q{SELECT payment.open_account('a', 'asset', 'USD') AS a, payment.open_account('b', 'asset', 'USD') AS b \gset
    SELECT payment.post_journal('first', ARRAY[:'a', :'b']::uuid[], '{1,-1}')}, database => 'late');
is($t->sql('SELECT payment.create_partitions()', database => 'late'), $parents * 4 - 2,
    'a range of which the default partition has rows is left out');
is(partitions('journal', database => 'late'), 4, 'for journals and entries alike');
is(partitions('entry', database => 'late'), 4, 'for entries and journals alike');

# ---- dump and restore ----

my $contents = join ' UNION ALL ', map { "SELECT '$_', md5(string_agg(x::text, E'\\n' ORDER BY x::text)), count(*) FROM payment.$_ x" }
  @tables, qw(account idempotency task psp_reference settlement_file settlement_reference unsettled_order);
# the worker may have merged slots meanwhile
$contents .= q{ UNION ALL SELECT 'balance_slot', md5(string_agg(x::text, E'\n' ORDER BY x::text)), count(*)
    FROM (SELECT account_id, sum(balance) FROM payment.balance_slot GROUP BY account_id) AS x};
$contents .= ' ORDER BY 1';
my $layout = q{SELECT parent, partition, from_time, until_time FROM payment.time_partition ORDER BY parent::text, from_time};
my $triggers = q{SELECT tgrelid::regclass::text, tgname, tgenabled, pg_get_triggerdef(oid) FROM pg_trigger
    WHERE tgrelid IN (SELECT partition FROM payment.time_partition) ORDER BY 1, 2};
my $indexes = q{SELECT indrelid::regclass::text, pg_get_indexdef(indexrelid), indisprimary FROM pg_index
    WHERE indrelid IN (SELECT partition FROM payment.time_partition) ORDER BY 1, 2};
my $options = q{SELECT oid::regclass::text, reloptions, relacl FROM pg_class
    WHERE oid IN (SELECT partition FROM payment.time_partition) ORDER BY 1};
my @same = ($contents, $layout, $triggers, $indexes, $options);
$t->sql(q{SELECT payment.create_partitions()});
my @before = map { $t->sql($_) } @same;

$t->node->command_ok([ 'pg_dump', '-f', "$dir/plain", 'shop' ], 'pg_dump as SQL');
$t->node->command_ok([ 'pg_dump', '-Fd', '-j', 2, '-f', "$dir/directory", 'shop' ], 'pg_dump as directory');

# the worker of this server serves the new databases while they are restored
foreach my $how ([ 'by_psql', 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/plain", '-d' ],
    [ 'by_pg_restore', 'pg_restore', '-j', 2, '--exit-on-error', "$dir/directory", '-d' ])
{
    my ($database, @command) = @$how;
    $t->node->safe_psql('postgres', "CREATE DATABASE $database");
    $t->node->command_ok([ @command, $database ], "S71 $database: no error");
    for my $i (0 .. $#same)
    {
        is($t->sql($same[$i], database => $database), $before[$i], "S71 $database: equal: " . substr($same[$i], 0, 40));
    }
    is($t->sql('SELECT * FROM payment.verify()', database => $database), '', "S71 $database: the ledger is true");
    is($t->sqlstate("DELETE FROM payment.entry_$month", database => $database), 'PY203', "S71 $database: guarded");
    is($t->sql('SELECT payment.create_partitions()', database => $database), '0', "S71 $database: no partition is missing");
    $t->sql("SELECT payment.release(id) FROM payment.order_record LIMIT 1", database => $database);
    $t->sql("SET client_min_messages = warning; SELECT payment.adopt('test')", database => $database);
    order_flow("after $database", database => $database);
    is($t->sql('SELECT * FROM payment.verify()', database => $database), '', "S71 $database: payments go on");
}

# ---- dropping the extension ----

is($t->sqlstate('DROP EXTENSION payment CASCADE'), 'PY600', 'DROP EXTENSION does not take payments unasked');
is($t->sqlstate('SET payment.allow_drop = on; DROP EXTENSION payment'), '2BP01', 'nor, asked, the partitions');
is($t->sqlstate('SET client_min_messages = error; SET payment.allow_drop = on; DROP EXTENSION payment CASCADE'),
    '00000', 'with CASCADE it does');

$t->finish;
