/*-------------------------------------------------------------------------
 *
 * claim.c
 *	  Hand due tasks to the dispatcher.
 *
 * A claim commits before anything is sent.  Whatever happens to the
 * dispatcher then, the task falls due again when its lease runs out; and as
 * nobody knows by then whether the request went out, the PSP is asked before
 * it is sent again.
 *
 * A claim takes from four lanes (lane.c), so that no flood of one kind keeps
 * the others waiting.  Tasks are locked first and skipped when somebody else has them; evidence
 * about an object locks its task too, so that no evidence comes in between.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "errcodes.h"
#include "instance/instance.h"
#include "order/batch.h"
#include "order/evidence.h"
#include "order/lane.h"
#include "order/move.h"
#include "order/plan.h"
#include "order/transition.h"
#include "psp/psp.h"
#include "reconcile/exception.h"
#include "uuid7.h"

PG_FUNCTION_INFO_V1(payment_claim_tasks);

#define CLAIM_MAX_TASKS 10000
#define CLAIM_MAX_LEASE_MS (24 * 3600 * 1000)
#define CLAIMED_TASK_COLUMNS 19

typedef enum ClaimFate
{
	FATE_CLAIM,	 /* goes to the dispatcher */
	FATE_REMOVE, /* nothing is left to do */
	FATE_BURY	 /* only people can go on with it */
} ClaimFate;

/* a task and the object it is for */
typedef struct Claim
{
	pg_uuid_t	task_id;
	bool		payout;
	const char *operation;
	const char *step;
	pg_uuid_t	object_id;
	int32		tries;
	bool		has_lapsed; /* an earlier claim was never recorded */
	pg_uuid_t	lapsed_id;
	TimestampTz first_sent_at; /* 0: never sent */
	TimestampTz last_sent_at;
	const char *last_error;

	/* the object; status is NULL when there is none */
	const char *status;
	int32		attempt_no;
	pg_uuid_t	payment_id;
	bool		payment_created;
	int64		amount;
	const char *currency;
	const char *payer;
	const char *payment_method;
	const char *destination;
	const char *description;
	const char *psp_reference;
	bool		may_be_charged; /* at another PSP */

	ClaimFate	fate;
	const char *reason; /* of being buried */
	bool		begins; /* its first claim */
	bool		in_doubt;
	pg_uuid_t	attempt_id;
	const char *psp_key;
} Claim;

typedef struct ClaimBatch
{
	pg_uuid_t		  psp_id;
	const PspAdapter *adapter; /* NULL: none that is known */
	bool			  paused;
	int32			  max_attempts;
	int32			  key_lifetime_s;
	TimestampTz		  now;
	TimestampTz		  lease_until;
	LaneLimits		  limits;
	Claim			 *claims;
	int				  count;
} ClaimBatch;

static void
read_psp(ClaimBatch *batch)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID };
	Datum			  values[] = { UUIDPGetDatum(&batch->psp_id) };

	if (batch_run(plan_keep(&plan,
							"SELECT state, max_attempts, key_lifetime_s,"
							" adapter"
							" FROM payment.psp WHERE id = $1",
							1, types),
				  values, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_UNKNOWN_PSP),
				 errmsg("PSP does not exist"),
				 errdetail("There is no PSP %s.",
						   DatumGetCString(
							   DirectFunctionCall1(uuid_out, values[0])))));
	batch->paused = strcmp(row_text(0, 1), "active") != 0;
	batch->max_attempts = row_int32(0, 2);
	batch->key_lifetime_s = row_int32(0, 3);
	batch->adapter = psp_adapter(row_text(0, 4));
}

/* How many tasks of each lane are due; no more are counted than may be taken. */
static void
count_due_tasks(ClaimBatch *batch, int32 *due)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, TIMESTAMPTZOID, INT4ARRAYOID };
	Datum			  values[] = { UUIDPGetDatum(&batch->psp_id),
								   TimestampTzGetDatum(batch->now),
								   lane_most(&batch->limits) };

	batch_run(plan_keep(&plan,
						"SELECT (SELECT count(*)::int4 FROM (SELECT"
						" FROM payment.task AS t WHERE t.psp_id = $1"
						" AND (t.operation = 'payout') = lane.payout"
						" AND (t.step = 'lookup' OR t.tries > 0)"
						" = lane.repeated AND t.run_at <= $2"
						" AND t.dead_at IS NULL LIMIT $3[lane.number]) AS d)"
						" FROM " LANES_SQL " ORDER BY lane.number",
						3, types),
			  values, NULL);
	for (int lane = 0; lane < LANE_COUNT; lane++)
		due[lane] = row_int32(lane, 1);
}

