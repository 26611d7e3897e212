-- S73: whatever is passed, to every function of this part: an error with an
-- SQLSTATE of the extension, never a crash, nothing stored.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/order.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;
SET test.psp = 'hostile';
SELECT count(payment.register_psp('hostile', 'none', 'http://127.0.0.1:1', 'none')) AS registered;
SELECT count(payment.register_seller('hostile seller', 'Seller')) AS registered;

-- values of each type that a caller may pass for anything
CREATE FUNCTION pg_temp.values_of(argument regtype) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT v FROM (VALUES
        ('text'::regtype, 'NULL'), ('text', ''''''), ('text', ''' '''), ('text', 'repeat(''x'', 100000)'),
        ('text', '''NaN'''), ('text', 'E''a\nb\t\x01'''), ('text', '''"; DROP TABLE payment.task; --'''),
        ('text', '''%s%n%1$s'''), ('text', '''../../etc/passwd'''), ('text', 'U&''\FEFF\200B\202E'''),
        ('text', '''4111 1111 1111 1111'''), ('text', '''USD'''), ('text', '''00000000-0000-0000-0000-000000000000'''),
        ('bigint', 'NULL'), ('bigint', '0'), ('bigint', '-1'), ('bigint', '9223372036854775807'),
        ('bigint', '(-9223372036854775808)'),
        ('integer', 'NULL'), ('integer', '0'), ('integer', '-1'), ('integer', '2147483647'), ('integer', '(-2147483648)'),
        ('uuid', 'NULL'), ('uuid', '''00000000-0000-0000-0000-000000000000'''), ('uuid', '''ffffffff-ffff-ffff-ffff-ffffffffffff'''),
        ('timestamptz', 'NULL'), ('timestamptz', '''infinity'''), ('timestamptz', '''-infinity'''), ('timestamptz', '''4713-01-01 BC'''),
        ('timestamptz', '''294276-12-31'''),
        ('jsonb', 'NULL'), ('jsonb', '''null'''), ('jsonb', '''1'''), ('jsonb', '''"x"'''), ('jsonb', '''[]'''), ('jsonb', '''{}'''),
        ('jsonb', '''[[[[[[]]]]]]'''), ('jsonb', '''{"": {"": ""}}'''), ('jsonb', '''[1e100000]'''), ('jsonb', '''[null, null]'''),
        ('jsonb', '(repeat(''['', 5000) || repeat('']'', 5000))::jsonb'),
        ('jsonb', '(SELECT jsonb_object_agg(n, n) FROM generate_series(1, 10000) AS n)'),
        ('jsonb', '(SELECT jsonb_agg(n) FROM generate_series(1, 200000) AS n)')) AS t (type, v)
    WHERE t.type = argument
$$;
-- what a right call looks like
CREATE TEMP TABLE call (name text, arguments text[]);
INSERT INTO call VALUES
    ('register_psp', ARRAY['''hostile psp''', '''none''', '''http://h''', '''k''', '''{}''', 'NULL']),
    ('register_seller', ARRAY['''hostile other''', '''n''', '''{}''']),
    ('seller_id', ARRAY['''hostile seller''']),
    ('set_fee_schedule', ARRAY['0', '0', 'payment.seller_id(''hostile seller'')', '''ISK''', '''hostile''', '''pm*''', '1', '2',
        '''[{"from_volume": 1, "basis_points": 1}]''', '''month''', 'now() + interval ''1 day''', 'now() + interval ''2 days''']),
    ('end_fee_schedule', ARRAY['''00000000-0000-0000-0000-000000000000''', 'now() + interval ''1 day''']),
    ('quote_fee', ARRAY['payment.seller_id(''hostile seller'')', '1', '''EUR''', '''hostile''', '''pm''', 'now()']),
    ('refund_fee_share', ARRAY['2', '1', '1', '0', '1', '''proportional''']),
    ('checkout', ARRAY['''hostile key''', '''p''', '''[{"seller": "hostile seller", "amount": 1, "currency": "EUR"}]''',
        '''hostile''', '''pm''', '''{}''', 'NULL', '''automatic''', '''keep''', 'NULL']),
    ('checkout', ARRAY['''hostile key''', '''p''', '''[{"seller": "hostile seller", "amount": 1, "currency": "EUR"}]''',
        '''hostile''', 'NULL', '''{}''', '''{"hostile": "pm"}''', '''manual''', '''all_or_nothing''', 'NULL']),
    ('capture', ARRAY['''00000000-0000-0000-0000-000000000000''', '''hostile key''', '1', 'true']),
    ('void', ARRAY['''00000000-0000-0000-0000-000000000000''', '''hostile key''']),
    ('cancel', ARRAY['''00000000-0000-0000-0000-000000000000''', '''hostile key''']),
    ('set_routing_rule', ARRAY['''hostile rule''', '''hostile''', '1', '''EUR''', '1', '2', 'payment.seller_id(''hostile seller'')',
        '''pm''', '1', '''active''']),
    ('remove_routing_rule', ARRAY['''hostile rule''']),
    ('submit', ARRAY['''[]''']),
    ('retry_order', ARRAY['''00000000-0000-0000-0000-000000000000''', '''hostile key''', '''hostile''', '''pm''']),
    ('release', ARRAY['''00000000-0000-0000-0000-000000000000''']),
    ('receipt', ARRAY['''00000000-0000-0000-0000-000000000000''']),
    ('payout', ARRAY['payment.seller_id(''hostile seller'')', '1', '''EUR''', '''d''', '''hostile key''', '''hostile''']);
