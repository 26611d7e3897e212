-- What webhooks say of authorisations, captures and refunds after the answer to
-- the request: gone by time or by people, captured in part, failed after success.
\getenv inputdir PG_ABS_SRCDIR
\set dispatch :inputdir '/lib/dispatch.sql'
\set webhook :inputdir '/lib/webhook.sql'
SET client_min_messages = warning;
\set ECHO none
\i :dispatch
\i :webhook
\set ECHO all
RESET client_min_messages;
SET test.webhook_secret = 'whsec_outcomes';
SELECT pg_temp.write_secret('outcomes_stripe', 'whsec_outcomes');
SELECT pg_temp.write_secret('outcomes_adyen', '44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056');
SELECT count(payment.register_psp('outcomes stripe', 'stripe', 'http://127.0.0.1:1', 'none', webhook_secret_names => '{outcomes_stripe}'));
SELECT count(payment.register_psp('outcomes paypal', 'paypal', 'http://127.0.0.1:1', 'none', '{"config": {"webhook_id": "2WEBHOOK"}}'));
SELECT count(payment.register_psp('outcomes adyen', 'adyen', 'http://127.0.0.1:1', 'none',
    '{"payouts": false, "config": {"merchant_account": "Shop_EUR", "return_url": "https://shop.example/"}}',
    webhook_secret_names => '{outcomes_adyen}'));
SELECT count(payment.register_seller('outcome seller ' || n, 'Seller ' || n)) AS registered FROM generate_series(1, 9) AS n;

-- so many orders of 10.00 NAME/1, ..., each authorised under the name REFERENCE_NAMEn, to be captured later
CREATE FUNCTION pg_temp.authorised(name text, count integer, sent_only boolean DEFAULT false) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM payment.checkout(current_setting('test.psp') || ' ' || name, 'payer',
        (SELECT jsonb_agg(jsonb_build_object('seller', 'outcome seller ' || n, 'amount', '10.00', 'currency', 'EUR',
            'reference', name || '/' || n) ORDER BY n) FROM generate_series(1, count) AS n),
        psp => current_setting('test.psp'), payment_method => 'pm', capture => 'manual');
    PERFORM pg_temp.claim();
    IF NOT sent_only THEN
        PERFORM pg_temp.record(name || '/' || n, 'authorized', 'REF_' || name || n, authorized_until => now() + interval '7 days',
            child_reference => 'AUTH_' || name || n) FROM generate_series(1, count) AS n;
    END IF;
END
$$;
CREATE FUNCTION pg_temp.captured(name text, amount bigint, key text, final boolean DEFAULT false, outcome text DEFAULT 'succeeded') RETURNS integer
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM payment.capture(pg_temp.object(name), key, amount, final);
    PERFORM pg_temp.claim();
    RETURN pg_temp.record(name, outcome, (SELECT o.psp_reference FROM payment.order_record AS o WHERE o.id = pg_temp.object(name)), amount);
END
$$;
CREATE FUNCTION pg_temp.orders(pattern text) RETURNS TABLE (name text, status text, authorized bigint, captured bigint) LANGUAGE sql AS $$
    SELECT o.reference, o.status, o.authorized_amount, o.captured_amount FROM payment.order_record AS o
    WHERE o.psp_id = pg_temp.psp() AND o.reference LIKE pattern ORDER BY o.reference
$$;
CREATE FUNCTION pg_temp.told(pattern text DEFAULT '%') RETURNS TABLE (event_id text, about text, outcome text, state text, effect text) LANGUAGE sql AS $$
    SELECT w.event_id, w.about, w.outcome, w.state, w.effect FROM pg_temp.webhooks(pattern) AS w
