/*-------------------------------------------------------------------------
 *
 * verification.c
 *	  Webhooks that the worker asks their PSP about.
 *
 * A claim is a lease: run_at is put off, and what is neither confirmed nor
 * deferred by then is claimed again.  So a worker that dies asks once more,
 * and what is confirmed twice is not there the second time.  What the PSP has
 * no word for after so many questions, or so much time, is a rejection.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "payment.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "instance/instance.h"
#include "order/backoff.h"
#include "order/batch.h"
#include "order/plan.h"
#include "order/transition.h"
#include "order/typed_argument.h"
#include "webhook/rejection.h"

PG_FUNCTION_INFO_V1(payment_claim_unverified_webhooks);
PG_FUNCTION_INFO_V1(payment_defer_webhook);

#define CLAIM_MAX 10000
#define LEASE_MAX_MS (3600 * 1000)
#define LAST_DELAY_MS (3600 * 1000)
#define CLAIM_COLUMNS 4

/* a number from 1 */
static int
number_argument(FunctionCallInfo fcinfo, int number, const char *name, int max)
{
	int32 value = int32_argument(fcinfo, number, name);

	if (value < 1 || value > max)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("\"%s\" must be from 1 to %d", name, max),
						errdetail("It is %d.", value),
						errhint("The worker asks for what it may send.")));
	return value;
}

/* ---- claims ---- */

static void
note_given_up(uint64 count)
{
	SPITupleTable *rows = SPI_tuptable;

	for (uint64 row = 0; row < count; row++)
	{
		bool	  isnull;
		bytea	 *body;
		Rejection rejection = { .reason = "unverified", .http_status = 401 };

		rejection.psp = SPI_getvalue(rows->vals[row], rows->tupdesc, 1);
		body = DatumGetByteaPP(
			SPI_getbinval(rows->vals[row], rows->tupdesc, 2, &isnull));
		rejection.body = VARDATA_ANY(body);
		rejection.length = (int) VARSIZE_ANY_EXHDR(body);
		rejection.is_hashed = true;
		rejection_note(&rejection);
	}
	if (count > 0)
		ereport(LOG,
				(errcode(ERRCODE_PAYMENT_WORKER),
				 errmsg(UINT64_FORMAT " webhooks were given up, as their PSP "
									  "does not say whether they are its own",
						count),
				 errhint("payment.webhook_rejection has them. Lookups and "
						 "settlement files tell what became of payments.")));
}

/* those that were asked about for the last time, or are too old */
static void
give_up(const pg_uuid_t *psp_id, int max)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, INT4OID, INT4OID, TIMESTAMPTZOID,
								  TIMESTAMPTZOID };
	TimestampTz		  now = GetCurrentTimestamp();
	Datum			  values[] = { UUIDPGetDatum(psp_id), Int32GetDatum(max),
								   Int32GetDatum(payment_webhook_verify_attempts),
								   TimestampTzGetDatum(now),
								   TimestampTzGetDatum(
									   now - (int64) payment_webhook_parking_time_s *
												 USECS_PER_SEC) };

	plan_keep(&plan,
			  "WITH old AS MATERIALIZED"
			  " (SELECT d.id FROM payment.webhook_unverified AS d"
			  " WHERE d.psp_id = $1 AND d.run_at <= $4"
			  " AND (d.tries >= $3 OR d.received_at < $5)"
			  " ORDER BY d.run_at LIMIT $2 FOR UPDATE SKIP LOCKED)"
			  " DELETE FROM payment.webhook_unverified AS u"
			  " USING payment.psp AS p, old"
			  " WHERE p.id = u.psp_id AND u.id = old.id"
			  " RETURNING p.name, u.body",
			  lengthof(types), types);
	note_given_up(order_write(plan, values, NULL, CAUSE_POLICY));
}

