/*-------------------------------------------------------------------------
 *
 * token.c
 *	  Access tokens: what some PSPs want presented instead of the secret.
 *
 * Tokens are never logged, never in a table and never in an error message.
 * Their memory, and that of the answers they came in, is wiped.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "delivery.h"
#include "token.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* A token is renewed when this much of its life is left, at most half of it */
#define REFRESH_MARGIN_S 300

/* ... and is not presented in its last seconds: it has a way to go */
#define EXPIRY_MARGIN_S 10

/* A PSP that says how long one lives may be wrong. */
#define LIFETIME_MAX_S 86400

/* after a failure, before the next request */
#define RETRY_MS 1000
#define REFUSED_RETRY_MS 5000
#define RETRY_AFTER_MAX_MS 60000

static void
wipe(TokenCache *token)
{
	if (token->value == NULL)
		return;
	explicit_bzero(token->value, strlen(token->value));
	pfree(token->value);
	token->value = NULL;
}

static void
note_failure(TokenCache *token, const char *code, const char *message,
			 PspErrorClass class, int64 delay_ms)
{
	strlcpy(token->error_code, code, sizeof(token->error_code));
	strlcpy(token->error_message, message ? message : "",
			sizeof(token->error_message));
	token->error_class = class;
	token->is_refused = false;
	token->retry_at =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), delay_ms);
}

/* The request and its answer hold the secret or the token. */
static void
end_request(TokenCache *token, HttpExchange *exchange)
{
	if (exchange && exchange->body)
		explicit_bzero(exchange->body, exchange->body_capacity);
	for (int i = 0; i < token->request.header_count; i++)
	{
		char *header = unconstify(char *, token->request.headers[i]);

		/* the others are literals */
		if (pg_strncasecmp(header, "Authorization:", 14) == 0)
			explicit_bzero(header, strlen(header));
	}
	token->under_way = false;
	token->outdated = false;
	MemoryContextDelete(token->context);
	token->context = NULL;
}

static void
ask(Psp *psp, const char *secret)
{
	TokenCache	 *token = &psp->token;
	HttpRequest	  http;
	MemoryContext old;

	token->context = AllocSetContextCreate(TopMemoryContext, "payment token",
										   ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(token->context);
	psp->adapter->build_token(psp->base_url, secret, &token->request);
	MemoryContextSwitchTo(old);
	delivery_fill_http(psp, &token->request, &http);
	http.purpose = EXCHANGE_TOKEN;
	token->under_way = true;
	if (http_send(token->context, &http, psp) == NULL)
	{
		end_request(token, NULL);
		note_failure(token, "not_sent", "the request could not be begun",
					 PSP_ERROR_CONNECTION, RETRY_MS);
	}
	else
		psp->tokens -= 1;
}

TokenState
token_get(Psp *psp, const char *secret, const char **value)
{
	TokenCache *token = &psp->token;
	TimestampTz now = GetCurrentTimestamp();

	if (token->value && now >= token->expires_at)
		wipe(token);
	if (!token->under_way && now >= token->retry_at &&
		(token->value == NULL || now >= token->refresh_at))
		ask(psp, secret);
	*value = token->value;
	if (token->value)
		return TOKEN_READY;
	return token->under_way ? TOKEN_AWAITED : TOKEN_UNAVAILABLE;
}

static void
keep(TokenCache *token, const PspToken *answer)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		lifetime_s = Min(answer->lifetime_s, LIFETIME_MAX_S);
	int64		margin_s = Min(REFRESH_MARGIN_S, lifetime_s / 2);

	wipe(token);
	token->value = MemoryContextStrdup(TopMemoryContext, answer->value);
	token->refresh_at = now + (lifetime_s - margin_s) * USECS_PER_SEC;
	token->expires_at =
		now +
		(lifetime_s - Min(EXPIRY_MARGIN_S, margin_s / 2)) * USECS_PER_SEC;
	token->retry_at = 0;
}

static void
read_answer(Psp *psp, const HttpExchange *exchange)
{
	TokenCache *token = &psp->token;
	PspResponse response;
	PspToken	answer = { .value = NULL };
	PspOutcome	judged = { .kind = PSP_RETRY };
	int64		delay_ms = RETRY_MS;

	delivery_fill_response(exchange, &response);
	psp->adapter->read_token(&response, &answer);
	if (answer.value && strlen(answer.value) <= TOKEN_LENGTH_MAX &&
		answer.lifetime_s > 0)
	{
		keep(token, &answer);
		return;
	}
	if (answer.is_refused)
		delay_ms = REFUSED_RETRY_MS;
	delay_ms =
		Max(delay_ms, Min(exchange->retry_after_ms, RETRY_AFTER_MAX_MS));
	psp_classify(&judged, exchange->status);
	note_failure(token, answer.error_code ? answer.error_code : "no_token",
				 answer.error_message, judged.error_class, delay_ms);
	token->is_refused = answer.is_refused;
}

void
token_receive(Psp *psp, HttpExchange *exchange)
{
	TokenCache	 *token = &psp->token;
	MemoryContext old;

	/*
	 * The adapter may be another one by now; what was asked for then is of no
	 * use in any case.
	 */
	if (!token->outdated && exchange->transport == HTTP_ANSWERED)
	{
		old = MemoryContextSwitchTo(token->context);
		read_answer(psp, exchange);
		MemoryContextSwitchTo(old);
	}
	else if (!token->outdated)
		note_failure(token, http_problem_name(exchange->problem),
					 exchange->error,
					 exchange->transport == HTTP_NOT_SENT
						 ? PSP_ERROR_CONNECTION
						 : PSP_ERROR_LOST,
					 RETRY_MS);
	end_request(token, exchange);
}

void
token_refused(Psp *psp, const char *value)
{
	TokenCache *token = &psp->token;

	if (token->value && strcmp(token->value, value) == 0)
		wipe(token);
}

void
token_forget(Psp *psp)
{
	TokenCache *token = &psp->token;

	wipe(token);
	token->retry_at = 0;
	token->outdated = token->under_way;
}
