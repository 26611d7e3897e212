-- Who may do what: everything is named here, and what is not named is refused.
\set ON_ERROR_STOP on
BEGIN;
SELECT no_plan();

-- PUBLIC
SELECT is_empty($$
    SELECT p.oid::regprocedure FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
    WHERE p.pronamespace = 'payment'::regnamespace AND a.grantee = 0
    $$, 'PUBLIC may execute nothing');
SELECT is_empty($$
    SELECT c.oid::regclass, a.privilege_type FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS a
    WHERE c.relnamespace = 'payment'::regnamespace AND a.grantee = 0
    $$, 'PUBLIC may read nothing');
SELECT is_empty($$
    SELECT c.oid::regclass, t.attname FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid, aclexplode(t.attacl) AS a
    WHERE c.relnamespace = 'payment'::regnamespace
    $$, 'there are no privileges on single columns');
SELECT is_empty($$
    SELECT a.privilege_type FROM pg_namespace n, aclexplode(n.nspacl) AS a
    WHERE n.nspname = 'payment' AND (a.grantee = 0 OR (a.privilege_type = 'CREATE' AND a.grantee <> n.nspowner))
    $$, 'nobody but the owner creates anything in the schema, PUBLIC does not look into it');

-- nobody
SELECT is_empty($$
    SELECT c.oid::regclass, r.rolname, a.privilege_type
    FROM pg_class c, aclexplode(c.relacl) AS a JOIN pg_roles r ON r.oid = a.grantee
    WHERE c.relnamespace = 'payment'::regnamespace AND a.grantee <> c.relowner AND a.privilege_type <> 'SELECT'
    $$, 'nobody but the owner writes, truncates, references or puts triggers on any table');
SELECT is_empty($$
    SELECT c.oid::regclass FROM pg_class c, aclexplode(c.relacl) AS a
    WHERE c.relnamespace = 'payment'::regnamespace AND a.is_grantable AND a.grantee <> c.relowner
    UNION ALL
    SELECT p.oid::regprocedure::text::regclass FROM pg_proc p, aclexplode(p.proacl) AS a
    WHERE p.pronamespace = 'payment'::regnamespace AND a.is_grantable AND a.grantee <> p.proowner
    $$, 'nobody passes a privilege on');
SELECT is_empty($$
    SELECT roleid::regrole, member::regrole FROM pg_auth_members
    WHERE roleid IN (SELECT oid FROM pg_roles WHERE rolname LIKE 'payment\_%')
        AND member IN (SELECT oid FROM pg_roles WHERE rolname LIKE 'payment\_%')
    $$, 'no role of ours is a member of another');

