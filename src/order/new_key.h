/*-------------------------------------------------------------------------
 *
 * new_key.h
 *	  The next attempt of what the PSP failed to execute, under a new key.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_NEW_KEY_H
#define PAYMENT_NEW_KEY_H

#include "order/batch.h"

/*
 * Each object goes from unknown back to where its send is due, with the next
 * attempt number.  The caller has locked them, and knows that their key is
 * spent and that the PSP has no such object.
 */
extern void new_key_take(const Column *orders, const Column *payouts);

#endif /* PAYMENT_NEW_KEY_H */
