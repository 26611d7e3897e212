-- Claiming tasks: what is handed out, to whom, how often.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/dispatch.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;
SET test.psp = 'dispatch claim';
SELECT pg_temp.register_psp();
SELECT count(payment.register_seller('dispatch seller ' || n, 'Seller ' || n)) AS registered FROM generate_series(1, 3) AS n;

-- arguments
SELECT pg_temp.sqlstate_of('SELECT payment.claim_tasks(NULL, 1, 1000)');
SELECT pg_temp.sqlstate_of('SELECT payment.claim_tasks(pg_temp.psp(), 0, 1000)');
SELECT pg_temp.sqlstate_of('SELECT payment.claim_tasks(pg_temp.psp(), NULL, 1000)');
SELECT pg_temp.sqlstate_of('SELECT payment.claim_tasks(pg_temp.psp(), 1, 0)');
SELECT pg_temp.sqlstate_of('SELECT payment.claim_tasks(pg_temp.psp(), 1, 2000000000)');
SELECT pg_temp.sqlstate_of('SELECT payment.claim_tasks(''00000000-0000-0000-0000-000000000000'', 1, 1000)');
SELECT pg_temp.sqlstate_of('SELECT payment.retry_dead_letter(NULL)');

-- oldest first, at most as many as asked for; nobody gets one twice
SELECT pg_temp.pay('a', '10.00', '20.00');
SELECT pg_temp.pay('b', '30.00');
UPDATE payment.task SET run_at = clock_timestamp() - interval '1 hour'
    WHERE object_id = pg_temp.object('b/1');
SELECT * FROM pg_temp.claim(1);
SELECT * FROM pg_temp.claim() ORDER BY name;
SELECT * FROM pg_temp.claim();
SELECT * FROM pg_temp.show('a/%');
SELECT * FROM pg_temp.payment_of('a/%');
SELECT pg_temp.history('a/1');
SELECT * FROM pg_temp.attempts('a/1');
SELECT step, due, waiting, in_flight, dead FROM payment.queue_depth WHERE psp = 'dispatch claim';
SELECT payment.next_task_due(pg_temp.psp()) BETWEEN clock_timestamp() + interval '50 s'
    AND clock_timestamp() + interval '61 s' AS due_when_the_lease_ends;

-- S05, S06: the dispatcher dies with claims; they are looked up, under the
-- same key, and never failed nor sent again unasked
SELECT payment.expire_leases() >= 3 AS some_expired;
SELECT pg_temp.skip_time();
SELECT name, step, key, sent_before FROM pg_temp.claim() ORDER BY name;
SELECT * FROM pg_temp.show('a/%');
SELECT pg_temp.history('a/1');
SELECT * FROM pg_temp.attempts('a/1');

-- ... and so is the lookup whose dispatcher dies
SELECT pg_temp.skip_time();
SELECT name, step FROM pg_temp.claim() ORDER BY name;
SELECT * FROM pg_temp.attempts('a/1');
SELECT pg_temp.record(name, 'succeeded', 'claim_' || name) FROM unnest(ARRAY['a/1', 'a/2', 'b/1']) AS name;

-- a paused PSP gets nothing, and nothing is waited for
SELECT pg_temp.pay('c', '10.00');
UPDATE payment.psp SET state = 'paused' WHERE id = pg_temp.psp();
SELECT * FROM pg_temp.claim();
SELECT payment.next_task_due(pg_temp.psp());
UPDATE payment.psp SET state = 'active' WHERE id = pg_temp.psp();
SELECT payment.next_task_due(pg_temp.psp()) <= clock_timestamp() AS due;
SELECT name FROM pg_temp.claim();

-- S04: the PSP may have forgotten the key: look it up instead of sending
SELECT pg_temp.record('c/1', 'unknown');
SELECT pg_temp.skip_time();
SELECT name, step FROM pg_temp.claim();
SELECT pg_temp.record('c/1', 'not_found');
SELECT pg_temp.age('c/1', interval '22 hours'), pg_temp.skip_time();
SELECT name, step, sent_before FROM pg_temp.claim();
SELECT pg_temp.record('c/1', 'retry', error_code => 'rate_limit');
SELECT pg_temp.age('c/1', interval '2 hours'), pg_temp.skip_time();
SELECT name, step, sent_before FROM pg_temp.claim();
-- nothing is found: people decide, the order's fate is open
SELECT pg_temp.record('c/1', 'not_found');
SELECT * FROM pg_temp.show('c/%');
SELECT step, object_id = pg_temp.object('c/1') AS c, last_error FROM payment.dead_letter WHERE psp = 'dispatch claim';
SELECT payment.retry_dead_letter(id) FROM payment.task WHERE object_id = pg_temp.object('c/1');
SELECT payment.retry_dead_letter(id) FROM payment.task WHERE object_id = pg_temp.object('c/1');
SELECT name, step FROM pg_temp.claim();
SELECT pg_temp.record('c/1', 'succeeded', 'claim_c/1');
SELECT * FROM pg_temp.show('c/%');

