/*-------------------------------------------------------------------------
 *
 * refund.c
 *	  Money of an order goes back to its payer.
 *
 * What all refunds of an order that have not failed give back together is never
 * more than what was captured of it.  The sum is kept with the order and
 * checked under its lock, so that it holds at every isolation level.  The
 * money leaves seller and platform together with the request.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "errcodes.h"
#include "order/batch.h"
#include "order/dispute.h"
#include "order/fee_share.h"
#include "order/idempotency.h"
#include "order/plan.h"
#include "order/posting.h"
#include "order/refund.h"
#include "order/seller_money.h"
#include "order/typed_argument.h"
#include "order/withdraw.h"
#include "payment.h"

PG_FUNCTION_INFO_V1(payment_refund);

struct Refund
{
	pg_uuid_t		id;
	pg_uuid_t		order_id;
	const char	   *key;
	const char	   *reason;		/* or NULL */
	const char	   *fee_policy; /* as passed */
	FeeRefundPolicy policy;
	bool			has_amount;
	int64			amount;

	/* where it comes from */
	int64		fee_share;
	int64		from_pending;
	SellerMoney from_seller;
};

static void
check_reason(const char *reason)
{
	static const char *const reasons[] = { "requested_by_customer",
										   "duplicate", "fraudulent" };

	for (int i = 0; i < (int) lengthof(reasons); i++)
	{
		if (reason == NULL || strcmp(reason, reasons[i]) == 0)
			return;
	}
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
					errmsg("\"reason\" is not valid"),
					errdetail("It must be \"requested_by_customer\", "
							  "\"duplicate\" or \"fraudulent\"."),
					errhint("Leave it away when it is none of them.")));
}

static void
read_refund(FunctionCallInfo fcinfo, Refund *refund)
{
	refund->order_id = *uuid_argument(fcinfo, 0, "payment_order");
	refund->has_amount = !PG_ARGISNULL(1);
	refund->reason = text_argument(fcinfo, 3, "reason");
	refund->fee_policy = text_argument(fcinfo, 4, "fee_policy");
	refund->key = idempotency_argument(fcinfo, 2);
	if (refund->has_amount)
		refund->amount = PG_GETARG_INT64(1);
	if (refund->has_amount && refund->amount <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_AMOUNT),
				 errmsg("\"amount\" is not possible"),
				 errdetail("It is " INT64_FORMAT ".", refund->amount),
				 errhint("Pass minor units above zero, or null for all that "
						 "is left.")));
	check_reason(refund->reason);
	if (refund->fee_policy && strcmp(refund->fee_policy, "none") == 0)
		refund->policy = FEE_REFUND_NONE;
	else if (refund->fee_policy &&
			 strcmp(refund->fee_policy, "proportional") == 0)
		refund->policy = FEE_REFUND_PROPORTIONAL;
	else
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("\"fee_policy\" is not valid"),
						errdetail("It must be \"proportional\" or \"none\"."),
						errhint("With \"none\" the platform keeps its fee.")));
}

static bool
is_true_of(SPIPlanPtr *plan, const char *sql, const pg_uuid_t *order_id)
{
	const Oid types[] = { UUIDOID };
	Datum	  id = UUIDPGetDatum(order_id);

	return batch_run(plan_keep(plan, sql, lengthof(types), types), &id, NULL) >
		   0;
}

bool
refund_is_under_way(const pg_uuid_t *order_id)
{
	static SPIPlanPtr plan = NULL;

	return is_true_of(&plan,
					  "SELECT FROM payment.refund_record"
					  " WHERE order_id = $1 AND id > $1 AND status"
					  " NOT IN ('succeeded', 'failed', 'cancelled') LIMIT 1",
					  order_id);
}

bool
refund_is_in_doubt(const pg_uuid_t *order_id)
{
	static SPIPlanPtr plan = NULL;

	return is_true_of(&plan,
					  "SELECT FROM payment.refund_record AS r"
					  " JOIN payment.exception_record AS x"
					  " ON x.order_id = r.id"
					  " WHERE r.order_id = $1 AND r.id > $1"
					  " AND x.type IN ('late_success', 'status')"
					  " AND x.line_id IS NULL AND x.closed_at IS NULL LIMIT 1",
					  order_id);
}

