# The sandbox PSP's events at Stripe: what is told, how it is signed, and what goes wrong on the way.

use strict;
use warnings;

use Digest::SHA qw(hmac_sha256_hex);
use FindBin;
use JSON::PP;
use Test::More;
use Time::HiRes qw(sleep time);

use lib "$FindBin::RealBin/../lib";
use SandboxTest;
use WebhookReceiver;

my $json = JSON::PP->new->utf8;

sub write_file
{
    my ($name, @lines) = @_;
    open my $out, '>', path_of("$name.part") or die "$name: $!";
    print {$out} "$_\n" foreach @lines;
    close $out;
    rename path_of("$name.part"), path_of($name) or die "$name: $!";
    return path_of($name);
}

sub outbox { my ($after) = @_; return @{ get('/_sandbox/notifications?after=' . ($after // 0))->{json}{notifications} } }

# Types of all events since, or the events about one object.
sub types { my ($after) = @_; return [ map { $_->{event} } outbox($after) ] }

sub since
{
    my ($work) = @_;
    my $after = get('/_sandbox/notifications?limit=1')->{json}{count};
    $work->();
    return types($after);
}

sub wait_for_types
{
    my ($after, $want, $name) = @_;
    wait_until(sub { @{ types($after) } >= @$want }, $name);
    is_deeply(types($after), $want, $name);
    return;
}

sub signatures_of
{
    my ($header) = @_;
    my ($time) = $header =~ /^t=(\d+),/;
    return ($time, $header =~ /,v1=([0-9a-f]{64})/g);
}

my $secrets = write_file('secrets', 'whsec_one');
my $receiver = WebhookReceiver->new(path_of('hook'));
start('--stripe-webhook-secret-file', $secrets, '--processing-delay-ms', 150, '--modification-delay-ms', 100,
    '--payout-delay-ms', 100, '--payout-return-delay-ms', 100, '--authorization-lifetime-s', 1, '--book', path_of('book'));

subtest 'what is told' => sub {
    my $paid;
    is_deeply(since(sub { $paid = pay()->{json} }),
        [qw(payment_intent.created charge.succeeded payment_intent.succeeded)], 'a payment');
    my $event = (outbox())[2]{body};
    is_deeply([ @$event{qw(object type api_version)}, !!$event->{livemode} ], [ 'event', 'payment_intent.succeeded', '2024-06-20', !!0 ],
        'the event');
    like($event->{id}, qr/^evt_\w{24}$/, 'its id');
    cmp_ok(abs($event->{created} - time), '<', 30, 'its time');
    is_deeply($event->{data}{object}, get(INTENTS . "/$paid->{id}")->{json}, 'holds the object as it is shown');
    is_deeply(get("/v1/events/$event->{id}")->{json}, $event, 'and can be asked for');
    is_deeply([ map { $_->{id} } @{ get('/v1/events?type=payment_intent.succeeded')->{json}{data} } ], [ $event->{id} ], 'or listed');
    is(get('/v1/events/evt_unknown')->{status}, 404, 'an unknown one');

    is_deeply(since(sub { pay({ payment_method => 'pm_card_chargeDeclined' }) }),
        [qw(payment_intent.created charge.failed payment_intent.payment_failed)], 'a decline');
    is_deeply(since(sub { pay({ payment_method => 'pm_card_authenticationRequired' }) }),
        [qw(payment_intent.created payment_intent.requires_action)], '3-D Secure');
    is_deeply(since(sub { my $id = pay({ confirm => undef, payment_method => undef })->{json}{id}; post(INTENTS . "/$id/cancel", []) }),
        [qw(payment_intent.created payment_intent.canceled)], 'canceled');
    is_deeply(
        since(sub { my $id = pay({ capture_method => 'manual' })->{json}{id}; post(INTENTS . "/$id/capture", [ amount_to_capture => 7 ]) }),
        [qw(payment_intent.created charge.succeeded payment_intent.amount_capturable_updated charge.captured payment_intent.succeeded)],
        'authorised and captured');
    is_deeply(since(sub { post('/v1/refunds', [ payment_intent => $paid->{id}, amount => 10 ]) }),
        [qw(refund.created charge.refunded)], 'refunded');

    my $count = sub { get('/_sandbox/notifications?limit=1')->{json}{count} };
    my $after = $count->();
    pay({ payment_method => 'pm_sandbox_processing_fails' });
    wait_for_types($after, [qw(payment_intent.created charge.pending payment_intent.processing charge.failed payment_intent.payment_failed)],
        'processing');
    $after = $count->();
    post('/v1/refunds', [ payment_intent => $paid->{id}, amount => 10, 'metadata[sandbox]' => 'fail_later' ]);
    wait_for_types($after, [qw(refund.created charge.refunded charge.refund.updated refund.failed)], 'a refund that fails');
    $after = $count->();
    payout({ destination => 'ba_sandbox_return_1' });
    wait_for_types($after, [qw(payout.created payout.updated payout.paid payout.failed)], 'a payout that comes back');
    $after = $count->();
    pay({ capture_method => 'manual' });
    wait_for_types($after, [qw(payment_intent.created charge.succeeded payment_intent.amount_capturable_updated charge.expired payment_intent.canceled)],
        'an authorisation that expires');
    is(scalar(grep { $_->{attempts} } outbox()), 0, 'nothing was sent so far');
};

subtest 'signatures' => sub {
    post('/_sandbox/notifications', [ psp => 'stripe', url => $receiver->url('/webhooks/stripe') ]);
    my @told = outbox();
    wait_until(sub { $receiver->all >= @told }, 'all are sent');
    my @got = $receiver->all;
    is_deeply([ map { $json->decode($_->{body})->{id} } @got ], [ map { $_->{body}{id} } @told ], 'in order');
    is_deeply([ @{ $got[0] }{qw(method path)}, $got[0]{headers}{'content-type'} ], [ 'POST', '/webhooks/stripe', 'application/json' ], 'posted');
    my ($time, @signatures) = signatures_of($got[0]{headers}{'stripe-signature'});
    is_deeply(\@signatures, [ hmac_sha256_hex("$time.$got[0]{body}", 'whsec_one') ], 'signed with the secret');
    cmp_ok(abs($time - time), '<', 30, 'at the time of sending');

    write_file('secrets', 'whsec_one', 'whsec_two');
    pay();
    wait_until(sub { $receiver->all >= @told + 3 }, 'three more');
    my $last = ($receiver->all)[-1];
    ($time, @signatures) = signatures_of($last->{headers}{'stripe-signature'});
    is_deeply(\@signatures, [ map { hmac_sha256_hex("$time.$last->{body}", "whsec_$_") } qw(one two) ], 'with both while they are rotated');
    my $number = (outbox())[-1]{number};
    my $shown = get("/_sandbox/notifications/$number");
    is($shown->{content}, $last->{body}, 'the body, byte for byte');
    ($time, @signatures) = signatures_of($shown->{headers}{'stripe-signature'});
    is($signatures[1], hmac_sha256_hex("$time.$shown->{content}", 'whsec_two'), 'with a fresh signature');
};

subtest 'what goes wrong on the way' => sub {
    my $ids = sub { my ($from) = @_; my @all = $receiver->all; return [ map { $json->decode($_->{body})->{id} } @all[ $from .. $#all ] ] };
    my $sent = $receiver->all;
    my $first = get('/_sandbox/notifications?limit=1')->{json}{count};
    faults(webhook_lost => 'next:1');
    pay();
    my ($lost, @kept) = outbox($first);
    wait_until(sub { $receiver->all >= $sent + 2 }, 'two of three');
    ok($lost->{lost}, 'one is lost');
    is_deeply($ids->($sent), [ map { $_->{body}{id} } @kept ], 'the others arrive');
    post('/_sandbox/notifications', [ resend => $lost->{number} ]);
    wait_until(sub { $receiver->all >= $sent + 3 }, 'resent');
    is($ids->($sent)->[2], $lost->{body}{id}, 'until it is sent again');

    $sent = $receiver->all;
    faults(webhook_reorder => 'next:1');
    pay();
    wait_until(sub { $receiver->all >= $sent + 3 }, 'three');
    my @id = map { $_->{body}{id} } outbox($first + 3);
    is_deeply($ids->($sent), [ @id[ 1, 0, 2 ] ], 'one is overtaken');

    $sent = $receiver->all;
    faults(webhook_duplicate => 100);
    pay();
    wait_until(sub { $receiver->all >= $sent + 6 }, 'six');
    @id = map { $_->{body}{id} } outbox($first + 6);
    my %times;
    $times{$_}++ foreach @{ $ids->($sent) };
    is_deeply(\%times, { map { ($_ => 2) } @id }, 'each is sent twice');

    faults(reset => 1, webhook_delay_ms => 400);
    $sent = $receiver->all;
    my $began = time;
    pay();
    wait_until(sub { $receiver->all >= $sent + 3 }, 'three');
    cmp_ok(time - $began, '>=', 0.4, 'later');
    faults(reset => 1);

    $sent = $receiver->all;
    $receiver->answer_with(500);
    pay();
    wait_until(sub { $receiver->all >= $sent + 3 }, 'refused');
    $receiver->answer_with(204);
    wait_until(sub { !grep { !$_->{delivered} } outbox($first + 12) }, 'sent until they are taken');
    my ($retried) = grep { $_->{attempts} > 1 } outbox($first + 12);
    my @times = map { (signatures_of($_->{headers}{'stripe-signature'}))[0] }
      grep { $json->decode($_->{body})->{id} eq $retried->{body}{id} } $receiver->all;
    cmp_ok($times[-1], '>=', $times[0], 'signed anew each time');

    $sent = $receiver->all;
    my $body = '{"id":"evt_other","object":"event","account":"acct_other"}';
    post('/_sandbox/notifications', [ psp => 'stripe', event => 'made.up', body => $body ]);
    wait_until(sub { $receiver->all > $sent }, 'made up');
    my $made_up = ($receiver->all)[-1];
    my ($time, @signatures) = signatures_of($made_up->{headers}{'stripe-signature'});
    is_deeply([ $made_up->{body}, $signatures[0] ], [ $body, hmac_sha256_hex("$time.$body", 'whsec_one') ], 'what a test says, signed');
    is(post('/_sandbox/notifications', [ event => 'made.up', body => $body ])->{status}, 400, 'not without a PSP');
    is(post('/_sandbox/notifications', [ psp => 'nobody' ])->{status}, 400, 'nor for an unknown one');
};

subtest 'a book that outlives kill -9' => sub {
    post('/_sandbox/notifications', [ url => '' ]);
    my $before = get('/_sandbox/notifications?limit=1')->{json}{count};
    faults(webhook_lost => 'next:1', webhook_duplicate => 'next:1');
    pay();
    stop('KILL');
    my $sent = $receiver->all;
    start('--stripe-webhook-url', $receiver->url, '--book', path_of('book'));
    wait_until(sub { $receiver->all >= $sent + 2 }, 'what was not sent');
    ok(!exists +($receiver->all)[-1]{headers}{'stripe-signature'}, 'not signed without a secret');
    is_deeply([ map { !!$_->{lost} } outbox($before) ], [ !!1, !!0, !!0 ], 'the lost one stays lost');
    is(stop(), 0, 'stopped');
    start();
    pay();
    is(get('/_sandbox/notifications')->{json}{count}, 0, 'nothing is kept for nobody');
    is(stop(), 0, 'stopped');
};

finish();
