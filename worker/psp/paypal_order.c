/*-------------------------------------------------------------------------
 *
 * paypal_order.c
 *	  Payments at PayPal: an order, and its capture or authorization.
 *
 * An order is made with a payment method that PayPal has in its vault.  Often
 * that captures or authorizes it at once; if not, the same conversation goes on
 * with a request for that.  Both requests may come any number of times under their ids, which
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

void
paypal_add_headers(const PspTask *task, const char *token, const char *suffix,
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

bool
paypal_add_amount(const PspTask *task, StringInfo body, PspOutcome *outcome)
{
	char value[32];

	if (!paypal_format_amount(task->amount, task->currency, value,
							  sizeof(value)))
	{
		outcome_failed(outcome, "amount_not_representable",
					   psprintf("PayPal takes no such amount of %s",
								task->currency));
		return false;
	}
	json_append_name(body, "amount");
	appendStringInfo(body, "{\"currency_code\":\"%s\",\"value\":\"%s\"}",
					 task->currency, value);
	return true;
}

static bool
build_body(const PspTask *task, StringInfo body, PspOutcome *outcome)
{
	const char *source = task->config[PAYPAL_CONFIG_PAYMENT_SOURCE];

	appendStringInfo(body, "{\"intent\":\"%s\",\"purchase_units\":[{",
					 is_manual(task) ? "AUTHORIZE" : "CAPTURE");
	json_append_member(body, "custom_id", task->object_id);
	json_append_member(body, "invoice_id", task->psp_key);
	if (task->description)
		json_append_member(body, "description",
						   short_description(task->description));
	if (!paypal_add_amount(task, body, outcome))
		return false;
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
	const char *authorize = paypal_cursor_id(task, PAYPAL_AUTHORIZE);
	const char *show = paypal_cursor_id(task, PAYPAL_SHOW);

	if (task->step == PSP_STEP_LOOKUP)
		show = task->psp_reference;
	adapter_begin(request, show ? "GET" : "POST", base_url, ORDERS_PATH);
	if (show || capture || authorize)
	{
		appendStringInfoChar(&request->url, '/');
		form_encode(&request->url, show		 ? show
								   : capture ? capture
											 : authorize);
	}
	if (show)
		paypal_add_headers(task, token, NULL, request);
	else if (capture || authorize)
	{
		appendStringInfoString(&request->url,
							   capture ? "/capture" : "/authorize");
		paypal_add_headers(task, token, capture ? ":capture" : ":authorize",
						   request);
		appendStringInfoString(&request->body, "{}");
	}
	else
	{
		paypal_add_headers(task, token, "", request);
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

typedef enum Standing
{
	STANDING_MOVED, /* money was taken, whether it was given back or not */
	STANDING_HELD,	/* reserved */
	STANDING_WAITS,
	STANDING_OVER,
	STANDING_VOIDED,
	STANDING_EXPIRED,
	STANDING_STRANGE
} Standing;

static Standing
standing_of_capture(const char *status)
{
	static const char *const moved[] = { "COMPLETED", "REFUNDED",
										 "PARTIALLY_REFUNDED", NULL };
	static const char *const over[] = { "DECLINED", "FAILED", NULL };

	if (adapter_one_of(status, moved))
		return STANDING_MOVED;
	if (status && strcmp(status, "PENDING") == 0)
		return STANDING_WAITS;
	return adapter_one_of(status, over) ? STANDING_OVER : STANDING_STRANGE;
}

/* One that is captured shows a capture, and that counts instead. */
static Standing
standing_of_authorization(const char *status)
{
	static const struct
	{
		const char *status;
		Standing	standing;
	} standings[] = {
		{ "CREATED", STANDING_HELD },	 { "PENDING", STANDING_WAITS },
		{ "DENIED", STANDING_OVER },	 { "VOIDED", STANDING_VOIDED },
		{ "EXPIRED", STANDING_EXPIRED },
	};

	for (int i = 0; status && i < (int) lengthof(standings); i++)
		if (strcmp(standings[i].status, status) == 0)
			return standings[i].standing;
	return STANDING_STRANGE;
}

/* What the captures or authorizations of an order come to */
typedef struct Payments
{
	int				count;
	int				at[STANDING_STRANGE + 1]; /* how many stand so */
	const JsonNode *last;
	const JsonNode *last_good; /* moved or held */
} Payments;

static Payments
count_payments(const JsonDocument *json, const JsonNode *unit,
			   const char *name, Standing (*standing_of)(const char *))
{
	const JsonNode *list =
		json_member(json, json_member(json, unit, "payments"), name);
	Payments payments = { .count = 0 };

	for (const JsonNode *payment = json_first(json, list); payment;
		 payment = json_next(json, payment))
	{
		Standing standing = standing_of(
			member_text(json, payment, "status", PSP_CODE_LENGTH_MAX));

		payments.count++;
		payments.at[standing]++;
		payments.last = payment;
		if (standing == STANDING_MOVED || standing == STANDING_HELD)
			payments.last_good = payment;
	}
	return payments;
}

static void
set_moved(const JsonDocument *json, const JsonNode *capture,
		  PspOutcome *outcome)
{
	outcome->kind = PSP_SUCCEEDED;
	outcome->child_reference = paypal_id(json, capture, "id");
	if (outcome->child_reference == NULL ||
		!paypal_read_money(json, json_member(json, capture, "amount"),
						   "currency_code", outcome))
		outcome_unreadable(outcome);
	paypal_read_settled(json, capture, outcome);
}

