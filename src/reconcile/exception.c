/*-------------------------------------------------------------------------
 *
 * exception.c
 *	  Open exceptions: differences that people work off.
 *
 * An exception is named by its type, order, line and PSP, so that the same
 * difference found again (a repeated answer, a second run) is the same row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#include "order/plan.h"
#include "order/transition.h"
#include "reconcile/exception.h"
#include "uuid7.h"

#define EXCEPTION_COLUMNS 10

#define INSERT_EXCEPTION                                                \
	"INSERT INTO payment.exception_record (id, type, psp_id, order_id," \
	" line_id, currency, expected_amount, actual_amount, detail,"       \
	" in_ledger, status, opened_at)"                                    \
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'open',"         \
	" pg_catalog.now())"                                                \
	" ON CONFLICT (type, order_id, line_id, psp_id) DO "

#define DETAIL_LENGTH_MAX "4000"
#define IS_SUM "exception_record.type IN ('duplicate', 'late_success')"
#define IS_FULL \
	"pg_catalog.length(exception_record.detail) >= " DETAIL_LENGTH_MAX

/*
 * What comes after a decision is judged by itself: the amounts are the news'.
 * Until then each further charge adds to what there is to decide; a sum of
 * unlike things is none, nor is one of which not every part is remembered.
 * Other amounts are the latest, also when they come back.  Once the sentences
 * fill the detail, the latest takes the place of the last.  What is booked of
 * unlike charges is nothing that can be taken back; that a booked capture failed
 * stays true whatever else is said.
 */
#define TAKE_NEWS_IN                                                    \
	"UPDATE SET detail = CASE WHEN " IS_FULL                            \
	" THEN pg_catalog.left(exception_record.detail, " DETAIL_LENGTH_MAX \
	") || E'\\n[...]' ELSE exception_record.detail END || E'\\n'"       \
	" || excluded.detail,"                                              \
	" status = CASE WHEN exception_record.closed_at IS NOT NULL"        \
	" THEN 'reopened' WHEN exception_record.status = 'proposed'"        \
	" THEN 'in_review' ELSE exception_record.status END,"               \
	" closed_at = NULL, currency = excluded.currency,"                  \
	" expected_amount = excluded.expected_amount,"                      \
	" actual_amount ="                                                  \
	" CASE WHEN exception_record.closed_at IS NOT NULL"                 \
	" OR NOT " IS_SUM " THEN excluded.actual_amount"                    \
	" WHEN " IS_FULL " THEN NULL"                                       \
	" WHEN exception_record.currency = excluded.currency"               \
	" AND exception_record.in_ledger = excluded.in_ledger"              \
	" AND exception_record.actual_amount"                               \
	" <= 9223372036854775807 - excluded.actual_amount"                  \
	" THEN exception_record.actual_amount + excluded.actual_amount"     \
	" END,"                                                             \
	" in_ledger = CASE WHEN exception_record.closed_at IS NOT NULL"     \
	" THEN excluded.in_ledger WHEN exception_record.type = 'status'"    \
	" THEN exception_record.in_ledger OR excluded.in_ledger"            \
	" ELSE exception_record.in_ledger AND excluded.in_ledger END"       \
	" WHERE pg_catalog.strpos(exception_record.detail,"                 \
	" excluded.detail) = 0 OR NOT " IS_SUM                              \
	" AND excluded.actual_amount IS NOT NULL"                           \
	" AND (excluded.actual_amount, excluded.currency) IS DISTINCT FROM" \
	" (exception_record.actual_amount, exception_record.currency)"

static void
insert_exception(SPIPlanPtr *plan, const char *sql,
				 const ExceptionReport *report, TransitionCause cause)
{
	static const Oid types[EXCEPTION_COLUMNS] = { UUIDOID, TEXTOID, UUIDOID,
												  UUIDOID, UUIDOID, TEXTOID,
												  INT8OID, INT8OID, TEXTOID,
												  BOOLOID };
	pg_uuid_t		 id;
	Datum			 values[EXCEPTION_COLUMNS] = { 0 };
	char			 nulls[EXCEPTION_COLUMNS];

	memset(nulls, ' ', sizeof(nulls));
	uuid7_generate(&id);
	values[0] = UUIDPGetDatum(&id);
	values[1] = CStringGetTextDatum(report->type);
	values[2] = UUIDPGetDatum(report->psp_id);
	if (report->order_id)
		values[3] = UUIDPGetDatum(report->order_id);
	else
		nulls[3] = 'n';
	if (report->line_id)
		values[4] = UUIDPGetDatum(report->line_id);
	else
		nulls[4] = 'n';
	if (report->currency)
		values[5] = CStringGetTextDatum(report->currency);
	else
		nulls[5] = 'n';
	if (report->has_amounts)
	{
		values[6] = Int64GetDatum(report->expected_amount);
		values[7] = Int64GetDatum(report->actual_amount);
	}
	else
		nulls[6] = nulls[7] = 'n';
	values[8] = CStringGetTextDatum(report->detail);
	values[9] = BoolGetDatum(report->in_ledger);

	spi_begin();
	plan_keep(plan, sql, EXCEPTION_COLUMNS, types);
	order_write(*plan, values, nulls, cause);
	spi_end();
}

void
exception_open(const ExceptionReport *report)
{
	static SPIPlanPtr plan = NULL;

	insert_exception(&plan, INSERT_EXCEPTION TAKE_NEWS_IN, report,
					 CAUSE_LOOKUP);
}

/* what the PSP could not tell is evidence too, if of nothing */
void
exception_open_unknown(const ExceptionReport *report)
{
	static SPIPlanPtr plan = NULL;

	insert_exception(&plan,
					 INSERT_EXCEPTION
					 "UPDATE SET status = 'reopened', closed_at = NULL"
					 " WHERE exception_record.closed_at IS NOT NULL",
					 report, CAUSE_LOOKUP);
}

void
exception_close_unknown(Datum object_ids)
{
	static SPIPlanPtr plan = NULL;
	static SPIPlanPtr proposal_plan = NULL;
	static const Oid  types[] = { UUIDARRAYOID };

	spi_begin();
	plan_keep(&plan,
			  "UPDATE payment.exception_record"
			  " SET status = 'auto_resolved', closed_at = pg_catalog.now()"
			  " WHERE type = 'unknown_outcome' AND order_id = ANY ($1)"
			  " AND status IN ('open', 'reopened')",
			  1, types);
	order_write(plan, &object_ids, NULL, CAUSE_POLICY);
	/* what was proposed was about the doubt that is over */
	plan_keep(&proposal_plan,
			  "UPDATE payment.resolution SET status = 'withdrawn',"
			  " decided_by = 'payment', decided_reason ="
			  " 'its outcome is no longer unknown',"
			  " decided_role = session_user, decided_at = pg_catalog.now()"
			  " WHERE object_id = ANY ($1) AND status = 'proposed'",
			  1, types);
	order_write(proposal_plan, &object_ids, NULL, CAUSE_POLICY);
	spi_end();
}
