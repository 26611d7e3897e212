/*-------------------------------------------------------------------------
 *
 * verifier.h
 *	  What a dispatcher does to find out whose webhooks are.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_WORKER_VERIFIER_H
#define PAYMENT_WORKER_VERIFIER_H

#include "delivery.h"
#include "session.h"

extern bool verifier_owns(const Delivery *delivery);

/* Is it time to look for webhooks that this PSP is to be asked about? */
extern bool verifier_is_due(const Psp *psp, TimestampTz now);

/* ... and when is it? */
extern TimestampTz verifier_due_at(const Psp *psp);

/*
 * Claim some, within the transaction that claims tasks.  Of the room that the
 * PSP has (limits: in which lanes) tasks that are due keep most.  Returns how
 * many, which limits and room are to be shortened by.
 */
extern int verifier_claim(Psp *psp, int room, LaneLimits *limits,
						  dlist_head *claimed, MemoryContext context);

/* one that is finished, to be recorded */
extern void verifier_add(Delivery *delivery);
extern bool verifier_is_idle(void);

/*
 * Record what is finished, each in a transaction of its own; freeing them is
 * left to free_delivery.
 */
extern Presence verifier_record(void (*free_delivery)(Delivery *));

#endif /* PAYMENT_WORKER_VERIFIER_H */
