/*-------------------------------------------------------------------------
 *
 * paypal_event.c
 *	  PayPal's webhooks: one event a body, about a capture, a payout item, ...
 *
 * Captures, refunds and payout items carry what our request called them; the
 * names that PayPal gave our order and batch are beside it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "psp/paypal.h"

/* longer prefixes first */
static const struct
{
	const char	 *prefix;
	PspEventAbout about;
} subjects[] = {
	{ "PAYMENT.CAPTURE.REFUNDED", PSP_EVENT_REFUND },
	{ "PAYMENT.CAPTURE.REVERSED", PSP_EVENT_REFUND },
	{ "PAYMENT.CAPTURE.", PSP_EVENT_PAY },
	{ "PAYMENT.AUTHORIZATION.", PSP_EVENT_PAY },
	{ "PAYMENT.REFUND.", PSP_EVENT_REFUND },
	{ "PAYMENT.PAYOUTS-ITEM.", PSP_EVENT_PAYOUT },
	{ "CUSTOMER.DISPUTE.", PSP_EVENT_DISPUTE },
	{ "CHECKOUT.ORDER.", PSP_EVENT_SESSION },
};

static PspEventAbout
about_of(const char *type)
{
	for (int i = 0; i < (int) lengthof(subjects); i++)
		if (strncmp(type, subjects[i].prefix, strlen(subjects[i].prefix)) == 0)
			return subjects[i].about;
	return PSP_EVENT_OTHER;
}

static const JsonNode *
related_ids(const JsonDocument *json, const JsonNode *resource)
{
	return json_member(json, json_member(json, resource, "supplementary_data"),
					   "related_ids");
}

/*
 * What an authorization is captured of is told capture by capture: each is
 * evidence of its own amount.  Ours are known by the key.  One that people made
 * at PayPal goes by a name of its own, so that it is taken for none of ours.
 */
static void
read_capture_names(const JsonDocument *json, const JsonNode *resource,
				   PspEvent *event)
{
	const JsonNode *related = related_ids(json, resource);
	const char	   *key = member_reference(json, resource, "invoice_id");

	event->object_id = member_reference(json, resource, "custom_id");
	event->attempt_no = attempt_of_key(key);
	event->reference = paypal_id(json, related, "order_id");
	if (event->attempt_no > 0 && key_is_of(key, PSP_OPERATION_CAPTURE))
		event->about = PSP_EVENT_CAPTURE;
	else if (json_member(json, related, "authorization_id"))
	{
		event->about = PSP_EVENT_CAPTURE;
		event->attempt_no = 0;
		event->parent_reference = event->reference;
		if (event->object_id)
			event->reference = paypal_id(json, resource, "id");
	}
}

static void
read_capture(const JsonDocument *json, const JsonNode *resource,
			 PspEvent *event)
{
	PspOutcome *outcome = &event->outcome;

	read_capture_names(json, resource, event);
	if (strcmp(event->type, "PAYMENT.CAPTURE.COMPLETED") == 0 &&
		member_equals(json, resource, "status", "COMPLETED"))
	{
		outcome->kind = PSP_SUCCEEDED;
		event->has_outcome =
			paypal_read_money(json, json_member(json, resource, "amount"),
							  "currency_code", outcome);
	}
	else if (strcmp(event->type, "PAYMENT.CAPTURE.PENDING") == 0 &&
			 member_equals(json, resource, "status", "PENDING"))
	{
		outcome->kind = PSP_PENDING;
		event->has_outcome = true;
	}
	else if ((strcmp(event->type, "PAYMENT.CAPTURE.DENIED") == 0 ||
			  strcmp(event->type, "PAYMENT.CAPTURE.DECLINED") == 0) &&
			 (member_equals(json, resource, "status", "DECLINED") ||
			  member_equals(json, resource, "status", "DENIED")))
	{
		outcome_error(outcome, PSP_DECLINED, "declined",
					  "the payment was declined");
		outcome->decline_class = PSP_DECLINE_HARD;
		event->has_outcome = true;
	}
}

