-- Orders that wait, unsent, at a PSP whose circuit breaker is open go on to the next one of their route.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/dispatch.sql'
\set webhook :inputdir '/lib/webhook.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\i :webhook
\set ECHO all
RESET client_min_messages;
SELECT count(payment.register_psp('wait ' || p, 'none', 'http://127.0.0.1:1', 'none', '{"state": "active"}')) AS psps
FROM unnest('{a,b,c}'::text[]) AS p;
SELECT payment.register_seller('wait seller', 'Seller') IS NOT NULL AS seller;
SELECT count(payment.set_routing_rule('wait ' || p, 'wait ' || p, n::integer, payment_method => 'wt_*')::text) AS rules
FROM unnest('{a,b,c}'::text[]) WITH ORDINALITY AS u (p, n);
CREATE FUNCTION pg_temp.id(psp text) RETURNS uuid LANGUAGE sql STABLE AS $$ SELECT id FROM payment.psp WHERE name = 'wait ' || $1 $$;
CREATE FUNCTION pg_temp.buy(name text, psp text DEFAULT NULL, methods jsonb DEFAULT '{"wait a": "wt_a", "wait b": "wt_b", "wait c": "wt_c"}')
RETURNS void LANGUAGE sql AS $$
    SELECT payment.checkout('wt ' || name, 'payer', jsonb_build_array(jsonb_build_object('seller', 'wait seller', 'amount', '10.00',
        'currency', 'EUR', 'reference', 'wt ' || name)), psp => psp, payment_methods => methods) $$;
CREATE FUNCTION pg_temp.show() RETURNS TABLE (name text, at text, queued_at text, status text, token text) LANGUAGE sql AS $$
    SELECT substr(o.reference, 4), v.name, q.name, o.status, o.payment_method
    FROM payment.order_record AS o JOIN payment.psp AS v ON v.id = o.psp_id LEFT JOIN payment.task AS t ON t.object_id = o.id
        LEFT JOIN payment.psp AS q ON q.id = t.psp_id WHERE o.reference LIKE 'wt %' ORDER BY 1 $$;
CREATE FUNCTION pg_temp.breaker(psp text, state text) RETURNS void LANGUAGE sql AS $$
    INSERT INTO payment.circuit_breaker (psp_id, state, since, pause_ms, version) VALUES (pg_temp.id(psp), state, now(), 5000, 1)
    ON CONFLICT (psp_id) DO UPDATE SET state = excluded.state, version = payment.circuit_breaker.version + 1 $$;
CREATE FUNCTION pg_temp.claim(psp text, most integer DEFAULT 100) RETURNS TABLE (name text, key text, method text) LANGUAGE sql AS $$
    SELECT substr((SELECT reference FROM payment.order_record WHERE id = c.object_id), 4), substr(c.psp_key, 38), c.payment_method
    FROM payment.claim_tasks(pg_temp.id(psp), most, 60000) AS c ORDER BY 1 $$;
CREATE FUNCTION pg_temp.move(psp text, most integer DEFAULT 100) RETURNS integer LANGUAGE sql AS $$
    SELECT moved FROM payment.move_waiting_orders(pg_temp.id(psp), most) $$;

