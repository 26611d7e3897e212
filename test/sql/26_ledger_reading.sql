-- Statements, balances of earlier times, wallets.
SET TimeZone = 'UTC';

SELECT payment.open_account('reading_a', 'liability', 'USD') AS a, payment.open_account('reading_b', 'asset', 'USD') AS b \gset
SELECT payment.post_journal('one', ARRAY[:'a', :'b']::uuid[], '{-100,100}', NULL, '2026-01-10', 'first') AS j1 \gset
SELECT payment.post_journal('two', ARRAY[:'a', :'b', :'a']::uuid[], '{-50,20,30}', NULL, '2026-01-05') AS j2 \gset
SELECT payment.post_journal('three', ARRAY[:'b', :'a']::uuid[], '{-7,7}', NULL, '2026-02-01') AS j3 \gset

PREPARE show AS SELECT line, CASE journal_id WHEN :'j1' THEN 'j1' WHEN :'j2' THEN 'j2' WHEN :'j3' THEN 'j3' END AS journal,
    leg, kind, effective_at::date AS effective, recorded_at IS NOT NULL AS recorded, description, debit, credit, balance
FROM payment.statement($1, $2, $3, $4, $5, $6);
EXECUTE show(:'a', '-infinity', 'infinity', NULL, NULL, 1000);
EXECUTE show(:'b', NULL, NULL, NULL, NULL, 1000);
SELECT balance = (payment.balance(:'a')).posted AS same FROM payment.statement(:'a') WHERE line = 'closing';
-- pages
EXECUTE show(:'a', NULL, NULL, NULL, NULL, 2);
EXECUTE show(:'a', NULL, NULL, :'j2', 1, 2);
EXECUTE show(:'a', NULL, NULL, :'j2', 3, 1);
EXECUTE show(:'a', NULL, NULL, :'j3', 2, 1);
-- times: those of recording
SELECT payment.id_time(:'j2') AS from_time, payment.id_time(:'j3') AS until_time \gset
EXECUTE show(:'a', :'from_time', :'until_time', NULL, NULL, 10);
EXECUTE show(:'a', '2020-01-01', '2021-01-01', NULL, NULL, 10);
EXECUTE show(:'a', '2100-01-01', 'infinity', NULL, NULL, 10);
EXECUTE show(:'a', 'infinity', '-infinity', NULL, NULL, 10);
-- an account without entries
SELECT payment.open_account('reading_c', 'asset', 'USD') AS c \gset
EXECUTE show(:'c', NULL, NULL, NULL, NULL, 10);
-- what is wrong
SELECT payment.statement(NULL);
SELECT payment.statement('00000000-0000-7000-8000-000000000000');
SELECT payment.statement(:'a', after_journal => :'j1');
SELECT payment.statement(:'a', after_leg => 1);
SELECT payment.statement(:'a', page_size => 0);
SELECT payment.statement(:'a', page_size => 10001);
SELECT payment.statement(:'a', page_size => NULL);

-- the pages of any size give all entries, and each closes as the next opens
SELECT count(payment.post_journal('many', ARRAY[:'a', :'b']::uuid[], ARRAY[-n, n])) FROM generate_series(1, 50) n;
CREATE FUNCTION pg_temp.pages(account uuid, size integer, OUT pages integer, OUT entries integer, OUT gaps integer, OUT wrong integer)
LANGUAGE plpgsql AS $$
DECLARE
    l record;
    at_journal uuid;
    at_leg integer;
    running bigint := 0;
BEGIN
    pages := 0; entries := 0; gaps := 0; wrong := 0;
    LOOP
        pages := pages + 1;
        FOR l IN SELECT * FROM payment.statement(account, after_journal => at_journal, after_leg => at_leg, page_size => size)
        LOOP
            IF l.line = 'opening' AND l.balance <> running THEN gaps := gaps + 1; END IF;
            IF l.line = 'entry' THEN
                entries := entries + 1;
                running := running - coalesce(l.debit, 0) + coalesce(l.credit, 0);
            END IF;
            IF l.balance <> running THEN wrong := wrong + 1; END IF;
        END LOOP;
        EXIT WHEN l.journal_id IS NULL OR pages > 1000;
        at_journal := l.journal_id;
        at_leg := l.leg;
    END LOOP;
