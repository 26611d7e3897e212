-- Reversals: whole, in parts, never more than the original.

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
    AS $$ SELECT id FROM payment.account WHERE code = 'rev_' || name $$;
CREATE FUNCTION pg_temp.accts(names text[]) RETURNS uuid[] LANGUAGE sql
    AS $$ SELECT array_agg(pg_temp.acct(n) ORDER BY o) FROM unnest(names) WITH ORDINALITY AS u(n, o) $$;
CREATE FUNCTION pg_temp.posted(names text[], amounts bigint[]) RETURNS uuid LANGUAGE sql
    AS $$ SELECT payment.post_journal('sale', pg_temp.accts(names), amounts, '018cc251-f400-7000-8000-000000000001') $$;
CREATE FUNCTION pg_temp.legs(journal uuid) RETURNS text[] LANGUAGE sql
    AS $$ SELECT array_agg(substr(a.code, 5) || ' ' || e.amount ORDER BY a.code) FROM payment.entry e
        JOIN payment.account a ON a.id = e.account_id WHERE e.journal_id = journal $$;
-- posted balances, debits positive
CREATE FUNCTION pg_temp.sums(names text[]) RETURNS text LANGUAGE sql
    AS $$ SELECT string_agg(n || ' ' || coalesce((SELECT sum(balance) FROM payment.balance_slot WHERE account_id = pg_temp.acct(n)), 0), ', ' ORDER BY o)
        FROM unnest(names) WITH ORDINALITY AS u(n, o) $$;

SELECT payment.open_account('rev_cash', 'asset', 'USD') IS NOT NULL AS cash,
    payment.open_account('rev_owed', 'liability', 'USD', NULL, NULL, 0) IS NOT NULL AS owed,
    payment.open_account('rev_fee', 'revenue', 'USD') IS NOT NULL AS fee,
    payment.open_account('rev_tax', 'liability', 'USD') IS NOT NULL AS tax,
    payment.open_account('rev_eur', 'asset', 'EUR') IS NOT NULL AS eur,
    payment.open_account('rev_eur2', 'equity', 'EUR') IS NOT NULL AS eur2;

-- whole
SELECT pg_temp.posted('{cash,owed,fee}', '{100,-90,-10}') AS journal \gset
SELECT payment.reverse_journal(:'journal', description => 'entered twice', effective_at => '2024-01-02 03:04:05+00') AS reversal \gset
SELECT kind, subject, reverses = :'journal' AS reverses, effective_at = '2024-01-02 03:04:05+00' AS effective,
    recorded_at > now() - interval '1 min' AS recorded, description, pg_temp.legs(id)
FROM payment.journal WHERE id = :'reversal';
SELECT pg_temp.sums('{cash,owed,fee}');
SELECT reversals = ARRAY[:'reversal']::uuid[] AS on_record FROM payment.reversal WHERE journal_id = :'journal';
SELECT c, pg_temp.error_of(format(c, :'journal')) FROM unnest(ARRAY[
    'SELECT payment.reverse_journal(%L)',
    'SELECT payment.reverse_journal(%L, 1)',
    'SELECT payment.reverse_journal(%L, NULL, pg_temp.accts(''{cash,fee}''), ''{-1,1}'')'
]) c;
SELECT pg_temp.error_of(format('SELECT payment.reverse_journal(%L)', :'reversal'));

-- parts that sum to the whole leave nothing behind (S34)
SELECT pg_temp.posted('{cash,owed,fee,tax}', '{10000,-7501,-1000,-1499}') AS journal \gset
SELECT pg_temp.legs(payment.reverse_journal(:'journal', n)) FROM unnest('{3333,3333,3334}'::bigint[]) n;
SELECT pg_temp.sums('{cash,owed,fee,tax}');
SELECT pg_temp.error_of(format('SELECT payment.reverse_journal(%L, 1)', :'journal'));
-- every amount from 1 to the whole, each with its rest
SELECT pg_temp.posted('{cash,owed,fee,tax}', '{13,-7,-5,-1}') AS journal \gset
DO $$
DECLARE
    journal uuid;
BEGIN
    FOR n IN 1..12 LOOP
        journal := pg_temp.posted('{cash,cash,owed,fee,tax}', '{9,4,-7,-5,-1}');
        PERFORM payment.reverse_journal(journal, n);
        PERFORM payment.reverse_journal(journal);
    END LOOP;
END
$$;
SELECT pg_temp.legs(payment.reverse_journal(:'journal', 1)) FROM generate_series(1, 13);
SELECT pg_temp.sums('{cash,owed,fee,tax}');

