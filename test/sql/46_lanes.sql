-- Fair shares of a PSP's queue, and the stored state of circuit breakers.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/dispatch.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;
SET test.psp = 'dispatch lanes';
SELECT pg_temp.register_psp();

-- tasks alone do: what is claimed without an object is buried, and seen by that
CREATE FUNCTION pg_temp.queue(count integer, operation text, step text, tries integer, age interval) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO payment.task (id, psp_id, operation, step, object_id, run_at, tries)
    SELECT payment.new_id(), pg_temp.psp(), operation, step, payment.new_id(), clock_timestamp() - age, tries
    FROM generate_series(1, count)
$$;
CREATE FUNCTION pg_temp.taken() RETURNS TABLE (operation text, repeated boolean, count bigint) LANGUAGE sql AS $$
    SELECT t.operation, t.step = 'lookup' OR t.tries > 0, count(*) FROM payment.task AS t
    WHERE t.psp_id = pg_temp.psp() AND t.dead_at IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2
$$;
CREATE FUNCTION pg_temp.claim_lanes(max_tasks integer, lane_limits integer[] DEFAULT NULL) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FROM payment.claim_tasks(pg_temp.psp(), max_tasks, 1000, lane_limits)
$$;

-- a flood of old payouts and lookups: everybody gets a quarter
SELECT pg_temp.queue(50, 'pay', 'send', 0, interval '1 s'), pg_temp.queue(500, 'payout', 'send', 0, interval '1 h'),
    pg_temp.queue(500, 'pay', 'lookup', 3, interval '2 h'), pg_temp.queue(50, 'payout', 'send', 1, interval '1 m');
SELECT pg_temp.claim_lanes(40);
SELECT * FROM pg_temp.taken();
-- what one lane does not need goes to the others
SELECT pg_temp.claim_lanes(200);
SELECT * FROM pg_temp.taken();
DELETE FROM payment.task WHERE psp_id = pg_temp.psp();
SELECT pg_temp.queue(30, 'pay', 'send', 0, interval '1 s');
SELECT pg_temp.claim_lanes(20);
SELECT * FROM pg_temp.taken();
DELETE FROM payment.task WHERE psp_id = pg_temp.psp();

-- one at a time, as a rate limit has it: none is forgotten
SELECT pg_temp.queue(200, 'pay', 'send', 0, interval '1 s'), pg_temp.queue(200, 'payout', 'send', 0, interval '1 h'),
    pg_temp.queue(200, 'pay', 'lookup', 0, interval '2 h');
SELECT count(pg_temp.claim_lanes(1)) FROM generate_series(1, 150);
SELECT operation, repeated, count BETWEEN 15 AND 100 AS a_share FROM pg_temp.taken();
DELETE FROM payment.task WHERE psp_id = pg_temp.psp();

-- limits: of each lane, and so many more of any
SELECT pg_temp.queue(50, 'pay', 'send', 0, interval '1 s'), pg_temp.queue(50, 'payout', 'send', 0, interval '1 s'),
    pg_temp.queue(50, 'pay', 'lookup', 3, interval '1 s'), pg_temp.queue(50, 'payout', 'send', 1, interval '1 s');
SELECT pg_temp.claim_lanes(100, '{1,2,3,4,0}');
SELECT * FROM pg_temp.taken();
SELECT pg_temp.claim_lanes(100, '{0,0,0,0,0}');
SELECT pg_temp.claim_lanes(100, '{0,5,0,0,0}');
SELECT * FROM pg_temp.taken();
SELECT pg_temp.claim_lanes(3, '{50,0,0,0,0}');
SELECT * FROM pg_temp.taken();
DELETE FROM payment.task WHERE psp_id = pg_temp.psp();
SELECT pg_temp.queue(50, 'payout', 'send', 0, interval '1 s');
SELECT pg_temp.claim_lanes(100, '{4,4,4,4,16}');
SELECT * FROM pg_temp.taken();

-- a lane without places does not make a PSP due
SELECT payment.next_task_due(pg_temp.psp(), '{1,0,1,1,0}');
SELECT payment.next_task_due(pg_temp.psp(), '{0,1,0,0,0}') < now() AS due;
SELECT payment.next_task_due(pg_temp.psp(), '{0,0,0,0,1}') < now() AS due;
DELETE FROM payment.task WHERE psp_id = pg_temp.psp();

SELECT pg_temp.sqlstate_of('SELECT payment.claim_tasks(pg_temp.psp(), 1, 1000, ' || quote_literal(limits) || ')')
FROM unnest(ARRAY['{}', '{1,1,1,1}', '{1,1,1,1,NULL}', '{1,1,1,1,-1}', '{{1,1,1,1,1}}', '{1,1,1,1,1,1}']) AS limits;
SELECT pg_temp.sqlstate_of('SELECT payment.next_task_due(pg_temp.psp(), ''{1}'')');

