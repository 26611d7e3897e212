# The gateway at the edge: what it lets through, what it refuses, and that
# neither slow nor hostile nor very many senders keep it from its work.
use strict;
use warnings;

use Cwd ();
use File::Basename ();
use GatewayTest qw(gateway_program signed signed_by_openssl http);
use IO::Select;
use JSON::PP;
use List::Util qw(shuffle);
use PaymentTest;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;
use Time::HiRes qw(sleep time);

use constant { EVENTS => 4000, CONNECTIONS => 200, FUZZ => 2000 };

plan(skip_all => 'no gateway to test: "make gateway" builds it') if !-x gateway_program();

my $secret = 'whsec_' . join '', map { int rand 10 } 1 .. 24;
my $t = PaymentTest->new('gateway');
$t->start_sandbox;
$t->write_secret('hook', $secret);
$t->register_psp('sandbox', webhook_secret_names => '{hook}');
$t->register_psp('Stripe EU/1', webhook_secret_names => '{hook}');

my $events = 0;

# an event that needs nothing of ours to exist
sub event
{
    my ($id) = @_;
    return encode_json({
        id => $id // sprintf('evt_%d_%d', $$, ++$events), object => 'event', type => 'customer.created',
        api_version => '2024-06-20', created => time() + 0, livemode => JSON::PP::false, data => { object => { id => 'cus_1', object => 'customer' } } });
}

sub stored { return $t->sql('SELECT count(*) FROM payment.webhook_event') }
sub rejected { return $t->sql('SELECT count(*) FROM payment.webhook_rejection') }

sub is_answered
{
    my ($gateway, $text, $status, $name) = @_;
    my ($got) = $gateway->request($text);
    return is($got, $status, $name);
}

my $gateway = GatewayTest->new($t, flags => [ '--request-timeout-ms', 1500, '--verbose' ]);
PaymentTest::wait_until(sub { ($gateway->get('/healthz'))[0] == 200 }, 60);

subtest 'what is signed is stored once' => sub {
    my $message = signed_by_openssl($secret, event('evt_openssl'));
    my ($status, $body) = $gateway->post('sandbox', $message);
    is($status, 200, 'taken');
    is(stored(), 1, 'and stored');
    is(($gateway->post('sandbox', $message))[0], 200, 'S22 the same once more: success');
    is(stored(), 1, 'S22 and one effect');
    is(($gateway->post('Stripe%20EU%2F1', signed($secret, event())))[0], 404, 'a slash belongs to no name in a path');
    is(stored(), 1, 'nothing more');
    my $split = http('/webhooks/sandbox', { body => event() });
    is(($gateway->request($split))[0], 401, 'without a signature it is refused');
};

subtest 'it may do nothing else' => sub {
    my $dbname = $t->database;
    my $as = sub {
        my ($sql) = @_;
        my ($code, undef, $error) = $t->node->psql($dbname, $sql, extra_params => [ '-U', 'gateway' ]);
        return $code == 0 ? 'allowed' : $error =~ /permission denied/ ? 'denied' : $error;
    };
    my @tables = split /\n/, $t->sql(q{SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = 'payment' AND c.relkind IN ('r', 'p', 'v') ORDER BY 1});
    is_deeply([ grep { $as->("SELECT FROM $_ LIMIT 1") ne 'denied' } @tables ], [], 'no table or view is readable');
    is($t->sql(q{SELECT string_agg(p.proname, ' ') FROM pg_proc AS p
        WHERE p.pronamespace = 'payment'::regnamespace AND has_function_privilege('gateway', p.oid, 'EXECUTE')}),
        'receive_webhook', 'one function is callable');
};

