/*-------------------------------------------------------------------------
 *
 * reconcile.c
 *	  Compare what a PSP says with what we know, and name what differs.
 *
 * Set-based: a run is a few statements, whatever the number of lines, all by
 * one snapshot that is taken once the PSP's lock is held.  Every statement
 * starts from what is not settled yet (pending lines, unsettled_order) and
 * reaches the rest by keys, so that its cost follows the day's lines and not
 * the years of history.  The SQL function switches other joins off, because a
 * planner without statistics of a table that was just filled would guess
 * wrong; for the same reason plans are made anew for each run.
 *
 * A row of unsettled_order is what a line takes: it is there once, so no two
 * lines settle one order, in whatever files and runs they come.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "ledger/ledger.h"
#include "money.h"
#include "order/plan.h"
#include "order/transition.h"
#include "payment.h"
#include "reconcile/exchange_line.h"
#include "reconcile/reconcile.h"
#include "reconcile/statements.h"
#include "uuid7.h"

PG_FUNCTION_INFO_V1(payment_reconcile);

/* sets the key apart from the advisory locks of applications */
#define LOCK_SEED UINT64CONST(0x7061796d656e7401)

#define RESULT_COLUMNS 5

typedef struct Run
{
	pg_uuid_t	id;
	pg_uuid_t	psp_id;
	TimestampTz through;
	TimestampTz started_at;
	Snapshot	snapshot;
	int64		matched;
	int64		excepted;
	int64		opened;
	int64		closed;
	/* arrays, or 0: for exchange_line.h */
	Datum charges;
	Datum refunds;
	Datum fee_currencies;
	Datum fees;
} Run;

static SPIPlanPtr
prepare(const char *sql, int nargs, const Oid *types)
{
	SPIPlanPtr plan = SPI_prepare(sql, nargs, unconstify(Oid *, types));

	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s",
			 SPI_result_code_string(SPI_result));
	return plan;
}

/* until the transaction ends; the next run then sees all that this one did */
static void
lock_psp(const pg_uuid_t *psp_id)
{
	uint64 key = hash_bytes_extended(psp_id->data, UUID_LEN, LOCK_SEED);

	DirectFunctionCall1(pg_advisory_xact_lock_int8,
						Int64GetDatum((int64) key));
}

static int64
result_count(int column)
{
	bool  isnull;
	Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
								column, &isnull);

	Assert(!isnull);
	return DatumGetInt64(value);
}

/* what outlives the result of a statement; 0 when it is null */
static Datum
result_array(int column)
{
	bool  isnull;
	Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
								column, &isnull);

	return isnull ? 0 : datumCopy(value, false, -1);
}

/* returns the files whose lines changed, as uuid[] */
static Datum
judge_lines(Run *run)
{
	static const Oid types[] = { UUIDOID, INT4OID };
	Datum			 values[] = { UUIDPGetDatum(&run->psp_id),
								  Int32GetDatum(payment_exchange_tolerance_bp) };

	order_write_at(prepare(judge_lines_sql, lengthof(types), types), values,
				   NULL, run->snapshot, CAUSE_SETTLEMENT);
	run->matched = result_count(1);
	run->excepted = result_count(2);
	run->opened = result_count(3);
	run->closed = result_count(4);
	run->charges = result_array(6);
	run->refunds = result_array(7);
	run->fee_currencies = result_array(8);
	run->fees = result_array(9);
	return result_array(5);
}

static void
find_missing(Run *run)
{
	static const Oid types[] = { UUIDOID, TIMESTAMPTZOID };
	Datum			 values[2];

	values[0] = UUIDPGetDatum(&run->psp_id);
	values[1] = TimestampTzGetDatum(run->through);
	order_write_at(prepare(find_missing_sql, lengthof(types), types), values,
				   NULL, run->snapshot, CAUSE_SETTLEMENT);
	run->opened += result_count(1);
}

static void
set_file_status(Run *run, Datum file_ids)
{
	static const Oid types[] = { UUIDOID, UUIDARRAYOID };
	Datum			 values[2];

	values[0] = UUIDPGetDatum(&run->psp_id);
	values[1] = file_ids;
	order_write_at(prepare(set_file_status_sql, lengthof(types), types),
				   values, NULL, run->snapshot, CAUSE_SETTLEMENT);
}

/*
 * Money that no order of ours explains: the file's journal took it out of
 * psp_receivable, where it never was.  One journal for each line, so that
 * each can be resolved by itself.
 */
static void
fill_receipt(LedgerJournal *journal, const Run *run, HeapTuple row,
			 TupleDesc desc)
{
	bool  isnull;
	char *currency = SPI_getvalue(row, desc, 3);
	int64 amount = DatumGetInt64(SPI_getbinval(row, desc, 4, &isnull));

	journal->kind = "unidentified_receipt";
	journal->subject = *DatumGetUUIDP(SPI_getbinval(row, desc, 2, &isnull));
	journal->has_subject = true;
	journal->legs = palloc(sizeof(LedgerLeg) * 2);
	journal->leg_count = 2;
	ledger_chart_account(ACCOUNT_PSP_RECEIVABLE, &run->psp_id, currency,
						 &journal->legs[0].account_id);
	ledger_chart_account(ACCOUNT_UNIDENTIFIED_RECEIPTS, &run->psp_id, currency,
						 &journal->legs[1].account_id);
	journal->legs[0].amount = amount;
	journal->legs[1].amount = money_negate(amount);
}

