/*-------------------------------------------------------------------------
 *
 * paypal.c
 *	  PayPal's wire protocol: access tokens, errors, and which part of the
 *	  adapter answers for what.
 *
 * Success needs a capture, or an item of a payout, that names ours, with an
 * amount.  A decline needs an error that PayPal defines for one.  Whatever a
 * request after the first of a conversation meets, the first has left its
 * trace, so that nothing of it is ever called "not executed, send it again".
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/base64.h"
#include "psp/form.h"
#include "psp/paypal.h"

#define TOKEN_PATH "/v1/oauth2/token"
#define ID_LENGTH_MAX 64
#define ID_CHARACTERS            \
	"ABCDEFGHIJKLMNOPQRSTUVWXYZ" \
	"abcdefghijklmnopqrstuvwxyz0123456789-_"

static const char *const config_keys[] = { "payment_source", "recipient_type",
										   "webhook_id", NULL };

/* ---- configuration and tokens ---- */

static const char *
check_config(const char *const *values, bool payouts pg_attribute_unused())
{
	static const char *const sources[] = { "paypal", "card", "venmo", NULL };
	static const char *const types[] = { "EMAIL", "PHONE", "PAYPAL_ID",
										 "USER_HANDLE", NULL };
	const char				*source = values[PAYPAL_CONFIG_PAYMENT_SOURCE];
	const char				*type = values[PAYPAL_CONFIG_RECIPIENT_TYPE];
	const char				*webhook = values[PAYPAL_CONFIG_WEBHOOK_ID];

	if (source && !adapter_one_of(source, sources))
		return "payment_source is none of paypal, card and venmo";
	if (type && !adapter_one_of(type, types))
		return "recipient_type is none of EMAIL, PHONE, PAYPAL_ID and "
			   "USER_HANDLE";
	if (webhook && (*webhook == '\0' || strlen(webhook) > ID_LENGTH_MAX ||
					webhook[strspn(webhook, ID_CHARACTERS)] != '\0'))
		return "webhook_id is no id of PayPal's";
	return NULL;
}

static void
build_token(const char *base_url, const char *secret, PspRequest *request)
{
	static const char scheme[] = "Authorization: Basic ";
	int				  length = (int) strlen(secret);
	int				  size = pg_b64_enc_len(length);
	char			 *header = palloc(sizeof(scheme) + size);
	int				  encoded;

	adapter_begin(request, "POST", base_url, TOKEN_PATH);
	memcpy(header, scheme, sizeof(scheme));
	encoded = pg_b64_encode(secret, length, header + sizeof(scheme) - 1, size);
	header[sizeof(scheme) - 1 + Max(encoded, 0)] = '\0';
	adapter_header(request, header);
	adapter_header(request, "Content-Type: application/x-www-form-urlencoded");
	appendStringInfoString(&request->body, "grant_type=client_credentials");
}

/* It becomes part of a header line. */
static bool
is_presentable(const char *token)
{
	if (token == NULL || *token == '\0')
		return false;
	for (const char *c = token; *c; c++)
		if ((unsigned char) *c <= ' ' || (unsigned char) *c >= 0x7F)
			return false;
	return true;
}

static void
read_token(const PspResponse *response, PspToken *token)
{
	JsonDocument json;
	bool readable = json_parse(&json, response->body, response->body_length);
	const JsonNode *root = readable ? json_root(&json) : NULL;
	char		   *value;

	memset(token, 0, sizeof(*token));
	if (response->status == 200)
	{
		value = json_string(&json, json_member(&json, root, "access_token"));
		if (is_presentable(value) &&
			json_int64(&json, json_member(&json, root, "expires_in"),
					   &token->lifetime_s) &&
			token->lifetime_s > 0)
			token->value = value;
		else
			token->error_code = "unreadable_token";
	}
	else
	{
		token->error_code =
			member_text(&json, root, "error", PSP_CODE_LENGTH_MAX);
		token->error_message = member_text(&json, root, "error_description",
										   PSP_MESSAGE_LENGTH_MAX);
		token->is_refused = response->status == 400 || response->status == 401;
	}
	if (token->value == NULL && token->error_code == NULL)
		token->error_code = psprintf("token_http_%d", response->status);
	json_free(&json);
}

