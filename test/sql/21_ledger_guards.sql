-- S65: nobody changes the ledger by hand, not even a superuser by accident.

CREATE FUNCTION pg_temp.error_of(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;

SELECT payment.open_account('guards_a', 'asset', 'USD') AS a, payment.open_account('guards_b', 'equity', 'USD') AS b \gset
SELECT payment.post_journal('test', ARRAY[:'a', :'b']::uuid[], '{100,-100}') AS journal \gset

-- every table, parent or partition, has its guard, always on
SELECT c.relname, t.tgenabled, p.proname, t.tgtype
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
WHERE c.relnamespace = 'payment'::regnamespace AND p.proname IN ('guard_ledger', 'guard_account')
ORDER BY c.relname;

-- as superuser
SELECT c, pg_temp.error_of(c) FROM unnest(ARRAY[
    'INSERT INTO payment.journal SELECT * FROM payment.journal LIMIT 1',
    'INSERT INTO payment.journal_default SELECT * FROM payment.journal LIMIT 1',
    'INSERT INTO payment.entry SELECT journal_id, 77, account_id, amount FROM payment.entry LIMIT 1',
    'INSERT INTO payment.entry_default SELECT journal_id, 77, account_id, amount FROM payment.entry LIMIT 1',
    'INSERT INTO payment.balance_slot SELECT account_id, slot + 1, 5 FROM payment.balance_slot LIMIT 1',
    'INSERT INTO payment.balance_slot SELECT account_id, slot, 5 FROM payment.balance_slot ON CONFLICT (account_id, slot) DO UPDATE SET balance = 0',
    'INSERT INTO payment.account SELECT payment.new_id(), ''raw'', NULL, ''USD'', ''asset''',
    'UPDATE payment.journal SET kind = ''other''',
    'UPDATE payment.journal_default SET kind = ''other''',
    'UPDATE payment.entry SET amount = amount + 1',
    'UPDATE payment.entry_default SET amount = amount + 1',
    'UPDATE payment.entry SET amount = amount WHERE false',
    'UPDATE payment.balance_slot SET balance = 0',
    'UPDATE payment.account SET code = ''stolen''',
    'UPDATE payment.account SET max_balance = NULL',
    'DELETE FROM payment.journal',
    'DELETE FROM payment.journal_default',
    'DELETE FROM payment.entry',
    'DELETE FROM payment.entry_default',
    'DELETE FROM payment.balance_slot',
    'DELETE FROM payment.account',
    'TRUNCATE payment.journal',
    'TRUNCATE payment.journal_default',
    'TRUNCATE payment.entry',
    'TRUNCATE payment.entry_default',
    'TRUNCATE payment.balance_slot',
    'TRUNCATE payment.account CASCADE',
    'MERGE INTO payment.balance_slot s USING (SELECT 1) x ON true WHEN MATCHED THEN UPDATE SET balance = 0',
    'WITH gone AS (DELETE FROM payment.entry RETURNING *) SELECT count(*) FROM gone'
]) c;
COPY payment.entry FROM stdin;
\.
COPY payment.balance_slot (account_id, slot, balance) FROM stdin;
\.

-- nor by pretending to be a replica
SET session_replication_role = replica;
SELECT c, pg_temp.error_of(c) FROM unnest(ARRAY[
    'UPDATE payment.entry SET amount = amount + 1',
    'DELETE FROM payment.journal_default',
    'TRUNCATE payment.balance_slot',
    'UPDATE payment.account SET state = ''open'''
]) c;
RESET session_replication_role;

-- nothing has changed
SELECT leg, amount FROM payment.entry WHERE journal_id = :'journal' ORDER BY leg;
SELECT payment.balance(:'a'), payment.balance(:'b');

-- an empty table of the extension takes one INSERT, as a restore does; a partition made later takes none
CREATE TABLE guarded (LIKE payment.entry) PARTITION BY RANGE (journal_id);
CREATE TABLE guarded_default PARTITION OF guarded DEFAULT;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON guarded
    FOR EACH STATEMENT EXECUTE FUNCTION payment.guard_ledger();
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON guarded_default
    FOR EACH STATEMENT EXECUTE FUNCTION payment.guard_ledger();
SELECT pg_temp.error_of('DELETE FROM guarded');
SELECT pg_temp.error_of('INSERT INTO guarded_default SELECT * FROM payment.entry LIMIT 2');
ALTER EXTENSION payment ADD TABLE guarded;
ALTER EXTENSION payment ADD TABLE guarded_default;
SELECT pg_temp.error_of('INSERT INTO guarded_default SELECT * FROM payment.entry LIMIT 2');
SELECT pg_temp.error_of('INSERT INTO guarded SELECT * FROM payment.entry LIMIT 2');
SELECT pg_temp.error_of('INSERT INTO guarded_default SELECT * FROM payment.entry LIMIT 2');
SELECT count(*) FROM guarded;
ALTER EXTENSION payment DROP TABLE guarded_default;
ALTER EXTENSION payment DROP TABLE guarded;

-- the functions are for their triggers only
SELECT pg_temp.error_of('SELECT payment.guard_ledger()');
CREATE TRIGGER wrong BEFORE INSERT ON guarded_default FOR EACH ROW EXECUTE FUNCTION payment.guard_ledger();
DROP TRIGGER guard ON guarded_default;
SELECT pg_temp.error_of('INSERT INTO guarded_default SELECT * FROM payment.entry LIMIT 2');
DROP TABLE guarded;

-- grants refuse first
CREATE ROLE guards_nobody;
GRANT USAGE ON SCHEMA payment TO guards_nobody;
CREATE FUNCTION pg_temp.as_role(role_name text, command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', role_name);
    result := pg_temp.error_of(command);
    RESET ROLE;
    RETURN result;
END
$$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pg_temp TO PUBLIC;
SELECT r, replace(replace(c, :'a', 'a'), :'b', 'b') AS command, left(pg_temp.as_role(r, c), 5) AS result
FROM unnest(ARRAY['guards_nobody', 'payment_app', 'payment_finance', 'payment_admin', 'payment_auditor', 'payment_worker']) r,
    unnest(ARRAY[
        'SELECT FROM payment.entry LIMIT 0',
        'SELECT FROM payment.ledger LIMIT 0',
        'DELETE FROM payment.entry',
        'UPDATE payment.balance_slot SET balance = 0',
        format('SELECT payment.post_journal(''test'', ARRAY[%L, %L]::uuid[], ''{1,-1}'')', :'a', :'b'),
        'SELECT payment.open_account(''guards_c'', ''asset'', ''XXX'')',
        format('SELECT payment.set_account_state(%L, ''gone'')', :'a'),
        format('SELECT payment.balance(%L)', :'a'),
        'SELECT payment.trial_balance() LIMIT 0',
        'SELECT payment.verify() LIMIT 0'
    ]) c
ORDER BY array_position(ARRAY['guards_nobody', 'payment_app', 'payment_finance', 'payment_admin', 'payment_auditor', 'payment_worker'], r), 2;
REVOKE ALL ON SCHEMA payment FROM guards_nobody;
DROP ROLE guards_nobody;

SELECT * FROM payment.verify();
