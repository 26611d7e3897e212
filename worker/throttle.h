/*-------------------------------------------------------------------------
 *
 * throttle.h
 *	  How much may be claimed for a PSP now, and when there may be more.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_WORKER_THROTTLE_H
#define PAYMENT_WORKER_THROTTLE_H

#include "delivery.h"
#include "order/lane.h"

/*
 * How many tasks of this PSP may be claimed now, and how many of each lane.
 * May turn its circuit breaker half-open.
 */
extern int throttle_room(Psp *psp, dlist_head *psps, TimestampTz now,
						 LaneLimits *limits);

/*
 * While half-open: the other lanes, for when those that go first have nothing
 * due.
 */
extern bool throttle_other_probes(const Psp *psp, int probes,
								  LaneLimits *limits);

/* which lanes have places, whatever else may be in the way */
extern void throttle_limits(const Psp *psp, dlist_head *psps,
							LaneLimits *limits);

/* When will there be room, as far as that depends on time?  DT_NOEND: not. */
extern TimestampTz throttle_ready_at(const Psp *psp, dlist_head *psps);

/* Tokens come with time. */
extern void throttle_refill(Psp *psp, TimestampTz now);

/* A claimed task takes a place, until its outcome is recorded. */
extern void throttle_begin(Delivery *delivery);
extern void throttle_end(Delivery *delivery);

/* Its outcome is in the transaction under way, which will free its place. */
extern void throttle_mark_recording(Delivery *delivery, bool recording);

/* What the answer, or having none, says of the PSP. */
extern void throttle_judge(Delivery *delivery, TimestampTz now);

/* an operator has reset the breaker */
extern void throttle_forget_pause(Psp *psp);

extern int throttle_in_flight(const Psp *psp);

#endif /* PAYMENT_WORKER_THROTTLE_H */
