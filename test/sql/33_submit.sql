-- Submit: many events at once, pay-ins and pay-outs, all or none.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/order.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;
SET test.psp = 'submit';
SELECT count(payment.register_psp('submit', 'none', 'http://127.0.0.1:1', 'none')) AS registered;
SELECT count(payment.register_seller('submit alice', 'Alice')) AS registered;

-- the event of a marketplace's checkout: payer and sellers with details, who
-- are registered when they are new
CREATE TEMP TABLE made AS SELECT * FROM payment.submit('[
    {"idempotency_key": "submit 1", "payment_type": "pay_in", "psp": "submit", "payment_method": "pm_card_visa",
     "payer": {"reference": "buyer 42", "name": "Ada", "email": "ada@shop.test"}, "metadata": {"checkout_id": "c-1"},
     "orders": [
        {"seller": {"reference": "submit bakery", "name": "The bakery", "metadata": {"country": "FR"}},
         "amount": "17.50", "currency": "EUR", "reference": "bread"},
        {"seller": {"reference": "submit dairy"}, "amount": "3.00", "currency": "EUR", "reference": "milk"},
        {"seller": {"reference": "submit bakery", "name": "another name"}, "amount": 120, "currency": "EUR", "reference": "roll"}]},
    {"idempotency_key": "submit 2", "payment_type": "pay_in", "psp": "submit", "payment_method": "pm_card_visa",
     "payer": "buyer 43", "orders": [{"seller": "submit dairy", "amount": "1", "currency": "JPY", "reference": "yen"}]}]');
SELECT position, idempotency_key, payment_type, array_length(order_ids, 1) AS orders FROM made ORDER BY position;
SELECT p.payer, p.status, p.order_count, p.metadata FROM made JOIN payment.payment AS p ON p.id = object_id ORDER BY position;
SELECT m.position, u.n, o.seller, o.amount, o.currency, o.reference
FROM made AS m, unnest(order_ids) WITH ORDINALITY AS u (id, n) JOIN payment.payment_order AS o ON o.id = u.id ORDER BY 1, 2;
SELECT reference, name, metadata FROM payment.seller WHERE reference LIKE 'submit %' ORDER BY 1;
-- again: the same answer, and nothing new
SELECT count(*) FROM made NATURAL JOIN payment.submit('[
    {"idempotency_key": "submit 1", "payment_type": "pay_in", "psp": "submit", "payment_method": "pm_card_visa",
     "payer": {"reference": "buyer 42", "name": "Ada", "email": "ada@shop.test"}, "metadata": {"checkout_id": "c-1"},
     "orders": [
        {"seller": {"reference": "submit bakery", "name": "The bakery", "metadata": {"country": "FR"}},
         "amount": "17.50", "currency": "EUR", "reference": "bread"},
        {"seller": {"reference": "submit dairy"}, "amount": "3.00", "currency": "EUR", "reference": "milk"},
        {"seller": {"reference": "submit bakery", "name": "another name"}, "amount": 120, "currency": "EUR", "reference": "roll"}]}]');
SELECT count(*) FROM payment.payment WHERE psp = 'submit';
-- checkout and submit are one way: the same key and arguments through either
SELECT (payment.checkout('submit 2', 'buyer 43', '[{"seller": "submit dairy", "amount": "1", "currency": "JPY",
    "reference": "yen"}]', 'submit', 'pm_card_visa')).payment_id = (SELECT object_id FROM made WHERE position = 2) AS same;

-- one event, not in an array; none at all
SELECT position, payment_type, cardinality(order_ids) FROM payment.submit('{"idempotency_key": "submit single",
    "payment_type": "pay_in", "psp": "submit", "payment_method": "pm", "payer": "p",
    "orders": [{"seller": "submit alice", "amount": 10000, "currency": "USD", "reference": "single"}]}');
SELECT * FROM payment.submit('[]');

-- pay-ins and pay-outs in one call
SELECT pg_temp.send('succeeded');
SELECT payment.release(pg_temp.object('single'));
SELECT position, idempotency_key, payment_type, cardinality(order_ids) AS orders FROM payment.submit('[
    {"idempotency_key": "submit out 1", "payment_type": "pay_out", "psp": "submit", "seller": "submit alice",
     "amount": "60.00", "currency": "USD", "destination": "ba_alice"},
    {"idempotency_key": "submit in 3", "payment_type": "pay_in", "psp": "submit", "payment_method": "pm", "payer": "p",
     "orders": [{"seller": "submit alice", "amount": 5, "currency": "USD", "reference": "five"}]},
    {"idempotency_key": "submit out 2", "payment_type": "pay_out", "psp": "submit", "seller": {"reference": "submit alice"},
     "amount": 4000, "currency": "USD", "destination": "ba_alice 2"}]');
