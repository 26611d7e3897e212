=head1 NAME

CrashClient - one of those who buy, sell and give up while everything dies

=head1 SYNOPSIS

  my $client = CrashClient->new($t, number => 1, seed => $seed, psps => \%psps, sellers => \%seller,
      journal => $file);
  $client->run($stop_at);

What a call is follows from its key, so that a repeated call is the same call;
what is called next follows from the seed.  The journal holds what the server
acknowledged, a line of JSON each: kind, key, ids.  A client insists: after a
broken connection it repeats the call until it knows.

=cut

package CrashClient;

use strict;
use warnings;

use CrashSession;
use Digest::MD5 ();
use JSON::PP;
use PaymentTest;
use Time::HiRes qw(sleep time);

use constant {
    PATIENCE_SECONDS => 180,
    # more than that waiting, and clients wait, too
    QUEUE_MAX     => 300,
    PAUSE_SECONDS => 10,
    CHECK_EVERY   => 20,
};

# how often, of all of them
my %weights = (
    buy             => 30,
    buy_again       => 8,
    buy_shared      => 10,
    buy_in_bulk     => 5,
    buy_and_die     => 12,
    buy_in_two_steps => 4,
    change_mind     => 7,
    change_body     => 3,
    reserve         => 10,
    end_reserved    => 8,
    give_back       => 10,
    release         => 6,
    pay_out         => 15);
my @acts = map { ($_) x $weights{$_} } sort keys %weights;

# what is to be repeated, as the reference says
my %repeatable = map { $_ => 1 } qw(40001 40P01 53300 55P03 57014 57P01 57P02 57P03);

my @currencies = qw(USD EUR JPY);
my @isolation = ('', '', '', 'ISOLATION LEVEL REPEATABLE READ', 'ISOLATION LEVEL SERIALIZABLE');

=head2 CrashClient::draw(seed, what, list)

One of the list, always the same one; undef of none.  A plain function.

=cut

sub draw
{
    my ($seed, $what, @list) = @_;
    return undef if !@list;
    return $list[ unpack('N', Digest::MD5::md5("$seed $what")) % @list ];
}

sub new
{
    my ($class, $t, %option) = @_;
    my $connection = $t->node->connstr($t->database);
    return bless {
        t       => $t,
        session => CrashSession->new($t->node->installed_command('psql'), $connection),
        json    => JSON::PP->new->canonical,
        bought  => [],
        count   => {},
        %option,
    }, $class;
}

sub _draw { my ($self, $what, @list) = @_; return draw($self->{seed}, $what, @list) }

sub _note
{
    my ($self, %line) = @_;
    print { $self->{out} } $self->{json}->encode(\%line), "\n";
    return;
}

# The answer, or the SQLSTATE of a refusal that was expected.
sub _insist
{
    my ($self, $sql, @expected) = @_;
    my $deadline = time() + PATIENCE_SECONDS;
    my ($how, $what, $message);
    while (time() < $deadline)
    {
        ($how, $what, $message) = $self->{session}->ask($sql);
        return $what if $how eq 'ok';
        return \$what if $how eq 'refused' && grep { $_ eq $what } @expected;
        die "refused: $what $message\n$sql\n" if $how eq 'refused' && !$repeatable{$what};
        # whatever the transaction was, it is over
        $self->{session}->close;
        sleep 0.05;
    }
    die "no answer, at last $how: $what\n$sql\n";
}

# ---- what a purchase is

sub _purchase
{
    my ($self, $key) = @_;
    # what Adyen does to an authorisation it tells by webhooks only
    my $reserves = $key =~ /reserves/;
    my $psp = $self->_draw("psp $key", grep { !$reserves || $_ ne 'adyen' } sort keys %{ $self->{psps} });
    my @methods = @{ $self->{psps}{$psp}{methods} };
    my %argument = (psp => $psp, payment_method => $reserves ? $methods[0] : $self->_draw("method $key", @methods));
    $argument{capture} = 'manual' if $reserves;
    my @sellers = (sort keys %{ $self->{sellers} })[ 0 .. $self->_draw("sellers $key", 0 .. 2) ];
    my @orders = map {
        {   seller   => $_,
            amount   => 100 + $self->_draw("amount $key $_", 0 .. 9000),
            currency => $self->_draw("currency $key $_", @currencies)
        }
    } @sellers;
    return (\@orders, %argument);
}

sub _buying
{
    my ($self, $key) = @_;
    my ($orders, %argument) = $self->_purchase($key);
    return $self->{t}->checkout_text($key, $orders, %argument);
}

sub _bought
{
    my ($self, $key, $answer) = @_;
    $self->_note(kind => 'payment', key => $key, ids => [ split / /, $answer ]);
    push @{ $self->{bought} }, $key;
    return;
}

