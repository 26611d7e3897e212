/*
 * adyen_method.c
 *		Stored payment methods to test with, and Adyen's refusal reasons.
 */
#include "adyen.h"

#include <string.h>

static const struct
{
	const char *code;
	const char *reason;
} refusals[] = { { "2", "Refused" },
				 { "3", "Referral" },
				 { "4", "Acquirer Error" },
				 { "5", "Blocked Card" },
				 { "6", "Expired Card" },
				 { "7", "Invalid Amount" },
				 { "8", "Invalid Card Number" },
				 { "9", "Issuer Unavailable" },
				 { "10", "Not supported" },
				 { "11", "3D Not Authenticated" },
				 { "12", "Not enough balance" },
				 { "14", "Acquirer Fraud" },
				 { "15", "Cancelled" },
				 { "16", "Shopper Cancelled" },
				 { "17", "Invalid Pin" },
				 { "20", "FRAUD" },
				 { "22", "FRAUD-CANCELLED" },
				 { "23", "Transaction Not Permitted" },
				 { "24", "CVC Declined" },
				 { "25", "Restricted Card" },
				 { "26", "Revocation Of Auth" },
				 { "27", "Declined Non Generic" },
				 { "28", "Withdrawal amount exceeded" },
				 { "31", "Issuer Suspected Fraud" },
				 { "38", "Authentication required" } };

static const struct
{
	const char	*name;
	AdyenOutcome outcome;
	bool		 fails_later;
	const char	*refusal;
} methods[] = { { "sandbox_authorised", ADYEN_AUTHORISED, false, NULL },
				{ "sandbox_error", ADYEN_ERROR, false, "4" },
				{ "sandbox_cancelled", ADYEN_CANCELLED, false, "15" },
				{ "sandbox_redirect", ADYEN_REDIRECT, false, "38" },
				{ "sandbox_challenge", ADYEN_CHALLENGE, false, "38" },
				{ "sandbox_pending", ADYEN_PENDING, false, NULL },
				{ "sandbox_pending_fails", ADYEN_PENDING, true, "2" },
				{ "sandbox_received", ADYEN_RECEIVED, false, NULL },
				{ "sandbox_received_fails", ADYEN_RECEIVED, true, "2" } };

static const char authorised_prefix[] = "sandbox_authorised_";
static const char refused_prefix[] = "sandbox_refused_";

static bool
find_refusal(const char *code, AdyenMethod *method)
{
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
	{
		if (strcmp(refusals[i].code, code) == 0)
		{
			method->reason = refusals[i].reason;
			method->reason_code = refusals[i].code;
			return true;
		}
	}
	return false;
}

bool
adyen_method_find(const char *name, AdyenMethod *method)
{
	memset(method, 0, sizeof(*method));
	if (strncmp(name, authorised_prefix, strlen(authorised_prefix)) == 0)
		return true;
	if (strncmp(name, refused_prefix, strlen(refused_prefix)) == 0)
	{
		method->outcome = ADYEN_REFUSED;
		return find_refusal(name + strlen(refused_prefix), method);
	}
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
	{
		if (strcmp(methods[i].name, name) != 0)
			continue;
		method->outcome = methods[i].outcome;
		method->fails_later = methods[i].fails_later;
		return methods[i].refusal == NULL ||
			   find_refusal(methods[i].refusal, method);
	}
	return false;
}
