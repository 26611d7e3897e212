/*-------------------------------------------------------------------------
 *
 * dispute.c
 *	  Disputes, as their PSPs tell of them.
 *
 * A dispute is made by the first word of it, whichever comes first.  All that
 * is done to it is done under its order's lock, which refunds take too.  Two
 * things are told, mostly together: how it stands, and where its money is.
 * The status follows the table of transitions; the money is where the PSP says
 * it is, and what is held of the seller follows the money.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "order/batch.h"
#include "order/dispute.h"
#include "order/plan.h"
#include "order/psp_reference.h"
#include "order/seller_money.h"
#include "reconcile/exception.h"
#include "time_told.h"
#include "uuid7.h"

static void
report(const DisputeReport *r, const char *detail, bool has_amounts,
	   int64 expected)
{
	ExceptionReport report = {
		.type = "dispute",
		.psp_id = &r->psp_id,
		.order_id = &r->order_id,
		.currency = r->currency,
		.has_amounts = has_amounts,
		.expected_amount = expected,
		.actual_amount = r->amount,
		.detail = psprintf("Dispute \"%s\": %s", r->psp_reference, detail),
	};

	exception_open(&report);
}

static void
contradict(DisputeReport *r, const char *detail, bool has_amounts,
		   int64 expected)
{
	report(r, detail, has_amounts, expected);
	r->effect = EVIDENCE_CONTRADICTED;
}

/* false: the PSP has not told of it before */
static bool
find_named(const DisputeReport *r, pg_uuid_t *id)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, TEXTOID };
	Datum			  values[] = { UUIDPGetDatum(&r->psp_id),
								   CStringGetTextDatum(r->psp_reference) };

	plan_keep(&plan,
			  "SELECT object_id FROM payment.psp_reference"
			  " WHERE psp_id = $1 AND reference = $2",
			  lengthof(types), types);
	return batch_run(plan, values, NULL) > 0 && row_uuid(0, 1, id);
}

static bool
make(Dispute *dispute, const Subject *order, const DisputeReport *r)
{
	PspReference reference = { .psp_id = r->psp_id,
							   .reference = r->psp_reference };

	memset(dispute, 0, sizeof(Dispute));
	uuid7_generate(&dispute->id);
	dispute->order_id = order->id;
	dispute->seller_id = order->seller_id;
	dispute->psp_id = order->psp_id;
	dispute->amount = r->amount;
	dispute->currency = order->currency;
	dispute->psp_reference = r->psp_reference;
	reference.object_id = dispute->id;
	psp_references_claim(&reference, 1);
	if (reference.foreign)
		return false;
	dispute_begin(dispute, &r->said, r->cause);
	return true;
}

/*
 * What is more than was captured may be so only because we do not know yet of
 * all that was.
 */
static bool
is_possible(DisputeReport *r, const Subject *order)
{
	bool whole = strcmp(order->path.now, "captured") == 0 ||
				 strcmp(order->path.now, "reversed") == 0;

	if (uuid_compare(&order->psp_id, &r->psp_id) != 0)
		contradict(r, "it is of a PSP that the order went on from.", false, 0);
	else if (strcmp(order->currency, r->currency) != 0)
		contradict(r,
				   psprintf("it is in %s, the order in %s.", r->currency,
							order->currency),
				   true, order->captured_amount);
	else if (r->amount <= 0 || (r->amount > order->captured_amount && whole))
		contradict(r,
				   psprintf("it is of " INT64_FORMAT ", and " INT64_FORMAT
							" %s were captured (minor units).",
							r->amount, order->captured_amount,
							order->currency),
				   true, order->captured_amount);
	else if (r->amount > order->captured_amount)
		r->effect = EVIDENCE_TOO_EARLY;
	else
		return true;
	return false;
}

/* Another amount counts as long as nothing is booked. */
static bool
take_amount(Dispute *dispute, DisputeReport *r)
{
	if (dispute->amount == r->amount)
		return true;
	if (dispute->is_taken)
	{
		contradict(r,
				   psprintf("it was of " INT64_FORMAT
							" and is of " INT64_FORMAT
							" %s now (minor units).",
							dispute->amount, r->amount, dispute->currency),
				   true, dispute->amount);
		return false;
	}
	dispute->amount = r->amount;
	return true;
}

static bool
is_taken_now(const Dispute *dispute, const PspDispute *said)
{
	if (said->money != PSP_DISPUTE_UNSAID)
		return said->money == PSP_DISPUTE_TAKEN;
	if (dispute_is(dispute, "won") || dispute_is(dispute, "withdrawn"))
		return false;
	return dispute->is_taken ||
		   (dispute_is(dispute, "lost") && !dispute_is_inquiry(dispute));
}

