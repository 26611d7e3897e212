/*-------------------------------------------------------------------------
 *
 * stripe.c
 *	  Stripe's wire protocol: PaymentIntents and Payouts.
 *
 * Money is never inferred.  Success needs a well-formed object with a status
 * that says so; a decline or failure needs an error object of a type that
 * excludes execution; whatever else comes back is unknown and will be looked
 * up.  What a response header advises (Stripe-Should-Retry) goes before what
 * the status would suggest.
 *
 * A lookup by listing finds our object by what we wrote into its metadata.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "psp/form.h"
#include "psp/stripe.h"

#define STRIPE_VERSION "2024-06-20"

/* A listing: objects a page, pages before giving up */
#define LIST_LIMIT 100
#define LIST_PAGES_MAX 100

/* What differs between the two objects */
typedef struct StripeObject
{
	const char *path;
	const char *type;	  /* member "object" of an answer */
	const char *metadata; /* our id in the metadata */
} StripeObject;

static const StripeObject payment_intent = { "/v1/payment_intents",
											 "payment_intent",
											 "payment_order" };
static const StripeObject payout = { "/v1/payouts", "payout", "payout" };

/*
 * Decline codes that a later try, another PSP or the payer may overcome; any
 * other is final for the payment method.
 */
static const char *const soft_declines[] = { "approve_with_id",
											 "call_issuer",
											 "card_not_supported",
											 "card_velocity_exceeded",
											 "currency_not_supported",
											 "do_not_honor",
											 "generic_decline",
											 "insufficient_funds",
											 "issuer_not_available",
											 "not_permitted",
											 "processing_error",
											 "reenter_transaction",
											 "service_not_allowed",
											 "transaction_not_allowed",
											 "try_again_later",
											 "withdrawal_count_limit_exceeded",
											 NULL };
static const char *const authentication_declines[] = {
	"authentication_not_handled", "authentication_required",
	"mobile_device_authentication_required",
	"payment_intent_authentication_failure", NULL
};

static const StripeObject *
object_of(const PspTask *task)
{
	return task->operation == PSP_OPERATION_PAY ? &payment_intent : &payout;
}

static void
add_metadata(StringInfo body, const char *name, const char *value)
{
	char key[64];

	snprintf(key, sizeof(key), "metadata[%s]", name);
	form_add(body, 0, key, value);
}

static void
build_send_body(const PspTask *task, StringInfo body)
{
	char attempt[16];

	snprintf(attempt, sizeof(attempt), "%d", task->attempt_no);
	form_add_int64(body, 0, "amount", task->amount);
	{
		char *currency = pstrdup(task->currency);

		for (char *c = currency; *c; c++)
			*c = (char) pg_ascii_tolower((unsigned char) *c);
		form_add(body, 0, "currency", currency);
	}
	if (task->operation == PSP_OPERATION_PAY)
	{
		/* The payer is present, yet a step that needs him is a decline. */
		form_add(body, 0, "payment_method", task->payment_method);
		form_add(body, 0, "confirm", "true");
		form_add(body, 0, "error_on_requires_action", "true");
		form_add(body, 0, "automatic_payment_methods[enabled]", "true");
		form_add(body, 0, "automatic_payment_methods[allow_redirects]",
				 "never");
		form_add(body, 0, "transfer_group", task->payment_id);
	}
	else
		form_add(body, 0, "destination", task->destination);
	form_add(body, 0, "description", task->description);
	add_metadata(body, object_of(task)->metadata, task->object_id);
	if (task->operation == PSP_OPERATION_PAY)
		add_metadata(body, "payment", task->payment_id);
	add_metadata(body, "attempt", attempt);
}

static void
build_list_query(const PspTask *task, StringInfo url)
{
	int start;

	appendStringInfoChar(url, '?');
	start = url->len;
	form_add_int64(url, start, "limit", LIST_LIMIT);
	if (task->made_from_s > 0)
		form_add_int64(url, start, "created[gte]", task->made_from_s);
	if (task->made_to_s > 0)
		form_add_int64(url, start, "created[lte]", task->made_to_s);
	form_add(url, start, "starting_after", task->cursor);
}

