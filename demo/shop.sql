-- The application's side of the demo: a marketplace with its own schema, that
-- talks to the payment backend through a role of its own.
\set ON_ERROR_STOP on

CREATE ROLE shop LOGIN IN ROLE payment_app;
CREATE ROLE bookkeeper LOGIN IN ROLE payment_finance, payment_auditor;

CREATE SCHEMA shop AUTHORIZATION shop;
SET ROLE shop;

CREATE TABLE shop.purchase (
    number integer PRIMARY KEY,
    payment_id uuid NOT NULL
);

-- Draws the carts: the same number always gives the same cart.
CREATE FUNCTION shop.draw(number integer, salt text, below integer) RETURNS integer
LANGUAGE sql IMMUTABLE
RETURN (pg_catalog.hashtextextended(number || salt, 42) & 2147483647) % below;

CREATE FUNCTION shop.cart(number integer) RETURNS jsonb
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT jsonb_agg(jsonb_build_object(
               'seller', format('seller-%s', 1 + shop.draw(number, 'seller' || item, 12)),
               'amount', CASE currency WHEN 'JPY' THEN 100 ELSE 1000 END + shop.draw(number, 'amount' || item, 40000),
               'currency', currency,
               'reference', format('purchase %s, item %s', number, item)))
    FROM (SELECT ('{USD,USD,EUR,EUR,JPY,KWD}'::text[])[1 + shop.draw(number, 'currency', 6)] AS currency) AS c,
         generate_series(1, 1 + shop.draw(number, 'items', 4)) AS item;
END;

-- One customer in twelve holds a card that the bank declines.
CREATE FUNCTION shop.card(number integer) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE shop.draw(number, 'card', 36)
           WHEN 0 THEN 'pm_card_chargeDeclined'
           WHEN 1 THEN 'pm_card_chargeDeclinedInsufficientFunds'
           WHEN 2 THEN 'pm_card_chargeDeclinedExpiredCard'
           WHEN 3 THEN 'pm_sandbox_processing'
           WHEN 4 THEN 'pm_card_mastercard'
           ELSE 'pm_card_visa'
       END;

-- The whole integration: the purchase and its payment commit together.
CREATE FUNCTION shop.buy(first integer, last integer) RETURNS void
LANGUAGE sql
BEGIN ATOMIC
    INSERT INTO shop.purchase (number, payment_id)
    SELECT number, (payment.checkout(
               idempotency_key => format('purchase-%s', number),
               payer => format('customer-%s', 1 + number % 500),
               orders => shop.cart(number),
               payment_method => shop.card(number))).payment_id
    FROM generate_series(first, last) AS number;
END;
