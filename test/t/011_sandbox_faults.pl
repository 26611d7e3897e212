# What goes wrong at the sandbox PSP when it is told to, and what it keeps of it.

use strict;
use warnings;

use FindBin;
use Test::More;
use Time::HiRes qw(sleep time);

use lib "$FindBin::RealBin/../lib";
use SandboxTest;

start();

subtest 'faults before execution' => sub {
    my $key = new_key();
    faults(rate_limit => 'next:1', retry_after_s => 7);
    my $answer = pay({}, key => $key);
    is_error($answer, 429, 'invalid_request_error', 'rate_limit', undef, 'rate_limit');
    is($answer->{headers}{'retry-after'}, 7, 'Retry-After');
    is(charges_of($key), 0, 'not executed');
    $answer = pay({}, key => $key);
    is($answer->{status}, 200, 'next time it works');
    is($answer->{headers}{'idempotent-replayed'}, undef, 'nothing was stored');

    $key = new_key();
    faults(conflict_409 => 'next:1');
    is_error(pay({}, key => $key), 409, 'idempotency_error', 'idempotency_key_in_use', undef, 'conflict_409');
    is(pay({}, key => $key)->{status}, 200, 'next time it works');

    $key = new_key();
    faults(reset => 'next:1');
    my ($got, $end) = raw_pay($key, 100);
    is_deeply([ $got, $end ], [ '', 'reset' ], 'reset: RST and not a byte');
    is(charges_of($key), 0, 'not executed');
    ($got, $end) = raw_pay($key, 100);
    like($got, qr{^HTTP/1.1 200 }, 'next time it works');
    unlike($got, qr/^Idempotent-Replayed/im, 'nothing was stored');

    $key = new_key();
    faults(error_500_before => 'next:1', should_retry_false => 'next:1');
    $answer = pay({}, key => $key);
    is_error($answer, 500, 'api_error', undef, undef, 'error_500_before');
    is($answer->{headers}{'stripe-should-retry'}, 'false', 'Stripe-Should-Retry: false');
    my $again = pay({}, key => $key);
    is_deeply([ @$again{qw(status content)} ], [ 500, $answer->{content} ], 'stored and replayed');
    is($again->{headers}{'idempotent-replayed'}, 'true', 'and marked so');
    is($again->{headers}{'stripe-should-retry'}, 'false', 'with its header');
    is(charges_of($key), 0, 'not executed');
};

