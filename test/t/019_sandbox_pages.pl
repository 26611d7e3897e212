# The sandbox PSP's hosted pages: Checkout Sessions, the pages that payers see, and what is saved for later.

use strict;
use warnings;

use FindBin;
use HTTP::Tiny;
use Test::More;

use lib "$FindBin::RealBin/../lib";
use SandboxTest;

use constant SESSIONS => '/v1/checkout/sessions';

# A payer's browser that follows no redirect, since where it leads is what is tested.
my $browser = HTTP::Tiny->new(max_redirect => 0, timeout => 30);

sub browse { my ($url) = @_; return $browser->get($url) }
sub submit { my ($url, %field) = @_; return $browser->post_form($url, \%field) }

sub session
{
    my ($changes, %option) = @_;
    my %field = (
        mode                                            => 'payment',
        'line_items[0][price_data][currency]'           => 'eur',
        'line_items[0][price_data][unit_amount]'        => 1250,
        'line_items[0][price_data][product_data][name]' => 'A <b>book</b> & more',
        'line_items[0][quantity]'                       => 2,
        success_url                                     => 'http://127.0.0.1:1/done?s={CHECKOUT_SESSION_ID}',
        cancel_url                                      => 'http://127.0.0.1:1/cancel?a=1&b=2',
        client_reference_id                             => 'order-1',
        'payment_intent_data[metadata][payment_order]'  => 'order-1',
        'metadata[k]'                                   => 'v',
        %{ $changes // {} });
    return post(SESSIONS, [ map { ($_ => $field{$_}) } grep { defined $field{$_} } sort keys %field ], %option);
}

my @setup = (mode => 'setup', map { ("line_items[0]$_" => undef) }
      ('[price_data][currency]', '[price_data][unit_amount]', '[price_data][product_data][name]', '[quantity]'));

sub shown { my ($id, $expand) = @_; return get(SESSIONS . "/$id" . ($expand ? "?expand[]=$expand" : ''))->{json} }
sub told { return [ map { $_->{event} } @{ get('/_sandbox/notifications')->{json}{notifications} } ] }

# What every page owes to those who cannot see or use a mouse.
sub is_accessible
{
    my ($html, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @missing;
    push @missing, 'lang' if $html !~ /<html lang="en">/;
    push @missing, 'title' if $html !~ m{<title>[^<]+</title>};
    push @missing, 'one h1' if (() = $html =~ /<h1>/g) != 1;
    push @missing, "<$_>" foreach grep { $html !~ /<$_>/ } qw(header main footer);
    my %label = map { ($_ => 1) } $html =~ /<label for="([^"]+)"/g;
    push @missing, map { "label of $_" } grep { !$label{$_} } $html =~ /<input [^>]*id="([^"]+)"/g;
    push @missing, 'fieldset with a legend' if $html =~ /<input/ && $html !~ m{<fieldset[^>]*>\s*<legend>[^<]+</legend>};
    push @missing, 'no script' if $html =~ /<script|\son\w+=/i;
    push @missing, 'no field for text' if $html =~ /type="(?:text|tel|number|password)"|<textarea/;
    my %times;
    push @missing, map { "id $_ once" } grep { $times{$_}++ } $html =~ / id="([^"]+)"/g;
    is("@missing", '', "$name: accessible");
    return;
}

my $secrets = path_of('secrets');
open my $out, '>', $secrets or die "$secrets: $!";
print {$out} "whsec_test\n";
close $out;
my @flags = ('--processing-delay-ms', 200, '--stripe-webhook-secret-file', $secrets, '--book', path_of('book'));
start(@flags);

