/*-------------------------------------------------------------------------
 *
 * evidence.c
 *	  What a PSP says of an order or a payout, and what follows from it.
 *
 * Evidence is weighed in memory, against rows that are locked, and written at
 * the end, so that a batch costs a fixed number of statements.  Two rules
 * decide: money that moved is never forgotten, and nothing that is not known
 * is ever claimed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "order/batch.h"
#include "order/evidence.h"
#include "order/move.h"
#include "order/plan.h"
#include "order/posting.h"
#include "order/proposal.h"
#include "order/psp_reference.h"
#include "order/subject.h"
#include "reconcile/exception.h"
#include "webhook/waiting.h"

typedef struct Weighing
{
	SubjectSet		 set;
	const Evidence	*evidence;
	bool			*asked; /* by evidence: was its PSP ever asked? */
	NextPsp			*nexts; /* where orders may go on */
	int				 next_count;
	Column			 stopped; /* orders of which nothing more is sent */
	PspReference	*references;
	int				 reference_count;
	Posting			*postings;
	int				 posting_count;
	ExceptionReport *reports;
	int				 report_count;
	SubjectKey		*ended; /* tasks with nothing left to do */
	int				 ended_count;
	SubjectKey		*buried; /* tasks that only people can go on with */
	const char	   **buried_reasons;
	int				 buried_count;
} Weighing;

static bool
one_of(const char *status, const char *const *statuses)
{
	for (; *statuses; statuses++)
	{
		if (strcmp(status, *statuses) == 0)
			return true;
	}
	return false;
}

/* Nothing is left to send for it, nor to ask. */
static bool
is_settled(const Subject *subject)
{
	static const char *const open_orders[] = {
		"created",	  "registering", "requires_action", "executing",
		"authorized", "capturing",	 "voiding",			"pending",
		"unknown",	  NULL
	};
	static const char *const open_payouts[] = {
		"created",	  "pending_approval", "approved", "scheduled",
		"submitting", "in_transit",		  "unknown",  NULL
	};

	return !one_of(subject->path.now, subject->object == OBJECT_PAYMENT_ORDER
										  ? open_orders
										  : open_payouts);
}

static bool
has_foreign_reference(const Weighing *w, const Evidence *evidence)
{
	PspReference wanted = { .psp_id = evidence->psp_id,
							.reference = evidence->psp_reference,
							.object_id = evidence->object_id };

	return evidence->psp_reference != NULL &&
		   psp_reference_is_foreign(w->references, w->reference_count,
									&wanted);
}

static void
report(Weighing *w, const Subject *subject, const char *type,
	   const Evidence *evidence, int64 expected, const char *detail)
{
	ExceptionReport *r = &w->reports[w->report_count++];

	memset(r, 0, sizeof(ExceptionReport));
	r->type = type;
	r->psp_id = &evidence->psp_id;
	r->order_id = &subject->id;
	r->has_amounts = evidence->kind == EVIDENCE_SUCCEEDED;
	r->currency = r->has_amounts ? evidence->currency : subject->currency;
	r->expected_amount = expected;
	r->actual_amount = evidence->amount;
	r->detail = detail;
}

static void
step(Subject *subject, const char *to, Evidence *evidence)
{
	if (!subject_step(subject, to, evidence->cause))
		return;
	evidence->effect = EVIDENCE_APPLIED;
	/* what says nothing of the money proves no name either */
	if (evidence->psp_reference && evidence->kind != EVIDENCE_UNKNOWN)
		subject->psp_reference = evidence->psp_reference;
	subject->failure_code = NULL;
	subject->failure_message = NULL;
}

/*
 * What cannot be true goes to people.  An order is set aside as conflicted; a
 * payout has no such status: whatever was known of it, it is unknown now, its
 * task is buried, and two people decide.
 */
