/*-------------------------------------------------------------------------
 *
 * evidence.h
 *	  What a PSP says of an order, a refund or a payout, and what follows from it.
 *
 * There is one way in for the answer to a request, the answer to a lookup, a
 * webhook and a settlement line: all of them converge on the same result, in
 * whichever order and however often they come.
 *
 * Locks are taken in this order, and each kind ascending by id: tasks,
 * payments, orders, refunds, payouts, accounts.  Whoever else writes these tables must
 * keep to it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_EVIDENCE_H
#define PAYMENT_EVIDENCE_H

#include "datatype/timestamp.h"
#include "order/operation.h"
#include "utils/uuid.h"

typedef enum EvidenceKind
{
	EVIDENCE_NOTHING, /* says nothing of the money; only answers are wanted */
	EVIDENCE_SUCCEEDED,	 /* money moved: amount and currency say how much */
	EVIDENCE_PENDING,	 /* accepted, not final */
	EVIDENCE_DECLINED,	 /* definitely not executed; may be tried again */
	EVIDENCE_FAILED,	 /* definitely not executed and never will be */
	EVIDENCE_UNKNOWN,	 /* sent, and no telling what came of it */
	EVIDENCE_AUTHORIZED, /* reserved: amount and currency say how much */
	EVIDENCE_VOIDED,	 /* what was reserved is free again ... */
	EVIDENCE_EXPIRED,	 /* ... by time, or nobody paid at a hosted page */
	EVIDENCE_REQUIRES_ACTION, /* the payer has a page to pay at */
	EVIDENCE_TOKENIZED /* ... and left a payment method there; nothing moved */
} EvidenceKind;

typedef enum EvidenceEffect
{
	EVIDENCE_NO_EFFECT,	   /* known already, or overtaken by what is known */
	EVIDENCE_APPLIED,	   /* the object has moved on */
	EVIDENCE_CONTRADICTED, /* it cannot be true with what is known: an
							* exception is open, nothing was posted */
	EVIDENCE_TOO_EARLY, /* the object has not been sent: keep it for later */
	EVIDENCE_NO_OBJECT	/* the PSP has no such object of ours */
} EvidenceEffect;

/* May the order go on to another PSP, when this is all there is to say? */
typedef enum EvidenceFailover
{
	FAILOVER_NEVER,
	FAILOVER_NOW,		  /* it was not executed, for no reason of its own */
	FAILOVER_IF_EXHAUSTED /* if this PSP is tried no more, nor ever got it */
} EvidenceFailover;

/* What the PSP credits for it, or takes: see exchange.h */
typedef struct Settled
{
	const char *currency; /* NULL: not said */
	int64		amount;	  /* before the fee */
	bool		has_psp_fee;
	int64		psp_fee;
	const char *exchange_rate; /* a decimal number; NULL: not said */
} Settled;

typedef struct Evidence
{
	TransitionObject object; /* what the operation is done to */
	const char		*operation;
	pg_uuid_t		 object_id;
	pg_uuid_t		 psp_id;
	EvidenceKind	 kind;
	TransitionCause	 cause; /* one of CAUSE_EVIDENCE, or CAUSE_DECISION */

	/*
	 * Which try it is about, 0 when it does not say.  That an earlier try
	 * failed says nothing about this one; that it succeeded does.  With 0 only
	 * the reference can tell, when there were several.
	 */
	int			attempt_no;
	const char *psp_reference; /* or NULL */
	int64		amount;		   /* minor units, when succeeded or authorized */
	const char *currency;	   /* the same */

	/*
	 * Of a capture that succeeded: the amount is what was captured of the
	 * payment in all, not this time.  Of a payment it always is; the answer to
	 * a capture, and to a lookup of one, tells of that one alone.
	 */
	bool		is_total;
	TimestampTz authorized_until; /* when authorized; 0: not said */
	const char *child_reference;  /* of the authorisation or capture */
	const char *payment_method;	  /* when tokenized */
	Settled		told;			  /* when succeeded */
	const char *failure_code;
	const char *failure_message;

	/* the send or lookup that it answers; NULL: it came unasked */
	const pg_uuid_t *attempt_id;
	EvidenceFailover failover; /* only for the answer to a send */

	/* answers */
	EvidenceEffect effect;
	const char	  *status; /* the object's, after all evidence; or NULL */
	bool named;	  /* the PSP has accepted it, under a name of its own */
	bool settled; /* nothing is left to send or to ask; its task is gone */
} Evidence;

/*
 * Apply evidence in the given order, all in the current transaction: statuses
 * with their history, captured amounts, payments' counters, PSP references,
 * exceptions, journals; and take tasks away that have nothing left to do.
 * A contradiction never raises an error.
 */
extern void order_apply_evidence(Evidence *evidence, int count);

#endif /* PAYMENT_EVIDENCE_H */
