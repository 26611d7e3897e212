/*-------------------------------------------------------------------------
 *
 * guard.c
 *	  Triggers that hold payments, orders and payouts to their rules.
 *
 * Privileges refuse a write by hand first; these refuse it to the owner and to
 * a superuser too, and catch mistakes of our own code.  What remains open by
 * hand is what cannot bend money: descriptions, metadata, and the changes of
 * status that the table in transition.c gives to operators.
 *
 * An INSERT by hand passes while the table is empty: that is what the COPY of
 * a restored dump meets.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "errcodes.h"
#include "event/outbox.h"
#include "order/guard.h"
#include "order/transition.h"

PG_FUNCTION_INFO_V1(payment_guard_update);
PG_FUNCTION_INFO_V1(payment_guard_rows);

typedef enum ColumnRule
{
	RULE_IMMUTABLE,	 /* nobody changes it */
	RULE_OURS,		 /* only the extension changes it */
	RULE_PSP,		 /* ... of an order that is about to be sent */
	RULE_STATUS,	 /* follows the table of transitions */
	RULE_UPDATED_AT, /* set here */
	RULE_EVENT_COUNT /* ... too */
} ColumnRule;

typedef struct GuardedColumn
{
	const char *name;
	int			likely_attnum; /* saves a search by name */
	ColumnRule	rule;
} GuardedColumn;

static const GuardedColumn payment_columns[] = {
	{ "id", 1, RULE_IMMUTABLE },
	{ "payer", 2, RULE_IMMUTABLE },
	{ "psp_id", 3, RULE_IMMUTABLE },
	{ "payment_method", 4, RULE_OURS },
	{ "status", 5, RULE_STATUS },
	{ "order_count", 6, RULE_IMMUTABLE },
	{ "succeeded_count", 7, RULE_OURS },
	{ "failed_count", 8, RULE_OURS },
	{ "updated_at", 10, RULE_UPDATED_AT },
	{ "payment_methods", 11, RULE_IMMUTABLE },
	{ "route", 12, RULE_IMMUTABLE },
	{ "event_count", 13, RULE_EVENT_COUNT },
	{ "capture_method", 14, RULE_IMMUTABLE },
	{ "on_partial_failure", 15, RULE_IMMUTABLE },
};

#define ORDER_STATUS_ATTNUM 9

static const GuardedColumn order_columns[] = {
	{ "id", 1, RULE_IMMUTABLE },
	{ "payment_id", 2, RULE_IMMUTABLE },
	{ "seller_id", 3, RULE_IMMUTABLE },
	{ "psp_id", 4, RULE_PSP },
	{ "amount", 5, RULE_IMMUTABLE },
	{ "currency", 6, RULE_IMMUTABLE },
	{ "platform_fee", 7, RULE_IMMUTABLE },
	{ "captured_amount", 8, RULE_OURS },
	{ "status", 9, RULE_STATUS },
	{ "attempt_no", 10, RULE_OURS },
	{ "captured_at", 11, RULE_OURS },
	{ "released_at", 12, RULE_OURS },
	{ "psp_reference", 13, RULE_OURS },
	{ "failure_code", 14, RULE_OURS },
	{ "failure_message", 15, RULE_OURS },
	{ "reference", 16, RULE_IMMUTABLE },
	{ "updated_at", 19, RULE_UPDATED_AT },
	{ "payment_method", 20, RULE_OURS },
	{ "routed", 21, RULE_OURS },
	{ "fee_schedule_id", 22, RULE_IMMUTABLE },
	{ "event_count", 23, RULE_EVENT_COUNT },
	{ "authorized_amount", 24, RULE_OURS },
	{ "authorized_until", 25, RULE_OURS },
	{ "authorization_reference", 26, RULE_OURS },
	{ "capture_reference", 27, RULE_OURS },
	{ "capture_no", 28, RULE_OURS },
	{ "operation_no", 29, RULE_OURS },
	{ "capturing_amount", 30, RULE_OURS },
	{ "capture_final", 31, RULE_OURS },
	{ "pending_amount", 32, RULE_OURS },
	{ "refunded_amount", 33, RULE_OURS },
	{ "fee_returned", 34, RULE_OURS },
	{ "captured_fee", 35, RULE_OURS },
	{ "cancel_requested_at", 36, RULE_OURS },
	{ "disputed_amount", 37, RULE_OURS },
	{ "disputed_fee", 38, RULE_OURS },
	{ "open_disputes", 39, RULE_OURS },
	{ "settled_currency", 40, RULE_OURS },
	{ "settled_captured_amount", 41, RULE_OURS },
	{ "settled_amount", 42, RULE_OURS },
	{ "exchange_rate", 43, RULE_OURS },
	{ "psp_fee", 44, RULE_OURS },
	{ "exchanged_amount", 45, RULE_OURS },
	{ "exchanged_for", 46, RULE_OURS },
};

