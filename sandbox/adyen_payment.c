/*
 * adyen_payment.c
 *		POST /payments. There is no way to ask for a payment afterwards: what
 *		became of it is told by a notification, or by the stored answer when
 *		the same request comes again under its key.
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

#define METADATA_COUNT_MAX 20
#define METADATA_KEY_MAX 20
#define METADATA_VALUE_MAX 80
#define ECHO_MAX 100

typedef struct PaymentParams
{
	int64_t		amount;
	int			currency;
	const char *reference;
	const char *stored;
	AdyenMethod method;
	bool		manual;
	bool		payer_is_there;
} PaymentParams;

static const char *const fields[] = { "accountInfo",
									  "additionalData",
									  "amount",
									  "authenticationData",
									  "billingAddress",
									  "browserInfo",
									  "captureDelayHours",
									  "channel",
									  "company",
									  "countryCode",
									  "dateOfBirth",
									  "deliverAt",
									  "deliveryAddress",
									  "deliveryDate",
									  "deviceFingerprint",
									  "enableOneClick",
									  "enablePayOut",
									  "enableRecurring",
									  "entityType",
									  "fraudOffset",
									  "lineItems",
									  "localizedShopperStatement",
									  "mcc",
									  "merchantAccount",
									  "merchantOrderReference",
									  "merchantRiskIndicator",
									  "metadata",
									  "mpiData",
									  "order",
									  "orderReference",
									  "origin",
									  "paymentMethod",
									  "platformChargebackLogic",
									  "recurringExpiry",
									  "recurringFrequency",
									  "recurringProcessingModel",
									  "redirectFromIssuerMethod",
									  "redirectToIssuerMethod",
									  "reference",
									  "returnUrl",
									  "riskData",
									  "sessionValidity",
									  "shopperEmail",
									  "shopperIP",
									  "shopperInteraction",
									  "shopperLocale",
									  "shopperName",
									  "shopperReference",
									  "shopperStatement",
									  "socialSecurityNumber",
									  "splits",
									  "store",
									  "storePaymentMethod",
									  "telephoneNumber",
									  "threeDS2RequestData",
									  "threeDSAuthenticationOnly",
									  "trustedShopper",
									  NULL };

static bool
prepare_method(Request *request, PaymentParams *params)
{
	const char *type = json_text(request->json, "paymentMethod.type");
	JsonValue  *interaction = json_at(request->json, "shopperInteraction");

	if (json_at(request->json, "paymentMethod") == NULL)
		return adyen_invalid(request, "14_006",
							 "Required object 'paymentMethod' is not "
							 "provided.");
	if (type != NULL && strcmp(type, "scheme") != 0)
		return adyen_invalid(request, "905_1",
							 "No acquirer account for the payment method %.*s",
							 ECHO_MAX, type);
	params->stored =
		json_text(request->json, "paymentMethod.storedPaymentMethodId");
	if (params->stored == NULL)
		return adyen_invalid(request, "14_005",
							 "The sandbox takes nothing but a "
							 "storedPaymentMethodId.");
	if (!adyen_method_find(params->stored, &params->method))
		return adyen_invalid(request, "800", "Contract not found");
	params->payer_is_there = interaction == NULL ||
							 interaction->type != JSON_STRING ||
							 strcmp(interaction->text, "Ecommerce") == 0;
	return true;
}

bool
adyen_prepare_metadata(Request *request)
{
	JsonValue *metadata = json_at(request->json, "metadata");
	int		   count = 0;

	if (metadata == NULL)
		return true;
	if (metadata->type != JSON_OBJECT)
		return adyen_invalid(request, "174", "Unable to decrypt metadata");
	for (JsonValue *v = metadata->first; v != NULL; v = v->next)
	{
		if (++count > METADATA_COUNT_MAX || v->type != JSON_STRING ||
			strlen(v->name) > METADATA_KEY_MAX ||
			strlen(v->text) > METADATA_VALUE_MAX)
			return adyen_invalid(request, "177",
								 "Metadata size exceeds limit");
	}
	return true;
}

void
adyen_copy_metadata(const Request *request, Metadata *metadata)
{
	JsonValue *given = json_at(request->json, "metadata");

	for (JsonValue *v = given ? given->first : NULL; v != NULL; v = v->next)
		metadata_add(metadata, v->name, v->text);
}

bool
adyen_wants_manual_capture(Request *request)
{
	const char *manual =
		json_text(request->json, "additionalData.manualCapture");
	int64_t delay_hours;

	if (manual != NULL)
		return strcmp(manual, "true") == 0;
	if (json_integer(request->json, "captureDelayHours", &delay_hours))
		return delay_hours > 0;
	return options.adyen_manual_capture;
}

bool
adyen_payment_prepare(Request *request)
{
	PaymentParams *params = xcalloc(1, sizeof(PaymentParams));

	request->prepared = params;
	if (!adyen_known(request, fields) || !adyen_merchant(request) ||
		!adyen_amount(request, &params->amount, &params->currency) ||
		!adyen_reference(request, true, &params->reference) ||
		!prepare_method(request, params) || !adyen_prepare_metadata(request))
		return false;
	params->manual = adyen_wants_manual_capture(request);
	return true;
}

static void
notify_authorisation(const Intent *intent, const char *reason)
{
	AdyenEvent event = { .code = "AUTHORISATION",
						 .psp_reference = public_id(intent->id),
						 .merchant_reference = intent->reference,
						 .currency = intent->currency,
						 .amount = intent->amount,
						 .reason = reason,
						 .can_modify = reason == NULL };

	adyen_notify(&event);
}

static void
authorise(Intent *intent, Charge *charge)
{
	if (intent->capture_method == CAPTURE_MANUAL)
		charge_authorize(intent, charge);
	else
		charge_capture(intent, charge, intent->amount);
	notify_authorisation(intent, NULL);
}

static void
refuse(Intent *intent, Charge *charge, const AdyenMethod *method)
{
	charge_fail(intent, charge);
	notify_authorisation(intent, method->reason);
}

static void
wait_for_outcome(Intent *intent, Charge *charge)
{
	charge->status = CHARGE_PENDING;
	intent->status = INTENT_PROCESSING;
	intent->due_ms = book.now_ms + options.processing_delay_ms;
	timer_add_intent(intent);
}

static void
expire(Intent *intent, Charge *charge)
{
	AdyenEvent event = { .code = "EXPIRE",
						 .psp_reference = public_id(intent->id),
						 .original_reference = public_id(intent->id),
						 .merchant_reference = intent->reference,
						 .currency = intent->currency,
						 .amount = intent->amount };

	charge_void(intent, charge);
	adyen_notify(&event);
}

void
adyen_payment_finish(Intent *intent)
{
	Charge	   *charge = book_charge(intent->latest_charge);
	AdyenMethod method;

	adyen_method_find(charge->payment_method, &method);
	intent->due_ms = 0;
	if (charge->status == CHARGE_AUTHORIZED)
		expire(intent, charge);
	else if (method.fails_later)
		refuse(intent, charge, &method);
	else
		authorise(intent, charge);
	journal_charge(charge);
	journal_intent(intent);
}

/* A payer has to act: nothing is charged, and nothing has a name yet. */
static void
put_action(Buf *b, const Intent *intent)
{
	json_open(b, "action", '{');
	json_str(b, "paymentMethodType", "scheme");
	json_str(b, "method", "GET");
	json_str(b, "type", "redirect");
	json_str(b, "url",
			 intent->return_url
				 ? intent->return_url
				 : "https://sandbox.invalid/checkoutshopper/threeDS/redirect");
	json_close(b, '}');
}

