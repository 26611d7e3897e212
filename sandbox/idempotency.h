/*
 * idempotency.h
 *		What was answered under each Idempotency-Key.
 */
#ifndef SANDBOX_IDEMPOTENCY_H
#define SANDBOX_IDEMPOTENCY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "buf.h"

typedef struct Fingerprint
{
	uint64_t half[2];
} Fingerprint;

/* How long a key is kept depends on whose it is and what for. */
typedef enum KeyLife
{
	KEEP_A_DAY,		/* Stripe */
	KEEP_A_WEEK,	/* Adyen: at least so long */
	KEEP_SIX_HOURS, /* PayPal's orders */
	KEEP_45_DAYS,	/* PayPal's captures and refunds */
	KEEP_30_DAYS,	/* PayPal's payouts */
	KEY_LIFE_COUNT
} KeyLife;

typedef struct IdempotencyKey
{
	char	   *key;
	uint8_t		kept_for; /* a KeyLife */
	Fingerprint fingerprint;
	int32_t		status;		  /* 0 while the first request still runs */
	int8_t		should_retry; /* the header: 0 false, 1 true, -1 absent */
	int64_t		created_ms;
	char	   *body; /* NULL: in the journal at body_offset */
	size_t		body_len;
	off_t		body_offset;
	struct IdempotencyKey *next; /* the next younger one */
} IdempotencyKey;

typedef enum IdempotencyState
{
	IDEMPOTENCY_NEW,
	IDEMPOTENCY_REPLAY,
	IDEMPOTENCY_IN_USE,
	IDEMPOTENCY_MISMATCH
} IdempotencyState;

/* How long keys of this kind are kept. */
extern int64_t idempotency_life_s(KeyLife life);

extern Fingerprint fingerprint_of(const Buf *request);

/* Looks the key up; *found is set unless it is new. Forgets old keys. */
extern IdempotencyState idempotency_look(const char *key, Fingerprint print,
										 IdempotencyKey **found);

/* The life of a key: begun, then finished or abandoned. */
extern IdempotencyKey *idempotency_begin(const char *key, KeyLife life,
										 Fingerprint print);
extern void			   idempotency_finish(IdempotencyKey *key, int status,
										  int should_retry, const Buf *body);
extern void			   idempotency_abandon(IdempotencyKey *key);

/* Takes over a finished key that the journal has read. */
extern void idempotency_restore(IdempotencyKey *key);

extern void idempotency_body(const IdempotencyKey *key, Buf *out);

/* Keys that ever got an answer of their own. */
extern uint64_t idempotency_distinct(void);
extern uint64_t idempotency_kept(void);

#endif