SELECT pg_temp.buy('1 in flight');
SELECT * FROM pg_temp.claim('a');
SELECT pg_temp.buy('2 refused');
SELECT count(*) FROM pg_temp.claim('a');
SELECT payment.record_outcomes(ARRAY[ROW((SELECT a.id FROM payment.attempt AS a JOIN payment.order_record AS o ON o.id = a.object_id
    WHERE o.reference = 'wt 2 refused'), 'retry', 429, 5, NULL, NULL, NULL, 'busy', NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome]);
SELECT pg_temp.buy('3 unknown');
SELECT count(*) FROM pg_temp.claim('a') WHERE name = '3 unknown';
SELECT payment.record_outcomes(ARRAY[ROW((SELECT a.id FROM payment.attempt AS a JOIN payment.order_record AS o ON o.id = a.object_id
    WHERE o.reference = 'wt 3 unknown'), 'unknown', NULL, 5, NULL, NULL, NULL, 'lost', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome]);
SELECT pg_temp.buy('4 doubted');
UPDATE payment.task SET first_sent_at = now() WHERE object_id = (SELECT id FROM payment.order_record WHERE reference = 'wt 4 doubted');
SELECT pg_temp.buy('5 chosen', psp => 'wait a'), pg_temp.buy('6 one token', methods => '{"wait a": "wt_a"}'),
    pg_temp.buy('7 to c', methods => '{"wait a": "wt_a", "wait c": "wt_c"}'), pg_temp.buy('8 to b'), pg_temp.buy('9 dead');
UPDATE payment.task SET dead_at = now() WHERE object_id = (SELECT id FROM payment.order_record WHERE reference = 'wt 9 dead');
SELECT * FROM pg_temp.show();

-- not while it works, nor to one that does not
SELECT pg_temp.move('a');
SELECT pg_temp.breaker('a', 'open'), pg_temp.breaker('b', 'open'), pg_temp.breaker('c', 'half_open');
SELECT pg_temp.move('a');
SELECT pg_temp.breaker('b', 'closed');
UPDATE payment.psp SET state = 'paused' WHERE name = 'wait b';
SELECT pg_temp.move('a');
UPDATE payment.psp SET state = 'active' WHERE name = 'wait b';
SELECT pg_temp.move('a');
SELECT pg_temp.breaker('c', 'closed'), pg_temp.breaker('a', 'half_open');
SELECT pg_temp.move('a');
SELECT pg_temp.move('a');
SELECT * FROM pg_temp.show();
SELECT * FROM pg_temp.claim('b');
SELECT * FROM pg_temp.claim('c');
SELECT h.from_status, h.to_status, h.cause FROM payment.status_history AS h
WHERE h.object_id = (SELECT id FROM payment.order_record WHERE reference = 'wt 8 to b') ORDER BY h.id;

-- a bounded part at a time, all of it in the end
SELECT pg_temp.breaker('a', 'closed');
SELECT pg_temp.buy('more ' || n) FROM generate_series(1, 7) AS n;
UPDATE payment.task AS t SET run_at = now() - interval '1 h' + substr(o.reference, 9)::integer / 2 * interval '1 s'
FROM payment.order_record AS o WHERE o.id = t.object_id AND o.reference LIKE 'wt more%';
SELECT pg_temp.breaker('a', 'open');
CREATE FUNCTION pg_temp.sweep() RETURNS SETOF integer LANGUAGE plpgsql AS $$
DECLARE
    part record;
    after timestamptz;
BEGIN
    LOOP
        SELECT * INTO part FROM payment.move_waiting_orders(pg_temp.id('a'), 3, after);
        RETURN NEXT part.moved;
        EXIT WHEN part.looked_until IS NULL;
        after := part.looked_until;
    END LOOP;
END $$;
SELECT * FROM pg_temp.sweep();
SELECT count(*) FROM pg_temp.claim('b');

-- S18 nor what a PSP tells of, although nothing here was sent: a standby may have been promoted without the claim
SELECT pg_temp.breaker('a', 'closed'), pg_temp.buy('told'), pg_temp.buy('told long ago'), pg_temp.buy('untold');
BEGIN;
SELECT pg_temp.write_secret('wait', 'whsec_wait');
SET LOCAL test.psp = 'wait a';
SET LOCAL test.webhook_secret = 'whsec_wait';
UPDATE payment.psp SET adapter = 'stripe', webhook_secret_names = '{wait}' WHERE name = 'wait a';
SELECT http_status FROM pg_temp.receive(pg_temp.event('evt_told', 'payment_intent.succeeded', pg_temp.intent('pi_told', 'wt told', 'succeeded', 1000)));
SET LOCAL payment.max_parked_webhooks = 1;
SELECT http_status FROM pg_temp.receive(pg_temp.event('evt_long', 'payment_intent.succeeded', pg_temp.intent('pi_long', 'wt told long ago', 'succeeded', 1000)));
SELECT event_id, state, name, detail FROM pg_temp.webhooks('evt_%');
SELECT pg_temp.breaker('a', 'open');
SELECT pg_temp.move('a');
SELECT name, at FROM pg_temp.show() WHERE name IN ('told', 'told long ago', 'untold');
-- told of too late, it is for people; at the PSP that has it now it is sent all the same
SET LOCAL payment.max_parked_webhooks = 1000;
SELECT http_status FROM pg_temp.receive(pg_temp.event('evt_late', 'payment_intent.succeeded', pg_temp.intent('pi_late', 'wt untold', 'succeeded', 1000,
    jsonb_build_object('metadata', jsonb_build_object('payment_order', (SELECT id FROM payment.order_record WHERE reference = 'wt untold'))))));
SELECT state, detail FROM pg_temp.webhooks('evt_late');
SELECT e.type, e.detail FROM payment.exception_record AS e JOIN payment.order_record AS o ON o.id = e.order_id
WHERE o.reference = 'wt untold';
ROLLBACK;
SELECT pg_temp.breaker('a', 'open');
SELECT pg_temp.move('a');

-- not by hand
SELECT pg_temp.breaker('a', 'closed'), pg_temp.buy('hand');
\set VERBOSITY terse
UPDATE payment.order_record SET psp_id = pg_temp.id('b') WHERE reference = 'wt hand';
\set VERBOSITY default
SELECT payment.move_waiting_orders(NULL, 1);
SELECT payment.move_waiting_orders(gen_random_uuid(), 1);
SELECT payment.move_waiting_orders(pg_temp.id('a'), 0);
SELECT payment.move_waiting_orders(pg_temp.id('a'), 10001);
SELECT payment.move_waiting_orders(pg_temp.id('a'), NULL);
-- clean up
UPDATE payment.task SET dead_at = now() WHERE psp_id IN (SELECT id FROM payment.psp WHERE name LIKE 'wait %') AND dead_at IS NULL;
UPDATE payment.psp SET state = 'paused' WHERE name LIKE 'wait %';
DELETE FROM payment.circuit_breaker WHERE psp_id IN (SELECT id FROM payment.psp WHERE name LIKE 'wait %');
