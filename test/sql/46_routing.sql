-- Which PSP executes a payment whose caller names none.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/order.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;
SELECT count(payment.register_psp('route ' || p, 'none', 'http://127.0.0.1:1', 'none')) AS psps FROM unnest('{a,b,c}'::text[]) AS p;
SELECT payment.register_seller('route seller 1', 'Seller') AS seller_1, payment.register_seller('route seller 2', 'Seller') AS seller_2 \gset
SELECT payment.set_fee_schedule(0, 0) IS NOT NULL AS fees;

-- where a payment goes; each order: seller, amount, currency
CREATE FUNCTION pg_temp.route(orders text[], methods text DEFAULT '{"route a": "pm_a", "route b": "pm_b", "route c": "pm_c"}',
    psp text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    list jsonb;
    made uuid;
    answer text;
BEGIN
    SELECT jsonb_agg(jsonb_build_object('seller', 'route seller ' || split_part(o, ' ', 1), 'amount', split_part(o, ' ', 2),
            'currency', split_part(o, ' ', 3)) ORDER BY n) INTO list FROM unnest(orders) WITH ORDINALITY AS u (o, n);
    made := (payment.checkout('route ' || payment.new_id(), 'payer', list, psp => psp,
        payment_method => CASE WHEN methods NOT LIKE '{%' THEN methods END,
        payment_methods => CASE WHEN methods LIKE '{%' THEN methods::jsonb END)).payment_id;
    SELECT v.name || ' ' || p.payment_method || coalesce(' of ' || (SELECT string_agg(right(x.name, 1), '' ORDER BY n)
            FROM unnest(p.route) WITH ORDINALITY AS u (id, n) JOIN payment.psp AS x ON x.id = u.id), '')
        || CASE WHEN bool_and(o.routed) THEN ' routed' ELSE '' END
        || CASE WHEN bool_or(o.psp_id <> p.psp_id OR t.psp_id <> p.psp_id) THEN ' ELSEWHERE' ELSE '' END INTO answer
    FROM payment.payment_record AS p JOIN payment.psp AS v ON v.id = p.psp_id
        JOIN payment.order_record AS o ON o.payment_id = p.id JOIN payment.task AS t ON t.object_id = o.id
    WHERE p.id = made GROUP BY p.id, v.name, p.payment_method, p.route;
    RETURN answer;
END
$$;
CREATE FUNCTION pg_temp.refusal(orders text[], methods text DEFAULT NULL, psp text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    SELECT pg_temp.error_of(format('SELECT pg_temp.route(%L, %L, %L)', orders, methods, psp)) $$;

-- no rules: as ever, the only one that could do it
SELECT pg_temp.route('{1 10.00 EUR}', '{"route b": "pm_b"}');
SELECT pg_temp.refusal('{1 10.00 EUR}', '{"route a": "pm_a", "route b": "pm_b"}');
SELECT pg_temp.route('{1 10.00 EUR}', 'pm_a', psp => 'route a'), pg_temp.route('{1 10.00 EUR}', psp => 'route c');

-- priority, then what each rule asks for
SELECT payment.set_routing_rule('route rest', 'route c', 900);
SELECT payment.set_routing_rule('route euro', 'route a', 100, currency => 'EUR', max_amount => 10000);
SELECT payment.set_routing_rule('route large', 'route b', 200, currency => 'EUR', min_amount => 10000, max_amount => 20000);
SELECT payment.set_routing_rule('route seller', 'route b', 50, seller => :'seller_2');
SELECT orders, pg_temp.route(orders) FROM unnest(ARRAY['{1 10.00 EUR}', '{1 99.99 EUR,1 0.01 EUR}', '{1 100.00 EUR,1 0.01 EUR}',
    '{1 200.00 EUR}', '{1 200.01 EUR}', '{1 10.00 USD}', '{1 10.00 EUR,1 10.00 USD}', '{2 10.00 USD}', '{2 5.00 EUR,1 5.00 EUR}',
    '{1 92233720368547758.07 EUR,1 92233720368547758.07 EUR}']) AS o (text), LATERAL (SELECT text::text[]) AS x (orders);
-- a PSP without a token is no candidate, nor is one that is paused, nor a rule that is
SELECT pg_temp.route('{1 100.00 EUR}', '{"route b": "pm_b", "route c": "pm_c"}');
SELECT payment.register_psp('route a', 'none', 'http://127.0.0.1:1', 'none', '{"state": "paused"}') IS NOT NULL AS paused;
SELECT pg_temp.route('{1 100.00 EUR}');
SELECT payment.register_psp('route a', 'none', 'http://127.0.0.1:1', 'none', '{"state": "active"}') IS NOT NULL AS active;
SELECT payment.set_routing_rule('route euro', 'route a', 100, currency => 'EUR', max_amount => 10000, state => 'paused');
SELECT pg_temp.route('{1 100.00 EUR}');
SELECT payment.set_routing_rule('route euro', 'route a', 100, currency => 'EUR', max_amount => 10000);
-- one whose circuit breaker is open comes last
SELECT payment.save_breaker(id, 'open', now(), now() + interval '1 hour', 3600000, 'test', 0) FROM payment.psp WHERE name = 'route a';
SELECT pg_temp.route('{1 100.00 EUR}'), pg_temp.route('{1 100.00 EUR}', '{"route a": "pm_a"}'), pg_temp.route('{1 100.00 EUR}', 'pm_one');
SELECT payment.reset_breaker('route a');
SELECT pg_temp.route('{1 100.00 EUR}');
-- one token only: a rule chooses, but no other PSP could use it
SELECT pg_temp.route('{1 100.00 EUR}', 'pm_one');
-- whoever names the PSP gets it, and stays there
SELECT pg_temp.route('{1 100.00 EUR}', psp => 'route c');
-- payment methods by their looks
SELECT payment.set_routing_rule('route wallet', 'route b', 10, payment_method => 'wallet_*'),
    payment.set_routing_rule('route card', 'route a', 10, payment_method => '*_visa_*');
SELECT token, pg_temp.route('{1 5.00 USD}', token) FROM unnest('{wallet_1,wallet_,wallet,my_wallet_1,card_visa_1,_visa_,visa_,x_visa_visa,x_vis_visa_y}'::text[]) AS token;
SELECT pg_temp.route('{1 5.00 USD}', '{"route a": "wallet_a", "route b": "wallet_b"}');
SELECT payment.remove_routing_rule('route ' || n) FROM unnest('{wallet,card,card}'::text[]) AS n;

-- chance by weight, among equals
SELECT payment.remove_routing_rule('route ' || n) FROM unnest('{euro,large,seller}'::text[]) AS n;
SELECT payment.set_routing_rule('route rest', 'route a', 5, weight => 1), payment.set_routing_rule('route more', 'route b', 5, weight => 3);
SELECT r, count(*) BETWEEN CASE r WHEN 'route a pm_a of ab routed' THEN 50 ELSE 200 END
    AND CASE r WHEN 'route a pm_a of ab routed' THEN 200 ELSE 350 END AS as_expected
FROM (SELECT pg_temp.route('{1 5.00 USD}') AS r FROM generate_series(1, 400)) AS d GROUP BY r ORDER BY r;
-- ... drawn once for a key
SELECT count(DISTINCT (c).payment_id) FROM (SELECT payment.checkout('route same', 'payer',
    '[{"seller": "route seller 1", "amount": 100, "currency": "EUR"}]',
    payment_methods => '{"route a": "pm_a", "route b": "pm_b"}') AS c FROM generate_series(1, 20)) AS d;
-- other tokens are another payment
SELECT pg_temp.error_of($$SELECT payment.checkout('route same', 'payer', '[{"seller": "route seller 1", "amount": 100,
    "currency": "EUR"}]', payment_methods => '{"route a": "pm_a", "route b": "pm_other"}')$$);

-- submit takes the same
SELECT position, idempotency_key FROM payment.submit('[
    {"idempotency_key": "route s1", "payment_type": "pay_in", "payer": "p", "payment_methods": {"route b": "pm_b"},
     "orders": [{"seller": "route seller 1", "amount": 1, "currency": "EUR"}], "metadata": {"route": 1}},
    {"idempotency_key": "route s2", "payment_type": "pay_in", "payer": {"reference": "p"}, "psp": "route a", "metadata": {"route": 2},
     "payment_methods": {"route b": "pm_b", "route a": "pm_a"}, "orders": [{"seller": "route seller 1", "amount": 1, "currency": "EUR"}]}]');
SELECT metadata -> 'route' AS event, psp, payment_method FROM payment.payment WHERE metadata ? 'route' ORDER BY 1;
SELECT pg_temp.error_of($$SELECT payment.submit('[{"idempotency_key": "route s3", "payment_type": "pay_in", "payer": "p",
    "payment_methods": {"route b": 1}, "orders": [{"seller": "route seller 1", "amount": 1, "currency": "EUR"}]}]')$$);

-- what is refused at checkout
SELECT methods, pg_temp.error_of(format('SELECT payment.checkout(%L, ''payer'', ''[{"seller": "route seller 1", "amount": 100,
    "currency": "EUR"}]'', payment_methods => %L)', 'route bad ' || n, methods))
FROM unnest(ARRAY['{}', '[]', '1', '{"route a": null}', '{"route a": ""}', '{"route a": {"x": 1}}', '{"route x": "pm"}', '{"": "pm"}',
    '{"route a": "4111 1111 1111 1111"}', '{"route c": "pm_c", "route a": "pm_a"}']) WITH ORDINALITY AS u (methods, n);
SELECT pg_temp.error_of($$SELECT payment.checkout('route both', 'payer', '[{"seller": "route seller 1", "amount": 100,
    "currency": "EUR"}]', payment_method => 'pm', payment_methods => '{"route a": "pm_a"}')$$);
SELECT pg_temp.refusal('{1 1.00 EUR}', '{"route a": "pm_a"}', 'route b'), pg_temp.refusal('{1 1.00 EUR}', '{"route a": "pm_a"}', 'route x');

-- what no rule may be
SELECT a, pg_temp.error_of(format('SELECT payment.set_routing_rule(%s)', a)) FROM unnest(ARRAY[$$NULL, 'route a', 1$$,
    $$'', 'route a', 1$$, $$'r', NULL, 1$$, $$'r', 'no such', 1$$, $$'r', 'route a', NULL$$, $$'r', 'route a', 0$$,
    $$'r', 'route a', 1000001$$, $$'r', 'route a', 1, 'eur'$$, $$'r', 'route a', 1, min_amount => 1$$,
    $$'r', 'route a', 1, 'EUR', 0$$, $$'r', 'route a', 1, 'EUR', 2, 1$$, $$'r', 'route a', 1, 'EUR', max_amount => -1$$,
    $$'r', 'route a', 1, seller => '00000000-0000-0000-0000-000000000000'$$, $$'r', 'route a', 1, payment_method => ''$$,
    $$'r', 'route a', 1, payment_method => '4111111111111111'$$, $$'r', 'route a', 1, weight => 0$$,
    $$'r', 'route a', 1, weight => 1001$$, $$'r', 'route a', 1, weight => NULL$$, $$'r', 'route a', 1, state => 'off'$$,
    $$'r', 'route a', 1, state => NULL$$]) AS a;
SELECT pg_temp.error_of('SELECT payment.remove_routing_rule(NULL)'), payment.remove_routing_rule('no such');
BEGIN;
SET LOCAL payment.max_routing_rules = 2;
SELECT payment.set_routing_rule('route rest', 'route a', 6);
SELECT pg_temp.error_of($$SELECT payment.set_routing_rule('route third', 'route a', 6)$$);
ROLLBACK;
SELECT name, priority, currency, weight, state FROM payment.routing_rule WHERE name LIKE 'route%' ORDER BY name;
SELECT count(*) FROM unnest('{rest,more}'::text[]) AS n WHERE payment.remove_routing_rule('route ' || n);
