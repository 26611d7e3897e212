/*-------------------------------------------------------------------------
 *
 * sync_standby.c
 *	  Whether a synchronous standby is there, and what it has.
 *
 * A commit waits for a standby only if the checkpointer has noted in shared
 * memory that there are to be any, and a wait that ends does not say why: the
 * names may have been emptied, or somebody cancelled it.  What standbys have
 * confirmed is in shared memory too, and is the only proof.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "replication/syncrep.h"
#include "replication/walsender_private.h"
#include "storage/lwlock.h"

#include "instance/sync_standby.h"

static bool
commits_wait(void)
{
	bool wait;

	LWLockAcquire(SyncRepLock, LW_SHARED);
#ifdef SYNC_STANDBY_DEFINED
	wait = (WalSndCtl->sync_standbys_status & SYNC_STANDBY_DEFINED) != 0;
#else
	wait = WalSndCtl->sync_standbys_defined;
#endif
	LWLockRelease(SyncRepLock);
	return wait;
}

bool
sync_standby_attached(void)
{
	SyncRepStandbyData *standbys;
	int					count;

	if (SyncRepConfig == NULL || !commits_wait())
		return false;
	count = SyncRepGetCandidateStandbys(&standbys);
	pfree(standbys);
	return count >= SyncRepConfig->num_sync;
}

bool
sync_standby_has_flushed(XLogRecPtr position)
{
	bool flushed;

	LWLockAcquire(SyncRepLock, LW_SHARED);
	flushed = position <= WalSndCtl->lsn[SYNC_REP_WAIT_FLUSH];
	LWLockRelease(SyncRepLock);
	return flushed;
}
