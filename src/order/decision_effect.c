/*-------------------------------------------------------------------------
 *
 * decision_effect.c
 *	  What a decision about an exception means for status and ledger.
 *
 * The words say what became of the money:
 *
 *	  captured	a conflicted order is paid with what the PSP really took
 *	  kept	it moved and stays: it is booked, if it is not yet
 *	  refunded_outside	it moved and was given back beside this system
 *	  not_executed	it never moved: the PSP was wrong
 *	  written_off	too little moved, and the platform bears it
 *
 * What was given back or never moved leaves nothing in the ledger: a charge
 * and its refund cancel each other in the settlement, too.  An exception about
 * something else than the charge that is booked takes nothing of it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "errcodes.h"
#include "order/batch.h"
#include "order/decision.h"
#include "order/plan.h"
#include "order/refund.h"

static bool
is(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

static void
pg_attribute_noreturn()
	refuse(const DecidedException *exception, const Verdict *verdict,
		   const Subject *subject, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_WRONG_STATE),
			 errmsg("resolution \"%s\" does not fit the exception",
					verdict->outcome),
			 errdetail("It is of the type \"%s\", its object is \"%s\".",
					   exception->type, subject->path.now),
			 errhint("%s", hint)));
}

static void
leg(DecisionEffect *effect, AccountCode code, const pg_uuid_t *owner,
	int64 amount)
{
	Posting *posting = &effect->posting;

	if (amount == 0)
		return;
	Assert(posting->leg_count < POSTING_MAX_LEGS);
	posting->legs[posting->leg_count++] =
		(PostingLeg){ .code = code, .owner = owner, .amount = amount };
}

static void
begin_posting(DecisionEffect *effect, const char *kind, const Subject *subject,
			  const char *currency)
{
	effect->posting.kind = kind;
	effect->posting.subject = subject->id;
	strlcpy(effect->posting.currency, currency,
			sizeof(effect->posting.currency));
}

/*
 * The seller owes it: taken from what is available, the rest is a claim on the
 * seller.  Who takes the money in between makes this fail, and be repeated.
 */
static void
charge_seller(DecisionEffect *effect, const Subject *subject, int64 amount)
{
	pg_uuid_t account;
	int128	  available;
	int64	  taken;

	ledger_chart_account(ACCOUNT_SELLER_AVAILABLE, &subject->seller_id,
						 effect->posting.currency, &account);
	available = Max(-ledger_balance(&account) - ledger_held(&account), 0);
	taken = (int64) Min(available, (int128) amount);
	leg(effect, ACCOUNT_SELLER_AVAILABLE, &subject->seller_id, taken);
	leg(effect, ACCOUNT_SELLER_RECEIVABLE, &subject->seller_id,
		amount - taken);
}

/* what is left of the fee, when less was captured than it is */
static int64
fee_of(const Subject *subject, int64 captured)
{
	return Min(subject->platform_fee, captured);
}

static void
capture(const DecidedException *exception, const Verdict *verdict,
		const Subject *subject, DecisionEffect *effect)
{
	int64 amount =
		exception->has_amount ? exception->actual_amount : subject->amount;
	int64 fee = fee_of(subject, amount);

	if (is(exception->type, "currency") || amount <= 0)
		refuse(exception, verdict, subject,
			   "An order is captured in its own currency, and not with "
			   "nothing.");
	if (verdict->psp_reference == NULL && subject->psp_reference == NULL)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("a success needs the PSP's reference"),
						errdetail("The order has none that is its own."),
						errhint("Pass the PSP's name of the charge.")));
	effect->to = "captured";
	effect->captures = true;
	begin_posting(effect, "capture", subject, subject->currency);
	leg(effect, ACCOUNT_PSP_RECEIVABLE, &subject->psp_id, amount);
	leg(effect, ACCOUNT_SELLER_PENDING, &subject->seller_id, -(amount - fee));
	leg(effect, ACCOUNT_PLATFORM_FEE, NULL, -fee);
}

/* what people booked besides the captures, as the charge differed from them */
static int64
read_written_off(const Subject *subject)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID };
	Datum			  id = UUIDPGetDatum(&subject->id);

	batch_run(plan_keep(&plan,
						"SELECT coalesce(sum(e.amount), 0)::bigint"
						" FROM payment.journal AS j"
						" JOIN payment.entry AS e ON e.journal_id = j.id"
						" JOIN payment.account AS a ON a.id = e.account_id"
						" WHERE j.subject = $1 AND j.id > $1 AND e.journal_id"
						" > $1 AND j.kind = 'written_off'"
						" AND a.code = 'write_off'",
						lengthof(types), types),
			  &id, NULL);
	return row_int64(0, 1);
}

