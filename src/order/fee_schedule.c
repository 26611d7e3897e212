/*-------------------------------------------------------------------------
 *
 * fee_schedule.c
 *	  Setting and ending schedules of the platform's fees.
 *
 * Orders name the schedule that their fee came from, so one that has taken
 * effect never changes: only its end is set, once, to now or later.  Of those
 * for the same seller, PSP, payment method and currency no two are in force at
 * a time; that is looked at here, under a lock, to say what is wrong, and an
 * exclusion constraint stands behind it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "argument.h"
#include "errcodes.h"
#include "money.h"
#include "order/batch.h"
#include "order/event.h"
#include "order/fee.h"
#include "order/plan.h"
#include "order/route.h"
#include "order/transition.h"
#include "order/typed_argument.h"
#include "payment.h"
#include "uuid7.h"

PG_FUNCTION_INFO_V1(payment_set_fee_schedule);
PG_FUNCTION_INFO_V1(payment_end_fee_schedule);

#define FOR_EVER DT_NOEND

static const EventPlace here = { 0, 0 };

typedef struct NewSchedule
{
	pg_uuid_t	 id;
	pg_uuid_t	*seller; /* or NULL, as the next three */
	const char	*psp;
	const char	*payment_method;
	const char	*currency;
	pg_uuid_t	 psp_id;
	int64		 fixed;
	int32		 basis_points;
	bool		 has_min_fee;
	int64		 min_fee;
	bool		 has_max_fee;
	int64		 max_fee;
	FeeTier		*tiers;
	int			 tier_count;
	VolumeWindow volume_window;
	bool		 begins_now;
	TimestampTz	 effective_from;
	bool		 has_end;
	TimestampTz	 effective_until;
} NewSchedule;

static void
pg_attribute_noreturn() refuse_amount(const char *name, int64 amount)
{
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_AMOUNT),
					errmsg("\"%s\" must not be negative", name),
					errdetail("It is " INT64_FORMAT ".", amount),
					errhint("Pass minor units of the currency.")));
}

static void
check_amounts(const NewSchedule *schedule)
{
	if (schedule->fixed < 0)
		refuse_amount("fixed", schedule->fixed);
	if (schedule->has_min_fee && schedule->min_fee < 0)
		refuse_amount("min_fee", schedule->min_fee);
	if (schedule->has_max_fee && schedule->max_fee < 0)
		refuse_amount("max_fee", schedule->max_fee);
	if (schedule->has_min_fee && schedule->has_max_fee &&
		schedule->min_fee > schedule->max_fee)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_AMOUNT),
						errmsg("\"min_fee\" is above \"max_fee\""),
						errdetail("No fee lies between " INT64_FORMAT
								  " and " INT64_FORMAT ".",
								  schedule->min_fee, schedule->max_fee),
						errhint("Both count as inside.")));
	if (schedule->basis_points < 0 ||
		schedule->basis_points > FEE_MAX_BASIS_POINTS)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("\"basis_points\" must be from 0 to %d",
							   FEE_MAX_BASIS_POINTS),
						errdetail("It is %d.", schedule->basis_points),
						errhint("250 are 2.5 %%.")));
}

static void
check_currency(const NewSchedule *schedule)
{
	const char *what = "a fixed fee";

	if (schedule->currency)
	{
		currency_check(schedule->currency);
		return;
	}
	if (schedule->tier_count > 0)
		what = "a volume";
	else if (schedule->has_min_fee || schedule->has_max_fee)
		what = "a limit of a fee";
	else if (schedule->fixed == 0)
		return;
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
					errmsg("%s needs a currency", what),
					errdetail("The same number of minor units is worth "
							  "different money in each."),
					errhint("Set a schedule for each currency.")));
}

static void
check_tier_count(int count)
{
	if (count > payment_max_fee_tiers)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_LIMIT_EXCEEDED),
				 errmsg("\"tiers\" has too many tiers"),
				 errdetail("It has %d, the limit is %d.", count,
						   payment_max_fee_tiers),
				 errhint("Pass fewer, or raise payment.max_fee_tiers.")));
}

static void
read_tiers(NewSchedule *schedule, Jsonb *tiers, const char *window)
{
	if (window == NULL ||
		!volume_window_by_name(window, &schedule->volume_window))
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
				 errmsg("\"volume_window\" is not valid"),
				 errdetail("It must be \"month\" or \"rolling_30_days\"."),
				 errhint("Both are days of UTC.")));
	if (tiers == NULL)
		return;
	if (JB_ROOT_IS_ARRAY(tiers))
		check_tier_count(JB_ROOT_COUNT(tiers));
	schedule->tiers = fee_tiers_read(tiers, &schedule->tier_count);
}

