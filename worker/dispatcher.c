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

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "compat.h"
#include "dispatcher.h"
#include "housekeeping.h"
#include "http.h"
#include "instance/sync_standby.h"
#include "miscadmin.h"
#include "notifier.h"
#include "payment.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "queue.h"
#include "refusal.h"
#include "session.h"
#include "throttle.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "verifier.h"

PGDLLEXPORT void payment_dispatcher_main(Datum argument);

/* how often to see whether somebody wants the database for himself */
#define DATABASE_WATCH_MS 1000

/* DROP DATABASE waits five seconds for others to leave. */
#define YIELD_DRAIN_MS 3000

/* after an error of the database, doubling */
#define ERROR_DELAY_MIN_MS 200
#define ERROR_DELAY_MAX_MS 5000

/* how often to ask again whether anything may be sent */
#define REFUSED_DELAY_MS 1000

/* when a due task could not be claimed: somebody else has it locked */
#define LOCKED_TASK_DELAY_MS 10

/* how often to try again to store a breaker's state */
#define SAVE_DELAY_MS 1000

/* of orders that wait at a PSP that is down: how many to look at, how often */
#define MOVE_BATCH 1000
#define MOVE_DELAY_MS 200

/* how often to give free memory back */
#define TRIM_INTERVAL_MS 10000

/* what it waits for: answers, or something to do */
static uint32 answers_wait_event = 0;
static uint32 idle_wait_event = 0;

static dlist_head	 psps = DLIST_STATIC_INIT(psps);
static dlist_head	 finished = DLIST_STATIC_INIT(finished);
static int			 finished_count = 0;
static MemoryContext psp_context = NULL;
static MemoryContext delivery_context = NULL;

static bool		   leaving = false;
static TimestampTz leave_at = 0;
static SlotVerdict leave_verdict = VERDICT_NONE;
static TimestampTz polled_at = 0;	/* when all queues were looked at */
static TimestampTz work_at = 0;		/* next look around, due or not */
static TimestampTz quiet_until = 0; /* no database work before, after errors */
static TimestampTz claims_at = 0;	/* no claims before: none were allowed */
static int		   error_delay_ms = 0;
static TimestampTz save_at = 0; /* next try to store breakers' states */
static RateMeter   meter;

/*
 * Between transactions there is nothing to cancel: whoever asks for that has
 * been counted, and an error here would end the process.
 */
static void
check_signals(void)
{
	QueryCancelPending = false;
	CHECK_FOR_INTERRUPTS();
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
	session_stays = true;
	leave_verdict = verdict;
	leave_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), drain_ms);
}

