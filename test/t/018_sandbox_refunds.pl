# The sandbox PSP's refunds at Stripe, and authorisations that expire.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::RealBin/../lib";
use SandboxTest;

use constant REFUNDS => '/v1/refunds';

sub refund
{
    my ($intent, $pairs, %option) = @_;
    return post(REFUNDS, [ payment_intent => $intent, @{ $pairs // [] } ], %option);
}

sub status_of { my ($id) = @_; return get(REFUNDS . "/$id")->{json}{status} }

sub wait_for
{
    my ($id, $status) = @_;
    return wait_until(sub { status_of($id) eq $status }, "$id $status");
}

sub charge_of { my ($intent) = @_; return get(INTENTS . "/$intent?expand[]=latest_charge")->{json}{latest_charge} }

# What the account holds in a currency, pending and available together.
sub holds
{
    my ($currency) = @_;
    my $balance = get('/v1/balance')->{json};
    my $sum = 0;
    $sum += $_->{amount} foreach grep { $_->{currency} eq $currency } map { @{ $balance->{$_} } } qw(pending available);
    return $sum;
}

start('--modification-delay-ms', 150, '--book', path_of('book'));

subtest 'refunds' => sub {
    my $intent = pay({ amount => 1000 })->{json}{id};
    my $held = holds('usd');
    my $key = new_key();
    my $answer = refund($intent, [ amount => 300, reason => 'requested_by_customer', 'metadata[refund]' => 'r1' ], key => $key);
    is($answer->{status}, 200, 'refunded');
    my $refund = $answer->{json};
    like($refund->{id}, qr/^re_\w{24}$/, 'id');
    is_deeply([ @$refund{qw(object amount currency payment_intent reason status)}, $refund->{metadata} ],
        [ 'refund', 300, 'usd', $intent, 'requested_by_customer', 'succeeded', { refund => 'r1' } ], 'its fields');
    is(refund($intent, [ amount => 300, reason => 'requested_by_customer', 'metadata[refund]' => 'r1' ], key => $key)->{content},
        $answer->{content}, 'the stored answer under its key');
    is(holds('usd'), $held - 300, 'taken from the balance once');
    my $tx = get("/v1/balance_transactions/$refund->{balance_transaction}")->{json};
    is_deeply([ @$tx{qw(type reporting_category amount fee net source)} ], [ 'refund', 'refund', -300, 0, -300, $refund->{id} ],
        'with a transaction of its own');
    my $charge = charge_of($intent);
    is_deeply([ $charge->{amount_refunded}, !!$charge->{refunded} ], [ 300, !!0 ], 'partially');
    is($charge->{id}, $refund->{charge}, 'of the charge');

    is_error(refund($intent, [ amount => 701 ]), 400, 'invalid_request_error', undef, 'amount', 'more than is left');
    is(post(REFUNDS, [ charge => $charge->{id}, amount => 200 ])->{json}{amount}, 200, 'by charge');
    is(refund($intent)->{json}{amount}, 500, 'all that is left');
    ok(charge_of($intent)->{refunded}, 'refunded');
    is_error(refund($intent), 400, 'invalid_request_error', 'charge_already_refunded', 'charge', 'nothing is left');
    is_deeply([ map { $_->{amount} } @{ get(REFUNDS . "?payment_intent=$intent")->{json}{data} } ], [ 500, 200, 300 ], 'listed');
    is_deeply([ map { $_->{amount} } @{ get(REFUNDS . "?charge=$charge->{id}&limit=1&starting_after=$refund->{id}")->{json}{data} } ],
        [], 'in pages');
    is_deeply([ @{ book()->{usd} }{qw(refunds_succeeded refunds_sum)} ], [ 3, 1000 ], 'in the book');
};

subtest 'what cannot be refunded' => sub {
    my $held = pay({ capture_method => 'manual' })->{json}{id};
    is_error(refund($held), 400, 'invalid_request_error', undef, 'charge', 'not captured');
    my $idle = pay({ confirm => undef })->{json}{id};
    is_error(refund($idle), 400, 'invalid_request_error', undef, 'payment_intent', 'not charged');
    is_error(refund('pi_unknown'), 404, 'invalid_request_error', 'resource_missing', 'payment_intent', 'unknown');
    is_error(post(REFUNDS, []), 400, 'invalid_request_error', 'parameter_missing', 'payment_intent', 'of nothing');
    my $paid = pay()->{json};
    is_error(refund($paid->{id}, [ charge => $paid->{latest_charge} ]), 400, 'invalid_request_error', 'parameter_missing',
        'payment_intent', 'of both');
    foreach my $case ([ amount => 0 ], [ amount => -1 ], [ amount => '1.5' ])
    {
        is_error(refund($paid->{id}, $case), 400, 'invalid_request_error', 'parameter_invalid_integer', 'amount', "amount $case->[1]");
    }
    is_error(refund($paid->{id}, [ reason => 'boredom' ]), 400, 'invalid_request_error', undef, 'reason', 'reason');
    is_error(get(REFUNDS . '/re_unknown'), 404, 'invalid_request_error', 'resource_missing', 'refund', 'an unknown refund');
    is(charge_of($paid->{id})->{amount_refunded}, 0, 'nothing was refunded');

    my @answers = in_parallel(6, sub { return { status => refund($paid->{id}, [ amount => 400 ])->{status} } });
    is_deeply([ sort map { $_->{status} } @answers ], [ 200, 200, 400, 400, 400, 400 ], 'six of 400 on 1000 at once');
};

subtest 'refunds that take time' => sub {
    my $intent = pay({ amount => 1000 })->{json}{id};
    my $held = holds('usd');
    my $id = refund($intent, [ amount => 100, 'metadata[sandbox]' => 'pending' ])->{json}{id};
    is(status_of($id), 'pending', 'pending');
    is(holds('usd'), $held - 100, 'is taken at once');
    wait_for($id, 'succeeded');
    is(holds('usd'), $held - 100, 'and stays so');
    foreach my $case ([ fail => 'pending' ], [ fail_later => 'succeeded' ])
    {
        my ($trigger, $first) = @$case;
        $id = refund($intent, [ amount => 900, 'metadata[sandbox]' => $trigger ])->{json}{id};
        is(status_of($id), $first, "$trigger: $first");
        wait_for($id, 'failed');
        my $refund = get(REFUNDS . "/$id")->{json};
        is($refund->{failure_reason}, 'expired_or_canceled_card', 'failed, with a reason');
        my $tx = get("/v1/balance_transactions/$refund->{failure_balance_transaction}")->{json};
        is_deeply([ @$tx{qw(type reporting_category amount source)} ], [ 'refund_failure', 'refund_failure', 900, $id ], 'given back');
        is(holds('usd'), $held - 100, 'the money is here again');
        is(charge_of($intent)->{amount_refunded}, 100, 'and can be refunded again');
    }
    $id = refund($intent, [ amount => 50, 'metadata[sandbox]' => 'stuck' ])->{json}{id};
    is(post('/_sandbox/refunds', [ refund => $id, status => 'succeeded' ])->{json}{status}, 'succeeded', 'moved');
    is(post('/_sandbox/refunds', [ refund => $id, status => 'pending' ])->{status}, 400, 'not backwards');
    is(post('/_sandbox/refunds', [ refund => $id, status => 'failed' ])->{json}{status}, 'failed', 'it can still fail');
    is(post('/_sandbox/refunds', [ refund => $id, status => 'failed' ])->{status}, 400, 'once');
    $id = refund($intent, [ amount => 50, 'metadata[sandbox]' => 'requires_action' ])->{json}{id};
    is(status_of($id), 'requires_action', 'requires_action');
    is(post(REFUNDS . "/$id/cancel", [])->{json}{status}, 'canceled', 'canceled');
    is(post(REFUNDS . "/$id/cancel", [])->{status}, 400, 'once');
    is(charge_of($intent)->{amount_refunded}, 100, 'as if it had never been');

    my $slow = pay({ payment_method => 'pm_card_pendingRefund' })->{json}{id};
    is(refund($slow)->{json}{status}, 'pending', 'by card: pending');
    my $failing = pay({ payment_method => 'pm_card_refundFail' })->{json}{id};
    $id = refund($failing)->{json}{id};
    is(status_of($id), 'succeeded', 'by card: succeeded');
    wait_for($id, 'failed');
    faults(refund_pending => 'next:1');
    is(refund($failing, [ amount => 1 ])->{json}{status}, 'pending', 'by fault');
    faults(lost_answer => 'next:1');
    my $key = new_key();
    is(refund($intent, [ amount => 10 ], key => $key)->{status}, 599, 'no answer');
    my $again = refund($intent, [ amount => 10 ], key => $key);
    is($again->{headers}{'idempotent-replayed'}, 'true', 'but refunded, once');
    faults(wrong_amount => 'next:1');
    is(refund($intent, [ amount => 10 ])->{json}{amount}, 11, 'one minor unit more');
};

subtest 'settled' => sub {
    post('/_sandbox/settle', []);
    my $intent = pay({ amount => 500, 'metadata[payment_order]' => 'order-s' })->{json};
    my $old = pay({ amount => 700, currency => 'eur' })->{json}{id};
    is(post('/_sandbox/settle', [])->{json}{others}, 0, 'two charges');
    my $bad = refund($intent->{id}, [ amount => 200, 'metadata[sandbox]' => 'stuck' ])->{json};
    post('/_sandbox/refunds', [ refund => $bad->{id}, status => 'failed' ]);
    my $good = refund($intent->{id}, [ amount => 120 ])->{json};
    refund($old);
    my $settlement = post('/_sandbox/settle', [])->{json};
    is_deeply([ @$settlement{qw(charges others lines)} ], [ 0, 4, 4 ], 'refunds only');
    is_deeply([ map { [ @$_{qw(currency amount others others_net)} ] } @{ $settlement->{payouts} } ],
        [ [ 'eur', -700, 1, -700 ], [ 'usd', -120, 3, -120 ] ], 'net of them');
    my @rows = csv(get('/_sandbox/settlement.csv?settlement=latest')->{content});
    is_deeply(
        [ map { [ @$_{qw(reporting_category source_id gross fee net charge_id payment_intent_id), 'payment_metadata[payment_order]'} ] }
          grep { $_->{currency} eq 'usd' } @rows ],
        [
            map { [ @$_, $intent->{latest_charge}, $intent->{id}, 'order-s' ] }
              [ 'refund', $bad->{id}, '-2.00', '0.00', '-2.00' ],
            [ 'refund_failure', $bad->{id}, '2.00', '0.00', '2.00' ], [ 'refund', $good->{id}, '-1.20', '0.00', '-1.20' ] ],
        'the file');
    my ($usd) = grep { $_->{currency} eq 'usd' } @{ $settlement->{payouts} };
    is_deeply([ sort map { $_->{type} } @{ get("/v1/balance_transactions?payout=$usd->{id}")->{json}{data} } ],
        [qw(payout refund refund refund_failure)], 'the transactions of the payout');
    is(post('/_sandbox/settle', [])->{json}{others}, 0, 'nothing is settled twice');
};

subtest 'a book that outlives kill -9' => sub {
    my $intent = pay()->{json}{id};
    my $refund = refund($intent, [ amount => 300, 'metadata[sandbox]' => 'fail', 'metadata[k]' => 'v' ])->{json};
    my $balance = get('/v1/balance')->{content};
    stop('KILL');
    start('--modification-delay-ms', 150, '--book', path_of('book'));
    is(get(REFUNDS . "/$refund->{id}")->{json}{metadata}{k}, 'v', 'the refund is there');
    wait_for($refund->{id}, 'failed');
    is(charge_of($intent)->{amount_refunded}, 0, 'and fails when its time has come');
    isnt(get('/v1/balance')->{content}, $balance, 'the balance has it');
    is(post('/_sandbox/settle', [])->{json}{others}, 2, 'only what was not settled is');
    is(stop(), 0, 'stopped');
};

subtest 'authorisations expire' => sub {
    start('--authorization-lifetime-s', 1);
    my $intent = pay({ capture_method => 'manual' })->{json}{id};
    my $captured = pay({ capture_method => 'manual' })->{json}{id};
    is(post(INTENTS . "/$captured/capture", [ amount_to_capture => 400 ])->{json}{amount_received}, 400, 'captured in time, in part');
    wait_until(sub { get(INTENTS . "/$intent")->{json}{status} eq 'canceled' }, 'expired');
    is(get(INTENTS . "/$intent")->{json}{cancellation_reason}, 'automatic', 'by itself');
    is_error(post(INTENTS . "/$intent/capture", []), 400, 'invalid_request_error', 'payment_intent_unexpected_state', undef,
        'too late to capture');
    is(get(INTENTS . "/$captured")->{json}{status}, 'succeeded', 'what is captured stays');
    is_error(refund($captured, [ amount => 401 ]), 400, 'invalid_request_error', undef, 'amount', 'no refund of more than that');
    is(refund($captured)->{json}{amount}, 400, 'but of that');
    is(book()->{usd}{charges_voided}, 1, 'in the book');
    is(stop(), 0, 'stopped');
};

finish();
