# S69 and what surrounds it: the worker comes, goes and comes back as databases,
# extension and server do, is never in anybody's way, and loses nothing.
use strict;
use warnings;

use PaymentTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

use constant LEAVE_SECONDS => 15;

my $t = PaymentTest->new('lifecycle', settings => { 'payment.poll_interval' => '60s' });
my $node = $t->node;

sub set_up_shop
{
    my (%option) = @_;
    $t->sql(
        $t->call_text(
            'register_psp',
            name        => 'sandbox',
            adapter     => 'stripe',
            base_url    => $t->sandbox_url,
            secret_name => 'sandbox',
            settings    => { requests_per_second => 1000, lookup_delay_ms => 100, backoff_base_ms => 100,
                backoff_max_ms => 1000 }),
        %option);
    $t->sql($t->call_text('register_seller', reference => 'alice', name => 'Alice'), %option);
    return;
}

my $checkouts = 0;

sub checkout_text
{
    $checkouts++;
    return $t->call_text(
        'checkout',
        idempotency_key => "key-$checkouts",
        payer           => 'payer',
        orders          => [ { seller => 'alice', amount => 1000 + $checkouts, currency => 'USD' } ],
        psp             => 'sandbox',
        payment_method  => 'pm_card_visa');
}

sub checkout
{
    my (%option) = @_;
    return $t->sql(checkout_text(), %option);
}

sub all_captured
{
    my ($name, %option) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok(
        $t->wait_for(q{SELECT bool_and(status = 'captured') FROM payment.payment_order}, what => $name, %option),
        $name);
}

sub gone
{
    my (%option) = @_;
    return PaymentTest::wait_until(sub { !defined $t->dispatcher_pid(%option) }, LEAVE_SECONDS);
}

sub timed
{
    my ($code) = @_;
    my $started = Time::HiRes::time();
    $code->();
    return Time::HiRes::time() - $started;
}

sub log_has { my ($offset, $pattern) = @_; return $t->log_since($offset) =~ $pattern }

# --- the extension appears, a task is queued: nobody waits for a poll ---

ok(defined $t->launcher_pid, 'there is a launcher');
ok($t->wait_for_dispatcher(seconds => 5), 'CREATE EXTENSION is noticed at once');
is($t->sql(q{SELECT count(*) FROM pg_locks WHERE locktype = 'relation' AND pid = } . $t->dispatcher_pid),
    0, 'an idle dispatcher has nothing locked');

$t->start_sandbox;
set_up_shop();
checkout();
all_captured('the first payment is made');

my @latencies;
foreach (1 .. 15)
{
    my $from = $t->sql('SELECT id FROM payment.attempt ORDER BY id DESC LIMIT 1');
    my ($at) = split /\n/, $t->sql('SELECT clock_timestamp(); ' . checkout_text());
    $t->wait_for("SELECT EXISTS (SELECT FROM payment.attempt WHERE id > '$from')", seconds => 20);
    push @latencies,
      $t->sql("SELECT extract(epoch FROM min(claimed_at) - '$at') * 1000 FROM payment.attempt WHERE id > '$from'");
}
my $median = (sort { $a <=> $b } @latencies)[7];
cmp_ok($median, '<', 500,
    "a commit wakes the dispatcher: $median ms from call to claim, with a minute between polls");
all_captured('those payments are made');

$t->configure('payment.poll_interval' => '200ms');
$t->sql('BEGIN;' . checkout_text() . q{; PREPARE TRANSACTION 'later'});
is($t->sql('SELECT count(*) FROM payment.task'), 0, 'a prepared transaction queues nothing');
$t->sql(q{COMMIT PREPARED 'later'});
all_captured('what a prepared transaction queued is found by the poll');

$t->sql('BEGIN;' . checkout_text() . '; ROLLBACK');
is($t->book->{charges}, $checkouts - 1, 'S17 what was rolled back is not sent');
$checkouts--;

