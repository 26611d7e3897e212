# A refund that waits for the payer, over the wire: Stripe's status as an answer
# to the request, to a lookup and in webhooks; and the events that tell of it.
use strict;
use warnings;

use AdapterTest;
use PaymentTest;
use Test::More;

my $t = PaymentTest->new('refund_action');
$t->start_sandbox({ flags => [ '--modification-delay-ms' => 3_600_000 ] });
$t->register_seller('alice');
my $stripe = AdapterTest->new($t, psp => 'stripe', method => 'pm_card_visa', register => { adapter => 'stripe', settings => { poll_interval_ms => 200 } });

# A refund that the PSP has accepted, and is slow with.
sub accepted
{
    my ($key) = @_;
    my $order = $stripe->paid($key);
    $t->faults(refund_pending => 'next:1');
    my $refund = $t->call('refund', payment_order => $order, amount => 300, idempotency_key => "give $key");
    becomes($refund, 'pending');
    return ($order, $refund);
}

sub becomes
{
    my ($refund, $status) = @_;
    return $t->wait_for("SELECT status = '$status' FROM payment.refund WHERE id = '$refund'");
}

# What somebody does to it at the PSP
sub move
{
    my ($refund, $status) = @_;
    my $name = $t->sql("SELECT psp_reference FROM payment.refund WHERE id = '$refund'");
    return $t->sandbox('POST', '/_sandbox/refunds', { refund => $name, status => $status });
}

sub told
{
    my ($refund) = @_;
    return $t->sql("SELECT string_agg(type, ' ' ORDER BY number) FROM payment.event WHERE object_id = '$refund'");
}

subtest 'the payer says where the money shall go' => sub {
    my ($order, $refund) = accepted('said');
    move($refund, 'requires_action');
    ok(becomes($refund, 'requires_action'), 'a lookup tells that it waits');
    move($refund, 'succeeded');
    ok(becomes($refund, 'succeeded'), 'and that it is done');
    $t->wait_until_idle;
    like(told($refund), qr/^refund\.created refund\.pending refund\.requires_action refund\.pending refund\.succeeded$/, 'in this order');
    is((map { $_->{amount_refunded} } grep { $_->{payment_order} eq $order } $t->charges)[0], 300, 'the payer has it');
};

subtest 'the payer says nothing' => sub {
    my ($order, $refund) = accepted('silent');
    move($refund, 'requires_action');
    ok(becomes($refund, 'requires_action'), 'it waits');
    move($refund, 'canceled');
    ok(becomes($refund, 'failed'), 'and is given up at the PSP');
    $t->wait_until_idle;
    is($t->sql("SELECT refunded_amount FROM payment.payment_order WHERE id = '$order'"), '0', 'so that it may be asked for again');
};

is($t->sql('SELECT * FROM payment.verify() LIMIT 10'), '', 'verify() finds nothing');
$t->finish;
