-- Postings write rows by column number, below the executor: columns that
-- somebody adds, drops or orders otherwise must bend nothing.
-- In a database of its own, as others use the tables meanwhile.
\set here :DBNAME
CREATE DATABASE regression_altered;
\c regression_altered
CREATE EXTENSION payment;

SELECT count(payment.open_account('altered_' || n, 'asset', 'USD')) FROM generate_series(1, 20) n;
CREATE FUNCTION pg_temp.post() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    PERFORM payment.post_journal('few', (SELECT array_agg(id ORDER BY code) FROM payment.account WHERE code IN ('altered_1', 'altered_2')), '{5,-5}');
    -- many rows share a descriptor of their own
    PERFORM payment.post_journal('many', (SELECT array_agg(id ORDER BY id) FROM payment.account),
        (SELECT array_agg(CASE WHEN n % 2 = 0 THEN n ELSE -n - 1 END) FROM generate_series(1, 20) n));
    RETURN 'posted';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN SQLSTATE || ' ' || detail;
END
$$;
SELECT pg_temp.post();

-- columns that are added stay null
ALTER TABLE payment.journal ADD COLUMN note text;
ALTER TABLE payment.entry ADD COLUMN note text;
ALTER TABLE payment.balance_slot ADD COLUMN note text;
SELECT pg_temp.post() FROM generate_series(1, 3);
-- a default partition with columns in another order, and dropped ones
BEGIN;
ALTER TABLE payment.entry DETACH PARTITION payment.entry_default;
ALTER TABLE payment.journal DETACH PARTITION payment.journal_default;
CREATE TABLE payment.entry_odd (note text, gone bigint, amount bigint NOT NULL, leg smallint NOT NULL, account_id uuid NOT NULL, journal_id uuid NOT NULL);
CREATE TABLE payment.journal_odd (description text, recorded_at timestamptz NOT NULL, gone text, subject uuid, effective_at timestamptz NOT NULL,
    reverses uuid, id uuid PRIMARY KEY, kind text NOT NULL, note text);
ALTER TABLE payment.entry_odd DROP COLUMN gone;
ALTER TABLE payment.journal_odd DROP COLUMN gone;
CREATE UNIQUE INDEX ON payment.entry_odd (journal_id, leg);
CREATE INDEX ON payment.entry_odd (account_id, journal_id) WHERE amount > 0;
INSERT INTO payment.entry_odd (note, amount, leg, account_id, journal_id) SELECT note, amount, leg, account_id, journal_id FROM payment.entry_default;
INSERT INTO payment.journal_odd (id, kind, subject, reverses, effective_at, recorded_at, description) SELECT id, kind, subject, reverses, effective_at, recorded_at, description
FROM payment.journal_default;
ALTER TABLE payment.entry ATTACH PARTITION payment.entry_odd DEFAULT;
ALTER TABLE payment.journal ATTACH PARTITION payment.journal_odd DEFAULT;
COMMIT;
SELECT pg_temp.post() FROM generate_series(1, 3);
SELECT kind, count(*), count(j.note) AS notes, min(e.legs) AS legs, max(e.sum) AS sum
FROM payment.journal j JOIN (SELECT journal_id, count(*) AS legs, sum(amount) FROM payment.entry GROUP BY 1) e ON e.journal_id = j.id GROUP BY 1 ORDER BY 1;
SELECT count(*), sum(balance), count(note) AS notes FROM payment.balance_slot;
SELECT balance FROM payment.account a, payment.statement(a.id) WHERE code = 'altered_1' AND line = 'closing';
SELECT * FROM payment.verify();

-- what cannot be made good is refused, and works again when it is undone
ALTER TABLE payment.journal ADD COLUMN wanted integer NOT NULL DEFAULT 1;
SELECT pg_temp.post();
ALTER TABLE payment.journal DROP COLUMN wanted;
SELECT pg_temp.post();
ALTER TABLE payment.balance_slot ALTER COLUMN balance TYPE numeric;
SELECT pg_temp.post();
ALTER TABLE payment.balance_slot ALTER COLUMN balance TYPE bigint;
SELECT pg_temp.post();
ALTER TABLE payment.entry RENAME amount TO minor_units;
SELECT pg_temp.post();
ALTER TABLE payment.entry RENAME minor_units TO amount;
SELECT pg_temp.post();
SELECT * FROM payment.verify();
\c :here
DROP DATABASE regression_altered WITH (FORCE);
