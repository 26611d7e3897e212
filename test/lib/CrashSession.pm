=head1 NAME

CrashSession - a connection that may break at any moment, and is told apart
from one that refuses

=head1 SYNOPSIS

  my $session = CrashSession->new($psql, $connection_string);
  my ($how, $rows) = $session->ask('SELECT 1');    # ok, refused, lost
  $session->break_off("BEGIN; ...; COMMIT;", 0.01);

One psql for many statements, so that a client can be killed in the middle of
one, and the next one costs no process.

=cut

package CrashSession;

use strict;
use warnings;

use IPC::Open3 ();
use Time::HiRes ();

# A server that says nothing for that long is a test that failed.
use constant SILENCE_SECONDS => 120;

my $marker = 'end of the answer';

sub new
{
    my ($class, $psql, $connection) = @_;
    return bless { psql => $psql, connection => $connection }, $class;
}

sub _open
{
    my ($self) = @_;
    return if $self->{pid};
    my ($in, $out);
    $self->{pid} = IPC::Open3::open3($in, $out, undef, $self->{psql}, '-XAtq', '-v', 'VERBOSITY=verbose', '-v',
        'SHOW_CONTEXT=never', '-d', $self->{connection});
    @$self{qw(in out)} = ($in, $out);
    return;
}

# 0: at once, by its death
sub close
{
    my ($self, $politely) = @_;
    my $pid = delete $self->{pid} or return;
    kill 'KILL', $pid if !$politely;
    close delete $self->{in};
    close delete $self->{out};
    waitpid $pid, 0;
    return;
}

sub _write
{
    my ($self, $text) = @_;
    local $SIG{PIPE} = 'IGNORE';
    $self->_open;
    syswrite $self->{in}, $text;
    return;
}

# Up to the marker; undef at the end of the file.
sub _read
{
    my ($self) = @_;
    my ($answer, $deadline) = ('', Time::HiRes::time() + SILENCE_SECONDS);
    while ($answer !~ s/^\Q$marker\E\n//m)
    {
        my $ready = '';
        vec($ready, fileno $self->{out}, 1) = 1;
        die 'the server is silent for ' . SILENCE_SECONDS . " s\n"
          if !select $ready, undef, undef, $deadline - Time::HiRes::time();
        return (undef, $answer) if !sysread $self->{out}, $answer, 65_536, length $answer;
    }
    return (1, $answer);
}

=head2 ask(statements)

(ok, rows); (refused, SQLSTATE, message); (lost, what was last heard) when the
connection broke, so that nobody knows.

=cut

sub ask
{
    my ($self, $sql) = @_;
    $self->_write("$sql;\n\\echo $marker\n");
    my ($whole, $answer) = $self->_read;
    if (!$whole)
    {
        $self->close;
        return ('lost', $answer);
    }
    if ($answer =~ /^(?:psql:\S* )?(?:FATAL|PANIC):|server closed the connection|connection to server/m)
    {
        $self->close;
        return ('lost', $answer);
    }
    return ('refused', $1, $2) if $answer =~ /^(?:psql:\S* )?ERROR:\s+(\w{5}): (.*)/m;
    $answer =~ s/^(?:psql:\S* )?(?:WARNING|NOTICE|LOCATION|DETAIL|HINT):.*\n//mg;
    chomp $answer;
    return ('ok', $answer);
}

=head2 break_off(statements, seconds)

The client dies so long after it has begun to say them.

=cut

sub break_off
{
    my ($self, $sql, $seconds) = @_;
    $self->_write("$sql;\n");
    Time::HiRes::sleep($seconds);
    $self->close;
    return;
}

1;
