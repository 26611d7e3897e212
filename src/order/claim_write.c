/*-------------------------------------------------------------------------
 *
 * claim_write.c
 *	  Write what was decided about a batch of due tasks.
 *
 * The tasks are locked since claim_read.c.  Then payments, orders and payouts
 * are, in the order in which everybody locks them (evidence.h); attempts are
 * written by whoever has their task.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "order/batch.h"
#include "order/claim.h"
#include "order/plan.h"
#include "order/transition.h"
#include "reconcile/exception.h"
#include "uuid7.h"

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
	return claim->begins && !claim->registers &&
				   claim->operation->object == OBJECT_PAYMENT_ORDER &&
				   claim->payment_created
			   ? &claim->payment_id
			   : NULL;
}

/* one set for each kind of object: what begins, is in doubt, is lost, or any */
#define PICK_OBJECTS(name, kind, condition)                      \
	static const pg_uuid_t *name(const Claim *claim)             \
	{                                                            \
		return (condition) && claim->operation->object == (kind) \
				   ? &claim->object_id                           \
				   : NULL;                                       \
	}
#define IS_WRITTEN (claim->begins || claim->in_doubt || claim->is_lost)

PICK_OBJECTS(pick_new_order, OBJECT_PAYMENT_ORDER,
			 claim->begins && !claim->registers)
PICK_OBJECTS(pick_new_page, OBJECT_PAYMENT_ORDER,
			 claim->begins && claim->registers)
PICK_OBJECTS(pick_doubtful_order, OBJECT_PAYMENT_ORDER, claim->in_doubt)
PICK_OBJECTS(pick_lost_order, OBJECT_PAYMENT_ORDER, claim->is_lost)
PICK_OBJECTS(pick_written_order, OBJECT_PAYMENT_ORDER, IS_WRITTEN)
PICK_OBJECTS(pick_new_refund, OBJECT_REFUND, claim->begins)
PICK_OBJECTS(pick_doubtful_refund, OBJECT_REFUND, claim->in_doubt)
PICK_OBJECTS(pick_lost_refund, OBJECT_REFUND, claim->is_lost)
PICK_OBJECTS(pick_written_refund, OBJECT_REFUND, IS_WRITTEN)
PICK_OBJECTS(pick_new_response, OBJECT_DISPUTE_RESPONSE, claim->begins)
PICK_OBJECTS(pick_doubtful_response, OBJECT_DISPUTE_RESPONSE, claim->in_doubt)
PICK_OBJECTS(pick_lost_response, OBJECT_DISPUTE_RESPONSE, claim->is_lost)
PICK_OBJECTS(pick_written_response, OBJECT_DISPUTE_RESPONSE, IS_WRITTEN)
PICK_OBJECTS(pick_new_payout, OBJECT_PAYOUT, claim->begins)
PICK_OBJECTS(pick_doubtful_payout, OBJECT_PAYOUT, claim->in_doubt)
PICK_OBJECTS(pick_lost_payout, OBJECT_PAYOUT, claim->is_lost)
PICK_OBJECTS(pick_written_payout, OBJECT_PAYOUT, IS_WRITTEN)

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
keep_begun(ClaimBatch *batch, ClaimPick pick, uint64 rows)
{
	pg_uuid_t *begun = palloc(Max(rows, 1) * sizeof(pg_uuid_t));

	for (uint64 row = 0; row < rows; row++)
		row_uuid(row, 1, &begun[row]);
	qsort(begun, rows, sizeof(pg_uuid_t),
		  (int (*)(const void *, const void *)) uuid_compare);
	for (int i = 0; i < batch->count; i++)
	{
		Claim *claim = &batch->claims[i];

		if (pick(claim) == NULL)
			continue;
		if (bsearch(&claim->object_id, begun, rows, sizeof(pg_uuid_t),
					(int (*)(const void *, const void *)) uuid_compare))
			claim->attempt_no = Max(claim->attempt_no, 1);
		else
			claim->fate = FATE_REMOVE;
	}
}

/*
 * Several statements that change rows of one table take their locks here, all
 * at once and ascending; one statement alone needs no other.
 */
static void
lock_written(SPIPlanPtr *plan, const char *sql, const ClaimBatch *batch,
			 ClaimPick doubtful, ClaimPick lost, ClaimPick written)
{
	Datum ids;

	if (pick_ids(batch, doubtful, &ids) + pick_ids(batch, lost, &ids) == 0 ||
		pick_ids(batch, written, &ids) < 2)
		return;
	batch_run(plan_keep(plan, sql, 1, id_array_type), &ids, NULL);
}

static void
become_unknown(SPIPlanPtr *plan, const char *sql, const ClaimBatch *batch,
			   ClaimPick pick, TransitionCause cause)
{
	Datum ids;

	if (pick_ids(batch, pick, &ids) > 0)
		order_write(plan_keep(plan, sql, 1, id_array_type), &ids, NULL, cause);
}

#define LOCK_SQL(table)                                            \
	"SELECT FROM unnest($1) AS u (id) JOIN payment." table " AS o" \
	" ON o.id = u.id ORDER BY o.id FOR NO KEY UPDATE OF o"
#define BEGIN_SQL(table, from, to)                         \
	"UPDATE payment." table " AS o SET status = '" to "'," \
	" attempt_no = greatest(o.attempt_no, 1)"              \
	" FROM unnest($1) AS u (id)"                           \
	" WHERE o.id = u.id AND o.status IN ('" from "') RETURNING o.id"
