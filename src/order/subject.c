/*-------------------------------------------------------------------------
 *
 * subject.c
 *	  The orders, payouts and payments that a batch of evidence is about.
 *
 * Each row is locked once and written once for each status it goes through,
 * all rows with one statement, so that the history is complete.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "order/batch.h"
#include "order/move.h"
#include "order/partial_failure.h"
#include "order/plan.h"
#include "order/subject.h"
#include "order/volume.h"
#include "payment.h"

static void
lock_tasks(const SubjectKey *keys, int count)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, TEXTARRAYOID };
	Column			  ids;
	Column			  operations;
	Datum			  values[2];

	column_init(&ids, UUIDOID);
	column_init(&operations, TEXTOID);
	for (int i = 0; i < count; i++)
	{
		column_add_uuid(&ids, &keys[i].id);
		column_add_text(&operations, keys[i].operation);
	}
	values[0] = column_array(&ids);
	values[1] = column_array(&operations);
	batch_run(
		plan_keep(&plan,
				  "SELECT FROM unnest($1, $2) AS u (object_id, operation)"
				  " JOIN payment.task AS t"
				  " ON t.object_id = ANY (ARRAY[u.object_id])"
				  " AND t.operation = u.operation"
				  " ORDER BY t.id::text COLLATE \"C\" FOR UPDATE OF t",
				  2, types),
		values, NULL);
}

static void
lock_payments(SubjectSet *set, Datum order_ids)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID };
	uint64			  count;

	count = batch_run(
		plan_keep(&plan,
				  "SELECT p.id, p.status, p.order_count, p.succeeded_count,"
				  " p.failed_count, p.on_partial_failure"
				  " FROM payment.payment_record AS p"
				  " WHERE p.id IN (SELECT o.payment_id"
				  " FROM unnest($1) AS u (id)"
				  " JOIN payment.order_record AS o ON o.id = u.id)"
				  " ORDER BY p.id FOR NO KEY UPDATE OF p",
				  1, types),
		&order_ids, NULL);

	set->payments = palloc0(Max(count, 1) * sizeof(PaymentState));
	set->payment_count = (int) count;
	for (uint64 row = 0; row < count; row++)
	{
		PaymentState *payment = &set->payments[row];

		row_uuid(row, 1, &payment->id);
		payment->path.first = payment->path.now = row_text(row, 2);
		payment->order_count = row_int32(row, 3);
		payment->succeeded_count = row_int32(row, 4);
		payment->failed_count = row_int32(row, 5);
		payment->all_or_nothing =
			strcmp(row_text(row, 6), "all_or_nothing") == 0;
	}
}

static void
read_subject(Subject *subject, TransitionObject object, uint64 row)
{
	memset(subject, 0, sizeof(Subject));
	subject->object = object;
	row_uuid(row, 1, &subject->id);
	(void) row_uuid(row, 2, &subject->payment_id);
	row_uuid(row, 3, &subject->seller_id);
	row_uuid(row, 4, &subject->psp_id);
	subject->amount = row_int64(row, 5);
	subject->currency = row_text(row, 6);
	subject->platform_fee = row_int64(row, 7);
	subject->captured_amount = row_int64(row, 8);
	subject->captured_before = subject->captured_amount;
	subject->captured_at = row_time(row, 9);
	subject->attempt_no = row_int32(row, 10);
	subject->psp_reference = row_text(row, 11);
	subject->failure_code = row_text(row, 12);
	subject->failure_message = row_text(row, 13);
	subject->path.first = subject->path.now = row_text(row, 14);
	subject->payment_method = row_text(row, 15);
	subject->routed = row_bool(row, 16);
	subject->authorized_amount = row_int64(row, 17);
	subject->authorized_until = row_time(row, 18);
	subject->authorization_reference = row_text(row, 19);
	subject->capture_reference = row_text(row, 20);
	subject->capture_no = row_int32(row, 21);
	subject->operation_no = row_int32(row, 22);
	subject->capturing_amount = row_int64(row, 23);
	subject->capture_final = row_bool(row, 24);
	subject->pending_amount = row_int64(row, 25);
	subject->refunded_amount = row_int64(row, 26);
	subject->fee_returned = row_int64(row, 27);
	subject->captured_fee = row_int64(row, 28);
	subject->released = row_time(row, 29) != 0;
}

static void
lock_objects(SubjectSet *set, TransitionObject object, Datum ids)
{
	static SPIPlanPtr order_plan = NULL;
	static SPIPlanPtr payout_plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID };
	SPIPlanPtr		  plan;
	uint64			  count;

	if (object == OBJECT_PAYMENT_ORDER)
		plan = plan_keep(
			&order_plan,
			"SELECT o.id, o.payment_id, o.seller_id, o.psp_id, o.amount,"
			" o.currency, o.platform_fee, o.captured_amount, o.captured_at,"
			" o.attempt_no, o.psp_reference, o.failure_code,"
			" o.failure_message, o.status, o.payment_method, o.routed,"
			" o.authorized_amount, o.authorized_until,"
			" o.authorization_reference, o.capture_reference, o.capture_no,"
			" o.operation_no, o.capturing_amount, o.capture_final,"
			" o.pending_amount, o.refunded_amount, o.fee_returned,"
			" o.captured_fee, o.released_at"
			" FROM unnest($1) AS u (id)"
			" JOIN payment.order_record AS o ON o.id = u.id"
			" ORDER BY o.id FOR NO KEY UPDATE OF o",
			1, types);
	else
		plan = plan_keep(
			&payout_plan,
			"SELECT o.id, NULL::uuid, o.seller_id, o.psp_id, o.amount,"
			" o.currency, NULL::bigint, NULL::bigint, NULL::timestamptz,"
			" o.attempt_no, o.psp_reference, o.failure_code,"
			" o.failure_message, o.status, NULL::text, false, NULL::bigint,"
			" NULL::timestamptz, NULL::text, NULL::text, NULL::integer,"
			" NULL::integer, NULL::bigint, NULL::boolean, NULL::bigint,"
			" NULL::bigint, NULL::bigint, NULL::bigint, NULL::timestamptz"
			" FROM unnest($1) AS u (id)"
			" JOIN payment.payout_record AS o ON o.id = u.id"
			" ORDER BY o.id FOR NO KEY UPDATE OF o",
			1, types);

	count = batch_run(plan, &ids, NULL);
	for (uint64 row = 0; row < count; row++)
		read_subject(&set->subjects[set->count++], object, row);
}

static void
lock_refunds(SubjectSet *set, Datum ids)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID };
	uint64			  count;

	count = batch_run(
		plan_keep(&plan,
				  "SELECT r.id, r.order_id, r.seller_id, r.psp_id, r.amount,"
				  " r.currency, r.fee_share, r.from_pending,"
				  " r.from_available, r.from_receivable, r.attempt_no,"
				  " r.psp_reference, r.failure_code, r.failure_message,"
				  " r.status FROM unnest($1) AS u (id)"
				  " JOIN payment.refund_record AS r ON r.id = u.id"
				  " ORDER BY r.id FOR NO KEY UPDATE OF r",
				  1, types),
		&ids, NULL);
	for (uint64 row = 0; row < count; row++)
	{
		Subject *subject = &set->subjects[set->count++];

		memset(subject, 0, sizeof(Subject));
		subject->object = OBJECT_REFUND;
		row_uuid(row, 1, &subject->id);
		row_uuid(row, 2, &subject->order_id);
		row_uuid(row, 3, &subject->seller_id);
		row_uuid(row, 4, &subject->psp_id);
		subject->amount = row_int64(row, 5);
		subject->currency = row_text(row, 6);
		subject->fee_share = row_int64(row, 7);
		subject->from_pending = row_int64(row, 8);
		subject->from_available = row_int64(row, 9);
		subject->from_receivable = row_int64(row, 10);
		subject->attempt_no = row_int32(row, 11);
		subject->psp_reference = row_text(row, 12);
		subject->failure_code = row_text(row, 13);
		subject->failure_message = row_text(row, 14);
		subject->path.first = subject->path.now = row_text(row, 15);
	}
}

/* With refunds come their orders; a refund never changes its order. */
static int
add_orders(SubjectKey *keys, int count, const Column *refunds)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID };
	Datum			  ids = column_array(refunds);
	uint64			  found;

	found = batch_run(plan_keep(&plan,
								"SELECT r.order_id FROM unnest($1) AS u (id)"
								" JOIN payment.refund_record AS r"
								" ON r.id = u.id",
								1, types),
					  &ids, NULL);
	for (uint64 row = 0; row < found; row++)
	{
		keys[count].object = OBJECT_PAYMENT_ORDER;
		row_uuid(row, 1, &keys[count++].id);
	}
	return count;
}

