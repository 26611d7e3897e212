/*-------------------------------------------------------------------------
 *
 * report.c
 *	  Log lines about requests that failed, few of many.
 *
 * A line names the attempt and its object, so that one finds everything else
 * in the tables.  It holds nothing that the PSP has written but its error
 * code, which came through delivery.c's filter for secrets and card numbers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "payment.h"
#include "report.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

/* between two lines about the same PSP */
#define REPORT_INTERVAL_MS (10 * 1000)

void
report_failure(const Delivery *delivery, TimestampTz now)
{
	Psp		   *psp = delivery->psp;
	const char *code = delivery->outcome.error_code;
	pg_uuid_t	attempt_id = delivery->attempt_id;

	if (psp->reported_at != 0 &&
		!TimestampDifferenceExceeds(psp->reported_at, now, REPORT_INTERVAL_MS))
	{
		psp->unreported++;
		return;
	}
	ereport(
		LOG,
		(errcode(ERRCODE_PAYMENT_WORKER),
		 errmsg("a request to PSP \"%s\" failed: %s, HTTP status %d",
				psp->name, code ? code : "error", delivery->http_status),
		 errdetail("%s of object %s, attempt %d (%s), try %d, after %d ms; "
				   "not reported since the last such line: %d.",
				   delivery->task.step == PSP_STEP_SEND ? "Send" : "Lookup",
				   delivery->task.object_id, delivery->task.attempt_no,
				   DatumGetCString(
					   DirectFunctionCall1(uuid_out,
										   UUIDPGetDatum(&attempt_id))),
				   delivery->tries, Max(delivery->latency_ms, 0),
				   psp->unreported)));
	psp->reported_at = now;
	psp->unreported = 0;
}
