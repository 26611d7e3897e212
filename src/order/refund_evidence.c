/*-------------------------------------------------------------------------
 *
 * refund_evidence.c
 *	  What follows for a refund from what its PSP says.
 *
 * The money left the seller when the refund was asked for.  When it fails, even
 * after it had succeeded, it goes back to where it came from: to what is
 * pending of an order that is not released, else to the seller, who first pays
 * what he owes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "order/dispute.h"
#include "order/exchange.h"
#include "order/plan.h"
#include "order/seller_money.h"
#include "order/weigh.h"

static bool
is_now(const Subject *subject, const char *status)
{
	return strcmp(subject->path.now, status) == 0;
}

static Subject *
order_of(const Weighing *w, const Subject *refund)
{
	Subject *order = subject_find(&w->set, &refund->order_id);

	if (order == NULL)
		elog(ERROR, "the order of a refund is missing");
	return order;
}

/* statuses that need another one in between */
static void
require_action(Subject *subject, Evidence *evidence)
{
	if (is_now(subject, "requires_action"))
		return;
	if (!is_now(subject, "pending"))
		weigh_step(subject, "pending", evidence);
	weigh_step(subject, "requires_action", evidence);
}

static void
leave_action(Subject *subject, Evidence *evidence)
{
	if (is_now(subject, "requires_action"))
		weigh_step(subject, "pending", evidence);
}

static void
refund_succeeded(Weighing *w, Subject *subject, Evidence *evidence)
{
	const char *detail;
	const char *type =
		weigh_difference(subject, evidence, subject->amount, &detail);
	Posting *posting;

	if (is_now(subject, "succeeded"))
	{
		weigh_repeat(w, subject, evidence, subject->amount);
		exchange_refunded(w, order_of(w, subject), subject, evidence);
	}
	else if (is_now(subject, "failed") || is_now(subject, "cancelled"))
	{
		/* the seller has the money back: nothing may be posted unseen */
		weigh_report(w, subject, "late_success", evidence, 0,
					 psprintf("The payer got the money although the refund "
							  "was %s.",
							  subject->path.now));
		evidence->effect = EVIDENCE_CONTRADICTED;
	}
	else if (type)
		weigh_contradict(w, subject, evidence, type, subject->amount, detail);
	else
	{
		leave_action(subject, evidence);
		weigh_step(subject, "succeeded", evidence);
		posting = weigh_posting(w, subject, "refund_succeeded");
		weigh_leg(posting, ACCOUNT_REFUND_CLEARING, &subject->psp_id,
				  subject->amount);
		weigh_leg(posting, ACCOUNT_PSP_RECEIVABLE, &subject->psp_id,
				  -subject->amount);
		exchange_refunded(w, order_of(w, subject), subject, evidence);
	}
}

/* what the seller owes, less what this batch has paid of it already */
static int64
still_owed(const Weighing *w, const Subject *refund, int64 receivable)
{
	for (int i = 0; i < w->posting_count; i++)
	{
		const Posting *posting = &w->postings[i];

		for (int leg = 0; leg < posting->leg_count; leg++)
		{
			const PostingLeg *l = &posting->legs[leg];

			if (l->code == ACCOUNT_SELLER_RECEIVABLE && l->amount < 0 &&
				strcmp(posting->currency, refund->currency) == 0 &&
				uuid_compare(l->owner, &refund->seller_id) == 0)
				receivable += l->amount;
		}
	}
	return Max(receivable, 0);
}

static bool
may_give_back(const Evidence *evidence)
{
	return evidence->object == OBJECT_REFUND &&
		   (evidence->kind == EVIDENCE_VOIDED ||
			evidence->kind == EVIDENCE_DECLINED ||
			evidence->kind == EVIDENCE_FAILED ||
			evidence->kind == EVIDENCE_EXPIRED);
}

/*
 * What sellers owe is read, and paid at the end.  Most batches have none of
 * them, or one.
 */
void
refunds_lock_sellers(const SubjectSet *set, const Evidence *evidence,
					 int count)
{
	SellerKey *sellers;
	int		   seller_count = 0;
	int		   failing = 0;

	for (int i = 0; i < count; i++)
		failing += may_give_back(&evidence[i]);
	if (failing < 2)
		return;
	sellers = palloc(failing * sizeof(SellerKey));
	for (int i = 0; i < count; i++)
	{
		const Subject *refund = subject_find(set, &evidence[i].object_id);

		if (refund && may_give_back(&evidence[i]) &&
			refund->from_receivable > 0)
			sellers[seller_count++] =
				(SellerKey){ refund->seller_id, refund->currency };
	}
	sellers_lock(sellers, seller_count);
}

