/*-------------------------------------------------------------------------
 *
 * breaker.c
 *	  The stored state of PSPs' circuit breakers.
 *
 * The dispatcher decides when one opens and closes; it is stored so that
 * everybody can see it, so that a restart does not forget it, and so that an
 * operator can reset it.  A version keeps the two from overwriting each other.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "argument.h"
#include "errcodes.h"
#include "order/batch.h"
#include "order/plan.h"
#include "order/typed_argument.h"
#include "payment.h"

PG_FUNCTION_INFO_V1(payment_save_breaker);
PG_FUNCTION_INFO_V1(payment_reset_breaker);

#define SAVE_ARGUMENTS 7

static const char *const save_argument_names[SAVE_ARGUMENTS] = {
	"psp", "state", "since", "probe_at", "pause_ms", "reason", "version"
};

static void
pg_attribute_noreturn() refuse_psp(const char *name)
{
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_UNKNOWN_PSP),
					errmsg("PSP does not exist"),
					errdetail("There is no PSP \"%s\".", name),
					errhint("payment.register_psp() registers one.")));
}

static void
check_state(const char *state)
{
	if (strcmp(state, "closed") != 0 && strcmp(state, "open") != 0 &&
		strcmp(state, "half_open") != 0)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("invalid value for argument \"state\""),
						errdetail("It has to be closed, open or half_open.")));
}

/*
 * payment.save_breaker(psp uuid, state text, since timestamptz,
 * probe_at timestamptz, pause_ms int, reason text, version bigint) -> bigint
 */
Datum
payment_save_breaker(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr insert_plan = NULL;
	static SPIPlanPtr update_plan = NULL;
	static const Oid  types[] = { UUIDOID,		  TEXTOID, TIMESTAMPTZOID,
								  TIMESTAMPTZOID, INT4OID, TEXTOID,
								  INT8OID };
	Datum			  values[SAVE_ARGUMENTS];
	char			  nulls[SAVE_ARGUMENTS + 1] = "";
	char			 *state = text_argument(fcinfo, 1, "state");
	char			 *reason = text_argument(fcinfo, 5, "reason");
	int64			  version = 0;
	int				  nest_level;

	for (int i = 0; i < SAVE_ARGUMENTS; i++)
	{
		/* an open one has a time and a reason */
		if (i != 3 && i != 5)
			refuse_null(fcinfo, i, save_argument_names[i]);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
		values[i] = PG_GETARG_DATUM(i);
	}
	check_state(state);
	if (reason)
		values[5] = CStringGetTextDatum(reason);

	nest_level = batch_begin();
	plan_keep(&insert_plan,
			  "INSERT INTO payment.circuit_breaker AS b"
			  " SELECT p.id, $2, $3, $4, $5, $6, 1 FROM payment.psp AS p"
			  " WHERE p.id = $1 AND $7 = 0 ON CONFLICT DO NOTHING"
			  " RETURNING b.version",
			  lengthof(types), types);
	plan_keep(&update_plan,
			  "UPDATE payment.circuit_breaker AS b SET state = $2, since = $3,"
			  " probe_at = $4, pause_ms = $5, reason = $6,"
			  " version = b.version + 1 WHERE b.psp_id = $1"
			  " AND b.version = $7 RETURNING b.version",
			  lengthof(types), types);
	if (batch_run(PG_GETARG_INT64(6) == 0 ? insert_plan : update_plan, values,
				  nulls) == 1)
		version = row_int64(0, 1);
	batch_end(nest_level);
	if (version == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(version);
}

/*
 * payment.reset_breaker(psp text) -> boolean
 *
 * The row is written even when it is closed: the dispatcher may know of
 * failures, and of a pause, that are not stored.
 */
Datum
payment_reset_breaker(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr lock_plan = NULL;
	static SPIPlanPtr write_plan = NULL;
	static const Oid  types[] = { TEXTOID, TIMESTAMPTZOID };
	char			 *name = text_argument(fcinfo, 0, "psp");
	Datum			  values[2];
	bool			  was_closed;
	int				  nest_level;

	refuse_null(fcinfo, 0, "psp");
	values[0] = CStringGetTextDatum(name);
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp());

	nest_level = batch_begin();
	plan_keep(&lock_plan,
			  "SELECT b.state FROM payment.circuit_breaker AS b"
			  " JOIN payment.psp AS p ON p.id = b.psp_id WHERE p.name = $1"
			  " FOR UPDATE OF b",
			  1, types);
	plan_keep(&write_plan,
			  "INSERT INTO payment.circuit_breaker AS b (psp_id, state,"
			  " since, pause_ms, version)"
			  " SELECT p.id, 'closed', $2, 0, 1 FROM payment.psp AS p"
			  " WHERE p.name = $1"
			  " ON CONFLICT (psp_id) DO UPDATE SET state = 'closed',"
			  " since = CASE b.state WHEN 'closed' THEN b.since"
			  " ELSE excluded.since END, probe_at = NULL, pause_ms = 0,"
			  " reason = NULL, version = b.version + 1",
			  lengthof(types), types);
	was_closed = batch_run(lock_plan, values, NULL) == 0 ||
				 strcmp(row_text(0, 1), "closed") == 0;
	if (batch_run(write_plan, values, NULL) != 1)
		refuse_psp(name);
	batch_end(nest_level);
	payment_wake_dispatcher_at_commit();
	PG_RETURN_BOOL(!was_closed);
}
