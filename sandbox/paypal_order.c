/*
 * paypal_order.c
 *		Orders v2 that a vaulted payment source pays, server to server. An
 *		order may be COMPLETED while its capture is DECLINED: the capture is
 *		what counts.
 */
#include "paypal.h"

#include <stdlib.h>
#include <string.h>

#include "charge.h"
#include "currency.h"
#include "hash.h"
#include "iso_time.h"
#include "journal.h"
#include "json.h"
#include "options.h"
#include "timer.h"

#define TEXT_MAX 127
#define CUSTOM_ID_MAX 255

typedef struct OrderParams
{
	int64_t		 amount;
	int			 currency;
	const char	*reference_id;
	const char	*custom_id;
	const char	*invoice_id;
	const char	*description;
	const char	*vaulted; /* NULL: a payer has to come by */
	PaypalMethod method;
	bool		 authorizes;
} OrderParams;

static bool
prepare_unit(Request *request, OrderParams *params)
{
	JsonValue *units = json_at(request->json, "purchase_units");
	JsonValue *unit = units ? units->first : NULL;

	if (units == NULL || units->type != JSON_ARRAY || unit == NULL)
		return paypal_invalid(request, "/purchase_units",
							  "MISSING_REQUIRED_PARAMETER",
							  "This has to be given.");
	if (unit->next != NULL)
		return paypal_unprocessable(request, "/purchase_units",
									"NOT_SUPPORTED",
									"The sandbox takes one purchase unit.");
	return paypal_amount(request, json_at(unit, "amount"), "currency_code",
						 "/purchase_units/@reference_id=='default'/amount",
						 &params->amount, &params->currency) &&
		   paypal_text(request, unit, "reference_id", 256,
					   &params->reference_id) &&
		   paypal_text(request, unit, "custom_id", CUSTOM_ID_MAX,
					   &params->custom_id) &&
		   paypal_text(request, unit, "invoice_id", TEXT_MAX,
					   &params->invoice_id) &&
		   paypal_text(request, unit, "description", TEXT_MAX,
					   &params->description);
}

static bool
prepare_source(Request *request, OrderParams *params)
{
	static const char *const paths[] = { "payment_source.card.vault_id",
										 "payment_source.paypal.vault_id",
										 "payment_source.token.id" };

	if (json_at(request->json, "payment_source") == NULL)
		return true;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
	{
		if (params->vaulted == NULL)
			params->vaulted = json_text(request->json, paths[i]);
	}
	if (params->vaulted == NULL)
		return paypal_unprocessable(request, "/payment_source",
									"NOT_SUPPORTED",
									"The sandbox takes a vault_id or a "
									"token.");
	if (request->idempotency_key == NULL)
		return paypal_invalid(request, NULL, "PAYPAL_REQUEST_ID_REQUIRED",
							  "A PayPal-Request-Id is needed to process a "
							  "payment for an order.");
	return paypal_method_find(params->vaulted, &params->method) ||
		   paypal_unprocessable(request, "/payment_source",
								"TOKEN_ID_NOT_FOUND",
								"There is no such token.");
}

/* The youngest for each invoice_id. */
static Hash by_invoice;

void
paypal_order_restore(Intent *intent)
{
	if (intent->psp == PSP_PAYPAL && intent->transfer_group != NULL)
		hash_put(&by_invoice, intent->transfer_group, intent);
}

/* A merchant is by default protected from being paid for an invoice twice. */
static bool
is_paid_invoice(const char *invoice_id)
{
	const Intent *intent = hash_get(&by_invoice, invoice_id);

	return intent != NULL && (intent->status == INTENT_SUCCEEDED ||
							  intent->status == INTENT_PROCESSING);
}

static bool
is_new_invoice(Request *request, const OrderParams *params)
{
	return params->vaulted == NULL || params->invoice_id == NULL ||
		   !is_paid_invoice(params->invoice_id) ||
		   paypal_unprocessable(request, "/purchase_units/invoice_id",
								"DUPLICATE_INVOICE_ID",
								"Duplicate Invoice ID detected: the account's "
								"settings want it to be unique.");
}

bool
paypal_order_prepare(Request *request)
{
	OrderParams *params = xcalloc(1, sizeof(OrderParams));
	const char	*intent = json_text(request->json, "intent");

	request->prepared = params;
	if (intent == NULL)
		return paypal_invalid(request, "/intent", "MISSING_REQUIRED_PARAMETER",
							  "This has to be given.");
	params->authorizes = strcmp(intent, "AUTHORIZE") == 0;
	if (!params->authorizes && strcmp(intent, "CAPTURE") != 0)
		return paypal_invalid(request, "/intent", "INVALID_PARAMETER_VALUE",
							  "It is CAPTURE or AUTHORIZE.");
	if (!prepare_unit(request, params) || !prepare_source(request, params))
		return false;
	return is_new_invoice(request, params);
}

