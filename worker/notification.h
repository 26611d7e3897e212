/*-------------------------------------------------------------------------
 *
 * notification.h
 *	  One event on its way to an application.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_WORKER_NOTIFICATION_H
#define PAYMENT_WORKER_NOTIFICATION_H

#include "breaker.h"
#include "datatype/timestamp.h"
#include "http.h"
#include "lib/ilist.h"
#include "utils/uuid.h"

/* A webhook endpoint as configured, and how busy it is. */
typedef struct Endpoint
{
	dlist_node	  node;
	MemoryContext context; /* itself; its strings are in a child of it */
	MemoryContext strings;
	char		 *consumer;
	char		 *url;
	char		 *secret_name;
	int			  max_in_flight;
	int			  connect_timeout_ms;
	int			  timeout_ms;
	bool		  active;	 /* seen in the last load */
	int			  in_flight; /* claimed, result not recorded yet */
	Breaker		  breaker;
	TimestampTz	  due_at;	 /* when to claim next */
	bool		  may_queue; /* there may be events to put into its queue */
	bool		  queue_full;
	TimestampTz	  complained_at;
} Endpoint;

typedef struct Notification
{
	dlist_node	  node;
	MemoryContext context; /* everything of it, itself included */
	Endpoint	 *endpoint;
	pg_uuid_t	  event_id;
	int			  tries;
	char		 *body;
	char		 *signature; /* a header */
	uint32		  spell;	 /* of the circuit breaker */
	bool		  judged;	 /* the breaker knows how it ended */

	/* when finished */
	const char *error;			/* NULL: acknowledged */
	int			http_status;	/* 0: none */
	int64		retry_after_ms; /* -1: not said */
} Notification;

/* Within a transaction; what goes wrong is left to notification_send(). */
extern void notification_sign(Notification *notification);

/* Put it on the way.  False when that is impossible; then it is finished. */
extern bool notification_send(Notification *notification);

/* its answer, or that there is none: it is finished */
extern void notification_receive(Notification		*notification,
								 const HttpExchange *exchange);

#endif /* PAYMENT_WORKER_NOTIFICATION_H */
