/*
 * fault.c
 *		The fault settings and their draws from the seeded generator.
 */
#include "fault.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "random.h"

#define DURATION_MS_MAX 600000
#define RETRY_AFTER_S_MAX 3600
#define NEXT_MAX 1000000000
#define BATCH_MAX 100

typedef struct FaultState
{
	double	percent;
	int64_t next;
} FaultState;

typedef struct FaultSettings
{
	FaultState faults[FAULT_COUNT];
	int64_t	   latency_ms_min;
	int64_t	   latency_ms_max;
	int64_t	   page_latency_ms_min;
	int64_t	   page_latency_ms_max;
	int64_t	   hang_ms;
	int64_t	   retry_after_s;
	int64_t	   webhook_delay_ms_min;
	int64_t	   webhook_delay_ms_max;
	int64_t	   webhook_reorder_ms;
	int64_t	   webhook_batch;
} FaultSettings;

#define QUIET                                                             \
	{                                                                     \
		.hang_ms = 30000, .retry_after_s = 1, .webhook_reorder_ms = 1000, \
		.webhook_batch = 1                                                \
	}

static const FaultSettings quiet = QUIET;
static FaultSettings	   settings = QUIET;
static uint64_t			   fired[FAULT_COUNT];

static const struct
{
	const char *name;
	const char *help;
} faults[FAULT_COUNT] = {
	[FAULT_RESET] = { "reset", "connection reset, nothing executed" },
	[FAULT_RATE_LIMIT] = { "rate_limit",
						   "429 with Retry-After, not executed" },
	[FAULT_CONFLICT_409] = { "conflict_409", "409, not executed" },
	[FAULT_ERROR_500_BEFORE] = { "error_500_before",
								 "500 stored, nothing executed" },
	[FAULT_WRONG_AMOUNT] = { "wrong_amount",
							 "executed with one minor unit more" },
	[FAULT_WRONG_CURRENCY] = { "wrong_currency",
							   "executed in another currency" },
	[FAULT_ERROR_500_AFTER] = { "error_500_after", "executed, 500 stored" },
	[FAULT_LOST_ANSWER] = { "lost_answer",
							"executed, closed without an answer" },
	[FAULT_HANG_AFTER] = { "hang_after",
						   "executed, silent for hang_ms, then closed" },
	[FAULT_RESET_AFTER] = { "reset_after", "executed, connection reset" },
	[FAULT_TRUNCATED_BODY] = { "truncated_body",
							   "executed, JSON cut in the middle" },
	[FAULT_HTML_BODY] = { "html_body", "executed, 200 with an HTML page" },
	[FAULT_SHOULD_RETRY_FALSE] = { "should_retry_false",
								   "Stripe-Should-Retry: false on a 500" },
	[FAULT_SHOULD_RETRY_TRUE] = { "should_retry_true",
								  "Stripe-Should-Retry: true on a 500" },
	[FAULT_LOOKUP_DOWN] = { "lookup_down", "GETs answer 500" },
	[FAULT_REFUND_PENDING] = { "refund_pending",
							   "Stripe's refund is pending first" },
	[FAULT_REFUND_FAILS] = { "refund_fails", "the same, then it fails" },
	[FAULT_REFUND_FAILS_LATER] = { "refund_fails_later",
								   "Stripe's refund succeeds, then fails" },
	[FAULT_WEBHOOK_DUPLICATE] = { "webhook_duplicate",
								  "a notification is sent twice" },
	[FAULT_WEBHOOK_REORDER] = { "webhook_reorder",
								"held back until a later one was sent" },
	[FAULT_WEBHOOK_LOST] = { "webhook_lost", "never sent" },
	[FAULT_WEBHOOK_FORGED] = { "webhook_forged", "signed with another key" }
};

const char *
fault_name(int fault)
{
	return faults[fault].name;
}

const char *
fault_help(int fault)
{
	return faults[fault].help;
}

static bool
parse_int(const char *text, int64_t max, int64_t *value, const char **end)
{
	char *stop;

	if (!isdigit((unsigned char) *text))
		return false;
	errno = 0;
	*value = strtoll(text, &stop, 10);
	*end = stop;
	return errno == 0 && *value <= max;
}

static bool
parse_whole_int(const char *text, int64_t max, int64_t *value)
{
	const char *end;

	return parse_int(text, max, value, &end) && *end == '\0';
}

static const char *
set_range(const char *value, int64_t *min_ms, int64_t *max_ms)
{
	int64_t		min;
	int64_t		max;
	const char *end;

	if (!parse_int(value, DURATION_MS_MAX, &min, &end))
		return "must be milliseconds, N or MIN-MAX, up to 600000";
	max = min;
	if (*end == '-' && !parse_int(end + 1, DURATION_MS_MAX, &max, &end))
		return "must be milliseconds, N or MIN-MAX, up to 600000";
	if (*end != '\0' || max < min)
		return "must be milliseconds, N or MIN-MAX, up to 600000";
	*min_ms = min;
	*max_ms = max;
	return NULL;
}

static const char *
set_duration(const char *value, int64_t *duration_ms)
{
	return parse_whole_int(value, DURATION_MS_MAX, duration_ms)
			   ? NULL
			   : "must be milliseconds up to 600000";
}

