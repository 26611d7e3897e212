-- What no lookup could tell goes to people, and two of them decide.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/dispatch.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;
SET test.psp = 'dispatch unknown';
SELECT pg_temp.register_psp();
UPDATE payment.psp SET max_attempts = 3 WHERE id = pg_temp.psp();
SELECT count(payment.register_seller('dispatch seller ' || n, 'Seller ' || n)) AS registered FROM generate_series(1, 3) AS n;

-- what is refused, without ids
CREATE FUNCTION pg_temp.refusal(command text) RETURNS text LANGUAGE sql AS $$
    SELECT regexp_replace(pg_temp.sqlstate_of(command), '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', '<id>', 'g')
$$;

-- an order whose every lookup is in vain
CREATE FUNCTION pg_temp.lose(name text) RETURNS TABLE (status text, step text, queue text) LANGUAGE plpgsql AS $$
BEGIN
    FOR try IN 1..3 LOOP
        PERFORM pg_temp.skip_time();
        PERFORM * FROM pg_temp.claim();
        PERFORM pg_temp.record(name, 'unknown', error_code => 'timeout');
    END LOOP;
    PERFORM pg_temp.skip_time();
    PERFORM * FROM pg_temp.claim();
    RETURN QUERY SELECT s.status, s.step, s.queue FROM pg_temp.show(name) AS s;
END
$$;

SELECT pg_temp.pay('lost', '10.00');
SELECT * FROM pg_temp.lose('lost/1');
SELECT type, status, detail FROM payment.exception WHERE order_id = pg_temp.object('lost/1');
-- the whole history, in order
SELECT h ->> 'step' AS step, h ->> 'outcome' AS outcome, h ->> 'error_code' AS error_code, h ->> 'attempt_no' AS no
FROM payment.dead_letter AS d, jsonb_array_elements(d.history) WITH ORDINALITY AS e (h, n)
WHERE object_id = pg_temp.object('lost/1') ORDER BY n;

-- bad arguments
SELECT pg_temp.refusal(format('SELECT payment.resolve_unknown(%s)', a)) AS state, a
FROM unnest(ARRAY[$$NULL, 'failed', 'Ann', 'why'$$, $$gen_random_uuid(), 'failed', 'Ann', 'why'$$,
    $$gen_random_uuid(), 'perhaps', 'Ann', 'why'$$, $$gen_random_uuid(), NULL, 'Ann', 'why'$$,
    $$gen_random_uuid(), 'failed', NULL, 'why'$$, $$gen_random_uuid(), 'failed', ' ', 'why'$$,
    $$gen_random_uuid(), 'failed', 'Ann', NULL$$, $$gen_random_uuid(), 'failed', 'Ann', ''$$,
    $$gen_random_uuid(), 'failed', repeat('A', 256), 'why'$$, $$gen_random_uuid(), 'failed', 'Ann', '4111 1111 1111 1111'$$,
    $$gen_random_uuid(), 'failed', 'Ann', 'why', 'pi_1'$$, $$gen_random_uuid(), 'succeeded', 'Ann', 'why'$$]) AS a;

