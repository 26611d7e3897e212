/*-------------------------------------------------------------------------
 *
 * delivery_queue.c
 *	  Events on their way to webhook endpoints, for the worker.
 *
 * A consumer with an endpoint has a queue: a bounded piece of its events, put
 * there in the commit that moves its position, so that none is lost or there
 * twice.  What the endpoint acknowledges leaves the queue; what it does not is
 * posted again, later and later, and set aside when that was too often.
 *
 * Invariant: of each object the event with the lowest number that is not set
 * aside has a time (run_at), and no other has.  So an event that fails keeps
 * back those of its own object, and of no other.  Whoever adds to a queue or
 * takes from it has the consumer locked; nobody waits for that lock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "event/consumer.h"
#include "event/reading.h"
#include "instance/instance.h"
#include "order/backoff.h"
#include "order/batch.h"
#include "order/plan.h"
#include "order/typed_argument.h"
#include "payment.h"
#include "uuid7.h"

PG_FUNCTION_INFO_V1(payment_queue_event_deliveries);
PG_FUNCTION_INFO_V1(payment_claim_event_deliveries);
PG_FUNCTION_INFO_V1(payment_record_event_deliveries);
PG_FUNCTION_INFO_V1(payment_next_event_delivery_due);
PG_FUNCTION_INFO_V1(payment_retry_event_deliveries);
PG_FUNCTION_INFO_V1(payment_discard_event_deliveries);

#define MAX_LEASE_MS (3600 * 1000)
#define CLAIM_COLUMNS 3

/* ---- into the queue ---- */

/* counted no further than it may have */
static int
free_places(Datum name)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TEXTOID, INT8OID };
	Datum values[] = { name, Int64GetDatum(payment_max_queued_events) };

	batch_run(plan_keep(&plan,
						"SELECT count(*) FROM (SELECT"
						" FROM payment.event_delivery AS d"
						" WHERE d.consumer = $1 AND d.dead_at IS NULL"
						" LIMIT $2) AS q",
						lengthof(types), types),
			  values, NULL);
	return payment_max_queued_events - (int) row_int64(0, 1);
}

/* Each object's events get their turn by wake_next(). */
static void
add_to_queue(Datum name, const Column *ids, const Column *objects,
			 const Column *numbers)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TEXTOID, UUIDARRAYOID, UUIDARRAYOID,
								  INT4ARRAYOID };
	Datum values[] = { name, column_array(ids), column_array(objects),
					   column_array(numbers) };

	batch_run(plan_keep(&plan,
						"INSERT INTO payment.event_delivery"
						" (consumer, event_id, object_id, number)"
						" SELECT $1, u.id, u.object_id, u.number"
						" FROM unnest($2, $3, $4)"
						" AS u (id, object_id, number)",
						lengthof(types), types),
			  values, NULL);
}

/* the first one left of each of these objects is due, unless it has a time */
static void
wake_next(Datum name, Datum objects)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TEXTOID, UUIDARRAYOID, TIMESTAMPTZOID };
	Datum			  values[] = { name, objects,
								   TimestampTzGetDatum(GetCurrentTimestamp()) };

	batch_run(
		plan_keep(&plan,
				  "UPDATE payment.event_delivery AS d SET run_at = $3"
				  " FROM (SELECT DISTINCT o.id FROM unnest($2) AS o (id))"
				  " AS u CROSS JOIN LATERAL (SELECT f.event_id"
				  " FROM payment.event_delivery AS f WHERE f.consumer = $1"
				  " AND f.object_id = u.id AND f.dead_at IS NULL"
				  " ORDER BY f.number LIMIT 1) AS first"
				  " WHERE d.consumer = $1 AND d.event_id = first.event_id"
				  " AND d.run_at IS NULL",
				  lengthof(types), types),
		values, NULL);
}

