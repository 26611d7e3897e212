/*-------------------------------------------------------------------------
 *
 * partition.h
 *	  Time partitions: what the files of this room share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_PARTITION_H
#define PAYMENT_PARTITION_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"
#include "utils/uuid.h"

/*
 * A partitioned table.  Those with the same group get and lose their
 * partitions together: a journal and its entries.
 */
typedef struct PartitionedTable
{
	const char *name;
	const char *key;
	int			group;
} PartitionedTable;

#define PARTITIONED_TABLES 12
#define LEDGER_GROUP 0
#define REFUND_GROUP 8
#define DISPUTE_GROUP 9
#define EVENT_GROUP 10

extern const PartitionedTable partitioned_tables[PARTITIONED_TABLES];

/* from (inclusive) until (exclusive), and the ids that bound it */
typedef struct TimeRange
{
	TimestampTz from;
	TimestampTz until;
	pg_uuid_t	from_id;
	pg_uuid_t	until_id;
} TimeRange;

/* a partition as its parent has it; the default partition is left out */
typedef struct Partition
{
	Oid		  relid;
	TimeRange range;
} Partition;

/* range.c */
extern void	 range_around(TimestampTz at, TimeRange *range);
extern void	 range_next(TimeRange *range);
extern char *range_suffix(const TimeRange *range);
extern char *range_text(const TimeRange *range);
extern Oid	 partitioned_table_oid(const PartitionedTable *table);
extern Oid	 default_partition_oid(const PartitionedTable *table);
extern List *list_partitions(const PartitionedTable *table);

/* lock.c */
typedef struct LockWish
{
	Oid		 relid; /* InvalidOid: the right to make or detach partitions */
	LOCKMODE mode;
} LockWish;

extern bool lock_tables(const LockWish *wishes, int count, int patience_ms);
extern void lock_pause(void);
extern bool lock_partitioning(bool by_worker);

/* undo.c */
extern bool do_or_undo(bool (*work)(void *), void *argument);

#endif /* PAYMENT_PARTITION_H */
