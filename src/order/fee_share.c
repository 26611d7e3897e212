/*-------------------------------------------------------------------------
 *
 * fee_share.c
 *	  What of the platform's fee goes back with a refund.
 *
 * Rounding each refund by itself would leave a residue.  So it is the total
 * that is rounded: once r of the amount has been refunded, fee * r / amount
 * (half-even) of the fee has gone back, and a refund returns what is missing
 * to that.  The total depends on r alone, not on the refunds that made it up;
 * at r = amount it is the fee.  It grows with r, by at most as much as r does,
 * because the fee is no more than the amount: a share is never negative, and
 * never more than its refund.
 *
 * When what went back before is not what this would have given (the platform
 * kept its fee then), the next refunds make up for it as far as they reach.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"

#include "errcodes.h"
#include "money.h"
#include "order/fee_share.h"
#include "order/typed_argument.h"

PG_FUNCTION_INFO_V1(payment_refund_fee_share);

int64
fee_captured(int64 platform_fee, int64 captured, int64 amount)
{
	return money_share(platform_fee, captured, amount);
}

int64
fee_refund_share(const RefundedOrder *order, int64 refund,
				 FeeRefundPolicy policy)
{
	int64 total;

	Assert(order->amount > 0 && order->platform_fee >= 0);
	Assert(order->platform_fee <= order->amount);
	Assert(order->fee_returned >= 0 && order->refunded >= order->fee_returned);
	Assert(refund >= 0 && refund <= order->amount - order->refunded);

	if (policy == FEE_REFUND_NONE)
		return 0;
	total = money_share(order->platform_fee, order->refunded + refund,
						order->amount);
	return Min(Max(total - order->fee_returned, 0), refund);
}

static void
pg_attribute_noreturn()
	refuse_amount(const char *name, int64 value, int64 minimum, int64 maximum)
{
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_INVALID_AMOUNT),
			 errmsg("\"%s\" is not possible", name),
			 errdetail("It is " INT64_FORMAT " and must be from " INT64_FORMAT
					   " to " INT64_FORMAT ".",
					   value, minimum, maximum),
			 errhint("Pass minor units: the order's amount and fee, what of "
					 "both went back before, and a refund of at most the "
					 "rest.")));
}

static int64
amount_argument(FunctionCallInfo fcinfo, int number, const char *name,
				int64 minimum, int64 maximum)
{
	int64 value = int64_argument(fcinfo, number, name);

	if (value < minimum || value > maximum)
		refuse_amount(name, value, minimum, maximum);
	return value;
}

static FeeRefundPolicy
policy_argument(FunctionCallInfo fcinfo, int number)
{
	const char *name = text_argument(fcinfo, number, "policy");

	if (name == NULL ||
		(strcmp(name, "proportional") != 0 && strcmp(name, "none") != 0))
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("\"policy\" is not valid"),
						errdetail("It must be \"proportional\" or \"none\"."),
						errhint("With \"none\" the platform keeps its fee.")));
	return strcmp(name, "none") == 0 ? FEE_REFUND_NONE
									 : FEE_REFUND_PROPORTIONAL;
}

/*
 * payment.refund_fee_share(amount, platform_fee, refunded, fee_returned,
 * refund, policy) -> bigint
 */
Datum
payment_refund_fee_share(PG_FUNCTION_ARGS)
{
	FeeRefundPolicy policy = policy_argument(fcinfo, 5);
	RefundedOrder	order;
	int64			refund;

	order.amount = amount_argument(fcinfo, 0, "amount", 1, PG_INT64_MAX);
	order.platform_fee =
		amount_argument(fcinfo, 1, "platform_fee", 0, order.amount);
	order.refunded = amount_argument(fcinfo, 2, "refunded", 0, order.amount);
	order.fee_returned =
		amount_argument(fcinfo, 3, "fee_returned", 0,
						Min(order.platform_fee, order.refunded));
	refund =
		amount_argument(fcinfo, 4, "refund", 0, order.amount - order.refunded);
	PG_RETURN_INT64(fee_refund_share(&order, refund, policy));
}
