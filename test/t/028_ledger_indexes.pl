# Postings enter their rows into indexes below the executor.  Every row is found
# through every index, after postings one by one and by the hundred, while
# partitions are made and detached and slots are merged.
use strict;
use warnings;

use PaymentTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $t = PaymentTest->new('indexes', settings => { 'payment.worker_enabled' => 'off' });
my $dir = PostgreSQL::Test::Utils::tempdir();

$t->sql(q{SELECT payment.open_account('index_' || n, 'asset', 'USD') FROM generate_series(1, 20) n});

# ---- tables: one of the next six seconds, a gap, one of the time after it ----

# Rows of the gap go to the default partitions.  Those of the time after it have
# indexes besides, which the ledger leaves to the executor.
$t->sql(q{
    DO $$
    DECLARE
        parent text;
        t0 timestamptz := clock_timestamp();
    BEGIN
        FOREACH parent IN ARRAY ARRAY['journal', 'entry']
        LOOP
            EXECUTE format('CREATE TABLE payment.%I (LIKE payment.%I INCLUDING ALL)', parent || '_early', parent || '_default');
            EXECUTE format('CREATE TABLE payment.%I (LIKE payment.%I INCLUDING ALL)', parent || '_later', parent || '_default');
            EXECUTE format('ALTER TABLE payment.%I ATTACH PARTITION payment.%I FOR VALUES FROM (%L) TO (%L)', parent,
                parent || '_early', payment.id_floor(t0 - interval '1 s'), payment.id_floor(t0 + interval '6 s'));
            EXECUTE format('ALTER TABLE payment.%I ATTACH PARTITION payment.%I FOR VALUES FROM (%L) TO (%L)', parent,
                parent || '_later', payment.id_floor(t0 + interval '8 s'),
                payment.id_floor(date_trunc('month', t0, 'UTC') + interval '2 months'));
        END LOOP;
        CREATE INDEX entry_debit_idx ON payment.entry_later (amount) WHERE amount > 0;
        CREATE INDEX entry_hash_idx ON payment.entry_later (hashint8(amount), leg);
    END $$});

# ---- load ----

append_to_file("$dir/one.sql", q{
    \set n random(1, 20)
    \set m random(1, 20)
    SELECT payment.post_journal('one', ARRAY[a.id, b.id], ARRAY[:n, -:n]) FROM payment.account a, payment.account b
    WHERE a.code = 'index_' || :n AND b.code = 'index_' || :m;
});
append_to_file("$dir/many.sql", q{
    SELECT payment.post_journals(array_agg('many'::text) FILTER (WHERE leg = 1), array_agg(n ORDER BY n, leg), array_agg(id ORDER BY n, leg),
        array_agg(CASE leg WHEN 1 THEN n ELSE -n END ORDER BY n, leg), return_balances => false)
    FROM generate_series(1, 100) n, generate_series(1, 2) leg, LATERAL (SELECT id FROM payment.account WHERE code = 'index_' || 1 + (n * 7 + leg) % 20) a;
});
append_to_file("$dir/merge.sql", "SELECT payment.merge_balance_slots(100);\n");
my $load = IPC::Run::start([ $t->node->installed_command('pgbench'), '-n', '-c', 6, '-T', 12, '-R', 400, '-f', "$dir/one.sql\@8", '-f', "$dir/many.sql\@1",
    '-f', "$dir/merge.sql\@1", $t->node->connstr('shop') ], '>', \my $out, '2>', \my $err);

my $made = 0;
foreach my $months (4 .. 7)
{
    $made += $t->sql("SELECT payment.create_partitions(now() + interval '$months months')");
}
cmp_ok($made, '>=', 8, 'partitions are made meanwhile');
$t->wait_for("SELECT count(*) > 200 FROM payment.entry_later", what => 'entries of after the gap');
is($t->sql('SELECT count(*) FROM payment.detach_partitions(clock_timestamp())'), '2', 'and detached');
$t->wait_for("SELECT count(*) > 1000 FROM payment.entry_later", what => 'entries of after detaching');
$load->finish;
like($out, qr/number of failed transactions: 0 /, 'no posting failed');

# ---- each index by itself, beside the table as it is ----

# Leaves the planner this one index, which it can only scan in full.
sub check_index
{
    my ($table, $index, $first, $where, $may_be_empty) = @_;
    my $compare = sub {
        return "SELECT count(*), coalesce(sum(hashtextextended(r::text, 0)::numeric), 0) AS sum FROM (SELECT r FROM $table r WHERE $where $_[0]) x";
    };
    my ($plan, $same, $count) = split /\n/, $t->sql(qq{
        SET max_parallel_workers_per_gather = 0;
        SET enable_bitmapscan = off;
        CREATE FUNCTION pg_temp.plan(query text) RETURNS text LANGUAGE plpgsql AS \$\$
        DECLARE line text; lines text := '';
        BEGIN
            FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP lines := lines || line || ';'; END LOOP;
            RETURN lines;
        END \$\$;
        BEGIN;
        UPDATE pg_index SET indisvalid = false WHERE indrelid = '$table'::regclass AND indexrelid <> '$index'::regclass;
        SET LOCAL enable_seqscan = off;
        SELECT pg_temp.plan(\$q\$@{[ $compare->("ORDER BY $first OFFSET 0") ]}\$q\$);
        @{[ $compare->("ORDER BY $first OFFSET 0") ]} \\gset by_index_
        SET LOCAL enable_seqscan = on;
        SET LOCAL enable_indexscan = off;
        SET LOCAL enable_indexonlyscan = off;
        @{[ $compare->('') ]} \\gset by_table_
        SELECT (:'by_index_count', :'by_index_sum') = (:'by_table_count', :'by_table_sum');
        SELECT :'by_table_count';
        ROLLBACK});
    my $name = $index =~ s/.*[.]//r;
    like($plan, qr/Index (?:Only )?Scan using \Q$name\E /, "$index is used");
    is($same, 't', "$table: each row is found by $index ($count rows)");
    cmp_ok($count, '>', 0, "of which there are some") if !$may_be_empty;
    return;
}

my @checked = split /\n/, $t->sql(q{
    SELECT i.indrelid::regclass, i.indexrelid::regclass, pg_get_indexdef(i.indexrelid, 1, true), coalesce(pg_get_expr(i.indpred, i.indrelid), 'true'),
        c.reltuples
    FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
    WHERE c.relnamespace = 'payment'::regnamespace AND c.relname ~ '^(journal|entry|balance_slot)' ORDER BY 1, 2});
my $full = qr/^payment[.](?:balance_slot|(?:journal|entry)_(?:early|default|later))$/;
foreach my $line (@checked)
{
    my ($table, $index, $first, $where) = split /[|]/, $line;
    # no journal here has a subject
    check_index($table, $index, $first, $where, $table !~ $full);
}
is(scalar(grep { (split /[|]/)[0] =~ $full } @checked), 15, 'these are all indexes of all tables with rows');
is($t->sql('SELECT * FROM payment.verify()'), '', 'the ledger is true');

SKIP:
{
    my $has_amcheck = $t->sql(q{SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'});
    skip('contrib has no amcheck', 1) if !$has_amcheck;
    $t->sql('CREATE EXTENSION amcheck');
    my (undef, undef, $amcheck_err) = $t->try_sql(join ';', map { "SELECT bt_index_check('" . (split /[|]/)[1] . q{', true)} } @checked);
    is($amcheck_err, '', 'amcheck finds each row in each of the ' . @checked . ' indexes');
}

$t->finish;
