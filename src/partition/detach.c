/*-------------------------------------------------------------------------
 *
 * detach.c
 *	  Takes old partitions out of the tables, and keeps the balances true.
 *
 * A detached partition stays as a table of its own, to be archived.  What its
 * entries sum to, account by account, is written to detached_balance in the
 * same transaction: with that and the entries that are left every balance can
 * still be recomputed.
 *
 * DETACH CONCURRENTLY would disturb less, but it runs in no function and not
 * where there is a default partition.  DETACH locks the parent against
 * everybody, so all that takes time is done before: the sums are taken under
 * a lock on the old partition alone, which nobody writes to any more.  What
 * comes late for its range goes to the default partition.
 *
 * Who comes late while the sums are taken waits for that lock, with the parent
 * locked: we would wait for each other.  So he is let through, and the sums
 * are taken again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "argument.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "order/plan.h"
#include "order/transition.h"
#include "payment.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "uuid7.h"

#include "partition/partition.h"

PG_FUNCTION_INFO_V1(payment_detach_partitions);
PG_FUNCTION_INFO_V1(payment_detach_events);

#define DETACH_PATIENCE_MS 30000
#define MAX_TRIES 5
#define RESULT_COLUMNS 5

typedef struct Detachment
{
	const PartitionedTable *table;
	Partition			   *partition;
	char				   *name; /* quoted where needed */
	int64					rows;
} Detachment;

/*
 * What keeps a period open.  The query counts the objects of before $1, the
 * first id that stays.
 */
typedef struct OpenCheck
{
	const char *what;
	const char *query;
} OpenCheck;

static const OpenCheck open_checks[] = {
	{ "payment orders that have not come to an end",
	  "SELECT count(*) FROM payment.order_record WHERE id < $1 AND "
	  "(status NOT IN ('captured', 'partially_captured', 'declined', "
	  "'failed', 'expired', 'cancelled', 'voided', 'reversed') OR "
	  "status IN ('captured', 'partially_captured') AND released_at IS "
	  "NULL)" },
	{ "refunds that have not come to an end",
	  "SELECT count(*) FROM payment.refund_record WHERE id < $1 AND "
	  "status NOT IN ('succeeded', 'failed', 'cancelled')" },
	{ "disputes that have not come to an end",
	  "SELECT count(*) FROM payment.dispute_record WHERE id < $1 AND "
	  "status !~ '/(won|lost|withdrawn|expired)$'" },
	{ "payouts that have not come to an end",
	  "SELECT count(*) FROM payment.payout_record WHERE id < $1 AND "
	  "status NOT IN ('paid', 'failed', 'returned', 'cancelled', "
	  "'rejected')" },
	{ "holds that are open",
	  "SELECT count(*) FROM payment.hold WHERE id < $1 AND "
	  "state = 'open'" },
	{ "tasks in the queue, dead letters included",
	  "SELECT count(*) FROM payment.task WHERE object_id < $1" },
	{ "captured orders that are not settled",
	  "SELECT count(*) FROM payment.unsettled_order WHERE order_id < $1" },
	{ "settlement lines that are not reconciled",
	  "SELECT count(*) FROM payment.settlement_line WHERE id < $1 AND "
	  "match = 'pending'" },
	/* the clock was set back: detached, they would seem to be missing */
	{ "journals of orders, payouts or holds of a later time",
	  "SELECT count(*) FROM payment.journal j WHERE j.id < $1 AND "
	  "j.subject >= $1 AND (EXISTS (SELECT FROM payment.order_record o WHERE "
	  "o.id = j.subject) OR EXISTS (SELECT FROM payment.payout_record p "
	  "WHERE p.id = j.subject) OR EXISTS (SELECT FROM "
	  "payment.refund_record r WHERE r.id = j.subject) OR EXISTS (SELECT FROM "
	  "payment.dispute_record d WHERE d.id = j.subject) OR EXISTS (SELECT "
	  "FROM payment.hold h WHERE "
	  "h.id = j.subject))" },
	{ "webhook events that wait",
	  "SELECT count(*) FROM payment.webhook_waiting WHERE webhook_id < $1" },
	{ "exceptions that are not closed",
	  "SELECT count(*) FROM payment.exception_record WHERE closed_at IS NULL "
	  "AND (id < $1 OR order_id < $1 OR line_id < $1)" },
};

