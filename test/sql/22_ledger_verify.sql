-- verify() finds what a superuser did behind the guards.

SELECT payment.open_account('verify_a', 'asset', 'USD') AS a, payment.open_account('verify_b', 'revenue', 'USD') AS b,
    payment.open_account('verify_c', 'liability', 'USD', NULL, NULL, 0) AS c,
    payment.open_account('verify_e', 'asset', 'EUR') AS e \gset
SELECT payment.post_journal('test', ARRAY[:'a', :'b', :'c']::uuid[], '{100,-10,-90}') AS journal \gset
SELECT payment.post_journal('test', ARRAY[:'a', :'b']::uuid[], '{50,-50}') AS journal2 \gset

PREPARE verify AS
    SELECT check_name,
        CASE object_id WHEN :'a' THEN 'a' WHEN :'b' THEN 'b' WHEN :'c' THEN 'c' WHEN :'e' THEN 'e'
            WHEN :'journal' THEN 'journal' WHEN :'journal2' THEN 'journal2' ELSE object_id::text END AS object,
        replace(detail, :'journal', 'journal') AS detail, expected, actual
    FROM payment.verify() ORDER BY 1, 2, 3;
EXECUTE verify;

-- one amount changed
BEGIN;
ALTER TABLE payment.entry_default DISABLE TRIGGER guard;
UPDATE payment.entry_default SET amount = 101 WHERE journal_id = :'journal' AND leg = 1;
EXECUTE verify;
ROLLBACK;

-- two amounts changed, so that the journal still balances
BEGIN;
ALTER TABLE payment.entry_default DISABLE TRIGGER guard;
UPDATE payment.entry_default SET amount = amount + 5 * sign(amount)::int WHERE journal_id = :'journal2';
EXECUTE verify;
ROLLBACK;

-- an entry moved to another account
BEGIN;
ALTER TABLE payment.entry_default DISABLE TRIGGER guard;
UPDATE payment.entry_default SET account_id = :'c' WHERE journal_id = :'journal2' AND leg = 2;
EXECUTE verify;
ROLLBACK;

-- ... of another currency
BEGIN;
ALTER TABLE payment.entry_default DISABLE TRIGGER guard;
UPDATE payment.entry_default SET account_id = :'e' WHERE journal_id = :'journal2' AND leg = 2;
EXECUTE verify;
ROLLBACK;

-- an entry removed, a leg that is missing in the middle, all removed
BEGIN;
ALTER TABLE payment.entry_default DISABLE TRIGGER guard;
DELETE FROM payment.entry_default WHERE journal_id = :'journal' AND leg = 2;
EXECUTE verify;
DELETE FROM payment.entry_default WHERE journal_id = :'journal';
EXECUTE verify;
ROLLBACK;

-- a journal removed
BEGIN;
ALTER TABLE payment.journal_default DISABLE TRIGGER guard;
DELETE FROM payment.journal_default WHERE id = :'journal2';
EXECUTE verify;
ROLLBACK;

-- an account removed
BEGIN;
ALTER TABLE payment.account DISABLE TRIGGER guard;
DELETE FROM payment.account WHERE id = :'c';
EXECUTE verify;
ROLLBACK;

-- an entry of zero added
BEGIN;
ALTER TABLE payment.entry_default DISABLE TRIGGER guard;
INSERT INTO payment.entry_default VALUES (:'journal2', 3, :'a', 0);
EXECUTE verify;
ROLLBACK;

-- a balance changed, a slot added, a slot removed
BEGIN;
ALTER TABLE payment.balance_slot DISABLE TRIGGER guard;
UPDATE payment.balance_slot SET balance = balance + 1 WHERE account_id = :'a';
INSERT INTO payment.balance_slot VALUES (:'e', 1, 7), ('00000000-0000-7000-8000-000000000000', 1, 0);
DELETE FROM payment.balance_slot WHERE account_id = :'b';
EXECUTE verify;
ROLLBACK;

