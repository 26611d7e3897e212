# Three clients buy and get paid out while the PSP misbehaves, the dispatcher
# is killed with -9 at random moments and the whole server, too.  At the end
# every acknowledged call is kept, every order ended exactly once, and book and
# ledger agree.  (S05, S06, S08, S11, S13 and S67 at moments nobody chose.)
#
# PAYMENT_CRASH_SEED repeats the choices of a run, as far as the machine's own
# timing lets it; PAYMENT_CRASH_SECONDS makes it longer or shorter.
use strict;
use warnings;

use PaymentTest;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

my $seconds = $ENV{PAYMENT_CRASH_SECONDS} || 25;
my $seed = $ENV{PAYMENT_CRASH_SEED} // time() * 1000 % 1_000_000;
note("PAYMENT_CRASH_SEED=$seed PAYMENT_CRASH_SECONDS=$seconds");
srand $seed;

# every so many kills it is the postmaster's turn
use constant KILLS_PER_CRASH => 6;
my @clients = (1 .. 3);

my $t = PaymentTest->new('crash');
my @faults = (
    'latency_ms=0-60', 'lost_answer=3',      'reset=2',        'reset_after=2', 'hang_after=1', 'hang_ms=2000',
    'rate_limit=2',    'error_500_before=1', 'error_500_after=1', 'conflict_409=2', 'truncated_body=2', 'html_body=2',
    'lookup_down=3');
$t->start_sandbox(@faults, { flags => [ '--seed', $seed, '--payout-delay-ms', 200, '--processing-delay-ms', 300 ] });
$t->register_psp('sandbox', settings => { timeout_ms => 1000, max_in_flight => 32 });
my %seller = map { $_ => $t->register_seller($_) } qw(alice bob carol dave);
$t->call('set_fee_schedule', fixed => 0, basis_points => 700);

# One order in nine is declined, one in nine takes its time.
my @methods = (('pm_card_visa') x 7, 'pm_card_chargeDeclined', 'pm_sandbox_processing');
my @currencies = qw(USD EUR JPY KWD);

sub pick { return $_[ int rand @_ ] }

# What one purchase is follows from its key: a repeated call is the same call.
sub purchase
{
    my ($key) = @_;
    my $n = unpack '%32C*', $key x 7;
    my $currency = $currencies[ $n % 4 ];
    my @sellers = (sort keys %seller)[ 0 .. $n % 3 ];
    return $t->checkout_text($key, [ map { "$_ " . (100 + $n % 9000) . " $currency" } @sellers ],
        payment_method => $methods[ $n % @methods ]);
}

# Repeats a call until the server says yes.  Without a connection there is
# nothing to do but to wait; a refusal is an error.
sub insist
{
    my ($query, $deadline) = @_;
    while (time() < $deadline)
    {
        my ($status, $answer, $error) = $t->try_sql($query);
        return $answer if $status == 0;
        die "refused: $error" if $error =~ /ERROR:/;
        sleep 0.1;
    }
    return;
}

# Releases what is captured, and pays out what a seller has; money may be gone
# when somebody else was quicker.
sub pay_out
{
    my ($key, $deadline) = @_;
    my $seller = pick(sort keys %seller);
    insist(<<"SQL", $deadline) // return;
SELECT count(payment.release(id)) FROM payment.payment_order
WHERE status = 'captured' AND released_at IS NULL AND seller = '$seller'
SQL
    my $payouts = insist(<<"SQL", $deadline) // return;
SELECT string_agg(concat_ws(' ', available, currency), ',') FROM payment.wallet
WHERE seller = '$seller' AND available > 0
SQL
    my @made;
    foreach my $payout (split /,/, $payouts)
    {
        my ($amount, $currency) = split / /, $payout;
        push @made, insist($t->call_text('payout', seller => $seller{$seller}, amount => $amount,
                currency => $currency, destination => pick(qw(ba_sandbox_1 ba_sandbox_1 ba_sandbox_fail)),
                idempotency_key => "$key $currency"), $deadline) // return @made;
    }
    return @made;
}

sub client
{
    my ($number, $file, $stop_at, $deadline) = @_;
    srand $seed + $number;
    open my $out, '>', $file or die "$file: $!";
    for (my $i = 1; time() < $stop_at; $i++)
    {
        my $key = "client $number call $i";
        if ($number == 1 && $i % 5 == 0)
        {
            print $out "payout $_\n" foreach pay_out($key, $deadline);
        }
        else
        {
            my $answer = insist(purchase($key), $deadline) // die "no answer to $key\n";
            print $out "checkout $answer\n";
        }
    }
    close $out or die "$file: $!";
    return;
}

# A process of its own, without the parent's END blocks.
sub start_client
{
    my ($number, @arguments) = @_;
    my $pid = fork // die "fork: $!";
    return $pid if $pid;
    my $done = eval { client($number, @arguments); 1 };
    print STDERR "client $number: $@" if !$done;
    POSIX::_exit($done ? 0 : 1);
}

my %killed = (dispatcher => 0, postmaster => 0);

