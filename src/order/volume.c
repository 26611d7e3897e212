/*-------------------------------------------------------------------------
 *
 * volume.c
 *	  What a seller has captured in a currency, for tiers of fees.
 *
 * A sum over the ledger's entries would be exact and grow dearer with every
 * sale of those who sell most; so a narrow table keeps a sum for each seller,
 * currency and day (of UTC).  A row that every capture of a seller writes
 * would make captures wait for each other.  So each backend has a slot, a row
 * of its own: nobody waits, no two captures deadlock, and none fails to
 * serialize.  (Only a backend that leaves a prepared transaction behind may
 * find its slot locked.)
 *
 * Nothing is counted before a schedule with tiers asks for it.  Captures look
 * whether any does, under a lock on counted_volume that they keep until they
 * commit.  Whoever begins to count takes that lock alone: captures are then
 * either committed, and found in the ledger, or will count themselves.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "order/batch.h"
#include "order/plan.h"
#include "order/transition.h"
#include "order/volume.h"
#include "uuid7.h"

#define LARGEST "9223372036854775807"

/* unique among those that are running */
#if PG_VERSION_NUM >= 170000
#define OWN_SLOT ((int32) MyProcNumber)
#else
#define OWN_SLOT ((int32) MyBackendId)
#endif

static const struct
{
	const char	*name;
	VolumeWindow window;
} windows[] = {
	{ "month", VOLUME_MONTH },
	{ "rolling_30_days", VOLUME_ROLLING_30_DAYS },
};

const char *
volume_window_name(VolumeWindow window)
{
	return windows[window].name;
}

bool
volume_window_by_name(const char *name, VolumeWindow *window)
{
	for (int i = 0; i < (int) lengthof(windows); i++)
	{
		if (strcmp(windows[i].name, name) != 0)
			continue;
		*window = windows[i].window;
		return true;
	}
	return false;
}

static DateADT
day_of(TimestampTz at)
{
	int64 day = at / USECS_PER_DAY;

	if (at % USECS_PER_DAY < 0)
		day--;
	return (DateADT) day;
}

static DateADT
first_day(VolumeWindow window, DateADT today)
{
	int year;
	int month;
	int day;

	if (window == VOLUME_ROLLING_30_DAYS)
		return today - 29;
	j2date(today + POSTGRES_EPOCH_JDATE, &year, &month, &day);
	return today - (day - 1);
}

/* what is committed now, at every isolation level */
static uint64
read_latest(SPIPlanPtr plan, Datum *values, const char *nulls)
{
	int code = SPI_execute_snapshot(plan, values, nulls, GetLatestSnapshot(),
									InvalidSnapshot, true, false, 0);

	if (code < 0)
		elog(ERROR, "SPI_execute_snapshot failed: %s",
			 SPI_result_code_string(code));
	return SPI_processed;
}

static uint64
write_latest(SPIPlanPtr plan, Datum *values, const char *nulls)
{
	return order_write_at(plan, values, nulls, GetLatestSnapshot(),
						  CAUSE_POLICY);
}

/*
 * Lock counted_volume until the transaction ends.  Returns whether it could
 * hold anything: where no tiers ever were, that is all a capture does.
 */
static bool
lock_counted(void)
{
	Oid		 relid = get_relname_relid("counted_volume",
									   get_namespace_oid("payment", false));
	Relation rel = table_open(relid, AccessShareLock);
	bool	 found = RelationGetNumberOfBlocks(rel) > 0;

	table_close(rel, NoLock);
	return found;
}

static int
compare_captures(const void *a, const void *b)
{
	const Capture *left = a;
	const Capture *right = b;
	int			   order = uuid_compare(&left->seller_id, &right->seller_id);

	return order != 0 ? order : strcmp(left->currency, right->currency);
}

/* one for each seller and currency, sorted */
static Capture *
sum_captures(const Capture *captures, int *count)
{
	Capture *sums = palloc(sizeof(Capture) * *count);
	int		 total = 0;

	memcpy(sums, captures, sizeof(Capture) * *count);
	qsort(sums, *count, sizeof(Capture), compare_captures);
	for (int i = 0; i < *count; i++)
	{
		Capture *last = total > 0 ? &sums[total - 1] : NULL;

		if (last == NULL || compare_captures(last, &sums[i]) != 0)
			sums[total++] = sums[i];
		else if (pg_add_s64_overflow(last->amount, sums[i].amount,
									 &last->amount))
			last->amount = PG_INT64_MAX;
	}
	*count = total;
	return sums;
}