/* What keeps events. */
static const OpenCheck event_checks[] = {
	{ "events that not all consumers have acknowledged",
	  "SELECT count(*) FROM payment.event e WHERE e.id < $1 AND EXISTS "
	  "(SELECT FROM payment.event_consumer c WHERE (e.epoch, e.horizon, e.id) "
	  "> (c.epoch, c.horizon, c.event_id))" },
	{ "events that are to be posted, dead letters included",
	  "SELECT count(*) FROM payment.event_delivery WHERE event_id < $1" },
};

/* one number that a query by the active snapshot gives */
static int64
count_before(const char *query, const pg_uuid_t *id)
{
	Oid	  types[] = { UUIDOID };
	Datum values[] = { UUIDPGetDatum(id) };
	bool  isnull;
	int64 count;

	if (SPI_execute_with_args(query, lengthof(types), types, values, NULL,
							  true, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "\"%s\" failed", query);
	count = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
										SPI_tuptable->tupdesc, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return count;
}

static void
check_closed(const TimeRange *last, const OpenCheck *checks, int check_count)
{
	PushActiveSnapshot(GetLatestSnapshot());
	for (int i = 0; i < check_count; i++)
	{
		int64 count = count_before(checks[i].query, &last->until_id);

		if (count > 0)
			ereport(ERROR,
					(errcode(ERRCODE_PAYMENT_PERIOD_OPEN),
					 errmsg("the time until %s is not closed",
							timestamptz_to_str(last->until)),
					 errdetail("Before that there are %s: " INT64_FORMAT ".",
							   checks[i].what, count),
					 errhint("Settle them first, or pass another time.")));
	}
	PopActiveSnapshot();
}

static Detachment *
make_detachment(const PartitionedTable *table, Partition *partition)
{
	Detachment *detachment = palloc0(sizeof(Detachment));

	detachment->table = table;
	detachment->partition = partition;
	detachment->name =
		quote_qualified_identifier(get_namespace_name(
									   get_rel_namespace(partition->relid)),
								   get_rel_name(partition->relid));
	return detachment;
}

/* Events have their own time: nothing else needs them. */
typedef enum DetachScope
{
	DETACH_LEDGER,
	DETACH_ALL_BUT_EVENTS,
	DETACH_EVENTS
} DetachScope;

static bool
is_in_scope(const PartitionedTable *table, DetachScope scope)
{
	if (table->group == LEDGER_GROUP)
		return scope != DETACH_EVENTS;
	if (table->group == EVENT_GROUP)
		return scope == DETACH_EVENTS;
	return scope == DETACH_ALL_BUT_EVENTS;
}

/* the whole partitions of before that time */
static List *
find_old_partitions(TimestampTz older_than, DetachScope scope)
{
	List	 *found = NIL;
	ListCell *cell;
	pg_uuid_t bound;

	uuid7_floor(older_than, &bound);
	for (int i = 0; i < PARTITIONED_TABLES; i++)
	{
		const PartitionedTable *table = &partitioned_tables[i];

		if (!is_in_scope(table, scope))
			continue;
		foreach (cell, list_partitions(table))
		{
			Partition *partition = lfirst(cell);

			if (memcmp(&partition->range.until_id, &bound, UUID_LEN) <= 0)
				found = lappend(found, make_detachment(table, partition));
		}
	}
	return found;
}

/* journals go with their entries, so both must have the same partitions */
static void
check_pairs(List *detachments)
{
	ListCell *cell;
	ListCell *other;

	foreach (cell, detachments)
	{
		Detachment *one = lfirst(cell);
		bool		paired = one->table->group != LEDGER_GROUP;

		foreach (other, detachments)
		{
			Detachment *two = lfirst(other);

			if (two->table != one->table &&
				two->table->group == one->table->group &&
				memcmp(&two->partition->range, &one->partition->range,
					   sizeof(TimeRange)) == 0)
				paired = true;
		}
		if (!paired)
			ereport(ERROR,
					(errcode(ERRCODE_PAYMENT_WRONG_STATE),
					 errmsg("partition %s cannot be detached", one->name),
					 errdetail("Journals and entries have no partitions of "
							   "the same range there."),
					 errhint("Make them alike, or pass an earlier time.")));
	}
}

/* sums are kept by the first id of what they are of */
static void
check_not_detached_before(List *detachments)
{
	Oid		  types[] = { TEXTOID, UUIDOID };
	ListCell *cell;

	foreach (cell, detachments)
	{
		Detachment *detachment = lfirst(cell);
		Datum		values[] = { CStringGetTextDatum(detachment->table->name),
								 UUIDPGetDatum(
									 &detachment->partition->range.from_id) };

		if (SPI_execute_with_args("SELECT FROM payment.detached_partition "
								  "WHERE parent = $1 AND from_id = $2",
								  lengthof(types), types, values, NULL, false,
								  1) != SPI_OK_SELECT)
			elog(ERROR, "detached partitions could not be read");
		SPI_freetuptable(SPI_tuptable);
		if (SPI_processed > 0)
			ereport(ERROR,
					(errcode(ERRCODE_PAYMENT_WRONG_STATE),
					 errmsg("partition %s cannot be detached",
							detachment->name),
					 errdetail("A partition of this table that begins with "
							   "the same id was detached before, and its sums "
							   "are kept."),
					 errhint("Do not attach again what was detached. Move "
							 "what came later to the default partition.")));
	}
}

static const TimeRange *
last_range(List *detachments)
{
	const TimeRange *last = NULL;
	ListCell		*cell;

	foreach (cell, detachments)
	{
		const TimeRange *range =
			&((Detachment *) lfirst(cell))->partition->range;

		if (last == NULL ||
			memcmp(&range->until_id, &last->until_id, UUID_LEN) > 0)
			last = range;
	}
	return last;
}

static void
refuse_busy(const Detachment *detachment)
{
	ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					errmsg("could not detach %s", detachment->name),
					errdetail("The table was in use all the time."),
					errhint("End long transactions, or try again later.")));
}

