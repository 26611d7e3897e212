-- A few hundred calls in random order, with random answers of a PSP: whatever
-- they are, money is conserved and every table tells the same story.
\set ON_ERROR_STOP on
\if :{?seed}
\else
\set seed 0.42
\endif
BEGIN;
SELECT no_plan();
SELECT setseed(:seed) \g /dev/null

SELECT payment.register_psp('invariants', 'stripe', 'http://127.0.0.1:1', 'none', '{"max_attempts": 1000, "backoff_base_ms": 1,
    "backoff_max_ms": 1, "lookup_delay_ms": 0, "poll_interval_ms": 1}') AS psp \gset
SELECT count(payment.register_seller('invariant ' || n, 'Seller')) AS sellers FROM generate_series(1, 4) AS n \gset
SELECT payment.set_fee_schedule(0, 777) AS fee \gset
SELECT payment.set_fee_schedule(0, 10000, payment.seller_id('invariant 4')) AS fee \gset

CREATE FUNCTION pg_temp.below(n int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT floor(random() * n)::int';

CREATE FUNCTION pg_temp.buy(number int) RETURNS void LANGUAGE sql AS $$
    SELECT payment.checkout('invariant ' || number, 'payer', (
        SELECT jsonb_agg(jsonb_build_object('seller', 'invariant ' || (1 + pg_temp.below(4)), 'amount', 1 + pg_temp.below(100000),
            'currency', c.currency, 'reference', 'item ' || n))
        FROM generate_series(0, pg_temp.below(3)) AS n), 'invariants', 'pm')
    FROM (SELECT (ARRAY['USD', 'EUR', 'JPY', 'KWD'])[1 + pg_temp.below(4)] AS currency) AS c
$$;

-- What a PSP might answer, now and then something that cannot be true.
CREATE FUNCTION pg_temp.answer(t payment.claimed_task) RETURNS payment.attempt_outcome LANGUAGE plpgsql AS $$
DECLARE
    draw int := pg_temp.below(100);
    outcome text := CASE WHEN draw < 45 THEN 'succeeded' WHEN draw < 55 THEN 'declined' WHEN draw < 60 THEN 'failed'
        WHEN draw < 70 THEN 'pending' WHEN draw < 80 THEN 'retry' WHEN draw < 90 OR t.step = 'send' THEN 'unknown' ELSE 'not_found' END;
    wrong int := CASE WHEN pg_temp.below(20) = 0 THEN 1 ELSE 0 END;
BEGIN
    RETURN ROW(t.attempt_id, outcome, 200, 1, CASE WHEN outcome IN ('succeeded', 'pending') THEN 'ref_' || t.psp_key END,
        CASE WHEN outcome = 'succeeded' THEN t.amount + wrong END, t.currency, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome;
END
$$;
CREATE FUNCTION pg_temp.work(psp uuid) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    answers payment.attempt_outcome[];
BEGIN
    SELECT array_agg(pg_temp.answer(t)) INTO answers FROM payment.claim_tasks(psp, 1 + pg_temp.below(20), 60000) AS t;
    -- some are said twice, some never
    answers := (SELECT array_agg(a) FROM unnest(answers || answers[1:2]) AS a WHERE pg_temp.below(20) > 0);
    RETURN coalesce(payment.record_outcomes(answers), 0);
EXCEPTION WHEN SQLSTATE 'PY001' THEN
    RETURN 0;    -- all of them lost
END
$$;
CREATE FUNCTION pg_temp.pay_out(number int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    w record;
BEGIN
    PERFORM payment.release(id) FROM payment.payment_order WHERE psp = 'invariants' AND status = 'captured' AND random() < 0.5;
    FOR w IN SELECT * FROM payment.wallet WHERE seller LIKE 'invariant %' AND available > 0 AND random() < 0.5
    LOOP
        PERFORM payment.payout(w.seller_id, 1 + pg_temp.below(w.available::int), w.currency, 'account',
            format('invariant payout %s %s %s', number, w.seller, w.currency), 'invariants');
    END LOOP;
END
$$;
CREATE FUNCTION pg_temp.run(psp uuid, turns int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    recorded int := 0;
BEGIN
    FOR i IN 1 .. turns LOOP
        CASE pg_temp.below(4)
            WHEN 0, 1 THEN PERFORM pg_temp.buy(i);
            WHEN 2 THEN PERFORM pg_temp.pay_out(i);
            ELSE PERFORM payment.expire_leases();
        END CASE;
        PERFORM pg_sleep(0.002);
        recorded := recorded + pg_temp.work(psp);
    END LOOP;
    RETURN recorded;
END
$$;
SELECT cmp_ok(pg_temp.run(:'psp', 400), '>', 300, 'a few hundred outcomes');

SELECT set_has('SELECT to_status FROM payment.status_history WHERE object = ''payment_order''',
    $$SELECT unnest('{captured,declined,failed,conflicted,unknown,pending}'::text[])$$, 'orders went every way');
SELECT set_has('SELECT to_status FROM payment.status_history WHERE object = ''payout''', $$VALUES ('paid'), ('failed'), ('unknown'), ('in_transit')$$, 'payouts, too');

-- the ledger by itself
SELECT is_empty($$
    SELECT e.journal_id, a.currency, sum(e.amount) FROM payment.entry e JOIN payment.account a ON a.id = e.account_id
    GROUP BY e.journal_id, a.currency HAVING sum(e.amount) <> 0
    $$, 'every journal sums to zero in each currency');
SELECT is_empty($$
    SELECT j.id FROM payment.journal j LEFT JOIN payment.entry e ON e.journal_id = j.id GROUP BY j.id
    HAVING count(e.leg) < 2 OR min(e.leg) <> 1 OR max(e.leg) <> count(*)
    $$, 'every journal has all its legs');
SELECT is_empty('SELECT * FROM payment.entry WHERE amount = 0', 'no leg of nothing');
SELECT is_empty($$
    SELECT account_id FROM (SELECT account_id, sum(amount) AS s FROM payment.entry GROUP BY 1) AS e
    FULL JOIN (SELECT account_id, sum(balance) AS s FROM payment.balance_slot GROUP BY 1) AS b USING (account_id)
    WHERE coalesce(e.s, 0) <> coalesce(b.s, 0)
    $$, 'every balance is the sum of its entries');
SELECT is_empty($$
    SELECT a.id FROM payment.account a, payment.balance(a.id) AS b, LATERAL (
        SELECT coalesce(sum(e.amount), 0) AS s FROM payment.entry e WHERE e.account_id = a.id) AS e
    WHERE b.posted <> CASE WHEN a.kind IN ('asset', 'expense', 'memo') THEN e.s ELSE -e.s END
    $$, 'payment.balance() says so, on the normal side of each kind');
SELECT is_empty($$
    SELECT currency FROM payment.trial_balance() GROUP BY currency HAVING sum(debit) <> sum(credit)
    $$, 'debits equal credits in every currency');
SELECT is_empty('SELECT * FROM payment.wallet WHERE least(pending, available, held, in_payout, owed) < 0', 'no wallet is below zero');

-- the ledger and the orders
SELECT is_empty($$
    SELECT o.id, o.status, o.captured_amount FROM payment.payment_order o
    WHERE o.captured_amount <> CASE WHEN o.status = 'captured' THEN o.amount ELSE 0 END
    $$, 'captured orders are captured in full, others not at all');
SELECT is_empty($$
    SELECT o.id, count(j.id) FROM payment.payment_order o
    LEFT JOIN payment.journal j ON j.subject = o.id AND j.kind = 'capture'
    GROUP BY o.id, o.status HAVING count(j.id) <> CASE WHEN o.status = 'captured' THEN 1 ELSE 0 END
    $$, 'one capture journal for each captured order, none for others');
SELECT set_eq($$
    SELECT a.currency, -sum(e.amount) FROM payment.entry e JOIN payment.account a ON a.id = e.account_id
        JOIN payment.payment_order o ON true JOIN payment.journal j ON j.id = e.journal_id AND j.subject = o.id
    WHERE a.code = 'platform_fee' AND o.psp = 'invariants' GROUP BY a.currency
    $$, $$
    SELECT currency, sum(platform_fee) FROM payment.payment_order WHERE psp = 'invariants' AND status = 'captured' GROUP BY currency
    $$, 'the platform has its fee of what was captured');
SELECT set_eq($$
    SELECT seller, currency, pending + available + in_payout FROM payment.wallet WHERE seller LIKE 'invariant %'
        AND pending + available + in_payout <> 0
    $$, $$
    SELECT seller, currency, sum(amount) FROM (
        SELECT seller, currency, captured_amount - platform_fee AS amount FROM payment.payment_order
        WHERE psp = 'invariants' AND status = 'captured'
        UNION ALL
        SELECT seller, currency, -amount FROM payment.payout WHERE psp = 'invariants' AND status = 'paid') AS m
    GROUP BY seller, currency HAVING sum(amount) <> 0
    $$, 'sellers have what was captured for them, less what was paid to them');
SELECT is_empty('SELECT * FROM payment.verify()', 'verify() finds nothing');

-- statuses and their history
SELECT is_empty($$
    SELECT h.object_id, h.object, h.status, o.status FROM (
        SELECT DISTINCT ON (object_id) object_id, object, to_status AS status FROM payment.status_history ORDER BY object_id, id DESC) AS h
    JOIN (SELECT id, status FROM payment.payment_record UNION ALL SELECT id, status FROM payment.order_record
        UNION ALL SELECT id, status FROM payment.payout_record UNION ALL SELECT id, status FROM payment.exception_record) AS o
    ON o.id = h.object_id WHERE o.status <> h.status
    $$, 'the history of every object ends at its status');
SELECT is_empty($$
    SELECT * FROM (SELECT object_id, from_status, lag(to_status) OVER (PARTITION BY object_id ORDER BY id) AS before
        FROM payment.status_history) AS h WHERE from_status IS DISTINCT FROM before
    $$, 'and has no gap');
SELECT is_empty($$
    SELECT h.* FROM payment.status_history h LEFT JOIN payment.transitions() AS t
        ON t.object = h.object AND t.from_status IS NOT DISTINCT FROM h.from_status AND t.to_status = h.to_status
    WHERE NOT coalesce(h.cause = ANY (t.causes), false)
    $$, 'and no step that is not in the table of transitions');
SELECT is_empty($$
    SELECT p.id, p.status, c.succeeded, c.failed, c.orders FROM payment.payment p JOIN (
        SELECT payment_id, count(*) AS orders, count(*) FILTER (WHERE status = 'captured') AS succeeded,
            count(*) FILTER (WHERE classic_status = 'FAILED') AS failed
        FROM payment.payment_order GROUP BY payment_id) AS c ON c.payment_id = p.id
    WHERE (p.order_count, p.succeeded_count, p.failed_count) <> (c.orders, c.succeeded, c.failed)
        OR (c.succeeded = c.orders) <> (p.status = 'succeeded')
        OR (c.failed = c.orders) <> (p.status = 'failed')
        OR (c.succeeded > 0 AND c.failed > 0 AND c.succeeded + c.failed = c.orders) <> (p.status = 'partially_succeeded')
    $$, 'payments follow from their orders');

-- the queue and the attempts
SELECT is_empty($$
    SELECT t.object_id FROM payment.task t JOIN payment.payment_order o ON o.id = t.object_id
    WHERE o.status IN ('captured', 'declined', 'failed', 'conflicted')
    UNION ALL
    SELECT t.object_id FROM payment.task t JOIN payment.payout p ON p.id = t.object_id WHERE p.status IN ('paid', 'failed')
    $$, 'nothing is left to send for what is over');
SELECT is_empty($$
    SELECT o.id, o.status FROM payment.payment_order o WHERE o.psp = 'invariants'
        AND o.status IN ('created', 'executing', 'pending', 'unknown') AND NOT EXISTS (SELECT FROM payment.task t WHERE t.object_id = o.id)
    UNION ALL
    SELECT p.id, p.status FROM payment.payout p WHERE p.psp = 'invariants'
        AND p.status IN ('scheduled', 'submitting', 'in_transit', 'unknown') AND NOT EXISTS (SELECT FROM payment.task t WHERE t.object_id = p.id)
    $$, 'and nothing that is open has been forgotten');
SELECT is_empty($$
    SELECT object_id, attempt_no FROM payment.attempt GROUP BY object_id, operation, attempt_no HAVING count(DISTINCT psp_key) <> 1
    $$, 'one key for each attempt number');
SELECT is_empty($$SELECT id FROM payment.attempt WHERE psp_key <> concat_ws(':', object_id, operation, attempt_no)$$, 'named after it');
SELECT is_empty($$
    SELECT o.id FROM payment.payment_order o WHERE o.status = 'conflicted'
        AND NOT EXISTS (SELECT FROM payment.exception x WHERE x.order_id = o.id AND x.status = 'open')
    $$, 'people are told of every conflict');

SELECT * FROM finish();
ROLLBACK;
