/*-------------------------------------------------------------------------
 *
 * dispatcher.c
 *	  One per database: claim, send, record.
 *
 * A turn of the loop drives the requests under way, records what is finished
 * and claims what there is room for in one transaction, and sends what was
 * claimed once that has committed.  No transaction is open while anything is
 * on the network, and nothing is sent whose claim may not be on disk.
 *
 * Whatever is lost on the way (a crash, a failed record, a shutdown) is left
 * to its lease: the next claim or the next start finds it, and it is looked
 * up at the PSP.  So every exit here may be an abrupt one.
 *
 * It leaves by itself when the extension is gone and when somebody wants the
 * database for himself; the launcher decides what comes next.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "compat.h"
#include "dispatcher.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "payment.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "queue.h"
#include "shared.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/spin.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

PGDLLEXPORT void payment_dispatcher_main(Datum argument);

/* An advisory lock of a kind that no SQL function can take. */
#define DISPATCHER_LOCK_CLASS 0x5059

/* how often to see whether somebody wants the database for himself */
#define DATABASE_WATCH_MS 1000

/* DROP DATABASE waits five seconds for others to leave. */
#define YIELD_DRAIN_MS 3000

/* after an error of the database, doubling */
#define ERROR_DELAY_MIN_MS 200
#define ERROR_DELAY_MAX_MS 30000

/* no transaction of ours waits longer for a lock of somebody else's */
#define LOCK_TIMEOUT "2s"

/* when a due task could not be claimed: somebody else has it locked */
#define LOCKED_TASK_DELAY_MS 50

typedef enum Presence
{
	EXTENSION_PRESENT,
	EXTENSION_ABSENT,
	EXTENSION_BUSY, /* being dropped, perhaps */
	DATABASE_WANTED /* somebody wants to be alone in it */
} Presence;

static DispatcherSlot *slot = NULL;
static Oid			   extension_id = InvalidOid;
static uint32		   wait_event = 0;

/* how often somebody asked to cancel what we do: see commit_claims */
static volatile sig_atomic_t cancel_count = 0;

static dlist_head	 psps = DLIST_STATIC_INIT(psps);
static dlist_head	 finished = DLIST_STATIC_INIT(finished);
static int			 finished_count = 0;
static int			 recording_count = 0;
static MemoryContext psp_context = NULL;
static MemoryContext delivery_context = NULL;
static MemoryContext turn_context = NULL;

static bool		   leaving = false;
static TimestampTz leave_at = 0;
static SlotVerdict leave_verdict = VERDICT_NONE;
static TimestampTz polled_at = 0;	/* when all queues were looked at */
static TimestampTz work_at = 0;		/* next look around, due or not */
static TimestampTz quiet_until = 0; /* no database work before, after errors */
static int		   error_delay_ms = 0;

/* ---- this process and its slot ---- */

static void
on_sigint(SIGNAL_ARGS)
{
	int saved_errno = errno;

	cancel_count++;
	StatementCancelHandler(postgres_signal_arg);
	errno = saved_errno;
}

static void
leave_slot(int code		  pg_attribute_unused(),
		   Datum argument pg_attribute_unused())
{
	SpinLockAcquire(&worker_shared->mutex);
	slot->state = SLOT_LEFT;
	slot->latch = NULL;
	slot->pid = 0;
	SpinLockRelease(&worker_shared->mutex);
	if (worker_shared->launcher_latch)
		SetLatch(worker_shared->launcher_latch);
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
	slot = candidate;
	on_shmem_exit(leave_slot, (Datum) 0);
}

static void
set_latch_in_slot(Latch *latch)
{
	SpinLockAcquire(&worker_shared->mutex);
	slot->latch = latch;
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
	memcpy(slot->error, text, sizeof(text));
	slot->error_at = now;
	SpinLockRelease(&worker_shared->mutex);
}

