/*-------------------------------------------------------------------------
 *
 * statements.c
 *	  The SQL of a reconciliation run.
 *
 * It runs within payment.reconcile(), whose search_path is pg_catalog.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "reconcile/statements.h"

/* clang-format off */

/*
 * Judge every line that waits, and write what follows from the verdict.  $1 is
 * the PSP, $2 the tolerance between what its answers told of an exchange and
 * what a line tells, in basis points.
 *
 * candidate	lines never judged, and those whose order was not captured then
 *				but is now
 * named		which order a line means: the one that the PSP's reference
 *				stands for, else the one that the line's metadata claims.  When
 *				the claimed order has that very reference both are the same,
 *				and a random read of psp_reference is saved.
 *				Of a refund its own name counts.
 * found		what we know of that order or refund; one that was captured at another PSP
 *				after this one had refused it cannot be settled by this one
 * ranked		of several lines that claim one order the first takes it.  What is
 *				compared is what the payer saw, then what the PSP makes of it:
 *				told_* differ from what its answers said
 * judged		the most serious difference, or NULL: a line opens one exception
 *
 * No CTE is ever joined with another one.
 */
const char judge_lines_sql[] =
	"WITH candidate AS (\n"
	"    SELECT id, file_id, psp_reference, claimed_order_id, currency, gross, fee,\n"
	"        category, repeated, presentment_currency, presentment_amount, false AS again\n"
	"    FROM payment.settlement_line\n"
	"    WHERE psp_id = $1 AND match = 'pending'\n"
	"  UNION ALL\n"
	"    SELECT l.id, l.file_id, l.psp_reference, l.claimed_order_id, l.currency,\n"
	"        l.gross, l.fee, l.category, l.repeated, l.presentment_currency,\n"
	"        l.presentment_amount, true\n"
	"    FROM payment.exception_record e\n"
	"        JOIN payment.unsettled_order u ON u.order_id = e.order_id\n"
	"        JOIN payment.settlement_line l ON l.id = e.line_id\n"
	"    WHERE e.psp_id = $1 AND e.type = 'status' AND e.closed_at IS NULL\n"
	"), named AS MATERIALIZED (\n"
	"    SELECT c.*,\n"
	"        CASE WHEN o.psp_reference = c.psp_reference THEN o.id\n"
	"        ELSE coalesce((\n"
	"            SELECT r.id FROM payment.psp_reference p\n"
	"                JOIN payment.order_record r ON r.id = p.object_id\n"
	"            WHERE p.psp_id = $1 AND p.reference = c.psp_reference), o.id)\n"
	"        END AS order_id,\n"
	"        CASE WHEN c.category IN ('refund', 'refund_failure') THEN (\n"
	"            SELECT f.id FROM payment.psp_reference p\n"
	"                JOIN payment.refund_record f ON f.id = p.object_id\n"
	"            WHERE p.psp_id = $1 AND p.reference = c.psp_reference)\n"
	"        END AS refund_id\n"
	"    FROM candidate c LEFT JOIN payment.order_record o\n"
	"        ON o.id = c.claimed_order_id AND o.psp_id = $1\n"
	"), found AS (\n"
	"    SELECT n.id, n.file_id, n.psp_reference, n.currency, n.gross, n.fee,\n"
	"        n.category, n.repeated, n.again, n.refund_id,\n"
	"        n.presentment_currency IS NOT NULL AS exchanged,\n"
	"        coalesce(n.presentment_currency, n.currency) AS seen_currency,\n"
	"        coalesce(n.presentment_amount, n.gross) AS seen_amount,\n"
	"        coalesce(f.settled_currency, o.settled_currency) AS told_currency,\n"
	"        CASE WHEN n.refund_id IS NOT NULL THEN -f.settled_amount\n"
	"            WHEN o.settled_captured_amount = o.captured_amount THEN o.settled_amount\n"
	"            END AS told_amount,\n"
	"        CASE WHEN n.refund_id IS NULL AND o.settled_currency = n.currency\n"
	"            THEN o.psp_fee END AS told_fee,\n"
	"        coalesce(f.order_id, n.order_id) AS order_id,\n"
	"        coalesce(f.currency, o.currency) AS order_currency,\n"
	"        coalesce(f.status, o.status) AS order_status,\n"
	"        coalesce(-f.amount, o.captured_amount) AS captured_amount,\n"
	"        f.settled_at IS NULL AND n.category = 'refund' AND NOT repeated\n"
	"            AS may_settle,\n"
	"        o.captured_at, coalesce(u.missing, false) AS missing,\n"
	"        o.psp_id <> $1 AS elsewhere,\n"
	"        coalesce(u.psp_id = $1, false) AND category = 'charge' AND NOT repeated\n"
	"            AS may_take\n"
	"    FROM named n\n"
	"        LEFT JOIN payment.order_record o ON o.id = n.order_id\n"
	"        LEFT JOIN payment.unsettled_order u ON u.order_id = n.order_id\n"
	"        LEFT JOIN payment.refund_record f ON f.id = n.refund_id\n"
	"), ranked AS (\n"
	"    SELECT f.*, s.fee_tolerance,\n"
	"        may_take AND row_number()\n"
	"            OVER (PARTITION BY order_id, may_take ORDER BY f.id) = 1 AS takes,\n"
	"        refund_id IS NOT NULL AND may_settle AND row_number()\n"
	"            OVER (PARTITION BY refund_id, may_settle ORDER BY f.id) = 1\n"
	"            AS settles,\n"
	"        payment.expected_psp_fee(s.fees, f.currency, f.gross) AS agreed_fee,\n"
	"        told_currency <> currency AS other_told_currency,\n"
	"        exchanged AND abs(gross::numeric - told_amount) * 10000\n"
	"            > greatest(abs(told_amount::numeric) * $2, 10000) AS other_told_amount\n"
	"    FROM payment.psp s, found f WHERE s.id = $1\n"
	"), judged AS (\n"
	"    SELECT r.*, CASE\n"
	"        WHEN category = 'refund_failure' AND refund_id IS NOT NULL\n"
	"            AND order_status = 'failed' AND seen_amount = -captured_amount\n"
	"            AND seen_currency = order_currency AND NOT repeated THEN NULL\n"
	"        WHEN category <> 'charge' AND (category <> 'refund'\n"
	"            OR refund_id IS NULL) THEN 'orphan_refund'\n"
	"        WHEN repeated THEN 'duplicate'\n"
	"        WHEN refund_id IS NOT NULL THEN CASE\n"
	"            WHEN NOT settles THEN 'duplicate'\n"
	"            WHEN seen_currency <> order_currency OR other_told_currency\n"
	"                THEN 'currency'\n"
	"            WHEN seen_amount <> captured_amount OR other_told_amount THEN 'amount'\n"
	"            WHEN order_status = 'cancelled' THEN 'status' END\n"
	"        WHEN order_currency IS NULL THEN 'missing_internal'\n"
	"        WHEN captured_at IS NULL THEN 'status'\n"
	"        WHEN NOT takes THEN 'duplicate'\n"
	"        WHEN seen_currency <> order_currency OR other_told_currency THEN 'currency'\n"
	"        WHEN seen_amount <> captured_amount OR other_told_amount THEN 'amount'\n"
	"        WHEN abs(fee::numeric - coalesce(agreed_fee, told_fee)) > fee_tolerance\n"
	"            THEN 'fee'\n"
	"        END AS verdict,\n"
	"        CASE WHEN seen_currency = order_currency THEN CASE\n"
	"            WHEN other_told_currency THEN told_currency\n"
	"            WHEN seen_amount = captured_amount THEN currency END\n"
	"            END AS told\n"
	"    FROM ranked r ORDER BY id\n"
	"), written AS (\n"
	"    UPDATE payment.settlement_line l\n"
	"    SET order_id = j.order_id,\n"
	"        match = CASE WHEN verdict IS NULL THEN 'matched' ELSE 'exception' END\n"
	"    FROM judged j WHERE l.id = j.id\n"
	"    RETURNING j.*\n"
	"), settled AS (\n"
	"    DELETE FROM payment.unsettled_order u USING written w\n"
	"    WHERE w.takes AND u.order_id = w.order_id\n"
	"    RETURNING u.settled_currency, u.psp_fee\n"
	"), fees AS (\n"
	"    SELECT settled_currency, sum(psp_fee)::bigint AS psp_fee FROM settled\n"
	"    WHERE psp_fee > 0 GROUP BY settled_currency\n"
	"), refunded AS (\n"
	"    UPDATE payment.refund_record f SET settled_at = now()\n"
	"    FROM written w WHERE w.settles AND f.id = w.refund_id\n"
	"), opened AS (\n"
	"    INSERT INTO payment.exception_record (id, type, psp_id, order_id, line_id,\n"
	"        file_id, currency, expected_amount, actual_amount, detail, status,\n"
	"        opened_at)\n"
	"    SELECT payment.new_id(), verdict, $1, order_id, id, file_id,\n"
	"        CASE WHEN verdict IN ('amount', 'currency') AND told IS NULL\n"
	"            THEN seen_currency ELSE currency END,\n"
	"        CASE WHEN verdict IN ('amount', 'currency') THEN\n"
	"                CASE WHEN told IS NULL THEN captured_amount ELSE told_amount END\n"
	"            WHEN verdict = 'fee' THEN coalesce(agreed_fee, told_fee) ELSE 0 END,\n"
	"        CASE WHEN verdict = 'fee' THEN fee\n"
	"            WHEN verdict IN ('amount', 'currency') AND told IS NULL THEN seen_amount\n"
	"            ELSE gross END,\n"
	"        CASE verdict\n"
	"        WHEN 'orphan_refund' THEN 'the PSP refunded what no refund of ours asked for'\n"
	"        WHEN 'duplicate' THEN CASE WHEN repeated\n"
	"            THEN 'the PSP has reported this very line before'\n"
	"            WHEN elsewhere THEN 'the order was captured at another PSP'\n"
	"            WHEN refund_id IS NOT NULL THEN 'another line has settled this refund'\n"
	"            ELSE 'another line has settled this order' END\n"
	"        WHEN 'missing_internal' THEN 'no order of ours stands for this payment'\n"
	"        WHEN 'status' THEN format('the %s is settled, but %s here',\n"
	"            CASE WHEN refund_id IS NULL THEN 'order' ELSE 'refund' END, order_status)\n"
	"        WHEN 'currency' THEN CASE WHEN told IS NULL\n"
	"            THEN format('settled in %s, captured in %s', seen_currency, order_currency)\n"
	"            ELSE format('settled in %s, the PSP had told %s', currency, told) END\n"
	"        WHEN 'amount' THEN CASE WHEN told IS NULL\n"
	"            THEN format('settled are %s %s, %s were %s',\n"
	"                payment.format_money(seen_amount, seen_currency), seen_currency,\n"
	"                CASE WHEN refund_id IS NULL THEN 'captured' ELSE 'refunded' END,\n"
	"                payment.format_money(captured_amount, seen_currency))\n"
	"            ELSE format('settled are %s %s, the PSP had told %s',\n"
	"                payment.format_money(gross, currency), currency,\n"
	"                payment.format_money(told_amount, currency)) END\n"
	"        WHEN 'fee' THEN format('the PSP took %s %s, %s %s',\n"
	"            payment.format_money(fee, currency), currency,\n"
	"            CASE WHEN agreed_fee IS NULL THEN 'had told' ELSE 'agreed are' END,\n"
	"            payment.format_money(coalesce(agreed_fee, told_fee), currency))\n"
	"        END,\n"
	"        'open', now()\n"
	"    FROM written WHERE verdict IS NOT NULL\n"
	"    ON CONFLICT (type, order_id, line_id, psp_id) DO NOTHING\n"
	"    RETURNING 1\n"
	"), closed AS (\n"
	"    UPDATE payment.exception_record e\n"
	"    SET status = 'auto_resolved', closed_at = now()\n"
	"    FROM written w\n"
	"    WHERE (w.again OR w.takes AND w.missing)\n"
	"        AND e.type = CASE WHEN w.again THEN 'status' ELSE 'missing_external' END\n"
	"        AND e.order_id = w.order_id\n"
	"        AND e.line_id IS NOT DISTINCT FROM CASE WHEN w.again THEN w.id END\n"
	"        AND e.status IN ('open', 'reopened')\n"
	"    RETURNING 1\n"
	")\n"
	"SELECT count(*) FILTER (WHERE verdict IS NULL),\n"
	"    count(*) FILTER (WHERE verdict IS NOT NULL),\n"
	"    (SELECT count(*) FROM opened),\n"
	"    (SELECT count(*) FROM closed),\n"
	"    (SELECT coalesce(array_agg(file_id), '{}')\n"
	"        FROM (SELECT file_id FROM written GROUP BY file_id) f),\n"
	"    array_agg(id ORDER BY order_id, id) FILTER (WHERE exchanged AND takes\n"
	"        AND coalesce(verdict, 'fee') = 'fee' AND told_amount IS DISTINCT FROM gross\n"
	"        AND order_status <> 'reversed'),\n"
	"    array_agg(id ORDER BY order_id, id) FILTER (WHERE exchanged AND verdict IS NULL\n"
	"        AND refund_id IS NOT NULL),\n"
	"    (SELECT array_agg(settled_currency ORDER BY settled_currency) FROM fees),\n"
	"    (SELECT array_agg(psp_fee ORDER BY settled_currency) FROM fees)\n"
	"FROM written";

