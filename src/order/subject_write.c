/*-------------------------------------------------------------------------
 *
 * subject_write.c
 *	  Write a batch of orders, refunds, payouts and payments back.
 *
 * Each row is written once for each status it goes through, all rows with one
 * statement, so that the history is complete.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "order/batch.h"
#include "order/move.h"
#include "order/partial_failure.h"
#include "order/plan.h"
#include "order/settled_write.h"
#include "order/subject.h"
#include "order/volume.h"

static int
payment_compare(const void *a, const void *b)
{
	return uuid_compare(&((const PaymentState *) a)->id,
						&((const PaymentState *) b)->id);
}

PaymentState *
payment_find(const SubjectSet *set, const pg_uuid_t *id)
{
	PaymentState key = { .id = *id };

	return bsearch(&key, set->payments, set->payment_count,
				   sizeof(PaymentState), payment_compare);
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
	PaymentState	 *payment;
	int				  succeeded = (int) counts_as_succeeded(path->now) -
					(int) counts_as_succeeded(path->first);
	int failed = (int) counts_as_failed(path->now) -
				 (int) counts_as_failed(path->first);

	if (succeeded == 0 && failed == 0)
		return;
	payment = payment_find(set, &subject->payment_id);
	if (payment == NULL)
		elog(ERROR, "the payment of an order is missing");
	payment->succeeded_count += succeeded;
	payment->failed_count = Max(payment->failed_count + failed, 0);
	payment->counted = true;
	payment->recovers = payment->recovers || failed < 0;
	payment->expires = strcmp(path->now, "expired") == 0;
	payment->cancels = strcmp(path->now, "cancelled") == 0;
	payment->cause = path->steps[path->step_count - 1].cause;
}

/*
 * What was given back because its payment could not be whole is lost to it:
 * it counts as failed, so that what succeeds after all is undone, too.
 */
static void
count_given_back(SubjectSet *set)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID };
	Datum			  values[lengthof(types)];
	Column			  ids;
	uint64			  count;

	column_init(&ids, UUIDOID);
	for (int i = 0; i < set->payment_count; i++)
	{
		const PaymentState *p = &set->payments[i];

		if (p->all_or_nothing && p->recovers && p->failed_count == 0)
			column_add_uuid(&ids, &p->id);
	}
	if (ids.count == 0)
		return;
	values[0] = column_array(&ids);
	count = batch_run(plan_keep(&plan,
								"SELECT o.payment_id, count(*)::int4"
								" FROM unnest($1) AS u (id)"
								" JOIN payment.order_record AS o"
								" ON o.payment_id = u.id AND o.id > u.id"
								" WHERE o.status = 'captured'"
								" AND o.refunded_amount > 0"
								" AND o.refunded_amount + o.disputed_amount"
								" >= o.captured_amount"
								" GROUP BY o.payment_id",
								lengthof(types), types),
					  values, NULL);
	for (uint64 row = 0; row < count; row++)
	{
		pg_uuid_t	  id;
		PaymentState *payment;
		int32		  given_back = row_int32(row, 2);

		row_uuid(row, 1, &id);
		payment = payment_find(set, &id);
		payment->failed_count += given_back;
		payment->succeeded_count -= given_back;
	}
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
	if ((payment->expires || payment->cancels) && strcmp(to, "failed") == 0 &&
		status_path_step(path, OBJECT_PAYMENT,
						 payment->expires ? "expired" : "cancelled",
						 payment->cause))
		return;
	if (strcmp(to, "cancelled") == 0)
	{
		(void) status_path_step(path, OBJECT_PAYMENT, to, payment->cause);
		return;
	}
	if (strcmp(path->now, "processing") != 0 &&
		!status_path_step(path, OBJECT_PAYMENT, "processing", payment->cause))
		return;
	if (strcmp(path->now, to) != 0)
		(void) status_path_step(path, OBJECT_PAYMENT, to, payment->cause);
}

/* The payer is at the page, or has done there what there was to do. */
static void
follow_page(SubjectSet *set, const Subject *subject)
{
	const StatusPath *path = &subject->path;
	PaymentState	 *payment;
	bool			  waits = strcmp(path->now, "requires_action") == 0;

	if (path->step_count == 0 ||
		(!waits && strcmp(path->first, "requires_action") != 0))
		return;
	payment = payment_find(set, &subject->payment_id);
	if (payment && !payment->counted)
		(void) status_path_step(&payment->path, OBJECT_PAYMENT,
								waits ? "awaiting_customer" : "processing",
								path->steps[waits ? path->step_count - 1 : 0]
									.cause);
}

static bool
steps_by(const StatusPath *path, int round, TransitionCause cause)
{
	return path->step_count > round && path->steps[round].cause == cause;
}

#define ORDER_COLUMNS 17
#define ALL_COLUMNS (ORDER_COLUMNS + SETTLED_COLUMNS)

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
	settled_columns_add(&columns[ORDER_COLUMNS], s);
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
	Oid types[ALL_COLUMNS] = {
		UUIDARRAYOID,		 TEXTARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID,
		TEXTARRAYOID,		 TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID,
		TIMESTAMPTZARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT4ARRAYOID,
		INT4ARRAYOID,		 INT8ARRAYOID, BOOLARRAYOID, INT8ARRAYOID,
		INT8ARRAYOID
	};
	Column columns[ALL_COLUMNS];
	Datum  values[ALL_COLUMNS];

	for (int i = 0; i < ORDER_COLUMNS; i++)
		column_init(&columns[i], column_types[i]);
	settled_columns_init(&columns[ORDER_COLUMNS], &types[ORDER_COLUMNS]);
	for (int i = 0; i < set->count; i++)
	{
		const Subject *s = &set->subjects[i];

		if (s->object == OBJECT_PAYMENT_ORDER &&
			steps_by(&s->path, round, cause))
			add_order(columns, s, s->path.steps[round].to);
	}
	if (columns[0].count == 0)
		return;
	for (int i = 0; i < ALL_COLUMNS; i++)
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
			" captured_fee = u.captured_fee, " SETTLED_COLUMN_SET
			" FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,"
			" $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24)"
			" AS u (id, status, captured_amount,"
			" captured_at, psp_reference, failure_code, failure_message,"
			" authorized_amount, authorized_until, authorization_reference,"
			" capture_reference, capture_no, operation_no, capturing_amount,"
			" capture_final, pending_amount, captured_fee,"
			" " SETTLED_COLUMN_NAMES ")"
			" WHERE o.id = u.id",
			lengthof(types), types),
		values, NULL, cause);
}