static void
leave(SlotVerdict verdict)
{
	SpinLockAcquire(&worker_shared->mutex);
	slot->verdict = verdict;
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
	if (!leaving && LockAcquire(&tag, RowExclusiveLock, false, true) ==
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

static Presence
begin_work(const char *activity)
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

static void
commit_work(Presence presence)
{
	if (presence == EXTENSION_PRESENT)
	{
		PopActiveSnapshot();
		SPI_finish();
	}
	CommitTransactionCommand();
	MemoryContextSwitchTo(turn_context);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* In a PG_CATCH block: report the error and go on. */
static void
abort_work(void)
{
	ErrorData *error;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(turn_context);
	disable_all_timeouts(false);
	QueryCancelPending = false;
	error = CopyErrorData();
	EmitErrorReport();
	AbortCurrentTransaction();
	FlushErrorState();
	MemoryContextSwitchTo(turn_context);
	note_error(error->message);
	FreeErrorData(error);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	RESUME_INTERRUPTS();
}

static void
back_off(void)
{
	error_delay_ms =
		Min(Max(error_delay_ms * 2, ERROR_DELAY_MIN_MS), ERROR_DELAY_MAX_MS);
	quiet_until =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), error_delay_ms);
}

static void
start_leaving(SlotVerdict verdict, int drain_ms)
{
	if (leaving)
		return;
	leaving = true;
	leave_verdict = verdict;
	leave_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), drain_ms);
}

/*
 * The extension was not there.  Before leaving for good make sure of it once
 * more, with no latch that a CREATE EXTENSION could set in vain: one that
 * commits after the look finds no latch and tells the launcher.
 */
static void
leave_if_absent(void)
{
	Presence presence;

	set_latch_in_slot(NULL);
	extension_id = InvalidOid;
	presence = begin_work(NULL);
	commit_work(presence);
	leave(presence == EXTENSION_ABSENT ? VERDICT_ABSENT : VERDICT_YIELDED);
}

static void
heed(Presence presence)
{
	switch (presence)
	{
		case EXTENSION_PRESENT:
			break;
		case EXTENSION_ABSENT:
			leave_if_absent();
			break;
		case EXTENSION_BUSY:
			quiet_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													  ERROR_DELAY_MIN_MS);
			break;
		case DATABASE_WANTED:
			start_leaving(VERDICT_YIELDED, YIELD_DRAIN_MS);
			break;
	}
}

/* ---- deliveries ---- */

static void
free_delivery(Delivery *delivery)
{
	delivery->psp->in_flight--;
	MemoryContextDelete(delivery->context);
}

static void
add_finished(Delivery *delivery)
{
	dlist_push_tail(&finished, &delivery->node);
	finished_count++;
}

static void
take_answers(void)
{
	HttpExchange *exchange;

	while ((exchange = http_next()) != NULL)
	{
		Delivery *delivery = exchange->owner;

		if (delivery_receive(delivery, exchange))
			add_finished(delivery);
	}
}

static void
count_outcome(const Delivery *delivery)
{
	pg_atomic_fetch_add_u64(&slot->recorded, 1);
	switch (delivery->outcome.kind)
	{
		case PSP_SUCCEEDED:
			pg_atomic_fetch_add_u64(&slot->succeeded, 1);
			break;
		case PSP_DECLINED:
		case PSP_FAILED:
			pg_atomic_fetch_add_u64(&slot->declined, 1);
			break;
		case PSP_RETRY:
		case PSP_NOT_FOUND:
			pg_atomic_fetch_add_u64(&slot->retried, 1);
			break;
		case PSP_UNKNOWN:
			pg_atomic_fetch_add_u64(&slot->unknown, 1);
			break;
		case PSP_PENDING:
		case PSP_MORE:
			break;
	}
}

/*
 * Take up to payment.batch_size finished deliveries off the list; they are in
 * the caller's hands until recorded or given up.
 */
static int
take_finished(Delivery **batch)
{
	int count = 0;

	while (count < payment_batch_size && !dlist_is_empty(&finished))
	{
		dlist_node *node = dlist_pop_head_node(&finished);

		batch[count++] = dlist_container(Delivery, node, node);
	}
	finished_count -= count;
	return count;
}

static void
settle_recorded(Delivery **batch, int count)
{
	for (int i = 0; i < count; i++)
	{
		count_outcome(batch[i]);
		free_delivery(batch[i]);
	}
}

/*
 * The batch failed: record each outcome by itself, so that one that cannot be
 * recorded does not hold up the others.  That one is left to its lease.
 */
