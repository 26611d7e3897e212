-- State machines: one table, enforced on everybody, with history.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/order.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;
SET test.psp = 'transitions';
SELECT count(payment.register_psp('transitions', 'none', 'http://127.0.0.1:1', 'none')) AS registered;
SELECT count(payment.register_seller('transitions seller', 'Seller')) AS registered;

-- the whole table
SELECT object, from_status, to_status, causes FROM payment.transitions()
ORDER BY object COLLATE "C", from_status COLLATE "C" NULLS FIRST, to_status COLLATE "C";
SELECT object, from_status, to_status, count(*) FROM payment.transitions() GROUP BY 1, 2, 3 HAVING count(*) > 1;
-- every status but the first ones is reached, and every one begins somewhere
SELECT object, from_status AS unreachable FROM payment.transitions() WHERE from_status IS NOT NULL
EXCEPT SELECT object, to_status FROM payment.transitions();

-- money does not come out of doubt by a timer, a rule or by hand
SELECT DISTINCT unnest(causes) AS cause FROM payment.transitions()
WHERE object IN ('payment_order', 'payout', 'refund') AND from_status = 'unknown' ORDER BY 1;
-- nor into success
SELECT DISTINCT unnest(causes) AS cause FROM payment.transitions()
WHERE (object, to_status) IN (('payment_order', 'captured'), ('payout', 'paid'), ('refund', 'succeeded')) ORDER BY 1;

-- an order, a payment and a payout to try by hand
SELECT pg_temp.buy('first', 'transitions seller', '10.00', 'USD');
SELECT pg_temp.send('succeeded');
SELECT payment.release(pg_temp.object('first'));
SELECT count(payment.payout(payment.seller_id('transitions seller'), 400, 'USD', 'bank', 'transitions payout',
    'transitions')) AS made;

-- Every pair of statuses, by hand: only what the table gives to operators.
-- The row gets its first status past the guard.
CREATE FUNCTION pg_temp.try_by_hand(object_name text, tablename text) RETURNS TABLE (tried bigint, allowed text[])
LANGUAGE plpgsql AS $$
DECLARE
    pair record;
    is_legal boolean;
    passed boolean;
BEGIN
    tried := 0;
    FOR pair IN
        SELECT a.status AS before, b.status AS after
        FROM (SELECT DISTINCT to_status AS status FROM payment.transitions() WHERE object = object_name) AS a,
            (SELECT DISTINCT to_status AS status FROM payment.transitions() WHERE object = object_name
             UNION ALL SELECT 'nonsense') AS b
        WHERE a.status <> b.status ORDER BY a.status COLLATE "C", b.status COLLATE "C"
    LOOP
        is_legal := EXISTS (SELECT FROM payment.transitions() AS t WHERE t.object = object_name
            AND t.from_status = pair.before AND t.to_status = pair.after AND 'operator' = ANY (t.causes));
        passed := false;
        BEGIN
            EXECUTE format('ALTER TABLE payment.%I DISABLE TRIGGER guard_update', tablename);
            EXECUTE format('UPDATE payment.%I SET status = %L WHERE psp_id = pg_temp.psp()', tablename, pair.before);
            EXECUTE format('ALTER TABLE payment.%I ENABLE ALWAYS TRIGGER guard_update', tablename);
            BEGIN
                EXECUTE format('UPDATE payment.%I SET status = %L WHERE psp_id = pg_temp.psp()', tablename, pair.after);
                passed := true;
            EXCEPTION WHEN SQLSTATE 'PY300' THEN
                NULL;
            END;
            RAISE EXCEPTION USING ERRCODE = 'ZZ001';
        EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
            NULL;
        END;
        tried := tried + 1;
        IF passed <> is_legal THEN
            RAISE WARNING '% -> %: passed is %, legal is %', pair.before, pair.after, passed, is_legal;
        END IF;
        IF passed THEN
            allowed := allowed || (pair.before || ' -> ' || pair.after);
        END IF;
    END LOOP;
    RETURN NEXT;
