-- Configuration: PSPs, sellers, fee schedules.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/order.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;

-- a PSP is made, then changed; what is not mentioned stays
SELECT payment.register_psp('config', 'stripe', 'https://psp.test/v1', 'psp.key',
    '{"timeout_ms": 7000, "fees": {"USD": {"fixed": 30, "basis_points": 290}, "JPY": {"basis_points": 360}}}') AS id \gset
SELECT name, adapter, base_url, secret_name, state, payouts, timeout_ms, max_attempts, fees FROM payment.psp WHERE id = :'id';
SELECT payment.register_psp('config', 'none', 'http://[::1]:8080', 'other_key', '{"payouts": false, "max_attempts": 3,
    "state": "paused", "timeout_ms": null}') = :'id' AS same;
SELECT name, adapter, base_url, secret_name, state, payouts, timeout_ms, max_attempts, fees FROM payment.psp WHERE id = :'id';
SELECT payment.register_psp('config', 'none', 'http://[::1]:8080', 'other_key') = :'id' AS same;
SELECT state, payouts, timeout_ms, max_attempts FROM payment.psp WHERE id = :'id';
-- every setting is a column of the table, and the other way round; limits agree
CREATE FUNCTION pg_temp.set(setting text, value text) RETURNS text LANGUAGE sql AS $$
    SELECT pg_temp.error_of(format('SELECT payment.register_psp(''config'', ''none'', ''http://h'', ''k'', %L)',
        format('{%s: %s}', to_json(setting), value)))
$$;
SELECT a.attname, pg_temp.set(a.attname, '1') AS one, left(pg_temp.set(a.attname, '-1'), 60) AS minus_one,
    left(pg_temp.set(a.attname, '9223372036854775807'), 60) AS largest
FROM pg_attribute AS a WHERE a.attrelid = 'payment.psp'::regclass AND a.attnum > 0 ORDER BY a.attnum;
SELECT v, pg_temp.set('timeout_ms', v) FROM unnest(ARRAY['600000', '600001', '0', '1.5', '1.0', '1e3', '1e400', '"1"', 'true',
    'null', '[]', '{}', '99999999999999999999']) AS v;
SELECT v, pg_temp.set('state', v) FROM unnest(ARRAY['"active"', '"paused"', '"Active"', '""', '1']) AS v;
SELECT v, pg_temp.set('payouts', v) FROM unnest(ARRAY['true', 'false', '"true"', '1']) AS v;
SELECT v, pg_temp.set('fees', v) FROM unnest(ARRAY['{}', '{"USD": {}}', '{"USD": {"fixed": 0, "basis_points": 10000}}',
    '{"USD": {"fixed": -1}}', '{"USD": {"basis_points": 10001}}', '{"usd": {}}', '{"XXX": {}}', '{"USD": 1}', '[]',
    '{"USD": {"percent": 3}}', '{"USD": {"fixed": "30"}}']) AS v;
SELECT v, pg_temp.set(v, '1') FROM unnest(ARRAY['Timeout_ms', 'no_such', '4111 1111 1111 1111']) AS v;
SELECT pg_temp.error_of('SELECT payment.register_psp(''config'', ''none'', ''http://h'', ''k'', ''[]'')');
SELECT pg_temp.error_of('SELECT payment.register_psp(''config'', ''none'', ''http://h'', ''k'', NULL)');

-- the other arguments
SELECT a, pg_temp.error_of(format('SELECT payment.register_psp(%s, %s, %s, %s)', a[1], a[2], a[3], a[4])) AS answer
FROM (VALUES
    (ARRAY['NULL', '''none''', '''http://h''', '''k''']),
    (ARRAY['''''', '''none''', '''http://h''', '''k''']),
    (ARRAY['''p''', 'NULL', '''http://h''', '''k''']),
    (ARRAY['''p''', '''Stripe''', '''http://h''', '''k''']),
    (ARRAY['''p''', '''none''', 'NULL', '''k''']),
    (ARRAY['''p''', '''none''', '''ftp://h''', '''k''']),
    (ARRAY['''p''', '''none''', '''h''', '''k''']),
    (ARRAY['''p''', '''none''', '''https://''', '''k''']),
    (ARRAY['''p''', '''none''', '''https:///path''', '''k''']),
    (ARRAY['''p''', '''none''', '''https://user:secret@h''', '''k''']),
    (ARRAY['''p''', '''none''', '''https://h/ x''', '''k''']),
    (ARRAY['''p''', '''none''', 'E''https://h\nHost: evil''', '''k''']),
    (ARRAY['''p''', '''none''', '''https://h?a=b''', '''k''']),
    (ARRAY['''p''', '''none''', '''http://h''', 'NULL']),
    (ARRAY['''p''', '''none''', '''http://h''', '''''']),
    (ARRAY['''p''', '''none''', '''http://h''', '''../../etc/passwd''']),
    (ARRAY['''p''', '''none''', '''http://h''', '''a/b''']),
    (ARRAY['''p''', '''none''', '''http://h''', '''..''']),
    (ARRAY['''p''', '''none''', '''http://h''', '''sk_live key''']),
    (ARRAY['repeat(''x'', 2000)', '''none''', '''http://h''', '''k''']),
    (ARRAY['''4111111111111111''', '''none''', '''http://h''', '''k'''])) AS t (a);