static void
check_time(TimestampTz at, const char *name)
{
	if (TIMESTAMP_NOT_FINITE(at))
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("\"%s\" must be finite", name),
						errdetail("It is infinity or -infinity."),
						errhint("Pass null for now, or for no end.")));
	if (at < GetCurrentTransactionStartTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_FEE_SCHEDULE_FIXED),
				 errmsg("\"%s\" is in the past", name),
				 errdetail("Orders were made since then, with the schedules "
						   "that were in force."),
				 errhint("Pass null for now, or a time to come.")));
}

static void
read_times(FunctionCallInfo fcinfo, NewSchedule *schedule)
{
	TimestampTz now = GetCurrentTimestamp();

	schedule->begins_now = PG_ARGISNULL(10);
	schedule->effective_from = now;
	schedule->has_end = !PG_ARGISNULL(11);
	schedule->effective_until = FOR_EVER;
	if (!PG_ARGISNULL(10))
	{
		schedule->effective_from = PG_GETARG_TIMESTAMPTZ(10);
		check_time(schedule->effective_from, "effective_from");
		/* now() is when the transaction began */
		schedule->begins_now = schedule->effective_from <= now;
	}
	if (schedule->has_end)
	{
		schedule->effective_until = PG_GETARG_TIMESTAMPTZ(11);
		check_time(schedule->effective_until, "effective_until");
	}
	if (schedule->effective_until <= schedule->effective_from)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("\"effective_until\" is not after "
							   "\"effective_from\""),
						errdetail("The schedule would never be in force."),
						errhint("Pass null for no end.")));
}

static void
read_schedule(FunctionCallInfo fcinfo, NewSchedule *schedule)
{
	Jsonb *tiers;
	char  *window;

	/* all that could hold a card number first */
	schedule->currency = text_argument(fcinfo, 3, "currency");
	schedule->psp = text_argument(fcinfo, 4, "psp");
	schedule->payment_method = text_argument(fcinfo, 5, "payment_method");
	tiers = json_argument(fcinfo, 8, "tiers");
	window = text_argument(fcinfo, 9, "volume_window");

	schedule->fixed = int64_argument(fcinfo, 0, "fixed");
	schedule->basis_points = int32_argument(fcinfo, 1, "basis_points");
	schedule->seller = PG_ARGISNULL(2) ? NULL : PG_GETARG_UUID_P(2);
	schedule->has_min_fee = !PG_ARGISNULL(6);
	schedule->min_fee = schedule->has_min_fee ? PG_GETARG_INT64(6) : 0;
	schedule->has_max_fee = !PG_ARGISNULL(7);
	schedule->max_fee = schedule->has_max_fee ? PG_GETARG_INT64(7) : 0;
	event_check_optional(&here, "psp", schedule->psp);
	event_check_optional(&here, "payment_method", schedule->payment_method);
	check_amounts(schedule);
	read_tiers(schedule, tiers, window);
	check_currency(schedule);
	read_times(fcinfo, schedule);
}

/* Checkouts read on; only those who set schedules follow one another. */
static void
lock_schedules(void)
{
	static SPIPlanPtr plan = NULL;

	batch_run(plan_keep(&plan,
						"LOCK TABLE payment.fee_schedule"
						" IN SHARE ROW EXCLUSIVE MODE",
						0, NULL),
			  NULL, NULL);
}

/* As of now at every isolation level: the lock was waited for. */
static uint64
write_schedules(SPIPlanPtr plan, Datum *values, const char *nulls)
{
	return order_write_at(plan, values, nulls, GetLatestSnapshot(), CAUSE_API);
}

static void
write_end(const pg_uuid_t *id, TimestampTz until)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID, TIMESTAMPTZOID };
	Datum values[] = { UUIDPGetDatum(id), TimestampTzGetDatum(until) };

	plan_keep(&plan,
			  "UPDATE payment.fee_schedule SET effective_until = $2 "
			  "WHERE id = $1",
			  lengthof(types), types);
	if (write_schedules(plan, values, NULL) != 1)
		elog(ERROR, "a fee schedule vanished");
}

static void
pg_attribute_noreturn()
	refuse_overlap(const pg_uuid_t *id, TimestampTz from, TimestampTz until)
{
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_FEE_SCHEDULE_OVERLAP),
			 errmsg("another fee schedule is in force then"),
			 errdetail("For the same seller, PSP, payment method and currency "
					   "there is %s, from %s until %s.",
					   uuid_text(id), timestamptz_to_str(from),
					   pstrdup(timestamptz_to_str(until))),
			 errhint("Withdraw that with payment.end_fee_schedule(), or have "
					 "this one end before.")));
}