static const char *
set_fault_state(FaultState *state, const char *value)
{
	char   *end;
	double	percent;
	int64_t next;

	if (strncmp(value, "next:", 5) == 0)
	{
		if (!parse_whole_int(value + 5, NEXT_MAX, &next))
			return "next:N needs a number";
		*state = (FaultState){ 0, next };
		return NULL;
	}
	percent = strtod(value, &end);
	if (!isdigit((unsigned char) *value) || *end != '\0' ||
		!isfinite(percent) || percent > 100)
		return "must be a percentage from 0 to 100, or next:N";
	*state = (FaultState){ percent, 0 };
	return NULL;
}

static const char *
set_in(FaultSettings *to, const char *name, const char *value)
{
	if (strcmp(name, "latency_ms") == 0)
		return set_range(value, &to->latency_ms_min, &to->latency_ms_max);
	if (strcmp(name, "page_latency_ms") == 0)
		return set_range(value, &to->page_latency_ms_min,
						 &to->page_latency_ms_max);
	if (strcmp(name, "webhook_delay_ms") == 0)
		return set_range(value, &to->webhook_delay_ms_min,
						 &to->webhook_delay_ms_max);
	if (strcmp(name, "webhook_reorder_ms") == 0)
		return set_duration(value, &to->webhook_reorder_ms);
	if (strcmp(name, "webhook_batch") == 0)
		return parse_whole_int(value, BATCH_MAX, &to->webhook_batch) &&
					   to->webhook_batch > 0
				   ? NULL
				   : "must be items, 1 to 100";
	if (strcmp(name, "hang_ms") == 0)
		return set_duration(value, &to->hang_ms);
	if (strcmp(name, "retry_after_s") == 0)
		return parse_whole_int(value, RETRY_AFTER_S_MAX, &to->retry_after_s)
				   ? NULL
				   : "must be seconds up to 3600";
	for (int i = 0; i < FAULT_COUNT; i++)
	{
		if (strcmp(name, faults[i].name) == 0)
			return set_fault_state(&to->faults[i], value);
	}
	return "no such fault";
}

const char *
fault_set(const char *name, const char *value)
{
	return set_in(&settings, name, value);
}

const char *
fault_apply(Form *form)
{
	FaultSettings changed = settings;
	const char	 *reset = form_take(form, "reset");

	/*
	 * "reset" is also a fault's name: exactly 1 clears everything, and the
	 * fault itself is set by a percentage such as 1.0 or by next:1.
	 */
	if (reset != NULL && strcmp(reset, "1") == 0)
		changed = quiet;
	for (int i = 0; i < form->count; i++)
	{
		const FormParam *param = &form->params[i];
		const char		*problem;

		if (strcmp(param->name, "reset") == 0 &&
			strcmp(param->value, "1") == 0)
			continue;
		problem = set_in(&changed, param->name, param->value);
		if (problem != NULL)
			return problem;
	}
	settings = changed;
	return NULL;
}

bool
fault_fires(Fault fault)
{
	FaultState *state = &settings.faults[fault];

	if (state->next > 0)
		state->next--;
	else if (state->percent <= 0 ||
			 (double) (random_next() >> 11) * 0x1p-53 * 100 >= state->percent)
		return false;
	fired[fault]++;
	return true;
}

uint64_t
fault_fired(Fault fault)
{
	return fired[fault];
}

static int64_t
draw_ms(int64_t min_ms, int64_t max_ms)
{
	uint64_t span = (uint64_t) (max_ms - min_ms);

	return min_ms + (span ? (int64_t) random_below(span + 1) : 0);
}

int64_t
fault_latency_ms(void)
{
	return draw_ms(settings.latency_ms_min, settings.latency_ms_max);
}

int64_t
fault_page_latency_ms(void)
{
	return draw_ms(settings.page_latency_ms_min, settings.page_latency_ms_max);
}

int64_t
fault_webhook_delay_ms(void)
{
	return draw_ms(settings.webhook_delay_ms_min,
				   settings.webhook_delay_ms_max);
}

int64_t
fault_webhook_batch(void)
{
	return settings.webhook_batch;
}

int64_t
fault_webhook_reorder_ms(void)
{
	return settings.webhook_reorder_ms;
}

int64_t
fault_hang_ms(void)
{
	return settings.hang_ms;
}

int
fault_retry_after_s(void)
{
	return (int) settings.retry_after_s;
}

void
fault_json(Buf *b)
{
	json_open(b, NULL, '{');
	json_int(b, "latency_ms_min", settings.latency_ms_min);
	json_int(b, "latency_ms_max", settings.latency_ms_max);
	json_int(b, "page_latency_ms_min", settings.page_latency_ms_min);
	json_int(b, "page_latency_ms_max", settings.page_latency_ms_max);
	json_int(b, "hang_ms", settings.hang_ms);
	json_int(b, "retry_after_s", settings.retry_after_s);
	json_int(b, "webhook_delay_ms_min", settings.webhook_delay_ms_min);
	json_int(b, "webhook_delay_ms_max", settings.webhook_delay_ms_max);
	json_int(b, "webhook_reorder_ms", settings.webhook_reorder_ms);
	json_int(b, "webhook_batch", settings.webhook_batch);
	json_open(b, "faults", '{');
	for (int i = 0; i < FAULT_COUNT; i++)
	{
		json_open(b, faults[i].name, '{');
		json_double(b, "percent", settings.faults[i].percent);
		json_int(b, "next", settings.faults[i].next);
		json_int(b, "fired", (int64_t) fired[i]);
		json_close(b, '}');
	}
	json_close(b, '}');
	json_close(b, '}');
}
