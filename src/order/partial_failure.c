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

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "errcodes.h"
#include "order/partial_failure.h"
#include "order/plan.h"
#include "order/refund.h"
#include "order/seller_money.h"
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
lock_orders(const pg_uuid_t *payments, int payment_count, SubjectSet *set)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID };
	Column			  ids;
	Datum			  value;
	SubjectKey		 *keys;
	int				  count;

	column_init(&ids, UUIDOID);
	for (int i = 0; i < payment_count; i++)
		column_add_uuid(&ids, &payments[i]);
	value = column_array(&ids);
	count =
		(int) batch_run(plan_keep(&plan,
								  "SELECT o.id FROM unnest($1) AS u (id)"
								  " JOIN payment.order_record AS o"
								  " ON o.payment_id = u.id AND o.id > u.id",
								  lengthof(types), types),
						&value, NULL);
	keys = palloc0(Max(count, 1) * WITHDRAW_KEYS * sizeof(SubjectKey));
	for (int row = 0; row < count; row++)
	{
		pg_uuid_t order_id;

		row_uuid(row, 1, &order_id);
		order_withdraw_keys(&order_id, &keys[row * WITHDRAW_KEYS]);
	}
	subjects_lock(set, keys, count * WITHDRAW_KEYS);
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
		   order->refunded_amount + order->disputed_amount ==
			   order->captured_amount;
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

/* NULL: what had failed was captured after all, nothing is partial any more */
static PaymentState *
payment_to_undo(SubjectSet *set, const pg_uuid_t *id)
{
	PaymentState *payment = payment_find(set, id);

	return payment && payment->failed_count > 0 ? payment : NULL;
}

static bool
is_refundable(const Subject *order)
{
	return strcmp(order->path.now, "captured") == 0 &&
		   order->captured_amount >
			   order->refunded_amount + order->disputed_amount;
}

static void
lock_sellers(SubjectSet *set)
{
	SellerKey *sellers = palloc(Max(set->count, 1) * sizeof(SellerKey));
	int		   count = 0;

	for (int i = 0; i < set->count; i++)
	{
		const Subject *order = &set->subjects[i];

		if (is_refundable(order) && payment_to_undo(set, &order->payment_id))
			sellers[count++] =
				(SellerKey){ order->seller_id, order->currency };
	}
	sellers_lock(sellers, count);
}

/* what the refunds before it take of the same seller's available money */
static int64
taken_before(const SubjectSet *set, Refund *const *refunds, int number)
{
	const Subject *order = &set->subjects[number];
	int64		   taken = 0;

	for (int i = 0; i < number; i++)
	{
		const Subject *other = &set->subjects[i];

		if (refunds[i] &&
			uuid_compare(&other->seller_id, &order->seller_id) == 0 &&
			strcmp(other->currency, order->currency) == 0)
			taken += refund_from_available(refunds[i]);
	}
	return taken;
}

static void
store(SubjectSet *set, Refund *const *refunds, const char *const *problems)
{
	Posting *postings = palloc(Max(set->count, 1) * sizeof(Posting));
	int		 count = 0;

	subjects_write(set);
	orders_withdrawn(set);
	for (int i = 0; i < set->count; i++)
	{
		if (problems[i])
			report(&set->subjects[i], problems[i]);
		if (refunds[i])
			postings[count++] = refund_store(refunds[i], &set->subjects[i]);
	}
	/* last: from here on the busiest rows of all are locked */
	posting_post(postings, count);
}

/* *later: the payment has to be looked at again */
static void
undo(const pg_uuid_t *payments, bool *later, int count)
{
	SubjectSet	 set;
	Refund	   **refunds;
	const char **problems;

	lock_orders(payments, count, &set);
	lock_sellers(&set);
	refunds = palloc0(Max(set.count, 1) * sizeof(Refund *));
	problems = palloc0(Max(set.count, 1) * sizeof(char *));
	for (int i = 0; i < set.count; i++)
	{
		Subject		 *order = &set.subjects[i];
		PaymentState *payment = payment_to_undo(&set, &order->payment_id);

		if (payment == NULL)
			continue;
		if (!order_withdraw(order, CAUSE_POLICY) && is_refundable(order))
			refunds[i] = refund_rest(order, taken_before(&set, refunds, i),
									 &problems[i]);
		if (!is_undone(order) && problems[i] == NULL)
			payment->undo_later = true;
	}
	store(&set, refunds, problems);
	for (int i = 0; i < count; i++)
	{
		const PaymentState *payment = payment_to_undo(&set, &payments[i]);

		later[i] = payment && payment->undo_later;
	}
}