static void
lock_due_tasks(ClaimBatch *batch, int32 max_tasks)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, TIMESTAMPTZOID, INT4ARRAYOID };
	Datum			  values[] = { UUIDPGetDatum(&batch->psp_id),
								   TimestampTzGetDatum(batch->now), (Datum) 0 };
	int32			  due[LANE_COUNT];

	count_due_tasks(batch, due);
	lane_share(due, &batch->limits, max_tasks);
	values[2] = lane_array(due);
	batch->count = (int) batch_run(
		plan_keep(&plan,
				  "SELECT d.id, d.operation, d.step, d.object_id, d.tries,"
				  " d.attempt_id, d.first_sent_at, d.last_error,"
				  " d.last_sent_at FROM " LANES_SQL ", LATERAL (SELECT t.*"
				  " FROM payment.task AS t WHERE t.psp_id = $1"
				  " AND (t.operation = 'payout') = lane.payout"
				  " AND (t.step = 'lookup' OR t.tries > 0) = lane.repeated"
				  " AND t.run_at <= $2 AND t.dead_at IS NULL"
				  " ORDER BY t.run_at LIMIT $3[lane.number]"
				  " FOR UPDATE SKIP LOCKED) AS d WHERE $3[lane.number] > 0",
				  3, types),
		values, NULL);
	batch->claims = palloc0(Max(batch->count, 1) * sizeof(Claim));
	for (int row = 0; row < batch->count; row++)
	{
		Claim *claim = &batch->claims[row];

		row_uuid(row, 1, &claim->task_id);
		claim->operation = row_text(row, 2);
		claim->payout = strcmp(claim->operation, OPERATION_PAYOUT) == 0;
		claim->step = row_text(row, 3);
		row_uuid(row, 4, &claim->object_id);
		claim->tries = row_int32(row, 5);
		claim->has_lapsed = row_uuid(row, 6, &claim->lapsed_id);
		claim->first_sent_at = row_time(row, 7);
		claim->last_error = row_text(row, 8);
		claim->last_sent_at = row_time(row, 9);
	}
}

static void
read_object(Claim *claim, uint64 row)
{
	char *payment_status;

	claim->status = row_text(row, 2);
	claim->attempt_no = row_int32(row, 3);
	claim->amount = row_int64(row, 4);
	claim->currency = row_text(row, 5);
	claim->psp_reference = row_text(row, 6);
	if (claim->payout)
	{
		claim->destination = row_text(row, 7);
		return;
	}
	(void) row_uuid(row, 7, &claim->payment_id);
	claim->description = row_text(row, 8);
	claim->payment_method = row_text(row, 9);
	payment_status = row_text(row, 10);
	claim->payer = row_text(row, 11);
	claim->payment_created = strcmp(payment_status, "created") == 0;
	claim->may_be_charged = row_bool(row, 12);
}

static void
read_objects(ClaimBatch *batch, bool payouts)
{
	static SPIPlanPtr order_plan = NULL;
	static SPIPlanPtr payout_plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, INT4ARRAYOID };
	Column			  ids;
	Column			  numbers;
	Datum			  values[2];
	uint64			  count;
	SPIPlanPtr		  plan;

	column_init(&ids, UUIDOID);
	column_init(&numbers, INT4OID);
	for (int i = 0; i < batch->count; i++)
	{
		if (batch->claims[i].payout != payouts)
			continue;
		column_add_uuid(&ids, &batch->claims[i].object_id);
		column_add_int32(&numbers, i);
	}
	if (ids.count == 0)
		return;
	values[0] = column_array(&ids);
	values[1] = column_array(&numbers);
	if (payouts)
		plan = plan_keep(
			&payout_plan,
			"SELECT u.number, o.status, o.attempt_no, o.amount, o.currency,"
			" o.psp_reference, o.destination"
			" FROM unnest($1, $2) AS u (id, number)"
			" JOIN payment.payout_record AS o ON o.id = u.id",
			2, types);
	else
		plan = plan_keep(
			&order_plan,
			"SELECT u.number, o.status, o.attempt_no, o.amount, o.currency,"
			" o.psp_reference, o.payment_id, o.description,"
			" coalesce(o.payment_method, p.payment_method), p.status, p.payer,"
			" o.attempt_no > 1 AND " MAY_BE_CHARGED(
				"o.id") " FROM unnest($1, $2) AS u (id, number)"
						" JOIN payment.order_record AS o ON o.id = u.id"
						" JOIN payment.payment_record AS p ON p.id = "
						"o.payment_id",
			2, types);
	count = batch_run(plan, values, NULL);
	for (uint64 row = 0; row < count; row++)
		read_object(&batch->claims[row_int32(row, 1)], row);
}

