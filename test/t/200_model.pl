# S32, S43, S67, S72: random operations (postings, batches, holds, reversals,
# limits, states, locks, merges) from many clients at once against a model of the
# ledger, while statements are cancelled, sessions ended, and backends and the
# postmaster killed.  test/model/model.h tells how the two are compared.
#
# PAYMENT_MODEL_SECONDS (40) is how long it runs, PAYMENT_MODEL_CLIENTS (24)
# with how many, PAYMENT_MODEL_SEED what is tried: the seed of a run that
# failed gives the same operations again, though not the same race.
use strict;
use warnings;

use File::Basename ();
use IPC::Run;
use PaymentTest;
use Test::More;
use Time::HiRes ();

use constant { LEAST_SECONDS => 10, CHECK_SECONDS => 600 };

my $program = File::Basename::dirname(__FILE__) . '/../model/ledger-model';
plan(skip_all => 'no client to test with: "make ledger-model" builds it') if !-x $program;

my $seconds = $ENV{PAYMENT_MODEL_SECONDS} // 40;
my $clients = $ENV{PAYMENT_MODEL_CLIENTS} // 24;
my $seed = $ENV{PAYMENT_MODEL_SEED} // int(rand(2**31));
$seconds = LEAST_SECONDS if $seconds < LEAST_SECONDS;
note("PAYMENT_MODEL_SEED=$seed PAYMENT_MODEL_SECONDS=$seconds PAYMENT_MODEL_CLIENTS=$clients");

# Few slots make postings wait for each other, many let them pass.
my $max_slots = (1, 3, 8, 256)[ $seed % 4 ];
my $t = PaymentTest->new(
    'model',
    settings => {
        max_connections              => $clients + 30,
        max_prepared_transactions    => $clients + 10,
        track_commit_timestamp       => 'on',
        deadlock_timeout             => '5ms',
        'payment.max_balance_slots'  => $max_slots,
        log_min_messages             => 'fatal',
    });

sub start_model
{
    my ($name, @options) = @_;
    $t->create_database($name);
    $t->sql('CREATE SCHEMA model; CREATE TABLE model.done (op bigint UNIQUE, answer text)', database => $name);
    my $output = '';
    my $harness = IPC::Run::start(
        [ $program, '--conninfo=' . $t->node->connstr($name) . ' user=' . getpwuid($>), "--seed=$seed", @options ],
        '<', \undef, '>', \$output, '2>&1', IPC::Run::timeout($seconds + CHECK_SECONDS));
    return { name => $name, harness => $harness, output => \$output };
}

# its lines as tests of ours
sub finish_model
{
    my ($model) = @_;
    $model->{harness}->finish;
    my $tests = 0;
    foreach my $line (split /\n/, ${ $model->{output} })
    {
        if ($line =~ /^(not )?ok - (.*)/)
        {
            ok(!$1, "$model->{name}: $2");
            $tests++;
        }
        elsif ($line =~ /^#\s?(.*)/) { note($1) }
        else                         { diag($line) }
    }
    cmp_ok($tests, '>=', 13, "$model->{name}: came to its end");
    diag("to try again: PAYMENT_MODEL_SEED=$seed\n${ $model->{output} }") if !Test::More->builder->is_passing;
    return;
}

# One client: the model knows every answer, to the last SQLSTATE and balance.
finish_model(start_model('alone', '--clients=1', '--seconds=' . int($seconds / 8)));

# Many: what the model has to say about it comes afterwards.
{
    my $load_seconds = int($seconds * 3 / 4);
    my $kills = 1 + int($load_seconds / 60);
    my $model = start_model('crowd', "--clients=$clients", "--seconds=$load_seconds",
        '--kills=' . (1 + int($load_seconds / 30)));
    my $started = Time::HiRes::time();
    srand($seed);
    foreach my $kill (1 .. $kills)
    {
        my $at = $started + $load_seconds * ($kill - 0.5 + rand(0.4)) / ($kills + 0.5);
        while (Time::HiRes::time() < $at && $model->{harness}->pumpable)
        {
            $model->{harness}->pump_nb;
            Time::HiRes::sleep(0.05);
        }
        $t->kill_postmaster;
        $t->restart_postmaster;
    }
    finish_model($model);
    like(${ $model->{output} }, qr/[1-9]\d* connections lost/, 'crowd: connections were lost on the way');
    is($t->sql('SELECT count(*) FROM pg_prepared_xacts', database => 'crowd'), 0, 'crowd: no prepared transaction is left');
    # transactions that add one at the same moment do not see each other
    cmp_ok($t->sql('SELECT max(n) FROM (SELECT count(*) AS n FROM payment.balance_slot GROUP BY account_id) s',
            database => 'crowd'),
        '<', $max_slots + $clients, "crowd: no account has many more than $max_slots slots");
}

$t->finish;
