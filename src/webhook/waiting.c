/*-------------------------------------------------------------------------
 *
 * waiting.c
 *	  Events that could not be applied yet, and when to try them again.
 *
 * They are tried again after a second, then ever more rarely; and at once when
 * the name they wait for becomes known.  What has waited for too long, or
 * finds no room to, is left to people.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "payment.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "order/batch.h"
#include "order/plan.h"
#include "order/transition.h"
#include "order/typed_argument.h"
#include "reconcile/exception.h"
#include "webhook/dispute_event.h"
#include "webhook/event.h"
#include "webhook/rejection.h"
#include "webhook/waiting.h"

PG_FUNCTION_INFO_V1(payment_retry_webhooks);

#define FIRST_DELAY_MS 1000
#define LAST_DELAY_MS (600 * 1000)
#define RETRY_MAX 10000

/* An event that is tried again, and what was known of it */
typedef struct Retry
{
	int			tries;
	TimestampTz since;
	const char *state;
	const char *detail;
	bool		had_object;
} Retry;

static bool
waits(const WebhookEvent *event)
{
	return strcmp(event->state, STATE_RECEIVED) == 0 ||
		   strcmp(event->state, STATE_PARKED) == 0;
}

static TimestampTz
next_run_at(int tries)
{
	int64 delay_ms = FIRST_DELAY_MS;

	for (int i = 0; i < tries && delay_ms < LAST_DELAY_MS; i++)
		delay_ms *= 2;
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
									   Min(delay_ms, LAST_DELAY_MS));
}

/*
 * Our requests name our orders and payouts.  What names none, and was never
 * made known by its reference, is somebody else's at the same PSP.
 */
static bool
is_strange(const WebhookEvent *event)
{
	return !event->has_object && (strcmp(event->about, "pay") == 0 ||
								  strcmp(event->about, "payout") == 0);
}

/* people are told; one exception for all of a PSP that are about no order */
static void
make_unmatched(WebhookEvent *event, const char *why)
{
	ExceptionReport report = {
		.type = "unmatched_event",
		.psp_id = &event->psp_id,
		.order_id = event->has_object ? &event->object_id : NULL,
		.detail = psprintf("%s (%s): %s.", event->type, event->event_id,
						   event->detail ? event->detail : why),
	};

	event->effect = NULL;
	event->detail =
		event->detail ? psprintf("%s; %s", event->detail, why) : why;
	event->state = STATE_UNMATCHED;
	exception_open(&report);
}

static void
give_up(WebhookEvent *event, const char *why)
{
	if (!is_strange(event))
	{
		make_unmatched(event, why);
		return;
	}
	event->effect = NULL;
	event->detail =
		event->detail ? psprintf("%s; %s", event->detail, why) : why;
	event->state = STATE_IGNORED;
}

/* ---- events that are new ---- */

static int64
count_parked(void)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { INT4OID };
	Datum values[] = { Int32GetDatum(payment_max_parked_webhooks) };

	plan_keep(&plan,
			  "SELECT FROM payment.webhook_waiting WHERE state = 'parked'"
			  " LIMIT $1",
			  lengthof(types), types);
	return (int64) batch_run(plan, values, NULL);
}

void
waiting_limit(WebhookEvent *events, int count)
{
	int64 parked = -1;

	for (int i = 0; i < count; i++)
	{
		if (strcmp(events[i].state, STATE_PARKED) != 0)
			continue;
		if (parked < 0)
			parked = count_parked();
		if (parked >= payment_max_parked_webhooks)
			make_unmatched(&events[i], "there is no room to park it");
		else
			parked++;
	}
}

