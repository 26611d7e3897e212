-- Webhooks of PSPs that sign in other ways.
\getenv inputdir PG_ABS_SRCDIR
\set dispatch :inputdir '/lib/dispatch.sql'
\set webhook :inputdir '/lib/webhook.sql'
SET client_min_messages = warning;
\set ECHO none
\i :dispatch
\i :webhook
\set ECHO all
RESET client_min_messages;
SET test.psp = 'webhook adyen';
SELECT pg_temp.write_secret('webhook_adyen', '44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056');
SELECT pg_temp.write_secret('webhook_adyen_next', repeat('ab', 32));
SELECT count(payment.register_psp(current_setting('test.psp'), 'adyen', 'http://127.0.0.1:1', 'none',
    '{"config": {"merchant_account": "Shop_EUR", "return_url": "https://shop.example/", "balance_account": "BA_1"}}',
    webhook_secret_names => '{webhook_adyen, webhook_adyen_next}'));
SELECT count(payment.register_seller('dispatch seller ' || n, 'Seller ' || n)) AS registered FROM generate_series(1, 5) AS n;
SELECT pg_temp.pay('adyen', '10.00', '20.00', '30.00', '40.00');
SELECT count(*) FROM pg_temp.claim();

-- a signature that openssl made once, with -macopt hexkey
SELECT * FROM pg_temp.receive(convert_to('{"live": "false", "notificationItems": [{"NotificationRequestItem": {"pspReference": "8515000000000001",
    "merchantAccountCode": "Shop_EUR", "merchantReference": "0190a000-0000-7000-8000-0000000000aa", "amount": {"value": 1000, "currency": "EUR"},
    "eventCode": "REPORT_AVAILABLE", "success": "true", "additionalData": {"hmacSignature": "kKqSKeYzA2rtvfehtsLsFw44lah/g3Gi6IXKP55xYa4="}}}]}', 'UTF8'), '{}');
SELECT event_id, type, about, state FROM pg_temp.webhooks('%');

-- S27: a batch with one bad signature, one item that is none, one twice: the
-- others are stored
SELECT * FROM pg_temp.receive(pg_temp.batch(
    pg_temp.item('psp_1', 'adyen/1', 'AUTHORISATION', 1000),
    pg_temp.item('psp_2', 'adyen/2', 'AUTHORISATION', 2000, signature => 'AAAA'),
    '{"NotificationRequestItem": []}', '7',
    pg_temp.item('psp_3', 'adyen/3', 'AUTHORISATION', 3000, success => 'false', key => repeat('ab', 32)),
    pg_temp.item('psp_1', 'adyen/1', 'AUTHORISATION', 1000)), '{}');
SELECT event_id, about, state, effect, name, outcome FROM pg_temp.webhooks('AUTHORISATION%');
SELECT * FROM pg_temp.rejections();
SELECT name, status, captured, psp_reference FROM pg_temp.show('adyen/%');
-- S22: all of it again, the bad one mended
SELECT http_status FROM pg_temp.receive(pg_temp.batch(
    pg_temp.item('psp_1', 'adyen/1', 'AUTHORISATION', 1000),
    pg_temp.item('psp_2', 'adyen/2', 'AUTHORISATION', 2000)), '{}');
SELECT name, status, captured, psp_reference FROM pg_temp.show('adyen/_');
SELECT count(*) FROM pg_temp.webhooks('AUTHORISATION%');
SELECT count(*) FROM pg_temp.journals('adyen/1');
-- all bad
SELECT * FROM pg_temp.receive(pg_temp.batch(pg_temp.item('psp_4', 'adyen/4', 'AUTHORISATION', 4000, signature => NULL)), '{}');
-- what is signed counts: another amount in the item is another signature
SELECT * FROM pg_temp.receive(convert_to(replace(convert_from(pg_temp.batch(pg_temp.item('psp_4', 'adyen/4', 'AUTHORISATION', 4000)),
    'UTF8'), '4000', '4001'), 'UTF8'), '{}');
