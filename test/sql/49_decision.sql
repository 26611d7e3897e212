-- Two people work off what the PSP did otherwise than it was asked.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/dispatch.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;
SET test.psp = 'dispatch decision';
SELECT pg_temp.register_psp();
-- sellers of our own, whose fees no other test sets
SELECT count(payment.set_fee_schedule(0, 0, payment.register_seller('decision seller ' || n, 'Seller ' || n), 'EUR')) AS registered
FROM generate_series(1, 3) AS n;
CREATE OR REPLACE FUNCTION pg_temp.pay(name text, VARIADIC amounts text[]) RETURNS void LANGUAGE sql AS $$
    SELECT payment.checkout('decision ' || name, 'payer', (SELECT jsonb_agg(jsonb_build_object('seller', 'decision seller ' || n,
            'amount', a, 'currency', 'EUR', 'reference', name || '/' || n) ORDER BY n)
        FROM unnest(amounts) WITH ORDINALITY AS u (a, n)), psp => 'dispatch decision', payment_method => 'pm')
$$;

CREATE FUNCTION pg_temp.refusal(command text) RETURNS text LANGUAGE sql AS $$
    SELECT regexp_replace(pg_temp.sqlstate_of(command), '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', '<id>', 'g')
$$;
CREATE FUNCTION pg_temp.exception_of(name text, of_type text) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT id FROM payment.exception_record WHERE order_id = pg_temp.object(name) AND type = of_type AND line_id IS NULL
$$;
CREATE FUNCTION pg_temp.propose(name text, of_type text, resolution text, person text DEFAULT 'Ann', reference text DEFAULT NULL)
    RETURNS text LANGUAGE sql AS $$
    SELECT payment.propose_resolution(pg_temp.exception_of(name, of_type), resolution, person, 'seen', reference)
$$;
CREATE FUNCTION pg_temp.approve(name text, of_type text, resolution text, person text DEFAULT 'Ben', reference text DEFAULT NULL)
    RETURNS text LANGUAGE sql AS $$
    SELECT payment.approve_resolution(pg_temp.exception_of(name, of_type), resolution, person, 'seen too', reference)
$$;

-- a conflicted order, captured with what was taken; the fee is capped
SELECT payment.register_seller('decision seller', 'Seller') AS seller \gset
SELECT count(payment.set_fee_schedule(0, 5000, :'seller', 'EUR'));
SELECT count(payment.checkout('dispatch decision fee', 'payer', '[{"seller": "decision seller", "amount": "10.00",
    "currency": "EUR", "reference": "less/1"}]', psp => 'dispatch decision', payment_method => 'pm'));
