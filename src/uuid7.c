/*-------------------------------------------------------------------------
 *
 * uuid7.c
 *	  UUIDv7 (RFC 9562) with the shard number inside.
 *
 * Ids are the only identity there is, so they must not collide between
 * backends, servers and shards: 50 bits of each come from the operating
 * system's random source.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "payment.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "uuid7.h"

#define FRACTION_BITS 12
#define FRACTION_STEPS (1 << FRACTION_BITS)
#define RANDOM_BYTES 7
#define UNIX_EPOCH_OFFSET_US \
	((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

PG_FUNCTION_INFO_V1(payment_new_id);
PG_FUNCTION_INFO_V1(payment_id_time);
PG_FUNCTION_INFO_V1(payment_id_floor);
PG_FUNCTION_INFO_V1(payment_id_shard);

/* milliseconds and fraction of the last id, as one number of 60 bits */
static uint64 last_ticks = 0;

/* random bytes are fetched in bulk: one system call for many ids */
static uint8 random_pool[RANDOM_BYTES * 64];
static int	 random_left = 0;

static const uint8 *
take_random(void)
{
	if (random_left == 0)
	{
		if (!pg_strong_random(random_pool, sizeof(random_pool)))
			ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
							errmsg("could not generate random values")));
		random_left = sizeof(random_pool);
	}
	random_left -= RANDOM_BYTES;
	return random_pool + random_left;
}

/* milliseconds since 1970 in the upper 48 bits, then the fraction */
static uint64
ticks_of(TimestampTz at)
{
	uint64 unix_us;

	if (at <= -UNIX_EPOCH_OFFSET_US)
		return 0;
	unix_us = (uint64) at + UNIX_EPOCH_OFFSET_US;
	return ((unix_us / 1000) << FRACTION_BITS) |
		   ((unix_us % 1000) * FRACTION_STEPS / 1000);
}

/* everything but shard and random bits */
static void
set_ticks(pg_uuid_t *id, uint64 ticks)
{
	uint64 ms = ticks >> FRACTION_BITS;

	memset(id->data, 0, UUID_LEN);
	for (int i = 0; i < 6; i++)
		id->data[i] = (ms >> (40 - 8 * i)) & 0xff;
	id->data[6] = 0x70 | ((ticks >> 8) & 0x0f);
	id->data[7] = ticks & 0xff;
	id->data[8] = 0x80;
}

static void
set_all(pg_uuid_t *id, uint64 ticks)
{
	const uint8 *random = take_random();

	set_ticks(id, ticks);
	id->data[8] |= payment_shard_id >> 6;
	id->data[9] = ((payment_shard_id & 0x3f) << 2) | (random[0] & 0x03);
	memcpy(&id->data[10], random + 1, RANDOM_BYTES - 1);
}

/*
 * A clock that stands still or goes back does not break the order: the last
 * tick plus one is taken, until the clock has caught up.
 */
void
uuid7_generate(pg_uuid_t *id)
{
	uint64 ticks = ticks_of(GetCurrentTimestamp());

	if (ticks <= last_ticks)
		ticks = last_ticks + 1;
	last_ticks = ticks;
	set_all(id, ticks);
}

void
uuid7_generate_at(TimestampTz at, pg_uuid_t *id)
{
	set_all(id, ticks_of(at));
}

TimestampTz
uuid7_time(const pg_uuid_t *id)
{
	int64 ms = 0;
	int64 fraction = ((id->data[6] & 0x0f) << 8) | id->data[7];

	for (int i = 0; i < 6; i++)
		ms = (ms << 8) | id->data[i];

	/* rounded up, since the way in rounded down */
	return ms * 1000 +
		   (fraction * 1000 + FRACTION_STEPS - 1) / FRACTION_STEPS -
		   UNIX_EPOCH_OFFSET_US;
}

int
uuid7_shard(const pg_uuid_t *id)
{
	return ((id->data[8] & 0x3f) << 6) | (id->data[9] >> 2);
}

void
uuid7_floor(TimestampTz at, pg_uuid_t *id)
{
	/* all of the 48 bits are used up in the year 10889 */
	if (at > 0 && ((uint64) at + UNIX_EPOCH_OFFSET_US) / 1000 >> 48 != 0)
		memset(id->data, 0xff, UUID_LEN);
	else
		set_ticks(id, ticks_of(at));
}

/* refuse ids that were made elsewhere, which hold neither time nor shard */
static pg_uuid_t *
uuid7_argument(FunctionCallInfo fcinfo)
{
	pg_uuid_t *id = PG_GETARG_UUID_P(0);

	if ((id->data[6] & 0xf0) != 0x70 || (id->data[8] & 0xc0) != 0x80)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("not an id of payment"),
						errdetail("The UUID is not of version 7."),
						errhint("Pass an id that payment made.")));
	return id;
}

Datum
payment_new_id(PG_FUNCTION_ARGS pg_attribute_unused())
{
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));

	uuid7_generate(id);
	PG_RETURN_UUID_P(id);
}

Datum
payment_id_time(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(uuid7_time(uuid7_argument(fcinfo)));
}

Datum
payment_id_floor(PG_FUNCTION_ARGS)
{
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));

	uuid7_floor(PG_GETARG_TIMESTAMPTZ(0), id);
	PG_RETURN_UUID_P(id);
}

Datum
payment_id_shard(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(uuid7_shard(uuid7_argument(fcinfo)));
}

char *
uuid_text(const pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}
