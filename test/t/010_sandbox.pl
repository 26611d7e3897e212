# The sandbox PSP itself: what it promises is what all other tests build on.

use strict;
use warnings;

use FindBin;
use Test::More;
use Time::HiRes qw(sleep time);

use lib "$FindBin::RealBin/../lib";
use SandboxTest;

# -------------------------------------------------------------- command line

subtest 'command line' => sub {
    my ($status, $text) = run('--help');
    is($status, 0, '--help');
    foreach my $flag (
        qw(port bind secret-key-file book pid-file port-file fault seed fee payout-delay-ms
        payout-return-delay-ms processing-delay-ms modification-delay-ms idempotency-ttl-s max-connections
        idle-timeout-s adyen-merchant adyen-balance-account adyen-capture paypal-client-id token-lifetime-s
        hmac-key-file webhook-url stripe-webhook-url adyen-webhook-url paypal-webhook-url
        stripe-webhook-secret-file settlement-currency authorization-lifetime-s session-lifetime-s dispute-fee adyen-multiple-captures paypal-webhook-id tls-cert tls-key verbose)
      )
    {
        like($text, qr/--\Q$flag\E\b/, "--help tells of --$flag");
    }
    foreach my $wrong (
        [ '--port',            '70000' ],
        [ '--port',            'x' ],
        [ '--fault',           'nothing=1' ],
        [ '--fault',           'lost_answer=101' ],
        [ '--fee',             'USD=1' ],
        [ '--fee',             'XXX=1,1' ],
        [ '--adyen-capture',   'later' ],
        [ '--hmac-key-file',   '/nonexistent/key' ],
        [ '--webhook-url',     'https://127.0.0.1/' ],
        [ '--settlement-currency', 'eur=usd' ],
        [ '--settlement-currency', 'eur=eur:1' ],
        [ '--settlement-currency', 'eur=usd:0' ],
        [ '--settlement-currency', 'eur=usd:1.123456789' ],
        [ '--bind',            'nowhere' ],
        [ '--book',            '/nonexistent/book' ],
        [ '--secret-key-file', '/nonexistent/key' ],
        ['--nonsense'],
        ['argument'])
    {
        ($status, $text) = run(@$wrong);
        ok($status != 0 && $text ne '', "refused: @$wrong");
    }

    my $secret = path_of('secret');
    open my $out, '>', $secret or die "$secret: $!";
    print {$out} "sk_test_of_this_test\n";
    close $out;
    start('--secret-key-file', $secret, '--pid-file', path_of('pid'), '--verbose');
    is(slurp(path_of('pid')), sandbox->{pid} . "\n", '--pid-file');
    is(get('/_sandbox/healthz')->{content}, "ok\n", 'healthz');
    my $answer = request('GET', '/v1/balance');
    is_error($answer, 401, 'invalid_request_error', undef, undef, 'another key is refused');
    like($answer->{headers}{'www-authenticate'}, qr/Bearer/, 'and told what is wanted');
    foreach my $header ('Bearer sk_test_of_this_tesT', 'Bearer ', 'Bearer', 'Basic sk_test_of_this_test',
        'Bearer sk_test_of_this_test2')
    {
        is(request('GET', '/v1/balance', headers => { Authorization => $header })->{status},
            401, "refused: $header");
    }
    is(
        request('GET', '/v1/balance', headers => { Authorization => 'Bearer sk_test_of_this_test' })
          ->{status},
        200, 'the right key');
    is(stop(), 0, 'SIGTERM stops it');
    unlike(slurp(sandbox->{log}), qr/sk_test/, 'no key in the log');
    ok(!-e path_of('pid'), 'the pid file is gone');
};

# ------------------------------------------------------------------ intents

start('--processing-delay-ms', 1000, '--payout-delay-ms', 1500, '--payout-return-delay-ms', 1000);