static void
queue_events(const EventConsumer *consumer, uint64 count)
{
	Datum		  name = CStringGetTextDatum(consumer->name);
	Column		  ids;
	Column		  objects;
	Column		  numbers;
	EventPosition last;

	column_init(&ids, UUIDOID);
	column_init(&objects, UUIDOID);
	column_init(&numbers, INT4OID);
	for (uint64 row = 0; row < count; row++)
	{
		pg_uuid_t *both = palloc(2 * sizeof(pg_uuid_t));

		(void) row_uuid(row, 1, &both[0]);
		(void) row_uuid(row, 4, &both[1]);
		column_add_uuid(&ids, &both[0]);
		column_add_uuid(&objects, &both[1]);
		column_add_int32(&numbers, row_int32(row, 6));
	}
	event_position_of_row(count - 1, &last);
	add_to_queue(name, &ids, &objects, &numbers);
	wake_next(name, column_array(&objects));
	event_move_position(consumer, &last, MOVE_PAST_ALL_READ);
}

/*
 * payment.queue_event_deliveries(consumer, max_events) -> bigint
 */
Datum
payment_queue_event_deliveries(PG_FUNCTION_ARGS)
{
	char *name = consumer_argument(fcinfo, 0, "consumer");
	int	  max_events =
		event_number_argument(fcinfo, 1, "max_events", 1, EVENTS_PER_CALL_MAX);
	EventConsumer consumer;
	uint64		  count = 0;
	bool		  full = false;
	int			  nest_level = batch_begin();

	if (consumer_lock(name, false, &consumer) == CONSUMER_LOCKED &&
		consumer.has_endpoint)
	{
		max_events = Min(max_events, free_places(CStringGetTextDatum(name)));
		full = max_events <= 0;
		if (!full)
		{
			count = events_after_position(&consumer, max_events);
			if (count > 0)
				queue_events(&consumer, count);
			else
				events_pass_over(&consumer);
		}
	}
	batch_end(nest_level);
	if (full)
		PG_RETURN_NULL();
	PG_RETURN_INT64((int64) count);
}

/* ---- out of it ---- */

#define BODY_SQL                                                        \
	"json_build_object('id', v.id, 'type', v.type, 'object', v.object," \
	" 'object_id', v.object_id, 'payment_id', v.payment_id,"            \
	" 'number', v.number, 'created_at', to_char(payment.id_time(v.id)"  \
	" AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),"        \
	" 'data', v.data)::text"

static void
claim(Datum name, int max_events, int lease_ms)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TEXTOID, INT8OID, TIMESTAMPTZOID,
								  TIMESTAMPTZOID };
	TimestampTz		  now = GetCurrentTimestamp();
	Datum			  values[] = {
					name, Int64GetDatum(max_events), TimestampTzGetDatum(now),
					TimestampTzGetDatum(TimestampTzPlusMilliseconds(now, lease_ms))
	};

	batch_run(
		plan_keep(&plan,
				  "WITH due AS MATERIALIZED (SELECT d.event_id"
				  " FROM payment.event_delivery AS d WHERE d.consumer = $1"
				  " AND d.dead_at IS NULL AND d.run_at IS NOT NULL"
				  " AND d.run_at <= $3 ORDER BY d.run_at, d.event_id LIMIT $2"
				  " FOR UPDATE OF d SKIP LOCKED),"
				  " claimed AS (UPDATE payment.event_delivery AS d"
				  " SET run_at = $4, tries = d.tries + 1,"
				  " first_tried_at = coalesce(d.first_tried_at, $3),"
				  " last_tried_at = $3 FROM due"
				  " WHERE d.consumer = $1 AND d.event_id = due.event_id"
				  " RETURNING d.event_id, d.tries)"
				  " SELECT c.event_id, c.tries, " BODY_SQL " FROM claimed AS c"
				  " JOIN payment.event AS v ON v.id = c.event_id"
				  " ORDER BY v.epoch, v.horizon, v.id",
				  lengthof(types), types),
		values, NULL);
}

/*
 * payment.claim_event_deliveries(consumer, max_events, lease_ms)
 * -> SETOF payment.claimed_event
 */
