/*-------------------------------------------------------------------------
 *
 * verify.c
 *	  Recomputes from the entries what must be true, and tells what is not.
 *
 * Each check is one set-based query, which the planner may sort and hash on
 * disk; rows pass through here in portions, and pg_stat_activity shows which
 * check is running.  All checks read by one snapshot, the latest: a REPEATABLE
 * READ transaction that has posted sees some of its balance slots twice by its
 * own.  Nothing is written, so it works on a
 * standby.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "ledger/posting.h"
#include "order/plan.h"
#include "partition/partition.h"

#define FETCH_ROWS 1000
#define MAX_RESULT_COLUMNS 5

PG_FUNCTION_INFO_V1(payment_verify);
PG_FUNCTION_INFO_V1(payment_trial_balance);

/*
 * One thing that must be true.  The query returns a row for each object for
 * which it is not: object_id uuid, detail text, expected numeric, actual
 * numeric.  To add a check, add a line.
 */
typedef struct VerifyCheck
{
	const char *name;
	const char *query;
} VerifyCheck;

/*
 * Of an order, payout or hold of before what was detached, the journals may be gone,
 * or those that are there may be of an object that is gone.
 */
#define NOT_DETACHED(id)                                            \
	" AND coalesce(" id                                             \
	" >= (SELECT until_id FROM payment.detached_partition "         \
	"WHERE parent IN ('journal', 'order_record', 'refund_record', " \
	"'dispute_record', 'payout_record') "                           \
	"ORDER BY until_id DESC LIMIT 1), true)"

