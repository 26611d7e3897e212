# S04: the PSP forgets an idempotency key, here after a second instead of a day.
# The same request would be executed anew then, so that what is known here has
# to do: nothing is sent again, whoever asks for it.
use strict;
use warnings;

use HTTP::Tiny;
use PaymentTest;
use Test::More;

use constant { INTENTS => '/v1/payment_intents', LIFETIME_S => 1 };

my $t = PaymentTest->new('key_lifetime');
$t->start_sandbox({ flags => [ '--idempotency-ttl-s', LIFETIME_S ] });
$t->register_psp('sandbox', settings => { key_lifetime_s => LIFETIME_S, breaker_failures => 0 });
$t->register_seller('alice');

sub sends
{
    my ($order) = @_;
    return scalar grep { $_->{idempotency_key} =~ /^$order:pay:/ } $t->requests_for('POST', INTENTS);
}

# One order whose answer is lost, until its key is forgotten, too.
sub outlives_its_key
{
    my ($key, $fault) = @_;
    $t->faults($fault => 'next:1', lookup_down => 100);
    my (undef, $order) = $t->checkout($key, ['alice 1000 USD']);
    $t->wait_for(<<"SQL", what => 'the key to be forgotten');
SELECT count(*) = 1 FROM payment.task AS t JOIN payment.order_record AS o ON o.id = t.object_id
WHERE o.id = '$order' AND o.status = 'unknown' AND t.first_sent_at < now() - interval '${\(LIFETIME_S + 1)} s'
SQL
    $t->faults(lookup_down => 0);
    return $order;
}

subtest 'the sandbox charges a repeated request when it has forgotten the key' => sub {
    chomp(my $secret = PaymentTest::slurp_file($t->secrets_dir . '/sandbox'));
    my $charge = sub {
        my $answer = HTTP::Tiny->new->post_form(
            $t->sandbox_url . INTENTS,
            { amount => 1000, currency => 'usd', payment_method => 'pm_card_visa', confirm => 'true' },
            { headers => { Authorization => "Bearer $secret", 'Idempotency-Key' => 'somebody else' } });
        return $answer->{content} =~ /"id":\s*"(pi_\w+)"/ ? $1 : "$answer->{status} $answer->{content}";
    };
    my $first = $charge->();
    ok(PaymentTest::wait_until(sub { $charge->() ne $first }, 30), 'once more, after a while');
};

subtest 'S04 charged, and found when lookups work again' => sub {
    my $order = outlives_its_key('S04 charged', 'lost_answer');
    $t->wait_until_idle;
    is($t->history_of($order), 'created executing unknown captured', 'S04 found');
    is(sends($order), 1, 'S04 nothing is sent again');
    is($t->sql("SELECT count(*) FROM payment.attempt WHERE object_id = '$order' AND step = 'send'"), 1, 'S04 nor claimed for it');
    $t->charged_once($order, 'S04 one charge');

    my @again = $t->checkout('S04 charged', ['alice 1000 USD']);
    is($again[1], $order, 'S04 the caller who repeats his call gets the same order');
    $t->wait_until_idle;
    is(sends($order), 1, 'S04 and nothing is sent for it');
    $t->charged_once($order, 'S04 still one charge');
};

subtest 'S04 not charged, and nobody can know' => sub {
    my $order = outlives_its_key('S04 lost', 'reset');
    my $dead = "SELECT count(*) = 1 FROM payment.dead_letter WHERE object_id = '$order'";
    $t->wait_for($dead, what => 'the dead letter');
    like($t->sql("SELECT last_error FROM payment.dead_letter WHERE object_id = '$order'"),
        qr/may have forgotten its idempotency key/, 'S04 people are told why');
    is($t->status_of($order), 'unknown', 'S04 nothing is said of the money');
    is($t->sql("SELECT type || ' ' || status FROM payment.exception_record WHERE order_id = '$order'"),
        'unknown_outcome open', 'S04 an exception is open');

    $t->call('retry_dead_letter', task => $t->sql("SELECT task_id FROM payment.dead_letter WHERE object_id = '$order'"));
    $t->wait_for($dead, what => 'the dead letter to come back');
    is(sends($order), 1, 'S04 not even a revived dead letter is sent again');
    $t->not_charged($order, 'S04 no charge');

    $t->call('resolve_unknown', object => $order, outcome => 'failed', reason => 'not in their books', person => $_)
      foreach qw(ann ben);
    is($t->status_of($order), 'failed', 'two people end it');
    my (undef, $other) = $t->checkout('S04 lost, bought anew', ['alice 1000 USD']);
    $t->wait_until_idle;
    $t->charged_once($other, 'and the payer may pay by another order');
    is(sends($order), 1, 'S04 the old one is never sent');
};

$t->finish;