/* Those whose days are over go when a new day begins. */
static void
forget_old_days(const Column *sellers, const Column *currencies, DateADT today)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDARRAYOID, TEXTARRAYOID, DATEOID };
	Datum			  values[lengthof(types)];

	/* another one may be at it: there it would be a serialization failure */
	if (IsolationUsesXactSnapshot())
		return;
	values[0] = column_array(sellers);
	values[1] = column_array(currencies);
	values[2] = DateADTGetDatum(today - VOLUME_KEPT_DAYS);
	plan_keep(&plan,
			  "DELETE FROM payment.seller_volume AS v USING ("
			  " SELECT o.seller_id, o.currency, o.day, o.slot"
			  " FROM unnest($1, $2) AS u (seller_id, currency)"
			  " JOIN payment.seller_volume AS o"
			  " ON o.seller_id = u.seller_id AND o.currency = u.currency"
			  " AND o.day < $3 FOR UPDATE OF o SKIP LOCKED) AS old"
			  " WHERE v.seller_id = old.seller_id"
			  " AND v.currency = old.currency AND v.day = old.day"
			  " AND v.slot = old.slot",
			  lengthof(types), types);
	write_latest(plan, values, NULL);
}

/* A sum that fits no bigint is the largest: no capture fails for its fee. */
#define ADD_QUERY                                                          \
	"INSERT INTO payment.seller_volume AS v"                               \
	" (seller_id, currency, day, slot, amount)"                            \
	" SELECT u.seller_id, u.currency, $4, $5, u.amount"                    \
	" FROM unnest($1, $2, $3) AS u (seller_id, currency, amount)"          \
	" WHERE EXISTS (SELECT FROM payment.counted_volume AS c"               \
	"  WHERE c.currency = u.currency AND c.seller_id = u.seller_id)"       \
	" OR EXISTS (SELECT FROM payment.counted_volume AS c"                  \
	"  WHERE c.currency = u.currency AND c.seller_id IS NULL)"             \
	" ON CONFLICT (seller_id, currency, day, slot) DO UPDATE SET amount =" \
	" CASE WHEN v.amount > " LARGEST " - excluded.amount THEN " LARGEST    \
	" ELSE v.amount + excluded.amount END"                                 \
	" RETURNING v.seller_id, v.currency, v.xmax = 0"

void
volume_add(const Capture *captures, int count)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDARRAYOID, TEXTARRAYOID, INT8ARRAYOID,
								  DATEOID, INT4OID };
	DateADT			  today = day_of(GetCurrentTimestamp());
	Column			  sellers, currencies, amounts;
	Datum			  values[lengthof(types)];
	Capture			 *sums;
	uint64			  written;

	if (count == 0 || !lock_counted())
		return;
	sums = sum_captures(captures, &count);
	column_init(&sellers, UUIDOID);
	column_init(&currencies, TEXTOID);
	column_init(&amounts, INT8OID);
	for (int i = 0; i < count; i++)
	{
		column_add_uuid(&sellers, &sums[i].seller_id);
		column_add_text(&currencies, sums[i].currency);
		column_add_int64(&amounts, sums[i].amount);
	}
	values[0] = column_array(&sellers);
	values[1] = column_array(&currencies);
	values[2] = column_array(&amounts);
	values[3] = DateADTGetDatum(today);
	values[4] = Int32GetDatum(OWN_SLOT);
	written = write_latest(plan_keep(&plan, ADD_QUERY, lengthof(types), types),
						   values, NULL);

	column_init(&sellers, UUIDOID);
	column_init(&currencies, TEXTOID);
	for (uint64 row = 0; row < written; row++)
	{
		pg_uuid_t *seller_id = palloc(sizeof(pg_uuid_t));

		row_uuid(row, 1, seller_id);
		if (!row_bool(row, 3))
			continue;
		column_add_uuid(&sellers, seller_id);
		column_add_text(&currencies, row_text(row, 2));
	}
	if (sellers.count > 0)
		forget_old_days(&sellers, &currencies, today);
}

