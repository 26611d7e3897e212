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
#include "psp/json.h"
#include "psp/psp.h"

#define STRIPE_VERSION "2024-06-20"

/* A listing: objects a page, pages before giving up */
#define LIST_LIMIT 100
#define LIST_PAGES_MAX 100

/* A refused key or account is for people to mend; do not hammer. */
#define REFUSED_ACCESS_DELAY_MS 60000

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

static void
add_header(PspRequest *request, const char *text)
{
	Assert(request->header_count < PSP_MAX_HEADERS);
	request->headers[request->header_count++] = text;
}

static void
stripe_build(const PspTask *task, const char *base_url, const char *secret,
			 PspRequest *request)
{
	int base_length = (int) strlen(base_url);

	while (base_length > 0 && base_url[base_length - 1] == '/')
		base_length--;
	initStringInfo(&request->url);
	initStringInfo(&request->body);
	request->header_count = 0;
	appendBinaryStringInfo(&request->url, base_url, base_length);
	appendStringInfoString(&request->url, object_of(task)->path);

	add_header(request, psprintf("Authorization: Bearer %s", secret));
	add_header(request, "Stripe-Version: " STRIPE_VERSION);
	if (task->step == PSP_STEP_SEND)
	{
		request->method = "POST";
		build_send_body(task, &request->body);
		add_header(request, psprintf("Idempotency-Key: %s", task->psp_key));
		add_header(request, "Content-Type: application/x-www-form-urlencoded");
		return;
	}
	request->method = "GET";
	if (task->psp_reference)
	{
		appendStringInfoChar(&request->url, '/');
		form_encode(&request->url, task->psp_reference);
	}
	else
		build_list_query(task, &request->url);
}

/* a string member, cut between characters to at most length_max bytes */
static const char *
member_text(const JsonDocument *json, const JsonNode *object, const char *name,
			int length_max)
{
	char *text = json_string(json, json_member(json, object, name));
	int	  length;

	if (text == NULL || *text == '\0')
		return NULL;
	length = (int) strlen(text);
	if (length > length_max)
	{
		length = length_max;
		while (length > 0 && ((unsigned char) text[length] & 0xC0) == 0x80)
			length--;
		text[length] = '\0';
	}
	return text;
}

/* A reference is never cut: one that is too long is none. */
static const char *
member_reference(const JsonDocument *json, const JsonNode *object)
{
	const char *id = member_text(json, object, "id", PG_INT32_MAX);

	if (id == NULL || strlen(id) > PSP_REFERENCE_LENGTH_MAX)
		return NULL;
	for (const char *c = id; *c; c++)
		if ((unsigned char) *c <= ' ' || (unsigned char) *c >= 0x7F)
			return NULL;
	return id;
}

static bool
member_equals(const JsonDocument *json, const JsonNode *object,
			  const char *name, const char *value)
{
	char *text = json_string(json, json_member(json, object, name));

	return text != NULL && value != NULL && strcmp(text, value) == 0;
}

static void
set_error(PspOutcome *outcome, PspOutcomeKind kind, const char *code,
		  const char *message)
{
	outcome->kind = kind;
	outcome->error_code = code;
	outcome->error_message = message;
}

/* Amount and currency of the object; false when it does not say them. */
static bool
read_money(const JsonDocument *json, const JsonNode *object,
		   const char *amount_name, PspOutcome *outcome)
{
	char *currency;

	if (!json_int64(json, json_member(json, object, amount_name),
					&outcome->amount) ||
		outcome->amount < 0)
		return false;
	currency = json_string(json, json_member(json, object, "currency"));
	if (currency == NULL || strlen(currency) != 3)
		return false;
	for (int i = 0; i < 3; i++)
		outcome->currency[i] =
			(char) pg_ascii_toupper((unsigned char) currency[i]);
	outcome->currency[3] = '\0';
	outcome->has_amount = true;
	return true;
}

static void
set_unreadable(PspOutcome *outcome)
{
	set_error(outcome, PSP_UNKNOWN, "unreadable_answer",
			  "the PSP's answer is not what its protocol says");
}

static void
set_unknown_status(PspOutcome *outcome, const char *status)
{
	set_error(outcome, PSP_UNKNOWN, "unknown_status",
			  psprintf("the PSP reports the status \"%s\"", status));
}

static void
read_payment_intent(const JsonDocument *json, const JsonNode *object,
					const char *status, PspOutcome *outcome)
{
	if (strcmp(status, "succeeded") == 0)
	{
		outcome->kind = PSP_SUCCEEDED;
		if (!read_money(json, object, "amount_received", outcome) &&
			!read_money(json, object, "amount", outcome))
			set_unreadable(outcome);
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
			set_unknown_status(outcome, status);
			return;
		}
		if (code == NULL)
			code = member_text(json, error, "code", PSP_CODE_LENGTH_MAX);
		set_error(outcome, PSP_DECLINED, code ? code : "declined",
				  member_text(json, error, "message", PSP_MESSAGE_LENGTH_MAX));
	}
	else if (strcmp(status, "canceled") == 0)
		set_error(outcome, PSP_FAILED, "canceled",
				  "the payment was cancelled at the PSP");
	else
		set_unknown_status(outcome, status);
}

