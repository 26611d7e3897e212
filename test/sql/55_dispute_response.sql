-- Answers to disputes: brought to the PSP once, and what they may be.
\getenv inputdir PG_ABS_SRCDIR
\set dispatch :inputdir '/lib/dispatch.sql'
\set webhook :inputdir '/lib/webhook.sql'
SET client_min_messages = warning;
\set ECHO none
\i :dispatch
\i :webhook
\set ECHO all
RESET client_min_messages;
SET test.psp = 'dispute answers';
SET test.webhook_secret = 'whsec_dispute_answers';
SELECT pg_temp.write_secret('dispute_answers', 'whsec_dispute_answers');
SELECT count(payment.register_psp('dispute answers', 'stripe', 'http://127.0.0.1:1', 'none', webhook_secret_names => '{dispute_answers}'));
SELECT count(payment.register_seller('answering seller', 'Seller'));
SELECT payment.checkout('answers', 'payer', jsonb_agg(jsonb_build_object('seller', 'answering seller', 'amount', '10.00', 'currency', 'EUR', 'reference', n::text)),
    psp => 'dispute answers', payment_method => 'pm') IS NOT NULL FROM generate_series(1, 5) AS n;
SELECT count(*) FROM pg_temp.claim();
SELECT count(pg_temp.record(n::text, 'succeeded', 'pi_answer_' || n)) FROM generate_series(1, 5) AS n;
CREATE FUNCTION pg_temp.tell(n integer, status text, at integer DEFAULT 0) RETURNS text LANGUAGE sql AS $$
    SELECT r.http_status FROM pg_temp.event('evt_answer_' || n || status, 'charge.dispute.updated', jsonb_build_object('id', 'dp_answer_' || n, 'object', 'dispute',
        'amount', 1000, 'currency', 'eur', 'payment_intent', 'pi_answer_' || n, 'status', status,
        'balance_transactions', '[{"amount": -1000, "fee": 0, "currency": "eur"}]'::jsonb), jsonb_build_object('created', 1760000000 + at)) AS e (body),
        LATERAL pg_temp.receive(e.body) AS r
$$;
CREATE FUNCTION pg_temp.id(n integer) RETURNS uuid LANGUAGE sql AS $$ SELECT id FROM payment.dispute WHERE psp_reference = 'dp_answer_' || n $$;
CREATE FUNCTION pg_temp.dispute(n integer) RETURNS text LANGUAGE sql AS $$ SELECT stage || '/' || status FROM payment.dispute WHERE psp_reference = 'dp_answer_' || n $$;
CREATE FUNCTION pg_temp.refused(command text) RETURNS text LANGUAGE sql AS $$
    SELECT regexp_replace(pg_temp.sqlstate_of(command), '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', '<id>', 'g')
$$;
CREATE FUNCTION pg_temp.take() RETURNS TABLE (operation text, step text, key text, amount bigint, parent text, reference text, evidence text) LANGUAGE sql AS $$
    SELECT c.operation, c.step, replace(c.psp_key, c.object_id::text, '<id>'), c.amount, c.parent_reference, c.psp_reference, c.evidence
    FROM payment.claim_tasks(pg_temp.psp(), 100, 60000) AS c ORDER BY c.object_id
