# Adyen over the wire: payments that nobody can ask for, transfers that one can,
# and one charge whatever is lost on the way.
use strict;
use warnings;

use AdapterTest;
use IO::Select;
use IO::Socket::INET;
use PaymentTest;
use Test::More;

use constant PAYMENTS => '/v71/payments';

my $t = PaymentTest->new('adyen');
$t->start_sandbox({ flags => [ '--payout-delay-ms' => 100, '--processing-delay-ms' => 100 ] });
my %config = (
    merchant_account => 'SandboxMerchant',
    return_url       => 'https://shop.example/back',
    balance_account  => 'BA_sandbox');
my $adyen = AdapterTest->new(
    $t,
    psp      => 'adyen',
    path     => PAYMENTS,
    method   => 'sandbox_authorised',
    register => { adapter => 'adyen', settings => { config => \%config } });
$t->register_seller('alice');

subtest 'a payment is authorised' => sub {
    my $order = $adyen->paid('first', payer => 'payer "7"');
    is($t->history_of($order), 'created executing captured', 'captured at once');
    $t->charged_once($order, 'one charge, one journal');
    my ($attempt) = $adyen->rows_of($order);
    my ($charge) = grep { $_->{payment_order} eq $order } $t->charges;
    is($attempt->{psp_reference}, $charge->{payment_intent_id}, 'known by its pspReference');
    is_deeply($adyen->sends($order), { sent => 1, executed => 1, keys => ["$order:pay:1"] }, 'one request, under its key');
};