subtest 'payment intents' => sub {
    my $answer = pay({
        'metadata[payment_order]' => 'order-1',
        'metadata[empty]'         => '',
        description               => "three \"shirts\",\nred \x{e2}\x{82}\x{ac}",
        'automatic_payment_methods[enabled]' => 'true',
        'automatic_payment_methods[allow_redirects]' => 'never',
        transfer_group => 'group',
        off_session    => 'true' });
    is($answer->{status}, 200, 'created and confirmed');
    my $intent = $answer->{json};
    like($intent->{id}, qr/^pi_[0-9A-Za-z]{24}$/, 'id');
    like($intent->{latest_charge}, qr/^ch_[0-9A-Za-z]{24}$/, 'charge');
    like($intent->{client_secret}, qr/^\Q$intent->{id}\E_secret_\w+$/, 'client_secret');
    is_deeply(
        [ @$intent{qw(object amount amount_received amount_capturable currency status payment_method)} ],
        [ 'payment_intent', 1000, 1000, 0, 'usd', 'succeeded', 'pm_card_visa' ],
        'fields');
    is_deeply($intent->{metadata}, { payment_order => 'order-1' }, 'metadata, nothing for empty values');
    is($intent->{description}, "three \"shirts\",\nred \x{20ac}", 'description is kept exactly');
    ok(!$intent->{livemode}, 'livemode');
    ok(abs($intent->{created} - time) < 5, 'created');
    is_deeply(get(INTENTS . "/$intent->{id}")->{json}, $intent, 'retrieved alike');
    is(pay({ payment_method => 'pm_card_mastercard' })->{json}{status}, 'succeeded', 'mastercard');
    is(pay({ payment_method => 'pm_sandbox_success_9' })->{json}{status}, 'succeeded', 'pm_sandbox_success_*');
    is(pay({ currency => 'JPY', amount => 999999999999 })->{json}{currency}, 'jpy', 'upper case, huge');

    my $expanded = pay({ 'expand[]' => 'latest_charge.balance_transaction' })->{json};
    is($expanded->{latest_charge}{balance_transaction}{fee}, 59, 'the fee, when asked for');
    is(get("/v1/charges/$expanded->{latest_charge}{id}")->{json}{amount}, 1000, 'a charge by id');
    is(get(INTENTS . '/pi_000000000000000000000000')->{status}, 404, 'an unknown one');
    is(get('/v1/nonsense')->{status}, 404, 'an unknown endpoint');
    is(request('DELETE', INTENTS)->{status}, 404, 'an unknown method');
};

subtest 'wrong parameters' => sub {
    my $invalid = 'invalid_request_error';
    my $before = book();
    is_error(pay({ amount => undef }), 400, $invalid, 'parameter_missing', 'amount', 'no amount');
    is_error(pay({ currency => undef }), 400, $invalid, 'parameter_missing', 'currency', 'no currency');
    is_error(pay({ payment_method => undef }),
        400, $invalid, 'parameter_missing', 'payment_method', 'confirmed without a method');
    is_error(pay({ colour => 'red' }), 400, $invalid, 'parameter_unknown', 'colour', 'unknown parameter');
    is_error(pay({ 'metadata[a][b]' => 1 }),
        400, $invalid, 'parameter_unknown', 'metadata[a][b]', 'nested metadata');
    is_error(pay({ payment_method => 'pm_nobody' }),
        400, $invalid, 'resource_missing', 'payment_method', 'unknown method');
    is_error(pay({ amount => $_ }), 400, $invalid, 'parameter_invalid_integer', 'amount', "amount '$_'")
      foreach '1.5', 'ten', '10x', '0x10', ' 5', '+5', '1e3';
    is_error(pay({ amount => $_ }), 400, $invalid, 'amount_too_small', 'amount', "amount $_") foreach 0, -1;
    is_error(pay({ amount => $_ }), 400, $invalid, 'amount_too_large', 'amount', "amount $_")
      foreach '1000000000000', '9223372036854775808', '99999999999999999999999';
    is_error(pay({ currency => $_ }), 400, $invalid, undef, 'currency', "currency $_")
      foreach 'xyz', 'us', 'usdx', 'XXX';
    is_error(pay({ confirm => 'yes' }), 400, $invalid, undef, 'confirm', 'a boolean that is none');
    is_error(pay({ confirm => 'false', off_session => 'true' }),
        400, $invalid, undef, 'off_session', 'off_session without confirm');
    is_error(pay({ capture_method => 'later' }), 400, $invalid, undef, 'capture_method', 'capture method');
    is_error(pay({ 'expand[]' => 'customer' }), 400, $invalid, undef, 'expand', 'cannot be expanded');
    is_error(pay({ 'metadata[' . 'k' x 41 . ']' => 1 }), 400, $invalid, undef, 'metadata', 'long key');
    is_error(pay({ 'metadata[k]' => 'v' x 501 }), 400, $invalid, undef, 'metadata[k]', 'long value');
    is_error(pay({ map { ("metadata[k$_]" => 1) } 1 .. 51 }),
        400, $invalid, undef, 'metadata', 'too many keys');
    is_error(post(INTENTS, [ amount => 1, amount => 2, currency => 'usd' ]),
        400, $invalid, undef, undef, 'a parameter given twice');
    is_error(request('POST', INTENTS . '?amount=1', content => 'currency=usd'),
        400, $invalid, 'parameter_unknown', 'amount', 'parameters of a POST in the query');
    is_error(
        request('POST', INTENTS, content => '{"amount":1}', headers => { 'Content-Type' => 'application/json' }),
        400, $invalid, undef, undef, 'a JSON body');
    is_deeply(book(), $before, 'nothing of that was charged');
};

