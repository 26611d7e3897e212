/*-------------------------------------------------------------------------
 *
 * delivery.h
 *	  One claimed task on its way to the PSP and back.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_WORKER_DELIVERY_H
#define PAYMENT_WORKER_DELIVERY_H

#include "datatype/timestamp.h"
#include "http.h"
#include "lib/ilist.h"
#include "psp/psp.h"
#include "utils/uuid.h"

/* A PSP as configured, and how busy it is. */
typedef struct Psp
{
	dlist_node		  node;
	MemoryContext	  context; /* the strings */
	pg_uuid_t		  id;
	const PspAdapter *adapter; /* NULL: none of that name */
	char			 *name;
	char			 *base_url;
	char			 *secret_name;
	int				  max_in_flight;
	int				  requests_per_second;
	int				  connect_timeout_ms;
	int				  timeout_ms;
	bool			  active; /* seen in the last load */

	int			in_flight; /* claimed, outcome not recorded yet */
	int			recording; /* of these, with the transaction under way */
	double		tokens;	   /* requests that may be sent now */
	TimestampTz refilled_at;
	TimestampTz due_at; /* when to claim next */
	TimestampTz complained_at;

	/* its clock minus ours, from the last answer that told */
	bool  clock_known;
	int64 clock_offset_s;
} Psp;

typedef struct Delivery
{
	dlist_node		  node;
	MemoryContext	  context; /* everything of it, itself included */
	Psp				 *psp;
	const PspAdapter *adapter;
	pg_uuid_t		  attempt_id;
	PspTask			  task;
	TimestampTz		  first_sent_at; /* 0: never */
	TimestampTz		  last_sent_at;
	TimestampTz		  started_at; /* when it was claimed */
	TimestampTz		  give_up_at; /* no request is begun later than this */

	/* the request under way: its body must outlive it */
	PspRequest request;

	/* when finished */
	PspOutcome outcome;
	int		   http_status; /* 0: none */
	int		   latency_ms;	/* all requests together, -1: none was sent */
} Delivery;

/*
 * Put the task's request on the way.  False when that is impossible; then the
 * delivery is finished, with an outcome that says so.
 */
extern bool delivery_send(Delivery *delivery);

/*
 * Take the answer.  False when the task needs another request, which is on its
 * way then.
 */
extern bool delivery_receive(Delivery *delivery, HttpExchange *exchange);

#endif /* PAYMENT_WORKER_DELIVERY_H */
