--
-- Reconciliation: settlement lines against captured orders.
--
\set SHOW_CONTEXT never
\pset null -

CREATE FUNCTION pg_temp.import(file_name text, content text) RETURNS uuid
    LANGUAGE sql AS $$
    SELECT payment.import_settlement('recon_psp', 'stripe_csv', file_name, pg_catalog.convert_to(
        E'balance_transaction_id,currency,gross,fee,net,reporting_category,payment_intent_id,payment_metadata[payment_order]\n'
        || content, 'UTF8'))
$$;

-- An order, sent and answered as the worker would; the PSP calls it pi_<reference>.
CREATE FUNCTION pg_temp.pay(reference text, amount text, currency text, outcome text DEFAULT 'succeeded') RETURNS uuid
    LANGUAGE plpgsql AS $$
DECLARE
    made payment.checkout_result;
    claimed payment.claimed_task;
BEGIN
    made := payment.checkout('recon-' || reference, 'payer', pg_catalog.jsonb_build_array(pg_catalog.jsonb_build_object(
        'seller', 'recon_seller', 'amount', amount, 'currency', currency, 'reference', reference)), 'recon_psp', 'pm_card');
    IF outcome = 'none' THEN
        RETURN made.order_ids[1];
    END IF;
    FOR claimed IN SELECT * FROM payment.claim_tasks((SELECT id FROM payment.psp WHERE name = 'recon_psp'), 100, 60000)
    LOOP
        PERFORM payment.record_outcomes(ARRAY[ROW(claimed.attempt_id, outcome, 200, 1,
            CASE outcome WHEN 'succeeded' THEN 'pi_' || reference END, claimed.amount, claimed.currency,
            NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome]);
    END LOOP;
    RETURN made.order_ids[1];
END
$$;

CREATE FUNCTION pg_temp.run(through timestamptz DEFAULT '-infinity', OUT matched bigint, OUT excepted bigint, OUT opened bigint,
    OUT closed bigint)
    LANGUAGE sql AS $$
    SELECT lines_matched, lines_excepted, exceptions_opened, exceptions_closed FROM payment.reconcile('recon_psp', through)
$$;

-- what the run of pg_temp.run() just now, or before, left open
CREATE VIEW pg_temp.open AS
    SELECT type, order_reference, psp_reference, file_name, line_no, currency, expected, actual, expected_amount, actual_amount, detail
    FROM payment.exception WHERE psp = 'recon_psp' AND status = 'open';

CREATE FUNCTION pg_temp.balance(code text, currency text) RETURNS numeric
    LANGUAGE sql AS $$
    SELECT coalesce(pg_catalog.sum(e.amount), 0) FROM payment.account a JOIN payment.entry e ON e.account_id = a.id
    WHERE a.code = $1 AND a.currency = $2 AND a.owner = (SELECT id FROM payment.psp WHERE name = 'recon_psp')
$$;

SELECT payment.register_psp('recon_psp', 'stripe', 'http://127.0.0.1:1', 'secret',
    '{"fees": {"USD": {"fixed": 30, "basis_points": 290}, "KWD": {"basis_points": 50}}, "fee_tolerance": 1}') IS NOT NULL AS registered;
SELECT payment.register_seller('recon_seller', 'Seller') IS NOT NULL AS registered;

SELECT payment.reconcile(NULL);
SELECT payment.reconcile('recon_psp', NULL);
SELECT payment.reconcile('nobody');
SELECT * FROM pg_temp.run();

-- All is well: by the PSP's reference, and by the order's id in metadata.
SELECT pg_temp.pay('a1', '100.00', 'USD') AS a1 \gset
SELECT pg_temp.pay('a2', '50.00', 'USD') AS a2 \gset
SELECT pg_temp.pay('a3', '1000000', 'JPY') AS a3 \gset
SELECT pg_temp.pay('a4', '1.234', 'KWD') AS a4 \gset
SELECT pg_temp.import('good.csv', pg_catalog.format($$txn_a1,usd,100.00,3.20,96.80,charge,pi_a1,
txn_a2,usd,50.00,1.75,48.25,charge,,%s
txn_a3,jpy,1000000,36000,964000,charge,pi_a3,%s
txn_a4,kwd,1.234,0.006,1.228,charge,pi_a4,%s
txn_p,usd,-145.05,0,-145.05,payout,,
$$, :'a2', :'a3', :'a2')) IS NOT NULL AS imported;
SELECT * FROM pg_temp.run('infinity');
SELECT psp, file_name, status, matched, excepted, pending, ignored FROM payment.settlement WHERE psp = 'recon_psp';
SELECT l.external_id, l.match, o.reference FROM payment.settlement_line l JOIN payment.settlement_file f ON f.id = l.file_id LEFT JOIN payment.order_record o ON o.id = l.order_id
WHERE f.file_name = 'good.csv' ORDER BY l.id;
SELECT * FROM pg_temp.open;
-- nothing is left to be settled, in no currency
SELECT c AS currency, pg_temp.balance('psp_receivable', c) AS psp_receivable, pg_temp.balance('settlement_in_transit', c) AS in_transit,
    pg_temp.balance('psp_fee', c) AS psp_fee, pg_temp.balance('recon_suspense', c) AS suspense
FROM pg_catalog.unnest(ARRAY['USD', 'JPY', 'KWD']) c;
SELECT pg_catalog.count(*) FROM payment.unsettled_order u JOIN payment.psp p ON p.id = u.psp_id WHERE p.name = 'recon_psp';

-- A second run changes nothing.
SELECT pg_catalog.count(*) AS journals FROM payment.journal \gset
SELECT * FROM pg_temp.run('infinity');
SELECT pg_catalog.count(*) - :journals AS new_journals FROM payment.journal;

-- One of each difference.  A line opens the most serious one only: txn_b2 has
-- a wrong fee, too.
SELECT pg_temp.pay('b1', '10.00', 'USD') AS b1 \gset
SELECT pg_temp.pay('b2', '20.00', 'USD') AS b2 \gset
SELECT pg_temp.pay('b3', '30.00', 'USD') AS b3 \gset
SELECT pg_temp.pay('b4', '40.00', 'USD') AS b4 \gset
SELECT pg_temp.pay('b5', '50.00', 'USD', 'unknown') AS b5 \gset
SELECT pg_temp.pay('b6', '60.00', 'USD') AS b6 \gset
SELECT pg_temp.pay('b7', '7.00', 'USD', 'declined') AS b7 \gset
SELECT pg_temp.pay('b8', '8.00', 'USD') AS b8 \gset
SELECT pg_temp.import('differences.csv', pg_catalog.format($$txn_b1,usd,10.00,0.60,9.40,charge,pi_b1,%s
txn_b2,usd,20.01,5.00,15.01,charge,pi_b2,%s
txn_b3,eur,30.00,1.17,28.83,charge,pi_b3,%s
txn_b4,usd,40.00,1.46,38.54,charge,pi_b4,
txn_b4,usd,40.00,1.46,38.54,charge,pi_b4,
txn_b4x,usd,40.00,1.46,38.54,charge,pi_b4,
txn_b5,usd,50.00,1.75,48.25,charge,pi_b5,%s
txn_b7,usd,7.00,0.50,6.50,charge,pi_b7,%s
txn_b8,usd,8.00,0.55,7.45,charge,pi_b8,
txn_bu,usd,99.00,3.17,95.83,charge,pi_unknown,
txn_bw,usd,1.00,0.33,0.67,charge,pi_who,0195d5a0-0000-7000-8000-000000000001
txn_br,usd,-5.00,0.00,-5.00,refund,pi_b1,
txn_bf,usd,-0.10,0.00,-0.10,fee,,
$$, :'b1', :'b2', :'b3', :'b5', :'b7')) IS NOT NULL AS imported;
SELECT * FROM pg_temp.run('infinity');
SELECT type, order_reference, psp_reference, line_no, currency, expected, actual, detail FROM pg_temp.open ORDER BY type, line_no;
SELECT status, matched, excepted, pending, ignored FROM payment.settlement WHERE file_name = 'differences.csv';
-- S55: the unknown receipts are not psp_receivable's; each has its own journal
SELECT j.kind, l.external_id, e.leg, a.code, e.amount
FROM payment.journal j JOIN payment.settlement_line l ON l.id = j.subject
    JOIN payment.settlement_file f ON f.id = l.file_id AND f.file_name = 'differences.csv'
    JOIN payment.entry e ON e.journal_id = j.id JOIN payment.account a ON a.id = e.account_id ORDER BY j.id, e.leg;
-- S58: one minor unit is within the tolerance, and the fee is posted as it is
SELECT match FROM payment.settlement_line WHERE external_id = 'txn_b1';
SELECT * FROM pg_temp.run('infinity');

-- S54: a line of a later file claims what is settled; the first one stays.
SELECT pg_temp.import('again.csv', $$txn_c1,usd,100.00,3.20,96.80,charge,pi_a1,
txn_b1,usd,10.00,0.60,9.40,charge,pi_b1,
$$) IS NOT NULL AS imported;
SELECT * FROM pg_temp.run();
SELECT type, order_reference, line_no, detail FROM pg_temp.open WHERE file_name = 'again.csv' ORDER BY line_no;
SELECT status FROM payment.settlement WHERE file_name = 'again.csv';
SELECT external_id, match FROM payment.settlement_line WHERE order_id = :'a1' ORDER BY id;

-- S56: b6 was missing; its line comes late.
SELECT type, order_reference, expected, actual FROM pg_temp.open WHERE order_reference = 'b6';
SELECT pg_temp.import('late.csv', $$txn_b6,usd,60.00,2.04,57.96,charge,pi_b6,
$$) IS NOT NULL AS imported;
SELECT * FROM pg_temp.run('infinity');
SELECT type, status, closed_at IS NOT NULL AS closed FROM payment.exception WHERE order_reference = 'b6';
SELECT from_status, to_status, cause FROM payment.status_history h JOIN payment.exception e ON e.id = h.object_id
WHERE e.order_reference = 'b6' ORDER BY h.id;
SELECT status FROM payment.settlement WHERE file_name = 'late.csv';

-- A line was there before we knew that the order was captured.
SELECT payment.record_outcomes(ARRAY(SELECT ROW(a.id, 'succeeded', 200, 1, 'pi_b5', 5000, 'USD', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome
    FROM payment.attempt a WHERE a.object_id = :'b5' ORDER BY a.id DESC LIMIT 1)) AS late_outcome;
SELECT status FROM payment.order_record WHERE id = :'b5';
SELECT * FROM pg_temp.run('infinity');
SELECT type, status FROM payment.exception WHERE order_reference = 'b5';
SELECT match FROM payment.settlement_line WHERE external_id = 'txn_b5';

-- through: what was captured later than that need not be settled yet.
SELECT pg_temp.pay('d1', '1.00', 'USD') AS d1 \gset
SELECT * FROM pg_temp.run((SELECT captured_at - interval '1 microsecond' FROM payment.order_record WHERE id = :'d1'));
SELECT * FROM pg_temp.run((SELECT captured_at FROM payment.order_record WHERE id = :'d1'));
SELECT * FROM pg_temp.run();

-- S62: one payment of 1.00 for three sellers; each part settles by itself.
SELECT pg_catalog.string_agg(payment.format_money(part, 'EUR'), ' ') FROM pg_catalog.unnest(payment.split_money(100, '{1,1,1}')) part;
SELECT pg_temp.pay('e' || n, payment.format_money(part, 'EUR'), 'EUR') IS NOT NULL AS paid
FROM ROWS FROM (pg_catalog.unnest(payment.split_money(100, '{1,1,1}'))) WITH ORDINALITY AS u (part, n);
SELECT pg_temp.import('split.csv', $$txn_e1,eur,0.33,0.01,0.32,charge,pi_e1,
txn_e2,eur,0.33,0.01,0.32,charge,pi_e2,
txn_e3,eur,0.34,0.01,0.33,charge,pi_e3,
$$) IS NOT NULL AS imported;
SELECT * FROM pg_temp.run('infinity');

-- Another PSP's reference of the same name, and another PSP's order, are none of this one's.
SELECT payment.register_psp('recon_psp_2', 'stripe', 'http://127.0.0.1:1', 'secret') IS NOT NULL AS registered;
SELECT payment.import_settlement('recon_psp_2', 'stripe_csv', 'foreign.csv', pg_catalog.convert_to(
    E'balance_transaction_id,currency,gross,fee,net,reporting_category,payment_intent_id,payment_metadata[payment_order]\n'
    'txn_a1,usd,100.00,3.20,96.80,charge,pi_a1,' || :'a1' || E'\n', 'UTF8')) IS NOT NULL AS imported;
SELECT lines_matched, lines_excepted, exceptions_opened FROM payment.reconcile('recon_psp_2');
SELECT type, order_id, psp_reference FROM payment.exception WHERE psp = 'recon_psp_2';

-- Hostile amounts do not stop a run.
SELECT pg_temp.import('huge.csv', $$txn_h1,usd,-100000000000000.00,100000000000000.00,0,charge,pi_h1,
txn_h2,usd,100000000000000.00,-100000000000000.00,0,charge,pi_d1,
txn_h3,usd,0,0,0,charge,pi_h3,
$$) IS NOT NULL AS imported;
SELECT * FROM pg_temp.run();
SELECT type, psp_reference, expected, actual FROM pg_temp.open WHERE file_name = 'huge.csv' ORDER BY line_no;

-- Runs are on record.  Exceptions, runs and what is unsettled are not written by hand.
SELECT pg_catalog.count(*) > 10 AS runs, pg_catalog.bool_and(started_at <= finished_at) AS timed FROM payment.reconciliation_run;
CREATE FUNCTION pg_temp.attempt(command text) RETURNS text
    LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
SELECT pg_temp.attempt($$DELETE FROM payment.reconciliation_run$$);
SELECT pg_temp.attempt($$UPDATE payment.reconciliation_run SET lines_matched = 0$$);
SELECT pg_temp.attempt($$UPDATE payment.exception_record SET status = 'resolved' WHERE status = 'open'$$);
SELECT pg_temp.attempt($$UPDATE payment.exception_record SET expected_amount = actual_amount$$);
SELECT pg_temp.attempt($$UPDATE payment.exception_record SET closed_at = pg_catalog.now()$$);
SELECT pg_temp.attempt($$DELETE FROM payment.exception_record$$);
SELECT pg_temp.attempt($$TRUNCATE payment.exception_record$$);
SELECT pg_temp.attempt($$INSERT INTO payment.exception_record SELECT * FROM payment.exception_record$$);
SELECT pg_temp.attempt($$DELETE FROM payment.unsettled_order$$);
SELECT pg_temp.attempt($$UPDATE payment.unsettled_order SET missing = true$$);
-- only an empty table takes rows by hand, as a restore does
BEGIN;
SELECT pg_temp.pay('guarded', '1.00', 'USD') IS NOT NULL AS captured;
SELECT pg_temp.attempt($$INSERT INTO payment.unsettled_order SELECT payment.new_id(), psp_id, captured_at FROM payment.unsettled_order$$);
ROLLBACK;
SELECT pg_temp.attempt($$TRUNCATE payment.unsettled_order$$);
SET ROLE payment_app;
SELECT payment.reconcile('recon_psp');
SELECT * FROM payment.exception;
RESET ROLE;
SET ROLE payment_auditor;
SELECT pg_catalog.count(*) > 0 AS readable FROM payment.exception;
RESET ROLE;

-- What a PSP should take, half-even.
SELECT payment.expected_psp_fee('{"USD": {"fixed": 30, "basis_points": 290}}', 'USD', 10000) AS "320",
    payment.expected_psp_fee('{"USD": {"basis_points": 50}}', 'USD', 100) AS "0",
    payment.expected_psp_fee('{"USD": {"basis_points": 50}}', 'USD', 300) AS "2",
    payment.expected_psp_fee('{"USD": {"fixed": 30}}', 'USD', -100) AS "30",
    payment.expected_psp_fee('{"USD": {"fixed": 30}}', 'EUR', 100) AS none,
    payment.expected_psp_fee('{"USD": 3}', 'USD', 100) AS none,
    payment.expected_psp_fee('[]', 'USD', 100) AS none,
    payment.expected_psp_fee('{"USD": {"fixed": 9223372036854775807, "basis_points": 1}}', 'USD', 10000) AS none,
    payment.expected_psp_fee('{"USD": {"basis_points": 10001}}', 'USD', 10000) AS none;

SELECT * FROM payment.verify();
