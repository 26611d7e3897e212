/*-------------------------------------------------------------------------
 *
 * adyen.c
 *	  Adyen's wire protocols: payments of the Checkout API with a stored
 *	  payment method, what is done to them later, and payouts by the Transfers
 *	  API.
 *
 * There is no way to ask for a payment.  The same request again, under the
 * same key, is answered with what the first one was answered; when the key is
 * forgotten, only notifications and reports tell.  Transfers can be asked
 * for, by Adyen's id or by our reference.
 *
 * Success needs an answer that names our order, with an amount.  What is not
 * executed yet because the payer would have to act counts as declined: nobody
 * shows the payer where.  Unknown result codes, statuses and errors are
 * unknown outcomes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "common/int.h"
#include "psp/adyen.h"
#include "psp/form.h"

#define PAYMENTS_PATH "/v71/payments"
#define SESSIONS_PATH "/v71/sessions"
#define TRANSFERS_PATH "/btl/v4/transfers"

/* transfers of one reference: as many as attempts, and these are few */
#define LIST_LIMIT 100

/* "request already processed or in progress" */
#define ERROR_KEY_IN_USE "704"

static const char *const config_keys[] = { "merchant_account", "return_url",
										   "balance_account", NULL };

/* ---- amounts ---- */

/*
 * Currencies whose minor unit at Adyen is another than in ISO 4217: so many
 * of Adyen's make one of ours (more), or of ours one of Adyen's (less).
 */
static const struct
{
	const char *currency;
	int64		more;
	int64		less;
} exponents[] = {
	{ "CLP", 100, 1 },
	{ "CVE", 1, 100 },
	{ "IDR", 1, 100 },
	{ "ISK", 100, 1 },
};

static bool
scale_amount(const char *currency, int64 amount, bool outward, int64 *result)
{
	int64 multiplier = 1;
	int64 divisor = 1;

	for (int i = 0; i < (int) lengthof(exponents); i++)
	{
		if (strcmp(exponents[i].currency, currency) != 0)
			continue;
		multiplier = outward ? exponents[i].more : exponents[i].less;
		divisor = outward ? exponents[i].less : exponents[i].more;
	}
	if (amount % divisor != 0)
		return false;
	return !pg_mul_s64_overflow(amount / divisor, multiplier, result);
}

/* ---- requests ---- */

static const char *
check_config(const char *const *values, bool payouts)
{
	bool pays = values[CONFIG_MERCHANT_ACCOUNT] || values[CONFIG_RETURN_URL];

	if (pays &&
		!(values[CONFIG_MERCHANT_ACCOUNT] && values[CONFIG_RETURN_URL]))
		return "merchant_account and return_url belong together";
	if (!pays && !values[CONFIG_BALANCE_ACCOUNT])
		return "it has neither merchant_account and return_url, for payments, "
			   "nor balance_account, for payouts";
	if (payouts && !values[CONFIG_BALANCE_ACCOUNT])
		return "payouts need balance_account; for a PSP that makes none, set "
			   "payouts to false";
	return NULL;
}

/* False, with the reason, when the task can never be put into a request. */
static bool
refuse(PspOutcome *outcome, PspOutcomeKind kind, const char *code,
	   const char *message)
{
	outcome_error(outcome, kind, code, message);
	if (kind == PSP_FAILED)
		outcome->decline_class = PSP_DECLINE_NOT_APPLICABLE;
	return false;
}

/* What is missing here is for people to add; the task can wait. */
static bool
is_configured(const PspTask *task, PspOutcome *outcome)
{
	bool pays = task->operation != PSP_OPERATION_PAYOUT;

	if (pays ? task->config[CONFIG_MERCHANT_ACCOUNT] &&
				   task->config[CONFIG_RETURN_URL]
			 : task->config[CONFIG_BALANCE_ACCOUNT] != NULL)
		return true;
	outcome->retry_after_ms = REFUSED_ACCESS_DELAY_MS;
	outcome->error_class = PSP_ERROR_ACCESS;
	return refuse(outcome,
				  task->step == PSP_STEP_SEND ? PSP_RETRY : PSP_UNKNOWN,
				  "not_configured",
				  pays ? "the PSP's config lacks merchant_account and "
						 "return_url"
					   : "the PSP's config lacks balance_account");
}

