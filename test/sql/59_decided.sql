-- What people decide never takes more money back, nor gives more, than the
-- exception is about.
\getenv inputdir PG_ABS_SRCDIR
\set dispatch :inputdir '/lib/dispatch.sql'
\set webhook :inputdir '/lib/webhook.sql'
SET client_min_messages = warning;
\set ECHO none
\i :dispatch
\i :webhook
\set ECHO all
RESET client_min_messages;
SET test.psp = 'decided';
SELECT pg_temp.register_psp();
SELECT count(payment.set_fee_schedule(0, 0, payment.register_seller('decided seller ' || n, 'Seller ' || n), 'EUR')) AS registered
FROM generate_series(1, 3) AS n;
-- sellers of our own, of whom no other test has money
CREATE OR REPLACE FUNCTION pg_temp.pay(name text, VARIADIC amounts text[]) RETURNS void LANGUAGE sql AS $$
    SELECT payment.checkout(current_setting('test.psp') || ' ' || name, 'payer', (SELECT jsonb_agg(jsonb_build_object('seller',
            'decided seller ' || n, 'amount', a, 'currency', 'EUR', 'reference', name || '/' || n) ORDER BY n)
        FROM unnest(amounts) WITH ORDINALITY AS u (a, n)), psp => current_setting('test.psp'), payment_method => 'pm')
$$;
CREATE FUNCTION pg_temp.refusal(command text) RETURNS text LANGUAGE sql AS $$
    SELECT regexp_replace(pg_temp.sqlstate_of(command), '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', '<id>', 'g')