static bool
stripe_build(const PspTask *task, const char *base_url, const char *secret,
			 PspRequest *request, PspOutcome *outcome pg_attribute_unused())
{
	adapter_begin(request, task->step == PSP_STEP_SEND ? "POST" : "GET",
				  base_url, object_of(task)->path);

	adapter_header(request, psprintf("Authorization: Bearer %s", secret));
	adapter_header(request, "Stripe-Version: " STRIPE_VERSION);
	if (task->step == PSP_STEP_SEND)
	{
		build_send_body(task, &request->body);
		adapter_header(request,
					   psprintf("Idempotency-Key: %s", task->psp_key));
		adapter_header(request,
					   "Content-Type: application/x-www-form-urlencoded");
		return true;
	}
	if (task->psp_reference)
	{
		appendStringInfoChar(&request->url, '/');
		form_encode(&request->url, task->psp_reference);
	}
	else
		build_list_query(task, &request->url);
	return true;
}

/* Amount and currency of the object; false when it does not say them. */
bool
stripe_read_money(const JsonDocument *json, const JsonNode *object,
				  const char *amount_name, PspOutcome *outcome)
{
	if (!json_int64(json, json_member(json, object, amount_name),
					&outcome->amount) ||
		outcome->amount < 0 ||
		!member_currency(json, object, "currency", outcome->currency))
		return false;
	outcome->has_amount = true;
	return true;
}

static PspDeclineClass
classify_decline(const char *code)
{
	if (adapter_one_of(code, soft_declines))
		return PSP_DECLINE_SOFT;
	if (adapter_one_of(code, authentication_declines))
		return PSP_DECLINE_AUTHENTICATION_REQUIRED;
	return PSP_DECLINE_HARD;
}

/* What was refused, but by nobody who looked at the payment method. */
void
stripe_set_decline_class(PspOutcome *outcome)
{
	if (outcome->kind == PSP_DECLINED)
		outcome->decline_class = classify_decline(outcome->error_code);
	else if (outcome->kind == PSP_FAILED)
		outcome->decline_class = PSP_DECLINE_NOT_APPLICABLE;
}

void
stripe_read_payment_intent(const JsonDocument *json, const JsonNode *object,
						   const char *status, PspOutcome *outcome)
{
	if (strcmp(status, "succeeded") == 0)
	{
		outcome->kind = PSP_SUCCEEDED;
		if (!stripe_read_money(json, object, "amount_received", outcome) &&
			!stripe_read_money(json, object, "amount", outcome))
			outcome_unreadable(outcome);
	}
	else if (strcmp(status, "processing") == 0 ||
			 strcmp(status, "requires_capture") == 0 ||
			 strcmp(status, "requires_action") == 0)
		outcome->kind = PSP_PENDING;
	else if (strcmp(status, "requires_payment_method") == 0)
	{
		/* so says a lookup of one that was declined */
		const JsonNode *error =
			json_member(json, object, "last_payment_error");
		const char *code =
			member_text(json, error, "decline_code", PSP_CODE_LENGTH_MAX);

		/* without one, nobody has tried to charge it yet */
		if (error == NULL || error->type != JSON_OBJECT)
		{
			outcome_unknown_status(outcome, status);
			return;
		}
		if (code == NULL)
			code = member_text(json, error, "code", PSP_CODE_LENGTH_MAX);
		outcome_error(outcome, PSP_DECLINED, code ? code : "declined",
					  member_text(json, error, "message",
								  PSP_MESSAGE_LENGTH_MAX));
	}
	else if (strcmp(status, "canceled") == 0)
		outcome_error(outcome, PSP_FAILED, "canceled",
					  "the payment was cancelled at the PSP");
	else
		outcome_unknown_status(outcome, status);
}

void
stripe_read_payout(const JsonDocument *json, const JsonNode *object,
				   const char *status, PspOutcome *outcome)
{
	if (strcmp(status, "paid") == 0)
	{
		outcome->kind = PSP_SUCCEEDED;
		if (!stripe_read_money(json, object, "amount", outcome))
			outcome_unreadable(outcome);
	}
	else if (strcmp(status, "pending") == 0 ||
			 strcmp(status, "in_transit") == 0)
		outcome->kind = PSP_PENDING;
	else if (strcmp(status, "failed") == 0)
	{
		const char *code =
			member_text(json, object, "failure_code", PSP_CODE_LENGTH_MAX);

		outcome_error(outcome, PSP_FAILED, code ? code : "failed",
					  member_text(json, object, "failure_message",
								  PSP_MESSAGE_LENGTH_MAX));
	}
	else if (strcmp(status, "canceled") == 0)
		outcome_error(outcome, PSP_FAILED, "canceled",
					  "the payout was cancelled at the PSP");
	else
		outcome_unknown_status(outcome, status);
}

