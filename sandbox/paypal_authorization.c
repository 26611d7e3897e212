/*
 * paypal_authorization.c
 *		Orders of the intent AUTHORIZE. The authorisation is a charge that takes
 *		no money itself: each of its captures is a charge of its own.
 */
#include "paypal.h"

#include <stdlib.h>
#include <string.h>

#include "charge.h"
#include "iso_time.h"
#include "journal.h"
#include "json.h"

typedef struct CaptureParams
{
	int64_t		amount;
	int			currency;
	bool		is_final;
	const char *invoice_id;
} CaptureParams;

bool
paypal_is_authorization(const Charge *charge)
{
	return charge->authorization == NONE &&
		   book_intent(charge->intent)->capture_method == CAPTURE_MANUAL;
}

static int64_t
left_of(const Charge *authorization)
{
	return authorization->amount - authorization->amount_captured;
}

static const char *
status_of(const Charge *authorization)
{
	switch ((ChargeStatus) authorization->status)
	{
		case CHARGE_AUTHORIZED:
			return authorization->amount_captured > 0 ? "PARTIALLY_CAPTURED"
													  : "CREATED";
		case CHARGE_CAPTURED:
			return "CAPTURED";
		case CHARGE_VOIDED:
			return "VOIDED";
		case CHARGE_PENDING:
			return "PENDING";
		default:
			return "DENIED";
	}
}

void
paypal_authorization_json(Request *request, Buf *b, const char *key,
						  const Charge *charge)
{
	const Intent *intent = book_intent(charge->intent);
	const char	 *id = public_id(charge->id);

	json_open(b, key, '{');
	json_str(b, "id", id);
	json_str(b, "status", status_of(charge));
	paypal_amount_json(b, "amount", "currency_code", charge->currency,
					   charge->amount);
	paypal_order_texts(b, intent, NULL);
	iso_time_json(b, "create_time", charge->created_ms);
	if (charge->status == CHARGE_AUTHORIZED)
		iso_time_json(b, "expiration_time", intent->due_ms);
	json_open(b, "supplementary_data", '{');
	json_open(b, "related_ids", '{');
	json_str(b, "order_id", public_id(intent->id));
	json_close(b, '}');
	json_close(b, '}');
	json_open(b, "links", '[');
	paypal_link(request, b, "self", "GET", "/v2/payments/authorizations/", id);
	json_close(b, ']');
	json_close(b, '}');
}

/* Its captures, the first one first. */
void
paypal_authorization_captures(Request *request, Buf *b, const Charge *charge)
{
	for (uint32_t i = charge->number + 1;
		 charge->last_capture != NONE && i <= charge->last_capture; i++)
	{
		if (book_charge(i)->authorization == charge->number)
			paypal_capture_json(request, b, NULL, book_charge(i));
	}
}

static Charge *
find_authorization(Request *request)
{
	Charge *charge = book_find_charge(PSP_PAYPAL, request->id);

	if (charge != NULL && paypal_is_authorization(charge))
		return charge;
	paypal_not_found(request);
	return NULL;
}

bool
paypal_authorization_prepare_get(Request *request)
{
	return find_authorization(request) != NULL;
}

void
paypal_authorization_get(Request *request)
{
	paypal_authorization_json(request, &request->answer.body, NULL,
							  find_authorization(request));
}

/* Asked twice: another may have been faster while this one was slowed down. */
static bool
is_open(Request *request, const Charge *charge, const char *captured)
{
	if (charge->status == CHARGE_VOIDED)
		return paypal_unprocessable(request, NULL, "AUTHORIZATION_VOIDED",
									"The authorization is void.");
	if (charge->status == CHARGE_AUTHORIZED)
		return true;
	return paypal_unprocessable(request, NULL, captured,
								"The authorization is captured, or denied.");
}

/* Of other authorizations nobody looks. */
static bool
is_invoiced(const Charge *charge, const char *invoice_id)
{
	for (uint32_t i = charge->number + 1;
		 charge->last_capture != NONE && i <= charge->last_capture; i++)
	{
		const Charge *other = book_charge(i);

		if (other->authorization == charge->number && invoice_id != NULL &&
			other->invoice_id != NULL &&
			strcmp(other->invoice_id, invoice_id) == 0)
			return true;
	}
	return false;
}