void
waiting_begin(const WebhookEvent *events, int count)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, UUIDOID,		   TEXTOID,
								  TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID };

	plan_keep(&plan,
			  "INSERT INTO payment.webhook_waiting (webhook_id, psp_id, state,"
			  " reference, since, run_at) VALUES ($1, $2, $3, $4, $5, $6)",
			  lengthof(types), types);
	for (int i = 0; i < count; i++)
	{
		const WebhookEvent *event = &events[i];
		const char		   *reference = NULL;
		Datum				values[lengthof(types)] = { 0 };
		char				nulls[] = "      ";

		if (!waits(event))
			continue;
		values[0] = UUIDPGetDatum(&event->id);
		values[1] = UUIDPGetDatum(&event->psp_id);
		values[2] = CStringGetTextDatum(event->state);
		if (event->waits_for_reference)
			reference = event->psp_reference;
		else if (event->waits_for_parent)
			reference = event->parent_reference;
		if (reference)
			values[3] = CStringGetTextDatum(reference);
		else
			nulls[3] = 'n';
		values[4] = TimestampTzGetDatum(event->received_at);
		values[5] = TimestampTzGetDatum(next_run_at(0));
		order_write(plan, values, nulls, CAUSE_WEBHOOK);
	}
}

/* A row that is locked is being tried at this moment. */
void
waiting_wake(const PspReference *references, int count)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, TEXTARRAYOID };
	Column			  psps;
	Column			  names;
	Datum			  values[2];

	if (count == 0)
		return;
	column_init(&psps, UUIDOID);
	column_init(&names, TEXTOID);
	for (int i = 0; i < count; i++)
	{
		column_add_uuid(&psps, &references[i].psp_id);
		column_add_text(&names, references[i].reference);
	}
	values[0] = column_array(&psps);
	values[1] = column_array(&names);
	plan_keep(&plan,
			  "UPDATE payment.webhook_waiting AS w"
			  " SET run_at = pg_catalog.clock_timestamp()"
			  " FROM (SELECT f.webhook_id FROM unnest($1, $2)"
			  " AS u (psp_id, reference) JOIN payment.webhook_waiting AS f"
			  " ON f.psp_id = u.psp_id AND f.reference = u.reference"
			  " FOR UPDATE OF f SKIP LOCKED) AS free"
			  " WHERE w.webhook_id = free.webhook_id",
			  lengthof(types), types);
	order_write(plan, values, NULL, CAUSE_WEBHOOK);
}

/* ---- events that are tried again ---- */

static void
read_event(WebhookEvent *event, Retry *retry, uint64 row)
{
	row_uuid(row, 1, &event->id);
	retry->tries = row_int32(row, 2);
	retry->since = row_time(row, 3);
	row_uuid(row, 4, &event->psp_id);
	event->event_id = row_text(row, 5);
	event->type = row_text(row, 6);
	event->about = row_text(row, 7);
	event->state = retry->state = row_text(row, 8);
	event->detail = retry->detail = row_text(row, 9);
	event->has_object = retry->had_object =
		row_uuid(row, 10, &event->object_id);
	event->attempt_no = row_int32(row, 11);
	event->psp_reference = row_text(row, 12);
	event->parent_reference = row_text(row, 13);
	event->outcome = row_text(row, 14);
	event->currency = row_text(row, 15);
	event->amount = row_int64(row, 16);
	event->has_amount = event->currency != NULL;
	event->error_code = row_text(row, 17);
	event->error_message = row_text(row, 18);
	dispute_event_read(&event->dispute, row, 19);
}

static int
take_due(int max, WebhookEvent **events, Retry **retries)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { INT4OID };
	Datum			  values[] = { Int32GetDatum(max) };
	int				  count;

	plan_keep(&plan,
			  "SELECT e.id, w.tries, w.since, e.psp_id, e.event_id, e.type,"
			  " e.about, e.state, e.detail, e.object_id, e.attempt_no,"
			  " e.psp_reference, e.parent_reference, e.outcome, e.currency,"
			  " e.amount, e.error_code, e.error_message,"
			  " " DISPUTE_EVENT_COLUMNS " FROM"
			  " (SELECT d.webhook_id, d.tries, d.since"
			  " FROM payment.webhook_waiting AS d"
			  " WHERE d.run_at <= pg_catalog.clock_timestamp()"
			  " ORDER BY d.run_at LIMIT $1 FOR UPDATE SKIP LOCKED) AS w"
			  " JOIN payment.webhook_event AS e ON e.id = w.webhook_id",
			  lengthof(types), types);
	count = (int) batch_run(plan, values, NULL);
	*events = palloc0(Max(count, 1) * sizeof(WebhookEvent));
	*retries = palloc0(Max(count, 1) * sizeof(Retry));
	for (int i = 0; i < count; i++)
		read_event(&(*events)[i], &(*retries)[i], (uint64) i);
	return count;
}

