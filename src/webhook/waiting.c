/*-------------------------------------------------------------------------
 *
 * waiting.c
 *	  Events that could not be applied yet, and when to try them again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "payment.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "order/batch.h"
#include "order/plan.h"
#include "order/transition.h"
#include "webhook/event.h"

#define FIRST_DELAY_MS 1000

static bool
waits(const WebhookEvent *event)
{
	return strcmp(event->state, STATE_RECEIVED) == 0 ||
		   strcmp(event->state, STATE_PARKED) == 0;
}

void
waiting_begin(WebhookEvent *events, int count)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, UUIDOID,		   TEXTOID,
								  TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID };
	TimestampTz		  run_at =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), FIRST_DELAY_MS);

	plan_keep(&plan,
			  "INSERT INTO payment.webhook_waiting (webhook_id, psp_id, state,"
			  " reference, since, run_at) VALUES ($1, $2, $3, $4, $5, $6)",
			  lengthof(types), types);
	for (int i = 0; i < count; i++)
	{
		const WebhookEvent *event = &events[i];
		Datum				values[lengthof(types)] = { 0 };
		char				nulls[] = "      ";

		if (!waits(event))
			continue;
		values[0] = UUIDPGetDatum(&event->id);
		values[1] = UUIDPGetDatum(&event->psp_id);
		values[2] = CStringGetTextDatum(event->state);
		if (event->waits_for_reference && event->psp_reference)
			values[3] = CStringGetTextDatum(event->psp_reference);
		else
			nulls[3] = 'n';
		values[4] = TimestampTzGetDatum(event->received_at);
		values[5] = TimestampTzGetDatum(run_at);
		order_write(plan, values, nulls, CAUSE_WEBHOOK);
	}
}
