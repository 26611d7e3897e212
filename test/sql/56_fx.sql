-- S63: what a PSP settles in another currency, and what it keeps, as its answers tell.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/dispatch.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;
SET test.psp = 'fx';
SELECT pg_temp.register_psp();
SELECT payment.register_seller('fx seller', 'Seller') IS NOT NULL AS registered;
SELECT payment.set_fee_schedule(0, 1000, payment.seller_id('fx seller'), c) IS NOT NULL AS set FROM unnest('{EUR,JPY,KWD}'::text[]) AS c;

CREATE FUNCTION pg_temp.buy(name text, amount text, currency text, capture text DEFAULT 'automatic') RETURNS uuid LANGUAGE plpgsql AS $$
BEGIN
    PERFORM payment.checkout('fx ' || name, 'payer', jsonb_build_array(jsonb_build_object('seller', 'fx seller',
        'amount', amount, 'currency', currency, 'reference', name)), psp => 'fx', payment_method => 'pm', capture => capture);
    PERFORM pg_temp.claim();
    RETURN pg_temp.object(name);
END
$$;
-- of a refund: its latest attempt
CREATE FUNCTION pg_temp.tell(refund uuid, outcome text, settled_amount bigint DEFAULT NULL, settled_currency text DEFAULT NULL,
    exchange_rate numeric DEFAULT NULL) RETURNS integer LANGUAGE sql AS $$
    SELECT payment.record_outcomes(ARRAY[ROW((SELECT a.id FROM payment.attempt AS a WHERE a.object_id = refund ORDER BY a.id DESC LIMIT 1),
        outcome, 200, 5, 're_' || refund, r.amount, r.currency, NULL, NULL, NULL, NULL, NULL, NULL,
        tell.settled_amount, tell.settled_currency, tell.exchange_rate, NULL, NULL)::payment.attempt_outcome])
    FROM payment.refund AS r WHERE r.id = refund
$$;
CREATE FUNCTION pg_temp.give_back(name text, amount bigint) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    refund uuid := payment.refund(pg_temp.object(name), amount, 'fx ' || name || ' ' || amount);
BEGIN
    PERFORM pg_temp.claim();
    RETURN refund;
END
$$;
CREATE FUNCTION pg_temp.book(subject uuid) RETURNS TABLE (kind text, account text, currency text, amount bigint) LANGUAGE sql AS $$
    SELECT j.kind, a.code, a.currency, e.amount FROM payment.journal AS j JOIN payment.entry AS e ON e.journal_id = j.id
        JOIN payment.account AS a ON a.id = e.account_id WHERE j.subject = book.subject ORDER BY j.id, e.leg
$$;
CREATE FUNCTION pg_temp.settled(name text) RETURNS TABLE (currency text, settled_in text, captured bigint, of bigint, settled bigint,
    rate numeric, fee bigint, exchanged bigint, exchanged_for bigint) LANGUAGE sql AS $$
    SELECT currency, settled_currency, captured_amount, settled_captured_amount, settled_amount, exchange_rate, psp_fee,
        exchanged_amount, exchanged_for FROM payment.order_record WHERE id = pg_temp.object(name)
$$;
-- all that this PSP's money is in, but for the seller's part and the platform's fee
CREATE FUNCTION pg_temp.accounts() RETURNS TABLE (currency text, account text, balance numeric) LANGUAGE sql AS $$
    SELECT a.currency, a.code, sum(s.balance) FROM payment.account AS a JOIN payment.balance_slot AS s ON s.account_id = a.id
    WHERE a.owner = pg_temp.psp() GROUP BY a.currency, a.code HAVING sum(s.balance) <> 0 ORDER BY 1, 2
$$;
-- fx_clearing and fx_gain are the platform's: what the orders here hold in them
CREATE FUNCTION pg_temp.exchanges() RETURNS TABLE (currency text, account text, balance numeric) LANGUAGE sql AS $$
    SELECT a.currency, a.code, sum(e.amount) FROM payment.journal AS j JOIN payment.entry AS e ON e.journal_id = j.id
        JOIN payment.account AS a ON a.id = e.account_id
    WHERE a.code LIKE 'fx%' AND j.subject IN (SELECT id FROM payment.order_record WHERE psp_id = pg_temp.psp()
        UNION ALL SELECT id FROM payment.refund_record WHERE psp_id = pg_temp.psp())
    GROUP BY 1, 2 HAVING sum(e.amount) <> 0 ORDER BY 1, 2
$$;

-- told at once: euros credited as dollars, the fee too
SELECT pg_temp.buy('one', '20.00', 'EUR') AS one \gset
SELECT pg_temp.record('one', 'succeeded', 'pi_1', settled_amount => 2169, settled_currency => 'USD', exchange_rate => 1.0845, psp_fee => 93);
SELECT * FROM pg_temp.book(:'one');
SELECT * FROM pg_temp.book(pg_temp.psp());
SELECT * FROM pg_temp.settled('one');
SELECT settled_currency, settled_amount, exchange_rate, psp_fee FROM payment.payment_order WHERE id = :'one';
SELECT currency, pending FROM payment.wallet WHERE seller = 'fx seller';
SELECT settled_currency, psp_fee FROM payment.unsettled_order WHERE order_id = :'one';
SELECT * FROM pg_temp.accounts();

