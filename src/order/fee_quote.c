/*-------------------------------------------------------------------------
 *
 * fee_quote.c
 *	  What the platform would take of an order, and why.
 *
 * As checkout does it, with the same code; it writes nothing and runs on a
 * standby, too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "argument.h"
#include "errcodes.h"
#include "money.h"
#include "order/batch.h"
#include "order/event.h"
#include "order/fee.h"
#include "order/plan.h"
#include "order/route.h"
#include "order/typed_argument.h"

PG_FUNCTION_INFO_V1(payment_quote_fee);

#define QUOTE_COLUMNS 7
/* then no window reaches back behind what is kept */
#define OLDEST_VOLUME_DAYS 30

static const EventPlace here = { 0, 0 };

typedef struct Question
{
	pg_uuid_t	seller;
	int64		amount;
	char		currency[CURRENCY_CODE_LENGTH + 1];
	const char *psp; /* or NULL */
	const char *payment_method;
	TimestampTz at;
} Question;

static void
read_question(FunctionCallInfo fcinfo, Question *question)
{
	char *currency = text_argument(fcinfo, 2, "currency");

	question->psp = text_argument(fcinfo, 3, "psp");
	question->payment_method = text_argument(fcinfo, 4, "payment_method");
	question->seller = *uuid_argument(fcinfo, 0, "seller");
	question->amount = int64_argument(fcinfo, 1, "amount");
	refuse_null(fcinfo, 2, "currency");
	currency_check(currency);
	strlcpy(question->currency, currency, sizeof(question->currency));
	event_check_optional(&here, "psp", question->psp);
	event_check_optional(&here, "payment_method", question->payment_method);
	question->at =
		PG_ARGISNULL(5) ? GetCurrentTimestamp() : PG_GETARG_TIMESTAMPTZ(5);
	if (question->amount <= 0)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_AMOUNT),
						errmsg("\"amount\" must be positive"),
						errdetail("It is " INT64_FORMAT " minor units.",
								  question->amount),
						errhint("Pass minor units of the currency.")));
	if (TIMESTAMP_NOT_FINITE(question->at))
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("\"at\" must be finite"),
						errdetail("It is infinity or -infinity."),
						errhint("Pass null for now.")));
}

static const pg_uuid_t *
find_psp(const Question *question)
{
	PspList	   list;
	const Psp *psp;

	if (question->psp == NULL)
		return NULL;
	psp_read_all(&list);
	psp = psp_by_name(&list, question->psp);
	if (psp == NULL)
		psp_refuse_unknown(&here, "psp");
	return &psp->id;
}

#define QUOTE_QUERY                                                \
	"SELECT " FEE_COLUMNS " FROM (SELECT id, $2::text AS currency" \
	" FROM payment.seller WHERE id = $1) AS q " FEE_JOIN("q.id",   \
														 "q.currency", "$3")

static FeeSchedule *
read_schedules(const Question *question, int *count)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID, TEXTOID, TIMESTAMPTZOID };
	Datum			  values[] = { UUIDPGetDatum(&question->seller),
								   CStringGetTextDatum(question->currency),
								   TimestampTzGetDatum(question->at) };
	FeeSchedule		 *schedules;
	uint64			  rows;

	rows = spi_read(plan_keep(&plan, QUOTE_QUERY, lengthof(types), types),
					values, NULL);
	if (rows == 0)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_UNKNOWN_SELLER),
						errmsg("\"seller\" is no registered seller"),
						errdetail("There is none with that id."),
						errhint("payment.seller_id() finds the id of a "
								"reference.")));
	schedules = palloc(sizeof(FeeSchedule) * rows);
	*count = 0;
	for (uint64 row = 0; row < rows; row++)
	{
		if (fee_schedule_read(row, 1, &schedules[*count]))
			(*count)++;
	}
	return schedules;
}

static int64
read_volume(const Question *question, const FeeSchedule *schedule)
{
	VolumeQuery query = { .seller_id = question->seller,
						  .currency = question->currency,
						  .window = schedule->volume_window };
	TimestampTz oldest =
		GetCurrentTimestamp() - OLDEST_VOLUME_DAYS * USECS_PER_DAY;

	if (question->at < oldest)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
				 errmsg("\"at\" is too long ago"),
				 errdetail("The schedule has tiers, and volumes are kept for "
						   "%d days.",
						   VOLUME_KEPT_DAYS),
				 errhint("Pass a time of the last %d days.",
						 OLDEST_VOLUME_DAYS)));
	volume_read(&query, 1, question->at);
	return query.volume;
}

static void
answer(const Question *question, const FeeSchedule *schedule, Datum *values,
	   bool *nulls)
{
	static const char *const limits[] = { NULL, "min_fee", "max_fee",
										  "amount" };
	int64					 volume = 0;
	Fee						 fee;

	if (schedule->tier_count > 0)
		volume = read_volume(question, schedule);
	fee_compute(schedule, question->amount, volume, &fee);
	memset(nulls, false, sizeof(bool) * QUOTE_COLUMNS);
	values[0] = UUIDPGetDatum(&schedule->id);
	values[1] = Int64GetDatum(fee.fee);
	values[2] = Int64GetDatum(fee.tier ? fee.tier->fixed : schedule->fixed);
	values[3] = Int32GetDatum(fee.tier ? fee.tier->basis_points
									   : schedule->basis_points);
	nulls[4] = schedule->tier_count == 0;
	values[4] = Int64GetDatum(volume);
	nulls[5] = fee.tier == NULL;
	values[5] = fee.tier ? Int64GetDatum(fee.tier->from_volume) : (Datum) 0;
	nulls[6] = fee.limit == FEE_LIMIT_NONE;
	values[6] = nulls[6] ? (Datum) 0 : CStringGetTextDatum(limits[fee.limit]);
}

/*
 * payment.quote_fee(seller, amount, currency, psp, payment_method, at)
 * -> payment.fee_quote
 */
Datum
payment_quote_fee(PG_FUNCTION_ARGS)
{
	Question		   question = { 0 };
	MemoryContext	   caller = CurrentMemoryContext;
	MemoryContext	   batch;
	FeeSchedule		  *schedules;
	const FeeSchedule *schedule;
	const pg_uuid_t	  *psp_id;
	TupleDesc		   desc;
	Datum			   values[QUOTE_COLUMNS] = { 0 };
	bool nulls[QUOTE_COLUMNS] = { true, false, true, true, true, true, true };
	HeapTuple row;
	int		  count;
	int		  nest_level;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "quote_fee() returns a composite type");
	read_question(fcinfo, &question);
	nest_level = batch_begin();
	psp_id = find_psp(&question);
	schedules = read_schedules(&question, &count);
	schedule = fee_choose(schedules, count, psp_id, question.payment_method);
	if (schedule)
		answer(&question, schedule, values, nulls);
	batch = MemoryContextSwitchTo(caller);
	row = heap_form_tuple(BlessTupleDesc(desc), values, nulls);
	MemoryContextSwitchTo(batch);
	batch_end(nest_level);
	PG_RETURN_DATUM(HeapTupleGetDatum(row));
}
