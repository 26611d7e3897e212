-- S73: NULL, nothing, negative, huge and hostile values for every argument of
-- every function of the schema, as the catalog lists them: an error with an
-- SQLSTATE of our own, or a result that leaves all books in order; no crash.
\set ON_ERROR_STOP on
\if :{?seed}
\else
\set seed 0.73
\endif
BEGIN;
SELECT no_plan();
SELECT setseed(:seed) \g /dev/null
SET LOCAL statement_timeout = '5min';
SET LOCAL client_min_messages = warning;

-- something to be hostile to
SELECT payment.register_psp('hostile', 'stripe', 'http://127.0.0.1:1', 'none') AS psp \gset
SELECT payment.register_seller('hostile', 'Hostile') AS seller \gset
SELECT order_ids[1] AS captured, order_ids[2] AS created FROM payment.checkout('hostile', 'payer',
    '[{"seller": "hostile", "amount": 100000, "currency": "EUR"}, {"seller": "hostile", "amount": 1000, "currency": "EUR"}]',
    'hostile', 'pm') \gset
SELECT payment.record_outcomes(array_agg(ROW(attempt_id, CASE object_id WHEN :'captured' THEN 'succeeded' ELSE 'pending' END, 200, 1,
    'pi_' || object_id, amount, currency, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome)) AS recorded
FROM payment.claim_tasks(:'psp', 10, 60000) \gset
SELECT payment.record_outcomes(array_agg(ROW(a.id, 'succeeded', 200, 1, r.reference, r.amount, 'EUR', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome))
    AS recorded FROM payment.attempt AS a, (VALUES ('pi_again', 100000), ('pi_' || :'captured', 100001)) AS r (reference, amount) WHERE a.object_id = :'captured' \gset
SELECT id AS duplicate FROM payment.exception_record WHERE order_id = :'captured' AND type = 'duplicate' \gset
SELECT id AS proposed FROM payment.exception_record WHERE order_id = :'captured' AND type = 'amount' \gset
SELECT payment.propose_resolution(:'proposed', 'kept', 'somebody else', 'a reason') \g /dev/null
SELECT payment.release(:'captured') AS released \gset
SELECT payment.payout(:'seller', 10, 'EUR', 'account', 'hostile payout', 'hostile') AS payout \gset
SELECT attempt_id AS attempt FROM payment.claim_tasks(:'psp', 1, 60000) \gset
SELECT (payment.checkout('hostile lost', 'payer', '[{"seller": "hostile", "amount": 1000, "currency": "EUR"}]', 'hostile', 'pm')).order_ids[1] AS lost \gset
SELECT payment.record_outcomes(array_agg(ROW(attempt_id, 'unknown', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome))
    AS recorded FROM payment.claim_tasks(:'psp', 10, 60000) WHERE object_id = :'lost' \gset
UPDATE payment.task SET dead_at = now() WHERE object_id = :'lost';
SELECT (payment.checkout('hostile declined', 'payer', '[{"seller": "hostile", "amount": 1000, "currency": "EUR"}]', 'hostile', 'pm')).order_ids[1] AS declined \gset
SELECT payment.record_outcomes(array_agg(ROW(attempt_id, 'declined', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome))
    AS recorded FROM payment.claim_tasks(:'psp', 10, 60000) WHERE object_id = :'declined' \gset
SELECT payment.register_psp('hostile none', 'none', 'http://127.0.0.1:1', 'none', '{"payouts": false}') AS psp_none \gset
SELECT (payment.checkout('hostile paid', 'payer', '[{"seller": "hostile", "amount": 1000, "currency": "EUR"}]', 'hostile none', 'pm')).order_ids[1] AS paid \gset
SELECT payment.record_outcomes(array_agg(ROW(attempt_id, 'succeeded', 200, 1, 'pi_' || object_id, amount, currency, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome))
    AS recorded FROM payment.claim_tasks(:'psp_none', 10, 60000) WHERE object_id = :'paid' \gset
SELECT (payment.checkout('hostile reserved', 'payer', '[{"seller": "hostile", "amount": 1000, "currency": "EUR"}]', 'hostile none', 'pm', capture => 'manual')).order_ids[1] AS reserved \gset
SELECT payment.record_outcomes(array_agg(ROW(attempt_id, 'authorized', 200, 1, 'pi_' || object_id, amount, currency, NULL, NULL, NULL, NULL, now() + interval '1 day', NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome))
    AS recorded FROM payment.claim_tasks(:'psp_none', 10, 60000) WHERE object_id = :'reserved' \gset
SELECT payment.checkout('hostile too', 'payer', '[{"seller": "hostile", "amount": 1000, "currency": "EUR"}]', 'hostile', 'pm') \g /dev/null
SELECT payment.set_fee_schedule(0, 0, :'seller', 'JPY') AS schedule \gset
SELECT payment.open_account('hostile', 'asset', 'EUR') AS account \gset
SELECT payment.open_account('hostile_too', 'asset', 'EUR') AS other_account \gset
SELECT payment.open_account('hostile', 'asset', 'JPY') AS yen_account \gset
SELECT payment.post_journal('sale', ARRAY[:'account', :'other_account']::uuid[], '{1,-1}') AS journal \gset
SELECT payment.create_hold(:'account', 1) AS hold \gset

SELECT payment.register_consumer('hostile reader') \g /dev/null
UPDATE payment.event_consumer SET horizon = '9223372036854775807';
SELECT payment.set_webhook_endpoint('hostile', 'http://127.0.0.1:1', 'none') \g /dev/null
SELECT id AS event FROM payment.event ORDER BY id LIMIT 1 \gset

\ir ../lib/webhook.sql
SELECT pg_temp.write_secret('hostile', 'whsec_hostile') \gset
SELECT payment.register_psp('hostile', 'stripe', 'http://127.0.0.1:1', 'none', webhook_secret_names => '{hostile}') \gset
SELECT payment.receive_webhook('hostile', pg_temp.signed(body, 'whsec_hostile'), body) FROM pg_temp.event('evt_hostile', 'charge.dispute.created',
    jsonb_build_object('object', 'dispute', 'id', 'dp_hostile', 'status', 'needs_response', 'amount', 10, 'currency', 'eur',
        'payment_intent', 'pi_' || :'captured')) AS e (body) \g /dev/null
SELECT id AS dispute FROM payment.dispute WHERE psp_reference = 'dp_hostile' \gset

-- a right value for each argument: by function and name, else by name
CREATE TEMP TABLE right_value (function text, argument text, value text);
INSERT INTO right_value VALUES
    (NULL, 'id', quote_literal(:'captured')), (NULL, 'account', quote_literal(:'account')),
    (NULL, 'accounts', format('ARRAY[%L, %L]::uuid[]', :'account', :'other_account')), (NULL, 'amounts', 'ARRAY[1, -1]::bigint[]'),
    (NULL, 'exception', quote_literal(:'proposed')), ('propose_resolution', 'exception', quote_literal(:'duplicate')),
    ('propose_resolution', 'psp_reference', 'NULL'), ('approve_resolution', 'psp_reference', 'NULL'), (NULL, 'resolution', '''kept'''), (NULL, 'weights', 'ARRAY[1, 2]::bigint[]'), (NULL, 'amount', '1::bigint'), ('parse_money', 'amount', '''1.00'''),
    (NULL, 'currency', '''EUR'''), (NULL, 'seller', quote_literal(:'seller')), (NULL, 'psp', '''hostile'''),
    ('claim_tasks', 'psp', quote_literal(:'psp')), ('next_task_due', 'psp', quote_literal(:'psp')),
    ('move_waiting_orders', 'psp', quote_literal(:'psp')), (NULL, 'max_orders', '1'), (NULL, 'after', 'now()'),
    ('save_breaker', 'psp', quote_literal(:'psp')), ('save_breaker', 'state', '''open'''), ('save_breaker', 'reason', '''text'''),
    (NULL, 'lane_limits', '''{1,1,1,1,1}''::integer[]'), (NULL, 'since', 'now()'), (NULL, 'probe_at', 'now()'), (NULL, 'pause_ms', '1'),
    (NULL, 'version', '0::bigint'),
    (NULL, 'payment_order', quote_literal(:'captured')), ('retry_order', 'payment_order', quote_literal(:'declined')), (NULL, 'task', quote_literal(:'captured')),
    (NULL, 'code', '''hostile_three'''), (NULL, 'kind', '''asset'''), (NULL, 'owner', 'NULL'), (NULL, 'subject', 'NULL'),
    (NULL, 'min_balance', 'NULL'), (NULL, 'max_balance', 'NULL'), (NULL, 'state', '''frozen'''), (NULL, 'effective_at', 'now()'),
    (NULL, 'description', '''text'''), (NULL, 'name', '''hostile'''), (NULL, 'adapter', '''stripe'''),
    (NULL, 'base_url', '''http://127.0.0.1:1'''), (NULL, 'secret_name', '''none'''), (NULL, 'settings', '''{}'''),
    (NULL, 'reference', '''hostile'''), (NULL, 'metadata', '''{}'''), (NULL, 'fixed', '1::bigint'), (NULL, 'basis_points', '100'),
    (NULL, 'idempotency_key', '''hostile key'''), (NULL, 'payer', '''payer'''), (NULL, 'payment_method', '''pm'''),
    (NULL, 'orders', '''[{"seller": "hostile", "amount": 1, "currency": "EUR"}]'''), (NULL, 'destination', '''account'''),
    (NULL, 'events', '''[{"idempotency_key": "event", "payment_type": "pay_in", "payer": "payer", "psp": "hostile", "payment_method": "pm", '
        '"orders": [{"seller": "hostile", "amount": 1, "currency": "EUR"}]}]'''),
    (NULL, 'consumer', '''hostile'''), ('read_events', 'consumer', '''hostile reader'''),
    ('acknowledge_events', 'consumer', '''hostile reader'''), ('acknowledge_events', 'through', quote_literal(:'event')),
    (NULL, 'max_events', '10'), (NULL, 'types', '''{payment.*,payout.paid}''::text[]'), (NULL, 'from_beginning', 'true'),
    (NULL, 'url', '''https://127.0.0.1:1/events?a=b'''), (NULL, 'event_id', quote_literal(:'event')),
    (NULL, 'event_ids', format('ARRAY[%L]::uuid[]', :'event')), (NULL, 'tries', 'ARRAY[1]'), (NULL, 'http_statuses', 'ARRAY[200]'),
    (NULL, 'errors', '''{NULL}''::text[]'), (NULL, 'retry_after_ms', '''{NULL}''::bigint[]'),
    (NULL, 'status', '''captured'''), (NULL, 'max_tasks', '1'), (NULL, 'lease_ms', '1000'),
    (NULL, 'outcomes', format('ARRAY[ROW(%L, ''unknown'', 200, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome]', :'attempt')),
    (NULL, 'format', '''stripe_csv'''), (NULL, 'file_name', '''hostile.csv'''),
    (NULL, 'content', $$convert_to(E'balance_transaction_id,currency,gross,fee,net,reporting_category\ntxn_1,eur,1.00,0.10,0.90,charge\n', 'UTF8')$$),
    (NULL, 'object', quote_literal(:'lost')), (NULL, 'outcome', quote_literal('failed')), (NULL, 'person', quote_literal('somebody')),
    (NULL, 'reason', quote_literal('a reason')), (NULL, 'psp_reference', 'NULL'),
    (NULL, 'kinds', 'ARRAY[''sale'']'), (NULL, 'journals', 'ARRAY[1, 1]'), (NULL, 'subjects', 'NULL::uuid[]'),
    (NULL, 'effective_ats', 'NULL::timestamptz[]'), (NULL, 'descriptions', 'ARRAY[''text'']'), (NULL, 'return_balances', 'true'),
    (NULL, 'hold', quote_literal(:'hold')), (NULL, 'expires_at', 'now() + interval ''1 day'''), (NULL, 'close', 'true'),
    ('post_hold', 'accounts', format('ARRAY[%L]::uuid[]', :'other_account')), ('post_hold', 'amounts', 'ARRAY[1]::bigint[]'),
    (NULL, 'max_holds', '10'), (NULL, 'max_accounts', '10'), (NULL, 'max_partitions', '1'), (NULL, 'until', 'now()'),
    (NULL, 'journal', quote_literal(:'journal')), ('reverse_journal', 'amount', 'NULL::bigint'),
    ('reverse_journal', 'amounts', 'ARRAY[-1, 1]::bigint[]'),
    (NULL, 'at', 'now()'), (NULL, 'from_time', 'now() - interval ''1 day'''), (NULL, 'until_time', 'now()'),
    (NULL, 'after_journal', 'NULL::uuid'), (NULL, 'after_leg', 'NULL::integer'), (NULL, 'page_size', '10'),
    ('adopt', 'reason', '''a copy'''), (NULL, 'may_have_sent', 'false'), (NULL, 'max_standbys', '10'),
    (NULL, 'older_than', '''2000-01-01''::timestamptz'), (NULL, 'all_tables', 'false'),
    ('record_hosted_page', 'attempt', quote_literal(:'attempt')), ('record_hosted_page', 'psp_reference', '''cs_1'''),
    ('record_hosted_page', 'url', '''https://127.0.0.1:1/c'''), (NULL, 'open_until', 'now()'), (NULL, 'hosted', 'NULL::jsonb'),
    (NULL, 'payment_methods', 'NULL::jsonb'), (NULL, 'capture', '''automatic'''), (NULL, 'on_partial_failure', '''keep'''),
    ('capture', 'amount', '1000::bigint'), (NULL, 'final', 'true'), (NULL, 'max_payments', '10'), ('refund', 'reason', '''duplicate'''), (NULL, 'fee_policy', '''none'''),
    ('refund', 'payment_order', quote_literal(:'paid')),
    ('capture', 'payment_order', quote_literal(:'reserved')), ('void', 'payment_order', quote_literal(:'reserved')),
    ('cancel', 'object', quote_literal(:'reserved')), (NULL, 'priority', '1'), (NULL, 'weight', '1'), ('set_routing_rule', 'state', '''active'''),
    ('set_routing_rule', 'min_amount', '1::bigint'), ('set_routing_rule', 'max_amount', '2::bigint'),
    (NULL, 'min_fee', '1::bigint'), (NULL, 'max_fee', '2::bigint'), (NULL, 'volume_window', '''month'''),
    (NULL, 'tiers', '''[{"from_volume": 1, "basis_points": 1}]'''), (NULL, 'effective_from', 'now() + interval ''1 day'''),
    (NULL, 'effective_until', 'now() + interval ''2 days'''), (NULL, 'schedule', quote_literal(:'schedule')),
    (NULL, 'platform_fee', '0::bigint'), (NULL, 'refunded', '0::bigint'), (NULL, 'fee_returned', '0::bigint'), (NULL, 'refund', '1::bigint'),
    (NULL, 'policy', '''proportional'''),
    (NULL, 'fees', '''{"EUR": {"fixed": 1, "basis_points": 1}}'''), (NULL, 'through', 'now()'),
    (NULL, 'webhook_secret_names', 'ARRAY[''none'']'), (NULL, 'headers', '''{"stripe-signature": "t=1,v1=2"}'''),
    (NULL, 'body', '''{}''::bytea'), (NULL, 'max_webhooks', '10'),
    (NULL, 'webhook', quote_literal(:'captured')), (NULL, 'genuine', 'true'),
    ('claim_unverified_webhooks', 'psp', quote_literal(:'psp')), (NULL, 'error', '''text'''), (NULL, 'sent', 'true'),
    ('defer_webhook', 'retry_after_ms', '1::bigint'),
    (NULL, 'dispute', quote_literal(:'dispute')), (NULL, 'evidence', '''{"uncategorized_text": "text"}''');

CREATE TEMP TABLE hostile_value (type regtype, value text);
INSERT INTO hostile_value
SELECT 'text'::regtype, v FROM unnest(ARRAY['''''', ''' ''', 'repeat(''x'', 1000000)', 'repeat(''é'', 200)', '''NaN''', '''Infinity''', '''-1''', '''1e5''',
    'E''a\nb\t\x01\x7f''', '''"; DROP TABLE payment.task; --''', '''x'''' OR 1=1 --''', '''%s%n%1$s%500000000d''', '''../../../etc/passwd''',
    'U&''\FEFF\200B\202E''', '''4111 1111 1111 1111''', '''x 4242-4242-4242-4242''', '''USD''', '''usd''', '''XXX''', '''EUROS''', '''€''',
    '''00000000-0000-0000-0000-000000000000''', '''null''', '''{}''', '''http://user:secret@host/''', '''file:///etc/passwd''',
    'repeat(''9'', 400)', '''1.'' || repeat(''0'', 400)', '''frozen''', '''closed''', '''liability''', 'repeat(''seller_'', 30)']) AS v
UNION ALL
SELECT 'bigint', v || '::bigint' FROM unnest(ARRAY['0', '-1', '2147483648', '9223372036854775807', '(-9223372036854775808)']) AS v
UNION ALL
SELECT 'integer', v FROM unnest(ARRAY['0', '-1', '10001', '2147483647', '(-2147483648)']) AS v
UNION ALL
SELECT 'uuid', v FROM unnest(ARRAY['''00000000-0000-0000-0000-000000000000''', '''ffffffff-ffff-ffff-ffff-ffffffffffff''', 'gen_random_uuid()',
    'payment.new_id()', quote_literal(:'seller'), quote_literal(:'psp'), quote_literal(:'created'), quote_literal(:'payout'), quote_literal(:'account')]) AS v
UNION ALL
SELECT 'timestamptz', v || '::timestamptz' FROM unnest(ARRAY['''infinity''', '''-infinity''', '''4713-01-01 BC''', '''294276-12-31''', '''1969-12-31''']) AS v
UNION ALL
SELECT 'bytea', v FROM unnest(ARRAY['''''', '''\x00''::bytea', '''\xff00fe''::bytea', 'convert_to(repeat(''a,'', 500000), ''UTF8'')',
    'convert_to(repeat(E''\n'', 100000), ''UTF8'')', 'convert_to(repeat(''"'', 99999), ''UTF8'')', 'convert_to(''<html>'', ''UTF8'')',
    $$convert_to(E'balance_transaction_id,currency,gross,fee,net,reporting_category\n' || repeat(E'txn_1,eur,99999999999999999999,0,1,charge\n', 9), 'UTF8')$$,
    $$convert_to(E'balance_transaction_id,currency,gross,fee,net,reporting_category\ntxn_1,eur,NaN,0,1,charge\n', 'UTF8')$$,
    $$convert_to(E'balance_transaction_id,currency,gross,fee,net,reporting_category\ntxn_1,eur,92233720368547758.07,-92233720368547758.08,1,charge\n', 'UTF8')$$,
    $$convert_to(E'balance_transaction_id,currency,gross,fee,net,reporting_category\ntxn_1,,,,,\n', 'UTF8')$$]) AS v
UNION ALL
SELECT 'bigint[]', v || '::bigint[]' FROM unnest(ARRAY['''{}''', '''{NULL}''', '''{1,NULL}''', '''{0,0}''', '''{1}''', '''{{1,-1},{2,-2}}''', '''[5:6]={1,-1}''',
    '''{9223372036854775807,9223372036854775807}''', '''{-9223372036854775808,9223372036854775807}''', '''{-1,-1}''',
    'array_fill(1::bigint, ARRAY[100000])']) AS v
UNION ALL
SELECT 'integer[]', v || '::integer[]' FROM unnest(ARRAY['''{}''', '''{NULL}''', '''{1,NULL}''', '''{0,0}''', '''{1}''', '''{1,2}''', '''{2,2}''', '''{2,1}''',
    '''{{1,1}}''', '''[0:1]={1,1}''', '''{-2147483648,2147483647}''', 'array_fill(1, ARRAY[100000])']) AS v
UNION ALL
SELECT 'text[]', v || '::text[]' FROM unnest(ARRAY['''{}''', '''{NULL}''', '''{""}''', '''{x,NULL}''', '''{{x}}''', '''[0:0]={x}''', '''{"4111 1111 1111 1111"}''',
    '''{capture}''', '''{"%s%n"}''', 'ARRAY[repeat(''x'', 1000000)]', 'array_fill(''x''::text, ARRAY[100001])']) AS v
UNION ALL
SELECT 'timestamptz[]', v || '::timestamptz[]' FROM unnest(ARRAY['''{}''', '''{NULL}''', '''{infinity}''', '''{-infinity}''', '''{{now}}''', '''{now,now}''',
    '''{4713-01-01 BC}''', '''{294276-12-31}''']) AS v
UNION ALL
SELECT 'boolean', v FROM unnest(ARRAY['true', 'false']) AS v
UNION ALL
SELECT 'uuid[]', v FROM unnest(ARRAY['''{}''::uuid[]', '''{NULL}''::uuid[]', 'ARRAY[gen_random_uuid(), gen_random_uuid()]',
    format('ARRAY[%L, NULL]::uuid[]', :'account'), format('ARRAY[%1$L, %1$L]::uuid[]', :'account'), format('ARRAY[%L]::uuid[]', :'account'),
    format('ARRAY[%L, %L]::uuid[]', :'account', :'yen_account'), format('ARRAY[[%1$L, %1$L], [%1$L, %1$L]]::uuid[]', :'account'),
    format('array_fill(%L::uuid, ARRAY[100000])', :'account')]) AS v
UNION ALL
SELECT 'jsonb', v || '::jsonb' FROM unnest(ARRAY['''null''', '''1''', '''"x"''', '''true''', '''[]''', '''{}''', '''[[]]''', '''[null]''', '''[1]''', '''{"": {"": ""}}''',
    '''[1e1000]''', '(repeat(''['', 3000) || repeat('']'', 3000))', '(''"'' || repeat(''x'', 1000000) || ''"'')', '''{"card": "4111 1111 1111 1111"}''',
    '''[{"seller": "hostile", "amount": 1, "currency": "EUR", "metadata": {"card": "4242424242424242"}}]''',
    '''[{"seller": "hostile", "amount": 0, "currency": "EUR"}]''', '''[{"seller": "hostile", "amount": -1, "currency": "EUR"}]''',
    '''[{"seller": "hostile", "amount": 1.5, "currency": "EUR"}]''', '''[{"seller": "hostile", "amount": 1e30, "currency": "EUR"}]''',
    '''[{"seller": "hostile", "amount": 9223372036854775808, "currency": "EUR"}]''', '''[{"seller": "hostile", "amount": "1.001", "currency": "EUR"}]''',
    '''[{"seller": "hostile", "amount": "NaN", "currency": "EUR"}]''', '''[{"seller": "hostile", "amount": null, "currency": "EUR"}]''',
    '''[{"seller": {}, "amount": [], "currency": {}}]''', '''[{"seller": "nobody", "amount": 1, "currency": "EUR"}]''',
    '''[{"seller": "hostile", "amount": 1}]''', '''[{"seller": "hostile", "amount": 1, "currency": "EUR", "surprise": 1}]''',
    '''{"timeout_ms": -1}''', '''[{"from_volume": 9223372036854775807, "basis_points": 10000, "fixed": 9223372036854775807}]''',
    '''[{"from_volume": 2, "basis_points": 1}, {"from_volume": 1, "basis_points": 1}]''', '''{"timeout_ms": 1e30}''', '''{"timeout_ms": "1"}''', '''{"id": "x"}''', '''{"fees": []}''', '''{"fees": {"EUR": {"fixed": 1e30}}}''',
    '''{"EUR": {"fixed": 9223372036854775807, "basis_points": 10000}}''', '''{"EUR": {"basis_points": 1e9}}''', '''{"EUR": 1}''',
    '''[{"payment_type": "pay_out", "idempotency_key": "x", "seller": "hostile", "amount": 9223372036854775807, "currency": "EUR", "destination": "d", "psp": "hostile"}]''',
    '''[{"payment_type": "steal"}]''', '(SELECT jsonb_agg(jsonb_build_object(''seller'', ''hostile'', ''amount'', 1, ''currency'', ''EUR'')) FROM generate_series(1, 20000))',
    '(SELECT jsonb_object_agg(n, n) FROM generate_series(1, 20000) AS n)']) AS v
UNION ALL
SELECT 'payment.attempt_outcome[]', v || '::payment.attempt_outcome[]' FROM unnest(ARRAY['''{}''', '''{NULL}''', 'ARRAY[ROW(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)]',
    'ARRAY[ROW(gen_random_uuid(), ''unknown'', 200, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)]',
    'array_fill(ROW(gen_random_uuid(), ''unknown'', 200, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome, ARRAY[10001])',
    'array_fill(NULL::payment.attempt_outcome, ARRAY[2, 2])'] || ARRAY(
        SELECT format('ARRAY[ROW(%L, %s, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)]', :'attempt', rest) FROM unnest(ARRAY['NULL, 200, 1, NULL, NULL, NULL, NULL, NULL, NULL',
            '''no such word'', 200, 1, NULL, NULL, NULL, NULL, NULL, NULL', '''succeeded'', 200, 1, NULL, NULL, NULL, NULL, NULL, NULL',
            '''succeeded'', 200, 1, ''r'', -1, ''EUR'', NULL, NULL, NULL', '''succeeded'', 200, 1, ''r'', 0, ''EUR'', NULL, NULL, NULL',
            '''succeeded'', 200, 1, ''r'', 9223372036854775807, ''EUR'', NULL, NULL, NULL', '''succeeded'', 200, 1, ''r'', 10, ''eur'', NULL, NULL, NULL',
            '''succeeded'', 200, 1, ''r'', 10, ''EUROS'', NULL, NULL, NULL', '''succeeded'', 200, 1, repeat(''r'', 1000000), 10, ''EUR'', NULL, NULL, NULL',
            format('''succeeded'', 200, 1, %L, 10, ''EUR'', NULL, NULL, NULL', 'pi_' || :'captured'),
            '''unknown'', -1, 1, NULL, NULL, NULL, NULL, NULL, NULL', '''unknown'', 2147483647, 1, NULL, NULL, NULL, NULL, NULL, NULL',
            '''unknown'', 200, -1, NULL, NULL, NULL, NULL, NULL, NULL', '''unknown'', 200, 1, NULL, NULL, NULL, repeat(''x'', 1000000), repeat(''é'', 1000000), NULL',
            '''unknown'', 200, 1, NULL, NULL, NULL, NULL, ''4111 1111 1111 1111'', NULL', '''retry'', 200, 1, NULL, NULL, NULL, NULL, NULL, -1',
            '''retry'', 200, 1, NULL, NULL, NULL, NULL, NULL, 9223372036854775807', '''not_found'', 200, 1, NULL, NULL, NULL, NULL, NULL, NULL']) AS rest)
    || ARRAY(SELECT format('ARRAY[ROW(%L, ''declined'', 200, 1, NULL, NULL, NULL, NULL, NULL, NULL, %s, NULL, NULL, NULL, NULL, NULL, NULL, NULL)]', :'attempt', class)
        FROM unnest(ARRAY['''no such class''', '''''', 'repeat(''x'', 1000000)']) AS class)) AS v;

-- every argument that goes in, with a right value and all hostile ones
CREATE TEMP TABLE argument AS
SELECT p.oid::regprocedure AS function, p.proname AS name, p.provolatile, a.number::int, a.type::regtype AS type, p.proargnames[a.number] AS argument,
    coalesce((SELECT r.value FROM right_value r WHERE r.argument = p.proargnames[a.number] AND r.function = p.proname),
        (SELECT r.value FROM right_value r WHERE r.argument = p.proargnames[a.number] AND r.function IS NULL)) AS right_value,
    ARRAY(SELECT format('NULL::%s', a.type::regtype) UNION ALL SELECT h.value FROM hostile_value h WHERE h.type = a.type::regtype) AS hostile_values
FROM pg_proc p, unnest(p.proargtypes) WITH ORDINALITY AS a (type, number)
WHERE p.pronamespace = 'payment'::regnamespace;

SELECT is_empty('SELECT function, argument FROM argument WHERE right_value IS NULL', 'there is a right value for every argument');
SELECT is_empty('SELECT function, argument, type FROM argument WHERE cardinality(hostile_values) < 2', 'and there are hostile ones for every type');

-- Calls it, undoes what it did, and returns the SQLSTATE; what was accepted
-- must leave the books in order.
CREATE FUNCTION pg_temp.attempt(command text, writes boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text;
BEGIN
    EXECUTE command;
    IF writes AND EXISTS (SELECT FROM payment.verify()) THEN
        RAISE EXCEPTION USING ERRCODE = 'ZZ001';
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'ZZ000';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE;
    RETURN CASE state WHEN 'ZZ000' THEN '00000' WHEN 'ZZ001' THEN 'verify() found something' ELSE state END;
END
$$;

-- all right; each argument with each hostile value; everything NULL; random mixtures
CREATE TEMP TABLE call AS
SELECT p.oid::regprocedure AS function, p.provolatile = 'v' AS writes, 'right' AS how,
    format('SELECT * FROM payment.%I(%s)', p.proname, (SELECT string_agg(right_value, ', ' ORDER BY number) FROM argument WHERE function = p.oid)) AS command
FROM pg_proc p WHERE p.pronamespace = 'payment'::regnamespace
    AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
UNION ALL
SELECT a.function, a.provolatile = 'v', 'hostile', format('SELECT * FROM payment.%I(%s)', a.name, (
    SELECT string_agg(CASE o.number WHEN a.number THEN h ELSE o.right_value END, ', ' ORDER BY o.number) FROM argument o WHERE o.function = a.function))
FROM argument a, unnest(a.hostile_values) AS h
UNION ALL
SELECT a.function, a.provolatile = 'v', 'all null', format('SELECT * FROM payment.%I(%s)', a.name, string_agg(format('NULL::%s', a.type), ', ' ORDER BY a.number))
FROM argument a GROUP BY a.function, a.provolatile, a.name
UNION ALL
SELECT function, writes, 'mixture', format('SELECT * FROM payment.%I(%s)', name, string_agg(value, ', ' ORDER BY number))
FROM (SELECT a.function, a.provolatile = 'v' AS writes, a.name, a.number, turn,
        a.hostile_values[1 + floor(random() * cardinality(a.hostile_values))::int] AS value
    FROM argument a, generate_series(1, 20) AS turn) AS m
GROUP BY function, writes, name, turn HAVING count(*) > 1;

CREATE TEMP TABLE result AS SELECT function, how, command, pg_temp.attempt(command, writes) AS state FROM call;

SELECT is_empty($$SELECT function, state FROM result WHERE how = 'right' AND state <> '00000'$$, 'right calls are accepted');
SELECT cmp_ok((SELECT count(*) FROM result)::int, '>', 1500, 'more than a thousand hostile ones');
SELECT is_empty(format($$SELECT how, state, left(command, 300) FROM result WHERE function = %L::regprocedure
    AND state <> '00000' AND state NOT LIKE 'PY%%'$$, function::oid::regprocedure), 'S73 ' || function)
FROM (SELECT DISTINCT function FROM result) AS f ORDER BY function::text;

-- directly called, triggers refuse
SELECT is_empty($$
    SELECT oid::regprocedure, pg_temp.attempt(format('SELECT %s', oid::regprocedure), false) FROM pg_proc
    WHERE pronamespace = 'payment'::regnamespace AND prorettype = 'trigger'::regtype
        AND pg_temp.attempt(format('SELECT %s', oid::regprocedure), false) <> '39P01'
    $$, 'S73 trigger functions are no functions to call');
SELECT is(pg_temp.attempt('SELECT payment.guard_drop()', false), '39P03', 'S73 nor are event trigger functions');
-- and on tables, for events and at times that they are not made for
CREATE TABLE pg_temp.any_table (a int);
CREATE FUNCTION pg_temp.misuse(function regproc, clause text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN pg_temp.attempt(format('CREATE TRIGGER misuse %s EXECUTE FUNCTION %s(); INSERT INTO pg_temp.any_table VALUES (1), (2); '
        'UPDATE pg_temp.any_table SET a = 3; DELETE FROM pg_temp.any_table; TRUNCATE pg_temp.any_table', clause, function), false);
END
$$;
SELECT is_empty($$
    SELECT p.oid::regproc, clause, pg_temp.misuse(p.oid, clause) FROM pg_proc p, unnest(ARRAY[
        'BEFORE INSERT ON pg_temp.any_table FOR EACH ROW', 'AFTER INSERT ON pg_temp.any_table FOR EACH ROW',
        'BEFORE UPDATE ON pg_temp.any_table FOR EACH ROW', 'AFTER DELETE ON pg_temp.any_table FOR EACH ROW',
        'AFTER UPDATE ON pg_temp.any_table FOR EACH STATEMENT', 'AFTER TRUNCATE ON pg_temp.any_table FOR EACH STATEMENT',
        'AFTER UPDATE ON pg_temp.any_table REFERENCING OLD TABLE AS o NEW TABLE AS n FOR EACH STATEMENT']) AS clause
    WHERE p.pronamespace = 'payment'::regnamespace AND p.prorettype = 'trigger'::regtype
        AND pg_temp.misuse(p.oid, clause) NOT IN ('39P01', 'PY203', 'PY301')
    $$, 'S73 nor to hang onto any table');

SELECT is_empty('SELECT * FROM payment.verify()', 'verify() finds nothing after all that');
SELECT * FROM finish();
ROLLBACK;