sub _fresh_key
{
    my ($self, $what) = @_;
    return "client $self->{number} $what " . ++$self->{count}{$what};
}

# ---- what it does

sub buy
{
    my ($self) = @_;
    my $key = $self->_fresh_key('buys');
    return $self->_bought($key, $self->_insist($self->_buying($key)));
}

# the same as somebody else, about now
sub buy_shared
{
    my ($self) = @_;
    my $key = 'all buy ' . ++$self->{count}{shared};
    return $self->_bought($key, $self->_insist($self->_buying($key)));
}

sub buy_again
{
    my ($self, $turn) = @_;
    my $key = $self->_draw("again $self->{number} $turn", @{ $self->{bought} }) // return;
    return $self->_bought($key, $self->_insist($self->_buying($key)));
}

# dies in the middle of its transaction, and asks later what became of it
sub buy_and_die
{
    my ($self, $turn) = @_;
    my $key = $self->_fresh_key('dies');
    my $buying = $self->_buying($key);
    my $level = $self->_draw("level $self->{number} $turn", @isolation);
    $self->{session}->ask('SELECT 1');
    $self->{session}->break_off("BEGIN $level;\n$buying;\nCOMMIT", $self->_draw("dies $self->{number} $turn", 0 .. 30) / 1000);
    return $self->_bought($key, $self->_insist($buying));
}