-- S20: a poison task dies after max_attempts tries, while others go on
UPDATE payment.psp SET max_attempts = 3 WHERE id = pg_temp.psp();
SELECT pg_temp.pay('poison', '1.00');
DO $$
BEGIN
    FOR i IN 1..3 LOOP
        PERFORM pg_temp.claim();
        PERFORM pg_temp.record('poison/1', 'retry', error_code => 'lock_timeout', error_message => 'busy');
        PERFORM pg_temp.skip_time();
    END LOOP;
END
$$;
SELECT * FROM pg_temp.show('poison/%');
SELECT pg_temp.pay('healthy', '1.00');
SELECT name, step FROM pg_temp.claim();
SELECT * FROM pg_temp.show('poison/%');
SELECT * FROM pg_temp.payment_of('poison/%');
SELECT step, tries, last_error FROM payment.dead_letter WHERE psp = 'dispatch claim';
SELECT * FROM pg_temp.claim();
-- brought back once, however often asked
SELECT payment.retry_dead_letter(task_id), payment.retry_dead_letter(task_id) FROM payment.dead_letter
    WHERE psp = 'dispatch claim';
SELECT name, step, key FROM pg_temp.claim();
SELECT pg_temp.record('poison/1', 'succeeded', 'claim_poison/1');
SELECT pg_temp.record('healthy/1', 'succeeded', 'claim_healthy/1');
SELECT payment.retry_dead_letter('00000000-0000-0000-0000-000000000000');

-- a claim that is lost on its last try is in doubt, and dead
SELECT pg_temp.pay('lost', '1.00');
UPDATE payment.psp SET max_attempts = 1 WHERE id = pg_temp.psp();
SELECT name, step FROM pg_temp.claim();
SELECT pg_temp.skip_time();
SELECT name, step FROM pg_temp.claim();
SELECT * FROM pg_temp.show('lost/%');
SELECT last_error FROM payment.dead_letter WHERE psp = 'dispatch claim';
UPDATE payment.psp SET max_attempts = 20 WHERE id = pg_temp.psp();
-- late, but definite: the dead letter is resolved
SELECT pg_temp.record('lost/1', 'succeeded', 'claim_lost/1');
SELECT * FROM pg_temp.show('lost/%');

-- a task that outlived its order is taken away
SELECT pg_temp.pay('over', '1.00');
SELECT name FROM pg_temp.claim();
SELECT pg_temp.record('over/1', 'declined', error_code => 'card_declined');
INSERT INTO payment.task (id, psp_id, operation, object_id, run_at)
    SELECT payment.new_id(), pg_temp.psp(), 'pay', pg_temp.object('over/1'), clock_timestamp();
SELECT * FROM pg_temp.claim();
SELECT * FROM pg_temp.show('over/%');

-- one without an object is not lost either
INSERT INTO payment.task (id, psp_id, operation, object_id, run_at)
    SELECT payment.new_id(), pg_temp.psp(), 'pay', payment.new_id(), clock_timestamp();
SELECT * FROM pg_temp.claim();
SELECT last_error FROM payment.dead_letter WHERE psp = 'dispatch claim';
DELETE FROM payment.task WHERE psp_id = pg_temp.psp();

-- stuck
SELECT pg_temp.pay('late', '1.00');
SELECT count(*) FROM payment.stuck WHERE psp = 'dispatch claim';
UPDATE payment.task SET run_at = clock_timestamp() - interval '6 minutes' WHERE psp_id = pg_temp.psp();
SELECT psp_state, operation, step, tries, lease_expired FROM payment.stuck WHERE psp = 'dispatch claim';
SELECT name FROM pg_temp.claim();
SELECT pg_temp.record('late/1', 'succeeded', 'claim_late/1');

SELECT count(*) FROM payment.verify();
SELECT count(*) FROM payment.task WHERE psp_id = pg_temp.psp();
