/*-------------------------------------------------------------------------
 *
 * outbox.c
 *	  Writes the events of a statement that changed statuses.
 *
 * Called from the trigger that writes the history, so that no change escapes,
 * one by hand included, and all of a statement's events are one INSERT.
 *
 * Of each object events are in order.  Its number is counted in the object's
 * row, under the row's lock.  Its id holds the time at which the row was
 * changed, which guard.c lets ascend strictly whatever the clock does.  And
 * its horizon cannot be lower than that of the event before, since that one's
 * transaction was over when this one got the row's lock, and numbers of
 * transactions only go up.  reading.c relies on the last two.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"
#include "utils/xid8.h"

#include "event/outbox.h"
#include "order/guard.h"
#include "order/plan.h"
#include "payment.h"
#include "uuid7.h"

PG_FUNCTION_INFO_V1(payment_event_types);

/* events per INSERT: bounds memory whatever the statement's size */
#define OUTBOX_BATCH 500
#define MAX_DATA_FIELDS 20

/*
 * What applications are told.  Not: how an object begins, which its maker
 * knows, but for refunds, which a payment's own rule makes too; and what lasts
 * as long as a request.
 */
static const struct
{
	TransitionObject object;
	const char		*status;
} published[] = {
	{ OBJECT_PAYMENT, "awaiting_customer" },
	{ OBJECT_PAYMENT, "succeeded" },
	{ OBJECT_PAYMENT, "partially_succeeded" },
	{ OBJECT_PAYMENT, "failed" },
	{ OBJECT_PAYMENT, "cancelled" },
	{ OBJECT_PAYMENT, "expired" },
	{ OBJECT_PAYMENT_ORDER, "requires_action" },
	{ OBJECT_PAYMENT_ORDER, "pending" },
	{ OBJECT_PAYMENT_ORDER, "authorized" },
	{ OBJECT_PAYMENT_ORDER, "captured" },
	{ OBJECT_PAYMENT_ORDER, "partially_captured" },
	{ OBJECT_PAYMENT_ORDER, "declined" },
	{ OBJECT_PAYMENT_ORDER, "failed" },
	{ OBJECT_PAYMENT_ORDER, "unknown" },
	{ OBJECT_PAYMENT_ORDER, "conflicted" },
	{ OBJECT_PAYMENT_ORDER, "cancelled" },
	{ OBJECT_PAYMENT_ORDER, "voided" },
	{ OBJECT_PAYMENT_ORDER, "expired" },
	{ OBJECT_PAYMENT_ORDER, "reversed" },
	{ OBJECT_REFUND, "created" },
	{ OBJECT_REFUND, "pending" },
	{ OBJECT_REFUND, "requires_action" },
	{ OBJECT_REFUND, "succeeded" },
	{ OBJECT_REFUND, "failed" },
	{ OBJECT_REFUND, "cancelled" },
	{ OBJECT_REFUND, "unknown" },
	{ OBJECT_DISPUTE, "open" },
	{ OBJECT_DISPUTE, "challenged" },
	{ OBJECT_DISPUTE, "accepted" },
	{ OBJECT_DISPUTE, "expired" },
	{ OBJECT_DISPUTE, "withdrawn" },
	{ OBJECT_DISPUTE, "won" },
	{ OBJECT_DISPUTE, "lost" },
	{ OBJECT_PAYOUT, "pending_approval" },
	{ OBJECT_PAYOUT, "approved" },
	{ OBJECT_PAYOUT, "rejected" },
	{ OBJECT_PAYOUT, "scheduled" },
	{ OBJECT_PAYOUT, "in_transit" },
	{ OBJECT_PAYOUT, "paid" },
	{ OBJECT_PAYOUT, "failed" },
	{ OBJECT_PAYOUT, "unknown" },
	{ OBJECT_PAYOUT, "cancelled" },
	{ OBJECT_PAYOUT, "returned" },
};

/*
 * The columns that go into data.  Not what a payment can be made with again
 * (payment methods), nor where a seller's money goes to.
 */
typedef struct DataField
{
	const char *name;
	int			likely_attnum;
} DataField;

static const DataField payment_fields[] = {
	{ "id", 1 },		   { "payer", 2 },		 { "psp_id", 3 },
	{ "status", 5 },	   { "order_count", 6 }, { "succeeded_count", 7 },
	{ "failed_count", 8 }, { "metadata", 9 },
};