static const GuardedColumn refund_columns[] = {
	{ "id", 1, RULE_IMMUTABLE },
	{ "order_id", 2, RULE_IMMUTABLE },
	{ "seller_id", 3, RULE_IMMUTABLE },
	{ "psp_id", 4, RULE_IMMUTABLE },
	{ "amount", 5, RULE_IMMUTABLE },
	{ "currency", 6, RULE_IMMUTABLE },
	{ "fee_share", 7, RULE_IMMUTABLE },
	{ "from_pending", 8, RULE_IMMUTABLE },
	{ "from_available", 9, RULE_IMMUTABLE },
	{ "from_receivable", 10, RULE_IMMUTABLE },
	{ "status", 11, RULE_STATUS },
	{ "attempt_no", 12, RULE_OURS },
	{ "psp_reference", 13, RULE_OURS },
	{ "failure_code", 14, RULE_OURS },
	{ "failure_message", 15, RULE_OURS },
	{ "reason", 16, RULE_IMMUTABLE },
	{ "requested_by", 17, RULE_IMMUTABLE },
	{ "updated_at", 18, RULE_UPDATED_AT },
	{ "settled_at", 19, RULE_OURS },
	{ "settled_currency", 21, RULE_OURS },
	{ "settled_amount", 22, RULE_OURS },
	{ "exchange_rate", 23, RULE_OURS },
	{ "exchanged_for", 24, RULE_OURS },
	{ "event_count", 20, RULE_EVENT_COUNT },
};

static const GuardedColumn dispute_columns[] = {
	{ "id", 1, RULE_IMMUTABLE },
	{ "order_id", 2, RULE_IMMUTABLE },
	{ "seller_id", 3, RULE_IMMUTABLE },
	{ "psp_id", 4, RULE_IMMUTABLE },
	{ "amount", 5, RULE_OURS },
	{ "currency", 6, RULE_IMMUTABLE },
	{ "status", 7, RULE_STATUS },
	{ "psp_reference", 8, RULE_IMMUTABLE },
	{ "reason", 9, RULE_OURS },
	{ "respond_by", 10, RULE_OURS },
	{ "is_taken", 11, RULE_OURS },
	{ "from_pending", 12, RULE_OURS },
	{ "from_available", 13, RULE_OURS },
	{ "from_receivable", 14, RULE_OURS },
	{ "fee_share", 15, RULE_OURS },
	{ "platform_loss", 16, RULE_OURS },
	{ "fee", 17, RULE_OURS },
	{ "fee_currency", 18, RULE_OURS },
	{ "sequence", 19, RULE_OURS },
	{ "updated_at", 20, RULE_UPDATED_AT },
	{ "event_count", 21, RULE_EVENT_COUNT },
};

