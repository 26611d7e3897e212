/*-------------------------------------------------------------------------
 *
 * lock.c
 *	  Strong locks on busy tables, without holding up who works there.
 *
 * Who waits for a lock makes all that come later wait behind him.  So each
 * try waits only as long as lock_timeout, which the SQL functions set, and
 * gives up everything it got; in between the others go on.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "errcodes.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "partition/partition.h"

#define PAUSE_MS 500
#define PARTITIONING_PATIENCE_MS 10000

/*
 * Held by whoever makes or detaches partitions, until his transaction ends.
 * No lock of a table: others' business with the tables goes on.  The extension
 * as such (object 0) is locked by DROP EXTENSION.
 */
#define PARTITIONING_LOCK 1

static void
take_lock(const LockWish *wish)
{
	if (OidIsValid(wish->relid))
		LockRelationOid(wish->relid, wish->mode);
	else
		LockDatabaseObject(ExtensionRelationId,
						   get_extension_oid("payment", false),
						   PARTITIONING_LOCK, wish->mode);
}

/* all of them or none */
static bool
try_locks(const LockWish *wishes, int count)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool locked = false;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		for (int i = 0; i < count; i++)
			take_lock(&wishes[i]);
		ReleaseCurrentSubTransaction();
		locked = true;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE &&
			error->sqlerrcode != ERRCODE_T_R_DEADLOCK_DETECTED)
			ReThrowError(error);
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return locked;
}

/* others may go on meanwhile */
void
lock_pause(void)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 PAUSE_MS, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* for patience_ms; false when that was not enough */
bool
lock_tables(const LockWish *wishes, int count, int patience_ms)
{
	TimestampTz give_up_at =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), patience_ms);

	for (;;)
	{
		if (try_locks(wishes, count))
			return true;
		if (GetCurrentTimestamp() >= give_up_at)
			return false;
		lock_pause();
	}
}

/*
 * One session at a time makes or detaches partitions: what it found out about
 * them stays true, and two never wait for each other's tables.
 */
bool
lock_partitioning(bool by_worker)
{
	LockWish wish = { InvalidOid, ExclusiveLock };

	if (lock_tables(&wish, 1, by_worker ? 0 : PARTITIONING_PATIENCE_MS))
		return true;
	ereport(by_worker ? LOG : ERROR,
			(errcode(ERRCODE_PAYMENT_PARTITIONING_BUSY),
			 errmsg("another session makes or detaches partitions"),
			 errdetail("Its transaction has not ended yet."),
			 errhint("Try again when it has; pg_locks shows it by locktype "
					 "object, objsubid %d.",
					 PARTITIONING_LOCK)));
	return false;
}
