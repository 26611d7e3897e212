/*-------------------------------------------------------------------------
 *
 * backoff.c
 *	  How long to wait before trying again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"

#include "order/backoff.h"

/* Past this, every base has reached every maximum. */
#define BACKOFF_MAX_DOUBLINGS 27

/*
 * Full jitter: over the whole range, as many that failed together must not
 * come back together.  But from the base on, not from zero.  What has just
 * failed would fail again: a repeat at once costs a try of few, and a lookup
 * at once may find nothing where the PSP is still executing.  The first wait
 * still spreads over as long a time as the base.
 */
int64
backoff_ms(int32 tries, int32 base_ms, int32 max_ms)
{
	int	   doublings = Min(Max(tries, 1), BACKOFF_MAX_DOUBLINGS);
	uint64 longest = Min((uint64) base_ms << doublings, (uint64) max_ms);
	uint64 shortest = Min((uint64) base_ms, longest);

	return (int64) pg_prng_uint64_range(&pg_global_prng_state, shortest,
										longest);
}
