# Webhooks into a server with its worker: signed by openssl on the command line,
# received as the gateway's role, forged in floods, applied by the worker.
use strict;
use warnings;

use File::Temp ();
use PaymentTest;
use PostgreSQL::Test::Utils;
use Test::More;

use constant { SECRET => 'whsec_tap_0123456789', NEXT => 'whsec_tap_next', FLOOD => 2000, BOUND => 50,
    ADYEN_KEY => '44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056', CARD => '4242424242424242' };

my $folder = File::Temp::tempdir(CLEANUP => 1);
my $t = PaymentTest->new('webhooks');
$t->start_sandbox;
$t->register_psp('sandbox', settings => { state => 'paused' });
$t->write_secret('hook', SECRET . "\n");
$t->write_secret('adyen_hook', ADYEN_KEY);
$t->sql(q(SELECT payment.register_psp('sandbox', p.adapter, p.base_url, p.secret_name, webhook_secret_names => '{hook}')
    FROM payment.psp AS p WHERE p.name = 'sandbox'));
$t->sql(q(SELECT payment.register_psp('adyen', 'adyen', 'http://127.0.0.1:1', 'none',
    '{"payouts": false, "config": {"merchant_account": "Shop_EUR", "return_url": "https://shop.example/"}}',
    webhook_secret_names => '{adyen_hook}')));
$t->sql('CREATE ROLE edge LOGIN IN ROLE payment_gateway');
$t->sql(q(SELECT payment.register_seller('alice', 'Alice')));
$t->configure('payment.max_webhook_rejections' => BOUND);

# what another program makes of key and text
sub openssl
{
    my ($text, @how) = @_;
    open my $file, '>', "$folder/signed" or die $!;
    print {$file} $text;
    close $file;
    my $out = qx(openssl dgst -sha256 @how '$folder/signed');
    return $out;
}

