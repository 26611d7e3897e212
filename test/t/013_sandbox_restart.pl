# What the sandbox PSP keeps across kill -9, and what it forgets.

use strict;
use warnings;

use FindBin;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

use lib "$FindBin::RealBin/../lib";
use SandboxTest;

subtest 'a book that outlives kill -9' => sub {
    my @book = ('--book', path_of('book'), '--payout-delay-ms', 200, '--processing-delay-ms', 700);
    start(@book);
    my %key = map { $_ => new_key() } qw(paid declined payout);
    my $paid = pay({ 'metadata[payment_order]' => 'kept', description => "a\n\"b\"" }, key => $key{paid});
    my $declined = pay({ payment_method => 'pm_card_chargeDeclined' }, key => $key{declined});
    my $payout = payout({ 'metadata[payout]' => 'kept' }, key => $key{payout});
    my $manual = pay({ capture_method => 'manual' })->{json}{id};
    pay({ amount => 100 + $_, currency => 'jpy', 'metadata[payment_order]' => "jpy-$_" }) foreach 1 .. 9;
    my $settlement = post('/_sandbox/settle', [ plant => 'amount:2,missing:1,duplicate:1' ])->{json};
    my $csv_path = "/_sandbox/settlement.csv?settlement=$settlement->{id}&payouts=1";
    wait_until(sub { get(PAYOUTS . "/$payout->{json}{id}")->{json}{status} eq 'paid' });
    my @paths = (
        INTENTS . '?limit=100', PAYOUTS . '?limit=100', '/v1/balance', '/v1/balance_transactions?limit=100',
        '/_sandbox/charges.csv', '/_sandbox/payouts.csv', '/_sandbox/book', $csv_path);
    my %before = map { $_ => get($_)->{content} } @paths;
    my $other = (run('--book', path_of('book')))[0];
    isnt($other, 0, 'no second sandbox on the same book');
    is(stop('KILL'), -9, 'killed');

    start(@book);
    is(get($_)->{content}, $before{$_}, "the same: $_") foreach @paths;
    foreach my $case ([ paid => $paid, {} ], [ declined => $declined, { payment_method => 'pm_card_chargeDeclined' } ])
    {
        my ($name, $first, $changes) = @$case;
        $changes = { 'metadata[payment_order]' => 'kept', description => "a\n\"b\"" } if $name eq 'paid';
        my $again = pay($changes, key => $key{$name});
        is($again->{content}, $first->{content}, "$name: replayed after the restart");
        is($again->{headers}{'idempotent-replayed'}, 'true', 'as such');
    }
    is(pay({ amount => 5 }, key => $key{paid})->{status}, 400, 'other parameters are still refused');
    is(payout({ 'metadata[payout]' => 'kept' }, key => $key{payout})->{content}, $payout->{content}, 'a payout');
    is(post(INTENTS . "/$manual/capture", [])->{json}{status}, 'succeeded', 'an authorization goes on');
    my $processing = pay({ payment_method => 'pm_sandbox_processing' })->{json}{id};
    stop('KILL');

    start(@book);
    wait_until(sub { get(INTENTS . "/$processing")->{json}{status} eq 'succeeded' });
    is(post('/_sandbox/settle', [])->{json}{charges}, 2, 'only what is new is settled');
    stop('KILL');

    # A record that was only written in part was never answered.
    my $whole = -s path_of('book');
    open my $out, '>>:raw', path_of('book') or die "book: $!";
    print {$out} "\xff\x00\x00\x00torn";
    close $out;
    start(@book);
    is(-s path_of('book'), $whole, 'a torn record is cut off');
    is(pay()->{status}, 200, 'and it goes on');
    is(stop(), 0, 'stopped');

    my $copy = slurp(path_of('book'));
    substr $copy, 200, 1, chr(ord(substr $copy, 200, 1) ^ 1);
    open $out, '>:raw', path_of('damaged') or die "damaged: $!";
    print {$out} $copy;
    close $out;
    my ($status, $text) = run('--book', path_of('damaged'));
    is($status, 1, 'a damaged book');
    like($text, qr/is damaged at byte \d+/, 'is not silently forgotten');
    open $out, '>', path_of('foreign') or die "foreign: $!";
    print {$out} "something else altogether\n";
    close $out;
    ($status, $text) = run('--book', path_of('foreign'));
    is(slurp(path_of('foreign')), "something else altogether\n", 'another file is left alone');
    like($text, qr/is not a book/, 'and not taken for a book');
};

subtest 'kill -9 under load' => sub {
    my @book = ('--book', path_of('load'));
    start(@book);
    my @answered;
    my @pids;
    foreach my $writer (1 .. 4)
    {
        my $pid = fork // die "fork: $!";
        if (!$pid)
        {
            open my $out, '>', path_of("answered.$writer") or POSIX::_exit(1);
            $out->autoflush(1);
            for (my $n = 1;; $n++)
            {
                my $answer = pay({ amount => $n }, key => "load-$writer-$n");
                last if $answer->{status} != 200;
                print {$out} "load-$writer-$n $n $answer->{json}{id}\n";
            }
            POSIX::_exit(0);
        }
        push @pids, $pid;
    }
    sleep 1;
    stop('KILL');
    waitpid $_, 0 foreach @pids;
    push @answered, split /\n/, slurp(path_of("answered.$_")) foreach 1 .. 4;
    cmp_ok(scalar @answered, '>', 50, scalar(@answered) . ' answered');
    start(@book);
    my ($lost, $new) = (0, 0);
    foreach my $line (@answered)
    {
        my ($key, $amount, $id) = split / /, $line;
        my $again = pay({ amount => $amount }, key => $key);
        $new++ if !$again->{headers}{'idempotent-replayed'};
        $lost++ if ($again->{json}{id} // '') ne $id;
    }
    is($lost, 0, 'nothing that was answered is lost');
    is($new, 0, 'and nothing was executed again');
    my %charges;
    $charges{ $_->{idempotency_key} }++ foreach csv(get('/_sandbox/charges.csv')->{content});
    is(scalar(grep { $_ > 1 } values %charges), 0, 'one charge for each key');
    is(stop(), 0, 'stopped');
};

subtest 'keys are forgotten' => sub {
    start('--idempotency-ttl-s', 2);
    my $key = new_key();
    my $first = pay({}, key => $key)->{json}{id};
    is(pay({}, key => $key)->{json}{id}, $first, 'replayed');
    sleep 2.1;
    my $second = pay({}, key => $key);
    isnt($second->{json}{id}, $first, 'a pruned key makes a new payment');
    is($second->{headers}{'idempotent-replayed'}, undef, 'which is no replay');
    is(counts()->{kept_keys}, 1, 'one key is kept');
    is(stop(), 0, 'stopped');
};

finish();
