/*-------------------------------------------------------------------------
 *
 * store.c
 *	  Events whose sender is proven are kept, each of them once.
 *
 * The PSP's name for an event is noted first: a second delivery at the same
 * moment waits there, and finds it known.  Then the events are weighed, and
 * written with what came of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "order/batch.h"
#include "order/event.h"
#include "order/plan.h"
#include "order/transition.h"
#include "text_guard.h"
#include "time_told.h"
#include "uuid7.h"
#include "webhook/dispute_event.h"
#include "webhook/event.h"

#define EVENT_COLUMNS 25

static int
compare_events(const void *a, const void *b)
{
	return strcmp((*(const PspEvent *const *) a)->id,
				  (*(const PspEvent *const *) b)->id);
}

/*
 * Take note of the names; known_before are those that somebody else has taken
 * note of.  Ascending, so that two deliveries cannot wait for one another.
 */
static void
claim_keys(const pg_uuid_t *psp_id, const PspEvent *const *sorted,
		   const pg_uuid_t *ids, int count, bool *is_new)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, TEXTARRAYOID, UUIDARRAYOID };
	Column			  names;
	Column			  numbers;
	Datum			  values[3];
	uint64			  rows;

	column_init(&names, TEXTOID);
	column_init(&numbers, UUIDOID);
	for (int i = 0; i < count; i++)
	{
		column_add_text(&names, sorted[i]->id);
		column_add_uuid(&numbers, &ids[i]);
		is_new[i] = false;
	}
	values[0] = UUIDPGetDatum(psp_id);
	values[1] = column_array(&names);
	values[2] = column_array(&numbers);
	plan_keep(&plan,
			  "INSERT INTO payment.webhook_key AS k (psp_id, event_id,"
			  " webhook_id) SELECT $1, u.event_id, u.id FROM unnest($2, $3)"
			  " AS u (event_id, id) ON CONFLICT (psp_id, event_id) DO NOTHING"
			  " RETURNING k.webhook_id",
			  lengthof(types), types);
	rows = order_write(plan, values, NULL, CAUSE_WEBHOOK);
	for (uint64 row = 0; row < rows; row++)
	{
		pg_uuid_t id;

		row_uuid(row, 1, &id);
		for (int i = 0; i < count; i++)
			is_new[i] = is_new[i] || uuid_compare(&ids[i], &id) == 0;
	}
}

/* A message for people, in the database's encoding and without card numbers */
static const char *
safe_message(const char *text)
{
	char *copy;

	if (text == NULL)
		return NULL;
	copy = pstrdup(text);
	(void) hide_card_numbers(copy, (int) strlen(copy));
	if (GetDatabaseEncoding() != PG_UTF8)
		for (char *c = copy; *c; c++)
			if (IS_HIGHBIT_SET(*c))
				*c = '?';
	return copy;
}

static void
describe(WebhookEvent *event, const PspEvent *source, const char *body)
{
	const PspOutcome *outcome = &source->outcome;

	event->event_id = source->id;
	event->type = source->type;
	event->about = psp_event_about_name(source->about);
	event->has_object =
		source->object_id &&
		event_text_to_uuid(source->object_id, &event->object_id);
	event->attempt_no = source->attempt_no;
	event->psp_reference = source->reference;
	event->parent_reference = source->parent_reference;
	event->account = source->account;
	event->outcome =
		source->has_outcome ? psp_outcome_name(outcome->kind) : NULL;
	event->has_amount = outcome->has_amount;
	event->amount = outcome->amount;
	event->currency = outcome->has_amount ? outcome->currency : NULL;
	event->error_code = safe_message(outcome->error_code);
	event->error_message = safe_message(outcome->error_message);
	event->dispute = source->dispute;
	event->dispute.reason = safe_message(source->dispute.reason);
	event->sent_at = time_told(source->sent_at_s);
	event->body = body + source->start;
	event->length = source->length;
	if (source->is_foreign)
	{
		event->state = STATE_REJECTED;
		event->detail = "it is about another account at the PSP";
	}
	else if (source->is_ambiguous)
	{
		event->state = STATE_IGNORED;
		event->detail = "what was signed can be read in more than one way";
	}
	else if (source->object_id && !event->has_object)
	{
		event->state = STATE_IGNORED;
		event->detail = "it names an object that is none of ours";
	}
}

static Datum
text_or_null(const char *text, char *null)
{
	*null = text ? ' ' : 'n';
	return text ? CStringGetTextDatum(text) : (Datum) 0;
}

/* The bytes as they came, but for card numbers */
static Datum
kept_body(const WebhookEvent *event, bool *redacted)
{
	bytea *body = palloc(VARHDRSZ + event->length);

	SET_VARSIZE(body, VARHDRSZ + event->length);
	memcpy(VARDATA(body), event->body, event->length);
	*redacted = hide_card_numbers(VARDATA(body), event->length);
	return PointerGetDatum(body);
}

