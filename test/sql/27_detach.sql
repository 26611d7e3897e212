-- Detaching: closed periods only, and the balances stay true.
-- In a database of its own, for periods in which nothing else happens.
\set here :DBNAME
CREATE DATABASE regression_detach;
\c regression_detach
CREATE EXTENSION payment;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';

SELECT payment.open_account('detach_a', 'liability', 'USD') AS a, payment.open_account('detach_b', 'asset', 'USD') AS b,
    payment.open_account('detach_e', 'asset', 'EUR') AS e, payment.open_account('detach_f', 'asset', 'EUR') AS f \gset

SELECT payment.detach_partitions(NULL);
SELECT payment.detach_partitions('2020-01-01', NULL);
SELECT payment.detach_partitions('infinity');
\set VERBOSITY sqlstate
SELECT payment.detach_partitions(now() + interval '1 day');
\set VERBOSITY default
SELECT * FROM payment.detach_partitions('-infinity');
SELECT * FROM payment.detach_partitions(now(), true);
SET ROLE payment_finance;
SELECT payment.detach_partitions('2020-01-01');
RESET ROLE;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT payment.detach_partitions('2020-01-01');
ROLLBACK;

-- two partitions of three seconds each, as nobody would want to wait for a month
BEGIN;
CREATE FUNCTION pg_temp.make(parent text, name text, key text, from_time timestamptz, until_time timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE payment.%I (LIKE payment.%I INCLUDING ALL)', parent || name, parent || '_default');
    IF parent IN ('journal', 'entry') THEN
        EXECUTE format('CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON payment.%I '
            'FOR EACH STATEMENT EXECUTE FUNCTION payment.guard_ledger()', parent || name);
    END IF;
    EXECUTE format('ALTER TABLE payment.%I ATTACH PARTITION payment.%I FOR VALUES FROM (%L) TO (%L)', parent, parent || name,
        payment.id_floor(from_time), payment.id_floor(until_time));
END
$$;
SELECT clock_timestamp() AS t0 \gset
SELECT pg_temp.make(parent, '_old' || n, key, :'t0'::timestamptz + (n - 1) * interval '3 s', :'t0'::timestamptz + n * interval '3 s')
FROM (VALUES ('journal', 'id'), ('entry', 'journal_id'), ('order_record', 'id'), ('status_history', 'id')) p (parent, key), generate_series(1, 2) n
\g /dev/null
SELECT count(payment.post_journal('first', ARRAY[:'a', :'b']::uuid[], ARRAY[-100, 100], NULL, '2026-01-01')) FROM generate_series(1, 5);
SELECT payment.post_journal('first', ARRAY[:'a', :'b', :'e', :'f']::uuid[], '{-7,7,-2,2}', NULL, '2026-03-01') AS gone \gset
SELECT count(*) FROM payment.entry_old1;
SELECT pg_sleep(greatest(0, 3.1 - extract(epoch FROM clock_timestamp() - :'t0')))::text AS second_period;
SELECT payment.post_journal('second', ARRAY[:'a', :'b']::uuid[], '{-20,20}', NULL, '2026-02-01') AS kept \gset
SELECT count(*) FROM payment.entry_old2;
COMMIT;

-- an entry partition without one of journals
BEGIN;
ALTER TABLE payment.journal DETACH PARTITION payment.journal_old1;
SELECT * FROM payment.detach_partitions(:'t0'::timestamptz + interval '3 s');
ROLLBACK;

-- what is open in the period, each by itself
CREATE FUNCTION pg_temp.refused_at(change text, older_than timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    EXECUTE change;
    PERFORM payment.detach_partitions(older_than);
    RETURN 'not refused';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN SQLSTATE || ' ' || detail;
END
$$;
SELECT payment.id_floor(:'t0'::timestamptz) AS old \gset
SELECT pg_temp.refused_at(replace(change, '$1', quote_literal(:'old')), :'t0'::timestamptz + interval '3 s') FROM (VALUES
    ('ALTER TABLE payment.order_record_old1 DISABLE TRIGGER ALL; INSERT INTO payment.order_record_old1 SELECT $1, $1, $1, $1, 1, ''USD'', 0, 0, ''unknown'', 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, ''{}'', now()'),
    ('ALTER TABLE payment.order_record_old1 DISABLE TRIGGER ALL; INSERT INTO payment.order_record_old1 SELECT $1, $1, $1, $1, 1, ''USD'', 0, 1, ''captured'', 1, now(), NULL, NULL, NULL, NULL, NULL, NULL, ''{}'', now()'),
    ('ALTER TABLE payment.payout_record_default DISABLE TRIGGER ALL; INSERT INTO payment.payout_record_default VALUES ($1, $1, $1, 1, ''USD'', ''d'', ''in_transit'', 1, NULL, NULL, NULL, ''me'', now())'),
    ('INSERT INTO payment.task (id, psp_id, operation, object_id, run_at) VALUES ($1, $1, ''pay'', $1, now())'),
    ('ALTER TABLE payment.unsettled_order DISABLE TRIGGER ALL; INSERT INTO payment.unsettled_order VALUES ($1, $1, now())'),
    ('ALTER TABLE payment.exception_record DISABLE TRIGGER ALL; INSERT INTO payment.exception_record (id, type, psp_id, order_id, status, detail, opened_at) VALUES ($1, ''amount'', $1, $1, ''open'', ''d'', now())'),
    ('ALTER TABLE payment.settlement_line_default DISABLE TRIGGER ALL; INSERT INTO payment.settlement_line_default VALUES ($1, $1, $1, 1, ''charge'', ''e'', NULL, NULL, ''USD'', 1, 0, 1, NULL, NULL, NULL, NULL, false)'),
    ('ALTER TABLE payment.hold DISABLE TRIGGER ALL; INSERT INTO payment.hold (id, account_id, amount) VALUES ($1, $1, 1)'),
    -- the clock was set back between hold and journal
    ('ALTER TABLE payment.hold DISABLE TRIGGER ALL; ALTER TABLE payment.journal_old1 DISABLE TRIGGER ALL;
        INSERT INTO payment.hold (id, account_id, amount, state, closed_at) VALUES (payment.new_id(), $1, 1, ''voided'', now());
        INSERT INTO payment.journal_old1 SELECT $1, ''hold_posted'', id, NULL, now(), now() FROM payment.hold')) c (change);

-- detached: balances, statements and verification go on
PREPARE balances AS SELECT a.code, (payment.balance(a.id)).posted, payment.balance_as_of(a.id, 'infinity') AS as_of
FROM payment.account a WHERE a.code LIKE 'detach\__' ORDER BY 1;
EXECUTE balances;
SELECT * FROM payment.trial_balance() WHERE code LIKE 'detach%';
BEGIN;
SELECT parent, partition, until_time - from_time AS span, row_count FROM payment.detach_partitions(:'t0'::timestamptz + interval '3.05 s');
ROLLBACK;
SET ROLE payment_admin;
SELECT parent, partition, until_time - from_time AS span, row_count FROM payment.detach_partitions(:'t0'::timestamptz + interval '3.05 s');
RESET ROLE;
EXECUTE balances;
SELECT * FROM payment.trial_balance() WHERE code LIKE 'detach%';
SELECT * FROM payment.verify();
SELECT a.code, d.amount FROM payment.detached_balance d JOIN payment.account a ON a.id = d.account_id ORDER BY 1;
SELECT parent, partition, row_count, last_effective_at, detached_by = session_user AS by_me FROM payment.detached_partition ORDER BY 1;
SELECT count(*) FROM payment.journal WHERE id = :'gone';
SELECT count(*) FROM payment.journal_old1;
SELECT line, kind, debit, credit, balance FROM payment.statement(:'a');
SELECT payment.balance_as_of(:'a', '2026-03-01');
SELECT payment.balance_as_of(:'a', '2026-02-15');
SELECT line, kind, balance FROM payment.statement(:'a', page_size => 1);
-- entries of detached journals cannot come back, what was detached is still guarded
DELETE FROM payment.entry_old1;
DELETE FROM payment.detached_balance;
UPDATE payment.detached_balance SET amount = 0;
INSERT INTO payment.detached_balance VALUES (:'a', :'old', 1);
TRUNCATE payment.detached_partition;

-- what a superuser changes there is found
CREATE FUNCTION pg_temp.found(change text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        ALTER TABLE payment.detached_balance DISABLE TRIGGER ALL;
        ALTER TABLE payment.detached_partition DISABLE TRIGGER ALL;
        EXECUTE change;
        RETURN QUERY SELECT v.check_name || ' ' || coalesce(a.code, '-') || ' ' || v.expected || ' ' || v.actual
            FROM payment.verify() v LEFT JOIN payment.account a ON a.id = v.object_id ORDER BY 1;
        RAISE EXCEPTION 'undo';
    EXCEPTION WHEN raise_exception THEN
    END;
END
$$;
SELECT pg_temp.found('UPDATE payment.detached_balance SET amount = amount + 1 WHERE amount = 507');
SELECT pg_temp.found('DELETE FROM payment.detached_balance WHERE amount = 507');
SELECT pg_temp.found('DELETE FROM payment.detached_partition WHERE parent = ''entry''');
SELECT * FROM payment.verify();

-- attached again: counted twice, which verify() finds and detaching refuses; nor is such a range made again
BEGIN;
ALTER TABLE payment.journal ATTACH PARTITION payment.journal_old1
    FOR VALUES FROM (payment.id_floor(:'t0')) TO (payment.id_floor(:'t0'::timestamptz + interval '3 s'));
ALTER TABLE payment.entry ATTACH PARTITION payment.entry_old1
    FOR VALUES FROM (payment.id_floor(:'t0')) TO (payment.id_floor(:'t0'::timestamptz + interval '3 s'));
SELECT v.check_name, a.code, v.expected, v.actual FROM payment.verify() v JOIN payment.account a ON a.id = v.object_id ORDER BY 1, 2;
SELECT * FROM payment.detach_partitions(:'t0'::timestamptz + interval '3.05 s');
ROLLBACK;
BEGIN;
ALTER TABLE payment.detached_partition DISABLE TRIGGER ALL;
INSERT INTO payment.detached_partition SELECT 'attempt', 'attempt_gone', payment.id_floor(date_trunc('month', now()) + interval '1 month 10 days'),
    payment.id_floor(date_trunc('month', now()) + interval '1 month 11 days'), 0,
    NULL, now(), 'me';
SELECT payment.create_partitions() > 0 AS made;
SELECT parent, count(*) FROM payment.time_partition WHERE from_time >= date_trunc('month', now()) + interval '1 month'
    AND parent IN ('payment.attempt'::regclass, 'payment.status_history'::regclass) GROUP BY 1 ORDER BY 1;
ROLLBACK;
-- the name of a partition is taken
BEGIN;
CREATE FUNCTION pg_temp.create_partitions() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN payment.create_partitions();
EXCEPTION WHEN SQLSTATE 'PY303' THEN
    RETURN regexp_replace(SQLERRM, '\d{4}-\d\d', 'a month');
END
$$;
DO $$ BEGIN EXECUTE format('CREATE TABLE payment.%I ()', to_char(now() + interval '1 month', '"attempt_p"YYYYMM')); END $$;
SELECT pg_temp.create_partitions();
ROLLBACK;

-- with all tables; what is detached stays guarded, row by row too
PREPARE triggers AS SELECT string_agg(tgname || tgenabled::text || pg_get_triggerdef(oid), ',' ORDER BY tgname) AS is
FROM pg_trigger WHERE tgrelid = 'payment.order_record_old1'::regclass;
EXECUTE triggers \gset triggers_
SELECT parent, partition, row_count FROM payment.detach_partitions(:'t0'::timestamptz + interval '3 s', true);
EXECUTE triggers \gset now_
SELECT :'now_is' = :'triggers_is' AND :'now_is' LIKE '%guard_update%' AS same_triggers;
INSERT INTO payment.order_record_old1 SELECT :'old', :'old', :'old', :'old', 1, 'USD', 0, 0, 'failed', 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{}', now();
UPDATE payment.order_record_old1 SET amount = 2;
SELECT pg_sleep(greatest(0, 6.1 - extract(epoch FROM clock_timestamp() - :'t0')))::text AS end_of_second_period;
SELECT parent, partition, row_count FROM payment.detach_partitions(clock_timestamp(), true);
EXECUTE balances;
SELECT * FROM payment.verify();
SELECT line, kind, balance FROM payment.statement(:'a');
DROP TABLE payment.journal_old1, payment.journal_old2, payment.entry_old1, payment.entry_old2, payment.order_record_old1,
    payment.order_record_old2, payment.status_history_old1, payment.status_history_old2;
SELECT * FROM payment.verify();
SELECT payment.post_journal('after', ARRAY[:'a', :'b']::uuid[], '{-1,1}') IS NOT NULL AS posted;
EXECUTE balances;
\c :here
DROP DATABASE regression_detach WITH (FORCE);