/* Each of our requests puts our id into the metadata of what it makes. */
static bool
names_object(const PspTask *task, const JsonDocument *json,
			 const JsonNode *object)
{
	return member_equals(json, json_member(json, object, "metadata"),
						 object_of(task)->metadata, task->object_id);
}

static bool
is_ours(const PspTask *task, const JsonDocument *json, const JsonNode *object)
{
	const JsonNode *metadata = json_member(json, object, "metadata");
	char			attempt[16];

	snprintf(attempt, sizeof(attempt), "%d", task->attempt_no);
	return names_object(task, json, object) &&
		   member_equals(json, metadata, "attempt", attempt);
}

static void
read_object(const PspTask *task, const JsonDocument *json,
			const JsonNode *object, PspOutcome *outcome)
{
	const char *status =
		member_text(json, object, "status", PSP_CODE_LENGTH_MAX);

	/* Somebody else's payment says nothing of ours. */
	if (!names_object(task, json, object))
	{
		outcome_unreadable(outcome);
		return;
	}
	outcome->reference = member_reference(json, object, "id");
	if (status == NULL || outcome->reference == NULL ||
		!member_equals(json, object, "object", object_of(task)->type))
		outcome_unreadable(outcome);
	else if (task->operation == PSP_OPERATION_PAY)
		stripe_read_payment_intent(json, object, status, outcome);
	else
		stripe_read_payout(json, object, status, outcome);
}

static void
read_list(const PspTask *task, const JsonDocument *json, const JsonNode *root,
		  PspOutcome *outcome)
{
	const JsonNode *data = json_member(json, root, "data");
	const JsonNode *has_more = json_member(json, root, "has_more");
	const JsonNode *last = NULL;

	if (data == NULL || data->type != JSON_ARRAY || has_more == NULL ||
		(has_more->type != JSON_TRUE && has_more->type != JSON_FALSE))
	{
		outcome_unreadable(outcome);
		return;
	}
	for (const JsonNode *object = json_first(json, data); object;
		 object = json_next(json, object))
	{
		if (is_ours(task, json, object))
		{
			read_object(task, json, object, outcome);
			return;
		}
		last = object;
	}
	if (!json_is_true(has_more))
		outcome_error(outcome, PSP_NOT_FOUND, "not_found",
					  "the PSP lists no such object");
	else if (task->answer_count + 1 >= LIST_PAGES_MAX)
		outcome_error(outcome, PSP_UNKNOWN, "listing_too_long",
					  "the PSP lists more objects than are looked through");
	else
	{
		outcome->cursor = member_reference(json, last, "id");
		if (outcome->cursor)
			outcome->kind = PSP_MORE;
		else
			outcome_unreadable(outcome);
	}
}

static void
read_success(const PspTask *task, const PspResponse *response,
			 const JsonDocument *json, PspOutcome *outcome)
{
	const JsonNode *root = json_root(json);

	if (root->type != JSON_OBJECT)
		outcome_unreadable(outcome);
	else if (task->step == PSP_STEP_LOOKUP && task->psp_reference == NULL)
		read_list(task, json, root, outcome);
	else
		read_object(task, json, root, outcome);

	/* Of an object asked for by name, another is no answer. */
	if (task->step == PSP_STEP_LOOKUP && task->psp_reference &&
		outcome->reference &&
		strcmp(outcome->reference, task->psp_reference) != 0)
	{
		outcome_reset(outcome, response);
		outcome_unreadable(outcome);
	}
}

static PspRetryAdvice
read_advice(const PspResponse *response)
{
	char *advice = psp_header(response, "Stripe-Should-Retry");

	if (advice == NULL)
		return PSP_RETRY_UNSAID;
	if (pg_strcasecmp(advice, "true") == 0)
		return PSP_RETRY_YES;
	if (pg_strcasecmp(advice, "false") == 0)
		return PSP_RETRY_NO;
	return PSP_RETRY_UNSAID;
}

/*
 * What an error says of execution.  Unknown unless the type or status is one
 * that excludes it.
 */