/*
 * Of an order that was reversed the seller has nothing left to get: what the
 * PSP has not paid out is not owed by it either, and what came back is the
 * payer's.
 */
static void
give_back(Weighing *w, Subject *refund, bool had_succeeded)
{
	Subject	   *order = order_of(w, refund);
	bool		reversed = is_now(order, "reversed");
	int64		pending = order->released ? 0 : refund->from_pending;
	int64		rest = refund->amount - refund->fee_share - pending;
	SellerMoney owed = seller_credit(&refund->seller_id, refund->currency,
									 refund->from_receivable);
	int64		paid = still_owed(w, refund, owed.receivable);
	Posting	   *posting = weigh_posting(w, refund, "refund_failed");

	weigh_leg(posting,
			  had_succeeded ? ACCOUNT_PSP_RECEIVABLE : ACCOUNT_REFUND_CLEARING,
			  &refund->psp_id, refund->amount);
	if (reversed)
		weigh_leg(posting,
				  had_succeeded ? ACCOUNT_UNIDENTIFIED_RECEIPTS
								: ACCOUNT_PSP_RECEIVABLE,
				  &refund->psp_id, -refund->amount);
	else
	{
		weigh_leg(posting, ACCOUNT_SELLER_PENDING, &refund->seller_id,
				  -pending);
		weigh_leg(posting, ACCOUNT_SELLER_RECEIVABLE, &refund->seller_id,
				  -paid);
		weigh_leg(posting, ACCOUNT_SELLER_AVAILABLE, &refund->seller_id,
				  -(rest - paid));
		weigh_leg(posting, ACCOUNT_PLATFORM_FEE, NULL, -refund->fee_share);
	}
	order->refunded_amount -= refund->amount;
	order->fee_returned -= refund->fee_share;
	order->pending_amount += reversed ? 0 : pending;
	order->books_changed = true;
	exchange_refund_failed(w, order, refund);
	order->refund_failed = true;
}

/*
 * People decided that it went out although it had failed.  That it had failed
 * is told once more, or anew: they have to look again.
 */
static bool
denies_kept(Weighing *w, const Subject *subject, Evidence *evidence)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID };
	Datum			  id = UUIDPGetDatum(&subject->id);

	if (!is_now(subject, "succeeded") ||
		batch_run(plan_keep(&plan,
							"SELECT FROM payment.exception_record AS x"
							" JOIN payment.resolution AS r"
							" ON r.object_id = x.id"
							" WHERE x.order_id = $1"
							" AND x.type = 'late_success'"
							" AND r.status = 'applied'"
							" AND r.outcome = 'kept'",
							lengthof(types), types),
				  &id, NULL) == 0)
		return false;
	weigh_report(w, subject, "status", evidence, 0,
				 "The PSP says that the refund has failed, but people decided "
				 "that the payer got it.");
	evidence->effect = EVIDENCE_CONTRADICTED;
	return true;
}

static void
refund_ended(Weighing *w, Subject *subject, const char *to, Evidence *evidence)
{
	bool had_succeeded = is_now(subject, "succeeded");

	if (weigh_takes_back(w, subject, evidence) ||
		denies_kept(w, subject, evidence))
		return;
	if (!is_now(subject, to))
		leave_action(subject, evidence);
	if (!transition_is_legal(OBJECT_REFUND, subject->path.now, to,
							 evidence->cause))
		return;
	weigh_step(subject, to, evidence);
	subject->failure_code = evidence->failure_code;
	subject->failure_message = evidence->failure_message;
	give_back(w, subject, had_succeeded);
	/* it came upon a dispute, or a dispute upon it */
	if (dispute_borne(&subject->order_id) > 0)
		weigh_report(w, order_of(w, subject), "dispute", evidence, 0,
					 "A refund has failed, and its seller has the money back, "
					 "while the platform bears a dispute of the order: settle "
					 "with the seller.");
}

void
refund_weigh(Weighing *w, Subject *subject, Evidence *evidence)
{
	switch (evidence->kind)
	{
		case EVIDENCE_SUCCEEDED:
			refund_succeeded(w, subject, evidence);
			break;
		case EVIDENCE_PENDING:
			weigh_step(subject, "pending", evidence);
			break;
		case EVIDENCE_REQUIRES_ACTION:
			require_action(subject, evidence);
			break;
		case EVIDENCE_VOIDED:
			/* taken back before it was executed */
			refund_ended(w, subject,
						 is_now(subject, "pending") ||
								 is_now(subject, "requires_action")
							 ? "cancelled"
							 : "failed",
						 evidence);
			break;
		case EVIDENCE_DECLINED:
		case EVIDENCE_FAILED:
		case EVIDENCE_EXPIRED:
			refund_ended(w, subject, "failed", evidence);
			break;
		default:
			break;
	}
}
