-- Refunds: capped, exact to the last unit, and undone exactly when they fail.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/dispatch.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;
SET test.psp = 'refunds';
SELECT pg_temp.register_psp();
SELECT count(payment.register_seller('refund seller ' || n, 'Seller ' || n)) AS registered FROM generate_series(1, 9) AS n;
SELECT count(payment.set_fee_schedule(0, 1000, payment.seller_id('refund seller ' || n), 'EUR')) AS set FROM generate_series(1, 9) AS n;

-- one order of seller n, captured; its name is that of the seller
CREATE FUNCTION pg_temp.captured(n integer, amount text DEFAULT '100.00') RETURNS uuid LANGUAGE plpgsql AS $$
BEGIN
    PERFORM payment.checkout('refunds ' || n || ' ' || amount, 'payer', jsonb_build_array(jsonb_build_object('seller', 'refund seller ' || n,
        'amount', amount, 'currency', 'EUR', 'reference', n || '/' || amount)), psp => 'refunds', payment_method => 'pm');
    PERFORM pg_temp.claim();
    PERFORM pg_temp.record(n || '/' || amount, 'succeeded', 'pi_' || n || amount);
    RETURN pg_temp.object(n || '/' || amount);
END
$$;
CREATE FUNCTION pg_temp.refused(command text) RETURNS text LANGUAGE sql AS $$
    SELECT regexp_replace(pg_temp.sqlstate_of(command), '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', '<id>', 'g')
$$;
CREATE FUNCTION pg_temp.take() RETURNS TABLE (operation text, step text, key text, amount bigint, parent text, reason text, reference text) LANGUAGE sql AS $$
    SELECT c.operation, c.step, replace(c.psp_key, c.object_id::text, '<id>'), c.amount, c.parent_reference, c.reason, c.psp_reference
    FROM payment.claim_tasks(pg_temp.psp(), 100, 60000) AS c ORDER BY c.object_id
