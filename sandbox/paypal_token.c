/*
 * paypal_token.c
 *		Access tokens: good for a while, or until somebody revokes them. They
 *		are not in the book, so that a restart is a revocation, too.
 */
#include "paypal.h"

#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "options.h"
#include "random.h"

#define TOKENS_MAX 10000
#define TOKEN_SIZE 40

typedef struct Token
{
	char	text[TOKEN_SIZE];
	int64_t expires_ms;
} Token;

/* A ring: the oldest makes room. */
static Token	tokens[TOKENS_MAX];
static uint64_t issued;
static uint64_t revoked; /* those before it are no good any more */

bool
paypal_token_prepare(Request *request)
{
	const char *grant = form_take(request->params, "grant_type");

	if (grant != NULL && strcmp(grant, "client_credentials") == 0)
		return true;
	request->answer.status = 400;
	json_open(&request->answer.body, NULL, '{');
	json_str(&request->answer.body, "error", "unsupported_grant_type");
	json_str(&request->answer.body, "error_description",
			 "unsupported grant_type");
	json_close(&request->answer.body, '}');
	return false;
}

void
paypal_token_create(Request *request)
{
	Buf	  *b = &request->answer.body;
	Token *token = &tokens[issued++ % TOKENS_MAX];

	request->executed = true;
	random_id(token->text, TOKEN_SIZE, "A21AA");
	token->expires_ms = book.now_ms + options.token_lifetime_s * 1000;
	json_open(b, NULL, '{');
	json_str(b, "scope", "https://uri.paypal.com/services/payments/payment");
	json_str(b, "access_token", token->text);
	json_str(b, "token_type", "Bearer");
	json_str(b, "app_id", "APP-SANDBOX");
	json_int(b, "expires_in", options.token_lifetime_s);
	json_close(b, '}');
}

const char *
paypal_token_problem(const char *given)
{
	uint64_t first = issued > TOKENS_MAX ? issued - TOKENS_MAX : 0;

	/* The newest are asked for most. */
	for (uint64_t i = issued; i > first && i > revoked; i--)
	{
		const Token *token = &tokens[(i - 1) % TOKENS_MAX];

		if (strcmp(token->text, given) != 0)
			continue;
		return token->expires_ms > book.now_ms
				   ? NULL
				   : "Access Token not found in cache";
	}
	return "Token signature verification failed";
}

void
control_tokens(Request *request)
{
	const char *revoke = form_take(request->params, "revoke");

	if (!params_known(request))
		return;
	if (revoke != NULL && strcmp(revoke, "1") == 0)
		revoked = issued;
	json_open(&request->answer.body, NULL, '{');
	json_int(&request->answer.body, "issued", (int64_t) issued);
	json_int(&request->answer.body, "revoked", (int64_t) revoked);
	json_close(&request->answer.body, '}');
}