#define WRITE_OUTGOING_SQL(table)                                      \
	"UPDATE payment." table " AS o SET status = u.status,"             \
	" psp_reference = u.psp_reference, failure_code = u.failure_code," \
	" failure_message = u.failure_message"                             \
	" FROM unnest($1, $2, $3, $4, $5) AS u (id, status,"               \
	" psp_reference, failure_code, failure_message) WHERE o.id = u.id"

/* Refunds and payouts go out, and have the same columns to say how. */
static void
write_outgoing(const SubjectSet *set, TransitionObject object, int round,
			   TransitionCause cause)
{
	static SPIPlanPtr		 plans[OBJECT_COUNT] = { NULL };
	static const char *const sql[OBJECT_COUNT] = {
		[OBJECT_REFUND] = WRITE_OUTGOING_SQL("refund_record"),
		[OBJECT_PAYOUT] = WRITE_OUTGOING_SQL("payout_record"),
		/* its name is that of the dispute */
		[OBJECT_DISPUTE_RESPONSE] =
			"UPDATE payment.dispute_response_record AS o"
			" SET status = u.status, failure_code = u.failure_code,"
			" failure_message = u.failure_message"
			" FROM unnest($1, $2, $3, $4, $5) AS u (id, status,"
			" psp_reference, failure_code, failure_message)"
			" WHERE o.id = u.id",
	};
	const Oid types[] = { UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
						  TEXTARRAYOID, TEXTARRAYOID };
	Column	  columns[lengthof(types)];
	Datum	  values[lengthof(types)];

	column_init(&columns[0], UUIDOID);
	for (int i = 1; i < (int) lengthof(types); i++)
		column_init(&columns[i], TEXTOID);
	for (int i = 0; i < set->count; i++)
	{
		const Subject *s = &set->subjects[i];

		if (s->object != object || !steps_by(&s->path, round, cause))
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
	order_write(plan_keep(&plans[object], sql[object], lengthof(types), types),
				values, NULL, cause);
}

/* what refunds and disputes change of their orders, whose statuses stay as they are */
static void
write_books(const SubjectSet *set)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
								  INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
								  INT4ARRAYOID };
	Column			  columns[lengthof(types)];
	Datum			  values[lengthof(types)];

	column_init(&columns[0], UUIDOID);
	for (int i = 1; i < (int) lengthof(types); i++)
		column_init(&columns[i], i == 6 ? INT4OID : INT8OID);
	for (int i = 0; i < set->count; i++)
	{
		const Subject *s = &set->subjects[i];

		if (!s->books_changed)
			continue;
		column_add_uuid(&columns[0], &s->id);
		column_add_int64(&columns[1], s->refunded_amount);
		column_add_int64(&columns[2], s->fee_returned);
		column_add_int64(&columns[3], s->pending_amount);
		column_add_int64(&columns[4], s->disputed_amount);
		column_add_int64(&columns[5], s->disputed_fee);
		column_add_int32(&columns[6], s->open_disputes);
	}
	if (columns[0].count == 0)
		return;
	for (int i = 0; i < (int) lengthof(types); i++)
		values[i] = column_array(&columns[i]);
	order_write(plan_keep(&plan,
						  "UPDATE payment.order_record AS o"
						  " SET refunded_amount = u.refunded,"
						  " fee_returned = u.fee, pending_amount = u.pending,"
						  " disputed_amount = u.disputed,"
						  " disputed_fee = u.disputed_fee,"
						  " open_disputes = u.open"
						  " FROM unnest($1, $2, $3, $4, $5, $6, $7)"
						  " AS u (id, refunded, fee, pending, disputed,"
						  " disputed_fee, open)"
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

/* of payments that are all or nothing the rest has to be undone, or again */
static void
note_partial_failures(const SubjectSet *set)
{
	Column payments;

	for (int i = 0; i < set->count; i++)
	{
		if (set->subjects[i].refund_failed)
			payment_find(set, &set->subjects[i].payment_id)->refund_failed =
				true;
	}
	column_init(&payments, UUIDOID);
	for (int i = 0; i < set->payment_count; i++)
	{
		const PaymentState *p = &set->payments[i];

		if (p->all_or_nothing && (p->counted || p->refund_failed) &&
			p->failed_count > 0 && p->failed_count < p->order_count)
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
	count_given_back(set);
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
			write_outgoing(set, OBJECT_REFUND, round, causes[i]);
			write_outgoing(set, OBJECT_DISPUTE_RESPONSE, round, causes[i]);
			write_outgoing(set, OBJECT_PAYOUT, round, causes[i]);
			write_payments(set, round, causes[i]);
		}
	}
	write_books(set);
	settled_write(set);
	note_partial_failures(set);
	subjects_write_moved(set);
	count_volume(set);
}
