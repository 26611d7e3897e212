/*-------------------------------------------------------------------------
 *
 * reading.c
 *	  Reads events so that none is ever skipped.
 *
 * Ids are given before a commit, and transactions commit in another order than
 * they began.  Whoever remembers the last id that he saw, and asks for what is
 * greater, loses what was written before and committed after.
 *
 * So each event has a horizon: the number that the next transaction would get
 * when the event was written.  Its own transaction's number is below that.  An
 * event is given out when its horizon is not above the xmin of the reader's
 * snapshot.  All transactions with numbers below xmin were over when the
 * snapshot was taken; so of the events with a horizon up to xmin each is
 * either visible in it or was rolled back, and none will ever be added.
 * What a consumer's position has passed is thus complete, and stays so.
 *
 * Why not the number of the writing transaction itself?  A transaction may get
 * its number, then wait for an order that a younger one has locked.  By their
 * own numbers, the order's second event would come before its first.  Of two
 * events of one object the horizon of the second is never below that of the
 * first, and where they are equal the ids, which hold the times of the
 * changes, ascend: see outbox.c.
 *
 * A dump takes rows to another server, where transactions have other numbers.
 * There the epoch is another one, too: what came with the dump was committed,
 * all of it, and is complete without asking; positions come along with it.
 *
 * A transaction that lasts keeps all events that were written meanwhile
 * waiting: they are late, not lost.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "event/consumer.h"
#include "event/reading.h"
#include "order/batch.h"
#include "order/plan.h"
#include "order/typed_argument.h"
#include "payment.h"
#include "uuid7.h"

PG_FUNCTION_INFO_V1(payment_read_events);
PG_FUNCTION_INFO_V1(payment_acknowledge_events);

#define MAX_LEASE_MS (3600 * 1000)
#define RESULT_COLUMNS 8

/*
 * A consumer that wants few types gets a new position now and then without an
 * event, when it is so many transactions behind: it need not look through the
 * others again and again.
 */
#define IDLE_TRANSACTIONS 1000

/*
 * Every row of (epoch, horizon) up to the present epoch and xmin: rows of
 * earlier epochs whatever their horizon is.  By one snapshot, xmin's own.
 */
#define READ_SQL                                                            \
	"SELECT e.id, e.type, e.object, e.object_id, e.payment_id, e.number,"   \
	" payment.id_time(e.id), e.data, e.epoch, e.horizon, e.id"              \
	" FROM payment.event AS e"                                              \
	" WHERE (e.epoch, e.horizon, e.id) > ($1, $2, $3)"                      \
	" AND (e.epoch, e.horizon) <= (" EVENT_EPOCH_SQL ","                    \
	" pg_snapshot_xmin(pg_current_snapshot()))"                             \
	" AND ($4 IS NULL OR e.type = ANY ($4) OR e.object || '.*' = ANY ($4))" \
	" ORDER BY e.epoch, e.horizon, e.id LIMIT $5"

#define POSITION_COLUMN 9

uint64
events_after_position(const EventConsumer *consumer, int max_events)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TIMESTAMPTZOID, XID8OID, UUIDOID,
								  TEXTARRAYOID, INT8OID };
	Datum			  values[lengthof(types)];
	char			  nulls[] = "     ";

	position_values(&consumer->position, values);
	values[3] = consumer->types;
	nulls[3] = consumer->all_types ? 'n' : ' ';
	values[4] = Int64GetDatum(max_events);
	return batch_run(plan_keep(&plan, READ_SQL, lengthof(types), types),
					 values, nulls);
}

void
event_position_of_row(uint64 row, EventPosition *position)
{
	(void) position_of_row(row, POSITION_COLUMN, position);
}

/*
 * The clock of a server that a dump is restored on may be behind that of the
 * one that it comes from.  If it is by all the time that one had existed, the
 * epochs are in the wrong order.
 */
static void
check_epochs(const EventConsumer *consumer)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TIMESTAMPTZOID };
	TimestampTz		  epoch = event_epoch();
	Datum			  value = TimestampTzGetDatum(epoch);

	if (consumer->position.epoch <= epoch &&
		batch_run(plan_keep(&plan,
							"SELECT FROM payment.event AS e"
							" WHERE e.epoch > $1 LIMIT 1",
							lengthof(types), types),
				  &value, NULL) == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_WRONG_STATE),
			 errmsg("there are events of a time that is yet to come"),
			 errdetail("They came with a dump whose database was made later, "
					   "by its clock, than this one, by its own."),
			 errhint("Set the clock, and restore the dump again.")));
}

