-- Sending payouts and recording what came of them.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/dispatch.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;
SET test.psp = 'dispatch payout';
SELECT pg_temp.register_psp();
SELECT count(payment.register_seller('dispatch payee', 'Payee')) AS registered;

-- the seller has earned 500.00
SELECT count(payment.checkout('dispatch payout income', 'payer',
    '[{"seller": "dispatch payee", "amount": "500.00", "currency": "EUR", "reference": "income"}]',
    psp => 'dispatch payout', payment_method => 'pm_card_visa'));
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('income', 'succeeded', 'payout_income');
SELECT count(payment.release(pg_temp.object('income')));

CREATE FUNCTION pg_temp.pay_out(name text, amount bigint) RETURNS void LANGUAGE sql AS $$
    SELECT payment.payout(payment.seller_id('dispatch payee'), amount, 'EUR', name, 'dispatch payout ' || name,
        psp => 'dispatch payout')
$$;
CREATE FUNCTION pg_temp.balances() RETURNS TABLE (account text, balance numeric) LANGUAGE sql AS $$
    SELECT a.code, sum(e.amount)
    FROM payment.entry AS e JOIN payment.account AS a ON a.id = e.account_id
    WHERE a.owner = (SELECT id FROM payment.seller WHERE reference = 'dispatch payee')
    GROUP BY 1 ORDER BY 1
$$;
SELECT * FROM pg_temp.balances();

-- paid at once: every status is in the history
SELECT pg_temp.pay_out('bank 1', 1000);
SELECT name, operation, step, key, amount FROM pg_temp.claim();
SELECT * FROM pg_temp.show('bank 1');
SELECT pg_temp.record('bank 1', 'succeeded', 'payout_1');
SELECT * FROM pg_temp.show('bank 1');
SELECT pg_temp.history('bank 1');
SELECT * FROM pg_temp.journals('bank 1');
SELECT pg_temp.record('bank 1', 'succeeded', 'payout_1');
SELECT count(*) FROM pg_temp.journals('bank 1');

-- in transit, then paid
SELECT pg_temp.pay_out('bank 2', 2000);
SELECT name, step FROM pg_temp.claim();
SELECT pg_temp.record('bank 2', 'pending', 'payout_2');
SELECT * FROM pg_temp.show('bank 2');
SELECT pg_temp.skip_time();
SELECT name, step, psp_reference FROM pg_temp.claim();
SELECT pg_temp.record('bank 2', 'pending', 'payout_2');
SELECT pg_temp.skip_time();
SELECT name, step FROM pg_temp.claim();
SELECT pg_temp.record('bank 2', 'succeeded', 'payout_2');
SELECT * FROM pg_temp.show('bank 2');
SELECT pg_temp.history('bank 2');
-- that it failed is no longer believed
SELECT pg_temp.record('bank 2', 'failed', 'payout_2');
SELECT status FROM pg_temp.show('bank 2');

-- refused: the seller has the money back
SELECT pg_temp.pay_out('bank 3', 3000), pg_temp.pay_out('bank 4', 4000);
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('bank 3', 'declined', error_code => 'no_account'), pg_temp.record('bank 4', 'failed', error_code => 'account_closed');
SELECT * FROM pg_temp.show('bank 3');
SELECT * FROM pg_temp.show('bank 4');
SELECT * FROM pg_temp.journals('bank 4');
SELECT * FROM pg_temp.balances();
-- ... once
SELECT pg_temp.record('bank 4', 'failed', error_code => 'account_closed');
SELECT count(*) FROM pg_temp.journals('bank 4');
-- and if it was paid after all, people have to see it before anything is posted
SELECT pg_temp.record('bank 4', 'succeeded', 'payout_4');
SELECT * FROM pg_temp.show('bank 4');
SELECT type, status, expected, actual, detail FROM pg_temp.exceptions('bank 4');
SELECT count(*) FROM pg_temp.journals('bank 4');

