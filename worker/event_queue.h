/*-------------------------------------------------------------------------
 *
 * event_queue.h
 *	  The database's side of posting events: the functions that the worker
 *	  calls.
 *
 * All of these run inside a transaction that the caller began.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_WORKER_EVENT_QUEUE_H
#define PAYMENT_WORKER_EVENT_QUEUE_H

#include "notification.h"

/* bring the list of endpoints (context: its memory) up to date */
extern void event_queue_load(dlist_head *endpoints, MemoryContext context);

/* put events into the endpoint's queue, if there is room; returns how many */
extern int64 event_queue_fill(const Endpoint *endpoint, int count, bool *full);

/* claim up to count events and append them to notifications */
extern int event_queue_claim(Endpoint *endpoint, int count,
							 dlist_head *notifications, MemoryContext context);

/* DT_NOEND: none waits */
extern TimestampTz event_queue_next_due(const Endpoint *endpoint);

/* results of the endpoint; false: not now, somebody has it locked */
extern bool event_queue_record(const Endpoint *endpoint,
							   Notification **notifications, int count);

#endif /* PAYMENT_WORKER_EVENT_QUEUE_H */
