/*-------------------------------------------------------------------------
 *
 * relations.c
 *	  Finding the ledger's tables without a look into the catalogs each time.
 *
 * Rows are read and written below the executor, by column number.  So a table
 * that somebody altered is looked at once more before it is used.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "errcodes.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "ledger/posting.h"

typedef struct LedgerColumn
{
	const char *name;
	Oid			type;
} LedgerColumn;

static const LedgerColumn account_columns[ACCOUNT_COLUMNS] = {
	{ "id", UUIDOID },			{ "code", TEXTOID },
	{ "owner", UUIDOID },		{ "currency", TEXTOID },
	{ "kind", TEXTOID },		{ "min_balance", INT8OID },
	{ "max_balance", INT8OID }, { "state", TEXTOID },
};

static const LedgerColumn journal_columns[JOURNAL_COLUMNS] = {
	{ "id", UUIDOID },
	{ "kind", TEXTOID },
	{ "subject", UUIDOID },
	{ "reverses", UUIDOID },
	{ "effective_at", TIMESTAMPTZOID },
	{ "recorded_at", TIMESTAMPTZOID },
	{ "description", TEXTOID },
};

static const LedgerColumn entry_columns[ENTRY_COLUMNS] = {
	{ "journal_id", UUIDOID },
	{ "leg", INT2OID },
	{ "account_id", UUIDOID },
	{ "amount", INT8OID },
};

static const LedgerColumn slot_columns[SLOT_COLUMNS] = {
	{ "account_id", UUIDOID },
	{ "slot", INT8OID },
	{ "balance", INT8OID },
};

static const LedgerColumn hold_columns[HOLD_EXPIRES_AT] = {
	{ "id", UUIDOID },	   { "account_id", UUIDOID },
	{ "amount", INT8OID }, { "posted", INT8OID },
	{ "state", TEXTOID },  { "expires_at", TIMESTAMPTZOID },
};

static const struct
{
	const char		   *name;
	const LedgerColumn *columns;
	int					column_count;
	bool				rows_are_made; /* here, with our columns only */
} tables[LEDGER_TABLE_COUNT] = {
	[LEDGER_ACCOUNT] = { "account", account_columns, ACCOUNT_COLUMNS, false },
	[LEDGER_JOURNAL] = { "journal", journal_columns, JOURNAL_COLUMNS, true },
	[LEDGER_ENTRY] = { "entry", entry_columns, ENTRY_COLUMNS, true },
	[LEDGER_BALANCE_SLOT] = { "balance_slot", slot_columns, SLOT_COLUMNS,
							  true },
	[LEDGER_HOLD] = { "hold", hold_columns, HOLD_EXPIRES_AT, false },
};

static Oid	  table_oids[LEDGER_TABLE_COUNT];
static bool	  columns_checked[LEDGER_TABLE_COUNT];
static uint64 generation = 0;
static bool	  callback_registered = false;

/*
 * Called for every relation that changes; only cheap comparisons here.  Also
 * an ordinary ALTER or VACUUM arrives here, and costs one look-up by name.
 */
static void
forget_tables(Datum arg pg_attribute_unused(), Oid relid)
{
	for (int i = 0; i < LEDGER_TABLE_COUNT; i++)
	{
		if (relid == InvalidOid || relid == table_oids[i])
		{
			table_oids[i] = InvalidOid;
			columns_checked[i] = false;
			generation++;
		}
	}
}

uint64
ledger_generation(void)
{
	return generation;
}

static void
refuse_columns(LedgerTable table, const char *column)
{
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_WRONG_STATE),
			 errmsg("table \"payment.%s\" was altered", tables[table].name),
			 errdetail("Column \"%s\" is not what it was, or was added and "
					   "takes no nulls.",
					   column),
			 errhint("Undo that change. Keep what you add in a table of your "
					 "own.")));
}

static void
check_columns(LedgerTable table, TupleDesc desc)
{
	const LedgerColumn *columns = tables[table].columns;
	int					count = tables[table].column_count;

	for (int i = 0; i < count; i++)
	{
		Form_pg_attribute attr =
			i < desc->natts ? TupleDescAttr(desc, i) : NULL;

		if (attr == NULL || attr->attisdropped ||
			attr->atttypid != columns[i].type ||
			strcmp(NameStr(attr->attname), columns[i].name) != 0)
			refuse_columns(table, columns[i].name);
	}
	for (int i = count; tables[table].rows_are_made && i < desc->natts; i++)
	{
		if (TupleDescAttr(desc, i)->attnotnull)
			refuse_columns(table, NameStr(TupleDescAttr(desc, i)->attname));
	}
	columns_checked[table] = true;
}

/*
 * The extension may be dropped, and created again, between the look-up and
 * the lock; then the look-up is done again.  So it is when the table changed
 * while we waited: what is not noted here while it is used, is not told of
 * when it changes again.
 */
Relation
ledger_open(LedgerTable table, LOCKMODE lockmode)
{
	if (!callback_registered)
	{
		CacheRegisterRelcacheCallback(forget_tables, (Datum) 0);
		callback_registered = true;
	}
	for (;;)
	{
		Oid		 relid = table_oids[table];
		Relation rel;

		if (!OidIsValid(relid))
		{
			Oid schema = get_namespace_oid("payment", false);

			relid = get_relname_relid(tables[table].name, schema);
			if (!OidIsValid(relid))
				ereport(ERROR,
						(errcode(ERRCODE_UNDEFINED_TABLE),
						 errmsg("relation \"payment.%s\" does not exist",
								tables[table].name),
						 errhint("Run CREATE EXTENSION payment.")));
			table_oids[table] = relid;
		}
		rel = try_table_open(relid, lockmode);
		if (rel == NULL)
			table_oids[table] = InvalidOid;
		else if (table_oids[table] != relid)
			table_close(rel, NoLock);
		else
		{
			if (!columns_checked[table])
				check_columns(table, RelationGetDescr(rel));
			return rel;
		}
	}
}

void
ledger_lock(LedgerTable table)
{
	table_close(ledger_open(table, AccessShareLock), NoLock);
}