static const char *
order_status(const Intent *intent)
{
	switch ((IntentStatus) intent->status)
	{
		case INTENT_REQUIRES_CONFIRMATION:
			return "APPROVED";
		case INTENT_REQUIRES_ACTION:
			return "PAYER_ACTION_REQUIRED";
		case INTENT_PROCESSING:
		case INTENT_SUCCEEDED:
			return "COMPLETED";
		case INTENT_CANCELED:
			return "VOIDED";
		default:
			return intent->latest_charge == NONE ? "CREATED" : "COMPLETED";
	}
}

static const char *
capture_status(const Charge *charge)
{
	if (charge->status == CHARGE_PENDING)
		return "PENDING";
	if (charge->status != CHARGE_SUCCEEDED)
		return "DECLINED";
	if (charge->amount_refunded == 0)
		return "COMPLETED";
	return charge_refundable(charge) == 0 ? "REFUNDED" : "PARTIALLY_REFUNDED";
}

static void
put_breakdown(Buf *b, const Charge *charge)
{
	const BalanceTx *tx = book_balance_tx(charge->balance_tx);

	json_open(b, "seller_receivable_breakdown", '{');
	paypal_amount_json(b, "gross_amount", "currency_code", tx->currency,
					   tx->amount);
	paypal_amount_json(b, "paypal_fee", "currency_code", tx->currency,
					   tx->fee);
	paypal_amount_json(b, "net_amount", "currency_code", tx->currency,
					   tx->amount - tx->fee);
	json_close(b, '}');
}

void
paypal_order_texts(Buf *b, const Intent *intent, const char *invoice_id)
{
	if (invoice_id == NULL)
		invoice_id = intent->transfer_group;
	if (intent->reference != NULL)
		json_str(b, "custom_id", intent->reference);
	if (invoice_id != NULL)
		json_str(b, "invoice_id", invoice_id);
}

void
paypal_capture_json(Request *request, Buf *b, const char *key,
					const Charge *charge)
{
	const Intent *intent = book_intent(charge->intent);
	PaypalMethod  method = { 0 };

	json_open(b, key, '{');
	json_str(b, "id", public_id(charge->id));
	json_str(b, "status", capture_status(charge));
	if (charge->status == CHARGE_PENDING)
	{
		json_open(b, "status_details", '{');
		json_str(b, "reason", "PENDING_REVIEW");
		json_close(b, '}');
	}
	paypal_amount_json(b, "amount", "currency_code", charge->currency,
					   charge->amount);
	json_bool(b, "final_capture", charge->is_final);
	if (charge->balance_tx != NONE)
		put_breakdown(b, charge);
	paypal_order_texts(b, intent, charge->invoice_id);
	paypal_method_find(charge->payment_method, &method);
	if (charge->status == CHARGE_FAILED && method.response_code != NULL)
	{
		json_open(b, "processor_response", '{');
		json_str(b, "response_code", method.response_code);
		json_close(b, '}');
	}
	json_open(b, "supplementary_data", '{');
	json_open(b, "related_ids", '{');
	json_str(b, "order_id", public_id(intent->id));
	if (charge->authorization != NONE)
		json_str(b, "authorization_id",
				 public_id(book_charge(charge->authorization)->id));
	json_close(b, '}');
	json_close(b, '}');
	json_open(b, "links", '[');
	paypal_link(request, b, "self", "GET", "/v2/payments/captures/",
				public_id(charge->id));
	json_close(b, ']');
	iso_time_json(b, "create_time", charge->created_ms);
	json_close(b, '}');
}

void
paypal_capture_answer(Request *request, const Charge *charge, bool whole)
{
	Buf *b = &request->answer.body;

	b->len = 0;
	if (whole)
	{
		paypal_capture_json(request, b, NULL, charge);
		return;
	}
	json_open(b, NULL, '{');
	json_str(b, "id", public_id(charge->id));
	json_str(b, "status", capture_status(charge));
	json_open(b, "links", '[');
	paypal_link(request, b, "self", "GET", "/v2/payments/captures/",
				public_id(charge->id));
	json_close(b, ']');
	json_close(b, '}');
}