#define NEIGHBOURS_QUERY                                             \
	"SELECT id, effective_from, effective_until, open_ended"         \
	" FROM payment.fee_schedule"                                     \
	" WHERE seller_id IS NOT DISTINCT FROM $1"                       \
	" AND psp_id IS NOT DISTINCT FROM $2"                            \
	" AND payment_method IS NOT DISTINCT FROM $3"                    \
	" AND currency IS NOT DISTINCT FROM $4 AND effective_until > $5" \
	" ORDER BY effective_from"

static void
put(Datum *values, char *nulls, int column, bool present, Datum value)
{
	nulls[column] = present ? ' ' : 'n';
	values[column] = value;
}

static Datum
text_datum(const char *text)
{
	return text ? CStringGetTextDatum(text) : (Datum) 0;
}

static void
put_key(const NewSchedule *schedule, Datum *values, char *nulls)
{
	put(values, nulls, 0, schedule->seller != NULL,
		UUIDPGetDatum(schedule->seller));
	put(values, nulls, 1, schedule->psp != NULL,
		UUIDPGetDatum(&schedule->psp_id));
	put(values, nulls, 2, schedule->payment_method != NULL,
		text_datum(schedule->payment_method));
	put(values, nulls, 3, schedule->currency != NULL,
		text_datum(schedule->currency));
}

/* A schedule of the same key that is not over when the new one begins. */
typedef struct Neighbour
{
	pg_uuid_t	id;
	TimestampTz from;
	TimestampTz until;
	bool		open_ended;
} Neighbour;

static Neighbour *
read_neighbours(const NewSchedule *schedule, int *count)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID, UUIDOID, TEXTOID, TEXTOID,
								  TIMESTAMPTZOID };
	Datum			  values[lengthof(types)];
	char			  nulls[lengthof(types)];
	Neighbour		 *neighbours;

	put_key(schedule, values, nulls);
	put(values, nulls, 4, true, TimestampTzGetDatum(schedule->effective_from));
	plan_keep(&plan, NEIGHBOURS_QUERY, lengthof(types), types);
	*count = (int) write_schedules(plan, values, nulls);
	neighbours = palloc(sizeof(Neighbour) * Max(*count, 1));
	for (int row = 0; row < *count; row++)
	{
		row_uuid(row, 1, &neighbours[row].id);
		neighbours[row].from = row_time(row, 2);
		neighbours[row].until = row_time(row, 3);
		neighbours[row].open_ended = row_bool(row, 4);
	}
	return neighbours;
}

/*
 * Make room: what has no end of its own ends when the next one begins.  What
 * has one was planned so, and only a schedule from now on ends it before.
 */
static void
make_room(NewSchedule *schedule)
{
	TimestampTz now = GetCurrentTimestamp();
	int			count;
	Neighbour  *neighbours;

	if (schedule->begins_now)
		schedule->effective_from = now;
	neighbours = read_neighbours(schedule, &count);
	/* a schedule is in force for a moment at least */
	if (schedule->begins_now && count > 0 &&
		neighbours[0].from == schedule->effective_from)
		schedule->effective_from++;
	for (int i = 0; i < count; i++)
	{
		const Neighbour *other = &neighbours[i];

		if (other->from < schedule->effective_from)
		{
			if (!other->open_ended && !schedule->begins_now)
				refuse_overlap(&other->id, other->from, other->until);
			write_end(&other->id, schedule->effective_from);
		}
		else if (other->from < schedule->effective_until)
		{
			if (schedule->has_end || other->from == schedule->effective_from)
				refuse_overlap(&other->id, other->from, other->until);
			schedule->effective_until = other->from;
		}
	}
}

#define SCHEDULE_COLUMNS 15