/* run an INSERT past the guards; returns the rows that it added */
static int64
insert_rows(const char *statement, const Detachment *detachment)
{
	Oid		   types[] = { UUIDOID, TEXTOID, TEXTOID, UUIDOID, INT8OID };
	SPIPlanPtr plan = SPI_prepare(statement, lengthof(types), types);
	Datum values[] = { UUIDPGetDatum(&detachment->partition->range.from_id),
					   CStringGetTextDatum(detachment->table->name),
					   CStringGetTextDatum(
						   get_rel_name(detachment->partition->relid)),
					   UUIDPGetDatum(&detachment->partition->range.until_id),
					   Int64GetDatum(detachment->rows) };

	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s",
			 SPI_result_code_string(SPI_result));
	return (int64) order_write(plan, values, NULL, CAUSE_API);
}

/*
 * Nobody writes to the partition from here on; count its rows and, of
 * entries, keep what they sum to.
 */
static void
keep_sums(Detachment *detachment)
{
	LockWish  wish = { detachment->partition->relid, ShareLock };
	pg_uuid_t end;
	char	 *journal_time = "NULL";

	if (!lock_tables(&wish, 1, DETACH_PATIENCE_MS))
		refuse_busy(detachment);
	memset(&end, 0xff, UUID_LEN);
	PushActiveSnapshot(GetLatestSnapshot());
	detachment->rows =
		count_before(psprintf("SELECT count(*) FROM %s WHERE %s <= $1",
							  detachment->name, detachment->table->key),
					 &end);
	PopActiveSnapshot();
	if (strcmp(detachment->table->name, "journal") == 0)
		journal_time =
			psprintf("(SELECT max(effective_at) FROM %s)", detachment->name);
	if (strcmp(detachment->table->name, "entry") == 0)
		insert_rows(psprintf("INSERT INTO payment.detached_balance "
							 "(account_id, from_id, amount) "
							 "SELECT account_id, $1, sum(amount) FROM %s "
							 "GROUP BY account_id",
							 detachment->name),
					detachment);
	insert_rows(psprintf("INSERT INTO payment.detached_partition (parent, "
						 "partition, from_id, until_id, row_count, "
						 "last_effective_at, detached_at, detached_by) "
						 "VALUES ($2, $3, $1, $4, $5, %s, now(), "
						 "session_user)",
						 journal_time),
				detachment);
}

