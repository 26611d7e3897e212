=head1 NAME

PaymentTest - a server with the extension, a sandbox PSP, and what tests ask

=head1 SYNOPSIS

  use PaymentTest;
  use Test::More;

  my $t = PaymentTest->new('retries');
  $t->start_sandbox('lost_answer=next:1');
  $t->register_psp;
  $t->register_seller('alice');
  $t->sql(q{SELECT payment.checkout('key-1', ...)});
  $t->wait_for(q{SELECT bool_and(status = 'captured') FROM payment.payment_order});
  is(scalar @{ $t->book->{charges} }, 1, 'S08 one charge');
  $t->finish;

Built on PostgreSQL::Test::Cluster: C<< $t->node >> is such a node, for
everything that is not here.  Nothing waits for ever: each wait has a deadline
and, when it passes, dies with the end of the server's log.

=cut

package PaymentTest;

use strict;
use warnings;

use Cwd ();
use File::Basename ();
use File::Temp ();
use HTTP::Tiny;
use IO::Socket::INET ();
use IPC::Run ();
use JSON::PP;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

use constant {
    DEFAULT_SECONDS => 60,
    POLL_SECONDS    => 0.1,
    LOG_TAIL_LINES  => 40,
};

# a PSP that is asked again at once, as long as it takes
my %quick_settings = (
    connect_timeout_ms  => 2000,
    timeout_ms          => 10_000,
    requests_per_second => 10_000,
    max_attempts        => 1000,
    backoff_base_ms     => 20,
    backoff_max_ms      => 200,
    lookup_delay_ms     => 20,
    poll_interval_ms    => 100,
    breaker_pause_ms     => 100,
    breaker_pause_max_ms => 400);

# process id of a sandbox => that of the process that started it
my %sandboxes;

=head1 THE SERVER

=head2 PaymentTest->new(name, option => value ...)

Makes and starts a node, a database and the extension in it.  Skips the whole
file, saying why, where that is impossible (as root, or the sandbox not built).
Options:

  database   name of the database ('shop')
  extension  0: do not create the extension
  preload    shared_preload_libraries ('payment')
  settings   { name => value } for postgresql.conf, over the defaults below
  durable    1: fsync on, for tests that crash more than processes
  init       [ arguments for node->init ], e.g. [ allows_streaming => 1 ]

=cut

