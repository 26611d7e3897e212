/*-------------------------------------------------------------------------
 *
 * payment.c
 *	  Entry of the module: settings, shared memory and the wake-up at commit.
 *
 * Loaded from shared_preload_libraries, the module has a launcher started and
 * shares memory with it.  Loaded later, by the first call of a function,
 * everything works but nothing is sent: there is no worker to send it.
 *
 * The wake-up is a SetLatch after commit, so that a checkout is on the wire
 * within milliseconds.  It may get lost (PREPARE TRANSACTION, a commit that
 * dies on its way): the dispatcher looks at the queue every
 * payment.poll_interval as well.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "payment.h"
#include "postmaster/bgworker.h"
#include "shared.h"
#include "statistics.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/guc.h"
#include "utils/memutils.h"

PG_MODULE_MAGIC;

void _PG_init(void);

PG_FUNCTION_INFO_V1(payment_wake_worker);

/* seconds until the postmaster restarts a launcher that failed */
#define LAUNCHER_RESTART_S 5

int	  payment_shard_id = 0;
char *payment_secrets_dir = NULL;
char *payment_ca_file = NULL;
int	  payment_max_orders_per_payment = 100;
int	  payment_max_events_per_submit = 10000;
int	  payment_max_routing_rules = 1000;
int	  payment_max_fee_schedules = 100;
int	  payment_max_fee_tiers = 20;
int	  payment_max_attempts_per_order = 20;
int	  payment_max_metadata_bytes = 16 * 1024;
int	  payment_max_text_bytes = 1024;
int	  payment_max_settlement_bytes = MaxAllocSize;
int	  payment_exchange_tolerance_bp = 100;
int	  payment_max_balance_slots = 256;
int	  payment_batch_size = 200;
int	  payment_max_in_flight = 256;
int	  payment_max_body_bytes = 1024 * 1024;
int	  payment_poll_interval_ms = 1000;
int	  payment_lease_ms = 120 * 1000;
int	  payment_max_webhook_size_kb = 1024;
int	  payment_webhook_tolerance_s = 300;
int	  payment_webhook_lock_timeout_ms = 2000;
int	  payment_authorization_grace_s = 86400;
int	  payment_max_undo_refunds = 5;
int	  payment_undo_refund_delay_ms = 60 * 1000;
int	  payment_max_webhook_rejections = 1000;
int	  payment_max_unverified_webhooks = 1000;
int	  payment_max_parked_webhooks = 10000;
int	  payment_max_dispute_evidence_bytes = 150000;
int	  payment_webhook_parking_time_s = 3 * 86400;
int	  payment_webhook_verify_attempts = 20;
int	  payment_webhook_verify_delay_ms = 2000;
int	  payment_max_databases = 16;
bool  payment_worker_enabled = true;
int	  payment_partition_interval = PARTITION_MONTH;
int	  payment_partitions_ahead = 3;
bool  payment_require_sync_standby = false;
char *payment_failover_standbys = NULL;
char *payment_machine_id = NULL;
bool  payment_allow_drop = false;
int	  payment_max_event_consumers = 100;
int	  payment_max_event_deliveries = 64;
int	  payment_max_queued_events = 1000;
int	  payment_event_retention_days = 90;

WorkerShared *worker_shared = NULL;

static shmem_request_hook_type previous_shmem_request_hook = NULL;
static shmem_startup_hook_type previous_shmem_startup_hook = NULL;

static bool wake_at_commit = false;
static bool announce_at_commit = false;

typedef struct IntegerSetting
{
	const char *name;
	const char *summary;
	const char *detail;
	int		   *variable;
	int			minimum;
	int			maximum;
	GucContext	context;
	int			flags;
} IntegerSetting;