sub buy_in_bulk
{
    my ($self, $turn) = @_;
    my @keys = map { $self->_fresh_key('bulk') } 1 .. $self->_draw("bulk $self->{number} $turn", 2 .. 12);
    push @keys, $self->{bought}[-1] if @{ $self->{bought} } && $turn % 2;
    my @events = map {
        my ($orders, %argument) = $self->_purchase($_);
        { payment_type => 'pay_in', idempotency_key => $_, payer => 'payer', orders => $orders, %argument };
    } @keys;
    my $answer = $self->_insist("SELECT idempotency_key, concat_ws(' ', object_id, array_to_string(order_ids, ' ')) FROM "
          . $self->{t}->call_text('submit', events => \@events) =~ s/^SELECT //r);
    $self->_bought(split /\|/) foreach split /\n/, $answer;
    return;
}

# two-phase commit: the transaction outlives the session, and the server
sub buy_in_two_steps
{
    my ($self) = @_;
    my $key = $self->_fresh_key('prepares');
    my $buying = $self->_buying($key);
    my ($how) = $self->{session}->ask("BEGIN;\n$buying;\nPREPARE TRANSACTION '$key'");
    $self->{session}->close if $how ne 'ok';
    my $left = $self->_insist("SELECT count(*) FROM pg_prepared_xacts WHERE gid = '$key'");
    $self->_insist("COMMIT PREPARED '$key'", '42704') if $left;
    return $self->_bought($key, $self->_insist($buying));
}

sub change_mind
{
    my ($self, $turn) = @_;
    my $key = $self->_fresh_key('changes its mind');
    my $buying = $self->_buying($key);
    my $end = $self->_draw("mind $self->{number} $turn", 'ROLLBACK', 'SELECT 1 / 0; COMMIT',
        "PREPARE TRANSACTION '$key'; ROLLBACK PREPARED '$key'");
    $self->_note(kind => 'nothing', key => $key);
    # a prepared one may be left when the connection breaks in between
    $self->{session}->ask("BEGIN;\n$buying;\n$end;\nROLLBACK");
    $self->{session}->close if $turn % 2;
    return if $end !~ /PREPARED/;
    $self->_insist("ROLLBACK PREPARED '$key'", '42704')
      if $self->_insist("SELECT count(*) FROM pg_prepared_xacts WHERE gid = '$key'");
    return;
}

# S02: what was agreed under a key stays
sub change_body
{
    my ($self, $turn) = @_;
    my $key = $self->_draw("body $self->{number} $turn", @{ $self->{bought} }) // return;
    my ($orders, %argument) = $self->_purchase($key);
    $orders->[0]{amount}++;
    my $answer = $self->_insist($self->{t}->checkout_text($key, $orders, %argument), 'PY100');
    die "another body under $key was taken: $answer\n" if !ref $answer;
    return;
}

sub reserve
{
    my ($self) = @_;
    my $key = $self->_fresh_key('reserves');
    return $self->_bought($key, $self->_insist($self->_buying($key)));
}

# S23: what to do with an authorisation follows from it, so that all want the
# same; or from who asks, so that they race.
sub end_reserved
{
    my ($self, $turn) = @_;
    my $reserved = $self->_insist(<<"SQL");
SELECT id, amount FROM payment.payment_order WHERE status = 'authorized' ORDER BY md5(id::text || '$turn') LIMIT 5
SQL
    foreach my $order (split /\n/, $reserved)
    {
        my ($id, $amount) = split /\|/, $order;
        my $what = $self->_draw("ends $id", qw(capture capture part void race));
        $what = $self->_draw("races $id $self->{number}", qw(capture void)) if $what eq 'race';
        my $key = "$what $id";
        my %argument = (payment_order => $id, idempotency_key => $key);
        $argument{amount} = int($amount / 2) + 1 if $what eq 'part';
        # the other one may be quicker; and later somebody may succeed with this key
        my $answer = $self->_insist($self->{t}->call_text($what eq 'void' ? 'void' : 'capture', %argument), 'PY303');
        $self->_note(kind => 'follow-up', key => $key, ids => [$id]) if !ref $answer;
    }
    return;
}

# S32 S33: in full or in part, several at once
sub give_back
{
    my ($self, $turn) = @_;
    my $captured = $self->_insist(<<"SQL");
SELECT id, captured_amount - refunded_amount FROM payment.payment_order
WHERE status = 'captured' AND psp <> 'adyen' AND refunded_amount < captured_amount ORDER BY md5(id::text || '$turn') LIMIT 2
SQL
    foreach my $order (split /\n/, $captured)
    {
        my ($id, $left) = split /\|/, $order;
        my $key = $self->_fresh_key('gives back');
        my $amount = $self->_draw("gives $key", undef, $left, int($left / 2) + 1, int($left / 3) + 1);
        my $answer = $self->_insist($self->{t}->call_text('refund', payment_order => $id, amount => $amount, idempotency_key => $key),
            qw(PY303 PY306));
        $self->_note(kind => ref $answer ? 'nothing' : 'refund', key => $key, ids => [ ref $answer ? () : $answer ]);
    }
    return;
}

sub release
{
    my ($self, $turn) = @_;
    my $seller = $self->_draw("release $self->{number} $turn", sort keys %{ $self->{sellers} });
    $self->_insist(<<"SQL");
SELECT count(payment.release(id))
FROM (SELECT id FROM payment.payment_order
    WHERE status = 'captured' AND released_at IS NULL AND seller = '$seller' ORDER BY id LIMIT 100) AS o
SQL
    return;
}

# Others may be quicker; then the money is gone, and the key is free.
sub pay_out
{
    my ($self, $turn) = @_;
    my $seller = $self->_draw("pays out $self->{number} $turn", sort keys %{ $self->{sellers} });
    my $available = $self->_insist(<<"SQL");
SELECT available, currency FROM payment.wallet WHERE seller = '$seller' AND available > 0
SQL
    foreach my $money (split /\n/, $available)
    {
        my ($amount, $currency) = split /\|/, $money;
        my $key = $self->_fresh_key('pays out');
        my $psp = $self->_draw("psp $key", sort keys %{ $self->{psps} });
        my $answer = $self->_insist(
            $self->{t}->call_text(
                'payout',
                seller          => $self->{sellers}{$seller},
                amount          => $self->_draw("part $key", 1, 2, 3) == 1 ? $amount : int($amount / 2) + 1,
                currency        => $currency,
                destination     => $self->_draw("to $key", qw(ba_sandbox_1 ba_sandbox_2 ba_sandbox_fail)),
                psp             => $psp,
                idempotency_key => $key),
            'PY202');
        $self->_note(kind => ref $answer ? 'nothing' : 'payout', key => $key, ids => [ ref $answer ? () : $answer ]);
    }
    return;
}

# No use in a queue that only grows.
sub _wait_for_others
{
    my ($self) = @_;
    my $until = time() + PAUSE_SECONDS;
    while (time() < $until)
    {
        return if $self->_insist('SELECT count(*) FROM payment.task WHERE dead_at IS NULL') < QUEUE_MAX;
        sleep 0.5;
    }
    return;
}

=head2 end_all

Ends whatever is reserved still; alone, and in peace.

=cut

sub end_all
{
    my ($self) = @_;
    open $self->{out}, '>', $self->{journal} or die "$self->{journal}: $!\n";
    my $turn = 0;
    $self->end_reserved(++$turn) while $self->_insist(q(SELECT count(*) FROM payment.payment_order WHERE status = 'authorized'));
    $self->{session}->close(1);
    close $self->{out} or die "$self->{journal}: $!\n";
    return;
}

=head2 run(stop at)

=cut

sub run
{
    my ($self, $stop_at) = @_;
    open $self->{out}, '>', $self->{journal} or die "$self->{journal}: $!\n";
    for (my $turn = 1; time() < $stop_at; $turn++)
    {
        my $act = $self->_draw("act $self->{number} $turn", @acts);
        $self->$act($turn);
        $self->_wait_for_others if $turn % CHECK_EVERY == 0;
        sleep 0.01;
    }
    $self->{session}->close(1);
    close $self->{out} or die "$self->{journal}: $!\n";
    return;
}

1;