static bool
was_kept(const Subject *subject)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID };
	Datum			  id = UUIDPGetDatum(&subject->id);

	return batch_run(plan_keep(&plan,
							   "SELECT FROM payment.exception_record AS x"
							   " JOIN payment.resolution AS r"
							   " ON r.object_id = x.id"
							   " WHERE x.order_id = $1"
							   " AND x.type IN ('amount', 'currency')"
							   " AND r.status = 'applied'"
							   " AND r.outcome = 'kept'",
							   lengthof(types), types),
					 &id, NULL) > 0;
}

/* Nobody knows yet what is left of it. */
static void
check_refunds(const DecidedException *exception, const Verdict *verdict,
			  const Subject *subject)
{
	if (refund_is_under_way(&subject->id))
		refuse(exception, verdict, subject,
			   "A refund of the order is under way: wait until it is over, "
			   "then decide about what is left.");
	if (refund_is_in_doubt(&subject->id))
		refuse(exception, verdict, subject,
			   "Whether a refund of the order reached the payer is in doubt: "
			   "decide its exception first.");
}

/*
 * A captured order's money was not ours to keep.  What went back by refunds or
 * disputes is gone already, and what was written off had never come.
 */
static void
reverse_capture(const DecidedException *exception, const Verdict *verdict,
				const Subject *subject, DecisionEffect *effect)
{
	int64 amount = subject->captured_amount - subject->refunded_amount -
				   subject->disputed_amount;
	int64 fee =
		subject->captured_fee - subject->fee_returned - subject->disputed_fee;
	int64 pending = subject->pending_amount;
	int64 written_off = Min(read_written_off(subject), amount);

	if (subject->open_disputes > 0)
		refuse(exception, verdict, subject,
			   "It is disputed: wait until it is known who has the money, as "
			   "payment.dispute shows.");
	check_refunds(exception, verdict, subject);
	if (was_kept(subject))
		refuse(exception, verdict, subject,
			   "More than was captured is booked of it by an earlier "
			   "decision: post what is right by payment.post_journal(), then "
			   "decide \"kept\".");
	effect->to = "reversed";
	begin_posting(effect, "capture_reversed", subject, subject->currency);
	leg(effect, ACCOUNT_SELLER_PENDING, &subject->seller_id, pending);
	charge_seller(effect, subject, amount - fee - pending);
	leg(effect, ACCOUNT_PLATFORM_FEE, NULL, fee);
	leg(effect, ACCOUNT_WRITE_OFF, NULL, -written_off);
	leg(effect, ACCOUNT_PSP_RECEIVABLE, &subject->psp_id,
		-(amount - written_off));
}

static void
return_payout(const Subject *subject, DecisionEffect *effect)
{
	effect->to = "returned";
	begin_posting(effect, "payout_returned", subject, subject->currency);
	leg(effect, ACCOUNT_BANK, NULL, subject->amount);
	leg(effect, ACCOUNT_SELLER_AVAILABLE, &subject->seller_id,
		-subject->amount);
}

/*
 * Money that no order explains is owed to its payer; a payout too many is owed
 * by its seller.  A negative amount: less left than was booked.
 */
static void
book(const DecidedException *exception, const Verdict *verdict,
	 const Subject *subject, int64 amount, DecisionEffect *effect)
{
	if (subject->object == OBJECT_PAYMENT_ORDER)
	{
		if (amount < 0)
			refuse(exception, verdict, subject,
				   "Less was charged than is booked: decide \"written_off\", "
				   "or post what is right by payment.post_journal().");
		begin_posting(effect, "unidentified_receipt", subject,
					  exception->currency);
		leg(effect, ACCOUNT_PSP_RECEIVABLE, &exception->psp_id, amount);
		leg(effect, ACCOUNT_UNIDENTIFIED_RECEIPTS, &exception->psp_id,
			-amount);
		return;
	}
	if (!is(exception->currency, subject->currency))
		refuse(exception, verdict, subject,
			   "Post what was paid in another currency by "
			   "payment.post_journal(), then decide \"refunded_outside\".");
	begin_posting(effect, "payout_corrected", subject, subject->currency);
	if (amount > 0)
		charge_seller(effect, subject, amount);
	else
		leg(effect, ACCOUNT_SELLER_AVAILABLE, &subject->seller_id, amount);
	leg(effect, ACCOUNT_BANK, NULL, -amount);
}