-- a claim reads what it takes, however much is queued: no scan, no sort
SELECT pg_temp.queue(5000, 'payout', 'send', 0, interval '1 h'), pg_temp.queue(5000, 'pay', 'lookup', 3, interval '2 h');
CREATE FUNCTION pg_temp.blocks_of(command text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, FORMAT json, TIMING off) ' || command INTO plan;
    RETURN (plan->0->'Plan'->>'Shared Hit Blocks')::bigint + (plan->0->'Plan'->>'Shared Read Blocks')::bigint;
END
$$;
SELECT pg_temp.claim_lanes(1);
SELECT pg_temp.blocks_of('SELECT pg_temp.claim_lanes(1)') < 150 AS claim_is_cheap;
SELECT pg_temp.blocks_of('SELECT payment.next_task_due(pg_temp.psp())') < 60 AS due_is_cheap;
DELETE FROM payment.task WHERE psp_id = pg_temp.psp();

-- the breaker's row: written by version, reset by name
SELECT payment.save_breaker(pg_temp.psp(), 'open', '2026-01-01', '2026-01-02', 1000, 'because', 0);
SELECT payment.save_breaker(pg_temp.psp(), 'open', '2026-01-01', '2026-01-02', 1000, 'again', 0) IS NULL AS outdated;
SELECT payment.save_breaker(pg_temp.psp(), 'open', '2026-01-01', '2026-01-02', 2000, 'again', 1);
SELECT breaker_state, breaker_reason, breaker_since = '2026-01-01' AS since, breaker_probe_at = '2026-01-02' AS probe_at,
    in_flight, sent, failures_in_row, paused_until FROM payment.psp_status WHERE psp = 'dispatch lanes';
SELECT payment.reset_breaker('dispatch lanes');
SELECT breaker_state, breaker_reason, breaker_probe_at FROM payment.psp_status WHERE psp = 'dispatch lanes';
SELECT payment.save_breaker(pg_temp.psp(), 'open', '2026-01-01', '2026-01-02', 2000, 'again', 2) IS NULL AS outdated;
SELECT payment.reset_breaker('dispatch lanes');
SELECT pg_temp.sqlstate_of('SELECT payment.reset_breaker(NULL)');
SELECT pg_temp.sqlstate_of('SELECT payment.reset_breaker(''nobody'')');
SELECT pg_temp.sqlstate_of('SELECT payment.save_breaker(pg_temp.psp(), ''ajar'', now(), NULL, 0, NULL, 4)');
SELECT pg_temp.sqlstate_of('SELECT payment.save_breaker(pg_temp.psp(), ''closed'', NULL, NULL, 0, NULL, 4)');
SELECT pg_temp.sqlstate_of('SELECT payment.save_breaker(pg_temp.psp(), ''closed'', now(), NULL, 0, ''4242 4242 4242 4242'', 4)');
SELECT payment.save_breaker(payment.new_id(), 'closed', now(), NULL, 0, NULL, 0) IS NULL AS nobody;

-- late by its own schedule, and why
SELECT pg_temp.queue(1, 'pay', 'send', 0, interval '39 s');
SELECT count(*) FROM payment.stuck WHERE psp = 'dispatch lanes';
UPDATE payment.task SET run_at = clock_timestamp() - interval '41 s' WHERE psp_id = pg_temp.psp();
SELECT operation, breaker_state, reason FROM payment.stuck WHERE psp = 'dispatch lanes';
UPDATE payment.task SET attempt_id = payment.new_id() WHERE psp_id = pg_temp.psp();
SELECT reason FROM payment.stuck WHERE psp = 'dispatch lanes';
SELECT payment.save_breaker(pg_temp.psp(), 'half_open', now(), NULL, 2000, 'again', 4) IS NULL AS outdated;
UPDATE payment.circuit_breaker SET state = 'half_open' WHERE psp_id = pg_temp.psp();
SELECT breaker_state, reason FROM payment.stuck WHERE psp = 'dispatch lanes';
UPDATE payment.psp SET state = 'paused' WHERE id = pg_temp.psp();
SELECT reason FROM payment.stuck WHERE psp = 'dispatch lanes';
DELETE FROM payment.task WHERE psp_id = pg_temp.psp();
DELETE FROM payment.circuit_breaker WHERE psp_id = pg_temp.psp();

SELECT count(*) >= 0 AS answers FROM payment.psp_latency;
