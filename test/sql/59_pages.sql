-- Pages of the PSP's that nobody can look at, that are cancelled, or that bring what cannot be whole.
\getenv inputdir PG_ABS_SRCDIR
\set dispatch :inputdir '/lib/dispatch.sql'
\set webhook :inputdir '/lib/webhook.sql'
SET client_min_messages = warning;
\set ECHO none
\i :dispatch
\i :webhook
\set ECHO all
RESET client_min_messages;
SET test.psp = 'pages';
SET test.webhook_secret = 'whsec_pages';
SELECT pg_temp.register_psp();
SELECT count(payment.register_seller('pages seller ' || n, 'Seller ' || n)) AS sellers FROM generate_series(1, 3) AS n;

CREATE FUNCTION pg_temp.host(name text, amounts bigint[], capture text DEFAULT 'automatic', policy text DEFAULT 'keep') RETURNS uuid LANGUAGE sql AS $$
    SELECT (payment.checkout('pages ' || name, 'payer', (SELECT jsonb_agg(jsonb_build_object('seller', 'pages seller ' || n,
            'amount', amount, 'currency', 'EUR', 'reference', name || '/' || n) ORDER BY n)
        FROM unnest(amounts) WITH ORDINALITY AS u (amount, n)), psp => current_setting('test.psp'), capture => capture,
        on_partial_failure => policy,
        hosted => '{"success_url": "https://shop.example/ok", "cancel_url": "https://shop.example/no"}')).payment_id
$$;
-- outcome of the latest attempt of that operation; with the worker's word for an open page
CREATE FUNCTION pg_temp.tell(name text, operation text, outcome text, more jsonb DEFAULT '{}') RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    attempt payment.attempt;
    recorded integer;
BEGIN
    SELECT a.* INTO attempt FROM payment.attempt AS a WHERE a.object_id = pg_temp.object(name) AND a.operation = tell.operation
        ORDER BY a.id DESC LIMIT 1;
    recorded := payment.record_outcomes(ARRAY[jsonb_populate_record(NULL::payment.attempt_outcome, jsonb_build_object(
        'attempt_id', attempt.id, 'outcome', outcome, 'http_status', 200, 'latency_ms', 5, 'amount', o.amount, 'currency', 'EUR',
        'psp_reference', CASE WHEN tell.operation = 'pay' THEN 'pi_' || name ELSE 'cs_' || name END) || more)])
        FROM payment.order_record AS o WHERE o.id = attempt.object_id;
    IF tell.operation = 'register' AND outcome = 'requires_action' THEN
        PERFORM payment.record_hosted_page(attempt.id, 'cs_' || name, 'https://pay.example/' || name, '2100-01-01 00:00+00');
    END IF;
    RETURN recorded;
END
$$;
CREATE FUNCTION pg_temp.go() RETURNS TABLE (name text, operation text, step text) LANGUAGE sql AS $$
    SELECT pg_temp.skip_time();
    SELECT pg_temp.name_of(c.object_id), c.operation, c.step FROM payment.claim_tasks(pg_temp.psp(), 100, 60000) AS c ORDER BY 1, 2
$$;
CREATE FUNCTION pg_temp.state(pattern text) RETURNS TABLE (name text, payment text, status text, tasks text) LANGUAGE sql AS $$
    SELECT o.reference, p.status, o.status || CASE WHEN o.cancel_requested_at IS NULL THEN '' ELSE ' (to be cancelled)' END,
        (SELECT string_agg(t.operation || ' ' || t.step || CASE WHEN t.dead_at IS NULL THEN '' ELSE ' dead: ' || t.last_error END, ', ' ORDER BY t.operation)
         FROM payment.task AS t WHERE t.object_id = o.id)
    FROM payment.order_record AS o JOIN payment.payment_record AS p ON p.id = o.payment_id WHERE o.reference LIKE pattern AND p.psp_id = pg_temp.psp() ORDER BY 1
