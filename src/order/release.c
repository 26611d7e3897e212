/*-------------------------------------------------------------------------
 *
 * release.c
 *	  The holding period of an order ends: the seller may have the money.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "errcodes.h"
#include "order/batch.h"
#include "order/plan.h"
#include "order/posting.h"
#include "order/seller_money.h"
#include "order/transition.h"
#include "order/typed_argument.h"

PG_FUNCTION_INFO_V1(payment_release);

typedef struct CapturedOrder
{
	pg_uuid_t id;
	pg_uuid_t seller_id;
	char	 *currency;
	char	 *status;
	int64	  pending;	   /* of the seller's part */
	bool	  is_released; /* all of it that was captured */
} CapturedOrder;

/* Locked, so that of two releases at once the second sees the first. */
static void
lock_order(const pg_uuid_t *id, CapturedOrder *order)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID };
	Datum			  values[] = { UUIDPGetDatum(id) };

	plan_keep(&plan,
			  "SELECT seller_id, currency, status, "
			  "pending_amount, released_at "
			  "FROM payment.order_record WHERE id = $1 FOR UPDATE",
			  lengthof(types), types);
	if (spi_read(plan, values, NULL) != 1)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_UNKNOWN_OBJECT),
						errmsg("\"payment_order\" is no payment order"),
						errdetail("There is none with that id."),
						errhint("Pass an id that checkout() or submit() "
								"returned.")));
	order->id = *id;
	(void) row_uuid(0, 1, &order->seller_id);
	order->currency = row_text(0, 2);
	order->status = row_text(0, 3);
	order->pending = row_int64(0, 4);
	order->is_released = row_time(0, 5) != 0 && order->pending == 0;
}

static void
check_captured(const CapturedOrder *order)
{
	if (strcmp(order->status, "captured") == 0 ||
		strcmp(order->status, "partially_captured") == 0)
		return;
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_WRONG_STATE),
					errmsg("the payment order is not captured"),
					errdetail("Its status is \"%s\".", order->status),
					errhint("Only money that came can be made available.")));
}

static void
mark_released(const CapturedOrder *order)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID, TIMESTAMPTZOID };
	Datum			  values[lengthof(types)];

	values[0] = UUIDPGetDatum(&order->id);
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	plan_keep(&plan,
			  "UPDATE payment.order_record SET released_at = $2, "
			  "pending_amount = 0 "
			  "WHERE id = $1",
			  lengthof(types), types);
	if (order_write(plan, values, NULL, CAUSE_API) != 1)
		elog(ERROR, "payment order vanished while locked");
}

/*
 * Where the platform's fee or refunds took all there is nothing to move.  What
 * the seller owes is paid first.
 */
static void
move_to_available(const CapturedOrder *order)
{
	Posting		posting = { .kind = "release", .subject = order->id };
	SellerMoney credit;

	if (order->pending == 0)
		return;
	strlcpy(posting.currency, order->currency, sizeof(posting.currency));
	credit = seller_credit(&order->seller_id, order->currency, order->pending);
	posting.leg_count = 3;
	posting.legs[0].code = ACCOUNT_SELLER_PENDING;
	posting.legs[0].owner = &order->seller_id;
	posting.legs[0].amount = order->pending;
	posting.legs[1].code = ACCOUNT_SELLER_RECEIVABLE;
	posting.legs[1].owner = &order->seller_id;
	posting.legs[1].amount = -credit.receivable;
	posting.legs[2].code = ACCOUNT_SELLER_AVAILABLE;
	posting.legs[2].owner = &order->seller_id;
	posting.legs[2].amount = -credit.available;
	posting_post(&posting, 1);
}

/*
 * payment.release(payment_order) -> boolean: true when done now
 */
Datum
payment_release(PG_FUNCTION_ARGS)
{
	pg_uuid_t	 *id = uuid_argument(fcinfo, 0, "payment_order");
	CapturedOrder order;
	int			  nest_level = batch_begin();

	lock_order(id, &order);
	check_captured(&order);
	if (!order.is_released)
	{
		mark_released(&order);
		move_to_available(&order);
	}
	batch_end(nest_level);
	PG_RETURN_BOOL(!order.is_released);
}