# --- settings and secrets ---

my $offset = $t->log_offset;
$t->configure('payment.worker_enabled' => 'off');
ok(gone(), 'payment.worker_enabled = off sends the dispatcher away');
checkout();
Time::HiRes::sleep(1);
is($t->sql(q{SELECT count(*) FROM payment.payment_order WHERE status = 'created'}), 1, 'nothing is sent then');
$t->configure('payment.worker_enabled' => 'on');
all_captured('on again, it is');

my $secret_file = $t->secrets_dir . '/sandbox';
my $secret = slurp_file($secret_file);
unlink $secret_file or die "$secret_file: $!";
checkout();
$t->wait_for(q{SELECT EXISTS (SELECT FROM payment.attempt WHERE error_code = 'secret_unavailable')});
ok(log_has($offset, qr/nothing can be sent to PSP "sandbox"/), 'a missing secret is reported');
$t->write_secret('sandbox', 'sk_test_wrong');
$t->wait_for(q{SELECT EXISTS (SELECT FROM payment.attempt WHERE http_status = 401)});
pass('a new secret is used, and refused');
$t->write_secret('sandbox', $secret);

# a refused key is tried again after a minute: do not wait for it
$t->sql(q{UPDATE payment.task SET run_at = now() WHERE attempt_id IS NULL});
all_captured('the right one works without a restart');
unlike(slurp_file($t->log_file), qr/sk_test_/, 'no secret is in the log');

# --- the process ends ---

my $pid = $t->dispatcher_pid;
$t->sql("SELECT pg_cancel_backend($pid)");
checkout();
all_captured('a dispatcher that was cancelled goes on');
is($t->dispatcher_pid, $pid, 'as the same process');

$t->sql("SELECT pg_terminate_backend($pid)");
checkout();
all_captured('one that was terminated is followed by another');
isnt($t->dispatcher_pid, $pid, 'which is a new process');

# long enough for five checkouts on a machine that has much else to do
$t->faults(latency_ms => 5000);
checkout() for 1 .. 5;
$t->wait_for(q{SELECT count(*) = 5 FROM payment.attempt WHERE finished_at IS NULL}, seconds => 20);
ok($t->kill_dispatcher, 'it is killed with requests under way');
$t->faults(latency_ms => 0);
$t->wait_for_server;
all_captured('S05 what was under way comes to its end');
$t->faults(latency_ms => 0);
$t->books_agree('S05 and was charged once');

# --- the server stops ---

foreach my $mode (qw(fast immediate))
{
    $t->faults(latency_ms => 5000);
    checkout() for 1 .. 5;
    $t->wait_for(q{SELECT count(*) = 5 FROM payment.attempt WHERE finished_at IS NULL}, seconds => 20);
    my $seconds = timed(sub { $node->stop($mode) });
    cmp_ok($seconds, '<', 10, "shutdown ($mode) does not wait for the PSP: $seconds s");
    $t->faults(latency_ms => 0);
    $node->start;
    all_captured("everything comes to its end after shutdown ($mode)");
    $t->books_agree("and nothing is charged twice");
}

# --- the extension goes ---

is($t->sqlstate('DROP EXTENSION payment CASCADE'), 'PY600', 'S69 DROP EXTENSION does not delete payments unasked');
$offset = $t->log_offset;
my $seconds = timed(sub { $t->sql('SET payment.allow_drop = on; DROP EXTENSION payment CASCADE') });
cmp_ok($seconds, '<', 10, "S69 DROP EXTENSION does not hang ($seconds s)");
ok(gone(), 'S69 the dispatcher leaves');
ok(!log_has($offset, qr/ERROR|FATAL|PANIC/), 'S69 without an error');
$t->sql('CREATE EXTENSION payment');
ok($t->wait_for_dispatcher(seconds => 10), 'S69 and comes with the extension');
set_up_shop();
checkout();
all_captured('S69 it works as before');

