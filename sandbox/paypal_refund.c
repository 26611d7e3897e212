/*
 * paypal_refund.c
 *		Refunds of captures, decided at once.
 */
#include "paypal.h"

#include <stdlib.h>

#include "charge.h"
#include "currency.h"
#include "iso_time.h"
#include "journal.h"
#include "json.h"

typedef struct RefundParams
{
	int64_t		amount;
	int			currency;
	const char *custom_id;
	Charge	   *charge;
} RefundParams;

static bool
prepare_amount(Request *request, RefundParams *params)
{
	JsonValue *amount = json_at(request->json, "amount");

	params->amount = charge_refundable(params->charge);
	params->currency = params->charge->currency;
	if (amount != NULL &&
		!paypal_amount(request, amount, "currency_code", "/amount",
					   &params->amount, &params->currency))
		return false;
	if (params->currency != params->charge->currency)
		return paypal_unprocessable(request, "/amount/currency_code",
									"REFUND_CAPTURE_CURRENCY_MISMATCH",
									"The capture has another currency.");
	return true;
}

/* Asked twice: others may have been faster while this one was slowed down. */
static bool
is_refundable(Request *request, const RefundParams *params)
{
	int64_t left = charge_refundable(params->charge);

	if (params->charge->status != CHARGE_SUCCEEDED)
		return paypal_unprocessable(request, NULL, "CAPTURE_NOT_COMPLETED",
									"The capture is not completed.");
	if (left == 0)
		return paypal_unprocessable(request, NULL, "CAPTURE_FULLY_REFUNDED",
									"All of the capture is refunded.");
	return params->amount <= left ||
		   paypal_unprocessable(request, "/amount/value",
								"REFUND_AMOUNT_EXCEEDED",
								"Less than that is left of the capture.");
}

bool
paypal_refund_prepare(Request *request)
{
	RefundParams *params = xcalloc(1, sizeof(RefundParams));

	request->prepared = params;
	params->charge = book_find_charge(PSP_PAYPAL, request->id);
	if (params->charge == NULL || paypal_is_authorization(params->charge))
		return paypal_not_found(request);
	if (!prepare_amount(request, params) ||
		!paypal_text(request, request->json, "custom_id", 127,
					 &params->custom_id))
		return false;
	return is_refundable(request, params);
}

void
paypal_refund_answer(Request *request, const Modification *refund, bool whole)
{
	request->answer.body.len = 0;
	paypal_refund_json(request, &request->answer.body, refund, whole);
}

void
paypal_refund_json(Request *request, Buf *b, const Modification *refund,
				   bool whole)
{
	json_open(b, NULL, '{');
	json_str(b, "id", public_id(refund->id));
	json_str(b, "status",
			 refund->status == MODIFICATION_SUCCEEDED ? "COMPLETED"
													  : "FAILED");
	if (whole)
	{
		paypal_amount_json(b, "amount", "currency_code", refund->currency,
						   refund->amount);
		if (refund->reference != NULL)
			json_str(b, "custom_id", refund->reference);
		iso_time_json(b, "create_time", refund->created_ms);
	}
	json_open(b, "links", '[');
	paypal_link(request, b, "self", "GET", "/v2/payments/refunds/",
				public_id(refund->id));
	paypal_link(request, b, "up", "GET", "/v2/payments/captures/",
				public_id(book_charge(refund->charge)->id));
	json_close(b, ']');
	json_close(b, '}');
}

void
paypal_refund_create(Request *request)
{
	const RefundParams *params = request->prepared;
	Charge			   *charge = params->charge;
	Modification	   *refund;

	if (!is_refundable(request, params))
		return;
	request->executed = true;
	refund = book_new_modification(PSP_PAYPAL, MODIFY_REFUND, charge);
	refund->amount = params->amount;
	if (request->wrong_amount && refund->amount < charge_refundable(charge))
		refund->amount++;
	refund->reference = xstrdup(params->custom_id);
	refund->idempotency_key = xstrdup(request->idempotency_key);
	charge_refund(refund);
	journal_charge(charge);
	journal_modification(refund);
	paypal_event_refund("PAYMENT.CAPTURE.REFUNDED", refund);
	request->answer.status = 201;
	paypal_refund_answer(request, refund,
						 paypal_wants_representation(request));
}

bool
paypal_refund_prepare_get(Request *request)
{
	return book_find_modification(PSP_PAYPAL, request->id) != NULL ||
		   paypal_not_found(request);
}

void
paypal_refund_get(Request *request)
{
	paypal_refund_answer(request,
						 book_find_modification(PSP_PAYPAL, request->id),
						 true);
}
