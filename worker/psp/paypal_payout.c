/*-------------------------------------------------------------------------
 *
 * paypal_payout.c
 *	  Payouts at PayPal: batches of one item.
 *
 * The batch's own id is the payout's key.  PayPal executes one batch of an id
 * and refuses a second with a link to the first, which is then looked at: so a
 * repeated request tells what became of the first.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "psp/form.h"
#include "psp/paypal.h"

#define PAYOUTS_PATH "/v1/payments/payouts"

/* ---- requests ---- */

static bool
build_body(const PspTask *task, StringInfo body, PspOutcome *outcome)
{
	const char *recipient_type = task->config[PAYPAL_CONFIG_RECIPIENT_TYPE];
	char		value[32];

	if (!paypal_format_amount(task->amount, task->currency, value,
							  sizeof(value)))
	{
		outcome_error(outcome, PSP_FAILED, "amount_not_representable",
					  psprintf("PayPal takes no such amount of %s",
							   task->currency));
		outcome->decline_class = PSP_DECLINE_NOT_APPLICABLE;
		return false;
	}
	appendStringInfoString(body, "{\"sender_batch_header\":{");
	json_append_member(body, "sender_batch_id", task->psp_key);
	appendStringInfoString(body, "},\"items\":[{");
	json_append_member(body, "recipient_type",
					   recipient_type ? recipient_type : "EMAIL");
	json_append_member(body, "receiver", task->destination);
	json_append_member(body, "sender_item_id", task->object_id);
	json_append_name(body, "amount");
	appendStringInfo(body, "{\"currency\":\"%s\",\"value\":\"%s\"}",
					 task->currency, value);
	appendStringInfoString(body, "}]}");
	return true;
}

bool
paypal_build_payout(const PspTask *task, const char *base_url,
					const char *token, PspRequest *request,
					PspOutcome *outcome)
{
	const char *show = task->step == PSP_STEP_LOOKUP
						   ? task->psp_reference
						   : paypal_cursor_id(task, PAYPAL_SHOW);

	adapter_begin(request, show ? "GET" : "POST", base_url, PAYOUTS_PATH);
	adapter_header(request, psprintf("Authorization: Bearer %s", token));
	if (show)
	{
		appendStringInfoChar(&request->url, '/');
		form_encode(&request->url, show);
		return true;
	}
	adapter_header(request, "Content-Type: application/json");
	return build_body(task, &request->body, outcome);
}

/* ---- answers ---- */

