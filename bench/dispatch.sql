-- What bench/dispatch measures with: sellers, a dispatcher with canned answers,
-- and the same rows written by plain SQL.
SELECT count(payment.register_seller('bench ' || n, 'Seller ' || n)) FROM generate_series(1, 1000) n;
SELECT payment.set_fee_schedule(fixed => 0, basis_points => 1000) IS NOT NULL;

-- canned: claims and records as the worker does, in batches, a batch recorded
-- and the next one claimed in one transaction; every answer is a success, and
-- there is no HTTP.  Ends when "total" orders are captured.
CREATE SCHEMA canned;
CREATE PROCEDURE canned.dispatch(psp_name text, total integer) LANGUAGE plpgsql AS $$
DECLARE
    psp_id uuid := (SELECT id FROM payment.psp WHERE name = psp_name);
    answers payment.attempt_outcome[];
    done integer := 0;
BEGIN
    LOOP
        IF answers IS NOT NULL THEN
            PERFORM payment.record_outcomes(answers);
            done := done + cardinality(answers);
        END IF;
        SELECT array_agg(jsonb_populate_record(NULL::payment.attempt_outcome, jsonb_build_object(
                'attempt_id', c.attempt_id, 'outcome', 'succeeded', 'http_status', 200, 'latency_ms', 1,
                'psp_reference', 'canned_' || c.object_id, 'amount', c.amount, 'currency', c.currency)))
            INTO answers FROM payment.claim_tasks(psp_id, 200, 60000) c;
        COMMIT;
        EXIT WHEN done >= total;
        IF answers IS NULL THEN
            PERFORM pg_sleep(0.001);
        END IF;
    END LOOP;
END
$$;

