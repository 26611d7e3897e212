/*-------------------------------------------------------------------------
 *
 * paypal_refund.c
 *	  Refunds at PayPal: of a capture, not of the order that it belongs to.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "psp/form.h"
#include "psp/paypal.h"

#define CAPTURES_PATH "/v2/payments/captures/"
#define REFUNDS_PATH "/v2/payments/refunds/"

bool
paypal_build_refund(const PspTask *task, const char *base_url,
					const char *token, PspRequest *request,
					PspOutcome *outcome)
{
	StringInfo body = &request->body;

	if (task->step == PSP_STEP_LOOKUP)
	{
		adapter_begin(request, "GET", base_url, REFUNDS_PATH);
		form_encode(&request->url, task->psp_reference);
		paypal_add_headers(task, token, NULL, request);
		return true;
	}
	adapter_begin(request, "POST", base_url, CAPTURES_PATH);
	form_encode(&request->url, task->parent_reference);
	appendStringInfoString(&request->url, "/refund");
	paypal_add_headers(task, token, "", request);
	appendStringInfoChar(body, '{');
	if (!paypal_add_amount(task, body, outcome))
		return false;
	json_append_member(body, "custom_id", task->object_id);
	json_append_member(body, "invoice_id", task->psp_key);
	appendStringInfoChar(body, '}');
	return true;
}

void
paypal_judge_refund(const JsonDocument *json, const JsonNode *root,
					const char *status, PspOutcome *outcome)
{
	const char *reason;

	if (strcmp(status, "COMPLETED") == 0)
	{
		outcome->kind = PSP_SUCCEEDED;
		if (!paypal_read_money(json, json_member(json, root, "amount"),
							   "currency_code", outcome))
			outcome_unreadable(outcome);
	}
	else if (strcmp(status, "PENDING") == 0)
		outcome->kind = PSP_PENDING;
	else if (strcmp(status, "FAILED") == 0 || strcmp(status, "CANCELLED") == 0)
	{
		reason = member_text(json, json_member(json, root, "status_details"),
							 "reason", PSP_CODE_LENGTH_MAX);
		outcome_failed(outcome, reason ? reason : status,
					   psprintf("the refund is %s", status));
	}
	else
		outcome_unknown_status(outcome, status);
}

void
paypal_read_refund(const PspTask *task, const JsonDocument *json,
				   PspOutcome *outcome)
{
	const JsonNode *root = json_root(json);
	const char	   *id = paypal_id(json, root, "id");
	const char	   *status =
		member_text(json, root, "status", PSP_CODE_LENGTH_MAX);
	const JsonNode *invoice_id = json_member(json, root, "invoice_id");

	/* Somebody else's refund says nothing of ours. */
	if (id == NULL || status == NULL ||
		!member_equals(json, root, "custom_id", task->object_id) ||
		(invoice_id &&
		 !member_equals(json, root, "invoice_id", task->psp_key)) ||
		(task->step == PSP_STEP_LOOKUP &&
		 strcmp(id, task->psp_reference) != 0))
	{
		outcome_unreadable(outcome);
		return;
	}
	outcome->reference = id;
	paypal_judge_refund(json, root, status, outcome);
}