$$;
-- of a refund: its latest attempt
CREATE FUNCTION pg_temp.tell(refund uuid, outcome text, reference text DEFAULT NULL, amount bigint DEFAULT NULL, error text DEFAULT NULL)
    RETURNS integer LANGUAGE sql AS $$
    SELECT payment.record_outcomes(ARRAY[ROW((SELECT a.id FROM payment.attempt AS a WHERE a.object_id = refund ORDER BY a.id DESC LIMIT 1),
        outcome, 200, 5, reference, coalesce(amount, (SELECT r.amount FROM payment.refund AS r WHERE r.id = refund)), 'EUR', error, NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome])
$$;
CREATE FUNCTION pg_temp.seller(n integer) RETURNS TABLE (pending bigint, available bigint, owed bigint) LANGUAGE sql AS $$
    SELECT w.pending, w.available, w.owed FROM payment.wallet AS w WHERE w.seller = 'refund seller ' || n
$$;
CREATE FUNCTION pg_temp.book(refund uuid) RETURNS TABLE (kind text, account text, amount bigint) LANGUAGE sql AS $$
    SELECT j.kind, a.code, e.amount FROM payment.journal AS j JOIN payment.entry AS e ON e.journal_id = j.id
        JOIN payment.account AS a ON a.id = e.account_id WHERE j.subject = refund ORDER BY j.id, e.leg
$$;
CREATE FUNCTION pg_temp.clearing() RETURNS bigint LANGUAGE sql AS $$
    SELECT coalesce(sum(-b.balance), 0)::bigint FROM payment.account AS a
    JOIN payment.balance_slot AS b ON b.account_id = a.id WHERE a.code = 'refund_clearing' AND a.owner = pg_temp.psp()
$$;

-- arguments
SELECT pg_temp.refused($$SELECT payment.refund(payment.new_id(), 1, 'k')$$);
SELECT pg_temp.refused($$SELECT payment.refund(payment.new_id(), 0, 'k')$$);
SELECT pg_temp.refused($$SELECT payment.refund(payment.new_id(), 1, 'k', 'bored')$$);
SELECT pg_temp.refused($$SELECT payment.refund(payment.new_id(), 1, 'k', fee_policy => 'half')$$);
SELECT pg_temp.refused($$SELECT payment.refund(payment.new_id(), 1, NULL)$$);

-- S34: three refunds; what is pending pays, the fee comes back exactly
SELECT pg_temp.captured(1) AS o \gset
SELECT payment.refund(:'o', 3333, 'r1', 'requested_by_customer') AS r1 \gset
SELECT payment.refund(:'o', 3333, 'r1', 'requested_by_customer') = :'r1' AS again;
SELECT left(pg_temp.refused(format('SELECT payment.refund(%L, 3334, %L)', :'o', 'r1')), 5) AS other_arguments;
SELECT payment.refund(:'o', 3333, 'r2') AS r2 \gset
SELECT pg_temp.refused(format('SELECT payment.refund(%L, 3335, %L)', :'o', 'rx')) AS "S32";
SELECT payment.refund(:'o', NULL, 'r3') AS r3 \gset
SELECT pg_temp.refused(format('SELECT payment.refund(%L, NULL, %L)', :'o', 'rx')) AS nothing_left;
SELECT amount, fee_share, status, reason FROM payment.refund WHERE order_id = :'o' ORDER BY id;
SELECT sum(fee_share) = (SELECT platform_fee FROM payment.payment_order WHERE id = :'o') AS "S34" FROM payment.refund WHERE order_id = :'o';
SELECT * FROM pg_temp.seller(1);
SELECT pg_temp.clearing();
SELECT * FROM pg_temp.take();
SELECT pg_temp.tell(:'r1', 'succeeded', 're_1'), pg_temp.tell(:'r2', 'pending', 're_2'), pg_temp.tell(:'r3', 'succeeded', 're_3');
SELECT amount, status, psp_reference FROM payment.refund WHERE order_id = :'o' ORDER BY id;
SELECT pg_temp.clearing();
SELECT pg_temp.skip_time();
SELECT * FROM pg_temp.take();
SELECT pg_temp.tell(:'r2', 'succeeded', 're_2');
SELECT * FROM pg_temp.book(:'r2');
SELECT status, captured_amount, refunded_amount FROM payment.payment_order WHERE id = :'o';
SELECT * FROM pg_temp.payment_of('1/%');
SELECT payment.release(:'o');
SELECT * FROM pg_temp.seller(1);
SELECT count(*) FROM payment.task WHERE psp_id = pg_temp.psp();
-- told again: nothing new; under another name: a second one
SELECT pg_temp.tell(:'r2', 'succeeded', 're_2'), pg_temp.tell(:'r2', 'succeeded', 're_other');
SELECT type, detail FROM payment.exception_record WHERE order_id = :'r2';

-- S33: no answer, asked after, one refund
SELECT pg_temp.captured(2) AS o \gset
SELECT payment.refund(:'o', 4000, 's33') AS r \gset
SELECT count(*) FROM pg_temp.take();
SELECT pg_temp.tell(:'r', 'unknown');
SELECT status FROM payment.refund WHERE id = :'r';
SELECT pg_temp.skip_time();
SELECT step, key FROM pg_temp.take();
SELECT pg_temp.tell(:'r', 'not_found');
SELECT pg_temp.skip_time();
SELECT step, key FROM pg_temp.take();
SELECT pg_temp.tell(:'r', 'succeeded', 're_s33');
SELECT status, attempt_no FROM payment.refund WHERE id = :'r';
SELECT count(*) AS "S33" FROM pg_temp.book(:'r') WHERE kind = 'refund_succeeded' AND account = 'psp_receivable';
SELECT payment.release(:'o');
SELECT * FROM pg_temp.seller(2);

-- S35: succeeded, then failed: money, wallet and what may be refunded are as before
SELECT pg_temp.tell(:'r', 'failed', 're_s33', error => 'lost_or_stolen_card');
SELECT status, failure_code FROM payment.refund WHERE id = :'r';
SELECT * FROM pg_temp.book(:'r');
SELECT * FROM pg_temp.seller(2);
SELECT captured_amount, refunded_amount, fee_returned FROM payment.order_record WHERE id = :'o';
SELECT pg_temp.tell(:'r', 'failed', 're_s33');
SELECT count(DISTINCT kind), count(*) FROM pg_temp.book(:'r');
SELECT payment.refund(:'o', NULL, 's35 all') AS r \gset
SELECT amount, fee_share FROM payment.refund WHERE id = :'r';

-- S36: the seller was paid out: he owes it, and the next credit pays
SELECT pg_temp.captured(3) AS o \gset
SELECT payment.release(:'o');
SELECT payment.payout(payment.seller_id('refund seller 3'), 8000, 'EUR', 'bank', 's36 payout', 'refunds') IS NOT NULL;
SELECT payment.refund(:'o', 5000, 's36') AS r \gset
SELECT * FROM pg_temp.seller(3);
SELECT from_pending, from_available, from_receivable, fee_share FROM payment.refund_record WHERE id = :'r';
SELECT pg_temp.captured(3, '20.00') AS p \gset
SELECT payment.release(:'p');
SELECT * FROM pg_temp.seller(3);
SELECT kind, account, amount FROM pg_temp.journals('3/20.00') WHERE kind = 'release';
SELECT pg_temp.captured(3, '30.00') AS q \gset
SELECT payment.release(:'q');
SELECT * FROM pg_temp.seller(3);
-- and it fails after that: nothing is owed any more, so that all is available
SELECT pg_temp.tell(:'r', 'failed', error => 'no_such_card');
SELECT * FROM pg_temp.seller(3);
-- while it is still owed, that goes first
SELECT payment.payout(payment.seller_id('refund seller 3'), 5500, 'EUR', 'bank 2', 's36 payout 2', 'refunds') IS NOT NULL;
SELECT payment.refund(:'o', 5000, 's36 again') AS r \gset
SELECT * FROM pg_temp.seller(3);
SELECT count(*) > 0 AS sent FROM pg_temp.take();
SELECT pg_temp.tell(:'r', 'failed', error => 'no_such_card');
SELECT * FROM pg_temp.seller(3);

-- the platform keeps its fee: the seller pays all of it, and owes what he never got
SELECT pg_temp.captured(4) AS o \gset
SELECT payment.refund(:'o', NULL, 'keeps the fee', fee_policy => 'none') AS r \gset
SELECT from_pending, from_available, from_receivable, fee_share FROM payment.refund_record WHERE id = :'r';
SELECT * FROM pg_temp.seller(4);
SELECT count(*) > 0 AS sent FROM pg_temp.take();
-- another amount than was asked for: people decide
SELECT pg_temp.tell(:'r', 'succeeded', 're_4', amount => 9999);
SELECT status FROM payment.refund WHERE id = :'r';
SELECT type, expected_amount, actual_amount FROM payment.exception_record WHERE order_id = :'r' ORDER BY type;
SELECT payment.resolve_unknown(:'r', 'failed', 'ann', 'asked the PSP'), payment.resolve_unknown(:'r', 'failed', 'bob', 'so did I');
SELECT status FROM payment.refund WHERE id = :'r';
SELECT * FROM pg_temp.seller(4);
SELECT payment.refund(:'o', 2500, 'decided') AS r \gset
SELECT count(*) > 0 AS sent FROM pg_temp.take();
SELECT pg_temp.tell(:'r', 'unknown');
UPDATE payment.task SET tries = 1000 WHERE object_id = :'r';
SELECT pg_temp.skip_time();
SELECT count(*) FROM pg_temp.take() WHERE operation = 'refund' AND amount = 2500;
SELECT payment.resolve_unknown(:'r', 'succeeded', 'ann', 'seen', 're_decided'), payment.resolve_unknown(:'r', 'succeeded', 'bob', 'seen', 're_decided');
SELECT status, psp_reference FROM payment.refund WHERE id = :'r';

-- before the release, a refund that fails goes back to what is pending; voided at the PSP it is cancelled
SELECT pg_temp.captured(5) AS o \gset
SELECT payment.refund(:'o', 1000, 'back 1') AS r \gset
SELECT payment.refund(:'o', 1000, 'back 2') AS q \gset
SELECT * FROM pg_temp.seller(5);
SELECT count(*) > 0 AS sent FROM pg_temp.take();
SELECT pg_temp.tell(:'r', 'declined'), pg_temp.tell(:'q', 'pending', 're_back');
SELECT pg_temp.tell(:'q', 'voided', 're_back');
SELECT status FROM payment.refund WHERE order_id = :'o' ORDER BY id;
SELECT * FROM pg_temp.seller(5);
SELECT payment.release(:'o');
SELECT * FROM pg_temp.seller(5);
-- money that comes although it was given up goes to people
SELECT pg_temp.tell(:'r', 'succeeded', 're_late');
SELECT type FROM payment.exception_record WHERE order_id = :'r';

-- the settlement file: each refund once, what nobody asked for, what came back
SELECT payment.import_settlement('refunds', 'stripe_csv', 'refunds.csv', convert_to(E'balance_transaction_id,currency,gross,fee,net,reporting_category,payment_intent_id,source_id\n'
    'txn_r1,eur,-33.33,0.00,-33.33,refund,pi_1100.00,re_1\n'
    'txn_r1x,eur,-33.33,0.00,-33.33,refund,pi_1100.00,re_1\n'
    'txn_r2,eur,-33.32,0.00,-33.32,refund,pi_1100.00,re_2\n'
    'txn_r3,eur,-33.34,0.00,-33.34,refund,pi_1100.00,re_3\n'
    'txn_s33,eur,-40.00,0.00,-40.00,refund,pi_2100.00,re_s33\n'
    'txn_s35,eur,40.00,0.00,40.00,refund_failure,pi_2100.00,re_s33\n'
    'txn_back,eur,-10.00,0.00,-10.00,refund,pi_5100.00,re_back\n'
    'txn_who,eur,-1.00,0.00,-1.00,refund,pi_5100.00,re_nobody\n', 'UTF8')) IS NOT NULL AS imported;
SELECT lines_matched, lines_excepted FROM payment.reconcile('refunds', 'infinity');
SELECT l.external_id, l.match, x.type, x.expected_amount, x.actual_amount, x.detail FROM payment.settlement_line AS l
    LEFT JOIN payment.exception_record AS x ON x.line_id = l.id WHERE l.psp_id = pg_temp.psp() ORDER BY l.line_no;

-- all or nothing: S16 turned around
CREATE FUNCTION pg_temp.all_or_nothing(name text, capture text) RETURNS void LANGUAGE sql AS $$
    SELECT payment.checkout('refunds ' || name, 'payer', (SELECT jsonb_agg(jsonb_build_object('seller', 'refund seller 7', 'amount', n || '0.00',
        'currency', 'EUR', 'reference', name || '/' || n) ORDER BY n) FROM generate_series(1, 4) AS n), psp => 'refunds', payment_method => 'pm',
        capture => capture, on_partial_failure => 'all_or_nothing')
$$;
CREATE FUNCTION pg_temp.orders(name text) RETURNS TABLE (name text, status text, captured bigint, refunded bigint) LANGUAGE sql AS $$
    SELECT reference, status, captured_amount, refunded_amount FROM payment.payment_order WHERE reference LIKE orders.name || '/%' ORDER BY 1
$$;
SELECT pg_temp.all_or_nothing('nothing', 'automatic');
SELECT count(*) FROM pg_temp.claim(3);
SELECT pg_temp.record('nothing/1', 'succeeded', 'pi_n1'), pg_temp.record('nothing/2', 'declined', 'pi_n2');
SELECT payment.undo_partial_failures(10) AS looked_at;
SELECT * FROM pg_temp.orders('nothing');
SELECT payment.undo_partial_failures(10) AS not_yet;
SELECT pg_temp.record('nothing/3', 'succeeded', 'pi_n3');
SELECT left(pg_temp.refused(format('SELECT payment.retry_order(%L, %L)', pg_temp.object('nothing/2'), 'all or nothing')), 36);
SELECT pg_temp.refused('UPDATE payment.partial_failure SET due_at = now()');
SELECT payment.undo_partial_failures(10) AS looked_at;
SELECT * FROM pg_temp.orders('nothing');
SELECT * FROM pg_temp.payment_of('nothing/%');
SELECT count(*) FROM payment.partial_failure;
SELECT operation, amount FROM pg_temp.take() WHERE operation = 'refund' AND parent LIKE 'pi_n%';
-- authorised ones are voided
SELECT pg_temp.all_or_nothing('void', 'manual');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('void/1', 'authorized', 'pi_v1'), pg_temp.record('void/2', 'authorized', 'pi_v2'), pg_temp.record('void/3', 'failed'),
    pg_temp.record('void/4', 'declined');
SELECT payment.undo_partial_failures(10) AS looked_at;
SELECT * FROM pg_temp.orders('void');

-- only what was captured
SELECT pg_temp.captured(6) AS o \gset
SELECT (payment.checkout('refunds created', 'payer', '[{"seller": "refund seller 6", "amount": 1000, "currency": "EUR", "reference": "6/x"}]',
    psp => 'refunds', payment_method => 'pm')).payment_id IS NOT NULL;
SELECT pg_temp.refused(format('SELECT payment.refund(%L, 1, %L)', pg_temp.object('6/x'), 'too early'));
-- by hand: no
SELECT pg_temp.refused(format('UPDATE payment.refund_record SET status = %L WHERE id = %L', 'succeeded', :'r'));
SELECT pg_temp.refused(format('UPDATE payment.refund_record SET amount = 1 WHERE id = %L', :'r'));
SELECT pg_temp.refused(format('DELETE FROM payment.refund_record WHERE id = %L', :'r'));

SELECT * FROM payment.verify();