-- a limit that the balance is past, on either side; a closed account with money
BEGIN;
ALTER TABLE payment.account DISABLE TRIGGER guard;
UPDATE payment.account SET max_balance = 149 WHERE id = :'a';
UPDATE payment.account SET min_balance = -59 WHERE id = :'b';
UPDATE payment.account SET state = 'closed' WHERE id = :'c';
EXECUTE verify;
ROLLBACK;

-- orders and payouts that the ledger does not bear out
BEGIN;
ALTER TABLE payment.order_record_default DISABLE TRIGGER ALL;
ALTER TABLE payment.payout_record_default DISABLE TRIGGER ALL;
INSERT INTO payment.order_record_default (id, payment_id, seller_id, psp_id, amount, currency, platform_fee,
    captured_amount, status, released_at, updated_at)
SELECT ('00000000-0000-7000-8000-00000000000' || n)::uuid, '00000000-0000-7000-8000-000000000000',
    '00000000-0000-7000-8000-000000000000', '00000000-0000-7000-8000-000000000000', 100, 'USD', 10, captured, status, released, now()
FROM (VALUES (1, 100, 'captured', NULL::timestamptz), (2, 0, 'created', NULL), (3, 0, 'captured', now())) o(n, captured, status, released);
INSERT INTO payment.payout_record_default (id, seller_id, psp_id, amount, currency, destination, status, requested_by, updated_at)
SELECT ('00000000-0000-7000-8000-0000000000a' || n)::uuid, '00000000-0000-7000-8000-000000000000',
    '00000000-0000-7000-8000-000000000000', 70, 'USD', 'bank', status, 'me', now()
FROM (VALUES (1, 'created'), (2, 'submitting'), (3, 'paid'), (4, 'failed'), (5, 'cancelled')) p(n, status);
EXECUTE verify;

-- journals of the right kinds, written by hand, satisfy some and break others
ALTER TABLE payment.journal_default DISABLE TRIGGER guard;
ALTER TABLE payment.entry_default DISABLE TRIGGER guard;
SELECT payment.open_account('psp_receivable', 'asset', 'USD', payment.new_id()) AS receivable,
    payment.open_account('payout_clearing', 'liability', 'USD', payment.new_id()) AS clearing,
    payment.open_account('verify_f', 'asset', 'USD') AS f \gset
CREATE FUNCTION pg_temp.plant(n int, kind text, subject text, account uuid, amount bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO payment.journal_default
        VALUES (('00000000-0000-7000-8000-0000000000b' || n)::uuid, kind, subject::uuid, NULL, now(), now());
    INSERT INTO payment.entry_default
        VALUES (('00000000-0000-7000-8000-0000000000b' || n)::uuid, 1, account, amount),
            (('00000000-0000-7000-8000-0000000000b' || n)::uuid, 2, (SELECT id FROM payment.account WHERE code = 'verify_f'), -amount);
$$;
SELECT pg_temp.plant(1, 'capture', '00000000-0000-7000-8000-000000000001', :'receivable', 90),
    pg_temp.plant(2, 'capture', '00000000-0000-7000-8000-000000000001', :'receivable', 10),
    pg_temp.plant(3, 'capture', '00000000-0000-7000-8000-0000000000ff', :'receivable', 10),
    pg_temp.plant(4, 'release', '00000000-0000-7000-8000-000000000003', :'a', 1),
    pg_temp.plant(5, 'release', '00000000-0000-7000-8000-000000000002', :'a', 1),
    pg_temp.plant(6, 'payout', '00000000-0000-7000-8000-0000000000a2', :'clearing', -70),
    pg_temp.plant(7, 'payout', '00000000-0000-7000-8000-0000000000a3', :'clearing', -71),
    pg_temp.plant(8, 'payout_paid', '00000000-0000-7000-8000-0000000000a1', :'clearing', 70),
    pg_temp.plant(9, 'payout', '00000000-0000-7000-8000-0000000000ff', :'clearing', -70);
SELECT check_name, object_id, detail, expected, actual FROM payment.verify()
WHERE check_name NOT IN ('balance') ORDER BY 1, 2, 3;
ROLLBACK;

EXECUTE verify;