static const GuardedColumn dispute_response_columns[] = {
	{ "id", 1, RULE_IMMUTABLE },
	{ "dispute_id", 2, RULE_IMMUTABLE },
	{ "psp_id", 3, RULE_IMMUTABLE },
	{ "operation", 4, RULE_IMMUTABLE },
	{ "evidence", 5, RULE_IMMUTABLE },
	{ "status", 6, RULE_STATUS },
	{ "attempt_no", 7, RULE_OURS },
	{ "failure_code", 8, RULE_OURS },
	{ "failure_message", 9, RULE_OURS },
	{ "requested_by", 10, RULE_IMMUTABLE },
	{ "updated_at", 11, RULE_UPDATED_AT },
};

static const GuardedColumn payout_columns[] = {
	{ "id", 1, RULE_IMMUTABLE },
	{ "seller_id", 2, RULE_IMMUTABLE },
	{ "psp_id", 3, RULE_IMMUTABLE },
	{ "amount", 4, RULE_IMMUTABLE },
	{ "currency", 5, RULE_IMMUTABLE },
	{ "destination", 6, RULE_IMMUTABLE },
	{ "status", 7, RULE_STATUS },
	{ "attempt_no", 8, RULE_OURS },
	{ "psp_reference", 9, RULE_OURS },
	{ "failure_code", 10, RULE_OURS },
	{ "failure_message", 11, RULE_OURS },
	{ "requested_by", 12, RULE_IMMUTABLE },
	{ "updated_at", 13, RULE_UPDATED_AT },
	{ "event_count", 14, RULE_EVENT_COUNT },
};

static const GuardedColumn settlement_file_columns[] = {
	{ "id", 1, RULE_IMMUTABLE },
	{ "psp_id", 2, RULE_IMMUTABLE },
	{ "format", 3, RULE_IMMUTABLE },
	{ "file_name", 4, RULE_IMMUTABLE },
	{ "sha256", 5, RULE_IMMUTABLE },
	{ "status", 6, RULE_STATUS },
	{ "line_count", 7, RULE_OURS },
	{ "warnings", 8, RULE_OURS },
	{ "imported_at", 9, RULE_IMMUTABLE },
	{ "imported_by", 10, RULE_IMMUTABLE },
};

static const GuardedColumn exception_columns[] = {
	{ "id", 1, RULE_IMMUTABLE },		 { "type", 2, RULE_IMMUTABLE },
	{ "class", 3, RULE_OURS },			 { "status", 4, RULE_STATUS },
	{ "psp_id", 5, RULE_IMMUTABLE },	 { "order_id", 6, RULE_IMMUTABLE },
	{ "line_id", 7, RULE_IMMUTABLE },	 { "file_id", 8, RULE_IMMUTABLE },
	{ "currency", 9, RULE_OURS },		 { "expected_amount", 10, RULE_OURS },
	{ "actual_amount", 11, RULE_OURS },	 { "detail", 12, RULE_OURS },
	{ "opened_at", 13, RULE_IMMUTABLE }, { "closed_at", 14, RULE_OURS },
	{ "in_ledger", 15, RULE_OURS },
};

static const struct
{
	TransitionObject	 object;
	const GuardedColumn *columns;
	int					 count;
} guarded_tables[] = {
	{ OBJECT_PAYMENT, payment_columns, lengthof(payment_columns) },
	{ OBJECT_PAYMENT_ORDER, order_columns, lengthof(order_columns) },
	{ OBJECT_REFUND, refund_columns, lengthof(refund_columns) },
	{ OBJECT_DISPUTE, dispute_columns, lengthof(dispute_columns) },
	{ OBJECT_DISPUTE_RESPONSE, dispute_response_columns,
	  lengthof(dispute_response_columns) },
	{ OBJECT_PAYOUT, payout_columns, lengthof(payout_columns) },
	{ OBJECT_SETTLEMENT_FILE, settlement_file_columns,
	  lengthof(settlement_file_columns) },
	{ OBJECT_EXCEPTION, exception_columns, lengthof(exception_columns) },
};

/*
 * The trigger's data, after refusing every context but the one the script
 * creates the trigger for.
 */
