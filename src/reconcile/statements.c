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
 * the PSP.
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
 * ranked		of several lines that claim one order the first takes it
 * judged		the most serious difference, or NULL: a line opens one exception
 *
 * No CTE is ever joined with another one.
 */
const char judge_lines_sql[] =
	"WITH candidate AS (\n"
	"    SELECT id, file_id, psp_reference, claimed_order_id, currency, gross, fee,\n"
	"        category, repeated, false AS again\n"
	"    FROM payment.settlement_line\n"
	"    WHERE psp_id = $1 AND match = 'pending'\n"
	"  UNION ALL\n"
	"    SELECT l.id, l.file_id, l.psp_reference, l.claimed_order_id, l.currency,\n"
	"        l.gross, l.fee, l.category, l.repeated, true\n"
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
	"        payment.expected_psp_fee(s.fees, f.currency, f.gross) AS expected_fee\n"
	"    FROM payment.psp s, found f WHERE s.id = $1\n"
	"), judged AS (\n"
	"    SELECT r.*, CASE\n"
	"        WHEN category = 'refund_failure' AND refund_id IS NOT NULL\n"
	"            AND order_status = 'failed' AND gross = -captured_amount\n"
	"            AND currency = order_currency AND NOT repeated THEN NULL\n"
	"        WHEN category <> 'charge' AND (category <> 'refund'\n"
	"            OR refund_id IS NULL) THEN 'orphan_refund'\n"
	"        WHEN repeated THEN 'duplicate'\n"
	"        WHEN refund_id IS NOT NULL THEN CASE\n"
	"            WHEN NOT settles THEN 'duplicate'\n"
	"            WHEN currency <> order_currency THEN 'currency'\n"
	"            WHEN gross <> captured_amount THEN 'amount'\n"
	"            WHEN order_status = 'cancelled' THEN 'status' END\n"
	"        WHEN order_currency IS NULL THEN 'missing_internal'\n"
	"        WHEN captured_at IS NULL THEN 'status'\n"
	"        WHEN NOT takes THEN 'duplicate'\n"
	"        WHEN currency <> order_currency THEN 'currency'\n"
	"        WHEN gross <> captured_amount THEN 'amount'\n"
	"        WHEN abs(fee::numeric - expected_fee) > fee_tolerance THEN 'fee'\n"
	"        END AS verdict\n"
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
	"), refunded AS (\n"
	"    UPDATE payment.refund_record f SET settled_at = now()\n"
	"    FROM written w WHERE w.settles AND f.id = w.refund_id\n"
	"), opened AS (\n"
	"    INSERT INTO payment.exception_record (id, type, psp_id, order_id, line_id,\n"
	"        file_id, currency, expected_amount, actual_amount, detail, status,\n"
	"        opened_at)\n"
	"    SELECT payment.new_id(), verdict, $1, order_id, id, file_id, currency,\n"
	"        CASE WHEN verdict IN ('amount', 'currency') THEN captured_amount\n"
	"            WHEN verdict = 'fee' THEN expected_fee ELSE 0 END,\n"
	"        CASE verdict WHEN 'fee' THEN fee ELSE gross END,\n"
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
	"        WHEN 'currency' THEN format('settled in %s, captured in %s', currency,\n"
	"            order_currency)\n"
	"        WHEN 'amount' THEN format('settled are %s %s, %s were %s',\n"
	"            payment.format_money(gross, currency), currency,\n"
	"            CASE WHEN refund_id IS NULL THEN 'captured' ELSE 'refunded' END,\n"
	"            payment.format_money(captured_amount, currency))\n"
	"        WHEN 'fee' THEN format('the PSP took %s %s, agreed are %s',\n"
	"            payment.format_money(fee, currency), currency,\n"
	"            payment.format_money(expected_fee, currency))\n"
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
	"        FROM (SELECT file_id FROM written GROUP BY file_id) f)\n"
	"FROM written";

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
