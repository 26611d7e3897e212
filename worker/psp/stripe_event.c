/*-------------------------------------------------------------------------
 *
 * stripe_event.c
 *	  Stripe's webhooks: one event a body, with the object as it was then.
 *
 * An event says something of the outcome only when its type and the object's
 * status agree; of any other it is known what it is about, and no more.  Our
 * requests put our id into the metadata, and Stripe copies those of a
 * PaymentIntent into its charges.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "psp/stripe.h"

/* Types begin with a word that says what they are about. */
static const struct
{
	const char	 *prefix;
	PspEventAbout about;
} subjects[] = {
	{ "payment_intent.", PSP_EVENT_PAY },
	{ "charge.dispute.", PSP_EVENT_DISPUTE },
	{ "charge.refunded", PSP_EVENT_OTHER }, /* the refund's own events tell */
	{ "charge.refund.", PSP_EVENT_REFUND },
	{ "charge.", PSP_EVENT_PAY },
	{ "refund.", PSP_EVENT_REFUND },
	{ "payout.", PSP_EVENT_PAYOUT },
	{ "checkout.session.", PSP_EVENT_SESSION },
};

/* the status that an object has when the event says something */
typedef struct TypeStatus
{
	const char *type;
	const char *status;
} TypeStatus;

static const TypeStatus payment_intent_types[] = {
	{ "payment_intent.succeeded", "succeeded" },
	{ "payment_intent.payment_failed", "requires_payment_method" },
	{ "payment_intent.canceled", "canceled" },
	{ "payment_intent.processing", "processing" },
	{ "payment_intent.amount_capturable_updated", "requires_capture" },
	{ NULL, NULL },
};

static const TypeStatus payout_types[] = {
	{ "payout.created", "pending" },   { "payout.created", "in_transit" },
	{ "payout.updated", "pending" },   { "payout.updated", "in_transit" },
	{ "payout.paid", "paid" },		   { "payout.failed", "failed" },
	{ "payout.canceled", "canceled" }, { NULL, NULL },
};

static const TypeStatus refund_types[] = {
	{ "refund.created", "pending" },
	{ "refund.created", "succeeded" },
	{ "refund.created", "requires_action" },
	{ "refund.updated", "pending" },
	{ "refund.updated", "succeeded" },
	{ "refund.updated", "requires_action" },
	{ "refund.updated", "canceled" },
	{ "refund.updated", "failed" },
	{ "refund.failed", "failed" },
	{ "charge.refund.updated", "pending" },
	{ "charge.refund.updated", "succeeded" },
	{ "charge.refund.updated", "requires_action" },
	{ "charge.refund.updated", "canceled" },
	{ "charge.refund.updated", "failed" },
	{ NULL, NULL },
};

static bool
agree(const TypeStatus *types, const char *type, const char *status)
{
	for (; types->type; types++)
		if (strcmp(types->type, type) == 0 &&
			strcmp(types->status, status) == 0)
			return true;
	return false;
}

static PspEventAbout
about_of(const char *type)
{
	for (int i = 0; i < (int) lengthof(subjects); i++)
		if (strncmp(type, subjects[i].prefix, strlen(subjects[i].prefix)) == 0)
			return subjects[i].about;
	return PSP_EVENT_OTHER;
}

/* A number from 1, 0 when the text is none. */
static int
small_number(const char *text)
{
	int number = 0;

	if (text == NULL || strlen(text) > 9)
		return 0;
	for (; *text; text++)
	{
		if (*text < '0' || *text > '9')
			return 0;
		number = number * 10 + *text - '0';
	}
	return number;
}

static void
read_names(const JsonDocument *json, const JsonNode *object, const char *name,
		   PspEvent *event)
{
	const JsonNode *metadata = json_member(json, object, "metadata");

	event->object_id = member_reference(json, metadata, name);
	event->attempt_no =
		small_number(member_text(json, metadata, "attempt", 20));
}

/*
 * A charge's own success is the payment's, under the payment's name.  That it
 * failed is not: the payment may go on.
 */
static void
read_charge(const JsonDocument *json, const JsonNode *object, PspEvent *event)
{
	event->reference = member_reference(json, object, "payment_intent");
	if (strcmp(event->type, "charge.expired") == 0 &&
		event->reference != NULL &&
		member_equals(json, object, "object", "charge") &&
		!json_is_true(json_member(json, object, "captured")))
	{
		outcome_error(&event->outcome, PSP_EXPIRED, "expired",
					  "the authorization has expired");
		event->has_outcome = true;
		return;
	}
	if ((strcmp(event->type, "charge.succeeded") != 0 &&
		 strcmp(event->type, "charge.captured") != 0) ||
		event->reference == NULL ||
		!member_equals(json, object, "object", "charge") ||
		!member_equals(json, object, "status", "succeeded") ||
		!json_is_true(json_member(json, object, "captured")))
		return;
	event->has_outcome =
		stripe_read_money(json, object, "amount_captured", &event->outcome);
	event->outcome.kind = PSP_SUCCEEDED;
}