static bool
status_is(const Claim *claim, const char *of_order, const char *of_payout)
{
	return strcmp(claim->status, claim->payout ? of_payout : of_order) == 0;
}

/* statuses that never change by sending or asking; a decline rests */
static bool
is_over(const Claim *claim)
{
	static const char *const over[] = { "captured",	 "declined", "failed",
										"cancelled", "expired",	 "conflicted",
										"reversed",	 "voided",	 "paid",
										"returned",	 "rejected", NULL };

	for (int i = 0; over[i]; i++)
	{
		if (strcmp(claim->status, over[i]) == 0)
			return true;
	}
	return false;
}

static void
bury(Claim *claim, const char *reason)
{
	claim->fate = FATE_BURY;
	claim->reason = claim->last_error
						? psprintf("%s; %s", reason, claim->last_error)
						: reason;
}

static bool
key_is_alive(const ClaimBatch *batch, const Claim *claim)
{
	return claim->first_sent_at == 0 ||
		   batch->now - claim->first_sent_at <
			   (int64) batch->key_lifetime_s * USECS_PER_SEC;
}

/* Is there a way to ask that cannot execute anything? */
static bool
can_look_up(const ClaimBatch *batch, const Claim *claim)
{
	const PspInquiry *inquiry;

	if (batch->adapter == NULL)
		return true;
	inquiry = &batch->adapter->inquiry[claim->payout ? PSP_OPERATION_PAYOUT
													 : PSP_OPERATION_PAY];
	return inquiry->by_listing ||
		   (inquiry->by_reference && claim->psp_reference);
}

/*
 * Send or ask?  A PSP that has forgotten the key would execute it a second
 * time, so that it is asked then.  One that cannot be asked gets the same
 * request again while it remembers the key: it answers with what it did.
 * After that there is nothing left to do for a machine.
 */
static void
choose_step(const ClaimBatch *batch, Claim *claim)
{
	bool alive = key_is_alive(batch, claim);

	if (strcmp(claim->step, "send") == 0 && !alive)
		claim->step = "lookup";
	if (strcmp(claim->step, "lookup") != 0 || can_look_up(batch, claim))
		return;
	if (alive)
		claim->step = "send";
	else
	{
		claim->begins = false;
		bury(claim, "the PSP answers only a repeated request, and may have "
					"forgotten its idempotency key");
	}
}

static void
hold_back(Claim *claim)
{
	if (!claim->may_be_charged || claim->fate != FATE_CLAIM ||
		strcmp(claim->step, "send") != 0)
		return;
	claim->begins = false;
	bury(claim, "it may have been charged already: see payment.exception");
}

static void
decide(const ClaimBatch *batch, Claim *claim)
{
	if (claim->status == NULL)
	{
		bury(claim, "the object is missing");
		return;
	}
	if (is_over(claim))
	{
		claim->fate = FATE_REMOVE;
		return;
	}
	claim->begins = status_is(claim, "created", "scheduled");
	if (!claim->begins && !status_is(claim, "executing", "submitting") &&
		!status_is(claim, "pending", "in_transit") &&
		!status_is(claim, "unknown", "unknown"))
	{
		bury(claim,
			 psprintf("nothing can be sent while it is %s", claim->status));
		return;
	}

	/* It may have been sent, and it may not: ask before anything else. */
	if (claim->has_lapsed && strcmp(claim->step, "send") == 0)
	{
		claim->in_doubt = status_is(claim, "executing", "submitting");
		claim->step = "lookup";
	}
	if (claim->tries >= batch->max_attempts)
	{
		claim->begins = false;
		bury(claim, psprintf("no final answer in %d tries", claim->tries));
		return;
	}
	choose_step(batch, claim);
	hold_back(claim);
}

