/*-------------------------------------------------------------------------
 *
 * evidence.c
 *	  What a PSP says of an order, a refund or a payout, and what follows
 *	  from it.
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

#include "order/exchange.h"
#include "order/hosted.h"
#include "order/plan.h"
#include "order/proposal.h"
#include "order/weigh.h"
#include "webhook/waiting.h"

bool
status_is_one_of(const char *status, const char *const *statuses)
{
	for (; *statuses; statuses++)
	{
		if (strcmp(status, *statuses) == 0)
			return true;
	}
	return false;
}

/* Of the operation nothing is left to send, nor to ask. */
bool
weigh_is_settled(const Subject *subject, const char *operation)
{
	static const char *const open[OBJECT_COUNT][8] = {
		[OBJECT_PAYMENT_ORDER] = { "created", "registering", "requires_action",
								   "executing", "pending", NULL },
		[OBJECT_PAYOUT] = { "created", "pending_approval", "approved",
							"scheduled", "submitting", "in_transit", "unknown",
							NULL },
		[OBJECT_DISPUTE_RESPONSE] = { "created", "submitting", "unknown",
									  NULL },
		[OBJECT_REFUND] = { "created", "submitting", "pending",
							"requires_action", "unknown", NULL },
	};
	const char *status = subject->path.now;

	if (subject->object != OBJECT_PAYMENT_ORDER)
		return !status_is_one_of(status, open[subject->object]);
	if (operation_is_of_page(operation) && !subject->hosted)
		return true;
	if (strcmp(operation, OPERATION_CLOSE) == 0)
		return strcmp(status, operation_of(operation)->sent) != 0;
	/* in doubt is what was begun last */
	if (strcmp(status, "unknown") == 0 &&
		strcmp(operation, OPERATION_REGISTER) == 0)
		return subject->authorized_amount > 0;
	if (strcmp(status, "unknown") == 0)
		return strcmp(operation, subject_operation(subject)) != 0;
	if (operation_is_follow_up(operation))
		return strcmp(status, operation_of(operation)->sent) != 0;
	return !status_is_one_of(status, open[OBJECT_PAYMENT_ORDER]);
}

bool
weigh_has_foreign_reference(const Weighing *w, const Evidence *evidence)
{
	PspReference wanted = { .psp_id = evidence->psp_id,
							.reference = evidence->psp_reference,
							.object_id = evidence->object_id };

	return evidence->psp_reference != NULL &&
		   psp_reference_is_foreign(w->references, w->reference_count,
									&wanted);
}

void
weigh_report(Weighing *w, const Subject *subject, const char *type,
			 const Evidence *evidence, int64 expected, const char *detail)
{
	ExceptionReport *r = &w->reports[w->report_count++];

	memset(r, 0, sizeof(ExceptionReport));
	r->type = type;
	r->psp_id = &evidence->psp_id;
	r->order_id = &subject->id;
	r->has_amounts = evidence->kind == EVIDENCE_SUCCEEDED ||
					 evidence->kind == EVIDENCE_AUTHORIZED;
	r->currency = r->has_amounts ? evidence->currency : subject->currency;
	r->expected_amount = expected;
	r->actual_amount = evidence->amount;
	r->detail = detail;
}

void
weigh_step(Subject *subject, const char *to, Evidence *evidence)
{
	if (!subject_step(subject, to, evidence->cause))
		return;
	evidence->effect = EVIDENCE_APPLIED;
	/*
	 * What says nothing of the money proves no name either.  A capture's name
	 * is not that of the payment.
	 */
	if (evidence->psp_reference && evidence->kind != EVIDENCE_UNKNOWN &&
		!operation_is_follow_up(evidence->operation))
		subject->psp_reference = evidence->psp_reference;
	subject->failure_code = NULL;
	subject->failure_message = NULL;
}

/*
 * What cannot be true goes to people.  An order is set aside as conflicted; a
 * refund or payout has no such status: whatever was known of it, it is unknown
 * now, its task is buried, and two people decide.
 */
