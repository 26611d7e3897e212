/*-------------------------------------------------------------------------
 *
 * waiting.c
 *	  Orders that wait at a PSP that does not work go on to the next one.
 *
 * While a circuit breaker is open its tasks stay in the queue.  A payment with
 * a route need not wait for that: as long as nothing was ever sent for an
 * order, another PSP may have it without any risk of charging twice.
 *
 * Only that counts here: there is no attempt, the task was never claimed nor
 * doubted (queue.c), and its row is locked, so that nobody claims it
 * meanwhile; and no PSP tells of it, and nobody looks into a charge of it.  All
 * else waits for the PSP to come back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/timestamp.h"

#include "argument.h"
#include "errcodes.h"
#include "order/batch.h"
#include "order/move.h"
#include "order/plan.h"
#include "order/transition.h"
#include "order/typed_argument.h"
#include "payment.h"

PG_FUNCTION_INFO_V1(payment_move_waiting_orders);

#define MOVE_MAX_ORDERS 10000

/* what was never sent, in the lane of new payments (claim_read.c) */
#define UNSENT(t)                                                     \
	t ".psp_id = $1 AND (" t ".operation = 'payout') = false AND (" t \
	  ".step = 'lookup' OR " t ".tries > 0) = false AND " t           \
	  ".dead_at IS NULL AND " t ".attempt_id IS NULL AND " t          \
	  ".first_sent_at IS NULL AND " t ".last_sent_at IS NULL"

#define IS_CLOSED(psp)                                           \
	"NOT EXISTS (SELECT FROM payment.circuit_breaker AS b WHERE" \
	" b.psp_id = " psp " AND b.state <> 'closed')"

/*
 * Many tasks may have one run_at, as one call made them: they are looked at
 * together, so that the next call can begin after them.  Not without end: what
 * is beyond waits for its PSP, or for those before it to have gone on.
 */
#define LOOK_QUERY                                      \
	"SELECT l.id, l.run_at FROM (SELECT t.id, t.run_at" \
	" FROM payment.task AS t WHERE " UNSENT(            \
		"t") " AND t.run_at > $2 ORDER BY t.run_at"     \
			 " FETCH FIRST $3 ROWS WITH TIES) AS l"     \
			 " ORDER BY l.run_at LIMIT 100000"

#define LOCK_QUERY                                                            \
	"SELECT t.id, o.id, next.id, next.token FROM unnest($2) AS u (id)"        \
	" JOIN payment.task AS t ON t.id = ANY (ARRAY[u.id])"                     \
	" JOIN payment.order_record AS o ON o.id = t.object_id"                   \
	" JOIN payment.payment_record AS p ON p.id = o.payment_id"                \
	" CROSS JOIN LATERAL (SELECT v.id, p.payment_methods ->> v.name AS token" \
	"  FROM unnest(p.route) WITH ORDINALITY AS r (psp_id, number)"            \
	"  JOIN payment.psp AS v ON v.id = r.psp_id"                              \
	"  WHERE v.state = 'active' AND v.id <> $1"                               \
	"  AND p.payment_methods ? v.name AND " IS_CLOSED(                        \
		"v.id") "  ORDER BY r.number LIMIT 1) AS next"                        \
				" WHERE " UNSENT(                                             \
					"t") " AND o.routed AND o.status = 'created'"             \
						 " AND o.psp_id = $1 AND NOT EXISTS (SELECT FROM "    \
						 "payment.attempt AS a"                               \
						 "  WHERE a.object_id = o.id AND a.id > o.id)"        \
						 " AND NOT " SAYS_SENT("o.id") " AND "                \
													   "NOT " MAY_BE_CHARGED( \
														   "o.id") " FOR "    \
																   "UPDATE "  \
																   "OF t "    \
																   "SKIP "    \
																   "LOCKED"

static bool
is_broken(Datum psp_id)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID };

	if (batch_run(plan_keep(&plan,
							"SELECT NOT " IS_CLOSED(
								"v.id") " FROM payment.psp"
										" AS v WHERE v.id = $1",
							lengthof(types), types),
				  &psp_id, NULL) == 0)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_UNKNOWN_PSP),
						errmsg("PSP does not exist"),
						errdetail("There is none with that id."),
						errhint("Pass an id from payment.psp.")));
	return row_bool(0, 1);
}

/* Returns how far it looked; 0: there is nothing beyond. */
static TimestampTz
look(Datum psp_id, TimestampTz after, int32 max_orders, Column *tasks)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, TIMESTAMPTZOID, INT8OID };
	Datum			  values[] = { psp_id, TimestampTzGetDatum(after),
								   Int64GetDatum(max_orders) };
	uint64			  count =
		batch_run(plan_keep(&plan, LOOK_QUERY, lengthof(types), types), values,
				  NULL);

	column_init(tasks, UUIDOID);
	for (uint64 row = 0; row < count; row++)
	{
		pg_uuid_t *id = palloc(sizeof(pg_uuid_t));

		row_uuid(row, 1, id);
		column_add_uuid(tasks, id);
	}
	return count < (uint64) max_orders ? 0 : row_time(count - 1, 2);
}