static int
key_compare(const void *a, const void *b)
{
	return uuid_compare(&((const SubjectKey *) a)->id,
						&((const SubjectKey *) b)->id);
}

static int
subject_compare(const void *a, const void *b)
{
	return uuid_compare(&((const Subject *) a)->id,
						&((const Subject *) b)->id);
}

static int
payment_compare(const void *a, const void *b)
{
	return uuid_compare(&((const PaymentState *) a)->id,
						&((const PaymentState *) b)->id);
}

/* ids of the keys' objects of one kind, each once */
static Column *
ids_of(TransitionObject object, const SubjectKey *sorted, int count)
{
	Column			*ids = palloc(sizeof(Column));
	const pg_uuid_t *last = NULL;

	column_init(ids, UUIDOID);
	for (int i = 0; i < count; i++)
	{
		if (sorted[i].object != object ||
			(last && uuid_compare(last, &sorted[i].id) == 0))
			continue;
		last = &sorted[i].id;
		column_add_uuid(ids, last);
	}
	return ids;
}

/* a column points to its ids, and those are about to be sorted anew */
static Column *
ids_copy(const Column *ids)
{
	Column *copy = palloc(sizeof(Column));

	column_init(copy, UUIDOID);
	for (int i = 0; i < ids->count; i++)
	{
		pg_uuid_t *id = palloc(sizeof(pg_uuid_t));

		*id = *DatumGetUUIDP(ids->values[i]);
		column_add_uuid(copy, id);
	}
	return copy;
}