/*
 * Evidence locks orders before refunds and what is unsettled: so does a run, of
 * those orders whose exchanges lines will tell.  $1 is the PSP.
 */
const char lock_exchanged_sql[] =
	"WITH exchanged AS MATERIALIZED (\n"
	"    SELECT psp_reference, claimed_order_id FROM payment.settlement_line\n"
	"    WHERE psp_id = $1 AND match = 'pending' AND presentment_currency IS NOT NULL\n"
	"), named AS (\n"
	"    SELECT claimed_order_id AS id FROM exchanged\n"
	"  UNION\n"
	"    SELECT coalesce(f.order_id, p.object_id)\n"
	"    FROM exchanged e JOIN payment.psp_reference p\n"
	"            ON p.psp_id = $1 AND p.reference = e.psp_reference\n"
	"        LEFT JOIN payment.refund_record f ON f.id = p.object_id\n"
	")\n"
	"SELECT FROM named n JOIN payment.order_record o ON o.id = n.id\n"
	"ORDER BY o.id FOR NO KEY UPDATE OF o";

/* charges in another currency: $1 lines */
const char exchanged_charges_sql[] =
	"SELECT l.currency, l.gross, o.id, o.currency, o.captured_amount,\n"
	"    o.settled_captured_amount, o.settled_amount, o.exchanged_amount,\n"
	"    o.exchanged_for\n"
	"FROM unnest($1) u (id) JOIN payment.settlement_line l ON l.id = u.id\n"
	"    JOIN payment.order_record o ON o.id = l.order_id\n"
	"ORDER BY o.id FOR NO KEY UPDATE OF o";

