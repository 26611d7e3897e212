/*-------------------------------------------------------------------------
 *
 * unsettled.c
 *	  Remember which captured orders no settlement line has claimed yet.
 *
 * A narrow row per order, from capture to settlement.  So reconciliation finds
 * what is missing without reading years of orders, orders themselves need no
 * column that a settlement would have to update, and nothing depends on clocks
 * or on the order in which transactions commit.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/rel.h"

#include "order/guard.h"
#include "order/plan.h"
#include "order/transition.h"

PG_FUNCTION_INFO_V1(payment_track_unsettled);

static Datum
row_value(HeapTuple row, TupleDesc desc, const char *name, int likely_attnum,
		  char *null)
{
	bool  isnull;
	Datum value =
		SPI_getbinval(row, desc, column_number(desc, name, likely_attnum),
					  &isnull);

	*null = isnull ? 'n' : ' ';
	return value;
}

/*
 * AFTER UPDATE of an order, for each row that has just got its captured_at.
 */
Datum
payment_track_unsettled(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID, UUIDOID, TIMESTAMPTZOID, TEXTOID,
								  INT8OID };
	TriggerData		 *trigdata =
		trigger_data(fcinfo, "track_unsettled", TRIGGER_EVENT_AFTER, true);
	TupleDesc desc = RelationGetDescr(trigdata->tg_relation);
	HeapTuple row = trigdata->tg_newtuple;
	Datum	  values[lengthof(types)];
	char	  nulls[lengthof(types)];

	if (!TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("track_unsettled() must be fired by UPDATE")));

	spi_begin();
	values[0] = row_value(row, desc, "id", 1, &nulls[0]);
	values[1] = row_value(row, desc, "psp_id", 4, &nulls[1]);
	values[2] = row_value(row, desc, "captured_at", 11, &nulls[2]);
	values[3] = row_value(row, desc, "settled_currency", 40, &nulls[3]);
	values[4] = row_value(row, desc, "psp_fee", 44, &nulls[4]);
	plan_keep(&plan,
			  "INSERT INTO payment.unsettled_order "
			  "(order_id, psp_id, captured_at, settled_currency, psp_fee) "
			  "VALUES ($1, $2, $3, $4, $5) "
			  "ON CONFLICT (order_id) DO NOTHING",
			  lengthof(types), types);
	order_write(plan, values, nulls, order_write_cause());
	spi_end();
	return PointerGetDatum(NULL);
}
