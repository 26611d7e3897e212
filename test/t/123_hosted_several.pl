# Several orders behind one page of the PSP's, and pages that are closed, over the wire: worker, sandbox and gateway together.
use strict;
use warnings;

use GatewayTest qw(gateway_program);
use HTTP::Tiny;
use PaymentTest;
use Test::More;

plan(skip_all => 'no gateway to test: "make gateway" builds it') if !-x gateway_program();

my $browser = HTTP::Tiny->new(max_redirect => 0, timeout => 30);
my $shop = 'http://127.0.0.1:1';
my $t = PaymentTest->new('several');
my $secret = 'whsec_' . join '', map { int rand 10 } 1 .. 24;
$t->write_secret('hook', $secret . "\n");
my $gateway = GatewayTest->new($t);
PaymentTest::wait_until(sub { ($gateway->get('/healthz'))[0] == 200 }, 60);
$t->start_sandbox({ flags => ['--stripe-webhook-url', sprintf('http://127.0.0.1:%d/webhooks/sandbox', $gateway->port),
    '--stripe-webhook-secret-file', $t->secrets_dir . '/hook'] });
$t->register_seller($_) for qw(alice bob carol);

# polls so rare that only webhooks can tell, or so frequent that they do
sub use_psp
{
    my ($poll_interval_ms) = @_;
    $t->register_psp('sandbox', webhook_secret_names => '{hook}',
        settings => { poll_interval_ms => $poll_interval_ms, lookup_delay_ms => 200, backoff_base_ms => 100, backoff_max_ms => 1000 });
    return;
}

sub checkout
{
    my ($key, @orders) = @_;
    @orders = ('alice 1000 EUR', 'bob 2000 EUR', 'carol 3000 EUR') if !@orders;
    my ($payment, @ids) = $t->checkout($key, \@orders, payment_method => undef, psp => 'sandbox',
        hosted => { success_url => "$shop/ok", cancel_url => "$shop/cancel" });
    $t->wait_for("SELECT status = 'awaiting_customer' FROM payment.payment WHERE id = '$payment'");
    my $url = $t->sql("SELECT hosted_url FROM payment.payment WHERE id = '$payment'");
    return { key => $key, payment => $payment, orders => \@ids, url => $url };
}

sub use_card
{
    my ($paid, $card) = @_;
    return $browser->post_form($paid->{url}, { card => $card });
}

sub wait_for_status
{
    my ($paid, $status) = @_;
    $t->wait_for("SELECT status = '$status' FROM payment.payment WHERE id = '$paid->{payment}'", what => "$paid->{key} to be $status");
    return;
}

# every order of it
sub charged_once
{
    my ($paid, $name) = @_;
    $t->charged_once($_, "$name: one charge at the PSP and one journal for each order") for @{ $paid->{orders} };
    nothing_left($paid, $name);
    return;
}

sub not_charged
{
    my ($paid, $name) = @_;
    $t->not_charged($_, "$name: no charge") for @{ $paid->{orders} };
    nothing_left($paid, $name);
    return;
}

sub nothing_left
{
    my ($paid, $name) = @_;
    is($t->sql("SELECT count(*) FROM payment.task WHERE object_id IN (SELECT id FROM payment.order_record WHERE payment_id = '$paid->{payment}')"), 0,
        "$name: nothing is left to do");
    is($t->sql("SELECT count(*) FROM payment.hosted_page WHERE payment_id = '$paid->{payment}'"), 0, "$name: no page either");
    return;
}

use_psp(200);
subtest 'paid, found by a look at the page' => sub {
    my $paid = checkout('poll');
    is(use_card($paid, 'pm_card_chargeDeclined')->{status}, 422, 'a card that does not work is no card');
    is($t->sql("SELECT status FROM payment.payment WHERE id = '$paid->{payment}'"), 'awaiting_customer', 'and ends nothing');
    is(use_card($paid, 'pm_card_visa')->{status}, 303, 'another is kept');
    wait_for_status($paid, 'succeeded');
    charged_once($paid, 'poll');
    like($t->sql("SELECT payment_method FROM payment.payment WHERE id = '$paid->{payment}'"), qr{^cus_\w+/pm_\w+$}, 'only names of it are kept');
};

$t->finish;
