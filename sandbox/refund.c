/*
 * refund.c
 *		Refunds of charges. The money leaves the balance when the refund is
 *		made, and comes back when it fails, which may be after it succeeded.
 */
#include "refund.h"

#include <string.h>

#include "balance.h"
#include "charge.h"
#include "currency.h"
#include "dispute.h"
#include "fault.h"
#include "journal.h"
#include "json.h"
#include "listing.h"
#include "options.h"
#include "payment_intent.h"
#include "stripe_event.h"
#include "timer.h"

/* What becomes of a refund; the names are values of metadata[sandbox]. */
typedef enum RefundOutcome
{
	REFUND_SUCCEEDS,
	REFUND_PENDS,
	REFUND_FAILS,
	REFUND_FAILS_LATER,
	REFUND_WAITS, /* until somebody moves it */
	REFUND_REQUIRES_ACTION
} RefundOutcome;

static const char *const outcome_names[] = { "succeed", "pending",
											 "fail",	"fail_later",
											 "stuck",	"requires_action",
											 NULL };

static const char *const statuses[] = { "pending",	"succeeded",
										"failed",	"requires_action",
										"canceled", NULL };

static const char *const reason_choices[] = { "duplicate", "fraudulent",
											  "requested_by_customer", NULL };

typedef struct RefundParams
{
	Charge	*charge;
	int64_t	 amount; /* 0: all that is left */
	int		 reason;
	int		 outcome; /* -1: nobody said */
	unsigned expand;
} RefundParams;

static bool
find_charge(Request *request, RefundParams *params)
{
	const char	 *intent_id = form_take(request->params, "payment_intent");
	const char	 *charge_id = form_take(request->params, "charge");
	const Intent *intent;

	if ((intent_id == NULL) == (charge_id == NULL))
		return answer_invalid(request, "parameter_missing", "payment_intent",
							  "One of payment_intent and charge has to be "
							  "given.");
	if (charge_id != NULL)
	{
		params->charge = book_find_charge(PSP_STRIPE, charge_id);
		return params->charge != NULL ||
			   answer_missing_object(request, "charge", "charge", charge_id);
	}
	intent = book_find_intent(PSP_STRIPE, intent_id);
	if (intent == NULL)
		return answer_missing_object(request, "payment_intent",
									 "payment_intent", intent_id);
	if (intent->latest_charge == NONE)
		return answer_invalid(request, NULL, "payment_intent",
							  "This PaymentIntent does not have a successful "
							  "charge to refund.");
	params->charge = book_charge(intent->latest_charge);
	return true;
}

/* Asked twice: others may have been faster while this one was slowed down. */
static bool
is_refundable(Request *request, const RefundParams *params)
{
	int64_t left = charge_refundable(params->charge);

	if (params->charge->status != CHARGE_SUCCEEDED)
		return answer_invalid(request, NULL, "charge",
							  "This charge cannot be refunded: it is not "
							  "captured.");
	if (dispute_blocks_refund(params->charge))
		return answer_invalid(request, "charge_disputed", "charge",
							  "The charge %s has been charged back; it cannot "
							  "be refunded.",
							  params->charge->id);
	if (left == 0)
		return answer_invalid(request, "charge_already_refunded", "charge",
							  "The charge %s has already been refunded.",
							  params->charge->id);
	return params->amount <= left ||
		   answer_invalid(request, NULL, "amount",
						  "The refund is larger than what is left of the "
						  "charge (%lld).",
						  (long long) left);
}

static bool
take_outcome(Request *request, RefundParams *params)
{
	const char *wanted = form_take(request->params, "metadata[sandbox]");

	params->outcome = -1;
	for (int i = 0; wanted != NULL && outcome_names[i] != NULL; i++)
	{
		if (strcmp(outcome_names[i], wanted) == 0)
			params->outcome = i;
	}
	return true;
}

bool
refund_prepare_create(Request *request)
{
	RefundParams *params = xcalloc(1, sizeof(RefundParams));

	request->prepared = params;
	params->reason = -1;
	return param_int(request, "amount", 1, AMOUNT_MAX, &params->amount) &&
		   param_choice(request, "reason", reason_choices, &params->reason) &&
		   param_metadata(request) && take_outcome(request, params) &&
		   param_expand(request, "", &params->expand) &&
		   find_charge(request, params) && params_known(request) &&
		   is_refundable(request, params);
}

