# Exactly once: whatever callers, worker and PSP do, an order is charged once
# or never, and the sandbox's book, the ledger and verify() say the same.
use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use PaymentTest;
use Test::More;

my $t = PaymentTest->new('exactly_once');
$t->start_sandbox;
my $psp = $t->register_psp;
$t->register_seller($_) foreach qw(alice bob carol);

# A transaction that calls this stays open until the gate is opened.
$t->sql(<<'SQL');
CREATE TABLE opened (name text);
CREATE PROCEDURE wait_for_gate(gate text) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. 600 LOOP
        IF EXISTS (SELECT FROM opened WHERE name = gate) THEN RETURN; END IF;
        PERFORM pg_sleep(0.1);
    END LOOP;
    RAISE 'nobody opened the gate %', gate;
END
$$;
SQL

sub open_gate { return $t->sql("INSERT INTO opened VALUES ('$_[0]')") }

# Until the session of that application_name waits for another transaction.
sub wait_until_blocked
{
    my ($name) = @_;
    return $t->wait_for(<<"SQL", what => "$name to wait for a lock");
SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = '$name' AND wait_event_type = 'Lock'
SQL
}

# How often the sandbox was asked to charge, and did.
sub sends
{
    my ($order) = @_;
    my @sends = grep { $_->{idempotency_key} =~ /^$order:pay:/ } $t->requests_for('POST', '/v1/payment_intents');
    my %keys = map { $_->{idempotency_key} => 1 } @sends;
    return { sent => scalar @sends, executed => scalar(grep { $_->{executed} eq 'yes' } @sends),
        keys => [ sort keys %keys ] };
}

sub attempts
{
    my ($order) = @_;
    return $t->rows(<<"SQL");
SELECT step, attempt_no, psp_key, outcome, http_status, error_code,
    extract(epoch FROM claimed_at) AS claimed_at
FROM payment.attempt WHERE object_id = '$order' ORDER BY id
SQL
}

# The worker's process dies, and with it all others: PostgreSQL starts anew.
sub kill_worker
{
    my $killed = $t->kill_dispatcher;
    PaymentTest::wait_until(sub { !kill 0, $killed }, 60) or die 'the dispatcher does not die';
    $t->wait_for_server;
    return;
}

sub checkout_one
{
    my ($key, %argument) = @_;
    my (undef, $order) = $t->checkout($key, ['alice 1000 USD'], %argument);
    return $order;
}

subtest 'S01 pay is clicked eight times at once' => sub {
    my $query = $t->checkout_text('S01', ['alice 1000 USD']);
    my @clicks = map { $t->start_sql($query) } 1 .. 8;
    my @answers = map { [ $t->finish_sql($_) ] } @clicks;
    my ($first) = map { $_->[1] } @answers;
    is_deeply([ map { $_->[1] . $_->[2] } @answers ], [ ($first) x 8 ], 'all get the same answer');
    my ($payment, $order) = split / /, $first;
    $t->wait_until_idle;
    $t->charged_once($order, 'S01 one charge');
    is_deeply(sends($order), { sent => 1, executed => 1, keys => ["$order:pay:1"] }, 'S01 one PSP request');
    is($t->sql(q(SELECT count(*) FROM payment.payment)), 1, 'one payment');
    is($t->sql($query), $first, 'a ninth click later gets that answer too');
};

subtest 'S02 the same key with another body' => sub {
    my $order = checkout_one('S02');
    my @others = (
        $t->checkout_text('S02', ['alice 1001 USD']),
        $t->checkout_text('S02', ['alice 1000 EUR']),
        $t->checkout_text('S02', ['bob 1000 USD']),
        $t->checkout_text('S02', [ 'alice 1000 USD', 'bob 1 USD' ]),
        $t->checkout_text('S02', ['alice 1000 USD'], payer => 'somebody else'),
        $t->checkout_text('S02', ['alice 1000 USD'], payment_method => 'pm_card_mastercard'),
        $t->checkout_text('S02', ['alice 1000 USD'], metadata => { a => 1 }),
        $t->call_text('payout', seller => $t->call('seller_id', reference => 'alice'), amount => 1,
            currency => 'USD', destination => 'ba_sandbox_1', idempotency_key => 'S02'));
    is($t->sqlstate($_), 'PY100', $_) foreach @others;
    $t->wait_until_idle;
    $t->charged_once($order, 'S02 the first is charged once');
    is(sends($order)->{sent}, 1, 'S02 and nothing else was sent');
};

