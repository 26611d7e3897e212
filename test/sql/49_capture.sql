-- Authorise, capture, void, cancel: what is reserved, what is taken of it, and
-- what is given back.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/dispatch.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;
SET test.psp = 'captures';
SELECT pg_temp.register_psp();
SELECT count(payment.register_seller('capture seller ' || n, 'Seller ' || n)) AS registered FROM generate_series(1, 3) AS n;
-- a third of each order, so that parts of it round
SELECT count(payment.set_fee_schedule(0, 3333, payment.seller_id('capture seller ' || n), 'EUR')) AS set FROM generate_series(1, 3) AS n;

-- like pay(), authorising only
CREATE FUNCTION pg_temp.reserve(name text, VARIADIC amounts text[]) RETURNS uuid LANGUAGE sql AS $$
    SELECT (payment.checkout(current_setting('test.psp') || ' ' || name, 'payer',
        (SELECT jsonb_agg(jsonb_build_object('seller', 'capture seller ' || n, 'amount', a, 'currency', 'EUR',
            'reference', name || '/' || n) ORDER BY n) FROM unnest(amounts) WITH ORDINALITY AS u (a, n)),
        psp => current_setting('test.psp'), payment_method => 'pm_card_visa', capture => 'manual')).payment_id
$$;
CREATE FUNCTION pg_temp.authorised(name text, VARIADIC amounts text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_temp.reserve(name, VARIADIC amounts);
    PERFORM pg_temp.claim();
    PERFORM pg_temp.record(name || '/' || n, 'authorized', 'pi_' || name || n, authorized_until => now() + interval '7 days')
        FROM generate_series(1, cardinality(amounts)) AS n;
END
$$;
CREATE FUNCTION pg_temp.order_of(name text) RETURNS TABLE (status text, authorized bigint, captured bigint, capturing bigint,
    pending bigint, nr integer, operation_no integer, reference text, failure text) LANGUAGE sql AS $$
    SELECT o.status, o.authorized_amount, o.captured_amount, o.capturing_amount, o.pending_amount, o.capture_no, o.operation_no,
        o.psp_reference, o.failure_code FROM payment.order_record AS o WHERE o.id = pg_temp.object(name)
$$;
-- what the worker gets
CREATE FUNCTION pg_temp.take() RETURNS TABLE (name text, operation text, step text, key text, amount bigint, capture_method text,
    parent text, final boolean, total bigint) LANGUAGE sql AS $$
    SELECT pg_temp.name_of(c.object_id), c.operation, c.step, replace(c.psp_key, c.object_id::text, '<id>'), c.amount, c.capture_method,
        c.parent_reference, c.final, c.total_amount FROM payment.claim_tasks(pg_temp.psp(), 100, 60000) AS c
$$;

CREATE FUNCTION pg_temp.refused(command text) RETURNS text LANGUAGE sql AS $$
    SELECT regexp_replace(pg_temp.sqlstate_of(command), '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', '<id>', 'g')
$$;

-- arguments
SELECT pg_temp.refused($$SELECT payment.checkout('k', 'p', '[]', payment_method => 'pm', capture => 'later')$$);
SELECT pg_temp.refused($$SELECT payment.checkout('k', 'p', '[]', payment_method => 'pm', on_partial_failure => 'panic')$$);
SELECT pg_temp.refused(format('SELECT payment.submit(%L)', '[{"idempotency_key": "k", "payment_type": "pay_in", "capture": "x", "payer": "p", "payment_method": "pm", "orders": []}]'));
SELECT pg_temp.refused($$SELECT payment.capture(payment.new_id(), 'k')$$) LIKE 'PY012%';
SELECT pg_temp.refused($$SELECT payment.capture(payment.new_id(), 'k', 0)$$);
SELECT pg_temp.refused($$SELECT payment.capture(payment.new_id(), 'k', 1, NULL)$$);
SELECT pg_temp.refused($$SELECT payment.void(payment.new_id(), NULL)$$);

-- authorised: nothing is posted, the task is gone
SELECT pg_temp.reserve('a', '100.00') IS NOT NULL;
SELECT * FROM pg_temp.take();
SELECT pg_temp.record('a/1', 'authorized', 'pi_a', child_reference => 'auth_a', authorized_until => '2999-01-01');
SELECT * FROM pg_temp.order_of('a/1');
SELECT count(*) FROM pg_temp.journals('a/1');
SELECT count(*) FROM payment.task WHERE object_id = pg_temp.object('a/1');
SELECT * FROM pg_temp.payment_of('a/%');
SELECT authorized_until = '2999-01-01', classic_status FROM payment.payment_order WHERE id = pg_temp.object('a/1');
-- told again: nothing new
SELECT pg_temp.record('a/1', 'authorized', 'pi_a');
SELECT status FROM pg_temp.order_of('a/1');

-- several captures; each has a journal, together the fee is exact
SELECT pg_temp.refused(format('SELECT payment.capture(%L, %L, 10001)', pg_temp.object('a/1'), 'capture a x'));
SELECT payment.capture(pg_temp.object('a/1'), 'capture a 1', 3333, false);
SELECT payment.capture(pg_temp.object('a/1'), 'capture a 1', 3333, false) AS again;
SELECT pg_temp.refused(format('SELECT payment.capture(%L, %L, 3334, false)', pg_temp.object('a/1'), 'capture a 1')) LIKE 'PY100%' AS other_arguments;
SELECT pg_temp.refused(format('SELECT payment.capture(%L, %L, 1)', pg_temp.object('a/1'), 'capture a y')) LIKE 'PY303%' AS one_at_a_time;
SELECT pg_temp.refused(format('SELECT payment.void(%L, %L)', pg_temp.object('a/1'), 'void a x')) LIKE 'PY303%' AS no_void_meanwhile;
SELECT * FROM pg_temp.take();
SELECT pg_temp.record('a/1', 'succeeded', 'ca_1', amount => 3333);
SELECT * FROM pg_temp.order_of('a/1');
SELECT * FROM pg_temp.payment_of('a/%');
-- the same answer again, late
SELECT pg_temp.record('a/1', 'succeeded', 'ca_1', amount => 3333);
SELECT captured, (SELECT count(*) FROM pg_temp.exceptions('a/%')) AS exceptions FROM pg_temp.order_of('a/1');
SELECT payment.capture(pg_temp.object('a/1'), 'capture a 2', 3333, false);
SELECT * FROM pg_temp.take();
SELECT pg_temp.record('a/1', 'succeeded', 'ca_2', amount => 3333);
SELECT payment.capture(pg_temp.object('a/1'), 'capture a 3') AS the_rest;
SELECT amount, final FROM pg_temp.take();
SELECT pg_temp.record('a/1', 'succeeded', 'ca_3', amount => 3334);
SELECT * FROM pg_temp.order_of('a/1');
SELECT kind, account, amount FROM pg_temp.journals('a/1');
SELECT sum(amount) FILTER (WHERE account = 'platform_fee') AS fee, (SELECT platform_fee FROM payment.payment_order WHERE id = pg_temp.object('a/1'))
    FROM pg_temp.journals('a/1');
SELECT * FROM pg_temp.payment_of('a/%');
SELECT payment.release(pg_temp.object('a/1')), payment.release(pg_temp.object('a/1')) AS again;
SELECT pending, available FROM payment.wallet WHERE seller = 'capture seller 1';
SELECT pg_temp.refused(format('SELECT payment.capture(%L, %L)', pg_temp.object('a/1'), 'capture a z'));

-- S21 what is told of the whole payment overtakes the answer to the capture: one journal, and nothing to decide
SELECT pg_temp.authorised('overtaken', '100.00');
SELECT payment.capture(pg_temp.object('overtaken/1'), 'capture overtaken 1', 4000, false);
SELECT amount, final, total FROM pg_temp.take();
SELECT pg_temp.record('overtaken/1', 'succeeded', 'pi_overtaken1', amount => 4000, earlier => 1);
SELECT status, captured FROM pg_temp.order_of('overtaken/1');
SELECT pg_temp.record('overtaken/1', 'succeeded', 'ca_overtaken', amount => 4000);
SELECT status, captured, (SELECT count(*) FROM pg_temp.exceptions('overtaken/%')) AS exceptions FROM pg_temp.order_of('overtaken/1');
SELECT count(*) AS legs FROM pg_temp.journals('overtaken/1');
-- but not with another amount
SELECT payment.capture(pg_temp.object('overtaken/1'), 'capture overtaken 2', 1000, false);
SELECT amount, final, total FROM pg_temp.take();
SELECT pg_temp.record('overtaken/1', 'succeeded', 'pi_overtaken1', amount => 5000, earlier => 2);
SELECT pg_temp.record('overtaken/1', 'succeeded', 'ca_overtaken_2', amount => 1001);
SELECT status, captured FROM pg_temp.order_of('overtaken/1');
SELECT type, status, expected, actual FROM pg_temp.exceptions('overtaken/%');

-- S07 two answers to one capture are recorded together
SELECT pg_temp.authorised('both', '100.00');
SELECT payment.capture(pg_temp.object('both/1'), 'capture both', 4000, false);
SELECT amount, final, total FROM pg_temp.take();
SELECT payment.record_outcomes(ARRAY[a.o, a.o]) FROM (SELECT jsonb_populate_record(NULL::payment.attempt_outcome, jsonb_build_object(
    'attempt_id', (SELECT id FROM payment.attempt WHERE object_id = pg_temp.object('both/1') AND operation = 'capture'),
    'outcome', 'succeeded', 'psp_reference', 'ca_both', 'amount', 4000, 'currency', 'EUR')) AS o) AS a;
SELECT status, captured, (SELECT count(*) FROM pg_temp.exceptions('both/%')) AS exceptions FROM pg_temp.order_of('both/1');

-- one part, and the rest is let go
SELECT pg_temp.authorised('b', '100.00');
SELECT payment.capture(pg_temp.object('b/1'), 'capture b', 4000);
SELECT amount, final, total FROM pg_temp.take();
SELECT pg_temp.record('b/1', 'succeeded', 'ca_b', amount => 4000);
SELECT * FROM pg_temp.order_of('b/1');

-- refused: what was authorised still is
SELECT pg_temp.authorised('c', '100.00');
SELECT payment.capture(pg_temp.object('c/1'), 'capture c 1');
SELECT count(*) FROM pg_temp.take();
SELECT pg_temp.record('c/1', 'failed', error_code => 'no_such_luck');
SELECT * FROM pg_temp.order_of('c/1');
SELECT count(*) FROM payment.task WHERE object_id = pg_temp.object('c/1');
-- tried anew: another number, another key
SELECT payment.capture(pg_temp.object('c/1'), 'capture c 2');
SELECT key FROM pg_temp.take();
-- no answer: asked after, not sent again
SELECT pg_temp.record('c/1', 'unknown');
SELECT status FROM pg_temp.order_of('c/1');
SELECT pg_temp.skip_time();
SELECT step, key FROM pg_temp.take();
-- still only authorised: the PSP has no such capture; sent again under the same key
SELECT pg_temp.record('c/1', 'authorized', 'pi_c1');
SELECT pg_temp.skip_time();
SELECT step, key FROM pg_temp.take();
SELECT pg_temp.record('c/1', 'unknown');
SELECT pg_temp.skip_time();
SELECT step FROM pg_temp.take();
-- a lookup tells what came of it
SELECT pg_temp.record('c/1', 'succeeded', 'pi_c1', amount => 10000);
SELECT * FROM pg_temp.order_of('c/1');
SELECT pg_temp.history('c/1');

-- a second capture looked up
SELECT pg_temp.authorised('d', '100.00');
SELECT payment.capture(pg_temp.object('d/1'), 'capture d 1', 1000, false);
SELECT count(*) FROM pg_temp.take();
SELECT pg_temp.record('d/1', 'succeeded', amount => 1000);
SELECT payment.capture(pg_temp.object('d/1'), 'capture d 2', 2000, false);
SELECT count(*) FROM pg_temp.take();
SELECT pg_temp.record('d/1', 'unknown');
SELECT pg_temp.skip_time();
SELECT step FROM pg_temp.take();
SELECT pg_temp.record('d/1', 'succeeded', amount => 2000);
SELECT status, captured FROM pg_temp.order_of('d/1');
-- then what is left is voided: what was captured stays
SELECT payment.void(pg_temp.object('d/1'), 'void d');
SELECT operation, key, parent FROM pg_temp.take();
SELECT pg_temp.record('d/1', 'voided');
SELECT * FROM pg_temp.order_of('d/1');
SELECT * FROM pg_temp.payment_of('d/%');

-- S14: another amount than asked for
SELECT pg_temp.authorised('e', '100.00');
SELECT payment.capture(pg_temp.object('e/1'), 'capture e', 1000);
SELECT count(*) FROM pg_temp.take();
SELECT pg_temp.record('e/1', 'succeeded', amount => 1001);
SELECT status, captured FROM pg_temp.order_of('e/1');
SELECT type, expected, actual FROM pg_temp.exceptions('e/%');

-- S14: another amount authorised
SELECT pg_temp.reserve('e2', '100.00') IS NOT NULL;
SELECT count(*) FROM pg_temp.take();
SELECT pg_temp.record('e2/1', 'authorized', 'pi_e2', amount => 9999);
SELECT status, authorized FROM pg_temp.order_of('e2/1');
SELECT type, expected, actual FROM pg_temp.exceptions('e2/%');

-- voided
SELECT pg_temp.authorised('f', '100.00');
SELECT payment.void(pg_temp.object('f/1'), 'void f'), payment.void(pg_temp.object('f/1'), 'void f') AS again;
SELECT pg_temp.refused(format('SELECT payment.capture(%L, %L)', pg_temp.object('f/1'), 'capture f'));
SELECT pg_temp.refused(format('SELECT payment.void(%L, %L)', pg_temp.object('f/1'), 'void f 2'));
SELECT * FROM pg_temp.take();
SELECT pg_temp.record('f/1', 'voided', 'pi_f1');
SELECT * FROM pg_temp.order_of('f/1');
SELECT * FROM pg_temp.payment_of('f/%');
SELECT count(*) FROM payment.task WHERE object_id = pg_temp.object('f/1');
-- captured all the same, by hand
SELECT pg_temp.record('f/1', 'succeeded', 'pi_f1', amount => 10000, earlier => 1);
SELECT status, captured FROM pg_temp.order_of('f/1');
SELECT type FROM pg_temp.exceptions('f/%');

-- a void that nobody answers, decided by people
SELECT pg_temp.authorised('g', '100.00');
SELECT payment.void(pg_temp.object('g/1'), 'void g');
SELECT count(*) FROM pg_temp.take();
SELECT pg_temp.record('g/1', 'unknown');
UPDATE payment.task SET tries = 1000 WHERE object_id = pg_temp.object('g/1');
SELECT pg_temp.skip_time();
SELECT count(*) FROM pg_temp.take();
SELECT queue, step FROM pg_temp.show('g/1');
SELECT payment.resolve_unknown(pg_temp.object('g/1'), 'succeeded', 'ann', 'seen at the PSP', 'pi_g1'),
    payment.resolve_unknown(pg_temp.object('g/1'), 'succeeded', 'bob', 'so have I', 'pi_g1');
SELECT * FROM pg_temp.order_of('g/1');
-- and a capture: it failed, so that the money is reserved as before
SELECT pg_temp.authorised('h', '100.00', '50.00');
SELECT payment.capture(pg_temp.object('h/1'), 'capture h 1'), payment.capture(pg_temp.object('h/2'), 'capture h 2', 1000);
SELECT count(*) FROM pg_temp.take();
SELECT pg_temp.record('h/1', 'unknown'), pg_temp.record('h/2', 'unknown');
UPDATE payment.task SET tries = 1000 WHERE object_id IN (pg_temp.object('h/1'), pg_temp.object('h/2'));
SELECT pg_temp.skip_time();
SELECT count(*) FROM pg_temp.take();
SELECT payment.resolve_unknown(pg_temp.object('h/1'), 'failed', 'ann', 'never arrived'),
    payment.resolve_unknown(pg_temp.object('h/1'), 'failed', 'bob', 'right');
SELECT payment.resolve_unknown(pg_temp.object('h/2'), 'succeeded', 'ann', 'seen', 'ca_h2'),
    payment.resolve_unknown(pg_temp.object('h/2'), 'succeeded', 'bob', 'seen', 'ca_h2');
SELECT * FROM pg_temp.order_of('h/1');
SELECT * FROM pg_temp.order_of('h/2');
SELECT count(*) FROM pg_temp.exceptions('h/%') WHERE status <> 'auto_resolved';

-- S42: too late; and the authorisation that is gone
SELECT pg_temp.reserve('i', '100.00', '70.00', '30.00') IS NOT NULL;
SELECT count(*) FROM pg_temp.take();
SELECT pg_temp.record('i/' || n, 'authorized', 'pi_i' || n, authorized_until => now() - interval '1 s') FROM generate_series(1, 3) AS n;
SELECT left(pg_temp.refused(format('SELECT payment.capture(%L, %L)', pg_temp.object('i/1'), 'capture i')), 36) AS "S42";
-- the worker finds it: with a grace of a day, then with none
SELECT payment.expire_authorizations(100);
SET payment.authorization_grace_s = 0;
SELECT payment.expire_authorizations(2);
SELECT payment.expire_authorizations(100);
RESET payment.authorization_grace_s;
SELECT status, count(*) FROM pg_temp.show('i/%') GROUP BY 1;
SELECT * FROM pg_temp.payment_of('i/%');
SELECT pg_temp.authorised('j', '100.00');
SELECT payment.capture(pg_temp.object('j/1'), 'capture j');
SELECT count(*) FROM pg_temp.take();
SELECT pg_temp.record('j/1', 'expired', error_code => 'authorization_expired');
SELECT * FROM pg_temp.order_of('j/1');

-- cancel: one was sent, one was not, one is authorised
SELECT pg_temp.reserve('l', '10.00', '20.00', '30.00') AS l \gset
SELECT payment.cancel(:'l', 'cancel l'), payment.cancel(:'l', 'cancel l') AS again;
SELECT status, count(*) FROM pg_temp.show('l/%') GROUP BY 1;
SELECT * FROM pg_temp.payment_of('l/%');
SELECT count(*) FROM pg_temp.take();
SELECT left(pg_temp.refused(format('SELECT payment.cancel(%L, %L)', :'l', 'cancel l 2')), 60);
SELECT pg_temp.reserve('m', '10.00', '20.00', '30.00') AS m \gset
SELECT payment.cancel(pg_temp.object('m/1'), 'cancel m 1');
SELECT name FROM pg_temp.take();
SELECT pg_temp.record('m/2', 'authorized', 'pi_m2');
SELECT payment.cancel(:'m', 'cancel m') AS only_the_authorised;
SELECT name, status FROM pg_temp.show('m/%');
SELECT name, operation FROM pg_temp.take();
SELECT pg_temp.record('m/2', 'voided'), pg_temp.record('m/3', 'declined');
SELECT * FROM pg_temp.payment_of('m/%');

-- late news of an order that was given up
SELECT pg_temp.reserve('n', '10.00') IS NOT NULL;
SELECT count(*) FROM pg_temp.take();
SELECT pg_temp.record('n/1', 'declined');
SELECT pg_temp.record('n/1', 'authorized', 'pi_n');
SELECT status FROM pg_temp.order_of('n/1');
SELECT type, detail FROM pg_temp.exceptions('n/%');

SELECT * FROM payment.verify();
SELECT operation, count(*) FROM payment.task WHERE psp_id = pg_temp.psp() AND dead_at IS NULL GROUP BY 1;
