/*-------------------------------------------------------------------------
 *
 * stripe_session.c
 *	  Stripe's hosted page: a Checkout Session.
 *
 * The session is made by one request and then only looked at.  While it is
 * open there is a page to send the payer to, and nothing is known of money.
 * Once it is complete its PaymentIntent tells; that the payer came back proves
 * nothing.  Only the session's own word ends it otherwise.
 *
 * A PaymentIntent is one charge.  Where several orders are to be charged the
 * session is in the mode setup: it keeps the payer's card for a customer that
 * it makes, and moves no money.  Both together, "cus_1/pm_1", are what the
 * orders are paid with.
 *
 * Our id is in the metadata of the session and of the PaymentIntent, so that
 * webhooks and lookups of the intent find the order as for any other payment.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "psp/form.h"
#include "psp/stripe.h"

/* what the payer sees when the order has no description */
#define UNNAMED_ITEM "Payment"

static const char *
mode_of(const PspTask *task)
{
	return task->setup ? "setup" : "payment";
}

static void
add_names(const PspTask *task, StringInfo body, const char *prefix)
{
	form_add(body, 0, psprintf("%s[payment_order]", prefix), task->object_id);
	form_add(body, 0, psprintf("%s[payment]", prefix), task->payment_id);
	form_add(body, 0, psprintf("%s[attempt]", prefix),
			 psprintf("%d", task->attempt_no));
}

static void
add_currency(const PspTask *task, StringInfo body, const char *name)
{
	char *currency = pstrdup(task->currency);

	for (char *c = currency; *c; c++)
		*c = (char) pg_ascii_tolower((unsigned char) *c);
	form_add(body, 0, name, currency);
}

static void
add_item(const PspTask *task, StringInfo body)
{
	add_currency(task, body, "line_items[0][price_data][currency]");
	form_add_int64(body, 0, "line_items[0][price_data][unit_amount]",
				   task->amount);
	form_add(body, 0, "line_items[0][price_data][product_data][name]",
			 task->description && *task->description ? task->description
													 : UNNAMED_ITEM);
	form_add_int64(body, 0, "line_items[0][quantity]", 1);
}

/* What makes the charge, once the payer has paid */
static void
add_intent(const PspTask *task, StringInfo body)
{
	if (task->capture_method && strcmp(task->capture_method, "manual") == 0)
		form_add(body, 0, "payment_intent_data[capture_method]", "manual");
	form_add(body, 0, "payment_intent_data[description]", task->description);
	form_add(body, 0, "payment_intent_data[transfer_group]", task->payment_id);
	add_names(task, body, "payment_intent_data[metadata]");
}

/* What keeps the payment method */
static void
add_setup(const PspTask *task, StringInfo body)
{
	add_currency(task, body, "currency");
	form_add(body, 0, "customer_creation", "always");
	add_names(task, body, "setup_intent_data[metadata]");
}

void
stripe_add_session(const PspTask *task, StringInfo body)
{
	form_add(body, 0, "mode", mode_of(task));
	if (!task->setup)
		add_item(task, body);
	form_add(body, 0, "success_url", task->success_url);
	form_add(body, 0, "cancel_url", task->cancel_url);
	form_add(body, 0, "locale", task->locale);
	if (task->expires_at_s > 0)
		form_add_int64(body, 0, "expires_at", task->expires_at_s);
	form_add(body, 0, "client_reference_id", task->object_id);
	if (task->setup)
		add_setup(task, body);
	else
		add_intent(task, body);
	add_names(task, body, "metadata");
}

/* Nobody is sent to a page that asks for another amount. */
static bool
asks_for_amount(const PspTask *task, const JsonDocument *json,
				const JsonNode *session)
{
	int64 amount;
	char  currency[4];

	if (task->setup)
		return true; /* for none */
	return json_int64(json, json_member(json, session, "amount_total"),
					  &amount) &&
		   amount == task->amount &&
		   member_currency(json, session, "currency", currency) &&
		   strcmp(currency, task->currency) == 0;
}