static const VerifyCheck checks[] = {
	{ "zero_sum",
	  "SELECT e.journal_id, 'entries in ' || a.currency || "
	  "' do not sum to zero', 0::numeric, sum(e.amount) "
	  "FROM payment.entry e JOIN payment.account a ON a.id = e.account_id "
	  "GROUP BY e.journal_id, a.currency HAVING sum(e.amount) <> 0" },

	{ "journal_entries",
	  "SELECT j.id, 'journal lacks entries', "
	  "greatest(2, max(e.leg))::numeric, count(e.leg)::numeric "
	  "FROM payment.journal j LEFT JOIN payment.entry e ON e.journal_id = "
	  "j.id "
	  "GROUP BY j.id HAVING count(e.leg) < greatest(2, max(e.leg))" },

	{ "entry_journal",
	  "SELECT e.journal_id, 'entry without journal, leg ' || e.leg, "
	  "1::numeric, 0::numeric FROM payment.entry e WHERE NOT EXISTS "
	  "(SELECT FROM payment.journal j WHERE j.id = e.journal_id)" },

	{ "entry_account",
	  "SELECT e.account_id, 'entry without account, journal ' || "
	  "e.journal_id || ' leg ' || e.leg, 1::numeric, 0::numeric "
	  "FROM payment.entry e WHERE NOT EXISTS "
	  "(SELECT FROM payment.account a WHERE a.id = e.account_id)" },

	{ "entry_amount",
	  "SELECT e.journal_id, 'entry of zero, leg ' || e.leg, NULL::numeric, "
	  "0::numeric FROM payment.entry e WHERE e.amount = 0" },

	{ "balance", "SELECT account_id, 'balance is not the sum of entries', "
				 "coalesce(e.amount, 0), coalesce(s.balance, 0) "
				 "FROM (SELECT account_id, sum(balance) AS balance "
				 "FROM payment.balance_slot GROUP BY account_id) s "
				 "FULL JOIN (SELECT account_id, sum(amount) AS amount FROM "
				 "(SELECT account_id, amount FROM payment.entry UNION ALL "
				 "SELECT account_id, amount FROM payment.detached_balance) a "
				 "GROUP BY account_id) e USING (account_id) "
				 "WHERE coalesce(e.amount, 0) <> coalesce(s.balance, 0)" },

	/* what was detached was whole journals */
	{ "detached_zero_sum",
	  "SELECT d.from_id, 'detached entries in ' || a.currency || "
	  "' do not sum to zero', 0::numeric, sum(d.amount) "
	  "FROM payment.detached_balance d JOIN payment.account a "
	  "ON a.id = d.account_id GROUP BY d.from_id, a.currency "
	  "HAVING sum(d.amount) <> 0" },

	{ "detached_partition",
	  "SELECT DISTINCT d.from_id, 'detached balances without partition', "
	  "1::numeric, 0::numeric FROM payment.detached_balance d WHERE NOT "
	  "EXISTS (SELECT FROM payment.detached_partition p "
	  "WHERE p.parent = 'entry' AND p.from_id = d.from_id)" },

	{ "slot_account",
	  "SELECT s.account_id, 'balance slot without account', 1::numeric, "
	  "0::numeric FROM payment.balance_slot s WHERE NOT EXISTS "
	  "(SELECT FROM payment.account a WHERE a.id = s.account_id)" },

	{ "limit",
	  "SELECT a.id, 'balance of ' || a.code || ' is past its limit', "
	  "greatest(least(s.balance, a.max_balance), a.min_balance)::numeric, "
	  "s.balance FROM payment.account a JOIN (SELECT account_id, "
	  "sum(balance) AS balance FROM payment.balance_slot GROUP BY account_id) "
	  "s ON s.account_id = a.id "
	  "WHERE s.balance < a.min_balance OR s.balance > a.max_balance" },

	/* clocks of standbys are not the primary's: leave out what ends soon */
	{ "hold_limit",
	  "SELECT a.id, 'balance of ' || a.code || ' with holds is past its "
	  "limit', CASE WHEN d.is_debit THEN a.min_balance ELSE a.max_balance "
	  "END::numeric, v.balance FROM payment.account a JOIN (SELECT "
	  "account_id, sum(amount - posted) AS held FROM payment.hold "
	  "WHERE state = 'open' AND (expires_at IS NULL OR expires_at > "
	  "clock_timestamp() + interval '1 minute') GROUP BY account_id) h "
	  "ON h.account_id = a.id LEFT JOIN (SELECT account_id, sum(balance) AS "
	  "balance FROM payment.balance_slot GROUP BY account_id) s "
	  "ON s.account_id = a.id "
	  "CROSS JOIN LATERAL (VALUES (a.kind IN ('asset', 'expense', 'memo'))) "
	  "d(is_debit) CROSS JOIN LATERAL (VALUES (coalesce(s.balance, 0) + "
	  "CASE WHEN d.is_debit THEN -h.held ELSE h.held END)) v(balance) "
	  "WHERE CASE WHEN d.is_debit THEN v.balance < a.min_balance "
	  "ELSE v.balance > a.max_balance END" },

	{ "hold_state",
	  "SELECT h.id, CASE WHEN a.id IS NULL THEN 'hold without account' "
	  "ELSE 'hold is ' || h.state || ' but should not be' END, "
	  "h.amount::numeric, h.posted::numeric "
	  "FROM payment.hold h LEFT JOIN payment.account a ON a.id = "
	  "h.account_id WHERE a.id IS NULL OR h.posted NOT BETWEEN 0 AND "
	  "h.amount OR (h.state = 'open') <> (h.closed_at IS NULL) "
	  "OR (h.state <> 'posted' AND h.posted = h.amount) "
	  "OR (h.state = 'posted' AND h.posted = 0) "
	  "OR (h.state = 'expired' AND (h.expires_at IS NULL OR h.expires_at > "
	  "h.closed_at))" },

	/* its journals took from the account what the hold says */
	{ "hold_posted",
	  "SELECT coalesce(h.id, j.subject), CASE WHEN h.id IS NULL THEN "
	  "'posted of a hold that is missing' ELSE 'posted of the hold' END, "
	  "coalesce(h.posted, 0)::numeric, coalesce(j.amount, 0) "
	  "FROM payment.hold h FULL JOIN (SELECT j.subject, sum(CASE "
	  "WHEN h.id IS NULL THEN greatest(e.amount, 0) "
	  "WHEN h.account_id <> e.account_id THEN 0 "
	  "WHEN a.kind IN ('asset', 'expense', 'memo') THEN -e.amount "
	  "ELSE e.amount END) AS amount "
	  "FROM payment.journal j JOIN payment.entry e ON e.journal_id = j.id "
	  "JOIN payment.account a ON a.id = e.account_id "
	  "LEFT JOIN payment.hold h ON h.id = j.subject "
	  "WHERE j.kind = 'hold_posted' GROUP BY j.subject) j "
	  "ON j.subject = h.id "
	  "WHERE (h.id IS NULL OR h.posted <> "
	  "coalesce(j.amount, 0))" NOT_DETACHED("coalesce(h.id, j.subject)") },

	/* originals in partitions that were detached cannot be compared */
	{ "reversal",
	  "SELECT r.id, 'reversed of ' || coalesce(a.code, 'unknown account'), "
	  "-coalesce(o.amount, 0), r.amount FROM (SELECT j.reverses AS id, "
	  "e.account_id, sum(e.amount) AS amount FROM payment.journal j "
	  "JOIN payment.entry e ON e.journal_id = j.id "
	  "WHERE j.reverses IS NOT NULL GROUP BY j.reverses, e.account_id) r "
	  "JOIN payment.journal j ON j.id = r.id LEFT JOIN (SELECT journal_id, "
	  "account_id, sum(amount) AS amount FROM payment.entry WHERE journal_id "
	  "IN (SELECT reverses FROM payment.journal WHERE reverses IS NOT NULL) "
	  "GROUP BY journal_id, account_id) o ON o.journal_id = r.id AND "
	  "o.account_id = r.account_id "
	  "LEFT JOIN payment.account a ON a.id = r.account_id "
	  "WHERE sign(r.amount) = sign(coalesce(o.amount, 0)) AND r.amount <> 0 "
	  "OR abs(r.amount) > abs(coalesce(o.amount, 0))" },

	{ "reversal_record",
	  "SELECT j.id, CASE WHEN j.kind <> 'reversal' OR j.reverses IS NULL "
	  "THEN 'journal is half a reversal' WHEN o.reverses IS NOT NULL "
	  "THEN 'reversal of a reversal' ELSE 'reversal is not on record' END, "
	  "1::numeric, 0::numeric FROM payment.journal j "
	  "LEFT JOIN payment.reversal r ON r.journal_id = j.reverses "
	  "LEFT JOIN payment.journal o ON o.id = j.reverses "
	  "WHERE (j.kind = 'reversal' OR j.reverses IS NOT NULL) AND "
	  "(j.kind <> 'reversal' OR j.reverses IS NULL "
	  "OR o.reverses IS NOT NULL "
	  "OR NOT coalesce(j.id = ANY (r.reversals), false))" },

	{ "closed_account",
	  "SELECT a.id, 'closed account ' || a.code || ' has a balance', "
	  "0::numeric, s.balance FROM payment.account a JOIN (SELECT account_id, "
	  "sum(balance) AS balance FROM payment.balance_slot GROUP BY account_id) "
	  "s ON s.account_id = a.id "
	  "WHERE a.state = 'closed' AND s.balance <> 0" },

	/*
	 * An order's money was posted in full and in its currency: at once, or in
	 * as many journals as there were captures.
	 */
	{ "order_capture",
	  "SELECT coalesce(o.id, c.subject), v.what || ' of the order', "
	  "v.expected::numeric, v.actual::numeric "
	  "FROM payment.order_record o FULL JOIN (SELECT j.subject, a.currency, "
	  "count(DISTINCT j.id) AS journals, "
	  "sum(e.amount) FILTER (WHERE a.code = 'psp_receivable') AS received, "
	  "count(DISTINCT a.owner) FILTER (WHERE a.code = 'psp_receivable') AS "
	  "psps, "
	  "max(a.owner::text) FILTER (WHERE a.code = 'psp_receivable') AS psp, "
	  "sum(e.amount) FILTER (WHERE a.code = 'platform_fee') AS fee "
	  "FROM payment.journal j JOIN payment.entry e ON e.journal_id = j.id "
	  "JOIN payment.account a ON a.id = e.account_id "
	  "WHERE j.kind = 'capture' GROUP BY j.subject, a.currency) c "
	  "ON c.subject = o.id AND c.currency = o.currency "
	  "CROSS JOIN LATERAL (VALUES "
	  "('capture journals', CASE WHEN coalesce(o.captured_amount, 0) = 0 "
	  "THEN 0 WHEN o.capture_no > 1 THEN greatest(c.journals, 1) ELSE 1 END, "
	  "coalesce(c.journals, 0)), "
	  "('captured amount', coalesce(o.captured_amount, 0), "
	  "coalesce(c.received, 0)), "
	  "('journals at another PSP', 0, CASE WHEN c.psps > 1 "
	  "OR c.psp <> o.psp_id::text THEN 1 ELSE 0 END), "
	  "('platform fee', CASE WHEN coalesce(o.captured_amount, 0) = 0 THEN 0 "
	  "WHEN o.captured_amount >= o.amount THEN -o.platform_fee "
	  "ELSE -o.captured_fee END, coalesce(c.fee, 0))) "
	  "v(what, expected, actual) WHERE v.expected <> v.actual" NOT_DETACHED(
		  "coalesce(o.id, c.subject)") },

	/* where the platform's fee took all, a release moves nothing */
	{ "order_release",
	  "SELECT coalesce(o.id, r.subject), 'release journals of the order', "
	  "v.expected::numeric, v.actual::numeric "
	  "FROM payment.order_record o FULL JOIN (SELECT subject, "
	  "count(*) AS journals FROM payment.journal WHERE kind = 'release' "
	  "GROUP BY subject) r ON r.subject = o.id "
	  "CROSS JOIN LATERAL (VALUES (CASE WHEN o.released_at IS NULL THEN 0 "
	  "WHEN o.captured_amount = 0 THEN 1 "
	  "WHEN o.capture_no > 1 OR o.refunded_amount > 0 "
	  "OR EXISTS (SELECT FROM payment.dispute_record d WHERE "
	  "d.order_id = o.id) "
	  "THEN coalesce(r.journals, 0) "
	  "WHEN o.captured_amount > CASE WHEN o.captured_amount < o.amount "
	  "AND o.authorized_amount > 0 THEN o.captured_fee ELSE o.platform_fee "
	  "END THEN 1 ELSE 0 END, "
	  "coalesce(r.journals, 0))) v(expected, actual) "
	  "WHERE v.expected <> v.actual" NOT_DETACHED(
		  "coalesce(o.id, r.subject)") },

	/* what is to be released: all that orders and their refunds posted there */
	{ "order_pending",
	  "SELECT o.id, 'pending amount of the order', o.pending_amount::numeric, "
	  "coalesce(c.pending, 0) FROM payment.order_record o "
	  "LEFT JOIN (SELECT coalesce(r.order_id, d.order_id, j.subject) "
	  "AS order_id, "
	  "-sum(e.amount) AS pending FROM payment.journal j "
	  "JOIN payment.entry e ON e.journal_id = j.id "
	  "JOIN payment.account a ON a.id = e.account_id "
	  "LEFT JOIN payment.refund_record r ON r.id = j.subject "
	  "LEFT JOIN payment.dispute_record d ON d.id = j.subject "
	  "WHERE a.code = 'seller_pending' AND j.kind IN ('capture', 'release', "
	  "'capture_reversed', 'refund', 'refund_failed', 'refund_corrected', "
	  "'dispute_opened', 'dispute_returned') GROUP BY 1) c "
	  "ON c.order_id = o.id WHERE o.pending_amount <> coalesce(c.pending, "
	  "0)" NOT_DETACHED("o.id") },

	/* refunds never give back more than came */
	{ "order_refunds",
	  "SELECT o.id, v.what || ' of the order', v.expected::numeric, "
	  "v.actual::numeric FROM payment.order_record o "
	  "LEFT JOIN (SELECT order_id, sum(amount) AS amount, "
	  "sum(fee_share) AS fee FROM payment.refund_record "
	  "WHERE status NOT IN ('failed', 'cancelled') GROUP BY order_id) r "
	  "ON r.order_id = o.id CROSS JOIN LATERAL (VALUES "
	  "('refunded amount', o.refunded_amount, coalesce(r.amount, 0)), "
	  "('fee returned', o.fee_returned, coalesce(r.fee, 0)), "
	  "('refunds beyond what was captured', 0, "
	  "greatest(coalesce(r.amount, 0) - o.captured_amount, 0))) "
	  "v(what, expected, actual) WHERE v.expected <> v.actual" NOT_DETACHED(
		  "o.id") },

	/* nor refunds and disputes together, but for what the platform bears */
	{ "order_disputes",
	  "SELECT o.id, v.what || ' of the order', v.expected::numeric, "
	  "v.actual::numeric FROM payment.order_record o "
	  "LEFT JOIN (SELECT order_id, "
	  "coalesce(sum(amount - platform_loss) FILTER (WHERE is_taken), 0) "
	  "AS amount, sum(fee_share) AS fee, "
	  "count(*) FILTER (WHERE status !~ '^inquiry/' AND "
	  "status ~ '/(open|challenged|accepted)$') AS open "
	  "FROM payment.dispute_record GROUP BY order_id) d "
	  "ON d.order_id = o.id CROSS JOIN LATERAL (VALUES "
	  "('disputed amount', o.disputed_amount, coalesce(d.amount, 0)), "
	  "('disputed fee', o.disputed_fee, coalesce(d.fee, 0)), "
	  "('open disputes', o.open_disputes, coalesce(d.open, 0))) "
	  "v(what, expected, actual) WHERE v.expected <> v.actual" NOT_DETACHED(
		  "o.id") },

	/* what the PSP took is a receivable, and held, until it is lost or back */
	{ "dispute",
	  "SELECT coalesce(d.id, j.subject), v.what || ' of the dispute', "
	  "v.expected::numeric, v.actual::numeric "
	  "FROM (SELECT r.*, is_taken AND status ~ '/lost$' AS lost, "
	  "from_pending + from_available + from_receivable AS seller "
	  "FROM payment.dispute_record r) d FULL JOIN (SELECT j.subject, "
	  "count(DISTINCT j.id) FILTER (WHERE j.kind = 'dispute_opened') - "
	  "count(DISTINCT j.id) FILTER (WHERE j.kind = 'dispute_returned') "
	  "AS taken, "
	  "count(DISTINCT j.id) FILTER (WHERE j.kind = 'dispute_lost') - "
	  "count(DISTINCT j.id) FILTER (WHERE j.kind = 'dispute_reopened') "
	  "AS lost, "
	  "sum(e.amount) FILTER (WHERE a.code = 'dispute_receivable') "
	  "AS receivable, "
	  "sum(e.amount) FILTER (WHERE a.code = 'seller_dispute_hold') AS held, "
	  "sum(e.amount) FILTER (WHERE a.code IN ('platform_fee', "
	  "'write_off')) AS platform, "
	  "sum(e.amount) FILTER (WHERE a.code = 'dispute_fee') AS fee "
	  "FROM payment.journal j JOIN payment.entry e ON e.journal_id = j.id "
	  "JOIN payment.account a ON a.id = e.account_id "
	  "WHERE j.kind IN ('dispute_opened', 'dispute_returned', "
	  "'dispute_lost', 'dispute_reopened', 'dispute_fee') "
	  "GROUP BY j.subject) j ON j.subject = d.id CROSS JOIN LATERAL (VALUES "
	  "('dispute_opened journals', CASE WHEN d.is_taken THEN 1 ELSE 0 END, "
	  "coalesce(j.taken, 0)), "
	  "('dispute_lost journals', CASE WHEN d.lost THEN 1 ELSE 0 END, "
	  "coalesce(j.lost, 0)), "
	  "('receivable', CASE WHEN d.is_taken AND NOT d.lost THEN d.amount "
	  "ELSE 0 END, coalesce(j.receivable, 0)), "
	  "('amount held', CASE WHEN d.is_taken AND NOT d.lost THEN -d.seller "
	  "ELSE 0 END, coalesce(j.held, 0)), "
	  "('platform''s part', CASE WHEN d.lost "
	  "THEN d.fee_share + d.platform_loss ELSE 0 END, "
	  "coalesce(j.platform, 0)), "
	  "('fee', coalesce(d.fee, 0), coalesce(j.fee, 0))) "
	  "v(what, expected, actual) WHERE v.expected <> v.actual" NOT_DETACHED(
		  "coalesce(d.id, j.subject)") },

	/* a refund's money is in clearing until the PSP has said what became of it */
	{ "refund",
	  "SELECT coalesce(r.id, j.subject), v.what || ' of the refund', "
	  "v.expected::numeric, v.actual::numeric "
	  "FROM payment.refund_record r FULL JOIN (SELECT j.subject, "
	  "count(DISTINCT j.id) FILTER (WHERE j.kind = 'refund') AS asked, "
	  "count(DISTINCT j.id) FILTER (WHERE j.kind = 'refund_succeeded') AS "
	  "succeeded, "
	  "count(DISTINCT j.id) FILTER (WHERE j.kind = 'refund_failed') AS "
	  "failed, "
	  "count(DISTINCT j.id) FILTER (WHERE j.kind = 'refund_corrected') AS "
	  "corrected, "
	  "sum(e.amount) FILTER (WHERE a.code = 'refund_clearing') AS clearing "
	  "FROM payment.journal j JOIN payment.entry e ON e.journal_id = j.id "
	  "JOIN payment.account a ON a.id = e.account_id "
	  "WHERE j.kind IN ('refund', 'refund_succeeded', 'refund_failed', "
	  "'refund_corrected') "
	  "GROUP BY j.subject) j ON j.subject = r.id CROSS JOIN LATERAL (VALUES "
	  "('refund journals', CASE WHEN r.id IS NULL THEN 0 ELSE 1 END, "
	  "coalesce(j.asked, 0)), "
	  "('refund_succeeded journals', CASE WHEN r.status = 'succeeded' "
	  "AND coalesce(j.corrected, 0) = 0 THEN 1 "
	  "WHEN r.status IN ('succeeded', 'failed') "
	  "THEN least(coalesce(j.succeeded, 0), 1) "
	  "ELSE 0 END, coalesce(j.succeeded, 0)), "
	  "('refund_failed journals', CASE WHEN r.status IN ('failed', "
	  "'cancelled') THEN 1 ELSE coalesce(j.corrected, 0) END, "
	  "coalesce(j.failed, 0)), "
	  "('refund_corrected journals', CASE WHEN r.status = 'succeeded' "
	  "THEN least(coalesce(j.corrected, 0), 1) ELSE 0 END, "
	  "coalesce(j.corrected, 0)), "
	  "('amount in clearing', CASE WHEN r.status IN ('succeeded', 'failed', "
	  "'cancelled') THEN 0 ELSE -coalesce(r.amount, 0) END, "
	  "coalesce(j.clearing, 0))) v(what, expected, actual) "
	  "WHERE v.expected <> v.actual" NOT_DETACHED(
		  "coalesce(r.id, j.subject)") },

	/*
	 * What orders and refunds say was exchanged is what is in fx_clearing for
	 * them, in both currencies; what was credited is what the PSP has to pay.
	 */
	{ "order_exchange",
	  "SELECT coalesce(o.id, x.id), v.what || ' of the order in ' || "
	  "coalesce(o.currency, x.currency), v.expected::numeric, "
	  "v.actual::numeric FROM (SELECT id, currency, "
	  "coalesce(exchanged_amount, 0) AS clearing, NULL AS credited "
	  "FROM payment.order_record WHERE settled_currency <> currency "
	  "UNION ALL SELECT id, settled_currency, -coalesce(exchanged_for, 0), "
	  "coalesce(settled_amount, 0) FROM payment.order_record "
	  "WHERE settled_currency <> currency) o FULL JOIN "
	  "(SELECT coalesce(r.order_id, j.subject) AS id, a.currency, "
	  "sum(e.amount) FILTER (WHERE a.code = 'fx_clearing') AS clearing, "
	  "sum(e.amount) FILTER (WHERE a.code = 'psp_receivable' "
	  "AND r.id IS NULL) AS credited "
	  "FROM payment.journal j JOIN payment.entry e ON e.journal_id = j.id "
	  "JOIN payment.account a ON a.id = e.account_id "
	  "LEFT JOIN payment.refund_record r ON r.id = j.subject "
	  "WHERE j.kind IN ('exchange', 'exchange_reversed', "
	  "'exchange_corrected') GROUP BY 1, 2) x "
	  "ON x.id = o.id AND x.currency = o.currency CROSS JOIN LATERAL (VALUES "
	  "('amount in fx_clearing', coalesce(o.clearing, 0), "
	  "coalesce(x.clearing, 0)), "
	  "('credited amount', o.credited, coalesce(x.credited, 0))) "
	  "v(what, expected, actual) WHERE v.expected <> v.actual" NOT_DETACHED(
		  "coalesce(o.id, x.id)") },

	{ "refund_exchange",
	  "SELECT r.id, v.what || ' of the refund', v.expected::numeric, "
	  "v.actual::numeric FROM payment.refund_record r LEFT JOIN "
	  "(SELECT j.subject, a.currency, "
	  "sum(e.amount) FILTER (WHERE a.code = 'fx_clearing') AS clearing, "
	  "sum(e.amount) FILTER (WHERE a.code = 'psp_receivable') AS credited "
	  "FROM payment.journal j JOIN payment.entry e ON e.journal_id = j.id "
	  "JOIN payment.account a ON a.id = e.account_id "
	  "WHERE j.kind IN ('exchange', 'exchange_reversed', "
	  "'exchange_corrected') GROUP BY 1, 2) x "
	  "ON x.subject = r.id AND x.currency = r.settled_currency "
	  "CROSS JOIN LATERAL (VALUES "
	  "('amount out of fx_clearing', coalesce(r.exchanged_for, 0), "
	  "coalesce(x.clearing, 0)), "
	  "('amount taken', CASE WHEN r.exchanged_for IS NOT NULL "
	  "THEN r.settled_amount END, -coalesce(x.credited, 0))) "
	  "v(what, expected, actual) WHERE (r.settled_currency IS NOT NULL "
	  "OR x.subject IS NOT NULL) AND v.expected <> v.actual" NOT_DETACHED(
		  "r.id") },

	/*
	 * Fees that answers told are booked once each, and taken back once when a
	 * line tells: until then they are noted with the unsettled order.
	 */
	{ "psp_fee",
	  "SELECT coalesce(b.psp_id, o.psp_id, u.psp_id), v.what || ' in ' || "
	  "coalesce(b.currency, o.currency, u.currency), v.expected::numeric, "
	  "v.actual::numeric FROM (SELECT a.owner AS psp_id, a.currency, "
	  "sum(e.amount) FILTER (WHERE j.kind = 'psp_fee') AS told, "
	  "sum(e.amount) AS left "
	  "FROM payment.journal j JOIN payment.entry e ON e.journal_id = j.id "
	  "JOIN payment.account a ON a.id = e.account_id "
	  "WHERE j.kind IN ('psp_fee', 'psp_fee_settled') AND a.code = 'psp_fee' "
	  "GROUP BY 1, 2) b FULL JOIN (SELECT psp_id, settled_currency AS "
	  "currency, sum(psp_fee) AS fee FROM payment.order_record "
	  "WHERE psp_fee > 0 GROUP BY 1, 2) o USING (psp_id, currency) "
	  "FULL JOIN (SELECT psp_id, settled_currency AS currency, "
	  "sum(psp_fee) AS fee FROM payment.unsettled_order WHERE psp_fee > 0 "
	  "GROUP BY 1, 2) u USING (psp_id, currency) CROSS JOIN LATERAL (VALUES "
	  "('fees told', coalesce(o.fee, 0), coalesce(b.told, 0)), "
	  "('fees told and not settled', coalesce(u.fee, 0), "
	  "coalesce(b.left, 0))) v(what, expected, actual) "
	  "WHERE v.expected <> v.actual AND NOT EXISTS "
	  "(SELECT FROM payment.detached_partition "
	  "WHERE parent IN ('journal', 'order_record'))" },

	/* before it is submitted a payout may, but need not, have its journal */
	{ "payout",
	  "SELECT coalesce(p.id, j.subject), v.what || ' of the payout', "
	  "v.expected::numeric, v.actual::numeric "
	  "FROM payment.payout_record p FULL JOIN (SELECT j.subject, "
	  "count(DISTINCT j.id) FILTER (WHERE j.kind = 'payout') AS submitted, "
	  "count(DISTINCT j.id) FILTER (WHERE j.kind = 'payout_paid') AS paid, "
	  "count(DISTINCT j.id) FILTER (WHERE j.kind = 'payout_failed') AS "
	  "failed, "
	  "sum(e.amount) FILTER (WHERE j.kind = 'payout') AS amount "
	  "FROM payment.journal j JOIN payment.entry e ON e.journal_id = j.id "
	  "JOIN payment.account a ON a.id = e.account_id "
	  "WHERE j.kind IN ('payout', 'payout_paid', 'payout_failed') "
	  "AND a.code = 'payout_clearing' GROUP BY j.subject) j "
	  "ON j.subject = p.id CROSS JOIN LATERAL (VALUES "
	  "('payout journals', CASE WHEN p.status IN ('submitting', 'unknown', "
	  "'in_transit', 'paid', 'failed', 'returned') THEN 1 "
	  "WHEN p.id IS NULL THEN 0 ELSE least(coalesce(j.submitted, 0), 1) END, "
	  "coalesce(j.submitted, 0)), "
	  "('payout_paid journals', CASE WHEN p.status IN ('paid', 'returned') "
	  "THEN 1 ELSE 0 END, coalesce(j.paid, 0)), "
	  "('payout_failed journals', CASE WHEN p.status IN ('failed', "
	  "'cancelled', 'rejected') THEN least(coalesce(j.submitted, 0), 1) "
	  "ELSE 0 END, coalesce(j.failed, 0)), "
	  "('amount in clearing', CASE WHEN j.submitted > 0 THEN -p.amount "
	  "ELSE 0 END, coalesce(j.amount, 0))) v(what, expected, actual) "
	  "WHERE v.expected <> v.actual" NOT_DETACHED(
		  "coalesce(p.id, j.subject)") },
};

