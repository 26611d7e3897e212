/*-------------------------------------------------------------------------
 *
 * consumer.h
 *	  Consumers of events: who they are, and how far they have come.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_EVENT_CONSUMER_H
#define PAYMENT_EVENT_CONSUMER_H

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "utils/uuid.h"

/* A place in the order of events; all before and at it are done with. */
typedef struct EventPosition
{
	TimestampTz epoch;
	uint64		horizon; /* a FullTransactionId */
	pg_uuid_t	id;
} EventPosition;

typedef struct EventConsumer
{
	char		 *name;
	EventPosition position;
	bool		  has_read;		/* something that is not acknowledged */
	EventPosition read;			/* the last of it */
	TimestampTz	  leased_until; /* 0: not */
	Datum		  types;		/* text[] */
	bool		  all_types;
	bool		  has_endpoint;
} EventConsumer;

typedef enum ConsumerLock
{
	CONSUMER_LOCKED, /* until the end of the transaction */
	CONSUMER_BUSY,	 /* somebody else has it locked */
	CONSUMER_ABSENT
} ConsumerLock;

/* All of these within SPI, from batch_begin(). */
extern ConsumerLock consumer_lock(const char *name, bool wait,
								  EventConsumer *consumer);
/* make it, for events to come or for all; false: it is there, and gets types */
extern bool consumer_register(const char *name, Datum types, bool all_types,
							  bool from_beginning);
extern void consumer_refuse_unknown(const char *name) pg_attribute_noreturn();

/* arguments of several functions, checked */
extern char *consumer_argument(FunctionCallInfo fcinfo, int number,
							   const char *name);
extern Datum event_types_argument(FunctionCallInfo fcinfo, int number,
								  bool *all_types);
extern int32 event_number_argument(FunctionCallInfo fcinfo, int number,
								   const char *name, int minimum, int maximum);

extern int position_compare(const EventPosition *a, const EventPosition *b);
/* the columns epoch, horizon and id of a row, from that one on */
extern bool position_of_row(uint64 row, int column, EventPosition *position);
extern void position_values(const EventPosition *position, Datum *values);

/* since when transactions are numbered as they are: of what is written now */
extern TimestampTz event_epoch(void);

#define EVENT_EPOCH_SQL                                     \
	"(SELECT max(n.recorded_at) FROM payment.instance AS n" \
	" WHERE n.cause IN ('create', 'restore'))"

#define EVENTS_PER_CALL_MAX 10000

#endif /* PAYMENT_EVENT_CONSUMER_H */
