/*-------------------------------------------------------------------------
 *
 * breaker.c
 *	  A circuit breaker: stop asking a PSP that does not work, and find out
 *	  when it does again.
 *
 * Every request to a PSP that is down costs its order a try, and leaves what
 * was sent unknown.  So after some failures in a row, or too many among the
 * last ones, nothing is begun any more: tasks stay where they are.  After a
 * pause a few requests are let through, and by them it closes or opens again,
 * for longer.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "breaker.h"

#define US_PER_MS INT64CONST(1000)

static const char *const state_names[] = { "closed", "open", "half_open" };

const char *
breaker_state_name(BreakerState state)
{
	return state_names[state];
}

BreakerState
breaker_state_of(const char *name)
{
	for (int i = 0; i < (int) lengthof(state_names); i++)
	{
		if (strcmp(state_names[i], name) == 0)
			return (BreakerState) i;
	}
	return BREAKER_CLOSED;
}

static void
clear_counts(Breaker *breaker)
{
	breaker->failures_in_row = 0;
	breaker->lookup_failures_in_row = 0;
	breaker->window_count = 0;
	breaker->window_next = 0;
	breaker->window_failures = 0;
	breaker->probes_out = 0;
	breaker->probes_passed = 0;
}

static void
enter(Breaker *breaker, BreakerState state, TimestampTz now)
{
	breaker->state = state;
	breaker->since = now;
	breaker->spell++;
	breaker->dirty = true;
	clear_counts(breaker);
}

static void
open_for(Breaker *breaker, int pause_ms, TimestampTz now)
{
	enter(breaker, BREAKER_OPEN, now);
	breaker->pause_ms = pause_ms;
	breaker->probe_at = now + pause_ms * US_PER_MS;
	breaker->openings++;
}

static void
close_again(Breaker *breaker, TimestampTz now)
{
	enter(breaker, BREAKER_CLOSED, now);
	breaker->probe_at = 0;
	breaker->pause_ms = 0;
	breaker->openings = 0;
	breaker->lookups_count = false;
	breaker->reason[0] = '\0';
}

int
breaker_room(Breaker *breaker, const BreakerSettings *settings, int count,
			 TimestampTz now)
{
	/* switched off while it was open */
	if (settings->failures == 0 && breaker->state != BREAKER_CLOSED)
		close_again(breaker, now);
	switch (breaker->state)
	{
		case BREAKER_CLOSED:
			return count;
		case BREAKER_OPEN:
			/* never longer than the pause, though a clock be set back */
			breaker->probe_at =
				Min(breaker->probe_at, now + breaker->pause_ms * US_PER_MS);
			if (now < breaker->probe_at)
				return 0;
			enter(breaker, BREAKER_HALF_OPEN, now);
			break;
		case BREAKER_HALF_OPEN:
			break;
	}
	return Max(Min(count, settings->probes - breaker->probes_out -
							  breaker->probes_passed),
			   0);
}

uint32
breaker_begin(Breaker *breaker)
{
	if (breaker->state == BREAKER_HALF_OPEN)
		breaker->probes_out++;
	return breaker->spell;
}

static void
remember(Breaker *breaker, bool failed)
{
	uint8 *place = &breaker->window[breaker->window_next];

	if (breaker->window_count == BREAKER_WINDOW)
		breaker->window_failures -= *place;
	else
		breaker->window_count++;
	*place = failed ? 1 : 0;
	breaker->window_failures += *place;
	breaker->window_next = (breaker->window_next + 1) % BREAKER_WINDOW;
	breaker->failures_in_row = failed ? breaker->failures_in_row + 1 : 0;
}

static bool
is_too_much(const Breaker *breaker, const BreakerSettings *settings,
			bool lookup)
{
	if (settings->failures == 0)
		return false;
	if (lookup)
		return breaker->lookup_failures_in_row >= settings->failures;
	return breaker->failures_in_row >= settings->failures ||
		   (breaker->window_count >= BREAKER_WINDOW_MIN &&
			breaker->window_failures * 100 >=
				settings->failure_percent * breaker->window_count);
}

static bool
end_in_closed(Breaker *breaker, const BreakerSettings *settings, bool lookup,
			  BreakerResult result, TimestampTz now)
{
	bool failed = result == BREAKER_FAILURE;

	if (result == BREAKER_NEUTRAL)
		return false;
	if (!lookup)
		remember(breaker, failed);
	if (!failed)
		breaker->lookup_failures_in_row = 0;
	else if (lookup)
		breaker->lookup_failures_in_row++;
	if (!failed || !is_too_much(breaker, settings, lookup))
		return false;
	open_for(breaker, settings->pause_ms, now);
	breaker->lookups_count = lookup;
	return true;
}

static bool
end_of_probe(Breaker *breaker, const BreakerSettings *settings, bool lookup,
			 BreakerResult result, TimestampTz now)
{
	breaker->probes_out--;
	if (result == BREAKER_FAILURE)
	{
		int64 longer = Max((int64) breaker->pause_ms, 1) * 2;

		longer = Max(longer, settings->pause_ms);
		open_for(breaker,
				 (int) Min(longer,
						   Max(settings->pause_max_ms, settings->pause_ms)),
				 now);
		return true;
	}
	if (result == BREAKER_SUCCESS && (!lookup || breaker->lookups_count) &&
		++breaker->probes_passed >= settings->probes)
	{
		close_again(breaker, now);
		return true;
	}
	return false;
}

bool
breaker_end(Breaker *breaker, const BreakerSettings *settings, uint32 spell,
			bool lookup, BreakerResult result, TimestampTz now)
{
	if (spell != breaker->spell)
		return false;
	switch (breaker->state)
	{
		case BREAKER_CLOSED:
			return end_in_closed(breaker, settings, lookup, result, now);
		case BREAKER_HALF_OPEN:
			return end_of_probe(breaker, settings, lookup, result, now);
		case BREAKER_OPEN:
			break; /* nothing is begun in such a spell */
	}
	return false;
}

/*
 * Half-open is a state of requests under way.  None is when another process
 * left it, so that one is open, and may probe at once.
 */
void
breaker_adopt(Breaker *breaker, BreakerState state, TimestampTz since,
			  TimestampTz probe_at, int pause_ms, const char *reason,
			  int64 version, TimestampTz now)
{
	if (state == BREAKER_CLOSED)
		close_again(breaker, since);
	else
	{
		enter(breaker, BREAKER_OPEN, since);
		breaker->pause_ms = pause_ms;
		breaker->probe_at = state == BREAKER_OPEN ? probe_at : now;
		breaker->openings = 1;
		breaker->lookups_count = false;
	}
	strlcpy(breaker->reason, reason ? reason : "", sizeof(breaker->reason));
	breaker->version = version;
	breaker->dirty = false;
}
