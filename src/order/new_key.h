/*-------------------------------------------------------------------------
 *
 * new_key.h
 *	  The next attempt of what the PSP failed to execute, under a new key.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_NEW_KEY_H
#define PAYMENT_NEW_KEY_H

#include "utils/uuid.h"

/*
 * The object goes from unknown back to where its send is due, with the next
 * attempt number.  The caller has locked it, and knows that its key is spent
 * and that the PSP has no such object.
 */
extern void new_key_take(const char *operation, const pg_uuid_t *object_id);

#endif /* PAYMENT_NEW_KEY_H */