void
subjects_lock(SubjectSet *set, const SubjectKey *keys, int count)
{
	SubjectKey *sorted = palloc0((Size) count * 2 * sizeof(SubjectKey));
	int			total = count;
	Column	   *orders;
	Column	   *refunds;
	Column	   *payouts;

	memset(set, 0, sizeof(SubjectSet));
	memcpy(sorted, keys, (Size) count * sizeof(SubjectKey));
	qsort(sorted, count, sizeof(SubjectKey), key_compare);
	lock_tasks(sorted, count);
	refunds = ids_of(OBJECT_REFUND, sorted, count);
	payouts = ids_of(OBJECT_PAYOUT, sorted, count);
	if (refunds->count > 0)
	{
		refunds = ids_copy(refunds);
		total = add_orders(sorted, count, refunds);
		payouts = ids_copy(payouts);
		qsort(sorted, total, sizeof(SubjectKey), key_compare);
	}
	orders = ids_of(OBJECT_PAYMENT_ORDER, sorted, total);
	set->subjects = palloc((Size) total * sizeof(Subject));

	if (orders->count > 0)
	{
		Datum order_ids = column_array(orders);

		lock_payments(set, order_ids);
		lock_objects(set, OBJECT_PAYMENT_ORDER, order_ids);
	}
	if (refunds->count > 0)
		lock_refunds(set, column_array(refunds));
	if (payouts->count > 0)
		lock_objects(set, OBJECT_PAYOUT, column_array(payouts));
	qsort(set->subjects, set->count, sizeof(Subject), subject_compare);
}

Subject *
subject_find(const SubjectSet *set, const pg_uuid_t *id)
{
	Subject key = { .id = *id };

	return bsearch(&key, set->subjects, set->count, sizeof(Subject),
				   subject_compare);
}

