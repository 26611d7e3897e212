/*-------------------------------------------------------------------------
 *
 * checkout.c
 *	  A payer pays one or more sellers: one payment, an order for each.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "errcodes.h"
#include "order/batch.h"
#include "order/event.h"
#include "order/plan.h"
#include "order/transition.h"
#include "order/typed_argument.h"

PG_FUNCTION_INFO_V1(payment_checkout);

/* The route as an array literal: an array of arrays would have one length. */
static char *
route_text(const Event *event)
{
	StringInfoData text;

	if (event->route_count == 0)
		return NULL;
	initStringInfo(&text);
	for (int i = 0; i < event->route_count; i++)
		appendStringInfo(&text, "%c%s", i == 0 ? '{' : ',',
						 uuid_text(&event->route[i]));
	appendStringInfoChar(&text, '}');
	return text.data;
}

static void
insert_payments(Event **events, int count)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDARRAYOID,	  TEXTARRAYOID,	 UUIDARRAYOID,
								  TEXTARRAYOID,	  INT4ARRAYOID,	 JSONBARRAYOID,
								  TIMESTAMPTZOID, JSONBARRAYOID, TEXTARRAYOID,
								  TEXTARRAYOID,	  TEXTARRAYOID };
	Column			  ids, payers, psps, methods, order_counts, metadata;
	Column			  tokens, routes, captures, policies;
	Datum			  values[lengthof(types)];

	column_init(&ids, UUIDOID);
	column_init(&payers, TEXTOID);
	column_init(&psps, UUIDOID);
	column_init(&methods, TEXTOID);
	column_init(&order_counts, INT4OID);
	column_init(&metadata, JSONBOID);
	column_init(&tokens, JSONBOID);
	column_init(&routes, TEXTOID);
	column_init(&captures, TEXTOID);
	column_init(&policies, TEXTOID);
	for (int i = 0; i < count; i++)
	{
		column_add_uuid(&ids, &events[i]->id);
		column_add_text(&payers, events[i]->payer);
		column_add_uuid(&psps, &events[i]->psp_id);
		column_add_text(&methods, events[i]->payment_method);
		column_add_int32(&order_counts, events[i]->order_count);
		column_add(&metadata, JsonbPGetDatum(events[i]->metadata), false);
		column_add(&tokens, JsonbPGetDatum(events[i]->payment_methods),
				   events[i]->payment_methods == NULL);
		column_add_text(&routes, route_text(events[i]));
		column_add_text(&captures, events[i]->capture);
		column_add_text(&policies, events[i]->on_partial_failure);
	}
	values[0] = column_array(&ids);
	values[1] = column_array(&payers);
	values[2] = column_array(&psps);
	values[3] = column_array(&methods);
	values[4] = column_array(&order_counts);
	values[5] = column_array(&metadata);
	values[6] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[7] = column_array(&tokens);
	values[8] = column_array(&routes);
	values[9] = column_array(&captures);
	values[10] = column_array(&policies);
	plan_keep(&plan,
			  "INSERT INTO payment.payment_record (id, payer, psp_id, "
			  "payment_method, status, order_count, metadata, updated_at, "
			  "payment_methods, route, capture_method, on_partial_failure) "
			  "SELECT i, p, s, m, 'created', c, d, $7, t, r::uuid[], a, f "
			  "FROM ROWS FROM "
			  "(pg_catalog.unnest($1), pg_catalog.unnest($2), "
			  "pg_catalog.unnest($3), pg_catalog.unnest($4), "
			  "pg_catalog.unnest($5), pg_catalog.unnest($6), "
			  "pg_catalog.unnest($8), pg_catalog.unnest($9), "
			  "pg_catalog.unnest($10), pg_catalog.unnest($11)) "
			  "AS u (i, p, s, m, c, d, t, r, a, f)",
			  lengthof(types), types);
	order_write(plan, values, NULL, CAUSE_API);
}

#define ORDER_COLUMNS 12

static void
add_order(Column *columns, const Event *event, const EventOrder *order)
{
	column_add_uuid(&columns[0], &order->id);
	column_add_uuid(&columns[1], &event->id);
	column_add_uuid(&columns[2], &order->seller.id);
	column_add_uuid(&columns[3], &event->psp_id);
	column_add_int64(&columns[4], order->amount);
	column_add_text(&columns[5], order->currency);
	column_add_int64(&columns[6], order->platform_fee);
	column_add_text(&columns[7], order->reference);
	column_add_text(&columns[8], order->description);
	column_add(&columns[9], JsonbPGetDatum(order->metadata), false);
	column_add_bool(&columns[10], event->route_count > 1);
	column_add_uuid(&columns[11], order->fee_schedule_id);
}

