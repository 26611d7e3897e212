-- What is given back when a payment cannot be whole, whatever is in the way.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/dispatch.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;
SET test.psp = 'undone';
SELECT pg_temp.register_psp();
SELECT count(payment.register_seller('undone seller ' || n, 'Seller ' || n)) AS registered FROM generate_series(1, 6) AS n;

-- all or nothing: NAME/1 is of seller FIRST, NAME/2 of the next one
CREATE FUNCTION pg_temp.whole(name text, first integer) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    payment_id uuid;
BEGIN
    payment_id := (payment.checkout('undone ' || name, 'payer', (SELECT jsonb_agg(jsonb_build_object('seller', 'undone seller ' || n,
        'amount', '50.00', 'currency', 'EUR', 'reference', name || '/' || n - first + 1) ORDER BY n) FROM generate_series(first, first + 1) AS n),
        psp => 'undone', payment_method => 'pm', on_partial_failure => 'all_or_nothing')).payment_id;
    PERFORM pg_temp.claim();
    RETURN payment_id;
END
$$;
CREATE FUNCTION pg_temp.account(seller text, account text) RETURNS uuid LANGUAGE sql AS $$
    SELECT a.id FROM payment.account AS a WHERE a.owner = payment.seller_id(seller) AND a.code = account AND a.currency = 'EUR'
$$;
CREATE FUNCTION pg_temp.refunds(name text) RETURNS TABLE (status text, amount bigint, pending bigint, available bigint, receivable bigint) LANGUAGE sql AS $$
    SELECT r.status, r.amount, r.from_pending, r.from_available, r.from_receivable
    FROM payment.refund_record AS r WHERE r.order_id = pg_temp.object(name) ORDER BY r.id
$$;

-- what is held of a seller's money is not taken: the seller owes the rest
SELECT pg_temp.whole('held', 1) AS held \gset
SELECT pg_temp.record('held/1', 'succeeded', 'pi_held');
SELECT payment.release(pg_temp.object('held/1'));
SELECT payment.create_hold(pg_temp.account('undone seller 1', 'seller_available'), 3000) AS hold \gset
SELECT pg_temp.record('held/2', 'declined');
SELECT payment.undo_partial_failures(1000) > 0 AS undone;
SELECT * FROM pg_temp.refunds('held/1');
SELECT payment.balance(pg_temp.account('undone seller 1', 'seller_available'));
SELECT * FROM pg_temp.exceptions('held/%');
-- so it is when people decide that it was given back elsewhere
SELECT pg_temp.whole('decided', 3) AS decided \gset
SELECT pg_temp.record('decided/1', 'failed', error_code => 'refused');
SELECT pg_temp.record('decided/1', 'succeeded', 'pi_decided');
SELECT payment.release(pg_temp.object('decided/1'));
SELECT payment.create_hold(pg_temp.account('undone seller 3', 'seller_available'), 3000) IS NOT NULL AS held;
SELECT x.id AS x FROM payment.exception_record AS x WHERE x.order_id = pg_temp.object('decided/1') \gset
SELECT payment.propose_resolution(:'x', 'refunded_outside', 'ann', 'by bank transfer');
SELECT payment.approve_resolution(:'x', 'refunded_outside', 'bob', 'seen on the account');
SELECT payment.balance(pg_temp.account('undone seller 3', 'seller_available'));
SELECT payment.balance(pg_temp.account('undone seller 3', 'seller_receivable'));

-- what succeeds after the others were given back is given back, too
SELECT pg_temp.whole('late', 5) AS late \gset
SELECT pg_temp.record('late/1', 'succeeded', 'pi_late_1'), pg_temp.record('late/2', 'failed', error_code => 'refused');
SELECT payment.undo_partial_failures(1000) > 0 AS undone;
SELECT * FROM pg_temp.refunds('late/1');
SELECT pg_temp.record('late/2', 'succeeded', 'pi_late_2');
SELECT * FROM pg_temp.payment_of('late/%');
SELECT payment.undo_partial_failures(1000) > 0 AS undone;
SELECT * FROM pg_temp.refunds('late/2');
SELECT payment.undo_partial_failures(1000) >= 0 AS again;
SELECT count(*) AS noted FROM payment.partial_failure WHERE payment_id = :'late';
-- what is given back by nobody is whole again
SELECT pg_temp.whole('whole', 5) AS whole \gset
SELECT pg_temp.record('whole/1', 'succeeded', 'pi_whole_1'), pg_temp.record('whole/2', 'failed', error_code => 'refused');
SELECT pg_temp.record('whole/2', 'succeeded', 'pi_whole_2');
SELECT * FROM pg_temp.payment_of('whole/%');
SELECT payment.undo_partial_failures(1000) >= 0 AS nothing;
SELECT * FROM pg_temp.refunds('whole/1');

SELECT * FROM payment.verify();