sub stripe_header
{
    my ($body, %option) = @_;
    my $time = $option{time} // time;
    my ($hex) = openssl("$time.$body", '-hmac', $option{secret} // SECRET) =~ /= ([0-9a-f]{64})$/ or die 'openssl';
    return qq({"Stripe-Signature": "t=$time,v1=$hex"});
}

sub edge
{
    my ($sql) = @_;
    my ($out, $err) = ('', '');
    my $status = $t->node->psql($t->database, $sql, stdout => \$out, stderr => \$err, extra_params => [ '-U', 'edge' ]);
    return $status == 0 ? $out : $err;
}

sub receive
{
    my ($psp, $headers, $body) = @_;
    my $hex = unpack 'H*', $body;
    return edge("SELECT http_status || ' ' || body FROM payment.receive_webhook('$psp', '$headers', '\\x$hex')");
}

sub event
{
    my ($id, $order, %option) = @_;
    my $amount = $option{amount} // 1000;
    my $status = $option{status} // 'succeeded';
    return qq({"id":"$id","object":"event","type":"payment_intent.$status","created":1760000000,"data":{"object":)
      . qq({"id":"pi_$id","object":"payment_intent","status":"$status","amount":$amount,"amount_received":$amount,"currency":"eur",)
      . qq("description":"card ${\CARD}","metadata":{"payment_order":"$order","attempt":"1"}}}});
}

sub order
{
    my ($key) = @_;
    return $t->sql(qq(SELECT order_ids[1] FROM payment.checkout('$key', 'payer',
        '[{"seller": "alice", "amount": 1000, "currency": "EUR"}]', 'sandbox', 'pm_card_visa')));
}

# an order that was sent, by somebody whose answer never comes
sub sent_order
{
    my ($key) = @_;
    my $id = order($key);
    $t->sql(q(SELECT payment.register_psp('sandbox', p.adapter, p.base_url, p.secret_name, '{"state": "active"}')
        FROM payment.psp AS p WHERE p.name = 'sandbox'));
    return $id;
}

# ---- S26: who may send ----

my $body = '{"id":"evt_tap","object":"event","type":"customer.created","data":{"object":{}}}';
is(receive('sandbox', stripe_header($body), $body), '200 {"received":true}', 'S26 what openssl signed is taken');
is(receive('sandbox', stripe_header($body), $body), '200 {"received":true}', 'S22 and again');
is(receive('sandbox', stripe_header($body, time => time - 400), $body), '401 too_old', 'S26 an old one is not');
is(receive('sandbox', stripe_header($body, time => time + 400), $body), '401 in_the_future', 'S26 nor one to come');
is(receive('sandbox', stripe_header($body, secret => NEXT), $body), '401 bad_signature', 'S26 nor by an unknown secret');
$t->write_secret('hook', NEXT);
is(receive('sandbox', stripe_header($body, secret => NEXT), $body), '200 {"received":true}', 'S26 which a file makes known, at once');
$t->write_secret('hook', SECRET);
is($t->sql(q(SELECT count(*) FROM payment.webhook WHERE event_id = 'evt_tap')), '1', 'S22 it is stored once');

openssl('8515::Shop_EUR:shop 1:1000:EUR:AUTHORISATION:true', '-mac HMAC -macopt', 'hexkey:' . ADYEN_KEY, "-binary -out '$folder/digest'");
chomp(my $signature = qx(openssl base64 -in '$folder/digest'));
my $item = q({"NotificationRequestItem":{"pspReference":"8515","merchantAccountCode":"Shop_EUR","merchantReference":"shop 1",)
  . q("amount":{"value":1000,"currency":"EUR"},"eventCode":"AUTHORISATION","success":"true","additionalData":{"hmacSignature":"%s"}}});
is(receive('adyen', '{}', sprintf qq({"live":"false","notificationItems":[$item,$item]}), 'AAAA', $signature), '200 [accepted]',
    'S27 an item that openssl signed is taken beside a forged one');
is(receive('adyen', '{}', sprintf qq({"live":"false","notificationItems":[$item]}), 'AAAA'), '401 malformed_signature',
    'S27 the forged one alone is not');
is($t->sql(q(SELECT count(*) FROM payment.webhook WHERE psp = 'adyen')), '1', 'S27 one is stored');

# ---- least privilege ----

like(edge('SELECT * FROM payment.webhook'), qr/permission denied/, 'the gateway reads nothing');
like(edge("SELECT payment.checkout('x', 'y', '[]')"), qr/permission denied/, 'and calls nothing else');

# ---- the worker ends what could not be applied ----

my $early = order('early');
my $event = event('evt_early', $early);
is(receive('sandbox', stripe_header($event), $event), '200 {"received":true}', 'S21 before the order is sent');
is($t->sql(q(SELECT state FROM payment.webhook WHERE event_id = 'evt_early')), 'parked', 'S21 it is parked');
sent_order('other');
ok($t->wait_for("SELECT status = 'captured' FROM payment.payment_order WHERE id = '$early'"), 'S21 the order is sent and captured');
ok($t->wait_for(q(SELECT state = 'applied' FROM payment.webhook WHERE event_id = 'evt_early')), 'S21 the worker applies the event');

my $again = event('evt_locked', $early);
SKIP:
{
    skip 'no background_psql here', 2 if !$t->node->can('background_psql');
    my $holder = $t->node->background_psql($t->database, on_error_stop => 1);
    $holder->query_safe("BEGIN; SELECT FROM payment.order_record WHERE id = '$early' FOR UPDATE");
    is(receive('sandbox', stripe_header($again), $again), '200 {"received":true}', 'an order that is locked costs the PSP no error');
    $holder->query_safe('COMMIT');
    $holder->quit;
    ok($t->wait_for(q(SELECT state = 'applied' FROM payment.webhook WHERE event_id = 'evt_locked')), 'the worker applies the event');
}

# ---- a flood of forged ones ----

my $tables = q(SELECT concat_ws(' ', (SELECT count(*) FROM payment.webhook_event), (SELECT count(*) FROM payment.webhook_key),
    (SELECT count(*) FROM payment.webhook_waiting), (SELECT count(*) FROM payment.webhook_unverified)));
my $before = $t->sql($tables);
my @clients = map {
    my $n = $_;
    my $pid = fork // die "fork: $!";
    if (!$pid)
    {
        # no destructors and END blocks of the parent's
        edge(sprintf q(SELECT count(payment.receive_webhook('sandbox', '{"stripe-signature": "t=1,v1=%s"}', convert_to('forged ' || n, 'UTF8')))
            FROM generate_series(1, %d) AS n), '0' x 64, FLOOD);
        require POSIX;
        POSIX::_exit(0);
    }
    $pid;
} 1 .. 3;
my $good = event('evt_amid', $early);
is(receive('sandbox', stripe_header($good), $good), '200 {"received":true}', 'S26 a good one amid the flood is taken');
waitpid $_, 0 foreach @clients;
is($t->sql('SELECT count(*) FROM payment.webhook_rejection'), BOUND, 'S26 the log of rejections keeps its bound');
my ($events, $keys, @others) = split / /, $before;
is($t->sql($tables), join(' ', $events + 1, $keys + 1, @others), 'S26 and no other table has anything of them');
$t->sql('VACUUM payment.webhook_rejection');
cmp_ok($t->sql(q(SELECT pg_total_relation_size('payment.webhook_rejection'))), '<', 4 * 1024 * 1024, 'S26 nor does it grow');

# ---- nothing secret is told ----

my $log = slurp_file($t->log_file);
is(($log =~ /\Q${\SECRET}\E|\Q${\NEXT}\E|\Q${\ADYEN_KEY}\E/ ? 1 : 0), 0, 'no secret is in the log');
is(($log =~ /${\CARD}/ ? 1 : 0), 0, 'S74 nor is a card number');
is($t->sql(q(SELECT count(*) FROM payment.webhook_event WHERE position('4242424242424242'::bytea IN body) > 0)), '0',
    'S74 nor is one stored');
is($t->sql(q(SELECT count(*) FROM payment.webhook_event WHERE redacted)), $t->sql(q(SELECT count(*) FROM payment.webhook_event
    WHERE event_id LIKE 'evt\_%' AND event_id <> 'evt_tap')), 'S74 what held one says so');
is($t->sql('SELECT count(*) FROM payment.verify()'), '0', 'the books are in order');

$t->finish;
