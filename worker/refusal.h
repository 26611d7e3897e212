/*-------------------------------------------------------------------------
 *
 * refusal.h
 *	  Whether this copy of the database may send payments.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_WORKER_REFUSAL_H
#define PAYMENT_WORKER_REFUSAL_H

/* may it?  In the transaction that is to claim; tells people when not. */
extern bool refusal_absent(void);

/* a promoted standby that was expected takes over; in a transaction */
extern void refusal_take_over(void);

/* was the transaction that just committed confirmed as far as it has to be? */
extern bool refusal_commit_is_safe(void);

#endif /* PAYMENT_WORKER_REFUSAL_H */
