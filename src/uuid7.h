/*-------------------------------------------------------------------------
 *
 * uuid7.h
 *	  UUIDv7 (RFC 9562) with the shard number inside.
 *
 * 48 bits of milliseconds, version, 12 bits of sub-millisecond fraction
 * (method 3), variant, 12 bits of shard number, 50 random bits.  Ids made by
 * one backend ascend strictly.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_UUID7_H
#define PAYMENT_UUID7_H

#include "datatype/timestamp.h"
#include "port/pg_bswap.h"
#include "utils/uuid.h"

#define UUID7_MAX_SHARD 4095

extern void uuid7_generate(pg_uuid_t *id);
/* of a given instant; not in the order of the others */
extern void		   uuid7_generate_at(TimestampTz at, pg_uuid_t *id);
extern TimestampTz uuid7_time(const pg_uuid_t *id);
extern int		   uuid7_shard(const pg_uuid_t *id);
/* the smallest id of that instant: a bound for ranges over ids */
extern void uuid7_floor(TimestampTz at, pg_uuid_t *id);

/* of ids of any version */
extern char *uuid_text(const pg_uuid_t *id);

/* as memcmp() does, which the compiler would call for each comparison */
static inline int
uuid_compare(const pg_uuid_t *a, const pg_uuid_t *b)
{
	uint64 left[2];
	uint64 right[2];
	int	   half;

	memcpy(left, a, UUID_LEN);
	memcpy(right, b, UUID_LEN);
	half = left[0] == right[0] ? 1 : 0;
	if (left[half] == right[half])
		return 0;
	return pg_ntoh64(left[half]) < pg_ntoh64(right[half]) ? -1 : 1;
}

#endif /* PAYMENT_UUID7_H */
