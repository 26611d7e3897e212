-- What of the platform's fee goes back with each refund: no residue, ever.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/order.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;

-- the shares of refunds, one after the other
CREATE FUNCTION pg_temp.shares(amount bigint, fee bigint, refunds bigint[]) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    refund bigint;
    share bigint;
    refunded bigint := 0;
    returned bigint := 0;
    result bigint[] := '{}';
BEGIN
    FOREACH refund IN ARRAY refunds LOOP
        share := payment.refund_fee_share(amount, fee, refunded, returned, refund);
        refunded := refunded + refund;
        returned := returned + share;
        result := result || share;
    END LOOP;
    RETURN result;
END
$$;

-- S34: three refunds of 33.33, 33.33 and 33.34 of 100.00, with a fee of 10 % and a tax of 19 %
SELECT part, pg_temp.shares(10000, part, refunds), (SELECT sum(s) FROM unnest(pg_temp.shares(10000, part, refunds)) AS s) - part AS residue
FROM (VALUES (1000), (1597), (1), (9999), (10000), (0)) AS p (part),
    (VALUES ('{3333,3333,3334}'::bigint[]), ('{3334,3333,3333}'), ('{3333,3334,3333}')) AS r (refunds) ORDER BY part, refunds;
-- S62: 1.00 split three ways, and given back in these parts
SELECT fee, payment.split_money(100, '{1,1,1}') AS refunds, pg_temp.shares(100, fee, payment.split_money(100, '{1,1,1}')) AS shares
FROM unnest('{0,1,2,10,33,50,99,100}'::bigint[]) AS fee;
-- half to even of the total: 0.5, 1.5, 2.5
SELECT pg_temp.shares(6, 3, '{1,2,2,1}'), pg_temp.shares(2, 1, '{1,1}');

-- what is refunded says what has gone back, not how it was cut
SELECT count(*) AS differing FROM generate_series(1, 60) AS amount, generate_series(0, amount, 7) AS fee, generate_series(0, amount) AS refunded
WHERE (SELECT coalesce(sum(s), 0) FROM unnest(pg_temp.shares(amount, fee, array_fill(1::bigint, ARRAY[refunded]))) AS s)
    <> payment.refund_fee_share(amount, fee, 0, 0, refunded);

-- thousands of random orders and ways to cut them, in minor units of currencies with 0, 2, 3 and 4 decimals
SELECT setseed(0.34);
CREATE TEMP TABLE split AS
SELECT n, currency, amount, CASE n % 5 WHEN 0 THEN amount WHEN 1 THEN amount / 10 ELSE floor(random() * (amount + 1))::bigint END AS fee,
    payment.split_money(amount, ARRAY(SELECT 1 + floor(random() * 1000)::bigint FROM generate_series(1, 1 + n % 13))) AS refunds
FROM generate_series(1, 8000) AS n, LATERAL (SELECT (ARRAY['JPY', 'EUR', 'KWD', 'CLF'])[1 + n % 4] AS currency,
    floor(10 ^ (random() * (1 + n % 15)))::bigint + 1 AS amount) AS a;
UPDATE split SET fee = least(fee, amount);
ALTER TABLE split ADD shares bigint[];
UPDATE split SET shares = pg_temp.shares(amount, fee, refunds);
SELECT currency, count(*) >= 2000 AS enough, max(cardinality(refunds)) > 10 AS many_parts, min(amount) < 5 AS small, max(amount) > 1e11 AS large,
    count(*) FILTER (WHERE (SELECT sum(s) FROM unnest(shares) AS s) <> fee) AS residues,
    count(*) FILTER (WHERE 0 > ANY (shares)) AS negative,
    count(*) FILTER (WHERE EXISTS (SELECT FROM unnest(refunds, shares) AS u (refund, share) WHERE share > refund)) AS more_than_the_refund
FROM split GROUP BY 1 ORDER BY 1;
-- in another order the same total, and after the same sum the same total
SELECT count(*) AS differing FROM split
WHERE (SELECT sum(s) FROM unnest(pg_temp.shares(amount, fee, ARRAY(SELECT r FROM unnest(refunds) AS r ORDER BY r))) AS s) <> fee
    OR (SELECT sum(s) FROM unnest(shares[:2]) AS s) <> payment.refund_fee_share(amount, fee, 0, 0, refunds[1] + coalesce(refunds[2], 0));
-- never further than half a unit from the exact share of what has gone back
SELECT count(*) AS off FROM split
WHERE abs((SELECT sum(s) FROM unnest(shares[:1]) AS s) - fee::numeric * refunds[1] / amount) > 0.5;

-- the whole range of bigint
SELECT pg_temp.shares(9223372036854775807, 9223372036854775807, '{9223372036854775806,1}'),
    pg_temp.shares(9223372036854775807, 1, '{4611686018427387903,1,4611686018427387903}'),
    pg_temp.shares(9223372036854775807, 4611686018427387904, '{1,9223372036854775805,1}');

-- the platform keeps its fee; what it kept before is made up for, as far as the refunds reach
SELECT payment.refund_fee_share(100, 10, 0, 0, 50, 'none') AS kept, payment.refund_fee_share(100, 10, 50, 0, 50) AS made_up,
    payment.refund_fee_share(100, 10, 95, 0, 2) AS at_most_the_refund, payment.refund_fee_share(100, 10, 10, 10, 10) AS nothing_is_left,
    payment.refund_fee_share(100, 10, 50, 8, 10) AS never_negative, payment.refund_fee_share(100, 10, 50, 5, 0) AS nothing_refunded;

SELECT c, pg_temp.error_of('SELECT payment.refund_fee_share(' || c || ')') FROM unnest(ARRAY['NULL, 1, 0, 0, 1', '1, NULL, 0, 0, 1',
    '1, 1, NULL, 0, 1', '1, 1, 0, NULL, 1', '1, 1, 0, 0, NULL', '1, 1, 0, 0, 1, NULL', '0, 0, 0, 0, 0', '-1, 0, 0, 0, 0', '1, -1, 0, 0, 1',
    '1, 2, 0, 0, 1', '2, 1, 3, 0, 1', '2, 1, -1, 0, 1', '2, 1, 1, 2, 1', '2, 2, 1, 2, 1', '2, 1, 1, -1, 1', '2, 1, 1, 0, 2', '2, 1, 1, 0, -1',
    '9223372036854775807, 1, 9223372036854775807, 0, 1', '1, 1, 0, 0, 1, ''full_first''', '1, 1, 0, 0, 1, ''4111 1111 1111 1111''']) AS c;
