/*
 * adyen_session.c
 *		Adyen's sessions with a hosted page. Each attempt on the page is a
 *		payment of its own, told by an AUTHORISATION of its own.
 */
#include "adyen.h"

#include <stdlib.h>
#include <string.h>

#include "currency.h"
#include "iso_time.h"
#include "journal.h"
#include "json.h"
#include "options.h"
#include "random.h"
#include "session.h"

#define URL_MAX 1024

typedef struct AdyenSessionParams
{
	int64_t		amount;
	int			currency;
	const char *reference;
	const char *return_url;
	int64_t		expires_ms;
	bool		hosted;
	bool		manual;
} AdyenSessionParams;

static const char *const fields[] = { "accountInfo",
									  "additionalData",
									  "allowedPaymentMethods",
									  "amount",
									  "applicationInfo",
									  "authenticationData",
									  "billingAddress",
									  "blockedPaymentMethods",
									  "captureDelayHours",
									  "channel",
									  "countryCode",
									  "deliveryAddress",
									  "enableOneClick",
									  "enablePayOut",
									  "enableRecurring",
									  "expiresAt",
									  "lineItems",
									  "mcc",
									  "merchantAccount",
									  "merchantOrderReference",
									  "metadata",
									  "mode",
									  "recurringProcessingModel",
									  "reference",
									  "returnUrl",
									  "shopperEmail",
									  "shopperIP",
									  "shopperInteraction",
									  "shopperLocale",
									  "shopperName",
									  "shopperReference",
									  "shopperStatement",
									  "splits",
									  "store",
									  "storePaymentMethodMode",
									  "telephoneNumber",
									  "themeId",
									  NULL };

static bool
prepare_expiry(Request *request, AdyenSessionParams *params)
{
	const char *text = json_text(request->json, "expiresAt");

	if (json_at(request->json, "expiresAt") == NULL)
		return true;
	return (text != NULL && iso_time_parse(text, &params->expires_ms) &&
			params->expires_ms > clock_ms() &&
			params->expires_ms <= clock_ms() + 24 * 3600 * 1000LL) ||
		   adyen_invalid(request, "702",
						 "Field 'expiresAt' must be a time in the next 24 "
						 "hours");
}

bool
adyen_session_prepare(Request *request)
{
	AdyenSessionParams *params = xcalloc(1, sizeof(AdyenSessionParams));
	const char		   *mode = json_text(request->json, "mode");

	request->prepared = params;
	if (!adyen_known(request, fields) || !adyen_merchant(request) ||
		!adyen_amount(request, &params->amount, &params->currency) ||
		!adyen_reference(request, true, &params->reference) ||
		!adyen_prepare_metadata(request) || !prepare_expiry(request, params))
		return false;
	params->return_url = json_text(request->json, "returnUrl");
	if (params->return_url == NULL || strlen(params->return_url) > URL_MAX ||
		!session_is_url(params->return_url))
		return adyen_invalid(request, "14_029",
							 "Required field 'returnUrl' is not provided or "
							 "no URL.");
	params->hosted = mode != NULL && strcmp(mode, "hosted") == 0;
	if (mode != NULL && !params->hosted && strcmp(mode, "embedded") != 0)
		return adyen_invalid(request, "702", "Field 'mode' is not valid");
	params->manual = adyen_wants_manual_capture(request);
	return true;
}

static void
answer_session(Request *request, const Session *session, bool hosted)
{
	Buf *b = &request->answer.body;
	Buf	 url = { 0 };

	request->answer.status = 201;
	json_open(b, NULL, '{');
	adyen_amount_json(b, session->currency, session->amount);
	iso_time_json(b, "expiresAt", session->expires_ms);
	json_str(b, "id", public_id(session->id));
	json_str(b, "merchantAccount", options.adyen_merchant);
	json_str(b, "mode", hosted ? "hosted" : "embedded");
	json_str(b, "reference", session->reference);
	json_str(b, "returnUrl", session->success_url);
	json_str(b, "sessionData", session->data);
	if (hosted)
	{
		page_put_url(&url, session);
		json_str(b, "url", url.data);
		buf_free(&url);
	}
	json_close(b, '}');
}

void
adyen_session_create(Request *request)
{
	const AdyenSessionParams *params = request->prepared;
	Session					 *session = book_new_session(PSP_ADYEN);

	request->executed = true;
	session->amount = params->amount + (request->wrong_amount ? 1 : 0);
	session->currency = request->wrong_currency
							? currency_other(params->currency)
							: params->currency;
	session->capture_method =
		params->manual ? CAPTURE_MANUAL : CAPTURE_AUTOMATIC;
	session->success_url = xstrdup(params->return_url);
	session->reference = xstrdup(params->reference);
	session->data = xcalloc(1, ID_SIZE);
	random_id(session->data, ID_SIZE, "Ab02b4");
	adyen_copy_metadata(request, &session->intent_metadata);
	session_open(session, request, params->expires_ms);
	journal_session(session);
	answer_session(request, session, params->hosted);
}

