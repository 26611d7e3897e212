# PayPal's webhooks, which only PayPal can tell from forged ones: through the
# gateway, asked about by the worker, and applied once whatever is lost.
use strict;
use warnings;

use AdapterTest;
use GatewayTest qw(gateway_program);
use IO::Select;
use IO::Socket::INET;
use PaymentTest;
use Test::More;

use constant { VERIFY => '/v1/notifications/verify-webhook-signature', HOOK => '2WEBHOOK', CARD => '4242424242424242' };

plan(skip_all => 'no gateway to test: "make gateway" builds it') if !-x gateway_program();

my $t = PaymentTest->new('paypal_webhook');
$t->configure('payment.webhook_verify_delay_ms' => 100);
my $gateway = GatewayTest->new($t);
$t->start_sandbox({ flags => [ '--processing-delay-ms' => 100, '--paypal-webhook-id' => HOOK,
    '--paypal-webhook-url' => 'http://127.0.0.1:' . $gateway->port . '/webhooks/paypal' ] });
chomp(my $key = PaymentTest::slurp_file($t->secrets_dir . '/sandbox'));
$t->write_secret('paypal', "sandbox:$key\n");
$t->register_seller('alice');

# nothing is polled within the test's time: what is known was told
my %patient = (poll_interval_ms => 600_000, lookup_delay_ms => 600_000, config => { webhook_id => HOOK });
my $paypal = AdapterTest->new(
    $t,
    psp      => 'paypal',
    path     => '/v2/checkout/orders',
    method   => 'sandbox_pending',
    register => { adapter => 'paypal', secret_name => 'paypal', settings => \%patient });

sub asked { return scalar $t->requests_for('POST', VERIFY) }
sub unverified { return $t->sql('SELECT count(*) FROM payment.webhook_unverified') }

sub wait_for_nothing_unverified
{
    return $t->wait_for('SELECT NOT EXISTS (SELECT FROM payment.webhook_unverified)', what => 'PayPal to be asked about all');
}

sub wait_for_status
{
    my ($order, $status) = @_;
    return $t->wait_for("SELECT status = '$status' FROM payment.payment_order WHERE id = '$order'", what => "the order to be $status");
}

# what became of the webhooks about an order, in the order in which they came
sub told
{
    my ($order) = @_;
    return $t->sql("SELECT string_agg(type || ' ' || state || coalesce(' ' || effect, ''), ', ' ORDER BY id)
        FROM payment.webhook WHERE object_id = '$order'");
}

sub is_applied_once
{
    my ($order, $name) = @_;
    is($t->sql("SELECT count(*) FROM payment.journal WHERE subject = '$order'"), '1', "$name: one journal");
    is($t->sql("SELECT count(*) FROM payment.webhook WHERE object_id = '$order' AND type = 'PAYMENT.CAPTURE.COMPLETED'"), '1',
        "$name: one event");
    $t->charged_once($order, "$name: one charge");
    return;
}

sub rejections
{
    return $t->sql(q(SELECT string_agg(DISTINCT reason || ' ' || http_status, ', ' ORDER BY reason || ' ' || http_status) FROM payment.webhook_rejection));
}

# a webhook of anybody's
sub post
{
    my ($body, %header) = @_;
    my %all = ('PayPal-Auth-Algo' => 'SHA256withRSA', 'PayPal-Cert-Url' => 'https://api.paypal.com/cert', 'PayPal-Transmission-Id' => 'tr-1',
        'PayPal-Transmission-Sig' => 'c2ln', 'PayPal-Transmission-Time' => '2026-01-01T00:00:00Z', %header);
    return ($gateway->post('paypal', { body => $body, header => join "\r\n", map { "$_: $all{$_}" } sort keys %all }))[0];
}

subtest 'what PayPal vouches for is evidence' => sub {
    my $order = $paypal->pay('told');
    wait_for_status($order, 'captured');
    wait_for_nothing_unverified();
    is($t->history_of($order), 'created executing pending captured', 'pending, then captured');
    is_deeply($paypal->attempts($order), ['send pending'], 'by the webhook alone');
    like(told($order), qr/PAYMENT\.CAPTURE\.COMPLETED applied applied/, 'which was applied');
    is_applied_once($order, 'told');
};

subtest 'S22 told twice' => sub {
    $t->faults(webhook_duplicate => 100);
    my $order = $paypal->pay('twice');
    wait_for_status($order, 'captured');
    PaymentTest::wait_until(sub { asked() >= 6 }, 60) or die 'never told twice';
    wait_for_nothing_unverified();
    is_applied_once($order, 'S22 twice');
    $t->faults(webhook_duplicate => 0);
};

subtest 'S26 forged' => sub {
    my $tables = q(SELECT concat_ws(' ', (SELECT count(*) FROM payment.webhook_event), (SELECT count(*) FROM payment.webhook_key),
        (SELECT count(*) FROM payment.webhook_waiting), (SELECT count(*) FROM payment.webhook_unverified),
        (SELECT count(*) FROM payment.status_history), (SELECT count(*) FROM payment.journal), (SELECT count(*) FROM payment.exception_record)));
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 5) or die "listen: $!";
    my $certificate = 'http://127.0.0.1:' . $listener->sockport . '/certificate';
    $paypal->register(poll_interval_ms => 600_000);
    my $before = $t->sql($tables);
    my $count = asked();
    is(post('{"id":"WH-forged","event_type":"PAYMENT.CAPTURE.COMPLETED","resource":{"status":"COMPLETED"}}', 'PayPal-Cert-Url' => $certificate),
        200, 'S26 answered as any other');
    PaymentTest::wait_until(sub { asked() > $count }, 60) or die 'PayPal is not asked';
    wait_for_nothing_unverified();
    is(rejections(), 'bad_signature 401', 'S26 PayPal says that it is none of its own');
    is($t->sql($tables), $before, 'S26 no other table has anything of it');
    is(scalar IO::Select->new($listener)->can_read(0), undef, 'S26 and nobody looked for its certificate');
    is(asked(), $count + 1, 'S26 PayPal is asked once');

    $t->faults(webhook_forged => 100);
    my $order = $paypal->pay('forged');
    $t->wait_for("SELECT status = 'pending' FROM payment.payment_order WHERE id = '$order'", what => 'pending');
    PaymentTest::wait_until(sub { asked() >= $count + 3 }, 60) or die 'PayPal is not asked';
    wait_for_nothing_unverified();
    is($t->status_of($order), 'pending', 'S26 what is not signed by PayPal moves no order');
    $t->faults(webhook_forged => 0);
    $t->sql("UPDATE payment.task SET run_at = now() WHERE object_id = '$order'");
    $t->sql('SELECT payment.wake_worker()');
    wait_for_status($order, 'captured');
};

