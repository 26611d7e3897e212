/*-------------------------------------------------------------------------
 *
 * session.c
 *	  A dispatcher's life as a process and as a database session: its slot in
 *	  shared memory, its role and settings, its transactions.
 *
 * Every transaction starts with a look around, whether the extension is there
 * and nobody wants to be alone in the database.  Between transactions nothing
 * is locked but the lock that keeps a second dispatcher out.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "dispatcher.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "order/batch.h"
#include "payment.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "session.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/spin.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

/* An advisory lock of a kind that no SQL function can take. */
#define DISPATCHER_LOCK_CLASS 0x5059

/* no transaction of ours waits longer for a lock of somebody else's */
#define LOCK_TIMEOUT "2s"

DispatcherSlot *session_slot = NULL;
MemoryContext	session_context = NULL;
bool			session_stays = false;

volatile sig_atomic_t session_cancel_count = 0;

static Oid extension_id = InvalidOid;

/* ---- this process and its slot ---- */

static void
on_sigint(SIGNAL_ARGS)
{
	int saved_errno = errno;

	session_cancel_count++;
	StatementCancelHandler(postgres_signal_arg);
	errno = saved_errno;
}

static void
leave_slot(int code		  pg_attribute_unused(),
		   Datum argument pg_attribute_unused())
{
	Latch *launcher_latch;

	SpinLockAcquire(&worker_shared->mutex);
	launcher_latch = worker_shared->launcher_latch;
	session_slot->state = SLOT_LEFT;
	session_slot->latch = NULL;
	session_slot->pid = 0;
	SpinLockRelease(&worker_shared->mutex);
	if (launcher_latch)
		SetLatch(launcher_latch);
}

/*
 * Take the slot that the launcher prepared.  One that it gave up waiting for
 * may be another's by now.
 */
static void
take_slot(Datum argument)
{
	DispatcherStart start;
	DispatcherSlot *candidate;
	bool			taken = false;
	TimestampTz		now = GetCurrentTimestamp();

	memcpy(&start, MyBgworkerEntry->bgw_extra, sizeof(start));
	candidate = &worker_shared->slots[DatumGetInt32(argument)];
	SpinLockAcquire(&worker_shared->mutex);
	if (candidate->state == SLOT_STARTING &&
		candidate->generation == start.generation &&
		candidate->database_id == start.database_id)
	{
		candidate->state = SLOT_RUNNING;
		candidate->pid = MyProcPid;
		candidate->started_at = now;
		taken = true;
	}
	SpinLockRelease(&worker_shared->mutex);
	if (!taken)
		proc_exit(0);
	session_slot = candidate;
	on_shmem_exit(leave_slot, (Datum) 0);
}

void
session_set_latch(Latch *latch)
{
	SpinLockAcquire(&worker_shared->mutex);
	session_slot->latch = latch;
	SpinLockRelease(&worker_shared->mutex);
	pg_memory_barrier();
}

static void
note_error(const char *message)
{
	char		text[WORKER_ERROR_SIZE];
	TimestampTz now = GetCurrentTimestamp();

	strlcpy(text, message, sizeof(text));
	SpinLockAcquire(&worker_shared->mutex);
	memcpy(session_slot->error, text, sizeof(text));
	session_slot->error_at = now;
	SpinLockRelease(&worker_shared->mutex);
}

void
session_leave(SlotVerdict verdict)
{
	SpinLockAcquire(&worker_shared->mutex);
	session_slot->verdict = verdict;
	SpinLockRelease(&worker_shared->mutex);
	proc_exit(0);
}

/* ---- transactions ---- */

/*
 * Whether the extension is there and stays while this transaction lasts.
 */
static Presence
look_around(void)
{
	LOCKTAG tag;
	Oid		found;

	/*
	 * DROP DATABASE, ALTER DATABASE RENAME and CREATE DATABASE TEMPLATE hold
	 * this lock while they wait for everybody to leave.
	 */
	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, MyDatabaseId, 0);
	if (!session_stays && LockAcquire(&tag, RowExclusiveLock, false, true) ==
							  LOCKACQUIRE_NOT_AVAIL)
		return DATABASE_WANTED;

	found = get_extension_oid("payment", true);
	if (!OidIsValid(found))
		return EXTENSION_ABSENT;
	if (!ConditionalLockDatabaseObject(ExtensionRelationId, found, 0,
									   AccessShareLock))
		return EXTENSION_BUSY;
	found = get_extension_oid("payment", true);

	/* Another one by that name is for another process: start afresh. */
	if (!OidIsValid(found) ||
		(OidIsValid(extension_id) && extension_id != found))
		return EXTENSION_ABSENT;
	extension_id = found;
	return EXTENSION_PRESENT;
}