sub new
{
    my ($class, $name, %option) = @_;

    plan(skip_all => 'PostgreSQL does not run as root: use "make test"') if $> == 0;
    plan(skip_all => 'no sandbox to test against: "make sandbox" builds it')
      if !-x _sandbox_program();

    my $node = PostgreSQL::Test::Cluster->new($name);
    my $self = bless {
        node     => $node,
        database => $option{database} // 'shop',
        sandbox  => undef,
    }, $class;

    $node->init(@{ $option{init} // [] });
    mkdir $self->secrets_dir, 0700 or die 'mkdir ' . $self->secrets_dir . ": $!";
    $node->append_conf('postgresql.conf', $self->_conf(%option));
    $node->start;
    $self->create_database($self->{database}, extension => $option{extension});
    return $self;
}

# Restarts after a crash, unlike the node's own default: a worker killed with
# -9 takes the other backends with it, and the server is to come back.
sub _conf
{
    my ($self, %option) = @_;
    my $settings = $option{settings} // {};
    my %conf = (
        shared_preload_libraries => $option{preload} // 'payment',
        'payment.secrets_dir'    => $self->secrets_dir,
        restart_after_crash      => 'on',
        fsync                    => $option{durable} ? 'on' : 'off',
        log_statement            => 'none',
        max_connections          => 100,
        max_worker_processes     => 32,
        max_prepared_transactions => 10,
        %$settings,
    );
    if (my $destdir = $ENV{PAYMENT_DESTDIR})
    {
        my $pg_config = $ENV{PG_CONFIG} // 'pg_config';
        chomp(my $libdir = qx("$pg_config" --pkglibdir));
        $conf{extension_destdir} = $destdir;
        $conf{dynamic_library_path} = "$destdir$libdir:\$libdir";
    }
    return join '', map { "$_ = '$conf{$_}'\n" } sort keys %conf;
}

=head2 node, database, secrets_dir, log_file

What they are called.

=cut

sub node        { return $_[0]->{node} }
sub database    { return $_[0]->{database} }
# the server and the test have other working directories
sub secrets_dir { return Cwd::abs_path($_[0]->{node}->basedir) . '/secrets' }
sub log_file    { return $_[0]->{node}->logfile }

=head2 on(node)

The same shop, with the same sandbox, on another server: a copy or a standby.

=cut

sub on { my ($self, $node) = @_; return bless { %$self, node => $node }, ref $self }

=head2 create_database(name, extension => 0|1)

One more database, with the extension unless told otherwise.

=cut

sub create_database
{
    my ($self, $name, %option) = @_;
    $self->{node}->safe_psql('postgres', qq(CREATE DATABASE "$name"));
    $self->{node}->safe_psql($name, 'CREATE EXTENSION payment') if $option{extension} // 1;
    return;
}

=head2 configure(name => value ...)

Changes settings and reloads.

=cut

sub configure
{
    my ($self, %setting) = @_;
    foreach my $name (sort keys %setting)
    {
        # adjust_conf only changes what is there
        $self->{node}->adjust_conf('postgresql.conf', $name, undef);
        $self->{node}->append_conf('postgresql.conf', "$name = '$setting{$name}'");
    }
    $self->{node}->reload;
    return;
}

=head2 finish

Stops sandbox and server, sees that no process of the server's crashed but
those that kill_dispatcher() had crash, and ends the plan.

=cut

sub finish
{
    my ($self) = @_;
    $self->stop_sandbox if $self->{sandbox};
    $self->{node}->stop('fast') if defined $self->{node}->{_pid};
    # a server that comes back hides it from everybody else
    my @crashes = grep { /was terminated by signal (?:4|6|7|8|11):|PANIC:|a result that is gone/ } split /^/, slurp_file($self->log_file);
    cmp_ok(scalar @crashes, '<=', $self->{crashes_wanted} // 0, 'nothing crashed by itself') or diag(@crashes);
    done_testing();
    return;
}

=head1 SQL

=head2 sql(query, database => name)

Runs it and returns what it returned, bare; dies when it fails.

=cut

sub sql
{
    my ($self, $query, %option) = @_;
    return $self->{node}->safe_psql($option{database} // $self->{database}, $query);
}

=head2 sqlstate(query, database => name)

The SQLSTATE that the query fails with, '00000' when it does not.

=cut

sub sqlstate
{
    my ($self, $query, %option) = @_;
    my (undef, undef, $err) = $self->try_sql("\\set VERBOSITY sqlstate\n$query", %option);
    return $err =~ /(?:ERROR|FATAL|PANIC):\s+(\w{5})/ ? $1 : $err eq '' ? '00000' : $err;
}

=head2 try_sql(query, database => name)

(psql's exit status, stdout, stderr), whatever happens.

=cut

sub try_sql
{
    my ($self, $query, %option) = @_;
    my ($out, $err) = ('', '');
    my $status = eval {
        $self->{node}->psql($option{database} // $self->{database}, $query, stdout => \$out, stderr => \$err);
    };
    # a psql that found no server, and did not read what it was told to do
    return (2, '', $err || $@) if !defined $status;
    return ($status, $out // '', $err // '');
}

=head2 rows(query, database => name)

What the query returns, as a list of hash references by column name; JSON's
true and false are 1 and 0, null is undef.

=cut

sub rows
{
    my ($self, $query, %option) = @_;
    my $json = JSON::PP->new->utf8->boolean_values(0, 1);
    return map { $json->decode($_) }
      split /\n/, $self->sql("SELECT row_to_json(q) FROM ($query) AS q", %option);
}

=head2 start_sql(query, database => name), finish_sql(handle)

The same as try_sql, with other things to do meanwhile: finish_sql waits for
the end.  Statements are run one by one.

=cut

sub start_sql
{
    my ($self, $query, %option) = @_;
    my %run = (file => File::Temp->new, out => '', err => '');
    my $psql = $self->{node}->installed_command('psql');
    my @command = ($psql, '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d',
        $self->{node}->connstr($option{database} // $self->{database}), '-f', $run{file}->filename);
    print { $run{file} } $query;
    $run{file}->flush;
    $run{harness} = IPC::Run::start(\@command, '<', \undef, '>', \$run{out}, '2>', \$run{err},
        IPC::Run::timer(DEFAULT_SECONDS));
    return \%run;
}

sub finish_sql
{
    my ($self, $run) = @_;
    $run->{harness}->finish;
    chomp $run->{out};
    return ($run->{harness}->result(0), $run->{out}, $run->{err});
}

=head2 wait_for(query, what => text, seconds => n, database => name)

Polls until the query returns true.  When the deadline passes it dies with the
last answer, the queue's state as far as the query shows it, and the log's end.
Errors on the way (a server just restarting) count as "not yet".

=cut

sub wait_for
{
    my ($self, $query, %option) = @_;
    my $seconds = $option{seconds} // DEFAULT_SECONDS;
    my $what = $option{what} // $query;
    my ($status, $out, $err);
    return 1 if wait_until(
        sub {
            ($status, $out, $err) = $self->try_sql($query, %option);
            return $out eq 't';
        }, $seconds);
    die "gave up after $seconds s waiting for: $what\n"
      . "last answer: '$out' $err\n" . $self->log_tail;
}

=head2 wait_until(code, seconds)

Polls until the code returns true; returns whether it did.  A plain function.

=cut

sub wait_until
{
    my ($code, $seconds) = @_;
    my $deadline = Time::HiRes::time() + $seconds;
    while (1)
    {
        return 1 if $code->();
        return 0 if Time::HiRes::time() >= $deadline;
        Time::HiRes::sleep(POLL_SECONDS);
    }
}

=head2 log_tail(lines), log_offset, log_since(offset)

The end of the server's log; its size now; what was written since.

=cut

sub log_tail
{
    my ($self, $lines) = @_;
    my @log = split /^/, slurp_file($self->log_file);
    $lines //= LOG_TAIL_LINES;
    splice @log, 0, @log - $lines if @log > $lines;
    return "--- end of the server's log:\n" . join '', @log;
}

sub log_offset { return -s $_[0]->log_file }
sub log_since  { return slurp_file($_[0]->log_file, $_[1]) }

=head1 THE WORKER

=head2 dispatcher_pid(database => name), launcher_pid

Process ids, undef when there is none.

=cut

sub dispatcher_pid
{
    my ($self, %option) = @_;
    my $database = $option{database} // $self->{database};
    return $self->_worker_pid("backend_type LIKE 'payment dispatcher%' AND datname = '$database'");
}

sub launcher_pid
{
    my ($self) = @_;
    return $self->_worker_pid("backend_type LIKE 'payment launcher%'");
}

sub _worker_pid
{
    my ($self, $which) = @_;
    my (undef, $pid) = $self->try_sql("SELECT pid FROM pg_stat_activity WHERE $which LIMIT 1",
        database => 'postgres');
    return $pid eq '' ? undef : $pid;
}

=head2 wait_for_dispatcher(seconds => n, database => name)

Until there is one; returns its process id.

=cut

sub wait_for_dispatcher
{
    my ($self, %option) = @_;
    my $seconds = $option{seconds} // DEFAULT_SECONDS;
    my $pid;
    return $pid if wait_until(sub { defined($pid = $self->dispatcher_pid(%option)) }, $seconds);
    die "no dispatcher after $seconds s\n" . $self->log_tail;
}

=head2 kill_dispatcher(signal, database => name)

KILL unless told otherwise.  PostgreSQL answers that with a restart of all its
processes; wait_for_server tells when it is back.  Returns the process id, or
undef when there was none to kill.

=cut

sub kill_dispatcher
{
    my ($self, $signal, %option) = @_;
    my $pid = $self->dispatcher_pid(%option);
    return undef if !defined $pid || !kill($signal // 'KILL', $pid);
    $self->{crashes_wanted}++ if ($signal // '') =~ /^(?:ABRT|SEGV)$/;
    return $pid;
}

=head2 kill_postmaster, kill_everything, restart_postmaster

kill -9 of the postmaster, or of all its processes at once, as in a power cut;
then start again.

=cut

sub kill_postmaster
{
    my ($self) = @_;
    my $pid = $self->{node}->{_pid};
    $self->{node}->kill9;
    # its children notice by themselves, and hold the shared memory until then
    wait_until(sub { !kill(0, $pid) && !$self->_has_backends }, DEFAULT_SECONDS)
      or die "backends outlive their postmaster\n" . $self->log_tail;
    return;
}

sub kill_everything
{
    my ($self) = @_;
    kill 'KILL', $self->_backends;
    return $self->kill_postmaster;
}

# Process ids of all that live in the server's data folder.
sub _backends
{
    my ($self) = @_;
    my $data = Cwd::realpath($self->{node}->data_dir);
    my @pids;
    foreach my $link (glob '/proc/[0-9]*/cwd')
    {
        my $cwd = readlink $link;
        push @pids, $link =~ /(\d+)/ if defined $cwd && $cwd eq $data;
    }
    return @pids;
}

sub _has_backends { return scalar $_[0]->_backends }

sub restart_postmaster
{
    my ($self) = @_;
    $self->{node}->start;
    return;
}

=head2 wait_for_server(seconds)

Until it answers queries.

=cut

sub wait_for_server
{
    my ($self, $seconds) = @_;
    $seconds //= DEFAULT_SECONDS;
    return 1 if wait_until(sub { ($self->try_sql('SELECT true'))[1] eq 't' }, $seconds);
    die "the server does not answer after $seconds s\n" . $self->log_tail;
}

=head1 SECRETS

=head2 write_secret(name, value)

A file that only the server's user can read, in payment.secrets_dir.

=cut

sub write_secret
{
    my ($self, $name, $value) = @_;
    my $path = $self->secrets_dir . "/$name";
    my $umask = umask 0077;
    open my $file, '>', $path or die "$path: $!";
    umask $umask;
    print $file $value;
    close $file or die "$path: $!";
    return $path;
}

=head1 THE SANDBOX

=head2 start_sandbox(fault ..., { option => value })

Starts it on a port of its own choice, with faults as "name=value"; the last
argument may hold options:

  port   a port, to come back where it was (0)
  flags  [ further command line flags ]
  tls    { cert, key }: PEM files to speak TLS with (see TlsFiles); the test
         itself talks to it through curl then, and does not look at them

Its book is kept in a file, so that a sandbox killed and started again knows
what it did.

=cut

sub start_sandbox
{
    my ($self, @faults) = @_;
    my %option = @faults && ref $faults[-1] ? %{ pop @faults } : ();
    my $program = _sandbox_program();
    my $base = $self->{node}->basedir;
    my $secret = $self->secrets_dir . '/sandbox';
    my $port_file = "$base/sandbox.port";

    $self->write_secret('sandbox', 'sk_test_' . join '', map { int rand 10 } 1 .. 24) if !-s $secret;
    unlink $port_file;
    my @command = (
        $program,
        '--bind'            => '127.0.0.1',
        '--port'            => $option{port} // 0,
        '--port-file'       => $port_file,
        '--pid-file'        => "$base/sandbox.pid",
        '--secret-key-file' => $secret,
        '--book'            => "$base/sandbox.book",
        (map { ('--fault' => $_) } @faults),
        ($option{tls} ? ('--tls-cert' => $option{tls}{cert}, '--tls-key' => $option{tls}{key}) : ()),
        @{ $option{flags} // [] });
    my $pid = _spawn($self->sandbox_log, @command);
    $sandboxes{$pid} = $$;
    $self->{sandbox} = { pid => $pid, tls => $option{tls} };
    wait_until(sub { -s $port_file || waitpid($pid, POSIX::WNOHANG()) == $pid }, DEFAULT_SECONDS);
    die "the sandbox does not start: @command\n" . slurp_file($self->sandbox_log) if !-s $port_file;
    chomp(my $port = slurp_file($port_file));
    $self->{sandbox}{port} = $port;
    $self->sandbox('GET', '/_sandbox/healthz');
    return $port;
}

sub _sandbox_program
{
    my $here = File::Basename::dirname(Cwd::realpath(__FILE__));
    return $ENV{PAYMENT_SANDBOX} // "$here/../../sandbox/payment-sandbox";
}

sub _spawn
{
    my ($log, @command) = @_;
    my $pid = fork // die "fork: $!";
    return $pid if $pid;
    open STDIN, '<', '/dev/null' and open STDOUT, '>>', $log and open STDERR, '>&', \*STDOUT
      and exec { $command[0] } @command;
    # no destructors and END blocks of the parent's
    POSIX::_exit(127);
}

=head2 sandbox_log, sandbox_pid, sandbox_port, sandbox_url

What they are called.

=cut

sub sandbox_log
{
    my ($self) = @_;
    return $PostgreSQL::Test::Utils::log_path . '/sandbox_' . $self->{node}->name . '.log';
}
sub sandbox_pid  { return $_[0]->{sandbox}{pid} }
sub sandbox_port { return $_[0]->{sandbox}{port} }
sub sandbox_url
{
    my ($self) = @_;
    return ($self->{sandbox}{tls} ? 'https' : 'http') . '://127.0.0.1:' . $self->sandbox_port;
}

=head2 start_peer(code), stop_peer(port)

A PSP of the test's own, for what the sandbox would not do.  The code gets
method, path and header lines of each request, and returns status, header lines
and body.  start_peer returns its port.

=cut

sub start_peer
{
    my ($self, $code) = @_;
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 128) or die "listen: $!";
    my $port = $listener->sockport;
    my $pid = fork // die "fork: $!";
    if ($pid)
    {
        $sandboxes{$pid} = $$;
        $self->{peers}{$port} = $pid;
        return $port;
    }
    while (my $client = $listener->accept)
    {
        my ($length, $request, @headers) = (0, scalar <$client>);
        next if !defined $request;
        while (defined(my $line = <$client>))
        {
            last if $line eq "\r\n";
            push @headers, $line =~ s/\r\n//r;
            $length = $1 if $line =~ /^Content-Length: (\d+)/i;
        }
        read $client, my ($body), $length;
        my ($method, $path) = split / /, $request;
        my ($status, $header, $answer) = $code->($method, $path, \@headers);
        print $client "HTTP/1.1 $status\r\nConnection: close\r\nContent-Length: ", length $answer,
          "\r\nContent-Type: application/json\r\n", (map { "$_\r\n" } @$header), "\r\n", $answer;
        close $client;
    }
    POSIX::_exit(0);
}

sub stop_peer
{
    my ($self, $port) = @_;
    _end_sandbox(delete $self->{peers}{$port}, 'KILL');
    return;
}

=head2 stop_sandbox(signal)

TERM unless told otherwise; waits for its end.

=cut

sub stop_sandbox
{
    my ($self, $signal) = @_;
    my $sandbox = delete $self->{sandbox} or return;
    _end_sandbox($sandbox->{pid}, $signal // 'TERM');
    return $sandbox->{port};
}

sub _end_sandbox
{
    my ($pid, $signal) = @_;
    delete $sandboxes{$pid};
    kill $signal, $pid;
    return if wait_until(sub { waitpid($pid, POSIX::WNOHANG()) != 0 }, 10);
    kill 'KILL', $pid;
    waitpid $pid, 0;
    return;
}

=head2 sandbox(method, path, form)

One request to it, as its operator or with a hash of form fields.  Returns the
decoded JSON, or the body when it is none; dies unless the answer is 2xx.

=cut

sub sandbox
{
    my ($self, $method, $path, $form) = @_;
    return $self->_sandbox_by_curl($path, $method eq 'POST' ? $form // {} : undef) if $self->{sandbox}{tls};
    my $http = HTTP::Tiny->new(timeout => 30, proxy => undef, http_proxy => undef);
    my $url = $self->sandbox_url . $path;
    my $answer =
      $method eq 'POST'
      ? $http->post_form($url, $form // {})
      : $http->request($method, $url);
    die "$method $url: $answer->{status} $answer->{content}" if !$answer->{success};
    return $answer->{content} if ($answer->{headers}{'content-type'} // '') !~ /json/;
    return JSON::PP->new->utf8->decode($answer->{content});
}

=for comment Perl's core speaks no TLS.

=cut

sub _sandbox_by_curl
{
    my ($self, $path, $form) = @_;
    my @command = (qw(curl -q -s -k -f --noproxy * --max-time 30));
    push @command, map { ('-d' => "$_=$form->{$_}") } sort keys %$form if $form;
    push @command, qw(-X POST) if $form && !%$form;
    my ($out, $err) = ('', '');
    IPC::Run::run([ @command, $self->sandbox_url . $path ], '<', \undef, '>', \$out, '2>', \$err)
      or die "curl $path failed: $err";
    return $path =~ /\.csv$|healthz/ ? $out : JSON::PP->new->utf8->decode($out);
}

=head2 faults(name => value ...)

Switches them, 0 for off; without arguments returns them and how often each
came to pass.

=cut

sub faults
{
    my ($self, %fault) = @_;
    return $self->sandbox(%fault ? ('POST', '/_sandbox/faults', \%fault) : ('GET', '/_sandbox/faults'));
}

=head2 book, requests

What the sandbox did, in totals per currency, and how many requests it got per
endpoint: the truth to compare with.

=cut

sub book     { return $_[0]->sandbox('GET', '/_sandbox/book') }
sub requests { return $_[0]->sandbox('GET', '/_sandbox/requests') }

=head2 charges, payouts, request_log

The same row by row: lists of hash references, by the columns' names.

=cut

sub charges     { return parse_csv($_[0]->sandbox('GET', '/_sandbox/charges.csv')) }
sub payouts     { return parse_csv($_[0]->sandbox('GET', '/_sandbox/payouts.csv')) }
sub request_log { return parse_csv($_[0]->sandbox('GET', '/_sandbox/requests.csv')) }

=head2 parse_csv(text)

A list of hash references, keyed by the first line.  A plain function.

=cut

sub parse_csv
{
    my ($text) = @_;
    my (@rows, @row);
    while ($text =~ /\G(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|\z)/g)
    {
        my ($quoted, $plain, $end) = ($1, $2, $3);
        push @row, defined $quoted ? $quoted =~ s/""/"/gr : $plain;
        next if $end eq ',';
        push @rows, [@row] if @row > 1 || $row[0] ne '';
        @row = ();
        last if $end eq '';
    }
    my $header = shift @rows or return;
    return map { my %by; @by{@$header} = @$_; \%by } @rows;
}

=head2 settle(field => value ...), settlement_csv(id)

Makes a settlement of what was not settled yet; the file of one.

=cut

sub settle { my ($self, %form) = @_; return $self->sandbox('POST', '/_sandbox/settle', \%form) }

sub settlement_csv
{
    my ($self, $id) = @_;
    return $self->sandbox('GET', "/_sandbox/settlement.csv?settlement=$id");
}

=head2 import_settlement(file name, content, argument => value ...)

Imports it for the PSP 'sandbox'; import_text gives the query.

=cut

sub import_settlement { my ($self, @arguments) = @_; return $self->sql($self->import_text(@arguments)) }

sub import_text
{
    my ($self, $file_name, $content, %argument) = @_;
    return $self->call_text(
        'import_settlement',
        psp       => 'sandbox',
        format    => 'stripe_csv',
        file_name => $file_name,
        content   => '\x' . unpack('H*', $content),
        %argument);
}

=head1 BOOK AND LEDGER

=head2 book_differences(database => name, except => [ order ... ])

Compares, order by order and to the last minor unit, what the sandbox charged
with what the ledger took in as psp_receivable.  Returns a list of sentences,
empty when all is equal.

=cut

sub book_differences
{
    my ($self, %option) = @_;
    my (%book, %ledger, %times, @differences);

    # captures of an authorisation are charges of their own, and may be several
    my @charges = $self->charges;
    my %in_parts = map { $_->{payment_order} => 1 } grep { $_->{psp} eq 'paypal' && $_->{status} =~ /^(authorized|captured|voided)$/ } @charges;
    foreach my $charge (grep { $_->{status} eq 'succeeded' } @charges)
    {
        my $key = "$charge->{payment_order} \U$charge->{currency}";
        $book{$key} += $charge->{amount};
        next if $in_parts{ $charge->{payment_order} };
        push @differences, "order $charge->{payment_order} was charged more than once"
          if $times{ $charge->{payment_order} }++ == 1;
    }
    foreach my $row (split /\n/, $self->sql(<<'SQL', %option))
SELECT j.subject || ' ' || a.currency || '=' || sum(e.amount)
FROM payment.journal j
    JOIN payment.entry e ON e.journal_id = j.id
    JOIN payment.account a ON a.id = e.account_id
WHERE j.kind = 'capture' AND a.code = 'psp_receivable'
GROUP BY j.subject, a.currency
SQL
    {
        my ($key, $amount) = split /=/, $row;
        $ledger{$key} = $amount;
    }
    my %except = map { $_ => 1 } @{ $option{except} // [] };
    my %keys = (%book, %ledger);
    foreach my $key (sort keys %keys)
    {
        next if $except{ (split / /, $key)[0] };
        my ($charged, $posted) = ($book{$key} // 0, $ledger{$key} // 0);
        push @differences, "order $key: charged $charged, posted $posted" if $charged != $posted;
    }
    return @differences;
}

=head2 books_agree(name, except => [ order ... ])

One test: no difference, and payment.verify() finds nothing.  Names the first
few differences otherwise.

=cut

sub books_agree
{
    my ($self, $name, %option) = @_;
    my @differences = $self->book_differences(%option);
    my $wrong = $self->sql('SELECT * FROM payment.verify() LIMIT 10');
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $agree = ok(!@differences && $wrong eq '', $name // "the sandbox's book equals the ledger");
    diag(join "\n", grep { defined && $_ ne '' } @differences[ 0 .. 9 ], $wrong) if !$agree;
    return $agree;
}

=head2 balances(code, database => name)

The balances of all accounts of that code, debits positive, as a hash by
currency; those of zero are left out.

=cut

sub balances
{
    my ($self, $code, %option) = @_;
    my @rows = $self->rows(<<"SQL", %option);
SELECT a.currency, sum(e.amount) AS balance
FROM payment.entry e JOIN payment.account a ON a.id = e.account_id
WHERE a.code = '$code' GROUP BY a.currency HAVING sum(e.amount) <> 0
SQL
    return { map { $_->{currency} => $_->{balance} } @rows };
}

=head2 charged_once(order, name), not_charged(order, name)

One test: the order was charged exactly once, or never, by the sandbox's book
as well as by the ledger, and payment.verify() finds nothing.

=cut

sub charged_once
{
    my ($self, $order, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return $self->_charges_are($order, 1, $name);
}

sub not_charged
{
    my ($self, $order, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return $self->_charges_are($order, 0, $name);
}

sub _charges_are
{
    my ($self, $order, $times, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @charges = grep { $_->{payment_order} eq $order && $_->{status} eq 'succeeded' } $self->charges;
    my ($ordered) = $self->rows("SELECT amount, currency FROM payment.payment_order WHERE id = '$order'");
    my @posted = $self->rows(<<"SQL");
SELECT a.currency, sum(e.amount) AS amount
FROM payment.journal j
    JOIN payment.entry e ON e.journal_id = j.id
    JOIN payment.account a ON a.id = e.account_id
WHERE j.subject = '$order' AND j.kind = 'capture' AND a.code = 'psp_receivable'
GROUP BY j.id, a.currency
SQL
    my @expected = map { "$ordered->{amount} $ordered->{currency}" } 1 .. $times;
    return is_deeply(
        {   book   => [ map { "$_->{amount} \U$_->{currency}" } @charges ],
            ledger => [ map { "$_->{amount} $_->{currency}" } @posted ],
            verify => $self->sql('SELECT * FROM payment.verify() LIMIT 10'),
        },
        { book => \@expected, ledger => \@expected, verify => '' },
        $name);
}

=head2 requests_for(method, path)

Rows of the sandbox's request log; the path may be a regular expression.

=cut

sub requests_for
{
    my ($self, $method, $path) = @_;
    return grep { $_->{method} eq $method && (ref $path ? $_->{path} =~ $path : $_->{path} eq $path) }
      $self->request_log;
}

=head1 SHORT WAYS TO USUAL CALLS

=head2 register_psp(name, argument => value ...)

The sandbox as a PSP named 'sandbox'; arguments are payment.register_psp's, and
settings go over those that make tests quick.  Returns its id.

=cut

sub register_psp
{
    my ($self, $name, %argument) = @_;
    my $settings = delete $argument{settings} // {};
    return $self->call(
        'register_psp',
        name        => $name // 'sandbox',
        adapter     => 'stripe',
        base_url    => $argument{base_url} // $self->sandbox_url,
        secret_name => 'sandbox',
        settings    => { %quick_settings, %$settings },
        %argument);
}

=head2 register_seller(reference, argument => value ...)

Returns the seller's id.

=cut

sub register_seller
{
    my ($self, $reference, %argument) = @_;
    return $self->call('register_seller', reference => $reference, name => "Seller $reference", %argument);
}

=head2 checkout(key, orders, argument => value ...), checkout_text(...)

orders: a list of "seller amount currency", or of what payment.checkout takes.
Returns the id of the payment and those of its orders; checkout_text the query,
with these ids in one column.

=cut

sub checkout
{
    my ($self, @arguments) = @_;
    return split / /, $self->sql($self->checkout_text(@arguments));
}

sub checkout_text
{
    my ($self, $key, $orders, %argument) = @_;
    my @orders = map { ref $_ ? $_ : _order($_) } @$orders;
    %argument = (
        idempotency_key => $key,
        payer           => 'payer',
        orders          => \@orders,
        payment_method  => 'pm_card_visa',
        %argument);
    my $call = $self->call_text('checkout', %argument);
    $call =~ s/^SELECT //;
    return "SELECT concat_ws(' ', payment_id, array_to_string(order_ids, ' ')) FROM $call";
}

sub _order
{
    my ($seller, $amount, $currency) = split / /, $_[0];
    return { seller => $seller, amount => $amount + 0, currency => $currency };
}

=head2 wait_until_idle(seconds => n)

Until nothing is left to send or to ask, dead letters apart.

=cut

sub wait_until_idle
{
    my ($self, %option) = @_;
    return $self->wait_for('SELECT NOT EXISTS (SELECT FROM payment.task WHERE dead_at IS NULL)',
        what => 'the queue to be empty', %option);
}

=head2 status_of(order), history_of(object)

The order's status; all statuses that an object ever had, in one line.

=cut

sub status_of
{
    my ($self, $order) = @_;
    return $self->sql("SELECT status FROM payment.payment_order WHERE id = '$order'");
}

sub history_of
{
    my ($self, $object) = @_;
    return $self->sql(<<"SQL");
SELECT string_agg(to_status, ' ' ORDER BY id) FROM payment.status_history WHERE object_id = '$object'
SQL
}

=head2 call(function, argument => value ...)

SELECT payment.function(argument => 'value', ...): values are quoted, undef is
NULL, array and hash references become JSON.  Returns what psql shows.

=cut

sub call
{
    my ($self, $function, %argument) = @_;
    return $self->sql($self->call_text($function, %argument));
}

sub call_text
{
    my ($self, $function, %argument) = @_;
    my @arguments = map { "$_ => " . literal($argument{$_}) } sort keys %argument;
    return "SELECT payment.$function(" . join(', ', @arguments) . ')';
}

=head2 literal(value)

The value as an SQL literal of unknown type.  A plain function.

=cut

sub literal
{
    my ($value) = @_;
    return 'NULL' if !defined $value;
    $value = JSON::PP->new->canonical->encode($value) if ref $value;
    $value =~ s/'/''/g;
    return $value =~ /\\/ ? ' E' . "'" . $value =~ s/\\/\\\\/gr . "'" : "'$value'";
}

# Whatever happened: no sandbox outlives its test.
END
{
    my $status = $?;
    _end_sandbox($_, 'TERM') foreach grep { $sandboxes{$_} == $$ } keys %sandboxes;
    $? = $status;
}

1;
