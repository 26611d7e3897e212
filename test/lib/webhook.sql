-- What the tests of webhooks share, beside dispatch.sql.  Signatures are made
-- here from sha256() alone, and from nothing of the extension's.

-- some call functions of dispatch.sql, which not everybody reads
SET check_function_bodies = off;

CREATE FUNCTION pg_temp.hmac(key bytea, message bytea) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
    inner_key bytea := decode(repeat('00', 64), 'hex');
    outer_key bytea;
BEGIN
    IF length(key) > 64 THEN
        key := sha256(key);
    END IF;
    inner_key := overlay(inner_key PLACING key FROM 1 FOR length(key));
    outer_key := inner_key;
    FOR i IN 0..63 LOOP
        inner_key := set_byte(inner_key, i, get_byte(inner_key, i) # 54);
        outer_key := set_byte(outer_key, i, get_byte(outer_key, i) # 92);
    END LOOP;
    RETURN sha256(outer_key || sha256(inner_key || message));
END
$$;

-- a file in payment.secrets_dir, in place of what is there
CREATE FUNCTION pg_temp.write_secret(name text, value text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('COPY (SELECT %L) TO %L', value, current_setting('payment.secrets_dir') || '/' || name);
END
$$;

CREATE FUNCTION pg_temp.now_s(plus integer DEFAULT 0) RETURNS bigint LANGUAGE sql
    AS $$ SELECT floor(extract(epoch FROM clock_timestamp()))::bigint + plus $$;

CREATE FUNCTION pg_temp.v1(body bytea, secret text, at bigint) RETURNS text LANGUAGE sql AS $$
    SELECT 'v1=' || encode(pg_temp.hmac(convert_to(secret, 'UTF8'), convert_to(at || '.', 'UTF8') || body), 'hex')
$$;

CREATE FUNCTION pg_temp.signed(body bytea, secret text DEFAULT current_setting('test.webhook_secret'),
    at bigint DEFAULT NULL) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('Stripe-Signature', 't=' || n.s || ',' || pg_temp.v1(body, secret, n.s))
    FROM (SELECT coalesce(at, pg_temp.now_s()) OFFSET 0) AS n (s)
$$;

-- what Stripe posts for an object
CREATE FUNCTION pg_temp.event(id text, type text, object jsonb, extra jsonb DEFAULT '{}') RETURNS bytea LANGUAGE sql AS $$
    SELECT convert_to((jsonb_build_object('id', id, 'object', 'event', 'api_version', '2024-06-20',
        'created', 1760000000, 'data', jsonb_build_object('object', object), 'livemode', false,
        'type', type) || extra)::text, 'UTF8')
$$;

CREATE FUNCTION pg_temp.intent(id text, name text, status text, amount bigint, extra jsonb DEFAULT '{}',
    attempt integer DEFAULT 1) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('id', id, 'object', 'payment_intent', 'status', status, 'amount', amount,
        'amount_received', CASE WHEN status = 'succeeded' THEN amount ELSE 0 END, 'currency', 'eur',
        'metadata', jsonb_build_object('payment_order', pg_temp.object(name), 'attempt', attempt::text)) || extra
$$;

CREATE FUNCTION pg_temp.receive(body bytea, headers jsonb DEFAULT NULL) RETURNS payment.webhook_answer LANGUAGE sql AS $$
    SELECT payment.receive_webhook(current_setting('test.psp'), coalesce(headers, pg_temp.signed(body)), body)
$$;

CREATE FUNCTION pg_temp.webhooks(pattern text) RETURNS TABLE (
    event_id text, type text, about text, state text, effect text, name text, outcome text, detail text) LANGUAGE sql AS $$
    SELECT w.event_id, w.type, w.about, w.state, w.effect, pg_temp.name_of(w.object_id), w.outcome, w.detail
    FROM payment.webhook AS w WHERE w.psp = current_setting('test.psp') AND w.event_id LIKE pattern ORDER BY w.id
$$;

CREATE FUNCTION pg_temp.rejections() RETURNS TABLE (reason text, http_status integer, times bigint) LANGUAGE sql AS $$
    SELECT r.reason, r.http_status, count(*) FROM payment.webhook_rejection AS r
    WHERE r.psp = current_setting('test.psp') GROUP BY 1, 2 ORDER BY 1, 2
$$;

-- how much there is of what a forged webhook must not touch
CREATE FUNCTION pg_temp.counts() RETURNS TABLE (events bigint, keys bigint, waiting bigint, unverified bigint,
    history bigint, journals bigint, exceptions bigint) LANGUAGE sql AS $$
    SELECT (SELECT count(*) FROM payment.webhook_event), (SELECT count(*) FROM payment.webhook_key),
        (SELECT count(*) FROM payment.webhook_waiting), (SELECT count(*) FROM payment.webhook_unverified),
        (SELECT count(*) FROM payment.status_history), (SELECT count(*) FROM payment.journal),
        (SELECT count(*) FROM payment.exception_record)
$$;

-- the worker tries again as well, whenever it likes: what counts is what comes of it
CREATE FUNCTION pg_temp.waiting() RETURNS TABLE (event_id text, state text, reference text) LANGUAGE sql AS $$
    SELECT e.event_id, w.state, w.reference
    FROM payment.webhook_waiting AS w JOIN payment.webhook_event AS e ON e.id = w.webhook_id
        JOIN payment.psp AS p ON p.id = w.psp_id WHERE p.name = current_setting('test.psp') ORDER BY e.id
$$;

-- until none is due, be it by us or by the worker
CREATE FUNCTION pg_temp.retry_webhooks() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    LOOP
        PERFORM payment.retry_webhooks(10000);
        EXIT WHEN NOT EXISTS (SELECT FROM payment.webhook_waiting AS w JOIN payment.psp AS p ON p.id = w.psp_id
            WHERE p.name = current_setting('test.psp') AND w.run_at <= clock_timestamp());
        PERFORM pg_sleep(0.01);
    END LOOP;
END
$$;

-- as if that time had passed
CREATE FUNCTION pg_temp.age_webhooks(by interval) RETURNS void LANGUAGE sql AS $$
    UPDATE payment.webhook_waiting SET run_at = run_at - by, since = since - by
    WHERE psp_id = (SELECT id FROM payment.psp WHERE name = current_setting('test.psp'))
$$;

-- Adyen: one item, signed; the order is named, or another reference
CREATE FUNCTION pg_temp.item(psp_reference text, name text, code text, amount bigint, success text DEFAULT 'true',
    original text DEFAULT '', account text DEFAULT 'Shop_EUR', reference text DEFAULT NULL, escape boolean DEFAULT true,
    key text DEFAULT '44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056', signature text DEFAULT 'right')
    RETURNS text LANGUAGE sql AS $$
    SELECT jsonb_build_object('NotificationRequestItem', jsonb_build_object('pspReference', psp_reference, 'originalReference', original,
        'merchantAccountCode', account, 'merchantReference', f[4], 'amount', jsonb_build_object('value', amount, 'currency', 'EUR'),
        'eventCode', code, 'success', success, 'reason', 'any', 'additionalData', jsonb_build_object('hmacSignature',
            CASE signature WHEN 'right' THEN encode(pg_temp.hmac(decode(key, 'hex'), convert_to(signed, 'UTF8')), 'base64') ELSE signature END)))::text
    FROM (SELECT ARRAY[psp_reference, original, account, coalesce(reference, pg_temp.object(name)::text), amount::text, 'EUR', code, success]) AS i (f),
        LATERAL (SELECT string_agg(CASE WHEN escape THEN regexp_replace(v, '([:\\])', '\\\1', 'g') ELSE v END, ':' ORDER BY n)
            FROM unnest(f) WITH ORDINALITY AS u (v, n)) AS s (signed)
$$;

CREATE FUNCTION pg_temp.batch(VARIADIC items text[]) RETURNS bytea LANGUAGE sql AS $$
    SELECT convert_to('{"live": "false", "notificationItems": [' || array_to_string(items, ', ') || ']}', 'UTF8')
$$;

CREATE FUNCTION pg_temp.transfer(status text, amount bigint) RETURNS bytea LANGUAGE sql AS $$
    SELECT convert_to(jsonb_build_object('type', 'balancePlatform.transfer.updated', 'environment', 'test', 'data', jsonb_build_object(
        'id', 'transfer_1', 'reference', pg_temp.object('adyen account'), 'status', status,
        'amount', jsonb_build_object('value', amount, 'currency', 'EUR'), 'balanceAccount', '{"id": "BA_1"}'::jsonb))::text, 'UTF8')
$$;

CREATE FUNCTION pg_temp.transfer_headers(body bytea) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('HmacSignature', encode(pg_temp.hmac(decode(
        '44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056', 'hex'), body), 'base64'), 'Protocol', 'HmacSHA256')
$$;

-- PayPal
CREATE FUNCTION pg_temp.capture(id text, name text, value text) RETURNS bytea LANGUAGE sql AS $$
    SELECT convert_to(jsonb_build_object('id', id, 'event_type', 'PAYMENT.CAPTURE.COMPLETED', 'resource', jsonb_build_object(
        'id', 'CAPTURE' || right(id, 1), 'status', 'COMPLETED', 'custom_id', pg_temp.object(name),
        'invoice_id', pg_temp.object(name) || ':pay:1', 'amount', jsonb_build_object('value', value, 'currency_code', 'EUR'),
        'supplementary_data', jsonb_build_object('related_ids', jsonb_build_object('order_id', 'ORDER' || right(id, 1)))))::text, 'UTF8')
$$;

CREATE FUNCTION pg_temp.paypal_headers() RETURNS jsonb LANGUAGE sql AS $$
    SELECT '{"PayPal-Auth-Algo": "SHA256withRSA", "PayPal-Cert-Url": "https://api.paypal.com/c", "PayPal-Transmission-Id": "t",
        "PayPal-Transmission-Sig": "s", "PayPal-Transmission-Time": "2026-01-01T00:00:00Z"}'::jsonb
$$;

RESET check_function_bodies;