/* what is booked of the object's money */
static int64
booked(const Subject *subject)
{
	if (subject->object == OBJECT_PAYMENT_ORDER)
		return is(subject->path.now, "captured") ? subject->captured_amount
												 : 0;
	return is(subject->path.now, "paid") ? subject->amount : 0;
}

static void
keep(const DecidedException *exception, const Verdict *verdict,
	 const Subject *subject, DecisionEffect *effect)
{
	if (exception->in_ledger || is(exception->type, "status"))
		return;
	if (!exception->has_amount)
		refuse(exception, verdict, subject,
			   "Nothing says how much it was: post it by "
			   "payment.post_journal(), then decide \"refunded_outside\".");
	if (is(exception->type, "amount") || is(exception->type, "currency"))
	{
		if (was_decided(&exception->id, "kept"))
			refuse(exception, verdict, subject,
				   "It was booked by an earlier decision: post the difference "
				   "by payment.post_journal().");
		if (is(exception->type, "currency") && booked(subject) != 0)
			refuse(exception, verdict, subject,
				   "It is booked in the order's currency: post what is right "
				   "by payment.post_journal().");
		book(exception, verdict, subject,
			 exception->actual_amount - booked(subject), effect);
	}
	else
		book(exception, verdict, subject, exception->actual_amount, effect);
}

static void
write_off(const DecidedException *exception, const Verdict *verdict,
		  const Subject *subject, DecisionEffect *effect)
{
	int64 loss;

	if (subject->object != OBJECT_PAYMENT_ORDER ||
		!is(exception->type, "amount") || !exception->has_amount ||
		!is(subject->path.now, "captured") ||
		exception->actual_amount >= subject->captured_amount ||
		was_decided(&exception->id, "written_off"))
		refuse(exception, verdict, subject,
			   "Only what was charged less than captured is a loss, once.");
	loss = subject->captured_amount - exception->actual_amount;
	begin_posting(effect, "written_off", subject, subject->currency);
	leg(effect, ACCOUNT_WRITE_OFF, NULL, loss);
	leg(effect, ACCOUNT_PSP_RECEIVABLE, &subject->psp_id, -loss);
}

static int64
count_captures(const Subject *subject)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID };
	Datum			  id = UUIDPGetDatum(&subject->id);

	batch_run(plan_keep(&plan,
						"SELECT count(*) FROM payment.journal"
						" WHERE subject = $1 AND id > $1 AND kind = 'capture'",
						lengthof(types), types),
			  &id, NULL);
	return row_int64(0, 1);
}

/* Which of several captures failed nobody can say here, nor whose loss it is. */
static void
check_only_capture(const DecidedException *exception, const Verdict *verdict,
				   const Subject *subject)
{
	const char *now = subject->path.now;

	if (subject->object != OBJECT_PAYMENT_ORDER || is(now, "reversed") ||
		!is(exception->type, "status") || !exception->in_ledger ||
		(is(now, "captured") && count_captures(subject) == 1))
		return;
	refuse(exception, verdict, subject,
		   "A capture failed that is not all of the order: post what it took "
		   "back by payment.post_journal(), then decide \"kept\".");
}

/*
 * Is it about the charge that is booked?  What another PSP did, and what was
 * only reserved, are not.
 */
static bool
is_about_charge(const DecidedException *exception, const Subject *subject)
{
	return uuid_compare(&exception->psp_id, &subject->psp_id) == 0 &&
		   (exception->in_ledger ||
			(is(exception->type, "status") && !exception->has_amount));
}

/* it was given back, or never was: what is booked of it goes */
static void
undo(const DecidedException *exception, const Verdict *verdict,
	 const Subject *subject, DecisionEffect *effect)
{
	if (!is_about_charge(exception, subject))
		return;
	check_only_capture(exception, verdict, subject);
	if (is(subject->path.now, "captured"))
		reverse_capture(exception, verdict, subject, effect);
	else if (is(subject->path.now, "paid"))
		return_payout(subject, effect);
}

