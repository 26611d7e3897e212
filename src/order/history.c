/*-------------------------------------------------------------------------
 *
 * history.c
 *	  Every status an object ever had, written by triggers, and the events
 *	  that tell applications of it.
 *
 * The triggers run once per statement and write the rows of all objects that
 * the statement touched together.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

#include "errcodes.h"
#include "event/outbox.h"
#include "order/guard.h"
#include "order/plan.h"
#include "uuid7.h"

PG_FUNCTION_INFO_V1(payment_record_history);

/* rows per INSERT: bounds memory whatever the statement's size */
#define HISTORY_BATCH 1000

typedef struct HistoryBatch
{
	TransitionObject object;
	int				 count;
	Datum			 ids[HISTORY_BATCH];
	Datum			 objects[HISTORY_BATCH];
	Datum			 from[HISTORY_BATCH];
	bool			 from_null[HISTORY_BATCH];
	Datum			 to[HISTORY_BATCH];
	MemoryContext	 context; /* holds the values, reset at each flush */
	Outbox			*outbox;  /* NULL: there was no event yet */
} HistoryBatch;

/* One side of the statement: the rows as they were, or as they are. */
typedef struct RowSide
{
	Tuplestorestate *store;
	TupleTableSlot	*slot;
	int				 pointer;
	int				 id_attnum;
	int				 status_attnum;
} RowSide;

static Datum
uuid_array(Datum *values, int count)
{
	return PointerGetDatum(construct_array(values, count, UUIDOID, UUID_LEN,
										   false, TYPALIGN_CHAR));
}

static Datum
text_array(Datum *values, bool *nulls, int count)
{
	int lower = 1;

	return PointerGetDatum(construct_md_array(values, nulls, 1, &count, &lower,
											  TEXTOID, -1, false,
											  TYPALIGN_INT));
}

static void
flush_history(HistoryBatch *batch)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDARRAYOID, UUIDARRAYOID,  TEXTARRAYOID,
								  TEXTARRAYOID, TEXTOID,	   TEXTOID,
								  TEXTOID,		TIMESTAMPTZOID };
	Datum			  values[8];
	MemoryContext	  caller;

	if (batch->count == 0)
		return;
	caller = MemoryContextSwitchTo(batch->context);
	values[0] = uuid_array(batch->ids, batch->count);
	values[1] = uuid_array(batch->objects, batch->count);
	values[2] = text_array(batch->from, batch->from_null, batch->count);
	values[3] = text_array(batch->to, NULL, batch->count);
	values[4] = CStringGetTextDatum(transition_object_name(batch->object));
	values[5] =
		CStringGetTextDatum(transition_cause_name(order_write_cause()));
	values[6] =
		CStringGetTextDatum(GetUserNameFromId(GetSessionUserId(), false));
	values[7] = TimestampTzGetDatum(GetCurrentTimestamp());
	MemoryContextSwitchTo(caller);

	plan_keep(&plan,
			  "INSERT INTO payment.status_history (id, object, object_id, "
			  "from_status, to_status, cause, actor, recorded_at) "
			  "SELECT i, $5, o, f, t, $6, $7, $8 "
			  "FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), "
			  "pg_catalog.unnest($3), pg_catalog.unnest($4)) "
			  "AS u (i, o, f, t)",
			  lengthof(types), types);
	order_write(plan, values, NULL, order_write_cause());
	MemoryContextReset(batch->context);
	batch->count = 0;
}

static void
open_side(RowSide *side, Tuplestorestate *store, TupleDesc desc,
		  int likely_status)
{
	side->store = store;
	side->slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	side->pointer = tuplestore_alloc_read_pointer(store, EXEC_FLAG_REWIND);
	tuplestore_select_read_pointer(store, side->pointer);
	tuplestore_rescan(store);
	side->id_attnum = column_number(desc, "id", 1);
	side->status_attnum = column_number(desc, "status", likely_status);
}

static bool
next_row(RowSide *side)
{
	tuplestore_select_read_pointer(side->store, side->pointer);
	return tuplestore_gettupleslot(side->store, true, false, side->slot);
}

static Datum
row_value(RowSide *side, int attnum)
{
	bool  isnull;
	Datum value = slot_getattr(side->slot, attnum, &isnull);

	if (isnull)
		elog(ERROR, "unexpected null in column %d", attnum);
	return value;
}

static void
add_event(HistoryBatch *batch, const RowSide *after)
{
	if (batch->outbox == NULL)
		batch->outbox =
			outbox_open(batch->object, after->slot->tts_tupleDescriptor);
	outbox_add(batch->outbox, after->slot);
}