static bool
path_step(StatusPath *path, TransitionObject object, const char *to,
		  TransitionCause cause)
{
	if (!transition_is_legal(object, path->now, to, cause))
		return false;
	if (path->step_count == STATUS_PATH_MAX)
		elog(ERROR, "a status has more than %d changes at once",
			 STATUS_PATH_MAX);
	path->steps[path->step_count].to = to;
	path->steps[path->step_count].cause = cause;
	path->step_count++;
	path->now = to;
	return true;
}

const char *
subject_operation(const Subject *subject)
{
	const char *status = subject->path.now;

	if (subject->object == OBJECT_PAYOUT)
		return OPERATION_PAYOUT;
	if (subject->object == OBJECT_REFUND)
		return OPERATION_REFUND;
	if (strcmp(status, "capturing") == 0)
		return OPERATION_CAPTURE;
	if (strcmp(status, "voiding") == 0)
		return OPERATION_VOID;
	if (strcmp(status, "registering") == 0)
		return OPERATION_REGISTER;
	if (strcmp(status, "unknown") != 0 || subject->authorized_amount == 0)
		return OPERATION_PAY;
	return subject->capturing_amount > 0 ? OPERATION_CAPTURE : OPERATION_VOID;
}

bool
subject_step(Subject *subject, const char *to, TransitionCause cause)
{
	return path_step(&subject->path, subject->object, to, cause);
}

static bool
counts_as_succeeded(const char *status)
{
	return strcmp(status, "captured") == 0;
}

static bool
counts_as_failed(const char *status)
{
	return strcmp(status, "declined") == 0 || strcmp(status, "failed") == 0 ||
		   strcmp(status, "cancelled") == 0 ||
		   strcmp(status, "expired") == 0 || strcmp(status, "reversed") == 0 ||
		   strcmp(status, "voided") == 0;
}

static void
count_order(SubjectSet *set, const Subject *subject)
{
	const StatusPath *path = &subject->path;
	PaymentState	  key = { .id = subject->payment_id };
	PaymentState	 *payment;
	int				  succeeded = (int) counts_as_succeeded(path->now) -
					(int) counts_as_succeeded(path->first);
	int failed = (int) counts_as_failed(path->now) -
				 (int) counts_as_failed(path->first);

	if (succeeded == 0 && failed == 0)
		return;
	payment = bsearch(&key, set->payments, set->payment_count,
					  sizeof(PaymentState), payment_compare);
	if (payment == NULL)
		elog(ERROR, "the payment of an order is missing");
	payment->succeeded_count += succeeded;
	payment->failed_count = Max(payment->failed_count + failed, 0);
	payment->counted = true;
	payment->expires = strcmp(path->now, "expired") == 0;
	payment->cause = path->steps[path->step_count - 1].cause;
}

#define WITHDRAWAL_CAUSES (CAUSE_API | CAUSE_POLICY)

/* A payment that was over goes back to processing before it ends again. */
static void
conclude_payment(PaymentState *payment)
{
	StatusPath *path = &payment->path;
	const char *to = "processing";

	if (payment->succeeded_count + payment->failed_count >=
		payment->order_count)
	{
		if (payment->failed_count == 0)
			to = "succeeded";
		else if (payment->succeeded_count == 0)
			to = "failed";
		else
			to = "partially_succeeded";
	}
	/* nothing of it was ever sent */
	if (strcmp(path->now, "created") == 0 &&
		(payment->cause & WITHDRAWAL_CAUSES) != 0)
		to = strcmp(to, "failed") == 0 ? "cancelled" : "created";
	if (strcmp(path->now, to) == 0)
		return;
	/* nobody paid: nothing was ever processed */
	if (payment->expires && strcmp(to, "failed") == 0 &&
		path_step(path, OBJECT_PAYMENT, "expired", payment->cause))
		return;
	if (strcmp(to, "cancelled") == 0)
	{
		(void) path_step(path, OBJECT_PAYMENT, to, payment->cause);
		return;
	}
	if (strcmp(path->now, "processing") != 0 &&
		!path_step(path, OBJECT_PAYMENT, "processing", payment->cause))
		return;
	if (strcmp(path->now, to) != 0)
		(void) path_step(path, OBJECT_PAYMENT, to, payment->cause);
}

