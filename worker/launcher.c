/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  One per server: starts a dispatcher in each database that has the
 *	  extension.
 *
 * The launcher itself is connected to no database, so it is in nobody's way.
 * Which databases have the extension can only be seen from inside: it starts
 * a dispatcher in each one, few at a time, and one that finds nothing leaves
 * at once and is not started again for long.  CREATE EXTENSION, or the first
 * task queued, leaves a hint with its commit, and the database is looked into
 * immediately.
 *
 * A dispatcher that died is started again, ever later when it keeps dying.
 * Before any start the launcher makes sure that the database is still there
 * and that nobody (DROP DATABASE, CREATE DATABASE TEMPLATE) wants to be alone
 * in it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "compat.h"
#include "dispatcher.h"
#include "miscadmin.h"
#include "payment.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "shared.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/spin.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PGDLLEXPORT void payment_launcher_main(Datum argument);

/* how often to look for new databases, and into those without the extension */
#define SCAN_INTERVAL_MS 10000
#define ABSENT_INTERVAL_MS (10 * 60 * 1000)

/* databases looked into at the same time */
#define STARTING_MAX 2

/* after a dispatcher left, doubling while it keeps dying early */
#define RESTART_DELAY_MIN_MS 1000
#define RESTART_DELAY_MAX_MS 60000
#define EARLY_DEATH_MS 30000

/* when no background worker or place is to be had */
#define NO_ROOM_DELAY_MS 10000
#define COMPLAINT_INTERVAL_MS (10 * 60 * 1000)

/* when a process that was asked for never came to be */
#define START_TIMEOUT_MS 60000

#define DATABASES_MAX 10000
#define NO_SLOT (-1)

typedef struct Database
{
	Oid			id; /* hash key */
	bool		seen;
	int			slot;	  /* NO_SLOT: not started */
	TimestampTz start_at; /* when to start a dispatcher next */
	int			failures;
	bool		hinted;
} Database;

static HTAB		  *databases = NULL;
static TimestampTz scan_at = 0;
static TimestampTz complained_at = 0;
static uint32	   generation = 0;

static TimestampTz
in_ms(int64 ms)
{
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
}

/* ---- this process ---- */

static void
leave_seat(int code		  pg_attribute_unused(),
		   Datum argument pg_attribute_unused())
{
	SpinLockAcquire(&worker_shared->mutex);
	worker_shared->launcher_latch = NULL;
	worker_shared->launcher_pid = 0;
	SpinLockRelease(&worker_shared->mutex);
}

static void
take_seat(void)
{
	on_shmem_exit(leave_seat, (Datum) 0);
	SpinLockAcquire(&worker_shared->mutex);
	worker_shared->launcher_latch = MyLatch;
	worker_shared->launcher_pid = MyProcPid;
	SpinLockRelease(&worker_shared->mutex);
}

/* At most once in a while, whatever it is about. */
static bool
may_complain(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (complained_at != 0 &&
		!TimestampDifferenceExceeds(complained_at, now, COMPLAINT_INTERVAL_MS))
		return false;
	complained_at = now;
	return true;
}

/* ---- what databases there are ---- */

static Database *
enter_database(Oid id)
{
	bool	  found;
	Database *database;

	if (hash_get_num_entries(databases) >= DATABASES_MAX &&
		hash_search(databases, &id, HASH_FIND, NULL) == NULL)
		return NULL;
	database = hash_search(databases, &id, HASH_ENTER, &found);
	if (!found)
	{
		memset(database, 0, sizeof(*database));
		database->id = id;
		database->slot = NO_SLOT;
	}
	return database;
}

/*
 * Templates are left out: nobody pays in one, and a connection there would be
 * in the way of every CREATE DATABASE.
 */
static void
scan_databases(void)
{
	Relation		relation;
	TableScanDesc	scan;
	HeapTuple		tuple;
	HASH_SEQ_STATUS status;
	Database	   *database;

	hash_seq_init(&status, databases);
	while ((database = hash_seq_search(&status)) != NULL)
		database->seen = false;

	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		/* a limit of -2 marks one whose DROP was interrupted */
		if (!form->datallowconn || form->datistemplate ||
			form->datconnlimit < -1)
			continue;
		database = enter_database(form->oid);
		if (database)
			database->seen = true;
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);

	hash_seq_init(&status, databases);
	while ((database = hash_seq_search(&status)) != NULL)
		if (!database->seen && database->slot == NO_SLOT)
			(void) hash_search(databases, &database->id, HASH_REMOVE, NULL);
}

