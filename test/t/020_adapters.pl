# What PSPs' answers and events mean: for each adapter the table of cases, truncations and
# mutations of test/fuzz, built with sanitizers.  Needs no server.

use strict;
use warnings;

use Cwd ();
use File::Basename ();
use File::Temp ();
use Test::More;

my $fuzz = File::Basename::dirname(Cwd::realpath(__FILE__)) . '/../fuzz';
my $bin  = File::Temp::tempdir(CLEANUP => 1);
my $make = $ENV{MAKE} // 'make';

foreach my $subject (qw(adyen_answer paypal_answer stripe_answer event))
{
    my $program = "$bin/${subject}_fuzz";
    my $log     = qx(timeout 300 $make -s -C '$fuzz' bin='$bin' '$program' 2>&1);
    plan skip_all => "cannot build the fuzzer here: $log" if !-x $program;
    check($subject, $program);
}
done_testing();

sub check
{
    my ($subject, $program) = @_;
    local $ENV{ASAN_OPTIONS} = 'detect_leaks=0';
    my @output = split /\n/, qx(timeout 300 '$program' -n 50000 2>&1);
    is($?, 0, "$subject: nothing damaged is taken for money");
    foreach my $line (grep { /^(not )?ok - / } @output)
    {
        my ($not, $name) = $line =~ /^(not )?ok - (.*)/;
        ok(!$not, "$subject: $name");
    }
    diag join "\n", grep { !/^ok - / } @output if $?;
    return;
}