# --- the database goes ---

foreach my $busy (0, 1)
{
    my $how = $busy ? 'busy' : 'idle';
    my $name = "shop_$how";
    $t->create_database($name);
    set_up_shop(database => $name);
    $t->wait_for_dispatcher(database => $name);
    if ($busy)
    {
        $t->faults(latency_ms => 1000);
        checkout(database => $name);
        $t->wait_for(q{SELECT count(*) = 1 FROM payment.attempt WHERE finished_at IS NULL},
            database => $name, seconds => 20);
    }
    $offset = $t->log_offset;
    is($t->sqlstate("DROP DATABASE $name", database => 'postgres'), '00000',
        "S69 DROP DATABASE, its dispatcher $how");
    Time::HiRes::sleep(2);
    ok(!log_has($offset, qr/ERROR|FATAL|PANIC/), 'S69 leaves no error behind');
}
$t->faults(latency_ms => 0);
is($t->sqlstate('CREATE DATABASE copy TEMPLATE shop', database => 'postgres'),
    '00000', 'S69 CREATE DATABASE TEMPLATE with a dispatcher');
is($t->sqlstate('ALTER DATABASE copy RENAME TO renamed', database => 'postgres'),
    '00000', 'S69 ALTER DATABASE RENAME with a dispatcher');
ok($t->wait_for_dispatcher(database => 'renamed'), 'S69 which comes back then');
is($t->sqlstate('DROP DATABASE renamed WITH (FORCE)', database => 'postgres'),
    '00000', 'S69 DROP DATABASE WITH (FORCE)');
ok($t->wait_for_dispatcher, 'and the one next door is there again');
checkout();
all_captured('and works');

# --- texts that are no UTF-8 ---

foreach my $encoding (qw(SQL_ASCII LATIN1))
{
    my $name = lc $encoding;
    $t->sql("CREATE DATABASE $name TEMPLATE template0 ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C'",
        database => 'postgres');
    $t->sql('CREATE EXTENSION payment', database => $name);
    set_up_shop(database => $name);
    $t->sql(<<'SQL', database => $name);
SELECT payment.checkout('bytes', 'payer',
    jsonb_build_array(jsonb_build_object('seller', 'alice', 'amount', 5, 'currency', 'USD', 'description', E'caf\xe9')),
    payment_method => 'pm_card_visa')
SQL
    checkout(database => $name);
    ok($t->wait_for(q{SELECT count(*) = 2 FROM payment.payment_order WHERE status = 'captured'}, database => $name),
        "$encoding: bytes that are no UTF-8 hold up nobody");
    $t->sql("DROP DATABASE $name WITH (FORCE)", database => 'postgres');
}

# --- many databases ---

$t->configure('payment.max_databases' => 3);
$offset = $t->log_offset;
$node->restart;
$t->create_database("plain_$_", extension => 0) for 1 .. 6;
$t->create_database("other_$_") for 1 .. 3;

my $served = q{SELECT count(*) FROM payment.worker_status};
ok(PaymentTest::wait_until(sub { $t->sql($served) == 3 }, LEAVE_SECONDS), 'as many are served as may be');
ok(PaymentTest::wait_until(sub { $t->log_since($offset) =~ /payment\.max_databases are served already/ },
    LEAVE_SECONDS), 'that one more cannot be is reported');
Time::HiRes::sleep(2);
is($t->sql($served), 3, 'and is not');
is($t->sql(q{SELECT count(*) FROM pg_stat_activity WHERE datname LIKE 'plain%'}), 0,
    'no process stays where no extension is');
my $other = $t->sql(q{SELECT database FROM payment.worker_status WHERE database LIKE 'other%' LIMIT 1});
$t->sql("DROP DATABASE $other", database => 'postgres');
ok(PaymentTest::wait_until(sub { $t->sql("$served WHERE database <> '$other'") == 3 }, 30),
    'a place that becomes free is taken');

$t->finish;
