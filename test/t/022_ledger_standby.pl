# The ledger on a read-only standby: it can be read and verified there, and
# not posted to.
use strict;
use warnings;

use PaymentTest;
use PostgreSQL::Test::Cluster;
use Test::More;

my $t = PaymentTest->new('primary', init => [ allows_streaming => 1 ]);
my ($a, $b) = split /\|/, $t->sql(q{
    SELECT payment.open_account('cash', 'asset', 'USD'), payment.open_account('owed', 'liability', 'USD', NULL, NULL, 0)});
my $post = "SELECT payment.post_journal('test', ARRAY['$a', '$b']::uuid[], '{25,-25}')";
$t->sql($post) for 1 .. 4;

$t->node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($t->node, 'copy', has_streaming => 1);
$standby->start;
$t->sql($post);
$t->node->wait_for_catchup($standby, 'replay', $t->node->lsn('write'));

my $read = sub { return $standby->safe_psql($t->database, $_[0]) };
is($read->("SELECT payment.balance('$b')"), '(125,0,125)', 'the balance is read');
is($read->('SELECT code, debit, credit FROM payment.trial_balance()'), "cash|125|0\nowed|0|125", 'and the trial balance');
is($read->('SELECT count(*), sum(debit) FROM payment.ledger'), '10|125', 'and the entries');
is($read->('SELECT * FROM payment.verify()'), '', 'the ledger is verified');
is($read->("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM payment.verify(); COMMIT"), '', 'at any isolation level');

foreach my $command ($post, "SELECT payment.open_account('new', 'asset', 'USD')", "SELECT payment.set_account_state('$a', 'frozen')")
{
    my $err = '';
    $standby->psql($t->database, "\\set VERBOSITY sqlstate\n$command", stderr => \$err);
    like($err, qr/25006/, 'a standby is not written to');
}

# what the standby finds wrong is what the primary would
$t->sql(q{
    ALTER TABLE payment.balance_slot DISABLE TRIGGER guard;
    UPDATE payment.balance_slot SET balance = balance + 1;
    ALTER TABLE payment.balance_slot ENABLE ALWAYS TRIGGER guard});
$t->node->wait_for_catchup($standby, 'replay', $t->node->lsn('write'));
is($read->('SELECT check_name, expected, actual FROM payment.verify() ORDER BY 2'),
    "balance|-125|-124\nbalance|125|126", 'a changed balance is found there');

$standby->stop('fast');
$t->finish;
