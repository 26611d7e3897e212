=head1 NAME

WebhookReceiver - an HTTP server that writes down what it is sent

=head1 SYNOPSIS

  my $receiver = WebhookReceiver->new("$folder/hook");
  start('--stripe-webhook-url', $receiver->url);
  wait_until(sub { $receiver->all >= 2 }, 'two notifications');
  is(($receiver->all)[0]{headers}{'content-type'}, 'application/json');
  $receiver->answer_with(500);

Each request is {method, path, headers, body} with header names in lower case.

=cut

package WebhookReceiver;

use strict;
use warnings;

use IO::Socket::INET;
use JSON::PP;
use POSIX ();

my $json = JSON::PP->new->utf8;

sub new
{
    my ($class, $file) = @_;
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 50, ReuseAddr => 1) or die "listen: $!";
    my $self = bless { file => $file, port => $listener->sockport, owner => $$ }, $class;
    $self->answer_with(200);
    open my $out, '>>', $file or die "$file: $!";
    $self->{pid} = fork // die "fork: $!";
    if (!$self->{pid})
    {
        $SIG{$_} = 'DEFAULT' foreach qw(ALRM TERM);
        alarm 600;
        $out->autoflush(1);
        while (my $client = $listener->accept)
        {
            $self->_serve($client, $out);
            close $client;
        }
        POSIX::_exit(0);
    }
    return $self;
}

sub url { my ($self, $path) = @_; return "http://127.0.0.1:$self->{port}" . ($path // '/hook') }

# Status of all answers from now on.
sub answer_with
{
    my ($self, $status) = @_;
    open my $out, '>', "$self->{file}.part" or die "$self->{file}: $!";
    print {$out} $status;
    close $out;
    rename "$self->{file}.part", "$self->{file}.status" or die "$self->{file}: $!";
    return;
}

sub _read_file
{
    my ($file) = @_;
    open my $in, '<', $file or return '';
    local $/ = undef;
    return scalar <$in> // '';
}

sub _serve
{
    my ($self, $client, $out) = @_;
    my $got = '';
    while ($got !~ /\r\n\r\n/)
    {
        sysread $client, $got, 65536, length $got or return;
    }
    my ($head, $body) = split /\r\n\r\n/, $got, 2;
    my ($request, @lines) = split /\r\n/, $head;
    my ($method, $path) = split / /, $request;
    my %headers = map { /^([^:]+):\s*(.*)$/ ? (lc $1 => $2) : () } @lines;
    while (length $body < ($headers{'content-length'} // 0))
    {
        sysread $client, $body, 65536, length $body or return;
    }
    print {$out} $json->encode({ method => $method, path => $path, headers => \%headers, body => $body }), "\n";
    my $status = _read_file("$self->{file}.status");
    print {$client} "HTTP/1.1 $status Answer\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    return;
}

# All there are so far, the oldest first.
sub all
{
    my ($self) = @_;
    return map { $json->decode($_) } grep { length } split /\n/, _read_file($self->{file});
}

sub DESTROY
{
    my ($self) = @_;
    return if $self->{owner} != $$ || !$self->{pid};
    local $?;
    kill 'KILL', $self->{pid};
    waitpid $self->{pid}, 0;
    return;
}

1;