static const DataField order_fields[] = {
	{ "id", 1 },
	{ "payment_id", 2 },
	{ "seller_id", 3 },
	{ "psp_id", 4 },
	{ "amount", 5 },
	{ "currency", 6 },
	{ "platform_fee", 7 },
	{ "captured_amount", 8 },
	{ "status", 9 },
	{ "attempt_no", 10 },
	{ "captured_at", 11 },
	{ "psp_reference", 13 },
	{ "failure_code", 14 },
	{ "failure_message", 15 },
	{ "reference", 16 },
	{ "description", 17 },
	{ "metadata", 18 },
};

static const DataField refund_fields[] = {
	{ "id", 1 },
	{ "order_id", 2 },
	{ "seller_id", 3 },
	{ "psp_id", 4 },
	{ "amount", 5 },
	{ "currency", 6 },
	{ "fee_share", 7 },
	{ "status", 11 },
	{ "attempt_no", 12 },
	{ "psp_reference", 13 },
	{ "failure_code", 14 },
	{ "failure_message", 15 },
	{ "reason", 16 },
};

static const DataField dispute_fields[] = {
	{ "id", 1 },
	{ "order_id", 2 },
	{ "seller_id", 3 },
	{ "psp_id", 4 },
	{ "amount", 5 },
	{ "currency", 6 },
	{ "status", 7 },
	{ "psp_reference", 8 },
	{ "reason", 9 },
	{ "respond_by", 10 },
	{ "is_taken", 11 },
	{ "from_pending", 12 },
	{ "from_available", 13 },
	{ "from_receivable", 14 },
	{ "fee_share", 15 },
	{ "platform_loss", 16 },
	{ "fee", 17 },
	{ "fee_currency", 18 },
};

static const DataField payout_fields[] = {
	{ "id", 1 },
	{ "seller_id", 2 },
	{ "psp_id", 3 },
	{ "amount", 4 },
	{ "currency", 5 },
	{ "status", 7 },
	{ "attempt_no", 8 },
	{ "psp_reference", 9 },
	{ "failure_code", 10 },
	{ "failure_message", 11 },
};

static const struct
{
	TransitionObject object;
	const DataField *fields;
	int				 count;
	const char		*payment_id; /* the column, NULL: none */
} described[] = {
	{ OBJECT_PAYMENT, payment_fields, lengthof(payment_fields), "id" },
	{ OBJECT_PAYMENT_ORDER, order_fields, lengthof(order_fields),
	  "payment_id" },
	{ OBJECT_REFUND, refund_fields, lengthof(refund_fields), NULL },
	{ OBJECT_DISPUTE, dispute_fields, lengthof(dispute_fields), NULL },
	{ OBJECT_PAYOUT, payout_fields, lengthof(payout_fields), NULL },
};

struct Outbox
{
	TransitionObject object;
	TupleDesc		 desc;
	const DataField *fields;
	int				 field_count;
	int				 attnums[MAX_DATA_FIELDS];
	int				 id_attnum;
	int				 payment_id_attnum; /* 0: none */
	int				 status_attnum;
	int				 updated_at_attnum;
	int				 number_attnum;

	int			  count;
	Datum		  ids[OUTBOX_BATCH];
	Datum		  objects[OUTBOX_BATCH];
	Datum		  payments[OUTBOX_BATCH];
	Datum		  numbers[OUTBOX_BATCH];
	Datum		  types[OUTBOX_BATCH];
	Datum		  data[OUTBOX_BATCH];
	MemoryContext context; /* holds the values, reset at each flush */
};

/* A dispute's status is stage/status: of whichever stage, it is told. */
bool
outbox_publishes(TransitionObject object, const char *status, int length)
{
	const char *slash = memchr(status, '/', length);

	if (slash)
	{
		length -= (int) (slash + 1 - status);
		status = slash + 1;
	}
	for (int i = 0; i < (int) lengthof(published); i++)
	{
		if (published[i].object == object &&
			strncmp(published[i].status, status, length) == 0 &&
			published[i].status[length] == '\0')
			return true;
	}
	return false;
}

bool
outbox_publishes_any(TransitionObject object)
{
	for (int i = 0; i < (int) lengthof(published); i++)
	{
		if (published[i].object == object)
			return true;
	}
	return false;
}

static char *
event_type(TransitionObject object, const char *status)
{
	const char *slash = strchr(status, '/');

	return psprintf("%s.%s", transition_object_name(object),
					slash ? slash + 1 : status);
}

