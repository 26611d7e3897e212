/*-------------------------------------------------------------------------
 *
 * adyen_event.c
 *	  Adyen's webhooks: notifications of payments, several in one body and
 *	  each signed by itself, and those of transfers, one a body.
 *
 * Of a notification only some fields are signed.  What it is about, how much
 * and how it ended is read from these alone; as Adyen gives it no id, they
 * also tell it from others.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "psp/adyen.h"

static const struct
{
	const char	 *code;
	PspEventAbout about;
} codes[] = {
	{ "AUTHORISATION", PSP_EVENT_PAY },
	{ "CAPTURE", PSP_EVENT_CAPTURE },
	{ "CAPTURE_FAILED", PSP_EVENT_CAPTURE },
	{ "CANCELLATION", PSP_EVENT_VOID },
	{ "CANCEL_OR_REFUND", PSP_EVENT_REFUND },
	{ "REFUND", PSP_EVENT_REFUND },
	{ "REFUND_FAILED", PSP_EVENT_REFUND },
	{ "REFUNDED_REVERSED", PSP_EVENT_REFUND },
	{ "REFUND_WITH_DATA", PSP_EVENT_REFUND },
	{ "TECHNICAL_CANCEL", PSP_EVENT_VOID },
	{ "EXPIRE", PSP_EVENT_VOID },
	{ "VOID_PENDING_REFUND", PSP_EVENT_REFUND },
	{ "CHARGEBACK", PSP_EVENT_DISPUTE },
	{ "CHARGEBACK_REVERSED", PSP_EVENT_DISPUTE },
	{ "DISPUTE_DEFENSE_PERIOD_ENDED", PSP_EVENT_DISPUTE },
	{ "INFORMATION_SUPPLIED", PSP_EVENT_DISPUTE },
	{ "ISSUER_RESPONSE_TIMEFRAME_EXPIRED", PSP_EVENT_DISPUTE },
	{ "NOTIFICATION_OF_CHARGEBACK", PSP_EVENT_DISPUTE },
	{ "PREARBITRATION_LOST", PSP_EVENT_DISPUTE },
	{ "PREARBITRATION_WON", PSP_EVENT_DISPUTE },
	{ "REQUEST_FOR_INFORMATION", PSP_EVENT_DISPUTE },
	{ "SECOND_CHARGEBACK", PSP_EVENT_DISPUTE },
};

/* The fields of a notification that are signed, in that order */
enum
{
	FIELD_PSP_REFERENCE,
	FIELD_ORIGINAL_REFERENCE,
	FIELD_ACCOUNT,
	FIELD_MERCHANT_REFERENCE,
	FIELD_VALUE,
	FIELD_CURRENCY,
	FIELD_CODE,
	FIELD_SUCCESS,
	FIELD_COUNT
};

/* ---- notifications ---- */

/* As it is written in what is signed; empty for what is not there */
static const char *
field_text(const JsonDocument *json, const JsonNode *node)
{
	if (node == NULL || node->type == JSON_NULL)
		return "";
	switch (node->type)
	{
		case JSON_STRING:
			return json_string(json, node);
		case JSON_NUMBER:
			return pnstrdup(json->text + node->start, node->length);
		case JSON_TRUE:
			return "true";
		case JSON_FALSE:
			return "false";
		default:
			return NULL;
	}
}

/* false when one of them is not what can be signed */
static bool
read_fields(const JsonDocument *json, const JsonNode *item,
			const char **fields)
{
	static const char *const names[FIELD_COUNT] = { "pspReference",
													"originalReference",
													"merchantAccountCode",
													"merchantReference",
													NULL,
													NULL,
													"eventCode",
													"success" };
	const JsonNode			*amount = json_member(json, item, "amount");

	for (int i = 0; i < FIELD_COUNT; i++)
	{
		const JsonNode *node;

		if (i == FIELD_VALUE || i == FIELD_CURRENCY)
			node = json_member(json, amount,
							   i == FIELD_VALUE ? "value" : "currency");
		else
			node = json_member(json, item, names[i]);
		fields[i] = field_text(json, node);
		if (fields[i] == NULL || strlen(fields[i]) > PSP_REFERENCE_LENGTH_MAX)
			return false;
	}
	return true;
}