subtest 'a payment' => sub {
    my $key = new_key();
    my $answer = session({}, key => $key);
    is($answer->{status}, 200, 'made');
    my $session = $answer->{json};
    is_deeply([ @$session{qw(object status payment_status mode amount_total currency client_reference_id payment_intent setup_intent)} ],
        [ 'checkout.session', 'open', 'unpaid', 'payment', 2500, 'eur', 'order-1', undef, undef ], 'its fields');
    like($session->{id}, qr/^cs_\w{24}$/, 'id');
    is($session->{url}, sandbox()->{url} . "/pay/$session->{id}", 'url');
    cmp_ok($session->{expires_at} - $session->{created}, '>=', 86399, 'open for a day');
    is(session({}, key => $key)->{content}, $answer->{content}, 'made once under its key');

    my $page = browse($session->{url});
    is($page->{status}, 200, 'the page');
    is_accessible($page->{content}, 'the page');
    like($page->{headers}{'content-type'}, qr{^text/html; charset=utf-8$}, 'HTML');
    like($page->{headers}{'content-security-policy'}, qr/default-src 'none'/, 'that loads nothing');
    like($page->{content}, qr/2 \x{d7} A &lt;b&gt;book&lt;\/b&gt; &amp; more|2 \xc3\x97 A &lt;b&gt;book&lt;\/b&gt; &amp; more/, 'names what is bought, escaped');
    like($page->{content}, qr/25\.00 EUR/, 'and the amount');
    like($page->{content}, qr{href="http://127.0.0.1:1/cancel\?a=1&amp;b=2"}, 'with a way back');
    is(scalar(() = $page->{content} =~ /type="radio"/g), 10, 'and cards to choose from');
    is(shown($session->{id})->{payment_intent}, undef, 'looking pays nothing');

    my $nothing = submit($session->{url});
    is($nothing->{status}, 422, 'no card chosen');
    is_accessible($nothing->{content}, 'the error');
    like($nothing->{content}, qr/role="alert".*There is a problem.*<a id="error" href="#card-0">Choose one of the cards/s, 'an error on top that leads to the field');
    my $declined = submit($session->{url}, card => 'pm_card_chargeDeclinedExpiredCard');
    is($declined->{status}, 422, 'declined');
    like($declined->{content}, qr/The card has expired/, 'with the reason');
    like($declined->{content}, qr/value="pm_card_chargeDeclinedExpiredCard" checked/, 'and what was chosen');
    is(shown($session->{id})->{status}, 'open', 'another card may do');

    my $done = submit($session->{url}, card => 'pm_card_visa');
    is_deeply([ $done->{status}, $done->{headers}{location} ], [ 303, "http://127.0.0.1:1/done?s=$session->{id}" ], 'paid, and back');
    my $paid = shown($session->{id}, 'payment_intent.latest_charge.balance_transaction');
    is_deeply([ @$paid{qw(status payment_status url)} ], [ 'complete', 'paid', undef ], 'complete');
    my $intent = $paid->{payment_intent};
    is_deeply([ @$intent{qw(status amount_received)}, $intent->{metadata}{payment_order}, $intent->{latest_charge}{balance_transaction}{fee} ],
        [ 'succeeded', 2500, 'order-1', 63 ], 'its payment intent, down to the fee');
    is(shown($session->{id})->{payment_intent}, $intent->{id}, 'or only its id');
    is_deeply([ map { $_->{id} } @{ get(SESSIONS . "?payment_intent=$intent->{id}")->{json}{data} } ], [ $session->{id} ], 'found by it');
    is_deeply(told(), [
        qw(payment_intent.created charge.failed payment_intent.payment_failed charge.succeeded payment_intent.succeeded
          checkout.session.completed) ], 'told in order');

    $done = submit($session->{url}, card => 'pm_card_visa');
    is($done->{status}, 303, 'a second click');
    is_deeply([ @{ book()->{eur} }{qw(charges_succeeded charges_declined)} ], [ 1, 1 ], 'charges nothing');
    like(browse($session->{url})->{content}, qr{This is done.*href="http://127.0.0.1:1/done\?s=$session->{id}"}s,
        'nor does coming back, which leads to where those go who have paid');
    is(browse(sandbox()->{url} . '/pay/cs_unknown')->{status}, 404, 'an unknown page');
    is(browse(sandbox()->{url} . '/pay/')->{status}, 404, 'none at all');
};

subtest '3-D Secure' => sub {
    my $session = session()->{json};
    my $next = submit($session->{url}, card => 'pm_card_authenticationRequired');
    is_deeply([ $next->{status}, $next->{headers}{location} ], [ 303, "/pay/$session->{id}/authenticate" ], 'to the bank');
    my $bank = sandbox()->{url} . $next->{headers}{location};
    my $page = browse($bank);
    is_accessible($page->{content}, "the bank's page");
    is(shown($session->{id}, 'payment_intent')->{payment_intent}{status}, 'requires_action', 'it waits');
    my $failed = submit($bank, result => 'fail');
    is($failed->{status}, 422, 'not authenticated');
    like($failed->{content}, qr/could not confirm that it is you/, 'which the page says');
    my $intent = shown($session->{id}, 'payment_intent')->{payment_intent};
    is_deeply([ $intent->{status}, $intent->{last_payment_error}{code}, $intent->{latest_charge} ],
        [ 'requires_payment_method', 'payment_intent_authentication_failure', undef ], 'nothing was charged');
    submit($session->{url}, card => 'pm_card_authenticationRequired');
    is(submit($bank, result => 'ok')->{headers}{location}, "http://127.0.0.1:1/done?s=$session->{id}", 'authenticated, and back');
    is(shown($session->{id})->{payment_status}, 'paid', 'paid');
    is(submit($bank, result => 'ok')->{status}, 303, 'twice is once');
};

