/*
 * payment_intent.c
 *		What can be done with a payment intent.
 *
 * An attempt to charge makes a charge, also when it is declined. When a
 * charge is captured, its balance transaction takes the fee.
 */
#include "payment_intent.h"

#include <stdlib.h>
#include <string.h>

#include "charge.h"
#include "currency.h"
#include "customer.h"
#include "dispute.h"
#include "journal.h"
#include "listing.h"
#include "options.h"
#include "session.h"
#include "stripe_event.h"
#include "timer.h"

#define DESCRIPTION_MAX 1000
#define TRANSFER_GROUP_MAX 255
#define URL_MAX 2000

/* Parameters; strings point into the request's form. */
typedef struct IntentParams
{
	int64_t		amount;
	int			currency;
	const char *payment_method;
	const char *description;
	const char *transfer_group;
	const char *return_url;
	bool		confirm;
	bool		off_session;
	bool		error_on_requires_action;
	int			capture_method;
	int			automatic;
	uint32_t	customer;
	int			reason;
	int64_t		amount_to_capture;
	unsigned	expand;
} IntentParams;

static const char *const multicapture_choices[] = { "never", "if_available",
													NULL };
static const char *const capture_choices[] = { "automatic", "automatic_async",
											   "manual", NULL };
static const char *const redirect_choices[] = { "always", "never", NULL };
static const char *const reason_choices[] = { "duplicate", "fraudulent",
											  "requested_by_customer",
											  "abandoned", NULL };

static IntentParams *
new_params(Request *request)
{
	IntentParams *params = xcalloc(1, sizeof(IntentParams));

	params->reason = -1;
	params->customer = NONE;
	request->prepared = params;
	return params;
}

static bool
prepare_method(Request *request, IntentParams *params)
{
	params->payment_method = form_take(request->params, "payment_method");
	return params->payment_method == NULL ||
		   payment_method_is_usable(request, params->payment_method,
									params->customer);
}

/* Parameters that only make sense when the intent is confirmed. */
static bool
prepare_confirmation(Request *request, IntentParams *params)
{
	bool		off_session;
	bool		error_on_action;
	const char *misplaced = NULL;

	if (!prepare_method(request, params) ||
		!param_bool(request, "off_session", &params->off_session,
					&off_session) ||
		!param_bool(request, "error_on_requires_action",
					&params->error_on_requires_action, &error_on_action) ||
		!param_text(request, "return_url", URL_MAX, &params->return_url))
		return false;
	if (params->confirm)
		return true;
	if (off_session)
		misplaced = "off_session";
	else if (error_on_action)
		misplaced = "error_on_requires_action";
	else if (params->return_url != NULL)
		misplaced = "return_url";
	if (misplaced == NULL)
		return true;
	return answer_invalid(request, NULL, misplaced,
						  "%s is only allowed together with confirm=true.",
						  misplaced);
}

static bool
prepare_automatic(Request *request, IntentParams *params)
{
	bool enabled = false;
	bool given = false;
	int	 redirects = 0;

	if (!param_bool(request, "automatic_payment_methods[enabled]", &enabled,
					&given) ||
		!param_choice(request, "automatic_payment_methods[allow_redirects]",
					  redirect_choices, &redirects))
		return false;
	if (given && !enabled)
		params->automatic = AUTOMATIC_DISABLED;
	else if (given)
		params->automatic =
			redirects == 1 ? AUTOMATIC_NO_REDIRECTS : AUTOMATIC_ENABLED;
	return true;
}

bool
payment_intent_prepare_create(Request *request)
{
	IntentParams *params = new_params(request);
	int			  multicapture = 0; /* as for most accounts, there is none */

	if (!param_amount(request, "amount", &params->amount) ||
		!param_currency(request, &params->currency) ||
		!param_bool(request, "confirm", &params->confirm, NULL) ||
		!customer_param(request, &params->customer) ||
		!prepare_confirmation(request, params) ||
		!prepare_automatic(request, params) ||
		!param_choice(request, "capture_method", capture_choices,
					  &params->capture_method) ||
		!param_choice(request,
					  "payment_method_options[card][request_multicapture]",
					  multicapture_choices, &multicapture) ||
		!param_text(request, "description", DESCRIPTION_MAX,
					&params->description) ||
		!param_text(request, "transfer_group", TRANSFER_GROUP_MAX,
					&params->transfer_group) ||
		!param_metadata(request) ||
		!param_expand(request, "", &params->expand) || !params_known(request))
		return false;
	if (params->confirm && params->payment_method == NULL)
		return answer_invalid(request, "parameter_missing", "payment_method",
							  "Missing required param: payment_method.");
	return true;
}

