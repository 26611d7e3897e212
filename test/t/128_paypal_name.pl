# PayPal makes an order before it captures it, and tells the order's id in its
# first answer.  When the second answer is lost, that id is all there is to ask
# by: also when PayPal has forgotten the keys of both requests.
use strict;
use warnings;

use AdapterTest;
use PaymentTest;
use Test::More;

my $t = PaymentTest->new('paypal_name');
$t->start_sandbox;
chomp(my $key = PaymentTest::slurp_file($t->secrets_dir . '/sandbox'));
$t->write_secret('paypal', "sandbox:$key\n");
my $paypal = AdapterTest->new($t, psp => 'paypal', method => 'sandbox_approved',
    register => { adapter => 'paypal', secret_name => 'paypal' });
$t->register_seller('alice');

# What is next for the order falls due, and its key is so old as that.
sub go_on
{
    my ($order, $age) = @_;
    $t->sql("UPDATE payment.task SET run_at = now(), first_sent_at = first_sent_at - interval '$age' WHERE object_id = '$order'");
    return;
}

sub unknown_times
{
    my ($order, $times) = @_;
    return $t->wait_for("SELECT count(*) = $times FROM payment.attempt WHERE object_id = '$order' AND outcome = 'unknown'");
}

sub requests_of
{
    my ($order) = @_;
    return [ map { $_->{idempotency_key} =~ s/^$order//r } grep { ($_->{idempotency_key} // '') =~ /^$order/ } $t->request_log ];
}

# Both answers are lost, one after the other; the one in between named it.
sub lost_twice
{
    my ($key, $fault) = @_;
    $paypal->register(lookup_delay_ms => 600_000);
    $t->faults(lost_answer => 'next:1');
    my $order = $paypal->pay($key);
    unknown_times($order, 1);
    is($t->sql("SELECT count(psp_reference) FROM payment.attempt WHERE object_id = '$order'"), 0, 'it has no name yet');
    return $order;
}

subtest 'S04 the capture was executed, and its key is forgotten' => sub {
    my $order = lost_twice('executed');
    # the order's answer is a replay, which no fault meets; the capture's is lost
    $t->faults(lost_answer => 'next:1');
    go_on($order, '0 s');
    unknown_times($order, 2);
    is($t->sql("SELECT psp_reference FROM payment.payment_order WHERE id = '$order'"), '', 'the order has no name, as that proves nothing');
    go_on($order, '100 h');
    $t->wait_until_idle;
    is($t->status_of($order), 'captured', 'S04 asked after by the name that it was given, and found');
    is_deeply(requests_of($order), [ ':pay:1', ':pay:1', ':pay:1:capture' ], 'S04 nothing is sent again');
    $t->charged_once($order, 'S04 one charge');
};

subtest 'S04 the capture was not executed' => sub {
    my $order = lost_twice('not executed');
    $t->faults(reset => 'next:2', lost_answer => 0);
    go_on($order, '0 s');
    $t->wait_for("SELECT count(*) >= 2 FROM payment.attempt WHERE object_id = '$order' AND finished_at IS NOT NULL");
    $t->faults(reset => 0);
    $paypal->register;
    go_on($order, '0 s');
    $t->wait_until_idle;
    is($t->status_of($order), 'captured', 'it is captured then, under the same key');
    $t->charged_once($order, 'one charge');
};

is($t->sql('SELECT * FROM payment.verify() LIMIT 10'), '', 'verify() finds nothing');
$t->finish;