/* The variables' initial values are the defaults. */
static const IntegerSetting integer_settings[] = {
	/* Which database this is, of the many that share the sellers. */
	{ "payment.shard_id", "Number of this shard, written into every id.",
	  "Databases that belong together need different numbers.",
	  &payment_shard_id, 0, 4095, PGC_SIGHUP, 0 },

	/* How much one call may ask for. */
	{ "payment.max_orders_per_payment",
	  "Most payment orders that one payment may have.", NULL,
	  &payment_max_orders_per_payment, 1, 10000, PGC_SUSET, 0 },
	{ "payment.max_events_per_submit",
	  "Most payment events that one call of submit may carry.", NULL,
	  &payment_max_events_per_submit, 1, 1000000, PGC_SUSET, 0 },
	{ "payment.max_routing_rules", "Most routing rules that there may be.",
	  "Each payment whose caller names no PSP reads them all.",
	  &payment_max_routing_rules, 1, 100000, PGC_SUSET, 0 },
	{ "payment.max_fee_schedules",
	  "Most fee schedules of one seller and currency that are not over.",
	  "Each checkout of that seller in that currency reads them all.",
	  &payment_max_fee_schedules, 1, 10000, PGC_SUSET, 0 },
	{ "payment.max_fee_tiers", "Most tiers that a fee schedule may have.",
	  NULL, &payment_max_fee_tiers, 1, 1000, PGC_SUSET, 0 },
	{ "payment.max_attempts_per_order",
	  "Most attempts, each under a key of its own, at paying one order.",
	  "At the limit it goes to no other PSP, nor can it be retried.",
	  &payment_max_attempts_per_order, 1, 1000, PGC_SUSET, 0 },
	{ "payment.max_metadata_bytes",
	  "Largest metadata document of one object, as text.", NULL,
	  &payment_max_metadata_bytes, 0, 1024 * 1024, PGC_SUSET, GUC_UNIT_BYTE },
	{ "payment.max_text_bytes",
	  "Longest name, reference or description that a caller may pass.", NULL,
	  &payment_max_text_bytes, 64, 65536, PGC_SUSET, GUC_UNIT_BYTE },
	{ "payment.max_settlement_bytes",
	  "Largest settlement file that can be imported.", NULL,
	  &payment_max_settlement_bytes, 1024, MaxAllocSize, PGC_SUSET,
	  GUC_UNIT_BYTE },
	{ "payment.exchange_tolerance_basis_points",
	  "How far a settlement line may differ from what the PSP's answer said "
	  "it "
	  "would settle in another currency, in basis points of that.",
	  "What is within goes to fx_gain; what is beyond opens an exception.",
	  &payment_exchange_tolerance_bp, 0, 10000, PGC_SUSET, 0 },
	{ "payment.max_balance_slots",
	  "Most slots that the balance of one account is spread over.",
	  "About as many as transactions may post to one account at once.",
	  &payment_max_balance_slots, 1, 65536, PGC_SUSET, 0 },

	/* What applications are told. */
	{ "payment.max_event_consumers", "Most consumers of events.", NULL,
	  &payment_max_event_consumers, 1, 10000, PGC_SUSET, 0 },
	{ "payment.max_event_deliveries",
	  "Most events that one database's dispatcher posts at once.",
	  "Beside payment.max_in_flight. Each webhook endpoint has a limit of its "
	  "own as well.",
	  &payment_max_event_deliveries, 1, 1024, PGC_SIGHUP, 0 },
	{ "payment.max_queued_events",
	  "Most events that wait in the queue of one webhook endpoint.",
	  "The others wait in payment.event, where they cost nothing.",
	  &payment_max_queued_events, 1, 100000, PGC_SIGHUP, 0 },
	{ "payment.event_retention_days",
	  "Days after which events may be detached, once all consumers have "
	  "acknowledged them.",
	  NULL, &payment_event_retention_days, 1, 36500, PGC_SIGHUP, 0 },

	/* How hard a dispatcher works, and how much it holds in memory. */
	{ "payment.batch_size",
	  "Most tasks that are claimed, or outcomes recorded, in one transaction.",
	  NULL, &payment_batch_size, 1, 10000, PGC_SIGHUP, 0 },
	{ "payment.max_in_flight",
	  "Most requests that one database's dispatcher has under way at once.",
	  "Each PSP has a limit of its own as well.", &payment_max_in_flight, 1,
	  4096, PGC_SIGHUP, 0 },
	{ "payment.max_body_bytes", "Largest answer that is taken from a PSP.",
	  "A longer one leaves the outcome unknown.", &payment_max_body_bytes,
	  1024, 64 * 1024 * 1024, PGC_SIGHUP, GUC_UNIT_BYTE },
	{ "payment.poll_interval",
	  "Time after which a dispatcher looks at the queue unasked.",
	  "Commits wake it at once; this is for those that could not.",
	  &payment_poll_interval_ms, 10, 60000, PGC_SIGHUP, GUC_UNIT_MS },
	{ "payment.lease",
	  "Time after which a claimed task falls due again by itself.",
	  "Longer than a PSP's timeout in any case, whatever is set here.",
	  &payment_lease_ms, 1000, 3600 * 1000, PGC_SIGHUP, GUC_UNIT_MS },

	{ "payment.authorization_grace_s",
	  "How long after its time an authorisation is taken for gone.",
	  "Nothing can be captured any more from its time on.",
	  &payment_authorization_grace_s, 0, 90 * 86400, PGC_SUSET, GUC_UNIT_S },

	/* What is taken from whoever calls himself a PSP, and kept of it. */
	{ "payment.max_webhook_size_kb", "Largest webhook that is taken.",
	  "A larger one is answered with 413.", &payment_max_webhook_size_kb, 1,
	  64 * 1024, PGC_SUSET, GUC_UNIT_KB },
	{ "payment.webhook_tolerance_s",
	  "How far the time of a signature may be from the server's.",
	  "Older ones, and those of a time to come, are refused.",
	  &payment_webhook_tolerance_s, 1, 10 * 365 * 86400, PGC_SUSET,
	  GUC_UNIT_S },
	{ "payment.webhook_lock_timeout_ms",
	  "How long a webhook waits for an order that is in use.",
	  "Then it is stored, and the worker applies it.",
	  &payment_webhook_lock_timeout_ms, 1, 600 * 1000, PGC_SUSET,
	  GUC_UNIT_MS },
	{ "payment.max_undo_refunds",
	  "Refunds of one order that may fail before people have to see to it.",
	  "Of payments that are all or nothing, whose refunds nobody asked for.",
	  &payment_max_undo_refunds, 1, 100, PGC_SUSET, 0 },
	{ "payment.undo_refund_delay_ms",
	  "How long such a refund is waited with after one that failed.",
	  "Each further failure doubles it, to a day at most.",
	  &payment_undo_refund_delay_ms, 0, 86400 * 1000, PGC_SUSET, GUC_UNIT_MS },
	{ "payment.max_webhook_rejections",
	  "Most refused webhooks that are remembered.",
	  "The oldest is written over.", &payment_max_webhook_rejections, 1,
	  1000000, PGC_SUSET, 0 },
	{ "payment.max_unverified_webhooks",
	  "Most webhooks of one PSP that wait for its word.",
	  "More are answered with 503, so that the PSP repeats them.",
	  &payment_max_unverified_webhooks, 0, 1000000, PGC_SUSET, 0 },
	{ "payment.max_dispute_evidence_bytes",
	  "The longest evidence that is submitted against a dispute.", NULL,
	  &payment_max_dispute_evidence_bytes, 1, 1024 * 1024, PGC_SUSET,
	  GUC_UNIT_BYTE },
	{ "payment.max_parked_webhooks",
	  "Most events that wait for what they are about to become known.",
	  "What cannot be parked becomes an exception at once.",
	  &payment_max_parked_webhooks, 0, 10000000, PGC_SUSET, 0 },
	{ "payment.webhook_parking_time_s",
	  "Time after which a parked event becomes an exception.",
	  "One about a payment or payout that names none of ours is ignored then.",
	  &payment_webhook_parking_time_s, 1, 365 * 86400, PGC_SUSET, GUC_UNIT_S },
	{ "payment.webhook_verify_attempts",
	  "How often a PSP is asked whether a webhook is its own.",
	  "After that it is a rejection.", &payment_webhook_verify_attempts, 1,
	  1000, PGC_SUSET, 0 },
	{ "payment.webhook_verify_delay_ms",
	  "How long at least before a PSP is asked again about a webhook.",
	  "Up to twice as long with each time, and at most an hour.",
	  &payment_webhook_verify_delay_ms, 1, 3600 * 1000, PGC_SUSET,
	  GUC_UNIT_MS },

	/* How early there is a table for what comes. */
	{ "payment.partitions_ahead",
	  "Number of time partitions that are made ahead of time.",
	  "With 0 the worker makes none; the default partition takes all rows.",
	  &payment_partitions_ahead, 0, 60, PGC_SIGHUP, 0 },
};