static void
heed(Presence presence)
{
	switch (presence)
	{
		case EXTENSION_PRESENT:
			break;
		case EXTENSION_ABSENT:
			session_leave_if_absent();
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
	throttle_end(delivery);
	MemoryContextDelete(delivery->context);
}

static void
add_finished(Delivery *delivery)
{
	throttle_judge(delivery, GetCurrentTimestamp());
	if (verifier_owns(delivery))
	{
		verifier_add(delivery);
		return;
	}
	dlist_push_tail(&finished, &delivery->node);
	finished_count++;
}

static void
take_answers(void)
{
	HttpExchange *exchange;
	dlist_head	  over = DLIST_STATIC_INIT(over);

	while ((exchange = http_next()) != NULL)
	{
		if (exchange->purpose == EXCHANGE_NOTIFICATION)
			notifier_receive(exchange);
		else
			delivery_receive(exchange, &over);
	}
	while (!dlist_is_empty(&over))
	{
		dlist_node *node = dlist_pop_head_node(&over);

		add_finished(dlist_container(Delivery, node, node));
	}
}

static void
count_outcome(const Delivery *delivery)
{
	pg_atomic_fetch_add_u64(&session_slot->recorded, 1);
	switch (delivery->outcome.kind)
	{
		case PSP_SUCCEEDED:
		case PSP_AUTHORIZED:
		case PSP_VOIDED:
			pg_atomic_fetch_add_u64(&session_slot->succeeded, 1);
			break;
		case PSP_DECLINED:
		case PSP_FAILED:
		case PSP_EXPIRED:
			pg_atomic_fetch_add_u64(&session_slot->declined, 1);
			break;
		case PSP_RETRY:
		case PSP_NOT_FOUND:
			pg_atomic_fetch_add_u64(&session_slot->retried, 1);
			break;
		case PSP_UNKNOWN:
		case PSP_KEY_SPENT:
			pg_atomic_fetch_add_u64(&session_slot->unknown, 1);
			break;
		case PSP_PENDING:
		case PSP_REQUIRES_ACTION:
		case PSP_TOKENIZED:
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

/* What is not over falls due again, when the database says. */
static void
record(Delivery **batch, int count)
{
	TimestampTz now = GetCurrentTimestamp();

	queue_record(batch, count);
	for (int i = 0; i < count; i++)
	{
		PspOutcomeKind kind = batch[i]->outcome.kind;

		if (kind != PSP_SUCCEEDED && kind != PSP_DECLINED &&
			kind != PSP_FAILED)
			batch[i]->psp->due_at = Min(batch[i]->psp->due_at, now);
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
		volatile bool	  failed = false;

		check_signals();
		http_drive();
		PG_TRY();
		{
			presence = session_begin("record one outcome");
			if (presence == EXTENSION_PRESENT)
				record(&batch[i], 1);
			session_commit(presence);
			if (presence == EXTENSION_PRESENT)
				count_outcome(batch[i]);
		}
		PG_CATCH();
		{
			session_abort();
			failed = true;
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
		/* somebody has the extension or the database for himself: later */
		if (presence != EXTENSION_PRESENT && !failed)
			add_finished(batch[i]);
		else
			free_delivery(batch[i]);
		heed(presence);
	}
}

/* ---- claiming ---- */

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
	LaneLimits	limits;
	int			room;
	int			count;

	if (psp->due_at > now && !verifier_is_due(psp, now))
		return;
	room = throttle_room(psp, &psps, now, &limits);
	if (room == 0)
		return;
	room -= verifier_claim(psp, room, &limits, claimed, delivery_context);
	if (psp->due_at > now || room == 0)
		return;
	count = queue_claim(psp, room, &limits, payment_lease_ms, claimed,
						delivery_context);
	if (count == 0 && throttle_other_probes(psp, room, &limits))
		count = queue_claim(psp, room, &limits, payment_lease_ms, claimed,
							delivery_context);
	if (count == room)
		return; /* there may be more */
	psp->due_is_unknown = true;
	psp->due_at = TimestampTzPlusMilliseconds(now, LOCKED_TASK_DELAY_MS);
}

/*
 * When will the first task fall due that there is a place for?
 */
static void
learn_due(Psp *psp, TimestampTz now)
{
	LaneLimits	limits;
	TimestampTz due_at;

	if (!psp->due_is_unknown)
		return;
	psp->due_is_unknown = false;
	if (psp->due_at <= now)
		return; /* it is looked at again anyway */
	throttle_limits(psp, &psps, &limits);
	for (int lane = 0; lane < LANE_COUNT; lane++)
		if (limits.of_lane[lane] + limits.of_any == 0)
			psp->had_no_place = true;
	due_at = queue_next_due(psp, &limits);
	psp->due_at =
		Max(due_at, TimestampTzPlusMilliseconds(now, LOCKED_TASK_DELAY_MS));
}

static void
learn_all_due(void)
{
	dlist_iter	iter;
	TimestampTz now = GetCurrentTimestamp();

	dlist_foreach(iter, &psps)
	{
		learn_due(dlist_container(Psp, node, iter.cur), now);
	}
}

static void
claim_for_all(dlist_head *claimed)
{
	dlist_iter	iter;
	TimestampTz now = GetCurrentTimestamp();

	if (now < claims_at)
		return;
	if (!refusal_absent())
	{
		claims_at = TimestampTzPlusMilliseconds(now, REFUSED_DELAY_MS);
		return;
	}
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
	if (dlist_is_empty(claimed))
		learn_all_due();
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
count_sent(Psp *psp)
{
	pg_atomic_fetch_add_u64(&session_slot->sent, 1);
	if (psp->statistics)
		pg_atomic_fetch_add_u64(&psp->statistics->sent, 1);
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
		{
			if (!verifier_owns(delivery))
				count_sent(delivery->psp);
		}
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
		throttle_mark_recording(batch[i], recording);
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
		check_signals();
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
		*presence = session_begin("record and claim");
		if (*presence == EXTENSION_PRESENT)
		{
			if (count > 0)
				record(batch, count);
			if (may_claim)
				claim_for_all(claimed);
		}
		session_commit(*presence);
		done = true;
	}
	PG_CATCH();
	{
		session_abort();
	}
	PG_END_TRY();
	return done;
}

/*
 * Work on the database, then send what was claimed.  A claim whose commit
 * somebody tried to cancel is not sent: the wait for a synchronous standby may
 * have been cut short, and a failover would forget the claim.  Where such a
 * standby is required, its word is what counts.
 */
static void
record_and_claim(bool may_claim)
{
	Delivery   **batch = palloc(payment_batch_size * sizeof(Delivery *));
	dlist_head	 claimed = DLIST_STATIC_INIT(claimed);
	int			 count = take_finished(batch);
	Presence	 presence = EXTENSION_BUSY;
	bool		 done;
	sig_atomic_t cancels_before = session_cancel_count;

	mark_recording(batch, count, true);
	done = try_work(batch, count, may_claim, &claimed, &presence);
	mark_recording(batch, count, false);

	if (!done || session_cancel_count != cancels_before ||
		(!dlist_is_empty(&claimed) && !refusal_commit_is_safe()))
		give_up_claims(&claimed);
	after_work(presence, !done, batch, count, &claimed);
}

/* When nothing else is known of a PSP's queue, it is looked at again soon. */
static bool
is_any_due_unknown(void)
{
	dlist_iter iter;

	dlist_foreach(iter, &psps)
	{
		if (dlist_container(Psp, node, iter.cur)->due_is_unknown)
			return true;
	}
	return false;
}

/*
 * What was claimed does not wait on its way out for the question what comes
 * after it.  With news in between it is not worth asking.
 */
static void
look_ahead(void)
{
	volatile Presence presence = EXTENSION_BUSY;

	if (MyLatch->is_set || finished_count > 0 || !is_any_due_unknown())
		return;
	PG_TRY();
	{
		presence = session_begin("see what is due next");
		if (presence == EXTENSION_PRESENT)
			learn_all_due();
		session_commit(presence);
	}
	PG_CATCH();
	{
		session_abort();
		back_off();
	}
	PG_END_TRY();
	if (presence != EXTENSION_PRESENT)
		heed(presence);
}

/* ---- a PSP that is down ---- */

/*
 * One that is back after its first pause keeps what waits for it.  After that
 * the payers have waited long enough.
 */
static void
schedule_moves(TimestampTz now)
{
	dlist_iter iter;

	dlist_foreach(iter, &psps)
	{
		Psp *psp = dlist_container(Psp, node, iter.cur);

		if (psp->breaker.state == BREAKER_CLOSED)
			psp->move_at = psp->move_after = 0;
		else if (psp->move_at == 0)
			psp->move_at =
				TimestampTzPlusMilliseconds(now,
											psp->breaker_settings.pause_ms);
	}
}

static Psp *
next_to_move(TimestampTz now)
{
	dlist_iter iter;

	dlist_foreach(iter, &psps)
	{
		Psp *psp = dlist_container(Psp, node, iter.cur);

		if (psp->active && psp->move_at != 0 && psp->move_at <= now)
			return psp;
	}
	return NULL;
}

/* A bounded part of one PSP's queue in each turn. */
static void
move_waiting(TimestampTz now)
{
	Psp				 *psp = next_to_move(now);
	volatile Presence presence = EXTENSION_BUSY;
	volatile int	  moved = 0;

	if (psp == NULL)
		return;
	PG_TRY();
	{
		presence = session_begin("move orders that wait to another PSP");
		if (presence == EXTENSION_PRESENT)
			moved = queue_move_waiting(psp, MOVE_BATCH);
		session_commit(presence);
	}
	PG_CATCH();
	{
		psp->move_after = 0;
		moved = 0;
		session_abort();
	}
	PG_END_TRY();
	psp->move_at =
		TimestampTzPlusMilliseconds(now,
									psp->move_after
										? MOVE_DELAY_MS
										: Max(psp->breaker_settings.pause_ms,
											  MOVE_DELAY_MS));
	if (moved > 0)
		ereport(LOG, (errmsg("%d orders that waited at PSP \"%s\" go on to "
							 "the next PSP of their route",
							 moved, psp->name)));
	if (presence != EXTENSION_PRESENT)
		heed(presence);
}

/* ---- what others see ---- */

/*
 * Store what changed of the circuit breakers, in a transaction of its own: an
 * operator who has not committed a reset must not keep payments waiting.
 */
static void
save_breakers(void)
{
	dlist_iter iter;

	dlist_foreach(iter, &psps)
	{
		Psp				 *psp = dlist_container(Psp, node, iter.cur);
		volatile Presence presence = EXTENSION_BUSY;
		volatile int64	  version = 0;

		if (!psp->breaker.dirty)
			continue;
		PG_TRY();
		{
			presence = session_begin("store the state of a circuit breaker");
			if (presence == EXTENSION_PRESENT)
				version = queue_save_breaker(psp);
			session_commit(presence);
		}
		PG_CATCH();
		{
			version = 0;
			presence = EXTENSION_BUSY;
			session_abort();
		}
		PG_END_TRY();
		if (version != 0)
		{
			psp->breaker.version = version;
			psp->breaker.dirty = false;
		}
	}
	save_at =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), SAVE_DELAY_MS);
}

static bool
is_any_breaker_dirty(void)
{
	dlist_iter iter;

	dlist_foreach(iter, &psps)
	{
		if (dlist_container(Psp, node, iter.cur)->breaker.dirty)
			return true;
	}
	return false;
}

static void
publish_psp(Psp *psp, TimestampTz now)
{
	PspStatistics *statistics = psp->statistics;
	uint64		   sent;

	if (statistics == NULL)
		return;
	throttle_refill(psp, now);
	sent = pg_atomic_read_u64(&statistics->sent);
	pg_atomic_write_u32(&statistics->in_flight, throttle_in_flight(psp));
	pg_atomic_write_u32(&statistics->tokens, (uint32) Max(psp->tokens, 0));
	pg_atomic_write_u64(&statistics->paused_until, psp->paused_until);
	pg_atomic_write_u32(&statistics->milli_rate,
						statistics_rate(&psp->meter, sent, now) * 1000);
}

static void
publish(TimestampTz now)
{
	uint64	   sent = pg_atomic_read_u64(&session_slot->sent);
	int		   breakers_open = 0;
	dlist_iter iter;

	dlist_foreach(iter, &psps)
	{
		Psp *psp = dlist_container(Psp, node, iter.cur);

		publish_psp(psp, now);
		if (psp->breaker.state != BREAKER_CLOSED)
			breakers_open++;
	}
	pg_atomic_write_u64(&session_slot->heartbeat_at, (uint64) now);
	pg_atomic_write_u32(&session_slot->in_flight,
						(uint32) (http_in_flight() - notifier_in_flight()));
	pg_atomic_write_u32(&session_slot->breakers_open, breakers_open);
	pg_atomic_write_u32(&session_slot->milli_rate,
						statistics_rate(&meter, sent, now) * 1000);
}

/*
 * Long answers of many lookups at once leave the C library with much memory
 * that nobody uses any more.  Give it back when there is time for that.
 */
static void
give_back_memory(TimestampTz now)
{
#ifdef __GLIBC__
	static uint64	   trimmed_at_count = 0;
	static TimestampTz trimmed_at = 0;
	uint64			   count = pg_atomic_read_u64(&session_slot->recorded);

	if (http_in_flight() > 0 || finished_count > 0 ||
		count == trimmed_at_count ||
		!TimestampDifferenceExceeds(trimmed_at, now, TRIM_INTERVAL_MS))
		return;
	(void) malloc_trim(0);
	trimmed_at_count = count;
	trimmed_at = now;
#endif
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
		psp->verify_at = Min(psp->verify_at, now);
	}
}

