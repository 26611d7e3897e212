/*-------------------------------------------------------------------------
 *
 * paypal_order.c
 *	  Payments at PayPal: an order, and its capture.
 *
 * An order is made with a payment method that PayPal has in its vault.  Often
 * that captures it at once; if not, the same conversation goes on with the
 * capture.  Both requests may come any number of times under their ids, which
 * are made of the payment's key.  The invoice's id is the key as well: PayPal
 * takes a second payment of one invoice for an error, and that for longer
 * than it remembers requests.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "psp/form.h"
#include "psp/paypal.h"

#define ORDERS_PATH "/v2/checkout/orders"
#define DESCRIPTION_LENGTH_MAX 127

/* ---- requests ---- */

static void
add_headers(const PspTask *task, const char *token, const char *suffix,
			PspRequest *request)
{
	adapter_header(request, psprintf("Authorization: Bearer %s", token));
	if (suffix == NULL)
		return;
	adapter_header(request, "Content-Type: application/json");
	adapter_header(request, "Prefer: return=representation");
	adapter_header(request,
				   psprintf("PayPal-Request-Id: %s%s", task->psp_key, suffix));
}

/* cut between characters */
static char *
short_description(const char *text)
{
	int length = (int) strlen(text);

	if (length > DESCRIPTION_LENGTH_MAX)
	{
		length = DESCRIPTION_LENGTH_MAX;
		while (length > 0 && ((unsigned char) text[length] & 0xC0) == 0x80)
			length--;
	}
	return pnstrdup(text, length);
}

static bool
build_body(const PspTask *task, StringInfo body, PspOutcome *outcome)
{
	const char *source = task->config[PAYPAL_CONFIG_PAYMENT_SOURCE];
	char		value[32];

	if (!paypal_format_amount(task->amount, task->currency, value,
							  sizeof(value)))
	{
		outcome_error(outcome, PSP_FAILED, "amount_not_representable",
					  psprintf("PayPal takes no such amount of %s",
							   task->currency));
		outcome->decline_class = PSP_DECLINE_NOT_APPLICABLE;
		return false;
	}
	appendStringInfoString(body, "{\"intent\":\"CAPTURE\",\"purchase_units\""
								 ":[{");
	json_append_member(body, "custom_id", task->object_id);
	json_append_member(body, "invoice_id", task->psp_key);
	if (task->description)
		json_append_member(body, "description",
						   short_description(task->description));
	json_append_name(body, "amount");
	appendStringInfo(body, "{\"currency_code\":\"%s\",\"value\":\"%s\"}",
					 task->currency, value);
	appendStringInfoString(body, "}]");
	json_append_name(body, "payment_source");
	appendStringInfoChar(body, '{');
	json_append_name(body, source ? source : "paypal");
	appendStringInfoChar(body, '{');
	json_append_member(body, "vault_id", task->payment_method);
	appendStringInfoString(body, "}}}");
	return true;
}

bool
paypal_build_order(const PspTask *task, const char *base_url,
				   const char *token, PspRequest *request, PspOutcome *outcome)
{
	const char *capture = paypal_cursor_id(task, PAYPAL_CAPTURE);
	const char *show = paypal_cursor_id(task, PAYPAL_SHOW);

	if (task->step == PSP_STEP_LOOKUP)
		show = task->psp_reference;
	adapter_begin(request, show ? "GET" : "POST", base_url, ORDERS_PATH);
	if (show || capture)
	{
		appendStringInfoChar(&request->url, '/');
		form_encode(&request->url, show ? show : capture);
	}
	if (show)
		add_headers(task, token, NULL, request);
	else if (capture)
	{
		appendStringInfoString(&request->url, "/capture");
		add_headers(task, token, ":capture", request);
		appendStringInfoString(&request->body, "{}");
	}
	else
	{
		add_headers(task, token, "", request);
		return build_body(task, &request->body, outcome);
	}
	return true;
}

/* ---- answers ---- */

/* What card networks call not to be tried again is all but these. */
static const char *const soft_responses[] = {
	"0500", /* do not honor */
	"5100", /* declined */
	"5120", /* insufficient funds */
	"9100", /* declined, please retry */
	NULL
};

static void
set_declined(const JsonDocument *json, const JsonNode *capture,
			 PspOutcome *outcome)
{
	const char *response =
		member_text(json, json_member(json, capture, "processor_response"),
					"response_code", 20);
	const char *reason =
		member_text(json, json_member(json, capture, "status_details"),
					"reason", PSP_CODE_LENGTH_MAX);

	outcome_error(outcome, PSP_DECLINED,
				  response ? psprintf("processor_%s", response)
				  : reason ? reason
						   : "declined",
				  "the payment was declined");
	outcome->decline_class = adapter_one_of(response, soft_responses)
								 ? PSP_DECLINE_SOFT
								 : PSP_DECLINE_HARD;
}

/* What the captures of an order come to */
typedef struct Captures
{
	int				count;
	int				moved; /* that money was taken with, given back or not */
	const JsonNode *last_moved;
	bool			waits;
	bool			strange; /* a status that nobody knows */
	const JsonNode *last;
} Captures;