static const char *
join(const char **fields, bool escaped)
{
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < FIELD_COUNT; i++)
	{
		if (i > 0)
			appendStringInfoChar(&text, ':');
		for (const char *c = fields[i]; *c; c++)
		{
			if (escaped && (*c == ':' || *c == '\\'))
				appendStringInfoChar(&text, '\\');
			appendStringInfoChar(&text, *c);
		}
	}
	return text.data;
}

/* printable, or NULL */
static const char *
name_of(const char *text)
{
	if (*text == '\0')
		return NULL;
	for (const char *c = text; *c; c++)
		if ((unsigned char) *c <= ' ' || (unsigned char) *c >= 0x7F)
			return NULL;
	return text;
}

/*
 * From what is signed, whether it was written as a number or a string: the same
 * signature fits both, and an event counts once.
 */
static bool
read_amount(const char **fields, PspOutcome *outcome)
{
	return adyen_take_amount(fields[FIELD_VALUE], fields[FIELD_CURRENCY],
							 outcome);
}

static PspEventAbout
about_of(const char *code)
{
	for (int i = 0; i < (int) lengthof(codes); i++)
		if (strcmp(codes[i].code, code) == 0)
			return codes[i].about;
	return PSP_EVENT_OTHER;
}

/*
 * Whether that is as good as captured depends on how it was asked for, which
 * the notification does not say.
 */
static void
read_authorisation(const JsonDocument *json, const JsonNode *item,
				   const char **fields, PspEvent *event)
{
	if (strcmp(fields[FIELD_SUCCESS], "true") == 0)
	{
		event->outcome.kind = PSP_AUTHORIZED;
		event->has_outcome = read_amount(fields, &event->outcome);
	}
	else if (strcmp(fields[FIELD_SUCCESS], "false") == 0)
	{
		event->has_outcome = true;
		outcome_error(&event->outcome, PSP_DECLINED, "refused",
					  member_text(json, item, "reason",
								  PSP_MESSAGE_LENGTH_MAX));
		event->outcome.decline_class = PSP_DECLINE_HARD;
	}
}

/*
 * What we have asked for, and what it is called when it is done; some fail
 * after that.
 */
static const struct
{
	const char	  *code;
	PspOperation   operation;
	PspEventAbout  about;
	PspOutcomeKind done;
} modifications[] = {
	{ "CAPTURE", PSP_OPERATION_CAPTURE, PSP_EVENT_CAPTURE, PSP_SUCCEEDED },
	{ "CANCELLATION", PSP_OPERATION_VOID, PSP_EVENT_VOID, PSP_VOIDED },
	{ "REFUND", PSP_OPERATION_REFUND, PSP_EVENT_REFUND, PSP_SUCCEEDED },
	{ "CAPTURE_FAILED", PSP_OPERATION_CAPTURE, PSP_EVENT_CAPTURE, PSP_FAILED },
	{ "REFUND_FAILED", PSP_OPERATION_REFUND, PSP_EVENT_REFUND, PSP_FAILED },
	{ "REFUNDED_REVERSED", PSP_OPERATION_REFUND, PSP_EVENT_REFUND,
	  PSP_FAILED },
};

/* The key that the reference is made of, NULL when it is none of ours */
static char *
key_of(const char *reference, PspOperation operation)
{
	char *key = pstrdup(reference);

	for (char *c = key; *c; c++)
		if (*c == '.')
			*c = ':';
	return strcmp(adyen_reference(key), reference) == 0 &&
				   key_is_of(key, operation) && attempt_of_key(key) > 0
			   ? key
			   : NULL;
}