static void
record_one_by_one(Delivery **batch, int count)
{
	for (int i = 0; i < count; i++)
	{
		volatile Presence presence = EXTENSION_BUSY;

		CHECK_FOR_INTERRUPTS();
		http_drive();
		PG_TRY();
		{
			presence = begin_work("record one outcome");
			if (presence == EXTENSION_PRESENT)
				queue_record(&batch[i], 1);
			commit_work(presence);
			if (presence == EXTENSION_PRESENT)
				count_outcome(batch[i]);
		}
		PG_CATCH();
		{
			abort_work();
			ereport(LOG,
					(errcode(ERRCODE_PAYMENT_WORKER),
					 errmsg("the outcome of a payment attempt could not be "
							"recorded"),
					 errdetail("Attempt %d of object %s; it will be looked up "
							   "when its lease is over.",
							   batch[i]->task.attempt_no,
							   batch[i]->task.object_id)));
		}
		PG_END_TRY();
		free_delivery(batch[i]);
		heed(presence);
	}
}

/* ---- claiming ---- */

/* tokens for a tenth of a second at most, so that no second has far too many */
static void
refill_tokens(Psp *psp, TimestampTz now)
{
	double burst = Max(psp->requests_per_second / 10.0, 1.0);
	double elapsed_s = (double) (now - psp->refilled_at) / USECS_PER_SEC;

	if (psp->refilled_at == 0 || elapsed_s < 0)
		elapsed_s = 0;
	psp->refilled_at = now;
	psp->tokens =
		Min(burst, psp->tokens + elapsed_s * psp->requests_per_second);
}

static int
all_in_flight(void)
{
	dlist_iter iter;
	int		   count = 0;

	dlist_foreach(iter, &psps) count +=
		dlist_container(Psp, node, iter.cur)->in_flight;
	return count;
}

/* What is being recorded gives up its place with the same commit. */
static int
free_places(const Psp *psp)
{
	if (!psp->active || psp->adapter == NULL)
		return 0;
	return Min(psp->max_in_flight - psp->in_flight + psp->recording,
			   payment_max_in_flight - all_in_flight() + recording_count);
}

/* How many tasks of this PSP may be claimed now? */
static int
room_for(Psp *psp, TimestampTz now)
{
	int room;

	refill_tokens(psp, now);
	room = Min(payment_batch_size, (int) psp->tokens);
	return Max(Min(room, free_places(psp)), 0);
}

static void
complain_about_adapter(Psp *psp, TimestampTz now)
{
	if (psp->adapter != NULL ||
		(psp->complained_at != 0 &&
		 !TimestampDifferenceExceeds(psp->complained_at, now, 600 * 1000)))
		return;
	psp->complained_at = now;
	ereport(LOG, (errcode(ERRCODE_PAYMENT_WORKER),
				  errmsg("PSP \"%s\" names an adapter that does not exist",
						 psp->name)));
}

static void
claim_for(Psp *psp, dlist_head *claimed)
{
	TimestampTz now = GetCurrentTimestamp();
	int			room = room_for(psp, now);
	int			count;

	if (room == 0 || psp->due_at > now)
		return;
	count =
		queue_claim(psp, room, payment_lease_ms, claimed, delivery_context);
	if (count == room)
		return; /* there may be more */
	psp->due_at = Max(queue_next_due(psp),
					  TimestampTzPlusMilliseconds(now, LOCKED_TASK_DELAY_MS));
}

static void
claim_for_all(dlist_head *claimed)
{
	dlist_iter	iter;
	TimestampTz now = GetCurrentTimestamp();

	queue_load_psps(&psps, psp_context);
	dlist_foreach(iter, &psps)
	{
		Psp *psp = dlist_container(Psp, node, iter.cur);

		complain_about_adapter(psp, now);
		claim_for(psp, claimed);
	}

	/* Next time another one comes first to what room there is. */
	if (!dlist_is_empty(&psps))
		dlist_push_tail(&psps, dlist_pop_head_node(&psps));
}

static void
give_up_claims(dlist_head *claimed)
{
	while (!dlist_is_empty(claimed))
	{
		dlist_node *node = dlist_pop_head_node(claimed);

		free_delivery(dlist_container(Delivery, node, node));
	}
}

