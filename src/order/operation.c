/*-------------------------------------------------------------------------
 *
 * operation.c
 *	  What a PSP is asked to do, to which object, and in which statuses.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "order/operation.h"

static const Operation operations[] = {
	{ OPERATION_PAY, OBJECT_PAYMENT_ORDER, "created", "executing", "pending" },
	{ OPERATION_REGISTER, OBJECT_PAYMENT_ORDER, "created", "registering",
	  "pending" },
	{ OPERATION_CLOSE, OBJECT_PAYMENT_ORDER, NULL, "requires_action", NULL },
	{ OPERATION_CAPTURE, OBJECT_PAYMENT_ORDER, NULL, "capturing", NULL },
	{ OPERATION_VOID, OBJECT_PAYMENT_ORDER, NULL, "voiding", NULL },
	{ OPERATION_REFUND, OBJECT_REFUND, "created", "submitting", "pending" },
	{ OPERATION_DISPUTE_EVIDENCE, OBJECT_DISPUTE_RESPONSE, "created",
	  "submitting", NULL },
	{ OPERATION_DISPUTE_ACCEPT, OBJECT_DISPUTE_RESPONSE, "created",
	  "submitting", NULL },
	{ OPERATION_PAYOUT, OBJECT_PAYOUT, "scheduled", "submitting",
	  "in_transit" },
};

const Operation *
operation_find(const char *name)
{
	for (int i = 0; i < (int) lengthof(operations); i++)
	{
		if (strcmp(operations[i].name, name) == 0)
			return &operations[i];
	}
	return NULL;
}

const Operation *
operation_of(const char *name)
{
	const Operation *operation = operation_find(name);

	if (operation == NULL)
		elog(ERROR, "operation \"%s\" is unknown", name);
	return operation;
}

bool
operation_is_follow_up(const char *name)
{
	return strcmp(name, OPERATION_CAPTURE) == 0 ||
		   strcmp(name, OPERATION_VOID) == 0;
}

bool
operation_is_of_page(const char *name)
{
	return strcmp(name, OPERATION_REGISTER) == 0 ||
		   strcmp(name, OPERATION_CLOSE) == 0;
}