static void
contradict(Weighing *w, Subject *subject, Evidence *evidence, const char *type,
		   const char *detail)
{
	const char *aside =
		subject->object == OBJECT_PAYMENT_ORDER ? "conflicted" : "unknown";

	report(w, subject, type, evidence, subject->amount, detail);
	if (subject_step(subject, aside, evidence->cause))
	{
		if (evidence->psp_reference && !has_foreign_reference(w, evidence))
			subject->psp_reference = evidence->psp_reference;
		subject->failure_code = type;
		subject->failure_message = detail;
	}
	/* what is said under another object's name says nothing of amounts */
	if (has_foreign_reference(w, evidence))
		w->reports[w->report_count - 1].has_amounts = false;
	evidence->effect = EVIDENCE_CONTRADICTED;
	if (subject->object == OBJECT_PAYOUT && !is_settled(subject))
	{
		report(w, subject, "unknown_outcome", evidence, subject->amount,
			   detail);
		w->buried[w->buried_count] =
			(SubjectKey){ .object = subject->object,
						  .id = subject->id,
						  .operation = evidence->operation };
		w->buried_reasons[w->buried_count++] = detail;
	}
}

/* NULL: evidence and object agree; else the type of the difference */
static const char *
money_difference(const Subject *subject, const Evidence *evidence)
{
	if (strcmp(subject->currency, evidence->currency) != 0)
		return "currency";
	if (subject->amount != evidence->amount)
		return "amount";
	return NULL;
}

static const char *
describe_difference(const Subject *subject, const Evidence *evidence)
{
	return psprintf("The PSP reports " INT64_FORMAT " %s where " INT64_FORMAT
					" %s were asked for (minor units).",
					evidence->amount, evidence->currency, subject->amount,
					subject->currency);
}

static Posting *
posting_for(Weighing *w, const Subject *subject, const char *kind)
{
	Posting *posting = &w->postings[w->posting_count++];

	memset(posting, 0, sizeof(Posting));
	posting->kind = kind;
	posting->subject = subject->id;
	strlcpy(posting->currency, subject->currency, sizeof(posting->currency));
	return posting;
}

static void
posting_leg(Posting *posting, AccountCode code, const pg_uuid_t *owner,
			int64 amount)
{
	Assert(posting->leg_count < POSTING_MAX_LEGS);
	posting->legs[posting->leg_count++] =
		(PostingLeg){ .code = code, .owner = owner, .amount = amount };
}

static void
capture(Weighing *w, Subject *subject, Evidence *evidence)
{
	Posting *posting = posting_for(w, subject, "capture");

	step(subject, "captured", evidence);
	subject->captured_amount = subject->amount;
	subject->captured_at = GetCurrentTimestamp();

	/* the fee was fixed at checkout and is at most the amount */
	posting_leg(posting, ACCOUNT_PSP_RECEIVABLE, &subject->psp_id,
				subject->amount);
	posting_leg(posting, ACCOUNT_SELLER_PENDING, &subject->seller_id,
				-(subject->amount - subject->platform_fee));
	posting_leg(posting, ACCOUNT_PLATFORM_FEE, NULL, -subject->platform_fee);
}

/*
 * Success again: the same answer twice is nothing new; another reference is a
 * second charge, another amount a PSP that contradicts itself.
 */
