-- Disputes: nobody pays twice, what is won comes back once, and the books say so at each step.
\getenv inputdir PG_ABS_SRCDIR
\set dispatch :inputdir '/lib/dispatch.sql'
\set webhook :inputdir '/lib/webhook.sql'
SET client_min_messages = warning;
\set ECHO none
\i :dispatch
\i :webhook
\set ECHO all
RESET client_min_messages;
SET test.psp = 'disputes';
SET test.webhook_secret = 'whsec_disputes';
SELECT pg_temp.write_secret('disputes', 'whsec_disputes');
SELECT count(payment.register_psp('disputes', 'stripe', 'http://127.0.0.1:1', 'none', webhook_secret_names => '{disputes}'));
SELECT count(payment.register_seller('dispute seller ' || n, 'Seller ' || n)) AS registered FROM generate_series(1, 20) AS n;
SELECT count(payment.set_fee_schedule(0, 1000, payment.seller_id('dispute seller ' || n), 'EUR')) AS set FROM generate_series(1, 20) AS n;

-- order N of seller N, captured as pi_N
CREATE FUNCTION pg_temp.captured(n integer, released boolean DEFAULT true) RETURNS uuid LANGUAGE plpgsql AS $$
BEGIN
    PERFORM payment.checkout('disputes ' || n, 'payer', jsonb_build_array(jsonb_build_object('seller', 'dispute seller ' || n,
        'amount', '100.00', 'currency', 'EUR', 'reference', n::text)), psp => 'disputes', payment_method => 'pm');
    PERFORM pg_temp.claim();
    PERFORM pg_temp.record(n::text, 'succeeded', 'pi_' || n);
    IF released THEN
        PERFORM payment.release(pg_temp.object(n::text));
    END IF;
    RETURN pg_temp.object(n::text);
