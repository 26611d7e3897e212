/*-------------------------------------------------------------------------
 *
 * psp.h
 *	  What an adapter is: how one PSP wants to be asked, and what its answers
 *	  mean.
 *
 * Adapters are pure: no I/O, no SQL, no settings, no clock.  They take memory
 * from palloc and raise nothing else than its errors, so that they can be
 * tested and fuzzed without a server.  All text is UTF-8.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_PSP_H
#define PAYMENT_PSP_H

#include "lib/stringinfo.h"

#define PSP_MAX_HEADERS 8

/* longest text that is taken over from an answer, in bytes */
#define PSP_CODE_LENGTH_MAX 100
#define PSP_MESSAGE_LENGTH_MAX 500
#define PSP_REFERENCE_LENGTH_MAX 255

typedef enum PspOperation
{
	PSP_OPERATION_PAY,
	PSP_OPERATION_PAYOUT
} PspOperation;

typedef enum PspStep
{
	PSP_STEP_SEND,	/* have it executed */
	PSP_STEP_LOOKUP /* find out what became of it */
} PspStep;

/* What to ask for.  Pointers may be NULL where the task has no such thing. */
typedef struct PspTask
{
	PspOperation operation;
	PspStep		 step;
	const char	*object_id;	 /* our payment order or payout */
	const char	*payment_id; /* our payment */
	const char	*psp_key;	 /* idempotency key */
	int			 attempt_no;
	int64		 amount;   /* minor units */
	const char	*currency; /* upper case */
	const char	*payment_method;
	const char	*destination;
	const char	*description;
	const char	*psp_reference; /* the PSP's name for it, when known */

	/* a lookup: when it was made, by the PSP's clock; Unix time, 0: any */
	int64 made_from_s;
	int64 made_to_s;

	/* where a listing goes on, and how many pages of it have been read */
	const char *cursor;
	int			page_count;
} PspTask;

typedef struct PspRequest
{
	const char	  *method;
	StringInfoData url;
	StringInfoData body; /* length 0: none */
	const char	  *headers[PSP_MAX_HEADERS];
	int			   header_count;
} PspRequest;

typedef enum PspRetryAdvice
{
	PSP_RETRY_UNSAID,
	PSP_RETRY_NO,
	PSP_RETRY_YES
} PspRetryAdvice;

/* A whole HTTP answer; failures of the transport never get here. */
typedef struct PspResponse
{
	int			status;
	int64		retry_after_ms; /* -1: not said */
	const char *headers;		/* the header block as received */
	int			headers_length;
	const char *body;
	int			body_length;
} PspResponse;

/* The kinds of payment.attempt_outcome, in the type's words. */
typedef enum PspOutcomeKind
{
	PSP_UNKNOWN, /* zero, so that what nobody set is not known */
	PSP_SUCCEEDED,
	PSP_PENDING,
	PSP_DECLINED,
	PSP_FAILED,
	PSP_RETRY,
	PSP_NOT_FOUND,
	PSP_KEY_SPENT,
	PSP_MORE /* a listing: ask again with the cursor */
} PspOutcomeKind;

typedef struct PspOutcome
{
	PspOutcomeKind kind;
	const char	  *reference;
	bool		   has_amount;
	int64		   amount;
	char		   currency[4]; /* "" when not said */
	const char	  *error_code;
	const char	  *error_message;
	int64		   retry_after_ms; /* -1: as the backoff says */
	const char	  *cursor;		   /* with PSP_MORE */
} PspOutcome;

typedef struct PspAdapter
{
	const char *name;
	void (*build)(const PspTask *task, const char *base_url,
				  const char *secret, PspRequest *request);
	void (*read)(const PspTask *task, const PspResponse *response,
				 PspOutcome *outcome);
} PspAdapter;

/* NULL when there is no adapter of that name */
extern const PspAdapter *psp_adapter(const char *name);
extern const PspAdapter	 psp_stripe;

/* value of the header, or NULL; the result is palloc'd */
extern char *psp_header(const PspResponse *response, const char *name);

extern const char *psp_outcome_name(PspOutcomeKind kind);

#endif /* PAYMENT_PSP_H */
