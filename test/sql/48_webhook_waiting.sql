-- Webhook events that cannot be applied when they come.
\getenv inputdir PG_ABS_SRCDIR
\set dispatch :inputdir '/lib/dispatch.sql'
\set webhook :inputdir '/lib/webhook.sql'
SET client_min_messages = warning;
\set ECHO none
\i :dispatch
\i :webhook
\set ECHO all
RESET client_min_messages;
SET test.psp = 'webhook waiting';
SET test.webhook_secret = 'whsec_waiting';
SELECT pg_temp.write_secret('webhook_waiting', 'whsec_waiting');
SELECT count(payment.register_psp(name, 'stripe', 'http://127.0.0.1:1', 'none', webhook_secret_names => '{webhook_waiting}'))
FROM unnest(ARRAY['webhook waiting', 'webhook other']) AS name;
SELECT count(payment.register_seller('dispatch seller ' || n, 'Seller ' || n)) AS registered FROM generate_series(1, 5) AS n;
SELECT pg_temp.pay('wait', '10.00', '20.00', '30.00', '40.00', '50.00');

-- S21: an order that was not even sent: parked, and applied once it was
SELECT a.http_status FROM pg_temp.event('evt_early', 'payment_intent.succeeded', pg_temp.intent('pi_early', 'wait/1',
    'succeeded', 1000)) AS b (body), pg_temp.receive(b.body) AS a;
SELECT * FROM pg_temp.webhooks('evt_early');
SELECT pg_temp.age_webhooks('20 s');
SELECT pg_temp.retry_webhooks();
SELECT * FROM pg_temp.webhooks('evt_early');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.age_webhooks('20 s');
SELECT pg_temp.retry_webhooks();
SELECT * FROM pg_temp.webhooks('evt_early');
SELECT * FROM pg_temp.show('wait/1');
SELECT pg_temp.record('wait/1', 'succeeded', 'pi_early');
SELECT count(*) FROM pg_temp.journals('wait/1');
SELECT * FROM pg_temp.waiting();

-- S21: known by a reference only, which the answer to the request tells
SELECT a.http_status FROM pg_temp.event('evt_reference', 'payment_intent.succeeded', pg_temp.intent('pi_reference', 'wait/2',
    'succeeded', 2000, '{"metadata": {}}')) AS b (body), pg_temp.receive(b.body) AS a;
SELECT * FROM pg_temp.webhooks('evt_reference');
SELECT * FROM pg_temp.waiting();
-- it is not due for long, until the answer tells the name
SELECT pg_temp.age_webhooks('-1 h');
SELECT pg_temp.retry_webhooks();
SELECT * FROM pg_temp.waiting();
SELECT pg_temp.record('wait/2', 'pending', 'pi_reference');
SELECT pg_temp.retry_webhooks();
SELECT * FROM pg_temp.webhooks('evt_reference');
SELECT pg_temp.history('wait/2');
SELECT * FROM pg_temp.waiting();

-- told that it was declined, while the answer is on its way that may send the
-- order elsewhere: that decides
SELECT a.http_status FROM pg_temp.event('evt_declined', 'payment_intent.payment_failed', pg_temp.intent('pi_declined', 'wait/3',
    'requires_payment_method', 3000, '{"last_payment_error": {"code": "card_declined", "decline_code": "do_not_honor"}}'))
    AS b (body), pg_temp.receive(b.body) AS a;
SELECT * FROM pg_temp.webhooks('evt_declined');
SELECT name, status FROM pg_temp.show('wait/3');
-- ... unless it is lost
SELECT pg_temp.record('wait/3', 'unknown');
SELECT pg_temp.age_webhooks('20 s');
SELECT pg_temp.retry_webhooks();
SELECT event_id, state, effect FROM pg_temp.webhooks('evt_declined');
SELECT name, status, failure_code FROM pg_temp.show('wait/3');

