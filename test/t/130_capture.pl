# Authorise, capture and void over the wire: at each PSP, whatever is lost on
# the way, what was taken is taken once, and the ledger says the same.
use strict;
use warnings;

use AdapterTest;
use JSON::PP ();
use List::Util ();
use PaymentTest;
use Test::More;

use constant HMAC_KEY => '44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056';

my $t = PaymentTest->new('capture');
$t->write_secret('hmac', HMAC_KEY . "\n");
$t->start_sandbox({ flags => [ '--modification-delay-ms' => 100, '--adyen-multiple-captures', '--hmac-key-file' => $t->secrets_dir . '/hmac' ] });
chomp(my $secret = PaymentTest::slurp_file($t->secrets_dir . '/sandbox'));
$t->write_secret('paypal', "sandbox:$secret\n");
$t->register_seller('alice');

my %psps = (
    stripe => AdapterTest->new(
        $t,
        psp      => 'stripe',
        method   => 'pm_card_visa',
        register => { adapter => 'stripe' }),
    paypal => AdapterTest->new(
        $t,
        psp      => 'paypal',
        method   => 'sandbox_success',
        register => { adapter => 'paypal', secret_name => 'paypal' }),
    adyen => AdapterTest->new(
        $t,
        psp      => 'adyen',
        method   => 'sandbox_authorised',
        register => {
            adapter              => 'adyen',
            webhook_secret_names => '{hmac}',
            settings             => {
                payouts => JSON::PP::false,
                config  => { merchant_account => 'SandboxMerchant', return_url => 'https://shop.example/back' } } }));

# Of Adyen's captures and voids only its webhooks tell what became of them: takes
# in what the sandbox has to tell, until the order has come to rest.
my $told = 0;
sub settle
{
    my ($id) = @_;
    PaymentTest::wait_until(
        sub {
            deliver();
            return $t->status_of($id) !~ /^(capturing|voiding|unknown)$/;
        },
        60) or die 'nothing is told';
    $t->wait_until_idle;
    return;
}

sub deliver
{
    my $news = $t->sandbox('GET', "/_sandbox/notifications?after=$told");
    foreach my $one (@{ $news->{notifications} })
    {
        $told = $one->{number};
        next if $one->{psp} ne 'adyen';
        my $body = unpack 'H*', ref $one->{body} ? JSON::PP->new->encode($one->{body}) : $one->{body};
        is($t->sql("SELECT http_status FROM payment.receive_webhook('adyen', '{}', '\\x$body')"), 200, 'a webhook is taken in');
    }
    return;
}

sub authorised
{
    my ($psp, $key, %argument) = @_;
    return $psps{$psp}->paid($key, capture => 'manual', %argument);
}

sub order
{
    my ($id) = @_;
    my ($row) = $t->rows(<<"SQL");
SELECT status, authorized_amount, captured_amount, (authorized_until > now())::integer AS lasts
FROM payment.payment_order WHERE id = '$id'
SQL
    return $row;
}

# What the sandbox has taken for it: amounts, in their order.
sub taken
{
    my ($id) = @_;
    return [ map { $_->{amount} } grep { $_->{payment_order} eq $id && $_->{status} eq 'succeeded' } $t->charges ];
}

sub capture
{
    my ($id, $key, %argument) = @_;
    return $t->call('capture', payment_order => $id, idempotency_key => $key, %argument);
}

