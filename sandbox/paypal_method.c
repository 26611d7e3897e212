/*
 * paypal_method.c
 *		Vaulted payment sources to test with.
 */
#include "paypal.h"

#include <string.h>

static const struct
{
	const char	*name;
	PaypalMethod method;
} methods[] = {
	{ "sandbox_success", { PAYPAL_COMPLETES, false, NULL } },
	{ "sandbox_declined", { PAYPAL_DECLINES, false, "0500" } },
	{ "sandbox_declined_0500", { PAYPAL_DECLINES, false, "0500" } },
	{ "sandbox_declined_1330", { PAYPAL_DECLINES, false, "1330" } },
	{ "sandbox_declined_5100", { PAYPAL_DECLINES, false, "5100" } },
	{ "sandbox_declined_5120", { PAYPAL_DECLINES, false, "5120" } },
	{ "sandbox_declined_5180", { PAYPAL_DECLINES, false, "5180" } },
	{ "sandbox_declined_5400", { PAYPAL_DECLINES, false, "5400" } },
	{ "sandbox_declined_9500", { PAYPAL_DECLINES, false, "9500" } },
	{ "sandbox_declined_9520", { PAYPAL_DECLINES, false, "9520" } },
	{ "sandbox_instrument_declined", { PAYPAL_REFUSES, false, NULL } },
	{ "sandbox_payer_action", { PAYPAL_NEEDS_PAYER, false, NULL } },
	{ "sandbox_approved", { PAYPAL_APPROVES, false, NULL } },
	{ "sandbox_pending", { PAYPAL_PENDS, false, NULL } },
	{ "sandbox_pending_fails", { PAYPAL_PENDS, true, "0500" } }
};

static const char success_prefix[] = "sandbox_success_";

bool
paypal_method_find(const char *name, PaypalMethod *method)
{
	if (strncmp(name, success_prefix, strlen(success_prefix)) == 0)
		name = methods[0].name;
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
	{
		if (strcmp(methods[i].name, name) == 0)
		{
			*method = methods[i].method;
			return true;
		}
	}
	return false;
}
