# Clients buy, sell and give up, three PSPs misbehave in ever other ways, and
# dispatcher, launcher, backends, server and PSPs are killed at moments that
# nobody chose.  At the end clients, database and the PSPs' book are asked the
# same questions (CrashTruth.pm), and have to agree about every single payment.
# (S01-S03, S05-S09, S11, S13, S14, S16, S17, S20, S23, S32, S33, S67 all at once.)
#
# PAYMENT_CRASH_SECONDS=3600 makes an hour of it; 0 leaves it away.
# PAYMENT_CRASH_SEED repeats the choices of a run: what is bought, killed and
# broken, and when; not what it hits.
# PAYMENT_CRASH_CLIENTS is the number of clients.
use strict;
use warnings;

use CrashClient;
use CrashTruth;
use PaymentTest;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

my $seconds = $ENV{PAYMENT_CRASH_SECONDS} // 20;
my $seed = $ENV{PAYMENT_CRASH_SEED} // int(time() * 1000) % 1_000_000;
my $clients = $ENV{PAYMENT_CRASH_CLIENTS} // 4;
plan(skip_all => 'PAYMENT_CRASH_SECONDS is 0') if !$seconds;
my $how_to_repeat = "PAYMENT_CRASH_SEED=$seed PAYMENT_CRASH_SECONDS=$seconds PAYMENT_CRASH_CLIENTS=$clients";
diag($how_to_repeat);

use constant {
    # what is there to do after the last crash must be done by then
    DRAIN_SECONDS => 300,
    MIX_SECONDS   => 5,
    TELL_SECONDS  => 30,

    # Part of the run without a kill, so that a leak has time to show.
    CALM_FROM  => 0.55,
    CALM_UNTIL => 0.75,

    # beyond what is shared, in kB: ever, and how much more it may become
    # while nothing but payments goes on
    MEMORY_KB_MAX        => 65_536,
    MEMORY_GROWTH_KB_MAX => 3072,
};

# ---- the faults

my %usual = (
    latency_ms => '0-60',
    hang_ms    => 2500,
    (map { $_ => 2 } qw(lost_answer reset reset_after rate_limit conflict_409 truncated_body html_body)),
    (map { $_ => 1 } qw(error_500_before error_500_after hang_after lookup_down)),
    (map { $_ => 0.1 } qw(wrong_amount wrong_currency)),
    (map { $_ => 20 } qw(should_retry_false should_retry_true)));
my @mixes = (
    [ 'the usual'      => {} ],
    [ 'all is well'    => { map { $_ => 0 } keys %usual } ],
    [ 'answers lost'   => { lost_answer => 25, reset_after => 25 } ],
    [ 'requests lost'  => { reset => 40 } ],
    [ 'stored 500s'    => { error_500_before => 20, error_500_after => 20 } ],
    [ 'not now'        => { rate_limit => 50, conflict_409 => 20, retry_after_s => 1 } ],
    [ 'nonsense'       => { truncated_body => 25, html_body => 25 } ],
    [ 'hanging'        => { hang_after => 25 } ],
    [ 'slow'           => { latency_ms => '300-900' } ],
    [ 'no lookups'     => { lookup_down => 100, lost_answer => 20 } ],
    [ 'deaf and dumb'  => { lookup_down => 100, error_500_before => 30, error_500_after => 30, hang_after => 5 } ]);

sub pick { my ($what, @list) = @_; return CrashClient::draw($seed, $what, @list) }

# ---- the scene

my $t = PaymentTest->new('crash', settings => {
    'payment.lease' => 2000,
    deadlock_timeout => '200ms',
    autovacuum_naptime => '5s',
    # many, and small: so that there is something to go on from
    checkpoint_timeout => '30s',
});
my @sandbox_flags = ('--seed', $seed, '--payout-delay-ms', 200, '--processing-delay-ms', 300);
my %fault = %usual;

