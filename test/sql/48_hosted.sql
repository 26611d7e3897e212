-- A payment at a page of the PSP's: from checkout over the page to the money, the queue played by hand.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/dispatch.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;
SET test.psp = 'dispatch hosted';
SELECT pg_temp.register_psp();
SELECT payment.register_seller('dispatch seller 1', 'Seller 1') IS NOT NULL AS registered;

CREATE FUNCTION pg_temp.host(name text, hosted jsonb DEFAULT '{"success_url": "https://shop.example/ok", "cancel_url": "https://shop.example/no"}')
    RETURNS void LANGUAGE sql AS $$
    SELECT payment.checkout('hosted ' || name, 'payer', jsonb_build_array(jsonb_build_object('seller', 'dispatch seller 1',
        'amount', '10.00', 'currency', 'EUR', 'reference', name)), psp => current_setting('test.psp'), hosted => hosted)
$$;
-- what the worker does with the answer that the page is open
CREATE FUNCTION pg_temp.open_page(name text) RETURNS boolean LANGUAGE sql AS $$
    SELECT payment.record_hosted_page(a.id, 'cs_' || name, 'https://pay.example/' || name, '2100-01-01 00:00+00')
    FROM payment.attempt AS a WHERE a.object_id = pg_temp.object(name) ORDER BY a.id DESC LIMIT 1
$$;
-- ... and that a charge was made there, which has a name of its own
CREATE FUNCTION pg_temp.record_charge(name text, outcome text, charge text) RETURNS integer LANGUAGE sql AS $$
    SELECT payment.record_outcomes(ARRAY[(jsonb_populate_record(NULL::payment.attempt_outcome, jsonb_build_object(
        'attempt_id', a.id, 'outcome', record_charge.outcome, 'psp_reference', 'cs_' || name, 'child_reference', charge, 'amount', 1000,
        'currency', 'EUR')))])
    FROM payment.attempt AS a WHERE a.object_id = pg_temp.object(name) ORDER BY a.id DESC LIMIT 1
$$;
CREATE FUNCTION pg_temp.payment(name text) RETURNS TABLE (status text, hosted_url text) LANGUAGE sql AS $$
    SELECT p.status, p.hosted_url FROM payment.payment AS p JOIN payment.order_record AS o ON o.payment_id = p.id
    WHERE o.id = pg_temp.object(name)
$$;

-- what is refused
SELECT pg_temp.sqlstate_of(format('SELECT pg_temp.host(''refused'', %L)', hosted)) AS refused FROM unnest(ARRAY[
    '{}', '{"success_url": "https://a"}', '{"success_url": "javascript:alert(1)", "cancel_url": "https://a"}',
    '{"success_url": "https://a b", "cancel_url": "https://a"}', '{"success_url": 1, "cancel_url": "https://a"}',
    '{"success_url": "https://a", "cancel_url": "https://a", "expires_in_s": 3599}',
    '{"success_url": "https://a", "cancel_url": "https://a", "expires_in_s": 82801}',
    '{"success_url": "https://a", "cancel_url": "https://a", "expires_in_s": 3600.5}',
    '{"success_url": "https://a", "cancel_url": "https://a", "locale": "de&x=1"}',
    '{"success_url": "https://a", "cancel_url": "https://a", "card": "4242"}',
    '{"success_url": "https://a/4242424242424242", "cancel_url": "https://a"}', '[]']) AS hosted;
SELECT pg_temp.sqlstate_of($$SELECT payment.checkout('hosted both', 'payer',
    '[{"seller": "dispatch seller 1", "amount": 1, "currency": "EUR"}]', 'dispatch hosted', 'pm',
    hosted => '{"success_url": "https://a", "cancel_url": "https://a"}')$$);
SELECT count(*) AS kept FROM payment.hosted_page AS h JOIN payment.order_record AS o ON o.id = h.order_id WHERE o.psp_id = pg_temp.psp();

