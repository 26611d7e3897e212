/*-------------------------------------------------------------------------
 *
 * range.c
 *	  Which tables are partitioned by time, and what their partitions cover.
 *
 * A partition covers a month or a day in UTC, whatever the session's time
 * zone.  Ids hold their time, so the bounds of a partition are ids.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "payment.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "uuid7.h"

#include "partition/partition.h"

/* the last one has the highest group */
const PartitionedTable partitioned_tables[PARTITIONED_TABLES] = {
	{ "journal", "id", LEDGER_GROUP },
	{ "entry", "journal_id", LEDGER_GROUP },
	{ "payment_record", "id", 1 },
	{ "order_record", "id", 2 },
	{ "payout_record", "id", 3 },
	{ "refund_record", "id", REFUND_GROUP },
	{ "status_history", "id", 4 },
	{ "attempt", "id", 5 },
	{ "settlement_line", "id", 6 },
	{ "webhook_event", "id", 7 },
	{ "dispute_record", "id", DISPUTE_GROUP },
	{ "event", "id", EVENT_GROUP },
};

static TimestampTz
midnight(int year, int month, int day)
{
	return (date2j(year, month, day) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY;
}

static void
set_range(TimeRange *range, int year, int month, int day)
{
	range->from = midnight(year, month, day);
	if (payment_partition_interval == PARTITION_DAY)
		range->until = range->from + USECS_PER_DAY;
	else
		range->until = midnight(month == 12 ? year + 1 : year,
								month == 12 ? 1 : month + 1, 1);
	uuid7_floor(range->from, &range->from_id);
	uuid7_floor(range->until, &range->until_id);
}

void
range_around(TimestampTz at, TimeRange *range)
{
	struct pg_tm tm;
	fsec_t		 fsec;

	if (timestamp2tm(at, NULL, &tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
						errmsg("timestamp out of range")));
	set_range(range, tm.tm_year, tm.tm_mon,
			  payment_partition_interval == PARTITION_DAY ? tm.tm_mday : 1);
}

void
range_next(TimeRange *range)
{
	range_around(range->until, range);
}

static char *
format_range(const TimeRange *range, const char *month_format,
			 const char *day_format)
{
	struct pg_tm tm;
	fsec_t		 fsec;

	if (timestamp2tm(range->from, NULL, &tm, &fsec, NULL, NULL) != 0)
		elog(ERROR, "bound of a partition is out of range");
	if (range->until - range->from == USECS_PER_DAY)
		return psprintf(day_format, tm.tm_year, tm.tm_mon, tm.tm_mday);
	return psprintf(month_format, tm.tm_year, tm.tm_mon);
}

/* what its partitions' names end in */
char *
range_suffix(const TimeRange *range)
{
	return format_range(range, "p%04d%02d", "p%04d%02d%02d");
}

/* for people */
char *
range_text(const TimeRange *range)
{
	return format_range(range, "%04d-%02d", "%04d-%02d-%02d");
}

Oid
partitioned_table_oid(const PartitionedTable *table)
{
	Oid relid =
		get_relname_relid(table->name, get_namespace_oid("payment", false));

	if (!OidIsValid(relid))
		elog(ERROR, "table payment.%s is missing", table->name);
	return relid;
}

/* InvalidOid when somebody detached it */
Oid
default_partition_oid(const PartitionedTable *table)
{
	return get_default_partition_oid(partitioned_table_oid(table));
}

/* all but the default partition, in order of time */
List *
list_partitions(const PartitionedTable *table)
{
	Relation parent =
		table_open(partitioned_table_oid(table), AccessShareLock);
	PartitionDesc	   desc = RelationGetPartitionDesc(parent, true);
	PartitionBoundInfo bounds = desc->boundinfo;
	List			  *partitions = NIL;

	for (int i = 0; bounds != NULL && i <= bounds->ndatums; i++)
	{
		Partition *partition;

		if (bounds->indexes[i] < 0)
			continue;
		partition = palloc0(sizeof(Partition));
		partition->relid = desc->oids[bounds->indexes[i]];
		if (i > 0 && bounds->kind[i - 1][0] == PARTITION_RANGE_DATUM_VALUE)
			partition->range.from_id =
				*DatumGetUUIDP(bounds->datums[i - 1][0]);
		if (i < bounds->ndatums &&
			bounds->kind[i][0] == PARTITION_RANGE_DATUM_VALUE)
			partition->range.until_id = *DatumGetUUIDP(bounds->datums[i][0]);
		else
			memset(&partition->range.until_id, 0xff, UUID_LEN);
		partition->range.from = uuid7_time(&partition->range.from_id);
		partition->range.until = uuid7_time(&partition->range.until_id);
		partitions = lappend(partitions, partition);
	}
	table_close(parent, NoLock);
	return partitions;
}