/* post a page of them; *last is the exception it begins after, then ends at */
static bool
post_receipts(const Run *run, SPIPlanPtr plan, pg_uuid_t *last)
{
	Datum		   values[2];
	SPITupleTable *table;
	uint64		   rows;
	LedgerJournal *journals;
	int			   count = 0;
	bool		   isnull;

	values[0] = UUIDPGetDatum(&run->psp_id);
	values[1] = UUIDPGetDatum(last);
	rows = order_write_at(plan, values, NULL, run->snapshot, CAUSE_SETTLEMENT);
	if (rows == 0)
		return false;
	table = SPI_tuptable;
	journals = palloc0(sizeof(LedgerJournal) * rows);
	for (uint64 i = 0; i < rows; i++)
	{
		/* a charge of nothing needs no journal */
		if (DatumGetInt64(SPI_getbinval(table->vals[i], table->tupdesc, 4,
										&isnull)) != 0)
			fill_receipt(&journals[count++], run, table->vals[i],
						 table->tupdesc);
	}
	*last = *DatumGetUUIDP(
		SPI_getbinval(table->vals[rows - 1], table->tupdesc, 1, &isnull));
	if (count > 0)
		ledger_post(journals, count);
	SPI_freetuptable(table);
	return true;
}

/* ids ascend within a backend: what this run opened lies above its own id */
static void
post_all_receipts(const Run *run)
{
	static const Oid types[] = { UUIDOID, UUIDOID };
	SPIPlanPtr plan = prepare(find_unidentified_sql, lengthof(types), types);
	pg_uuid_t  last = run->id;
	MemoryContext page;
	MemoryContext caller;
	bool		  more = true;

	page = AllocSetContextCreate(CurrentMemoryContext, "unidentified receipts",
								 ALLOCSET_DEFAULT_SIZES);
	while (more)
	{
		CHECK_FOR_INTERRUPTS();
		caller = MemoryContextSwitchTo(page);
		more = post_receipts(run, plan, &last);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(page);
	}
	MemoryContextDelete(page);
}

static void
record_run(const Run *run)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID,		  UUIDOID, TIMESTAMPTZOID,
								  TIMESTAMPTZOID, INT8OID, INT8OID,
								  INT8OID,		  INT8OID };
	Datum			  values[8];

	values[0] = UUIDPGetDatum(&run->id);
	values[1] = UUIDPGetDatum(&run->psp_id);
	values[2] = TimestampTzGetDatum(run->through);
	values[3] = TimestampTzGetDatum(run->started_at);
	values[4] = Int64GetDatum(run->matched);
	values[5] = Int64GetDatum(run->excepted);
	values[6] = Int64GetDatum(run->opened);
	values[7] = Int64GetDatum(run->closed);
	plan_keep(&plan, insert_run_sql, lengthof(types), types);
	order_write(plan, values, NULL, CAUSE_SETTLEMENT);
}

static void
run_reconciliation(Run *run)
{
	Datum	 file_ids;
	ToldFee *fees;
	int		 fee_count;

	lock_psp(&run->psp_id);
	run->started_at = GetCurrentTimestamp();
	uuid7_generate(&run->id);
	exchange_lines_lock(&run->psp_id);
	run->snapshot = RegisterSnapshot(GetTransactionSnapshot());
	file_ids = judge_lines(run);
	find_missing(run);
	set_file_status(run, file_ids);
	post_all_receipts(run);
	exchange_lines_post(&run->psp_id, run->charges, run->refunds);
	fees = exchange_lines_fees(run->fee_currencies, run->fees, &fee_count);
	exchange_lines_take_fees_back(&run->psp_id, &run->id, fees, fee_count);
	UnregisterSnapshot(run->snapshot);
	record_run(run);
}

/*
 * payment.reconcile(psp, through) -> payment.reconciliation_result
 */
Datum
payment_reconcile(PG_FUNCTION_ARGS)
{
	Run		 *run = palloc0(sizeof(Run));
	TupleDesc desc;
	Datum	  values[RESULT_COLUMNS];
	bool	  nulls[RESULT_COLUMNS] = { false };

	reconcile_refuse_null(fcinfo, 0, "psp");
	reconcile_refuse_null(fcinfo, 1, "through");
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "reconcile() must return a row type");
	desc = BlessTupleDesc(desc);
	run->through = PG_GETARG_TIMESTAMPTZ(1);

	spi_begin();
	reconcile_find_psp(PG_GETARG_DATUM(0), &run->psp_id);
	run_reconciliation(run);
	spi_end();

	values[0] = UUIDPGetDatum(&run->id);
	values[1] = Int64GetDatum(run->matched);
	values[2] = Int64GetDatum(run->excepted);
	values[3] = Int64GetDatum(run->opened);
	values[4] = Int64GetDatum(run->closed);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
