/*-------------------------------------------------------------------------
 *
 * statistics.c
 *	  What the dispatchers count for each PSP, in shared memory, and the
 *	  functions that show it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "payment.h"
#include "shared.h"
#include "statistics.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(payment_worker_psps);
PG_FUNCTION_INFO_V1(payment_worker_latencies);

/* the time by which the rate forgets what was */
#define RATE_MEMORY_S 10.0
#define RATE_STEP_US INT64CONST(500000)

#define PSP_COLUMNS 10
#define LATENCY_COLUMNS 5

typedef struct Statistics
{
	slock_t		  mutex;
	int			  count;
	PspStatistics places[FLEXIBLE_ARRAY_MEMBER];
} Statistics;

/* Upper bounds; the last bucket has none. */
static const int bounds_ms[STATISTICS_BUCKETS - 1] = {
	5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000
};

static Statistics *shared = NULL;

static int
place_count(void)
{
	return payment_max_databases * STATISTICS_PSPS_PER_DATABASE;
}

Size
statistics_size(void)
{
	return add_size(offsetof(Statistics, places),
					mul_size(place_count(), sizeof(PspStatistics)));
}

static void
clear(PspStatistics *place)
{
	place->last_error_at = 0;
	place->last_error[0] = '\0';
	pg_atomic_init_u32(&place->in_flight, 0);
	pg_atomic_init_u32(&place->tokens, 0);
	pg_atomic_init_u32(&place->failures_in_row, 0);
	pg_atomic_init_u32(&place->milli_rate, 0);
	pg_atomic_init_u64(&place->paused_until, 0);
	pg_atomic_init_u64(&place->last_success_at, 0);
	pg_atomic_init_u64(&place->last_failure_at, 0);
	pg_atomic_init_u64(&place->sent, 0);
	for (int kind = 0; kind < STATISTICS_OUTCOMES; kind++)
	{
		pg_atomic_init_u64(&place->latency_ms[kind], 0);
		for (int bucket = 0; bucket < STATISTICS_BUCKETS; bucket++)
			pg_atomic_init_u64(&place->latencies[kind][bucket], 0);
	}
}

/* The caller holds AddinShmemInitLock. */
void
statistics_attach(void)
{
	bool found;

	shared = ShmemInitStruct("payment statistics", statistics_size(), &found);
	if (found)
		return;
	SpinLockInit(&shared->mutex);
	shared->count = place_count();
	for (int i = 0; i < shared->count; i++)
	{
		shared->places[i].database_id = InvalidOid;
		clear(&shared->places[i]);
	}
}

static bool
is_served(Oid database_id)
{
	for (int i = 0; i < worker_shared->slot_count; i++)
	{
		if (worker_shared->slots[i].state != SLOT_FREE &&
			worker_shared->slots[i].database_id == database_id)
			return true;
	}
	return false;
}

/*
 * Databases come and go: when no place is free, that of a database which
 * nobody serves any more is taken.
 */
PspStatistics *
statistics_of(const pg_uuid_t *psp_id)
{
	PspStatistics *mine = NULL;
	PspStatistics *vacant = NULL;

	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < shared->count && mine == NULL; i++)
	{
		PspStatistics *place = &shared->places[i];

		if (place->database_id == MyDatabaseId &&
			memcmp(&place->psp_id, psp_id, sizeof(*psp_id)) == 0)
			mine = place;
		else if (vacant == NULL && place->database_id == InvalidOid)
			vacant = place;
	}
	for (int i = 0; i < shared->count && !mine && !vacant; i++)
	{
		if (!is_served(shared->places[i].database_id))
			vacant = &shared->places[i];
	}
	if (mine == NULL && vacant != NULL)
	{
		mine = vacant;
		mine->database_id = MyDatabaseId;
		mine->psp_id = *psp_id;
		clear(mine);
	}
	SpinLockRelease(&shared->mutex);
	return mine;
}

void
statistics_add_latency(PspStatistics *statistics, PspOutcomeKind kind,
					   int latency_ms)
{
	int bucket = 0;

	if (statistics == NULL || kind >= STATISTICS_OUTCOMES)
		return;
	while (bucket < STATISTICS_BUCKETS - 1 && latency_ms > bounds_ms[bucket])
		bucket++;
	pg_atomic_fetch_add_u64(&statistics->latencies[kind][bucket], 1);
	pg_atomic_fetch_add_u64(&statistics->latency_ms[kind], latency_ms);
}

void
statistics_set_error(PspStatistics *statistics, const char *error,
					 TimestampTz at)
{
	char text[STATISTICS_ERROR_SIZE];

	if (statistics == NULL)
		return;
	strlcpy(text, error, sizeof(text));
	SpinLockAcquire(&shared->mutex);
	memcpy(statistics->last_error, text, sizeof(text));
	statistics->last_error_at = at;
	SpinLockRelease(&shared->mutex);
}