/* the last part of an address of a batch; where it leads is not followed */
static const char *
batch_of_address(const char *address)
{
	const char *start = address ? strstr(address, PAYOUTS_PATH "/") : NULL;
	int			length;

	if (start == NULL)
		return NULL;
	start += strlen(PAYOUTS_PATH "/");
	length = (int) strspn(start, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789");
	if (length == 0 || length > PSP_REFERENCE_LENGTH_MAX ||
		(start[length] != '\0' && start[length] != '?'))
		return NULL;
	return pnstrdup(start, length);
}

static const char *
batch_of_links(const JsonDocument *json, const JsonNode *object,
			   const char *name)
{
	const JsonNode *links = json_member(json, object, name);

	for (const JsonNode *link = json_first(json, links); link;
		 link = json_next(json, link))
	{
		char *address = json_string(json, json_member(json, link, "href"));
		const char *batch = batch_of_address(address);

		if (batch)
			return batch;
	}
	return NULL;
}

const char *
paypal_original_batch(const JsonDocument *json)
{
	const JsonNode *root = json_root(json);
	const char	   *batch = NULL;

	for (const JsonNode *detail =
			 json_first(json, json_member(json, root, "details"));
		 detail && batch == NULL; detail = json_next(json, detail))
	{
		batch = batch_of_links(json, detail, "link");
		if (batch == NULL)
			batch = batch_of_links(json, detail, "links");
	}
	return batch ? batch : batch_of_links(json, root, "links");
}

static const JsonNode *
find_item(const PspTask *task, const JsonDocument *json)
{
	const JsonNode *items = json_member(json, json_root(json), "items");

	for (const JsonNode *item = json_first(json, items); item;
		 item = json_next(json, item))
		if (member_equals(json, json_member(json, item, "payout_item"),
						  "sender_item_id", task->object_id))
			return item;
	return NULL;
}

static void
set_failed(const JsonDocument *json, const JsonNode *item, const char *status,
		   PspOutcome *outcome)
{
	static const char *const soft[] = { "INSUFFICIENT_FUNDS",
										"SENDER_LIMIT_EXCEEDED", NULL };
	const JsonNode *errors = item ? json_member(json, item, "errors") : NULL;
	const char *code = member_text(json, errors, "name", PSP_CODE_LENGTH_MAX);

	outcome_error(outcome, PSP_FAILED, code ? code : status,
				  member_text(json, errors, "message",
							  PSP_MESSAGE_LENGTH_MAX));
	outcome->decline_class =
		adapter_one_of(code, soft) ? PSP_DECLINE_SOFT : PSP_DECLINE_HARD;
}

void
paypal_read_item(const JsonDocument *json, const JsonNode *item,
				 PspOutcome *outcome)
{
	static const char *const waiting[] = { "PENDING", "UNCLAIMED", "ONHOLD",
										   "NEW", NULL };
	static const char *const over[] = { "FAILED",	"RETURNED", "BLOCKED",
										"REFUNDED", "REVERSED", "DENIED",
										NULL };
	const char				*status =
		member_text(json, item, "transaction_status", PSP_CODE_LENGTH_MAX);

	if (status == NULL)
		outcome_unreadable(outcome);
	else if (strcmp(status, "SUCCESS") == 0)
	{
		const JsonNode *what = json_member(json, item, "payout_item");

		outcome->kind = PSP_SUCCEEDED;
		if (!paypal_read_money(json, json_member(json, what, "amount"),
							   "currency", outcome))
			outcome_unreadable(outcome);
	}
	else if (adapter_one_of(status, waiting))
		outcome->kind = PSP_PENDING;
	else if (adapter_one_of(status, over))
		set_failed(json, item, status, outcome);
	else
		outcome_unknown_status(outcome, status);
}

static void
read_batch(const JsonDocument *json, const char *status, PspOutcome *outcome)
{
	static const char *const waiting[] = { "PENDING", "PROCESSING", "NEW",
										   "SUCCESS", NULL };
	static const char *const over[] = { "DENIED", "CANCELED", NULL };

	if (adapter_one_of(status, waiting))
		outcome->kind = PSP_PENDING;
	else if (adapter_one_of(status, over))
		set_failed(json, NULL, status, outcome);
	else
		outcome_unknown_status(outcome, status);
}

/* What the item says goes before what the batch does. */
void
paypal_read_payout(const PspTask *task, const JsonDocument *json,
				   PspOutcome *outcome)
{
	const JsonNode *header =
		json_member(json, json_root(json), "batch_header");
	const JsonNode *named = json_member(json, header, "sender_batch_header");
	const char	   *id = paypal_id(json, header, "payout_batch_id");
	const char	   *status =
		member_text(json, header, "batch_status", PSP_CODE_LENGTH_MAX);
	const JsonNode *item = find_item(task, json);
	const char	   *asked = task->step == PSP_STEP_LOOKUP
								? task->psp_reference
								: paypal_cursor_id(task, PAYPAL_SHOW);

	if (id == NULL || status == NULL ||
		!member_equals(json, named, "sender_batch_id", task->psp_key) ||
		(asked && strcmp(asked, id) != 0))
	{
		outcome_unreadable(outcome);
		return;
	}
	outcome->reference = id;
	if (item)
		paypal_read_item(json, item, outcome);
	else
		read_batch(json, status, outcome);
}
