-- S63: what settlement lines tell of exchanges and fees, and that verify() finds what is wrong with them.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/dispatch.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;
\pset null -
SET test.psp = 'fx lines';
SELECT pg_temp.register_psp();
SELECT payment.register_seller('fx lines seller', 'Seller') IS NOT NULL AS registered;

-- one order, captured as pi_NAME; a settled amount that is null is not told
CREATE FUNCTION pg_temp.buy(name text, amount text, currency text, settled bigint DEFAULT NULL, settled_in text DEFAULT NULL,
    rate numeric DEFAULT NULL, fee bigint DEFAULT NULL) RETURNS uuid LANGUAGE plpgsql AS $$
BEGIN
    PERFORM payment.checkout('fx lines ' || name, 'payer', jsonb_build_array(jsonb_build_object('seller', 'fx lines seller',
        'amount', amount, 'currency', currency, 'reference', name)), psp => 'fx lines', payment_method => 'pm');
    PERFORM pg_temp.claim();
    PERFORM pg_temp.record(name, 'succeeded', 'pi_' || name, currency => buy.currency, settled_amount => settled,
        settled_currency => settled_in, exchange_rate => rate, psp_fee => fee);
    RETURN pg_temp.object(name);
END
$$;
CREATE FUNCTION pg_temp.give_back(name text, amount bigint, outcome text DEFAULT 'succeeded', settled bigint DEFAULT NULL,
    settled_in text DEFAULT NULL) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    refund uuid := payment.refund(pg_temp.object(name), give_back.amount, 'fx lines ' || name || ' ' || give_back.amount);
BEGIN
    PERFORM pg_temp.claim();
    PERFORM payment.record_outcomes(ARRAY[ROW((SELECT a.id FROM payment.attempt AS a WHERE a.object_id = refund ORDER BY a.id DESC LIMIT 1),
        outcome, 200, 5, 're_' || name || give_back.amount, r.amount, r.currency, NULL, NULL, NULL, NULL, NULL, NULL,
        settled, settled_in, NULL, NULL, NULL)::payment.attempt_outcome]) FROM payment.refund AS r WHERE r.id = refund;
    RETURN refund;
END
$$;
CREATE FUNCTION pg_temp.import(file_name text, content text) RETURNS boolean LANGUAGE sql AS $$
    SELECT payment.import_settlement('fx lines', 'stripe_csv', file_name, convert_to(
        E'balance_transaction_id,currency,gross,fee,net,reporting_category,payment_intent_id,source_id,customer_facing_amount,customer_facing_currency\n'
        || content, 'UTF8')) IS NOT NULL
$$;
CREATE FUNCTION pg_temp.run(OUT matched bigint, OUT excepted bigint, OUT opened bigint, OUT closed bigint) LANGUAGE sql AS $$
    SELECT lines_matched, lines_excepted, exceptions_opened, exceptions_closed FROM payment.reconcile('fx lines', '-infinity')
$$;
CREATE FUNCTION pg_temp.open() RETURNS TABLE (type text, reference text, currency text, expected bigint, actual bigint, detail text) LANGUAGE sql AS $$
    SELECT e.type, e.order_reference, e.currency, e.expected_amount, e.actual_amount, e.detail
    FROM payment.exception AS e WHERE e.psp = 'fx lines' AND e.status = 'open' ORDER BY e.id
$$;
CREATE FUNCTION pg_temp.settled(name text) RETURNS TABLE (currency text, settled_in text, captured bigint, of bigint, settled bigint,
    rate numeric, fee bigint, exchanged bigint, exchanged_for bigint) LANGUAGE sql AS $$
    SELECT currency, settled_currency, captured_amount, settled_captured_amount, settled_amount, exchange_rate, psp_fee,
        exchanged_amount, exchanged_for FROM payment.order_record WHERE id = pg_temp.object(name)
$$;
CREATE FUNCTION pg_temp.book(subject uuid) RETURNS TABLE (kind text, account text, currency text, amount bigint) LANGUAGE sql AS $$
    SELECT j.kind, a.code, a.currency, e.amount FROM payment.journal AS j JOIN payment.entry AS e ON e.journal_id = j.id
        JOIN payment.account AS a ON a.id = e.account_id WHERE j.subject = book.subject AND j.kind LIKE 'exchange%' ORDER BY j.id, e.leg
