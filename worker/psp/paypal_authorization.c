/*-------------------------------------------------------------------------
 *
 * paypal_authorization.c
 *	  What is done to a PayPal authorization: captures and voids.
 *
 * An authorization belongs to an order, which lists all of its captures; so
 * both are asked after by the order.  Each capture is an invoice of its own,
 * named by our idempotency key: by that it is found, and PayPal refuses a
 * second one.  When the authorization is in no state for what is asked, the
 * same conversation goes on by looking at the order: somebody else may have
 * been there first, or we may.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "psp/form.h"
#include "psp/paypal.h"

#define AUTHORIZATIONS_PATH "/v2/payments/authorizations/"
#define ORDERS_PATH "/v2/checkout/orders/"

/* What an authorization comes to */
typedef enum Standing
{
	STANDING_OPEN,
	STANDING_CAPTURED,
	STANDING_VOIDED,
	STANDING_EXPIRED,
	STANDING_DENIED,
	STANDING_UNKNOWN
} Standing;

static Standing
standing_of(const char *status)
{
	static const struct
	{
		const char *status;
		Standing	standing;
	} standings[] = {
		{ "CREATED", STANDING_OPEN },  { "PARTIALLY_CAPTURED", STANDING_OPEN },
		{ "PENDING", STANDING_OPEN },  { "CAPTURED", STANDING_CAPTURED },
		{ "VOIDED", STANDING_VOIDED }, { "EXPIRED", STANDING_EXPIRED },
		{ "DENIED", STANDING_DENIED },
	};

	for (int i = 0; i < (int) lengthof(standings); i++)
		if (strcmp(standings[i].status, status) == 0)
			return standings[i].standing;
	return STANDING_UNKNOWN;
}

/* ---- requests ---- */

static bool
looks(const PspTask *task)
{
	return task->step == PSP_STEP_LOOKUP || task->cursor;
}

static bool
build_capture_body(const PspTask *task, StringInfo body, PspOutcome *outcome)
{
	int64 left = task->total_amount - task->captured_amount;
	bool  is_last = task->final || task->amount >= left;

	appendStringInfoChar(body, '{');
	if (!paypal_add_amount(task, body, outcome))
		return false;
	json_append_member(body, "invoice_id", task->psp_key);
	json_append_name(body, "final_capture");
	appendStringInfo(body, "%s}", is_last ? "true" : "false");
	return true;
}

bool
paypal_build_authorization(const PspTask *task, const char *base_url,
						   const char *token, PspRequest *request,
						   PspOutcome *outcome)
{
	bool captures = task->operation == PSP_OPERATION_CAPTURE;

	if (looks(task))
	{
		adapter_begin(request, "GET", base_url, ORDERS_PATH);
		form_encode(&request->url, task->psp_reference);
		paypal_add_headers(task, token, NULL, request);
		return true;
	}
	adapter_begin(request, "POST", base_url, AUTHORIZATIONS_PATH);
	form_encode(&request->url, task->parent_reference);
	appendStringInfoString(&request->url, captures ? "/capture" : "/void");
	paypal_add_headers(task, token, "", request);
	return !captures || build_capture_body(task, &request->body, outcome);
}

/* ---- answers ---- */

static void
set_gone(Standing standing, PspOutcome *outcome)
{
	if (standing == STANDING_EXPIRED)
		outcome_error(outcome, PSP_EXPIRED, "expired",
					  "the authorization has expired");
	else
		outcome_error(outcome, PSP_VOIDED, "voided",
					  "the authorization was voided at PayPal");
}

/*
 * What the authorization is while what we asked for was not done to it, or is
 * not known to be.
 */
static void
judge_standing(const PspTask *task, const char *status, PspOutcome *outcome)
{
	Standing standing = standing_of(status);
	bool	 has_expired =
		task->cursor && strcmp(task->cursor, PAYPAL_EXPIRED) == 0;

	if (standing == STANDING_OPEN && has_expired)
		standing = STANDING_EXPIRED;
	switch (standing)
	{
		case STANDING_VOIDED:
		case STANDING_EXPIRED:
			set_gone(standing, outcome);
			break;
		case STANDING_CAPTURED:
			outcome_failed(outcome, "already_captured",
						   "nothing is left of what was authorized");
			break;
		case STANDING_DENIED:
			outcome_failed(outcome, "denied",
						   "the authorization was denied at PayPal");
			break;
		case STANDING_OPEN:
			if (task->step == PSP_STEP_LOOKUP)
			{
				outcome_error(outcome, PSP_NOT_FOUND, "not_found",
							  "the authorization is as it was");
				break;
			}
			outcome_unknown_status(outcome, status);
			break;
		case STANDING_UNKNOWN:
			outcome_unknown_status(outcome, status);
			break;
	}
}

