# S72, S67: many clients on the same accounts, at every isolation level, with
# savepoints, with limits, and a backend killed in the middle: nobody is
# deadlocked, no limit is passed, and what was acknowledged is there.
use strict;
use warnings;

use IPC::Run;
use PaymentTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

use constant { SECONDS => 4, HOT_CLIENTS => 64, MIXED_CLIENTS => 8 };

my $t = PaymentTest->new('load', settings => { max_connections => 150, deadlock_timeout => '100ms' });
my $dir = PostgreSQL::Test::Utils::tempdir();
my ($hot, $cold, $owed, $owed2) = split /\|/, $t->sql(q{
    SELECT payment.open_account('hot', 'asset', 'USD'), payment.open_account('cold', 'revenue', 'USD'),
        payment.open_account('owed', 'liability', 'USD', NULL, NULL, 0),
        payment.open_account('owed_2', 'liability', 'USD', NULL, NULL, 0)});

sub post
{
    my ($accounts, $amounts) = @_;
    my $ids = join ', ', map { "'$_'" } @$accounts;
    return "SELECT payment.post_journal('load', ARRAY[$ids]::uuid[], ARRAY[$amounts]::bigint[]);\n";
}

# Runs pgbench in the background; (harness, its output).
sub bench
{
    my ($script, $clients, @options) = @_;
    @options = ('-T', SECONDS, @options) unless grep { $_ eq '-t' } @options;
    my $file = "$dir/" . int(rand 1e9) . '.sql';
    PostgreSQL::Test::Utils::append_to_file($file, $script);
    my $output = '';
    my $harness = IPC::Run::start(
        [ 'pgbench', '-n', '-h', $t->node->host, '-p', $t->node->port, '-f', $file, '-c', $clients, '-j', 1,
          @options, $t->database ],
        '<', \undef, '>', \$output, '2>&1', IPC::Run::timeout(10 * SECONDS + 60));
    return [ $harness, \$output ];
}