/* The payer is at the page, or has done there what there was to do. */
static void
follow_page(SubjectSet *set, const Subject *subject)
{
	const StatusPath *path = &subject->path;
	PaymentState	  key = { .id = subject->payment_id };
	PaymentState	 *payment;
	bool			  waits = strcmp(path->now, "requires_action") == 0;

	if (path->step_count == 0 ||
		(!waits && strcmp(path->first, "requires_action") != 0))
		return;
	payment = bsearch(&key, set->payments, set->payment_count,
					  sizeof(PaymentState), payment_compare);
	if (payment && !payment->counted)
		(void) path_step(&payment->path, OBJECT_PAYMENT,
						 waits ? "awaiting_customer" : "processing",
						 path->steps[path->step_count - 1].cause);
}

static bool
steps_by(const StatusPath *path, int round, TransitionCause cause)
{
	return path->step_count > round && path->steps[round].cause == cause;
}

#define ORDER_COLUMNS 17

static void
add_order(Column *columns, const Subject *s, const char *status)
{
	column_add_uuid(&columns[0], &s->id);
	column_add_text(&columns[1], status);
	column_add_int64(&columns[2], s->captured_amount);
	column_add_time(&columns[3], s->captured_at);
	column_add_text(&columns[4], s->psp_reference);
	column_add_text(&columns[5], s->failure_code);
	column_add_text(&columns[6], s->failure_message);
	column_add_int64(&columns[7], s->authorized_amount);
	column_add_time(&columns[8], s->authorized_until);
	column_add_text(&columns[9], s->authorization_reference);
	column_add_text(&columns[10], s->capture_reference);
	column_add_int32(&columns[11], s->capture_no);
	column_add_int32(&columns[12], s->operation_no);
	column_add_int64(&columns[13], s->capturing_amount);
	column_add_bool(&columns[14], s->capture_final);
	column_add_int64(&columns[15], s->pending_amount);
	column_add_int64(&columns[16], s->captured_fee);
}

static void
write_orders(SubjectSet *set, int round, TransitionCause cause)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  column_types[ORDER_COLUMNS] = {
		 UUIDOID, TEXTOID, INT8OID,		   TIMESTAMPTZOID, TEXTOID, TEXTOID,
		 TEXTOID, INT8OID, TIMESTAMPTZOID, TEXTOID,		   TEXTOID, INT4OID,
		 INT4OID, INT8OID, BOOLOID,		   INT8OID,		   INT8OID
	};
	static const Oid types[ORDER_COLUMNS] = {
		UUIDARRAYOID,		 TEXTARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID,
		TEXTARRAYOID,		 TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID,
		TIMESTAMPTZARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT4ARRAYOID,
		INT4ARRAYOID,		 INT8ARRAYOID, BOOLARRAYOID, INT8ARRAYOID,
		INT8ARRAYOID
	};
	Column columns[ORDER_COLUMNS];
	Datum  values[ORDER_COLUMNS];

	for (int i = 0; i < ORDER_COLUMNS; i++)
		column_init(&columns[i], column_types[i]);
	for (int i = 0; i < set->count; i++)
	{
		const Subject *s = &set->subjects[i];

		if (s->object == OBJECT_PAYMENT_ORDER &&
			steps_by(&s->path, round, cause))
			add_order(columns, s, s->path.steps[round].to);
	}
	if (columns[0].count == 0)
		return;
	for (int i = 0; i < ORDER_COLUMNS; i++)
		values[i] = column_array(&columns[i]);
	order_write(
		plan_keep(
			&plan,
			"UPDATE payment.order_record AS o SET status = u.status,"
			" captured_amount = u.captured_amount,"
			" captured_at = u.captured_at, psp_reference = u.psp_reference,"
			" failure_code = u.failure_code,"
			" failure_message = u.failure_message,"
			" authorized_amount = u.authorized_amount,"
			" authorized_until = u.authorized_until,"
			" authorization_reference = u.authorization_reference,"
			" capture_reference = u.capture_reference,"
			" capture_no = u.capture_no, operation_no = u.operation_no,"
			" capturing_amount = u.capturing_amount,"
			" capture_final = u.capture_final,"
			" pending_amount = u.pending_amount,"
			" captured_fee = u.captured_fee"
			" FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,"
			" $13, $14, $15, $16, $17) AS u (id, status, captured_amount,"
			" captured_at, psp_reference, failure_code, failure_message,"
			" authorized_amount, authorized_until, authorization_reference,"
			" capture_reference, capture_no, operation_no, capturing_amount,"
			" capture_final, pending_amount, captured_fee)"
			" WHERE o.id = u.id",
			lengthof(types), types),
		values, NULL, cause);
}

