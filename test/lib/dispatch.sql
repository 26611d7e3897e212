-- What the tests of dispatching share: orders are called by their reference,
-- payouts by their destination.

CREATE FUNCTION pg_temp.psp() RETURNS uuid LANGUAGE sql STABLE
    AS $$ SELECT id FROM payment.psp WHERE name = current_setting('test.psp') $$;

-- for us alone: the worker sends nothing; with waits that a slow machine sees
CREATE FUNCTION pg_temp.register_psp() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM payment.register_psp(current_setting('test.psp'), 'none', 'http://127.0.0.1:1', 'none',
        '{"backoff_base_ms": 20000, "backoff_max_ms": 300000, "lookup_delay_ms": 60000, "poll_interval_ms": 120000}');
END
$$;

CREATE FUNCTION pg_temp.object(name text) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT id FROM payment.order_record WHERE reference = name AND psp_id = pg_temp.psp()
    UNION ALL
    SELECT id FROM payment.payout_record WHERE destination = name AND psp_id = pg_temp.psp()
$$;

CREATE FUNCTION pg_temp.name_of(object uuid) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT reference FROM payment.order_record WHERE id = object
    UNION ALL
    SELECT destination FROM payment.payout_record WHERE id = object
$$;

-- one payment with an order NAME/1, NAME/2, ... for each amount, each of
-- another seller
CREATE FUNCTION pg_temp.pay(name text, VARIADIC amounts text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    orders jsonb;
BEGIN
    SELECT jsonb_agg(jsonb_build_object('seller', 'dispatch seller ' || n, 'amount', a, 'currency', 'EUR',
            'reference', name || '/' || n) ORDER BY n)
        INTO orders FROM unnest(amounts) WITH ORDINALITY AS u (a, n);
    PERFORM payment.checkout(current_setting('test.psp') || ' ' || name, 'payer', orders, psp => current_setting('test.psp'),
        payment_method => 'pm_card_visa');
END
$$;

CREATE FUNCTION pg_temp.claim(max_tasks integer DEFAULT 100) RETURNS TABLE (
    name text, operation text, step text, attempt_no integer, key text, amount bigint, currency text,
    psp_reference text, sent_before boolean) LANGUAGE sql AS $$
    SELECT pg_temp.name_of(c.object_id), c.operation, c.step, c.attempt_no,
        replace(c.psp_key, c.object_id::text, '<id>'), c.amount, c.currency, c.psp_reference,
        c.first_sent_at < clock_timestamp() - interval '30 s'
    FROM payment.claim_tasks(pg_temp.psp(), max_tasks, 60000) AS c
$$;

-- outcome of the latest attempt for the object, or an earlier one
CREATE FUNCTION pg_temp.record(name text, outcome text, psp_reference text DEFAULT NULL, amount bigint DEFAULT NULL,
    currency text DEFAULT 'EUR', error_code text DEFAULT NULL, error_message text DEFAULT NULL,
    retry_after_ms bigint DEFAULT NULL, earlier integer DEFAULT 0, decline_class text DEFAULT NULL,
    authorized_until timestamptz DEFAULT NULL, child_reference text DEFAULT NULL,
    settled_amount bigint DEFAULT NULL, settled_currency text DEFAULT NULL, exchange_rate numeric DEFAULT NULL,
    psp_fee bigint DEFAULT NULL, payment_method text DEFAULT NULL) RETURNS integer LANGUAGE sql AS $$
    SELECT payment.record_outcomes(ARRAY[ROW(
        (SELECT a.id FROM payment.attempt AS a WHERE a.object_id = pg_temp.object(name)
         ORDER BY a.id DESC OFFSET earlier LIMIT 1),
        outcome, 200, 25, psp_reference,
        coalesce(amount, (SELECT o.amount FROM payment.order_record AS o WHERE o.id = pg_temp.object(name)),
            (SELECT p.amount FROM payment.payout_record AS p WHERE p.id = pg_temp.object(name))),
        currency, error_code, error_message, retry_after_ms, decline_class, authorized_until, child_reference,
        settled_amount, settled_currency, exchange_rate, psp_fee, payment_method)::payment.attempt_outcome])
$$;

-- no waiting: what is scheduled falls due; claims stay claims, so that the
-- leases of those under way run out
CREATE FUNCTION pg_temp.skip_time() RETURNS void LANGUAGE sql AS $$
    UPDATE payment.task SET run_at = clock_timestamp() - interval '1 s' WHERE psp_id = pg_temp.psp()
$$;

-- its first request went out that long ago
CREATE FUNCTION pg_temp.age(name text, by interval) RETURNS void LANGUAGE sql AS $$
    UPDATE payment.task SET first_sent_at = first_sent_at - by WHERE object_id = pg_temp.object(name)
$$;

CREATE FUNCTION pg_temp.show(pattern text) RETURNS TABLE (
    name text, status text, no integer, captured bigint, psp_reference text, failure_code text, step text,
    queue text, tries integer) LANGUAGE sql AS $$
    SELECT o.name, o.status, o.attempt_no, o.captured_amount, o.psp_reference, o.failure_code, t.step,
        CASE WHEN t.dead_at IS NOT NULL THEN 'dead'
             WHEN t.run_at <= clock_timestamp() THEN 'due'
             WHEN t.attempt_id IS NOT NULL THEN 'in flight'
             WHEN t.id IS NOT NULL THEN 'waiting' END,
        t.tries
    FROM (SELECT id, reference AS name, status, attempt_no, captured_amount, psp_reference, failure_code
          FROM payment.order_record WHERE psp_id = pg_temp.psp()
          UNION ALL
          SELECT id, destination, status, attempt_no, NULL, psp_reference, failure_code
          FROM payment.payout_record WHERE psp_id = pg_temp.psp()) AS o
        LEFT JOIN payment.task AS t ON t.object_id = o.id
    WHERE o.name LIKE pattern
    ORDER BY o.name
$$;

CREATE FUNCTION pg_temp.payment_of(pattern text) RETURNS TABLE (
    status text, orders integer, succeeded integer, failed integer) LANGUAGE sql AS $$
    SELECT p.status, p.order_count, p.succeeded_count, p.failed_count FROM payment.payment_record AS p
    WHERE p.psp_id = pg_temp.psp()
        AND p.id IN (SELECT o.payment_id FROM payment.order_record AS o WHERE o.reference LIKE pattern)
    ORDER BY p.id
$$;

CREATE FUNCTION pg_temp.history(name text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(coalesce(h.from_status, '') || ' -> ' || h.to_status || ' (' || h.cause || ')', E'\n' ORDER BY h.id)
    FROM payment.status_history AS h WHERE h.object_id = pg_temp.object(name)
$$;

CREATE FUNCTION pg_temp.journals(name text) RETURNS TABLE (kind text, account text, amount bigint) LANGUAGE sql AS $$
    SELECT j.kind, a.code, e.amount
    FROM payment.journal AS j JOIN payment.entry AS e ON e.journal_id = j.id
        JOIN payment.account AS a ON a.id = e.account_id
    WHERE j.subject = pg_temp.object(name)
    ORDER BY j.id, e.leg
$$;

CREATE FUNCTION pg_temp.exceptions(pattern text) RETURNS TABLE (
    name text, type text, status text, currency text, expected bigint, actual bigint, detail text) LANGUAGE sql AS $$
    SELECT pg_temp.name_of(x.order_id), x.type, x.status, x.currency, x.expected_amount, x.actual_amount, x.detail
    FROM payment.exception_record AS x
    WHERE x.psp_id = pg_temp.psp() AND pg_temp.name_of(x.order_id) LIKE pattern ORDER BY 1, 2
$$;

CREATE FUNCTION pg_temp.attempts(name text) RETURNS TABLE (
    step text, no integer, outcome text, finished boolean, error_code text, error_message text) LANGUAGE sql AS $$
    SELECT a.step, a.attempt_no, a.outcome, a.finished_at IS NOT NULL, a.error_code, a.error_message
    FROM payment.attempt AS a WHERE a.object_id = pg_temp.object(name) ORDER BY a.id
$$;

-- from recording its latest outcome until its task falls due
CREATE FUNCTION pg_temp.wait(name text) RETURNS interval LANGUAGE sql AS $$
    SELECT t.run_at - max(a.finished_at) FROM payment.task AS t JOIN payment.attempt AS a ON a.task_id = t.id
    WHERE t.object_id = pg_temp.object(name) GROUP BY t.run_at
$$;

CREATE FUNCTION pg_temp.sqlstate_of(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    EXECUTE command;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN SQLSTATE || ': ' || SQLERRM || CASE WHEN detail <> '' THEN ' / ' || detail ELSE '' END;
END
$$;
