# PayPal over the wire: access tokens, decimal amounts, several requests for one
# payment, and one charge whatever is lost on the way.
use strict;
use warnings;

use AdapterTest;
use IO::Select;
use IO::Socket::INET;
use PaymentTest;
use Test::More;

use constant {
    ORDERS  => '/v2/checkout/orders',
    PAYOUTS => '/v1/payments/payouts',
    TOKEN   => '/v1/oauth2/token',
};

my $t = PaymentTest->new('paypal');
$t->start_sandbox({ flags => [ '--payout-delay-ms' => 100, '--processing-delay-ms' => 100 ] });
chomp(my $key = PaymentTest::slurp_file($t->secrets_dir . '/sandbox'));
$t->write_secret('paypal', "sandbox:$key\n");
my $paypal = AdapterTest->new(
    $t,
    psp      => 'paypal',
    path     => ORDERS,
    method   => 'sandbox_success',
    register => { adapter => 'paypal', secret_name => 'paypal' });
$t->register_seller('alice');

sub token_requests { return scalar $t->requests_for('POST', TOKEN) }

subtest 'one token for many payments' => sub {
    my @orders = map { $paypal->pay("first $_") } 1 .. 10;
    $t->wait_until_idle;
    $t->charged_once($_, 'one charge, one journal') foreach @orders;
    is(token_requests(), 1, 'one token was asked for');
    my ($charge) = grep { $_->{payment_order} eq $orders[0] } $t->charges;
    my ($attempt) = $paypal->rows_of($orders[0]);
    is($attempt->{psp_reference}, $charge->{payment_intent_id}, 'known by the order id');
    is_deeply($paypal->sends($orders[0]), { sent => 1, executed => 1, keys => ["$orders[0]:pay:1"] }, 'one request each');
};

subtest 'a token that is revoked' => sub {
    $t->sandbox('POST', '/_sandbox/tokens', { revoke => 1 });
    my $before = token_requests();
    my @orders = map { $paypal->pay("revoked $_") } 1 .. 5;
    $t->wait_until_idle;
    $t->charged_once($_, 'charged once all the same') foreach @orders;
    is(token_requests(), $before + 1, 'one other token was asked for');
    is_deeply($paypal->attempts($orders[0]), ['send succeeded'], 'within the same attempt');
};

subtest 'S61 exact decimals' => sub {
    foreach my $money ('1 EUR', '1099 EUR', '1000000 JPY', '25000 HUF', '100 TWD')
    {
        my $order = $paypal->paid("S61 $money", money => $money);
        $t->charged_once($order, "$money is charged");
    }
    my $order = $paypal->paid('S61 part', money => '25001 HUF');
    my ($attempt) = $paypal->rows_of($order);
    is_deeply([ $t->status_of($order), @$attempt{qw(error_code http_status decline_class)} ],
        [ 'failed', 'amount_not_representable', undef, 'not_applicable' ], 'a part of a forint is not sent');
    $order = $paypal->paid('S61 dinars', money => '1234 KWD');
    is($t->sql("SELECT decline_class FROM payment.attempt WHERE object_id = '$order'"), 'soft',
        'a currency that PayPal has not is for another PSP');
};

