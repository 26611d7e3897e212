# Whom the worker trusts: a certificate that is in order, for the host that was
# asked for, and nobody else. What is refused was never sent.
use strict;
use warnings;

use IO::Socket::INET;
use PaymentTest;
use POSIX ();
use Test::More;
use TlsFiles;

plan(skip_all => 'openssl or curl is missing')
  if !TlsFiles::available() || system('curl --version >/dev/null 2>&1') != 0;

# A proxy that leads nowhere: whoever takes it from the environment gets nowhere.
local @ENV{qw(http_proxy https_proxy all_proxy HTTPS_PROXY ALL_PROXY)} = ('http://127.0.0.1:1') x 5;

my $t = PaymentTest->new('tls');
my $folder = $t->node->basedir . '/tls';
mkdir $folder or die "$folder: $!";
my $ca = TlsFiles::authority($folder, 'ca');
my $good = TlsFiles::certificate($folder, 'good', authority => $ca);
my $port = $t->start_sandbox({ tls => $good });
my $url = $t->sandbox_url;

$t->configure('payment.ca_file' => $ca->{cert});
$t->register_psp;
$t->register_seller('alice');

sub restart_with
{
    my ($files) = @_;
    $t->stop_sandbox;
    $t->start_sandbox({ tls => $files, port => $port });
    return;
}

# An order that cannot be sent; what its first attempt says.
sub refused
{
    my ($key) = @_;
    my (undef, $order) = $t->checkout($key, ['alice 1000 USD']);
    $t->wait_for("SELECT count(*) > 1 FROM payment.attempt WHERE object_id = '$order' AND outcome IS NOT NULL",
        what => 'two tries');
    my ($attempt) = $t->rows("SELECT * FROM payment.attempt WHERE object_id = '$order' ORDER BY id LIMIT 1");
    return ($order, $attempt);
}

sub is_refused
{
    my ($key, $code, $message) = @_;
    my ($order, $attempt) = refused($key);
    is_deeply([ @$attempt{qw(outcome http_status error_code)} ], [ 'retry', undef, $code ], "$key: $code");
    like($attempt->{error_message}, $message, 'in words');
    is($t->status_of($order), 'executing', 'surely not sent: it waits');
    return $order;
}

subtest 'a certificate of the authority in payment.ca_file' => sub {
    my (undef, $order) = $t->checkout('good', ['alice 1000 USD']);
    $t->wait_until_idle;
    $t->charged_once($order, 'is trusted; the proxies of the environment are not used');
};

subtest 'a host name that is the certificate\'s, and one that is not' => sub {
    $t->register_psp('sandbox', base_url => "https://localhost:$port");
    my (undef, $order) = $t->checkout('localhost', ['alice 1000 USD']);
    $t->wait_until_idle;
    $t->charged_once($order, 'the name that was asked for counts');
    $t->register_psp;
};

my %bad = (
    'another host name'    => [ 'tls_wrong_host_name', qr/127\.0\.0\.1/, 'other', authority => $ca, names => ['DNS:psp.example'] ],
    'expired'              => [ 'tls_expired_certificate', qr/expired/i, 'expired', authority => $ca, from => -30, to => -1 ],
    'not valid yet'        => [ 'tls_expired_certificate', qr/not yet valid/i, 'future', authority => $ca, from => 2, to => 30 ],
    'self-signed'          => [ 'tls_untrusted_certificate', qr/self.signed/i, 'alone' ],
    'of another authority' => [
        'tls_untrusted_certificate', qr/issuer/i, 'foreign',
        authority => TlsFiles::authority($folder, 'other-ca') ]);
foreach my $name (sort keys %bad)
{
    my ($code, $message, @certificate) = @{ $bad{$name} };
    subtest "a certificate that is bad: $name" => sub {
        restart_with(TlsFiles::certificate($folder, @certificate));
        my $order = is_refused($name, $code, $message);
        is(scalar(grep { $_->{path} =~ m{^/v1/} } $t->request_log), 0, 'no request has reached the PSP');
        restart_with($good);
        $t->wait_until_idle;
        $t->charged_once($order, 'charged once, when the PSP has mended it');
    };
}

