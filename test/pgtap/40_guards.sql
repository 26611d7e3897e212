-- S65: nobody edits, deletes or truncates what was posted, not even a superuser,
-- by no statement that SQL has, on no parent and no partition.
\set ON_ERROR_STOP on
BEGIN;
SELECT no_plan();

-- Something in every table: three orders, one in conflict, one not settled yet, a payout, a file.
SELECT payment.register_psp('guards', 'stripe', 'http://127.0.0.1:1', 'none') AS psp \gset
SELECT payment.register_seller('guards', 'Guards') AS seller \gset
SELECT payment.set_fee_schedule(0, 0, :'seller', 'EUR', tiers => '[{"from_volume": 1, "basis_points": 0}]') AS fee \gset
SELECT order_ids[1] AS first, order_ids[2] AS second, order_ids[3] AS third FROM payment.checkout('guards', 'payer',
    (SELECT jsonb_agg('{"seller": "guards", "amount": 1000, "currency": "EUR"}'::jsonb) FROM generate_series(1, 3)),
    'guards', 'pm') \gset
SELECT payment.record_outcomes(array_agg(ROW(attempt_id, 'succeeded', 200, 1, 'pi_' || object_id,
    CASE object_id WHEN :'second' THEN 1001 ELSE 1000 END, 'EUR', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome)) AS recorded
FROM payment.claim_tasks(:'psp', 10, 60000) \gset
SELECT payment.release(:'first') \gset
SELECT payment.payout(:'seller', 400, 'EUR', 'account', 'guards payout', 'guards') AS payout \gset
SELECT payment.import_settlement('guards', 'stripe_csv', 'guards.csv', convert_to(
    E'balance_transaction_id,currency,gross,fee,net,reporting_category,payment_intent_id\n'
    || 'txn_guards,eur,10.00,0.30,9.70,charge,pi_' || :'first' || E'\n', 'UTF8')) AS file \gset
SELECT (payment.reconcile('guards')).run_id AS run \gset
SELECT payment.reverse_journal(id, 1) AS reversal FROM payment.journal WHERE kind = 'release' AND subject = :'first' \gset
SELECT payment.refund(:'first', 1, 'guards refund', fee_policy => 'none') AS refund \gset
SELECT (payment.checkout('guards lost', 'payer', '[{"seller": "guards", "amount": 1000, "currency": "EUR"}]', 'guards', 'pm')).order_ids[1] AS lost \gset
SELECT payment.record_outcomes(array_agg(ROW(attempt_id, 'unknown', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome))
    AS recorded FROM payment.claim_tasks(:'psp', 10, 60000) WHERE object_id = :'lost' \gset
UPDATE payment.task SET dead_at = now() WHERE object_id = :'lost';
SELECT payment.resolve_unknown(:'lost', 'failed', 'somebody', 'a reason') \gset
SELECT payment.create_hold(id, 1) AS hold FROM payment.account WHERE owner = :'seller' AND code = 'seller_available' \gset
SELECT payment.checkout('guards hosted', 'payer', '[{"seller": "guards", "amount": 1000, "currency": "EUR"}]', 'guards',
    hosted => '{"success_url": "https://a", "cancel_url": "https://a"}') AS hosted \gset
\ir ../lib/webhook.sql
SELECT pg_temp.write_secret('guards', 'whsec_guards') \gset
SELECT payment.register_psp('guards', 'stripe', 'http://127.0.0.1:1', 'none', webhook_secret_names => '{guards}') \gset
SELECT payment.receive_webhook('guards', pg_temp.signed(body, secret), body) FROM pg_temp.event('evt_guards', 'refund.created',
    '{"object": "refund", "id": "re_guards"}') AS e (body), unnest(ARRAY['whsec_guards', 'forged']) AS secret \g /dev/null
SELECT payment.register_psp('guards asked', 'paypal', 'http://127.0.0.1:1', 'none', '{"config": {"webhook_id": "2WEBHOOK"}}') \gset
SELECT payment.receive_webhook('guards', pg_temp.signed(body, 'whsec_guards'), body) FROM pg_temp.event('evt_guards_dispute', 'charge.dispute.funds_withdrawn',
    jsonb_build_object('object', 'dispute', 'id', 'dp_guards', 'status', 'needs_response', 'amount', 10, 'currency', 'eur',
        'payment_intent', (SELECT psp_reference FROM payment.order_record WHERE id = :'first'))) AS e (body) \g /dev/null
SELECT payment.accept_dispute(id, 'guards answer') AS response FROM payment.dispute WHERE psp_reference = 'dp_guards' \gset
SELECT payment.receive_webhook('guards asked', '{"paypal-auth-algo": "a", "paypal-cert-url": "b", "paypal-transmission-id": "c",
    "paypal-transmission-sig": "d", "paypal-transmission-time": "e"}', '{"id": "WH-1", "event_type": "x", "resource": {}}') \g /dev/null

-- tables, and the SQLSTATE with which each refuses
CREATE TEMP TABLE guarded AS
SELECT c.oid::regclass AS relation, c.relkind, c.relname,
    quote_ident((SELECT attname FROM pg_attribute WHERE attrelid = c.oid AND attnum = 1)) AS first_column,
    CASE WHEN c.relname ~ '^(account|journal|entry|balance_slot|hold|reversal)' THEN 'PY203' ELSE 'PY301' END AS refusal,
    -- changes of single rows and columns are judged row by row
    c.relname ~ '^(payment|order|refund|dispute|dispute_response|payout)_record|^settlement_file|^exception_record' AS by_row
FROM pg_class c
WHERE c.relnamespace = 'payment'::regnamespace AND c.relkind IN ('r', 'p')
    AND c.relname NOT IN ('psp', 'seller', 'routing_rule', 'task', 'circuit_breaker', 'webhook_waiting',
        'event_consumer', 'webhook_endpoint', 'event_delivery')
    -- empty until something is detached, which cannot be done here
    AND c.relname NOT IN ('detached_balance', 'detached_partition')
    -- empty but for payments that are all or nothing
    AND c.relname <> 'partial_failure'
    -- empty without a synchronous standby
    AND c.relname <> 'synchronous_standby';

CREATE FUNCTION pg_temp.attempt(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
    RAISE EXCEPTION USING ERRCODE = 'ZZ000';
EXCEPTION WHEN OTHERS THEN
    RETURN CASE SQLSTATE WHEN 'ZZ000' THEN 'done' ELSE SQLSTATE END;
END
$$;
CREATE FUNCTION pg_temp.fingerprint(relation regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    EXECUTE format('SELECT count(*) || md5(string_agg(t::text, $1 ORDER BY t::text)) FROM %s AS t', relation)
        INTO result USING ',';
    RETURN result;
END
$$;

SELECT is_empty($$SELECT relation FROM guarded WHERE pg_temp.fingerprint(relation) IS NULL$$, 'there is something in every table');
CREATE TEMP TABLE before AS SELECT relation, pg_temp.fingerprint(relation) AS rows FROM guarded;

-- guards are where they belong
SELECT is_empty($$
    SELECT relation FROM guarded WHERE NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = relation AND tgname LIKE 'guard%'
        AND tgenabled = 'A' AND tgtype & 1 = 0 AND tgtype & 2 = 2 AND tgtype & 4 = 4 AND tgtype & 8 = 8 AND tgtype & 32 = 32)
    $$, 'a guard before INSERT, DELETE and TRUNCATE, ENABLE ALWAYS, on every table, parent and partition');
SELECT is_empty($$
    SELECT relation FROM guarded WHERE NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = relation AND tgname LIKE 'guard%'
        AND tgenabled = 'A' AND tgtype & 2 = 2 AND tgtype & 16 = 16 AND (tgtype & 1 = 1) = by_row)
    $$, 'and one before UPDATE');
SELECT is_empty($$
    SELECT t.tgrelid::regclass, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE c.relnamespace = 'payment'::regnamespace AND t.tgenabled <> 'A'
    $$, 'no trigger of ours sleeps while a replica is fed');

-- every way to write that there is
CREATE TEMP TABLE attack (name text, command text, of_rows boolean);
INSERT INTO attack VALUES
    ('update', 'UPDATE %1$s SET %2$s = %2$s', true),
    ('update of no row', 'UPDATE %1$s SET %2$s = %2$s WHERE false', true),
    ('update, only', 'UPDATE ONLY %1$s SET %2$s = %2$s', true),
    ('update in a WITH', 'WITH u AS (UPDATE %1$s SET %2$s = %2$s RETURNING 1) SELECT count(*) FROM u', true),
    ('merge, update', 'MERGE INTO %1$s AS t USING (SELECT 1) AS s ON true WHEN MATCHED THEN UPDATE SET %2$s = t.%2$s', true),
    ('on conflict do nothing', 'INSERT INTO %1$s SELECT * FROM %1$s ON CONFLICT DO NOTHING', false),
    ('delete', 'DELETE FROM %1$s', false),
    ('delete of no row', 'DELETE FROM %1$s WHERE false', false),
    ('delete, only', 'DELETE FROM ONLY %1$s', false),
    ('delete by a join', 'DELETE FROM %1$s AS t USING %1$s AS o WHERE t.%2$s = o.%2$s', false),
    ('delete in a WITH', 'WITH d AS (DELETE FROM %1$s RETURNING 1) SELECT count(*) FROM d', false),
    ('merge, delete', 'MERGE INTO %1$s AS t USING (SELECT 1) AS s ON true WHEN MATCHED THEN DELETE', false),
    ('truncate', 'TRUNCATE %1$s', false),
    ('truncate, restart, cascade', 'TRUNCATE %1$s RESTART IDENTITY CASCADE', false),
    ('insert', 'INSERT INTO %1$s SELECT * FROM %1$s', false),
    ('insert of no row', 'INSERT INTO %1$s SELECT * FROM %1$s WHERE false', false),
    ('insert, overriding', 'INSERT INTO %1$s OVERRIDING SYSTEM VALUE SELECT * FROM %1$s', false),
    ('merge, insert', 'MERGE INTO %1$s AS t USING (SELECT 1) AS s ON false WHEN NOT MATCHED THEN INSERT DEFAULT VALUES', false),
    ('copy', 'COPY %1$s FROM ''/dev/null''', false),
    ('by a view', 'CREATE VIEW pg_temp.other AS SELECT * FROM %1$s; DELETE FROM pg_temp.other', false),
    ('by a rule', 'CREATE TABLE pg_temp.other (a int); CREATE RULE r AS ON INSERT TO pg_temp.other DO INSTEAD DELETE FROM %1$s; '
        'ALTER TABLE pg_temp.other ENABLE ALWAYS RULE r; INSERT INTO pg_temp.other VALUES (1)', false),
    ('by a function of the owner', 'CREATE FUNCTION pg_temp.f() RETURNS void LANGUAGE sql SECURITY DEFINER AS '
        '''DELETE FROM %1$s''; SELECT pg_temp.f()', false);

CREATE TEMP VIEW refusals AS
SELECT g.relation, a.name, g.refusal AS expected, pg_temp.attempt(format(a.command, g.relation, g.first_column)) AS actual
FROM guarded g CROSS JOIN attack a
WHERE NOT (a.of_rows AND g.by_row);
SELECT cmp_ok((SELECT count(*) FROM refusals)::int, '>', 400, 'some hundred attempts');
SELECT is_empty('SELECT * FROM refusals WHERE actual <> expected', 'S65 a superuser writes by none of them');
SET LOCAL session_replication_role = replica;
SELECT is_empty('SELECT * FROM refusals WHERE actual <> expected', 'S65 nor as a replica that is fed');
SET LOCAL session_replication_role = local;
SELECT is_empty('SELECT * FROM refusals WHERE actual <> expected', 'S65 nor as session_replication_role = local');
SET LOCAL session_replication_role = origin;

CREATE FUNCTION pg_temp.by_cursor(relation regclass, write text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('DECLARE attack CURSOR FOR SELECT * FROM %s FOR UPDATE', relation);
    EXECUTE 'MOVE NEXT IN attack';
    RETURN pg_temp.attempt(format(write, relation, (SELECT first_column FROM guarded g WHERE g.relation = by_cursor.relation)));
END
$$;
SELECT is(pg_temp.by_cursor('payment.entry_default', 'DELETE FROM %s WHERE CURRENT OF attack'), 'PY203', 'S65 nor by a cursor');
CLOSE attack;
SELECT is(pg_temp.by_cursor('payment.journal_default', 'UPDATE %s SET %s = DEFAULT WHERE CURRENT OF attack'), 'PY203', 'S65 nor so');
CLOSE attack;

SELECT is(pg_temp.attempt($$INSERT INTO payment.entry_default SELECT * FROM payment.entry_default
    ON CONFLICT (journal_id, leg) DO UPDATE SET amount = 1$$), 'PY203', 'S65 nor by ON CONFLICT DO UPDATE');
SELECT is(pg_temp.attempt($$INSERT INTO payment.balance_slot SELECT * FROM payment.balance_slot
    ON CONFLICT (account_id, slot) DO UPDATE SET balance = 0$$), 'PY203', 'S65 nor so');

-- partitions that are taken off keep what they hold
SELECT is(pg_temp.attempt($$ALTER TABLE payment.entry DETACH PARTITION payment.entry_default; DELETE FROM payment.entry_default$$),
    'PY203', 'S65 a detached partition is guarded as before');
SELECT is(pg_temp.attempt('DROP TABLE payment.entry_default'), '2BP01', 'nor can it be dropped: it is the extension''s');
SELECT is(pg_temp.attempt('DROP TABLE payment.entry CASCADE'), '2BP01', 'with all that hangs on it');

-- columns of rows that live: what is agreed, what follows from evidence, and the status
SELECT is(pg_temp.attempt(format('UPDATE payment.order_record SET %I = %s', c.name, c.value)), c.expected, 'S65 order: ' || c.name)
FROM (VALUES
    ('id', 'payment.new_id()', 'PY302'), ('payment_id', 'payment.new_id()', 'PY302'), ('seller_id', 'payment.new_id()', 'PY302'),
    ('psp_id', 'payment.new_id()', 'PY301'), ('amount', 'amount + 1', 'PY302'), ('currency', '''USD''', 'PY302'),
    ('platform_fee', '1', 'PY302'), ('captured_amount', '0', 'PY301'), ('attempt_no', '7', 'PY301'),
    ('captured_at', 'now() - interval ''1 day''', 'PY301'), ('released_at', 'now() - interval ''1 day''', 'PY301'),
    ('psp_reference', '''pi_other''', 'PY301'), ('authorized_amount', '7', 'PY301'), ('authorized_until', 'now()', 'PY301'),
    ('capture_no', '7', 'PY301'), ('operation_no', '7', 'PY301'), ('capturing_amount', '7', 'PY301'), ('capture_final', 'NOT capture_final', 'PY301'),
    ('pending_amount', 'pending_amount + 1', 'PY301'), ('refunded_amount', '1', 'PY301'), ('fee_returned', '1', 'PY301'),
    ('disputed_amount', '1', 'PY301'), ('disputed_fee', '1', 'PY301'), ('open_disputes', '7', 'PY301'),
    ('status', '''failed''', 'PY300'), ('status', 'NULL', 'PY300'),
    ('status', '''no such status''', 'PY300')) AS c (name, value, expected);
SELECT is(pg_temp.attempt(format('UPDATE payment.refund_record SET %I = %s', c.name, c.value)), c.expected, 'S65 refund: ' || c.name)
FROM (VALUES ('amount', 'amount + 1', 'PY302'), ('fee_share', '1', 'PY302'), ('from_pending', '7', 'PY302'), ('order_id', 'payment.new_id()', 'PY302'),
    ('psp_reference', '''re_other''', 'PY301'), ('attempt_no', '7', 'PY301'), ('status', '''succeeded''', 'PY300')) AS c (name, value, expected);
SELECT is(pg_temp.attempt(format('UPDATE payment.dispute_record SET %I = %s', c.name, c.value)), c.expected, 'S65 dispute: ' || c.name)
FROM (VALUES ('amount', 'amount + 1', 'PY301'), ('fee_share', '1', 'PY301'), ('from_pending', '7', 'PY301'), ('order_id', 'payment.new_id()', 'PY302'),
    ('psp_reference', '''dp_other''', 'PY302'), ('is_taken', 'NOT is_taken', 'PY301'), ('fee', '7', 'PY301'), ('sequence', '7', 'PY301'),
    ('status', '''chargeback/won''', 'PY300'), ('status', '''chargeback''', 'PY300')) AS c (name, value, expected);
SELECT is(pg_temp.attempt(format('UPDATE payment.payout_record SET %I = %s', c.name, c.value)), c.expected, 'S65 payout: ' || c.name)
FROM (VALUES ('amount', 'amount + 1', 'PY302'), ('seller_id', 'payment.new_id()', 'PY302'), ('destination', '''mine''', 'PY302'),
    ('currency', '''USD''', 'PY302'), ('requested_by', '''somebody''', 'PY302'), ('status', '''paid''', 'PY300')) AS c (name, value, expected);
SELECT is(pg_temp.attempt(format('UPDATE payment.payment_record SET %I = %s', c.name, c.value)), c.expected, 'S65 payment: ' || c.name)
FROM (VALUES ('payer', '''somebody''', 'PY302'), ('order_count', '7', 'PY302'), ('succeeded_count', '7', 'PY301'),
    ('status', '''succeeded''', 'PY300')) AS c (name, value, expected);
SELECT is(pg_temp.attempt(format('UPDATE payment.exception_record SET %I = %s', c.name, c.value)), c.expected, 'S65 exception: ' || c.name)
FROM (VALUES ('detail', '''all is well''', 'PY301'), ('actual_amount', '1000', 'PY301'), ('in_ledger', 'true', 'PY301'), ('type', '''fee''', 'PY302'), ('closed_at', 'now()', 'PY301'),
    ('status', '''resolved''', 'PY300')) AS c (name, value, expected);
SELECT is(pg_temp.attempt('SET LOCAL session_replication_role = replica; UPDATE payment.order_record SET status = ''failed'''),
    'PY300', 'S65 nor as a replica');

-- every status that a caller might wish for, from each that there is
SELECT is_empty($$
    SELECT o.status, t.status FROM payment.order_record o,
        (SELECT DISTINCT to_status AS status FROM payment.transitions() WHERE object = 'payment_order') AS t
    WHERE t.status <> o.status
        AND NOT EXISTS (SELECT FROM payment.transitions() x WHERE x.object = 'payment_order' AND x.from_status = o.status
            AND x.to_status = t.status AND 'operator' = ANY (x.causes))
        AND pg_temp.attempt(format('UPDATE payment.order_record SET status = %L WHERE id = %L', t.status, o.id)) <> 'PY300'
    $$, 'S65 a status changes by hand only where the table of transitions says operator');

SELECT set_eq('SELECT relation, pg_temp.fingerprint(relation) FROM guarded', 'SELECT relation, rows FROM before',
    'S65 after all that, every row is as it was');
SELECT is_empty('SELECT * FROM payment.verify()', 'verify() finds nothing');

-- who switches the guards off leaves traces that verify() finds
CREATE FUNCTION pg_temp.found_after(relation regclass, command text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    found bigint;
BEGIN
    EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', relation);
    EXECUTE command;
    found := (SELECT count(*) FROM payment.verify());
    RAISE EXCEPTION USING ERRCODE = 'ZZ000', MESSAGE = found;
EXCEPTION WHEN SQLSTATE 'ZZ000' THEN
    RETURN SQLERRM::bigint;
END
$$;
SELECT cmp_ok(pg_temp.found_after(c.relation, c.command)::int, '>', 0, 'verify() finds ' || c.name)
FROM (VALUES
    ('payment.entry_default'::regclass, 'UPDATE payment.entry_default SET amount = amount * 2', 'doubled entries'),
    ('payment.entry_default', 'UPDATE payment.entry_default SET amount = amount + 1 WHERE amount > 0', 'journals that do not sum to zero'),
    ('payment.entry_default', 'DELETE FROM payment.entry_default', 'deleted entries'),
    ('payment.journal_default', 'DELETE FROM payment.journal_default', 'deleted journals'),
    ('payment.journal_default', 'UPDATE payment.journal_default SET kind = ''other''', 'journals of another kind'),
    ('payment.balance_slot', 'UPDATE payment.balance_slot SET balance = balance + 1', 'balances that are no sum'),
    ('payment.account', 'DELETE FROM payment.account', 'deleted accounts'),
    ('payment.order_record_default', 'UPDATE payment.order_record_default SET captured_amount = captured_amount + 1', 'an order with more money'),
    ('payment.payout_record_default', 'UPDATE payment.payout_record_default SET status = ''paid''', 'a payout that nobody paid')
    ) AS c (relation, command, name);
SELECT is_empty('SELECT * FROM payment.verify()', 'and nothing once it is undone');

-- corrections are postings of their own
SELECT lives_ok(format($$SELECT payment.post_journal('correction',
        ARRAY(SELECT account_id FROM payment.entry WHERE journal_id = %1$L ORDER BY leg),
        ARRAY(SELECT -amount FROM payment.entry WHERE journal_id = %1$L ORDER BY leg))$$, j.id), 'S65 reversal only')
FROM payment.journal j WHERE j.kind = 'capture' AND j.subject = :'third';

SELECT * FROM finish();
ROLLBACK;
