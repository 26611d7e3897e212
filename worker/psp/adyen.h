/*-------------------------------------------------------------------------
 *
 * adyen.h
 *	  What the parts of the Adyen adapter share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_PSP_ADYEN_H
#define PAYMENT_PSP_ADYEN_H

#include "psp/adapter.h"

/* values of the configuration, in the order of config_keys */
enum
{
	CONFIG_MERCHANT_ACCOUNT,
	CONFIG_RETURN_URL,
	CONFIG_BALANCE_ACCOUNT
};

/* False, with the reason, when Adyen cannot be asked for such an amount. */
extern bool adyen_add_amount(const PspTask *task, StringInfo body,
							 PspOutcome *outcome);

/*
 * Our idempotency key as the reference of a modification: with points, because
 * Adyen's signatures separate fields by colons.
 */
extern char *adyen_reference(const char *psp_key);

/* Members that payments have however they are made, each after a comma */
extern void adyen_add_capture(const PspTask *task, StringInfo body);
extern void adyen_add_names(const PspTask *task, StringInfo body);

/* adyen_session.c: a hosted page */
extern bool adyen_build_session(const PspTask *task, StringInfo body,
								PspOutcome *outcome);
extern void adyen_read_session(const PspTask *task, const JsonDocument *json,
							   const JsonNode *root, PspOutcome *outcome);

/* adyen_modification.c: captures, cancels and refunds of a payment */
extern void adyen_add_modification_path(const PspTask *task, StringInfo url);
extern bool adyen_build_modification(const PspTask *task, StringInfo body,
									 PspOutcome *outcome);
extern void adyen_read_modification(const PspTask	   *task,
									const JsonDocument *json,
									const JsonNode *root, PspOutcome *outcome);

/* Member "amount", in our minor units; false when it does not say it. */
extern bool adyen_take_amount(const char *value, const char *currency,
							  PspOutcome *outcome);
extern bool adyen_read_amount(const JsonDocument *json, const JsonNode *object,
							  PspOutcome *outcome);

/* What a transfer in that status says */
extern void adyen_read_status(const JsonDocument *json, const JsonNode *object,
							  const char *status, PspOutcome *outcome);

extern bool adyen_read_events(const char *body, int length,
							  const char *const *config, PspEvents *events);

#endif /* PAYMENT_PSP_ADYEN_H */
