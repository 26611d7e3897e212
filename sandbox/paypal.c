/*
 * paypal.c
 *		PayPal's ways around the handlers: bearer tokens, its errors, what a
 *		PayPal-Request-Id means, and amounts as decimal strings.
 */
#include "paypal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "currency.h"
#include "dialect.h"
#include "json.h"
#include "options.h"
#include "random.h"

#define TOKEN_PATH "/v1/oauth2/token"
#define WHOLE_DIGITS_MAX 10

static const char *
message_of(const char *name)
{
	static const char *const messages[][2] = {
		{ "INVALID_REQUEST", "The request is malformed: see its details." },
		{ "UNPROCESSABLE_ENTITY", "This cannot be done: see the details." },
		{ "RESOURCE_NOT_FOUND", "There is no such resource." },
		{ "RESOURCE_CONFLICT", "The server has detected a conflict while "
							   "processing this request." },
		{ "USER_BUSINESS_ERROR", "User business error." },
		{ "VALIDATION_ERROR", "Invalid request - see details" },
		{ "RATE_LIMIT_REACHED", "Too many requests in a short time." },
		{ "UNSUPPORTED_MEDIA_TYPE",
		  "The body has another content type than JSON." },
		{ "INTERNAL_SERVER_ERROR", "The provider failed." }
	};

	for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++)
	{
		if (strcmp(messages[i][0], name) == 0)
			return messages[i][1];
	}
	return "The request was refused.";
}

static void
put_detail(Buf *b, const char *field, const char *issue,
		   const char *description)
{
	json_open(b, "details", '[');
	json_open(b, NULL, '{');
	if (field != NULL)
	{
		json_str(b, "field", field);
		json_str(b, "location", "body");
	}
	json_str(b, "issue", issue);
	if (description != NULL)
		json_str(b, "description", description);
	json_close(b, '}');
	json_close(b, ']');
}

bool
paypal_error(Request *request, int status, const char *name, const char *field,
			 const char *issue, const char *description)
{
	Buf *b = &request->answer.body;
	char debug_id[ID_SIZE];

	random_id(debug_id, sizeof(debug_id), "");
	debug_id[13] = '\0';
	request->answer.status = status;
	b->len = 0;
	json_open(b, NULL, '{');
	json_str(b, "name", name);
	json_str(b, "message", message_of(name));
	json_str(b, "debug_id", debug_id);
	if (issue != NULL)
		put_detail(b, field, issue, description);
	json_empty(b, "links", "[]");
	json_close(b, '}');
	return false;
}

bool
paypal_invalid(Request *request, const char *field, const char *issue,
			   const char *description)
{
	return paypal_error(request, 400, "INVALID_REQUEST", field, issue,
						description);
}

bool
paypal_unprocessable(Request *request, const char *field, const char *issue,
					 const char *description)
{
	return paypal_error(request, 422, "UNPROCESSABLE_ENTITY", field, issue,
						description);
}

bool
paypal_not_found(Request *request)
{
	return paypal_error(request, 404, "RESOURCE_NOT_FOUND", NULL,
						"INVALID_RESOURCE_ID", "Nothing has this id.");
}

const char *
paypal_webhook_id(void)
{
	return options.paypal_webhook_id ? options.paypal_webhook_id
									 : "1SANDBOXWEBHOOK";
}

/* Errors of access are OAuth's, not PayPal's own. */
static bool
refuse_access(Request *request, const char *error, const char *description)
{
	Buf *b = &request->answer.body;

	request->answer.status = 401;
	b->len = 0;
	json_open(b, NULL, '{');
	json_str(b, "error", error);
	json_str(b, "error_description", description);
	json_close(b, '}');
	return false;
}

/* "id:secret" in base64, compared in that form. */
static bool
is_client(const char *given)
{
	char   plain[2 * SECRET_KEY_MAX + 2];
	size_t len = 0;
	int	   bits = 0;
	int	   held = 0;

	for (; *given != '\0' && *given != '=' && len < sizeof(plain) - 1; given++)
	{
		static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
									  "abcdefghijklmnopqrstuvwxyz"
									  "0123456789+/";
		const char		 *found = strchr(letters, *given);

		if (found == NULL)
			return false;
		held = (held << 6 | (int) (found - letters)) & 0xFFFF;
		bits += 6;
		if (bits >= 8)
		{
			bits -= 8;
			plain[len++] = (char) (held >> bits);
		}
	}
	plain[len] = '\0';
	len = strlen(options.paypal_client);
	return strncmp(plain, options.paypal_client, len) == 0 &&
		   plain[len] == ':' && is_secret_key(plain + len + 1);
}

