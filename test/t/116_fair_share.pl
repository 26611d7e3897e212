# Who gets how much: whatever is queued, hangs or floods, the limits hold, and
# everybody else goes on.
use strict;
use warnings;

use IO::Socket::INET;
use PaymentTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

use constant {
    RATE     => 200,
    PLACES   => 16,
    KEPT     => 3,    # of these, one for each other lane
    FEW      => 1_000,
    MANY     => 100_000,
    MEASURED => 700,
};

my $t = PaymentTest->new('fair_share');
$t->start_sandbox;
my $psp = $t->register_psp;
$t->register_seller('alice');

sub queue_many
{
    my ($count, $name, $which) = @_;
    $which //= 'sandbox';
    my $done = 0;
    while ($done < $count)
    {
        my $last = $done + 10_000 < $count ? $done + 10_000 : $count;
        $t->sql(<<"SQL");
SELECT count(*) FROM payment.submit((SELECT jsonb_agg(jsonb_build_object('idempotency_key', '$name ' || n,
    'payment_type', 'pay_in', 'payer', 'payer', 'psp', '$which', 'payment_method', 'pm_card_visa', 'orders',
    jsonb_build_array(jsonb_build_object('seller', 'alice', 'amount', 1000, 'currency', 'USD', 'reference', '$name'))))
    FROM generate_series($done + 1, $last) AS n))
SQL
        $done = $last;
    }
    return;
}

sub stop_worker
{
    $t->configure('payment.worker_enabled' => 'off');
    PaymentTest::wait_until(sub { !defined $t->dispatcher_pid }, 60) or die 'the dispatcher stays';
    return;
}

# What belongs to the process alone, in kB.
sub memory_of { return slurp_file("/proc/$_[0]/status") =~ /^RssAnon:\s+(\d+) kB/m ? $1 : die 'no RssAnon' }