static void
repeat_success(Weighing *w, Subject *subject, Evidence *evidence)
{
	const char *type = money_difference(subject, evidence);

	if (evidence->psp_reference && subject->psp_reference &&
		strcmp(evidence->psp_reference, subject->psp_reference) != 0)
		contradict(w, subject, evidence, "duplicate",
				   psprintf("It has succeeded as \"%s\" and succeeds again as "
							"\"%s\".",
							subject->psp_reference, evidence->psp_reference));
	else if (type)
		contradict(w, subject, evidence, type,
				   describe_difference(subject, evidence));
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

static void
order_succeeded(Weighing *w, Subject *subject, Evidence *evidence)
{
	static const char *const done[] = { "captured", "reversed", NULL };
	static const char *const given_up[] = { "declined", "failed", "cancelled",
											"expired", NULL };
	const char				*status = subject->path.now;
	const char				*type = money_difference(subject, evidence);

	if (one_of(status, done))
		repeat_success(w, subject, evidence);
	else if (strcmp(status, "conflicted") == 0 ||
			 (type && was_set_aside(subject, evidence)))
	{
		/* people are at it, or have decided: they hear what is new */
		if (type)
			report(w, subject, type, evidence, subject->amount,
				   describe_difference(subject, evidence));
	}
	else if (!transition_is_legal(OBJECT_PAYMENT_ORDER, status, "captured",
								  evidence->cause))
		evidence->effect = EVIDENCE_TOO_EARLY;
	else if (type)
		contradict(w, subject, evidence, type,
				   describe_difference(subject, evidence));
	else
	{
		if (one_of(status, given_up))
		{
			report(w, subject, "late_success", evidence, 0,
				   psprintf("The payer was charged although the order was "
							"%s.",
							status));
			w->reports[w->report_count - 1].in_ledger = true;
		}
		capture(w, subject, evidence);
	}
}

static void
payout_succeeded(Weighing *w, Subject *subject, Evidence *evidence)
{
	static const char *const done[] = { "paid", "returned", NULL };
	static const char *const given_up[] = { "failed", "cancelled", "rejected",
											NULL };
	static const char *const under_way[] = { "submitting", "unknown",
											 "in_transit", NULL };
	const char				*status = subject->path.now;
	const char				*type = money_difference(subject, evidence);
	Posting					*posting;

	if (one_of(status, done))
		repeat_success(w, subject, evidence);
	else if (one_of(status, given_up))
	{
		/* the seller has the money twice: nothing may be posted unseen */
		report(w, subject, "late_success", evidence, 0,
			   psprintf("The seller was paid as \"%s\" although the payout "
						"was %s.",
						evidence->psp_reference ? evidence->psp_reference : "",
						status));
		evidence->effect = EVIDENCE_CONTRADICTED;
	}
	else if (!one_of(status, under_way))
		evidence->effect = EVIDENCE_TOO_EARLY;
	else if (type)
		contradict(w, subject, evidence, type,
				   describe_difference(subject, evidence));
	else
	{
		if (strcmp(status, "in_transit") != 0)
			step(subject, "in_transit", evidence);
		step(subject, "paid", evidence);
		posting = posting_for(w, subject, "payout_paid");
		posting_leg(posting, ACCOUNT_PAYOUT_CLEARING, &subject->seller_id,
					subject->amount);
		posting_leg(posting, ACCOUNT_BANK, NULL, -subject->amount);
	}
}

/*
 * The order goes on to the next PSP at once: nobody sees it fail.  What it was
 * refused for is in its attempt.
 */
static bool
fail_over(const Weighing *w, Subject *subject, Evidence *evidence)
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
 * is people's to give back, nothing is posted, and nothing more is sent.
 */
static void
weigh_left(Weighing *w, Subject *subject, Evidence *evidence)
{
	const char *status = subject->path.now;
	const char *name = evidence->psp_reference ? evidence->psp_reference : "";
	bool		twice = subject->captured_at != 0;
	ExceptionReport *r;

	if (evidence->kind != EVIDENCE_SUCCEEDED)
		return;
	report(w, subject, twice ? "duplicate" : "late_success", evidence, 0,
		   psprintf("Charged as \"%s\" by a PSP that had not executed it; "
					"meanwhile the order is %s at another one.",
					name, status));
	r = &w->reports[w->report_count - 1];
	r->has_amounts = !has_foreign_reference(w, evidence);
	if (!r->has_amounts)
		r->detail = psprintf("The reference \"%s\" already belongs to another "
							 "object.",
							 name);
	else if (strcmp(status, "executing") == 0)
		column_add_uuid(&w->stopped, &subject->id);
	evidence->effect = EVIDENCE_CONTRADICTED;
}

static void
not_executed(Weighing *w, Subject *subject, Evidence *evidence)
{
	bool		order = subject->object == OBJECT_PAYMENT_ORDER;
	const char *to =
		order && evidence->kind == EVIDENCE_DECLINED ? "declined" : "failed";
	Posting *posting;

	step(subject, to, evidence);
	if (evidence->effect != EVIDENCE_APPLIED)
		return;
	subject->failure_code = evidence->failure_code;
	subject->failure_message = evidence->failure_message;
	if (order)
		return;
	posting = posting_for(w, subject, "payout_failed");
	posting_leg(posting, ACCOUNT_PAYOUT_CLEARING, &subject->seller_id,
				subject->amount);
	posting_leg(posting, ACCOUNT_SELLER_AVAILABLE, &subject->seller_id,
				-subject->amount);
}

/*
 * That it was not executed is told twice: by a webhook, and in the answer to
 * the request that is under way, with which the order may go on elsewhere.
 */
static bool
awaits_answer(const Subject *subject, const Evidence *evidence)
{
	return evidence->cause == CAUSE_WEBHOOK &&
		   (evidence->kind == EVIDENCE_DECLINED ||
			evidence->kind == EVIDENCE_FAILED) &&
		   subject->object == OBJECT_PAYMENT_ORDER &&
		   strcmp(subject->path.now, "executing") == 0;
}

/*
 * Evidence that does not say which try it is about (a webhook) is about the
 * only one, or about the one that the PSP calls so.  Else nobody knows: it must
 * not end a later try; the next lookup tells.
 */
static bool
is_of_this_try(const Subject *subject, const Evidence *evidence)
{
	if (evidence->attempt_no != 0)
		return evidence->attempt_no == subject->attempt_no;
	return subject->attempt_no <= 1 ||
		   (evidence->psp_reference && subject->psp_reference &&
			strcmp(evidence->psp_reference, subject->psp_reference) == 0);
}

/* That it can tell no more takes nothing back: it was accepted. */
static bool
was_accepted(const Subject *subject)
{
	static const char *const accepted[] = { "pending", "in_transit", NULL };

	return one_of(subject->path.now, accepted);
}

/*
 * The PSP takes back what two people said had succeeded.  Nothing is posted:
 * they have to look again.
 */
static bool
takes_back(Weighing *w, Subject *subject, Evidence *evidence)
{
	static const char *const succeeded[] = { "captured", "paid", NULL };

	if (!one_of(subject->path.now, succeeded) ||
		!was_decided(&subject->id, "succeeded"))
		return false;
	report(
		w, subject, "status", evidence, 0,
		psprintf("The PSP says it was not executed, but people decided that "
				 "it was: it is %s here.",
				 subject->path.now));
	evidence->effect = EVIDENCE_CONTRADICTED;
	return true;
}

static void
weigh(Weighing *w, Subject *subject, Evidence *evidence)
{
	static const char *const unsent[] = { "created", "pending_approval",
										  "approved", "scheduled", NULL };

	if (uuid_compare(&subject->psp_id, &evidence->psp_id) != 0)
	{
		weigh_left(w, subject, evidence);
		return;
	}
	if (evidence->kind == EVIDENCE_NOTHING)
	{
		(void) fail_over(w, subject, evidence);
		return;
	}
	/* an earlier try's failure, when a later one is under way */
	if (evidence->kind != EVIDENCE_SUCCEEDED &&
		!is_of_this_try(subject, evidence))
		return;
	if (one_of(subject->path.now, unsent) || awaits_answer(subject, evidence))
	{
		evidence->effect = EVIDENCE_TOO_EARLY;
		return;
	}
	if (has_foreign_reference(w, evidence))
	{
		contradict(w, subject, evidence, "duplicate",
				   psprintf("The reference \"%s\" already belongs to another "
							"object.",
							evidence->psp_reference));
		return;
	}

	switch (evidence->kind)
	{
		case EVIDENCE_SUCCEEDED:
			if (subject->object == OBJECT_PAYMENT_ORDER)
				order_succeeded(w, subject, evidence);
			else
				payout_succeeded(w, subject, evidence);
			break;
		case EVIDENCE_PENDING:
			step(subject,
				 subject->object == OBJECT_PAYMENT_ORDER ? "pending"
														 : "in_transit",
				 evidence);
			break;
		case EVIDENCE_DECLINED:
		case EVIDENCE_FAILED:
			if (!fail_over(w, subject, evidence) &&
				!takes_back(w, subject, evidence))
				not_executed(w, subject, evidence);
			break;
		case EVIDENCE_UNKNOWN:
			if (!was_accepted(subject))
				step(subject, "unknown", evidence);
			break;
		case EVIDENCE_NOTHING:
			break;
	}
}

/* the subject of the evidence, if that PSP was ever asked to execute it */
static Subject *
subject_of(const Weighing *w, const Evidence *evidence)
{
	Subject *subject = subject_find(&w->set, &evidence->object_id);

	if (subject == NULL || subject->object != evidence->object ||
		!w->asked[evidence - w->evidence])
		return NULL;
	return subject;
}

/* Only new references: most answers to a poll repeat the known one. */
static void
claim_references(Weighing *w, const Evidence *evidence, int count)
{
	w->references = palloc0((Size) count * sizeof(PspReference));
	for (int i = 0; i < count; i++)
	{
		const Evidence *e = &evidence[i];
		const Subject  *subject = subject_of(w, e);
		PspReference   *r = &w->references[w->reference_count];

		if (e->psp_reference == NULL || subject == NULL ||
			e->kind == EVIDENCE_NOTHING || e->kind == EVIDENCE_UNKNOWN ||
			(subject->psp_reference &&
			 uuid_compare(&subject->psp_id, &e->psp_id) == 0 &&
			 strcmp(subject->psp_reference, e->psp_reference) == 0))
			continue;
		r->psp_id = e->psp_id;
		r->reference = e->psp_reference;
		r->object_id = e->object_id;
		w->reference_count++;
	}
	psp_references_claim(w->references, w->reference_count);
	waiting_wake(w->references, w->reference_count);
}

/* Did this PSP ever get a request for the order?  Rarely in question. */
static bool
was_asked(const Evidence *evidence)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, UUIDOID, TEXTOID };
	Datum			  values[] = { UUIDPGetDatum(&evidence->object_id),
								   UUIDPGetDatum(&evidence->psp_id),
								   CStringGetTextDatum(evidence->operation) };

	return batch_run(plan_keep(&plan,
							   "SELECT FROM payment.attempt AS a"
							   " WHERE a.object_id = $1 AND a.id > $1"
							   " AND a.psp_id = $2 AND a.operation = $3"
							   " LIMIT 1",
							   lengthof(types), types),
					 values, NULL) > 0;
}

