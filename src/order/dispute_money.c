/*-------------------------------------------------------------------------
 *
 * dispute_money.c
 *	  Where the money of a dispute comes from, and its journals.
 *
 * Of an order seller and platform got so much each, and no more than that ever
 * goes back from either, by refunds and disputes together.  A dispute of what
 * was refunded already takes nothing from anybody a second time: the platform
 * bears it, until people have seen to it.
 *
 * The books of a dispute are at one of three levels, and each step between two
 * of them is one journal, up or down:
 *
 *	  lost		what was held is gone, the platform's part with it
 *					up: dispute_lost			down: dispute_reopened
 *	  held		the PSP has taken it, the seller's part is held
 *					up: dispute_opened			down: dispute_returned
 *	  none
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "order/batch.h"
#include "order/dispute.h"
#include "order/fee_share.h"
#include "order/plan.h"
#include "order/posting.h"
#include "order/seller_money.h"

static int64
seller_share(const Dispute *dispute)
{
	return dispute->from_pending + dispute->from_available +
		   dispute->from_receivable;
}

static void
leg(Posting *posting, AccountCode code, const pg_uuid_t *owner, int64 amount)
{
	Assert(posting->leg_count < POSTING_MAX_LEGS);
	posting->legs[posting->leg_count++] =
		(PostingLeg){ .code = code, .owner = owner, .amount = amount };
}

static Posting
begin(const Dispute *dispute, const char *kind, const char *currency)
{
	Posting posting = { .kind = kind, .subject = dispute->id };

	strlcpy(posting.currency, currency, sizeof(posting.currency));
	return posting;
}

/* ---- none and held ---- */

/* what the seller still has of the order */
static int64
seller_left(const Subject *order)
{
	int64 got = order->captured_amount - order->captured_fee;
	int64 gave = order->refunded_amount - order->fee_returned +
				 order->disputed_amount - order->disputed_fee;

	return Max(got - gave, 0);
}

static bool
is_reversed(const Subject *order)
{
	return strcmp(order->path.now, "reversed") == 0;
}

static void
split(Dispute *dispute, Subject *order)
{
	RefundedOrder so_far = {
		.amount = order->captured_amount,
		.platform_fee = order->captured_fee,
		.refunded = order->refunded_amount + order->disputed_amount,
		.fee_returned = order->fee_returned + order->disputed_fee,
	};
	/* of what people took back nobody has anything left */
	int64 left = is_reversed(order) ? 0 : so_far.amount - so_far.refunded;
	int64 shared = Min(dispute->amount, left);
	int64 share = fee_refund_share(&so_far, shared, FEE_REFUND_PROPORTIONAL);
	SellerMoney from_seller;
	int64		seller_part;

	share = Max(share, shared - seller_left(order));
	seller_part = shared - share;
	dispute->platform_loss = dispute->amount - shared;
	dispute->fee_share = share;
	dispute->from_pending = Min(seller_part, order->pending_amount);
	from_seller = seller_debit(&order->seller_id, order->currency,
							   seller_part - dispute->from_pending, 0);
	dispute->from_available = from_seller.available;
	dispute->from_receivable = from_seller.receivable;
	order->pending_amount -= dispute->from_pending;
	order->disputed_amount += shared;
	order->disputed_fee += share;
	order->books_changed = true;
}

static void
post_opened(const Dispute *dispute)
{
	Posting posting = begin(dispute, "dispute_opened", dispute->currency);

	leg(&posting, ACCOUNT_DISPUTE_RECEIVABLE, &dispute->psp_id,
		dispute->amount);
	leg(&posting, ACCOUNT_PSP_RECEIVABLE, &dispute->psp_id, -dispute->amount);
	leg(&posting, ACCOUNT_SELLER_PENDING, &dispute->seller_id,
		dispute->from_pending);
	leg(&posting, ACCOUNT_SELLER_AVAILABLE, &dispute->seller_id,
		dispute->from_available);
	leg(&posting, ACCOUNT_SELLER_RECEIVABLE, &dispute->seller_id,
		dispute->from_receivable);
	leg(&posting, ACCOUNT_SELLER_DISPUTE_HOLD, &dispute->seller_id,
		-seller_share(dispute));
	posting_post(&posting, 1);
}

static void
credit_seller(Posting *posting, const Dispute *dispute, int64 pending)
{
	SellerMoney owed = seller_credit(&dispute->seller_id, dispute->currency,
									 dispute->from_receivable);
	int64		available = seller_share(dispute) - pending - owed.receivable;

	leg(posting, ACCOUNT_SELLER_PENDING, &dispute->seller_id, -pending);
	leg(posting, ACCOUNT_SELLER_RECEIVABLE, &dispute->seller_id,
		-owed.receivable);
	leg(posting, ACCOUNT_SELLER_AVAILABLE, &dispute->seller_id, -available);
}

