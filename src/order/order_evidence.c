/*-------------------------------------------------------------------------
 *
 * order_evidence.c
 *	  What follows for an order from what its PSP says.
 *
 * An order is paid at once, or authorised first and then captured, in one part
 * or several, or voided.  A PSP that speaks of the payment tells what was
 * captured of it in all; the answer to a capture may tell of that one alone
 * (evidence.h).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "order/exchange.h"
#include "order/fee_share.h"
#include "order/plan.h"
#include "order/weigh.h"
#include "order/withdraw.h"

static const char *const given_up[] = { "declined", "failed", "cancelled",
										"expired",	"voided", NULL };

/* where an authorisation is that nothing is being done to */
static const char *
resting_status(const Subject *subject)
{
	return subject->captured_amount > 0 ? "partially_captured" : "authorized";
}

/*
 * Was the capture of that number, or of that name, accepted by the PSP?  What
 * became of it has been weighed then.
 */
static bool
capture_is_known(const Subject *subject, const Evidence *evidence)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, INT4OID, TEXTOID };
	Datum			  values[] = { UUIDPGetDatum(&subject->id),
								   Int32GetDatum(evidence->attempt_no), (Datum) 0 };
	char nulls[] = { ' ', ' ', evidence->psp_reference ? ' ' : 'n' };

	if (evidence->psp_reference)
		values[2] = CStringGetTextDatum(evidence->psp_reference);
	return batch_run(plan_keep(&plan,
							   "SELECT FROM payment.attempt AS a"
							   " WHERE a.object_id = $1 AND a.id > $1"
							   " AND a.operation = 'capture'"
							   " AND a.outcome IN ('succeeded', 'pending')"
							   " AND (a.attempt_no = $2"
							   " OR a.psp_reference = $3) LIMIT 1",
							   lengthof(types), types),
					 values, nulls) > 0;
}

/*
 * Was it booked by what the PSP told of the whole payment, which may come
 * before the answer to the capture?  From its first claim until the next
 * operation's, whatever was captured is this capture, unless it was refused.
 */
static bool
capture_is_booked(const Subject *subject, const Evidence *evidence)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, INT4OID, INT8OID };
	Datum			  values[] = { UUIDPGetDatum(&subject->id),
								   Int32GetDatum(evidence->attempt_no),
								   Int64GetDatum(evidence->amount) };

	if (strcmp(evidence->currency, subject->currency) != 0)
		return false;
	return batch_run(
			   plan_keep(
				   &plan,
				   "SELECT FROM payment.journal AS j WHERE j.subject = $1"
				   " AND j.kind = 'capture' AND j.id > (SELECT a.id"
				   "  FROM payment.attempt AS a WHERE a.object_id = $1"
				   "  AND a.id > $1 AND a.operation = 'capture'"
				   "  AND a.attempt_no = $2 ORDER BY a.id LIMIT 1)"
				   " AND NOT EXISTS (SELECT FROM payment.attempt AS a"
				   "  WHERE a.object_id = $1 AND a.id > $1"
				   "  AND (a.operation IN ('capture', 'void')"
				   "  AND a.attempt_no > $2 AND a.id < j.id"
				   "  OR a.operation = 'capture' AND a.attempt_no = $2"
				   "  AND a.outcome IN ('declined', 'failed')))"
				   " AND (SELECT sum(e.amount) FROM payment.entry AS e"
				   "  WHERE e.journal_id = j.id AND e.amount > 0) = $3"
				   " LIMIT 1",
				   lengthof(types), types),
			   values, NULL) > 0;
}

/* Is it to be booked at the end of this very batch? */
static bool
capture_is_weighed(const Weighing *w, const Subject *subject,
				   const Evidence *evidence)
{
	if (evidence->attempt_no != subject->operation_no ||
		strcmp(evidence->currency, subject->currency) != 0)
		return false;
	for (int i = 0; i < w->posting_count; i++)
	{
		const Posting *posting = &w->postings[i];

		if (strcmp(posting->kind, "capture") == 0 &&
			uuid_compare(&posting->subject, &subject->id) == 0 &&
			posting->legs[0].amount == evidence->amount)
			return true;
	}
	return false;
}

static bool
is_under_way(const Subject *subject, const Evidence *evidence)
{
	return strcmp(subject_operation(subject), evidence->operation) == 0 &&
		   (evidence->attempt_no == 0 ||
			!operation_is_follow_up(evidence->operation) ||
			evidence->attempt_no == subject->operation_no);
}

/* ---- money came ---- */

