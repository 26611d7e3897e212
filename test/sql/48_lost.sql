-- What the PSP had accepted and then tells no more about, or contradicts, is
-- unknown again: two people decide it, and the money is booked once.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/dispatch.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;
SET test.psp = 'dispatch lost';
SELECT pg_temp.register_psp();
UPDATE payment.psp SET max_attempts = 3 WHERE id = pg_temp.psp();
SELECT count(payment.register_seller('dispatch seller ' || n, 'Seller ' || n)) AS registered FROM generate_series(1, 3) AS n;

CREATE FUNCTION pg_temp.refusal(command text) RETURNS text LANGUAGE sql AS $$
    SELECT regexp_replace(pg_temp.sqlstate_of(command), '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', '<id>', 'g')
$$;
CREATE FUNCTION pg_temp.decide(name text, outcome text, reference text DEFAULT NULL) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT payment.resolve_unknown(pg_temp.object(name), outcome, p, 'as the dashboard says', reference)
    FROM unnest(ARRAY['Ann', 'Ben']) AS p
$$;
-- accepted by the PSP, which then never answers a lookup again
CREATE FUNCTION pg_temp.lose(name text, reference text) RETURNS TABLE (status text, step text, queue text) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_temp.skip_time();
    PERFORM * FROM pg_temp.claim();
    PERFORM pg_temp.record(name, 'pending', reference);
    FOR try IN 1..3 LOOP
        PERFORM pg_temp.skip_time();
        PERFORM * FROM pg_temp.claim();
        PERFORM pg_temp.record(name, 'unknown', error_code => 'timeout');
    END LOOP;
    RETURN QUERY SELECT s.status, s.step, s.queue FROM pg_temp.show(name) AS s;
    PERFORM pg_temp.skip_time();
    PERFORM * FROM pg_temp.claim();
    RETURN QUERY SELECT s.status, s.step, s.queue FROM pg_temp.show(name) AS s;
END
$$;
CREATE FUNCTION pg_temp.wallet() RETURNS TABLE (account text, balance numeric) LANGUAGE sql AS $$
    SELECT a.code, sum(e.amount)
    FROM payment.entry AS e JOIN payment.account AS a ON a.id = e.account_id
        JOIN payment.journal AS j ON j.id = e.journal_id
    WHERE a.owner = payment.seller_id('dispatch seller 1') AND a.currency = 'EUR'
        AND j.subject IN (SELECT id FROM payment.order_record WHERE psp_id = pg_temp.psp() AND reference LIKE '%/1'
            UNION ALL SELECT id FROM payment.payout_record WHERE psp_id = pg_temp.psp())
        AND a.code IN ('seller_available', 'payout_clearing')
    GROUP BY 1 ORDER BY 1
$$;

-- a pending order: not before every lookup was in vain
SELECT pg_temp.pay('one', '10.00', '20.00', '30.00');
SELECT * FROM pg_temp.lose('one/1', 'lost_one_1');
SELECT name, type, status, detail FROM pg_temp.exceptions('one/1');
SELECT pg_temp.history('one/1');
-- the other two never came back from their claim: in doubt, then buried
SELECT name, status, queue FROM pg_temp.show('one/%');
SELECT * FROM pg_temp.payment_of('one/%');