Presence
session_begin(const char *activity)
{
	Presence presence;

	SetCurrentStatementStartTimestamp();
	pgstat_report_activity(STATE_RUNNING, activity);
	StartTransactionCommand();
	presence = look_around();
	if (presence == EXTENSION_PRESENT)
	{
		SPI_connect();
		PushActiveSnapshot(GetTransactionSnapshot());
	}
	return presence;
}

void
session_commit(Presence presence)
{
	if (presence == EXTENSION_PRESENT)
	{
		PopActiveSnapshot();
		SPI_finish();
	}
	CommitTransactionCommand();
	MemoryContextSwitchTo(session_context);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* In a PG_CATCH block: report the error and go on. */
void
session_abort(void)
{
	ErrorData *error;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(session_context);
	disable_all_timeouts(false);
	QueryCancelPending = false;
	error = CopyErrorData();
	EmitErrorReport();
	AbortCurrentTransaction();
	FlushErrorState();
	MemoryContextSwitchTo(session_context);
	note_error(error->message);
	FreeErrorData(error);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	RESUME_INTERRUPTS();
}

/* ---- starting ---- */

static void
set_up_session(void)
{
	/* What the claims promise must be on disk, whatever the default is or becomes. */
	SetConfigOption("synchronous_commit",
					synchronous_commit == SYNCHRONOUS_COMMIT_REMOTE_APPLY
						? "remote_apply"
						: "on",
					PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("application_name", "payment dispatcher", PGC_USERSET,
					PGC_S_SESSION);
	SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_SUSET,
					PGC_S_OVERRIDE);
	SetConfigOption("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_isolation", "read committed",
					PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_read_only", "off", PGC_SUSET,
					PGC_S_OVERRIDE);
	batch_session();
}

/* Never a second dispatcher in one database, come what may. */
static bool
lock_out_others(void)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, 0, DISPATCHER_LOCK_CLASS);
	return LockAcquire(&tag, ExclusiveLock, true, true) !=
		   LOCKACQUIRE_NOT_AVAIL;
}

static bool
take_place(void)
{
	int serving = 0;

	SpinLockAcquire(&worker_shared->mutex);
	for (int i = 0; i < worker_shared->slot_count; i++)
		if (worker_shared->slots[i].state == SLOT_RUNNING &&
			worker_shared->slots[i].serves)
			serving++;
	if (serving < payment_max_databases)
		session_slot->serves = true;
	SpinLockRelease(&worker_shared->mutex);
	return session_slot->serves;
}

/* See whether there is anything to serve here; leave if not. */
static void
settle_in(void)
{
	SlotVerdict verdict = VERDICT_NONE;
	Presence	presence = session_begin("look for the extension");

	if (presence == EXTENSION_ABSENT)
		verdict = VERDICT_ABSENT;
	else if (presence != EXTENSION_PRESENT || !lock_out_others())
		verdict = VERDICT_YIELDED;
	else if (!take_place())
		verdict = VERDICT_NO_ROOM;
	else
		SetSessionAuthorization(get_role_oid("payment_worker", false), false);
	session_commit(presence);
	if (verdict != VERDICT_NONE)
		session_leave(verdict);
}


void
session_start(Datum argument)
{
	take_slot(argument);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, on_sigint);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(session_slot->database_id,
											  InvalidOid, 0);
	session_context = AllocSetContextCreate(TopMemoryContext, "payment turn",
											ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(session_context);
	set_up_session();
	settle_in();
}

/*
 * The extension was not there.  Before leaving for good make sure of it once
 * more, with no latch that a CREATE EXTENSION could set in vain: one that
 * commits after the look finds no latch and tells the launcher.
 */
void
session_leave_if_absent(void)
{
	Presence presence;

	session_set_latch(NULL);
	extension_id = InvalidOid;
	presence = session_begin(NULL);
	session_commit(presence);
	session_leave(presence == EXTENSION_ABSENT ? VERDICT_ABSENT
											   : VERDICT_YIELDED);
}
