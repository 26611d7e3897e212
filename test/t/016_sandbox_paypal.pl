# The sandbox PSP speaks PayPal: what it promises is what the adapter's tests build on.

use strict;
use warnings;

use FindBin;
use JSON::PP;
use MIME::Base64 qw(encode_base64);
use Test::More;
use Time::HiRes qw(sleep time);

use lib "$FindBin::RealBin/../lib";
use SandboxTest;

use constant {
    TOKEN   => '/v1/oauth2/token',
    ORDERS  => '/v2/checkout/orders',
    BATCHES => '/v1/payments/payouts',
};

my $json = JSON::PP->new->utf8->canonical;
my $token;

sub basic { my ($pair) = @_; return 'Basic ' . encode_base64($pair, '') }

sub ask_token
{
    my ($pair, $grant) = @_;
    return post(TOKEN, [ grant_type => $grant // 'client_credentials' ],
        headers => { Authorization => basic($pair // 'sandbox:sk_test_sandbox') });
}

sub paypal
{
    my ($method, $path, $body, %option) = @_;
    $token //= ask_token()->{json}{access_token};
    my %headers = (Authorization => "Bearer $token", Prefer => 'return=representation', %{ $option{headers} // {} });
    $headers{'PayPal-Request-Id'} = delete $option{key} if defined $option{key};
    $headers{'Content-Type'} //= 'application/json' if defined $body;
    $body = $json->encode($body) if ref $body;
    return request($method, $path, %option, headers => \%headers, defined $body ? (content => $body) : ());
}

sub order
{
    my ($changes, %option) = @_;
    my %unit = (amount => { currency_code => 'USD', value => '10.00' }, custom_id => 'order-1', %{ $changes // {} });
    my $source = exists $unit{source} ? delete $unit{source} : { card => { vault_id => 'sandbox_success' } };
    my $intent = exists $unit{intent} ? delete $unit{intent} : 'CAPTURE';
    my %body = (
        (defined $intent ? (intent => $intent) : ()),
        purchase_units => [ { map { ($_ => $unit{$_}) } grep { defined $unit{$_} } keys %unit } ],
        (defined $source ? (payment_source => $source) : ()));
    return paypal('POST', ORDERS, \%body, key => new_key(), %option);
}

sub order_with { my ($method, %option) = @_; return order({ source => { card => { vault_id => $method } } }, %option) }
sub capture_of { my ($answer) = @_; return $answer->{json}{purchase_units}[0]{payments}{captures}[0] }

sub batch
{
    my ($changes, %option) = @_;
    my %item = (amount => { currency => 'USD', value => '5.00' }, receiver => 'ba_sandbox_one', sender_item_id => 'item-1',
        %{ $changes // {} });
    my $id = exists $item{batch} ? delete $item{batch} : new_key();
    return paypal('POST', BATCHES,
        { sender_batch_header => { defined $id ? (sender_batch_id => $id) : () },
            items => [ { map { ($_ => $item{$_}) } grep { defined $item{$_} } keys %item } ] }, %option);
}

sub is_paypal_error
{
    my ($answer, $status, $name, $issue, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $error = $answer->{json} // {};
    is_deeply([ $answer->{status}, $error->{name}, $error->{details}[0]{issue} ], [ $status, $name, $issue ], $what)
      or diag($answer->{content});
    return;
}

my @flags = ('--processing-delay-ms', 300, '--payout-delay-ms', 200, '--payout-return-delay-ms', 200);
start(@flags);

subtest 'access tokens' => sub {
    my $answer = ask_token();
    is($answer->{status}, 200, 'a token');
    is_deeply([ @{ $answer->{json} }{qw(token_type expires_in)} ], [ 'Bearer', 32400 ], 'for nine hours');
    foreach my $pair ('sandbox:wrong', 'other:sk_test_sandbox', 'sandbox', 'sandbox:', ':', 'sandbox:sk_test_sandbox2')
    {
        $answer = ask_token($pair);
        is_deeply([ $answer->{status}, $answer->{json}{error} ], [ 401, 'invalid_client' ], "no token for $pair");
    }
    is(post(TOKEN, [ grant_type => 'client_credentials' ], headers => { Authorization => $_ })->{status}, 401, "nor for $_")
      foreach 'Bearer sk_test_sandbox', 'Basic %%%', 'Basic ';
    $answer = ask_token(undef, 'password');
    is_deeply([ $answer->{status}, $answer->{json}{error} ], [ 400, 'unsupported_grant_type' ], 'another grant');
    foreach my $header ('Bearer x', 'Bearer ', basic('sandbox:sk_test_sandbox'), 'Bearer sk_test_sandbox')
    {
        $answer = order({}, headers => { Authorization => $header });
        is_deeply([ $answer->{status}, $answer->{json}{error} ], [ 401, 'invalid_token' ], "refused: $header");
    }
    is(order()->{status}, 201, 'with a token it works');
    post('/_sandbox/tokens', [ revoke => 1 ]);
    $answer = order();
    is_deeply([ $answer->{status}, $answer->{json}{error} ], [ 401, 'invalid_token' ], 'until it is revoked');
    $token = undef;
    is(order()->{status}, 201, 'a new one works');
    stop();
    start(@flags, '--token-lifetime-s', 1, '--paypal-client-id', 'shop');
    $answer = ask_token('shop:sk_test_sandbox');
    is($answer->{json}{expires_in}, 1, 'a short life');
    $token = $answer->{json}{access_token};
    is(order()->{status}, 201, 'good at first');
    sleep 1.1;
    $answer = order();
    is_deeply([ $answer->{status}, $answer->{json}{error} ], [ 401, 'invalid_token' ], 'expired');
    is(book()->{usd}{charges_succeeded}, 1, 'what was refused charged nothing');
    stop();
    $token = undef;
    start(@flags);
};

subtest 'orders' => sub {
    my $key = new_key();
    my $answer = order({ custom_id => 'order-7', invoice_id => 'invoice-7', description => 'Shirts' }, key => $key);
    is($answer->{status}, 201, 'created and paid');
    my $id = $answer->{json}{id};
    like($id, qr/^[A-Z0-9]{17}$/, 'id');
    my $capture = capture_of($answer);
    is_deeply([ $answer->{json}{status}, @$capture{qw(status custom_id invoice_id)}, $capture->{amount} ],
        [ 'COMPLETED', 'COMPLETED', 'order-7', 'invoice-7', { currency_code => 'USD', value => '10.00' } ], 'captured');
    is($capture->{seller_receivable_breakdown}{net_amount}{value}, '9.41', 'less the fee');
    my ($charge) = charges_of($key);
    is_deeply([ @$charge{qw(payment_intent_id charge_id payment_order psp reference amount currency status)} ],
        [ $id, $capture->{id}, 'order-7', 'paypal', 'order-7', 1000, 'usd', 'succeeded' ], 'in the book');
    is_deeply(capture_of(paypal('GET', ORDERS . "/$id")), $capture, 'to be asked for');
    is_deeply(paypal('GET', "/v2/payments/captures/$capture->{id}")->{json}, $capture, 'the capture, too');
    $answer = order({}, headers => { Prefer => 'return=minimal' });
    is_deeply([ sort keys %{ $answer->{json} } ], [qw(id links status)], 'the least, unless more is asked for');
    is(order({ source => { paypal => { vault_id => 'sandbox_success_1' } } })->{json}{status}, 'COMPLETED', 'a wallet');
    is(order({ source => { token => { id => 'sandbox_success', type => 'PAYMENT_METHOD_TOKEN' } } })->{json}{status},
        'COMPLETED', 'a token');

    $answer = order_with('sandbox_declined_5120');
    $capture = capture_of($answer);
    is_deeply([ $answer->{status}, $answer->{json}{status}, $capture->{status}, $capture->{processor_response}{response_code} ],
        [ 201, 'COMPLETED', 'DECLINED', '5120' ], 'an order is completed, and its capture declined');
    my $before = book()->{usd}{charges_declined};
    $key = new_key();
    is_paypal_error(order_with('sandbox_instrument_declined', key => $key), 422, 'UNPROCESSABLE_ENTITY', 'INSTRUMENT_DECLINED', 'or there is none');
    is(book()->{usd}{charges_declined}, $before + 1, 'in the book');
    $answer = order_with('sandbox_payer_action');
    is($answer->{json}{status}, 'PAYER_ACTION_REQUIRED', 'the payer has to act');
    is(capture_of($answer), undef, 'nothing is charged');
    is_paypal_error(paypal('POST', ORDERS . "/$answer->{json}{id}/capture", {}, key => new_key()),
        422, 'UNPROCESSABLE_ENTITY', 'ORDER_NOT_APPROVED', 'nor can it be');
    is(order({ source => undef })->{json}{status}, 'CREATED', 'an order without a source waits for its payer');

    foreach my $case ([ sandbox_pending => 'COMPLETED' ], [ sandbox_pending_fails => 'DECLINED' ])
    {
        my ($method, $end) = @$case;
        $answer = order_with($method);
        is(capture_of($answer)->{status}, 'PENDING', $method);
        wait_until(sub { capture_of(paypal('GET', ORDERS . "/$answer->{json}{id}"))->{status} eq $end });
    }
    $answer = order_with('sandbox_approved');
    is($answer->{json}{status}, 'APPROVED', 'approved');
    my $path = ORDERS . "/$answer->{json}{id}/capture";
    $key = new_key();
    $answer = paypal('POST', $path, undef, key => $key);
    is_deeply([ $answer->{status}, capture_of($answer)->{status} ], [ 201, 'COMPLETED' ], 'captured without a body');
    is(paypal('POST', $path, {}, key => $key)->{status}, 200, 'the same again is no new one');
    is_paypal_error(paypal('POST', $path, {}, key => new_key()), 422, 'UNPROCESSABLE_ENTITY', 'ORDER_ALREADY_CAPTURED', 'another is refused');
    is(paypal('GET', "$_/AAAAAAAAAAAAAAAAA")->{status}, 404, "unknown: $_") foreach ORDERS, '/v2/payments/captures', '/v2/payments/refunds';
    is_paypal_error(paypal('POST', ORDERS . '/X/capture', {}), 404, 'RESOURCE_NOT_FOUND', 'INVALID_RESOURCE_ID', 'an unknown order');
    is(get(INTENTS)->{json}{object}, 'list', 'Stripe is there, too');
    is_deeply(get(INTENTS)->{json}{data}, [], 'and knows nothing of it');
};

subtest 'amounts' => sub {
    foreach my $case (
        [ 'USD', '0.01', 1 ], [ 'USD', '12', 1200 ], [ 'USD', '12.5', 1250 ], [ 'USD', '9999999.99', 999999999 ],
        [ 'JPY', '1000000', 1000000 ], [ 'HUF', '150', 15000 ], [ 'TWD', '7', 700 ])
    {
        my ($currency, $value, $minor) = @$case;
        my $key = new_key();
        my $answer = order({ amount => { currency_code => $currency, value => $value } }, key => $key);
        is_deeply([ map { @$_{qw(amount currency)} } charges_of($key) ], [ $minor, lc $currency ], "$currency $value");
        is(capture_of($answer)->{amount}{value}, $currency eq 'USD' ? sprintf('%.2f', $value) : $value, 'and back');
    }
    foreach my $case (
        [ 'USD', '1.001', 422, 'DECIMAL_PRECISION' ], [ 'JPY', '1.0', 422, 'DECIMALS_NOT_SUPPORTED' ],
        [ 'HUF', '1.50', 422, 'DECIMALS_NOT_SUPPORTED' ], [ 'KWD', '1.000', 422, 'CURRENCY_NOT_SUPPORTED' ],
        [ 'USD', '0.00', 422, 'CANNOT_BE_ZERO_OR_NEGATIVE' ], [ 'USD', '0', 422, 'CANNOT_BE_ZERO_OR_NEGATIVE' ],
        (map { [ 'USD', $_, 400, 'INVALID_PARAMETER_SYNTAX' ] } '-1.00', '1,00', '.5', '1.', '1e3', ' 1', '', '+1', '99999999999', 10, undef),
        [ 'usd', '1.00', 400, 'INVALID_PARAMETER_VALUE' ], [ 'XXX', '1.00', 400, 'INVALID_PARAMETER_VALUE' ])
    {
        my ($currency, $value, $status, $issue) = @$case;
        $issue = 'MISSING_REQUIRED_PARAMETER' if !defined $value;
        is_paypal_error(order({ amount => { currency_code => $currency, value => $value } }),
            $status, $status == 400 ? 'INVALID_REQUEST' : 'UNPROCESSABLE_ENTITY', $issue, "refused: $currency " . ($value // 'undefined'));
    }
};

subtest 'errors' => sub {
    my ($invalid, $unprocessable) = qw(INVALID_REQUEST UNPROCESSABLE_ENTITY);
    is_paypal_error(order({}, key => 'k' x 109), 400, $invalid, 'INVALID_STRING_LENGTH', 'a request id of 109 characters');
    is(order({}, key => 'k' x 108)->{status}, 201, 'but not one of 108');
    is_paypal_error(order({ intent => undef }), 400, $invalid, 'MISSING_REQUIRED_PARAMETER', 'no intent');
    is_paypal_error(order({ intent => 'SUBSCRIBE' }), 400, $invalid, 'INVALID_PARAMETER_VALUE', 'another intent');
    is_paypal_error(order_with('nothing'), 422, $unprocessable, 'TOKEN_ID_NOT_FOUND', 'an unknown source');
    is_paypal_error(order({ amount => undef }), 400, $invalid, 'MISSING_REQUIRED_PARAMETER', 'no amount');
    is_paypal_error(order({ custom_id => 'x' x 256 }), 400, $invalid, 'INVALID_STRING_LENGTH', 'a long custom_id');
    is_paypal_error(order({ invoice_id => 7 }), 400, $invalid, 'INVALID_PARAMETER_SYNTAX', 'a number for a text');
    is_paypal_error(paypal('POST', ORDERS, { intent => 'CAPTURE', purchase_units => $_ }), 400, $invalid, 'MISSING_REQUIRED_PARAMETER', 'no unit')
      foreach [], {}, 'x', undef;
    is_paypal_error(paypal('POST', ORDERS, $_), 400, $invalid, 'MALFORMED_REQUEST_JSON', "no JSON: $_") foreach '{', '[]', '{"a":1,"a":1}';
    is(paypal('POST', ORDERS, 'a=1', headers => { 'Content-Type' => 'application/x-www-form-urlencoded' })->{status}, 415, 'a form');
    my $unkeyed = paypal('POST', ORDERS, { intent => 'CAPTURE', purchase_units => [ { amount => { currency_code => 'USD', value => '1.00' } } ],
            payment_source => { card => { vault_id => 'sandbox_success' } } });
    is_paypal_error($unkeyed, 400, $invalid, 'PAYPAL_REQUEST_ID_REQUIRED', 'a payment without a request id');
    like($unkeyed->{json}{debug_id}, qr/^\w{13}$/, 'debug_id');
    like($unkeyed->{headers}{'paypal-debug-id'}, qr/^\w{13}$/, 'in a header, too');
};

subtest 'idempotency' => sub {
    my $key = new_key();
    my $first = order_with('sandbox_pending', key => $key);
    is(capture_of($first)->{status}, 'PENDING', 'pending');
    my $again;
    wait_until(sub { $again = order_with('sandbox_pending', key => $key); capture_of($again)->{status} eq 'COMPLETED' });
    is_deeply([ $again->{status}, $again->{json}{id} ], [ 200, $first->{json}{id} ], 'the same again tells what is so by now, with 200');
    is(scalar charges_of($key), 1, 'one charge');
    is(order({ amount => { currency_code => 'EUR', value => '7.00' } }, key => $key)->{json}{id}, $first->{json}{id}, 'even another request');
    is(pay({}, key => $key)->{status}, 200, 'the key is another one at another PSP');
    $key = new_key();
    is(order_with('sandbox_instrument_declined', key => $key)->{status}, 422, 'a refusal');
    is(order({}, key => $key)->{status}, 201, 'is not kept');

    is(order({ invoice_id => 'invoice-9' })->{status}, 201, 'an invoice');
    is_paypal_error(order({ invoice_id => 'invoice-9' }), 422, 'UNPROCESSABLE_ENTITY', 'DUPLICATE_INVOICE_ID', 'is paid once');
    order({ invoice_id => 'invoice-10', source => { card => { vault_id => 'sandbox_declined' } } });
    is(order({ invoice_id => 'invoice-10' })->{status}, 201, 'but a declined one may be paid');
    faults(latency_ms => 400);
    $key = new_key();
    my @answers = in_parallel(4, sub { my $a = order({}, key => $key); return { status => $a->{status}, issue => $a->{json}{details}[0]{issue} } });
    is_deeply([ sort map { $_->{status} } @answers ], [ 201, 409, 409, 409 ], 'at the same time: one is executed');
    is((grep { $_->{status} == 409 } @answers)[0]{issue}, 'PREVIOUS_REQUEST_IN_PROGRESS', 'the others are told so');
    is(scalar charges_of($key), 1, 'one charge');
    @answers = in_parallel(4, sub { return { status => order({ invoice_id => 'invoice-11' })->{status} } });
    is_deeply([ sort map { $_->{status} } @answers ], [ 201, 422, 422, 422 ], 'an invoice is paid once, however fast');
    @answers = in_parallel(4, sub { return { status => batch({ batch => 'batch-fast' })->{status} } });
    is_deeply([ sort map { $_->{status} } @answers ], [ 201, 400, 400, 400 ], 'and a batch');
    faults(reset => 1);
    stop();
    start(@flags, '--idempotency-ttl-s', 1);
    $token = undef;
    $key = new_key();
    $first = order({}, key => $key)->{json}{id};
    batch({ batch => 'batch-old' });
    sleep 1.1;
    isnt(order({}, key => $key)->{json}{id}, $first, 'a forgotten key makes a new order');
    is(batch({ batch => 'batch-old' })->{status}, 201, 'and a forgotten batch a new payout');
    stop();
    start(@flags);
    $token = undef;
};

subtest 'refunds' => sub {
    my $capture = capture_of(order());
    my $path = "/v2/payments/captures/$capture->{id}/refund";
    my $refund = sub { my ($value, %option) = @_; return paypal('POST', $path, { custom_id => 'refund-1', defined $value ? (amount => { currency_code => 'USD', value => $value }) : () }, key => new_key(), %option) };
    my $key = new_key();
    my $answer = $refund->('4.00', key => $key);
    is_deeply([ $answer->{status}, @{ $answer->{json} }{qw(status custom_id)}, $answer->{json}{amount}{value} ],
        [ 201, 'COMPLETED', 'refund-1', '4.00' ], 'a part');
    is_deeply([ $refund->('4.00', key => $key)->{status}, $refund->('4.00', key => $key)->{json}{id} ], [ 200, $answer->{json}{id} ], 'once');
    is_deeply(paypal('GET', "/v2/payments/refunds/$answer->{json}{id}")->{json}, $answer->{json}, 'to be asked for');
    is(paypal('GET', "/v2/payments/captures/$capture->{id}")->{json}{status}, 'PARTIALLY_REFUNDED', 'the capture tells');
    is_paypal_error($refund->('6.01'), 422, 'UNPROCESSABLE_ENTITY', 'REFUND_AMOUNT_EXCEEDED', 'too much');
    is_paypal_error(paypal('POST', $path, { amount => { currency_code => 'EUR', value => '1.00' } }), 422, 'UNPROCESSABLE_ENTITY', 'REFUND_CAPTURE_CURRENCY_MISMATCH', 'another currency');
    is($refund->()->{json}{amount}{value}, '6.00', 'the rest');
    is_paypal_error($refund->('0.01'), 422, 'UNPROCESSABLE_ENTITY', 'CAPTURE_FULLY_REFUNDED', 'nothing is left');
    is_deeply([ @{ book()->{usd} }{qw(refunds_succeeded refunds_sum)} ], [ 2, 1000 ], 'in the book');
    my $declined = capture_of(order_with('sandbox_declined'));
    is(paypal('POST', "/v2/payments/captures/$declined->{id}/refund", {})->{status}, 422, 'nothing was captured');
    $capture = capture_of(order());
    $path = "/v2/payments/captures/$capture->{id}/refund";
    faults(latency_ms => 200);
    my @all = in_parallel(5, sub { return { status => $refund->('3.00')->{status} } });
    faults(reset => 1);
    is_deeply([ sort map { $_->{status} } @all ], [ 201, 201, 201, 422, 422 ], 'at the same time, never more than there is');
};

subtest 'payouts' => sub {
    my $one = sub { my ($id) = @_; return paypal('GET', BATCHES . "/$id")->{json} };
    my $state = sub { my $b = $one->(@_); return "$b->{batch_header}{batch_status} $b->{items}[0]{transaction_status}" };
    my $answer = batch({ batch => 'batch-1', sender_item_id => 'payout-1' });
    my $id = $answer->{json}{batch_header}{payout_batch_id};
    is_deeply([ $answer->{status}, $answer->{json}{batch_header}{batch_status} ], [ 201, 'PENDING' ], 'taken in');
    my $again = batch({ batch => 'batch-1', sender_item_id => 'payout-1' });
    is_paypal_error($again, 400, 'USER_BUSINESS_ERROR', 'Batch with given sender_batch_id already exists', 'once');
    like($again->{json}{details}[0]{link}[0]{href}, qr{^http://127\.0\.0\.1:\d+/v1/payments/payouts/$id$}, 'with a link to the first');
    wait_until(sub { $state->($id) eq 'SUCCESS SUCCESS' });
    is_deeply([ $one->($id)->{items}[0]{payout_item}{sender_item_id}, $one->($id)->{batch_header}{amount} ],
        [ 'payout-1', { currency => 'USD', value => '5.00' } ], 'as it was asked for');
    is_deeply([ map { @$_{qw(psp reference status)} } grep { $_->{payout_id} eq $id } csv(get('/_sandbox/payouts.csv')->{content}) ],
        [ 'paypal', 'payout-1', 'paid' ], 'in the book');
    my %end = (ba_sandbox_fail => 'SUCCESS FAILED', ba_sandbox_denied => 'DENIED FAILED', ba_sandbox_return_1 => 'SUCCESS REVERSED',
        'nobody@shop.example' => 'SUCCESS RETURNED');
    my %batch = map { $_ => batch({ receiver => $_ })->{json}{batch_header}{payout_batch_id} } keys %end;
    wait_until(sub { $state->($batch{'nobody@shop.example'}) eq 'SUCCESS UNCLAIMED' });
    is($one->($batch{'nobody@shop.example'})->{items}[0]{errors}{name}, 'RECEIVER_UNREGISTERED', 'unclaimed');
    wait_until(sub { $state->($batch{$_}) eq $end{$_} }) && pass("$_: $end{$_}") foreach sort keys %end;
    is(book()->{usd}{payouts_failed}, 4, 'what came back is in the book');
    is(batch({ batch => undef })->{status}, 201, 'without a sender_batch_id nothing is recognised') foreach 1, 2;
    my $key = new_key();
    my $by_key = batch({ batch => undef }, key => $key)->{json}{batch_header}{payout_batch_id};
    is(batch({ batch => undef }, key => $key)->{json}{batch_header}{payout_batch_id}, $by_key, 'but by its request id');
    is(batch({ receiver => undef })->{status}, 400, 'no receiver');
    is(batch({ amount => { currency => 'KWD', value => '1.000' } })->{status}, 422, 'a currency that it does not know');
    is(paypal('POST', BATCHES, {})->{status}, 400, 'no header');
    is(paypal('GET', BATCHES . '/AAAAAAAAAAAAAAAAA')->{status}, 404, 'an unknown batch');
};

subtest 'faults' => sub {
    my %executed = (lost_answer => 599, reset_after => 599, truncated_body => 201, html_body => 200, error_500_after => 500);
    foreach my $fault (sort keys %executed)
    {
        faults($fault => 'next:1');
        my $key = new_key();
        is(order({}, key => $key, truncated => 1)->{status}, $executed{$fault}, $fault);
        is((charges_of($key))[0]{status}, 'succeeded', 'executed');
        my $again = order({}, key => $key);
        is_deeply([ $again->{status}, capture_of($again)->{status} ], [ 200, 'COMPLETED' ], 'the same again tells');
        is(scalar charges_of($key), 1, 'one charge');
    }
    faults(error_500_before => 'next:1');
    my $key = new_key();
    is_paypal_error(order({}, key => $key), 500, 'INTERNAL_SERVER_ERROR', undef, 'error_500_before');
    is(scalar charges_of($key), 0, 'nothing executed');
    is(order({}, key => $key)->{status}, 201, 'the same again is executed');
    faults(rate_limit => 'next:1', retry_after_s => 7);
    my $answer = order();
    is_paypal_error($answer, 429, 'RATE_LIMIT_REACHED', undef, 'rate_limit');
    is($answer->{headers}{'retry-after'}, 7, 'Retry-After');
    faults(conflict_409 => 'next:1');
    is_paypal_error(order(), 409, 'RESOURCE_CONFLICT', 'PREVIOUS_REQUEST_IN_PROGRESS', 'conflict_409');
    faults(wrong_amount => 'next:1');
    is(capture_of(order())->{amount}{value}, '10.01', 'wrong_amount');
    faults(wrong_currency => 'next:1');
    is(capture_of(order())->{amount}{currency_code}, 'EUR', 'wrong_currency');
    faults(lookup_down => 'next:1');
    is(paypal('GET', ORDERS . '/X')->{status}, 500, 'lookup_down');
    faults(lost_answer => 'next:1');
    is(batch({ batch => 'batch-lost' })->{status}, 599, 'a payout whose answer is lost');
    my $link = batch({ batch => 'batch-lost' })->{json}{details}[0]{link}[0]{href};
    is(paypal('GET', $link =~ s{^http://[^/]+}{}r)->{json}{batch_header}{sender_batch_header}{sender_batch_id}, 'batch-lost', 'is found by trying again');
};
is(stop(), 0, 'stopped');

subtest 'a book that outlives kill -9' => sub {
    my @book = ('--book', path_of('book'), @flags);
    start(@book);
    $token = undef;
    my $key = new_key();
    my $id = order({ invoice_id => 'invoice-20' }, key => $key)->{json}{id};
    my $pending = order_with('sandbox_pending')->{json}{id};
    my $batch = batch({ batch => 'batch-20' })->{json}{batch_header}{payout_batch_id};
    my $refunded = paypal('POST', '/v2/payments/captures/' . capture_of(order())->{id} . '/refund', {})->{json}{id};
    stop('KILL');
    start(@book);
    is(order()->{status}, 401, 'tokens are no good after a restart');
    $token = undef;
    my $again = order({ invoice_id => 'invoice-20' }, key => $key);
    is_deeply([ $again->{status}, $again->{json}{id} ], [ 200, $id ], 'the order is there');
    is_paypal_error(order({ invoice_id => 'invoice-20' }), 422, 'UNPROCESSABLE_ENTITY', 'DUPLICATE_INVOICE_ID', 'and its invoice');
    like(batch({ batch => 'batch-20' })->{json}{details}[0]{link}[0]{href}, qr/$batch$/, 'and the batch');
    is(paypal('GET', "/v2/payments/refunds/$refunded")->{json}{status}, 'COMPLETED', 'and the refund');
    wait_until(sub { capture_of(paypal('GET', ORDERS . "/$pending"))->{status} eq 'COMPLETED' });
    is(stop(), 0, 'stopped');
};

finish();