/* The fee of all captures together is rounded, so that they leave no residue. */
static void
capture(Weighing *w, Subject *subject, Evidence *evidence, int64 amount,
		bool final)
{
	const char *to = final ? "captured" : "partially_captured";
	Posting	   *posting;
	int64		fee;

	if (!transition_is_legal(OBJECT_PAYMENT_ORDER, subject->path.now, to,
							 evidence->cause))
	{
		weigh_contradict(w, subject, evidence, "amount",
						 subject->captured_amount,
						 psprintf("The PSP has captured more of it while it "
								  "was %s here.",
								  subject->path.now));
		return;
	}
	weigh_step(subject, to, evidence);
	fee = fee_captured(subject->platform_fee,
					   subject->captured_amount + amount, subject->amount) -
		  subject->captured_fee;
	subject->captured_amount += amount;
	subject->captured_at = GetCurrentTimestamp();
	subject->captured_fee += fee;
	subject->pending_amount += amount - fee;
	subject->capturing_amount = 0;
	if (evidence->child_reference)
		subject->capture_reference = evidence->child_reference;

	posting = weigh_posting(w, subject, "capture");
	weigh_leg(posting, ACCOUNT_PSP_RECEIVABLE, &subject->psp_id, amount);
	weigh_leg(posting, ACCOUNT_SELLER_PENDING, &subject->seller_id,
			  -(amount - fee));
	weigh_leg(posting, ACCOUNT_PLATFORM_FEE, NULL, -fee);
	exchange_captured(w, subject, evidence, amount);
}

/* this one capture, as it was asked for */
static void
capture_asked(Weighing *w, Subject *subject, Evidence *evidence,
			  int64 expected)
{
	const char *detail;
	const char *type = weigh_difference(subject, evidence, expected, &detail);

	if (type)
		weigh_contradict(w, subject, evidence, type, expected, detail);
	else
		capture(w, subject, evidence, subject->capturing_amount,
				subject->capture_final ||
					subject->captured_amount + subject->capturing_amount ==
						subject->authorized_amount);
}

static void
report_late(Weighing *w, const Subject *subject, const Evidence *evidence)
{
	weigh_report(w, subject, "late_success", evidence, 0,
				 psprintf("The payer was charged although the order was %s.",
						  subject->path.now));
	w->reports[w->report_count - 1].in_ledger = true;
}

/* Was this charge decided about, when its money differed? */
static bool
was_set_aside(const Subject *subject, const Evidence *evidence)
{
	return strcmp(subject->path.now, "failed") == 0 && subject->failure_code &&
		   strcmp(subject->failure_code, "decision") == 0 &&
		   evidence->psp_reference && subject->psp_reference &&
		   strcmp(evidence->psp_reference, subject->psp_reference) == 0;
}

/*
 * What was captured in all of an order that was authorised: what is known, what
 * is under way, or more than that, captured by hand at the PSP.
 */
static void
captured_in_all(Weighing *w, Subject *subject, Evidence *evidence)
{
	const char *detail;
	bool		capturing =
		strcmp(subject_operation(subject), OPERATION_CAPTURE) == 0;
	bool gone = status_is_one_of(subject->path.now, given_up);

	if (weigh_difference(subject, evidence, subject->captured_amount,
						 &detail) == NULL)
		exchange_told_again(w, subject, evidence);
	else if (capturing)
		capture_asked(w, subject, evidence,
					  subject->captured_amount + subject->capturing_amount);
	else if (strcmp(subject->currency, evidence->currency) != 0)
		weigh_contradict(w, subject, evidence, "currency",
						 subject->captured_amount, detail);
	else if (evidence->amount < subject->captured_amount ||
			 evidence->amount > subject->authorized_amount)
		weigh_contradict(w, subject, evidence, "amount",
						 subject->captured_amount, detail);
	else
	{
		if (gone)
			report_late(w, subject, evidence);
		capture(w, subject, evidence,
				evidence->amount - subject->captured_amount,
				gone || evidence->amount == subject->authorized_amount);
	}
}

/*
 * A capture that is not under way any more: known as one that succeeded, or
 * money that nobody here counts.
 */
static void
captured_late(Weighing *w, Subject *subject, Evidence *evidence)
{
	if (capture_is_known(subject, evidence) ||
		capture_is_booked(subject, evidence) ||
		capture_is_weighed(w, subject, evidence))
		exchange_told_again(w, subject, evidence);
	else
		weigh_contradict(w, subject, evidence, "late_success",
						 subject->captured_amount,
						 "The PSP reports a capture that was not under way "
						 "here.");
}

/*
 * People are at it, or have decided: they hear what is new.  A second charge
 * adds to the first; another word about the same one replaces the last, and
 * what is right now may have been wrong before.
 */
