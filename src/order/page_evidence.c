/*-------------------------------------------------------------------------
 *
 * page_evidence.c
 *	  What follows from what a PSP says of its hosted page.
 *
 * A page belongs to one order, the first of its payment.  If that is the only
 * one, the page charges it, and what is said of the charge counts as for any
 * other order.  If there are several, the page charges nothing: it says what
 * the payer pays with, and from then on each order is charged by itself.
 *
 * Until then the others wait as created, without a task.  So the page is done
 * exactly once: when the stand-in for the payment method is replaced, under the
 * payment's lock, and the tasks that charge are queued with it.  Whoever says
 * it again finds the payment method known.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "order/plan.h"
#include "order/weigh.h"

/* ---- what to lock ---- */

static void
add_key(SubjectKey *keys, int *count, const pg_uuid_t *id,
		const char *operation)
{
	keys[(*count)++] = (SubjectKey){ .object = OBJECT_PAYMENT_ORDER,
									 .id = *id,
									 .operation = operation };
}

/* Whatever comes unasked may be of a charge that a page has made. */
static bool
may_be_of_page(const Evidence *evidence)
{
	return operation_is_of_page(evidence->operation) ||
		   (strcmp(evidence->operation, OPERATION_PAY) == 0 &&
			evidence->cause != CAUSE_RESPONSE &&
			evidence->cause != CAUSE_LOOKUP);
}

static uint64
find_followers(const Evidence *evidence, int count)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID };
	Datum			  ids;
	Column			  pages;

	column_init(&pages, UUIDOID);
	for (int i = 0; i < count; i++)
	{
		if (operation_is_of_page(evidence[i].operation))
			column_add_uuid(&pages, &evidence[i].object_id);
	}
	if (pages.count == 0)
		return 0;
	ids = column_array(&pages);
	return batch_run(
		plan_keep(&plan,
				  "SELECT o.id FROM unnest($1) AS u (id)"
				  " JOIN payment.order_record AS first ON first.id = u.id"
				  " JOIN payment.payment_record AS p"
				  " ON p.id = first.payment_id AND p.order_count > 1"
				  " JOIN payment.order_record AS o"
				  " ON o.payment_id = p.id AND o.id > p.id"
				  " WHERE o.id <> first.id",
				  lengthof(types), types),
		&ids, NULL);
}

SubjectKey *
page_keys(const Evidence *evidence, int count, int *key_count)
{
	uint64		followers = find_followers(evidence, count);
	SubjectKey *keys =
		palloc0(((Size) count * 3 + followers) * sizeof(SubjectKey));

	*key_count = 0;
	for (uint64 row = 0; row < followers; row++)
	{
		pg_uuid_t id;

		row_uuid(row, 1, &id);
		add_key(keys, key_count, &id, OPERATION_PAY);
	}
	for (int i = 0; i < count; i++)
	{
		keys[(*key_count)++] =
			(SubjectKey){ .object = evidence[i].object,
						  .id = evidence[i].object_id,
						  .operation = evidence[i].operation };
		if (!may_be_of_page(&evidence[i]))
			continue;
		add_key(keys, key_count, &evidence[i].object_id, OPERATION_REGISTER);
		add_key(keys, key_count, &evidence[i].object_id, OPERATION_CLOSE);
	}
	return keys;
}

/* ---- what it says ---- */

static bool
is_about_money(const Evidence *evidence)
{
	return evidence->kind == EVIDENCE_SUCCEEDED ||
		   evidence->kind == EVIDENCE_AUTHORIZED ||
		   evidence->kind == EVIDENCE_PENDING;
}

static bool
is_at_page(const Subject *subject, const Evidence *evidence)
{
	static const char *const at_page[] = { "registering", "requires_action",
										   NULL };

	return subject->object == OBJECT_PAYMENT_ORDER &&
		   status_is_one_of(subject->path.now, at_page) &&
		   evidence->kind != EVIDENCE_REQUIRES_ACTION &&
		   evidence->kind != EVIDENCE_UNKNOWN;
}

/*
 * What the payer did at the page counts once the page is known here.  A card
 * that was declined there says nothing: another one may follow, until the page
 * itself is done or has expired.
 */
static bool
leave_page(Subject *subject, Evidence *evidence)
{
	bool refused = evidence->kind == EVIDENCE_DECLINED ||
				   evidence->kind == EVIDENCE_FAILED ||
				   evidence->kind == EVIDENCE_VOIDED ||
				   evidence->kind == EVIDENCE_EXPIRED;

	if (strcmp(subject->path.now, "registering") == 0)
	{
		if (evidence->cause == CAUSE_WEBHOOK)
			evidence->effect = EVIDENCE_TOO_EARLY;
		return evidence->cause != CAUSE_WEBHOOK;
	}
	if (refused && evidence->cause == CAUSE_WEBHOOK)
		return false;
	return evidence->kind == EVIDENCE_EXPIRED ||
		   subject_step(subject, "executing", evidence->cause);
}

