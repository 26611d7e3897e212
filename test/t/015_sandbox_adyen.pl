# The sandbox PSP speaks Adyen: what it promises is what the adapter's tests build on.

use strict;
use warnings;

use Digest::SHA qw(hmac_sha256_base64);
use FindBin;
use IO::Socket::INET;
use JSON::PP;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

use lib "$FindBin::RealBin/../lib";
use SandboxTest;

use constant {
    KEY       => 'sk_test_sandbox',
    PAYMENTS  => '/v71/payments',
    TRANSFERS => '/btl/v4/transfers',
    HMAC_KEY  => '44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056',
};

my $json = JSON::PP->new->utf8->canonical;

# A request with Adyen's headers; undef as the body is none.
sub adyen
{
    my ($method, $path, $body, %option) = @_;
    my %headers = ('X-API-Key' => KEY, %{ $option{headers} // {} });
    delete $headers{'X-API-Key'} if !defined $headers{'X-API-Key'};
    $headers{'Content-Type'} //= 'application/json' if defined $body;
    $body = $json->encode($body) if ref $body;
    return request($method, $path, %option, headers => \%headers,
        defined $body ? (content => $body) : ());
}

sub payment
{
    my ($changes) = @_;
    my %field = (
        merchantAccount => 'SandboxMerchant',
        amount          => { value => 1000, currency => 'EUR' },
        reference       => 'order-1',
        returnUrl       => 'https://shop.example/back',
        paymentMethod   => { type => 'scheme', storedPaymentMethodId => 'sandbox_authorised' },
        %{ $changes // {} });
    return { map { ($_ => $field{$_}) } grep { defined $field{$_} } keys %field };
}

sub pay_adyen
{
    my ($changes, %option) = @_;
    return adyen('POST', PAYMENTS, payment($changes), %option);
}

sub pay_with
{
    my ($method, $changes, %option) = @_;
    return pay_adyen({ paymentMethod => { storedPaymentMethodId => $method }, %{ $changes // {} } }, %option);
}

sub transfer
{
    my ($changes, %option) = @_;
    my %field = (
        amount           => { value => 500, currency => 'EUR' },
        balanceAccountId => 'BA_sandbox',
        category         => 'bank',
        counterparty     => { transferInstrumentId => 'ba_sandbox_one' },
        reference        => 'payout-1',
        %{ $changes // {} });
    return adyen('POST', TRANSFERS, { map { ($_ => $field{$_}) } grep { defined $field{$_} } keys %field }, %option);
}

sub is_adyen_error
{
    my ($answer, $status, $code, $type, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $error = $answer->{json} // {};
    is_deeply(
        [ $answer->{status}, @$error{qw(status errorCode errorType)} ],
        [ $status,           $status, $code, $type ], $name) or diag($answer->{content});
    return;
}

sub notifications { my ($after) = @_; return @{ get('/_sandbox/notifications?after=' . ($after // 0))->{json}{notifications} } }
sub item { my ($n) = @_; return $n->{body}{notificationItems}[0]{NotificationRequestItem} }

# The item with this event about this reference, once there is one.
sub wait_for_event
{
    my ($event, $reference) = @_;
    my $found;
    wait_until(
        sub {
            ($found) = grep { $_->{pspReference} eq $reference }
              map { item($_) } grep { $_->{event} eq $event } notifications();
            return defined $found;
        },
        "$event of $reference");
    return $found;
}

sub iso { my ($time) = @_; return POSIX::strftime('%Y-%m-%dT%H:%M:%SZ', gmtime $time) }

sub listing
{
    my (%query) = @_;
    my %all = (balanceAccountId => 'BA_sandbox', createdSince => iso(time - 60), createdUntil => iso(time + 60), %query);
    return adyen('GET', TRANSFERS . '?' . join('&', map { "$_=" . encode($all{$_}) } grep { defined $all{$_} } sort keys %all));
}

my $hmac_file = path_of('hmac');
open my $out, '>', $hmac_file or die "$hmac_file: $!";
print {$out} HMAC_KEY, "\n";
close $out;
my @flags = ('--hmac-key-file', $hmac_file, '--processing-delay-ms', 300, '--modification-delay-ms', 100,
    '--payout-delay-ms', 200, '--payout-return-delay-ms', 200);
start(@flags);

subtest 'payments' => sub {
    my $key = new_key();
    my $answer = pay_adyen({ metadata => { payment_order => 'order-1', attempt => '1' } }, key => $key);
    is($answer->{status}, 200, 'paid');
    my $payment = $answer->{json};
    like($payment->{pspReference}, qr/^[A-Z0-9]{16}$/, 'pspReference');
    is_deeply(
        [ @$payment{qw(resultCode merchantReference)}, $payment->{amount} ],
        [ 'Authorised', 'order-1', { value => 1000, currency => 'EUR' } ], 'Authorised');
    is($answer->{headers}{'idempotency-key'}, $key, 'the key comes back');
    my ($charge) = charges_of($key);
    is_deeply([ @$charge{qw(payment_intent_id payment_order attempt psp reference amount currency status)} ],
        [ $payment->{pspReference}, 'order-1', 1, 'adyen', 'order-1', 1000, 'eur', 'succeeded' ],
        'captured at once, in the book');

    my %refusal = (2 => 'Refused', 6 => 'Expired Card', 12 => 'Not enough balance', 20 => 'FRAUD');
    foreach my $code (sort keys %refusal)
    {
        $answer = pay_with("sandbox_refused_$code");
        is_deeply([ $answer->{status}, @{ $answer->{json} }{qw(resultCode refusalReason refusalReasonCode)} ],
            [ 200, 'Refused', $refusal{$code}, $code ], "refused: $refusal{$code}");
    }
    is(pay_with('sandbox_error')->{json}{resultCode}, 'Error', 'Error');
    is(pay_with('sandbox_cancelled')->{json}{resultCode}, 'Cancelled', 'Cancelled');
    foreach my $case ([ sandbox_redirect => 'RedirectShopper' ], [ sandbox_challenge => 'ChallengeShopper' ])
    {
        my ($method, $result) = @$case;
        my $before = book()->{eur};
        $payment = pay_with($method)->{json};
        is_deeply([ $payment->{resultCode}, $payment->{pspReference}, $payment->{action}{type} ],
            [ $result, undef, 'redirect' ], "$result, and no pspReference yet");
        is_deeply(book()->{eur}, $before, 'nothing is charged');
        $payment = pay_with($method, { shopperInteraction => 'ContAuth' })->{json};
        is_deeply([ @$payment{qw(resultCode refusalReasonCode)} ], [ 'Refused', 38 ], 'refused without the payer');
    }
    foreach my $case (
        [ sandbox_pending => 'Pending', 'true' ], [ sandbox_pending_fails => 'Pending', 'false' ],
        [ sandbox_received => 'Received', 'true' ], [ sandbox_received_fails => 'Received', 'false' ])
    {
        my ($method, $result, $success) = @$case;
        $key = new_key();
        $payment = pay_with($method, {}, key => $key)->{json};
        is($payment->{resultCode}, $result, $method);
        my $event = wait_for_event('AUTHORISATION', $payment->{pspReference});
        is($event->{success}, $success, 'and what became of it is told');
        is((charges_of($key))[0]{status}, $success eq 'true' ? 'succeeded' : 'failed', 'as in the book');
        is(pay_with($method, {}, key => $key)->{json}{resultCode}, $result, 'the stored answer never changes');
    }
};

subtest 'errors' => sub {
    foreach my $key (undef, '', 'sk_test_wrong', 'sk_test_sandbox2')
    {
        is_adyen_error(pay_adyen({}, headers => { 'X-API-Key' => $key }), 401, '000', 'security', 'wrong key');
    }
    my $before = counts()->{distinct_keys};
    my $many = { map { ("k$_" => 'v') } 1 .. 21 };
    foreach my $case (
        [ { merchantAccount => undef }, 403, '901' ], [ { merchantAccount => 'Other' }, 403, '901' ],
        [ { amount => undef }, 422, '100' ],
        (map { [ { amount => { value => $_, currency => 'EUR' } }, 422, '137' ] } -1, '1000', 1.5, 1e15, undef),
        (map { [ { amount => { value => 1, currency => $_ } }, 422, '138' ] } 'XXX', 'eur', undef, 'EURO'),
        [ { reference => undef }, 422, '130' ], [ { reference => '' }, 422, '130' ],
        [ { reference => 'x' x 81 }, 422, '702' ],
        [ { paymentMethod => undef }, 422, '14_006' ], [ { paymentMethod => {} }, 422, '14_005' ],
        [ { paymentMethod => { type => 'ideal' } }, 422, '905_1' ],
        [ { paymentMethod => { storedPaymentMethodId => 'nothing' } }, 422, '800' ],
        [ { paymentMethod => { storedPaymentMethodId => 'sandbox_refused_99' } }, 422, '800' ],
        [ { nonsense => 1 }, 422, '702' ], [ { metadata => $many }, 422, '177' ],
        [ { metadata => { key => 'x' x 81 } }, 422, '177' ])
    {
        my ($changes, $status, $code) = @$case;
        is_adyen_error(pay_adyen($changes, key => new_key()),
            $status, $code, $status == 403 ? 'security' : 'validation', $json->encode($changes) =~ s/(.{60}).*/$1/r);
    }
    foreach my $bad ('', '{', '[]', 'null', '{"a":1,}', '{"a":01}', '{"a":1,"a":2}', "{\"a\":\"\xff\"}", '{"a":"\ud800"}',
        '{"a":"\u0000"}', '{"a":1}x', "{\"a\":\"\n\"}", '[' x 5000, '{"a":' x 100, '{"a":NaN}', '{"a":.5}', "\0")
    {
        next if $bad eq '';
        is_adyen_error(adyen('POST', PAYMENTS, $bad), 400, '702', 'validation', 'no JSON: ' . encode(substr $bad, 0, 30));
    }
    is_adyen_error(adyen('POST', PAYMENTS, '{}', headers => { 'Content-Type' => 'text/plain' }),
        415, '702', 'validation', 'another content type');
    is_adyen_error(adyen('GET', PAYMENTS), 404, '000', 'validation', 'payments cannot be asked for');
    is_adyen_error(adyen('GET', PAYMENTS . '/ABCDEFGHIJKLMNOP'), 404, '000', 'validation', 'nor one');
    is_adyen_error(pay_adyen({}, key => 'k' x 65), 422, '702', 'validation', 'a key of 65 characters');
    is(pay_adyen({}, key => 'k' x 64)->{status}, 200, 'but not one of 64');
    is(counts()->{distinct_keys}, $before + 1, 'what was refused took no key');
    # Each PSP knows only its own.
    my $psp_reference = pay_adyen()->{json}{pspReference};
    is(get(INTENTS . "/$psp_reference")->{status}, 404, 'Stripe does not know it');
    is_deeply(get(INTENTS)->{json}{data}, [], 'nor lists it');
    is_deeply(get('/v1/balance')->{json}{available}, [], 'nor has the money');
    is(post('/_sandbox/settle', [])->{json}{charges}, 0, 'nor settles it');
};

subtest 'idempotency' => sub {
    my $key = new_key();
    my $first = pay_adyen({}, key => $key);
    my $again = pay_adyen({}, key => $key);
    is($again->{content}, $first->{content}, 'the stored answer');
    is(scalar charges_of($key), 1, 'one charge');
    $again = pay_adyen({ amount => { value => 7, currency => 'USD' }, reference => 'other' }, key => $key);
    is($again->{content}, $first->{content}, 'also to another request: nobody looks at it');
    is(counts()->{endpoints}{'POST /v71/payments'}{mismatched}, 1, 'which is counted');
    is(pay({}, key => $key)->{status}, 200, 'the key is another one at another PSP');
    $key = new_key();
    is(pay_with('sandbox_refused_2', {}, key => $key)->{json}{resultCode}, 'Refused', 'refused');
    is(pay_adyen({}, key => $key)->{json}{resultCode}, 'Refused', 'a refusal is stored, too');

    faults(latency_ms => 400);
    $key = new_key();
    my @answers = in_parallel(4, sub { my $a = pay_adyen({}, key => $key); return { status => $a->{status}, code => $a->{json}{errorCode}, transient => $a->{headers}{'transient-error'} } });
    faults(reset => 1);
    is_deeply([ sort map { $_->{status} } @answers ], [ 200, 409, 409, 409 ], 'at the same time: one is executed');
    is_deeply([ map { "$_->{code} $_->{transient}" } grep { $_->{status} == 409 } @answers ], [ ('704 true') x 3 ],
        'the others are told to come again');
    is(scalar charges_of($key), 1, 'one charge');
};

subtest 'captures, refunds, reversals' => sub {
    my $charge_of = sub { my ($payment) = @_; return (grep { $_->{payment_intent_id} eq $payment } csv(get('/_sandbox/charges.csv')->{content}))[0] };
    my $modify = sub {
        my ($payment, $what, $body, %option) = @_;
        return adyen('POST', PAYMENTS . "/$payment/$what", { merchantAccount => 'SandboxMerchant', %$body }, %option);
    };
    my $eur = sub { my ($value) = @_; return (amount => { value => $value, currency => 'EUR' }) };

    my $payment = pay_adyen({ additionalData => { manualCapture => 'true' } })->{json}{pspReference};
    is($charge_of->($payment)->{status}, 'authorized', 'authorised, not captured');
    my $refund = $modify->($payment, 'refunds', { $eur->(100) })->{json};
    is(wait_for_event('REFUND', $refund->{pspReference})->{success}, 'false', 'no refund before it is captured');
    my $key = new_key();
    my $answer = $modify->($payment, 'captures', { $eur->(900), reference => 'capture-1' }, key => $key);
    is($answer->{status}, 201, 'taken in');
    is_deeply([ @{ $answer->{json} }{qw(status paymentPspReference reference)} ], [ 'received', $payment, 'capture-1' ], 'received');
    isnt($answer->{json}{pspReference}, $payment, 'with a pspReference of its own');
    is($modify->($payment, 'captures', { $eur->(900), reference => 'capture-1' }, key => $key)->{content},
        $answer->{content}, 'the stored answer');
    my $event = wait_for_event('CAPTURE', $answer->{json}{pspReference});
    is_deeply([ @$event{qw(success originalReference merchantReference)}, $event->{amount}{value} ],
        [ 'true', $payment, 'capture-1', 900 ], 'captured, as a notification tells');
    is_deeply([ @{ $charge_of->($payment) }{qw(status amount)} ], [ 'succeeded', 900 ], 'and the book');
    $answer = $modify->($payment, 'captures', { $eur->(100) })->{json};
    is(wait_for_event('CAPTURE', $answer->{pspReference})->{success}, 'false', 'not twice');

    foreach my $case ([ 400, 'true' ], [ 501, 'false' ], [ 500, 'true' ], [ 1, 'false' ])
    {
        my ($amount, $success) = @$case;
        $refund = $modify->($payment, 'refunds', { $eur->($amount) })->{json};
        $event = wait_for_event('REFUND', $refund->{pspReference});
        is($event->{success}, $success, "a refund of $amount of 900");
        like($event->{reason}, qr/Insufficient balance/, 'with its reason') if $success eq 'false';
    }
    is($charge_of->($payment)->{amount_refunded}, 900, 'all is given back');
    my $paid = pay_adyen()->{json}{pspReference};
    $refund = $modify->($paid, 'refunds', { $eur->(10), reference => 'sandbox_fail_1' })->{json};
    is(wait_for_event('REFUND', $refund->{pspReference})->{success}, 'false', 'a reference that makes it fail');
    foreach my $case ([ $paid, 'refund', 'succeeded' ], [ pay_adyen({ captureDelayHours => 1 })->{json}{pspReference}, 'cancel', 'voided' ])
    {
        my ($of, $action, $status) = @$case;
        my $reversal = $modify->($of, 'reversals', {})->{json};
        $event = wait_for_event('CANCEL_OR_REFUND', $reversal->{pspReference});
        is_deeply([ $event->{success}, $event->{additionalData}{'modification.action'} ], [ 'true', $action ], "reversal: $action");
        is($charge_of->($of)->{status}, $status, "then $status");
    }
    is($charge_of->($paid)->{amount_refunded}, 1000, 'the whole of it');
    my $unknown = 'A' x 16;
    is_adyen_error($modify->($unknown, 'refunds', { $eur->(1) }), 422, '167', 'validation', 'an unknown payment');
    is_adyen_error($modify->($paid, 'refunds', {}), 422, '100', 'validation', 'no amount');
    is_adyen_error($modify->($paid, 'refunds', { $eur->(0) }), 422, '137', 'validation', 'an amount of 0');
    is_adyen_error(adyen('POST', PAYMENTS . "/$paid/refunds", { $eur->(1) }), 403, '901', 'security', 'no merchant account');

    # Everything at once: never more than there is.
    my $last = pay_adyen()->{json}{pspReference};
    my @all = in_parallel(5, sub { return $modify->($last, 'refunds', { $eur->(300) })->{json} });
    my $good = grep { wait_for_event('REFUND', $_->{pspReference})->{success} eq 'true' } @all;
    is($good, 3, 'three of five refunds of 300 on 1000');
};

subtest 'signatures' => sub {
    my $wrong = 0;
    my $escape = pack 'H*', HMAC_KEY;
    my @all = grep { $_->{body}{notificationItems} } notifications();
    foreach my $item (map { item($_) } @all)
    {
        my $text = join ':', $item->{pspReference}, $item->{originalReference} // '', @$item{qw(merchantAccountCode merchantReference)},
          $item->{amount}{value}, $item->{amount}{currency}, @$item{qw(eventCode success)};
        $wrong++ if hmac_sha256_base64($text, $escape) . '=' ne $item->{additionalData}{hmacSignature};
    }
    cmp_ok(scalar @all, '>', 20, scalar(@all) . ' notifications');
    is($wrong, 0, 'all are signed');
};

subtest 'transfers' => sub {
    my $key = new_key();
    my $answer = transfer({ reference => 'transfer-1', description => 'Sales of May' }, key => $key);
    is($answer->{status}, 202, 'accepted');
    my $id = $answer->{json}{id};
    is_deeply([ @{ $answer->{json} }{qw(status reference category direction)}, $answer->{json}{amount}{value} ],
        [ 'received', 'transfer-1', 'bank', 'outgoing', 500 ], 'received');
    is(transfer({ reference => 'transfer-1', description => 'Sales of May' }, key => $key)->{content}, $answer->{content}, 'once');
    my $one = sub { my ($of) = @_; return adyen('GET', TRANSFERS . "/$of")->{json} };
    wait_until(sub { $one->($id)->{status} eq 'booked' });
    my $failing = transfer({ counterparty => { transferInstrumentId => 'ba_sandbox_fail' } })->{json}{id};
    my $returning = transfer({ counterparty => { transferInstrumentId => 'ba_sandbox_return_1' } })->{json}{id};
    wait_until(sub { $one->($failing)->{status} eq 'failed' });
    wait_until(sub { $one->($returning)->{status} eq 'returned' });
    my @events = grep { $_->{event} =~ /^balancePlatform/ && $_->{body}{data}{id} eq $returning } notifications();
    is_deeply([ map { $_->{body}{data}{status} } @events ], [qw(received authorised booked returned)], 'each step is told');
    my $raw = get("/_sandbox/notifications/$events[0]{number}");
    is(hmac_sha256_base64($raw->{content}, pack 'H*', HMAC_KEY) . '=', $raw->{headers}{hmacsignature}, 'signed over the body');
    is_deeply([ map { @$_{qw(psp reference status)} } grep { $_->{payout_id} eq $id } csv(get('/_sandbox/payouts.csv')->{content}) ],
        [ 'adyen', 'transfer-1', 'paid' ], 'in the book');

    is_deeply([ map { $_->{id} } @{ listing(reference => 'transfer-1')->{json}{data} } ], [$id], 'found by reference');
    is_deeply(listing(reference => 'transfer-2')->{json}, { data => [], _links => {} }, 'or not');
    is_deeply(listing(createdSince => iso(time + 30))->{json}{data}, [], 'none in the future');
    transfer({ reference => "many-$_" }) foreach 1 .. 12;
    my ($path, @seen) = (undef);
    my $page = listing(limit => 7)->{json};
    while (1)
    {
        push @seen, map { $_->{id} } @{ $page->{data} };
        my $next = $page->{_links}{next}{href} // last;
        like($next, qr{^http://127\.0\.0\.1:\d+/btl/v4/transfers\?}, 'the next page');
        $page = adyen('GET', $next =~ s{^http://[^/]+}{}r)->{json};
    }
    my %once = map { $_ => 1 } @seen;
    is_deeply([ scalar @seen, scalar keys %once ], [ 15, 15 ], 'page by page, each once');
    is($seen[0], $id, 'oldest first');
    is(listing(sortOrder => 'desc')->{json}{data}[0]{reference}, 'many-12', 'or newest');
    is(scalar @{ listing()->{json}{data} }, 10, 'ten on a page');

    my %wrong = (amount => { value => 0, currency => 'EUR' }, category => 'card', counterparty => {}, description => 'x' x 141, nonsense => 1);
    foreach my $name (sort keys %wrong)
    {
        my $error = transfer({ $name => $wrong{$name} });
        is($error->{status}, 422, "refused: $name");
        ok(defined $error->{json}{requestId} && defined $error->{json}{errorCode}, 'as a problem');
    }
    is(transfer({ counterparty => { transferInstrumentId => 'nobody' } })->{status}, 422, 'an unknown instrument');
    is(transfer({ balanceAccountId => 'BA_other' })->{status}, 403, 'an account of others');
    is(adyen('GET', TRANSFERS . '/AAAAAAAAAAAAAAAA')->{status}, 404, 'an unknown transfer');
    is(listing(%$_)->{status}, 422, 'a listing that misses ' . (keys %$_)[0])
      foreach { balanceAccountId => undef }, { createdSince => undef }, { createdUntil => 'now' }, { limit => 101 }, { cursor => 'x' };
};

subtest 'faults' => sub {
    my $keyed = sub { my ($key, %option) = @_; return pay_adyen({}, key => $key, %option) };
    my %executed = (lost_answer => 599, reset_after => 599, truncated_body => 200, html_body => 200, error_500_after => 500);
    foreach my $fault (sort keys %executed)
    {
        faults($fault => 'next:1');
        my $key = new_key();
        my $answer = $keyed->($key, truncated => 1);
        is($answer->{status}, $executed{$fault}, $fault);
        is((charges_of($key))[0]{status}, 'succeeded', 'executed');
        my $again = $keyed->($key);
        if ($fault eq 'error_500_after') { is_adyen_error($again, 500, '000', 'internal', 'the 500 is what the key answers') }
        else { is($again->{json}{resultCode}, 'Authorised', 'the same request again tells') }
        is(scalar charges_of($key), 1, 'one charge');
    }
    faults(hang_after => 'next:1', hang_ms => 300);
    my $key = new_key();
    is($keyed->($key)->{status}, 599, 'hang_after');
    is($keyed->($key)->{json}{resultCode}, 'Authorised', 'executed');
    foreach my $case ([ error_500_before => 500 ], [ error_500_after => 500 ])
    {
        my ($fault, $status) = @$case;
        faults($fault => 'next:1', should_retry_true => 'next:1');
        $key = new_key();
        my $answer = $keyed->($key);
        is_deeply([ $answer->{status}, $answer->{headers}{'transient-error'} ], [ $status, 'true' ], "$fault, transient");
        is($keyed->($key)->{json}{resultCode}, 'Authorised', 'it may be tried again');
        is(scalar charges_of($key), 1, 'one charge');
    }
    faults(error_500_before => 'next:1', should_retry_false => 'next:1');
    $key = new_key();
    my $answer = $keyed->($key);
    is_deeply([ $answer->{status}, $answer->{headers}{'transient-error'} ], [ 500, 'false' ], 'not transient');
    is($keyed->($key)->{status}, 500, 'the same again');
    is(scalar charges_of($key), 0, 'no charge');
    faults(rate_limit => 'next:1', retry_after_s => 7);
    $answer = $keyed->(new_key());
    is_adyen_error($answer, 429, '000', 'validation', 'rate_limit');
    is($answer->{headers}{'retry-after'}, 7, 'Retry-After');
    faults(conflict_409 => 'next:1');
    $answer = $keyed->(new_key());
    is_adyen_error($answer, 409, '704', 'validation', 'conflict_409');
    is($answer->{headers}{'transient-error'}, 'true', 'to be tried again');
    faults(reset => 'next:1');
    $key = new_key();
    is($keyed->($key)->{status}, 599, 'reset');
    is(scalar charges_of($key), 0, 'nothing executed');
    faults(wrong_amount => 'next:1');
    is($keyed->(new_key())->{json}{amount}{value}, 1001, 'wrong_amount');
    faults(wrong_currency => 'next:1');
    is($keyed->(new_key())->{json}{amount}{currency}, 'USD', 'wrong_currency');
    faults(lookup_down => 'next:1');
    is(listing()->{status}, 500, 'lookup_down');
    faults(lost_answer => 'next:1');
    $key = new_key();
    is(transfer({ reference => 'lost-1' }, key => $key)->{status}, 599, 'a transfer whose answer is lost');
    my $found = listing(reference => 'lost-1')->{json}{data};
    is(scalar @$found, 1, 'is found by its reference');
    is(transfer({ reference => 'lost-1' }, key => $key)->{json}{id}, $found->[0]{id}, 'and by its key');
};

subtest 'delivery' => sub {
    my $listener = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1', Proto => 'tcp') or die "listen: $!";
    my $receive = sub {
        my ($status) = @_;
        my $socket = $listener->accept or die "accept: $!";
        my $got = '';
        until ($got =~ /\r\n\r\n/ && $got =~ /^Content-Length: (\d+)/im && length($got) - index($got, "\r\n\r\n") - 4 >= $1)
        {
            sysread($socket, $got, 65536, length $got) or last;
        }
        print {$socket} "HTTP/1.1 $status\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        close $socket;
        return $got;
    };
    my $last = get('/_sandbox/notifications?limit=1')->{json}{count};
    # Only what is new, or it would take all that the other tests left behind.
    stop();
    start(@flags);
    my $url = 'http://127.0.0.1:' . $listener->sockport . '/hook';
    is(post('/_sandbox/notifications', [ url => $url ])->{json}{sends}, JSON::PP::true, 'a receiver');
    is(post('/_sandbox/notifications', [ url => 'ftp://x' ])->{status}, 400, 'no URL');
    my $payment = pay_adyen({ reference => 'delivered' })->{json}{pspReference};
    like($receive->('503 Busy'), qr{^POST /hook HTTP/1\.1\r\n}, 'sent');
    like($receive->('200 OK'), qr/"pspReference":"$payment"/, 'and again, until it is confirmed');
    wait_until(sub { (notifications())[0]{delivered} });
    is((notifications())[0]{attempts}, 2, 'which is noted');
    post('/_sandbox/notifications', [ resend => 1 ]);
    like($receive->('204 No Content'), qr/"pspReference":"$payment"/, 'once more on request');
    wait_until(sub { (notifications())[0]{delivered} });
    is(post('/_sandbox/notifications', [ url => '' ])->{json}{sends}, JSON::PP::false, 'no receiver any more');
};
is(stop(), 0, 'stopped');

subtest 'a book that outlives kill -9' => sub {
    my @book = ('--book', path_of('book'), @flags, '--adyen-capture', 'manual');
    start(@book);
    my $key = new_key();
    my $first = pay_adyen({}, key => $key);
    my $payment = $first->{json}{pspReference};
    my $pending = pay_with('sandbox_pending')->{json}{pspReference};
    my $capture = adyen('POST', PAYMENTS . "/$payment/captures",
        { merchantAccount => 'SandboxMerchant', amount => { value => 1000, currency => 'EUR' } })->{json}{pspReference};
    stop('KILL');
    start(@book);
    is(pay_adyen({}, key => $key)->{content}, $first->{content}, 'the stored answer');
    is(wait_for_event('CAPTURE', $capture)->{success}, 'true', 'what was taken in is done');
    is(wait_for_event('AUTHORISATION', $pending)->{success}, 'true', 'what was pending ends');
    my $count = get('/_sandbox/notifications')->{json}{count};
    my %before = map { $_ => get($_)->{content} } '/_sandbox/charges.csv', '/_sandbox/book', '/_sandbox/notifications';
    is($count, 3, 'three notifications');
    stop('KILL');
    start(@book);
    is(get($_)->{content}, $before{$_}, "the same: $_") foreach sort keys %before;
    is(stop(), 0, 'stopped');
};

finish();
