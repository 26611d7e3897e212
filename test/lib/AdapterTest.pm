=head1 NAME

AdapterTest - the scenarios that every adapter has to pass, over the wire

=head1 SYNOPSIS

  use AdapterTest;

  my $a = AdapterTest->new($t, psp => 'adyen', method => 'sandbox_authorised', path => '/v71/payments',
      register => { adapter => 'adyen', settings => { config => { ... } } });
  $a->charges_once('lost_answer', 'S08', [ 'send unknown', 'send succeeded' ]);

=cut

package AdapterTest;

use strict;
use warnings;

use PaymentTest;
use Test::More;

sub new
{
    my ($class, $t, %option) = @_;
    my $self = bless { t => $t, %option }, $class;
    $self->register;
    return $self;
}

# Registers the PSP anew, with further settings.
sub register
{
    my ($self, %settings) = @_;
    my %argument = %{ $self->{register} };
    $argument{settings} = { %{ $argument{settings} // {} }, %settings };
    return $self->{id} = $self->{t}->register_psp($self->{psp}, %argument);
}

# One order; returns its id.
sub pay
{
    my ($self, $key, %argument) = @_;
    my $money = delete $argument{money} // '1000 EUR';
    my (undef, $order) = $self->{t}->checkout(
        "$self->{psp} $key",
        ["alice $money"],
        psp            => $self->{psp},
        payment_method => $self->{method},
        %argument);
    return $order;
}

# Pays, and waits until nothing is left to do.
sub paid
{
    my ($self, @arguments) = @_;
    my $order = $self->pay(@arguments);
    $self->{t}->wait_until_idle;
    return $order;
}

# A payout of released money; returns its id.
sub payout
{
    my ($self, $key, %argument) = @_;
    my $t = $self->{t};
    my $order = $self->paid("$key order");
    $t->call('release', payment_order => $order);
    return $t->call(
        'payout',
        seller          => $t->call('seller_id', reference => 'alice'),
        amount          => 600,
        currency        => 'EUR',
        destination     => 'ba_sandbox_alice',
        psp             => $self->{psp},
        idempotency_key => "$self->{psp} $key",
        %argument);
}

# What became of each request for it: "step outcome", in order.
sub attempts
{
    my ($self, $object) = @_;
    return [ map { "$_->{step} $_->{outcome}" } $self->rows_of($object) ];
}

sub rows_of
{
    my ($self, $object) = @_;
    return $self->{t}->rows(<<"SQL");
SELECT step, attempt_no, outcome, http_status, error_code, error_message, decline_class, psp_reference,
    extract(epoch FROM claimed_at) AS claimed_at
FROM payment.attempt WHERE object_id = '$object' ORDER BY id
SQL
}

# How often the sandbox was asked to pay, did, and under which keys.
sub sends
{
    my ($self, $order) = @_;
    my @sends = grep { ($_->{idempotency_key} // '') =~ /^$order:pay:/ } $self->{t}->requests_for('POST', $self->{path});
    my %keys = map { $_->{idempotency_key} => 1 } @sends;
    return { sent => scalar @sends, executed => scalar(grep { $_->{executed} eq 'yes' } @sends), keys => [ sort keys %keys ] };
}

# The worker dies, and PostgreSQL starts anew.
sub kill_worker
{
    my ($self) = @_;
    my $killed = $self->{t}->kill_dispatcher;
    PaymentTest::wait_until(sub { !kill 0, $killed }, 60) or die 'the dispatcher does not die';
    $self->{t}->wait_for_server;
    return;
}

# The PSP executes, and what it answers is of no use.
sub charges_once
{
    my ($self, $fault, $number, $attempts, %option) = @_;
    my $t = $self->{t};
    subtest "$number the PSP charges, and answers with $fault" => sub {
        $self->register(timeout_ms => 700) if $fault =~ /hang/;
        $t->faults($fault =~ /hang/ ? (hang_ms => 5_000) : (), $fault => 'next:1');
        my $order = $self->paid("$number $fault");
        is($t->history_of($order), 'created executing unknown captured', "$number unknown, until it is known");
        is_deeply($self->attempts($order), $attempts, "$number by asking");
        my $sends = $self->sends($order);
        is($sends->{executed}, 1, "$number executed once");
        is_deeply($sends->{keys}, ["$order:pay:1"], "$number under one key");
        $t->charged_once($order, "$number one charge, one journal");
        $t->faults($fault => 0);
        $self->register if $fault =~ /hang/;
    };
    return;
}

# The PSP refuses for a while, and executes nothing meanwhile.
sub waits
{
    my ($self, $fault, $number, $status, $attempts, %option) = @_;
    my $t = $self->{t};
    subtest "$number the PSP answers $status" => sub {
        my $retry_after_s = $option{retry_after_s} // 0;
        $t->faults(retry_after_s => $retry_after_s, map { $_ => 'next:2' } $fault, @{ $option{with} // [] });
        my $order = $self->paid("$number $fault");
        is_deeply($self->attempts($order), $attempts, "$number tried again");
        my @rows = $self->rows_of($order);
        is_deeply([ map { $_->{attempt_no} } @rows ], [ (1) x @rows ], "$number the attempt number unchanged");
        foreach my $i (1 .. ($retry_after_s ? $#rows : 0))
        {
            cmp_ok($rows[$i]{claimed_at} - $rows[ $i - 1 ]{claimed_at},
                '>=', $retry_after_s, "$number not before Retry-After is over");
        }
        is($self->sends($order)->{executed}, 1, "$number executed once");
        $t->charged_once($order, "$number one charge");
        $t->faults(retry_after_s => 0);
    };
    return;
}

# S14: the PSP reports other money than was asked for.
sub reports_other_money
{
    my ($self, $fault) = @_;
    my $t = $self->{t};
    subtest "S14 the PSP reports another money: $fault" => sub {
        $t->faults($fault => 'next:1');
        my $order = $self->paid("S14 $fault");
        is($t->status_of($order), 'conflicted', 'S14 conflicted');
        is($t->sql("SELECT count(*) FROM payment.journal WHERE subject = '$order'"), 0, 'S14 no journal');
        is($t->sql("SELECT count(*) FROM payment.exception_record WHERE order_id = '$order'"), 1, 'S14 one exception');
        push @{ $self->{conflicted} }, $order;
    };
    return;
}

# A decline, and how it is classified.
sub declines
{
    my ($self, $method, $code, $class) = @_;
    my $order = $self->paid("declined $method", payment_method => $method);
    my ($attempt) = $self->rows_of($order);
    is_deeply(
        [ $self->{t}->status_of($order), $attempt->{outcome}, $attempt->{error_code}, $attempt->{decline_class} ],
        [ 'declined', 'declined', $code, $class ],
        "$method is declined: $class");
    $self->{t}->not_charged($order, "$method is charged nothing");
    return $order;
}

# No credential of the PSP's is anywhere it can be read.
sub keeps_secrets
{
    my ($self, @secrets) = @_;
    my $log = PaymentTest::slurp_file($self->{t}->log_file);
    my $tables = join "\n", map { $self->{t}->sql("SELECT t::text FROM $_ AS t") }
      qw(payment.attempt payment.task payment.psp);
    foreach my $secret (@secrets)
    {
        unlike($log,    qr/\Q$secret\E/, 'no secret in the log');
        unlike($tables, qr/\Q$secret\E/, 'nor in a table');
    }
    return;
}

sub books_agree
{
    my ($self) = @_;
    return $self->{t}->books_agree("the sandbox's book equals the ledger", except => $self->{conflicted} // []);
}

1;
