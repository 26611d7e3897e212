# A PSP that does not work is left alone until it does again: its tasks wait,
# untried; and what it asks for with Retry-After holds for all of them.
use strict;
use warnings;

use Cwd ();
use File::Basename ();
use File::Temp ();
use IO::Socket::INET;
use PaymentTest;
use PostgreSQL::Test::Utils;
use Test::More;

# --- the rules by themselves, with a clock of the test's own ---

my $fuzz = File::Basename::dirname(Cwd::realpath(__FILE__)) . '/../fuzz';
my $bin  = File::Temp::tempdir(CLEANUP => 1);
my $make = $ENV{MAKE} // 'make';
my $log  = qx(timeout 300 $make -s -C '$fuzz' bin='$bin' '$bin/breaker_test' 2>&1);
SKIP:
{
    skip "cannot build the test of the breaker here: $log", 1 if !-x "$bin/breaker_test";
    local $ENV{ASAN_OPTIONS} = 'detect_leaks=0';
    my @output = split /\n/, qx(timeout 60 '$bin/breaker_test' 2>&1);
    is($?, 0, 'the circuit breaker keeps its rules');
    foreach my $line (grep { /^(not )?ok - / } @output)
    {
        my ($not, $name) = $line =~ /^(not )?ok - (.*)/;
        ok(!$not, "breaker: $name");
    }
}

my $t = PaymentTest->new('breaker');
$t->start_sandbox;
my $port = $t->sandbox_port;
my %quick = (breaker_failures => 5, breaker_pause_ms => 200, breaker_pause_max_ms => 400, breaker_probes => 2);
my $psp = $t->register_psp('sandbox', settings => \%quick);
$t->register_seller('alice');

my $number = 0;

sub checkout_some
{
    my ($count, %argument) = @_;
    my @orders;
    foreach (1 .. $count)
    {
        $number++;
        push @orders, ($t->checkout("order $number", ["alice $number USD"], %argument))[1];
    }
    return @orders;
}

sub queue_many
{
    my ($count, $name) = @_;
    return $t->sql(<<"SQL");
SELECT count(*) FROM payment.submit((SELECT jsonb_agg(jsonb_build_object('idempotency_key', '$name ' || n,
    'payment_type', 'pay_in', 'payer', 'payer', 'psp', 'sandbox', 'payment_method', 'pm_card_visa', 'orders',
    jsonb_build_array(jsonb_build_object('seller', 'alice', 'amount', 1000 + n, 'currency', 'USD'))))
    FROM generate_series(1, $count) AS n))
SQL
}

sub wait_for_breaker
{
    my ($state) = @_;
    return $t->wait_for("SELECT breaker_state = '$state' FROM payment.psp_status WHERE psp = 'sandbox'",
        what => "the breaker to be $state");
}

sub tries { return $t->sql('SELECT coalesce(sum(tries), 0), count(*) FROM payment.task') }

subtest 'declines never open it' => sub {
    checkout_some(30, payment_method => 'pm_card_chargeDeclined');
    $t->wait_until_idle;
    is($t->sql('SELECT breaker_state, failures_in_row, breaker_since IS NULL, last_success_at IS NOT NULL'
          . q( FROM payment.psp_status WHERE psp = 'sandbox')), 'closed|0|t|t', 'closed after thirty declines');
    is($t->sql('SELECT count(*) FROM payment.circuit_breaker'), 0, 'nothing was ever written about it');
};

