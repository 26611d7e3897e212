/*-------------------------------------------------------------------------
 *
 * pick.h
 *	  Which accounts a posting moves, and ids as an application makes them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BENCH_PICK_H
#define BENCH_PICK_H

#include "parameter.h"

typedef enum Distribution
{
	PICK_RANDOM, /* both accounts uniformly */
	PICK_ZIPF,	 /* both by Zipf's law with exponent 1.0 */
	PICK_HOT	 /* one account in every posting, the other uniformly */
} Distribution;

extern void pick_begin(int account_count, uint64_t seed);
extern int	pick_distribution(const char *name, Distribution *distribution);

/* two different accounts, as numbers from 0 */
extern void pick_accounts(Distribution distribution, int *debit, int *credit);

extern int64_t pick_amount(void);
extern void	   pick_id(Uuid *id);

#endif /* BENCH_PICK_H */
