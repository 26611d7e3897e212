/*
 * customer.h
 *		Stripe's customers, the payment methods that they have saved, and the
 *		setup intents that saved them.
 */
#ifndef SANDBOX_CUSTOMER_H
#define SANDBOX_CUSTOMER_H

#include "book.h"
#include "request.h"

extern bool customer_prepare_create(Request *request);
extern void customer_create(Request *request);
extern bool customer_prepare_get(Request *request);
extern void customer_get(Request *request);
extern bool setup_intent_prepare_get(Request *request);
extern void setup_intent_get(Request *request);
extern bool payment_method_prepare_get(Request *request);
extern void payment_method_get(Request *request);

extern void customer_json(Buf *b, const char *key, const Customer *customer);
extern void setup_intent_json(Buf *b, const char *key, const Setup *setup);

/* A customer's id, or NONE when the parameter is absent. */
extern bool customer_param(Request *request, uint32_t *customer);

/* Keeps a test payment method for the customer under an id of its own. */
extern SavedMethod *customer_save_method(uint32_t	 customer,
										 const char *method);

/* A saved or a test payment method; NULL when nobody knows it. */
extern const TestMethod *payment_method_find(const char *id);

/* May this customer (or NONE) pay with it? Answers when not. */
extern bool payment_method_is_usable(Request *request, const char *id,
									 uint32_t customer);

#endif
