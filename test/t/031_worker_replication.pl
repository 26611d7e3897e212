# The worker and its standbys: idle on one, at work after its promotion; what
# may not be on a synchronous standby yet is not sent.
use strict;
use warnings;

use PaymentTest;
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes ();

my $t = PaymentTest->new(
    'primary',
    init     => [ allows_streaming => 1 ],
    settings => { 'payment.poll_interval' => '200ms', 'payment.failover_standbys' => 'another, "standby"' });
my $primary = $t->node;
$t->start_sandbox;
$t->call(
    'register_psp',
    name        => 'sandbox',
    adapter     => 'stripe',
    base_url    => $t->sandbox_url,
    secret_name => 'sandbox',
    settings    => { lookup_delay_ms => 100, backoff_base_ms => 100, backoff_max_ms => 1000 });
$t->call('register_seller', reference => 'alice', name => 'Alice');

my $checkouts = 0;

sub checkout
{
    my ($node) = @_;
    $checkouts++;
    return $node->safe_psql(
        $t->database,
        'SET synchronous_commit = local; ' . $t->call_text(
            'checkout',
            idempotency_key => "key-$checkouts",
            payer           => 'payer',
            orders          => [ { seller => 'alice', amount => 1000, currency => 'USD' } ],
            psp             => 'sandbox',
            payment_method  => 'pm_card_visa'));
}

sub count_charges { return $t->book->{charges} }

my $dispatchers = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'payment dispatcher'};
my $waiting     = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'payment dispatcher' AND wait_event = 'SyncRep'};

checkout($primary);
$t->wait_for(q{SELECT bool_and(status = 'captured') FROM payment.payment_order});

# --- a claim that waits for a synchronous standby ---

sub wait_for_sync_wait
{
    my $pid = '';
    PaymentTest::wait_until(sub { ($pid = $primary->safe_psql('postgres', $waiting)) ne '' }, 30)
      or die "no claim waits for the standby\n" . $t->log_tail;
    return $pid;
}

$t->configure('synchronous_standby_names' => 'nobody');
checkout($primary);
my $pid = wait_for_sync_wait();
Time::HiRes::sleep(1);
is(count_charges(), 1, 'nothing is sent while its claim waits for the standby');
$primary->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
$t->wait_for(q{SELECT count(*) = 1 FROM payment.attempt WHERE finished_at IS NULL}, what => 'the claim', seconds => 20);
Time::HiRes::sleep(1);
is(count_charges(), 1, 'a wait that somebody cancelled does not count as waited');

checkout($primary);
wait_for_sync_wait();
my $started = Time::HiRes::time();
$primary->stop('fast');
my $seconds = Time::HiRes::time() - $started;
cmp_ok($seconds, '<', 10, "a fast shutdown does not hang there ($seconds s)");
is(count_charges(), 1, 'nor is anything sent on the way out');
$primary->start;
wait_for_sync_wait();
is(count_charges(), 1, 'nor at the start');
$t->configure('synchronous_standby_names' => '');
$t->wait_for(q{SELECT bool_and(status = 'captured') FROM payment.payment_order}, what => 'all captured', seconds => 90);
is(count_charges(), 3, 'each is sent once in the end');

# --- a standby ---

$primary->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'copy', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby);
Time::HiRes::sleep(2);
is($standby->safe_psql('postgres', $dispatchers), 0, 'a standby dispatches nothing');
is($standby->safe_psql($t->database, 'SELECT count(*) FROM payment.worker_status'), 0, 'and says so');

$t->faults(latency_ms => 1000);
checkout($primary) for 1 .. 3;
$t->wait_for(q{SELECT count(*) = 3 FROM payment.attempt WHERE finished_at IS NULL}, seconds => 20);
$primary->wait_for_catchup($standby);
$primary->stop('immediate');
$t->faults(latency_ms => 0);
$standby->promote;
ok($standby->poll_query_until($t->database, 'SELECT count(*) = 1 FROM payment.worker_status'),
    'S68 promoted, it dispatches');
ok($standby->poll_query_until($t->database,
        q{SELECT bool_and(status = 'captured') FROM payment.payment_order}),
    'S68 and finds out what became of what was under way');
is(count_charges(), $checkouts, 'S68 which is charged once');
is($standby->safe_psql($t->database, 'SELECT count(*) FROM payment.verify()'), 0, 'S68 and the ledger is right');
$standby->stop;

$t->finish;
