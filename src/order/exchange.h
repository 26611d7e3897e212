/*-------------------------------------------------------------------------
 *
 * exchange.h
 *	  What the PSP credits for an order or takes for a refund: its fee, and
 *	  another currency than the payer's.
 *
 *	  capture of 20.00 EUR, credited as 21.69 USD, of which the PSP keeps 0.93
 *		psp_receivable EUR -20.00, fx_clearing EUR +20.00,
 *		fx_clearing USD -21.69, psp_receivable USD +21.69
 *		psp_fee USD +0.93, psp_receivable USD -0.93
 *	  refund of 5.00 EUR, for which the PSP takes 5.50 USD
 *		psp_receivable EUR +5.00, fx_clearing EUR -5.00,
 *		fx_clearing USD +5.42, psp_receivable USD -5.50, fx_gain USD +0.08
 *
 * So fx_clearing holds, for each order, what was captured and not refunded in
 * the payer's currency, against what it was exchanged for.  Whatever a refund
 * or the settlement line differs from that is gain or loss.  The seller's
 * accounts are in the payer's currency and take no part in it.
 *
 * What is not told is not exchanged: it stays where it was captured, until the
 * settlement line tells (reconcile/exchange_line.c).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_EXCHANGE_H
#define PAYMENT_EXCHANGE_H

#include "order/weigh.h"

/*
 * Orders that were captured before this batch, and of which the PSP tells only
 * now what it settles: take hold of them, unless a settlement line has told.
 */
extern void exchange_claim(SubjectSet *set, const Evidence *evidence,
						   int count);

/* so much has just been captured by this evidence */
extern void exchange_captured(Weighing *w, Subject *order,
							  const Evidence *evidence, int64 amount);

/* what was captured before is told of again, perhaps with more to say */
extern void exchange_told_again(Weighing *w, Subject *order,
								const Evidence *evidence);

/* a refund has succeeded, or has failed after all */
extern void exchange_refunded(Weighing *w, Subject *order, Subject *refund,
							  const Evidence *evidence);
extern void exchange_refund_failed(Weighing *w, Subject *order,
								   Subject *refund);

/* People say that a capture was not ours to keep: its exchange goes, too. */
extern bool exchange_reverse(Subject *order, Posting *posting);

/*
 * The part of what an order was exchanged for that belongs to so much of it;
 * when nothing is known of that, what it is exchanged back for.
 */
extern int64 exchange_value(const SettledMoney *settled, int64 amount,
							int64 settled_amount);

/* the legs of an exchange, of so much for so much, carried at that value */
extern void exchange_legs(Posting *posting, const pg_uuid_t *psp_id,
						  const char *settled_currency, int64 amount,
						  int64 settled_amount, int64 value);

/* what is told of fees in this batch: journals, their number */
extern Posting *exchange_fees(const SubjectSet *set, int *count);

#endif /* PAYMENT_EXCHANGE_H */