TriggerData *
trigger_data(FunctionCallInfo fcinfo, const char *name, TriggerEvent timing,
			 bool for_row)
{
	TriggerData *trigdata;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("%s() was not called as a trigger", name)));
	trigdata = (TriggerData *) fcinfo->context;
	if ((trigdata->tg_event & TRIGGER_EVENT_TIMINGMASK) != timing ||
		(TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) != 0) != for_row)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("%s() was called at the wrong time or level", name)));
	return trigdata;
}

/* the object that the trigger's only argument names */
TransitionObject
trigger_object(const TriggerData *trigdata)
{
	const Trigger *trigger = trigdata->tg_trigger;

	for (int i = 0; i < OBJECT_COUNT && trigger->tgnargs == 1; i++)
	{
		if (strcmp(trigger->tgargs[0], transition_object_name(i)) == 0)
			return (TransitionObject) i;
	}
	ereport(ERROR,
			(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			 errmsg("trigger \"%s\" has to name its object", trigger->tgname),
			 errhint("Its argument is an object of payment.transitions().")));
}

/*
 * Partitions may order their columns in another way than the script did, so
 * the number is only a guess to try first.
 */
int
column_number(TupleDesc desc, const char *name, int likely_attnum)
{
	int attnum;

	if (likely_attnum <= desc->natts)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, likely_attnum - 1);

		if (!attr->attisdropped && strcmp(NameStr(attr->attname), name) == 0)
			return likely_attnum;
	}
	attnum = SPI_fnumber(desc, name);
	if (attnum <= 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
						errmsg("column \"%s\" is missing", name)));
	return attnum;
}

static bool
column_changed(TupleDesc desc, int attnum, HeapTuple old_row,
			   HeapTuple new_row)
{
	Form_pg_attribute attr = TupleDescAttr(desc, attnum - 1);
	bool			  old_null;
	bool			  new_null;
	Datum old_value = heap_getattr(old_row, attnum, desc, &old_null);
	Datum new_value = heap_getattr(new_row, attnum, desc, &new_null);

	if (old_null || new_null)
		return old_null != new_null;
	return !datum_image_eq(old_value, new_value, attr->attbyval, attr->attlen);
}

static void
check_transition(TransitionObject object, TupleDesc desc, int attnum,
				 HeapTuple old_row, HeapTuple new_row)
{
	char		   *from = SPI_getvalue(old_row, desc, attnum);
	char		   *to = SPI_getvalue(new_row, desc, attnum);
	TransitionCause cause = order_write_cause();

	if (to != NULL && transition_is_legal(object, from, to, cause))
		return;
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_ILLEGAL_TRANSITION),
					errmsg("illegal transition of %s from \"%s\" to \"%s\"",
						   transition_object_name(object), from ? from : "",
						   to ? to : ""),
					errdetail("Object %s, from \"%s\", to \"%s\", cause %s.",
							  transition_object_name(object), from ? from : "",
							  to ? to : "", transition_cause_name(cause)),
					errhint("payment.transitions() lists the legal ones.")));
}

/*
 * Where the money may be, or is, an order stays: what it was paid with, and
 * who owes it to us, cannot change behind it.
 */
static void
check_new_psp(TupleDesc desc, HeapTuple old_row, HeapTuple new_row)
{
	int	  attnum = column_number(desc, "status", ORDER_STATUS_ATTNUM);
	char *from = SPI_getvalue(old_row, desc, attnum);
	char *to = SPI_getvalue(new_row, desc, attnum);

	if (from == NULL || to == NULL || strcmp(from, to) != 0 ||
		(strcmp(to, "executing") != 0 && strcmp(to, "created") != 0))
		elog(ERROR, "an order that is %s cannot change its PSP",
			 from ? from : "null");
}

