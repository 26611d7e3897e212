--
-- S52, S73: settlement files that are broken, or meant to break something.
-- Each is refused with the line and the column, and leaves nothing.
--
\set SHOW_CONTEXT never

SELECT payment.register_psp('hostile_psp', 'stripe', 'http://127.0.0.1:1', 'secret') IS NOT NULL AS registered;

CREATE FUNCTION pg_temp.import(content bytea) RETURNS text
    LANGUAGE plpgsql AS $$
DECLARE
    detail text;
    hint text;
BEGIN
    PERFORM payment.import_settlement('hostile_psp', 'stripe_csv', 'hostile.csv', content);
    RETURN 'imported';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN pg_catalog.concat_ws(' | ', SQLSTATE || ' ' || SQLERRM, detail, hint);
END
$$;

-- the rows after a good header and one good line
CREATE FUNCTION pg_temp.rows(content text) RETURNS text
    LANGUAGE sql AS $$
    SELECT pg_temp.import(pg_catalog.convert_to(
        E'balance_transaction_id,currency,gross,fee,net,reporting_category,description,created_utc\n'
        'txn_h,usd,1,0,1,charge,,\n' || content, 'UTF8'))
$$;

-- arguments
SELECT payment.import_settlement(NULL, 'stripe_csv', 'x', 'x');
SELECT payment.import_settlement('hostile_psp', NULL, 'x', 'x');
SELECT payment.import_settlement('hostile_psp', 'stripe_csv', NULL, 'x');
SELECT payment.import_settlement('hostile_psp', 'stripe_csv', 'x', NULL);
SELECT payment.import_settlement('hostile_psp', 'mt940', 'x', 'x');
SELECT payment.import_settlement('nobody', 'stripe_csv', 'x', 'x');
SELECT payment.import_settlement('hostile_psp', 'stripe_csv', '', 'x');
SELECT payment.import_settlement('hostile_psp', 'stripe_csv', pg_catalog.repeat('x', 256), 'x');
SELECT payment.import_settlement('hostile_psp', 'stripe_csv', '4242 4242 4242 4242', 'x');
SET payment.max_settlement_bytes = '1kB';
SELECT payment.import_settlement('hostile_psp', 'stripe_csv', 'x', pg_catalog.convert_to(pg_catalog.repeat('x', 1025), 'UTF8'));
RESET payment.max_settlement_bytes;

\pset format unaligned
\pset tuples_only on
-- no file at all
SELECT pg_temp.import('');
SELECT pg_temp.import('\xefbbbf');
SELECT pg_temp.import(E'\n\n  \n');
SELECT pg_temp.import('\x504b0304140000');
SELECT pg_temp.import('\xfffe62006100');
SELECT pg_temp.import('<html><body>Log in</body></html>');

-- headers
SELECT pg_temp.import(E'balance_transaction_id,currency,gross,fee,reporting_category\n');
SELECT pg_temp.import(E'balance_transaction_id,currency,gross,fee,net,reporting_category,Fee\n');
SELECT pg_temp.import(E'balance_transaction_id;currency;gross;fee;net;reporting_category\n');
SELECT pg_temp.import(pg_catalog.convert_to(pg_catalog.repeat(',', 2000), 'UTF8'));
SELECT pg_temp.import(pg_catalog.convert_to(pg_catalog.repeat('x', 100000), 'UTF8'));

