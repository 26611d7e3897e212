# S71: a filled database dumped and restored, by psql and by pg_restore -j, on
# the same server and on a young one; S65: the guards are there again.
use strict;
use warnings;

use PaymentTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $t = PaymentTest->new('dump');
my $dir = PostgreSQL::Test::Utils::tempdir();

# Slots get the numbers of transactions: have more of those than a server that
# was made just now.
$t->sql(q{DO $$ BEGIN FOR i IN 1..3000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$});

$t->sql(q{
    SELECT payment.open_account('dump_' || i, 'asset', c), payment.open_account('owed_' || i, 'liability', c, NULL, NULL, 0)
    FROM generate_series(1, 10) i, unnest(ARRAY['USD', 'JPY', 'KWD']) c;
    SELECT count(payment.post_journal('fill', ARRAY[a.id, b.id], ARRAY[n, -n], NULL, NULL, 'text ' || n || E' \\ "''\n'))
    FROM generate_series(1, 20) n, payment.account a JOIN payment.account b USING (currency)
    WHERE a.kind = 'asset' AND b.kind = 'liability'});

# Holds, open and not
$t->sql(q{
    SELECT count(payment.post_journal('fill', ARRAY[a.id, b.id], '{100,-100}'))
    FROM payment.account a JOIN payment.account b USING (currency) WHERE a.code = 'dump_1' AND b.code = 'owed_1';
    SELECT count(payment.create_hold(id, 60, 'dump ' || id)) FROM payment.account WHERE code = 'owed_1';
    SELECT count(payment.post_hold(h.id, ARRAY[o.id], NULL)) FROM payment.hold h JOIN payment.account a ON a.id = h.account_id
    JOIN payment.account o ON o.code = 'owed_2' AND o.currency = a.currency WHERE a.currency = 'JPY';
    SELECT count(payment.void_hold(h.id)) FROM payment.hold h JOIN payment.account a ON a.id = h.account_id
    WHERE a.currency = 'KWD'});

# Reversals, of the whole and of a part
$t->sql(q{
    SELECT count(payment.reverse_journal(id)) FROM (SELECT id FROM payment.journal WHERE kind = 'fill' ORDER BY id LIMIT 5) j;
    SELECT payment.reverse_journal(id, 1) FROM payment.journal WHERE kind = 'fill' ORDER BY id DESC LIMIT 1});

# Partitions made at run time, as by the worker, are no members of the extension.
$t->sql(q{
    SELECT payment.new_id() AS from_id \gset
    CREATE TABLE payment.journal_later PARTITION OF payment.journal (PRIMARY KEY (id))
        FOR VALUES FROM (:'from_id') TO ('ffffffff-ffff-7000-8000-000000000000');
    CREATE TABLE payment.entry_later PARTITION OF payment.entry (PRIMARY KEY (journal_id, leg))
        FOR VALUES FROM (:'from_id') TO ('ffffffff-ffff-7000-8000-000000000000');
    CREATE INDEX ON payment.entry_later (account_id, journal_id);
    CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON payment.journal_later
        FOR EACH STATEMENT EXECUTE FUNCTION payment.guard_ledger();
    ALTER TABLE payment.journal_later ENABLE ALWAYS TRIGGER guard;
    CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON payment.entry_later
        FOR EACH STATEMENT EXECUTE FUNCTION payment.guard_ledger();
    ALTER TABLE payment.entry_later ENABLE ALWAYS TRIGGER guard;
    SELECT count(payment.post_journal('later', ARRAY[a.id, b.id], '{1000,-1000}'))
    FROM payment.account a JOIN payment.account b USING (currency)
    WHERE a.kind = 'asset' AND b.kind = 'liability'});

my $contents = q{
    SELECT 'account', md5(string_agg(a::text, E'\n' ORDER BY id)), count(*) FROM payment.account a
    UNION ALL SELECT 'journal', md5(string_agg(j::text, E'\n' ORDER BY id)), count(*) FROM payment.journal j
    UNION ALL SELECT 'entry', md5(string_agg(e::text, E'\n' ORDER BY journal_id, leg)), count(*) FROM payment.entry e
    UNION ALL SELECT 'slot', md5(string_agg(s::text, E'\n' ORDER BY account_id, slot)), count(*) FROM payment.balance_slot s
    UNION ALL SELECT 'hold', md5(string_agg(h::text, E'\n' ORDER BY id)), count(*) FROM payment.hold h
    UNION ALL SELECT 'reversal', md5(string_agg(r::text, E'\n' ORDER BY journal_id)), count(*) FROM payment.reversal r
    UNION ALL SELECT 'available', md5(string_agg(payment.balance(id)::text, E'\n' ORDER BY id)), count(*) FROM payment.account
    UNION ALL SELECT 'balance', md5(string_agg(t::text, E'\n' ORDER BY t)), count(*) FROM payment.trial_balance() t};