static void
send_claims(dlist_head *claimed)
{
	TimestampTz now = GetCurrentTimestamp();

	while (!dlist_is_empty(claimed))
	{
		dlist_node *node = dlist_pop_head_node(claimed);
		Delivery   *delivery = dlist_container(Delivery, node, node);

		/* A commit that took too long: the lease may end under way. */
		if (now > delivery->give_up_at)
			free_delivery(delivery);
		else if (delivery_send(delivery))
			pg_atomic_fetch_add_u64(&slot->sent, 1);
		else
			add_finished(delivery);
	}
	http_drive();
}

/* Count the batch as on its way out, or stop doing so. */
static void
mark_recording(Delivery **batch, int count, bool recording)
{
	for (int i = 0; i < count; i++)
		batch[i]->psp->recording += recording ? 1 : -1;
	recording_count += recording ? count : -count;
}

/*
 * What to do with the batch and the claims of a transaction, by how it ended.
 */
static void
after_work(Presence presence, bool failed, Delivery **batch, int count,
		   dlist_head *claimed)
{
	if (failed && count > 0)
		record_one_by_one(batch, count);
	else if (failed)
		back_off();
	else if (presence == EXTENSION_PRESENT)
	{
		error_delay_ms = 0;
		settle_recorded(batch, count);
		CHECK_FOR_INTERRUPTS();
		send_claims(claimed);
	}
	else
	{
		for (int i = 0; i < count; i++)
			add_finished(batch[i]);
		heed(presence);
	}
}

/*
 * Record the batch and claim what there is room for, in one transaction.
 * Returns false when that failed.
 */
static bool
try_work(Delivery **batch, int count, bool may_claim, dlist_head *claimed,
		 Presence *presence)
{
	volatile bool done = false;

	PG_TRY();
	{
		*presence = begin_work("record and claim");
		if (*presence == EXTENSION_PRESENT)
		{
			if (count > 0)
				queue_record(batch, count);
			if (may_claim)
				claim_for_all(claimed);
		}
		commit_work(*presence);
		done = true;
	}
	PG_CATCH();
	{
		abort_work();
	}
	PG_END_TRY();
	return done;
}

/*
 * Work on the database, then send what was claimed.  A claim whose commit
 * somebody tried to cancel is not sent: the wait for a synchronous standby may
 * have been cut short, and a failover would forget the claim.
 */
static void
record_and_claim(bool may_claim)
{
	Delivery   **batch = palloc(payment_batch_size * sizeof(Delivery *));
	dlist_head	 claimed = DLIST_STATIC_INIT(claimed);
	int			 count = take_finished(batch);
	Presence	 presence = EXTENSION_BUSY;
	bool		 done;
	sig_atomic_t cancels_before = cancel_count;

	mark_recording(batch, count, true);
	done = try_work(batch, count, may_claim, &claimed, &presence);
	mark_recording(batch, count, false);

	if (!done || cancel_count != cancels_before)
		give_up_claims(&claimed);
	after_work(presence, !done, batch, count, &claimed);
}

/* ---- the loop ---- */

static void
make_all_due(TimestampTz now)
{
	dlist_iter iter;

	dlist_foreach(iter, &psps)
	{
		Psp *psp = dlist_container(Psp, node, iter.cur);

		psp->due_at = Min(psp->due_at, now);
	}
}

/* When will this PSP's tokens suffice for a request? */
static TimestampTz
token_at(const Psp *psp)
{
	double missing = 1.0 - psp->tokens;

	if (missing <= 0)
		return psp->refilled_at;
	return psp->refilled_at +
		   (TimestampTz) (missing * USECS_PER_SEC / psp->requests_per_second) +
		   1;
}

/* When is there next something to do with the database? */
static TimestampTz
next_work_at(TimestampTz now)
{
	TimestampTz at = work_at;
	dlist_iter	iter;

	if (finished_count > 0)
		at = now;
	dlist_foreach(iter, &psps)
	{
		Psp *psp = dlist_container(Psp, node, iter.cur);

		if (!leaving && free_places(psp) > 0)
			at = Min(at, Max(psp->due_at, token_at(psp)));
	}
	return Max(at, quiet_until);
}

