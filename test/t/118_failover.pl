# Two PSPs, each with a book of its own: whatever happens to the first one, an
# order is charged once over both, and nothing moves that may have been charged.
use strict;
use warnings;

use PaymentTest;
use Test::More;

my $t = PaymentTest->new('failover');
my %sandbox;
foreach my $name ('first', 'second')
{
    $t->start_sandbox({ flags => [ '--book' => $t->node->basedir . "/$name.book" ] });
    $sandbox{$name} = delete $t->{sandbox};
    at($name, sub { $t->register_psp($name, settings => { breaker_failures => 1000 }) });
    $t->call('set_routing_rule', name => $name, psp => $name, priority => $name eq 'first' ? 1 : 2);
}
$t->register_seller($_) foreach 'alice', 'bob';

# Talks to that sandbox meanwhile.
sub at
{
    my ($name, $code) = @_;
    $t->{sandbox} = $sandbox{$name};
    my @result = $code->();
    delete $t->{sandbox};
    return wantarray ? @result : $result[0];
}

# as a hash: order => [ where it was charged, once for each time ]
sub charged
{
    my %charged;
    foreach my $name (sort keys %sandbox)
    {
        next if !$sandbox{$name}{pid};
        push @{ $charged{ $_->{payment_order} } }, $name
          foreach grep { $_->{status} eq 'succeeded' } at($name, sub { $t->charges });
    }
    return \%charged;
}