/*
 * Whether anything stands against refunding the order at all.  What its payer's
 * bank may take or has taken would go back twice.
 */
static void
check_refundable(const Subject *order)
{
	const char *status = order->path.now;

	if (strcmp(status, "captured") != 0 &&
		strcmp(status, "partially_captured") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_WRONG_STATE),
				 errmsg("payment order cannot be refunded"),
				 errdetail("Order %s is %s.", uuid_text(&order->id), status),
				 errhint("Only what was captured can be refunded; what is "
						 "authorised is given back by payment.void().")));
	if (order->open_disputes > 0)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_DISPUTED),
				 errmsg("payment order is disputed"),
				 errdetail("Order %s has %d dispute(s) under way.",
						   uuid_text(&order->id), order->open_disputes),
				 errhint("payment.dispute shows them. The payer gets the "
						 "money by a dispute that is accepted or lost; what "
						 "is won or withdrawn can be refunded.")));
	if (refund_is_in_doubt(&order->id))
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_WRONG_STATE),
				 errmsg("a refund of the payment order is in doubt"),
				 errdetail("Of order %s a refund that failed may have reached "
						   "its payer, or the other way round.",
						   uuid_text(&order->id)),
				 errhint(
					 "payment.exception shows it, as one about the refund; "
					 "two people decide it by "
					 "payment.propose_resolution().")));
	check_performs(order, OPERATION_REFUND);
}

/*
 * What the payer has not got yet: neither by refunds, nor by disputes, be it
 * that the platform bears them.
 */
static int64
rest_of(const Subject *order)
{
	int64 kept = order->captured_amount - order->disputed_amount;

	return Min(kept - order->refunded_amount,
			   kept - dispute_borne(&order->id));
}

static void
check_rest(Refund *refund, const Subject *order)
{
	int64 rest = Max(rest_of(order), 0);
	int	  exponent = currency_exponent(order->currency);
	char  left[MONEY_TEXT_SIZE];
	char  wanted[MONEY_TEXT_SIZE];

	if (!refund->has_amount)
		refund->amount = rest;
	if (refund->amount > 0 && refund->amount <= rest)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_REFUND_EXCEEDED),
			 errmsg("\"amount\" is more than is left to refund"),
			 errdetail("Of order %s %s %s are left, asked for are %s.",
					   uuid_text(&order->id),
					   money_format(rest, exponent, left), order->currency,
					   money_format(refund->amount, exponent, wanted)),
			 errhint("refunded_amount and disputed_amount in "
					 "payment.payment_order show what has been asked for or "
					 "taken already.")));
}

static bool
take_key(Refund *refund)
{
	Fingerprint fingerprint;
	uint8		digest[FINGERPRINT_SIZE];

	uuid7_generate(&refund->id);
	fingerprint_begin(&fingerprint);
	fingerprint_text(&fingerprint, uuid_text(&refund->order_id));
	fingerprint_text(&fingerprint, refund->has_amount
									   ? psprintf(INT64_FORMAT, refund->amount)
									   : NULL);
	fingerprint_text(&fingerprint, refund->reason);
	fingerprint_text(&fingerprint, refund->fee_policy);
	fingerprint_end(&fingerprint, digest);
	return idempotency_take(refund->key, "refund", digest, &refund->id, 1);
}

/* The platform's share of it first; the seller pays the rest. */
static void
split(Refund *refund, const Subject *order, int64 taken_before)
{
	RefundedOrder so_far = {
		.amount = order->captured_amount,
		.platform_fee = order->captured_fee,
		.refunded = order->refunded_amount + order->disputed_amount,
		.fee_returned = order->fee_returned + order->disputed_fee
	};
	int64 seller_part;

	refund->fee_share =
		fee_refund_share(&so_far, refund->amount, refund->policy);
	seller_part = refund->amount - refund->fee_share;
	refund->from_pending = Min(seller_part, order->pending_amount);
	refund->from_seller =
		seller_debit(&order->seller_id, order->currency,
					 seller_part - refund->from_pending, taken_before);
}