-- sellers
SELECT payment.register_seller('config seller', 'First name') AS seller \gset
SELECT payment.register_seller('config seller', 'Second name', '{"country": "PT"}') = :'seller' AS same,
    payment.seller_id('config seller') = :'seller' AS found;
SELECT reference, name, state, metadata FROM payment.seller WHERE id = :'seller';
SELECT c, pg_temp.error_of(c) FROM unnest(ARRAY[
    'SELECT payment.seller_id(''no such seller'')',
    'SELECT payment.seller_id(NULL)',
    'SELECT payment.seller_id('''')',
    'SELECT payment.register_seller(NULL, ''n'')',
    'SELECT payment.register_seller(''r'', NULL)',
    'SELECT payment.register_seller('''', ''n'')',
    'SELECT payment.register_seller(''r'', '''')',
    'SELECT payment.register_seller(''r'', ''n'', ''[]'')',
    'SELECT payment.register_seller(''r'', ''n'', ''"x"'')',
    'SELECT payment.register_seller(''r'', ''n'', ''{"card": "4111 1111 1111 1111"}'')',
    'SELECT payment.register_seller(repeat(''r'', 1025), ''n'')',
    'SELECT payment.register_seller(''r'', ''n'', jsonb_build_object(''k'', repeat(''x'', 17000)))']) AS c;

-- fee schedules: the most specific one counts
SET test.psp = 'config fees';
SELECT count(payment.register_psp('config fees', 'none', 'http://127.0.0.1:1', 'none')) AS registered;
SELECT count(payment.register_seller('config other', 'Other')) AS registered;
SELECT payment.set_fee_schedule(0, 100) <> payment.set_fee_schedule(0, 200) AS another_one;
SELECT count(payment.set_fee_schedule(10, 300, NULL, 'EUR'));
SELECT count(payment.set_fee_schedule(0, 400, :'seller'));
SELECT count(payment.set_fee_schedule(7, 500, :'seller', 'EUR'));
SELECT pg_temp.buy('other USD', 'config other', '100.00', 'USD');
SELECT pg_temp.buy('other EUR', 'config other', '100.00', 'EUR');
SELECT pg_temp.buy('seller USD', 'config seller', '100.00', 'USD');
SELECT pg_temp.buy('seller EUR', 'config seller', '100.00', 'EUR');
-- never more than the amount; half to even; no overflow
SELECT pg_temp.buy('small', 'config seller', '0.05', 'EUR');
SELECT pg_temp.buy('half up', 'config other', '0.75', 'USD');
SELECT pg_temp.buy('half down', 'config other', '0.25', 'USD');
SELECT pg_temp.buy('largest', 'config other', '92233720368547758.07', 'USD');
SELECT count(payment.set_fee_schedule(9223372036854775807, 10000, NULL, 'EUR'));
SELECT pg_temp.buy('all', 'config other', '92233720368547758.07', 'EUR');
-- orders keep the fee they were made with
SELECT reference, amount, currency, platform_fee FROM payment.order_record WHERE psp_id = pg_temp.psp() ORDER BY id;
SELECT c, pg_temp.error_of(c) FROM unnest(ARRAY[
    'SELECT payment.set_fee_schedule(NULL, 1)',
    'SELECT payment.set_fee_schedule(0, NULL)',
    'SELECT payment.set_fee_schedule(-1, 1, NULL, ''USD'')',
    'SELECT payment.set_fee_schedule(0, -1)',
    'SELECT payment.set_fee_schedule(0, 10001)',
    'SELECT payment.set_fee_schedule(30, 1)',
    'SELECT payment.set_fee_schedule(0, 1, NULL, ''usd'')',
    'SELECT payment.set_fee_schedule(0, 1, NULL, '''')',
    'SELECT payment.set_fee_schedule(0, 1, NULL, ''XXX'')',
    'SELECT payment.set_fee_schedule(0, 1, ''00000000-0000-0000-0000-000000000000'')']) AS c;