static void
take_hints(void)
{
	Oid	 hints[WORKER_MAX_HINTS];
	int	 count;
	bool lost;

	SpinLockAcquire(&worker_shared->mutex);
	count = worker_shared->hint_count;
	memcpy(hints, worker_shared->hints, count * sizeof(Oid));
	lost = worker_shared->hints_lost;
	worker_shared->hint_count = 0;
	worker_shared->hints_lost = false;
	SpinLockRelease(&worker_shared->mutex);

	for (int i = 0; i < count; i++)
	{
		Database *database = enter_database(hints[i]);

		if (database)
			database->hinted = true;
	}
	if (lost)
	{
		HASH_SEQ_STATUS status;
		Database	   *database;

		hash_seq_init(&status, databases);
		while ((database = hash_seq_search(&status)) != NULL)
			database->hinted = true;
	}
}

/* A hint overrides a long wait, not the backoff after a failure. */
static void
heed_hint(Database *database)
{
	if (!database->hinted || database->slot != NO_SLOT)
		return;
	database->hinted = false;
	if (database->failures == 0)
		database->start_at = Min(database->start_at, GetCurrentTimestamp());
}

/* ---- dispatchers that left ---- */

/* Dispatchers that an earlier launcher started are ours now. */
static void
adopt_slots(void)
{
	for (int i = 0; i < worker_shared->slot_count; i++)
	{
		DispatcherSlot *slot = &worker_shared->slots[i];
		Database	   *database;

		generation = Max(generation, slot->generation);
		if (slot->state == SLOT_FREE)
			continue;
		database = enter_database(slot->database_id);
		if (database)
			database->slot = i;
	}
}

static void
plan_restart(Database *database, SlotVerdict verdict, bool early)
{
	int delay_ms = RESTART_DELAY_MIN_MS;

	if (verdict != VERDICT_NONE || !early)
		database->failures = 0;
	else
	{
		delay_ms = RESTART_DELAY_MIN_MS << Min(database->failures, 6);
		database->failures++;
	}
	if (verdict == VERDICT_ABSENT)
		delay_ms = ABSENT_INTERVAL_MS;
	else if (verdict == VERDICT_NO_ROOM)
	{
		/* counts as a failure, so that hints do not start it in vain */
		database->failures = 1;
		delay_ms = NO_ROOM_DELAY_MS;
		if (may_complain())
			ereport(LOG,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("payments of database %u are not sent: "
							"payment.max_databases are served already",
							database->id),
					 errhint("Increase payment.max_databases and restart the "
							 "server.")));
	}
	database->start_at = in_ms(Min(delay_ms, ABSENT_INTERVAL_MS));
	if (verdict == VERDICT_NONE)
		database->start_at =
			Min(database->start_at, in_ms(RESTART_DELAY_MAX_MS));
}

/*
 * See whether the dispatcher of this database has left, or never came.
 */
static void
check_slot(Database *database)
{
	DispatcherSlot *slot = &worker_shared->slots[database->slot];
	TimestampTz		now = GetCurrentTimestamp();
	SlotVerdict		verdict = VERDICT_NONE;
	TimestampTz		started_at = 0;
	bool			left = false;

	SpinLockAcquire(&worker_shared->mutex);
	if (slot->state == SLOT_LEFT ||
		(slot->state == SLOT_STARTING &&
		 TimestampDifferenceExceeds(slot->registered_at, now,
									START_TIMEOUT_MS)))
	{
		left = true;
		verdict = slot->verdict;
		started_at = slot->registered_at;
		slot->state = SLOT_FREE;
		slot->database_id = InvalidOid;
		slot->serves = false;
	}
	SpinLockRelease(&worker_shared->mutex);
	if (!left)
		return;
	database->slot = NO_SLOT;
	plan_restart(database, verdict,
				 !TimestampDifferenceExceeds(started_at, now, EARLY_DEATH_MS));
}

/* ---- starting ---- */

static int
prepare_slot(Oid database_id)
{
	int			found = NO_SLOT;
	TimestampTz now = GetCurrentTimestamp();

	SpinLockAcquire(&worker_shared->mutex);
	for (int i = 0; i < worker_shared->slot_count && found == NO_SLOT; i++)
	{
		DispatcherSlot *slot = &worker_shared->slots[i];

		if (slot->state != SLOT_FREE)
			continue;
		found = i;
		slot->state = SLOT_STARTING;
		slot->verdict = VERDICT_NONE;
		slot->generation = ++generation;
		slot->database_id = database_id;
		slot->serves = false;
		slot->registered_at = now;
		slot->error[0] = '\0';
		slot->error_at = 0;
		slot->refusal[0] = '\0';
	}
	SpinLockRelease(&worker_shared->mutex);
	if (found != NO_SLOT)
		reset_slot_counters(&worker_shared->slots[found]);
	return found;
}