static const char trial_balance_query[] =
	"SELECT a.code, a.kind, a.currency, sum(greatest(s.balance, 0)), "
	"sum(greatest(-s.balance, 0)) FROM payment.account a "
	"JOIN (SELECT account_id, sum(balance) AS balance "
	"FROM payment.balance_slot GROUP BY account_id) s ON s.account_id = a.id "
	"GROUP BY a.code, a.kind, a.currency ORDER BY a.currency, a.code";

/* the query's rows as the function's, after "first" where there is one */
static void
return_query(ReturnSetInfo *result, const char *first, const char *query)
{
	Portal portal =
		SPI_cursor_open_with_args(NULL, query, 0, NULL, NULL, NULL, true, 0);
	Datum values[MAX_RESULT_COLUMNS];
	bool  nulls[MAX_RESULT_COLUMNS] = { false };
	int	  offset = first != NULL ? 1 : 0;

	if (first != NULL)
		values[0] = CStringGetTextDatum(first);
	for (;;)
	{
		SPITupleTable *rows;

		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(portal, true, FETCH_ROWS);
		rows = SPI_tuptable;
		if (SPI_processed == 0)
			break;
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			for (int c = offset; c < result->setDesc->natts; c++)
				values[c] = SPI_getbinval(rows->vals[i], rows->tupdesc,
										  c - offset + 1, &nulls[c]);
			tuplestore_putvalues(result->setResult, result->setDesc, values,
								 nulls);
		}
		SPI_freetuptable(rows);
	}
	SPI_cursor_close(portal);
}

