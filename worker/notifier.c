/*-------------------------------------------------------------------------
 *
 * notifier.c
 *	  What a dispatcher does to tell applications of events.
 *
 * A run records what became of events that were posted, puts new ones into the
 * endpoints' queues, claims what there is room for, and posts it when that has
 * committed.  It is a transaction of its own, after that of the payments, and
 * its commit waits for no disk and no standby: what is lost of it is posted
 * again, which applications have to expect anyway.
 *
 * An endpoint that hangs holds its own places only (max_in_flight).  Of all
 * places half are for endpoints that have nothing under way, as with PSPs.
 * One that fails and fails is left alone for a while (breaker.c), so that its
 * events do not use up their tries.
 *
 * Who listens to payment_event is told from here, too, not by the transactions
 * that write events: NOTIFY makes commits follow one another, and cannot be
 * part of a prepared transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/async.h"
#include "event_queue.h"
#include "miscadmin.h"
#include "notification.h"
#include "notifier.h"
#include "payment.h"
#include "refusal.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define CHANNEL "payment_event"

/* results recorded, or events claimed, in one transaction */
#define BATCH_MAX 200

/* after an error, or when a consumer was locked */
#define RETRY_DELAY_MS 1000

/* how often to run at most: most of the time is left for payments */
#define RUN_INTERVAL_MS 10

/* when a due event could not be claimed: somebody else has it locked */
#define LOCKED_EVENT_DELAY_MS 100

/* how often to ask again whether anything may be sent */
#define REFUSED_DELAY_MS 1000

/* a commit may take so long, of the lease's margin, before it is posted */
#define CLAIM_AGE_MAX_MS 5000

static const BreakerSettings breaker_settings = {
	.failures = 5,
	.failure_percent = 100,
	.pause_ms = 1000,
	.pause_max_ms = 60 * 1000,
	.probes = 1,
};

static dlist_head	 endpoints = DLIST_STATIC_INIT(endpoints);
static dlist_head	 finished = DLIST_STATIC_INIT(finished);
static int			 finished_count = 0;
static int			 in_flight = 0; /* of HTTP requests */
static MemoryContext endpoint_context = NULL;
static MemoryContext notification_context = NULL;

static uint64	   events_seen = 0;
static TimestampTz poll_at = 0;	  /* look at everything */
static TimestampTz claims_at = 0; /* not before: nothing may be sent */
static TimestampTz quiet_until = 0;

void
notifier_startup(void)
{
	endpoint_context =
		AllocSetContextCreate(TopMemoryContext, "payment endpoints",
							  ALLOCSET_SMALL_SIZES);
	notification_context =
		AllocSetContextCreate(TopMemoryContext, "payment notifications",
							  ALLOCSET_SMALL_SIZES);
}

int
notifier_in_flight(void)
{
	return in_flight;
}

bool
notifier_is_idle(void)
{
	return finished_count == 0;
}

void
notifier_make_due(void)
{
	poll_at = claims_at = quiet_until = 0;
}

/* ---- results ---- */

/*
 * Any answer shows that there is somebody, but one that fails all events is as
 * good as none.
 */
static void
judge(Notification *notification)
{
	Breaker *breaker = &notification->endpoint->breaker;

	(void) breaker_end(breaker, &breaker_settings, notification->spell, false,
					   notification->error ? BREAKER_FAILURE : BREAKER_SUCCESS,
					   GetCurrentTimestamp());
	breaker->dirty = false;
	notification->judged = true;
}

static void
add_finished(Notification *notification)
{
	judge(notification);
	dlist_push_tail(&finished, &notification->node);
	finished_count++;
}

void
notifier_receive(HttpExchange *exchange)
{
	Notification *notification = exchange->owner;

	in_flight--;
	notification_receive(notification, exchange);
	add_finished(notification);
}

/* Given up, it says nothing of the endpoint. */
static void
free_notification(Notification *notification)
{
	Endpoint *endpoint = notification->endpoint;

	if (!notification->judged)
		(void) breaker_end(&endpoint->breaker, &breaker_settings,
						   notification->spell, false, BREAKER_NEUTRAL,
						   GetCurrentTimestamp());
	endpoint->in_flight--;
	MemoryContextDelete(notification->context);
}

