/*
 * The circuit breaker's rules, one by one, with a clock of the test's own.
 */
#include "postgres.h"

#include <stdio.h>

#include "breaker.h"

#define MS INT64CONST(1000)

static const BreakerSettings settings = { .failures = 3,
										  .failure_percent = 50,
										  .pause_ms = 100,
										  .pause_max_ms = 350,
										  .probes = 2 };

static TimestampTz now = 0;
static int		   failed = 0;

static void
check(bool condition, const char *name)
{
	printf("%sok - %s\n", condition ? "" : "not ", name);
	failed += condition ? 0 : 1;
}

/* one request that ends at once */
static void
ask(Breaker *breaker, BreakerResult result)
{
	uint32 spell = breaker_begin(breaker);

	(void) breaker_end(breaker, &settings, spell, false, result, now);
}

static void
ask_often(Breaker *breaker, int count, BreakerResult result)
{
	for (int i = 0; i < count; i++)
		ask(breaker, result);
}

static int
room(Breaker *breaker)
{
	return breaker_room(breaker, &settings, 1000, now);
}

static void
test_opening(void)
{
	Breaker breaker = { 0 };

	ask_often(&breaker, 2, BREAKER_FAILURE);
	check(room(&breaker) == 1000, "two failures do not open it");
	ask(&breaker, BREAKER_SUCCESS);
	ask_often(&breaker, 2, BREAKER_FAILURE);
	ask(&breaker, BREAKER_NEUTRAL);
	check(breaker.state == BREAKER_CLOSED, "a success in between counts anew");
	ask(&breaker, BREAKER_FAILURE);
	check(breaker.state == BREAKER_OPEN,
		  "three in a row open it, whatever is neutral in between");
	check(breaker.dirty && breaker.since == now, "that is to be stored");
	check(room(&breaker) == 0, "nothing goes through");
	now += 99 * MS;
	check(room(&breaker) == 0, "nor before the pause is over");
	now += 1 * MS;
	check(room(&breaker) == 2, "then as many as probes");
	check(breaker.state == BREAKER_HALF_OPEN, "which is half-open");
}

static void
test_percent(void)
{
	Breaker breaker = { 0 };

	for (int i = 0; i < 9; i++)
	{
		ask(&breaker, BREAKER_SUCCESS);
		ask(&breaker, BREAKER_FAILURE);
	}
	check(breaker.state == BREAKER_CLOSED, "half of few say nothing");
	ask(&breaker, BREAKER_SUCCESS);
	ask(&breaker, BREAKER_FAILURE);
	check(breaker.state == BREAKER_OPEN, "half of twenty open it");

	memset(&breaker, 0, sizeof(breaker));
	ask_often(&breaker, 1000, BREAKER_SUCCESS);
	for (int i = 0; i < 49; i++)
	{
		ask(&breaker, BREAKER_FAILURE);
		ask(&breaker, BREAKER_SUCCESS);
	}
	check(breaker.state == BREAKER_CLOSED, "49 of the last 100 do not");
	ask(&breaker, BREAKER_FAILURE);
	ask(&breaker, BREAKER_SUCCESS);
	ask(&breaker, BREAKER_FAILURE);
	check(breaker.state == BREAKER_OPEN,
		  "half of the last 100 do, however good it was before");
}

static void
open_it(Breaker *breaker)
{
	memset(breaker, 0, sizeof(*breaker));
	ask_often(breaker, 3, BREAKER_FAILURE);
}

static void
test_probes(void)
{
	Breaker breaker;
	uint32	first;
	uint32	second;

	open_it(&breaker);
	now += 100 * MS;
	(void) room(&breaker);
	first = breaker_begin(&breaker);
	check(room(&breaker) == 1, "a probe under way takes a place");
	second = breaker_begin(&breaker);
	check(room(&breaker) == 0, "never more than these");
	(void) breaker_end(&breaker, &settings, first, false, BREAKER_NEUTRAL,
					   now);
	check(room(&breaker) == 1, "one that tells nothing is made again");
	first = breaker_begin(&breaker);
	(void) breaker_end(&breaker, &settings, first, false, BREAKER_SUCCESS,
					   now);
	check(breaker.state == BREAKER_HALF_OPEN, "one success is not enough");
	check(breaker_end(&breaker, &settings, second, false, BREAKER_SUCCESS,
					  now) &&
			  breaker.state == BREAKER_CLOSED,
		  "as many as probes close it");
	check(room(&breaker) == 1000, "and all go through");
	ask_often(&breaker, 2, BREAKER_FAILURE);
	check(breaker.state == BREAKER_CLOSED, "old failures are forgotten");
}

static void
test_pauses(void)
{
	Breaker breaker;
	int64	expected_ms[] = { 100, 200, 350, 350 };

	open_it(&breaker);
	for (int i = 0; i < (int) lengthof(expected_ms); i++)
	{
		char name[64];

		snprintf(name, sizeof(name), "pause %d takes " INT64_FORMAT " ms", i,
				 expected_ms[i]);
		now += (expected_ms[i] - 1) * MS;
		check(room(&breaker) == 0, name);
		now += 1 * MS;
		check(room(&breaker) == 2, "and no longer");
		ask(&breaker, BREAKER_FAILURE);
		check(breaker.state == BREAKER_OPEN, "a failed probe opens it again");
	}
}