-- functions, exactly
SELECT set_eq($$
    SELECT p.proname::text, r.rolname::text
    FROM pg_proc p, aclexplode(p.proacl) AS a JOIN pg_roles r ON r.oid = a.grantee
    WHERE p.pronamespace = 'payment'::regnamespace AND a.grantee <> p.proowner
    $$, $$
    SELECT name, 'payment_' || role FROM (VALUES
        ('new_id', 'app finance admin auditor worker'),
        ('id_time', 'app finance admin auditor worker'),
        ('id_shard', 'app finance admin auditor worker'),
        ('id_floor', 'app finance admin auditor worker'),
        ('currency_exponent', 'app finance admin auditor worker'),
        ('format_money', 'app finance admin auditor worker'),
        ('parse_money', 'app finance admin auditor worker'),
        ('split_money', 'app finance admin auditor worker'),
        ('refund_fee_share', 'app finance admin auditor worker'),
        ('classic_status', 'app finance admin auditor worker'),
        ('transitions', 'app finance admin auditor worker'),
        ('open_account', 'admin'),
        ('set_account_state', 'admin'),
        ('set_account_limits', 'admin'),
        ('post_journal', 'finance'),
        ('post_journals', 'finance'),
        ('lock_accounts', 'finance'),
        ('create_hold', 'finance'),
        ('post_hold', 'finance'),
        ('void_hold', 'finance'),
        ('expire_holds', 'finance admin worker'),
        ('reverse_journal', 'finance'),
        ('balance', 'finance admin auditor'),
        ('latest_balance', 'app finance admin auditor'),
        ('balance_as_of', 'finance admin auditor'),
        ('statement', 'finance admin auditor'),
        ('detach_partitions', 'admin'),
        ('trial_balance', 'finance admin auditor'),
        ('verify', 'finance admin auditor'),
        ('merge_balance_slots', 'admin worker'),
        ('create_partitions', 'admin'),
        ('keep_partitions_ahead', 'worker'),
        ('register_psp', 'admin'),
        ('set_fee_schedule', 'admin'),
        ('end_fee_schedule', 'admin'),
        ('quote_fee', 'app finance admin auditor'),
        ('set_routing_rule', 'admin'),
        ('remove_routing_rule', 'admin'),
        ('register_seller', 'app admin'),
        ('seller_id', 'app admin'),
        ('checkout', 'app'),
        ('submit', 'app'),
        ('payout', 'app'),
        ('capture', 'app'),
        ('void', 'app'),
        ('cancel', 'app'),
        ('refund', 'app'),
        ('submit_dispute_evidence', 'app'),
        ('accept_dispute', 'app'),
        ('retry_order', 'app'),
        ('release', 'app'),
        ('receipt', 'app finance auditor'),
        ('claim_tasks', 'worker'),
        ('record_outcomes', 'worker'),
        ('expire_leases', 'worker'),
        ('expire_authorizations', 'worker'),
        ('undo_partial_failures', 'worker'),
        ('next_task_due', 'worker'),
        ('save_breaker', 'worker'),
        ('record_hosted_page', 'worker'),
        ('move_waiting_orders', 'worker'),
        ('reset_breaker', 'admin'),
        ('worker_psps', 'finance admin auditor'),
        ('worker_latencies', 'finance admin auditor'),
        ('retry_dead_letter', 'admin'),
        ('resolve_unknown', 'finance'),
        ('reject_unknown_resolution', 'finance'),
        ('propose_resolution', 'finance'),
        ('approve_resolution', 'finance'),
        ('reject_resolution', 'finance'),
        ('import_settlement', 'finance'),
        ('reconcile', 'finance'),
        ('expected_psp_fee', 'finance admin auditor'),
        ('receive_webhook', 'gateway app'),
        ('retry_webhooks', 'admin worker'),
        ('confirm_webhook', 'worker'),
        ('claim_unverified_webhooks', 'worker'),
        ('defer_webhook', 'worker'),
        ('event_types', 'app finance admin auditor worker'),
        ('read_events', 'app'),
        ('acknowledge_events', 'app'),
        ('register_consumer', 'admin'),
        ('remove_consumer', 'admin'),
        ('set_webhook_endpoint', 'admin'),
        ('retry_event_deliveries', 'admin'),
        ('discard_event_deliveries', 'admin'),
        ('detach_events', 'admin'),
        ('queue_event_deliveries', 'worker'),
        ('claim_event_deliveries', 'worker'),
        ('record_event_deliveries', 'worker'),
        ('next_event_delivery_due', 'worker'),
        ('adopt', 'admin'),
        ('sending_refusal', 'finance admin auditor worker'),
        ('take_over', 'worker'),
        ('note_standbys', 'worker'),
        ('wake_worker', 'app finance admin worker'),
        ('worker_slots', 'finance admin auditor')) AS f (name, roles), string_to_table(roles, ' ') AS role
    $$, 'who executes what');

