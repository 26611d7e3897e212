-- What the schema payment has: its names, and that each is explained.
\set ON_ERROR_STOP on
BEGIN;
SELECT no_plan();

SELECT has_schema('payment');
SELECT has_extension('payment');
SELECT is(extversion, '1.0', 'version 1.0') FROM pg_extension WHERE extname = 'payment';
SELECT is(extrelocatable, false, 'is not relocatable') FROM pg_extension WHERE extname = 'payment';

SELECT has_table('payment', name::name, 'table ' || name)
FROM unnest(ARRAY['account', 'journal', 'journal_default', 'entry', 'entry_default', 'balance_slot', 'psp', 'seller',
    'fee_schedule', 'counted_volume', 'seller_volume', 'routing_rule', 'idempotency', 'payment_record', 'payment_record_default', 'order_record', 'order_record_default',
    'refund_record', 'refund_record_default', 'dispute_record', 'dispute_record_default', 'dispute_response_record', 'partial_failure', 'payout_record', 'payout_record_default', 'psp_reference', 'status_history', 'status_history_default', 'task', 'circuit_breaker',
    'attempt', 'attempt_default', 'resolution', 'hosted_page', 'settlement_file', 'settlement_line', 'settlement_line_default',
    'settlement_reference', 'unsettled_order', 'exception_record', 'reconciliation_run', 'instance',
    'event', 'event_default', 'event_consumer', 'webhook_endpoint', 'event_delivery', 'synchronous_standby', 'webhook_event', 'webhook_event_default', 'webhook_key', 'webhook_waiting', 'webhook_unverified',
    'webhook_rejection']) AS name;
SELECT has_view('payment', name::name, 'view ' || name)
FROM unnest(ARRAY['ledger', 'payment', 'payment_order', 'refund', 'dispute', 'dispute_response', 'payout', 'wallet', 'exception', 'settlement', 'dead_letter',
    'queue_depth', 'stuck', 'worker_status', 'psp_status', 'psp_latency', 'event_lag', 'event_dead_letter', 'webhook']) AS name;
SELECT has_composite('payment', name::name, 'type ' || name)
FROM unnest(ARRAY['account_balance', 'checkout_result', 'claimed_task', 'attempt_outcome', 'reconciliation_result',
    'webhook_answer', 'claimed_webhook', 'fee_quote']) AS name;
SELECT has_role(name::name) FROM unnest(ARRAY['payment_app', 'payment_finance', 'payment_admin', 'payment_auditor',
    'payment_worker', 'payment_gateway']) AS name;
SELECT is(rolcanlogin OR rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls, false,
    rolname || ' is a group of privileges and nothing else')
FROM pg_roles WHERE rolname LIKE 'payment\_%';

