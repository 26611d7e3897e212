/*-------------------------------------------------------------------------
 *
 * status.c
 *	  payment.worker_status: what the dispatchers are doing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "shared.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(payment_worker_slots);

#define SLOT_COLUMNS 16

typedef struct SlotRow
{
	Datum values[SLOT_COLUMNS];
	bool  nulls[SLOT_COLUMNS];
	int	  count;
} SlotRow;

static void
add(SlotRow *row, bool is_null, Datum value)
{
	row->nulls[row->count] = is_null;
	row->values[row->count++] = value;
}

static void
add_time(SlotRow *row, TimestampTz at)
{
	add(row, at == 0, TimestampTzGetDatum(at));
}

static void
add_count(SlotRow *row, pg_atomic_uint64 *counter)
{
	add(row, false, Int64GetDatum((int64) pg_atomic_read_u64(counter)));
}

/* Another database's errors are nobody's business here. */
static void
add_error(SlotRow *row, const DispatcherSlot *copy)
{
	bool hidden = copy->error[0] == '\0' || copy->database_id != MyDatabaseId;

	add(row, hidden, hidden ? (Datum) 0 : CStringGetTextDatum(copy->error));
	add(row, hidden, TimestampTzGetDatum(copy->error_at));
}

static bool
make_row(DispatcherSlot *slot, SlotRow *row)
{
	DispatcherSlot copy;

	SpinLockAcquire(&worker_shared->mutex);
	copy.state = slot->state;
	copy.serves = slot->serves;
	copy.database_id = slot->database_id;
	copy.pid = slot->pid;
	copy.started_at = slot->started_at;
	copy.error_at = slot->error_at;
	memcpy(copy.error, slot->error, sizeof(copy.error));
	memcpy(copy.refusal, slot->refusal, sizeof(copy.refusal));
	SpinLockRelease(&worker_shared->mutex);
	if (copy.state != SLOT_RUNNING || !copy.serves)
		return false;

	memset(row, 0, sizeof(*row));
	add(row, false, ObjectIdGetDatum(copy.database_id));
	add(row, false, Int32GetDatum(copy.pid));
	add_time(row, copy.started_at);
	add_time(row, (TimestampTz) pg_atomic_read_u64(&slot->heartbeat_at));
	add(row, false,
		Int32GetDatum((int32) pg_atomic_read_u32(&slot->in_flight)));
	add_count(row, &slot->sent);
	add_count(row, &slot->recorded);
	add_count(row, &slot->succeeded);
	add_count(row, &slot->declined);
	add_count(row, &slot->unknown);
	add_count(row, &slot->retried);
	add(row, false,
		NumericGetDatum(
			int64_div_fast_to_numeric(pg_atomic_read_u32(&slot->milli_rate),
									  3)));
	add(row, false,
		Int32GetDatum((int32) pg_atomic_read_u32(&slot->breakers_open)));
	add_error(row, &copy);
	add(row, copy.refusal[0] == '\0', CStringGetTextDatum(copy.refusal));
	return true;
}

/*
 * One row for each dispatcher of the server; none when there is no worker.
 */
Datum
payment_worker_slots(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	if (result->setDesc->natts != SLOT_COLUMNS)
		elog(ERROR, "payment.worker_slots has %d columns, not %d",
			 result->setDesc->natts, SLOT_COLUMNS);
	for (int i = 0; worker_shared && i < worker_shared->slot_count; i++)
	{
		SlotRow row;

		if (make_row(&worker_shared->slots[i], &row))
			tuplestore_putvalues(result->setResult, result->setDesc,
								 row.values, row.nulls);
	}
	return (Datum) 0;
}