static void
store_schedule(const NewSchedule *schedule)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[SCHEDULE_COLUMNS] = {
		 UUIDOID, UUIDOID,		  TEXTOID,		  TEXTOID, UUIDOID,
		 INT8OID, INT4OID,		  INT8OID,		  INT8OID, JSONBOID,
		 TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, BOOLOID
	};
	Datum values[SCHEDULE_COLUMNS];
	char  nulls[SCHEDULE_COLUMNS];
	bool  tiered = schedule->tier_count > 0;

	put_key(schedule, values, nulls);
	put(values, nulls, 4, true, UUIDPGetDatum(&schedule->id));
	put(values, nulls, 5, true, Int64GetDatum(schedule->fixed));
	put(values, nulls, 6, true, Int32GetDatum(schedule->basis_points));
	put(values, nulls, 7, schedule->has_min_fee,
		Int64GetDatum(schedule->min_fee));
	put(values, nulls, 8, schedule->has_max_fee,
		Int64GetDatum(schedule->max_fee));
	put(values, nulls, 9, tiered,
		tiered ? JsonbPGetDatum(
					 fee_tiers_write(schedule->tiers, schedule->tier_count))
			   : (Datum) 0);
	put(values, nulls, 10, tiered,
		tiered ? text_datum(volume_window_name(schedule->volume_window))
			   : (Datum) 0);
	put(values, nulls, 11, true,
		TimestampTzGetDatum(schedule->effective_from));
	put(values, nulls, 12, true,
		TimestampTzGetDatum(schedule->effective_until));
	put(values, nulls, 13, true,
		text_datum(GetUserNameFromId(GetSessionUserId(), false)));
	put(values, nulls, 14, true, BoolGetDatum(!schedule->has_end));
	plan_keep(&plan,
			  "INSERT INTO payment.fee_schedule (seller_id, psp_id, "
			  "payment_method, currency, id, fixed, basis_points, min_fee, "
			  "max_fee, tiers, volume_window, effective_from, "
			  "effective_until, set_by, open_ended) VALUES ($1, $2, $3, $4, "
			  "$5, $6, $7, "
			  "$8, $9, $10, $11, $12, $13, $14, $15)",
			  SCHEDULE_COLUMNS, types);
	write_schedules(plan, values, nulls);
}

/* Each checkout of that seller in that currency reads all of these. */
static void
check_count(const NewSchedule *schedule)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID, UUIDOID, TEXTOID, TEXTOID,
								  TIMESTAMPTZOID };
	Datum			  values[lengthof(types)];
	char			  nulls[lengthof(types)];
	int64			  count;

	put_key(schedule, values, nulls);
	put(values, nulls, 4, true, TimestampTzGetDatum(GetCurrentTimestamp()));
	plan_keep(&plan,
			  "SELECT count(*) FROM payment.fee_schedule"
			  " WHERE seller_id IS NOT DISTINCT FROM $1"
			  " AND currency IS NOT DISTINCT FROM $4"
			  " AND effective_until > $5",
			  lengthof(types), types);
	write_schedules(plan, values, nulls);
	count = row_int64(0, 1);
	if (count > payment_max_fee_schedules)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_LIMIT_EXCEEDED),
				 errmsg("too many fee schedules for this seller and currency"),
				 errdetail("There would be " INT64_FORMAT
						   " that are not over, the limit is %d.",
						   count, payment_max_fee_schedules),
				 errhint("End some, or raise payment.max_fee_schedules.")));
}

static void
find_psp(NewSchedule *schedule)
{
	PspList	   list;
	const Psp *psp;

	if (schedule->psp == NULL)
		return;
	psp_read_all(&list);
	psp = psp_by_name(&list, schedule->psp);
	if (psp == NULL)
		psp_refuse_unknown(&here, "psp");
	schedule->psp_id = psp->id;
}

/*
 * payment.set_fee_schedule(fixed, basis_points, seller, currency, psp,
 * payment_method, min_fee, max_fee, tiers, volume_window, effective_from,
 * effective_until) -> uuid
 */
Datum
payment_set_fee_schedule(PG_FUNCTION_ARGS)
{
	NewSchedule schedule = { 0 };
	pg_uuid_t  *result = palloc(sizeof(pg_uuid_t));
	int			nest_level;

	read_schedule(fcinfo, &schedule);
	uuid7_generate(&schedule.id);

	/* outside of the batch: past captures are joined by what fits many */
	spi_begin();
	if (schedule.seller)
		seller_check_exists(schedule.seller);
	find_psp(&schedule);
	lock_schedules();
	if (schedule.tier_count > 0)
		volume_count_for(schedule.seller, schedule.currency);
	spi_end();

	nest_level = batch_begin();
	make_room(&schedule);
	store_schedule(&schedule);
	check_count(&schedule);
	batch_end(nest_level);
	*result = schedule.id;
	PG_RETURN_UUID_P(result);
}