static void
insert_event(const WebhookEvent *event, Jsonb *headers)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[EVENT_COLUMNS] = {
		 UUIDOID,		 UUIDOID,  TEXTOID,	 TEXTOID,		 TEXTOID,
		 TEXTOID,		 TEXTOID,  TEXTOID,	 UUIDOID,		 INT4OID,
		 TEXTOID,		 TEXTOID,  TEXTOID,	 TEXTOID,		 INT8OID,
		 TEXTOID,		 TEXTOID,  TEXTOID,	 TIMESTAMPTZOID, TIMESTAMPTZOID,
		 TIMESTAMPTZOID, JSONBOID, BYTEAOID, BOOLOID,		 JSONBOID
	};
	Datum values[EVENT_COLUMNS] = { 0 };
	char  nulls[EVENT_COLUMNS];
	bool  redacted;

	memset(nulls, ' ', sizeof(nulls));
	values[0] = UUIDPGetDatum(&event->id);
	values[1] = UUIDPGetDatum(&event->psp_id);
	values[2] = CStringGetTextDatum(event->event_id);
	values[3] = CStringGetTextDatum(event->type);
	values[4] = CStringGetTextDatum(event->about);
	values[5] = CStringGetTextDatum(event->state);
	values[6] = text_or_null(event->effect, &nulls[6]);
	values[7] = text_or_null(event->detail, &nulls[7]);
	values[8] = UUIDPGetDatum(&event->object_id);
	nulls[8] = event->has_object ? ' ' : 'n';
	values[9] = Int32GetDatum(event->attempt_no);
	nulls[9] = event->attempt_no > 0 ? ' ' : 'n';
	values[10] = text_or_null(event->psp_reference, &nulls[10]);
	values[11] = text_or_null(event->parent_reference, &nulls[11]);
	values[12] = text_or_null(event->account, &nulls[12]);
	values[13] = text_or_null(event->outcome, &nulls[13]);
	values[14] = Int64GetDatum(event->amount);
	nulls[14] = event->has_amount ? ' ' : 'n';
	values[15] = text_or_null(event->currency, &nulls[15]);
	values[16] = text_or_null(event->error_code, &nulls[16]);
	values[17] = text_or_null(event->error_message, &nulls[17]);
	values[18] = TimestampTzGetDatum(event->sent_at);
	nulls[18] = event->sent_at != 0 ? ' ' : 'n';
	values[19] = TimestampTzGetDatum(event->received_at);
	values[20] = TimestampTzGetDatum(event->received_at);
	values[21] = JsonbPGetDatum(headers);
	values[22] = kept_body(event, &redacted);
	values[23] = BoolGetDatum(redacted);
	nulls[24] = strcmp(event->about, "dispute") == 0 ? ' ' : 'n';
	values[24] =
		nulls[24] == ' ' ? dispute_event_json(&event->dispute) : (Datum) 0;
	plan_keep(&plan,
			  "INSERT INTO payment.webhook_event (id, psp_id, event_id, type,"
			  " about, state, effect, detail, object_id, attempt_no,"
			  " psp_reference, parent_reference, account, outcome, amount,"
			  " currency, error_code, error_message, sent_at, received_at,"
			  " updated_at, headers, body, redacted, dispute) VALUES ($1, $2, "
			  "$3, $4,"
			  " $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,"
			  " $18, $19, $20, $21, $22, $23, $24,"
			  " $25)",
			  EVENT_COLUMNS, types);
	order_write(plan, values, nulls, CAUSE_WEBHOOK);
}

/* each name once: a batch may repeat itself */
static int
sort_and_deduplicate(const PspEvent **events, int count)
{
	int kept = 0;

	qsort(events, count, sizeof(PspEvent *), compare_events);
	for (int i = 0; i < count; i++)
		if (kept == 0 || strcmp(events[kept - 1]->id, events[i]->id) != 0)
			events[kept++] = events[i];
	return kept;
}

void
webhook_take(const pg_uuid_t *psp_id, Jsonb *headers, const char *body,
			 const PspEvent *const *given, int count)
{
	const PspEvent **events = palloc(Max(count, 1) * sizeof(PspEvent *));
	pg_uuid_t		*ids = palloc(Max(count, 1) * sizeof(pg_uuid_t));
	bool			*is_new = palloc(Max(count, 1) * sizeof(bool));
	WebhookEvent	*stored = palloc0(Max(count, 1) * sizeof(WebhookEvent));
	int				 stored_count = 0;

	memcpy(events, given, count * sizeof(PspEvent *));
	count = sort_and_deduplicate(events, count);
	for (int i = 0; i < count; i++)
		uuid7_generate(&ids[i]);
	claim_keys(psp_id, events, ids, count, is_new);
	for (int i = 0; i < count; i++)
	{
		WebhookEvent *event = &stored[stored_count];

		if (!is_new[i])
			continue;
		describe(event, events[i], body);
		event->id = ids[i];
		event->psp_id = *psp_id;
		event->received_at = GetCurrentTimestamp();
		stored_count++;
	}
	webhook_apply(stored, stored_count);
	waiting_limit(stored, stored_count);
	for (int i = 0; i < stored_count; i++)
		insert_event(&stored[i], headers);
	waiting_begin(stored, stored_count);
}
