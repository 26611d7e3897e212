# S66: a dump restored, a backup started, a point in time recovered, a second
# copy of any kind: it takes everything in and sends nothing, until it is
# adopted.  The original does not notice.
use strict;
use warnings;

use File::Copy ();
use PaymentTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $t = PaymentTest->new(
    'original',
    init     => [ allows_streaming => 1, has_archiving => 1 ],
    settings => { 'payment.poll_interval' => '200ms' });
my $original = $t->node;
my $dir = PostgreSQL::Test::Utils::tempdir();
$t->start_sandbox;
$t->register_psp;
$t->register_seller('alice');

my $checkouts = 0;

sub checkout
{
    my ($shop, %option) = @_;
    $checkouts++;
    return $shop->sql($shop->checkout_text("key $checkouts", ['alice 1000 EUR']), %option);
}

sub posts { return scalar $t->requests_for('POST', qr/payment_intents/) }

my $all_captured = q{SELECT bool_and(status = 'captured') FROM payment.payment_order};

# --- the original, with orders under way and orders waiting, is copied in every way ---

checkout($t);
$t->wait_for($all_captured);
is($t->sql('SELECT payment.sending_refusal()'), '', 'where the extension was created, payments are sent');

$t->configure('payment.worker_enabled' => 'off');
PaymentTest::wait_until(sub { !defined $t->dispatcher_pid }, 30) or die 'the dispatcher does not leave';
my @copied = map { (checkout($t) =~ /^(\S+) (\S+)/)[1] } 1 .. 4;
# one is claimed, and nobody knows whether it was sent
$t->sql(q{SELECT count(*) FROM payment.claim_tasks((SELECT id FROM payment.psp), 1, 600000)});

$original->command_ok([ 'pg_dump', '-Fc', '-f', "$dir/dump", $t->database ], 'a dump');
$t->sql('CREATE DATABASE twin TEMPLATE shop', database => 'postgres');
$original->backup('base');
$original->stop;
$original->start;

# then the original sends all of them
$t->configure('payment.worker_enabled' => 'on');
$t->wait_for($all_captured, what => 'what was copied is captured');
my $sent = posts();
$t->books_agree('the original charged each once');

# --- none of the copies sends ---

# Wait until its dispatcher has looked at the queue for two seconds.
sub has_looked
{
    my ($shop, $database) = @_;
    $shop->wait_for("SELECT refusal IS NOT NULL FROM payment.worker_status WHERE database = '$database'",
        what => 'the copy to say so', database => $database);
    my $since = $shop->sql('SELECT clock_timestamp()', database => $database);
    $shop->wait_for("SELECT heartbeat_at > '$since'::timestamptz + interval '2 s' FROM payment.worker_status "
          . "WHERE database = '$database'", database => $database);
    return;
}

sub refused_ok
{
    my ($shop, $name, %option) = @_;
    my $database = $option{database} // $shop->database;
    my $reason = $option{reason};
    my $offset = $option{offset} // 0;

    has_looked($shop, $database);
    like($shop->sql('SELECT payment.sending_refusal()', database => $database), $reason, "S66 $name: it says why");
    like($shop->sql("SELECT refusal FROM payment.worker_status WHERE database = '$database'"), $reason,
        "S66 $name: so does worker_status");
    like($shop->log_since($offset), qr/payments of this database are not sent/, "S66 $name: so does the log");
    is($shop->sqlstate('SELECT payment.claim_tasks((SELECT id FROM payment.psp), 1, 1000)', database => $database),
        'PY501', "S66 $name: nor may anybody claim by hand");
    checkout($shop, database => $database);
    is($shop->sql(q{SELECT count(*) FROM payment.payment_order WHERE status = 'created'}, database => $database), 4,
        "S66 $name: checkouts are taken in and wait");
    is($shop->sql('SELECT * FROM payment.verify()', database => $database), '', "S66 $name: its books can be read");
    is($shop->sql(q{SELECT (payment.reconcile('sandbox', now() - interval '1 day')).exceptions_opened}, database => $database), 0,
        "S66 $name: it reconciles");
    is(posts(), $sent, "S66 $name: nothing is sent");
    return;
}

# Adopted, it asks for all that may have been sent, and sends the one that was not.
sub adopt_ok
{
    my ($shop, $name, %option) = @_;
    my $database = $option{database} // $shop->database;
    my $offset = $shop->log_offset;
    is($shop->sql(q{SET client_min_messages = warning; SELECT payment.adopt('a test of copies')}, database => $database), 5,
        "S66 $name: adopt() finds what has to be looked up");
    $shop->wait_for($all_captured, what => "$name: all captured", database => $database);
    is(posts(), ++$sent, "S66 $name: adopted, it repeats nothing, and sends what was not sent");
    like($shop->log_since($offset), qr/sent from this database from now on.*\n.*a test of copies/, "S66 $name: who and why is logged");
    is($shop->sql('SELECT * FROM payment.verify()', database => $database), '', "S66 $name: its books are right");
    return;
}