static void
put_payments(Request *request, Buf *b, const Charge *charge)
{
	bool authorizes = paypal_is_authorization(charge);

	json_open(b, "payments", '{');
	if (authorizes)
	{
		json_open(b, "authorizations", '[');
		paypal_authorization_json(request, b, NULL, charge);
		json_close(b, ']');
	}
	if (!authorizes || charge->last_capture != NONE)
	{
		json_open(b, "captures", '[');
		if (authorizes)
			paypal_authorization_captures(request, b, charge);
		else
			paypal_capture_json(request, b, NULL, charge);
		json_close(b, ']');
	}
	json_close(b, '}');
}

static void
put_unit(Request *request, Buf *b, const Intent *intent)
{
	const char *reference = intent->return_url;

	json_open(b, "purchase_units", '[');
	json_open(b, NULL, '{');
	json_str(b, "reference_id", reference ? reference : "default");
	paypal_amount_json(b, "amount", "currency_code", intent->currency,
					   intent->amount);
	if (intent->description != NULL)
		json_str(b, "description", intent->description);
	paypal_order_texts(b, intent, NULL);
	if (intent->latest_charge != NONE)
		put_payments(request, b, book_charge(intent->latest_charge));
	json_close(b, '}');
	json_close(b, ']');
}

static void
put_links(Request *request, Buf *b, const Intent *intent)
{
	const char *id = public_id(intent->id);

	json_open(b, "links", '[');
	paypal_link(request, b, "self", "GET", "/v2/checkout/orders/", id);
	if (intent->status == INTENT_REQUIRES_ACTION)
		paypal_link(request, b, "payer-action", "GET",
					"/checkoutnow?token=", id);
	else if (intent->latest_charge == NONE)
		paypal_link(request, b, "approve", "GET", "/checkoutnow?token=", id);
	json_close(b, ']');
}

void
paypal_order_answer(Request *request, const Intent *intent, bool whole)
{
	request->answer.body.len = 0;
	paypal_order_json(request, &request->answer.body, intent, whole);
}

void
paypal_order_json(Request *request, Buf *b, const Intent *intent, bool whole)
{
	json_open(b, NULL, '{');
	json_str(b, "id", public_id(intent->id));
	json_str(b, "status", order_status(intent));
	if (whole)
	{
		json_str(b, "intent",
				 intent->capture_method == CAPTURE_MANUAL ? "AUTHORIZE"
														  : "CAPTURE");
		put_unit(request, b, intent);
		iso_time_json(b, "create_time", intent->created_ms);
	}
	put_links(request, b, intent);
	json_close(b, '}');
}

static void
take_money(Intent *intent, Charge *charge)
{
	if (intent->capture_method == CAPTURE_MANUAL)
		charge_authorize(intent, charge);
	else
		charge_capture(intent, charge, intent->amount);
}

static void
tell_charge(const Charge *charge)
{
	if (charge->status == CHARGE_AUTHORIZED)
		paypal_event_authorization("PAYMENT.AUTHORIZATION.CREATED", charge);
	else if (charge->status == CHARGE_SUCCEEDED)
		paypal_event_capture("PAYMENT.CAPTURE.COMPLETED", charge);
	else if (charge->status == CHARGE_PENDING)
		paypal_event_capture("PAYMENT.CAPTURE.PENDING", charge);
	else if (charge->status == CHARGE_FAILED)
		paypal_event_capture("PAYMENT.CAPTURE.DENIED", charge);
}

static void
pay(Request *request, Intent *intent, const PaypalMethod *method)
{
	Charge *charge = book_new_charge(intent);

	charge->idempotency_key = xstrdup(request->idempotency_key);
	if (method->outcome == PAYPAL_PENDS)
	{
		charge->status = CHARGE_PENDING;
		intent->status = INTENT_PROCESSING;
		intent->due_ms = book.now_ms + options.processing_delay_ms;
		timer_add_intent(intent);
	}
	else if (method->outcome == PAYPAL_DECLINES ||
			 method->outcome == PAYPAL_REFUSES)
		charge_fail(intent, charge);
	else
		take_money(intent, charge);
	journal_charge(charge);
	tell_charge(charge);
}

void
paypal_capture_finish(Intent *intent)
{
	Charge		*charge = book_charge(intent->latest_charge);
	PaypalMethod method = { 0 };

	intent->due_ms = 0;
	if (charge->status == CHARGE_AUTHORIZED)
	{
		paypal_authorization_end(intent, charge);
		return;
	}
	paypal_method_find(charge->payment_method, &method);
	if (method.fails_later)
		charge_fail(intent, charge);
	else
		take_money(intent, charge);
	journal_charge(charge);
	journal_intent(intent);
	tell_charge(charge);
}

