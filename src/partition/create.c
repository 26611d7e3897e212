/*-------------------------------------------------------------------------
 *
 * create.c
 *	  Makes partitions ahead of time.
 *
 * A new partition is a copy of the default partition: columns, checks, keys,
 * indexes, storage settings, triggers, grants.  It is made as a table of its
 * own, which disturbs nobody, and attached at the end.  ATTACH locks the
 * default partition against everybody and reads all of it, to see that it
 * holds nothing of the range; on a default partition that took rows for years
 * that would stop the business.  So under that lock a look into the index of
 * the ids tells that there is nothing, and a CHECK constraint, which is gone
 * again a moment later, tells it to ATTACH.
 *
 * A range of which the default partition holds rows stays there.
 *
 * Whoever inserts through the parent chooses the partition before he locks it,
 * and fails if the default partition no longer takes the row.  Rows of the
 * current range may be on their way at any time, so for that one writers are
 * locked out; rows of later ranges are not.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "argument.h"
#include "catalog/heap.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "order/plan.h"
#include "parser/parser.h"
#include "payment.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "partition/partition.h"

PG_FUNCTION_INFO_V1(payment_create_partitions);
PG_FUNCTION_INFO_V1(payment_keep_partitions_ahead);

/* in one call: each takes locks by the dozen */
#define MAX_RANGES 120
#define CALLER_PATIENCE_MS 10000
#define CHECK_NAME "payment_range_is_empty"

/* $1 the default partition, $2 the new one's name, $3 what it covers */
static const char make_table_sql[] =
	"SELECT format('CREATE TABLE payment.%I (LIKE %s INCLUDING ALL)%s', $2, "
	"$1::regclass, coalesce((SELECT ' WITH (' || string_agg(split_part(o, "
	"'=', 1) || ' = ' || quote_literal(substr(o, strpos(o, '=') + 1)), ', ') "
	"|| ')' FROM unnest(c.reloptions) o), '')) "
	"FROM pg_class c WHERE c.oid = $1 "
	"UNION ALL "
	"SELECT format('ALTER TABLE payment.%I OWNER TO %I', $2, "
	"pg_get_userbyid(c.relowner)) FROM pg_class c WHERE c.oid = $1 "
	"UNION ALL "
	"SELECT format('COMMENT ON TABLE payment.%I IS %L', $2, $3)";

/* statement triggers; row triggers of the parent come with ATTACH */
static const char make_triggers_sql[] =
	"SELECT v.statement FROM pg_trigger t CROSS JOIN LATERAL (VALUES "
	"(1, replace(pg_get_triggerdef(t.oid), format(' ON %s ', $1::regclass), "
	"format(' ON payment.%I ', $2))), "
	"(2, format('ALTER TABLE payment.%I ENABLE %s TRIGGER %I', $2, "
	"CASE t.tgenabled WHEN 'R' THEN 'REPLICA' WHEN 'O' THEN '' "
	"ELSE 'ALWAYS' END, t.tgname))) v(step, statement) "
	"WHERE t.tgrelid = $1 AND t.tgparentid = 0 AND NOT t.tgisinternal "
	"ORDER BY t.tgname, v.step";

/* whatever ALTER DEFAULT PRIVILEGES gave is taken away */
static const char make_grants_sql[] =
	"SELECT format('REVOKE ALL ON payment.%I FROM %s', $2, CASE a.grantee "
	"WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END) "
	"FROM pg_class c, aclexplode(c.relacl) a "
	"WHERE c.oid = format('payment.%I', $2)::regclass "
	"AND a.grantee <> c.relowner "
	"UNION ALL "
	"SELECT format('GRANT %s ON payment.%I TO %s%s', a.privilege_type, $2, "
	"CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE "
	"quote_ident(pg_get_userbyid(a.grantee)) END, "
	"CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) "
	"FROM pg_class c, aclexplode(c.relacl) a "
	"WHERE c.oid = $1 AND a.grantee <> c.relowner";

