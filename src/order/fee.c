/*-------------------------------------------------------------------------
 *
 * fee.c
 *	  What the platform takes of an order: which schedule, and how much.
 *
 * Fixed at checkout, for the PSP that the order begins at: what the seller
 * was promised does not depend on which PSP is up.  The schedules come with
 * the sellers (seller.c), in the same statement; only tiers cost one more.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/int.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include "order/batch.h"
#include "order/event.h"
#include "order/fee.h"
#include "order/route.h"

bool
fee_schedule_read(uint64 row, int first_column, FeeSchedule *schedule)
{
	pg_uuid_t seller_id;
	Datum	  tiers;
	bool	  is_null;
	char	 *window;

	memset(schedule, 0, sizeof(FeeSchedule));
	if (!row_uuid(row, first_column, &schedule->id))
		return false;
	schedule->has_seller = row_uuid(row, first_column + 1, &seller_id);
	schedule->has_psp = row_uuid(row, first_column + 2, &schedule->psp_id);
	schedule->payment_method = row_text(row, first_column + 3);
	schedule->has_currency = row_text(row, first_column + 4) != NULL;
	schedule->fixed = row_int64(row, first_column + 5);
	schedule->basis_points = row_int32(row, first_column + 6);
	schedule->min_fee = row_int64(row, first_column + 7);
	schedule->has_min_fee = schedule->min_fee > 0;
	schedule->max_fee = row_int64(row, first_column + 8);
	schedule->has_max_fee = !row_is_null(row, first_column + 8);
	tiers = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						  first_column + 9, &is_null);
	if (is_null)
		return true;
	schedule->tiers =
		fee_tiers_read(DatumGetJsonbPCopy(tiers), &schedule->tier_count);
	window = row_text(row, first_column + 10);
	if (window == NULL ||
		!volume_window_by_name(window, &schedule->volume_window))
		elog(ERROR, "a fee schedule has tiers of an unknown window");
	return true;
}

static bool
matches(const FeeSchedule *schedule, const pg_uuid_t *psp_id,
		const char *payment_method)
{
	if (schedule->has_psp &&
		(psp_id == NULL || uuid_compare(&schedule->psp_id, psp_id) != 0))
		return false;
	return schedule->payment_method == NULL ||
		   (payment_method &&
			route_pattern_matches(schedule->payment_method, payment_method));
}

/* seller before PSP before payment method before currency */
static int
specificity(const FeeSchedule *schedule)
{
	return (schedule->has_seller ? 8 : 0) + (schedule->has_psp ? 4 : 0) +
		   (schedule->payment_method ? 2 : 0) +
		   (schedule->has_currency ? 1 : 0);
}

static int
literal_length(const char *pattern)
{
	int length = 0;

	for (; *pattern != '\0'; pattern++)
		length += *pattern != '*' ? 1 : 0;
	return length;
}

/* The pattern that leaves less open; in the end the one that sorts first. */
static int
compare_patterns(const char *left, const char *right)
{
	int order = (strchr(right, '*') != NULL) - (strchr(left, '*') != NULL);

	if (order == 0)
		order = literal_length(left) - literal_length(right);
	if (order == 0)
		order = strcmp(right, left);
	return order;
}

static bool
is_more_specific(const FeeSchedule *left, const FeeSchedule *right)
{
	int order = specificity(left) - specificity(right);

	if (order == 0 && left->payment_method && right->payment_method)
		order = compare_patterns(left->payment_method, right->payment_method);
	return order > 0;
}

const FeeSchedule *
fee_choose(const FeeSchedule *schedules, int count, const pg_uuid_t *psp_id,
		   const char *payment_method)
{
	const FeeSchedule *chosen = NULL;

	for (int i = 0; i < count; i++)
	{
		if (matches(&schedules[i], psp_id, payment_method) &&
			(chosen == NULL || is_more_specific(&schedules[i], chosen)))
			chosen = &schedules[i];
	}
	return chosen;
}

/* More than the amount is never taken, so a sum that does not fit is it. */
void
fee_compute(const FeeSchedule *schedule, int64 amount, int64 volume, Fee *fee)
{
	int64 fixed = schedule->fixed;
	int32 basis_points = schedule->basis_points;

	memset(fee, 0, sizeof(Fee));
	for (int i = 0; i < schedule->tier_count; i++)
	{
		if (schedule->tiers[i].from_volume <= volume)
			fee->tier = &schedule->tiers[i];
	}
	if (fee->tier)
	{
		fixed = fee->tier->fixed;
		basis_points = fee->tier->basis_points;
	}
	if (pg_add_s64_overflow(money_basis_points(amount, basis_points), fixed,
							&fee->fee))
		fee->fee = PG_INT64_MAX;
	if (schedule->has_max_fee && fee->fee > schedule->max_fee)
	{
		fee->fee = schedule->max_fee;
		fee->limit = FEE_LIMIT_MAX_FEE;
	}
	if (schedule->has_min_fee && fee->fee < schedule->min_fee)
	{
		fee->fee = schedule->min_fee;
		fee->limit = FEE_LIMIT_MIN_FEE;
	}
	if (fee->fee > amount)
	{
		fee->fee = amount;
		fee->limit = FEE_LIMIT_AMOUNT;
	}
}

/* An order whose fee depends on what its seller has captured. */
typedef struct TieredOrder
{
	EventOrder		  *order;
	const FeeSchedule *schedule;
} TieredOrder;

static void
compute_tiered(const TieredOrder *orders, int count, TimestampTz at)
{
	VolumeQuery *queries = palloc(sizeof(VolumeQuery) * count);

	for (int i = 0; i < count; i++)
		queries[i] = (VolumeQuery){
			.seller_id = orders[i].order->seller.id,
			.currency = orders[i].order->currency,
			.window = orders[i].schedule->volume_window,
		};
	volume_read(queries, count, at);
	for (int i = 0; i < count; i++)
	{
		Fee fee;

		fee_compute(orders[i].schedule, orders[i].order->amount,
					queries[i].volume, &fee);
		orders[i].order->platform_fee = fee.fee;
	}
}

void
fee_resolve(Event **events, int count, TimestampTz at)
{
	TieredOrder *tiered = NULL;
	int			 tiered_count = 0;
	int			 order_count = 0;

	for (int i = 0; i < count; i++)
		order_count += events[i]->order_count;
	for (int i = 0; i < count; i++)
	{
		for (int n = 0; n < events[i]->order_count; n++)
		{
			EventOrder		  *order = &events[i]->orders[n];
			const FeeSchedule *schedule =
				fee_choose(order->fee_schedules, order->fee_schedule_count,
						   &events[i]->psp_id, events[i]->payment_method);
			Fee fee;

			order->platform_fee = 0;
			order->fee_schedule_id = schedule ? &schedule->id : NULL;
			if (schedule == NULL)
				continue;
			if (schedule->tier_count == 0)
			{
				fee_compute(schedule, order->amount, 0, &fee);
				order->platform_fee = fee.fee;
				continue;
			}
			if (tiered == NULL)
				tiered = palloc(sizeof(TieredOrder) * order_count);
			tiered[tiered_count].order = order;
			tiered[tiered_count++].schedule = schedule;
		}
	}
	if (tiered_count > 0)
		compute_tiered(tiered, tiered_count, at);
}
