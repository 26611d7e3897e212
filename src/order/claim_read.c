/*-------------------------------------------------------------------------
 *
 * claim_read.c
 *	  Choose and lock due tasks, and read what they are for.
 *
 * A claim takes from four lanes (lane.c), so that no flood of one kind keeps
 * the others waiting.  Tasks are locked first and skipped when somebody else
 * has them; evidence about an object locks its task too, so that no evidence
 * comes in between.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "errcodes.h"
#include "order/batch.h"
#include "order/claim.h"
#include "order/evidence.h"
#include "order/hosted.h"
#include "order/move.h"
#include "order/plan.h"
#include "uuid7.h"

void
claim_read_psp(ClaimBatch *batch)
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

/* so many of each lane */
static void
lock_tasks(ClaimBatch *batch, const int32 *of_lane)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, TIMESTAMPTZOID, INT4ARRAYOID };
	Datum			  values[] = { UUIDPGetDatum(&batch->psp_id),
								   TimestampTzGetDatum(batch->now), lane_array(of_lane) };

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
		claim->operation = operation_of(row_text(row, 2));
		claim->registers =
			strcmp(claim->operation->name, OPERATION_REGISTER) == 0;
		claim->of_page = operation_is_of_page(claim->operation->name);
		claim->step = row_text(row, 3);
		row_uuid(row, 4, &claim->object_id);
		claim->tries = row_int32(row, 5);
		claim->has_lapsed = row_uuid(row, 6, &claim->lapsed_id);
		claim->first_sent_at = row_time(row, 7);
		claim->last_error = row_text(row, 8);
		claim->last_sent_at = row_time(row, 9);
	}
}

/* Did any lane fill the number that it was asked for? */
static bool
has_full_lane(const ClaimBatch *batch, const int32 *of_lane)
{
	int32 found[LANE_COUNT] = { 0 };

	for (int i = 0; i < batch->count; i++)
	{
		const Claim *claim = &batch->claims[i];
		bool repeated = strcmp(claim->step, "lookup") == 0 || claim->tries > 0;

		found[(claim->operation->object == OBJECT_PAYOUT ? 1 : 0) +
			  (repeated ? 2 : 0)]++;
	}
	for (int lane = 0; lane < LANE_COUNT; lane++)
	{
		if (found[lane] > 0 && found[lane] >= of_lane[lane])
			return true;
	}
	return false;
}

/*
 * When little is due there is nothing to share: all of it is taken, without
 * counting first.  A lane that is full may have more; those that are locked
 * by then are found again.
 */
void
claim_lock_tasks(ClaimBatch *batch, int32 max_tasks)
{
	int32 of_lane[LANE_COUNT];

	if (lane_few(of_lane, &batch->limits, max_tasks))
	{
		lock_tasks(batch, of_lane);
		if (!has_full_lane(batch, of_lane))
			return;
	}
	count_due_tasks(batch, of_lane);
	lane_share(of_lane, &batch->limits, max_tasks);
	lock_tasks(batch, of_lane);
}

static void
read_page(Claim *claim, uint64 row)
{
	claim->psp_reference = row_text(row, 19);
	claim->success_url = row_text(row, 20);
	claim->cancel_url = row_text(row, 21);
	claim->locale = row_text(row, 22);
	claim->lifetime_s = row_int32(row, 23);
	claim->setup = row_int32(row, 24) > 1;
}

static void
read_order(Claim *claim, uint64 row)
{
	const char *operation = claim->operation->name;
	int32		operation_no = row_int32(row, 12);
	char	   *payment_status = row_text(row, 10);

	(void) row_uuid(row, 7, &claim->payment_id);
	claim->description = row_text(row, 8);
	claim->payment_method = row_text(row, 9);
	claim->payer = row_text(row, 11);
	claim->payment_created = strcmp(payment_status, "created") == 0;
	if (!operation_is_follow_up(operation))
	{
		claim->capture_method = row_text(row, 13);
		claim->hosted =
			strcmp(claim->payment_method, HOSTED_PAYMENT_METHOD) == 0;
		if (claim->of_page)
			read_page(claim, row);
		return;
	}
	claim->attempt_no = operation_no;
	claim->parent_reference = row_text(row, 14);
	if (strcmp(operation, OPERATION_CAPTURE) == 0)
	{
		claim->amount = row_int64(row, 15);
		claim->final = row_bool(row, 16);
		claim->total_amount = row_int64(row, 17);
		claim->captured_amount = row_int64(row, 18);
	}
}