static void
insert_refund(const Refund *refund, const Subject *order)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID,		 UUIDOID, UUIDOID, UUIDOID,
								  INT8OID,		 TEXTOID, INT8OID, INT8OID,
								  INT8OID,		 INT8OID, TEXTOID, TEXTOID,
								  TIMESTAMPTZOID };
	Datum			  values[lengthof(types)] = { 0 };
	char			  nulls[] = "             ";

	values[0] = UUIDPGetDatum(&refund->id);
	values[1] = UUIDPGetDatum(&order->id);
	values[2] = UUIDPGetDatum(&order->seller_id);
	values[3] = UUIDPGetDatum(&order->psp_id);
	values[4] = Int64GetDatum(refund->amount);
	values[5] = CStringGetTextDatum(order->currency);
	values[6] = Int64GetDatum(refund->fee_share);
	values[7] = Int64GetDatum(refund->from_pending);
	values[8] = Int64GetDatum(refund->from_seller.available);
	values[9] = Int64GetDatum(refund->from_seller.receivable);
	nulls[10] = refund->reason ? ' ' : 'n';
	if (refund->reason)
		values[10] = CStringGetTextDatum(refund->reason);
	values[11] =
		CStringGetTextDatum(GetUserNameFromId(GetSessionUserId(), false));
	values[12] = TimestampTzGetDatum(GetCurrentTimestamp());
	order_write(plan_keep(&plan,
						  "INSERT INTO payment.refund_record (id, order_id,"
						  " seller_id, psp_id, amount, currency, fee_share,"
						  " from_pending, from_available, from_receivable,"
						  " reason, requested_by, updated_at, status,"
						  " event_count)"
						  " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10,"
						  " $11, $12, $13, 'created', 1)",
						  lengthof(types), types),
				values, nulls, CAUSE_API);
}

static Posting
posting_of(const Refund *refund, const Subject *order)
{
	Posting posting = { .kind = "refund", .subject = refund->id };

	strlcpy(posting.currency, order->currency, sizeof(posting.currency));
	posting.legs[posting.leg_count++] =
		(PostingLeg){ .code = ACCOUNT_PLATFORM_FEE,
					  .owner = NULL,
					  .amount = refund->fee_share };
	posting.legs[posting.leg_count++] =
		(PostingLeg){ .code = ACCOUNT_SELLER_PENDING,
					  .owner = &order->seller_id,
					  .amount = refund->from_pending };
	posting.legs[posting.leg_count++] =
		(PostingLeg){ .code = ACCOUNT_SELLER_AVAILABLE,
					  .owner = &order->seller_id,
					  .amount = refund->from_seller.available };
	posting.legs[posting.leg_count++] =
		(PostingLeg){ .code = ACCOUNT_SELLER_RECEIVABLE,
					  .owner = &order->seller_id,
					  .amount = refund->from_seller.receivable };
	posting.legs[posting.leg_count++] =
		(PostingLeg){ .code = ACCOUNT_REFUND_CLEARING,
					  .owner = &order->psp_id,
					  .amount = -refund->amount };
	return posting;
}

/* in memory: where it comes from, and the order's books after it */
static void
take(Refund *refund, Subject *order, int64 taken_before)
{
	split(refund, order, taken_before);
	order->refunded_amount += refund->amount;
	order->fee_returned += refund->fee_share;
	order->pending_amount -= refund->from_pending;
	order->books_changed = true;
}

Posting
refund_store(const Refund *refund, const Subject *order)
{
	insert_refund(refund, order);
	task_queue(&order->psp_id, OPERATION_REFUND, &refund->id);
	return posting_of(refund, order);
}

