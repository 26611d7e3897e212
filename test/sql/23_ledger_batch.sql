-- Many journals in one call, locks before several calls, limits that change.

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
    AS $$ SELECT id FROM payment.account WHERE code = 'batch_' || name $$;
CREATE FUNCTION pg_temp.accts(names text[]) RETURNS uuid[] LANGUAGE sql
    AS $$ SELECT array_agg(pg_temp.acct(n) ORDER BY o) FROM unnest(names) WITH ORDINALITY AS u(n, o) $$;

SELECT payment.open_account('batch_cash', 'asset', 'USD') IS NOT NULL AS cash,
    payment.open_account('batch_owed', 'liability', 'USD', NULL, NULL, 0) IS NOT NULL AS owed,
    payment.open_account('batch_fee', 'revenue', 'USD') IS NOT NULL AS fee,
    payment.open_account('batch_eur', 'asset', 'EUR') IS NOT NULL AS eur,
    payment.open_account('batch_eur2', 'equity', 'EUR') IS NOT NULL AS eur2;

-- three journals; the limit of owed holds after all of them, not after each
SELECT * FROM payment.post_journals('{spend,sale,fx}', '{1,1,2,2,2,3,3}',
    pg_temp.accts('{owed,cash,cash,owed,fee,eur,eur2}'), '{60,-60,100,-90,-10,7,-7}',
    ARRAY['018cc251-f400-7000-8000-000000000001', NULL, '018cc251-f400-7000-8000-000000000003']::uuid[],
    ARRAY[NULL, '2024-01-02 03:04:05+00', NULL]::timestamptz[], '{one,NULL,three}') \gset
SELECT n, j.kind, j.subject, j.effective_at = '2024-01-02 03:04:05+00' AS effective, j.description,
    (SELECT array_agg(a.code || ' ' || e.amount ORDER BY e.leg)
     FROM payment.entry e JOIN payment.account a ON a.id = e.account_id WHERE e.journal_id = j.id) AS legs
FROM unnest(:'journal_ids'::uuid[]) WITH ORDINALITY AS u(id, n) JOIN payment.journal j USING (id) ORDER BY n;
SELECT a.code, b AS returned, (payment.balance(a.id)).posted
FROM unnest(:'account_ids'::uuid[], :'balances'::bigint[]) AS u(id, b) JOIN payment.account a USING (id) ORDER BY 1;
SELECT id = ANY (:'account_ids') AS sorted FROM unnest(:'account_ids'::uuid[]) id ORDER BY id LIMIT 1;
SELECT balances, account_ids FROM payment.post_journals('{x}', '{1,1}', pg_temp.accts('{cash,fee}'), '{1,-1}',
    return_balances => false);

-- one wrong journal, and none is posted
SELECT count(*) AS journals FROM payment.journal \gset
SELECT pg_temp.error_of($$SELECT payment.post_journals('{ok,bad}', '{1,1,2,2}', pg_temp.accts('{cash,fee,cash,fee}'), '{1,-1,1,-2}')$$);
SELECT pg_temp.error_of($$SELECT payment.post_journals('{ok,bad}', '{1,1,2,2}', pg_temp.accts('{cash,fee,owed,cash}'), '{1,-1,31,-31}')$$);
SELECT count(*) = :journals AS unchanged FROM payment.journal;

-- a key: the first call's journals, and the balances of now
SELECT journal_ids AS first_ids, balances AS first_balances FROM payment.post_journals('{sale}', '{1,1}',
    pg_temp.accts('{cash,fee}'), '{5,-5}', idempotency_key => 'batch key') \gset
SELECT payment.post_journal('sale', pg_temp.accts('{cash,fee}'), '{100,-100}') IS NOT NULL AS posted;
SELECT journal_ids = :'first_ids' AS same, account_ids = (SELECT array_agg(id ORDER BY id)
        FROM unnest(pg_temp.accts('{cash,fee}')) id) AS accounts,
    (SELECT array_agg(n - o ORDER BY p) FROM unnest(balances, :'first_balances'::bigint[]) WITH ORDINALITY AS u(n, o, p)) AS more