/* ---- requests ---- */

const char *
paypal_cursor_id(const PspTask *task, const char *word)
{
	size_t length = strlen(word);

	if (task->cursor == NULL || strncmp(task->cursor, word, length) != 0)
		return NULL;
	return task->cursor + length;
}

const char *
paypal_id(const JsonDocument *json, const JsonNode *object, const char *name)
{
	const char *id = member_reference(json, object, name);

	if (id == NULL || strlen(id) > ID_LENGTH_MAX ||
		id[strspn(id, ID_CHARACTERS)] != '\0')
		return NULL;
	return id;
}

static bool
paypal_build(const PspTask *task, const char *base_url, const char *secret,
			 PspRequest *request, PspOutcome *outcome)
{
	if (task->operation == PSP_OPERATION_VERIFY)
		return paypal_build_verification(task, base_url, secret, request,
										 outcome);
	if (task->step == PSP_STEP_LOOKUP && task->psp_reference == NULL)
	{
		outcome_error(outcome, PSP_UNKNOWN, "no_lookup",
					  "PayPal is asked by its own id, which is not known");
		return false;
	}
	if (adapter_lacks_parent(task, outcome))
		return false;
	switch (task->operation)
	{
		case PSP_OPERATION_PAY:
		case PSP_OPERATION_REGISTER: /* not performed */
		case PSP_OPERATION_VERIFY:	 /* done above */
		case PSP_OPERATION_CLOSE:
		case PSP_OPERATION_DISPUTE_EVIDENCE:
		case PSP_OPERATION_DISPUTE_ACCEPT:
			break;
		case PSP_OPERATION_PAYOUT:
			return paypal_build_payout(task, base_url, secret, request,
									   outcome);
		case PSP_OPERATION_CAPTURE:
		case PSP_OPERATION_VOID:
			return paypal_build_authorization(task, base_url, secret, request,
											  outcome);
		case PSP_OPERATION_REFUND:
			return paypal_build_refund(task, base_url, secret, request,
									   outcome);
	}
	return paypal_build_order(task, base_url, secret, request, outcome);
}

/* ---- errors ---- */

static const char *const soft_issues[] = {
	"INSTRUMENT_DECLINED",			 "PAYEE_BLOCKED_TRANSACTION",
	"CURRENCY_NOT_SUPPORTED",		 "CURRENCY_NOT_SUPPORTED_FOR_CARD_TYPE",
	"TRANSACTION_LIMIT_EXCEEDED",	 "TRANSACTION_RECEIVING_LIMIT_EXCEEDED",
	"DOMESTIC_TRANSACTION_REQUIRED", NULL
};
static const char *const authentication_issues[] = {
	"ORDER_NOT_APPROVED", "PAYER_ACTION_REQUIRED", "PAYER_CONSENT_REQUIRED",
	"REDIRECT_PAYER_FOR_ALTERNATE_FUNDING", NULL
};
static const char *const hard_issues[] = {
	"AGREEMENT_ALREADY_CANCELLED",
	"BILLING_AGREEMENT_NOT_FOUND",
	"CARD_CLOSED",
	"CARD_EXPIRED",
	"COMPLIANCE_VIOLATION",
	"MAX_NUMBER_OF_PAYMENT_ATTEMPTS_EXCEEDED",
	"PAYER_ACCOUNT_LOCKED_OR_CLOSED",
	"PAYER_ACCOUNT_RESTRICTED",
	"PAYER_CANNOT_PAY",
	"PAYER_COUNTRY_NOT_SUPPORTED",
	"PAYMENT_DENIED",
	"TRANSACTION_BLOCKED_BY_PAYEE",
	"TRANSACTION_REFUSED",
	NULL
};