Datum
payment_claim_event_deliveries(PG_FUNCTION_ARGS)
{
	char *name = consumer_argument(fcinfo, 0, "consumer");
	int	  max_events =
		event_number_argument(fcinfo, 1, "max_events", 1, EVENTS_PER_CALL_MAX);
	int lease_ms =
		event_number_argument(fcinfo, 2, "lease_ms", 1, MAX_LEASE_MS);
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int			   nest_level;

	InitMaterializedSRF(fcinfo, 0);
	nest_level = batch_begin();
	instance_refuse();
	claim(CStringGetTextDatum(name), max_events, lease_ms);
	for (uint64 row = 0; row < SPI_tuptable->numvals; row++)
	{
		Datum values[CLAIM_COLUMNS];
		bool  nulls[CLAIM_COLUMNS];

		for (int i = 0; i < CLAIM_COLUMNS; i++)
			values[i] = SPI_getbinval(SPI_tuptable->vals[row],
									  SPI_tuptable->tupdesc, i + 1, &nulls[i]);
		tuplestore_putvalues(result->setResult, result->setDesc, values,
							 nulls);
	}
	batch_end(nest_level);
	return (Datum) 0;
}

/*
 * payment.next_event_delivery_due(consumer) -> timestamptz
 */
Datum
payment_next_event_delivery_due(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TEXTOID };
	char			 *name = consumer_argument(fcinfo, 0, "consumer");
	Datum			  value = CStringGetTextDatum(name);
	TimestampTz		  due_at;
	int				  nest_level = batch_begin();

	batch_run(plan_keep(&plan,
						"SELECT min(d.run_at) FROM payment.event_delivery AS d"
						" WHERE d.consumer = $1 AND d.dead_at IS NULL"
						" AND d.run_at IS NOT NULL",
						lengthof(types), types),
			  &value, NULL);
	due_at = row_time(0, 1);
	batch_end(nest_level);
	if (due_at == 0)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(due_at);
}

/* ---- what came of it ---- */

typedef struct Results
{
	int	   count;
	Datum *ids;
	Datum *tries;
	Datum *statuses;
	bool  *status_nulls;
	Datum *errors;
	bool  *error_nulls;
	Datum *pauses;
	bool  *pause_nulls;
} Results;

static void
read_array(FunctionCallInfo fcinfo, int number, const char *name, Oid type,
		   int length, bool by_value, char align, Datum **values, bool **nulls,
		   int *count)
{
	if (PG_ARGISNULL(number))
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("\"%s\" must not be null", name),
						errdetail("It has one element for each event."),
						errhint("Pass an array.")));
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(number), type, length, by_value,
					  align, values, nulls, count);
}

static void
read_results(FunctionCallInfo fcinfo, Results *results)
{
	int	  counts[5];
	bool *id_nulls;
	bool *try_nulls;
	bool  valid = true;

	read_array(fcinfo, 1, "event_ids", UUIDOID, UUID_LEN, false, TYPALIGN_CHAR,
			   &results->ids, &id_nulls, &counts[0]);
	read_array(fcinfo, 2, "tries", INT4OID, sizeof(int32), true, TYPALIGN_INT,
			   &results->tries, &try_nulls, &counts[1]);
	read_array(fcinfo, 3, "http_statuses", INT4OID, sizeof(int32), true,
			   TYPALIGN_INT, &results->statuses, &results->status_nulls,
			   &counts[2]);
	read_array(fcinfo, 4, "errors", TEXTOID, -1, false, TYPALIGN_INT,
			   &results->errors, &results->error_nulls, &counts[3]);
	read_array(fcinfo, 5, "retry_after_ms", INT8OID, sizeof(int64),
			   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &results->pauses,
			   &results->pause_nulls, &counts[4]);
	results->count = counts[0];
	for (int i = 1; i < (int) lengthof(counts); i++)
		valid = valid && counts[i] == counts[0];
	for (int i = 0; valid && i < results->count; i++)
		valid = !id_nulls[i] && !try_nulls[i];
	if (!valid || results->count > EVENTS_PER_CALL_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
				 errmsg("the arrays do not say what came of each event"),
				 errdetail("They must have the same number of elements, at "
						   "most %d, and no null in event_ids and tries.",
						   EVENTS_PER_CALL_MAX),
				 errhint("Pass one element for each event.")));
}

typedef struct BackoffSettings
{
	int32 base_ms;
	int32 max_ms;
	int32 max_attempts;
} BackoffSettings;

