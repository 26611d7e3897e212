/*
 * payment_intent_json.c
 *		Payment intents and charges as the vendor shows them.
 */
#include "payment_intent.h"

#include <stdio.h>

#include "balance.h"
#include "charge.h"
#include "currency.h"
#include "customer.h"
#include "json.h"

static const char *const intent_statuses[] = { "requires_payment_method",
											   "requires_confirmation",
											   "requires_action",
											   "processing",
											   "requires_capture",
											   "canceled",
											   "succeeded" };

static const char *const capture_methods[] = { "automatic", "automatic_async",
											   "manual" };

void
metadata_json(Buf *b, const Metadata *metadata)
{
	json_open(b, "metadata", '{');
	for (uint32_t i = 0; i < metadata->count; i++)
		json_str(b, metadata->items[i].key, metadata->items[i].value);
	json_close(b, '}');
}

static void
method_json(Buf *b, const char *id, const TestMethod *method)
{
	json_open(b, "payment_method", '{');
	json_str(b, "id", id);
	json_str(b, "object", "payment_method");
	json_open(b, "card", '{');
	json_str(b, "brand", method->brand);
	json_str(b, "last4", method->last4);
	json_close(b, '}');
	json_bool(b, "livemode", false);
	json_str(b, "type", "card");
	json_close(b, '}');
}

/* What a decline says, in last_payment_error and in the error itself. */
static void
decline_fields(Buf *b, const Charge *charge, const TestMethod *method)
{
	json_str(b, "charge", charge->id);
	json_str(b, "code", method->code);
	json_str(b, "decline_code", method->decline_code);
	json_str(b, "message", method->message);
	method_json(b, charge->payment_method, method);
	json_str(b, "type", "card_error");
}

static void
last_error_json(Buf *b, const Intent *intent)
{
	const Charge *charge;

	if (!intent->failed)
	{
		json_null(b, "last_payment_error");
		return;
	}
	if (intent->not_authenticated)
	{
		json_open(b, "last_payment_error", '{');
		json_str(b, "code", "payment_intent_authentication_failure");
		json_str(b, "message", "The payer could not be authenticated.");
		json_str(b, "type", "invalid_request_error");
		json_close(b, '}');
		return;
	}
	charge = book_charge(intent->latest_charge);
	json_open(b, "last_payment_error", '{');
	decline_fields(b, charge, payment_method_find(charge->payment_method));
	json_close(b, '}');
}

static void
next_action_json(Buf *b, const Intent *intent)
{
	if (intent->status != INTENT_REQUIRES_ACTION)
	{
		json_null(b, "next_action");
		return;
	}
	json_open(b, "next_action", '{');
	if (intent->return_url != NULL)
	{
		json_str(b, "type", "redirect_to_url");
		json_open(b, "redirect_to_url", '{');
		json_str(b, "return_url", intent->return_url);
		json_null(b, "url");
		json_close(b, '}');
	}
	else
	{
		json_str(b, "type", "use_stripe_sdk");
		json_empty(b, "use_stripe_sdk", "{}");
	}
	json_close(b, '}');
}

static void
charge_outcome(Buf *b, const Charge *charge)
{
	const TestMethod *method = payment_method_find(charge->payment_method);
	bool			  failed = charge->status == CHARGE_FAILED;

	json_str(b, "failure_code", failed ? method->code : NULL);
	json_str(b, "failure_message", failed ? method->message : NULL);
	json_str(b, "payment_method", charge->payment_method);
	json_open(b, "payment_method_details", '{');
	json_open(b, "card", '{');
	json_str(b, "brand", method->brand);
	if (charge->status == CHARGE_AUTHORIZED)
		json_int(b, "capture_before",
				 book_intent(charge->intent)->due_ms / 1000);
	json_str(b, "last4", method->last4);
	json_close(b, '}');
	json_str(b, "type", "card");
	json_close(b, '}');
}

static const char *
charge_status(const Charge *charge)
{
	if (charge->status == CHARGE_PENDING)
		return "pending";
	return charge->status == CHARGE_FAILED ? "failed" : "succeeded";
}

static void
charge_balance_tx(Buf *b, const Charge *charge, unsigned expand)
{
	if (charge->balance_tx == NONE)
		json_null(b, "balance_transaction");
	else if (expand & EXPAND_BALANCE_TX)
		balance_tx_json(b, "balance_transaction",
						book_balance_tx(charge->balance_tx));
	else
		json_str(b, "balance_transaction",
				 book_balance_tx(charge->balance_tx)->id);
}