static int
id_compare(const void *a, const void *b)
{
	return uuid_compare(*(const pg_uuid_t *const *) a,
						*(const pg_uuid_t *const *) b);
}

typedef const pg_uuid_t *(*ClaimPick)(const Claim *claim);

/* the ids that pick finds in the batch, ascending; repeats are harmless */
static int
pick_ids(const ClaimBatch *batch, ClaimPick pick, Datum *array)
{
	const pg_uuid_t **picked =
		palloc(Max(batch->count, 1) * sizeof(pg_uuid_t *));
	Column ids;
	int	   count = 0;

	for (int i = 0; i < batch->count; i++)
	{
		const pg_uuid_t *id = pick(&batch->claims[i]);

		if (id)
			picked[count++] = id;
	}
	qsort(picked, count, sizeof(pg_uuid_t *), id_compare);
	column_init(&ids, UUIDOID);
	for (int i = 0; i < count; i++)
		column_add_uuid(&ids, picked[i]);
	*array = column_array(&ids);
	return count;
}

static const pg_uuid_t *
pick_payment(const Claim *claim)
{
	return claim->begins && !claim->payout && claim->payment_created
			   ? &claim->payment_id
			   : NULL;
}

static const pg_uuid_t *
pick_new_order(const Claim *claim)
{
	return claim->begins && !claim->payout ? &claim->object_id : NULL;
}

static const pg_uuid_t *
pick_new_payout(const Claim *claim)
{
	return claim->begins && claim->payout ? &claim->object_id : NULL;
}

static const pg_uuid_t *
pick_doubtful_order(const Claim *claim)
{
	return claim->in_doubt && !claim->payout ? &claim->object_id : NULL;
}

static const pg_uuid_t *
pick_doubtful_payout(const Claim *claim)
{
	return claim->in_doubt && claim->payout ? &claim->object_id : NULL;
}

static const pg_uuid_t *
pick_lapsed(const Claim *claim)
{
	return claim->has_lapsed ? &claim->lapsed_id : NULL;
}

static const pg_uuid_t *
pick_removed(const Claim *claim)
{
	return claim->fate == FATE_REMOVE ? &claim->task_id : NULL;
}

static const Oid id_array_type[] = { UUIDARRAYOID };

static void
begin_payments(const ClaimBatch *batch)
{
	static SPIPlanPtr plan = NULL;
	Datum			  ids;

	if (pick_ids(batch, pick_payment, &ids) == 0)
		return;
	order_write(plan_keep(&plan,
						  "UPDATE payment.payment_record AS p"
						  " SET status = 'processing'"
						  " FROM unnest($1) AS u (id)"
						  " WHERE p.id = u.id AND p.status = 'created'",
						  1, id_array_type),
				&ids, NULL, CAUSE_CLAIM);
}

/*
 * What was cancelled since it was read is not in the result, and not sent.
 */
static void
keep_begun(ClaimBatch *batch, bool payouts, uint64 rows)
{
	pg_uuid_t *begun = palloc(Max(rows, 1) * sizeof(pg_uuid_t));

	for (uint64 row = 0; row < rows; row++)
		row_uuid(row, 1, &begun[row]);
	qsort(begun, rows, sizeof(pg_uuid_t),
		  (int (*)(const void *, const void *)) uuid_compare);
	for (int i = 0; i < batch->count; i++)
	{
		Claim *claim = &batch->claims[i];

		if (!claim->begins || claim->payout != payouts)
			continue;
		if (bsearch(&claim->object_id, begun, rows, sizeof(pg_uuid_t),
					(int (*)(const void *, const void *)) uuid_compare))
			claim->attempt_no = Max(claim->attempt_no, 1);
		else
			claim->fate = FATE_REMOVE;
	}
}

