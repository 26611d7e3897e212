/*-------------------------------------------------------------------------
 *
 * write.c
 *	  Inserts journals and entries, many at a time, into their partitions.
 *
 * Straight through the table access method: every check has been made, and
 * the executor's planning and per-row work would cost more than the insert.
 * Row triggers that somebody adds to these tables therefore do not fire.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/builtins.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "ledger/posting.h"
#include "order/guard.h"

#define WRITE_BATCH_ROWS 1024

/* that many rows may each hold on to the table's own descriptor */
#define FEW_ROWS 16

typedef struct TableWriter
{
	Relation		 parent;
	Relation		 partition; /* where the rows in hand go */
	IndexSet		 indexes;
	CommandId		 command;
	TupleDesc		 desc; /* a copy, of the partition, for more than a few */
	int				 column_count;			   /* of the parent */
	int				 columns[JOURNAL_COLUMNS]; /* their numbers there */
	TupleTableSlot	*few[FEW_ROWS];
	TupleTableSlot **rows;
	int				 capacity;
	int				 row_count; /* slots made */
	int				 used;		/* rows in hand */
} TableWriter;

static void
writer_begin(TableWriter *writer, LedgerTable table)
{
	memset(writer, 0, sizeof(*writer));
	writer->rows = writer->few;
	writer->capacity = FEW_ROWS;
	writer->parent = ledger_open(table, RowExclusiveLock);
	writer->column_count =
		table == LEDGER_JOURNAL ? JOURNAL_COLUMNS : ENTRY_COLUMNS;
	writer->command = GetCurrentCommandId(true);
}

/* the partition that an id belongs to */
static Oid
route(Relation parent, const pg_uuid_t *id)
{
	PartitionKey	   key = RelationGetPartitionKey(parent);
	PartitionDesc	   desc = RelationGetPartitionDesc(parent, true);
	PartitionBoundInfo bounds = desc->boundinfo;
	Datum			   value = UUIDPGetDatum(id);
	int				   index = -1;
	bool			   equal;

	if (bounds != NULL && bounds->ndatums > 0)
	{
		int below =
			partition_range_datum_bsearch(key->partsupfunc, key->partcollation,
										  bounds, 1, &value, &equal);

		index = bounds->indexes[below + 1];
	}
	if (index < 0 && bounds != NULL)
		index = bounds->default_index;
	if (index < 0)
		ereport(ERROR, (errcode(ERRCODE_CHECK_VIOLATION),
						errmsg("no partition of \"%s\" for this id",
							   RelationGetRelationName(parent)),
						errdetail("Its default partition is missing too."),
						errhint("Attach a default partition.")));
	return desc->oids[index];
}

static void
writer_flush(TableWriter *writer)
{
	if (writer->used == 0)
		return;
	table_multi_insert(writer->partition, writer->rows, writer->used,
					   writer->command, 0, NULL);
	index_set_enter(&writer->indexes, writer->rows, writer->used);
	for (int i = 0; i < writer->used; i++)
		ExecClearTuple(writer->rows[i]);
	writer->used = 0;
}

static void
writer_close_partition(TableWriter *writer)
{
	if (writer->partition == NULL)
		return;
	writer_flush(writer);
	for (int i = 0; i < writer->row_count; i++)
		ExecDropSingleTupleTableSlot(writer->rows[i]);
	writer->row_count = 0;
	index_set_close(&writer->indexes);
	table_close(writer->partition, NoLock);
	writer->partition = NULL;
}

/*
 * A table that somebody attached may have its columns in another order, and
 * others that he dropped.
 */
static void
map_columns(TableWriter *writer)
{
	TupleDesc from = RelationGetDescr(writer->parent);
	TupleDesc to = RelationGetDescr(writer->partition);

	for (int i = 0; i < writer->column_count; i++)
		writer->columns[i] =
			column_number(to, NameStr(TupleDescAttr(from, i)->attname), i + 1);
}

/*
 * Have the partition open that the id belongs to.  While we waited for its
 * lock another may have been attached that takes the id over, so the way is
 * looked up again once the lock, which keeps that from happening, is ours.
 */
static void
writer_route(TableWriter *writer, const pg_uuid_t *id)
{
	Oid relid = route(writer->parent, id);

	if (writer->partition != NULL &&
		RelationGetRelid(writer->partition) == relid)
		return;
	writer_close_partition(writer);
	for (;;)
	{
		Relation partition = try_table_open(relid, RowExclusiveLock);

		relid = route(writer->parent, id);
		if (partition != NULL && RelationGetRelid(partition) == relid)
		{
			writer->partition = partition;
			break;
		}
		if (partition != NULL)
			table_close(partition, RowExclusiveLock);
		CHECK_FOR_INTERRUPTS();
	}
	if (writer->partition->rd_rel->relkind != RELKIND_RELATION)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("partition \"%s\" is not an ordinary table",
							   RelationGetRelationName(writer->partition))));
	map_columns(writer);
	index_set_open(&writer->indexes, writer->partition);
}

