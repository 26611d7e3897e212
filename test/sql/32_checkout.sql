-- Checkout: one payment, an order for each seller.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/order.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;
SET test.psp = 'checkout';
SELECT count(payment.register_psp('checkout', 'none', 'http://127.0.0.1:1', 'none')) AS registered;
SELECT payment.register_seller('checkout alice', 'Alice') AS alice \gset
SELECT payment.register_seller('checkout bob', 'Bob') AS bob \gset
SELECT count(payment.set_fee_schedule(0, 1000, :'alice')) AS scheduled;

-- as the application calls it: sellers by reference or id, amounts in minor
-- units as numbers or in major units as strings; ids in the order of input
CREATE TEMP TABLE made AS
SELECT (payment.checkout('checkout first', 'customer 7', format('[
    {"seller": "checkout alice", "amount": "12.34", "currency": "USD", "reference": "line 1", "description": "a book"},
    {"seller": %s, "amount": 500, "currency": "JPY", "reference": "line 2", "metadata": {"colour": "red"}},
    {"currency": "KWD", "amount": "1.234", "seller": "checkout alice", "reference": "line 3"}]', to_json(:'bob'::text))::jsonb,
    psp => 'checkout', payment_method => 'pm_card_visa', metadata => '{"basket": 7}')).*;
SELECT p.payer, p.psp, p.payment_method, p.status, p.order_count, p.succeeded_count, p.failed_count, p.metadata,
    p.created_at > now() - interval '1 minute' AS recent
FROM payment.payment AS p JOIN made ON p.id = payment_id;
SELECT u.n, o.seller, o.amount, o.currency, o.platform_fee, o.captured_amount, o.status, o.classic_status, o.attempt_no,
    o.reference, o.description, o.metadata
FROM made, unnest(order_ids) WITH ORDINALITY AS u (id, n) JOIN payment.payment_order AS o ON o.id = u.id ORDER BY u.n;
SELECT t.operation, t.step, t.tries, t.run_at <= clock_timestamp() AS due, t.psp_id = pg_temp.psp() AS same_psp, o.reference
FROM payment.task AS t JOIN payment.order_record AS o ON o.id = t.object_id, made WHERE o.payment_id = made.payment_id
ORDER BY o.id;
SELECT payment.id_shard(payment_id) = current_setting('payment.shard_id')::integer AS shard FROM made;

-- S02 and the other way round are in 35_idempotency; the same call again
SELECT c = m AS same FROM made AS m, LATERAL (SELECT (payment.checkout('checkout first', 'customer 7', format('[
    {"amount": "12.34", "seller": "checkout alice", "reference": "line 1", "currency": "USD", "description": "a book"},
    {"seller": %s, "amount": 500, "currency": "JPY", "reference": "line 2", "metadata": {"colour": "red"}},
    {"currency": "KWD", "amount": "1.234", "seller": "checkout alice", "reference": "line 3"}]', to_json(:'bob'::text))::jsonb,
    psp => 'checkout', payment_method => 'pm_card_visa', metadata => '{"basket": 7}')).*) AS c;
SELECT count(*) FROM payment.payment WHERE psp = 'checkout';

-- S17: the caller rolls back: nothing is there to be sent
BEGIN;
SELECT pg_temp.buy('rolled back', 'checkout alice', '1.00', 'USD');
SELECT count(*) FROM payment.payment_order WHERE reference = 'rolled back';
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT pg_temp.buy('rolled back', 'checkout alice', '1.00', 'USD');
ROLLBACK TO s;
COMMIT;
SELECT count(*) FROM payment.payment_order WHERE reference = 'rolled back';
SELECT count(*) FROM payment.task AS t WHERE NOT EXISTS (SELECT FROM payment.order_record WHERE id = t.object_id)
    AND NOT EXISTS (SELECT FROM payment.payout_record WHERE id = t.object_id);
SELECT count(*) FROM payment.idempotency WHERE key = 'checkout rolled back';
-- ... and its key is free
SELECT pg_temp.buy('rolled back', 'checkout alice', '2.00', 'USD');

