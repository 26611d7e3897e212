=head1 NAME

TlsFiles - private certificate authorities and certificates of all kinds

=head1 SYNOPSIS

  use TlsFiles;

  my $ca = TlsFiles::authority($folder, 'ca');       # { cert, key }, names of PEM files
  my $good = TlsFiles::certificate($folder, 'good', authority => $ca);
  my $other = TlsFiles::certificate($folder, 'other', authority => $ca, names => ['DNS:psp.example']);
  my $expired = TlsFiles::certificate($folder, 'expired', authority => $ca, from => -30, to => -1);
  my $alone = TlsFiles::certificate($folder, 'alone');   # self-signed

Core modules only, and the program openssl.  from and to are days from now; names are for
127.0.0.1 and localhost unless they are given.

=cut

package TlsFiles;

use strict;
use warnings;

use Cwd ();
use POSIX ();

# Whether there is a program to make them with.
sub available { return system('openssl version >/dev/null 2>&1') == 0 }

sub openssl
{
    my ($folder, @arguments) = @_;
    my $log = "$folder/openssl.log";
    my $pid = fork // die "fork: $!";
    if (!$pid)
    {
        open STDIN,  '<',  '/dev/null' or POSIX::_exit(127);
        open STDOUT, '>',  $log        or POSIX::_exit(127);
        open STDERR, '>&', \*STDOUT    or POSIX::_exit(127);
        exec 'openssl', @arguments or POSIX::_exit(127);
    }
    waitpid $pid, 0;
    return if $? == 0;
    open my $in, '<', $log or die "openssl @arguments failed\n";
    local $/ = undef;
    die "openssl @arguments failed:\n" . readline $in;
}

sub write_file
{
    my ($file, $text) = @_;
    open my $out, '>', $file or die "$file: $!";
    print {$out} $text;
    close $out or die "$file: $!";
    return;
}

sub days { my ($days) = @_; return POSIX::strftime('%Y%m%d%H%M%SZ', gmtime(time + $days * 86400)) }

# A key, and a request for a certificate with these extensions.
sub key_and_request
{
    my ($base, $name, $folder, $names, $is_authority) = @_;
    my $usage = $is_authority ? 'critical,keyCertSign,cRLSign' : 'critical,digitalSignature';
    my $constraint = $is_authority ? 'critical,CA:TRUE' : 'critical,CA:FALSE';
    my $alternatives = $is_authority ? '' : 'subjectAltName=' . join(',', @$names) . "\n";
    write_file("$base.cnf", <<"CNF");
[req]
prompt=no
distinguished_name=subject
[subject]
CN=payment test $name
[extensions]
basicConstraints=$constraint
keyUsage=$usage
subjectKeyIdentifier=hash
$alternatives
[authority]
database=$base.index
new_certs_dir=$folder
rand_serial=yes
default_md=sha256
policy=any
unique_subject=no
[any]
commonName=supplied
CNF
    write_file("$base.index", '');
    openssl($folder, qw(genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out), "$base.key");
    openssl($folder, qw(req -new -config), "$base.cnf", '-key', "$base.key", '-out', "$base.csr");
    return;
}

sub sign_request
{
    my ($base, $folder, $option) = @_;
    my $ca = $option->{authority};
    openssl($folder, qw(ca -batch -notext -name authority -config),
        "$base.cnf", qw(-extensions extensions -startdate),
        days($option->{from} // -1),
        '-enddate', days($option->{to} // 30), '-in', "$base.csr", '-out', "$base.pem",
        $ca
        ? ('-cert', $ca->{cert}, '-keyfile', $ca->{key})
        : ('-selfsign', '-keyfile', "$base.key"));
    return { cert => "$base.pem", key => "$base.key" };
}

sub authority
{
    my ($folder, $name) = @_;
    my $base = Cwd::realpath($folder) . "/$name";
    key_and_request($base, $name, $folder, [], 1);
    return sign_request($base, $folder, {});
}

sub certificate
{
    my ($folder, $name, %option) = @_;
    my $base = Cwd::realpath($folder) . "/$name";
    key_and_request($base, $name, $folder, $option{names} // [ 'IP:127.0.0.1', 'DNS:localhost' ], 0);
    return sign_request($base, $folder, \%option);
}

1;