FROM payment.post_journals('{sale}', '{1,1}', pg_temp.accts('{cash,fee}'), '{5,-5}', idempotency_key => 'batch key');
SELECT c, pg_temp.error_of(c) FROM unnest(ARRAY[
    $$SELECT payment.post_journals('{sale}', '{1,1}', pg_temp.accts('{cash,fee}'), '{6,-6}', idempotency_key => 'batch key')$$,
    $$SELECT payment.post_journals('{gift}', '{1,1}', pg_temp.accts('{cash,fee}'), '{5,-5}', idempotency_key => 'batch key')$$,
    $$SELECT payment.post_journals('{sale}', '{1,1}', pg_temp.accts('{cash,fee}'), '{5,-5}', '{018cc251-f400-7000-8000-000000000001}', idempotency_key => 'batch key')$$,
    $$SELECT payment.post_journals('{sale}', '{1,1}', pg_temp.accts('{cash,fee}'), '{5,-5}', idempotency_key => '')$$
]) c;

-- hostile arguments (S73, S74)
SELECT c, pg_temp.error_of(c) FROM unnest(ARRAY[
    $$SELECT payment.post_journals(NULL, '{1,1}', pg_temp.accts('{cash,fee}'), '{1,-1}')$$,
    $$SELECT payment.post_journals('{}', '{1,1}', pg_temp.accts('{cash,fee}'), '{1,-1}')$$,
    $$SELECT payment.post_journals('{NULL}', '{1,1}', pg_temp.accts('{cash,fee}'), '{1,-1}')$$,
    $$SELECT payment.post_journals('{{x}}', '{1,1}', pg_temp.accts('{cash,fee}'), '{1,-1}')$$,
    $$SELECT payment.post_journals('{capture}', '{1,1}', pg_temp.accts('{cash,fee}'), '{1,-1}')$$,
    $$SELECT payment.post_journals('{X}', '{1,1}', pg_temp.accts('{cash,fee}'), '{1,-1}')$$,
    $$SELECT payment.post_journals('{x}', NULL, pg_temp.accts('{cash,fee}'), '{1,-1}')$$,
    $$SELECT payment.post_journals('{x}', '{1}', pg_temp.accts('{cash,fee}'), '{1,-1}')$$,
    $$SELECT payment.post_journals('{x}', '{1,1}', pg_temp.accts('{cash,fee}'), '{1,-1,2}')$$,
    $$SELECT payment.post_journals('{x}', '{0,1}', pg_temp.accts('{cash,fee}'), '{1,-1}')$$,
    $$SELECT payment.post_journals('{x}', '{1,2}', pg_temp.accts('{cash,fee}'), '{1,-1}')$$,
    $$SELECT payment.post_journals('{x,y}', '{2,2}', pg_temp.accts('{cash,fee}'), '{1,-1}')$$,
    $$SELECT payment.post_journals('{x,y}', '{1,1}', pg_temp.accts('{cash,fee}'), '{1,-1}')$$,
    $$SELECT payment.post_journals('{x,y}', '{1,2,1,2}', pg_temp.accts('{cash,fee,cash,fee}'), '{1,1,-1,-1}')$$,
    $$SELECT payment.post_journals('{x}', '{-2147483648,2147483647}', pg_temp.accts('{cash,fee}'), '{1,-1}')$$,
    $$SELECT payment.post_journals('{x}', '{1,1}', pg_temp.accts('{cash,fee}'), '{1,-1}', '{}')$$,
    $$SELECT payment.post_journals('{x}', '{1,1}', pg_temp.accts('{cash,fee}'), '{1,-1}', NULL, '{now,now}')$$,
    $$SELECT payment.post_journals('{x}', '{1,1}', pg_temp.accts('{cash,fee}'), '{1,-1}', NULL, '{infinity}')$$,
    $$SELECT payment.post_journals('{x}', '{1,1}', pg_temp.accts('{cash,fee}'), '{1,-1}', NULL, NULL, '{4111 1111 1111 1111}')$$,
    $$SELECT payment.post_journals('{4111111111111111}', '{1,1}', pg_temp.accts('{cash,fee}'), '{1,-1}')$$,
    $$SELECT payment.post_journals(array_fill('x'::text, ARRAY[100001]), '{1,1}', pg_temp.accts('{cash,fee}'), '{1,-1}')$$,
    $$SELECT payment.post_journals('{x}', '{1,1}', ARRAY[pg_temp.acct('cash'), '018cc251-f400-7000-8000-000000000000'], '{1,-1}')$$,
    $$SELECT payment.post_journals('{x}', '{1,1}', pg_temp.accts('{cash,fee}'), '{9223372036854775807,1}')$$,
    $$SELECT payment.lock_accounts(NULL)$$,
    $$SELECT payment.lock_accounts('{}')$$,
    $$SELECT payment.lock_accounts('{NULL}')$$,
    $$SELECT payment.lock_accounts('{018cc251-f400-7000-8000-000000000000}')$$,
    $$SELECT payment.lock_accounts(array_fill(pg_temp.acct('cash'), ARRAY[10001]))$$,
    $$SELECT payment.set_account_limits(NULL, 0, 0)$$,
    $$SELECT payment.set_account_limits('018cc251-f400-7000-8000-000000000000', 0, 0)$$,
    $$SELECT payment.set_account_limits(pg_temp.acct('cash'), 1, 0)$$
]) c;

