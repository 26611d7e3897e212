-- Holds: what they reserve, how they are posted, voided and expired.

CREATE FUNCTION pg_temp.error_of(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    EXECUTE command;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN regexp_replace(SQLSTATE || ' ' || SQLERRM || ' | ' || detail, '[0-9a-f]{8}-[0-9a-f-]{27}', '<id>', 'g');
END
$$;
CREATE FUNCTION pg_temp.acct(name text) RETURNS uuid LANGUAGE sql
    AS $$ SELECT id FROM payment.account WHERE code = 'hold_' || name $$;
CREATE FUNCTION pg_temp.accts(names text[]) RETURNS uuid[] LANGUAGE sql
    AS $$ SELECT array_agg(pg_temp.acct(n) ORDER BY o) FROM unnest(names) WITH ORDINALITY AS u(n, o) $$;
CREATE FUNCTION pg_temp.post(names text[], amounts bigint[]) RETURNS text LANGUAGE sql
    AS $$ SELECT pg_temp.error_of(format('SELECT payment.post_journal(''x'', %L, %L)', pg_temp.accts(names), amounts)) $$;
-- the hold of this test by its description
CREATE FUNCTION pg_temp.hold(name text) RETURNS uuid LANGUAGE sql
    AS $$ SELECT id FROM payment.hold WHERE description = name ORDER BY id DESC LIMIT 1 $$;
CREATE FUNCTION pg_temp.of(name text) RETURNS payment.account_balance LANGUAGE sql
    AS $$ SELECT payment.balance(pg_temp.acct(name)) $$;

SELECT payment.open_account('hold_owed', 'liability', 'USD', NULL, NULL, 0) IS NOT NULL AS owed,
    payment.open_account('hold_cash', 'asset', 'USD', NULL, 0, 1000) IS NOT NULL AS cash,
    payment.open_account('hold_free', 'liability', 'USD') IS NOT NULL AS free,
    payment.open_account('hold_out', 'liability', 'USD', NULL, NULL, 0) IS NOT NULL AS out,
    payment.open_account('hold_fee', 'revenue', 'USD') IS NOT NULL AS fee,
    payment.open_account('hold_eur', 'asset', 'EUR') IS NOT NULL AS eur,
    payment.open_account('hold_eur2', 'equity', 'EUR') IS NOT NULL AS eur2;
SELECT pg_temp.post('{cash,owed}', '{100,-100}');

-- a hold makes part of the balance unavailable, to postings and other holds
SELECT payment.create_hold(pg_temp.acct('owed'), 50, 'hold key 1', '018cc251-f400-7000-8000-000000000001',
    now() + interval '1 day', 'first') AS first \gset
SELECT account_id = pg_temp.acct('owed') AS owed, amount, posted, state, expires_at > now() AS expires,
    closed_at, subject, description FROM payment.hold WHERE id = :'first';
SELECT pg_temp.of('owed') AS owed, pg_temp.of('cash') AS cash;
SELECT pg_temp.post('{owed,cash}', '{51,-51}');
SELECT pg_temp.error_of($$SELECT payment.create_hold(pg_temp.acct('owed'), 51)$$);
SELECT pg_temp.post('{owed,out}', '{20,-20}');
SELECT pg_temp.post('{out,owed}', '{20,-20}');
-- credits are no concern of it
SELECT pg_temp.post('{cash,owed}', '{10,-10}'), pg_temp.of('owed');
SELECT pg_temp.post('{owed,cash}', '{10,-10}'), pg_temp.of('owed');
-- for an asset it is the other side
SELECT payment.create_hold(pg_temp.acct('cash'), 60, description => 'cash') IS NOT NULL AS held;
SELECT pg_temp.of('cash');
SELECT pg_temp.post('{free,cash}', '{41,-41}');
SELECT pg_temp.post('{free,cash}', '{40,-40}');
SELECT pg_temp.post('{cash,free}', '{940,-940}');
SELECT pg_temp.post('{cash,free}', '{1,-1}');
SELECT pg_temp.post('{free,cash}', '{900,-900}');
SELECT payment.void_hold(pg_temp.hold('cash'));
SELECT pg_temp.of('cash');
-- without a limit it is only seen
SELECT payment.create_hold(pg_temp.acct('free'), 5000, description => 'free') IS NOT NULL AS held;
SELECT pg_temp.of('free');
SELECT pg_temp.post('{free,cash}', '{5,-5}'), pg_temp.post('{cash,free}', '{5,-5}');
SELECT pg_temp.error_of($$SELECT payment.set_account_limits(pg_temp.acct('free'), NULL, 0)$$);
SELECT payment.void_hold(pg_temp.hold('free'));
SELECT payment.set_account_limits(pg_temp.acct('free'), NULL, 0);
SELECT payment.set_account_limits(pg_temp.acct('free'), NULL, NULL);
SELECT pg_temp.error_of($$SELECT payment.set_account_limits(pg_temp.acct('owed'), NULL, -51)$$);
SELECT pg_temp.error_of($$SELECT payment.set_account_limits(pg_temp.acct('owed'), NULL, -50)$$);
SELECT pg_temp.post('{owed,cash}', '{1,-1}');
SELECT payment.set_account_limits(pg_temp.acct('owed'), NULL, 0);

-- in parts, then the rest
SELECT payment.post_hold(:'first', pg_temp.accts('{out,fee}'), '{-15,-5}', description => 'part', effective_at => '2024-01-02 03:04:05+00') AS journal \gset
SELECT kind, subject = :'first' AS subject, effective_at = '2024-01-02 03:04:05+00' AS effective, description,
    (SELECT array_agg(a.code || ' ' || e.amount ORDER BY e.leg)
     FROM payment.entry e JOIN payment.account a ON a.id = e.account_id WHERE e.journal_id = j.id) AS legs
FROM payment.journal j WHERE id = :'journal';
SELECT amount, posted, state, closed_at FROM payment.hold WHERE id = :'first';
SELECT pg_temp.of('owed');
SELECT pg_temp.post('{owed,cash}', '{51,-51}');
SELECT pg_temp.error_of(format('SELECT payment.post_hold(%L, pg_temp.accts(''{out}''), ''{-31}'')', :'first'));
SELECT payment.post_hold(:'first', pg_temp.accts('{out}')) IS NOT NULL AS posted;
SELECT amount, posted, state, closed_at IS NOT NULL AS closed FROM payment.hold WHERE id = :'first';
SELECT pg_temp.of('owed') AS owed, pg_temp.of('out') AS out;
SELECT c, pg_temp.error_of(format(c, :'first')) FROM unnest(ARRAY[
    'SELECT payment.post_hold(%L, pg_temp.accts(''{out}''))',
    'SELECT payment.post_hold(%L, pg_temp.accts(''{out}''), ''{-1}'')',
    'SELECT payment.void_hold(%L)'
]) c;
-- a part, and the rest free
SELECT payment.create_hold(pg_temp.acct('owed'), 40, description => 'closing') IS NOT NULL AS held;
SELECT payment.post_hold(pg_temp.hold('closing'), pg_temp.accts('{out}'), '{-10}', close => true) IS NOT NULL AS posted;
SELECT amount, posted, state FROM payment.hold WHERE id = pg_temp.hold('closing');
SELECT pg_temp.of('owed');
-- void what is left; again it is nothing
SELECT payment.create_hold(pg_temp.acct('owed'), 40, description => 'void') IS NOT NULL AS held;
SELECT payment.post_hold(pg_temp.hold('void'), pg_temp.accts('{out}'), '{-1}') IS NOT NULL AS posted;
SELECT payment.void_hold(pg_temp.hold('void')) AS freed;
SELECT payment.void_hold(pg_temp.hold('void')) AS freed_again;
SELECT amount, posted, state FROM payment.hold WHERE id = pg_temp.hold('void');
SELECT pg_temp.error_of($$SELECT payment.post_hold(pg_temp.hold('void'), pg_temp.accts('{out}'))$$);
SELECT pg_temp.of('owed');
-- another currency on the way has to balance by itself
SELECT payment.create_hold(pg_temp.acct('owed'), 30, description => 'fx') IS NOT NULL AS held;
SELECT payment.post_hold(pg_temp.hold('fx'), pg_temp.accts('{eur,out,eur2}'), '{9,-30,-9}') IS NOT NULL AS posted;
SELECT pg_temp.of('owed') AS owed, pg_temp.of('eur') AS eur;
-- an asset's hold is posted by a credit to it
SELECT payment.create_hold(pg_temp.acct('cash'), 30, description => 'cash') IS NOT NULL AS held;
SELECT payment.post_hold(pg_temp.hold('cash'), pg_temp.accts('{free}'), '{20}') IS NOT NULL AS posted;
SELECT pg_temp.of('cash');
SELECT pg_temp.error_of($$SELECT payment.post_hold(pg_temp.hold('cash'), pg_temp.accts('{free}'), '{-10}')$$);
SELECT payment.post_hold(pg_temp.hold('cash'), pg_temp.accts('{free}')) IS NOT NULL AS posted;
SELECT pg_temp.of('cash');

-- expiry: at once, whether or not somebody has tidied up
SELECT pg_temp.error_of($$SELECT payment.create_hold(pg_temp.acct('owed'), 1, expires_at => '2024-01-01')$$) LIKE 'PY001%' AS past;
SELECT payment.create_hold(pg_temp.acct('owed'), 9, expires_at => clock_timestamp() + interval '1 s', description => 'short') IS NOT NULL AS held;
SELECT pg_temp.of('owed');
SELECT pg_temp.error_of($$SELECT payment.create_hold(pg_temp.acct('owed'), 1)$$);
SELECT pg_sleep(1.1);
SELECT pg_temp.of('owed');
SELECT state FROM payment.hold WHERE id = pg_temp.hold('short');
SELECT pg_temp.error_of($$SELECT payment.post_hold(pg_temp.hold('short'), pg_temp.accts('{out}'))$$);
SELECT pg_temp.error_of($$SELECT payment.void_hold(pg_temp.hold('short'))$$);
SELECT pg_temp.post('{owed,cash}', '{9,-9}'), pg_temp.of('owed');
SELECT payment.expire_holds(1000) AS expired;
SELECT payment.expire_holds(1000) AS expired_again;
SELECT state, posted, closed_at > expires_at AS late FROM payment.hold WHERE id = pg_temp.hold('short');

-- keys
SELECT pg_temp.post('{cash,owed}', '{100,-100}');
SELECT payment.create_hold(pg_temp.acct('owed'), 50, 'hold key 2', description => 'keyed') AS keyed \gset
SELECT payment.create_hold(pg_temp.acct('owed'), 50, 'hold key 2', description => 'keyed') = :'keyed' AS same;
SELECT payment.post_hold(:'keyed', pg_temp.accts('{out}'), '{-20}', idempotency_key => 'hold key 3') AS journal \gset
SELECT payment.post_hold(:'keyed', pg_temp.accts('{out}'), '{-20}', idempotency_key => 'hold key 3') = :'journal' AS same;
SELECT amount, posted, state FROM payment.hold WHERE id = :'keyed';
SELECT c, pg_temp.error_of(format(c, :'keyed')) FROM unnest(ARRAY[
    $$SELECT payment.create_hold(pg_temp.acct('owed'), 51, 'hold key 2', description => 'keyed')$$,
    $$SELECT payment.create_hold(pg_temp.acct('owed'), 50, 'hold key 3', description => 'keyed')$$,
    $$SELECT payment.post_hold(%L, pg_temp.accts('{out}'), '{-21}', idempotency_key => 'hold key 3')$$,
    $$SELECT payment.post_hold(%L, pg_temp.accts('{out}'), idempotency_key => 'hold key 3')$$,
    $$SELECT payment.post_hold(%L, pg_temp.accts('{out}'), '{-20}', true, idempotency_key => 'hold key 3')$$
]) c;

-- accounts that are not open
SELECT payment.set_account_state(pg_temp.acct('owed'), 'frozen');
SELECT c, pg_temp.error_of(format(c, :'keyed')) FROM unnest(ARRAY[
    $$SELECT payment.create_hold(pg_temp.acct('owed'), 1)$$,
    $$SELECT payment.post_hold(%L, pg_temp.accts('{out}'), '{-1}')$$
]) c;
SELECT payment.set_account_state(pg_temp.acct('owed'), 'open');
SELECT payment.create_hold(pg_temp.acct('eur2'), 7, description => 'closed') IS NOT NULL AS held;
SELECT pg_temp.post('{eur2,eur}', '{9,-9}');
SELECT pg_temp.error_of($$SELECT payment.set_account_state(pg_temp.acct('eur2'), 'closed')$$);
SELECT payment.void_hold(pg_temp.hold('closed'));
SELECT pg_temp.error_of($$SELECT payment.set_account_state(pg_temp.acct('eur2'), 'closed')$$);

-- hostile arguments (S73, S74)
SELECT c, pg_temp.error_of(format(c, :'keyed')) FROM unnest(ARRAY[
    $$SELECT payment.create_hold(NULL, 1)$$,
    $$SELECT payment.create_hold('018cc251-f400-7000-8000-000000000000', 1)$$,
    $$SELECT payment.create_hold(pg_temp.acct('owed'), NULL)$$,
    $$SELECT payment.create_hold(pg_temp.acct('owed'), 0)$$,
    $$SELECT payment.create_hold(pg_temp.acct('owed'), -1)$$,
    $$SELECT payment.create_hold(pg_temp.acct('owed'), 9223372036854775807)$$,
    $$SELECT payment.create_hold(pg_temp.acct('owed'), 1, '')$$,
    $$SELECT payment.create_hold(pg_temp.acct('owed'), 1, expires_at => 'infinity')$$,
    $$SELECT payment.create_hold(pg_temp.acct('owed'), 1, expires_at => '-infinity')$$,
    $$SELECT payment.create_hold(pg_temp.acct('owed'), 1, description => 'card 4111 1111 1111 1111')$$,
    $$SELECT payment.create_hold(pg_temp.acct('owed'), 1, description => repeat('x', 100000))$$,
    $$SELECT payment.post_hold(NULL, pg_temp.accts('{out}'))$$,
    $$SELECT payment.post_hold('018cc251-f400-7000-8000-000000000000', pg_temp.accts('{out}'))$$,
    $$SELECT payment.post_hold(%L, NULL)$$,
    $$SELECT payment.post_hold(%L, '{}')$$,
    $$SELECT payment.post_hold(%L, pg_temp.accts('{out,fee}'))$$,
    $$SELECT payment.post_hold(%L, pg_temp.accts('{out}'), '{-1,-1}')$$,
    $$SELECT payment.post_hold(%L, pg_temp.accts('{out}'), '{1}')$$,
    $$SELECT payment.post_hold(%L, pg_temp.accts('{out}'), '{0}')$$,
    $$SELECT payment.post_hold(%L, pg_temp.accts('{out}'), '{-9223372036854775808}')$$,
    $$SELECT payment.post_hold(%L, pg_temp.accts('{out,fee}'), '{-9223372036854775807,-9223372036854775807}')$$,
    $$SELECT payment.post_hold(%L, pg_temp.accts('{out,eur}'), '{-1,-1}')$$,
    $$SELECT payment.post_hold(%L, pg_temp.accts('{eur}'))$$,
    $$SELECT payment.post_hold(%L, pg_temp.accts('{owed}'))$$,
    $$SELECT payment.post_hold(%L, pg_temp.accts('{out,owed}'), '{-2,1}')$$,
    $$SELECT payment.post_hold(%L, '{018cc251-f400-7000-8000-000000000000}')$$,
    $$SELECT payment.post_hold(%L, array_fill(pg_temp.acct('out'), ARRAY[1001]), array_fill(-1::bigint, ARRAY[1001]))$$,
    $$SELECT payment.post_hold(%L, pg_temp.accts('{out}'), effective_at => 'infinity')$$,
    $$SELECT payment.void_hold(NULL)$$,
    $$SELECT payment.void_hold('018cc251-f400-7000-8000-000000000000')$$,
    $$SELECT payment.expire_holds(NULL)$$,
    $$SELECT payment.expire_holds(0)$$,
    $$SELECT payment.expire_holds(100001)$$,
    $$SELECT payment.post_journal('hold_posted', pg_temp.accts('{cash,owed}'), '{1,-1}')$$
]) c;
SELECT amount, posted, state FROM payment.hold WHERE id = :'keyed';

-- no writes by hand; a reader may read
SELECT c, pg_temp.error_of(c) FROM unnest(ARRAY[
    $$UPDATE payment.hold SET amount = 1$$,
    $$DELETE FROM payment.hold$$,
    $$TRUNCATE payment.hold$$,
    $$INSERT INTO payment.hold (id, account_id, amount) VALUES (payment.new_id(), payment.new_id(), 1)$$
]) c;
BEGIN READ ONLY;
SELECT pg_temp.error_of($$SELECT payment.create_hold(pg_temp.acct('owed'), 1)$$);
SELECT pg_temp.of('owed');
ROLLBACK;

-- a seller's wallet shows it
SELECT payment.register_seller('hold-seller', 'Seller') AS seller \gset
SELECT payment.open_account('seller_available', 'liability', 'USD', :'seller') AS available \gset
SELECT payment.post_journal('x', ARRAY[:'available', pg_temp.acct('free')]::uuid[], '{-500,500}') IS NOT NULL AS posted;
SELECT payment.create_hold(:'available', 200) IS NOT NULL AS held;
SELECT pending, available, held, in_payout, owed FROM payment.wallet WHERE seller_id = :'seller';

-- verify() finds what a superuser changed
SELECT * FROM payment.verify() WHERE check_name LIKE 'hold%';
PREPARE verify AS SELECT check_name, coalesce(h.description, a.code) AS object, detail, expected, actual
    FROM payment.verify() v LEFT JOIN payment.hold h ON h.id = v.object_id LEFT JOIN payment.account a ON a.id = v.object_id
    ORDER BY 1, 2;
BEGIN;
ALTER TABLE payment.hold DISABLE TRIGGER guard;
UPDATE payment.hold SET posted = posted - 1 WHERE id = :'first';
EXECUTE verify;
ROLLBACK;
BEGIN;
ALTER TABLE payment.hold DISABLE TRIGGER guard;
UPDATE payment.hold SET state = 'open', closed_at = NULL WHERE description = 'closing';
UPDATE payment.hold SET state = 'voided' WHERE description = 'first';
UPDATE payment.hold SET state = 'expired', closed_at = now() WHERE description = 'keyed';
EXECUTE verify;
ROLLBACK;
BEGIN;
ALTER TABLE payment.hold DISABLE TRIGGER guard;
UPDATE payment.hold SET amount = 1000 WHERE description = 'keyed';
DELETE FROM payment.hold WHERE description = 'closing';
SELECT check_name, coalesce(h.description, a.code) AS object, detail, expected, actual
FROM payment.verify() v LEFT JOIN payment.hold h ON h.id = v.object_id LEFT JOIN payment.account a ON a.id = v.object_id
ORDER BY 1, 2;
ROLLBACK;
EXECUTE verify;

-- what is held in all is an amount itself
BEGIN;
SELECT payment.open_account('hold_much', 'asset', 'USD') AS much \gset
SELECT payment.create_hold(:'much', 9000000000000000000) IS NOT NULL AS held;
SAVEPOINT held;
SELECT payment.create_hold(:'much', 9000000000000000000);
ROLLBACK TO held;
SELECT payment.balance(:'much');
ROLLBACK;

-- an index that lacks holds is not asked
SELECT pg_temp.error_of($$ DO $x$ BEGIN
    UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'payment.hold_open_idx'::regclass;
    PERFORM payment.balance(pg_temp.acct('owed'));
END $x$ $$);