void
weigh_contradict(Weighing *w, Subject *subject, Evidence *evidence,
				 const char *type, int64 expected, const char *detail)
{
	bool order = subject->object == OBJECT_PAYMENT_ORDER;

	weigh_report(w, subject, type, evidence, expected, detail);
	/* what is said under another object's name says nothing of amounts */
	if (weigh_has_foreign_reference(w, evidence))
		w->reports[w->report_count - 1].has_amounts = false;
	if (subject_step(subject, order ? "conflicted" : "unknown",
					 evidence->cause))
	{
		if (evidence->psp_reference &&
			!operation_is_follow_up(evidence->operation) &&
			!weigh_has_foreign_reference(w, evidence))
			subject->psp_reference = evidence->psp_reference;
		subject->failure_code = type;
		subject->failure_message = detail;
	}
	evidence->effect = EVIDENCE_CONTRADICTED;
	if (!order && !weigh_is_settled(subject, evidence->operation))
	{
		weigh_report(w, subject, "unknown_outcome", evidence, expected,
					 detail);
		w->buried[w->buried_count] =
			(SubjectKey){ .object = subject->object,
						  .id = subject->id,
						  .operation = evidence->operation };
		w->buried_reasons[w->buried_count++] = detail;
	}
}

const char *
weigh_difference(const Subject *subject, const Evidence *evidence,
				 int64 expected, const char **detail)
{
	const char *type = NULL;

	if (strcmp(subject->currency, evidence->currency) != 0)
		type = "currency";
	else if (expected != evidence->amount)
		type = "amount";
	if (type)
		*detail =
			psprintf("The PSP reports " INT64_FORMAT " %s where " INT64_FORMAT
					 " %s were asked for (minor units).",
					 evidence->amount, evidence->currency, expected,
					 subject->currency);
	return type;
}

/*
 * Success again: the same answer twice is nothing new; another reference is a
 * second charge, another amount a PSP that contradicts itself.
 */
void
weigh_repeat(Weighing *w, Subject *subject, Evidence *evidence, int64 expected)
{
	const char *detail;
	const char *type = weigh_difference(subject, evidence, expected, &detail);

	if (evidence->psp_reference && subject->psp_reference &&
		strcmp(evidence->psp_reference, subject->psp_reference) != 0)
		weigh_contradict(w, subject, evidence, "duplicate", expected,
						 psprintf("It has succeeded as \"%s\" and succeeds "
								  "again as \"%s\".",
								  subject->psp_reference,
								  evidence->psp_reference));
	else if (type)
		weigh_contradict(w, subject, evidence, type, expected, detail);
}

Posting *
weigh_posting(Weighing *w, const Subject *subject, const char *kind)
{
	Posting *posting = &w->postings[w->posting_count++];

	memset(posting, 0, sizeof(Posting));
	posting->kind = kind;
	posting->subject = subject->id;
	strlcpy(posting->currency, subject->currency, sizeof(posting->currency));
	return posting;
}

void
weigh_leg(Posting *posting, AccountCode code, const pg_uuid_t *owner,
		  int64 amount)
{
	Assert(posting->leg_count < POSTING_MAX_LEGS);
	posting->legs[posting->leg_count++] =
		(PostingLeg){ .code = code, .owner = owner, .amount = amount };
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
	if (operation_is_follow_up(evidence->operation))
		return evidence->attempt_no == 0 ||
			   evidence->attempt_no == subject->operation_no;
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
	static const char *const accepted[] = { "pending", "in_transit",
											"requires_action", NULL };

	return status_is_one_of(subject->path.now, accepted);
}

/*
 * The PSP takes back what two people said had succeeded.  Nothing is posted:
 * they have to look again.
 */
bool
weigh_takes_back(Weighing *w, Subject *subject, Evidence *evidence)
{
	static const char *const succeeded[] = { "captured", "paid", "succeeded",
											 NULL };

	if (!status_is_one_of(subject->path.now, succeeded) ||
		!was_decided(&subject->id, "succeeded"))
		return false;
	weigh_report(
		w, subject, "status", evidence, 0,
		psprintf("The PSP says it was not executed, but people decided that "
				 "it was: it is %s here.",
				 subject->path.now));
	evidence->effect = EVIDENCE_CONTRADICTED;
	return true;
}

static void
weigh_by_object(Weighing *w, Subject *subject, Evidence *evidence)
{
	switch (subject->object)
	{
		case OBJECT_PAYMENT_ORDER:
			order_weigh(w, subject, evidence);
			break;
		case OBJECT_REFUND:
			refund_weigh(w, subject, evidence);
			break;
		case OBJECT_DISPUTE_RESPONSE:
			dispute_response_weigh(subject, evidence);
			break;
		case OBJECT_PAYOUT:
			payout_weigh(w, subject, evidence);
			break;
		default:
			elog(ERROR, "there is no evidence about such an object");
	}
}