subtest 'an order that is captured by a request of its own' => sub {
    my $order = $paypal->paid('approved', payment_method => 'sandbox_approved');
    my @keys = map { $_->{idempotency_key} } grep { ($_->{idempotency_key} // '') =~ /^$order/ } $t->request_log;
    is_deeply(\@keys, [ "$order:pay:1", "$order:pay:1:capture" ], 'made, then captured');
    is_deeply($paypal->attempts($order), ['send succeeded'], 'in one attempt');
    $t->charged_once($order, 'one charge, one journal');
};

subtest 'declines, and what kind they are' => sub {
    $paypal->declines('sandbox_declined_5120',       'processor_5120',          'soft');
    $paypal->declines('sandbox_declined_9500',       'processor_9500',          'hard');
    $paypal->declines('sandbox_instrument_declined', 'INSTRUMENT_DECLINED',     'soft');
    $paypal->declines('sandbox_payer_action',        'authentication_required', 'authentication_required');
};

subtest 'pending, and looked up by its order' => sub {
    my $order = $paypal->paid('pending', payment_method => 'sandbox_pending');
    is($t->history_of($order), 'created executing pending captured', 'pending, then captured');
    like(join(' ', @{ $paypal->attempts($order) }), qr/^send pending (lookup pending )*lookup succeeded$/, 'by lookups');
    $t->charged_once($order, 'one charge');
    my $failed = $paypal->paid('pending fails', payment_method => 'sandbox_pending_fails');
    is($t->status_of($failed), 'declined', 'another one comes to nothing');
    $t->not_charged($failed, 'and is charged nothing');
};

my @again = ('send unknown', 'send succeeded');
$paypal->charges_once($_, 'S08', \@again) foreach qw(lost_answer reset_after error_500_after);
$paypal->charges_once($_, 'S13', \@again) foreach qw(truncated_body html_body);

subtest 'S08 a timeout although the PSP charged' => sub {
    $paypal->register(timeout_ms => 700);
    $t->faults(hang_ms => 2_000, hang_after => 'next:1');
    my $order = $paypal->paid('S08 hang');
    is($paypal->sends($order)->{executed}, 1, 'S08 executed once');
    $t->charged_once($order, 'S08 one charge');
    $paypal->register;
};

subtest 'S08 the capture is executed, and its answer lost' => sub {
    # the first POST makes the order, the second captures it
    $t->faults(lost_answer => 'next:2');
    my $order = $paypal->paid('S08 capture', payment_method => 'sandbox_approved');
    like(join(' ', @{ $paypal->attempts($order) }), qr/^send unknown (send unknown )*lookup succeeded$/, 'S08 asked after');
    my %keys = map { $_->{idempotency_key} => 1 }
      grep { ($_->{idempotency_key} // '') =~ /^$order/ } $t->request_log;
    is_deeply([ sort keys %keys ], [ "$order:pay:1", "$order:pay:1:capture" ], 'S08 under the same two keys');
    $t->charged_once($order, 'S08 one charge');
};

subtest 'S04 the key is forgotten before the outcome is known' => sub {
    $paypal->register(lookup_delay_ms => 60_000);
    $t->faults(lost_answer => 'next:1');
    my $order = $paypal->pay('S04');
    $t->wait_for("SELECT status = 'unknown' FROM payment.payment_order WHERE id = '$order'", what => 'unknown');
    $t->sql("UPDATE payment.task SET run_at = now(), first_sent_at = now() - interval '6 hours' WHERE object_id = '$order'");
    $paypal->register;
    $t->wait_for("SELECT dead_at IS NOT NULL FROM payment.task WHERE object_id = '$order'", what => 'people');
    is_deeply($paypal->attempts($order), ['send unknown'], 'S04 nothing is sent again');
    is($paypal->sends($order)->{sent}, 1, 'S04 one request ever');
    $t->sql("DELETE FROM payment.task WHERE object_id = '$order'");
    push @{ $paypal->{conflicted} }, $order;
};

$paypal->waits('conflict_409', 'S11', 409, [ ('send unknown') x 2, 'send succeeded' ]);
$paypal->waits('rate_limit', 'S11', 429, [ ('send retry') x 2, 'send succeeded' ], retry_after_s => 1);
$paypal->waits('error_500_before', 'S08', 500, [ ('send unknown') x 2, 'send succeeded' ]);
$paypal->reports_other_money($_) foreach qw(wrong_amount wrong_currency);

subtest 'S05 the worker is killed while the answer is under way' => sub {
    $t->faults(hang_after => 'next:1', hang_ms => 3_000);
    my $order = $paypal->pay('S05');
    PaymentTest::wait_until(sub { grep { $_->{payment_order} eq $order } $t->charges }, 60) or die 'never charged';
    $paypal->kill_worker;
    $t->wait_until_idle;
    my $attempts = $paypal->attempts($order);
    is_deeply([ @$attempts[ 0, -1 ] ], [ 'send lease_expired', 'send succeeded' ], 'S05 by the same request again');
    is($paypal->sends($order)->{executed}, 1, 'S05 executed once');
    $t->charged_once($order, 'S05 one charge');
};

subtest 'S06 the worker is killed while it asks for a token' => sub {
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 5) or die "listen: $!";
    $t->register_psp('paypal', %{ $paypal->{register} }, base_url => 'http://127.0.0.1:' . $listener->sockport);
    my @orders = map { $paypal->pay("S06 $_") } 1 .. 3;
    ok(IO::Select->new($listener)->can_read(60), 'a connection is begun, which nobody accepts');
    $t->wait_for("SELECT count(*) = 3 FROM payment.payment_order WHERE status = 'executing'", what => 'three that wait');
    $paypal->register;
    $paypal->kill_worker;
    close $listener;
    $t->wait_until_idle;
    foreach my $order (@orders)
    {
        is_deeply($paypal->sends($order), { sent => 1, executed => 1, keys => ["$order:pay:1"] }, 'S06 sent once');
        $t->charged_once($order, 'S06 one charge');
    }
};

subtest 'payouts' => sub {
    my $payout = $paypal->payout('payout', destination => 'ba_sandbox_alice');
    $t->wait_until_idle;
    like($t->history_of($payout), qr/submitting in_transit paid$/, 'accepted, then paid');
    is_deeply([ map { "$_->{amount} $_->{currency}" } grep { $_->{payout} eq $payout } $t->payouts ], ['600 eur'], 'once');
    my $failed = $paypal->payout('payout fails', destination => 'ba_sandbox_fail');
    $t->wait_until_idle;
    like($t->history_of($failed), qr/failed$/, 'one to nowhere fails');
};

subtest 'S44 a payout is executed, and its answer lost' => sub {
    my $order = $paypal->paid('S44 order');
    $t->call('release', payment_order => $order);
    $t->faults(lost_answer => 'next:1');
    my $payout = $t->call('payout', seller => $t->call('seller_id', reference => 'alice'), amount => 700, currency => 'EUR',
        destination => 'ba_sandbox_alice', psp => 'paypal', idempotency_key => 'paypal S44');
    $t->wait_until_idle;
    like($t->history_of($payout), qr/submitting unknown in_transit paid$/, 'S44 unknown, until the link to it is followed');
    is(scalar(grep { $_->{payout} eq $payout } $t->payouts), 1, 'S44 one payout');
    my @asked = grep { $_->{status} == 400 } $t->requests_for('POST', PAYOUTS);
    is(scalar @asked, 1, 'S44 the second batch of the id was refused');
};

subtest 'a secret that PayPal does not know' => sub {
    $t->write_secret('wrong', 'sandbox:EWrongSecretOfNobody');
    $t->register_psp('paypal', %{ $paypal->{register} }, secret_name => 'wrong');
    my $before = token_requests();
    my @orders = map { $paypal->pay("wrong secret $_") } 1 .. 3;
    $t->wait_for("SELECT count(*) >= 3 FROM payment.attempt WHERE error_code = 'invalid_client'", what => 'a refusal');
    is($t->sql("SELECT count(*) FROM payment.attempt WHERE error_code = 'invalid_client' AND outcome <> 'retry'"), 0,
        'surely not sent');
    my $asked = token_requests() - $before;
    cmp_ok($asked, '<=', 2, 'and PayPal is not pestered');
    $paypal->register;
    $t->sql('UPDATE payment.task SET run_at = now()');
    $t->wait_until_idle;
    $t->charged_once($_, 'then one charge') foreach @orders;
};

subtest 'tokens that do not live long' => sub {
    my $port = $t->stop_sandbox;
    $t->start_sandbox({ port => $port, flags => [ '--token-lifetime-s' => 2 ] });
    my $before = token_requests();
    my @orders;
    PaymentTest::wait_until(
        sub {
            push @orders, map { $paypal->pay('short ' . @orders . " $_") } 1 .. 3;
            return token_requests() >= $before + 3;
        },
        60) or die 'tokens are not renewed';
    $t->wait_until_idle;
    $t->charged_once($_, 'charged once') foreach @orders;
    is($t->sql("SELECT count(*) FROM payment.attempt WHERE http_status = 401"), 0, 'none that has expired is the last word');
    cmp_ok(token_requests() - $before, '<', @orders, 'one serves many payments');
};

subtest 'nothing of a secret or a token can be read' => sub {
    $paypal->keeps_secrets($key, 'A21AA', 'EWrongSecretOfNobody');
};

$paypal->books_agree;
$t->finish;
