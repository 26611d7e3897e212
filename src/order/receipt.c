/*-------------------------------------------------------------------------
 *
 * receipt.c
 *	  All there is to say of one payment order, as one JSON document.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"

#include "errcodes.h"
#include "order/batch.h"
#include "order/plan.h"
#include "order/typed_argument.h"

PG_FUNCTION_INFO_V1(payment_receipt);

/* each amount for machines and for people */
#define MONEY(amount)                                   \
	"jsonb_build_object('minor', " amount ", 'major', " \
	"payment.format_money(" amount ", o.currency))"

#define AMOUNTS                                                                                         \
	"jsonb_build_object('currency', o.currency, "                                                       \
	"'amount', " MONEY(                                                                                 \
		"o.amount") ", "                                                                                \
					"'captured', " MONEY(                                                               \
						"o.captured_amount") ", "                                                       \
											 "'platform_fee', " MONEY(                                  \
												 "o.platform_fee") ", "                                 \
																   "'psp_"                              \
																   "fee',"                              \
																   " " MONEY(                           \
																	   "f."                             \
																	   "psp_"                           \
																	   "fee") ", "                      \
																			  "'seller_share', " MONEY( \
																				  "o.amount - o.platform_fee") ")"

#define TIMES                                                      \
	"jsonb_build_object('created_at', o.created_at, "              \
	"'captured_at', o.captured_at, 'released_at', o.released_at, " \
	"'updated_at', o.updated_at)"

#define PAYMENT                                         \
	"jsonb_build_object('id', p.id, 'payer', p.payer, " \
	"'status', p.status, 'psp', p.psp, "                \
	"'payment_method', p.payment_method, 'metadata', p.metadata)"

#define HISTORY                                                    \
	"COALESCE((SELECT jsonb_agg(jsonb_build_object( "              \
	"'from', h.from_status, 'to', h.to_status, 'cause', h.cause, " \
	"'actor', h.actor, 'at', h.recorded_at) ORDER BY h.id) "       \
	"FROM payment.status_history h WHERE h.object_id = o.id), '[]')"

#define ATTEMPTS                                                       \
	"COALESCE((SELECT jsonb_agg(jsonb_build_object( "                  \
	"'id', a.id, 'attempt_no', a.attempt_no, 'step', a.step, "         \
	"'psp_key', a.psp_key, 'claimed_at', a.claimed_at, "               \
	"'finished_at', a.finished_at, 'outcome', a.outcome, "             \
	"'http_status', a.http_status, 'psp_reference', a.psp_reference, " \
	"'psp', v.name, 'decline_class', a.decline_class, "                \
	"'error_code', a.error_code, 'error_message', a.error_message) "   \
	"ORDER BY a.id) "                                                  \
	"FROM payment.attempt a JOIN payment.psp v ON v.id = a.psp_id "    \
	"WHERE a.object_id = o.id), '[]')"

/* debit positive in entry.amount */
#define POSTINGS                                                         \
	"COALESCE((SELECT jsonb_agg(jsonb_build_object( "                    \
	"'journal', j.id, 'kind', j.kind, 'recorded_at', j.recorded_at, "    \
	"'entries', (SELECT jsonb_agg(jsonb_build_object( "                  \
	"'account', c.code, 'currency', c.currency, "                        \
	"'debit', GREATEST(e.amount, 0), 'credit', GREATEST(-e.amount, 0)) " \
	"ORDER BY e.leg) FROM payment.entry e "                              \
	"JOIN payment.account c ON c.id = e.account_id "                     \
	"WHERE e.journal_id = j.id)) ORDER BY j.id) "                        \
	"FROM payment.journal j WHERE j.subject = o.id), '[]')"

/* posted with the order, or named for it by a file's line, else an answer */
#define PSP_FEE                                      \
	"(SELECT COALESCE((SELECT sum(e.amount) "        \
	"FROM payment.journal j "                        \
	"JOIN payment.entry e ON e.journal_id = j.id "   \
	"JOIN payment.account c ON c.id = e.account_id " \
	"WHERE j.subject = o.id AND c.code = 'psp_fee' " \
	"AND c.currency = o.currency), 0)::bigint "      \
	"+ COALESCE((SELECT sum(l.fee) "                 \
	"FROM payment.settlement_line l "                \
	"WHERE l.order_id = o.id "                       \
	"AND l.currency = o.currency), "                 \
	"CASE WHEN o.settled_currency = o.currency "     \
	"THEN o.psp_fee END, 0)::bigint AS psp_fee)"

static const char *const receipt_query =
	"SELECT jsonb_build_object('payment_order', o.id, "
	"'reference', o.reference, 'description', o.description, "
	"'metadata', o.metadata, 'status', o.status, "
	"'classic_status', o.classic_status, 'failure', "
	"CASE WHEN o.failure_code IS NOT NULL OR o.failure_message IS NOT NULL "
	"THEN jsonb_build_object('code', o.failure_code, "
	"'message', o.failure_message) END, "
	"'psp_reference', o.psp_reference, "
	"'payment', " PAYMENT ", "
	"'seller', jsonb_build_object('id', s.id, 'reference', s.reference, "
	"'name', s.name), "
	"'amounts', " AMOUNTS ", "
	"'times', " TIMES ", "
	"'history', " HISTORY ", "
	"'attempts', " ATTEMPTS ", "
	"'postings', " POSTINGS ") "
	"FROM payment.payment_order o "
	"JOIN payment.payment p ON p.id = o.payment_id "
	"JOIN payment.seller s ON s.id = o.seller_id "
	"CROSS JOIN LATERAL " PSP_FEE " f "
	"WHERE o.id = $1";

/*
 * payment.receipt(payment_order) -> jsonb
 */
Datum
payment_receipt(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID };
	MemoryContext	  caller = CurrentMemoryContext;
	MemoryContext	  inner;
	Datum			  values[] = { UUIDPGetDatum(
					uuid_argument(fcinfo, 0, "payment_order")) };
	Datum			  result;
	bool			  isnull;
	int				  nest_level = batch_begin();

	plan_keep(&plan, receipt_query, lengthof(types), types);
	if (spi_read(plan, values, NULL) != 1)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_UNKNOWN_OBJECT),
						errmsg("\"payment_order\" is no payment order"),
						errdetail("There is none with that id."),
						errhint("Pass an id that checkout() or submit() "
								"returned.")));
	result = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
						   &isnull);
	Assert(!isnull);
	inner = MemoryContextSwitchTo(caller);
	result = datumCopy(result, false, -1);
	MemoryContextSwitchTo(inner);
	batch_end(nest_level);
	PG_RETURN_DATUM(result);
}
