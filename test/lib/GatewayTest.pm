
=head1 NAME

GatewayTest - a gateway in front of a PaymentTest's database, and senders

=head1 SYNOPSIS

  my $gateway = GatewayTest->new($t, flags => ['--queue-length', 10]);
  my ($status, $body) = $gateway->post('sandbox', signed($secret, $json));
  is($gateway->stop, 0, 'stopped');

=cut

package GatewayTest;

use strict;
use warnings;

use Cwd ();
use Digest::SHA qw(hmac_sha256_hex);
use Errno qw(EAGAIN EINTR EWOULDBLOCK);
use Exporter 'import';
use File::Basename ();
use IO::Select;
use IO::Socket::INET;
use PaymentTest;
use POSIX ();
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time);

our @EXPORT_OK = qw(gateway_program signed signed_by_openssl http);

my %running;    # process id => that of the process that started it

sub gateway_program
{
    my $here = File::Basename::dirname(Cwd::realpath(__FILE__));
    return $ENV{PAYMENT_GATEWAY} // "$here/../../gateway/payment-gateway";
}

=head2 GatewayTest->new(test, option => value ...)

Starts it with a role of its own that is a member of payment_gateway alone, on a
port of its own choice. Options: flags, program, environment.

=cut

sub new
{
    my ($class, $t, %option) = @_;
    my $node = $t->node;
    my $base = $node->basedir;
    my $self = bless { t => $t, log => $option{log} // $PostgreSQL::Test::Utils::log_path . "/gateway_$$.log" }, $class;
    my $port_file = "$base/gateway.port";

    $t->sql(q{DO $$ BEGIN CREATE ROLE gateway LOGIN IN ROLE payment_gateway; EXCEPTION WHEN duplicate_object THEN NULL; END $$});
    unlink $port_file;
    my $conninfo = sprintf "host='%s' port=%d dbname='%s' user=gateway", $node->host, $node->port, $t->database;
    my @command = (
        $option{program} // gateway_program(),
        '--database'  => $option{database} // $conninfo,
        '--port'      => 0,
        '--port-file' => $port_file,
        '--pid-file'  => "$base/gateway.pid",
        @{ $option{flags} // [] });
    my $pid = fork // die "fork: $!";
    if (!$pid)
    {
        local %ENV = (%ENV, %{ $option{environment} // {} });
        open STDIN, '<', '/dev/null' and open STDOUT, '>>', $self->{log} and open STDERR, '>&', \*STDOUT
          and exec { $command[0] } @command;
        POSIX::_exit(127);
    }
    $running{$pid} = $$;
    $self->{pid} = $pid;
    PaymentTest::wait_until(sub { -s $port_file || waitpid($pid, POSIX::WNOHANG()) == $pid }, 60);
    die "the gateway does not start: @command\n" . slurp_file($self->{log}) if !-s $port_file;
    chomp($self->{port} = slurp_file($port_file));
    return $self;
}

sub pid  { return $_[0]->{pid} }
sub port { return $_[0]->{port} }
sub log  { return slurp_file($_[0]->{log}) }

=head2 stop(signal)

TERM unless told otherwise. Returns the exit status, or the signal that ended it.

=cut

sub stop
{
    my ($self, $signal) = @_;
    my $pid = delete $self->{pid} or return;
    delete $running{$pid};
    kill $signal // 'TERM', $pid;
    my $status;
    PaymentTest::wait_until(sub { waitpid($pid, POSIX::WNOHANG()) == $pid and $status = $?; defined $status }, 60);
    kill 'KILL', $pid if !defined $status;
    return !defined $status ? 'hangs' : $status & 127 ? 'signal ' . ($status & 127) : $status >> 8;
}

sub memory_kb
{
    my ($self) = @_;
    return slurp_file("/proc/$self->{pid}/status") =~ /^VmRSS:\s+(\d+) kB/m ? $1 : die 'no VmRSS';
}

sub socket
{
    my ($self) = @_;
    return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{port}, Timeout => 30) // die "connect: $!";
}

=head2 request(text), post(psp, signed), get(path)

One request on a connection of its own: status and body, or nothing when the
connection ended without an answer.

=cut

sub request
{
    my ($self, $text) = @_;
    my $socket = $self->socket;
    local $SIG{PIPE} = 'IGNORE';
    print {$socket} $text;
    $socket->flush;
    return read_answer($socket);
}

sub post
{
    my ($self, $psp, $message) = @_;
    return $self->request(http("/webhooks/$psp", $message, 'Connection: close'));
}

sub get
{
    my ($self, $path) = @_;
    return $self->request("GET $path HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
}

# status and body, once all of it is there
sub parse_answer
{
    my ($text) = @_;
    return if $text !~ m{\AHTTP/1\.1 (\d+)[^\r]*\r\n((?:[^\r]+\r\n)*)\r\n(.*)\z}s || $1 == 100;
    my ($status, $headers, $body) = ($1, $2, $3);
    my ($length) = $headers =~ /^Content-Length: (\d+)\r/mi;
    return defined $length && length $body >= $length ? ($status, $body) : ();
}

sub read_answer
{
    my ($socket) = @_;
    my $until = time + 60;
    my $answer = '';
    while (time < $until)
    {
        next if !IO::Select->new($socket)->can_read(1);
        my $count = sysread $socket, my $bytes, 65536;
        last if !$count;
        $answer .= $bytes;
        my @parsed = parse_answer($answer);
        return @parsed if @parsed;
    }
    return;
}

=head2 http(path, { body, header }, header line ...)

The text of a POST.

=cut

sub http
{
    my ($path, $message, @headers) = @_;
    return join "\r\n", "POST $path HTTP/1.1", 'Host: gateway.example', 'Content-Type: application/json',
      'Content-Length: ' . length $message->{body}, $message->{header} // (), @headers, '', $message->{body};
}

=head2 signed(secret, body, time), signed_by_openssl(...)

As Stripe signs: with a core module, or by openssl on the command line.

=cut

sub signed
{
    my ($secret, $body, $at) = @_;
    $at //= CORE::time();
    return { body => $body, header => "Stripe-Signature: t=$at,v1=" . hmac_sha256_hex("$at.$body", $secret) };
}

sub signed_by_openssl
{
    my ($secret, $body, $at) = @_;
    $at //= CORE::time();
    my $file = PostgreSQL::Test::Utils::tempdir() . '/message';
    open my $out, '>', $file or die "$file: $!";
    print {$out} "$at.$body";
    close $out;
    my $digest = qx(openssl dgst -sha256 -hmac '$secret' '$file');
    $digest =~ /= ([0-9a-f]{64})$/ or die "openssl: $digest";
    return { body => $body, header => "Stripe-Signature: t=$at,v1=$1" };
}

=head2 flood(messages, connections)

Sends [path, message] pairs on that many connections at once, each kept open for
one after another. Returns the status that each was answered with, 0 for none.

=cut

sub flood
{
    my ($self, $messages, $connections) = @_;
    my @status = (0) x @$messages;
    my ($next, %at, %buffer, %output) = (0);
    my $select = IO::Select->new;
    my $until = time + 240;
    local $SIG{PIPE} = 'IGNORE';

    my $begin = sub {
        my ($socket) = @_;
        return $select->remove($socket) && close $socket if $next == @$messages;
        $at{$socket} = $next++;
        $buffer{$socket} = '';
        my $text = http(@{ $messages->[ $at{$socket} ] });
        $socket->blocking(1);
        syswrite $socket, $text;
        $socket->blocking(0);
        return;
    };
    for (1 .. $connections)
    {
        my $socket = $self->socket;
        $select->add($socket);
        $begin->($socket);
    }
    while ($select->count && time < $until)
    {
        for my $socket ($select->can_read(1))
        {
            my $count = sysread $socket, $buffer{$socket}, 65536, length $buffer{$socket};
            next if !defined $count && ($! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR);
            if (!$count)
            {
                $select->remove($socket);
                close $socket;
                $socket = $self->socket;
                $select->add($socket);
                $begin->($socket);
            }
            elsif (my ($status) = parse_answer($buffer{$socket}))
            {
                $status[ $at{$socket} ] = $status;
                $begin->($socket);
            }
        }
    }
    return \@status;
}

END
{
    my $status = $?;
    kill 'KILL', grep { $running{$_} == $$ } keys %running;
    $? = $status;
}

1;