static const struct config_enum_entry partition_intervals[] = {
	{ "month", PARTITION_MONTH, false },
	{ "day", PARTITION_DAY, false },
	{ NULL, 0, false },
};

/* Which copy of a database sends, and what has to be sure before it does. */
static void
define_instance_settings(void)
{
	DefineCustomBoolVariable(
		"payment.require_sync_standby",
		"Whether payments are sent only with a synchronous standby.",
		"When on, nothing is claimed while fewer are attached than "
		"synchronous_standby_names asks for, or while it is empty, and "
		"nothing is sent whose claim they have not confirmed.",
		&payment_require_sync_standby, false, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable(
		"payment.failover_standbys",
		"Names of standbys that send payments once they are promoted.",
		"As in synchronous_standby_names, separated by commas. Synchronous "
		"ones that are listed there by name need not be listed here.",
		&payment_failover_standbys, "", PGC_SIGHUP, GUC_LIST_INPUT, NULL, NULL,
		NULL);
	DefineCustomStringVariable(
		"payment.machine_id", "What tells this machine from others.",
		"Empty: /etc/machine-id, the name of the host and, in Kubernetes, the "
		"namespace.",
		&payment_machine_id, "", PGC_SIGHUP, 0, NULL, NULL, NULL);
}

static void
define_settings(void)
{
	for (int i = 0; i < (int) lengthof(integer_settings); i++)
	{
		const IntegerSetting *s = &integer_settings[i];

		DefineCustomIntVariable(s->name, s->summary, s->detail, s->variable,
								*s->variable, s->minimum, s->maximum,
								s->context, s->flags, NULL, NULL, NULL);
	}

	/* Only names of secrets are in the database; the files are here. */
	DefineCustomStringVariable(
		"payment.secrets_dir",
		"Directory of the files that hold the PSPs' secret keys.",
		"A PSP's secret_name is the name of a file in it.",
		&payment_secrets_dir, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL,
		NULL);

	/* Whom outgoing requests trust: a private CA, or fewer than the system. */
	DefineCustomStringVariable(
		"payment.ca_file",
		"File of the CA certificates that PSPs are verified by.",
		"In PEM format. Empty: those of the operating system. A PSP whose "
		"certificate none of them vouches for is sent nothing.",
		&payment_ca_file, "", PGC_SIGHUP, 0, NULL, NULL, NULL);

	/* To stop all sending at once, and see it stopped, without a restart. */
	DefineCustomBoolVariable(
		"payment.worker_enabled", "Whether payments are sent to PSPs.",
		"When off, dispatchers finish what is under way and leave.",
		&payment_worker_enabled, true, PGC_SIGHUP, 0, NULL, NULL, NULL);

	/* How much is in the piece that is detached, backed up or vacuumed. */
	DefineCustomEnumVariable("payment.partition_interval",
							 "What a new time partition covers, in UTC.",
							 "What exists stays as it is.",
							 &payment_partition_interval, PARTITION_MONTH,
							 partition_intervals, PGC_SIGHUP, 0, NULL, NULL,
							 NULL);

	/* To be set by hand, in the session that is to delete it all. */
	DefineCustomBoolVariable("payment.allow_drop",
							 "Whether DROP EXTENSION may delete payments.",
							 NULL, &payment_allow_drop, false, PGC_SUSET, 0,
							 NULL, NULL, NULL);

	/* Sizes shared memory, so it exists only where there is some. */
	if (process_shared_preload_libraries_in_progress)
		DefineCustomIntVariable(
			"payment.max_databases",
			"Most databases of this server that payments are sent from.",
			"Each takes a background worker of max_worker_processes.",
			&payment_max_databases, payment_max_databases, 1, 1024,
			PGC_POSTMASTER, 0, NULL, NULL, NULL);
}

static Size
shared_size(void)
{
	return add_size(offsetof(WorkerShared, slots),
					mul_size(payment_max_databases + 1,
							 sizeof(DispatcherSlot)));
}

static void
request_shared_memory(void)
{
	if (previous_shmem_request_hook)
		previous_shmem_request_hook();
	RequestAddinShmemSpace(shared_size());
	RequestAddinShmemSpace(statistics_size());
	hint_request_memory();
}

void
reset_slot_counters(DispatcherSlot *slot)
{
	pg_atomic_init_u64(&slot->heartbeat_at, 0);
	pg_atomic_init_u32(&slot->in_flight, 0);
	pg_atomic_init_u64(&slot->sent, 0);
	pg_atomic_init_u64(&slot->recorded, 0);
	pg_atomic_init_u64(&slot->succeeded, 0);
	pg_atomic_init_u64(&slot->declined, 0);
	pg_atomic_init_u64(&slot->unknown, 0);
	pg_atomic_init_u64(&slot->retried, 0);
	pg_atomic_init_u32(&slot->milli_rate, 0);
	pg_atomic_init_u32(&slot->breakers_open, 0);
	pg_atomic_init_u64(&slot->events, 0);
}

static void
attach_shared_memory(void)
{
	bool found;

	if (previous_shmem_startup_hook)
		previous_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	worker_shared = ShmemInitStruct("payment worker", shared_size(), &found);
	if (!found)
	{
		memset(worker_shared, 0, offsetof(WorkerShared, slots));
		SpinLockInit(&worker_shared->mutex);
		pg_atomic_init_u64(&worker_shared->rejections, 0);
		worker_shared->slot_count = payment_max_databases + 1;
		for (int i = 0; i < worker_shared->slot_count; i++)
		{
			memset(&worker_shared->slots[i], 0, sizeof(DispatcherSlot));
			reset_slot_counters(&worker_shared->slots[i]);
		}
	}
	statistics_attach();
	hint_attach_memory();
	LWLockRelease(AddinShmemInitLock);
}

static void
register_launcher(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags =
		BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	/* On a standby it waits for the promotion. */
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = LAUNCHER_RESTART_S;
	strlcpy(worker.bgw_library_name, "payment", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "payment_launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "payment launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "payment launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

/*
 * Leave word with the launcher that a database without a dispatcher has work.
 */
static void
wake_launcher(void)
{
	Latch *latch;

	SpinLockAcquire(&worker_shared->mutex);
	latch = worker_shared->launcher_latch;
	if (latch)
	{
		int i = 0;

		while (i < worker_shared->hint_count &&
			   worker_shared->hints[i] != MyDatabaseId)
			i++;
		if (i == WORKER_MAX_HINTS)
			worker_shared->hints_lost = true;
		else if (i == worker_shared->hint_count)
			worker_shared->hints[worker_shared->hint_count++] = MyDatabaseId;
	}
	SpinLockRelease(&worker_shared->mutex);

	if (latch)
		SetLatch(latch);
}

static void
wake_dispatcher(void)
{
	/* The commit comes before the look at the slots. */
	pg_memory_barrier();

	for (int i = 0; i < worker_shared->slot_count; i++)
	{
		volatile DispatcherSlot *slot = &worker_shared->slots[i];

		if (slot->database_id == MyDatabaseId)
		{
			Latch *latch = slot->latch;

			if (latch)
			{
				SetLatch(latch);
				return;
			}
		}
	}
	wake_launcher();
}

/*
 * A dispatcher that does not run has nobody to announce events to; the next
 * one looks for them when it starts.
 */
static void
announce_events(void)
{
	pg_memory_barrier();
	for (int i = 0; i < worker_shared->slot_count; i++)
	{
		DispatcherSlot *slot = &worker_shared->slots[i];

		if (((volatile DispatcherSlot *) slot)->database_id == MyDatabaseId)
		{
			Latch *latch = ((volatile DispatcherSlot *) slot)->latch;

			pg_atomic_fetch_add_u64(&slot->events, 1);
			/* the dispatcher itself looks before it sleeps */
			if (latch && latch != MyLatch)
				SetLatch(latch);
			return;
		}
	}
}

/*
 * Runs at the end of every transaction of a backend that ever queued a task;
 * an error here would be a PANIC, so nothing here can raise one.
 */
static void
at_transaction_end(XactEvent event, void *arg pg_attribute_unused())
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			if (wake_at_commit)
				wake_dispatcher();
			if (announce_at_commit)
				announce_events();
			wake_at_commit = announce_at_commit = false;
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			wake_at_commit = announce_at_commit = false;
			break;
		default:
			break;
	}
}

void
payment_wake_dispatcher_at_commit(void)
{
	if (worker_shared)
		wake_at_commit = true;
}

void
payment_announce_events_at_commit(void)
{
	if (worker_shared)
		announce_at_commit = true;
}

/*
 * payment.wake_worker(): look at the queue now.
 */
Datum
payment_wake_worker(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	payment_wake_dispatcher_at_commit();
	PG_RETURN_VOID();
}

void
_PG_init(void)
{
	/* pg_upgrade starts the server to move catalogs, not money. */
	if (IsBinaryUpgrade)
		return;

	define_settings();
	define_instance_settings();
	MarkGUCPrefixReserved("payment");

	if (!process_shared_preload_libraries_in_progress)
		return;

	previous_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shared_memory;
	previous_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = attach_shared_memory;
	RegisterXactCallback(at_transaction_end, NULL);
	register_launcher();
}