subtest 'declines' => sub {
    my %decline = (
        pm_card_chargeDeclined                       => [qw(card_declined generic_decline)],
        pm_card_visa_chargeDeclined                  => [qw(card_declined generic_decline)],
        pm_card_chargeDeclinedInsufficientFunds      => [qw(card_declined insufficient_funds)],
        pm_card_visa_chargeDeclinedInsufficientFunds => [qw(card_declined insufficient_funds)],
        pm_card_chargeDeclinedLostCard               => [qw(card_declined lost_card)],
        pm_card_chargeDeclinedStolenCard             => [qw(card_declined stolen_card)],
        pm_card_chargeDeclinedFraudulent             => [qw(card_declined fraudulent)],
        pm_card_chargeDeclinedFraudulentDecline      => [qw(card_declined fraudulent)],
        pm_card_chargeDeclinedExpiredCard            => [qw(expired_card expired_card)],
        pm_card_chargeDeclinedIncorrectCvc           => [qw(incorrect_cvc incorrect_cvc)],
        pm_card_chargeDeclinedProcessingError        => [qw(processing_error processing_error)],
    );
    my $before = book()->{usd};
    foreach my $method (sort keys %decline)
    {
        my $answer = pay({ payment_method => $method, 'metadata[payment_order]' => 'declined' });
        my $error = $answer->{json}{error};
        is_deeply(
            [ $answer->{status}, @$error{qw(type code decline_code)} ],
            [ 402, 'card_error', @{ $decline{$method} } ], $method);
        my $intent = $error->{payment_intent};
        is_deeply(
            [
                $intent->{status}, $intent->{last_payment_error}{code},
                $intent->{metadata}{payment_order}, $intent->{amount_received} ],
            [ 'requires_payment_method', $decline{$method}[0], 'declined', 0 ],
            'with its intent');
        is($error->{charge}, $intent->{latest_charge}, 'with its charge');
        is_deeply(get(INTENTS . "/$intent->{id}")->{json}, $intent, 'which is kept');
        is(get(INTENTS . '?limit=1')->{json}{data}[0]{id}, $intent->{id}, 'and listed');
    }
    my $after = book()->{usd};
    is($after->{charges_declined} - $before->{charges_declined}, scalar keys %decline, 'counted');
    is($after->{gross}, $before->{gross}, 'no money');

    my $intent = pay({ payment_method => 'pm_card_chargeDeclined' })->{json}{error}{payment_intent};
    my $confirm = INTENTS . "/$intent->{id}/confirm";
    is_error(post($confirm, []), 400, 'invalid_request_error', 'payment_intent_unexpected_state',
        undef, 'a declined method has to be replaced');
    is(post($confirm, [ payment_method => 'pm_card_visa' ])->{json}{status}, 'succeeded', 'and then succeeds');
    is_error(post($confirm, [ payment_method => 'pm_card_visa' ]),
        400, 'invalid_request_error', 'payment_intent_unexpected_state', undef, 'but only once');
};