-- paid, found by a poll; the same key is the same payment
SELECT pg_temp.host('h/1'), pg_temp.host('h/1');
SELECT * FROM pg_temp.claim();
SELECT * FROM pg_temp.show('h/1');
SELECT * FROM pg_temp.payment('h/1');
SELECT pg_temp.open_page('h/1') AS new, pg_temp.open_page('h/1') AS again, pg_temp.record('h/1', 'requires_action', 'cs_h/1');
SELECT * FROM pg_temp.show('h/1');
SELECT * FROM pg_temp.payment('h/1');
-- looked at: nobody has paid, and the redirect would say nothing
SELECT pg_temp.skip_time();
SELECT * FROM pg_temp.claim();
SELECT pg_temp.record('h/1', 'requires_action', 'cs_h/1');
SELECT * FROM pg_temp.show('h/1');
SELECT pg_temp.skip_time();
SELECT step, psp_reference FROM pg_temp.claim();
SELECT pg_temp.record_charge('h/1', 'succeeded', 'pi_h1');
SELECT * FROM pg_temp.show('h/1');
SELECT * FROM pg_temp.payment('h/1');
SELECT pg_temp.history('h/1');
SELECT * FROM pg_temp.journals('h/1');

-- processing, then declined
SELECT pg_temp.host('h/2');
SELECT name FROM pg_temp.claim();
SELECT pg_temp.open_page('h/2'), pg_temp.record('h/2', 'requires_action', 'cs_h/2');
SELECT pg_temp.skip_time();
SELECT name FROM pg_temp.claim();
SELECT pg_temp.record_charge('h/2', 'pending', 'pi_h2');
SELECT * FROM pg_temp.show('h/2');
SELECT * FROM pg_temp.payment('h/2');
SELECT pg_temp.skip_time();
SELECT name, psp_reference FROM pg_temp.claim();
SELECT pg_temp.record_charge('h/2', 'declined', 'pi_h2');
SELECT * FROM pg_temp.show('h/2');
SELECT * FROM pg_temp.payment('h/2');

-- expired by the PSP's word; a late success is posted and goes to people
SELECT pg_temp.host('h/3');
SELECT name FROM pg_temp.claim();
SELECT pg_temp.open_page('h/3'), pg_temp.record('h/3', 'requires_action', 'cs_h/3');
SELECT pg_temp.skip_time();
SELECT name FROM pg_temp.claim();
SELECT pg_temp.record('h/3', 'expired', 'cs_h/3', error_code => 'expired');
SELECT * FROM pg_temp.show('h/3');
SELECT * FROM pg_temp.payment('h/3');
SELECT pg_temp.record_charge('h/3', 'succeeded', 'pi_h3');
SELECT * FROM pg_temp.show('h/3');
SELECT * FROM pg_temp.payment('h/3');
SELECT * FROM pg_temp.exceptions('h/3');

-- no answer: the same request again, under the same key and with the same end
SELECT pg_temp.host('h/4', '{"success_url": "https://shop.example/ok", "cancel_url": "https://shop.example/no", "expires_in_s": 3600, "locale": "de"}');
SELECT c.success_url, c.cancel_url, c.locale, c.expires_at - c.first_sent_at AS lifetime
FROM payment.claim_tasks(pg_temp.psp(), 10, 60000) AS c;
SELECT pg_temp.record('h/4', 'unknown', error_code => 'timeout');
SELECT * FROM pg_temp.show('h/4');
SELECT pg_temp.age('h/4', '10 min'), pg_temp.skip_time();
SELECT c.step, replace(c.psp_key, c.object_id::text, '<id>') AS key, c.expires_at - c.first_sent_at AS lifetime
FROM payment.claim_tasks(pg_temp.psp(), 10, 60000) AS c WHERE c.object_id = pg_temp.object('h/4');
SELECT pg_temp.open_page('h/4'), pg_temp.record('h/4', 'requires_action', 'cs_h/4');
SELECT * FROM pg_temp.show('h/4');
-- the PSP refuses the page
SELECT pg_temp.host('h/5');
SELECT name FROM pg_temp.claim();
SELECT pg_temp.record('h/5', 'failed', error_code => 'url_invalid', decline_class => 'not_applicable');
SELECT * FROM pg_temp.show('h/5');
SELECT * FROM pg_temp.payment('h/5');
-- a claim that was lost
SELECT pg_temp.host('h/6');
SELECT name FROM pg_temp.claim();
SELECT pg_temp.skip_time();
SELECT name, step FROM pg_temp.claim() WHERE name = 'h/6';
SELECT * FROM pg_temp.show('h/6');
SELECT pg_temp.open_page('h/6'), pg_temp.record('h/6', 'requires_action', 'cs_h/6');
SELECT * FROM pg_temp.show('h/6');
