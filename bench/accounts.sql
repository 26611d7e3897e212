-- The ledger's accounts of the benchmark: without limits, as accounts that
-- every payment touches have none.  Variable: accounts.
SELECT count(payment.open_account('bench_' || lpad(n::text, 7, '0'), 'asset', 'EUR'))
FROM generate_series(1, :accounts) n;