/* refunds, and their failures: $1 lines, $2 the PSP */
const char exchanged_refunds_sql[] =
	"SELECT l.currency, l.gross, o.id, o.currency, f.id, f.amount, f.settled_amount,\n"
	"    f.exchanged_for, f.status IN ('failed', 'cancelled'),\n"
	"    l.category = 'refund_failure', o.exchanged_amount, o.exchanged_for\n"
	"FROM unnest($1) u (id) JOIN payment.settlement_line l ON l.id = u.id\n"
	"    JOIN payment.psp_reference p\n"
	"        ON p.psp_id = $2 AND p.reference = l.psp_reference\n"
	"    JOIN payment.refund_record f ON f.id = p.object_id\n"
	"    JOIN payment.order_record o ON o.id = f.order_id\n"
	"ORDER BY o.id, f.id, l.id FOR NO KEY UPDATE OF o";

const char update_exchanged_orders_sql[] =
	"UPDATE payment.order_record o\n"
	"SET settled_currency = u.currency,\n"
	"    settled_captured_amount = coalesce(u.captured, o.settled_captured_amount),\n"
	"    settled_amount = coalesce(u.settled, o.settled_amount),\n"
	"    exchanged_amount = u.exchanged, exchanged_for = u.exchanged_for\n"
	"FROM unnest($1, $2, $3, $4, $5, $6)\n"
	"    AS u (id, currency, captured, settled, exchanged, exchanged_for)\n"
	"WHERE o.id = u.id";

