/*-------------------------------------------------------------------------
 *
 * stripe.c
 *	  Stripe's wire protocol: PaymentIntents, Refunds and Payouts.
 *
 * Money is never inferred.  Success needs a well-formed object with a status
 * that says so; a decline or failure needs an error object of a type that
 * excludes execution; whatever else comes back is unknown and will be looked
 * up.  What a response header advises (Stripe-Should-Retry) goes before what
 * the status would suggest.
 *
 * A lookup by listing finds our object by what we wrote into its metadata.
 *
 * Captures and voids are done to a PaymentIntent, and are asked after by it.
 * When it is in no state for them, it is looked at before that is taken for a
 * failure: somebody else may have been there first, or we may.
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

/* a capture or void goes on by looking at the PaymentIntent */
#define CURSOR_SHOW "show"

/* what is settled of it, in which currency, and what the fee is */
#define EXPAND_TRANSACTION "balance_transaction"
#define EXPAND_CHARGE "latest_charge." EXPAND_TRANSACTION

/* What differs between the objects */
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
static const StripeObject refund = { "/v1/refunds", "refund", "refund" };
static const StripeObject dispute = { "/v1/disputes", "dispute",
									  STRIPE_DISPUTE_RESPONSE };
static const StripeObject session = { "/v1/checkout/sessions",
									  "checkout.session", "payment_order" };

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
	switch (task->operation)
	{
		case PSP_OPERATION_PAYOUT:
			return &payout;
		case PSP_OPERATION_REFUND:
			return &refund;
		case PSP_OPERATION_DISPUTE_EVIDENCE:
		case PSP_OPERATION_DISPUTE_ACCEPT:
			return &dispute;
		case PSP_OPERATION_REGISTER:
		case PSP_OPERATION_CLOSE:
			return &session;
		case PSP_OPERATION_PAY:
		case PSP_OPERATION_CAPTURE:
		case PSP_OPERATION_VOID:
		case PSP_OPERATION_VERIFY: /* not performed */
			break;
	}
	return &payment_intent;
}

/* ... by the PSP's name, when that is known before it is asked */
static const char *
name_of(const PspTask *task)
{
	return is_about_authorization(task) || is_about_dispute(task)
			   ? task->parent_reference
			   : task->psp_reference;
}

/* Is something done to what the PSP has named before? */
static bool
is_about_known(const PspTask *task)
{
	return is_about_authorization(task) || is_about_dispute(task) ||
		   task->operation == PSP_OPERATION_CLOSE;
}

/* Is the object only to be shown? */
static bool
looks(const PspTask *task)
{
	return task->step == PSP_STEP_LOOKUP ||
		   (is_about_known(task) && task->cursor);
}

static void
add_metadata(StringInfo body, const char *name, const char *value)
{
	char key[64];

	snprintf(key, sizeof(key), "metadata[%s]", name);
	form_add(body, 0, key, value);
}

static void
add_money(const PspTask *task, StringInfo body)
{
	char *currency = pstrdup(task->currency);

	for (char *c = currency; *c; c++)
		*c = (char) pg_ascii_tolower((unsigned char) *c);
	form_add_int64(body, 0, "amount", task->amount);
	form_add(body, 0, "currency", currency);
}

/*
 * A payment method that was kept for a customer ("cus_1/pm_1") is charged
 * without the payer; one that is only a name, while the payer is present.  A
 * step that needs the payer is a decline of both.
 */
static void
add_method(const PspTask *task, StringInfo body)
{
	const char *method = task->payment_method;
	const char *slash = method ? strchr(method, '/') : NULL;

	if (slash)
		form_add(body, 0, "customer",
				 pnstrdup(method, (Size) (slash - method)));
	form_add(body, 0, "payment_method", slash ? slash + 1 : method);
	form_add(body, 0, "confirm", "true");
	form_add(body, 0, slash ? "off_session" : "error_on_requires_action",
			 "true");
}

static void
add_payment(const PspTask *task, StringInfo body)
{
	add_money(task, body);
	add_method(task, body);
	form_add(body, 0, "automatic_payment_methods[enabled]", "true");
	form_add(body, 0, "automatic_payment_methods[allow_redirects]", "never");
	form_add(body, 0, "transfer_group", task->payment_id);
	if (is_manual(task))
	{
		form_add(body, 0, "capture_method", "manual");
		form_add(body, 0, "payment_method_options[card][request_multicapture]",
				 "if_available");
	}
	form_add(body, 0, "expand[]", EXPAND_CHARGE);
}