static bool
is_published(HistoryBatch *batch, RowSide *after)
{
	text *status = DatumGetTextPP(row_value(after, after->status_attnum));

	return outbox_publishes(batch->object, VARDATA_ANY(status),
							(int) VARSIZE_ANY_EXHDR(status));
}

static void
add_history(HistoryBatch *batch, RowSide *before, RowSide *after)
{
	int			  i = batch->count;
	pg_uuid_t	 *id;
	MemoryContext caller = MemoryContextSwitchTo(batch->context);

	id = palloc(sizeof(pg_uuid_t));
	uuid7_generate(id);
	batch->ids[i] = UUIDPGetDatum(id);
	id = palloc(sizeof(pg_uuid_t));
	memcpy(id, DatumGetUUIDP(row_value(after, after->id_attnum)),
		   sizeof(pg_uuid_t));
	batch->objects[i] = UUIDPGetDatum(id);
	batch->to[i] = PointerGetDatum(
		DatumGetTextPCopy(row_value(after, after->status_attnum)));
	batch->from_null[i] = before == NULL;
	batch->from[i] = before == NULL
						 ? (Datum) 0
						 : PointerGetDatum(DatumGetTextPCopy(
							   row_value(before, before->status_attnum)));
	MemoryContextSwitchTo(caller);

	if (++batch->count == HISTORY_BATCH)
		flush_history(batch);
}

static bool
same_text(Datum a, Datum b)
{
	text *left = DatumGetTextPP(a);
	text *right = DatumGetTextPP(b);
	int	  length = VARSIZE_ANY_EXHDR(left);

	return length == (int) VARSIZE_ANY_EXHDR(right) &&
		   memcmp(VARDATA_ANY(left), VARDATA_ANY(right), length) == 0;
}

/* The executor puts old and new row into their stores at the same time. */
static void
collect_updates(HistoryBatch *batch, RowSide *before, RowSide *after)
{
	while (next_row(before) && next_row(after))
	{
		if (memcmp(DatumGetUUIDP(row_value(before, before->id_attnum)),
				   DatumGetUUIDP(row_value(after, after->id_attnum)),
				   UUID_LEN) != 0)
			elog(ERROR, "old and new rows of an update do not pair");
		if (!same_text(row_value(before, before->status_attnum),
					   row_value(after, after->status_attnum)))
		{
			add_history(batch, before, after);
			if (is_published(batch, after))
				add_event(batch, after);
		}
	}
}

static void
collect_inserts(HistoryBatch *batch, RowSide *after)
{
	while (next_row(after))
	{
		char *to = TextDatumGetCString(row_value(after, after->status_attnum));

		if (!transition_is_legal(batch->object, NULL, to, order_write_cause()))
			ereport(ERROR, (errcode(ERRCODE_PAYMENT_ILLEGAL_TRANSITION),
							errmsg("%s cannot begin as \"%s\"",
								   transition_object_name(batch->object), to),
							errhint("payment.transitions() lists the legal "
									"beginnings.")));
		pfree(to);
		add_history(batch, NULL, after);
		/* who makes one of these counts its first event, too */
		if (is_published(batch, after))
			add_event(batch, after);
	}
}

/*
 * AFTER INSERT or UPDATE, for each statement, with transition tables.  Rows
 * inserted by hand are those of a restored dump, whose history comes along.
 */
Datum
payment_record_history(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata =
		trigger_data(fcinfo, "record_history", TRIGGER_EVENT_AFTER, false);
	TupleDesc	  desc = RelationGetDescr(trigdata->tg_relation);
	bool		  is_update = TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event);
	HistoryBatch *batch;
	RowSide		  before;
	RowSide		  after;

	if (trigdata->tg_newtable == NULL ||
		(is_update && trigdata->tg_oldtable == NULL))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("record_history() needs transition tables")));
	if (!is_update && !order_write_active())
		return PointerGetDatum(NULL);

	spi_begin();
	batch = palloc(sizeof(HistoryBatch));
	batch->object = trigger_object(trigdata);
	batch->count = 0;
	batch->outbox = NULL;
	batch->context =
		AllocSetContextCreate(CurrentMemoryContext, "payment history",
							  ALLOCSET_DEFAULT_SIZES);
	open_side(&after, trigdata->tg_newtable, desc, 9);
	if (is_update)
	{
		open_side(&before, trigdata->tg_oldtable, desc, 9);
		collect_updates(batch, &before, &after);
		ExecDropSingleTupleTableSlot(before.slot);
	}
	else
		collect_inserts(batch, &after);
	ExecDropSingleTupleTableSlot(after.slot);
	flush_history(batch);
	if (batch->outbox)
		outbox_flush(batch->outbox);
	spi_end();
	return PointerGetDatum(NULL);
}
