# The sandbox PSP at Adyen: hosted sessions, captures in parts, and what is told without having been asked.

use strict;
use warnings;

use Digest::SHA qw(hmac_sha256_base64);
use FindBin;
use HTTP::Tiny;
use JSON::PP;
use Test::More;

use lib "$FindBin::RealBin/../lib";
use SandboxTest;

use constant HMAC_KEY => '44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056';

my $json = JSON::PP->new->utf8->canonical;
my $browser = HTTP::Tiny->new(max_redirect => 0, timeout => 30);

sub adyen
{
    my ($method, $path, $body, %option) = @_;
    my %headers = ('X-API-Key' => 'sk_test_sandbox', 'Content-Type' => 'application/json');
    return request($method, "/v71$path", %option, headers => \%headers,
        defined $body ? (content => $json->encode({ merchantAccount => 'SandboxMerchant', %$body })) : ());
}

sub eur { my ($value) = @_; return (amount => { value => $value, currency => 'EUR' }) }

sub authorised
{
    my ($value) = @_;
    return adyen('POST', '/payments', {
        eur($value), reference => 'order-1', additionalData => { manualCapture => 'true' },
        paymentMethod => { storedPaymentMethodId => 'sandbox_authorised' } })->{json}{pspReference};
}

sub session
{
    my ($changes) = @_;
    my %field = (eur(2500), reference => 'order-1', returnUrl => 'http://127.0.0.1:1/back?a=1', mode => 'hosted', %{ $changes // {} });
    return adyen('POST', '/sessions', { map { ($_ => $field{$_}) } grep { defined $field{$_} } keys %field });
}

sub items { return map { map { $_->{NotificationRequestItem} } @{ $_->{body}{notificationItems} } } @{ get('/_sandbox/notifications')->{json}{notifications} } }

sub wait_for_event
{
    my ($code, $reference) = @_;
    my $found;
    wait_until(sub { ($found) = grep { $_->{eventCode} eq $code && $_->{pspReference} eq $reference } items(); defined $found }, "$code of $reference");
    return $found;
}

sub charge_of { my ($payment) = @_; return (grep { $_->{payment_intent_id} eq $payment } csv(get('/_sandbox/charges.csv')->{content}))[0] }
sub event { my (@pairs) = @_; return post('/_sandbox/adyen/events', \@pairs) }

sub is_signed
{
    my ($item) = @_;
    my $text = join ':', $item->{pspReference}, $item->{originalReference} // '', @$item{qw(merchantAccountCode merchantReference)},
      $item->{amount}{value}, $item->{amount}{currency}, @$item{qw(eventCode success)};
    return hmac_sha256_base64($text, pack 'H*', HMAC_KEY) . '=' eq $item->{additionalData}{hmacSignature};
}

my $hmac_file = path_of('hmac');
open my $out, '>', $hmac_file or die "$hmac_file: $!";
print {$out} HMAC_KEY, "\n";
close $out;
my @flags = ('--hmac-key-file', $hmac_file, '--modification-delay-ms', 50, '--processing-delay-ms', 100,
    '--adyen-multiple-captures', '--book', path_of('book'));
start(@flags);

subtest 'a hosted session' => sub {
    my $answer = session({ metadata => { payment_order => 'order-1' } });
    is($answer->{status}, 201, 'made');
    my $session = $answer->{json};
    like($session->{id}, qr/^[A-Z0-9]{16}$/, 'id');
    is_deeply([ @$session{qw(mode reference returnUrl)}, $session->{amount}{value} ], [ 'hosted', 'order-1', 'http://127.0.0.1:1/back?a=1', 2500 ], 'its fields');
    ok($session->{sessionData} && $session->{expiresAt} =~ /^\d{4}-/, 'sessionData, expiresAt');
    is($session->{url}, sandbox()->{url} . "/pay/$session->{id}", 'url');
    my $page = $browser->get($session->{url});
    like($page->{content}, qr/25\.00 EUR/, 'the page');
    like($page->{content}, qr/<label for="card-0">/, 'with cards');
    like($page->{content}, qr{id="cancel" href="http://127\.0\.0\.1:1/back\?a=1&amp;sessionId=\w+&amp;sessionResult=[^"]}, 'and a way back');
    is(charge_of('none'), undef, 'nothing is charged');

    my $refused = $browser->post_form($session->{url}, { card => 'sandbox_refused_12' });
    is($refused->{status}, 422, 'refused');
    like($refused->{content}, qr/Not enough balance/, 'with the reason');
    my $bank = $browser->post_form($session->{url}, { card => 'sandbox_challenge' });
    is($bank->{headers}{location}, "/pay/$session->{id}/authenticate", '3-D Secure');
    is($browser->post_form(sandbox()->{url} . $bank->{headers}{location}, { result => 'fail' })->{status}, 422, 'failed');
    $browser->post_form($session->{url}, { card => 'sandbox_challenge' });
    my $done = $browser->post_form(sandbox()->{url} . $bank->{headers}{location}, { result => 'ok' });
    is($done->{status}, 303, 'paid');
    my ($id, $result) = $done->{headers}{location} =~ m{^http://127\.0\.0\.1:1/back\?a=1&sessionId=(\w+)&sessionResult=(\S+)$};
    is($id, $session->{id}, 'back, with the session');
    is(adyen('GET', "/sessions/$id?sessionResult=$result")->{json}{status}, 'completed', 'whose result can be asked for');
    is(adyen('GET', "/sessions/$id?sessionResult=wrong")->{status}, 422, 'with what the payer brought');
    my @told = items();
    is_deeply([ map { "$_->{eventCode} $_->{success} $_->{merchantReference}" } @told ],
        [ ('AUTHORISATION false order-1') x 2, 'AUTHORISATION true order-1' ], 'each attempt is told');
    is(scalar(grep { !is_signed($_) } @told), 0, 'signed');
    is_deeply([ @{ charge_of($told[-1]{pspReference}) }{qw(status amount payment_order)} ], [ 'succeeded', 2500, 'order-1' ], 'in the book');
    is($browser->post_form($session->{url}, { card => 'sandbox_authorised' })->{status}, 303, 'a second click');
    is(scalar(items()), 3, 'pays nothing');

    my $slow = session()->{json};
    $done = $browser->post_form($slow->{url}, { card => 'sandbox_pending_fails' });
    ($id, $result) = $done->{headers}{location} =~ /sessionId=(\w+)&sessionResult=(\S+)/;
    wait_until(sub { adyen('GET', "/sessions/$id?sessionResult=$result")->{json}{status} eq 'refused' }, 'pending, then refused');
    is(session({ mode => 'embedded' })->{json}{url}, undef, 'embedded: no page');
    foreach my $case ([ { mode => 'other' }, 'mode' ], [ { returnUrl => undef }, 'returnUrl' ], [ { returnUrl => 'javascript:x' }, 'returnUrl' ],
        [ { expiresAt => '2020-01-01T00:00:00Z' }, 'expiresAt' ], [ { reference => undef }, 'reference' ], [ { nonsense => 1 }, 'nonsense' ])
    {
        is(session($case->[0])->{status}, 422, "wrong $case->[1]");
    }
    is(adyen('GET', '/sessions/AAAAAAAAAAAAAAAA?sessionResult=x')->{status}, 404, 'an unknown session');
};

subtest 'captures in parts' => sub {
    my $payment = authorised(1000);
    foreach my $case ([ 300, 'true' ], [ 500, 'true' ], [ 201, 'false' ], [ 200, 'true' ], [ 1, 'false' ])
    {
        my ($amount, $success) = @$case;
        my $capture = adyen('POST', "/payments/$payment/captures", { eur($amount) })->{json}{pspReference};
        is(wait_for_event('CAPTURE', $capture)->{success}, $success, "a capture of $amount");
    }
    is_deeply([ @{ charge_of($payment) }{qw(status amount)} ], [ 'succeeded', 1000 ], 'all of it');
    is_deeply([ @{ book()->{eur} }{qw(gross fee)} ], [ 3500, 63 + 30 + 32 + 28 ], 'each with its fee');
    my $refund = adyen('POST', "/payments/$payment/refunds", { eur(1000) })->{json}{pspReference};
    is(wait_for_event('REFUND', $refund)->{success}, 'true', 'refunded as one');

    my $canceled = authorised(400);
    my $cancel = adyen('POST', "/payments/$canceled/cancels", { reference => 'cancel-1' });
    is($cancel->{status}, 201, 'a cancel');
    my $event = wait_for_event('CANCELLATION', $cancel->{json}{pspReference});
    is_deeply([ @$event{qw(success originalReference merchantReference)}, $event->{amount}{value} ], [ 'true', $canceled, 'cancel-1', 400 ], 'CANCELLATION');
    is(charge_of($canceled)->{status}, 'voided', 'voided');
    $cancel = adyen('POST', "/payments/$payment/cancels", {})->{json}{pspReference};
    is(wait_for_event('CANCELLATION', $cancel)->{success}, 'false', 'not what is captured');
};

subtest 'disputes' => sub {
    my $payment = authorised(1000);
    is(event(payment => $payment, event => 'CHARGEBACK')->{status}, 400, 'not before it is captured');
    my $capture = adyen('POST', "/payments/$payment/captures", { eur(1000) })->{json}{pspReference};
    wait_for_event('CAPTURE', $capture);
    my %dispute;
    foreach my $case (
        [ REQUEST_FOR_INFORMATION => 'Unresponded', 0 ], [ NOTIFICATION_OF_CHARGEBACK => 'Undefended', 0 ], [ CHARGEBACK => 'Undefended', 700 ],
        [ CHARGEBACK_REVERSED => 'Pending', 0 ], [ SECOND_CHARGEBACK => 'Lost', 700 ], [ PREARBITRATION_WON => 'Won', 0 ], [ PREARBITRATION_LOST => 'Lost', 700 ])
    {
        my ($code, $status, $withdrawn) = @$case;
        my $told = event(payment => $payment, event => $code, amount => 700, reason => 'Fraud')->{json};
        $dispute{ $told->{pspReference} } = 1;
        my $item = (items())[-1];
        is_deeply(
            [ @$item{qw(eventCode originalReference success reason)}, $item->{amount}{value}, $item->{additionalData}{disputeStatus}, is_signed($item) ],
            [ $code, $payment, 'true', 'Fraud', 700, $status, 1 ], $code);
        is(book()->{eur}{disputes_withdrawn}, $withdrawn, "$withdrawn withdrawn");
    }
    is(scalar keys %dispute, 1, 'one dispute');
    is(event(payment => $payment, event => 'CHARGEBACK')->{status}, 400, 'not withdrawn twice');
    is(event(payment => $payment, event => 'NONSENSE')->{status}, 400, 'an unknown event');
    is(event(payment => 'AAAAAAAAAAAAAAAA', event => 'CHARGEBACK')->{status}, 404, 'an unknown payment');
    is_deeply(get('/v1/disputes')->{json}{data}, [], 'Stripe knows nothing of it');
    is_deeply(get('/v1/balance')->{json}{pending}, [], 'nor of the money');
};

subtest 'what fails after all' => sub {
    my $payment = authorised(1000);
    my $capture = adyen('POST', "/payments/$payment/captures", { eur(900) })->{json}{pspReference};
    wait_for_event('CAPTURE', $capture);
    my $refund = adyen('POST', "/payments/$payment/refunds", { eur(300) })->{json}{pspReference};
    wait_for_event('REFUND', $refund);
    is(event(payment => $payment, event => 'CAPTURE_FAILED', modification => $capture)->{status}, 400, 'not what is refunded');
    is(event(payment => $payment, event => 'REFUND_FAILED', modification => $capture)->{status}, 400, 'a capture is no refund');
    is(event(payment => $payment, event => 'REFUND_FAILED', modification => $refund)->{json}{pspReference}, $refund, 'REFUND_FAILED');
    is(charge_of($payment)->{amount_refunded}, 0, 'nothing is refunded');
    is(event(payment => $payment, event => 'REFUND_FAILED', modification => $refund)->{status}, 400, 'once');
    event(payment => $payment, event => 'CAPTURE_FAILED', modification => $capture);
    my $item = wait_for_event('CAPTURE_FAILED', $capture);
    is_deeply([ $item->{originalReference}, $item->{amount}{value}, charge_of($payment)->{status} ], [ $payment, 900, 'failed' ], 'CAPTURE_FAILED');
    my $old = authorised(500);
    event(payment => $old, event => 'EXPIRE');
    is_deeply([ (items())[-1]{eventCode}, charge_of($old)->{status} ], [ 'EXPIRE', 'voided' ], 'EXPIRE');
    is(event(payment => $old, event => 'EXPIRE')->{status}, 400, 'once');
};

subtest 'batches and forged items' => sub {
    faults(webhook_batch => 3, webhook_delay_ms => 60000);
    my $before = get('/_sandbox/notifications?limit=1')->{json}{count};
    faults(webhook_forged => 'next:1');
    authorised(100 + $_) foreach 1 .. 7;
    my @batches = map { $_->{body}{notificationItems} } @{ get("/_sandbox/notifications?after=$before")->{json}{notifications} };
    is_deeply([ map { scalar @$_ } @batches ], [ 3, 3, 1 ], 'seven items in threes');
    my @items = map { map { $_->{NotificationRequestItem} } @$_ } @batches;
    is_deeply([ map { $_->{amount}{value} } @items ], [ 101 .. 107 ], 'in order');
    is_deeply([ map { is_signed($_) ? 'good' : 'bad' } @items ], [ 'bad', ('good') x 6 ], 'one of them is forged');
    faults(reset => 1);
    authorised(200);
    is(scalar @{ get('/_sandbox/notifications?after=' . ($before + 3))->{json}{notifications}[0]{body}{notificationItems} }, 1, 'one by one again');
};

subtest 'a book that outlives kill -9' => sub {
    my $session = session()->{json};
    $browser->post_form($session->{url}, { card => 'sandbox_challenge' });
    my $payment = authorised(1000);
    stop('KILL');
    start(@flags, '--authorization-lifetime-s', 1, '--port', sandbox()->{port});
    is($browser->post_form("$session->{url}/authenticate", { result => 'ok' })->{status}, 303, 'the session goes on');
    is(charge_of($payment)->{status}, 'authorized', 'so does the authorisation');
    my $short = authorised(300);
    is(wait_for_event('EXPIRE', $short)->{originalReference}, $short, 'one with a shorter life expires');
    is(charge_of($short)->{status}, 'voided', 'by itself');
    is(stop(), 0, 'stopped');
};

finish();