subtest 'what it refuses' => sub {
    my ($before, $refused) = (stored(), rejected());
    my $message = signed($secret, event());
    is_answered($gateway, http('/webhooks/nobody', $message), 404, 'a PSP that nobody registered');
    is_answered($gateway, http('/webhooks/', $message), 404, 'no PSP');
    is_answered($gateway, http('/webhooks/%ff', $message), 404, 'a name that is no text');
    is_answered($gateway, http('/elsewhere', $message), 404, 'another path');
    is_answered($gateway, "GET /webhooks/sandbox HTTP/1.1\r\nHost: x\r\n\r\n", 405, 'GET');
    is_answered($gateway, "DELETE /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 405, 'DELETE');
    is_answered($gateway, "POST /webhooks/sandbox HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", 413, 'a large body, announced');
    my $chunk = sprintf("%x\r\n%s\r\n", 65536, 'x' x 65536);
    is_answered($gateway, "POST /webhooks/sandbox HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" . $chunk x 20 . "0\r\n\r\n",
        413, 'a large body in chunks');
    is_answered($gateway, "POST /webhooks/sandbox HTTP/1.1\r\nHost: x\r\n" . join('', map { "X-$_: " . 'y' x 1000 . "\r\n" } 1 .. 60) . "\r\n",
        431, 'large headers');
    is_answered($gateway, http('/webhooks/sandbox', signed('whsec_other', event())), 401, 'S26 a forged signature');
    is_answered($gateway, http('/webhooks/sandbox', signed($secret, event(), time - 3600)), 401, 'S26 an old one');
    is_answered($gateway, http('/webhooks/sandbox', signed($secret, event(), time + 3600)), 401, 'S26 one of the future');
    is_answered($gateway, http('/webhooks/sandbox', signed($secret, 'no JSON')), 400, 'nonsense, signed');
    is_answered($gateway, http('/webhooks/sandbox', signed($secret, '')), 400, 'nothing, signed');
    is(stored(), $before, 'none of it is stored');
    cmp_ok(rejected(), '>', $refused, 'forged ones are in the rejection log');
    is_answered($gateway, http('/webhooks/sandbox', signed($secret, event()), "X-Odd: \xff\xfe", 'X-Quote: "\\'), 200, 'odd headers do no harm');
};

subtest 'slow senders' => sub {
    my $head = "POST /webhooks/sandbox HTTP/1.1\r\nHost: x\r\n";
    my @slow = map { $gateway->socket } 1 .. 40;
    my $started = time;
    my $ended = 0;
    local $SIG{PIPE} = 'IGNORE';
    syswrite $slow[$_], $_ % 2 ? "${head}Content-Length: 100000\r\n\r\n" : $head for 0 .. $#slow;
    while (@slow && time < $started + 30)
    {
        syswrite $_, 'x' for @slow;
        my @gone = grep { my $count = sysread $_, my $bytes, 1000; defined $count && $count == 0 || !defined $count } IO::Select->new(@slow)->can_read(0);
        my %gone = map { $_ => 1 } @gone;
        @slow = grep { !$gone{$_} } @slow;
        $ended += @gone;
        is(($gateway->post('sandbox', signed($secret, event())))[0], 200, 'others are served meanwhile') if $ended == 0 && time > $started + 0.5;
        sleep 0.3;
    }
    is(scalar @slow, 0, 'all are ended, although they send a byte now and then');
};

subtest 'the database goes and comes back' => sub {
    $t->node->stop('fast');
    is(($gateway->post('sandbox', signed($secret, event())))[0], 503, 'without a database: later, please');
    PaymentTest::wait_until(sub { ($gateway->get('/healthz'))[0] == 503 }, 60);
    is(($gateway->get('/healthz'))[0], 503, 'and it says so');
    $t->node->start;
    my $id = 'evt_after_restart';
    PaymentTest::wait_until(sub { ($gateway->post('sandbox', signed($secret, event($id))))[0] == 200 }, 60);
    is($t->sql("SELECT count(*) FROM payment.webhook_event WHERE event_id = '$id'"), 1, 'then it is taken, by the same gateway');
    PaymentTest::wait_until(sub { ($gateway->get('/healthz'))[0] == 200 }, 60);
    is(($gateway->get('/healthz'))[0], 200, 'healthy');
    # an idle connection that ended is noticed, and costs the sender nothing
    $t->sql(q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'gateway'});
    is(($gateway->post('sandbox', signed($secret, event())))[0], 200, 'connections that ended are made anew');
};

is($gateway->stop, 0, 'it stops');
unlike($gateway->log, qr/\Q$secret\E|v1=/, 'no secret, no signature in its log');