const char update_exchanged_refunds_sql[] =
	"UPDATE payment.refund_record f\n"
	"SET settled_currency = u.currency, settled_amount = u.settled,\n"
	"    exchanged_for = u.exchanged_for\n"
	"FROM unnest($1, $2, $3, $4) AS u (id, currency, settled, exchanged_for)\n"
	"WHERE f.id = u.id";

/*
 * Fees that answers told of orders that charges settle, summed up and let go
 * of: $1 the PSP, $2 references, $3 claimed orders.  What is locked is being
 * told or reconciled just now: that run takes it.
 */
const char forget_fees_sql[] =
	"WITH named AS (\n"
	"    SELECT DISTINCT coalesce((SELECT p.object_id FROM payment.psp_reference p\n"
	"        WHERE p.psp_id = $1 AND p.reference = u.reference), u.claimed) AS order_id\n"
	"    FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3))\n"
	"        AS u (reference, claimed)\n"
	"), told AS (\n"
	"    SELECT u.order_id, u.settled_currency, u.psp_fee\n"
	"    FROM named n JOIN payment.unsettled_order u ON u.order_id = n.order_id\n"
	"    WHERE u.psp_id = $1 AND u.psp_fee > 0 FOR UPDATE OF u SKIP LOCKED\n"
	"), forgotten AS (\n"
	"    UPDATE payment.unsettled_order u SET settled_currency = NULL, psp_fee = NULL\n"
	"    FROM told t WHERE u.order_id = t.order_id\n"
	")\n"
	"SELECT settled_currency, sum(psp_fee)::bigint FROM told\n"
	"GROUP BY settled_currency ORDER BY settled_currency";

