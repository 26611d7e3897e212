# Many transactions write events and commit in any order; readers get each
# event exactly once in acknowledged order per object, and none is skipped.
# A dump takes events and positions along: nothing is lost or repeated.
use strict;
use warnings;

use File::Temp ();
use IPC::Run ();
use PaymentTest;
use PostgreSQL::Test::Utils;
use Test::More;

use constant { ORDERS => 300, CLIENTS => 24, TURNS => 40, READERS => 3 };

my $t = PaymentTest->new('reading', settings => { 'payment.worker_enabled' => 'off', autovacuum => 'off' });
$t->sql(q{
    SELECT payment.register_psp('none', 'none', 'http://127.0.0.1:1', 'none', '{"max_attempts": 1000}');
    SELECT payment.register_seller('alice', 'Alice')});
$t->sql(sprintf q{
    SELECT count(payment.checkout('order ' || n, 'payer', '[{"seller": "alice", "amount": 100, "currency": "EUR"}]', 'none', 'pm'))
    FROM generate_series(1, %d) AS n}, ORDERS);
$t->sql(sprintf q{SELECT count(*) FROM payment.psp AS p, payment.claim_tasks(p.id, %d, 3600000)}, ORDERS);
$t->sql(q{
    CREATE TABLE victim AS SELECT row_number() OVER () AS n, a.id AS attempt, a.object_id FROM payment.attempt AS a;
    CREATE UNIQUE INDEX ON victim (n);
    CREATE TABLE seen (position bigserial, reader integer, id uuid, object_id uuid, number integer);
    CREATE FUNCTION advance(victim integer) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        v record;
        now_is text;
    BEGIN
        SELECT * INTO v FROM public.victim WHERE n = $1;
        SELECT status INTO now_is FROM payment.order_record WHERE id = v.object_id;
        IF now_is = 'executing' AND random() < 0.5 THEN
            UPDATE payment.order_record SET status = 'unknown' WHERE id = v.object_id AND status = 'executing';
        ELSE
            PERFORM payment.record_outcomes(ARRAY[jsonb_populate_record(NULL::payment.attempt_outcome, jsonb_build_object(
                'attempt_id', v.attempt, 'outcome', CASE now_is WHEN 'pending' THEN 'succeeded' ELSE 'pending' END, 'http_status', 200,
                'latency_ms', 1, 'psp_reference', 'pi_' || v.object_id, 'amount', 100, 'currency', 'EUR'))]);
        END IF;
    END $$;
    CREATE FUNCTION read_some(reader integer) RETURNS integer LANGUAGE plpgsql AS $$
    DECLARE
        event record;
        last uuid;
        count integer := 0;
    BEGIN
        FOR event IN SELECT * FROM payment.read_events('reader', 1 + (random() * 30)::int) WITH ORDINALITY AS e ORDER BY e.ordinality LOOP
            INSERT INTO public.seen (reader, id, object_id, number) VALUES (reader, event.id, event.object_id, event.number);
            last := event.id;
            count := count + 1;
        END LOOP;
        IF last IS NOT NULL THEN PERFORM payment.acknowledge_events('reader', last); END IF;
        RETURN count;
    END $$;
    SELECT payment.register_consumer('reader')});

my $folder = File::Temp::tempdir(CLEANUP => 1);
sub script { my ($name, $text) = @_; open my $f, '>', "$folder/$name" or die $!; print $f $text; close $f; return "$folder/$name" }

# A number first, then a wait for whoever has the order, then another before
# the commit: numbers, writes and commits are each in another order.
my $write = script('write', <<'SQL');
\set first random(1, 300)
\set second random(1, 300)
BEGIN;
SELECT pg_current_xact_id();
SELECT pg_sleep(random() * 0.01);
SELECT advance(least(:first, :second));
SELECT pg_sleep(random() * 0.03);
SELECT advance(greatest(:first, :second));
SELECT pg_sleep(CASE WHEN random() < 0.1 THEN 0.2 ELSE random() * 0.02 END);
COMMIT;
SQL
my $read = script('read', <<'SQL');
BEGIN;
SELECT read_some(:client_id);
SELECT pg_sleep(random() * 0.01);
COMMIT;
SQL