-- what applications call: arguments by name, and what comes back
SELECT is(pg_get_function_arguments(p.oid) || ' -> ' || pg_get_function_result(p.oid), c.signature, 'function ' || c.name)
FROM (VALUES
    ('checkout', 'idempotency_key text, payer text, orders jsonb, psp text DEFAULT NULL::text, '
        'payment_method text DEFAULT NULL::text, metadata jsonb DEFAULT ''{}''::jsonb, '
        'payment_methods jsonb DEFAULT NULL::jsonb, capture text DEFAULT ''automatic''::text, '
        'on_partial_failure text DEFAULT ''keep''::text, hosted jsonb DEFAULT NULL::jsonb -> payment.checkout_result'),
    ('record_hosted_page', 'attempt uuid, psp_reference text, url text, open_until timestamp with time zone -> boolean'),
    ('capture', 'payment_order uuid, idempotency_key text, amount bigint DEFAULT NULL::bigint, final boolean DEFAULT true -> integer'),
    ('void', 'payment_order uuid, idempotency_key text -> boolean'),
    ('cancel', 'object uuid, idempotency_key text -> integer'),
    ('submit_dispute_evidence', 'dispute uuid, evidence jsonb, idempotency_key text -> uuid'),
    ('accept_dispute', 'dispute uuid, idempotency_key text -> uuid'),
    ('refund', 'payment_order uuid, amount bigint, idempotency_key text, reason text DEFAULT NULL::text, '
        'fee_policy text DEFAULT ''proportional''::text -> uuid'),
    ('submit', 'events jsonb -> TABLE("position" integer, idempotency_key text, payment_type text, object_id uuid, order_ids uuid[])'),
    ('payout', 'seller uuid, amount bigint, currency text, destination text, idempotency_key text, psp text DEFAULT NULL::text -> uuid'),
    ('retry_order', 'payment_order uuid, idempotency_key text, psp text DEFAULT NULL::text, payment_method text DEFAULT NULL::text -> integer'),
    ('release', 'payment_order uuid -> boolean'),
    ('receipt', 'payment_order uuid -> jsonb'),
    ('register_psp', 'name text, adapter text, base_url text, secret_name text, settings jsonb DEFAULT ''{}''::jsonb, '
        'webhook_secret_names text[] DEFAULT NULL::text[] -> uuid'),
    ('receive_webhook', 'psp text, headers jsonb, body bytea -> payment.webhook_answer'),
    ('register_seller', 'reference text, name text, metadata jsonb DEFAULT ''{}''::jsonb -> uuid'),
    ('set_fee_schedule', 'fixed bigint, basis_points integer, seller uuid DEFAULT NULL::uuid, currency text DEFAULT NULL::text, '
        'psp text DEFAULT NULL::text, payment_method text DEFAULT NULL::text, min_fee bigint DEFAULT NULL::bigint, '
        'max_fee bigint DEFAULT NULL::bigint, tiers jsonb DEFAULT NULL::jsonb, volume_window text DEFAULT ''month''::text, '
        'effective_from timestamp with time zone DEFAULT NULL::timestamp with time zone, '
        'effective_until timestamp with time zone DEFAULT NULL::timestamp with time zone -> uuid'),
    ('end_fee_schedule', 'schedule uuid, effective_until timestamp with time zone DEFAULT NULL::timestamp with time zone -> boolean'),
    ('quote_fee', 'seller uuid, amount bigint, currency text, psp text DEFAULT NULL::text, payment_method text DEFAULT NULL::text, '
        'at timestamp with time zone DEFAULT NULL::timestamp with time zone -> payment.fee_quote'),
    ('refund_fee_share', 'amount bigint, platform_fee bigint, refunded bigint, fee_returned bigint, refund bigint, '
        'policy text DEFAULT ''proportional''::text -> bigint'),
    ('set_routing_rule', 'name text, psp text, priority integer, currency text DEFAULT NULL::text, min_amount bigint DEFAULT NULL::bigint, '
        'max_amount bigint DEFAULT NULL::bigint, seller uuid DEFAULT NULL::uuid, payment_method text DEFAULT NULL::text, '
        'weight integer DEFAULT 100, state text DEFAULT ''active''::text -> void'),
    ('remove_routing_rule', 'name text -> boolean'),
    ('import_settlement', 'psp text, format text, file_name text, content bytea -> uuid'),
    ('reconcile', 'psp text, through timestamp with time zone DEFAULT now() -> payment.reconciliation_result'),
    ('open_account', 'code text, kind text, currency text, owner uuid DEFAULT NULL::uuid, '
        'min_balance bigint DEFAULT NULL::bigint, max_balance bigint DEFAULT NULL::bigint -> uuid'),
    ('post_journal', 'kind text, accounts uuid[], amounts bigint[], subject uuid DEFAULT NULL::uuid, '
        'effective_at timestamp with time zone DEFAULT NULL::timestamp with time zone, description text DEFAULT NULL::text -> uuid'),
    ('balance', 'account uuid -> payment.account_balance'),
    ('trial_balance', 'OUT code text, OUT kind text, OUT currency text, OUT debit numeric, OUT credit numeric -> SETOF record'),
    ('verify', 'OUT check_name text, OUT object_id uuid, OUT detail text, OUT expected numeric, OUT actual numeric -> SETOF record'),
    ('transitions', 'OUT object text, OUT from_status text, OUT to_status text, OUT causes text[] -> SETOF record'),
    ('event_types', 'OUT type text, OUT object text, OUT status text -> SETOF record'),
    ('register_consumer', 'name text, types text[] DEFAULT NULL::text[], from_beginning boolean DEFAULT false -> boolean'),
    ('remove_consumer', 'name text -> boolean'),
    ('read_events', 'consumer text, max_events integer DEFAULT 100, lease_ms integer DEFAULT 0 -> TABLE(id uuid, type text, '
        'object text, object_id uuid, payment_id uuid, number integer, created_at timestamp with time zone, data jsonb)'),
    ('acknowledge_events', 'consumer text, through uuid -> boolean'),
    ('set_webhook_endpoint', 'consumer text, url text, secret_name text, types text[] DEFAULT NULL::text[], '
        'settings jsonb DEFAULT ''{}''::jsonb -> boolean'),
    ('retry_event_deliveries', 'consumer text, event_id uuid DEFAULT NULL::uuid -> bigint'),
    ('discard_event_deliveries', 'consumer text, event_id uuid DEFAULT NULL::uuid -> bigint'),
    ('detach_events', ' -> TABLE(parent text, partition text, from_time timestamp with time zone, until_time timestamp with time zone, row_count bigint)'),
    ('queue_event_deliveries', 'consumer text, max_events integer -> bigint'),
    ('claim_event_deliveries', 'consumer text, max_events integer, lease_ms integer -> SETOF payment.claimed_event'),
    ('record_event_deliveries', 'consumer text, event_ids uuid[], tries integer[], http_statuses integer[], errors text[], '
        'retry_after_ms bigint[] -> boolean'),
    ('next_event_delivery_due', 'consumer text -> timestamp with time zone'),
    ('adopt', 'reason text, may_have_sent boolean DEFAULT true -> bigint'),
    ('sending_refusal', ' -> text'),
    ('claim_tasks', 'psp uuid, max_tasks integer, lease_ms integer, lane_limits integer[] DEFAULT NULL::integer[] '
        '-> SETOF payment.claimed_task'),
    ('reset_breaker', 'psp text -> boolean'),
    ('record_outcomes', 'outcomes payment.attempt_outcome[] -> integer')) AS c (name, signature)
