/*-------------------------------------------------------------------------
 *
 * outbox.h
 *	  What applications are told: events, written in the commit of what they
 *	  tell about.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_EVENT_OUTBOX_H
#define PAYMENT_EVENT_OUTBOX_H

#include "executor/tuptable.h"

#include "order/transition.h"

/* Events of one statement on one table, collected to be written together. */
typedef struct Outbox Outbox;

/*
 * Are applications told when an object of this kind reaches the status?  Each
 * such change counts one up in the object's event_count (order/guard.c).
 */
extern bool outbox_publishes(TransitionObject object, const char *status,
							 int length);

/* ... any status? */
extern bool outbox_publishes_any(TransitionObject object);

/* Within SPI; the rows to come look like desc. */
extern Outbox *outbox_open(TransitionObject object, TupleDesc desc);

/* the object as it is after the change */
extern void outbox_add(Outbox *outbox, TupleTableSlot *slot);

/* write what was collected */
extern void outbox_flush(Outbox *outbox);

#endif /* PAYMENT_EVENT_OUTBOX_H */