static void
read_existing(Neighbour *schedule)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID };
	Datum			  values[] = { UUIDPGetDatum(&schedule->id) };

	plan_keep(&plan,
			  "SELECT effective_from, effective_until "
			  "FROM payment.fee_schedule WHERE id = $1",
			  lengthof(types), types);
	if (write_schedules(plan, values, NULL) != 1)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_UNKNOWN_OBJECT),
						errmsg("\"schedule\" is no fee schedule"),
						errdetail("There is none with that id."),
						errhint("payment.set_fee_schedule() returned it; "
								"payment.fee_schedule has them all.")));
	schedule->from = row_time(0, 1);
	schedule->until = row_time(0, 2);
}

/* What was to end with it goes on, until the one after it. */
#define RESUME_QUERY                                                 \
	"SELECT p.id, coalesce((SELECT min(n.effective_from)"            \
	"  FROM payment.fee_schedule AS n"                               \
	"  WHERE n.seller_id IS NOT DISTINCT FROM d.seller_id"           \
	"  AND n.psp_id IS NOT DISTINCT FROM d.psp_id"                   \
	"  AND n.payment_method IS NOT DISTINCT FROM d.payment_method"   \
	"  AND n.currency IS NOT DISTINCT FROM d.currency"               \
	"  AND n.effective_from > d.effective_from), 'infinity')"        \
	" FROM payment.fee_schedule AS d JOIN payment.fee_schedule AS p" \
	" ON p.seller_id IS NOT DISTINCT FROM d.seller_id"               \
	" AND p.psp_id IS NOT DISTINCT FROM d.psp_id"                    \
	" AND p.payment_method IS NOT DISTINCT FROM d.payment_method"    \
	" AND p.currency IS NOT DISTINCT FROM d.currency"                \
	" AND p.effective_until = d.effective_from AND p.open_ended"     \
	" WHERE d.id = $1"

static void
withdraw(const pg_uuid_t *id)
{
	static SPIPlanPtr resume_plan = NULL;
	static SPIPlanPtr delete_plan = NULL;
	static const Oid  types[] = { UUIDOID };
	Datum			  values[] = { UUIDPGetDatum(id) };
	pg_uuid_t		  before;
	TimestampTz		  until;
	bool			  resumes;

	plan_keep(&resume_plan, RESUME_QUERY, lengthof(types), types);
	write_schedules(resume_plan, values, NULL);
	resumes = SPI_processed == 1 && row_uuid(0, 1, &before);
	until = resumes ? row_time(0, 2) : 0;
	plan_keep(&delete_plan, "DELETE FROM payment.fee_schedule WHERE id = $1",
			  lengthof(types), types);
	write_schedules(delete_plan, values, NULL);
	if (resumes)
		write_end(&before, until);
}

static void
write_own_end(const pg_uuid_t *id, TimestampTz until)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID, TIMESTAMPTZOID };
	Datum values[] = { UUIDPGetDatum(id), TimestampTzGetDatum(until) };

	plan_keep(&plan,
			  "UPDATE payment.fee_schedule SET effective_until = $2, "
			  "open_ended = false WHERE id = $1",
			  lengthof(types), types);
	if (write_schedules(plan, values, NULL) != 1)
		elog(ERROR, "a fee schedule vanished");
}

/* true: it was in force or will be for a while; false: it never will be */
static bool
end_schedule(Neighbour *schedule, TimestampTz until)
{
	TimestampTz now = GetCurrentTimestamp();

	read_existing(schedule);
	if (schedule->until <= now || schedule->until < until)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_FEE_SCHEDULE_FIXED),
				 errmsg("fee schedule ends earlier"),
				 errdetail("Schedule %s ends at %s.", uuid_text(&schedule->id),
						   timestamptz_to_str(schedule->until)),
				 errhint("Set another one for the time after it.")));
	if (schedule->from > now && schedule->from >= until)
	{
		withdraw(&schedule->id);
		return false;
	}
	/* it may be that now is the moment when it began */
	write_own_end(&schedule->id, Max(Max(until, now), schedule->from + 1));
	return true;
}

/*
 * payment.end_fee_schedule(schedule, effective_until) -> boolean
 */
Datum
payment_end_fee_schedule(PG_FUNCTION_ARGS)
{
	Neighbour	schedule = { .id = *uuid_argument(fcinfo, 0, "schedule") };
	TimestampTz until = GetCurrentTimestamp();
	int			nest_level;
	bool		remains;

	if (!PG_ARGISNULL(1))
	{
		until = PG_GETARG_TIMESTAMPTZ(1);
		check_time(until, "effective_until");
	}
	nest_level = batch_begin();
	lock_schedules();
	remains = end_schedule(&schedule, until);
	batch_end(nest_level);
	PG_RETURN_BOOL(remains);
}
