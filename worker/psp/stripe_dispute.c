/*-------------------------------------------------------------------------
 *
 * stripe_dispute.c
 *	  Stripe's disputes: where they are, where their money is, and how they are
 *	  answered.
 *
 * Stripe knows inquiries and chargebacks; that a bank comes again after a
 * dispute was won shows in the status alone.  Where the money is follows from
 * the balance transactions, which a dispute collects: each of them takes money
 * or gives it back, and says what that cost.  An event with more of them is
 * the later one, also within one second.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "psp/form.h"
#include "psp/stripe.h"

#define TRANSACTIONS_MAX 99
#define FEE_MAX INT64CONST(1000000000000)

static const struct
{
	const char *name;
	const char *stage;
	const char *status;
} statuses[] = {
	{ "warning_needs_response", "inquiry", "open" },
	{ "warning_under_review", "inquiry", "challenged" },
	{ "warning_closed", "inquiry", "withdrawn" },
	{ "needs_response", "chargeback", "open" },
	{ "under_review", "chargeback", "challenged" },
	{ "won", "chargeback", "won" },
	{ "lost", "chargeback", "lost" },
	{ "prevented", "chargeback", "withdrawn" },
};

static bool
read_transaction(const JsonDocument *json, const JsonNode *node, int64 *amount,
				 int64 *fee, char *currency)
{
	return json_int64(json, json_member(json, node, "amount"), amount) &&
		   json_int64(json, json_member(json, node, "fee"), fee) &&
		   member_currency(json, node, "currency", currency) &&
		   *fee >= -FEE_MAX && *fee <= FEE_MAX;
}

/* how many there are; 0: none, or they cannot be read */
static int
read_transactions(const JsonDocument *json, const JsonNode *list,
				  PspDispute *dispute)
{
	int	  count = 0;
	int	  taken = 0;
	int64 total = 0;
	char  currency[4] = "";

	for (const JsonNode *node = json_first(json, list); node;
		 node = json_next(json, node))
	{
		int64 amount;
		int64 fee;

		if (++count > TRANSACTIONS_MAX ||
			!read_transaction(json, node, &amount, &fee, currency) ||
			(*dispute->fee_currency &&
			 strcmp(dispute->fee_currency, currency) != 0))
			return 0;
		strlcpy(dispute->fee_currency, currency,
				sizeof(dispute->fee_currency));
		taken += amount < 0 ? 1 : -1;
		total += fee;
	}
	if (count > 0)
	{
		dispute->money = taken > 0 ? PSP_DISPUTE_TAKEN : PSP_DISPUTE_RETURNED;
		dispute->has_fee = true;
		dispute->fee = total;
	}
	return count;
}

void
stripe_read_dispute(const JsonDocument *json, const JsonNode *object,
					PspEvent *event)
{
	PspDispute *dispute = &event->dispute;
	const char *status =
		member_text(json, object, "status", PSP_CODE_LENGTH_MAX);
	int count;

	for (int i = 0; status && i < (int) lengthof(statuses); i++)
	{
		if (strcmp(statuses[i].name, status) != 0)
			continue;
		dispute->stage = statuses[i].stage;
		dispute->status = statuses[i].status;
	}
	count =
		read_transactions(json,
						  json_member(json, object, "balance_transactions"),
						  dispute);
	if (count == 0)
	{
		if (strcmp(event->type, "charge.dispute.funds_withdrawn") == 0)
			dispute->money = PSP_DISPUTE_TAKEN;
		else if (strcmp(event->type, "charge.dispute.funds_reinstated") == 0)
			dispute->money = PSP_DISPUTE_RETURNED;
		dispute->fee_currency[0] = '\0';
	}
	dispute->reason = member_text(json, object, "reason", PSP_CODE_LENGTH_MAX);
	if (!json_int64(json,
					json_member(json,
								json_member(json, object, "evidence_details"),
								"due_by"),
					&dispute->respond_by_s))
		dispute->respond_by_s = 0;
	/* what cannot be is left to the bound that a time has */
	dispute->sequence =
		event->sent_at_s >= 0 &&
				event->sent_at_s < PG_INT32_MAX * INT64CONST(1000)
			? event->sent_at_s * 100 + count
			: count;
}

/* ---- answers ---- */

/* Names were checked when it was taken: letters, digits and underscores */
void
stripe_add_evidence(const PspTask *task, StringInfo body)
{
	JsonDocument	json;
	const JsonNode *root = NULL;
	int				next = -1;

	if (task->evidence &&
		json_parse(&json, task->evidence, (int) strlen(task->evidence)))
		root = json_root(&json);
	if (root && root->type == JSON_OBJECT)
		next = root->child;
	while (next >= 0)
	{
		const JsonNode *node = &json.nodes[next];
		char		   *key = psprintf("evidence[%.*s]", node->key_length,
									   json.text + node->key_start);

		form_add(body, 0, key, json_string(&json, node));
		next = node->next;
	}
	form_add(body, 0, "metadata[" STRIPE_DISPUTE_RESPONSE "]",
			 task->object_id);
	form_add(body, 0, "submit", "true");
	if (root)
		json_free(&json);
}

static bool
waits_for_response(const char *status)
{
	return strcmp(status, "needs_response") == 0 ||
		   strcmp(status, "warning_needs_response") == 0;
}

/*
 * Evidence names our request in the metadata, an acceptance shows in the
 * status.  What others have answered meanwhile is not ours to claim.
 */
static bool
is_answered(const PspTask *task, const JsonDocument *json,
			const JsonNode *object, const char *status)
{
	if (task->operation == PSP_OPERATION_DISPUTE_ACCEPT)
		return strcmp(status, "lost") == 0;
	return member_equals(json, json_member(json, object, "metadata"),
						 STRIPE_DISPUTE_RESPONSE, task->object_id);
}

void
stripe_read_response(const PspTask *task, const JsonDocument *json,
					 const JsonNode *object, PspOutcome *outcome)
{
	const char *status =
		member_text(json, object, "status", PSP_CODE_LENGTH_MAX);

	outcome->reference = member_reference(json, object, "id");
	if (status == NULL || outcome->reference == NULL ||
		!member_equals(json, object, "object", "dispute"))
		outcome_unreadable(outcome);
	else if (is_answered(task, json, object, status))
	{
		outcome->kind = PSP_SUCCEEDED;
		if (!stripe_read_money(json, object, "amount", outcome))
			outcome_unreadable(outcome);
	}
	else if (task->step == PSP_STEP_SEND)
		outcome_unreadable(outcome);
	else if (waits_for_response(status))
		outcome_error(outcome, PSP_NOT_FOUND, "not_found",
					  "the dispute waits for an answer");
	else
		outcome_failed(outcome, "answered_already",
					   "the dispute takes no answer any more");
}
