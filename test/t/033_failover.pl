# S68: a synchronous standby is promoted under load and takes over by itself;
# S18: an asynchronous one, that lacks what was sent, asks the PSP first.
# Clones that were not expected, and the old primary that comes back, send
# nothing.  payment.require_sync_standby, and every way to end its wait.
use strict;
use warnings;

use PaymentTest;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $t = PaymentTest->new(
    'node1',
    init     => [ allows_streaming => 1 ],
    settings => { 'payment.poll_interval' => '200ms', 'payment.partitions_ahead' => 0 });
my $primary = $t->node;
$t->start_sandbox('latency_ms=0-40', 'lost_answer=3');
$t->register_psp('sandbox', settings => { timeout_ms => 2000 });
$t->register_seller($_) foreach qw(alice bob);

my $all_final = q{SELECT coalesce(bool_and(status IN ('captured', 'declined')), true) FROM payment.payment_order};
my $keys = 0;

sub checkout
{
    my ($shop) = @_;
    $keys++;
    return (split / /, $shop->sql('SET synchronous_commit = local; ' . $shop->checkout_text("key $keys", ['alice 1000 EUR'])))[1];
}

sub standby
{
    my ($name, $of, %option) = @_;
    my $backup = "for_$name";
    $of->node->backup($backup);
    my $node = PostgreSQL::Test::Cluster->new($name);
    $node->init_from_backup($of->node, $backup, has_streaming => 1);
    $node->append_conf('postgresql.conf', "$_ = '$option{$_}'") foreach sort keys %option;
    $node->start;
    return $t->on($node);
}

sub refusal { my ($shop) = @_; return $shop->sql('SELECT refusal FROM payment.worker_status') }

sub posts { return scalar $t->requests_for('POST', qr/payment_intents/) }

sub wait_for_looks
{
    my ($shop) = @_;
    my $since = $shop->sql('SELECT clock_timestamp()');
    $shop->wait_for("SELECT heartbeat_at > '$since'::timestamptz + interval '2 s' FROM payment.worker_status");
    return;
}

sub promote
{
    my ($shop) = @_;
    $shop->node->promote;
    $shop->wait_for('SELECT NOT pg_is_in_recovery()');
    return;
}

# --- nothing is sent while no synchronous standby is attached ---

$t->configure('payment.require_sync_standby' => 'on');
$t->wait_for(q{SELECT refusal ~ 'no synchronous standby is attached' FROM payment.worker_status}, what => 'the refusal');
my $order = checkout($t);
is($t->sqlstate('SELECT payment.claim_tasks((SELECT id FROM payment.psp), 1, 1000)'), 'PY502', 'a claim by hand is refused');
wait_for_looks($t);
is($t->status_of($order), 'created', 'required, but synchronous_standby_names is empty: nothing is claimed');
$t->configure(synchronous_standby_names => 'node2');
wait_for_looks($t);
is($t->status_of($order), 'created', 'required, but not attached: nothing is claimed, and no commit waits');
is(posts(), 0, 'nothing is sent');

my $node2 = standby('node2', $t);
$t->wait_for("SELECT status = 'captured' FROM payment.payment_order WHERE id = '$order'", what => 'the order is captured');
pass('attached: it is sent');
is(refusal($t), '', 'and worker_status says so');

# --- every way to end the wait of a claim's commit ---

my $waiting = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'payment dispatcher' AND wait_event = 'SyncRep'};

# The dispatcher that waits for a standby, undef when none does.
sub waiting_pid
{
    my (undef, $pid) = $t->try_sql($waiting, database => 'postgres');
    return $pid =~ /^(\d+)/ ? $1 : undef;
}

my %interruption = (
    pg_cancel_backend    => sub { $t->sql("SELECT pg_cancel_backend($_[0])", database => 'postgres') },
    pg_terminate_backend => sub { $t->sql("SELECT pg_terminate_backend($_[0])", database => 'postgres') },
    'synchronous_standby_names emptied' => sub { $t->configure(synchronous_standby_names => '') });

# Interrupt whatever waits, until the claim of the order has committed.
sub interrupt
{
    my ($how, $claimed) = @_;
    PaymentTest::wait_until(
        sub {
            my $pid = waiting_pid();
            $interruption{$how}->($pid) if defined $pid;
            return $t->sql($claimed) eq 't';
        }, 60) or die "$how: no claim\n" . $t->log_tail;
    return;
}