$$;
CREATE FUNCTION pg_temp.accounts() RETURNS TABLE (currency text, account text, balance numeric) LANGUAGE sql AS $$
    SELECT a.currency, a.code, sum(s.balance) FROM payment.account AS a JOIN payment.balance_slot AS s ON s.account_id = a.id
    WHERE a.owner = pg_temp.psp() GROUP BY a.currency, a.code HAVING sum(s.balance) <> 0 ORDER BY 1, 2
$$;

-- told by the answer, by nobody, and by the answer otherwise than by the line; yen and dinars, too
SELECT pg_temp.buy('told', '20.00', 'EUR', 2169, 'USD', 1.0845, 93) AS told \gset
SELECT pg_temp.buy('silent', '10.00', 'EUR') AS silent \gset
SELECT pg_temp.buy('other', '30.00', 'EUR', 3250, 'USD', 1.0833, 124) AS other \gset
SELECT pg_temp.buy('yen', '2000', 'JPY') AS yen \gset
SELECT pg_temp.buy('dinars', '1.234', 'KWD', 401, 'USD', 3.25, 42) AS dinars \gset
SELECT pg_temp.buy('same', '5.00', 'EUR', 500, 'EUR', NULL, 32) AS same \gset
SELECT * FROM pg_temp.accounts();
SELECT pg_temp.import('night 1.csv', $$txn_1,usd,21.69,0.93,20.76,charge,pi_told,ch_1,20.00,eur
txn_2,usd,10.85,0.61,10.24,charge,pi_silent,ch_2,10.00,eur
txn_3,usd,32.53,1.24,31.29,charge,pi_other,ch_3,30.00,eur
txn_4,usd,13.00,0.68,12.32,charge,pi_yen,ch_4,2000,jpy
txn_5,usd,4.01,0.42,3.59,charge,pi_dinars,ch_5,1.234,kwd
txn_6,eur,5.00,0.32,4.68,charge,pi_same,ch_6,5.00,eur
$$);
-- the fees that were told are the lines' already
SELECT * FROM pg_temp.accounts();
SELECT * FROM payment.verify();
SELECT * FROM pg_temp.run();
SELECT * FROM pg_temp.open();
-- nothing is left to be settled, in no currency
SELECT * FROM pg_temp.accounts();
SELECT * FROM pg_temp.settled('told');
SELECT * FROM pg_temp.settled('silent');
SELECT * FROM pg_temp.book(:'silent');
SELECT * FROM pg_temp.settled('other');
SELECT * FROM pg_temp.book(:'other');
SELECT * FROM pg_temp.settled('yen');
SELECT * FROM payment.verify();
-- what is told after the line is not booked
SELECT pg_temp.record('silent', 'succeeded', 'pi_silent', settled_amount => 1080, settled_currency => 'USD', exchange_rate => 1.08, psp_fee => 60);
SELECT * FROM pg_temp.settled('silent');
SELECT * FROM pg_temp.run();
SELECT * FROM pg_temp.accounts();

-- nor a fee, in the same currency
SELECT pg_temp.buy('plain', '9.00', 'EUR') AS plain \gset
SELECT pg_temp.import('night 1b.csv', $$txn_7,eur,9.00,0.38,8.62,charge,pi_plain,ch_7,9.00,eur
$$);
SELECT * FROM pg_temp.run();
SELECT pg_temp.record('plain', 'succeeded', 'pi_plain', settled_amount => 900, settled_currency => 'EUR', psp_fee => 38);
SELECT * FROM pg_temp.settled('plain');
SELECT * FROM pg_temp.accounts() WHERE currency = 'EUR';

