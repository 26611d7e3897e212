/*-------------------------------------------------------------------------
 *
 * drop_guard.c
 *	  DROP EXTENSION takes no money data along unless that is asked for.
 *
 * Dropping an extension drops its tables without a word, as they are its
 * members.  An event trigger comes before the command, in every session,
 * preloaded or not; it is a member itself, so that neither dumps nor upgrades
 * have to know of it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "commands/event_trigger.h"
#include "commands/user.h"
#include "fmgr.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "errcodes.h"
#include "order/guard.h"
#include "payment.h"

PG_FUNCTION_INFO_V1(payment_guard_drop);

/* if all of these are empty, nothing is lost */
static const char *const money_tables[] = {
	"idempotency",	 "journal",			"payment_record", "order_record",
	"payout_record", "refund_record",	"dispute_record", "settlement_file",
	"attempt",		 "detached_balance"
};

static bool
names_payment(const DropStmt *statement)
{
	ListCell *cell;

	if (statement->removeType != OBJECT_EXTENSION &&
		statement->removeType != OBJECT_SCHEMA)
		return false;
	foreach (cell, statement->objects)
	{
		if (strcmp(strVal(lfirst(cell)), "payment") == 0)
			return true;
	}
	return false;
}

static Oid
extension_owner(void)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			owner = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum("payment"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return owner;
}

static bool
drops_payment(Node *statement)
{
	if (IsA(statement, DropStmt))
		return names_payment((DropStmt *) statement);
	if (IsA(statement, DropOwnedStmt))
	{
		List *roles = ((DropOwnedStmt *) statement)->roles;

		return list_member_oid(roleSpecsToIds(roles), extension_owner());
	}
	return false;
}

static const char *
table_with_rows(void)
{
	Oid namespace = get_namespace_oid("payment", true);

	for (int i = 0; i < (int) lengthof(money_tables); i++)
	{
		Oid		 relid = get_relname_relid(money_tables[i], namespace);
		Relation rel;
		bool	 empty;

		if (!OidIsValid(relid))
			continue;
		rel = table_open(relid, AccessShareLock);
		empty = table_is_empty(rel);
		table_close(rel, AccessShareLock);
		if (!empty)
			return money_tables[i];
	}
	return NULL;
}

/*
 * ON ddl_command_start of what can drop an extension.
 */
Datum
payment_guard_drop(PG_FUNCTION_ARGS)
{
	EventTriggerData *data;
	const char		 *table;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("guard_drop() was not called as an event "
						"trigger")));
	data = (EventTriggerData *) fcinfo->context;
	if (payment_allow_drop || !drops_payment(data->parsetree))
		PG_RETURN_VOID();
	table = table_with_rows();
	if (table == NULL)
		PG_RETURN_VOID();
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_DROP_REFUSED),
			 errmsg(
				 "dropping the extension \"payment\" would delete payments"),
			 errdetail("There are rows in payment.%s, perhaps elsewhere too.",
					   table),
			 errhint("Make a dump. Then SET payment.allow_drop = on in this "
					 "session, if they are to be deleted.")));
}