-- S44: no telling: it is looked up, never sent again while it may exist
SELECT pg_temp.pay_out('bank 5', 5000);
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('bank 5', 'unknown', error_code => 'timeout');
SELECT * FROM pg_temp.show('bank 5');
SELECT pg_temp.skip_time();
SELECT name, step, key FROM pg_temp.claim();
-- and the dispatcher dies
SELECT pg_temp.skip_time();
SELECT name, step, key FROM pg_temp.claim();
SELECT * FROM pg_temp.balances();
-- it never arrived: once more, under the same key
SELECT pg_temp.record('bank 5', 'not_found');
SELECT pg_temp.skip_time();
SELECT name, step, key FROM pg_temp.claim();
-- the dispatcher dies while it sends
SELECT pg_temp.skip_time();
SELECT name, step, key FROM pg_temp.claim();
SELECT pg_temp.record('bank 5', 'succeeded', 'payout_5');
SELECT pg_temp.history('bank 5');
SELECT * FROM pg_temp.attempts('bank 5');

-- dispatcher dies while it sends the first time
SELECT pg_temp.pay_out('bank 6', 6000);
SELECT name, step FROM pg_temp.claim();
SELECT pg_temp.skip_time();
SELECT name, step FROM pg_temp.claim();
SELECT pg_temp.history('bank 6');
SELECT pg_temp.record('bank 6', 'failed', error_code => 'account_closed');
SELECT * FROM pg_temp.balances();

-- another amount: nothing is posted, people decide
SELECT pg_temp.pay_out('bank 7', 7000);
SELECT name, step FROM pg_temp.claim();
SELECT pg_temp.record('bank 7', 'succeeded', 'payout_7', amount => 7001);
SELECT * FROM pg_temp.show('bank 7');
SELECT type, expected, actual, detail FROM pg_temp.exceptions('bank 7');
SELECT last_error FROM payment.dead_letter WHERE psp = 'dispatch payout';
SELECT payment.retry_dead_letter(task_id) FROM payment.dead_letter WHERE psp = 'dispatch payout';
SELECT name, step FROM pg_temp.claim();
SELECT pg_temp.record('bank 7', 'succeeded', 'payout_7');
SELECT * FROM pg_temp.show('bank 7');
SELECT * FROM pg_temp.balances();

-- a reference of another payout
SELECT pg_temp.pay_out('bank 8', 8000);
SELECT name, step FROM pg_temp.claim();
SELECT pg_temp.record('bank 8', 'pending', 'payout_7');
SELECT * FROM pg_temp.show('bank 8');
SELECT type FROM pg_temp.exceptions('bank 8');
SELECT payment.retry_dead_letter(task_id) FROM payment.dead_letter WHERE psp = 'dispatch payout';
SELECT name, step, psp_reference FROM pg_temp.claim();
SELECT pg_temp.record('bank 8', 'succeeded', 'payout_8');

-- one batch of both kinds
SELECT count(payment.checkout('dispatch payout both', 'payer',
    '[{"seller": "dispatch payee", "amount": "5.00", "currency": "EUR", "reference": "both"}]',
    psp => 'dispatch payout', payment_method => 'pm_card_visa'));
SELECT pg_temp.pay_out('bank 9', 9000);
SELECT name, operation, step FROM pg_temp.claim() ORDER BY name;
SELECT payment.record_outcomes(array_agg(ROW(a.id, 'succeeded', 200, 9, 'payout_' || a.operation,
        CASE a.operation WHEN 'pay' THEN 500 ELSE 9000 END, 'EUR', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome))
    FROM payment.attempt AS a WHERE a.object_id IN (pg_temp.object('both'), pg_temp.object('bank 9'));
SELECT name, status FROM pg_temp.show('b%') WHERE name IN ('both', 'bank 9');
SELECT * FROM pg_temp.balances();

SELECT count(*) FROM payment.verify();
SELECT count(*) FROM payment.task WHERE psp_id = pg_temp.psp();