/*
 * To where it came from: to what is pending of an order that is not released,
 * else to the seller, who first pays what he owes for it.  What comes back of
 * an order that was reversed is the payer's.
 */
static void
post_returned(Dispute *dispute, Subject *order)
{
	Posting posting = begin(dispute, "dispute_returned", dispute->currency);
	bool	reversed = is_reversed(order);
	int64	pending = order->released || reversed ? 0 : dispute->from_pending;

	leg(&posting, ACCOUNT_PSP_RECEIVABLE, &dispute->psp_id, dispute->amount);
	leg(&posting, ACCOUNT_DISPUTE_RECEIVABLE, &dispute->psp_id,
		-dispute->amount);
	leg(&posting, ACCOUNT_SELLER_DISPUTE_HOLD, &dispute->seller_id,
		seller_share(dispute));
	if (reversed)
		leg(&posting, ACCOUNT_UNIDENTIFIED_RECEIPTS, &dispute->psp_id,
			-seller_share(dispute));
	else
		credit_seller(&posting, dispute, pending);
	posting_post(&posting, 1);

	order->pending_amount += pending;
	order->disputed_amount -= dispute->amount - dispute->platform_loss;
	order->disputed_fee -= dispute->fee_share;
	order->books_changed = true;
	dispute->from_pending = dispute->from_available = 0;
	dispute->from_receivable = dispute->fee_share = 0;
	dispute->platform_loss = 0;
}

/* ---- held and lost ---- */

static void
post_lost(const Dispute *dispute, bool up)
{
	Posting posting = begin(dispute, up ? "dispute_lost" : "dispute_reopened",
							dispute->currency);
	int64	sign = up ? 1 : -1;

	leg(&posting, ACCOUNT_SELLER_DISPUTE_HOLD, &dispute->seller_id,
		sign * seller_share(dispute));
	leg(&posting, ACCOUNT_PLATFORM_FEE, NULL, sign * dispute->fee_share);
	leg(&posting, ACCOUNT_WRITE_OFF, NULL, sign * dispute->platform_loss);
	leg(&posting, ACCOUNT_DISPUTE_RECEIVABLE, &dispute->psp_id,
		-sign * dispute->amount);
	posting_post(&posting, 1);
}

void
dispute_move_money(Dispute *dispute, Subject *order, bool taken, bool was_lost)
{
	bool lost = taken && dispute_is(dispute, "lost");

	if (was_lost && !lost)
		post_lost(dispute, false);
	if (!dispute->is_taken && taken)
	{
		split(dispute, order);
		post_opened(dispute);
	}
	else if (dispute->is_taken && !taken)
		post_returned(dispute, order);
	dispute->is_taken = taken;
	if (!was_lost && lost)
		post_lost(dispute, true);
}

/* ---- what the PSP charges for it ---- */

static int64
fee_by_settings(const Dispute *dispute)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, TEXTOID };
	Datum			  values[] = { UUIDPGetDatum(&dispute->psp_id),
								   CStringGetTextDatum(dispute->currency) };

	plan_keep(&plan,
			  "SELECT (p.dispute_fees ->> $2)::bigint FROM payment.psp AS p"
			  " WHERE p.id = $1",
			  lengthof(types), types);
	return batch_run(plan, values, NULL) > 0 ? row_int64(0, 1) : 0;
}

/*
 * What a PSP tells is a sum, so that one event makes up for another that was
 * lost.
 */
void
dispute_charge_fee(Dispute *dispute, const PspDispute *said, bool takes)
{
	const char *currency =
		said->has_fee ? pstrdup(said->fee_currency) : dispute->currency;
	int64	fee = dispute->fee;
	Posting posting;

	if (dispute->fee_currency && strcmp(dispute->fee_currency, currency) != 0)
		return;
	if (said->has_fee)
		fee = said->fee;
	else if (takes)
		fee += fee_by_settings(dispute);
	if (fee == dispute->fee)
		return;
	posting = begin(dispute, "dispute_fee", currency);
	leg(&posting, ACCOUNT_DISPUTE_FEE, NULL, fee - dispute->fee);
	leg(&posting, ACCOUNT_PSP_RECEIVABLE, &dispute->psp_id,
		dispute->fee - fee);
	posting_post(&posting, 1);
	dispute->fee = fee;
	dispute->fee_currency = currency;
}
