/*
 * dialect.h
 *		What differs between the protocols around the handlers: who may ask,
 *		what a body looks like, what a key means, how errors are said.
 */
#ifndef SANDBOX_DIALECT_H
#define SANDBOX_DIALECT_H

#include "book.h"
#include "request.h"

/* Troubles that no handler has a hand in. */
typedef enum Trouble
{
	TROUBLE_NO_ROUTE,
	TROUBLE_TOO_LARGE,
	TROUBLE_CONTENT_TYPE,
	TROUBLE_UNREADABLE,	  /* a query or body */
	TROUBLE_BAD_KEY,	  /* an idempotency key of another form */
	TROUBLE_KEY_MISMATCH, /* the key came first with something else */
	TROUBLE_KEY_IN_USE,	  /* the first request with it still runs */
	TROUBLE_NOT_LOOPBACK, /* control endpoints only */
	TROUBLE_RATE_LIMIT,
	TROUBLE_INTERNAL
} Trouble;

typedef struct Dialect
{
	Psp			psp;
	const char *key_header;
	size_t		key_max;
	bool		json;	   /* bodies are JSON, else forms */
	const char *form_path; /* where it takes a form all the same, or NULL */

	/* May it ask? Answers when not. */
	bool (*authorized)(Request *request);

	/* "about" is a sentence or a name, and may be NULL. */
	void (*trouble)(Request *request, Trouble trouble, const char *about);

	/* The name that the key goes by in the table of all keys. */
	void (*scope_key)(const Request *request, Buf *scoped);
	KeyLife (*key_life)(const Request *request);

	/* Is a key refused when it comes with another request than at first? */
	bool compares_requests;

	/* May a request that was answered with an error come again as new? */
	bool forgets_errors;

	/*
	 * Is a 500 what the key will answer from now on? Else the request is
	 * executed when it comes again, or its true answer given.
	 */
	bool (*keeps_500)(const Request *request);

	/* Changes a replayed answer to what is true by now; may be NULL. */
	void (*refresh)(Request *request);

	/* Headers of its own. */
	void (*add_headers)(Request *request);
} Dialect;

extern const Dialect stripe_dialect;
extern const Dialect adyen_dialect;
extern const Dialect paypal_dialect;
extern const Dialect page_dialect; /* for payers' browsers */

/* By path; Stripe's when it is nobody's. */
extern const Dialect *dialect_of(const char *path);

#endif
