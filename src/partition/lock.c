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
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "partition/partition.h"

#define PAUSE_MS 500

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
			LockRelationOid(wishes[i].relid, wishes[i].mode);
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
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 PAUSE_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}