static void
find_asked(Weighing *w, const Evidence *evidence, int count)
{
	w->evidence = evidence;
	w->asked = palloc((Size) count * sizeof(bool));
	for (int i = 0; i < count; i++)
	{
		const Subject *subject = subject_find(&w->set, &evidence[i].object_id);

		w->asked[i] = subject && (evidence[i].attempt_id ||
								  uuid_compare(&subject->psp_id,
											   &evidence[i].psp_id) == 0 ||
								  was_asked(&evidence[i]));
	}
}

static void
find_nexts(Weighing *w, const Evidence *evidence, int count)
{
	MoveRequest *requests = palloc((Size) count * sizeof(MoveRequest));
	int			 request_count = 0;

	for (int i = 0; i < count; i++)
	{
		const Evidence *e = &evidence[i];
		const Subject  *subject = subject_of(w, e);

		if (subject == NULL || !subject->routed || e->attempt_id == NULL ||
			e->failover == FAILOVER_NEVER ||
			e->attempt_no != subject->attempt_no ||
			strcmp(subject->path.now, "executing") != 0)
			continue;
		requests[request_count++] = (MoveRequest){
			.order_id = e->object_id,
			.attempt_id = *e->attempt_id,
			.only_if_unsent = e->failover == FAILOVER_IF_EXHAUSTED,
		};
	}
	w->nexts = failover_find(requests, request_count, &w->next_count);
}