-- one person cannot, however often and however spelt
SELECT payment.resolve_unknown(pg_temp.object('lost/1'), 'succeeded', 'Ann', 'seen in the dashboard', 'unknown_lost');
SELECT payment.resolve_unknown(pg_temp.object('lost/1'), 'succeeded', p, 'again', 'unknown_lost') FROM unnest(ARRAY['Ann', 'ANN', ' a n n ']) AS p;
SELECT * FROM pg_temp.show('lost/1');
-- two that disagree change nothing
SELECT pg_temp.refusal($$SELECT payment.resolve_unknown(pg_temp.object('lost/1'), 'failed', 'Ben', 'not seen')$$);
SELECT pg_temp.refusal($$SELECT payment.resolve_unknown(pg_temp.object('lost/1'), 'succeeded', 'Ben', 'seen', 'unknown_other')$$);
SELECT status FROM pg_temp.show('lost/1');
-- two that agree
SELECT payment.resolve_unknown(pg_temp.object('lost/1'), 'succeeded', 'Ben', 'seen too', 'unknown_lost');
SELECT * FROM pg_temp.show('lost/1');
SELECT * FROM pg_temp.payment_of('lost/%');
SELECT pg_temp.history('lost/1');
SELECT count(*) FROM pg_temp.journals('lost/1');
SELECT type, status FROM payment.exception WHERE order_id = pg_temp.object('lost/1');
-- again: nothing new; otherwise: too late
SELECT payment.resolve_unknown(pg_temp.object('lost/1'), 'succeeded', 'Cid', 'late', 'unknown_lost');
SELECT pg_temp.refusal($$SELECT payment.resolve_unknown(pg_temp.object('lost/1'), 'failed', 'Cid', 'late')$$);
SELECT count(*) FROM pg_temp.journals('lost/1');
SELECT outcome, status, proposed_by, decided_by, proposed_role = session_user AS role FROM payment.resolution
WHERE object_id = pg_temp.object('lost/1') ORDER BY id;
-- the PSP says the same later: nothing new
SELECT pg_temp.record('lost/1', 'succeeded', 'unknown_lost');
SELECT count(*) FROM pg_temp.journals('lost/1');

