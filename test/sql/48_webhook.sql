-- Webhooks: who may send them, and that each has one effect.
\getenv inputdir PG_ABS_SRCDIR
\set dispatch :inputdir '/lib/dispatch.sql'
\set webhook :inputdir '/lib/webhook.sql'
SET client_min_messages = warning;
\set ECHO none
\i :dispatch
\i :webhook
\set ECHO all
RESET client_min_messages;
SET test.psp = 'webhook stripe';
SET test.webhook_secret = 'whsec_regress_1';
SELECT pg_temp.write_secret('webhook_1', 'whsec_regress_1');
SELECT pg_temp.write_secret('webhook_2', 'whsec_regress_2');
SELECT count(payment.register_psp(current_setting('test.psp'), 'stripe', 'http://127.0.0.1:1', 'none')) AS registered;
SELECT count(payment.register_seller('dispatch seller ' || n, 'Seller ' || n)) AS registered FROM generate_series(1, 3) AS n;

-- whose secrets are names of files, and stay what they are
SELECT payment.register_psp(current_setting('test.psp'), 'stripe', 'http://127.0.0.1:1', 'none', webhook_secret_names => '{../x}');
SELECT payment.register_psp(current_setting('test.psp'), 'stripe', 'http://127.0.0.1:1', 'none', webhook_secret_names => '{NULL}');
SELECT payment.register_psp(current_setting('test.psp'), 'stripe', 'http://127.0.0.1:1', 'none',
    webhook_secret_names => array_fill('x'::text, '{9}'));
SELECT * FROM pg_temp.receive('{}');
SELECT count(payment.register_psp(current_setting('test.psp'), 'stripe', 'http://127.0.0.1:1', 'none',
    webhook_secret_names => '{webhook_1}'));
SELECT count(payment.register_psp(current_setting('test.psp'), 'stripe', 'http://127.0.0.1:1', 'none'));
SELECT webhook_secret_names FROM payment.psp WHERE name = current_setting('test.psp');

-- S26: a signature that openssl made once: printf '1700000000.%s' BODY | openssl dgst -sha256 -hmac whsec_regress_1
\set vector '{"id":"evt_vector","object":"event","type":"customer.created","created":1700000000,"data":{"object":{"id":"cus_1"}}}'
SET payment.webhook_tolerance_s = '3650d';
SELECT * FROM payment.receive_webhook(current_setting('test.psp'), jsonb_build_object('stripe-signature',
    't=1700000000,v1=33e7030b1231f1efe32ff2d80e55ba4b81fe43c89728846a9a5fc0bc21a1c3ab'), convert_to(:'vector', 'UTF8'));
-- ... of another secret, which is not known, and then is: a rotation
SELECT * FROM payment.receive_webhook(current_setting('test.psp'), jsonb_build_object('stripe-signature',
    't=1700000000,v1=15f7aaf7dad352b471a65eb7607420e6b67b63772dadd3a7ed1901e11047d9b3'), convert_to(:'vector', 'UTF8'));
SELECT count(payment.register_psp(current_setting('test.psp'), 'stripe', 'http://127.0.0.1:1', 'none',
    webhook_secret_names => '{webhook_1, webhook_2}'));
SELECT * FROM payment.receive_webhook(current_setting('test.psp'), jsonb_build_object('stripe-signature',
    't=1700000000,v1=15f7aaf7dad352b471a65eb7607420e6b67b63772dadd3a7ed1901e11047d9b3'), convert_to(:'vector', 'UTF8'));
RESET payment.webhook_tolerance_s;
SELECT * FROM payment.receive_webhook(current_setting('test.psp'), jsonb_build_object('stripe-signature',
    't=1700000000,v1=33e7030b1231f1efe32ff2d80e55ba4b81fe43c89728846a9a5fc0bc21a1c3ab'), convert_to(:'vector', 'UTF8'));
SELECT * FROM pg_temp.webhooks('evt_vector');

-- S26: several signatures, any of which may be ours
SELECT b.body, at FROM pg_temp.event('evt_several', 'customer.created', '{}') AS b (body), pg_temp.now_s() AS at \gset
SELECT * FROM pg_temp.receive(:'body', jsonb_build_object('STRIPE-SIGNATURE', 't=' || :at || ',v1=' || repeat('0', 64) || ', '
    || pg_temp.v1(:'body', 'whsec_regress_2', :at) || ',v0=' || repeat('1', 64)));