static void
read_result(const JsonDocument *json, const JsonNode *item,
			const char **fields, PspOutcomeKind done, PspEvent *event)
{
	bool has_amount = read_amount(fields, &event->outcome);
	bool is_true = strcmp(fields[FIELD_SUCCESS], "true") == 0;

	if (done == PSP_FAILED)
	{
		outcome_failed(&event->outcome, "failed_later",
					   member_text(json, item, "reason",
								   PSP_MESSAGE_LENGTH_MAX));
		event->has_outcome = is_true;
	}
	else if (is_true)
	{
		event->outcome.kind = done;
		event->has_outcome = has_amount || done == PSP_VOIDED;
	}
	else if (strcmp(fields[FIELD_SUCCESS], "false") == 0)
	{
		outcome_failed(&event->outcome, "refused",
					   member_text(json, item, "reason",
								   PSP_MESSAGE_LENGTH_MAX));
		event->has_outcome = true;
	}
}

/* false when it is no result of what we have asked for */
static bool
read_ours(const JsonDocument *json, const JsonNode *item, const char **fields,
		  PspEvent *event)
{
	for (int i = 0; i < (int) lengthof(modifications); i++)
	{
		char *key;

		if (strcmp(modifications[i].code, fields[FIELD_CODE]) != 0)
			continue;
		key = key_of(fields[FIELD_MERCHANT_REFERENCE],
					 modifications[i].operation);
		if (key == NULL)
			return false;
		event->about = modifications[i].about;
		event->attempt_no = attempt_of_key(key);
		*strchr(key, ':') = '\0';
		event->object_id = key;
		read_result(json, item, fields, modifications[i].done, event);

		/* an order keeps its name, whatever is done to it */
		if (event->about != PSP_EVENT_REFUND)
			event->reference = name_of(fields[FIELD_ORIGINAL_REFERENCE]);
		/* nor is the reversal's the refund's */
		if (strcmp(fields[FIELD_CODE], "REFUNDED_REVERSED") == 0)
			event->reference = NULL;
		return true;
	}
	return false;
}

/*
 * A refund that has failed is found by its name.  Of a capture that was not
 * asked for by us, as of a payment that is captured as it is authorised, the
 * payment's name is all that there is.
 */
static bool
read_failure(const JsonDocument *json, const JsonNode *item,
			 const char **fields, PspEvent *event)
{
	bool is_capture = strcmp(fields[FIELD_CODE], "CAPTURE_FAILED") == 0;

	if (!is_capture && strcmp(fields[FIELD_CODE], "REFUND_FAILED") != 0)
		return false;
	event->object_id = NULL;
	if (is_capture)
		event->reference = name_of(fields[FIELD_ORIGINAL_REFERENCE]);
	read_result(json, item, fields, PSP_FAILED, event);
	return true;
}

/*
 * An authorisation that was cancelled by people, or has expired: under the
 * reference of the payment.
 */
static bool
read_end(const char **fields, PspEvent *event)
{
	bool expired = strcmp(fields[FIELD_CODE], "EXPIRE") == 0;

	if (!expired && strcmp(fields[FIELD_CODE], "CANCELLATION") != 0 &&
		strcmp(fields[FIELD_CODE], "TECHNICAL_CANCEL") != 0)
		return false;
	event->about = PSP_EVENT_PAY;
	event->reference = name_of(fields[FIELD_ORIGINAL_REFERENCE]);
	if (strcmp(fields[FIELD_SUCCESS], "true") != 0)
		return true;
	event->has_outcome = true;
	if (expired)
		outcome_error(&event->outcome, PSP_EXPIRED, "expired",
					  "the authorization has expired");
	else
		outcome_error(&event->outcome, PSP_VOIDED, "canceled",
					  "the authorization was cancelled at the PSP");
	return true;
}

/*
 * What happens to a dispute.  How it stands is in what is not signed; the code
 * alone says enough.  A notification only announces: money moves later.  Where
 * money moves there is an order; an answer, and the end of the time for one,
 * may come at any stage.
 */
