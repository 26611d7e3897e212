/*
 * idempotency.c
 *		Keys in a hash table, and in a queue by age for forgetting them.
 */
#include "idempotency.h"

#include <stdlib.h>
#include <string.h>

#include "book.h"
#include "hash.h"
#include "journal.h"
#include "options.h"

static Hash			   keys;
static IdempotencyKey *oldest[KEY_LIFE_COUNT]; /* by age for each life */
static IdempotencyKey *youngest[KEY_LIFE_COUNT];
static uint64_t		   distinct;

Fingerprint
fingerprint_of(const Buf *request)
{
	Fingerprint print = {
		{ hash_bytes(request->data, request->len, UINT64_C(0x5eed)),
		  hash_bytes(request->data, request->len, UINT64_C(0xf00d5eed)) }
	};

	return print;
}

static void
free_key(IdempotencyKey *key)
{
	free(key->key);
	free(key->body);
	free(key);
}

int64_t
idempotency_life_s(KeyLife life)
{
	static const int64_t hours[KEY_LIFE_COUNT] = { 24, 7 * 24, 6, 45 * 24,
												   30 * 24 };

	return options.idempotency_ttl_s > 0 ? options.idempotency_ttl_s
										 : hours[life] * 3600;
}

static void
forget_old(KeyLife life)
{
	int64_t limit_ms = book.now_ms - idempotency_life_s(life) * 1000;

	while (oldest[life] != NULL && oldest[life]->created_ms <= limit_ms)
	{
		IdempotencyKey *key = oldest[life];

		oldest[life] = key->next;
		if (oldest[life] == NULL)
			youngest[life] = NULL;
		/* A restored file may hold the same key twice: a younger one stays. */
		if (hash_get(&keys, key->key) == key)
			hash_remove(&keys, key->key);
		free_key(key);
	}
}

IdempotencyState
idempotency_look(const char *key, Fingerprint print, IdempotencyKey **found)
{
	for (int life = 0; life < KEY_LIFE_COUNT; life++)
		forget_old((KeyLife) life);
	*found = hash_get(&keys, key);
	if (*found == NULL)
		return IDEMPOTENCY_NEW;
	if (memcmp(&(*found)->fingerprint, &print, sizeof(print)) != 0)
		return IDEMPOTENCY_MISMATCH;
	return (*found)->status == 0 ? IDEMPOTENCY_IN_USE : IDEMPOTENCY_REPLAY;
}

IdempotencyKey *
idempotency_begin(const char *key, KeyLife life, Fingerprint print)
{
	IdempotencyKey *begun = xcalloc(1, sizeof(IdempotencyKey));

	begun->key = xstrdup(key);
	begun->kept_for = (uint8_t) life;
	begun->fingerprint = print;
	hash_put(&keys, begun->key, begun);
	return begun;
}

static void
enqueue(IdempotencyKey *key)
{
	KeyLife life = (KeyLife) key->kept_for;

	if (youngest[life] != NULL)
		youngest[life]->next = key;
	else
		oldest[life] = key;
	youngest[life] = key;
	distinct++;
}

void
idempotency_finish(IdempotencyKey *key, int status, int should_retry,
				   const Buf *body)
{
	key->should_retry = (int8_t) should_retry;
	key->status = status;
	key->created_ms = book.now_ms;
	key->body = xstrndup(body->data ? body->data : "", body->len);
	key->body_len = body->len;
	enqueue(key);
	journal_key(key);
}

void
idempotency_abandon(IdempotencyKey *key)
{
	hash_remove(&keys, key->key);
	free_key(key);
}

void
idempotency_restore(IdempotencyKey *key)
{
	hash_remove(&keys, key->key);
	hash_put(&keys, key->key, key);
	enqueue(key);
}

void
idempotency_body(const IdempotencyKey *key, Buf *out)
{
	if (key->body != NULL)
		buf_put(out, key->body, key->body_len);
	else
		journal_read(key->body_offset, key->body_len, out);
}

uint64_t
idempotency_distinct(void)
{
	return distinct;
}

uint64_t
idempotency_kept(void)
{
	return keys.count;
}
