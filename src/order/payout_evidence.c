/*-------------------------------------------------------------------------
 *
 * payout_evidence.c
 *	  What follows for a payout from what its PSP says.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "order/weigh.h"

static void
payout_succeeded(Weighing *w, Subject *subject, Evidence *evidence)
{
	static const char *const done[] = { "paid", "returned", NULL };
	static const char *const given_up[] = { "failed", "cancelled", "rejected",
											NULL };
	static const char *const under_way[] = { "submitting", "unknown",
											 "in_transit", NULL };
	const char				*status = subject->path.now;
	const char				*detail;
	const char				*type =
		weigh_difference(subject, evidence, subject->amount, &detail);
	Posting *posting;

	if (status_is_one_of(status, done))
		weigh_repeat(w, subject, evidence, subject->amount);
	else if (status_is_one_of(status, given_up))
	{
		/* the seller has the money twice: nothing may be posted unseen */
		weigh_report(
			w, subject, "late_success", evidence, 0,
			psprintf("The seller was paid as \"%s\" although the payout "
					 "was %s.",
					 evidence->psp_reference ? evidence->psp_reference : "",
					 status));
		evidence->effect = EVIDENCE_CONTRADICTED;
	}
	else if (!status_is_one_of(status, under_way))
		evidence->effect = EVIDENCE_TOO_EARLY;
	else if (type)
		weigh_contradict(w, subject, evidence, type, subject->amount, detail);
	else
	{
		if (strcmp(status, "in_transit") != 0)
			weigh_step(subject, "in_transit", evidence);
		weigh_step(subject, "paid", evidence);
		posting = weigh_posting(w, subject, "payout_paid");
		weigh_leg(posting, ACCOUNT_PAYOUT_CLEARING, &subject->seller_id,
				  subject->amount);
		weigh_leg(posting, ACCOUNT_BANK, NULL, -subject->amount);
	}
}

static void
payout_failed(Weighing *w, Subject *subject, Evidence *evidence)
{
	Posting *posting;

	weigh_step(subject, "failed", evidence);
	if (evidence->effect != EVIDENCE_APPLIED)
		return;
	subject->failure_code = evidence->failure_code;
	subject->failure_message = evidence->failure_message;
	posting = weigh_posting(w, subject, "payout_failed");
	weigh_leg(posting, ACCOUNT_PAYOUT_CLEARING, &subject->seller_id,
			  subject->amount);
	weigh_leg(posting, ACCOUNT_SELLER_AVAILABLE, &subject->seller_id,
			  -subject->amount);
}

void
payout_weigh(Weighing *w, Subject *subject, Evidence *evidence)
{
	switch (evidence->kind)
	{
		case EVIDENCE_SUCCEEDED:
			payout_succeeded(w, subject, evidence);
			break;
		case EVIDENCE_PENDING:
			weigh_step(subject, "in_transit", evidence);
			break;
		case EVIDENCE_DECLINED:
		case EVIDENCE_FAILED:
			if (!weigh_takes_back(w, subject, evidence))
				payout_failed(w, subject, evidence);
			break;
		default:
			break;
	}
}