static void
read_object(Claim *claim, uint64 row)
{
	claim->status = row_text(row, 2);
	claim->attempt_no = row_int32(row, 3);
	claim->amount = row_int64(row, 4);
	claim->currency = row_text(row, 5);
	claim->psp_reference = row_text(row, 6);
	if (claim->operation->object == OBJECT_PAYOUT)
		claim->destination = row_text(row, 7);
	else if (claim->operation->object == OBJECT_REFUND)
	{
		(void) row_uuid(row, 7, &claim->payment_id);
		claim->parent_reference = row_text(row, 8);
		claim->reason_given = row_text(row, 9);
	}
	else if (claim->operation->object == OBJECT_DISPUTE_RESPONSE)
	{
		claim->parent_reference = claim->psp_reference;
		claim->evidence = row_text(row, 7);
	}
	else
		read_order(claim, row);
}

static const char order_query[] =
	"SELECT u.number, o.status, o.attempt_no, o.amount, o.currency,"
	" o.psp_reference, o.payment_id, o.description,"
	" coalesce(o.payment_method, p.payment_method), p.status, p.payer,"
	" o.operation_no, p.capture_method,"
	" coalesce(o.authorization_reference, o.psp_reference),"
	" o.capturing_amount, o.capture_final, o.authorized_amount,"
	" o.captured_amount, h.psp_reference, h.success_url, h.cancel_url,"
	" h.locale, h.lifetime_s, p.order_count"
	" FROM unnest($1, $2) AS u (id, number)"
	" JOIN payment.order_record AS o ON o.id = u.id"
	" JOIN payment.payment_record AS p ON p.id = o.payment_id"
	" LEFT JOIN payment.hosted_page AS h ON h.order_id = o.id";

static const char refund_query[] =
	"SELECT u.number, r.status, r.attempt_no, r.amount, r.currency,"
	" r.psp_reference, o.payment_id,"
	" coalesce(o.capture_reference, o.psp_reference), r.reason"
	" FROM unnest($1, $2) AS u (id, number)"
	" JOIN payment.refund_record AS r ON r.id = u.id"
	" JOIN payment.order_record AS o ON o.id = r.order_id";

static const char response_query[] =
	"SELECT u.number, r.status, r.attempt_no, d.amount, d.currency,"
	" d.psp_reference, r.evidence::text"
	" FROM unnest($1, $2) AS u (id, number)"
	" JOIN payment.dispute_response_record AS r ON r.id = u.id"
	" JOIN payment.dispute_record AS d ON d.id = r.dispute_id";

static const char payout_query[] =
	"SELECT u.number, o.status, o.attempt_no, o.amount, o.currency,"
	" o.psp_reference, o.destination"
	" FROM unnest($1, $2) AS u (id, number)"
	" JOIN payment.payout_record AS o ON o.id = u.id";

static void
read_objects(ClaimBatch *batch, TransitionObject object, const char *query)
{
	static SPIPlanPtr plans[OBJECT_COUNT] = { NULL };
	const Oid		  types[] = { UUIDARRAYOID, INT4ARRAYOID };
	Column			  ids;
	Column			  numbers;
	Datum			  values[2];
	uint64			  count;

	column_init(&ids, UUIDOID);
	column_init(&numbers, INT4OID);
	for (int i = 0; i < batch->count; i++)
	{
		if (batch->claims[i].operation->object != object)
			continue;
		column_add_uuid(&ids, &batch->claims[i].object_id);
		column_add_int32(&numbers, i);
	}
	if (ids.count == 0)
		return;
	values[0] = column_array(&ids);
	values[1] = column_array(&numbers);
	count =
		batch_run(plan_keep(&plans[object], query, 2, types), values, NULL);
	for (uint64 row = 0; row < count; row++)
		read_object(&batch->claims[row_int32(row, 1)], row);
}

/*
 * Was it sent, and is that forgotten?  While the PSP remembers the key it does
 * no harm to send it again.
 */
static bool
may_be_forgotten(const ClaimBatch *batch, const Claim *claim)
{
	return claim->first_sent_at == 0 &&
		   batch->now - uuid7_time(&claim->object_id) >
			   (int64) batch->key_lifetime_s * USECS_PER_SEC;
}