END
$$;
SELECT size, p.* FROM unnest(ARRAY[1, 2, 3, 7, 53, 54, 55, 10000]) size, pg_temp.pages(:'a', size) p;

-- what took effect until then, whenever it was recorded
SELECT at, payment.balance_as_of(:'a', at) FROM unnest(ARRAY['-infinity', '2026-01-04', '2026-01-05', '2026-01-09 23:59:59',
    '2026-01-10', '2026-02-01', 'infinity']::timestamptz[]) at;
SELECT payment.balance_as_of(:'b', 'infinity') = (payment.balance(:'b')).posted AS same;
SELECT payment.balance_as_of(:'c', now());
SELECT payment.balance_as_of(:'a', NULL);
SELECT payment.balance_as_of('00000000-0000-7000-8000-000000000000', now());

-- who may
SET ROLE payment_app;
SELECT payment.statement(:'a');
SELECT payment.balance_as_of(:'a', now());
RESET ROLE;
SET ROLE payment_auditor;
SELECT count(*) FROM payment.statement(:'a');
SELECT payment.balance_as_of(:'a', 'infinity');
RESET ROLE;

-- a wallet is the same whatever the isolation level, and within what posts itself
SELECT payment.register_seller('reading seller', 'Seller') AS seller \gset
SELECT payment.open_account('seller_available', 'liability', 'USD', :'seller') AS available \gset
SELECT payment.post_journal('give', ARRAY[:'available', :'b']::uuid[], '{-500,500}') IS NOT NULL AS posted;
SET ROLE payment_app;
SELECT seller, currency, pending, available, held, in_payout, owed FROM payment.wallet WHERE seller_id = :'seller';
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT available FROM payment.wallet WHERE seller_id = :'seller';
RESET ROLE;
SELECT payment.post_journal('give', ARRAY[:'available', :'b']::uuid[], '{-1,1}') IS NOT NULL AS posted;
SELECT available FROM payment.wallet WHERE seller_id = :'seller';
SELECT sum(available) = 501 AS same FROM payment.wallet WHERE seller LIKE 'reading%';
COMMIT;

-- any time is one, the epoch of timestamps too
SELECT payment.post_journal('opening', ARRAY[:'a', :'b']::uuid[], '{3,-3}', NULL, '2000-01-01 00:00:00+00') AS journal \gset
SELECT effective_at FROM payment.journal WHERE id = :'journal';
SELECT payment.reverse_journal(:'journal', NULL, NULL, NULL, 'epoch', '2000-01-01 00:00:00+00') AS reversal \gset
SELECT effective_at FROM payment.journal WHERE id = :'reversal';
SELECT payment.reverse_journal(:'journal', NULL, NULL, NULL, 'epoch');
SELECT (payment.post_journals('{opening}', '{1,1}', ARRAY[:'a', :'b']::uuid[], '{3,-3}', NULL,
    '{2000-01-01 00:00:00+00}')).journal_ids[1] AS journal \gset
SELECT effective_at FROM payment.journal WHERE id = :'journal';
SELECT payment.create_hold(:'a', 1) AS hold \gset
SELECT payment.post_hold(:'hold', ARRAY[:'b']::uuid[], effective_at => '2000-01-01 00:00:00+00') AS journal \gset
SELECT effective_at FROM payment.journal WHERE id = :'journal';
-- nor does one end that no id can hold
SELECT until, balance = (payment.balance(:'a')).posted AS same
    FROM unnest(ARRAY['9999-12-31', '10889-08-02', '10889-08-03', '10900-01-01', '294276-12-31', 'infinity']::timestamptz[]) until,
    payment.statement(:'a', until_time => until) WHERE line = 'closing';
SELECT payment.id_floor('10889-08-02'), payment.id_floor('10889-08-03');