SELECT * FROM pg_temp.receive(convert_to('{"notificationItems": []}', 'UTF8'), '{}');
-- S28: another merchant account
SELECT * FROM pg_temp.receive(pg_temp.batch(pg_temp.item('psp_4', 'adyen/4', 'AUTHORISATION', 4000, account => 'Other_EUR')), '{}');
SELECT event_id, state, detail FROM pg_temp.webhooks('AUTHORISATION:psp_4%');
-- separators in fields, escaped and not: the latter could be read otherwise
SELECT http_status FROM pg_temp.receive(pg_temp.batch(pg_temp.item('psp_5', NULL, 'AUTHORISATION', 1, reference => 'a:b\c')), '{}');
SELECT http_status FROM pg_temp.receive(pg_temp.batch(pg_temp.item('psp_6', NULL, 'AUTHORISATION', 1, reference => 'a:b', escape => false)), '{}');
SELECT event_id, state, detail FROM pg_temp.webhooks('AUTHORISATION:psp\_5%') UNION ALL
SELECT event_id, state, detail FROM pg_temp.webhooks('AUTHORISATION:psp\_6%');
-- one of a reference "x:ORDER", for an item in which the order is named alone
SELECT http_status FROM encode(pg_temp.hmac(decode('44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056', 'hex'),
    convert_to('psp_7::Shop_EUR:x:' || pg_temp.object('adyen/4') || ':4000:EUR:AUTHORISATION:true', 'UTF8')), 'base64') AS signature,
    pg_temp.receive(pg_temp.batch(pg_temp.item('psp_7', 'adyen/4', 'AUTHORISATION', 4000, original => ':Shop_EUR', account => 'x',
        signature => signature)), '{}');
SELECT event_id, state FROM pg_temp.webhooks('AUTHORISATION:psp\_7%');
SELECT name, status FROM pg_temp.show('adyen/4');
-- authorised to be captured later: no money yet, be the answer there or not
SELECT count((payment.checkout('adyen manual', 'payer', jsonb_build_array(
    jsonb_build_object('seller', 'dispatch seller 1', 'amount', '50.00', 'currency', 'EUR', 'reference', 'manual/1'),
    jsonb_build_object('seller', 'dispatch seller 2', 'amount', '60.00', 'currency', 'EUR', 'reference', 'manual/2')),
    psp => current_setting('test.psp'), payment_method => 'pm', capture => 'manual')).payment_id);
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('manual/2', 'authorized', 'psp_m2', authorized_until => now() + interval '7 days');
SELECT http_status FROM pg_temp.receive(pg_temp.batch(
    pg_temp.item('psp_m1', 'manual/1', 'AUTHORISATION', 5000),
    pg_temp.item('psp_m2', 'manual/2', 'AUTHORISATION', 6000)), '{}');
SELECT event_id, state, effect, detail FROM pg_temp.webhooks('AUTHORISATION:psp\_m%');
SELECT name, status, captured FROM pg_temp.show('manual/_');
SELECT (SELECT count(*) FROM pg_temp.journals('manual/1')) + (SELECT count(*) FROM pg_temp.journals('manual/2')) AS journals;
SELECT pg_temp.record('manual/1', 'authorized', 'psp_m1', authorized_until => now() + interval '7 days');
SELECT name, status, captured FROM pg_temp.show('manual/_');
-- refunds are parked with the order they are about, disputes are made known
SELECT http_status FROM pg_temp.receive(pg_temp.batch(
    pg_temp.item('psp_r', 'adyen/1', 'REFUND', 100, original => 'psp_1'),
    pg_temp.item('psp_d', 'adyen/1', 'CHARGEBACK', 1000, original => 'psp_1'),
    pg_temp.item('psp_c', 'adyen/1', 'CAPTURE_FAILED', 1000, original => 'psp_1'),
    pg_temp.item('psp_k', 'adyen/1', 'CAPTURE', 1000, original => 'psp_1'),
    pg_temp.item('psp_n', 'adyen/1', 'SOMETHING_NEW', 1000, original => 'psp_1')), '{}');