static void
write_payouts(SubjectSet *set, int round, TransitionCause cause)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
								  TEXTARRAYOID, TEXTARRAYOID };
	Column			  columns[lengthof(types)];
	Datum			  values[lengthof(types)];

	column_init(&columns[0], UUIDOID);
	for (int i = 1; i < (int) lengthof(types); i++)
		column_init(&columns[i], TEXTOID);
	for (int i = 0; i < set->count; i++)
	{
		Subject *s = &set->subjects[i];

		if (s->object != OBJECT_PAYOUT || !steps_by(&s->path, round, cause))
			continue;
		column_add_uuid(&columns[0], &s->id);
		column_add_text(&columns[1], s->path.steps[round].to);
		column_add_text(&columns[2], s->psp_reference);
		column_add_text(&columns[3], s->failure_code);
		column_add_text(&columns[4], s->failure_message);
	}
	if (columns[0].count == 0)
		return;
	for (int i = 0; i < (int) lengthof(types); i++)
		values[i] = column_array(&columns[i]);
	order_write(
		plan_keep(&plan,
				  "UPDATE payment.payout_record AS o SET status = u.status,"
				  " psp_reference = u.psp_reference,"
				  " failure_code = u.failure_code,"
				  " failure_message = u.failure_message"
				  " FROM unnest($1, $2, $3, $4, $5) AS u (id, status,"
				  " psp_reference, failure_code, failure_message)"
				  " WHERE o.id = u.id",
				  lengthof(types), types),
		values, NULL, cause);
}

static void
write_refunds(SubjectSet *set, int round, TransitionCause cause)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
								  TEXTARRAYOID, TEXTARRAYOID };
	Column			  columns[lengthof(types)];
	Datum			  values[lengthof(types)];

	column_init(&columns[0], UUIDOID);
	for (int i = 1; i < (int) lengthof(types); i++)
		column_init(&columns[i], TEXTOID);
	for (int i = 0; i < set->count; i++)
	{
		const Subject *s = &set->subjects[i];

		if (s->object != OBJECT_REFUND || !steps_by(&s->path, round, cause))
			continue;
		column_add_uuid(&columns[0], &s->id);
		column_add_text(&columns[1], s->path.steps[round].to);
		column_add_text(&columns[2], s->psp_reference);
		column_add_text(&columns[3], s->failure_code);
		column_add_text(&columns[4], s->failure_message);
	}
	if (columns[0].count == 0)
		return;
	for (int i = 0; i < (int) lengthof(types); i++)
		values[i] = column_array(&columns[i]);
	order_write(
		plan_keep(&plan,
				  "UPDATE payment.refund_record AS r SET status = u.status,"
				  " psp_reference = u.psp_reference,"
				  " failure_code = u.failure_code,"
				  " failure_message = u.failure_message"
				  " FROM unnest($1, $2, $3, $4, $5) AS u (id, status,"
				  " psp_reference, failure_code, failure_message)"
				  " WHERE r.id = u.id",
				  lengthof(types), types),
		values, NULL, cause);
}

