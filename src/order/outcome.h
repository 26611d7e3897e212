/*-------------------------------------------------------------------------
 *
 * outcome.h
 *	  What the worker says came of an attempt, read and checked.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_OUTCOME_H
#define PAYMENT_OUTCOME_H

#include "datatype/timestamp.h"
#include "utils/array.h"
#include "utils/uuid.h"
#include "uuid7.h"

typedef enum OutcomeKind
{
	OUTCOME_SUCCEEDED,
	OUTCOME_PENDING,
	OUTCOME_DECLINED,
	OUTCOME_FAILED,
	OUTCOME_RETRY,
	OUTCOME_UNKNOWN,
	OUTCOME_NOT_FOUND,
	OUTCOME_KEY_SPENT,
	OUTCOME_AUTHORIZED,
	OUTCOME_VOIDED,
	OUTCOME_EXPIRED,
	OUTCOME_REQUIRES_ACTION,
	OUTCOME_TOKENIZED
} OutcomeKind;

/* a payment.attempt_outcome, and the attempt it is about */
typedef struct Outcome
{
	pg_uuid_t	attempt_id;
	OutcomeKind kind;
	const char *name; /* of the kind */
	bool		has_http_status;
	int32		http_status;
	bool		has_latency;
	int32		latency_ms;
	const char *psp_reference;
	int64		amount;
	const char *currency;
	const char *error_code;
	const char *error_message;
	bool		has_retry_after;
	int64		retry_after_ms;
	const char *decline_class;	  /* NULL unless declined or failed */
	TimestampTz authorized_until; /* 0: not said */
	const char *child_reference;

	/* of what was charged, in the currency in which the PSP pays it out */
	bool		has_settled_amount;
	int64		settled_amount;
	const char *settled_currency; /* NULL: not said */
	const char *exchange_rate;	  /* a decimal number; NULL: not said */
	bool		has_psp_fee;
	int64		psp_fee;
	const char *payment_method; /* chosen at the PSP's page; NULL: not said */

	/* read from the attempt */
	bool		known;
	pg_uuid_t	task_id;
	pg_uuid_t	object_id;
	pg_uuid_t	psp_id;
	const char *operation;
	bool		lookup; /* else a send */
	int32		attempt_no;
} Outcome;

/* PY001 when one is not what the type's comment says */
extern Outcome *outcomes_parse(ArrayType *array, int *count);

#endif /* PAYMENT_OUTCOME_H */
