-- The worker's side of the API where no worker runs, or one that is not
-- looked at: everything can be called, and says what it can.
SELECT payment.wake_worker();
BEGIN;
SELECT payment.wake_worker();
SAVEPOINT s;
SELECT payment.wake_worker();
ROLLBACK TO s;
ROLLBACK;

SELECT count(*) >= 0 AS answers FROM payment.worker_status;
SELECT count(*) = 0 AS hidden FROM payment.worker_slots() WHERE last_error IS NOT NULL AND database_id <>
    (SELECT oid FROM pg_database WHERE datname = current_database());

-- who may
SELECT r.name,
    has_table_privilege(r.name, 'payment.worker_status', 'SELECT') AS status,
    has_function_privilege(r.name, 'payment.worker_slots()', 'EXECUTE') AS slots,
    has_function_privilege(r.name, 'payment.wake_worker()', 'EXECUTE') AS wake,
    has_table_privilege(r.name, 'payment.psp', 'SELECT') AS psp
FROM (VALUES ('payment_app'), ('payment_finance'), ('payment_admin'), ('payment_auditor'), ('payment_worker'),
    ('pg_monitor')) AS r (name)
ORDER BY r.name;

-- settings: what can be set where, and in which bounds
SELECT name, unit, context, min_val, max_val, boot_val FROM pg_settings
WHERE name LIKE 'payment.%' AND name <> 'payment.max_databases' ORDER BY name COLLATE "C";
SET payment.shard_id = 1;
SET payment.max_orders_per_payment = 0;
SET payment.max_metadata_bytes = '2MB';
SET payment.max_text_bytes = '2kB';
SHOW payment.max_text_bytes;
RESET payment.max_text_bytes;
SET payment.no_such_setting = 1;
