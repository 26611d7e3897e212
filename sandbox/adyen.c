/*
 * adyen.c
 *		Adyen's ways around the handlers: X-API-Key, its errors, its keys.
 */
#include "adyen.h"

#include <stdlib.h>
#include <string.h>

#include "currency.h"
#include "dialect.h"
#include "json.h"
#include "options.h"
#include "random.h"

#define ECHO_MAX 100

static bool
is_platform(const Request *request)
{
	return strncmp(request->path, "/btl/", 5) == 0;
}

/* The transfers say their errors as RFC 7807 has it. */
static void
put_problem(Buf *b, int status, const char *code, const char *message)
{
	char id[ID_SIZE];

	random_capitals(id, sizeof(id), "", 16);
	json_open(b, NULL, '{');
	json_str(b, "type", "https://docs.adyen.com/errors/sandbox");
	json_str(b, "errorCode", code);
	json_str(b, "title", status == 422 ? "Invalid request" : "Error");
	json_str(b, "detail", message);
	json_str(b, "requestId", id);
	json_int(b, "status", status);
	json_close(b, '}');
}

static void
put_error(Request *request, int status, const char *code, const char *type,
		  const char *fmt, va_list args)
{
	Buf	 message = { 0 };
	Buf *b = &request->answer.body;

	buf_vprintf(&message, fmt, args);
	request->answer.status = status;
	b->len = 0;
	if (is_platform(request) && status != 401)
		put_problem(b, status, code, message.data);
	else
	{
		json_open(b, NULL, '{');
		json_int(b, "status", status);
		json_str(b, "errorCode", code);
		json_str(b, "message", message.data);
		json_str(b, "errorType", type);
		json_close(b, '}');
	}
	buf_free(&message);
}

bool
adyen_error(Request *request, int status, const char *code, const char *type,
			const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	put_error(request, status, code, type, fmt, args);
	va_end(args);
	return false;
}

bool
adyen_invalid(Request *request, const char *code, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	put_error(request, 422, code, "validation", fmt, args);
	va_end(args);
	return false;
}

static bool
authorized(Request *request)
{
	if (request->api_key == NULL || !is_secret_key(request->api_key))
		return adyen_error(request, 401, "000", "security",
						   "HTTP Status Response - Unauthorized");
	return true;
}

static void
trouble(Request *request, Trouble trouble, const char *about)
{
	switch (trouble)
	{
		case TROUBLE_NO_ROUTE:
			adyen_error(request, 404, "000", "validation",
						"There is nothing at %s %.200s", request->method,
						request->path);
			break;
		case TROUBLE_TOO_LARGE:
			adyen_error(request, 413, "702", "validation",
						"The request is larger than %d bytes",
						REQUEST_BODY_MAX);
			break;
		case TROUBLE_CONTENT_TYPE:
			adyen_error(request, 415, "702", "validation",
						"The content type must be %s", about);
			break;
		case TROUBLE_UNREADABLE:
			adyen_error(request, 400, "702", "validation", "%s", about);
			break;
		case TROUBLE_BAD_KEY:
			adyen_invalid(request, "702",
						  "The idempotency key must have 1 to %zu printable "
						  "characters",
						  request->dialect->key_max);
			break;
		case TROUBLE_KEY_IN_USE:
		case TROUBLE_KEY_MISMATCH:
			/* It will be over soon: the same request may come again. */
			request->answer.should_retry = 1;
			adyen_error(request, 409, "704", "validation",
						"request already processed or in progress");
			break;
		case TROUBLE_NOT_LOOPBACK:
			break;
		case TROUBLE_RATE_LIMIT:
			adyen_error(request, 429, "000", "validation",
						"Too many requests");
			break;
		case TROUBLE_INTERNAL:
			adyen_error(request, 500, "000", "internal", "Internal error");
	}
}

/* Keys belong to the company account. */
static void
scope_key(const Request *request, Buf *scoped)
{
	buf_printf(scoped, "adyen %s", request->idempotency_key);
}

static KeyLife
key_life(const Request *request)
{
	(void) request;
	return KEEP_A_WEEK;
}

/* A transient error is none that the key would remember. */
static bool
keeps_500(const Request *request)
{
	return request->answer.should_retry != 1;
}

static void
add_headers(Request *request)
{
	const Answer *answer = &request->answer;

	if (request->idempotency_key != NULL)
		answer_header(request, "Idempotency-Key", "%s",
					  request->idempotency_key);
	if (answer->should_retry != SHOULD_RETRY_ABSENT)
		answer_header(request, "transient-error", "%s",
					  answer->should_retry ? "true" : "false");
}

/*
 * That a key comes with another request than at first is not checked, as far
 * as is documented: the answer is what the first request was answered.
 */
const Dialect adyen_dialect = { .psp = PSP_ADYEN,
								.key_header = "Idempotency-Key",
								.key_max = 64,
								.json = true,
								.authorized = authorized,
								.trouble = trouble,
								.scope_key = scope_key,
								.key_life = key_life,
								.compares_requests = false,
								.keeps_500 = keeps_500,
								.add_headers = add_headers };

bool
adyen_merchant(Request *request)
{
	const char *merchant = json_text(request->json, "merchantAccount");

	if (merchant == NULL || strcmp(merchant, options.adyen_merchant) != 0)
		return adyen_error(request, 403, "901", "security",
						   "Invalid Merchant Account");
	return true;
}

bool
adyen_amount(Request *request, int64_t *amount, int *currency)
{
	const char *code = json_text(request->json, "amount.currency");

	if (json_at(request->json, "amount") == NULL)
		return adyen_invalid(request, "100", "No amount specified");
	if (!json_integer(request->json, "amount.value", amount) || *amount < 0 ||
		*amount > AMOUNT_MAX)
		return adyen_invalid(request, "137", "Invalid amount specified");
	/* Capitals only, unlike elsewhere. */
	*currency = CURRENCY_UNKNOWN;
	if (code != NULL && strspn(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 3)
		*currency = currency_find(code);
	if (*currency == CURRENCY_UNKNOWN)
		return adyen_invalid(request, "138", "Unsupported currency specified");
	return true;
}

bool
adyen_reference(Request *request, bool required, const char **reference)
{
	JsonValue *value = json_at(request->json, "reference");

	*reference = json_text(request->json, "reference");
	if (required && (*reference == NULL || **reference == '\0'))
		return adyen_invalid(request, "130",
							 "Required field 'reference' is not provided.");
	if ((value != NULL && *reference == NULL) ||
		(*reference != NULL && strlen(*reference) > ADYEN_REFERENCE_MAX))
		return adyen_invalid(request, "702",
							 "Field 'reference' is not valid: at most %d "
							 "characters",
							 ADYEN_REFERENCE_MAX);
	return true;
}

bool
adyen_known(Request *request, const char *const *names)
{
	const char *unknown = json_unknown(request->json, names);

	if (unknown == NULL)
		return true;
	return adyen_invalid(request, "702",
						 "Structure of the request contains the following "
						 "unknown fields: [%.*s]",
						 ECHO_MAX, unknown);
}

void
adyen_amount_json(Buf *b, int32_t currency, int64_t amount)
{
	char code[4];

	currency_upper(code, currency);
	json_open(b, "amount", '{');
	json_str(b, "currency", code);
	json_int(b, "value", amount);
	json_close(b, '}');
}