static void
weighing_init(Weighing *w, const Evidence *evidence, int count)
{
	SubjectKey *keys = palloc((Size) count * sizeof(SubjectKey));

	memset(w, 0, sizeof(Weighing));
	for (int i = 0; i < count; i++)
		keys[i] = (SubjectKey){ .object = evidence[i].object,
								.id = evidence[i].object_id,
								.operation = evidence[i].operation };
	subjects_lock(&w->set, keys, count);
	find_asked(w, evidence, count);
	claim_references(w, evidence, count);
	find_nexts(w, evidence, count);
	column_init(&w->stopped, UUIDOID);

	/* at most one of each for a piece of evidence, and a doubt besides */
	w->postings = palloc((Size) count * sizeof(Posting));
	w->reports = palloc((Size) count * 2 * sizeof(ExceptionReport));
	w->ended = palloc((Size) count * sizeof(SubjectKey));
	w->buried = palloc((Size) count * sizeof(SubjectKey));
	w->buried_reasons = palloc((Size) count * sizeof(char *));
}

static void
answer(Weighing *w, Evidence *evidence, int count, MemoryContext caller)
{
	for (int i = 0; i < count; i++)
	{
		Evidence *e = &evidence[i];
		Subject	 *subject = subject_of(w, e);

		if (subject == NULL)
			continue;
		e->status = MemoryContextStrdup(caller, subject->path.now);
		e->named = subject->psp_reference != NULL;
		e->settled = is_settled(subject);
		if (e->settled)
			w->ended[w->ended_count++] =
				(SubjectKey){ .object = e->object,
							  .id = e->object_id,
							  .operation = e->operation };
	}
}