subtest 'a PSP that is down' => sub {
    $t->stop_sandbox;
    $t->register_psp('sandbox', base_url => "http://127.0.0.1:$port", settings => { %quick, breaker_pause_ms => 3_600_000 });
    my $offset = $t->log_offset;
    my @orders = checkout_some(6);
    wait_for_breaker('open');
    is(queue_many(500, 'while it is down'), 500, 'five hundred more are queued');

    # Of what it did before, nothing comes after: an hour's pause is no race.
    $t->wait_for(q(SELECT in_flight = 0 FROM payment.psp_status WHERE psp = 'sandbox'));
    my $tries = tries();
    my $heartbeat = $t->sql(q(SELECT heartbeat_at FROM payment.worker_status WHERE database = 'shop'));
    $t->wait_for("SELECT heartbeat_at > '$heartbeat'::timestamptz + interval '2 s' FROM payment.worker_status"
          . q( WHERE database = 'shop'), what => 'the dispatcher to turn a few times more');
    is(tries(), $tries, 'while it is open no task uses up a try');
    is($t->sql(q(SELECT count(*) FROM payment.task WHERE tries > 0)) <= 6, 1, 'of the five hundred none was tried');

    my ($status) = $t->rows(q(SELECT * FROM payment.psp_status WHERE psp = 'sandbox'));
    is($status->{breaker_state}, 'open', 'open');
    like($status->{breaker_reason}, qr/5 requests in a row failed.*attempt 1 of [0-9a-f-]{36} \(connect_failed/,
        'it says why, with the object');
    cmp_ok($status->{failures_in_row}, '>=', 5, 'how many failed');
    like($status->{last_failure}, qr/^connect_failed, HTTP status 0, attempt 1 of [0-9a-f-]{36}$/, 'and how');
    is($t->sql(q(SELECT breaker_since < breaker_probe_at AND breaker_since < now() AND last_failure_at < now()
        FROM payment.psp_status WHERE psp = 'sandbox')), 't', 'since when, and until when');
    is($t->sql(q(SELECT breakers_open FROM payment.worker_status WHERE database = 'shop')), 1, 'worker_status counts it');
    my $text = $t->log_since($offset);
    like($text, qr/circuit breaker of PSP "sandbox" opened for 3600000 ms/, 'the log has it');
    like($text, qr/a request to PSP "sandbox" failed: connect_failed, HTTP status 0\n.*DETAIL:  Send of object [0-9a-f-]{36}, attempt 1/,
        'and what failed, with object and attempt');
    is(scalar(() = $text =~ /a request to PSP "sandbox" failed/g), 1, 'once, not for each request');

    # it survives the worker, and the whole server
    $t->kill_dispatcher('TERM');
    $t->wait_for_dispatcher;
    $t->node->restart;
    $t->wait_for_dispatcher;
    $t->wait_for(q(SELECT breakers_open = 1 FROM payment.worker_status WHERE database = 'shop'), what => 'the new dispatcher to know');
    is(tries(), $tries, 'a restart forgets nothing of that');
    ok($t->wait_for(q(SELECT count(*) = 0 FROM payment.stuck)), 'not late yet');
    $t->sql(q(UPDATE payment.task SET run_at = run_at - interval '1 min'));
    is($t->sql('SELECT DISTINCT psp, breaker_state, reason FROM payment.stuck'), 'sandbox|open|breaker_open',
        'late tasks say what keeps them');

    # an operator knows that it is up again
    $t->start_sandbox({ port => $port });
    is($t->call('reset_breaker', psp => 'sandbox'), 't', 'reset');
    wait_for_breaker('closed');
    $t->wait_until_idle;
    is($t->call('reset_breaker', psp => 'sandbox'), 'f', 'once more, there is nothing to reset');
    is($t->sql('SELECT count(*) FROM payment.dead_letter'), 0, 'no dead letter');
    is($t->sql("SELECT count(*) FROM payment.payment_order WHERE status = 'captured'"), 506, 'all are paid');
    $t->books_agree('once each');
};

subtest 'it probes by itself' => sub {
    $t->register_psp('sandbox', settings => \%quick);
    $t->faults(error_500_before => 100, lookup_down => 100);
    checkout_some(8);
    wait_for_breaker('open');
    my $before = scalar $t->request_log;
    queue_many(200, 'probing');
    # it opens, probes, opens again
    $t->wait_for(q(SELECT pause_ms = 400 FROM payment.circuit_breaker), what => 'a longer pause after probes that failed');
    my $probes = scalar($t->request_log) - $before;
    $t->faults(reset => 1);
    wait_for_breaker('closed');
    $t->wait_until_idle;
    cmp_ok($probes, '<=', 40, 'few requests went out while it was half-open, not the two hundred');
    is($t->sql('SELECT count(*) FROM payment.dead_letter'), 0, 'no dead letter');
    $t->books_agree('all paid once');
};

# no answer but silence, nonsense, or "go away"
foreach my $case ([ 'a timeout', 'answer_lost', sub { $t->faults(hang_after => 100, hang_ms => 3_000) }, { timeout_ms => 100 } ],
    [ 'a refused key', undef, sub { $t->write_secret('sandbox', 'sk_test_wrong') }, {} ],
    [ 'no key at all', 'secret_unavailable', sub { unlink $t->secrets_dir . '/sandbox' }, {} ],
    [ 'no TLS', 'tls', undef, { } ])
{
    my ($name, $code, $break, $settings) = @$case;
    subtest "$name opens it" => sub {
        my $key = slurp_file($t->secrets_dir . '/sandbox');
        my $url = $break ? $t->sandbox_url : 'https://127.0.0.1:' . $port;
        $t->register_psp('sandbox', base_url => $url, settings => { %quick, %$settings });
        $break->() if $break;
        my @orders = checkout_some(8);
        # lookups may have been let through by now
        $t->wait_for(q(SELECT breaker_state <> 'closed' FROM payment.psp_status WHERE psp = 'sandbox'), what => 'the breaker');
        my $failure = $t->sql(q(SELECT last_failure FROM payment.psp_status WHERE psp = 'sandbox'));
        like($failure, qr/$code/, "it says: $failure") if defined $code;
        $t->faults(reset => 1);
        $t->write_secret('sandbox', $key);
        $t->register_psp('sandbox', settings => \%quick);
        $t->wait_until_idle;
        $t->charged_once($_, 'paid once') foreach @orders[ 0, 7 ];
        # lookups that succeed do not tell that it charges again: payments do
        checkout_some(2);
        wait_for_breaker('closed');
    };
}

subtest 'S12 Retry-After holds for the whole PSP' => sub {
    $t->faults(retry_after_s => 2, rate_limit => 'next:1');
    my ($first) = checkout_some(1);
    $t->wait_for(q(SELECT paused_until > now() FROM payment.psp_status WHERE psp = 'sandbox'), what => 'the pause');
    my ($order) = checkout_some(1);
    $t->wait_until_idle;
    my ($refused) = $t->rows("SELECT finished_at FROM payment.attempt WHERE object_id = '$first' ORDER BY id LIMIT 1");
    is($t->sql("SELECT count(*), bool_and(claimed_at >= '$refused->{finished_at}'::timestamptz + interval '1.9 s')"
          . " FROM payment.attempt WHERE object_id = '$order'"),
        '1|t', 'S12 another order is not tried before the time is over');
    is($t->sql(q(SELECT breaker_state FROM payment.psp_status WHERE psp = 'sandbox')), 'closed', 'that opens no breaker');
    is($t->sql(q(SELECT paused_until FROM payment.psp_status WHERE psp = 'sandbox')), '', 'and is over');

    # a PSP cannot stop us for longer than we let it
    $t->register_psp('sandbox', settings => { %quick, retry_after_max_ms => 0 });
    $t->faults(retry_after_s => 600, rate_limit => 'next:1');
    ($first) = checkout_some(1);
    $t->wait_for("SELECT tries = 1 AND attempt_id IS NULL FROM payment.task WHERE object_id = '$first'", what => 'the 429');
    ($order) = checkout_some(1);
    $t->wait_for("SELECT status = 'captured' FROM payment.payment_order WHERE id = '$order'", what => 'the next order');
    ok($t->sql("SELECT run_at > now() + interval '9 min' FROM payment.task WHERE object_id = '$first'"),
        'with retry_after_max_ms 0 only the task itself waits');

    # and an operator can end a pause
    $t->register_psp('sandbox', settings => { %quick, retry_after_max_ms => 3_600_000 });
    $t->faults(retry_after_s => 600, rate_limit => 'next:1');
    checkout_some(1);
    $t->wait_for(q(SELECT paused_until > now() FROM payment.psp_status WHERE psp = 'sandbox'), what => 'the pause');
    $t->call('reset_breaker', psp => 'sandbox');
    ($order) = checkout_some(1);
    $t->wait_for("SELECT status = 'captured' FROM payment.payment_order WHERE id = '$order'", what => 'the order after the reset');
    $t->sql('UPDATE payment.task SET run_at = now(); SELECT payment.wake_worker()');
    $t->wait_until_idle;
};

subtest 'S12 Retry-After as a date' => sub {
    # a PSP of the test's own: the sandbox speaks seconds
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 5) or die "listen: $!";
    $t->register_psp('sandbox', base_url => 'http://127.0.0.1:' . $listener->sockport, settings => \%quick);
    my ($order) = checkout_some(1);
    $listener->timeout(60);
    my $client = $listener->accept;
    die q(nobody calls) if !$client;
    my ($head, $length) = ('', 0);
    while (defined(my $line = <$client>))
    {
        $length = $1 if $line =~ /^Content-Length: (\d+)/i;
        last if $line eq "\r\n";
    }
    read $client, my ($body), $length;
    my @days = qw(Sun Mon Tue Wed Thu Fri Sat);
    my @months = qw(Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec);
    my @at = gmtime(time + 600);
    print $client "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\nRetry-After: "
      . sprintf("%s, %02d %s %d %02d:%02d:%02d GMT\r\n\r\n", $days[ $at[6] ], $at[3], $months[ $at[4] ], $at[5] + 1900, @at[ 2, 1, 0 ]);
    close $client;
    $t->wait_for(q(SELECT paused_until > now() FROM payment.psp_status WHERE psp = 'sandbox'), what => 'the pause');
    ok($t->sql("SELECT run_at BETWEEN now() + interval '9 min' AND now() + interval '11 min' FROM payment.task"
          . " WHERE object_id = '$order'"), 'S12 the task waits until then');
    is($t->sql("SELECT step FROM payment.task WHERE object_id = '$order'"), 'lookup', 'S12 a 503 is looked up, not sent again');
    close $listener;
    $t->register_psp('sandbox', settings => \%quick);
    $t->call('reset_breaker', psp => 'sandbox');
    $t->sql('UPDATE payment.task SET run_at = now(); SELECT payment.wake_worker()');
    $t->wait_until_idle;
    $t->charged_once($order, 'S12 paid once');
};

