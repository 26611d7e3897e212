# The sandbox PSP's disputes at Stripe: stages, evidence, and what they do to the balance.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::RealBin/../lib";
use SandboxTest;

use constant DISPUTES => '/v1/disputes';

sub dispute { my (@pairs) = @_; return post('/_sandbox/disputes', \@pairs) }
sub shown { my ($id) = @_; return get(DISPUTES . "/$id")->{json} }
sub count { return get('/_sandbox/notifications?limit=1')->{json}{count} }

# What was told about disputes since.
sub told
{
    my ($after) = @_;
    return join ' ', map { $_->{event} =~ s/^charge\.dispute\.//r } grep { $_->{event} =~ /^charge\.dispute/ }
      @{ get("/_sandbox/notifications?after=$after")->{json}{notifications} };
}

sub holds
{
    my $balance = get('/v1/balance')->{json};
    my $sum = 0;
    $sum += $_->{amount} foreach grep { $_->{currency} eq 'usd' } map { @{ $balance->{$_} } } qw(pending available);
    return $sum;
}

my $secrets = path_of('secrets');
open my $out, '>', $secrets or die "$secrets: $!";
print {$out} "whsec_test\n";
close $out;
my @flags = ('--stripe-webhook-secret-file', $secrets, '--modification-delay-ms', 100, '--book', path_of('book'));
start(@flags);

subtest 'a chargeback' => sub {
    my $charge = pay({ amount => 1000, 'metadata[payment_order]' => 'order-d' })->{json}{latest_charge};
    my ($held, $after) = (holds(), count());
    my $dispute = dispute(charge => $charge, amount => 800, reason => 'product_not_received')->{json};
    like($dispute->{id}, qr/^dp_\w{24}$/, 'id');
    is_deeply([ @$dispute{qw(object amount currency charge reason status)}, $dispute->{payment_method_details}{card}{case_type} ],
        [ 'dispute', 800, 'usd', $charge, 'product_not_received', 'needs_response', 'chargeback' ], 'its fields');
    is(told($after), 'created funds_withdrawn', 'told');
    is(holds(), $held - 2300, 'the amount and a fee are gone');
    my ($tx) = @{ $dispute->{balance_transactions} };
    is_deeply([ @$tx{qw(type reporting_category amount fee net source)} ],
        [ 'adjustment', 'dispute', -800, 1500, -2300, $dispute->{id} ], 'by a transaction');
    is(get("/v1/balance_transactions/$tx->{id}")->{json}{fee_details}[0]{description}, 'Dispute fee', 'that tells of the fee');
    ok(get("/v1/charges/$charge")->{json}{disputed}, 'the charge is disputed');
    is_error(post('/v1/refunds', [ charge => $charge ]), 400, 'invalid_request_error', 'charge_disputed', 'charge', 'and is not refunded');
    is(dispute(charge => $charge)->{status}, 400, 'nor disputed twice at once');

    my $update = post(DISPUTES . "/$dispute->{id}", [ 'evidence[customer_name]' => 'Ann', submit => 'false', 'metadata[k]' => 'v' ])->{json};
    is_deeply([ $update->{status}, $update->{evidence}{customer_name}, !!$update->{evidence_details}{has_evidence}, $update->{evidence_details}{submission_count}, $update->{metadata}{k} ],
        [ 'needs_response', 'Ann', !!1, 0, 'v' ], 'evidence is collected');
    is_error(post(DISPUTES . "/$dispute->{id}", [ 'evidence[nonsense]' => 'x' ]), 400, 'invalid_request_error', 'parameter_unknown',
        'evidence[nonsense]', 'of known kinds');
    $after = count();
    $update = post(DISPUTES . "/$dispute->{id}", [ 'evidence[receipt]' => 'file_1' ])->{json};
    is_deeply([ $update->{status}, @{ $update->{evidence} }{qw(customer_name receipt)}, $update->{evidence_details}{submission_count} ],
        [ 'under_review', 'Ann', 'file_1', 1 ], 'and submitted');
    is(told($after), 'updated', 'told');
    is(post(DISPUTES . "/$dispute->{id}", [ 'evidence[receipt]' => 'x' ])->{status}, 400, 'no more after that');
    is(post(DISPUTES . "/$dispute->{id}/close", [])->{status}, 400, 'nor can it be closed');

    $after = count();
    is(dispute(dispute => $dispute->{id}, status => 'won')->{json}{status}, 'won', 'won');
    is(told($after), 'updated funds_reinstated closed', 'told');
    is(holds(), $held - 1500, 'the amount is here again, the fee is not');
    is_deeply([ map { [ @$_{qw(reporting_category amount fee)} ] } @{ shown($dispute->{id})->{balance_transactions} } ],
        [ [ 'dispute', -800, 1500 ], [ 'dispute_reversal', 800, 0 ] ], 'two transactions');
    is(dispute(dispute => $dispute->{id}, status => 'won')->{status}, 400, 'once');
    $after = count();
    is(dispute(dispute => $dispute->{id}, status => 'lost')->{json}{status}, 'lost', 'won, then lost after all');
    is(told($after), 'updated funds_withdrawn closed', 'told');
    is(holds(), $held - 3800, 'withdrawn again');
    is_deeply([ @{ book()->{usd} }{qw(disputes disputes_withdrawn dispute_fees)} ], [ 1, 800, 3000 ], 'in the book');
    is_deeply([ map { $_->{id} } @{ get(DISPUTES . "?charge=$charge")->{json}{data} } ], [ $dispute->{id} ], 'listed');
    is(scalar @{ get('/v1/balance_transactions?type=adjustment')->{json}{data} }, 3, 'adjustments');
};

subtest 'by evidence, by time, by card' => sub {
    foreach my $case ([ winning_evidence => 'won' ], [ losing_evidence => 'lost' ])
    {
        my ($evidence, $status) = @$case;
        my $id = dispute(charge => pay()->{json}{latest_charge})->{json}{id};
        is(post(DISPUTES . "/$id", [ 'evidence[uncategorized_text]' => $evidence ])->{json}{status}, 'under_review', $evidence);
        wait_until(sub { shown($id)->{status} eq $status }, $status);
    }
    my $late = dispute(charge => pay()->{json}{latest_charge}, respond_within_s => 0)->{json}{id};
    wait_until(sub { shown($late)->{status} eq 'lost' }, 'not answered: lost');
    ok(shown($late)->{evidence_details}{past_due}, 'too late');
    my $closed = dispute(charge => pay()->{json}{latest_charge})->{json}{id};
    is(post(DISPUTES . "/$closed/close", [])->{json}{status}, 'lost', 'accepted');

    foreach my $case ([ createDispute => 'needs_response', 'fraudulent' ],
        [ createDisputeProductNotReceived => 'needs_response', 'product_not_received' ],
        [ createDisputeInquiry => 'warning_needs_response', 'fraudulent' ])
    {
        my ($card, $status, $reason) = @$case;
        my $charge = pay({ payment_method => "pm_card_$card" })->{json}{latest_charge};
        my ($dispute) = @{ get(DISPUTES . "?charge=$charge")->{json}{data} };
        is_deeply([ @$dispute{qw(status reason amount)} ], [ $status, $reason, 1000 ], $card);
    }
};

subtest 'an inquiry' => sub {
    my $charge = pay()->{json}{latest_charge};
    my ($held, $after) = (holds(), count());
    my $dispute = dispute(charge => $charge, stage => 'inquiry')->{json};
    is_deeply([ $dispute->{status}, $dispute->{balance_transactions}, $dispute->{payment_method_details}{card}{case_type} ],
        [ 'warning_needs_response', [], 'inquiry' ], 'asks only');
    is(told($after), 'created', 'told');
    is(holds(), $held, 'and takes nothing');
    is(post('/v1/refunds', [ charge => $charge, amount => 100 ])->{status}, 200, 'a refund is possible');
    is(post(DISPUTES . "/$dispute->{id}/close", [])->{status}, 400, 'there is nothing to accept');
    is(post(DISPUTES . "/$dispute->{id}", [ 'evidence[receipt]' => 'x' ])->{json}{status}, 'warning_under_review', 'answered');
    $after = count();
    is(dispute(dispute => $dispute->{id}, status => 'needs_response')->{json}{status}, 'needs_response', 'escalated');
    is(told($after), 'updated funds_withdrawn', 'told');
    is(holds(), $held - 100 - 2500, 'now the money is gone');
    is(dispute(dispute => $dispute->{id}, status => 'warning_closed')->{status}, 400, 'it does not go back');
    is(dispute(dispute => $dispute->{id}, status => 'prevented')->{json}{status}, 'prevented', 'prevented');
    is(holds(), $held - 100 - 1500, 'given back');
    my $other = dispute(charge => pay()->{json}{latest_charge}, stage => 'inquiry', respond_within_s => 0)->{json}{id};
    wait_until(sub { shown($other)->{status} eq 'warning_closed' }, 'an inquiry that nobody answers is closed');
};

subtest 'settled' => sub {
    post('/_sandbox/settle', []);
    my $intent = pay({ amount => 5000, 'metadata[payment_order]' => 'order-s' })->{json};
    my $id = dispute(charge => $intent->{latest_charge})->{json}{id};
    dispute(dispute => $id, status => 'won');
    my $settlement = post('/_sandbox/settle', [])->{json};
    is_deeply([ @{ $settlement->{payouts}[0] }{qw(amount charges net others others_gross others_fee others_net)} ],
        [ 5000 - 175 - 1500, 1, 4825, 2, 0, 1500, -1500 ], 'in the payout');
    is_deeply(
        [ map { [ @$_{qw(reporting_category source_id gross fee net charge_id), 'payment_metadata[payment_order]'} ] }
          csv(get('/_sandbox/settlement.csv?settlement=latest')->{content}) ],
        [
            [ 'charge', $intent->{latest_charge}, '50.00', '1.75', '48.25', $intent->{latest_charge}, 'order-s' ],
            [ 'dispute', $id, '-50.00', '15.00', '-65.00', $intent->{latest_charge}, 'order-s' ],
            [ 'dispute_reversal', $id, '50.00', '0.00', '50.00', $intent->{latest_charge}, 'order-s' ] ],
        'and the file');
};

subtest 'what cannot be disputed' => sub {
    is(dispute(charge => 'ch_unknown')->{status}, 404, 'an unknown charge');
    is(dispute(charge => pay({ capture_method => 'manual' })->{json}{latest_charge})->{status}, 400, 'one not captured');
    my $charge = pay()->{json}{latest_charge};
    is(dispute(charge => $charge, amount => 1001)->{status}, 400, 'for more than was charged');
    is(dispute(charge => $charge, reason => 'boredom')->{status}, 400, 'for no reason');
    is(dispute()->{status}, 400, 'nothing');
    is(dispute(dispute => 'dp_unknown', status => 'won')->{status}, 404, 'an unknown dispute');
    is(get(DISPUTES . '/dp_unknown')->{status}, 404, 'which is not shown either');
    is(post(DISPUTES . '/dp_unknown/close', [])->{status}, 404, 'nor closed');
};

subtest 'a book that outlives kill -9' => sub {
    my $id = dispute(charge => pay()->{json}{latest_charge}, respond_within_s => 2)->{json}{id};
    post(DISPUTES . "/$id", [ 'evidence[receipt]' => 'x', submit => 'false' ]);
    my ($before, $balance) = (shown($id), get('/v1/balance')->{content});
    stop('KILL');
    start(@flags, '--dispute-fee', 0);
    is(get('/v1/balance')->{content}, $balance, 'the balance is the same');
    is_deeply(shown($id), $before, 'and the dispute');
    wait_until(sub { shown($id)->{status} eq 'lost' }, 'whose time runs on');
    is(dispute(charge => pay()->{json}{latest_charge})->{json}{balance_transactions}[0]{fee}, 0, 'without a fee');
    is(stop(), 0, 'stopped');
};

finish();