static bool
authorized(Request *request)
{
	const char *given = request->authorization;
	const char *problem;

	if (strcmp(request->path, TOKEN_PATH) == 0)
		return (given != NULL && strncasecmp(given, "Basic ", 6) == 0 &&
				is_client(given + 6)) ||
			   refuse_access(request, "invalid_client",
							 "Client Authentication failed");
	if (given == NULL || strncasecmp(given, "Bearer ", 7) != 0)
		return refuse_access(request, "invalid_token",
							 "Authorization header does not have valid access "
							 "token");
	book_lock();
	problem = paypal_token_problem(given + 7);
	book_unlock();
	return problem == NULL || refuse_access(request, "invalid_token", problem);
}

static void
trouble(Request *request, Trouble trouble, const char *about)
{
	switch (trouble)
	{
		case TROUBLE_NO_ROUTE:
			paypal_not_found(request);
			break;
		case TROUBLE_TOO_LARGE:
			paypal_error(request, 413, "INVALID_REQUEST", NULL,
						 "REQUEST_TOO_LARGE", NULL);
			break;
		case TROUBLE_CONTENT_TYPE:
			paypal_error(request, 415, "UNSUPPORTED_MEDIA_TYPE", NULL, NULL,
						 NULL);
			break;
		case TROUBLE_UNREADABLE:
			paypal_invalid(request, NULL, "MALFORMED_REQUEST_JSON", about);
			break;
		case TROUBLE_BAD_KEY:
			paypal_invalid(request, "PayPal-Request-Id",
						   "INVALID_STRING_LENGTH",
						   "This is too short or too long.");
			break;
		case TROUBLE_KEY_IN_USE:
		case TROUBLE_KEY_MISMATCH:
			paypal_error(request, 409, "RESOURCE_CONFLICT", NULL,
						 "PREVIOUS_REQUEST_IN_PROGRESS",
						 "The first request with this id still runs.");
			break;
		case TROUBLE_NOT_LOOPBACK:
			break;
		case TROUBLE_RATE_LIMIT:
			paypal_error(request, 429, "RATE_LIMIT_REACHED", NULL, NULL, NULL);
			break;
		case TROUBLE_INTERNAL:
			paypal_error(request, 500, "INTERNAL_SERVER_ERROR", NULL, NULL,
						 NULL);
	}
}

/* An id is one for each kind of call. */
static void
scope_key(const Request *request, Buf *scoped)
{
	buf_printf(scoped, "paypal %s %s", request->route->pattern,
			   request->idempotency_key);
}

static KeyLife
key_life(const Request *request)
{
	if (strncmp(request->path, "/v2/checkout/", 13) == 0)
		return KEEP_SIX_HOURS;
	if (strncmp(request->path, "/v2/payments/", 13) == 0)
		return KEEP_45_DAYS;
	return KEEP_30_DAYS;
}

static bool
keeps_500(const Request *request)
{
	(void) request;
	return false;
}

/* What comes again gets what is so by now, with 200 in place of 201. */
static void
refresh(Request *request)
{
	Answer	   *answer = &request->answer;
	JsonValue  *old = json_parse(answer->body.data, answer->body.len);
	const char *id = json_text(old, "id");
	const char *batch = json_text(old, "batch_header.payout_batch_id");
	bool		whole = paypal_wants_representation(request);

	if (id != NULL && book_find_intent(PSP_PAYPAL, id) != NULL)
		paypal_order_answer(request, book_find_intent(PSP_PAYPAL, id), whole);
	else if (id != NULL && book_find_charge(PSP_PAYPAL, id) != NULL &&
			 !paypal_is_authorization(book_find_charge(PSP_PAYPAL, id)))
		paypal_capture_answer(request, book_find_charge(PSP_PAYPAL, id),
							  whole);
	else if (id != NULL && book_find_modification(PSP_PAYPAL, id) != NULL)
		paypal_refund_answer(request, book_find_modification(PSP_PAYPAL, id),
							 whole);
	else if (batch != NULL && book_find_payout(PSP_PAYPAL, batch) != NULL)
		paypal_payout_answer(request, book_find_payout(PSP_PAYPAL, batch));
	/* A void has no body, then as now. */
	if (answer->status != 204)
		answer->status = 200;
	json_free(old);
}

static void
add_headers(Request *request)
{
	char debug_id[ID_SIZE];

	random_id(debug_id, sizeof(debug_id), "");
	debug_id[13] = '\0';
	answer_header(request, "Paypal-Debug-Id", "%s", debug_id);
}

const Dialect paypal_dialect = { .psp = PSP_PAYPAL,
								 .key_header = "PayPal-Request-Id",
								 .key_max = 108,
								 .json = true,
								 .form_path = TOKEN_PATH,
								 .authorized = authorized,
								 .trouble = trouble,
								 .scope_key = scope_key,
								 .key_life = key_life,
								 .compares_requests = false,
								 .forgets_errors = true,
								 .keeps_500 = keeps_500,
								 .refresh = refresh,
								 .add_headers = add_headers };

/*
 * Its currencies; in some it knows no decimals although ISO 4217 does. -1:
 * not one of its own.
 */