# One test: each of the orders was charged there, and posted so, and no other.
sub charged_at
{
    my ($wanted, $name) = @_;
    my $charged = charged();
    my %posted;
    my $query = q(SELECT j.subject, v.name FROM payment.journal j JOIN payment.entry e ON e.journal_id = j.id
        JOIN payment.account a ON a.id = e.account_id JOIN payment.psp v ON v.id = a.owner
        WHERE j.kind = 'capture' AND a.code = 'psp_receivable');
    push @{ $posted{ $_->{subject} } }, $_->{name} foreach $t->rows($query);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is_deeply(
        {   book   => { map { $_ => $charged->{$_} // [] } keys %$wanted },
            ledger => { map { $_ => $posted{$_} // [] } keys %$wanted },
            verify => $t->sql('SELECT * FROM payment.verify() LIMIT 10'),
        },
        { book => $wanted, ledger => $wanted, verify => '' },
        $name);
}

sub buy
{
    my ($key, $first, $second) = @_;
    return ($t->checkout($key, ['alice 1000 EUR'], payment_method => undef,
            payment_methods => { first => $first // 'pm_card_visa', second => $second // 'pm_card_visa' }))[1];
}

sub attempts_of
{
    my ($order) = @_;
    return $t->sql("SELECT string_agg(concat_ws(' ', v.name, a.attempt_no, a.step, a.outcome, a.decline_class), ', ' ORDER BY a.id)"
          . " FROM payment.attempt a JOIN payment.psp v ON v.id = a.psp_id WHERE a.object_id = '$order'");
}

subtest 'a soft decline goes to the second PSP, a hard one does not' => sub {
    my $soft = buy('soft', 'pm_card_chargeDeclined');
    my $hard = buy('hard', 'pm_card_chargeDeclinedLostCard');
    my $both = buy('both', 'pm_card_chargeDeclined', 'pm_card_chargeDeclinedInsufficientFunds');
    $t->wait_until_idle;
    is(attempts_of($soft), 'first 1 send declined soft, second 2 send succeeded', 'one attempt for each try');
    is($t->history_of($soft), 'created executing captured', 'nobody saw it fail');
    is(attempts_of($hard), 'first 1 send declined hard', 'no second try with that card');
    is(attempts_of($both), 'first 1 send declined soft, second 2 send declined soft', 'declined by both');
    is($t->status_of($both), 'declined', 'and declined in the end');
    charged_at({ $soft => ['second'], $hard => [], $both => [] }, 'charged by the second one only');

    my $again = $t->call('retry_order', payment_order => $both, idempotency_key => 'both again', psp => 'first', payment_method => 'pm_card_visa');
    is($again, 3, 'S10 tried again with another card');
    $t->wait_until_idle;
    is(attempts_of($both), 'first 1 send declined soft, second 2 send declined soft, first 3 send succeeded', 'S10 under a new key');
    charged_at({ $both => ['first'] }, 'S10 charged once');
};

subtest 'a PSP that cannot be reached' => sub {
    my $port = $sandbox{first}{port};
    at('first', sub { $t->stop_sandbox; $sandbox{first} = {} });
    $t->sql(q(UPDATE payment.psp SET max_attempts = 3 WHERE name = 'first'));
    my $order = buy('away');
    $t->wait_until_idle;
    is($t->status_of($order), 'captured', 'paid all the same');
    like(attempts_of($order), qr/^(first 1 send retry, ){3}second 2 send succeeded$/, 'after all tries that the first one has');
    charged_at({ $order => ['second'] }, 'by the second one');
    $t->sql(q(UPDATE payment.psp SET max_attempts = 20 WHERE name = 'first'));
    $t->start_sandbox({ port => $port, flags => [ '--book' => $t->node->basedir . '/first.book' ] });
    $sandbox{first} = delete $t->{sandbox};
};

subtest 'S15 a PSP that charges and does not say so' => sub {
    $t->sql(q(UPDATE payment.psp SET timeout_ms = 300, lookup_delay_ms = 3600000 WHERE name = 'first'));
    at('first', sub { $t->faults(hang_after => 'next:1', lost_answer => 0) });
    my $hung = buy('hung');
    $t->wait_for("SELECT status = 'unknown' FROM payment.payment_order WHERE id = '$hung'");
    at('first', sub { $t->faults(lost_answer => 'next:1') });
    my $lost = buy('lost');
    $t->wait_for("SELECT status = 'unknown' FROM payment.payment_order WHERE id = '$lost'");
    foreach my $order ($hung, $lost)
    {
        is(attempts_of($order), 'first 1 send unknown', 'S15 it stays where it may have been charged');
        my (undef, undef, $err) = $t->try_sql("SELECT payment.retry_order('$order', 'S15 $order', 'second')");
        like($err, qr/cannot be tried again.*charge the payer twice/s, 'S15 also when somebody asks for it');
    }
    $t->sql(q(UPDATE payment.task SET run_at = now()));
    $t->sql(q(UPDATE payment.psp SET timeout_ms = 10000, lookup_delay_ms = 50 WHERE name = 'first'));
    $t->sql('SELECT payment.wake_worker()');
    $t->wait_until_idle;
    charged_at({ $hung => ['first'], $lost => ['first'] }, 'S15 looked up, charged once');
};

subtest 'what waits behind a PSP that hangs' => sub {
    $t->sql(q(UPDATE payment.psp SET timeout_ms = 300, lookup_delay_ms = 3600000, max_in_flight = 1, breaker_failures = 2,
        breaker_pause_ms = 1000, breaker_pause_max_ms = 3600000, breaker_probes = 1 WHERE name = 'first'));
    at('first', sub { $t->faults(hang_after => '100') });
    my @orders = map { buy("queued $_") } 1 .. 20;
    $t->wait_for(q(SELECT count(*) > 0 FROM payment.attempt AS a WHERE a.outcome = 'unknown' AND a.error_code = 'answer_lost'));
    $t->wait_for("SELECT bool_and(status IN ('captured', 'unknown')) FROM payment.payment_order WHERE id IN ('"
          . join("','", @orders) . "')");
    my %wanted;
    foreach my $order (@orders)
    {
        my $attempts = attempts_of($order);
        if ($attempts =~ /first/)
        {
            is($attempts, 'first 1 send unknown', 'what may have been charged stays');
            $wanted{$order} = ['first'];
            next;
        }
        is($attempts, 'second 1 send succeeded', 'what was never sent goes on to the second PSP');
        $wanted{$order} = ['second'];
    }
    cmp_ok(scalar(grep { $_->[0] eq 'second' } values %wanted), '>', 10, 'most had only waited');

    at('first', sub { $t->faults(hang_after => 0) });
    $t->sql(q(UPDATE payment.psp SET timeout_ms = 10000, lookup_delay_ms = 50, max_in_flight = 64, breaker_failures = 1000,
        breaker_pause_ms = 5000, breaker_probes = 3 WHERE name = 'first'));
    $t->sql(q(UPDATE payment.task SET run_at = now()));
    $t->sql(q(SELECT payment.reset_breaker('first')));
    $t->wait_until_idle;
    charged_at(\%wanted, 'each is charged once, by one of them');
};

subtest 'killed at any moment' => sub {
    my @cards = qw(pm_card_visa pm_card_chargeDeclined pm_card_chargeDeclinedProcessingError pm_card_chargeDeclinedLostCard);
    at('first', sub { $t->faults(lost_answer => '10.0', rate_limit => '5.0', retry_after_s => 0, latency_ms => 5) });
    at('second', sub { $t->faults(lost_answer => '10.0', rate_limit => '5.0', retry_after_s => 0, latency_ms => 5) });
    my %card;
    foreach my $n (1 .. 120)
    {
        my $card = $cards[ $n % @cards ];
        $card{ buy("kill $n", $card) } = $card;
        next if $n % 40;
        $t->wait_for("SELECT count(*) >= $n / 2 FROM payment.attempt WHERE operation = 'pay' AND psp_id ="
              . q( (SELECT id FROM payment.psp WHERE name = 'first')));
        $t->wait_for_dispatcher;
        $t->kill_dispatcher('KILL');
        $t->wait_for_server;
    }
    at($_, sub { $t->faults(reset => 1) }) foreach 'first', 'second';
    $t->wait_until_idle(seconds => 120);
    my $charged = charged();
    my @wrong = grep { $card{$_} !~ /LostCard/ && @{ $charged->{$_} // [] } != ($t->status_of($_) eq 'captured') } keys %card;
    is_deeply(\@wrong, [], 'captured here is charged once there, and nothing else is');
    my ($moved) = $t->rows(q(SELECT count(*) FROM payment.payment_order WHERE attempt_no > 1 AND psp = 'second' AND status = 'captured'));
    cmp_ok($moved->{count}, '>', 10, 'many went on to the second PSP');
    is($t->sql(q(SELECT count(*) FROM payment.exception WHERE type IN ('late_success', 'duplicate'))), 0, 'no money came twice');
    is($t->sql('SELECT count(*) FROM payment.dead_letter'), 0, 'nothing was given up');
    my %wanted = map { $_ => $charged->{$_} // [] } keys %card;
    charged_at(\%wanted, 'the ledger has it with the PSP that charged');
};

at($_, sub { $t->stop_sandbox }) foreach 'first', 'second';
$t->finish;
