# What settlement files mean, damaged in every way: the parser of test/fuzz,
# built with sanitizers.  Needs no server.

use strict;
use warnings;

use Cwd ();
use File::Basename ();
use File::Temp ();
use Test::More;

my $fuzz = File::Basename::dirname(Cwd::realpath(__FILE__)) . '/../fuzz';
my $bin  = File::Temp::tempdir(CLEANUP => 1);
my $make = $ENV{MAKE} // 'make';
my $log  = qx(timeout 300 $make -s -C '$fuzz' bin='$bin' '$bin/stripe_csv_fuzz' 2>&1);
plan skip_all => "cannot build the fuzzer here: $log" if !-x "$bin/stripe_csv_fuzz";

local $ENV{ASAN_OPTIONS} = 'detect_leaks=0';
my $output = qx(timeout 300 '$bin/stripe_csv_fuzz' -n 50000 2>&1);
is($?, 0, 'S52 no damaged settlement file crashes the parser or is read in two ways');
diag $output if $?;
done_testing();