SELECT event_id, about, state, name FROM pg_temp.webhooks('%:true') WHERE event_id NOT LIKE 'AUTH%';

-- transfers: the header signs the whole body
SELECT pg_temp.record('adyen/4', 'succeeded', 'psp_4');
SELECT payment.release(pg_temp.object('adyen/4'));
SELECT count(payment.payout((SELECT id FROM payment.seller WHERE reference = 'dispatch seller 4'), 3000, 'EUR', 'adyen account',
    'adyen payout', psp => current_setting('test.psp')));
SELECT count(*) FROM pg_temp.claim();
SELECT http_status, content_type, a.body FROM pg_temp.transfer('authorised', 3000) AS t (body), pg_temp.receive(t.body, '{}') AS a;
SELECT http_status, content_type, a.body FROM unnest(ARRAY['authorised', 'booked', 'booked', 'returned']) AS status,
    LATERAL pg_temp.transfer(status, 3000) AS t (body), LATERAL pg_temp.receive(t.body, pg_temp.transfer_headers(t.body)) AS a;
SELECT event_id, about, state, effect, name FROM pg_temp.webhooks('balance%');
SELECT pg_temp.history('adyen account');
SELECT name, type FROM pg_temp.exceptions('adyen account');
SELECT * FROM pg_temp.rejections();

-- PayPal: only itself can tell
SET test.psp = 'webhook paypal';
SELECT count(payment.register_psp(current_setting('test.psp'), 'paypal', 'http://127.0.0.1:1', 'none', '{"config": {"webhook_id": "2WEBHOOK"}}'));
SELECT pg_temp.pay('paypal', '10.00', '20.00');
SELECT count(*) FROM pg_temp.claim();
SET payment.max_unverified_webhooks = 2;
SELECT * FROM pg_temp.receive(pg_temp.capture('WH-1', 'paypal/1', '10.00'), '{}');
SELECT * FROM pg_temp.receive('{}', pg_temp.paypal_headers());
SELECT http_status FROM (VALUES (1, '10.00'), (2, '20.00'), (2, '20.00')) AS v (n, value),
    pg_temp.receive(pg_temp.capture('WH-' || n, 'paypal/' || n, value), pg_temp.paypal_headers());
RESET payment.max_unverified_webhooks;
SELECT state, count(*) FROM payment.webhook WHERE psp = current_setting('test.psp') GROUP BY 1;
SELECT name, status FROM pg_temp.show('paypal/%');
SELECT payment.confirm_webhook(u.id, n = 1) FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM payment.webhook_unverified
    WHERE psp_id = pg_temp.psp()) AS u;
SELECT payment.confirm_webhook(payment.new_id(), true);
-- what nobody vouches for makes room in the end
SET payment.max_unverified_webhooks = 1;
SET payment.webhook_parking_time_s = 1;
SELECT http_status FROM pg_temp.receive(pg_temp.capture('WH-8', 'paypal/2', '20.00'), pg_temp.paypal_headers());
SELECT http_status FROM pg_temp.receive(pg_temp.capture('WH-9', 'paypal/2', '20.00'), pg_temp.paypal_headers());
SELECT pg_sleep(1.1);
SELECT http_status FROM pg_temp.receive(pg_temp.capture('WH-9', 'paypal/2', '20.00'), pg_temp.paypal_headers());
RESET payment.max_unverified_webhooks;
RESET payment.webhook_parking_time_s;
SELECT payment.confirm_webhook(u.id, false) FROM payment.webhook_unverified AS u WHERE psp_id = pg_temp.psp();
SELECT event_id, about, state, effect, name FROM pg_temp.webhooks('%');
SELECT name, status, psp_reference FROM pg_temp.show('paypal/%');
SELECT * FROM pg_temp.rejections();
SELECT * FROM payment.verify();
