# The sandbox PSP at PayPal: authorisations and their captures, and events that the receiver asks about.

use strict;
use warnings;

use FindBin;
use JSON::PP;
use MIME::Base64 qw(encode_base64);
use Test::More;

use lib "$FindBin::RealBin/../lib";
use SandboxTest;
use WebhookReceiver;

use constant ORDERS => '/v2/checkout/orders';

my $json = JSON::PP->new->utf8->canonical;
my $token;

sub paypal
{
    my ($method, $path, $body, %option) = @_;
    $token //= post('/v1/oauth2/token', [ grant_type => 'client_credentials' ],
        headers => { Authorization => 'Basic ' . encode_base64('sandbox:sk_test_sandbox', '') })->{json}{access_token};
    my %headers = (Authorization => "Bearer $token", Prefer => 'return=representation', %{ $option{headers} // {} });
    $headers{'PayPal-Request-Id'} = delete $option{key} if defined $option{key};
    $headers{'Content-Type'} = 'application/json' if defined $body;
    $body = $json->encode($body) if ref $body;
    return request($method, $path, %option, headers => \%headers, defined $body ? (content => $body) : ());
}

sub usd { my ($value) = @_; return (amount => { currency_code => 'USD', value => $value }) }

sub order
{
    my ($intent, $method) = @_;
    return paypal('POST', ORDERS,
        { intent => $intent, purchase_units => [ { usd('10.00'), custom_id => 'order-1' } ],
            (defined $method ? (payment_source => { card => { vault_id => $method } }) : ()) }, key => new_key());
}

sub authorized { return order('AUTHORIZE', 'sandbox_success')->{json}{purchase_units}[0]{payments}{authorizations}[0]{id} }
sub capture { my ($id, $body, %option) = @_; return paypal('POST', "/v2/payments/authorizations/$id/capture", $body // {}, %option) }
sub shown { my ($id) = @_; return paypal('GET', "/v2/payments/authorizations/$id")->{json} }
sub issue { my ($answer) = @_; return "$answer->{status} " . ($answer->{json}{details}[0]{issue} // '') }
sub notifications { my ($after) = @_; return @{ get('/_sandbox/notifications?after=' . ($after // 0))->{json}{notifications} } }
sub count { return get('/_sandbox/notifications?limit=1')->{json}{count} }
sub told { my ($after) = @_; return join ' ', map { $_->{event} } notifications($after) }
sub event { my (@pairs) = @_; return post('/_sandbox/paypal/events', \@pairs) }

my @flags = ('--paypal-webhook-id', '2WEBHOOK', '--processing-delay-ms', 100, '--payout-delay-ms', 50,
    '--payout-return-delay-ms', 50, '--book', path_of('book'));
start(@flags);

subtest 'authorisations' => sub {
    my $answer = order('AUTHORIZE', 'sandbox_success');
    is_deeply([ $answer->{status}, @{ $answer->{json} }{qw(intent status)} ], [ 201, 'AUTHORIZE', 'COMPLETED' ], 'authorised');
    my $payments = $answer->{json}{purchase_units}[0]{payments};
    is($payments->{captures}, undef, 'not captured');
    my $authorization = $payments->{authorizations}[0];
    is_deeply([ @$authorization{qw(status custom_id)}, $authorization->{amount}{value} ], [ 'CREATED', 'order-1', '10.00' ], 'an authorization');
    my $id = $authorization->{id};
    is(paypal('GET', "/v2/payments/captures/$id")->{status}, 404, 'is no capture');
    is(paypal('POST', "/v2/payments/captures/$id/refund", {}, key => new_key())->{status}, 404, 'and not refunded');

    my $key = new_key();
    my $first = capture($id, { usd('3.00') }, key => $key);
    is_deeply([ $first->{status}, @{ $first->{json} }{qw(status custom_id)}, !!$first->{json}{final_capture}, $first->{json}{supplementary_data}{related_ids}{authorization_id} ],
        [ 201, 'COMPLETED', 'order-1', !!0, $id ], 'a part is captured');
    my $again = capture($id, { usd('3.00') }, key => $key);
    is_deeply([ $again->{status}, $again->{json}{id} ], [ 200, $first->{json}{id} ], 'once under its key');
    is(shown($id)->{status}, 'PARTIALLY_CAPTURED', 'PARTIALLY_CAPTURED');
    is(issue(capture($id, { usd('7.01') })), '422 MAX_CAPTURE_AMOUNT_EXCEEDED', 'not more than is left');
    is(issue(capture($id, { amount => { currency_code => 'EUR', value => '1.00' } })), '422 CURRENCY_MISMATCH', 'nor another currency');
    my $last = capture($id, { usd('2.00'), final_capture => JSON::PP::true });
    ok($last->{json}{final_capture}, 'the final capture');
    is(shown($id)->{status}, 'CAPTURED', 'CAPTURED');
    is(issue(capture($id)), '422 AUTHORIZATION_ALREADY_CAPTURED', 'no more after that');
    is(issue(paypal('POST', "/v2/payments/authorizations/$id/void", {})), '422 PREVIOUSLY_CAPTURED', 'nor void');
    my $order = paypal('GET', ORDERS . "/$answer->{json}{id}")->{json}{purchase_units}[0]{payments};
    is_deeply([ map { $_->{amount}{value} } @{ $order->{captures} } ], [ '3.00', '2.00' ], 'the order has both');
    is(paypal('POST', "/v2/payments/captures/$first->{json}{id}/refund", {}, key => new_key())->{json}{amount}{value}, '3.00', 'each is refunded by itself');
    is_deeply([ @{ book()->{usd} }{qw(charges_succeeded gross refunds_sum)} ], [ 2, 500, 300 ], 'in the book');

    $id = authorized();
    capture($id, { usd('4.00') });
    my $void = paypal('POST', "/v2/payments/authorizations/$id/void", undef, headers => { Prefer => 'return=minimal' });
    is_deeply([ $void->{status}, $void->{content} // '' ], [ 204, '' ], 'the rest is voided');
    is(issue(capture($id)), '422 AUTHORIZATION_VOIDED', 'VOIDED');
    is(issue(paypal('POST', "/v2/payments/authorizations/$id/void", {})), '422 AUTHORIZATION_VOIDED', 'once');

    my $waiting = order('AUTHORIZE', 'sandbox_approved')->{json}{id};
    is(issue(paypal('POST', ORDERS . "/$waiting/capture", {}, key => new_key())), '422 ACTION_DOES_NOT_MATCH_INTENT', 'an order that authorises is not captured');
    is(paypal('POST', ORDERS . "/$waiting/authorize", {}, key => new_key())->{json}{purchase_units}[0]{payments}{authorizations}[0]{status}, 'CREATED', 'but authorised');
    my $other = order('CAPTURE', 'sandbox_approved')->{json}{id};
    is(issue(paypal('POST', ORDERS . "/$other/authorize", {}, key => new_key())), '422 ACTION_DOES_NOT_MATCH_INTENT', 'nor the other way round');

    my $raced = authorized();
    my @answers = in_parallel(6, sub { return { status => capture($raced, { usd('4.00') })->{status} } });
    is_deeply([ sort map { $_->{status} } @answers ], [ 201, 201, 422, 422, 422, 422 ], 'six of 4.00 on 10.00 at once');
};

subtest 'what is told' => sub {
    my $since = sub { my ($work) = @_; my $after = count(); $work->(); return told($after) };
    is($since->(sub { order('CAPTURE', 'sandbox_success') }), 'PAYMENT.CAPTURE.COMPLETED', 'captured');
    is($since->(sub { order('CAPTURE', 'sandbox_declined') }), 'PAYMENT.CAPTURE.DENIED', 'declined');
    is($since->(sub { order('CAPTURE', 'sandbox_approved') }), 'CHECKOUT.ORDER.APPROVED', 'approved');
    my $id;
    is($since->(sub { $id = authorized() }), 'PAYMENT.AUTHORIZATION.CREATED', 'authorised');
    my $captured;
    is($since->(sub { $captured = capture($id, { usd('3.00') })->{json}{id} }), 'PAYMENT.CAPTURE.COMPLETED', 'captured in part');
    is($since->(sub { paypal('POST', "/v2/payments/authorizations/$id/void", {}) }), 'PAYMENT.AUTHORIZATION.VOIDED', 'voided');
    is($since->(sub { paypal('POST', "/v2/payments/captures/$captured/refund", { usd('1.00') }, key => new_key()) }), 'PAYMENT.CAPTURE.REFUNDED', 'refunded');
    my $refunded = (notifications())[-1]{body};
    is_deeply([ $refunded->{resource_type}, $refunded->{resource}{amount}{value}, $refunded->{event_type} ], [ 'refund', '1.00', 'PAYMENT.CAPTURE.REFUNDED' ], 'with the refund');
    my $after = count();
    order('CAPTURE', 'sandbox_pending_fails');
    wait_until(sub { told($after) eq 'PAYMENT.CAPTURE.PENDING PAYMENT.CAPTURE.DENIED' }, 'pending, then denied');
    $after = count();
    paypal('POST', '/v1/payments/payouts', { sender_batch_header => { sender_batch_id => new_key() },
        items => [ { amount => { currency => 'USD', value => '5.00' }, receiver => 'ba_sandbox_return_1', sender_item_id => 'item-1' } ] });
    wait_until(sub { told($after) eq 'PAYMENT.PAYOUTS-ITEM.SUCCEEDED PAYMENT.PAYOUTS-ITEM.REVERSED' }, 'a payout that comes back');
    is((notifications($after))[0]{body}{resource}{payout_item}{sender_item_id}, 'item-1', 'with its reference');

    my $created = order('CAPTURE')->{json}{id};
    is($since->(sub { event(id => $created, event => 'CHECKOUT.ORDER.APPROVED') }), 'CHECKOUT.ORDER.APPROVED', 'a payer approves');
    my $done = paypal('POST', ORDERS . "/$created/capture", {}, key => new_key())->{json};
    is($done->{status}, 'COMPLETED', 'so that it is captured');
    is(event(id => $created, event => 'CHECKOUT.ORDER.APPROVED')->{status}, 400, 'once');

    my $capture = $done->{purchase_units}[0]{payments}{captures}[0]{id};
    my $withdrawn = book()->{usd}{disputes_withdrawn};
    foreach my $case ([ CREATED => 'INQUIRY', 0, 'OPEN' ], [ UPDATED => 'CHARGEBACK', 800, 'UNDER_REVIEW' ], [ RESOLVED => 'CHARGEBACK', 0, 'RESOLVED' ])
    {
        my ($what, $stage, $sum, $status) = @$case;
        event(id => $capture, event => "CUSTOMER.DISPUTE.$what", stage => $stage, outcome => 'seller', $what eq 'CREATED' ? (amount => 800) : ());
        my $dispute = (notifications())[-1]{body}{resource};
        is_deeply([ @$dispute{qw(status dispute_life_cycle_stage)}, $dispute->{dispute_amount}{value}, $dispute->{disputed_transactions}[0]{seller_transaction_id} ],
            [ $status, $stage, '8.00', $capture ], "CUSTOMER.DISPUTE.$what");
        is(book()->{usd}{disputes_withdrawn} - $withdrawn, $sum, "$sum withdrawn");
        is(paypal('GET', "/v1/customer/disputes/$dispute->{dispute_id}")->{json}{status}, $status, 'as it is shown');
    }
    is(event(id => $capture, event => 'CUSTOMER.DISPUTE.RESOLVED')->{status}, 400, 'over is over');
    is($since->(sub { event(id => $capture, event => 'PAYMENT.CAPTURE.REVERSED') }), 'PAYMENT.CAPTURE.REVERSED', 'reversed');
    is(event(id => 'NOTHING', event => 'PAYMENT.CAPTURE.REVERSED')->{status}, 404, 'an unknown capture');
};

subtest 'verified by asking' => sub {
    my $receiver = WebhookReceiver->new(path_of('hook'));
    post('/_sandbox/notifications', [ psp => 'paypal', url => $receiver->url ]);
    my $count = count();
    wait_until(sub { $receiver->all >= $count }, 'all are sent');
    my ($got) = $receiver->all;
    my $header = $got->{headers};
    my %field = (
        transmission_id => $header->{'paypal-transmission-id'}, transmission_time => $header->{'paypal-transmission-time'},
        transmission_sig => $header->{'paypal-transmission-sig'}, auth_algo => $header->{'paypal-auth-algo'},
        cert_url => $header->{'paypal-cert-url'}, webhook_id => '2WEBHOOK');
    like($field{transmission_time}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/, 'a time');
    my $verify = sub {
        my ($changes, $body) = @_;
        my %all = (%field, %{ $changes // {} });
        my $text = join ',', map { $json->encode([$_]) =~ s/^\[|\]$//gr . ':' . $json->encode([ $all{$_} ]) =~ s/^\[|\]$//gr } grep { defined $all{$_} } sort keys %all;
        return paypal('POST', '/v1/notifications/verify-webhook-signature', "{$text,\"webhook_event\":" . ($body // $got->{body}) . '}');
    };
    is_deeply($verify->()->{json}, { verification_status => 'SUCCESS' }, 'what was sent');
    is($verify->({ $_ => $field{$_} . 'x' })->{json}{verification_status}, 'FAILURE', "not with another $_") foreach sort keys %field;
    is($verify->({}, $got->{body} =~ s/"COMPLETED"/"DECLINED"/r)->{json}{verification_status}, 'FAILURE', 'nor another body') if $got->{body} =~ /"COMPLETED"/;
    is($verify->({}, $got->{body} =~ s/,/, /r)->{json}{verification_status}, 'FAILURE', 'nor one written anew');
    is($verify->({ transmission_id => undef })->{status}, 400, 'all fields are needed');
    my $second = ($receiver->all)[1];
    is($verify->({}, $second->{body})->{json}{verification_status}, 'FAILURE', "nor another event's");
    my $shown = get('/_sandbox/notifications/1');
    is_deeply([ $shown->{content}, $shown->{headers}{'paypal-transmission-sig'} ], [ $got->{body}, $field{transmission_sig} ], 'shown as it was sent');
    faults(webhook_forged => 'next:1');
    order('CAPTURE', 'sandbox_success');
    wait_until(sub { $receiver->all > $count }, 'forged');
    $got = ($receiver->all)[-1];
    is($verify->({ map { ($_ => $got->{headers}{ 'paypal-' . $_ =~ tr/_/-/r }) } qw(transmission_id transmission_time transmission_sig) })->{json}{verification_status},
        'FAILURE', 'a forged one');
};

subtest 'a book that outlives kill -9' => sub {
    my $id = authorized();
    capture($id, { usd('3.00') });
    stop('KILL');
    $token = undef;
    start(@flags, '--authorization-lifetime-s', 1);
    is(shown($id)->{status}, 'PARTIALLY_CAPTURED', 'the authorization is there');
    is(capture($id)->{json}{amount}{value}, '7.00', 'and what is left of it');
    my $short = authorized();
    capture($short, { usd('3.00') });
    wait_until(sub { shown($short)->{status} eq 'VOIDED' }, 'one expires');
    is(told(count() - 1), 'PAYMENT.AUTHORIZATION.VOIDED', 'told');
    is(issue(capture($short)), '422 AUTHORIZATION_VOIDED', 'too late');
    is(stop(), 0, 'stopped');
};

finish();