bool
adyen_add_amount(const PspTask *task, StringInfo body, PspOutcome *outcome)
{
	int64 value;

	if (!scale_amount(task->currency, task->amount, true, &value))
		return refuse(outcome, PSP_FAILED, "amount_not_representable",
					  psprintf("Adyen takes whole units of %s only",
							   task->currency));
	json_append_name(body, "amount");
	appendStringInfo(body, "{\"value\":" INT64_FORMAT ",\"currency\":\"%s\"}",
					 value, task->currency);
	return true;
}

/* captured at once, or when we ask for it */
void
adyen_add_capture(const PspTask *task, StringInfo body)
{
	if (task->capture_method && strcmp(task->capture_method, "manual") == 0)
	{
		json_append_name(body, "additionalData");
		appendStringInfoString(body, "{\"manualCapture\":\"true\"}");
	}
	else
	{
		json_append_name(body, "captureDelayHours");
		appendStringInfoChar(body, '0');
	}
}

void
adyen_add_names(const PspTask *task, StringInfo body)
{
	json_append_name(body, "metadata");
	appendStringInfoChar(body, '{');
	json_append_member(body, "payment", task->payment_id);
	json_append_member(body, "attempt", psprintf("%d", task->attempt_no));
	appendStringInfoChar(body, '}');
}

/* The payment method is one that Adyen has stored for the payer. */
static bool
build_payment_body(const PspTask *task, StringInfo body, PspOutcome *outcome)
{
	appendStringInfoChar(body, '{');
	json_append_member(body, "merchantAccount",
					   task->config[CONFIG_MERCHANT_ACCOUNT]);
	if (!adyen_add_amount(task, body, outcome))
		return false;
	json_append_member(body, "reference", task->object_id);
	json_append_member(body, "returnUrl", task->config[CONFIG_RETURN_URL]);
	json_append_name(body, "paymentMethod");
	appendStringInfoString(body, "{\"type\":\"scheme\"");
	json_append_member(body, "storedPaymentMethodId", task->payment_method);
	appendStringInfoChar(body, '}');
	json_append_member(body, "shopperReference", task->payer);
	json_append_member(body, "shopperInteraction", "ContAuth");
	json_append_member(body, "recurringProcessingModel", "CardOnFile");
	adyen_add_capture(task, body);
	adyen_add_names(task, body);
	appendStringInfoChar(body, '}');
	return true;
}

static bool
build_transfer_body(const PspTask *task, StringInfo body, PspOutcome *outcome)
{
	appendStringInfoChar(body, '{');
	if (!adyen_add_amount(task, body, outcome))
		return false;
	json_append_member(body, "balanceAccountId",
					   task->config[CONFIG_BALANCE_ACCOUNT]);
	json_append_member(body, "category", "bank");
	json_append_name(body, "counterparty");
	appendStringInfoChar(body, '{');
	json_append_member(body, "transferInstrumentId", task->destination);
	appendStringInfoChar(body, '}');
	json_append_member(body, "reference", task->object_id);
	appendStringInfoChar(body, '}');
	return true;
}

static bool
build_send(const PspTask *task, PspRequest *request, PspOutcome *outcome)
{
	adapter_header(request, "Content-Type: application/json");
	adapter_header(request, psprintf("Idempotency-Key: %s", task->psp_key));
	if (task->operation == PSP_OPERATION_PAY)
		return build_payment_body(task, &request->body, outcome);
	if (task->operation == PSP_OPERATION_PAYOUT)
		return build_transfer_body(task, &request->body, outcome);
	if (task->operation == PSP_OPERATION_REGISTER)
		return adyen_build_session(task, &request->body, outcome);
	adyen_add_modification_path(task, &request->url);
	return adyen_build_modification(task, &request->body, outcome);
}

