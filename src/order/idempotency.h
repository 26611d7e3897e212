/*-------------------------------------------------------------------------
 *
 * idempotency.h
 *	  Each key does its work once; asked again, it gives the same answer.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_IDEMPOTENCY_H
#define PAYMENT_IDEMPOTENCY_H

#include "lib/stringinfo.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "order/event.h"

/* What the caller asked for, in one form however it was written. */
typedef struct Fingerprint
{
	StringInfoData data;
} Fingerprint;

extern void fingerprint_begin(Fingerprint *fingerprint);
/* value may be NULL, which differs from empty */
extern void fingerprint_text(Fingerprint *fingerprint, const char *value);
extern void fingerprint_bytes(Fingerprint *fingerprint, const void *value,
							  int size);
extern void fingerprint_json(Fingerprint *fingerprint, JsonbContainer *value,
							 int size);
extern void fingerprint_end(Fingerprint *fingerprint, uint8 *result);

/*
 * Take the keys of the events.  Those that are new keep the ids made for
 * them; those that did their work before, also by an earlier event of this
 * call, get the ids of that time and is_replay.  Waits for transactions that
 * are just taking one of the keys.  Raises PY100 when a key was used for
 * something else.
 */
extern void idempotency_claim(Event *events, int count);

/*
 * The same for a call of another kind, with one key: true when it is new and
 * keeps the ids made for it; else they become those of its first use.
 */
extern bool idempotency_take(const char *key, const char *operation,
							 const uint8 *fingerprint, pg_uuid_t *ids,
							 int count);

/* an answer that is a number, as an id and back */
extern pg_uuid_t number_as_id(int32 number);
extern int32	 id_as_number(const pg_uuid_t *id);

#endif /* PAYMENT_IDEMPOTENCY_H */
