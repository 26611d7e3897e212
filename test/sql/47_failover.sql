-- From one PSP to the next, and trying again: only after a definite no.
CREATE FUNCTION pg_temp.refusal(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
    detail text;
BEGIN
    EXECUTE command;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN SQLSTATE || ' ' || regexp_replace(SQLERRM || ' / ' || detail || ' / ' || hint,
        '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', '<id>', 'g');
END
$$;
SELECT count(payment.register_psp('fail ' || p, 'none', 'http://127.0.0.1:1', 'none', '{"max_attempts": 2, "state": "active"}')) AS psps
FROM unnest('{a,b,c}'::text[]) AS p;
SELECT count(payment.register_seller('fail seller ' || n, 'Seller')) AS sellers FROM generate_series(1, 3) AS n;
SELECT count(payment.set_routing_rule('fail ' || p, 'fail ' || p, n::integer, payment_method => 'fo_*')::text) AS rules
FROM unnest('{a,b,c}'::text[]) WITH ORDINALITY AS u (p, n);

CREATE FUNCTION pg_temp.object(name text) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT id FROM payment.order_record WHERE reference = 'fo ' || name $$;
-- one order NAME/1, NAME/2, ... for each amount
CREATE FUNCTION pg_temp.buy(name text, amounts text[] DEFAULT '{10.00}', psp text DEFAULT NULL,
    methods jsonb DEFAULT '{"fail a": "fo_a", "fail b": "fo_b", "fail c": "fo_c"}') RETURNS void LANGUAGE sql AS $$
    SELECT payment.checkout('fo ' || name, 'payer', (SELECT jsonb_agg(jsonb_build_object('seller', 'fail seller ' || n,
            'amount', a, 'currency', 'EUR', 'reference', 'fo ' || name || '/' || n) ORDER BY n)
        FROM unnest(amounts) WITH ORDINALITY AS u (a, n)), psp => psp, payment_methods => methods)
$$;
CREATE FUNCTION pg_temp.claim(psp text) RETURNS TABLE (name text, step text, key text, method text) LANGUAGE sql AS $$
    SELECT substr((SELECT reference FROM payment.order_record WHERE id = c.object_id), 4), c.step,
        substr(c.psp_key, 38), c.payment_method
    FROM payment.psp AS p, payment.claim_tasks(p.id, 100, 60000) AS c WHERE p.name = 'fail ' || claim.psp ORDER BY 1
$$;
-- the outcome of an attempt: of the latest one, or of the n-th
CREATE FUNCTION pg_temp.outcome(name text, outcome text, class text DEFAULT NULL, reference text DEFAULT NULL, http integer DEFAULT 200,
    n integer DEFAULT NULL, amount bigint DEFAULT 1000) RETURNS payment.attempt_outcome LANGUAGE sql AS $$
    SELECT ROW((SELECT a.id FROM payment.attempt AS a WHERE a.object_id = pg_temp.object(name)
            ORDER BY CASE WHEN n IS NULL THEN a.id END DESC, a.id OFFSET coalesce(n, 1) - 1 LIMIT 1),
        outcome, http, 5, reference, amount, 'EUR', 'code', 'message', NULL, class, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome
$$;
CREATE FUNCTION pg_temp.answer(name text, outcome text, class text DEFAULT NULL, reference text DEFAULT NULL, http integer DEFAULT 200,
    n integer DEFAULT NULL) RETURNS integer LANGUAGE sql AS $$
    SELECT payment.record_outcomes(ARRAY[pg_temp.outcome(name, outcome, class, reference, http, n)]) $$;
CREATE FUNCTION pg_temp.skip_time(pattern text) RETURNS void LANGUAGE sql AS $$
    UPDATE payment.task SET run_at = clock_timestamp() - interval '1 s'
    WHERE object_id IN (SELECT id FROM payment.order_record WHERE reference LIKE 'fo ' || pattern) $$;
CREATE FUNCTION pg_temp.show(pattern text) RETURNS TABLE (name text, psp text, status text, no integer, reference text, code text,
    queue text, payment text) LANGUAGE sql AS $$
    SELECT substr(o.reference, 4), v.name, o.status, o.attempt_no, o.psp_reference, o.failure_code,
        q.name || ' ' || t.step || CASE WHEN t.dead_at IS NOT NULL THEN ' dead' WHEN t.attempt_id IS NOT NULL THEN ' in flight'
            WHEN t.run_at <= clock_timestamp() THEN ' due' ELSE ' waits' END || ' ' || t.tries || CASE WHEN t.first_sent_at IS NULL THEN ' unsent' ELSE '' END,
        p.status || ' ' || p.succeeded_count || '+' || p.failed_count
    FROM payment.order_record AS o JOIN payment.psp AS v ON v.id = o.psp_id JOIN payment.payment_record AS p ON p.id = o.payment_id
        LEFT JOIN payment.task AS t ON t.object_id = o.id LEFT JOIN payment.psp AS q ON q.id = t.psp_id
    WHERE o.reference LIKE 'fo ' || pattern ORDER BY 1 $$;
CREATE FUNCTION pg_temp.attempts(name text) RETURNS TABLE (psp text, step text, key text, outcome text, class text) LANGUAGE sql AS $$
    SELECT v.name, a.step, substr(a.psp_key, 38), a.outcome, a.decline_class FROM payment.attempt AS a
        JOIN payment.psp AS v ON v.id = a.psp_id WHERE a.object_id = pg_temp.object($1) ORDER BY a.id $$;
CREATE FUNCTION pg_temp.history(name text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(h.to_status || ' (' || h.cause || ')', ', ' ORDER BY h.id) FROM payment.status_history AS h
    WHERE h.object_id = pg_temp.object(name) $$;
CREATE FUNCTION pg_temp.money(name text) RETURNS TABLE (kind text, account text, owner text, amount bigint) LANGUAGE sql AS $$
    SELECT j.kind, a.code, coalesce(v.name, s.reference), e.amount FROM payment.journal AS j JOIN payment.entry AS e ON e.journal_id = j.id
        JOIN payment.account AS a ON a.id = e.account_id LEFT JOIN payment.psp AS v ON v.id = a.owner
        LEFT JOIN payment.seller AS s ON s.id = a.owner
    WHERE j.subject = pg_temp.object($1) ORDER BY j.id, e.leg $$;
CREATE FUNCTION pg_temp.exceptions(pattern text) RETURNS TABLE (name text, psp text, type text, amount bigint, detail text) LANGUAGE sql AS $$
    SELECT substr(o.reference, 4), v.name, x.type, x.actual_amount, x.detail FROM payment.exception_record AS x
        JOIN payment.order_record AS o ON o.id = x.order_id JOIN payment.psp AS v ON v.id = x.psp_id
    WHERE o.reference LIKE 'fo ' || pattern ORDER BY 1, x.id $$;

-- a soft decline: on to the next PSP in the same commit, and nobody sees a failure
SELECT pg_temp.buy('soft');
SELECT * FROM pg_temp.claim('a');
SELECT pg_temp.answer('soft/1', 'declined', 'soft', 'a_soft');
SELECT * FROM pg_temp.show('soft/%');
SELECT * FROM pg_temp.claim('a');
SELECT * FROM pg_temp.claim('b');
SELECT pg_temp.answer('soft/1', 'succeeded', reference => 'b_soft');
SELECT * FROM pg_temp.show('soft/%');
SELECT * FROM pg_temp.attempts('soft/1');
SELECT pg_temp.history('soft/1');
SELECT * FROM pg_temp.money('soft/1') WHERE account <> 'platform_fee';
SELECT v.name AS to_be_settled_by FROM payment.unsettled_order AS u JOIN payment.psp AS v ON v.id = u.psp_id
WHERE u.order_id = pg_temp.object('soft/1');
SELECT psp AS begun_at FROM payment.payment WHERE id = (SELECT payment_id FROM payment.order_record WHERE id = pg_temp.object('soft/1'));
SELECT a ->> 'psp' AS psp, a ->> 'decline_class' AS class FROM jsonb_array_elements(payment.receipt(pg_temp.object('soft/1')) -> 'attempts') AS a;

-- each of a payment's orders for itself; until no PSP is left
SELECT pg_temp.buy('each', '{10.00,10.00}');
SELECT count(*) FROM pg_temp.claim('a');
SELECT payment.record_outcomes(ARRAY[pg_temp.outcome('each/1', 'succeeded', reference => 'a_each'), pg_temp.outcome('each/2', 'failed', 'not_applicable')]);
SELECT * FROM pg_temp.show('each/%');
SELECT count(*) FROM pg_temp.claim('b');
SELECT pg_temp.answer('each/2', 'declined', 'soft');
SELECT * FROM pg_temp.claim('c');
SELECT pg_temp.answer('each/2', 'declined', 'soft');
SELECT * FROM pg_temp.show('each/%');
SELECT * FROM pg_temp.attempts('each/2');

-- what speaks against the card, or says nothing, is worth no second PSP
SELECT pg_temp.buy('class ' || n) FROM generate_series(1, 6) AS n;
SELECT count(*) FROM pg_temp.claim('a');
SELECT pg_temp.answer('class 1/1', 'declined', 'hard'), pg_temp.answer('class 2/1', 'declined', 'authentication_required'),
    pg_temp.answer('class 3/1', 'declined'), pg_temp.answer('class 4/1', 'failed', 'hard'),
    pg_temp.answer('class 5/1', 'failed', 'authentication_required'), pg_temp.answer('class 6/1', 'failed');
SELECT * FROM pg_temp.show('class%');

-- nor does anything move that the caller keeps at one PSP, or has one token for
SELECT pg_temp.buy('named', psp => 'fail a');
SELECT pg_temp.buy('token', methods => '{"fail a": "fo_a"}');
SELECT count(*) FROM pg_temp.claim('a');
SELECT pg_temp.answer('named/1', 'declined', 'soft'), pg_temp.answer('token/1', 'declined', 'soft');
SELECT * FROM pg_temp.show('named/%') UNION ALL SELECT * FROM pg_temp.show('token/%');

-- a paused PSP is passed over
SELECT payment.register_psp('fail b', 'none', 'http://127.0.0.1:1', 'none', '{"state": "paused"}') IS NOT NULL AS paused;
SELECT pg_temp.buy('paused');
SELECT payment.register_psp('fail b', 'none', 'http://127.0.0.1:1', 'none', '{"state": "active"}') IS NOT NULL AS active;
SELECT pg_temp.buy('pause later');
SELECT payment.register_psp('fail b', 'none', 'http://127.0.0.1:1', 'none', '{"state": "paused"}') IS NOT NULL AS paused;
SELECT count(*) FROM pg_temp.claim('a');
SELECT pg_temp.answer('paused/1', 'declined', 'soft'), pg_temp.answer('pause later/1', 'declined', 'soft');
SELECT * FROM pg_temp.show('pause%');
SELECT payment.register_psp('fail b', 'none', 'http://127.0.0.1:1', 'none', '{"state": "active"}') IS NOT NULL AS active;
SELECT count(*) FROM pg_temp.claim('c');
SELECT pg_temp.answer('paused/1', 'succeeded', reference => 'c_paused'), pg_temp.answer('pause later/1', 'succeeded', reference => 'c_later');

-- one whose circuit breaker is open is taken when there is no other
SELECT pg_temp.buy('breaker');
SELECT payment.save_breaker(id, 'open', now(), now() + interval '1 hour', 3600000, 'test', 0) FROM payment.psp WHERE name = 'fail b';
SELECT count(*) FROM pg_temp.claim('a');
SELECT pg_temp.answer('breaker/1', 'declined', 'soft');
SELECT psp, count(*) FROM pg_temp.show('breaker%'), pg_temp.claim('c') GROUP BY psp;
SELECT pg_temp.answer('breaker/1', 'declined', 'soft');
SELECT * FROM pg_temp.show('breaker%');
SELECT payment.reset_breaker('fail b');
SELECT count(*) FROM pg_temp.claim('b');
SELECT pg_temp.answer('breaker/1', 'succeeded', reference => 'b_breaker');

-- a PSP that nobody reaches: as many tries as it has, then the next, with tries of its own
SELECT pg_temp.buy('away'), pg_temp.buy('busy'), pg_temp.buy('broken');
SELECT count(*) FROM pg_temp.claim('a');
SELECT pg_temp.answer('away/1', 'retry', http => NULL), pg_temp.answer('busy/1', 'retry', http => 429), pg_temp.answer('broken/1', 'retry', http => 503);
SELECT name, psp, no, queue FROM pg_temp.show('%') WHERE name ~ '^(away|busy|broken)';
SELECT pg_temp.skip_time(n || '/1') FROM unnest('{away,busy,broken}'::text[]) AS n;
SELECT count(*) FROM pg_temp.claim('a');
SELECT pg_temp.answer('away/1', 'retry', http => NULL), pg_temp.answer('busy/1', 'retry', http => 429), pg_temp.answer('broken/1', 'retry', http => NULL);
SELECT name, psp, status, no, queue FROM pg_temp.show('%') WHERE name ~ '^(away|busy|broken)';
SELECT pg_temp.skip_time(n || '/1') FROM unnest('{away,busy,broken}'::text[]) AS n;
SELECT count(*) FROM pg_temp.claim('a');
SELECT name, psp, status, no, queue FROM pg_temp.show('broken%');
SELECT * FROM pg_temp.claim('b');
SELECT pg_temp.answer('away/1', 'succeeded', reference => 'b_away'), pg_temp.answer('busy/1', 'succeeded', reference => 'b_busy');
SELECT * FROM pg_temp.attempts('away/1');

-- S15 never from what is unknown or pending, nor after it, however it ends
SELECT pg_temp.buy('S15 ' || n) FROM unnest('{unknown,pending,lapsed,unsure}'::text[]) AS n;
SELECT count(*) FROM pg_temp.claim('a');
SELECT pg_temp.answer('S15 unknown/1', 'unknown'), pg_temp.answer('S15 pending/1', 'pending', reference => 'a_pending'), pg_temp.answer('S15 unsure/1', 'unknown');
SELECT * FROM pg_temp.show('S15%');
-- ... also when somebody asks for it
SELECT n, pg_temp.refusal(format('SELECT payment.retry_order(pg_temp.object(%L), %L, %L)', 'S15 ' || n || '/1', 'fo retry S15 ' || n, 'fail b'))
FROM unnest('{unknown,pending,lapsed}'::text[]) AS n;
SELECT pg_temp.skip_time('S15%');
SELECT * FROM pg_temp.claim('a');
SELECT pg_temp.answer('S15 unknown/1', 'declined', 'soft'), pg_temp.answer('S15 pending/1', 'declined', 'soft'),
    pg_temp.answer('S15 lapsed/1', 'declined', 'soft', n => 1), pg_temp.answer('S15 unsure/1', 'not_found');
SELECT * FROM pg_temp.show('S15%');
SELECT pg_temp.skip_time('S15%');
-- the same key again, and a no to it: one more word of that PSP, still no reason to trust it
UPDATE payment.task SET tries = 0 WHERE object_id = pg_temp.object('S15 unsure/1');
SELECT * FROM pg_temp.claim('a');
SELECT pg_temp.answer('S15 unsure/1', 'declined', 'soft');
SELECT * FROM pg_temp.show('S15%');
SELECT count(*) FROM pg_temp.claim('b');
-- ... nor by itself from a later try, since nobody ever heard how that request ended
SELECT payment.retry_order(pg_temp.object('S15 unknown/1'), 'fo retry S15 later');
SELECT * FROM pg_temp.claim('a');
SELECT pg_temp.answer('S15 unknown/1', 'declined', 'soft');
SELECT * FROM pg_temp.show('S15 unknown%');
-- a decline is a decline then: the application may ask for another try
SELECT payment.retry_order(pg_temp.object('S15 unsure/1'), 'fo retry S15 again', 'fail b');
SELECT * FROM pg_temp.claim('b');
SELECT pg_temp.answer('S15 unsure/1', 'succeeded', reference => 'b_S15');
SELECT * FROM pg_temp.show('S15 unsure%');

-- the PSP that an order has left says no once more, or nothing clear: nothing changes
SELECT pg_temp.buy('left ' || n) FROM unnest('{unsent,sent,done,both,batch,lost}'::text[]) AS n;
SELECT count(*) FROM pg_temp.claim('a');
SELECT pg_temp.answer('left ' || n || '/1', 'declined', 'soft', 'a_' || n) FROM unnest('{unsent,sent,done,both,lost}'::text[]) AS n;
SELECT o, pg_temp.answer('left unsent/1', o, n => 1) FROM unnest('{declined,failed,unknown,pending,retry}'::text[]) AS o;
SELECT * FROM pg_temp.show('left unsent/%');
-- it has charged after all, before the next one was asked: people hear of it, nothing is posted, nothing sent
SELECT pg_temp.answer('left unsent/1', 'succeeded', reference => 'a_unsent', n => 1);
SELECT * FROM pg_temp.show('left unsent/%');
-- ... also when both words come at once
SELECT payment.record_outcomes(ARRAY[pg_temp.outcome('left batch/1', 'declined', 'soft'), pg_temp.outcome('left batch/1', 'succeeded', reference => 'a_batch')]);
SELECT * FROM pg_temp.show('left batch/%');
SELECT name FROM pg_temp.claim('b');
SELECT payment.retry_dead_letter(task_id) FROM payment.dead_letter WHERE object_id = pg_temp.object('left unsent/1');
SELECT name FROM pg_temp.claim('b');
SELECT d.last_error, d.history -> 0 ->> 'psp' AS first FROM payment.dead_letter AS d WHERE object_id = pg_temp.object('left unsent/1');
-- ... while the next one was at it: not repeated, wherever it is not known to have arrived
SELECT pg_temp.answer('left sent/1', 'succeeded', reference => 'a_sent', n => 1), pg_temp.answer('left lost/1', 'succeeded', reference => 'a_lost', n => 1),
    pg_temp.answer('left both/1', 'succeeded', reference => 'a_both', n => 1);
SELECT pg_temp.answer('left sent/1', 'retry', http => NULL), pg_temp.answer('left lost/1', 'unknown');
SELECT pg_temp.skip_time('left ' || n || '/1') FROM unnest('{sent,lost}'::text[]) AS n;
UPDATE payment.task SET tries = 0 WHERE object_id = pg_temp.object('left lost/1');
SELECT * FROM pg_temp.claim('b');
SELECT pg_temp.answer('left lost/1', 'not_found');
SELECT pg_temp.skip_time('left lost/1');
SELECT * FROM pg_temp.claim('b');
SELECT * FROM pg_temp.show('left sent/%') UNION ALL SELECT * FROM pg_temp.show('left lost/%');
-- ... and the next one says no: it stays there
SELECT pg_temp.answer('left both/1', 'declined', 'soft');
SELECT * FROM pg_temp.show('left both/%');
SELECT pg_temp.refusal($$SELECT payment.retry_order(pg_temp.object('left both/1'), 'fo retry left both')$$);
-- ... after the next one has charged: twice paid, credited once
SELECT pg_temp.answer('left done/1', 'succeeded', reference => 'b_done');
SELECT pg_temp.answer('left done/1', 'succeeded', reference => 'a_done', n => 1) FROM generate_series(1, 2);
SELECT * FROM pg_temp.show('left done/%');
SELECT * FROM pg_temp.exceptions('left%');
SELECT name, count(j.*) FROM unnest('{unsent,sent,done,both,batch,lost}'::text[]) AS name
    LEFT JOIN payment.journal AS j ON j.subject = pg_temp.object('left ' || name || '/1') GROUP BY 1 ORDER BY 1;

-- attempts are limited
BEGIN;
SET LOCAL payment.max_attempts_per_order = 2;
SELECT pg_temp.buy('limit');
SELECT count(*) FROM pg_temp.claim('a');
SELECT pg_temp.answer('limit/1', 'declined', 'soft');
SELECT count(*) FROM pg_temp.claim('b');
SELECT pg_temp.answer('limit/1', 'declined', 'soft');
SELECT * FROM pg_temp.show('limit%');
SELECT pg_temp.refusal($$SELECT payment.retry_order(pg_temp.object('limit/1'), 'fo retry limit')$$);
ROLLBACK;

-- S10 a decline, then another try under a new key
SELECT pg_temp.buy('S10', '{10.00,10.00}', psp => 'fail a');
SELECT count(*) FROM pg_temp.claim('a');
SELECT pg_temp.answer('S10/1', 'succeeded', reference => 'a_S10'), pg_temp.answer('S10/2', 'declined', 'hard', 'a_S10_1');
SELECT * FROM pg_temp.show('S10/%');
SELECT payment.retry_order(pg_temp.object('S10/2'), 'fo retry S10 try');
SELECT * FROM pg_temp.show('S10/%');
-- once for a key
SELECT payment.retry_order(pg_temp.object('S10/2'), 'fo retry S10 try');
SELECT pg_temp.refusal($$SELECT payment.retry_order(pg_temp.object('S10/2'), 'fo retry S10 try', 'fail a')$$);
SELECT pg_temp.refusal($$SELECT payment.retry_order(pg_temp.object('S10/2'), 'fo S10')$$);
SELECT * FROM pg_temp.claim('a');
-- the first try's no comes again: that is old
SELECT pg_temp.answer('S10/2', 'declined', 'soft', 'a_S10_1', n => 1);
SELECT pg_temp.answer('S10/2', 'declined', 'soft', 'a_S10_2');
SELECT * FROM pg_temp.show('S10/%');
-- at another PSP, with what it calls the card
SELECT payment.retry_order(pg_temp.object('S10/2'), 'fo retry S10 other', 'fail b');
SELECT * FROM pg_temp.claim('b');
SELECT pg_temp.answer('S10/2', 'declined', 'soft');
SELECT payment.retry_order(pg_temp.object('S10/2'), 'fo retry S10 card', payment_method => 'fo_other_card');
SELECT * FROM pg_temp.claim('b');
SELECT pg_temp.answer('S10/2', 'declined', 'soft');
SELECT payment.retry_order(pg_temp.object('S10/2'), 'fo retry S10 back', 'fail a');
SELECT * FROM pg_temp.claim('a');
SELECT pg_temp.answer('S10/2', 'succeeded', reference => 'a_S10_5');
SELECT * FROM pg_temp.show('S10/%');
SELECT * FROM pg_temp.attempts('S10/2');
SELECT pg_temp.history('S10/2');
SELECT payment.retry_order(pg_temp.object('S10/2'), 'fo retry S10 back', 'fail a');
SELECT string_agg(h.to_status || ' (' || h.cause || ')', ', ' ORDER BY h.id) AS payment FROM payment.status_history AS h
WHERE h.object_id = (SELECT payment_id FROM payment.order_record WHERE id = pg_temp.object('S10/2'));
-- a first try that charged all the same, with another one on its way: one of them counts
SELECT pg_temp.buy('S10 late', psp => 'fail a');
SELECT count(*) FROM pg_temp.claim('a');
SELECT pg_temp.answer('S10 late/1', 'declined', 'soft', 'a_late_1');
SELECT payment.retry_order(pg_temp.object('S10 late/1'), 'fo retry S10 late', 'fail b');
SELECT pg_temp.answer('S10 late/1', 'succeeded', reference => 'a_late_1');
SELECT * FROM pg_temp.show('S10 late%');
SELECT count(*) FROM pg_temp.claim('b');
SELECT * FROM pg_temp.exceptions('S10%');
-- routed orders go on from a retry, to where they have not been
SELECT pg_temp.buy('again');
SELECT count(*) FROM pg_temp.claim('a');
SELECT pg_temp.answer('again/1', 'declined', 'hard');
SELECT payment.retry_order(pg_temp.object('again/1'), 'fo retry again');
SELECT * FROM pg_temp.claim('a');
SELECT pg_temp.answer('again/1', 'declined', 'soft');
SELECT * FROM pg_temp.claim('b');
SELECT pg_temp.answer('again/1', 'declined', 'hard');
-- ... not once somebody says where, or with what
SELECT payment.retry_order(pg_temp.object('again/1'), 'fo retry again at', 'fail a');
SELECT * FROM pg_temp.claim('a');
SELECT pg_temp.answer('again/1', 'declined', 'soft');
SELECT * FROM pg_temp.show('again%');

-- what is refused
SELECT pg_temp.buy('no created'), pg_temp.buy('no token', psp => 'fail a', methods => '{"fail a": "fo_a"}');
SELECT count(*) FROM pg_temp.claim('a');
SELECT pg_temp.buy('no unsent'), pg_temp.answer('no token/1', 'declined', 'hard'), pg_temp.answer('no created/1', 'failed', 'hard');
SELECT a, pg_temp.refusal(format('SELECT payment.retry_order(%s)', a)) FROM unnest(ARRAY['NULL, ''k''', 'pg_temp.object(''S10/1''), NULL',
    'pg_temp.object(''S10/1''), ''''', 'gen_random_uuid(), ''fo x''', 'pg_temp.object(''S10/1''), ''fo x''', 'pg_temp.object(''no created/1''), ''fo x''',
    'pg_temp.object(''no unsent/1''), ''fo x''', 'pg_temp.object(''no token/1''), ''fo x'', ''fail b''', 'pg_temp.object(''no token/1''), ''fo x'', ''no such''',
    'pg_temp.object(''no token/1''), ''fo x'', ''''', 'pg_temp.object(''no token/1''), ''fo x'', payment_method => ''4111 1111 1111 1111''',
    'pg_temp.object(''no token/1''), ''fo soft''']) AS a;
UPDATE payment.seller SET state = 'suspended' WHERE reference = 'fail seller 1';
SELECT pg_temp.refusal($$SELECT payment.retry_order(pg_temp.object('no token/1'), 'fo retry x')$$);
UPDATE payment.seller SET state = 'active' WHERE reference = 'fail seller 1';
-- nothing is sent to a PSP that is paused, named or not
UPDATE payment.psp SET state = 'paused' WHERE name IN ('fail a', 'fail b');
SELECT pg_temp.refusal($$SELECT payment.retry_order(pg_temp.object('no token/1'), 'fo retry x')$$);
SELECT pg_temp.refusal($$SELECT payment.retry_order(pg_temp.object('no token/1'), 'fo retry x', 'fail b', 'fo_b')$$);
-- ... but a key that did its work says so
SELECT payment.retry_order(pg_temp.object('S10/2'), 'fo retry S10 back', 'fail a');
UPDATE payment.psp SET state = 'active' WHERE name IN ('fail a', 'fail b');
SELECT payment.retry_order(pg_temp.object('no token/1'), 'fo retry x', 'fail b', 'fo_b');

-- a 5xx that is to be repeated may have been executed: what the repeat is told changes nothing
SELECT pg_temp.buy('trace');
SELECT name, key FROM pg_temp.claim('a');
SELECT pg_temp.answer('trace/1', 'retry', http => 500), pg_temp.skip_time('trace/1');
SELECT name, key FROM pg_temp.claim('a');
SELECT pg_temp.answer('trace/1', 'failed', 'not_applicable', http => 400);
SELECT * FROM pg_temp.show('trace/1');
SELECT name, key FROM pg_temp.claim('b');

-- settlement: who captured settles; the other one's line settles nothing
BEGIN;
SELECT payment.import_settlement('fail ' || p, 'stripe_csv', p || '.csv', convert_to(
    E'balance_transaction_id,currency,gross,fee,net,reporting_category,created_utc,available_on_utc,source_id,charge_id,payment_intent_id,payment_metadata[payment_order]\n'
    || 'fo_txn_' || p || ',eur,10.00,0.00,10.00,charge,2026-11-01 00:00:00,2026-11-02 00:00:00,ch_' || p || ',ch_' || p || ',' || p || '_soft,'
    || pg_temp.object('soft/1') || E'\n', 'UTF8')) IS NOT NULL AS imported FROM unnest('{a,b}'::text[]) AS p;
SELECT (payment.reconcile('fail a', '-infinity')).lines_excepted, (payment.reconcile('fail b', '-infinity')).lines_matched;
SELECT * FROM pg_temp.exceptions('soft%');
SELECT count(*) AS unsettled FROM payment.unsettled_order WHERE order_id = pg_temp.object('soft/1');
ROLLBACK;
-- by hand no order changes its PSP, and the extension itself not once the money may have moved
UPDATE payment.order_record SET psp_id = (SELECT id FROM payment.psp WHERE name = 'fail c') WHERE id = pg_temp.object('soft/1');
SELECT count(*) FROM unnest('{a,b,c}'::text[]) AS p WHERE payment.remove_routing_rule('fail ' || p);
SELECT * FROM payment.verify();