subtest 'S74 a card number' => sub {
    my $count = asked();
    is(post(sprintf '{"id":"WH-card","event_type":"x","resource":{"note":"%s"}}', CARD), 400, 'S74 is refused');
    is(unverified(), '0', 'S74 not kept');
    is(asked(), $count, 'S74 nor sent on');
    like(rejections(), qr/card_number 400/, 'S74 and the log of rejections says why');
};

subtest 'PayPal is down for a while' => sub {
    $paypal->register(breaker_failures => 3, breaker_pause_ms => 300, breaker_pause_max_ms => 300);
    $t->faults(webhook_delay_ms => 1500);
    my @orders = map { $paypal->pay("down $_") } 1 .. 4;
    wait_for_status($_, 'pending') foreach @orders;
    my $count = asked();
    $t->faults(error_500_before => 100, webhook_delay_ms => 0);
    ok(PaymentTest::wait_until(sub { asked() >= $count + 6 }, 60), 'it is asked again and again');
    isnt(unverified(), '0', 'webhooks wait');
    is($t->sql(q(SELECT count(*) FROM payment.circuit_breaker WHERE state <> 'closed')),
        0, 'payments go on: strangers may send webhooks, and so open and close no breaker');
    $t->faults(error_500_before => 0);
    wait_for_status($_, 'captured') foreach @orders;
    wait_for_nothing_unverified();
    is_applied_once($_, 'in the end') foreach @orders;
    $paypal->register;
};

subtest 'S05 the worker is killed while PayPal answers' => sub {
    $paypal->register(timeout_ms => 1000);
    $t->faults(webhook_delay_ms => 1500);
    my $order = $paypal->pay('killed');
    wait_for_status($order, 'pending');
    my $count = asked();
    $t->faults(hang_after => 100, hang_ms => 900, webhook_delay_ms => 0);
    PaymentTest::wait_until(sub { asked() > $count }, 60) or die 'never asked';
    $paypal->kill_worker;
    $t->faults(hang_after => 0);
    wait_for_status($order, 'captured');
    wait_for_nothing_unverified();
    cmp_ok(asked(), '>', $count + 1, 'S05 PayPal is asked again');
    is_applied_once($order, 'S05 killed');
    $paypal->register;
};

subtest 'a card that was declined, and a payout' => sub {
    my $declined = $paypal->pay('declined', payment_method => 'sandbox_pending_fails');
    wait_for_status($declined, 'declined');
    is_deeply($paypal->attempts($declined), ['send pending'], 'told by a webhook alone');
    $t->not_charged($declined, 'charged nothing');
};

my $log = PaymentTest::slurp_file($t->log_file);
is(($log =~ /${\CARD}|\Q$key\E/ ? 1 : 0), 0, 'S74 the log has no secret and no card number');
is($t->sql('SELECT * FROM payment.verify() LIMIT 10'), '', 'the books are in order');
$gateway->stop;
$t->finish;
