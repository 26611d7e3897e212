/*
 * payout.c
 *		pending -> in_transit -> paid, as time passes; some destinations fail,
 *		and some return the money after it was paid.
 */
#include "payout.h"

#include <string.h>

#include "adyen.h"
#include "currency.h"
#include "journal.h"
#include "json.h"
#include "listing.h"
#include "options.h"
#include "payment_intent.h"
#include "paypal.h"
#include "stripe_event.h"
#include "timer.h"

#define DESCRIPTION_MAX 1000

typedef struct PayoutParams
{
	int64_t		amount;
	int			currency;
	int			method;
	const char *destination;
	const char *description;
} PayoutParams;

static const char *const method_choices[] = { "standard", "instant", NULL };

static const char *const statuses[] = { "pending", "in_transit", "paid",
										"canceled", "failed" };

bool
payout_is_automatic(const Payout *payout)
{
	return payout->settlement != NONE;
}

const char *
payout_status(const Payout *payout)
{
	return statuses[payout->status];
}

void
payout_json(Buf *b, const Payout *payout)
{
	bool failed = payout->status == PAYOUT_FAILED;
	bool has_reversal = payout->failure_balance_tx != NONE;

	json_open(b, NULL, '{');
	json_str(b, "id", payout->id);
	json_str(b, "object", "payout");
	json_int(b, "amount", payout->amount);
	json_int(b, "arrival_date", payout->arrival_ms / 1000);
	json_bool(b, "automatic", payout_is_automatic(payout));
	json_str(b, "balance_transaction",
			 book_balance_tx(payout->balance_tx)->id);
	json_int(b, "created", payout->created_ms / 1000);
	json_str(b, "currency", currency_lower(payout->currency));
	json_str(b, "description", payout->description);
	json_str(b, "destination", payout->destination);
	json_str(b, "failure_balance_transaction",
			 has_reversal ? book_balance_tx(payout->failure_balance_tx)->id
						  : NULL);
	json_str(b, "failure_code", failed ? "account_closed" : NULL);
	json_str(b, "failure_message",
			 failed ? "The bank account has been closed." : NULL);
	json_bool(b, "livemode", false);
	metadata_json(b, &payout->metadata);
	json_str(b, "method", method_choices[payout->instant]);
	json_null(b, "original_payout");
	json_null(b, "reversed_by");
	json_str(b, "source_type", "card");
	json_null(b, "statement_descriptor");
	json_str(b, "status", payout_status(payout));
	json_str(b, "type", "bank_account");
	json_close(b, '}');
}

static void
answer_payout(Request *request, const Payout *payout)
{
	request->answer.status = 200;
	payout_json(&request->answer.body, payout);
}

bool
payout_prepare_create(Request *request)
{
	PayoutParams	  *params = xcalloc(1, sizeof(PayoutParams));
	DestinationOutcome outcome;

	request->prepared = params;
	if (!param_amount(request, "amount", &params->amount) ||
		!param_currency(request, &params->currency) ||
		!param_required(request, "destination", &params->destination) ||
		!param_choice(request, "method", method_choices, &params->method) ||
		!param_text(request, "description", DESCRIPTION_MAX,
					&params->description) ||
		!param_metadata(request) || !params_known(request))
		return false;
	if (test_destination_find(params->destination, &outcome))
		return true;
	return answer_invalid(request, "resource_missing", "destination",
						  "No such external account: '%.100s'",
						  params->destination);
}

static void
set_due(Payout *payout, int64_t due_ms)
{
	payout->due_ms = due_ms;
	timer_add_payout(payout);
}

static void
tell(const Payout *payout, const char *event)
{
	if (payout->psp == PSP_STRIPE)
		stripe_event_payout(event, payout);
}

static void
tell_moved(const Payout *payout)
{
	static const char *const events[] = { "payout.updated", "payout.updated",
										  "payout.paid", "payout.canceled",
										  "payout.failed" };

	tell(payout, events[payout->status]);
}

void
payout_start(Request *request, Payout *payout, int64_t amount, int currency)
{
	request->executed = true;
	payout->amount = amount + (request->wrong_amount ? 1 : 0);
	payout->currency =
		request->wrong_currency ? currency_other(currency) : currency;
	payout->idempotency_key = xstrdup(request->idempotency_key);
	payout->arrival_ms = payout->created_ms + options.payout_delay_ms;
	payout->balance_tx =
		book_new_balance_tx(TX_PAYOUT, payout->number, payout->currency,
							-payout->amount, 0)
			->number;
	set_due(payout, payout->created_ms + options.payout_delay_ms / 2);
	journal_payout(payout);
	tell(payout, "payout.created");
}

