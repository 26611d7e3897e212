/*
 * random.c
 *		The seeded generator (splitmix64) and ids from the system's own.
 */
#include "random.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "buf.h"

#define ID_LETTERS 24

static uint64_t state;

void
random_seed(uint64_t seed)
{
	state = seed;
}

uint64_t
random_next(void)
{
	uint64_t z = (state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint64_t
random_below(uint64_t limit)
{
	return limit ? random_next() % limit : 0;
}

static void
random_text(char *out, size_t size, const char *prefix, int count, int choices)
{
	static const char letters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
								  "abcdefghijklmnopqrstuvwxyz";
	unsigned char	  bytes[ID_LETTERS];
	char			  text[ID_LETTERS + 1];

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t) sizeof(bytes))
		die("could not read random bytes");
	for (int i = 0; i < count; i++)
		text[i] = letters[bytes[i] % choices];
	text[count] = '\0';
	if ((size_t) snprintf(out, size, "%s%s", prefix, text) >= size)
		die("id does not fit: %s", prefix);
}

void
random_id(char *out, size_t size, const char *prefix)
{
	random_text(out, size, prefix, ID_LETTERS, 62);
}

void
random_capitals(char *out, size_t size, const char *prefix, int count)
{
	random_text(out, size, prefix, count, 36);
}