-- not while lookups are under way
SELECT pg_temp.pay('early', '10.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.refusal($$SELECT payment.resolve_unknown(pg_temp.object('early/1'), 'failed', 'Ann', 'impatient')$$);
SELECT pg_temp.record('early/1', 'unknown');
SELECT pg_temp.refusal($$SELECT payment.resolve_unknown(pg_temp.object('early/1'), 'failed', 'Ann', 'impatient')$$);
SELECT pg_temp.record('early/1', 'declined', error_code => 'card_declined');

-- failed for sure, and the money comes after all: late success
SELECT pg_temp.pay('gone', '10.00');
SELECT * FROM pg_temp.lose('gone/1');
SELECT payment.resolve_unknown(pg_temp.object('gone/1'), 'succeeded', 'Ann', 'a mistake', 'unknown_gone');
SELECT payment.resolve_unknown(pg_temp.object('gone/1'), 'failed', 'Ann', 'not in the report');
SELECT payment.resolve_unknown(pg_temp.object('gone/1'), 'failed', 'Ben', 'nor in mine');
SELECT * FROM pg_temp.show('gone/1');
SELECT outcome, status, decided_by FROM payment.resolution WHERE object_id = pg_temp.object('gone/1') ORDER BY id;
SELECT pg_temp.record('gone/1', 'succeeded', 'unknown_gone');
SELECT * FROM pg_temp.show('gone/1');
SELECT type, status FROM payment.exception WHERE order_id = pg_temp.object('gone/1') ORDER BY type;

-- a reference that is another object's
SELECT pg_temp.pay('stolen', '10.00');
SELECT * FROM pg_temp.lose('stolen/1');
SELECT payment.resolve_unknown(pg_temp.object('stolen/1'), 'succeeded', 'Ann', 'seen', 'unknown_lost');
SELECT pg_temp.refusal($$SELECT payment.resolve_unknown(pg_temp.object('stolen/1'), 'succeeded', 'Ben', 'seen', 'unknown_lost')$$);
SELECT status FROM pg_temp.show('stolen/1');
-- rejected by another, then withdrawn by who proposed
SELECT payment.reject_unknown_resolution(pg_temp.object('stolen/1'), 'Ben', 'that is another one');
SELECT payment.reject_unknown_resolution(pg_temp.object('stolen/1'), 'Ben', 'again');
SELECT payment.resolve_unknown(pg_temp.object('stolen/1'), 'failed', 'Ann', 'then not');
SELECT payment.reject_unknown_resolution(pg_temp.object('stolen/1'), 'ann', 'wait');
SELECT outcome, status, decided_by FROM payment.resolution WHERE object_id = pg_temp.object('stolen/1') ORDER BY id;
-- back into the queue, and known: the exception closes itself
SELECT payment.retry_dead_letter(task_id) FROM payment.dead_letter WHERE object_id = pg_temp.object('stolen/1');
SELECT step FROM pg_temp.claim();
SELECT pg_temp.record('stolen/1', 'succeeded', 'unknown_stolen');
SELECT type, status, closed_at IS NOT NULL AS closed FROM payment.exception WHERE order_id = pg_temp.object('stolen/1');

-- payouts
SELECT payment.release(pg_temp.object(n)) FROM unnest(ARRAY['lost/1', 'gone/1', 'stolen/1']) AS n;
SELECT payment.payout(payment.seller_id('dispatch seller 1'), 500, 'EUR', d, 'unknown ' || d, psp => 'dispatch unknown') IS NOT NULL AS made
FROM unnest(ARRAY['ba_one', 'ba_two']) AS d;
SELECT pg_temp.refusal($$SELECT payment.resolve_unknown(pg_temp.object('ba_one'), 'failed', 'Ann', 'early')$$);
SELECT * FROM pg_temp.lose('ba_one');
SELECT * FROM pg_temp.lose('ba_two');
SELECT payment.resolve_unknown(pg_temp.object('ba_one'), 'succeeded', p, 'in the bank statement', 'po_one') FROM unnest(ARRAY['Ann', 'Ben']) AS p;
SELECT payment.resolve_unknown(pg_temp.object('ba_two'), 'failed', p, 'unknown to the bank') FROM unnest(ARRAY['Ann', 'Ben']) AS p;
SELECT destination, status, psp_reference, failure_code FROM payment.payout_record WHERE psp_id = pg_temp.psp() ORDER BY 1;
SELECT pg_temp.history('ba_one');
SELECT pg_temp.history('ba_two');
SELECT count(*) FROM payment.dead_letter WHERE psp = 'dispatch unknown';
SELECT count(*) FROM payment.exception WHERE psp = 'dispatch unknown' AND type = 'unknown_outcome' AND closed_at IS NULL;
SELECT * FROM payment.verify();

-- by hand: no
SELECT pg_temp.sqlstate_of($$UPDATE payment.resolution SET status = 'applied'$$),
    pg_temp.sqlstate_of($$DELETE FROM payment.resolution$$),
    pg_temp.sqlstate_of($$INSERT INTO payment.resolution SELECT * FROM payment.resolution$$);

-- a proposal is about one doubt: when that is over it is, too
SELECT pg_temp.pay('again', '10.00');
SELECT * FROM pg_temp.lose('again/1');
SELECT payment.resolve_unknown(pg_temp.object('again/1'), 'failed', 'Ann', 'about the first try');
SELECT payment.retry_dead_letter(task_id) FROM payment.dead_letter WHERE object_id = pg_temp.object('again/1');
SELECT step FROM pg_temp.claim();
SELECT pg_temp.record('again/1', 'declined', error_code => 'card_declined');
SELECT outcome, status, decided_by, decided_reason FROM payment.resolution WHERE object_id = pg_temp.object('again/1');
SELECT payment.retry_order(pg_temp.object('again/1'), 'unknown again');
SELECT * FROM pg_temp.lose('again/1');
SELECT payment.resolve_unknown(pg_temp.object('again/1'), 'failed', 'Ben', 'about the second try');
SELECT status, no FROM pg_temp.show('again/1');

-- charged a third time: the exception tells of each
SELECT pg_temp.pay('thrice', '10.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('thrice/1', 'succeeded', 'thrice_' || n) FROM generate_series(1, 3) AS n;
SELECT type, detail FROM payment.exception WHERE order_id = pg_temp.object('thrice/1');

-- what was sent by one adapter another cannot ask after
SELECT pg_temp.refusal($$SELECT payment.register_psp('dispatch unknown', 'stripe', 'http://127.0.0.1:1', 'none')$$);
SELECT adapter FROM payment.psp WHERE name = 'dispatch unknown';
SELECT payment.register_psp('dispatch unknown', 'none', 'http://127.0.0.1:2', 'other') = pg_temp.psp() AS moved;
