# One account in every posting of 64 clients: nobody is deadlocked, no
# transaction fails, the balance is exact, and its slots stay within their
# bound.  PAYMENT_HOT_SECONDS (20) is how long all of it takes.
use strict;
use warnings;

use IPC::Run;
use PaymentTest;
use PostgreSQL::Test::Utils;
use Test::More;

use constant { CLIENTS => 64, FEW_SLOTS => 8 };

my $seconds = $ENV{PAYMENT_HOT_SECONDS} // 20;
my $t = PaymentTest->new('hot', settings => { max_connections => CLIENTS + 20, deadlock_timeout => '20ms' });
my $dir = PostgreSQL::Test::Utils::tempdir();

$t->sql(q{
    CREATE TABLE hot AS SELECT payment.open_account('hot', 'asset', 'USD') AS id;
    CREATE TABLE other AS SELECT n, payment.open_account('other_' || n, 'liability', 'USD') AS id FROM generate_series(1, 1000) n;
    CREATE UNIQUE INDEX ON other (n)});

# A third of them takes money out again; the hot account is the first leg or
# the last; each is a statement, or one of three within a transaction.
my $post = q{SELECT payment.post_journal('hot', ARRAY[%s], ARRAY[%s]::bigint[]) FROM hot, other WHERE n = :n};
my %script = (
    in => "\\set n random(1, 1000)\n\\set x random(1, 100)\n" . sprintf($post, 'hot.id, other.id', ':x, -:x') . ";\n",
    out => "\\set n random(1, 1000)\n\\set x random(1, 100)\n" . sprintf($post, 'other.id, hot.id', ':x, -:x') . ";\n",
    three => "\\set n random(1, 1000)\n\\set x random(1, 100)\nBEGIN;\n"
      . sprintf($post, 'other.id, hot.id', '-:x, :x') . ";\nSAVEPOINT s;\n"
      . sprintf($post, 'hot.id, other.id', '-:x, :x') . ";\nROLLBACK TO s;\n"
      . sprintf($post, 'hot.id, other.id', '1, -1') . ";\nCOMMIT;\n",
);

# Runs the scripts with their weights; how often each was, and all it wrote.
sub bench
{
    my ($seconds, %weight) = @_;
    my @files;
    foreach my $name (sort keys %weight)
    {
        my $file = "$dir/$name.sql";
        unlink $file;
        PostgreSQL::Test::Utils::append_to_file($file, $script{$name});
        push @files, '-f', "$file\@$weight{$name}";
    }
    my $output = '';
    IPC::Run::run(
        [ 'pgbench', '-n', '-h', $t->node->host, '-p', $t->node->port, @files, '-c', CLIENTS, '-j', 1, '-T', $seconds, $t->database ],
        '<', \undef, '>', \$output, '2>&1', IPC::Run::timeout($seconds + 120));
    my ($count) = $output =~ /actually processed: (\d+)/;
    return ($count // 0, $output);
}

sub hot { return $t->sql("SELECT $_[0] FROM payment.$_[1], hot WHERE account_id = hot.id") }

# What must be true after each round.
sub check
{
    my ($name, $count, $output, $log, $max_slots) = @_;
    cmp_ok($count, '>', CLIENTS, "$name: $count transactions");
    unlike($output, qr/ERROR|abort/, "$name: no client met an error");
    like($output, qr/failed transactions: 0 /, "$name: no transaction failed");
    unlike($t->log_since($log), qr/ERROR|FATAL|PANIC|WARNING|deadlock/, "$name: nothing in the server's log");
    is($t->sql('SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()'), 0, "$name: no deadlock");
    is(hot('sum(balance)', 'balance_slot'), hot('sum(amount)', 'entry'), "$name: the balance is the sum of the entries");
    is($t->sql('SELECT (payment.balance(id)).posted FROM hot'), hot('sum(balance)', 'balance_slot'), "$name: and what balance() says");
    my $slots = hot('count(*)', 'balance_slot');
    cmp_ok($slots, '<=', $max_slots, "$name: $slots slots, at most $max_slots");
    is($t->sql('SELECT * FROM payment.verify()'), '', "$name: the ledger is true");
    return;
}

my $log = $t->log_offset;
my ($posted, $output) = bench($seconds / 2, in => 2, out => 1);
check('many slots', $posted, $output, $log, 256);
is(hot('count(*)', 'entry'), $posted, 'many slots: each transaction left one entry');

# Fewer slots than clients: postings wait for each other, in no circle.
$t->configure('payment.max_balance_slots' => FEW_SLOTS);
$t->sql('SELECT payment.merge_balance_slots(10000)');
is(hot('count(*)', 'balance_slot'), 1, 'quiet again: one slot');
$log = $t->log_offset;
($posted, $output) = bench($seconds / 2, in => 2, out => 1);
check('few slots', $posted, $output, $log, FEW_SLOTS);

# Several postings in one transaction: with room for all, they wait for nobody.
$t->configure('payment.max_balance_slots' => 256);
$log = $t->log_offset;
($posted, $output) = bench($seconds / 4, three => 1);
check('several postings', $posted, $output, $log, 256);

$t->finish;
