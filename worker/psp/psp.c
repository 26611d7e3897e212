/*-------------------------------------------------------------------------
 *
 * psp.c
 *	  The adapters there are, and what they share.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "psp/psp.h"

static const PspAdapter *const adapters[] = { &psp_adyen, &psp_paypal,
											  &psp_stripe };

const PspAdapter *
psp_adapter(const char *name)
{
	for (int i = 0; i < (int) lengthof(adapters); i++)
		if (strcmp(adapters[i]->name, name) == 0)
			return adapters[i];
	return NULL;
}

char *
psp_adapter_names(void)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < (int) lengthof(adapters); i++)
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "", adapters[i]->name);
	return names.data;
}

static const char *const operation_names[PSP_OPERATIONS] = {
	[PSP_OPERATION_PAY] = "pay",
	[PSP_OPERATION_PAYOUT] = "payout",
	[PSP_OPERATION_CAPTURE] = "capture",
	[PSP_OPERATION_VOID] = "void",
	[PSP_OPERATION_REFUND] = "refund",
	[PSP_OPERATION_REGISTER] = "register",
	[PSP_OPERATION_VERIFY] = "verify",
	[PSP_OPERATION_CLOSE] = "close",
	[PSP_OPERATION_DISPUTE_EVIDENCE] = "dispute_evidence",
	[PSP_OPERATION_DISPUTE_ACCEPT] = "dispute_accept",
};

const char *
psp_operation_name(PspOperation operation)
{
	return operation_names[operation];
}

bool
psp_operation_of(const char *name, PspOperation *operation)
{
	for (int i = 0; i < PSP_OPERATIONS; i++)
	{
		if (strcmp(name, operation_names[i]) == 0)
		{
			*operation = (PspOperation) i;
			return true;
		}
	}
	return false;
}

const char *
psp_outcome_name(PspOutcomeKind kind)
{
	switch (kind)
	{
		case PSP_SUCCEEDED:
			return "succeeded";
		case PSP_PENDING:
			return "pending";
		case PSP_DECLINED:
			return "declined";
		case PSP_FAILED:
			return "failed";
		case PSP_RETRY:
			return "retry";
		case PSP_NOT_FOUND:
			return "not_found";
		case PSP_KEY_SPENT:
			return "key_spent";
		case PSP_AUTHORIZED:
			return "authorized";
		case PSP_VOIDED:
			return "voided";
		case PSP_EXPIRED:
			return "expired";
		case PSP_REQUIRES_ACTION:
			return "requires_action";
		case PSP_TOKENIZED:
			return "tokenized";
		case PSP_UNKNOWN:
		case PSP_MORE:
			break;
	}
	return "unknown";
}

const char *
psp_decline_class_name(PspDeclineClass class)
{
	switch (class)
	{
		case PSP_DECLINE_SOFT:
			return "soft";
		case PSP_DECLINE_HARD:
			return "hard";
		case PSP_DECLINE_AUTHENTICATION_REQUIRED:
			return "authentication_required";
		case PSP_DECLINE_NOT_APPLICABLE:
			return "not_applicable";
		case PSP_DECLINE_UNSAID:
			break;
	}
	return NULL;
}

const char *
psp_error_class_name(PspErrorClass class)
{
	switch (class)
	{
		case PSP_ERROR_CONNECTION:
			return "connection";
		case PSP_ERROR_LOST:
			return "lost";
		case PSP_ERROR_ANSWER:
			return "answer";
		case PSP_ERROR_SERVER:
			return "server";
		case PSP_ERROR_BUSY:
			return "busy";
		case PSP_ERROR_ACCESS:
			return "access";
		case PSP_ERROR_REQUEST:
			return "request";
		case PSP_ERROR_NONE:
			break;
	}
	return "none";
}

const char *
psp_event_about_name(PspEventAbout about)
{
	switch (about)
	{
		case PSP_EVENT_PAY:
			return "pay";
		case PSP_EVENT_CAPTURE:
			return "capture";
		case PSP_EVENT_VOID:
			return "void";
		case PSP_EVENT_REFUND:
			return "refund";
		case PSP_EVENT_DISPUTE:
			return "dispute";
		case PSP_EVENT_PAYOUT:
			return "payout";
		case PSP_EVENT_SESSION:
			return "session";
		case PSP_EVENT_OTHER:
			break;
	}
	return "other";
}
