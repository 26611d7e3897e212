/*-------------------------------------------------------------------------
 *
 * event.h
 *	  Webhook events: stored, weighed, and kept waiting where they must.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_WEBHOOK_EVENT_H
#define PAYMENT_WEBHOOK_EVENT_H

#include "datatype/timestamp.h"
#include "psp/psp.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#define STATE_RECEIVED "received"
#define STATE_PARKED "parked"
#define STATE_APPLIED "applied"
#define STATE_IGNORED "ignored"
#define STATE_REJECTED "rejected"
#define STATE_UNMATCHED "unmatched"

/* A row of payment.webhook_event.  Texts may be NULL where columns may. */
typedef struct WebhookEvent
{
	pg_uuid_t	id;
	pg_uuid_t	psp_id;
	const char *event_id;
	const char *type;
	const char *about;

	/* answers of webhook_apply(); a state that is set before stays */
	const char *state;
	const char *effect;
	const char *detail;
	bool		waits_for_reference; /* parked until that is known */
	bool		waits_for_parent;	 /* ... or until the other one is */

	bool		has_object;
	pg_uuid_t	object_id;
	int			attempt_no; /* 0: it does not say */
	const char *psp_reference;
	const char *parent_reference;
	const char *account;
	const char *outcome;
	bool		is_manual; /* of the payment: captured by request only */
	bool		has_amount;
	int64		amount;
	const char *currency;
	const char *error_code;
	const char *error_message;
	PspDispute	dispute; /* of one about a dispute */
	TimestampTz sent_at; /* 0: it does not say */
	TimestampTz received_at;

	/* only of one that is stored for the first time */
	const char *body;
	int			length;
} WebhookEvent;

/*
 * All need an SPI connection.  webhook_apply() runs in a subtransaction: when
 * it fails, for whatever reason but that the session is told to stop, the
 * events are left as received.
 */
extern void webhook_apply(WebhookEvent *events, int count);

/* store.c: store those that are not known yet, and apply them */
extern void webhook_take(const pg_uuid_t *psp_id, Jsonb *headers,
						 const char *body, const PspEvent *const *events,
						 int count);

/*
 * waiting.c: events that are to be stored for the first time.  Before that, of
 * what cannot be parked any more an exception is made; after it, what waits is
 * noted.
 */
extern void waiting_limit(WebhookEvent *events, int count);
extern void waiting_begin(const WebhookEvent *events, int count);

#endif /* PAYMENT_WEBHOOK_EVENT_H */