$$;
CREATE FUNCTION pg_temp.exception_of(object uuid, of_type text) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT id FROM payment.exception_record WHERE order_id = object AND type = of_type AND line_id IS NULL
$$;
CREATE FUNCTION pg_temp.decide(object uuid, of_type text, resolution text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM payment.propose_resolution(pg_temp.exception_of(object, of_type), resolution, 'Ann', 'seen');
    RETURN payment.approve_resolution(pg_temp.exception_of(object, of_type), resolution, 'Ben', 'seen too');
END
$$;
CREATE FUNCTION pg_temp.state_of(object uuid) RETURNS TABLE (status text, captured bigint, refunded bigint, disputed bigint, pending bigint) LANGUAGE sql AS $$
    SELECT status, captured_amount, refunded_amount, disputed_amount, pending_amount FROM payment.order_record WHERE id = object
$$;
-- the sums of all that was posted for an order, its refunds and disputes
CREATE FUNCTION pg_temp.books(object uuid) RETURNS TABLE (account text, amount bigint) LANGUAGE sql AS $$
    SELECT a.code, sum(e.amount)::bigint FROM payment.journal AS j JOIN payment.entry AS e ON e.journal_id = j.id
        JOIN payment.account AS a ON a.id = e.account_id
    WHERE j.subject IN (SELECT object UNION SELECT id FROM payment.refund_record WHERE order_id = object
        UNION SELECT id FROM payment.dispute_record WHERE order_id = object)
    GROUP BY 1 HAVING sum(e.amount) <> 0 ORDER BY 1
$$;
CREATE FUNCTION pg_temp.tell_refund(refund uuid, outcome text, amount bigint) RETURNS integer LANGUAGE sql AS $$
    SELECT payment.record_outcomes(ARRAY[ROW((SELECT a.id FROM payment.attempt AS a WHERE a.object_id = refund ORDER BY a.id DESC LIMIT 1),
        outcome, 200, 5, 're_' || refund, amount, 'EUR', CASE outcome WHEN 'failed' THEN 'account_closed' END, NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome])
$$;
-- an order of 10.00 that is captured
CREATE FUNCTION pg_temp.paid(name text) RETURNS uuid LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_temp.pay(name, '10.00');
    PERFORM pg_temp.claim();
    PERFORM pg_temp.record(name || '/1', 'succeeded', 'pi_' || name);
    RETURN pg_temp.object(name || '/1');
END
$$;
-- ... although it had failed, of which people are told
CREATE FUNCTION pg_temp.late(name text) RETURNS uuid LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_temp.pay(name, '10.00');
    PERFORM pg_temp.claim();
    PERFORM pg_temp.record(name || '/1', 'failed'), pg_temp.record(name || '/1', 'succeeded', 'pi_' || name);
    RETURN pg_temp.object(name || '/1');
END
$$;
CREATE FUNCTION pg_temp.refunded(payment_order uuid, amount bigint, VARIADIC outcomes text[] DEFAULT '{}') RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    refund uuid := payment.refund(payment_order, amount, payment_order || ' ' || amount);
BEGIN
    PERFORM pg_temp.claim();
    PERFORM pg_temp.tell_refund(refund, outcome, amount) FROM unnest(outcomes) WITH ORDINALITY AS u (outcome, n) ORDER BY n;
    RETURN refund;
END
$$;

-- what another PSP has reserved is no word about the charge
SELECT count(payment.register_psp('decided ' || p, 'none', 'http://127.0.0.1:1', 'none')) AS psps FROM unnest('{a,b}'::text[]) AS p;
SELECT count(payment.set_routing_rule('decided ' || p, 'decided ' || p, n::integer, payment_method => 'decided_*')::text) AS rules
FROM unnest('{a,b}'::text[]) WITH ORDINALITY AS u (p, n);
CREATE FUNCTION pg_temp.answer(object uuid, psp text, outcome text, reference text, class text DEFAULT NULL) RETURNS integer LANGUAGE sql AS $$
    SELECT payment.record_outcomes(ARRAY[ROW((SELECT a.id FROM payment.attempt AS a JOIN payment.psp AS p ON p.id = a.psp_id
        WHERE a.object_id = object AND p.name = psp ORDER BY a.id DESC LIMIT 1), outcome, 200, 5, reference, 1000, 'EUR', NULL, NULL, NULL, class,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome])
$$;
CREATE FUNCTION pg_temp.gone_on(name text) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    object uuid := (payment.checkout('decided ' || name, 'payer', jsonb_build_array(jsonb_build_object('seller', 'decided seller 1',
        'amount', '10.00', 'currency', 'EUR', 'reference', name)), payment_methods => '{"decided a": "decided_a", "decided b": "decided_b"}')).order_ids[1];
BEGIN
    PERFORM p.name FROM payment.psp AS p, payment.claim_tasks(p.id, 10, 60000) WHERE p.name = 'decided a';
    PERFORM pg_temp.answer(object, 'decided a', 'declined', name || '_a', 'soft');
    PERFORM p.name FROM payment.psp AS p, payment.claim_tasks(p.id, 10, 60000) WHERE p.name = 'decided b';
    PERFORM pg_temp.answer(object, 'decided a', 'authorized', name || '_a');
    PERFORM pg_temp.answer(object, 'decided b', 'succeeded', name || '_b');
    RETURN object;
END
$$;
SELECT pg_temp.gone_on('left1') AS left1, pg_temp.gone_on('left2') AS left2 \gset
SELECT pg_temp.decide(:'left1', 'status', 'refunded_outside'), pg_temp.decide(:'left2', 'status', 'not_executed');
SELECT * FROM pg_temp.state_of(:'left1') UNION ALL SELECT * FROM pg_temp.state_of(:'left2');
SELECT * FROM pg_temp.books(:'left1');

-- a reservation that the same PSP had after we gave up: it became the charge, and says nothing of it
SELECT pg_temp.pay('given', '10.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('given/1', 'failed'), pg_temp.record('given/1', 'authorized', 'pi_given'), pg_temp.record('given/1', 'succeeded', 'pi_given');
SELECT pg_temp.decide(pg_temp.object('given/1'), 'status', 'not_executed');
SELECT * FROM pg_temp.state_of(pg_temp.object('given/1'));

-- one of several captures fails: that is not all of the order
SET test.psp = 'decided adyen';
SELECT pg_temp.write_secret('decided_adyen', '44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056');
SELECT count(payment.register_psp('decided adyen', 'adyen', 'http://127.0.0.1:1', 'none',
    '{"payouts": false, "config": {"merchant_account": "Shop_EUR", "return_url": "https://shop.example/"}}',
    webhook_secret_names => '{decided_adyen}')) AS registered;
SELECT count(payment.checkout('decided captures', 'payer', (SELECT jsonb_agg(jsonb_build_object('seller', 'decided seller ' || n, 'amount', '10.00',
    'currency', 'EUR', 'reference', 'cap/' || n) ORDER BY n) FROM generate_series(1, 3) AS n),
    psp => 'decided adyen', payment_method => 'pm', capture => 'manual')) AS checked_out;
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('cap/' || n, 'authorized', 'REF_cap' || n, authorized_until => now() + interval '7 days', child_reference => 'AUTH_cap' || n)
FROM generate_series(1, 3) AS n;
CREATE FUNCTION pg_temp.captured(name text, amount bigint, number integer, final boolean) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    PERFORM payment.capture(pg_temp.object(name), name || number, amount, final);
    PERFORM pg_temp.claim();
    RETURN pg_temp.record(name, 'succeeded', 'REF_' || replace(name, '/', ''), amount, child_reference => 'CAP_' || name || number);
END
$$;
CREATE FUNCTION pg_temp.capture_fails(name text, amount bigint, number integer) RETURNS integer LANGUAGE sql AS $$
    SELECT a.http_status FROM pg_temp.receive(pg_temp.batch(pg_temp.item('psp_' || name || number, name, 'CAPTURE_FAILED', amount,
        original => 'REF_' || replace(name, '/', ''), reference => pg_temp.object(name) || '.capture.' || number)), '{}') AS a
$$;
SELECT pg_temp.captured('cap/1', 400, 1, false), pg_temp.captured('cap/1', 600, 2, true), pg_temp.captured('cap/2', 400, 1, false),
    pg_temp.captured('cap/3', 1000, 1, true);
SELECT pg_temp.capture_fails('cap/1', 400, 1), pg_temp.capture_fails('cap/2', 400, 1), pg_temp.capture_fails('cap/3', 1000, 1);
SELECT pg_temp.refusal(format('SELECT pg_temp.decide(%L, %L, %L)', pg_temp.object(n), 'status', 'refunded_outside')) AS state, n
FROM unnest('{cap/1,cap/2}'::text[]) AS n;
SELECT pg_temp.decide(pg_temp.object('cap/1'), 'status', 'kept'), pg_temp.decide(pg_temp.object('cap/3'), 'status', 'refunded_outside');
SELECT * FROM pg_temp.state_of(pg_temp.object('cap/1')) UNION ALL SELECT * FROM pg_temp.state_of(pg_temp.object('cap/2'))
UNION ALL SELECT * FROM pg_temp.state_of(pg_temp.object('cap/3'));
SET test.psp = 'decided';

-- a refund that failed and then succeeded: kept
SELECT pg_temp.paid('kept') AS o \gset
SELECT pg_temp.refunded(:'o', 400, 'failed', 'succeeded') AS r \gset
SELECT * FROM pg_temp.state_of(:'o');
-- while nobody knows, no other one is asked for
SELECT pg_temp.refusal(format('SELECT payment.refund(%L, 1000, %L)', :'o', 'kept twice'));
SELECT pg_temp.refusal(format('SELECT pg_temp.decide(%L, %L, %L)', :'r', 'late_success', w)) AS state, w FROM unnest('{captured,written_off}'::text[]) AS w;
SELECT pg_temp.decide(:'r', 'late_success', 'kept');
SELECT status, failure_code FROM payment.refund_record WHERE id = :'r';
SELECT * FROM pg_temp.state_of(:'o');
SELECT * FROM pg_temp.books(:'o');
SELECT kind, account, amount FROM (SELECT j.kind, a.code AS account, e.amount, j.id, e.leg FROM payment.journal AS j
    JOIN payment.entry AS e ON e.journal_id = j.id JOIN payment.account AS a ON a.id = e.account_id WHERE j.subject = :'r') AS x ORDER BY id, leg;
-- that it had failed is told again: people look
SELECT pg_temp.tell_refund(:'r', 'failed', 400);
SELECT status FROM payment.refund_record WHERE id = :'r';
SELECT pg_temp.refusal(format('SELECT pg_temp.decide(%L, %L, %L)', :'r', 'status', w)) AS state, w FROM unnest('{refunded_outside,not_executed}'::text[]) AS w;
SELECT pg_temp.decide(:'r', 'status', 'kept');
SELECT payment.refund(:'o', 600, 'kept rest') IS NOT NULL AS asked;
-- after a release the seller owes it
SELECT pg_temp.paid('owed') AS o \gset
SELECT pg_temp.refunded(:'o', 400, 'succeeded', 'failed', 'succeeded') AS r \gset
SELECT payment.release(:'o');
SELECT count(payment.payout(seller_id, 1000, 'EUR', 'bank', 'decided payout', 'decided')) AS paid_out FROM payment.order_record WHERE id = :'o';
SELECT pg_temp.decide(:'r', 'late_success', 'kept');
SELECT * FROM pg_temp.books(:'o');
-- more than is left, or otherwise than asked: no decision does that
SELECT pg_temp.paid('much') AS o \gset
SELECT pg_temp.refunded(:'o', 400, 'failed') AS r \gset
SELECT pg_temp.refunded(:'o', 1000, 'succeeded') IS NOT NULL AS refunded;
SELECT pg_temp.tell_refund(:'r', 'succeeded', 400);
SELECT pg_temp.refusal(format('SELECT pg_temp.decide(%L, %L, %L)', :'r', 'late_success', 'kept'));
SELECT pg_temp.decide(:'r', 'late_success', 'refunded_outside');
SELECT pg_temp.paid('other') AS o \gset
SELECT pg_temp.refunded(:'o', 400, 'failed') AS r \gset
SELECT pg_temp.tell_refund(:'r', 'succeeded', 300);
SELECT pg_temp.refusal(format('SELECT pg_temp.decide(%L, %L, %L)', :'r', 'late_success', 'kept'));
-- not executed (failure told before success): the order can be refunded again
SELECT pg_temp.decide(:'r', 'late_success', 'not_executed');
SELECT status FROM payment.refund_record WHERE id = :'r';
SELECT * FROM pg_temp.books(:'o');
SELECT payment.refund(:'o', 1000, 'other again') IS NOT NULL AS asked;

-- all or nothing: the machine waits, too
SET payment.undo_refund_delay_ms = 0;
CREATE FUNCTION pg_temp.refunds(payment_order uuid) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(status, ', ' ORDER BY id) FROM payment.refund WHERE order_id = payment_order
$$;
CREATE FUNCTION pg_temp.undo(payment_order uuid) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    -- no waiting, past the guard
    ALTER TABLE payment.partial_failure DISABLE TRIGGER guard_rows;
    UPDATE payment.partial_failure SET due_at = now() - interval '1 s';
    ALTER TABLE payment.partial_failure ENABLE ALWAYS TRIGGER guard_rows;
    PERFORM payment.undo_partial_failures(1000);
    RETURN pg_temp.refunds(payment_order);
END
$$;
CREATE FUNCTION pg_temp.half(name text) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    object uuid;
    refund uuid;
BEGIN
    PERFORM payment.checkout('decided ' || name, 'payer', (SELECT jsonb_agg(jsonb_build_object('seller', 'decided seller ' || n,
        'amount', '10.00', 'currency', 'EUR', 'reference', name || '/' || n)) FROM generate_series(1, 2) AS n),
        psp => 'decided', payment_method => 'pm', on_partial_failure => 'all_or_nothing');
    PERFORM pg_temp.claim();
    PERFORM pg_temp.record(name || '/1', 'succeeded', 'pi_' || name), pg_temp.record(name || '/2', 'declined');
    object := pg_temp.object(name || '/1');
    PERFORM pg_temp.undo(object);
    PERFORM pg_temp.claim();
    SELECT id INTO refund FROM payment.refund_record WHERE order_id = object;
    PERFORM pg_temp.tell_refund(refund, 'failed', 1000), pg_temp.tell_refund(refund, 'succeeded', 1000);
    RETURN object;
END
$$;
SELECT pg_temp.half('half1') AS half1, pg_temp.half('half2') AS half2 \gset
SELECT pg_temp.undo(:'half1'), pg_temp.refunds(:'half2');
SELECT pg_temp.decide((SELECT id FROM payment.refund_record WHERE order_id = :'half1' ORDER BY id LIMIT 1), 'late_success', 'kept');
SELECT pg_temp.decide((SELECT id FROM payment.refund_record WHERE order_id = :'half2' ORDER BY id LIMIT 1), 'late_success', 'not_executed');
SELECT pg_temp.undo(:'half1'), pg_temp.refunds(:'half2');
RESET payment.undo_refund_delay_ms;

-- nothing is reversed while a refund of it is under way, or in doubt
SELECT pg_temp.late('way') AS o \gset
SELECT pg_temp.refunded(:'o', 400) AS r \gset
SELECT pg_temp.refusal(format('SELECT pg_temp.decide(%L, %L, %L)', :'o', 'late_success', 'refunded_outside'));
SELECT pg_temp.tell_refund(:'r', 'failed', 400), pg_temp.tell_refund(:'r', 'succeeded', 400);
SELECT pg_temp.refusal(format('SELECT pg_temp.decide(%L, %L, %L)', :'o', 'late_success', 'refunded_outside'));
SELECT pg_temp.decide(:'r', 'late_success', 'not_executed'), pg_temp.decide(:'o', 'late_success', 'refunded_outside');
SELECT * FROM pg_temp.books(:'o');
-- a refund of a reversed order fails after all: the seller has nothing to get
SELECT pg_temp.late('back') AS o \gset
SELECT pg_temp.refunded(:'o', 400, 'succeeded') AS r \gset
SELECT pg_temp.decide(:'o', 'late_success', 'refunded_outside');
SELECT pg_temp.tell_refund(:'r', 'failed', 400);
SELECT * FROM pg_temp.state_of(:'o');
SELECT * FROM pg_temp.books(:'o');

-- what a dispute has taken is not taken again; while one is open, nothing is
SET test.psp = 'decided stripe';
SET test.webhook_secret = 'whsec_decided';
SELECT pg_temp.write_secret('decided', 'whsec_decided');
SELECT count(payment.register_psp('decided stripe', 'stripe', 'http://127.0.0.1:1', 'none', webhook_secret_names => '{decided}')) AS registered;
CREATE FUNCTION pg_temp.disputed(name text, amount integer, status text, at integer) RETURNS integer LANGUAGE sql AS $$
    SELECT (pg_temp.receive(pg_temp.event('evt_' || name || at, 'charge.dispute.updated', jsonb_build_object('id', 'dp_' || name, 'object', 'dispute',
        'amount', amount, 'currency', 'eur', 'payment_intent', 'pi_' || name, 'status', status, 'reason', 'fraudulent',
        'balance_transactions', jsonb_build_array(jsonb_build_object('amount', -amount, 'fee', 0, 'currency', 'eur'))),
        jsonb_build_object('created', 1760000000 + at)))).http_status
$$;
SELECT pg_temp.late('all') AS o \gset
SELECT pg_temp.late('part') AS part \gset
SELECT pg_temp.disputed('all', 1000, 'needs_response', 1), pg_temp.disputed('part', 300, 'needs_response', 1);
SELECT pg_temp.refusal(format('SELECT pg_temp.decide(%L, %L, %L)', :'o', 'late_success', 'refunded_outside'));
SELECT pg_temp.disputed('all', 1000, 'lost', 2), pg_temp.disputed('part', 300, 'lost', 2);
SELECT pg_temp.decide(:'o', 'late_success', 'refunded_outside'), pg_temp.decide(:'part', 'late_success', 'not_executed');
SELECT * FROM pg_temp.state_of(:'o') UNION ALL SELECT * FROM pg_temp.state_of(:'part');
SELECT * FROM pg_temp.books(:'o');
SELECT * FROM pg_temp.books(:'part');
-- and the other way round: of what was taken back nobody has anything left, and what comes back is the payer's
CREATE FUNCTION pg_temp.given_back(name text, at integer) RETURNS integer LANGUAGE sql AS $$
    SELECT (pg_temp.receive(pg_temp.event('evt_' || name || at, 'charge.dispute.updated', jsonb_build_object('id', 'dp_' || name, 'object', 'dispute',
        'amount', 1000, 'currency', 'eur', 'payment_intent', 'pi_' || name, 'status', 'won', 'reason', 'fraudulent',
        'balance_transactions', '[{"amount": -1000, "fee": 0, "currency": "eur"}, {"amount": 1000, "fee": 0, "currency": "eur"}]'::jsonb),
        jsonb_build_object('created', 1760000000 + at)))).http_status
$$;
SELECT pg_temp.late('first') AS first \gset
SELECT pg_temp.decide(:'first', 'late_success', 'refunded_outside'), pg_temp.disputed('first', 1000, 'needs_response', 1);
SELECT * FROM pg_temp.state_of(:'first');
SELECT * FROM pg_temp.books(:'first');
SELECT pg_temp.given_back('first', 2), pg_temp.given_back('all', 3);
SELECT * FROM pg_temp.state_of(:'first') UNION ALL SELECT * FROM pg_temp.state_of(:'o');
SELECT * FROM pg_temp.books(:'first');
SELECT * FROM pg_temp.books(:'o');
SELECT * FROM payment.verify();
