/*-------------------------------------------------------------------------
 *
 * unverified.c
 *	  Webhooks that only the PSP itself can vouch for, until it has.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "payment.h"
#include "utils/timestamp.h"

#include "order/batch.h"
#include "order/plan.h"
#include "order/transition.h"
#include "uuid7.h"
#include "webhook/unverified.h"

/* what nobody has vouched for in all that time, nobody will */
static void
forget_old(const pg_uuid_t *psp_id)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, TIMESTAMPTZOID };
	TimestampTz		  before =
		GetCurrentTimestamp() -
		(int64) payment_webhook_parking_time_s * USECS_PER_SEC;
	Datum values[] = { UUIDPGetDatum(psp_id), TimestampTzGetDatum(before) };

	plan_keep(&plan,
			  "DELETE FROM payment.webhook_unverified WHERE psp_id = $1"
			  " AND received_at < $2",
			  lengthof(types), types);
	order_write(plan, values, NULL, CAUSE_POLICY);
}

static bool
has_room(const pg_uuid_t *psp_id)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, INT4OID };
	Datum			  values[] = { UUIDPGetDatum(psp_id),
								   Int32GetDatum(payment_max_unverified_webhooks) };

	plan_keep(&plan,
			  "SELECT FROM payment.webhook_unverified WHERE psp_id = $1"
			  " LIMIT $2",
			  lengthof(types), types);
	return batch_run(plan, values, NULL) <
		   (uint64) payment_max_unverified_webhooks;
}

bool
unverified_keep(const pg_uuid_t *psp_id, Jsonb *headers, const char *text,
				int length)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, UUIDOID, JSONBOID, BYTEAOID,
								  TIMESTAMPTZOID };
	pg_uuid_t		  id;
	bytea			 *body;
	Datum			  values[lengthof(types)];

	if (!has_room(psp_id))
	{
		forget_old(psp_id);
		if (!has_room(psp_id))
			return false;
	}
	uuid7_generate(&id);
	body = palloc(VARHDRSZ + length);
	SET_VARSIZE(body, VARHDRSZ + length);
	memcpy(VARDATA(body), text, length);
	values[0] = UUIDPGetDatum(&id);
	values[1] = UUIDPGetDatum(psp_id);
	values[2] = JsonbPGetDatum(headers);
	values[3] = PointerGetDatum(body);
	values[4] = TimestampTzGetDatum(GetCurrentTimestamp());
	plan_keep(&plan,
			  "INSERT INTO payment.webhook_unverified (id, psp_id, headers,"
			  " body, received_at, run_at) VALUES ($1, $2, $3, $4, $5, $5)",
			  lengthof(types), types);
	order_write(plan, values, NULL, CAUSE_POLICY);
	payment_wake_dispatcher_at_commit();
	return true;
}

bool
unverified_take(const pg_uuid_t *id, Unverified *unverified)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID };
	Datum			  values[] = { UUIDPGetDatum(id) };
	bytea			 *body;
	bool			  isnull;

	plan_keep(&plan,
			  "DELETE FROM payment.webhook_unverified AS u"
			  " USING payment.psp AS p WHERE u.id = $1 AND p.id = u.psp_id"
			  " RETURNING u.psp_id, p.name, u.headers, u.body",
			  lengthof(types), types);
	if (order_write(plan, values, NULL, CAUSE_POLICY) == 0)
		return false;
	row_uuid(0, 1, &unverified->psp_id);
	unverified->psp_name = row_text(0, 2);
	unverified->headers =
		DatumGetJsonbPCopy(SPI_getbinval(SPI_tuptable->vals[0],
										 SPI_tuptable->tupdesc, 3, &isnull));
	body =
		DatumGetByteaPCopy(SPI_getbinval(SPI_tuptable->vals[0],
										 SPI_tuptable->tupdesc, 4, &isnull));
	unverified->body = VARDATA(body);
	unverified->length = (int) (VARSIZE(body) - VARHDRSZ);
	return true;
}