-- S52: truncated
SELECT pg_temp.rows('txn_1,usd,1,0');
SELECT pg_temp.rows(E'txn_1,usd,1,0,1,charge,"not\nended');
SELECT pg_temp.rows(E'txn_1,usd,1,0\ntxn_2,usd,1,0,1,charge,,\n');
-- ragged, misquoted
SELECT pg_temp.rows(E'txn_1,usd,1,0,1,charge,,,\n');
SELECT pg_temp.rows(E'txn_1,usd,1,0,1,charge,a"b,\n');
SELECT pg_temp.rows(E'txn_1,usd,1,0,1,charge,"a"b,\n');
-- numbers: decimal comma, grouping, exponent, sign, too many decimals, too large, hexadecimal
SELECT pg_temp.rows(E'txn_1,usd,"12,34",0,1,charge,,\n');
SELECT pg_temp.rows(E'txn_1,usd,"1,234.50",0,1,charge,,\n');
SELECT pg_temp.rows(E'txn_1,usd,1e3,0,1,charge,,\n');
SELECT pg_temp.rows(E'txn_1,usd,+1,0,1,charge,,\n');
SELECT pg_temp.rows(E'txn_1,usd,NaN,0,1,charge,,\n');
SELECT pg_temp.rows(E'txn_1,usd,0x10,0,1,charge,,\n');
SELECT pg_temp.rows(E'txn_1,usd,1,0.005,1,charge,,\n');
SELECT pg_temp.rows(E'txn_1,jpy,1,0,0.5,charge,,\n');
SELECT pg_temp.rows(E'txn_1,usd,92233720368547758.08,0,1,charge,,\n');
SELECT pg_temp.rows(E'txn_1,usd,,0,1,charge,,\n');
SELECT pg_temp.rows(E'txn_1,usd,-,0,1,charge,,\n');
SELECT pg_temp.rows(E'txn_1,usd,100000000000000.01,0,1,charge,,\n');
SELECT pg_temp.rows(E'txn_1,usd,0,0,-100000000000000.01,charge,,\n');
-- each fits, the sum does not
SELECT pg_temp.rows(pg_catalog.string_agg('txn_s' || i || E',usd,100000000000000,0,100000000000000,charge,,\n', ''))
FROM pg_catalog.generate_series(1, 923) i;
-- currencies, times, missing values
SELECT pg_temp.rows(E'txn_1,usx,1,0,1,charge,,\n');
SELECT pg_temp.rows(E'txn_1,dollars,1,0,1,charge,,\n');
SELECT pg_temp.rows(E'txn_1,xxx,1,0,1,charge,,\n');
SELECT pg_temp.rows(E'txn_1,usd,1,0,1,charge,,31.01.2025\n');
SELECT pg_temp.rows(E'txn_1,usd,1,0,1,charge,,2025-02-29 00:00:00\n');
SELECT pg_temp.rows(E'txn_1,usd,1,0,1,charge,,2025-02-28 24:00:00\n');
SELECT pg_temp.rows(E',usd,1,0,1,charge,,\n');
SELECT pg_temp.rows(E'txn_1,usd,1,0,1,,,\n');
-- too long
SELECT pg_temp.rows(pg_catalog.repeat('x', 256) || E',usd,1,0,1,charge,,\n');
SELECT pg_temp.rows(E'txn_1,usd,1,0,1,' || pg_catalog.repeat('x', 64) || E',,\n');
SELECT pg_temp.rows(E'txn_1,usd,1,0,1,charge,' || pg_catalog.repeat('x', 65537) || E',\n');
SELECT pg_temp.rows(E'txn_1,usd,1,0,1,charge,"' || pg_catalog.repeat(E'x\n', 200000) || E'",\n');
-- bytes
SELECT pg_temp.import(pg_catalog.convert_to(E'balance_transaction_id,currency,gross,fee,net,reporting_category\ntxn_', 'UTF8')
    || '\x00'::bytea || pg_catalog.convert_to(E'1,usd,1,0,1,charge\n', 'UTF8'));
SELECT pg_temp.import(pg_catalog.convert_to(E'balance_transaction_id,currency,gross,fee,net,reporting_category,description\ntxn_1,usd,1,0,1,charge,Caf', 'UTF8')
    || '\xe9'::bytea || pg_catalog.convert_to(E'\n', 'UTF8'));
-- the line number counts physical lines
SELECT pg_temp.rows(E'txn_1,usd,1,0,1,charge,"a\r\nb\nc",\r\n\r\ntxn_2,usd,x,0,1,charge,,\n');
-- S74: a card number is no reference; in free text it is left away
SELECT pg_temp.rows(E'4242424242424242,usd,1,0,1,charge,,\n');

SELECT pg_catalog.count(*) AS files FROM payment.settlement_file f JOIN payment.psp p ON p.id = f.psp_id WHERE name = 'hostile_psp';
SELECT pg_catalog.count(*) AS lines FROM payment.settlement_line l JOIN payment.psp p ON p.id = l.psp_id WHERE name = 'hostile_psp';
SELECT pg_catalog.count(*) AS names FROM payment.settlement_reference l JOIN payment.psp p ON p.id = l.psp_id WHERE name = 'hostile_psp';

-- odd, but good
SELECT pg_temp.rows(E'txn_1,usd,1,0,1,charge,paid by 4242 4242 4242 4242,\n'
    'txn_2,usd,1,0,1,"a ""new"" kind",''; DROP TABLE payment.psp; --,\n'
    'txn_3,usd,-0.00,-0,0,charge,' || pg_catalog.repeat('x', 65536) || E',\n');
SELECT line_no, external_id, category, match, gross, pg_catalog.length(description) FROM payment.settlement_line l
    JOIN payment.psp p ON p.id = l.psp_id WHERE name = 'hostile_psp' ORDER BY l.id;
SELECT pg_catalog.jsonb_array_elements(warnings) AS warning FROM payment.settlement WHERE psp = 'hostile_psp';
-- as many kinds of warnings as a file likes to cause
SELECT pg_temp.import(pg_catalog.convert_to(E'balance_transaction_id,currency,gross,fee,net,reporting_category\n'
    || pg_catalog.string_agg(pg_catalog.format('txn_w%s,usd,0,0,0,kind %s', i, i), E'\n') || E'\n', 'UTF8'))
FROM pg_catalog.generate_series(1, 200) i;
SELECT pg_catalog.jsonb_array_length(warnings) AS warnings, warnings -> -1 AS last FROM payment.settlement_file
ORDER BY id DESC LIMIT 1;
