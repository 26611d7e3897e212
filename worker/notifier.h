/*-------------------------------------------------------------------------
 *
 * notifier.h
 *	  What a dispatcher does to tell applications of events.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_WORKER_NOTIFIER_H
#define PAYMENT_WORKER_NOTIFIER_H

#include "datatype/timestamp.h"
#include "http.h"
#include "session.h"

extern void notifier_startup(void);

/* When is there something to do?  Leaving, it only records. */
extern TimestampTz notifier_due_at(bool leaving);
/* now, whatever the clock has said */
extern void notifier_make_due(void);

/* do it, in a transaction of its own, which waits for nobody */
extern Presence notifier_run(bool leaving);

/* an exchange of purpose EXCHANGE_NOTIFICATION is finished */
extern void notifier_receive(HttpExchange *exchange);

extern int	notifier_in_flight(void);
extern bool notifier_is_idle(void);

#endif /* PAYMENT_WORKER_NOTIFIER_H */