END
$$;
-- what Stripe tells of dispute dp_N of pi_N; moves: what it took (below zero, each for a fee) and gave back
CREATE FUNCTION pg_temp.tell(n integer, status text, moves bigint[] DEFAULT '{-10000}', after_s integer DEFAULT 0, amount bigint DEFAULT 10000,
    name text DEFAULT NULL, type text DEFAULT 'charge.dispute.updated', currency text DEFAULT 'eur', event text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    told text := coalesce(event, 'evt_' || replace(payment.new_id()::text, '-', ''));
    answer payment.webhook_answer;
BEGIN
    answer := pg_temp.receive(pg_temp.event(told, type, jsonb_build_object('id', coalesce(name, 'dp_' || n), 'object', 'dispute', 'amount', amount,
        'currency', currency, 'payment_intent', 'pi_' || n, 'status', status, 'reason', 'fraudulent', 'evidence_details', '{"due_by": 1760600000}'::jsonb,
        'balance_transactions', (SELECT coalesce(jsonb_agg(jsonb_build_object('amount', m, 'fee', CASE WHEN m < 0 THEN 1500 ELSE 0 END,
            'currency', currency)), '[]') FROM unnest(moves) AS m)), jsonb_build_object('created', 1760000000 + after_s)));
    RETURN (SELECT concat_ws(': ', w.state, w.effect, w.detail) FROM payment.webhook AS w WHERE w.event_id = told AND w.psp = 'disputes');
END
$$;
CREATE FUNCTION pg_temp.dispute(n integer) RETURNS TABLE (stage text, status text, amount bigint, taken boolean, seller bigint, platform bigint,
    loss bigint, fee bigint) LANGUAGE sql AS $$
    SELECT d.stage, d.status, d.amount, d.is_taken, d.seller_share, d.fee_share, d.platform_loss, d.fee FROM payment.dispute AS d
    WHERE d.order_id = pg_temp.object(n::text) ORDER BY d.id
$$;
CREATE FUNCTION pg_temp.seller(n integer) RETURNS TABLE (pending bigint, available bigint, held bigint, in_payout bigint, owed bigint) LANGUAGE sql AS $$
    SELECT w.pending, w.available, w.held, w.in_payout, w.owed FROM payment.wallet AS w WHERE w.seller = 'dispute seller ' || n
$$;
CREATE FUNCTION pg_temp.book(n integer) RETURNS TABLE (kind text, account text, amount bigint) LANGUAGE sql AS $$
    SELECT j.kind, a.code, e.amount FROM payment.dispute AS d JOIN payment.journal AS j ON j.subject = d.id
        JOIN payment.entry AS e ON e.journal_id = j.id JOIN payment.account AS a ON a.id = e.account_id
    WHERE d.order_id = pg_temp.object(n::text) ORDER BY j.id, e.leg
$$;
CREATE FUNCTION pg_temp.steps(n integer) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(coalesce(h.from_status, '') || ' -> ' || h.to_status || ' (' || h.cause || ')', E'\n' ORDER BY h.id)
    FROM payment.dispute AS d JOIN payment.status_history AS h ON h.object_id = d.id WHERE d.order_id = pg_temp.object(n::text)
$$;
-- the platform's and the PSP's accounts, as they change
CREATE FUNCTION pg_temp.accounts() RETURNS TABLE (code text, balance bigint) LANGUAGE sql AS $$
    SELECT a.code, coalesce(sum(b.balance), 0)::bigint FROM payment.account AS a LEFT JOIN payment.balance_slot AS b ON b.account_id = a.id
    WHERE a.currency = 'EUR' AND (a.owner = pg_temp.psp() AND a.code <> 'refund_clearing' OR a.code IN ('platform_fee', 'write_off', 'dispute_fee'))
    GROUP BY a.code ORDER BY a.code
$$;
CREATE TEMP TABLE before AS SELECT * FROM pg_temp.accounts();
CREATE FUNCTION pg_temp.changes() RETURNS TABLE (code text, change bigint) LANGUAGE sql AS $$
    WITH now AS MATERIALIZED (SELECT * FROM pg_temp.accounts()), told AS (SELECT n.code, n.balance - coalesce(b.balance, 0) AS change
        FROM now AS n LEFT JOIN pg_temp.before AS b ON b.code = n.code)
    SELECT code, change FROM told WHERE change <> 0 ORDER BY code
$$;
CREATE PROCEDURE pg_temp.remember() LANGUAGE sql AS $$
    DELETE FROM pg_temp.before;
    INSERT INTO pg_temp.before SELECT * FROM pg_temp.accounts();
$$;
CREATE FUNCTION pg_temp.refused(command text) RETURNS text LANGUAGE sql AS $$
    SELECT regexp_replace(pg_temp.sqlstate_of(command), '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', '<id>', 'g')
$$;

-- an inquiry moves no money, and refunds are possible; then it is a chargeback
SELECT pg_temp.captured(1) AS o \gset
CALL pg_temp.remember();
SELECT pg_temp.tell(1, 'warning_needs_response', '{}');
SELECT * FROM pg_temp.dispute(1);
SELECT * FROM pg_temp.changes();
SELECT payment.refund(:'o', 1000, 'while asked') IS NOT NULL AS refunded;
SELECT pg_temp.tell(1, 'needs_response', '{-10000}', 1);
SELECT * FROM pg_temp.dispute(1);
SELECT pg_temp.steps(1);
SELECT reason, respond_by AT TIME ZONE 'UTC' AS respond_by, psp_reference FROM payment.dispute WHERE order_id = :'o';
SELECT refunded_amount, disputed_amount, disputed_fee, open_disputes FROM payment.order_record WHERE id = :'o';

-- S37: no refund while it is disputed
SELECT pg_temp.refused(format('SELECT payment.refund(%L, 100, %L)', :'o', 'S37'));
SELECT * FROM pg_temp.seller(1);

-- lost: seller and platform pay their parts, to the last unit
SELECT pg_temp.captured(2) AS o \gset
CALL pg_temp.remember();
SELECT pg_temp.tell(2, 'needs_response', type => 'charge.dispute.created');
SELECT * FROM pg_temp.book(2);
SELECT * FROM pg_temp.changes();
SELECT * FROM pg_temp.seller(2);
-- ... told again, and once more in another event: nothing new
SELECT pg_temp.tell(2, 'needs_response', type => 'charge.dispute.funds_withdrawn');
SELECT pg_temp.tell(2, 'under_review', '{-10000}', 5), pg_temp.tell(2, 'needs_response', '{-10000}', 4);
SELECT pg_temp.tell(2, 'lost', '{-10000}', 9, type => 'charge.dispute.closed');
SELECT * FROM pg_temp.dispute(2);
SELECT pg_temp.steps(2);
SELECT * FROM pg_temp.changes();
SELECT * FROM pg_temp.seller(2);
SELECT count(DISTINCT journal.id) FROM payment.journal JOIN payment.dispute AS d ON d.id = journal.subject WHERE d.order_id = :'o';
SELECT pg_temp.refused(format('SELECT payment.refund(%L, 1, %L)', :'o', 'lost'));

-- S39: won: all of it comes back once, but the PSP keeps its fee
SELECT pg_temp.captured(3) AS o \gset
CALL pg_temp.remember();
SELECT pg_temp.tell(3, 'needs_response');
SELECT pg_temp.tell(3, 'won', '{-10000,10000}', 5, type => 'charge.dispute.closed'), pg_temp.tell(3, 'won', '{-10000,10000}', 5, type => 'charge.dispute.funds_reinstated'),
    pg_temp.tell(3, 'won', '{-10000,10000}', 6), pg_temp.tell(3, 'needs_response', '{-10000}', 5);
SELECT * FROM pg_temp.dispute(3);
SELECT * FROM pg_temp.book(3);
SELECT * FROM pg_temp.changes();
SELECT * FROM pg_temp.seller(3);
SELECT payment.refund(:'o', NULL, 'after it was won') IS NOT NULL AS refunded;

-- S40: won, then pre-arbitration, lost
SELECT pg_temp.captured(4) AS o \gset
CALL pg_temp.remember();
SELECT pg_temp.tell(4, 'needs_response'), pg_temp.tell(4, 'under_review', '{-10000}', 1), pg_temp.tell(4, 'won', '{-10000,10000}', 2);
SELECT * FROM pg_temp.seller(4);
SELECT pg_temp.tell(4, 'needs_response', '{-10000,10000,-10000}', 3);
SELECT * FROM pg_temp.dispute(4);
SELECT * FROM pg_temp.seller(4);
SELECT pg_temp.refused(format('SELECT payment.refund(%L, 1, %L)', :'o', 'S40')) LIKE 'PY307%' AS "S37";
SELECT pg_temp.tell(4, 'lost', '{-10000,10000,-10000}', 4);
SELECT pg_temp.steps(4);
SELECT * FROM pg_temp.dispute(4);
SELECT * FROM pg_temp.changes();
SELECT * FROM pg_temp.seller(4);
-- that it was won comes once more, late: nothing comes back a second time
SELECT pg_temp.tell(4, 'won', '{-10000,10000}', 2);
SELECT * FROM pg_temp.dispute(4);
SELECT * FROM pg_temp.changes();
-- ... and at once, within one second
SELECT pg_temp.captured(5) AS o \gset
SELECT pg_temp.tell(5, 'needs_response'), pg_temp.tell(5, 'won', '{-10000,10000}'), pg_temp.tell(5, 'lost', '{-10000,10000,-10000}');
SELECT pg_temp.steps(5);
SELECT * FROM pg_temp.seller(5);
-- the bank gives in after all
SELECT pg_temp.tell(5, 'won', '{-10000,10000,-10000,10000}');
SELECT * FROM pg_temp.dispute(5);
SELECT * FROM pg_temp.seller(5);

-- S38: chargeback after a full refund: nothing is taken from the seller again
SELECT pg_temp.captured(6) AS o \gset
SELECT payment.refund(:'o', NULL, 'S38') IS NOT NULL AS refunded;
SELECT * FROM pg_temp.seller(6);
CALL pg_temp.remember();
SELECT pg_temp.tell(6, 'needs_response');
SELECT * FROM pg_temp.dispute(6);
SELECT * FROM pg_temp.seller(6);
SELECT * FROM pg_temp.exceptions('6');
SELECT pg_temp.tell(6, 'lost', '{-10000}', 1);
SELECT * FROM pg_temp.changes();
SELECT * FROM pg_temp.seller(6);
SELECT refunded_amount, disputed_amount, disputed_fee, open_disputes FROM payment.order_record WHERE id = :'o';

-- S41: of an order that was refunded in part: each pays what is left
SELECT pg_temp.captured(7) AS o \gset
SELECT payment.refund(:'o', 3333, 'S41') IS NOT NULL AS refunded;
CALL pg_temp.remember();
SELECT pg_temp.tell(7, 'needs_response'), pg_temp.tell(7, 'lost', '{-10000}', 1);
SELECT * FROM pg_temp.dispute(7);
SELECT * FROM pg_temp.seller(7);
SELECT * FROM pg_temp.changes();
-- ... and when the seller had paid the platform's part of the refund, too
SELECT pg_temp.captured(8) AS o \gset
SELECT payment.refund(:'o', 5000, 'S41 none', fee_policy => 'none') IS NOT NULL AS refunded;
SELECT pg_temp.tell(8, 'lost', amount => 5000, moves => '{-5000}');
SELECT * FROM pg_temp.dispute(8);
SELECT * FROM pg_temp.seller(8);
-- two disputes of one order, and refunds: the fee comes back without a residue
SELECT pg_temp.captured(9) AS o \gset
SELECT payment.refund(:'o', 3333, 'thirds') IS NOT NULL AS refunded;
SELECT pg_temp.tell(9, 'lost', amount => 3333, moves => '{-3333}', name => 'dp_9a'), pg_temp.tell(9, 'lost', amount => 3334, moves => '{-3334}', name => 'dp_9b');
SELECT * FROM pg_temp.dispute(9);
SELECT * FROM pg_temp.seller(9);
SELECT captured_amount - refunded_amount - disputed_amount AS rest, captured_fee - fee_returned - disputed_fee AS fee_rest FROM payment.order_record WHERE id = :'o';

-- of an order that is not released: from what is pending of it, and back to there
SELECT pg_temp.captured(10, false) AS o \gset
SELECT pg_temp.tell(10, 'needs_response', amount => 4000, moves => '{-4000}');
SELECT * FROM pg_temp.seller(10);
SELECT pg_temp.tell(10, 'won', amount => 4000, moves => '{-4000,4000}', after_s => 1);
SELECT * FROM pg_temp.seller(10);
-- released while it is held: back to what is available
SELECT pg_temp.tell(10, 'needs_response', amount => 4000, moves => '{-4000,4000,-4000}', after_s => 2);
SELECT payment.release(:'o');
SELECT * FROM pg_temp.seller(10);
SELECT pg_temp.tell(10, 'won', amount => 4000, moves => '{-4000,4000,-4000,4000}', after_s => 3);
SELECT * FROM pg_temp.seller(10);

-- S49: while a payout is in transit: the seller owes it, and gets it back
SELECT pg_temp.captured(11) AS o \gset
SELECT payment.payout(payment.seller_id('dispute seller 11'), 9000, 'EUR', 'bank', 'S49', 'disputes') IS NOT NULL AS paid_out;
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('bank', 'pending', 'po_S49');
SELECT pg_temp.tell(11, 'needs_response');
SELECT * FROM pg_temp.seller(11);
SELECT pg_temp.record('bank', 'failed', 'po_S49', error_code => 'account_closed');
SELECT * FROM pg_temp.seller(11);
SELECT pg_temp.tell(11, 'won', '{-10000,10000}', 5);
SELECT * FROM pg_temp.seller(11);

-- before the payment is known: parked, and taken in when it is
SELECT pg_temp.tell(12, 'needs_response', event => 'evt_early_dispute');
SELECT count(*) FROM payment.dispute WHERE psp_reference = 'dp_12';
SELECT pg_temp.captured(12) AS o \gset
SELECT count(*) FROM payment.webhook_waiting AS w JOIN payment.webhook AS e ON e.id = w.webhook_id WHERE e.event_id = 'evt_early_dispute' AND w.run_at <= clock_timestamp();
SELECT count(payment.retry_webhooks(100));
SELECT state, effect FROM payment.webhook WHERE event_id = 'evt_early_dispute';
SELECT * FROM pg_temp.dispute(12);
SELECT * FROM pg_temp.seller(12);

-- what cannot be: no posting, but people hear of it
SELECT pg_temp.captured(13) AS o \gset
CALL pg_temp.remember();
SELECT pg_temp.tell(13, 'needs_response', amount => 10001, moves => '{-10001}', name => 'dp_more');
SELECT pg_temp.tell(13, 'needs_response', currency => 'usd', name => 'dp_usd');
SELECT pg_temp.tell(13, 'needs_response', name => 'pi_13');
SELECT * FROM pg_temp.exceptions('13');
SELECT * FROM pg_temp.dispute(13);
SELECT pg_temp.tell(13, 'needs_response'), pg_temp.tell(13, 'won', amount => 9000, moves => '{-10000,9000}', after_s => 1);
SELECT * FROM pg_temp.dispute(13);
SELECT detail FROM pg_temp.exceptions('13');

-- which two people close, once they have posted what is right
SELECT id AS x FROM payment.exception_record WHERE order_id = pg_temp.object('13') AND type = 'dispute' \gset
SELECT pg_temp.sqlstate_of(format('SELECT payment.propose_resolution(%L, ''refunded_outside'', ''Ann'', ''seen'')', :'x'));
SELECT payment.propose_resolution(:'x', 'kept', 'Ann', 'seen'), payment.approve_resolution(:'x', 'kept', 'Ben', 'seen too');
SELECT type, status, closed_at IS NOT NULL AS closed FROM payment.exception_record WHERE id = :'x';
SELECT * FROM pg_temp.dispute(13);

-- applications hear of each step
SELECT e.number, e.type, e.data ->> 'status' AS status, e.data ->> 'is_taken' AS taken FROM payment.event AS e JOIN payment.dispute AS d ON d.id = e.object_id
WHERE d.psp_reference = 'dp_4' ORDER BY e.number;

-- the events name their disputes
SELECT count(*), count(d.id) FROM payment.webhook AS w LEFT JOIN payment.dispute AS d ON d.id = w.object_id WHERE w.psp = 'disputes' AND w.effect = 'applied';

-- what an event says of money that Stripe does not list
SELECT pg_temp.captured(14) AS o \gset
SELECT pg_temp.tell(14, 'needs_response', '{}', type => 'charge.dispute.created');
SELECT * FROM pg_temp.dispute(14);
SELECT pg_temp.tell(14, 'needs_response', '{}', type => 'charge.dispute.funds_withdrawn');
SELECT * FROM pg_temp.dispute(14);
SELECT pg_temp.tell(14, 'under_review', '{}', 1), pg_temp.tell(14, 'won', '{}', 2, type => 'charge.dispute.closed'), pg_temp.tell(14, 'nonsense', '{}', 3);
SELECT * FROM pg_temp.dispute(14);
SELECT * FROM pg_temp.seller(14);

-- a refund under way fails as a dispute came upon it: the payer gets the money once, and nobody asks for it again
SELECT pg_temp.captured(15) AS o \gset
SELECT payment.refund(:'o', NULL, 'overtaken') AS overtaken \gset
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.tell(15, 'needs_response');
SELECT payment.record_outcomes(ARRAY[jsonb_populate_record(NULL::payment.attempt_outcome, jsonb_build_object('attempt_id', a.id, 'outcome', 'failed',
    'http_status', 200, 'latency_ms', 5, 'psp_reference', 're_15', 'error_code', 'charge_for_pending_refund_disputed'))])
FROM payment.attempt AS a WHERE a.object_id = :'overtaken';
SELECT pg_temp.tell(15, 'lost', after_s => 1);
SELECT * FROM pg_temp.dispute(15);
SELECT * FROM pg_temp.seller(15);
SELECT pg_temp.refused(format('SELECT payment.refund(%L, NULL, %L)', :'o', 'once more'));
SELECT detail FROM pg_temp.exceptions('15');

SELECT check_name, detail, expected, actual FROM payment.verify();