-- S62: 1.00 split three ways
SELECT count(*) AS orders FROM unnest((payment.checkout('checkout split', 'payer', (
    SELECT jsonb_agg(jsonb_build_object('seller', 'checkout bob', 'amount', part, 'currency', 'EUR', 'reference', 'third ' || n))
    FROM unnest(payment.split_money(100, '{1,1,1}')) WITH ORDINALITY AS u (part, n)),
    psp => 'checkout', payment_method => 'pm_card_visa')).order_ids);
SELECT array_agg(amount ORDER BY id), sum(amount) FROM payment.payment_order WHERE reference LIKE 'third _';

-- which PSP
BEGIN;
UPDATE payment.psp SET state = 'paused' WHERE name <> 'checkout';
SELECT count(payment.checkout('checkout only one', 'payer', '[{"seller": "checkout bob", "amount": 1, "currency": "EUR"}]',
    payment_method => 'pm')) AS chosen;
SELECT psp FROM payment.payment WHERE id = (SELECT result[1] FROM payment.idempotency WHERE key = 'checkout only one');
SELECT count(payment.register_psp('checkout second', 'none', 'http://127.0.0.1:1', 'none')) AS registered;
SELECT pg_temp.error_of($$SELECT payment.checkout('checkout which', 'payer',
    '[{"seller": "checkout bob", "amount": 1, "currency": "EUR"}]', payment_method => 'pm')$$);
UPDATE payment.psp SET state = 'paused';
SELECT pg_temp.error_of($$SELECT payment.checkout('checkout which', 'payer',
    '[{"seller": "checkout bob", "amount": 1, "currency": "EUR"}]', payment_method => 'pm')$$);
-- one that is paused is taken when named: the order waits
SELECT count(payment.checkout('checkout paused', 'payer', '[{"seller": "checkout bob", "amount": 1, "currency": "EUR"}]',
    psp => 'checkout', payment_method => 'pm')) AS waiting;
ROLLBACK;

-- what is refused
CREATE FUNCTION pg_temp.try_order(orders text) RETURNS text LANGUAGE sql AS $$
    SELECT pg_temp.error_of(format('SELECT payment.checkout(''checkout bad'', ''payer'', %L, ''checkout'', ''pm'')', orders))
