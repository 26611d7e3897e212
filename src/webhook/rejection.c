/*-------------------------------------------------------------------------
 *
 * rejection.c
 *	  A bounded memory of webhooks that were refused.
 *
 * Anybody may send those, as many as he likes.  So they take no room but a
 * ring of slots, and wait for nobody: a slot that another transaction is
 * writing is left to it.  No index has what changes, so that the versions of
 * a row stay within its page.  Of the body only a hash is kept.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "payment.h"
#include "shared.h"
#include "text_guard.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "order/batch.h"
#include "order/plan.h"
#include "order/transition.h"
#include "webhook/rejection.h"

#define PSP_NAME_BYTES_MAX 100

static uint64
first_number(void)
{
	static SPIPlanPtr plan = NULL;

	plan_keep(&plan,
			  "SELECT slot FROM payment.webhook_rejection"
			  " ORDER BY rejected_at DESC, slot DESC LIMIT 1",
			  0, NULL);
	/* never 0: that means that nobody has looked yet */
	return batch_run(plan, NULL, NULL) == 0
			   ? (uint64) payment_max_webhook_rejections
			   : (uint64) row_int32(0, 1) + 1 +
					 (uint64) payment_max_webhook_rejections;
}

static int32
next_slot(void)
{
	static uint64 own_count = 0;
	uint64		  unset = 0;
	uint64		  number;

	if (worker_shared)
	{
		if (pg_atomic_read_u64(&worker_shared->rejections) == 0)
			pg_atomic_compare_exchange_u64(&worker_shared->rejections, &unset,
										   first_number());
		number = pg_atomic_fetch_add_u64(&worker_shared->rejections, 1);
	}
	else
	{
		/*
		 * Where it is not preloaded, each session counts for itself, from a
		 * number that no other begins with: nobody waits for a slot.
		 */
		if (own_count == 0)
			own_count = (uint64) MyProcPid * 7919;
		number = own_count++;
	}
	return (int32) (number % (uint64) payment_max_webhook_rejections);
}

static Datum
body_hash(const Rejection *rejection)
{
	bytea			  *hash = palloc(VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	pg_cryptohash_ctx *context = pg_cryptohash_create(PG_SHA256);

	SET_VARSIZE(hash, VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	if (pg_cryptohash_init(context) < 0 ||
		pg_cryptohash_update(context, (const uint8 *) rejection->body,
							 rejection->length) < 0 ||
		pg_cryptohash_final(context, (uint8 *) VARDATA(hash),
							PG_SHA256_DIGEST_LENGTH) < 0)
		elog(ERROR, "could not hash a webhook");
	pg_cryptohash_free(context);
	return PointerGetDatum(hash);
}

/* Part of an address that anybody may have typed */
static Datum
psp_name(const char *name)
{
	int length = (int) strlen(name);

	if (contains_card_number(name, length))
		return CStringGetTextDatum("");
	length = pg_mbcliplen(name, length, PSP_NAME_BYTES_MAX);
	return PointerGetDatum(cstring_to_text_with_len(name, length));
}

void
rejection_note(const Rejection *rejection)
{
	static SPIPlanPtr update_plan = NULL;
	static SPIPlanPtr insert_plan = NULL;
	const Oid		  types[] = { INT4OID, TIMESTAMPTZOID, TEXTOID, TEXTOID,
								  INT4OID, INT8OID,		   BYTEAOID };
	char			  nulls[] = "       ";
	Datum			  values[lengthof(types)];

	values[0] = Int32GetDatum(next_slot());
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[2] = psp_name(rejection->psp);
	values[3] = CStringGetTextDatum(rejection->reason);
	values[4] = Int32GetDatum(rejection->http_status);
	values[5] = Int64GetDatum(rejection->length);
	values[6] = rejection->is_hashed ? body_hash(rejection) : (Datum) 0;
	nulls[6] = rejection->is_hashed ? ' ' : 'n';

	plan_keep(&update_plan,
			  "UPDATE payment.webhook_rejection AS r SET rejected_at = $2,"
			  " psp = $3, reason = $4, http_status = $5, body_bytes = $6,"
			  " body_sha256 = $7, role = session_user"
			  " FROM (SELECT f.slot FROM payment.webhook_rejection AS f"
			  " WHERE f.slot = $1 FOR UPDATE SKIP LOCKED) AS free"
			  " WHERE r.slot = free.slot",
			  lengthof(types), types);
	if (order_write(update_plan, values, nulls, CAUSE_POLICY) > 0)
		return;
	plan_keep(&insert_plan,
			  "INSERT INTO payment.webhook_rejection (slot, rejected_at, psp,"
			  " reason, http_status, body_bytes, body_sha256, role)"
			  " VALUES ($1, $2, $3, $4, $5, $6, $7, session_user)"
			  " ON CONFLICT (slot) DO NOTHING",
			  lengthof(types), types);
	order_write(insert_plan, values, nulls, CAUSE_POLICY);
}

void
rejection_shrink(void)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { INT4OID };
	Datum values[] = { Int32GetDatum(payment_max_webhook_rejections) };

	plan_keep(&plan, "DELETE FROM payment.webhook_rejection WHERE slot >= $1",
			  lengthof(types), types);
	order_write(plan, values, NULL, CAUSE_POLICY);
}
