# What may happen to a server while payments are under way: every way to stop,
# crash and starve it, and to take the extension away or replace it (S69, S70).
# Whatever it was, every order ends exactly once.
use strict;
use warnings;

use File::Basename ();
use PaymentTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

use constant STOP_SECONDS => 15;

# small segments of the WAL, so that a limit on files can be small
my $t = PaymentTest->new(
    'busy',
    init     => [ extra => ['--wal-segsize=1'] ],
    settings => { 'payment.poll_interval' => '200ms', 'payment.lease' => '5s', max_connections => 40 });
my $node = $t->node;
$t->start_sandbox;
$t->register_psp;
$t->register_seller('alice');

my $keys = 0;
my @elsewhere; # orders of other databases
my $all_captured = q{SELECT bool_and(status = 'captured') FROM payment.payment_order};

sub checkout_text { $keys++; return $t->checkout_text("key $keys", ['alice 1000 EUR']) }
sub checkout { my (%option) = @_; return $t->sql(checkout_text(), %option) }

# Some under way, which the PSP takes its time for, and some that come later.
sub get_busy
{
    $t->faults(latency_ms => 1500);
    checkout() for 1 .. 4;
    $t->wait_for(q{SELECT count(*) = 4 FROM payment.attempt WHERE finished_at IS NULL}, what => 'four requests under way',
        seconds => 30);
    return;
}

sub ends_well
{
    my ($how) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $t->faults(latency_ms => 0);
    $t->wait_for_server;
    checkout();
    $t->wait_for($all_captured, what => "all captured after: $how", seconds => 90);
    return $t->books_agree("$how: every order ended exactly once", except => \@elsewhere);
}

# --- every way to stop ---

foreach my $mode (qw(smart fast immediate))
{
    get_busy();
    my $started = time();
    $node->stop($mode);
    cmp_ok(time() - $started, '<', STOP_SECONDS, "a shutdown ($mode) does not wait for the PSP");
    $node->start;
    ends_well("shutdown ($mode)");
}

# --- every way to crash: it comes back, once, and goes on ---

foreach my $signal (qw(KILL ABRT SEGV))
{
    get_busy();
    my $offset = $t->log_offset;
    ok($t->kill_dispatcher($signal), "the worker gets a SIG$signal");
    ends_well("worker crashed by SIG$signal");
    my $crashes = () = $t->log_since($offset) =~ /"payment dispatcher" \(PID \d+\) was terminated by signal/g;
    is($crashes, 1, "SIG$signal: it crashed once, not in a loop");
    ok($t->log_since($offset) =~ /found \d+ attempts of an earlier one without an outcome/, "SIG$signal: leases are looked up");
}
get_busy();
my $launcher = $t->launcher_pid;
kill 'KILL', $launcher;
ends_well('launcher killed');

# --- SIGHUP, whatever is changed ---

get_busy();
my $pid = $t->dispatcher_pid;
my %value = (bool => 'on', integer => 300, enum => 'day', string => 'x');
foreach my $setting (split /\n/, $t->sql(q{SELECT name || ' ' || vartype FROM pg_settings WHERE name LIKE 'payment.%'
        AND context IN ('sighup', 'superuser') AND name NOT IN ('payment.secrets_dir', 'payment.ca_file', 'payment.machine_id',
        'payment.require_sync_standby', 'payment.max_body_bytes', 'payment.max_settlement_bytes', 'payment.lease')}))
{
    my ($name, $type) = split / /, $setting;
    $t->sql("ALTER SYSTEM SET $name = '" . ($type eq 'integer' ? $t->sql("SELECT least(setting::bigint + 1, max_val::bigint) FROM pg_settings WHERE name = '$name'") : $value{$type}) . "'");
    $node->reload;
}
$t->sql("ALTER SYSTEM RESET ALL");
$node->reload;
ends_well('reload of each setting');
is($t->dispatcher_pid, $pid, 'by the same worker');