/* Without "final", what is left is released; with it, some cards refuse. */
static void
add_capture(const PspTask *task, StringInfo body)
{
	int64 left = task->total_amount - task->captured_amount;

	form_add_int64(body, 0, "amount_to_capture", task->amount);
	if (!task->final && task->amount < left)
		form_add(body, 0, "final_capture", "false");
	form_add(body, 0, "expand[]", EXPAND_CHARGE);
}

/* What else is to be shown of the object */
static const char *
expansion_of(const PspTask *task)
{
	switch (task->operation)
	{
		case PSP_OPERATION_REGISTER:
		case PSP_OPERATION_CLOSE:
			return task->setup ? "setup_intent"
							   : "payment_intent." EXPAND_CHARGE;
		case PSP_OPERATION_REFUND:
			return EXPAND_TRANSACTION;
		case PSP_OPERATION_PAYOUT:
		case PSP_OPERATION_VOID:
		case PSP_OPERATION_VERIFY:
		case PSP_OPERATION_DISPUTE_EVIDENCE:
		case PSP_OPERATION_DISPUTE_ACCEPT:
			break;
		case PSP_OPERATION_PAY:
		case PSP_OPERATION_CAPTURE:
			return EXPAND_CHARGE;
	}
	return NULL;
}

static void
build_send_body(const PspTask *task, StringInfo body)
{
	char attempt[16];

	switch (task->operation)
	{
		case PSP_OPERATION_CAPTURE:
			add_capture(task, body);
			return;
		case PSP_OPERATION_DISPUTE_EVIDENCE:
			stripe_add_evidence(task, body);
			return;
		case PSP_OPERATION_VOID:
		case PSP_OPERATION_DISPUTE_ACCEPT:
		case PSP_OPERATION_VERIFY: /* not performed */
			return;
		case PSP_OPERATION_CLOSE:
			form_add(body, 0, "expand[]", expansion_of(task));
			return;
		case PSP_OPERATION_REGISTER:
			stripe_add_session(task, body);
			return;
		case PSP_OPERATION_PAY:
			add_payment(task, body);
			break;
		case PSP_OPERATION_PAYOUT:
			add_money(task, body);
			form_add(body, 0, "destination", task->destination);
			break;
		case PSP_OPERATION_REFUND:
			form_add(body, 0, "payment_intent", task->parent_reference);
			form_add_int64(body, 0, "amount", task->amount);
			form_add(body, 0, "reason", task->reason);
			form_add(body, 0, "expand[]", EXPAND_TRANSACTION);
			break;
	}
	if (task->operation != PSP_OPERATION_REFUND)
		form_add(body, 0, "description", task->description);
	snprintf(attempt, sizeof(attempt), "%d", task->attempt_no);
	add_metadata(body, object_of(task)->metadata, task->object_id);
	if (task->operation != PSP_OPERATION_PAYOUT)
		add_metadata(body, "payment", task->payment_id);
	add_metadata(body, "attempt", attempt);
}

/* A payment's refunds are few; all else is searched around its time. */
static void
build_list_query(const PspTask *task, StringInfo url)
{
	int start;

	appendStringInfoChar(url, '?');
	start = url->len;
	form_add_int64(url, start, "limit", LIST_LIMIT);
	if (task->operation == PSP_OPERATION_REFUND)
		form_add(url, start, "payment_intent", task->parent_reference);
	else
	{
		if (task->made_from_s > 0)
			form_add_int64(url, start, "created[gte]", task->made_from_s);
		if (task->made_to_s > 0)
			form_add_int64(url, start, "created[lte]", task->made_to_s);
	}
	form_add(url, start, "starting_after", task->cursor);
	if (task->operation == PSP_OPERATION_REFUND)
		form_add(url, start, "expand[]", "data." EXPAND_TRANSACTION);
	else if (task->operation != PSP_OPERATION_PAYOUT)
		form_add(url, start, "expand[]", "data." EXPAND_CHARGE);
}

static void
build_show(const PspTask *task, StringInfo url)
{
	const char *expansion = expansion_of(task);

	appendStringInfoChar(url, '/');
	form_encode(url, name_of(task));
	if (expansion)
	{
		appendStringInfoChar(url, '?');
		form_add(url, url->len, "expand[]", expansion);
	}
}