static void
hear_more(Weighing *w, Subject *subject, Evidence *evidence)
{
	const char *detail;
	const char *type =
		weigh_difference(subject, evidence, subject->amount, &detail);

	if (evidence->psp_reference && subject->psp_reference &&
		strcmp(evidence->psp_reference, subject->psp_reference) != 0)
	{
		weigh_report(w, subject, "duplicate", evidence, 0,
					 psprintf("It is in doubt as \"%s\" and succeeds again "
							  "as \"%s\".",
							  subject->psp_reference,
							  evidence->psp_reference));
		evidence->effect = EVIDENCE_CONTRADICTED;
	}
	else if (type)
		weigh_report(w, subject, type, evidence, subject->amount, detail);
	else if (subject->failure_code &&
			 strcmp(subject->failure_code, "amount") == 0)
		weigh_report(w, subject, "amount", evidence, subject->amount,
					 psprintf("The PSP reports " INT64_FORMAT
							  " %s, as were asked for (minor units).",
							  evidence->amount, evidence->currency));
}

static void
order_paid(Weighing *w, Subject *subject, Evidence *evidence)
{
	const char *status = subject->path.now;
	const char *detail;
	const char *type =
		weigh_difference(subject, evidence, subject->amount, &detail);

	if (strcmp(status, "conflicted") == 0 ||
		(type && was_set_aside(subject, evidence)))
		hear_more(w, subject, evidence);
	else if (!transition_is_legal(OBJECT_PAYMENT_ORDER, status, "captured",
								  evidence->cause))
		evidence->effect = EVIDENCE_TOO_EARLY;
	else if (type)
		weigh_contradict(w, subject, evidence, type, subject->amount, detail);
	else
	{
		if (status_is_one_of(status, given_up))
			report_late(w, subject, evidence);
		capture(w, subject, evidence, subject->amount, true);
	}
}

static void
order_succeeded(Weighing *w, Subject *subject, Evidence *evidence)
{
	static const char *const done[] = { "captured", "reversed", NULL };
	bool capture = strcmp(evidence->operation, OPERATION_CAPTURE) == 0;

	if (capture && !evidence->is_total)
	{
		if (is_under_way(subject, evidence))
			capture_asked(w, subject, evidence, subject->capturing_amount);
		else
			captured_late(w, subject, evidence);
	}
	else if (status_is_one_of(subject->path.now, done))
	{
		weigh_repeat(w, subject, evidence, subject->captured_amount);
		exchange_told_again(w, subject, evidence);
	}
	else if (subject->authorized_amount > 0)
		captured_in_all(w, subject, evidence);
	else
		order_paid(w, subject, evidence);
}

/* ---- money was reserved, or is free again ---- */

static void
order_authorized(Weighing *w, Subject *subject, Evidence *evidence)
{
	const char *detail;
	const char *type =
		weigh_difference(subject, evidence, subject->amount, &detail);

	if (subject->authorized_amount > 0 || subject->captured_amount > 0)
		return;
	if (status_is_one_of(subject->path.now, given_up))
	{
		weigh_report(w, subject, "status", evidence, 0,
					 psprintf("The payer's money is reserved although the "
							  "order is %s.",
							  subject->path.now));
		evidence->effect = EVIDENCE_CONTRADICTED;
	}
	else if (type)
		weigh_contradict(w, subject, evidence, type, subject->amount, detail);
	else
	{
		weigh_step(subject, "authorized", evidence);
		if (evidence->effect != EVIDENCE_APPLIED)
			return;
		subject->authorized_amount = evidence->amount;
		subject->authorized_until = evidence->authorized_until;
		subject->authorization_reference = evidence->child_reference;
		/* it was to be cancelled while the payer was at the page */
		if (subject->cancel_requested &&
			performs(&subject->psp_id, OPERATION_VOID) &&
			order_begin_void(subject, CAUSE_POLICY))
			task_queue(&subject->psp_id, OPERATION_VOID, &subject->id);
	}
}

static void
not_executed(Subject *subject, const char *to, Evidence *evidence)
{
	weigh_step(subject, to, evidence);
	if (evidence->effect != EVIDENCE_APPLIED)
		return;
	subject->capturing_amount = 0;
	subject->failure_code = evidence->failure_code;
	subject->failure_message = evidence->failure_message;
}

/* What is left of the authorisation is gone: what was captured stays. */
static void
order_gone(Subject *subject, Evidence *evidence)
{
	const char *to = evidence->kind == EVIDENCE_VOIDED ? "voided" : "expired";

	/* it was the page, and nobody had paid */
	if (strcmp(subject->path.now, "requires_action") == 0)
		to = subject->cancel_requested ? "cancelled" : "expired";
	else if (subject->authorized_amount == 0)
		to = "failed"; /* it was never there */
	else if (subject->captured_amount > 0)
		to = "captured";
	if (strcmp(subject->path.now, to) != 0)
		not_executed(subject, to, evidence);
}