sub pgbench
{
    my ($file, @option) = @_;
    my ($out, $err) = ('', '');
    my $run = IPC::Run::start([ 'pgbench', '-n', '-h', $t->node->host, '-p', $t->node->port, '-f', $file, @option, $t->database ],
        '>', \$out, '2>', \$err);
    return { run => $run, err => \$err };
}
my $writers = pgbench($write, '-c', CLIENTS, '-t', TURNS, '--max-tries', 100);
my $readers = pgbench($read, '-c', READERS, '-T', 600);
$writers->{run}->finish;
is($writers->{run}->result(0), 0, 'all have written') or diag(${ $writers->{err} });
$t->wait_for(q{SELECT unread = 0 FROM payment.event_lag WHERE consumer = 'reader'});
$readers->{run}->signal('INT');
$readers->{run}->finish;

cmp_ok($t->sql('SELECT count(*) FROM payment.event'), '>', ORDERS, 'there were many events');
is($t->sql('SELECT count(*) FROM payment.event AS e WHERE NOT EXISTS (SELECT FROM seen AS s WHERE s.id = e.id)'), '0', 'none was skipped');
is($t->sql('SELECT count(*) - count(DISTINCT id) FROM seen'), '0', 'none came twice');
is($t->sql(q{SELECT count(*) FROM (SELECT number, row_number() OVER (PARTITION BY object_id ORDER BY position) AS nth FROM seen) AS s
    WHERE number <> nth}), '0', 'and those of each object came in order');
cmp_ok($t->sql(q{SELECT count(*) FROM (SELECT horizon, lag(horizon) OVER (ORDER BY id) AS before FROM payment.event) AS e WHERE horizon < before}),
    '>', 0, 'although ids and horizons are in another order') or diag('the load was too light');

# --- a dump, with a part of them read ---

$t->sql(q{SELECT payment.register_consumer('half', NULL, true)});
my @first = split /\n/, $t->sql(q{SELECT id FROM payment.read_events('half', 100)});
is($t->sql("SELECT payment.acknowledge_events('half', '$first[-1]')"), 't', 'a hundred are done with');
$t->node->command_ok([ 'pg_dump', '-f', "$folder/dump", $t->database ], 'dumped');
my $young = PaymentTest->new('young_reading', extension => 0, settings => { 'payment.worker_enabled' => 'off' });
foreach my $server ([ $t->node, 'same server' ], [ $young->node, 'young server' ])
{
    my ($node, $which) = @$server;
    $node->safe_psql('postgres', 'CREATE DATABASE restored');
    $node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'restored', '-f', "$folder/dump" ], "restored, $which");
    # something new, in the other numbering
    my $new = $node->safe_psql('restored', q{SELECT count(advance(n::int)) FROM victim JOIN payment.order_record AS o ON o.id = object_id
        WHERE o.status IN ('executing', 'pending', 'unknown')});
    my $before = $t->sql('SELECT count(*) FROM payment.event');
    my $after = $node->safe_psql('restored', 'SELECT count(*) FROM payment.event');
    PaymentTest::wait_until(sub { $node->safe_psql('restored', q{SELECT held_back = 0 FROM payment.event_lag WHERE consumer = 'half'}) eq 't' }, 60);
    my @rest = split /\n/, $node->safe_psql('restored', q{SELECT id FROM payment.read_events('half', 10000)});
    is(scalar @rest, $after - 100, "$which: the rest comes, with what is new");
    my %first = map { $_ => 1 } @first;
    is(scalar(grep { $first{$_} } @rest), 0, "$which: nothing is repeated");
    is($node->safe_psql('restored', q{SELECT count(*) FROM (SELECT number, row_number() OVER (PARTITION BY object_id ORDER BY ordinality) + coalesce(
            (SELECT max(d.number) FROM payment.event AS d JOIN payment.event_consumer AS c ON c.name = 'half'
             WHERE d.object_id = e.object_id AND (d.epoch, d.horizon, d.id) <= (c.epoch, c.horizon, c.event_id)), 0) AS nth
        FROM payment.read_events('half', 10000) WITH ORDINALITY AS e) AS s WHERE number <> nth}), '0', "$which: and in order");
}
is($young->sql('SELECT count(*) > 1 FROM (SELECT DISTINCT epoch FROM payment.event) AS e', database => 'restored'), 't', 'in two epochs')
  if $young->sql('SELECT count(*) FROM payment.event', database => 'restored') > $t->sql('SELECT count(*) FROM payment.event');
$young->node->stop('fast');
$t->finish;