/* columns that are not ours stay null */
static TupleTableSlot *
make_row(TableWriter *writer, TupleDesc desc)
{
	TupleTableSlot *row =
		MakeSingleTupleTableSlot(desc,
								 table_slot_callbacks(writer->partition));

	memset(row->tts_isnull, true, sizeof(bool) * desc->natts);
	return row;
}

/* a descriptor that is counted thousands of times slows the count down */
static void
add_row(TableWriter *writer)
{
	TupleDesc desc = RelationGetDescr(writer->partition);

	if (writer->row_count == FEW_ROWS)
		writer->desc = CreateTupleDescCopy(desc);
	if (writer->row_count == writer->capacity)
	{
		TupleTableSlot **rows =
			palloc(sizeof(TupleTableSlot *) * writer->capacity * 4);

		memcpy(rows, writer->rows,
			   sizeof(TupleTableSlot *) * writer->row_count);
		writer->rows = rows;
		writer->capacity *= 4;
	}
	writer->rows[writer->row_count] =
		make_row(writer, writer->row_count < FEW_ROWS ? desc : writer->desc);
	writer->row_count++;
}

/* an empty row for the partition of the id */
static TupleTableSlot *
writer_row(TableWriter *writer, const pg_uuid_t *id)
{
	writer_route(writer, id);
	if (writer->used == WRITE_BATCH_ROWS)
		writer_flush(writer);
	if (writer->used == writer->row_count)
		add_row(writer);
	return writer->rows[writer->used++];
}

static void
writer_end(TableWriter *writer)
{
	writer_close_partition(writer);
	table_close(writer->parent, NoLock);
}

static void
put(const TableWriter *writer, TupleTableSlot *row, int column, Datum value,
	bool isnull)
{
	int there = writer->columns[column - 1];

	row->tts_values[there - 1] = value;
	row->tts_isnull[there - 1] = isnull;
}

static void
write_journal(TableWriter *writer, const LedgerJournal *journal,
			  TimestampTz now)
{
	TupleTableSlot *row = writer_row(writer, &journal->id);
	TimestampTz		effective_at =
		journal->has_effective_at ? journal->effective_at : now;

	put(writer, row, JOURNAL_ID, UUIDPGetDatum(&journal->id), false);
	put(writer, row, JOURNAL_KIND, CStringGetTextDatum(journal->kind), false);
	put(writer, row, JOURNAL_SUBJECT, UUIDPGetDatum(&journal->subject),
		!journal->has_subject);
	put(writer, row, JOURNAL_REVERSES, UUIDPGetDatum(&journal->reverses),
		!journal->has_reverses);
	put(writer, row, JOURNAL_EFFECTIVE_AT, TimestampTzGetDatum(effective_at),
		false);
	put(writer, row, JOURNAL_RECORDED_AT, TimestampTzGetDatum(now), false);
	if (journal->description)
		put(writer, row, JOURNAL_DESCRIPTION,
			CStringGetTextDatum(journal->description), false);
	else
		put(writer, row, JOURNAL_DESCRIPTION, (Datum) 0, true);
	ExecStoreVirtualTuple(row);
}

static void
write_entries(TableWriter *writer, const LedgerJournal *journal)
{
	for (int leg = 0; leg < journal->leg_count; leg++)
	{
		TupleTableSlot *row = writer_row(writer, &journal->id);

		put(writer, row, ENTRY_JOURNAL_ID, UUIDPGetDatum(&journal->id), false);
		put(writer, row, ENTRY_LEG, Int16GetDatum(leg + 1), false);
		put(writer, row, ENTRY_ACCOUNT_ID,
			UUIDPGetDatum(&journal->legs[leg].account_id), false);
		put(writer, row, ENTRY_AMOUNT,
			Int64GetDatum(journal->legs[leg].amount), false);
		ExecStoreVirtualTuple(row);
	}
}

/* rows and texts live in the caller's context, which ends with the call */
void
write_journals(const LedgerJournal *journals, int count)
{
	TableWriter writer;
	TimestampTz now = GetCurrentTimestamp();

	writer_begin(&writer, LEDGER_JOURNAL);
	for (int i = 0; i < count; i++)
		write_journal(&writer, &journals[i], now);
	writer_end(&writer);

	writer_begin(&writer, LEDGER_ENTRY);
	for (int i = 0; i < count; i++)
		write_entries(&writer, &journals[i]);
	writer_end(&writer);
}