/*
 * Only what was tried before may have been charged at another PSP, or what
 * should have been sent long ago at this one.
 */
static void
read_charges(ClaimBatch *batch)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, INT4ARRAYOID, BOOLARRAYOID };
	Column			  ids;
	Column			  numbers;
	Column			  forgotten;
	Datum			  values[lengthof(types)];
	uint64			  count;

	column_init(&ids, UUIDOID);
	column_init(&numbers, INT4OID);
	column_init(&forgotten, BOOLOID);
	for (int i = 0; i < batch->count; i++)
	{
		const Claim *claim = &batch->claims[i];
		bool		 first = claim->attempt_no <= 1;

		if (strcmp(claim->operation->name, OPERATION_PAY) != 0 ||
			(first && !may_be_forgotten(batch, claim)))
			continue;
		column_add_uuid(&ids, &claim->object_id);
		column_add_int32(&numbers, i);
		column_add_bool(&forgotten, first);
	}
	if (ids.count == 0)
		return;
	values[0] = column_array(&ids);
	values[1] = column_array(&numbers);
	values[2] = column_array(&forgotten);
	count = batch_run(
		plan_keep(&plan,
				  "SELECT u.number FROM unnest($1, $2, $3)"
				  " AS u (id, number, forgotten)"
				  " WHERE " MAY_BE_CHARGED(
					  "u.id") " OR u.forgotten AND " SAYS_SENT("u.id"),
				  lengthof(types), types),
		values, NULL);
	for (uint64 row = 0; row < count; row++)
		batch->claims[row_int32(row, 1)].may_be_charged = true;
}

/*
 * A PSP that cannot be asked but by its own name of a payment may have given
 * that before the answer was lost that counted.  It proves nothing, so that the
 * order does not have it; but it is enough to ask.
 */
static void
read_names(ClaimBatch *batch)
{
	static SPIPlanPtr plan = NULL;
	const Oid types[] = { UUIDARRAYOID, INT4ARRAYOID, INT4ARRAYOID, UUIDOID };
	const PspInquiry *inquiry;
	Column			  columns[3];
	Datum			  values[lengthof(types)];
	uint64			  count;

	if (batch->adapter == NULL)
		return;
	inquiry = &batch->adapter->inquiry[PSP_OPERATION_PAY];
	if (inquiry->by_listing || !inquiry->by_reference)
		return;
	for (int i = 0; i < (int) lengthof(columns); i++)
		column_init(&columns[i], types[i] == UUIDARRAYOID ? UUIDOID : INT4OID);
	for (int i = 0; i < batch->count; i++)
	{
		const Claim *claim = &batch->claims[i];

		if (strcmp(claim->operation->name, OPERATION_PAY) != 0 ||
			claim->first_sent_at == 0 || claim->psp_reference)
			continue;
		column_add_uuid(&columns[0], &claim->object_id);
		column_add_int32(&columns[1], claim->attempt_no);
		column_add_int32(&columns[2], i);
	}
	if (columns[0].count == 0)
		return;
	for (int i = 0; i < (int) lengthof(columns); i++)
		values[i] = column_array(&columns[i]);
	values[3] = UUIDPGetDatum(&batch->psp_id);
	count = batch_run(plan_keep(&plan,
								"SELECT u.number, a.psp_reference"
								" FROM unnest($1, $2, $3)"
								" AS u (id, attempt_no, number)"
								" CROSS JOIN LATERAL (SELECT a.psp_reference"
								"  FROM payment.attempt AS a"
								"  WHERE a.object_id = u.id AND a.id > u.id"
								"  AND a.operation = 'pay' AND a.psp_id = $4"
								"  AND a.attempt_no = u.attempt_no"
								"  AND a.psp_reference IS NOT NULL"
								"  ORDER BY a.id DESC LIMIT 1) AS a",
								lengthof(types), types),
					  values, NULL);
	for (uint64 row = 0; row < count; row++)
		batch->claims[row_int32(row, 1)].psp_reference = row_text(row, 2);
}

void
claim_read_objects(ClaimBatch *batch)
{
	read_objects(batch, OBJECT_PAYMENT_ORDER, order_query);
	read_objects(batch, OBJECT_REFUND, refund_query);
	read_objects(batch, OBJECT_DISPUTE_RESPONSE, response_query);
	read_objects(batch, OBJECT_PAYOUT, payout_query);
	read_charges(batch);
	read_names(batch);
}