/*
 * An order that was to be cancelled is, now that nothing was charged; it might
 * have been until the page was done.
 */
static bool
charge(Subject *subject, const Subject *first, bool none,
	   TransitionCause cause)
{
	subject->hosted = false;
	if (none || subject->cancel_requested)
	{
		if (strcmp(subject->path.now, "created") == 0)
			cause = CAUSE_POLICY;
		(void) subject_step(subject, "cancelled", cause);
		return false;
	}
	subject->is_charged = uuid_compare(&subject->id, &first->id) == 0 ||
						  strcmp(subject->path.now, "created") == 0;
	return subject->is_charged;
}

/* Is it all or nothing, and lacks one of its orders already? */
static bool
cannot_be_whole(const SubjectSet *set, const PaymentState *payment)
{
	if (!payment->all_or_nothing)
		return false;
	for (int i = 0; i < set->count; i++)
	{
		const Subject *order = &set->subjects[i];

		if (order->object == OBJECT_PAYMENT_ORDER &&
			uuid_compare(&order->payment_id, &payment->id) == 0 &&
			order->cancel_requested)
			return true;
	}
	return payment->failed_count > 0;
}

static void
tokenized(Weighing *w, Subject *subject, Evidence *evidence)
{
	PaymentState *payment = payment_find(&w->set, &subject->payment_id);
	bool		  charges = false;
	bool		  none;

	if (payment == NULL || payment->order_count == 1)
		return; /* a page that charges has nothing else to say */
	if (strcmp(subject->path.now, "requires_action") != 0 &&
		!subject_step(subject, "requires_action", evidence->cause))
		return;
	evidence->effect = EVIDENCE_APPLIED;
	payment->hosted = false;
	payment->token = evidence->payment_method;
	none = cannot_be_whole(&w->set, payment);
	for (int i = 0; i < w->set.count; i++)
	{
		Subject *order = &w->set.subjects[i];

		if (order->object == OBJECT_PAYMENT_ORDER &&
			uuid_compare(&order->payment_id, &payment->id) == 0 &&
			charge(order, subject, none, evidence->cause))
			charges = true;
	}
	if (charges)
		(void) status_path_step(&payment->path, OBJECT_PAYMENT, "processing",
								evidence->cause);
}

bool
page_weigh(Weighing *w, Subject *subject, Evidence *evidence)
{
	const PaymentState *payment;

	if (operation_is_of_page(evidence->operation))
	{
		payment = payment_find(&w->set, &subject->payment_id);
		if (evidence->kind == EVIDENCE_TOKENIZED && subject->hosted)
			tokenized(w, subject, evidence);

		if (payment && payment->order_count > 1 && is_about_money(evidence))
		{
			weigh_report(w, subject, "duplicate", evidence, 0,
						 "The hosted page has charged the payer, instead of "
						 "keeping the payment method for the orders.");
			evidence->effect = EVIDENCE_CONTRADICTED;
			return true;
		}

		/*
		 * That a page is done is no news once its orders are on their way.  But
		 * what it took is never passed over.
		 */
		if (evidence->kind == EVIDENCE_TOKENIZED ||
			(!subject->hosted && !is_about_money(evidence)))
			return true;
	}
	return is_at_page(subject, evidence) && !leave_page(subject, evidence);
}

/*
 * Without the page the other orders cannot be paid either.
 */
void
page_follow(Weighing *w, const Subject *subject, const Evidence *evidence)
{
	static const char *const over[] = { "expired", "cancelled", "declined",
										"failed", NULL };
	const PaymentState		*payment;
	const char *to = evidence->kind == EVIDENCE_EXPIRED ? "expired" : "failed";

	if (!operation_is_of_page(evidence->operation) || !subject->hosted ||
		!status_is_one_of(subject->path.now, over))
		return;
	payment = payment_find(&w->set, &subject->payment_id);
	if (payment == NULL || payment->order_count == 1)
		return;
	for (int i = 0; i < w->set.count; i++)
	{
		Subject *order = &w->set.subjects[i];

		if (order->object != OBJECT_PAYMENT_ORDER ||
			uuid_compare(&order->payment_id, &payment->id) != 0 ||
			strcmp(order->path.now, "created") != 0 ||
			!subject_step(order, to, evidence->cause))
			continue;
		order->failure_code = evidence->failure_code;
		order->failure_message = evidence->failure_message;
	}
}

void
page_end(Weighing *w, Subject *subject, const Evidence *evidence)
{
	bool of_page = operation_is_of_page(evidence->operation);

	if (!may_be_of_page(evidence) || (!of_page && !subject->hosted) ||
		!weigh_is_settled(subject, OPERATION_REGISTER))
		return;
	subject->page_over = true;
	weigh_end_task(w, evidence, OPERATION_REGISTER);
	weigh_end_task(w, evidence, OPERATION_CLOSE);
}
