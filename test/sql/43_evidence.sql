-- Evidence that comes late, twice, out of order or against what is known.
\getenv inputdir PG_ABS_SRCDIR
\set library :inputdir '/lib/dispatch.sql'
SET client_min_messages = warning;
\set ECHO none
\i :library
\set ECHO all
RESET client_min_messages;
SET test.psp = 'dispatch evidence';
SELECT pg_temp.register_psp();
SELECT count(payment.register_seller('dispatch seller ' || n, 'Seller ' || n)) AS registered FROM generate_series(1, 3) AS n;

-- S07: the answer comes after the lease, another attempt is under way: one
-- result, one journal
SELECT pg_temp.pay('lease', '10.00', '20.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.skip_time();
SELECT name, step FROM pg_temp.claim() ORDER BY name;
SELECT pg_temp.record('lease/1', 'succeeded', 'evidence_lease/1', earlier => 1);
SELECT * FROM pg_temp.show('lease/1');
SELECT * FROM pg_temp.attempts('lease/1');
SELECT pg_temp.record('lease/1', 'succeeded', 'evidence_lease/1');
SELECT * FROM pg_temp.attempts('lease/1');
SELECT count(*) FROM pg_temp.journals('lease/1');
SELECT pg_temp.history('lease/1');
-- what is not definite leaves the attempt under way alone
SELECT pg_temp.record('lease/2', 'retry', earlier => 1);
SELECT name, status, step, queue FROM pg_temp.show('lease/2');
SELECT pg_temp.record('lease/2', 'succeeded', 'evidence_lease/2');
SELECT * FROM pg_temp.payment_of('lease/%');

-- the other way round: the lookup first
SELECT pg_temp.pay('late', '10.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.skip_time();
SELECT name, step FROM pg_temp.claim();
SELECT pg_temp.record('late/1', 'succeeded', 'evidence_late/1');
SELECT pg_temp.record('late/1', 'succeeded', 'evidence_late/1', earlier => 1);
SELECT * FROM pg_temp.attempts('late/1');
SELECT count(*) FROM pg_temp.journals('late/1');

-- a timeout is recorded, then the answer arrives after all
SELECT pg_temp.pay('after', '10.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('after/1', 'unknown', error_code => 'timeout');
SELECT pg_temp.record('after/1', 'succeeded', 'evidence_after/1');
SELECT * FROM pg_temp.show('after/1');
SELECT * FROM pg_temp.attempts('after/1');

-- S22, S25: told twice in one batch: one effect, one journal
SELECT pg_temp.pay('twice', '10.00');
SELECT count(*) FROM pg_temp.claim();
SELECT payment.record_outcomes(array_agg(ROW(a.id, 'succeeded', 200, 9, 'evidence_twice/1', 1000, 'EUR', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    )::payment.attempt_outcome)) FROM payment.attempt AS a, generate_series(1, 3)
    WHERE a.object_id = pg_temp.object('twice/1');
SELECT * FROM pg_temp.payment_of('twice/%');
SELECT count(*) FROM pg_temp.journals('twice/1');

-- several steps in one batch: each is in the history, in order
SELECT pg_temp.pay('steps', '10.00');
SELECT count(*) FROM pg_temp.claim();
SELECT payment.record_outcomes(array_agg(ROW(a.id, s.outcome, 200, 9, 'evidence_steps/1', 1000, 'EUR', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    )::payment.attempt_outcome ORDER BY s.n)) FROM payment.attempt AS a,
    (VALUES (1, 'unknown'), (2, 'pending'), (3, 'succeeded')) AS s (n, outcome)
    WHERE a.object_id = pg_temp.object('steps/1');
SELECT * FROM pg_temp.show('steps/1');
SELECT * FROM pg_temp.attempts('steps/1');
SELECT pg_temp.history('steps/1');

-- S23: no downgrade
SELECT pg_temp.record('steps/1', outcome, 'evidence_steps/1') FROM unnest(ARRAY['declined', 'failed', 'pending', 'unknown']) AS outcome;
SELECT * FROM pg_temp.show('steps/1');
SELECT * FROM pg_temp.payment_of('steps/%');

-- success under another reference: the payer was charged twice
SELECT pg_temp.record('steps/1', 'succeeded', 'evidence_other');
SELECT * FROM pg_temp.show('steps/1');
SELECT * FROM pg_temp.exceptions('steps/1');
SELECT count(*) FROM pg_temp.journals('steps/1');
-- ... or with another amount
SELECT pg_temp.record('steps/1', 'succeeded', 'evidence_steps/1', amount => 999);
SELECT name, type, expected, actual FROM pg_temp.exceptions('steps/1');

-- late success: money that came although we had given up
SELECT pg_temp.pay('given', '10.00', '20.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('given/1', 'declined', error_code => 'card_declined'), pg_temp.record('given/2', 'failed', error_code => 'expired');
SELECT * FROM pg_temp.payment_of('given/%');
SELECT pg_temp.record('given/1', 'succeeded', 'evidence_given/1');
SELECT * FROM pg_temp.payment_of('given/%');
SELECT pg_temp.record('given/2', 'succeeded', 'evidence_given/2');
SELECT * FROM pg_temp.payment_of('given/%');
SELECT * FROM pg_temp.show('given/%');
SELECT * FROM pg_temp.exceptions('given/%');
SELECT pg_temp.history('given/1');
SELECT string_agg(coalesce(h.from_status, '') || ' -> ' || h.to_status, E'\n' ORDER BY h.id) AS payment_history
    FROM payment.status_history AS h JOIN payment.order_record AS o ON o.payment_id = h.object_id
    WHERE o.id = pg_temp.object('given/1');
-- ... with another amount: nothing is posted
SELECT pg_temp.pay('odd', '10.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('odd/1', 'declined', error_code => 'card_declined');
SELECT pg_temp.record('odd/1', 'succeeded', 'evidence_odd/1', amount => 1);
SELECT * FROM pg_temp.show('odd/1');
SELECT * FROM pg_temp.payment_of('odd/%');
SELECT name, type, expected, actual FROM pg_temp.exceptions('odd/1');
SELECT count(*) FROM pg_temp.journals('odd/1');

-- an answer that says nothing of the money proves no reference either: a
-- charge that is another order's is never credited twice
SELECT pg_temp.pay('foreign', '10.00', '10.00');
SELECT count(*) FROM pg_temp.claim();
SELECT pg_temp.record('foreign/1', 'succeeded', 'evidence_foreign/1');
SELECT pg_temp.record('foreign/2', 'unknown', 'evidence_foreign/1', error_code => 'unknown_status');
SELECT pg_temp.skip_time();
SELECT name, step, psp_reference FROM pg_temp.claim();
SELECT pg_temp.record('foreign/2', 'succeeded', 'evidence_foreign/1');
SELECT name, status, captured, psp_reference, failure_code FROM pg_temp.show('foreign/%');
SELECT name, type FROM pg_temp.exceptions('foreign/%');
SELECT count(*) FROM pg_temp.journals('foreign/2');

SELECT count(*) FROM payment.verify();
SELECT count(*) FROM payment.task WHERE psp_id = pg_temp.psp();
