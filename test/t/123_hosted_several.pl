# Several orders behind one page of the PSP's, and pages that are closed, over the wire: worker, sandbox and gateway together.
use strict;
use warnings;

use GatewayTest qw(gateway_program);
use HTTP::Tiny;
use JSON::PP;
use PaymentTest;
use Test::More;

plan(skip_all => 'no gateway to test: "make gateway" builds it') if !-x gateway_program();

my $browser = HTTP::Tiny->new(max_redirect => 0, timeout => 30);
my $shop = 'http://127.0.0.1:1';
my $t = PaymentTest->new('several');
my $secret = 'whsec_' . join '', map { int rand 10 } 1 .. 24;
$t->write_secret('hook', $secret . "\n");
my $gateway = GatewayTest->new($t);
PaymentTest::wait_until(sub { ($gateway->get('/healthz'))[0] == 200 }, 60);
$t->start_sandbox({ flags => ['--stripe-webhook-url', sprintf('http://127.0.0.1:%d/webhooks/sandbox', $gateway->port),
    '--stripe-webhook-secret-file', $t->secrets_dir . '/hook'] });
$t->register_seller($_) for qw(alice bob carol);

# polls so rare that only webhooks can tell, or so frequent that they do
sub use_psp
{
    my ($poll_interval_ms) = @_;
    $t->register_psp('sandbox', webhook_secret_names => '{hook}',
        settings => { poll_interval_ms => $poll_interval_ms, lookup_delay_ms => 200, backoff_base_ms => 100, backoff_max_ms => 1000 });
    return;
}

sub checkout
{
    my ($key, @orders) = @_;
    @orders = ('alice 1000 EUR', 'bob 2000 EUR', 'carol 3000 EUR') if !@orders;
    my ($payment, @ids) = $t->checkout($key, \@orders, payment_method => undef, psp => 'sandbox',
        hosted => { success_url => "$shop/ok", cancel_url => "$shop/cancel" });
    $t->wait_for("SELECT status = 'awaiting_customer' FROM payment.payment WHERE id = '$payment'");
    my $url = $t->sql("SELECT hosted_url FROM payment.payment WHERE id = '$payment'");
    return { key => $key, payment => $payment, orders => \@ids, url => $url };
}

sub use_card
{
    my ($paid, $card) = @_;
    return $browser->post_form($paid->{url}, { card => $card });
}

sub wait_for_status
{
    my ($paid, $status) = @_;
    $t->wait_for("SELECT status = '$status' FROM payment.payment WHERE id = '$paid->{payment}'", what => "$paid->{key} to be $status");
    return;
}

# every order of it
sub charged_once
{
    my ($paid, $name) = @_;
    $t->charged_once($_, "$name: one charge at the PSP and one journal for each order") for @{ $paid->{orders} };
    nothing_left($paid, $name);
    return;
}

sub not_charged
{
    my ($paid, $name) = @_;
    $t->not_charged($_, "$name: no charge") for @{ $paid->{orders} };
    nothing_left($paid, $name);
    return;
}

sub nothing_left
{
    my ($paid, $name) = @_;
    is($t->sql("SELECT count(*) FROM payment.task WHERE object_id IN (SELECT id FROM payment.order_record WHERE payment_id = '$paid->{payment}')"), 0,
        "$name: nothing is left to do");
    is($t->sql("SELECT count(*) FROM payment.hosted_page WHERE payment_id = '$paid->{payment}'"), 0, "$name: no page either");
    return;
}

# with a captured order for each that is paid
sub statuses
{
    my ($paid) = @_;
    return $t->sql("SELECT string_agg(status, ' ' ORDER BY id) FROM payment.payment_order WHERE payment_id = '$paid->{payment}'");
}

# until the worker waits for an answer of the PSP's; then it is gone, as in a power cut
sub kill_worker_during
{
    my ($paid, $operation, $name) = @_;
    $t->wait_for("SELECT EXISTS (SELECT FROM payment.attempt AS a JOIN payment.order_record AS o ON o.id = a.object_id
        WHERE o.payment_id = '$paid->{payment}' AND a.operation = '$operation' AND a.outcome IS NULL)", what => "$name: a request under way");
    ok($t->kill_dispatcher('KILL'), "$name: the worker is killed");
    $t->wait_for_server;
    return;
}

use_psp(3_600_000);
subtest 'paid, told by a webhook' => sub {
    my $paid = checkout('webhook');
    use_card($paid, 'pm_card_visa');
    wait_for_status($paid, 'succeeded');
    charged_once($paid, 'webhook');
    is($t->sql("SELECT state || ', ' || detail FROM payment.webhook_event WHERE type = 'checkout.session.completed'"), 'applied, the page is looked at',
        'the news leads to a look at the page, and says nothing by itself');
    like($t->history_of($paid->{orders}[0]), qr/requires_action.*executing.*captured/s, 'the first order had the page');
    unlike($t->history_of($paid->{orders}[1]), qr/requires_action/, 'the others had none');
};