static int
decimals_of(int currency)
{
	static const char all[] = "aud brl cad chf cny czk dkk eur gbp hkd huf "
							  "ils jpy mxn myr nok nzd php pln sek sgd thb "
							  "twd usd";
	const char		 *code = currency_lower(currency);

	if (strstr(all, code) == NULL)
		return -1;
	return strcmp(code, "huf") == 0 || strcmp(code, "twd") == 0
			   ? 0
			   : currency_exponent(currency);
}

static int64_t
power_of_ten(int exponent)
{
	int64_t power = 1;

	while (exponent-- > 0)
		power *= 10;
	return power;
}

/* Minor units of a decimal string: NULL, or the issue. */
static const char *
read_value(const char *text, int currency, int64_t *amount)
{
	size_t whole = strspn(text, "0123456789");
	size_t part =
		text[whole] == '.' ? strspn(text + whole + 1, "0123456789") : 0;
	size_t end = whole + (text[whole] == '.') + part;
	int	   exponent = currency_exponent(currency);

	if (whole == 0 || text[end] != '\0' || (text[whole] == '.' && part == 0) ||
		whole > WHOLE_DIGITS_MAX)
		return "INVALID_PARAMETER_SYNTAX";
	if (decimals_of(currency) == 0 && part > 0)
		return "DECIMALS_NOT_SUPPORTED";
	if ((int) part > exponent)
		return "DECIMAL_PRECISION";
	*amount = strtoll(text, NULL, 10) * power_of_ten(exponent);
	if (part > 0)
		*amount += strtoll(text + whole + 1, NULL, 10) *
				   power_of_ten(exponent - (int) part);
	return NULL;
}

bool
paypal_amount(Request *request, JsonValue *object, const char *currency_name,
			  const char *field, int64_t *amount, int *currency)
{
	const char *code = json_text(object, currency_name);
	const char *value = json_text(object, "value");
	const char *issue;

	if (code == NULL || value == NULL)
		return paypal_invalid(request, field,
							  json_at(object, "value") != NULL && code != NULL
								  ? "INVALID_PARAMETER_SYNTAX"
								  : "MISSING_REQUIRED_PARAMETER",
							  "A required field is missing or no string.");
	*currency = strspn(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 3
					? currency_find(code)
					: CURRENCY_UNKNOWN;
	if (*currency == CURRENCY_UNKNOWN)
		return paypal_invalid(request, field, "INVALID_PARAMETER_VALUE",
							  "There is no such currency.");
	if (decimals_of(*currency) < 0)
		return paypal_unprocessable(request, field, "CURRENCY_NOT_SUPPORTED",
									"PayPal does not take this currency.");
	issue = read_value(value, *currency, amount);
	if (issue == NULL && *amount == 0)
		issue = "CANNOT_BE_ZERO_OR_NEGATIVE";
	if (issue == NULL)
		return true;
	if (strcmp(issue, "INVALID_PARAMETER_SYNTAX") == 0)
		return paypal_invalid(request, field, issue,
							  "This is not of the form that is expected.");
	return paypal_unprocessable(request, field, issue,
								"The amount is not one of this currency.");
}

void
paypal_amount_json(Buf *b, const char *key, const char *currency_name,
				   int32_t currency, int64_t amount)
{
	char text[32];
	char code[4];

	currency_major(text, sizeof(text), currency, amount);
	if (decimals_of(currency) == 0)
		text[strcspn(text, ".")] = '\0';
	currency_upper(code, currency);
	json_open(b, key, '{');
	json_str(b, currency_name, code);
	json_str(b, "value", text);
	json_close(b, '}');
}

bool
paypal_text(Request *request, JsonValue *object, const char *path, size_t max,
			const char **text)
{
	*text = json_text(object, path);
	if (json_at(object, path) != NULL && *text == NULL)
		return paypal_invalid(request, path, "INVALID_PARAMETER_SYNTAX",
							  "This is not of the form that is expected.");
	return *text == NULL || (**text != '\0' && strlen(*text) <= max) ||
		   paypal_invalid(request, path, "INVALID_STRING_LENGTH",
						  "This is too short or too long.");
}

bool
paypal_wants_representation(const Request *request)
{
	return request->prefer != NULL &&
		   strcasecmp(request->prefer, "return=representation") == 0;
}

void
paypal_link(Request *request, Buf *b, const char *rel, const char *method,
			const char *path, const char *id)
{
	Buf url = { 0 };

	buf_printf(&url, "%s://%s%s%s", options.tls_cert ? "https" : "http",
			   request != NULL && request->host ? request->host
												: "sandbox.invalid",
			   path, id);
	json_open(b, NULL, '{');
	json_str(b, "href", url.data);
	json_str(b, "rel", rel);
	json_str(b, "method", method);
	json_close(b, '}');
	buf_free(&url);
}