static void
answer_payment(Request *request, const Intent *intent, const char *result,
			   const AdyenMethod *method)
{
	Buf *b = &request->answer.body;
	bool acts = method->outcome == ADYEN_REDIRECT ||
				method->outcome == ADYEN_CHALLENGE;
	bool acting = acts && intent->status == INTENT_REQUIRES_ACTION;

	request->answer.status = 200;
	json_open(b, NULL, '{');
	if (!acting)
		json_str(b, "pspReference", public_id(intent->id));
	json_str(b, "resultCode", result);
	if (intent->failed && method->reason != NULL)
	{
		json_str(b, "refusalReason", method->reason);
		json_str(b, "refusalReasonCode", method->reason_code);
	}
	if (acting)
		put_action(b, intent);
	else
	{
		adyen_amount_json(b, intent->currency, intent->amount);
		json_str(b, "merchantReference", intent->reference);
		json_open(b, "paymentMethod", '{');
		json_str(b, "brand", "visa");
		json_str(b, "type", "scheme");
		json_close(b, '}');
	}
	json_close(b, '}');
}

const char *
adyen_attempt(Intent *intent, Charge *charge, const AdyenMethod *method)
{
	switch (method->outcome)
	{
		case ADYEN_AUTHORISED:
			authorise(intent, charge);
			return "Authorised";
		case ADYEN_PENDING:
			wait_for_outcome(intent, charge);
			return "Pending";
		case ADYEN_RECEIVED:
			wait_for_outcome(intent, charge);
			return "Received";
		case ADYEN_ERROR:
			refuse(intent, charge, method);
			return "Error";
		case ADYEN_CANCELLED:
			refuse(intent, charge, method);
			return "Cancelled";
		case ADYEN_REFUSED:
		case ADYEN_REDIRECT:
		case ADYEN_CHALLENGE:
			break;
	}
	refuse(intent, charge, method);
	return "Refused";
}

static void
fill_intent(const Request *request, Intent *intent)
{
	const PaymentParams *params = request->prepared;

	intent->amount = params->amount + (request->wrong_amount ? 1 : 0);
	intent->currency = request->wrong_currency
						   ? currency_other(params->currency)
						   : params->currency;
	intent->capture_method =
		params->manual ? CAPTURE_MANUAL : CAPTURE_AUTOMATIC;
	intent->payment_method = xstrdup(params->stored);
	intent->reference = xstrdup(params->reference);
	intent->return_url = xstrdup(json_text(request->json, "returnUrl"));
	adyen_copy_metadata(request, &intent->metadata);
}

void
adyen_payment_create(Request *request)
{
	const PaymentParams *params = request->prepared;
	Intent				*intent = book_new_intent(PSP_ADYEN);
	bool				 redirects = params->method.outcome == ADYEN_REDIRECT;
	const char			*result;

	request->executed = true;
	fill_intent(request, intent);
	/* Without the payer there is nobody who could act. */
	if ((redirects || params->method.outcome == ADYEN_CHALLENGE) &&
		params->payer_is_there)
	{
		intent->status = INTENT_REQUIRES_ACTION;
		result = redirects ? "RedirectShopper" : "ChallengeShopper";
	}
	else
	{
		Charge *charge = book_new_charge(intent);

		charge->idempotency_key = xstrdup(request->idempotency_key);
		result = adyen_attempt(intent, charge, &params->method);
		journal_charge(charge);
	}
	answer_payment(request, intent, result, &params->method);
	journal_intent(intent);
}
