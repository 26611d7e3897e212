/*
 * adyen_modification.c
 *		Captures, refunds and reversals: taken in at once, decided later, and
 *		told by a notification only.
 */
#include "adyen.h"

#include <stdlib.h>
#include <string.h>

#include "charge.h"
#include "currency.h"
#include "journal.h"
#include "json.h"
#include "options.h"
#include "timer.h"

/* A reference that begins so makes the modification fail. */
#define FAILING_PREFIX "sandbox_fail"

typedef struct ModificationParams
{
	ModificationKind kind;
	Intent			*intent;
	int64_t			 amount;
	int				 currency;
	const char		*reference;
} ModificationParams;

static const char *const fields[] = { "amount",
									  "applicationInfo",
									  "capturePspReference",
									  "enhancedSchemeData",
									  "industryUsage",
									  "lineItems",
									  "merchantAccount",
									  "merchantRefundReason",
									  "platformChargebackLogic",
									  "reference",
									  "splits",
									  "store",
									  "subMerchants",
									  NULL };

/* The others take all there is. */
static bool
has_amount(ModificationKind kind)
{
	return kind == MODIFY_CAPTURE || kind == MODIFY_REFUND;
}

static bool
prepare(Request *request, ModificationKind kind)
{
	ModificationParams *params = xcalloc(1, sizeof(ModificationParams));

	request->prepared = params;
	params->kind = kind;
	if (!adyen_known(request, fields) || !adyen_merchant(request) ||
		!adyen_reference(request, false, &params->reference))
		return false;
	if (has_amount(kind) &&
		!adyen_amount(request, &params->amount, &params->currency))
		return false;
	params->intent = book_find_intent(PSP_ADYEN, request->id);
	if (params->intent == NULL || params->intent->latest_charge == NONE)
		return adyen_invalid(request, "167",
							 "Original pspReference required for this "
							 "operation");
	if (!has_amount(kind))
		params->currency = params->intent->currency;
	else if (params->amount == 0)
		return adyen_invalid(request, "137", "Invalid amount specified");
	return true;
}

bool
adyen_prepare_capture(Request *request)
{
	return prepare(request, MODIFY_CAPTURE);
}

bool
adyen_prepare_refund(Request *request)
{
	return prepare(request, MODIFY_REFUND);
}

bool
adyen_prepare_cancel(Request *request)
{
	return prepare(request, MODIFY_CANCEL);
}

bool
adyen_prepare_reversal(Request *request)
{
	return prepare(request, MODIFY_REVERSAL);
}

static void
answer_received(Request *request, const Modification *modification)
{
	const ModificationParams *params = request->prepared;
	Buf						 *b = &request->answer.body;

	request->answer.status = 201;
	json_open(b, NULL, '{');
	json_str(b, "merchantAccount", options.adyen_merchant);
	json_str(b, "paymentPspReference", public_id(params->intent->id));
	json_str(b, "pspReference", public_id(modification->id));
	if (params->reference != NULL)
		json_str(b, "reference", params->reference);
	json_str(b, "status", "received");
	if (has_amount(params->kind))
		adyen_amount_json(b, modification->currency, modification->amount);
	json_close(b, '}');
}

void
adyen_modify(Request *request)
{
	const ModificationParams *params = request->prepared;
	Modification			 *modification =
		book_new_modification(PSP_ADYEN, params->kind,
							  book_charge(params->intent->latest_charge));

	request->executed = true;
	modification->amount = params->amount + (request->wrong_amount ? 1 : 0);
	modification->currency = request->wrong_currency
								 ? currency_other(params->currency)
								 : params->currency;
	modification->reference = xstrdup(params->reference);
	modification->idempotency_key = xstrdup(request->idempotency_key);
	modification->due_ms = book.now_ms + options.modification_delay_ms;
	timer_add_modification(modification);
	journal_modification(modification);
	answer_received(request, modification);
}

/* Each gives the reason why it cannot be done, or does it. */
static const char *
capture(Modification *m, Intent *intent, Charge *charge)
{
	bool again = options.adyen_multiple_captures &&
				 intent->capture_method == CAPTURE_MANUAL &&
				 charge->status == CHARGE_SUCCEEDED;

	if (charge->status != CHARGE_AUTHORIZED && !again)
		return "Transaction hasn't been authorised or is captured already";
	if (m->currency != charge->currency ||
		m->amount > charge->amount - charge->amount_captured)
		return "Insufficient balance on payment";
	charge_capture(intent, charge, m->amount);
	return NULL;
}

static const char *
refund(Modification *m, const Charge *charge)
{
	if (charge->status != CHARGE_SUCCEEDED)
		return "Transaction hasn't been captured, refund not possible";
	if (m->currency != charge->currency ||
		m->amount > charge_refundable(charge))
		return "Insufficient balance on payment";
	charge_refund(m);
	return NULL;
}

static const char *
cancel(Modification *m, Intent *intent, Charge *charge)
{
	if (charge->status != CHARGE_AUTHORIZED)
		return "Transaction hasn't been authorised or is captured already";
	m->amount = charge->amount;
	charge_void(intent, charge);
	return NULL;
}

static const char *
reverse(Modification *m, Intent *intent, Charge *charge, const char **action)
{
	if (charge->status == CHARGE_AUTHORIZED)
	{
		*action = "cancel";
		m->amount = charge->amount;
		charge_void(intent, charge);
		return NULL;
	}
	*action = "refund";
	m->amount = charge_refundable(charge);
	if (m->amount == 0)
		return "Insufficient balance on payment";
	return refund(m, charge);
}

void
adyen_modification_finish(Modification *m)
{
	static const char *const codes[] = { "CAPTURE", "REFUND",
										 "CANCEL_OR_REFUND", "CANCELLATION" };
	Charge					*charge = book_charge(m->charge);
	Intent					*intent = book_intent(charge->intent);
	AdyenEvent				 event = { .code = codes[m->kind],
									   .psp_reference = public_id(m->id),
									   .original_reference = public_id(intent->id) };

	m->due_ms = 0;
	if (m->reference != NULL &&
		strncmp(m->reference, FAILING_PREFIX, strlen(FAILING_PREFIX)) == 0)
		event.reason = "The sandbox was asked to let it fail";
	else if (m->kind == MODIFY_CAPTURE)
		event.reason = capture(m, intent, charge);
	else if (m->kind == MODIFY_CANCEL)
		event.reason = cancel(m, intent, charge);
	else if (m->kind == MODIFY_REFUND)
		event.reason = refund(m, charge);
	else
		event.reason = reverse(m, intent, charge, &event.action);
	m->status =
		event.reason == NULL ? MODIFICATION_SUCCEEDED : MODIFICATION_FAILED;
	event.merchant_reference = m->reference ? m->reference : intent->reference;
	event.currency = m->currency;
	event.amount = m->amount;
	adyen_notify(&event);
	journal_modification(m);
	journal_charge(charge);
	journal_intent(intent);
}
