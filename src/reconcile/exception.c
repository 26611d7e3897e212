/*-------------------------------------------------------------------------
 *
 * exception.c
 *	  Open exceptions: differences that people work off.
 *
 * An exception is named by its type, order and line, so that the same
 * difference found again (a repeated answer, a second run) is the same row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#include "order/transition.h"
#include "reconcile/exception.h"
#include "uuid7.h"

#define EXCEPTION_COLUMNS 9

static SPIPlanPtr
exception_plan(void)
{
	static SPIPlanPtr plan = NULL;
	Oid				  types[EXCEPTION_COLUMNS] = { UUIDOID, TEXTOID, UUIDOID,
												   UUIDOID, UUIDOID, TEXTOID,
												   INT8OID, INT8OID, TEXTOID };

	if (plan == NULL)
	{
		SPIPlanPtr fresh;

		fresh = SPI_prepare(
			"INSERT INTO payment.exception_record (id, type, psp_id, order_id,"
			" line_id, currency, expected_amount, actual_amount, detail,"
			" status, opened_at)"
			" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'open',"
			" pg_catalog.now())"
			" ON CONFLICT (type, order_id, line_id) DO NOTHING",
			EXCEPTION_COLUMNS, types);
		if (fresh == NULL || SPI_keepplan(fresh) != 0)
			elog(ERROR, "could not prepare the insertion of an exception: %s",
				 SPI_result_code_string(SPI_result));
		plan = fresh;
	}
	return plan;
}

void
exception_open(const ExceptionReport *report)
{
	pg_uuid_t id;
	Datum	  values[EXCEPTION_COLUMNS] = { 0 };
	char	  nulls[EXCEPTION_COLUMNS];

	memset(nulls, ' ', sizeof(nulls));
	uuid7_generate(&id);
	values[0] = UUIDPGetDatum(&id);
	values[1] = CStringGetTextDatum(report->type);
	values[2] = UUIDPGetDatum(report->psp_id);
	if (report->order_id)
		values[3] = UUIDPGetDatum(report->order_id);
	else
		nulls[3] = 'n';
	if (report->line_id)
		values[4] = UUIDPGetDatum(report->line_id);
	else
		nulls[4] = 'n';
	if (report->currency)
		values[5] = CStringGetTextDatum(report->currency);
	else
		nulls[5] = 'n';
	if (report->has_amounts)
	{
		values[6] = Int64GetDatum(report->expected_amount);
		values[7] = Int64GetDatum(report->actual_amount);
	}
	else
		nulls[6] = nulls[7] = 'n';
	values[8] = CStringGetTextDatum(report->detail);

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	order_write(exception_plan(), values, nulls, CAUSE_POLICY);
	SPI_finish();
}
