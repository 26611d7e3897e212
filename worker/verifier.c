/*-------------------------------------------------------------------------
 *
 * verifier.c
 *	  What a dispatcher does to find out whose webhooks are.
 *
 * Some PSPs sign webhooks in a way that only they can check.  Asking is a
 * request like a lookup: it waits for the same tokens, places and circuit
 * breaker.  Anybody may send webhooks, so that tasks come first: of what a PSP
 * may be sent while tasks are due, verifications get a small part, and of its
 * places a quarter.
 *
 * What the PSP said is recorded in a transaction of its own for each webhook:
 * applying an event takes locks, which must not hold up the outcomes of
 * payments, nor be taken in another order than theirs.  Until then a lease
 * keeps the webhook; when that is lost, the PSP is asked again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "http.h"
#include "miscadmin.h"
#include "queue.h"
#include "throttle.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "verifier.h"

/* for so many tasks that go first, one webhook */
#define TASKS_PER_WEBHOOK 8

/* one in so many places of a PSP, at most */
#define PLACES_PER_WEBHOOK 4

/* recorded in one turn of the loop, as payments wait meanwhile */
#define RECORD_MAX 20

/* how soon to look again when there was no room */
#define NO_ROOM_DELAY_MS 10

/* lookups of payments, whose lane they share */
#define VERIFY_LANE 2

static dlist_head finished = DLIST_STATIC_INIT(finished);

bool
verifier_owns(const Delivery *delivery)
{
	return delivery->task.operation == PSP_OPERATION_VERIFY;
}

TimestampTz
verifier_due_at(const Psp *psp)
{
	return psp->adapter && psp->adapter->performs[PSP_OPERATION_VERIFY]
			   ? Max(psp->verify_at, psp->verify_paused_until)
			   : DT_NOEND;
}

bool
verifier_is_due(const Psp *psp, TimestampTz now)
{
	return verifier_due_at(psp) <= now;
}

/* What it may take of the room; tasks keep the last place of their lane. */
static int
share_of(Psp *psp, int room, const LaneLimits *limits, bool tasks_are_due)
{
	int places = limits->of_any + Max(limits->of_lane[VERIFY_LANE] - 1, 0);
	int most = Max(psp->max_in_flight / PLACES_PER_WEBHOOK, 1);

	if (places == 0 && psp->verifying == 0)
		places = limits->of_lane[VERIFY_LANE];
	places = Min(places, most - psp->verifying);
	if (tasks_are_due)
	{
		psp->passed_over += room;
		room = Min(room, psp->passed_over / TASKS_PER_WEBHOOK);
	}
	return Max(Min(room, places), 0);
}

static void
shorten(LaneLimits *limits, int count)
{
	int of_any = Min(limits->of_any, count);

	limits->of_any -= of_any;
	limits->of_lane[VERIFY_LANE] -= count - of_any;
}

int
verifier_claim(Psp *psp, int room, LaneLimits *limits, dlist_head *claimed,
			   MemoryContext context)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		tasks_are_due = psp->due_at <= now;
	int			share;
	int			count;

	if (!verifier_is_due(psp, now))
		return 0;
	share = share_of(psp, room, limits, tasks_are_due);
	if (share == 0)
	{
		/* one that ends makes it due again */
		psp->verify_at =
			psp->verifying > 0
				? DT_NOEND
				: TimestampTzPlusMilliseconds(now, NO_ROOM_DELAY_MS);
		return 0;
	}
	count = queue_claim_webhooks(psp, share, claimed, context);
	psp->passed_over = 0;
	/* others are seen when a commit or the poll interval wakes us */
	if (count < share)
		psp->verify_at = DT_NOEND;
	shorten(limits, count);
	return count;
}

void
verifier_add(Delivery *delivery)
{
	dlist_push_tail(&finished, &delivery->node);
}

bool
verifier_is_idle(void)
{
	return dlist_is_empty(&finished);
}

/* Left to its lease when that fails. */
static bool
record_one(const Delivery *delivery, Presence *presence)
{
	volatile bool done = false;

	PG_TRY();
	{
		*presence = session_begin("record whether a webhook is genuine");
		if (*presence == EXTENSION_PRESENT)
			queue_record_webhook(delivery);
		session_commit(*presence);
		done = *presence == EXTENSION_PRESENT;
	}
	PG_CATCH();
	{
		session_abort();
		done = true;
	}
	PG_END_TRY();
	return done;
}

Presence
verifier_record(void (*free_delivery)(Delivery *))
{
	Presence presence = EXTENSION_PRESENT;

	for (int i = 0; i < RECORD_MAX && !dlist_is_empty(&finished); i++)
	{
		Delivery *delivery =
			dlist_container(Delivery, node, dlist_head_node(&finished));

		http_drive();
		QueryCancelPending = false;
		CHECK_FOR_INTERRUPTS();
		if (!record_one(delivery, &presence))
			break;
		dlist_delete(&delivery->node);
		/* there may be more that waited for its place */
		delivery->psp->verify_at = DT_NOBEGIN;
		free_delivery(delivery);
	}
	return presence;
}
