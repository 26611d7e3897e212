/*
 * charge.h
 *		What becomes of a charge and its intent, whoever's protocol it is.
 */
#ifndef SANDBOX_CHARGE_H
#define SANDBOX_CHARGE_H

#include "book.h"

/*
 * What moves money of a charge on the balance, in the currency that it is
 * settled in, for an amount in its own; fee below 0: that of a payment.
 */
extern BalanceTx *charge_new_tx(const Charge *charge, BalanceTxType type,
								uint32_t source, int64_t amount, int64_t fee);

extern void charge_authorize(Intent *intent, Charge *charge);

/* Money is taken: the only place where a charge becomes a success. */
extern void charge_capture(Intent *intent, Charge *charge, int64_t amount);

extern void charge_fail(Intent *intent, Charge *charge);
extern void charge_void(Intent *intent, Charge *charge);

/* What can still be given back. */
extern int64_t charge_refundable(const Charge *charge);

/* Money is given back; the caller has seen to it that there is enough. */
extern void charge_refund(Modification *refund);

/* A capture comes to nothing; false when it is refunded already. */
extern bool charge_take_back_capture(Charge *charge, int64_t amount);

/* A refund does not reach the payer: the money is here again. */
extern void charge_take_back_refund(Modification *refund);

#endif