int64
refund_from_available(const Refund *refund)
{
	return refund->from_seller.available;
}

#define UNDO_REFUND_DELAY_MAX_MS INT64CONST(86400000)

/*
 * Whether it is time to ask for a refund that nobody has asked for.  One that
 * failed is asked for again, later each time; at last it is people's.  One of
 * which people have to say whether it failed has to be decided first.
 */
static bool
may_ask(const Subject *order, const char **problem)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID };
	Datum			  id = UUIDPGetDatum(&order->id);
	int64			  failed;
	int64			  delay_ms;
	const char		 *last_code;
	TimestampTz		  last_at;

	batch_run(plan_keep(&plan,
						"SELECT count(*), max(updated_at),"
						" (array_agg(failure_code ORDER BY updated_at DESC)"
						")[1] FROM payment.refund_record"
						" WHERE order_id = $1 AND id > $1"
						" AND status IN ('failed', 'cancelled')",
						lengthof(types), types),
			  &id, NULL);
	failed = row_int64(0, 1);
	last_code = row_text(0, 3);
	last_at = row_time(0, 2);
	if (refund_is_in_doubt(&order->id))
		return false;
	if (failed == 0)
		return true;
	if (failed >= payment_max_undo_refunds)
	{
		*problem = psprintf(
			"Its payment is all or nothing and has failed in part, "
			"but " INT64_FORMAT
			" refunds of this order have failed, too (the last one: %s): the "
			"payer's money has to be given back in another way.",
			failed, last_code ? last_code : "no reason given");
		return false;
	}
	delay_ms = Min((int64) payment_undo_refund_delay_ms << Min(failed - 1, 30),
				   UNDO_REFUND_DELAY_MAX_MS);
	return GetCurrentTimestamp() >=
		   TimestampTzPlusMilliseconds(last_at, delay_ms);
}

Refund *
refund_rest(Subject *order, int64 taken_before, const char **problem)
{
	Refund *refund;
	int64	rest = rest_of(order);

	/* while it is disputed, nobody knows what is left */
	if (strcmp(order->path.now, "captured") != 0 || order->open_disputes > 0)
		return NULL;
	if (rest <= 0)
	{
		if (order->captured_amount >
			order->refunded_amount + order->disputed_amount)
			*problem = "Its payment is all or nothing and has failed in part, "
					   "but a dispute that the platform bears has given the "
					   "payer's money back already.";
		return NULL;
	}
	if (!performs(&order->psp_id, OPERATION_REFUND))
	{
		*problem = "Its payment is all or nothing and has failed in part, but "
				   "its PSP cannot be asked for a refund: the payer's money "
				   "has to be given back in another way.";
		return NULL;
	}
	if (!may_ask(order, problem))
		return NULL;
	refund = palloc0(sizeof(Refund));
	uuid7_generate(&refund->id);
	refund->order_id = order->id;
	refund->amount = rest;
	refund->policy = FEE_REFUND_PROPORTIONAL;
	take(refund, order, taken_before);
	return refund;
}

static void
refund_locked(Refund *refund, SubjectSet *set, Subject *order)
{
	Posting posting;

	if (!take_key(refund))
		return;
	check_refundable(order);
	check_rest(refund, order);
	take(refund, order, 0);
	subjects_write(set);
	posting = refund_store(refund, order);
	posting_post(&posting, 1);
}

/*
 * payment.refund(payment_order, amount, idempotency_key, reason, fee_policy)
 * -> uuid
 */
Datum
payment_refund(PG_FUNCTION_ARGS)
{
	Refund	   refund = { 0 };
	SubjectSet set;
	Subject	  *order;
	pg_uuid_t *result = palloc(sizeof(pg_uuid_t));
	int		   nest_level;

	read_refund(fcinfo, &refund);
	nest_level = batch_begin();
	order = order_lock(&set, &refund.order_id, OPERATION_REFUND);
	refund_locked(&refund, &set, order);
	batch_end(nest_level);
	*result = refund.id;
	PG_RETURN_UUID_P(result);
}