void
refund_json(Buf *b, const char *key, const Modification *refund,
			unsigned expand)
{
	const Charge *charge = book_charge(refund->charge);
	bool		  failed = refund->failure_balance_tx != NONE;

	json_open(b, key, '{');
	json_str(b, "id", refund->id);
	json_str(b, "object", "refund");
	json_int(b, "amount", refund->amount);
	if (expand & EXPAND_BALANCE_TX)
		balance_tx_json(b, "balance_transaction",
						book_balance_tx(refund->balance_tx));
	else
		json_str(b, "balance_transaction",
				 book_balance_tx(refund->balance_tx)->id);
	json_str(b, "charge", charge->id);
	json_int(b, "created", refund->created_ms / 1000);
	json_str(b, "currency", currency_lower(refund->currency));
	json_open(b, "destination_details", '{');
	json_open(b, "card", '{');
	json_str(b, "type", "refund");
	json_close(b, '}');
	json_str(b, "type", "card");
	json_close(b, '}');
	if (failed)
		json_str(b, "failure_balance_transaction",
				 book_balance_tx(refund->failure_balance_tx)->id);
	if (refund->status == MODIFICATION_FAILED)
		json_str(b, "failure_reason", "expired_or_canceled_card");
	metadata_json(b, &refund->metadata);
	json_str(b, "payment_intent", book_intent(charge->intent)->id);
	json_str(b, "reason", refund->reason);
	json_null(b, "receipt_number");
	json_null(b, "source_transfer_reversal");
	json_str(b, "status", statuses[refund->status]);
	json_null(b, "transfer_reversal");
	json_close(b, '}');
}

static void
answer_refund(Request *request, const Modification *refund)
{
	const RefundParams *params = request->prepared;

	request->answer.status = 200;
	refund_json(&request->answer.body, NULL, refund,
				params ? params->expand : 0);
}

/* The request says it, else a fault, else the card that was charged. */
static RefundOutcome
outcome_of(const RefundParams *params)
{
	const char *method = params->charge->payment_method;

	if (params->outcome >= 0)
		return (RefundOutcome) params->outcome;
	if (fault_fires(FAULT_REFUND_PENDING))
		return REFUND_PENDS;
	if (fault_fires(FAULT_REFUND_FAILS))
		return REFUND_FAILS;
	if (fault_fires(FAULT_REFUND_FAILS_LATER))
		return REFUND_FAILS_LATER;
	if (strcmp(method, "pm_card_pendingRefund") == 0)
		return REFUND_PENDS;
	if (strcmp(method, "pm_card_refundFail") == 0)
		return REFUND_FAILS_LATER;
	return REFUND_SUCCEEDS;
}

static void
set_outcome(Modification *refund, RefundOutcome outcome)
{
	if (outcome == REFUND_REQUIRES_ACTION)
		refund->status = MODIFICATION_REQUIRES_ACTION;
	else if (outcome != REFUND_SUCCEEDS && outcome != REFUND_FAILS_LATER)
		refund->status = MODIFICATION_PENDING;
	refund->fails = outcome == REFUND_FAILS || outcome == REFUND_FAILS_LATER;
	if (refund->fails || outcome == REFUND_PENDS)
	{
		refund->due_ms = book.now_ms + options.modification_delay_ms;
		timer_add_modification(refund);
	}
}

void
refund_create(Request *request)
{
	const RefundParams *params = request->prepared;
	Charge			   *charge = params->charge;
	int64_t				left = charge_refundable(charge);
	Modification	   *refund;

	if (!is_refundable(request, params))
		return;
	request->executed = true;
	refund = book_new_modification(PSP_STRIPE, MODIFY_REFUND, charge);
	refund->amount = params->amount > 0 ? params->amount : left;
	if (request->wrong_amount && refund->amount < left)
		refund->amount++;
	if (params->reason >= 0)
		refund->reason = xstrdup(reason_choices[params->reason]);
	refund->idempotency_key = xstrdup(request->idempotency_key);
	request_metadata(request, &refund->metadata);
	charge_refund(refund);
	set_outcome(refund, outcome_of(params));
	journal_modification(refund);
	journal_charge(charge);
	stripe_event_refund("refund.created", refund);
	stripe_event_charge("charge.refunded", charge);
	answer_refund(request, refund);
}