static void
read_pay(const JsonDocument *json, const JsonNode *object, PspEvent *event)
{
	const char *status =
		member_text(json, object, "status", PSP_CODE_LENGTH_MAX);

	read_names(json, object, "payment_order", event);
	if (strncmp(event->type, "charge.", 7) == 0)
	{
		read_charge(json, object, event);
		return;
	}
	event->reference = member_reference(json, object, "id");
	if (status == NULL || event->reference == NULL ||
		!member_equals(json, object, "object", "payment_intent") ||
		!agree(payment_intent_types, event->type, status))
		return;
	stripe_read_payment_intent(json, object, status, &event->outcome);
	event->has_outcome = event->outcome.kind != PSP_UNKNOWN;
}

static void
read_payout(const JsonDocument *json, const JsonNode *object, PspEvent *event)
{
	const char *status =
		member_text(json, object, "status", PSP_CODE_LENGTH_MAX);

	read_names(json, object, "payout", event);
	event->reference = member_reference(json, object, "id");
	if (status == NULL || event->reference == NULL ||
		!member_equals(json, object, "object", "payout") ||
		!agree(payout_types, event->type, status))
		return;
	stripe_read_payout(json, object, status, &event->outcome);
	event->has_outcome = event->outcome.kind != PSP_UNKNOWN;
}

static void
read_refund(const JsonDocument *json, const JsonNode *object, PspEvent *event)
{
	const char *status =
		member_text(json, object, "status", PSP_CODE_LENGTH_MAX);

	event->reference = member_reference(json, object, "id");
	event->parent_reference = member_reference(json, object, "payment_intent");
	read_names(json, object, "refund", event);
	if (status == NULL || !member_equals(json, object, "object", "refund") ||
		!agree(refund_types, event->type, status) ||
		!stripe_read_money(json, object, "amount", &event->outcome))
		return;
	event->has_outcome = true;
	if (strcmp(status, "succeeded") == 0)
		event->outcome.kind = PSP_SUCCEEDED;
	else if (strcmp(status, "pending") == 0)
		event->outcome.kind = PSP_PENDING;
	else if (strcmp(status, "requires_action") == 0)
		event->outcome.kind = PSP_REQUIRES_ACTION;
	else
	{
		const char *reason =
			member_text(json, object, "failure_reason", PSP_CODE_LENGTH_MAX);

		outcome_error(&event->outcome, PSP_FAILED, reason ? reason : status,
					  NULL);
	}
}

static void
read_dispute(const JsonDocument *json, const JsonNode *object, PspEvent *event)
{
	event->reference = member_reference(json, object, "id");
	event->parent_reference = member_reference(json, object, "payment_intent");
	if (event->reference == NULL ||
		!member_equals(json, object, "object", "dispute") ||
		!stripe_read_money(json, object, "amount", &event->outcome))
		return;
	stripe_read_dispute(json, object, event);
}

static void
read_session(const JsonDocument *json, const JsonNode *object, PspEvent *event)
{
	event->reference = member_reference(json, object, "id");
	event->parent_reference = member_reference(json, object, "payment_intent");
	event->object_id = member_reference(json, object, "client_reference_id");
}

static void
read_object(const JsonDocument *json, const JsonNode *object, PspEvent *event)
{
	switch (event->about)
	{
		case PSP_EVENT_PAY:
			read_pay(json, object, event);
			break;
		case PSP_EVENT_PAYOUT:
			read_payout(json, object, event);
			break;
		case PSP_EVENT_REFUND:
			read_refund(json, object, event);
			break;
		case PSP_EVENT_DISPUTE:
			read_dispute(json, object, event);
			break;
		case PSP_EVENT_SESSION:
			read_session(json, object, event);
			break;
		case PSP_EVENT_CAPTURE:
		case PSP_EVENT_VOID:
		case PSP_EVENT_OTHER:
			break;
	}
	stripe_set_decline_class(&event->outcome);
}

/* What happened in a connected account is none of our orders' business. */
static bool
read_event(const JsonDocument *json, PspEvent *event)
{
	const JsonNode *root = json_root(json);
	const JsonNode *object =
		json_member(json, json_member(json, root, "data"), "object");

	if (!member_equals(json, root, "object", "event"))
		return false;
	event->id = member_reference(json, root, "id");
	event->type = member_reference(json, root, "type");
	if (event->id == NULL || event->type == NULL || object == NULL ||
		object->type != JSON_OBJECT)
		return false;
	if (!json_int64(json, json_member(json, root, "created"),
					&event->sent_at_s))
		event->sent_at_s = 0;
	event->account = member_reference(json, root, "account");
	event->is_foreign = json_member(json, root, "account") != NULL;
	event->about = about_of(event->type);
	event->length = json->length;
	read_object(json, object, event);
	return true;
}

bool
stripe_read_events(const char *body, int length,
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
