/*-------------------------------------------------------------------------
 *
 * paypal.h
 *	  What the parts of the PayPal adapter share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_PSP_PAYPAL_H
#define PAYMENT_PSP_PAYPAL_H

#include "psp/adapter.h"

/* values of the configuration, in the order of paypal_config_keys */
enum
{
	PAYPAL_CONFIG_PAYMENT_SOURCE,
	PAYPAL_CONFIG_RECIPIENT_TYPE,
	PAYPAL_CONFIG_WEBHOOK_ID
};

/* where a conversation goes on: one of these, and PayPal's id */
#define PAYPAL_CAPTURE "capture:"
#define PAYPAL_AUTHORIZE "authorize:"
#define PAYPAL_SHOW "show:"
/* ... or, after the authorization is said to have expired, only this */
#define PAYPAL_EXPIRED "expired"

/* the id after the word, NULL when the cursor says something else */
extern const char *paypal_cursor_id(const PspTask *task, const char *word);

/*
 * Amounts are decimal there.  False when the currency has no such amount at
 * PayPal, or when the text is no amount; nothing is ever rounded.
 */
extern bool paypal_format_amount(int64 amount, const char *currency,
								 char *text, int size);
extern bool paypal_parse_amount(const char *text, const char *currency,
								int64 *amount);

/* The member "amount"; false, with the reason, when PayPal has none such. */
extern bool paypal_add_amount(const PspTask *task, StringInfo body,
							  PspOutcome *outcome);

/* suffix: of the request's id; NULL when nothing is sent */
extern void paypal_add_headers(const PspTask *task, const char *token,
							   const char *suffix, PspRequest *request);

/*
 * Does the unit of an order, or the payment within it, name our object?  Both
 * may; none may name another.
 */
extern bool paypal_names_object(const PspTask *task, const JsonDocument *json,
								const JsonNode *unit, const JsonNode *payment);

/* What one capture says */
extern void paypal_judge_capture(const JsonDocument *json,
								 const JsonNode *capture, PspOutcome *outcome);

/* An amount with the names that its currency and value go by */
extern bool paypal_read_money(const JsonDocument *json, const JsonNode *amount,
							  const char *currency_name, PspOutcome *outcome);

/* What is credited for a capture that has succeeded, where it is shown */
extern void paypal_read_settled(const JsonDocument *json,
								const JsonNode *capture, PspOutcome *outcome);

/* An id of PayPal's, fit for a path, as a string of its own */
extern const char *paypal_id(const JsonDocument *json, const JsonNode *object,
							 const char *name);

extern bool paypal_build_order(const PspTask *task, const char *base_url,
							   const char *token, PspRequest *request,
							   PspOutcome *outcome);
extern void paypal_read_order(const PspTask *task, const JsonDocument *json,
							  PspOutcome *outcome);
extern bool paypal_build_authorization(const PspTask *task,
									   const char *base_url, const char *token,
									   PspRequest *request,
									   PspOutcome *outcome);
extern void paypal_read_authorization(const PspTask		 *task,
									  const JsonDocument *json,
									  PspOutcome		 *outcome);

/* Is the order to be looked at instead of believing the answer? */
extern bool paypal_goes_on_looking(const PspTask *task, int status,
								   const char *issue, PspOutcome *outcome);
extern bool paypal_build_refund(const PspTask *task, const char *base_url,
								const char *token, PspRequest *request,
								PspOutcome *outcome);
extern void paypal_judge_refund(const JsonDocument *json, const JsonNode *root,
								const char *status, PspOutcome *outcome);
extern void paypal_read_refund(const PspTask *task, const JsonDocument *json,
							   PspOutcome *outcome);
extern bool paypal_build_payout(const PspTask *task, const char *base_url,
								const char *token, PspRequest *request,
								PspOutcome *outcome);
extern void paypal_read_payout(const PspTask *task, const JsonDocument *json,
							   PspOutcome *outcome);

/* "Is this webhook yours?": succeeded when it is, failed when it is not */
extern bool paypal_build_verification(const PspTask *task,
									  const char *base_url, const char *token,
									  PspRequest *request,
									  PspOutcome *outcome);
extern void paypal_read_verification(const JsonDocument *json,
									 PspOutcome			*outcome);
/* false when the error is judged as any other request's */
extern bool paypal_refuses_verification(int status, const char *name,
										PspOutcome *outcome);

extern void paypal_read_item(const JsonDocument *json, const JsonNode *item,
							 PspOutcome *outcome);
extern bool paypal_read_events(const char *body, int length,
							   const char *const *config, PspEvents *events);

/* the batch that a refused one repeats, NULL when the error names none */
extern const char *paypal_original_batch(const JsonDocument *json);

#endif /* PAYMENT_PSP_PAYPAL_H */