static Captures
count_captures(const JsonDocument *json, const JsonNode *unit)
{
	static const char *const moved[] = { "COMPLETED", "REFUNDED",
										 "PARTIALLY_REFUNDED", NULL };
	static const char *const over[] = { "DECLINED", "FAILED", NULL };
	const JsonNode			*list =
		json_member(json, json_member(json, unit, "payments"), "captures");
	Captures captures = { .count = 0 };

	for (const JsonNode *capture = json_first(json, list); capture;
		 capture = json_next(json, capture))
	{
		const char *status =
			member_text(json, capture, "status", PSP_CODE_LENGTH_MAX);

		captures.count++;
		captures.last = capture;
		if (adapter_one_of(status, moved))
		{
			captures.moved++;
			captures.last_moved = capture;
		}
		else if (status && strcmp(status, "PENDING") == 0)
			captures.waits = true;
		else if (!adapter_one_of(status, over))
			captures.strange = true;
	}
	return captures;
}

static void
judge_captures(const JsonDocument *json, const Captures *captures,
			   PspOutcome *outcome)
{
	if (captures->strange || captures->moved > 1)
		outcome_unreadable(outcome);
	else if (captures->moved == 1)
	{
		outcome->kind = PSP_SUCCEEDED;
		if (!paypal_read_money(json,
							   json_member(json, captures->last_moved,
										   "amount"),
							   "currency_code", outcome))
			outcome_unreadable(outcome);
	}
	else if (captures->waits)
		outcome->kind = PSP_PENDING;
	else
		set_declined(json, captures->last, outcome);
}

/* An order that nothing has been taken for yet */
static void
judge_status(const PspTask *task, const char *status, PspOutcome *outcome)
{
	static const char *const capturable[] = { "APPROVED", "CREATED", "SAVED",
											  NULL };
	bool may_capture = task->step == PSP_STEP_SEND && task->cursor == NULL;

	if (adapter_one_of(status, capturable) && may_capture)
	{
		outcome->kind = PSP_MORE;
		outcome->cursor = psprintf(PAYPAL_CAPTURE "%s", outcome->reference);
	}
	else if (strcmp(status, "PAYER_ACTION_REQUIRED") == 0)
	{
		outcome_error(outcome, PSP_DECLINED, "authentication_required",
					  "the payer would have to approve it");
		outcome->decline_class = PSP_DECLINE_AUTHENTICATION_REQUIRED;
	}
	else if (strcmp(status, "VOIDED") == 0)
	{
		outcome_error(outcome, PSP_FAILED, "voided",
					  "the order was voided at PayPal");
		outcome->decline_class = PSP_DECLINE_NOT_APPLICABLE;
	}
	else if (strcmp(status, "PENDING_APPROVAL") == 0)
		outcome->kind = PSP_PENDING;
	else
		outcome_unknown_status(outcome, status);
}

/* Both of the order's parts may name what it is for; none may name another. */
static bool
names_order(const PspTask *task, const JsonDocument *json,
			const JsonNode *unit, const JsonNode *capture)
{
	const JsonNode *of_unit = json_member(json, unit, "custom_id");
	const JsonNode *of_capture = json_member(json, capture, "custom_id");

	if (of_unit && !member_equals(json, unit, "custom_id", task->object_id))
		return false;
	if (of_capture &&
		!member_equals(json, capture, "custom_id", task->object_id))
		return false;
	return of_unit != NULL || of_capture != NULL;
}

/* ... and each attempt has an invoice of its own. */
static bool
is_this_attempt(const PspTask *task, const JsonDocument *json,
				const JsonNode *unit)
{
	return json_member(json, unit, "invoice_id") == NULL ||
		   member_equals(json, unit, "invoice_id", task->psp_key);
}

void
paypal_read_order(const PspTask *task, const JsonDocument *json,
				  PspOutcome *outcome)
{
	const JsonNode *root = json_root(json);
	const JsonNode *units = json_member(json, root, "purchase_units");
	const JsonNode *unit = json_first(json, units);
	const char	   *id = paypal_id(json, root, "id");
	const char	   *status =
		member_text(json, root, "status", PSP_CODE_LENGTH_MAX);
	const char *asked = paypal_cursor_id(task, PAYPAL_CAPTURE);
	Captures	captures;

	if (asked == NULL)
		asked = paypal_cursor_id(task, PAYPAL_SHOW);
	if (task->step == PSP_STEP_LOOKUP)
		asked = task->psp_reference;
	if (id == NULL || status == NULL || unit == NULL ||
		json_next(json, unit) != NULL || (asked && strcmp(asked, id) != 0))
	{
		outcome_unreadable(outcome);
		return;
	}
	captures = count_captures(json, unit);
	if (!names_order(task, json, unit, captures.last) ||
		!is_this_attempt(task, json, unit))
	{
		outcome_unreadable(outcome);
		return;
	}
	outcome->reference = id;
	if (captures.count > 0)
		judge_captures(json, &captures, outcome);
	else
		judge_status(task, status, outcome);
}
