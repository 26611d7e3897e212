/*-------------------------------------------------------------------------
 *
 * paypal_verify.c
 *	  Asking PayPal whether a webhook is its own.
 *
 * The signature is over the bytes of the event, so they go back as they came:
 * what was written anew would be another event.  The address of a certificate
 * that came with it is handed on and never asked: anybody may have written it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "psp/paypal.h"

#define VERIFY_PATH "/v1/notifications/verify-webhook-signature"

static const struct
{
	const char *header;
	const char *member;
} parts[] = {
	{ "paypal-auth-algo", "auth_algo" },
	{ "paypal-cert-url", "cert_url" },
	{ "paypal-transmission-id", "transmission_id" },
	{ "paypal-transmission-sig", "transmission_sig" },
	{ "paypal-transmission-time", "transmission_time" },
};

static bool
append_parts(const char *headers, StringInfo body)
{
	JsonDocument json;
	bool		 readable =
		headers && json_parse(&json, headers, (int) strlen(headers));
	int found = 0;

	for (int i = 0; readable && i < (int) lengthof(parts); i++)
	{
		char *value = json_string(&json, json_member(&json, json_root(&json),
													 parts[i].header));

		if (value == NULL)
			continue;
		json_append_member(body, parts[i].member, value);
		found++;
	}
	if (readable)
		json_free(&json);
	return found == (int) lengthof(parts);
}

bool
paypal_build_verification(const PspTask *task, const char *base_url,
						  const char *token, PspRequest *request,
						  PspOutcome *outcome)
{
	const char *webhook_id = task->config[PAYPAL_CONFIG_WEBHOOK_ID];

	adapter_begin(request, "POST", base_url, VERIFY_PATH);
	paypal_add_headers(task, token, NULL, request);
	adapter_header(request, "Content-Type: application/json");
	appendStringInfoChar(&request->body, '{');
	if (webhook_id == NULL)
	{
		outcome_error(outcome, PSP_UNKNOWN, "no_webhook_id",
					  "the PSP's settings have no webhook_id by now");
		return false;
	}
	if (!append_parts(task->webhook_headers, &request->body))
	{
		outcome_failed(outcome, "no_signature", "a header is missing");
		return false;
	}
	json_append_member(&request->body, "webhook_id", webhook_id);
	json_append_name(&request->body, "webhook_event");
	appendBinaryStringInfo(&request->body, task->webhook_body,
						   task->webhook_length);
	appendStringInfoChar(&request->body, '}');
	return true;
}

void
paypal_read_verification(const JsonDocument *json, PspOutcome *outcome)
{
	const JsonNode *root = json_root(json);
	const char	   *status =
		member_text(json, root, "verification_status", PSP_CODE_LENGTH_MAX);

	if (status == NULL)
		outcome_unreadable(outcome);
	else if (strcmp(status, "SUCCESS") == 0)
		outcome->kind = PSP_SUCCEEDED;
	else if (strcmp(status, "FAILURE") == 0)
		outcome_failed(outcome, "not_verified",
					   "PayPal did not send this webhook");
	else
		outcome_unknown_status(outcome, status);
}

/*
 * What is malformed in the eyes of PayPal did not come from there.  That it
 * lets us pay but not ask is for people to mend, and no reason to stop paying.
 */
bool
paypal_refuses_verification(int status, const char *name, PspOutcome *outcome)
{
	const char *code = name ? name : psprintf("http_%d", status);

	if (status == 400 || status == 422)
		outcome_failed(outcome, code, "PayPal cannot verify such a webhook");
	else if (status == 403 || status == 404 || status == 405)
	{
		outcome_error(outcome, PSP_UNKNOWN, code,
					  "PayPal does not let this account verify webhooks");
		if (outcome->retry_after_ms < 0)
			outcome->retry_after_ms = REFUSED_ACCESS_DELAY_MS;
	}
	else
		return false;
	outcome->error_class = PSP_ERROR_REQUEST;
	return true;
}