sub kill_something
{
    my ($turn) = @_;
    if ($turn % KILLS_PER_CRASH)
    {
        $killed{dispatcher}++ if defined $t->kill_dispatcher;
        return;
    }
    $t->kill_postmaster;
    $t->restart_postmaster;
    $killed{postmaster}++;
    return;
}

my $stop_at = time() + $seconds;
my $folder = $t->node->basedir;
my %client = map { start_client($_, "$folder/client.$_", $stop_at, $stop_at + 60) => $_ } @clients;

for (my $turn = 1; time() < $stop_at; $turn++)
{
    sleep 0.2 + rand 1.8;
    kill_something($turn);
}
foreach my $pid (keys %client)
{
    waitpid $pid, 0;
    is($?, 0, "client $client{$pid} was never refused");
}
note("killed $killed{dispatcher} dispatchers and $killed{postmaster} servers");
$t->faults(reset => 1);
$t->wait_for_server;
$t->wait_until_idle;

my (%payments, %orders, %payouts);
foreach my $line (map { split /\n/, PaymentTest::slurp_file("$folder/client.$_") } @clients)
{
    my ($what, @ids) = split / /, $line;
    if ($what eq 'payout') { $payouts{ $ids[0] } = 1 }
    else { $payments{ $ids[0] } = 1; $orders{$_} = 1 foreach @ids[ 1 .. $#ids ] }
}
note(sprintf '%d payments, %d orders, %d payouts acknowledged', map { scalar keys %$_ } \%payments, \%orders, \%payouts);

# one row per id, as a hash
sub by_id { my %by = map { $_->{id} => $_ } $t->rows($_[0]); return %by }
my %payment_row = by_id('SELECT id, status, order_count FROM payment.payment');
my %order_row = by_id('SELECT id, status, amount, currency FROM payment.payment_order');
my %payout_row = by_id('SELECT id, status, amount, currency FROM payment.payout');

# the first few of a list, for is_deeply to show
sub few { return [ splice @{ [ sort @_ ] }, 0, 5 ] }

cmp_ok(scalar keys %payments, '>', $seconds, 'there was something to do');
cmp_ok(scalar keys %payouts, '>', 0, 'also for the sellers');
cmp_ok($killed{dispatcher} + $killed{postmaster}, '>', 0, 'and something was killed');
is_deeply(few(grep { !$payment_row{$_} } keys %payments), [], 'S67 every acknowledged payment is there');
is_deeply(few(grep { !$order_row{$_} } keys %orders), [], 'S67 every acknowledged order is there');
is_deeply(few(grep { !$payout_row{$_} } keys %payouts), [], 'S67 every acknowledged payout is there');
is_deeply(few(map { "$_->{id} $_->{status}" } grep { $_->{status} !~ /^(succeeded|failed|partially_succeeded)$/ } values %payment_row),
    [], 'every payment is final');
is_deeply(few(map { "$_->{id} $_->{status}" } grep { $_->{status} !~ /^(captured|declined)$/ } values %order_row),
    [], 'every order is captured or declined');
is_deeply(few(map { "$_->{id} $_->{status}" } grep { $_->{status} !~ /^(paid|failed)$/ } values %payout_row),
    [], 'every payout is paid or failed');
is($t->sql('SELECT count(*) FROM payment.task'), 0, 'nothing is left in the queue, no dead letter either');
is($t->sql('SELECT count(*) FROM payment.exception_record'), 0, 'nothing for people to do');

# The sandbox's side, object by object: exactly one success where there is to
# be one, none elsewhere, and never more than one key that succeeded.
sub compare
{
    my ($what, $object, $rows, $done, $book_done, @book) = @_;
    my (%times, %keys, @wrong);
    foreach my $entry (@book)
    {
        next if $entry->{status} ne $book_done;
        $times{ $entry->{$object} }++;
        $keys{ $entry->{$object} }{ $entry->{idempotency_key} } = 1;
        my $row = $rows->{ $entry->{$object} };
        push @wrong, "unknown $entry->{$object}" if !$row;
        push @wrong, "another amount: $entry->{$object}"
          if $row && "$row->{amount} $row->{currency}" ne "$entry->{amount} \U$entry->{currency}";
    }
    foreach my $id (keys %$rows)
    {
        my $expected = $rows->{$id}{status} eq $done ? 1 : 0;
        push @wrong, "$id is $rows->{$id}{status}: " . ($times{$id} // 0) . " in the book"
          if ($times{$id} // 0) != $expected;
        push @wrong, "$id under " . keys(%{ $keys{$id} }) . ' keys' if keys %{ $keys{$id} // {} } > 1;
    }
    return is_deeply(few(@wrong), [], "$what in the book: one each, under one key, and no other");
}
compare('charges', 'payment_order', \%order_row, 'captured', 'succeeded', $t->charges);
compare('payouts', 'payout', \%payout_row, 'paid', 'paid', $t->payouts);
$t->books_agree('book equals ledger, verify() finds nothing');
is($t->sql(<<'SQL'), 't', 'money is conserved: what came is with sellers, platform and banks');
SELECT coalesce(bool_and(debit = credit), true)
FROM (SELECT currency, sum(debit) AS debit, sum(credit) AS credit FROM payment.trial_balance() GROUP BY currency) AS b
SQL
$t->finish;
