-- UUIDv7 with the shard inside.

-- version and variant
SELECT substr(id::text, 15, 1) AS version, substr(id::text, 20, 1) IN ('8', '9', 'a', 'b') AS variant
FROM payment.new_id() id;

-- strictly ascending in one session, and unique
SELECT count(*) AS made, count(DISTINCT id) AS distinct_ids, count(*) FILTER (WHERE id <= previous) AS not_ascending
FROM (SELECT id, lag(id) OVER (ORDER BY n) AS previous
      FROM (SELECT n, payment.new_id() AS id FROM generate_series(1, 100000) n OFFSET 0) made) pairs;

-- the time of an id is when it was made
SELECT payment.id_time(payment.new_id()) BETWEEN before.t - interval '1 ms' AND clock_timestamp() + interval '1 s' AS now
FROM (SELECT clock_timestamp() AS t OFFSET 0) before;

-- known ids: 2024-01-01 00:00:00.000 and .5 ms later
SET timezone = 'UTC';
SELECT payment.id_time('018cc251-f400-7000-8000-000000000000'), payment.id_time('018cc251-f400-7800-8000-000000000000'),
    payment.id_shard('018cc251-f400-7000-8000-000000000000') AS shard_0,
    payment.id_shard('018cc251-f400-7000-bfff-ffffffffffff') AS shard_4095,
    payment.id_shard('018cc251-f400-7000-8004-000000000000') AS shard_1;
RESET timezone;

-- the shard is the server's; a session cannot change it
SELECT payment.id_shard(payment.new_id()) = current_setting('payment.shard_id')::integer AS own_shard;

-- ids from elsewhere
\set VERBOSITY terse
SELECT payment.id_time('00000000-0000-4000-8000-000000000000');
SELECT payment.id_shard('00000000-0000-7000-0000-000000000000');
SELECT payment.id_time(NULL) IS NULL AS none, payment.id_shard(NULL) IS NULL AS none;
