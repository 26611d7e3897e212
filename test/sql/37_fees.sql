-- Fees: which schedule, how much, from when; volumes; quotes.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/order.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;
SET test.psp = 'fees a';
SELECT count(payment.register_psp('fees ' || p, 'none', 'http://127.0.0.1:1', 'none')) AS psps FROM unnest('{a,b}'::text[]) AS p;
SELECT payment.register_seller('fees seller', 'Seller') AS seller, payment.register_seller('fees other', 'Other') AS other \gset
SELECT count(payment.end_fee_schedule(id)) >= 0 AS clean FROM payment.fee_schedule WHERE effective_until > now();
CREATE FUNCTION pg_temp.quote(amount bigint, currency text DEFAULT 'EUR', psp text DEFAULT 'fees a', method text DEFAULT 'pm_card_visa',
    seller text DEFAULT 'fees seller', at timestamptz DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    SELECT (q.fee, q.fixed, q.basis_points, q.volume, q.from_volume, q.applied_limit)::text
    FROM payment.quote_fee(payment.seller_id(seller), amount, currency, psp, method, at) AS q $$;
CREATE FUNCTION pg_temp.end_all() RETURNS bigint LANGUAGE sql AS $$
    SELECT count(payment.end_fee_schedule(id)) FROM payment.fee_schedule WHERE effective_until > clock_timestamp() $$;
CREATE FUNCTION pg_temp.fee_of(name text) RETURNS text LANGUAGE sql AS $$
    SELECT (o.platform_fee, f.basis_points)::text FROM payment.order_record AS o LEFT JOIN payment.fee_schedule AS f ON f.id = o.fee_schedule_id
    WHERE o.reference = name AND o.psp_id IN (SELECT id FROM payment.psp WHERE name LIKE 'fees _') $$;

-- none: no fee
SELECT pg_temp.quote(10000);
SELECT pg_temp.buy('none', 'fees seller', '100.00', 'EUR');
SELECT pg_temp.fee_of('none');

-- one for every combination; the one that counts is taken away, again and again
CREATE TEMP TABLE combination AS
SELECT payment.set_fee_schedule(0, 1000 + n, CASE WHEN n & 1 > 0 THEN :'seller'::uuid END, CASE WHEN n & 2 > 0 THEN 'EUR' END,
        CASE WHEN n & 4 > 0 THEN 'fees a' END, CASE WHEN n & 8 > 0 THEN 'pm_*' END) AS id,
    concat_ws(', ', CASE WHEN n & 1 > 0 THEN 'seller' END, CASE WHEN n & 4 > 0 THEN 'PSP' END, CASE WHEN n & 8 > 0 THEN 'method' END,
        CASE WHEN n & 2 > 0 THEN 'currency' END) AS what
FROM generate_series(0, 15) AS n;
CREATE FUNCTION pg_temp.winners(psp text, method text, currency text, seller text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    chosen uuid;
    result text := '';
BEGIN
    LOOP
        SELECT fee_schedule_id INTO chosen FROM payment.quote_fee(payment.seller_id(seller), 10000, currency, psp, method);
        EXIT WHEN chosen IS NULL;
        result := result || '[' || (SELECT what FROM combination WHERE id = chosen) || '] ';
        PERFORM payment.end_fee_schedule(chosen);
    END LOOP;
    RETURN result;
END
$$;
BEGIN; SELECT string_to_table(pg_temp.winners('fees a', 'pm_card_visa', 'EUR', 'fees seller'), '] ') AS winners; ROLLBACK;
BEGIN; SELECT pg_temp.winners('fees b', 'pm_card_visa', 'EUR', 'fees seller') AS other_psp; ROLLBACK;
BEGIN; SELECT pg_temp.winners('fees a', 'wallet', 'EUR', 'fees seller') AS other_method; ROLLBACK;
BEGIN; SELECT pg_temp.winners('fees a', 'pm_card_visa', 'USD', 'fees seller') AS other_currency; ROLLBACK;
BEGIN; SELECT pg_temp.winners('fees a', 'pm_card_visa', 'EUR', 'fees other') AS other_seller; ROLLBACK;
BEGIN; SELECT pg_temp.winners(NULL, NULL, 'EUR', 'fees seller') AS neither_psp_nor_method; ROLLBACK;
-- checkout takes the same one, and the order keeps it
SELECT pg_temp.buy('chosen', 'fees seller', '100.00', 'EUR'), pg_temp.buy('by other', 'fees other', '100.00', 'USD');
SELECT pg_temp.fee_of('chosen'), pg_temp.fee_of('by other');
SELECT pg_temp.error_of(format('UPDATE payment.order_record SET fee_schedule_id = NULL WHERE reference = %L', 'chosen'));
SELECT pg_temp.end_all();
SELECT pg_temp.fee_of('chosen');
-- of several patterns the one that leaves least open, in any order of making
SELECT payment.set_fee_schedule(0, 2000 + n::integer, payment_method => m) IS NOT NULL AS set
FROM unnest('{*,pm_*,*visa*,pm_card_*,pm_*_card_visa,pm_card_visa,a*,pm_card_vis*a}'::text[]) WITH ORDINALITY AS u (m, n);
SELECT m, pg_temp.quote(10000, method => m) FROM unnest('{pm_card_visa,pm_card_amex,visa,pm_,x,pm_x_card_visa}'::text[]) AS m;
SELECT pg_temp.end_all();

-- the PSP of the fee is the one that routing chose; going on to another one changes nothing
SELECT payment.set_fee_schedule(0, 100, psp => 'fees a') IS NOT NULL AS a, payment.set_fee_schedule(0, 300, psp => 'fees b') IS NOT NULL AS b;
SELECT payment.set_routing_rule('fees first', 'fees b', 1), payment.set_routing_rule('fees second', 'fees a', 2);
SELECT (payment.checkout('fees routed', 'payer', '[{"seller": "fees seller", "amount": 10000, "currency": "EUR", "reference": "routed"}]',
    payment_methods => '{"fees a": "pm_a", "fees b": "pm_b"}')).payment_id IS NOT NULL AS made;
SELECT payment.record_outcomes(array_agg(ROW(attempt_id, 'declined', 402, 5, NULL, NULL, NULL, 'c', 'm', NULL, 'soft', NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome))
FROM payment.psp AS p, payment.claim_tasks(p.id, 10, 60000) WHERE p.name = 'fees b';
SELECT p.name AS now_at, pg_temp.fee_of('routed') FROM payment.order_record AS o JOIN payment.psp AS p ON p.id = o.psp_id WHERE reference = 'routed';
SELECT payment.remove_routing_rule('fees ' || n) FROM unnest('{first,second}'::text[]) AS n;
SELECT pg_temp.end_all();

-- minimum, maximum, never more than the amount; half to even; whole range
SELECT payment.set_fee_schedule(10, 300, currency => 'EUR', min_fee => 50, max_fee => 400) IS NOT NULL AS set;
SELECT amount, pg_temp.quote(amount) FROM unnest('{1,49,50,1333,1334,13000,13017,92233720368547758,9223372036854775807}'::bigint[]) AS amount;
SELECT payment.set_fee_schedule(0, 250, currency => 'JPY') IS NOT NULL AS yen, payment.set_fee_schedule(5, 250, currency => 'KWD') IS NOT NULL AS dinar;
SELECT currency, amount, pg_temp.quote(amount, currency) FROM unnest('{JPY,KWD}'::text[]) AS currency, unnest('{20,60,100}'::bigint[]) AS amount;
SELECT payment.set_fee_schedule(9223372036854775807, 10000, currency => 'USD', max_fee => 9223372036854775807) IS NOT NULL AS largest;
SELECT pg_temp.quote(9223372036854775807, 'USD'), pg_temp.quote(1, 'USD');
SELECT pg_temp.end_all();

-- times: what is in force ends when the next one begins, and comes back when that is withdrawn
CREATE FUNCTION pg_temp.show() RETURNS TABLE (bp integer, from_now interval, until interval, open_ended boolean) LANGUAGE sql AS $$
    SELECT basis_points, date_trunc('hour', greatest(effective_from - now(), '0')), CASE WHEN isfinite(effective_until) THEN
        date_trunc('hour', effective_until - now() + interval '1 min') END, f.open_ended
    FROM payment.fee_schedule AS f WHERE seller_id = payment.seller_id('fees seller') AND currency = 'CHF' AND effective_until > clock_timestamp()
    ORDER BY effective_from $$;
CREATE FUNCTION pg_temp.set(bp integer, from_hours integer DEFAULT NULL, until_hours integer DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    SELECT regexp_replace(pg_temp.error_of(format('SELECT payment.set_fee_schedule(0, %s, payment.seller_id(%L), %L, effective_from => %L, effective_until => %L)',
        bp, 'fees seller', 'CHF', now() + from_hours * interval '1 hour', now() + until_hours * interval '1 hour')), 'from .* until .*\.', 'from <time> until <time>.') $$;
CREATE FUNCTION pg_temp.end(bp integer, hours integer DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    SELECT regexp_replace(pg_temp.error_of(format('SELECT payment.end_fee_schedule(%L, %L)', id, now() + hours * interval '1 hour')), ' at .*', ' at <time>.')
    FROM payment.fee_schedule WHERE basis_points = bp AND currency = 'CHF' $$;
BEGIN;
SELECT pg_temp.set(1), pg_temp.set(2), pg_temp.set(3, 0);
SELECT bp, until IS NULL AS for_ever FROM pg_temp.show();
SELECT pg_temp.set(4, 48);
SELECT pg_temp.set(5, 24);
SELECT * FROM pg_temp.show();
SELECT pg_temp.quote(10000, 'CHF'), pg_temp.quote(10000, 'CHF', at => now() + interval '30 hours'), pg_temp.quote(10000, 'CHF', at => now() + interval '72 hours');
SELECT pg_temp.end(5), pg_temp.end(4, 48);
SELECT * FROM pg_temp.show();
-- a planned one with an end of its own is not cut
SELECT pg_temp.set(6, 24, 48);
SELECT pg_temp.set(7, 36), pg_temp.set(7, 12, 36), pg_temp.set(7, 24, 30), pg_temp.set(7, 24);
SELECT pg_temp.set(7, 48), pg_temp.set(8, 12, 24);
SELECT * FROM pg_temp.show();
-- nor one in force, but by what counts from now on
SELECT pg_temp.end(3, 6), pg_temp.end(3, 7), pg_temp.set(9, 3), pg_temp.set(9);
SELECT * FROM pg_temp.show();
SELECT pg_temp.end(6, 30), pg_temp.end(6, 40), pg_temp.end(1), pg_temp.end(9), pg_temp.end(9);
SELECT * FROM pg_temp.show();
ROLLBACK;
-- the past is what orders were made by
SELECT pg_temp.set(1, -1), pg_temp.set(1, 1, -1), pg_temp.set(1, 2, 1), pg_temp.set(1, 1, 1);
SELECT c, pg_temp.error_of(c) FROM unnest(ARRAY[
    'SELECT payment.set_fee_schedule(0, 1, effective_from => ''infinity'')', 'SELECT payment.set_fee_schedule(0, 1, effective_until => ''infinity'')',
    'SELECT payment.set_fee_schedule(0, 1, effective_from => ''-infinity'')', 'SELECT payment.end_fee_schedule(payment.new_id())',
    'SELECT payment.end_fee_schedule(NULL)']) AS c;
-- by hand neither changed nor removed; and behind the guard there is a constraint
SELECT c, pg_temp.error_of(c) FROM unnest(ARRAY['UPDATE payment.fee_schedule SET basis_points = 1', 'DELETE FROM payment.fee_schedule', 'TRUNCATE payment.fee_schedule',
    'INSERT INTO payment.fee_schedule SELECT * FROM payment.fee_schedule', 'UPDATE payment.seller_volume SET amount = 1',
    'DELETE FROM payment.counted_volume']) AS c;
BEGIN;
ALTER TABLE payment.fee_schedule DISABLE TRIGGER guard_rows;
SELECT payment.set_fee_schedule(0, 1, :'seller', 'CHF', 'fees a', 'x') AS id \gset
\set VERBOSITY sqlstate
INSERT INTO payment.fee_schedule SELECT payment.new_id(), seller_id, psp_id, payment_method, currency, fixed, basis_points, min_fee, max_fee,
    tiers, volume_window, effective_from + interval '1 hour', effective_until, open_ended, set_by FROM payment.fee_schedule WHERE id = :'id';
\set VERBOSITY default
ROLLBACK;

-- S73: what no schedule can be
SELECT c, pg_temp.error_of('SELECT payment.set_fee_schedule(' || c || ')') FROM unnest(ARRAY['0, 1, psp => ''nobody''', '0, 1, psp => ''''',
    '0, 1, payment_method => ''''', '0, 1, payment_method => ''4111 1111 1111 1111*''', '0, 1, payment_method => repeat(''x'', 2000)',
    '0, 1, min_fee => 1', '0, 1, max_fee => 1', '0, 1, NULL, ''EUR'', min_fee => -1', '0, 1, NULL, ''EUR'', max_fee => -1',
    '0, 1, NULL, ''EUR'', min_fee => 2, max_fee => 1', '0, 1, tiers => ''[{"from_volume": 1, "basis_points": 1}]''',
    '0, 1, NULL, ''EUR'', volume_window => ''year''', '0, 1, NULL, ''EUR'', volume_window => NULL']) AS c;
SELECT t, pg_temp.error_of(format('SELECT payment.set_fee_schedule(0, 1, NULL, ''EUR'', tiers => %L)', t)) FROM unnest(ARRAY['null', '1', '{}', '[]', '[1]', '[null]', '[{}]',
    '[{"from_volume": 0, "basis_points": 1}]', '[{"from_volume": -1, "basis_points": 1}]', '[{"from_volume": 1.5, "basis_points": 1}]',
    '[{"from_volume": 9223372036854775808, "basis_points": 1}]', '[{"from_volume": 1e400, "basis_points": 1}]', '[{"from_volume": "1", "basis_points": 1}]',
    '[{"from_volume": 1}]', '[{"from_volume": 1, "basis_points": 10001}]', '[{"from_volume": 1, "basis_points": -1}]',
    '[{"from_volume": 1, "basis_points": 1, "fixed": -1}]', '[{"from_volume": 1, "basis_points": 1, "percent": 1}]',
    '[{"from_volume": 2, "basis_points": 1}, {"from_volume": 2, "basis_points": 1}]', '[{"from_volume": 2, "basis_points": 1}, {"from_volume": 1, "basis_points": 1}]',
    '[{"from_volume": 4111111111111111, "basis_points": 1}]']) AS t;
SELECT n, pg_temp.error_of(format('SELECT payment.set_fee_schedule(0, 1, payment.seller_id(''fees other''), ''ISK'', tiers => %L)',
    (SELECT jsonb_agg(jsonb_build_object('from_volume', i, 'basis_points', 1)) FROM generate_series(1, n) AS i))) FROM unnest('{20,21,100000}'::int[]) AS n;
BEGIN;
SET LOCAL payment.max_fee_schedules = 2;
SELECT pg_temp.error_of(format('SELECT payment.set_fee_schedule(0, 1, %L, ''SEK'', payment_method => %L)', :'other', m)) FROM unnest('{a,b,a,c}'::text[]) AS m;
ROLLBACK;

-- tiers: what the seller has captured before the order, all of the order at the rate of its tier
SELECT pg_temp.send('declined') > 0 AS rest;
SELECT pg_temp.buy('before', 'fees seller', '500.00', 'EUR'), pg_temp.buy('before, other', 'fees other', '70.00', 'EUR');
SELECT pg_temp.send('succeeded');
SELECT payment.set_fee_schedule(30, 300, :'seller', 'EUR', min_fee => 40, tiers => '[{"from_volume": 60000, "basis_points": 200, "fixed": 20},
    {"from_volume": 100000, "basis_points": 100}]') AS tiered \gset
SELECT tiers, volume_window FROM payment.fee_schedule WHERE id = :'tiered';
-- what was captured before anybody counted is in the ledger
SELECT seller_id = :'seller' AS seller, currency, slot, amount FROM payment.seller_volume WHERE currency = 'EUR' AND seller_id IN (:'seller', :'other');
SELECT pg_temp.quote(10000);
SELECT pg_temp.buy('tier 0', 'fees seller', '99.99', 'EUR');
-- not captured: it does not count
SELECT pg_temp.quote(10000);
SELECT pg_temp.send('declined');
SELECT pg_temp.quote(10000);
SELECT pg_temp.buy('tier 0 again', 'fees seller', '100.00', 'EUR'), pg_temp.buy('other currency', 'fees seller', '5000.00', 'USD');
SELECT pg_temp.send('succeeded');
SELECT pg_temp.quote(10000), pg_temp.quote(1);
-- several orders of one payment are before none of each other
SELECT (payment.checkout('fees several', 'payer', '[{"seller": "fees seller", "amount": 40000, "currency": "EUR", "reference": "tier 1"},
    {"seller": "fees seller", "amount": 40000, "currency": "EUR", "reference": "tier 1, too"}, {"seller": "fees other", "amount": 40000, "currency": "EUR",
    "reference": "no tiers"}]', 'fees a', 'pm')).payment_id IS NOT NULL AS made;
SELECT pg_temp.send('succeeded');
SELECT pg_temp.buy('tier 2', 'fees seller', '100.00', 'EUR');
SELECT n, pg_temp.fee_of(n), o.fee_schedule_id = :'tiered' AS tiered FROM unnest('{tier 0,tier 0 again,tier 1,"tier 1, too",tier 2,no tiers}'::text[]) AS n
    JOIN payment.order_record AS o ON o.reference = n ORDER BY o.id;
-- each backend keeps one row a day; what is not asked for is not counted
SELECT seller_id = :'seller' AS seller, currency, slot > 0 AS backend, amount FROM payment.seller_volume WHERE seller_id IN (:'seller', :'other') ORDER BY 1, 2, 3;
-- a schedule for everybody counts everybody, what was before included, once
SELECT payment.set_fee_schedule(0, 500, NULL, 'EUR', tiers => '[{"from_volume": 1, "basis_points": 50}]') IS NOT NULL AS everybody;
SELECT seller_id = :'seller' AS seller, currency, sum(amount) FROM payment.seller_volume WHERE seller_id IN (:'seller', :'other') GROUP BY 1, 2 ORDER BY 1;
SELECT s, pg_temp.quote(100000, seller => s) FROM unnest('{fees seller,fees other}'::text[]) AS s;
SELECT count(*) AS wrong FROM payment.seller AS s CROSS JOIN LATERAL (SELECT sum(amount) FROM payment.seller_volume AS v WHERE v.seller_id = s.id AND v.currency = 'EUR') AS v
CROSS JOIN LATERAL (SELECT sum(captured_amount) FROM payment.order_record AS o WHERE o.seller_id = s.id AND o.currency = 'EUR' AND o.captured_amount > 0) AS o
WHERE v.sum IS DISTINCT FROM o.sum;
SELECT pg_temp.end_all();
-- counting goes on
SELECT pg_temp.send('succeeded');
SELECT sum(amount) FROM payment.seller_volume WHERE seller_id = :'seller' AND currency = 'EUR';

-- windows: the calendar month, or today and 29 days before, in UTC; what is long over goes
BEGIN;
SET LOCAL timezone = 'Pacific/Kiritimati';
SELECT payment.register_seller('fees window', 'Window') AS w \gset
SELECT payment.set_fee_schedule(0, 300, :'w', 'EUR', tiers => '[{"from_volume": 1, "basis_points": 1}]') IS NOT NULL AS month,
    payment.set_fee_schedule(0, 300, :'w', 'EUR', 'fees b', tiers => '[{"from_volume": 1, "basis_points": 1}]', volume_window => 'rolling_30_days') IS NOT NULL AS rolling;
ALTER TABLE payment.seller_volume DISABLE TRIGGER guard_rows;
CREATE FUNCTION pg_temp.utc(at timestamptz) RETURNS date LANGUAGE sql AS $$ SELECT (at AT TIME ZONE 'UTC')::date $$;
INSERT INTO payment.seller_volume SELECT :'w', 'EUR', day, -1, amount FROM (VALUES
    (date_trunc('month', now() AT TIME ZONE 'UTC')::date, 1), ((date_trunc('month', now() AT TIME ZONE 'UTC') - interval '1 day')::date, 10)) AS v (day, amount);
INSERT INTO payment.seller_volume SELECT :'w', 'EUR', pg_temp.utc(now()) + days, -2, amount FROM (VALUES (0, 100), (1, 100000), (-29, 1000), (-30, 10000)) AS v (days, amount);
SELECT q.volume = (SELECT sum(amount) FROM payment.seller_volume WHERE seller_id = :'w' AND date_trunc('month', day) = date_trunc('month', now() AT TIME ZONE 'UTC')
        AND day <= pg_temp.utc(now())) AS month, q.volume % 1000 IN (101, 111) AS first_day FROM payment.quote_fee(:'w', 100, 'EUR', 'fees a', at => clock_timestamp()) AS q;
SELECT q.volume - (SELECT coalesce(sum(amount), 0) FROM payment.seller_volume WHERE seller_id = :'w' AND slot = -1 AND day >= pg_temp.utc(now()) - 29) AS rolling
FROM payment.quote_fee(:'w', 100, 'EUR', 'fees b', at => clock_timestamp()) AS q;
SELECT volume >= 100000 AS tomorrow FROM payment.quote_fee(:'w', 100, 'EUR', 'fees b', at => now() + interval '1 day');
ALTER TABLE payment.fee_schedule DISABLE TRIGGER guard_rows;
UPDATE payment.fee_schedule SET effective_from = now() - interval '1 year' WHERE seller_id = :'w';
ALTER TABLE payment.fee_schedule ENABLE ALWAYS TRIGGER guard_rows;
SELECT days, pg_temp.error_of(format('SELECT payment.quote_fee(%L, 100, ''EUR'', ''fees b'', at => now() - interval ''%s days'')', :'w', days))
FROM unnest('{29,31}'::int[]) AS days;
-- sums that fit no bigint are the largest, and no capture fails for that
INSERT INTO payment.seller_volume SELECT :'w', 'EUR', pg_temp.utc(now()) - days, -3, 1 FROM unnest('{62,63,400}'::int[]) AS days;
SELECT pg_temp.buy('window 1', 'fees window', '1.00', 'EUR');
SELECT pg_temp.send('succeeded');
UPDATE payment.seller_volume SET amount = 9223372036854775800 WHERE seller_id = :'w' AND day = pg_temp.utc(now());
ALTER TABLE payment.seller_volume ENABLE ALWAYS TRIGGER guard_rows;
SELECT pg_temp.buy('window 2', 'fees window', '1.00', 'EUR');
SELECT pg_temp.send('succeeded');
SELECT max(amount) AS own FROM payment.seller_volume WHERE seller_id = :'w' AND slot > 0;
SELECT volume FROM payment.quote_fee(:'w', 100, 'EUR');
SELECT array_agg(pg_temp.utc(now()) - day) AS kept FROM payment.seller_volume WHERE seller_id = :'w' AND slot = -3;
ROLLBACK;

-- quotes
SELECT c, pg_temp.error_of('SELECT payment.quote_fee(' || c || ')') FROM unnest(ARRAY['NULL, 1, ''EUR''', 'payment.new_id(), 1, ''EUR''',
    'payment.seller_id(''fees other''), NULL, ''EUR''', 'payment.seller_id(''fees other''), 0, ''EUR''', 'payment.seller_id(''fees other''), 1, NULL',
    'payment.seller_id(''fees other''), 1, ''eur''', 'payment.seller_id(''fees other''), 1, ''EUR'', ''nobody''',
    'payment.seller_id(''fees other''), 1, ''EUR'', '''', ''pm''', 'payment.seller_id(''fees other''), 1, ''EUR'', NULL, ''4111 1111 1111 1111''',
    'payment.seller_id(''fees other''), 1, ''EUR'', at => ''infinity''']) AS c;
BEGIN READ ONLY;
SET LOCAL ROLE payment_app;
SELECT (payment.quote_fee(payment.seller_id('fees other'), 100, 'EUR')).fee;
ROLLBACK;
SET ROLE payment_app;
SELECT pg_temp.error_of('SELECT payment.end_fee_schedule(payment.new_id())');
RESET ROLE;
SELECT count(*) AS found FROM payment.verify();