SELECT bool_and(payment.end_fee_schedule(id)) AS ended FROM payment.fee_schedule WHERE seller_id IS NULL AND effective_until > now();

-- how long keys live is what the adapter knows of its PSP, until somebody says otherwise
SELECT count(payment.register_psp('config keys', 'stripe', 'http://h', 'k', '{"state": "paused"}'));
SELECT key_lifetime_s, config FROM payment.psp WHERE name = 'config keys';
SELECT count(payment.register_psp('config keys', 'stripe', 'http://h', 'k', '{"key_lifetime_s": 3600}'));
SELECT count(payment.register_psp('config keys', 'stripe', 'http://h', 'k'));
SELECT key_lifetime_s, config FROM payment.psp WHERE name = 'config keys';
SELECT pg_temp.error_of('SELECT payment.register_psp(''config keys'', ''stripe'', ''http://h'', ''k'', ''{"config": {"a": "b"}}'')');

SELECT c.adapter, c.settings, pg_temp.error_of(format('SELECT count(payment.register_psp(''config of '' || %1$L, %1$L, ''http://h'', ''k'', %2$L))',
    c.adapter, jsonb_strip_nulls(c.settings || '{"state": "paused"}')))
FROM (VALUES ('adyen', '{}'::jsonb),
    ('adyen', '{"config": {"merchant_account": "m", "return_url": "https://r"}}'),
    ('adyen', '{"config": {"merchant_account": "m"}, "payouts": false}'),
    ('adyen', '{"config": {"merchant_account": "m", "return_url": "https://r"}, "payouts": false}'),
    ('adyen', '{"payouts": true}'),
    ('adyen', '{"config": {"balance_account": "b"}, "payouts": true}'),
    ('adyen', '{"config": {"balance_account": 1}}'),
    ('adyen', '{"config": {"balance_account": ""}}'),
    ('adyen', '{"config": {"balance_account": "a\nb"}}'),
    ('adyen', '{"config": {"balance_account": "4242 4242 4242 4242"}}'),
    ('adyen', '{"config": {"balanceAccount": "b"}}'),
    ('adyen', '{"key_lifetime_s": 604800}'),
    ('adyen', '{"key_lifetime_s": 604801}'),
    ('paypal', '{}'),
    ('paypal', '{"config": {"payment_source": "crypto"}}'),
    ('paypal', '{"config": {"recipient_type": "email"}}'),
    ('paypal', '{"config": {"payment_source": "card", "recipient_type": "PAYPAL_ID"}}'),
    ('paypal', '{"key_lifetime_s": 259201}')) AS c (adapter, settings);
SELECT name, payouts, key_lifetime_s, config FROM payment.psp WHERE name LIKE 'config of %' ORDER BY 1;

-- who may
SET ROLE payment_app;
SELECT count(payment.register_seller('config seller 2', 'Registered by the application'));
SELECT count(payment.seller_id('config seller 2'));
SELECT pg_temp.error_of('SELECT payment.register_psp(''p'', ''none'', ''http://h'', ''k'')');
SELECT pg_temp.error_of('SELECT payment.set_fee_schedule(0, 1)');
SELECT pg_temp.error_of('TABLE payment.psp');
RESET ROLE;
SET ROLE payment_admin;
SELECT count(payment.register_psp('config admin', 'none', 'http://h', 'k', '{"state": "paused"}'));
SELECT count(payment.set_fee_schedule(1, 2, NULL, 'ISK'));
SELECT pg_temp.error_of('SELECT payment.checkout(''k'', ''p'', ''[]'')');
SELECT pg_temp.error_of('UPDATE payment.psp SET base_url = ''http://evil''');
RESET ROLE;
SELECT p.proname, array_agg(r.grantee::regrole ORDER BY r.grantee::regrole::text) AS may_call
FROM pg_proc AS p, aclexplode(p.proacl) AS r
WHERE p.pronamespace = 'payment'::regnamespace AND r.grantee <> p.proowner
    AND p.proname IN ('register_psp', 'register_seller', 'seller_id', 'set_fee_schedule', 'checkout', 'submit', 'release',
        'payout', 'receipt', 'guard_rows', 'guard_update', 'record_history')
GROUP BY 1 ORDER BY 1;
SELECT payment.end_fee_schedule(id) AS ended FROM payment.fee_schedule WHERE currency = 'ISK' AND effective_until > now();

-- what orders and journals name for ever is not removed, whoever asks
\set VERBOSITY sqlstate
DELETE FROM payment.seller;
TRUNCATE payment.psp;
MERGE INTO payment.psp AS p USING (VALUES (1)) AS v (n) ON true WHEN MATCHED THEN DELETE;
\set VERBOSITY default
