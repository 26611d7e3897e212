/*-------------------------------------------------------------------------
 *
 * token.h
 *	  Access tokens: what some PSPs want presented instead of the secret.
 *
 * Each PSP has one token, asked for by one request at a time, renewed before
 * it expires, and kept in this process's memory only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_WORKER_TOKEN_H
#define PAYMENT_WORKER_TOKEN_H

#include "datatype/timestamp.h"
#include "http.h"
#include "psp/psp.h"

#define TOKEN_LENGTH_MAX 4096

struct Psp;

typedef struct TokenCache
{
	char	   *value;		/* NULL: none; wiped before it is freed */
	TimestampTz refresh_at; /* ask for another one, still using this */
	TimestampTz expires_at;

	/* the request under way */
	bool		  under_way;
	bool		  outdated; /* what it brings is not to be used */
	MemoryContext context;
	PspRequest	  request;

	/* the last request failed: the next is not made before */
	TimestampTz	  retry_at;
	char		  error_code[PSP_CODE_LENGTH_MAX + 1];
	char		  error_message[PSP_MESSAGE_LENGTH_MAX + 1];
	PspErrorClass error_class;
	bool		  is_refused;
} TokenCache;

typedef enum TokenState
{
	TOKEN_READY,
	TOKEN_AWAITED,	  /* a request is under way */
	TOKEN_UNAVAILABLE /* the last one failed just now: see error_code */
} TokenState;

/*
 * The PSP's token; where there is none, or it is to be renewed soon, it is
 * asked for.
 */
extern TokenState token_get(struct Psp *psp, const char *secret,
							const char **value);

/* The answer to the request under way; frees the exchange. */
extern void token_receive(struct Psp *psp, HttpExchange *exchange);

/* The PSP refused this token: do not present it again. */
extern void token_refused(struct Psp *psp, const char *value);

/* What is known is another account's. */
extern void token_forget(struct Psp *psp);

#endif /* PAYMENT_WORKER_TOKEN_H */
