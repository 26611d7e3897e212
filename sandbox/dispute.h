/*
 * dispute.h
 *		Stripe's disputes.
 */
#ifndef SANDBOX_DISPUTE_H
#define SANDBOX_DISPUTE_H

#include "book.h"
#include "request.h"

extern bool dispute_prepare_get(Request *request);
extern void dispute_get(Request *request);
extern bool dispute_prepare_update(Request *request);
extern void dispute_update(Request *request);
extern bool dispute_prepare_close(Request *request);
extern void dispute_close(Request *request);
extern bool dispute_prepare_list(Request *request);
extern void dispute_list(Request *request);

extern void dispute_json(Buf *b, const char *key, const Dispute *dispute);

/* Called when it was answered too late, or its bank has decided. */
extern void dispute_finish(Dispute *dispute);

/* Some cards dispute what they have just paid. */
extern void dispute_open_for_card(const Intent *intent);

/* Is money of the charge held back, so that it cannot be refunded? */
extern bool dispute_blocks_refund(const Charge *charge);

/* Takes the money, with a fee that never comes back, or gives it back. */
extern void dispute_move_money(Dispute *dispute, bool withdrawn);

/* Opens one, or moves it as its bank would. */
extern void control_disputes(Request *request);

#endif
