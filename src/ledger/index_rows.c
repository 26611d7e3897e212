/*-------------------------------------------------------------------------
 *
 * index_rows.c
 *	  Enters rows just written into the indexes of their table.
 *
 * The executor goes row by row and, for each, index by index.  Here it is
 * index by index, and where the first column is a uuid, in its order: of the
 * many rows of a batch those of neighbouring accounts meet the same pages
 * while these are at hand.  All that has to be known of an index is in the
 * relation cache; to have the executor make its own state of it for each
 * posting costs as much as entering a row does.
 *
 * Indexes of another make than the ledger's own (no B-tree, on expressions,
 * partial, deferred, exclusion constraints), which an administrator may have
 * added, are left to the executor, and with them all others of the table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "uuid7.h"

#include "ledger/posting.h"

/* fewer are entered as they come */
#define SORT_MIN_ROWS 16

typedef struct KeyedRow
{
	pg_uuid_t key;
	int		  row;
} KeyedRow;

static bool
is_plain(Relation index)
{
	Form_pg_index form = index->rd_index;

	if (index->rd_rel->relam != BTREE_AM_OID || !form->indisready ||
		!form->indimmediate || form->indisexclusion ||
		!heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
		return false;
	/* an expression has no number, a system column one below zero */
	for (int i = 0; i < form->indnatts; i++)
	{
		if (form->indkey.values[i] <= 0)
			return false;
	}
	return true;
}

static void
prepare_executor(IndexSet *set)
{
	set->estate = CreateExecutorState();
	set->result = makeNode(ResultRelInfo);
	InitResultRelInfo(set->result, set->table, 0, NULL, 0);
	ExecOpenIndices(set->result, false);
}

/* the table is locked for writing already */
void
index_set_open(IndexSet *set, Relation table)
{
	List	 *ids = RelationGetIndexList(table);
	bool	  plain = true;
	ListCell *cell;

	set->table = table;
	set->estate = NULL;
	set->count = 0;
	set->indexes = palloc(sizeof(Relation) * Max(1, list_length(ids)));
	foreach (cell, ids)
	{
		Relation index = index_open(lfirst_oid(cell), RowExclusiveLock);

		set->indexes[set->count++] = index;
		plain = plain && is_plain(index);
	}
	list_free(ids);
	if (!plain)
		prepare_executor(set);
}

static inline int
compare_keyed_rows(const KeyedRow *a, const KeyedRow *b)
{
	int order = uuid_compare(&a->key, &b->key);

	return order != 0 ? order : a->row - b->row;
}

#define ST_SORT sort_keyed_rows
#define ST_ELEMENT_TYPE KeyedRow
#define ST_COMPARE(a, b) compare_keyed_rows(a, b)
#define ST_SCOPE static
#define ST_DEFINE
#include "lib/sort_template.h"

/* the rows in order of the first column; rows without one first */
static KeyedRow *
sort_rows(AttrNumber column, TupleTableSlot **rows, int count)
{
	KeyedRow *keyed = palloc0(sizeof(KeyedRow) * count);

	for (int i = 0; i < count; i++)
	{
		bool  isnull;
		Datum value = slot_getattr(rows[i], column, &isnull);

		keyed[i].row = i;
		if (!isnull)
			keyed[i].key = *DatumGetUUIDP(value);
	}
	sort_keyed_rows(keyed, count);
	return keyed;
}

static void
enter_row(Relation table, Relation index, TupleTableSlot *row)
{
	Form_pg_index form = index->rd_index;
	Datum		  values[INDEX_MAX_KEYS];
	bool		  isnull[INDEX_MAX_KEYS];

	for (int i = 0; i < form->indnatts; i++)
		values[i] = slot_getattr(row, form->indkey.values[i], &isnull[i]);
	/* a B-tree has no use for what the executor knows of it */
	index_insert(index, values, isnull, &row->tts_tid, table,
				 form->indisunique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO, false,
				 NULL);
}

static void
enter_rows(Relation table, Relation index, TupleTableSlot **rows, int count)
{
	KeyedRow *keyed = NULL;

	if (count >= SORT_MIN_ROWS &&
		TupleDescAttr(RelationGetDescr(index), 0)->atttypid == UUIDOID)
		keyed = sort_rows(index->rd_index->indkey.values[0], rows, count);
	for (int i = 0; i < count; i++)
		enter_row(table, index, rows[keyed ? keyed[i].row : i]);
	if (keyed)
		pfree(keyed);
}

void
index_set_enter(IndexSet *set, TupleTableSlot **rows, int count)
{
	if (set->estate == NULL)
	{
		for (int i = 0; i < set->count; i++)
			enter_rows(set->table, set->indexes[i], rows, count);
		return;
	}
	for (int i = 0; i < count; i++)
	{
		ResetPerTupleExprContext(set->estate);
		list_free(ExecInsertIndexTuples(set->result, rows[i], set->estate,
										false, false, NULL, NIL));
	}
}

/* their locks go with the transaction, which may well post again */
void
index_set_close(IndexSet *set)
{
	if (set->estate)
	{
		ExecCloseIndices(set->result);
		FreeExecutorState(set->estate);
	}
	for (int i = 0; i < set->count; i++)
		index_close(set->indexes[i], NoLock);
	pfree(set->indexes);
}