static void
add_time(StringInfo url, int start, const char *name, int64 at_s)
{
	time_t	  at = (time_t) at_s;
	struct tm parts;
	char	  text[32];

	if (gmtime_r(&at, &parts) == NULL ||
		strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
		return;
	form_add(url, start, name, text);
}

/* Past the end of the calendar there are no transfers. */
static void
build_lookup(const PspTask *task, PspRequest *request)
{
	StringInfo url = &request->url;
	int		   start;

	if (task->psp_reference)
	{
		appendStringInfoChar(url, '/');
		form_encode(url, task->psp_reference);
		return;
	}
	appendStringInfoChar(url, '?');
	start = url->len;
	form_add(url, start, "balanceAccountId",
			 task->config[CONFIG_BALANCE_ACCOUNT]);
	form_add(url, start, "category", "bank");
	form_add(url, start, "reference", task->object_id);
	add_time(url, start, "createdSince", Max(task->made_from_s, 0));
	add_time(url, start, "createdUntil",
			 task->made_to_s > 0 ? task->made_to_s : INT64CONST(253402300799));
	form_add_int64(url, start, "limit", LIST_LIMIT);
}

static const char *
path_of(const PspTask *task)
{
	switch (task->operation)
	{
		case PSP_OPERATION_PAYOUT:
			return TRANSFERS_PATH;
		case PSP_OPERATION_REGISTER:
			return SESSIONS_PATH;
		default:
			return PAYMENTS_PATH;
	}
}

static bool
adyen_build(const PspTask *task, const char *base_url, const char *secret,
			PspRequest *request, PspOutcome *outcome)
{
	bool pays = task->operation != PSP_OPERATION_PAYOUT;
	bool sends = task->step == PSP_STEP_SEND;

	if (!is_configured(task, outcome) || adapter_lacks_parent(task, outcome))
		return false;
	if (pays && !sends)
		return refuse(outcome, PSP_UNKNOWN, "no_lookup",
					  "Adyen tells nothing of a payment but to who sends it "
					  "again");
	adapter_begin(request, sends ? "POST" : "GET", base_url, path_of(task));
	adapter_header(request, psprintf("X-API-Key: %s", secret));
	if (sends)
		return build_send(task, request, outcome);
	build_lookup(task, request);
	return true;
}

/* ---- refusals ---- */

/* Refusal reasons that a later try or another PSP may overcome */
static const char *const soft_refusals[] = {
	"2",  /* Refused */
	"3",  /* Referral */
	"4",  /* Acquirer Error */
	"9",  /* Issuer Unavailable */
	"10", /* Not supported */
	"12", /* Not enough balance */
	"19", /* Pin validation not possible */
	"21", /* Not Submitted */
	"23", /* Transaction Not Permitted */
	"27", /* Declined Non Generic */
	"28", /* Withdrawal amount exceeded */
	"29", /* Withdrawal count exceeded */
	NULL
};

/* ... that only the payer can */
static const char *const authentication_refusals[] = {
	"11", /* 3D Not Authenticated */
	"38", /* Authentication required */
	"42", /* 3DS Authentication Error */
	NULL
};

static PspDeclineClass
classify_refusal(const char *code)
{
	if (adapter_one_of(code, soft_refusals))
		return PSP_DECLINE_SOFT;
	if (adapter_one_of(code, authentication_refusals))
		return PSP_DECLINE_AUTHENTICATION_REQUIRED;
	return PSP_DECLINE_HARD;
}

static void
set_refusal(const JsonDocument *json, const JsonNode *root, const char *result,
			PspOutcome *outcome)
{
	const char *code = member_text(json, root, "refusalReasonCode", 20);
	const char *reason =
		member_text(json, root, "refusalReason", PSP_MESSAGE_LENGTH_MAX);

	outcome_error(outcome, PSP_DECLINED,
				  code ? psprintf("refusal_%s", code) : result, reason);
	outcome->decline_class = classify_refusal(code);
}

/* ---- answers ---- */

/* of texts, as they are signed: nothing is rounded, nothing guessed */
bool
adyen_take_amount(const char *value, const char *currency, PspOutcome *outcome)
{
	int64 number = 0;
	int	  length = (int) strlen(value);

	if (length < 1 || length > 18 ||
		(int) strspn(value, "0123456789") != length || strlen(currency) != 3)
		return false;
	for (; *value; value++)
		number = number * 10 + *value - '0';
	for (int i = 0; i <= 3; i++)
		outcome->currency[i] =
			(char) pg_ascii_toupper((unsigned char) currency[i]);
	outcome->has_amount =
		scale_amount(outcome->currency, number, false, &outcome->amount);
	if (!outcome->has_amount)
		outcome->currency[0] = '\0';
	return outcome->has_amount;
}

bool
adyen_read_amount(const JsonDocument *json, const JsonNode *object,
				  PspOutcome *outcome)
{
	const JsonNode *amount = json_member(json, object, "amount");
	int64			value;

	if (!json_int64(json, json_member(json, amount, "value"), &value) ||
		value < 0 ||
		!member_currency(json, amount, "currency", outcome->currency) ||
		!scale_amount(outcome->currency, value, false, &outcome->amount))
	{
		outcome->currency[0] = '\0';
		return false;
	}
	outcome->has_amount = true;
	return true;
}

typedef enum Result
{
	RESULT_MOVED,
	RESULT_WAITS,
	RESULT_REFUSED,
	RESULT_NEEDS_PAYER,
	RESULT_UNKNOWN
} Result;

static Result
result_of(const char *code)
{
	static const char *const waiting[] = { "Pending", "Received",
										   "PresentToShopper", NULL };
	static const char *const refused[] = { "Refused", "Error", "Cancelled",
										   NULL };
	static const char *const acting[] = { "RedirectShopper", "IdentifyShopper",
										  "ChallengeShopper", NULL };

	if (strcmp(code, "Authorised") == 0 ||
		strcmp(code, "PartiallyAuthorised") == 0)
		return RESULT_MOVED;
	if (adapter_one_of(code, waiting))
		return RESULT_WAITS;
	if (adapter_one_of(code, refused))
		return RESULT_REFUSED;
	if (adapter_one_of(code, acting))
		return RESULT_NEEDS_PAYER;
	return RESULT_UNKNOWN;
}

static void
read_payment(const PspTask *task, const JsonDocument *json,
			 const JsonNode *root, PspOutcome *outcome)
{
	const char *code =
		member_text(json, root, "resultCode", PSP_CODE_LENGTH_MAX);
	bool named = json_member(json, root, "merchantReference") != NULL;
	bool ours =
		member_equals(json, root, "merchantReference", task->object_id);

	/* Somebody else's payment says nothing of ours. */
	if (code == NULL || (named && !ours))
	{
		outcome_unreadable(outcome);
		return;
	}
	outcome->reference = member_reference(json, root, "pspReference");
	switch (result_of(code))
	{
		case RESULT_MOVED:
			outcome->kind = is_manual(task) ? PSP_AUTHORIZED : PSP_SUCCEEDED;
			if (!ours || outcome->reference == NULL ||
				!adyen_read_amount(json, root, outcome))
				outcome_unreadable(outcome);
			break;
		case RESULT_WAITS:
			outcome->kind = PSP_PENDING;
			if (outcome->reference == NULL)
				outcome_unreadable(outcome);
			break;
		case RESULT_REFUSED:
			set_refusal(json, root, code, outcome);
			break;
		case RESULT_NEEDS_PAYER:
			outcome_error(outcome, PSP_DECLINED, "authentication_required",
						  psprintf("the payer would have to act: %s", code));
			outcome->decline_class = PSP_DECLINE_AUTHENTICATION_REQUIRED;
			break;
		case RESULT_UNKNOWN:
			outcome_unknown_status(outcome, code);
			break;
	}
}

/* What keeps a transfer from being made, but not for ever */
static const char *const soft_reasons[] = {
	"amountLimitExceeded",
	"amountLimitExceded",
	"balanceAccountTemporarilyBlockedByTransactionRule",
	"counterpartyBankTimedOut",
	"counterpartyBankUnavailable",
	"notEnoughBalance",
	NULL
};

/* Booked: the money has left our balance account.  It may come back yet. */
void
adyen_read_status(const JsonDocument *json, const JsonNode *object,
				  const char *status, PspOutcome *outcome)
{
	static const char *const waiting[] = { "received",		  "authorised",
										   "approvalPending", "pending",
										   "pendingApproval", NULL };
	static const char *const over[] = { "refused", "failed", "returned",
										"cancelled", NULL };
	const char				*reason;

	if (strcmp(status, "booked") == 0)
	{
		outcome->kind = PSP_SUCCEEDED;
		if (!adyen_read_amount(json, object, outcome))
			outcome_unreadable(outcome);
	}
	else if (adapter_one_of(status, waiting))
		outcome->kind = PSP_PENDING;
	else if (adapter_one_of(status, over))
	{
		reason = member_text(json, object, "reason", PSP_CODE_LENGTH_MAX);
		outcome_error(outcome, PSP_FAILED,
					  reason && strcmp(reason, "approved") != 0 ? reason
																: status,
					  psprintf("the transfer is %s", status));
		outcome->decline_class = adapter_one_of(reason, soft_reasons)
									 ? PSP_DECLINE_SOFT
									 : PSP_DECLINE_HARD;
	}
	else
		outcome_unknown_status(outcome, status);
}

static void
read_transfer(const PspTask *task, const JsonDocument *json,
			  const JsonNode *object, PspOutcome *outcome)
{
	const char *status =
		member_text(json, object, "status", PSP_CODE_LENGTH_MAX);

	outcome->reference = member_reference(json, object, "id");
	if (status == NULL || outcome->reference == NULL ||
		!member_equals(json, object, "reference", task->object_id))
	{
		outcome->reference = NULL;
		outcome_unreadable(outcome);
	}
	else
		adyen_read_status(json, object, status, outcome);
}

/*
 * The transfers of our reference.  Each attempt makes one at most, and only
 * after the one before has come to nothing: so what says anything else counts,
 * and when all failed, the last of as many as there were attempts.
 */
static void
read_listing(const PspTask *task, const JsonDocument *json,
			 const JsonNode *root, PspOutcome *outcome)
{
	const JsonNode *data = json_member(json, root, "data");
	const JsonNode *links = json_member(json, root, "_links");
	PspOutcome		one;
	int				failed = 0;

	if (data == NULL || data->type != JSON_ARRAY ||
		json_member(json, links, "next"))
	{
		outcome_unreadable(outcome);
		return;
	}
	for (const JsonNode *object = json_first(json, data); object;
		 object = json_next(json, object))
	{
		memset(&one, 0, sizeof(one));
		one.retry_after_ms = outcome->retry_after_ms;
		read_transfer(task, json, object, &one);
		if (one.kind != PSP_FAILED)
		{
			*outcome = one;
			return;
		}
		failed++;
	}
	if (failed > 0 && failed >= task->attempt_no)
		*outcome = one;
	else
		outcome_error(outcome, PSP_NOT_FOUND, "not_found",
					  "the PSP lists no such transfer");
}

static void
read_success(const PspTask *task, const JsonDocument *json,
			 PspOutcome *outcome)
{
	const JsonNode *root = json_root(json);
	int64			advice_ms = outcome->retry_after_ms;

	if (root->type != JSON_OBJECT)
		outcome_unreadable(outcome);
	else if (task->operation == PSP_OPERATION_PAY)
		read_payment(task, json, root, outcome);
	else if (task->operation == PSP_OPERATION_REGISTER)
		adyen_read_session(task, json, root, outcome);
	else if (task->operation != PSP_OPERATION_PAYOUT)
		adyen_read_modification(task, json, root, outcome);
	else if (task->step == PSP_STEP_LOOKUP && task->psp_reference == NULL)
		read_listing(task, json, root, outcome);
	else
		read_transfer(task, json, root, outcome);

	/* Of a transfer asked for by name, another is no answer. */
	if (task->step == PSP_STEP_LOOKUP && task->psp_reference &&
		outcome->reference &&
		strcmp(outcome->reference, task->psp_reference) != 0)
	{
		memset(outcome, 0, sizeof(*outcome));
		outcome->retry_after_ms = advice_ms;
		outcome_unreadable(outcome);
	}
}

/*
 * What an error says of execution.  One that refuses the request excludes it,
 * unless an earlier one under the same key may have been executed.
 */
static PspOutcomeKind
judge_error(const PspTask *task, const PspResponse *response, const char *code)
{
	int status = response->status;

	if (strcmp(code, ERROR_KEY_IN_USE) == 0)
		return PSP_UNKNOWN;
	if (status >= 500)
		return psp_header_is_true(response, "transient-error") ? PSP_RETRY
															   : PSP_UNKNOWN;
	if (status == 401 || status == 403 || status == 404 || status == 405 ||
		status == 429)
		return PSP_RETRY;
	if ((status == 400 || status == 422) && *code != '\0' && !task->repeated)
		return PSP_FAILED;
	return PSP_UNKNOWN;
}

/*
 * A failure of its own that Adyen keeps with the key, told again: that answers
 * the request, and says nothing of how Adyen does by now.  Adyen echoes the
 * key then; what stands before it when it is down does not.
 */
static bool
is_old_failure(const PspTask *task, const PspResponse *response)
{
	return task->repeated && response->status >= 500 &&
		   !psp_header_is_true(response, "transient-error") &&
		   psp_header(response, "Idempotency-Key") != NULL;
}

static void
read_error(const PspTask *task, const PspResponse *response,
		   const JsonDocument *json, PspOutcome *outcome)
{
	const JsonNode *root = json ? json_root(json) : NULL;
	const char	   *code =
		member_text(json, root, "errorCode", PSP_CODE_LENGTH_MAX - 10);
	const char *message =
		member_text(json, root, "message", PSP_MESSAGE_LENGTH_MAX);
	int status = response->status;

	if (message == NULL)
		message = member_text(json, root, "detail", PSP_MESSAGE_LENGTH_MAX);
	outcome_error(outcome,
				  task->step == PSP_STEP_LOOKUP
					  ? PSP_UNKNOWN
					  : judge_error(task, response, code ? code : ""),
				  code ? psprintf("adyen_%s", code)
					   : psprintf("http_%d", status),
				  message);
	if (outcome->kind == PSP_FAILED)
		outcome->decline_class = PSP_DECLINE_NOT_APPLICABLE;
	if (code && strcmp(code, ERROR_KEY_IN_USE) == 0)
		outcome->error_class = PSP_ERROR_BUSY;
	if (is_old_failure(task, response))
		outcome->error_class = PSP_ERROR_REQUEST;

	/* A wrong key, account or address is for people to mend. */
	if (status == 401 || (status >= 403 && status <= 405))
	{
		outcome->error_class = PSP_ERROR_ACCESS;
		if (outcome->retry_after_ms < 0)
			outcome->retry_after_ms = REFUSED_ACCESS_DELAY_MS;
	}
}

static void
adyen_read(const PspTask *task, const PspResponse *response,
		   PspOutcome *outcome)
{
	JsonDocument json;
	bool readable = json_parse(&json, response->body, response->body_length);

	outcome_reset(outcome, response);
	if (response->status < 200 || response->status > 299)
		read_error(task, response, readable ? &json : NULL, outcome);
	else if (readable)
		read_success(task, &json, outcome);
	else
		outcome_unreadable(outcome);
	json_free(&json);
}

/*
 * It keeps keys for a week at least; an hour less is for the way.  Nothing but
 * payouts can be asked for.
 */
const PspAdapter psp_adyen = {
	.name = "adyen",
	.key_length_max = 64,
	.key_lifetime_s = 7 * 86400 - 3600,
	.key_lifetime_max_s = 7 * 86400,
	.performs = { true, true, true, true, true, true },
	.several_captures = true,
	.inquiry = { [PSP_OPERATION_PAYOUT] = { .by_reference = true,
											.by_listing = true } },
	.config_keys = config_keys,
	.check_config = check_config,
	.build = adyen_build,
	.read = adyen_read,
	.signing = PSP_SIGNING_ADYEN,
	.read_events = adyen_read_events,
};