subtest 'authentication' => sub {
    my $method = 'pm_card_authenticationRequired';
    my $intent = pay({ payment_method => $method, return_url => 'https://shop.example/back' })->{json};
    is($intent->{status}, 'requires_action', 'requires_action');
    is($intent->{next_action}{type}, 'redirect_to_url', 'a redirect where to return is known');
    is($intent->{latest_charge}, undef, 'nothing charged');
    is(pay({ payment_method => $method })->{json}{next_action}{type}, 'use_stripe_sdk', 'or the SDK');
    foreach my $flag (qw(off_session error_on_requires_action))
    {
        my $answer = pay({ payment_method => $method, $flag => 'true' });
        is_deeply([ $answer->{status}, $answer->{json}{error}{code} ],
            [ 402, 'authentication_required' ], "402 with $flag");
    }
};

subtest 'processing' => sub {
    my $good = pay({ payment_method => 'pm_sandbox_processing' })->{json};
    my $bad = pay({ payment_method => 'pm_sandbox_processing_fails' })->{json};
    is_deeply([ $good->{status}, $bad->{status} ], [qw(processing processing)], 'processing');
    is(book()->{usd}{charges_pending}, 2, 'in the book as pending');
    is_error(post(INTENTS . "/$good->{id}/cancel", []),
        400, 'invalid_request_error', 'payment_intent_unexpected_state', undef, 'cannot be canceled');
    my $is_done = sub { get(INTENTS . "/$_[0]{id}")->{json}{status} ne 'processing' };
    wait_until(sub { $is_done->($good) && $is_done->($bad) });
    is(get(INTENTS . "/$good->{id}")->{json}{status}, 'succeeded', 'then succeeded');
    is(get(INTENTS . "/$bad->{id}")->{json}{status}, 'requires_payment_method', 'or failed');
    is(book()->{usd}{charges_pending}, 0, 'nothing pending');
};

subtest 'confirm, capture, cancel' => sub {
    my $intent = pay({ confirm => undef })->{json};
    is($intent->{status}, 'requires_confirmation', 'created only');
    is($intent->{latest_charge}, undef, 'nothing charged');
    is(post(INTENTS . "/$intent->{id}/confirm", [])->{json}{status}, 'succeeded', 'confirmed later');
    is(pay({ confirm => undef, payment_method => undef })->{json}{status},
        'requires_payment_method', 'created without a method');

    my $before = book()->{usd};
    $intent = pay({ capture_method => 'manual' })->{json};
    is_deeply([ @$intent{qw(status amount_capturable amount_received)} ],
        [ 'requires_capture', 1000, 0 ], 'authorized only');
    is(book()->{usd}{gross}, $before->{gross}, 'no money yet');
    my $capture = INTENTS . "/$intent->{id}/capture";
    is_error(post($capture, [ amount_to_capture => 1001 ]),
        400, 'invalid_request_error', 'amount_too_large', 'amount_to_capture', 'not more than authorized');
    $intent = post($capture, [ amount_to_capture => 600 ])->{json};
    is_deeply([ @$intent{qw(status amount amount_capturable amount_received)} ],
        [ 'succeeded', 1000, 0, 600 ], 'captured in part');
    is(book()->{usd}{gross} - $before->{gross}, 600, 'the money of the part');
    is_error(post($capture, []),
        400, 'invalid_request_error', 'payment_intent_unexpected_state', undef, 'captured once only');

    $intent = pay({ capture_method => 'manual' })->{json};
    my $canceled =
      post(INTENTS . "/$intent->{id}/cancel", [ cancellation_reason => 'requested_by_customer' ])->{json};
    is_deeply([ @$canceled{qw(status cancellation_reason)} ],
        [ 'canceled', 'requested_by_customer' ], 'an authorization canceled');
    is(book()->{usd}{charges_voided}, 1, 'voided');
    is(post(INTENTS . '/pi_unknown/cancel', [], key => 'unknown-1')->{status}, 404, 'an unknown intent');
};

# ------------------------------------------------------------------- payouts