/* What is done to a thing that the PSP has named */
static const char *
action_of(const PspTask *task)
{
	switch (task->operation)
	{
		case PSP_OPERATION_CAPTURE:
			return "/capture";
		case PSP_OPERATION_VOID:
			return "/cancel";
		case PSP_OPERATION_DISPUTE_EVIDENCE:
			return "";
		case PSP_OPERATION_DISPUTE_ACCEPT:
			return "/close";
		default:
			return "/expire";
	}
}

static void
build_send(const PspTask *task, PspRequest *request)
{
	if (is_about_known(task))
	{
		appendStringInfoChar(&request->url, '/');
		form_encode(&request->url, name_of(task));
		appendStringInfoString(&request->url, action_of(task));
	}
	build_send_body(task, &request->body);
	/* closed is closed: no key has to say so, nor keep a failure for ever */
	if (task->operation != PSP_OPERATION_CLOSE)
		adapter_header(request,
					   psprintf("Idempotency-Key: %s", task->psp_key));
	adapter_header(request, "Content-Type: application/x-www-form-urlencoded");
}

/* Only what is known can be closed. */
static bool
lacks_page(const PspTask *task, PspOutcome *outcome)
{
	if (task->operation != PSP_OPERATION_CLOSE || task->psp_reference)
		return false;
	outcome_error(outcome, PSP_UNKNOWN, "no_page",
				  "the PSP's name of the page is not known");
	return true;
}

