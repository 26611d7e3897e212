--
-- Settlement files: what an import stores and posts.
--
\set SHOW_CONTEXT never
SET timezone = 'UTC';

CREATE FUNCTION pg_temp.import(file_name text, content text, psp text DEFAULT 'import_psp') RETURNS uuid
    LANGUAGE sql AS $$
    SELECT payment.import_settlement(psp, 'stripe_csv', file_name, pg_catalog.convert_to(content, 'UTF8'))
$$;

CREATE FUNCTION pg_temp.attempt(command text) RETURNS text
    LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    EXECUTE command;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN pg_catalog.format('%s %s | %s', SQLSTATE, SQLERRM, detail);
END
$$;

CREATE VIEW pg_temp.posted AS
    SELECT f.file_name, j.kind, a.code, a.currency, pg_catalog.sum(e.amount) AS amount
    FROM payment.settlement_file f
        JOIN payment.journal j ON j.subject = f.id
        JOIN payment.entry e ON e.journal_id = j.id
        JOIN payment.account a ON a.id = e.account_id
    GROUP BY 1, 2, 3, 4;

SELECT payment.register_psp('import_psp', 'stripe', 'http://127.0.0.1:1', 'secret') IS NOT NULL AS registered;
SELECT payment.register_psp('import_psp_2', 'stripe', 'http://127.0.0.1:1', 'secret') IS NOT NULL AS registered;

