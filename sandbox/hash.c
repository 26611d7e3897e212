/*
 * hash.c
 *		Open addressing with linear probing; at most half of the places are
 *		used, and a removal shifts its followers back, so that no tombstones
 *		gather.
 */
#include "hash.h"

#include <stdlib.h>
#include <string.h>

#include "buf.h"

#define HASH_SIZE_MIN 64

uint64_t
hash_bytes(const void *data, size_t len, uint64_t seed)
{
	const unsigned char *p = data;
	uint64_t			 h = seed ^ UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	/* FNV leaves the high bits weak for short keys: mix them. */
	h ^= h >> 32;
	h *= UINT64_C(0xd6e8feb86659fd93);
	h ^= h >> 32;
	return h;
}

static size_t
find_place(const Hash *h, const char *key, uint64_t hash)
{
	size_t i = hash & (h->size - 1);

	while (h->entries[i].key != NULL &&
		   (h->entries[i].hash != hash || strcmp(h->entries[i].key, key) != 0))
		i = (i + 1) & (h->size - 1);
	return i;
}

static void
grow(Hash *h)
{
	Hash bigger = { 0 };

	bigger.size = h->size ? h->size * 2 : HASH_SIZE_MIN;
	bigger.entries = xcalloc(bigger.size, sizeof(HashEntry));
	bigger.count = h->count;
	for (size_t i = 0; i < h->size; i++)
	{
		HashEntry *e = &h->entries[i];

		if (e->key != NULL)
			bigger.entries[find_place(&bigger, e->key, e->hash)] = *e;
	}
	free(h->entries);
	*h = bigger;
}

void *
hash_get(const Hash *h, const char *key)
{
	size_t i;

	if (h->count == 0)
		return NULL;
	i = find_place(h, key, hash_bytes(key, strlen(key), 0));
	return h->entries[i].key ? h->entries[i].value : NULL;
}

void
hash_put(Hash *h, const char *key, void *value)
{
	uint64_t   hash = hash_bytes(key, strlen(key), 0);
	HashEntry *e;

	if ((h->count + 1) * 2 > h->size)
		grow(h);
	e = &h->entries[find_place(h, key, hash)];
	if (e->key == NULL)
		h->count++;
	e->hash = hash;
	e->key = key;
	e->value = value;
}

void
hash_remove(Hash *h, const char *key)
{
	size_t mask = h->size - 1;
	size_t hole;

	if (h->count == 0)
		return;
	hole = find_place(h, key, hash_bytes(key, strlen(key), 0));
	if (h->entries[hole].key == NULL)
		return;
	for (size_t i = (hole + 1) & mask; h->entries[i].key != NULL;
		 i = (i + 1) & mask)
	{
		size_t home = h->entries[i].hash & mask;

		/* May entry i move back into the hole without passing its home? */
		if (((i - home) & mask) >= ((i - hole) & mask))
		{
			h->entries[hole] = h->entries[i];
			hole = i;
		}
	}
	memset(&h->entries[hole], 0, sizeof(HashEntry));
	h->count--;
}
