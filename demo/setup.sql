-- The platform's side: a PSP, twelve sellers, what the platform earns.
\set ON_ERROR_STOP on

SELECT payment.register_psp(
    name => 'sandbox', adapter => 'stripe', base_url => :'sandbox_url', secret_name => 'sandbox',
    settings => '{"max_in_flight": 48, "requests_per_second": 2000,
                  "connect_timeout_ms": 2000, "timeout_ms": 5000,
                  "backoff_base_ms": 50, "backoff_max_ms": 2000,
                  "lookup_delay_ms": 100, "poll_interval_ms": 500,
                  "fees": {"USD": {"fixed": 30, "basis_points": 290},
                           "EUR": {"fixed": 25, "basis_points": 150},
                           "JPY": {"fixed": 30, "basis_points": 360},
                           "KWD": {"fixed": 100, "basis_points": 290}}}');

SELECT pg_catalog.count(payment.register_seller(pg_catalog.format('seller-%s', n), pg_catalog.format('Seller %s', n)))
FROM pg_catalog.generate_series(1, 12) AS n;

SELECT payment.set_fee_schedule(fixed => 0, basis_points => 1000);
SELECT payment.set_fee_schedule(fixed => 20, basis_points => 800, currency => 'EUR');

GRANT USAGE ON SCHEMA cron TO bookkeeper;
