/*-------------------------------------------------------------------------
 *
 * record.c
 *	  Writing the ledger's ordinary tables: holds and reversals.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/snapmgr.h"

#include "ledger/record.h"

static int active_writes = 0;

uint64
record_execute(SPIPlanPtr plan, Datum *values, const char *nulls)
{
	volatile int code = 0;

	active_writes++;
	PG_TRY();
	{
		code = SPI_execute_snapshot(plan, values, nulls, GetLatestSnapshot(),
									InvalidSnapshot, false, true, 0);
	}
	PG_FINALLY();
	{
		active_writes--;
	}
	PG_END_TRY();
	if (code < 0)
		elog(ERROR, "SPI_execute_snapshot failed: %s",
			 SPI_result_code_string(code));
	return SPI_processed;
}

bool
record_write_active(void)
{
	return active_writes > 0;
}