/* Every change of an existing refund goes through here. */
static void
move(Modification *refund, ModificationStatus status)
{
	refund->due_ms = 0;
	if (status == MODIFICATION_FAILED || status == MODIFICATION_CANCELED)
		charge_take_back_refund(refund);
	refund->status = (uint8_t) status;
	journal_modification(refund);
	journal_charge(book_charge(refund->charge));
	stripe_event_refund("charge.refund.updated", refund);
	stripe_event_refund(status == MODIFICATION_FAILED ? "refund.failed"
													  : "refund.updated",
						refund);
}

void
refund_finish(Modification *refund)
{
	move(refund, refund->fails ? MODIFICATION_FAILED : MODIFICATION_SUCCEEDED);
}

static Modification *
find_refund(Request *request, const char *id)
{
	Modification *refund = book_find_modification(PSP_STRIPE, id);

	if (refund == NULL)
		answer_missing_object(request, "refund", "refund", id);
	return refund;
}

bool
refund_prepare_get(Request *request)
{
	RefundParams *params = xcalloc(1, sizeof(RefundParams));

	request->prepared = params;
	return param_expand(request, "", &params->expand) &&
		   params_known(request) && find_refund(request, request->id) != NULL;
}

void
refund_get(Request *request)
{
	answer_refund(request, find_refund(request, request->id));
}

bool
refund_prepare_cancel(Request *request)
{
	return params_known(request) && find_refund(request, request->id) != NULL;
}

void
refund_cancel(Request *request)
{
	Modification *refund = find_refund(request, request->id);

	if (refund->status != MODIFICATION_REQUIRES_ACTION)
	{
		answer_invalid(request, NULL, NULL,
					   "Only a refund that requires an action can be "
					   "canceled.");
		return;
	}
	request->executed = true;
	move(refund, MODIFICATION_CANCELED);
	answer_refund(request, refund);
}

static int64_t
refund_created_s(uint32_t number)
{
	return book_modification(number)->created_ms / 1000;
}

static uint32_t
refund_number(const char *id)
{
	const Modification *refund = book_find_modification(PSP_STRIPE, id);

	return refund ? refund->number : NONE;
}

static void
put_refund(Buf *b, uint32_t number, unsigned expand)
{
	refund_json(b, NULL, book_modification(number), expand);
}

static const ListSource refund_source = { .url = "/v1/refunds",
										  .kind = "refund",
										  .shelf = &book.modifications,
										  .created_s = refund_created_s,
										  .number_of = refund_number,
										  .put = put_refund };

static bool
is_wanted(uint32_t number, const ListParams *params)
{
	const Modification *refund = book_modification(number);

	return refund->psp == PSP_STRIPE &&
		   list_wants_charge(params, book_charge(refund->charge));
}

bool
refund_prepare_list(Request *request)
{
	return list_prepare(request, &refund_source) &&
		   list_prepare_charge(request) && params_known(request);
}

void
refund_list(Request *request)
{
	list_answer(request, &refund_source, is_wanted);
}

static bool
can_move(const Modification *refund, ModificationStatus to)
{
	if (refund->status == MODIFICATION_SUCCEEDED)
		return to == MODIFICATION_FAILED;
	return (refund->status == MODIFICATION_PENDING ||
			refund->status == MODIFICATION_REQUIRES_ACTION) &&
		   refund->status != (uint8_t) to;
}

void
control_refunds(Request *request)
{
	const char	 *id;
	int			  status = MODIFICATION_SUCCEEDED;
	Modification *refund;

	if (!param_required(request, "refund", &id) ||
		!param_choice(request, "status", statuses, &status) ||
		!params_known(request))
		return;
	refund = find_refund(request, id);
	if (refund == NULL)
		return;
	if (!can_move(refund, (ModificationStatus) status))
	{
		answer_invalid(request, NULL, "status",
					   "A refund that is %s does not become %s.",
					   statuses[refund->status], statuses[status]);
		return;
	}
	move(refund, (ModificationStatus) status);
	answer_refund(request, refund);
}