/* Moving and cancelling may meet: then the order is not "created" any more. */
static void
write_orders(const Column *moves, Column *moved)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, UUIDARRAYOID, UUIDARRAYOID,
								  TEXTARRAYOID };
	Datum			  values[lengthof(types)];
	uint64			  count;

	for (int i = 0; i < (int) lengthof(types); i++)
		values[i] = column_array(&moves[i]);
	count = order_write(
		plan_keep(&plan,
				  "UPDATE payment.order_record AS o SET psp_id = u.psp_id,"
				  " payment_method = u.token"
				  " FROM unnest($1, $2, $3, $4) AS u (task_id, id, psp_id,"
				  " token) WHERE o.id = u.id AND o.status = 'created'"
				  " RETURNING u.task_id",
				  lengthof(types), types),
		values, NULL, CAUSE_POLICY);
	column_init(moved, UUIDOID);
	for (uint64 row = 0; row < count; row++)
	{
		pg_uuid_t *id = palloc(sizeof(pg_uuid_t));

		row_uuid(row, 1, id);
		column_add_uuid(moved, id);
	}
}

/* The tasks are locked: what the orders say is what they say. */
static void
write_tasks(const Column *moved)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, TIMESTAMPTZOID };
	Datum			  values[] = { column_array(moved),
								   TimestampTzGetDatum(GetCurrentTimestamp()) };

	if (batch_run(plan_keep(&plan,
							"UPDATE payment.task AS t SET psp_id = o.psp_id,"
							" run_at = least(t.run_at, $2)"
							" FROM unnest($1) AS u (id), payment.order_record"
							" AS o WHERE t.id = ANY (ARRAY[u.id])"
							" AND o.id = t.object_id",
							lengthof(types), types),
				  values, NULL) != (uint64) moved->count)
		elog(ERROR, "the task of an order that moves is missing");
	payment_wake_dispatcher_at_commit();
}

static int
move_orders(Datum psp_id, const Column *tasks)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, UUIDARRAYOID };
	Datum			  values[] = { psp_id, column_array(tasks) };
	Column			  moves[4];
	Column			  moved;
	uint64			  count =
		batch_run(plan_keep(&plan, LOCK_QUERY, lengthof(types), types), values,
				  NULL);

	if (count == 0)
		return 0;
	for (int i = 0; i < 4; i++)
		column_init(&moves[i], i < 3 ? UUIDOID : TEXTOID);
	for (uint64 row = 0; row < count; row++)
	{
		pg_uuid_t *ids = palloc(3 * sizeof(pg_uuid_t));

		for (int i = 0; i < 3; i++)
		{
			row_uuid(row, i + 1, &ids[i]);
			column_add_uuid(&moves[i], &ids[i]);
		}
		column_add_text(&moves[3], row_text(row, 4));
	}
	write_orders(moves, &moved);
	if (moved.count > 0)
		write_tasks(&moved);
	return moved.count;
}

static int32
max_orders_argument(FunctionCallInfo fcinfo, int number)
{
	int32 value = PG_ARGISNULL(number) ? 0 : PG_GETARG_INT32(number);

	if (value < 1 || value > MOVE_MAX_ORDERS)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
				 errmsg("invalid value for argument \"max_orders\""),
				 errdetail("It has to be between 1 and %d.", MOVE_MAX_ORDERS),
				 errhint("1000 are enough for one transaction.")));
	return value;
}

/*
 * payment.move_waiting_orders(psp uuid, max_orders integer, after timestamptz)
 * -> (moved integer, looked_until timestamptz)
 */
Datum
payment_move_waiting_orders(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = { false };
	Column		tasks;
	Datum		psp_id;
	TimestampTz after =
		PG_ARGISNULL(2) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(2);
	TimestampTz looked_until = 0;
	int32		max_orders = max_orders_argument(fcinfo, 1);
	int			moved = 0;
	int			nest_level;

	refuse_null(fcinfo, 0, "psp");
	psp_id = PG_GETARG_DATUM(0);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "move_waiting_orders() returns a row");
	nest_level = batch_begin();
	if (is_broken(psp_id))
	{
		looked_until = look(psp_id, after, max_orders, &tasks);
		if (tasks.count > 0)
			moved = move_orders(psp_id, &tasks);
	}
	batch_end(nest_level);
	values[0] = Int32GetDatum(moved);
	values[1] = TimestampTzGetDatum(looked_until);
	nulls[1] = looked_until == 0;
	return HeapTupleGetDatum(
		heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}