$$;
CREATE FUNCTION pg_temp.refund(name text, amount bigint, reference text) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    refunded uuid := payment.refund(pg_temp.object(name), amount, name || ' back');
BEGIN
    PERFORM pg_temp.claim();
    PERFORM payment.record_outcomes(ARRAY[ROW((SELECT a.id FROM payment.attempt AS a WHERE a.object_id = refunded),
        CASE current_setting('test.psp') WHEN 'outcomes adyen' THEN 'pending' ELSE 'succeeded' END, 200, 5, reference, amount, 'EUR',
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome]);
    RETURN refunded;
END
$$;

-- ---- Stripe ----
SET test.psp = 'outcomes stripe';
SELECT pg_temp.authorised('s', 4);
SELECT pg_temp.captured('s/4', 400, 's/4 part');
CREATE FUNCTION pg_temp.canceled(id text, name text, extra jsonb) RETURNS integer LANGUAGE sql AS $$
    SELECT a.http_status FROM pg_temp.event(id, 'payment_intent.canceled', pg_temp.intent('REF_' || replace(name, '/', ''), name, 'canceled', 1000,
        '{"capture_method": "manual", "latest_charge": "ch_1"}'::jsonb || extra)) AS b (body), pg_temp.receive(b.body) AS a
$$;
SELECT pg_temp.canceled('evt_voided', 's/1', '{"cancellation_reason": "requested_by_customer"}');
SELECT pg_temp.canceled('evt_expired', 's/2', '{"cancellation_reason": "automatic"}');
SELECT a.http_status FROM pg_temp.event('evt_charge_expired', 'charge.expired', jsonb_build_object('id', 'ch_3', 'object', 'charge', 'captured', false,
    'status', 'succeeded', 'payment_intent', 'REF_s3', 'amount', 1000, 'currency', 'eur', 'metadata',
    jsonb_build_object('payment_order', pg_temp.object('s/3'), 'attempt', '1'))) AS b (body), pg_temp.receive(b.body) AS a;
SELECT pg_temp.canceled('evt_rest', 's/4', '{"cancellation_reason": "automatic"}');
SELECT * FROM pg_temp.orders('s/%');
-- again, and of what was never authorised
SELECT pg_temp.canceled('evt_voided_again', 's/1', '{}');
SELECT pg_temp.authorised('t', 1, sent_only => true);
SELECT pg_temp.canceled('evt_failed', 't/1', '{"latest_charge": null}');
SELECT pg_temp.record('t/1', 'unknown');
SELECT pg_temp.age_webhooks('1 hour');
SELECT pg_temp.retry_webhooks();
SELECT * FROM pg_temp.orders('t/%');
-- what is told of the charge alone says nothing that the refund's own events do not
SELECT a.http_status FROM pg_temp.event('evt_refunded', 'charge.refunded', '{"id": "ch_1", "object": "charge"}') AS b (body), pg_temp.receive(b.body) AS a;
SELECT * FROM pg_temp.told();
SELECT count(*) FROM pg_temp.journals('s/1') UNION ALL SELECT count(*) FROM pg_temp.journals('s/2') UNION ALL SELECT count(*) FROM pg_temp.journals('s/4');

-- ---- PayPal ----
SET test.psp = 'outcomes paypal';
CREATE FUNCTION pg_temp.tell(id text, type text, resource jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_temp.receive(convert_to(jsonb_build_object('id', id, 'event_type', type, 'resource', resource)::text, 'UTF8'), pg_temp.paypal_headers());
    RETURN (SELECT payment.confirm_webhook(u.id, true) FROM payment.webhook_unverified AS u WHERE u.psp_id = pg_temp.psp());
END
$$;
CREATE FUNCTION pg_temp.of(name text, id text, status text, value text, invoice text DEFAULT NULL, custom uuid DEFAULT NULL) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('id', id, 'status', status, 'custom_id', coalesce(custom, pg_temp.object(name)),
        'amount', jsonb_build_object('value', value, 'currency_code', 'EUR'), 'supplementary_data', jsonb_build_object('related_ids',
            jsonb_build_object('order_id', 'REF_' || replace(name, '/', ''), 'authorization_id', 'AUTH_' || replace(name, '/', ''))))
        || CASE WHEN invoice IS NULL THEN '{}' ELSE jsonb_build_object('invoice_id', coalesce(custom, pg_temp.object(name)) || invoice) END
$$;
SELECT pg_temp.authorised('p', 6);
SELECT pg_temp.tell('WH-voided', 'PAYMENT.AUTHORIZATION.VOIDED', pg_temp.of('p/1', 'AUTH_p1', 'VOIDED', '10.00'));
SELECT pg_temp.tell('WH-expired', 'PAYMENT.AUTHORIZATION.VOIDED', pg_temp.of('p/2', 'AUTH_p2', 'EXPIRED', '10.00'));
SELECT pg_temp.tell('WH-created', 'PAYMENT.AUTHORIZATION.CREATED', pg_temp.of('p/3', 'AUTH_p3', 'CREATED', '10.00'));
-- two captures of ours, each evidence of its own amount: the first is told before its answer, the second after it
SELECT payment.capture(pg_temp.object('p/3'), 'p/3 first', 400, final => false);
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.tell('WH-capture-1', 'PAYMENT.CAPTURE.COMPLETED', pg_temp.of('p/3', 'CAPTURE1', 'COMPLETED', '4.00', ':capture:1'));
SELECT pg_temp.record('p/3', 'succeeded', 'REF_p3', 400, child_reference => 'CAPTURE1');
SELECT pg_temp.captured('p/3', 600, 'p/3 second', true);
SELECT pg_temp.tell('WH-capture-2', 'PAYMENT.CAPTURE.COMPLETED', pg_temp.of('p/3', 'CAPTURE2', 'COMPLETED', '6.00', ':capture:2'));
-- one that people made at PayPal, of which nothing here knows: not the total
SELECT pg_temp.captured('p/4', 400, 'p/4 first');
SELECT pg_temp.tell('WH-by-hand', 'PAYMENT.CAPTURE.COMPLETED', pg_temp.of('p/4', 'CAPTURE4', 'COMPLETED', '4.00'));
SELECT name, type, expected, actual FROM pg_temp.exceptions('p/4');
-- ... even while a capture of the same amount is under way
SELECT payment.capture(pg_temp.object('p/5'), 'p/5 first', 500, final => false);
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.tell('WH-by-hand-too', 'PAYMENT.CAPTURE.COMPLETED', pg_temp.of('p/5', 'CAPTURE5', 'COMPLETED', '5.00', ':pay:1'));
SELECT name, type FROM pg_temp.exceptions('p/5');
-- a capture of ours that is denied later, and one of nobody's
SELECT payment.capture(pg_temp.object('p/6'), 'p/6 first', 500, final => false);
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('p/6', 'pending', 'REF_p6');
SELECT pg_temp.tell('WH-denied-other', 'PAYMENT.CAPTURE.DENIED', pg_temp.of('p/6', 'CAPTURE7', 'DECLINED', '5.00'));
SELECT * FROM pg_temp.orders('p/6');
SELECT pg_temp.tell('WH-denied', 'PAYMENT.CAPTURE.DENIED', pg_temp.of('p/6', 'CAPTURE6', 'DECLINED', '5.00', ':capture:1'));
SELECT * FROM pg_temp.orders('p/%');
SELECT * FROM pg_temp.told();
SELECT * FROM pg_temp.journals('p/3');
-- refunds of ours, and S35: one that fails after it had succeeded
SELECT pg_temp.pay('r', '10.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('r/1', 'succeeded', 'REF_r1', 1000);
SELECT pg_temp.refund('r/1', 300, 'REFUND1') AS refund \gset
SELECT pg_temp.tell('WH-refunded', 'PAYMENT.CAPTURE.REFUNDED', pg_temp.of('r/1', 'REFUND1', 'COMPLETED', '3.00', ':refund:1', :'refund'));
SELECT status FROM payment.refund WHERE id = :'refund';
SELECT pg_temp.tell('WH-refund-failed', 'PAYMENT.REFUND.FAILED', pg_temp.of('r/1', 'REFUND1', 'FAILED', '3.00', ':refund:1', :'refund'));
SELECT status FROM payment.refund WHERE id = :'refund';
SELECT refunded_amount, pending_amount FROM payment.order_record WHERE id = pg_temp.object('r/1');
-- that of somebody else
SELECT pg_temp.tell('WH-refund-foreign', 'PAYMENT.CAPTURE.REFUNDED', pg_temp.of('r/1', 'REFUND2', 'COMPLETED', '3.00'));
SELECT * FROM pg_temp.told('WH-refund%');

-- ---- Adyen ----
SET test.psp = 'outcomes adyen';
CREATE FUNCTION pg_temp.tell(VARIADIC items text[]) RETURNS integer LANGUAGE sql AS $$
    SELECT a.http_status FROM pg_temp.receive(pg_temp.batch(VARIADIC items), '{}') AS a
$$;
SELECT pg_temp.authorised('a', 6);
SELECT pg_temp.tell(
    pg_temp.item('psp_x1', 'a/1', 'CANCELLATION', 1000, original => 'REF_a1'),
    pg_temp.item('psp_x2', 'a/2', 'EXPIRE', 1000, original => 'REF_a2'),
    pg_temp.item('psp_x3', 'a/3', 'TECHNICAL_CANCEL', 1000, original => 'REF_a3'));
SELECT * FROM pg_temp.orders('a/%');
-- a capture of ours that had succeeded fails: people are told; nothing is posted
SELECT pg_temp.captured('a/4', 400, 'a/4 first', outcome => 'pending');
SELECT pg_temp.tell(pg_temp.item('psp_c1', 'a/4', 'CAPTURE', 400, original => 'REF_a4', reference => pg_temp.object('a/4') || '.capture.1'));
SELECT * FROM pg_temp.orders('a/4');
SELECT pg_temp.tell(pg_temp.item('psp_c1', 'a/4', 'CAPTURE_FAILED', 400, original => 'REF_a4', reference => pg_temp.object('a/4') || '.capture.1'));
SELECT pg_temp.tell(pg_temp.item('psp_c1', 'a/4', 'CAPTURE_FAILED', 400, original => 'REF_a4', reference => pg_temp.object('a/4') || '.capture.1'));
SELECT name, type FROM pg_temp.exceptions('a/4');
SELECT * FROM pg_temp.orders('a/4');
-- one that had not succeeded, after one that has: no exception, the order goes on
SELECT pg_temp.captured('a/5', 400, 'a/5 first');
SELECT pg_temp.captured('a/5', 300, 'a/5 second', outcome => 'pending');
SELECT pg_temp.tell(pg_temp.item('psp_c3', 'a/5', 'CAPTURE_FAILED', 300, original => 'REF_a5', reference => pg_temp.object('a/5') || '.capture.2'));
SELECT name, type FROM pg_temp.exceptions('a/5');
SELECT * FROM pg_temp.orders('a/5');
-- one that does not say which it is, while another is under way: that goes on
SELECT pg_temp.captured('a/5', 200, 'a/5 third', outcome => 'pending');
SELECT pg_temp.tell(pg_temp.item('psp_c4', NULL, 'CAPTURE_FAILED', 400, original => 'REF_a5', reference => 'somebody'));
SELECT name, type FROM pg_temp.exceptions('a/5');
SELECT * FROM pg_temp.orders('a/5');
-- nothing was captured: nothing can have failed after it
SELECT pg_temp.tell(pg_temp.item('psp_c5', NULL, 'CAPTURE_FAILED', 1000, original => 'REF_a6', reference => 'somebody'));
SELECT name, type FROM pg_temp.exceptions('a/6');
-- S35: refunds that fail after they had succeeded, by their key and by their name
SELECT pg_temp.pay('b', '10.00', '20.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('b/1', 'succeeded', 'REF_b1', 1000), pg_temp.record('b/2', 'succeeded', 'REF_b2', 2000);
SELECT pg_temp.refund('b/1', 300, 'psp_r1') AS first, pg_temp.refund('b/2', 500, 'psp_r2') AS second \gset
SELECT pg_temp.tell(pg_temp.item('psp_r1', NULL, 'REFUND', 300, original => 'REF_b1', reference => :'first' || '.refund.1'),
    pg_temp.item('psp_r2', NULL, 'REFUND', 500, original => 'REF_b2', reference => :'second' || '.refund.1'));
SELECT status, amount FROM payment.refund WHERE id IN (:'first', :'second') ORDER BY amount;
SELECT pg_temp.tell(pg_temp.item('psp_r1', NULL, 'REFUND_FAILED', 300, original => 'REF_b1', reference => :'first' || '.refund.1'),
    pg_temp.item('psp_r2', 'b/2', 'REFUND_FAILED', 500, original => 'REF_b2'),
    pg_temp.item('psp_r9', 'b/2', 'REFUND_FAILED', 500, original => 'REF_b2'));
SELECT status, amount FROM payment.refund WHERE id IN (:'first', :'second') ORDER BY amount;
SELECT reference, refunded_amount, pending_amount FROM payment.order_record WHERE psp_id = pg_temp.psp() AND reference LIKE 'b/%' ORDER BY 1;
SELECT * FROM pg_temp.told();
-- the same text is signed, be the amount a number or a string: the event counts, and counts once
SELECT pg_temp.authorised('d', 1, sent_only => true);
SELECT http_status FROM pg_temp.receive(convert_to(regexp_replace(convert_from(pg_temp.batch(
    pg_temp.item('psp_d1', 'd/1', 'AUTHORISATION', 1000)), 'UTF8'), '"value": 1000', '"value": "1000"'), 'UTF8'), '{}');
SELECT pg_temp.tell(pg_temp.item('psp_d1', 'd/1', 'AUTHORISATION', 1000));
SELECT * FROM pg_temp.told('AUTHORISATION:psp_d1%');
-- S27: while one secret cannot be read nobody knows whose a bad item is: the good ones are kept, and all is to be sent again
SELECT pg_temp.write_secret('outcomes_missing', '');
SELECT count(payment.register_psp('outcomes adyen', p.adapter, p.base_url, p.secret_name, webhook_secret_names => '{outcomes_adyen, outcomes_missing}'))
FROM payment.psp AS p WHERE p.name = 'outcomes adyen';
SELECT http_status, content_type, body FROM pg_temp.receive(pg_temp.batch(
    pg_temp.item('psp_e1', NULL, 'REPORT_AVAILABLE', 1, reference => 'x', signature => 'AAAA'),
    pg_temp.item('psp_e2', NULL, 'REPORT_AVAILABLE', 1, reference => 'x'),
    pg_temp.item('psp_e3', NULL, 'REPORT_AVAILABLE', 1, reference => 'x', key => repeat('ab', 32))), '{}');
SELECT * FROM pg_temp.told('REPORT%');
SELECT * FROM pg_temp.rejections();
SELECT pg_temp.write_secret('outcomes_missing', repeat('ab', 32));
SELECT http_status, content_type, body FROM pg_temp.receive(pg_temp.batch(
    pg_temp.item('psp_e1', NULL, 'REPORT_AVAILABLE', 1, reference => 'x', signature => 'AAAA'),
    pg_temp.item('psp_e2', NULL, 'REPORT_AVAILABLE', 1, reference => 'x'),
    pg_temp.item('psp_e3', NULL, 'REPORT_AVAILABLE', 1, reference => 'x', key => repeat('ab', 32))), '{}');
SELECT * FROM pg_temp.told('REPORT%');
SELECT * FROM pg_temp.rejections();
SELECT * FROM payment.verify();