void
event_move_position(const EventConsumer *consumer,
					const EventPosition *position, PositionMove move)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TEXTOID,		 TIMESTAMPTZOID, XID8OID,
								  UUIDOID,		 BOOLOID,		 BOOLOID,
								  TIMESTAMPTZOID };
	Datum			  values[lengthof(types)];

	values[0] = CStringGetTextDatum(consumer->name);
	position_values(position, values + 1);
	values[4] = BoolGetDatum(move != MOVE_SILENTLY);
	values[5] = BoolGetDatum(move == MOVE_PAST_ALL_READ);
	values[6] = TimestampTzGetDatum(GetCurrentTimestamp());
	batch_run(
		plan_keep(&plan,
				  "UPDATE payment.event_consumer SET epoch = $2,"
				  " horizon = $3, event_id = $4, acknowledged_at ="
				  " CASE WHEN $5 THEN $7 ELSE acknowledged_at END,"
				  " read_epoch = CASE WHEN NOT $6 THEN read_epoch END,"
				  " read_horizon = CASE WHEN NOT $6 THEN read_horizon END,"
				  " read_event_id = CASE WHEN NOT $6 THEN read_event_id END,"
				  " leased_until = CASE WHEN NOT $6 THEN leased_until END"
				  " WHERE name = $1",
				  lengthof(types), types),
		values, NULL);
}

/* So many transactions behind that a new position is worth its row. */
static bool
is_far_behind(const EventConsumer *consumer)
{
	return U64FromFullTransactionId(ReadNextFullTransactionId()) >
			   consumer->position.horizon + IDLE_TRANSACTIONS ||
		   consumer->position.epoch != event_epoch();
}

/*
 * The statement that gives the new position looks once more, by the same
 * snapshot, whether there is an event up to there.
 */
void
events_pass_over(const EventConsumer *consumer)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TIMESTAMPTZOID, XID8OID, UUIDOID,
								  TEXTARRAYOID };
	Datum			  values[lengthof(types)];
	char			  nulls[] = "    ";
	EventPosition	  position;

	check_epochs(consumer);
	if (consumer->has_read || !is_far_behind(consumer))
		return;
	position_values(&consumer->position, values);
	values[3] = consumer->types;
	nulls[3] = consumer->all_types ? 'n' : ' ';
	batch_run(
		plan_keep(&plan,
				  "SELECT s.epoch, s.horizon,"
				  " 'ffffffff-ffff-ffff-ffff-ffffffffffff'::pg_catalog.uuid"
				  " FROM (SELECT " EVENT_EPOCH_SQL " AS epoch,"
				  " pg_snapshot_xmin(pg_current_snapshot()) AS horizon) AS s"
				  " WHERE NOT EXISTS (SELECT FROM payment.event AS e"
				  " WHERE (e.epoch, e.horizon, e.id) > ($1, $2, $3)"
				  " AND (e.epoch, e.horizon) <= (s.epoch, s.horizon)"
				  " AND ($4 IS NULL OR e.type = ANY ($4)"
				  " OR e.object || '.*' = ANY ($4)))"
				  " AND (s.epoch, s.horizon) > ($1, $2)",
				  lengthof(types), types),
		values, nulls);
	if (SPI_processed == 0)
		return;
	(void) position_of_row(0, 1, &position);
	event_move_position(consumer, &position, MOVE_SILENTLY);
}

/* ---- for applications ---- */

static void
lock_or_refuse(const char *name, bool wait, EventConsumer *consumer,
			   ConsumerLock *lock)
{
	*lock = consumer_lock(name, wait, consumer);
	if (*lock == CONSUMER_ABSENT)
		consumer_refuse_unknown(name);
	if (*lock == CONSUMER_LOCKED && consumer->has_endpoint)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_WRONG_STATE),
				 errmsg("events of consumer \"%s\" are posted to it", name),
				 errdetail("It has a webhook endpoint."),
				 errhint("Register another consumer, to read events "
						 "yourself.")));
}