subtest 'told by a webhook when looking had been given up' => sub {
    my $paid = checkout('given up');
    $t->sql("UPDATE payment.task SET dead_at = now() WHERE object_id = '$paid->{orders}[0]'");
    use_card($paid, 'pm_card_visa');
    wait_for_status($paid, 'succeeded');
    charged_once($paid, 'given up');
};

subtest 'S30 the redirect proves nothing' => sub {
    my $paid = checkout('redirect');
    $browser->get("$shop/ok");
    is(statuses($paid), 'requires_action created created', 'S30 nobody has paid');
    is($t->sql("SELECT payment.cancel('$paid->{payment}', 'redirect cancel')"), 3, 'the payer gives up');
    wait_for_status($paid, 'cancelled');
    is($browser->get($paid->{url})->{status}, 410, 'the page is closed');
    not_charged($paid, 'S30');
};

use_psp(200);
subtest 'paid, found by a look at the page' => sub {
    my $paid = checkout('poll');
    is(use_card($paid, 'pm_card_chargeDeclined')->{status}, 422, 'a card that does not work is no card');
    is($t->sql("SELECT status FROM payment.payment WHERE id = '$paid->{payment}'"), 'awaiting_customer', 'and ends nothing');
    is(use_card($paid, 'pm_card_visa')->{status}, 303, 'another is kept');
    wait_for_status($paid, 'succeeded');
    charged_once($paid, 'poll');
    like($t->sql("SELECT payment_method FROM payment.payment WHERE id = '$paid->{payment}'"), qr{^cus_\w+/pm_\w+$}, 'only names of it are kept');
};