# --- several databases at once, one of which goes ---

$t->create_database($_) foreach qw(second third);
foreach my $database (qw(second third))
{
    $t->sql($t->call_text('register_psp', name => 'sandbox', adapter => 'stripe', base_url => $t->sandbox_url, secret_name => 'sandbox',
        settings => { lookup_delay_ms => 50, backoff_base_ms => 50 }), database => $database);
    $t->sql($t->call_text('register_seller', reference => 'alice', name => 'Alice'), database => $database);
}
get_busy();
foreach my $database (qw(second third))
{
    $t->wait_for_dispatcher(database => $database);
    push @elsewhere, map { (split / /, checkout(database => $database))[1] } 1 .. 3;
    $t->wait_for(q{SELECT count(*) = 3 FROM payment.attempt}, database => $database);
}
is($t->sqlstate('DROP DATABASE third', database => 'postgres'), '00000', 'S69 one of three busy databases is dropped');
$t->faults(latency_ms => 0);
$t->wait_for($all_captured, database => 'second', what => 'the second database');
$t->wait_for($all_captured, what => 'the first database');
pass('S69 the others go on');
$t->sql('DROP DATABASE second', database => 'postgres');

# --- the extension is replaced, and taken away ---

my $script = do
{
    my $pg_config = $ENV{PG_CONFIG} // 'pg_config';
    chomp(my $share = qx("$pg_config" --sharedir));
    ($ENV{PAYMENT_DESTDIR} // '') . "$share/extension/payment--1.0--1.1test.sql";
};

SKIP:
{
    skip 'only where the extension is installed for these tests', 4 if !$ENV{PAYMENT_DESTDIR};
    if (!-w File::Basename::dirname($script)) { skip "$script cannot be written", 4 }
    append_to_file($script, "CREATE FUNCTION payment.is_new() RETURNS boolean LANGUAGE sql RETURN true;\n"
          . "COMMENT ON VIEW payment.stuck IS 'changed';\n");
    get_busy();
    my $busy_pid = $t->dispatcher_pid;
    my $update = $t->start_sql(q{ALTER EXTENSION payment UPDATE TO '1.1test'});
    my ($status, undef, $error) = $t->finish_sql($update);
    is("$status $error", '0 ', 'S69 ALTER EXTENSION UPDATE does not hang while requests are under way');
    is($t->sql(q{SELECT payment.is_new()}), 't', 'S69 and updates');
    ends_well('extension updated');
    is($t->dispatcher_pid, $busy_pid, 'S69 by the same worker');
    unlink $script or die "$script: $!";
}

get_busy();
is($t->sqlstate('DROP EXTENSION payment CASCADE'), 'PY600', 'S69 DROP EXTENSION does not delete payments unasked');
is($t->sqlstate('DROP SCHEMA payment CASCADE'), 'PY600', 'S69 nor does DROP SCHEMA');
my $transaction = $t->start_sql(q{BEGIN; SET LOCAL payment.allow_drop = on; SET LOCAL client_min_messages = error;
    DROP EXTENSION payment CASCADE; SELECT pg_sleep(3); ROLLBACK});
$t->finish_sql($transaction);
ends_well('extension dropped, and the drop rolled back');

# --- S70: the server starves ---

my @sleepers = map { $t->start_sql('SELECT pg_sleep(6)') } 1 .. 30;
sleep 1;
my $refused = 0;
my @extra = map { $t->start_sql('SELECT pg_sleep(4)') } 1 .. 12;
foreach my $run (@extra) { my (undef, undef, $error) = $t->finish_sql($run); $refused++ if $error =~ /too many clients|reserved/ }
cmp_ok($refused, '>', 0, "S70 out of connections: $refused were refused");
$t->finish_sql($_) foreach @sleepers;
ends_well('S70 out of connections');

# No file grows beyond a limit: to the process it is what a full disk is.
sub limit_files
{
    my ($process, $limit) = @_;
    return system("prlimit --pid $process --fsize=$limit: 2>/dev/null") == 0;
}

SKIP:
{
    my $dispatcher = $t->wait_for_dispatcher;
    skip 'prlimit is missing', 5 if !limit_files($dispatcher, 1024 * 1024);
    my $offset = $t->log_offset;
    $t->sql(q{SELECT count(*) FROM payment.submit((SELECT jsonb_agg(jsonb_build_object('idempotency_key', 'full ' || n,
        'payment_type', 'pay_in', 'payer', 'payer', 'payment_method', 'pm_card_visa', 'orders', jsonb_build_array(
            jsonb_build_object('seller', 'alice', 'amount', 1000, 'currency', 'EUR')))) FROM generate_series(1, 2500) AS n))});
    ok(PaymentTest::wait_until(sub { $t->log_since($offset) =~ /could not (extend|write)[^\n]*: File too large/ }, 90),
        'S70 disk full for the worker: it says so');
    is($t->dispatcher_pid, $dispatcher, 'S70 it does not crash');
    ok($t->sql(q{SELECT last_error ~ 'File too large' FROM payment.worker_status WHERE database = 'shop'}), 'S70 worker_status says so');
    limit_files($dispatcher, 'unlimited');
    ends_well('S70 disk full for the worker');

    # an application that meets it
    my $text = checkout_text();
    my $before = $t->sql('SELECT count(*) FROM payment.payment');
    limit_files($node->{_pid}, 1024 * 1024);
    isnt($t->sqlstate("BEGIN; $text; CREATE TABLE ballast AS SELECT repeat('x', 1000) AS x FROM generate_series(1, 3000); COMMIT"),
        '00000', 'S70 disk full for the application: an error');
    is($t->sql('SELECT count(*) FROM payment.payment'), $before, 'S70 nothing of its transaction is there');
    limit_files($node->{_pid}, 'unlimited');
    ends_well('S70 disk full for the application');
}

# Timeouts and conflicts at any point: an error, and nothing half done.
foreach my $setting ('statement_timeout = 1', 'statement_timeout = 3', 'lock_timeout = 1')
{
    my %states;
    foreach (1 .. 25)
    {
        my $text = checkout_text();
        $states{ $t->sqlstate("SET $setting; $text") }++;
    }
    my @odd = grep { !/^(00000|57014|55P03)$/ } sort keys %states;
    is("@odd", '', "S70 $setting: " . join(' ', map { "$_ $states{$_} times" } sort keys %states));
}
is($t->sql(q{SELECT count(*) FROM payment.payment_record p WHERE order_count <>
    (SELECT count(*) FROM payment.order_record o WHERE o.payment_id = p.id)}), 0, 'S70 no payment is without its orders');
ends_well('S70 timeouts in the API');

my $blocker = $t->start_sql(q{BEGIN; LOCK TABLE payment.attempt IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(4); COMMIT});
sleep 0.5;
checkout();
$t->finish_sql($blocker);
like(slurp_file($t->log_file), qr/canceling statement due to lock timeout/, 'S70 lock_timeout in the worker');
ends_well('S70 lock_timeout in the worker');

# two serializable callers under one key: one result
my @racers = map {
    $t->start_sql("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM payment.payment; SELECT pg_sleep(0.5); "
          . $t->checkout_text('raced', ['alice 1000 EUR']) . '; COMMIT')
} 1 .. 3;
my @states;
foreach my $run (@racers) { my ($status, undef, $error) = $t->finish_sql($run); push @states, $status == 0 ? 'done' : $error =~ /could not serialize|could not obtain/ ? 'again' : $error }
like("@states", qr/^(done|again)( (done|again))*$/, "S70 serialization failures: @states");
is($t->sql(q{SELECT count(*) FROM payment.idempotency WHERE key = 'raced'}), 1, 'S70 one of them is taken');
ends_well('S70 serialization failures');

$t->finish;