# The keys of requests for it, each once, and how often each was executed.
sub executed
{
    my ($id, $operation) = @_;
    my %executed;
    foreach my $request (grep { ($_->{idempotency_key} // '') =~ /^$id:$operation:/ } $t->request_log)
    {
        $executed{ $request->{idempotency_key} } += $request->{executed} eq 'yes' ? 1 : 0;
    }
    return \%executed;
}

foreach my $psp (sort keys %psps)
{
    my $adapter = $psps{$psp};

    subtest "$psp: authorised, then captured" => sub {
        my $id = authorised($psp, 'whole');
        is_deeply(order($id),
            { status => 'authorized', authorized_amount => 1000, captured_amount => 0, lasts => $psp eq 'adyen' ? undef : 1 },
            'authorised');
        is_deeply(taken($id), [], 'nothing is taken');
        is($t->sql("SELECT count(*) FROM payment.journal WHERE subject = '$id'"), 0, 'nor posted');
        capture($id, "take $psp whole");
        settle($id);
        is(order($id)->{status}, 'captured', 'captured');
        is_deeply(taken($id), [1000], 'all of it');
        $t->charged_once($id, 'one journal');
    };

    subtest "$psp: a part is captured, the rest set free" => sub {
        my $id = authorised($psp, 'part');
        capture($id, "take $psp part", amount => 400);
        settle($id);
        is(order($id)->{captured_amount}, 400, 'a part');
        is_deeply(taken($id), [400], 'at the PSP, too');
    };

    subtest "$psp: voided" => sub {
        my $id = authorised($psp, 'void');
        $t->call('void', payment_order => $id, idempotency_key => "free $psp");
        settle($id);
        is(order($id)->{status}, 'voided', 'voided');
        my %left = map { $_->{status} => 1 } grep { $_->{payment_order} eq $id } $t->charges;
        is_deeply(\%left, { voided => 1 }, 'nothing is reserved at the PSP any more');
        $t->not_charged($id, 'nothing was taken');
    };

    foreach my $fault (qw(lost_answer reset_after error_500_after truncated_body html_body))
    {
        subtest "$psp: S08 a capture is executed, and the PSP answers with $fault" => sub {
            my $id = authorised($psp, "capture $fault");
            $t->faults($fault => 'next:1');
            capture($id, "take $psp $fault", amount => 700);
            settle($id);
            is(order($id)->{captured_amount}, 700, 'S08 known in the end');
            is_deeply(taken($id), [700], 'S08 taken once');
            is_deeply([ values %{ executed($id, 'capture') } ], [1], 'S08 under one key');
        };
        subtest "$psp: S08 a void is executed, and the PSP answers with $fault" => sub {
            my $id = authorised($psp, "void $fault");
            $t->faults($fault => 'next:1');
            $t->call('void', payment_order => $id, idempotency_key => "free $psp $fault");
            settle($id);
            is(order($id)->{status}, 'voided', 'S08 known in the end');
            is_deeply([ values %{ executed($id, 'void') } ], [1], 'S08 under one key');
        };
    }

    foreach my $fault (qw(rate_limit conflict_409 reset error_500_before))
    {
        subtest "$psp: S11 a capture that is not executed: $fault" => sub {
            my $id = authorised($psp, "not $fault");
            # Adyen keeps a failure with the key, unless it says that it may pass
            my @passes = $psp eq 'adyen' && $fault eq 'error_500_before' ? (should_retry_true => 'next:2') : ();
            $t->faults($fault => 'next:2', retry_after_s => 0, @passes);
            capture($id, "take $psp not $fault");
            settle($id);
            is_deeply(taken($id), [1000], 'S11 taken, once');
            $t->charged_once($id, 'S11 one journal');
        };
    }

    subtest "$psp: S08 a capture times out" => sub {
        my $id = authorised($psp, 'hangs');
        $adapter->register(timeout_ms => 700);
        $t->faults(hang_ms => 3_000, hang_after => 'next:1');
        capture($id, "take $psp hangs");
        settle($id);
        is_deeply(taken($id), [1000], 'S08 taken once');
        $t->charged_once($id, 'S08 one journal');
        $adapter->register;
    };

    subtest "$psp: S22 the authorisation was voided at the PSP" => sub {
        my $id = authorised($psp, 'gone');
        my ($charge) = grep { $_->{payment_order} eq $id } $t->charges;
        void_at_psp($psp, $charge);
        capture($id, "take $psp gone");
        settle($id);
        is(order($id)->{status}, 'voided', 'S22 that is what it is');
        $t->not_charged($id, 'S22 nothing is taken');
    };

    subtest "$psp: S05 the worker is killed while a capture is under way" => sub {
        my $id = authorised($psp, 'killed');
        $t->faults(hang_ms => 3_000, hang_after => 'next:1');
        capture($id, "take $psp killed");
        PaymentTest::wait_until(sub { @{ taken($id) } }, 60) or die 'never captured';
        $adapter->kill_worker;
        settle($id);
        is_deeply(taken($id), [1000], 'S05 taken once');
        $t->charged_once($id, 'S05 one journal');
        $t->faults(hang_after => 0);
    };
}

# Somebody presses a button at the PSP's dashboard.
sub void_at_psp
{
    my ($psp, $charge) = @_;
    my $url = $t->sandbox_url;
    if ($psp eq 'adyen')
    {
        $t->sandbox('POST', '/_sandbox/adyen/events', { payment => $charge->{payment_intent_id}, event => 'CANCELLATION' });
        return;
    }
    if ($psp eq 'stripe')
    {
        system("curl -sf -o /dev/null -X POST -H 'Authorization: Bearer $secret' "
              . "$url/v1/payment_intents/$charge->{payment_intent_id}/cancel") == 0 or die 'no void';
        return;
    }
    my ($token) = qx(curl -sf -u 'sandbox:$secret' -d grant_type=client_credentials $url/v1/oauth2/token) =~
      /"access_token":"([^"]+)"/ or die 'no token';
    system("curl -sf -o /dev/null -X POST -H 'Content-Type: application/json' -H 'Authorization: Bearer $token' "
          . "-H 'PayPal-Request-Id: $charge->{charge_id}' $url/v2/payments/authorizations/$charge->{charge_id}/void") == 0
      or die 'no void';
    return;
}

foreach my $psp (qw(adyen paypal))
{
    subtest "$psp: captured in several parts" => sub {
        my $id = authorised($psp, 'several');
        foreach my $part (1 .. 3)
        {
            is(capture($id, "$psp several $part", amount => 200, final => 0), $part, 'a number of its own');
            settle($id);
            is(order($id)->{captured_amount}, 200 * $part, 'the sum');
        }
        capture($id, "$psp several last", amount => 300);
        settle($id);
        is(List::Util::sum(@{ taken($id) }), 900, 'all of them at the PSP');
        is(order($id)->{status}, 'captured', 'the last one is final');
    };
}

subtest 'stripe: no second capture without multicapture' => sub {
    my $id = authorised('stripe', 'several');
    capture($id, 'take stripe several', amount => 200, final => 0);
    settle($id);
    is_deeply(order($id), { status => 'authorized', authorized_amount => 1000, captured_amount => 0, lasts => 1 },
        'refused, and still authorised');
    my ($attempt) = $t->rows("SELECT outcome, error_code FROM payment.attempt WHERE object_id = '$id' ORDER BY id DESC LIMIT 1");
    is_deeply($attempt, { outcome => 'failed', error_code => 'multicapture_unavailable' }, 'and why');
    capture($id, 'stripe once', amount => 200);
    settle($id);
    is_deeply(taken($id), [200], 'one capture is possible');
};

$_->books_agree foreach values %psps;
$t->finish;
