# Making and detaching partitions beside each other, beside postings that come
# late, and beside verify().
use strict;
use warnings;

use PaymentTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $t = PaymentTest->new('partition_races', settings => { 'payment.worker_enabled' => 'off' });

# Partitions of the next six seconds; returns when they end.
sub make_partitions
{
    my ($from, $until) = split /[|]/, $t->sql(q{SELECT t, t + interval '6 s' FROM clock_timestamp() t});
    foreach my $parent (@_)
    {
        $t->sql(qq{
            CREATE TABLE payment.${parent}_early (LIKE payment.${parent}_default INCLUDING ALL);
            SELECT format('ALTER TABLE payment.$parent ATTACH PARTITION payment.${parent}_early FOR VALUES FROM (%L) TO (%L)',
                payment.id_floor('$from'), payment.id_floor('$until')) \\gexec});
    }
    return $until;
}

sub post_text
{
    my ($kind) = @_;
    return "SELECT payment.post_journal('$kind', ARRAY(SELECT id FROM payment.account WHERE code IN ('one', 'two')), '{1,-1}')";
}

my $holds_early = q{SELECT count(*) > 0 FROM pg_locks WHERE granted AND mode = 'ShareLock' AND relation = to_regclass('payment.%s_early')};

$t->sql(q{SELECT payment.open_account('one', 'asset', 'USD'), payment.open_account('two', 'asset', 'USD');
    SELECT payment.register_psp('psp', 'none', 'http://127.0.0.1:1', 'none'), payment.register_seller('alice', 'Alice')});

# ---- one at a time ----

my $other = $t->node->background_psql('shop');
$other->query_safe(q{BEGIN; SELECT payment.detach_partitions('2000-01-01')});
my @waiting = map { $t->start_sql("\\set VERBOSITY verbose\nSELECT payment.$_") } 'create_partitions()', "detach_partitions('2000-01-01')";
my $offset = $t->log_offset;
is($t->sql('SET ROLE payment_worker; SELECT payment.keep_partitions_ahead(1)'), '0', 'the worker leaves it to whoever is at it');
like($t->log_since($offset), qr/LOG:  another session makes or detaches partitions/, 'and says so');
foreach my $run (@waiting)
{
    my ($status, $out, $err) = $t->finish_sql($run);
    isnt($status, 0, 'others wait, but not for ever');
    like($err, qr/PY222: another session makes or detaches partitions.*HINT:  Try again/s, 'and get an error of their own');
}
$other->query_safe('ROLLBACK');
cmp_ok($t->sql('SET ROLE payment_worker; SELECT payment.keep_partitions_ahead(1)'), '>', 0, 'afterwards the worker goes on');

# ---- a posting that comes late ----

# It has its id, and waits for the table; then time passes, and its partition
# is detached.
my $until = make_partitions('journal', 'entry');
$t->sql(post_text('early'));
$other->query_safe('BEGIN; LOCK TABLE payment.journal IN SHARE MODE');
my $late = $t->start_sql(post_text('late'));
my $late_waits = q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%''late''%' AND wait_event_type = 'Lock'};
$t->wait_for($late_waits);
$t->wait_for(qq{SELECT clock_timestamp() > '$until'});
my $detach = $t->start_sql(q{SELECT parent, row_count FROM payment.detach_partitions(clock_timestamp())});
$t->wait_for(sprintf $holds_early, 'entry');
$other->query_safe('COMMIT');
my ($status, undef, $err) = $t->finish_sql($late);
is("$status $err", '0 ', 'a late posting is let through while its partition is being detached');
($status, my $out, $err) = $t->finish_sql($detach);
is("$status $out $err", "0 journal|2\nentry|4 ", 'and is detached with it');
is($t->sql('SELECT * FROM payment.verify()'), '', 'and summed up with it');

# ---- verify() reads orders while theirs are detached ----

$until = make_partitions('order_record');
$t->sql(q{
    SELECT payment.checkout('key', 'payer', '[{"seller": "alice", "amount": 1000, "currency": "USD"}]', payment_method => 'pm');
    SELECT payment.record_outcomes(array_agg(ROW(c.attempt_id, 'succeeded', 200, 25, 'ref', c.amount, c.currency, NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome)) FROM payment.claim_tasks((SELECT id FROM payment.psp), 100, 60000) c;
    SELECT payment.release(id) FROM payment.order_record;
    -- as if it was settled
    ALTER TABLE payment.unsettled_order DISABLE TRIGGER ALL;
    DELETE FROM payment.unsettled_order});
is($t->sql('SELECT count(*) FROM payment.order_record_early'), '1', 'a captured order is in a partition');
$t->wait_for(qq{SELECT clock_timestamp() > '$until'});
$other->query_safe('BEGIN; LOCK TABLE payment.reversal IN ACCESS EXCLUSIVE MODE');
my $verify = $t->start_sql('SELECT * FROM payment.verify()');
$t->wait_for(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'payment.verify()%' AND wait_event_type = 'Lock'});
$detach = $t->start_sql(q{SELECT parent, row_count FROM payment.detach_partitions(clock_timestamp(), true)});
$t->wait_for("SELECT to_regclass('payment.order_record_early') NOT IN (SELECT partition FROM payment.time_partition) OR ("
    . sprintf($holds_early, 'order_record') . ')');
$other->query_safe('COMMIT');
($status, $out, $err) = $t->finish_sql($verify);
is("$status $out$err", '0 ', 'verify() finds nothing missing that is being detached');
($status, $out, $err) = $t->finish_sql($detach);
is("$status $out$err", '0 order_record|1', 'which is detached when it is through');
is($t->sql('SELECT * FROM payment.verify()'), '', 'the ledger is true');

$other->quit;
$t->finish;
