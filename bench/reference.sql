-- What the ledger is compared with, beside its accounts.

-- bare: the ledger's rows in tables of the same columns, storage and indexes,
-- without partitions and without any rule.
CREATE SCHEMA bare;

CREATE TABLE bare.journal (
    id uuid NOT NULL PRIMARY KEY,
    kind text NOT NULL,
    subject uuid,
    reverses uuid,
    effective_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    description text
);
CREATE TABLE bare.entry (
    journal_id uuid NOT NULL,
    leg smallint NOT NULL,
    account_id uuid NOT NULL,
    amount bigint NOT NULL,
    PRIMARY KEY (journal_id, leg)
);

-- kept: the same, and one balance row for each account, updated along.
CREATE TABLE bare.balance (
    account_id uuid NOT NULL PRIMARY KEY,
    balance bigint NOT NULL
) WITH (fillfactor = 50);
INSERT INTO bare.balance SELECT id, 0 FROM payment.account;

-- The indexes that are no keys: as the ledger's partitions have them now.
DO $$
DECLARE
    part regclass;
    index_definition text;
    parent text;
BEGIN
    FOREACH parent IN ARRAY ARRAY['journal', 'entry'] LOOP
        part := format('payment.%s_default', parent)::regclass;
        FOR index_definition IN
            SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = part AND NOT indisprimary
        LOOP
            EXECUTE replace(index_definition, part::text, 'bare.' || parent);
        END LOOP;
    END LOOP;
END
$$;

-- locked: a lean double-entry ledger as they are commonly written.  Both
-- account rows are locked, in ascending order, so that it cannot deadlock.
CREATE SCHEMA locked;

CREATE TABLE locked.account (
    id bigint PRIMARY KEY,
    currency text NOT NULL,
    balance bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
CREATE TABLE locked.transfer (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE locked.entry (
    transfer_id bigint NOT NULL REFERENCES locked.transfer,
    account_id bigint NOT NULL REFERENCES locked.account,
    amount bigint NOT NULL,
    PRIMARY KEY (transfer_id, account_id)
);
CREATE INDEX ON locked.entry (account_id, transfer_id);
INSERT INTO locked.account (id, currency) SELECT n, 'EUR' FROM generate_series(1, :accounts) n;

CREATE FUNCTION locked.transfer(debit bigint, credit bigint, amount bigint) RETURNS bigint
    LANGUAGE plpgsql AS $$
DECLARE
    transfer_id bigint;
    currencies bigint;
BEGIN
    IF amount <= 0 OR debit = credit THEN
        RAISE EXCEPTION 'invalid transfer';
    END IF;
    SELECT count(*) INTO currencies FROM (
        SELECT FROM locked.account WHERE id IN (debit, credit) ORDER BY id FOR NO KEY UPDATE) a;
    IF currencies <> 2 THEN
        RAISE EXCEPTION 'unknown account';
    END IF;
    INSERT INTO locked.transfer (kind) VALUES ('bench') RETURNING id INTO transfer_id;
    INSERT INTO locked.entry (transfer_id, account_id, amount)
    VALUES (transfer_id, debit, amount), (transfer_id, credit, -amount);
    UPDATE locked.account a SET balance = a.balance + CASE WHEN a.id = debit THEN amount ELSE -amount END
    WHERE a.id IN (debit, credit);
    RETURN transfer_id;
END
$$;

-- Each account posted to once, as the ledger's have been.  Plans are made when
-- a session first needs them: made on empty tables, those of the foreign keys
-- read the tables from end to end for as long as the session lasts.
SELECT count(locked.transfer(2 * n - 1, 2 * n, 1)) FROM generate_series(1, :accounts / 2) n;