static void
answer_intent(Request *request, const Intent *intent)
{
	const IntentParams *params = request->prepared;

	request->answer.status = 200;
	payment_intent_json(&request->answer.body, NULL, intent, params->expand);
}

static void
fail_charge(Intent *intent, Charge *charge)
{
	charge_fail(intent, charge);
	/* A method that was declined does not stay attached. */
	free(intent->payment_method);
	intent->payment_method = NULL;
}

static void
accept_charge(Intent *intent, Charge *charge)
{
	if (intent->capture_method == CAPTURE_MANUAL)
		charge_authorize(intent, charge);
	else
		charge_capture(intent, charge, intent->amount);
}

static void
start_processing(Intent *intent, Charge *charge)
{
	charge->status = CHARGE_PENDING;
	intent->status = INTENT_PROCESSING;
	intent->failed = false;
	intent->due_ms = book.now_ms + options.processing_delay_ms;
	timer_add_intent(intent);
}

static void
expire(Intent *intent, Charge *charge)
{
	charge_void(intent, charge);
	intent->cancellation_reason = xstrdup("automatic");
	journal_charge(charge);
	journal_intent(intent);
	stripe_event_charge("charge.expired", charge);
	stripe_event_intent("payment_intent.canceled", intent);
}

void
payment_intent_finish(Intent *intent)
{
	Charge			 *charge = book_charge(intent->latest_charge);
	const TestMethod *method = payment_method_find(charge->payment_method);

	intent->due_ms = 0;
	if (charge->status == CHARGE_AUTHORIZED)
	{
		expire(intent, charge);
		return;
	}
	if (method->outcome == METHOD_PROCESSES_THEN_FAILS)
		fail_charge(intent, charge);
	else
		accept_charge(intent, charge);
	journal_charge(charge);
	journal_intent(intent);
	stripe_event_attempt(intent);
	session_tell_outcome(intent);
}

/* Has the payer authenticated with the bank, or need not do so? */
static bool
needs_payer(const Intent *intent, const TestMethod *method)
{
	return method->outcome == METHOD_AUTHENTICATES ||
		   (method->outcome == METHOD_AUTHENTICATES_ONCE &&
			book_find_saved_method(intent->payment_method) == NULL);
}

/* A charge with the intent's payment method, come what may. */
static void
charge_now(Intent *intent, const TestMethod *method, bool declines,
		   const char *idempotency_key)
{
	Charge *charge = book_new_charge(intent);

	charge->idempotency_key = xstrdup(idempotency_key);
	if (declines)
		fail_charge(intent, charge);
	else if (method->outcome == METHOD_PROCESSES ||
			 method->outcome == METHOD_PROCESSES_THEN_FAILS)
		start_processing(intent, charge);
	else
		accept_charge(intent, charge);
	journal_charge(charge);
}

void
payment_intent_attempt(Intent *intent, bool payer_is_there,
					   const char *idempotency_key)
{
	const TestMethod *method = payment_method_find(intent->payment_method);
	bool			  needed = needs_payer(intent, method);

	intent->not_authenticated = false;
	if (needed && payer_is_there)
	{
		intent->status = INTENT_REQUIRES_ACTION;
		intent->failed = false;
	}
	else
		charge_now(intent, method,
				   needed || method->outcome == METHOD_DECLINES,
				   idempotency_key);
	stripe_event_attempt(intent);
	dispute_open_for_card(intent);
}