/*
 * Not a member of the extension: so DROP EXTENSION without CASCADE, which
 * would take all partitions with it, finds something that depends on it.
 */
static const char view_sql[] =
	"CREATE VIEW payment.time_partition AS "
	"SELECT i.inhparent::regclass AS parent, c.oid::regclass AS partition, "
	"payment.id_time((b.bounds)[1]::uuid) AS from_time, "
	"payment.id_time((b.bounds)[2]::uuid) AS until_time, "
	"pg_total_relation_size(c.oid) AS bytes "
	"FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
	"LEFT JOIN LATERAL regexp_match(pg_get_expr(c.relpartbound, c.oid), "
	"'^FOR VALUES FROM \\(''(.{14}7.{21})''\\) TO \\(''(.{14}7.{21})''\\)$') "
	"b(bounds) ON true "
	"WHERE i.inhparent IN ('payment.journal'::regclass, "
	"'payment.entry'::regclass, 'payment.payment_record'::regclass, "
	"'payment.order_record'::regclass, 'payment.payout_record'::regclass, "
	"'payment.refund_record'::regclass, 'payment.dispute_record'::regclass, "
	"'payment.status_history'::regclass, 'payment.attempt'::regclass, "
	"'payment.settlement_line'::regclass, 'payment.event'::regclass, "
	"'payment.webhook_event'::regclass)";

static const char *const view_extras_sql[] = {
	"COMMENT ON VIEW payment.time_partition IS 'The time partitions. Default "
	"partitions have no times. Not part of the extension: as long as it is "
	"there, DROP EXTENSION needs CASCADE.'",
	"COMMENT ON COLUMN payment.time_partition.parent IS 'The table.'",
	"COMMENT ON COLUMN payment.time_partition.partition IS 'Its partition.'",
	"COMMENT ON COLUMN payment.time_partition.from_time IS 'Holds what was "
	"made since then'",
	"COMMENT ON COLUMN payment.time_partition.until_time IS 'and before that "
	"time.'",
	"COMMENT ON COLUMN payment.time_partition.bytes IS 'Size with indexes.'",
	"GRANT SELECT ON payment.time_partition TO payment_finance, "
	"payment_admin, payment_auditor",
};

static void
execute(const char *statement)
{
	int code = SPI_execute(statement, false, 0);

	if (code < 0)
		elog(ERROR, "\"%s\" failed: %s", statement,
			 SPI_result_code_string(code));
}

/* run the statements that a query writes */
static void
execute_written(const char *query, Oid template, const char *name,
				const char *text)
{
	Oid	  types[] = { OIDOID, TEXTOID, TEXTOID };
	Datum values[] = { ObjectIdGetDatum(template), CStringGetTextDatum(name),
					   CStringGetTextDatum(text) };
	SPITupleTable *rows;
	uint64		   count;

	if (SPI_execute_with_args(query, lengthof(types), types, values, NULL,
							  false, 0) != SPI_OK_SELECT)
		elog(ERROR, "statements for \"%s\" could not be written", name);
	rows = SPI_tuptable;
	count = SPI_processed;
	for (uint64 i = 0; i < count; i++)
		execute(SPI_getvalue(rows->vals[i], rows->tupdesc, 1));
	SPI_freetuptable(rows);
}

static char *
uuid_text(const pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}

/* by the latest snapshot, through the index of the ids */
static bool
default_holds_rows(const PartitionedTable *table, const TimeRange *range)
{
	Oid	  types[] = { UUIDOID, UUIDOID };
	Datum values[] = { UUIDPGetDatum(&range->from_id),
					   UUIDPGetDatum(&range->until_id) };
	Oid	  relid = default_partition_oid(table);
	char *query;
	bool  found;

	if (!OidIsValid(relid))
		return false;
	query =
		psprintf("SELECT FROM payment.%s WHERE %s >= $1 AND %s < $2 LIMIT 1",
				 quote_identifier(get_rel_name(relid)), table->key,
				 table->key);
	PushActiveSnapshot(GetLatestSnapshot());
	if (SPI_execute_with_args(query, lengthof(types), types, values, NULL,
							  true, 1) != SPI_OK_SELECT)
		elog(ERROR, "default partition could not be read");
	PopActiveSnapshot();
	found = SPI_processed > 0;
	SPI_freetuptable(SPI_tuptable);
	return found;
}