static void
insert_orders(Event **events, int count)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  column_types[ORDER_COLUMNS] = {
		 UUIDOID, UUIDOID, UUIDOID, UUIDOID,  INT8OID, TEXTOID,
		 INT8OID, TEXTOID, TEXTOID, JSONBOID, BOOLOID, UUIDOID
	};
	static const Oid types[ORDER_COLUMNS + 1] = {
		UUIDARRAYOID, UUIDARRAYOID, UUIDARRAYOID,  UUIDARRAYOID, INT8ARRAYOID,
		TEXTARRAYOID, INT8ARRAYOID, TEXTARRAYOID,  TEXTARRAYOID, JSONBARRAYOID,
		BOOLARRAYOID, UUIDARRAYOID, TIMESTAMPTZOID
	};
	Column columns[ORDER_COLUMNS];
	Datum  values[ORDER_COLUMNS + 1];

	for (int i = 0; i < ORDER_COLUMNS; i++)
		column_init(&columns[i], column_types[i]);
	for (int i = 0; i < count; i++)
	{
		for (int n = 0; n < events[i]->order_count; n++)
			add_order(columns, events[i], &events[i]->orders[n]);
	}
	for (int i = 0; i < ORDER_COLUMNS; i++)
		values[i] = column_array(&columns[i]);
	values[ORDER_COLUMNS] = TimestampTzGetDatum(GetCurrentTimestamp());
	plan_keep(&plan,
			  "INSERT INTO payment.order_record (id, payment_id, seller_id, "
			  "psp_id, amount, currency, platform_fee, status, reference, "
			  "description, metadata, routed, fee_schedule_id, updated_at) "
			  "SELECT i, p, s, v, a, c, f, 'created', r, d, m, t, h, $13 "
			  "FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), "
			  "pg_catalog.unnest($3), pg_catalog.unnest($4), "
			  "pg_catalog.unnest($5), pg_catalog.unnest($6), "
			  "pg_catalog.unnest($7), pg_catalog.unnest($8), "
			  "pg_catalog.unnest($9), pg_catalog.unnest($10), "
			  "pg_catalog.unnest($11), pg_catalog.unnest($12)) "
			  "AS u (i, p, s, v, a, c, f, r, d, m, t, h)",
			  lengthof(types), types);
	order_write(plan, values, NULL, CAUSE_API);
}

void
payment_create(Event **events, int count)
{
	insert_payments(events, count);
	insert_orders(events, count);
}

Datum
event_order_ids(const Event *event)
{
	int	   count = event->type == EVENT_PAY_IN ? event->order_count : 0;
	Datum *ids = palloc(sizeof(Datum) * Max(count, 1));

	for (int i = 0; i < count; i++)
		ids[i] = UUIDPGetDatum(&event->orders[i].id);
	return PointerGetDatum(
		construct_array(ids, count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
}

static void
check_array(Jsonb *orders)
{
	if (orders == NULL || !JB_ROOT_IS_ARRAY(orders) ||
		JB_ROOT_IS_SCALAR(orders))
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
				 errmsg("\"orders\" must be a JSON array"),
				 errdetail("It is null, an object or a single value."),
				 errhint("Pass an array of orders, also for one of them.")));
}

/*
 * payment.checkout(idempotency_key, payer, orders, psp, payment_method,
 * metadata, payment_methods, capture, on_partial_failure, hosted)
 * -> payment.checkout_result
 */
Datum
payment_checkout(PG_FUNCTION_ARGS)
{
	Event	  event = { 0 };
	Jsonb	 *orders;
	TupleDesc desc;
	Datum	  values[2];
	bool	  nulls[2] = { false, false };

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "checkout() returns a composite type");

	event.key = text_argument(fcinfo, 0, "idempotency_key");
	event.payer = text_argument(fcinfo, 1, "payer");
	orders = json_argument(fcinfo, 2, "orders");
	event.psp = text_argument(fcinfo, 3, "psp");
	event.payment_method = text_argument(fcinfo, 4, "payment_method");
	event.metadata = object_argument(fcinfo, 5, "metadata");
	if (!PG_ARGISNULL(6))
		event.payment_methods = object_argument(fcinfo, 6, "payment_methods");
	event.capture = text_argument(fcinfo, 7, "capture");
	event.on_partial_failure = text_argument(fcinfo, 8, "on_partial_failure");
	if (!PG_ARGISNULL(9))
		event.hosted_json = object_argument(fcinfo, 9, "hosted");
	check_array(orders);
	event_prepare_pay_in(&event, &orders->root, VARSIZE(orders) - VARHDRSZ);
	event_accept(&event, 1);

	values[0] = UUIDPGetDatum(&event.id);
	values[1] = event_order_ids(&event);
	PG_RETURN_DATUM(HeapTupleGetDatum(
		heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