static void
set_waiting(const JsonDocument *json, const JsonNode *payment,
			PspOutcome *outcome)
{
	outcome->kind = PSP_PENDING;
	outcome->child_reference = paypal_id(json, payment, "id");
}

void
paypal_judge_capture(const JsonDocument *json, const JsonNode *capture,
					 PspOutcome *outcome)
{
	switch (standing_of_capture(
		member_text(json, capture, "status", PSP_CODE_LENGTH_MAX)))
	{
		case STANDING_MOVED:
			set_moved(json, capture, outcome);
			break;
		case STANDING_WAITS:
			set_waiting(json, capture, outcome);
			break;
		case STANDING_OVER:
			set_declined(json, capture, outcome);
			break;
		default:
			outcome_unreadable(outcome);
			break;
	}
}

static void
judge_captures(const JsonDocument *json, const Payments *captures,
			   PspOutcome *outcome)
{
	if (captures->at[STANDING_STRANGE] > 0 || captures->at[STANDING_MOVED] > 1)
		outcome_unreadable(outcome);
	else if (captures->at[STANDING_MOVED] == 1)
		set_moved(json, captures->last_good, outcome);
	else if (captures->at[STANDING_WAITS] > 0)
		set_waiting(json, captures->last, outcome);
	else
		set_declined(json, captures->last, outcome);
}

static void
set_held(const JsonDocument *json, const JsonNode *authorization,
		 PspOutcome *outcome)
{
	outcome->kind = PSP_AUTHORIZED;
	outcome->child_reference = paypal_id(json, authorization, "id");
	if (outcome->child_reference &&
		paypal_read_money(json, json_member(json, authorization, "amount"),
						  "currency_code", outcome))
		outcome->authorized_until_s =
			member_time(json, authorization, "expiration_time");
	else
		outcome_unreadable(outcome);
}

static void
judge_authorizations(const JsonDocument *json, const Payments *payments,
					 PspOutcome *outcome)
{
	int gone = payments->at[STANDING_VOIDED] + payments->at[STANDING_EXPIRED];

	if (payments->at[STANDING_STRANGE] > 0 ||
		payments->at[STANDING_HELD] + gone > 1)
		outcome_unreadable(outcome);
	else if (payments->at[STANDING_HELD] == 1)
		set_held(json, payments->last_good, outcome);
	else if (payments->at[STANDING_WAITS] > 0)
		set_waiting(json, payments->last, outcome);
	else if (payments->at[STANDING_EXPIRED] == 1)
		outcome_error(outcome, PSP_EXPIRED, "expired",
					  "the authorization has expired");
	else if (payments->at[STANDING_VOIDED] == 1)
		outcome_error(outcome, PSP_VOIDED, "voided",
					  "the authorization was voided at PayPal");
	else
		set_declined(json, payments->last, outcome);
}

/* An order that nothing has been taken for yet */
static void
judge_status(const PspTask *task, const char *status, PspOutcome *outcome)
{
	static const char *const capturable[] = { "APPROVED", "CREATED", "SAVED",
											  NULL };
	bool may_capture = task->step == PSP_STEP_SEND && task->cursor == NULL;

	if (adapter_one_of(status, capturable) && task->step == PSP_STEP_LOOKUP)
		outcome_error(outcome, PSP_NOT_FOUND, "not_captured",
					  "the order is there, and nothing was taken for it");
	else if (adapter_one_of(status, capturable) && may_capture)
	{
		outcome->kind = PSP_MORE;
		outcome->cursor =
			psprintf("%s%s",
					 is_manual(task) ? PAYPAL_AUTHORIZE : PAYPAL_CAPTURE,
					 outcome->reference);
	}
	else if (strcmp(status, "PAYER_ACTION_REQUIRED") == 0)
	{
		outcome_error(outcome, PSP_DECLINED, "authentication_required",
					  "the payer would have to approve it");
		outcome->decline_class = PSP_DECLINE_AUTHENTICATION_REQUIRED;
	}
	else if (strcmp(status, "VOIDED") == 0)
	{
		outcome_failed(outcome, "voided", "the order was voided at PayPal");
	}
	else if (strcmp(status, "PENDING_APPROVAL") == 0)
		outcome->kind = PSP_PENDING;
	else
		outcome_unknown_status(outcome, status);
}

bool
paypal_names_object(const PspTask *task, const JsonDocument *json,
					const JsonNode *unit, const JsonNode *payment)
{
	const JsonNode *of_unit = json_member(json, unit, "custom_id");
	const JsonNode *of_payment = json_member(json, payment, "custom_id");

	if (of_unit && !member_equals(json, unit, "custom_id", task->object_id))
		return false;
	if (of_payment &&
		!member_equals(json, payment, "custom_id", task->object_id))
		return false;
	return of_unit != NULL || of_payment != NULL;
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
	Payments	captures;
	Payments	authorizations;

	if (asked == NULL)
		asked = paypal_cursor_id(task, PAYPAL_AUTHORIZE);
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
	captures = count_payments(json, unit, "captures", standing_of_capture);
	authorizations = count_payments(json, unit, "authorizations",
									standing_of_authorization);
	if (!paypal_names_object(task, json, unit,
							 captures.last ? captures.last
										   : authorizations.last) ||
		!is_this_attempt(task, json, unit))
	{
		outcome_unreadable(outcome);
		return;
	}
	outcome->reference = id;
	if (captures.count > 0)
		judge_captures(json, &captures, outcome);
	else if (authorizations.count > 0)
		judge_authorizations(json, &authorizations, outcome);
	else
		judge_status(task, status, outcome);
}