static void
weigh(Weighing *w, Subject *subject, Evidence *evidence)
{
	static const char *const unsent[] = { "created", "pending_approval",
										  "approved", "scheduled", NULL };

	if (uuid_compare(&subject->psp_id, &evidence->psp_id) != 0)
		order_weigh_left(w, subject, evidence);
	else if (evidence->kind == EVIDENCE_NOTHING)
		(void) order_fail_over(w, subject, evidence);
	/* an earlier try's failure, when a later one is under way */
	else if (evidence->kind != EVIDENCE_SUCCEEDED &&
			 !is_of_this_try(subject, evidence))
		return;
	else if (status_is_one_of(subject->path.now, unsent) ||
			 awaits_answer(subject, evidence))
		evidence->effect = EVIDENCE_TOO_EARLY;
	else if (page_weigh(w, subject, evidence))
		return;
	else if (weigh_has_foreign_reference(w, evidence))
		weigh_contradict(w, subject, evidence, "duplicate", subject->amount,
						 psprintf("The reference \"%s\" already belongs to "
								  "another object.",
								  evidence->psp_reference));
	else if (evidence->kind != EVIDENCE_UNKNOWN)
	{
		weigh_by_object(w, subject, evidence);
		page_follow(w, subject, evidence);
	}
	else if (!was_accepted(subject) &&
			 strcmp(subject_operation(subject), evidence->operation) == 0)
		weigh_step(subject, "unknown", evidence);
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

static void
add_reference(Weighing *w, const Subject *subject, const Evidence *evidence,
			  const char *reference)
{
	if (reference == NULL ||
		(subject->psp_reference &&
		 uuid_compare(&subject->psp_id, &evidence->psp_id) == 0 &&
		 strcmp(subject->psp_reference, reference) == 0))
		return;
	w->references[w->reference_count++] =
		(PspReference){ .psp_id = evidence->psp_id,
						.reference = reference,
						.object_id = evidence->object_id };
}

/* Only new references: most answers to a poll repeat the known one. */
static void
claim_references(Weighing *w, const Evidence *evidence, int count)
{
	w->references = palloc0((Size) count * 2 * sizeof(PspReference));
	for (int i = 0; i < count; i++)
	{
		const Evidence *e = &evidence[i];
		const Subject  *subject = subject_of(w, e);

		if (subject == NULL || e->kind == EVIDENCE_NOTHING ||
			e->kind == EVIDENCE_UNKNOWN)
			continue;
		add_reference(w, subject, e, e->psp_reference);
		add_reference(w, subject, e, e->child_reference);
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
	SubjectKey *keys;
	int			key_count;

	memset(w, 0, sizeof(Weighing));
	keys = page_keys(evidence, count, &key_count);
	subjects_lock(&w->set, keys, key_count);
	find_asked(w, evidence, count);
	claim_references(w, evidence, count);
	find_nexts(w, evidence, count);
	exchange_claim(&w->set, evidence, count);
	column_init(&w->stopped, UUIDOID);

	/* at most one of each for a piece of evidence, a doubt, an exchange */
	w->postings = palloc((Size) count * 2 * sizeof(Posting));
	w->reports = palloc((Size) count * 2 * sizeof(ExceptionReport));
	w->ended = palloc((Size) count * 4 * sizeof(SubjectKey));
	w->buried = palloc((Size) count * sizeof(SubjectKey));
	w->buried_reasons = palloc((Size) count * sizeof(char *));
}

void
weigh_end_task(Weighing *w, const Evidence *evidence, const char *operation)
{
	w->ended[w->ended_count++] = (SubjectKey){ .object = evidence->object,
											   .id = evidence->object_id,
											   .operation = operation };
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
		e->named = subject->psp_reference != NULL &&
				   !operation_is_follow_up(e->operation);
		e->settled = weigh_is_settled(subject, e->operation);
		if (e->settled)
			weigh_end_task(w, e, e->operation);

		page_end(w, subject, e);

		/* What ends the order leaves nothing to do to it. */
		if (strcmp(e->operation, OPERATION_PAY) == 0)
		{
			if (strcmp(subject->path.first, "capturing") == 0 &&
				weigh_is_settled(subject, OPERATION_CAPTURE))
				weigh_end_task(w, e, OPERATION_CAPTURE);
			if (strcmp(subject->path.first, "voiding") == 0 &&
				weigh_is_settled(subject, OPERATION_VOID))
				weigh_end_task(w, e, OPERATION_VOID);
		}
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
	Posting		 *fees;
	int			  fee_count;
	int			  nest_level;

	if (count == 0)
		return;
	nest_level = batch_begin();
	weighing_init(&w, evidence, count);
	refunds_lock_sellers(&w.set, evidence, count);
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
	fees = exchange_fees(&w.set, &fee_count);

	subjects_write(&w.set);
	disputes_answered(&w.set);
	pages_write(&w.set);
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
	posting_post(fees, fee_count);
	batch_end(nest_level);
}