static void
begin_objects(ClaimBatch *batch)
{
	static SPIPlanPtr order_plan = NULL;
	static SPIPlanPtr payout_plan = NULL;
	Datum			  ids;

	if (pick_ids(batch, pick_new_order, &ids) > 0)
		keep_begun(batch, false,
				   order_write(plan_keep(&order_plan,
										 "UPDATE payment.order_record AS o"
										 " SET status = 'executing',"
										 " attempt_no ="
										 " greatest(o.attempt_no, 1)"
										 " FROM unnest($1) AS u (id)"
										 " WHERE o.id = u.id"
										 " AND o.status = 'created'"
										 " RETURNING o.id",
										 1, id_array_type),
							   &ids, NULL, CAUSE_CLAIM));
	if (pick_ids(batch, pick_new_payout, &ids) > 0)
		keep_begun(batch, true,
				   order_write(plan_keep(&payout_plan,
										 "UPDATE payment.payout_record AS o"
										 " SET status = 'submitting',"
										 " attempt_no ="
										 " greatest(o.attempt_no, 1)"
										 " FROM unnest($1) AS u (id)"
										 " WHERE o.id = u.id"
										 " AND o.status = 'scheduled'"
										 " RETURNING o.id",
										 1, id_array_type),
							   &ids, NULL, CAUSE_CLAIM));
}

static void
doubt_objects(const ClaimBatch *batch)
{
	static SPIPlanPtr order_plan = NULL;
	static SPIPlanPtr payout_plan = NULL;
	Datum			  ids;

	if (pick_ids(batch, pick_doubtful_order, &ids) > 0)
		order_write(plan_keep(&order_plan,
							  "UPDATE payment.order_record AS o"
							  " SET status = 'unknown'"
							  " FROM unnest($1) AS u (id)"
							  " WHERE o.id = u.id"
							  " AND o.status = 'executing'",
							  1, id_array_type),
					&ids, NULL, CAUSE_LEASE);
	if (pick_ids(batch, pick_doubtful_payout, &ids) > 0)
		order_write(plan_keep(&payout_plan,
							  "UPDATE payment.payout_record AS o"
							  " SET status = 'unknown'"
							  " FROM unnest($1) AS u (id)"
							  " WHERE o.id = u.id"
							  " AND o.status = 'submitting'",
							  1, id_array_type),
					&ids, NULL, CAUSE_LEASE);
}

static void
close_lapsed_attempts(const ClaimBatch *batch)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, TIMESTAMPTZOID };
	Datum			  values[2];

	if (pick_ids(batch, pick_lapsed, &values[0]) == 0)
		return;
	values[1] = TimestampTzGetDatum(batch->now);
	order_write(plan_keep(&plan,
						  "UPDATE payment.attempt AS a SET finished_at = $2,"
						  " outcome = 'lease_expired'"
						  " FROM unnest($1) AS u (id)"
						  " WHERE a.id = u.id AND a.finished_at IS NULL",
						  2, types),
				values, NULL, CAUSE_LEASE);
}

static void
remove_tasks(const ClaimBatch *batch)
{
	static SPIPlanPtr plan = NULL;
	Datum			  ids;

	if (pick_ids(batch, pick_removed, &ids) > 0)
		batch_run(plan_keep(&plan,
							"DELETE FROM payment.task AS t"
							" USING unnest($1) AS u (id)"
							" WHERE t.id = ANY (ARRAY[u.id])",
							1, id_array_type),
				  &ids, NULL);
}

static void
bury_tasks(const ClaimBatch *batch)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
								  TIMESTAMPTZOID };
	Column			  columns[3];
	Datum			  values[4];

	column_init(&columns[0], UUIDOID);
	column_init(&columns[1], TEXTOID);
	column_init(&columns[2], TEXTOID);
	for (int i = 0; i < batch->count; i++)
	{
		const Claim *claim = &batch->claims[i];

		if (claim->fate != FATE_BURY)
			continue;
		column_add_uuid(&columns[0], &claim->task_id);
		column_add_text(&columns[1], claim->step);
		column_add_text(&columns[2], claim->reason);
	}
	if (columns[0].count == 0)
		return;
	for (int i = 0; i < 3; i++)
		values[i] = column_array(&columns[i]);
	values[3] = TimestampTzGetDatum(batch->now);
	batch_run(plan_keep(&plan,
						"UPDATE payment.task AS t SET dead_at = $4,"
						" attempt_id = NULL, step = u.step,"
						" last_error = u.reason"
						" FROM unnest($1, $2, $3) AS u (id, step, reason)"
						" WHERE t.id = ANY (ARRAY[u.id])",
						4, types),
			  values, NULL);
}

