/*
 * test_method.c
 *		The table of test payment methods.
 *
 * The vendor names its declining cards with and without the brand
 * (pm_card_chargeDeclined, pm_card_visa_chargeDeclined): both are known.
 */
#include "test_method.h"

#include <stdio.h>
#include <string.h>

#define DECLINED(method, code, decline_code, message)                        \
	{                                                                        \
		method, METHOD_DECLINES, code, decline_code, message, "visa", "0002" \
	}

static const TestMethod methods[] = {
	{ "pm_card_visa", METHOD_SUCCEEDS, NULL, NULL, NULL, "visa", "4242" },
	{ "pm_card_mastercard", METHOD_SUCCEEDS, NULL, NULL, NULL, "mastercard",
	  "4444" },
	{ "pm_card_pendingRefund", METHOD_SUCCEEDS, NULL, NULL, NULL, "visa",
	  "7726" },
	{ "pm_card_refundFail", METHOD_SUCCEEDS, NULL, NULL, NULL, "visa",
	  "5126" },
	{ "pm_card_createDispute", METHOD_SUCCEEDS, NULL, NULL, NULL, "visa",
	  "0259" },
	{ "pm_card_createDisputeProductNotReceived", METHOD_SUCCEEDS, NULL, NULL,
	  NULL, "visa", "2685" },
	{ "pm_card_createDisputeInquiry", METHOD_SUCCEEDS, NULL, NULL, NULL,
	  "visa", "1976" },
	DECLINED("pm_card_chargeDeclined", "card_declined", "generic_decline",
			 "The card was declined."),
	DECLINED("pm_card_chargeDeclinedInsufficientFunds", "card_declined",
			 "insufficient_funds", "The card does not hold enough money."),
	DECLINED("pm_card_chargeDeclinedLostCard", "card_declined", "lost_card",
			 "The card was declined."),
	DECLINED("pm_card_chargeDeclinedStolenCard", "card_declined",
			 "stolen_card", "The card was declined."),
	DECLINED("pm_card_chargeDeclinedFraudulent", "card_declined", "fraudulent",
			 "The card was declined."),
	DECLINED("pm_card_chargeDeclinedFraudulentDecline", "card_declined",
			 "fraudulent", "The card was declined."),
	DECLINED("pm_card_chargeDeclinedExpiredCard", "expired_card",
			 "expired_card", "The card has expired."),
	DECLINED("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc",
			 "incorrect_cvc", "The card's security code is wrong."),
	DECLINED("pm_card_chargeDeclinedProcessingError", "processing_error",
			 "processing_error", "The card could not be processed."),
	{ "pm_card_authenticationRequired", METHOD_AUTHENTICATES,
	  "authentication_required", "authentication_required",
	  "The payer has to authenticate this payment.", "visa", "3184" },
	{ "pm_card_authenticationRequiredOnSetup", METHOD_AUTHENTICATES_ONCE,
	  "authentication_required", "authentication_required",
	  "The payer has to authenticate this payment.", "visa", "3155" },
	{ "pm_sandbox_processing", METHOD_PROCESSES, NULL, NULL, NULL, "visa",
	  "4242" },
	{ "pm_sandbox_processing_fails", METHOD_PROCESSES_THEN_FAILS,
	  "card_declined", "generic_decline",
	  "The card was declined after processing.", "visa", "0002" }
};

static const char success_prefix[] = "pm_sandbox_success_";
static const char brand_prefix[] = "pm_card_visa_chargeDeclined";

const TestMethod *
test_method_find(const char *name)
{
	char plain[64];

	if (strncmp(name, success_prefix, strlen(success_prefix)) == 0)
		return &methods[0];
	if (strncmp(name, brand_prefix, strlen(brand_prefix)) == 0)
	{
		snprintf(plain, sizeof(plain), "pm_card_%s",
				 name + strlen("pm_card_visa_"));
		name = plain;
	}
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
	{
		if (strcmp(methods[i].name, name) == 0)
			return &methods[i];
	}
	return NULL;
}

bool
test_destination_find(const char *name, DestinationOutcome *outcome)
{
	static const char prefix[] = "ba_sandbox_";
	static const char return_prefix[] = "ba_sandbox_return";

	*outcome = DESTINATION_PAYS;
	if (strncmp(name, prefix, strlen(prefix)) != 0)
		return false;
	if (strcmp(name, "ba_sandbox_fail") == 0 ||
		strcmp(name, "ba_sandbox_denied") == 0)
		*outcome = DESTINATION_FAILS;
	else if (strncmp(name, return_prefix, strlen(return_prefix)) == 0)
		*outcome = DESTINATION_RETURNS;
	return name[strlen(prefix)] != '\0';
}