foreach my $how (sort keys %interruption)
{
    foreach my $required ('on', 'off')
    {
        # without the requirement, emptied names are the administrator's word
        next if $required eq 'off' && $how =~ /emptied/;
        $t->configure('payment.require_sync_standby' => $required);
        # a standby that does not answer stays attached for a while
        my $receiver = $node2->sql('SELECT pid FROM pg_stat_wal_receiver');
        kill 'STOP', $receiver;
        my $before = posts();
        $order = checkout($t);
        interrupt($how, "SELECT count(*) = 1 FROM payment.attempt WHERE object_id = '$order'");
        sleep 0.5;
        is(posts(), $before, "$how (required: $required): what was claimed is not sent");
        kill 'CONT', $receiver;
        $t->configure(synchronous_standby_names => 'node2');
        $t->sql(q{UPDATE payment.task SET run_at = now() WHERE attempt_id IS NOT NULL});
        $t->wait_for("SELECT status = 'captured' FROM payment.payment_order WHERE id = '$order'",
            what => "$how: the order is captured", seconds => 120);
    }
}

# timeouts do not even end the wait
my $receiver = $node2->sql('SELECT pid FROM pg_stat_wal_receiver');
kill 'STOP', $receiver;
my $asleep = posts();
$t->configure(statement_timeout => '200ms', lock_timeout => '200ms');
$order = checkout($t);
PaymentTest::wait_until(sub { defined waiting_pid() }, 30) or die "no claim waits\n" . $t->log_tail;
sleep 1;
ok(defined waiting_pid(), 'statement_timeout and lock_timeout do not end the wait');
is(posts(), $asleep, 'and nothing is sent');
kill 'CONT', $receiver;
$t->configure(statement_timeout => 0, lock_timeout => 0);
$t->wait_for("SELECT status = 'captured' FROM payment.payment_order WHERE id = '$order'", what => 'the order is captured');

$t->configure('payment.require_sync_standby' => 'on');
$t->books_agree('each was charged once in the end');

# --- S68: promoted under load ---

$t->wait_for(q{SELECT string_agg(name, ' ') = 'node2' FROM payment.synchronous_standby}, what => 'the primary to note its standby');
my $other = standby('clone', $t);
my $folder = $primary->basedir;

# Buys until told to stop, at whichever server there is; writes down what was acknowledged.
sub client
{
    my ($number, $file, $stop_at) = @_;
    open my $out, '>', $file or die "$file: $!";
    my $shop = $t;
    for (my $i = 1; time() < $stop_at; $i++)
    {
        my $query = $t->checkout_text("client $number call $i", [ 'alice 500 USD', 'bob 700 JPY' ],
            payment_method => $i % 5 ? 'pm_card_visa' : 'pm_card_chargeDeclined');
        while (1)
        {
            $shop = $node2 if -e "$folder/failover";
            my ($status, $answer, $error) = $shop->try_sql($query);
            if ($status == 0 && $error !~ /WARNING/) { print $out "$answer\n"; last }
            die "refused: $error" if $error =~ /ERROR:/ && $error !~ /read-only|57P0/;
            die "no answer\n" if time() > $stop_at + 60;
            sleep 0.1;
        }
    }
    close $out or die "$file: $!";
    return;
}

my $stop_at = time() + 12;
my @pids = map {
    my $number = $_;
    my $pid = fork // die "fork: $!";
    if (!$pid)
    {
        my $done = eval { client($number, "$folder/client.$number", $stop_at); 1 };
        print STDERR "client $number: $@" if !$done;
        POSIX::_exit($done ? 0 : 1);
    }
    $pid;
} 1 .. 2;
sleep 5;
$t->kill_postmaster;
append_to_file("$folder/failover", '1');
$node2->configure(synchronous_standby_names => '', 'payment.require_sync_standby' => 'off');
my $offset = $node2->log_offset;
promote($node2);
$node2->wait_for(q{SELECT count(*) = 1 AND bool_and(refusal IS NULL) FROM payment.worker_status}, what => 'node2 to take over');
like($node2->log_since($offset), qr/By itself, because the synchronous standby "node2" was promoted\. \d+ tasks/,
    'S68 a synchronous standby takes over by itself, and says so');
