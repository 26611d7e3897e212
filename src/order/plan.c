/*-------------------------------------------------------------------------
 *
 * plan.c
 *	  SPI plans that a backend keeps.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "order/plan.h"

SPIPlanPtr
plan_keep(SPIPlanPtr *plan, const char *sql, int nargs, const Oid *argtypes)
{
	SPIPlanPtr prepared;

	if (*plan != NULL)
		return *plan;

	prepared = SPI_prepare(sql, nargs, unconstify(Oid *, argtypes));
	if (prepared == NULL)
		elog(ERROR, "SPI_prepare failed: %s",
			 SPI_result_code_string(SPI_result));
	if (SPI_keepplan(prepared) != 0)
		elog(ERROR, "SPI_keepplan failed");
	*plan = prepared;
	return prepared;
}

void
spi_begin(void)
{
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

void
spi_end(void)
{
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
}

/*
 * Not "read only" in SPI's sense: that would reuse the caller's snapshot, and
 * what a concurrent transaction committed while we waited would stay unseen.
 */
uint64
spi_read(SPIPlanPtr plan, Datum *values, const char *nulls)
{
	int code = SPI_execute_plan(plan, values, nulls, false, 0);

	if (code < 0)
		elog(ERROR, "SPI_execute_plan failed: %s",
			 SPI_result_code_string(code));
	return SPI_processed;
}