static const struct
{
	const char	   *code;
	const char	   *stage;
	const char	   *status;
	PspDisputeMoney money;
	int				sequence;
} dispute_codes[] = {
	{ "REQUEST_FOR_INFORMATION", "inquiry", "open", PSP_DISPUTE_UNSAID, 1 },
	{ "NOTIFICATION_OF_CHARGEBACK", "chargeback", "open", PSP_DISPUTE_UNSAID,
	  2 },
	{ "CHARGEBACK", "chargeback", "open", PSP_DISPUTE_TAKEN, 3 },
	{ "INFORMATION_SUPPLIED", NULL, "challenged", PSP_DISPUTE_UNSAID, 0 },
	{ "DISPUTE_DEFENSE_PERIOD_ENDED", NULL, "expired", PSP_DISPUTE_UNSAID, 0 },
	{ "ISSUER_RESPONSE_TIMEFRAME_EXPIRED", NULL, "won", PSP_DISPUTE_UNSAID,
	  0 },
	{ "CHARGEBACK_REVERSED", "chargeback", "won", PSP_DISPUTE_RETURNED, 4 },
	{ "SECOND_CHARGEBACK", "pre_arbitration", "lost", PSP_DISPUTE_TAKEN, 5 },
	{ "PREARBITRATION_WON", "pre_arbitration", "won", PSP_DISPUTE_RETURNED,
	  6 },
	{ "PREARBITRATION_LOST", "pre_arbitration", "lost", PSP_DISPUTE_TAKEN, 6 },
};

static void
read_dispute(const char **fields, PspEvent *event)
{
	PspDispute *dispute = &event->dispute;

	event->parent_reference = name_of(fields[FIELD_ORIGINAL_REFERENCE]);
	event->object_id = NULL;
	if (!read_amount(fields, &event->outcome) ||
		strcmp(fields[FIELD_SUCCESS], "true") != 0)
		return;
	for (int i = 0; i < (int) lengthof(dispute_codes); i++)
	{
		if (strcmp(dispute_codes[i].code, fields[FIELD_CODE]) != 0)
			continue;
		dispute->stage = dispute_codes[i].stage;
		dispute->status = dispute_codes[i].status;
		dispute->money = dispute_codes[i].money;
		dispute->sequence = dispute_codes[i].sequence;
	}
}

/* What follows an authorisation names it as the original. */
static void
read_modification(const JsonDocument *json, const JsonNode *item,
				  const char **fields, PspEvent *event)
{
	event->parent_reference = name_of(fields[FIELD_ORIGINAL_REFERENCE]);
	if (read_ours(json, item, fields, event) || read_end(fields, event) ||
		read_failure(json, item, fields, event))
		return;
	event->object_id = NULL;
	(void) read_amount(fields, &event->outcome);

	/* a capture that worked is what the authorisation said already */
	if (strcmp(fields[FIELD_CODE], "CAPTURE") == 0 &&
		strcmp(fields[FIELD_SUCCESS], "true") == 0)
		event->about = PSP_EVENT_OTHER;
}