/* ... for a synchronous standby, with all that they have locked */
static bool
commits_would_wait(void)
{
	return payment_require_sync_standby && !sync_standby_attached();
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

		if (!leaving)
			at =
				Min(at,
					Max(Max(Min(psp->due_at, verifier_due_at(psp)), claims_at),
						throttle_ready_at(psp, &psps)));
		if (psp->breaker.dirty)
			at = Min(at, save_at);
		if (psp->active && psp->move_at != 0 && !leaving &&
			!commits_would_wait())
			at = Min(at, psp->move_at);
	}
	if (!leaving && !commits_would_wait())
		at = Min(at, housekeeping_due_at());
	return Max(at, quiet_until);
}

/* the same of what applications are told */
static TimestampTz
notifications_at(void)
{
	return Max(notifier_due_at(leaving), quiet_until);
}

/* ... and of webhooks that PSPs were asked about */
static TimestampTz
verifications_at(void)
{
	return verifier_is_idle() || commits_would_wait() ? DT_NOEND : quiet_until;
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

/*
 * What is to come was put down by the clock; set back, it would have us wait
 * for as long as that was.
 */
static void
heed_clock(TimestampTz now)
{
	static TimestampTz previous = 0;

	if (now < previous)
	{
		dlist_iter iter;

		dlist_foreach(iter, &psps)
		{
			Psp *psp = dlist_container(Psp, node, iter.cur);

			psp->move_at = Min(psp->move_at, now);
		}
		work_at = polled_at = claims_at = save_at = quiet_until = 0;
		housekeeping_make_due();
		notifier_make_due();
	}
	previous = now;
}

static void
turn(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz work_at_next;

	heed_clock(now);
	publish(now);

	/* A quick PSP has answered before there was anything to wait for. */
	take_answers();
	pgstat_report_activity(STATE_IDLE, http_in_flight() > 0
										   ? "wait for answers of PSPs"
										   : "wait for something to do");
	work_at_next =
		Min(next_work_at(now), Min(notifications_at(), verifications_at()));
	if (http_wait(time_until(work_at_next, now),
				  http_in_flight() > 0 ? answers_wait_event : idle_wait_event))
		work_at = polled_at = 0;
	check_signals();
	take_answers();

	now = GetCurrentTimestamp();
	heed_clock(now);
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
		take_answers();
		look_ahead();
	}
	/* after the payments, and with nothing that could hold them up */
	if (notifications_at() <= now)
		heed(notifier_run(leaving));
	if (verifications_at() <= now)
		heed(verifier_record(free_delivery));
	give_back_memory(now);
	if (save_at <= now && quiet_until <= now && is_any_breaker_dirty())
		save_breakers();
	schedule_moves(now);
	if (!leaving && !commits_would_wait() && quiet_until <= now)
		move_waiting(now);
	if (!leaving && !commits_would_wait() && housekeeping_due_at() <= now &&
		quiet_until <= now)
		heed(housekeeping_run());
}