subtest 'captured later, or slowly' => sub {
    my $session = session({ 'payment_intent_data[capture_method]' => 'manual' })->{json};
    submit($session->{url}, card => 'pm_card_visa');
    my $held = shown($session->{id}, 'payment_intent');
    is_deeply([ @$held{qw(status payment_status)}, $held->{payment_intent}{status} ], [ 'complete', 'unpaid', 'requires_capture' ], 'authorised');
    post(INTENTS . "/$held->{payment_intent}{id}/capture", []);
    is(shown($session->{id})->{payment_status}, 'paid', 'captured');
    foreach my $case ([ pm_sandbox_processing => 'succeeded', 'paid' ], [ pm_sandbox_processing_fails => 'failed', 'unpaid' ])
    {
        my ($card, $event, $status) = @$case;
        $session = session()->{json};
        is(submit($session->{url}, card => $card)->{status}, 303, "$card: back at once");
        is(shown($session->{id})->{payment_status}, 'unpaid', 'not paid');
        wait_until(sub { told()->[-1] eq "checkout.session.async_payment_$event" }, $event);
        is(shown($session->{id})->{payment_status}, $status, $status);
    }
};

subtest 'saved for later' => sub {
    my $session = session({ @setup, customer_email => 'payer@example.org' })->{json};
    is_deeply([ @$session{qw(mode payment_status amount_total)} ], [ 'setup', 'no_payment_required', undef ], 'nothing to pay');
    my $setup = get("/v1/setup_intents/$session->{setup_intent}")->{json};
    is($setup->{status}, 'requires_payment_method', 'nothing saved so far');
    my $page = browse($session->{url});
    is_accessible($page->{content}, 'the page');
    like($page->{content}, qr/You pay\s+nothing now/, 'says so');
    is(submit($session->{url}, card => 'pm_card_chargeDeclined')->{status}, 422, 'a bad card');
    my $next = submit($session->{url}, card => 'pm_card_authenticationRequiredOnSetup');
    is(submit(sandbox()->{url} . $next->{headers}{location}, result => 'fail')->{status}, 422, 'not authenticated');
    $next = submit($session->{url}, card => 'pm_card_authenticationRequiredOnSetup');
    is(submit(sandbox()->{url} . $next->{headers}{location}, result => 'ok')->{status}, 303, 'authenticated');
    is_deeply([ @{ shown($session->{id}) }{qw(status payment_status payment_intent)} ], [ 'complete', 'no_payment_required', undef ], 'complete');
    $setup = get("/v1/setup_intents/$session->{setup_intent}")->{json};
    is($setup->{status}, 'succeeded', 'saved');
    is(get("/v1/customers/$setup->{customer}")->{json}{email}, 'payer@example.org', 'for a customer');
    is_deeply([ @{ get("/v1/payment_methods/$setup->{payment_method}")->{json} }{qw(object customer type)} ],
        [ 'payment_method', $setup->{customer}, 'card' ], 'as a payment method');
    my %saved = (customer => $setup->{customer}, payment_method => $setup->{payment_method});
    my $paid = pay({ %saved, off_session => 'true' });
    is_deeply([ $paid->{status}, @{ $paid->{json} }{qw(status customer payment_method)} ],
        [ 200, 'succeeded', @saved{qw(customer payment_method)} ], 'which pays without the payer');
    is(pay({ payment_method => 'pm_card_authenticationRequiredOnSetup', off_session => 'true' })->{status}, 402, 'unlike one not saved');
    is_error(pay({ payment_method => $saved{payment_method} }), 400, 'invalid_request_error', undef, 'payment_method', 'not without the customer');
    my $other = post('/v1/customers', [ name => 'Other', 'metadata[k]' => 'v' ])->{json};
    is_error(pay({ %saved, customer => $other->{id} }), 400, 'invalid_request_error', undef, 'payment_method', "nor for another");
    is_error(pay({ customer => 'cus_unknown' }), 400, 'invalid_request_error', 'resource_missing', 'customer', 'an unknown one');
    is(get("/v1/customers/$other->{id}")->{json}{metadata}{k}, 'v', 'a customer made by hand');

    $session = session({ customer => $other->{id}, 'payment_intent_data[setup_future_usage]' => 'off_session' })->{json};
    submit($session->{url}, card => 'pm_card_visa');
    is(shown($session->{id}, 'payment_intent')->{payment_intent}{customer}, $other->{id}, 'a payment of that customer');
    $session = session({ customer_creation => 'always' })->{json};
    submit($session->{url}, card => 'pm_card_visa');
    like(shown($session->{id})->{customer}, qr/^cus_/, 'a customer made on the way');
};

