# A payment at the PSP's page, over the wire: worker, sandbox and gateway together, the payer's browser played by
# plain forms.  Only a webhook or a look at the session says that somebody has paid.
use strict;
use warnings;

use GatewayTest qw(gateway_program);
use HTTP::Tiny;
use PaymentTest;
use Test::More;

plan(skip_all => 'no gateway to test: "make gateway" builds it') if !-x gateway_program();

my $browser = HTTP::Tiny->new(max_redirect => 0, timeout => 30);
my $shop = 'http://127.0.0.1:1';
my $t = PaymentTest->new('hosted');
my $secret = 'whsec_' . join '', map { int rand 10 } 1 .. 24;
$t->write_secret('hook', $secret . "\n");
my $gateway = GatewayTest->new($t);
PaymentTest::wait_until(sub { ($gateway->get('/healthz'))[0] == 200 }, 60);
my @webhooks = ('--stripe-webhook-url', sprintf('http://127.0.0.1:%d/webhooks/sandbox', $gateway->port),
    '--stripe-webhook-secret-file', $t->secrets_dir . '/hook');
$t->start_sandbox({ flags => \@webhooks });
$t->register_seller('alice');

# polls so rare that only webhooks can tell, or so frequent that they do
sub use_psp
{
    my ($poll_interval_ms) = @_;
    $t->register_psp('sandbox', webhook_secret_names => '{hook}', settings => { poll_interval_ms => $poll_interval_ms });
    return;
}

sub checkout
{
    my ($key, %hosted) = @_;
    my ($payment, $order) = $t->checkout($key, ['alice 1000 EUR'], payment_method => undef, psp => 'sandbox',
        hosted => { success_url => "$shop/ok?session={CHECKOUT_SESSION_ID}", cancel_url => "$shop/cancel", %hosted });
    $t->wait_for("SELECT status = 'awaiting_customer' FROM payment.payment WHERE id = '$payment'");
    my $url = $t->sql("SELECT hosted_url FROM payment.payment WHERE id = '$payment'");
    return { payment => $payment, order => $order, url => $url };
}

sub submit
{
    my ($url, $field, $value) = @_;
    return $browser->post_form($url, { $field => $value });
}

sub captured_once
{
    my ($paid, $name) = @_;
    $t->wait_for("SELECT status = 'captured' FROM payment.payment_order WHERE id = '$paid->{order}'");
    is($t->sql("SELECT status || ' ' || succeeded_count FROM payment.payment WHERE id = '$paid->{payment}'"), 'succeeded 1', "$name: the payment has succeeded");
    is($t->sql("SELECT count(*) FROM payment.journal WHERE kind = 'capture' AND subject = '$paid->{order}'"), 1, "$name: posted once");
    like($t->sql("SELECT psp_reference FROM payment.payment_order WHERE id = '$paid->{order}'"), qr/^pi_/, "$name: under the charge's name");
    is($t->sql("SELECT hosted_url IS NULL FROM payment.payment WHERE id = '$paid->{payment}'"), 't', "$name: and there is no page any more");
    return;
}

use_psp(3_600_000);
subtest 'paid, told by a webhook' => sub {
    my $paid = checkout('webhook', locale => 'de', expires_in_s => 3600);
    like($paid->{url}, qr{^http://127\.0\.0\.1:\d+/pay/}, 'there is an address to go to');
    my $page = $browser->get($paid->{url});
    is($page->{status}, 200, 'the page is there');
    like($page->{content}, qr/10\.00 EUR/, 'with the amount');
    my $declined = submit($paid->{url}, 'card', 'pm_card_chargeDeclined');
    is($declined->{status}, 422, 'a card is declined');
    $t->wait_for(q(SELECT count(*) > 0 FROM payment.webhook_event WHERE type = 'payment_intent.payment_failed' AND state = 'applied'));
    is($t->status_of($paid->{order}), 'requires_action', 'which is told and ends nothing: another one may be tried');
    my $done = submit($paid->{url}, 'card', 'pm_card_visa');
    is($done->{status}, 303, 'another is taken');
    like($done->{headers}{location}, qr{^\Q$shop\E/ok\?session=cs_}, 'and the payer sent back');
    captured_once($paid, 'webhook');
    unlike($t->history_of($paid->{order}), qr/declined/, 'the declined card left no trace in the order');
};

subtest '3-D Secure' => sub {
    my $paid = checkout('secure');
    my $bank = submit($paid->{url}, 'card', 'pm_card_authenticationRequired');
    is($bank->{status}, 303, 'the bank asks');
    like($bank->{headers}{location}, qr{/authenticate$}, 'on a page of its own');
    my $at = $bank->{headers}{location};
    $at = $paid->{url} . '/authenticate' if $at !~ /^http/;
    is(submit($at, 'result', 'fail')->{status}, 422, 'who does not confirm has not paid');
    is($t->status_of($paid->{order}), 'requires_action', 'and may try again');
    submit($paid->{url}, 'card', 'pm_card_authenticationRequired');
    is(submit($at, 'result', 'ok')->{status}, 303, 'who does is sent back');
    captured_once($paid, '3-D Secure');
};

subtest 'S30 the redirect proves nothing' => sub {
    my $paid = checkout('redirect');
    my ($session) = $t->sql("SELECT psp_reference FROM payment.hosted_page WHERE order_id = '$paid->{order}'");
    $browser->get("$shop/ok?session=$session");
    like($browser->get($paid->{url})->{content}, qr{\Q$shop\E/cancel}, 'there is a way back');
    $browser->get("$shop/cancel");
    use_psp(200);
    $t->sql("UPDATE payment.task SET run_at = now() WHERE object_id = '$paid->{order}'");
    $t->wait_for("SELECT count(*) >= 3 FROM payment.attempt WHERE object_id = '$paid->{order}' AND step = 'lookup' AND outcome IS NOT NULL",
        what => 'three looks at the session');
    is($t->status_of($paid->{order}), 'requires_action', 'S30 nobody has paid');
    is($t->sql("SELECT count(*) FROM payment.journal WHERE subject = '$paid->{order}'"), 0, 'S30 nothing is posted');
};

subtest 'S29 the webhook is lost' => sub {
    $gateway->stop;
    my $paid = checkout('lost');
    submit($paid->{url}, 'card', 'pm_card_visa');
    captured_once($paid, 'S29');
    like($t->history_of($paid->{order}), qr/captured/, 'S29 found by a look at the session');
    is($t->sql("SELECT cause FROM payment.status_history WHERE object_id = '$paid->{order}' AND to_status = 'captured'"), 'lookup', 'S29 not by a webhook');
};

subtest 'expired' => sub {
    $t->stop_sandbox;
    $t->start_sandbox({ flags => [ '--session-lifetime-s', 2 ] });
    use_psp(200);
    my $late = checkout('expired');
    $t->wait_for("SELECT status = 'expired' FROM payment.payment_order WHERE id = '$late->{order}'");
    is($t->sql("SELECT status FROM payment.payment WHERE id = '$late->{payment}'"), 'expired', 'the payment, too');
    is($browser->get($late->{url})->{status}, 410, 'the page is gone');
    is($t->sql("SELECT count(*) FROM payment.task WHERE object_id = '$late->{order}'"), 0, 'nothing is left to do');
};

$t->finish;
