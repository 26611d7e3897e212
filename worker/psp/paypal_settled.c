/*-------------------------------------------------------------------------
 *
 * paypal_settled.c
 *	  What PayPal credits for a capture.
 *
 * Gross and fee are in the currency of the charge; where PayPal exchanges, what
 * is credited comes beside them, with the rate, and after the fee.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "psp/paypal.h"
#include "psp/settled.h"

typedef struct Money
{
	bool  is_there;
	bool  is_legible;
	char  currency[4];
	int64 amount;
} Money;

static Money
read_money(const JsonDocument *json, const JsonNode *breakdown,
		   const char *name)
{
	const JsonNode *node = json_member(json, breakdown, name);
	PspOutcome		read = { .has_amount = false };
	Money			money = { .is_there = node && node->type != JSON_NULL };

	money.is_legible = money.is_there &&
					   paypal_read_money(json, node, "currency_code", &read);
	money.amount = read.amount;
	memcpy(money.currency, read.currency, sizeof(money.currency));
	return money;
}

static bool
is_money_of(const Money *money, const char *currency)
{
	return money->is_legible && strcmp(money->currency, currency) == 0;
}

/* The fee was taken before the exchange: in terms of what came of it. */
static bool
add_fee_back(const JsonDocument *json, const JsonNode *breakdown,
			 const Money *fee, PspSettled *settled)
{
	Money exchanged =
		read_money(json, breakdown, "paypal_fee_in_receivable_currency");

	if (is_money_of(&exchanged, settled->currency) &&
		exchanged.amount <= PSP_SETTLED_AMOUNT_MAX)
		settled->fee = exchanged.amount;
	else if (exchanged.is_there || fee->amount > 0)
		return false; /* nobody knows how much that is */
	settled->amount += settled->fee;
	return true;
}

void
paypal_read_settled(const JsonDocument *json, const JsonNode *capture,
					PspOutcome *outcome)
{
	const JsonNode *breakdown =
		json_member(json, capture, "seller_receivable_breakdown");
	Money	   gross = read_money(json, breakdown, "gross_amount");
	Money	   fee = read_money(json, breakdown, "paypal_fee");
	Money	   net = read_money(json, breakdown, "net_amount");
	Money	   receivable = read_money(json, breakdown, "receivable_amount");
	PspSettled settled = { .has_fee = true, .fee = fee.amount };

	if (!is_money_of(&gross, outcome->currency) ||
		gross.amount != outcome->amount ||
		(fee.is_there && !is_money_of(&fee, gross.currency)) ||
		!is_money_of(&net, gross.currency) ||
		net.amount != gross.amount - fee.amount ||
		(receivable.is_there && !receivable.is_legible))
		return;
	settled.amount = gross.amount;
	memcpy(settled.currency, gross.currency, sizeof(settled.currency));
	if (receivable.is_there &&
		strcmp(receivable.currency, gross.currency) != 0)
	{
		settled.amount = Min(receivable.amount, PSP_SETTLED_AMOUNT_MAX + 1);
		settled.fee = 0;
		memcpy(settled.currency, receivable.currency,
			   sizeof(settled.currency));
		if (!add_fee_back(json, breakdown, &fee, &settled))
			return;
		settled.rate =
			member_rate(json, json_member(json, breakdown, "exchange_rate"),
						"value");
	}
	outcome_settled(outcome, &settled);
}