-- legs of one's own, then the rest
SELECT pg_temp.posted('{cash,owed,fee}', '{100,-90,-10}') AS journal \gset
SELECT c, pg_temp.error_of(format(c, :'journal')) FROM unnest(ARRAY[
    $$SELECT payment.reverse_journal(%L, NULL, pg_temp.accts('{cash,fee}'), '{-11,11}')$$,
    $$SELECT payment.reverse_journal(%L, NULL, pg_temp.accts('{cash,fee}'), '{1,-1}')$$,
    $$SELECT payment.reverse_journal(%L, NULL, pg_temp.accts('{cash,owed,owed}'), '{-91,46,45}')$$,
    $$SELECT payment.reverse_journal(%L, NULL, pg_temp.accts('{cash,tax}'), '{-1,1}')$$,
    $$SELECT payment.reverse_journal(%L, NULL, pg_temp.accts('{cash,fee}'), '{-9,10}')$$,
    $$SELECT payment.reverse_journal(%L, NULL, pg_temp.accts('{cash,fee}'), '{-10,10}')$$,
    $$SELECT payment.reverse_journal(%L, NULL, pg_temp.accts('{cash,fee}'), '{-1,1}')$$,
    $$SELECT payment.reverse_journal(%L, NULL, pg_temp.accts('{cash,owed,owed}'), '{-80,40,40}')$$,
    $$SELECT payment.reverse_journal(%L, 11)$$
]) c;
SELECT pg_temp.legs(payment.reverse_journal(:'journal', 3));
SELECT pg_temp.legs(payment.reverse_journal(:'journal'));
SELECT cardinality(reversals) FROM payment.reversal WHERE journal_id = :'journal';
SELECT pg_temp.sums('{cash,owed,fee}');

-- several currencies; an account that the journal moved there and back
SELECT pg_temp.posted('{cash,fee,eur,eur2}', '{5,-5,7,-7}') AS journal \gset
SELECT pg_temp.error_of(format('SELECT payment.reverse_journal(%L, 1)', :'journal'));
SELECT pg_temp.legs(payment.reverse_journal(:'journal', NULL, pg_temp.accts('{eur,eur2}'), '{-3,3}'));
SELECT pg_temp.legs(payment.reverse_journal(:'journal'));
SELECT pg_temp.posted('{cash,cash}', '{5,-5}') AS journal \gset
SELECT pg_temp.error_of(format('SELECT payment.reverse_journal(%L)', :'journal'));
SELECT pg_temp.posted('{cash,fee,tax,tax}', '{5,-5,2,-2}') AS journal \gset
SELECT pg_temp.legs(payment.reverse_journal(:'journal'));

-- limits, holds and states are kept
SELECT pg_temp.posted('{cash,owed}', '{50,-50}') AS journal \gset
SELECT payment.post_journal('x', pg_temp.accts('{owed,tax}'), '{20,-20}') IS NOT NULL AS spent;
SELECT payment.create_hold(pg_temp.acct('owed'), 10) AS hold \gset
SELECT pg_temp.error_of(format('SELECT payment.reverse_journal(%L)', :'journal'));
SELECT pg_temp.error_of(format('SELECT payment.reverse_journal(%L, 21)', :'journal'));
SELECT pg_temp.legs(payment.reverse_journal(:'journal', 20));
SELECT payment.post_hold(:'hold', pg_temp.accts('{tax}')) AS held \gset
SELECT pg_temp.legs(payment.reverse_journal(:'held'));
SELECT amount, posted, state FROM payment.hold WHERE id = :'hold';
SELECT payment.set_account_state(pg_temp.acct('owed'), 'frozen');
SELECT pg_temp.error_of(format('SELECT payment.reverse_journal(%L, 1)', :'journal'));
SELECT payment.set_account_state(pg_temp.acct('owed'), 'open');

-- own, uncommitted journals; what was rolled back is not reversed
BEGIN;
SELECT pg_temp.posted('{cash,fee}', '{5,-5}') AS journal \gset
SELECT pg_temp.legs(payment.reverse_journal(:'journal', 2));
SAVEPOINT s;
SELECT pg_temp.legs(payment.reverse_journal(:'journal'));
ROLLBACK TO s;
SELECT pg_temp.legs(payment.reverse_journal(:'journal'));
COMMIT;