-- refunds: told, silent, otherwise; one that fails, and comes back by another rate
SELECT pg_temp.give_back('told', 500, settled => 550, settled_in => 'USD') AS r1 \gset
SELECT pg_temp.give_back('silent', 1000) AS r2 \gset
SELECT pg_temp.give_back('other', 1000, settled => 1100, settled_in => 'USD') AS r3 \gset
SELECT pg_temp.give_back('yen', 1000) AS r4 \gset
SELECT pg_temp.give_back('dinars', 1000, 'pending') AS r5 \gset
SELECT pg_temp.import('night 2.csv', $$txn_11,usd,-5.50,0,-5.50,refund,pi_told,re_told500,-5.00,eur
txn_12,usd,-11.00,0,-11.00,refund,pi_silent,re_silent1000,10.00,eur
txn_13,usd,-11.05,0,-11.05,refund,pi_other,re_other1000,-10.00,eur
txn_14,usd,-6.40,0,-6.40,refund,pi_yen,re_yen1000,-1000,jpy
txn_15,usd,-3.26,0,-3.26,refund,pi_dinars,re_dinars1000,-1.000,kwd
$$);
SELECT * FROM pg_temp.run();
SELECT * FROM pg_temp.open();
SELECT * FROM pg_temp.accounts();
SELECT * FROM pg_temp.book(:'r2');
SELECT * FROM pg_temp.settled('silent');
SELECT * FROM pg_temp.book(:'r3');
SELECT * FROM pg_temp.book(:'r4');
-- the one that was pending fails: what the line took comes back, of which the next one says 4 cents less
SELECT payment.record_outcomes(ARRAY[ROW((SELECT a.id FROM payment.attempt AS a WHERE a.object_id = :'r5' ORDER BY a.id DESC LIMIT 1),
    'failed', 200, 5, 're_dinars1000', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome]);
SELECT * FROM pg_temp.book(:'r5');
SELECT * FROM pg_temp.settled('dinars');
SELECT pg_temp.import('night 3.csv', $$txn_21,usd,3.22,0,3.22,refund_failure,pi_dinars,re_dinars1000,1.000,kwd
$$);
SELECT * FROM pg_temp.run();
SELECT * FROM pg_temp.book(:'r5') OFFSET 8;
SELECT * FROM pg_temp.accounts();
SELECT * FROM payment.verify();

-- what does not agree: the payer's amount, the payer's currency, the rate, the settlement currency, the fee
SELECT pg_temp.buy('e1', '20.00', 'EUR', 2169, 'USD', 1.0845, 93) AS e1 \gset
SELECT pg_temp.buy('e2', '20.00', 'EUR', 2169, 'USD', 1.0845, 93) AS e2 \gset
SELECT pg_temp.buy('e3', '20.00', 'EUR', 2169, 'USD', 1.0845, 93) AS e3 \gset
SELECT pg_temp.buy('e4', '20.00', 'EUR', 2169, 'USD', 1.0845, 93) AS e4 \gset
SELECT pg_temp.buy('e5', '20.00', 'EUR', 2169, 'USD', 1.0845, 93) AS e5 \gset
SELECT pg_temp.buy('e6', '20.00', 'EUR', 2000, 'EUR', NULL, 60) AS e6 \gset
SELECT pg_temp.import('night 4.csv', $$txn_31,usd,21.69,0.93,20.76,charge,pi_e1,ch_31,20.01,eur
txn_32,usd,21.69,0.93,20.76,charge,pi_e2,ch_32,20.00,chf
txn_33,usd,20.00,0.93,19.07,charge,pi_e3,ch_33,20.00,eur
txn_34,gbp,17.00,0.70,16.30,charge,pi_e4,ch_34,20.00,eur
txn_35,usd,21.69,0.95,20.74,charge,pi_e5,ch_35,20.00,eur
txn_36,usd,21.69,0.95,20.74,charge,pi_e6,ch_36,20.00,eur
$$);
SELECT * FROM pg_temp.run();
SELECT * FROM pg_temp.open();
SELECT name, exchanged, exchanged_for, settled FROM unnest('{e1,e2,e3,e4,e5,e6}'::text[]) AS n (name), pg_temp.settled(n.name);
SELECT * FROM pg_temp.accounts();
SELECT * FROM payment.verify();

-- a tolerance of more
SELECT pg_temp.buy('far', '20.00', 'EUR', 2169, 'USD', 1.0845, 93) AS far \gset
SET payment.exchange_tolerance_basis_points = 1000;
SELECT pg_temp.import('night 5.csv', $$txn_41,usd,20.00,0.93,19.07,charge,pi_far,ch_41,20.00,eur
$$);
SELECT * FROM pg_temp.run();
SELECT * FROM pg_temp.book(:'far') OFFSET 4;
RESET payment.exchange_tolerance_basis_points;

-- charged although it had failed, and given back outside: charge and refund cancel each other in the line's currency
SELECT payment.checkout('fx lines gone', 'payer', '[{"seller": "fx lines seller", "amount": "20.00", "currency": "EUR", "reference": "gone"}]',
    psp => 'fx lines', payment_method => 'pm') IS NOT NULL AS made;
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('gone', 'declined'), pg_temp.record('gone', 'succeeded', 'pi_gone');
SELECT id AS exception FROM payment.exception WHERE order_id = pg_temp.object('gone') AND type = 'late_success' \gset
SELECT payment.propose_resolution(:'exception', 'refunded_outside', 'Ann', 'seen'), payment.approve_resolution(:'exception', 'refunded_outside', 'Ben', 'seen too');
CREATE TEMP TABLE before AS SELECT * FROM pg_temp.accounts();
SELECT pg_temp.import('night 6.csv', $$txn_51,usd,21.69,0,21.69,charge,pi_gone,ch_51,20.00,eur
txn_52,usd,-21.69,0,-21.69,refund,pi_gone,re_gone,-20.00,eur
$$);
SELECT * FROM pg_temp.run();
SELECT count(*) FROM pg_temp.book(pg_temp.object('gone'));
SELECT * FROM pg_temp.accounts() EXCEPT SELECT * FROM before;

-- hostile lines
CREATE FUNCTION pg_temp.refused(amount text, currency text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    why text;
BEGIN
    PERFORM pg_temp.import('hostile ' || amount || currency, format(E'txn_h,usd,1.00,0,1.00,charge,pi_h,ch_h,%s,%s\n', amount, currency));
    RETURN 'taken';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS why = PG_EXCEPTION_DETAIL;
    RETURN SQLSTATE || ' ' || why;
END
$$;
SELECT pg_temp.refused('1.00', 'zzz'), pg_temp.refused('NaN', 'eur'), pg_temp.refused('99999999999999999999', 'eur'),
    pg_temp.refused('1.001', 'eur'), pg_temp.refused('1.00', 'euro');

-- planted by hand, behind the guards: verify() finds each
BEGIN;
ALTER TABLE payment.order_record DISABLE TRIGGER ALL;
UPDATE payment.order_record SET exchanged_amount = exchanged_amount + 1 WHERE id = :'told';
SELECT check_name, detail, expected, actual FROM payment.verify();
ROLLBACK;
BEGIN;
ALTER TABLE payment.order_record DISABLE TRIGGER ALL;
UPDATE payment.order_record SET exchanged_for = exchanged_for + 1, settled_amount = settled_amount + 2 WHERE id = :'told';
SELECT check_name, detail, expected, actual FROM payment.verify();
ROLLBACK;
BEGIN;
ALTER TABLE payment.order_record DISABLE TRIGGER ALL;
UPDATE payment.order_record SET settled_currency = 'CHF' WHERE id = :'silent';
SELECT check_name, detail, expected, actual FROM payment.verify() ORDER BY 2;
ROLLBACK;
BEGIN;
ALTER TABLE payment.refund_record DISABLE TRIGGER ALL;
UPDATE payment.refund_record SET exchanged_for = exchanged_for - 3, settled_amount = settled_amount + 4 WHERE id = :'r2';
SELECT check_name, detail, expected, actual FROM payment.verify();
ROLLBACK;
BEGIN;
ALTER TABLE payment.order_record DISABLE TRIGGER ALL;
UPDATE payment.order_record SET psp_fee = psp_fee + 5 WHERE id = :'told';
SELECT check_name, detail FROM payment.verify();
ROLLBACK;
SELECT pg_temp.buy('left', '20.00', 'EUR', 2169, 'USD', 1.0845, 93) AS "left" \gset
BEGIN;
ALTER TABLE payment.unsettled_order DISABLE TRIGGER ALL;
UPDATE payment.unsettled_order SET psp_fee = NULL WHERE order_id = :'left';
SELECT check_name, detail FROM payment.verify();
ROLLBACK;
SELECT * FROM payment.verify();
SELECT count(*) AS unbalanced FROM (SELECT sum(debit) - sum(credit) AS difference FROM payment.trial_balance() GROUP BY currency) AS b WHERE difference <> 0;
