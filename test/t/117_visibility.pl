# What an operator can see of the worker, what nobody may see in the log, and
# that nothing of it grows.
use strict;
use warnings;

use PaymentTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $t = PaymentTest->new('visibility', settings => { log_min_messages => 'info' });
$t->start_sandbox;
my $psp = $t->register_psp;
$t->register_seller('alice');

my $number = 0;

# what belongs to the process alone, in kB
sub memory_of { return slurp_file("/proc/$_[0]/status") =~ /^RssAnon:\s+(\d+) kB/m ? $1 : die 'no RssAnon' }

sub pay
{
    my ($count, $method) = @_;
    $number += $count;
    return $t->sql(<<"SQL");
SELECT count(*) FROM payment.submit((SELECT jsonb_agg(jsonb_build_object('idempotency_key', 'order ' || n,
    'payment_type', 'pay_in', 'payer', 'payer', 'psp', 'sandbox', 'payment_method', '$method', 'orders',
    jsonb_build_array(jsonb_build_object('seller', 'alice', 'amount', 1000, 'currency', 'USD'))))
    FROM generate_series($number - $count + 1, $number) AS n))
SQL
}

pay(60, 'pm_card_visa');
pay(20, 'pm_card_chargeDeclined');
$t->wait_until_idle;

subtest 'latencies' => sub {
    $t->faults(latency_ms => 300);
    pay(5, 'pm_card_visa');
    $t->wait_until_idle;
    $t->faults(reset => 1);
    is($t->sql(q(SELECT outcome, max(requests) FROM payment.psp_latency WHERE upper_bound_ms IS NULL GROUP BY 1 ORDER BY 1)),
        "declined|20\nsucceeded|65", 'all attempts are counted, by outcome');
    is($t->sql(<<'SQL'), 't', 'histograms are cumulative, and end with all');
SELECT bool_and(requests >= before) FROM (SELECT requests, lag(requests, 1, 0::bigint)
    OVER (PARTITION BY psp_id, outcome ORDER BY upper_bound_ms NULLS LAST) AS before FROM payment.psp_latency) AS l
SQL
    is($t->sql(<<'SQL'), '', 'as the attempts say: each bound by itself, and the sum');
SELECT l.outcome, l.upper_bound_ms, l.requests, l.sum_ms, a.requests, a.sum_ms
FROM payment.psp_latency AS l, LATERAL (
    SELECT count(*) FILTER (WHERE latency_ms <= l.upper_bound_ms OR l.upper_bound_ms IS NULL) AS requests,
        sum(latency_ms) AS sum_ms
    FROM payment.attempt WHERE outcome = l.outcome) AS a
WHERE (l.requests, l.sum_ms) <> (a.requests, a.sum_ms)
SQL
    is($t->sql(q(SELECT max(requests) FROM payment.psp_latency WHERE outcome = 'succeeded' AND upper_bound_ms = 250)) <= 60, 1,
        'the five slow ones are above 250 ms');
};

subtest 'what is going on' => sub {
    is($t->sql(q(SELECT sent, failures_in_row, in_flight, breaker_state FROM payment.psp_status)), '85|0|0|closed',
        'the PSP by itself');
    ok($t->wait_for(q(SELECT requests_per_second > 0 AND breakers_open = 0 FROM payment.worker_status)),
        'the worker has a rate, and no breaker is open');
    ok($t->wait_for(q(SELECT requests_per_second > 0 AND tokens > 0 FROM payment.psp_status)), 'so has the PSP, and tokens');
    my $activity = q(SELECT query FROM pg_stat_activity WHERE backend_type = 'payment dispatcher');
    ok($t->wait_for("SELECT ($activity) = 'wait for something to do'"), 'an idle worker says so');
    my $named = $t->sql(q(SELECT current_setting('server_version_num')::int >= 170000)) eq 't';
    is($t->sql("SELECT application_name, wait_event_type, wait_event, state, xact_start IS NULL FROM pg_stat_activity"
          . " WHERE backend_type = 'payment dispatcher'"),
        'payment dispatcher|Extension|' . ($named ? 'PaymentDispatcherIdle' : 'Extension') . '|idle|t',
        'waiting outside of any transaction');
    $t->faults(hang_after => 'next:1', hang_ms => 20_000);
    pay(1, 'pm_card_visa');
    ok($t->wait_for("SELECT ($activity) = 'wait for answers of PSPs'"), 'a waiting one, too');
    is($t->sql('SELECT in_flight FROM payment.psp_status'), 1, 'with one request under way');
    is($t->sql('SELECT step, in_flight FROM payment.queue_depth'), 'send|1', 'queue_depth has it');
    $t->stop_sandbox('KILL');
    $t->start_sandbox({ port => $t->sql(q(SELECT substring(base_url FROM ':(\d+)$') FROM payment.psp)) });
    $t->wait_until_idle;
};

subtest 'the counters are of one database' => sub {
    $t->create_database('other');
    $t->wait_for_dispatcher(database => 'other');
    is($t->sql('SELECT count(*) FROM payment.worker_psps()', database => 'other'), 0, 'another sees nothing of it');
    is($t->sql('SELECT count(*) FROM payment.worker_latencies()', database => 'other'), 0, 'nor of the latencies');
};

