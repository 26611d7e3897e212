# A housekeeping duty that fails stops no other duty and no payment, is
# reported, and is done when what was in its way is gone.
use strict;
use warnings;

use PaymentTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $t = PaymentTest->new('housekeeping', settings => { 'payment.poll_interval' => '1s' });
$t->start_sandbox;
$t->wait_for_dispatcher;

# ---- in the way of making partitions, and of expiring holds ----

$t->sql(q{
    CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no hold changes today'; END $$;
    CREATE TRIGGER obstacle BEFORE UPDATE ON payment.hold FOR EACH ROW EXECUTE FUNCTION public.fail();
    DO $$ BEGIN EXECUTE format('CREATE TABLE payment.%I ()', to_char((now() AT TIME ZONE 'UTC') + interval '1 month', '"attempt_p"YYYYMM')); END $$;
    SELECT payment.open_account('a', 'asset', 'USD'), payment.open_account('b', 'liability', 'USD', NULL, NULL, 0);
    SELECT payment.post_journal('seed', ARRAY(SELECT id FROM payment.account ORDER BY code), '{100,-100}');
    SELECT payment.create_hold(id, 10, 'hold', expires_at => now() + interval '2 s') FROM payment.account WHERE code = 'b'});

# ---- work for the other duty ----

my @sessions = map { $t->node->background_psql('shop') } 1 .. 3;
$_->query_safe(q{BEGIN; SELECT payment.post_journal('slots', ARRAY(SELECT id FROM payment.account ORDER BY code), '{1,-1}')}) foreach @sessions;
$_->query_safe('COMMIT') foreach @sessions;
$_->quit foreach @sessions;
my $slots = 'SELECT max(n) FROM (SELECT count(*) n FROM payment.balance_slot GROUP BY account_id) s';
cmp_ok($t->sql($slots), '>=', 3, 'there are slots to merge');

$t->register_psp;
$t->register_seller('alice');
my $offset = $t->log_offset;
my $old = $t->kill_dispatcher('TERM');
$t->wait_for("SELECT count(*) = 1 FROM payment.worker_status WHERE pid <> $old", what => 'another dispatcher');
my $pid = $t->dispatcher_pid;

sub pay
{
    my ($key) = @_;
    my (undef, $order) = $t->checkout($key, ['alice 1000 USD']);
    $t->wait_for("SELECT status = 'captured' FROM payment.payment_order WHERE id = '$order'", what => $key);
    return pass($key);
}

# ---- everything else goes on ----

sub failures
{
    my ($pattern) = @_;
    my @lines = grep { /ERROR:.*$pattern/ } split /\n/, $t->log_since($offset);
    return scalar @lines;
}

ok(PaymentTest::wait_until(sub { failures('the partition of "attempt" for') > 0 }, 60), 'partitions that cannot be made are reported');
ok(PaymentTest::wait_until(sub { failures('no hold changes today') > 1 }, 60), 'so is a hold that cannot be expired, each time');
$t->wait_for("SELECT ($slots) = 1", what => 'the other duty');
pass('slots are merged all the same');
$t->wait_for(q{SELECT last_error = 'no hold changes today' FROM payment.worker_status WHERE database = 'shop'},
    what => 'worker_status to tell the last error');
pay('payments are made all the same');
is($t->dispatcher_pid, $pid, 'by the same process');
is($t->sql("SELECT state FROM payment.hold"), 'open', 'nothing is half done: the hold is open');
is($t->sql('SELECT count(*) FROM pg_class WHERE relnamespace = \'payment\'::regnamespace AND relname ~ \'^attempt_p\d+$\''), '1',
    'nor are partitions that were made before the failing one left over');
is($t->sql('SELECT * FROM payment.verify()'), '', 'the ledger is true');

# ---- out of the way ----

$t->sql('DROP TRIGGER obstacle ON payment.hold');
$t->wait_for("SELECT state = 'expired' FROM payment.hold", what => 'the hold to expire');
is($t->dispatcher_pid, $pid, 'holds expire again, without a restart');

$t->sql(q{SELECT format('DROP TABLE payment.%I', relname) FROM pg_class WHERE relnamespace = 'payment'::regnamespace
    AND relname ~ '^attempt_p\d+$' \gexec});
# which saves ten minutes of waiting
$t->kill_dispatcher('TERM');
$t->wait_for(q{SELECT count(*) = 3 * (SELECT count(*) FROM pg_partitioned_table AS p JOIN pg_class AS c ON c.oid = p.partrelid
    WHERE c.relnamespace = 'payment'::regnamespace) FROM payment.time_partition WHERE from_time IS NOT NULL}, what => 'the partitions to be made');
pass('partitions are made again');
pay('payments go on');
is($t->sql('SELECT * FROM payment.verify()'), '', 'the ledger is true');

$t->finish;