static bool
read_settings(Datum name, BackoffSettings *settings)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TEXTOID };

	if (batch_run(plan_keep(&plan,
							"SELECT e.backoff_base_ms, e.backoff_max_ms,"
							" e.max_attempts FROM payment.webhook_endpoint"
							" AS e WHERE e.consumer = $1",
							lengthof(types), types),
				  &name, NULL) == 0)
		return false;
	settings->base_ms = row_int32(0, 1);
	settings->max_ms = row_int32(0, 2);
	settings->max_attempts = row_int32(0, 3);
	return true;
}

/* objects of the rows that a statement returned in its first column */
static void
collect_objects(Column *objects)
{
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		pg_uuid_t *id = palloc(sizeof(pg_uuid_t));

		(void) row_uuid(row, 1, id);
		column_add_uuid(objects, id);
	}
}

static void
remove_acknowledged(Datum name, const Results *results, Column *objects)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TEXTOID, UUIDARRAYOID };
	Column			  ids;
	Datum			  values[2];

	column_init(&ids, UUIDOID);
	for (int i = 0; i < results->count; i++)
		if (results->error_nulls[i])
			column_add(&ids, results->ids[i], false);
	if (ids.count == 0)
		return;
	values[0] = name;
	values[1] = column_array(&ids);
	batch_run(plan_keep(&plan,
						"DELETE FROM payment.event_delivery AS d"
						" USING unnest($2) AS u (id)"
						" WHERE d.consumer = $1 AND d.event_id = u.id"
						" RETURNING d.object_id",
						lengthof(types), types),
			  values, NULL);
	collect_objects(objects);
}

/* from its own clock on, but no longer than it would wait at most */
static int64
pause_of(const Results *results, int i, const BackoffSettings *settings)
{
	int64 asked =
		results->pause_nulls[i] ? 0 : DatumGetInt64(results->pauses[i]);

	return Max(backoff_ms(DatumGetInt32(results->tries[i]), settings->base_ms,
						  settings->max_ms),
			   Min(asked, settings->max_ms));
}

static void
put_off_failed(Datum name, const Results *results,
			   const BackoffSettings *settings, Column *objects)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TEXTOID,		UUIDARRAYOID,
								  INT4ARRAYOID, INT4ARRAYOID,
								  TEXTARRAYOID, TIMESTAMPTZARRAYOID,
								  INT4OID,		TIMESTAMPTZOID };
	TimestampTz		  now = GetCurrentTimestamp();
	Column			  ids, tries, statuses, errors, times;
	Datum			  values[lengthof(types)];

	column_init(&ids, UUIDOID);
	column_init(&tries, INT4OID);
	column_init(&statuses, INT4OID);
	column_init(&errors, TEXTOID);
	column_init(&times, TIMESTAMPTZOID);
	for (int i = 0; i < results->count; i++)
	{
		if (results->error_nulls[i])
			continue;
		column_add(&ids, results->ids[i], false);
		column_add(&tries, results->tries[i], false);
		column_add(&statuses, results->statuses[i], results->status_nulls[i]);
		column_add(&errors, results->errors[i], false);
		column_add_time(&times,
						TimestampTzPlusMilliseconds(now, pause_of(results, i,
																  settings)));
	}
	if (ids.count == 0)
		return;
	values[0] = name;
	values[1] = column_array(&ids);
	values[2] = column_array(&tries);
	values[3] = column_array(&statuses);
	values[4] = column_array(&errors);
	values[5] = column_array(&times);
	values[6] = Int32GetDatum(settings->max_attempts);
	values[7] = TimestampTzGetDatum(now);
	batch_run(
		plan_keep(&plan,
				  "UPDATE payment.event_delivery AS d"
				  " SET last_http_status = u.status, last_error = u.error,"
				  /* without a time: an earlier one was put before it */
				  " run_at = CASE WHEN d.tries < $7 AND d.run_at IS NOT NULL"
				  " THEN u.run_at END,"
				  " dead_at = CASE WHEN d.tries >= $7 THEN $8 END"
				  " FROM unnest($2, $3, $4, $5, $6)"
				  " AS u (id, tries, status, error, run_at)"
				  " WHERE d.consumer = $1 AND d.event_id = u.id"
				  " AND d.tries = u.tries AND d.dead_at IS NULL"
				  " RETURNING d.object_id",
				  lengthof(types), types),
		values, NULL);
	collect_objects(objects);
}