END
$$;
SELECT * FROM pg_temp.try_by_hand('payment', 'payment_record');
SELECT * FROM pg_temp.try_by_hand('payment_order', 'order_record');
SELECT * FROM pg_temp.try_by_hand('payout', 'payout_record');

-- S65: a raw UPDATE of any column, by a superuser; in the partition, too
CREATE FUNCTION pg_temp.touch(tablename text) RETURNS TABLE (column_name text, answer text) LANGUAGE sql AS $$
    SELECT a.attname, left(pg_temp.error_of(format('UPDATE payment.%I SET %I = %s WHERE psp_id = pg_temp.psp()',
        tablename, a.attname, CASE a.atttypid
            WHEN 'uuid'::regtype THEN 'payment.new_id()'
            WHEN 'text'::regtype THEN '''changed'''
            WHEN 'timestamptz'::regtype THEN 'now() - interval ''1 day'''
            WHEN 'uuid[]'::regtype THEN '''{}'''
            WHEN 'boolean'::regtype THEN 'true'
            WHEN 'jsonb'::regtype THEN '''{"changed": true}'''
            ELSE '77' END)), 5)
    FROM pg_attribute AS a
    WHERE a.attrelid = ('payment.' || tablename)::regclass AND a.attnum > 0 ORDER BY a.attnum
$$;
SELECT * FROM pg_temp.touch('payment_record');
SELECT * FROM pg_temp.touch('order_record');
SELECT * FROM pg_temp.touch('payout_record');
SELECT count(*) FROM pg_temp.touch('order_record') AS a FULL JOIN pg_temp.touch('order_record_default') AS b
    USING (column_name) WHERE a.answer IS DISTINCT FROM b.answer;
SELECT updated_at > now() - interval '1 hour' AS updated_at_is_ours FROM payment.order_record
WHERE id = pg_temp.object('first');
-- what the errors say
UPDATE payment.order_record SET status = 'failed' WHERE id = pg_temp.object('first');
UPDATE payment.order_record SET amount = 1 WHERE id = pg_temp.object('first');
UPDATE payment.order_record SET captured_amount = 1 WHERE id = pg_temp.object('first');
UPDATE payment.order_record SET status = NULL WHERE id = pg_temp.object('first');

-- S65: rows by hand
SELECT c, pg_temp.error_of(c) FROM unnest(ARRAY[
    'INSERT INTO payment.order_record SELECT * FROM payment.order_record',
    'INSERT INTO payment.order_record_default SELECT * FROM payment.order_record WHERE false',
    'INSERT INTO payment.payment_record SELECT * FROM payment.payment_record',
    'INSERT INTO payment.payout_record SELECT * FROM payment.payout_record',
    'INSERT INTO payment.status_history SELECT * FROM payment.status_history',
    'INSERT INTO payment.idempotency SELECT key || ''x'', operation, fingerprint, result FROM payment.idempotency',
    'INSERT INTO payment.idempotency SELECT * FROM payment.idempotency ON CONFLICT (key) DO UPDATE SET operation = ''pay_out''',
    'INSERT INTO payment.psp_reference SELECT psp_id, reference || ''x'', object_id FROM payment.psp_reference',
    'INSERT INTO payment.attempt SELECT * FROM payment.attempt',
    'DELETE FROM payment.order_record',
    'DELETE FROM payment.order_record_default WHERE false',
    'DELETE FROM payment.payment_record',
    'DELETE FROM payment.payout_record',
    'DELETE FROM payment.status_history',
    'DELETE FROM payment.idempotency',
    'DELETE FROM payment.psp_reference',
    'DELETE FROM payment.attempt',
    'TRUNCATE payment.order_record',
    'TRUNCATE payment.order_record_default',
    'TRUNCATE payment.payment_record, payment.order_record CASCADE',
    'TRUNCATE payment.payout_record',
    'TRUNCATE payment.status_history',
    'TRUNCATE payment.idempotency',
    'TRUNCATE payment.psp_reference',
    'TRUNCATE payment.attempt',
    'UPDATE payment.status_history SET actor = ''nobody''',
    'UPDATE payment.idempotency SET operation = ''pay_out''',
    'UPDATE payment.psp_reference SET object_id = payment.new_id()',
    'UPDATE payment.attempt SET outcome = ''succeeded''',
    'MERGE INTO payment.idempotency AS i USING payment.psp AS p ON i.key = p.name WHEN NOT MATCHED THEN DO NOTHING',
    'MERGE INTO payment.idempotency AS i USING payment.psp AS p ON i.key = p.name WHEN MATCHED THEN DELETE',
    'SELECT payment.guard_rows()',
    'SELECT payment.guard_update()',
    'SELECT payment.record_history()']) AS c;