subtest 'payouts' => sub {
    my $answer = payout({ 'metadata[payout]' => 'p-1', description => 'earned', method => 'instant' });
    my $payout = $answer->{json};
    like($payout->{id}, qr/^po_[0-9A-Za-z]{24}$/, 'id');
    is_deeply(
        [ @$payout{qw(object amount currency destination status method description failure_code)} ],
        [ 'payout', 500, 'usd', 'ba_sandbox_one', 'pending', 'instant', 'earned', undef ], 'fields');
    is_deeply($payout->{metadata}, { payout => 'p-1' }, 'metadata');
    ok(!$payout->{automatic}, 'not automatic');
    my ($failing) = map { payout({ destination => $_ })->{json}{id} } 'ba_sandbox_fail';
    my $returning = payout({ destination => 'ba_sandbox_return_later' })->{json}{id};
    is(book()->{usd}{payouts_in_flight}, 3, 'in flight');

    my %seen;
    my $status = sub { my ($id) = @_; my $now = get(PAYOUTS . "/$id")->{json}{status}; $seen{$id}{$now} = 1; $now };
    wait_until(
        sub {
            $status->($_) foreach $payout->{id}, $failing, $returning;
            return $seen{ $payout->{id} }{paid} && $seen{$failing}{failed} && $seen{$returning}{failed};
        });
    is_deeply($seen{ $payout->{id} }, { pending => 1, in_transit => 1, paid => 1 }, 'on its way');
    is_deeply($seen{$failing}, { pending => 1, in_transit => 1, failed => 1 }, 'one fails');
    is_deeply($seen{$returning}, { pending => 1, in_transit => 1, paid => 1, failed => 1 }, 'one comes back');
    my $failed = get(PAYOUTS . "/$failing")->{json};
    is($failed->{failure_code}, 'account_closed', 'and says why');
    like($failed->{failure_balance_transaction}, qr/^txn_/, 'its money is back');
    my $usd = book()->{usd};
    is_deeply([ @$usd{qw(payouts_paid payouts_paid_sum payouts_in_flight payouts_failed)} ],
        [ 1, 500, 0, 2 ], 'the book');

    my $cancel = payout()->{json}{id};
    is(post(PAYOUTS . "/$cancel/cancel", [])->{json}{status}, 'canceled', 'canceled');
    is(post(PAYOUTS . "/$cancel/cancel", [])->{status}, 400, 'but only while pending');
    my $invalid = 'invalid_request_error';
    is_error(payout({ destination => 'ba_nobody' }),
        400, $invalid, 'resource_missing', 'destination', 'unknown destination');
    is_error(payout({ destination => undef }),
        400, $invalid, 'parameter_missing', 'destination', 'no destination');
    is_error(payout({ amount => 0 }), 400, $invalid, 'amount_too_small', 'amount', 'no amount');
    is_error(payout({ what => 1 }), 400, $invalid, 'parameter_unknown', 'what', 'unknown parameter');
    is(get(PAYOUTS . '/po_unknown')->{status}, 404, 'an unknown payout');
    my @rows = csv(get('/_sandbox/payouts.csv')->{content});
    is(scalar @rows, 4, 'payouts.csv');
    is_deeply([ @{ $rows[0] }{qw(payout_id payout automatic status)} ], [ $payout->{id}, 'p-1', 'no', 'paid' ],
        'its first line');
};

# --------------------------------------------------------------- idempotency

