/*-------------------------------------------------------------------------
 *
 * submit.c
 *	  Many payment events at once, pay-ins and pay-outs, all or none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "argument.h"
#include "order/event.h"
#include "order/typed_argument.h"

PG_FUNCTION_INFO_V1(payment_submit);

#define SUBMIT_COLUMNS 5

/*
 * payment.submit(events) -> table(position, idempotency_key, payment_type,
 * object_id, order_ids)
 */
Datum
payment_submit(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Event		  *events;
	int			   count;

	InitMaterializedSRF(fcinfo, 0);
	refuse_null(fcinfo, 0, "events");
	count = event_parse_all(json_argument(fcinfo, 0, "events"), &events);
	event_accept(events, count);

	for (int i = 0; i < count; i++)
	{
		const Event *event = &events[i];
		Datum		 values[SUBMIT_COLUMNS];
		bool		 nulls[SUBMIT_COLUMNS] = { false };

		values[0] = Int32GetDatum(event->place.event);
		values[1] = CStringGetTextDatum(event->key);
		values[2] = CStringGetTextDatum(
			event->type == EVENT_PAY_IN ? "pay_in" : "pay_out");
		values[3] = UUIDPGetDatum(&event->id);
		values[4] = event_order_ids(event);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values,
							 nulls);
	}
	return (Datum) 0;
}
