-- A payment that is all or nothing: a refund of it that fails is asked for
-- again, and at last becomes an exception; it is never silently left.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/dispatch.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;
SET test.psp = 'undo refunds';
SELECT pg_temp.register_psp();
SELECT count(payment.register_seller('dispatch seller ' || n, 'Seller ' || n)) AS registered FROM generate_series(1, 3) AS n;

-- two orders: the first is captured, the second declined
CREATE FUNCTION pg_temp.half(name text, policy text DEFAULT 'all_or_nothing') RETURNS uuid LANGUAGE plpgsql AS $$
BEGIN
    PERFORM payment.checkout('undo refunds ' || name, 'payer', (SELECT jsonb_agg(jsonb_build_object('seller', 'dispatch seller ' || n,
        'amount', '50.00', 'currency', 'EUR', 'reference', name || '/' || n)) FROM generate_series(1, 2) AS n),
        psp => 'undo refunds', payment_method => 'pm', on_partial_failure => policy);
    PERFORM pg_temp.claim();
    PERFORM pg_temp.record(name || '/1', 'succeeded', 'pi_' || name);
    PERFORM pg_temp.record(name || '/2', 'declined');
    RETURN pg_temp.object(name || '/1');
END
$$;
CREATE FUNCTION pg_temp.refunds(payment_order uuid) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(status, ', ' ORDER BY id) FROM payment.refund WHERE order_id = payment_order
$$;
CREATE FUNCTION pg_temp.tell(payment_order uuid, outcome text, error text DEFAULT NULL) RETURNS integer LANGUAGE sql AS $$
    SELECT payment.record_outcomes(ARRAY[ROW(a.id, tell.outcome, 200, 5, 're_' || r.id, r.amount, 'EUR', tell.error, NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome])
    FROM payment.refund AS r JOIN payment.attempt AS a ON a.object_id = r.id WHERE r.order_id = payment_order ORDER BY r.id DESC, a.id DESC LIMIT 1
$$;
-- payments of this test's that are still to be looked at
CREATE FUNCTION pg_temp.noted() RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FROM payment.partial_failure AS f JOIN payment.payment_record AS p ON p.id = f.payment_id WHERE p.psp_id = pg_temp.psp()
$$;
CREATE FUNCTION pg_temp.undo() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM payment.undo_partial_failures(1000);
    RETURN pg_temp.noted() || ' noted';
END
$$;
-- one refund is asked for, sent, and fails
CREATE FUNCTION pg_temp.fail_once(payment_order uuid, code text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_temp.undo();
    PERFORM pg_temp.claim();
    PERFORM pg_temp.tell(payment_order, 'failed', code);
    RETURN pg_temp.refunds(payment_order);
END
$$;

SET payment.undo_refund_delay_ms = 0;
SET payment.max_undo_refunds = 3;
SELECT pg_temp.half('again') AS o \gset
SELECT pg_temp.undo(), pg_temp.refunds(:'o');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.tell(:'o', 'failed', 'first_failure'), pg_temp.noted();
SELECT refunded_amount FROM payment.payment_order WHERE id = :'o';
SELECT pg_temp.undo(), pg_temp.refunds(:'o');
SELECT count(*) FROM pg_temp.claim();
-- it fails after it had succeeded, which is told much later
SELECT pg_temp.tell(:'o', 'succeeded'), pg_temp.noted();
SELECT pg_temp.tell(:'o', 'failed', 'account_closed'), pg_temp.noted();
SELECT pg_temp.undo(), pg_temp.refunds(:'o');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.tell(:'o', 'succeeded'), pg_temp.refunds(:'o'), pg_temp.noted();
SELECT count(*) FROM payment.exception_record WHERE order_id = :'o';

-- as often as it may: then people see it, once
SELECT pg_temp.half('never') AS o \gset
SELECT pg_temp.fail_once(:'o', 'a'), pg_temp.fail_once(:'o', 'b'), pg_temp.fail_once(:'o', 'account_closed');
SELECT pg_temp.noted(), pg_temp.undo(), pg_temp.refunds(:'o');
SELECT type, status, currency, expected_amount, actual_amount, detail FROM payment.exception_record WHERE order_id = :'o';
SELECT pg_temp.undo();
-- they give it back by themselves, which is the end of it
SELECT id AS x FROM payment.exception WHERE order_id = :'o' \gset
SELECT payment.propose_resolution(:'x', 'refunded_outside', 'ann', 'by bank transfer');
SELECT payment.approve_resolution(:'x', 'refunded_outside', 'bob', 'seen on the account');
SELECT status, captured_amount FROM payment.payment_order WHERE id = :'o';
SELECT * FROM pg_temp.journals('never/1');

-- not at once, and later each time
SET payment.undo_refund_delay_ms = '1h';
SELECT pg_temp.half('later') AS o \gset
SELECT pg_temp.fail_once(:'o', 'not yet');
SELECT pg_temp.undo(), pg_temp.refunds(:'o');

-- one that cannot be undone keeps no other waiting, and people see it
CREATE FUNCTION pg_temp.of_third(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM payment.checkout('undo refunds ' || name, 'payer', (SELECT jsonb_agg(jsonb_build_object('seller', 'dispatch seller 3',
        'amount', '50.00', 'currency', 'EUR', 'reference', name || '/' || n)) FROM generate_series(1, 2) AS n),
        psp => 'undo refunds', payment_method => 'pm', on_partial_failure => 'all_or_nothing');
    PERFORM pg_temp.claim();
    PERFORM pg_temp.record(name || '/1', 'succeeded', 'pi_' || name), pg_temp.record(name || '/2', 'declined');
END
$$;
SELECT pg_temp.of_third('frozen');
SELECT pg_temp.half('beside') AS o \gset
SELECT a.id AS account FROM payment.account AS a WHERE a.owner = payment.seller_id('dispatch seller 3') AND a.code = 'seller_pending'
    AND a.currency = 'EUR' \gset
SELECT payment.set_account_state(:'account', 'frozen');
SELECT pg_temp.undo(), pg_temp.refunds(:'o'), pg_temp.refunds(pg_temp.object('frozen/1')) AS frozen;
SELECT type, status, regexp_replace(detail, '"[^"]*"|[0-9a-f-]{36}', '...', 'g') AS detail FROM payment.exception_record WHERE order_id = pg_temp.object('frozen/1');
SELECT payment.set_account_state(:'account', 'open');

-- what is to be kept is kept
SET payment.undo_refund_delay_ms = 0;
SELECT pg_temp.half('kept', 'keep') AS o \gset
SELECT payment.refund(:'o', 1000, 'kept') IS NOT NULL AS asked;
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.tell(:'o', 'failed', 'x'), pg_temp.noted();

RESET payment.undo_refund_delay_ms;
RESET payment.max_undo_refunds;
SELECT * FROM payment.verify();
