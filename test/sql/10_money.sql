-- Currencies and exact arithmetic on minor units.

-- what an error is, without what changes from run to run
CREATE FUNCTION pg_temp.error_of(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;

-- exponents
SELECT c, payment.currency_exponent(c)
FROM unnest(ARRAY['AED', 'CLF', 'EUR', 'ISK', 'JPY', 'KWD', 'TND', 'USD', 'UYW', 'VND', 'XAF', 'ZWG']) c;

SELECT c, pg_temp.error_of(format('SELECT payment.currency_exponent(%L)', c))
FROM unnest(ARRAY['usd', 'US', 'USDX', '', 'XXX', 'XAU', 'HRK', 'AAA', 'ZZZ', NULL]) c;

-- S61: JPY 1,000,000 and KWD 1.234 exact
SELECT payment.parse_money('1000000', 'JPY') AS jpy, payment.format_money(1000000, 'JPY') AS jpy_text,
    payment.parse_money('1.234', 'KWD') AS kwd, payment.format_money(1234, 'KWD') AS kwd_text,
    payment.parse_money('0.0001', 'CLF') AS clf, payment.format_money(1, 'CLF') AS clf_text;

-- every currency, there and back
SELECT count(*) AS wrong
FROM unnest(ARRAY['JPY', 'USD', 'KWD', 'CLF']) c,
    unnest(ARRAY[0, 1, -1, 9, 10, 99, 100, 12345, -12345, 9223372036854775807, -9223372036854775808]) a
WHERE payment.parse_money(payment.format_money(a, c), c) <> a;

SELECT payment.format_money(a, 'USD')
FROM unnest(ARRAY[0, 5, -5, 100, -9223372036854775808, 9223372036854775807]) a;

-- what is an amount
SELECT t, payment.parse_money(t, 'USD')
FROM unnest(ARRAY['0', '-0.00', '12', '12.3', '12.34', '12.3400', '0012.34', '-12.34',
    '92233720368547758.07', '-92233720368547758.08']) t;

SELECT t, pg_temp.error_of(format('SELECT payment.parse_money(%L, %L)', t, 'USD'))
FROM unnest(ARRAY['', '-', '.', '12.', '.5', '+1', ' 1', '1 ', '1,000.00', '1,5', '1e3', '12.345', '--1', 'NaN',
    'Infinity', E'1\n', '١', '92233720368547758.08', '-92233720368547758.09',
    '99999999999999999999999999', NULL]) t;

SELECT pg_temp.error_of('SELECT payment.parse_money(''1.5'', ''JPY'')');
SELECT payment.parse_money('1.0', 'JPY');
SELECT pg_temp.error_of('SELECT payment.format_money(NULL, ''USD'')');
SELECT pg_temp.error_of('SELECT payment.format_money(1, NULL)');

-- S62: 1.00 split three ways
SELECT payment.split_money(100, '{1,1,1}') AS three, payment.split_money(-100, '{1,1,1}') AS minus_three,
    payment.split_money(100, '{1,1,1}') = payment.split_money(100, '{1,1,1}') AS same_again;
-- half-even, and no part of the other sign
SELECT payment.split_money(1, '{1,1}') AS half_down, payment.split_money(3, '{1,1}') AS half_up,
    payment.split_money(5, '{1,1,1,1,1,1,1,1}') AS rounds_up, payment.split_money(-5, '{1,1,1,1,1,1,1,1}') AS negative,
    payment.split_money(0, '{1,2}') AS nothing;
-- the last part with a weight takes the remainder
SELECT payment.split_money(1, '{1,1,0}') AS zero_last, payment.split_money(10, '{0,1}') AS zero_first,
    payment.split_money(7, '{5}') AS one;
-- no overflow on the way
SELECT payment.split_money(9223372036854775807, '{9223372036854775807,9223372036854775807,1}') AS largest,
    payment.split_money(-9223372036854775808, '{1,2}') AS smallest;

-- sums hold for any weights
SELECT count(*) AS wrong
FROM generate_series(-50, 50) amount,
    (VALUES ('{1,2,3}'::bigint[]), ('{7,7,7,7,7}'), ('{0,3,0,5,0}'), ('{1000000007,3,998244353}')) w(weights)
WHERE (SELECT sum(p) FROM unnest(payment.split_money(amount, weights)) p) <> amount
   OR EXISTS (SELECT FROM unnest(payment.split_money(amount, weights)) p WHERE sign(p) = -sign(amount) AND p <> 0);

SELECT w, pg_temp.error_of(format('SELECT payment.split_money(100, %L)', w))
FROM unnest(ARRAY['{}', '{0}', '{0,0}', '{1,-1}', '{NULL}', '{{1,2},{3,4}}', NULL]) w;
SELECT pg_temp.error_of('SELECT payment.split_money(1, array_fill(1::bigint, ARRAY[10001]))');
SELECT pg_temp.error_of('SELECT payment.split_money(NULL, ''{1}'')');