-- the failure of an attempt says nothing of the next one
SELECT pg_temp.pay('again', '10.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('again/1', 'declined', 'pi_again_1', error_code => 'card_declined');
SELECT payment.retry_order(pg_temp.object('again/1'), 'webhook waiting retry');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('again/1', 'unknown');
SELECT name, status, no FROM pg_temp.show('again/1');
SELECT a.http_status FROM (VALUES
    (1, pg_temp.intent('pi_again_1', 'again/1', 'requires_payment_method', 1000, '{"last_payment_error": {"code": "no"}}', 1)),
    (2, pg_temp.intent('pi_again_1', 'again/1', 'requires_payment_method', 1000, '{"last_payment_error": {"code": "no"}}', 0)),
    (3, pg_temp.intent('pi_again_0', 'again/1', 'requires_payment_method', 1000, '{"last_payment_error": {"code": "no"}}', 0)))
    AS i (n, intent), pg_temp.event('evt_again_' || n, 'payment_intent.payment_failed', intent) AS b (body), pg_temp.receive(b.body) AS a;
SELECT event_id, state, effect, detail FROM pg_temp.webhooks('evt_again%');
SELECT name, status, no FROM pg_temp.show('again/1');
-- that it succeeded does
SELECT a.http_status FROM pg_temp.event('evt_again_4', 'payment_intent.succeeded', pg_temp.intent('pi_again_2', 'again/1',
    'succeeded', 1000, '{}', 0)) AS b (body), pg_temp.receive(b.body) AS a;
SELECT name, status, no, captured, psp_reference FROM pg_temp.show('again/1');

-- S24: a refund, before the capture and after it; a dispute that says nothing we know
SELECT a.http_status FROM pg_temp.event('evt_refund', 'refund.created', '{"id": "re_1", "object": "refund", "status": "succeeded",
    "amount": 100, "currency": "eur", "payment_intent": "pi_refunded"}') AS b (body), pg_temp.receive(b.body) AS a;
SELECT a.http_status FROM pg_temp.event('evt_dispute', 'charge.dispute.created', '{"id": "du_1", "object": "dispute",
    "status": "something_new", "amount": 100, "currency": "eur", "payment_intent": "pi_early"}') AS b (body), pg_temp.receive(b.body) AS a;
SELECT * FROM pg_temp.webhooks('evt_refund');
SELECT * FROM pg_temp.webhooks('evt_dispute');
SELECT pg_temp.record('wait/4', 'succeeded', 'pi_refunded');
SELECT pg_temp.age_webhooks('20 s');
SELECT pg_temp.retry_webhooks();
SELECT event_id, state, name FROM pg_temp.webhooks('evt_refund');
-- people see what waits, before and after the time is over
SELECT operation, step, reason FROM payment.stuck WHERE psp = current_setting('test.psp') AND operation = 'webhook';
SELECT pg_temp.age_webhooks('1 h');
SELECT operation, step, reason FROM payment.stuck WHERE psp = current_setting('test.psp') AND operation = 'webhook';
SELECT pg_temp.retry_webhooks();
SELECT operation, step, reason FROM payment.stuck WHERE psp = current_setting('test.psp') AND operation = 'webhook';
SELECT pg_temp.age_webhooks('3 d');
SELECT pg_temp.retry_webhooks();
SELECT event_id, state, name, detail FROM pg_temp.webhooks('evt_refund') UNION ALL
SELECT event_id, state, name, detail FROM pg_temp.webhooks('evt_dispute');
SELECT name, type, status, detail FROM pg_temp.exceptions('wait%');
SELECT * FROM pg_temp.waiting();

-- what names nothing of ours is somebody else's
SELECT a.http_status FROM pg_temp.event('evt_strange', 'payment_intent.succeeded', pg_temp.intent('pi_strange', 'nothing',
    'succeeded', 1000)) AS b (body), pg_temp.receive(b.body) AS a;
SELECT a.http_status FROM pg_temp.event('evt_named', 'payment_intent.succeeded', pg_temp.intent('pi_named', 'nothing',
    'succeeded', 1000, '{"metadata": {"payment_order": "order-5"}}')) AS b (body), pg_temp.receive(b.body) AS a;
SELECT a.http_status FROM pg_temp.event('evt_lost_order', 'payment_intent.succeeded', pg_temp.intent('pi_lost_order', 'nothing',
    'succeeded', 1000, '{"metadata": {"payment_order": "0190a000-0000-7000-8000-000000000001"}}')) AS b (body), pg_temp.receive(b.body) AS a;
SELECT event_id, state, detail FROM payment.webhook WHERE psp = current_setting('test.psp')
    AND event_id IN ('evt_strange', 'evt_named', 'evt_lost_order') ORDER BY id;
SELECT pg_temp.age_webhooks('4 d');
SELECT pg_temp.retry_webhooks();
SELECT event_id, state, detail FROM payment.webhook WHERE psp = current_setting('test.psp')
    AND event_id IN ('evt_strange', 'evt_named', 'evt_lost_order') ORDER BY id;
SELECT type, order_id, detail FROM payment.exception WHERE psp = current_setting('test.psp')
    AND order_id = '0190a000-0000-7000-8000-000000000001';

-- S28: a right signature, and an order of another PSP, or of another account
SELECT a.http_status, a.body FROM pg_temp.event('evt_foreign', 'payment_intent.succeeded', pg_temp.intent('pi_foreign', 'wait/5',
    'succeeded', 5000)) AS b (body), payment.receive_webhook('webhook other', pg_temp.signed(b.body), b.body) AS a;
SELECT a.http_status, a.body FROM pg_temp.event('evt_account', 'payment_intent.succeeded', pg_temp.intent('pi_account', 'wait/5',
    'succeeded', 5000), '{"account": "acct_other"}') AS b (body), pg_temp.receive(b.body) AS a;
SELECT w.psp, w.event_id, w.state, w.effect, w.detail FROM payment.webhook AS w WHERE w.event_id IN ('evt_foreign', 'evt_account') ORDER BY id;
SELECT name, status FROM pg_temp.show('wait/5');
-- an order's id as a payout's
SELECT a.http_status FROM pg_temp.event('evt_payout', 'payout.paid', jsonb_build_object('id', 'po_1', 'object', 'payout', 'status', 'paid',
    'amount', 5000, 'currency', 'eur', 'metadata', jsonb_build_object('payout', pg_temp.object('wait/5')))) AS b (body), pg_temp.receive(b.body) AS a;
SELECT event_id, state, detail FROM pg_temp.webhooks('evt_payout');
SELECT name, status FROM pg_temp.show('wait/5');

-- no room to park: an exception at once
SET payment.max_parked_webhooks = 0;
SELECT a.http_status FROM pg_temp.event('evt_no_room', 'refund.created', '{"id": "re_2", "object": "refund", "status": "succeeded",
    "amount": 100, "currency": "eur", "payment_intent": "pi_early"}') AS b (body), pg_temp.receive(b.body) AS a;
SELECT event_id, state, name, detail FROM pg_temp.webhooks('evt_no_room');
-- ... also of what names nothing of ours: it may be a payment of ours all the same
SELECT a.http_status FROM pg_temp.event('evt_strange_no_room', 'payment_intent.succeeded', pg_temp.intent('pi_stranger', 'nothing',
    'succeeded', 1000)) AS b (body), pg_temp.receive(b.body) AS a;
SELECT event_id, state, name, detail FROM pg_temp.webhooks('evt_strange_no_room');
SELECT type, detail FROM payment.exception WHERE psp = current_setting('test.psp') AND order_id IS NULL AND detail LIKE '%evt_strange_no_room%';
RESET payment.max_parked_webhooks;
SELECT name, type, detail FROM pg_temp.exceptions('wait/1');

-- payouts: paid, and then not
SELECT pg_temp.record('wait/5', 'succeeded', 'pi_5');
SELECT payment.release(pg_temp.object('wait/5'));
SELECT count(payment.payout((SELECT id FROM payment.seller WHERE reference = 'dispatch seller 5'), 4000, 'EUR', 'webhook account',
    'webhook payout', psp => current_setting('test.psp')));
SELECT count(*) FROM pg_temp.claim();
SELECT a.http_status FROM (VALUES (1, 'created', 'in_transit'), (2, 'paid', 'paid'), (3, 'failed', 'failed')) AS v (n, type, status),
    pg_temp.event('evt_payout_' || n, 'payout.' || type, jsonb_build_object('id', 'po_2', 'object', 'payout', 'status', v.status,
    'amount', 4000, 'currency', 'eur', 'metadata', jsonb_build_object('payout', pg_temp.object('webhook account'), 'attempt', '1'))) AS b (body),
    pg_temp.receive(b.body) AS a;
-- that another try has failed is no news
SELECT a.http_status FROM pg_temp.event('evt_payout_4', 'payout.failed', jsonb_build_object('id', 'po_other', 'object', 'payout',
    'status', 'failed', 'amount', 4000, 'currency', 'eur', 'metadata', jsonb_build_object('payout', pg_temp.object('webhook account')))) AS b (body),
    pg_temp.receive(b.body) AS a;
SELECT event_id, state, effect FROM pg_temp.webhooks('evt_payout_%');
SELECT pg_temp.history('webhook account');
SELECT count(*) FROM pg_temp.journals('webhook account');
SELECT name, type, detail FROM pg_temp.exceptions('webhook account');

-- S74: a card number in a body is overwritten; a reference that looks like one is not
SELECT a.http_status FROM pg_temp.event('evt_card', 'customer.updated', '{"id": "cus_1", "description": "card 4111 1111 1111 1111",
    "phone": "4242424242424242"}') AS b (body), pg_temp.receive(b.body) AS a;
SELECT redacted, convert_from(body, 'UTF8') LIKE '%card XXXX XXXX XXXX XXXX%' AS hidden, body::text LIKE '%34323432%' AS left
FROM payment.webhook_event WHERE event_id = 'evt_card';

-- hostile bodies, signed as they should be
SELECT h.what, a.http_status, a.body FROM (VALUES
    ('nothing', ''::bytea),
    ('no JSON', 'hello'),
    ('an array', '[]'),
    ('no event', '{}'),
    ('deep', convert_to(repeat('{"a":', 100) || '1' || repeat('}', 100), 'UTF8')),
    ('brackets', convert_to(repeat('[', 1000000), 'UTF8')),
    ('NUL', '\x7b2261223a22002200227d'),
    ('NUL escaped', convert_to('{"id": "evt_\u0000", "object": "event", "type": "x", "data": {"object": {}}}', 'UTF8')),
    ('invalid UTF-8', '\x7b226964223a22c328227d'),
    ('a surrogate alone', convert_to('{"id": "evt_\ud800", "object": "event", "type": "x", "data": {"object": {}}}', 'UTF8')),
    ('a long id', convert_to('{"id": "' || repeat('x', 256) || '", "object": "event", "type": "x", "data": {"object": {}}}', 'UTF8')),
    ('a blank in the id', '{"id": "evt 1", "object": "event", "type": "x", "data": {"object": {}}}'),
    ('two ids', '{"id": "evt_a", "id": "evt_b", "object": "event", "type": "x", "data": {"object": {}}}'),
    ('a number too large', pg_temp.event('evt_large', 'payment_intent.succeeded',
        pg_temp.intent('pi_large', 'wait/5', 'succeeded', 1) || '{"amount_received": 99999999999999999999, "amount": 1e400}')),
    ('a negative one', pg_temp.event('evt_negative', 'payment_intent.succeeded',
        pg_temp.intent('pi_negative', 'wait/5', 'succeeded', -5000))),
    ('a fraction', pg_temp.event('evt_fraction', 'payment_intent.succeeded',
        pg_temp.intent('pi_fraction', 'wait/5', 'succeeded', 1) || '{"amount_received": 5000.5, "amount": "5000"}')),
    ('another status', pg_temp.event('evt_status', 'payment_intent.succeeded', pg_temp.intent('pi_status', 'wait/5', 'canceled', 5000))),
    ('another object', pg_temp.event('evt_object', 'payment_intent.succeeded', pg_temp.intent('pi_object', 'wait/5', 'succeeded', 5000)
        || '{"object": "invoice"}'))) AS h (what, body), LATERAL pg_temp.receive(h.body) AS a;
SELECT event_id, state, detail FROM payment.webhook WHERE psp = current_setting('test.psp') AND event_id IN ('evt_a', 'evt_b', 'evt_large',
    'evt_negative', 'evt_fraction', 'evt_status', 'evt_object') ORDER BY id;
SELECT name, status, captured FROM pg_temp.show('wait/5');

-- the ring of rejections goes round
SET payment.max_webhook_rejections = 5;
SELECT count((pg_temp.receive(convert_to('forged ' || n, 'UTF8'), '{}')).http_status) FROM generate_series(1, 20) AS n;
SELECT payment.retry_webhooks(1);
SELECT count(*), bool_and(body_sha256 = sha256(convert_to('forged ' || n, 'UTF8'))) AS the_last FROM
    (SELECT body_sha256, 15 + row_number() OVER (ORDER BY rejected_at) AS n FROM payment.webhook_rejection) AS r;
RESET payment.max_webhook_rejections;
SELECT payment.retry_webhooks(0);
SELECT payment.retry_webhooks(NULL);
SELECT * FROM payment.verify();
