/*-------------------------------------------------------------------------
 *
 * consumer.c
 *	  Consumers of events: who they are, and how far they have come.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "event/consumer.h"
#include "event/outbox.h"
#include "order/batch.h"
#include "order/event.h"
#include "order/plan.h"
#include "order/typed_argument.h"
#include "payment.h"
#include "uuid7.h"

PG_FUNCTION_INFO_V1(payment_register_consumer);
PG_FUNCTION_INFO_V1(payment_remove_consumer);

#define MAX_TYPES 100

static const EventPlace here = { 0, 0 };

/* ---- arguments ---- */

char *
consumer_argument(FunctionCallInfo fcinfo, int number, const char *name)
{
	char *consumer = text_argument(fcinfo, number, name);

	event_check_text(&here, name, consumer);
	return consumer;
}

int32
event_number_argument(FunctionCallInfo fcinfo, int number, const char *name,
					  int minimum, int maximum)
{
	int32 value = int32_argument(fcinfo, number, name);

	if (value < minimum || value > maximum)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("\"%s\" is not valid", name),
						errdetail("It is %d and must be from %d to %d.", value,
								  minimum, maximum),
						errhint("Pass another number.")));
	return value;
}

static void
check_type(const char *type)
{
	for (int object = 0; object < OBJECT_COUNT; object++)
	{
		const char *name = transition_object_name(object);
		size_t		length = strlen(name);

		if (strncmp(type, name, length) != 0 || type[length] != '.')
			continue;
		if (strcmp(type + length + 1, "*") == 0
				? outbox_publishes_any(object)
				: outbox_publishes(object, type + length + 1,
								   (int) strlen(type + length + 1)))
			return;
	}
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
					errmsg("\"types\" names a type that there is not"),
					errdetail("A type is an object and a status with a dot "
							  "between, or * for all of the object's."),
					errhint("payment.event_types() lists them all.")));
}

Datum
event_types_argument(FunctionCallInfo fcinfo, int number, bool *all_types)
{
	ArrayType *array;
	Datum	  *values;
	bool	  *nulls;
	int		   count;

	*all_types = PG_ARGISNULL(number);
	if (*all_types)
		return (Datum) 0;
	array = PG_GETARG_ARRAYTYPE_P(number);
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls,
					  &count);
	if (count == 0 || count > MAX_TYPES)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("\"types\" is not valid"),
						errdetail("It has %d elements and must have 1 to %d.",
								  count, MAX_TYPES),
						errhint("Pass null for all types.")));
	for (int i = 0; i < count; i++)
		check_type(nulls[i] ? "" : TextDatumGetCString(values[i]));
	return PointerGetDatum(
		construct_array(values, count, TEXTOID, -1, false, TYPALIGN_INT));
}

/* ---- positions ---- */

int
position_compare(const EventPosition *a, const EventPosition *b)
{
	if (a->epoch != b->epoch)
		return a->epoch < b->epoch ? -1 : 1;
	if (a->horizon != b->horizon)
		return a->horizon < b->horizon ? -1 : 1;
	return uuid_compare(&a->id, &b->id);
}

bool
position_of_row(uint64 row, int column, EventPosition *position)
{
	HeapTuple tuple = SPI_tuptable->vals[row];
	TupleDesc desc = SPI_tuptable->tupdesc;
	bool	  isnull;
	Datum	  value = SPI_getbinval(tuple, desc, column, &isnull);

	if (isnull)
		return false;
	position->epoch = DatumGetTimestampTz(value);
	value = SPI_getbinval(tuple, desc, column + 1, &isnull);
	position->horizon =
		U64FromFullTransactionId(DatumGetFullTransactionId(value));
	return row_uuid(row, column + 2, &position->id);
}

void
position_values(const EventPosition *position, Datum *values)
{
	values[0] = TimestampTzGetDatum(position->epoch);
	values[1] =
		FullTransactionIdGetDatum(FullTransactionIdFromU64(position->horizon));
	values[2] = UUIDPGetDatum(&position->id);
}

TimestampTz
event_epoch(void)
{
	static SPIPlanPtr plan = NULL;

	(void) batch_run(plan_keep(&plan, "SELECT " EVENT_EPOCH_SQL, 0, NULL),
					 NULL, NULL);
	return row_time(0, 1);
}

/* ---- finding ---- */

void
consumer_refuse_unknown(const char *name)
{
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_UNKNOWN_OBJECT),
					errmsg("there is no consumer \"%s\"", name),
					errdetail("Consumers are known from "
							  "payment.register_consumer() or "
							  "payment.set_webhook_endpoint() on."),
					errhint("payment.event_lag lists them.")));
}

static bool
consumer_exists(Datum name)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TEXTOID };

	return batch_run(plan_keep(&plan,
							   "SELECT FROM payment.event_consumer"
							   " WHERE name = $1",
							   lengthof(types), types),
					 &name, NULL) > 0;
}

#define LOCK_SQL                                                           \
	"SELECT c.epoch, c.horizon, c.event_id, c.read_epoch, c.read_horizon," \
	" c.read_event_id, c.leased_until, c.types,"                           \
	" EXISTS (SELECT FROM payment.webhook_endpoint AS e"                   \
	" WHERE e.consumer = c.name)"                                          \
	" FROM payment.event_consumer AS c WHERE c.name = $1"                  \
	" FOR NO KEY UPDATE OF c"