/* what refunds change of their orders, whose statuses stay as they are */
static void
write_books(const SubjectSet *set)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
								  INT8ARRAYOID };
	Column			  columns[lengthof(types)];
	Datum			  values[lengthof(types)];

	column_init(&columns[0], UUIDOID);
	for (int i = 1; i < (int) lengthof(types); i++)
		column_init(&columns[i], INT8OID);
	for (int i = 0; i < set->count; i++)
	{
		const Subject *s = &set->subjects[i];

		if (!s->books_changed)
			continue;
		column_add_uuid(&columns[0], &s->id);
		column_add_int64(&columns[1], s->refunded_amount);
		column_add_int64(&columns[2], s->fee_returned);
		column_add_int64(&columns[3], s->pending_amount);
	}
	if (columns[0].count == 0)
		return;
	for (int i = 0; i < (int) lengthof(types); i++)
		values[i] = column_array(&columns[i]);
	order_write(plan_keep(&plan,
						  "UPDATE payment.order_record AS o"
						  " SET refunded_amount = u.refunded,"
						  " fee_returned = u.fee, pending_amount = u.pending"
						  " FROM unnest($1, $2, $3, $4)"
						  " AS u (id, refunded, fee, pending)"
						  " WHERE o.id = u.id",
						  lengthof(types), types),
				values, NULL, CAUSE_POLICY);
}

/* The counts go with the first write, or alone when no status changes. */
static void
write_payments(SubjectSet *set, int round, TransitionCause cause)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, TEXTARRAYOID, INT4ARRAYOID,
								  INT4ARRAYOID };
	Column			  columns[lengthof(types)];
	Datum			  values[lengthof(types)];

	column_init(&columns[0], UUIDOID);
	column_init(&columns[1], TEXTOID);
	column_init(&columns[2], INT4OID);
	column_init(&columns[3], INT4OID);
	for (int i = 0; i < set->payment_count; i++)
	{
		PaymentState *p = &set->payments[i];
		bool counts_only = round == 0 && p->counted && p->cause == cause &&
						   p->path.step_count == 0;

		if (!steps_by(&p->path, round, cause) && !counts_only)
			continue;
		column_add_uuid(&columns[0], &p->id);
		column_add_text(&columns[1],
						counts_only ? p->path.now : p->path.steps[round].to);
		column_add_int32(&columns[2], p->succeeded_count);
		column_add_int32(&columns[3], p->failed_count);
	}
	if (columns[0].count == 0)
		return;
	for (int i = 0; i < (int) lengthof(types); i++)
		values[i] = column_array(&columns[i]);
	order_write(
		plan_keep(&plan,
				  "UPDATE payment.payment_record AS p SET status = u.status,"
				  " succeeded_count = u.succeeded_count,"
				  " failed_count = u.failed_count"
				  " FROM unnest($1, $2, $3, $4) AS u (id, status,"
				  " succeeded_count, failed_count) WHERE p.id = u.id",
				  lengthof(types), types),
		values, NULL, cause);
}

/* of payments that are all or nothing the rest has to be undone */
static void
note_partial_failures(const SubjectSet *set)
{
	Column payments;

	column_init(&payments, UUIDOID);
	for (int i = 0; i < set->payment_count; i++)
	{
		const PaymentState *p = &set->payments[i];

		if (p->all_or_nothing && p->counted && p->failed_count > 0 &&
			p->failed_count < p->order_count)
			column_add_uuid(&payments, &p->id);
	}
	partial_failures_note(&payments);
}

static int
longest_path(const SubjectSet *set)
{
	int longest = 1; /* payments' counts */

	for (int i = 0; i < set->count; i++)
		longest = Max(longest, set->subjects[i].path.step_count);
	for (int i = 0; i < set->payment_count; i++)
		longest = Max(longest, set->payments[i].path.step_count);
	return longest;
}

/* for sellers whose fee depends on it */
static void
count_volume(const SubjectSet *set)
{
	Capture *captures = palloc(sizeof(Capture) * Max(set->count, 1));
	int		 count = 0;

	for (int i = 0; i < set->count; i++)
	{
		const Subject *subject = &set->subjects[i];

		if (subject->captured_amount > subject->captured_before)
			captures[count++] = (Capture){
				.seller_id = subject->seller_id,
				.currency = subject->currency,
				.amount = subject->captured_amount - subject->captured_before,
			};
	}
	volume_add(captures, count);
}