my $offset = $t->log_offset;
$t->sql('CREATE DATABASE restored', database => 'postgres');
$original->command_ok([ 'pg_restore', '-j', 2, '--exit-on-error', '-d', 'restored', "$dir/dump" ],
    'restored while the worker runs');
refused_ok($t, 'dump', database => 'restored', reason => qr/restored from a dump/, offset => $offset);
adopt_ok($t, 'dump', database => 'restored');
is($t->sql('SELECT string_agg(cause, chr(32) ORDER BY generation) FROM payment.instance', database => 'restored'),
    'create restore adopt', 'S66 dump: its history is kept');
$t->sql('DROP DATABASE restored', database => 'postgres');

$offset = $t->log_offset;
$t->sql('ALTER DATABASE twin RENAME TO twins', database => 'postgres');
$t->wait_for_dispatcher(database => 'twins');
refused_ok($t, 'template', database => 'twins', reason => qr/not the same database/, offset => 0);
$t->sql('DROP DATABASE twins WITH (FORCE)', database => 'postgres');

sub copy_of
{
    my ($backup, $name, %option) = @_;
    my $node = PostgreSQL::Test::Cluster->new($name);
    $node->init_from_backup($original, $backup, %option);
    $node->append_conf('postgresql.conf', "archive_mode = off\npayment.worker_enabled = on\n");
    $node->start;
    $node->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die "$name does not come up";
    return $t->on($node);
}

my $copy = copy_of('base', 'base_backup');
refused_ok($copy, 'base backup', reason => qr/not the same data directory, control file$/);
$copy->node->stop;

$copy = copy_of('base', 'in_time', has_restoring => 1, standby => 0);
refused_ok($copy, 'PITR', reason => qr/not the same data directory, control file$/);
adopt_ok($copy, 'PITR');
$copy->node->stop('immediate');
$copy->node->start;
checkout($copy);
$copy->wait_for($all_captured, what => 'the adopted copy goes on after a crash');
$sent++;
$copy->node->stop;

# --- an image of this very data directory, elsewhere ---

sub original_refused
{
    my ($name, $reason) = @_;
    $t->wait_for(q{SELECT refusal IS NOT NULL FROM payment.worker_status}, what => $name);
    like($t->sql('SELECT payment.sending_refusal()'), $reason, "S66 $name");
    return;
}

$t->configure('payment.machine_id' => 'somewhere else');
original_refused('a snapshot started on another machine', qr/not the same machine$/);
checkout($t);
$t->configure('payment.machine_id' => '');
$t->wait_for($all_captured, what => 'back where it was, it sends');
$sent++;

$original->stop;
my $data = $original->data_dir;
my $moved = "$data.moved";
rename $data, $moved or die "$data: $!";
mkdir $data, 0700 or die "$data: $!";
system_or_bail('cp', '-a', "$moved/.", $data);
$original->start;
original_refused('copied file by file into the same place', qr/not the same control file$/);
$original->stop;
PostgreSQL::Test::Utils::system_or_bail('rm', '-rf', $data);
rename $moved, $data or die "$moved: $!";
$original->start;
$t->wait_for(q{SELECT count(*) = 1 AND bool_and(refusal IS NULL) FROM payment.worker_status});

# --- what is no copy ---

foreach my $mode (qw(fast immediate))
{
    $original->stop($mode);
    $original->start;
    checkout($t);
    $t->wait_for($all_captured, what => "all captured after a stop ($mode)");
    pass("restarted after a stop ($mode), it sends");
}
$t->kill_postmaster;
$t->restart_postmaster;
checkout($t);
$t->wait_for($all_captured, what => 'all captured after a crash');
pass('restarted after a crash, it sends');
is($t->kill_dispatcher('SEGV') ? 1 : 0, 1, 'a crash of the worker');
$t->wait_for_server;
checkout($t);
$t->wait_for($all_captured, what => 'all captured after a crash of the worker');
pass('and so does what starts after that');

# Patroni starts a primary that crashed as a standby, and promotes it.
$original->stop('immediate');
$original->append_conf('standby.signal', '');
$original->start;
is($t->sql('SELECT payment.sending_refusal()'), 'the server is a standby', 'a standby says so');
is($t->sqlstate(q{SELECT payment.adopt('x')}), '25006', 'and cannot be adopted');
$original->promote;
$t->wait_for('SELECT NOT pg_is_in_recovery()');
checkout($t);
$t->wait_for($all_captured, what => 'all captured');
pass('promoted in its own place, it sends');
is($t->sql('SELECT count(*) FROM payment.instance'), 1, 'all of that without ceremony');
$t->books_agree('every order of the original was charged once',
    except => [ map { $_->{payment_order} } grep { !$t->sql("SELECT 1 FROM payment.payment_order WHERE id = '$_->{payment_order}'") } $t->charges ]);

$t->finish;