-- Every column, every kind of line.  What it adds up to leaves psp_receivable.
SELECT pg_temp.import('full.csv', $$automatic_payout_id,automatic_payout_effective_at_utc,balance_transaction_id,created_utc,available_on_utc,currency,gross,fee,net,reporting_category,source_id,description,customer_facing_amount,customer_facing_currency,charge_id,payment_intent_id,payment_metadata[payment_order],payment_metadata[payment],trace_id
po_1,2025-02-03 00:00:00,txn_1,2025-01-31 23:59:59,2025-02-02 00:00:00,usd,100.00,3.20,96.80,charge,ch_1,Shoes,100.00,usd,ch_1,pi_1,0195d5a0-0000-7000-8000-000000000001,x,t1
po_1,2025-02-03 00:00:00,txn_2,2025-01-31 23:59:59,2025-02-02 00:00:00,USD,50.5,1.76,48.74,charge,ch_2,"two
lines, ""quoted""",50.5,usd,ch_2,,not an id,x,t2
po_1,2025-02-03 00:00:00,txn_3,2025-01-31 23:59:59,,usd,-20.00,0,-20.00,refund,re_1,,-20,usd,ch_1,pi_1,,,
po_1,2025-02-03 00:00:00,txn_4,2025-01-31 23:59:59,,usd,-10.00,15.00,-25.00,dispute,dp_1,,,,ch_1,pi_1,,,
po_1,2025-02-03 00:00:00,txn_5,2025-01-31 23:59:59,,usd,-2.00,0,-2.00,fee,fee_1,Radar,,,,,,,
po_1,2025-02-03 00:00:00,txn_6,2025-01-31 23:59:59,,usd,-7.00,0,-7.00,topup,,,,,,,,,
po_1,2025-02-03 00:00:00,txn_7,2025-01-31 23:59:59,,usd,-91.54,0,-91.54,payout,po_1,,,,,,,,
$$) IS NOT NULL AS imported;
SELECT psp, file_name, format, status, line_count, matched, excepted, pending, ignored, warnings, imported_by = session_user AS by_me
FROM payment.settlement WHERE psp = 'import_psp' \gx
SELECT line_no, category, external_id, psp_reference, claimed_order_id, currency, gross, fee, net, match
FROM payment.settlement_line l JOIN payment.settlement_file f ON f.id = l.file_id
WHERE f.file_name = 'full.csv' ORDER BY l.id;
SELECT line_no, occurred_at, available_on, payout_reference, description, repeated, order_id
FROM payment.settlement_line l JOIN payment.settlement_file f ON f.id = l.file_id
WHERE f.file_name = 'full.csv' AND line_no < 5 ORDER BY l.id;
-- net 91.54 in transit; fees 3.20 + 1.76 + 2.00; the dispute's fee is no PSP fee
SELECT kind, code, currency, amount FROM pg_temp.posted WHERE file_name = 'full.csv' ORDER BY code;
SELECT kind, pg_catalog.count(*) FROM payment.journal j JOIN payment.settlement_file f ON f.id = j.subject
WHERE file_name = 'full.csv' GROUP BY kind;

-- Columns in any order and case, BOM, CRLF, no newline at the end, times with T and Z.
SELECT pg_temp.import('other.csv', pg_catalog.concat(U&'\FEFF',
    pg_catalog.replace($$Net,GROSS,"fee",currency,Reporting_Category,balance_transaction_id,created,available_on,extra
0.90,1.00,0.10,eur,charge,txn_e1,2024-02-29T12:30Z,2024-03-01,

 0.90 , 1 ,0.1,eur,charge,txn_e2,2024-02-29 12:30:00.5,,$$, E'\n', E'\r\n'))) IS NOT NULL AS imported;
SELECT line_no, gross, fee, net, currency, occurred_at, available_on
FROM payment.settlement_line l JOIN payment.settlement_file f ON f.id = l.file_id
WHERE f.file_name = 'other.csv' ORDER BY l.id;
SELECT pg_catalog.jsonb_pretty(warnings) FROM payment.settlement_file WHERE file_name = 'other.csv';

-- S61: currencies without decimals, and with three.
SELECT pg_temp.import('s61.csv', $$balance_transaction_id,currency,gross,fee,net,reporting_category
txn_j1,jpy,1000000,36000,964000,charge
txn_j2,jpy,1.000,0.00,1,charge
txn_k1,kwd,1.234,0.004,1.230,charge
txn_k2,KWD,9999999999999.999,9999999999999.999,0.000,charge
$$) IS NOT NULL AS imported;
SELECT external_id, currency, gross, fee, net
FROM payment.settlement_line WHERE currency IN ('JPY', 'KWD') AND external_id LIKE 'txn\__%' ORDER BY id;
SELECT code, currency, amount FROM pg_temp.posted WHERE file_name = 's61.csv' ORDER BY currency, code;

-- S60: more goes back than came in.
SELECT pg_temp.import('s60.csv', $$balance_transaction_id,currency,gross,fee,net,reporting_category
txn_n1,chf,10.00,0.59,9.41,charge
txn_n2,chf,-100.00,-1.00,-99.00,refund
$$) IS NOT NULL AS imported;
SELECT code, currency, amount FROM pg_temp.posted WHERE file_name = 's60.csv' ORDER BY code;

-- S51: the same content again, under its name and another; another PSP's is another file.
SELECT pg_temp.attempt($$SELECT pg_temp.import('s60.csv', E'balance_transaction_id,currency,gross,fee,net,reporting_category\ntxn_n1,chf,10.00,0.59,9.41,charge\ntxn_n2,chf,-100.00,-1.00,-99.00,refund\n')$$);
SELECT pg_temp.attempt($$SELECT pg_temp.import('renamed.csv', E'balance_transaction_id,currency,gross,fee,net,reporting_category\ntxn_n1,chf,10.00,0.59,9.41,charge\ntxn_n2,chf,-100.00,-1.00,-99.00,refund\n')$$);
SELECT pg_temp.attempt($$SELECT pg_temp.import('s60.csv', E'balance_transaction_id,currency,gross,fee,net,reporting_category\ntxn_n1,chf,10.00,0.59,9.41,charge\ntxn_n2,chf,-100.00,-1.00,-99.00,refund\n', 'import_psp_2')$$);

-- S51, S53: issued again with corrections, and a line twice in one file.  The
-- lines are kept; what the PSP has reported before does not touch
-- psp_receivable again.
SELECT pg_temp.import('s60-corrected.csv', $$balance_transaction_id,currency,gross,fee,net,reporting_category
txn_n1,chf,10.00,0.59,9.41,charge
txn_n3,chf,1.00,0,1.00,charge
txn_n3,chf,1.00,0,1.00,charge
$$) IS NOT NULL AS imported;
SELECT line_no, external_id, repeated, match FROM payment.settlement_line l JOIN payment.settlement_file f ON f.id = l.file_id
WHERE f.file_name = 's60-corrected.csv' ORDER BY l.id;
SELECT code, currency, amount FROM pg_temp.posted WHERE file_name = 's60-corrected.csv' ORDER BY code;

-- Arithmetic that fails is a warning; the line counts as it is, the difference is in suspense.
SELECT pg_temp.import('sums.csv', $$balance_transaction_id,currency,gross,fee,net,reporting_category
txn_a1,sek,10.00,1.00,9.00,charge
txn_a2,sek,10.00,1.00,8.00,charge
$$) IS NOT NULL AS imported;
SELECT warnings FROM payment.settlement_file WHERE file_name = 'sums.csv';
SELECT code, currency, amount FROM pg_temp.posted WHERE file_name = 'sums.csv' ORDER BY code;

-- Only a header: a day without payments.
SELECT pg_temp.import('none.csv', E'balance_transaction_id,currency,gross,fee,net,reporting_category\n') IS NOT NULL AS imported;
SELECT status, line_count FROM payment.settlement_file WHERE file_name = 'none.csv';

-- More lines than one INSERT takes, in pieces that end anywhere.
SELECT pg_temp.import('many.csv', E'balance_transaction_id,currency,gross,fee,net,reporting_category,description\n'
    || pg_catalog.string_agg(pg_catalog.format('txn_many_%s,nok,1.00,0.10,0.90,charge,"%s"', i,
        pg_catalog.repeat('æ', i % 97)), E'\n') || E'\n') IS NOT NULL AS imported
FROM pg_catalog.generate_series(1, 5003) i;
SELECT line_count, pg_catalog.count(*), pg_catalog.count(DISTINCT l.id), pg_catalog.min(line_no), pg_catalog.max(line_no),
    pg_catalog.sum(pg_catalog.length(description)), pg_catalog.bool_and(external_id = 'txn_many_' || line_no - 1) AS in_order
FROM payment.settlement_file f JOIN payment.settlement_line l ON l.file_id = f.id
WHERE file_name = 'many.csv' GROUP BY line_count;
SELECT code, currency, amount FROM pg_temp.posted WHERE file_name = 'many.csv' ORDER BY code;

-- Nobody writes by hand, not even the owner.
SELECT pg_temp.attempt($$INSERT INTO payment.settlement_file (id, psp_id, format, file_name, sha256, status, imported_at, imported_by)
    SELECT payment.new_id(), psp_id, format, 'x', 'x', 'received', imported_at, 'x' FROM payment.settlement_file LIMIT 1$$);
SELECT pg_temp.attempt($$UPDATE payment.settlement_file SET sha256 = 'x'$$);
SELECT pg_temp.attempt($$UPDATE payment.settlement_file SET line_count = 0$$);
SELECT pg_temp.attempt($$UPDATE payment.settlement_file SET status = 'reconciled' WHERE psp_id = (SELECT id FROM payment.psp WHERE name = 'import_psp')$$);
SELECT pg_temp.attempt($$DELETE FROM payment.settlement_file$$);
SELECT pg_temp.attempt($$TRUNCATE payment.settlement_file$$);
SELECT pg_temp.attempt($$UPDATE payment.settlement_line SET gross = 0$$);
SELECT pg_temp.attempt($$UPDATE payment.settlement_line_default SET match = 'matched'$$);
SELECT pg_temp.attempt($$INSERT INTO payment.settlement_line SELECT * FROM payment.settlement_line$$);
SELECT pg_temp.attempt($$INSERT INTO payment.settlement_line_default SELECT * FROM payment.settlement_line$$);
SELECT pg_temp.attempt($$DELETE FROM payment.settlement_line$$);
SELECT pg_temp.attempt($$TRUNCATE payment.settlement_line_default$$);
SELECT pg_temp.attempt($$DELETE FROM payment.settlement_reference$$);
SELECT pg_temp.attempt($$UPDATE payment.settlement_reference SET line_id = payment.new_id()$$);

-- Who may.
SET ROLE payment_app;
SELECT payment.import_settlement('import_psp', 'stripe_csv', 'x', 'x');
SELECT * FROM payment.settlement;
RESET ROLE;
SET ROLE payment_finance;
SELECT payment.import_settlement('import_psp', 'stripe_csv', 'finance.csv',
    E'balance_transaction_id,currency,gross,fee,net,reporting_category\ntxn_f1,usd,1,0,1,charge\n') IS NOT NULL AS imported;
SELECT pg_catalog.count(*) FROM payment.settlement WHERE file_name = 'finance.csv';
DELETE FROM payment.settlement_line;
RESET ROLE;

SELECT * FROM payment.verify();