static PspOutcomeKind
judge_error(const PspTask *task, const PspResponse *response, const char *type,
			const char *code, bool replayed)
{
	PspRetryAdvice advice = read_advice(response);
	int			   status = response->status;

	/* An answer about the payment itself: no advice changes it. */
	if (strcmp(type, "card_error") == 0 && status < 500)
		return PSP_DECLINED;
	/* A replayed failure will be the same each time. */
	if (status >= 500 && replayed)
		return PSP_KEY_SPENT;
	if (status >= 500)
		return advice == PSP_RETRY_YES ? PSP_RETRY : PSP_UNKNOWN;
	if (status < 400)
		return PSP_UNKNOWN;

	if (status == 401 || status == 403)
		return PSP_RETRY;

	/* Of 409s too, when it is the key that another request is using. */
	if (status == 409 || status == 429 || strcmp(code, "rate_limit") == 0 ||
		strcmp(code, "lock_timeout") == 0)
		return advice == PSP_RETRY_NO ? PSP_UNKNOWN : PSP_RETRY;
	if (strcmp(type, "idempotency_error") == 0)
		return PSP_UNKNOWN;
	if (advice == PSP_RETRY_YES)
		return PSP_RETRY;
	/* A refusal is not stored, so that a repeat may meet it alone. */
	if ((status == 400 || status == 402 || status == 404) &&
		strcmp(type, "invalid_request_error") == 0 && !task->repeated)
		return PSP_FAILED;
	return PSP_UNKNOWN;
}

/* An error may hold the object, or only its id in other words. */
static void
read_failed_object(const PspTask *task, const JsonDocument *json,
				   const JsonNode *error, PspOutcome *outcome)
{
	const JsonNode *object =
		error ? json_member(json, error, object_of(task)->type) : NULL;
	const JsonNode *metadata =
		object ? json_member(json, object, "metadata") : NULL;

	if (metadata && json_member(json, metadata, object_of(task)->metadata) &&
		!names_object(task, json, object))
		outcome->kind = PSP_UNKNOWN;
	else if (object)
		outcome->reference = member_reference(json, object, "id");
}

static void
read_error(const PspTask *task, const PspResponse *response,
		   const JsonDocument *json, PspOutcome *outcome)
{
	const JsonNode *error =
		json ? json_member(json, json_root(json), "error") : NULL;
	const char *type = member_text(json, error, "type", PSP_CODE_LENGTH_MAX);
	const char *code = member_text(json, error, "code", PSP_CODE_LENGTH_MAX);
	const char *reason =
		member_text(json, error, "decline_code", PSP_CODE_LENGTH_MAX);
	bool is_replayed = psp_header_is_true(response, "Idempotent-Replayed");

	/*
	 * A lookup that failed leaves things as they are, even when it says that
	 * there is no such object: we have its name from there, so the account or
	 * the key must be another one, where a payment would be made again.
	 */
	if (task->step == PSP_STEP_LOOKUP)
		outcome->kind = PSP_UNKNOWN;
	else
	{
		outcome->kind = judge_error(task, response, type ? type : "",
									code ? code : "", is_replayed);
		read_failed_object(task, json, error, outcome);
	}
	outcome->error_code = reason ? reason : code ? code : type;
	if (outcome->error_code == NULL)
		outcome->error_code = psprintf("http_%d", response->status);

	/*
	 * The key's only request failed and is over: under this key nothing will
	 * ever be executed, whatever was.
	 */
	if (is_replayed && response->status >= 500)
		outcome->error_code = "replayed_error";
	outcome->error_message =
		member_text(json, error, "message", PSP_MESSAGE_LENGTH_MAX);
	if ((response->status == 401 || response->status == 403) &&
		outcome->retry_after_ms < 0)
		outcome->retry_after_ms = REFUSED_ACCESS_DELAY_MS;
}

static void
stripe_read(const PspTask *task, const PspResponse *response,
			PspOutcome *outcome)
{
	JsonDocument json;
	bool readable = json_parse(&json, response->body, response->body_length);

	outcome_reset(outcome, response);
	if (response->status < 200 || response->status > 299)
		read_error(task, response, readable ? &json : NULL, outcome);
	else if (readable)
		read_success(task, response, &json, outcome);
	else
		outcome_unreadable(outcome);
	stripe_set_decline_class(outcome);
	json_free(&json);
}

static const char *const no_config[] = { NULL };

/* It keeps keys for a day at least, and longer for newer accounts. */
const PspAdapter psp_stripe = {
	.name = "stripe",
	.key_length_max = 255,
	.key_lifetime_s = 82800,
	.performs = { [PSP_OPERATION_PAY] = true, [PSP_OPERATION_PAYOUT] = true },
	.inquiry = { { .by_reference = true, .by_listing = true },
				 { .by_reference = true, .by_listing = true } },
	.config_keys = no_config,
	.build = stripe_build,
	.read = stripe_read,
	.signing = PSP_SIGNING_STRIPE,
	.read_events = stripe_read_events,
};