static void
note_read(const EventConsumer *consumer, uint64 last_row, int lease_ms)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TEXTOID, TIMESTAMPTZOID, XID8OID,
								  UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID };
	Datum			  values[lengthof(types)];
	char			  nulls[] = "      ";
	TimestampTz		  now = GetCurrentTimestamp();
	EventPosition	  last;

	event_position_of_row(last_row, &last);
	values[0] = CStringGetTextDatum(consumer->name);
	position_values(&last, values + 1);
	values[4] = TimestampTzGetDatum(now);
	values[5] =
		TimestampTzGetDatum(TimestampTzPlusMilliseconds(now, lease_ms));
	nulls[5] = lease_ms > 0 ? ' ' : 'n';
	batch_run(plan_keep(&plan,
						"UPDATE payment.event_consumer SET read_epoch = $2,"
						" read_horizon = $3, read_event_id = $4,"
						" read_at = $5, leased_until = $6 WHERE name = $1",
						lengthof(types), types),
			  values, nulls);
}

static void
return_events(ReturnSetInfo *result)
{
	SPITupleTable *table = SPI_tuptable;

	for (uint64 row = 0; row < table->numvals; row++)
	{
		Datum values[RESULT_COLUMNS];
		bool  nulls[RESULT_COLUMNS];

		for (int i = 0; i < RESULT_COLUMNS; i++)
			values[i] = SPI_getbinval(table->vals[row], table->tupdesc, i + 1,
									  &nulls[i]);
		tuplestore_putvalues(result->setResult, result->setDesc, values,
							 nulls);
	}
}

/*
 * payment.read_events(consumer, max_events, lease_ms) -> table of events
 */
Datum
payment_read_events(PG_FUNCTION_ARGS)
{
	char *name = consumer_argument(fcinfo, 0, "consumer");
	int	  max_events =
		event_number_argument(fcinfo, 1, "max_events", 1, EVENTS_PER_CALL_MAX);
	int lease_ms =
		event_number_argument(fcinfo, 2, "lease_ms", 0, MAX_LEASE_MS);
	EventConsumer consumer;
	ConsumerLock  lock;
	int			  nest_level;
	uint64		  count;

	InitMaterializedSRF(fcinfo, 0);
	nest_level = batch_begin();
	lock_or_refuse(name, false, &consumer, &lock);
	if (lock == CONSUMER_LOCKED &&
		consumer.leased_until <= GetCurrentTimestamp())
	{
		count = events_after_position(&consumer, max_events);
		return_events((ReturnSetInfo *) fcinfo->resultinfo);
		if (count > 0)
			note_read(&consumer, count - 1, lease_ms);
		else
			events_pass_over(&consumer);
	}
	batch_end(nest_level);
	return (Datum) 0;
}

static void
find_position(const pg_uuid_t *id, EventPosition *position)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID };
	Datum			  value = UUIDPGetDatum(id);

	if (batch_run(plan_keep(&plan,
							"SELECT e.epoch, e.horizon, e.id"
							" FROM payment.event AS e WHERE e.id = $1",
							lengthof(types), types),
				  &value, NULL) == 0)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_UNKNOWN_OBJECT),
						errmsg("there is no event %s", uuid_text(id)),
						errdetail("Or it is too old, and was detached."),
						errhint("Pass the id of an event that "
								"payment.read_events() gave.")));
	(void) position_of_row(0, 1, position);
}

/*
 * payment.acknowledge_events(consumer, through) -> boolean
 */
Datum
payment_acknowledge_events(PG_FUNCTION_ARGS)
{
	char		 *name = consumer_argument(fcinfo, 0, "consumer");
	pg_uuid_t	 *through = uuid_argument(fcinfo, 1, "through");
	EventConsumer consumer;
	ConsumerLock  lock;
	EventPosition position;
	bool		  moves;
	int			  nest_level = batch_begin();

	lock_or_refuse(name, true, &consumer, &lock);
	find_position(through, &position);
	moves = position_compare(&position, &consumer.position) > 0;
	if (moves && (!consumer.has_read ||
				  position_compare(&position, &consumer.read) > 0))
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_WRONG_STATE),
						errmsg("event %s was not read", uuid_text(through)),
						errdetail("payment.read_events() has not given it to "
								  "consumer \"%s\".",
								  name),
						errhint("Acknowledge what was read.")));
	if (moves)
		event_move_position(&consumer, &position,
							position_compare(&position, &consumer.read) == 0
								? MOVE_PAST_ALL_READ
								: MOVE_PAST_SOME_READ);
	batch_end(nest_level);
	PG_RETURN_BOOL(moves);
}
