=head1 NAME

SandboxTest - a sandbox PSP and requests to it, without a server

=head1 SYNOPSIS

  use SandboxTest;
  use Test::More;

  start('--fault', 'lost_answer=next:1');
  is(pay({ amount => 100 }, key => new_key())->{status}, 200, 'paid');
  is(stop(), 0, 'stopped');
  finish();

Core modules only, so that it also runs where PostgreSQL is not.  One sandbox
at a time is the one that all functions talk to: the last one started.

=cut

package SandboxTest;

use strict;
use warnings;

use Cwd ();
use Exporter 'import';
use File::Basename ();
use File::Temp ();
use HTTP::Tiny;
use IO::Select;
use IO::Socket::INET;
use JSON::PP;
use POSIX ();
use Socket qw(IPPROTO_TCP TCP_NODELAY);
use Test::More;
use Time::HiRes qw(sleep time);

use constant {
    WAIT_SECONDS  => 30,
    LIMIT_SECONDS => 600,
    KEY           => 'sk_test_sandbox',
    INTENTS       => '/v1/payment_intents',
    PAYOUTS       => '/v1/payouts',
};

our @EXPORT = qw(INTENTS PAYOUTS start stop run sandbox use_sandbox path_of slurp wait_until finish
  request get post new_key pay payout faults book counts charges_of is_error encode
  raw_socket raw_request raw raw_pay csv in_parallel);

my $here = File::Basename::dirname(Cwd::realpath(__FILE__));
my $program = $ENV{PAYMENT_SANDBOX} // 'sandbox/payment-sandbox';
$program = "$here/../../sandbox/payment-sandbox" if !-x $program;
plan(skip_all => 'no sandbox to test: "make sandbox" builds it') if !-x $program;

my $folder = File::Temp->newdir('payment-sandbox-XXXXXX', TMPDIR => 1);
my $json = JSON::PP->new->utf8;
my %running;          # process id => that of the process that started it
my $files = 0;
my $keys = 0;
my $invalid_json = 0;
my ($sandbox, $http);

$SIG{PIPE} = 'IGNORE';
$SIG{ALRM} = sub { die "the test takes too long\n" };
alarm LIMIT_SECONDS;

# ---------------------------------------------------------------- processes

sub spawn
{
    my (@command) = @_;
    my $log = "$folder/log." . ++$files;
    my $pid = fork // die "fork: $!";
    if (!$pid)
    {
        open STDIN,  '<',  '/dev/null' or POSIX::_exit(127);
        open STDOUT, '>',  $log        or POSIX::_exit(127);
        open STDERR, '>&', \*STDOUT    or POSIX::_exit(127);
        exec { $command[0] } @command or POSIX::_exit(127);
    }
    return ($pid, $log);
}

sub slurp
{
    my ($file) = @_;
    open my $in, '<:raw', $file or return '';
    local $/ = undef;
    return scalar <$in> // '';
}