subtest 'a database that hangs' => sub {
    my $slow = GatewayTest->new($t, flags => [ '--database-timeout-ms', 700, '--database-connections', 2, '--queue-length', 3, '--stop-timeout-ms', 500 ]);
    PaymentTest::wait_until(sub { ($slow->get('/healthz'))[0] == 200 }, 60);
    my $lock = $t->start_sql('BEGIN; LOCK TABLE payment.psp IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600)');
    $t->wait_for(q{SELECT count(*) > 0 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'payment.psp'::regclass AND granted});
    my $started = time;
    my $status = $slow->flood([ map { [ '/webhooks/sandbox', signed($secret, event()) ] } 1 .. 12 ], 12);
    is(join(' ', @$status), join(' ', (503) x 12), 'all are told to come again');
    $t->wait_for(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE usename = 'gateway' AND state = 'active'});
    is($t->sql(q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'gateway' AND state = 'active'}), 0, 'and nothing goes on in the database');
    $t->sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()});
    eval { $t->finish_sql($lock) };
    PaymentTest::wait_until(sub { ($slow->post('sandbox', signed($secret, event())))[0] == 200 }, 60);
    is(($slow->post('sandbox', signed($secret, event())))[0], 200, 'afterwards it works');
    is($slow->stop, 0, 'and stops');
};

# a frozen server takes connections and answers nothing, not even a cancellation
subtest 'a server that is frozen' => sub {
    my $frozen = GatewayTest->new($t, flags => [ '--database-timeout-ms', 700, '--database-connections', 1 ]);
    PaymentTest::wait_until(sub { ($frozen->get('/healthz'))[0] == 200 }, 60);
    my $lock = $t->start_sql('BEGIN; LOCK TABLE payment.psp IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600)');
    $t->wait_for(q{SELECT count(*) > 0 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'payment.psp'::regclass AND granted});
    my ($postmaster) = slurp_file($t->node->data_dir . '/postmaster.pid') =~ /\A(\d+)/;
    kill 'STOP', $postmaster;
    my @status = map { ($frozen->post('sandbox', signed($secret, event())))[0] // 'none' } 1 .. 3;
    my $stopped = $frozen->stop;
    kill 'CONT', $postmaster;
    is("@status", '503 503 503', 'no request waits for what was cancelled before');
    is($stopped, 0, 'nor does the end');
    $t->sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()});
    eval { $t->finish_sql($lock) };
};

subtest 'a host that is silent' => sub {
    my $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) // die "listen: $!";
    # its backlog is full: it answers no more than a host without power does
    my @waiting = map { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $silent->sockport, Blocking => 0) } 1 .. 8;
    my $node = $t->node;
    my $several = GatewayTest->new(
        $t,
        flags    => [ '--database-timeout-ms', 4000 ],
        database => sprintf "host='127.0.0.1,%s' port=%d,%d dbname='%s' user=gateway",
        $node->host, $silent->sockport, $node->port, $t->database);
    PaymentTest::wait_until(sub { ($several->get('/healthz'))[0] == 200 }, 60);
    is(($several->post('sandbox', signed($secret, event())))[0], 200, 'the next one is asked');
    is($several->stop, 0, 'and it stops');
};