-- it succeeded
SELECT pg_temp.decide('one/1', 'succeeded', 'lost_one_1');
SELECT * FROM pg_temp.show('one/1');
SELECT * FROM pg_temp.journals('one/1');
SELECT type, status FROM pg_temp.exceptions('one/1');
-- the PSP takes back what people decided: they hear of it, nothing is posted
SELECT pg_temp.record('one/1', 'declined', error_code => 'card_declined');
SELECT status, captured FROM pg_temp.show('one/1');
SELECT type, status, detail FROM pg_temp.exceptions('one/1');
SELECT count(*) FROM pg_temp.journals('one/1');
-- what succeeded by evidence is not taken back by an older word
SELECT pg_temp.pay('sure', '10.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('sure/1', 'succeeded', 'lost_sure');
SELECT pg_temp.record('sure/1', 'declined', error_code => 'card_declined');
SELECT count(*) FROM pg_temp.exceptions('sure/1');

-- it failed, and the money comes after all: booked once, and told of
SELECT pg_temp.pay('two', '10.00');
SELECT * FROM pg_temp.lose('two/1', 'lost_two');
SELECT pg_temp.decide('two/1', 'failed');
SELECT * FROM pg_temp.show('two/1');
SELECT * FROM pg_temp.payment_of('two/%');
SELECT pg_temp.record('two/1', 'succeeded', 'lost_two');
SELECT name, status, captured FROM pg_temp.show('two/1');
SELECT type, status FROM pg_temp.exceptions('two/1') ORDER BY type;
SELECT count(*) FROM pg_temp.journals('two/1');

-- put back into the queue: what was accepted under a name is never sent again,
-- even when the PSP says that it does not know it
SELECT pg_temp.pay('three', '10.00');
SELECT * FROM pg_temp.lose('three/1', 'lost_three');
SELECT payment.retry_dead_letter(task_id) FROM payment.dead_letter WHERE object_id = pg_temp.object('three/1');
SELECT name, step, psp_reference FROM pg_temp.claim();
SELECT pg_temp.record('three/1', 'not_found');
SELECT name, status, step, queue FROM pg_temp.show('three/1');
SELECT pg_temp.skip_time();
SELECT name, step FROM pg_temp.claim();
SELECT pg_temp.record('three/1', 'pending', 'lost_three');
SELECT name, status, step, queue FROM pg_temp.show('three/1');
SELECT type, status FROM pg_temp.exceptions('three/1');
-- lost once more: the same exception, open again
SELECT * FROM pg_temp.lose('three/1', 'lost_three');
SELECT type, status FROM pg_temp.exceptions('three/1');
SELECT pg_temp.decide('three/1', 'succeeded', 'lost_three');

-- payouts in transit
SELECT payment.release(pg_temp.object(n)) FROM unnest(ARRAY['one/1', 'two/1', 'three/1']) AS n;
CREATE FUNCTION pg_temp.pay_out(destination text) RETURNS boolean LANGUAGE sql AS $$
    SELECT payment.payout(payment.seller_id('dispatch seller 1'), 500, 'EUR', destination, 'lost ' || destination,
        psp => 'dispatch lost') IS NOT NULL
$$;
SELECT pg_temp.pay_out('ba_paid');
SELECT * FROM pg_temp.lose('ba_paid', 'po_paid');
SELECT pg_temp.pay_out('ba_failed');
SELECT * FROM pg_temp.lose('ba_failed', 'po_failed');
SELECT * FROM pg_temp.wallet();
SELECT pg_temp.decide('ba_paid', 'succeeded', 'po_paid');
SELECT * FROM pg_temp.show('ba_paid');
SELECT pg_temp.history('ba_paid');
SELECT pg_temp.decide('ba_failed', 'failed');
SELECT pg_temp.decide('ba_failed', 'failed');
SELECT name, status, failure_code FROM pg_temp.show('ba_failed');
-- the money is back exactly once
SELECT * FROM pg_temp.wallet();
SELECT kind, account, amount FROM pg_temp.journals('ba_failed');
-- evidence against the decisions
SELECT pg_temp.record('ba_paid', 'failed', 'po_paid');
SELECT pg_temp.record('ba_failed', 'succeeded', 'po_failed');
SELECT name, type, status, detail FROM pg_temp.exceptions('ba\_%') WHERE status = 'open' ORDER BY 1, 2;
SELECT * FROM pg_temp.wallet();

-- an answer that says nothing does not take back that it was accepted
SELECT pg_temp.pay_out('ba_told');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('ba_told', 'pending', 'po_told');
SELECT pg_temp.record('ba_told', 'unknown', error_code => 'timeout');
SELECT name, status FROM pg_temp.show('ba_told');
SELECT pg_temp.record('ba_told', 'succeeded', 'po_told');

-- given up, and then the PSP says that it is under way: it is asked again
SELECT pg_temp.pay_out('ba_late');
SELECT * FROM pg_temp.lose('ba_late', 'po_late');
SELECT pg_temp.record('ba_late', 'pending', 'po_late');
SELECT name, status, step, queue, tries FROM pg_temp.show('ba_late');
SELECT name, type, status FROM pg_temp.exceptions('ba_late');
SELECT pg_temp.skip_time();
SELECT name, step FROM pg_temp.claim();
SELECT pg_temp.record('ba_late', 'failed', 'po_late');

-- in transit, then told of another amount: unknown, for people, and the task
-- rests
SELECT pg_temp.pay_out('ba_wrong');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('ba_wrong', 'pending', 'po_wrong');
SELECT pg_temp.refusal($$SELECT payment.resolve_unknown(pg_temp.object('ba_wrong'), 'failed', 'Ann', 'impatient')$$);
SELECT pg_temp.record('ba_wrong', 'succeeded', 'po_wrong', 501);
SELECT name, status, step, queue FROM pg_temp.show('ba_wrong');
SELECT name, type, status, expected, actual FROM pg_temp.exceptions('ba_wrong');
SELECT pg_temp.decide('ba_wrong', 'succeeded', 'po_wrong');
SELECT name, status, queue FROM pg_temp.show('ba_wrong');
SELECT pg_temp.history('ba_wrong');
SELECT name, type, status FROM pg_temp.exceptions('ba_wrong');
SELECT * FROM pg_temp.wallet();
SELECT * FROM payment.verify();
