/*-------------------------------------------------------------------------
 *
 * new_key.c
 *	  The next attempt of what the PSP failed to execute, under a new key.
 *
 * A PSP that stored a failure of its own for a key answers that key with it
 * ever after, so that the same key can never succeed.  A new one is safe when
 * two things are known: the execution under the old key has come to its end
 * (the failure is a replay), and it left nothing behind (a lookup made after
 * that found nothing).  Neither alone is enough.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "order/batch.h"
#include "order/new_key.h"
#include "order/operation.h"
#include "order/plan.h"
#include "order/transition.h"
#include "reconcile/exception.h"

#define RESPONSE_SQL                                                    \
	"UPDATE payment.dispute_response_record SET status = 'submitting'," \
	" attempt_no = attempt_no + 1 WHERE id = $1 AND status = 'unknown'"

/* by operation; a capture or void counts for itself */
static const struct
{
	const char *operation;
	const char *sql;
} statements[] = {
	{ OPERATION_PAY, "UPDATE payment.order_record SET status = 'executing',"
					 " attempt_no = attempt_no + 1"
					 " WHERE id = $1 AND status = 'unknown'" },
	{ OPERATION_CAPTURE, "UPDATE payment.order_record"
						 " SET status = 'capturing',"
						 " operation_no = operation_no + 1"
						 " WHERE id = $1 AND status = 'unknown'" },
	{ OPERATION_VOID, "UPDATE payment.order_record SET status = 'voiding',"
					  " operation_no = operation_no + 1"
					  " WHERE id = $1 AND status = 'unknown'" },
	{ OPERATION_REFUND, "UPDATE payment.refund_record"
						" SET status = 'submitting',"
						" attempt_no = attempt_no + 1"
						" WHERE id = $1 AND status = 'unknown'" },
	{ OPERATION_DISPUTE_EVIDENCE, RESPONSE_SQL },
	{ OPERATION_DISPUTE_ACCEPT, RESPONSE_SQL },
	{ OPERATION_PAYOUT, "UPDATE payment.payout_record"
						" SET status = 'submitting',"
						" attempt_no = attempt_no + 1"
						" WHERE id = $1 AND status = 'unknown'" },
};

/* Rare enough for a statement of its own. */
void
new_key_take(const char *operation, const pg_uuid_t *object_id)
{
	static SPIPlanPtr plans[lengthof(statements)] = { NULL };
	const Oid		  types[] = { UUIDOID };
	Datum			  id = UUIDPGetDatum(object_id);
	Column			  ids;

	for (int i = 0; i < (int) lengthof(statements); i++)
	{
		if (strcmp(statements[i].operation, operation) == 0)
			order_write(plan_keep(&plans[i], statements[i].sql, 1, types), &id,
						NULL, CAUSE_LOOKUP);
	}
	column_init(&ids, UUIDOID);
	column_add_uuid(&ids, object_id);
	exception_close_unknown(column_array(&ids));
}
