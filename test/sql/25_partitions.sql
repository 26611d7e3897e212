-- Time partitions: as the default partition is, for what is to come.
SET TimeZone = 'UTC';

SELECT payment.open_account('partitions_a', 'asset', 'USD') AS a, payment.open_account('partitions_b', 'asset', 'USD') AS b \gset
-- journals of the current month are in the default partition already
SELECT payment.post_journal('test', ARRAY[:'a', :'b']::uuid[], '{1,-1}') IS NOT NULL AS posted;

SELECT payment.create_partitions('infinity');
SELECT payment.create_partitions('3000-01-01');
SELECT payment.create_partitions('2000-01-01');
SELECT payment.keep_partitions_ahead(NULL);
SET ROLE payment_app;
SELECT payment.create_partitions();
RESET ROLE;

BEGIN;
-- settings of the caller's do not matter
SET LOCAL TimeZone = 'Pacific/Auckland';
SET LOCAL search_path = pg_temp;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC;
SELECT payment.create_partitions();
SELECT payment.create_partitions();
RESET search_path;
SET LOCAL TimeZone = 'UTC';

-- three months ahead, and the current one where the default partition has no rows
SELECT parent::text, count(*), bool_and(until_time = from_time + interval '1 month') AS months,
    min(from_time) = date_trunc('month', now()) AS from_now, max(until_time) = date_trunc('month', now()) + interval '4 months' AS until_then,
    bool_and(partition::text = parent::text || '_p' || to_char(from_time, 'YYYYMM')) AS named
FROM payment.time_partition WHERE from_time IS NOT NULL GROUP BY 1 ORDER BY 1;

-- the same columns, settings, indexes, triggers and grants as the default partition has
CREATE TEMP VIEW made AS
    SELECT p.partition::oid AS relid, d.partition::oid AS default_id
    FROM payment.time_partition p JOIN payment.time_partition d USING (parent)
    WHERE p.from_time IS NOT NULL AND d.from_time IS NULL;
SELECT count(*) > 0 AS made FROM made;
SELECT relid::regclass FROM made WHERE
    (SELECT array_agg((attname, atttypid, attnotnull, atthasdef, attstorage)::text ORDER BY attnum) FROM pg_attribute WHERE attrelid = relid AND attnum > 0)
    IS DISTINCT FROM
    (SELECT array_agg((attname, atttypid, attnotnull, atthasdef, attstorage)::text ORDER BY attnum) FROM pg_attribute WHERE attrelid = default_id AND attnum > 0);
SELECT relid::regclass, p.reloptions, d.reloptions, p.relacl FROM made JOIN pg_class p ON p.oid = relid JOIN pg_class d ON d.oid = default_id
WHERE p.reloptions IS DISTINCT FROM d.reloptions OR p.relowner <> d.relowner OR p.relam <> d.relam
    OR EXISTS (SELECT FROM aclexplode(p.relacl) WHERE grantee <> p.relowner);
SELECT relid::regclass FROM made WHERE
    (SELECT array_agg(substring(pg_get_indexdef(indexrelid) FROM ' USING .*') || indisprimary ORDER BY substring(pg_get_indexdef(indexrelid) FROM ' USING .*')) FROM pg_index WHERE indrelid = relid)
    IS DISTINCT FROM
    (SELECT array_agg(substring(pg_get_indexdef(indexrelid) FROM ' USING .*') || indisprimary ORDER BY substring(pg_get_indexdef(indexrelid) FROM ' USING .*')) FROM pg_index WHERE indrelid = default_id);
SELECT relid::regclass FROM made WHERE
    (SELECT array_agg(replace(pg_get_triggerdef(oid), relid::regclass::text, '') || tgenabled::text ORDER BY tgname) FROM pg_trigger WHERE tgrelid = relid)
    IS DISTINCT FROM
    (SELECT array_agg(replace(pg_get_triggerdef(oid), default_id::regclass::text, '') || tgenabled::text ORDER BY tgname) FROM pg_trigger WHERE tgrelid = default_id);
SELECT relid::regclass FROM made WHERE
    (SELECT array_agg(conname || pg_get_constraintdef(oid) ORDER BY conname) FROM pg_constraint WHERE conrelid = relid AND contype = 'c')
    IS DISTINCT FROM
    (SELECT array_agg(conname || pg_get_constraintdef(oid) ORDER BY conname) FROM pg_constraint WHERE conrelid = default_id AND contype = 'c');
SELECT DISTINCT obj_description(relid, 'pg_class') LIKE 'Rows of %' AS commented FROM made;

-- what a default partition takes is what no other does
SELECT DISTINCT payment.id_floor(from_time) = regexp_replace(pg_get_expr(relpartbound, oid), '.*FROM \(''(.*)''\) TO.*', '\1')::uuid AS bound
FROM payment.time_partition JOIN pg_class ON oid = partition WHERE from_time IS NOT NULL;

-- the worker: nothing before there is a PSP; a few at a time, never the current month
SAVEPOINT worker;
ALTER TABLE payment.psp DISABLE TRIGGER guard_rows;
DELETE FROM payment.psp;
SET LOCAL ROLE payment_worker;
SELECT payment.keep_partitions_ahead(1);
ROLLBACK TO worker;

-- dropping the extension would take the partitions with it
\set VERBOSITY terse
SET LOCAL payment.allow_drop = on;
DROP EXTENSION payment;
\set VERBOSITY default
ROLLBACK;

BEGIN;
SELECT payment.register_psp('partitions', 'none', 'http://127.0.0.1:1', 'none') IS NOT NULL AS registered;
SET LOCAL ROLE payment_worker;
SELECT payment.keep_partitions_ahead(1);
SELECT payment.keep_partitions_ahead(4);
SELECT payment.keep_partitions_ahead(1000);
SELECT payment.keep_partitions_ahead(1000);
RESET ROLE;
SELECT min(from_time) = date_trunc('month', now(), 'UTC') + interval '1 month' AS from_next FROM payment.time_partition;
-- a partition that somebody made otherwise is left alone, as is what it covers
SELECT payment.create_partitions(now() + interval '9 months') > 0 AS made;
CREATE TABLE payment.attempt_far PARTITION OF payment.attempt (PRIMARY KEY (id))
    FOR VALUES FROM (payment.id_floor(date_trunc('month', now(), 'UTC') + interval '375 days')) TO (MAXVALUE);
SELECT payment.create_partitions(date_trunc('month', now(), 'UTC') + interval '20 months') > 0 AS made;
SELECT parent::text, count(*) FROM payment.time_partition WHERE from_time IS NOT NULL GROUP BY 1 ORDER BY 1;
-- no default partition to make it like
ALTER TABLE payment.attempt DETACH PARTITION payment.attempt_default;
DROP TABLE payment.attempt_far;
SELECT payment.create_partitions(now() + interval '20 months');
ROLLBACK;