/*
 * What comes late for a range that was detached goes to the default partition:
 * another one could not be detached, and the name may still be in use.
 */
static bool
was_detached(const PartitionedTable *table, const TimeRange *range)
{
	Oid	  types[] = { TEXTOID, UUIDOID, UUIDOID };
	Datum values[] = { CStringGetTextDatum(table->name),
					   UUIDPGetDatum(&range->from_id),
					   UUIDPGetDatum(&range->until_id) };

	if (SPI_execute_with_args("SELECT FROM payment.detached_partition WHERE "
							  "parent = $1 AND from_id < $3 AND until_id > $2",
							  lengthof(types), types, values, NULL, false,
							  1) != SPI_OK_SELECT)
		elog(ERROR, "detached partitions could not be read");
	SPI_freetuptable(SPI_tuptable);
	return SPI_processed > 0;
}

static bool
is_covered(const PartitionedTable *table, const TimeRange *range)
{
	ListCell *cell;

	foreach (cell, list_partitions(table))
	{
		const Partition *partition = lfirst(cell);

		if (memcmp(&partition->range.from_id, &range->until_id, UUID_LEN) <
				0 &&
			memcmp(&range->from_id, &partition->range.until_id, UUID_LEN) < 0)
			return true;
	}
	return false;
}

/*
 * Tell PostgreSQL what was found out under the lock.  Unlike ALTER TABLE this
 * does not read the table.
 */
static void
add_check(const PartitionedTable *table, Oid relid, const TimeRange *range)
{
	Relation	rel = table_open(relid, AccessExclusiveLock);
	Constraint *check = makeNode(Constraint);
	char	   *expression =
		psprintf("%s IS NULL OR %s < '%s'::pg_catalog.uuid OR %s >= "
				 "'%s'::pg_catalog.uuid",
				 table->key, table->key, uuid_text(&range->from_id),
				 table->key, uuid_text(&range->until_id));
	List	  *parsed = raw_parser(expression, RAW_PARSE_PLPGSQL_EXPR);
	RawStmt	  *statement = linitial_node(RawStmt, parsed);
	ResTarget *target =
		linitial_node(ResTarget,
					  castNode(SelectStmt, statement->stmt)->targetList);

	check->contype = CONSTR_CHECK;
	check->conname = CHECK_NAME;
	check->location = -1;
	check->raw_expr = target->val;
	check->skip_validation = true;
	check->initially_valid = true;
	AddRelationNewConstraints(rel, NIL, list_make1(check), false, true, false,
							  expression);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

static void
attach(const PartitionedTable *table, const char *name, const TimeRange *range)
{
	Oid	  default_oid = default_partition_oid(table);
	char *default_name = NULL;

	if (OidIsValid(default_oid))
	{
		default_name = pstrdup(quote_identifier(get_rel_name(default_oid)));
		add_check(table, default_oid, range);
	}
	execute(psprintf("ALTER TABLE payment.%s ATTACH PARTITION payment.%s FOR "
					 "VALUES FROM ('%s') TO ('%s')",
					 table->name, name, uuid_text(&range->from_id),
					 uuid_text(&range->until_id)));
	if (default_name != NULL)
		execute(psprintf("ALTER TABLE payment.%s DROP CONSTRAINT " CHECK_NAME,
						 default_name));
}

/* the table that is going to be the partition */
static char *
make_table(const PartitionedTable *table, const TimeRange *range)
{
	Oid template = default_partition_oid(table);
	char *name = psprintf("%s_%s", table->name, range_suffix(range));
	char *text = psprintf("Rows of %s (UTC) of payment.%s.", range_text(range),
						  table->name);

	if (!OidIsValid(template))
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_WRONG_STATE),
				 errmsg("table \"%s\" has no default partition", table->name),
				 errdetail("New partitions are made like it."),
				 errhint("Attach it again.")));
	if (OidIsValid(
			get_relname_relid(name, get_namespace_oid("payment", false))))
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_WRONG_STATE),
				 errmsg("the partition of \"%s\" for %s cannot be made",
						table->name, range_text(range)),
				 errdetail("There is another \"%s\" that is no partition of "
						   "it.",
						   name),
				 errhint("Rename it or drop it.")));
	execute_written(make_table_sql, template, name, text);
	execute_written(make_triggers_sql, template, name, text);
	execute_written(make_grants_sql, template, name, text);
	return name;
}

