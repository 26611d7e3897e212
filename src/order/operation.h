/*-------------------------------------------------------------------------
 *
 * operation.h
 *	  What a PSP is asked to do, to which object, and in which statuses.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_OPERATION_H
#define PAYMENT_OPERATION_H

#include "order/transition.h"

#define OPERATION_PAY "pay"
#define OPERATION_PAYOUT "payout"
#define OPERATION_CAPTURE "capture"
#define OPERATION_VOID "void"
#define OPERATION_REFUND "refund"
#define OPERATION_REGISTER "register"
#define OPERATION_CLOSE "close"
#define OPERATION_DISPUTE_EVIDENCE "dispute_evidence"
#define OPERATION_DISPUTE_ACCEPT "dispute_accept"

typedef struct Operation
{
	const char		*name;
	TransitionObject object;
	const char		*waits;	   /* until the claim; NULL: it is sent already */
	const char		*sent;	   /* or about to be */
	const char		*accepted; /* NULL: there is no such status */
} Operation;

/* NULL when there is none of that name */
extern const Operation *operation_find(const char *name);
/* the same; one of the queue's */
extern const Operation *operation_of(const char *name);

/* a capture or a void: what is done to an order that was authorised */
extern bool operation_is_follow_up(const char *name);
/* about the page of the PSP's at which an order is paid */
extern bool operation_is_of_page(const char *name);

#endif /* PAYMENT_OPERATION_H */
