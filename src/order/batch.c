/*-------------------------------------------------------------------------
 *
 * batch.c
 *	  Statements that handle many rows at once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "jit/jit.h"
#include "optimizer/cost.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/timestamp.h"

#include "order/batch.h"
#include "order/plan.h"

#define COLUMN_FIRST_CAPACITY 64

void
column_init(Column *column, Oid type)
{
	column->type = type;
	column->count = 0;
	column->capacity = COLUMN_FIRST_CAPACITY;
	column->values = palloc(column->capacity * sizeof(Datum));
	column->nulls = palloc(column->capacity * sizeof(bool));
}

void
column_add(Column *column, Datum value, bool isnull)
{
	if (column->count == column->capacity)
	{
		column->capacity *= 2;
		column->values =
			repalloc(column->values, column->capacity * sizeof(Datum));
		column->nulls =
			repalloc(column->nulls, column->capacity * sizeof(bool));
	}
	column->values[column->count] = value;
	column->nulls[column->count] = isnull;
	column->count++;
}

/* The array is built later: ids must stay where they are until then. */
void
column_add_uuid(Column *column, const pg_uuid_t *id)
{
	Assert(column->type == UUIDOID);
	column_add(column, PointerGetDatum(id), id == NULL);
}

void
column_add_text(Column *column, const char *text)
{
	Assert(column->type == TEXTOID);
	column_add(column, text ? CStringGetTextDatum(text) : (Datum) 0,
			   text == NULL);
}

void
column_add_int32(Column *column, int32 number)
{
	Assert(column->type == INT4OID);
	column_add(column, Int32GetDatum(number), false);
}

void
column_add_int64(Column *column, int64 number)
{
	Assert(column->type == INT8OID);
	column_add(column, Int64GetDatum(number), false);
}

void
column_add_time(Column *column, TimestampTz at)
{
	Assert(column->type == TIMESTAMPTZOID);
	column_add(column, TimestampTzGetDatum(at), at == 0);
}

void
column_add_bool(Column *column, bool truth)
{
	Assert(column->type == BOOLOID);
	column_add(column, BoolGetDatum(truth), false);
}

void
column_add_null(Column *column)
{
	column_add(column, (Datum) 0, true);
}

Datum
column_array(const Column *column)
{
	int	  dimension = column->count;
	int	  lower_bound = 1;
	int16 typlen;
	bool  typbyval;
	char  typalign;

	get_typlenbyvalalign(column->type, &typlen, &typbyval, &typalign);
	return PointerGetDatum(construct_md_array(column->values, column->nulls, 1,
											  &dimension, &lower_bound,
											  column->type, typlen, typbyval,
											  typalign));
}

/* A statement that runs while rows are read takes their place. */
static void
check_row(uint64 row)
{
	if (SPI_tuptable == NULL || row >= SPI_tuptable->numvals)
		elog(ERROR, "row " UINT64_FORMAT " of a result that is gone", row);
}

static Datum
row_field(uint64 row, int column, Oid type PG_USED_FOR_ASSERTS_ONLY,
		  bool *isnull)
{
	check_row(row);
	Assert(SPI_gettypeid(SPI_tuptable->tupdesc, column) == type);
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						 column, isnull);
}

bool
row_uuid(uint64 row, int column, pg_uuid_t *id)
{
	bool  isnull;
	Datum value = row_field(row, column, UUIDOID, &isnull);

	if (!isnull)
		*id = *DatumGetUUIDP(value);
	return !isnull;
}

char *
row_text(uint64 row, int column)
{
	bool  isnull;
	Datum value = row_field(row, column, TEXTOID, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

int32
row_int32(uint64 row, int column)
{
	bool  isnull;
	Datum value = row_field(row, column, INT4OID, &isnull);

	return isnull ? 0 : DatumGetInt32(value);
}

int64
row_int64(uint64 row, int column)
{
	bool  isnull;
	Datum value = row_field(row, column, INT8OID, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

bool
row_bool(uint64 row, int column)
{
	bool  isnull;
	Datum value = row_field(row, column, BOOLOID, &isnull);

	return !isnull && DatumGetBool(value);
}

bool
row_is_null(uint64 row, int column)
{
	bool isnull;

	check_row(row);
	(void) SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						 column, &isnull);
	return isnull;
}

TimestampTz
row_time(uint64 row, int column)
{
	bool  isnull;
	Datum value = row_field(row, column, TIMESTAMPTZOID, &isnull);

	return isnull ? 0 : DatumGetTimestampTz(value);
}

/*
 * The join of a handful of parameters with a table that grows without limit
 * is a nested loop over an index, whatever the statistics of the day say;
 * only that also prunes partitions while it runs.  A plan is far dearer than
 * its run, so it is made once.
 *
 * One table may look empty to the planner and hold a million rows: the queue.
 * It would walk all of its index in an order that a join by "=" might like.
 * Joins with payment.task are therefore written "= ANY (ARRAY[...])", which
 * promises no order and leaves the way by key alone.
 */
static const struct
{
	const char *name;
	const char *value;
} batch_settings[] = {
	{ "enable_seqscan", "off" },
	{ "enable_bitmapscan", "off" },
	{ "enable_hashjoin", "off" },
	{ "enable_mergejoin", "off" },
	{ "jit", "off" },
	{ "plan_cache_mode", "force_generic_plan" },
};

/* Setting one is dear beside a small statement, looking at it is not. */
static bool
is_set_up(void)
{
	return !enable_seqscan && !enable_bitmapscan && !enable_hashjoin &&
		   !enable_mergejoin && !jit_enabled &&
		   plan_cache_mode == PLAN_CACHE_MODE_FORCE_GENERIC_PLAN;
}

void
batch_session(void)
{
	for (int i = 0; i < (int) lengthof(batch_settings); i++)
		SetConfigOption(batch_settings[i].name, batch_settings[i].value,
						PGC_USERSET, PGC_S_SESSION);
}

int
batch_begin(void)
{
	int	 nest_level = NewGUCNestLevel();
	bool done = is_set_up();

	for (int i = 0; i < (int) lengthof(batch_settings) && !done; i++)
		(void) set_config_option(batch_settings[i].name,
								 batch_settings[i].value, PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
								 false);
	spi_begin();
	return nest_level;
}

void
batch_end(int nest_level)
{
	spi_end();
	AtEOXact_GUC(false, nest_level);
}

uint64
batch_run(SPIPlanPtr plan, Datum *values, const char *nulls)
{
	int code = SPI_execute_plan(plan, values, nulls, false, 0);

	if (code < 0)
		elog(ERROR, "SPI_execute_plan failed: %s",
			 SPI_result_code_string(code));
	return SPI_processed;
}