static void
refuse_column(const TriggerData *trigdata, const GuardedColumn *column)
{
	const char *table = RelationGetRelationName(trigdata->tg_relation);

	if (column->rule == RULE_IMMUTABLE)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_IMMUTABLE_COLUMN),
						errmsg("column \"%s\" of \"%s\" never changes",
							   column->name, table),
						errdetail("What was agreed with payer and seller is "
								  "stored once."),
						errhint("Correct it with a new object, or a reversing "
								"one.")));
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_GUARDED_TABLE),
			 errmsg("column \"%s\" of \"%s\" cannot be changed by hand",
					column->name, table),
			 errdetail("It follows what the PSP answers and what the ledger "
					   "holds."),
			 errhint("Call the functions of the schema payment.")));
}

static const GuardedColumn *
guarded_columns(TransitionObject object, int *count)
{
	for (int i = 0; i < (int) lengthof(guarded_tables); i++)
	{
		if (guarded_tables[i].object == object)
		{
			*count = guarded_tables[i].count;
			return guarded_tables[i].columns;
		}
	}
	ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
					errmsg("no guarded table holds the object \"%s\"",
						   transition_object_name(object))));
}

static bool
is_published(TransitionObject object, TupleDesc desc, int attnum,
			 HeapTuple row)
{
	char *status = SPI_getvalue(row, desc, attnum);

	return outbox_publishes(object, status, (int) strlen(status));
}

/* What is set here, whatever the statement says. */
typedef struct FollowingColumns
{
	int	  count;
	int	  attnums[2];
	Datum values[2];
	bool  nulls[2];
} FollowingColumns;

static void
follow(FollowingColumns *following, int attnum, Datum value)
{
	following->attnums[following->count] = attnum;
	following->values[following->count] = value;
	following->nulls[following->count] = false;
	following->count++;
}

static Datum
old_value(TupleDesc desc, int attnum, HeapTuple old_row)
{
	bool  isnull;
	Datum value = heap_getattr(old_row, attnum, desc, &isnull);

	if (isnull)
		elog(ERROR, "unexpected null in column %d", attnum);
	return value;
}

/*
 * Also when the clock was set back: events are told in this order (outbox.c).
 */
static void
set_updated_at(FollowingColumns *following, TupleDesc desc, int attnum,
			   HeapTuple old_row)
{
	TimestampTz before = DatumGetTimestampTz(old_value(desc, attnum, old_row));

	follow(following, attnum,
		   TimestampTzGetDatum(Max(GetCurrentTimestamp(), before + 1)));
}

static void
set_event_count(FollowingColumns *following, TupleDesc desc, int attnum,
				HeapTuple old_row, bool published)
{
	int32 count = DatumGetInt32(old_value(desc, attnum, old_row));

	follow(following, attnum, Int32GetDatum(count + (published ? 1 : 0)));
}

/*
 * BEFORE UPDATE, for each row: checks every guarded column, sets updated_at
 * and counts events where there are such columns.
 */
Datum
payment_guard_update(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata =
		trigger_data(fcinfo, "guard_update", TRIGGER_EVENT_BEFORE, true);
	TransitionObject	 object = trigger_object(trigdata);
	TupleDesc			 desc = RelationGetDescr(trigdata->tg_relation);
	HeapTuple			 old_row = trigdata->tg_trigtuple;
	HeapTuple			 new_row = trigdata->tg_newtuple;
	int					 count;
	const GuardedColumn *columns = guarded_columns(object, &count);
	FollowingColumns	 following = { 0 };
	bool				 published = false; /* columns count after status */

	if (!TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("guard_update() must be fired by UPDATE")));

	for (int i = 0; i < count; i++)
	{
		const GuardedColumn *column = &columns[i];
		int attnum = column_number(desc, column->name, column->likely_attnum);

		if (column->rule == RULE_UPDATED_AT)
			set_updated_at(&following, desc, attnum, old_row);
		else if (column->rule == RULE_EVENT_COUNT)
			set_event_count(&following, desc, attnum, old_row, published);
		else if (!column_changed(desc, attnum, old_row, new_row))
			continue;
		else if (column->rule == RULE_STATUS)
		{
			check_transition(object, desc, attnum, old_row, new_row);
			published = is_published(object, desc, attnum, new_row);
		}
		else if (column->rule == RULE_IMMUTABLE || !order_write_active())
			refuse_column(trigdata, column);
		else if (column->rule == RULE_PSP)
			check_new_psp(desc, old_row, new_row);
	}
	if (following.count == 0)
		return PointerGetDatum(new_row);
	return PointerGetDatum(
		heap_modify_tuple_by_cols(new_row, desc, following.count,
								  following.attnums, following.values,
								  following.nulls));
}