-- S26: what is refused, and touches nothing else
CREATE TEMP TABLE before AS SELECT * FROM pg_temp.counts();
WITH request AS (
    SELECT b.body, n.at, pg_temp.v1(b.body, 'whsec_regress_1', n.at) AS v1
    FROM pg_temp.event('evt_forged', 'customer.created', '{}') AS b (body), pg_temp.now_s() AS n (at))
SELECT c.what, a.*
FROM request AS r, LATERAL (VALUES
    ('no header', jsonb '{}', r.body),
    ('nothing in it', jsonb_build_object('stripe-signature', ''), r.body),
    ('no time', jsonb_build_object('stripe-signature', r.v1), r.body),
    ('no signature', jsonb_build_object('stripe-signature', 't=' || r.at), r.body),
    ('two times', jsonb_build_object('stripe-signature', format('t=%s,t=%s,%s', r.at, r.at, r.v1)), r.body),
    ('a time that is none', jsonb_build_object('stripe-signature', format('t=-%s,%s', r.at, r.v1)), r.body),
    ('a huge time', jsonb_build_object('stripe-signature', format('t=%s,%s', repeat('9', 30), r.v1)), r.body),
    ('a short signature', jsonb_build_object('stripe-signature', format('t=%s,%s', r.at, left(r.v1, -2))), r.body),
    ('v0 only', jsonb_build_object('stripe-signature', format('t=%s,%s', r.at, replace(r.v1, 'v1', 'v0'))), r.body),
    ('another secret', pg_temp.signed(r.body, 'whsec_regress_3'), r.body),
    ('no secret', pg_temp.signed(r.body, ''), r.body),
    ('another time', jsonb_build_object('stripe-signature', format('t=%s,%s', r.at + 1, r.v1)), r.body),
    ('another body', jsonb_build_object('stripe-signature', format('t=%s,%s', r.at, r.v1)), r.body || ' '),
    ('an old one', pg_temp.signed(r.body, 'whsec_regress_1', r.at - 301), r.body),
    ('one to come', pg_temp.signed(r.body, 'whsec_regress_1', r.at + 310), r.body),
    ('too many signatures', jsonb_build_object('stripe-signature',
        format('t=%s%s,%s', r.at, repeat(',v1=' || repeat('0', 64), 16), r.v1)), r.body),
    ('a huge header', jsonb_build_object('stripe-signature', format('t=%s,%s,x=%s', r.at, r.v1, repeat('y', 5000))), r.body)
    ) AS c (what, headers, body), LATERAL pg_temp.receive(c.body, c.headers) AS a;
SELECT * FROM pg_temp.rejections();
SELECT pg_temp.counts() = (SELECT b FROM before AS b) AS nothing_else;
-- 300 seconds are not too old
SELECT a.http_status FROM pg_temp.event('evt_aged', 'customer.created', '{}') AS b (body),
    pg_temp.receive(b.body, pg_temp.signed(b.body, 'whsec_regress_1', pg_temp.now_s(-290))) AS a;

-- limits and names
SET payment.max_webhook_size_kb = 1;
SELECT * FROM pg_temp.receive(convert_to(repeat('x', 1025), 'UTF8'));
RESET payment.max_webhook_size_kb;
SELECT * FROM payment.receive_webhook('nobody', '{}', '{}');
SELECT * FROM payment.receive_webhook('4111 1111 1111 1111', '{}', '{}');
SELECT count(payment.register_psp('webhook none', 'none', 'http://127.0.0.1:1', 'none', webhook_secret_names => '{webhook_1}'));
SELECT * FROM payment.receive_webhook('webhook none', '{}', '{}');
SELECT psp, reason, http_status, body_bytes, encode(body_sha256, 'hex') AS sha256 FROM payment.webhook_rejection
WHERE psp <> current_setting('test.psp') ORDER BY rejected_at;