subtest 'idempotency' => sub {
    my $before = counts();
    my $key = new_key();
    my %fields = (amount => 777, 'metadata[b]' => 2, 'metadata[a]' => 1);
    my $first = pay(\%fields, key => $key);
    is($first->{headers}{'idempotent-replayed'}, undef, 'the first answer');
    my $again = pay(\%fields, key => $key);
    is($again->{content}, $first->{content}, 'replayed to the byte');
    is($again->{headers}{'idempotent-replayed'}, 'true', 'and marked so');
    my $shuffled = post(
        INTENTS,
        [
            payment_method => 'pm_card_visa', 'metadata[a]' => 1, currency => 'usd',
            'metadata[b]'  => 2, confirm => 'true', amount => 777 ],
        key => $key);
    is($shuffled->{content}, $first->{content}, 'in another order of parameters, too');
    is_error(pay({ %fields, amount => 778 }, key => $key),
        400, 'idempotency_error', undef, undef, 'other parameters');
    is_error(pay({ amount => 'nonsense' }, key => $key),
        400, 'idempotency_error', undef, undef, 'even invalid ones');
    is_error(payout({}, key => $key), 400, 'idempotency_error', undef, undef, 'another endpoint');
    my $after = counts();
    my ($was, $is) = map { $_->{endpoints}{'POST /v1/payment_intents'} } $before, $after;
    is($is->{executed} - $was->{executed}, 1, 'executed once');
    is($is->{replayed} - $was->{replayed}, 2, 'replayed twice');
    is($is->{mismatched} - $was->{mismatched}, 2, 'mismatched twice');
    is($after->{distinct_keys} - $before->{distinct_keys}, 1, 'one key more');

    my $decline = new_key();
    my @declined = map { pay({ payment_method => 'pm_card_chargeDeclined' }, key => $decline) } 1, 2;
    is($declined[1]{status}, 402, 'a decline is replayed');
    is($declined[1]{content}, $declined[0]{content}, 'to the byte');

    my $invalid = new_key();
    is(pay({ amount => 0 }, key => $invalid)->{status}, 400, 'a validation failure');
    is(pay({}, key => $invalid)->{status}, 200, 'is not stored');

    is(pay({}, key => 'k' x 255)->{status}, 200, 'a key of 255 characters');
    is_error(pay({}, key => 'k' x 256), 400, 'idempotency_error', undef, undef, 'and one of 256');
    my ($got) = raw(raw_request(INTENTS, 'amount=1&currency=usd', 'Idempotency-Key' => "k\xe9"));
    like($got, qr{^HTTP/1.1 400 .*idempotency_error}s, 'and one that is not ASCII');
    is(request('GET', '/v1/balance', key => $key)->{headers}{'idempotent-replayed'}, undef, 'GETs have none');

    my $unauthorized = new_key();
    is(pay({}, key => $unauthorized, headers => { Authorization => 'Bearer wrong' })->{status},
        401, 'an answer 401');
    is(pay({}, key => $unauthorized)->{headers}{'idempotent-replayed'}, undef, 'is not stored');
};