static bool
stripe_build(const PspTask *task, const char *base_url, const char *secret,
			 PspRequest *request, PspOutcome *outcome)
{
	if (adapter_lacks_parent(task, outcome) || lacks_page(task, outcome))
		return false;
	adapter_begin(request, looks(task) ? "GET" : "POST", base_url,
				  object_of(task)->path);
	adapter_header(request, psprintf("Authorization: Bearer %s", secret));
	adapter_header(request, "Stripe-Version: " STRIPE_VERSION);
	if (!looks(task))
		build_send(task, request);
	else if (name_of(task))
		build_show(task, &request->url);
	else
		build_list_query(task, &request->url);
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

void
stripe_read_refund(const JsonDocument *json, const JsonNode *object,
				   const char *status, PspOutcome *outcome)
{
	if (strcmp(status, "succeeded") == 0)
	{
		outcome->kind = PSP_SUCCEEDED;
		if (!stripe_read_money(json, object, "amount", outcome))
			outcome_unreadable(outcome);
		stripe_read_settled(json, object, true, outcome);
	}
	else if (strcmp(status, "pending") == 0)
		outcome->kind = PSP_PENDING;
	else if (strcmp(status, "requires_action") == 0)
		outcome->kind = PSP_REQUIRES_ACTION;
	else if (strcmp(status, "failed") == 0)
	{
		const char *reason =
			member_text(json, object, "failure_reason", PSP_CODE_LENGTH_MAX);

		outcome_error(outcome, PSP_FAILED, reason ? reason : "failed",
					  "the refund has failed");
	}
	else if (strcmp(status, "canceled") == 0)
		outcome_error(outcome, PSP_FAILED, "canceled",
					  "the refund was cancelled at the PSP");
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

/* A refund is of the payment that it was asked for. */
static bool
is_of_parent(const PspTask *task, const JsonDocument *json,
			 const JsonNode *object)
{
	return task->operation != PSP_OPERATION_REFUND ||
		   member_equals(json, object, "payment_intent",
						 task->parent_reference);
}

static void
judge_object(const PspTask *task, const JsonDocument *json,
			 const JsonNode *object, const char *status, PspOutcome *outcome)
{
	switch (task->operation)
	{
		case PSP_OPERATION_PAY:
			stripe_read_payment_intent(json, object, status, outcome);
			break;
		case PSP_OPERATION_PAYOUT:
			stripe_read_payout(json, object, status, outcome);
			break;
		case PSP_OPERATION_CAPTURE:
			stripe_read_capture(task, json, object, status, outcome);
			break;
		case PSP_OPERATION_VOID:
			stripe_read_void(task, json, object, status, outcome);
			break;
		case PSP_OPERATION_REFUND:
			stripe_read_refund(json, object, status, outcome);
			break;
		case PSP_OPERATION_REGISTER:
		case PSP_OPERATION_CLOSE:
			stripe_read_session(task, json, object, status, outcome);
			break;
		case PSP_OPERATION_VERIFY: /* not performed */
		case PSP_OPERATION_DISPUTE_EVIDENCE:
		case PSP_OPERATION_DISPUTE_ACCEPT:
			break;
	}
}

static void
read_object(const PspTask *task, const JsonDocument *json,
			const JsonNode *object, PspOutcome *outcome)
{
	const char *status =
		member_text(json, object, "status", PSP_CODE_LENGTH_MAX);

	/* Somebody else's payment says nothing of ours. */
	if (!names_object(task, json, object) || !is_of_parent(task, json, object))
	{
		outcome_unreadable(outcome);
		return;
	}
	outcome->reference = member_reference(json, object, "id");
	if (status == NULL || outcome->reference == NULL ||
		!member_equals(json, object, "object", object_of(task)->type))
		outcome_unreadable(outcome);
	else
		judge_object(task, json, object, status, outcome);
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

	const char *asked =
		looks(task) || is_about_known(task) ? name_of(task) : NULL;

	if (root->type != JSON_OBJECT)
		outcome_unreadable(outcome);
	else if (is_about_dispute(task))
		stripe_read_response(task, json, root, outcome);
	else if (looks(task) && name_of(task) == NULL)
		read_list(task, json, root, outcome);
	else
		read_object(task, json, root, outcome);

	/* Of an object asked for by name, another is no answer. */
	if (asked && outcome->reference && strcmp(outcome->reference, asked) != 0)
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

/*
 * Has the authorization changed before we came?  Then look at what it is now,
 * instead of failing what may have been done.
 */
static bool
is_about_state(const PspTask *task, const PspResponse *response,
			   const char *type, const char *code)
{
	static const char *const codes[] = {
		"payment_intent_unexpected_state",
		"charge_already_captured",
		"charge_already_refunded",
		"charge_expired_for_capture",
		"capture_charge_authorization_expired",
		NULL
	};

	if (looks(task) || response->status < 400 || response->status >= 500)
		return false;
	/* of a page that is not open there is no code */
	if (task->operation == PSP_OPERATION_CLOSE)
		return response->status == 400 &&
			   strcmp(type, "invalid_request_error") == 0;
	return is_about_authorization(task) && adapter_one_of(code, codes);
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

	if (is_about_state(task, response, type ? type : "", code))
	{
		outcome->kind = PSP_MORE;
		outcome->cursor = CURSOR_SHOW;
		return;
	}

	/*
	 * A lookup that failed leaves things as they are, even when it says that
	 * there is no such object: we have its name from there, so the account or
	 * the key must be another one, where a payment would be made again.
	 */
	if (looks(task))
		outcome->kind = PSP_UNKNOWN;
	else
	{
		outcome->kind = judge_error(task, response, type ? type : "",
									code ? code : "", is_replayed);
		read_failed_object(task, json, error, outcome);
		/* that a page cannot be closed says nothing of who pays there */
		if (task->operation == PSP_OPERATION_CLOSE &&
			outcome->kind == PSP_FAILED)
			outcome->kind = PSP_UNKNOWN;
	}
	outcome->error_code = reason ? reason : code ? code : type;
	if (outcome->error_code == NULL)
		outcome->error_code = psprintf("http_%d", response->status);

	/* The card, or our account, allows one capture only. */
	if (!looks(task) && task->operation == PSP_OPERATION_CAPTURE &&
		member_equals(json, error, "param", "final_capture"))
		outcome->error_code = "multicapture_unavailable";

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
	.performs = { true, true, true, true, true,
				  true, [PSP_OPERATION_CLOSE] = true,
				  [PSP_OPERATION_DISPUTE_EVIDENCE] = true,
				  [PSP_OPERATION_DISPUTE_ACCEPT] = true },
	.several_captures = true,
	.page_keeps_method = true,
	.inquiry = { [PSP_OPERATION_PAY] = { .by_reference = true,
										 .by_listing = true },
				 [PSP_OPERATION_PAYOUT] = { .by_reference = true,
											.by_listing = true },
				 [PSP_OPERATION_CAPTURE] = { .by_reference = true,
											 .by_listing = true },
				 [PSP_OPERATION_VOID] = { .by_reference = true,
										  .by_listing = true },
				 [PSP_OPERATION_REFUND] = { .by_reference = true,
											.by_listing = true },
				 [PSP_OPERATION_REGISTER] = { .by_reference = true },
				 [PSP_OPERATION_CLOSE] = { .by_reference = true },
				 [PSP_OPERATION_DISPUTE_EVIDENCE] = { .by_reference = true },
				 [PSP_OPERATION_DISPUTE_ACCEPT] = { .by_reference = true } },
	.config_keys = no_config,
	.build = stripe_build,
	.read = stripe_read,
	.signing = PSP_SIGNING_STRIPE,
	.read_events = stripe_read_events,
};