subtest 'faults after execution' => sub {
    my $check = sub {
        my ($key, $status) = @_;
        is(charges_of($key), 1, 'executed once');
        my $again = pay({ amount => 100 }, key => $key);
        is($again->{status}, $status // 200, 'the stored answer');
        is($again->{headers}{'idempotent-replayed'}, 'true', 'is replayed');
        is(charges_of($key), 1, 'still once');
    };

    my $key = new_key();
    faults(lost_answer => 'next:1');
    my ($got, $end) = raw_pay($key, 100);
    is_deeply([ $got, $end ], [ '', 'closed' ], 'lost_answer: closed without a byte');
    $check->($key);

    $key = new_key();
    faults(reset_after => 'next:1');
    ($got, $end) = raw_pay($key, 100);
    is_deeply([ $got, $end ], [ '', 'reset' ], 'reset_after: RST and not a byte');
    $check->($key);

    $key = new_key();
    faults(hang_after => 'next:1', hang_ms => 400);
    my $started = time;
    ($got, $end) = raw_pay($key, 100);
    is_deeply([ $got, $end ], [ '', 'closed' ], 'hang_after: in the end closed without a byte');
    ok(time - $started > 0.39, 'after a while');
    $check->($key);

    $key = new_key();
    faults(error_500_after => 'next:1', should_retry_true => 'next:1');
    my $answer = pay({ amount => 100 }, key => $key);
    is_error($answer, 500, 'api_error', undef, undef, 'error_500_after');
    is($answer->{headers}{'stripe-should-retry'}, 'true', 'Stripe-Should-Retry: true');
    $check->($key, 500);

    $key = new_key();
    faults(truncated_body => 'next:1');
    $answer = pay({ amount => 100 }, key => $key, truncated => 1);
    is($answer->{status}, 200, 'truncated_body');
    is($answer->{headers}{'content-length'}, length $answer->{content}, 'an honest length');
    like($answer->{content}, qr/^\{"id":"pi_/, 'begins like JSON');
    is($answer->{json}, undef, 'but is none');
    $check->($key);

    $key = new_key();
    faults(html_body => 'next:1');
    $answer = pay({ amount => 100 }, key => $key);
    is($answer->{status}, 200, 'html_body');
    like($answer->{headers}{'content-type'}, qr{^text/html}, 'text/html');
    like($answer->{content}, qr/<html>/, 'a page');
    $check->($key);
    is(faults()->{faults}{html_body}{fired}, 1, 'fired once');
};

subtest 'wrong amount and currency' => sub {
    my $before = book();
    my $key = new_key();
    faults(wrong_amount => 'next:1');
    my $answer = pay({ amount => 100 }, key => $key);
    is($answer->{json}{amount}, 101, 'the answer states one unit more');
    is((charges_of($key))[0]{amount}, 101, 'and so does the book');
    is(book()->{usd}{gross} - $before->{usd}{gross}, 101, 'whose totals agree');
    is(pay({ amount => 100 }, key => $key)->{content}, $answer->{content}, 'replayed');

    $key = new_key();
    faults(wrong_currency => 'next:1');
    is(pay({ amount => 100 }, key => $key)->{json}{currency}, 'eur', 'another currency');
    is((charges_of($key))[0]{currency}, 'eur', 'in the book, too');
    faults(wrong_amount => 'next:1');
    is(payout({ amount => 5 })->{json}{amount}, 6, 'payouts likewise');
};

subtest 'lookups, latency, settings' => sub {
    my $id = pay()->{json}{id};
    faults(lookup_down => 'next:2');
    is(get(INTENTS . "/$id")->{status}, 500, 'lookup_down: retrieve');
    is(get(INTENTS)->{status}, 500, 'lookup_down: list');
    is(get(INTENTS . "/$id")->{status}, 200, 'up again');
    is(pay()->{status}, 200, 'POSTs are not concerned');

    my $timed = sub { my $start = time; $_[0]->(); return time - $start };
    faults(latency_ms => '100-140');
    foreach my $case (
        [ 'create', sub { pay({}, key => 'latency') } ],
        [ 'replay', sub { pay({}, key => 'latency') } ],
        [ 'lookup', sub { get(INTENTS . "/$id") } ])
    {
        my $took = $timed->($case->[1]);
        ok($took >= 0.1 && $took < 5, "latency: $case->[0]");
    }
    faults(reset => 1);
    is(faults()->{latency_ms_max}, 0, 'reset=1 clears all');

    # A replay draws no fault of execution.
    my $key = new_key();
    pay({}, key => $key);
    faults(map { ($_ => 100) } qw(lost_answer error_500_before error_500_after rate_limit conflict_409
          hang_after reset_after truncated_body html_body wrong_amount wrong_currency));
    is(pay({}, key => $key)->{status}, 200, 'a replay meets no faults of execution');
    faults(reset => 1);

    foreach my $wrong (
        [ lost_answer => 101 ], [ lost_answer => 'x' ], [ lost_answer => -1 ], [ lost_answer => 'nan' ],
        [ lost_answer => 'next:' ], [ lost_answer => 'next:-1' ], [ lost_answer => '' ],
        [ latency_ms => '5-1' ], [ latency_ms => '600001' ], [ page_latency_ms => '5-1' ], [ hang_ms => 'x' ], [ unknown => 1 ])
    {
        my $answer = post('/_sandbox/faults', [ html_body => 50, @$wrong ]);
        is($answer->{status}, 400, "refused: @$wrong");
    }
    is(faults()->{faults}{html_body}{percent}, 0, 'of a refused form nothing is applied');
};

subtest 'seeded draws' => sub {
    my $kept = sandbox;
    my @runs;
    foreach my $seed (7, 7, 8)
    {
        start('--seed', $seed, '--fault', 'rate_limit=30.5', '--fault', 'error_500_before=20');
        push @runs, join ' ', map { pay()->{status} } 1 .. 60;
        is(stop(), 0, "seed $seed");
    }
    is($runs[0], $runs[1], 'the same seed, the same faults');
    isnt($runs[0], $runs[2], 'another seed, others');
    my $limited = () = $runs[0] =~ /429/g;
    ok($limited > 5 && $limited < 35, "about a third ($limited of 60)");
    use_sandbox($kept);
};

is(stop(), 0, 'stopped');
finish();