$$;
CREATE FUNCTION pg_temp.answer(response uuid, outcome text, error text DEFAULT NULL) RETURNS integer LANGUAGE sql AS $$
    SELECT payment.record_outcomes(ARRAY[ROW((SELECT a.id FROM payment.attempt AS a WHERE a.object_id = response ORDER BY a.id DESC LIMIT 1),
        outcome, 200, 5, 'dp_any', 1000, 'EUR', error, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome])
$$;
CREATE FUNCTION pg_temp.responses(n integer) RETURNS TABLE (operation text, status text, attempt_no integer, failure_code text) LANGUAGE sql AS $$
    SELECT operation, status, attempt_no, failure_code FROM payment.dispute_response WHERE dispute_id = pg_temp.id(n) ORDER BY id
$$;
SELECT count(pg_temp.tell(n, 'needs_response')) FROM generate_series(1, 5) AS n;

-- what cannot be
SELECT pg_temp.refused($$SELECT payment.submit_dispute_evidence(payment.new_id(), '{"a": "b"}', 'k')$$);
SELECT pg_temp.refused($$SELECT payment.accept_dispute(payment.new_id(), 'k')$$);
SELECT pg_temp.refused($$SELECT payment.submit_dispute_evidence(NULL, '{"a": "b"}', 'k')$$);
SELECT e, pg_temp.refused(format('SELECT payment.submit_dispute_evidence(%L, %L, %L)', pg_temp.id(1), e, 'k'))
FROM unnest(ARRAY['{}', '[]', '"a"', '{"a": 1}', '{"a": {"b": "c"}}', '{"a": null}', '{"A": "b"}', '{"a]": "b"}', '{"": "b"}', NULL]) AS e;
SELECT pg_temp.refused(format('SELECT payment.submit_dispute_evidence(%L, %L, %L)', pg_temp.id(1), '{"uncategorized_text": "4242 4242 4242 4242"}', 'k')) AS "S74";
SET payment.max_dispute_evidence_bytes = 20;
SELECT pg_temp.refused(format('SELECT payment.submit_dispute_evidence(%L, %L, %L)', pg_temp.id(1), '{"uncategorized_text": "too long"}', 'k'));
RESET payment.max_dispute_evidence_bytes;

-- evidence: once, under a key, and the dispute is challenged when the PSP has it
SELECT payment.submit_dispute_evidence(pg_temp.id(1), '{"uncategorized_text": "delivered & signed", "shipping_carrier": "post"}', 'answer 1') AS r \gset
SELECT payment.submit_dispute_evidence(pg_temp.id(1), '{"uncategorized_text": "delivered & signed", "shipping_carrier": "post"}', 'answer 1') = :'r' AS again;
SELECT left(pg_temp.refused(format('SELECT payment.submit_dispute_evidence(%L, %L, %L)', pg_temp.id(1), '{"a": "b"}', 'answer 1')), 5) AS other_arguments;
SELECT pg_temp.refused(format('SELECT payment.accept_dispute(%L, %L)', pg_temp.id(1), 'second'));
SELECT * FROM pg_temp.take();
SELECT pg_temp.dispute(1);
SELECT pg_temp.answer(:'r', 'succeeded');
SELECT * FROM pg_temp.responses(1);
SELECT pg_temp.dispute(1);
SELECT count(*) FROM payment.task WHERE psp_id = pg_temp.psp();
SELECT pg_temp.refused(format('SELECT payment.submit_dispute_evidence(%L, %L, %L)', pg_temp.id(1), '{"a": "b"}', 'third'));
-- what was told before that is no news, nor is its own echo
SELECT pg_temp.tell(1, 'under_review', 1), pg_temp.dispute(1);
SELECT pg_temp.tell(1, 'lost', 2), pg_temp.dispute(1);

-- accepted; the bank says the rest
SELECT payment.accept_dispute(pg_temp.id(2), 'answer 2') AS r \gset
SELECT * FROM pg_temp.take();
SELECT pg_temp.answer(:'r', 'succeeded');
SELECT pg_temp.dispute(2);
SELECT pg_temp.refused(format('SELECT payment.refund(%L, 1, %L)', pg_temp.object('2'), 'accepted')) LIKE 'PY307%' AS "S37";
SELECT pg_temp.tell(2, 'lost', 1), pg_temp.dispute(2);

-- no answer: asked after, sent again under the same key
SELECT payment.submit_dispute_evidence(pg_temp.id(3), '{"uncategorized_text": "x"}', 'answer 3') AS r \gset
SELECT count(*) FROM pg_temp.take();
SELECT pg_temp.answer(:'r', 'unknown');
SELECT * FROM pg_temp.responses(3);
SELECT pg_temp.skip_time();
SELECT operation, step, key, reference FROM pg_temp.take();
SELECT pg_temp.answer(:'r', 'not_found');
SELECT pg_temp.skip_time();
SELECT operation, step, key FROM pg_temp.take();
SELECT pg_temp.answer(:'r', 'succeeded');
SELECT * FROM pg_temp.responses(3);
SELECT pg_temp.dispute(3);

-- refused: the dispute is as it was, and may be answered again
SELECT payment.submit_dispute_evidence(pg_temp.id(4), '{"uncategorized_text": "x"}', 'answer 4') AS r \gset
SELECT count(*) FROM pg_temp.take();
SELECT pg_temp.answer(:'r', 'failed', 'parameter_unknown');
SELECT * FROM pg_temp.responses(4);
SELECT pg_temp.dispute(4);
SELECT payment.submit_dispute_evidence(pg_temp.id(4), '{"uncategorized_text": "y"}', 'answer 4 again') AS r \gset
SELECT count(*) FROM pg_temp.take();
-- meanwhile it is decided: what arrives later changes nothing
SELECT pg_temp.tell(4, 'lost', 1), pg_temp.answer(:'r', 'succeeded'), pg_temp.dispute(4);
SELECT operation, status FROM pg_temp.responses(4);
SELECT string_agg(coalesce(h.from_status, '') || ' -> ' || h.to_status || ' (' || h.cause || ')', ', ' ORDER BY h.id) FROM payment.status_history AS h WHERE h.object_id = :'r';

-- a PSP that cannot be asked
SELECT count(payment.register_psp('dispute answers', 'adyen', 'http://127.0.0.1:1', 'none', '{"config": {"merchant_account": "Shop", "return_url": "https://shop.example/", "balance_account": "BA_1"}}'));
SELECT pg_temp.refused(format('SELECT payment.accept_dispute(%L, %L)', pg_temp.id(5), 'answer 5'));
SELECT pg_temp.refused(format('UPDATE payment.dispute_response_record SET %s WHERE id = %L', c, :'r'))
FROM unnest(ARRAY['evidence = NULL', 'status = ''failed''', 'attempt_no = 7', 'dispute_id = id']) AS c;