static void
test_stragglers(void)
{
	Breaker breaker = { 0 };
	uint32	late[5];

	for (int i = 0; i < 5; i++)
		late[i] = breaker_begin(&breaker);
	open_it(&breaker);
	(void) breaker_end(&breaker, &settings, late[0], false, BREAKER_SUCCESS,
					   now);
	check(breaker.state == BREAKER_OPEN,
		  "what was sent before it opened does not close it");
	now += 100 * MS;
	(void) room(&breaker);
	for (int i = 1; i < 4; i++)
		(void) breaker_end(&breaker, &settings, late[i], false,
						   BREAKER_FAILURE, now);
	check(breaker.state == BREAKER_HALF_OPEN && room(&breaker) == 2,
		  "nor is it taken for a probe");
	ask_often(&breaker, 2, BREAKER_SUCCESS);
	(void) breaker_end(&breaker, &settings, late[4], false, BREAKER_FAILURE,
					   now);
	check(breaker.failures_in_row == 0, "nor counted once it is closed");
}

static void
look_up(Breaker *breaker, BreakerResult result)
{
	uint32 spell = breaker_begin(breaker);

	(void) breaker_end(breaker, &settings, spell, true, result, now);
}

static void
test_lookups(void)
{
	Breaker breaker = { 0 };

	for (int i = 0; i < 3; i++)
	{
		ask(&breaker, BREAKER_FAILURE);
		look_up(&breaker, BREAKER_SUCCESS);
	}
	check(breaker.state == BREAKER_OPEN,
		  "lookups that succeed do not hide sends that fail");
	now += 100 * MS;
	(void) room(&breaker);
	for (int i = 0; i < 10; i++)
		look_up(&breaker, BREAKER_SUCCESS);
	check(breaker.state == BREAKER_HALF_OPEN, "nor close it then");
	ask_often(&breaker, 2, BREAKER_SUCCESS);
	check(breaker.state == BREAKER_CLOSED, "sends do");

	for (int i = 0; i < 50; i++)
	{
		look_up(&breaker, BREAKER_FAILURE);
		look_up(&breaker, BREAKER_FAILURE);
		ask(&breaker, BREAKER_SUCCESS);
	}
	check(breaker.state == BREAKER_CLOSED,
		  "lookups that fail do not stop sends that succeed");
	for (int i = 0; i < 3; i++)
		look_up(&breaker, BREAKER_FAILURE);
	check(breaker.state == BREAKER_OPEN, "alone they open it");
	now += 100 * MS;
	(void) room(&breaker);
	look_up(&breaker, BREAKER_SUCCESS);
	look_up(&breaker, BREAKER_SUCCESS);
	check(breaker.state == BREAKER_CLOSED, "and close it again");
}

static void
test_restart(void)
{
	Breaker breaker = { 0 };
	Breaker other = { 0 };

	breaker_adopt(&breaker, BREAKER_OPEN, now - 50 * MS, now + 50 * MS, 100,
				  "because", 7, now);
	check(room(&breaker) == 0 && breaker.version == 7 && !breaker.dirty,
		  "an open one stays open over a restart");
	check(strcmp(breaker.reason, "because") == 0, "and knows why");
	now += 50 * MS;
	check(room(&breaker) == 2, "until it is time");
	breaker_adopt(&other, BREAKER_HALF_OPEN, now, 0, 200, NULL, 3, now);
	check(room(&other) == 2, "a half-open one probes at once");
	ask(&other, BREAKER_FAILURE);
	check(other.pause_ms == 350, "and goes on with longer pauses");
	breaker_adopt(&other, BREAKER_CLOSED, now, 0, 0, NULL, 4, now);
	check(room(&other) == 1000, "a reset closes it");
}

static void
test_clock_and_switch(void)
{
	Breaker			breaker;
	BreakerSettings off = settings;

	open_it(&breaker);
	now -= 3600 * 1000 * MS;
	(void) room(&breaker);
	now += 100 * MS;
	check(room(&breaker) == 2, "a clock that is set back prolongs nothing");

	off.failures = 0;
	open_it(&breaker);
	check(breaker_room(&breaker, &off, 5, now) == 5, "switched off it closes");
	for (int i = 0; i < 1000; i++)
		(void) breaker_end(&breaker, &off, breaker_begin(&breaker), false,
						   BREAKER_FAILURE, now);
	check(breaker.state == BREAKER_CLOSED, "and never opens");
}

int
main(void)
{
	now = INT64CONST(700000000) * 1000 * MS;
	test_opening();
	test_percent();
	test_probes();
	test_pauses();
	test_stragglers();
	test_lookups();
	test_restart();
	test_clock_and_switch();
	return failed == 0 ? 0 : 1;
}