void
payment_intent_authenticate(Intent *intent, bool succeeds)
{
	const TestMethod *method = payment_method_find(intent->payment_method);

	if (succeeds)
		charge_now(intent, method, false, NULL);
	else
	{
		intent->status = INTENT_REQUIRES_PAYMENT_METHOD;
		intent->failed = true;
		intent->not_authenticated = true;
		free(intent->payment_method);
		intent->payment_method = NULL;
	}
	stripe_event_attempt(intent);
}

/* An attempt with the intent's payment method; answers. */
static void
attempt(Request *request, Intent *intent)
{
	const IntentParams *params = request->prepared;

	payment_intent_attempt(intent,
						   !params->off_session &&
							   !params->error_on_requires_action,
						   request->idempotency_key);
	if (intent->failed)
		payment_intent_answer_declined(request, intent);
	else
		answer_intent(request, intent);
}

void
payment_intent_create(Request *request)
{
	const IntentParams *params = request->prepared;
	Intent			   *intent = book_new_intent(PSP_STRIPE);

	request->executed = true;
	intent->amount = params->amount + (request->wrong_amount ? 1 : 0);
	intent->currency = request->wrong_currency
						   ? currency_other(params->currency)
						   : params->currency;
	intent->customer = params->customer;
	intent->capture_method = (uint8_t) params->capture_method;
	intent->automatic_payment_methods = (uint8_t) params->automatic;
	intent->payment_method = xstrdup(params->payment_method);
	intent->description = xstrdup(params->description);
	intent->transfer_group = xstrdup(params->transfer_group);
	intent->return_url = xstrdup(params->return_url);
	request_metadata(request, &intent->metadata);
	stripe_event_intent("payment_intent.created", intent);
	if (params->confirm)
		attempt(request, intent);
	else
	{
		intent->status = intent->payment_method
							 ? INTENT_REQUIRES_CONFIRMATION
							 : INTENT_REQUIRES_PAYMENT_METHOD;
		answer_intent(request, intent);
	}
	journal_intent(intent);
}

static Intent *
find_intent(Request *request)
{
	Intent *intent = book_find_intent(PSP_STRIPE, request->id);

	if (intent == NULL)
		answer_missing_object(request, "intent", "payment_intent",
							  request->id);
	return intent;
}

/* A state in which what was asked for is impossible; the answer is kept. */
static void
answer_state(Request *request, const Intent *intent, const char *verb)
{
	Buf *b = &request->answer.body;

	answer_invalid(request, "payment_intent_unexpected_state", NULL,
				   "This PaymentIntent cannot be %s in its present status.",
				   verb);
	/* Reopen the two closing braces for the intent itself. */
	b->len -= 2;
	payment_intent_json(b, "payment_intent", intent, 0);
	buf_puts(b, "}}");
}

bool
payment_intent_prepare_confirm(Request *request)
{
	IntentParams *params = new_params(request);

	params->confirm = true;
	if (find_intent(request) == NULL)
		return false;
	params->customer = find_intent(request)->customer;
	return prepare_confirmation(request, params) &&
		   param_expand(request, "", &params->expand) && params_known(request);
}

static void
replace_text(char **old, const char *new)
{
	if (new == NULL)
		return;
	free(*old);
	*old = xstrdup(new);
}

void
payment_intent_confirm(Request *request)
{
	const IntentParams *params = request->prepared;
	Intent			   *intent = find_intent(request);
	bool				can_confirm;

	can_confirm = intent->status == INTENT_REQUIRES_CONFIRMATION ||
				  intent->status == INTENT_REQUIRES_ACTION ||
				  intent->status == INTENT_REQUIRES_PAYMENT_METHOD;
	if (!can_confirm ||
		(intent->payment_method == NULL && params->payment_method == NULL))
	{
		answer_state(request, intent, "confirmed");
		return;
	}
	request->executed = true;
	replace_text(&intent->payment_method, params->payment_method);
	replace_text(&intent->return_url, params->return_url);
	attempt(request, intent);
	journal_intent(intent);
}

