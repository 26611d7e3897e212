-- S09: the PSP replays its own failure for a key.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/dispatch.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;
SET test.psp = 'dispatch new key';
SELECT pg_temp.register_psp();
SELECT count(payment.register_seller('dispatch seller ' || n, 'Seller ' || n)) AS registered FROM generate_series(1, 2) AS n;
SELECT count(payment.end_fee_schedule(id)) >= 0 AS ended FROM payment.fee_schedule WHERE effective_until > now();

-- a failure, then nothing to be found: the same key again, it may be in use
SELECT pg_temp.pay('S09', '10.00', '20.00');
SELECT name, step, attempt_no, key FROM pg_temp.claim() ORDER BY name;
SELECT pg_temp.record('S09/1', 'unknown'), pg_temp.record('S09/2', 'unknown');
SELECT pg_temp.skip_time();
SELECT name, step, attempt_no FROM pg_temp.claim() ORDER BY name;
SELECT pg_temp.record('S09/1', 'not_found'), pg_temp.record('S09/2', 'not_found');
SELECT pg_temp.skip_time();
SELECT name, step, attempt_no, key FROM pg_temp.claim() ORDER BY name;
-- the failure is replayed: still unknown, and looked up again before all else
SELECT pg_temp.record('S09/1', 'key_spent', error_code => 'replayed_error'),
    pg_temp.record('S09/2', 'key_spent', error_code => 'replayed_error');
SELECT name, status, no, step, queue FROM pg_temp.show('S09/%');
SELECT pg_temp.skip_time();
SELECT name, step, attempt_no, key FROM pg_temp.claim() ORDER BY name;
SELECT pg_temp.sqlstate_of($$SELECT pg_temp.record('S09/1', 'key_spent')$$) LIKE 'PY001: a lookup cannot%' AS refused;
-- one was executed although its answer was a failure: no new key
SELECT pg_temp.record('S09/1', 'succeeded', 'S09_found');
-- of the other a lookup that fails says nothing
SELECT pg_temp.record('S09/2', 'unknown');
SELECT name, status, no, step, queue FROM pg_temp.show('S09/%');
SELECT pg_temp.skip_time();
SELECT name, step, attempt_no FROM pg_temp.claim();
-- it ended in failure and left nothing behind: a new key
SELECT pg_temp.record('S09/2', 'not_found');
SELECT name, status, no, step, queue FROM pg_temp.show('S09/%');
SELECT pg_temp.skip_time();
SELECT name, step, attempt_no, key, sent_before FROM pg_temp.claim();
-- which is as alive as any: not found means once more under the same
SELECT pg_temp.record('S09/2', 'unknown');
SELECT pg_temp.skip_time();
SELECT name, step, attempt_no FROM pg_temp.claim();
SELECT pg_temp.record('S09/2', 'not_found');
SELECT pg_temp.skip_time();
SELECT name, step, attempt_no, key FROM pg_temp.claim();
SELECT pg_temp.record('S09/2', 'succeeded', 'S09_second');
SELECT name, status, no, captured, psp_reference FROM pg_temp.show('S09/%');
SELECT pg_temp.history('S09/2');
-- the first key's charge shows up after all: people hear of it, nothing is posted
SELECT pg_temp.record('S09/2', 'succeeded', 'S09_late', earlier => 6);
SELECT name, type FROM pg_temp.exceptions('S09/%');
SELECT name, (pg_temp.journals(name)).* FROM unnest(ARRAY['S09/1', 'S09/2']) AS name;
-- a replay at the very first send: a copy of this database has sent it, or this is the copy
SELECT pg_temp.pay('S66', '10.00');
SELECT name, step FROM pg_temp.claim();
SELECT pg_temp.record('S66/1', 'key_spent', error_code => 'replayed_error');
SELECT s.name, s.status, s.no, s.step, s.queue, d.last_error
FROM pg_temp.show('S66/%') AS s, payment.task AS d WHERE d.object_id = pg_temp.object('S66/1');
-- a request that never reached the PSP, or left no trace there, is as if unsent, however long ago
SELECT pg_temp.pay('early', '10.00', '20.00');
SELECT name, step FROM pg_temp.claim() ORDER BY name;
SELECT pg_temp.record('early/1', 'retry'), pg_temp.record('early/2', 'unknown');
SELECT t.first_sent_at IS NULL AS unsent, t.last_sent_at IS NULL AS never FROM payment.task AS t
WHERE t.object_id = ANY (ARRAY[pg_temp.object('early/1'), pg_temp.object('early/2')]) ORDER BY t.object_id;
-- several in one batch: what is done for one does not keep the next from its own
CREATE FUNCTION pg_temp.record_all(pattern text, outcome text) RETURNS integer LANGUAGE sql AS $$
    SELECT payment.record_outcomes(array_agg(jsonb_populate_record(NULL::payment.attempt_outcome, jsonb_build_object(
        'attempt_id', (SELECT a.id FROM payment.attempt AS a WHERE a.object_id = o.id ORDER BY a.id DESC LIMIT 1),
        'outcome', outcome, 'http_status', 500, 'latency_ms', 5)) ORDER BY o.id))
    FROM payment.order_record AS o WHERE o.psp_id = pg_temp.psp() AND o.reference LIKE pattern
$$;
SELECT pg_temp.pay('batch', '10.00', '20.00'), pg_temp.pay('batch_too', '30.00', '40.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record_all('batch%', 'unknown'), pg_temp.skip_time();
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record_all('batch%', 'not_found'), pg_temp.skip_time();
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record_all('batch%', 'key_spent'), pg_temp.skip_time();
SELECT name, step FROM pg_temp.claim() ORDER BY name;
SELECT pg_temp.record_all('batch%', 'not_found'), pg_temp.skip_time();
SELECT name, step, attempt_no, sent_before FROM pg_temp.claim() ORDER BY name;
-- the same of those that people have to find out about
UPDATE payment.psp SET max_attempts = 1 WHERE id = pg_temp.psp();
SELECT pg_temp.record_all('batch%', 'unknown'), pg_temp.skip_time();
SELECT name, step FROM pg_temp.claim() WHERE name LIKE 'batch%' ORDER BY name;
SELECT pg_temp.record_all('batch%', 'unknown');
SELECT name, status, queue FROM pg_temp.show('batch%');
SELECT name, type FROM pg_temp.exceptions('batch%');
SELECT * FROM payment.verify();