void
volume_read(VolumeQuery *queries, int count, TimestampTz at)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDARRAYOID, TEXTARRAYOID, DATEARRAYOID,
								  DATEOID };
	DateADT			  today = day_of(at);
	Column			  sellers, currencies, days;
	Datum			  values[lengthof(types)];

	column_init(&sellers, UUIDOID);
	column_init(&currencies, TEXTOID);
	column_init(&days, DATEOID);
	for (int i = 0; i < count; i++)
	{
		column_add_uuid(&sellers, &queries[i].seller_id);
		column_add_text(&currencies, queries[i].currency);
		column_add(&days, DateADTGetDatum(first_day(queries[i].window, today)),
				   false);
	}
	values[0] = column_array(&sellers);
	values[1] = column_array(&currencies);
	values[2] = column_array(&days);
	values[3] = DateADTGetDatum(today);
	plan_keep(&plan,
			  "SELECT (SELECT least(coalesce(sum(v.amount), 0), " LARGEST
			  ")::bigint FROM payment.seller_volume AS v"
			  " WHERE v.seller_id = u.seller_id AND v.currency = u.currency"
			  " AND v.day >= u.day AND v.day <= $4)"
			  " FROM ROWS FROM (unnest($1), unnest($2), unnest($3))"
			  " WITH ORDINALITY AS u (seller_id, currency, day, n)"
			  " ORDER BY u.n",
			  lengthof(types), types);
	if (read_latest(plan, values, NULL) != (uint64) count)
		elog(ERROR, "reading volumes lost rows");
	for (int i = 0; i < count; i++)
		queries[i].volume = row_int64(i, 1);
}

static bool
is_counted(const pg_uuid_t *seller, const char *currency)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID, TEXTOID };
	Datum values[] = { UUIDPGetDatum(seller), CStringGetTextDatum(currency) };

	plan_keep(&plan,
			  "SELECT FROM payment.counted_volume AS c WHERE c.currency = $2 "
			  "AND (c.seller_id = $1 OR c.seller_id IS NULL) LIMIT 1",
			  lengthof(types), types);
	return read_latest(plan, values, seller ? NULL : "n ") > 0;
}

/*
 * A capture is debits that sum to what the payer paid.  Sellers that are
 * counted already have theirs.
 */
#define BACKFILL_QUERY                                                      \
	"INSERT INTO payment.seller_volume"                                     \
	" (seller_id, currency, day, slot, amount)"                             \
	" SELECT o.seller_id, o.currency,"                                      \
	"  (j.recorded_at AT TIME ZONE 'UTC')::date, 0,"                        \
	"  least(sum(d.amount), " LARGEST ")::bigint"                           \
	" FROM payment.journal AS j"                                            \
	" JOIN payment.order_record AS o ON o.id = j.subject"                   \
	" CROSS JOIN LATERAL (SELECT sum(e.amount) AS amount"                   \
	"  FROM payment.entry AS e WHERE e.journal_id = j.id AND e.amount > 0)" \
	"  AS d"                                                                \
	" WHERE j.kind = 'capture' AND j.id >= payment.id_floor($3)"            \
	" AND o.currency = $2 AND ($1 IS NULL OR o.seller_id = $1)"             \
	" AND NOT EXISTS (SELECT FROM payment.counted_volume AS c"              \
	"  WHERE c.seller_id = o.seller_id AND c.currency = o.currency)"        \
	" GROUP BY 1, 2, 3"

void
volume_count_for(const pg_uuid_t *seller, const char *currency)
{
	static SPIPlanPtr lock_plan = NULL;
	static SPIPlanPtr insert_plan = NULL;
	static SPIPlanPtr backfill_plan = NULL;
	static const Oid  types[] = { UUIDOID, TEXTOID, TIMESTAMPTZOID, UUIDOID };
	TimestampTz		  now = GetCurrentTimestamp();
	const char		 *nulls = seller ? "    " : "n   ";
	pg_uuid_t		  id;
	Datum			  values[lengthof(types)];

	if (is_counted(seller, currency))
		return;
	batch_run(plan_keep(&lock_plan,
						"LOCK TABLE payment.counted_volume"
						" IN ACCESS EXCLUSIVE MODE",
						0, NULL),
			  NULL, NULL);
	if (is_counted(seller, currency))
		return;
	uuid7_generate(&id);
	values[0] = UUIDPGetDatum(seller);
	values[1] = CStringGetTextDatum(currency);
	values[2] =
		TimestampTzGetDatum((day_of(now) - VOLUME_KEPT_DAYS) * USECS_PER_DAY);
	values[3] = UUIDPGetDatum(&id);
	write_latest(plan_keep(&backfill_plan, BACKFILL_QUERY, lengthof(types) - 1,
						   types),
				 values, nulls);
	write_latest(plan_keep(&insert_plan,
						   "INSERT INTO payment.counted_volume"
						   " (id, seller_id, currency, since)"
						   " SELECT $4, $1, $2,"
						   " ($3 AT TIME ZONE 'UTC')::date",
						   lengthof(types), types),
				 values, nulls);
}