/*
 * What was unknown is known: its exception goes, and what is only accepted is
 * asked after again, if that had been given up.  Most batches have none of
 * them.
 */
static void
end_doubts(const SubjectSet *set)
{
	Column known;
	Column accepted;

	column_init(&known, UUIDOID);
	column_init(&accepted, UUIDOID);
	for (int i = 0; i < set->count; i++)
	{
		const Subject *subject = &set->subjects[i];

		if (strcmp(subject->path.first, "unknown") != 0 ||
			strcmp(subject->path.now, "unknown") == 0)
			continue;
		column_add_uuid(&known, &subject->id);
		if (was_accepted(subject))
			column_add_uuid(&accepted, &subject->id);
	}
	if (known.count > 0)
		exception_close_unknown(column_array(&known));
	if (accepted.count > 0)
		subjects_revive_tasks(column_array(&accepted));
}

void
order_apply_evidence(Evidence *evidence, int count)
{
	MemoryContext caller = CurrentMemoryContext;
	Weighing	  w;
	int			  nest_level;

	if (count == 0)
		return;
	nest_level = batch_begin();
	weighing_init(&w, evidence, count);
	for (int i = 0; i < count; i++)
	{
		Subject *subject = subject_of(&w, &evidence[i]);

		evidence[i].status = NULL;
		evidence[i].named = false;
		evidence[i].settled = false;
		evidence[i].effect = subject ? EVIDENCE_NO_EFFECT : EVIDENCE_NO_OBJECT;
		if (subject)
			weigh(&w, subject, &evidence[i]);
	}
	answer(&w, evidence, count, caller);

	subjects_write(&w.set);
	subjects_bury_tasks(w.buried, w.buried_reasons, w.buried_count);
	subjects_end_tasks(w.ended, w.ended_count);
	failover_stop(&w.stopped);
	end_doubts(&w.set);
	for (int i = 0; i < w.report_count; i++)
	{
		if (strcmp(w.reports[i].type, "unknown_outcome") == 0)
			exception_open_unknown(&w.reports[i]);
		else
			exception_open(&w.reports[i]);
	}
	/* last: from here on the busiest rows of all are locked */
	posting_post(w.postings, w.posting_count);
	batch_end(nest_level);
}