#define UNKNOWN_SQL(table, from)                           \
	"UPDATE payment." table " AS o SET status = 'unknown'" \
	" FROM unnest($1) AS u (id)"                           \
	" WHERE o.id = u.id AND o.status IN ('" from "')"

static void
write_orders(ClaimBatch *batch)
{
	static SPIPlanPtr plans[5] = { NULL };
	Datum			  ids;

	lock_written(&plans[0], LOCK_SQL("order_record"), batch,
				 pick_doubtful_order, pick_lost_order, pick_written_order);
	if (pick_ids(batch, pick_new_order, &ids) > 0)
		keep_begun(
			batch, pick_new_order,
			order_write(plan_keep(&plans[1],
								  BEGIN_SQL("order_record",
											"created', 'requires_action",
											"executing"),
								  1, id_array_type),
						&ids, NULL, CAUSE_CLAIM));
	if (pick_ids(batch, pick_new_page, &ids) > 0)
		keep_begun(batch, pick_new_page,
				   order_write(plan_keep(&plans[4],
										 BEGIN_SQL("order_record", "created",
												   "registering"),
										 1, id_array_type),
							   &ids, NULL, CAUSE_CLAIM));
	become_unknown(&plans[2],
				   UNKNOWN_SQL("order_record",
							   "executing', 'capturing', 'voiding',"
							   " 'registering"),
				   batch, pick_doubtful_order, CAUSE_LEASE);
	become_unknown(&plans[3],
				   UNKNOWN_SQL("order_record",
							   "pending', 'capturing', 'voiding',"
							   " 'registering"),
				   batch, pick_lost_order, CAUSE_LOOKUP);
}

/* What goes out has the same life in both tables, by names of their own. */
typedef struct Outgoing
{
	const char *lock;
	const char *begin;
	const char *doubt;
	const char *lose;
	ClaimPick	begun;
	ClaimPick	doubtful;
	ClaimPick	lost;
	ClaimPick	written;
	SPIPlanPtr	plans[4];
} Outgoing;

#define OUTGOING_SQL(table, unsent, accepted)                                 \
	.lock = LOCK_SQL(table), .begin = BEGIN_SQL(table, unsent, "submitting"), \
	.doubt = UNKNOWN_SQL(table, "submitting"),                                \
	.lose = UNKNOWN_SQL(table, accepted)

static void
write_outgoing(ClaimBatch *batch, Outgoing *what)
{
	Datum ids;

	lock_written(&what->plans[0], what->lock, batch, what->doubtful,
				 what->lost, what->written);
	if (pick_ids(batch, what->begun, &ids) > 0)
		keep_begun(batch, what->begun,
				   order_write(plan_keep(&what->plans[1], what->begin, 1,
										 id_array_type),
							   &ids, NULL, CAUSE_CLAIM));
	become_unknown(&what->plans[2], what->doubt, batch, what->doubtful,
				   CAUSE_LEASE);
	become_unknown(&what->plans[3], what->lose, batch, what->lost,
				   CAUSE_LOOKUP);
}

static void
write_refunds(ClaimBatch *batch)
{
	static Outgoing refunds = {
		OUTGOING_SQL("refund_record", "created", "pending', 'requires_action"),
		.begun = pick_new_refund,
		.doubtful = pick_doubtful_refund,
		.lost = pick_lost_refund,
		.written = pick_written_refund,
	};

	write_outgoing(batch, &refunds);
}

/* None of them is accepted before it is done: none is lost. */
static void
write_responses(ClaimBatch *batch)
{
	static Outgoing responses = {
		OUTGOING_SQL("dispute_response_record", "created", "none"),
		.begun = pick_new_response,
		.doubtful = pick_doubtful_response,
		.lost = pick_lost_response,
		.written = pick_written_response,
	};

	write_outgoing(batch, &responses);
}

static void
write_payouts(ClaimBatch *batch)
{
	static Outgoing payouts = {
		OUTGOING_SQL("payout_record", "scheduled", "in_transit"),
		.begun = pick_new_payout,
		.doubtful = pick_doubtful_payout,
		.lost = pick_lost_payout,
		.written = pick_written_payout,
	};

	write_outgoing(batch, &payouts);
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
			(claim->in_doubt || claim->is_lost ||
			 strcmp(claim->status, "unknown") == 0))
			exception_open_unknown(&report);
	}
}

void
claim_write(ClaimBatch *batch)
{
	begin_payments(batch);
	write_orders(batch);
	write_refunds(batch);
	write_responses(batch);
	write_payouts(batch);
	close_lapsed_attempts(batch);
	remove_tasks(batch);
	bury_tasks(batch);
	report_unknown(batch);
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
				 claim->operation->name, claim->attempt_no);
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

void
claim_open_attempts(const ClaimBatch *batch)
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
		column_add_text(&columns[3], claim->operation->name);
		column_add_text(&columns[4], claim->step);
		column_add_int32(&columns[5], claim->attempt_no);
		column_add_text(&columns[6], claim->psp_key);
	}
	if (columns[0].count == 0)
		return;
	for (int i = 0; i < 7; i++)
		values[i] = column_array(&columns[i]);
	insert_attempts(batch, values);
	lease_tasks(batch, values);
}
