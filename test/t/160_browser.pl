# Payers in a browser: from the shop's page to the PSP's and back, with server, worker, sandbox and gateway together.
# What the browser shows proves nothing; what the database says is what a webhook or a look at the PSP told it.
use strict;
use warnings;

use BrowserTest;
use GatewayTest qw(gateway_program);
use HTTP::Tiny;
use PaymentTest;
use PostgreSQL::Test::Utils qw(slurp_file);
use ShopTest;
use Test::More;

use constant { CARD => '4242424242424242', HOUR_MS => 3_600_000, CLICK_MS => 2000 };

my $why_not = BrowserTest::why_not();
plan(skip_all => $why_not) if $why_not;
plan(skip_all => 'no gateway to test: "make gateway" builds it') if !-x gateway_program();

my $t = PaymentTest->new('browser');
$t->write_secret('hook', 'whsec_' . join('', map { int rand 10 } 1 .. 24) . "\n");
my $gateway = GatewayTest->new($t);
my $hook = sprintf 'http://127.0.0.1:%d/webhooks/sandbox', $gateway->port;
$t->start_sandbox({ flags => [ '--processing-delay-ms', 300, '--stripe-webhook-url', $hook, '--stripe-webhook-secret-file', $t->secrets_dir . '/hook' ] });
$t->register_seller($_) foreach qw(alice bob);
use_psp(HOUR_MS);
my $shop = ShopTest->new($t);
my $browser = BrowserTest->new;

# looks so rare that only webhooks can tell, or so frequent that they do
sub use_psp
{
    my ($poll_interval_ms) = @_;
    $t->register_psp('sandbox', webhook_secret_names => '{hook}', settings => { poll_interval_ms => $poll_interval_ms });
    return;
}

sub look_often
{
    my ($bought) = @_;
    use_psp(100);
    $t->sql("UPDATE payment.task SET run_at = now() WHERE object_id = '$bought->{order}'; SELECT payment.wake_worker()");
    return;
}

# Where webhooks go from now on.
sub deliver_to { my ($url) = @_; return $t->sandbox('POST', '/_sandbox/notifications', { url => $url, psp => 'stripe' }) }

