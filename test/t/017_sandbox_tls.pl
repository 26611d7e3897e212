# The sandbox PSP behind TLS, with certificates that are good and such that are not.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::RealBin/../lib";
use SandboxTest;
use TlsFiles;

plan(skip_all => 'openssl or curl is missing')
  if !TlsFiles::available() || system('curl --version >/dev/null 2>&1') != 0;

my $folder = path_of('tls');
mkdir $folder or die "$folder: $!";
my $ca = TlsFiles::authority($folder, 'ca');
my $other_ca = TlsFiles::authority($folder, 'other-ca');

# curl's exit status, the HTTP status, and the body.
sub curl
{
    my (@arguments) = @_;
    my $url = "https://127.0.0.1:" . sandbox->{port};
    my $body = path_of('body');
    unlink $body;
    open my $out, '-|', 'curl', '-q', '-s', '--noproxy', '*', '--max-time', 20, '-o', $body, '-w', '%{http_code}', @arguments[ 0 .. $#arguments - 1 ],
      $url . $arguments[-1]
      or die "curl: $!";
    my $status = readline $out;
    close $out;
    return ($? >> 8, $status, slurp($body));
}

# https is not what the tests' own client speaks: started on a port file of its own.
sub start_tls
{
    my ($files, @flags) = @_;
    return start('--tls-cert', $files->{cert}, '--tls-key', $files->{key}, @flags);
}

subtest 'a good certificate' => sub {
    start_tls(TlsFiles::certificate($folder, 'good', authority => $ca));
    my ($exit, $status, $body) = curl('--cacert', $ca->{cert}, '/_sandbox/healthz');
    is_deeply([ $exit, $status, $body ], [ 0, 200, "ok\n" ], 'trusted by who knows the authority');
    ($exit) = curl('--cacert', $other_ca->{cert}, '/_sandbox/healthz');
    is($exit, 60, 'and by nobody else');
    ($exit) = curl('/_sandbox/healthz');
    is($exit, 60, 'nor with the authorities of the system');
    my @pay = ('--cacert', $ca->{cert}, '-H', 'Authorization: Bearer sk_test_sandbox', '-d',
        'amount=1000&currency=usd&payment_method=pm_card_visa&confirm=true', '/v1/payment_intents');
    ($exit, $status, $body) = curl(@pay);
    is($status, 200, 'paid');
    like($body, qr/"status":"succeeded"/, 'with success');
    curl('--cacert', $ca->{cert}, '-d', "$_=next:1", '/_sandbox/faults') foreach qw(lost_answer reset_after reset);
    foreach my $fault (1 .. 3)
    {
        ($exit, $status) = curl(@pay);
        ok($exit != 0 && $status eq '000', "fault $fault leaves no answer");
    }
    ($exit, $status, $body) = curl('--cacert', $ca->{cert}, '/_sandbox/book');
    like($body, qr/"charges_succeeded":3\b/, 'the book is as it should be');
    my ($got, $end) = raw("GET /_sandbox/healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    unlike($got, qr/200 OK/, 'no answer without TLS');
    is(stop(), 0, 'stopped');
};

subtest 'bad certificates' => sub {
    my %case = (
        'another host name' => [ 'other-name', authority => $ca, names => ['DNS:psp.example'] ],
        'expired'           => [ 'expired', authority => $ca, from => -30, to => -1 ],
        'not valid yet'     => [ 'future', authority => $ca, from => 2, to => 30 ],
        'self-signed'       => ['alone'],
        'of another authority' => [ 'foreign', authority => $other_ca ]);
    foreach my $name (sort keys %case)
    {
        start_tls(TlsFiles::certificate($folder, @{ $case{$name} }));
        my ($exit, $status) = curl('--cacert', $ca->{cert}, '/_sandbox/healthz');
        is_deeply([ $exit, $status ], [ 60, '000' ], "refused: $name");
        ($exit, $status) = curl('-k', '/_sandbox/healthz');
        is($status, 200, 'although it answers who does not ask');
        is(stop(), 0, 'stopped');
    }
};

subtest 'wrong files' => sub {
    my $one = TlsFiles::certificate($folder, 'one', authority => $ca);
    my $two = TlsFiles::certificate($folder, 'two', authority => $ca);
    my ($status, $text) = run('--tls-cert', $one->{cert});
    ok($status != 0, 'a certificate without a key');
    like($text, qr/belong together/, 'is explained');
    ($status, $text) = run('--tls-cert', $one->{cert}, '--tls-key', $two->{key});
    ok($status != 0, 'a key that is not its own');
    ($status, $text) = run('--tls-cert', '/nonexistent/cert', '--tls-key', $two->{key});
    ok($status != 0, 'a file that is not there');
    like($text, qr/could not open/, 'is named');
};

finish();