double
statistics_rate(RateMeter *meter, uint64 count, TimestampTz now)
{
	int64  elapsed_us = now - meter->counted_at;
	double elapsed_s = (double) elapsed_us / USECS_PER_SEC;
	double kept;

	if (meter->counted_at == 0 || elapsed_us < 0)
	{
		meter->counted = count;
		meter->counted_at = now;
		return meter->rate;
	}
	if (elapsed_us < RATE_STEP_US)
		return meter->rate;
	kept = exp(-elapsed_s / RATE_MEMORY_S);
	meter->rate = meter->rate * kept +
				  (double) (count - meter->counted) / elapsed_s * (1 - kept);
	meter->counted = count;
	meter->counted_at = now;
	return meter->rate;
}

/* ---- showing it ---- */

/* A copy of what the mutex protects; false when it is not of this database. */
static bool
copy_place(PspStatistics *place, PspStatistics *copy)
{
	SpinLockAcquire(&shared->mutex);
	copy->database_id = place->database_id;
	copy->psp_id = place->psp_id;
	copy->last_error_at = place->last_error_at;
	memcpy(copy->last_error, place->last_error, sizeof(copy->last_error));
	SpinLockRelease(&shared->mutex);
	return copy->database_id == MyDatabaseId;
}

static void
check_columns(const ReturnSetInfo *result, const char *name, int count)
{
	if (result->setDesc->natts != count)
		elog(ERROR, "payment.%s has %d columns, not %d", name,
			 result->setDesc->natts, count);
}

static Datum
time_value(pg_atomic_uint64 *at, bool *is_null)
{
	TimestampTz time = (TimestampTz) pg_atomic_read_u64(at);

	*is_null = time == 0;
	return TimestampTzGetDatum(time);
}

static void
put_psp(ReturnSetInfo *result, PspStatistics *place, PspStatistics *copy)
{
	Datum values[PSP_COLUMNS];
	bool  nulls[PSP_COLUMNS] = { false };

	values[0] = UUIDPGetDatum(&copy->psp_id);
	values[1] = Int32GetDatum(pg_atomic_read_u32(&place->in_flight));
	values[2] = Int32GetDatum(pg_atomic_read_u32(&place->tokens));
	values[3] = NumericGetDatum(
		int64_div_fast_to_numeric(pg_atomic_read_u32(&place->milli_rate), 3));
	values[4] = Int64GetDatum(pg_atomic_read_u64(&place->sent));
	values[5] = Int32GetDatum(pg_atomic_read_u32(&place->failures_in_row));
	values[6] = time_value(&place->paused_until, &nulls[6]);
	values[7] = time_value(&place->last_success_at, &nulls[7]);
	values[8] = time_value(&place->last_failure_at, &nulls[8]);
	nulls[9] = copy->last_error[0] == '\0';
	values[9] = CStringGetTextDatum(copy->last_error);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * payment.worker_psps(): one row for each PSP of this database that its
 * dispatcher has served.
 */
Datum
payment_worker_psps(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	check_columns(result, "worker_psps", PSP_COLUMNS);
	for (int i = 0; shared && i < shared->count; i++)
	{
		PspStatistics copy;

		if (copy_place(&shared->places[i], &copy))
			put_psp(result, &shared->places[i], &copy);
	}
	return (Datum) 0;
}

static void
put_latencies(ReturnSetInfo *result, PspStatistics *place, PspStatistics *copy,
			  PspOutcomeKind kind)
{
	uint64 requests = 0;
	uint64 counts[STATISTICS_BUCKETS];
	uint64 sum_ms = pg_atomic_read_u64(&place->latency_ms[kind]);

	for (int bucket = 0; bucket < STATISTICS_BUCKETS; bucket++)
	{
		counts[bucket] = pg_atomic_read_u64(&place->latencies[kind][bucket]);
		requests += counts[bucket];
	}
	if (requests == 0)
		return;
	requests = 0;
	for (int bucket = 0; bucket < STATISTICS_BUCKETS; bucket++)
	{
		Datum values[LATENCY_COLUMNS];
		bool  nulls[LATENCY_COLUMNS] = { false };

		requests += counts[bucket];
		values[0] = UUIDPGetDatum(&copy->psp_id);
		values[1] = CStringGetTextDatum(psp_outcome_name(kind));
		nulls[2] = bucket == STATISTICS_BUCKETS - 1;
		values[2] = Int32GetDatum(nulls[2] ? 0 : bounds_ms[bucket]);
		values[3] = Int64GetDatum((int64) requests);
		values[4] = Int64GetDatum((int64) sum_ms);
		tuplestore_putvalues(result->setResult, result->setDesc, values,
							 nulls);
	}
}

/*
 * payment.worker_latencies(): cumulative histograms of the same PSPs, for each
 * outcome that there was.
 */
Datum
payment_worker_latencies(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	check_columns(result, "worker_latencies", LATENCY_COLUMNS);
	for (int i = 0; shared && i < shared->count; i++)
	{
		PspStatistics *place = &shared->places[i];
		PspStatistics  copy;

		if (!copy_place(place, &copy))
			continue;
		for (int kind = 0; kind < STATISTICS_OUTCOMES; kind++)
			put_latencies(result, place, &copy, (PspOutcomeKind) kind);
	}
	return (Datum) 0;
}
