/*-------------------------------------------------------------------------
 *
 * pick.c
 *	  Which accounts a posting moves, and ids as an application makes them.
 *
 *-------------------------------------------------------------------------
 */
#include "pick.h"

#include <err.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_AMOUNT 1000

/* prime, so that it spreads ranks over any number of accounts below it */
#define SPREAD 1000003

static int		account_count;
static double  *zipf_sums; /* share of ranks 0..i in all */
static uint64_t random_state;
static uint64_t last_ticks;

/* xorshift64* */
static uint64_t
next_random(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * UINT64_C(2685821657736338717);
}

static double
next_fraction(void)
{
	return (double) (next_random() >> 11) / (double) (UINT64_C(1) << 53);
}

void
pick_begin(int count, uint64_t seed)
{
	double sum = 0;

	if (count < 2 || count >= SPREAD)
		errx(1, "cannot pick among %d accounts", count);
	account_count = count;
	random_state = seed | 1;
	zipf_sums = malloc(sizeof(double) * count);
	if (zipf_sums == NULL)
		errx(1, "out of memory");
	for (int rank = 0; rank < count; rank++)
		zipf_sums[rank] = (sum += 1.0 / (rank + 1));
	for (int rank = 0; rank < count; rank++)
		zipf_sums[rank] /= sum;
}

int
pick_distribution(const char *name, Distribution *distribution)
{
	static const char *const names[] = { "random", "zipf", "hot" };

	for (int i = 0; i < 3; i++)
	{
		if (strcmp(name, names[i]) == 0)
		{
			*distribution = (Distribution) i;
			return 1;
		}
	}
	return 0;
}

/* often used accounts do not lie side by side in the tables */
static int
pick_zipf(void)
{
	double fraction = next_fraction();
	int	   low = 0;
	int	   high = account_count - 1;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (zipf_sums[middle] < fraction)
			low = middle + 1;
		else
			high = middle;
	}
	return (int) ((int64_t) low * SPREAD % account_count);
}

static int
pick_uniform(void)
{
	return (int) (next_fraction() * account_count);
}

void
pick_accounts(Distribution distribution, int *debit, int *credit)
{
	do
	{
		*debit = distribution == PICK_HOT	 ? 0
				 : distribution == PICK_ZIPF ? pick_zipf()
											 : pick_uniform();
		*credit = distribution == PICK_ZIPF ? pick_zipf() : pick_uniform();
	} while (*debit == *credit);
}

int64_t
pick_amount(void)
{
	return 1 + (int64_t) (next_fraction() * MAX_AMOUNT);
}

/* a UUIDv7: milliseconds and 12 bits of fraction, ascending, then random */
void
pick_id(Uuid *id)
{
	struct timespec now;
	uint64_t		ticks;
	uint64_t		rest = next_random();

	clock_gettime(CLOCK_REALTIME, &now);
	ticks = ((uint64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000) << 12 |
			(uint64_t) (now.tv_nsec % 1000000) * 4096 / 1000000;
	if (ticks <= last_ticks)
		ticks = last_ticks + 1;
	last_ticks = ticks;

	for (int i = 0; i < 6; i++)
		id->data[i] = (uint8_t) (ticks >> (52 - 8 * i));
	id->data[6] = 0x70 | ((ticks >> 8) & 0x0f);
	id->data[7] = ticks & 0xff;
	memcpy(&id->data[8], &rest, 8);
	id->data[8] = 0x80 | (id->data[8] & 0x3f);
}