-- tables and views, exactly: SELECT is all there is
SELECT set_eq($$
    SELECT c.relname::text, r.rolname::text
    FROM pg_class c, aclexplode(c.relacl) AS a JOIN pg_roles r ON r.oid = a.grantee
    WHERE c.relnamespace = 'payment'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND a.grantee <> c.relowner
    $$, $$
    SELECT name, 'payment_' || role FROM (VALUES
        ('payment', 'app finance admin auditor'),
        ('payment_order', 'app finance admin auditor'),
        ('payout', 'app finance admin auditor'),
        ('refund', 'app finance admin auditor'),
        ('dispute', 'app finance admin auditor'),
        ('dispute_response', 'app finance admin auditor'),
        ('wallet', 'app finance admin auditor'),
        ('account', 'finance auditor'),
        ('journal', 'finance auditor'),
        ('entry', 'finance auditor'),
        ('balance_slot', 'finance auditor'),
        ('detached_balance', 'finance auditor'),
        ('detached_partition', 'finance auditor'),
        ('hold', 'finance auditor'),
        ('reversal', 'finance auditor'),
        ('ledger', 'finance auditor'),
        ('psp', 'finance admin auditor worker'),
        ('seller', 'finance admin auditor'),
        ('fee_schedule', 'finance admin auditor'),
        ('counted_volume', 'finance admin auditor'),
        ('seller_volume', 'finance admin auditor'),
        ('routing_rule', 'finance admin auditor'),
        ('payment_record', 'finance auditor'),
        ('order_record', 'finance auditor'),
        ('payout_record', 'finance auditor'),
        ('refund_record', 'finance auditor'),
        ('dispute_record', 'finance auditor'),
        ('dispute_response_record', 'finance auditor'),
        ('partial_failure', 'finance auditor'),
        ('psp_reference', 'finance auditor'),
        ('status_history', 'finance auditor'),
        ('attempt', 'finance auditor'),
        ('task', 'finance auditor'),
        ('resolution', 'finance admin auditor'),
        ('hosted_page', 'finance admin auditor'),
        ('dead_letter', 'finance admin auditor worker'),
        ('queue_depth', 'finance admin auditor worker'),
        ('stuck', 'finance admin auditor worker'),
        ('circuit_breaker', 'finance admin auditor worker'),
        ('psp_status', 'finance admin auditor'),
        ('psp_latency', 'finance admin auditor'),
        ('exception', 'finance admin auditor'),
        ('settlement', 'finance admin auditor'),
        ('settlement_file', 'finance admin auditor'),
        ('settlement_line', 'finance admin auditor'),
        ('unsettled_order', 'finance admin auditor'),
        ('exception_record', 'finance admin auditor'),
        ('reconciliation_run', 'finance admin auditor'),
        ('event', 'finance auditor'),
        ('event_consumer', 'finance admin auditor'),
        ('event_delivery', 'finance admin auditor'),
        ('webhook_endpoint', 'finance admin auditor worker'),
        ('event_lag', 'app finance admin auditor'),
        ('event_dead_letter', 'finance admin auditor'),
        ('instance', 'finance admin auditor'),
        ('synchronous_standby', 'finance admin auditor'),
        ('webhook', 'finance admin auditor'),
        ('webhook_rejection', 'finance admin auditor'),
        ('webhook_event', 'finance auditor'),
        ('webhook_key', 'finance auditor'),
        ('webhook_waiting', 'finance auditor'),
        ('webhook_unverified', 'finance auditor'),
        ('worker_status', 'finance admin auditor')) AS t (name, roles), string_to_table(roles, ' ') AS role
    $$, 'who reads what');

-- functions that run as their owner
SELECT is_empty($$
    SELECT oid::regprocedure, proconfig FROM pg_proc
    WHERE pronamespace = 'payment'::regnamespace AND prosecdef
        AND NOT coalesce(proconfig, '{}') @> ARRAY['search_path=pg_catalog, pg_temp']
    $$, 'every SECURITY DEFINER function pins its search_path, pg_temp last');
SELECT results_eq($$
    SELECT DISTINCT p.proname::text COLLATE "C" FROM pg_proc p, aclexplode(p.proacl) a JOIN pg_roles r ON r.oid = a.grantee
    WHERE p.pronamespace = 'payment'::regnamespace AND r.rolname LIKE 'payment\_%' AND p.provolatile = 'v' AND NOT p.prosecdef
        AND p.prolang = (SELECT oid FROM pg_language WHERE lanname = 'c') AND p.proname NOT IN ('new_id', 'wake_worker', 'worker_latencies', 'worker_psps', 'worker_slots')
    $$, $$VALUES ('post_journal'::text COLLATE "C")$$, 'of the functions that write all but one run as their owner');
SELECT is_empty($$
    SELECT oid::regprocedure FROM pg_proc
    WHERE pronamespace = 'payment'::regnamespace AND prolang NOT IN (SELECT oid FROM pg_language WHERE lanname IN ('c', 'sql'))
    $$, 'there is C and SQL and nothing else');
SELECT is_empty($$
    SELECT oid::regprocedure FROM pg_proc
    WHERE pronamespace = 'payment'::regnamespace AND prolang = (SELECT oid FROM pg_language WHERE lanname = 'sql')
        AND prosqlbody IS NULL
    $$, 'SQL functions are bound when they are made, whatever the caller''s search_path');
SELECT is_empty($$
    SELECT oid::regprocedure, proparallel FROM pg_proc
    WHERE pronamespace = 'payment'::regnamespace AND proparallel <> 'u'
        AND proname NOT IN ('new_id', 'id_time', 'id_shard', 'id_floor', 'currency_exponent', 'format_money', 'parse_money',
            'split_money', 'refund_fee_share', 'classic_status', 'transitions', 'event_types', 'expected_psp_fee', 'worker_slots', 'worker_psps', 'worker_latencies')
    $$, 'only what reads no table runs in parallel workers');