static void
settle(const pg_uuid_t *payments, const bool *later, int count)
{
	static SPIPlanPtr done_plan = NULL;
	static SPIPlanPtr later_plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, TIMESTAMPTZOID };
	Column			  ids[2];
	Datum			  values[2];

	column_init(&ids[false], UUIDOID);
	column_init(&ids[true], UUIDOID);
	for (int i = 0; i < count; i++)
		column_add_uuid(&ids[later[i]], &payments[i]);
	values[0] = column_array(&ids[false]);
	if (ids[false].count > 0)
		order_write(plan_keep(&done_plan,
							  "DELETE FROM payment.partial_failure"
							  " WHERE payment_id = ANY ($1)",
							  1, types),
					values, NULL, CAUSE_POLICY);
	values[0] = column_array(&ids[true]);
	values[1] = TimestampTzGetDatum(
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), UNDO_PAUSE_MS));
	if (ids[true].count > 0)
		order_write(plan_keep(&later_plan,
							  "UPDATE payment.partial_failure SET due_at = $2"
							  " WHERE payment_id = ANY ($1)",
							  2, types),
					values, NULL, CAUSE_POLICY);
}

/* ---- one by one, when they cannot be undone together ---- */

static bool
is_for_the_session(int sqlerrcode)
{
	return ERRCODE_TO_CATEGORY(sqlerrcode) ==
			   ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION) ||
		   ERRCODE_TO_CATEGORY(sqlerrcode) ==
			   ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES);
}

/* Somebody else is at it: that passes. */
static bool
passes(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		   ERRCODE_TO_CATEGORY(sqlerrcode) ==
			   ERRCODE_TO_CATEGORY(ERRCODE_TRANSACTION_ROLLBACK);
}

static void
undo_and_settle(const pg_uuid_t *payments, int count)
{
	bool *later = palloc(count * sizeof(bool));
	int	  nest_level = batch_begin();

	undo(payments, later, count);
	settle(payments, later, count);
	batch_end(nest_level);
}

/* NULL: done; else what is in the way, and nothing was done */
static ErrorData *
try_to_undo(const pg_uuid_t *payments, int count)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		undo_and_settle(payments, count);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		if (is_for_the_session(error->sqlerrcode))
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return error;
}

/* One that cannot be undone must not keep the others waiting. */
static void
postpone(const pg_uuid_t *payment, const ErrorData *error)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID };
	Datum			  id = UUIDPGetDatum(payment);
	bool			  later = true;
	int				  nest_level = batch_begin();
	int				  count;
	Subject			 *orders;

	settle(payment, &later, 1);
	count =
		passes(error->sqlerrcode)
			? 0
			: (int) batch_run(plan_keep(&plan,
										"SELECT id, psp_id, currency"
										" FROM payment.order_record"
										" WHERE payment_id = $1 AND id > $1"
										" AND status IN ('created',"
										" 'authorized', 'captured',"
										" 'partially_captured')"
										" AND (captured_amount = 0 OR"
										" captured_amount >"
										" refunded_amount)",
										lengthof(types), types),
							  &id, NULL);
	orders = palloc0(Max(count, 1) * sizeof(Subject));
	for (int row = 0; row < count; row++)
	{
		row_uuid(row, 1, &orders[row].id);
		row_uuid(row, 2, &orders[row].psp_id);
		orders[row].currency = row_text(row, 3);
	}
	for (int i = 0; i < count; i++)
		report(
			&orders[i],
			psprintf("Its payment is all or nothing and has failed in part, "
					 "but cannot be undone: %s (SQLSTATE %s). It is tried "
					 "again.",
					 error->message, unpack_sql_state(error->sqlerrcode)));
	batch_end(nest_level);
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
	ErrorData *error;
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
	batch_end(nest_level);
	error = count > 0 ? try_to_undo(payments, count) : NULL;
	for (int i = 0; error && i < count; i++)
	{
		ErrorData *own = count == 1 ? error : try_to_undo(&payments[i], 1);

		if (own)
			postpone(&payments[i], own);
	}
	PG_RETURN_INT64(count);
}
