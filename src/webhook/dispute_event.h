/*-------------------------------------------------------------------------
 *
 * dispute_event.h
 *	  Events about disputes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_WEBHOOK_DISPUTE_EVENT_H
#define PAYMENT_WEBHOOK_DISPUTE_EVENT_H

#include "order/evidence.h"
#include "webhook/event.h"

/* what payment.webhook_event.dispute holds, as jsonb; and back */
extern Datum dispute_event_json(const PspDispute *said);
extern void	 dispute_event_read(PspDispute *said, uint64 row, int column);

/* the columns that dispute_event_read() reads; e: the table */
#define DISPUTE_EVENT_COLUMNS                                        \
	"e.dispute ->> 'stage', e.dispute ->> 'status',"                 \
	" (e.dispute ->> 'is_taken')::boolean,"                          \
	" (e.dispute ->> 'fee')::bigint, e.dispute ->> 'fee_currency',"  \
	" e.dispute ->> 'reason', (e.dispute ->> 'respond_by')::bigint," \
	" (e.dispute ->> 'sequence')::bigint"

/* whether it says of a dispute what can be weighed */
extern bool dispute_event_counts(const WebhookEvent *event);

/*
 * Weigh what is said of orders that exist.  Of the evidence only the effect is
 * filled; the events name their disputes then.
 */
extern void dispute_events_weigh(WebhookEvent *const *events,
								 Evidence *evidence, int count);

#endif /* PAYMENT_WEBHOOK_DISPUTE_EVENT_H */