subtest 'without payment.ca_file the system\'s authorities count' => sub {
    $t->configure('payment.ca_file' => '');
    $t->wait_for(q(SELECT current_setting('payment.ca_file') = ''), what => 'the reload');
    my $order = is_refused('system', 'tls_untrusted_certificate', qr/issuer|self.signed/i);
    $t->configure('payment.ca_file' => "$folder/nowhere.pem");
    $t->wait_for("SELECT count(*) > 0 FROM payment.attempt WHERE object_id = '$order' AND error_code = 'tls_ca_file'",
        what => 'a file that is not there');
    is($t->status_of($order), 'executing', 'a file that cannot be read trusts nobody');
    $t->configure('payment.ca_file' => $ca->{cert});
    $t->wait_until_idle;
    $t->charged_once($order, 'charged once, with the file set again');
};

subtest 'less than TLS 1.2' => sub {
    my $free = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 1) or die "listen: $!";
    my $old_port = $free->sockport;
    close $free;
    my $pid = fork // die "fork: $!";
    if (!$pid)
    {
        open STDIN,  '<', '/dev/null';
        open STDOUT, '>', '/dev/null';
        open STDERR, '>', '/dev/null';
        exec qw(openssl s_server -tls1_1 -cipher ALL:@SECLEVEL=0 -quiet -accept), "127.0.0.1:$old_port", '-cert',
          $good->{cert}, '-key', $good->{key}
          or POSIX::_exit(127);
    }
    my $listens = PaymentTest::wait_until(sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $old_port) }, 30);
    ok($listens, 'a server that speaks TLS 1.1');
    $t->register_psp('sandbox', base_url => "https://127.0.0.1:$old_port");
    my $order = is_refused('TLS 1.1', 'tls_failed', qr/version|protocol|alert/i);
    kill 'KILL', $pid;
    waitpid $pid, 0;
    $t->register_psp;
    $t->wait_until_idle;
    $t->charged_once($order, 'charged once elsewhere');
};

subtest 'S13 a redirect is not followed' => sub {
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 5, ReuseAddr => 1)
      or die "listen: $!";
    my $pid = fork // die "fork: $!";
    if (!$pid)
    {
        while (my $client = $listener->accept)
        {
            local $/ = "\r\n\r\n";
            my $head = readline $client;
            my ($length) = $head =~ /^Content-Length: (\d+)/im;
            read $client, my $body, $length if $length;
            print {$client} "HTTP/1.1 307 Temporary Redirect\r\nLocation: $url/v1/payment_intents\r\n"
              . "Content-Length: 0\r\nConnection: close\r\n\r\n";
            close $client;
        }
        POSIX::_exit(0);
    }
    my $before = scalar $t->request_log;
    $t->register_psp('sandbox', base_url => 'http://127.0.0.1:' . $listener->sockport);
    my (undef, $order) = $t->checkout('redirect', ['alice 1000 USD']);
    $t->wait_for("SELECT count(*) > 1 FROM payment.attempt WHERE object_id = '$order' AND outcome IS NOT NULL", what => 'two tries');
    my ($attempt) = $t->rows("SELECT * FROM payment.attempt WHERE object_id = '$order' ORDER BY id LIMIT 1");
    is_deeply([ @$attempt{qw(outcome http_status error_code)} ], [ 'unknown', 307, 'http_307' ], 'unknown');
    is(scalar(grep { $_->{path} =~ m{^/v1/} } ($t->request_log)[ $before .. scalar($t->request_log) - 1 ]), 0,
        'where it leads, nothing has come');
    $t->register_psp;
    kill 'KILL', $pid;
    waitpid $pid, 0;
    $t->wait_until_idle;
    $t->charged_once($order, 'looked up at the PSP, then charged once');
};

$t->books_agree;
$t->finish;
