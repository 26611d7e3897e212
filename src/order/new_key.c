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

#include "order/new_key.h"
#include "order/plan.h"
#include "order/transition.h"
#include "reconcile/exception.h"

static const Oid id_array_type[] = { UUIDARRAYOID };

static void
take(SPIPlanPtr *plan, const char *sql, const Column *ids)
{
	Datum value;

	if (ids->count == 0)
		return;
	value = column_array(ids);
	order_write(plan_keep(plan, sql, 1, id_array_type), &value, NULL,
				CAUSE_LOOKUP);
	exception_close_unknown(value);
}

void
new_key_take(const Column *orders, const Column *payouts)
{
	static SPIPlanPtr order_plan = NULL;
	static SPIPlanPtr payout_plan = NULL;

	take(&order_plan,
		 "UPDATE payment.order_record AS o SET status = 'executing',"
		 " attempt_no = o.attempt_no + 1"
		 " FROM unnest($1) AS u (id)"
		 " WHERE o.id = u.id AND o.status = 'unknown'",
		 orders);
	take(&payout_plan,
		 "UPDATE payment.payout_record AS o SET status = 'submitting',"
		 " attempt_no = o.attempt_no + 1"
		 " FROM unnest($1) AS u (id)"
		 " WHERE o.id = u.id AND o.status = 'unknown'",
		 payouts);
}
