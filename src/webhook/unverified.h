/*-------------------------------------------------------------------------
 *
 * unverified.h
 *	  Webhooks that only the PSP itself can vouch for, until it has.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_WEBHOOK_UNVERIFIED_H
#define PAYMENT_WEBHOOK_UNVERIFIED_H

#include "utils/jsonb.h"
#include "utils/uuid.h"

typedef struct Unverified
{
	pg_uuid_t	psp_id;
	const char *psp_name;
	Jsonb	   *headers;
	const char *body;
	int			length;
} Unverified;

/* false when too many of the PSP wait already */
extern bool unverified_keep(const pg_uuid_t *psp_id, Jsonb *headers,
							const char *body, int length);

/* Take it out; false when it is not there. */
extern bool unverified_take(const pg_uuid_t *id, Unverified *unverified);

#endif /* PAYMENT_WEBHOOK_UNVERIFIED_H */
