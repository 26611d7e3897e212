-- Recording what came of sending payment orders.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/dispatch.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;
SET test.psp = 'dispatch record';
SELECT pg_temp.register_psp();
SELECT count(payment.register_seller('dispatch seller ' || n, 'Seller ' || n)) AS registered FROM generate_series(1, 3) AS n;
-- one seller pays a fee of 1.00, another all it gets
SELECT count(payment.set_fee_schedule(100, 0, payment.seller_id('dispatch seller 2'), 'EUR')) AS set;
SELECT count(payment.set_fee_schedule(0, 10000, payment.seller_id('dispatch seller 3'), 'EUR')) AS set;

-- what the worker gets wrong
SELECT pg_temp.sqlstate_of('SELECT payment.record_outcomes(NULL)');
SELECT payment.record_outcomes('{}');
SELECT pg_temp.sqlstate_of('SELECT payment.record_outcomes(ARRAY[NULL]::payment.attempt_outcome[])');
SELECT pg_temp.sqlstate_of('SELECT payment.record_outcomes(ARRAY[ARRAY[NULL]]::payment.attempt_outcome[])');
SELECT pg_temp.sqlstate_of(format('SELECT payment.record_outcomes(ARRAY[ROW(%s, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome])', fields))
FROM (VALUES
    ('NULL, ''failed'', 400, 1, NULL, NULL, NULL, NULL, NULL, NULL'),
    ('''00000000-0000-7000-8000-000000000000'', ''failed'', 400, 1, NULL, NULL, NULL, NULL, NULL, NULL'),
    ('payment.new_id(), NULL, 200, 1, NULL, NULL, NULL, NULL, NULL, NULL'),
    ('payment.new_id(), ''maybe'', 200, 1, NULL, NULL, NULL, NULL, NULL, NULL'),
    ('payment.new_id(), ''succeeded'', 200, 1, NULL, NULL, ''EUR'', NULL, NULL, NULL'),
    ('payment.new_id(), ''succeeded'', 200, 1, NULL, 1, NULL, NULL, NULL, NULL'),
    ('payment.new_id(), ''succeeded'', 200, 1, NULL, -1, ''EUR'', NULL, NULL, NULL'),
    ('payment.new_id(), ''succeeded'', 200, 1, NULL, 1, ''eur'', NULL, NULL, NULL'),
    ('payment.new_id(), ''failed'', -1, 1, NULL, NULL, NULL, NULL, NULL, NULL'),
    ('payment.new_id(), ''failed'', 1000, 1, NULL, NULL, NULL, NULL, NULL, NULL'),
    ('payment.new_id(), ''failed'', 400, -1, NULL, NULL, NULL, NULL, NULL, NULL'),
    ('payment.new_id(), ''retry'', 429, 1, NULL, NULL, NULL, NULL, NULL, -1'),
    ('payment.new_id(), ''pending'', 200, 1, repeat(''x'', 256), NULL, NULL, NULL, NULL, NULL')) AS f (fields);
SELECT pg_temp.sqlstate_of('SELECT payment.record_outcomes(array_fill(ROW(payment.new_id(), ''failed'', NULL, NULL, NULL,'
    ' NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome, ARRAY[10001]))');

-- succeeded: the money is posted, the task is gone
SELECT pg_temp.pay('ok', '10.00', '20.00', '30.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('ok/1', 'succeeded', 'record_ok/1');
SELECT * FROM pg_temp.payment_of('ok/%');
SELECT pg_temp.record('ok/2', 'succeeded', 'record_ok/2'), pg_temp.record('ok/3', 'succeeded', 'record_ok/3');
SELECT * FROM pg_temp.show('ok/%');
SELECT * FROM pg_temp.payment_of('ok/%');
SELECT name, (pg_temp.journals(name)).* FROM unnest(ARRAY['ok/1', 'ok/2', 'ok/3']) AS name;
SELECT pg_temp.history('ok/1');
SELECT captured_at BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp() AS captured_now
    FROM payment.order_record WHERE id = pg_temp.object('ok/1');
SELECT r.reference, pg_temp.name_of(r.object_id) FROM payment.psp_reference AS r WHERE r.psp_id = pg_temp.psp() ORDER BY 1;
-- once more changes nothing
SELECT pg_temp.record('ok/1', 'succeeded', 'record_ok/1');
SELECT * FROM pg_temp.payment_of('ok/%');
SELECT count(*) FROM pg_temp.journals('ok/1');

-- S16: one of three sellers' orders fails; declined rests, failed is over
SELECT pg_temp.pay('part', '10.00', '20.00', '30.00');
SELECT count(*) FROM pg_temp.claim();
SELECT payment.record_outcomes(array_agg(CASE WHEN o.reference = 'part/2'
        THEN ROW(a.id, 'declined', 402, 9, 'record_part/2', NULL, NULL, 'insufficient_funds',
            'Your card has insufficient funds.', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome
        ELSE ROW(a.id, 'succeeded', 200, 9, 'record_' || o.reference, o.amount, 'EUR', NULL, NULL,
            NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome END))
    FROM payment.attempt AS a JOIN payment.order_record AS o ON o.id = a.object_id WHERE o.psp_id = pg_temp.psp() AND o.reference LIKE 'part/%';
SELECT * FROM pg_temp.show('part/%');
SELECT * FROM pg_temp.payment_of('part/%');
SELECT failure_message FROM payment.order_record WHERE id = pg_temp.object('part/2');
SELECT pg_temp.pay('none', '10.00', '20.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('none/1', 'declined', error_code => 'card_declined'),
    pg_temp.record('none/2', 'failed', error_code => 'parameter_missing', error_message => 'Missing required param.');
SELECT * FROM pg_temp.show('none/%');
SELECT * FROM pg_temp.payment_of('none/%');
SELECT * FROM pg_temp.attempts('none/2');

-- S11: 409 and 429: later, under the same key
SELECT pg_temp.pay('busy', '10.00');
SELECT key, step FROM pg_temp.claim();
SELECT pg_temp.record('busy/1', 'retry', error_code => 'rate_limit', error_message => 'Too many requests.');
SELECT * FROM pg_temp.show('busy/%');
SELECT pg_temp.wait('busy/1') BETWEEN interval '20 s' AND interval '40 s' AS backs_off;
SELECT last_error FROM payment.task WHERE object_id = pg_temp.object('busy/1');
SELECT pg_temp.skip_time();
SELECT key, step FROM pg_temp.claim();
-- the PSP says when
SELECT pg_temp.record('busy/1', 'retry', retry_after_ms => 7000);
SELECT pg_temp.wait('busy/1');
SELECT pg_temp.skip_time();
SELECT key, step FROM pg_temp.claim();
-- but not for ever
SELECT pg_temp.record('busy/1', 'retry', retry_after_ms => 9223372036854775807);
SELECT pg_temp.wait('busy/1');
-- backoff grows, up to its maximum, and never to nothing
UPDATE payment.psp SET backoff_base_ms = 100, backoff_max_ms = 5000 WHERE id = pg_temp.psp();
DO $$
DECLARE
    wait interval;
    longest interval := '0';
    shortest interval := '1 day';
BEGIN
    FOR i IN 1..12 LOOP
        PERFORM pg_temp.skip_time();
        PERFORM pg_temp.claim();
        UPDATE payment.task SET tries = i WHERE object_id = pg_temp.object('busy/1');
        PERFORM pg_temp.record('busy/1', 'retry');
        wait := pg_temp.wait('busy/1');
        IF wait > least(interval '100 ms' * 2 ^ i, interval '5 s') OR wait < interval '100 ms' THEN
            RAISE WARNING 'try %: waits %', i, wait;
        END IF;
        longest := greatest(longest, wait);
        shortest := least(shortest, wait);
    END LOOP;
    IF longest < shortest * 2 THEN
        RAISE WARNING 'from % to %', shortest, longest;
    END IF;
END
$$;
SELECT pg_temp.skip_time();
SELECT key, step FROM pg_temp.claim();
SELECT pg_temp.record('busy/1', 'succeeded', 'record_busy/1');
UPDATE payment.psp SET backoff_base_ms = 20000, backoff_max_ms = 300000 WHERE id = pg_temp.psp();
SELECT status, attempt_no FROM payment.order_record WHERE id = pg_temp.object('busy/1');

-- S08, S09, S13: no telling; the PSP is asked, and asked again
SELECT pg_temp.pay('doubt', '10.00', '20.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('doubt/1', 'unknown', error_code => 'timeout'), pg_temp.record('doubt/2', 'unknown', error_code => 'http_500');
SELECT * FROM pg_temp.show('doubt/%');
SELECT pg_temp.wait('doubt/1');
SELECT pg_temp.skip_time();
SELECT name, step, key FROM pg_temp.claim() ORDER BY name;
SELECT pg_temp.record('doubt/1', 'unknown', error_code => 'timeout'), pg_temp.record('doubt/2', 'retry', retry_after_ms => 0);
SELECT name, status, step, queue FROM pg_temp.show('doubt/%');
SELECT pg_temp.skip_time();
SELECT name, step FROM pg_temp.claim() ORDER BY name;
-- found charged; never arrived: sent again under the same key
SELECT pg_temp.record('doubt/1', 'succeeded', 'record_doubt/1'), pg_temp.record('doubt/2', 'not_found');
SELECT name, status, step, queue FROM pg_temp.show('doubt/%');
SELECT * FROM pg_temp.payment_of('doubt/%');
SELECT pg_temp.skip_time();
SELECT name, step, key FROM pg_temp.claim();
SELECT pg_temp.record('doubt/2', 'declined', error_code => 'card_declined');
SELECT * FROM pg_temp.show('doubt/%');
SELECT * FROM pg_temp.payment_of('doubt/%');
SELECT pg_temp.history('doubt/1');
SELECT pg_temp.history('doubt/2');
SELECT pg_temp.sqlstate_of($$SELECT pg_temp.record('ok/1', 'not_found')$$) LIKE 'PY001: a send cannot have%' AS refused;

-- pending: asked every poll interval, as often as it takes
SELECT pg_temp.pay('slow', '10.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('slow/1', 'pending', 'record_slow/1');
SELECT * FROM pg_temp.show('slow/%');
SELECT pg_temp.wait('slow/1');
UPDATE payment.psp SET max_attempts = 2 WHERE id = pg_temp.psp();
DO $$
BEGIN
    FOR i IN 1..4 LOOP
        PERFORM pg_temp.skip_time();
        PERFORM pg_temp.claim();
        PERFORM pg_temp.record('slow/1', 'pending', 'record_slow/1');
    END LOOP;
END
$$;
SELECT pg_temp.skip_time();
SELECT name, step, psp_reference FROM pg_temp.claim();
-- a search that does not show it yet does not make it sent again
SELECT pg_temp.record('slow/1', 'not_found');
SELECT name, status, step, queue FROM pg_temp.show('slow/%');
UPDATE payment.psp SET max_attempts = 20 WHERE id = pg_temp.psp();
SELECT pg_temp.skip_time();
SELECT name, step FROM pg_temp.claim();
SELECT pg_temp.record('slow/1', 'succeeded', 'record_slow/1');
SELECT * FROM pg_temp.show('slow/%');
SELECT pg_temp.history('slow/1');
SELECT count(*) FROM payment.status_history WHERE object_id = pg_temp.object('slow/1');

-- S14: another amount, another currency: no credit, an exception
SELECT pg_temp.pay('wrong', '10.00', '20.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('wrong/1', 'succeeded', 'record_wrong/1', amount => 1001),
    pg_temp.record('wrong/2', 'succeeded', 'record_wrong/2', currency => 'USD');
SELECT * FROM pg_temp.show('wrong/%');
SELECT * FROM pg_temp.payment_of('wrong/%');
SELECT count(*) FROM pg_temp.journals('wrong/1');
SELECT * FROM pg_temp.exceptions('wrong/%');
-- told twice, and told right after all: still for people
SELECT pg_temp.record('wrong/1', 'succeeded', 'record_wrong/1', amount => 1001);
SELECT pg_temp.record('wrong/1', 'succeeded', 'record_wrong/1');
SELECT name, status FROM pg_temp.show('wrong/%');
SELECT count(*) FROM pg_temp.exceptions('wrong/%');

-- a reference of another order: conflicted; the others of the batch go through
SELECT pg_temp.pay('same', '10.00', '20.00', '30.00');
SELECT count(*) FROM pg_temp.claim();
SELECT payment.record_outcomes(array_agg(ROW(a.id, 'succeeded', 200, 9,
        CASE WHEN o.reference = 'same/3' THEN 'record_same/3' ELSE 'record_ok/1' END, o.amount, 'EUR', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    )::payment.attempt_outcome))
    FROM payment.attempt AS a JOIN payment.order_record AS o ON o.id = a.object_id WHERE o.psp_id = pg_temp.psp() AND o.reference LIKE 'same/%';
SELECT * FROM pg_temp.show('same/%');
SELECT * FROM pg_temp.exceptions('same/%');
SELECT pg_temp.name_of(object_id) FROM payment.psp_reference WHERE reference = 'record_ok/1';
-- two new orders under one new reference: the first keeps it
SELECT pg_temp.pay('twin', '10.00', '20.00');
SELECT count(*) FROM pg_temp.claim();
SELECT payment.record_outcomes(array_agg(ROW(a.id, 'succeeded', 200, 9, 'record_twin', o.amount, 'EUR', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    )::payment.attempt_outcome))
    FROM payment.attempt AS a JOIN payment.order_record AS o ON o.id = a.object_id WHERE o.psp_id = pg_temp.psp() AND o.reference LIKE 'twin/%';
SELECT status, count(*) FROM pg_temp.show('twin/%') GROUP BY 1 ORDER BY 1;

-- S74: what a PSP writes may be long, or hold a card number
SELECT pg_temp.pay('text', '10.00', '20.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('text/1', 'declined', error_code => repeat('c', 300), error_message => repeat('ü', 300)),
    pg_temp.record('text/2', 'retry', error_code => '', error_message => 'card 4242 4242 4242 4242 refused');
SELECT length(error_code), octet_length(error_message), length(error_message) FROM payment.attempt
    WHERE object_id = pg_temp.object('text/1');
SELECT error_code, error_message FROM pg_temp.attempts('text/2');
SELECT last_error FROM payment.task WHERE object_id = pg_temp.object('text/2');
SELECT pg_temp.skip_time();
SELECT name FROM pg_temp.claim();
SELECT pg_temp.record('text/2', 'succeeded', 'record_text/2');

-- what kind of decline it is: only of what was declined or failed
SELECT outcome, class, pg_temp.sqlstate_of(format('SELECT payment.record_outcomes(ARRAY[ROW(payment.new_id(), %L, 200, 1, NULL,'
    ' 1, ''EUR'', NULL, NULL, NULL, %L, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome])', outcome, class)) AS refused
FROM (VALUES ('declined', 'maybe'), ('declined', ''), ('failed', 'SOFT'), ('succeeded', 'soft'), ('pending', 'not_applicable'),
    ('unknown', 'hard'), ('retry', 'soft')) AS v (outcome, class);
SELECT pg_temp.pay('class', '1.00', '2.00', '3.00'), pg_temp.pay('class_no', '4.00', '5.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('class/1', 'declined', decline_class => 'soft'), pg_temp.record('class/2', 'declined', decline_class => 'hard'),
    pg_temp.record('class/3', 'declined', decline_class => 'authentication_required'),
    pg_temp.record('class_no/1', 'failed', decline_class => 'not_applicable'), pg_temp.record('class_no/2', 'declined');
SELECT o.reference, a.outcome, a.decline_class FROM payment.attempt AS a JOIN payment.order_record AS o ON o.id = a.object_id
    WHERE o.psp_id = pg_temp.psp() AND o.reference LIKE 'class%' ORDER BY 1;

-- all or none: one bad outcome, and nothing of the batch is recorded
SELECT pg_temp.pay('all', '10.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.sqlstate_of(format('SELECT payment.record_outcomes(ARRAY[ROW(%L, ''succeeded'', 200, 9, ''record_all/1'', 1000,'
    ' ''EUR'', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), ROW(''00000000-0000-7000-8000-000000000000'', ''failed'', 400, 9, NULL, NULL, NULL,'
    ' NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)]::payment.attempt_outcome[])', a.id))
    FROM payment.attempt AS a WHERE a.object_id = pg_temp.object('all/1');
SELECT name, status, queue FROM pg_temp.show('all/%');
SELECT pg_temp.record('all/1', 'succeeded', 'record_all/1');

SELECT count(*) FROM payment.verify();
SELECT count(*) FROM payment.task WHERE psp_id = pg_temp.psp();