-- told again: nothing is booked twice
SELECT pg_temp.record('one', 'succeeded', 'pi_1', settled_amount => 2169, settled_currency => 'USD', exchange_rate => 1.0845, psp_fee => 93);
SELECT pg_temp.record('one', 'succeeded', 'pi_1', settled_amount => 2200, settled_currency => 'USD', exchange_rate => 1.1, psp_fee => 95);
SELECT * FROM pg_temp.accounts();

-- the same currency: only a fee
SELECT pg_temp.buy('same', '10.00', 'EUR') AS same \gset
SELECT pg_temp.record('same', 'succeeded', 'pi_2', settled_amount => 1000, settled_currency => 'EUR', psp_fee => 40);
SELECT count(*) FROM pg_temp.book(:'same') WHERE kind <> 'capture';
SELECT * FROM pg_temp.settled('same');
SELECT * FROM pg_temp.accounts();

-- nothing said: it stays where it was captured
SELECT pg_temp.buy('silent', '5.00', 'EUR') AS silent \gset
SELECT pg_temp.record('silent', 'succeeded', 'pi_3');
SELECT * FROM pg_temp.settled('silent');
SELECT * FROM pg_temp.accounts();
-- ... until it is said, while no settlement line has told
SELECT pg_temp.record('silent', 'succeeded', 'pi_3', settled_amount => 540, settled_currency => 'USD', exchange_rate => 1.08, psp_fee => 46);
SELECT * FROM pg_temp.settled('silent');
SELECT settled_currency, psp_fee FROM payment.unsettled_order WHERE order_id = :'silent';
SELECT * FROM pg_temp.accounts();
-- another amount or another charge says nothing
SELECT pg_temp.buy('late', '6.00', 'EUR') AS late \gset
SELECT pg_temp.record('late', 'succeeded', 'pi_4');
SELECT pg_temp.record('late', 'succeeded', 'pi_5', settled_amount => 650, settled_currency => 'USD', exchange_rate => 1.08, psp_fee => 46);
SELECT * FROM pg_temp.settled('late');

-- exponents: yen have no minor units, dinars three
SELECT pg_temp.buy('yen', '2000', 'JPY') AS yen \gset
SELECT pg_temp.record('yen', 'succeeded', 'pi_7', currency => 'JPY', settled_amount => 1300, settled_currency => 'USD', exchange_rate => 0.0065, psp_fee => 68);
SELECT pg_temp.buy('dinars', '1.234', 'KWD') AS dinars \gset
SELECT pg_temp.record('dinars', 'succeeded', 'pi_8', currency => 'KWD', settled_amount => 401, settled_currency => 'USD', exchange_rate => 3.25, psp_fee => 42);
SELECT * FROM pg_temp.settled('yen');
SELECT * FROM pg_temp.settled('dinars');
SELECT * FROM pg_temp.exchanges();

-- refunds: the order's part goes out of fx_clearing, the rest is gain or loss
SELECT pg_temp.give_back('one', 500) AS r1 \gset
SELECT pg_temp.tell(:'r1', 'succeeded', 550, 'USD', 1.1);
SELECT * FROM pg_temp.book(:'r1');
SELECT settled_currency, settled_amount, exchange_rate FROM payment.refund WHERE id = :'r1';
SELECT * FROM pg_temp.settled('one');
-- told again
SELECT pg_temp.tell(:'r1', 'succeeded', 550, 'USD', 1.1);
SELECT count(*) FROM pg_temp.book(:'r1');
-- it fails after all: as much comes back as was taken
SELECT pg_temp.tell(:'r1', 'failed');
SELECT * FROM pg_temp.book(:'r1') WHERE kind = 'exchange_reversed';
SELECT * FROM pg_temp.settled('one');
-- three refunds that are no even parts leave nothing behind
SELECT pg_temp.give_back('one', 333) AS r2 \gset
SELECT pg_temp.tell(:'r2', 'succeeded', 361, 'USD', 1.0845);
SELECT pg_temp.give_back('one', 334) AS r3 \gset
SELECT pg_temp.tell(:'r3', 'succeeded', 350, 'USD', 1.05);
SELECT pg_temp.give_back('one', 1333) AS r4 \gset
SELECT pg_temp.tell(:'r4', 'succeeded', 1500, 'USD', 1.125);
SELECT * FROM pg_temp.settled('one');
SELECT a.code, a.currency, sum(e.amount) FROM payment.journal AS j JOIN payment.entry AS e ON e.journal_id = j.id
    JOIN payment.account AS a ON a.id = e.account_id WHERE j.subject IN (:'one', :'r1', :'r2', :'r3', :'r4') AND a.code IN ('fx_clearing', 'fx_gain')
    GROUP BY 1, 2 ORDER BY 1, 2;