$$;
SELECT o, pg_temp.try_order(o) FROM unnest(ARRAY[
    '[]', '{}', '"x"', '1', 'null', '[1]', '[null]', '[[]]', '["x"]', '[{}]',
    '[{"seller": "checkout alice", "currency": "USD"}]',
    '[{"seller": "checkout alice", "amount": 1}]',
    '[{"amount": 1, "currency": "USD"}]',
    '[{"seller": "checkout alice", "amount": 1, "currency": "USD", "ammount": 2}]',
    '[{"seller": "checkout nobody", "amount": 1, "currency": "USD"}]',
    '[{"seller": "00000000-0000-0000-0000-000000000000", "amount": 1, "currency": "USD"}]',
    '[{"seller": "", "amount": 1, "currency": "USD"}]',
    '[{"seller": 7, "amount": 1, "currency": "USD"}]',
    '[{"seller": null, "amount": 1, "currency": "USD"}]',
    '[{"seller": ["x"], "amount": 1, "currency": "USD"}]',
    '[{"seller": {"name": "x"}, "amount": 1, "currency": "USD"}]',
    '[{"seller": {"reference": "x", "nmae": "x"}, "amount": 1, "currency": "USD"}]',
    '[{"seller": {"reference": 5}, "amount": 1, "currency": "USD"}]',
    '[{"seller": {"reference": "x", "metadata": []}, "amount": 1, "currency": "USD"}]',
    '[{"seller": "checkout alice", "amount": 0, "currency": "USD"}]',
    '[{"seller": "checkout alice", "amount": -1, "currency": "USD"}]',
    '[{"seller": "checkout alice", "amount": 1.5, "currency": "USD"}]',
    '[{"seller": "checkout alice", "amount": 1.0, "currency": "USD"}]',
    '[{"seller": "checkout alice", "amount": 9223372036854775808, "currency": "USD"}]',
    '[{"seller": "checkout alice", "amount": 1e40, "currency": "USD"}]',
    '[{"seller": "checkout alice", "amount": true, "currency": "USD"}]',
    '[{"seller": "checkout alice", "amount": {}, "currency": "USD"}]',
    '[{"seller": "checkout alice", "amount": "", "currency": "USD"}]',
    '[{"seller": "checkout alice", "amount": "0.00", "currency": "USD"}]',
    '[{"seller": "checkout alice", "amount": "-1.00", "currency": "USD"}]',
    '[{"seller": "checkout alice", "amount": "1.001", "currency": "USD"}]',
    '[{"seller": "checkout alice", "amount": "1,50", "currency": "USD"}]',
    '[{"seller": "checkout alice", "amount": "1 000", "currency": "USD"}]',
    '[{"seller": "checkout alice", "amount": "1e3", "currency": "USD"}]',
    '[{"seller": "checkout alice", "amount": "NaN", "currency": "USD"}]',
    '[{"seller": "checkout alice", "amount": "Infinity", "currency": "USD"}]',
    '[{"seller": "checkout alice", "amount": "0x10", "currency": "USD"}]',
    '[{"seller": "checkout alice", "amount": "1.5", "currency": "JPY"}]',
    '[{"seller": "checkout alice", "amount": "92233720368547758.08", "currency": "USD"}]',
    '[{"seller": "checkout alice", "amount": 1, "currency": "usd"}]',
    '[{"seller": "checkout alice", "amount": 1, "currency": "XXX"}]',
    '[{"seller": "checkout alice", "amount": 1, "currency": "US"}]',
    '[{"seller": "checkout alice", "amount": 1, "currency": "USDD"}]',
    '[{"seller": "checkout alice", "amount": 1, "currency": 840}]',
    '[{"seller": "checkout alice", "amount": 1, "currency": "USD", "reference": 5}]',
    '[{"seller": "checkout alice", "amount": 1, "currency": "USD", "reference": ""}]',
    '[{"seller": "checkout alice", "amount": 1, "currency": "USD", "description": ["x"]}]',
    '[{"seller": "checkout alice", "amount": 1, "currency": "USD", "metadata": "x"}]',
    '[{"seller": "checkout alice", "amount": 1, "currency": "USD"}, {"seller": "checkout alice", "amount": "x", "currency": "USD"}]',
    '[{"seller": "checkout alice", "amount": 1, "currency": "USD", "description": "card 4111 1111 1111 1111"}]',
    '[{"seller": "checkout alice", "amount": 1, "currency": "USD", "metadata": {"a": [{"b": 4111111111111111}]}}]',
    '[{"seller": "checkout alice", "amount": 1, "currency": "USD", "4111111111111111": 1}]']) AS o;
SELECT a, pg_temp.error_of(format('SELECT payment.checkout(%s, %s, %s, %s, %s, %s)', a[1], a[2], a[3], a[4], a[5], a[6]))
FROM (VALUES
    (ARRAY['NULL', '''p''', '$1', '''checkout''', '''pm''', 'NULL']),
    (ARRAY['''''', '''p''', '$1', '''checkout''', '''pm''', 'NULL']),
    (ARRAY['repeat(''k'', 256)', '''p''', '$1', '''checkout''', '''pm''', 'NULL']),
    (ARRAY['E''a\nb''', '''p''', '$1', '''checkout''', '''pm''', 'NULL']),
    (ARRAY['''k''', 'NULL', '$1', '''checkout''', '''pm''', 'NULL']),
    (ARRAY['''k''', '''''', '$1', '''checkout''', '''pm''', 'NULL']),
    (ARRAY['''k''', '''4111111111111111''', '$1', '''checkout''', '''pm''', 'NULL']),
    (ARRAY['''k''', '''p''', 'NULL', '''checkout''', '''pm''', 'NULL']),
    (ARRAY['''k''', '''p''', '$1', '''no such''', '''pm''', 'NULL']),
    (ARRAY['''k''', '''p''', '$1', '''''', '''pm''', 'NULL']),
    (ARRAY['''k''', '''p''', '$1', '''checkout''', 'NULL', 'NULL']),
    (ARRAY['''k''', '''p''', '$1', '''checkout''', '''4111-1111-1111-1111''', 'NULL']),
    (ARRAY['''k''', '''p''', '$1', '''checkout''', '''pm''', '''[1]''']),
    (ARRAY['''k''', '''p''', '$1', '''checkout''', '''pm''', '''{"pan": "4111111111111111"}'''])) AS t (b),
    LATERAL (SELECT array_replace(b, '$1', quote_literal('[{"seller": "checkout bob", "amount": 1, "currency": "EUR"}]')) AS a) AS x;
