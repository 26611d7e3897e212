/*-------------------------------------------------------------------------
 *
 * event_queue.c
 *	  The database's side of posting events: the functions that the worker
 *	  calls.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "event_queue.h"
#include "executor/spi.h"
#include "order/batch.h"
#include "order/plan.h"
#include "payment.h"
#include "queue.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* more than a request can take: so that a lease outlives its request */
#define LEASE_MARGIN_MS 10000

/* endpoints that one database may have */
#define ENDPOINTS_MAX 10000

static Endpoint *
find_or_add(dlist_head *endpoints, const char *consumer, MemoryContext parent)
{
	dlist_iter	  iter;
	Endpoint	 *endpoint;
	MemoryContext context;

	dlist_foreach(iter, endpoints)
	{
		endpoint = dlist_container(Endpoint, node, iter.cur);
		if (strcmp(endpoint->consumer, consumer) == 0)
			return endpoint;
	}
	context = AllocSetContextCreate(parent, "payment endpoint",
									ALLOCSET_SMALL_SIZES);
	endpoint = MemoryContextAllocZero(context, sizeof(Endpoint));
	endpoint->context = context;
	endpoint->consumer = MemoryContextStrdup(context, consumer);
	endpoint->may_queue = true;
	dlist_push_tail(endpoints, &endpoint->node);
	return endpoint;
}

/* Another URL is another chance: what is known of the old one is forgotten. */
static void
fill_endpoint(Endpoint *endpoint, uint64 row)
{
	char *url = row_text(row, 2);
	bool  moved = endpoint->url == NULL || strcmp(endpoint->url, url) != 0;
	char *secret_name = row_text(row, 3);
	bool  changed = moved || strcmp(endpoint->secret_name, secret_name) != 0;

	/* what is under way has copies of its own in libcurl */
	if (changed)
	{
		MemoryContext strings =
			AllocSetContextCreate(endpoint->context, "payment endpoint",
								  ALLOCSET_SMALL_SIZES);

		endpoint->url = MemoryContextStrdup(strings, url);
		endpoint->secret_name = MemoryContextStrdup(strings, secret_name);
		if (endpoint->strings)
			MemoryContextDelete(endpoint->strings);
		endpoint->strings = strings;
	}
	if (moved)
		memset(&endpoint->breaker, 0, sizeof(Breaker));
	endpoint->max_in_flight = row_int32(row, 4);
	endpoint->connect_timeout_ms = row_int32(row, 5);
	endpoint->timeout_ms = row_int32(row, 6);
	endpoint->active = true;
}

static void
forget_inactive(dlist_head *endpoints)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, endpoints)
	{
		Endpoint *endpoint = dlist_container(Endpoint, node, iter.cur);

		/* What is under way still needs it. */
		if (!endpoint->active && endpoint->in_flight == 0)
		{
			dlist_delete(&endpoint->node);
			MemoryContextDelete(endpoint->context);
		}
	}
}

void
event_queue_load(dlist_head *endpoints, MemoryContext context)
{
	static SPIPlanPtr plan = NULL;
	dlist_iter		  iter;

	(void) batch_run(
		plan_keep(&plan,
				  "SELECT e.consumer, e.url, e.secret_name, e.max_in_flight,"
				  " e.connect_timeout_ms, e.timeout_ms"
				  " FROM payment.webhook_endpoint AS e"
				  " WHERE e.state = 'active' ORDER BY e.consumer"
				  " LIMIT " CppAsString2(ENDPOINTS_MAX),
				  0, NULL),
		NULL, NULL);
	dlist_foreach(iter, endpoints)
	{
		dlist_container(Endpoint, node, iter.cur)->active = false;
	}
	for (uint64 row = 0; row < SPI_processed; row++)
		fill_endpoint(find_or_add(endpoints, row_text(row, 1), context), row);
	forget_inactive(endpoints);
}

