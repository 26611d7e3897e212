/*-------------------------------------------------------------------------
 *
 * dispute_event.c
 *	  Events about disputes: found by the payment that is disputed, and taken
 *	  in as what the PSP says of the dispute.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"
#include "utils/json.h"

#include "order/batch.h"
#include "order/dispute.h"
#include "webhook/dispute_event.h"

static void
add_text(StringInfo json, const char *name, const char *value)
{
	if (value == NULL)
		return;
	appendStringInfo(json, "%c\"%s\":", json->len > 1 ? ',' : ' ', name);
	escape_json(json, value);
}

static void
add_number(StringInfo json, const char *name, int64 value)
{
	appendStringInfo(json, "%c\"%s\":" INT64_FORMAT, json->len > 1 ? ',' : ' ',
					 name, value);
}

Datum
dispute_event_json(const PspDispute *said)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	add_text(&json, "stage", said->stage);
	add_text(&json, "status", said->status);
	if (said->money != PSP_DISPUTE_UNSAID)
		appendStringInfo(&json, "%c\"is_taken\":%s", json.len > 1 ? ',' : ' ',
						 said->money == PSP_DISPUTE_TAKEN ? "true" : "false");
	if (said->has_fee)
	{
		add_number(&json, "fee", said->fee);
		add_text(&json, "fee_currency", said->fee_currency);
	}
	add_text(&json, "reason", said->reason);
	if (said->respond_by_s > 0)
		add_number(&json, "respond_by", said->respond_by_s);
	add_number(&json, "sequence", said->sequence);
	appendStringInfoChar(&json, '}');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

void
dispute_event_read(PspDispute *said, uint64 row, int column)
{
	memset(said, 0, sizeof(PspDispute));
	said->stage = row_text(row, column);
	said->status = row_text(row, column + 1);
	if (!row_is_null(row, column + 2))
		said->money = row_bool(row, column + 2) ? PSP_DISPUTE_TAKEN
												: PSP_DISPUTE_RETURNED;
	said->has_fee = !row_is_null(row, column + 3);
	said->fee = row_int64(row, column + 3);
	if (said->has_fee)
		strlcpy(said->fee_currency, row_text(row, column + 4),
				sizeof(said->fee_currency));
	said->reason = row_text(row, column + 5);
	said->respond_by_s = row_int64(row, column + 6);
	said->sequence = row_int64(row, column + 7);
}

bool
dispute_event_counts(const WebhookEvent *event)
{
	const PspDispute *said = &event->dispute;

	return strcmp(event->about, "dispute") == 0 && event->psp_reference &&
		   event->parent_reference && event->has_amount &&
		   (said->status || said->money != PSP_DISPUTE_UNSAID);
}

void
dispute_events_weigh(WebhookEvent *const *events, Evidence *evidence,
					 int count)
{
	DisputeReport *reports = palloc0(Max(count, 1) * sizeof(DisputeReport));

	for (int i = 0; i < count; i++)
		reports[i] =
			(DisputeReport){ .order_id = events[i]->object_id,
							 .psp_id = events[i]->psp_id,
							 .psp_reference = events[i]->psp_reference,
							 .amount = events[i]->amount,
							 .currency = events[i]->currency,
							 .said = events[i]->dispute,
							 .cause = CAUSE_WEBHOOK };
	disputes_apply(reports, count);
	for (int i = 0; i < count; i++)
	{
		memset(&evidence[i], 0, sizeof(Evidence));
		evidence[i].object = OBJECT_DISPUTE;
		evidence[i].effect = reports[i].effect;
		evidence[i].psp_id = reports[i].psp_id;
		if (reports[i].is_known)
			events[i]->object_id = reports[i].dispute_id;
	}
}
