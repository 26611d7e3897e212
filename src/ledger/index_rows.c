/*-------------------------------------------------------------------------
 *
 * index_rows.c
 *	  Enters rows just written into the indexes of their table.
 *
 * The executor goes row by row and, for each, index by index.  Here it is
 * index by index, and where the first column is a uuid, in its order: of the
 * many rows of a batch those of neighbouring accounts meet the same pages
 * while these are at hand.
 *
 * Indexes of another make than the ledger's own (on expressions, partial,
 * deferred, exclusion constraints), which an administrator may have added, are
 * left to the executor.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "catalog/index.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "utils/rel.h"
#include "utils/uuid.h"
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
is_plain(Relation index, const IndexInfo *info)
{
	return info->ii_Expressions == NIL && info->ii_Predicate == NIL &&
		   info->ii_ExclusionOps == NULL && info->ii_ReadyForInserts &&
		   index->rd_index->indimmediate;
}

static bool
all_are_plain(const ResultRelInfo *result)
{
	for (int i = 0; i < result->ri_NumIndices; i++)
	{
		if (!is_plain(result->ri_IndexRelationDescs[i],
					  result->ri_IndexRelationInfo[i]))
			return false;
	}
	return true;
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
sort_rows(const IndexInfo *info, TupleTableSlot **rows, int count)
{
	AttrNumber column = info->ii_IndexAttrNumbers[0];
	KeyedRow  *keyed = palloc0(sizeof(KeyedRow) * count);

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
enter_row(Relation table, Relation index, IndexInfo *info, EState *estate,
		  TupleTableSlot *row)
{
	Datum values[INDEX_MAX_KEYS];
	bool  isnull[INDEX_MAX_KEYS];

	FormIndexDatum(info, row, estate, values, isnull);
	index_insert(index, values, isnull, &row->tts_tid, table,
				 info->ii_Unique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO, false,
				 info);
}

static void
enter_rows(Relation table, Relation index, IndexInfo *info, EState *estate,
		   TupleTableSlot **rows, int count)
{
	KeyedRow *keyed = NULL;

	if (count >= SORT_MIN_ROWS && info->ii_IndexAttrNumbers[0] > 0 &&
		TupleDescAttr(RelationGetDescr(index), 0)->atttypid == UUIDOID)
		keyed = sort_rows(info, rows, count);
	for (int i = 0; i < count; i++)
		enter_row(table, index, info, estate, rows[keyed ? keyed[i].row : i]);
	if (keyed)
		pfree(keyed);
}

void
index_rows(ResultRelInfo *result, EState *estate, TupleTableSlot **rows,
		   int count)
{
	if (all_are_plain(result))
	{
		for (int i = 0; i < result->ri_NumIndices; i++)
			enter_rows(result->ri_RelationDesc,
					   result->ri_IndexRelationDescs[i],
					   result->ri_IndexRelationInfo[i], estate, rows, count);
		return;
	}
	for (int i = 0; i < count; i++)
	{
		ResetPerTupleExprContext(estate);
		list_free(ExecInsertIndexTuples(result, rows[i], estate, false, false,
										NULL, NIL));
	}
}

/* their locks go with the transaction, which may well post again */
void
index_rows_close(ResultRelInfo *result)
{
	for (int i = 0; i < result->ri_NumIndices; i++)
		index_close(result->ri_IndexRelationDescs[i], NoLock);
}