/* The request came before, in one way or another: what became of it? */
static const char *const repeat_issues[] = {
	"DUPLICATE_INVOICE_ID",
	"DUPLICATE_REQUEST_ID",
	"DUPLICATE_TRANSACTION",
	"ORDER_ALREADY_AUTHORIZED",
	"ORDER_ALREADY_CAPTURED",
	"PAYPAL_REQUEST_ID_PREVIOUSLY_USED",
	"PREVIOUS_REQUEST_IN_PROGRESS",
	"RESOURCE_CONFLICT",
	NULL
};

static PspDeclineClass
classify_issue(const char *issue)
{
	if (adapter_one_of(issue, soft_issues))
		return PSP_DECLINE_SOFT;
	if (adapter_one_of(issue, authentication_issues))
		return PSP_DECLINE_AUTHENTICATION_REQUIRED;
	if (adapter_one_of(issue, hard_issues))
		return PSP_DECLINE_HARD;
	return PSP_DECLINE_UNSAID;
}

/* Has it been done already?  Then look at what there is. */
static bool
leads_to_original(const PspTask *task, const JsonDocument *json,
				  const char *issue, PspOutcome *outcome)
{
	const char *id = NULL;

	if (task->step != PSP_STEP_SEND || json == NULL)
		return false;
	if (task->operation == PSP_OPERATION_PAYOUT && task->cursor == NULL)
		id = paypal_original_batch(json);
	else if (issue && strcmp(issue, "ORDER_ALREADY_CAPTURED") == 0)
		id = paypal_cursor_id(task, PAYPAL_CAPTURE);
	else if (issue && strcmp(issue, "ORDER_ALREADY_AUTHORIZED") == 0)
		id = paypal_cursor_id(task, PAYPAL_AUTHORIZE);
	if (id == NULL)
		return false;
	outcome->kind = PSP_MORE;
	outcome->cursor = psprintf(PAYPAL_SHOW "%s", id);
	return true;
}

static bool
is_about_repeat(const char *name, const char *issue, const char *field)
{
	return adapter_one_of(issue, repeat_issues) ||
		   adapter_one_of(name, repeat_issues) ||
		   (field && pg_strcasecmp(field, "sender_batch_id") == 0);
}

static PspOutcomeKind
judge_error(const PspTask *task, int status, const char *name,
			const char *issue)
{
	if (status >= 500 || status < 400 || status == 409)
		return PSP_UNKNOWN;
	if ((task->operation == PSP_OPERATION_PAY ||
		 task->operation == PSP_OPERATION_CAPTURE) &&
		classify_issue(issue) != PSP_DECLINE_UNSAID)
		return PSP_DECLINED;
	if (status == 401 || status == 403 || status == 404 || status == 405 ||
		status == 429)
		return PSP_RETRY;
	if ((status == 400 || status == 422) && name && !task->repeated &&
		task->answer_count == 0)
		return PSP_FAILED;
	return PSP_UNKNOWN;
}