/* for a lock that keep_sums() took */
static bool
somebody_waits(List *detachments)
{
	ListCell *cell;

	foreach (cell, detachments)
	{
		const Detachment *detachment = lfirst(cell);
		Relation rel = table_open(detachment->partition->relid, NoLock);
		bool	 waits = LockHasWaitersRelation(rel, ShareLock);

		table_close(rel, NoLock);
		if (waits)
			return true;
	}
	return false;
}

/*
 * Parents and default partitions too, as DETACH does, in its order.  False
 * when somebody has to be let through first.
 */
static bool
lock_for_detach(List *detachments)
{
	TimestampTz give_up_at =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), DETACH_PATIENCE_MS);

	LockWish *wishes = palloc(sizeof(LockWish) * (list_length(detachments) +
												  PARTITIONED_TABLES * 2));
	int		  count = 0;
	ListCell *cell;

	for (int i = 0; i < PARTITIONED_TABLES; i++)
	{
		bool first = true;

		foreach (cell, detachments)
		{
			Detachment *detachment = lfirst(cell);
			Oid			default_oid;

			if (detachment->table != &partitioned_tables[i])
				continue;
			default_oid = default_partition_oid(detachment->table);
			if (first)
				wishes[count++] =
					(LockWish){ partitioned_table_oid(detachment->table),
								AccessExclusiveLock };
			if (first && OidIsValid(default_oid))
				wishes[count++] =
					(LockWish){ default_oid, AccessExclusiveLock };
			wishes[count++] = (LockWish){ detachment->partition->relid,
										  AccessExclusiveLock };
			first = false;
		}
	}
	while (!lock_tables(wishes, count, 0))
	{
		if (somebody_waits(detachments))
			return false;
		if (GetCurrentTimestamp() >= give_up_at)
			refuse_busy(linitial(detachments));
		lock_pause();
	}
	return true;
}

static void
execute(const char *statement)
{
	if (SPI_execute(statement, false, 0) < 0)
		elog(ERROR, "\"%s\" failed", statement);
}

/* row triggers come from the parent, and go with DETACH */
static List *
row_trigger_statements(const Detachment *detachment)
{
	Oid	  types[] = { OIDOID };
	Datum values[] = { ObjectIdGetDatum(detachment->partition->relid) };
	List *statements = NIL;

	if (SPI_execute_with_args(
			"SELECT pg_get_triggerdef(oid), format('ALTER TABLE %s %s TRIGGER "
			"%I', tgrelid::regclass, CASE tgenabled WHEN 'A' THEN 'ENABLE "
			"ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'D' THEN 'DISABLE' "
			"ELSE 'ENABLE' END, tgname) FROM pg_trigger WHERE tgrelid = $1 "
			"AND tgparentid <> 0 AND NOT tgisinternal ORDER BY tgname",
			lengthof(types), types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "triggers of %s could not be read", detachment->name);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		for (int column = 1; column <= 2; column++)
			statements = lappend(statements,
								 SPI_getvalue(SPI_tuptable->vals[i],
											  SPI_tuptable->tupdesc, column));
	}
	SPI_freetuptable(SPI_tuptable);
	return statements;
}

