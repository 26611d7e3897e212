# S30: the payer's browser comes back and says "paid".  Nothing here takes that
# for evidence: as long as the PSP has not said so to us, the order is not paid,
# for nobody, and the application has no way to make it so.
use strict;
use warnings;

use PaymentTest;
use Test::More;

my $t = PaymentTest->new('unproven_success');
$t->start_sandbox({ flags => [ '--processing-delay-ms', 100 ] });
$t->register_seller('alice');

# Until it is told otherwise, the worker asks once an hour; there is no webhook.
sub ask_every { return $t->register_psp('sandbox', settings => { poll_interval_ms => $_[0] }) }

sub pay
{
    my ($key, $method) = @_;
    return $t->checkout($key, ['alice 1000 USD'], payment_method => $method);
}

# What the application can try when a redirect claims success.
sub insists
{
    my ($payment, $order) = @_;
    my $attempt = $t->sql("SELECT id FROM payment.attempt WHERE object_id = '$order' LIMIT 1");
    my $claim = "ARRAY[ROW('$attempt', 'succeeded', 200, 5, 'pi_claimed', 1000, 'USD', NULL, NULL, NULL, NULL, NULL, NULL"
      . ', NULL, NULL, NULL, NULL, NULL)'
      . '::payment.attempt_outcome]';
    my @tries = (
        [ 'to release the money' => 'PY303', "SELECT payment.release('$order')" ],
        [ 'to record an outcome' => '42501', "SELECT payment.record_outcomes($claim)" ],
        [ 'to decide it'         => '42501', "SELECT payment.resolve_unknown('$order', 'succeeded', 'shop', 'redirect', 'pi_claimed')" ],
        [ 'to set the status'    => '42501', "UPDATE payment.order_record SET status = 'captured' WHERE id = '$order'" ]);
    foreach my $try (@tries)
    {
        my ($what, $sqlstate, $query) = @$try;
        is($t->sqlstate("SET ROLE payment_app;\n$query"), $sqlstate, "S30 in vain: $what");
    }
    return;
}

sub is_not_paid
{
    my ($payment, $order) = @_;
    is($t->sql("SELECT count(*) FROM payment.journal WHERE subject = '$order'"), 0, 'S30 no journal');
    is($t->sql("SELECT coalesce(sum(pending + available), 0) FROM payment.wallet WHERE seller = 'alice'"), 0, 'S30 no credit');
    isnt($t->sql("SELECT payment.receipt('$order')->>'classic_status'"), 'SUCCESS', 'S30 the receipt does not say paid');
    isnt($t->sql("SELECT status FROM payment.payment WHERE id = '$payment'"), 'succeeded', 'S30 nor does the payment');
    return;
}

foreach my $case ([ pm_sandbox_processing_fails => 'failed' ], [ pm_sandbox_processing => 'captured' ])
{
    my ($method, $end) = @$case;
    subtest "S30 $method" => sub {
        ask_every(3_600_000);
        my ($payment, $order) = pay("S30 $method", $method);
        $t->wait_for("SELECT status = 'pending' FROM payment.payment_order WHERE id = '$order'", what => 'pending');

        # the PSP has come to its end, and nobody here has asked
        PaymentTest::wait_until(sub { grep { $_->{payment_order} eq $order && $_->{status} ne 'pending' } $t->charges }, 60)
          or die 'the sandbox takes too long';
        is($t->sql($t->checkout_text("S30 $method", ['alice 1000 USD'], payment_method => $method)),
            "$payment $order", 'the page that is loaded again changes nothing');
        is_not_paid($payment, $order);
        insists($payment, $order);
        is($t->status_of($order), 'pending', 'S30 still pending');
        is_not_paid($payment, $order);

        ask_every(100);
        $t->sql("UPDATE payment.task SET run_at = now() WHERE object_id = '$order'");
        $t->wait_until_idle;
        like($t->status_of($order), $end eq 'captured' ? qr/^captured$/ : qr/^(?:declined|failed)$/, 'S30 until the PSP is asked');
        $end eq 'captured' ? $t->charged_once($order, 'S30 paid then') : $t->not_charged($order, 'S30 never paid');
    };
}

subtest 'S30 the payer is to be redirected, and nobody can redirect him' => sub {
    my $before = $t->sql(q(SELECT sum(pending + available) FROM payment.wallet WHERE seller = 'alice'));
    my ($payment, $order) = pay('S30 redirect', 'pm_card_authenticationRequired');
    $t->wait_until_idle;
    is($t->status_of($order), 'declined', 'S30 declined');
    is($t->sql("SELECT string_agg(decline_class, ' ') FROM payment.attempt WHERE object_id = '$order'"),
        'authentication_required', 'S30 with the reason');
    insists($payment, $order);
    $t->not_charged($order, 'S30 not paid');
    is($t->sql(q(SELECT sum(pending + available) FROM payment.wallet WHERE seller = 'alice')), $before, 'S30 no credit');
};

$t->books_agree('book and ledger agree');
$t->finish;
