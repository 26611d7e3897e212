/*-------------------------------------------------------------------------
 *
 * housekeeping.h
 *	  What a dispatcher does now and then besides sending.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_WORKER_HOUSEKEEPING_H
#define PAYMENT_WORKER_HOUSEKEEPING_H

#include "datatype/timestamp.h"
#include "session.h"

/* when the next duty falls due */
extern TimestampTz housekeeping_due_at(void);

/* all of them, now */
extern void housekeeping_make_due(void);

/* do the one that is due first, in a transaction of its own; never throws */
extern Presence housekeeping_run(void);

#endif /* PAYMENT_WORKER_HOUSEKEEPING_H */
