/*-------------------------------------------------------------------------
 *
 * refund.h
 *	  Refunds that a policy asks for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_ORDER_REFUND_H
#define PAYMENT_ORDER_REFUND_H

#include "order/subject.h"

typedef struct Refund Refund;

/*
 * All that is left of a captured order, which is locked; NULL: nothing is, it
 * is too early to ask again, or only people can go on, which *problem says.
 * subjects_write() and refund_store() follow.
 */
extern Refund *refund_rest(Subject *order, const char **problem);
extern void	   refund_store(const Refund *refund, const Subject *order);

#endif /* PAYMENT_ORDER_REFUND_H */