void
subjects_write(SubjectSet *set)
{
	const TransitionCause causes[] = { CAUSE_RESPONSE, CAUSE_LOOKUP,
									   CAUSE_WEBHOOK,  CAUSE_SETTLEMENT,
									   CAUSE_DECISION, CAUSE_API,
									   CAUSE_POLICY };
	int					  rounds;

	for (int i = 0; i < set->count; i++)
	{
		if (set->subjects[i].object == OBJECT_PAYMENT_ORDER)
			count_order(set, &set->subjects[i]);
	}
	for (int i = 0; i < set->payment_count; i++)
	{
		if (set->payments[i].counted)
			conclude_payment(&set->payments[i]);
	}

	for (int i = 0; i < set->count; i++)
	{
		if (set->subjects[i].object == OBJECT_PAYMENT_ORDER)
			follow_page(set, &set->subjects[i]);
	}

	rounds = longest_path(set);
	for (int round = 0; round < rounds; round++)
	{
		for (int i = 0; i < (int) lengthof(causes); i++)
		{
			write_orders(set, round, causes[i]);
			write_refunds(set, round, causes[i]);
			write_payouts(set, round, causes[i]);
			write_payments(set, round, causes[i]);
		}
	}
	write_books(set);
	note_partial_failures(set);
	subjects_write_moved(set);
	count_volume(set);
}

void
subjects_end_tasks(const SubjectKey *keys, int count)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, TEXTARRAYOID };
	Column			  ids;
	Column			  operations;
	Datum			  values[2];

	if (count == 0)
		return;
	column_init(&ids, UUIDOID);
	column_init(&operations, TEXTOID);
	for (int i = 0; i < count; i++)
	{
		column_add_uuid(&ids, &keys[i].id);
		column_add_text(&operations, keys[i].operation);
	}
	values[0] = column_array(&ids);
	values[1] = column_array(&operations);
	batch_run(plan_keep(&plan,
						"DELETE FROM payment.task AS t"
						" USING unnest($1, $2) AS u (object_id, operation)"
						" WHERE t.object_id = ANY (ARRAY[u.object_id])"
						" AND t.operation = u.operation",
						2, types),
			  values, NULL);
}

void
subjects_bury_tasks(const SubjectKey *keys, const char *const *reasons,
					int count)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
								  TIMESTAMPTZOID };
	Column			  columns[3];
	Datum			  values[4];

	if (count == 0)
		return;
	column_init(&columns[0], UUIDOID);
	column_init(&columns[1], TEXTOID);
	column_init(&columns[2], TEXTOID);
	for (int i = 0; i < count; i++)
	{
		column_add_uuid(&columns[0], &keys[i].id);
		column_add_text(&columns[1], keys[i].operation);
		column_add_text(&columns[2], reasons[i]);
	}
	for (int i = 0; i < 3; i++)
		values[i] = column_array(&columns[i]);
	values[3] = TimestampTzGetDatum(GetCurrentTimestamp());
	batch_run(plan_keep(&plan,
						"UPDATE payment.task AS t SET dead_at = $4,"
						" step = 'lookup', attempt_id = NULL,"
						" last_error = u.reason"
						" FROM unnest($1, $2, $3)"
						" AS u (object_id, operation, reason)"
						" WHERE t.object_id = ANY (ARRAY[u.object_id])"
						" AND t.operation = u.operation",
						4, types),
			  values, NULL);
}

void
subjects_revive_tasks(Datum object_ids)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, TIMESTAMPTZOID };
	Datum			  values[2];

	values[0] = object_ids;
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	if (batch_run(plan_keep(&plan,
							"UPDATE payment.task AS t SET dead_at = NULL,"
							" step = 'lookup', tries = 0,"
							" run_at = $2 + p.poll_interval_ms"
							" * interval '1 millisecond'"
							" FROM payment.psp AS p"
							" WHERE t.object_id = ANY ($1)"
							" AND t.dead_at IS NOT NULL AND p.id = t.psp_id",
							2, types),
				  values, NULL) > 0)
		payment_wake_dispatcher_at_commit();
}