static void
read_open(const PspTask *task, const JsonDocument *json,
		  const JsonNode *session, PspOutcome *outcome)
{
	const char *url = json_string(json, json_member(json, session, "url"));
	int64		until_s;

	if (task->operation == PSP_OPERATION_CLOSE)
	{
		/* right after it was to be closed, that is no answer */
		outcome_error(outcome,
					  task->step == PSP_STEP_LOOKUP ? PSP_NOT_FOUND
													: PSP_UNKNOWN,
					  "still_open", "the hosted page is still open");
		return;
	}
	if (!is_page_address(url) || !asks_for_amount(task, json, session))
	{
		outcome_unreadable(outcome);
		return;
	}
	outcome->kind = PSP_REQUIRES_ACTION;
	outcome->hosted_url = url;
	if (json_int64(json, json_member(json, session, "expires_at"), &until_s) &&
		until_s > 0)
		outcome->hosted_until_s = until_s;
}

/* The intent that it made, if that is shown and is ours. */
static const JsonNode *
intent_of(const PspTask *task, const JsonDocument *json,
		  const JsonNode *session, const char *type)
{
	const JsonNode *intent = json_member(json, session, type);

	if (intent == NULL || intent->type != JSON_OBJECT ||
		!member_equals(json, intent, "object", type) ||
		!member_equals(json, json_member(json, intent, "metadata"),
					   "payment_order", task->object_id))
		return NULL;
	return intent;
}

static void
read_paid(const PspTask *task, const JsonDocument *json,
		  const JsonNode *session, PspOutcome *outcome)
{
	const JsonNode *intent = intent_of(task, json, session, "payment_intent");
	const char	   *status =
		member_text(json, intent, "status", PSP_CODE_LENGTH_MAX);

	outcome->child_reference = member_reference(json, intent, "id");
	if (status == NULL || outcome->child_reference == NULL)
		outcome_unreadable(outcome);
	else
		stripe_read_payment_intent(json, intent, status, outcome);
}

/*
 * The card is known to work, and whom it is kept for.  What takes its time to
 * be set up is looked at again.
 */
static void
read_kept(const PspTask *task, const JsonDocument *json,
		  const JsonNode *session, PspOutcome *outcome)
{
	const JsonNode *intent = intent_of(task, json, session, "setup_intent");
	const char	   *status =
		member_text(json, intent, "status", PSP_CODE_LENGTH_MAX);
	const char *customer = member_reference(json, session, "customer");
	const char *method = member_reference(json, intent, "payment_method");
	char	   *both;

	if (status && strcmp(status, "succeeded") != 0)
	{
		outcome_unknown_status(outcome, status);
		return;
	}
	if (status == NULL || customer == NULL || method == NULL ||
		strchr(customer, '/') || strchr(method, '/'))
	{
		outcome_unreadable(outcome);
		return;
	}
	both = psprintf("%s/%s", customer, method);
	if (strlen(both) > PSP_REFERENCE_LENGTH_MAX)
	{
		outcome_unreadable(outcome);
		return;
	}
	outcome->kind = PSP_TOKENIZED;
	outcome->payment_method = both;
}

void
stripe_read_session(const PspTask *task, const JsonDocument *json,
					const JsonNode *session, const char *status,
					PspOutcome *outcome)
{
	if (!member_equals(json, session, "mode", mode_of(task)))
		outcome_unreadable(outcome);
	else if (strcmp(status, "open") == 0)
		read_open(task, json, session, outcome);
	else if (strcmp(status, "complete") == 0 && task->setup)
		read_kept(task, json, session, outcome);
	else if (strcmp(status, "complete") == 0)
		read_paid(task, json, session, outcome);
	else if (strcmp(status, "expired") == 0)
		outcome_error(outcome, PSP_EXPIRED, "expired",
					  "the hosted page has expired");
	else
		outcome_unknown_status(outcome, status);
}