/* Take those of the endpoint off the list. */
static int
take_finished(const Endpoint *endpoint, Notification **batch, int max)
{
	dlist_mutable_iter iter;
	int				   count = 0;

	dlist_foreach_modify(iter, &finished)
	{
		Notification *notification =
			dlist_container(Notification, node, iter.cur);

		if (notification->endpoint != endpoint || count == max)
			continue;
		dlist_delete(iter.cur);
		batch[count++] = notification;
	}
	finished_count -= count;
	return count;
}

static void
put_back(Notification **batch, int count)
{
	for (int i = 0; i < count; i++)
	{
		dlist_push_tail(&finished, &batch[i]->node);
		batch[i] = NULL;
	}
	finished_count += count;
}

/*
 * Record what is finished, of which batch keeps hold; but not of an endpoint
 * whose consumer is locked.
 */
static void
record(Notification **batch)
{
	int		   recorded = 0;
	dlist_iter iter;

	dlist_foreach(iter, &endpoints)
	{
		Endpoint	  *endpoint = dlist_container(Endpoint, node, iter.cur);
		Notification **these = batch + recorded;
		int count = take_finished(endpoint, these, BATCH_MAX - recorded);

		if (count == 0)
			continue;
		if (!event_queue_record(endpoint, these, count))
		{
			put_back(these, count);
			quiet_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													  RETRY_DELAY_MS);
			continue;
		}
		/* what has failed, and what waited for it, falls due again */
		endpoint->due_at = 0;
		endpoint->may_queue = endpoint->may_queue || endpoint->queue_full;
		recorded += count;
	}
}

/* ---- claiming ---- */

static int
claimed_in_all(void)
{
	dlist_iter iter;
	int		   count = 0;

	dlist_foreach(iter, &endpoints) count +=
		dlist_container(Endpoint, node, iter.cur)->in_flight;
	return count;
}

/* places that it may take: of one that has some already, not the last half */
static int
places_of(const Endpoint *endpoint)
{
	int limit = payment_max_event_deliveries;
	int claimed = claimed_in_all();

	if (!endpoint->active)
		return 0;
	if (endpoint->in_flight > 0)
		limit = Max(limit / 2, 1);
	return Max(Min(endpoint->max_in_flight - endpoint->in_flight,
				   limit - claimed),
			   0);
}

static void
claim_for(Endpoint *endpoint, dlist_head *claimed, TimestampTz now)
{
	int room = places_of(endpoint);

	if (room == 0 || endpoint->due_at > now)
		return;
	room = breaker_room(&endpoint->breaker, &breaker_settings, room, now);
	if (room == 0)
		return;
	if (event_queue_claim(endpoint, room, claimed, notification_context) <
		room)
		endpoint->due_at =
			Max(event_queue_next_due(endpoint),
				TimestampTzPlusMilliseconds(now, LOCKED_EVENT_DELAY_MS));
}

static void
fill_queue(Endpoint *endpoint)
{
	if (!endpoint->may_queue)
		return;
	endpoint->may_queue =
		event_queue_fill(endpoint, BATCH_MAX, &endpoint->queue_full) > 0;
	endpoint->due_at = 0;
}

static void
claim_for_all(dlist_head *claimed, TimestampTz now)
{
	dlist_iter iter;

	if (dlist_is_empty(&endpoints) || now < claims_at)
		return;
	if (!refusal_absent())
	{
		claims_at = TimestampTzPlusMilliseconds(now, REFUSED_DELAY_MS);
		return;
	}
	dlist_foreach(iter, &endpoints)
	{
		Endpoint *endpoint = dlist_container(Endpoint, node, iter.cur);

		if (!endpoint->active)
			continue;
		fill_queue(endpoint);
		claim_for(endpoint, claimed, now);
	}

	/* Next time another one comes first to what room there is. */
	dlist_push_tail(&endpoints, dlist_pop_head_node(&endpoints));
}

static void
send_claims(dlist_head *claimed, TimestampTz claimed_at)
{
	while (!dlist_is_empty(claimed))
	{
		Notification *notification =
			dlist_container(Notification, node, dlist_pop_head_node(claimed));

		/* A commit that took too long: the lease may end under way. */
		if (TimestampDifferenceExceeds(claimed_at, GetCurrentTimestamp(),
									   CLAIM_AGE_MAX_MS))
			free_notification(notification);
		else if (notification_send(notification))
			in_flight++;
		else
			add_finished(notification);
	}
	http_drive();
}

