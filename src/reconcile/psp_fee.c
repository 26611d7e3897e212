/*-------------------------------------------------------------------------
 *
 * psp_fee.c
 *	  What a PSP should charge by the fees agreed with it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/int.h"
#include "fmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

#include "money.h"

PG_FUNCTION_INFO_V1(payment_expected_psp_fee);

#define BASIS_POINTS_MAX 10000

/* a number of the schedule, 0 when it is absent */
static int64
schedule_number(JsonbContainer *schedule, const char *name)
{
	JsonbValue buffer;

	if (getKeyJsonValueFromContainer(schedule, name, (int) strlen(name),
									 &buffer) == NULL ||
		buffer.type != jbvNumeric)
		return 0;
	return DatumGetInt64(
		DirectFunctionCall1(numeric_int8,
							NumericGetDatum(buffer.val.numeric)));
}

/*
 * payment.expected_psp_fee(fees, currency, amount) -> bigint, null when nothing
 * is agreed for that currency
 */
Datum
payment_expected_psp_fee(PG_FUNCTION_ARGS)
{
	Jsonb	  *fees = PG_GETARG_JSONB_P(0);
	text	  *currency = PG_GETARG_TEXT_PP(1);
	JsonbValue buffer;
	int64	   fixed;
	int64	   basis_points;
	int64	   fee;

	if (!JB_ROOT_IS_OBJECT(fees) ||
		getKeyJsonValueFromContainer(&fees->root, VARDATA_ANY(currency),
									 VARSIZE_ANY_EXHDR(currency),
									 &buffer) == NULL ||
		buffer.type != jbvBinary ||
		!JsonContainerIsObject(buffer.val.binary.data))
		PG_RETURN_NULL();

	fixed = schedule_number(buffer.val.binary.data, "fixed");
	basis_points = schedule_number(buffer.val.binary.data, "basis_points");
	if (basis_points < 0 || basis_points > BASIS_POINTS_MAX ||
		pg_add_s64_overflow(fixed,
							money_basis_points(PG_GETARG_INT64(2),
											   (int32) basis_points),
							&fee))
		PG_RETURN_NULL();
	PG_RETURN_INT64(fee);
}
