/*-------------------------------------------------------------------------
 *
 * fee_share.h
 *	  What of the platform's fee goes back with a refund.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_FEE_SHARE_H
#define PAYMENT_FEE_SHARE_H

typedef enum FeeRefundPolicy
{
	FEE_REFUND_PROPORTIONAL, /* the platform gives its part back, too */
	FEE_REFUND_NONE			 /* it keeps its fee: the seller bears all */
} FeeRefundPolicy;

/* An order, and what of it went back before; minor units of one currency. */
typedef struct RefundedOrder
{
	int64 amount;		/* > 0 */
	int64 platform_fee; /* 0 to amount; any other part of it, as a tax, too */
	int64 refunded;		/* 0 to amount */
	int64 fee_returned; /* what of the fee is in refunded */
} RefundedOrder;

/* what of an order's fee belongs to what was captured of it in all */
extern int64 fee_captured(int64 platform_fee, int64 captured, int64 amount);

/*
 * The fee's part of one more refund.  Refunds that add up to the amount bring
 * back the fee exactly, however they are cut and in whatever order they come;
 * no share is negative, or more than its refund.
 */
extern int64 fee_refund_share(const RefundedOrder *order, int64 refund,
							  FeeRefundPolicy policy);

#endif /* PAYMENT_FEE_SHARE_H */
