=head1 NAME

EventReceiver - an application's end of webhooks, which fails as told

=head1 SYNOPSIS

  my $receiver = EventReceiver->new(secret => 'whsec', answers => { 'payment_order.captured' => [ 500, 'reset', 'hang' ] });
  $receiver->url;
  $receiver->received;    # what came, in order: { event, status, signed, ... }
  $receiver->finish;

Each connection has a process of its own.  The signature is checked by
openssl on the command line.  C<answers> has, by type, what becomes of the
first, second ... try of each event of that type: a status, C<reset> or
C<hang>; after the last of them 200.

=cut

package EventReceiver;

use strict;
use warnings;

use Fcntl qw(:flock SEEK_END SEEK_SET);
use File::Temp ();
use IO::Socket::INET ();
use IPC::Run ();
use JSON::PP;
use POSIX ();
use Socket ();
use Time::HiRes ();

# process id of a receiver => that of the process that started it
my %receivers;

END
{
    local $?;
    kill 'TERM', grep { $receivers{$_} == $$ } keys %receivers;
}

sub new
{
    my ($class, %option) = @_;
    my $folder = File::Temp::tempdir(CLEANUP => 1);
    my $server = IO::Socket::INET->new(
        LocalAddr => '127.0.0.1', LocalPort => $option{port} // 0, Listen => 100, ReuseAddr => 1)
      or die "listen: $!";
    my $self = bless {
        secret => $option{secret}, answers => $option{answers} // {}, log => "$folder/received", port => $server->sockport
    }, $class;
    open my $log, '>', $self->{log} or die $!;
    close $log;
    $self->{pid} = fork // die "fork: $!";
    if ($self->{pid} == 0)
    {
        $SIG{TERM} = $SIG{INT} = sub { POSIX::_exit(0) };
        $SIG{CHLD} = 'IGNORE';
        while (1)
        {
            my $client = $server->accept or next;
            my $pid = fork // die "fork: $!";
            next if $pid;
            local $SIG{CHLD} = 'DEFAULT';
            eval { $self->_serve($client); 1 } or print STDERR "receiver: $@";
            POSIX::_exit(0);
        }
    }
    $receivers{ $self->{pid} } = $$;
    close $server;
    return $self;
}

sub url  { return "http://127.0.0.1:$_[0]->{port}/events?shop=1" }
sub port { return $_[0]->{port} }

sub finish
{
    my ($self) = @_;
    kill 'TERM', $self->{pid};
    waitpid $self->{pid}, 0;
    delete $receivers{ $self->{pid} };
    return;
}

sub _read_request
{
    my ($client) = @_;
    my ($head, %header) = ('');
    while ($head !~ /\r\n\r\n/)
    {
        sysread($client, $head, 4096, length $head) or return;
    }
    my ($lines, $body) = split /\r\n\r\n/, $head, 2;
    my ($request, @headers) = split /\r\n/, $lines;
    foreach (@headers)
    {
        my ($name, $value) = split /:\s*/, $_, 2;
        $header{ lc $name } = $value;
    }
    while (length $body < ($header{'content-length'} // 0))
    {
        sysread($client, $body, 65536, length $body) or return;
    }
    return ($request, \%header, $body);
}

# by somebody else's code
sub _is_signed
{
    my ($self, $header, $body) = @_;
    my ($time, $signature) = ($header // '') =~ /^t=(\d+),v1=([0-9a-f]{64})$/ or return 0;
    my ($signed, $out) = ("$time.$body", '');
    IPC::Run::run([ 'openssl', 'dgst', '-sha256', '-hmac', $self->{secret}, '-r' ], '<', \$signed, '>', \$out) or die 'openssl';
    return $out =~ /^\Q$signature\E\b/ && abs(time - $time) < 120 ? 1 : 0;
}

# under a lock: how many tries of this event there were, and what becomes of this one
sub _note
{
    my ($self, $entry) = @_;
    open my $log, '+<', $self->{log} or die $!;
    flock $log, LOCK_EX or die $!;
    my $tries = grep { $_->{event}{id} eq $entry->{event}{id} } map { decode_json($_) } <$log>;
    my $answers = $self->{answers}{ $entry->{event}{type} } // [];
    $entry->{answer} = $answers->[$tries] // 200;
    $entry->{at} = Time::HiRes::time();
    seek $log, 0, SEEK_END;
    print $log encode_json($entry), "\n";
    close $log or die $!;
    return $entry->{answer};
}

sub _serve
{
    my ($self, $client) = @_;
    while (my ($request, $header, $body) = _read_request($client))
    {
        my $event = eval { decode_json($body) } // {};
        my $answer = $self->_note({
            event => $event, request => $request, id => $header->{'payment-event-id'},
            content_type => $header->{'content-type'},
            signed => $self->_is_signed($header->{'payment-signature'}, $body) });
        if ($answer eq 'hang')
        {
            sleep 30;
            return;
        }
        if ($answer eq 'reset')
        {
            setsockopt $client, Socket::SOL_SOCKET(), Socket::SO_LINGER(), pack('ii', 1, 0);
            close $client;
            return;
        }
        syswrite $client, "HTTP/1.1 $answer Said\r\nContent-Length: 2\r\n\r\nok";
    }
    return;
}

sub received
{
    my ($self) = @_;
    open my $log, '<', $self->{log} or die $!;
    flock $log, LOCK_SH or die $!;
    return map { decode_json($_) } <$log>;
}

# what was acknowledged, each event as often as that
sub acknowledged
{
    my ($self) = @_;
    return map { $_->{event} } grep { $_->{answer} =~ /^2/ } $self->received;
}

1;
