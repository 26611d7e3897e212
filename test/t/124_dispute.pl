# Disputes over the wire: the sandbox tells of them through the gateway, the
# worker answers them, and at the end the ledger has what the sandbox's book has.
use strict;
use warnings;

use AdapterTest;
use GatewayTest;
use HTTP::Tiny ();
use JSON::PP ();
use PaymentTest;
use Test::More;

use constant { ADYEN_KEY => '44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056', HOOK => '2WEBHOOK' };

plan(skip_all => 'no gateway to test: "make gateway" builds it') if !-x GatewayTest::gateway_program();

my $t = PaymentTest->new('disputes');
$t->configure('payment.webhook_verify_delay_ms' => 100);
my $gateway = GatewayTest->new($t);
$t->write_secret('hook', "whsec_disputes\n");
$t->write_secret('hmac', ADYEN_KEY . "\n");
my $edge = sprintf 'http://127.0.0.1:%d/webhooks', $gateway->port;
$t->start_sandbox({ flags => [ '--stripe-webhook-url', "$edge/stripe", '--stripe-webhook-secret-file', $t->secrets_dir . '/hook',
    '--adyen-webhook-url', "$edge/adyen", '--hmac-key-file', $t->secrets_dir . '/hmac', '--paypal-webhook-url', "$edge/paypal",
    '--paypal-webhook-id', HOOK,
    '--dispute-fee', 1500, '--modification-delay-ms', 100 ] });
chomp(my $secret = PaymentTest::slurp_file($t->secrets_dir . '/sandbox'));
$t->write_secret('paypal', "sandbox:$secret\n");
$t->register_seller('alice');
$t->sql(q(SELECT payment.set_fee_schedule(0, 1000, payment.seller_id('alice'), 'EUR')));

my $stripe = AdapterTest->new(
    $t,
    psp      => 'stripe',
    method   => 'pm_card_visa',
    register => { adapter => 'stripe', webhook_secret_names => '{hook}' });
my $adyen = AdapterTest->new(
    $t,
    psp      => 'adyen',
    method   => 'sandbox_authorised',
    register => {
        adapter              => 'adyen',
        webhook_secret_names => '{hmac}',
        settings             => {
            payouts      => JSON::PP::false,
            dispute_fees => { EUR => 1500 },
            config       => { merchant_account => 'SandboxMerchant', return_url => 'https://shop.example/back' } } });
my $paypal = AdapterTest->new(
    $t,
    psp      => 'paypal',
    method   => 'sandbox_success',
    register => {
        adapter     => 'paypal',
        secret_name => 'paypal',
        settings    => { dispute_fees => { EUR => 1500 }, config => { webhook_id => HOOK } } });

sub released
{
    my ($adapter, $key) = @_;
    my $order = $adapter->paid($key, money => '10000 EUR');
    $t->call('release', payment_order => $order);
    return $order;
}

sub reference_of { return $t->sql("SELECT psp_reference FROM payment.payment_order WHERE id = '$_[0]'") }

# Stripe's name of the charge, which disputes go by there
sub charge_of
{
    my ($order) = @_;
    my $answer = HTTP::Tiny->new->get($t->sandbox_url . '/v1/payment_intents/' . reference_of($order),
        { headers => { Authorization => "Bearer $secret" } });
    return JSON::PP->new->decode($answer->{content})->{latest_charge};
}

sub dispute_of
{
    my ($order) = @_;
    return $t->sql("SELECT id FROM payment.dispute WHERE order_id = '$order'");
}

sub becomes
{
    my ($order, $state, $what) = @_;
    ok( $t->wait_for(
            "SELECT coalesce((SELECT stage || '/' || status FROM payment.dispute WHERE order_id = '$order'), '') = '$state'",
            what => "$what: $state"),
        "$what: $state");
    return;
}

sub wallet { return $t->sql(q(SELECT available || ' ' || held || ' ' || owed FROM payment.wallet WHERE seller = 'alice')) }

# what the PSP keeps by its book: taken and not given back, and the fees
sub agrees
{
    my ($what) = @_;
    my $book = $t->book->{currencies}{eur} // $t->book->{currencies}{EUR};
    my ($taken, $fees) = split / /, $t->sql(q(SELECT coalesce(sum(amount) FILTER (WHERE is_taken), 0) || ' ' || sum(fee) FROM payment.dispute));
    is("$taken $fees", "$book->{disputes_withdrawn} $book->{dispute_fees}", "$what: what was taken, and what it cost, as in the book");
    is($t->sql('SELECT * FROM payment.verify()'), '', "$what: the ledger is true");
    return;
}

# ---- Stripe ----

my $order = released($stripe, 'challenged');
my $opened = $t->sandbox('POST', '/_sandbox/disputes', { charge => charge_of($order), reason => 'product_not_received' });
becomes($order, 'chargeback/open', 'told by webhook');
is(wallet(), '0 9000 0', 'the seller\'s part is held');
is($t->sqlstate("SELECT payment.refund('$order', 100, 'S37')"), 'PY307', 'S37 no refund meanwhile');
my $response = $t->call('submit_dispute_evidence', dispute => dispute_of($order),
    evidence => '{"uncategorized_text": "winning_evidence", "shipping_carrier": "Post & Söhne"}', idempotency_key => 'evidence');
