/*-------------------------------------------------------------------------
 *
 * paypal_event.c
 *	  PayPal's webhooks: one event a body, about a capture, a payout item, ...
 *
 * Captures and payout items carry what our request called them; the names
 * that PayPal gave our order and batch are beside it.
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

/* The key, which says whether it is a capture of an authorization. */
static void
read_invoice(const char *key, PspEvent *event)
{
	event->attempt_no = attempt_of_key(key);
	if (event->attempt_no > 0 && key_is_of(key, PSP_OPERATION_CAPTURE))
		event->about = PSP_EVENT_CAPTURE;
}

static void
read_capture(const JsonDocument *json, const JsonNode *resource,
			 PspEvent *event)
{
	PspOutcome *outcome = &event->outcome;

	event->object_id = member_reference(json, resource, "custom_id");
	read_invoice(member_reference(json, resource, "invoice_id"), event);
	event->reference =
		paypal_id(json, related_ids(json, resource), "order_id");
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

static void
read_refund(const JsonDocument *json, const JsonNode *resource,
			PspEvent *event)
{
	event->reference = paypal_id(json, resource, "id");
	event->parent_reference =
		paypal_id(json, related_ids(json, resource), "order_id");
	(void) paypal_read_money(json, json_member(json, resource, "amount"),
							 "currency_code", &event->outcome);
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
			read_capture(json, resource, event);
			break;
		case PSP_EVENT_PAYOUT:
			read_payout_item(json, resource, event);
			break;
		case PSP_EVENT_REFUND:
			read_refund(json, resource, event);
			break;
		case PSP_EVENT_DISPUTE:
			event->reference = paypal_id(json, resource, "dispute_id");
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
