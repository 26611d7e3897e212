/*-------------------------------------------------------------------------
 *
 * stripe.h
 *	  What the parts of the Stripe adapter share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_PSP_STRIPE_H
#define PAYMENT_PSP_STRIPE_H

#include "psp/adapter.h"

/* Amount and currency of the object; false when it does not say them. */
extern bool stripe_read_money(const JsonDocument *json, const JsonNode *object,
							  const char *amount_name, PspOutcome *outcome);

/* What a PaymentIntent or Payout in that status says */
extern void stripe_read_payment_intent(const JsonDocument *json,
									   const JsonNode	  *object,
									   const char		  *status,
									   PspOutcome		  *outcome);
extern void stripe_read_payout(const JsonDocument *json,
							   const JsonNode *object, const char *status,
							   PspOutcome *outcome);

/* ... of a capture or void, which are done to a PaymentIntent; of a refund */
extern void stripe_read_capture(const PspTask *task, const JsonDocument *json,
								const JsonNode *object, const char *status,
								PspOutcome *outcome);
extern void stripe_read_void(const PspTask *task, const JsonDocument *json,
							 const JsonNode *object, const char *status,
							 PspOutcome *outcome);
extern void stripe_read_refund(const JsonDocument *json,
							   const JsonNode *object, const char *status,
							   PspOutcome *outcome);

/*
 * What the balance transaction of a charge or refund says, where it is shown;
 * of what leaves us with the other sign.
 */
extern void stripe_read_settled(const JsonDocument *json,
								const JsonNode *object, bool leaves,
								PspOutcome *outcome);

/* A hosted page: what makes it, and what it says in that status */
extern void stripe_add_session(const PspTask *task, StringInfo body);
extern void stripe_read_session(const PspTask *task, const JsonDocument *json,
								const JsonNode *session, const char *status,
								PspOutcome *outcome);

/* ... and whether it may be tried elsewhere */
extern void stripe_set_decline_class(PspOutcome *outcome);

extern bool stripe_read_events(const char *body, int length,
							   const char *const *config, PspEvents *events);

/* stripe_dispute.c: our answers to disputes, by their name in the metadata */
#define STRIPE_DISPUTE_RESPONSE "dispute_response"
extern void stripe_add_evidence(const PspTask *task, StringInfo body);
extern void stripe_read_response(const PspTask *task, const JsonDocument *json,
								 const JsonNode *object, PspOutcome *outcome);

/* ... and of an event whose type and time are read already */
extern void stripe_read_dispute(const JsonDocument *json,
								const JsonNode *object, PspEvent *event);

#endif /* PAYMENT_PSP_STRIPE_H */