static bool
is_capturable(Request *request, const Charge *charge,
			  const CaptureParams *params)
{
	if (!is_open(request, charge, "AUTHORIZATION_ALREADY_CAPTURED"))
		return false;
	if (params->currency != charge->currency)
		return paypal_unprocessable(request, "/amount/currency_code",
									"CURRENCY_MISMATCH",
									"The authorization has another currency.");
	if (is_invoiced(charge, params->invoice_id))
		return paypal_unprocessable(request, "/invoice_id",
									"DUPLICATE_INVOICE_ID",
									"It has been captured for that invoice.");
	return params->amount <= left_of(charge) ||
		   paypal_unprocessable(request, "/amount/value",
								"MAX_CAPTURE_AMOUNT_EXCEEDED",
								"Less than that is left to capture.");
}

bool
paypal_authorization_prepare_capture(Request *request)
{
	CaptureParams *params = xcalloc(1, sizeof(CaptureParams));
	const Charge  *charge = find_authorization(request);
	JsonValue	  *amount = json_at(request->json, "amount");
	JsonValue	  *is_final = json_at(request->json, "final_capture");

	request->prepared = params;
	if (charge == NULL)
		return false;
	params->amount = left_of(charge);
	params->currency = charge->currency;
	params->is_final = is_final != NULL && is_final->type == JSON_TRUE;
	if (amount != NULL &&
		!paypal_amount(request, amount, "currency_code", "/amount",
					   &params->amount, &params->currency))
		return false;
	if (!paypal_text(request, request->json, "invoice_id", 127,
					 &params->invoice_id))
		return false;
	return is_capturable(request, charge, params);
}

/* Money is taken, as a charge of its own; the rest stays authorised. */
static Charge *
capture(Intent *intent, Charge *authorization, int64_t amount, bool is_final)
{
	int64_t due_ms = intent->due_ms;
	Charge *charge = book_new_charge(intent);

	charge->amount = amount;
	charge->authorization = authorization->number;
	charge_capture(intent, charge, amount);
	authorization->amount_captured += amount;
	authorization->last_capture = charge->number;
	charge->is_final = is_final || left_of(authorization) == 0;
	if (charge->is_final)
		authorization->status = CHARGE_CAPTURED;
	else
		intent->due_ms = due_ms;
	intent->latest_charge = authorization->number;
	return charge;
}

void
paypal_authorization_capture(Request *request)
{
	const CaptureParams *params = request->prepared;
	Charge				*authorization = find_authorization(request);
	Intent				*intent = book_intent(authorization->intent);
	int64_t				 amount = params->amount;
	Charge				*charge;

	if (!is_capturable(request, authorization, params))
		return;
	request->executed = true;
	if (request->wrong_amount && amount < left_of(authorization))
		amount++;
	charge = capture(intent, authorization, amount, params->is_final);
	charge->idempotency_key = xstrdup(request->idempotency_key);
	charge->invoice_id = xstrdup(params->invoice_id);
	journal_charge(charge);
	journal_charge(authorization);
	journal_intent(intent);
	paypal_event_capture("PAYMENT.CAPTURE.COMPLETED", charge);
	request->answer.status = 201;
	paypal_capture_answer(request, charge,
						  paypal_wants_representation(request));
}

bool
paypal_authorization_prepare_void(Request *request)
{
	const Charge *charge = find_authorization(request);

	return charge != NULL && is_open(request, charge, "PREVIOUSLY_CAPTURED");
}

void
paypal_authorization_end(Intent *intent, Charge *authorization)
{
	authorization->status = CHARGE_VOIDED;
	intent->due_ms = 0;
	journal_charge(authorization);
	journal_intent(intent);
	paypal_event_authorization("PAYMENT.AUTHORIZATION.VOIDED", authorization);
}

void
paypal_authorization_void(Request *request)
{
	Charge *charge = find_authorization(request);

	if (!is_open(request, charge, "PREVIOUSLY_CAPTURED"))
		return;
	request->executed = true;
	paypal_authorization_end(book_intent(charge->intent), charge);
	request->answer.status = 204;
	if (!paypal_wants_representation(request))
		return;
	request->answer.status = 200;
	paypal_authorization_json(request, &request->answer.body, NULL, charge);
}