SELECT seller, amount, currency, destination, status, requested_by = session_user AS by_us FROM payment.payout
WHERE psp = 'submit' ORDER BY id;
SELECT * FROM pg_temp.wallet('submit alice');

-- all or none
SELECT pg_temp.error_of($$SELECT payment.submit('[
    {"idempotency_key": "submit good", "payment_type": "pay_in", "psp": "submit", "payment_method": "pm", "payer": "p",
     "orders": [{"seller": {"reference": "submit newcomer"}, "amount": 5, "currency": "USD"}]},
    {"idempotency_key": "submit too much", "payment_type": "pay_out", "psp": "submit", "seller": "submit alice",
     "amount": 1, "currency": "USD", "destination": "ba_alice"}]')$$);
SELECT count(*) FROM payment.idempotency WHERE key IN ('submit good', 'submit too much');
SELECT count(*) FROM payment.seller WHERE reference = 'submit newcomer';
-- together more than there is, although each alone would do
SELECT pg_temp.buy('more', 'submit alice', '10.00', 'USD');
SELECT pg_temp.send('succeeded');
SELECT payment.release(pg_temp.object('more'));
SELECT pg_temp.error_of($$SELECT payment.submit('[
    {"idempotency_key": "submit a", "payment_type": "pay_out", "psp": "submit", "seller": "submit alice",
     "amount": 600, "currency": "USD", "destination": "x"},
    {"idempotency_key": "submit b", "payment_type": "pay_out", "psp": "submit", "seller": "submit alice",
     "amount": 600, "currency": "USD", "destination": "x"}]')$$);
SELECT * FROM pg_temp.wallet('submit alice');

-- a key twice in one call: the same arguments are one, others are refused
SELECT count(DISTINCT object_id), count(*) FROM payment.submit('[
    {"idempotency_key": "submit twice", "payment_type": "pay_in", "psp": "submit", "payment_method": "pm", "payer": "p",
     "orders": [{"seller": "submit alice", "amount": 5, "currency": "USD", "reference": "twice"}]},
    {"payment_type": "pay_in", "psp": "submit", "payment_method": "pm", "payer": "p", "idempotency_key": "submit twice",
     "orders": [{"currency": "USD", "amount": 5, "seller": "submit alice", "reference": "twice"}]}]');
SELECT count(*) FROM payment.payment_order WHERE reference = 'twice';
SELECT pg_temp.error_of($$SELECT payment.submit('[
    {"idempotency_key": "submit other", "payment_type": "pay_in", "psp": "submit", "payment_method": "pm", "payer": "p",
     "orders": [{"seller": "submit alice", "amount": 5, "currency": "USD"}]},
    {"idempotency_key": "submit other", "payment_type": "pay_in", "psp": "submit", "payment_method": "pm", "payer": "p",
     "orders": [{"seller": "submit alice", "amount": 6, "currency": "USD"}]}]')$$);
SELECT pg_temp.error_of($$SELECT payment.submit('[
    {"idempotency_key": "submit other", "payment_type": "pay_in", "psp": "submit", "payment_method": "pm", "payer": "p",
     "orders": [{"seller": "submit alice", "amount": 5, "currency": "USD"}]},
    {"idempotency_key": "submit other", "payment_type": "pay_out", "psp": "submit", "seller": "submit alice",
     "amount": 5, "currency": "USD", "destination": "x"}]')$$);

-- what is refused; errors name the place
SELECT e, pg_temp.error_of(format('SELECT payment.submit(%L)', e)) FROM unnest(ARRAY[
    'null', '1', '"x"', 'true', '[1]', '[null]', '[[]]', '{}', '[{}]',
    '{"payment_type": "pay_in"}',
    '{"payment_type": "refund", "idempotency_key": "k"}',
    '{"payment_type": 1, "idempotency_key": "k"}',
    '{"payment_type": null, "idempotency_key": "k"}',
    '{"payment_type": "pay_in", "idempotency_key": "k", "payer": "p", "payment_method": "pm"}',
    '{"payment_type": "pay_in", "idempotency_key": "k", "payer": "p", "payment_method": "pm", "orders": {}}',
    '{"payment_type": "pay_in", "idempotency_key": "k", "payer": "p", "payment_method": "pm", "orders": []}',
    '{"payment_type": "pay_in", "idempotency_key": "k", "payer": {"name": "x"}, "payment_method": "pm", "orders": []}',
    '{"payment_type": "pay_in", "idempotency_key": "k", "payer": {"reference": 1}, "payment_method": "pm", "orders": []}',
    '{"payment_type": "pay_in", "idempotency_key": "k", "payer": {"reference": "x"}, "metadata": {"payer": 1}, "orders": []}',
    '{"payment_type": "pay_in", "idempotency_key": "k", "payer": 7, "payment_method": "pm", "orders": []}',
    '{"payment_type": "pay_in", "idempotency_key": 5}',
    '{"payment_type": "pay_in", "idempotency_key": "k", "destination": "d"}',
    '{"payment_type": "pay_out", "idempotency_key": "k", "payer": "p"}',
    '{"payment_type": "pay_out", "idempotency_key": "k"}',
    '{"payment_type": "pay_out", "idempotency_key": "k", "seller": "submit alice", "amount": 1, "currency": "USD"}',
    '{"payment_type": "pay_out", "idempotency_key": "k", "seller": "submit alice", "amount": -1, "currency": "USD", "destination": "d"}',
    '{"payment_type": "pay_out", "idempotency_key": "k", "seller": "nobody", "amount": 1, "currency": "USD", "destination": "d", "psp": "submit"}',
    '{"payment_type": "pay_out", "idempotency_key": "k", "seller": "submit alice", "amount": 1, "currency": "USD", "destination": "d", "psp": "none such"}',
    '{"payment_type": "pay_out", "seller": "submit alice", "amount": 1, "currency": "USD", "destination": "d"}',
    '[{"payment_type": "pay_in", "idempotency_key": "k", "payer": "p", "payment_method": "pm", "psp": "submit", "orders": [{"seller": "submit alice", "amount": 1, "currency": "USD"}]}, {"payment_type": "pay_in", "idempotency_key": "l", "payer": "p", "payment_method": "pm", "psp": "submit", "orders": [{"seller": "submit alice", "amount": 1, "currency": "USD"}, {"seller": "nobody", "amount": 1, "currency": "USD"}]}]',
    '[{"payment_type": "pay_in", "idempotency_key": "k", "payer": "p", "payment_method": "pm", "psp": "submit", "orders": [{"seller": "submit alice", "amount": 1, "currency": "USD"}]}, {"payment_type": "pay_in", "idempotency_key": "l", "payer": "p", "payment_method": "pm", "psp": "submit", "orders": [{"seller": "submit alice", "amount": 1, "currency": "USD", "metadata": {"pan": "4111111111111111"}}]}]',
    '[{"unknown": "key", "card": "4111111111111111"}]']) AS e;
SELECT pg_temp.error_of('SELECT payment.submit(NULL)');
BEGIN;
SET LOCAL payment.max_events_per_submit = 2;
SELECT pg_temp.error_of('SELECT payment.submit(''[1, 2, 3]'')');
ROLLBACK;

-- thousands at once; not left behind
BEGIN;
CREATE TEMP TABLE many AS SELECT * FROM payment.submit((
    SELECT jsonb_agg(jsonb_build_object('idempotency_key', 'submit many ' || n, 'payment_type', 'pay_in', 'psp', 'submit',
        'payment_method', 'pm', 'payer', 'p', 'orders', jsonb_build_array(
            jsonb_build_object('seller', jsonb_build_object('reference', 'submit crowd ' || n % 100), 'amount', n, 'currency', 'EUR'),
            jsonb_build_object('seller', 'submit alice', 'amount', n, 'currency', 'USD')))
        ORDER BY n DESC)
    FROM generate_series(1, 3000) AS n));
SELECT count(*), count(DISTINCT object_id), min(position), max(position), bool_and(idempotency_key = 'submit many ' || 3001 - position)
FROM many;
SELECT count(*), sum(amount) FROM payment.payment_order WHERE payment_id IN (SELECT object_id FROM many);
SELECT bool_and(o.id = order_ids[1] AND o.seller = 'submit crowd ' || (3001 - position) % 100 AND o.amount = 3001 - position)
FROM many JOIN payment.payment_order AS o ON o.payment_id = object_id AND o.currency = 'EUR';
SELECT count(*) FROM payment.seller WHERE reference LIKE 'submit crowd %';
SELECT h.object, h.cause, count(*) FROM payment.status_history AS h
WHERE h.object_id IN (SELECT object_id FROM many UNION ALL SELECT unnest(order_ids) FROM many) GROUP BY 1, 2 ORDER BY 1;
ROLLBACK;