-- locking is quiet about what it finds twice
SELECT payment.lock_accounts(pg_temp.accts('{fee,cash,fee,owed}'));

-- limits change both ways, and neither may be past already
SELECT payment.balance(pg_temp.acct('owed')) AS owed;
SELECT c, pg_temp.error_of(c) FROM unnest(ARRAY[
    $$SELECT payment.set_account_limits(pg_temp.acct('owed'), NULL, -31)$$,
    $$SELECT payment.set_account_limits(pg_temp.acct('owed'), -29, NULL)$$,
    $$SELECT payment.set_account_limits(pg_temp.acct('owed'), -40, -30)$$,
    $$SELECT payment.post_journal('x', pg_temp.accts('{owed,cash}'), '{1,-1}')$$,
    $$SELECT payment.post_journal('x', pg_temp.accts('{owed,cash}'), '{-11,11}')$$,
    $$SELECT payment.post_journal('x', pg_temp.accts('{owed,cash}'), '{-10,10}')$$,
    $$SELECT payment.set_account_limits(pg_temp.acct('owed'), NULL, 50)$$,
    $$SELECT payment.post_journal('x', pg_temp.accts('{owed,cash}'), '{90,-90}')$$,
    $$SELECT payment.post_journal('x', pg_temp.accts('{owed,cash}'), '{1,-1}')$$,
    $$SELECT payment.set_account_limits(pg_temp.acct('owed'), NULL, NULL)$$,
    $$SELECT payment.post_journal('x', pg_temp.accts('{owed,cash}'), '{1,-1}')$$
]) c;
SELECT min_balance, max_balance, payment.balance(id) FROM payment.account WHERE id = pg_temp.acct('owed');

-- own, uncommitted postings and changes count
BEGIN;
SELECT payment.post_journal('x', pg_temp.accts('{owed,cash}'), '{-100,100}') IS NOT NULL AS posted;
SELECT payment.set_account_limits(pg_temp.acct('owed'), NULL, -49);
SELECT pg_temp.error_of($$SELECT payment.post_journal('x', pg_temp.accts('{owed,cash}'), '{1,-1}')$$);
ROLLBACK;

SELECT * FROM payment.verify() WHERE object_id IN (SELECT id FROM payment.account WHERE code LIKE 'batch%');