static const JsonNode *
find_authorization(const PspTask *task, const JsonDocument *json,
				   const JsonNode *payments)
{
	const JsonNode *list = json_member(json, payments, "authorizations");

	for (const JsonNode *one = json_first(json, list); one;
		 one = json_next(json, one))
		if (member_equals(json, one, "id", task->parent_reference))
			return one;
	return NULL;
}

/* Our capture; whether all of them say whose they are. */
static const JsonNode *
find_capture(const PspTask *task, const JsonDocument *json,
			 const JsonNode *payments, bool *all_named)
{
	const JsonNode *list = json_member(json, payments, "captures");

	*all_named = true;
	for (const JsonNode *one = json_first(json, list); one;
		 one = json_next(json, one))
	{
		if (member_equals(json, one, "invoice_id", task->psp_key))
			return one;
		if (member_reference(json, one, "invoice_id") == NULL)
			*all_named = false;
	}
	return NULL;
}

static void
read_order(const PspTask *task, const JsonDocument *json, PspOutcome *outcome)
{
	const JsonNode *root = json_root(json);
	const JsonNode *unit =
		json_first(json, json_member(json, root, "purchase_units"));
	const JsonNode *payments = json_member(json, unit, "payments");
	const JsonNode *authorization = find_authorization(task, json, payments);
	const JsonNode *capture = NULL;
	const char	   *status =
		member_text(json, authorization, "status", PSP_CODE_LENGTH_MAX);
	bool all_named = true;

	if (task->operation == PSP_OPERATION_CAPTURE)
		capture = find_capture(task, json, payments, &all_named);
	if (!member_equals(json, root, "id", task->psp_reference) ||
		!paypal_names_object(task, json, unit, authorization) ||
		status == NULL || (capture == NULL && !all_named))
		outcome_unreadable(outcome);
	else if (capture)
		paypal_judge_capture(json, capture, outcome);
	else
		judge_standing(task, status, outcome);
}

static void
read_capture(const PspTask *task, const JsonDocument *json,
			 const JsonNode *root, PspOutcome *outcome)
{
	const JsonNode *custom_id = json_member(json, root, "custom_id");

	if (!member_equals(json, root, "invoice_id", task->psp_key) ||
		(custom_id &&
		 !member_equals(json, root, "custom_id", task->object_id)))
		outcome_unreadable(outcome);
	else
		paypal_judge_capture(json, root, outcome);
}

static void
read_void(const PspTask *task, const JsonDocument *json, const JsonNode *root,
		  PspOutcome *outcome)
{
	const char *status =
		member_text(json, root, "status", PSP_CODE_LENGTH_MAX);

	if (status == NULL ||
		!member_equals(json, root, "id", task->parent_reference))
		outcome_unreadable(outcome);
	else if (standing_of(status) == STANDING_VOIDED)
		set_gone(STANDING_VOIDED, outcome);
	else
		outcome_unknown_status(outcome, status);
}

/* The order keeps its name, whatever is done to it. */
void
paypal_read_authorization(const PspTask *task, const JsonDocument *json,
						  PspOutcome *outcome)
{
	outcome->reference =
		task->psp_reference ? task->psp_reference : task->parent_reference;
	if (looks(task))
		read_order(task, json, outcome);
	else if (task->operation == PSP_OPERATION_CAPTURE)
		read_capture(task, json, json_root(json), outcome);
	else
		read_void(task, json, json_root(json), outcome);
}

bool
paypal_goes_on_looking(const PspTask *task, int status, const char *issue,
					   PspOutcome *outcome)
{
	static const char *const states[] = { "AUTHORIZATION_ALREADY_CAPTURED",
										  "AUTHORIZATION_ALREADY_COMPLETED",
										  "AUTHORIZATION_DENIED",
										  "AUTHORIZATION_VOIDED",
										  "CANNOT_BE_VOIDED",
										  "DUPLICATE_INVOICE_ID",
										  "PREVIOUSLY_CAPTURED",
										  "PREVIOUSLY_VOIDED",
										  NULL };
	bool has_expired = issue && strcmp(issue, "AUTHORIZATION_EXPIRED") == 0;

	/* Nor does "no content" say what it is that was voided. */
	if (!is_about_authorization(task) || looks(task) ||
		task->psp_reference == NULL ||
		!(has_expired || adapter_one_of(issue, states) ||
		  (status == 204 && task->operation == PSP_OPERATION_VOID)))
		return false;
	outcome->kind = PSP_MORE;
	outcome->cursor = has_expired
						  ? PAYPAL_EXPIRED
						  : psprintf(PAYPAL_SHOW "%s", task->psp_reference);
	return true;
}