Outbox *
outbox_open(TransitionObject object, TupleDesc desc)
{
	Outbox	   *outbox = palloc(sizeof(Outbox));
	const char *payment_id = NULL;

	outbox->object = object;
	outbox->desc = desc;
	outbox->fields = NULL;
	for (int i = 0; i < (int) lengthof(described); i++)
	{
		if (described[i].object != object)
			continue;
		outbox->fields = described[i].fields;
		outbox->field_count = described[i].count;
		payment_id = described[i].payment_id;
	}
	if (outbox->fields == NULL)
		elog(ERROR, "events of %s are not described",
			 transition_object_name(object));
	for (int i = 0; i < outbox->field_count; i++)
		outbox->attnums[i] = column_number(desc, outbox->fields[i].name,
										   outbox->fields[i].likely_attnum);
	outbox->id_attnum = column_number(desc, "id", 1);
	outbox->payment_id_attnum =
		payment_id ? column_number(desc, payment_id, 2) : 0;
	outbox->status_attnum = column_number(desc, "status", 9);
	outbox->updated_at_attnum = column_number(desc, "updated_at", 19);
	outbox->number_attnum = column_number(desc, "event_count", 23);
	outbox->count = 0;
	outbox->context =
		AllocSetContextCreate(CurrentMemoryContext, "payment events",
							  ALLOCSET_DEFAULT_SIZES);
	return outbox;
}

/* ---- data ---- */

static void
set_string(JsonbValue *value, char *text)
{
	value->type = jbvString;
	value->val.string.val = text;
	value->val.string.len = (int) strlen(text);
}

/* in UTC, whatever the session's time zone is */
static char *
time_text(TimestampTz at)
{
	const int utc = 0;

	return JsonEncodeDateTime(palloc(MAXDATELEN + 1), TimestampTzGetDatum(at),
							  TIMESTAMPTZOID, &utc);
}

static void
set_value(JsonbValue *value, Oid type, Datum datum)
{
	switch (type)
	{
		case UUIDOID:
			set_string(value,
					   DatumGetCString(DirectFunctionCall1(uuid_out, datum)));
			break;
		case TEXTOID:
			set_string(value, TextDatumGetCString(datum));
			break;
		case BOOLOID:
			value->type = jbvBool;
			value->val.boolean = DatumGetBool(datum);
			break;
		case INT4OID:
			value->type = jbvNumeric;
			value->val.numeric = int64_to_numeric(DatumGetInt32(datum));
			break;
		case INT8OID:
			value->type = jbvNumeric;
			value->val.numeric = int64_to_numeric(DatumGetInt64(datum));
			break;
		case TIMESTAMPTZOID:
			set_string(value, time_text(DatumGetTimestampTz(datum)));
			break;
		case JSONBOID:
			value->type = jbvBinary;
			value->val.binary.data = &DatumGetJsonbP(datum)->root;
			value->val.binary.len = (int) VARSIZE(DatumGetJsonbP(datum));
			break;
		default:
			elog(ERROR, "unexpected type %u in an event", type);
	}
}

static Datum
make_data(const Outbox *outbox, TupleTableSlot *slot)
{
	JsonbParseState *state = NULL;
	JsonbValue		*object;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < outbox->field_count; i++)
	{
		int		   attnum = outbox->attnums[i];
		JsonbValue value;
		bool	   isnull;
		Datum	   datum = slot_getattr(slot, attnum, &isnull);

		set_string(&value, unconstify(char *, outbox->fields[i].name));
		(void) pushJsonbValue(&state, WJB_KEY, &value);
		value.type = jbvNull;
		if (!isnull)
			set_value(&value,
					  TupleDescAttr(outbox->desc, attnum - 1)->atttypid,
					  datum);
		(void) pushJsonbValue(&state, WJB_VALUE, &value);
	}
	object = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return JsonbPGetDatum(JsonbValueToJsonb(object));
}

/* ---- collecting and writing ---- */

static Datum
value_of(TupleTableSlot *slot, int attnum)
{
	bool  isnull;
	Datum value = slot_getattr(slot, attnum, &isnull);

	if (isnull)
		elog(ERROR, "unexpected null in column %d", attnum);
	return value;
}

static Datum
copy_of_uuid(TupleTableSlot *slot, int attnum)
{
	pg_uuid_t *copy = palloc(sizeof(pg_uuid_t));

	*copy = *DatumGetUUIDP(value_of(slot, attnum));
	return UUIDPGetDatum(copy);
}