/* The page's answer names what the merchant may ask for. */
static const char *
session_result(const Session *session)
{
	return session->intent == NONE ? session->data
								   : book_intent(session->intent)->secret;
}

bool
adyen_session_prepare_get(Request *request)
{
	const char	  *result = form_take(&request->query_form, "sessionResult");
	const Session *session = book_find_session(PSP_ADYEN, request->id);

	if (session == NULL)
		return adyen_error(request, 404, "14_035", "validation",
						   "Session not found");
	return (result != NULL && strcmp(result, session_result(session)) == 0) ||
		   adyen_invalid(request, "14_036", "Invalid sessionResult");
}

static const char *
status_of(const Session *session)
{
	const Intent *intent;

	if (session->status == SESSION_EXPIRED)
		return "expired";
	if (session->intent == NONE)
		return "active";
	intent = book_intent(session->intent);
	if (intent->failed)
		return "refused";
	return intent->status == INTENT_PROCESSING ? "paymentPending"
											   : "completed";
}

void
adyen_session_get(Request *request)
{
	const Session *session = book_find_session(PSP_ADYEN, request->id);
	Buf			  *b = &request->answer.body;

	json_open(b, NULL, '{');
	json_str(b, "id", public_id(session->id));
	json_str(b, "status", status_of(session));
	json_close(b, '}');
}

static Intent *
new_payment(Session *session, const char *method)
{
	Intent *intent = book_new_intent(PSP_ADYEN);

	session->intent = intent->number;
	intent->session = session->number;
	intent->amount = session->amount;
	intent->currency = session->currency;
	intent->capture_method = session->capture_method;
	intent->payment_method = xstrdup(method);
	intent->reference = xstrdup(session->reference);
	for (uint32_t i = 0; i < session->intent_metadata.count; i++)
		metadata_add(&intent->metadata, session->intent_metadata.items[i].key,
					 session->intent_metadata.items[i].value);
	return intent;
}

static PageOutcome
attempt(Session *session, const char *name, const AdyenMethod *method,
		const char **message)
{
	Intent *intent = new_payment(session, name);
	Charge *charge = book_new_charge(intent);

	adyen_attempt(intent, charge, method);
	*message = method->reason;
	if (!intent->failed)
	{
		session->status = SESSION_COMPLETE;
		session->due_ms = 0;
	}
	journal_charge(charge);
	journal_intent(intent);
	journal_session(session);
	return intent->failed ? PAGE_DECLINED : PAGE_DONE;
}

static PageOutcome
pay(Session *session, const char *name, const char **message)
{
	AdyenMethod method;

	if (!adyen_method_find(name, &method))
	{
		*message = "Choose one of the cards.";
		return PAGE_DECLINED;
	}
	if (method.outcome != ADYEN_REDIRECT && method.outcome != ADYEN_CHALLENGE)
		return attempt(session, name, &method, message);
	free(session->method);
	session->method = xstrdup(name);
	journal_session(session);
	return PAGE_AUTHENTICATE;
}

static PageOutcome
authenticate(Session *session, bool succeeds, const char **message)
{
	const char *name = succeeds ? "sandbox_authorised" : "sandbox_refused_11";
	AdyenMethod method;

	if (session->method == NULL)
		return PAGE_DECLINED;
	free(session->method);
	session->method = NULL;
	adyen_method_find(name, &method);
	return attempt(session, name, &method, message);
}

static void
put_return_url(Buf *url, const Session *session)
{
	buf_printf(url, "%s%csessionId=%s&sessionResult=", session->success_url,
			   strchr(session->success_url, '?') ? '&' : '?',
			   public_id(session->id));
	form_encode(url, session_result(session));
}

static const PageCard cards[] = {
	{ "sandbox_authorised", "Visa ending in 1111", "The payment succeeds." },
	{ "sandbox_challenge", "Visa ending in 0212",
	  "Your bank asks you to confirm the payment (3-D Secure)." },
	{ "sandbox_refused_2", "Visa ending in 0002", "The card is refused." },
	{ "sandbox_refused_12", "Visa ending in 0012",
	  "The card is refused: it does not hold enough money." },
	{ "sandbox_refused_6", "Visa ending in 0006",
	  "The card is refused: it has expired." },
	{ "sandbox_pending", "Visa ending in 0100",
	  "The payment takes a while and then succeeds." },
	{ "sandbox_pending_fails", "Visa ending in 0101",
	  "The payment takes a while and then fails." },
	{ NULL, NULL, NULL }
};

const PageOwner adyen_page = { .cards = cards,
							   .pay = pay,
							   .authenticate = authenticate,
							   .put_return_url = put_return_url };