-- limits
SET payment.max_orders_per_payment = 3;
SELECT pg_temp.try_order((SELECT jsonb_agg('{"seller": "checkout bob", "amount": 1, "currency": "EUR"}'::jsonb)
    FROM generate_series(1, 4))::text);
RESET payment.max_orders_per_payment;
SET payment.max_text_bytes = 64;
SELECT pg_temp.try_order(jsonb_build_array(jsonb_build_object('seller', 'checkout bob', 'amount', 1, 'currency', 'EUR',
    'description', repeat('x', 65)))::text);
RESET payment.max_text_bytes;
-- a seller who is suspended
BEGIN;
UPDATE payment.seller SET state = 'suspended' WHERE id = :'alice';
SELECT pg_temp.try_order('[{"seller": "checkout bob", "amount": 1, "currency": "EUR"},
    {"seller": "checkout alice", "amount": 1, "currency": "EUR"}]');
ROLLBACK;
-- nothing of all that is left
SELECT count(*) FROM payment.idempotency WHERE key = 'checkout bad' OR key = 'k';
SELECT count(*) FROM payment.payment WHERE psp = 'checkout' AND payer IN ('p', '');

-- our id comes before another's reference: nobody registers as somebody else
SELECT count(payment.register_seller(:'bob', 'calls itself by the id of Bob')) AS registered;
SELECT count(payment.checkout('checkout by id', 'payer', jsonb_build_array(jsonb_build_object('seller', :'bob', 'amount', 1,
    'currency', 'EUR', 'reference', 'by id')), 'checkout', 'pm')) AS made;
SELECT seller FROM payment.payment_order WHERE reference = 'by id';

-- who may, and what the application sees
SET ROLE payment_app;
SELECT count(payment.checkout('checkout app', 'payer', '[{"seller": "checkout bob", "amount": 1, "currency": "EUR",
    "reference": "by the application"}]', 'checkout', 'pm')) AS made;
SELECT reference, status FROM payment.payment_order WHERE reference = 'by the application';
SELECT payer FROM payment.payment WHERE id = (SELECT payment_id FROM payment.payment_order WHERE reference = 'by the application');
SELECT count(*) FROM payment.wallet WHERE seller LIKE 'checkout%';
SELECT pg_temp.error_of('TABLE payment.order_record');
SELECT pg_temp.error_of('INSERT INTO payment.task SELECT');
SELECT pg_temp.error_of('UPDATE payment.payment_order SET status = ''captured''');
RESET ROLE;

-- the extension is dropped and made again in one session: plans follow
BEGIN;
SET LOCAL payment.allow_drop = on;
DROP EXTENSION payment;
SELECT pg_temp.error_of('SELECT payment.checkout(''k'', ''p'', ''[]'')');
CREATE EXTENSION payment;
SELECT count(payment.register_psp('checkout', 'none', 'http://127.0.0.1:1', 'none')) AS registered;
SELECT count(payment.register_seller('checkout alice', 'Alice')) AS registered;
SELECT pg_temp.buy('new start', 'checkout alice', '3.00', 'USD');
SELECT pg_temp.send('succeeded');
SELECT payment.release(pg_temp.object('new start'));
SELECT count(payment.payout(payment.seller_id('checkout alice'), 300, 'USD', 'bank', 'new start payout'));
SELECT payment.receipt(pg_temp.object('new start')) -> 'amounts' -> 'captured';
SELECT * FROM pg_temp.wallet('checkout alice');
ROLLBACK;
SELECT * FROM payment.verify();