-- one that says nothing stays in the payer's currency; one in a third currency, too
SELECT pg_temp.give_back('silent', 100) AS r5 \gset
SELECT pg_temp.tell(:'r5', 'succeeded');
SELECT count(*) FROM pg_temp.book(:'r5') WHERE kind = 'exchange';
SELECT pg_temp.tell(:'r5', 'succeeded', 90, 'GBP', 0.9);
SELECT count(*) FROM pg_temp.book(:'r5') WHERE kind = 'exchange';
-- ... until it is said
SELECT pg_temp.tell(:'r5', 'succeeded', 108, 'USD', 1.08);
SELECT kind, account, currency, amount FROM pg_temp.book(:'r5') WHERE kind = 'exchange';
-- of an order of which nothing is known: its own amount
SELECT pg_temp.give_back('late', 100) AS r6 \gset
SELECT pg_temp.tell(:'r6', 'succeeded', 108, 'USD', 1.08);
SELECT * FROM pg_temp.settled('late');

-- captures in parts: each told by itself
SELECT pg_temp.buy('parts', '10.00', 'EUR', 'manual') AS parts \gset
SELECT pg_temp.record('parts', 'authorized', 'pi_9');
SELECT payment.capture(:'parts', 'fx c1', 400, false);
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('parts', 'succeeded', 'pi_9', amount => 400, settled_amount => 432, settled_currency => 'USD', exchange_rate => 1.08, psp_fee => 12);
SELECT payment.capture(:'parts', 'fx c2', 600);
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('parts', 'succeeded', 'pi_9', amount => 600, settled_amount => 660, settled_currency => 'USD', exchange_rate => 1.1, psp_fee => 20);
SELECT * FROM pg_temp.settled('parts');
SELECT psp_fee FROM payment.unsettled_order WHERE order_id = :'parts';
-- told of the second only: nothing is known of the first, nor of what follows
SELECT pg_temp.buy('half', '10.00', 'EUR', 'manual') AS half \gset
SELECT pg_temp.record('half', 'authorized', 'pi_10');
SELECT payment.capture(:'half', 'fx c3', 400, false);
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('half', 'succeeded', 'pi_10', amount => 400);
SELECT payment.capture(:'half', 'fx c4', 600);
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('half', 'succeeded', 'pi_10', amount => 600, settled_amount => 660, settled_currency => 'USD', exchange_rate => 1.1, psp_fee => 20);
SELECT * FROM pg_temp.settled('half');

-- charged although it had failed, and given back outside: the exchange goes with the capture
SELECT pg_temp.buy('gone', '20.00', 'EUR') AS gone \gset
SELECT pg_temp.record('gone', 'declined');
SELECT pg_temp.record('gone', 'succeeded', 'pi_12', settled_amount => 2169, settled_currency => 'USD', exchange_rate => 1.0845, psp_fee => 93);
SELECT * FROM pg_temp.settled('gone');
SELECT id AS exception FROM payment.exception WHERE order_id = :'gone' AND type = 'late_success' \gset
SELECT payment.propose_resolution(:'exception', 'refunded_outside', 'Ann', 'seen'), payment.approve_resolution(:'exception', 'refunded_outside', 'Ben', 'seen too');
SELECT kind, account, currency, amount FROM pg_temp.book(:'gone') WHERE kind LIKE '%reversed';
SELECT * FROM pg_temp.settled('gone');

-- hostile: refused, and nothing is half done
CREATE FUNCTION pg_temp.refused(settled bigint, currency text, rate numeric, fee bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    why text;
BEGIN
    PERFORM pg_temp.record('hostile', 'succeeded', 'pi_11', settled_amount => settled, settled_currency => currency, exchange_rate => rate, psp_fee => fee);
    RETURN 'taken';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS why = PG_EXCEPTION_DETAIL;
    RETURN SQLSTATE || ' ' || why;
END
$$;
SELECT pg_temp.buy('hostile', '8.00', 'EUR') AS hostile \gset
SELECT pg_temp.refused(s, c, r, f) FROM (VALUES
    (1, 864, 'USD', 'NaN'::numeric, 50), (2, 864, 'USD', 'Infinity', 50), (3, 864, 'USD', '-Infinity', 50), (4, 864, 'USD', 0, 50),
    (5, 864, 'USD', -1.08, 50), (6, 864, 'USD', 1e40, 50), (7, 864, 'USD', 1e-40, 50), (8, -864, 'USD', 1.08, 50),
    (9, 864, 'USD', 1.08, -50), (10, 9223372036854775807, 'USD', 1.08, 50), (11, 864, 'USD', 1.08, 9223372036854775807),
    (12, 864, NULL, 1.08, 50), (13, 864, 'usd', 1.08, 50), (14, 864, 'ZZZ', 1.08, 50)) AS v (n, s, c, r, f) ORDER BY n;
SELECT status FROM payment.payment_order WHERE id = :'hostile';
SELECT pg_temp.refused(0, 'USD', 0.00000001, 0);
SELECT * FROM pg_temp.settled('hostile');

SELECT * FROM payment.verify();
SELECT count(*) AS unbalanced FROM (SELECT sum(debit) - sum(credit) AS difference FROM payment.trial_balance() GROUP BY currency) AS b WHERE difference <> 0;
