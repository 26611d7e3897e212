/*-------------------------------------------------------------------------
 *
 * event.h
 *	  Payment events as callers pass them, checked and ready to be stored.
 *
 * checkout() and payout() make one event, submit() many; from there on all
 * take the same way: event_accept().
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_EVENT_H
#define PAYMENT_EVENT_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "money.h"

#define FINGERPRINT_SIZE 32

typedef enum EventType
{
	EVENT_PAY_IN,
	EVENT_PAY_OUT
} EventType;

/* What an error says about where it was found; counted from 1, 0: not so. */
typedef struct EventPlace
{
	int event;
	int order;
} EventPlace;

/* The seller as the caller names it, and who that is. */
typedef struct SellerName
{
	const char *reference; /* as passed */
	bool		is_uuid;   /* it may be our own id, too */
	pg_uuid_t	id;		   /* that; once resolved, the seller's */
	bool		with_details;
	const char *name;	  /* or NULL */
	Jsonb	   *metadata; /* or NULL */
} SellerName;

typedef struct EventOrder
{
	pg_uuid_t	id;
	SellerName	seller;
	int64		amount;
	char		currency[CURRENCY_CODE_LENGTH + 1];
	const char *reference;	 /* or NULL */
	const char *description; /* or NULL */
	Jsonb	   *metadata;

	/* what may be its fee, and what is; see fee.h */
	const struct FeeSchedule *fee_schedules;
	int						  fee_schedule_count;
	const pg_uuid_t			 *fee_schedule_id; /* or NULL */
	int64					  platform_fee;
} EventOrder;

typedef struct Event
{
	EventPlace	place;
	EventType	type;
	const char *key;
	uint8		fingerprint[FINGERPRINT_SIZE];
	const char *psp; /* or NULL: by the rules, or the only one */
	pg_uuid_t	psp_id;
	pg_uuid_t	id; /* of the payment or payout */
	bool		is_replay;

	/* pay-in */
	const char *payer;
	const char *payment_method;	 /* the one PSP's name of it */
	Jsonb	   *payment_methods; /* or NULL; of each PSP, by its name */
	pg_uuid_t  *route;			 /* PSPs to try, the first one first */
	int			route_count;	 /* 0: it stays where it begins */
	Jsonb	   *metadata;
	const char *capture;			/* automatic or manual; NULL: automatic */
	const char *on_partial_failure; /* keep or all_or_nothing; NULL: keep */
	struct HostedPage *hosted;		/* or NULL; see hosted.h */
	Jsonb			  *hosted_json; /* as passed */

	/* pay-out */
	const char *destination;

	/* what it moves; a pay-out has one, with seller, amount and currency */
	EventOrder *orders;
	int			order_count;
} Event;

/*
 * event_parse.c: what is wrong raises PY0xx.  The first two check an event
 * whose own fields are filled, and compute its fingerprint; orders is the JSON
 * array of a pay-in.  The last one reads a JSON array of events, or one event.
 */
extern void event_prepare_pay_in(Event *event, JsonbContainer *orders,
								 int orders_size);
extern void event_prepare_pay_out(Event *event);
extern int	event_parse_all(Jsonb *events, Event **result);

/* event_accept.c: store them, all or none; keys seen before give old ids */
extern void event_accept(Event *events, int count);

/* "events[2].orders[1].amount": where, as errors put it */
extern char *event_path(const EventPlace *place, const char *field);

/* a text that has to be there and to pass the guard; and one that may */
extern void	  event_check_text(const EventPlace *place, const char *field,
							   const char *value);
extern void	  event_check_optional(const EventPlace *place, const char *field,
								   const char *value);
extern void	  event_set_currency(EventOrder *order, const char *currency,
								 const EventPlace *place);
extern Jsonb *event_empty_metadata(void);
extern bool	  event_text_to_uuid(const char *text, pg_uuid_t *id);

/* seller.c: whose orders they are, and the schedules in force for these */
extern void seller_resolve(Event **events, int count, TimestampTz at);

/* fee.c: what the platform takes of each, their PSPs being known */
extern void fee_resolve(Event **events, int count, TimestampTz at);

/* PY011 when there is none with that id */
extern void seller_check_exists(const pg_uuid_t *seller);

/* the ids of a payment's orders as an array, empty for a payout */
extern Datum event_order_ids(const Event *event);

/* checkout.c, payout.c: store new events of one type */
extern void payment_create(Event **events, int count);
extern void payout_create(Event **events, int count);

#endif /* PAYMENT_EVENT_H */
