/*-------------------------------------------------------------------------
 *
 * waiting.h
 *	  Events that could not be applied yet, and when to try them again.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_WEBHOOK_WAITING_H
#define PAYMENT_WEBHOOK_WAITING_H

#include "order/psp_reference.h"

/*
 * Objects have been given these names: what waits for one falls due.  Waits
 * for nobody.  Needs an SPI connection.
 */
extern void waiting_wake(const PspReference *references, int count);

#endif /* PAYMENT_WEBHOOK_WAITING_H */
