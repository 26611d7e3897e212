-- Events: what applications are told, and how they read it.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/dispatch.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;
SET test.psp = 'events';
SELECT pg_temp.register_psp();
SELECT count(payment.register_seller('dispatch seller ' || n, 'Seller ' || n)) AS registered FROM generate_series(1, 3) AS n;

SELECT type, object, status FROM payment.event_types() ORDER BY 1;
-- every type is a status that there is (of a dispute at any stage), and none but these is a beginning, which its maker knows
SELECT e.* FROM payment.event_types() AS e
WHERE NOT EXISTS (SELECT FROM payment.transitions() AS t WHERE t.object = e.object AND e.status IN (t.to_status, split_part(t.to_status, '/', 2)))
    OR EXISTS (SELECT FROM payment.transitions() AS t WHERE t.object = e.object AND t.to_status = e.status AND t.from_status IS NULL) AND e.type <> 'refund.created';

-- consumers
SELECT payment.register_consumer('all'), payment.register_consumer('payments', '{payment.*,payout.paid}');
SELECT payment.register_consumer('all');
SELECT pg_temp.sqlstate_of(command) FROM (VALUES
    ('SELECT payment.register_consumer(NULL)'),
    ('SELECT payment.register_consumer('''')'),
    ('SELECT payment.register_consumer(''4242 4242 4242 4242'')'),
    ('SELECT payment.register_consumer(''x'', ''{}'')'),
    ('SELECT payment.register_consumer(''x'', ''{NULL}'')'),
    ('SELECT payment.register_consumer(''x'', ''{payment.created}'')'),
    ('SELECT payment.register_consumer(''x'', ''{payment}'')'),
    ('SELECT payment.register_consumer(''x'', ''{exception.*}'')'),
    ('SELECT payment.register_consumer(''x'', array_fill(''payment.*''::text, ARRAY[101]))'),
    ('SELECT payment.read_events(NULL)'),
    ('SELECT payment.read_events(''nobody'')'),
    ('SELECT payment.read_events(''all'', 0)'),
    ('SELECT payment.read_events(''all'', NULL)'),
    ('SELECT payment.read_events(''all'', 10001)'),
    ('SELECT payment.read_events(''all'', 1, -1)'),
    ('SELECT payment.read_events(''all'', 1, 3600001)'),
    ('SELECT payment.acknowledge_events(''all'', NULL)'),
    ('SELECT payment.acknowledge_events(''nobody'', payment.new_id())'),
    ('SELECT payment.acknowledge_events(''all'', ''00000000-0000-7000-8000-000000000000'')')) AS c (command);
SET payment.max_event_consumers = 2;
SELECT pg_temp.sqlstate_of('SELECT payment.register_consumer(''one too many'')');
RESET payment.max_event_consumers;

CREATE FUNCTION pg_temp.read(consumer text, most integer DEFAULT 100, lease_ms integer DEFAULT 0)
RETURNS TABLE (type text, name text, number integer) LANGUAGE plpgsql AS $$
BEGIN
    -- some other transaction of the server may be under way
    WHILE EXISTS (SELECT FROM payment.event_lag AS l WHERE l.held_back > 0) LOOP
        PERFORM pg_sleep(0.01);
    END LOOP;
    RETURN QUERY SELECT e.type, coalesce(pg_temp.name_of(e.object_id), 'payment'), e.number
        FROM payment.read_events(consumer, most, lease_ms) AS e;
END
$$;
-- through the last one that was read, or one before
CREATE FUNCTION pg_temp.acknowledge(consumer text, back integer DEFAULT 0) RETURNS boolean LANGUAGE sql AS $$
    SELECT payment.acknowledge_events($1, id) FROM (SELECT id FROM payment.event, payment.event_consumer AS c
        WHERE c.name = $1 AND (event.epoch, event.horizon, event.id) <= (c.read_epoch, c.read_horizon, c.read_event_id)
        ORDER BY event.epoch DESC, event.horizon DESC, event.id DESC OFFSET back LIMIT 1) AS e
$$;

-- what a maker knows, and what lasts as long as a request, is no event
SELECT pg_temp.pay('two', '10.00', '20.00');
SELECT count(*) FROM pg_temp.claim();
SELECT * FROM pg_temp.read('all');
SELECT pg_temp.record('two/1', 'pending', 'events_two/1');
SELECT pg_temp.record('two/1', 'succeeded', 'events_two/1'), pg_temp.record('two/2', 'declined', NULL, error_code => 'card_declined',
    error_message => 'No.');
SELECT * FROM pg_temp.read('all');
SELECT * FROM pg_temp.read('payments');
SELECT e.type, e.payment_id = o.payment_id AS payment, e.created_at = payment.id_time(e.id) AS time,
    jsonb_pretty(e.data - ARRAY['id', 'payment_id', 'seller_id', 'psp_id', 'captured_at']) AS data,
    e.data ->> 'id' = e.object_id::text AS id, (e.data ->> 'captured_at')::timestamptz = o.captured_at AS captured_at,
    e.data ->> 'captured_at' LIKE '%+00:00' AS utc
FROM payment.read_events('all') AS e JOIN payment.order_record AS o ON o.id = e.object_id WHERE number = 2;
SELECT jsonb_pretty(e.data - ARRAY['id', 'psp_id']) FROM payment.read_events('payments') AS e;
-- neither card tokens nor bank accounts
SELECT count(*) FROM payment.event WHERE data::text LIKE '%pm\_card%' OR data ? 'destination' OR data ? 'payment_method';

-- nothing moves but by acknowledgement, of what was read
SELECT count(*) FROM pg_temp.read('all');
SELECT * FROM pg_temp.read('all', 2);
SELECT pg_temp.sqlstate_of(format('SELECT payment.acknowledge_events(''all'', %L)', 'not read')) AS not_an_id;
SELECT split_part(pg_temp.sqlstate_of(format('SELECT payment.acknowledge_events(''all'', %L)', id)), ' ', 1) AS answer
FROM payment.event ORDER BY epoch DESC, horizon DESC, id DESC LIMIT 1;
SELECT pg_temp.acknowledge('all', 1);
SELECT * FROM pg_temp.read('all');
SELECT pg_temp.acknowledge('all');
SELECT pg_temp.acknowledge('all') IS NULL AS nothing_read;
SELECT payment.acknowledge_events('all', id) FROM payment.event ORDER BY epoch, horizon, id LIMIT 1;
SELECT * FROM pg_temp.read('all');

-- a lease lasts for longer than the transaction
SELECT pg_temp.pay('lease', '10.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('lease/1', 'failed', NULL, error_code => 'gone');
SELECT * FROM pg_temp.read('all', 1, 600000);
SELECT * FROM pg_temp.read('all');
SELECT leased_until > clock_timestamp() + interval '5 minutes' AS leased FROM payment.event_lag WHERE consumer = 'all';
UPDATE payment.event_consumer SET leased_until = clock_timestamp() - interval '1 s' WHERE name = 'all';
SELECT * FROM pg_temp.read('all', 100, 600000);
SELECT pg_temp.acknowledge('all');
SELECT leased_until, unread, oldest_unread_at, held_back, queued, dead, failing FROM payment.event_lag WHERE consumer = 'all';
SELECT unread, held_back FROM payment.event_lag WHERE consumer = 'payments';

-- a change by hand is an event as any other, and counts on
SELECT pg_temp.pay('hand', '10.00');
SELECT count(*) FROM pg_temp.claim();
UPDATE payment.order_record SET status = 'unknown' WHERE reference = 'hand/1';
UPDATE payment.order_record SET description = 'other', event_count = 77 WHERE reference = 'hand/1';
SELECT * FROM pg_temp.read('all');
SELECT event_count FROM payment.order_record WHERE reference = 'hand/1';
-- what is rolled back was never told, nor counted
SELECT pg_temp.pay('undone', '10.00');
SELECT count(*) FROM pg_temp.claim();
BEGIN;
UPDATE payment.order_record SET status = 'unknown' WHERE reference = 'undone/1';
ROLLBACK;
SELECT event_count FROM payment.order_record WHERE reference = 'undone/1';
SELECT count(*) FROM pg_temp.read('all');

-- the clock of the session's user does not matter: the times of an object ascend
SELECT count(*) AS disordered FROM (SELECT id, number, horizon,
        lag(id) OVER w AS id_before, lag(number) OVER w AS number_before, lag(horizon) OVER w AS horizon_before
    FROM payment.event WINDOW w AS (PARTITION BY object_id ORDER BY number)) AS e
WHERE number <> coalesce(number_before, 0) + 1 OR id <= id_before OR horizon < horizon_before;
SELECT count(*) AS miscounted FROM (SELECT id, event_count FROM payment.payment_record UNION ALL SELECT id, event_count FROM payment.order_record
    UNION ALL SELECT id, event_count FROM payment.refund_record UNION ALL SELECT id, event_count FROM payment.payout_record) AS r
WHERE event_count <> (SELECT count(*) FROM payment.event WHERE object_id = r.id);

-- from the beginning; and a consumer that wants few is not held up by the others
SELECT payment.register_consumer('history', NULL, true);
SELECT (SELECT count(*) FROM payment.read_events('history', 10000)) = (SELECT count(*) FROM payment.event) AS all_of_them;
SELECT payment.register_consumer('none', '{payout.returned}', true);
SELECT * FROM pg_temp.read('none');
SELECT unread FROM payment.event_lag WHERE consumer = 'none';
SELECT c.epoch > '-infinity' AS moved_on FROM payment.event_consumer AS c WHERE c.name = 'none';

-- nobody writes them by hand
SELECT pg_temp.sqlstate_of('UPDATE payment.event SET number = 1');
SELECT pg_temp.sqlstate_of('DELETE FROM payment.event_default');
SELECT pg_temp.sqlstate_of('INSERT INTO payment.event SELECT * FROM payment.event');
SELECT pg_temp.sqlstate_of('TRUNCATE payment.event');

SELECT payment.remove_consumer(name), payment.remove_consumer(name) FROM unnest(ARRAY['all', 'payments', 'history', 'none']) AS name;