static void
read_error(const PspTask *task, const PspResponse *response,
		   const JsonDocument *json, PspOutcome *outcome)
{
	const JsonNode *root = json ? json_root(json) : NULL;
	const JsonNode *detail =
		json ? json_first(json, json_member(json, root, "details")) : NULL;
	const char *name = member_text(json, root, "name", PSP_CODE_LENGTH_MAX);
	const char *issue =
		member_text(json, detail, "issue", PSP_CODE_LENGTH_MAX);
	const char *message =
		member_text(json, detail, "description", PSP_MESSAGE_LENGTH_MAX);
	const char *field =
		member_text(json, detail, "field", PSP_CODE_LENGTH_MAX);
	bool repeats = is_about_repeat(name, issue, field);
	int	 status = response->status;

	if (leads_to_original(task, json, issue, outcome) ||
		paypal_goes_on_looking(task, status, issue, outcome) ||
		(task->operation == PSP_OPERATION_VERIFY &&
		 paypal_refuses_verification(status, name, outcome)))
		return;
	if (message == NULL)
		message = member_text(json, root, "message", PSP_MESSAGE_LENGTH_MAX);
	outcome_error(outcome,
				  task->step == PSP_STEP_LOOKUP || repeats
					  ? PSP_UNKNOWN
					  : judge_error(task, status, name, issue),
				  issue	 ? issue
				  : name ? name
						 : psprintf("http_%d", status),
				  message);
	if (outcome->kind == PSP_DECLINED)
		outcome->decline_class = classify_issue(issue);
	else if (outcome->kind == PSP_FAILED)
		outcome->decline_class = PSP_DECLINE_NOT_APPLICABLE;
	if (repeats)
		outcome->error_class = PSP_ERROR_BUSY;

	/* A wrong key, account or address is for people to mend. */
	if (status == 401 || (status >= 403 && status <= 405))
	{
		outcome->error_class = PSP_ERROR_ACCESS;
		if (outcome->retry_after_ms < 0)
			outcome->retry_after_ms = REFUSED_ACCESS_DELAY_MS;
	}
	if (outcome->kind == PSP_RETRY && task->answer_count > 0)
		outcome->kind = PSP_UNKNOWN;
}

static void
read_success(const PspTask *task, const JsonDocument *json,
			 PspOutcome *outcome)
{
	switch (task->operation)
	{
		case PSP_OPERATION_PAY:
			paypal_read_order(task, json, outcome);
			break;
		case PSP_OPERATION_PAYOUT:
			paypal_read_payout(task, json, outcome);
			break;
		case PSP_OPERATION_CAPTURE:
		case PSP_OPERATION_VOID:
			paypal_read_authorization(task, json, outcome);
			break;
		case PSP_OPERATION_REFUND:
			paypal_read_refund(task, json, outcome);
			break;
		case PSP_OPERATION_VERIFY:
			paypal_read_verification(json, outcome);
			break;
		case PSP_OPERATION_REGISTER: /* not performed */
		case PSP_OPERATION_CLOSE:
		case PSP_OPERATION_DISPUTE_EVIDENCE:
		case PSP_OPERATION_DISPUTE_ACCEPT:
			break;
	}
}

static void
paypal_read(const PspTask *task, const PspResponse *response,
			PspOutcome *outcome)
{
	JsonDocument json;
	bool readable = json_parse(&json, response->body, response->body_length);

	outcome_reset(outcome, response);
	if (response->status < 200 || response->status > 299)
		read_error(task, response, readable ? &json : NULL, outcome);
	else if (readable && json_root(&json)->type == JSON_OBJECT)
		read_success(task, &json, outcome);
	else if (!paypal_goes_on_looking(task, response->status, NULL, outcome))
		outcome_unreadable(outcome);
	json_free(&json);
}

/*
 * It remembers requests that make orders for six hours, up to three days by
 * agreement, captures and batches of payouts for longer.
 */
const PspAdapter psp_paypal = {
	.name = "paypal",
	.key_length_max = 100,
	.key_lifetime_s = 6 * 3600 - 900,
	.key_lifetime_max_s = 72 * 3600,
	.performs = { true, true, true, true,
				  true, [PSP_OPERATION_VERIFY] = true },
	.several_captures = true,
	.inquiry = { [PSP_OPERATION_PAY] = { .by_reference = true },
				 [PSP_OPERATION_PAYOUT] = { .by_reference = true },
				 [PSP_OPERATION_CAPTURE] = { .by_reference = true },
				 [PSP_OPERATION_VOID] = { .by_reference = true },
				 [PSP_OPERATION_REFUND] = { .by_reference = true } },
	.config_keys = config_keys,
	.check_config = check_config,
	.build_token = build_token,
	.read_token = read_token,
	.build = paypal_build,
	.read = paypal_read,
	.signing = PSP_SIGNING_ASKED,
	.read_events = paypal_read_events,
};