static void
make_view(void)
{
	if (OidIsValid(get_relname_relid("time_partition",
									 get_namespace_oid("payment", false))))
		return;
	execute(view_sql);
	for (size_t i = 0; i < lengthof(view_extras_sql); i++)
		execute(view_extras_sql[i]);
}

/* can partitions of this range be made for the whole group? */
static bool
group_is_free(int group, const TimeRange *range)
{
	for (int i = 0; i < PARTITIONED_TABLES; i++)
	{
		const PartitionedTable *table = &partitioned_tables[i];

		if (table->group == group &&
			(is_covered(table, range) || was_detached(table, range) ||
			 default_holds_rows(table, range)))
			return false;
	}
	return true;
}

#define IN_USE (-1)

static void
report_no_lock(int group, const TimeRange *range, bool by_worker)
{
	int table = 0;

	while (partitioned_tables[table].group != group)
		table++;
	ereport(by_worker ? LOG : ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("could not make the partitions of \"%s\" for %s",
					partitioned_tables[table].name, range_text(range)),
			 errdetail("The table was in use all the time."),
			 errhint("End long transactions, or try again later.")));
}

/* the parents, in the mode that ATTACH takes */
static bool
lock_parents(int group, const TimeRange *range, bool by_worker)
{
	LockWish wishes[PARTITIONED_TABLES];
	int		 count = 0;

	for (int i = 0; i < PARTITIONED_TABLES; i++)
	{
		if (partitioned_tables[i].group != group)
			continue;
		wishes[count].relid = partitioned_table_oid(&partitioned_tables[i]);
		wishes[count++].mode = ShareUpdateExclusiveLock;
	}
	if (lock_tables(wishes, count, by_worker ? 0 : CALLER_PATIENCE_MS))
		return true;
	report_no_lock(group, range, by_worker);
	return false;
}

/* the default partitions, and for the current range all writers out */
static bool
lock_rows(int group, const TimeRange *range, bool by_worker)
{
	LockWish wishes[PARTITIONED_TABLES * 2];
	int		 count = 0;
	bool	 current = range->from <= GetCurrentTimestamp();

	for (int i = 0; i < PARTITIONED_TABLES; i++)
	{
		const PartitionedTable *table = &partitioned_tables[i];

		if (table->group != group)
			continue;
		if (current)
		{
			wishes[count].relid = partitioned_table_oid(table);
			wishes[count++].mode = ShareRowExclusiveLock;
		}
		wishes[count].relid = default_partition_oid(table);
		wishes[count++].mode = AccessExclusiveLock;
	}
	if (lock_tables(wishes, count, by_worker ? 0 : CALLER_PATIENCE_MS))
		return true;
	report_no_lock(group, range, by_worker);
	return false;
}

/* of a group of tables for a range */
typedef struct Making
{
	int				 group;
	const TimeRange *range;
	bool			 by_worker;
	int made; /* IN_USE, or 0 when the range was taken meanwhile */
} Making;

/* false when nothing came of it */
static bool
make_and_attach(void *argument)
{
	Making			*making = argument;
	const TimeRange *range = making->range;
	int				 group = making->group;
	char			*names[PARTITIONED_TABLES];

	make_view();
	for (int i = 0; i < PARTITIONED_TABLES; i++)
	{
		if (partitioned_tables[i].group == group)
			names[i] = make_table(&partitioned_tables[i], range);
	}
	if (!lock_rows(group, range, making->by_worker))
	{
		making->made = IN_USE;
		return false;
	}
	if (!group_is_free(group, range))
		return false;
	for (int i = 0; i < PARTITIONED_TABLES; i++)
	{
		if (partitioned_tables[i].group != group)
			continue;
		attach(&partitioned_tables[i], names[i], range);
		making->made++;
	}
	return true;
}

