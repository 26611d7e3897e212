/*-------------------------------------------------------------------------
 *
 * throttle.c
 *	  How much may be claimed for a PSP now, and when there may be more.
 *
 * What is not sent now stays in the queue, where it costs nothing.  So all
 * limits are limits of claiming: places (requests under way), tokens (requests
 * per second), the PSP's own wish to be left alone, the circuit breaker.
 *
 * A place is taken until an outcome is recorded, so one that hangs is taken
 * for long.  Whatever hangs must not take them all: part of the places of a
 * database is kept for each of its PSPs, and part of a PSP's for each lane.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "payment.h"
#include "report.h"
#include "throttle.h"
#include "utils/timestamp.h"

/* one in so many of a PSP's places is kept for each lane */
#define LANE_PLACES_KEPT 16

/* tokens for so much of a second at most, so that no second has too many */
#define BURST_PARTS_OF_SECOND 10

#define DETAIL_SIZE 200

static bool
is_verification(const Delivery *delivery)
{
	return delivery->task.operation == PSP_OPERATION_VERIFY;
}

/* ---- places ---- */

static int
lane_of(const Delivery *delivery)
{
	bool payout = delivery->task.operation == PSP_OPERATION_PAYOUT;
	bool repeated =
		delivery->task.step == PSP_STEP_LOOKUP || delivery->tries > 1;

	return (payout ? 1 : 0) + (repeated ? 2 : 0);
}

void
throttle_begin(Delivery *delivery)
{
	delivery->lane = lane_of(delivery);
	delivery->psp->in_flight[delivery->lane]++;
	if (is_verification(delivery))
		delivery->psp->verifying++;
	delivery->spell = breaker_begin(&delivery->psp->breaker);
}

void
throttle_end(Delivery *delivery)
{
	Psp *psp = delivery->psp;

	psp->in_flight[delivery->lane]--;
	if (is_verification(delivery))
		psp->verifying--;

	/* one that was never sent is no sign of anything */
	if (!delivery->judged)
		(void) breaker_end(&psp->breaker, &psp->breaker_settings,
						   delivery->spell, false, BREAKER_NEUTRAL, 0);
	/* there may be work that waited for this place */
	if (psp->had_no_place)
		psp->due_at = psp->verify_at = DT_NOBEGIN;
	psp->had_no_place = false;
}

void
throttle_mark_recording(Delivery *delivery, bool recording)
{
	delivery->psp->recording[delivery->lane] += recording ? 1 : -1;
}

int
throttle_in_flight(const Psp *psp)
{
	int count = 0;

	for (int lane = 0; lane < LANE_COUNT; lane++)
		count += psp->in_flight[lane];
	return count;
}

/* What is being recorded gives up its place with the same commit. */
static int
taken(const Psp *psp)
{
	int count = 0;

	for (int lane = 0; lane < LANE_COUNT; lane++)
		count += psp->in_flight[lane] - psp->recording[lane];
	return count;
}

/*
 * The database's places that this PSP may take.  Half of all are kept for
 * those who have none, the same number for each, and no more than it can use.
 */
static int
places_in_database(const Psp *psp, dlist_head *psps)
{
	dlist_iter iter;
	int		   places = payment_max_in_flight;
	int		   psp_count = 0;
	int		   kept;

	dlist_foreach(iter, psps)
	{
		if (dlist_container(Psp, node, iter.cur)->active)
			psp_count++;
	}
	kept = payment_max_in_flight / (2 * Max(psp_count, 1));
	dlist_foreach(iter, psps)
	{
		const Psp *other = dlist_container(Psp, node, iter.cur);
		int		   used = taken(other);

		if (other != psp && other->active)
			used = Max(used, Min(kept, other->max_in_flight));
		places -= used;
	}
	return places;
}

/* Places of its own, and those that only one lane may take. */
static int
places_of_psp(const Psp *psp, int *kept)
{
	int places = psp->max_in_flight - taken(psp);

	for (int lane = 0; lane < LANE_COUNT; lane++)
	{
		int used = psp->in_flight[lane] - psp->recording[lane];

		kept[lane] = Max(psp->max_in_flight / LANE_PLACES_KEPT - used, 0);
	}
	return places;
}

