/*-------------------------------------------------------------------------
 *
 * relations.c
 *	  Finding the ledger's tables without a look into the catalogs each time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "ledger/posting.h"

static const char *const table_names[LEDGER_TABLE_COUNT] = {
	[LEDGER_ACCOUNT] = "account", [LEDGER_JOURNAL] = "journal",
	[LEDGER_ENTRY] = "entry",	  [LEDGER_BALANCE_SLOT] = "balance_slot",
	[LEDGER_HOLD] = "hold",
};

static Oid	  table_oids[LEDGER_TABLE_COUNT];
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
			generation++;
		}
	}
}

uint64
ledger_generation(void)
{
	return generation;
}

/*
 * The extension may be dropped, and created again, between the look-up and
 * the lock; then the look-up is done again.
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

			relid = get_relname_relid(table_names[table], schema);
			if (!OidIsValid(relid))
				ereport(ERROR,
						(errcode(ERRCODE_UNDEFINED_TABLE),
						 errmsg("relation \"payment.%s\" does not exist",
								table_names[table]),
						 errhint("Run CREATE EXTENSION payment.")));
			table_oids[table] = relid;
		}
		rel = try_table_open(relid, lockmode);
		if (rel != NULL)
			return rel;
		table_oids[table] = InvalidOid;
	}
}