becomes($order, 'chargeback/won', 'S39 challenged, and won');
is($t->sql("SELECT status FROM payment.dispute_response WHERE id = '$response'"), 'succeeded', 'the evidence arrived');
is(wallet(), '9000 0 0', 'S39 the hold is released once');
my @sends = grep { ($_->{idempotency_key} // '') =~ /^$response:dispute_evidence:/ } $t->request_log;
is(scalar(grep { $_->{executed} eq 'yes' } @sends), 1, 'it was submitted once');
agrees('won');

$t->sandbox('POST', '/_sandbox/disputes', { dispute => $opened->{id}, status => 'lost' });
becomes($order, 'pre_arbitration/lost', 'S40 won, then lost after all');
is(wallet(), '0 0 0', 'S40 the seller has paid');
agrees('S40');

$order = released($stripe, 'accepted');
$t->sandbox('POST', '/_sandbox/disputes', { charge => charge_of($order) });
becomes($order, 'chargeback/open', 'another one');
$t->call('accept_dispute', dispute => dispute_of($order), idempotency_key => 'accept');
becomes($order, 'chargeback/lost', 'accepted, and so lost');
agrees('accepted');

# the answer is lost on the way: looked for, found, not sent again
$order = released($stripe, 'timeout');
$t->sandbox('POST', '/_sandbox/disputes', { charge => charge_of($order) });
becomes($order, 'chargeback/open', 'a third one');
$t->faults(reset_after => 'next:1');
$response = $t->call('submit_dispute_evidence', dispute => dispute_of($order), evidence => '{"uncategorized_text": "losing_evidence"}',
    idempotency_key => 'evidence lost');
becomes($order, 'chargeback/lost', 'evidence that does not convince');
ok($t->wait_for("SELECT status = 'succeeded' FROM payment.dispute_response WHERE id = '$response'", what => 'the evidence is found'), 'found');
@sends = grep { ($_->{idempotency_key} // '') =~ /^$response:dispute_evidence:/ } $t->request_log;
is(scalar(grep { $_->{executed} eq 'yes' } @sends), 1, 'executed once');
agrees('an answer was lost');

# S38: what the payer got back is not taken from the seller again
$order = released($stripe, 'refunded');
$t->call('refund', payment_order => $order, amount => undef, idempotency_key => 'S38');
$t->wait_until_idle;
my $before = wallet();
$t->sandbox('POST', '/_sandbox/disputes', { charge => charge_of($order) });
becomes($order, 'chargeback/open', 'S38 disputed after a full refund');
is(wallet(), $before, 'S38 nothing is taken from the seller');
agrees('S38');

# a charge that is disputed at once, maybe before we know of it; an inquiry moves no money
$order = $stripe->paid('at once', payment_method => 'pm_card_createDispute', money => '10000 EUR');
becomes($order, 'chargeback/open', 'disputed at once');
$order = $stripe->paid('inquiry', payment_method => 'pm_card_createDisputeInquiry', money => '10000 EUR');
becomes($order, 'inquiry/open', 'an inquiry');
agrees('both');

# ---- Adyen ----

$order = released($adyen, 'adyen');
my $payment = reference_of($order);
my $tell = sub {
    my ($event, $state) = @_;
    $t->sandbox('POST', '/_sandbox/adyen/events', { payment => $payment, event => $event });
    becomes($order, $state, "Adyen: $event");
};
$tell->('REQUEST_FOR_INFORMATION', 'inquiry/open');
$tell->('NOTIFICATION_OF_CHARGEBACK', 'chargeback/open');
$tell->('CHARGEBACK', 'chargeback/open');
ok($t->wait_for("SELECT is_taken FROM payment.dispute WHERE order_id = '$order'", what => 'the money is taken'), 'Adyen: with the chargeback the money goes');
agrees('Adyen');
$tell->('INFORMATION_SUPPLIED', 'chargeback/challenged');
$tell->('CHARGEBACK_REVERSED', 'chargeback/won');
agrees('Adyen, reversed');
$tell->('SECOND_CHARGEBACK', 'pre_arbitration/lost');
agrees('Adyen, the second time');
$tell->('PREARBITRATION_WON', 'pre_arbitration/won');
agrees('Adyen, won at last');
is($t->sqlstate("SELECT payment.accept_dispute('" . dispute_of($order) . "', 'adyen')"), 'PY303', 'what is over takes no answer');

# ---- PayPal: its webhooks count once it has vouched for them ----

$order = released($paypal, 'paypal');
my ($capture) = map { $_->{charge_id} } grep { $_->{payment_order} eq $order || $_->{reference} eq $order } $t->charges;
$tell = sub {
    my ($event, $state, %more) = @_;
    $t->sandbox('POST', '/_sandbox/paypal/events', { id => $capture, event => "CUSTOMER.DISPUTE.$event", %more });
    becomes($order, $state, "PayPal: $event");
};
$tell->('CREATED', 'inquiry/open', stage => 'INQUIRY');
agrees('PayPal, asked');
$tell->('UPDATED', 'chargeback/challenged', stage => 'CHARGEBACK');
agrees('PayPal, taken');
$tell->('RESOLVED', 'chargeback/won', stage => 'CHARGEBACK', outcome => 'seller');
agrees('PayPal, won');

is($t->sql(q(SELECT count(*) FROM payment.exception WHERE type <> 'dispute')), '0', 'nothing else is odd');
is($t->sql(q(SELECT count(*) FROM payment.exception WHERE type = 'dispute')), '1', 'but what the payer got twice');
$t->finish;