sub done
{
    my ($run) = @_;
    $run->[0]->finish;
    my ($count) = ${ $run->[1] } =~ /actually processed: (\d+)/;
    return ($count // 0, ${ $run->[1] });
}

# one account in every posting
{
    my ($count, $output) = done(bench(post([ $hot, $cold ], '3, -3'), HOT_CLIENTS));
    unlike($output, qr/ERROR/, 'no error on a hot account with ' . HOT_CLIENTS . ' clients');
    cmp_ok($count, '>', HOT_CLIENTS, "$count postings");
    is($t->sql('SELECT count(*) FROM payment.journal'), $count, 'each is there');
    is($t->sql("SELECT posted FROM payment.balance('$hot')"), 3 * $count, 'and in the balance');
    cmp_ok($t->sql("SELECT count(*) FROM payment.balance_slot WHERE account_id = '$hot'"), '<=', HOT_CLIENTS,
        'in no more slots than clients');
    is($t->sql('SELECT * FROM payment.verify()'), '', 'the ledger is true');
}

# few slots for many clients: they wait, in no circle
{
    $t->configure('payment.max_balance_slots' => 4);
    my ($count, $output) = done(bench(post([ $cold, $hot ], '-1, 1'), HOT_CLIENTS));
    unlike($output, qr/ERROR/, 'no error with four slots');
    cmp_ok($count, '>', HOT_CLIENTS, "$count postings");
    is($t->sql('SELECT * FROM payment.verify()'), '', 'the ledger is true');
    $t->configure('payment.max_balance_slots' => 256);
}

# Posts, and takes what the rules refuse as an answer.
$t->sql(q{
    CREATE FUNCTION try_post(accounts uuid[], amounts bigint[]) RETURNS text LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM payment.post_journal('load', accounts, amounts);
        RETURN 'posted';
    EXCEPTION WHEN SQLSTATE 'PY201' OR SQLSTATE 'PY202' THEN
        RETURN SQLSTATE;
    END
    $$});

sub try_post { return post(@_) =~ s/payment\.post_journal\('load', /try_post(/r }

# S72: towards the limit and away from it, at all levels at once
{
    my $in = "\\set x random(1, 50)\n";
    my $out = "\\set x random(1, 2000)\n";
    my $x = ':x::bigint';
    my @level = ('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE');
    my %script = map {
        ("$_ in"  => $in . "BEGIN ISOLATION LEVEL $_;\n" . try_post([ $owed, $hot ], "-($x), $x") . "COMMIT;\n",
         "$_ out" => $out . "BEGIN ISOLATION LEVEL $_;\n" . try_post([ $owed, $hot ], "$x, -($x)") . "COMMIT;\n")
    } @level;
    $script{savepoints} = $out . "BEGIN;\nSAVEPOINT s;\n" . try_post([ $hot, $owed2 ], "$x, -($x)") . "ROLLBACK TO s;\n"
      . try_post([ $owed, $owed2 ], "$x, -($x)") . "COMMIT;\n";
    my @retry = ('--max-tries', 50);
    my %run = map { $_ => bench($script{$_}, MIXED_CLIENTS, @retry) } sort keys %script;
    foreach my $name (sort keys %run)
    {
        my ($count, $output) = done($run{$name});
        unlike($output, qr/ERROR: (?!.*could not serialize)/, "S72 $name: only errors that are meant");
        cmp_ok($count, '>', 0, "S72 $name: $count postings");
    }
    is($t->sql('SELECT * FROM payment.verify()'), '', 'S72 the ledger is true, no limit passed');
    cmp_ok($t->sql("SELECT posted FROM payment.balance('$owed')"), '<', 1_000_000, 'S72 the limit was near');
    is($t->sql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"), 0, 'S72 no deadlock');
}

# S43 in small: an empty account, of which everybody wants all
{
    my ($empty) = $t->sql(q{SELECT payment.open_account('empty', 'liability', 'USD', NULL, NULL, 0)});
    $t->sql(post([ $hot, $empty ], '10, -10'));
    my @run = map { bench(post([ $empty, $hot ], '10, -10'), 1, '-t', 1) } 1 .. 8;
    my $got = 0;
    $got += (done($_))[0] for @run;
    is($got, 1, 'one of eight takes the whole balance');
    is($t->sql("SELECT posted FROM payment.balance('$empty')"), 0, 'and nothing is left');
}

# Once an account is frozen, nothing that was under way comes after.
{
    my $run = bench(try_post([ $hot, $cold ], '1, -1'), 16, '--max-tries', 50);
    my $late = $t->sql(qq{
        CREATE TABLE late (n bigint);
        DO \$\$
        DECLARE
            before bigint;
        BEGIN
            FOR i IN 1..60 LOOP
                PERFORM payment.set_account_state('$cold', 'frozen');
                COMMIT;
                before := (payment.balance('$cold')).posted;
                PERFORM pg_sleep(0.02);
                INSERT INTO late SELECT (payment.balance('$cold')).posted - before;
                PERFORM payment.set_account_state('$cold', 'open');
                COMMIT;
                PERFORM pg_sleep(0.01);
            END LOOP;
        END
        \$\$;
        SELECT sum(n) FROM late});
    my (undef, $output) = done($run);
    is($late, 0, 'a frozen account takes no more postings');
    unlike($output, qr/ERROR: (?!.*was changed while)/, 'those under way are told so');
    is($t->sql('SELECT * FROM payment.verify()'), '', 'the ledger is true');
}

# S67: a backend is killed; the server restarts itself; every id that a client
# was given is there
{
    PostgreSQL::Test::Utils::append_to_file("$dir/many.sql", post([ $hot, $owed ], '7, -7') x 100_000);
    my @clients = map {
        IPC::Run::start(
            [ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-h', $t->node->host, '-p', $t->node->port,
              '-f', "$dir/many.sql", $t->database ],
            '<', \undef, '>', "$dir/acknowledged.$_", '2>', '/dev/null', IPC::Run::timeout(120))
    } 1 .. 8;
    Time::HiRes::sleep(3);
    my $pid = $t->sql(q{SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT payment.post_journal%' LIMIT 1});
    ok(kill('KILL', $pid), 'a backend is killed');
    $_->finish for @clients;
    $t->wait_for('SELECT true', what => 'the server to be back');

    my @acknowledged = map { /^([0-9a-f-]{36})$/mg } map { PostgreSQL::Test::Utils::slurp_file("$dir/acknowledged.$_") } 1 .. 8;
    cmp_ok(scalar @acknowledged, '>', 100, scalar(@acknowledged) . ' postings were acknowledged before');
    PostgreSQL::Test::Utils::append_to_file("$dir/ids", join('', map { "$_\n" } @acknowledged));
    is($t->sql(qq{CREATE TABLE acknowledged (id uuid);
            \\copy acknowledged from '$dir/ids'
            SELECT count(*) FROM acknowledged a WHERE NOT EXISTS (SELECT FROM payment.journal j WHERE j.id = a.id)}),
        0, 'S67 each is there');
    is($t->sql('SELECT * FROM payment.verify()'), '', 'S67 the ledger is true');
    $t->sql(post([ $hot, $owed ], '1, -1'));
    is($t->sql('SELECT * FROM payment.verify()'), '', 'S67 and postings go on');
}

$t->finish;