subtest 'expired' => sub {
    my $session = session()->{json};
    submit($session->{url}, card => 'pm_card_chargeDeclined');
    my $expired = post(SESSIONS . "/$session->{id}/expire", []);
    is_deeply([ @{ $expired->{json} }{qw(status payment_status url)} ], [ 'expired', 'unpaid', undef ], 'by request');
    is(get(INTENTS . '/' . shown($session->{id})->{payment_intent})->{json}{status}, 'canceled', 'with its intent');
    is_deeply([ @{ told() }[ -2, -1 ] ], [ 'payment_intent.canceled', 'checkout.session.expired' ], 'told');
    is(post(SESSIONS . "/$session->{id}/expire", [])->{status}, 400, 'once');
    my $page = browse($session->{url});
    is($page->{status}, 410, 'the page is gone');
    is_accessible($page->{content}, 'what it says');
    is(submit($session->{url}, card => 'pm_card_visa')->{status}, 410, 'and takes no money');
    my $canceled = session()->{json};
    submit($canceled->{url}, card => 'pm_card_chargeDeclined');
    post(INTENTS . '/' . shown($canceled->{id})->{payment_intent} . '/cancel', []);
    is(submit($canceled->{url}, card => 'pm_card_visa')->{status}, 410, 'nor when its intent was canceled');
};

subtest 'wrong parameters' => sub {
    my $price = 'line_items[0][price_data]';
    foreach my $case (
        [ { mode => undef },                            'mode' ],
        [ { mode => 'subscription' },                   'mode' ],
        [ { success_url => undef },                     'success_url' ],
        [ { success_url => 'javascript:alert(1)' },     'success_url' ],
        [ { success_url => "http://x/\r\nX-Evil: 1" },  'success_url' ],
        [ { cancel_url => '/relative' },                'cancel_url' ],
        [ { "${price}[currency]" => 'xxx' },            'line_items' ],
        [ { "${price}[unit_amount]" => 0 },             'line_items' ],
        [ { "${price}[unit_amount]" => -1 },            'line_items' ],
        [ { "${price}[unit_amount]" => 999999999999 },  'line_items' ],
        [ { "${price}[unit_amount]" => undef },         'line_items' ],
        [ { 'line_items[0][quantity]' => 0 },           'line_items' ],
        [ { @setup, mode => 'payment' },                'line_items' ],
        [ { mode => 'setup' },                          'line_items' ],
        [ { expires_at => time + 60 },                  'expires_at' ],
        [ { expires_at => time + 90000 },               'expires_at' ],
        [ { customer => 'cus_unknown' },                'customer' ],
        [ { 'line_items[1][price_data][currency]' => 'usd', 'line_items[1][price_data][unit_amount]' => 1,
              'line_items[1][price_data][product_data][name]' => 'x' }, 'line_items' ],
        [ { nonsense => 1 }, 'nonsense' ])
    {
        my ($changes, $param) = @$case;
        my $answer = session($changes);
        is_deeply([ $answer->{status}, $answer->{json}{error}{param} ], [ 400, $param ], join ' ', map { "$_=" . ($changes->{$_} // 'none') =~ s/\s/_/gr } sort keys %$changes);
    }
    is(session({ expires_at => time + 3600 })->{json}{expires_at} - time < 3601, 1, 'an hour is fine');
    is(get(SESSIONS . '/cs_unknown')->{status}, 404, 'an unknown session');
};

subtest 'a book that outlives kill -9' => sub {
    my $session = session()->{json};
    my $setup = session({ @setup })->{json};
    submit($session->{url}, card => 'pm_card_authenticationRequired');
    stop('KILL');
    my @short = ('--session-lifetime-s', 1);
    start(@flags, @short, '--port', sandbox()->{port});
    is(browse($session->{url})->{status}, 200, 'the page is there');
    is(submit("$session->{url}/authenticate", result => 'ok')->{status}, 303, 'and goes on where it was');
    is(submit($setup->{url}, card => 'pm_card_visa')->{status}, 303, 'so does the other');
    $session = session()->{json};
    wait_until(sub { shown($session->{id})->{status} eq 'expired' }, 'expired by time');
    is(told()->[-1], 'checkout.session.expired', 'told');
    is(stop(), 0, 'stopped');
};

finish();