bool
payment_intent_prepare_capture(Request *request)
{
	IntentParams *params = new_params(request);
	bool		  is_final = true;

	if (!param_int(request, "amount_to_capture", 1, AMOUNT_MAX,
				   &params->amount_to_capture) ||
		!param_bool(request, "final_capture", &is_final, NULL) ||
		!param_expand(request, "", &params->expand) ||
		!params_known(request) || find_intent(request) == NULL)
		return false;
	return is_final || answer_invalid(request, NULL, "final_capture",
									  "Multicapture is not available for this "
									  "PaymentIntent.");
}

void
payment_intent_capture(Request *request)
{
	const IntentParams *params = request->prepared;
	Intent			   *intent = find_intent(request);
	Charge			   *charge;
	int64_t				amount = params->amount_to_capture;

	if (intent->status != INTENT_REQUIRES_CAPTURE)
	{
		answer_state(request, intent, "captured");
		return;
	}
	if (amount > intent->amount_capturable)
	{
		answer_invalid(request, "amount_too_large", "amount_to_capture",
					   "amount_to_capture is more than can be captured.");
		return;
	}
	request->executed = true;
	charge = book_charge(intent->latest_charge);
	if (amount == 0)
		amount = intent->amount_capturable;
	else if (request->wrong_amount && amount < intent->amount_capturable)
		amount++;
	charge_capture(intent, charge, amount);
	journal_charge(charge);
	journal_intent(intent);
	stripe_event_charge("charge.captured", charge);
	stripe_event_intent("payment_intent.succeeded", intent);
	answer_intent(request, intent);
}

bool
payment_intent_prepare_cancel(Request *request)
{
	IntentParams *params = new_params(request);

	return param_choice(request, "cancellation_reason", reason_choices,
						&params->reason) &&
		   param_expand(request, "", &params->expand) &&
		   params_known(request) && find_intent(request) != NULL;
}

void
payment_intent_cancel(Request *request)
{
	const IntentParams *params = request->prepared;
	Intent			   *intent = find_intent(request);

	if (intent->status == INTENT_SUCCEEDED ||
		intent->status == INTENT_CANCELED ||
		intent->status == INTENT_PROCESSING)
	{
		answer_state(request, intent, "canceled");
		return;
	}
	request->executed = true;
	if (intent->status == INTENT_REQUIRES_CAPTURE)
	{
		Charge *charge = book_charge(intent->latest_charge);

		charge_void(intent, charge);
		journal_charge(charge);
	}
	intent->status = INTENT_CANCELED;
	intent->canceled_ms = book.now_ms;
	if (params->reason >= 0)
		intent->cancellation_reason = xstrdup(reason_choices[params->reason]);
	journal_intent(intent);
	stripe_event_intent("payment_intent.canceled", intent);
	answer_intent(request, intent);
}

bool
payment_intent_prepare_get(Request *request)
{
	IntentParams *params = new_params(request);

	/* Browsers identify themselves by the secret; servers may send it. */
	form_take(request->params, "client_secret");
	return param_expand(request, "", &params->expand) &&
		   params_known(request) && find_intent(request) != NULL;
}

void
payment_intent_get(Request *request)
{
	answer_intent(request, find_intent(request));
}

static int64_t
intent_created_s(uint32_t number)
{
	return book_intent(number)->created_ms / 1000;
}

static uint32_t
intent_number(const char *id)
{
	const Intent *intent = book_find_intent(PSP_STRIPE, id);

	return intent ? intent->number : NONE;
}

static void
put_intent(Buf *b, uint32_t number, unsigned expand)
{
	payment_intent_json(b, NULL, book_intent(number), expand);
}

static const ListSource intent_source = { .url = "/v1/payment_intents",
										  .kind = "payment_intent",
										  .shelf = &book.intents,
										  .created_s = intent_created_s,
										  .number_of = intent_number,
										  .put = put_intent };

static bool
is_stripes(uint32_t number, const ListParams *params)
{
	(void) params;
	return book_intent(number)->psp == PSP_STRIPE;
}

bool
payment_intent_prepare_list(Request *request)
{
	return list_prepare(request, &intent_source) && params_known(request);
}

void
payment_intent_list(Request *request)
{
	list_answer(request, &intent_source, is_stripes);
}
