/*-------------------------------------------------------------------------
 *
 * decision.h
 *	  What people decide about an exception, and what follows from it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_DECISION_H
#define PAYMENT_DECISION_H

#include "order/posting.h"
#include "order/proposal.h"
#include "order/subject.h"

/* an exception about an order, refund or payout, locked */
typedef struct DecidedException
{
	pg_uuid_t	id;
	const char *type;
	const char *status;
	pg_uuid_t	psp_id;
	bool		has_object;
	pg_uuid_t	object_id;
	bool		has_line;
	bool		has_amount;
	int64		actual_amount;
	const char *currency;
	bool		in_ledger; /* its money is booked as the order's */
} DecidedException;

/* what a decision does, besides closing the exception */
typedef struct DecisionEffect
{
	const char *to; /* the object's next status, or NULL */
	bool		captures;
	bool		refunds; /* its order has given that back, after all */
	int64		from_pending;
	Posting		posting; /* no legs: none */
} DecisionEffect;

/*
 * PY303 or PY001 when such a decision is none for that exception and object.
 * Changes nothing.  order: that of a refund.
 */
extern void decision_effect(const DecidedException *exception,
							const Verdict *verdict, const Subject *subject,
							const Subject *order, DecisionEffect *effect);

#endif /* PAYMENT_DECISION_H */
