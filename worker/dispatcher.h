/*-------------------------------------------------------------------------
 *
 * dispatcher.h
 *	  What the launcher tells a dispatcher that it starts.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_WORKER_DISPATCHER_H
#define PAYMENT_WORKER_DISPATCHER_H

/* In bgw_extra; the argument of the process is the number of its slot. */
typedef struct DispatcherStart
{
	Oid	   database_id;
	uint32 generation;
} DispatcherStart;

#endif /* PAYMENT_WORKER_DISPATCHER_H */