# A dispatcher from its start until it has sent so many; then it is stopped.
sub measure
{
    my ($count) = @_;
    my $before = scalar $t->request_log;
    my $started = Time::HiRes::time();
    $t->configure('payment.worker_enabled' => 'on');
    my $pid = $t->wait_for_dispatcher;
    $t->wait_for('SELECT coalesce(sum(recorded), 0) >= ' . $count . q( FROM payment.worker_status WHERE database = 'shop'),
        what => 'some hundred outcomes');
    my $memory = memory_of($pid);
    stop_worker();
    my @log = $t->request_log;
    return ($memory, $started, @log[ $before .. $#log ]);
}

stop_worker();
$t->register_psp('sandbox', settings => { requests_per_second => RATE, max_in_flight => PLACES });
queue_many(FEW, 'few');
my ($memory_of_few) = measure(MEASURED);
queue_many(MANY, 'many');
my ($memory_of_many, $started, @requests) = measure(MEASURED);
my $elapsed = Time::HiRes::time() - $started;
# slow answers, so that there are as many under way as may be
$t->faults(latency_ms => 200);
measure(60);
$t->faults(reset => 1);

subtest 'S19 100,000 tasks are queued when the worker starts' => sub {
    cmp_ok($t->sql('SELECT count(*) FROM payment.task'), '>', MANY - 10_000, 'S19 most of them still wait');
    # nothing was sent before it was started, nor after it was stopped
    cmp_ok(scalar @requests, '<=', RATE * $elapsed + RATE / 10 + 1, 'S19 the rate limit holds');
    cmp_ok(scalar @requests, '>=', MEASURED, 'S19 it is worth looking at');
    is($t->sql(<<'SQL'), PLACES - KEPT, 'S19 as many at once as one lane may have of max_in_flight, and never more');
SELECT max(under_way) FROM (
    SELECT sum(one) OVER (ORDER BY at, one ROWS UNBOUNDED PRECEDING) AS under_way FROM (
        SELECT claimed_at AS at, 1 AS one FROM payment.attempt
        UNION ALL SELECT finished_at, -1 FROM payment.attempt) AS e) AS s
SQL
    cmp_ok($memory_of_many, '<=', $memory_of_few * 1.1,
        "S19 memory is bounded: $memory_of_many kB with 100,000 queued, $memory_of_few kB with 1,000");
    is($t->sql('SELECT bool_and(attempts = 1) FROM (SELECT count(*) AS attempts FROM payment.attempt GROUP BY task_id) AS a'),
        't', 'S19 nothing is sent twice');
};
$t->sql(q(UPDATE payment.psp SET state = 'paused'));
$t->sql('UPDATE payment.task SET psp_id = payment.new_id()');

subtest 'a PSP that hangs does not take the places of another' => sub {
    my $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 512) or die "listen: $!";
    $t->configure('payment.max_in_flight' => 32);
    $t->register_psp('silent', base_url => 'http://127.0.0.1:' . $silent->sockport,
        settings => { max_in_flight => 1024, timeout_ms => 300_000, breaker_failures => 0 });
    $t->register_psp('sandbox', settings => { state => 'active', max_in_flight => 1024 });
    queue_many(200, 'silent', 'silent');
    $t->configure('payment.worker_enabled' => 'on');
    $t->wait_for(q(SELECT in_flight = 24 FROM payment.psp_status WHERE psp = 'silent'),
        what => 'the silent one to have what it may have, a quarter kept for the other');
    queue_many(500, 'beside');
    $t->wait_for(q(SELECT count(*) = 500 FROM payment.payment_order WHERE reference = 'beside' AND status = 'captured'),
        what => 'the other to be paid meanwhile');
    is($t->sql(q(SELECT count(*), count(finished_at) FROM payment.attempt AS a JOIN payment.psp AS p ON p.id = a.psp_id
        WHERE p.name = 'silent')), '24|0', 'none of what hangs has ended in that time');
    stop_and_forget($silent, 'silent');
};

# Its requests are over when its connections are.
sub stop_and_forget
{
    my ($listener, $name) = @_;
    $t->sql(qq(UPDATE payment.psp SET state = 'paused' WHERE name = '$name'));
    close $listener;
    $t->kill_dispatcher('TERM');
    $t->sql(qq(DELETE FROM payment.task WHERE psp_id = (SELECT id FROM payment.psp WHERE name = '$name')));
    $t->configure('payment.max_in_flight' => 256);
    $t->wait_for_dispatcher;
    return;
}

subtest 'payouts that hang do not take the places of payments' => sub {
    my (undef, $order) = $t->checkout('funds', ['alice 100000 USD'], psp => 'sandbox');
    $t->wait_for("SELECT status = 'captured' FROM payment.payment_order WHERE id = '$order'");
    $t->call('release', payment_order => $order);
    $t->register_psp('sandbox', settings => { max_in_flight => 16, timeout_ms => 300_000 });
    $t->faults(hang_after => 100, hang_ms => 200_000);
    my $seller = $t->call('seller_id', reference => 'alice');
    $t->sql("SELECT count(payment.payout('$seller', 1, 'USD', 'ba_sandbox_1', 'payout ' || n, 'sandbox'))"
          . ' FROM generate_series(1, 40) AS n');
    $t->wait_for(q(SELECT in_flight = 13 FROM payment.psp_status WHERE psp = 'sandbox'),
        what => 'payouts to have all places but one for each other lane');
    $t->faults(hang_after => 0);
    my $payouts = 'SELECT count(*) FROM payment.attempt WHERE operation = $$payout$$ AND finished_at IS NULL';
    is($t->sql($payouts), 13, 'thirteen payouts hang');
    queue_many(300, 'payments');
    $t->wait_for(q(SELECT count(*) = 300 FROM payment.payment_order WHERE reference = 'payments' AND status = 'captured'),
        what => 'payments to go on');
    is($t->sql($payouts), 13, 'they still hang when all payments are made');
    my $port = $t->stop_sandbox('KILL');
    $t->start_sandbox({ port => $port });
    $t->wait_for(q(SELECT count(*) = 40 FROM payment.payout WHERE status = 'paid'), what => 'all payouts in the end');
    is(scalar(grep { $_->{automatic} ne '1' && $_->{automatic} ne 'true' } $t->payouts), 40, 'each once');
};

subtest 'S20 a poison task' => sub {
    my $port = $t->start_peer(sub { return ('429 Too Many Requests', [], '{"error": {"type": "invalid_request_error", "code": "rate_limit"}}') });
    $t->register_psp('poison', base_url => "http://127.0.0.1:$port", settings => { max_attempts => 3 });
    my (undef, $poisoned) = $t->checkout('poison', ['alice 777 USD'], psp => 'poison');
    $t->sql(q(INSERT INTO payment.task (id, psp_id, operation, object_id, run_at)
        SELECT payment.new_id(), id, 'pay', payment.new_id(), now() FROM payment.psp WHERE name = 'sandbox'));
    $t->wait_for('SELECT count(*) = 2 FROM payment.dead_letter', what => 'two dead letters');
    my (undef, $other) = $t->checkout('healthy', ['alice 778 USD'], psp => 'sandbox');
    $t->wait_for("SELECT status = 'captured' FROM payment.payment_order WHERE id = '$other'", what => 'the others');
    is($t->sql("SELECT tries, last_error FROM payment.dead_letter WHERE object_id = '$poisoned'"),
        '3|no final answer in 3 tries; rate_limit', 'S20 it died after max_attempts tries');
    is($t->sql("SELECT count(*) FROM payment.attempt WHERE object_id = '$poisoned'"), 3, 'S20 each has its row');

    $t->stop_peer($port);
    $t->register_psp('poison', base_url => $t->sandbox_url);
    my $replay = "SELECT payment.retry_dead_letter(task_id) FROM payment.dead_letter WHERE object_id = '$poisoned'";
    my $task = $t->sql("SELECT task_id FROM payment.dead_letter WHERE object_id = '$poisoned'");
    my @replays = map { $t->start_sql("SELECT payment.retry_dead_letter('$task')") } 1 .. 4;
    is(join('', sort map { ($t->finish_sql($_))[1] } @replays), 'ffft', 'S20 four replays at once: one counts');
    $t->wait_for("SELECT status = 'captured' FROM payment.payment_order WHERE id = '$poisoned'");
    is($t->sql("SELECT payment.retry_dead_letter('$task')"), 'f', 'S20 a late replay does nothing');
    is(scalar(grep { $_->{payment_order} eq $poisoned } $t->charges), 1, 'S20 one charge');
};

is($t->sql('SELECT * FROM payment.verify()'), '', 'verify() finds nothing');
$t->finish;
