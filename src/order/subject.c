/*-------------------------------------------------------------------------
 *
 * subject.c
 *	  The orders, payouts and payments that a batch of evidence is about.
 *
 * Each row is locked once, in the order in which everybody locks them; what
 * changes is in memory until subject_write.c writes it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "order/batch.h"
#include "order/hosted.h"
#include "order/plan.h"
#include "order/subject.h"

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
				  " p.failed_count, p.on_partial_failure,"
				  " p.payment_method"
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
		payment->hosted = strcmp(row_text(row, 7), HOSTED_PAYMENT_METHOD) == 0;
	}
}

static void
read_settled(SettledMoney *settled, uint64 row)
{
	settled->currency = row_text(row, 34);
	settled->captured_amount = row_int64(row, 35);
	settled->amount = row_int64(row, 36);
	settled->exchange_rate = row_text(row, 37);
	settled->has_psp_fee = !row_is_null(row, 38);
	settled->psp_fee = row_int64(row, 38);
	settled->exchanged_amount = row_int64(row, 39);
	settled->exchanged_for = row_int64(row, 40);
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
	subject->cancel_requested = row_time(row, 30) != 0;
	subject->disputed_amount = row_int64(row, 31);
	subject->disputed_fee = row_int64(row, 32);
	subject->open_disputes = row_int32(row, 33);
	if (object == OBJECT_PAYMENT_ORDER)
		read_settled(&subject->settled, row);
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
			" o.captured_fee, o.released_at, o.cancel_requested_at,"
			" o.disputed_amount, o.disputed_fee, o.open_disputes,"
			" o.settled_currency, o.settled_captured_amount, o.settled_amount,"
			" o.exchange_rate::text, o.psp_fee, o.exchanged_amount,"
			" o.exchanged_for"
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
			" NULL::bigint, NULL::bigint, NULL::bigint, NULL::timestamptz,"
			" NULL::timestamptz, NULL::bigint, NULL::bigint, NULL::integer"
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
				  " r.status, r.settled_currency, r.settled_amount,"
				  " r.exchange_rate::text, r.exchanged_for"
				  " FROM unnest($1) AS u (id)"
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
		subject->settled.currency = row_text(row, 16);
		subject->settled.amount = row_int64(row, 17);
		subject->settled.exchange_rate = row_text(row, 18);
		subject->settled.is_exchanged = !row_is_null(row, 19);
		subject->settled.exchanged_for = row_int64(row, 19);
	}
}

static void
lock_responses(SubjectSet *set, Datum ids)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID };
	uint64			  count;

	count = batch_run(
		plan_keep(&plan,
				  "SELECT r.id, r.dispute_id, r.psp_id, r.operation,"
				  " r.attempt_no, r.failure_code, r.failure_message, r.status"
				  " FROM unnest($1) AS u (id)"
				  " JOIN payment.dispute_response_record AS r ON r.id = u.id"
				  " ORDER BY r.id FOR NO KEY UPDATE OF r",
				  1, types),
		&ids, NULL);
	for (uint64 row = 0; row < count; row++)
	{
		Subject *subject = &set->subjects[set->count++];

		memset(subject, 0, sizeof(Subject));
		subject->object = OBJECT_DISPUTE_RESPONSE;
		row_uuid(row, 1, &subject->id);
		row_uuid(row, 2, &subject->dispute_id);
		row_uuid(row, 3, &subject->psp_id);
		subject->answers_by = row_text(row, 4);
		subject->attempt_no = row_int32(row, 5);
		subject->failure_code = row_text(row, 6);
		subject->failure_message = row_text(row, 7);
		subject->path.first = subject->path.now = row_text(row, 8);
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

/* An order may have been given a payment method of its own since. */
static void
find_hosted(SubjectSet *set)
{
	for (int i = 0; i < set->count; i++)
	{
		Subject			   *subject = &set->subjects[i];
		const PaymentState *payment = payment_find(set, &subject->payment_id);

		subject->hosted =
			payment && payment->hosted && subject->payment_method == NULL;
	}
}

void
subjects_lock(SubjectSet *set, const SubjectKey *keys, int count)
{
	SubjectKey *sorted = palloc0((Size) count * 2 * sizeof(SubjectKey));
	int			total = count;
	Column	   *orders;
	Column	   *refunds;
	Column	   *payouts;
	Column	   *responses;

	memset(set, 0, sizeof(SubjectSet));
	memcpy(sorted, keys, (Size) count * sizeof(SubjectKey));
	qsort(sorted, count, sizeof(SubjectKey), key_compare);
	lock_tasks(sorted, count);
	refunds = ids_of(OBJECT_REFUND, sorted, count);
	payouts = ids_of(OBJECT_PAYOUT, sorted, count);
	responses = ids_of(OBJECT_DISPUTE_RESPONSE, sorted, count);
	if (refunds->count > 0)
	{
		refunds = ids_copy(refunds);
		total = add_orders(sorted, count, refunds);
		payouts = ids_copy(payouts);
		responses = ids_copy(responses);
		qsort(sorted, total, sizeof(SubjectKey), key_compare);
	}
	orders = ids_of(OBJECT_PAYMENT_ORDER, sorted, total);
	set->subjects = palloc((Size) total * sizeof(Subject));

	if (orders->count > 0)
	{
		Datum order_ids = column_array(orders);

		lock_payments(set, order_ids);
		lock_objects(set, OBJECT_PAYMENT_ORDER, order_ids);
		find_hosted(set);
	}
	if (refunds->count > 0)
		lock_refunds(set, column_array(refunds));
	if (responses->count > 0)
		lock_responses(set, column_array(responses));
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

bool
status_path_step(StatusPath *path, TransitionObject object, const char *to,
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
	if (subject->object == OBJECT_DISPUTE_RESPONSE)
		return subject->answers_by;
	if (strcmp(status, "capturing") == 0)
		return OPERATION_CAPTURE;
	if (strcmp(status, "voiding") == 0)
		return OPERATION_VOID;
	/* while it is in doubt whether there is a page, nothing else was asked */
	if (strcmp(status, "registering") == 0 ||
		(strcmp(status, "unknown") == 0 && subject->hosted &&
		 subject->psp_reference == NULL && subject->authorized_amount == 0))
		return OPERATION_REGISTER;
	if (strcmp(status, "unknown") != 0 || subject->authorized_amount == 0)
		return OPERATION_PAY;
	return subject->capturing_amount > 0 ? OPERATION_CAPTURE : OPERATION_VOID;
}

bool
subject_step(Subject *subject, const char *to, TransitionCause cause)
{
	return status_path_step(&subject->path, subject->object, to, cause);
}