subtest 'S61 amounts in the minor units that Adyen has' => sub {
    my %sent = ('1000000 JPY' => 1_000_000, '1234 KWD' => 1234, '5000 CLP' => 500_000, '1500000 IDR' => 15_000);
    foreach my $money (sort keys %sent)
    {
        my $order = $adyen->paid("S61 $money", money => $money);
        my ($charge) = grep { $_->{payment_order} eq $order } $t->charges;
        is($charge->{amount}, $sent{$money}, "$money is $sent{$money} there");
        is($t->sql("SELECT captured_amount FROM payment.order_record WHERE id = '$order'"),
            $money =~ s/ .*//r, 'and comes back as what it was');
        # two of which are the book's
        push @{ $adyen->{conflicted} }, $order if $money =~ /CLP|IDR/;
    }
    my $order = $adyen->paid('S61 part', money => '150 IDR');
    my ($attempt) = $adyen->rows_of($order);
    is_deeply([ $t->status_of($order), @$attempt{qw(error_code http_status decline_class)} ],
        [ 'failed', 'amount_not_representable', undef, 'not_applicable' ], 'a part of a unit is not sent');
};

subtest 'declines, and what kind they are' => sub {
    $adyen->declines('sandbox_refused_12', 'refusal_12', 'soft');
    $adyen->declines('sandbox_refused_5',  'refusal_5',  'hard');
    $adyen->declines('sandbox_refused_20', 'refusal_20', 'hard');
    $adyen->declines('sandbox_error',      'refusal_4',  'soft');
    $adyen->declines('sandbox_cancelled',  'refusal_15', 'hard');
    $adyen->declines('sandbox_redirect',   'refusal_38', 'authentication_required');
};

subtest 'a request that Adyen refuses' => sub {
    my $order = $adyen->paid('unknown method', payment_method => 'nothing_of_the_kind');
    my ($attempt) = $adyen->rows_of($order);
    is_deeply([ $t->status_of($order), @$attempt{qw(error_code decline_class)} ],
        [ 'failed', 'adyen_800', 'not_applicable' ], 'fails');
    $t->not_charged($order, 'and is charged nothing');
};

subtest 'S30 pending: its result comes by report, and is not asked for' => sub {
    my $order = $adyen->pay('pending', payment_method => 'sandbox_pending');
    $t->wait_for("SELECT status = 'pending' FROM payment.payment_order WHERE id = '$order'", what => 'pending');
    my $hours = $t->sql("SELECT extract(epoch FROM run_at - now()) / 3600 FROM payment.task WHERE object_id = '$order'");
    cmp_ok($hours, '>', 23, 'it is left alone for a day');
    $t->sql("UPDATE payment.task SET run_at = now() WHERE object_id = '$order'");
    $t->wait_for("SELECT count(*) = 2 FROM payment.attempt WHERE object_id = '$order' AND outcome IS NOT NULL",
        what => 'a second answer');
    is_deeply($adyen->attempts($order), [ ('send pending') x 2 ], 'then it is what it was');
    is($adyen->sends($order)->{executed}, 1, 'and nothing is executed a second time');
    $t->sql("UPDATE payment.task SET run_at = now(), first_sent_at = now() - interval '8 days' WHERE object_id = '$order'");
    $t->wait_for("SELECT dead_at IS NOT NULL FROM payment.task WHERE object_id = '$order'", what => 'people');
    is_deeply($adyen->attempts($order), [ ('send pending') x 2 ], 'S04 past the life of its key nothing is sent');
    $t->sql("DELETE FROM payment.task WHERE object_id = '$order'");
    push @{ $adyen->{conflicted} }, $order;
};

my @again = ('send unknown', 'send succeeded');
$adyen->charges_once($_, 'S08', \@again) foreach qw(lost_answer reset_after);
$adyen->charges_once($_, 'S13', \@again) foreach qw(truncated_body html_body);

subtest 'S08 a timeout although the PSP charged' => sub {
    $adyen->register(timeout_ms => 700);
    $t->faults(hang_ms => 2_000, hang_after => 'next:1');
    my $order = $adyen->paid('S08 hang');
    is($t->history_of($order), 'created executing unknown captured', 'S08 unknown, until the same request is answered');
    is($adyen->sends($order)->{executed}, 1, 'S08 executed once');
    is_deeply($adyen->sends($order)->{keys}, ["$order:pay:1"], 'S08 under one key');
    $t->charged_once($order, 'S08 one charge');
    $adyen->register;
};

subtest 'S09 a 500 that Adyen keeps with the key' => sub {
    $adyen->register(max_attempts => 4);
    $t->faults(error_500_after => 'next:1');
    my $order = $adyen->pay('S09');
    $t->wait_for("SELECT dead_at IS NOT NULL FROM payment.task WHERE object_id = '$order'", what => 'people');
    is_deeply($adyen->attempts($order), [ ('send unknown') x 4 ], 'S09 the same key each time, never another');
    is($t->status_of($order), 'unknown', 'S09 and left to people');
    is($adyen->sends($order)->{executed}, 1, 'S09 executed once');
    $t->sql("DELETE FROM payment.task WHERE object_id = '$order'");
    push @{ $adyen->{conflicted} }, $order;
    $adyen->register;
};

# Only one order is ill, and it is asked about again and again.
subtest 'a failure that is told again says nothing of how Adyen is now' => sub {
    $adyen->register(breaker_failures => 3, breaker_pause_ms => 600_000);
    $t->faults(error_500_after => 'next:1');
    my $order = $adyen->pay('told again');
    $t->wait_for("SELECT count(*) > 8 FROM payment.attempt WHERE object_id = '$order' AND outcome = 'unknown'",
        what => 'the same answer many times');
    my $other = $adyen->pay('of another');
    $t->wait_for("SELECT status = 'captured' FROM payment.payment_order WHERE id = '$other'", what => 'the other one');
    $t->charged_once($other, 'others are paid meanwhile');
    $t->sql("DELETE FROM payment.task WHERE object_id = '$order'");
    push @{ $adyen->{conflicted} }, $order;
    $adyen->register(breaker_failures => 10, breaker_pause_ms => 5000);
};

$adyen->waits('conflict_409', 'S11', 409, [ ('send unknown') x 2, 'send succeeded' ]);
$adyen->waits('rate_limit', 'S11', 429, [ ('send retry') x 2, 'send succeeded' ], retry_after_s => 1);
$adyen->waits('error_500_before', 'S12', '500, to be tried again', [ ('send retry') x 2, 'send succeeded' ],
    with => ['should_retry_true']);
$adyen->reports_other_money($_) foreach qw(wrong_amount wrong_currency);

subtest 'S05 the worker is killed while the answer is under way' => sub {
    $t->faults(hang_after => 'next:1', hang_ms => 3_000);
    my $order = $adyen->pay('S05');
    PaymentTest::wait_until(sub { grep { $_->{payment_order} eq $order } $t->charges }, 60) or die 'never charged';
    is($t->status_of($order), 'executing', 'Adyen has charged, and nobody here knows');
    $adyen->kill_worker;
    $t->wait_until_idle;
    is($t->history_of($order), 'created executing unknown captured', 'S05 unknown, then known');
    my $attempts = $adyen->attempts($order);
    is_deeply([ @$attempts[ 0, -1 ] ], [ 'send lease_expired', 'send succeeded' ], 'S05 by the same request again');
    is($adyen->sends($order)->{executed}, 1, 'S05 executed once');
    $t->charged_once($order, 'S05 one charge');
};

subtest 'S06 the worker is killed between its claim and the request' => sub {
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 5) or die "listen: $!";
    $t->register_psp('adyen', %{ $adyen->{register} }, base_url => 'http://127.0.0.1:' . $listener->sockport);
    my $order = $adyen->pay('S06');
    ok(IO::Select->new($listener)->can_read(60), 'a connection is begun, which nobody accepts');
    $adyen->register;
    $adyen->kill_worker;
    close $listener;
    $t->wait_until_idle;
    is_deeply($adyen->attempts($order), [ 'send lease_expired', 'send succeeded' ], 'S06 sent again, under its key');
    is_deeply($adyen->sends($order), { sent => 1, executed => 1, keys => ["$order:pay:1"] }, 'S06 once');
    $t->charged_once($order, 'S06 one charge');
};

