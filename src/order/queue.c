/*-------------------------------------------------------------------------
 *
 * queue.c
 *	  The queue of tasks seen from outside: when to look at it again, what a
 *	  dispatcher that starts finds, what people bring back from the dead.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "errcodes.h"
#include "order/batch.h"
#include "order/lane.h"
#include "order/plan.h"
#include "order/queue.h"
#include "payment.h"

PG_FUNCTION_INFO_V1(payment_expire_leases);
PG_FUNCTION_INFO_V1(payment_next_task_due);
PG_FUNCTION_INFO_V1(payment_retry_dead_letter);

/*
 * payment.expire_leases() -> bigint
 *
 * Only for a dispatcher that knows it is the only one: what it finds claimed
 * was claimed by one that is gone.
 */
Datum
payment_expire_leases(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { TIMESTAMPTZOID };
	Datum			  now = TimestampTzGetDatum(GetCurrentTimestamp());
	uint64			  count;

	(void) fcinfo;
	spi_begin();
	count = batch_run(plan_keep(&plan,
								"UPDATE payment.task SET run_at = $1"
								" WHERE attempt_id IS NOT NULL"
								" AND dead_at IS NULL AND run_at > $1",
								1, types),
					  &now, NULL);
	spi_end();
	PG_RETURN_INT64((int64) count);
}

/*
 * What was never sent from here may have been sent, at the earliest when it
 * was made.  What is claimed becomes a lapsed claim, which is looked up too.
 */
int64
queue_doubt(bool all)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { TIMESTAMPTZOID, BOOLOID };
	Datum			  values[] = { TimestampTzGetDatum(GetCurrentTimestamp()),
								   BoolGetDatum(all) };

	return (int64) batch_run(
		plan_keep(&plan,
				  "UPDATE payment.task AS t SET"
				  " run_at = CASE WHEN t.attempt_id IS NULL THEN t.run_at"
				  " ELSE least(t.run_at, $1) END,"
				  " step = CASE WHEN t.attempt_id IS NULL THEN 'lookup'"
				  " ELSE t.step END,"
				  " first_sent_at = coalesce(t.first_sent_at,"
				  " payment.id_time(t.object_id)),"
				  " last_sent_at = CASE WHEN $2 THEN $1"
				  " ELSE t.last_sent_at END"
				  " WHERE $2 OR t.attempt_id IS NOT NULL",
				  2, types),
		values, NULL);
}

/*
 * payment.next_task_due(psp uuid, lane_limits int[]) -> timestamptz
 *
 * NULL when no task waits.
 */
Datum
payment_next_task_due(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, INT4ARRAYOID };
	Datum			  values[2] = { 0 };
	char			  nulls[] = { PG_ARGISNULL(0) ? 'n' : ' ', ' ' };
	LaneLimits		  limits;
	TimestampTz		  due;
	int				  nest_level;

	if (!PG_ARGISNULL(0))
		values[0] = PG_GETARG_DATUM(0);
	lane_limits(fcinfo, 1, 1, &limits);
	values[1] = lane_most(&limits);
	nest_level = batch_begin();
	batch_run(plan_keep(&plan,
						"SELECT min(first.run_at) FROM payment.psp AS p"
						" CROSS JOIN " LANES_SQL
						", LATERAL (SELECT t.run_at FROM payment.task AS t"
						" WHERE t.psp_id = p.id AND t.dead_at IS NULL"
						" AND (t.operation = 'payout') = lane.payout"
						" AND (t.step = 'lookup' OR t.tries > 0)"
						" = lane.repeated"
						" ORDER BY t.run_at LIMIT 1) AS first"
						" WHERE p.state = 'active' AND $2[lane.number] > 0"
						" AND ($1 IS NULL OR p.id = $1)",
						2, types),
			  values, nulls);
	due = row_time(0, 1);
	batch_end(nest_level);
	if (due == 0)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(due);
}

/*
 * payment.retry_dead_letter(task uuid) -> boolean
 *
 * False when it is not dead: brought back before, or resolved since.
 */
Datum
payment_retry_dead_letter(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, TIMESTAMPTZOID };
	Datum			  values[2];
	uint64			  count;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("argument \"task\" must not be null")));
	values[0] = PG_GETARG_DATUM(0);
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp());

	spi_begin();
	count = batch_run(
		plan_keep(&plan,
				  "UPDATE payment.task AS t SET dead_at = NULL, tries = 0,"
				  " run_at = $2, step = CASE WHEN t.first_sent_at"
				  " <= $2 - p.key_lifetime_s * interval '1 s'"
				  " THEN 'lookup' ELSE t.step END"
				  " FROM payment.psp AS p WHERE t.id = $1"
				  " AND t.dead_at IS NOT NULL AND p.id = t.psp_id",
				  2, types),
		values, NULL);
	spi_end();
	if (count > 0)
		payment_wake_dispatcher_at_commit();
	PG_RETURN_BOOL(count > 0);
}
