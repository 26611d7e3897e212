-- What a day left behind, for people to read.
\set ON_ERROR_STOP on
\pset border 2
\pset footer off

\echo
\echo Orders by status
SELECT o.currency, o.status, o.classic_status, pg_catalog.count(*) AS orders,
       payment.format_money(pg_catalog.sum(o.amount)::bigint, o.currency) AS amount
FROM payment.payment_order AS o
GROUP BY o.currency, o.status, o.classic_status
ORDER BY o.currency, o.status;

\echo Wallets
SELECT w.seller, w.currency,
       payment.format_money(w.pending, w.currency) AS pending,
       payment.format_money(w.available, w.currency) AS available,
       payment.format_money(w.in_payout, w.currency) AS in_payout
FROM payment.wallet AS w
ORDER BY w.currency, w.seller
LIMIT 12;

\echo Payouts
SELECT p.currency, p.status, pg_catalog.count(*) AS payouts,
       payment.format_money(pg_catalog.sum(p.amount)::bigint, p.currency) AS amount
FROM payment.payout AS p
GROUP BY p.currency, p.status
ORDER BY p.currency, p.status;

\echo Trial balance
SELECT t.currency, t.code, payment.format_money(t.debit::bigint, t.currency) AS debit,
       payment.format_money(t.credit::bigint, t.currency) AS credit
FROM payment.trial_balance() AS t
ORDER BY t.currency, t.code;

\echo Exceptions
SELECT e.type, e.seller, e.order_reference, e.line_no, e.currency, e.expected, e.actual, e.detail
FROM payment.exception AS e
ORDER BY e.type;