/*
 * That it was made is the answer's to say, with what a capture needs.  That it
 * is gone, by time or by people, is told here alone.
 */
static void
read_authorization(const JsonDocument *json, const JsonNode *resource,
				   PspEvent *event)
{
	event->object_id = member_reference(json, resource, "custom_id");
	event->reference =
		paypal_id(json, related_ids(json, resource), "order_id");
	if (strcmp(event->type, "PAYMENT.AUTHORIZATION.VOIDED") != 0)
		return;
	event->has_outcome = true;
	if (member_equals(json, resource, "status", "VOIDED"))
		outcome_error(&event->outcome, PSP_VOIDED, "voided",
					  "the authorization was voided at PayPal");
	else if (member_equals(json, resource, "status", "EXPIRED"))
		outcome_error(&event->outcome, PSP_EXPIRED, "expired",
					  "the authorization has expired");
	else
		event->has_outcome = false;
}

static void
read_payment(const JsonDocument *json, const JsonNode *resource,
			 PspEvent *event)
{
	if (strncmp(event->type, "PAYMENT.AUTHORIZATION.", 22) == 0)
		read_authorization(json, resource, event);
	else
		read_capture(json, resource, event);
}

static void
read_payout_item(const JsonDocument *json, const JsonNode *resource,
				 PspEvent *event)
{
	const JsonNode *item = json_member(json, resource, "payout_item");

	event->object_id = member_reference(json, item, "sender_item_id");
	event->reference = paypal_id(json, resource, "payout_batch_id");
	event->attempt_no =
		attempt_of_key(member_reference(json, resource, "sender_batch_id"));
	paypal_read_item(json, resource, &event->outcome);
	event->has_outcome = event->outcome.kind != PSP_UNKNOWN;
}

/* the statuses that a refund has when the event says something */
static const struct
{
	const char *type;
	const char *status;
} refund_types[] = {
	{ "PAYMENT.CAPTURE.REFUNDED", "COMPLETED" },
	{ "PAYMENT.REFUND.PENDING", "PENDING" },
	{ "PAYMENT.REFUND.FAILED", "FAILED" },
	{ "PAYMENT.REFUND.FAILED", "CANCELLED" },
};

/* One that we asked for carries its own id; any other is told without. */
static void
read_refund(const JsonDocument *json, const JsonNode *resource,
			PspEvent *event)
{
	const char *key = member_reference(json, resource, "invoice_id");

	event->reference = paypal_id(json, resource, "id");
	event->parent_reference =
		paypal_id(json, related_ids(json, resource), "order_id");
	(void) paypal_read_money(json, json_member(json, resource, "amount"),
							 "currency_code", &event->outcome);
	for (int i = 0; i < (int) lengthof(refund_types); i++)
	{
		if (strcmp(event->type, refund_types[i].type) != 0 ||
			!member_equals(json, resource, "status", refund_types[i].status))
			continue;
		event->object_id = member_reference(json, resource, "custom_id");
		if (key_is_of(key, PSP_OPERATION_REFUND))
			event->attempt_no = attempt_of_key(key);
		paypal_judge_refund(json, resource, refund_types[i].status,
							&event->outcome);
		event->has_outcome = event->outcome.kind != PSP_UNKNOWN;
	}
}

/* Its stages are ours, in capitals. */
static const char *
dispute_stage(const JsonDocument *json, const JsonNode *resource)
{
	static const struct
	{
		const char *name;
		const char *stage;
	} stages[] = { { "INQUIRY", "inquiry" },
				   { "CHARGEBACK", "chargeback" },
				   { "PRE_ARBITRATION", "pre_arbitration" },
				   { "ARBITRATION", "arbitration" } };

	for (int i = 0; i < (int) lengthof(stages); i++)
		if (member_equals(json, resource, "dispute_life_cycle_stage",
						  stages[i].name))
			return stages[i].stage;
	return NULL;
}