-- what the caller's side gets wrong
SELECT payment.receive_webhook(NULL, '{}', '{}');
SELECT payment.receive_webhook('nobody', NULL, '{}');
SELECT payment.receive_webhook('nobody', '{}', NULL);
SELECT payment.receive_webhook('nobody', '[]', '{}');
SELECT payment.receive_webhook('nobody', '{"a": 1}', '{}');
SELECT payment.receive_webhook('nobody', '{"a": {"b": "c"}}', '{}');

-- the secret is read anew when its file changes; without it, try again later
SELECT pg_temp.write_secret('webhook_1', 'whsec_regress_4');
SELECT a.http_status FROM pg_temp.event('evt_changed', 'customer.created', '{}') AS b (body),
    pg_temp.receive(b.body, pg_temp.signed(b.body, 'whsec_regress_1')) AS a;
SELECT a.http_status FROM pg_temp.event('evt_changed', 'customer.created', '{}') AS b (body),
    pg_temp.receive(b.body, pg_temp.signed(b.body, 'whsec_regress_4')) AS a;
SELECT pg_temp.write_secret('webhook_1', 'whsec_regress_1');
SELECT count(payment.register_psp(current_setting('test.psp'), 'stripe', 'http://127.0.0.1:1', 'none',
    webhook_secret_names => '{webhook_1, webhook_lost}'));
SELECT * FROM pg_temp.receive('{}', pg_temp.signed('{}', 'whsec_regress_2'));
SELECT a.http_status FROM pg_temp.event('evt_lost', 'customer.created', '{}') AS b (body),
    pg_temp.receive(b.body, pg_temp.signed(b.body, 'whsec_regress_1')) AS a;

-- S22: the same event again: one effect, and the PSP is told that all is well
SELECT pg_temp.pay('webhook', '10.00', '20.00', '30.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.event('evt_1', 'payment_intent.succeeded', pg_temp.intent('pi_1', 'webhook/1', 'succeeded', 1000)) AS body \gset
SELECT n, (pg_temp.receive(:'body')).* FROM generate_series(1, 3) AS n;
SELECT * FROM pg_temp.webhooks('evt_1');
SELECT * FROM pg_temp.show('webhook/1');
SELECT count(*) FROM pg_temp.journals('webhook/1');
SELECT pg_temp.history('webhook/1');
-- S25: another event of the same transition
SELECT a.http_status FROM pg_temp.event('evt_2', 'charge.succeeded', jsonb_build_object('id', 'ch_1', 'object', 'charge',
    'payment_intent', 'pi_1', 'status', 'succeeded', 'captured', true, 'amount', 1000, 'amount_captured', 1000,
    'currency', 'eur', 'metadata', jsonb_build_object('payment_order', pg_temp.object('webhook/1')))) AS b (body),
    pg_temp.receive(b.body) AS a;
SELECT event_id, state, effect FROM pg_temp.webhooks('evt_2');
SELECT count(*) FROM pg_temp.journals('webhook/1');
-- S21: then the answer to the request is recorded
SELECT pg_temp.record('webhook/1', 'succeeded', 'pi_1');
SELECT * FROM pg_temp.show('webhook/1');
SELECT count(*) FROM pg_temp.journals('webhook/1');
SELECT * FROM pg_temp.exceptions('webhook/1');
-- S23: what failed before it succeeded is told afterwards
SELECT a.http_status FROM pg_temp.event('evt_3', 'payment_intent.payment_failed',
    pg_temp.intent('pi_1', 'webhook/1', 'requires_payment_method', 1000,
        '{"last_payment_error": {"code": "card_declined", "message": "no"}}')) AS b (body), pg_temp.receive(b.body) AS a;
SELECT event_id, state, effect FROM pg_temp.webhooks('evt_3');
SELECT name, status, captured FROM pg_temp.show('webhook/1');
-- S14: another amount than was asked for
SELECT a.http_status FROM pg_temp.event('evt_4', 'payment_intent.succeeded',
    pg_temp.intent('pi_2', 'webhook/2', 'succeeded', 1999)) AS b (body), pg_temp.receive(b.body) AS a;
SELECT event_id, state, effect, detail FROM pg_temp.webhooks('evt_4');
SELECT name, status, captured FROM pg_temp.show('webhook/2');
SELECT name, type, status, expected, actual FROM pg_temp.exceptions('webhook/2');
SELECT count(*) FROM pg_temp.journals('webhook/2');