static void
claim(const pg_uuid_t *psp_id, int max, int lease_ms)
{
	static SPIPlanPtr plan = NULL;
	const Oid	types[] = { UUIDOID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID };
	TimestampTz now = GetCurrentTimestamp();
	Datum		values[] = {
			  UUIDPGetDatum(psp_id), Int32GetDatum(max), TimestampTzGetDatum(now),
			  TimestampTzGetDatum(TimestampTzPlusMilliseconds(now, lease_ms))
	};

	plan_keep(&plan,
			  "WITH due AS MATERIALIZED"
			  " (SELECT d.id FROM payment.webhook_unverified AS d"
			  " WHERE d.psp_id = $1 AND d.run_at <= $3"
			  " ORDER BY d.run_at LIMIT $2 FOR UPDATE SKIP LOCKED)"
			  " UPDATE payment.webhook_unverified AS u SET run_at = $4,"
			  " tries = u.tries + 1 FROM due WHERE u.id = due.id"
			  " RETURNING u.id, u.tries, u.headers::text, u.body",
			  lengthof(types), types);
	order_write(plan, values, NULL, CAUSE_POLICY);
}

/*
 * payment.claim_unverified_webhooks(psp uuid, max_webhooks integer,
 *	  lease_ms integer) -> SETOF payment.claimed_webhook
 */
Datum
payment_claim_unverified_webhooks(PG_FUNCTION_ARGS)
{
	pg_uuid_t *psp_id = uuid_argument(fcinfo, 0, "psp");
	int		   max = number_argument(fcinfo, 1, "max_webhooks", CLAIM_MAX);
	int		   lease_ms = number_argument(fcinfo, 2, "lease_ms", LEASE_MAX_MS);
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int			   nest_level;

	InitMaterializedSRF(fcinfo, 0);
	nest_level = batch_begin();
	instance_refuse();
	give_up(psp_id, max);
	claim(psp_id, max, lease_ms);
	for (uint64 row = 0; row < SPI_tuptable->numvals; row++)
	{
		Datum values[CLAIM_COLUMNS];
		bool  nulls[CLAIM_COLUMNS];

		for (int i = 0; i < CLAIM_COLUMNS; i++)
			values[i] = SPI_getbinval(SPI_tuptable->vals[row],
									  SPI_tuptable->tupdesc, i + 1, &nulls[i]);
		tuplestore_putvalues(result->setResult, result->setDesc, values,
							 nulls);
	}
	batch_end(nest_level);
	return (Datum) 0;
}

/* ---- no word from the PSP ---- */

/* 0: it is not there */
static int32
tries_of(const pg_uuid_t *id)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID };
	Datum			  values[] = { UUIDPGetDatum(id) };

	plan_keep(&plan,
			  "SELECT u.tries FROM payment.webhook_unverified AS u"
			  " WHERE u.id = $1 FOR UPDATE",
			  lengthof(types), types);
	return batch_run(plan, values, NULL) > 0 ? row_int32(0, 1) : 0;
}

static void
put_off(const pg_uuid_t *id, const char *error, int32 tries, int64 delay_ms)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, TEXTOID, INT4OID, TIMESTAMPTZOID };
	Datum			  values[] = {
					UUIDPGetDatum(id), CStringGetTextDatum(error), Int32GetDatum(tries),
					TimestampTzGetDatum(
						TimestampTzPlusMilliseconds(GetCurrentTimestamp(), delay_ms))
	};

	plan_keep(&plan,
			  "UPDATE payment.webhook_unverified SET last_error = $2,"
			  " tries = $3, run_at = $4 WHERE id = $1",
			  lengthof(types), types);
	order_write(plan, values, NULL, CAUSE_POLICY);
}

/*
 * payment.defer_webhook(webhook uuid, error text, sent boolean,
 *	  retry_after_ms bigint) -> boolean
 */
Datum
payment_defer_webhook(PG_FUNCTION_ARGS)
{
	pg_uuid_t *id = uuid_argument(fcinfo, 0, "webhook");
	char	  *error = text_argument(fcinfo, 1, "error");
	bool	   sent = PG_ARGISNULL(2) || PG_GETARG_BOOL(2);
	int64	   delay_ms = PG_ARGISNULL(3) ? 0 : PG_GETARG_INT64(3);
	int		   nest_level = batch_begin();
	int32	   tries = tries_of(id);

	if (tries > 0)
	{
		delay_ms = Min(delay_ms, LAST_DELAY_MS);
		delay_ms =
			Max(delay_ms, backoff_ms(tries, payment_webhook_verify_delay_ms,
									 LAST_DELAY_MS));
		put_off(id, error ? error : "", sent ? tries : tries - 1, delay_ms);
	}
	batch_end(nest_level);
	PG_RETURN_BOOL(tries > 0);
}
