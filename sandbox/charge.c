/*
 * charge.c
 *		What can happen to a charge.
 */
#include "charge.h"

#include "currency.h"
#include "journal.h"
#include "options.h"
#include "timer.h"

/* As each PSP has it for cards. */
static int64_t
authorization_lifetime_ms(uint8_t psp)
{
	static const int64_t days[PSP_COUNT] = {
		[PSP_STRIPE] = 7, [PSP_ADYEN] = 28, [PSP_PAYPAL] = 29
	};

	return 1000 * (options.authorization_lifetime_s > 0
					   ? options.authorization_lifetime_s
					   : days[psp] * 24 * 3600);
}

/* Only Stripe's balance is shown, so only Stripe changes money. */
BalanceTx *
charge_new_tx(const Charge *charge, BalanceTxType type, uint32_t source,
			  int64_t amount, int64_t fee)
{
	int	 currency = charge->currency;
	int	 settled_in = currency_settled_in(currency);
	bool changes = settled_in != currency && charge_psp(charge) == PSP_STRIPE;
	BalanceTx *tx;

	if (changes)
	{
		amount = currency_settle(currency, amount);
		currency = settled_in;
	}
	if (fee < 0)
		fee = currency_fee(currency, amount);
	tx = book_new_balance_tx(type, source, currency, amount, fee);
	if (changes)
	{
		tx->rate = currency_rate(charge->currency);
		journal_balance_tx(tx);
	}
	return tx;
}

void
charge_authorize(Intent *intent, Charge *charge)
{
	charge->status = CHARGE_AUTHORIZED;
	intent->due_ms = book.now_ms + authorization_lifetime_ms(intent->psp);
	timer_add_intent(intent);
	intent->status = INTENT_REQUIRES_CAPTURE;
	intent->amount_capturable = intent->amount;
	intent->failed = false;
}

void
charge_capture(Intent *intent, Charge *charge, int64_t amount)
{
	BalanceTx *tx =
		charge_new_tx(charge, TX_CHARGE, charge->number, amount, -1);

	charge->status = CHARGE_SUCCEEDED;
	charge->amount_captured += amount;
	charge->balance_tx = tx->number;
	intent->due_ms = 0;
	intent->status = INTENT_SUCCEEDED;
	intent->amount_received += amount;
	intent->amount_capturable = 0;
	intent->failed = false;
}

void
charge_fail(Intent *intent, Charge *charge)
{
	charge->status = CHARGE_FAILED;
	intent->status = INTENT_REQUIRES_PAYMENT_METHOD;
	intent->failed = true;
}

void
charge_void(Intent *intent, Charge *charge)
{
	charge->status = CHARGE_VOIDED;
	intent->due_ms = 0;
	intent->status = INTENT_CANCELED;
	intent->amount_capturable = 0;
	intent->canceled_ms = book.now_ms;
}

int64_t
charge_refundable(const Charge *charge)
{
	return charge->amount_captured - charge->amount_refunded;
}

void
charge_refund(Modification *refund)
{
	Charge *charge = book_charge(refund->charge);

	charge->amount_refunded += refund->amount;
	refund->status = MODIFICATION_SUCCEEDED;
	refund->balance_tx =
		charge_new_tx(charge, TX_REFUND, refund->number, -refund->amount, 0)
			->number;
}

void
charge_take_back_refund(Modification *refund)
{
	const BalanceTx *taken = book_balance_tx(refund->balance_tx);
	BalanceTx		*tx;

	book_charge(refund->charge)->amount_refunded -= refund->amount;
	/* As much as was taken, whatever the rate by now. */
	tx = book_new_balance_tx(TX_REFUND_FAILURE, refund->number,
							 taken->currency, -taken->amount, 0);
	tx->rate = taken->rate;
	journal_balance_tx(tx);
	refund->failure_balance_tx = tx->number;
}

bool
charge_take_back_capture(Charge *charge, int64_t amount)
{
	if (amount > charge_refundable(charge))
		return false;
	charge->amount_captured -= amount;
	book_new_balance_tx(TX_CAPTURE_FAILURE, charge->number, charge->currency,
						-amount, 0);
	if (charge->amount_captured == 0)
		charge->status = CHARGE_FAILED;
	return true;
}