int64
event_queue_fill(const Endpoint *endpoint, int count, bool *full)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TEXTOID, INT4OID };
	Datum			  values[] = { CStringGetTextDatum(endpoint->consumer),
								   Int32GetDatum(count) };

	(void) batch_run(plan_keep(&plan,
							   "SELECT payment.queue_event_deliveries($1, $2)",
							   lengthof(types), types),
					 values, NULL);
	(void) SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
						 full);
	return row_int64(0, 1);
}

/* It belongs to the transaction's memory until it is complete. */
static Notification *
make_notification(Endpoint *endpoint, uint64 row, MemoryContext parent)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "payment notification", 0,
							  4 * 1024, 64 * 1024);
	Notification *notification =
		MemoryContextAllocZero(context, sizeof(Notification));

	notification->context = context;
	notification->endpoint = endpoint;
	(void) row_uuid(row, 1, &notification->event_id);
	notification->tries = row_int32(row, 2);
	notification->body = queue_to_utf8(row_text(row, 3), context);
	MemoryContextSetParent(context, parent);
	endpoint->in_flight++;
	notification->spell = breaker_begin(&endpoint->breaker);
	notification_sign(notification);
	return notification;
}

int
event_queue_claim(Endpoint *endpoint, int count, dlist_head *notifications,
				  MemoryContext context)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TEXTOID, INT4OID, INT4OID };
	Datum			  values[] = { CStringGetTextDatum(endpoint->consumer),
								   Int32GetDatum(count),
								   Int32GetDatum(endpoint->timeout_ms + LEASE_MARGIN_MS) };
	uint64			  claimed;

	claimed = batch_run(plan_keep(&plan,
								  "SELECT event_id, tries, body FROM"
								  " payment.claim_event_deliveries($1, $2,"
								  " $3)",
								  lengthof(types), types),
						values, NULL);
	for (uint64 row = 0; row < claimed; row++)
		dlist_push_tail(notifications,
						&make_notification(endpoint, row, context)->node);
	return (int) claimed;
}

TimestampTz
event_queue_next_due(const Endpoint *endpoint)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TEXTOID };
	Datum			  value = CStringGetTextDatum(endpoint->consumer);
	TimestampTz		  due_at;

	(void) batch_run(plan_keep(&plan,
							   "SELECT payment.next_event_delivery_due($1)",
							   lengthof(types), types),
					 &value, NULL);
	due_at = row_time(0, 1);
	return due_at == 0 ? DT_NOEND : due_at;
}

bool
event_queue_record(const Endpoint *endpoint, Notification **notifications,
				   int count)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TEXTOID,		UUIDARRAYOID, INT4ARRAYOID,
								  INT4ARRAYOID, TEXTARRAYOID, INT8ARRAYOID };
	Column			  ids, tries, statuses, errors, pauses;
	Datum			  values[lengthof(types)];

	column_init(&ids, UUIDOID);
	column_init(&tries, INT4OID);
	column_init(&statuses, INT4OID);
	column_init(&errors, TEXTOID);
	column_init(&pauses, INT8OID);
	for (int i = 0; i < count; i++)
	{
		const Notification *n = notifications[i];

		column_add_uuid(&ids, &n->event_id);
		column_add_int32(&tries, n->tries);
		column_add(&statuses, Int32GetDatum(n->http_status),
				   n->http_status == 0);
		column_add_text(&errors, n->error);
		column_add(&pauses, Int64GetDatum(n->retry_after_ms),
				   n->retry_after_ms < 0);
	}
	values[0] = CStringGetTextDatum(endpoint->consumer);
	values[1] = column_array(&ids);
	values[2] = column_array(&tries);
	values[3] = column_array(&statuses);
	values[4] = column_array(&errors);
	values[5] = column_array(&pauses);
	(void) batch_run(plan_keep(&plan,
							   "SELECT payment.record_event_deliveries($1,"
							   " $2, $3, $4, $5, $6)",
							   lengthof(types), types),
					 values, NULL);
	return row_bool(0, 1);
}
