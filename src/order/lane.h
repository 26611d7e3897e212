/*-------------------------------------------------------------------------
 *
 * lane.h
 *	  The lanes of a PSP's queue, and how they share what may be claimed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_LANE_H
#define PAYMENT_LANE_H

#include "fmgr.h"

/* new payments, new payouts, payments and payouts tried before */
#define LANE_COUNT 4

/* ... as rows, the columns of payment.task_due_idx by which they differ */
#define LANES_SQL                                                    \
	"(VALUES (1, false, false), (2, true, false), (3, false, true)," \
	" (4, true, true)) AS lane (number, payout, repeated)"

/* How many tasks may be taken: of each lane, and so many more of any. */
typedef struct LaneLimits
{
	int32 of_lane[LANE_COUNT];
	int32 of_any;
} LaneLimits;

/*
 * The argument of that number, an array of these.  As many of any as there
 * are at most, when it is null.
 */
extern void lane_limits(FunctionCallInfo fcinfo, int number, int32 most,
						LaneLimits *limits);

/* the most of each lane, as an integer[] */
extern Datum lane_most(const LaneLimits *limits);

/* as an integer[] */
extern Datum lane_array(const int32 *numbers);

/*
 * So few of each lane that all lanes may have them together; false when the
 * total is too small for that.
 */
extern bool lane_few(int32 *few, const LaneLimits *limits, int32 total);

/* Reduce what each lane has to what it gets of a total. */
extern void lane_share(int32 *due, const LaneLimits *limits, int32 total);

#endif /* PAYMENT_LANE_H */