subtest 'very many senders' => sub {
    my $many = GatewayTest->new($t, flags => [ '--database-connections', 8 ]);
    my $before = stored();
    my @messages = map { [ '/webhooks/sandbox', signed($secret, event("evt_flood_$_")) ] } 1 .. EVENTS;
    my @sent = shuffle(@messages, @messages[ 0 .. EVENTS / 10 - 1 ]);
    my $forged = fork // die "fork: $!";
    if (!$forged)
    {
        $many->flood([ map { [ '/webhooks/sandbox', signed('whsec_forged', event("evt_forged_$_")) ] } 1 .. EVENTS / 2 ], 20);
        POSIX::_exit(0);
    }
    my $status = $many->flood([ @sent[ 0 .. $#sent / 4 ] ], CONNECTIONS);
    my $memory = $many->memory_kb;
    push @$status, @{ $many->flood([ @sent[ $#sent / 4 + 1 .. $#sent ] ], CONNECTIONS) };
    waitpid $forged, 0;
    is(scalar(grep { $_ != 200 } @$status), 0, CONNECTIONS . ' senders at once: every event is taken');
    is(stored() - $before, EVENTS, 'each is stored once, one in ten came twice');
    is($t->sql(q{SELECT count(*) FROM payment.webhook_event WHERE event_id LIKE 'evt_forged%'}), 0, 'no forged one is');
    cmp_ok(rejected(), '<=', $t->sql(q{SELECT current_setting('payment.max_webhook_rejections')::bigint}), 'and the rejection log is bounded');
    cmp_ok($many->memory_kb, '<', $memory * 1.3 + 4096, 'memory does not grow');

  SKIP:
    {
        skip('wrk is missing', 2) if system('wrk --version >/dev/null 2>&1') == -1;
        my $script = $t->node->basedir . '/forged.lua';
        open my $out, '>', $script or die "$script: $!";
        print {$out} qq{wrk.method = "POST"\nwrk.body = '{"id":"evt_wrk"}'\nwrk.headers["Stripe-Signature"] = "t=1,v1=00"\n};
        close $out;
        my $report = qx(wrk -t2 -c200 -d5s -s '$script' http://127.0.0.1:@{[ $many->port ]}/webhooks/sandbox 2>&1);
        like($report, qr/requests in/, 'wrk sends forged ones for five seconds') or diag($report);
        is(($many->post('sandbox', signed($secret, event())))[0], 200, 'a true one gets through afterwards');
    }
    is($many->stop, 0, 'it stops');
};

subtest 'stopping with requests under way' => sub {
    my $stopping = GatewayTest->new($t);
    my $lock = $t->start_sql(q{BEGIN; LOCK TABLE payment.psp IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(1.5); COMMIT});
    $t->wait_for(q{SELECT count(*) > 0 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'payment.psp'::regclass AND granted});
    my $socket = $stopping->socket;
    print {$socket} http('/webhooks/sandbox', signed($secret, event('evt_stopping')), 'Connection: close');
    $socket->flush;
    $t->wait_for(q{SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = 'gateway' AND wait_event_type = 'Lock'});
    kill 'TERM', $stopping->pid;
    is((GatewayTest::read_answer($socket))[0], 200, 'it is answered');
    is($stopping->stop, 0, 'before the end');
    $t->finish_sql($lock);
};

# with sanitizers: bytes that a browser, a PSP, or an attacker might send
subtest 'hostile bytes' => sub {
    my $source = File::Basename::dirname(Cwd::realpath(__FILE__)) . '/../../gateway';
    my $program = $t->node->basedir . '/gateway-sanitized';
    my $flags = '-std=gnu11 -pthread -D_GNU_SOURCE -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all';
    my $pg_config = $ENV{PG_CONFIG} // 'pg_config';
    chomp(my $include = qx("$pg_config" --includedir));
    my $log = qx(cc $flags -I '$include' -o '$program' '$source'/*.c -lmicrohttpd -lpq 2>&1);
    plan(skip_all => "cannot build with sanitizers here: $log") if !-x $program;
    my $fuzzed = GatewayTest->new($t, program => $program, flags => [ '--request-timeout-ms', 1000 ],
        environment => { ASAN_OPTIONS => 'detect_leaks=1', UBSAN_OPTIONS => 'print_stacktrace=1' });
    my $seed = srand;
    local $SIG{PIPE} = 'IGNORE';
    my @open;
    for my $round (1 .. FUZZ)
    {
        my $text = http([ '/webhooks/sandbox', '/webhooks/%00', '/webhooks/' . '%41' x rand 100, '/healthz' ]->[ rand 4 ],
            signed($secret, event()), "X-Odd: " . join('', map { chr(32 + rand 224) } 1 .. rand 50));
        for (1 .. rand 6)
        {
            my $at = int rand length $text;
            my $kind = int rand 4;
            substr($text, $at, 1) = chr rand 256 if $kind == 0;
            substr($text, $at, int rand 20) = '' if $kind == 1;
            substr($text, $at, 0) = join '', map { chr rand 256 } 1 .. rand 40 if $kind == 2;
            $text = substr $text, 0, $at if $kind == 3 && rand > 0.5;
        }
        my $socket = $fuzzed->socket;
        syswrite $socket, $text;
        push @open, $socket;
        shift @open if @open > 50;
    }
    @open = ();
    PaymentTest::wait_until(sub { (($fuzzed->post("sandbox", signed($secret, event())))[0] // 0) == 200 }, 60);
    is(($fuzzed->post('sandbox', signed($secret, event())))[0], 200, FUZZ . " damaged requests (seed $seed): it still works");
    is($fuzzed->stop, 0, 'and nothing leaked') or diag($fuzzed->log);
    unlike($fuzzed->log, qr/Sanitizer|runtime error/, 'the sanitizers are silent');
};

$t->finish;