static int
free_places(const Psp *psp, dlist_head *psps, LaneLimits *limits)
{
	int kept[LANE_COUNT];
	int places;

	memset(limits, 0, sizeof(*limits));
	if (!psp->active || psp->adapter == NULL)
		return 0;
	places = places_of_psp(psp, kept);
	limits->of_any = places;
	for (int lane = 0; lane < LANE_COUNT; lane++)
	{
		limits->of_lane[lane] = kept[lane];
		limits->of_any -= kept[lane];
	}
	limits->of_any = Max(limits->of_any, 0);
	return Min(places, places_in_database(psp, psps));
}

/* ---- tokens and pauses ---- */

void
throttle_refill(Psp *psp, TimestampTz now)
{
	double burst =
		Max((double) psp->requests_per_second / BURST_PARTS_OF_SECOND, 1.0);
	double elapsed_s = (double) (now - psp->refilled_at) / USECS_PER_SEC;

	if (psp->refilled_at == 0 || elapsed_s < 0)
		elapsed_s = 0;
	psp->refilled_at = now;
	psp->tokens =
		Min(burst, psp->tokens + elapsed_s * psp->requests_per_second);
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

/*
 * A PSP that is overloaded says so to one request and means all of them.  But
 * anybody can have it asked about webhooks: what it says to that holds up
 * nothing else.
 */
static void
heed_retry_after(Delivery *delivery, TimestampTz now)
{
	Psp			*psp = delivery->psp;
	int64		 pause_ms = delivery->outcome.retry_after_ms;
	TimestampTz *until;

	if ((delivery->http_status != 429 && delivery->http_status != 503) ||
		pause_ms <= 0)
		return;
	pause_ms = Min(pause_ms, psp->retry_after_max_ms);
	until = is_verification(delivery) ? &psp->verify_paused_until
									  : &psp->paused_until;
	*until = Max(*until, TimestampTzPlusMilliseconds(now, pause_ms));
}

void
throttle_forget_pause(Psp *psp)
{
	psp->paused_until = psp->verify_paused_until = 0;
	psp->due_at = DT_NOBEGIN;
}

/* ---- the circuit breaker ---- */

/* It is no sign of the PSP's health what strangers have it asked. */
static BreakerResult
breaker_result(const Delivery *delivery)
{
	const PspOutcome *outcome = &delivery->outcome;

	if (is_verification(delivery))
		return BREAKER_NEUTRAL;
	/* its own old failure, told again, is a proper answer */
	if (outcome->kind == PSP_KEY_SPENT)
		return BREAKER_SUCCESS;
	switch (outcome->error_class)
	{
		case PSP_ERROR_NONE:
		case PSP_ERROR_REQUEST:
			return BREAKER_SUCCESS;
		case PSP_ERROR_BUSY:
			break;
		case PSP_ERROR_CONNECTION:
		case PSP_ERROR_LOST:
		case PSP_ERROR_ANSWER:
		case PSP_ERROR_SERVER:
		case PSP_ERROR_ACCESS:
			return BREAKER_FAILURE;
	}
	return BREAKER_NEUTRAL;
}

static void
log_breaker(const Psp *psp)
{
	const Breaker *breaker = &psp->breaker;

	if (breaker->state == BREAKER_OPEN)
		ereport(LOG,
				(errcode(ERRCODE_PAYMENT_WORKER),
				 errmsg("circuit breaker of PSP \"%s\" opened for %d ms",
						psp->name, breaker->pause_ms),
				 errdetail("%s.", breaker->reason),
				 errhint("Its tasks wait in the queue. "
						 "payment.reset_breaker() has them sent at once.")));
	else
		ereport(LOG,
				(errcode(ERRCODE_PAYMENT_WORKER),
				 errmsg("circuit breaker of PSP \"%s\" closed", psp->name)));
}

static void
count_result(Psp *psp, const Delivery *delivery, BreakerResult result,
			 TimestampTz now)
{
	PspStatistics *statistics = psp->statistics;
	char		   error[DETAIL_SIZE];

	if (statistics == NULL)
		return;
	if (delivery->latency_ms >= 0 && !is_verification(delivery))
		statistics_add_latency(statistics, delivery->outcome.kind,
							   delivery->latency_ms);
	if (result == BREAKER_SUCCESS)
	{
		pg_atomic_write_u64(&statistics->last_success_at, (uint64) now);
		pg_atomic_write_u32(&statistics->failures_in_row, 0);
	}
	if (result != BREAKER_FAILURE)
		return;
	pg_atomic_write_u64(&statistics->last_failure_at, (uint64) now);
	pg_atomic_fetch_add_u32(&statistics->failures_in_row, 1);
	snprintf(error, sizeof(error), "%s, HTTP status %d, attempt %d of %s",
			 delivery->outcome.error_code ? delivery->outcome.error_code
										  : "error",
			 delivery->http_status, delivery->task.attempt_no,
			 delivery->task.object_id);
	statistics_set_error(statistics, error, now);
}

/* The message of the PSP is left out: who knows what it quotes. */
static void
explain_opening(Breaker *breaker, const Breaker *before,
				const Delivery *delivery)
{
	bool		lookup = delivery->task.step == PSP_STEP_LOOKUP;
	bool		full = before->window_count == BREAKER_WINDOW;
	const char *code = delivery->outcome.error_code;
	int			sends = before->window_count;
	int			failures = before->window_failures;

	if (!lookup)
	{
		failures += 1 - (full ? before->window[before->window_next] : 0);
		sends += full ? 0 : 1;
	}

	snprintf(breaker->reason, sizeof(breaker->reason),
			 "%d %s in a row failed, %d of the last %d sends; the last was "
			 "attempt %d of %s (%s, HTTP status %d)",
			 1 + (lookup ? before->lookup_failures_in_row
						 : before->failures_in_row),
			 lookup ? "lookups" : "requests", failures, sends,
			 delivery->task.attempt_no, delivery->task.object_id,
			 code ? code : "error", delivery->http_status);
}

void
throttle_judge(Delivery *delivery, TimestampTz now)
{
	Psp			 *psp = delivery->psp;
	Breaker		 *breaker = &psp->breaker;
	BreakerResult result = breaker_result(delivery);
	Breaker		  before;
	bool		  was_closed;

	if (delivery->judged)
		return;
	delivery->judged = true;
	heed_retry_after(delivery, now);
	count_result(psp, delivery, result, now);
	if (result == BREAKER_FAILURE)
		report_failure(delivery, now);

	was_closed = breaker->state == BREAKER_CLOSED;
	before = *breaker;
	if (!breaker_end(breaker, &psp->breaker_settings, delivery->spell,
					 delivery->task.step == PSP_STEP_LOOKUP, result, now))
		return;
	if (breaker->state == BREAKER_OPEN && was_closed)
		explain_opening(breaker, &before, delivery);
	log_breaker(psp);
}

/*
 * What probes a PSP that may still be down: in turns what was tried before, as
 * it has less to lose than a new payment, and the others, as a PSP that answers
 * lookups may execute nothing.
 */
static void
limit_probes(bool repeated, int probes, LaneLimits *limits)
{
	memset(limits, 0, sizeof(*limits));
	for (int lane = 0; lane < LANE_COUNT; lane++)
		limits->of_lane[lane] = (lane >= 2) == repeated ? probes : 0;
}

/* ---- all of it ---- */

int
throttle_room(Psp *psp, dlist_head *psps, TimestampTz now, LaneLimits *limits)
{
	int room;

	throttle_refill(psp, now);
	/* never longer than it may be, though a clock be set back */
	psp->paused_until =
		Min(psp->paused_until,
			TimestampTzPlusMilliseconds(now, psp->retry_after_max_ms));
	room = Min(payment_batch_size, (int) psp->tokens);
	room = Min(room, free_places(psp, psps, limits));
	if (room <= 0 || now < psp->paused_until)
		return 0;
	room = breaker_room(&psp->breaker, &psp->breaker_settings, room, now);
	if (room > 0 && psp->breaker.state == BREAKER_HALF_OPEN)
		limit_probes(psp->probes_repeated = !psp->probes_repeated, room,
					 limits);
	return room;
}

bool
throttle_other_probes(const Psp *psp, int probes, LaneLimits *limits)
{
	if (psp->breaker.state != BREAKER_HALF_OPEN)
		return false;
	limit_probes(!psp->probes_repeated, probes, limits);
	return true;
}

void
throttle_limits(const Psp *psp, dlist_head *psps, LaneLimits *limits)
{
	(void) free_places(psp, psps, limits);
}

TimestampTz
throttle_ready_at(const Psp *psp, dlist_head *psps)
{
	const Breaker *breaker = &psp->breaker;
	TimestampTz	   at = Max(token_at(psp), psp->paused_until);
	LaneLimits	   limits;

	if (free_places(psp, psps, &limits) <= 0)
		return DT_NOEND;
	if (breaker->state == BREAKER_OPEN)
		return Max(at, breaker->probe_at);
	if (breaker->state == BREAKER_HALF_OPEN &&
		breaker->probes_out + breaker->probes_passed >=
			psp->breaker_settings.probes)
		return DT_NOEND;
	return at;
}
