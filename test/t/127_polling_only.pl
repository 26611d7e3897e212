# S29: what webhooks tell, polling tells as well.  The same business at each PSP twice, once with webhooks and next to
# no polling, once with no webhook at all: the balances are the same.  What a PSP tells by webhooks alone (Adyen) is
# not guessed: it stays open, and people are told.
use strict;
use warnings;

use GatewayTest qw(gateway_program);
use HTTP::Tiny;
use JSON::PP ();
use PaymentTest;
use Test::More;

use constant HMAC_KEY => '44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056';

plan(skip_all => 'no gateway to test: "make gateway" builds it') if !-x gateway_program();

my $t = PaymentTest->new('polling_only');
my $gateway = GatewayTest->new($t);
my $edge = 'http://127.0.0.1:' . $gateway->port . '/webhooks';
my $browser = HTTP::Tiny->new(max_redirect => 0, timeout => 30);
$t->write_secret('hook', 'whsec_' . join('', map { int rand 10 } 1 .. 24) . "\n");
$t->write_secret('hmac', HMAC_KEY . "\n");
$t->start_sandbox({ flags => [
    '--processing-delay-ms' => 200, '--modification-delay-ms' => 100, '--payout-delay-ms' => 100,
    '--stripe-webhook-url' => "$edge/stripe", '--stripe-webhook-secret-file' => $t->secrets_dir . '/hook',
    '--adyen-webhook-url' => "$edge/adyen", '--hmac-key-file' => $t->secrets_dir . '/hmac',
    '--paypal-webhook-url' => "$edge/paypal", '--paypal-webhook-id' => '2WEBHOOK' ] });
chomp(my $key = PaymentTest::slurp_file($t->secrets_dir . '/sandbox'));
$t->write_secret('paypal', "sandbox:$key\n");

my %psps = (
    stripe => { adapter => 'stripe', good => 'pm_card_visa', pending => 'pm_sandbox_processing', fails => 'pm_sandbox_processing_fails',
        slow_refund => 'pm_card_pendingRefund', hosted => 1, payouts => 1,
        told => { webhook_secret_names => '{hook}' } },
    paypal => { adapter => 'paypal', parts => 1, good => 'sandbox_success', pending => 'sandbox_pending', fails => 'sandbox_pending_fails',
        payouts => 1, secret => 'paypal', config => {}, told_config => { webhook_id => '2WEBHOOK' } },
    adyen => { adapter => 'adyen', good => 'sandbox_authorised', pending => 'sandbox_pending', fails => 'sandbox_pending_fails',
        settings => { payouts => JSON::PP::false },
        config => { merchant_account => 'SandboxMerchant', return_url => 'https://shop.example/back' },
        told => { webhook_secret_names => '{hmac}' } });