/*
 * Which partitions there are is no matter of snapshots: see
 * ledger_read_begin().  Here orders and payouts are read as well.
 */
static void
lock_partitioned_tables(void)
{
	for (int i = 0; i < PARTITIONED_TABLES; i++)
		LockRelationOid(partitioned_table_oid(&partitioned_tables[i]),
						AccessShareLock);
}

/* what another session sees in pg_stat_activity */
static void
report_progress(int check)
{
	char *activity =
		psprintf("payment.verify(): check %d of %d, %s", check + 1,
				 (int) lengthof(checks), checks[check].name);

	pgstat_report_activity(STATE_RUNNING, activity);
	pfree(activity);
}

Datum
payment_verify(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	lock_partitioned_tables();
	ledger_read_begin();
	for (int i = 0; i < (int) lengthof(checks); i++)
	{
		report_progress(i);
		return_query((ReturnSetInfo *) fcinfo->resultinfo, checks[i].name,
					 checks[i].query);
	}
	ledger_read_end();
	pgstat_report_activity(STATE_RUNNING, debug_query_string);
	return (Datum) 0;
}

Datum
payment_trial_balance(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	ledger_read_begin();
	return_query((ReturnSetInfo *) fcinfo->resultinfo, NULL,
				 trial_balance_query);
	ledger_read_end();
	return (Datum) 0;
}
