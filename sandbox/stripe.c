/*
 * stripe.c
 *		Stripe's ways around the handlers, and those of the control endpoints.
 */
#include <string.h>
#include <strings.h>

#include "dialect.h"

static bool
authorized(Request *request)
{
	static const char scheme[] = "Bearer ";
	const char		 *given = request->authorization;

	if (given == NULL)
		return answer_error(request, 401, "invalid_request_error", NULL, NULL,
							"You did not provide an API key.");
	if (strncasecmp(given, scheme, strlen(scheme)) != 0 ||
		!is_secret_key(given + strlen(scheme)))
		return answer_error(request, 401, "invalid_request_error", NULL, NULL,
							"Invalid API Key provided.");
	return true;
}

static void
trouble(Request *request, Trouble trouble, const char *about)
{
	static const char invalid[] = "invalid_request_error";
	static const char idempotency[] = "idempotency_error";

	switch (trouble)
	{
		case TROUBLE_NO_ROUTE:
			answer_error(request, 404, invalid, NULL, NULL,
						 "Unrecognized request URL (%s: %.200s).",
						 request->method, request->path);
			break;
		case TROUBLE_TOO_LARGE:
			answer_error(request, 413, invalid, NULL, NULL,
						 "The request body is larger than %d bytes.",
						 REQUEST_BODY_MAX);
			break;
		case TROUBLE_CONTENT_TYPE:
			answer_invalid(request, NULL, NULL,
						   "The content type of a body must be %s.", about);
			break;
		case TROUBLE_UNREADABLE:
			answer_invalid(request, NULL, NULL, "%s", about);
			break;
		case TROUBLE_BAD_KEY:
			answer_error(request, 400, idempotency, NULL, NULL,
						 "Idempotency-Key must have 1 to %zu printable ASCII "
						 "characters.",
						 request->dialect->key_max);
			break;
		case TROUBLE_KEY_MISMATCH:
			answer_error(request, 400, idempotency, NULL, NULL,
						 "This Idempotency-Key came first with other "
						 "parameters.");
			break;
		case TROUBLE_KEY_IN_USE:
			answer_error(request, 409, idempotency, "idempotency_key_in_use",
						 NULL,
						 "Another request with this Idempotency-Key is "
						 "running.");
			break;
		case TROUBLE_NOT_LOOPBACK:
			answer_error(request, 403, invalid, NULL, NULL,
						 "The control endpoints serve loopback only.");
			break;
		case TROUBLE_RATE_LIMIT:
			answer_error(request, 429, invalid, "rate_limit", NULL,
						 "Too many requests in a short time.");
			break;
		case TROUBLE_INTERNAL:
			answer_error(request, 500, "api_error", NULL, NULL,
						 "An error occurred at the provider.");
	}
}

static void
scope_key(const Request *request, Buf *scoped)
{
	buf_puts(scoped, request->idempotency_key);
}

static KeyLife
key_life(const Request *request)
{
	(void) request;
	return KEEP_A_DAY;
}

static bool
keeps_500(const Request *request)
{
	(void) request;
	return true;
}

static void
add_headers(Request *request)
{
	const Answer *answer = &request->answer;

	if (request->idempotency_key != NULL)
		answer_header(request, "Idempotency-Key", "%s",
					  request->idempotency_key);
	if (answer->replayed)
		answer_header(request, "Idempotent-Replayed", "true");
	if (answer->should_retry != SHOULD_RETRY_ABSENT)
		answer_header(request, "Stripe-Should-Retry", "%s",
					  answer->should_retry ? "true" : "false");
	if (answer->status == 401)
		answer_header(request, "WWW-Authenticate", "Bearer realm=\"Stripe\"");
}

const Dialect stripe_dialect = { .psp = PSP_STRIPE,
								 .key_header = "Idempotency-Key",
								 .key_max = 255,
								 .authorized = authorized,
								 .trouble = trouble,
								 .scope_key = scope_key,
								 .key_life = key_life,
								 .compares_requests = true,
								 .keeps_500 = keeps_500,
								 .add_headers = add_headers };
