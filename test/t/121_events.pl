# Applications are told of what happens: signed, again until they acknowledge
# it, in order per object, and whatever dies meanwhile.
use strict;
use warnings;

use EventReceiver;
use PaymentTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $t = PaymentTest->new('events', settings => { 'payment.poll_interval' => 100 });
$t->start_sandbox;
my $psp = $t->register_psp('sandbox');
$t->register_seller('alice');
$t->write_secret('shop_events', "whsec_shop\n");

my $number = 0;
sub pay
{
    my ($card, $orders) = @_;
    $number++;
    my $json = join ',', ('{"seller": "alice", "amount": 1000, "currency": "EUR"}') x ($orders // 1);
    return $t->sql("SELECT payment_id FROM payment.checkout('events $number', 'payer', '[$json]', 'sandbox', '$card')");
}
sub all_settled { return $t->wait_for(q{SELECT bool_and(status IN ('succeeded', 'failed', 'partially_succeeded')) FROM payment.payment}) }
sub all_told
{
    return $t->wait_for(q{SELECT bool_and(unread = 0 AND queued = 0) FROM payment.event_lag WHERE url IS NOT NULL}, seconds => 120);
}
my %quick = (backoff_base_ms => 50, backoff_max_ms => 200, timeout_ms => 1000);
sub endpoint
{
    my ($consumer, $receiver, %settings) = @_;
    my $json = JSON::PP->new->encode({ %quick, %settings });
    return $t->sql("SELECT payment.set_webhook_endpoint('$consumer', '" . $receiver->url . "', 'shop_events', NULL, '$json')");
}

# by object, the numbers in the order in which they were acknowledged
sub numbers
{
    my (@events) = @_;
    my %numbers;
    push @{ $numbers{ $_->{object_id} } }, $_->{number} foreach @events;
    return \%numbers;
}

# at least once, none skipped, and each first acknowledged after the one before
sub complete_ok
{
    my ($receiver, $name, $condition) = @_;
    my %first;
    my $disordered = 0;
    foreach my $event ($receiver->acknowledged)
    {
        my $seen = $first{ $event->{object_id} } //= 0;
        $disordered++ if $event->{number} > $seen + 1;
        $first{ $event->{object_id} } = $event->{number} if $event->{number} > $seen;
    }
    is($disordered, 0, "$name: in order per object");
    my %wanted = map { split /\|/ } split /\n/,
      $t->sql('SELECT object_id, max(number) FROM payment.event WHERE ' . ($condition // 'true') . ' GROUP BY 1');
    is_deeply(\%first, \%wanted, "$name: none skipped");
    return;
}

# --- S31: fails once, resets, hangs ---

my $receiver = EventReceiver->new(
    secret => 'whsec_shop', answers => { 'payment_order.captured' => [ 500, 'reset', 'hang' ], 'payment.failed' => [302] });
is(endpoint('site', $receiver), 't', 'the endpoint makes a consumer');
is(endpoint('site', $receiver), 'f', 'once');
pay('pm_card_visa', 2);
pay('pm_card_chargeDeclined');
all_settled();
all_told();
my @received = $receiver->received;
is_deeply([ grep { !$_->{signed} } @received ], [], 'S31 all are signed, says openssl');
is_deeply([ grep { $_->{id} ne $_->{event}{id} || $_->{request} !~ m{^POST /events\?shop=1 HTTP/1\.1$} || $_->{content_type} ne 'application/json' } @received ],
    [], 'S31 all are as described');
is_deeply([ map { join ' ', @{$_} } sort { "@$a" cmp "@$b" } values %{ numbers(grep { $_->{type} =~ /captured/ } map { $_->{event} } @received) } ],
    [ '1 1 1 1', '1 1 1 1' ], 'S31 failed, reset and hanging: told again, until acknowledged');
complete_ok($receiver, 'S31');
my ($event) = grep { $_->{type} eq 'payment.succeeded' } $receiver->acknowledged;
is_deeply([ sort keys %$event ], [qw(created_at data id number object object_id payment_id type)], 'it has what it should');
is($event->{data}{succeeded_count}, 2, 'and says what became of it');
like($event->{created_at}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/, 'its time is in UTC');
is($t->sql('SELECT count(*) FROM payment.event_delivery'), '0', 'the queue is empty');

# --- S31: a later event of the same object waits, other objects go on ---

$t->sql(q{SELECT payment.remove_consumer('site')});
my $slow = EventReceiver->new(secret => 'whsec_shop', answers => { 'payment_order.declined' => [ (500) x 10_000 ] });
endpoint('slow', $slow, max_attempts => 1000, backoff_base_ms => 1, backoff_max_ms => 50);
my $declined = pay('pm_card_chargeDeclined');
$t->wait_for("SELECT status = 'failed' FROM payment.payment WHERE id = '$declined'");
my $order = $t->sql("SELECT id FROM payment.payment_order WHERE payment_id = '$declined'");
$t->sql("SELECT payment.retry_order('$order', 'again', payment_method => 'pm_card_visa')");
$t->wait_for("SELECT status = 'succeeded' FROM payment.payment WHERE id = '$declined'");
my $other = pay('pm_card_visa');
PaymentTest::wait_until(sub { grep { ($_->{payment_id} // '') eq $other } $slow->acknowledged }, 60);
ok((grep { ($_->{payment_id} // '') eq $other } $slow->acknowledged), 'S31 other objects go on');
ok(!(grep { $_->{event}{object_id} eq $order && $_->{event}{type} eq 'payment_order.captured' } $slow->received),
    'S31 a later event of the same object waits');

# set aside, in sight, and tried again
endpoint('slow', $slow, max_attempts => 1);
$t->wait_for(q{SELECT count(*) = 1 FROM payment.event_dead_letter});
is($t->sql('SELECT consumer, type, object_id, number, last_http_status, last_error FROM payment.event_dead_letter'),
    "slow|payment_order.declined|$order|1|500|the answer was no acknowledgement", 'S31 tried too often: set aside');
all_told();
ok((grep { $_->{object_id} eq $order && $_->{type} eq 'payment_order.captured' } $slow->acknowledged), 'then the next one goes');
$slow->finish;
my $better = EventReceiver->new(secret => 'whsec_shop');
endpoint('slow', $better);
is($t->sql(q{SELECT payment.retry_event_deliveries('slow')}), '1', 'retried');
all_told();
is_deeply([ map { $_->{type} } $better->acknowledged ], ['payment_order.declined'], 'and delivered');
is($t->sql('SELECT count(*) FROM payment.event_dead_letter'), '0', 'nothing is set aside any more');

# --- an endpoint that hangs, and one that is not there, hold up neither payments nor others ---

my $hanging = EventReceiver->new(secret => 'x', answers => { map { $_ => [ ('hang') x 10_000 ] } qw(payment_order.captured payment.succeeded) });
endpoint('hanging', $hanging, timeout_ms => 20_000);
$t->sql(q{SELECT payment.set_webhook_endpoint('nobody', 'http://127.0.0.1:1/', 'shop_events', settings => '{"backoff_base_ms": 50, "backoff_max_ms": 100}')});
pay('pm_card_visa') foreach 1 .. 30;
all_settled();
pass('payments go on');
$t->wait_for(q{SELECT unread = 0 AND queued = 0 FROM payment.event_lag WHERE consumer = 'slow'});
pass('and other endpoints get their events');
is($t->sql(q{SELECT bool_and(queued + unread > 0) FROM payment.event_lag WHERE consumer IN ('hanging', 'nobody')}), 't', 'theirs wait');
cmp_ok(scalar(my @hanging = $hanging->received), '<=', 8, 'no more requests than it may have');
$t->sql(q{SELECT payment.remove_consumer('hanging'), payment.remove_consumer('nobody')});
$hanging->finish;

# --- kill -9: at least once, none skipped ---

foreach my $kill (qw(worker postmaster))
{
    pay('pm_card_visa') foreach 1 .. 20;
    $t->wait_for(q{SELECT queued + unread < 40 FROM payment.event_lag WHERE consumer = 'slow'});
    if ($kill eq 'worker')
    {
        $t->kill_dispatcher;
    }
    else
    {
        $t->kill_postmaster;
        $t->node->start;
    }
    $t->wait_for_server;
    $t->wait_for_dispatcher;
    all_settled();
    all_told();
}
my %got = map { $_->{id} => 1 } $better->acknowledged, $slow->acknowledged;
is($t->sql("SELECT string_agg(id::text, ' ' ORDER BY id) FROM payment.event WHERE payment_id >= '$declined'"),
    join(' ', sort keys %got), 'after kill -9 of worker and postmaster every event was delivered');
$better->finish;
$receiver->finish;
$t->finish;