SELECT pg_temp.pay('more', '10.00', '20.00', '30.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('less/1', 'succeeded', 'decision_less', 400);
SELECT pg_temp.record('more/1', 'succeeded', 'decision_more', 1200);
SELECT pg_temp.record('more/2', 'succeeded', 'decision_usd', 2000, 'USD');
SELECT pg_temp.record('more/3', 'succeeded', 'decision_wrong', 1);
SELECT * FROM pg_temp.show('%');
-- what is refused
SELECT pg_temp.refusal(format('SELECT payment.propose_resolution(%s)', a)) AS state, a
FROM unnest(ARRAY[$$NULL, 'kept', 'Ann', 'why'$$, $$gen_random_uuid(), 'kept', 'Ann', 'why'$$,
    $$gen_random_uuid(), 'perhaps', 'Ann', 'why'$$, $$gen_random_uuid(), NULL, 'Ann', 'why'$$,
    $$gen_random_uuid(), 'kept', ' ', 'why'$$, $$gen_random_uuid(), 'kept', 'Ann', NULL$$,
    $$gen_random_uuid(), 'kept', 'Ann', '4111 1111 1111 1111'$$, $$gen_random_uuid(), 'kept', 'Ann', 'why', 'pi_1'$$]) AS a;
SELECT pg_temp.refusal($$SELECT pg_temp.approve('less/1', 'amount', 'captured')$$);
SELECT pg_temp.refusal($$SELECT pg_temp.propose('more/2', 'currency', 'captured')$$);
SELECT pg_temp.refusal($$SELECT pg_temp.propose('less/1', 'amount', 'written_off')$$);
SELECT pg_temp.propose('less/1', 'amount', 'captured');
SELECT pg_temp.propose('less/1', 'amount', 'captured', 'a n n');
SELECT pg_temp.refusal($$SELECT pg_temp.propose('less/1', 'amount', 'kept', 'Ben')$$);
SELECT pg_temp.refusal($$SELECT pg_temp.approve('less/1', 'amount', 'captured', 'ANN ')$$);
SELECT pg_temp.refusal($$SELECT pg_temp.approve('less/1', 'amount', 'kept')$$);
SELECT name, status FROM pg_temp.show('less/1');
SELECT pg_temp.approve('less/1', 'amount', 'captured');
SELECT pg_temp.approve('less/1', 'amount', 'captured', 'Cid');
SELECT pg_temp.refusal($$SELECT pg_temp.propose('less/1', 'amount', 'kept')$$);
SELECT * FROM pg_temp.show('less/1');
SELECT * FROM pg_temp.journals('less/1');
SELECT type, status FROM pg_temp.exceptions('less/1');
SELECT payment.release(pg_temp.object('less/1'));
-- more than was asked for; rejected first
SELECT pg_temp.propose('more/1', 'amount', 'not_executed');
SELECT payment.reject_resolution(pg_temp.exception_of('more/1', 'amount'), 'Ben', 'it was');
SELECT payment.reject_resolution(pg_temp.exception_of('more/1', 'amount'), 'Ben', 'again');
SELECT pg_temp.propose('more/1', 'amount', 'captured', 'Ben');
SELECT pg_temp.approve('more/1', 'amount', 'captured', 'Ann');
SELECT * FROM pg_temp.journals('more/1');
-- another currency: failed, and what was taken is owed
SELECT pg_temp.propose('more/2', 'currency', 'kept');
SELECT pg_temp.approve('more/2', 'currency', 'kept');
SELECT * FROM pg_temp.journals('more/2');
-- news ends a proposal; the latest word counts
SELECT pg_temp.propose('more/3', 'amount', 'captured');
SELECT pg_temp.record('more/3', 'succeeded', 'decision_wrong', 2);
SELECT pg_temp.refusal($$SELECT pg_temp.approve('more/3', 'amount', 'captured')$$);
SELECT status, expected, actual, detail FROM pg_temp.exceptions('more/3');
SELECT pg_temp.propose('more/3', 'amount', 'refunded_outside');
SELECT pg_temp.approve('more/3', 'amount', 'refunded_outside');
SELECT * FROM pg_temp.show('more/3');
SELECT count(*) FROM pg_temp.journals('more/3');
-- the same once more is no news; another amount is
SELECT pg_temp.record('more/3', 'succeeded', 'decision_wrong', 2);
SELECT name, status FROM pg_temp.show('more/3');
SELECT status, actual FROM pg_temp.exceptions('more/3');
SELECT pg_temp.record('more/3', 'succeeded', 'decision_wrong', 3);
SELECT name, status FROM pg_temp.show('more/3');
SELECT status, actual FROM pg_temp.exceptions('more/3');
SELECT pg_temp.propose('more/3', 'amount', 'not_executed');
SELECT pg_temp.approve('more/3', 'amount', 'not_executed');
SELECT * FROM pg_temp.payment_of('more/%');

-- charged three times: both charges too many are owed
SELECT pg_temp.pay('twice', '10.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('twice/1', 'succeeded', 'decision_' || n) FROM generate_series(1, 3) AS n;
SELECT pg_temp.propose('twice/1', 'duplicate', 'kept');
SELECT pg_temp.approve('twice/1', 'duplicate', 'kept');
SELECT * FROM pg_temp.journals('twice/1');
-- a fourth: by itself
SELECT pg_temp.record('twice/1', 'succeeded', 'decision_4');
SELECT status, actual FROM pg_temp.exceptions('twice/1');
SELECT pg_temp.propose('twice/1', 'duplicate', 'refunded_outside');
SELECT pg_temp.approve('twice/1', 'duplicate', 'refunded_outside');
SELECT count(*) FROM pg_temp.journals('twice/1');
-- a reference that is another object's proves no money
SELECT pg_temp.pay('stolen', '10.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('stolen/1', 'succeeded', 'decision_1');
SELECT pg_temp.refusal($$SELECT pg_temp.propose('stolen/1', 'duplicate', 'kept')$$);
SELECT pg_temp.refusal($$SELECT pg_temp.propose('stolen/1', 'duplicate', 'captured')$$);
SELECT pg_temp.propose('stolen/1', 'duplicate', 'captured', reference => 'decision_2');
SELECT pg_temp.refusal($$SELECT pg_temp.approve('stolen/1', 'duplicate', 'captured', reference => 'decision_2')$$);
SELECT pg_temp.propose('stolen/1', 'duplicate', 'captured', reference => 'decision_own');
SELECT pg_temp.approve('stolen/1', 'duplicate', 'captured', reference => 'decision_own');
SELECT name, status, captured, psp_reference FROM pg_temp.show('stolen/1');

-- late: kept is booked already; given back takes it out again
SELECT pg_temp.pay('late', '10.00', '20.00', '30.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('late/' || n, 'declined') FROM generate_series(1, 3) AS n;
SELECT pg_temp.record('late/' || n, 'succeeded', 'decision_late' || n) FROM generate_series(1, 3) AS n;
SELECT payment.release(pg_temp.object('late/3'));
SELECT pg_temp.propose('late/1', 'late_success', 'kept'), pg_temp.propose('late/2', 'late_success', 'refunded_outside'),
    pg_temp.propose('late/3', 'late_success', 'not_executed');
SELECT pg_temp.approve('late/1', 'late_success', 'kept'), pg_temp.approve('late/2', 'late_success', 'refunded_outside'),
    pg_temp.approve('late/3', 'late_success', 'not_executed');
SELECT name, status FROM pg_temp.show('late/%');
SELECT * FROM pg_temp.journals('late/1');
SELECT * FROM pg_temp.journals('late/2');
SELECT * FROM pg_temp.journals('late/3');
SELECT * FROM pg_temp.payment_of('late/%');

-- while it is in doubt, people hear of the right amount, too, and of a second charge
SELECT pg_temp.pay('doubt', '10.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('doubt/1', 'succeeded', 'decision_doubt', 900);
SELECT pg_temp.propose('doubt/1', 'amount', 'captured');
SELECT pg_temp.record('doubt/1', 'succeeded', 'decision_doubt');
SELECT pg_temp.record('doubt/1', 'succeeded', 'decision_doubt');
SELECT pg_temp.record('doubt/1', 'succeeded', 'decision_doubt_2');
SELECT type, status, expected, actual, detail FROM pg_temp.exceptions('doubt/1');
SELECT pg_temp.propose('doubt/1', 'amount', 'captured'), pg_temp.propose('doubt/1', 'duplicate', 'kept');
SELECT pg_temp.approve('doubt/1', 'amount', 'captured'), pg_temp.approve('doubt/1', 'duplicate', 'kept');
SELECT * FROM pg_temp.journals('doubt/1');

-- a payout that was made although it had failed: the seller owes it
SELECT payment.release(pg_temp.object(n)) FROM unnest(ARRAY['twice/1', 'more/1']) AS n;
SELECT payment.payout(payment.seller_id('decision seller 1'), 1500, 'EUR', 'ba_late', 'decision ba_late', psp => 'dispatch decision')
    IS NOT NULL AS made;
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('ba_late', 'failed', 'po_late');
SELECT pg_temp.record('ba_late', 'succeeded', 'po_late');
SELECT pg_temp.propose('ba_late', 'late_success', 'kept');
SELECT pg_temp.approve('ba_late', 'late_success', 'kept');
SELECT * FROM pg_temp.journals('ba_late');
SELECT name, type, status FROM pg_temp.exceptions('%') WHERE status NOT IN ('resolved', 'written_off');
SELECT * FROM payment.verify();