subtest 'S03 the same key while the first call runs' => sub {
    my $query = $t->checkout_text('S03', ['alice 1000 USD']);
    my $first = $t->start_sql("BEGIN; $query; CALL wait_for_gate('S03'); COMMIT");
    $t->wait_for(q(SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'), what => 'the first');
    my $second = $t->start_sql("SET application_name = 'S03'; $query");
    wait_until_blocked('S03');
    is($t->sql(q(SELECT count(*) FROM payment.task)), 0, 'nothing to send before the commit');
    open_gate('S03');
    my (undef, $answer) = $t->finish_sql($first);
    is(($t->finish_sql($second))[1], $answer, 'S03 the second waits and gets the answer of the first');
    my ($payment, $order) = split / /, $answer;
    $t->wait_until_idle;
    $t->charged_once($order, 'S03 one charge');
    is(sends($order)->{sent}, 1, 'S03 one PSP request');

    $query = $t->checkout_text('S03 rolled back', ['alice 1000 USD']);
    $first = $t->start_sql("BEGIN; $query; CALL wait_for_gate('S03 again'); ROLLBACK");
    $t->wait_for(q(SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'), what => 'the first');
    $second = $t->start_sql("SET application_name = 'S03 again'; $query");
    wait_until_blocked('S03 again');
    open_gate('S03 again');
    my ($gone) = ($t->finish_sql($first))[1];
    my ($status, $own) = $t->finish_sql($second);
    isnt($own, $gone, 'when the first rolls back, the second does the work');
    $t->wait_until_idle;
    $t->charged_once((split / /, $own)[1], 'S03 one charge then, too');
    $t->not_charged((split / /, $gone)[1], 'S03 and none for what was rolled back');
};

subtest 'S17 the caller rolls back' => sub {
    my $before = scalar $t->request_log;
    my $checkout = $t->checkout_text('S17', [ 'alice 1000 USD', 'bob 2 USD' ]);
    $t->sql("BEGIN; $checkout; ROLLBACK");
    $t->sql("BEGIN; SAVEPOINT a; $checkout; ROLLBACK TO a; COMMIT");
    my $perform = $checkout =~ s/^SELECT/PERFORM/r;
    $t->sql("DO \$\$ BEGIN $perform; RAISE 'no'; EXCEPTION WHEN raise_exception THEN NULL; END \$\$");
    $t->sql("BEGIN; $checkout; PREPARE TRANSACTION 'S17'");
    $t->sql(q(ROLLBACK PREPARED 'S17'));
    is($t->sqlstate("BEGIN; $checkout; SELECT 1 / 0"), '22012', 'an error after it');
    my $gone = $t->start_sql("BEGIN; $checkout; SET application_name = 'S17'; CALL wait_for_gate('never')");
    $t->wait_for(q(SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'S17' AND wait_event = 'PgSleep'));
    $t->sql(q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'S17'));
    $t->finish_sql($gone);
    is($t->sql(q(SELECT count(*) FROM payment.task)), 0, 'nothing is queued');
    is($t->sql(q(SELECT count(*) FROM payment.idempotency WHERE key = 'S17')), 0, 'nor is the key taken');

    # A request for it would have gone out before this one's.
    my $order = checkout_one('S17 sentinel');
    $t->wait_until_idle;
    $t->charged_once($order, 'one that commits is charged');
    my @sent = grep { $_->{path} =~ m{^/v1/} } ($t->request_log)[ $before .. scalar($t->request_log) - 1 ];
    is_deeply([ map { $_->{idempotency_key} } @sent ], ["$order:pay:1"], 'S17 and nothing else is ever sent');
};

subtest 'S05 the worker is killed while the answer is under way' => sub {
    $t->faults(hang_after => 'next:1', hang_ms => 20_000);
    my $order = checkout_one('S05');
    PaymentTest::wait_until(sub { grep { $_->{payment_order} eq $order } $t->charges }, 60) or die 'never charged';
    is($t->status_of($order), 'executing', 'the PSP has charged, and nobody here knows');
    kill_worker();
    $t->wait_until_idle;
    is($t->history_of($order), 'created executing unknown captured', 'S05 unknown, then looked up');
    is_deeply([ map { "$_->{step} $_->{outcome}" } attempts($order) ], [ 'send lease_expired', 'lookup succeeded' ],
        'S05 by asking the PSP');
    is_deeply(sends($order), { sent => 1, executed => 1, keys => ["$order:pay:1"] }, 'S05 nothing is sent again');
    $t->charged_once($order, 'S05 one charge');
};

subtest 'S06 the worker is killed after its claim, before the PSP gets anything' => sub {
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 5)
      or die "listen: $!";
    $t->register_psp('sandbox', base_url => 'http://127.0.0.1:' . $listener->sockport);
    my $order = checkout_one('S06');
    ok(IO::Select->new($listener)->can_read(60), 'a connection is begun, which nobody accepts');
    is($t->status_of($order), 'executing', 'the claim has committed');
    $t->register_psp;
    kill_worker();
    close $listener;
    $t->wait_until_idle;
    is_deeply(
        [ map { "$_->{step} $_->{attempt_no} $_->{outcome}" } attempts($order) ],
        [ 'send 1 lease_expired', 'lookup 1 not_found', 'send 1 succeeded' ],
        'S06 provably not sent, so sent');
    is_deeply(sends($order), { sent => 1, executed => 1, keys => ["$order:pay:1"] }, 'S06 once');
    $t->charged_once($order, 'S06 one charge');
};

subtest 'S06 a worker claims and is never seen again' => sub {
    $t->configure('payment.worker_enabled' => 'off');
    PaymentTest::wait_until(sub { !defined $t->dispatcher_pid }, 60) or die 'the dispatcher stays';
    my @orders = map { checkout_one("S06 claimed $_") } 1 .. 3;
    is($t->sql("SELECT count(*) FROM payment.claim_tasks('$psp', 10, 3600000)"), 3, 'claims three for an hour');
    is($t->sql("SELECT count(*) FROM payment.claim_tasks('$psp', 10, 3600000)"), 0, 'nobody else gets them');
    $t->configure('payment.worker_enabled' => 'on');
    $t->wait_until_idle;
    foreach my $order (@orders)
    {
        is_deeply(sends($order), { sent => 1, executed => 1, keys => ["$order:pay:1"] }, 'S06 sent once');
        $t->charged_once($order, 'S06 one charge');
    }
};

subtest 'S07 the answer of one who was given up comes after all' => sub {
    $t->configure('payment.worker_enabled' => 'off');
    PaymentTest::wait_until(sub { !defined $t->dispatcher_pid }, 60) or die 'the dispatcher stays';
    my $order = checkout_one('S07');
    my $attempt = $t->sql("SELECT attempt_id FROM payment.claim_tasks('$psp', 1, 1)");
    $t->configure('payment.worker_enabled' => 'on');
    $t->wait_until_idle;
    my ($charge) = grep { $_->{payment_order} eq $order } $t->charges;
    my $late = sub {
        my ($outcome, $reference, $amount) = @_;
        return $t->sql("SELECT payment.record_outcomes(ARRAY[ROW('$attempt', '$outcome', 200, 5, $reference, $amount,"
              . " 'USD', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome])");
    };
    is($late->('unknown', 'NULL', 'NULL'), 1, 'it does not know');
    is($late->('succeeded', "'$charge->{payment_intent_id}'", 1000), 1, 'then it does');
    is($late->('succeeded', "'$charge->{payment_intent_id}'", 1000), 0, 'and says so again');
    is($t->status_of($order), 'captured', 'S07 both converge on one result');
    $t->charged_once($order, 'S07 one charge, one journal');
};

# name, faults, settings of the PSP, what the first answer leaves
my @lost = (
    [ 'lost_answer',      {},                   {},                     'answer_lost' ],
    [ 'reset_after',      {},                   {},                     'answer_lost' ],
    [ 'hang_after',       { hang_ms => 5_000 }, { timeout_ms => 500 }, 'answer_lost' ],
    [ 'error_500_after',  {},                   {},                     undef ],
    [ 'truncated_body',   {},                   {},                     'unreadable_answer' ],
    [ 'html_body',        {},                   {},                     'unreadable_answer' ]);
foreach my $case (@lost)
{
    my ($fault, $faults, $settings, $error) = @$case;
    my $number = $fault =~ /body/ ? 'S13' : 'S08';
    subtest "$number the PSP charges, and answers with $fault" => sub {
        $t->register_psp('sandbox', settings => $settings);
        $t->faults(%$faults, $fault => 'next:1');
        my (undef, @orders) = $t->checkout("$number $fault", [ 'alice 1000 USD', 'bob 2000 EUR' ]);
        $t->wait_until_idle;
        my @histories = sort map { $t->history_of($_) } @orders;
        is_deeply(\@histories, [ 'created executing captured', 'created executing unknown captured' ],
            "$number unknown, until looked up; the other one at once");
        my ($order) = grep { $t->history_of($_) =~ /unknown/ } @orders;
        my @attempts = attempts($order);
        is_deeply([ map { "$_->{step} $_->{outcome}" } @attempts ], [ 'send unknown', 'lookup succeeded' ],
            "$number by asking");
        is($attempts[0]{error_code}, $error, 'what was wrong is noted') if defined $error;
        is_deeply(sends($order), { sent => 1, executed => 1, keys => ["$order:pay:1"] }, "$number nothing is sent again");
        $t->charged_once($_, "$number one charge, one journal") foreach @orders;
        $t->register_psp;
    };
}

subtest 'S08 a payout is executed, and its answer lost' => sub {
    my $order = checkout_one('S08 payout');
    $t->wait_until_idle;
    $t->call('release', payment_order => $order);
    $t->faults(lost_answer => 'next:1');
    my $payout = $t->call('payout', seller => $t->call('seller_id', reference => 'alice'), amount => 600,
        currency => 'USD', destination => 'ba_sandbox_alice', idempotency_key => 'S08 payout out');
    $t->wait_until_idle;
    is($t->history_of($payout), 'scheduled submitting unknown in_transit paid' =~ s/^/created pending_approval approved /r,
        'S08 unknown until looked up, then paid');
    my @paid = grep { $_->{payout} eq $payout } $t->payouts;
    is_deeply([ map { "$_->{amount} $_->{currency} $_->{status}" } @paid ], ['600 usd paid'], 'S08 one payout in the book');
    is($t->sql("SELECT available FROM payment.wallet WHERE seller = 'alice' AND currency = 'USD'"), 400,
        'the seller has the rest');
    is($t->sql("SELECT count(*) FROM payment.journal WHERE subject = '$payout' AND kind = 'payout_paid'"), 1, 'one journal');
    is($t->sql('SELECT * FROM payment.verify()'), '', 'verify() finds nothing');
};

subtest 'S09 a clock is set while the PSP keeps answering a 500 that charged' => sub {
    $t->register_psp('sandbox', settings => { lookup_delay_ms => 3_000 });
    $t->faults(error_500_after => 'next:1');
    my $order = checkout_one('S09 clock');
    $t->wait_for("SELECT count(*) = 1 FROM payment.task WHERE object_id = '$order' AND step = 'lookup'", what => 'the 500');
    # as if our clock had been ahead then, and had been set right since
    $t->sql("UPDATE payment.task SET first_sent_at = first_sent_at + interval '1 minute',"
          . " last_sent_at = last_sent_at + interval '1 minute' WHERE object_id = '$order'");
    $t->register_psp;
    $t->wait_until_idle;
    is_deeply([ map { "$_->{step} $_->{attempt_no} $_->{outcome}" } attempts($order) ],
        [ 'send 1 unknown', 'lookup 1 not_found', 'send 1 key_spent', 'lookup 1 succeeded' ],
        'S09 found before a new key is taken');
    is(sends($order)->{executed}, 1, 'S09 executed once');
    $t->charged_once($order, 'S09 one charge');
};

foreach my $case ([ conflict_409 => 409, 0 ], [ rate_limit => 429, 1 ])
{
    my ($fault, $status, $retry_after_s) = @$case;
    subtest "S11 the PSP answers $status" => sub {
        $t->faults(retry_after_s => $retry_after_s, $fault => 'next:2');
        my $order = checkout_one("S11 $fault");
        $t->wait_until_idle;
        my @attempts = attempts($order);
        is_deeply(
            [ map { "$_->{step} $_->{attempt_no} $_->{outcome} $_->{http_status}" } @attempts ],
            [ ("send 1 retry $status") x 2, 'send 1 succeeded 200' ],
            'S11 tried again, the attempt number unchanged');
        is_deeply(sends($order), { sent => 3, executed => 1, keys => ["$order:pay:1"] }, 'S11 under the same key');
        foreach my $i (1, 2)
        {
            my $pause_s = $attempts[$i]{claimed_at} - $attempts[ $i - 1 ]{claimed_at};
            cmp_ok($pause_s, '>=', $retry_after_s || 0.02, 'S11 not at once, nor before Retry-After is over');
        }
        $t->charged_once($order, 'S11 one charge');
    };
}

my @conflicted;
foreach my $fault (qw(wrong_amount wrong_currency))
{
    my $type = $fault =~ s/wrong_//r;
    subtest "S14 the PSP reports another $type" => sub {
        my $before = $t->sql('SELECT coalesce(sum(pending), 0) FROM payment.wallet');
        $t->faults($fault => 'next:1');
        my $order = checkout_one("S14 $fault");
        $t->wait_until_idle;
        is($t->status_of($order), 'conflicted', 'S14 conflicted');
        is($t->sql("SELECT count(*) FROM payment.journal WHERE subject = '$order'"), 0, 'S14 no journal');
        is($t->sql('SELECT coalesce(sum(pending), 0) FROM payment.wallet'), $before, 'S14 no credit');
        is($t->sql("SELECT string_agg(type || ' ' || status, ',') FROM payment.exception_record WHERE order_id = '$order'"),
            "$type open", 'S14 one exception');
        my @charges = grep { $_->{payment_order} eq $order } $t->charges;
        is(scalar @charges, 1, 'S14 charged once, nothing is sent again');
        is($t->sql(q(SELECT count(*) FROM payment.dead_letter)), 0, 'no dead letter');
        is($t->sql('SELECT * FROM payment.verify()'), '', 'verify() finds nothing');
        is_deeply([ $t->book_differences(except => [@conflicted]) ],
            [ map { "order $order $_" } "\U$charges[0]{currency}\E: charged $charges[0]{amount}, posted 0" ],
            'the book shows exactly this difference');
        push @conflicted, $order;
    };
}

subtest 'an answer that came while a transaction took its time' => sub {
    $t->sql("UPDATE payment.psp SET timeout_ms = 1200, lookup_delay_ms = 3600000 WHERE id = '$psp'");
    $t->faults(latency_ms => 800);
    my (undef, $order) = $t->checkout('slow commit', ['alice 1000 USD']);
    $t->wait_for("SELECT status = 'executing' FROM payment.payment_order WHERE id = '$order'");
    # the dispatcher wants the list of PSPs, and gets it after the request's time
    my $holder = $t->start_sql('BEGIN; LOCK TABLE payment.psp; SELECT pg_sleep(1.5); COMMIT');
    $t->wait_for(q(SELECT count(*) > 0 FROM pg_locks WHERE relation = 'payment.psp'::regclass AND mode = 'AccessExclusiveLock' AND granted));
    $t->sql('SELECT payment.wake_worker()');
    $t->finish_sql($holder);
    $t->wait_for("SELECT status IN ('captured', 'unknown') FROM payment.payment_order WHERE id = '$order'");
    is($t->sql("SELECT string_agg(concat_ws(' ', step, outcome, error_code), ', ') FROM payment.attempt WHERE object_id = '$order'"),
        'send succeeded', 'is read, not called lost');
    $t->faults(latency_ms => 0);
    $t->sql("UPDATE payment.psp SET timeout_ms = 10000, lookup_delay_ms = 50 WHERE id = '$psp'");
    $t->sql(q(UPDATE payment.task SET run_at = now()));
    $t->wait_until_idle;
    $t->charged_once($order, 'and paid');
};

subtest 'S16 one of three sellers is not paid' => sub {
    # more than the sandbox takes at once: it refuses the request itself
    my ($payment, @orders) = $t->checkout('S16', [ 'alice 1000 USD', 'bob 1000000000000 USD', 'carol 3000 USD' ]);
    $t->wait_until_idle;
    is_deeply([ map { $t->status_of($_) } @orders ], [qw(captured failed captured)], 'S16 two captured, one failed');
    is($t->sql("SELECT status, succeeded_count, failed_count FROM payment.payment WHERE id = '$payment'"),
        'partially_succeeded|2|1', 'S16 the payment is partially_succeeded');
    $t->charged_once($orders[0], 'S16 the first seller is paid');
    $t->not_charged($orders[1], 'S16 the second is not');
    $t->charged_once($orders[2], 'S16 the third is paid');
    isnt($t->sql("SELECT failure_code FROM payment.payment_order WHERE id = '$orders[1]'"), '', 'with the reason');

    ($payment, @orders) = $t->checkout('S16 none', [ 'alice 1000 USD', 'bob 2000 USD' ],
        payment_method => 'pm_card_chargeDeclinedInsufficientFunds');
    $t->wait_until_idle;
    is($t->sql("SELECT status FROM payment.payment WHERE id = '$payment'"), 'failed', 'none paid: failed');
    is($t->sql("SELECT string_agg(DISTINCT failure_code, ' ') FROM payment.payment_order WHERE payment_id = '$payment'"),
        'insufficient_funds', 'with the reason');
    $t->not_charged($_, 'and nobody charged') foreach @orders;
};

is($t->sql(q(SELECT count(*) FROM payment.dead_letter)), 0, 'no dead letter is left');
is($t->sql(q(SELECT count(*) FROM payment.attempt WHERE finished_at IS NULL)), 0, 'every attempt has its outcome');
$t->books_agree('book and ledger agree about all that is not in conflict', except => \@conflicted);
$t->finish;
