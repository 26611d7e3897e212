/* payment--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION payment" to load this file. \quit

-- ---------------------------------------------------------------------------
-- Roles.  Cluster-wide, so they may be there already and they outlive the
-- extension.
-- ---------------------------------------------------------------------------

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['payment_app', 'payment_finance',
        'payment_admin', 'payment_auditor', 'payment_worker',
        'payment_gateway']
    LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = name) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', name);
        END IF;
    END LOOP;
END
$$;

GRANT USAGE ON SCHEMA payment TO payment_app, payment_finance, payment_admin,
    payment_auditor, payment_worker, payment_gateway;

-- ---------------------------------------------------------------------------
-- src/: ids and money
-- ---------------------------------------------------------------------------

CREATE FUNCTION payment.new_id() RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'payment_new_id';
COMMENT ON FUNCTION payment.new_id() IS
    'A new id: a UUIDv7 that holds the time and payment.shard_id. Those of one session ascend strictly.';

CREATE FUNCTION payment.id_time(id uuid) RETURNS timestamptz
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'payment_id_time';
COMMENT ON FUNCTION payment.id_time(uuid) IS
    'When an id was made, to the microsecond. Errors: PY001 when it is not of version 7.';

CREATE FUNCTION payment.id_floor(at timestamptz) RETURNS uuid
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'payment_id_floor';
COMMENT ON FUNCTION payment.id_floor(timestamptz) IS
    'The smallest id of that instant. With id >= payment.id_floor(…) a query reads only the partitions of since then.';

CREATE FUNCTION payment.id_shard(id uuid) RETURNS integer
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'payment_id_shard';
COMMENT ON FUNCTION payment.id_shard(uuid) IS
    'The shard (0 to 4095) on which an id was made. Errors: PY001 when it is not of version 7.';

CREATE FUNCTION payment.currency_exponent(currency text) RETURNS integer
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'payment_currency_exponent';
COMMENT ON FUNCTION payment.currency_exponent(text) IS
    'Decimals of an ISO 4217 currency: 0, 2, 3 or 4. Errors: PY001, PY002.';

CREATE FUNCTION payment.format_money(amount bigint, currency text) RETURNS text
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'payment_format_money';
COMMENT ON FUNCTION payment.format_money(bigint, text) IS
    'Minor units as major units for people: (1234, USD) is 12.34. Errors: PY001, PY002.';

CREATE FUNCTION payment.parse_money(amount text, currency text) RETURNS bigint
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'payment_parse_money';
COMMENT ON FUNCTION payment.parse_money(text, text) IS
    'Major units with a decimal point as minor units: (12.34, USD) is 1234. Never rounds. Errors: PY001, PY002, PY003 (not an amount, or too many decimals), PY004.';

CREATE FUNCTION payment.split_money(amount bigint, weights bigint[]) RETURNS bigint[]
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'payment_split_money';
COMMENT ON FUNCTION payment.split_money(bigint, bigint[]) IS
    'Split minor units by weights into parts that sum to the amount: each part half-even, the last one with a weight takes the remainder. Errors: PY001, PY006.';

CREATE FUNCTION payment.refund_fee_share(amount bigint, platform_fee bigint, refunded bigint, fee_returned bigint, refund bigint,
    policy text DEFAULT 'proportional') RETURNS bigint
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'payment_refund_fee_share';
COMMENT ON FUNCTION payment.refund_fee_share(bigint, bigint, bigint, bigint, bigint, text) IS
    'What of an order''s platform_fee goes back with one more refund, in minor units. amount: the order''s; refunded and '
    'fee_returned: what of amount and fee went back before. policy: proportional, or none: the platform keeps its fee. Refunds '
    'that sum to the amount return the fee exactly, in any parts and order; no share is negative or above its refund. '
    'Errors: PY001, PY003.';

GRANT EXECUTE ON FUNCTION payment.new_id(), payment.id_time(uuid), payment.id_floor(timestamptz), payment.id_shard(uuid),
    payment.currency_exponent(text), payment.format_money(bigint, text), payment.parse_money(text, text),
    payment.split_money(bigint, bigint[]), payment.refund_fee_share(bigint, bigint, bigint, bigint, bigint, text)
    TO payment_app, payment_finance, payment_admin, payment_auditor, payment_worker;

-- ---------------------------------------------------------------------------
-- src/ledger: accounts, journals, entries, balances
-- ---------------------------------------------------------------------------

CREATE TABLE payment.account (
    id uuid NOT NULL PRIMARY KEY,
    code text NOT NULL,
    owner uuid,
    currency text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('asset', 'liability', 'equity', 'revenue', 'expense', 'memo')),
    min_balance bigint,
    max_balance bigint,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'frozen', 'closed')),
    UNIQUE NULLS NOT DISTINCT (code, owner, currency)
);

-- Parents of partitions carry no key and no index: a restore attaches
-- run-time partitions before it would build them.
CREATE TABLE payment.journal (
    id uuid NOT NULL,
    kind text NOT NULL,
    subject uuid,
    reverses uuid,
    effective_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    description text
) PARTITION BY RANGE (id);

CREATE TABLE payment.journal_default PARTITION OF payment.journal (
    PRIMARY KEY (id)
) DEFAULT;

CREATE INDEX journal_default_subject_idx ON payment.journal_default (subject);

CREATE TABLE payment.entry (
    journal_id uuid NOT NULL,
    leg smallint NOT NULL,
    account_id uuid NOT NULL,
    amount bigint NOT NULL
) PARTITION BY RANGE (journal_id);

CREATE TABLE payment.entry_default PARTITION OF payment.entry (
    PRIMARY KEY (journal_id, leg)
) DEFAULT;

CREATE INDEX entry_default_account_idx ON payment.entry_default (account_id, journal_id);

-- The balance of an account is the sum of its slots; slot is the full
-- transaction id that added it, so that no two transactions add the same.
CREATE TABLE payment.balance_slot (
    account_id uuid NOT NULL,
    slot bigint NOT NULL,
    balance bigint NOT NULL,
    PRIMARY KEY (account_id, slot)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);

CREATE TABLE payment.hold (
    id uuid NOT NULL PRIMARY KEY,
    account_id uuid NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    posted bigint NOT NULL DEFAULT 0,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'posted', 'voided', 'expired')),
    expires_at timestamptz,
    closed_at timestamptz,
    subject uuid,
    description text,
    CHECK (posted BETWEEN 0 AND amount)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

-- Read by every posting towards a limit; few accounts are in it.
CREATE INDEX hold_open_idx ON payment.hold (account_id) WHERE state = 'open';
CREATE INDEX hold_expires_idx ON payment.hold (expires_at) WHERE state = 'open' AND expires_at IS NOT NULL;

-- What reversals of a journal lock; a journal itself is never written again.
CREATE TABLE payment.reversal (
    journal_id uuid NOT NULL PRIMARY KEY,
    reversals uuid[] NOT NULL
) WITH (fillfactor = 80);

-- What was detached: its balances stay, so that all balances can be
-- recomputed from here and the entries that are left.
CREATE TABLE payment.detached_partition (
    parent text NOT NULL,
    partition text NOT NULL,
    from_id uuid NOT NULL,
    until_id uuid NOT NULL,
    row_count bigint NOT NULL,
    last_effective_at timestamptz,
    detached_at timestamptz NOT NULL,
    detached_by text NOT NULL,
    PRIMARY KEY (parent, from_id)
);

CREATE TABLE payment.detached_balance (
    account_id uuid NOT NULL,
    from_id uuid NOT NULL,
    amount bigint NOT NULL,
    PRIMARY KEY (account_id, from_id)
);

COMMENT ON TABLE payment.detached_partition IS
    'Partitions that payment.detach_partitions() took out of their tables. Append-only.';
COMMENT ON COLUMN payment.detached_partition.parent IS 'The table.';
COMMENT ON COLUMN payment.detached_partition.partition IS 'What the partition was called.';
COMMENT ON COLUMN payment.detached_partition.from_id IS 'Its first id.';
COMMENT ON COLUMN payment.detached_partition.until_id IS 'The first id after it.';
COMMENT ON COLUMN payment.detached_partition.row_count IS 'Rows that it had.';
COMMENT ON COLUMN payment.detached_partition.last_effective_at IS 'The latest effective_at of its journals; null for other tables.';
COMMENT ON COLUMN payment.detached_partition.detached_at IS 'When it was detached.';
COMMENT ON COLUMN payment.detached_partition.detached_by IS 'The role that was logged in.';

COMMENT ON TABLE payment.detached_balance IS
    'What detached entries sum to. Part of each account''s balance. Append-only.';
COMMENT ON COLUMN payment.detached_balance.account_id IS 'The account.';
COMMENT ON COLUMN payment.detached_balance.from_id IS 'The partition of entries, as in payment.detached_partition.';
COMMENT ON COLUMN payment.detached_balance.amount IS 'Minor units, debits positive.';

COMMENT ON TABLE payment.account IS
    'Accounts of the ledger. Opened on demand for the chart of accounts, or by open_account.';
COMMENT ON COLUMN payment.account.id IS 'UUIDv7.';
COMMENT ON COLUMN payment.account.code IS 'What the account is for, such as seller_available. Never changes.';
COMMENT ON COLUMN payment.account.owner IS 'The PSP or seller whose account it is; null for the platform''s own. Never changes.';
COMMENT ON COLUMN payment.account.currency IS 'ISO 4217 code. Never changes.';
COMMENT ON COLUMN payment.account.kind IS 'asset, liability, equity, revenue, expense or memo.';
COMMENT ON COLUMN payment.account.min_balance IS 'No posting takes the balance (minor units, debits positive) below this; null: no limit.';
COMMENT ON COLUMN payment.account.max_balance IS 'No posting takes the balance (minor units, debits positive) above this; null: no limit.';
COMMENT ON COLUMN payment.account.state IS 'open; frozen or closed refuse postings, closed has a balance of zero.';

COMMENT ON TABLE payment.journal IS
    'One posting: entries that sum to zero in each currency. Append-only; partitioned by id, which holds the time.';
COMMENT ON COLUMN payment.journal.id IS 'UUIDv7.';
COMMENT ON COLUMN payment.journal.kind IS 'What happened: capture, release, payout, ...';
COMMENT ON COLUMN payment.journal.subject IS 'The order, payout or file that it belongs to.';
COMMENT ON COLUMN payment.journal.reverses IS 'The journal that this one takes back, in whole or in part.';
COMMENT ON COLUMN payment.journal.effective_at IS 'When it happened.';
COMMENT ON COLUMN payment.journal.recorded_at IS 'When it was posted.';
COMMENT ON COLUMN payment.journal.description IS 'For people.';
COMMENT ON TABLE payment.journal_default IS 'Journals for which no partition was made.';

COMMENT ON TABLE payment.entry IS
    'The legs of journals. Append-only; partitioned by journal.';
COMMENT ON COLUMN payment.entry.journal_id IS 'The journal.';
COMMENT ON COLUMN payment.entry.leg IS 'Number within the journal, from 1.';
COMMENT ON COLUMN payment.entry.account_id IS 'The account.';
COMMENT ON COLUMN payment.entry.amount IS 'Minor units of the account''s currency; debit positive, credit negative, never zero.';
COMMENT ON TABLE payment.entry_default IS 'Entries for which no partition was made.';

COMMENT ON TABLE payment.balance_slot IS
    'The balance of an account is the sum of its slots; payment.balance() gives it. A transaction that posted may see old and new versions here.';
COMMENT ON COLUMN payment.balance_slot.account_id IS 'The account.';
COMMENT ON COLUMN payment.balance_slot.slot IS 'Number of the transaction that added the slot.';
COMMENT ON COLUMN payment.balance_slot.balance IS 'Minor units, debits positive.';

COMMENT ON TABLE payment.hold IS
    'Amounts reserved on accounts for postings to come: credits of an asset, debits of a liability. Changed by functions only.';
COMMENT ON COLUMN payment.hold.id IS 'UUIDv7; holds the time it was made.';
COMMENT ON COLUMN payment.hold.account_id IS 'The account.';
COMMENT ON COLUMN payment.hold.amount IS 'Minor units of the account''s currency, above zero.';
COMMENT ON COLUMN payment.hold.posted IS 'How much of it was posted, by journals of kind hold_posted with the hold as subject.';
COMMENT ON COLUMN payment.hold.state IS 'open; posted: in full, or the rest was set free with the last part; voided or expired: what was not posted is free.';
COMMENT ON COLUMN payment.hold.expires_at IS 'From then on it neither counts nor can be posted, even while its state is still open; null: never.';
COMMENT ON COLUMN payment.hold.closed_at IS 'When it ceased to be open.';
COMMENT ON COLUMN payment.hold.subject IS 'What it is for: an order, a payout, an object of yours.';
COMMENT ON COLUMN payment.hold.description IS 'For people.';

COMMENT ON TABLE payment.reversal IS 'Journals that were reversed, in whole or in part. Changed by reverse_journal only.';
COMMENT ON COLUMN payment.reversal.journal_id IS 'The original.';
COMMENT ON COLUMN payment.reversal.reversals IS 'The journals that reverse it, in order.';

CREATE TYPE payment.account_balance AS (
    posted bigint,
    pending bigint,
    available bigint
);
COMMENT ON TYPE payment.account_balance IS
    'Minor units on the side that is normal for the kind of account: debits less credits for asset, expense and memo, credits less debits for the others.';
COMMENT ON COLUMN payment.account_balance.posted IS 'Sum of the entries.';
COMMENT ON COLUMN payment.account_balance.pending IS 'Held for postings to come: open holds, without those whose time is over.';
COMMENT ON COLUMN payment.account_balance.available IS 'posted less what is held.';

-- Postings do not come by here: they are written below the level of triggers.
CREATE FUNCTION payment.guard_ledger() RETURNS trigger
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'payment_guard_ledger';
COMMENT ON FUNCTION payment.guard_ledger() IS
    'Trigger that refuses writes to the ledger by hand (PY203); INSERT into an empty table passes, for restores.';

CREATE FUNCTION payment.guard_account() RETURNS trigger
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'payment_guard_account';
COMMENT ON FUNCTION payment.guard_account() IS
    'Trigger that refuses writes to account by hand (PY203); INSERT into an empty table passes, for restores.';

CREATE FUNCTION payment.guard_record() RETURNS trigger
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'payment_guard_record';
COMMENT ON FUNCTION payment.guard_record() IS
    'Trigger that refuses writes to hold and reversal by hand (PY203); INSERT into an empty table passes, for restores.';

CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON payment.hold
    FOR EACH STATEMENT EXECUTE FUNCTION payment.guard_record();
ALTER TABLE payment.hold ENABLE ALWAYS TRIGGER guard;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON payment.reversal
    FOR EACH STATEMENT EXECUTE FUNCTION payment.guard_record();
ALTER TABLE payment.reversal ENABLE ALWAYS TRIGGER guard;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON payment.account
    FOR EACH STATEMENT EXECUTE FUNCTION payment.guard_account();
ALTER TABLE payment.account ENABLE ALWAYS TRIGGER guard;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON payment.journal
    FOR EACH STATEMENT EXECUTE FUNCTION payment.guard_ledger();
ALTER TABLE payment.journal ENABLE ALWAYS TRIGGER guard;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON payment.journal_default
    FOR EACH STATEMENT EXECUTE FUNCTION payment.guard_ledger();
ALTER TABLE payment.journal_default ENABLE ALWAYS TRIGGER guard;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON payment.entry
    FOR EACH STATEMENT EXECUTE FUNCTION payment.guard_ledger();
ALTER TABLE payment.entry ENABLE ALWAYS TRIGGER guard;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON payment.entry_default
    FOR EACH STATEMENT EXECUTE FUNCTION payment.guard_ledger();
ALTER TABLE payment.entry_default ENABLE ALWAYS TRIGGER guard;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON payment.balance_slot
    FOR EACH STATEMENT EXECUTE FUNCTION payment.guard_ledger();
ALTER TABLE payment.balance_slot ENABLE ALWAYS TRIGGER guard;

CREATE FUNCTION payment.open_account(code text, kind text, currency text, owner uuid DEFAULT NULL,
    min_balance bigint DEFAULT NULL, max_balance bigint DEFAULT NULL) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_open_account';
COMMENT ON FUNCTION payment.open_account(text, text, text, uuid, bigint, bigint) IS
    'Open an account; limits in minor units, debits positive. Accounts of the chart get its limits. Returns the id. Errors: PY001, PY002, PY205.';

CREATE FUNCTION payment.set_account_state(account uuid, state text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_set_account_state';
COMMENT ON FUNCTION payment.set_account_state(uuid, text) IS
    'Open, freeze or close an account; waits for postings under way. Errors: PY001, PY204, PY303 (closing with a balance).';

CREATE FUNCTION payment.set_account_limits(account uuid, min_balance bigint, max_balance bigint) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_set_account_limits';
COMMENT ON FUNCTION payment.set_account_limits(uuid, bigint, bigint) IS
    'Change both limits of an account (minor units, debits positive; null: none); waits for postings under way. Errors: PY001, PY202 when the present balance is past them, PY204.';

-- The only writer that runs as its caller: it runs no SQL, so there is nothing
-- that a privilege or a search_path could change; see journal_api.c.
CREATE FUNCTION payment.post_journal(kind text, accounts uuid[], amounts bigint[], subject uuid DEFAULT NULL,
    effective_at timestamptz DEFAULT NULL, description text DEFAULT NULL) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'payment_post_journal';
COMMENT ON FUNCTION payment.post_journal(text, uuid[], bigint[], uuid, timestamptz, text) IS
    'Post one journal: minor units for each account, debits positive, credits negative, zero in sum per currency. Returns its id; post_journals also returns balances. Errors: PY001, PY003, PY004, PY005, PY006, PY200, PY201, PY202, PY204; 40001 when an account is changed meanwhile.';

CREATE TYPE payment.posting AS (
    journal_ids uuid[],
    account_ids uuid[],
    balances bigint[]
);
COMMENT ON TYPE payment.posting IS 'What was posted, and what it led to.';
COMMENT ON COLUMN payment.posting.journal_ids IS 'The journals, in the order of the call.';
COMMENT ON COLUMN payment.posting.account_ids IS 'The accounts that they move, each once, ascending.';
COMMENT ON COLUMN payment.posting.balances IS 'Balance of each of these accounts after the posting, as posted of payment.account_balance.';

CREATE FUNCTION payment.post_journals(kinds text[], journals integer[], accounts uuid[], amounts bigint[],
    subjects uuid[] DEFAULT NULL, effective_ats timestamptz[] DEFAULT NULL, descriptions text[] DEFAULT NULL,
    idempotency_key text DEFAULT NULL, return_balances boolean DEFAULT true) RETURNS payment.posting
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_post_journals';
COMMENT ON FUNCTION payment.post_journals(text[], integer[], uuid[], bigint[], uuid[], timestamptz[], text[], text, boolean) IS
    'Post many journals at once, all or none: kinds, subjects, effective_ats and descriptions have one element for each journal; journals (its number, from 1, ascending), accounts and amounts one for each leg. Limits are checked after all of them. A repeated idempotency_key returns the first call''s journals and the balances of now. Errors: as of post_journal; PY100.';

CREATE FUNCTION payment.lock_accounts(accounts uuid[]) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_lock_accounts';
COMMENT ON FUNCTION payment.lock_accounts(uuid[]) IS
    'Lock accounts until the end of the transaction, in ascending order of id: for a transaction that posts several times towards limits, so that it cannot deadlock with another. Errors: PY001, PY006, PY204.';

CREATE FUNCTION payment.create_hold(account uuid, amount bigint, idempotency_key text DEFAULT NULL,
    subject uuid DEFAULT NULL, expires_at timestamptz DEFAULT NULL, description text DEFAULT NULL) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_create_hold';
COMMENT ON FUNCTION payment.create_hold(uuid, bigint, text, uuid, timestamptz, text) IS
    'Reserve an amount (minor units, above zero) of an account for postings to come: it counts towards the limit, and as pending in balance(). Returns the hold''s id. Errors: PY001, PY003, PY005, PY006, PY100, PY201, PY202, PY204.';

CREATE FUNCTION payment.post_hold(hold uuid, accounts uuid[], amounts bigint[] DEFAULT NULL,
    close boolean DEFAULT false, idempotency_key text DEFAULT NULL, effective_at timestamptz DEFAULT NULL,
    description text DEFAULT NULL) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_post_hold';
COMMENT ON FUNCTION payment.post_hold(uuid, uuid[], bigint[], boolean, text, timestamptz, text) IS
    'Post all or part of a hold to other accounts (minor units, debits positive; the held account''s own leg is added; without amounts all the rest goes to the one account). close sets what is left free. Returns the journal''s id. Errors: PY001, PY003, PY005, PY006, PY012, PY100, PY200, PY201, PY202, PY204, PY206 (no longer open), PY207 (more than is left); 40001 when it changes meanwhile.';

CREATE FUNCTION payment.void_hold(hold uuid) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_void_hold';
COMMENT ON FUNCTION payment.void_hold(uuid) IS
    'Set free what is left of a hold; returns how much (minor units), 0 when it is voided already. Errors: PY001, PY012, PY206 (posted or expired); 40001 when it changes meanwhile.';

CREATE FUNCTION payment.expire_holds(max_holds integer) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_expire_holds';
COMMENT ON FUNCTION payment.expire_holds(integer) IS
    'Mark at most max_holds (1 to 100000) holds expired whose time is over; returns how many. They count no longer in any case. Waits for nobody. The worker calls it. Errors: PY001.';

-- Joins by key only: see src/ledger/reversal.c.
CREATE FUNCTION payment.reverse_journal(journal uuid, amount bigint DEFAULT NULL, accounts uuid[] DEFAULT NULL,
    amounts bigint[] DEFAULT NULL, idempotency_key text DEFAULT NULL, effective_at timestamptz DEFAULT NULL,
    description text DEFAULT NULL) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
    AS 'MODULE_PATHNAME', 'payment_reverse_journal';
COMMENT ON FUNCTION payment.reverse_journal(uuid, bigint, uuid[], bigint[], text, timestamptz, text) IS
    'Take back what is left of a journal, or a part of it: an amount (minor units) of all its debits and credits alike, or accounts and amounts (debits positive) that each go against what is left. Returns the id of the reversing journal. Errors: PY001, PY003, PY005, PY006, PY012, PY100, PY200, PY201, PY202, PY208 (more than is left), PY209 (a reversal itself, or some were detached); 40001 when another transaction reverses it meanwhile.';

CREATE FUNCTION payment.balance(account uuid) RETURNS payment.account_balance
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_balance';
COMMENT ON FUNCTION payment.balance(uuid) IS
    'Balance of an account as of now, at every isolation level. Errors: PY001, PY204.';

-- Stable for the length of a query: see src/ledger/balance.c.
CREATE FUNCTION payment.latest_balance(account uuid, kind text) RETURNS payment.account_balance
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE COST 10
    AS 'MODULE_PATHNAME', 'payment_latest_balance';
COMMENT ON FUNCTION payment.latest_balance(uuid, text) IS
    'For payment.wallet: as payment.balance(), for many accounts in one query, all as of the same moment. kind: that of the account.';

CREATE FUNCTION payment.statement(account uuid, from_time timestamptz DEFAULT '-infinity',
    until_time timestamptz DEFAULT 'infinity', after_journal uuid DEFAULT NULL, after_leg integer DEFAULT NULL,
    page_size integer DEFAULT 1000)
    RETURNS TABLE (line text, journal_id uuid, leg integer, kind text, subject uuid, effective_at timestamptz,
        recorded_at timestamptz, description text, debit bigint, credit bigint, balance bigint)
    LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1000
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_statement';
COMMENT ON FUNCTION payment.statement(uuid, timestamptz, timestamptz, uuid, integer, integer) IS
    'Entries of an account that were recorded from from_time until (not at) until_time, in the order of their journals'' ids: a line opening, a line entry for each (at most page_size, 1 to 10000), a line closing. balance is that after the line, on the side that is normal for the account; the others are minor units too. Where more entries follow, the closing line has journal_id and leg: pass them as after_journal and after_leg for the next page. What was detached is part of the opening balance. Errors: PY001, PY204.';

CREATE FUNCTION payment.balance_as_of(account uuid, effective_at timestamptz) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_balance_as_of';
COMMENT ON FUNCTION payment.balance_as_of(uuid, timestamptz) IS
    'Sum of what took effect on an account until then (inclusive), whenever it was recorded: minor units on the side that is normal for the account. Reads all its entries. Errors: PY001, PY204, PY221 when journals of that time were detached.';

CREATE FUNCTION payment.trial_balance(OUT code text, OUT kind text, OUT currency text, OUT debit numeric,
    OUT credit numeric) RETURNS SETOF record
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_trial_balance';
COMMENT ON FUNCTION payment.trial_balance() IS
    'Balances of all accounts, as of now, by code and currency: minor units of those with a debit balance and of those with a credit balance. Both columns have the same sum in each currency.';

CREATE FUNCTION payment.verify(OUT check_name text, OUT object_id uuid, OUT detail text, OUT expected numeric,
    OUT actual numeric) RETURNS SETOF record
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_verify';
COMMENT ON FUNCTION payment.verify() IS
    'Recompute the ledger from its entries, and compare orders and payouts with it. One row for each thing that is wrong; none when all is well. Amounts in minor units.';

CREATE FUNCTION payment.merge_balance_slots(max_accounts integer) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_merge_balance_slots';
COMMENT ON FUNCTION payment.merge_balance_slots(integer) IS
    'Put the balance slots of at most max_accounts (1 to 100000) quiet accounts together; returns how many accounts that were. Waits for nobody; looks at 100 slots for each account at most, from where the session''s last call stopped. The worker calls it every minute. Errors: PY001.';

CREATE VIEW payment.ledger AS
    SELECT e.journal_id, e.leg, j.kind, j.subject, j.effective_at, j.recorded_at,
        e.account_id, a.code, a.owner, a.currency,
        CASE WHEN e.amount > 0 THEN e.amount END AS debit,
        CASE WHEN e.amount < 0 THEN -e.amount END AS credit,
        j.description
    FROM payment.entry e
    JOIN payment.journal j ON j.id = e.journal_id
    JOIN payment.account a ON a.id = e.account_id;
COMMENT ON VIEW payment.ledger IS 'Entries for people, with debit and credit columns in minor units.';
COMMENT ON COLUMN payment.ledger.journal_id IS 'The journal.';
COMMENT ON COLUMN payment.ledger.leg IS 'Number of the entry within the journal, from 1.';
COMMENT ON COLUMN payment.ledger.kind IS 'Kind of the journal.';
COMMENT ON COLUMN payment.ledger.subject IS 'The order, payout or file that the journal belongs to.';
COMMENT ON COLUMN payment.ledger.effective_at IS 'When it happened.';
COMMENT ON COLUMN payment.ledger.recorded_at IS 'When it was posted.';
COMMENT ON COLUMN payment.ledger.account_id IS 'The account.';
COMMENT ON COLUMN payment.ledger.code IS 'What the account is for.';
COMMENT ON COLUMN payment.ledger.owner IS 'The PSP or seller whose account it is.';
COMMENT ON COLUMN payment.ledger.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN payment.ledger.debit IS 'Minor units, or null.';
COMMENT ON COLUMN payment.ledger.credit IS 'Minor units, or null.';
COMMENT ON COLUMN payment.ledger.description IS 'For people.';

GRANT SELECT ON payment.account, payment.journal, payment.entry, payment.balance_slot, payment.hold, payment.reversal,
    payment.ledger,
    payment.detached_partition, payment.detached_balance
    TO payment_finance, payment_auditor;
GRANT EXECUTE ON FUNCTION payment.open_account(text, text, text, uuid, bigint, bigint),
    payment.set_account_state(uuid, text), payment.set_account_limits(uuid, bigint, bigint)
    TO payment_admin;
GRANT EXECUTE ON FUNCTION payment.post_journal(text, uuid[], bigint[], uuid, timestamptz, text),
    payment.post_journals(text[], integer[], uuid[], bigint[], uuid[], timestamptz[], text[], text, boolean),
    payment.lock_accounts(uuid[]), payment.create_hold(uuid, bigint, text, uuid, timestamptz, text),
    payment.post_hold(uuid, uuid[], bigint[], boolean, text, timestamptz, text), payment.void_hold(uuid),
    payment.reverse_journal(uuid, bigint, uuid[], bigint[], text, timestamptz, text)
    TO payment_finance;
GRANT EXECUTE ON FUNCTION payment.expire_holds(integer) TO payment_finance, payment_admin, payment_worker;
GRANT EXECUTE ON FUNCTION payment.merge_balance_slots(integer) TO payment_admin, payment_worker;
GRANT EXECUTE ON FUNCTION payment.latest_balance(uuid, text)
    TO payment_app, payment_finance, payment_admin, payment_auditor;
GRANT EXECUTE ON FUNCTION payment.balance(uuid), payment.trial_balance(), payment.verify(), payment.balance_as_of(uuid, timestamptz),
    payment.statement(uuid, timestamptz, timestamptz, uuid, integer, integer)
    TO payment_finance, payment_admin, payment_auditor;

-- ---------------------------------------------------------------------------
-- src/order: PSPs, sellers, payments, orders, payouts and their dispatch
-- ---------------------------------------------------------------------------

CREATE TABLE payment.psp (
    id uuid NOT NULL PRIMARY KEY,
    name text NOT NULL UNIQUE,
    adapter text NOT NULL,
    base_url text NOT NULL,
    secret_name text NOT NULL,
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused')),
    payouts boolean NOT NULL DEFAULT true,
    max_in_flight integer NOT NULL DEFAULT 32 CHECK (max_in_flight BETWEEN 1 AND 1024),
    requests_per_second integer NOT NULL DEFAULT 80 CHECK (requests_per_second BETWEEN 1 AND 100000),
    connect_timeout_ms integer NOT NULL DEFAULT 5000 CHECK (connect_timeout_ms BETWEEN 1 AND 600000),
    timeout_ms integer NOT NULL DEFAULT 30000 CHECK (timeout_ms BETWEEN 1 AND 600000),
    max_attempts integer NOT NULL DEFAULT 20 CHECK (max_attempts BETWEEN 1 AND 1000),
    backoff_base_ms integer NOT NULL DEFAULT 500 CHECK (backoff_base_ms BETWEEN 1 AND 3600000),
    backoff_max_ms integer NOT NULL DEFAULT 300000 CHECK (backoff_max_ms BETWEEN 1 AND 86400000),
    lookup_delay_ms integer NOT NULL DEFAULT 1000 CHECK (lookup_delay_ms BETWEEN 0 AND 3600000),
    poll_interval_ms integer NOT NULL DEFAULT 30000 CHECK (poll_interval_ms BETWEEN 1 AND 86400000),
    key_lifetime_s integer NOT NULL DEFAULT 82800 CHECK (key_lifetime_s BETWEEN 1 AND 7776000),
    retry_after_max_ms integer NOT NULL DEFAULT 300000 CHECK (retry_after_max_ms BETWEEN 0 AND 86400000),
    breaker_failures integer NOT NULL DEFAULT 10 CHECK (breaker_failures BETWEEN 0 AND 10000),
    breaker_failure_percent integer NOT NULL DEFAULT 50 CHECK (breaker_failure_percent BETWEEN 1 AND 100),
    breaker_pause_ms integer NOT NULL DEFAULT 5000 CHECK (breaker_pause_ms BETWEEN 1 AND 3600000),
    breaker_pause_max_ms integer NOT NULL DEFAULT 60000 CHECK (breaker_pause_max_ms BETWEEN 1 AND 86400000),
    breaker_probes integer NOT NULL DEFAULT 3 CHECK (breaker_probes BETWEEN 1 AND 100),
    fee_tolerance bigint NOT NULL DEFAULT 1 CHECK (fee_tolerance >= 0),
    -- {"USD": {"fixed": 30, "basis_points": 290}, ...}: what the PSP should charge
    fees jsonb NOT NULL DEFAULT '{}',
    -- {"merchant_account": "Shop_EUR", ...}: what its adapter wants to know
    config jsonb NOT NULL DEFAULT '{}',
    webhook_secret_names text[] NOT NULL DEFAULT '{}',
    -- {"EUR": 1500, ...}: what it charges for a dispute, where it does not say
    dispute_fees jsonb NOT NULL DEFAULT '{}'
);

CREATE TABLE payment.seller (
    id uuid NOT NULL PRIMARY KEY,
    reference text NOT NULL UNIQUE,
    name text NOT NULL,
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended')),
    metadata jsonb NOT NULL DEFAULT '{}'
);

-- What the platform takes of an order.  The most specific row that is in force
-- wins: seller before PSP before payment method before currency.
CREATE TABLE payment.fee_schedule (
    id uuid NOT NULL PRIMARY KEY,
    seller_id uuid,
    psp_id uuid,
    payment_method text,
    currency text,
    fixed bigint NOT NULL CHECK (fixed >= 0),
    basis_points integer NOT NULL CHECK (basis_points BETWEEN 0 AND 10000),
    min_fee bigint CHECK (min_fee >= 0),
    max_fee bigint CHECK (max_fee >= 0),
    -- [{"from_volume": 1000000, "fixed": 0, "basis_points": 250}, ...]
    tiers jsonb,
    volume_window text CHECK (volume_window IN ('month', 'rolling_30_days')),
    effective_from timestamptz NOT NULL,
    effective_until timestamptz NOT NULL DEFAULT 'infinity',
    open_ended boolean NOT NULL,
    set_by text NOT NULL,
    CHECK (min_fee <= max_fee),
    CHECK (currency IS NOT NULL OR fixed = 0 AND min_fee IS NULL AND max_fee IS NULL AND tiers IS NULL),
    CHECK ((tiers IS NULL) = (volume_window IS NULL)),
    CHECK (effective_from < effective_until),
    -- of one key none but one at a time; the key as a number, for GiST has ranges of these
    EXCLUDE USING gist (
        pg_catalog.tstzrange(effective_from, effective_until) WITH OPERATOR(pg_catalog.&&),
        pg_catalog.int8range(
            pg_catalog.hashtextextended(coalesce(seller_id::text, '') || '/' || coalesce(psp_id::text, '') || '/'
                || coalesce(currency, '') || '/' || coalesce(payment_method, ''), 0) >> 1,
            pg_catalog.hashtextextended(coalesce(seller_id::text, '') || '/' || coalesce(psp_id::text, '') || '/'
                || coalesce(currency, '') || '/' || coalesce(payment_method, ''), 0) >> 1, '[]') WITH OPERATOR(pg_catalog.&&))
);

-- One scan of each checkout, for schedules with and without seller and currency.
CREATE INDEX fee_schedule_search_idx ON payment.fee_schedule (
    (coalesce(seller_id, '00000000-0000-0000-0000-000000000000'::uuid)), (coalesce(currency, '')), effective_until);

-- Whose captures are counted, for tiers; seller_id null: everybody's.  Captures
-- keep it locked, so that counting begins between two of them.
CREATE TABLE payment.counted_volume (
    id uuid NOT NULL PRIMARY KEY,
    seller_id uuid,
    currency text NOT NULL,
    since date NOT NULL,
    UNIQUE NULLS NOT DISTINCT (seller_id, currency)
);

-- What was captured on a day of UTC; a slot for each backend, so that no two
-- captures write one row.
CREATE TABLE payment.seller_volume (
    seller_id uuid NOT NULL,
    currency text NOT NULL,
    day date NOT NULL,
    slot integer NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    PRIMARY KEY (seller_id, currency, day, slot)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);

-- Which PSP executes a payment whose caller named none.
CREATE TABLE payment.routing_rule (
    name text NOT NULL PRIMARY KEY,
    priority integer NOT NULL CHECK (priority BETWEEN 1 AND 1000000),
    currency text,
    min_amount bigint CHECK (min_amount > 0),
    max_amount bigint CHECK (max_amount > 0),
    seller_id uuid,
    payment_method text,
    psp_id uuid NOT NULL,
    weight integer NOT NULL CHECK (weight BETWEEN 1 AND 1000),
    state text NOT NULL CHECK (state IN ('active', 'paused'))
);

-- Kept for good: the key of every mutating call, and what it answered.
CREATE TABLE payment.idempotency (
    key text NOT NULL PRIMARY KEY,
    operation text NOT NULL,
    fingerprint bytea NOT NULL,
    -- the object made first, then its parts in input order
    result uuid[] NOT NULL
);

CREATE TABLE payment.payment_record (
    id uuid NOT NULL,
    payer text NOT NULL,
    psp_id uuid NOT NULL,
    payment_method text NOT NULL,
    status text NOT NULL,
    order_count integer NOT NULL,
    succeeded_count integer NOT NULL DEFAULT 0,
    failed_count integer NOT NULL DEFAULT 0,
    metadata jsonb NOT NULL DEFAULT '{}',
    updated_at timestamptz NOT NULL,
    -- {"stripe eu": "pm_…", "adyen": "…"}: a token is worth something at one PSP only
    payment_methods jsonb,
    route uuid[],
    event_count integer NOT NULL DEFAULT 0,
    capture_method text NOT NULL DEFAULT 'automatic' CHECK (capture_method IN ('automatic', 'manual')),
    on_partial_failure text NOT NULL DEFAULT 'keep' CHECK (on_partial_failure IN ('keep', 'all_or_nothing'))
) PARTITION BY RANGE (id);

CREATE TABLE payment.payment_record_default PARTITION OF payment.payment_record (
    PRIMARY KEY (id)
) DEFAULT WITH (fillfactor = 80);

CREATE TABLE payment.order_record (
    id uuid NOT NULL,
    payment_id uuid NOT NULL,
    seller_id uuid NOT NULL,
    psp_id uuid NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    currency text NOT NULL,
    platform_fee bigint NOT NULL CHECK (platform_fee BETWEEN 0 AND amount),
    captured_amount bigint NOT NULL DEFAULT 0 CHECK (captured_amount >= 0),
    status text NOT NULL,
    attempt_no integer NOT NULL DEFAULT 0,
    captured_at timestamptz,
    released_at timestamptz,
    psp_reference text,
    failure_code text,
    failure_message text,
    reference text,
    description text,
    metadata jsonb NOT NULL DEFAULT '{}',
    updated_at timestamptz NOT NULL,
    payment_method text,
    routed boolean NOT NULL DEFAULT false,
    fee_schedule_id uuid,
    event_count integer NOT NULL DEFAULT 0,
    authorized_amount bigint NOT NULL DEFAULT 0 CHECK (authorized_amount >= 0),
    authorized_until timestamptz,
    authorization_reference text,
    capture_reference text,
    capture_no integer NOT NULL DEFAULT 0,
    operation_no integer NOT NULL DEFAULT 0,
    capturing_amount bigint NOT NULL DEFAULT 0 CHECK (capturing_amount >= 0),
    capture_final boolean NOT NULL DEFAULT true,
    pending_amount bigint NOT NULL DEFAULT 0 CHECK (pending_amount >= 0),
    refunded_amount bigint NOT NULL DEFAULT 0 CHECK (refunded_amount BETWEEN 0 AND captured_amount),
    fee_returned bigint NOT NULL DEFAULT 0 CHECK (fee_returned BETWEEN 0 AND refunded_amount),
    captured_fee bigint NOT NULL DEFAULT 0 CHECK (captured_fee >= 0),
    cancel_requested_at timestamptz,
    disputed_amount bigint NOT NULL DEFAULT 0 CHECK (disputed_amount >= 0),
    disputed_fee bigint NOT NULL DEFAULT 0 CHECK (disputed_fee BETWEEN 0 AND disputed_amount),
    open_disputes integer NOT NULL DEFAULT 0 CHECK (open_disputes >= 0),
    settled_currency text,
    settled_captured_amount bigint CHECK (settled_captured_amount BETWEEN 0 AND captured_amount),
    settled_amount bigint CHECK (settled_amount >= 0),
    exchange_rate numeric CHECK (exchange_rate > 0 AND exchange_rate < 'Infinity'),
    psp_fee bigint CHECK (psp_fee >= 0),
    exchanged_amount bigint,
    exchanged_for bigint,
    CHECK (refunded_amount + disputed_amount <= captured_amount)
) PARTITION BY RANGE (id);

CREATE TABLE payment.order_record_default PARTITION OF payment.order_record (
    PRIMARY KEY (id)
) DEFAULT WITH (fillfactor = 80);

CREATE INDEX order_record_default_payment_idx ON payment.order_record_default (payment_id);
CREATE INDEX order_record_default_authorized_idx ON payment.order_record_default (authorized_until)
    WHERE status IN ('authorized', 'partially_captured') AND authorized_until IS NOT NULL;

-- Money of an order that goes back to its payer.
CREATE TABLE payment.refund_record (
    id uuid NOT NULL,
    order_id uuid NOT NULL,
    seller_id uuid NOT NULL,
    psp_id uuid NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    currency text NOT NULL,
    fee_share bigint NOT NULL CHECK (fee_share >= 0),
    from_pending bigint NOT NULL CHECK (from_pending >= 0),
    from_available bigint NOT NULL CHECK (from_available >= 0),
    from_receivable bigint NOT NULL CHECK (from_receivable >= 0),
    status text NOT NULL,
    attempt_no integer NOT NULL DEFAULT 0,
    psp_reference text,
    failure_code text,
    failure_message text,
    reason text CHECK (reason IN ('requested_by_customer', 'duplicate', 'fraudulent')),
    requested_by text NOT NULL,
    updated_at timestamptz NOT NULL,
    settled_at timestamptz,
    event_count integer NOT NULL DEFAULT 0,
    settled_currency text,
    settled_amount bigint CHECK (settled_amount >= 0),
    exchange_rate numeric CHECK (exchange_rate > 0 AND exchange_rate < 'Infinity'),
    exchanged_for bigint,
    CHECK (amount = fee_share + from_pending + from_available + from_receivable)
) PARTITION BY RANGE (id);

CREATE TABLE payment.refund_record_default PARTITION OF payment.refund_record (
    PRIMARY KEY (id)
) DEFAULT WITH (fillfactor = 80);

CREATE INDEX refund_record_default_order_idx ON payment.refund_record_default (order_id);

-- Money of an order that the payer's bank wants back, or took.
CREATE TABLE payment.dispute_record (
    id uuid NOT NULL,
    order_id uuid NOT NULL,
    seller_id uuid NOT NULL,
    psp_id uuid NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    currency text NOT NULL,
    status text NOT NULL,
    psp_reference text NOT NULL,
    reason text,
    respond_by timestamptz,
    -- the PSP has the money, and whose it is
    is_taken boolean NOT NULL DEFAULT false,
    from_pending bigint NOT NULL DEFAULT 0 CHECK (from_pending >= 0),
    from_available bigint NOT NULL DEFAULT 0 CHECK (from_available >= 0),
    from_receivable bigint NOT NULL DEFAULT 0 CHECK (from_receivable >= 0),
    fee_share bigint NOT NULL DEFAULT 0 CHECK (fee_share >= 0),
    platform_loss bigint NOT NULL DEFAULT 0 CHECK (platform_loss >= 0),
    fee bigint NOT NULL DEFAULT 0,
    fee_currency text,
    sequence bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL,
    event_count integer NOT NULL DEFAULT 0,
    CHECK (from_pending + from_available + from_receivable + fee_share + platform_loss = CASE WHEN is_taken THEN amount ELSE 0 END)
) PARTITION BY RANGE (id);

CREATE TABLE payment.dispute_record_default PARTITION OF payment.dispute_record (
    PRIMARY KEY (id)
) DEFAULT WITH (fillfactor = 80);

CREATE INDEX dispute_record_default_order_idx ON payment.dispute_record_default (order_id);

-- What was answered to disputes; few, and each goes out once.
CREATE TABLE payment.dispute_response_record (
    id uuid NOT NULL PRIMARY KEY,
    dispute_id uuid NOT NULL,
    psp_id uuid NOT NULL,
    operation text NOT NULL CHECK (operation IN ('dispute_evidence', 'dispute_accept')),
    evidence jsonb,
    status text NOT NULL,
    attempt_no integer NOT NULL DEFAULT 0,
    failure_code text,
    failure_message text,
    requested_by text NOT NULL,
    updated_at timestamptz NOT NULL
) WITH (fillfactor = 80);

CREATE INDEX dispute_response_record_dispute_idx ON payment.dispute_response_record (dispute_id);

CREATE TABLE payment.payout_record (
    id uuid NOT NULL,
    seller_id uuid NOT NULL,
    psp_id uuid NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    currency text NOT NULL,
    destination text NOT NULL,
    status text NOT NULL,
    attempt_no integer NOT NULL DEFAULT 0,
    psp_reference text,
    failure_code text,
    failure_message text,
    requested_by text NOT NULL,
    updated_at timestamptz NOT NULL,
    event_count integer NOT NULL DEFAULT 0
) PARTITION BY RANGE (id);

CREATE TABLE payment.payout_record_default PARTITION OF payment.payout_record (
    PRIMARY KEY (id)
) DEFAULT WITH (fillfactor = 80);

CREATE INDEX payout_record_default_seller_idx ON payment.payout_record_default (seller_id, id);

-- Payments that are all or nothing, whose other orders are to be undone.
CREATE TABLE payment.partial_failure (
    payment_id uuid NOT NULL PRIMARY KEY,
    due_at timestamptz NOT NULL
);

-- A PSP's name for an object of ours; unique for ever.
CREATE TABLE payment.psp_reference (
    psp_id uuid NOT NULL,
    reference text NOT NULL,
    object_id uuid NOT NULL,
    PRIMARY KEY (psp_id, reference)
);

-- Every status an object ever had.
CREATE TABLE payment.status_history (
    id uuid NOT NULL,
    object text NOT NULL,
    object_id uuid NOT NULL,
    from_status text,
    to_status text NOT NULL,
    cause text NOT NULL,
    actor text NOT NULL,
    recorded_at timestamptz NOT NULL
) PARTITION BY RANGE (id);

CREATE TABLE payment.status_history_default PARTITION OF payment.status_history (
    PRIMARY KEY (id)
) DEFAULT;

CREATE INDEX status_history_default_object_idx ON payment.status_history_default (object_id, id);

-- The queue.  A claim moves run_at past its lease, so that a lost claim falls
-- due again by itself; attempt_id says that one is in flight.
CREATE TABLE payment.task (
    id uuid NOT NULL PRIMARY KEY,
    psp_id uuid NOT NULL,
    operation text NOT NULL CHECK (operation IN ('pay', 'payout', 'capture', 'void', 'refund', 'register', 'close', 'dispute_evidence',
        'dispute_accept')),
    step text NOT NULL DEFAULT 'send' CHECK (step IN ('send', 'lookup')),
    object_id uuid NOT NULL,
    run_at timestamptz NOT NULL,
    tries integer NOT NULL DEFAULT 0,
    attempt_id uuid,
    first_sent_at timestamptz,
    last_sent_at timestamptz,
    key_spent boolean NOT NULL DEFAULT false,
    dead_at timestamptz,
    last_error text,
    UNIQUE (object_id, operation)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);

-- Four lanes for each PSP, payments and payouts, new and tried before, so that
-- a claim finds the oldest of each however many there are of another.
CREATE INDEX task_due_idx ON payment.task (psp_id, (operation = 'payout'), (step = 'lookup' OR tries > 0), run_at)
    WHERE dead_at IS NULL;

-- Whether a PSP is worth asking.  Written by the worker when that changes.
CREATE TABLE payment.circuit_breaker (
    psp_id uuid NOT NULL PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('closed', 'open', 'half_open')),
    since timestamptz NOT NULL,
    probe_at timestamptz,
    pause_ms integer NOT NULL,
    reason text,
    version bigint NOT NULL
);

COMMENT ON TABLE payment.circuit_breaker IS
    'State of each PSP''s circuit breaker; no row: closed, and never was anything else.';
COMMENT ON COLUMN payment.circuit_breaker.psp_id IS 'The PSP';
COMMENT ON COLUMN payment.circuit_breaker.state IS
    'closed: everything is sent; open: nothing is; half_open: a few requests are, to see how they end';
COMMENT ON COLUMN payment.circuit_breaker.since IS 'Since when';
COMMENT ON COLUMN payment.circuit_breaker.probe_at IS 'When an open one lets a few requests through; null: it is not open';
COMMENT ON COLUMN payment.circuit_breaker.pause_ms IS 'Milliseconds from opening until then; 0 when closed';
COMMENT ON COLUMN payment.circuit_breaker.reason IS 'Why it opened; null when closed';
COMMENT ON COLUMN payment.circuit_breaker.version IS 'One more with each change';

-- The PSP's page at which a payer pays an order.
CREATE TABLE payment.hosted_page (
    order_id uuid NOT NULL PRIMARY KEY,
    payment_id uuid NOT NULL UNIQUE,
    success_url text NOT NULL,
    cancel_url text NOT NULL,
    locale text,
    lifetime_s integer,
    psp_reference text,
    url text,
    open_until timestamptz
);

COMMENT ON TABLE payment.hosted_page IS 'Pages of PSPs at which payers pay: where they are, and no word of what is typed there. A row goes when its page is over.';
COMMENT ON COLUMN payment.hosted_page.order_id IS 'The payment order; of several the first one.';
COMMENT ON COLUMN payment.hosted_page.payment_id IS 'Its payment.';
COMMENT ON COLUMN payment.hosted_page.success_url IS 'Where the page sends who has paid. That somebody comes there proves nothing.';
COMMENT ON COLUMN payment.hosted_page.cancel_url IS 'Where it sends who wants to go back.';
COMMENT ON COLUMN payment.hosted_page.locale IS 'Its language, as the PSP calls it; null: as the payer''s browser has it.';
COMMENT ON COLUMN payment.hosted_page.lifetime_s IS 'Seconds for which it is to be open; null: as the PSP likes.';
COMMENT ON COLUMN payment.hosted_page.psp_reference IS 'The PSP''s name of the page; null: it is not known to exist.';
COMMENT ON COLUMN payment.hosted_page.url IS 'Where the payer goes.';
COMMENT ON COLUMN payment.hosted_page.open_until IS 'When the PSP closes it, as it says; null: it does not.';

-- One row per try: what was sent under which key, and what came of it.
CREATE TABLE payment.attempt (
    id uuid NOT NULL,
    task_id uuid NOT NULL,
    object_id uuid NOT NULL,
    psp_id uuid NOT NULL,
    operation text NOT NULL,
    step text NOT NULL,
    attempt_no integer NOT NULL,
    psp_key text NOT NULL,
    claimed_at timestamptz NOT NULL,
    lease_until timestamptz NOT NULL,
    finished_at timestamptz,
    outcome text,
    http_status integer,
    latency_ms integer,
    psp_reference text,
    error_code text,
    error_message text,
    decline_class text
) PARTITION BY RANGE (id);

CREATE TABLE payment.attempt_default PARTITION OF payment.attempt (
    PRIMARY KEY (id)
) DEFAULT WITH (fillfactor = 80);

CREATE INDEX attempt_default_object_idx ON payment.attempt_default (object_id, id);

-- What people say became of orders and payouts whose outcome is unknown.
CREATE TABLE payment.resolution (
    id uuid NOT NULL PRIMARY KEY,
    object_id uuid NOT NULL,
    operation text NOT NULL CHECK (operation IN ('pay', 'payout', 'capture', 'void', 'refund', 'register', 'exception')),
    outcome text NOT NULL CHECK (outcome IN ('succeeded', 'failed', 'captured', 'kept', 'refunded_outside', 'not_executed',
        'written_off')),
    psp_reference text,
    status text NOT NULL CHECK (status IN ('proposed', 'applied', 'rejected', 'withdrawn')),
    proposed_by text NOT NULL,
    proposed_role text NOT NULL,
    proposed_reason text NOT NULL,
    proposed_at timestamptz NOT NULL,
    decided_by text,
    decided_role text,
    decided_reason text,
    decided_at timestamptz
);

CREATE UNIQUE INDEX resolution_proposed_idx ON payment.resolution (object_id) WHERE status = 'proposed';
CREATE INDEX resolution_object_idx ON payment.resolution (object_id);

-- What the worker gets to send.
CREATE TYPE payment.claimed_task AS (
    attempt_id uuid,
    task_id uuid,
    psp_id uuid,
    operation text,
    step text,
    object_id uuid,
    payment_id uuid,
    psp_key text,
    attempt_no integer,
    amount bigint,
    currency text,
    payment_method text,
    destination text,
    description text,
    psp_reference text,
    first_sent_at timestamptz,
    last_sent_at timestamptz,
    payer text,
    tries integer,
    capture_method text,
    parent_reference text,
    final boolean,
    reason text,
    total_amount bigint,
    captured_amount bigint,
    success_url text,
    cancel_url text,
    locale text,
    expires_at timestamptz,
    setup boolean,
    evidence text
);

-- What came of one attempt.  outcome: succeeded (money moved: amount and
-- currency say how much), pending (accepted, not final), declined (definitely
-- not executed, by the payer's bank or the PSP's rules), failed (definitely not
-- executed and never will be: the PSP refuses the request itself), retry
-- (definitely not executed, send again under the same key), unknown, not_found
-- (a lookup: the PSP has no such object), key_spent (a send: unknown, and the
-- PSP replays its own failure for this key, so that it never executes again),
-- authorized (reserved: amount and currency say how much; nothing moved),
-- voided (what was reserved is free again), expired (the same, by time; or a
-- hosted page at which nobody paid), requires_action (a hosted page is open),
-- tokenized (the payer left a payment method there; nothing moved).
CREATE TYPE payment.attempt_outcome AS (
    attempt_id uuid,
    outcome text,
    http_status integer,
    latency_ms integer,
    psp_reference text,
    amount bigint,
    currency text,
    error_code text,
    error_message text,
    retry_after_ms bigint,
    decline_class text,
    authorized_until timestamptz,
    child_reference text,
    settled_amount bigint,
    settled_currency text,
    exchange_rate numeric,
    psp_fee bigint,
    payment_method text
);

COMMENT ON TABLE payment.psp IS 'Payment service providers, written by payment.register_psp().';
COMMENT ON COLUMN payment.psp.id IS 'Id of the PSP.';
COMMENT ON COLUMN payment.psp.name IS 'The name that callers choose it by.';
COMMENT ON COLUMN payment.psp.adapter IS 'The protocol it speaks: adyen, paypal, stripe; none: the worker sends nothing.';
COMMENT ON COLUMN payment.psp.base_url IS 'Where its API is.';
COMMENT ON COLUMN payment.psp.secret_name IS 'The file in payment.secrets_dir that holds its key.';
COMMENT ON COLUMN payment.psp.state IS 'active; or paused: nothing is sent, and nobody gets it without naming it.';
COMMENT ON COLUMN payment.psp.payouts IS 'Whether it makes payouts.';
COMMENT ON COLUMN payment.psp.max_in_flight IS 'Most requests under way at once.';
COMMENT ON COLUMN payment.psp.requests_per_second IS 'Most requests sent in a second.';
COMMENT ON COLUMN payment.psp.connect_timeout_ms IS 'Milliseconds to wait for a connection.';
COMMENT ON COLUMN payment.psp.timeout_ms IS 'Milliseconds to wait for the whole answer.';
COMMENT ON COLUMN payment.psp.max_attempts IS 'Tries after which a task becomes a dead letter.';
COMMENT ON COLUMN payment.psp.backoff_base_ms IS 'Milliseconds before the second try, doubled for each further one.';
COMMENT ON COLUMN payment.psp.backoff_max_ms IS 'Most milliseconds between two tries.';
COMMENT ON COLUMN payment.psp.lookup_delay_ms IS 'Milliseconds before it is asked what became of a request without an answer.';
COMMENT ON COLUMN payment.psp.poll_interval_ms IS 'Milliseconds before it is asked again about what it calls pending.';
COMMENT ON COLUMN payment.psp.key_lifetime_s IS
    'Seconds for which it keeps idempotency keys; by default what its adapter knows of the PSP.';
COMMENT ON COLUMN payment.psp.retry_after_max_ms IS
    'Most milliseconds for which a Retry-After in a 429 or 503 stops everything that is sent to it; 0: such an answer only '
    'delays its own task.';
COMMENT ON COLUMN payment.psp.breaker_failures IS
    'Failed requests in a row (no answer, 5xx, TLS, access refused) after which nothing is sent to it for a while; 0: never.';
COMMENT ON COLUMN payment.psp.breaker_failure_percent IS
    'Percent of the last 100 requests (at least 20) that may fail before the same happens.';
COMMENT ON COLUMN payment.psp.breaker_pause_ms IS 'Milliseconds for which nothing is sent then; doubled each time the probes after it fail.';
COMMENT ON COLUMN payment.psp.breaker_pause_max_ms IS 'Most milliseconds of such a pause.';
COMMENT ON COLUMN payment.psp.breaker_probes IS 'Requests let through after the pause; when so many succeed, all are again.';
COMMENT ON COLUMN payment.psp.fee_tolerance IS 'Minor units by which its fee may differ from what is expected.';
COMMENT ON COLUMN payment.psp.fees IS 'What it should charge, by currency: fixed (minor units) and basis_points.';
COMMENT ON COLUMN payment.psp.dispute_fees IS
    'What it charges for a dispute each time it takes the money, in minor units by currency, as {"EUR": 1500}; only where it '
    'does not say so itself.';
COMMENT ON COLUMN payment.psp.config IS
    'What its adapter wants to know, all texts. adyen: merchant_account and return_url (payments), balance_account '
    '(payouts). paypal: payment_source (paypal, card or venmo), recipient_type (EMAIL, PHONE, PAYPAL_ID or USER_HANDLE), '
    'webhook_id (webhooks).';
COMMENT ON COLUMN payment.psp.webhook_secret_names IS
    'Files in payment.secrets_dir: any of their secrets may have signed its webhooks, so that one can replace another; '
    'none: it sends no webhooks.';

COMMENT ON TABLE payment.seller IS 'Sellers, written by payment.register_seller() and submit().';
COMMENT ON COLUMN payment.seller.id IS 'Id of the seller.';
COMMENT ON COLUMN payment.seller.reference IS 'The application''s name of the seller.';
COMMENT ON COLUMN payment.seller.name IS 'What people call the seller.';
COMMENT ON COLUMN payment.seller.state IS 'active; or suspended: neither sells nor is paid.';
COMMENT ON COLUMN payment.seller.metadata IS 'What the application added.';

COMMENT ON TABLE payment.fee_schedule IS
    'What the platform takes of an order, written by payment.set_fee_schedule(). Of those in force that match the most '
    'specific counts: with a seller before with a PSP before with a payment method before with a currency before none.';
COMMENT ON COLUMN payment.fee_schedule.id IS 'Id of the schedule, as payment.order_record.fee_schedule_id has it.';
COMMENT ON COLUMN payment.fee_schedule.seller_id IS 'Only for this seller; null: for all.';
COMMENT ON COLUMN payment.fee_schedule.psp_id IS 'Only for payments that begin at this PSP; null: at any.';
COMMENT ON COLUMN payment.fee_schedule.payment_method IS
    'Only for payment methods that look like this, * standing for any characters, also none; null: for all.';
COMMENT ON COLUMN payment.fee_schedule.currency IS 'Only in this currency; null: in all.';
COMMENT ON COLUMN payment.fee_schedule.fixed IS 'Minor units of each order.';
COMMENT ON COLUMN payment.fee_schedule.basis_points IS 'Hundredths of a percent of the amount.';
COMMENT ON COLUMN payment.fee_schedule.min_fee IS 'At least so many minor units, but never more than the amount; null: no limit.';
COMMENT ON COLUMN payment.fee_schedule.max_fee IS 'At most so many minor units; null: no limit.';
COMMENT ON COLUMN payment.fee_schedule.tiers IS
    'Other rates from a volume on, ascending: [{"from_volume": minor units, "fixed": minor units, "basis_points": …}]; null: none.';
COMMENT ON COLUMN payment.fee_schedule.volume_window IS
    'The seller''s captures that tiers ask for: month, the calendar month; rolling_30_days, today and 29 days before; days are those of UTC.';
COMMENT ON COLUMN payment.fee_schedule.effective_from IS 'In force for orders made from then on';
COMMENT ON COLUMN payment.fee_schedule.effective_until IS 'and before then; infinity: until another one begins.';
COMMENT ON COLUMN payment.fee_schedule.open_ended IS 'It was set without an end: it ends when the next one begins.';
COMMENT ON COLUMN payment.fee_schedule.set_by IS 'The role that was logged in.';

COMMENT ON TABLE payment.counted_volume IS
    'Whose captures are counted, because a fee schedule has tiers. Written by payment.set_fee_schedule(); never taken back.';
COMMENT ON COLUMN payment.counted_volume.id IS 'UUIDv7; holds the time when counting began.';
COMMENT ON COLUMN payment.counted_volume.seller_id IS 'The seller; null: all of them.';
COMMENT ON COLUMN payment.counted_volume.currency IS 'In this currency.';
COMMENT ON COLUMN payment.counted_volume.since IS 'The first day that was counted, from the ledger.';

COMMENT ON TABLE payment.seller_volume IS
    'What sellers captured on each day, as long as counted_volume asks for it; kept for 62 days. The sum over the slots counts.';
COMMENT ON COLUMN payment.seller_volume.seller_id IS 'The seller.';
COMMENT ON COLUMN payment.seller_volume.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN payment.seller_volume.day IS 'When the captures were recorded, a day of UTC.';
COMMENT ON COLUMN payment.seller_volume.slot IS 'The backend that recorded them; 0: counted from the ledger.';
COMMENT ON COLUMN payment.seller_volume.amount IS 'Minor units, gross: fees are not taken off, nor is what is refunded later.';

COMMENT ON TABLE payment.routing_rule IS
    'Which PSP executes a payment whose caller named none, written by payment.set_routing_rule(). Of the active rules that '
    'match, the lowest priority counts, among equals chance by weight. A rule that leaves a column null does not ask for it.';
COMMENT ON COLUMN payment.routing_rule.name IS 'What the administrator calls it.';
COMMENT ON COLUMN payment.routing_rule.priority IS 'Rules are asked in ascending order; those of one priority share the payments.';
COMMENT ON COLUMN payment.routing_rule.currency IS 'Only payments all of whose orders are in this currency.';
COMMENT ON COLUMN payment.routing_rule.min_amount IS 'Only payments of at least that total, in minor units of currency.';
COMMENT ON COLUMN payment.routing_rule.max_amount IS 'Only payments of at most that total, in minor units of currency.';
COMMENT ON COLUMN payment.routing_rule.seller_id IS 'Only payments all of whose orders are this seller''s.';
COMMENT ON COLUMN payment.routing_rule.payment_method IS
    'Only payment methods, as the PSP names them, that look like this: * stands for any characters, also none.';
COMMENT ON COLUMN payment.routing_rule.psp_id IS 'The PSP it sends payments to. One that is paused is left out.';
COMMENT ON COLUMN payment.routing_rule.weight IS 'Its share, 1 to 1000, among rules of the same priority that match.';
COMMENT ON COLUMN payment.routing_rule.state IS 'active, or paused: not asked.';

COMMENT ON TABLE payment.idempotency IS 'The keys of all calls that made something, kept for good.';
COMMENT ON COLUMN payment.idempotency.key IS 'The caller''s key.';
COMMENT ON COLUMN payment.idempotency.operation IS 'What it was used for: pay_in, pay_out, retry_order, …';
COMMENT ON COLUMN payment.idempotency.fingerprint IS 'SHA-256 of the arguments.';
COMMENT ON COLUMN payment.idempotency.result IS 'The ids it gave: payment and orders in input order, or payout.';

COMMENT ON TABLE payment.payment_record IS 'Payments, as payment.payment shows them.';
COMMENT ON COLUMN payment.payment_record.id IS 'Id of the payment, with its time.';
COMMENT ON COLUMN payment.payment_record.payer IS 'Who pays, as the application calls them.';
COMMENT ON COLUMN payment.payment_record.psp_id IS 'The PSP where its orders begin.';
COMMENT ON COLUMN payment.payment_record.payment_method IS 'The PSP''s name of card or account.';
COMMENT ON COLUMN payment.payment_record.status IS 'See payment.transitions(), object payment.';
COMMENT ON COLUMN payment.payment_record.order_count IS 'Payment orders it has.';
COMMENT ON COLUMN payment.payment_record.succeeded_count IS 'Those that are captured.';
COMMENT ON COLUMN payment.payment_record.failed_count IS 'Those that came to nothing.';
COMMENT ON COLUMN payment.payment_record.metadata IS 'What the application added.';
COMMENT ON COLUMN payment.payment_record.updated_at IS 'When it last changed; ascends strictly.';
COMMENT ON COLUMN payment.payment_record.event_count IS 'How many events it has in payment.event.';
COMMENT ON COLUMN payment.payment_record.payment_methods IS 'What each PSP calls the payment method, by the PSP''s name, as the caller passed it.';
COMMENT ON COLUMN payment.payment_record.route IS
    'PSPs in the order in which an order goes on to the next one, as the rules had it at checkout; null: it stays where it is.';
COMMENT ON COLUMN payment.payment_record.capture_method IS 'automatic; or manual: its orders are authorised, and captured when payment.capture() asks.';
COMMENT ON COLUMN payment.payment_record.on_partial_failure IS
    'When one of its orders comes to nothing: keep the others, or all_or_nothing: they are cancelled, voided or refunded.';
COMMENT ON TABLE payment.payment_record_default IS 'Payments for which no partition was made.';

COMMENT ON TABLE payment.order_record IS 'Payment orders, as payment.payment_order shows them.';
COMMENT ON COLUMN payment.order_record.id IS 'Id of the order, with its time.';
COMMENT ON COLUMN payment.order_record.payment_id IS 'The payment it belongs to.';
COMMENT ON COLUMN payment.order_record.seller_id IS 'Whose order it is.';
COMMENT ON COLUMN payment.order_record.psp_id IS 'The PSP that executes it, of several that were tried the last one.';
COMMENT ON COLUMN payment.order_record.amount IS 'What the payer pays, in minor units.';
COMMENT ON COLUMN payment.order_record.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN payment.order_record.platform_fee IS 'The platform''s part of the amount, in minor units. Fixed at checkout.';
COMMENT ON COLUMN payment.order_record.captured_amount IS 'What has been taken from the payer, in minor units.';
COMMENT ON COLUMN payment.order_record.status IS 'See payment.transitions(), object payment_order.';
COMMENT ON COLUMN payment.order_record.attempt_no IS 'How many times it was begun anew after a definite failure.';
COMMENT ON COLUMN payment.order_record.captured_at IS 'When the money was taken.';
COMMENT ON COLUMN payment.order_record.released_at IS 'When the seller''s share became available.';
COMMENT ON COLUMN payment.order_record.psp_reference IS 'The PSP''s name of the charge.';
COMMENT ON COLUMN payment.order_record.failure_code IS 'Why it failed, as the PSP codes it.';
COMMENT ON COLUMN payment.order_record.failure_message IS 'Why it failed, in words.';
COMMENT ON COLUMN payment.order_record.reference IS 'The application''s name of the order.';
COMMENT ON COLUMN payment.order_record.description IS 'What it is for.';
COMMENT ON COLUMN payment.order_record.metadata IS 'What the application added.';
COMMENT ON COLUMN payment.order_record.updated_at IS 'When it last changed; ascends strictly.';
COMMENT ON COLUMN payment.order_record.event_count IS 'How many events it has in payment.event.';
COMMENT ON COLUMN payment.order_record.payment_method IS 'What psp_id calls the payment method; null: as the payment has it.';
COMMENT ON COLUMN payment.order_record.routed IS 'It may go on to another PSP of the payment''s route: the caller named none.';
COMMENT ON COLUMN payment.order_record.fee_schedule_id IS 'The payment.fee_schedule that platform_fee came from; null: there was none.';
COMMENT ON COLUMN payment.order_record.authorized_amount IS 'What was authorised to be captured later, in minor units; 0: it was not.';
COMMENT ON COLUMN payment.order_record.authorized_until IS 'Until when that can be captured; null: not known.';
COMMENT ON COLUMN payment.order_record.authorization_reference IS 'The PSP''s name of the authorisation; null: that of the payment.';
COMMENT ON COLUMN payment.order_record.capture_reference IS 'The PSP''s name of the last capture, where refunds need it; null: that of the payment.';
COMMENT ON COLUMN payment.order_record.capture_no IS 'Captures that were asked for.';
COMMENT ON COLUMN payment.order_record.operation_no IS 'Captures and voids that were begun, those under a new key included: the last part of their keys.';
COMMENT ON COLUMN payment.order_record.capturing_amount IS 'Of the capture under way, in minor units; 0: none is.';
COMMENT ON COLUMN payment.order_record.capture_final IS 'Whether nothing more will be captured after it.';
COMMENT ON COLUMN payment.order_record.pending_amount IS 'What of the seller''s part is in seller_pending, in minor units.';
COMMENT ON COLUMN payment.order_record.refunded_amount IS 'Refunds that have not failed nor been cancelled, in minor units.';
COMMENT ON COLUMN payment.order_record.disputed_amount IS
    'What disputes have taken of it and not given back, as far as refunds had not, in minor units.';
COMMENT ON COLUMN payment.order_record.disputed_fee IS 'What of that is the platform''s fee, in minor units.';
COMMENT ON COLUMN payment.order_record.open_disputes IS 'Disputes of it that are under way, inquiries left out.';
COMMENT ON COLUMN payment.order_record.fee_returned IS 'What of the platform''s fee they give back, in minor units.';
COMMENT ON COLUMN payment.order_record.captured_fee IS 'What of the platform''s fee belongs to what was captured, in minor units.';
COMMENT ON COLUMN payment.order_record.cancel_requested_at IS 'When it was to be cancelled while its payer''s page was open; null: it was not.';
COMMENT ON COLUMN payment.order_record.settled_currency IS
    'Currency in which the PSP credits what was captured; null: not known yet, a settlement line will tell.';
COMMENT ON COLUMN payment.order_record.settled_captured_amount IS
    'How much of captured_amount settled_amount stands for, minor units of currency; null: of nothing it is known.';
COMMENT ON COLUMN payment.order_record.settled_amount IS 'What the PSP credits for that before its fee, minor units of settled_currency.';
COMMENT ON COLUMN payment.order_record.exchange_rate IS
    'settled_currency for one unit of currency, as the PSP said it; null: not said, or the same currency. Nothing is computed from it.';
COMMENT ON COLUMN payment.order_record.psp_fee IS
    'What the PSP said it keeps, minor units of settled_currency; null: its answers did not say. The settlement line counts in the end.';
COMMENT ON COLUMN payment.order_record.exchanged_amount IS
    'What is in fx_clearing for it: captured, exchanged and not refunded, minor units of currency; null: never exchanged.';
COMMENT ON COLUMN payment.order_record.exchanged_for IS 'What that was exchanged for, minor units of settled_currency.';
COMMENT ON TABLE payment.order_record_default IS 'Payment orders for which no partition was made.';

COMMENT ON TABLE payment.refund_record IS 'Refunds, as payment.refund shows them.';
COMMENT ON COLUMN payment.refund_record.id IS 'Id of the refund, with its time.';
COMMENT ON COLUMN payment.refund_record.order_id IS 'The payment order.';
COMMENT ON COLUMN payment.refund_record.seller_id IS 'Whose order it is.';
COMMENT ON COLUMN payment.refund_record.psp_id IS 'The PSP that gives the money back.';
COMMENT ON COLUMN payment.refund_record.amount IS 'What the payer gets, in minor units.';
COMMENT ON COLUMN payment.refund_record.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN payment.refund_record.fee_share IS 'What of it the platform gives back of its fee, in minor units.';
COMMENT ON COLUMN payment.refund_record.from_pending IS 'What of it came from the seller''s pending money, in minor units.';
COMMENT ON COLUMN payment.refund_record.from_available IS 'What of it came from the seller''s available money, in minor units.';
COMMENT ON COLUMN payment.refund_record.from_receivable IS 'What of it the seller owed for it, in minor units.';
COMMENT ON COLUMN payment.refund_record.status IS 'See payment.transitions(), object refund.';
COMMENT ON COLUMN payment.refund_record.attempt_no IS 'How many times it was begun anew after a definite failure.';
COMMENT ON COLUMN payment.refund_record.psp_reference IS 'The PSP''s name of the refund.';
COMMENT ON COLUMN payment.refund_record.failure_code IS 'Why it failed, as the PSP codes it.';
COMMENT ON COLUMN payment.refund_record.failure_message IS 'Why it failed, in words.';
COMMENT ON COLUMN payment.refund_record.reason IS 'requested_by_customer, duplicate or fraudulent; null: not said.';
COMMENT ON COLUMN payment.refund_record.requested_by IS 'The role that asked for it.';
COMMENT ON COLUMN payment.refund_record.updated_at IS 'When it last changed.';
COMMENT ON COLUMN payment.refund_record.settled_at IS 'When a settlement line was found for it; null: none was.';
COMMENT ON COLUMN payment.refund_record.event_count IS 'How many events it has in payment.event.';
COMMENT ON COLUMN payment.refund_record.settled_currency IS
    'Currency in which the PSP takes it from us, where that is another one; null: it is not, or not known yet.';
COMMENT ON COLUMN payment.refund_record.settled_amount IS 'What the PSP takes for it, minor units of settled_currency.';
COMMENT ON COLUMN payment.refund_record.exchange_rate IS 'settled_currency for one unit of currency, as the PSP said it; null: not said.';
COMMENT ON COLUMN payment.refund_record.exchanged_for IS
    'What of its order''s exchanged_for went with it, minor units of settled_currency; what settled_amount is more is loss, in fx_gain. Null: not exchanged, or back again.';
COMMENT ON TABLE payment.refund_record_default IS 'Refunds for which no partition was made.';

COMMENT ON TABLE payment.dispute_record IS 'Disputes, as payment.dispute shows them.';
COMMENT ON COLUMN payment.dispute_record.id IS 'Id of the dispute, with its time.';
COMMENT ON COLUMN payment.dispute_record.order_id IS 'The payment order.';
COMMENT ON COLUMN payment.dispute_record.seller_id IS 'Whose order it is.';
COMMENT ON COLUMN payment.dispute_record.psp_id IS 'The PSP that tells of it.';
COMMENT ON COLUMN payment.dispute_record.amount IS 'What the payer''s bank wants back, in minor units.';
COMMENT ON COLUMN payment.dispute_record.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN payment.dispute_record.status IS 'Stage and status, as in chargeback/open: see payment.transitions(), object dispute.';
COMMENT ON COLUMN payment.dispute_record.psp_reference IS 'The PSP''s name of the dispute.';
COMMENT ON COLUMN payment.dispute_record.reason IS 'Why the payer disputes it, as the PSP codes it; null: not said.';
COMMENT ON COLUMN payment.dispute_record.respond_by IS 'Until when the PSP takes an answer; null: not said.';
COMMENT ON COLUMN payment.dispute_record.is_taken IS 'Whether the PSP has taken the money, and not given it back.';
COMMENT ON COLUMN payment.dispute_record.from_pending IS 'What of it came from the seller''s pending money, in minor units.';
COMMENT ON COLUMN payment.dispute_record.from_available IS 'What of it came from the seller''s available money, in minor units.';
COMMENT ON COLUMN payment.dispute_record.from_receivable IS 'What of it the seller owed for it, in minor units.';
COMMENT ON COLUMN payment.dispute_record.fee_share IS 'What of it is the platform''s fee, in minor units.';
COMMENT ON COLUMN payment.dispute_record.platform_loss IS
    'What of it nobody had any more, since it was refunded or disputed before: the platform''s, in minor units.';
COMMENT ON COLUMN payment.dispute_record.fee IS 'What the PSP charged for it in all, in minor units of fee_currency.';
COMMENT ON COLUMN payment.dispute_record.fee_currency IS 'ISO 4217 code; null: it charged nothing.';
COMMENT ON COLUMN payment.dispute_record.sequence IS 'Of the newest evidence: what has a lower one is overtaken.';
COMMENT ON COLUMN payment.dispute_record.updated_at IS 'When it last changed; ascends strictly.';
COMMENT ON COLUMN payment.dispute_record.event_count IS 'How many events it has in payment.event.';
COMMENT ON TABLE payment.dispute_record_default IS 'Disputes for which no partition was made.';

COMMENT ON TABLE payment.dispute_response_record IS 'Answers to disputes, as payment.dispute_response shows them.';
COMMENT ON COLUMN payment.dispute_response_record.id IS 'Id of the answer, with its time.';
COMMENT ON COLUMN payment.dispute_response_record.dispute_id IS 'The dispute.';
COMMENT ON COLUMN payment.dispute_response_record.psp_id IS 'The PSP that takes it.';
COMMENT ON COLUMN payment.dispute_response_record.operation IS 'dispute_evidence or dispute_accept.';
COMMENT ON COLUMN payment.dispute_response_record.evidence IS 'Texts by the PSP''s names for them; null: it accepts the dispute.';
COMMENT ON COLUMN payment.dispute_response_record.status IS 'See payment.transitions(), object dispute_response.';
COMMENT ON COLUMN payment.dispute_response_record.attempt_no IS 'How many times it was begun anew after a definite failure.';
COMMENT ON COLUMN payment.dispute_response_record.failure_code IS 'Why it failed, as the PSP codes it.';
COMMENT ON COLUMN payment.dispute_response_record.failure_message IS 'Why it failed, in words.';
COMMENT ON COLUMN payment.dispute_response_record.requested_by IS 'The role that asked for it.';
COMMENT ON COLUMN payment.dispute_response_record.updated_at IS 'When it last changed.';

COMMENT ON TABLE payment.payout_record IS 'Payouts, as payment.payout shows them.';
COMMENT ON COLUMN payment.payout_record.id IS 'Id of the payout, with its time.';
COMMENT ON COLUMN payment.payout_record.seller_id IS 'Who is paid.';
COMMENT ON COLUMN payment.payout_record.psp_id IS 'The PSP that pays.';
COMMENT ON COLUMN payment.payout_record.amount IS 'Minor units.';
COMMENT ON COLUMN payment.payout_record.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN payment.payout_record.destination IS 'The PSP''s name of the bank account.';
COMMENT ON COLUMN payment.payout_record.status IS 'See payment.transitions(), object payout.';
COMMENT ON COLUMN payment.payout_record.attempt_no IS 'How many times it was begun anew after a definite failure.';
COMMENT ON COLUMN payment.payout_record.psp_reference IS 'The PSP''s name of the payout.';
COMMENT ON COLUMN payment.payout_record.failure_code IS 'Why it failed, as the PSP codes it.';
COMMENT ON COLUMN payment.payout_record.failure_message IS 'Why it failed, in words.';
COMMENT ON COLUMN payment.payout_record.requested_by IS 'The role that asked for it.';
COMMENT ON COLUMN payment.payout_record.updated_at IS 'When it last changed; ascends strictly.';
COMMENT ON COLUMN payment.payout_record.event_count IS 'How many events it has in payment.event.';
COMMENT ON TABLE payment.payout_record_default IS 'Payouts for which no partition was made.';

COMMENT ON TABLE payment.partial_failure IS
    'Payments that are all or nothing, of which an order came to nothing and another one is not undone yet.';
COMMENT ON COLUMN payment.partial_failure.payment_id IS 'The payment.';
COMMENT ON COLUMN payment.partial_failure.due_at IS 'When the worker looks at it next.';

COMMENT ON TABLE payment.psp_reference IS 'The PSPs'' names of our objects; each is one object''s for ever.';
COMMENT ON COLUMN payment.psp_reference.psp_id IS 'Whose name it is.';
COMMENT ON COLUMN payment.psp_reference.reference IS 'The name.';
COMMENT ON COLUMN payment.psp_reference.object_id IS 'The payment order or payout.';

COMMENT ON TABLE payment.resolution IS
    'What people said became of orders and payouts whose outcome was unknown, written by payment.resolve_unknown() and '
    'payment.reject_unknown_resolution(), and what they decided about exceptions, by payment.propose_resolution(), '
    'payment.approve_resolution() and payment.reject_resolution().';
COMMENT ON COLUMN payment.resolution.id IS 'Id of the proposal, with its time.';
COMMENT ON COLUMN payment.resolution.object_id IS 'The payment order or payout.';
COMMENT ON COLUMN payment.resolution.operation IS 'pay or payout.';
COMMENT ON COLUMN payment.resolution.outcome IS
    'succeeded: the money moved; failed: it did not and never will; the others, of an exception: '
    'payment.propose_resolution().';
COMMENT ON COLUMN payment.resolution.psp_reference IS 'The PSP''s name of what succeeded.';
COMMENT ON COLUMN payment.resolution.status IS
    'proposed; applied: a second person agreed; rejected by a second person; withdrawn by the first.';
COMMENT ON COLUMN payment.resolution.proposed_by IS 'The person who proposed it, as the application calls them.';
COMMENT ON COLUMN payment.resolution.proposed_role IS 'The role that was logged in.';
COMMENT ON COLUMN payment.resolution.proposed_reason IS 'What that person found out.';
COMMENT ON COLUMN payment.resolution.proposed_at IS 'When.';
COMMENT ON COLUMN payment.resolution.decided_by IS 'The person who ended the proposal.';
COMMENT ON COLUMN payment.resolution.decided_role IS 'The role that was logged in.';
COMMENT ON COLUMN payment.resolution.decided_reason IS 'Why.';
COMMENT ON COLUMN payment.resolution.decided_at IS 'When.';

COMMENT ON TABLE payment.status_history IS 'Every status an object ever had, written by triggers.';
COMMENT ON COLUMN payment.status_history.id IS 'Id of the change, with its time.';
COMMENT ON COLUMN payment.status_history.object IS 'What kind of object: see payment.transitions().';
COMMENT ON COLUMN payment.status_history.object_id IS 'The object.';
COMMENT ON COLUMN payment.status_history.from_status IS 'What it was; null when it was made.';
COMMENT ON COLUMN payment.status_history.to_status IS 'What it became.';
COMMENT ON COLUMN payment.status_history.cause IS 'What brought it about: see payment.transitions().';
COMMENT ON COLUMN payment.status_history.actor IS 'The role that was logged in.';
COMMENT ON COLUMN payment.status_history.recorded_at IS 'When.';
COMMENT ON TABLE payment.status_history_default IS 'Changes for which no partition was made.';

-- The state machines, as C code enforces them.
CREATE FUNCTION payment.transitions(OUT object text, OUT from_status text, OUT to_status text, OUT causes text[])
    RETURNS SETOF record
    LANGUAGE c STABLE STRICT PARALLEL SAFE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_transitions';

COMMENT ON FUNCTION payment.transitions() IS
    'Every legal status change: object, from_status (null: how it begins), to_status and the causes that may bring it '
    'about. api: the application asked; claim: the worker took the task; response, lookup, webhook, settlement: '
    'evidence from the PSP; lease: a claim ran out unanswered; policy: configuration; decision: people, with approval; '
    'operator: an UPDATE by hand.';

CREATE FUNCTION payment.guard_update() RETURNS trigger
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'payment_guard_update';

COMMENT ON FUNCTION payment.guard_update() IS
    'Trigger: refuses illegal status changes (PY300), changes of what never changes (PY302) and changes by hand of what '
    'bears money (PY301); sets updated_at. Argument: the object.';

CREATE FUNCTION payment.guard_rows() RETURNS trigger
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'payment_guard_rows';

COMMENT ON FUNCTION payment.guard_rows() IS
    'Trigger: only the extension adds rows (by hand only into an empty table, as a restore does); DELETE and TRUNCATE '
    'are refused always (PY301). With the argument append_only, UPDATE is refused always as well.';

CREATE FUNCTION payment.record_history() RETURNS trigger
    LANGUAGE c
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_record_history';

COMMENT ON FUNCTION payment.record_history() IS
    'Trigger: writes each change of status to payment.status_history. Argument: the object.';

-- Statement triggers are not inherited: parents and partitions get their own.
-- Row triggers are cloned to partitions.
DO $$
DECLARE
    guarded record;
    suffix text;
BEGIN
    FOR guarded IN
        SELECT * FROM (VALUES
            ('payment_record', 'payment'),
            ('order_record', 'payment_order'),
            ('refund_record', 'refund'),
            ('dispute_record', 'dispute'),
            ('payout_record', 'payout')) AS g (tablename, object)
    LOOP
        EXECUTE pg_catalog.format('CREATE TRIGGER guard_update BEFORE UPDATE ON payment.%I '
            'FOR EACH ROW EXECUTE FUNCTION payment.guard_update(%L)', guarded.tablename, guarded.object);
        EXECUTE pg_catalog.format('ALTER TABLE payment.%I ENABLE ALWAYS TRIGGER guard_update', guarded.tablename);
        FOREACH suffix IN ARRAY ARRAY['', '_default']
        LOOP
            EXECUTE pg_catalog.format('CREATE TRIGGER guard_rows BEFORE INSERT OR DELETE OR TRUNCATE ON payment.%I '
                'FOR EACH STATEMENT EXECUTE FUNCTION payment.guard_rows()', guarded.tablename || suffix);
            EXECUTE pg_catalog.format('CREATE TRIGGER record_insert AFTER INSERT ON payment.%I '
                'REFERENCING NEW TABLE AS new_rows '
                'FOR EACH STATEMENT EXECUTE FUNCTION payment.record_history(%L)', guarded.tablename || suffix, guarded.object);
            EXECUTE pg_catalog.format('CREATE TRIGGER record_update AFTER UPDATE ON payment.%I '
                'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows '
                'FOR EACH STATEMENT EXECUTE FUNCTION payment.record_history(%L)', guarded.tablename || suffix, guarded.object);
            EXECUTE pg_catalog.format('ALTER TABLE payment.%I ENABLE ALWAYS TRIGGER guard_rows, '
                'ENABLE ALWAYS TRIGGER record_insert, ENABLE ALWAYS TRIGGER record_update', guarded.tablename || suffix);
        END LOOP;
    END LOOP;

    -- not partitioned
    CREATE TRIGGER guard_update BEFORE UPDATE ON payment.dispute_response_record
        FOR EACH ROW EXECUTE FUNCTION payment.guard_update('dispute_response');
    CREATE TRIGGER guard_rows BEFORE INSERT OR DELETE OR TRUNCATE ON payment.dispute_response_record
        FOR EACH STATEMENT EXECUTE FUNCTION payment.guard_rows();
    CREATE TRIGGER record_insert AFTER INSERT ON payment.dispute_response_record REFERENCING NEW TABLE AS new_rows
        FOR EACH STATEMENT EXECUTE FUNCTION payment.record_history('dispute_response');
    CREATE TRIGGER record_update AFTER UPDATE ON payment.dispute_response_record
        REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
        FOR EACH STATEMENT EXECUTE FUNCTION payment.record_history('dispute_response');
    ALTER TABLE payment.dispute_response_record ENABLE ALWAYS TRIGGER guard_update, ENABLE ALWAYS TRIGGER guard_rows,
        ENABLE ALWAYS TRIGGER record_insert, ENABLE ALWAYS TRIGGER record_update;

    FOR guarded IN
        SELECT * FROM (VALUES
            ('status_history', 'append_only'),
            ('status_history_default', 'append_only'),
            ('psp_reference', 'append_only'),
            ('partial_failure', 'transient'),
            ('hosted_page', 'transient'),
            ('idempotency', 'append_only'),
            ('detached_partition', 'append_only'),
            ('detached_balance', 'append_only'),
            ('fee_schedule', 'transient'),
            ('counted_volume', 'append_only'),
            ('seller_volume', 'transient'),
            ('resolution', NULL),
            ('attempt', NULL),
            ('attempt_default', NULL)) AS g (tablename, argument)
    LOOP
        EXECUTE pg_catalog.format('CREATE TRIGGER guard_rows BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON payment.%I '
            'FOR EACH STATEMENT EXECUTE FUNCTION payment.guard_rows(%s)', guarded.tablename, guarded.argument);
        EXECUTE pg_catalog.format('ALTER TABLE payment.%I ENABLE ALWAYS TRIGGER guard_rows', guarded.tablename);
    END LOOP;

    -- orders, journals and references name these for ever
    FOREACH suffix IN ARRAY ARRAY['psp', 'seller']
    LOOP
        EXECUTE pg_catalog.format('CREATE TRIGGER guard_rows BEFORE DELETE OR TRUNCATE ON payment.%I '
            'FOR EACH STATEMENT EXECUTE FUNCTION payment.guard_rows()', suffix);
        EXECUTE pg_catalog.format('ALTER TABLE payment.%I ENABLE ALWAYS TRIGGER guard_rows', suffix);
    END LOOP;
END
$$;

-- Configuration.

CREATE FUNCTION payment.register_psp(name text, adapter text, base_url text, secret_name text,
    settings jsonb DEFAULT '{}', webhook_secret_names text[] DEFAULT NULL) RETURNS uuid
    LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_register_psp';

COMMENT ON FUNCTION payment.register_psp(text, text, text, text, jsonb, text[]) IS
    'Register a payment service provider, or change the one of that name; returns its id. adapter: the protocol it '
    'speaks: adyen, paypal, stripe; or none: its tasks wait for whoever calls claim_tasks(). base_url: https://… or http://…, without '
    'credentials. secret_name: a file in payment.secrets_dir. settings: columns of payment.psp, as '
    '{"timeout_ms": 10000}; those left away keep their value. webhook_secret_names: at most 8 files in payment.secrets_dir, '
    'any of whose secrets its webhooks may be signed with; null: as before, an empty array: it sends none. Errors: PY001, '
    'PY005, PY006, '
    'PY303 another adapter while the outcome of what was sent is not known.';

CREATE FUNCTION payment.register_seller(reference text, name text, metadata jsonb DEFAULT '{}') RETURNS uuid
    LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_register_seller';

COMMENT ON FUNCTION payment.register_seller(text, text, jsonb) IS
    'Register a seller under the reference your own system knows it by; returns its id. The same reference again gives '
    'the same id and replaces name and metadata. Errors: PY001, PY005, PY006.';

CREATE FUNCTION payment.seller_id(reference text) RETURNS uuid
    LANGUAGE c STABLE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_seller_id';

COMMENT ON FUNCTION payment.seller_id(text) IS
    'The id of the seller registered under a reference. Errors: PY001, PY011.';

CREATE FUNCTION payment.set_fee_schedule(fixed bigint, basis_points integer, seller uuid DEFAULT NULL,
    currency text DEFAULT NULL, psp text DEFAULT NULL, payment_method text DEFAULT NULL, min_fee bigint DEFAULT NULL,
    max_fee bigint DEFAULT NULL, tiers jsonb DEFAULT NULL, volume_window text DEFAULT 'month',
    effective_from timestamptz DEFAULT NULL, effective_until timestamptz DEFAULT NULL) RETURNS uuid
    LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_set_fee_schedule';

COMMENT ON FUNCTION payment.set_fee_schedule(bigint, integer, uuid, text, text, text, bigint, bigint, jsonb, text, timestamptz,
    timestamptz) IS
    'What the platform takes of each order: fixed minor units plus basis_points (100 are 1 %, half-even), at least min_fee, at '
    'most max_fee, never more than the amount. What is in minor units needs a currency. seller, psp (a name), payment_method '
    '(a pattern with *) and currency: which orders; of the schedules in force that match the most specific counts, seller '
    'before PSP before payment method before currency; without any the fee is 0. tiers: [{"from_volume": …, "fixed": …, '
    '"basis_points": …}], other rates once the seller has captured that much in volume_window (month or rolling_30_days, in '
    'UTC) before the order. effective_from: null is now; effective_until: null is until another one of the same seller, PSP, '
    'payment method and currency begins. Returns the schedule''s id. Errors: PY001, PY002, PY003, PY005, PY006, PY010, PY011, '
    'PY013 (another one is planned for then), PY014 (in the past).';

CREATE FUNCTION payment.end_fee_schedule(schedule uuid, effective_until timestamptz DEFAULT NULL) RETURNS boolean
    LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_end_fee_schedule';

COMMENT ON FUNCTION payment.end_fee_schedule(uuid, timestamptz) IS
    'End a fee schedule at a time to come; null: now. Orders keep their fees. True; false when it would not have begun by '
    'then: it is withdrawn, and the one before it goes on. Errors: PY001, PY012, PY014 (in the past, or it ends earlier).';

CREATE TYPE payment.fee_quote AS (
    fee_schedule_id uuid,
    fee bigint,
    fixed bigint,
    basis_points integer,
    volume bigint,
    from_volume bigint,
    applied_limit text
);
COMMENT ON TYPE payment.fee_quote IS 'A fee of the platform, and how it comes about. Amounts are minor units.';
COMMENT ON COLUMN payment.fee_quote.fee_schedule_id IS 'The schedule; null: none matches, and the fee is 0.';
COMMENT ON COLUMN payment.fee_quote.fee IS 'What the platform takes.';
COMMENT ON COLUMN payment.fee_quote.fixed IS 'The rate that counts: so much of each order,';
COMMENT ON COLUMN payment.fee_quote.basis_points IS 'and so many hundredths of a percent of the amount.';
COMMENT ON COLUMN payment.fee_quote.volume IS 'What the seller has captured before; null: the schedule has no tiers.';
COMMENT ON COLUMN payment.fee_quote.from_volume IS 'The tier that counts; null: the schedule''s own rate does.';
COMMENT ON COLUMN payment.fee_quote.applied_limit IS 'min_fee, max_fee or amount, where the rate alone would give less or more.';

CREATE FUNCTION payment.quote_fee(seller uuid, amount bigint, currency text, psp text DEFAULT NULL,
    payment_method text DEFAULT NULL, at timestamptz DEFAULT NULL) RETURNS payment.fee_quote
    LANGUAGE c STABLE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_quote_fee';

COMMENT ON FUNCTION payment.quote_fee(uuid, bigint, text, text, text, timestamptz) IS
    'What the platform would take of an order that is made at a time (null: now), and how that comes about. Without psp, or '
    'payment_method, schedules that ask for one do not count. Tiers go by what is captured now on days up to that time. '
    'Errors: PY001, PY002, PY003, PY005, PY006, PY010, PY011.';

CREATE FUNCTION payment.set_routing_rule(name text, psp text, priority integer, currency text DEFAULT NULL,
    min_amount bigint DEFAULT NULL, max_amount bigint DEFAULT NULL, seller uuid DEFAULT NULL,
    payment_method text DEFAULT NULL, weight integer DEFAULT 100, state text DEFAULT 'active') RETURNS void
    LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_set_routing_rule';

COMMENT ON FUNCTION payment.set_routing_rule(text, text, integer, text, bigint, bigint, uuid, text, integer, text) IS
    'Make a routing rule, or replace the one of that name: payments that match, and whose caller names no PSP, go to psp. '
    'priority: 1 to 1000000, the lowest that matches counts. currency, min_amount and max_amount (the payment''s total in '
    'minor units, inclusive; only with a currency), seller (all of its orders are that seller''s), payment_method (* stands '
    'for any characters): what it asks for, null: nothing. weight: 1 to 1000, its share among rules of one priority. state: '
    'active or paused. At most payment.max_routing_rules. Errors: PY001, PY002, PY003, PY005, PY006, PY010, PY011.';

CREATE FUNCTION payment.remove_routing_rule(name text) RETURNS boolean
    LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_remove_routing_rule';

COMMENT ON FUNCTION payment.remove_routing_rule(text) IS
    'Remove a routing rule; false when there is none of that name. Payments that have been routed keep their way. Errors: PY001.';

-- The application's calls.

CREATE TYPE payment.checkout_result AS (
    payment_id uuid,
    order_ids uuid[]
);

COMMENT ON TYPE payment.checkout_result IS 'What payment.checkout() made.';
COMMENT ON COLUMN payment.checkout_result.payment_id IS 'Id of the payment.';
COMMENT ON COLUMN payment.checkout_result.order_ids IS 'Ids of its payment orders, in the order they were passed.';

CREATE FUNCTION payment.checkout(idempotency_key text, payer text, orders jsonb, psp text DEFAULT NULL,
    payment_method text DEFAULT NULL, metadata jsonb DEFAULT '{}', payment_methods jsonb DEFAULT NULL,
    capture text DEFAULT 'automatic', on_partial_failure text DEFAULT 'keep', hosted jsonb DEFAULT NULL)
    RETURNS payment.checkout_result
    LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_checkout';

COMMENT ON FUNCTION payment.checkout(text, text, jsonb, text, text, jsonb, jsonb, text, text, jsonb) IS
    'Pay one or more sellers: makes a payment with one payment order each, which the worker sends once the transaction '
    'commits. orders: an array of {"seller": reference or id, "amount": minor units as a number (1234) or major units '
    'as a string ("12.34"), "currency": "USD", "reference": text, "description": text, "metadata": object}, the last '
    'three as you like. psp: its name; without it payment.routing_rule chooses, and where no rule matches the only one that '
    'could do it. payment_method: the PSP''s name of it; or payment_methods: what each PSP calls it, as {"psp name": "token"}, '
    'then only these PSPs are chosen from, and an order that was certainly not executed at one goes on to the next. capture: '
    'automatic, or manual: the money is only reserved, until capture() or void(). on_partial_failure: keep what succeeded, or '
    'all_or_nothing: when an order comes to nothing, the others are cancelled, voided or refunded. hosted: instead of a payment method, '
    'the payer pays at a page of the PSP''s, whose address payment.payment shows as hosted_url: {"success_url": …, '
    '"cancel_url": …, "expires_in_s": 3600 to 82800, "locale": "de"}, the last two as you like; of several orders each is '
    'charged by itself once the payer has left a payment method there. The same '
    'idempotency_key with the same arguments gives the first call''s result. Errors: PY001 to PY006, PY010, PY011, '
    'PY100, PY303 (the seller is suspended).';

CREATE FUNCTION payment.submit(events jsonb) RETURNS TABLE ("position" integer, idempotency_key text,
    payment_type text, object_id uuid, order_ids uuid[])
    LANGUAGE c VOLATILE ROWS 100
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_submit';

COMMENT ON FUNCTION payment.submit(jsonb) IS
    'Take many payment events (an array, or one object), all or none. Pay-in: {"idempotency_key": …, "payment_type": '
    '"pay_in", "payer": text or {"reference": …, details}, "psp": …, "payment_method": …, "payment_methods": …, "capture": …, '
    '"on_partial_failure": …, "orders": as in checkout(), '
    '"metadata": …}. Pay-out: {"idempotency_key": …, "payment_type": "pay_out", "seller": …, "amount": …, "currency": …, '
    '"destination": …, "psp": …}. A seller given as {"reference": …, "name": …, "metadata": …} is registered when unknown. '
    'Returns one row per event in input order: the payment''s or payout''s id and the ids of a payment''s orders. Errors '
    'name the place, counted from 1, as in events[2].orders[1].amount: those of checkout() and payout().';

CREATE FUNCTION payment.payout(seller uuid, amount bigint, currency text, destination text, idempotency_key text,
    psp text DEFAULT NULL) RETURNS uuid
    LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_payout';

COMMENT ON FUNCTION payment.payout(uuid, bigint, text, text, text, text) IS
    'Pay a seller: moves amount (minor units) of the seller''s available money into payout at once and has the worker '
    'send it to destination (the PSP''s name of the bank account) once the transaction commits; returns the payout''s id. '
    'The same idempotency_key with the same arguments gives the first call''s result. Errors: PY001 to PY006, PY010, '
    'PY011, PY100, PY202 (not that much available), PY303 (the seller is suspended).';

CREATE FUNCTION payment.retry_order(payment_order uuid, idempotency_key text, psp text DEFAULT NULL,
    payment_method text DEFAULT NULL) RETURNS integer
    LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_retry_order';

COMMENT ON FUNCTION payment.retry_order(uuid, text, text, text) IS
    'Try a declined order again under a new key at the PSP, which the worker sends once the transaction commits; the payment '
    'is processing again. psp: its name; null: the one that declined it. payment_method: that PSP''s name of it; null: what '
    'the payment has for that PSP. Returns the number of the attempt. The same idempotency_key with the same arguments gives '
    'the first call''s result. Errors: PY001, PY005, PY006 (payment.max_attempts_per_order), PY010 (no such PSP, or it is paused), PY012, PY100, PY303 (it is '
    'not declined, or may have been charged already, or the seller is suspended).';

CREATE FUNCTION payment.capture(payment_order uuid, idempotency_key text, amount bigint DEFAULT NULL,
    final boolean DEFAULT true) RETURNS integer
    LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_capture';

COMMENT ON FUNCTION payment.capture(uuid, text, bigint, boolean) IS
    'Take money that was authorised, which the worker has the PSP do once the transaction commits; returns the number of the '
    'capture, from 1. amount: minor units, null: all that is left. final: nothing more will be captured, the rest is free '
    'again; false where the PSP captures in several parts: the rest stays authorised. One capture at a time. The same '
    'idempotency_key with the same arguments gives the first call''s result. Errors: PY001, PY003, PY005, PY006, PY012, PY100, '
    'PY303 (it is not authorised, the authorisation is over, or its PSP cannot do this), PY305 (more than is authorised).';

CREATE FUNCTION payment.void(payment_order uuid, idempotency_key text) RETURNS boolean
    LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_void';

COMMENT ON FUNCTION payment.void(uuid, text) IS
    'Give back what is authorised and not captured, which the worker has the PSP do once the transaction commits. Returns '
    'true. The same idempotency_key with the same arguments does nothing more. Errors: PY001, PY005, PY006, PY012, PY100, '
    'PY303 (it is not authorised, or its PSP cannot do this).';

CREATE FUNCTION payment.cancel(object uuid, idempotency_key text) RETURNS integer
    LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_cancel';

COMMENT ON FUNCTION payment.cancel(uuid, text) IS
    'Cancel a payment order, or all orders of a payment: those that have not been sent are cancelled, those that are '
    'authorised are voided, those whose payer is at a hosted page are cancelled once the PSP says that the page is closed '
    '(who has paid by then has paid), others stay as they are. Returns the number of all three. The same idempotency_key with the same '
    'arguments gives the first call''s result. Errors: PY001, PY005, PY006, PY012, PY100, PY303 (nothing of it can be '
    'cancelled).';

CREATE FUNCTION payment.refund(payment_order uuid, amount bigint, idempotency_key text, reason text DEFAULT NULL,
    fee_policy text DEFAULT 'proportional') RETURNS uuid
    LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_refund';

COMMENT ON FUNCTION payment.refund(uuid, bigint, text, text, text) IS
    'Give a payer back amount (minor units; null: all that is left) of a captured order, which the worker has the PSP do once '
    'the transaction commits; returns the refund''s id. The money leaves the seller at once: what is pending of the order, else '
    'what is available, and what is missing the seller owes. reason: requested_by_customer, duplicate or fraudulent. '
    'fee_policy: proportional, or none: the platform keeps its fee, and the seller pays all. The same idempotency_key with the '
    'same arguments gives the first call''s result. Errors: PY001, PY003, PY005, PY006, PY012, PY100, PY303 (nothing is '
    'captured, a refund of it is in doubt, or its PSP cannot do this), PY306 (more than is left), PY307 (it is disputed).';

CREATE FUNCTION payment.submit_dispute_evidence(dispute uuid, evidence jsonb, idempotency_key text) RETURNS uuid
    LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_submit_dispute_evidence';

COMMENT ON FUNCTION payment.submit_dispute_evidence(uuid, jsonb, text) IS
    'Answer an open dispute with evidence, which the worker submits to the PSP once the transaction commits; returns the answer''s '
    'id. evidence: 1 to 64 texts by the PSP''s names for them, as {"uncategorized_text": "..."}, together at most '
    'payment.max_dispute_evidence_bytes. The same idempotency_key with the same arguments gives the first call''s result. Errors: '
    'PY001, PY005, PY006, PY012, PY100, PY303 (it is not open, an answer is on its way, or its PSP cannot do this).';

CREATE FUNCTION payment.accept_dispute(dispute uuid, idempotency_key text) RETURNS uuid
    LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_accept_dispute';

COMMENT ON FUNCTION payment.accept_dispute(uuid, text) IS
    'Let the payer have the money of an open dispute, which the worker tells the PSP once the transaction commits; returns the '
    'answer''s id. The same idempotency_key with the same arguments gives the first call''s result. Errors: PY001, PY005, PY006, '
    'PY012, PY100, PY303 (it is not open, an answer is on its way, or its PSP cannot do this).';

CREATE FUNCTION payment.release(payment_order uuid) RETURNS boolean
    LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_release';

COMMENT ON FUNCTION payment.release(uuid) IS
    'End the holding period of a captured order: the seller''s share of it moves from pending to available. True when '
    'done now, false when it was before. Errors: PY001, PY012, PY303 (not captured).';

CREATE FUNCTION payment.receipt(payment_order uuid) RETURNS jsonb
    LANGUAGE c STABLE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_receipt';

COMMENT ON FUNCTION payment.receipt(uuid) IS
    'All about a payment order: payment, seller, amounts (in minor units, and in major units as text), status, times, '
    'history, attempts at the PSP and postings in the ledger. Errors: PY001, PY012.';

-- What people and applications read.

CREATE FUNCTION payment.classic_status(status text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN CASE
        WHEN status = 'created' THEN 'NOT_STARTED'
        WHEN status IN ('captured', 'partially_captured') THEN 'SUCCESS'
        WHEN status IN ('declined', 'failed', 'expired', 'cancelled', 'voided', 'reversed') THEN 'FAILED'
        ELSE 'EXECUTING'
    END;

COMMENT ON FUNCTION payment.classic_status(text) IS
    'A payment order''s status as one of four: NOT_STARTED, EXECUTING (also while the outcome is unknown or in dispute), '
    'SUCCESS, FAILED.';

CREATE VIEW payment.payment AS
SELECT p.id, p.payer, v.name AS psp, p.payment_method, p.status, p.order_count, p.succeeded_count, p.failed_count,
    p.metadata, payment.id_time(p.id) AS created_at, p.updated_at, p.capture_method, p.on_partial_failure,
    (SELECT h.url FROM payment.hosted_page h
     WHERE h.payment_id = p.id AND p.status = 'awaiting_customer') AS hosted_url
FROM payment.payment_record p
JOIN payment.psp v ON v.id = p.psp_id;

COMMENT ON VIEW payment.payment IS 'Payments: what a payer pays at once.';
COMMENT ON COLUMN payment.payment.id IS 'Id of the payment.';
COMMENT ON COLUMN payment.payment.payer IS 'Who pays, as the application calls them.';
COMMENT ON COLUMN payment.payment.psp IS 'Name of the PSP where its orders begin.';
COMMENT ON COLUMN payment.payment.capture_method IS 'automatic; or manual: its orders are authorised, and captured when payment.capture() asks.';
COMMENT ON COLUMN payment.payment.on_partial_failure IS
    'When one of its orders comes to nothing: keep the others, or all_or_nothing: they are cancelled, voided or refunded.';
COMMENT ON COLUMN payment.payment.payment_method IS 'The PSP''s name of card or account; never a card number.';
COMMENT ON COLUMN payment.payment.status IS 'See payment.transitions(), object payment.';
COMMENT ON COLUMN payment.payment.order_count IS 'Payment orders it has.';
COMMENT ON COLUMN payment.payment.succeeded_count IS 'Those that are captured.';
COMMENT ON COLUMN payment.payment.failed_count IS 'Those that came to nothing.';
COMMENT ON COLUMN payment.payment.metadata IS 'What the application added.';
COMMENT ON COLUMN payment.payment.created_at IS 'When it was made.';
COMMENT ON COLUMN payment.payment.updated_at IS 'When it last changed.';
COMMENT ON COLUMN payment.payment.hosted_url IS 'Where the payer pays, while it is awaiting_customer.';

CREATE VIEW payment.payment_order AS
SELECT o.id, o.payment_id, o.seller_id, s.reference AS seller, v.name AS psp, o.amount, o.currency, o.platform_fee,
    o.authorized_amount, o.authorized_until, o.captured_amount, o.refunded_amount, o.disputed_amount, o.status,
    payment.classic_status(o.status) AS classic_status, o.attempt_no, o.psp_reference,
    o.failure_code, o.failure_message, o.reference, o.description, o.metadata, payment.id_time(o.id) AS created_at,
    o.captured_at, o.released_at, o.updated_at, o.settled_currency, o.settled_amount, o.exchange_rate, o.psp_fee
FROM payment.order_record o
JOIN payment.seller s ON s.id = o.seller_id
JOIN payment.psp v ON v.id = o.psp_id;

COMMENT ON VIEW payment.payment_order IS 'Payment orders: one seller''s part of a payment.';
COMMENT ON COLUMN payment.payment_order.id IS 'Id of the order.';
COMMENT ON COLUMN payment.payment_order.payment_id IS 'The payment it belongs to.';
COMMENT ON COLUMN payment.payment_order.seller_id IS 'Id of the seller.';
COMMENT ON COLUMN payment.payment_order.seller IS 'The seller''s reference.';
COMMENT ON COLUMN payment.payment_order.psp IS 'Name of the PSP, of several that were tried the last one.';
COMMENT ON COLUMN payment.payment_order.amount IS 'What the payer pays, in minor units.';
COMMENT ON COLUMN payment.payment_order.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN payment.payment_order.platform_fee IS 'The platform''s part of the amount, in minor units.';
COMMENT ON COLUMN payment.payment_order.authorized_amount IS 'What was authorised to be captured later, in minor units; 0: it was not.';
COMMENT ON COLUMN payment.payment_order.authorized_until IS 'Until when that can be captured; null: not known.';
COMMENT ON COLUMN payment.payment_order.captured_amount IS 'What has been taken from the payer, in minor units.';
COMMENT ON COLUMN payment.payment_order.refunded_amount IS 'Refunds that have not failed nor been cancelled, in minor units.';
COMMENT ON COLUMN payment.payment_order.disputed_amount IS
    'What disputes have taken of it and not given back, as far as refunds had not, in minor units.';
COMMENT ON COLUMN payment.payment_order.status IS 'See payment.transitions(), object payment_order.';
COMMENT ON COLUMN payment.payment_order.classic_status IS 'NOT_STARTED, EXECUTING, SUCCESS or FAILED.';
COMMENT ON COLUMN payment.payment_order.attempt_no IS 'How many times it was begun anew after a definite failure.';
COMMENT ON COLUMN payment.payment_order.psp_reference IS 'The PSP''s name of the charge.';
COMMENT ON COLUMN payment.payment_order.failure_code IS 'Why it failed, as the PSP codes it.';
COMMENT ON COLUMN payment.payment_order.failure_message IS 'Why it failed, in words.';
COMMENT ON COLUMN payment.payment_order.reference IS 'The application''s name of the order.';
COMMENT ON COLUMN payment.payment_order.description IS 'What it is for.';
COMMENT ON COLUMN payment.payment_order.metadata IS 'What the application added.';
COMMENT ON COLUMN payment.payment_order.created_at IS 'When it was made.';
COMMENT ON COLUMN payment.payment_order.captured_at IS 'When the money was taken.';
COMMENT ON COLUMN payment.payment_order.released_at IS 'When the seller''s share became available.';
COMMENT ON COLUMN payment.payment_order.updated_at IS 'When it last changed.';
COMMENT ON COLUMN payment.payment_order.settled_currency IS 'Currency in which the PSP credits it; null: not known yet.';
COMMENT ON COLUMN payment.payment_order.settled_amount IS 'What the PSP credits before its fee, minor units of settled_currency; null: not known yet.';
COMMENT ON COLUMN payment.payment_order.exchange_rate IS 'settled_currency for one unit of currency, as the PSP said it; null: not said, or the same currency.';
COMMENT ON COLUMN payment.payment_order.psp_fee IS 'What the PSP said it keeps, minor units of settled_currency; null: its answers did not say.';

CREATE VIEW payment.refund AS
SELECT r.id, r.order_id, r.seller_id, s.reference AS seller, v.name AS psp, r.amount, r.currency, r.fee_share, r.status,
    r.attempt_no, r.psp_reference, r.failure_code, r.failure_message, r.reason, r.requested_by,
    payment.id_time(r.id) AS created_at, r.updated_at, r.settled_currency, r.settled_amount, r.exchange_rate
FROM payment.refund_record r
JOIN payment.seller s ON s.id = r.seller_id
JOIN payment.psp v ON v.id = r.psp_id;

COMMENT ON VIEW payment.refund IS 'Refunds: money of orders on its way back to payers.';
COMMENT ON COLUMN payment.refund.id IS 'Id of the refund.';
COMMENT ON COLUMN payment.refund.order_id IS 'The payment order.';
COMMENT ON COLUMN payment.refund.seller_id IS 'Id of the seller.';
COMMENT ON COLUMN payment.refund.seller IS 'The seller''s reference.';
COMMENT ON COLUMN payment.refund.psp IS 'Name of the PSP that gives the money back.';
COMMENT ON COLUMN payment.refund.amount IS 'What the payer gets, in minor units.';
COMMENT ON COLUMN payment.refund.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN payment.refund.fee_share IS 'What of it the platform gives back of its fee, in minor units.';
COMMENT ON COLUMN payment.refund.status IS 'See payment.transitions(), object refund.';
COMMENT ON COLUMN payment.refund.attempt_no IS 'How many times it was begun anew after a definite failure.';
COMMENT ON COLUMN payment.refund.psp_reference IS 'The PSP''s name of the refund.';
COMMENT ON COLUMN payment.refund.failure_code IS 'Why it failed, as the PSP codes it.';
COMMENT ON COLUMN payment.refund.failure_message IS 'Why it failed, in words.';
COMMENT ON COLUMN payment.refund.reason IS 'requested_by_customer, duplicate or fraudulent; null: not said.';
COMMENT ON COLUMN payment.refund.requested_by IS 'The role that asked for it.';
COMMENT ON COLUMN payment.refund.created_at IS 'When it was asked for.';
COMMENT ON COLUMN payment.refund.updated_at IS 'When it last changed.';
COMMENT ON COLUMN payment.refund.settled_currency IS 'Currency in which the PSP takes it from us, where that is another one; null: it is not, or not known yet.';
COMMENT ON COLUMN payment.refund.settled_amount IS 'What the PSP takes for it, minor units of settled_currency.';
COMMENT ON COLUMN payment.refund.exchange_rate IS 'settled_currency for one unit of currency, as the PSP said it; null: not said.';

CREATE VIEW payment.dispute AS
SELECT d.id, d.order_id, d.seller_id, s.reference AS seller, v.name AS psp, d.amount, d.currency,
    pg_catalog.split_part(d.status, '/', 1) AS stage, pg_catalog.split_part(d.status, '/', 2) AS status,
    d.psp_reference, d.reason, d.respond_by, d.is_taken,
    d.from_pending + d.from_available + d.from_receivable AS seller_share, d.fee_share, d.platform_loss, d.fee,
    d.fee_currency, payment.id_time(d.id) AS created_at, d.updated_at
FROM payment.dispute_record d
JOIN payment.seller s ON s.id = d.seller_id
JOIN payment.psp v ON v.id = d.psp_id;

COMMENT ON VIEW payment.dispute IS 'Disputes: money of orders that payers'' banks want back, or took (chargebacks).';
COMMENT ON COLUMN payment.dispute.id IS 'Id of the dispute.';
COMMENT ON COLUMN payment.dispute.order_id IS 'The payment order.';
COMMENT ON COLUMN payment.dispute.seller_id IS 'Id of the seller.';
COMMENT ON COLUMN payment.dispute.seller IS 'The seller''s reference.';
COMMENT ON COLUMN payment.dispute.psp IS 'Name of the PSP that tells of it.';
COMMENT ON COLUMN payment.dispute.amount IS 'What the payer''s bank wants back, in minor units.';
COMMENT ON COLUMN payment.dispute.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN payment.dispute.stage IS 'inquiry (no money moves), chargeback, pre_arbitration or arbitration.';
COMMENT ON COLUMN payment.dispute.status IS
    'Within the stage: open, challenged (evidence was submitted), accepted, expired, withdrawn, won or lost.';
COMMENT ON COLUMN payment.dispute.psp_reference IS 'The PSP''s name of the dispute.';
COMMENT ON COLUMN payment.dispute.reason IS 'Why the payer disputes it, as the PSP codes it; null: not said.';
COMMENT ON COLUMN payment.dispute.respond_by IS 'Until when the PSP takes an answer; null: not said.';
COMMENT ON COLUMN payment.dispute.is_taken IS 'Whether the PSP has taken the money, and not given it back.';
COMMENT ON COLUMN payment.dispute.seller_share IS 'What of that is the seller''s: held, or once it is lost gone; minor units.';
COMMENT ON COLUMN payment.dispute.fee_share IS 'What of it is the platform''s fee, in minor units.';
COMMENT ON COLUMN payment.dispute.platform_loss IS
    'What of it was refunded or disputed before, and is the platform''s; minor units.';
COMMENT ON COLUMN payment.dispute.fee IS 'What the PSP charged for it in all, in minor units of fee_currency.';
COMMENT ON COLUMN payment.dispute.fee_currency IS 'ISO 4217 code; null: it charged nothing.';
COMMENT ON COLUMN payment.dispute.created_at IS 'When it became known.';
COMMENT ON COLUMN payment.dispute.updated_at IS 'When it last changed.';

CREATE VIEW payment.dispute_response AS
SELECT r.id, r.dispute_id, v.name AS psp, r.operation, r.status, r.attempt_no, r.failure_code, r.failure_message, r.requested_by,
    payment.id_time(r.id) AS created_at, r.updated_at
FROM payment.dispute_response_record r
JOIN payment.psp v ON v.id = r.psp_id;

COMMENT ON VIEW payment.dispute_response IS 'Answers to disputes, without their texts, and what became of them.';
COMMENT ON COLUMN payment.dispute_response.id IS 'Id of the answer.';
COMMENT ON COLUMN payment.dispute_response.dispute_id IS 'The dispute.';
COMMENT ON COLUMN payment.dispute_response.psp IS 'Name of the PSP that takes it.';
COMMENT ON COLUMN payment.dispute_response.operation IS 'dispute_evidence or dispute_accept.';
COMMENT ON COLUMN payment.dispute_response.status IS 'See payment.transitions(), object dispute_response.';
COMMENT ON COLUMN payment.dispute_response.attempt_no IS 'How many times it was begun anew after a definite failure.';
COMMENT ON COLUMN payment.dispute_response.failure_code IS 'Why it failed, as the PSP codes it.';
COMMENT ON COLUMN payment.dispute_response.failure_message IS 'Why it failed, in words.';
COMMENT ON COLUMN payment.dispute_response.requested_by IS 'The role that asked for it.';
COMMENT ON COLUMN payment.dispute_response.created_at IS 'When it was asked for.';
COMMENT ON COLUMN payment.dispute_response.updated_at IS 'When it last changed.';

CREATE VIEW payment.payout AS
SELECT p.id, p.seller_id, s.reference AS seller, v.name AS psp, p.amount, p.currency, p.destination, p.status,
    p.attempt_no, p.psp_reference, p.failure_code, p.failure_message, p.requested_by,
    payment.id_time(p.id) AS created_at, p.updated_at
FROM payment.payout_record p
JOIN payment.seller s ON s.id = p.seller_id
JOIN payment.psp v ON v.id = p.psp_id;

COMMENT ON VIEW payment.payout IS 'Payouts: sellers'' money on its way to their banks.';
COMMENT ON COLUMN payment.payout.id IS 'Id of the payout.';
COMMENT ON COLUMN payment.payout.seller_id IS 'Id of the seller.';
COMMENT ON COLUMN payment.payout.seller IS 'The seller''s reference.';
COMMENT ON COLUMN payment.payout.psp IS 'Name of the PSP that pays.';
COMMENT ON COLUMN payment.payout.amount IS 'Minor units.';
COMMENT ON COLUMN payment.payout.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN payment.payout.destination IS 'The PSP''s name of the bank account.';
COMMENT ON COLUMN payment.payout.status IS 'See payment.transitions(), object payout.';
COMMENT ON COLUMN payment.payout.attempt_no IS 'How many times it was begun anew after a definite failure.';
COMMENT ON COLUMN payment.payout.psp_reference IS 'The PSP''s name of the payout.';
COMMENT ON COLUMN payment.payout.failure_code IS 'Why it failed, as the PSP codes it.';
COMMENT ON COLUMN payment.payout.failure_message IS 'Why it failed, in words.';
COMMENT ON COLUMN payment.payout.requested_by IS 'The role that asked for it.';
COMMENT ON COLUMN payment.payout.created_at IS 'When it was asked for.';
COMMENT ON COLUMN payment.payout.updated_at IS 'When it last changed.';

-- Exact at every isolation level, also within a transaction that has posted.
-- The function is called in one place only, so that all of it is of the same
-- moment.
CREATE VIEW payment.wallet AS
SELECT s.id AS seller_id, s.reference AS seller, a.currency,
    COALESCE(pg_catalog.sum((b.balance).posted) FILTER (WHERE a.code = 'seller_pending'), 0)::bigint AS pending,
    COALESCE(pg_catalog.sum((b.balance).available) FILTER (WHERE a.code = 'seller_available'), 0)::bigint AS available,
    (COALESCE(pg_catalog.sum((b.balance).posted) FILTER (WHERE a.code = 'seller_dispute_hold'), 0) +
        COALESCE(pg_catalog.sum((b.balance).pending) FILTER (WHERE a.code = 'seller_available'), 0))::bigint AS held,
    COALESCE(pg_catalog.sum((b.balance).posted) FILTER (WHERE a.code = 'payout_clearing'), 0)::bigint AS in_payout,
    COALESCE(pg_catalog.sum((b.balance).posted) FILTER (WHERE a.code = 'seller_receivable'), 0)::bigint AS owed
FROM payment.seller s
JOIN payment.account a ON a.owner = s.id
    AND a.code IN ('seller_pending', 'seller_available', 'seller_dispute_hold', 'payout_clearing', 'seller_receivable')
CROSS JOIN LATERAL (SELECT payment.latest_balance(a.id, a.kind) AS balance OFFSET 0) b
GROUP BY s.id, s.reference, a.currency;

COMMENT ON VIEW payment.wallet IS
    'Sellers'' money: the ledger''s accounts of one seller in one currency, seen together. Amounts in minor units.';
COMMENT ON COLUMN payment.wallet.seller_id IS 'Id of the seller.';
COMMENT ON COLUMN payment.wallet.seller IS 'The seller''s reference.';
COMMENT ON COLUMN payment.wallet.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN payment.wallet.pending IS 'Captured, not released yet.';
COMMENT ON COLUMN payment.wallet.available IS 'Released: may be paid out.';
COMMENT ON COLUMN payment.wallet.held IS 'Held back because of disputes and holds.';
COMMENT ON COLUMN payment.wallet.in_payout IS 'On its way to the seller''s bank.';
COMMENT ON COLUMN payment.wallet.owed IS 'What the seller owes the platform.';

GRANT EXECUTE ON FUNCTION payment.release(uuid), payment.receipt(uuid) TO payment_app;
GRANT EXECUTE ON FUNCTION payment.receipt(uuid) TO payment_finance, payment_auditor;
GRANT EXECUTE ON FUNCTION payment.classic_status(text) TO payment_app, payment_finance, payment_admin, payment_auditor,
    payment_worker;
GRANT SELECT ON payment.payment, payment.payment_order, payment.refund, payment.dispute, payment.dispute_response, payment.payout,
    payment.wallet
    TO payment_app, payment_finance, payment_admin, payment_auditor;
GRANT SELECT ON payment.psp, payment.seller, payment.fee_schedule, payment.counted_volume, payment.seller_volume,
    payment.routing_rule
    TO payment_finance, payment_admin, payment_auditor;
GRANT SELECT ON payment.partial_failure, payment.payment_record, payment.order_record, payment.refund_record, payment.dispute_record,
    payment.dispute_response_record, payment.payout_record,
    payment.psp_reference, payment.status_history, payment.attempt, payment.task TO payment_finance, payment_auditor;

GRANT EXECUTE ON FUNCTION payment.transitions() TO payment_app, payment_finance, payment_admin, payment_auditor,
    payment_worker;
GRANT EXECUTE ON FUNCTION payment.register_psp(text, text, text, text, jsonb, text[]),
    payment.set_fee_schedule(bigint, integer, uuid, text, text, text, bigint, bigint, jsonb, text, timestamptz, timestamptz),
    payment.end_fee_schedule(uuid, timestamptz),
    payment.set_routing_rule(text, text, integer, text, bigint, bigint, uuid, text, integer, text),
    payment.remove_routing_rule(text) TO payment_admin;
GRANT EXECUTE ON FUNCTION payment.quote_fee(uuid, bigint, text, text, text, timestamptz)
    TO payment_app, payment_finance, payment_admin, payment_auditor;
GRANT EXECUTE ON FUNCTION payment.register_seller(text, text, jsonb), payment.seller_id(text)
    TO payment_app, payment_admin;
GRANT EXECUTE ON FUNCTION payment.checkout(text, text, jsonb, text, text, jsonb, jsonb, text, text, jsonb), payment.submit(jsonb),
    payment.capture(uuid, text, bigint, boolean), payment.void(uuid, text), payment.cancel(uuid, text),
    payment.refund(uuid, bigint, text, text, text),
    payment.submit_dispute_evidence(uuid, jsonb, text), payment.accept_dispute(uuid, text),
    payment.payout(uuid, bigint, text, text, text, text), payment.retry_order(uuid, text, text, text) TO payment_app;

-- Dispatching: claim, record, and the queue for people to look at.

CREATE FUNCTION payment.claim_tasks(psp uuid, max_tasks integer, lease_ms integer, lane_limits integer[] DEFAULT NULL)
    RETURNS SETOF payment.claimed_task
    LANGUAGE c
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_claim_tasks';

COMMENT ON FUNCTION payment.claim_tasks(uuid, integer, integer, integer[]) IS
    'Hands out at most max_tasks (1 to 10000) due tasks of a PSP and writes an attempt for each; tasks that another '
    'transaction holds are skipped. There are four lanes: new payments, new payouts, payments and payouts tried before; '
    'each gets an equal share, what one does not need goes to the others, and in each the oldest come first. lane_limits: '
    'at most so many of each, in that order, and as the fifth so many more of any; null: no limits but max_tasks. Commit before sending anything. Record what came of each within '
    'lease_ms (1 to 86400000); after that the task falls due again, and what may have been sent is looked up first. '
    'Tasks tried too often become dead letters. Nothing while the PSP is paused. Errors: PY001 bad argument, PY010 '
    'unknown PSP, PY501 this copy of the database may not send, PY502 no synchronous standby.';

CREATE FUNCTION payment.record_outcomes(outcomes payment.attempt_outcome[]) RETURNS integer
    LANGUAGE c
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_record_outcomes';

COMMENT ON FUNCTION payment.record_outcomes(payment.attempt_outcome[]) IS
    'Records what came of attempts (at most 10000), all or none: statuses, ledger, PSP references, exceptions, and when '
    'each task goes on. May be repeated: what is known already changes nothing. Returns the number of attempts whose '
    'outcome was not known before. Errors: PY001 an outcome that is not what payment.attempt_outcome says, PY006 too '
    'many, PY012 unknown attempt.';

CREATE FUNCTION payment.expire_authorizations(max_orders integer) RETURNS bigint
    LANGUAGE c
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
    AS 'MODULE_PATHNAME', 'payment_expire_authorizations';

COMMENT ON FUNCTION payment.expire_authorizations(integer) IS
    'Ends authorisations that could be captured until payment.authorization_grace_s seconds ago: orders become expired, or '
    'captured where a part was. So do hosted pages of PSPs that cannot be asked about them. At most max_orders of each '
    '(1 to 10000); returns how many. The worker calls it every minute. '
    'Errors: PY001.';

CREATE FUNCTION payment.undo_partial_failures(max_payments integer) RETURNS bigint
    LANGUAGE c
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
    AS 'MODULE_PATHNAME', 'payment_undo_partial_failures';

COMMENT ON FUNCTION payment.undo_partial_failures(integer) IS
    'Goes on with payments that are all or nothing and of which an order came to nothing: of the others, what was not sent is '
    'cancelled, what is authorised is voided, what was captured is refunded; what is under way is waited for. At most '
    'max_payments (1 to 1000); returns how many it looked at. The worker calls it every second. Errors: PY001.';

CREATE FUNCTION payment.expire_leases() RETURNS bigint
    LANGUAGE c
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_expire_leases';

COMMENT ON FUNCTION payment.expire_leases() IS
    'Makes every claimed task fall due now, as if its lease had run out, and returns their number. Only for a dispatcher '
    'that starts and is the only one.';

CREATE FUNCTION payment.next_task_due(psp uuid DEFAULT NULL, lane_limits integer[] DEFAULT NULL) RETURNS timestamptz
    LANGUAGE c
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_next_task_due';

COMMENT ON FUNCTION payment.next_task_due(uuid, integer[]) IS
    'When the next task of the PSP (null: of any) falls due, or did; null when none waits. Paused PSPs do not count, nor '
    'do lanes that lane_limits (as of payment.claim_tasks()) leaves nothing. Errors: PY001 bad argument.';

CREATE FUNCTION payment.move_waiting_orders(psp uuid, max_orders integer, after timestamptz DEFAULT NULL,
    OUT moved integer, OUT looked_until timestamptz)
    LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_move_waiting_orders';

COMMENT ON FUNCTION payment.move_waiting_orders(uuid, integer, timestamptz) IS
    'Gives routed orders that wait at a PSP whose circuit breaker is not closed, and for which nothing was ever sent, to the '
    'next PSP of their route that is active, has a closed breaker and a token of the payer''s. Looks at the oldest tasks '
    'that were due after "after" (null: all), at least max_orders (1 to 10000) of them and all of the same time, 100000 at most. moved: how '
    'many went on; looked_until: pass it as after to go on, null when there are no more. Nothing while the breaker is '
    'closed. For the dispatcher. Errors: PY001 bad argument, PY010 unknown PSP.';

CREATE FUNCTION payment.save_breaker(psp uuid, state text, since timestamptz, probe_at timestamptz, pause_ms integer,
    reason text, version bigint) RETURNS bigint
    LANGUAGE c
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
    AS 'MODULE_PATHNAME', 'payment_save_breaker';

COMMENT ON FUNCTION payment.save_breaker(uuid, text, timestamptz, timestamptz, integer, text, bigint) IS
    'Stores the state of a PSP''s circuit breaker, as in payment.circuit_breaker, when version is still that of the stored '
    'one (0: none is stored), and returns the new version; null when somebody else has changed it, or when there is no such '
    'PSP. For the dispatcher. Errors: PY001 bad argument.';

CREATE FUNCTION payment.record_hosted_page(attempt uuid, psp_reference text, url text, open_until timestamptz)
    RETURNS boolean
    LANGUAGE c
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_record_hosted_page';

COMMENT ON FUNCTION payment.record_hosted_page(uuid, text, text, timestamptz) IS
    'Stores what the PSP calls the hosted page that the attempt registered or looked at, its address and until when it is '
    'open (null: not said). For the dispatcher, just after it recorded the outcome. Returns whether that was new. Errors: '
    'PY001 bad argument.';

CREATE FUNCTION payment.reset_breaker(psp text) RETURNS boolean
    LANGUAGE c
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_reset_breaker';

COMMENT ON FUNCTION payment.reset_breaker(text) IS
    'Closes the circuit breaker of the PSP of that name, forgets its failures and the pause that it asked for, and has its '
    'tasks sent again at once. Returns whether it was anything but closed. Errors: PY001 bad argument, PY010 unknown PSP.';

CREATE FUNCTION payment.retry_dead_letter(task uuid) RETURNS boolean
    LANGUAGE c
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_retry_dead_letter';

COMMENT ON FUNCTION payment.retry_dead_letter(uuid) IS
    'Puts a dead letter back into the queue, due now, its tries forgotten. What was sent longer ago than the PSP keeps '
    'idempotency keys is looked up, not sent. Returns false when the task is not dead: already put back, or resolved '
    'since. Errors: PY001 null.';

CREATE FUNCTION payment.resolve_unknown(object uuid, outcome text, person text, reason text,
    psp_reference text DEFAULT NULL) RETURNS text
    LANGUAGE c
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_resolve_unknown';

COMMENT ON FUNCTION payment.resolve_unknown(uuid, text, text, text, text) IS
    'Two people decide what became of a payment order or payout whose outcome no lookup could tell (status unknown, in '
    'payment.dead_letter). outcome: succeeded (needs psp_reference) or failed (certainly not executed, and never will be). '
    'The first call proposes and returns proposed; the same call by another person (as a name: case and blanks do not '
    'count) applies it, in one commit with ledger and wallet, and returns applied. Whoever proposed may repeat, or propose '
    'something else instead. May be repeated. Errors: PY001 a bad argument, PY005 a card number, PY006 too long, PY012 '
    'unknown object, PY303 its outcome is not unknown or is still being looked up, PY304 another resolution is proposed, or '
    'the reference is another object''s.';

CREATE FUNCTION payment.reject_unknown_resolution(object uuid, person text, reason text) RETURNS boolean
    LANGUAGE c
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_reject_unknown_resolution';

COMMENT ON FUNCTION payment.reject_unknown_resolution(uuid, text, text) IS
    'Ends what is proposed for an object by payment.resolve_unknown(): rejected, or withdrawn when by the same person. '
    'Returns false when nothing is proposed. Errors: PY001 a bad argument, PY005 a card number, PY006 too long, PY012 '
    'unknown object.';

CREATE VIEW payment.dead_letter AS
    SELECT t.id AS task_id, t.psp_id, p.name AS psp, t.operation, t.step, t.object_id, t.tries, t.first_sent_at,
        t.dead_at, t.last_error,
        (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('attempt_id', a.id,
                'psp', (SELECT v.name FROM payment.psp AS v WHERE v.id = a.psp_id), 'step', a.step, 'attempt_no', a.attempt_no, 'psp_key', a.psp_key, 'claimed_at', a.claimed_at,
                'finished_at', a.finished_at, 'outcome', a.outcome, 'http_status', a.http_status,
                'latency_ms', a.latency_ms, 'psp_reference', a.psp_reference, 'error_code', a.error_code,
                'error_message', a.error_message, 'decline_class', a.decline_class)) ORDER BY a.id)
            FROM payment.attempt AS a WHERE a.object_id = t.object_id AND a.operation = t.operation) AS history
    FROM payment.task AS t JOIN payment.psp AS p ON p.id = t.psp_id
    WHERE t.dead_at IS NOT NULL;

COMMENT ON VIEW payment.dead_letter IS
    'Tasks that need people: tried too often, or contradicted. The order or payout keeps the status that is known. '
    'payment.retry_dead_letter(task_id) puts one back; what is unknown, payment.resolve_unknown() decides.';
COMMENT ON COLUMN payment.dead_letter.task_id IS 'The task, argument of payment.retry_dead_letter()';
COMMENT ON COLUMN payment.dead_letter.psp_id IS 'The PSP it is for';
COMMENT ON COLUMN payment.dead_letter.psp IS 'Name of the PSP';
COMMENT ON COLUMN payment.dead_letter.operation IS 'pay or payout';
COMMENT ON COLUMN payment.dead_letter.step IS 'What would come next: send or lookup';
COMMENT ON COLUMN payment.dead_letter.object_id IS 'The order (pay) or payout';
COMMENT ON COLUMN payment.dead_letter.tries IS 'Tries since the PSP last gave a definite answer';
COMMENT ON COLUMN payment.dead_letter.first_sent_at IS 'When the first request may have gone out; null: never sent';
COMMENT ON COLUMN payment.dead_letter.dead_at IS 'When it was given up';
COMMENT ON COLUMN payment.dead_letter.last_error IS 'Why, and what the PSP said last';
COMMENT ON COLUMN payment.dead_letter.history IS
    'Every attempt, oldest first, as a JSON array of objects with what payment.attempt has of it; null: none was made';

CREATE VIEW payment.queue_depth AS
    SELECT t.psp_id, p.name AS psp, t.operation, t.step,
        count(*) FILTER (WHERE t.dead_at IS NULL AND t.run_at <= clock.now) AS due,
        count(*) FILTER (WHERE t.dead_at IS NULL AND t.run_at > clock.now AND t.attempt_id IS NULL) AS waiting,
        count(*) FILTER (WHERE t.dead_at IS NULL AND t.run_at > clock.now AND t.attempt_id IS NOT NULL) AS in_flight,
        count(*) FILTER (WHERE t.dead_at IS NOT NULL) AS dead,
        max(clock.now - t.run_at) FILTER (WHERE t.dead_at IS NULL AND t.run_at <= clock.now) AS oldest_due_age
    FROM (SELECT pg_catalog.clock_timestamp() AS now OFFSET 0) AS clock, payment.task AS t
        JOIN payment.psp AS p ON p.id = t.psp_id
    GROUP BY t.psp_id, p.name, t.operation, t.step;

COMMENT ON VIEW payment.queue_depth IS 'How many tasks each PSP has, by operation and next step. Reads the whole queue.';
COMMENT ON COLUMN payment.queue_depth.psp_id IS 'The PSP';
COMMENT ON COLUMN payment.queue_depth.psp IS 'Name of the PSP';
COMMENT ON COLUMN payment.queue_depth.operation IS 'pay or payout';
COMMENT ON COLUMN payment.queue_depth.step IS 'send or lookup';
COMMENT ON COLUMN payment.queue_depth.due IS 'Tasks that could be claimed now, among them those whose lease ran out';
COMMENT ON COLUMN payment.queue_depth.waiting IS 'Tasks whose time has not come';
COMMENT ON COLUMN payment.queue_depth.in_flight IS 'Tasks that are claimed';
COMMENT ON COLUMN payment.queue_depth.dead IS 'Dead letters';
COMMENT ON COLUMN payment.queue_depth.oldest_due_age IS 'How long the oldest due task has been due; null: none is due';

COMMENT ON TABLE payment.task IS
    'The queue: one row for each operation that something is left to send or ask for; gone when its outcome is known.';
COMMENT ON COLUMN payment.task.id IS 'Id of the task (UUIDv7)';
COMMENT ON COLUMN payment.task.psp_id IS 'The PSP that executes it';
COMMENT ON COLUMN payment.task.operation IS 'pay: execute a payment order; payout: pay a seller';
COMMENT ON COLUMN payment.task.step IS 'What comes next: send the request, or lookup, ask the PSP what came of it';
COMMENT ON COLUMN payment.task.object_id IS 'The order (pay) or payout';
COMMENT ON COLUMN payment.task.run_at IS 'When it falls due; while it is claimed, when its lease runs out';
COMMENT ON COLUMN payment.task.tries IS
    'Claims since the PSP last gave a definite answer; at the PSP''s max_attempts the task dies';
COMMENT ON COLUMN payment.task.attempt_id IS 'The attempt under way; null: none';
COMMENT ON COLUMN payment.task.first_sent_at IS
    'When its first request may have gone out; null: none has. Lookups search from here, and past the PSP''s '
    'key_lifetime_s it is not sent again';
COMMENT ON COLUMN payment.task.last_sent_at IS
    'When the last request for it may have gone out; null: never sent';
COMMENT ON COLUMN payment.task.key_spent IS
    'The PSP replays its own failure for the present key; when a lookup then finds nothing, the next send has a new one';
COMMENT ON COLUMN payment.task.dead_at IS 'When it became a dead letter; null: it lives';
COMMENT ON COLUMN payment.task.last_error IS 'What the PSP said last, or why it died';

COMMENT ON TABLE payment.attempt IS 'One row for each claim: what was to be sent, under which key, and what came of it.';
COMMENT ON COLUMN payment.attempt.id IS 'Id of the attempt (UUIDv7)';
COMMENT ON COLUMN payment.attempt.task_id IS 'The task it was made for';
COMMENT ON COLUMN payment.attempt.object_id IS 'The order (pay) or payout';
COMMENT ON COLUMN payment.attempt.psp_id IS 'The PSP';
COMMENT ON COLUMN payment.attempt.operation IS 'pay or payout';
COMMENT ON COLUMN payment.attempt.step IS 'send or lookup';
COMMENT ON COLUMN payment.attempt.attempt_no IS
    'Which execution it belongs to: a repeat under the same key and its lookups share the number';
COMMENT ON COLUMN payment.attempt.psp_key IS 'Idempotency key at the PSP: object_id:operation:attempt_no';
COMMENT ON COLUMN payment.attempt.claimed_at IS 'When the dispatcher took it';
COMMENT ON COLUMN payment.attempt.lease_until IS 'Until when its outcome was expected';
COMMENT ON COLUMN payment.attempt.finished_at IS 'When its outcome was recorded; null: not yet';
COMMENT ON COLUMN payment.attempt.outcome IS
    'As in payment.attempt_outcome, or lease_expired: never recorded, it may have been sent';
COMMENT ON COLUMN payment.attempt.http_status IS 'Status of the answer; null: none came';
COMMENT ON COLUMN payment.attempt.latency_ms IS 'From sending to the answer, in milliseconds';
COMMENT ON COLUMN payment.attempt.psp_reference IS 'The PSP''s name for the object, as answered';
COMMENT ON COLUMN payment.attempt.error_code IS 'The PSP''s error code, at most 100 bytes';
COMMENT ON COLUMN payment.attempt.error_message IS 'The PSP''s message, at most 500 bytes, without card numbers';
COMMENT ON COLUMN payment.attempt.decline_class IS
    'Of what was declined or failed: as in payment.attempt_outcome; null: neither, or not said';

COMMENT ON TYPE payment.claimed_task IS 'What the worker gets to send, or to look up.';
COMMENT ON COLUMN payment.claimed_task.attempt_id IS 'The attempt: the outcome names it';
COMMENT ON COLUMN payment.claimed_task.task_id IS 'Its task';
COMMENT ON COLUMN payment.claimed_task.psp_id IS 'The PSP';
COMMENT ON COLUMN payment.claimed_task.operation IS 'pay, capture, void, refund or payout';
COMMENT ON COLUMN payment.claimed_task.step IS 'send or lookup';
COMMENT ON COLUMN payment.claimed_task.object_id IS 'The order (pay, capture, void), refund or payout';
COMMENT ON COLUMN payment.claimed_task.payment_id IS 'The order''s payment; null for a payout';
COMMENT ON COLUMN payment.claimed_task.psp_key IS 'Idempotency key: the same for a send, its repeats and its lookups';
COMMENT ON COLUMN payment.claimed_task.attempt_no IS 'Last part of psp_key';
COMMENT ON COLUMN payment.claimed_task.amount IS 'Minor units of currency that it moves: of a capture only this one''s';
COMMENT ON COLUMN payment.claimed_task.currency IS 'ISO 4217 code, upper case';
COMMENT ON COLUMN payment.claimed_task.payment_method IS 'What the payer pays with (pay)';
COMMENT ON COLUMN payment.claimed_task.destination IS 'Where the money goes (payout)';
COMMENT ON COLUMN payment.claimed_task.description IS 'The order''s description; may be null';
COMMENT ON COLUMN payment.claimed_task.psp_reference IS 'The PSP''s name for the object, if it has told one';
COMMENT ON COLUMN payment.claimed_task.first_sent_at IS
    'When the first request may have gone out: a lookup by listing searches from here';
COMMENT ON COLUMN payment.claimed_task.last_sent_at IS
    'When the last one may have: the PSP made the object in between, or has none';
COMMENT ON COLUMN payment.claimed_task.payer IS 'The application''s name of the payer; null for a payout';

COMMENT ON COLUMN payment.claimed_task.tries IS 'How often it was claimed since the PSP last gave a definite answer, this time included';
COMMENT ON COLUMN payment.claimed_task.capture_method IS
    'Of a pay: automatic, or manual: only authorise it; null: another operation';
COMMENT ON COLUMN payment.claimed_task.parent_reference IS
    'Of a capture, void or refund: the PSP''s name of what it is done to, the authorisation, charge or capture';
COMMENT ON COLUMN payment.claimed_task.final IS 'Of a capture: nothing more will be captured; null: another operation';
COMMENT ON COLUMN payment.claimed_task.reason IS
    'Of a refund: requested_by_customer, duplicate or fraudulent; null: not said, or another operation';
COMMENT ON COLUMN payment.claimed_task.total_amount IS
    'Of a capture: minor units that are authorised in all; null: another operation';
COMMENT ON COLUMN payment.claimed_task.success_url IS 'Where the hosted page sends who has paid (register)';
COMMENT ON COLUMN payment.claimed_task.cancel_url IS 'Where it sends who wants to go back (register)';
COMMENT ON COLUMN payment.claimed_task.locale IS 'Its language; null: as the payer''s browser has it';
COMMENT ON COLUMN payment.claimed_task.expires_at IS 'When it is to close, the same for all tries; null: as the PSP likes';
COMMENT ON COLUMN payment.claimed_task.setup IS
    'Whether the page only asks for a payment method, with which each order of the payment is paid then (register, close)';
COMMENT ON COLUMN payment.claimed_task.evidence IS 'Of dispute_evidence: a JSON object of texts; null: another operation';
COMMENT ON COLUMN payment.claimed_task.captured_amount IS
    'Of a capture: minor units that earlier ones captured of total_amount; null: another operation';

COMMENT ON TYPE payment.attempt_outcome IS
    'What came of one attempt. outcome: succeeded (the money moved; amount and currency say how much), pending (accepted, '
    'not final), declined (definitely not executed, may be tried again under a new key), failed (definitely not executed '
    'and never will be), retry (definitely not executed, send again under the same key), unknown (no telling), not_found '
    '(only of a lookup: the PSP has no such object), key_spent (only of a send: unknown, and the PSP replays its own '
    'failure for this key; once a lookup has found nothing, the next send has a new key), authorized (reserved: amount and '
    'currency say how much; nothing moved), voided (what was reserved is free again), expired (the same, by time; or a hosted page at which nobody paid), '
    'requires_action (a hosted page is open), tokenized (the payer left a payment method there; nothing moved).';
COMMENT ON COLUMN payment.attempt_outcome.attempt_id IS 'The attempt, from payment.claim_tasks()';
COMMENT ON COLUMN payment.attempt_outcome.outcome IS 'One of the words in the comment of the type';
COMMENT ON COLUMN payment.attempt_outcome.http_status IS '0 to 999; null: no answer';
COMMENT ON COLUMN payment.attempt_outcome.latency_ms IS 'Milliseconds from sending to the answer; null: no answer';
COMMENT ON COLUMN payment.attempt_outcome.psp_reference IS 'The PSP''s name for the object, at most 255 bytes';
COMMENT ON COLUMN payment.attempt_outcome.amount IS 'Minor units that moved, or were reserved; needed when succeeded or authorized';
COMMENT ON COLUMN payment.attempt_outcome.currency IS 'ISO 4217 code, upper case; needed when succeeded or authorized';
COMMENT ON COLUMN payment.attempt_outcome.error_code IS 'The PSP''s or the worker''s; cut at 100 bytes';
COMMENT ON COLUMN payment.attempt_outcome.error_message IS 'For people; cut at 500 bytes, removed if it holds a card number';
COMMENT ON COLUMN payment.attempt_outcome.retry_after_ms IS 'How long the PSP wants us to wait; null: not said';
COMMENT ON COLUMN payment.attempt_outcome.decline_class IS
    'Only of declined and failed. soft: may succeed later or at another PSP; hard: never with this payment method; '
    'authentication_required: only with the payer present; not_applicable: nobody declined it, the request was refused; '
    'null: not said, to be taken as hard';
COMMENT ON COLUMN payment.attempt_outcome.authorized_until IS 'Until when what was authorised can be captured; null: not said';
COMMENT ON COLUMN payment.attempt_outcome.child_reference IS
    'The PSP''s name of the authorisation or capture, where it is another one than psp_reference; at most 255 bytes';
COMMENT ON COLUMN payment.attempt_outcome.settled_amount IS
    'What the PSP credits for amount before its fee, minor units of settled_currency; null: not said';
COMMENT ON COLUMN payment.attempt_outcome.settled_currency IS
    'ISO 4217 code, upper case, of settled_amount and psp_fee; needed with either of them';
COMMENT ON COLUMN payment.attempt_outcome.exchange_rate IS 'Units of settled_currency for one of currency; null: not said';
COMMENT ON COLUMN payment.attempt_outcome.psp_fee IS 'What the PSP keeps for this, minor units of settled_currency; null: not said';
COMMENT ON COLUMN payment.attempt_outcome.payment_method IS
    'The PSP''s name of the payment method that the payer chose at its page; null: not said';

REVOKE ALL ON FUNCTION payment.claim_tasks(uuid, integer, integer, integer[]),
    payment.record_outcomes(payment.attempt_outcome[]), payment.expire_leases(), payment.next_task_due(uuid, integer[]),
    payment.save_breaker(uuid, text, timestamptz, timestamptz, integer, text, bigint), payment.record_hosted_page(uuid, text, text, timestamptz),
    payment.reset_breaker(text),
    payment.move_waiting_orders(uuid, integer, timestamptz),
    payment.retry_dead_letter(uuid), payment.resolve_unknown(uuid, text, text, text, text),
    payment.reject_unknown_resolution(uuid, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION payment.claim_tasks(uuid, integer, integer, integer[]),
    payment.record_outcomes(payment.attempt_outcome[]), payment.expire_leases(), payment.expire_authorizations(integer),
    payment.undo_partial_failures(integer), payment.next_task_due(uuid, integer[]),
    payment.save_breaker(uuid, text, timestamptz, timestamptz, integer, text, bigint),
    payment.record_hosted_page(uuid, text, text, timestamptz),
    payment.move_waiting_orders(uuid, integer, timestamptz) TO payment_worker;
GRANT EXECUTE ON FUNCTION payment.retry_dead_letter(uuid), payment.reset_breaker(text) TO payment_admin;
GRANT EXECUTE ON FUNCTION payment.resolve_unknown(uuid, text, text, text, text),
    payment.reject_unknown_resolution(uuid, text, text) TO payment_finance;
GRANT SELECT ON payment.hosted_page TO payment_finance, payment_admin, payment_auditor;
GRANT SELECT ON payment.resolution TO payment_finance, payment_admin, payment_auditor;
GRANT SELECT ON payment.dead_letter, payment.queue_depth, payment.circuit_breaker
    TO payment_worker, payment_admin, payment_finance, payment_auditor;

-- ---------------------------------------------------------------------------
-- src/reconcile: settlement files, matching, exceptions
-- ---------------------------------------------------------------------------

CREATE TABLE payment.settlement_file (
    id uuid NOT NULL PRIMARY KEY,
    psp_id uuid NOT NULL,
    format text NOT NULL,
    file_name text NOT NULL,
    sha256 bytea NOT NULL,
    status text NOT NULL,
    line_count bigint NOT NULL DEFAULT 0,
    warnings jsonb NOT NULL DEFAULT '[]',
    imported_at timestamptz NOT NULL,
    imported_by text NOT NULL,
    UNIQUE (psp_id, sha256)
);

COMMENT ON TABLE payment.settlement_file IS
    'Files in which PSPs say what they settle, one row for each content. Rows come from import_settlement() and stay.';
COMMENT ON COLUMN payment.settlement_file.id IS 'UUIDv7; its time is that of the import.';
COMMENT ON COLUMN payment.settlement_file.psp_id IS 'The PSP that sent it (payment.psp).';
COMMENT ON COLUMN payment.settlement_file.format IS 'How it was read: stripe_csv.';
COMMENT ON COLUMN payment.settlement_file.file_name IS 'Its name as the importer gave it.';
COMMENT ON COLUMN payment.settlement_file.sha256 IS 'SHA-256 of the content: the same content is refused a second time, whatever its name.';
COMMENT ON COLUMN payment.settlement_file.status IS
    'received, parsed, matched, partially_matched, unmatched, awaiting_funds, reconciled, underfunded, rejected or superseded; payment.transitions() shows the ways.';
COMMENT ON COLUMN payment.settlement_file.line_count IS 'Lines stored, the header not counted.';
COMMENT ON COLUMN payment.settlement_file.warnings IS
    'What was odd, as a list of {warning, category, lines, first_line}. warning: arithmetic (net is not gross - fee), '
    'not_matched (a category that is posted, but matched with nothing), zone_taken_as_utc (times of an unnamed zone), '
    'card_number_removed (from a description), no_newline_at_end (perhaps truncated), further (what found no place).';
COMMENT ON COLUMN payment.settlement_file.imported_at IS 'Start of the transaction that imported it.';
COMMENT ON COLUMN payment.settlement_file.imported_by IS 'Role of the session that imported it.';

CREATE TABLE payment.settlement_line (
    id uuid NOT NULL,
    file_id uuid NOT NULL,
    psp_id uuid NOT NULL,
    line_no bigint NOT NULL,
    category text NOT NULL,
    external_id text NOT NULL,
    psp_reference text,
    claimed_order_id uuid,
    currency text NOT NULL,
    gross bigint NOT NULL,
    fee bigint NOT NULL,
    net bigint NOT NULL,
    occurred_at timestamptz,
    available_on timestamptz,
    payout_reference text,
    description text,
    repeated boolean NOT NULL,
    -- set by reconcile
    order_id uuid,
    match text NOT NULL DEFAULT 'pending' CHECK (match IN ('pending', 'matched', 'exception', 'ignored')),
    presentment_currency text,
    presentment_amount bigint
) PARTITION BY RANGE (id);

CREATE TABLE payment.settlement_line_default PARTITION OF payment.settlement_line (
    PRIMARY KEY (id)
) DEFAULT WITH (fillfactor = 80);

CREATE INDEX settlement_line_default_pending_idx ON payment.settlement_line_default (psp_id, id) WHERE match = 'pending';
CREATE INDEX settlement_line_default_order_idx ON payment.settlement_line_default (order_id) WHERE order_id IS NOT NULL;
CREATE INDEX settlement_line_default_file_idx ON payment.settlement_line_default (file_id, line_no);

COMMENT ON TABLE payment.settlement_line IS
    'The lines of settlement files as they came. Only match and order_id change, and only by reconcile().';
COMMENT ON TABLE payment.settlement_line_default IS 'Lines that no other partition holds.';
COMMENT ON COLUMN payment.settlement_line.id IS 'UUIDv7, ascending in the order of the file.';
COMMENT ON COLUMN payment.settlement_line.file_id IS 'The file (payment.settlement_file).';
COMMENT ON COLUMN payment.settlement_line.psp_id IS 'The PSP that sent the file.';
COMMENT ON COLUMN payment.settlement_line.line_no IS 'Physical line of the file on which it begins, from 1.';
COMMENT ON COLUMN payment.settlement_line.category IS 'What the PSP calls it: charge, refund, dispute, fee, payout, ...';
COMMENT ON COLUMN payment.settlement_line.external_id IS 'The PSP''s own name for the line, unique at the PSP.';
COMMENT ON COLUMN payment.settlement_line.psp_reference IS 'The PSP''s name for the payment, or else for what the line is about; null when it names nothing.';
COMMENT ON COLUMN payment.settlement_line.claimed_order_id IS 'The order that the payment''s metadata names; only a claim.';
COMMENT ON COLUMN payment.settlement_line.currency IS 'ISO 4217, upper case.';
COMMENT ON COLUMN payment.settlement_line.gross IS 'Before fees, in minor units; negative when it leaves us.';
COMMENT ON COLUMN payment.settlement_line.presentment_currency IS 'ISO 4217 code that the payer saw, where it is another one than currency; else null.';
COMMENT ON COLUMN payment.settlement_line.presentment_amount IS 'What the payer paid or got in it, minor units, signed as gross; null with presentment_currency.';
COMMENT ON COLUMN payment.settlement_line.fee IS 'What the PSP takes, in minor units.';
COMMENT ON COLUMN payment.settlement_line.net IS 'What is left, in minor units, as the file says.';
COMMENT ON COLUMN payment.settlement_line.occurred_at IS 'When it happened at the PSP.';
COMMENT ON COLUMN payment.settlement_line.available_on IS 'When the PSP can pay it out.';
COMMENT ON COLUMN payment.settlement_line.payout_reference IS 'The PSP''s name for the transfer to our bank it is part of.';
COMMENT ON COLUMN payment.settlement_line.description IS 'The PSP''s free text.';
COMMENT ON COLUMN payment.settlement_line.repeated IS 'The PSP had reported a line of this external_id before.';
COMMENT ON COLUMN payment.settlement_line.order_id IS 'The order it stands for; null until reconciled, and when there is none.';
COMMENT ON COLUMN payment.settlement_line.match IS
    'pending (not reconciled yet), matched, exception (an exception tells why), ignored (nothing to match it with).';

-- The PSPs' names of lines; unique for ever, so in a table of its own.
CREATE TABLE payment.settlement_reference (
    psp_id uuid NOT NULL,
    external_id text NOT NULL,
    line_id uuid NOT NULL,
    PRIMARY KEY (psp_id, external_id)
);

COMMENT ON TABLE payment.settlement_reference IS 'Every line that a PSP ever reported, by the PSP''s name for it.';
COMMENT ON COLUMN payment.settlement_reference.psp_id IS 'The PSP.';
COMMENT ON COLUMN payment.settlement_reference.external_id IS 'Its name for the line.';
COMMENT ON COLUMN payment.settlement_reference.line_id IS 'Our line that had the name first (payment.settlement_line).';

-- Captured orders that no settlement line has claimed yet.  A row lives from
-- capture to settlement.
CREATE TABLE payment.unsettled_order (
    order_id uuid NOT NULL PRIMARY KEY,
    psp_id uuid NOT NULL,
    captured_at timestamptz NOT NULL,
    missing boolean NOT NULL DEFAULT false,
    settled_currency text,
    psp_fee bigint
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05);

COMMENT ON TABLE payment.unsettled_order IS 'Captured orders that no settlement line has claimed yet.';
COMMENT ON COLUMN payment.unsettled_order.order_id IS 'The order.';
COMMENT ON COLUMN payment.unsettled_order.psp_id IS 'The PSP that has to settle it.';
COMMENT ON COLUMN payment.unsettled_order.captured_at IS 'When it was captured.';
COMMENT ON COLUMN payment.unsettled_order.missing IS 'A missing_external exception was opened for it.';
COMMENT ON COLUMN payment.unsettled_order.settled_currency IS 'Currency of psp_fee.';
COMMENT ON COLUMN payment.unsettled_order.psp_fee IS
    'The fee that the PSP''s answers told and that is booked: taken back when the settlement line tells it again; null: none.';

CREATE TABLE payment.exception_record (
    id uuid NOT NULL PRIMARY KEY,
    type text NOT NULL CHECK (type IN ('missing_external', 'missing_internal', 'amount', 'fee', 'currency', 'status',
        'duplicate', 'timing', 'late_success', 'orphan_refund', 'unknown_outcome', 'unmatched_event', 'dispute')),
    class text NOT NULL DEFAULT 'unclassified' CHECK (class IN ('auto_adjustable', 'manual_adjustable', 'unclassified')),
    status text NOT NULL DEFAULT 'open',
    psp_id uuid NOT NULL,
    order_id uuid,
    line_id uuid,
    file_id uuid,
    currency text,
    expected_amount bigint,
    actual_amount bigint,
    detail text NOT NULL,
    opened_at timestamptz NOT NULL,
    closed_at timestamptz,
    in_ledger boolean NOT NULL DEFAULT false,
    UNIQUE NULLS NOT DISTINCT (type, order_id, line_id, psp_id)
);

CREATE INDEX exception_record_unclosed_idx ON payment.exception_record (psp_id, type) WHERE closed_at IS NULL;

COMMENT ON TABLE payment.exception_record IS
    'Differences for people to work off. One row for each type, order, line and PSP, however often it is found.';
COMMENT ON COLUMN payment.exception_record.id IS 'UUIDv7.';
COMMENT ON COLUMN payment.exception_record.type IS
    'missing_external (captured, but not settled), missing_internal (settled, but no order of ours), amount, currency, '
    'fee (settled otherwise than captured or agreed), status (settled, but not captured here), duplicate (a second line '
    'for what is settled), orphan_refund (a refund we did not ask for), late_success, timing, unknown_outcome (no lookup '
    'told what became of an order or payout: payment.resolve_unknown()), unmatched_event (webhooks told what could not be '
    'applied to anything: payment.webhook has them), dispute (what a PSP says of a dispute does not fit what is known, or nobody '
    'has the disputed money any more). A line opens only the most '
    'serious that applies: duplicate before missing_internal, status, currency, amount and fee.';
COMMENT ON COLUMN payment.exception_record.class IS 'How it may be resolved: auto_adjustable, manual_adjustable, unclassified.';
COMMENT ON COLUMN payment.exception_record.status IS
    'open, in_review, proposed, approved, resolved, written_off, auto_resolved or reopened; payment.transitions() shows the ways.';
COMMENT ON COLUMN payment.exception_record.psp_id IS 'The PSP it concerns.';
COMMENT ON COLUMN payment.exception_record.order_id IS 'The order or payout it concerns, if any.';
COMMENT ON COLUMN payment.exception_record.line_id IS 'The settlement line it concerns, if any.';
COMMENT ON COLUMN payment.exception_record.file_id IS 'The file of that line.';
COMMENT ON COLUMN payment.exception_record.currency IS 'Currency of actual_amount.';
COMMENT ON COLUMN payment.exception_record.expected_amount IS 'What we hold for right, in minor units.';
COMMENT ON COLUMN payment.exception_record.actual_amount IS 'What the PSP says, in minor units.';
COMMENT ON COLUMN payment.exception_record.detail IS 'What differs, for people.';
COMMENT ON COLUMN payment.exception_record.opened_at IS 'When it was found first.';
COMMENT ON COLUMN payment.exception_record.in_ledger IS 'Its money is in the ledger already, as that of the order.';
COMMENT ON COLUMN payment.exception_record.closed_at IS 'When it came to its end; null while somebody has to look at it.';

CREATE TABLE payment.reconciliation_run (
    id uuid NOT NULL PRIMARY KEY,
    psp_id uuid NOT NULL,
    through timestamptz NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    lines_matched bigint NOT NULL,
    lines_excepted bigint NOT NULL,
    exceptions_opened bigint NOT NULL,
    exceptions_closed bigint NOT NULL
);

COMMENT ON TABLE payment.reconciliation_run IS 'Every call of reconcile(), and what it found.';
COMMENT ON COLUMN payment.reconciliation_run.id IS 'UUIDv7.';
COMMENT ON COLUMN payment.reconciliation_run.psp_id IS 'The PSP reconciled.';
COMMENT ON COLUMN payment.reconciliation_run.through IS 'Orders captured until then should have been settled.';
COMMENT ON COLUMN payment.reconciliation_run.started_at IS 'When it had the PSP for itself.';
COMMENT ON COLUMN payment.reconciliation_run.finished_at IS 'When it had done its work; it counts from the commit after that.';
COMMENT ON COLUMN payment.reconciliation_run.lines_matched IS 'Lines that agree with their order.';
COMMENT ON COLUMN payment.reconciliation_run.lines_excepted IS 'Lines that do not.';
COMMENT ON COLUMN payment.reconciliation_run.exceptions_opened IS 'Exceptions that were not there before.';
COMMENT ON COLUMN payment.reconciliation_run.exceptions_closed IS 'Exceptions that closed by themselves.';

CREATE TYPE payment.reconciliation_result AS (
    run_id uuid,
    lines_matched bigint,
    lines_excepted bigint,
    exceptions_opened bigint,
    exceptions_closed bigint
);

COMMENT ON TYPE payment.reconciliation_result IS 'What a call of reconcile() found; as in payment.reconciliation_run.';
COMMENT ON COLUMN payment.reconciliation_result.run_id IS 'The run (payment.reconciliation_run).';
COMMENT ON COLUMN payment.reconciliation_result.lines_matched IS 'Lines that agree with their order.';
COMMENT ON COLUMN payment.reconciliation_result.lines_excepted IS 'Lines that do not.';
COMMENT ON COLUMN payment.reconciliation_result.exceptions_opened IS 'Exceptions that were not there before.';
COMMENT ON COLUMN payment.reconciliation_result.exceptions_closed IS 'Exceptions that closed by themselves.';

CREATE FUNCTION payment.import_settlement(psp text, format text, file_name text, content bytea) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_import_settlement';

COMMENT ON FUNCTION payment.import_settlement(text, text, text, bytea) IS
    'Stores a settlement file of a PSP and posts it, all or nothing; returns its id. format: stripe_csv (UTF-8, columns '
    'found by name, amounts in major units; payment_metadata[payment_order] names the order). Each currency gets one '
    'journal of kind settlement: net to settlement_in_transit, fees to psp_fee, the rest out of psp_receivable, what has '
    'no known cause to recon_suspense. Another session sees its progress in pg_stat_progress_copy (bytes, and lines as '
    'tuples). From a client pass the bytes as a parameter; on the server: pg_read_binary_file(). Errors: PY001, PY004, '
    'PY005 (card number), PY006 (payment.max_settlement_bytes), PY010, PY400 (names line and column), PY401 (imported before).';

CREATE FUNCTION payment.expected_psp_fee(fees jsonb, currency text, amount bigint) RETURNS bigint
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'payment_expected_psp_fee';

COMMENT ON FUNCTION payment.expected_psp_fee(jsonb, text, bigint) IS
    'What a PSP should take of an amount (minor units) by fees as in payment.psp: fixed plus basis points, half-even. '
    'Null when nothing is agreed for the currency.';

-- Joins by key only: see src/reconcile/reconcile.c.
CREATE FUNCTION payment.reconcile(psp text, through timestamptz DEFAULT now()) RETURNS payment.reconciliation_result
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off SET enable_seqscan = off
    SET jit = off SET work_mem = '64MB'
    AS 'MODULE_PATHNAME', 'payment_reconcile';

COMMENT ON FUNCTION payment.reconcile(text, timestamptz) IS
    'Compares the lines imported from a PSP, and not reconciled yet, with the orders, and opens exceptions for what '
    'differs. through: orders captured until then, and in no file yet, are missing_external; give the PSP its usual '
    'delay, as in now() - interval ''3 days''. What turns out right later closes its exception by itself. Money that no '
    'order explains is posted to unidentified_receipts. One run at a time for each PSP, in one snapshot; a run that '
    'finds nothing new changes nothing. Errors: PY001, PY010.';

CREATE FUNCTION payment.track_unsettled() RETURNS trigger
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'payment_track_unsettled';

COMMENT ON FUNCTION payment.track_unsettled() IS
    'Trigger: notes an order that was captured in payment.unsettled_order.';

CREATE TRIGGER track_unsettled AFTER UPDATE ON payment.order_record
    FOR EACH ROW WHEN (old.captured_at IS NULL AND new.captured_at IS NOT NULL)
    EXECUTE FUNCTION payment.track_unsettled();
ALTER TABLE payment.order_record ENABLE ALWAYS TRIGGER track_unsettled;

DO $$
DECLARE
    guarded record;
BEGIN
    FOR guarded IN
        SELECT * FROM (VALUES
            ('settlement_file', 'settlement_file'),
            ('exception_record', 'exception')) AS g (tablename, object)
    LOOP
        EXECUTE pg_catalog.format('CREATE TRIGGER guard_update BEFORE UPDATE ON payment.%I '
            'FOR EACH ROW EXECUTE FUNCTION payment.guard_update(%L)', guarded.tablename, guarded.object);
        EXECUTE pg_catalog.format('CREATE TRIGGER guard_rows BEFORE INSERT OR DELETE OR TRUNCATE ON payment.%I '
            'FOR EACH STATEMENT EXECUTE FUNCTION payment.guard_rows()', guarded.tablename);
        EXECUTE pg_catalog.format('CREATE TRIGGER record_insert AFTER INSERT ON payment.%I '
            'REFERENCING NEW TABLE AS new_rows '
            'FOR EACH STATEMENT EXECUTE FUNCTION payment.record_history(%L)', guarded.tablename, guarded.object);
        EXECUTE pg_catalog.format('CREATE TRIGGER record_update AFTER UPDATE ON payment.%I '
            'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows '
            'FOR EACH STATEMENT EXECUTE FUNCTION payment.record_history(%L)', guarded.tablename, guarded.object);
        EXECUTE pg_catalog.format('ALTER TABLE payment.%I ENABLE ALWAYS TRIGGER guard_update, '
            'ENABLE ALWAYS TRIGGER guard_rows, ENABLE ALWAYS TRIGGER record_insert, '
            'ENABLE ALWAYS TRIGGER record_update', guarded.tablename);
    END LOOP;

    FOR guarded IN
        SELECT * FROM (VALUES
            ('settlement_line', NULL),
            ('settlement_line_default', NULL),
            ('settlement_reference', 'append_only'),
            ('unsettled_order', 'transient'),
            ('reconciliation_run', 'append_only')) AS g (tablename, argument)
    LOOP
        EXECUTE pg_catalog.format('CREATE TRIGGER guard_rows BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON payment.%I '
            'FOR EACH STATEMENT EXECUTE FUNCTION payment.guard_rows(%s)', guarded.tablename, guarded.argument);
        EXECUTE pg_catalog.format('ALTER TABLE payment.%I ENABLE ALWAYS TRIGGER guard_rows', guarded.tablename);
    END LOOP;
END
$$;

CREATE FUNCTION payment.propose_resolution(exception uuid, resolution text, person text, reason text,
    psp_reference text DEFAULT NULL) RETURNS text
    LANGUAGE c
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_propose_resolution';

COMMENT ON FUNCTION payment.propose_resolution(uuid, text, text, text, text) IS
    'Proposes what becomes of an exception of the type late_success, duplicate, amount, currency, status or dispute that is '
    'about an order, refund or payout and no settlement line. resolution: captured (a conflicted order is paid with what the PSP took; '
    'psp_reference when the order has none), kept (it moved and stays: booked, if it is not), refunded_outside (it moved and '
    'was given back beside this system), not_executed (it never moved), written_off (too little was charged). Returns '
    'proposed; nothing else happens until another person approves. Errors: PY001 a bad argument, PY005 a card number, PY006 '
    'too long, PY012 unknown exception, PY303 closed or no such decision for it, PY304 somebody else proposes something.';

CREATE FUNCTION payment.approve_resolution(exception uuid, resolution text, person text, reason text,
    psp_reference text DEFAULT NULL) RETURNS text
    LANGUAGE c
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_approve_resolution';

COMMENT ON FUNCTION payment.approve_resolution(uuid, text, text, text, text) IS
    'Approves what another person proposed by payment.propose_resolution(), with the same resolution and psp_reference: '
    'status, ledger and exception change in one commit. Returns the exception''s status: resolved or written_off. May be '
    'repeated. Errors: PY001 a bad argument, PY005 a card number, PY006 too long, PY012 unknown exception, PY202 an account '
    'has not enough, PY303 closed, nothing proposed, the same person, or no such decision for it any more, PY304 something '
    'else is proposed, or the reference is another object''s.';

CREATE FUNCTION payment.reject_resolution(exception uuid, person text, reason text) RETURNS boolean
    LANGUAGE c
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_reject_resolution';

COMMENT ON FUNCTION payment.reject_resolution(uuid, text, text) IS
    'Ends what is proposed for an exception: rejected, or withdrawn when by the same person; it is in review again. Returns '
    'false when nothing is proposed. Errors: PY001 a bad argument, PY005 a card number, PY006 too long, PY012 unknown '
    'exception, PY303 not decided so.';

REVOKE ALL ON FUNCTION payment.propose_resolution(uuid, text, text, text, text),
    payment.approve_resolution(uuid, text, text, text, text), payment.reject_resolution(uuid, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION payment.propose_resolution(uuid, text, text, text, text),
    payment.approve_resolution(uuid, text, text, text, text), payment.reject_resolution(uuid, text, text) TO payment_finance;

CREATE VIEW payment.exception AS
    SELECT e.id, e.type, e.class, e.status, p.name AS psp, e.order_id,
        o.reference AS order_reference, s.reference AS seller,
        coalesce(l.psp_reference, o.psp_reference) AS psp_reference, f.file_name, l.line_no, e.currency,
        e.expected_amount, e.actual_amount,
        CASE WHEN e.expected_amount IS NOT NULL AND e.currency IS NOT NULL THEN
            payment.format_money(e.expected_amount, CASE e.type WHEN 'currency' THEN o.currency ELSE e.currency END)
        END AS expected,
        CASE WHEN e.actual_amount IS NOT NULL AND e.currency IS NOT NULL THEN
            payment.format_money(e.actual_amount, e.currency)
        END AS actual,
        e.detail, e.opened_at, e.closed_at,
        coalesce(e.closed_at, pg_catalog.now()) - e.opened_at AS age
    FROM payment.exception_record e
        JOIN payment.psp p ON p.id = e.psp_id
        LEFT JOIN payment.order_record o ON o.id = e.order_id
        LEFT JOIN payment.seller s ON s.id = o.seller_id
        LEFT JOIN payment.settlement_line l ON l.id = e.line_id
        LEFT JOIN payment.settlement_file f ON f.id = l.file_id;

COMMENT ON VIEW payment.exception IS 'Differences for people to work off, closed ones included.';
COMMENT ON COLUMN payment.exception.id IS 'Of payment.exception_record, where type, class and status are explained.';
COMMENT ON COLUMN payment.exception.type IS 'What differs.';
COMMENT ON COLUMN payment.exception.class IS 'How it may be resolved.';
COMMENT ON COLUMN payment.exception.status IS 'How far the work on it is.';
COMMENT ON COLUMN payment.exception.psp IS 'Name of the PSP.';
COMMENT ON COLUMN payment.exception.order_id IS 'The order, if any.';
COMMENT ON COLUMN payment.exception.order_reference IS 'The application''s name for the order.';
COMMENT ON COLUMN payment.exception.seller IS 'The application''s name for the order''s seller.';
COMMENT ON COLUMN payment.exception.psp_reference IS 'The PSP''s name for the payment.';
COMMENT ON COLUMN payment.exception.file_name IS 'The settlement file, if any.';
COMMENT ON COLUMN payment.exception.line_no IS 'Its line.';
COMMENT ON COLUMN payment.exception.currency IS 'Currency of actual; for the type currency, expected is in the order''s.';
COMMENT ON COLUMN payment.exception.expected_amount IS 'What we hold for right, in minor units.';
COMMENT ON COLUMN payment.exception.actual_amount IS 'What the PSP says, in minor units.';
COMMENT ON COLUMN payment.exception.expected IS 'What we hold for right, in major units.';
COMMENT ON COLUMN payment.exception.actual IS 'What the PSP says, in major units.';
COMMENT ON COLUMN payment.exception.detail IS 'What differs, in words.';
COMMENT ON COLUMN payment.exception.opened_at IS 'When it was found first.';
COMMENT ON COLUMN payment.exception.closed_at IS 'When it came to its end.';
COMMENT ON COLUMN payment.exception.age IS 'How long it was open, or is.';

CREATE VIEW payment.settlement AS
    SELECT f.id, p.name AS psp, f.file_name, f.format, f.status, f.line_count,
        c.matched, c.excepted, c.pending, c.ignored, f.warnings, f.imported_at, f.imported_by
    FROM payment.settlement_file f
        JOIN payment.psp p ON p.id = f.psp_id
        CROSS JOIN LATERAL (
            SELECT pg_catalog.count(*) FILTER (WHERE l.match = 'matched') AS matched,
                pg_catalog.count(*) FILTER (WHERE l.match = 'exception') AS excepted,
                pg_catalog.count(*) FILTER (WHERE l.match = 'pending') AS pending,
                pg_catalog.count(*) FILTER (WHERE l.match = 'ignored') AS ignored
            FROM payment.settlement_line l WHERE l.file_id = f.id) c;

COMMENT ON VIEW payment.settlement IS 'Settlement files and how their lines fared. Counts lines: ask for the files you need.';
COMMENT ON COLUMN payment.settlement.id IS 'Of payment.settlement_file, where the other columns are explained.';
COMMENT ON COLUMN payment.settlement.psp IS 'Name of the PSP.';
COMMENT ON COLUMN payment.settlement.file_name IS 'The file''s name.';
COMMENT ON COLUMN payment.settlement.format IS 'Its format.';
COMMENT ON COLUMN payment.settlement.status IS 'How far it is.';
COMMENT ON COLUMN payment.settlement.line_count IS 'Lines stored.';
COMMENT ON COLUMN payment.settlement.matched IS 'Lines that agree with their order.';
COMMENT ON COLUMN payment.settlement.excepted IS 'Lines that have an exception.';
COMMENT ON COLUMN payment.settlement.pending IS 'Lines that reconcile() has not seen yet.';
COMMENT ON COLUMN payment.settlement.ignored IS 'Lines that are matched with nothing.';
COMMENT ON COLUMN payment.settlement.warnings IS 'What was odd about the file.';
COMMENT ON COLUMN payment.settlement.imported_at IS 'When it was imported.';
COMMENT ON COLUMN payment.settlement.imported_by IS 'By whom.';

GRANT EXECUTE ON FUNCTION payment.import_settlement(text, text, text, bytea), payment.reconcile(text, timestamptz)
    TO payment_finance;
GRANT EXECUTE ON FUNCTION payment.expected_psp_fee(jsonb, text, bigint) TO payment_finance, payment_admin, payment_auditor;
GRANT SELECT ON payment.exception, payment.settlement, payment.settlement_file, payment.settlement_line,
    payment.unsettled_order, payment.exception_record, payment.reconciliation_run
    TO payment_finance, payment_admin, payment_auditor;

-- ---------------------------------------------------------------------------
-- src/webhook: what PSPs tell unasked
-- ---------------------------------------------------------------------------

-- Every event whose sender is proven, as it came.
CREATE TABLE payment.webhook_event (
    id uuid NOT NULL,
    psp_id uuid NOT NULL,
    event_id text NOT NULL,
    type text NOT NULL,
    about text NOT NULL CHECK (about IN ('pay', 'capture', 'void', 'payout', 'refund', 'dispute', 'session', 'other')),
    state text NOT NULL CHECK (state IN ('received', 'parked', 'applied', 'ignored', 'rejected', 'unmatched')),
    effect text CHECK (effect IN ('applied', 'no_effect', 'contradicted')),
    detail text,
    object_id uuid,
    attempt_no integer,
    psp_reference text,
    parent_reference text,
    account text,
    outcome text,
    amount bigint,
    currency text,
    error_code text,
    error_message text,
    sent_at timestamptz,
    received_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    redacted boolean NOT NULL,
    dispute jsonb
) PARTITION BY RANGE (id);

CREATE TABLE payment.webhook_event_default PARTITION OF payment.webhook_event (
    PRIMARY KEY (id)
) DEFAULT WITH (fillfactor = 90);

CREATE INDEX webhook_event_default_object_idx ON payment.webhook_event_default (object_id, id) WHERE object_id IS NOT NULL;

-- A PSP's name for an event; unique for ever.
CREATE TABLE payment.webhook_key (
    psp_id uuid NOT NULL,
    event_id text NOT NULL,
    webhook_id uuid NOT NULL,
    PRIMARY KEY (psp_id, event_id)
);

-- Events that are not done with; few, and gone when they are.
CREATE TABLE payment.webhook_waiting (
    webhook_id uuid NOT NULL PRIMARY KEY,
    psp_id uuid NOT NULL,
    state text NOT NULL CHECK (state IN ('received', 'parked')),
    reference text,
    tries integer NOT NULL DEFAULT 0,
    since timestamptz NOT NULL,
    run_at timestamptz NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX webhook_waiting_due_idx ON payment.webhook_waiting (run_at);
CREATE INDEX webhook_waiting_reference_idx ON payment.webhook_waiting (psp_id, reference) WHERE reference IS NOT NULL;

-- What only the PSP itself can vouch for, until it has.
CREATE TABLE payment.webhook_unverified (
    id uuid NOT NULL PRIMARY KEY,
    psp_id uuid NOT NULL,
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    received_at timestamptz NOT NULL,
    tries integer NOT NULL DEFAULT 0,
    run_at timestamptz NOT NULL,
    last_error text
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX webhook_unverified_due_idx ON payment.webhook_unverified (psp_id, run_at);

-- A ring: slots are taken in turn, the oldest is written over.
CREATE TABLE payment.webhook_rejection (
    slot integer NOT NULL PRIMARY KEY,
    rejected_at timestamptz NOT NULL,
    psp text NOT NULL,
    reason text NOT NULL,
    http_status integer NOT NULL,
    body_bytes bigint NOT NULL,
    body_sha256 bytea,
    role text NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

DO $$
DECLARE
    guarded record;
BEGIN
    FOR guarded IN
        SELECT * FROM (VALUES
            ('webhook_event', NULL),
            ('webhook_event_default', NULL),
            ('webhook_key', 'append_only'),
            ('webhook_unverified', 'transient'),
            ('webhook_rejection', 'transient')) AS g (tablename, argument)
    LOOP
        EXECUTE pg_catalog.format('CREATE TRIGGER guard_rows BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON payment.%I '
            'FOR EACH STATEMENT EXECUTE FUNCTION payment.guard_rows(%s)', guarded.tablename, guarded.argument);
        EXECUTE pg_catalog.format('ALTER TABLE payment.%I ENABLE ALWAYS TRIGGER guard_rows', guarded.tablename);
    END LOOP;
END
$$;

COMMENT ON TABLE payment.webhook_event IS
    'Webhook events whose signature was right, as they came and what became of them. Partitioned by id, which holds the time.';
COMMENT ON COLUMN payment.webhook_event.id IS 'Our id of it (UUIDv7).';
COMMENT ON COLUMN payment.webhook_event.psp_id IS 'The PSP that sent it.';
COMMENT ON COLUMN payment.webhook_event.event_id IS
    'The PSP''s id of it; where it has none (Adyen), what tells it from others: type, reference and success.';
COMMENT ON COLUMN payment.webhook_event.type IS 'What happened, in the PSP''s words.';
COMMENT ON COLUMN payment.webhook_event.about IS
    'pay: a payment order; capture, void, refund, dispute: something about one; payout; session: a hosted page; other.';
COMMENT ON COLUMN payment.webhook_event.state IS
    'received: it could not be applied yet, the worker tries again; parked: what it is about is not known yet, or not far '
    'enough; applied: it was weighed as evidence; ignored: it says nothing that counts here; rejected: it is about what '
    'belongs to another PSP or account; unmatched: parked for too long, an exception is open.';
COMMENT ON COLUMN payment.webhook_event.effect IS
    'Of an applied one: applied, the object moved on; no_effect, known or overtaken; contradicted, an exception is open.';
COMMENT ON COLUMN payment.webhook_event.detail IS 'Why it is in this state, for people.';
COMMENT ON COLUMN payment.webhook_event.object_id IS 'The order or payout that it is about, as far as that is known.';
COMMENT ON COLUMN payment.webhook_event.attempt_no IS 'The attempt that it is about; null: it does not say.';
COMMENT ON COLUMN payment.webhook_event.psp_reference IS 'The PSP''s name for the object.';
COMMENT ON COLUMN payment.webhook_event.parent_reference IS 'The PSP''s name for what that belongs to: the payment of a refund.';
COMMENT ON COLUMN payment.webhook_event.account IS 'The account at the PSP, if it says.';
COMMENT ON COLUMN payment.webhook_event.outcome IS 'What it says, in the words of payment.attempt_outcome; null: nothing of the outcome.';
COMMENT ON COLUMN payment.webhook_event.amount IS 'Minor units of currency that it names.';
COMMENT ON COLUMN payment.webhook_event.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN payment.webhook_event.error_code IS 'The PSP''s error code, at most 100 bytes.';
COMMENT ON COLUMN payment.webhook_event.error_message IS 'The PSP''s message, at most 500 bytes, without card numbers.';
COMMENT ON COLUMN payment.webhook_event.sent_at IS 'When it was made, by the PSP''s clock.';
COMMENT ON COLUMN payment.webhook_event.received_at IS 'When it came first.';
COMMENT ON COLUMN payment.webhook_event.updated_at IS 'When its state was last looked at.';
COMMENT ON COLUMN payment.webhook_event.headers IS 'Those of its HTTP headers that its signature needs.';
COMMENT ON COLUMN payment.webhook_event.body IS
    'Its bytes as they came; of a batch, those of this event. Digits of card numbers are replaced by X.';
COMMENT ON COLUMN payment.webhook_event.redacted IS 'Whether they held a card number: then the signature no longer fits them.';
COMMENT ON COLUMN payment.webhook_event.dispute IS
    'What it says of a dispute: {"stage", "status", "is_taken", "fee", "fee_currency", "reason", "respond_by", "sequence"}; '
    'null: it is about none.';
COMMENT ON TABLE payment.webhook_event_default IS 'Events for which no partition was made.';

COMMENT ON TABLE payment.webhook_key IS 'The PSPs'' names for their events, each given once and for ever.';
COMMENT ON COLUMN payment.webhook_key.psp_id IS 'The PSP.';
COMMENT ON COLUMN payment.webhook_key.event_id IS 'As in payment.webhook_event.';
COMMENT ON COLUMN payment.webhook_key.webhook_id IS 'The event.';

COMMENT ON TABLE payment.webhook_waiting IS 'Events that are received or parked: one narrow row until they are done with.';
COMMENT ON COLUMN payment.webhook_waiting.webhook_id IS 'The event.';
COMMENT ON COLUMN payment.webhook_waiting.psp_id IS 'The PSP that sent it.';
COMMENT ON COLUMN payment.webhook_waiting.state IS 'As the event''s.';
COMMENT ON COLUMN payment.webhook_waiting.reference IS 'The PSP''s name that it waits for to become known; null: it waits for something else.';
COMMENT ON COLUMN payment.webhook_waiting.tries IS 'How often it was tried again.';
COMMENT ON COLUMN payment.webhook_waiting.since IS 'When it came.';
COMMENT ON COLUMN payment.webhook_waiting.run_at IS 'When it is tried next.';

COMMENT ON TABLE payment.webhook_unverified IS
    'Webhooks of PSPs that sign in a way that only they can check (PayPal), until they have: anybody may have sent these. '
    'At most payment.max_unverified_webhooks of each PSP.';
COMMENT ON COLUMN payment.webhook_unverified.id IS 'UUIDv7.';
COMMENT ON COLUMN payment.webhook_unverified.psp_id IS 'The PSP it is for.';
COMMENT ON COLUMN payment.webhook_unverified.headers IS 'Those of its HTTP headers that its signature needs.';
COMMENT ON COLUMN payment.webhook_unverified.body IS
    'Its bytes as they came, which the PSP is asked about. None holds a card number: such a webhook is refused.';
COMMENT ON COLUMN payment.webhook_unverified.received_at IS 'When it came.';
COMMENT ON COLUMN payment.webhook_unverified.tries IS 'How often the PSP was asked.';
COMMENT ON COLUMN payment.webhook_unverified.run_at IS 'When it is asked next; while it is being asked, when that is taken for lost.';
COMMENT ON COLUMN payment.webhook_unverified.last_error IS 'Why it did not say.';

COMMENT ON TABLE payment.webhook_rejection IS
    'Webhooks that were refused: at most payment.max_webhook_rejections rows, written over in turn. Nothing of what was '
    'sent is kept but its hash.';
COMMENT ON COLUMN payment.webhook_rejection.slot IS 'From 0.';
COMMENT ON COLUMN payment.webhook_rejection.rejected_at IS 'When.';
COMMENT ON COLUMN payment.webhook_rejection.psp IS 'The PSP as the caller named it, cut at 100 bytes.';
COMMENT ON COLUMN payment.webhook_rejection.reason IS
    'too_large, unknown_psp, no_webhooks, no_secret, no_webhook_id, secret_unreadable, no_signature, malformed_signature, '
    'bad_signature, too_old, in_the_future, unreadable, card_number, too_many_unverified, unverified (the PSP did not say '
    'whether it is its own).';
COMMENT ON COLUMN payment.webhook_rejection.http_status IS
    'What was answered; of one that was found out later (PayPal), what it should have been.';
COMMENT ON COLUMN payment.webhook_rejection.body_bytes IS 'Length of the body, in bytes.';
COMMENT ON COLUMN payment.webhook_rejection.body_sha256 IS 'SHA-256 of the body, to find out whose it was; null: it was too large.';
COMMENT ON COLUMN payment.webhook_rejection.role IS 'The role that was logged in.';

CREATE TYPE payment.webhook_answer AS (
    http_status integer,
    content_type text,
    body text
);
COMMENT ON TYPE payment.webhook_answer IS 'What to answer a PSP that sent a webhook.';
COMMENT ON COLUMN payment.webhook_answer.http_status IS
    '200: taken, or known already; 400: nonsense; 401: forged, too old, or the PSP has no webhook secret here; 404: no such '
    'PSP; 413: too large; 503: send it again later.';
COMMENT ON COLUMN payment.webhook_answer.content_type IS 'For the header Content-Type.';
COMMENT ON COLUMN payment.webhook_answer.body IS 'What the PSP wants to read, or a word on what is wrong.';

CREATE FUNCTION payment.receive_webhook(psp text, headers jsonb, body bytea) RETURNS payment.webhook_answer
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_receive_webhook';
COMMENT ON FUNCTION payment.receive_webhook(text, jsonb, bytea) IS
    'Takes a webhook in: psp is the PSP''s name, headers an object of the request''s HTTP headers (names in any case, values '
    'texts), body its bytes, unchanged. Checks the signature, stores it, and applies it as evidence. Answer the PSP what it '
    'returns, after the commit: whatever a sender can cause is an answer, not an error. Errors: PY001 for null, or headers '
    'that are no such object.';

CREATE FUNCTION payment.confirm_webhook(webhook uuid, genuine boolean) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_confirm_webhook';
COMMENT ON FUNCTION payment.confirm_webhook(uuid, boolean) IS
    'For the worker: the PSP was asked whether a webhook in payment.webhook_unverified is its own. If it is, it is stored and '
    'applied as one with a right signature; if not, it is a rejection. Returns false when it is not there. Errors: PY001.';

CREATE TYPE payment.claimed_webhook AS (
    webhook uuid,
    tries integer,
    headers text,
    body bytea
);
COMMENT ON TYPE payment.claimed_webhook IS 'What the worker gets to ask a PSP about.';
COMMENT ON COLUMN payment.claimed_webhook.webhook IS 'The webhook.';
COMMENT ON COLUMN payment.claimed_webhook.tries IS 'How often the PSP was asked, with this one.';
COMMENT ON COLUMN payment.claimed_webhook.headers IS 'A JSON object of its HTTP headers, names in lower case.';
COMMENT ON COLUMN payment.claimed_webhook.body IS 'Its bytes as they came.';

CREATE FUNCTION payment.claim_unverified_webhooks(psp uuid, max_webhooks integer, lease_ms integer)
    RETURNS SETOF payment.claimed_webhook
    LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_claim_unverified_webhooks';
COMMENT ON FUNCTION payment.claim_unverified_webhooks(uuid, integer, integer) IS
    'For the worker: at most max_webhooks (1 to 10000) of a PSP that it is to be asked about; they fall due again after lease_ms '
    '(1 to 3600000). Those that were asked about payment.webhook_verify_attempts times, or are older than '
    'payment.webhook_parking_time_s, become rejections. Waits for nobody. Errors: PY001, PY501, PY502.';

CREATE FUNCTION payment.defer_webhook(webhook uuid, error text, sent boolean, retry_after_ms bigint) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_defer_webhook';
COMMENT ON FUNCTION payment.defer_webhook(uuid, text, boolean, bigint) IS
    'For the worker: the PSP did not say whether a webhook is its own; it is asked again, at the earliest after '
    'payment.webhook_verify_delay_ms or retry_after_ms. error: why, a word or null; sent: whether it was asked at all (null: yes). '
    'Returns false when the webhook is not there. Errors: PY001, PY005, PY006.';

CREATE FUNCTION payment.retry_webhooks(max_webhooks integer) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_retry_webhooks';
COMMENT ON FUNCTION payment.retry_webhooks(integer) IS
    'For the worker, every second: try to apply at most max_webhooks (1 to 10000) webhook events that wait and are due. What '
    'has waited for payment.webhook_parking_time_s becomes an exception. Returns how many were tried. Errors: PY001.';

CREATE VIEW payment.webhook AS
    SELECT e.id, p.name AS psp, e.event_id, e.type, e.about, e.state, e.effect, e.detail, e.object_id, e.psp_reference,
        e.parent_reference, e.outcome, e.amount, e.currency, e.sent_at, e.received_at, e.updated_at
    FROM payment.webhook_event AS e JOIN payment.psp AS p ON p.id OPERATOR(pg_catalog.=) e.psp_id
    UNION ALL
    SELECT u.id, p.name, NULL, NULL, 'other', 'unverified', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        u.received_at, u.received_at
    FROM payment.webhook_unverified AS u JOIN payment.psp AS p ON p.id OPERATOR(pg_catalog.=) u.psp_id;
COMMENT ON VIEW payment.webhook IS 'Webhook events and what became of them, without their bytes.';
COMMENT ON COLUMN payment.webhook.id IS 'Our id of it (UUIDv7).';
COMMENT ON COLUMN payment.webhook.psp IS 'Name of the PSP.';
COMMENT ON COLUMN payment.webhook.event_id IS 'The PSP''s id of it.';
COMMENT ON COLUMN payment.webhook.type IS 'What happened, in the PSP''s words.';
COMMENT ON COLUMN payment.webhook.about IS 'pay, capture, void, payout, refund, dispute, session or other.';
COMMENT ON COLUMN payment.webhook.state IS
    'received, parked, applied, ignored, rejected or unmatched, as in payment.webhook_event; unverified: the PSP has not '
    'vouched for it yet.';
COMMENT ON COLUMN payment.webhook.effect IS 'Of an applied one: applied, no_effect or contradicted.';
COMMENT ON COLUMN payment.webhook.detail IS 'Why it is in this state.';
COMMENT ON COLUMN payment.webhook.object_id IS 'The order or payout that it is about, as far as that is known.';
COMMENT ON COLUMN payment.webhook.psp_reference IS 'The PSP''s name for the object.';
COMMENT ON COLUMN payment.webhook.parent_reference IS 'The PSP''s name for what that belongs to.';
COMMENT ON COLUMN payment.webhook.outcome IS 'What it says, in the words of payment.attempt_outcome.';
COMMENT ON COLUMN payment.webhook.amount IS 'Minor units of currency that it names.';
COMMENT ON COLUMN payment.webhook.currency IS 'ISO 4217 code.';
COMMENT ON COLUMN payment.webhook.sent_at IS 'When it was made, by the PSP''s clock.';
COMMENT ON COLUMN payment.webhook.received_at IS 'When it came first.';
COMMENT ON COLUMN payment.webhook.updated_at IS 'When its state was last looked at.';

-- A task runs when it falls due.  What may delay it by the PSP's own settings
-- is a request before it that takes as long as it may; the rest is the worker's.
CREATE VIEW payment.stuck AS
    SELECT t.id AS task_id, t.psp_id, p.name AS psp, p.state AS psp_state, coalesce(b.state, 'closed') AS breaker_state,
        t.operation, t.step, t.object_id, t.tries, t.run_at AS due_since, t.attempt_id IS NOT NULL AS lease_expired,
        CASE WHEN p.state = 'paused' THEN 'psp_paused'
             WHEN coalesce(b.state, 'closed') <> 'closed' THEN 'breaker_open'
             WHEN t.attempt_id IS NOT NULL THEN 'lease_expired'
             ELSE 'overdue' END AS reason,
        t.last_error
    FROM payment.psp AS p
        LEFT JOIN payment.circuit_breaker AS b ON b.psp_id = p.id
        CROSS JOIN (VALUES (false, false), (false, true), (true, false), (true, true)) AS lane (payout, repeated)
        JOIN payment.task AS t ON t.psp_id = p.id AND (t.operation = 'payout') = lane.payout
            AND (t.step = 'lookup' OR t.tries > 0) = lane.repeated
    WHERE t.dead_at IS NULL
        AND t.run_at < pg_catalog.now() - interval '10 seconds' - p.timeout_ms * interval '1 millisecond'
    UNION ALL
    SELECT w.webhook_id, w.psp_id, p.name, p.state, coalesce(b.state, 'closed'), 'webhook', w.state, NULL, w.tries, w.run_at,
        false,
        CASE WHEN w.run_at < pg_catalog.now() - interval '10 seconds' THEN 'overdue'
             WHEN w.state = 'parked' THEN 'event_parked'
             ELSE 'event_failing' END,
        NULL
    FROM payment.webhook_waiting AS w
        JOIN payment.psp AS p ON p.id OPERATOR(pg_catalog.=) w.psp_id
        LEFT JOIN payment.circuit_breaker AS b ON b.psp_id OPERATOR(pg_catalog.=) w.psp_id
    WHERE w.run_at < pg_catalog.now() - interval '10 seconds' OR w.since < pg_catalog.now() - interval '1 hour'
    UNION ALL
    SELECT u.id, u.psp_id, p.name, p.state, coalesce(b.state, 'closed'), 'webhook', 'unverified', NULL, u.tries, u.run_at,
        false,
        CASE WHEN p.state = 'paused' THEN 'psp_paused'
             WHEN coalesce(b.state, 'closed') <> 'closed' THEN 'breaker_open'
             WHEN u.run_at < pg_catalog.now() - interval '10 seconds' - p.timeout_ms * interval '1 millisecond' THEN 'overdue'
             ELSE 'event_unverified' END,
        u.last_error
    FROM payment.webhook_unverified AS u
        JOIN payment.psp AS p ON p.id OPERATOR(pg_catalog.=) u.psp_id
        LEFT JOIN payment.circuit_breaker AS b ON b.psp_id OPERATOR(pg_catalog.=) u.psp_id
    WHERE u.run_at < pg_catalog.now() - interval '10 seconds' - p.timeout_ms * interval '1 millisecond'
        OR u.received_at < pg_catalog.now() - interval '1 hour';

COMMENT ON VIEW payment.stuck IS
    'Tasks that are late by their own schedule: due for longer than one request of the PSP may take (timeout_ms) and ten '
    'seconds more; and webhook events that have waited for more than an hour, or that nobody tries again.';
COMMENT ON COLUMN payment.stuck.task_id IS 'The task, or the webhook event';
COMMENT ON COLUMN payment.stuck.psp_id IS 'The PSP it is for';
COMMENT ON COLUMN payment.stuck.psp IS 'Name of the PSP';
COMMENT ON COLUMN payment.stuck.psp_state IS 'active, or paused: then nothing is sent';
COMMENT ON COLUMN payment.stuck.breaker_state IS 'State of its circuit breaker: closed, open or half_open';
COMMENT ON COLUMN payment.stuck.operation IS 'pay, payout or webhook';
COMMENT ON COLUMN payment.stuck.step IS 'send or lookup; of a webhook event its state, received, parked or unverified';
COMMENT ON COLUMN payment.stuck.object_id IS 'The order (pay) or payout; null for a webhook event';
COMMENT ON COLUMN payment.stuck.tries IS 'Tries since the PSP last gave a definite answer';
COMMENT ON COLUMN payment.stuck.due_since IS 'When it fell due';
COMMENT ON COLUMN payment.stuck.lease_expired IS 'It is claimed, and the claim was never recorded';
COMMENT ON COLUMN payment.stuck.reason IS
    'event_parked: what a webhook event is about is still not known; event_failing: it cannot be applied; '
    'event_unverified: its PSP does not say whether it is its own; '
    'psp_paused; breaker_open: the PSP does not work; lease_expired: the worker lost it, and does not run; overdue: the '
    'worker does not run, or there is more work than the PSP''s limits let through';
COMMENT ON COLUMN payment.stuck.last_error IS 'What the PSP said last';
GRANT SELECT ON payment.stuck TO payment_worker, payment_admin, payment_finance, payment_auditor;

-- The edge of the network may do this and nothing else.
GRANT EXECUTE ON FUNCTION payment.receive_webhook(text, jsonb, bytea) TO payment_gateway, payment_app;
GRANT EXECUTE ON FUNCTION payment.retry_webhooks(integer) TO payment_worker, payment_admin;
GRANT EXECUTE ON FUNCTION payment.confirm_webhook(uuid, boolean),
    payment.claim_unverified_webhooks(uuid, integer, integer), payment.defer_webhook(uuid, text, boolean, bigint) TO payment_worker;
GRANT SELECT ON payment.webhook, payment.webhook_rejection TO payment_finance, payment_admin, payment_auditor;
GRANT SELECT ON payment.webhook_event, payment.webhook_key, payment.webhook_waiting, payment.webhook_unverified
    TO payment_finance, payment_auditor;

-- ---------------------------------------------------------------------------
-- src/partition: time partitions
-- ---------------------------------------------------------------------------

-- Whoever waits for a strong lock holds up all who come later, so it must not
-- take long.  What is made must not depend on the caller's settings.
CREATE FUNCTION payment.create_partitions(until timestamptz DEFAULT NULL) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '100ms' SET default_tablespace = '' SET default_table_access_method = 'heap'
    AS 'MODULE_PATHNAME', 'payment_create_partitions';

COMMENT ON FUNCTION payment.create_partitions(timestamptz) IS
    'Make the time partitions of all tables for what comes until then; without an argument for the current and the next '
    'payment.partitions_ahead months or days (payment.partition_interval, UTC). Ranges that a partition covers, that '
    'were detached, or of which the default partition holds rows, are left as they are. Returns how many were made. Errors: PY001, PY006, '
    'PY222 when another session makes or detaches partitions, PY303 (no default partition), 55P03 when a table is in use all the time.';

CREATE FUNCTION payment.keep_partitions_ahead(max_partitions integer) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '100ms' SET default_tablespace = '' SET default_table_access_method = 'heap'
    AS 'MODULE_PATHNAME', 'payment_keep_partitions_ahead';

COMMENT ON FUNCTION payment.keep_partitions_ahead(integer) IS
    'For the worker: make partitions ahead of time, not the current ones, until there are max_partitions new ones or '
    'more. Does nothing before there is a PSP. Waits for locks 100 ms at most, and leaves what it does not get. Returns '
    'how many were made. Errors: PY001, PY303 (no default partition).';

CREATE FUNCTION payment.detach_partitions(older_than timestamptz, all_tables boolean DEFAULT false)
    RETURNS TABLE (parent text, partition text, from_time timestamptz, until_time timestamptz, row_count bigint)
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
    AS 'MODULE_PATHNAME', 'payment_detach_partitions';

COMMENT ON FUNCTION payment.detach_partitions(timestamptz, boolean) IS
    'Detach the whole partitions of before that time: those of journals and entries, or of all tables but event. They stay as '
    'ordinary tables, and what they sum to stays in payment.detached_balance. Returns what was detached. Errors: PY001, '
    'PY220 when something of that time is still open, PY222 when another session makes or detaches partitions, PY303 '
    'when journals and entries are partitioned otherwise or were detached before, 25001 in REPEATABLE READ or '
    'SERIALIZABLE, 55P03 when a table is in use all the time.';

GRANT EXECUTE ON FUNCTION payment.create_partitions(timestamptz), payment.detach_partitions(timestamptz, boolean)
    TO payment_admin;
GRANT EXECUTE ON FUNCTION payment.keep_partitions_ahead(integer) TO payment_worker;

-- ---------------------------------------------------------------------------
-- worker: what it tells about itself
-- ---------------------------------------------------------------------------

-- Where to send, how fast, with the name of which secret.
GRANT SELECT ON payment.psp TO payment_worker;

CREATE FUNCTION payment.wake_worker() RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'payment_wake_worker';
COMMENT ON FUNCTION payment.wake_worker() IS
    'Has the worker look at this database''s queue when the transaction commits. Tasks queued by payment''s own functions do that by themselves.';

GRANT EXECUTE ON FUNCTION payment.wake_worker() TO payment_app, payment_finance, payment_admin, payment_worker;

CREATE FUNCTION payment.worker_slots(OUT database_id oid, OUT pid integer,
    OUT started_at timestamptz, OUT heartbeat_at timestamptz,
    OUT in_flight integer, OUT sent bigint, OUT recorded bigint,
    OUT succeeded bigint, OUT declined bigint, OUT unknown bigint,
    OUT retried bigint, OUT requests_per_second numeric, OUT breakers_open integer,
    OUT last_error text, OUT last_error_at timestamptz,
    OUT refusal text)
    RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'payment_worker_slots';
COMMENT ON FUNCTION payment.worker_slots() IS
    'The dispatchers of this server, as payment.worker_status shows them.';
GRANT EXECUTE ON FUNCTION payment.worker_slots() TO payment_finance, payment_admin, payment_auditor;

CREATE VIEW payment.worker_status AS
    SELECT d.datname AS database, s.pid, s.started_at, s.heartbeat_at,
        s.in_flight, s.sent, s.recorded, s.succeeded, s.declined, s.unknown,
        s.retried, s.requests_per_second, s.breakers_open, s.last_error, s.last_error_at, s.refusal
    FROM payment.worker_slots() AS s
    LEFT JOIN pg_catalog.pg_database AS d ON d.oid OPERATOR(pg_catalog.=) s.database_id;
GRANT SELECT ON payment.worker_status TO payment_finance, payment_admin, payment_auditor;
COMMENT ON VIEW payment.worker_status IS
    'One row for each database of this server that payments are sent from. Counters count since started_at.';
COMMENT ON COLUMN payment.worker_status.database IS 'name of the database';
COMMENT ON COLUMN payment.worker_status.pid IS 'process id of its dispatcher';
COMMENT ON COLUMN payment.worker_status.started_at IS 'when that process started';
COMMENT ON COLUMN payment.worker_status.heartbeat_at IS 'when its loop last turned; idle, it does so at least every second';
COMMENT ON COLUMN payment.worker_status.in_flight IS 'requests under way';
COMMENT ON COLUMN payment.worker_status.sent IS 'attempts sent to PSPs, lookups included';
COMMENT ON COLUMN payment.worker_status.recorded IS 'outcomes recorded';
COMMENT ON COLUMN payment.worker_status.succeeded IS 'of these: money moved';
COMMENT ON COLUMN payment.worker_status.declined IS 'of these: declined or failed for good';
COMMENT ON COLUMN payment.worker_status.unknown IS 'of these: to be looked up';
COMMENT ON COLUMN payment.worker_status.retried IS 'of these: not executed, to be sent again';
COMMENT ON COLUMN payment.worker_status.requests_per_second IS 'requests sent in a second, of the last ten seconds or so';
COMMENT ON COLUMN payment.worker_status.breakers_open IS 'PSPs whose circuit breaker is not closed';
COMMENT ON COLUMN payment.worker_status.last_error IS 'last error of the dispatcher itself, shown within its own database only';
COMMENT ON COLUMN payment.worker_status.last_error_at IS 'when that was';
COMMENT ON COLUMN payment.worker_status.refusal IS 'why nothing is sent from this copy of the database, as payment.sending_refusal() said last; null: payments are sent';

CREATE FUNCTION payment.worker_psps(OUT psp_id uuid, OUT in_flight integer, OUT tokens integer,
    OUT requests_per_second numeric, OUT sent bigint, OUT failures_in_row integer, OUT paused_until timestamptz,
    OUT last_success_at timestamptz, OUT last_failure_at timestamptz, OUT last_failure text)
    RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'payment_worker_psps';
COMMENT ON FUNCTION payment.worker_psps() IS
    'What this database''s dispatcher counted for its PSPs, as payment.psp_status shows it.';

CREATE FUNCTION payment.worker_latencies(OUT psp_id uuid, OUT outcome text, OUT upper_bound_ms integer,
    OUT requests bigint, OUT sum_ms bigint)
    RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'payment_worker_latencies';
COMMENT ON FUNCTION payment.worker_latencies() IS
    'How long this database''s PSPs took to answer, as payment.psp_latency shows it.';

GRANT EXECUTE ON FUNCTION payment.worker_psps(), payment.worker_latencies()
    TO payment_finance, payment_admin, payment_auditor;

CREATE VIEW payment.psp_status AS
    SELECT p.id AS psp_id, p.name AS psp, p.state, coalesce(b.state, 'closed') AS breaker_state, b.since AS breaker_since,
        b.probe_at AS breaker_probe_at, b.reason AS breaker_reason, coalesce(w.in_flight, 0) AS in_flight, w.tokens,
        coalesce(w.requests_per_second, 0) AS requests_per_second,
        CASE WHEN w.paused_until > pg_catalog.clock_timestamp() THEN w.paused_until END AS paused_until,
        coalesce(w.sent, 0) AS sent, coalesce(w.failures_in_row, 0) AS failures_in_row, w.last_success_at,
        w.last_failure_at, w.last_failure
    FROM payment.psp AS p
        LEFT JOIN payment.circuit_breaker AS b ON b.psp_id OPERATOR(pg_catalog.=) p.id
        LEFT JOIN payment.worker_psps() AS w ON w.psp_id OPERATOR(pg_catalog.=) p.id;
COMMENT ON VIEW payment.psp_status IS
    'How each PSP of this database does. Counters are of this server, and begin anew when it is started.';
COMMENT ON COLUMN payment.psp_status.psp_id IS 'the PSP';
COMMENT ON COLUMN payment.psp_status.psp IS 'its name';
COMMENT ON COLUMN payment.psp_status.state IS 'active, or paused by an operator: then nothing is sent';
COMMENT ON COLUMN payment.psp_status.breaker_state IS
    'closed: everything is sent; open: nothing is; half_open: a few requests are, to see how they end';
COMMENT ON COLUMN payment.psp_status.breaker_since IS 'since when; null: it never was anything but closed';
COMMENT ON COLUMN payment.psp_status.breaker_probe_at IS 'when an open one lets a few requests through';
COMMENT ON COLUMN payment.psp_status.breaker_reason IS 'why it opened';
COMMENT ON COLUMN payment.psp_status.in_flight IS 'tasks that are claimed and not recorded yet';
COMMENT ON COLUMN payment.psp_status.tokens IS 'requests that its requests_per_second would let through at once; null: not known';
COMMENT ON COLUMN payment.psp_status.requests_per_second IS 'requests sent in a second, of the last ten seconds or so';
COMMENT ON COLUMN payment.psp_status.paused_until IS 'until when it asked to be left alone; null: it does not';
COMMENT ON COLUMN payment.psp_status.sent IS 'attempts sent, lookups included';
COMMENT ON COLUMN payment.psp_status.failures_in_row IS 'requests that failed since it last answered properly';
COMMENT ON COLUMN payment.psp_status.last_success_at IS 'when it last answered properly, be it with a decline';
COMMENT ON COLUMN payment.psp_status.last_failure_at IS 'when a request last failed: no answer, 5xx, TLS, access refused';
COMMENT ON COLUMN payment.psp_status.last_failure IS 'how, with HTTP status, attempt number and object';

CREATE VIEW payment.psp_latency AS
    SELECT l.psp_id, p.name AS psp, l.outcome, l.upper_bound_ms, l.requests, l.sum_ms
    FROM payment.worker_latencies() AS l JOIN payment.psp AS p ON p.id OPERATOR(pg_catalog.=) l.psp_id;
COMMENT ON VIEW payment.psp_latency IS
    'Histograms of how long PSPs took to answer, for each outcome that there was: cumulative, as Prometheus wants them. '
    'Counted since the server was started.';
COMMENT ON COLUMN payment.psp_latency.psp_id IS 'the PSP';
COMMENT ON COLUMN payment.psp_latency.psp IS 'its name';
COMMENT ON COLUMN payment.psp_latency.outcome IS 'as in payment.attempt_outcome';
COMMENT ON COLUMN payment.psp_latency.upper_bound_ms IS 'milliseconds; null: no bound, all requests';
COMMENT ON COLUMN payment.psp_latency.requests IS 'attempts that took at most so long, all their requests together';
COMMENT ON COLUMN payment.psp_latency.sum_ms IS 'milliseconds that all attempts with this outcome took, the same in each row';
GRANT SELECT ON payment.psp_status, payment.psp_latency TO payment_finance, payment_admin, payment_auditor;

-- The launcher learns of this database as soon as it has the extension.
SELECT payment.wake_worker();

-- ---------------------------------------------------------------------------
-- src/instance: which copy of this database sends payments
-- ---------------------------------------------------------------------------

-- Left out of dumps: a copy has to find out that it is one.
CREATE TABLE payment.instance (
    generation bigint NOT NULL PRIMARY KEY,
    cause text NOT NULL CHECK (cause IN ('create', 'adopt', 'promotion', 'restore')),
    system_identifier bigint NOT NULL,
    database_id oid NOT NULL,
    timeline integer NOT NULL,
    data_directory text NOT NULL,
    control_file_inode bigint NOT NULL,
    control_file_born_at timestamptz,
    machine text NOT NULL,
    may_have_sent boolean NOT NULL,
    reason text NOT NULL,
    recorded_by text NOT NULL,
    recorded_at timestamptz NOT NULL
);

COMMENT ON TABLE payment.instance IS
    'From where payments of this database are sent: the last row counts, the others are history. Append-only; not in dumps.';
COMMENT ON COLUMN payment.instance.generation IS 'Counts from 1.';
COMMENT ON COLUMN payment.instance.cause IS
    'create: CREATE EXTENSION; adopt: somebody called adopt(); promotion: an expected standby took over; restore: rows came '
    'from a dump, and nothing is sent.';
COMMENT ON COLUMN payment.instance.system_identifier IS 'The cluster''s, as in pg_control_system().';
COMMENT ON COLUMN payment.instance.database_id IS 'OID of the database.';
COMMENT ON COLUMN payment.instance.timeline IS 'The server''s timeline. Compared only where files have no birth time.';
COMMENT ON COLUMN payment.instance.data_directory IS 'The server''s data directory, without symbolic links.';
COMMENT ON COLUMN payment.instance.control_file_inode IS 'Inode of global/pg_control in it, a file that only copying makes anew.';
COMMENT ON COLUMN payment.instance.control_file_born_at IS 'When that file was made; null: the file system does not tell.';
COMMENT ON COLUMN payment.instance.machine IS
    'payment.machine_id, or else /etc/machine-id, the name of the host and a Kubernetes namespace.';
COMMENT ON COLUMN payment.instance.may_have_sent IS 'Whether another copy may have sent what waits here, so that all of it was to be looked up first.';
COMMENT ON COLUMN payment.instance.reason IS 'Why.';
COMMENT ON COLUMN payment.instance.recorded_by IS 'The role that was logged in.';
COMMENT ON COLUMN payment.instance.recorded_at IS 'When.';

CREATE TABLE payment.synchronous_standby (
    name text NOT NULL PRIMARY KEY,
    recorded_at timestamptz NOT NULL
);

COMMENT ON TABLE payment.synchronous_standby IS
    'The standbys that know of everything that was sent, and so take over by themselves when they are promoted. Kept by '
    'the worker; not in dumps.';
COMMENT ON COLUMN payment.synchronous_standby.name IS 'Its application_name, in lower case.';
COMMENT ON COLUMN payment.synchronous_standby.recorded_at IS 'Since when it has been one.';

DO $$
DECLARE
    guarded record;
BEGIN
    FOR guarded IN
        SELECT * FROM (VALUES
            ('instance', 'append_only'),
            ('synchronous_standby', 'transient')) AS g (tablename, argument)
    LOOP
        EXECUTE pg_catalog.format('CREATE TRIGGER guard_rows BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON payment.%I '
            'FOR EACH STATEMENT EXECUTE FUNCTION payment.guard_rows(%s)', guarded.tablename, guarded.argument);
        EXECUTE pg_catalog.format('ALTER TABLE payment.%I ENABLE ALWAYS TRIGGER guard_rows', guarded.tablename);
    END LOOP;
END
$$;

CREATE FUNCTION payment.mark_restored() RETURNS trigger
    LANGUAGE c
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_mark_restored';
COMMENT ON FUNCTION payment.mark_restored() IS
    'Trigger: when PSPs are not registered but come from a dump, nothing is sent until payment.adopt() is called.';
CREATE TRIGGER mark_restored BEFORE INSERT ON payment.psp
    FOR EACH STATEMENT EXECUTE FUNCTION payment.mark_restored();
ALTER TABLE payment.psp ENABLE ALWAYS TRIGGER mark_restored;

CREATE FUNCTION payment.sending_refusal() RETURNS text
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_sending_refusal';
COMMENT ON FUNCTION payment.sending_refusal() IS
    'Why no payments may be sent from this copy of the database now; null when they may. payment.adopt() tells what to do '
    'about a copy.';

CREATE FUNCTION payment.adopt(reason text, may_have_sent boolean DEFAULT true) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_adopt';
COMMENT ON FUNCTION payment.adopt(text, boolean) IS
    'Send payments from this copy of the database from now on: who, when and reason are kept in payment.instance, and '
    'logged. First make sure that no other copy sends. may_have_sent: whether another one may have since this one was '
    'taken; then every task is looked up at its PSP before it is sent. False only for the very same data in another place, '
    'as after pg_upgrade. What was under way is looked up in any case. Returns the number of tasks that are. Errors: PY001, '
    'PY005, PY006.';

CREATE FUNCTION payment.take_over() RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_take_over';
COMMENT ON FUNCTION payment.take_over() IS
    'For the worker, when it starts: on a standby that was promoted, and that payment.synchronous_standby or the setting '
    'payment.failover_standbys names, does what adopt() does. Returns whether it did.';

CREATE FUNCTION payment.note_standbys(max_standbys integer) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_note_standbys';
COMMENT ON FUNCTION payment.note_standbys(integer) IS
    'For the worker, every few seconds: note in payment.synchronous_standby which standbys (at most max_standbys, 1 to '
    '1000) are synchronous. Returns how many names came or went. Errors: PY001.';

GRANT SELECT ON payment.instance, payment.synchronous_standby TO payment_finance, payment_admin, payment_auditor;
GRANT EXECUTE ON FUNCTION payment.adopt(text, boolean) TO payment_admin;
GRANT EXECUTE ON FUNCTION payment.sending_refusal()
    TO payment_finance, payment_admin, payment_auditor, payment_worker;
GRANT EXECUTE ON FUNCTION payment.take_over(), payment.note_standbys(integer) TO payment_worker;

-- A new database has no copy.  (In a dump that is being restored, what follows takes this back.)
DO $$
BEGIN
    PERFORM payment.adopt('CREATE EXTENSION', false);
END
$$;

-- DROP EXTENSION drops the tables with it.
CREATE FUNCTION payment.guard_drop() RETURNS event_trigger
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'payment_guard_drop';
COMMENT ON FUNCTION payment.guard_drop() IS
    'Event trigger: refuses to drop the extension (also by DROP SCHEMA or DROP OWNED) while it holds payments, unless '
    'payment.allow_drop is on (PY600).';
CREATE EVENT TRIGGER payment_guard_drop ON ddl_command_start
    WHEN TAG IN ('DROP EXTENSION', 'DROP SCHEMA', 'DROP OWNED')
    EXECUTE FUNCTION payment.guard_drop();
ALTER EVENT TRIGGER payment_guard_drop ENABLE ALWAYS;

-- ---------------------------------------------------------------------------
-- src/event: what applications are told
-- ---------------------------------------------------------------------------

-- The outbox.  Written in the commit of what it tells about, and read in the
-- order (epoch, horizon, id): src/event/reading.c says why nothing is skipped.
CREATE TABLE payment.event (
    id uuid NOT NULL,
    epoch timestamptz NOT NULL,
    horizon xid8 NOT NULL,
    object text NOT NULL,
    object_id uuid NOT NULL,
    payment_id uuid,
    number integer NOT NULL,
    type text NOT NULL,
    data jsonb NOT NULL
) PARTITION BY RANGE (id);

CREATE TABLE payment.event_default PARTITION OF payment.event (
    PRIMARY KEY (id)
) DEFAULT;

CREATE INDEX event_default_order_idx ON payment.event_default (epoch, horizon, id);

COMMENT ON TABLE payment.event IS
    'What applications are told of payments, orders and payouts: one row for each change of status that '
    'payment.event_types() lists. Append-only; partitioned by id, which holds the time of the change.';
COMMENT ON COLUMN payment.event.id IS 'UUIDv7; its time is that of the change, and ascends strictly for each object.';
COMMENT ON COLUMN payment.event.epoch IS
    'Since when this database numbers its transactions as it does: when it was created, or restored from a dump.';
COMMENT ON COLUMN payment.event.horizon IS
    'Transactions with numbers from here on had not begun when it was written. Readers wait until all before have ended.';
COMMENT ON COLUMN payment.event.object IS 'payment, payment_order or payout.';
COMMENT ON COLUMN payment.event.object_id IS 'The object.';
COMMENT ON COLUMN payment.event.payment_id IS 'The payment that it belongs to; null: none.';
COMMENT ON COLUMN payment.event.number IS 'Counts the events of the object, from 1, without gaps.';
COMMENT ON COLUMN payment.event.type IS 'What happened: see payment.event_types().';
COMMENT ON COLUMN payment.event.data IS 'The object as it was then, without payment methods and bank accounts. Amounts in minor units.';
COMMENT ON TABLE payment.event_default IS 'Events for which no partition was made.';

CREATE TABLE payment.event_consumer (
    name text NOT NULL PRIMARY KEY,
    types text[],
    epoch timestamptz NOT NULL,
    horizon xid8 NOT NULL,
    event_id uuid NOT NULL,
    read_epoch timestamptz,
    read_horizon xid8,
    read_event_id uuid,
    leased_until timestamptz,
    read_at timestamptz,
    acknowledged_at timestamptz
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);

COMMENT ON TABLE payment.event_consumer IS
    'Who reads events, and how far: written by payment.register_consumer(), read_events(), acknowledge_events() and, of '
    'those with a webhook endpoint, by the worker.';
COMMENT ON COLUMN payment.event_consumer.name IS 'What it is called.';
COMMENT ON COLUMN payment.event_consumer.types IS 'Types it wants, as payment_order.captured or payment_order.*; null: all.';
COMMENT ON COLUMN payment.event_consumer.epoch IS 'epoch of its position: it is done with all events up to (epoch, horizon, event_id).';
COMMENT ON COLUMN payment.event_consumer.horizon IS 'horizon of its position.';
COMMENT ON COLUMN payment.event_consumer.event_id IS 'id of its position; not always that of an event.';
COMMENT ON COLUMN payment.event_consumer.read_epoch IS 'epoch of the last event that was handed out and not acknowledged; null: none.';
COMMENT ON COLUMN payment.event_consumer.read_horizon IS 'horizon of that event.';
COMMENT ON COLUMN payment.event_consumer.read_event_id IS 'id of that event.';
COMMENT ON COLUMN payment.event_consumer.leased_until IS 'Until then nobody else gets what was handed out; null: not leased.';
COMMENT ON COLUMN payment.event_consumer.read_at IS 'When events were last handed out; of one with a webhook endpoint: put into its queue.';
COMMENT ON COLUMN payment.event_consumer.acknowledged_at IS 'When some were last acknowledged.';

CREATE TABLE payment.webhook_endpoint (
    consumer text NOT NULL PRIMARY KEY,
    url text NOT NULL,
    secret_name text NOT NULL,
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused')),
    max_in_flight integer NOT NULL DEFAULT 8 CHECK (max_in_flight BETWEEN 1 AND 64),
    connect_timeout_ms integer NOT NULL DEFAULT 3000 CHECK (connect_timeout_ms BETWEEN 1 AND 60000),
    timeout_ms integer NOT NULL DEFAULT 10000 CHECK (timeout_ms BETWEEN 1 AND 60000),
    max_attempts integer NOT NULL DEFAULT 60 CHECK (max_attempts BETWEEN 1 AND 1000),
    backoff_base_ms integer NOT NULL DEFAULT 1000 CHECK (backoff_base_ms BETWEEN 1 AND 3600000),
    backoff_max_ms integer NOT NULL DEFAULT 3600000 CHECK (backoff_max_ms BETWEEN 1 AND 86400000)
);

COMMENT ON TABLE payment.webhook_endpoint IS
    'Where the worker posts the events of a consumer, written by payment.set_webhook_endpoint().';
COMMENT ON COLUMN payment.webhook_endpoint.consumer IS 'The consumer.';
COMMENT ON COLUMN payment.webhook_endpoint.url IS 'Where events are posted to.';
COMMENT ON COLUMN payment.webhook_endpoint.secret_name IS 'The file in payment.secrets_dir that holds the key they are signed with.';
COMMENT ON COLUMN payment.webhook_endpoint.state IS 'active; or paused: nothing is posted, and nothing lost.';
COMMENT ON COLUMN payment.webhook_endpoint.max_in_flight IS 'Most requests under way to it at once.';
COMMENT ON COLUMN payment.webhook_endpoint.connect_timeout_ms IS 'Milliseconds to wait for a connection.';
COMMENT ON COLUMN payment.webhook_endpoint.timeout_ms IS 'Milliseconds to wait for the answer.';
COMMENT ON COLUMN payment.webhook_endpoint.max_attempts IS 'Tries after which an event is set aside.';
COMMENT ON COLUMN payment.webhook_endpoint.backoff_base_ms IS 'Milliseconds before the second try, doubled for each further one.';
COMMENT ON COLUMN payment.webhook_endpoint.backoff_max_ms IS 'Most milliseconds between two tries.';

-- What is to be posted: a bounded piece of each consumer's events.  Of each
-- object only the first has a time; the others wait for it.
CREATE TABLE payment.event_delivery (
    consumer text NOT NULL,
    event_id uuid NOT NULL,
    object_id uuid NOT NULL,
    number integer NOT NULL,
    run_at timestamptz,
    tries integer NOT NULL DEFAULT 0,
    first_tried_at timestamptz,
    last_tried_at timestamptz,
    last_http_status integer,
    last_error text,
    dead_at timestamptz,
    PRIMARY KEY (consumer, event_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX event_delivery_due_idx ON payment.event_delivery (consumer, run_at)
    WHERE dead_at IS NULL AND run_at IS NOT NULL;
CREATE INDEX event_delivery_object_idx ON payment.event_delivery (consumer, object_id, number);

COMMENT ON TABLE payment.event_delivery IS
    'Events on their way to webhook endpoints. A row is gone when its endpoint has acknowledged it.';
COMMENT ON COLUMN payment.event_delivery.consumer IS 'The consumer.';
COMMENT ON COLUMN payment.event_delivery.event_id IS 'The event.';
COMMENT ON COLUMN payment.event_delivery.object_id IS 'Its object.';
COMMENT ON COLUMN payment.event_delivery.number IS 'Its number among the events of the object.';
COMMENT ON COLUMN payment.event_delivery.run_at IS
    'When it is posted next; while it is under way, when it would be posted again; null: an earlier event of the object comes first, or it was set aside.';
COMMENT ON COLUMN payment.event_delivery.tries IS 'How many times it was posted, counted before.';
COMMENT ON COLUMN payment.event_delivery.first_tried_at IS 'When it was first posted.';
COMMENT ON COLUMN payment.event_delivery.last_tried_at IS 'When it was last posted.';
COMMENT ON COLUMN payment.event_delivery.last_http_status IS 'What the endpoint answered last; null: nothing.';
COMMENT ON COLUMN payment.event_delivery.last_error IS 'Why that was no acknowledgement.';
COMMENT ON COLUMN payment.event_delivery.dead_at IS 'When it was set aside, tried too often; later events of the object went on then.';

DO $$
DECLARE
    guarded text;
BEGIN
    FOREACH guarded IN ARRAY ARRAY['event', 'event_default']
    LOOP
        EXECUTE pg_catalog.format('CREATE TRIGGER guard_rows BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON payment.%I '
            'FOR EACH STATEMENT EXECUTE FUNCTION payment.guard_rows(''append_only'')', guarded);
        EXECUTE pg_catalog.format('ALTER TABLE payment.%I ENABLE ALWAYS TRIGGER guard_rows', guarded);
    END LOOP;
END
$$;

CREATE FUNCTION payment.event_types(OUT type text, OUT object text, OUT status text) RETURNS SETOF record
    LANGUAGE c STABLE STRICT PARALLEL SAFE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_event_types';
COMMENT ON FUNCTION payment.event_types() IS
    'Every type of event: the object that it is about, and the status whose arrival it tells.';

CREATE FUNCTION payment.register_consumer(name text, types text[] DEFAULT NULL, from_beginning boolean DEFAULT false)
    RETURNS boolean
    LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_register_consumer';
COMMENT ON FUNCTION payment.register_consumer(text, text[], boolean) IS
    'Make a consumer of events; returns false when there is one of that name, which keeps its position and gets these '
    'types. types: those it wants, as payment_order.captured or payment_order.*; null: all. from_beginning: all events that '
    'there still are, instead of those to come. At most payment.max_event_consumers. Errors: PY001, PY005, PY006.';

CREATE FUNCTION payment.remove_consumer(name text) RETURNS boolean
    LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_remove_consumer';
COMMENT ON FUNCTION payment.remove_consumer(text) IS
    'Remove a consumer with its webhook endpoint, its position and what was to be posted to it; false when there is none. Errors: PY001.';

CREATE FUNCTION payment.read_events(consumer text, max_events integer DEFAULT 100, lease_ms integer DEFAULT 0)
    RETURNS TABLE (id uuid, type text, object text, object_id uuid, payment_id uuid, number integer,
        created_at timestamptz, data jsonb)
    LANGUAGE c VOLATILE ROWS 100
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_read_events';
COMMENT ON FUNCTION payment.read_events(text, integer, integer) IS
    'The events after a consumer''s position, at most max_events (1 to 10000), in order. The position moves by '
    'acknowledge_events() only, so what is not acknowledged comes again. While the transaction lasts, and for lease_ms '
    '(0 to 3600000) after, another reader of the same consumer gets none. Events wait for all transactions that were under '
    'way when they were written, so that none is ever skipped. Errors: PY001, PY012, PY303 (it has a webhook endpoint, or '
    'there are events of a time that is yet to come).';

CREATE FUNCTION payment.acknowledge_events(consumer text, through uuid) RETURNS boolean
    LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_acknowledge_events';
COMMENT ON FUNCTION payment.acknowledge_events(text, uuid) IS
    'Be done with all events that read_events() gave up to the one with that id; false when that was so already. '
    'Errors: PY001, PY012, PY303 (it was not read).';

CREATE FUNCTION payment.set_webhook_endpoint(consumer text, url text, secret_name text, types text[] DEFAULT NULL,
    settings jsonb DEFAULT '{}') RETURNS boolean
    LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_set_webhook_endpoint';
COMMENT ON FUNCTION payment.set_webhook_endpoint(text, text, text, text[], jsonb) IS
    'Have the worker post a consumer''s events to a URL (https://… or http://…, without user and fragment), signed with the '
    'content of the file secret_name in payment.secrets_dir. A consumer that there is not yet is made, for events to come; '
    'then true is returned. types: as of register_consumer(). settings: columns of payment.webhook_endpoint, as '
    '{"timeout_ms": 5000}; those left away keep their value. Errors: PY001, PY005, PY006.';

CREATE FUNCTION payment.retry_event_deliveries(consumer text, event_id uuid DEFAULT NULL) RETURNS bigint
    LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_retry_event_deliveries';
COMMENT ON FUNCTION payment.retry_event_deliveries(text, uuid) IS
    'Post again what was set aside for a consumer (payment.event_dead_letter), one event or all; returns how many. Errors: PY001, PY012.';

CREATE FUNCTION payment.discard_event_deliveries(consumer text, event_id uuid DEFAULT NULL) RETURNS bigint
    LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_discard_event_deliveries';
COMMENT ON FUNCTION payment.discard_event_deliveries(text, uuid) IS
    'Never post what was set aside for a consumer (payment.event_dead_letter), one event or all; returns how many. Errors: PY001, PY012.';

CREATE FUNCTION payment.detach_events()
    RETURNS TABLE (parent text, partition text, from_time timestamptz, until_time timestamptz, row_count bigint)
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
    AS 'MODULE_PATHNAME', 'payment_detach_events';
COMMENT ON FUNCTION payment.detach_events() IS
    'Take the partitions of events that are older than payment.event_retention_days out of payment.event; returns them. '
    'Detached tables stay; nothing here reads them. Errors: PY220 when not all consumers are done with them, PY222 '
    'when another session makes or detaches partitions, 25001, 55P03 as of detach_partitions().';
GRANT EXECUTE ON FUNCTION payment.detach_events() TO payment_admin;

-- For the worker.

CREATE TYPE payment.claimed_event AS (
    event_id uuid,
    tries integer,
    body text
);
COMMENT ON TYPE payment.claimed_event IS 'What the worker gets to post.';
COMMENT ON COLUMN payment.claimed_event.event_id IS 'The event.';
COMMENT ON COLUMN payment.claimed_event.tries IS 'How many times it has been posted, with this one.';
COMMENT ON COLUMN payment.claimed_event.body IS 'JSON: id, type, object, object_id, payment_id, number, created_at, data.';

CREATE FUNCTION payment.queue_event_deliveries(consumer text, max_events integer) RETURNS bigint
    LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_queue_event_deliveries';
COMMENT ON FUNCTION payment.queue_event_deliveries(text, integer) IS
    'For the worker: put the next events of a consumer with a webhook endpoint into its queue, at most max_events (1 to 10000) '
    'and no more than payment.max_queued_events are waiting; returns how many, null when there was no room. Waits for nobody. '
    'Errors: PY001.';

CREATE FUNCTION payment.claim_event_deliveries(consumer text, max_events integer, lease_ms integer)
    RETURNS SETOF payment.claimed_event
    LANGUAGE c VOLATILE ROWS 10
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_claim_event_deliveries';
COMMENT ON FUNCTION payment.claim_event_deliveries(text, integer, integer) IS
    'For the worker: at most max_events (1 to 10000) that are due for a consumer''s webhook endpoint; they fall due again after '
    'lease_ms (1 to 3600000). Waits for nobody. Errors: PY001, PY501, PY502.';

CREATE FUNCTION payment.record_event_deliveries(consumer text, event_ids uuid[], tries integer[], http_statuses integer[],
    errors text[], retry_after_ms bigint[]) RETURNS boolean
    LANGUAGE c VOLATILE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_record_event_deliveries';
COMMENT ON FUNCTION payment.record_event_deliveries(text, uuid[], integer[], integer[], text[], bigint[]) IS
    'For the worker: what came of events that it posted, one element for each. errors: null: acknowledged. retry_after_ms: what '
    'the endpoint asked for, or null. tries: as claimed; the failure of an earlier claim says nothing. Returns false, and does '
    'nothing, when somebody has the consumer locked. Errors: PY001.';

CREATE FUNCTION payment.next_event_delivery_due(consumer text) RETURNS timestamptz
    LANGUAGE c STABLE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'payment_next_event_delivery_due';
COMMENT ON FUNCTION payment.next_event_delivery_due(text) IS
    'For the worker: when the next event falls due for a consumer''s webhook endpoint; null: none waits. Errors: PY001.';

GRANT EXECUTE ON FUNCTION payment.event_types()
    TO payment_app, payment_finance, payment_admin, payment_auditor, payment_worker;
GRANT EXECUTE ON FUNCTION payment.read_events(text, integer, integer), payment.acknowledge_events(text, uuid) TO payment_app;
GRANT EXECUTE ON FUNCTION payment.register_consumer(text, text[], boolean), payment.remove_consumer(text),
    payment.set_webhook_endpoint(text, text, text, text[], jsonb), payment.retry_event_deliveries(text, uuid),
    payment.discard_event_deliveries(text, uuid)
    TO payment_admin;
GRANT EXECUTE ON FUNCTION payment.queue_event_deliveries(text, integer), payment.claim_event_deliveries(text, integer, integer),
    payment.record_event_deliveries(text, uuid[], integer[], integer[], text[], bigint[]), payment.next_event_delivery_due(text)
    TO payment_worker;
GRANT SELECT ON payment.event TO payment_finance, payment_auditor;
GRANT SELECT ON payment.event_consumer, payment.event_delivery TO payment_finance, payment_admin, payment_auditor;
GRANT SELECT ON payment.webhook_endpoint TO payment_finance, payment_admin, payment_auditor, payment_worker;

CREATE VIEW payment.event_lag AS
    SELECT c.name AS consumer, e.url, e.state, c.types,
        b.events AS unread, b.oldest_at AS oldest_unread_at, b.held_back, q.queued, q.dead, q.failing, c.leased_until, c.read_at,
        c.acknowledged_at
    FROM payment.event_consumer AS c
        LEFT JOIN payment.webhook_endpoint AS e ON e.consumer OPERATOR(pg_catalog.=) c.name
        CROSS JOIN LATERAL (
            SELECT count(*) AS events, min(payment.id_time(u.id)) AS oldest_at,
                count(*) FILTER (WHERE u.held_back) AS held_back
            FROM (SELECT v.id, v.epoch OPERATOR(pg_catalog.=) i.epoch
                    AND v.horizon OPERATOR(pg_catalog.>) pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot()) AS held_back
                FROM payment.event AS v
                    CROSS JOIN (SELECT max(n.recorded_at) AS epoch FROM payment.instance AS n
                        WHERE n.cause OPERATOR(pg_catalog.=) ANY (ARRAY['create', 'restore'])) AS i
                WHERE ROW(v.epoch, v.horizon, v.id) OPERATOR(pg_catalog.>) ROW(c.epoch, c.horizon, c.event_id)
                    AND (c.types IS NULL OR v.type OPERATOR(pg_catalog.=) ANY (c.types)
                        OR v.object OPERATOR(pg_catalog.||) '.*' OPERATOR(pg_catalog.=) ANY (c.types))
                LIMIT 10000) AS u) AS b
        CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE d.dead_at IS NULL) AS queued, count(*) FILTER (WHERE d.dead_at IS NOT NULL) AS dead,
                count(*) FILTER (WHERE d.dead_at IS NULL AND d.last_error IS NOT NULL) AS failing
            FROM payment.event_delivery AS d WHERE d.consumer OPERATOR(pg_catalog.=) c.name) AS q;
COMMENT ON VIEW payment.event_lag IS 'How far each consumer of events is behind.';
COMMENT ON COLUMN payment.event_lag.consumer IS 'its name';
COMMENT ON COLUMN payment.event_lag.url IS 'where its events are posted; null: it reads them itself';
COMMENT ON COLUMN payment.event_lag.state IS 'of its webhook endpoint: active or paused; null: it has none';
COMMENT ON COLUMN payment.event_lag.types IS 'types it wants; null: all';
COMMENT ON COLUMN payment.event_lag.unread IS 'events after its position, counted to 10000; of one with an endpoint: not in its queue yet';
COMMENT ON COLUMN payment.event_lag.oldest_unread_at IS 'when the oldest of these happened; null: there is none';
COMMENT ON COLUMN payment.event_lag.held_back IS
    'those of these that wait for a transaction that was under way when they were written, in any database of the server';
COMMENT ON COLUMN payment.event_lag.queued IS 'events that are being posted, or wait for it';
COMMENT ON COLUMN payment.event_lag.dead IS 'events that were set aside: see payment.event_dead_letter';
COMMENT ON COLUMN payment.event_lag.failing IS 'those of the queue that were not acknowledged when they were posted last';
COMMENT ON COLUMN payment.event_lag.leased_until IS 'until then nobody but the last reader gets events';
COMMENT ON COLUMN payment.event_lag.read_at IS 'when it last got events';
COMMENT ON COLUMN payment.event_lag.acknowledged_at IS 'when it last acknowledged some';

CREATE VIEW payment.event_dead_letter AS
    SELECT d.consumer, d.event_id, v.type, v.object, d.object_id, d.number, payment.id_time(d.event_id) AS created_at, d.tries,
        d.first_tried_at, d.last_tried_at, d.last_http_status, d.last_error, d.dead_at
    FROM payment.event_delivery AS d LEFT JOIN payment.event AS v ON v.id OPERATOR(pg_catalog.=) d.event_id
    WHERE d.dead_at IS NOT NULL;
COMMENT ON VIEW payment.event_dead_letter IS
    'Events that an endpoint did not acknowledge however often they were posted. payment.retry_event_deliveries() posts them '
    'again, payment.discard_event_deliveries() gives them up.';
COMMENT ON COLUMN payment.event_dead_letter.consumer IS 'the consumer';
COMMENT ON COLUMN payment.event_dead_letter.event_id IS 'the event';
COMMENT ON COLUMN payment.event_dead_letter.type IS 'its type';
COMMENT ON COLUMN payment.event_dead_letter.object IS 'kind of its object';
COMMENT ON COLUMN payment.event_dead_letter.object_id IS 'its object';
COMMENT ON COLUMN payment.event_dead_letter.number IS 'its number among the events of the object';
COMMENT ON COLUMN payment.event_dead_letter.created_at IS 'when it happened';
COMMENT ON COLUMN payment.event_dead_letter.tries IS 'how many times it was posted';
COMMENT ON COLUMN payment.event_dead_letter.first_tried_at IS 'when first';
COMMENT ON COLUMN payment.event_dead_letter.last_tried_at IS 'when last';
COMMENT ON COLUMN payment.event_dead_letter.last_http_status IS 'what was answered last; null: nothing';
COMMENT ON COLUMN payment.event_dead_letter.last_error IS 'why that was no acknowledgement';
COMMENT ON COLUMN payment.event_dead_letter.dead_at IS 'when it was set aside';

GRANT SELECT ON payment.event_lag TO payment_app, payment_finance, payment_admin, payment_auditor;
GRANT SELECT ON payment.event_dead_letter TO payment_finance, payment_admin, payment_auditor;

-- ---------------------------------------------------------------------------
-- Dumps: the rows of every table of the extension belong to the user
-- ---------------------------------------------------------------------------

SELECT pg_catalog.pg_extension_config_dump('payment.account', '');
SELECT pg_catalog.pg_extension_config_dump('payment.journal_default', '');
SELECT pg_catalog.pg_extension_config_dump('payment.entry_default', '');
SELECT pg_catalog.pg_extension_config_dump('payment.balance_slot', '');
SELECT pg_catalog.pg_extension_config_dump('payment.hold', '');
SELECT pg_catalog.pg_extension_config_dump('payment.reversal', '');
SELECT pg_catalog.pg_extension_config_dump('payment.detached_partition', '');
SELECT pg_catalog.pg_extension_config_dump('payment.detached_balance', '');
SELECT pg_catalog.pg_extension_config_dump('payment.resolution', '');
SELECT pg_catalog.pg_extension_config_dump('payment.hosted_page', '');
SELECT pg_catalog.pg_extension_config_dump('payment.psp', '');
SELECT pg_catalog.pg_extension_config_dump('payment.seller', '');
SELECT pg_catalog.pg_extension_config_dump('payment.fee_schedule', '');
SELECT pg_catalog.pg_extension_config_dump('payment.counted_volume', '');
SELECT pg_catalog.pg_extension_config_dump('payment.seller_volume', '');
SELECT pg_catalog.pg_extension_config_dump('payment.routing_rule', '');
SELECT pg_catalog.pg_extension_config_dump('payment.idempotency', '');
SELECT pg_catalog.pg_extension_config_dump('payment.payment_record_default', '');
SELECT pg_catalog.pg_extension_config_dump('payment.order_record_default', '');
SELECT pg_catalog.pg_extension_config_dump('payment.refund_record_default', '');
SELECT pg_catalog.pg_extension_config_dump('payment.dispute_record_default', '');
SELECT pg_catalog.pg_extension_config_dump('payment.dispute_response_record', '');
SELECT pg_catalog.pg_extension_config_dump('payment.payout_record_default', '');
SELECT pg_catalog.pg_extension_config_dump('payment.psp_reference', '');
SELECT pg_catalog.pg_extension_config_dump('payment.partial_failure', '');
SELECT pg_catalog.pg_extension_config_dump('payment.status_history_default', '');
SELECT pg_catalog.pg_extension_config_dump('payment.task', '');
SELECT pg_catalog.pg_extension_config_dump('payment.circuit_breaker', '');
SELECT pg_catalog.pg_extension_config_dump('payment.attempt_default', '');
SELECT pg_catalog.pg_extension_config_dump('payment.event_default', '');
SELECT pg_catalog.pg_extension_config_dump('payment.event_consumer', '');
SELECT pg_catalog.pg_extension_config_dump('payment.webhook_endpoint', '');
SELECT pg_catalog.pg_extension_config_dump('payment.event_delivery', '');
SELECT pg_catalog.pg_extension_config_dump('payment.settlement_file', '');
SELECT pg_catalog.pg_extension_config_dump('payment.settlement_line_default', '');
SELECT pg_catalog.pg_extension_config_dump('payment.settlement_reference', '');
SELECT pg_catalog.pg_extension_config_dump('payment.unsettled_order', '');
SELECT pg_catalog.pg_extension_config_dump('payment.exception_record', '');
SELECT pg_catalog.pg_extension_config_dump('payment.reconciliation_run', '');
SELECT pg_catalog.pg_extension_config_dump('payment.webhook_event_default', '');
SELECT pg_catalog.pg_extension_config_dump('payment.webhook_key', '');
SELECT pg_catalog.pg_extension_config_dump('payment.webhook_waiting', '');
SELECT pg_catalog.pg_extension_config_dump('payment.webhook_unverified', '');
SELECT pg_catalog.pg_extension_config_dump('payment.webhook_rejection', '');

-- ---------------------------------------------------------------------------
-- Nothing for PUBLIC
-- ---------------------------------------------------------------------------

REVOKE ALL ON ALL TABLES IN SCHEMA payment FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA payment FROM PUBLIC;
