/*-------------------------------------------------------------------------
 *
 * exchange.c
 *	  What the PSP credits for an order or takes for a refund.
 *
 * Each capture is told once: with the evidence that books it, or later while
 * no settlement line has told.  unsettled_order is what both take hold of, and
 * what remembers the fees that the line will tell again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/int.h"

#include "money.h"
#include "order/exchange.h"
#include "order/plan.h"

/* does it say what is settled, and not only a currency? */
static bool
says_settled(const Evidence *evidence)
{
	return evidence->kind == EVIDENCE_SUCCEEDED &&
		   evidence->told.currency != NULL;
}

static bool
is_same(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

void
exchange_claim(SubjectSet *set, const Evidence *evidence, int count)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID };
	Column			  ids;
	Datum			  values[1];
	uint64			  rows;

	column_init(&ids, UUIDOID);
	for (int i = 0; i < count; i++)
	{
		const Subject *subject = subject_find(set, &evidence[i].object_id);

		if (says_settled(&evidence[i]) && subject &&
			subject->object == OBJECT_PAYMENT_ORDER &&
			subject->captured_amount > 0 &&
			(subject->settled.captured_amount == 0 ||
			 is_same(evidence[i].operation, OPERATION_CAPTURE)))
			column_add_uuid(&ids, &subject->id);
	}
	if (ids.count == 0)
		return;

	/* A line that is being reconciled tells better: nobody waits for it. */
	values[0] = column_array(&ids);
	rows = batch_run(plan_keep(&plan,
							   "SELECT order_id FROM payment.unsettled_order"
							   " WHERE order_id = ANY ($1)"
							   " FOR UPDATE SKIP LOCKED",
							   lengthof(types), types),
					 values, NULL);
	for (uint64 row = 0; row < rows; row++)
	{
		pg_uuid_t id;

		row_uuid(row, 1, &id);
		subject_find(set, &id)->settled.claimed = true;
	}
}

static void
leg_in(Posting *posting, AccountCode code, const pg_uuid_t *owner,
	   const char *currency, int64 amount)
{
	weigh_leg(posting, code, owner, amount);
	posting->legs[posting->leg_count - 1].currency = currency;
}

void
exchange_legs(Posting *posting, const pg_uuid_t *psp_id,
			  const char *settled_currency, int64 amount, int64 settled_amount,
			  int64 value)
{
	weigh_leg(posting, ACCOUNT_PSP_RECEIVABLE, psp_id, -amount);
	weigh_leg(posting, ACCOUNT_FX_CLEARING, NULL, amount);
	leg_in(posting, ACCOUNT_FX_CLEARING, NULL, settled_currency, -value);
	leg_in(posting, ACCOUNT_PSP_RECEIVABLE, psp_id, settled_currency,
		   settled_amount);
	leg_in(posting, ACCOUNT_FX_GAIN, NULL, settled_currency,
		   value - settled_amount);
}

int64
exchange_value(const SettledMoney *settled, int64 amount, int64 settled_amount)
{
	if (settled->exchanged_amount < amount || settled->exchanged_for < 0)
		return settled_amount;
	return money_share(settled->exchanged_for, amount,
					   settled->exchanged_amount);
}

/* ---- what comes ---- */

static bool
add_up(SettledMoney *settled, const Settled *told, int64 amount)
{
	int64 total;
	int64 fees;

	if (pg_add_s64_overflow(settled->amount, told->amount, &total) ||
		pg_add_s64_overflow(settled->psp_fee, told->psp_fee, &fees))
		return false;
	settled->currency = told->currency;
	settled->captured_amount += amount;
	settled->amount = total;
	if (told->has_psp_fee)
	{
		settled->has_psp_fee = true;
		settled->psp_fee = fees;
		settled->new_fee += told->psp_fee;
	}
	settled->exchange_rate = told->exchange_rate;
	settled->changed = true;
	return true;
}

/* Of parts only what comes after parts that are known, in one currency. */
static void
take(Weighing *w, Subject *order, const Settled *told, int64 amount)
{
	SettledMoney *settled = &order->settled;
	Posting		 *posting;

	if ((settled->currency && !is_same(settled->currency, told->currency)) ||
		settled->captured_amount != order->captured_amount - amount ||
		!add_up(settled, told, amount))
		return;
	if (is_same(told->currency, order->currency))
		return;
	posting = weigh_posting(w, order, "exchange");
	exchange_legs(posting, &order->psp_id, told->currency, amount,
				  told->amount, told->amount);
	settled->exchanged_amount += amount;
	settled->exchanged_for += told->amount;
}

void
exchange_captured(Weighing *w, Subject *order, const Evidence *evidence,
				  int64 amount)
{
	/* of all that was captured it does not say what is new */
	if (says_settled(evidence) && evidence->amount == amount &&
		(order->captured_before == 0 || order->settled.claimed))
		take(w, order, &evidence->told, amount);
}

