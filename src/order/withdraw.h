/*-------------------------------------------------------------------------
 *
 * withdraw.h
 *	  Capturing, voiding and cancelling: what is done to an order after it was
 *	  made, by the application or by a policy.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_WITHDRAW_H
#define PAYMENT_WITHDRAW_H

#include "fmgr.h"

#include "order/subject.h"
#include "psp/psp.h"

/* the one order, locked with its task of that operation; PY012: there is none */
extern Subject *order_lock(SubjectSet *set, const pg_uuid_t *order_id,
						   const char *operation);

/* an idempotency key, checked */
extern const char *idempotency_argument(FunctionCallInfo fcinfo, int number);

/* the adapter of a PSP; NULL: none, somebody else does what it is asked to */
extern const PspAdapter *adapter_of(const pg_uuid_t *psp_id);
/* can it be asked to do that?  PY303 */
extern bool performs(const pg_uuid_t *psp_id, const char *operation);
extern void check_performs(const Subject *subject, const char *operation);

/* Have it done once the transaction commits; whatever its task was is over. */
extern void task_queue(const pg_uuid_t *psp_id, const char *operation,
					   const pg_uuid_t *object_id);

/*
 * An order that is created is cancelled, one that is authorised is voided, one
 * whose payer is at a page is cancelled when the PSP has closed that.
 * False: neither can be; nothing has changed.  subjects_write() follows.
 */
extern bool order_withdraw(Subject *subject, TransitionCause cause);
extern bool order_begin_void(Subject *subject, TransitionCause cause);
/* its tasks that have to be locked for that, WITHDRAW_KEYS of them */
#define WITHDRAW_KEYS 2
extern void order_withdraw_keys(const pg_uuid_t *order_id, SubjectKey *keys);
/* after subjects_write(): the tasks of what was cancelled or is voided */
extern void orders_withdrawn(SubjectSet *set);

#endif /* PAYMENT_WITHDRAW_H */