static void
order_refused(Weighing *w, Subject *subject, Evidence *evidence)
{
	if (operation_is_follow_up(evidence->operation))
	{
		if (is_under_way(subject, evidence))
			not_executed(subject, resting_status(subject), evidence);
	}
	else if (subject->authorized_amount > 0)
		return; /* that came before */
	else if (!order_fail_over(w, subject, evidence) &&
			 !weigh_takes_back(w, subject, evidence))
		not_executed(subject,
					 evidence->kind == EVIDENCE_DECLINED ? "declined"
														 : "failed",
					 evidence);
}

/* accepted: a capture or void has no status of its own for that */
static void
order_pending(Subject *subject, Evidence *evidence)
{
	if (!operation_is_follow_up(evidence->operation))
		weigh_step(subject, "pending", evidence);
	else if (is_under_way(subject, evidence))
		weigh_step(subject, operation_of(evidence->operation)->sent, evidence);
}

void
order_weigh(Weighing *w, Subject *subject, Evidence *evidence)
{
	switch (evidence->kind)
	{
		case EVIDENCE_SUCCEEDED:
			order_succeeded(w, subject, evidence);
			break;
		case EVIDENCE_AUTHORIZED:
			order_authorized(w, subject, evidence);
			break;
		case EVIDENCE_VOIDED:
		case EVIDENCE_EXPIRED:
			order_gone(subject, evidence);
			break;
		case EVIDENCE_PENDING:
			order_pending(subject, evidence);
			break;
		case EVIDENCE_DECLINED:
		case EVIDENCE_FAILED:
			order_refused(w, subject, evidence);
			break;
		case EVIDENCE_REQUIRES_ACTION:
			weigh_step(subject, "requires_action", evidence);
			break;
		case EVIDENCE_TOKENIZED: /* see page_evidence.c */
		case EVIDENCE_UNKNOWN:
		case EVIDENCE_NOTHING:
			break;
	}
}

/* ---- other PSPs ---- */

/*
 * The order goes on to the next PSP at once: nobody sees it fail.  What it was
 * refused for is in its attempt.
 */
bool
order_fail_over(const Weighing *w, Subject *subject, Evidence *evidence)
{
	const NextPsp *next;

	if (evidence->failover == FAILOVER_NEVER || subject->moved ||
		strcmp(subject->path.now, "executing") != 0 ||
		evidence->attempt_no != subject->attempt_no)
		return false;
	next = failover_of(w->nexts, w->next_count, &subject->id);
	if (next == NULL)
		return false;
	subject_move(subject, &next->psp_id, next->payment_method, true);
	evidence->effect = EVIDENCE_APPLIED;
	return true;
}

/*
 * A PSP that the order has left.  That it did not execute it is why the order
 * left.  That it did all the same is money that came twice or is about to: it
 * is people's to give back, nothing is posted, and nothing more is sent.  What
 * it has reserved only, they free.
 */
void
order_weigh_left(Weighing *w, Subject *subject, Evidence *evidence)
{
	const char *status = subject->path.now;
	const char *name = evidence->psp_reference ? evidence->psp_reference : "";
	bool		twice = subject->captured_at != 0;
	ExceptionReport *r;

	if (evidence->kind == EVIDENCE_AUTHORIZED)
	{
		weigh_report(w, subject, "status", evidence, 0,
					 psprintf("The payer's money is reserved as \"%s\" by a "
							  "PSP that the order has left: void it there. "
							  "Meanwhile the order is %s at another one.",
							  name, status));
		evidence->effect = EVIDENCE_CONTRADICTED;
	}
	if (evidence->kind != EVIDENCE_SUCCEEDED)
		return;
	weigh_report(
		w, subject, twice ? "duplicate" : "late_success", evidence, 0,
		psprintf("Charged as \"%s\" by a PSP that had not executed it; "
				 "meanwhile the order is %s at another one.",
				 name, status));
	r = &w->reports[w->report_count - 1];
	r->has_amounts = !weigh_has_foreign_reference(w, evidence);
	if (!r->has_amounts)
		r->detail = psprintf("The reference \"%s\" already belongs to another "
							 "object.",
							 name);
	else if (strcmp(status, "executing") == 0)
		column_add_uuid(&w->stopped, &subject->id);
	evidence->effect = EVIDENCE_CONTRADICTED;
}