sub wait_until
{
    my ($done, $what) = @_;
    my $deadline = time + WAIT_SECONDS;
    until ($done->())
    {
        die 'still not so: ' . ($what // 'what was waited for') . "\n" if time > $deadline;
        sleep 0.02;
    }
    return 1;
}

sub path_of { my ($name) = @_; return "$folder/$name" }
sub sandbox { return $sandbox }

# Talks to another one from now on.
sub use_sandbox
{
    ($sandbox) = @_;
    return;
}

# Starts one and makes it the one that the functions below talk to.
sub start
{
    my (@flags) = @_;
    my $port_file = "$folder/port." . ++$files;
    my ($pid, $log) = spawn($program, '--port-file', $port_file, @flags);
    $running{$pid} = $$;
    wait_until(sub { -s $port_file || waitpid($pid, POSIX::WNOHANG()) == $pid }, 'it listens');
    die 'the sandbox does not start: ' . slurp($log) if !-s $port_file;
    chomp(my $port = slurp($port_file));
    $sandbox = { pid => $pid, port => $port, url => "http://127.0.0.1:$port", log => $log };
    return $sandbox;
}

# Its exit status, or the signal's number as a negative one.
sub stop
{
    my ($signal, $which) = @_;
    $which //= $sandbox;
    delete $running{ $which->{pid} };
    kill $signal // 'TERM', $which->{pid};
    my $status;
    wait_until(sub { my $done = waitpid($which->{pid}, POSIX::WNOHANG()); $status = $?; $done != 0 },
        'it stops');
    return $status & 127 ? -($status & 127) : $status >> 8;
}

# What it says when it does not start, and its exit status.
sub run
{
    my (@flags) = @_;
    my ($pid, $log) = spawn($program, @flags);
    my $status;
    $running{$pid} = $$;
    wait_until(sub { my $done = waitpid($pid, POSIX::WNOHANG()); $status = $?; $done != 0 }, 'it ends');
    delete $running{$pid};
    return ($status >> 8, slurp($log));
}

END
{
    my $status = $?;
    foreach my $pid (grep { $running{$_} == $$ } keys %running)
    {
        kill 'KILL', $pid;
        waitpid $pid, 0;
    }
    $? = $status;
}

# --------------------------------------------------------------------- HTTP

# A connection for each request: kept ones would wait for the body's packet.
$http = HTTP::Tiny->new(timeout => WAIT_SECONDS, keep_alive => 0, proxy => undef, http_proxy => undef);

sub encode
{
    my ($text) = @_;
    $text =~ s/([^A-Za-z0-9_.~-])/sprintf '%%%02X', ord $1/ge;
    return $text;
}

sub form
{
    my (@pairs) = @_;
    my @parts;
    while (my ($name, $value) = splice @pairs, 0, 2)
    {
        push @parts, encode($name) . '=' . encode($value);
    }
    return join '&', @parts;
}

# The answer of HTTP::Tiny, with {json} when it is JSON.
sub request
{
    my ($method, $path, %option) = @_;
    my %headers = %{ $option{headers} // {} };
    $headers{Authorization} //= 'Bearer ' . KEY if $path !~ m{^/_sandbox/};
    $headers{'Content-Type'} //= 'application/x-www-form-urlencoded' if defined $option{content};
    $headers{'Idempotency-Key'} = $option{key} if defined $option{key};
    my $answer = $http->request(
        $method,
        $sandbox->{url} . $path,
        { headers => \%headers, defined $option{content} ? (content => $option{content}) : () });
    if ($answer->{status} != 599 && ($answer->{headers}{'content-type'} // '') =~ /json/)
    {
        $answer->{json} = eval { $json->decode($answer->{content}) };
        if (!defined $answer->{json} && !$option{truncated})
        {
            $invalid_json++;
            diag("invalid JSON: $method $path: $answer->{content}");
        }
    }
    return $answer;
}

sub get { my ($path) = @_; return request('GET', $path) }

sub post
{
    my ($path, $pairs, %option) = @_;
    return request('POST', $path, content => form(@$pairs), %option);
}

sub new_key { return 'key-' . $$ . '-' . ++$keys }

# A confirmed payment: a hash of changes, with undef for "leave it out".
sub pay
{
    my ($changes, %option) = @_;
    my %field = (
        amount         => 1000,
        currency       => 'usd',
        payment_method => 'pm_card_visa',
        confirm        => 'true',
        %{ $changes // {} });
    return post(INTENTS, [ map { ($_ => $field{$_}) } grep { defined $field{$_} } sort keys %field ],
        %option);
}

sub payout
{
    my ($changes, %option) = @_;
    my %field = (amount => 500, currency => 'usd', destination => 'ba_sandbox_one', %{ $changes // {} });
    return post(PAYOUTS, [ map { ($_ => $field{$_}) } grep { defined $field{$_} } sort keys %field ],
        %option);
}

sub faults
{
    my (%fault) = @_;
    my $answer = post('/_sandbox/faults', [%fault]);
    die "faults: $answer->{content}" if $answer->{status} != 200;
    return $answer->{json};
}

sub book   { return get('/_sandbox/book')->{json}{currencies} }
sub counts { return get('/_sandbox/requests')->{json} }

sub is_error
{
    my ($answer, $status, $type, $code, $param, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $error = $answer->{json}{error} // {};
    is_deeply(
        [ $answer->{status}, $error->{type}, $error->{code}, $error->{param} ],
        [ $status,           $type,          $code,          $param ],
        $name) or diag($answer->{content});
    return;
}

sub raw_socket
{
    my $socket = IO::Socket::INET->new(
        PeerAddr => '127.0.0.1',
        PeerPort => $sandbox->{port},
        Timeout  => WAIT_SECONDS) or die "connect: $!";
    setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1;
    return $socket;
}

sub raw_request
{
    my ($path, $content, %header) = @_;
    $header{Authorization} //= 'Bearer ' . KEY;
    return "POST $path HTTP/1.1\r\nHost: sandbox\r\n"
      . join('', map { "$_: $header{$_}\r\n" } sort keys %header)
      . "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: "
      . length($content)
      . "\r\n\r\n$content";
}

# What comes back until the connection ends, and how it ended.
sub raw
{
    my ($text) = @_;
    my $socket = raw_socket();
    my ($got, $end) = ('', 'timeout');
    $socket->blocking(0);
    my $select = IO::Select->new($socket);
    my $deadline = time + WAIT_SECONDS;
    my $closed_for_writing = 0;
    while (time < $deadline)
    {
        my ($readable, $writable) =
          IO::Select->select($select, length $text ? $select : undef, undef, 0.05);
        if ($writable && @$writable)
        {
            my $sent = syswrite $socket, $text, 65536;
            if (defined $sent) { substr $text, 0, $sent, '' }
            elsif (!$!{EAGAIN}) { $text = '' }
        }
        if ($readable && @$readable)
        {
            my $n = sysread $socket, my $part, 65536;
            if (!defined $n)
            {
                next if $!{EAGAIN};
                $end = $!{ECONNRESET} ? 'reset' : "$!";
                last;
            }
            if ($n == 0) { $end = 'closed'; last }
            $got .= $part;
            # A whole answer on a connection that is kept.
            if ($got =~ /\A(.*?\r\n\r\n)(.*)\z/s)
            {
                my ($head, $body) = ($1, $2);
                if ($head =~ /^Content-Length: (\d+)/im && length $body >= $1) { $end = 'answer'; last }
            }
        }
    }
    close $socket;
    return ($got, $end);
}

# Rows as hashes; understands quotes and any line end.
sub csv
{
    my ($text) = @_;
    my (@rows, @row);
    while ($text =~ /\G(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|\z)/g)
    {
        my ($quoted, $plain, $end) = ($1, $2, $3);
        my $field = defined $quoted ? $quoted =~ s/""/"/gr : $plain;
        last if $end eq '' && !@row && $field eq '';
        push @row, $field;
        next if $end eq ',';
        push @rows, [@row];
        @row = ();
        last if $end eq '';
    }
    my $header = shift @rows;
    return map { my %h; @h{@$header} = @$_; \%h } @rows;
}

# Runs it in so many processes at once; what each returns, decoded.
sub in_parallel
{
    my ($count, $work) = @_;
    my @readers;
    foreach my $number (1 .. $count)
    {
        pipe my $reader, my $writer or die "pipe: $!";
        my $pid = fork // die "fork: $!";
        if (!$pid)
        {
            my $result = eval { $work->($number) } // { died => "$@" };
            print {$writer} $json->encode($result);
            close $writer;
            POSIX::_exit(0);
        }
        close $writer;
        push @readers, [ $pid, $reader ];
    }
    my @results;
    foreach my $child (@readers)
    {
        local $/ = undef;
        my $text = readline $child->[1];
        waitpid $child->[0], 0;
        push @results, $json->decode($text);
    }
    return @results;
}

# What the books say about a request with this key.
sub charges_of
{
    my ($key) = @_;
    return grep { $_->{idempotency_key} eq $key } csv(get('/_sandbox/charges.csv')->{content});
}

sub raw_pay
{
    my ($key, $amount) = @_;
    my $content = "amount=$amount&currency=usd&payment_method=pm_card_visa&confirm=true";
    return raw(raw_request(INTENTS, $content, 'Idempotency-Key' => $key));
}

# The last line of a test: all answers counted.
sub finish
{
    is($invalid_json, 0, 'every JSON answer was valid');
    done_testing();
    return;
}

1;