-- also for a session that calls itself a replica
SET session_replication_role = replica;
SELECT pg_temp.error_of('DELETE FROM payment.order_record');
SELECT pg_temp.error_of('UPDATE payment.order_record SET status = ''failed''');
RESET session_replication_role;
SELECT c.relname, t.tgname, t.tgenabled FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
WHERE c.relnamespace = 'payment'::regnamespace AND t.tgenabled <> 'A' ORDER BY 1, 2;
-- every partition has the statement triggers of its parent
SELECT i.inhrelid::regclass, p.tgname FROM pg_inherits AS i JOIN pg_trigger AS p ON p.tgrelid = i.inhparent
WHERE p.tgrelid::regclass::text LIKE 'payment.%' AND NOT EXISTS (
    SELECT FROM pg_trigger AS t WHERE t.tgrelid = i.inhrelid AND t.tgname = p.tgname) ORDER BY 1, 2;
-- the guards refuse to be used in another way
CREATE TABLE mine (id uuid, status text);
CREATE TRIGGER a BEFORE INSERT ON mine FOR EACH ROW EXECUTE FUNCTION payment.guard_rows();
INSERT INTO mine VALUES (payment.new_id(), 'created');
DROP TRIGGER a ON mine;
CREATE TRIGGER a AFTER INSERT ON mine FOR EACH STATEMENT EXECUTE FUNCTION payment.record_history('payment_order');
INSERT INTO mine VALUES (payment.new_id(), 'created');
DROP TRIGGER a ON mine;
CREATE TRIGGER a BEFORE UPDATE ON mine FOR EACH ROW EXECUTE FUNCTION payment.guard_update('dispute');
INSERT INTO mine VALUES (payment.new_id(), 'created');
UPDATE mine SET status = 'failed';
DROP TABLE mine;

-- history: what happened, once each, and by whom
SELECT pg_temp.history(pg_temp.object('first'));
SELECT pg_temp.history((SELECT payment_id FROM payment.order_record WHERE id = pg_temp.object('first')));
SELECT pg_temp.history(pg_temp.object('bank'));
SELECT DISTINCT actor = session_user AS by_us FROM payment.status_history WHERE object_id = pg_temp.object('first');
-- an operator has the PSP asked about an order that hangs
SELECT pg_temp.buy('hangs', 'transitions seller', '1.00', 'USD');
SELECT count(*) AS claimed FROM payment.claim_tasks(pg_temp.psp(), 10, 60000);
UPDATE payment.order_record SET status = 'unknown' WHERE id = pg_temp.object('hangs');
UPDATE payment.order_record SET description = 'asked for' WHERE id = pg_temp.object('hangs');
UPDATE payment.order_record SET status = 'captured' WHERE id = pg_temp.object('hangs');
SELECT pg_temp.history(pg_temp.object('hangs'));
-- a statement over many rows records only those that changed
SELECT count(*) AS before FROM payment.status_history \gset
UPDATE payment.order_record SET metadata = metadata || '{"seen": true}' WHERE psp_id = pg_temp.psp();
SELECT count(*) - :before AS recorded FROM payment.status_history;