void
charge_json(Buf *b, const char *key, const Charge *charge, unsigned expand)
{
	const Intent *intent = book_intent(charge->intent);
	bool		  voided = charge->status == CHARGE_VOIDED;

	json_open(b, key, '{');
	json_str(b, "id", charge->id);
	json_str(b, "object", "charge");
	json_int(b, "amount", charge->amount);
	json_int(b, "amount_captured", charge->amount_captured);
	json_int(b, "amount_refunded",
			 voided ? charge->amount : charge->amount_refunded);
	charge_balance_tx(b, charge, expand);
	json_bool(b, "captured", charge->status == CHARGE_SUCCEEDED);
	json_int(b, "created", charge->created_ms / 1000);
	json_str(b, "currency", currency_lower(charge->currency));
	json_str(b, "description", intent->description);
	json_bool(b, "disputed", charge->dispute != NONE);
	json_bool(b, "livemode", false);
	metadata_json(b, &intent->metadata);
	json_bool(b, "paid",
			  charge->status == CHARGE_AUTHORIZED ||
				  charge->status == CHARGE_SUCCEEDED || voided);
	json_str(b, "payment_intent", intent->id);
	charge_outcome(b, charge);
	json_bool(b, "refunded",
			  voided || (charge->amount_refunded > 0 &&
						 charge_refundable(charge) == 0));
	json_str(b, "status", charge_status(charge));
	json_str(b, "transfer_group", intent->transfer_group);
	json_close(b, '}');
}

static void
latest_charge(Buf *b, const Intent *intent, unsigned expand)
{
	if (intent->latest_charge == NONE)
		json_null(b, "latest_charge");
	else if (expand & EXPAND_LATEST_CHARGE)
		charge_json(b, "latest_charge", book_charge(intent->latest_charge),
					expand);
	else
		json_str(b, "latest_charge", book_charge(intent->latest_charge)->id);
}

static void
automatic_json(Buf *b, const Intent *intent)
{
	if (intent->automatic_payment_methods == AUTOMATIC_NOT_GIVEN)
	{
		json_null(b, "automatic_payment_methods");
		return;
	}
	json_open(b, "automatic_payment_methods", '{');
	json_str(b, "allow_redirects",
			 intent->automatic_payment_methods == AUTOMATIC_NO_REDIRECTS
				 ? "never"
				 : "always");
	json_bool(b, "enabled",
			  intent->automatic_payment_methods != AUTOMATIC_DISABLED);
	json_close(b, '}');
}

/* Fields that the sandbox has no use for but the vendor always shows. */
static void
unused_fields(Buf *b)
{
	static const char *const names[] = { "application",
										 "application_fee_amount",
										 "on_behalf_of",
										 "processing",
										 "receipt_email",
										 "review",
										 "setup_future_usage",
										 "shipping",
										 "statement_descriptor",
										 "transfer_data",
										 "statement_descriptor_suffix" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		json_null(b, names[i]);
	json_open(b, "payment_method_types", '[');
	json_str(b, NULL, "card");
	json_close(b, ']');
}

void
payment_intent_json(Buf *b, const char *key, const Intent *intent,
					unsigned expand)
{
	char secret[2 * ID_SIZE];

	snprintf(secret, sizeof(secret), "%s_%s", intent->id, intent->secret);
	json_open(b, key, '{');
	json_str(b, "id", intent->id);
	json_str(b, "object", "payment_intent");
	json_int(b, "amount", intent->amount);
	json_int(b, "amount_capturable", intent->amount_capturable);
	json_int(b, "amount_received", intent->amount_received);
	automatic_json(b, intent);
	if (intent->canceled_ms != 0)
		json_int(b, "canceled_at", intent->canceled_ms / 1000);
	else
		json_null(b, "canceled_at");
	json_str(b, "cancellation_reason", intent->cancellation_reason);
	json_str(b, "capture_method", capture_methods[intent->capture_method]);
	json_str(b, "client_secret", secret);
	json_str(b, "confirmation_method", "automatic");
	json_int(b, "created", intent->created_ms / 1000);
	json_str(b, "currency", currency_lower(intent->currency));
	json_str(b, "customer",
			 intent->customer == NONE ? NULL
									  : book_customer(intent->customer)->id);
	json_str(b, "description", intent->description);
	last_error_json(b, intent);
	latest_charge(b, intent, expand);
	json_bool(b, "livemode", false);
	metadata_json(b, &intent->metadata);
	next_action_json(b, intent);
	json_str(b, "payment_method", intent->payment_method);
	json_str(b, "status", intent_statuses[intent->status]);
	json_str(b, "transfer_group", intent->transfer_group);
	unused_fields(b);
	json_close(b, '}');
}

void
payment_intent_answer_declined(Request *request, const Intent *intent)
{
	Buf			 *b = &request->answer.body;
	const Charge *charge = book_charge(intent->latest_charge);

	request->answer.status = 402;
	json_open(b, NULL, '{');
	json_open(b, "error", '{');
	decline_fields(b, charge, payment_method_find(charge->payment_method));
	payment_intent_json(b, "payment_intent", intent, 0);
	json_close(b, '}');
	json_close(b, '}');
}