subtest 'S04 the key is forgotten before the outcome is known' => sub {
    $adyen->register(lookup_delay_ms => 60_000);
    $t->faults(lost_answer => 'next:1');
    my $order = $adyen->pay('S04');
    $t->wait_for("SELECT status = 'unknown' FROM payment.payment_order WHERE id = '$order'", what => 'unknown');
    $t->sql("UPDATE payment.task SET run_at = now(), first_sent_at = now() - interval '8 days' WHERE object_id = '$order'");
    $adyen->register;
    $t->wait_for("SELECT dead_at IS NOT NULL FROM payment.task WHERE object_id = '$order'", what => 'people');
    is_deeply($adyen->attempts($order), ['send unknown'], 'S04 nothing is sent again');
    like($t->sql("SELECT last_error FROM payment.task WHERE object_id = '$order'"), qr/forgotten its idempotency key/, 'S04 and why');
    is($adyen->sends($order)->{sent}, 1, 'S04 one request ever');
    $t->sql("DELETE FROM payment.task WHERE object_id = '$order'");
    push @{ $adyen->{conflicted} }, $order;
};

subtest 'payouts are transfers' => sub {
    my $payout = $adyen->payout('payout');
    $t->wait_until_idle;
    like($t->history_of($payout), qr/submitting in_transit paid$/, 'accepted, then booked');
    my @paid = grep { $_->{payout} eq $payout } $t->payouts;
    is_deeply([ map { "$_->{amount} $_->{currency}" } @paid ], ['600 eur'], 'one transfer');
    my @asked = $t->requests_for('GET', qr{^/btl/v4/transfers/});
    cmp_ok(scalar @asked, '>', 0, 'asked for by its id');

    my $failed = $adyen->payout('payout fails', destination => 'ba_sandbox_fail');
    $t->wait_until_idle;
    like($t->history_of($failed), qr/failed$/, 'one to nowhere fails');
    is($t->sql("SELECT decline_class FROM payment.attempt WHERE object_id = '$failed' AND outcome = 'failed'"),
        'hard', 'and why is known');
};

subtest 'S44 a transfer is made, and its answer lost' => sub {
    $t->faults(lost_answer => 0);
    my $order = $adyen->paid('S44 order');
    $t->call('release', payment_order => $order);
    $t->faults(lost_answer => 'next:1');
    my $payout = $t->call('payout', seller => $t->call('seller_id', reference => 'alice'), amount => 700, currency => 'EUR',
        destination => 'ba_sandbox_alice', psp => 'adyen', idempotency_key => 'adyen S44');
    $t->wait_until_idle;
    like($t->history_of($payout), qr/submitting unknown in_transit paid$/, 'S44 unknown, until looked up');
    is(scalar(grep { $_->{payout} eq $payout } $t->payouts), 1, 'S44 one transfer');
    is_deeply([ grep { /^send/ } @{ $adyen->attempts($payout) } ], ['send unknown'], 'S44 never sent again');
};

subtest 'no access' => sub {
    $t->write_secret('wrong', 'AQE_wrong_key');
    $t->register_psp('adyen', %{ $adyen->{register} }, secret_name => 'wrong');
    my $order = $adyen->pay('no access');
    $t->wait_for("SELECT count(*) > 0 FROM payment.attempt WHERE object_id = '$order' AND outcome = 'retry'", what => 'a refusal');
    is($t->status_of($order), 'executing', 'it waits until somebody mends it');
    $adyen->register;
    $t->sql("UPDATE payment.task SET run_at = now() WHERE object_id = '$order'");
    $t->wait_until_idle;
    $t->charged_once($order, 'then one charge');
    chomp(my $secret = PaymentTest::slurp_file($t->secrets_dir . '/sandbox'));
    $adyen->keeps_secrets($secret, 'AQE_wrong_key');
};

$adyen->books_agree;
$t->finish;
