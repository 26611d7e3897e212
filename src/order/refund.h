/*-------------------------------------------------------------------------
 *
 * refund.h
 *	  Refunds that a policy asks for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_ORDER_REFUND_H
#define PAYMENT_ORDER_REFUND_H

#include "order/posting.h"
#include "order/subject.h"

typedef struct Refund Refund;

/*
 * All that is left of a captured order, which is locked; NULL: nothing is, it
 * is too early to ask again, or only people can go on, which *problem says.
 * Refunds of the same seller that are not posted yet will have taken some of
 * what is available.  subjects_write() and refund_store() follow.
 */
extern Refund *refund_rest(Subject *order, int64 taken_before,
						   const char **problem);
extern int64   refund_from_available(const Refund *refund);
/*
 * Of an order that is locked: has a refund no outcome yet; do people still have
 * to say whether one that failed went out all the same?
 */
extern bool refund_is_under_way(const pg_uuid_t *order_id);
extern bool refund_is_in_doubt(const pg_uuid_t *order_id);
/* what is to be posted for it at the end */
extern Posting refund_store(const Refund *refund, const Subject *order);

#endif /* PAYMENT_ORDER_REFUND_H */
