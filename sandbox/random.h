/*
 * random.h
 *		Two generators: a seeded one for faults and planted differences, so
 *		that a run can be repeated, and one for ids, which must never repeat.
 */
#ifndef SANDBOX_RANDOM_H
#define SANDBOX_RANDOM_H

#include <stddef.h>
#include <stdint.h>

extern void		random_seed(uint64_t seed);
extern uint64_t random_next(void);
extern uint64_t random_below(uint64_t limit);

/* Writes prefix and 24 letters and digits. */
extern void random_id(char *out, size_t size, const char *prefix);

/* Writes prefix and so many (up to 24) capitals and digits. */
extern void random_capitals(char *out, size_t size, const char *prefix,
							int count);

#endif
