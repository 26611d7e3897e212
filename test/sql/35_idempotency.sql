-- Idempotency: a key does its work once, and its answer stays.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/order.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;
SET test.psp = 'keys';
SELECT count(payment.register_psp('keys', 'none', 'http://127.0.0.1:1', 'none')) AS registered;
SELECT payment.register_seller('keys alice', 'Alice') AS alice \gset
CREATE FUNCTION pg_temp.checkout(key text, payer text, amount text, method text DEFAULT 'pm', metadata jsonb DEFAULT '{}',
    psp text DEFAULT 'keys') RETURNS uuid LANGUAGE sql AS $$
    SELECT (payment.checkout(key, payer, jsonb_build_array(jsonb_build_object('seller', 'keys alice', 'amount', amount,
        'currency', 'EUR')), psp, method, metadata)).payment_id
$$;

-- S01, S02: clicked twice is one payment; the same key for something else is
-- refused, whichever argument differs
SELECT pg_temp.checkout('keys 1', 'p', '1.00') = pg_temp.checkout('keys 1', 'p', '1.00') AS same;
SELECT a, left(pg_temp.error_of('SELECT pg_temp.checkout(''keys 1'', ' || a || ')'), 5) AS answer FROM unnest(ARRAY[
    '''p'', ''1.00''', '''q'', ''1.00''', '''p'', ''1.01''', '''p'', ''1.0''', '''p'', ''1.00'', ''pn''',
    '''p'', ''1.00'', ''pm'', ''{"a": 1}''', '''p'', ''1.00'', ''pm'', ''{}'', NULL', '''p'', ''1.00'', ''pm'', NULL']) AS a;
SELECT count(*) FROM payment.payment WHERE psp = 'keys';
-- neighbours do not run into each other
SELECT pg_temp.checkout('keys 2', 'ab', '1.00', 'c') <> pg_temp.checkout('keys 3', 'a', '1.00', 'bc') AS different;
SELECT left(pg_temp.error_of('SELECT pg_temp.checkout(''keys 2'', ''a'', ''1.00'', ''bc'')'), 5) AS answer;
-- the errors
SELECT pg_temp.checkout('keys 1', 'other', '1.00');
SELECT payment.payout(:'alice', 100, 'EUR', 'bank', 'keys 1', 'keys');

-- an answer outlives what it was made under
UPDATE payment.seller SET state = 'suspended' WHERE id = :'alice';
SELECT pg_temp.checkout('keys 1', 'p', '1.00') = (SELECT result[1] FROM payment.idempotency WHERE key = 'keys 1') AS same;
SELECT left(pg_temp.error_of('SELECT pg_temp.checkout(''keys new'', ''p'', ''1.00'')'), 5) AS answer;
UPDATE payment.seller SET state = 'active' WHERE id = :'alice';
-- a call that fails leaves its key free
SELECT pg_temp.checkout('keys new', 'p', '1.00') IS NOT NULL AS made;

-- keys are bytes: case, blanks and other scripts count; 255 characters
SELECT count(DISTINCT pg_temp.checkout(k, 'p', '1.00')) FROM unnest(ARRAY['keys a', 'keys A', 'keys  a', 'keys a ',
    'keys ä', U&'keys a\0308', 'keys 鍵', repeat('鍵', 255)]) AS k;
SELECT pg_temp.error_of(format('SELECT pg_temp.checkout(%L, ''p'', ''1.00'')', repeat('鍵', 256)));

-- the fingerprint and the answer that are kept
SELECT key, operation, octet_length(fingerprint), cardinality(result),
    result[1] = (SELECT id FROM payment.payment_record WHERE id = result[1]) AS payment_first
FROM payment.idempotency WHERE key = 'keys 1';
SELECT pg_temp.error_of('UPDATE payment.idempotency SET fingerprint = NULL');

-- at stricter levels, in one transaction
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT pg_temp.checkout('keys serial', 'p', '1.00') = pg_temp.checkout('keys serial', 'p', '1.00') AS same;
SELECT pg_temp.checkout('keys 1', 'p', '1.00') IS NOT NULL AS seen;
COMMIT;
-- a rolled back savepoint frees the key within the transaction
BEGIN;
SAVEPOINT s;
SELECT pg_temp.checkout('keys savepoint', 'p', '1.00') IS NOT NULL AS made;
ROLLBACK TO s;
SELECT pg_temp.checkout('keys savepoint', 'q', '2.00') IS NOT NULL AS made;
COMMIT;
-- a key of a read-only transaction
BEGIN READ ONLY;
SELECT pg_temp.error_of('SELECT pg_temp.checkout(''keys read only'', ''p'', ''1.00'')');
ROLLBACK;
SELECT count(*) FROM payment.payment AS p WHERE psp = 'keys'
    AND NOT EXISTS (SELECT FROM payment.idempotency WHERE result[1] = p.id);