-- keys
SELECT pg_temp.posted('{cash,fee}', '{50,-50}') AS journal \gset
SELECT payment.reverse_journal(:'journal', 20, idempotency_key => 'rev key') AS reversal \gset
SELECT payment.reverse_journal(:'journal', 20, idempotency_key => 'rev key') = :'reversal' AS same;
SELECT c, pg_temp.error_of(format(c, :'journal')) FROM unnest(ARRAY[
    $$SELECT payment.reverse_journal(%L, 21, idempotency_key => 'rev key')$$,
    $$SELECT payment.reverse_journal(%L, idempotency_key => 'rev key')$$,
    $$SELECT payment.reverse_journal(%L, NULL, pg_temp.accts('{cash,fee}'), '{-20,20}', 'rev key')$$
]) c;

-- hostile arguments (S73, S74)
SELECT c, pg_temp.error_of(format(c, :'journal')) FROM unnest(ARRAY[
    $$SELECT payment.reverse_journal(NULL)$$,
    $$SELECT payment.reverse_journal('018cc251-f400-7000-8000-000000000000')$$,
    $$SELECT payment.reverse_journal(%L, 0)$$,
    $$SELECT payment.reverse_journal(%L, -1)$$,
    $$SELECT payment.reverse_journal(%L, 9223372036854775807)$$,
    $$SELECT payment.reverse_journal(%L, 1, pg_temp.accts('{cash,fee}'), '{-1,1}')$$,
    $$SELECT payment.reverse_journal(%L, NULL, pg_temp.accts('{cash,fee}'))$$,
    $$SELECT payment.reverse_journal(%L, NULL, NULL, '{-1,1}')$$,
    $$SELECT payment.reverse_journal(%L, NULL, pg_temp.accts('{cash,fee}'), '{-1,1,1}')$$,
    $$SELECT payment.reverse_journal(%L, NULL, pg_temp.accts('{cash,fee}'), '{0,0}')$$,
    $$SELECT payment.reverse_journal(%L, NULL, pg_temp.accts('{cash,fee}'), '{-9223372036854775808,9223372036854775807}')$$,
    $$SELECT payment.reverse_journal(%L, effective_at => 'infinity')$$,
    $$SELECT payment.reverse_journal(%L, idempotency_key => '')$$,
    $$SELECT payment.reverse_journal(%L, description => '4111 1111 1111 1111')$$,
    $$SELECT payment.post_journal('reversal', pg_temp.accts('{cash,fee}'), '{1,-1}')$$,
    $$UPDATE payment.reversal SET reversals = '{}'$$,
    $$DELETE FROM payment.reversal$$,
    $$INSERT INTO payment.reversal VALUES (payment.new_id(), '{}')$$,
    $$TRUNCATE payment.reversal$$
]) c;
-- the largest amounts
SELECT pg_temp.posted('{cash,fee}', '{9223372036854775000,-9223372036854775000}') AS journal \gset
SELECT pg_temp.legs(payment.reverse_journal(:'journal', 9223372036854774999));
SELECT pg_temp.legs(payment.reverse_journal(:'journal'));

-- verify() finds what a superuser changed
SELECT * FROM payment.verify();
SELECT pg_temp.posted('{cash,fee}', '{50,-50}') AS journal \gset
SELECT payment.reverse_journal(:'journal', 20) AS reversal \gset
BEGIN;
ALTER TABLE payment.reversal DISABLE TRIGGER guard;
UPDATE payment.reversal SET reversals = '{}' WHERE journal_id = :'journal';
SELECT check_name, object_id = :'reversal' AS reversal, detail, expected, actual FROM payment.verify() ORDER BY 1, 3;
ROLLBACK;
BEGIN;
ALTER TABLE payment.journal_default DISABLE TRIGGER guard;
UPDATE payment.journal_default SET kind = 'sale' WHERE id = :'reversal';
SELECT check_name, object_id = :'reversal' AS reversal, detail, expected, actual FROM payment.verify() ORDER BY 1, 3;
UPDATE payment.journal_default SET kind = 'reversal', reverses = NULL WHERE id = :'reversal';
SELECT check_name, object_id = :'reversal' AS reversal, detail, expected, actual FROM payment.verify() ORDER BY 1, 3;
ROLLBACK;
-- reversals that are not here any more cannot be added up
BEGIN;
ALTER TABLE payment.reversal DISABLE TRIGGER guard;
UPDATE payment.reversal SET reversals = reversals || payment.new_id() WHERE journal_id = :'journal';
SELECT pg_temp.error_of(format('SELECT payment.reverse_journal(%L, 1)', :'journal'));
ROLLBACK;
-- 20 more are taken back than there were
BEGIN;
ALTER TABLE payment.entry_default DISABLE TRIGGER guard;
UPDATE payment.entry_default SET amount = amount / 5 WHERE journal_id = :'journal';
SELECT check_name, detail, expected, actual FROM payment.verify() WHERE check_name LIKE 'reversal%' ORDER BY 1, 2;
ROLLBACK;
