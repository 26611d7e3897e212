-- What a PSP says against all expectation is neither lost nor counted twice.
\getenv inputdir PG_ABS_SRCDIR
\set dispatch :inputdir '/lib/dispatch.sql'
\set webhook :inputdir '/lib/webhook.sql'
SET client_min_messages = warning;
\set ECHO none
\i :dispatch
\i :webhook
\set ECHO all
RESET client_min_messages;
SET test.psp = 'findings';
SELECT pg_temp.register_psp();
SELECT count(payment.set_fee_schedule(0, 1000, payment.register_seller('findings seller ' || n, 'Seller ' || n), 'EUR')) AS registered
FROM generate_series(1, 2) AS n;
CREATE OR REPLACE FUNCTION pg_temp.pay(name text, VARIADIC amounts text[]) RETURNS void LANGUAGE sql AS $$
    SELECT payment.checkout('findings ' || name, 'payer', (SELECT jsonb_agg(jsonb_build_object('seller', 'findings seller ' || n,
            'amount', a, 'currency', 'EUR', 'reference', name || '/' || n) ORDER BY n)
        FROM unnest(amounts) WITH ORDINALITY AS u (a, n)), psp => current_setting('test.psp'), payment_method => 'pm')
$$;
CREATE FUNCTION pg_temp.exception_of(name text, of_type text) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT id FROM payment.exception_record WHERE order_id = pg_temp.object(name) AND type = of_type AND line_id IS NULL
$$;
CREATE FUNCTION pg_temp.decide(name text, of_type text, resolution text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM payment.propose_resolution(pg_temp.exception_of(name, of_type), resolution, 'Ann', 'seen');
    RETURN payment.approve_resolution(pg_temp.exception_of(name, of_type), resolution, 'Ben', 'seen too');
END
$$;

-- S18 money that is reserved at a PSP which the order has left: people free it, and nothing is posted
SELECT count(payment.register_psp('findings ' || p, 'none', 'http://127.0.0.1:1', 'none')) AS psps FROM unnest('{a,b}'::text[]) AS p;
SELECT count(payment.set_routing_rule('findings ' || p, 'findings ' || p, n::integer, payment_method => 'findings_*')::text) AS rules
FROM unnest('{a,b}'::text[]) WITH ORDINALITY AS u (p, n);
SELECT (payment.checkout('findings left', 'payer', '[{"seller": "findings seller 1", "amount": "10.00", "currency": "EUR", "reference": "left"}]',
    payment_methods => '{"findings a": "findings_a", "findings b": "findings_b"}')).order_ids[1] AS o \gset
CREATE FUNCTION pg_temp.answer(o uuid, psp text, outcome text, reference text, class text DEFAULT NULL) RETURNS integer LANGUAGE sql AS $$
    SELECT payment.record_outcomes(ARRAY[ROW((SELECT a.id FROM payment.attempt AS a JOIN payment.psp AS p ON p.id = a.psp_id
        WHERE a.object_id = o AND p.name = psp ORDER BY a.id DESC LIMIT 1), outcome, 200, 5, reference, 1000, 'EUR', NULL, NULL, NULL, class,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome])
$$;
SELECT count(*) FROM payment.psp AS p, payment.claim_tasks(p.id, 10, 60000) WHERE p.name = 'findings a';
SELECT pg_temp.answer(:'o', 'findings a', 'declined', 'a_1', 'soft');
SELECT count(*) FROM payment.psp AS p, payment.claim_tasks(p.id, 10, 60000) WHERE p.name = 'findings b';
SELECT pg_temp.answer(:'o', 'findings a', 'authorized', 'a_1'), pg_temp.answer(:'o', 'findings a', 'authorized', 'a_1');
SELECT type, status, expected_amount, actual_amount, detail FROM payment.exception_record WHERE order_id = :'o';
SELECT pg_temp.answer(:'o', 'findings b', 'succeeded', 'b_1');
SELECT status, captured_amount, psp, (SELECT count(*) FROM payment.journal WHERE subject = :'o') AS journals FROM payment.payment_order WHERE id = :'o';

-- an amount that comes back is the latest word all the same
SELECT pg_temp.pay('words', '10.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('words/1', 'succeeded', 'pi_words', n) FROM unnest('{900,800,900,900}'::bigint[]) AS n;
SELECT status, actual, detail FROM pg_temp.exceptions('words/1');
SELECT pg_temp.decide('words/1', 'amount', 'captured');
SELECT name, status, captured FROM pg_temp.show('words/1');
SELECT pg_temp.record('words/1', 'succeeded', 'pi_words', 900);
SELECT status FROM pg_temp.exceptions('words/1');
-- ... and none is too many: what fills the sentences still counts, and is told
SELECT pg_temp.pay('many', '10.00');
SELECT count(*) FROM pg_temp.claim();
SELECT count(pg_temp.record('many/1', 'succeeded', 'pi_many', n)) FROM generate_series(1, 100) AS n;
SELECT status, actual, length(detail) < 4300 AS bounded, right(detail, 80) FROM pg_temp.exceptions('many/1');
-- ... of charges that add up nobody knows the sum then
SELECT pg_temp.pay('charges', '10.00');
SELECT count(*) FROM pg_temp.claim();
SELECT count(pg_temp.record('charges/1', 'succeeded', 'pi_charge_' || n)) FROM generate_series(1, 4) AS n;
SELECT type, actual FROM pg_temp.exceptions('charges/1');
SELECT count(pg_temp.record('charges/1', 'succeeded', 'pi_charge_' || n)) FROM generate_series(1, 100) AS n;
SELECT type, status, actual, length(detail) < 4300 AS bounded, right(detail, 60) FROM pg_temp.exceptions('charges/1');

-- what is given back of a charge is neither what was written off nor what was refunded
SELECT pg_temp.pay('less', '100.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('less/1', 'declined'), pg_temp.record('less/1', 'succeeded', 'pi_less');
SELECT pg_temp.record('less/1', 'succeeded', 'pi_less', 9700);
SELECT pg_temp.decide('less/1', 'amount', 'written_off');
SELECT payment.refund(pg_temp.object('less/1'), 2000, 'findings refund less') IS NOT NULL AS refunded;
SELECT count(*) FROM pg_temp.claim();
SELECT payment.record_outcomes(ARRAY[ROW(a.id, 'succeeded', 200, 5, 're_less', 2000, 'EUR', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL)::payment.attempt_outcome]) FROM payment.refund AS r JOIN payment.attempt AS a ON a.object_id = r.id
WHERE r.order_id = pg_temp.object('less/1');
SELECT pg_temp.decide('less/1', 'late_success', 'refunded_outside');
SELECT kind, account, sum(amount) FROM pg_temp.journals('less/1') GROUP BY 1, 2 ORDER BY min(CASE kind WHEN 'capture' THEN 1 WHEN 'written_off' THEN 2 ELSE 3 END), 2;
SELECT a.code, coalesce(sum(b.balance), 0) AS balance FROM payment.account AS a LEFT JOIN payment.balance_slot AS b ON b.account_id = a.id
WHERE a.owner IN (payment.seller_id('findings seller 1')) AND a.code LIKE 'seller%' GROUP BY 1 ORDER BY 1;
-- ... and where more than the captures is booked, people say what is right
SELECT pg_temp.pay('kept', '100.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('kept/1', 'declined'), pg_temp.record('kept/1', 'succeeded', 'pi_kept');
SELECT pg_temp.record('kept/1', 'succeeded', 'pi_kept', 10300);
SELECT pg_temp.decide('kept/1', 'amount', 'kept');
SELECT pg_temp.sqlstate_of($$SELECT pg_temp.decide('kept/1', 'late_success', 'refunded_outside')$$);

-- S18 an order that was sent by a primary that is gone, long ago: its PSP tells of it, and has forgotten its key
SET test.psp = 'findings lost';
SET test.webhook_secret = 'whsec_findings';
SELECT pg_temp.write_secret('findings', 'whsec_findings');
SELECT count(payment.register_psp('findings lost', 'stripe', 'http://127.0.0.1:1', 'none', '{"key_lifetime_s": 1, "backoff_base_ms": 20000}',
    webhook_secret_names => '{findings}')) AS registered;
SELECT pg_temp.pay('lost', '10.00'), pg_temp.pay('never', '10.00');
SELECT http_status FROM pg_temp.receive(pg_temp.event('evt_lost', 'payment_intent.succeeded', pg_temp.intent('pi_lost', 'lost/1', 'succeeded', 1000)));
SELECT pg_sleep(1.1);
SELECT name, step FROM pg_temp.claim();
SELECT name, status, queue FROM pg_temp.show('%');
SELECT last_error FROM payment.dead_letter WHERE object_id = pg_temp.object('lost/1');

SELECT * FROM payment.verify();
