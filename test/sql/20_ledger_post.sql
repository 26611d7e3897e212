-- Posting journals: what is written, and what is refused.

CREATE FUNCTION pg_temp.error_of(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || regexp_replace(SQLERRM, '[0-9a-f]{8}-[0-9a-f-]{27}', '<id>');
END
$$;

-- id of an account of this test
CREATE FUNCTION pg_temp.acct(name text) RETURNS uuid LANGUAGE sql
    AS $$ SELECT id FROM payment.account WHERE code = 'post_' || name ORDER BY currency DESC LIMIT 1 $$;
CREATE FUNCTION pg_temp.post(names text[], amounts bigint[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    ids uuid[];
BEGIN
    SELECT array_agg(pg_temp.acct(n) ORDER BY o) INTO ids FROM unnest(names) WITH ORDINALITY AS u(n, o);
    PERFORM payment.post_journal('test', ids, amounts);
    RETURN 'posted';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;

-- accounts
SELECT payment.open_account('post_cash', 'asset', 'USD') IS NOT NULL AS cash,
    payment.open_account('post_sales', 'revenue', 'USD') IS NOT NULL AS sales,
    payment.open_account('post_owed', 'liability', 'USD', NULL, NULL, 0) IS NOT NULL AS owed,
    payment.open_account('post_stock', 'asset', 'USD', NULL, 0, 1000) IS NOT NULL AS stock,
    payment.open_account('post_eur', 'asset', 'EUR') IS NOT NULL AS eur,
    payment.open_account('post_eur2', 'equity', 'EUR') IS NOT NULL AS eur2;

SELECT c, pg_temp.error_of(c) FROM unnest(ARRAY[
    $$SELECT payment.open_account('post_cash', 'asset', 'USD')$$,
    $$SELECT payment.open_account('post_cash', 'asset', 'EUR')$$,
    $$SELECT payment.open_account(NULL, 'asset', 'USD')$$,
    $$SELECT payment.open_account('x', NULL, 'USD')$$,
    $$SELECT payment.open_account('x', 'asset', NULL)$$,
    $$SELECT payment.open_account('', 'asset', 'USD')$$,
    $$SELECT payment.open_account('Upper', 'asset', 'USD')$$,
    $$SELECT payment.open_account('a b', 'asset', 'USD')$$,
    $$SELECT payment.open_account(repeat('x', 64), 'asset', 'USD')$$,
    $$SELECT payment.open_account('x', 'money', 'USD')$$,
    $$SELECT payment.open_account('x', 'asset', 'usd')$$,
    $$SELECT payment.open_account('x', 'asset', 'USD', NULL, 1)$$,
    $$SELECT payment.open_account('x', 'asset', 'USD', NULL, NULL, -1)$$,
    $$SELECT payment.open_account('seller_pending', 'asset', 'USD', payment.new_id())$$,
    $$SELECT payment.open_account('seller_pending', 'liability', 'USD')$$,
    $$SELECT payment.open_account('bank', 'asset', 'USD', payment.new_id())$$,
    $$SELECT payment.open_account('bank', 'asset', 'USD', NULL, 0)$$
]) c;
-- an account of the chart gets the limits of the chart
SELECT payment.open_account('seller_pending', 'liability', 'USD', '018cc251-f400-7000-8000-000000000001') IS NOT NULL AS opened;
SELECT kind, min_balance, max_balance, state FROM payment.account
WHERE code = 'seller_pending' AND owner = '018cc251-f400-7000-8000-000000000001';

-- a journal
SELECT payment.post_journal('sale', ARRAY[pg_temp.acct('cash'), pg_temp.acct('sales'), pg_temp.acct('owed')],
    '{100,-10,-90}', '018cc251-f400-7000-8000-000000000002', '2024-01-02 03:04:05+00', 'first') AS journal \gset
SELECT kind, subject, reverses, effective_at = '2024-01-02 03:04:05+00' AS effective, description,
    recorded_at BETWEEN now() - interval '1 min' AND clock_timestamp() AS recorded,
    payment.id_time(id) BETWEEN now() - interval '1 min' AND clock_timestamp() AS id_now
FROM payment.journal WHERE id = :'journal';
SELECT e.leg, a.code, e.amount FROM payment.entry e JOIN payment.account a ON a.id = e.account_id
WHERE e.journal_id = :'journal' ORDER BY e.leg;
SELECT kind, code, currency, debit, credit, description FROM payment.ledger WHERE journal_id = :'journal' ORDER BY leg;
SELECT n, payment.balance(pg_temp.acct(n)) FROM unnest(ARRAY['cash', 'sales', 'owed', 'stock']) n;

-- by default it is effective now
SELECT payment.post_journal('sale', ARRAY[pg_temp.acct('cash'), pg_temp.acct('sales')], '{1,-1}') AS journal \gset
SELECT effective_at = recorded_at AS now, subject, description FROM payment.journal WHERE id = :'journal';

-- two currencies, each balanced; an account more than once
SELECT pg_temp.post('{cash,sales,eur,eur2}', '{5,-5,7,-7}');
SELECT pg_temp.post('{cash,cash,sales}', '{5,5,-10}');
SELECT pg_temp.post('{cash,cash}', '{5,-5}');

-- what does not balance
SELECT legs, pg_temp.post(legs::text[], amounts) FROM (VALUES
    ('{cash,sales}', '{100,-99}'::bigint[]),
    ('{cash,eur}', '{100,-100}'),
    ('{cash,sales,eur}', '{1,-1,1}'),
    ('{cash}', '{100}'),
    ('{cash,sales}', '{0,0}'),
    ('{cash,sales,owed}', '{5,-5,0}'),
    ('{cash,sales,owed}', '{9223372036854775807,9223372036854775807,2}'),
    ('{cash,cash,sales}', '{9223372036854775807,9223372036854775807,-9223372036854775807}'),
    ('{cash,sales,sales}', '{-9223372036854775808,9223372036854775807,1}')
) t(legs, amounts);

-- hostile arguments (S73)
SELECT c, pg_temp.error_of(c) FROM unnest(ARRAY[
    $$SELECT payment.post_journal(NULL, ARRAY[pg_temp.acct('cash'), pg_temp.acct('sales')], '{1,-1}')$$,
    $$SELECT payment.post_journal('', ARRAY[pg_temp.acct('cash'), pg_temp.acct('sales')], '{1,-1}')$$,
    $$SELECT payment.post_journal('Not A Kind', ARRAY[pg_temp.acct('cash'), pg_temp.acct('sales')], '{1,-1}')$$,
    $$SELECT payment.post_journal('capture', ARRAY[pg_temp.acct('cash'), pg_temp.acct('sales')], '{1,-1}')$$,
    $$SELECT payment.post_journal('x', NULL, '{1,-1}')$$,
    $$SELECT payment.post_journal('x', ARRAY[pg_temp.acct('cash'), pg_temp.acct('sales')], NULL)$$,
    $$SELECT payment.post_journal('x', '{}', '{}')$$,
    $$SELECT payment.post_journal('x', ARRAY[pg_temp.acct('cash'), NULL], '{1,-1}')$$,
    $$SELECT payment.post_journal('x', ARRAY[pg_temp.acct('cash'), pg_temp.acct('sales')], '{1,NULL}')$$,
    $$SELECT payment.post_journal('x', ARRAY[pg_temp.acct('cash'), pg_temp.acct('sales')], '{1,-1,0}')$$,
    $$SELECT payment.post_journal('x', ARRAY[[pg_temp.acct('cash'), pg_temp.acct('sales')]], '{1,-1}')$$,
    $$SELECT payment.post_journal('x', ARRAY[pg_temp.acct('cash'), '018cc251-f400-7000-8000-000000000000'], '{1,-1}')$$,
    $$SELECT payment.post_journal('x', ARRAY[pg_temp.acct('cash'), pg_temp.acct('sales')], '{1,-1}', NULL, 'infinity')$$,
    $$SELECT payment.post_journal('x', ARRAY[pg_temp.acct('cash'), pg_temp.acct('sales')], '{1,-1}', NULL, NULL, 'card 4111 1111 1111 1111')$$,
    $$SELECT payment.post_journal('x', ARRAY[pg_temp.acct('cash'), pg_temp.acct('sales')], '{1,-1}', NULL, NULL, repeat('x', 100000))$$,
    $$SELECT payment.post_journal('x', array_fill(pg_temp.acct('cash'), ARRAY[10001]), array_fill(1::bigint, ARRAY[10001]))$$,
    $$SELECT payment.balance(NULL)$$,
    $$SELECT payment.balance('018cc251-f400-7000-8000-000000000000')$$,
    $$SELECT payment.set_account_state(NULL, 'open')$$,
    $$SELECT payment.set_account_state(pg_temp.acct('cash'), NULL)$$,
    $$SELECT payment.set_account_state(pg_temp.acct('cash'), 'gone')$$,
    $$SELECT payment.set_account_state('018cc251-f400-7000-8000-000000000000', 'open')$$
]) c;

-- limits, on the state after the whole journal
SELECT pg_temp.post('{owed,cash}', '{91,-91}');
SELECT pg_temp.post('{owed,cash}', '{90,-90}');
SELECT pg_temp.post('{owed,cash}', '{1,-1}');
SELECT pg_temp.post('{owed,cash,owed,cash}', '{500,-500,-500,500}');
SELECT pg_temp.post('{stock,cash}', '{1001,-1001}');
SELECT pg_temp.post('{stock,cash}', '{1000,-1000}');
SELECT pg_temp.post('{stock,cash}', '{1,-1}');
SELECT pg_temp.post('{stock,cash}', '{-1001,1001}');
SELECT pg_temp.post('{stock,cash}', '{-1000,1000}');
SELECT payment.balance(pg_temp.acct('owed')) AS owed, payment.balance(pg_temp.acct('stock')) AS stock;

-- own writes count, also those of the same command, and not those rolled back
BEGIN;
SELECT pg_temp.post('{cash,owed}', '{10,-10}'), pg_temp.post('{owed,cash}', '{10,-10}'), pg_temp.post('{owed,cash}', '{1,-1}');
SAVEPOINT s;
SELECT pg_temp.post('{cash,owed}', '{20,-20}');
ROLLBACK TO s;
SELECT pg_temp.post('{owed,cash}', '{1,-1}');
SELECT count(*) AS slots_of_one_transaction FROM payment.balance_slot WHERE account_id = pg_temp.acct('owed');
ROLLBACK;
SELECT payment.balance(pg_temp.acct('owed'));

-- states
SELECT payment.set_account_state(pg_temp.acct('owed'), 'frozen');
SELECT pg_temp.post('{cash,owed}', '{10,-10}');
SELECT payment.set_account_state(pg_temp.acct('owed'), 'open');
SELECT pg_temp.post('{cash,owed}', '{10,-10}');
SELECT pg_temp.error_of($$SELECT payment.set_account_state(pg_temp.acct('owed'), 'closed')$$);
SELECT state FROM payment.account WHERE id = pg_temp.acct('owed');
SELECT pg_temp.post('{owed,cash}', '{10,-10}');
SELECT payment.set_account_state(pg_temp.acct('owed'), 'closed');
SELECT pg_temp.post('{cash,owed}', '{10,-10}');

-- read-only transactions stay that
BEGIN READ ONLY;
SELECT pg_temp.post('{cash,sales}', '{10,-10}');
ROLLBACK;

-- many postings in one command reuse one slot
SELECT pg_temp.acct('eur') AS eur, pg_temp.acct('eur2') AS eur2 \gset
SELECT count(payment.post_journal('many', ARRAY[:'eur', :'eur2']::uuid[], '{1,-1}')) FROM generate_series(1, 1000);
SELECT payment.balance(pg_temp.acct('eur')), count(*) AS slots
FROM payment.balance_slot WHERE account_id = pg_temp.acct('eur');

-- the largest journal
SELECT payment.post_journal('large',
    (SELECT array_agg(pg_temp.acct(CASE WHEN i % 2 = 0 THEN 'cash' ELSE 'sales' END)) FROM generate_series(1, 10000) i),
    (SELECT array_agg(CASE WHEN i % 2 = 0 THEN i ELSE -(i + 1) END::bigint) FROM generate_series(1, 10000) i)) AS journal \gset
SELECT count(*) AS legs, sum(amount) FROM payment.entry WHERE journal_id = :'journal';

-- rows go to the partition of their id
CREATE TABLE journal_2000 (LIKE payment.journal, PRIMARY KEY (id));
CREATE TABLE journal_now (LIKE payment.journal, PRIMARY KEY (id));
CREATE TABLE entry_now (LIKE payment.entry, PRIMARY KEY (journal_id, leg));
BEGIN;
ALTER TABLE payment.journal ATTACH PARTITION journal_2000
    FOR VALUES FROM ('00dc6acf-ac00-7000-8000-000000000000') TO ('00e436e0-ac00-7000-8000-000000000000');
SELECT payment.new_id() AS from_id \gset
ALTER TABLE payment.journal ATTACH PARTITION journal_now
    FOR VALUES FROM (:'from_id') TO ('ffffffff-0000-7000-8000-000000000000');
ALTER TABLE payment.entry ATTACH PARTITION entry_now
    FOR VALUES FROM (:'from_id') TO ('ffffffff-0000-7000-8000-000000000000');
SELECT pg_temp.post('{cash,sales}', '{10,-10}');
SELECT (SELECT count(*) FROM journal_2000) AS journal_2000, (SELECT count(*) FROM journal_now) AS journal_now,
    (SELECT count(*) FROM entry_now) AS entry_now;
ROLLBACK;
DROP TABLE journal_2000, journal_now, entry_now;

SELECT code, kind, currency, debit, credit FROM payment.trial_balance() WHERE code LIKE 'post%';
SELECT sum(debit) = sum(credit) AS balanced FROM payment.trial_balance() GROUP BY currency;
SELECT * FROM payment.verify();