/* what is detached stays guarded */
static void
detach(const Detachment *detachment)
{
	List	 *triggers = row_trigger_statements(detachment);
	ListCell *cell;

	execute(psprintf("ALTER TABLE payment.%s DETACH PARTITION %s",
					 detachment->table->name, detachment->name));
	foreach (cell, triggers)
		execute(lfirst(cell));
}

/* false when it has to be tried again */
static bool
try_detach(void *argument)
{
	List	 *detachments = argument;
	ListCell *cell;

	foreach (cell, detachments)
		keep_sums(lfirst(cell));
	if (!lock_for_detach(detachments))
		return false;
	foreach (cell, detachments)
		detach(lfirst(cell));
	return true;
}

static void
detach_all(List *detachments)
{
	for (int tries = 1; !do_or_undo(try_detach, detachments); tries++)
	{
		if (tries == MAX_TRIES)
			refuse_busy(linitial(detachments));
		lock_pause();
	}
}

static void
return_row(ReturnSetInfo *result, const Detachment *detachment)
{
	Datum values[RESULT_COLUMNS];
	bool  nulls[RESULT_COLUMNS] = { false };

	values[0] = CStringGetTextDatum(detachment->table->name);
	values[1] = CStringGetTextDatum(detachment->name);
	values[2] = TimestampTzGetDatum(detachment->partition->range.from);
	values[3] = TimestampTzGetDatum(detachment->partition->range.until);
	values[4] = Int64GetDatum(detachment->rows);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static TimestampTz
older_than_argument(FunctionCallInfo fcinfo)
{
	TimestampTz older_than;

	refuse_null(fcinfo, 0, "older_than");
	older_than = PG_GETARG_TIMESTAMPTZ(0);
	if (older_than > GetCurrentTimestamp())
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("invalid argument \"older_than\""),
						errdetail("%s is in the future.",
								  timestamptz_to_str(older_than)),
						errhint("Pass a time that has passed.")));
	return older_than;
}

/* an older snapshot would leave out of the sums what others just committed */
static void
check_isolation(void)
{
	PreventCommandIfReadOnly("detaching partitions");
	PreventCommandIfParallelMode("detaching partitions");
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("partitions are detached in READ COMMITTED only"),
				 errdetail("A snapshot of an earlier moment may lack rows."),
				 errhint("Begin the transaction without an isolation "
						 "level.")));
}

static void
detach_old(FunctionCallInfo fcinfo, TimestampTz older_than, DetachScope scope,
		   const OpenCheck *checks, int check_count)
{
	List	 *detachments;
	ListCell *cell;

	InitMaterializedSRF(fcinfo, 0);
	lock_partitioning(false);
	spi_begin();
	detachments = find_old_partitions(older_than, scope);
	if (detachments != NIL)
	{
		check_pairs(detachments);
		check_not_detached_before(detachments);
		check_closed(last_range(detachments), checks, check_count);
		detach_all(detachments);
		foreach (cell, detachments)
			return_row((ReturnSetInfo *) fcinfo->resultinfo, lfirst(cell));
	}
	spi_end();
}

Datum
payment_detach_partitions(PG_FUNCTION_ARGS)
{
	TimestampTz older_than = older_than_argument(fcinfo);

	refuse_null(fcinfo, 1, "all_tables");
	check_isolation();
	detach_old(fcinfo, older_than,
			   PG_GETARG_BOOL(1) ? DETACH_ALL_BUT_EVENTS : DETACH_LEDGER,
			   open_checks, lengthof(open_checks));
	return (Datum) 0;
}

/*
 * payment.detach_events() -> table of partitions
 */
Datum
payment_detach_events(PG_FUNCTION_ARGS)
{
	TimestampTz older_than =
		GetCurrentTimestamp() - payment_event_retention_days * USECS_PER_DAY;

	check_isolation();
	detach_old(fcinfo, older_than, DETACH_EVENTS, event_checks,
			   lengthof(event_checks));
	return (Datum) 0;
}
