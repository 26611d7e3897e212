-- Release and payout: money becomes the seller's, and leaves.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/order.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;
SET test.psp = 'payout';
SELECT count(payment.register_psp('payout', 'none', 'http://127.0.0.1:1', 'none')) AS registered;
SELECT payment.register_seller('payout alice', 'Alice') AS alice \gset
SELECT count(payment.set_fee_schedule(0, 1000, :'alice')) AS scheduled;

-- release: only what was captured, and once
SELECT pg_temp.buy('a', 'payout alice', '100.00', 'USD');
SELECT pg_temp.error_of('SELECT payment.release(pg_temp.object(''a''))');
SELECT count(*) AS claimed FROM payment.claim_tasks(pg_temp.psp(), 10, 60000);
SELECT pg_temp.error_of('SELECT payment.release(pg_temp.object(''a''))');
SELECT payment.record_outcomes(array_agg(ROW(a.id, 'succeeded', 200, 5, 'ref a', 10000, 'USD', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome))
FROM payment.attempt AS a WHERE a.object_id = pg_temp.object('a');
SELECT * FROM pg_temp.wallet('payout alice');
SELECT payment.release(pg_temp.object('a'));
SELECT payment.release(pg_temp.object('a'));
SELECT * FROM pg_temp.wallet('payout alice');
SELECT j.kind, a.code, e.amount FROM payment.journal AS j JOIN payment.entry AS e ON e.journal_id = j.id
    JOIN payment.account AS a ON a.id = e.account_id WHERE j.subject = pg_temp.object('a') ORDER BY j.id, e.leg;
SELECT pg_temp.history(pg_temp.object('a'));
SELECT pg_temp.error_of('SELECT payment.release(NULL)');
SELECT pg_temp.error_of('SELECT payment.release(''00000000-0000-0000-0000-000000000000'')');
SELECT pg_temp.error_of(format('SELECT payment.release(%L)', (SELECT payment_id FROM payment.order_record WHERE id = pg_temp.object('a'))));
-- a declined order has nothing to release
SELECT pg_temp.buy('declined', 'payout alice', '1.00', 'USD');
SELECT pg_temp.send('declined');
SELECT pg_temp.error_of('SELECT payment.release(pg_temp.object(''declined''))') ~ '^PY303' AS refused;
-- the platform's fee takes it all
BEGIN;
SELECT count(payment.set_fee_schedule(0, 10000, :'alice')) AS scheduled;
SELECT pg_temp.buy('all fee', 'payout alice', '5.00', 'USD');
SELECT pg_temp.send('succeeded');
SELECT payment.release(pg_temp.object('all fee'));
SELECT count(*) FROM payment.journal WHERE subject = pg_temp.object('all fee') AND kind = 'release';
SELECT * FROM payment.verify();
ROLLBACK;

-- payout: available money only
SELECT pg_temp.error_of(format('SELECT payment.payout(%L, 9001, ''USD'', ''bank'', ''payout 0'', ''payout'')', :'alice'));
SELECT pg_temp.error_of(format('SELECT payment.payout(%L, 1, ''EUR'', ''bank'', ''payout 0'', ''payout'')', :'alice'));
SELECT payment.payout(:'alice', 5000, 'USD', 'bank 1', 'payout 1', 'payout') AS first \gset
SELECT * FROM pg_temp.wallet('payout alice');
SELECT seller, psp, amount, currency, destination, status, attempt_no, requested_by = session_user AS by_us FROM payment.payout
WHERE id = :'first';
SELECT pg_temp.history(:'first');
SELECT operation, step, run_at <= clock_timestamp() AS due FROM payment.task WHERE object_id = :'first';
SELECT j.kind, a.code, e.amount FROM payment.journal AS j JOIN payment.entry AS e ON e.journal_id = j.id
    JOIN payment.account AS a ON a.id = e.account_id WHERE j.subject = :'first' ORDER BY j.id, e.leg;
-- again with the same key; with other arguments
SELECT payment.payout(:'alice', 5000, 'USD', 'bank 1', 'payout 1', 'payout') = :'first' AS same;
SELECT pg_temp.error_of(format('SELECT payment.payout(%L, 5001, ''USD'', ''bank 1'', ''payout 1'', ''payout'')', :'alice'));
SELECT pg_temp.error_of(format('SELECT payment.payout(%L, 5000, ''USD'', ''bank 2'', ''payout 1'', ''payout'')', :'alice'));
-- S43, one after the other: the rest, and nothing more
SELECT count(payment.payout(:'alice', 4000, 'USD', 'bank 2', 'payout 2', 'payout'));
SELECT pg_temp.error_of(format('SELECT payment.payout(%L, 1, ''USD'', ''bank'', ''payout 3'', ''payout'')', :'alice'));
SELECT * FROM pg_temp.wallet('payout alice');
-- one is paid, one fails: its money comes back
SELECT count(*) AS claimed FROM payment.claim_tasks(pg_temp.psp(), 10, 60000);
SELECT payment.record_outcomes(array_agg(ROW(a.id, CASE WHEN a.object_id = :'first' THEN 'succeeded' ELSE 'failed' END,
    200, 5, CASE WHEN a.object_id = :'first' THEN 'po_1' END, p.amount, 'USD', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome))
FROM payment.attempt AS a JOIN payment.payout_record AS p ON p.id = a.object_id WHERE a.psp_id = pg_temp.psp();
SELECT destination, status FROM payment.payout WHERE psp = 'payout' ORDER BY id;
SELECT * FROM pg_temp.wallet('payout alice');

-- which PSP pays
SELECT count(payment.register_psp('payout no', 'none', 'http://127.0.0.1:1', 'none', '{"payouts": false}')) AS registered;
SELECT pg_temp.error_of(format('SELECT payment.payout(%L, 1, ''USD'', ''bank'', ''payout 4'', ''payout no'')', :'alice'));
BEGIN;
UPDATE payment.psp SET state = 'paused' WHERE name NOT IN ('payout', 'payout no');
SELECT count(payment.payout(:'alice', 1, 'USD', 'bank', 'payout 5')) AS only_one_pays_out;
UPDATE payment.psp SET payouts = false;
SELECT pg_temp.error_of(format('SELECT payment.payout(%L, 1, ''USD'', ''bank'', ''payout 6'')', :'alice'));
ROLLBACK;

-- what is refused
SELECT a, pg_temp.error_of(format('SELECT payment.payout(%s, %s, %s, %s, %s, %s)',
    replace(a[1], '$', quote_literal(:'alice')), a[2], a[3], a[4], a[5], a[6]))
FROM (VALUES
    (ARRAY['NULL', '1', '''USD''', '''b''', '''k''', '''payout''']),
    (ARRAY['$', 'NULL', '''USD''', '''b''', '''k''', '''payout''']),
    (ARRAY['$', '0', '''USD''', '''b''', '''k''', '''payout''']),
    (ARRAY['$', '-1', '''USD''', '''b''', '''k''', '''payout''']),
    (ARRAY['$', '-9223372036854775808', '''USD''', '''b''', '''k''', '''payout''']),
    (ARRAY['$', '9223372036854775807', '''USD''', '''b''', '''k''', '''payout''']),
    (ARRAY['$', '1', 'NULL', '''b''', '''k''', '''payout''']),
    (ARRAY['$', '1', '''usd''', '''b''', '''k''', '''payout''']),
    (ARRAY['$', '1', '''USD''', 'NULL', '''k''', '''payout''']),
    (ARRAY['$', '1', '''USD''', '''''', '''k''', '''payout''']),
    (ARRAY['$', '1', '''USD''', '''4111 1111 1111 1111''', '''k''', '''payout''']),
    (ARRAY['$', '1', '''USD''', '''b''', 'NULL', '''payout''']),
    (ARRAY['$', '1', '''USD''', '''b''', '''''', '''payout''']),
    (ARRAY['$', '1', '''USD''', '''b''', '''k''', '''no such''']),
    (ARRAY['''00000000-0000-0000-0000-000000000000''', '1', '''USD''', '''b''', '''k''', '''payout'''])) AS t (a);
BEGIN;
UPDATE payment.seller SET state = 'suspended' WHERE id = :'alice';
SELECT pg_temp.error_of(format('SELECT payment.payout(%L, 1, ''USD'', ''bank'', ''payout 7'', ''payout'')', :'alice'));
ROLLBACK;

-- the receipt tells all of it
SELECT jsonb_pretty(regexp_replace(regexp_replace(payment.receipt(pg_temp.object('a'))::text,
    '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}', '<id>', 'g'), '"20[0-9]{2}-[0-9-]+T[0-9:.+-]+"', '"<time>"', 'g')::jsonb) AS receipt;
SELECT pg_temp.error_of('SELECT payment.receipt(NULL)');
SELECT pg_temp.error_of('SELECT payment.receipt(''00000000-0000-0000-0000-000000000000'')');
SET ROLE payment_auditor;
SELECT payment.receipt((SELECT id FROM payment.payment_order WHERE reference = 'a' AND psp = 'payout')) ->> 'classic_status' AS status;
SELECT pg_temp.error_of('SELECT payment.release(''00000000-0000-0000-0000-000000000000'')');
RESET ROLE;
SELECT * FROM payment.verify();