void
outbox_add(Outbox *outbox, TupleTableSlot *slot)
{
	int			  i = outbox->count;
	MemoryContext caller = MemoryContextSwitchTo(outbox->context);
	pg_uuid_t	 *id = palloc(sizeof(pg_uuid_t));

	uuid7_generate_at(DatumGetTimestampTz(
						  value_of(slot, outbox->updated_at_attnum)),
					  id);
	outbox->ids[i] = UUIDPGetDatum(id);
	outbox->objects[i] = copy_of_uuid(slot, outbox->id_attnum);
	if (outbox->payment_id_attnum != 0)
		outbox->payments[i] = copy_of_uuid(slot, outbox->payment_id_attnum);
	outbox->numbers[i] = value_of(slot, outbox->number_attnum);
	outbox->types[i] = CStringGetTextDatum(
		event_type(outbox->object,
				   TextDatumGetCString(
					   value_of(slot, outbox->status_attnum))));
	outbox->data[i] = make_data(outbox, slot);
	MemoryContextSwitchTo(caller);

	if (++outbox->count == OUTBOX_BATCH)
		outbox_flush(outbox);
}

static Datum
array_of(Datum *values, bool *nulls, int count, Oid type)
{
	int	  lower = 1;
	int16 length;
	bool  by_value;
	char  align;

	get_typlenbyvalalign(type, &length, &by_value, &align);
	return PointerGetDatum(construct_md_array(values, nulls, 1, &count, &lower,
											  type, length, by_value, align));
}

static void
fill_arrays(Outbox *outbox, Datum *values)
{
	bool  no_payment[OUTBOX_BATCH];
	int	  count = outbox->count;
	bool *nulls = NULL;

	if (outbox->payment_id_attnum == 0)
	{
		memset(no_payment, true, sizeof(no_payment));
		nulls = no_payment;
	}
	values[0] = array_of(outbox->ids, NULL, count, UUIDOID);
	values[1] = array_of(outbox->objects, NULL, count, UUIDOID);
	values[2] = array_of(outbox->payments, nulls, count, UUIDOID);
	values[3] = array_of(outbox->numbers, NULL, count, INT4OID);
	values[4] = array_of(outbox->types, NULL, count, TEXTOID);
	values[5] = array_of(outbox->data, NULL, count, JSONBOID);
}

void
outbox_flush(Outbox *outbox)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDARRAYOID, UUIDARRAYOID, UUIDARRAYOID,
								  INT4ARRAYOID, TEXTARRAYOID, JSONBARRAYOID,
								  TEXTOID,		XID8OID };
	Datum			  values[lengthof(types)];
	MemoryContext	  caller;

	if (outbox->count == 0)
		return;
	caller = MemoryContextSwitchTo(outbox->context);
	fill_arrays(outbox, values);
	values[6] = CStringGetTextDatum(transition_object_name(outbox->object));
	/* after the rows' locks were taken, and our own number */
	values[7] = FullTransactionIdGetDatum(ReadNextFullTransactionId());
	MemoryContextSwitchTo(caller);

	plan_keep(&plan,
			  "INSERT INTO payment.event (id, epoch, horizon, object,"
			  " object_id, payment_id, number, type, data)"
			  " SELECT i, (SELECT max(n.recorded_at) FROM payment.instance n"
			  " WHERE n.cause IN ('create', 'restore')),"
			  " $8, $7, o, p, n, t, d"
			  " FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2),"
			  " pg_catalog.unnest($3), pg_catalog.unnest($4),"
			  " pg_catalog.unnest($5), pg_catalog.unnest($6))"
			  " AS u (i, o, p, n, t, d)",
			  lengthof(types), types);
	order_write(plan, values, NULL, order_write_cause());
	payment_announce_events_at_commit();
	MemoryContextReset(outbox->context);
	outbox->count = 0;
}

/*
 * payment.event_types() -> table(type, object, status)
 */
Datum
payment_event_types(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < (int) lengthof(published); i++)
	{
		bool  nulls[3] = { false };
		Datum values[3];

		values[0] = CStringGetTextDatum(
			event_type(published[i].object, published[i].status));
		values[1] =
			CStringGetTextDatum(transition_object_name(published[i].object));
		values[2] = CStringGetTextDatum(published[i].status);
		tuplestore_putvalues(result->setResult, result->setDesc, values,
							 nulls);
	}
	return (Datum) 0;
}
