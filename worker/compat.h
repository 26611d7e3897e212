/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  Where PostgreSQL's versions differ for the worker.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_WORKER_COMPAT_H
#define PAYMENT_WORKER_COMPAT_H

#include "utils/wait_event.h"

/* Named wait events came with 17; before, all extensions wait as one. */
#if PG_VERSION_NUM >= 170000
#define worker_wait_event(name) WaitEventExtensionNew(name)
#else
#define worker_wait_event(name) PG_WAIT_EXTENSION
#endif

#if PG_VERSION_NUM >= 170000
#define worker_wait_set(context, count) CreateWaitEventSet(NULL, count)
#else
#define worker_wait_set(context, count) CreateWaitEventSet(context, count)
#endif

#endif /* PAYMENT_WORKER_COMPAT_H */