void
exchange_told_again(Weighing *w, Subject *order, const Evidence *evidence)
{
	static const char *const taken[] = { "captured", "partially_captured",
										 NULL };

	if (says_settled(evidence) && evidence->effect == EVIDENCE_NO_EFFECT &&
		order->settled.captured_amount == 0 &&
		status_is_one_of(order->path.now, taken) &&
		(order->captured_before == 0 || order->settled.claimed) &&
		order->captured_amount > 0 &&
		evidence->amount == order->captured_amount &&
		is_same(evidence->currency, order->currency))
		take(w, order, &evidence->told, evidence->amount);
}

/* ---- what goes back ---- */

void
exchange_refunded(Weighing *w, Subject *order, Subject *refund,
				  const Evidence *evidence)
{
	const Settled *told = &evidence->told;
	int64		   value;

	if (!says_settled(evidence) || refund->settled.currency ||
		evidence->effect == EVIDENCE_CONTRADICTED ||
		is_same(told->currency, refund->currency) ||
		(order->settled.currency &&
		 !is_same(order->settled.currency, told->currency)))
		return;
	value = exchange_value(&order->settled, refund->amount, told->amount);
	exchange_legs(weigh_posting(w, refund, "exchange"), &refund->psp_id,
				  told->currency, -refund->amount, -told->amount, -value);
	refund->settled = (SettledMoney){
		.currency = told->currency,
		.amount = told->amount,
		.exchange_rate = told->exchange_rate,
		.is_exchanged = true,
		.exchanged_for = value,
		.changed = true,
	};
	order->settled.currency = told->currency;
	order->settled.exchanged_amount -= refund->amount;
	order->settled.exchanged_for -= value;
	order->settled.changed = true;
}

/* As much comes back as was taken, whatever the rate is by now. */
void
exchange_refund_failed(Weighing *w, Subject *order, Subject *refund)
{
	SettledMoney *settled = &refund->settled;

	if (!settled->is_exchanged)
		return;
	exchange_legs(weigh_posting(w, refund, "exchange_reversed"),
				  &refund->psp_id, settled->currency, refund->amount,
				  settled->amount, settled->exchanged_for);
	order->settled.exchanged_amount += refund->amount;
	order->settled.exchanged_for += settled->exchanged_for;
	order->settled.changed = true;
	settled->is_exchanged = false;
	settled->changed = true;
}

bool
exchange_reverse(Subject *order, Posting *posting)
{
	SettledMoney *settled = &order->settled;

	memset(posting, 0, sizeof(Posting));
	if (settled->exchanged_amount == 0 && settled->exchanged_for == 0)
		return false;
	posting->kind = "exchange_reversed";
	posting->subject = order->id;
	strlcpy(posting->currency, order->currency, sizeof(posting->currency));
	exchange_legs(posting, &order->psp_id, settled->currency,
				  -settled->exchanged_amount, -settled->exchanged_for,
				  -settled->exchanged_for);
	settled->amount -= settled->exchanged_for;
	settled->captured_amount = 0;
	settled->exchanged_amount = 0;
	settled->exchanged_for = 0;
	settled->changed = true;
	return true;
}

/* ---- fees ---- */

static Posting *
fee_posting(Posting *postings, int *count, const Subject *order)
{
	Posting *posting;

	for (int i = 0; i < *count; i++)
	{
		posting = &postings[i];
		if (is_same(posting->currency, order->settled.currency) &&
			uuid_compare(&posting->subject, &order->psp_id) == 0)
			return posting;
	}
	posting = &postings[(*count)++];
	posting->kind = "psp_fee";
	posting->subject = order->psp_id;
	strlcpy(posting->currency, order->settled.currency,
			sizeof(posting->currency));
	weigh_leg(posting, ACCOUNT_PSP_FEE, &order->psp_id, 0);
	weigh_leg(posting, ACCOUNT_PSP_RECEIVABLE, &order->psp_id, 0);
	return posting;
}

/* One journal for each PSP and currency: an order's own fee is in its row. */
Posting *
exchange_fees(const SubjectSet *set, int *count)
{
	Posting *postings = NULL;

	*count = 0;
	for (int i = 0; i < set->count; i++)
	{
		const Subject *order = &set->subjects[i];
		Posting		  *posting;

		if (order->settled.new_fee == 0)
			continue;
		if (postings == NULL)
			postings = palloc0(sizeof(Posting) * set->count);
		posting = fee_posting(postings, count, order);
		posting->legs[0].amount =
			money_add(posting->legs[0].amount, order->settled.new_fee);
		posting->legs[1].amount = -posting->legs[0].amount;
	}
	return postings;
}
