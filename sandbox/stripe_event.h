/*
 * stripe_event.h
 *		What Stripe tells by itself. Nothing is told, nor kept, while there is
 *		neither a webhook nor a secret to sign with.
 */
#ifndef SANDBOX_STRIPE_EVENT_H
#define SANDBOX_STRIPE_EVENT_H

#include "book.h"
#include "request.h"

extern void stripe_event_intent(const char *type, const Intent *intent);
extern void stripe_event_charge(const char *type, const Charge *charge);
extern void stripe_event_refund(const char *type, const Modification *refund);
extern void stripe_event_payout(const char *type, const Payout *payout);

extern void stripe_event_setup(const char *type, const Setup *setup);
extern void stripe_event_session(const char *type, const Session *session);

extern void stripe_event_dispute(const char *type, const Dispute *dispute);

/* What has come of an attempt to pay. */
extern void stripe_event_attempt(const Intent *intent);

/* The header of a delivery at this time; nothing without a secret. */
extern void stripe_event_sign(Buf *headers, const char *body, int64_t now_ms,
							  bool forged);

extern bool stripe_event_prepare_get(Request *request);
extern void stripe_event_get(Request *request);
extern bool stripe_event_prepare_list(Request *request);
extern void stripe_event_list(Request *request);

#endif