ConsumerLock
consumer_lock(const char *name, bool wait, EventConsumer *consumer)
{
	static SPIPlanPtr wait_plan = NULL;
	static SPIPlanPtr skip_plan = NULL;
	static const Oid  types[] = { TEXTOID };
	Datum			  value = CStringGetTextDatum(name);
	SPIPlanPtr		  plan;

	if (wait)
		plan = plan_keep(&wait_plan, LOCK_SQL, lengthof(types), types);
	else
		plan = plan_keep(&skip_plan, LOCK_SQL " SKIP LOCKED", lengthof(types),
						 types);
	if (batch_run(plan, &value, NULL) == 0)
		return !wait && consumer_exists(value) ? CONSUMER_BUSY
											   : CONSUMER_ABSENT;
	memset(consumer, 0, sizeof(*consumer));
	consumer->name = pstrdup(name);
	(void) position_of_row(0, 1, &consumer->position);
	consumer->has_read = position_of_row(0, 4, &consumer->read);
	consumer->leased_until = row_time(0, 7);
	consumer->types =
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 8,
					  &consumer->all_types);
	consumer->has_endpoint = row_bool(0, 9);
	return CONSUMER_LOCKED;
}

/* ---- making and removing ---- */

/*
 * Two that count at once would both find room for the last one.  A mode that
 * keeps no reader and no worker waiting.
 */
static void
lock_consumers(void)
{
	static SPIPlanPtr plan = NULL;

	batch_run(plan_keep(&plan,
						"LOCK TABLE payment.event_consumer"
						" IN SHARE UPDATE EXCLUSIVE MODE",
						0, NULL),
			  NULL, NULL);
}

static void
check_count(void)
{
	static SPIPlanPtr plan = NULL;
	int64			  count;

	batch_run(plan_keep(&plan, "SELECT count(*) FROM payment.event_consumer",
						0, NULL),
			  NULL, NULL);
	count = row_int64(0, 1);
	if (count > payment_max_event_consumers)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_LIMIT_EXCEEDED),
				 errmsg("too many consumers of events"),
				 errdetail("There would be " INT64_FORMAT ", the limit is %d.",
						   count, payment_max_event_consumers),
				 errhint("Remove some, or raise "
						 "payment.max_event_consumers.")));
}

static bool
update_types(const char *name, Datum types_value, bool all_types)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TEXTOID, TEXTARRAYOID };
	Datum			  values[] = { CStringGetTextDatum(name), types_value };
	char			  nulls[] = { ' ', all_types ? 'n' : ' ' };

	return batch_run(plan_keep(&plan,
							   "UPDATE payment.event_consumer SET types = $2"
							   " WHERE name = $1",
							   lengthof(types), types),
					 values, nulls) > 0;
}

/*
 * A consumer of events to come begins where all that is before is sure to be
 * over.  What is written now and committed later comes after that.
 */
bool
consumer_register(const char *name, Datum types_value, bool all_types,
				  bool from_beginning)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TEXTOID, TEXTARRAYOID, BOOLOID };
	Datum			  values[] = { CStringGetTextDatum(name), types_value,
								   BoolGetDatum(from_beginning) };
	char			  nulls[] = { ' ', all_types ? 'n' : ' ', ' ' };

	if (update_types(name, types_value, all_types))
		return false;
	lock_consumers();
	if (update_types(name, types_value, all_types))
		return false;
	batch_run(plan_keep(&plan,
						"INSERT INTO payment.event_consumer"
						" (name, types, epoch, horizon, event_id)"
						" SELECT $1, $2,"
						" CASE WHEN $3 THEN '-infinity' ELSE " EVENT_EPOCH_SQL
						" END,"
						" CASE WHEN $3 THEN '0'::pg_catalog.xid8 ELSE"
						" pg_snapshot_xmin(pg_current_snapshot()) END,"
						" 'ffffffff-ffff-ffff-ffff-ffffffffffff'",
						lengthof(types), types),
			  values, nulls);
	check_count();
	return true;
}

/*
 * payment.register_consumer(name, types, from_beginning) -> boolean
 */
Datum
payment_register_consumer(PG_FUNCTION_ARGS)
{
	char *name = consumer_argument(fcinfo, 0, "name");
	bool  all_types;
	Datum types = event_types_argument(fcinfo, 1, &all_types);
	bool  from_beginning = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
	bool  made;
	int	  nest_level = batch_begin();

	made = consumer_register(name, types, all_types, from_beginning);
	batch_end(nest_level);
	PG_RETURN_BOOL(made);
}

static uint64
delete_of(SPIPlanPtr *plan, const char *sql, Datum name)
{
	static const Oid types[] = { TEXTOID };

	return batch_run(plan_keep(plan, sql, lengthof(types), types), &name,
					 NULL);
}

/*
 * payment.remove_consumer(name) -> boolean
 */
Datum
payment_remove_consumer(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr consumer_plan = NULL;
	static SPIPlanPtr endpoint_plan = NULL;
	static SPIPlanPtr delivery_plan = NULL;
	char			 *name = consumer_argument(fcinfo, 0, "name");
	Datum			  value = CStringGetTextDatum(name);
	uint64			  removed;
	int				  nest_level = batch_begin();

	removed =
		delete_of(&consumer_plan,
				  "DELETE FROM payment.event_consumer WHERE name = $1", value);
	(void) delete_of(&endpoint_plan,
					 "DELETE FROM payment.webhook_endpoint"
					 " WHERE consumer = $1",
					 value);
	(void) delete_of(&delivery_plan,
					 "DELETE FROM payment.event_delivery WHERE consumer = $1",
					 value);
	batch_end(nest_level);
	PG_RETURN_BOOL(removed > 0);
}
