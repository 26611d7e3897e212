/*
 * refund.h
 *		Stripe's refunds.
 */
#ifndef SANDBOX_REFUND_H
#define SANDBOX_REFUND_H

#include "book.h"
#include "request.h"

extern bool refund_prepare_create(Request *request);
extern void refund_create(Request *request);
extern bool refund_prepare_get(Request *request);
extern void refund_get(Request *request);
extern bool refund_prepare_cancel(Request *request);
extern void refund_cancel(Request *request);
extern bool refund_prepare_list(Request *request);
extern void refund_list(Request *request);

/* Called when a refund's time has come. */
extern void refund_finish(Modification *refund);

extern void refund_json(Buf *b, const char *key, const Modification *refund,
						unsigned expand);

/* Moves one as its bank would. */
extern void control_refunds(Request *request);

#endif
