/*-------------------------------------------------------------------------
 *
 * partial_failure.c
 *	  Payments that are all or nothing, of which a part came to nothing.
 *
 * Their other orders are undone by what an application would call: what was
 * not sent is cancelled, what is authorised is voided, what was captured is
 * refunded.  What is under way has to end first, so that a payment stays noted
 * until nothing is left to undo; a refund that fails later notes it again, and
 * one that fails too often goes to people.  The evidence that an order failed only notes
 * it: it holds the locks of some orders, and may not take those of others.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/timestamp.h"

#include "errcodes.h"
#include "order/partial_failure.h"
#include "order/plan.h"
#include "order/refund.h"
#include "order/typed_argument.h"
#include "order/withdraw.h"
#include "reconcile/exception.h"

PG_FUNCTION_INFO_V1(payment_undo_partial_failures);

#define UNDO_MAX 1000
#define UNDO_PAUSE_MS 10000

void
partial_failures_note(const Column *payments)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, TIMESTAMPTZOID };
	Datum			  values[2];

	if (payments->count == 0)
		return;

	/* Whoever undoes one waits for our locks only for a moment, see there. */
	values[0] = column_array(payments);
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	order_write(plan_keep(&plan,
						  "INSERT INTO payment.partial_failure (payment_id,"
						  " due_at) SELECT u.id, $2 FROM unnest($1) AS u (id)"
						  " ON CONFLICT (payment_id) DO UPDATE"
						  " SET due_at = excluded.due_at",
						  lengthof(types), types),
				values, NULL, CAUSE_POLICY);
}

static int
take_due(pg_uuid_t *payments, int32 most)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { TIMESTAMPTZOID, INT4OID };
	Datum			  values[] = { TimestampTzGetDatum(GetCurrentTimestamp()),
								   Int32GetDatum(most) };
	int				  count;

	count = (int) batch_run(plan_keep(&plan,
									  "SELECT payment_id"
									  " FROM payment.partial_failure"
									  " WHERE due_at <= $1"
									  " ORDER BY due_at LIMIT $2"
									  " FOR UPDATE SKIP LOCKED",
									  lengthof(types), types),
							values, NULL);
	for (int row = 0; row < count; row++)
		row_uuid(row, 1, &payments[row]);
	return count;
}

static void
lock_orders(const pg_uuid_t *payment_id, SubjectSet *set)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID };
	Datum			  id = UUIDPGetDatum(payment_id);
	SubjectKey		 *keys;
	int				  count;

	count = (int) batch_run(plan_keep(&plan,
									  "SELECT id FROM payment.order_record"
									  " WHERE payment_id = $1 AND id > $1",
									  1, types),
							&id, NULL);
	keys = palloc0(Max(count, 1) * sizeof(SubjectKey));
	for (int row = 0; row < count; row++)
	{
		keys[row].object = OBJECT_PAYMENT_ORDER;
		keys[row].operation = OPERATION_PAY;
		row_uuid(row, 1, &keys[row].id);
	}
	subjects_lock(set, keys, count);
}

/* whether nothing can happen to it any more that would have to be undone */
static bool
is_undone(const Subject *order)
{
	static const char *const over[] = { "declined", "failed",	"cancelled",
										"expired",	"reversed", "voided" };

	for (int i = 0; i < (int) lengthof(over); i++)
	{
		if (strcmp(order->path.now, over[i]) == 0)
			return true;
	}
	return strcmp(order->path.now, "captured") == 0 &&
		   order->refunded_amount == order->captured_amount;
}

/* Machines have done what they can: what is left to undo is people's. */
static void
report(const Subject *order, const char *problem)
{
	ExceptionReport what = { .type = "status",
							 .psp_id = &order->psp_id,
							 .order_id = &order->id,
							 .currency = order->currency,
							 .detail = problem };

	exception_open(&what);
}

static bool
undo_payment(const pg_uuid_t *payment_id)
{
	SubjectSet	 set;
	Refund	   **refunds;
	const char **problems;
	bool		 all = true;

	lock_orders(payment_id, &set);
	/* what had failed was captured after all: nothing is partial any more */
	if (set.payment_count == 1 && set.payments[0].failed_count == 0)
		return true;
	refunds = palloc0(Max(set.count, 1) * sizeof(Refund *));
	problems = palloc0(Max(set.count, 1) * sizeof(char *));
	for (int i = 0; i < set.count; i++)
	{
		Subject *order = &set.subjects[i];

		if (!order_withdraw(order, CAUSE_POLICY))
			refunds[i] = refund_rest(order, &problems[i]);
		all = all && (is_undone(order) || problems[i] != NULL);
	}
	subjects_write(&set);
	orders_withdrawn(&set);
	for (int i = 0; i < set.count; i++)
	{
		if (problems[i])
			report(&set.subjects[i], problems[i]);
	}
	for (int i = 0; i < set.count; i++)
	{
		if (refunds[i])
			refund_store(refunds[i], &set.subjects[i]);
	}
	return all;
}

static void
settle(const pg_uuid_t *payment_id, bool done)
{
	static SPIPlanPtr done_plan = NULL;
	static SPIPlanPtr later_plan = NULL;
	const Oid		  types[] = { UUIDOID, TIMESTAMPTZOID };
	Datum			  values[2];

	values[0] = UUIDPGetDatum(payment_id);
	values[1] = TimestampTzGetDatum(
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), UNDO_PAUSE_MS));
	if (done)
		order_write(plan_keep(&done_plan,
							  "DELETE FROM payment.partial_failure"
							  " WHERE payment_id = $1",
							  1, types),
					values, NULL, CAUSE_POLICY);
	else
		order_write(plan_keep(&later_plan,
							  "UPDATE payment.partial_failure SET due_at = $2"
							  " WHERE payment_id = $1",
							  2, types),
					values, NULL, CAUSE_POLICY);
}

/*
 * Its lock_timeout is short: it holds what evidence may want to note anew.
 *
 * payment.undo_partial_failures(max_payments) -> bigint
 */
Datum
payment_undo_partial_failures(PG_FUNCTION_ARGS)
{
	int32	   most = int32_argument(fcinfo, 0, "max_payments");
	pg_uuid_t *payments;
	int		   count;
	int		   nest_level;

	if (most < 1 || most > UNDO_MAX)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("\"max_payments\" is not valid"),
						errdetail("It is %d and must be from 1 to %d.", most,
								  UNDO_MAX),
						errhint("Call it again when there are more.")));
	payments = palloc(most * sizeof(pg_uuid_t));
	nest_level = batch_begin();
	count = take_due(payments, most);
	for (int i = 0; i < count; i++)
		settle(&payments[i], undo_payment(&payments[i]));
	batch_end(nest_level);
	PG_RETURN_INT64(count);
}