subtest 'S16 one of the orders is declined' => sub {
    my $paid = checkout('declined');
    use_card($paid, 'pm_card_authenticationRequired');
    my $at = $paid->{url} . '/authenticate';
    is($browser->post_form($at, { result => 'ok' })->{status}, 303, 'the bank has confirmed the card');
    wait_for_status($paid, 'failed');
    is(statuses($paid), 'declined declined declined', 'and wants to be asked for each charge again');
    is($t->sql("SELECT DISTINCT a.decline_class FROM payment.attempt AS a JOIN payment.order_record AS o ON o.id = a.object_id
        WHERE o.payment_id = '$paid->{payment}' AND a.operation = 'pay' AND a.outcome = 'declined'"), 'authentication_required', 'which is a decline of its class');
    is($t->sql("SELECT payment.retry_order('$paid->{orders}[1]', 'declined retry', payment_method => 'pm_card_visa')"), 2, 'another card for one of them');
    wait_for_status($paid, 'partially_succeeded');
    is(statuses($paid), 'declined captured declined', 'S16 that one is paid');
    $t->charged_once($paid->{orders}[1], 'S16 once');
    $t->not_charged($paid->{orders}[$_], 'S16 the others are not') for 0, 2;
};

subtest 'answers are lost' => sub {
    foreach my $fault (qw(lost_answer error_500_after truncated_body error_500_before))
    {
        my $paid = checkout("lost $fault");
        $t->faults($fault => 'next:2');
        use_card($paid, 'pm_card_visa');
        wait_for_status($paid, 'succeeded');
        charged_once($paid, $fault);
        $t->faults(reset => 1);
    }
};

subtest 'the worker is killed' => sub {
    foreach my $operation (qw(register pay))
    {
        my $paid = checkout("killed $operation");
        $t->faults(latency_ms => 700);
        $t->sql("UPDATE payment.task SET run_at = now() WHERE operation = 'register'") if $operation eq 'register';
        use_card($paid, 'pm_card_visa');
        kill_worker_during($paid, $operation, $operation);
        $t->faults(reset => 1);
        wait_for_status($paid, 'succeeded');
        charged_once($paid, "killed during $operation");
    }
};

subtest 'closed, and paid at the same time' => sub {
    my %ended;
    foreach my $number (1 .. 6)
    {
        my $paid = checkout("race $number", 'alice 1000 EUR');
        $t->faults(latency_ms => '0-60');
        my $session = $t->start_sql("SELECT payment.cancel('$paid->{payment}', 'race cancel $number')");
        select undef, undef, undef, 0.01 * ($number - 1);
        use_card($paid, 'pm_card_visa');
        $t->finish_sql($session);
        $t->faults(reset => 1);
        $t->wait_for("SELECT status IN ('succeeded', 'cancelled') FROM payment.payment WHERE id = '$paid->{payment}'");
        my $status = $t->sql("SELECT status FROM payment.payment WHERE id = '$paid->{payment}'");
        $ended{$status}++;
        $status eq 'succeeded' ? charged_once($paid, "race $number, paid first") : not_charged($paid, "race $number, closed first");
    }
    note(join ', ', map { "$ended{$_} $_" } sort keys %ended);
};

subtest 'paid before it is closed' => sub {
    use_psp(3_600_000);
    $t->faults(webhook_lost => 100);
    my $paid = checkout('paid first', 'alice 1000 EUR');
    use_card($paid, 'pm_card_visa');
    is(statuses($paid), 'requires_action', 'nobody here knows yet');
    is($t->sql("SELECT payment.cancel('$paid->{payment}', 'paid first cancel')"), 1, 'it is to be cancelled');
    wait_for_status($paid, 'succeeded');
    charged_once($paid, 'who has paid has paid');
    my $several = checkout('kept first');
    use_card($several, 'pm_card_visa');
    $t->sql("SELECT payment.cancel('$several->{payment}', 'kept first cancel')");
    wait_for_status($several, 'cancelled');
    not_charged($several, 'what only was kept is not charged any more');
    $t->faults(reset => 1);
};

subtest 'closing fails' => sub {
    foreach my $fault (qw(lost_answer error_500_before error_500_after truncated_body))
    {
        my $paid = checkout("closing $fault");
        $t->faults($fault => 'next:2');
        $t->sql("SELECT payment.cancel('$paid->{payment}', 'closing $fault cancel')");
        wait_for_status($paid, 'cancelled');
        not_charged($paid, "closing $fault");
        is($browser->get($paid->{url})->{status}, 410, 'the page is closed');
        $t->faults(reset => 1);
    }
};

$t->books_agree('the books agree');

# told by webhooks alone: Adyen answers nobody who asks for a page
subtest 'a page at Adyen' => sub {
    my $key = join '', map { sprintf '%02x', int rand 256 } 1 .. 32;
    $t->write_secret($_, "$key\n") for qw(adyen_hook adyen_key);
    $t->stop_sandbox;
    $t->start_sandbox({ flags => [ '--adyen-webhook-url', sprintf('http://127.0.0.1:%d/webhooks/adyen', $gateway->port),
        '--hmac-key-file', $t->secrets_dir . '/adyen_hook' ] });
    $t->register_psp('adyen', adapter => 'adyen', webhook_secret_names => '{adyen_hook}',
        settings => { payouts => JSON::PP::false, config => { merchant_account => 'SandboxMerchant', return_url => "$shop/return" }, poll_interval_ms => 200 });
    my $at_adyen = sub {
        my ($name) = @_;
        my ($payment, $order) = $t->checkout($name, ['alice 1000 EUR'], payment_method => undef, psp => 'adyen',
            hosted => { success_url => "$shop/ok", cancel_url => "$shop/cancel", expires_in_s => 3600, locale => 'de' });
        $t->wait_for("SELECT status = 'awaiting_customer' FROM payment.payment WHERE id = '$payment'", what => "$name: the page");
        return { key => $name, payment => $payment, orders => [$order], url => $t->sql("SELECT hosted_url FROM payment.payment WHERE id = '$payment'") };
    };
    my $paid = $at_adyen->('adyen paid');
    is($t->sql("SELECT open_until BETWEEN now() + interval '50 min' AND now() + interval '61 min' FROM payment.hosted_page WHERE payment_id = '$paid->{payment}'"), 't',
        'it says until when it is open');
    is(use_card($paid, 'sandbox_refused_2')->{status}, 422, 'a card is refused');
    $t->wait_for(q(SELECT count(*) = 1 FROM payment.webhook_event WHERE type = 'AUTHORISATION' AND state = 'applied'), what => 'the refusal to be told');
    is(statuses($paid), 'requires_action', 'which ends nothing');
    like($t->sqlstate("SELECT payment.cancel('$paid->{payment}', 'adyen cancel')"), qr/PY303/, 'nobody can close it');
    is(use_card($paid, 'sandbox_authorised')->{status}, 303, 'another is taken');
    wait_for_status($paid, 'succeeded');
    charged_once($paid, 'Adyen');

    $t->faults(lost_answer => 'next:1');
    my $again = $at_adyen->('adyen again');
    is($t->sql("SELECT count(DISTINCT psp_key) FROM payment.attempt WHERE object_id = '$again->{orders}[0]'"), 1, 'a lost answer is asked for under the same key');
    $t->sql("UPDATE payment.task SET run_at = now() WHERE object_id = '$again->{orders}[0]'");
    $t->wait_for("SELECT count(*) >= 3 FROM payment.attempt WHERE object_id = '$again->{orders}[0]' AND outcome IS NOT NULL", what => 'a look that shows the same page');
    is(statuses($again), 'requires_action', 'nobody has paid');
    is($t->sql('SELECT payment.expire_authorizations(100)'), 0, 'its time is not over');
    $t->sql("UPDATE payment.task SET run_at = now() + interval '1 day' WHERE object_id = '$again->{orders}[0]'");
    $t->sql("SET payment.authorization_grace_s = 0; SELECT payment.record_hosted_page(a.id, h.psp_reference, h.url, now() - interval '1 min')
        FROM payment.hosted_page AS h JOIN payment.attempt AS a ON a.object_id = h.order_id WHERE h.payment_id = '$again->{payment}' LIMIT 1;
        SELECT payment.expire_authorizations(100)");
    is(statuses($again), 'expired', 'then nobody will');
    is($t->sql("SELECT status FROM payment.payment WHERE id = '$again->{payment}'"), 'expired', 'so is the payment');
    nothing_left($again, 'Adyen, expired');
};
$t->finish;