static long
time_until(TimestampTz at, TimestampTz now)
{
	if (leaving)
		at = Min(at, leave_at);
	return at <= now ? 0 : (long) ((at - now + 999) / 1000);
}

static void
reload_settings(void)
{
	if (!ConfigReloadPending)
		return;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
}

static void
turn(void)
{
	TimestampTz now = GetCurrentTimestamp();

	pg_atomic_write_u64(&slot->heartbeat_at, (uint64) now);
	pg_atomic_write_u32(&slot->in_flight, (uint32) http_in_flight());
	if (http_wait(time_until(next_work_at(now), now), wait_event))
		work_at = polled_at = 0;
	take_answers();

	now = GetCurrentTimestamp();
	if (TimestampDifferenceExceeds(polled_at, now, payment_poll_interval_ms))
	{
		make_all_due(now);
		polled_at = now;
	}
	if (next_work_at(now) <= now)
	{
		work_at =
			TimestampTzPlusMilliseconds(now, Min(payment_poll_interval_ms,
												 DATABASE_WATCH_MS));
		record_and_claim(!leaving);
	}
}

static void
run(void)
{
	for (;;)
	{
		MemoryContextReset(turn_context);
		MemoryContextSwitchTo(turn_context);
		CHECK_FOR_INTERRUPTS();
		reload_settings();
		if (!payment_worker_enabled)
			start_leaving(VERDICT_YIELDED, payment_lease_ms);
		turn();
		if (leaving && ((http_in_flight() == 0 && finished_count == 0) ||
						GetCurrentTimestamp() >= leave_at))
			leave(leave_verdict);
	}
}

/* ---- starting ---- */

static void
set_up_session(void)
{
	/* What the claims promise must be on disk, whatever the default is. */
	if (synchronous_commit < SYNCHRONOUS_COMMIT_REMOTE_FLUSH)
		SetConfigOption("synchronous_commit", "on", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("application_name", "payment dispatcher", PGC_USERSET,
					PGC_S_SESSION);
	SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_SUSET,
					PGC_S_OVERRIDE);
	SetConfigOption("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_isolation", "read committed",
					PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_read_only", "off", PGC_SUSET,
					PGC_S_OVERRIDE);
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
		slot->serves = true;
	SpinLockRelease(&worker_shared->mutex);
	return slot->serves;
}

/* See whether there is anything to serve here; leave if not. */
static void
settle_in(void)
{
	SlotVerdict verdict = VERDICT_NONE;
	Presence	presence = begin_work("look for the extension");

	if (presence == EXTENSION_ABSENT)
		verdict = VERDICT_ABSENT;
	else if (presence != EXTENSION_PRESENT || !lock_out_others())
		verdict = VERDICT_YIELDED;
	else if (!take_place())
		verdict = VERDICT_NO_ROOM;
	else
		SetSessionAuthorization(get_role_oid("payment_worker", false), false);
	commit_work(presence);
	if (verdict != VERDICT_NONE)
		leave(verdict);
}

/* What an earlier dispatcher left in flight has to be looked up. */
static void
clear_old_leases(void)
{
	int64	 expired = 0;
	Presence presence = begin_work("expire leases");

	if (presence == EXTENSION_PRESENT)
		expired = queue_expire_leases();
	commit_work(presence);
	if (presence != EXTENSION_PRESENT)
		leave(VERDICT_YIELDED);
	if (expired > 0)
		ereport(LOG, (errmsg("payment dispatcher found " INT64_FORMAT
							 " attempts of an earlier one without an outcome",
							 expired)));
}

void
payment_dispatcher_main(Datum argument)
{
	take_slot(argument);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, on_sigint);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(slot->database_id, InvalidOid,
											  0);

	psp_context = AllocSetContextCreate(TopMemoryContext, "payment PSPs",
										ALLOCSET_SMALL_SIZES);
	delivery_context =
		AllocSetContextCreate(TopMemoryContext, "payment deliveries",
							  ALLOCSET_SMALL_SIZES);
	turn_context = AllocSetContextCreate(TopMemoryContext, "payment turn",
										 ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(turn_context);
	wait_event = worker_wait_event("PaymentDispatcher");
	set_up_session();
	settle_in();
	http_startup();
	set_latch_in_slot(MyLatch);
	clear_old_leases();
	run();
}