$$;
CREATE FUNCTION pg_temp.fail_often(name text, how_often integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    FOR n IN 1..how_often LOOP
        PERFORM pg_temp.go();
        PERFORM pg_temp.tell(name, 'register', 'retry', '{"http_status": 401, "error_code": "http_401"}');
    END LOOP;
END
$$;

-- all or nothing: one order is to be cancelled, then the payer finishes: nothing is charged
SELECT pg_temp.host('a', '{1000, 2000}', policy => 'all_or_nothing') AS a \gset
SELECT count(*) FROM pg_temp.go();
SELECT pg_temp.tell('a/1', 'register', 'requires_action');
SELECT payment.cancel(pg_temp.object('a/1'), 'pages cancel a/1');
SELECT count(*) FROM pg_temp.go();
SELECT pg_temp.tell('a/1', 'register', 'tokenized', '{"payment_method": "cus_1/pm_1"}');
SELECT * FROM pg_temp.state('a/%');
SELECT count(*) FROM pg_temp.go();
-- so it is when another one was cancelled; what is to be kept is charged
SELECT pg_temp.host('b', '{1000, 2000, 3000}', policy => 'all_or_nothing') AS b \gset
SELECT pg_temp.host('k', '{1000, 2000, 3000}') AS k \gset
SELECT count(*) FROM pg_temp.go();
SELECT pg_temp.tell(name, 'register', 'requires_action') FROM (VALUES ('b/1'), ('k/1')) AS v (name);
SELECT payment.cancel(pg_temp.object(name), 'pages cancel ' || name) FROM (VALUES ('b/2'), ('k/2')) AS v (name);
SELECT count(*) FROM pg_temp.go();
SELECT pg_temp.tell(name, 'register', 'tokenized', '{"payment_method": "cus_1/pm_1"}') FROM (VALUES ('b/1'), ('k/1')) AS v (name);
SELECT * FROM pg_temp.state('b/%');
SELECT * FROM pg_temp.state('k/%');
SELECT * FROM pg_temp.go();
SELECT pg_temp.tell(name, 'pay', 'succeeded') FROM (VALUES ('k/1'), ('k/3')) AS v (name);

-- no look at the page succeeds: it is looked at for as long as it is open
SELECT pg_temp.host('c', '{1000}') AS c \gset
SELECT count(*) FROM pg_temp.go();
SELECT pg_temp.tell('c/1', 'register', 'requires_action');
SELECT pg_temp.fail_often('c/1', 25);
SELECT * FROM pg_temp.state('c/%');
SELECT * FROM pg_temp.go();
SELECT pg_temp.tell('c/1', 'register', 'succeeded', '{"child_reference": "pi_c"}');
SELECT * FROM pg_temp.state('c/%');

-- no page can be made: people see it, and decide
SELECT pg_temp.host('d', '{1000}') AS d \gset
SELECT pg_temp.fail_often('d/1', 25);
SELECT * FROM pg_temp.state('d/%');
SELECT * FROM pg_temp.exceptions('d/%');
SELECT payment.cancel(pg_temp.object('d/1'), 'pages cancel d/1');
SELECT payment.resolve_unknown(pg_temp.object('d/1'), 'failed', 'ann', 'there is no page'),
    payment.resolve_unknown(pg_temp.object('d/1'), 'failed', 'bob', 'looked, too');
SELECT * FROM pg_temp.state('d/%');
SELECT type, status FROM payment.exception_record WHERE order_id = pg_temp.object('d/1');

-- what the payer has reserved at a page that was to be closed is given back
SELECT pg_temp.host('e', '{1000}', capture => 'manual') AS e \gset
SELECT count(*) FROM pg_temp.go();
SELECT pg_temp.tell('e/1', 'register', 'requires_action');
SELECT payment.cancel(pg_temp.object('e/1'), 'pages cancel e/1');
SELECT count(*) FROM pg_temp.go();
SELECT pg_temp.tell('e/1', 'register', 'authorized', '{"child_reference": "pi_e"}');
SELECT * FROM pg_temp.state('e/%');
SELECT pg_temp.history('e/1');
SELECT * FROM pg_temp.go();
SELECT pg_temp.tell('e/1', 'void', 'voided');
SELECT * FROM pg_temp.state('e/%');

-- a page is closed by a request of its own, however long ago one was sent for it
SELECT pg_temp.host('f', '{1000}') AS f \gset
SELECT count(*) FROM pg_temp.go();
SELECT pg_temp.tell('f/1', 'register', 'requires_action');
SELECT payment.cancel(pg_temp.object('f/1'), 'pages cancel f/1');
SELECT count(*) FROM pg_temp.go();
UPDATE payment.task SET dead_at = clock_timestamp(), attempt_id = NULL, first_sent_at = first_sent_at - interval '30 days'
WHERE object_id = pg_temp.object('f/1') AND operation = 'close';
SELECT payment.cancel(pg_temp.object('f/1'), 'pages cancel f/1 again');
SELECT name, operation, step FROM pg_temp.go() WHERE operation = 'close';

-- the PSP tells of a page that nobody asks after any more: it is looked at
SET test.psp = 'pages stripe';
SELECT pg_temp.write_secret('pages', 'whsec_pages');
SELECT count(payment.register_psp('pages stripe', 'stripe', 'http://127.0.0.1:1', 'none', '{"key_lifetime_s": 1, "backoff_base_ms": 20000}',
    webhook_secret_names => '{pages}')) AS registered;
SELECT pg_temp.host('g', '{1000}') AS g \gset
SELECT count(*) FROM pg_temp.go();
SELECT pg_temp.tell('g/1', 'register', 'requires_action');
UPDATE payment.task SET dead_at = clock_timestamp(), tries = 20, last_error = 'lost' WHERE object_id = pg_temp.object('g/1');
CREATE FUNCTION pg_temp.page_done(name text) RETURNS text LANGUAGE sql AS $$
    SELECT e.state || ', ' || e.detail
    FROM pg_temp.receive(pg_temp.event('evt_' || name, 'checkout.session.completed', jsonb_build_object('id', 'cs_' || name, 'object', 'checkout.session', 'client_reference_id', pg_temp.object(name),
        'status', 'complete', 'amount_total', 1000, 'currency', 'eur', 'metadata', jsonb_build_object('payment_order', pg_temp.object(name))))) AS a,
        payment.webhook_event AS e WHERE a.http_status = 200 AND e.event_id = 'evt_' || name
$$;
SELECT pg_temp.page_done('g/1') AS done \gset
SELECT state, detail FROM payment.webhook_event WHERE event_id = 'evt_g/1';
SELECT step, tries, dead_at IS NULL AS alive FROM payment.task WHERE object_id = pg_temp.object('g/1');

-- an event about the page does not say that an order was charged
SELECT pg_temp.host('h', '{1000, 2000}') AS h \gset
SELECT name, operation, step FROM pg_temp.go() WHERE name = 'h/1';
SELECT pg_temp.tell('h/1', 'register', 'requires_action');
SELECT name, operation, step FROM pg_temp.go() WHERE name = 'h/1';
SELECT pg_temp.page_done('h/1') AS done \gset
SELECT state, detail FROM payment.webhook_event WHERE event_id = 'evt_h/1';
SELECT pg_temp.tell('h/1', 'register', 'tokenized', '{"payment_method": "cus_1/pm_1"}');
SELECT pg_sleep(1.1);
SELECT name, operation, step FROM pg_temp.go() WHERE name LIKE 'h/%';
SELECT * FROM pg_temp.state('h/%');
SELECT * FROM payment.verify();
