-- Refunds as events, in order; and refunds that wait for the payer.
\getenv inputdir PG_ABS_SRCDIR
\set dispatch :inputdir '/lib/dispatch.sql'
\set webhook :inputdir '/lib/webhook.sql'
SET client_min_messages = warning;
\set ECHO none
\i :dispatch
\i :webhook
\set ECHO all
RESET client_min_messages;
SET test.psp = 'refund events';
SET test.webhook_secret = 'whsec_refund_events';
SELECT pg_temp.write_secret('refund_events', 'whsec_refund_events');
SELECT count(payment.register_psp(current_setting('test.psp'), 'stripe', 'http://127.0.0.1:1', 'none',
    '{"backoff_base_ms": 20000, "poll_interval_ms": 120000}', webhook_secret_names => '{refund_events}')) AS registered;
SELECT count(payment.register_seller('dispatch seller ' || n, 'Seller ' || n)) AS registered FROM generate_series(1, 3) AS n;

CREATE FUNCTION pg_temp.captured(name text, amount text DEFAULT '100.00') RETURNS uuid LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_temp.pay(name, amount);
    PERFORM pg_temp.claim();
    PERFORM pg_temp.record(name || '/1', 'succeeded', 'pi_' || name);
    RETURN pg_temp.object(name || '/1');
END
$$;
-- of a refund: its latest attempt
CREATE FUNCTION pg_temp.tell(refund uuid, outcome text, reference text DEFAULT NULL, error text DEFAULT NULL) RETURNS integer LANGUAGE sql AS $$
    SELECT payment.record_outcomes(ARRAY[ROW((SELECT a.id FROM payment.attempt AS a WHERE a.object_id = refund ORDER BY a.id DESC LIMIT 1),
        outcome, 200, 5, reference, (SELECT r.amount FROM payment.refund AS r WHERE r.id = refund), 'EUR', error, NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome])
$$;
-- of one object, in the order of their ids
CREATE FUNCTION pg_temp.told(object uuid) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(e.number || ' ' || e.type, ', ' ORDER BY e.epoch, e.horizon, e.id) FROM payment.event AS e WHERE e.object_id = $1
$$;
CREATE FUNCTION pg_temp.hook(id text, type text, refund uuid, status text, reference text, parent text) RETURNS text LANGUAGE sql AS $$
    SELECT (pg_temp.receive(pg_temp.event(id, type, jsonb_build_object('id', reference, 'object', 'refund', 'status', status,
        'amount', (SELECT r.amount FROM payment.refund AS r WHERE r.id = refund), 'currency', 'eur', 'payment_intent', parent,
        'metadata', jsonb_build_object('refund', refund, 'attempt', '1'))))).http_status::text
$$;

-- from the first to the last word, and a failure after success
SELECT pg_temp.captured('plain') AS o \gset
SELECT payment.refund(:'o', 2500, 'plain', 'requested_by_customer') AS r \gset
SELECT pg_temp.told(:'r');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.tell(:'r', 'pending', 're_plain');
SELECT pg_temp.tell(:'r', 'succeeded', 're_plain'), pg_temp.tell(:'r', 'succeeded', 're_plain');
SELECT pg_temp.tell(:'r', 'failed', 're_plain', 'lost_or_stolen_card');
SELECT pg_temp.told(:'r');
SELECT object, payment_id, jsonb_pretty(data - ARRAY['id', 'order_id', 'seller_id', 'psp_id']) AS data, data ->> 'order_id' = :'o' AS of_its_order
FROM payment.event WHERE object_id = :'r' ORDER BY id DESC LIMIT 1;
SELECT status, event_count FROM payment.refund_record WHERE id = :'r';

-- Stripe waits for the payer: told by an answer, asked after, told by webhooks
SELECT payment.refund(:'o', 1000, 'action') AS r \gset
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.tell(:'r', 'requires_action', 're_action');
SELECT status FROM payment.refund WHERE id = :'r';
SELECT step, tries, dead_at FROM payment.task WHERE object_id = :'r';
SELECT pg_temp.skip_time();
SELECT operation, step, psp_reference FROM pg_temp.claim();
SELECT pg_temp.tell(:'r', 'unknown');
SELECT status FROM payment.refund WHERE id = :'r';
-- that it cannot be found does not send it again
SELECT pg_temp.skip_time();
SELECT operation, step FROM pg_temp.claim();
SELECT pg_temp.tell(:'r', 'not_found');
SELECT status, (SELECT step FROM payment.task WHERE object_id = :'r') AS step FROM payment.refund WHERE id = :'r';
SELECT pg_temp.hook('evt_a1', 'refund.updated', :'r', 'pending', 're_action', 'pi_plain');
SELECT pg_temp.hook('evt_a2', 'refund.updated', :'r', 'requires_action', 're_action', 'pi_plain');
SELECT pg_temp.hook('evt_a3', 'charge.refund.updated', :'r', 'succeeded', 're_action', 'pi_plain');
SELECT event_id, state, effect, outcome FROM pg_temp.webhooks('evt_a%');
SELECT pg_temp.told(:'r');
SELECT count(*) FROM payment.task WHERE object_id = :'r';
-- the payer never comes: cancelled at the PSP, and the money is where it was
SELECT payment.refund(:'o', 500, 'cancelled') AS r \gset
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.tell(:'r', 'requires_action', 're_cancelled');
SELECT pg_temp.tell(:'r', 'voided', 're_cancelled');
SELECT pg_temp.told(:'r');
SELECT refunded_amount FROM payment.payment_order WHERE id = :'o';
-- the PSP tells no more of it: as unknown as any other, for people to decide
SELECT payment.refund(:'o', 400, 'silent') AS r \gset
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.tell(:'r', 'requires_action', 're_silent');
UPDATE payment.task SET tries = 1000 WHERE object_id = :'r';
SELECT pg_temp.skip_time();
SELECT count(*) FROM pg_temp.claim();
SELECT status, (SELECT x.type FROM payment.exception_record AS x WHERE x.order_id = r.id) AS exception FROM payment.refund AS r WHERE id = :'r';
SELECT pg_temp.told(:'r');
-- a late webhook revives it
SELECT pg_temp.hook('evt_s1', 'refund.updated', :'r', 'requires_action', 're_silent', 'pi_plain');
SELECT status, (SELECT x.status FROM payment.exception_record AS x WHERE x.order_id = r.id) AS exception,
    (SELECT t.dead_at IS NULL FROM payment.task AS t WHERE t.object_id = r.id) AS is_asked FROM payment.refund AS r WHERE id = :'r';
-- another refund's name contradicts it
SELECT pg_temp.hook('evt_s2', 'refund.updated', :'r', 'succeeded', 're_plain', 'pi_plain');
SELECT status FROM payment.refund WHERE id = :'r';
SELECT type, status FROM payment.exception_record WHERE order_id = :'r' ORDER BY type;

-- read as others are, by type
SELECT payment.register_consumer('refunds', '{refund.*}', true);
SELECT count(*) > 0 AS some, bool_and(e.type LIKE 'refund.%') AS only_refunds FROM payment.read_events('refunds', 10000) AS e;
SELECT payment.remove_consumer('refunds');
SELECT type FROM payment.event_types() WHERE object = 'refund' ORDER BY 1;
-- nobody counts them by hand
UPDATE payment.refund_record SET event_count = 77 WHERE id = :'r';
SELECT count(*) AS miscounted FROM payment.refund_record AS r WHERE event_count <> (SELECT count(*) FROM payment.event WHERE object_id = r.id);
SELECT * FROM payment.verify();
