# The sandbox PSP under hostile input, many connections, and when it is told to stop.

use strict;
use warnings;

use FindBin;
use IO::Select;
use Test::More;
use Time::HiRes qw(sleep time);

use lib "$FindBin::RealBin/../lib";
use SandboxTest;

subtest 'hostile input' => sub {
    start();
    my $alive = sub { my ($what) = @_; is(get('/_sandbox/healthz')->{status}, 200, "alive after $what") };
    my $body = sub { my ($content) = @_; return request('POST', INTENTS, content => $content) };

    is($body->('description=' . 'x' x (2 * 1024 * 1024))->{status}, 413, 'a body of 2 MiB');
    $alive->('a large body');
    my ($got, $end) = raw(raw_request(INTENTS, 'y' x (24 * 1024 * 1024)));
    ok($end eq 'closed' || $end eq 'reset' || $got =~ m{^HTTP/1.1 413}, 'a body of 24 MiB');
    $alive->('a huge body');
    foreach my $bad ('amount=%', 'amount=%4', 'amount=%zz', 'amount=%00', '%ff=1', 'description=%c3%28',
        'description=%ed%a0%80', 'description=%c0%af', "description=\xff", "amount=1\x00")
    {
        is_error($body->($bad), 400, 'invalid_request_error', undef, undef, 'bad encoding: ' . encode($bad));
    }
    is_error($body->(join '&', map { "p$_=1" } 1 .. 5000),
        400, 'invalid_request_error', undef, undef, 'thousands of parameters');
    is($body->('&' x 100000)->{json}{error}{code}, 'parameter_missing', 'nothing but ampersands');
    is($body->('=' x 1000)->{status}, 400, 'nothing but equal signs');
    is($body->('[' x 1000 . '=1')->{status}, 400, 'brackets without end');
    is($body->('metadata[=1&amount=1&currency=usd')->{json}{error}{code}, 'parameter_unknown', 'half a bracket');
    is($body->('metadata[]=1&amount=1&currency=usd')->{status}, 400, 'an empty metadata key');

    ($got, $end) = raw(raw_request(INTENTS, 'amount=1', 'X-Long' => 'h' x 100000));
    ok($got =~ m{^HTTP/1.1 4\d\d} || $got eq '', 'an overlong header');
    $alive->('an overlong header');
    ($got, $end) = raw('GET /v1/' . 'p' x 100000 . " HTTP/1.1\r\nHost: x\r\n\r\n");
    ok($got =~ m{^HTTP/1.1 4\d\d} || $got eq '', 'an overlong URL');
    ($got, $end) = raw('GET /' . 'a/' x 10000 . " HTTP/1.1\r\nHost: x\r\n\r\n");
    ok($got =~ m{^HTTP/1.1 4\d\d} || $got eq '', 'a deep URL');
    srand 1;
    foreach my $n (1 .. 20)
    {
        ($got, $end) = raw(join('', map { chr int rand 256 } 1 .. 2000) . "\r\n\r\n");
        ok($end ne 'timeout', "garbage $n ends") or last;
    }
    foreach my $text (
        "\r\n\r\n\r\n\r\n", "GET\r\n\r\n", "POST @{[INTENTS]} HTTP/1.1\r\nContent-Length: -5\r\nHost: x\r\n\r\n",
        "POST @{[INTENTS]} HTTP/1.1\r\nContent-Length: 99999999999999999999\r\nHost: x\r\n\r\n",
        "POST @{[INTENTS]} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    {
        my $socket = raw_socket();
        print {$socket} $text;
        shutdown $socket, 1;
        my $select = IO::Select->new($socket);
        ok($select->can_read(10), 'ends: ' . encode(substr $text, 0, 60));
        close $socket;
    }
    $alive->('garbage');
    # Half a request, and then nothing.
    my @half = map { raw_socket() } 1 .. 50;
    print {$_} raw_request(INTENTS, 'amount=1') =~ s/amount=1\z/amo/r foreach @half;
    $alive->('half requests');
    close $_ foreach @half;

    my $answer = request('GET', '/v1/payment_intents/%22%5C%0a', headers => {});
    is($answer->{status}, 404, 'an id that needs escaping');
    $answer = pay({ 'metadata[k"\\]' => "\x01\x1f\x7f\"\\</script>\xe2\x80\xa8" });
    is($answer->{json}{metadata}{'k"\\'}, "\x01\x1f\x7f\"\\</script>\x{2028}", 'characters that JSON escapes');
    is_deeply([ sort keys %{ book() } ], ['usd'], 'no charge came of all that');
    is(book()->{usd}{charges_succeeded}, 1, 'but the last');
    is(stop(), 0, 'stopped');
};

subtest 'many connections' => sub {
    start('--max-connections', 400);
    my @sockets = map { raw_socket() } 1 .. 250;
    my $ok = 0;
    foreach my $round (1 .. 3)
    {
        my $n = 0;
        foreach my $socket (@sockets)
        {
            my $content = 'amount=' . (++$n) . '&currency=usd&payment_method=pm_card_visa&confirm=true';
            print {$socket} raw_request(INTENTS, $content, 'Idempotency-Key' => "many-$round-$n");
            $socket->flush;
        }
        foreach my $socket (@sockets)
        {
            my $got = '';
            until ($got =~ /\r\n\r\n/ && $got =~ /^Content-Length: (\d+)/im && length($got) - index($got, "\r\n\r\n") - 4 >= $1)
            {
                sysread($socket, $got, 65536, length $got) or last;
            }
            $ok++ if $got =~ m{^HTTP/1.1 200 };
        }
    }
    is($ok, 750, '250 connections are kept alive and served');
    is(book()->{usd}{charges_succeeded}, 750, 'each once');
    my @log = csv(get('/_sandbox/requests.csv')->{content});
    is(scalar @log, 750, 'and in the log');
    is_deeply([ @{ $log[0] }{qw(seq method path status executed)} ], [ 1, 'POST', INTENTS, 200, 'yes' ],
        'with what was done');
    is(stop(), 0, 'stops with connections open');
};

subtest 'stopping' => sub {
    start('--fault', 'hang_after=100', '--fault', 'hang_ms=600000');
    my $socket = raw_socket();
    print {$socket} raw_request(INTENTS, 'amount=1&currency=usd');
    wait_until(sub { counts()->{faults}{hang_after} == 1 });
    my $started = time;
    is(stop(), 0, 'stops although an answer is held');
    cmp_ok(time - $started, '<', 5, 'soon');
};

finish();