subtest 'one key, fifty processes' => sub {
    my $before = counts()->{endpoints}{'POST /v1/payment_intents'};
    my $key = new_key();
    faults(latency_ms => 300);
    my @results = in_parallel(
        50,
        sub {
            my ($conflicts, $answer) = (0);
            while (1)
            {
                $answer = pay({ amount => 4321 }, key => $key);
                last if $answer->{status} != 409;
                $conflicts++ if $answer->{json}{error}{code} eq 'idempotency_key_in_use';
                sleep 0.05;
            }
            return { status => $answer->{status}, id => $answer->{json}{id}, conflicts => $conflicts };
        });
    faults(reset => 1);
    my %ids = map { ($_->{id} // 'none') => 1 } @results;
    is(scalar(grep { ($_->{status} // 0) == 200 } @results), 50, 'all are answered');
    is(scalar keys %ids, 1, 'with the same payment');
    my $conflicts = 0;
    $conflicts += $_->{conflicts} // 0 foreach @results;
    ok($conflicts > 0, "meanwhile 409 ($conflicts times)");
    my $after = counts()->{endpoints}{'POST /v1/payment_intents'};
    is($after->{executed} - $before->{executed}, 1, 'one execution');
    is($after->{in_use} - $before->{in_use}, $conflicts, 'conflicts are counted');
    my ($id) = keys %ids;
    is(scalar(grep { $_->{payment_intent_id} eq $id } csv(get('/_sandbox/charges.csv')->{content})),
        1, 'one charge');
};

# ---------------------------------------------------------------------- lists

subtest 'lists' => sub {
    my @ids = reverse map { pay({ 'metadata[n]' => $_ })->{json}{id} } 1 .. 25;
    my $list = get(INTENTS . '?limit=10')->{json};
    is_deeply([ @$list{qw(object url)}, !!$list->{has_more} ], [ 'list', INTENTS, 1 ], 'a list');
    is_deeply([ map { $_->{id} } @{ $list->{data} } ], [ @ids[ 0 .. 9 ] ], 'newest first');
    is(scalar @{ get(INTENTS)->{json}{data} }, 10, 'ten unless told otherwise');

    my (@all, $after);
    while (1)
    {
        my $page = get(INTENTS . '?limit=7' . ($after ? "&starting_after=$after" : ''))->{json};
        push @all, map { $_->{id} } @{ $page->{data} };
        last if !$page->{has_more};
        $after = $all[-1];
    }
    is(scalar @all, get('/_sandbox/book')->{json}{payment_intents}, 'paging gives every one');
    my %once = map { $_ => 1 } @all;
    is(scalar keys %once, scalar @all, 'once');

    my $page = get(INTENTS . "?limit=5&ending_before=$ids[10]")->{json};
    is_deeply([ map { $_->{id} } @{ $page->{data} } ], [ @ids[ 5 .. 9 ] ], 'ending_before');
    ok($page->{has_more}, 'has more');
    $page = get(INTENTS . "?limit=20&ending_before=$ids[10]")->{json};
    is_deeply([ map { $_->{id} } @{ $page->{data} } ], [ @ids[ 0 .. 9 ] ], 'all that are newer');
    ok(!$page->{has_more}, 'has no more');

    sleep 1.1;
    my $new = pay()->{json};
    my $old = get(INTENTS . "/$ids[0]")->{json};
    my $t = $new->{created};
    my $newer = sub { my ($query) = @_; return map { $_->{id} } @{ get(INTENTS . "?$query")->{json}{data} } };
    is_deeply([ $newer->("created[gte]=$t") ], [ $new->{id} ], 'created[gte]');
    is_deeply([ $newer->("created=$t") ], [ $new->{id} ], 'created');
    is_deeply([ $newer->("created%5Bgt%5D=$t") ], [], 'created[gt]');
    is(($newer->("created[lt]=$t"))[0], $old->{id}, 'created[lt]');
    is(($newer->("created[lte]=$t"))[0], $new->{id}, 'created[lte]');
    is_deeply([ $newer->('created[gt]=' . ($t - 1) . "&created[lt]=" . ($t + 1)) ], [ $new->{id} ], 'both');
    my $expanded = get(INTENTS . '?limit=1&expand[]=data.latest_charge.balance_transaction')->{json};
    is($expanded->{data}[0]{latest_charge}{balance_transaction}{fee}, 59, 'expanded');

    my $invalid = 'invalid_request_error';
    is_error(get(INTENTS . "?limit=$_"), 400, $invalid, 'parameter_invalid_integer', 'limit', "limit $_")
      foreach 0, 101, 'x', -1;
    is_error(get(INTENTS . '?starting_after=pi_x'),
        400, $invalid, 'resource_missing', 'starting_after', 'unknown cursor');
    is_error(get(INTENTS . '?page=1'), 400, $invalid, 'parameter_unknown', 'page', 'unknown parameter');
    is_error(get(INTENTS . "?starting_after=$ids[0]&ending_before=$ids[1]"),
        400, $invalid, undef, 'ending_before', 'both directions');
    is_error(get(INTENTS . '?limit=%zz'), 400, $invalid, undef, undef, 'bad percent encoding');
    my $payouts = get(PAYOUTS . '?limit=2')->{json};
    is($payouts->{data}[0]{object}, 'payout', 'payouts are listed likewise');
};

subtest 'balance' => sub {
    my $balance = get('/v1/balance')->{json};
    my %sum;
    foreach my $side (qw(available pending))
    {
        $sum{ $_->{currency} } += $_->{amount} foreach @{ $balance->{$side} };
    }
    my (%of_txs, $after);
    while (1)
    {
        my $page =
          get('/v1/balance_transactions?limit=100' . ($after ? "&starting_after=$after" : ''))->{json};
        foreach my $tx (@{ $page->{data} })
        {
            $of_txs{ $tx->{currency} } += $tx->{net};
            is($tx->{net}, $tx->{amount} - $tx->{fee}, 'net') if $tx->{net} != $tx->{amount} - $tx->{fee};
            $after = $tx->{id};
        }
        last if !$page->{has_more};
    }
    is_deeply(\%of_txs, \%sum, 'the balance is the sum of its transactions');
    my $charge = pay()->{json}{latest_charge};
    my $txs = get("/v1/balance_transactions?source=$charge")->{json}{data};
    is_deeply([ map { @$_{qw(type amount fee net status)} } @$txs ], [ 'charge', 1000, 59, 941, 'pending' ],
        'of one charge');
    is_deeply(get("/v1/balance_transactions/$txs->[0]{id}")->{json}, $txs->[0], 'by id');
    is(scalar(grep { $_->{type} ne 'payout' || $_->{currency} ne 'usd' }
              @{ get('/v1/balance_transactions?type=payout&currency=usd')->{json}{data} }),
        0, 'by type and currency');
};

is(stop(), 0, 'stopped');
finish();
