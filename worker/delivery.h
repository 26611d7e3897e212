/*-------------------------------------------------------------------------
 *
 * delivery.h
 *	  One claimed task on its way to the PSP and back.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_WORKER_DELIVERY_H
#define PAYMENT_WORKER_DELIVERY_H

#include "breaker.h"
#include "datatype/timestamp.h"
#include "http.h"
#include "lib/ilist.h"
#include "order/lane.h"
#include "psp/psp.h"
#include "statistics.h"
#include "token.h"
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
	char			 *config[PSP_MAX_CONFIG]; /* as in PspTask */
	int				  max_in_flight;
	int				  requests_per_second;
	int				  connect_timeout_ms;
	int				  timeout_ms;
	int				  retry_after_max_ms;
	BreakerSettings	  breaker_settings;
	bool			  active; /* seen in the last load */

	int			in_flight[LANE_COUNT]; /* claimed, outcome not recorded yet */
	int			recording[LANE_COUNT]; /* of these, with this transaction */
	double		tokens;				   /* requests that may be sent now */
	TimestampTz refilled_at;
	TimestampTz paused_until;		 /* as it asked for; 0: never */
	TimestampTz verify_paused_until; /* ... when asked about webhooks */
	TimestampTz due_at;				 /* when to claim next */
	TimestampTz verify_at;			 /* when to look for webhooks to verify */
	int			verifying;			 /* of in_flight: verifications */
	int			passed_over;		 /* tasks that went before verifications */
	bool		due_is_unknown; /* due_at is a guess, until it was looked up */
	bool		had_no_place;	/* for a lane, when that was found out */
	TimestampTz complained_at;

	Breaker		   breaker;
	TimestampTz	   move_at;	   /* when to move what waits; 0: not yet known */
	TimestampTz	   move_after; /* 0: begin with the oldest */
	bool		   probes_repeated; /* the lanes that probed last */
	PspStatistics *statistics;		/* NULL: no place was free */
	RateMeter	   meter;
	TimestampTz	   reported_at; /* when a failure was last logged */
	int			   unreported;	/* failures since */

	/* its clock minus ours, from the last answer that told */
	bool  clock_known;
	int64 clock_offset_s;

	TokenCache token;
	dlist_head waiting; /* deliveries that need one */
} Psp;

/* whose an exchange is */
typedef enum ExchangePurpose
{
	EXCHANGE_DELIVERY,	  /* the owner is a Delivery */
	EXCHANGE_TOKEN,		  /* the owner is a Psp */
	EXCHANGE_NOTIFICATION /* the owner is a Notification */
} ExchangePurpose;

typedef struct Delivery
{
	dlist_node		  node;
	MemoryContext	  context; /* everything of it, itself included */
	Psp				 *psp;
	const PspAdapter *adapter;
	pg_uuid_t		  attempt_id;
	PspTask			  task;
	int				  tries;  /* claims since the last definite answer */
	int				  lane;	  /* of the queue that it came from */
	uint32			  spell;  /* of the circuit breaker */
	bool			  judged; /* the breaker knows how it ended */
	TimestampTz		  first_sent_at; /* 0: never */
	TimestampTz		  last_sent_at;
	TimestampTz		  started_at; /* when it was claimed */
	TimestampTz		  give_up_at; /* no request is begun later than this */

	/* the request under way: its body must outlive it */
	PspRequest	request;
	const char *token; /* what it presents, NULL: the secret */
	bool		renewed_token;
	const char *known_reference; /* as an earlier answer named it */

	/* when finished */
	PspOutcome outcome;
	int		   http_status; /* 0: none */
	int		   latency_ms;	/* all requests together, -1: none was sent */
} Delivery;

/*
 * Put the task's request on the way, or let it wait for an access token.
 * False when that is impossible; then the delivery is finished, with an
 * outcome that says so.
 */
extern bool delivery_send(Delivery *delivery);

/*
 * Take an answer to a request of a delivery, or for the token of a PSP.
 * Deliveries that need nothing more are appended to finished.
 */
extern void delivery_receive(HttpExchange *exchange, dlist_head *finished);

/* how requests and answers look to libcurl's side and to the adapter's */
extern void delivery_fill_http(const Psp *psp, const PspRequest *request,
							   HttpRequest *http);
extern void delivery_fill_response(const HttpExchange *exchange,
								   PspResponse		  *response);

#endif /* PAYMENT_WORKER_DELIVERY_H */
