-- Several orders behind one page of the PSP's, and pages that are closed: the queue played by hand.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/dispatch.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;
SET test.psp = 'dispatch several';
SELECT pg_temp.register_psp();
SELECT count(payment.register_seller('dispatch seller ' || n, 'Seller ' || n)) AS sellers FROM generate_series(1, 3) AS n;

-- a payment with the orders NAME/1, NAME/2, ..., each of another seller
CREATE FUNCTION pg_temp.host(name text, amounts bigint[], capture text DEFAULT 'automatic') RETURNS uuid LANGUAGE sql AS $$
    SELECT (payment.checkout('several ' || name, 'payer', (SELECT jsonb_agg(jsonb_build_object('seller', 'dispatch seller ' || n,
            'amount', amount, 'currency', 'EUR', 'reference', name || '/' || n) ORDER BY n)
        FROM unnest(amounts) WITH ORDINALITY AS u (amount, n)), psp => current_setting('test.psp'), capture => capture,
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
CREATE FUNCTION pg_temp.tokenize(name text, operation text DEFAULT 'register') RETURNS integer LANGUAGE sql AS $$
    SELECT pg_temp.tell(name, operation, 'tokenized', '{"payment_method": "cus_1/pm_1"}')
$$;
CREATE FUNCTION pg_temp.go() RETURNS TABLE (name text, operation text, step text, method text, key text) LANGUAGE sql AS $$
    SELECT pg_temp.skip_time();
    SELECT pg_temp.name_of(c.object_id), c.operation, c.step, CASE c.operation WHEN 'pay' THEN c.payment_method END,
        replace(c.psp_key, c.object_id::text, '<id>')
    FROM payment.claim_tasks(pg_temp.psp(), 100, 60000) AS c ORDER BY 1, 2
$$;
CREATE FUNCTION pg_temp.open_page(name text) RETURNS void LANGUAGE sql AS $$
    SELECT FROM pg_temp.go();
    SELECT pg_temp.tell(name, 'register', 'requires_action');
$$;
CREATE FUNCTION pg_temp.state(payment_id uuid) RETURNS TABLE (name text, status text, method text, tasks text) LANGUAGE sql AS $$
    SELECT '', p.status || coalesce(' at ' || p.hosted_url, ''), p.payment_method,
        (SELECT 'page' FROM payment.hosted_page AS h WHERE h.payment_id = p.id)
    FROM payment.payment AS p WHERE p.id = state.payment_id
    UNION ALL
    SELECT o.reference, o.status || CASE WHEN o.cancel_requested_at IS NULL THEN '' ELSE ' (to be cancelled)' END, o.payment_method,
        (SELECT string_agg(t.operation || ' ' || t.step || CASE WHEN t.dead_at IS NULL THEN '' ELSE ' dead' END, ', ' ORDER BY t.operation)
         FROM payment.task AS t WHERE t.object_id = o.id)
    FROM payment.order_record AS o WHERE o.payment_id = state.payment_id
    ORDER BY 1
$$;

-- S16 the page is done, then each order is charged by itself; one of them fails
SELECT pg_temp.host('a', '{1000, 2000, 3000}') AS a \gset
SELECT c.operation, pg_temp.name_of(c.object_id), c.setup, c.amount, c.success_url FROM payment.claim_tasks(pg_temp.psp(), 10, 60000) AS c;
SELECT pg_temp.tell('a/1', 'register', 'requires_action');
SELECT * FROM pg_temp.state(:'a');
SELECT * FROM pg_temp.go();
SELECT pg_temp.tokenize('a/1');
SELECT * FROM pg_temp.state(:'a');
-- told again, by another look: nothing more
SELECT pg_temp.tokenize('a/1');
SELECT * FROM pg_temp.go();
SELECT pg_temp.tokenize('a/1'), pg_temp.tell('a/1', 'register', 'expired'), pg_temp.tell('a/1', 'register', 'requires_action');
SELECT pg_temp.tell('a/1', 'pay', 'succeeded'), pg_temp.tell('a/3', 'pay', 'succeeded'),
    pg_temp.tell('a/2', 'pay', 'declined', '{"error_code": "authentication_required", "decline_class": "authentication_required"}');
SELECT * FROM pg_temp.state(:'a');
SELECT pg_temp.history('a/1');
SELECT pg_temp.history('a/2');
SELECT * FROM pg_temp.journals('a/1');
SELECT count(*) AS captures FROM payment.journal AS j JOIN payment.order_record AS o ON o.id = j.subject WHERE o.payment_id = :'a';
-- what is declined is tried again with the method that was kept, or another one
SELECT payment.retry_order(pg_temp.object('a/2'), 'several retry 1');
SELECT * FROM pg_temp.go();
SELECT pg_temp.tell('a/2', 'pay', 'declined');
SELECT payment.retry_order(pg_temp.object('a/2'), 'several retry 2', payment_method => 'pm_other');
SELECT * FROM pg_temp.go();
SELECT pg_temp.tell('a/2', 'pay', 'succeeded');
SELECT * FROM pg_temp.state(:'a');

-- told twice in one batch
SELECT pg_temp.host('b', '{1000, 2000}') AS b \gset
SELECT pg_temp.open_page('b/1');
SELECT name, operation FROM pg_temp.go();
SELECT payment.record_outcomes(array_agg(jsonb_populate_record(NULL::payment.attempt_outcome, jsonb_build_object('attempt_id', a.id,
    'outcome', 'tokenized', 'psp_reference', 'cs_b/1', 'payment_method', 'cus_' || n || '/pm_1')) ORDER BY n))
FROM generate_series(1, 2) AS n, payment.attempt AS a WHERE a.object_id = pg_temp.object('b/1') AND a.step = 'lookup';
SELECT * FROM pg_temp.state(:'b');
-- a lookup whose lease had run out says what was before
SELECT * FROM pg_temp.go();
SELECT pg_temp.tell('b/1', 'register', 'requires_action'), pg_temp.tell('b/1', 'register', 'expired'), pg_temp.tell('b/1', 'register', 'failed');
SELECT * FROM pg_temp.state(:'b');
-- it says that it took money, which it cannot
SELECT pg_temp.tell('b/1', 'register', 'succeeded', '{"child_reference": "pi_b"}');
SELECT * FROM pg_temp.exceptions('b/1');
SELECT * FROM pg_temp.state(:'b');
-- the worker is gone after the claim: asked after, not charged anew
SELECT * FROM pg_temp.go();
SELECT pg_temp.tell('b/1', 'pay', 'not_found'), pg_temp.tell('b/2', 'pay', 'succeeded');
SELECT * FROM pg_temp.go();
SELECT pg_temp.tell('b/1', 'pay', 'succeeded');
SELECT * FROM pg_temp.state(:'b');

-- nobody comes; the PSP refuses the page; nobody knows whether there is one, until people decide
SELECT pg_temp.host('c', '{1000, 2000}') AS c \gset
SELECT pg_temp.open_page('c/1');
SELECT name, operation FROM pg_temp.go();
SELECT pg_temp.tell('c/1', 'register', 'expired', '{"error_code": "expired"}');
SELECT * FROM pg_temp.state(:'c');
SELECT pg_temp.history('c/2');
SELECT pg_temp.host('d', '{1000, 2000}') AS d \gset
SELECT name, operation FROM pg_temp.go();
SELECT pg_temp.tell('d/1', 'register', 'failed', '{"error_code": "url_invalid", "decline_class": "not_applicable"}');
SELECT * FROM pg_temp.state(:'d');
SELECT * FROM pg_temp.show('d/2');
SELECT pg_temp.host('e', '{1000, 2000}') AS e \gset
SELECT name, operation FROM pg_temp.go();
SELECT pg_temp.tell('e/1', 'register', 'unknown');
SELECT split_part(pg_temp.sqlstate_of(format('SELECT payment.resolve_unknown(%L, ''failed'', ''ann'', ''looked at the PSP'')', pg_temp.object('e/1'))), ' / ', 1);
UPDATE payment.task SET tries = 1000 WHERE object_id = pg_temp.object('e/1');
SELECT name, operation FROM pg_temp.go();
SELECT * FROM pg_temp.state(:'e');
SELECT payment.resolve_unknown(pg_temp.object('e/1'), 'failed', 'ann', 'looked at the PSP'),
    payment.resolve_unknown(pg_temp.object('e/1'), 'failed', 'bob', 'looked, too');
SELECT * FROM pg_temp.state(:'e');

-- cancel: before it is sent ...
SELECT pg_temp.host('f', '{1000, 2000}') AS f \gset
SELECT payment.cancel(:'f', 'several cancel f');
SELECT * FROM pg_temp.state(:'f');
SELECT * FROM pg_temp.go();
-- ... while it is: as soon as there is a page, that is closed, and the orders end when the PSP says so
SELECT pg_temp.host('g', '{1000, 2000}') AS g \gset
SELECT name, operation FROM pg_temp.go();
SELECT payment.cancel(:'g', 'several cancel g'), payment.cancel(:'g', 'several cancel g');
SELECT * FROM pg_temp.state(:'g');
SELECT pg_temp.tell('g/1', 'register', 'requires_action');
SELECT * FROM pg_temp.state(:'g');
SELECT name, operation, step, key FROM pg_temp.go();
SELECT pg_temp.tell('g/1', 'close', 'unknown'), pg_temp.tell('g/1', 'register', 'requires_action');
SELECT name, operation, step, key FROM pg_temp.go();
SELECT pg_temp.tell('g/1', 'close', 'not_found');
SELECT name, operation, step, key FROM pg_temp.go() WHERE operation = 'close';
SELECT pg_temp.tell('g/1', 'close', 'expired');
SELECT * FROM pg_temp.state(:'g');
SELECT pg_temp.history('g/1');
-- ... the payer was faster: nothing is charged that was cancelled
SELECT pg_temp.host('h', '{1000, 2000}') AS h \gset
SELECT pg_temp.open_page('h/1');
SELECT payment.cancel(:'h', 'several cancel h');
SELECT name, operation, step FROM pg_temp.go();
SELECT pg_temp.tokenize('h/1', 'close');
SELECT * FROM pg_temp.state(:'h');
-- ... after the page is done, and before a charge is sent
SELECT pg_temp.host('i', '{1000, 2000, 3000}') AS i \gset
SELECT pg_temp.open_page('i/1');
SELECT pg_temp.tokenize('i/1');
SELECT payment.cancel(pg_temp.object('i/1'), 'several cancel i/1'), payment.cancel(pg_temp.object('i/2'), 'several cancel i/2');
SELECT * FROM pg_temp.state(:'i');
SELECT name, operation FROM pg_temp.go();
SELECT pg_temp.tell('i/3', 'pay', 'succeeded');
SELECT * FROM pg_temp.state(:'i');
-- ... one order of several: the one that has the page, before and after the PSP knows it
SELECT pg_temp.host('j', '{1000, 2000, 3000}') AS j \gset
SELECT payment.cancel(pg_temp.object('j/1'), 'several cancel j/1');
SELECT * FROM pg_temp.state(:'j');
SELECT pg_temp.open_page('j/2');
SELECT payment.cancel(pg_temp.object('j/2'), 'several cancel j/2');
SELECT * FROM pg_temp.state(:'j');
SELECT pg_temp.tokenize('j/2');
SELECT * FROM pg_temp.state(:'j');
SELECT name, operation FROM pg_temp.go();
-- ... one after the other: the last one closes the page
SELECT pg_temp.host('k', '{1000, 2000}') AS k \gset
SELECT pg_temp.open_page('k/1');
SELECT payment.cancel(pg_temp.object('k/1'), 'several cancel k/1');
SELECT * FROM pg_temp.state(:'k');
SELECT payment.cancel(pg_temp.object('k/2'), 'several cancel k/2');
SELECT * FROM pg_temp.state(:'k');
SELECT name, operation, step FROM pg_temp.go() WHERE operation = 'close';
SELECT pg_temp.tell('k/1', 'register', 'expired');
SELECT * FROM pg_temp.state(:'k');

-- a page for one order takes the money itself: who has paid before it was closed has paid
SELECT pg_temp.host('l', '{1000}') AS l \gset
SELECT pg_temp.open_page('l/1');
SELECT payment.cancel(:'l', 'several cancel l');
SELECT name, operation, step FROM pg_temp.go();
SELECT pg_temp.tell('l/1', 'close', 'succeeded', '{"child_reference": "pi_l"}');
SELECT * FROM pg_temp.state(:'l');
SELECT pg_temp.history('l/1');
SELECT split_part(pg_temp.sqlstate_of(format('SELECT payment.cancel(%L, ''several cancel l again'')', :'l')), ' / ', 1);
SELECT count(*) AS captures FROM payment.journal WHERE subject = pg_temp.object('l/1');
SELECT pg_temp.host('m', '{1000}') AS m \gset
SELECT pg_temp.open_page('m/1');
SELECT payment.cancel(:'m', 'several cancel m');
SELECT name, operation, step FROM pg_temp.go();
SELECT pg_temp.tell('m/1', 'register', 'expired');
SELECT * FROM pg_temp.state(:'m');
-- that it is only reserved is told by a look at the page, too
SELECT pg_temp.host('n', '{1000}', 'manual') AS n \gset
SELECT pg_temp.open_page('n/1');
SELECT name, operation, step FROM pg_temp.go();
SELECT pg_temp.tell('n/1', 'register', 'authorized', '{"child_reference": "pi_n"}');
SELECT * FROM pg_temp.state(:'n');
-- declined at the page: there is nothing to try it with again
SELECT pg_temp.host('o', '{1000}') AS o \gset
SELECT pg_temp.open_page('o/1');
SELECT name, operation, step FROM pg_temp.go() WHERE name = 'o/1';
SELECT pg_temp.tell('o/1', 'register', 'declined', '{"child_reference": "pi_o"}');
SELECT * FROM pg_temp.state(:'o');
SELECT pg_temp.sqlstate_of(format('SELECT payment.retry_order(%L, ''several retry o'')', pg_temp.object('o/1')));
SELECT payment.retry_order(pg_temp.object('o/1'), 'several retry o', payment_method => 'pm_2');
SELECT * FROM pg_temp.go() WHERE name = 'o/1';

-- all or nothing: what cannot be charged undoes the rest
SELECT (payment.checkout('several p', 'payer', '[{"seller": "dispatch seller 1", "amount": 1000, "currency": "EUR", "reference": "p/1"},
    {"seller": "dispatch seller 2", "amount": 2000, "currency": "EUR", "reference": "p/2"}]', current_setting('test.psp'),
    on_partial_failure => 'all_or_nothing', hosted => '{"success_url": "https://a", "cancel_url": "https://a"}')).payment_id AS p \gset
SELECT pg_temp.open_page('p/1');
SELECT payment.cancel(pg_temp.object('p/2'), 'several cancel p/2');
SELECT payment.undo_partial_failures(100) > 0 AS undone;
SELECT * FROM pg_temp.state(:'p');
SELECT payment.undo_partial_failures(100) >= 0 AS again;
SELECT name, operation, step FROM pg_temp.go() WHERE name = 'p/1';
SELECT pg_temp.tell('p/1', 'close', 'expired');
SELECT * FROM pg_temp.state(:'p');

-- submit() takes pages, too
SELECT s.payment_type, cardinality(s.order_ids) FROM payment.submit(jsonb_build_array(jsonb_build_object('idempotency_key', 'several q',
    'payment_type', 'pay_in', 'payer', 'payer', 'psp', current_setting('test.psp'), 'orders',
    '[{"seller": "dispatch seller 1", "amount": 1000, "currency": "EUR", "reference": "q/1"},
      {"seller": "dispatch seller 2", "amount": 1000, "currency": "EUR", "reference": "q/2"}]'::jsonb,
    'hosted', '{"success_url": "https://a", "cancel_url": "https://a", "locale": "de"}'::jsonb))) AS s;
SELECT name, operation FROM pg_temp.go() WHERE name LIKE 'q/%';
SELECT hosted, pg_temp.sqlstate_of(format('SELECT payment.submit(jsonb_build_object(''idempotency_key'', ''several r'', ''payment_type'','
    ' ''pay_in'', ''payer'', ''payer'', ''psp'', %L, ''orders'', ''[{"seller": "dispatch seller 1", "amount": 1, "currency": "EUR"}]''::jsonb,'
    ' ''hosted'', %L::jsonb))', current_setting('test.psp'), hosted)) AS refused
FROM unnest(ARRAY['"x"', '{}', '{"success_url": "https://a", "cancel_url": "https://a", "locale": "x y"}']) AS hosted;

-- what an outcome must say; rows of pages are ours
SELECT pg_temp.sqlstate_of($$SELECT pg_temp.tell('q/1', 'register', 'tokenized')$$);
SELECT pg_temp.sqlstate_of('DELETE FROM payment.hosted_page'), pg_temp.sqlstate_of('UPDATE payment.hosted_page SET url = ''https://evil''');
SELECT count(*) AS differences FROM payment.verify();