static void
note_details(Dispute *dispute, const PspDispute *said)
{
	if (said->reason)
		dispute->reason = said->reason;
	if (time_told(said->respond_by_s) != 0)
		dispute->respond_by = time_told(said->respond_by_s);
	dispute->sequence = Max(dispute->sequence, said->sequence);
}

static bool
same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool
has_changed(const Dispute *before, const Dispute *after)
{
	return after->path.step_count > 0 || before->amount != after->amount ||
		   before->is_taken != after->is_taken || before->fee != after->fee ||
		   before->respond_by != after->respond_by ||
		   !same_text(before->reason, after->reason);
}

static void
take_in(Dispute *dispute, Subject *order, DisputeReport *r)
{
	Dispute		before = *dispute;
	bool		was_open = dispute->path.first && dispute_is_open(dispute);
	bool		was_lost = dispute->is_taken && dispute_is(dispute, "lost");
	DisputeMove move = dispute_follow(dispute, &r->said, r->cause);
	bool		taken;
	bool		takes;

	if (move == DISPUTE_OVERTAKEN || !take_amount(dispute, r))
		return;
	taken = is_taken_now(dispute, &r->said);
	takes = taken && !dispute->is_taken;
	note_details(dispute, &r->said);
	dispute_move_money(dispute, order, taken, was_lost);
	dispute_charge_fee(dispute, &r->said, takes);
	if (was_open != dispute_is_open(dispute))
	{
		order->open_disputes += was_open ? -1 : 1;
		order->books_changed = true;
	}
	r->effect =
		has_changed(&before, dispute) ? EVIDENCE_APPLIED : EVIDENCE_NO_EFFECT;
	if (r->effect == EVIDENCE_APPLIED || dispute->sequence != before.sequence)
		dispute_write(dispute, r->cause);
	if (move == DISPUTE_UNREACHABLE)
		contradict(r,
				   psprintf("the PSP says that it is %s, it is %s here.",
							r->said.status, dispute->path.now),
				   false, 0);
	else if (takes && dispute->platform_loss > 0)
		report(r,
			   psprintf("of " INT64_FORMAT " %s (minor units) " INT64_FORMAT
						" had gone back to the payer before: answer it, the "
						"platform bears that.",
						dispute->amount, dispute->currency,
						dispute->platform_loss),
			   true, dispute->amount - dispute->platform_loss);
}

static void
apply(DisputeReport *r, Subject *order)
{
	Dispute dispute;
	bool	known = find_named(r, &r->dispute_id);

	r->effect = EVIDENCE_NO_EFFECT;
	if (known && (!dispute_read(&dispute, &r->dispute_id) ||
				  uuid_compare(&dispute.order_id, &order->id) != 0))
	{
		contradict(r, "that is the name of another object.", false, 0);
		return;
	}
	r->is_known = known;
	/* what is overtaken says nothing, whatever it says */
	if (known && r->said.sequence > 0 && r->said.sequence < dispute.sequence)
		return;
	if (!is_possible(r, order))
		return;
	if (!known && !make(&dispute, order, r))
	{
		contradict(r, "that is the name of another object.", false, 0);
		return;
	}
	r->is_known = true;
	r->dispute_id = dispute.id;
	take_in(&dispute, order, r);
}

/* Their money moves dispute by dispute: it must not be waited for in a ring. */
static void
lock_sellers(const SubjectSet *set)
{
	SellerKey *sellers = palloc(Max(set->count, 1) * sizeof(SellerKey));

	for (int i = 0; i < set->count; i++)
		sellers[i] = (SellerKey){ .seller_id = set->subjects[i].seller_id,
								  .currency = set->subjects[i].currency };
	if (set->count > 1)
		sellers_lock(sellers, set->count);
}

void
disputes_apply(DisputeReport *reports, int count)
{
	SubjectKey *keys = palloc0(Max(count, 1) * sizeof(SubjectKey));
	SubjectSet	set;
	int			nest_level;

	if (count == 0)
		return;
	nest_level = batch_begin();
	for (int i = 0; i < count; i++)
		keys[i] = (SubjectKey){ .object = OBJECT_PAYMENT_ORDER,
								.id = reports[i].order_id,
								.operation = OPERATION_REFUND };
	subjects_lock(&set, keys, count);
	lock_sellers(&set);
	for (int i = 0; i < count; i++)
	{
		Subject *order = subject_find(&set, &reports[i].order_id);

		if (order)
			apply(&reports[i], order);
		else
			reports[i].effect = EVIDENCE_NO_OBJECT;
	}
	subjects_write(&set);
	batch_end(nest_level);
}
