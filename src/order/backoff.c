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
 * Jitter over the whole range: many that failed together must not come back
 * together.
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