subtest 'counters outlive the dispatcher' => sub {
    my $sent = $t->sql('SELECT sent FROM payment.psp_status');
    $t->kill_dispatcher('TERM');
    $t->wait_for(q(SELECT started_at > now() - interval '1 min' FROM payment.worker_status WHERE database = 'shop'));
    pay(1, 'pm_card_visa');
    $t->wait_until_idle;
    is($t->sql('SELECT sent FROM payment.psp_status'), $sent + 1, 'and go on counting');
};

# What the dispatcher's memory contexts hold: name => [ how many, bytes ].
sub contexts
{
    my ($total, %context);
    PaymentTest::wait_until(
        sub {
            my $pid = $t->wait_for_dispatcher;
            my $offset = $t->log_offset;
            $t->sql("SELECT pg_log_backend_memory_contexts($pid)");
            PaymentTest::wait_until(sub { $t->log_since($offset) =~ /Grand total/ }, 60) or die 'no memory contexts in the log';
            ($total, %context) = (0);
            foreach my $line (split /\n/, $t->log_since($offset))
            {
                $total = $1 if $line =~ /Grand total: (\d+) bytes/;
                next if $line !~ /level: \d+; (.*?): (\d+) total in/;
                $context{$1}[0]++;
                $context{$1}[1] += $2;
            }
            # not in the middle of a transaction
            return !$context{ExecutorState} && !$context{'SPI Exec'};
        }, 60) or die 'never between two transactions';
    return ($total, \%context);
}

subtest 'nothing grows' => sub {
    my $round = sub {
        $t->faults(lost_answer => 10, error_500_before => 5, rate_limit => 5, retry_after_s => 0, html_body => 3);
        pay(400, 'pm_card_visa');
        $t->wait_until_idle;
        $t->faults(reset => 1);
        return contexts();
    };
    $round->();
    my ($before, $first) = $round->();
    $round->();
    my ($after, $second) = $round->();
    foreach my $name ('payment delivery', 'payment token')
    {
        ok(!$second->{$name}, "no context \"$name\" is left over");
    }
    is($second->{'payment PSP'}[0], $first->{'payment PSP'}[0], 'one for each PSP');
    # PostgreSQL's own caches fill up, each to a bound of its own
    my $cache = qr/^(Cached|CacheMemory|PgStat|index info|partition|relation rules|Relcache|Type information|Operator lookup)/;
    my @grown = map { "$_: $second->{$_}[1], was " . ($first->{$_}[1] // 0) }
      grep { !/$cache/ && $second->{$_}[1] > ($first->{$_}[1] // 0) } sort keys %$second;
    is(join("\n", @grown), '', "no other context has grown by eight hundred payments; $after bytes in all, $before before");

    # long answers of many lookups at once leave the C library with free memory
    my $pid = $t->dispatcher_pid;
    my $memory;
    ok(PaymentTest::wait_until(sub { ($memory = memory_of($pid)) < 14_000 }, 60), 'what is free is given back')
      or diag("$memory kB");
};

subtest 'no secret and no card number gets into the log or a table' => sub {
    my $offset = $t->log_offset;
    chomp(my $key = slurp_file($t->secrets_dir . '/sandbox'));
    my $card = '4242424242424242';
    # a PSP that quotes all it got, and worse
    my $port = $t->start_peer(
        sub {
            my ($method, $path, $headers) = @_;
            my $quoted = join ' ', @$headers;
            $quoted =~ s/["\\]//g;
            return ('500 Oops', [], qq({"error": {"type": "api_error", "code": "$card", "message": "$quoted $card"}}))
              if $path =~ /limit=|created/ || $method eq 'GET';
            return ('401 No', [], qq({"error": {"type": "x$key", "code": "key_$key", "message": "$quoted"}}));
        });
    $t->register_psp('sandbox', base_url => "http://127.0.0.1:$port", settings => { breaker_failures => 3 });
    $t->configure('log_min_messages' => 'debug1', 'log_error_verbosity' => 'verbose');
    # a new dispatcher has reported nothing yet
    $t->kill_dispatcher('TERM');
    pay(10, 'pm_card_visa');
    $t->wait_for(q(SELECT breaker_state = 'open' FROM payment.psp_status), what => 'the breaker');
    $t->sql(q(UPDATE payment.task SET step = 'lookup', run_at = now(); SELECT payment.wake_worker()));
    $t->wait_for(q(SELECT count(*) > 0 FROM payment.attempt WHERE step = 'lookup' AND error_code = '[redacted]'),
        what => 'a lookup that quotes the card');
    $t->wait_for(q(SELECT last_failure IS NOT NULL FROM payment.psp_status));
    my $log = $t->log_since($offset);
    like($log, qr/a request to PSP "sandbox" failed: /, 'failures are logged');
    unlike($log, qr/\Q$key\E/, 'without the key');
    unlike($log, qr/$card/, 'without the card number');
    my @held = map { $t->sql("SELECT count(*) FROM payment.$_ AS x WHERE x::text LIKE '%$key%' OR x::text LIKE '%$card%'") }
      qw(attempt task psp_status circuit_breaker worker_status status_history order_record);
    is("@held", '0 0 0 0 0 0 0', 'nor does any table have either');
    $t->stop_peer($port);
    $t->register_psp('sandbox', settings => { breaker_failures => 10 });
    $t->call('reset_breaker', psp => 'sandbox');
    $t->sql(q(UPDATE payment.task SET run_at = now(); SELECT payment.wake_worker()));
    $t->wait_until_idle;
    $t->books_agree('and all are paid once in the end');
};

$t->finish;