# told: named as the sandbox posts to; deaf: nobody posts to it
sub register
{
    my ($name, $mode) = @_;
    my $psp = $psps{$name};
    my %patient = $mode eq 'told' ? (poll_interval_ms => 600_000, lookup_delay_ms => 600_000) : ();
    my %config = (%{ $psp->{config} // {} }, $mode eq 'told' ? %{ $psp->{told_config} // {} } : ());
    $t->register_psp(
        psp_name($name, $mode),
        adapter => $psp->{adapter},
        ($psp->{secret} ? (secret_name => $psp->{secret}) : ()),
        settings => { %{ $psp->{settings} // {} }, %patient, (%config ? (config => \%config) : ()) },
        ($mode eq 'told' ? %{ $psp->{told} // {} } : ()));
    $t->register_seller("$name $mode");
    return;
}

sub psp_name { my ($name, $mode) = @_; return $mode eq 'told' ? $name : "$name deaf" }

sub pay
{
    my ($name, $mode, $what, $method, %argument) = @_;
    my (undef, $order) = $t->checkout("$name $mode $what", [], psp => psp_name($name, $mode),
        payment_method => $method, orders => [ { seller => "$name $mode", amount => 1000, currency => 'EUR' } ], %argument);
    return $order;
}

sub wait_for_status
{
    my ($order, @statuses) = @_;
    my $list = join ', ', map { "'$_'" } @statuses;
    return $t->wait_for("SELECT status IN ($list) FROM payment.payment_order WHERE id = '$order'", what => "the order to be $list");
}

sub refund
{
    my ($order, $name, $mode, $amount) = @_;
    return $t->call('refund', payment_order => $order, amount => $amount, idempotency_key => "$name $mode back $order");
}

# what goes through one request after another, of an order that is authorised
sub follow_up
{
    my ($name, $mode, $order, $rests, $amount, $final) = @_;
    $t->call('capture', payment_order => $order, idempotency_key => "$name $mode $order $amount", amount => $amount, final => $final);
    wait_for_status($order, $rests);
    return;
}

# everything that begins at once; returns the orders and refunds by what they are
sub begin
{
    my ($name, $mode) = @_;
    my $psp = $psps{$name};
    my %order = (
        pending  => pay($name, $mode, 'pending', $psp->{pending}),
        fails    => pay($name, $mode, 'fails',   $psp->{fails}),
        captured => pay($name, $mode, 'captured', $psp->{good}),
        parts    => pay($name, $mode, 'parts', $psp->{good}, capture => 'manual'),
        void     => pay($name, $mode, 'void',  $psp->{good}, capture => 'manual'));
    wait_for_status($order{captured}, 'captured');
    wait_for_status($order{$_}, 'authorized') foreach qw(parts void);
    $t->call('void', payment_order => $order{void}, idempotency_key => "$name $mode void it");
    my %refund = (refund => refund($order{captured}, $name, $mode, 300));
    if ($psp->{slow_refund})
    {
        $order{slow} = pay($name, $mode, 'slow', $psp->{slow_refund});
        wait_for_status($order{slow}, 'captured');
        $refund{slow} = refund($order{slow}, $name, $mode, 200);
    }
    $order{hosted} = hosted($name, $mode) if $psp->{hosted};
    return (\%order, \%refund);
}

sub hosted
{
    my ($name, $mode) = @_;
    my $order = pay($name, $mode, 'hosted', undef, hosted => { success_url => 'http://127.0.0.1:1/ok', cancel_url => 'http://127.0.0.1:1/no' });
    $t->wait_for("SELECT hosted_url IS NOT NULL FROM payment.payment AS p JOIN payment.payment_order AS o ON o.payment_id = p.id WHERE o.id = '$order'");
    my $url = $t->sql("SELECT hosted_url FROM payment.payment AS p JOIN payment.payment_order AS o ON o.payment_id = p.id WHERE o.id = '$order'");
    is($browser->post_form($url, { card => 'pm_card_visa' })->{status}, 303, "$name $mode: somebody pays at the page");
    return $order;
}

sub finish
{
    my ($name, $mode, $order, $refund) = @_;
    my $psp = $psps{$name};
    follow_up($name, $mode, $order->{parts}, 'partially_captured', 600, JSON::PP::false) if $psps{$name}{parts};
    follow_up($name, $mode, $order->{parts}, 'captured', 200, JSON::PP::true);
    wait_for_status($order->{$_}, 'captured') foreach grep { $order->{$_} } qw(pending hosted);
    wait_for_status($order->{fails}, 'declined', 'failed');
    wait_for_status($order->{void}, 'voided');
    $t->wait_for("SELECT status = 'succeeded' FROM payment.refund WHERE id = '$_'", what => 'the refund') foreach values %$refund;
    return if !$psp->{payouts};
    $t->call('release', payment_order => $order->{pending});
    my $payout = $t->call('payout', seller => $t->call('seller_id', reference => "$name $mode"), amount => 400, currency => 'EUR',
        destination => 'ba_sandbox_alice', psp => psp_name($name, $mode), idempotency_key => "$name $mode payout");
    $t->wait_for("SELECT status = 'paid' FROM payment.payout WHERE id = '$payout'", what => 'the payout');
    return;
}

# what counts in the end
sub standing
{
    my ($name, $mode, $order) = @_;
    my %standing = map {
        $_ => $t->sql("SELECT status || ' ' || captured_amount || ' ' || refunded_amount FROM payment.payment_order WHERE id = '$order->{$_}'")
    } keys %$order;
    $standing{wallet} = $t->sql("SELECT pending || ' ' || available || ' ' || owed FROM payment.wallet WHERE seller = '$name $mode'");
    # its fee is known from an answer, a webhook does not tell it: till the settlement file is there, that is part of what it owes
    $standing{psp} = $t->sql(sprintf q(SELECT string_agg(code || ' ' || balance, ', ' ORDER BY code) FROM
        (SELECT replace(a.code, 'psp_fee', 'psp_receivable') AS code, sum(b.balance)::bigint AS balance
        FROM payment.account AS a JOIN payment.balance_slot AS b ON b.account_id = a.id JOIN payment.psp AS p ON p.id = a.owner
        WHERE p.name = '%s' GROUP BY 1) AS s WHERE balance <> 0), psp_name($name, $mode));
    return \%standing;
}

sub lookups
{
    my ($name, $mode) = @_;
    return $t->sql(sprintf q(SELECT count(*) FROM payment.attempt AS a JOIN payment.psp AS p ON p.id = a.psp_id
        WHERE p.name = '%s' AND a.step = 'lookup' AND a.operation <> 'register'), psp_name($name, $mode));
}

foreach my $name (qw(stripe paypal))
{
    subtest "S29 $name: polling tells all that webhooks tell" => sub {
        my %standing;
        foreach my $mode (qw(told deaf))
        {
            register($name, $mode);
            my @business = begin($name, $mode);
            finish($name, $mode, @business);
            $standing{$mode} = standing($name, $mode, $business[0]);
        }
        is_deeply($standing{deaf}, $standing{told}, 'S29 the same statuses and balances');
        is($t->sql("SELECT count(*) FROM payment.webhook WHERE psp = '$name deaf'"), '0', 'S29 and not one webhook came');
        cmp_ok(lookups($name, 'deaf'), '>', 0, 'S29 by lookups');
        is($t->sql("SELECT count(*) FROM payment.exception WHERE psp = '$name deaf'"), '0', 'S29 nobody has to look at anything');
        diag(explain($standing{told})) if $ENV{PAYMENT_TEST_VERBOSE};
    };
}

subtest 'S29 adyen: what only webhooks tell is left to people' => sub {
    my (%standing, %order, %refund);
    foreach my $mode (qw(told deaf))
    {
        register('adyen', $mode);
        my ($order, $refund) = begin('adyen', $mode);
        ($order{$mode}, $refund{$mode}) = ($order, $refund);
        finish('adyen', $mode, $order, $refund) if $mode eq 'told';
        $standing{$mode} = standing('adyen', $mode, $order) if $mode eq 'told';
    }
    my $deaf = $order{deaf};
    $t->call('capture', payment_order => $deaf->{parts}, idempotency_key => 'adyen deaf part', amount => 600, final => JSON::PP::false);
    wait_for_status($deaf->{parts}, 'capturing');
    my $open = "SELECT count(*) FROM payment.task AS t JOIN payment.psp AS p ON p.id = t.psp_id WHERE p.name = 'adyen deaf' AND t.attempt_id IS NULL
        AND t.dead_at IS NULL AND t.run_at > now() + interval '1 hour'";
    $t->wait_for("SELECT ($open) = 5", what => 'all to be accepted');
    my $open_money = standing('adyen', 'deaf', $deaf);
    is_deeply({ map { $_ => $open_money->{$_} } keys %$deaf },
        { pending => 'pending 0 0', fails => 'pending 0 0', captured => 'captured 1000 300', parts => 'capturing 0 0', void => 'voiding 0 0' },
        'S29 nothing is known that was not told');
    is($t->sql("SELECT status FROM payment.refund WHERE id = '$refund{deaf}{refund}'"), 'pending', 'S29 nor of the refund');
    is($t->sql(q(SELECT count(*) FROM payment.exception WHERE psp = 'adyen deaf')), '0', 'S29 as long as the key lives webhooks have time to come');

    # as if the key's life were over, and nothing had come
    $t->sql(q(UPDATE payment.task AS t SET run_at = now(), first_sent_at = now() - interval '8 days', last_sent_at = now() - interval '8 days'
        FROM payment.psp AS p WHERE p.id = t.psp_id AND p.name = 'adyen deaf'));
    $t->sql('SELECT payment.wake_worker()');
    $t->wait_for(q(SELECT count(*) = 5 FROM payment.task AS t JOIN payment.psp AS p ON p.id = t.psp_id
        WHERE p.name = 'adyen deaf' AND t.dead_at IS NOT NULL), what => 'people to be asked');
    is($t->sql(q(SELECT string_agg(DISTINCT type, ' ') || ' ' || count(*) FROM payment.exception WHERE psp = 'adyen deaf')), 'unknown_outcome 5',
        'S29 then people are told of each');
    is($t->sql(q(SELECT count(*) FROM payment.payment_order AS o JOIN payment.order_record AS r ON r.id = o.id JOIN payment.psp AS p ON p.id = r.psp_id
        WHERE p.name = 'adyen deaf' AND o.status = 'unknown')), '4', 'S29 who can decide, as of any outcome that is unknown');
    is($t->sql(q(SELECT count(*) FROM payment.attempt AS a JOIN payment.psp AS p ON p.id = a.psp_id WHERE p.name = 'adyen deaf' AND a.attempt_no > 1)), '0',
        'S29 and nothing was sent twice');
};

is($t->sql('SELECT * FROM payment.verify() LIMIT 10'), '', 'the books are in order');
$gateway->stop;
$t->finish;
