/*-------------------------------------------------------------------------
 *
 * queue.h
 *	  The database's side of dispatching: the functions that the worker calls.
 *
 * All of these run inside a transaction that the caller began.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_WORKER_QUEUE_H
#define PAYMENT_WORKER_QUEUE_H

#include "delivery.h"

/* PSPs that one database may have */
#define QUEUE_PSPS_MAX 256

/* bring the list of PSPs (context: its memory) up to date */
extern void queue_load_psps(dlist_head *psps, MemoryContext context);

/*
 * Claim up to count tasks of the PSP, append them to deliveries (context:
 * their memory) and count them in flight.  Returns how many there were.
 */
extern int queue_claim(Psp *psp, int count, const LaneLimits *limits,
					   int lease_ms, dlist_head *deliveries,
					   MemoryContext context);

/*
 * When the PSP's next task falls due, of the lanes that may have one claimed;
 * DT_NOEND when there is none.
 */
extern TimestampTz queue_next_due(const Psp *psp, const LaneLimits *limits);

/*
 * Let orders that wait at this PSP go on to the next of their route, and see
 * to psp->move_after.  Returns how many did.
 */
extern int queue_move_waiting(Psp *psp, int max_orders);

/* Store the breaker's state; returns the version, 0 when it is outdated. */
extern int64 queue_save_breaker(const Psp *psp);

/* record the outcomes of count finished deliveries */
extern void queue_record(Delivery **deliveries, int count);

/*
 * Claim up to count webhooks that the PSP is to be asked about; as
 * queue_claim().
 */
extern int queue_claim_webhooks(Psp *psp, int count, dlist_head *deliveries,
								MemoryContext context);
/* what it said of one, or that it said nothing */
extern void queue_record_webhook(const Delivery *delivery);

/* a text of the database as UTF-8; what has none becomes question marks */
extern char *queue_to_utf8(const char *value, MemoryContext context);

/* what an earlier dispatcher left in flight is unknown from now on */
extern int64 queue_expire_leases(void);

#endif /* PAYMENT_WORKER_QUEUE_H */