static void
fill_intent(const Request *request, Intent *intent)
{
	const OrderParams *params = request->prepared;

	intent->amount = params->amount + (request->wrong_amount ? 1 : 0);
	intent->currency = request->wrong_currency
						   ? currency_other(params->currency)
						   : params->currency;
	intent->capture_method =
		params->authorizes ? CAPTURE_MANUAL : CAPTURE_AUTOMATIC;
	intent->payment_method = xstrdup(params->vaulted);
	intent->description = xstrdup(params->description);
	intent->reference = xstrdup(params->custom_id);
	/* Stripe's names for what is much the same. */
	intent->transfer_group = xstrdup(params->invoice_id);
	intent->return_url = xstrdup(params->reference_id);
}

void
paypal_order_create(Request *request)
{
	const OrderParams *params = request->prepared;
	Intent			  *intent;

	/* Another may have been faster while this one was slowed down. */
	if (!is_new_invoice(request, params))
		return;
	intent = book_new_intent(PSP_PAYPAL);
	request->executed = true;
	fill_intent(request, intent);
	paypal_order_restore(intent);
	if (params->vaulted == NULL)
		intent->status = INTENT_REQUIRES_PAYMENT_METHOD;
	else if (params->method.outcome == PAYPAL_NEEDS_PAYER)
		intent->status = INTENT_REQUIRES_ACTION;
	else if (params->method.outcome == PAYPAL_APPROVES)
	{
		intent->status = INTENT_REQUIRES_CONFIRMATION;
		paypal_event_order("CHECKOUT.ORDER.APPROVED", intent);
	}
	else
		pay(request, intent, &params->method);
	journal_intent(intent);
	request->answer.status = 201;
	if (params->vaulted != NULL && params->method.outcome == PAYPAL_REFUSES)
		paypal_unprocessable(request, "/payment_source", "INSTRUMENT_DECLINED",
							 "The payment source was declined.");
	else
		paypal_order_answer(request, intent,
							paypal_wants_representation(request));
}

static Intent *
find_order(Request *request)
{
	Intent *intent = book_find_intent(PSP_PAYPAL, request->id);

	if (intent == NULL)
		paypal_not_found(request);
	return intent;
}

/* Asked twice: another may have been faster while this one was slowed down. */
static bool
is_capturable(Request *request, const Intent *intent)
{
	if (intent->latest_charge != NONE)
		return paypal_unprocessable(request, NULL, "ORDER_ALREADY_CAPTURED",
									"The order has been captured before.");
	if (intent->status != INTENT_REQUIRES_CONFIRMATION)
		return paypal_unprocessable(request, NULL, "ORDER_NOT_APPROVED",
									"No payer has approved the order so far.");
	return true;
}

static bool
prepare_payment(Request *request, uint8_t capture_method)
{
	const Intent *intent = find_order(request);

	if (intent == NULL)
		return false;
	if (intent->capture_method != capture_method)
		return paypal_unprocessable(request, NULL,
									"ACTION_DOES_NOT_MATCH_INTENT",
									"The order has another intent.");
	return is_capturable(request, intent);
}

bool
paypal_order_prepare_capture(Request *request)
{
	return prepare_payment(request, CAPTURE_AUTOMATIC);
}

bool
paypal_order_prepare_authorize(Request *request)
{
	return prepare_payment(request, CAPTURE_MANUAL);
}

void
paypal_order_capture(Request *request)
{
	Intent			  *intent = find_order(request);
	const PaypalMethod method = { PAYPAL_COMPLETES, false, NULL };

	if (!is_capturable(request, intent))
		return;
	request->executed = true;
	pay(request, intent, &method);
	journal_intent(intent);
	request->answer.status = 201;
	paypal_order_answer(request, intent, paypal_wants_representation(request));
}

bool
paypal_order_prepare_get(Request *request)
{
	return find_order(request) != NULL;
}

void
paypal_order_get(Request *request)
{
	paypal_order_answer(request, find_order(request), true);
}

bool
paypal_capture_prepare_get(Request *request)
{
	const Charge *charge = book_find_charge(PSP_PAYPAL, request->id);

	return (charge != NULL && !paypal_is_authorization(charge)) ||
		   paypal_not_found(request);
}

void
paypal_capture_get(Request *request)
{
	paypal_capture_json(request, &request->answer.body, NULL,
						book_find_charge(PSP_PAYPAL, request->id));
}
