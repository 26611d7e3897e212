-- What the tests of payments and payouts share.  Every file has a PSP of its
-- own, of which no worker takes tasks, and names orders by their reference.

-- SQLSTATE, message and detail; ids are hidden
CREATE FUNCTION pg_temp.error_of(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    EXECUTE command;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN SQLSTATE || ' ' || regexp_replace(SQLERRM || coalesce(' / ' || nullif(detail, ''), ''),
        '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}', '<id>', 'g');
END
$$;

CREATE FUNCTION pg_temp.psp() RETURNS uuid LANGUAGE sql STABLE
    AS $$ SELECT id FROM payment.psp WHERE name = current_setting('test.psp') $$;

-- an order of a payment, or a payout, by its name
CREATE FUNCTION pg_temp.object(name text) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT id FROM payment.order_record WHERE reference = name AND psp_id = pg_temp.psp()
    UNION ALL
    SELECT id FROM payment.payout_record WHERE destination = name AND psp_id = pg_temp.psp()
$$;

-- one order of a seller, named as its key
CREATE FUNCTION pg_temp.buy(name text, seller text, amount text, currency text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM payment.checkout(current_setting('test.psp') || ' ' || name, 'payer', jsonb_build_array(jsonb_build_object(
        'seller', seller, 'amount', amount, 'currency', currency, 'reference', name)),
        psp => current_setting('test.psp'), payment_method => 'pm_card_visa');
END
$$;

-- send all that is due, with one outcome for everything
CREATE FUNCTION pg_temp.send(outcome text) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    outcomes payment.attempt_outcome[];
BEGIN
    SELECT array_agg(ROW(c.attempt_id, outcome, 200, 25, 'ref_' || c.object_id, c.amount, c.currency, NULL, NULL,
            NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome)
        INTO outcomes FROM payment.claim_tasks(pg_temp.psp(), 10000, 60000) AS c;
    RETURN payment.record_outcomes(outcomes);
END
$$;

CREATE FUNCTION pg_temp.history(thing uuid) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(coalesce(h.from_status, '') || ' -> ' || h.to_status || ' (' || h.cause || ')', E'\n' ORDER BY h.id)
    FROM payment.status_history AS h WHERE h.object_id = thing
$$;

CREATE FUNCTION pg_temp.wallet(seller text) RETURNS TABLE (
    currency text, pending bigint, available bigint, held bigint, in_payout bigint, owed bigint) LANGUAGE sql AS $$
    SELECT w.currency, w.pending, w.available, w.held, w.in_payout, w.owed
    FROM payment.wallet AS w WHERE w.seller = wallet.seller ORDER BY w.currency
$$;
