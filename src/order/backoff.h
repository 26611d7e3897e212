/*-------------------------------------------------------------------------
 *
 * backoff.h
 *	  How long to wait before trying again.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_BACKOFF_H
#define PAYMENT_BACKOFF_H

/*
 * A random time between base_ms and base_ms * 2^tries, at most max_ms.
 * tries counts from 1.
 */
extern int64 backoff_ms(int32 tries, int32 base_ms, int32 max_ms);

#endif /* PAYMENT_BACKOFF_H */