static const char *
dispute_status(const JsonDocument *json, const JsonNode *resource)
{
	static const struct
	{
		const char *name;
		const char *status;
	} outcomes[] = { { "RESOLVED_BUYER_FAVOUR", "lost" },
					 { "RESOLVED_WITH_PAYOUT", "won" },
					 { "RESOLVED_SELLER_FAVOUR", "won" },
					 { "CANCELED_BY_BUYER", "withdrawn" },
					 { "ACCEPTED", "lost" },
					 { "DENIED", "won" } };
	const JsonNode *outcome = json_member(json, resource, "dispute_outcome");

	if (member_equals(json, resource, "status", "UNDER_REVIEW"))
		return "challenged";
	if (!member_equals(json, resource, "status", "RESOLVED"))
		return "open";
	for (int i = 0; i < (int) lengthof(outcomes); i++)
		if (member_equals(json, outcome, "outcome_code", outcomes[i].name))
			return outcomes[i].status;
	return NULL;
}

/*
 * From the chargeback on PayPal holds the money, until it is resolved for the
 * seller.  The payment is named by its capture.
 */
static void
read_dispute(const JsonDocument *json, const JsonNode *resource,
			 PspEvent *event)
{
	PspDispute	   *dispute = &event->dispute;
	const JsonNode *payment =
		json_first(json, json_member(json, resource, "disputed_transactions"));
	const char *stage = dispute_stage(json, resource);
	const char *status = dispute_status(json, resource);

	event->reference = paypal_id(json, resource, "dispute_id");
	event->parent_reference =
		paypal_id(json, payment, "seller_transaction_id");
	if (event->reference == NULL || stage == NULL || status == NULL ||
		!paypal_read_money(json, json_member(json, resource, "dispute_amount"),
						   "currency_code", &event->outcome))
		return;
	dispute->stage = stage;
	dispute->status = status;
	if (strcmp(status, "won") == 0 || strcmp(status, "withdrawn") == 0)
		dispute->money = PSP_DISPUTE_RETURNED;
	else if (strcmp(stage, "inquiry") != 0 || strcmp(status, "lost") == 0)
		dispute->money = PSP_DISPUTE_TAKEN;
	dispute->reason =
		member_text(json, resource, "reason", PSP_CODE_LENGTH_MAX);
	dispute->respond_by_s =
		member_time(json, resource, "seller_response_due_date");
	dispute->sequence = member_time(json, resource, "update_time");
}

static bool
read_event(const JsonDocument *json, PspEvent *event)
{
	const JsonNode *root = json_root(json);
	const JsonNode *resource = json_member(json, root, "resource");

	event->id = member_reference(json, root, "id");
	event->type = member_reference(json, root, "event_type");
	if (event->id == NULL || event->type == NULL || resource == NULL ||
		resource->type != JSON_OBJECT)
		return false;
	event->length = json->length;
	event->about = about_of(event->type);
	switch (event->about)
	{
		case PSP_EVENT_PAY:
			read_payment(json, resource, event);
			break;
		case PSP_EVENT_PAYOUT:
			read_payout_item(json, resource, event);
			break;
		case PSP_EVENT_REFUND:
			read_refund(json, resource, event);
			break;
		case PSP_EVENT_DISPUTE:
			read_dispute(json, resource, event);
			break;
		case PSP_EVENT_SESSION:
			event->reference = paypal_id(json, resource, "id");
			break;
		case PSP_EVENT_CAPTURE:
		case PSP_EVENT_VOID:
		case PSP_EVENT_OTHER:
			break;
	}
	return true;
}

bool
paypal_read_events(const char *body, int length,
				   const char *const *config pg_attribute_unused(),
				   PspEvents				*events)
{
	JsonDocument json;
	bool		 readable = json_parse(&json, body, length);

	events_init(events, 1);
	readable = readable && read_event(&json, &events->events[0]);
	json_free(&json);
	return readable;
}
