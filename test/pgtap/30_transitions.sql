-- The table of state machines: what it must and must never allow.
\set ON_ERROR_STOP on
BEGIN;
SELECT no_plan();

CREATE TEMP TABLE step AS
    SELECT object, from_status, to_status, unnest(causes) AS cause FROM payment.transitions();

SELECT set_eq('SELECT DISTINCT object FROM step',
    ARRAY['payment', 'payment_order', 'refund', 'payout', 'dispute', 'dispute_response', 'settlement_file', 'exception'], 'the objects');
SELECT set_eq('SELECT DISTINCT cause FROM step',
    ARRAY['api', 'claim', 'response', 'lookup', 'webhook', 'settlement', 'lease', 'policy', 'decision', 'operator'], 'the causes');
SELECT is_empty('SELECT object, from_status, to_status FROM payment.transitions() GROUP BY 1, 2, 3 HAVING count(*) > 1',
    'each step is there once');
SELECT is_empty('SELECT * FROM step WHERE from_status = to_status', 'no step stays where it is');
SELECT is_empty('SELECT * FROM payment.transitions() WHERE to_status IS NULL OR cardinality(causes) = 0',
    'no step leads nowhere or has no cause');

-- nothing is out of reach
SELECT is_empty($$
    WITH RECURSIVE reached (object, status) AS (
        SELECT object, to_status FROM step WHERE from_status IS NULL
        UNION SELECT s.object, s.to_status FROM step s JOIN reached r ON r.object = s.object AND r.status = s.from_status)
    SELECT object, to_status FROM step EXCEPT SELECT object, status FROM reached
    $$, 'every status is reachable from the beginning');
SELECT is_empty('SELECT object, from_status FROM step WHERE from_status IS NOT NULL EXCEPT SELECT object, to_status FROM step',
    'no step begins at a status that nothing leads to');

-- where it begins and where it ends, exactly
SELECT set_eq('SELECT DISTINCT object, to_status FROM step WHERE from_status IS NULL', $$
    VALUES ('payment', 'created'), ('payment_order', 'created'), ('refund', 'created'), ('payout', 'created'),
        ('dispute_response', 'created'), ('dispute', 'inquiry/open'), ('dispute', 'chargeback/open'), ('dispute', 'pre_arbitration/open'),
        ('dispute', 'arbitration/open'), ('settlement_file', 'received'), ('exception', 'open')
    $$, 'how objects begin');
SELECT set_eq('SELECT object, to_status FROM step EXCEPT SELECT object, from_status FROM step', $$
    VALUES ('payment', 'succeeded'), ('payment_order', 'reversed'),
        ('payout', 'returned'), ('payout', 'failed'), ('payout', 'cancelled'), ('payout', 'rejected'),
        ('dispute', 'arbitration/withdrawn'), ('dispute_response', 'succeeded'), ('dispute_response', 'failed'),
        ('settlement_file', 'reconciled'), ('settlement_file', 'rejected'), ('settlement_file', 'superseded')
    $$, 'where nothing leads any further');

-- ends that may be left: by evidence only, or by people who see a reason
SELECT set_eq($$
    SELECT object, from_status, to_status FROM step
    WHERE (object, from_status) IN (('payment_order', 'captured'), ('payment_order', 'failed'), ('payment_order', 'expired'),
        ('payment_order', 'cancelled'), ('refund', 'succeeded'), ('refund', 'failed'), ('refund', 'cancelled'), ('payout', 'paid'))
    $$, $$
    VALUES ('payment_order', 'captured', 'reversed'),
        ('payment_order', 'failed', 'captured'), ('payment_order', 'failed', 'conflicted'),
        ('payment_order', 'expired', 'captured'), ('payment_order', 'expired', 'conflicted'),
        ('payment_order', 'cancelled', 'captured'), ('payment_order', 'cancelled', 'conflicted'),
        ('refund', 'succeeded', 'failed'), ('refund', 'failed', 'succeeded'), ('refund', 'cancelled', 'succeeded'),
        ('payout', 'paid', 'returned')
    $$, 'ways out of an end');
SELECT is_empty($$
    SELECT * FROM step
    WHERE (object, from_status) IN (('payment_order', 'captured'), ('payment_order', 'failed'), ('payment_order', 'expired'),
        ('payment_order', 'cancelled'), ('refund', 'succeeded'), ('refund', 'failed'), ('refund', 'cancelled'), ('payout', 'paid'))
        AND cause NOT IN ('response', 'lookup', 'webhook', 'settlement', 'decision')
    $$, 'nobody but the PSP and people with a decision leave an end');

-- the rules about not knowing
SELECT is_empty($$
    SELECT * FROM step WHERE from_status = 'unknown'
        AND cause NOT IN ('response', 'lookup', 'webhook', 'settlement', 'decision')
    $$, 'unknown ends by evidence or an approved decision, never by a timer, a caller or a claim');
SELECT is_empty($$
    SELECT * FROM step WHERE from_status = 'unknown' AND to_status IN ('executing', 'registering', 'capturing', 'voiding', 'submitting')
        AND cause <> 'lookup'
    $$, 'and is sent again only after the PSP was asked');
SELECT is_empty($$SELECT * FROM step WHERE cause IN ('lease', 'operator') AND to_status <> 'unknown'$$,
    'a lost claim, or a hand on the row, leads to not knowing and nowhere else');
SELECT is_empty($$
    SELECT * FROM step
    WHERE (object, to_status) IN (('payment_order', 'captured'), ('payment_order', 'partially_captured'),
        ('payment_order', 'authorized'), ('payment_order', 'reversed'), ('refund', 'succeeded'), ('payout', 'in_transit'),
        ('payout', 'paid'), ('payout', 'returned'), ('payment', 'succeeded'))
        AND cause NOT IN ('response', 'lookup', 'webhook', 'settlement', 'decision')
        -- what is left of an authorisation expires: nothing moves
        AND NOT (cause = 'policy' AND from_status IN ('partially_captured', 'processing'))
    $$, 'money moves because the PSP says so, or people decide');
SELECT is_empty($$
    SELECT * FROM step WHERE object = 'dispute' AND (from_status ~ '/(won|lost|withdrawn)$' OR to_status ~ '/(won|withdrawn)$'
        OR to_status LIKE '%/open') AND cause NOT IN ('response', 'lookup', 'webhook', 'settlement')
    $$, 'disputes begin, come back and give money back because the PSP says so');
SELECT is_empty($$SELECT * FROM step WHERE from_status = 'conflicted' AND cause <> 'decision'$$, 'a conflict is for people');
SELECT is_empty($$
    SELECT * FROM step
    WHERE (to_status = 'cancelled' AND from_status NOT IN ('created', 'awaiting_customer', 'requires_action', 'pending_approval',
            'approved', 'scheduled', 'pending'))
        OR (object = 'refund' AND from_status = 'pending' AND to_status = 'cancelled' AND cause IN ('api', 'policy', 'decision'))
    $$, 'what may have been sent is not cancelled');

SELECT * FROM finish();
ROLLBACK;
