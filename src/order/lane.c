/*-------------------------------------------------------------------------
 *
 * lane.c
 *	  The lanes of a PSP's queue, and how they share what may be claimed.
 *
 * In one queue by age, a flood of payouts, or of lookups after an outage,
 * would be in front of every new payment for hours.  So each PSP's queue has
 * four lanes, and each claim takes the same share of every lane that has
 * something due.  What one lane does not need goes to the others: a lane that
 * is alone gets everything.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "utils/array.h"

#include "errcodes.h"
#include "order/lane.h"

#define FEW_OF_LANE 8

static void
pg_attribute_noreturn() refuse_limits(void)
{
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
					errmsg("invalid value for argument \"lane_limits\""),
					errdetail("It has to be an array of %d numbers, none of "
							  "them null or negative.",
							  LANE_COUNT + 1),
					errhint("In this order: new payments, new payouts, "
							"payments and payouts tried before, and so many "
							"more of any.")));
}

void
lane_limits(FunctionCallInfo fcinfo, int number, int32 most,
			LaneLimits *limits)
{
	ArrayType *array;
	int32	  *numbers;

	memset(limits, 0, sizeof(*limits));
	limits->of_any = most;
	if (PG_ARGISNULL(number))
		return;
	array = PG_GETARG_ARRAYTYPE_P(number);
	if (ARR_NDIM(array) != 1 || ARR_DIMS(array)[0] != LANE_COUNT + 1 ||
		array_contains_nulls(array))
		refuse_limits();
	numbers = (int32 *) ARR_DATA_PTR(array);
	for (int i = 0; i <= LANE_COUNT; i++)
	{
		if (numbers[i] < 0)
			refuse_limits();
		if (i < LANE_COUNT)
			limits->of_lane[i] = Min(numbers[i], most);
		else
			limits->of_any = Min(numbers[i], most);
	}
}

Datum
lane_array(const int32 *numbers)
{
	Datum values[LANE_COUNT];

	for (int lane = 0; lane < LANE_COUNT; lane++)
		values[lane] = Int32GetDatum(numbers[lane]);
	return PointerGetDatum(construct_array(values, LANE_COUNT, INT4OID,
										   sizeof(int32), true, TYPALIGN_INT));
}

Datum
lane_most(const LaneLimits *limits)
{
	int32 most[LANE_COUNT];

	for (int lane = 0; lane < LANE_COUNT; lane++)
		most[lane] = limits->of_lane[lane] + limits->of_any;
	return lane_array(most);
}

bool
lane_few(int32 *few, const LaneLimits *limits, int32 total)
{
	int32 each = Min(FEW_OF_LANE, total / LANE_COUNT);
	int32 any = limits->of_any;

	for (int lane = 0; lane < LANE_COUNT; lane++)
	{
		few[lane] = Min(each, limits->of_lane[lane] + limits->of_any);
		any -= Max(few[lane] - limits->of_lane[lane], 0);
	}
	return each > 0 && any >= 0;
}

/*
 * The lanes take one each in turn until nothing is left, or they have all.
 * Whose turn is first is drawn: when one task at a time is claimed, as a rate
 * limit has it, every lane still gets its share in the long run.
 */
void
lane_share(int32 *due, const LaneLimits *limits, int32 total)
{
	int32 share[LANE_COUNT] = { 0 };
	int32 any = limits->of_any;
	int	  open[LANE_COUNT];
	int	  count = 0;

	for (int lane = 0; lane < LANE_COUNT; lane++)
	{
		if (due[lane] > 0)
			open[count++] = lane;
	}
	if (count > 1)
	{
		int first = (int) pg_prng_uint64_range(&pg_global_prng_state, 0,
											   (uint64) count - 1);
		int lane = open[0];

		open[0] = open[first];
		open[first] = lane;
	}
	while (count > 0 && total > 0)
	{
		int still_open = 0;

		for (int i = 0; i < count && total > 0; i++)
		{
			int	 lane = open[i];
			bool own = share[lane] < limits->of_lane[lane];

			if (share[lane] == due[lane] || (!own && any == 0))
				continue;
			any -= own ? 0 : 1;
			share[lane]++;
			total--;
			open[still_open++] = lane;
		}
		count = still_open;
	}
	memcpy(due, share, sizeof(share));
}
