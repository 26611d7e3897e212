/*-------------------------------------------------------------------------
 *
 * housekeeping.c
 *	  What a dispatcher does now and then besides sending.
 *
 * A duty is an SQL function that takes the most things to do in one call and
 * returns how many it did.  Each call is a transaction of its own, so that one
 * duty's failure stops no other, and a turn of the loop makes one call at
 * most, so that payments do not wait for it.  A duty that did all it was
 * allowed to is called again soon; otherwise, and after an error, it waits for
 * its interval.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "housekeeping.h"
#include "utils/timestamp.h"

/* so that most of the time is left for payments */
#define REPEAT_DELAY_MS 200

typedef struct Duty
{
	const char *activity;	 /* as pg_stat_activity shows it */
	const char *query;		 /* $1: the most to do; a bigint, what was done */
	int			batch;		 /* $1 */
	int			interval_ms; /* when there is nothing more to do */
	TimestampTz due_at;
	SPIPlanPtr	plan;
} Duty;

/* To add a duty, add a line.  All are due when a dispatcher starts. */
static Duty duties[] = {
	{ .activity = "keep partitions ahead",
	  .query = "SELECT payment.keep_partitions_ahead($1)",
	  .batch = 1,
	  .interval_ms = 600 * 1000 },
	{ .activity = "merge balance slots",
	  .query = "SELECT payment.merge_balance_slots($1)",
	  .batch = 200,
	  .interval_ms = 60 * 1000 },
	{ .activity = "expire holds",
	  .query = "SELECT payment.expire_holds($1)",
	  .batch = 1000,
	  .interval_ms = 5 * 1000 },
	{ .activity = "note standbys",
	  .query = "SELECT payment.note_standbys($1)",
	  .batch = 64,
	  .interval_ms = 5 * 1000 },
	{ .activity = "undo partial failures",
	  .query = "SELECT payment.undo_partial_failures($1)",
	  .batch = 10,
	  .interval_ms = 1000 },
	{ .activity = "expire authorisations",
	  .query = "SELECT payment.expire_authorizations($1)",
	  .batch = 100,
	  .interval_ms = 60 * 1000 },
	{ .activity = "retry webhooks",
	  .query = "SELECT payment.retry_webhooks($1)",
	  .batch = 100,
	  .interval_ms = 1000 },
};

static Duty *
first_due(void)
{
	Duty *first = &duties[0];

	for (size_t i = 1; i < lengthof(duties); i++)
	{
		if (duties[i].due_at < first->due_at)
			first = &duties[i];
	}
	return first;
}

TimestampTz
housekeeping_due_at(void)
{
	return first_due()->due_at;
}

void
housekeeping_make_due(void)
{
	for (size_t i = 0; i < lengthof(duties); i++)
		duties[i].due_at = 0;
}

static int64
call(Duty *duty)
{
	Oid	  types[] = { INT4OID };
	Datum value = Int32GetDatum(duty->batch);
	Datum done;
	bool  is_null;

	if (duty->plan == NULL)
	{
		SPIPlanPtr fresh = SPI_prepare(duty->query, lengthof(types), types);

		if (fresh == NULL)
			elog(ERROR, "SPI_prepare failed: %s",
				 SPI_result_code_string(SPI_result));
		if (SPI_keepplan(fresh) != 0)
			elog(ERROR, "SPI_keepplan failed");
		duty->plan = fresh;
	}
	if (SPI_execute_plan(duty->plan, &value, NULL, false, 0) !=
			SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not %s", duty->activity);
	done = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
						 &is_null);
	return is_null ? 0 : DatumGetInt64(done);
}

Presence
housekeeping_run(void)
{
	Duty *volatile duty = first_due();
	volatile Presence presence = EXTENSION_BUSY;
	volatile int64	  done = 0;

	PG_TRY();
	{
		presence = session_begin(duty->activity);
		if (presence == EXTENSION_PRESENT)
			done = call(duty);
		session_commit(presence);
	}
	PG_CATCH();
	{
		session_abort();
	}
	PG_END_TRY();

	duty->due_at =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
									done < duty->batch ? duty->interval_ms
													   : REPEAT_DELAY_MS);
	return presence;
}