-- plain: the same rows in tables with the same columns, storage and indexes,
-- by plain SQL: no rule, no trigger, no history but its rows, no partition.
CREATE SCHEMA plain;
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['payment_record', 'order_record', 'status_history', 'attempt', 'journal', 'entry'] LOOP
        EXECUTE format('CREATE TABLE plain.%1$I (LIKE payment.%1$I_default INCLUDING DEFAULTS INCLUDING INDEXES INCLUDING STORAGE)',
            name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['idempotency', 'psp_reference', 'task', 'unsettled_order', 'balance_slot'] LOOP
        EXECUTE format('CREATE TABLE plain.%1$I (LIKE payment.%1$I INCLUDING DEFAULTS INCLUDING INDEXES INCLUDING STORAGE)', name);
    END LOOP;
END
$$;
ALTER TABLE plain.payment_record SET (fillfactor = 80);
ALTER TABLE plain.order_record SET (fillfactor = 80);
ALTER TABLE plain.attempt SET (fillfactor = 80);
ALTER TABLE plain.task SET (fillfactor = 70);
ALTER TABLE plain.unsettled_order SET (fillfactor = 90);
ALTER TABLE plain.balance_slot SET (fillfactor = 50);
INSERT INTO plain.balance_slot SELECT payment.new_id(), n, 0 FROM generate_series(1, 1002) n;
CREATE TABLE plain.slot_of AS SELECT slot AS n, account_id FROM plain.balance_slot;
ALTER TABLE plain.slot_of ADD PRIMARY KEY (n);

-- what checkout() writes for a payment with one order
CREATE FUNCTION plain.checkout(idempotency_key text, psp uuid, seller integer) RETURNS uuid LANGUAGE sql AS $$
    WITH ids AS MATERIALIZED (
        SELECT payment.new_id() AS payment, payment.new_id() AS "order", payment.new_id() AS task,
            (SELECT account_id FROM plain.slot_of WHERE n = seller + 2) AS seller, clock_timestamp() AS now
    ), i AS (
        INSERT INTO plain.idempotency
        SELECT idempotency_key, 'pay_in', decode(repeat('ab', 32), 'hex'), ARRAY[payment, "order"] FROM ids
    ), p AS (
        INSERT INTO plain.payment_record (id, payer, psp_id, payment_method, status, order_count, updated_at)
        SELECT payment, 'payer', psp, 'pm_card_visa', 'created', 1, now FROM ids
    ), o AS (
        INSERT INTO plain.order_record (id, payment_id, seller_id, psp_id, amount, currency, platform_fee, status, updated_at)
        SELECT "order", payment, seller, psp, 1000, 'EUR', 100, 'created', now FROM ids
    ), h AS (
        INSERT INTO plain.status_history
        SELECT payment.new_id(), v.object, v.id, NULL, 'created', 'api', 'postgres', now
        FROM ids, LATERAL (VALUES ('payment', payment), ('payment_order', "order")) v (object, id)
    ), t AS (
        INSERT INTO plain.task (id, psp_id, operation, object_id, run_at) SELECT task, psp, 'pay', "order", now FROM ids
    )
    SELECT payment FROM ids
$$;

-- what claiming and recording write, in the same batches and transactions
CREATE FUNCTION plain.record(attempts uuid[], orders uuid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    now timestamptz := clock_timestamp();
BEGIN
    INSERT INTO plain.psp_reference SELECT o.psp_id, 'canned_' || o.id, o.id
        FROM plain.order_record o WHERE o.id = ANY (orders);
    UPDATE plain.order_record SET status = 'captured', captured_amount = amount, captured_at = now,
        psp_reference = 'canned_' || id, updated_at = now WHERE id = ANY (orders);
    UPDATE plain.payment_record p SET status = 'succeeded', succeeded_count = 1, updated_at = now
        FROM plain.order_record o WHERE o.id = ANY (orders) AND p.id = o.payment_id;
    INSERT INTO plain.status_history
        SELECT payment.new_id(), v.object, v.id, v.was, v.becomes, 'response', 'postgres', now FROM plain.order_record o,
            LATERAL (VALUES ('payment', o.payment_id, 'processing', 'succeeded'), ('payment_order', o.id, 'executing', 'captured'))
                v (object, id, was, becomes)
        WHERE o.id = ANY (orders);
    DELETE FROM plain.task WHERE object_id = ANY (orders);
    INSERT INTO plain.unsettled_order SELECT id, psp_id, captured_at FROM plain.order_record WHERE id = ANY (orders);
    WITH j AS MATERIALIZED (
        SELECT payment.new_id() AS id, o.id AS "order", o.seller_id FROM plain.order_record o WHERE o.id = ANY (orders)
    ), journal AS (
        INSERT INTO plain.journal (id, kind, subject, effective_at, recorded_at) SELECT id, 'capture', "order", now, now FROM j
    ), entry AS (
        INSERT INTO plain.entry
        SELECT j.id, v.leg, v.account_id, v.amount FROM j, LATERAL (VALUES
            (1, (SELECT account_id FROM plain.slot_of WHERE n = 1), 1000), (2, j.seller_id, -900),
            (3, (SELECT account_id FROM plain.slot_of WHERE n = 2), -100)) v (leg, account_id, amount)
        RETURNING account_id, amount
    )
    UPDATE plain.balance_slot s SET balance = s.balance + e.amount
        FROM (SELECT account_id, sum(amount) AS amount FROM entry GROUP BY account_id) e WHERE s.account_id = e.account_id;
    UPDATE plain.attempt SET finished_at = now, outcome = 'succeeded', http_status = 200, latency_ms = 1,
        psp_reference = 'canned_' || object_id WHERE id = ANY (attempts);
END
$$;

CREATE PROCEDURE plain.dispatch(psp uuid, total integer) LANGUAGE plpgsql AS $$
DECLARE
    tasks uuid[];
    orders uuid[];
    attempts uuid[];
    now timestamptz;
    done integer := 0;
BEGIN
    LOOP
        IF attempts IS NOT NULL THEN
            PERFORM plain.record(attempts, orders);
            done := done + cardinality(attempts);
        END IF;
        now := clock_timestamp();
        SELECT array_agg(t.id), array_agg(t.object_id), array_agg(payment.new_id()) INTO tasks, orders, attempts
            FROM (SELECT id, object_id FROM plain.task WHERE psp_id = psp AND run_at <= now AND dead_at IS NULL
                ORDER BY run_at LIMIT 200 FOR UPDATE SKIP LOCKED) t;
        UPDATE plain.order_record SET status = 'executing', attempt_no = 1, updated_at = now WHERE id = ANY (orders);
        UPDATE plain.payment_record p SET status = 'processing', updated_at = now
            FROM plain.order_record o WHERE o.id = ANY (orders) AND p.id = o.payment_id;
        INSERT INTO plain.status_history
            SELECT payment.new_id(), v.object, v.id, 'created', v.becomes, 'claim', 'postgres', now FROM plain.order_record o,
                LATERAL (VALUES ('payment', o.payment_id, 'processing'), ('payment_order', o.id, 'executing')) v (object, id, becomes)
            WHERE o.id = ANY (orders);
        INSERT INTO plain.attempt (id, task_id, object_id, psp_id, operation, step, attempt_no, psp_key, claimed_at, lease_until)
            SELECT u.attempt, u.task, u.object, psp, 'pay', 'send', 1, u.object || ':pay:1', now, now + interval '1 min'
            FROM unnest(attempts, tasks, orders) u (attempt, task, object);
        UPDATE plain.task t SET attempt_id = u.attempt, run_at = now + interval '1 min', tries = t.tries + 1,
            first_sent_at = now, last_sent_at = now FROM unnest(attempts, tasks) u (attempt, task) WHERE t.id = u.task;
        COMMIT;
        EXIT WHEN done >= total OR attempts IS NULL;
    END LOOP;
END
$$;