sub begin_sandbox
{
    my ($port) = @_;
    return $t->start_sandbox((map { "$_=$fault{$_}" } sort keys %fault), { port => $port // 0, flags => \@sandbox_flags });
}

begin_sandbox();
chomp(my $secret = PaymentTest::slurp_file($t->secrets_dir . '/sandbox'));
$t->write_secret('paypal', "sandbox:$secret\n");

# Most are paid, some are not, and some take their time.  (What Adyen calls
# pending is told by a notification only.)
my %psps = (
    stripe => { methods => [ ('pm_card_visa') x 7, qw(pm_card_chargeDeclined pm_sandbox_processing pm_sandbox_processing_fails) ] },
    adyen  => { methods => [ ('sandbox_authorised') x 7, qw(sandbox_refused_5 sandbox_refused_12 sandbox_error) ] },
    paypal => { methods => [ ('sandbox_success') x 7, qw(sandbox_declined sandbox_pending sandbox_pending_fails) ] });
my %config = (
    adyen => { merchant_account => 'SandboxMerchant', return_url => 'https://shop.example/back', balance_account => 'BA_sandbox' });

sub register_psps
{
    my (%settings) = @_;
    foreach my $psp (sort keys %psps)
    {
        $t->register_psp(
            $psp,
            adapter     => $psp,
            secret_name => $psp eq 'paypal' ? 'paypal' : 'sandbox',
            settings    => {
                timeout_ms => 1500, max_in_flight => 24, max_attempts => 25, backoff_max_ms => 400,
                breaker_pause_ms => 300, breaker_pause_max_ms => 1000,
                ($config{$psp} ? (config => $config{$psp}) : ()), %settings });
    }
    return;
}
register_psps();
my %seller = map { $_ => $t->register_seller($_) } qw(alice bob carol dave);
$t->call('set_fee_schedule', fixed => 0, basis_points => 700);

# A claim takes its time to commit, so that death meets it there, too: what has
# been sent by then was sent without one.
$t->sql(<<'SQL');
CREATE FUNCTION commit_slowly() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF coalesce(current_setting('crash.transaction', true), '') <> txid_current()::text THEN
        PERFORM set_config('crash.transaction', txid_current()::text, true);
        PERFORM pg_sleep(0.03);
    END IF;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER commit_slowly AFTER INSERT ON payment.attempt DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION commit_slowly();
SQL

my $folder = $t->node->basedir;
my $truth = CrashTruth->new($t, psps => { map { $_ => $_ } keys %psps }, journals => [ map { "$folder/client.$_" } 0 .. $clients ]);

# A process of its own, without the parent's END blocks.
sub start_client
{
    my ($number, $stop_at) = @_;
    my $pid = fork // die "fork: $!";
    return $pid if $pid;
    my $done = eval {
        CrashClient->new($t, number => $number, seed => $seed, psps => \%psps, sellers => \%seller,
            journal => "$folder/client.$number")->run($stop_at);
        1;
    };
    print STDERR "client $number: $@" if !$done;
    POSIX::_exit($done ? 0 : 1);
}

# ---- what dies

sub signal_one
{
    my ($signal, $which) = @_;
    my ($status, $pids) = $t->try_sql("SELECT pid FROM pg_stat_activity WHERE $which ORDER BY pid LIMIT 1", database => 'postgres');
    return 0 if $pids !~ /^\d+$/;
    return kill $signal, $pids;
}

sub freeze
{
    my ($pid, $how_long) = @_;
    return 0 if !defined $pid || !kill 'STOP', $pid;
    sleep $how_long;
    kill 'CONT', $pid;
    return 1;
}

sub end_sandbox
{
    my ($signal) = @_;
    $truth->see_requests;
    my $port = $t->stop_sandbox($signal);
    sleep pick("down $port " . time(), 0, 0.3, 1);
    begin_sandbox($port);
    return 1;
}

my $dispatcher = "backend_type LIKE 'payment dispatcher%'";
my $launcher = "backend_type LIKE 'payment launcher%'";
my $backend = "backend_type = 'client backend' AND pid <> pg_backend_pid() AND application_name = 'psql'";
my %kills = (
    'dispatcher killed'     => [ 8, sub { signal_one('KILL', $dispatcher) } ],
    'dispatcher terminated' => [ 2, sub { signal_one('TERM', $dispatcher) } ],
    'dispatcher cancelled'  => [ 3, sub { signal_one('INT',  $dispatcher) } ],
    'dispatcher frozen'     => [ 2, sub { freeze(scalar $t->dispatcher_pid, pick("frozen $_[0]", 0.5, 1, 2, 3)) } ],
    'launcher killed'       => [ 1, sub { signal_one('KILL', $launcher) } ],
    'launcher terminated'   => [ 1, sub { signal_one('TERM', $launcher) } ],
    'backend killed'        => [ 2, sub { signal_one('KILL', $backend) } ],
    'backend terminated'    => [ 3, sub { signal_one('TERM', "$backend AND state <> 'idle'") } ],
    'server killed'         => [ 3, sub { $t->kill_postmaster; $t->restart_postmaster; 1 } ],
    'all killed at once'    => [ 3, sub { $t->kill_everything; $t->restart_postmaster; 1 } ],
    'immediate shutdown'    => [ 2, sub { $t->node->stop('immediate'); $t->node->start; 1 } ],
    'fast shutdown'         => [ 2, sub { $t->node->stop('fast'); $t->node->start; 1 } ],
    'PSPs killed'           => [ 3, sub { end_sandbox('KILL') } ],
    'PSPs frozen'           => [ 2, sub { freeze($t->sandbox_pid, pick("PSPs $_[0]", 0.5, 1, 3)) } ]);
my @kills = map { ($_) x $kills{$_}[0] } sort keys %kills;
my %times = map { $_ => 0 } keys %kills;

# ---- what is watched

my %memory;    # of each dispatcher, in kB: what it has for itself, over time

sub watch_memory
{
    my $pid = $t->dispatcher_pid // return;
    open my $status, '<', "/proc/$pid/status" or return;
    my ($kilobytes) = map { /^RssAnon:\s+(\d+)/ } <$status>;
    push @{ $memory{$pid} }, $kilobytes if defined $kilobytes;
    return;
}

my $start = time();
my $told_at = $start;

sub tell_progress
{
    my ($what) = @_;
    return if !$what && time() < $told_at + TELL_SECONDS;
    $told_at = time();
    my ($status, $numbers) = $t->try_sql(<<'SQL');
SELECT format('%s payments (%s open), %s tasks (%s dead)', (SELECT count(*) FROM payment.payment_record),
    (SELECT count(*) FROM payment.payment_record WHERE status IN ('created', 'processing')),
    count(*), count(dead_at)) FROM payment.task
SQL
    my $kills = 0;
    $kills += $_ foreach values %times;
    diag(sprintf '%4d s: %s, %d kills%s', $told_at - $start, $numbers || 'no server', $kills, $what ? ", $what" : '');
    return;
}

# ---- the run

my $stop_at = $start + $seconds;
my %client = map { start_client($_, $stop_at) => $_ } 1 .. $clients;
my ($kill_at, $mix_at, $kill, $mix) = ($start + 2, $start, 0, 0);

sub change_faults
{
    $mix_at = time() + MIX_SECONDS;
    my ($name, $changes) = @{ pick('mix ' . ++$mix, @mixes) };
    %fault = (%usual, %$changes);
    $t->faults(%fault);
    note(sprintf '%4d s: %s', time() - $start, $name);
    return;
}

sub kill_something
{
    my $what = pick('kill ' . ++$kill, @kills);
    note(sprintf '%4d s: %s', time() - $start, $what);
    $times{$what}++ if $kills{$what}[1]->($kill);
    $kill_at = time() + 0.2 + pick("wait $kill", 1 .. 20) / 10;
    return;
}

while (time() < $stop_at)
{
    my $gone = (time() - $start) / $seconds;
    change_faults() if time() >= $mix_at;
    kill_something() if time() >= $kill_at && ($gone < CALM_FROM || $gone >= CALM_UNTIL);
    watch_memory();
    tell_progress();
    sleep 0.3;
}
foreach my $pid (keys %client)
{
    waitpid $pid, 0;
    is($?, 0, "client $client{$pid} was never refused, nor left without an answer");
}

# ---- the end

diag('draining: ' . join ', ', map { "$times{$_} $_" } grep { $times{$_} } sort keys %times);
$t->faults(map { $_ => 0 } keys %usual);
$t->wait_for_server;
# What no repetition can tell does not become better by more of them.
register_psps(max_attempts => 50);
my $dead = $truth->revive_dead_letters;
$t->wait_until_idle(seconds => DRAIN_SECONDS);
CrashClient->new($t, number => 0, seed => $seed, psps => \%psps, sellers => \%seller, journal => "$folder/client.0")->end_all;
$t->wait_until_idle(seconds => DRAIN_SECONDS);
my $decided = $truth->decide_unknown;
tell_progress('drained');
$truth->tell;
is_deeply([ grep { !/^adyen / } keys %$decided ], [], 'people decide only where a PSP keeps a 500 with the key, and tells no more');

my @faults = grep { /terminated by signal (?:4|6|8|7|11):/ } split /\n/, PaymentTest::slurp_file($t->log_file);
is_deeply(\@faults, [], 'whoever died was killed by us');

my ($peak, $growth) = (0, 0);
foreach my $samples (map { $memory{$_} } keys %memory)
{
    foreach my $kilobytes (@$samples) { $peak = $kilobytes if $kilobytes > $peak }
    # of those that lived long, once they had seen all there is to see
    my $half = @$samples / 2;
    next if @$samples < 30;
    my $grown = $samples->[-1] - $samples->[$half];
    $growth = $grown if $grown > $growth;
}
cmp_ok($peak, '<', MEMORY_KB_MAX, 'the worker has never taken much memory');
cmp_ok($growth, '<', MEMORY_GROWTH_KB_MAX, 'nor ever more with time');

cmp_ok($truth->count('payment'), '>', $seconds, 'there was something to do');
cmp_ok($truth->count('payout'), '>', 0, 'also for the sellers');
cmp_ok($truth->count('follow-up'), '>', 0, 'authorisations were ended');
cmp_ok($truth->count('refund'), '>', 0, 'and money was given back');
my $kills = 0;
$kills += $_ foreach values %times;
cmp_ok($kills, '>', 0, 'and something was killed');
diag(sprintf '%d payments, %d captures or voids, %d refunds and %d payouts acknowledged, %d dead letters put back, decided by people: %s; '
      . '%d conflicts left to them; %d kB of memory at most, %d kB growth',
    $truth->count('payment'), $truth->count('follow-up'), $truth->count('refund'), $truth->count('payout'), $dead,
    join(', ', map { "$decided->{$_} $_" } sort keys %$decided) || 'nothing', $truth->conflicts, $peak, $growth);
diag("to repeat: $how_to_repeat") if !Test::More->builder->is_passing;
$t->finish;