static void
give_up_claims(dlist_head *claimed)
{
	while (!dlist_is_empty(claimed))
		free_notification(
			dlist_container(Notification, node, dlist_pop_head_node(claimed)));
}

/* ---- a run ---- */

static void
make_all_due(void)
{
	dlist_iter iter;

	dlist_foreach(iter, &endpoints)
	{
		Endpoint *endpoint = dlist_container(Endpoint, node, iter.cur);

		endpoint->may_queue = true;
		endpoint->due_at = 0;
	}
}

/*
 * Nothing is lost that cannot be done again: no wait for a disk.  The source is
 * the session: what an override sets would stay after the transaction, and the
 * claims of payments after it would not be on disk when they are sent.
 */
static void
commit_soon(void)
{
	(void) set_config_option("synchronous_commit", "off", PGC_SUSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

static void
work(Notification **batch, bool leaving, bool announce, dlist_head *claimed)
{
	commit_soon();
	if (announce)
		Async_Notify(CHANNEL, NULL);
	record(batch);
	if (leaving)
		return;
	event_queue_load(&endpoints, endpoint_context);
	claim_for_all(claimed, GetCurrentTimestamp());
}

/*
 * The results of a failed transaction are given up: their leases run out, and
 * they are posted again.
 */
static bool
try_work(bool leaving, bool announce, dlist_head *claimed, Presence *presence)
{
	Notification **batch = palloc0(BATCH_MAX * sizeof(Notification *));
	volatile bool  done = false;

	PG_TRY();
	{
		*presence = session_begin("tell applications of events");
		if (*presence == EXTENSION_PRESENT)
			work(batch, leaving, announce, claimed);
		session_commit(*presence);
		done = true;
	}
	PG_CATCH();
	{
		session_abort();
	}
	PG_END_TRY();
	for (int i = 0; i < BATCH_MAX; i++)
		if (batch[i])
			free_notification(batch[i]);
	return done && *presence == EXTENSION_PRESENT;
}

Presence
notifier_run(bool leaving)
{
	dlist_head	claimed = DLIST_STATIC_INIT(claimed);
	TimestampTz now = GetCurrentTimestamp();
	uint64		events = pg_atomic_read_u64(&session_slot->events);
	bool		announce = !leaving && events != events_seen;
	Presence	presence = EXTENSION_BUSY;

	if (announce || poll_at <= now)
		make_all_due();
	if (poll_at <= now)
		poll_at = TimestampTzPlusMilliseconds(now, payment_poll_interval_ms);
	quiet_until = TimestampTzPlusMilliseconds(now, RUN_INTERVAL_MS);
	if (try_work(leaving, announce, &claimed, &presence))
	{
		if (announce)
			events_seen = events;
		send_claims(&claimed, now);
	}
	else
	{
		give_up_claims(&claimed);
		quiet_until = TimestampTzPlusMilliseconds(now, RETRY_DELAY_MS);
	}
	return presence;
}

static TimestampTz
endpoint_due_at(const Endpoint *endpoint)
{
	TimestampTz at = endpoint->may_queue ? 0 : endpoint->due_at;

	/* Without a place only an answer brings one. */
	if (places_of(endpoint) == 0)
		return DT_NOEND;
	if (endpoint->breaker.state == BREAKER_OPEN)
		return Max(at, endpoint->breaker.probe_at);
	if (endpoint->breaker.state == BREAKER_HALF_OPEN &&
		endpoint->breaker.probes_out > 0)
		return DT_NOEND;
	return at;
}

TimestampTz
notifier_due_at(bool leaving)
{
	TimestampTz at = DT_NOEND;
	dlist_iter	iter;

	if (finished_count > 0)
		at = 0;
	if (!leaving)
	{
		at = Min(at, poll_at);
		if (pg_atomic_read_u64(&session_slot->events) != events_seen)
			at = 0;
		dlist_foreach(iter, &endpoints) at =
			Min(at,
				Max(endpoint_due_at(dlist_container(Endpoint, node, iter.cur)),
					claims_at));
	}
	return Max(at, quiet_until);
}