sub basket
{
    my ($key, $sellers) = @_;
    return $shop->url("/basket?key=$key&psp=sandbox&sellers=" . ($sellers // 'alice'));
}

# From the shop's page to the PSP's.
sub buy
{
    my ($key, $sellers) = @_;
    $browser->go(basket($key, $sellers));
    $browser->follow('#buy');
    like($browser->url, qr{^\Q@{[ $t->sandbox_url ]}\E/pay/cs_\w+$}, "the PSP's page");
    my $bought = $shop->bought($key);
    return { %$bought, order => $bought->{orders}[0], key => $key, page => $browser->url };
}

sub pay_with
{
    my ($card, $button) = @_;
    $browser->click("input[value=$card]");
    $browser->follow($button // '#pay');
    return;
}

sub is_back
{
    my ($bought) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return like($browser->url, qr{^\Q@{[ $shop->url("/thanks?key=$bought->{key}&session=cs_") ]}\E\w+$}, 'back at the shop');
}

sub is_captured
{
    my ($bought, $cause) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $t->wait_for("SELECT status = 'captured' FROM payment.payment_order WHERE id = '$bought->{order}'");
    like($t->sql("SELECT cause FROM payment.status_history WHERE object_id = '$bought->{order}' AND to_status = 'captured'"), qr/^(?:$cause)$/, "captured, known by $cause");
    $browser->go($shop->url("/thanks?key=$bought->{key}"));
    is($browser->text('#status'), 'Paid', 'and the shop says so');
    $t->charged_once($bought->{order}, 'charged once, by book and ledger');
    return;
}

sub is_open
{
    my ($bought, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is($t->status_of($bought->{order}), 'requires_action', $name);
    return $t->not_charged($bought->{order}, "$name: no money moves");
}

sub dump_of
{
    my ($program, $connection) = ($t->node->installed_command('pg_dump'), $t->node->connstr($t->database));
    return scalar qx('$program' -d "$connection");
}

sub wallet { return $t->sql(q(SELECT pending FROM payment.wallet WHERE seller = 'alice' AND currency = 'EUR')) || 0 }

# ---- what every page owes to those who cannot see, use a mouse, or have little room ----

# What the page before us lacks.
sub lacks
{
    return $browser->run(<<'JS');
const lacks = [], need = (ok, what) => { if (!ok) lacks.push(what); };
need(document.documentElement.lang == 'en', 'lang');
need(document.title.includes(document.querySelector('h1').innerText), 'title');
need(document.querySelectorAll('h1').length == 1 && document.querySelectorAll('header, main, footer').length == 3, 'landmarks');
need(document.scripts.length == 0, 'no script');
for (const field of document.querySelectorAll('input')) {
    need(field.labels.length == 1, 'label of ' + field.id);
    need(document.getElementById(field.getAttribute('aria-describedby')), 'hint of ' + field.id);
    need(Math.min(field.offsetWidth, field.offsetHeight) >= 24, 'size of ' + field.id);
}
for (const error of document.querySelectorAll('.error a')) {
    const field = document.querySelector(error.hash);
    need(field && field.closest('[aria-describedby~="' + error.id + '"]'), 'field of the error');
}
// WCAG 2.1, 1.4.3: at least 4.5 to 1
const light = (color) => color.match(/\d+/g).slice(0, 3).map((c) => c / 255)
    .map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const below = (e) => { const color = getComputedStyle(e).backgroundColor; return color != 'rgba(0, 0, 0, 0)' ? color : below(e.parentElement); };
for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some((n) => n.nodeType == 3 && n.data.trim())) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(below(e))].sort((x, y) => y - x);
    need((a + 0.05) / (b + 0.05) >= 4.5, 'contrast of ' + e.innerText);
}
need(document.documentElement.scrollWidth <= window.innerWidth, 'room: ' + document.documentElement.scrollWidth + ' pixels wide');
return lacks.join(', ');
JS
}

sub is_accessible
{
    my ($name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    foreach my $width (1000, 320)
    {
        $browser->width($width);
        is(lacks(), '', "$name: accessible, $width pixels wide");
    }
    $browser->width(1000);
    return;
}

# By the tabulator to what has this id; the focus must be seen all the way.
sub tab_to
{
    my ($id) = @_;
    for (1 .. 20)
    {
        $browser->press('Tab');
        my $outline = $browser->run('const s = getComputedStyle(document.activeElement); return s.outlineStyle == "none" ? 0 : parseFloat(s.outlineWidth)');
        fail('the focus is not to be seen at ' . $browser->focused) if $outline < 2;
        return pass("to $id by keyboard") if $browser->focused eq $id;
    }
    return fail("no way to $id by keyboard");
}

# ---- payments ----

subtest 'paid' => sub {
    my $bought = buy('paid');
    is($browser->text('#amount'), '10.00 EUR', 'shows what is to be paid');
    pay_with('pm_card_visa');
    is_back($bought);
    is_captured($bought, 'webhook');
    is(wallet(), 1000, "in the seller's wallet");
};

subtest 'declined, then another card' => sub {
    my $bought = buy('declined');
    my $before = wallet();
    pay_with('pm_card_chargeDeclinedInsufficientFunds');
    like($browser->text('[role=alert]'), qr/does not hold enough money/, 'the page says why');
    $t->wait_for(q(SELECT count(*) > 0 FROM payment.webhook_event WHERE type = 'payment_intent.payment_failed' AND state = 'applied'));
    is_open($bought, 'a declined card ends nothing');
    pay_with('pm_card_mastercard');
    is_back($bought);
    is_captured($bought, 'webhook');
    is(wallet() - $before, 1000, 'in the wallet once');
};

subtest '3-D Secure' => sub {
    my $bought = buy('secure');
    pay_with('pm_card_authenticationRequired');
    like($browser->url, qr{/authenticate$}, "the bank's page");
    is_open($bought, 'not paid while the bank asks');
    $browser->follow('#fail');
    like($browser->text('[role=alert]'), qr/could not confirm that it is you/, 'refused');
    is_open($bought, 'nor when it is refused');
    pay_with('pm_card_authenticationRequired');
    $browser->follow('#authenticate');
    is_back($bought);
    is_captured($bought, 'webhook');
};

subtest 'banks that take their time' => sub {
    my $bought = buy('slow');
    pay_with('pm_sandbox_processing');
    is_back($bought);
    is_captured($bought, 'webhook|lookup');
    $bought = buy('slow_failure');
    pay_with('pm_sandbox_processing_fails');
    is_back($bought);
    $t->wait_for("SELECT status = 'declined' FROM payment.payment_order WHERE id = '$bought->{order}'");
    $browser->reload;
    is($browser->text('#status'), 'Not paid', 'a payment that fails after the payer was sent back is not paid');
    $t->not_charged($bought->{order}, 'no money moves');
};

subtest 'cancelled' => sub {
    my $bought = buy('cancelled');
    $browser->follow('#cancel');
    is($browser->url, $shop->url('/cart?key=cancelled'), 'the cart');
    is($browser->text('#status'), 'Nothing was paid', 'says that nothing was paid');
    is_open($bought, 'nobody has paid');
};

subtest 'S30 the success page opened by hand' => sub {
    my $bought = buy('by_hand');
    my ($session) = $bought->{page} =~ /(cs_\w+)/;
    look_often($bought);
    $browser->go($shop->url("/thanks?key=by_hand&session=$session"));
    $t->wait_for(<<"SQL", what => 'two looks at the session');
SELECT count(*) >= 2 OR EXISTS (SELECT FROM payment.payment_order WHERE id = '$bought->{order}' AND status <> 'requires_action')
FROM payment.attempt WHERE object_id = '$bought->{order}' AND step = 'lookup' AND outcome IS NOT NULL
SQL
    $browser->reload;
    is($browser->text('#status'), 'Waiting for the confirmation', 'S30 the shop does not believe it');
    is_open($bought, 'S30 nobody has paid');
    use_psp(HOUR_MS);
};

subtest 'S29 webhooks are lost' => sub {
    deliver_to('');
    my $bought = buy('lost');
    pay_with('pm_card_visa');
    is_back($bought);
    is($browser->text('#status'), 'Waiting for the confirmation', 'nobody has told us, so the shop waits');
    look_often($bought);
    is_captured($bought, 'lookup');
    my $late = sub { return scalar grep { !$_->{delivered} } @{ $t->sandbox('GET', '/_sandbox/notifications')->{notifications} } };
    cmp_ok($late->(), '>', 2, 'webhooks wait');
    deliver_to($hook);
    ok(PaymentTest::wait_until(sub { $late->() == 0 }, 60), 'come after all');
    is($t->sql(q(SELECT count(*) FROM payment.webhook_event WHERE state NOT IN ('applied', 'ignored'))), 0, 'and all are understood');
    $t->charged_once($bought->{order}, 'which changes nothing');
    use_psp(HOUR_MS);
};

subtest 'S01 two clicks at the shop' => sub {
    my $sessions = sub { $t->requests->{endpoints}{'POST /v1/checkout/sessions'}{requests} };
    my $before = $sessions->();
    $browser->go(basket('clicks'));
    $t->faults(latency_ms => CLICK_MS);
    $browser->leave(
        sub {
            $browser->click_again('#buy', sub { $t->wait_for('SELECT count(*) = 1 FROM basket WHERE key = $$clicks$$') });
            $t->faults(latency_ms => 0);
        });
    like($browser->url, qr{/pay/cs_}, "the PSP's page");
    is($sessions->() - $before, 1, 'S01 of which there is one');
};

subtest 'S01 two clicks at the page' => sub {
    my $posts = sub { $t->requests->{endpoints}{'POST /pay/{id}'}{requests} };
    my ($bought, $before);
    # on a busy machine the second click may be late
    foreach my $try (1 .. 3)
    {
        $bought = buy("clicks_$try");
        $before = $posts->();
        $browser->click('input[value=pm_card_visa]');
        $t->faults(page_latency_ms => CLICK_MS * 2**$try / 2);
        $browser->leave(
            sub {
                $browser->click_again('#pay', sub { $browser->wait_for(sub { $posts->() > $before }, 'the first click to arrive') });
                $t->faults(page_latency_ms => 0);
            });
        last if $posts->() - $before == 2;
    }
    is($posts->() - $before, 2, 'S01 both clicks arrive, the second before the answer to the first');
    is_back($bought);
    is_captured($bought, 'webhook');
};

subtest 'back after the payment' => sub {
    my $bought = buy('back');
    pay_with('pm_card_visa');
    is_back($bought);
    $browser->back;
    # the page from before, or what the PSP says now
    $browser->click('input[value=pm_card_visa]') && $browser->follow('#pay') if $browser->there('#pay');
    $browser->go($bought->{page});
    is($browser->text('h1'), 'This is done', 'there is nothing to pay any more');
    $browser->follow('#back');
    is_back($bought);
    is_captured($bought, 'webhook');
};

subtest 'expired' => sub {
    my $bought = buy('expired');
    my ($session) = $bought->{page} =~ /(cs_\w+)/;
    my $key = slurp_file($t->secrets_dir . '/sandbox') =~ s/\s+$//r;
    my $answer = HTTP::Tiny->new->post_form($t->sandbox_url . "/v1/checkout/sessions/$session/expire", {}, { headers => { Authorization => "Bearer $key" } });
    is($answer->{status}, 200, 'while the payer looks at it the page expires');
    pay_with('pm_card_visa');
    is($browser->text('h1'), 'This page has expired', 'the payer is told');
    like($browser->text, qr/You were not charged/, 'and what that means');
    $t->wait_for("SELECT status = 'expired' FROM payment.payment_order WHERE id = '$bought->{order}'");
    $t->not_charged($bought->{order}, 'no money moves');
    $browser->follow('#back');
    is($browser->url, $shop->url('/cart?key=expired'), 'back to the cart');
};

subtest 'closed by the shop' => sub {
    my $bought = buy('closed');
    is($t->sql("SELECT payment.cancel('$bought->{payment}', 'closed by the shop')"), 1, 'the shop cancels the payment');
    $t->wait_for("SELECT status = 'cancelled' FROM payment.payment WHERE id = '$bought->{payment}'");
    pay_with('pm_card_visa');
    is($browser->text('h1'), 'This page has expired', 'the payer can pay no more');
    $t->not_charged($bought->{order}, 'no money moves');
};

subtest 'two sellers' => sub {
    my $bought = buy('several', 'alice,bob');
    is($browser->title, 'Save a card', 'a page that keeps a card for both');
    is_accessible('it');
    pay_with('pm_card_chargeDeclined');
    like($browser->text('[role=alert]'), qr/declined/, 'which is to be good');
    pay_with('pm_card_visa');
    is_back($bought);
    $t->wait_for("SELECT status = 'succeeded' FROM payment.payment WHERE id = '$bought->{payment}'");
    $t->charged_once($_, 'each is charged once') foreach @{ $bought->{orders} };
    is($t->sql(q(SELECT pending FROM payment.wallet WHERE seller = 'bob' AND currency = 'EUR')), 1000, 'in the wallet of the second');
};

subtest 'S74 card numbers where none belong' => sub {
    $browser->go(basket('number'));
    $browser->type('#message', 'charge ' . CARD =~ s/(....)/$1 /gr);
    $browser->follow('#buy');
    like($browser->text('[role=alert]'), qr/leave card numbers away/, 'S74 one in a text is refused');
    my $bought = buy('forged');
    $browser->run('document.querySelector("#card-0").value = arguments[0]', CARD);
    $browser->click('#card-0');
    $browser->follow('#pay');
    like($browser->text('[role=alert]'), qr/Choose one of the cards/, 'S74 nor does the page take one');
    is_open($bought, 'nothing is paid by it');
    my $number = CARD =~ s/(.)(?!$)/$1\[ +-]?/gr;
    my %held = (
        'the database'        => dump_of(),
        "the server's log"    => slurp_file($t->log_file),
        "the gateway's log"   => $gateway->log,
        "the sandbox's log"   => slurp_file($t->sandbox_log));
    like($held{'the database'}, qr/COPY payment\.payment_record/, 'all of the database is looked at');
    is(($held{$_} =~ /$number/ ? 'there' : 'not there'), 'not there', "S74 no card number in $_") foreach sort keys %held;
};

subtest 'without mouse and scripts' => sub {
    $browser->scripts(0);
    my $bought = buy('keyboard');
    is_accessible('the page');
    is($browser->spoken('fieldset'), 'radiogroup Choose a test card', 'cards are spoken as one choice');
    is($browser->spoken('#card-0'), 'radio Visa ending in 4242', 'and by their names');
    is($browser->spoken('#pay'), 'button Pay 10.00 EUR', 'the button says what it does');
    tab_to('pay');
    $browser->press('Enter');
    is($browser->focused, 'card-0', 'with nothing chosen the way leads to the cards');
    is($browser->url, $bought->{page}, 'and nowhere else');
    # arrows go through the cards
    $browser->press('Down') for 1 .. 4;
    is($browser->attribute(':checked', 'value'), 'pm_card_chargeDeclined', 'the fifth card');
    $browser->leave(sub { $browser->press('Enter') });
    is($browser->title, 'Error: Pay', 'the title says that something is wrong');
    is_accessible('the error');
    is($browser->run('return document.activeElement.getAttribute("role")'), 'alert', 'the error has the focus');
    tab_to('error');
    $browser->press('Enter');
    is($browser->focused, 'card-0', 'and leads to the cards');
    is($browser->attribute('fieldset', 'aria-invalid'), 'true', 'which are marked');
    $browser->press('Space', 'Down', 'Down');
    is($browser->attribute(':checked', 'value'), 'pm_card_authenticationRequired', 'another card');
    tab_to('pay');
    $browser->leave(sub { $browser->press('Enter') });
    is_accessible("the bank's page");
    tab_to('authenticate');
    $browser->leave(sub { $browser->press('Enter') });
    is_back($bought);
    is_captured($bought, 'webhook');
    $browser->go($bought->{page});
    is_accessible('the end');
    $browser->scripts(1);
};

subtest 'what the page lets in' => sub {
    my $bought = buy('policy');
    my $headers = HTTP::Tiny->new->get($bought->{page})->{headers};
    like($headers->{'content-security-policy'}, qr/default-src 'none';.*base-uri 'none'; frame-ancestors 'none'/, 'a policy that lets nothing in');
    is($headers->{'cache-control'}, 'no-store', 'and keeps the page in no cache');
    is($browser->run('const s = document.createElement("script"); s.textContent = "document.title = 1"; document.body.append(s); return document.title'),
        'Pay', 'a script that got into the page would not run');
    $browser->reload;
    $browser->run('document.querySelector("dd").innerText = document.querySelector("legend").innerText = arguments[0]', 'x' x 200);
    $browser->width(320);
    is(lacks(), '', 'nor do long words make it wider');
    $browser->width(1000);
};

$t->books_agree('the books agree in the end');
$browser->quit;
is(join(' ', $browser->processes), '', 'no browser is left');
is($gateway->stop, 0, 'the gateway stops');
$t->finish;
