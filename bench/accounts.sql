-- The ledger's accounts of the benchmark: without limits, as accounts that
-- every payment touches have none, and each posted to once, as accounts in use
-- have been.  Variable: accounts, an even number.
SELECT count(payment.open_account('bench_' || lpad(n::text, 7, '0'), 'asset', 'EUR'))
FROM generate_series(1, :accounts) n;

WITH batches AS (
    SELECT (n - 1) / 1000 AS batch, array_agg(id ORDER BY n) AS accounts, count(*)::int AS legs
    FROM (SELECT id, row_number() OVER (ORDER BY code) AS n FROM payment.account) a
    GROUP BY batch
)
SELECT count(payment.post_journals(array_fill('first'::text, ARRAY[legs / 2]),
    ARRAY(SELECT 1 + n / 2 FROM generate_series(0, legs - 1) n), accounts,
    ARRAY(SELECT 1 - n % 2 * 2 FROM generate_series(0, legs - 1) n)::bigint[], return_balances => false))
FROM batches;