static void
read_item(const JsonDocument *json, const JsonNode *item,
		  const char *const *config, PspEvent *event)
{
	const char *fields[FIELD_COUNT];
	const char *account = config[CONFIG_MERCHANT_ACCOUNT];
	const char *code;

	if (!read_fields(json, item, fields) ||
		(event->reference = name_of(fields[FIELD_PSP_REFERENCE])) == NULL ||
		(code = name_of(fields[FIELD_CODE])) == NULL)
		return;
	event->start = item->start;
	event->length = item->length;
	event->type = code;
	event->about = about_of(code);
	event->account = name_of(fields[FIELD_ACCOUNT]);
	event->is_foreign =
		account == NULL || strcmp(account, fields[FIELD_ACCOUNT]) != 0;
	event->object_id = name_of(fields[FIELD_MERCHANT_REFERENCE]);
	if (event->about == PSP_EVENT_PAY)
		read_authorisation(json, item, fields, event);
	else if (event->about == PSP_EVENT_DISPUTE)
		read_dispute(fields, event);
	else
		read_modification(json, item, fields, event);
	event->signed_text = join(fields, true);
	event->ambiguous_text = join(fields, false);
	if (strcmp(event->signed_text, event->ambiguous_text) == 0)
		event->ambiguous_text = NULL;
	event->signature =
		json_string(json,
					json_member(json,
								json_member(json, item, "additionalData"),
								"hmacSignature"));
	event->id = psprintf("%s:%s:%s", code, fields[FIELD_PSP_REFERENCE],
						 fields[FIELD_SUCCESS]);
}

static bool
read_notifications(const JsonDocument *json, const JsonNode *items,
				   const char *const *config, PspEvents *events)
{
	int count = 0;

	for (const JsonNode *node = json_first(json, items); node;
		 node = json_next(json, node))
		count++;
	if (count == 0 || count > PSP_EVENTS_MAX)
		return false;
	events_init(events, count);
	count = 0;
	for (const JsonNode *node = json_first(json, items); node;
		 node = json_next(json, node))
	{
		const JsonNode *item =
			json_member(json, node, "NotificationRequestItem");

		if (item && item->type == JSON_OBJECT)
			read_item(json, item, config, &events->events[count]);
		count++;
	}
	return true;
}

/* ---- transfers ---- */

static void
read_transfer(const JsonDocument *json, const JsonNode *data,
			  const char *const *config, const char *status, PspEvent *event)
{
	const char *account =
		member_reference(json, json_member(json, data, "balanceAccount"),
						 "id");

	if (account == NULL)
		account = member_reference(json, data, "balanceAccountId");
	event->about = PSP_EVENT_PAYOUT;
	event->account = account;
	event->is_foreign =
		account && (config[CONFIG_BALANCE_ACCOUNT] == NULL ||
					strcmp(account, config[CONFIG_BALANCE_ACCOUNT]) != 0);
	event->object_id = member_reference(json, data, "reference");
	if (status == NULL)
		return;
	adyen_read_status(json, data, status, &event->outcome);
	event->has_outcome = event->outcome.kind != PSP_UNKNOWN;
}

/* It has no id either, but each change of a transfer has a number. */
static bool
read_platform_event(const JsonDocument *json, const JsonNode *root,
					const char *const *config, PspEvent *event)
{
	const JsonNode *data = json_member(json, root, "data");
	const char	   *status =
		member_text(json, data, "status", PSP_CODE_LENGTH_MAX);
	int64 number;

	event->type = member_reference(json, root, "type");
	event->reference = member_reference(json, data, "id");
	if (event->type == NULL || event->reference == NULL)
		return false;
	event->length = json->length;
	if (json_int64(json, json_member(json, data, "sequenceNumber"), &number))
		event->id = psprintf("%s:%s:" INT64_FORMAT, event->type,
							 event->reference, number);
	else
		event->id = psprintf("%s:%s:%s", event->type, event->reference,
							 status && name_of(status) ? status : "");
	if (strncmp(event->type, "balancePlatform.transfer.", 25) == 0)
		read_transfer(json, data, config, status, event);
	return true;
}

bool
adyen_read_events(const char *body, int length, const char *const *config,
				  PspEvents *events)
{
	JsonDocument	json;
	bool			readable = json_parse(&json, body, length);
	const JsonNode *root = readable ? json_root(&json) : NULL;
	const JsonNode *items =
		readable ? json_member(&json, root, "notificationItems") : NULL;

	if (items)
		readable = read_notifications(&json, items, config, events);
	else if (readable)
	{
		events_init(events, 1);
		readable =
			read_platform_event(&json, root, config, &events->events[0]);
	}
	json_free(&json);
	return readable;
}