/* Where the money is, nobody knows: people have to find out. */
static void
report_unknown(const ClaimBatch *batch)
{
	for (int i = 0; i < batch->count; i++)
	{
		const Claim	   *claim = &batch->claims[i];
		ExceptionReport report = { .type = "unknown_outcome",
								   .psp_id = &batch->psp_id,
								   .order_id = &claim->object_id,
								   .currency = claim->currency,
								   .detail = claim->reason };

		if (claim->fate == FATE_BURY && claim->status &&
			(claim->in_doubt || strcmp(claim->status, "unknown") == 0))
			exception_open_unknown(&report);
	}
}

/*
 * A send and the lookups that ask after it share one key: it names what was
 * to be executed once.
 */
static void
name_attempt(Claim *claim)
{
	uuid7_generate(&claim->attempt_id);
	claim->psp_key =
		psprintf("%s:%s:%d",
				 DatumGetCString(
					 DirectFunctionCall1(uuid_out,
										 UUIDPGetDatum(&claim->object_id))),
				 claim->operation, claim->attempt_no);
}

static void
insert_attempts(const ClaimBatch *batch, Datum *values)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID,	 UUIDARRAYOID, UUIDARRAYOID,
								  TEXTARRAYOID,	 TEXTARRAYOID, INT4ARRAYOID,
								  TEXTARRAYOID,	 UUIDOID,	   TIMESTAMPTZOID,
								  TIMESTAMPTZOID };

	values[7] = UUIDPGetDatum(&batch->psp_id);
	values[8] = TimestampTzGetDatum(batch->now);
	values[9] = TimestampTzGetDatum(batch->lease_until);
	order_write(
		plan_keep(&plan,
				  "INSERT INTO payment.attempt (id, task_id, object_id,"
				  " operation, step, attempt_no, psp_key, psp_id,"
				  " claimed_at, lease_until)"
				  " SELECT u.*, $8, $9, $10"
				  " FROM unnest($1, $2, $3, $4, $5, $6, $7) AS u",
				  lengthof(types), types),
		values, NULL, CAUSE_CLAIM);
}

static void
lease_tasks(const ClaimBatch *batch, const Datum *columns)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, UUIDARRAYOID, TEXTARRAYOID,
								  TIMESTAMPTZOID, TIMESTAMPTZOID };
	Datum			  values[] = { columns[0], columns[1], columns[4],
								   TimestampTzGetDatum(batch->now),
								   TimestampTzGetDatum(batch->lease_until) };

	batch_run(plan_keep(&plan,
						"UPDATE payment.task AS t SET attempt_id = u.attempt,"
						" step = u.step, run_at = $5, tries = t.tries + 1,"
						" first_sent_at = CASE WHEN u.step = 'send'"
						" THEN coalesce(t.first_sent_at, $4)"
						" ELSE t.first_sent_at END,"
						" last_sent_at = CASE WHEN u.step = 'send'"
						" THEN $4 ELSE t.last_sent_at END"
						" FROM unnest($1, $2, $3) AS u (attempt, id, step)"
						" WHERE t.id = ANY (ARRAY[u.id])",
						5, types),
			  values, NULL);
}

static int
open_attempts(ClaimBatch *batch)
{
	Column columns[7];
	Datum  values[10];

	for (int i = 0; i < 7; i++)
		column_init(&columns[i], i < 3 ? UUIDOID : i == 5 ? INT4OID : TEXTOID);
	for (int i = 0; i < batch->count; i++)
	{
		Claim *claim = &batch->claims[i];

		if (claim->fate != FATE_CLAIM)
			continue;
		name_attempt(claim);
		column_add_uuid(&columns[0], &claim->attempt_id);
		column_add_uuid(&columns[1], &claim->task_id);
		column_add_uuid(&columns[2], &claim->object_id);
		column_add_text(&columns[3], claim->operation);
		column_add_text(&columns[4], claim->step);
		column_add_int32(&columns[5], claim->attempt_no);
		column_add_text(&columns[6], claim->psp_key);
	}
	if (columns[0].count == 0)
		return 0;
	for (int i = 0; i < 7; i++)
		values[i] = column_array(&columns[i]);
	insert_attempts(batch, values);
	lease_tasks(batch, values);
	return columns[0].count;
}