static bool
same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static void
write_event(const WebhookEvent *event, const Retry *retry)
{
	static SPIPlanPtr plan = NULL;
	const Oid types[] = { UUIDOID, TEXTOID, TEXTOID, TEXTOID, UUIDOID };
	char	  nulls[] = "     ";
	Datum	  values[lengthof(types)] = { 0 };

	if (same_text(event->state, retry->state) &&
		same_text(event->detail, retry->detail) &&
		event->has_object == retry->had_object)
		return;
	values[0] = UUIDPGetDatum(&event->id);
	values[1] = CStringGetTextDatum(event->state);
	nulls[2] = event->effect ? ' ' : 'n';
	if (event->effect)
		values[2] = CStringGetTextDatum(event->effect);
	nulls[3] = event->detail ? ' ' : 'n';
	if (event->detail)
		values[3] = CStringGetTextDatum(event->detail);
	nulls[4] = event->has_object ? ' ' : 'n';
	values[4] = UUIDPGetDatum(&event->object_id);
	plan_keep(&plan,
			  "UPDATE payment.webhook_event SET state = $2, effect = $3,"
			  " detail = $4, object_id = $5,"
			  " updated_at = pg_catalog.clock_timestamp() WHERE id = $1",
			  lengthof(types), types);
	order_write(plan, values, nulls, CAUSE_WEBHOOK);
}

static void
put_off(const WebhookEvent *event, const Retry *retry)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, TEXTOID, INT4OID, TIMESTAMPTZOID };
	Datum			  values[] = { UUIDPGetDatum(&event->id),
								   CStringGetTextDatum(event->state),
								   Int32GetDatum(retry->tries + 1),
								   TimestampTzGetDatum(next_run_at(retry->tries + 1)) };

	plan_keep(&plan,
			  "UPDATE payment.webhook_waiting SET state = $2, tries = $3,"
			  " run_at = $4 WHERE webhook_id = $1",
			  lengthof(types), types);
	order_write(plan, values, NULL, CAUSE_WEBHOOK);
}

static void
end(const WebhookEvent *event)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID };
	Datum			  values[] = { UUIDPGetDatum(&event->id) };

	plan_keep(&plan,
			  "DELETE FROM payment.webhook_waiting WHERE webhook_id = $1",
			  lengthof(types), types);
	order_write(plan, values, NULL, CAUSE_WEBHOOK);
}

static void
conclude(WebhookEvent *event, const Retry *retry, TimestampTz now)
{
	if (waits(event) &&
		now - retry->since >
			(int64) payment_webhook_parking_time_s * USECS_PER_SEC)
		give_up(event, "it has waited for too long");
	write_event(event, retry);
	if (waits(event))
		put_off(event, retry);
	else
		end(event);
}

/*
 * payment.retry_webhooks(max_webhooks integer) -> bigint
 */
Datum
payment_retry_webhooks(PG_FUNCTION_ARGS)
{
	int32		  max = int32_argument(fcinfo, 0, "max_webhooks");
	WebhookEvent *events;
	Retry		 *retries;
	int			  count;
	int			  nest_level;

	if (max < 1 || max > RETRY_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
				 errmsg("\"max_webhooks\" must be from 1 to %d", RETRY_MAX),
				 errdetail("It is %d.", max),
				 errhint("The worker takes 100 at a time.")));
	nest_level = batch_begin();
	rejection_shrink();
	count = take_due(max, &events, &retries);
	webhook_apply(events, count);
	for (int i = 0; i < count; i++)
		conclude(&events[i], &retries[i], GetCurrentTimestamp());
	batch_end(nest_level);
	PG_RETURN_INT64(count);
}