/* ---- refunds ---- */

/*
 * The payer got what the seller had back: the seller gives it once more.  Its
 * parts may come from elsewhere by now, the platform's part stays.
 */
static void
keep_refund(const DecidedException *exception, const Verdict *verdict,
			const Subject *refund, const Subject *order,
			DecisionEffect *effect)
{
	int64 seller_part = refund->amount - refund->fee_share;
	int64 left = order->captured_amount - order->refunded_amount -
				 order->disputed_amount;
	int64 fee_left =
		order->captured_fee - order->fee_returned - order->disputed_fee;

	if (!is(exception->type, "late_success") ||
		is(refund->path.now, "succeeded"))
		return;
	if (!exception->has_amount || exception->actual_amount != refund->amount ||
		!is(exception->currency, refund->currency) || refund->amount > left ||
		refund->fee_share > fee_left || is(order->path.now, "reversed"))
		refuse(exception, verdict, refund,
			   "It went out otherwise than it was asked for, or its order has "
			   "not that much left: post what is right by "
			   "payment.post_journal(), then decide \"refunded_outside\".");
	effect->to = "succeeded";
	effect->refunds = true;
	effect->from_pending = Min(seller_part, order->pending_amount);
	begin_posting(effect, "refund_corrected", refund, refund->currency);
	leg(effect, ACCOUNT_PLATFORM_FEE, NULL, refund->fee_share);
	leg(effect, ACCOUNT_SELLER_PENDING, &refund->seller_id,
		effect->from_pending);
	charge_seller(effect, refund, seller_part - effect->from_pending);
	leg(effect, ACCOUNT_PSP_RECEIVABLE, &refund->psp_id, -refund->amount);
}

static void
decide_refund(const DecidedException *exception, const Verdict *verdict,
			  const Subject *refund, const Subject *order,
			  DecisionEffect *effect)
{
	const char *outcome = verdict->outcome;
	bool		kept = is(outcome, "kept");

	if (is(outcome, "captured") || is(outcome, "written_off"))
		refuse(exception, verdict, refund,
			   "Of a refund decide \"kept\", \"refunded_outside\" or "
			   "\"not_executed\".");
	if (kept && !is(exception->type, "late_success") &&
		!is(exception->type, "status"))
		refuse(exception, verdict, refund,
			   "Post what was paid too much by payment.post_journal(), then "
			   "decide \"refunded_outside\".");
	if (!kept && is(exception->type, "status") &&
		is(refund->path.now, "succeeded"))
		refuse(exception, verdict, refund,
			   "It is booked as paid: post what is right by "
			   "payment.post_journal(), then decide \"kept\".");
	if (kept)
		keep_refund(exception, verdict, refund, order, effect);
}

void
decision_effect(const DecidedException *exception, const Verdict *verdict,
				const Subject *subject, const Subject *order,
				DecisionEffect *effect)
{
	const char *outcome = verdict->outcome;
	bool		conflict = is(subject->path.now, "conflicted") &&
					!is(exception->type, "late_success") &&
					!is(exception->type, "status") &&
					uuid_compare(&exception->psp_id, &subject->psp_id) == 0;

	memset(effect, 0, sizeof(DecisionEffect));
	if (is(subject->path.now, "unknown"))
		refuse(exception, verdict, subject,
			   "Decide first what became of it, by "
			   "payment.resolve_unknown().");
	if (is(exception->type, "dispute"))
	{
		if (!is(outcome, "kept"))
			refuse(
				exception, verdict, subject,
				"The books follow what the PSP says of a dispute: post what "
				"else is right by payment.post_journal(), then decide "
				"\"kept\".");
		return;
	}
	if (subject->object == OBJECT_REFUND)
	{
		decide_refund(exception, verdict, subject, order, effect);
		return;
	}
	if (is(outcome, "captured"))
	{
		if (!conflict)
			refuse(exception, verdict, subject,
				   "Only a conflicted order is captured by decision.");
		capture(exception, verdict, subject, effect);
		return;
	}
	if (is(outcome, "written_off"))
		write_off(exception, verdict, subject, effect);
	else if (is(outcome, "kept"))
		keep(exception, verdict, subject, effect);
	else
		undo(exception, verdict, subject, effect);
	if (conflict)
		effect->to = "failed";
}