SELECT c.name, cardinality(c.arguments) = p.pronargs AS complete FROM call AS c
    JOIN pg_proc AS p ON p.proname = c.name AND p.pronamespace = 'payment'::regnamespace ORDER BY 1;

-- each argument, each value: the SQLSTATE; all is rolled back
CREATE FUNCTION pg_temp.attack(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
    RAISE EXCEPTION USING ERRCODE = 'ZZ001';
EXCEPTION
    WHEN SQLSTATE 'ZZ001' THEN RETURN 'accepted';
    WHEN OTHERS THEN RETURN SQLSTATE;
END
$$;
CREATE TEMP TABLE attack AS
SELECT c.name, coalesce(p.proargnames[i], i::text) AS argument, v AS value,
    pg_temp.attack(format('SELECT payment.%I(%s)', c.name, array_to_string(
        c.arguments[:i - 1] || v || c.arguments[i + 1:], ', '))) AS answer
FROM call AS c
    JOIN pg_proc AS p ON p.proname = c.name AND p.pronamespace = 'payment'::regnamespace,
    generate_subscripts(c.arguments, 1) AS i, pg_temp.values_of(p.proargtypes[i - 1]::regtype) AS v;
SELECT name, count(*) AS attacks, string_agg(DISTINCT answer, ' ' ORDER BY answer) AS answers FROM attack GROUP BY 1 ORDER BY 1;
SELECT name, argument, value, answer FROM attack WHERE answer <> 'accepted' AND answer !~ '^PY';
SELECT name, argument, value FROM attack WHERE answer = 'accepted'
ORDER BY name COLLATE "C", argument COLLATE "C", value COLLATE "C";
SELECT DISTINCT answer FROM attack WHERE value = '''4111 1111 1111 1111''';

-- each field of an event, each JSON value
CREATE TEMP TABLE field_attack AS
SELECT type, path, value, pg_temp.attack(format('SELECT payment.submit(%L)', jsonb_set(event, path, value))) AS answer
FROM (VALUES
    ('pay_in', '{"payment_type": "pay_in", "idempotency_key": "hostile key", "payer": {"reference": "p", "name": "n"}, "psp": "hostile",
        "payment_method": "pm", "metadata": {}, "orders": [{"seller": {"reference": "hostile seller", "name": "n", "metadata": {}},
        "amount": 1, "currency": "EUR", "reference": "r", "description": "d", "metadata": {}}]}'::jsonb),
    ('pay_out', '{"payment_type": "pay_out", "idempotency_key": "hostile key", "seller": "hostile seller", "amount": 1,
        "currency": "EUR", "destination": "d", "psp": "hostile"}')) AS e (type, event),
    LATERAL (SELECT ARRAY[k] AS path FROM jsonb_object_keys(event) AS k
        UNION ALL SELECT ARRAY['payer', k] FROM unnest(ARRAY['reference', 'name']) AS k WHERE type = 'pay_in'
        UNION ALL SELECT ARRAY['orders', '0', k] FROM jsonb_object_keys(event -> 'orders' -> 0) AS k
        UNION ALL SELECT ARRAY['orders', '0', 'seller', k] FROM jsonb_object_keys(event -> 'orders' -> 0 -> 'seller') AS k
        UNION ALL SELECT ARRAY['unknown']) AS paths,
    (VALUES ('null'::jsonb), ('true'), ('""'), ('"x"'), ('"\u200b"'), ('0'), ('-1'), ('1.5'), ('1e30'), ('1e1000'),
        ('9223372036854775807'), ('9223372036854775808'), ('-9223372036854775808'), ('"NaN"'), ('"-0"'), ('"1e5"'),
        ('"0.00000000000000000000000000000000001"'), ('"4111111111111111"'), ('4111111111111111'), ('[]'), ('{}'), ('[[]]'),
        ('{"x": {"y": ["5500 0000 0000 0004"]}}'), (to_jsonb(repeat('x', 100000))), (to_jsonb(repeat('9', 5000))),
        ((repeat('[', 3000) || repeat(']', 3000))::jsonb)) AS v (value);
SELECT type, count(*) AS attacks, string_agg(DISTINCT answer, ' ' ORDER BY answer) AS answers FROM field_attack GROUP BY 1 ORDER BY 1;
SELECT type, path, left(value::text, 40) AS value, answer FROM field_attack WHERE answer <> 'accepted' AND answer !~ '^PY';
SELECT type, path, left(value::text, 40) AS value FROM field_attack WHERE answer = 'accepted'
ORDER BY type, array_to_string(path, '.') COLLATE "C", value::text COLLATE "C";
SELECT count(*) AS let_through FROM field_attack WHERE value::text ~ '4111111111111111|5500 0000' AND answer <> 'PY005';

-- wrongly typed: PostgreSQL says so itself
SELECT pg_temp.error_of('SELECT payment.release(1)');
SELECT pg_temp.error_of('SELECT payment.payout(''x'', ''NaN'', 1, 2, 3)');
SELECT pg_temp.error_of('SELECT payment.set_fee_schedule(''NaN''::float8::bigint, 1)');
-- not deeper than the stack
SET max_stack_depth = '100kB';
SELECT pg_temp.attack($$SELECT payment.submit((repeat('[', 400) || repeat(']', 400))::jsonb)$$);
RESET max_stack_depth;

-- nothing of it is there
SELECT count(*) FROM payment.idempotency WHERE key = 'hostile key';
SELECT count(*) FROM payment.payment WHERE psp = 'hostile';
SELECT count(*) FROM payment.task AS t WHERE psp_id = pg_temp.psp();
SELECT * FROM payment.verify();