static void
put_text(Datum *values, bool *nulls, int column, const char *text)
{
	nulls[column] = text == NULL;
	if (text)
		values[column] = CStringGetTextDatum(text);
}

static void
put_claimed_task(ReturnSetInfo *rsinfo, const ClaimBatch *batch,
				 const Claim *claim)
{
	Datum		values[CLAIMED_TASK_COLUMNS] = { 0 };
	bool		nulls[CLAIMED_TASK_COLUMNS] = { false };
	bool		sends = strcmp(claim->step, "send") == 0;
	TimestampTz first_sent_at =
		claim->first_sent_at == 0 && sends ? batch->now : claim->first_sent_at;
	TimestampTz last_sent_at = sends ? batch->now : claim->last_sent_at;

	values[0] = UUIDPGetDatum(&claim->attempt_id);
	values[1] = UUIDPGetDatum(&claim->task_id);
	values[2] = UUIDPGetDatum(&batch->psp_id);
	put_text(values, nulls, 3, claim->operation);
	put_text(values, nulls, 4, claim->step);
	values[5] = UUIDPGetDatum(&claim->object_id);
	values[6] = UUIDPGetDatum(&claim->payment_id);
	nulls[6] = claim->payout;
	put_text(values, nulls, 7, claim->psp_key);
	values[8] = Int32GetDatum(claim->attempt_no);
	values[9] = Int64GetDatum(claim->amount);
	put_text(values, nulls, 10, claim->currency);
	put_text(values, nulls, 11, claim->payment_method);
	put_text(values, nulls, 12, claim->destination);
	put_text(values, nulls, 13, claim->description);
	put_text(values, nulls, 14, claim->psp_reference);
	values[15] = TimestampTzGetDatum(first_sent_at);
	nulls[15] = first_sent_at == 0;
	values[16] = TimestampTzGetDatum(last_sent_at);
	nulls[16] = last_sent_at == 0;
	put_text(values, nulls, 17, claim->payer);
	values[18] = Int32GetDatum(claim->tries + 1);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static void
claim_batch(ClaimBatch *batch, int32 max_tasks)
{
	read_psp(batch);
	if (batch->paused)
		return;
	lock_due_tasks(batch, max_tasks);
	if (batch->count == 0)
		return;
	read_objects(batch, false);
	read_objects(batch, true);
	for (int i = 0; i < batch->count; i++)
		decide(batch, &batch->claims[i]);

	begin_payments(batch);
	begin_objects(batch);
	doubt_objects(batch);
	close_lapsed_attempts(batch);
	remove_tasks(batch);
	bury_tasks(batch);
	report_unknown(batch);
	open_attempts(batch);
}

static int32
checked_argument(FunctionCallInfo fcinfo, int number, const char *name,
				 int32 maximum)
{
	int32 value = PG_ARGISNULL(number) ? 0 : PG_GETARG_INT32(number);

	if (value < 1 || value > maximum)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("invalid value for argument \"%s\"", name),
						errdetail("It has to be between 1 and %d.", maximum)));
	return value;
}

/*
 * payment.claim_tasks(psp uuid, max_tasks int, lease_ms int,
 * lane_limits int[]) -> setof payment.claimed_task
 */
Datum
payment_claim_tasks(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	ClaimBatch	   batch = { .count = 0 };
	int32		   max_tasks;
	int32		   lease_ms;
	int			   nest_level;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("argument \"psp\" must not be null")));
	batch.psp_id = *PG_GETARG_UUID_P(0);
	max_tasks = checked_argument(fcinfo, 1, "max_tasks", CLAIM_MAX_TASKS);
	lease_ms = checked_argument(fcinfo, 2, "lease_ms", CLAIM_MAX_LEASE_MS);
	lane_limits(fcinfo, 3, max_tasks, &batch.limits);
	batch.now = GetCurrentTimestamp();
	batch.lease_until = TimestampTzPlusMilliseconds(batch.now, lease_ms);

	InitMaterializedSRF(fcinfo, 0);
	nest_level = batch_begin();
	instance_refuse();
	claim_batch(&batch, max_tasks);
	for (int i = 0; i < batch.count; i++)
	{
		if (batch.claims[i].fate == FATE_CLAIM)
			put_claimed_task(rsinfo, &batch, &batch.claims[i]);
	}
	batch_end(nest_level);
	return (Datum) 0;
}