static void
run(void)
{
	for (;;)
	{
		MemoryContextReset(session_context);
		MemoryContextSwitchTo(session_context);
		check_signals();
		reload_settings();
		if (!payment_worker_enabled)
			start_leaving(VERDICT_YIELDED, payment_lease_ms);
		turn();
		if (leaving &&
			((http_in_flight() == 0 && finished_count == 0 &&
			  notifier_is_idle() && verifications_at() == DT_NOEND) ||
			 GetCurrentTimestamp() >= leave_at))
			session_leave(leave_verdict);
	}
}

/* ---- starting ---- */

/* What an earlier dispatcher left in flight has to be looked up. */
static void
clear_old_leases(void)
{
	int64	 expired = 0;
	Presence presence = session_begin("expire leases");

	if (presence == EXTENSION_PRESENT)
	{
		refusal_take_over();
		/* a commit may wait for a synchronous standby that is not there */
		if (refusal_absent())
			expired = queue_expire_leases();
	}
	session_commit(presence);
	if (presence != EXTENSION_PRESENT)
		session_leave(VERDICT_YIELDED);
	if (expired > 0)
		ereport(LOG, (errmsg("payment dispatcher found " INT64_FORMAT
							 " attempts of an earlier one without an outcome",
							 expired)));
}

void
payment_dispatcher_main(Datum argument)
{
	session_start(argument);
	psp_context = AllocSetContextCreate(TopMemoryContext, "payment PSPs",
										ALLOCSET_SMALL_SIZES);
	delivery_context =
		AllocSetContextCreate(TopMemoryContext, "payment deliveries",
							  ALLOCSET_SMALL_SIZES);
	answers_wait_event = worker_wait_event("PaymentDispatcherAnswers");
	idle_wait_event = worker_wait_event("PaymentDispatcherIdle");
	http_startup();
	notifier_startup();
	session_set_latch(MyLatch);
	clear_old_leases();
	run();
}