void
payout_create(Request *request)
{
	const PayoutParams *params = request->prepared;
	Payout			   *payout = book_new_payout(PSP_STRIPE);

	payout->instant = params->method == 1;
	payout->destination = xstrdup(params->destination);
	payout->description = xstrdup(params->description);
	request_metadata(request, &payout->metadata);
	payout_start(request, payout, params->amount, params->currency);
	answer_payout(request, payout);
}

/* The money comes back. */
static void
take_back(Payout *payout, BalanceTxType type, PayoutStatus status)
{
	payout->failure_balance_tx =
		book_new_balance_tx(type, payout->number, payout->currency,
							payout->amount, 0)
			->number;
	payout->status = (uint8_t) status;
	payout->due_ms = 0;
}

void
payout_move_on(Payout *payout)
{
	DestinationOutcome outcome;

	/* Whom nobody knows may yet come and claim it. */
	if (!test_destination_find(payout->destination, &outcome))
		outcome = DESTINATION_UNCLAIMED;
	if (payout->status == PAYOUT_PENDING)
	{
		payout->status = PAYOUT_IN_TRANSIT;
		set_due(payout, payout->arrival_ms);
	}
	else if (outcome == DESTINATION_UNCLAIMED && !payout->unclaimed)
	{
		payout->unclaimed = true;
		set_due(payout, payout->arrival_ms + options.payout_return_delay_ms);
	}
	else if (payout->status == PAYOUT_IN_TRANSIT &&
			 outcome != DESTINATION_FAILS && outcome != DESTINATION_UNCLAIMED)
	{
		payout->status = PAYOUT_PAID;
		payout->due_ms = 0;
		if (outcome == DESTINATION_RETURNS)
			set_due(payout,
					payout->arrival_ms + options.payout_return_delay_ms);
	}
	else
	{
		payout->returned = payout->status == PAYOUT_PAID;
		take_back(payout, TX_PAYOUT_FAILURE, PAYOUT_FAILED);
	}
	journal_payout(payout);
	if (payout->psp == PSP_ADYEN)
		adyen_transfer_moved(payout);
	if (payout->psp == PSP_PAYPAL)
		paypal_event_payout(payout);
	tell_moved(payout);
}

Payout *
payout_make_automatic(uint32_t settlement, int32_t currency, int64_t amount)
{
	Payout *payout = book_new_payout(PSP_STRIPE);

	payout->settlement = settlement;
	payout->currency = currency;
	payout->amount = amount;
	payout->status = PAYOUT_PAID;
	payout->destination = xstrdup("ba_sandbox_platform");
	payout->description = xstrdup("Settlement");
	payout->arrival_ms = payout->created_ms;
	payout->balance_tx =
		book_new_balance_tx(TX_PAYOUT, payout->number, currency, -amount, 0)
			->number;
	journal_payout(payout);
	tell(payout, "payout.created");
	tell_moved(payout);
	return payout;
}

static Payout *
find_payout(Request *request)
{
	Payout *payout = book_find_payout(PSP_STRIPE, request->id);

	if (payout == NULL)
		answer_missing_object(request, "payout", "payout", request->id);
	return payout;
}

bool
payout_prepare_get(Request *request)
{
	return params_known(request) && find_payout(request) != NULL;
}

void
payout_get(Request *request)
{
	answer_payout(request, find_payout(request));
}

bool
payout_prepare_cancel(Request *request)
{
	return params_known(request) && find_payout(request) != NULL;
}

void
payout_cancel(Request *request)
{
	Payout *payout = find_payout(request);

	if (payout->status != PAYOUT_PENDING)
	{
		answer_invalid(request, NULL, NULL,
					   "Only a pending payout can be canceled.");
		return;
	}
	request->executed = true;
	take_back(payout, TX_PAYOUT_CANCEL, PAYOUT_CANCELED);
	journal_payout(payout);
	tell_moved(payout);
	answer_payout(request, payout);
}

static int64_t
payout_created_s(uint32_t number)
{
	return book_payout(number)->created_ms / 1000;
}

static uint32_t
payout_number(const char *id)
{
	const Payout *payout = book_find_payout(PSP_STRIPE, id);

	return payout ? payout->number : NONE;
}

static void
put_payout(Buf *b, uint32_t number, unsigned expand)
{
	(void) expand;
	payout_json(b, book_payout(number));
}

static const ListSource payout_source = { .url = "/v1/payouts",
										  .kind = "payout",
										  .shelf = &book.payouts,
										  .created_s = payout_created_s,
										  .number_of = payout_number,
										  .put = put_payout };

static bool
is_stripes(uint32_t number, const ListParams *params)
{
	(void) params;
	return book_payout(number)->psp == PSP_STRIPE;
}

bool
payout_prepare_list(Request *request)
{
	return list_prepare(request, &payout_source) && params_known(request);
}

void
payout_list(Request *request)
{
	list_answer(request, &payout_source, is_stripes);
}