subtest 'S12 what Stripe-Should-Retry says' => sub {
    $t->faults(error_500_before => 'next:1', should_retry_false => 100);
    my ($order) = checkout_some(1);
    $t->wait_until_idle;
    is($t->sql("SELECT string_agg(step || ' ' || outcome, ',' ORDER BY id) FROM payment.attempt WHERE object_id = '$order'")
        =~ /^send unknown,lookup not_found/ ? 1 : 0, 1, 'S12 false: looked up');
    $t->faults(reset => 1);
    $t->faults(error_500_before => 'next:1', should_retry_true => 100);
    ($order) = checkout_some(1);
    $t->wait_until_idle;
    is($t->sql("SELECT string_agg(step || ' ' || outcome, ',' ORDER BY id) FROM payment.attempt WHERE object_id = '$order'")
        =~ /^send retry,send / ? 1 : 0, 1, 'S12 true: sent again, unasked');
    $t->charged_once($order, 'S12 and paid once');
    $t->faults(reset => 1);
};

subtest 'an operator who has not committed is in nobody\'s way' => sub {
    my $reset = $t->start_sql(q(BEGIN; SELECT payment.reset_breaker('sandbox'); SELECT pg_sleep(600)));
    $t->wait_for(q(SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'));
    $t->faults(error_500_before => 100, lookup_down => 100);
    my @failing = checkout_some(8);
    $t->wait_for(q(SELECT breakers_open = 1 FROM payment.worker_status WHERE database = 'shop'), what => 'the breaker to open');
    $t->faults(reset => 1);
    my ($order) = checkout_some(1);
    $t->wait_for("SELECT status = 'captured' FROM payment.payment_order WHERE id = '$order'", what => 'payments to go on');
    $t->sql(q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'));
    $t->finish_sql($reset);
    $t->wait_until_idle;
    $t->charged_once($_, 'paid once') foreach $order, $failing[0];
    wait_for_breaker('closed');
};

is($t->sql('SELECT count(*) FROM payment.dead_letter'), 0, 'no dead letter is left');
$t->books_agree('book and ledger agree');
$t->finish;
