/*
 * hash.h
 *		A hash table from strings to pointers that grows by doubling.
 *		Keys belong to the caller and must live as long as their entry.
 */
#ifndef SANDBOX_HASH_H
#define SANDBOX_HASH_H

#include <stddef.h>
#include <stdint.h>

typedef struct HashEntry
{
	uint64_t	hash;
	const char *key; /* NULL: the place is free */
	void	   *value;
} HashEntry;

typedef struct Hash
{
	HashEntry *entries;
	size_t	   size; /* a power of two */
	size_t	   count;
} Hash;

extern uint64_t hash_bytes(const void *data, size_t len, uint64_t seed);
extern void	   *hash_get(const Hash *h, const char *key);
extern void		hash_put(Hash *h, const char *key, void *value);
extern void		hash_remove(Hash *h, const char *key);

#endif
