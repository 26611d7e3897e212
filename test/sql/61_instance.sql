-- Which copy of a database may send: what can be seen without a copy.
\set VERBOSITY terse
\set SHOW_CONTEXT never
BEGIN;
DELETE FROM payment.task;
SELECT cause, may_have_sent, reason, database_id = (SELECT oid FROM pg_database WHERE datname = current_database()) AS here,
    system_identifier = (SELECT system_identifier FROM pg_control_system()) AS this_cluster, machine <> '' AS machine,
    data_directory <> '' AS directory
FROM payment.instance ORDER BY generation LIMIT 1;
SELECT payment.sending_refusal();

-- what waits, what is under way, what is dead
SELECT payment.register_psp('instance', 'stripe', 'http://127.0.0.1:1', 'none') AS psp \gset
SELECT payment.register_seller('instance', 'Instance') \g /dev/null
SELECT order_ids[1] AS dead, order_ids[2] AS claimed, order_ids[3] AS waiting FROM payment.checkout('instance one', 'payer',
    (SELECT jsonb_agg('{"seller": "instance", "amount": 1000, "currency": "EUR"}'::jsonb) FROM generate_series(1, 3)),
    'instance', 'pm') \gset
UPDATE payment.task SET dead_at = now() WHERE object_id = :'dead';
UPDATE payment.task SET run_at = now() + interval '1 hour' WHERE object_id = :'waiting';
SELECT count(*) FROM payment.claim_tasks(:'psp', 10, 60000);
CREATE TEMP VIEW tasks AS
SELECT CASE object_id WHEN :'dead' THEN 'dead' WHEN :'claimed' THEN 'claimed' ELSE 'waiting' END AS task, step,
    first_sent_at = payment.id_time(object_id) AS since_it_was_made, last_sent_at IS NOT NULL AS until_now,
    run_at <= clock_timestamp() AS due
FROM payment.task ORDER BY 1;
SELECT * FROM tasks;

-- rows that no register_psp() wrote: as a restore does
SAVEPOINT restore;
INSERT INTO payment.psp (id, name, adapter, base_url, secret_name) SELECT payment.new_id(), 'copied', 'none', 'http://x', 'x';
SELECT generation, cause, reason FROM payment.instance ORDER BY 1;
SELECT payment.sending_refusal();
SAVEPOINT claim;
\set VERBOSITY default
SELECT payment.claim_tasks(:'psp', 10, 60000);
\set VERBOSITY terse
ROLLBACK TO claim;
-- all else goes on
SELECT payment.register_psp('instance', 'stripe', 'http://127.0.0.1:2', 'none') = :'psp';
SELECT (payment.checkout('instance two', 'payer', '[{"seller": "instance", "amount": 1000, "currency": "EUR"}]', 'instance', 'pm')) IS NOT NULL;
SELECT count(*) > 0 FROM payment.next_task_due();
SELECT cause FROM payment.instance ORDER BY generation DESC LIMIT 1;

-- until somebody says that this is the one
\set VERBOSITY default
SELECT payment.adopt('the old server burnt down');
\set VERBOSITY terse
SELECT payment.sending_refusal();
SELECT generation, cause, may_have_sent, reason, recorded_by = session_user AS me FROM payment.instance ORDER BY 1;
SELECT * FROM tasks;
-- what was under way is looked up
SELECT step, object_id = :'claimed' AS was_under_way FROM payment.claim_tasks(:'psp', 10, 60000) ORDER BY 2;
SELECT status FROM payment.payment_order WHERE id = :'claimed';
ROLLBACK TO restore;

-- the same data in another place: only what was under way
SELECT payment.adopt('moved', may_have_sent => false);
SELECT * FROM tasks;

-- it is not for everybody, nor for no reason
SAVEPOINT a;
SELECT payment.adopt(NULL);
ROLLBACK TO a;
SELECT payment.adopt(E' \n');
ROLLBACK TO a;
SELECT payment.adopt('x', NULL);
ROLLBACK TO a;
SELECT payment.adopt('4111 1111 1111 1111');
ROLLBACK TO a;
SELECT payment.adopt(repeat('x', 2000));
ROLLBACK TO a;
SET LOCAL ROLE payment_finance;
SELECT payment.adopt('x');
ROLLBACK TO a;
SET LOCAL ROLE payment_worker;
SELECT payment.sending_refusal(), payment.take_over();
SELECT payment.note_standbys(0);
ROLLBACK TO a;
UPDATE payment.instance SET database_id = 0;
ROLLBACK TO a;
DELETE FROM payment.instance;
ROLLBACK TO a;

-- nothing to dump
SELECT count(*) FROM pg_extension, unnest(extconfig) AS t WHERE t IN ('payment.instance'::regclass, 'payment.synchronous_standby'::regclass);

-- dropping what holds money
SAVEPOINT b;
\set VERBOSITY default
DROP EXTENSION payment CASCADE;
\set VERBOSITY terse
ROLLBACK TO b;
DROP EXTENSION IF EXISTS payment;
ROLLBACK TO b;
DROP SCHEMA payment CASCADE;
ROLLBACK TO b;
SET LOCAL session_replication_role = replica;
DROP EXTENSION payment CASCADE;
ROLLBACK TO b;
CREATE ROLE payment_test_owner SUPERUSER;
UPDATE pg_extension SET extowner = 'payment_test_owner'::regrole WHERE extname = 'payment';
DROP OWNED BY payment_test_owner CASCADE;
ROLLBACK TO b;
CREATE SCHEMA other;
DROP SCHEMA other;
SET LOCAL payment.allow_drop = on;
DROP VIEW tasks;
DROP EXTENSION payment;
CREATE EXTENSION payment;
DROP EXTENSION payment;
ROLLBACK;
