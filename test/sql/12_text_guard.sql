-- S74: a card number in any text is refused, and identifiers are not.

CREATE FUNCTION pg_temp.refused(value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    accounts uuid[];
BEGIN
    SELECT array_agg(id ORDER BY code) INTO accounts FROM payment.account WHERE code IN ('guard_a', 'guard_b');
    PERFORM payment.post_journal('guard', accounts, '{1,-1}', NULL, NULL, value);
    RETURN 'passed';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || CASE WHEN position(value IN SQLERRM) > 0 THEN ' and shown' ELSE '' END;
END
$$;

SELECT payment.open_account('guard_a', 'memo', 'USD') IS NOT NULL AS a,
    payment.open_account('guard_b', 'memo', 'USD') IS NOT NULL AS b;

-- cards of every issuer, however they are written
SELECT t, pg_temp.refused(t) FROM unnest(ARRAY[
    '4111111111111111', '4111 1111 1111 1111', '4111-1111-1111-1111', '4242424242424242', '4222222222222',
    '5555555555554444', '2223003122003222', '378282246310005', '3782 822463 10005', '6011111111111117',
    '3056930009020004', '30569309025904', '3566002020360505', '6200000000000005', '6759649826438453',
    'pay with 4111111111111111 please', 'card:4111111111111111.', '(4111 1111 1111 1111)', 'pan4111111111111111',
    'card_4111111111111111', '4111111111111111 12/27 123', '12 4111 1111 1111 1111 99', 'nr 1 4111111111111111',
    E'4111111111111111\n', 'é4111111111111111é', '2026 4111-1111-1111-1111']) t;

-- no cards: wrong check digit, no issuer's, too long, parts of identifiers
SELECT t, pg_temp.refused(t) FROM unnest(ARRAY[
    '', '4111111111111112', '1234567890123452', '0000000000000000', '9999999999999995', '41111111111111111111',
    '4111  1111  1111  1111', '4111.1111.1111.1111', '1700000000000', '2026-11-21 10:00:00', '+49 170 1234567',
    '41111111-1111-7111-8111-411111111111', 'id 41111111-1111-1111-4111-111111111111 seen',
    'DE89370400440532013000', 'DE89 3704 0044 0532 0130 00', 'NO93 8601 1117 947', 'BE68 5390 0754 7034',
    'FR1420041010050500013M02606', 'GB29 NWBK 6016 1331 9268 19', 'e3b0c4424242424242424242b934ca495991b785',
    'ch_3Ab4242424242424242Zz1', 'order 12345', '4111 1111', '41111111111111-1']) t;

-- IBANs with a wrong check digit are text like any other
SELECT pg_temp.refused('XX00 4111 1111 1111 1111');

-- any card of any issuer is found behind any other number
SELECT count(*) AS missed
FROM unnest(ARRAY['4111111111111111', '5555555555554444', '378282246310005']) card,
    unnest(ARRAY['', '1 ', '12-', '123 456 ', '99999 ', '123456789012 ', 'abc ', '7.']) prefix,
    unnest(ARRAY['', ' 1', '-12', ' 123 456', ' 99999', '.', ' abc', '/27']) suffix
WHERE pg_temp.refused(prefix || card || suffix) = 'passed';