/* open exceptions for what should be settled: $1 the PSP, $2 through when */
const char find_missing_sql[] =
	"WITH late AS (\n"
	"    UPDATE payment.unsettled_order SET missing = true\n"
	"    WHERE psp_id = $1 AND captured_at <= $2 AND NOT missing\n"
	"    RETURNING order_id\n"
	"), opened AS (\n"
	"    INSERT INTO payment.exception_record (id, type, psp_id, order_id,\n"
	"        currency, expected_amount, actual_amount, detail, status, opened_at)\n"
	"    SELECT payment.new_id(), 'missing_external', $1, o.id, o.currency,\n"
	"        o.captured_amount, 0, 'captured, but in no settlement file yet', 'open',\n"
	"        now()\n"
	"    FROM late JOIN payment.order_record o ON o.id = late.order_id\n"
	"    ON CONFLICT (type, order_id, line_id, psp_id) DO NOTHING\n"
	"    RETURNING 1\n"
	")\n"
	"SELECT count(*) FROM opened";

/* a file's status follows its lines: $1 the PSP, $2 files whose lines changed */
const char set_file_status_sql[] =
	"UPDATE payment.settlement_file f SET status = c.status\n"
	"FROM (\n"
	"    SELECT t.id, (\n"
	"        SELECT CASE WHEN count(*) FILTER (WHERE match = 'exception') = 0\n"
	"                THEN 'matched'\n"
	"            WHEN count(*) FILTER (WHERE match = 'matched') = 0\n"
	"                THEN 'unmatched'\n"
	"            ELSE 'partially_matched' END\n"
	"        FROM payment.settlement_line l WHERE l.file_id = t.id) AS status\n"
	"    FROM payment.settlement_file t\n"
	"    WHERE t.psp_id = $1 AND (t.id = ANY ($2) OR t.status = 'parsed')) c\n"
	"WHERE f.id = c.id AND f.status <> c.status\n"
	"    AND f.status IN ('parsed', 'unmatched', 'partially_matched')";

/* receipts of unknown cause that this run found: $1 the PSP, $2 after which id */
const char find_unidentified_sql[] =
	"SELECT id, line_id, currency, actual_amount\n"
	"FROM payment.exception_record\n"
	"WHERE psp_id = $1 AND id > $2 AND type = 'missing_internal'\n"
	"ORDER BY id LIMIT 1000";

/* the run itself */
const char insert_run_sql[] =
	"INSERT INTO payment.reconciliation_run (id, psp_id, through, started_at,\n"
	"    finished_at, lines_matched, lines_excepted, exceptions_opened,\n"
	"    exceptions_closed)\n"
	"VALUES ($1, $2, $3, $4, clock_timestamp(), $5, $6, $7, $8)";

/* clang-format on */
