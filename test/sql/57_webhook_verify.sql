-- What only PayPal can vouch for: claimed with its bytes as they came, asked
-- about a bounded number of times, and gone when that was in vain.
\getenv inputdir PG_ABS_SRCDIR
\set dispatch :inputdir '/lib/dispatch.sql'
\set webhook :inputdir '/lib/webhook.sql'
SET client_min_messages = warning;
\set ECHO none
\i :dispatch
\i :webhook
\set ECHO all
RESET client_min_messages;
SET test.psp = 'webhook verify';
CREATE FUNCTION pg_temp.claim_webhooks(max integer DEFAULT 10, lease_ms integer DEFAULT 60000) RETURNS SETOF payment.claimed_webhook
    LANGUAGE sql AS $$ SELECT * FROM payment.claim_unverified_webhooks(pg_temp.psp(), max, lease_ms) $$;
CREATE FUNCTION pg_temp.unverified() RETURNS TABLE (tries integer, last_error text, due boolean, soon boolean) LANGUAGE sql AS $$
    SELECT u.tries, u.last_error, u.run_at <= clock_timestamp(), u.run_at <= clock_timestamp() + interval '1 minute'
    FROM payment.webhook_unverified AS u WHERE u.psp_id = pg_temp.psp() ORDER BY u.id
$$;
CREATE FUNCTION pg_temp.post(body bytea, headers jsonb DEFAULT '{}') RETURNS integer LANGUAGE sql AS $$
    SELECT (payment.receive_webhook(current_setting('test.psp'), pg_temp.paypal_headers() || headers, body)).http_status
$$;

-- nothing to ask about without an id of the webhook
SELECT count(payment.register_psp(current_setting('test.psp'), 'paypal', 'http://127.0.0.1:1', 'none', webhook_secret_names => '{any}'));
SELECT pg_temp.post('{"id": "WH-1", "event_type": "x", "resource": {}}');
SELECT * FROM pg_temp.rejections();
SELECT payment.register_psp(current_setting('test.psp'), 'paypal', 'http://127.0.0.1:1', 'none', '{"config": {"webhook_id": "a/b"}}');
SELECT count(payment.register_psp(current_setting('test.psp'), 'paypal', 'http://127.0.0.1:1', 'none', '{"config": {"webhook_id": "2WEBHOOK"}}'));

-- the bytes as they came, whatever a writer of JSON would make of them
SELECT pg_temp.post(convert_to(E'\t{"id" : "WH-1",\r\n "event_type":"x","resource":{"a":1.00,"a":"\\u00e9\\/","\u20ac": 1e2}} \n', 'UTF8'));
SELECT tries, headers, convert_from(body, 'UTF8') = E'\t{"id" : "WH-1",\r\n "event_type":"x","resource":{"a":1.00,"a":"\\u00e9\\/","\u20ac": 1e2}} \n' AS same
FROM pg_temp.claim_webhooks();
-- leased
SELECT count(*) FROM pg_temp.claim_webhooks();
SELECT * FROM pg_temp.unverified();
-- a worker that died: the lease is over
SELECT payment.defer_webhook(u.id, 'a word', true, 0) FROM payment.webhook_unverified AS u WHERE u.psp_id = pg_temp.psp();
SET payment.webhook_verify_delay_ms = 1;
SELECT payment.defer_webhook(u.id, 'a word', NULL, NULL) FROM payment.webhook_unverified AS u WHERE u.psp_id = pg_temp.psp();
SELECT pg_sleep(0.01);
SELECT tries FROM pg_temp.claim_webhooks(lease_ms => 1);
SELECT pg_sleep(0.01);
SELECT tries FROM pg_temp.claim_webhooks();
-- what was never sent is no try; nor is it soon when the PSP says so
SELECT payment.defer_webhook(u.id, 'secret_unavailable', false, 3600001) FROM payment.webhook_unverified AS u WHERE u.psp_id = pg_temp.psp();
SELECT * FROM pg_temp.unverified();
SELECT state, type FROM payment.webhook WHERE psp = current_setting('test.psp');
SELECT payment.defer_webhook(payment.new_id(), NULL, NULL, NULL);
SELECT payment.defer_webhook(NULL, 'x', true, 0);
SELECT * FROM payment.claim_unverified_webhooks(pg_temp.psp(), 0, 1);
SELECT * FROM payment.claim_unverified_webhooks(pg_temp.psp(), 1, 3600001);
SELECT count(*) FROM payment.claim_unverified_webhooks(payment.new_id(), 1, 1);
SELECT payment.confirm_webhook(u.id, false) FROM payment.webhook_unverified AS u WHERE u.psp_id = pg_temp.psp();

-- asked in vain: a rejection, and nothing else
SET payment.webhook_verify_attempts = 2;
SELECT pg_temp.post('{"id": "WH-2", "event_type": "x", "resource": {}}');
SELECT count(*) FROM (SELECT payment.defer_webhook(c.webhook, 'http_500', true, NULL) FROM pg_temp.claim_webhooks() AS c) AS d;
SELECT pg_sleep(0.02);
SELECT count(*) FROM (SELECT payment.defer_webhook(c.webhook, 'http_500', true, NULL) FROM pg_temp.claim_webhooks() AS c) AS d;
SELECT pg_sleep(0.02);
SELECT tries, last_error FROM pg_temp.unverified();
SET client_min_messages = error;
SELECT count(*) FROM pg_temp.claim_webhooks();
RESET client_min_messages;
SELECT * FROM pg_temp.unverified();
SELECT * FROM pg_temp.rejections();
RESET payment.webhook_verify_attempts;
-- the same of one that is too old
SELECT pg_temp.post('{"id": "WH-3", "event_type": "x", "resource": {}}');
SET payment.webhook_parking_time_s = 1;
SELECT pg_sleep(1.1);
SELECT count(*) FROM pg_temp.claim_webhooks();
RESET payment.webhook_parking_time_s;
RESET payment.webhook_verify_delay_ms;
SELECT * FROM pg_temp.rejections();

-- S74: what must not be kept cannot be asked about
SELECT pg_temp.post('{"id": "WH-4", "event_type": "x", "resource": {"note": "4242 4242 4242 4242"}}');
SELECT pg_temp.post('{"id": "WH-4", "event_type": "x", "resource": {}}', '{"PayPal-Transmission-Sig": "4242424242424242"}');
SELECT pg_temp.post('{"id": "WH-4", "event_type": "x", "resource": {}}', E'{"PayPal-Transmission-Sig": "a\\r\\nX: y"}');
SELECT pg_temp.post('{"id": "WH-4", "event_type": "x", "resource": {}}, "webhook_id": "MINE"');
SELECT * FROM pg_temp.rejections();
SELECT * FROM pg_temp.unverified();
SELECT count(*) FROM payment.webhook_event AS e WHERE e.psp_id = pg_temp.psp();
