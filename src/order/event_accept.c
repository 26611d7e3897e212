/*-------------------------------------------------------------------------
 *
 * event_accept.c
 *	  Take payment events in: keys, PSPs, sellers, rows, tasks.
 *
 * All or none, in the caller's transaction: what the caller rolls back was
 * never there, and the worker sees tasks only once they are committed.  Every
 * step handles all events together, so that the number of statements does not
 * grow with them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/timestamp.h"

#include "order/batch.h"
#include "order/event.h"
#include "order/hosted.h"
#include "order/idempotency.h"
#include "order/plan.h"
#include "order/route.h"
#include "payment.h"
#include "uuid7.h"

/* Ascending in input order, so that ids sort as the caller listed them. */
static void
make_ids(Event *events, int count)
{
	for (int i = 0; i < count; i++)
	{
		uuid7_generate(&events[i].id);
		if (events[i].type == EVENT_PAY_OUT)
			continue;
		for (int n = 0; n < events[i].order_count; n++)
			uuid7_generate(&events[i].orders[n].id);
	}
}

static void
add_task(Column *columns, const Event *event, const pg_uuid_t *object_id)
{
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));

	uuid7_generate(id);
	column_add_uuid(&columns[0], id);
	column_add_uuid(&columns[1], &event->psp_id);
	column_add_text(&columns[2], event->type == EVENT_PAY_OUT ? "payout"
								 : event->hosted ? OPERATION_REGISTER
												 : "pay");
	column_add_uuid(&columns[3], object_id);
}

static void
queue_tasks(Event **events, int count)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDARRAYOID, UUIDARRAYOID, TEXTARRAYOID,
								  UUIDARRAYOID, TIMESTAMPTZOID };
	Column			  columns[4];
	Datum			  values[lengthof(types)];

	column_init(&columns[0], UUIDOID);
	column_init(&columns[1], UUIDOID);
	column_init(&columns[2], TEXTOID);
	column_init(&columns[3], UUIDOID);
	for (int i = 0; i < count; i++)
	{
		const Event *event = events[i];

		if (event->type == EVENT_PAY_OUT)
			add_task(columns, event, &event->id);
		else
			for (int n = 0; n < (event->hosted ? 1 : event->order_count); n++)
				add_task(columns, event, &event->orders[n].id);
	}
	for (int i = 0; i < (int) lengthof(columns); i++)
		values[i] = column_array(&columns[i]);
	values[4] = TimestampTzGetDatum(GetCurrentTimestamp());
	plan_keep(&plan,
			  "INSERT INTO payment.task (id, psp_id, operation, object_id, "
			  "run_at) SELECT i, p, o, b, $5 FROM ROWS FROM "
			  "(pg_catalog.unnest($1), pg_catalog.unnest($2), "
			  "pg_catalog.unnest($3), pg_catalog.unnest($4)) "
			  "AS u (i, p, o, b)",
			  lengthof(types), types);
	batch_run(plan, values, NULL);
}

/* The events of one type that are no replays. */
static int
select_events(Event *events, int count, EventType type, Event **selected)
{
	int total = 0;

	for (int i = 0; i < count; i++)
	{
		if (!events[i].is_replay && events[i].type == type)
			selected[total++] = &events[i];
	}
	return total;
}

void
event_accept(Event *events, int count)
{
	Event **fresh = palloc(sizeof(Event *) * Max(count, 1));
	int		pay_ins;
	int		pay_outs;
	PspList psps;
	int		nest_level;

	/* what the fees are decided by */
	TimestampTz now;

	if (count == 0)
		return;
	make_ids(events, count);
	nest_level = batch_begin();
	idempotency_claim(events, count);

	pay_ins = select_events(events, count, EVENT_PAY_IN, fresh);
	pay_outs = select_events(events, count, EVENT_PAY_OUT, fresh + pay_ins);
	if (pay_ins + pay_outs > 0)
	{
		now = GetCurrentTimestamp();
		psp_read_all(&psps);
		psp_resolve(&psps, fresh, pay_ins + pay_outs);
		seller_resolve(fresh, pay_ins + pay_outs, now);
		route_resolve(&psps, fresh, pay_ins);
		fee_resolve(fresh, pay_ins, now);
		if (pay_ins > 0)
		{
			payment_create(fresh, pay_ins);
			hosted_create(fresh, pay_ins);
		}
		if (pay_outs > 0)
			payout_create(fresh + pay_ins, pay_outs);
		queue_tasks(fresh, pay_ins + pay_outs);
		payment_wake_dispatcher_at_commit();
	}
	batch_end(nest_level);
}
