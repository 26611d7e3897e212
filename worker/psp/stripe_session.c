/*-------------------------------------------------------------------------
 *
 * stripe_session.c
 *	  Stripe's hosted page: a Checkout Session in the mode payment.
 *
 * The session is made by one request and then only looked at.  While it is
 * open there is a page to send the payer to, and nothing is known of money.
 * Once it is complete its PaymentIntent tells; that the payer came back proves
 * nothing.  Only the session's own word ends it otherwise.
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

static void
add_names(const PspTask *task, StringInfo body, const char *prefix)
{
	form_add(body, 0, psprintf("%s[payment_order]", prefix), task->object_id);
	form_add(body, 0, psprintf("%s[payment]", prefix), task->payment_id);
	form_add(body, 0, psprintf("%s[attempt]", prefix),
			 psprintf("%d", task->attempt_no));
}

static void
add_item(const PspTask *task, StringInfo body)
{
	char *currency = pstrdup(task->currency);

	for (char *c = currency; *c; c++)
		*c = (char) pg_ascii_tolower((unsigned char) *c);
	form_add(body, 0, "line_items[0][price_data][currency]", currency);
	form_add_int64(body, 0, "line_items[0][price_data][unit_amount]",
				   task->amount);
	form_add(body, 0, "line_items[0][price_data][product_data][name]",
			 task->description && *task->description ? task->description
													 : UNNAMED_ITEM);
	form_add_int64(body, 0, "line_items[0][quantity]", 1);
}

void
stripe_add_session(const PspTask *task, StringInfo body)
{
	form_add(body, 0, "mode", "payment");
	add_item(task, body);
	form_add(body, 0, "success_url", task->success_url);
	form_add(body, 0, "cancel_url", task->cancel_url);
	form_add(body, 0, "locale", task->locale);
	if (task->expires_at_s > 0)
		form_add_int64(body, 0, "expires_at", task->expires_at_s);
	form_add(body, 0, "client_reference_id", task->object_id);
	if (task->capture_method && strcmp(task->capture_method, "manual") == 0)
		form_add(body, 0, "payment_intent_data[capture_method]", "manual");
	form_add(body, 0, "payment_intent_data[description]", task->description);
	form_add(body, 0, "payment_intent_data[transfer_group]", task->payment_id);
	add_names(task, body, "payment_intent_data[metadata]");
	add_names(task, body, "metadata");
}

/* A browser will be sent there: nothing but an address of the web. */
static bool
is_web_address(const char *url)
{
	if (url == NULL || strlen(url) > PSP_URL_LENGTH_MAX ||
		(strncmp(url, "https://", 8) != 0 && strncmp(url, "http://", 7) != 0))
		return false;
	for (const char *c = url; *c; c++)
		if ((unsigned char) *c <= ' ' || (unsigned char) *c >= 0x7F)
			return false;
	return true;
}

/* Nobody is sent to a page that asks for another amount. */
static bool
asks_for_amount(const PspTask *task, const JsonDocument *json,
				const JsonNode *session)
{
	int64 amount;
	char  currency[4];

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

	if (!is_web_address(url) || !asks_for_amount(task, json, session))
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
		  const JsonNode *session)
{
	const JsonNode *intent = json_member(json, session, "payment_intent");

	if (intent == NULL || intent->type != JSON_OBJECT ||
		!member_equals(json, intent, "object", "payment_intent") ||
		!member_equals(json, json_member(json, intent, "metadata"),
					   "payment_order", task->object_id))
		return NULL;
	return intent;
}

static void
read_complete(const PspTask *task, const JsonDocument *json,
			  const JsonNode *session, PspOutcome *outcome)
{
	const JsonNode *intent = intent_of(task, json, session);
	const char	   *status =
		member_text(json, intent, "status", PSP_CODE_LENGTH_MAX);

	outcome->child_reference = member_reference(json, intent, "id");
	if (status == NULL || outcome->child_reference == NULL)
		outcome_unreadable(outcome);
	else
		stripe_read_payment_intent(json, intent, status, outcome);
}

void
stripe_read_session(const PspTask *task, const JsonDocument *json,
					const JsonNode *session, const char *status,
					PspOutcome *outcome)
{
	if (!member_equals(json, session, "mode", "payment"))
		outcome_unreadable(outcome);
	else if (strcmp(status, "open") == 0)
		read_open(task, json, session, outcome);
	else if (strcmp(status, "complete") == 0)
		read_complete(task, json, session, outcome);
	else if (strcmp(status, "expired") == 0)
		outcome_error(outcome, PSP_EXPIRED, "expired",
					  "the hosted page has expired");
	else
		outcome_unknown_status(outcome, status);
}
