/*
 * payment_intent.h
 *		Payment intents and their charges.
 */
#ifndef SANDBOX_PAYMENT_INTENT_H
#define SANDBOX_PAYMENT_INTENT_H

#include "book.h"
#include "buf.h"
#include "request.h"

extern bool payment_intent_prepare_create(Request *request);
extern void payment_intent_create(Request *request);
extern bool payment_intent_prepare_confirm(Request *request);
extern void payment_intent_confirm(Request *request);
extern bool payment_intent_prepare_capture(Request *request);
extern void payment_intent_capture(Request *request);
extern bool payment_intent_prepare_cancel(Request *request);
extern void payment_intent_cancel(Request *request);
extern bool payment_intent_prepare_get(Request *request);
extern void payment_intent_get(Request *request);
extern bool payment_intent_prepare_list(Request *request);
extern void payment_intent_list(Request *request);

/* Called when processing is over, or when an authorisation expires. */
extern void payment_intent_finish(Intent *intent);

/* An attempt with the intent's payment method; the caller journals it. */
extern void payment_intent_attempt(Intent *intent, bool payer_is_there,
								   const char *idempotency_key);

/* The payer has been at the bank's page. */
extern void payment_intent_authenticate(Intent *intent, bool succeeds);

extern void payment_intent_json(Buf *b, const char *key, const Intent *intent,
								unsigned expand);
extern void charge_json(Buf *b, const char *key, const Charge *charge,
						unsigned expand);
extern void metadata_json(Buf *b, const Metadata *metadata);

/* The answer 402 for an intent whose last attempt failed. */
extern void payment_intent_answer_declined(Request		*request,
										   const Intent *intent);

#endif