static bool
register_dispatcher(Oid database_id, int slot)
{
	BackgroundWorker		worker;
	BackgroundWorkerHandle *handle;
	DispatcherStart			start;
	bool					registered;

	memset(&worker, 0, sizeof(worker));
	memset(&start, 0, sizeof(start));
	start.database_id = database_id;
	start.generation = worker_shared->slots[slot].generation;
	memcpy(worker.bgw_extra, &start, sizeof(start));
	worker.bgw_flags =
		BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART; /* the launcher does */
	worker.bgw_main_arg = Int32GetDatum(slot);
	worker.bgw_notify_pid = MyProcPid;
	strlcpy(worker.bgw_library_name, "payment", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "payment_dispatcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "payment dispatcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "payment dispatcher", BGW_MAXLEN);

	registered = RegisterDynamicBackgroundWorker(&worker, &handle);
	if (registered)
		pfree(handle);
	return registered;
}

/* True unless somebody wants to be alone in the database. */
static bool
may_connect(Oid database_id)
{
	LOCKTAG tag;

	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, database_id, 0);
	if (LockAcquire(&tag, RowExclusiveLock, false, true) ==
		LOCKACQUIRE_NOT_AVAIL)
		return false;
	LockRelease(&tag, RowExclusiveLock, false);
	return true;
}

static void
start_dispatcher(Database *database)
{
	int slot;

	database->start_at = in_ms(RESTART_DELAY_MIN_MS);
	if (!database->seen || !may_connect(database->id))
		return;
	slot = prepare_slot(database->id);
	if (slot == NO_SLOT)
		return;
	if (register_dispatcher(database->id, slot))
	{
		database->slot = slot;
		return;
	}

	SpinLockAcquire(&worker_shared->mutex);
	worker_shared->slots[slot].state = SLOT_FREE;
	worker_shared->slots[slot].database_id = InvalidOid;
	SpinLockRelease(&worker_shared->mutex);
	database->start_at = in_ms(NO_ROOM_DELAY_MS);
	if (may_complain())
		ereport(LOG, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					  errmsg("no background worker is free to send payments "
							 "with"),
					  errhint("Increase max_worker_processes and restart the "
							  "server.")));
}

/* Dispatchers that are not known to serve their database yet. */
static int
count_starting(void)
{
	int count = 0;

	for (int i = 0; i < worker_shared->slot_count; i++)
	{
		volatile DispatcherSlot *slot = &worker_shared->slots[i];

		if (slot->state != SLOT_FREE && !slot->serves)
			count++;
	}
	return count;
}

/* ---- the loop ---- */

static void
start_due(void)
{
	HASH_SEQ_STATUS status;
	Database	   *database;
	TimestampTz		now = GetCurrentTimestamp();
	int				starting = count_starting();

	hash_seq_init(&status, databases);
	while ((database = hash_seq_search(&status)) != NULL)
	{
		if (database->slot != NO_SLOT || database->start_at > now ||
			starting >= STARTING_MAX)
			continue;
		start_dispatcher(database);
		if (database->slot != NO_SLOT)
			starting++;
	}
}

static bool
is_anything_due(void)
{
	HASH_SEQ_STATUS status;
	Database	   *database;
	TimestampTz		now = GetCurrentTimestamp();
	bool			due = scan_at <= now;

	hash_seq_init(&status, databases);
	while ((database = hash_seq_search(&status)) != NULL)
	{
		if (database->slot != NO_SLOT)
			check_slot(database);
		heed_hint(database);
		if (database->slot == NO_SLOT && database->start_at <= now)
			due = true;
	}
	return due;
}

/* One look around; returns how long to wait until the next. */
static long
turn(void)
{
	HASH_SEQ_STATUS status;
	Database	   *database;
	TimestampTz		now;
	TimestampTz		next;

	take_hints();
	if (is_anything_due() && payment_worker_enabled)
	{
		StartTransactionCommand();
		(void) GetTransactionSnapshot();
		scan_databases();
		start_due();
		CommitTransactionCommand();
		scan_at = in_ms(SCAN_INTERVAL_MS);
	}
	now = GetCurrentTimestamp();
	next = payment_worker_enabled ? scan_at : in_ms(SCAN_INTERVAL_MS);
	hash_seq_init(&status, databases);
	while ((database = hash_seq_search(&status)) != NULL)
	{
		/* what is overdue waits for a dispatcher that is just starting */
		if (database->slot == NO_SLOT && database->start_at > now)
			next = Min(next, database->start_at);
	}
	return Max((long) ((next - now) / 1000), 10L);
}

void
payment_launcher_main(Datum argument pg_attribute_unused())
{
	HASHCTL info;
	uint32	wait_event;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	info.keysize = sizeof(Oid);
	info.entrysize = sizeof(Database);
	databases =
		hash_create("payment databases", 64, &info, HASH_ELEM | HASH_BLOBS);
	wait_event = worker_wait_event("PaymentLauncher");
	take_seat();
	adopt_slots();
	pgstat_report_activity(STATE_IDLE, NULL);

	for (;;)
	{
		long wait_ms;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		wait_ms = turn();
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 wait_ms, wait_event);
		ResetLatch(MyLatch);
	}
}