static bool
leaf_is_empty(Oid relid, Snapshot snapshot)
{
	Relation		rel = table_open(relid, AccessShareLock);
	TableScanDesc	scan;
	TupleTableSlot *slot;
	bool			empty = true;

	if (rel->rd_rel->relkind == RELKIND_RELATION)
	{
		slot = table_slot_create(rel, NULL);
		scan = table_beginscan(rel, snapshot, 0, NULL);
		empty = !table_scan_getnextslot(scan, ForwardScanDirection, slot);
		table_endscan(scan);
		ExecDropSingleTupleTableSlot(slot);
	}
	table_close(rel, AccessShareLock);
	return empty;
}

/*
 * Not through SPI: whoever inserts may have no right to read.  Dirty, so that
 * neither an old snapshot hides rows that others committed, nor a commit to
 * come those that they are writing.
 */
bool
table_is_empty(Relation rel)
{
	SnapshotData dirty;
	List		*leaves;
	ListCell	*cell;
	bool		 empty = true;

	InitDirtySnapshot(dirty);
	leaves = find_all_inheritors(RelationGetRelid(rel), AccessShareLock, NULL);
	foreach (cell, leaves)
	{
		empty = leaf_is_empty(lfirst_oid(cell), &dirty);
		if (!empty)
			break;
	}
	return empty;
}

/*
 * Into the extension's own tables; a partition made later gets its guards
 * after its rows, and is mostly empty when it could be written to by hand.
 */
bool
restore_may_insert(Relation rel)
{
	return OidIsValid(getExtensionOfObject(RelationRelationId,
										   RelationGetRelid(rel))) &&
		   table_is_empty(rel);
}

const char *
event_name(TriggerEvent event)
{
	if (TRIGGER_FIRED_BY_INSERT(event))
		return "INSERT";
	if (TRIGGER_FIRED_BY_UPDATE(event))
		return "UPDATE";
	if (TRIGGER_FIRED_BY_DELETE(event))
		return "DELETE";
	return "TRUNCATE";
}

/*
 * BEFORE INSERT, UPDATE, DELETE or TRUNCATE, for each statement: only
 * order_write() adds rows or, where the trigger is made for UPDATE, changes
 * them.  Nothing is ever removed.  With the argument 'append_only' nothing is
 * changed either.  With 'transient' rows come and go, but only by us.
 */
Datum
payment_guard_rows(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata =
		trigger_data(fcinfo, "guard_rows", TRIGGER_EVENT_BEFORE, false);
	TriggerEvent   event = trigdata->tg_event;
	const Trigger *trigger = trigdata->tg_trigger;
	Relation	   rel = trigdata->tg_relation;
	bool		   transient =
		trigger->tgnargs == 1 && strcmp(trigger->tgargs[0], "transient") == 0;

	if (TRIGGER_FIRED_BY_INSERT(event) &&
		(order_write_active() || restore_may_insert(rel)))
		return PointerGetDatum(NULL);
	if (TRIGGER_FIRED_BY_UPDATE(event) && order_write_active() &&
		(trigger->tgnargs == 0 || transient))
		return PointerGetDatum(NULL);
	if (TRIGGER_FIRED_BY_DELETE(event) && order_write_active() && transient)
		return PointerGetDatum(NULL);

	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_GUARDED_TABLE),
			 errmsg("%s on \"%s\" is refused", event_name(event),
					RelationGetRelationName(rel)),
			 errdetail("Its rows are evidence: only the extension adds them, "
					   "and none is ever removed."),
			 errhint("Call the functions of the schema payment.")));
}