my $before = $t->sql($contents);
is($t->sql('SELECT count(*) > 0 FROM payment.journal_later'), 't', 'there are rows in a run-time partition');
is($t->sql('SELECT * FROM payment.verify()'), '', 'the ledger is true before');

$t->node->command_ok([ 'pg_dump', '-f', "$dir/plain", $t->database ], 'pg_dump as SQL');
$t->node->command_ok([ 'pg_dump', '-Fd', '-j', 2, '-f', "$dir/directory", $t->database ], 'pg_dump as directory');

# a server that has made few transactions yet
my $young = PaymentTest->new('young', extension => 0);

sub restored_ok
{
    my ($node, $database, $how) = @_;
    my $sql = sub { return $node->safe_psql($database, $_[0]) };
    my $refused = sub {
        my ($command) = @_;
        my $err = '';
        $node->psql($database, "\\set VERBOSITY sqlstate\n$command", stderr => \$err);
        return $err;
    };

    is($sql->($contents), $before, "S71 $how: the contents are equal");
    is($sql->('SELECT * FROM payment.verify()'), '', "S71 $how: the ledger is true");
    foreach my $table (qw(journal journal_default journal_later entry entry_default entry_later balance_slot account))
    {
        like($refused->("DELETE FROM payment.$table"), qr/PY203/, "S65 $how: $table refuses DELETE");
        like($refused->("SET session_replication_role = replica; TRUNCATE payment.$table"), qr/PY203/,
            "S65 $how: $table refuses TRUNCATE of a replica");
        like($refused->("INSERT INTO payment.$table SELECT * FROM payment.$table"), qr/PY203/,
            "S65 $how: $table refuses INSERT");
    }
    return;
}

foreach my $server ([ $t->node, 'same server' ], [ $young->node, 'young server' ])
{
    my ($node, $which) = @$server;

    $node->safe_psql('postgres', 'CREATE DATABASE by_psql');
    $node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'by_psql', '-f', "$dir/plain" ],
        "S71 psql, $which: no error");
    restored_ok($node, 'by_psql', "psql, $which");

    $node->safe_psql('postgres', 'CREATE DATABASE by_pg_restore');
    $node->command_ok([ 'pg_restore', '-j', 2, '--exit-on-error', '-d', 'by_pg_restore', "$dir/directory" ],
        "S71 pg_restore -j 2, $which: no error");
    restored_ok($node, 'by_pg_restore', "pg_restore, $which");
}

# A restored slot may have the number of a transaction that the young server
# has yet to make.  When it does, and that one needs a new slot, both fit in.
my $sql = sub { return $young->node->safe_psql('by_psql', "SET lock_timeout = '10s';\n$_[0]") };
my ($account, $slot, $other) = split /\|/, $sql->(q{
    SELECT s.account_id, s.slot, b.id FROM payment.balance_slot s
    JOIN payment.account a ON a.id = s.account_id JOIN payment.account b ON b.currency = a.currency AND b.id <> a.id
    WHERE a.kind = 'asset' AND b.kind = 'asset' LIMIT 1});
my $xid = $sql->('SELECT pg_current_xact_id()');
cmp_ok($xid, '<', $slot - 100, 'the young server is younger than the slots');
$sql->(qq{DO \$\$ BEGIN WHILE pg_current_xact_id()::text::bigint < $slot - 2 LOOP COMMIT; END LOOP; END \$\$});
my $post = "SELECT payment.post_journal('after', ARRAY['$account', '$other']::uuid[], '{5,-5}')";
$sql->("BEGIN; $post; PREPARE TRANSACTION 'holds the slot'");
is($sql->("BEGIN; SELECT pg_current_xact_id(); $post \\g /dev/null\nCOMMIT"), $slot, 'the transaction has the number of a slot');
$sql->("COMMIT PREPARED 'holds the slot'");
is($sql->("SELECT count(*), min(slot) = $slot FROM payment.balance_slot WHERE account_id = '$account'"), '2|t',
    'and its new slot another');
is($sql->('SELECT * FROM payment.verify()'), '', 'postings go on after a restore');

$young->node->stop('fast');
$t->finish;