/*
 * Make the partitions of a group of tables for a range, unless they are there
 * or cannot be.  What was made in vain is undone.
 */
static int
make_group(int group, const TimeRange *range, bool by_worker)
{
	Making making = { group, range, by_worker, 0 };

	if (!group_is_free(group, range))
		return 0;
	if (!lock_parents(group, range, by_worker))
		return IN_USE;
	if (!group_is_free(group, range))
		return 0;
	(void) do_or_undo(make_and_attach, &making);
	return making.made;
}

static void
check_range_count(TimeRange range, TimestampTz until)
{
	for (int ranges = 0; range.from < until; ranges++)
	{
		if (ranges == MAX_RANGES)
			ereport(ERROR,
					(errcode(ERRCODE_PAYMENT_LIMIT_EXCEEDED),
					 errmsg("too many partitions"),
					 errdetail("At most %d are made of each table, from the "
							   "current one on.",
							   MAX_RANGES),
					 errhint("Pass an earlier time.")));
		range_next(&range);
	}
}

/* from the given range on, until there are limit of them */
static int64
make_partitions(TimeRange range, TimestampTz until, int64 limit,
				bool by_worker)
{
	int64 made = 0;

	check_range_count(range, until);
	for (; range.from < until; range_next(&range))
	{
		for (int group = 0;
			 group <= partitioned_tables[PARTITIONED_TABLES - 1].group;
			 group++)
		{
			int done;

			CHECK_FOR_INTERRUPTS();
			done = make_group(group, &range, by_worker);
			if (done == IN_USE)
				return made; /* more tries would only disturb more */
			made += done;
			if (made >= limit)
				return made;
		}
	}
	return made;
}

static TimestampTz
ahead_of(TimeRange range)
{
	for (int i = 0; i < payment_partitions_ahead; i++)
		range_next(&range);
	return range.until;
}

Datum
payment_create_partitions(PG_FUNCTION_ARGS)
{
	TimeRange	range;
	TimestampTz until;
	int64		made;

	PreventCommandIfReadOnly("creating partitions");
	PreventCommandIfParallelMode("creating partitions");
	range_around(GetCurrentTimestamp(), &range);
	until = PG_ARGISNULL(0) ? ahead_of(range) : PG_GETARG_TIMESTAMPTZ(0);
	if (TIMESTAMP_NOT_FINITE(until))
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("invalid argument \"until\""),
						errdetail("It is infinite."),
						errhint("Pass a time, or nothing.")));
	lock_partitioning(false);
	spi_begin();
	made = make_partitions(range, until, PG_INT64_MAX, false);
	spi_end();
	PG_RETURN_INT64(made);
}

/*
 * The worker's duty.  It must not disturb the restore of a dump, which it
 * cannot tell from an installation: the dump's own partitions come first, so
 * as long as there is no PSP there is nothing to do; and what lies in default
 * partitions may be about to come, so the current range is left out.
 */
Datum
payment_keep_partitions_ahead(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	TimeRange		  range;
	int64			  made = 0;

	refuse_null(fcinfo, 0, "max_partitions");
	PreventCommandIfReadOnly("creating partitions");
	PreventCommandIfParallelMode("creating partitions");
	range_around(GetCurrentTimestamp(), &range);
	spi_begin();
	plan_keep(&plan, "SELECT FROM payment.psp LIMIT 1", 0, NULL);
	if (spi_read(plan, NULL, NULL) > 0 && lock_partitioning(true))
	{
		TimestampTz until = ahead_of(range);

		range_next(&range);
		made = make_partitions(range, until, PG_GETARG_INT32(0), true);
	}
	spi_end();
	PG_RETURN_INT64(made);
}