/*
 * payment.record_event_deliveries(consumer, event_ids, tries, http_statuses,
 * errors, retry_after_ms) -> boolean
 */
Datum
payment_record_event_deliveries(PG_FUNCTION_ARGS)
{
	char		   *name = consumer_argument(fcinfo, 0, "consumer");
	Datum			value = CStringGetTextDatum(name);
	Results			results;
	BackoffSettings settings;
	EventConsumer	consumer;
	ConsumerLock	lock;
	Column			objects;
	int				nest_level;

	read_results(fcinfo, &results);
	nest_level = batch_begin();
	lock = consumer_lock(name, false, &consumer);
	if (lock == CONSUMER_LOCKED && read_settings(value, &settings))
	{
		column_init(&objects, UUIDOID);
		remove_acknowledged(value, &results, &objects);
		put_off_failed(value, &results, &settings, &objects);
		if (objects.count > 0)
			wake_next(value, column_array(&objects));
	}
	batch_end(nest_level);
	PG_RETURN_BOOL(lock != CONSUMER_BUSY);
}

/* ---- by people ---- */

/* consumer and event, or NULL for all of them; returns the rows changed */
static uint64
run_by_hand(FunctionCallInfo fcinfo, SPIPlanPtr *plan, const char *sql,
			Column *objects)
{
	static const Oid types[] = { TEXTOID, UUIDOID };
	char			*name = consumer_argument(fcinfo, 0, "consumer");
	bool			 all = PG_ARGISNULL(1);
	Datum			 values[] = { CStringGetTextDatum(name),
						  all ? (Datum) 0 : PG_GETARG_DATUM(1) };
	char			 nulls[] = { ' ', all ? 'n' : ' ' };
	EventConsumer	 consumer;
	uint64			 count;

	if (consumer_lock(name, true, &consumer) == CONSUMER_ABSENT)
		consumer_refuse_unknown(name);
	count =
		batch_run(plan_keep(plan, sql, lengthof(types), types), values, nulls);
	if (objects)
	{
		column_init(objects, UUIDOID);
		collect_objects(objects);
	}
	return count;
}

/*
 * payment.retry_event_deliveries(consumer, event_id) -> bigint
 *
 * One that would come before an event with a time takes the turn from it.
 */
Datum
payment_retry_event_deliveries(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	static SPIPlanPtr turn_plan = NULL;
	static const Oid  turn_types[] = { TEXTOID, UUIDARRAYOID };
	int				  nest_level = batch_begin();
	Column			  objects;
	uint64			  count =
		run_by_hand(fcinfo, &plan,
					"UPDATE payment.event_delivery AS d SET dead_at = NULL,"
					" run_at = NULL, tries = 0, last_error = NULL,"
					" last_http_status = NULL"
					" WHERE d.consumer = $1 AND d.dead_at IS NOT NULL"
					" AND ($2 IS NULL OR d.event_id = $2)"
					" RETURNING d.object_id",
					&objects);

	if (count > 0)
	{
		Datum values[] = { PG_GETARG_DATUM(0), column_array(&objects) };

		batch_run(plan_keep(&turn_plan,
							"UPDATE payment.event_delivery AS d"
							" SET run_at = NULL FROM unnest($2) AS u (id)"
							" WHERE d.consumer = $1 AND d.object_id = u.id"
							" AND d.dead_at IS NULL AND d.run_at IS NOT NULL",
							lengthof(turn_types), turn_types),
				  values, NULL);
		wake_next(values[0], values[1]);
		payment_wake_dispatcher_at_commit();
	}
	batch_end(nest_level);
	PG_RETURN_INT64((int64) count);
}

/*
 * payment.discard_event_deliveries(consumer, event_id) -> bigint
 */
Datum
payment_discard_event_deliveries(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	int				  nest_level = batch_begin();
	uint64			  count =
		run_by_hand(fcinfo, &plan,
					"DELETE FROM payment.event_delivery AS d"
					" WHERE d.consumer = $1 AND d.dead_at IS NOT NULL"
					" AND ($2 IS NULL OR d.event_id = $2)",
					NULL);

	batch_end(nest_level);
	PG_RETURN_INT64((int64) count);
}
