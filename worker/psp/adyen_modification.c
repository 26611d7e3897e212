/*-------------------------------------------------------------------------
 *
 * adyen_modification.c
 *	  What is done to an Adyen payment: captures, cancels and refunds.
 *
 * Adyen takes such a request in, and tells only by a notification what came of
 * it: the best answer there is says "received".  Its reference is made of our
 * idempotency key, which names the object, what is done to it, and which
 * attempt that is, so that the notification can be told from another's.
 *
 * A void is a cancel, never a reversal: that one would refund what has been
 * captured meanwhile.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "psp/adyen.h"
#include "psp/form.h"

void
adyen_add_modification_path(const PspTask *task, StringInfo url)
{
	appendStringInfoChar(url, '/');
	form_encode(url, task->parent_reference);
	appendStringInfoString(url, task->operation == PSP_OPERATION_CAPTURE
									? "/captures"
								: task->operation == PSP_OPERATION_VOID
									? "/cancels"
									: "/refunds");
}

char *
adyen_reference(const char *psp_key)
{
	char *reference = pstrdup(psp_key);

	for (char *c = reference; *c; c++)
		if (*c == ':')
			*c = '.';
	return reference;
}

/* Adyen's words for the reasons of refunds; it has more of them. */
static const char *
refund_reason(const PspTask *task)
{
	static const char *const words[][2] = {
		{ "requested_by_customer", "CUSTOMER REQUEST" },
		{ "duplicate", "DUPLICATE" },
		{ "fraudulent", "FRAUD" },
	};

	for (int i = 0; task->reason && i < (int) lengthof(words); i++)
		if (strcmp(task->reason, words[i][0]) == 0)
			return words[i][1];
	return NULL;
}

bool
adyen_build_modification(const PspTask *task, StringInfo body,
						 PspOutcome *outcome)
{
	appendStringInfoChar(body, '{');
	json_append_member(body, "merchantAccount",
					   task->config[CONFIG_MERCHANT_ACCOUNT]);
	if (task->operation != PSP_OPERATION_VOID &&
		!adyen_add_amount(task, body, outcome))
		return false;
	json_append_member(body, "reference", adyen_reference(task->psp_key));
	if (task->operation == PSP_OPERATION_REFUND)
		json_append_member(body, "merchantRefundReason", refund_reason(task));
	appendStringInfoChar(body, '}');
	return true;
}

void
adyen_read_modification(const PspTask *task, const JsonDocument *json,
						const JsonNode *root, PspOutcome *outcome)
{
	const char *status =
		member_text(json, root, "status", PSP_CODE_LENGTH_MAX);
	const char *name = member_reference(json, root, "pspReference");

	/* Of another payment, or another request, this says nothing. */
	if (status == NULL || name == NULL ||
		!member_equals(json, root, "paymentPspReference",
					   task->parent_reference) ||
		!member_equals(json, root, "reference",
					   adyen_reference(task->psp_key)))
	{
		outcome_unreadable(outcome);
		return;
	}

	/* What is done to an order changes nothing of its name. */
	outcome->reference =
		is_about_authorization(task) ? task->parent_reference : name;
	if (strcmp(status, "received") == 0)
		outcome->kind = PSP_PENDING;
	else
		outcome_unknown_status(outcome, status);
}