LEFT JOIN pg_proc p ON p.proname = c.name AND p.pronamespace = 'payment'::regnamespace;

-- scale-out asks for this of every call
SELECT is_empty($$
    SELECT oid::regprocedure FROM pg_proc
    WHERE pronamespace = 'payment'::regnamespace AND (prokind <> 'f' OR provariadic <> 0
        OR prorettype IN (SELECT oid FROM pg_type WHERE typtype = 'p' AND typname NOT IN ('record', 'trigger', 'event_trigger', 'void'))
        OR proargtypes::oid[] && ARRAY(SELECT oid FROM pg_type WHERE typtype = 'p'))
    $$, 'no procedures, no variadic and no polymorphic arguments');
SELECT is_empty($$
    SELECT proname FROM pg_proc WHERE pronamespace = 'payment'::regnamespace GROUP BY proname HAVING count(*) > 1
    $$, 'no overloaded names: a call by name is never ambiguous');
SELECT is_empty($$
    SELECT c.oid::regclass FROM pg_class c WHERE relnamespace = 'payment'::regnamespace AND relkind = 'S'
    $$, 'no sequence is anybody''s identity');

-- every member is explained
SELECT is_empty($$
    SELECT oid::regprocedure FROM pg_proc
    WHERE pronamespace = 'payment'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL
    $$, 'every function has a comment');
SELECT is_empty($$
    SELECT oid::regclass FROM pg_class
    WHERE relnamespace = 'payment'::regnamespace AND relkind IN ('r', 'p', 'v') AND NOT relispartition
        AND obj_description(oid, 'pg_class') IS NULL
    $$, 'every table and view has a comment');
SELECT is_empty($$
    SELECT t.oid::regtype FROM pg_type t JOIN pg_class c ON c.oid = t.typrelid
    WHERE c.relnamespace = 'payment'::regnamespace AND c.relkind = 'c' AND obj_description(t.oid, 'pg_type') IS NULL
    $$, 'every type has a comment');
SELECT is_empty($$
    SELECT c.oid::regclass, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'payment'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'c') AND NOT c.relispartition
        AND a.attnum > 0 AND NOT a.attisdropped AND col_description(c.oid, a.attnum) IS NULL
    $$, 'every column has a comment');

-- what a restore asks for
SELECT is_empty($$
    SELECT i.indexrelid::regclass FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
    WHERE c.relnamespace = 'payment'::regnamespace AND c.relkind = 'p'
    $$, 'parents of partitions have no index and no key');
SELECT is_empty($$
    SELECT conrelid::regclass, conname FROM pg_constraint
    WHERE connamespace = 'payment'::regnamespace AND contype = 'f'
    $$, 'no foreign key depends on the order of a restore');
SELECT is_empty($$
    SELECT c.oid::regclass FROM pg_class c
    WHERE relnamespace = 'payment'::regnamespace AND relkind = 'p'
        AND NOT EXISTS (SELECT FROM pg_partitioned_table p WHERE p.partrelid = c.oid AND p.partdefid <> 0)
    $$, 'every partitioned table has a default partition: nothing fails for want of one');
SELECT is_empty($$
    SELECT c.oid::regclass FROM pg_class c, pg_extension x
    WHERE c.relnamespace = 'payment'::regnamespace AND c.relkind = 'r' AND x.extname = 'payment'
        AND NOT c.oid = ANY (coalesce(x.extconfig, '{}'))
        -- whose copies have to notice that they are copies
        AND c.relname NOT IN ('instance', 'synchronous_standby')
    $$, 'the rows of every table are dumped');
SELECT is_empty($$
    SELECT c.oid::regclass FROM pg_class c
    WHERE c.relnamespace = 'payment'::regnamespace AND c.relkind = 'r'
        AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
    $$, 'every table with rows has a primary key');

-- money is a bigint, with a currency beside it
SELECT is_empty($$
    SELECT c.oid::regclass, a.attname, a.atttypid::regtype FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'payment'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0
        AND a.attname ~ '(amount|balance|gross|net|(^|_)fee)$' AND a.atttypid <> 'bigint'::regtype
    $$, 'amounts are bigint');
SELECT is_empty($$
    SELECT c.oid::regclass, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'payment'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'c') AND a.attnum > 0
        AND a.atttypid IN ('float4'::regtype, 'float8'::regtype, 'money'::regtype, 'timestamp'::regtype, 'json'::regtype)
    $$, 'no float, no time without zone, no json');

SELECT * FROM finish();
ROLLBACK;