foreach my $pid (@pids) { waitpid $pid, 0; is($?, 0, 'S68 a client was never refused') }
$node2->faults(lost_answer => 0);
$node2->wait_until_idle(seconds => 120);
$node2->wait_for($all_final);
my @acknowledged = map { split / |\n/ } map { slurp_file("$folder/client.$_") } 1 .. 2;
cmp_ok(scalar @acknowledged, '>', 30, 'S68 there was some load: ' . @acknowledged . ' ids');
my %known = map { $_ => 1 } split /\n/, $node2->sql('SELECT id FROM payment.payment UNION ALL SELECT id FROM payment.payment_order');
is(scalar(grep { !$known{$_} } @acknowledged), 0, 'S68 every acknowledged checkout is there');
$node2->books_agree('S68 every order ended exactly once');
is($node2->sql('SELECT count(*) FROM payment.instance'), 2, 'S68 its history says so');

# --- a clone that was promoted, too ---

my $before = posts();
$other->configure(synchronous_standby_names => '', 'payment.require_sync_standby' => 'off');
promote($other);
$other->wait_for(q{SELECT refusal IS NOT NULL FROM payment.worker_status}, what => 'the clone to refuse');
like(refusal($other), qr/the standby "clone", which this was, was not expected/, 'S66 a clone that streams is not expected to take over');
checkout($other);
wait_for_looks($other);
is(posts(), $before, 'S66 and sends nothing when it is promoted');
$other->node->stop;

# --- the old primary comes back ---

$t->restart_postmaster;
$t->wait_for(q{SELECT refusal ~ 'no synchronous standby' FROM payment.worker_status}, what => 'the old primary to refuse');
checkout($t);
wait_for_looks($t);
is(posts(), $before, 'S66 an old primary that comes back has lost its standby, and sends nothing');
$t->node->stop;

# --- S18: an asynchronous standby that lacks some of what was sent ---

my $node3 = standby('node3', $node2, 'payment.failover_standbys' => 'NODE3');
$node2->wait_for(q{SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'});

# queued on both; what becomes of it then is not replicated any more
$node2->configure('payment.worker_enabled' => 'off');
PaymentTest::wait_until(sub { !defined $node2->dispatcher_pid }, 30) or die 'the dispatcher does not leave';
my @replicated = map { checkout($node2) } 1 .. 3;
$node2->node->wait_for_catchup($node3->node);
my ($sender) = $node2->sql('SELECT pid FROM pg_stat_replication') =~ /(\d+)/;
kill 'STOP', $sender;
my $lost = checkout($node2);
$node2->configure('payment.worker_enabled' => 'on');
$node2->wait_for($all_final, what => 'what the standby does not know');
$before = posts();
kill 'KILL', $sender;
$node2->node->stop('immediate');
$node3->configure(synchronous_standby_names => '');
$offset = $node3->log_offset;
promote($node3);
$node3->wait_until_idle(seconds => 120);
like($node3->log_since($offset), qr/By itself, because the listed standby "node3" was promoted\. 3 tasks/, 'S18 it takes over, since it is listed');
is($node3->status_of($_), 'captured', 'S18 what was sent unknown to it is found at the PSP') foreach @replicated;
is(posts(), $before, 'S18 and not sent again');
is($node3->status_of($lost), '', 'S18 a checkout was lost altogether');
ok(scalar(grep { $_->{payment_order} eq $lost && $_->{status} eq 'succeeded' } $t->charges), 'S18 which was charged');

my $settlement = $t->settle->{id};
$node3->import_settlement('settlement.csv', $t->settlement_csv($settlement));
$node3->sql(q{SELECT payment.reconcile('sandbox')});
is($node3->sql(q{SELECT string_agg(concat_ws(' ', type, status, actual_amount, currency), ',') FROM payment.exception
    WHERE closed_at IS NULL AND type = 'missing_internal'}), 'missing_internal open 1000 EUR',
    'S18 the settlement shows it, and an exception tells people');
is($node3->sql(q{SELECT payment.format_money(credit::bigint, currency) FROM payment.trial_balance() WHERE code = 'unidentified_receipts'}),
    '10.00', 'S18 its money is in the ledger');
is($node3->sql('SELECT * FROM payment.verify()'), '', 'S18 and the ledger is right');
$node3->node->stop;

$t->finish;
