/*
 * adyen_event.c
 *		What Adyen tells without having been asked: disputes, and captures and
 *		refunds that fail after all. Tests decide when.
 */
#include "adyen.h"

#include <string.h>

#include "charge.h"
#include "dispute.h"
#include "journal.h"
#include "json.h"

typedef enum EventEffect
{
	EFFECT_NONE,
	EFFECT_WITHDRAW,
	EFFECT_REINSTATE,
	EFFECT_VOID,
	EFFECT_CAPTURE_FAILS,
	EFFECT_REFUND_FAILS
} EventEffect;

static const struct
{
	const char *code;
	const char *dispute_status; /* NULL: it is about no dispute */
	EventEffect effect;
} events[] = { { "REQUEST_FOR_INFORMATION", "Unresponded", EFFECT_NONE },
			   { "INFORMATION_SUPPLIED", "Responded", EFFECT_NONE },
			   { "NOTIFICATION_OF_FRAUD", "", EFFECT_NONE },
			   { "NOTIFICATION_OF_CHARGEBACK", "Undefended", EFFECT_NONE },
			   { "CHARGEBACK", "Undefended", EFFECT_WITHDRAW },
			   { "DISPUTE_DEFENSE_PERIOD_ENDED", "Expired", EFFECT_NONE },
			   { "CHARGEBACK_REVERSED", "Pending", EFFECT_REINSTATE },
			   { "SECOND_CHARGEBACK", "Lost", EFFECT_WITHDRAW },
			   { "PREARBITRATION_WON", "Won", EFFECT_REINSTATE },
			   { "PREARBITRATION_LOST", "Lost", EFFECT_WITHDRAW },
			   { "CANCELLATION", NULL, EFFECT_VOID },
			   { "EXPIRE", NULL, EFFECT_VOID },
			   { "CAPTURE_FAILED", NULL, EFFECT_CAPTURE_FAILS },
			   { "REFUND_FAILED", NULL, EFFECT_REFUND_FAILS } };

#define EVENT_COUNT (sizeof(events) / sizeof(events[0]))

/* All events of a dispute have its pspReference. */
static Dispute *
dispute_of(Charge *charge, int64_t amount)
{
	Dispute *dispute;

	if (charge->dispute != NONE)
		return book_dispute(charge->dispute);
	dispute = book_new_dispute(charge);
	dispute->amount = amount;
	charge->dispute = dispute->number;
	journal_charge(charge);
	return dispute;
}

/* NULL, or why it cannot be so. */
static const char *
move_dispute(Charge *charge, EventEffect effect, int64_t amount,
			 AdyenEvent *event)
{
	Dispute *dispute;

	if (charge->status != CHARGE_SUCCEEDED || amount > charge->amount_captured)
		return "the payment is not captured, or not so much of it";
	if (effect != EFFECT_NONE &&
		(effect == EFFECT_WITHDRAW) ==
			(charge->dispute != NONE &&
			 book_dispute(charge->dispute)->withdrawn))
		return "the money is there already";
	dispute =
		dispute_of(charge, amount > 0 ? amount : charge->amount_captured);
	if (effect != EFFECT_NONE)
		dispute_move_money(dispute, effect == EFFECT_WITHDRAW);
	journal_dispute(dispute);
	event->psp_reference = public_id(dispute->id);
	event->amount = dispute->amount;
	return NULL;
}

static const char *
void_payment(Intent *intent, Charge *charge)
{
	if (charge->status != CHARGE_AUTHORIZED)
		return "the payment is not authorised, or captured already";
	charge_void(intent, charge);
	return NULL;
}

static const char *
fail_modification(Modification *m, ModificationKind kind, AdyenEvent *event)
{
	if (m == NULL || m->kind != (uint8_t) kind ||
		m->status != MODIFICATION_SUCCEEDED)
		return "modification has to name one that succeeded";
	if (kind == MODIFY_REFUND)
		charge_take_back_refund(m);
	else if (!charge_take_back_capture(book_charge(m->charge), m->amount))
		return "it is refunded already";
	m->status = MODIFICATION_FAILED;
	journal_modification(m);
	event->psp_reference = public_id(m->id);
	event->amount = m->amount;
	return NULL;
}

static const char *
apply(size_t which, Intent *intent, Modification *m, int64_t amount,
	  AdyenEvent *event)
{
	Charge	   *charge = book_charge(intent->latest_charge);
	const char *problem = NULL;

	switch (events[which].effect)
	{
		case EFFECT_NONE:
		case EFFECT_WITHDRAW:
		case EFFECT_REINSTATE:
			problem =
				move_dispute(charge, events[which].effect, amount, event);
			break;
		case EFFECT_VOID:
			problem = void_payment(intent, charge);
			break;
		case EFFECT_CAPTURE_FAILS:
			problem = fail_modification(m, MODIFY_CAPTURE, event);
			break;
		case EFFECT_REFUND_FAILS:
			problem = fail_modification(m, MODIFY_REFUND, event);
	}
	journal_charge(charge);
	journal_intent(intent);
	return problem;
}

static size_t
find_event(const char *code)
{
	size_t which = 0;

	while (which < EVENT_COUNT && strcmp(events[which].code, code) != 0)
		which++;
	return which;
}

static void
answer_event(Request *request, const AdyenEvent *event)
{
	Buf *b = &request->answer.body;

	json_open(b, NULL, '{');
	json_str(b, "eventCode", event->code);
	json_str(b, "pspReference", event->psp_reference);
	json_str(b, "originalReference", event->original_reference);
	json_int(b, "amount", event->amount);
	json_int(b, "notification", book.notifications.count);
	json_close(b, '}');
}

void
control_adyen_events(Request *request)
{
	const char	 *payment;
	const char	 *code;
	const char	 *status = form_take(request->params, "disputeStatus");
	const char	 *note = form_take(request->params, "reason");
	const char	 *modification = form_take(request->params, "modification");
	int64_t		  amount = 0;
	Intent		 *intent;
	Modification *m = NULL;
	const char	 *problem;
	size_t		  which;
	AdyenEvent	  event = { 0 };

	if (!param_required(request, "payment", &payment) ||
		!param_required(request, "event", &code) ||
		!param_int(request, "amount", 1, AMOUNT_MAX, &amount) ||
		!params_known(request))
		return;
	intent = book_find_intent(PSP_ADYEN, payment);
	which = find_event(code);
	if (intent == NULL || intent->latest_charge == NONE)
	{
		answer_missing_object(request, "payment", "payment", payment);
		return;
	}
	if (which == EVENT_COUNT)
	{
		answer_invalid(request, NULL, "event", "No such event: %.100s", code);
		return;
	}
	if (modification != NULL)
		m = book_find_modification(PSP_ADYEN, modification);
	event = (AdyenEvent){ .code = events[which].code,
						  .psp_reference = public_id(intent->id),
						  .original_reference = public_id(intent->id),
						  .merchant_reference = intent->reference,
						  .currency = intent->currency,
						  .amount = intent->amount,
						  .dispute_status =
							  status ? status : events[which].dispute_status,
						  .note = note };
	problem = apply(which, intent, m, amount, &event);
	if (problem != NULL)
	{
		answer_invalid(request, NULL, "event", "%s: %s.", code, problem);
		return;
	}
	adyen_notify(&event);
	answer_event(request, &event);
}