SELECT is_empty($$
    SELECT oid::regprocedure FROM pg_proc
    WHERE pronamespace = 'payment'::regnamespace AND prosecdef AND provolatile = 'i'
    $$, 'nothing that reads tables claims to be immutable');
SELECT is_empty($$
    SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'payment'::regnamespace AND proleakproof
    $$, 'nothing claims to be leakproof');

-- and really: as each role, what it may not
CREATE FUNCTION pg_temp.as_role(role text, command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', role);
    EXECUTE command;
    RESET ROLE;
    RETURN '00000';
EXCEPTION WHEN OTHERS THEN
    RESET ROLE;
    RETURN SQLSTATE;
END
$$;
CREATE ROLE payment_nobody;

-- post_journal runs as its caller: with no privilege on any table, among names
-- that mean something else, and with a limit and a hold to look at
CREATE SCHEMA hostile;
CREATE TABLE hostile.account (id uuid);
CREATE TABLE hostile.hold (id uuid);
CREATE FUNCTION hostile.refuse(uuid, uuid) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'fooled'; END $$;
CREATE OPERATOR hostile.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = hostile.refuse);
SELECT payment.open_account('hostile_from', 'liability', 'EUR', max_balance => 0) AS from_account,
    payment.open_account('hostile_to', 'liability', 'EUR') AS to_account \gset
SELECT payment.post_journal('sale', ARRAY[:'to_account', :'from_account']::uuid[], '{100,-100}') AS journal,
    payment.create_hold(:'from_account', 30) AS hold \gset
REVOKE SELECT ON ALL TABLES IN SCHEMA payment FROM payment_finance;
SET LOCAL search_path = hostile, public, pg_catalog;
SELECT is(pg_temp.as_role('payment_finance', format('SELECT payment.post_journal(''sale'', ARRAY[%L, %L]::uuid[], %L)',
    :'from_account', :'to_account', '{70,-70}')), '00000', 'post_journal needs no privilege but its own, and no name');
SELECT is(pg_temp.as_role('payment_finance', format('SELECT payment.post_journal(''sale'', ARRAY[%L, %L]::uuid[], %L)',
    :'from_account', :'to_account', '{1,-1}')), 'PY202', '... and keeps the limit');
SELECT is(pg_temp.as_role('payment_auditor', format('SELECT payment.post_journal(''sale'', ARRAY[%L, %L]::uuid[], %L)',
    :'to_account', :'from_account', '{1,-1}')), '42501', '... and is not for everybody');
RESET search_path;
SET LOCAL client_min_messages = warning;
DROP SCHEMA hostile CASCADE;
RESET client_min_messages;
SELECT is_empty($$
    SELECT r.rolname, c.relname, v.command
    FROM pg_roles r, pg_class c, (VALUES ('DELETE FROM payment.%I'), ('TRUNCATE payment.%I'), ('INSERT INTO payment.%I DEFAULT VALUES'),
        ('CREATE TRIGGER mine BEFORE INSERT ON payment.%I EXECUTE FUNCTION payment.guard_ledger()'),
        ('ALTER TABLE payment.%I DISABLE TRIGGER ALL'), ('ALTER TABLE payment.%I ADD COLUMN mine text'), ('DROP TABLE payment.%I'),
        ('LOCK TABLE payment.%I IN EXCLUSIVE MODE'), ('CREATE INDEX ON payment.%I ((1))'),
        ('CREATE RULE mine AS ON INSERT TO payment.%I DO INSTEAD NOTHING')) AS v (command)
    WHERE r.rolname LIKE 'payment\_%' AND c.relnamespace = 'payment'::regnamespace AND c.relkind IN ('r', 'p')
        AND pg_temp.as_role(r.rolname, format(v.command, c.relname)) <> '42501'
    $$, 'no role of ours changes a table, or what it is');
SELECT is_empty($$
    SELECT c.relname FROM pg_class c
    WHERE c.relnamespace = 'payment'::regnamespace AND c.relkind IN ('r', 'p', 'v')
        AND pg_temp.as_role('payment_nobody', format('SELECT FROM payment.%I', c.relname)) <> '42501'
    $$, 'others do not even read');

SELECT * FROM finish();
ROLLBACK;
