/*-------------------------------------------------------------------------
 *
 * partial_failure.h
 *	  Payments that are all or nothing, of which a part came to nothing.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_PARTIAL_FAILURE_H
#define PAYMENT_PARTIAL_FAILURE_H

#include "order/batch.h"

/* their other orders are to be undone; the worker does it */
extern void partial_failures_note(const Column *payments);

#endif /* PAYMENT_PARTIAL_FAILURE_H */
