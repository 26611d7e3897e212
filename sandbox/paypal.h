/*
 * paypal.h
 *		PayPal's access tokens, orders and payouts.
 */
#ifndef SANDBOX_PAYPAL_H
#define SANDBOX_PAYPAL_H

#include "book.h"
#include "request.h"

/* Where a vaulted test payment source leads. */
typedef enum PaypalOutcome
{
	PAYPAL_COMPLETES,
	PAYPAL_DECLINES,	/* the order completes, its capture is declined */
	PAYPAL_REFUSES,		/* 422, no order */
	PAYPAL_NEEDS_PAYER, /* a payer action is required */
	PAYPAL_APPROVES,	/* waits for a capture */
	PAYPAL_PENDS		/* a pending capture */
} PaypalOutcome;

typedef struct PaypalMethod
{
	PaypalOutcome outcome;
	bool		  fails_later;
	const char	 *response_code; /* of a declined capture */
} PaypalMethod;

/* False when nobody knows it. */
extern bool paypal_method_find(const char *name, PaypalMethod *method);

extern bool paypal_token_prepare(Request *request);
extern void paypal_token_create(Request *request);

/* NULL, or why the bearer token is refused. */
extern const char *paypal_token_problem(const char *token);

extern void control_tokens(Request *request);

extern bool paypal_order_prepare(Request *request);
extern void paypal_order_create(Request *request);
extern bool paypal_order_prepare_capture(Request *request);
extern void paypal_order_capture(Request *request);
extern bool paypal_order_prepare_get(Request *request);
extern void paypal_order_get(Request *request);

extern bool paypal_order_prepare_authorize(Request *request);
extern void paypal_order_json(Request *request, Buf *b, const Intent *intent,
							  bool whole);
extern void paypal_order_texts(Buf *b, const Intent *intent,
							   const char *invoice_id);

/* Of an order that authorizes: no capture, but what can be captured. */
extern bool paypal_is_authorization(const Charge *charge);
extern void paypal_authorization_json(Request *request, Buf *b,
									  const char *key, const Charge *charge);
extern void paypal_authorization_captures(Request *request, Buf *b,
										  const Charge *charge);
extern void paypal_authorization_end(Intent *intent, Charge *authorization);
extern bool paypal_authorization_prepare_get(Request *request);
extern void paypal_authorization_get(Request *request);
extern bool paypal_authorization_prepare_capture(Request *request);
extern void paypal_authorization_capture(Request *request);
extern bool paypal_authorization_prepare_void(Request *request);
extern void paypal_authorization_void(Request *request);

/* What is told; without a request its links lead nowhere. */
extern void paypal_event_capture(const char *type, const Charge *charge);
extern void paypal_event_authorization(const char *type, const Charge *charge);
extern void paypal_event_order(const char *type, const Intent *intent);
extern void paypal_event_refund(const char *type, const Modification *refund);
extern void paypal_event_payout(const Payout *payout);

/* The headers of a delivery, and the answer to whether they are ours. */
extern const char *paypal_webhook_id(void);
extern void		   paypal_event_headers(Buf				   *headers,
										const Notification *notification);
extern bool		   paypal_verify_prepare(Request *request);
extern void		   paypal_verify(Request *request);

extern bool paypal_dispute_prepare_get(Request *request);
extern void paypal_dispute_get(Request *request);
extern void control_paypal_events(Request *request);

extern void paypal_capture_json(Request *request, Buf *b, const char *key,
								const Charge *charge);
extern void paypal_capture_answer(Request *request, const Charge *charge,
								  bool whole);
extern void paypal_refund_json(Request *request, Buf *b,
							   const Modification *refund, bool whole);
extern const char *paypal_payout_item_status(const Payout *payout);
extern void		   paypal_payout_item_json(Request *request, Buf *b,
										   const Payout *payout);

extern bool paypal_capture_prepare_get(Request *request);
extern void paypal_capture_get(Request *request);
extern bool paypal_refund_prepare(Request *request);
extern void paypal_refund_create(Request *request);
extern bool paypal_refund_prepare_get(Request *request);
extern void paypal_refund_get(Request *request);

extern bool paypal_payout_prepare(Request *request);
extern void paypal_payout_create(Request *request);
extern bool paypal_payout_prepare_get(Request *request);
extern void paypal_payout_get(Request *request);

/* After a restart: they find their like by the merchant's own ids. */
extern void paypal_order_restore(Intent *intent);
extern void paypal_payout_restore(Payout *payout);

/* Called when a pending capture's time has come. */
extern void paypal_capture_finish(Intent *intent);

extern void paypal_order_answer(Request *request, const Intent *intent,
								bool whole);
extern void paypal_refund_answer(Request *request, const Modification *refund,
								 bool whole);
extern void paypal_payout_answer(Request *request, const Payout *payout);

/* Replaces the answer by an error with one detail; always false. */
extern bool paypal_error(Request *request, int status, const char *name,
						 const char *field, const char *issue,
						 const char *description);
extern bool paypal_invalid(Request *request, const char *field,
						   const char *issue, const char *description);
extern bool paypal_unprocessable(Request *request, const char *field,
								 const char *issue, const char *description);
extern bool paypal_not_found(Request *request);

/* An object {currency, value}; what is wrong is answered and gives false. */
extern bool paypal_amount(Request *request, JsonValue *object,
						  const char *currency_name, const char *field,
						  int64_t *amount, int *currency);
extern void paypal_amount_json(Buf *b, const char *key,
							   const char *currency_name, int32_t currency,
							   int64_t amount);

/* The text at the path, at most so long; *text is NULL when it is absent. */
extern bool paypal_text(Request *request, JsonValue *object, const char *path,
						size_t max, const char **text);

extern bool paypal_wants_representation(const Request *request);

/* The beginning of a link to something of ours. */
extern void paypal_link(Request *request, Buf *b, const char *rel,
						const char *method, const char *path, const char *id);

#endif