static void
read_payout(const JsonDocument *json, const JsonNode *object,
			const char *status, PspOutcome *outcome)
{
	if (strcmp(status, "paid") == 0)
	{
		outcome->kind = PSP_SUCCEEDED;
		if (!read_money(json, object, "amount", outcome))
			set_unreadable(outcome);
	}
	else if (strcmp(status, "pending") == 0 ||
			 strcmp(status, "in_transit") == 0)
		outcome->kind = PSP_PENDING;
	else if (strcmp(status, "failed") == 0)
	{
		const char *code =
			member_text(json, object, "failure_code", PSP_CODE_LENGTH_MAX);

		set_error(outcome, PSP_FAILED, code ? code : "failed",
				  member_text(json, object, "failure_message",
							  PSP_MESSAGE_LENGTH_MAX));
	}
	else if (strcmp(status, "canceled") == 0)
		set_error(outcome, PSP_FAILED, "canceled",
				  "the payout was cancelled at the PSP");
	else
		set_unknown_status(outcome, status);
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
		set_unreadable(outcome);
		return;
	}
	outcome->reference = member_reference(json, object);
	if (status == NULL || outcome->reference == NULL ||
		!member_equals(json, object, "object", object_of(task)->type))
		set_unreadable(outcome);
	else if (task->operation == PSP_OPERATION_PAY)
		read_payment_intent(json, object, status, outcome);
	else
		read_payout(json, object, status, outcome);
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
		set_unreadable(outcome);
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
		set_error(outcome, PSP_NOT_FOUND, "not_found",
				  "the PSP lists no such object");
	else if (task->page_count + 1 >= LIST_PAGES_MAX)
		set_error(outcome, PSP_UNKNOWN, "listing_too_long",
				  "the PSP lists more objects than are looked through");
	else
	{
		outcome->cursor = member_reference(json, last);
		if (outcome->cursor)
			outcome->kind = PSP_MORE;
		else
			set_unreadable(outcome);
	}
}

static void
read_success(const PspTask *task, const PspResponse *response,
			 const JsonDocument *json, PspOutcome *outcome)
{
	const JsonNode *root = json_root(json);

	if (root->type != JSON_OBJECT)
		set_unreadable(outcome);
	else if (task->step == PSP_STEP_LOOKUP && task->psp_reference == NULL)
		read_list(task, json, root, outcome);
	else
		read_object(task, json, root, outcome);

	/* Of an object asked for by name, another is no answer. */
	if (task->step == PSP_STEP_LOOKUP && task->psp_reference &&
		outcome->reference &&
		strcmp(outcome->reference, task->psp_reference) != 0)
	{
		memset(outcome, 0, sizeof(*outcome));
		outcome->retry_after_ms = response->retry_after_ms;
		set_unreadable(outcome);
	}
}

/*
 * What an error says of execution.  Unknown unless the type or status is one
 * that excludes it.
 */
static PspOutcomeKind
judge_error(const PspResponse *response, const char *type, const char *code,
			PspRetryAdvice advice, bool replayed)
{
	int status = response->status;

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
	if ((status == 400 || status == 402 || status == 404) &&
		strcmp(type, "invalid_request_error") == 0)
		return PSP_FAILED;
	return PSP_UNKNOWN;
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

static bool
header_is_true(const PspResponse *response, const char *name)
{
	char *value = psp_header(response, name);

	return value != NULL && pg_strcasecmp(value, "true") == 0;
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
		outcome->reference = member_reference(json, object);
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
	bool is_replayed = header_is_true(response, "Idempotent-Replayed");

	/*
	 * A lookup that failed leaves things as they are, even when it says that
	 * there is no such object: we have its name from there, so the account or
	 * the key must be another one, where a payment would be made again.
	 */
	if (task->step == PSP_STEP_LOOKUP)
		outcome->kind = PSP_UNKNOWN;
	else
	{
		outcome->kind =
			judge_error(response, type ? type : "", code ? code : "",
						read_advice(response), is_replayed);
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

	memset(outcome, 0, sizeof(*outcome));
	outcome->retry_after_ms = response->retry_after_ms;
	if (response->status < 200 || response->status > 299)
		read_error(task, response, readable ? &json : NULL, outcome);
	else if (readable)
		read_success(task, response, &json, outcome);
	else
		set_unreadable(outcome);
	json_free(&json);
}

const PspAdapter psp_stripe = { "stripe", stripe_build, stripe_read };
