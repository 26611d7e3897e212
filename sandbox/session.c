/*
 * session.c
 *		Checkout Sessions: made by the merchant, paid by the payer on a page
 *		that the merchant sends him to.
 */
#include "session.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "currency.h"
#include "customer.h"
#include "journal.h"
#include "json.h"
#include "listing.h"
#include "options.h"
#include "payment_intent.h"
#include "stripe_event.h"
#include "timer.h"

#define ITEMS_MAX 100
#define QUANTITY_MAX 999999
#define URL_MAX 2000
#define TEXT_MAX 1000
#define REFERENCE_MAX 200

typedef struct SessionParams
{
	int			mode;
	int64_t		amount;
	int			currency;
	bool		has_items;
	const char *success_url;
	const char *cancel_url;
	const char *reference;
	const char *email;
	const char *description;
	const char *transfer_group;
	int64_t		expires_at;
	uint32_t	customer;
	int			customer_creation;
	int			capture_method;
	int			future_usage;
	unsigned	expand;
} SessionParams;

enum
{
	MODE_PAYMENT,
	MODE_SETUP
};

static const char *const mode_choices[] = { "payment", "setup", NULL };
static const char *const creation_choices[] = { "if_required", "always",
												NULL };
static const char *const usage_choices[] = { "off_session", "on_session",
											 NULL };
static const char *const capture_choices[] = { "automatic", "automatic_async",
											   "manual", NULL };
static const char *const ui_choices[] = { "hosted", NULL };

bool
session_is_url(const char *url)
{
	if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
		return false;
	for (; *url != '\0'; url++)
	{
		if (*url <= ' ' || *url > '~')
			return false;
	}
	return true;
}

static bool
take_url(Request *request, const char *name, const char **url)
{
	if (!param_text(request, name, URL_MAX, url))
		return false;
	return *url == NULL || session_is_url(*url) ||
		   answer_invalid(request, "url_invalid", name,
						  "Not a valid URL: it needs a scheme, such as "
						  "https.");
}

/* A parameter of a line, such as line_items[0][quantity]. */
static const char *
take_of_item(Request *request, int item, const char *rest)
{
	char name[96];

	snprintf(name, sizeof(name), "line_items[%d]%s", item, rest);
	return form_take(request->params, name);
}

static bool
is_whole(const char *text, int64_t min, int64_t max, int64_t *value)
{
	size_t len = strlen(text);

	if (len == 0 || len > 15 || strspn(text, "0123456789") != len)
		return false;
	*value = strtoll(text, NULL, 10);
	return *value >= min && *value <= max;
}

/* False when there is no such line or it is wrong; only that is answered. */
static bool
take_item(Request *request, SessionParams *params, int item, Buf *items,
		  bool *is_there)
{
	const char *code = take_of_item(request, item, "[price_data][currency]");
	const char *amount =
		take_of_item(request, item, "[price_data][unit_amount]");
	const char *name =
		take_of_item(request, item, "[price_data][product_data][name]");
	const char *quantity = take_of_item(request, item, "[quantity]");
	int64_t		unit = 0;
	int64_t		count = 1;
	int			currency;

	*is_there = code != NULL || amount != NULL || name != NULL;
	if (!*is_there)
		return true;
	take_of_item(request, item, "[price_data][product_data][description]");
	if (code == NULL || amount == NULL || name == NULL)
		return answer_invalid(request, "parameter_missing", "line_items",
							  "A line needs price_data with currency, "
							  "unit_amount and product_data[name].");
	currency = currency_find(code);
	if (currency == CURRENCY_UNKNOWN ||
		(item > 0 && currency != params->currency))
		return answer_invalid(request, NULL, "line_items",
							  "All lines must have one currency of ISO 4217.");
	if (!is_whole(amount, 0, AMOUNT_MAX, &unit) ||
		(quantity != NULL && !is_whole(quantity, 1, QUANTITY_MAX, &count)) ||
		unit > (AMOUNT_MAX - params->amount) / count)
		return answer_invalid(request, "parameter_invalid_integer",
							  "line_items",
							  "unit_amount or quantity is no number or too "
							  "large.");
	params->currency = currency;
	params->amount += unit * count;
	params->has_items = true;
	if (items != NULL)
		buf_printf(items, "%" PRId64 " × %s\n", count, name);
	return true;
}

/* The names of what is bought go into "items", when there is such a thing. */
static bool
take_items(Request *request, SessionParams *params, Buf *items)
{
	bool is_there = true;

	params->amount = 0;

	for (int item = 0; is_there && item < ITEMS_MAX; item++)
	{
		if (!take_item(request, params, item, items, &is_there))
			return false;
	}
	if (params->mode == MODE_SETUP)
		return !params->has_items ||
			   answer_invalid(request, NULL, "line_items",
							  "Nothing is paid in the mode setup.");
	if (!params->has_items)
		return answer_invalid(request, "parameter_missing", "line_items",
							  "Missing required param: line_items.");
	return params->amount > 0 ||
		   answer_invalid(request, "amount_too_small", "line_items",
						  "The total must be at least 1 minor unit.");
}

/* Its metadata is looked at when the session is made. */
static bool
take_intent_data(Request *request, SessionParams *params)
{
	char key[64];
	int	 at = 0;

	while (form_take_sub(request->params, "payment_intent_data[metadata]", &at,
						 key, sizeof(key)) != NULL)
		;
	at = 0;
	while (form_take_sub(request->params, "setup_intent_data[metadata]", &at,
						 key, sizeof(key)) != NULL)
		;
	return param_choice(request, "payment_intent_data[capture_method]",
						capture_choices, &params->capture_method) &&
		   param_choice(request, "payment_intent_data[setup_future_usage]",
						usage_choices, &params->future_usage) &&
		   param_text(request, "payment_intent_data[description]", TEXT_MAX,
					  &params->description) &&
		   param_text(request, "payment_intent_data[transfer_group]", 255,
					  &params->transfer_group);
}

static bool
take_times(Request *request, SessionParams *params)
{
	int64_t now_s = clock_ms() / 1000;

	if (!param_int(request, "expires_at", 0, INT64_MAX / 1000,
				   &params->expires_at))
		return false;
	return params->expires_at == 0 ||
		   (params->expires_at >= now_s + 30 * 60 - 60 &&
			params->expires_at <= now_s + 24 * 3600 + 60) ||
		   answer_invalid(request, NULL, "expires_at",
						  "expires_at must be from 30 minutes to 24 hours "
						  "from now.");
}

/* Fields that change nothing here. */
static void
take_unused(Request *request)
{
	char key[64];
	int	 at = 0;
	int	 ui = 0;

	form_take(request->params, "locale");
	form_take(request->params, "submit_type");
	param_choice(request, "ui_mode", ui_choices, &ui);
	while (form_take_sub(request->params, "payment_method_types", &at, key,
						 sizeof(key)) != NULL)
		;
}

static bool
take_currency(Request *request, SessionParams *params)
{
	const char *code;

	params->currency = CURRENCY_UNKNOWN;
	if (params->mode == MODE_PAYMENT)
		return true;
	code = form_take(request->params, "currency");
	params->currency = currency_find(code ? code : "usd");
	return params->currency != CURRENCY_UNKNOWN ||
		   answer_invalid(request, NULL, "currency",
						  "Invalid currency: %.100s", code);
}

bool
session_prepare_create(Request *request)
{
	SessionParams *params = xcalloc(1, sizeof(SessionParams));

	request->prepared = params;
	params->mode = -1;
	params->future_usage = -1;
	take_unused(request);
	if (!param_choice(request, "mode", mode_choices, &params->mode))
		return false;
	if (params->mode < 0)
		return answer_invalid(request, "parameter_missing", "mode",
							  "Missing required param: mode.");
	if (!take_currency(request, params) ||
		!take_items(request, params, NULL) ||
		!take_url(request, "success_url", &params->success_url) ||
		!take_url(request, "cancel_url", &params->cancel_url) ||
		!param_text(request, "client_reference_id", REFERENCE_MAX,
					&params->reference) ||
		!param_text(request, "customer_email", 512, &params->email) ||
		!customer_param(request, &params->customer) ||
		!param_choice(request, "customer_creation", creation_choices,
					  &params->customer_creation) ||
		!take_times(request, params) || !take_intent_data(request, params) ||
		!param_metadata(request) ||
		!param_expand(request, "", &params->expand) || !params_known(request))
		return false;
	return params->success_url != NULL ||
		   answer_invalid(request, "parameter_missing", "success_url",
						  "Missing required param: success_url.");
}

static bool
is_setup(const Session *session)
{
	return session->setup != NONE;
}

static const char *
payment_status(const Session *session)
{
	if (is_setup(session))
		return "no_payment_required";
	return session->intent != NONE &&
				   book_intent(session->intent)->status == INTENT_SUCCEEDED
			   ? "paid"
			   : "unpaid";
}

static void
put_intent(Buf *b, const Session *session, unsigned expand)
{
	if (session->intent == NONE)
		json_null(b, "payment_intent");
	else if (expand & EXPAND_INTENT)
		payment_intent_json(b, "payment_intent", book_intent(session->intent),
							expand);
	else
		json_str(b, "payment_intent", book_intent(session->intent)->id);
}

static void
put_setup(Buf *b, const Session *session, unsigned expand)
{
	if (!is_setup(session))
		json_null(b, "setup_intent");
	else if (expand & EXPAND_SETUP)
		setup_intent_json(b, "setup_intent", book_setup(session->setup));
	else
		json_str(b, "setup_intent", book_setup(session->setup)->id);
}

static void
put_amounts(Buf *b, const Session *session)
{
	if (is_setup(session))
	{
		json_null(b, "amount_subtotal");
		json_null(b, "amount_total");
	}
	else
	{
		json_int(b, "amount_subtotal", session->amount);
		json_int(b, "amount_total", session->amount);
	}
	json_str(b, "currency", currency_lower(session->currency));
}

static void
put_url(Buf *b, const Session *session)
{
	Buf url = { 0 };

	if (session->status != SESSION_OPEN)
	{
		json_null(b, "url");
		return;
	}
	page_put_url(&url, session);
	json_str(b, "url", url.data);
	buf_free(&url);
}

void
session_json(Buf *b, const char *key, const Session *session, unsigned expand)
{
	static const char *const statuses[] = { "open", "complete", "expired" };

	json_open(b, key, '{');
	json_str(b, "id", session->id);
	json_str(b, "object", "checkout.session");
	put_amounts(b, session);
	json_str(b, "cancel_url", session->cancel_url);
	json_str(b, "client_reference_id", session->reference);
	json_int(b, "created", session->created_ms / 1000);
	json_str(b, "customer",
			 session->customer == NONE ? NULL
									   : book_customer(session->customer)->id);
	json_str(b, "customer_creation",
			 creation_choices[session->makes_customer]);
	json_str(b, "customer_email", session->email);
	json_int(b, "expires_at", session->expires_ms / 1000);
	json_bool(b, "livemode", false);
	metadata_json(b, &session->metadata);
	json_str(b, "mode", mode_choices[is_setup(session)]);
	put_intent(b, session, expand);
	json_open(b, "payment_method_types", '[');
	json_str(b, NULL, "card");
	json_close(b, ']');
	json_str(b, "payment_status", payment_status(session));
	put_setup(b, session, expand);
	json_str(b, "status", statuses[session->status]);
	json_str(b, "success_url", session->success_url);
	json_str(b, "ui_mode", "hosted");
	put_url(b, session);
	json_close(b, '}');
}

static void
answer_session(Request *request, const Session *session, unsigned expand)
{
	request->answer.status = 200;
	session_json(&request->answer.body, NULL, session, expand);
}

static void
copy_metadata(Request *request, const char *base, Metadata *metadata)
{
	char	   key[64];
	int		   at = 0;
	FormParam *param;

	while ((param = form_take_sub(request->params, base, &at, key,
								  sizeof(key))) != NULL)
	{
		if (param->value[0] != '\0')
			metadata_add(metadata, key, param->value);
	}
}

void
session_open(Session *session, const Request *request, int64_t expires_ms)
{
	int64_t last_ms = book.now_ms + options.session_lifetime_s * 1000;

	session->host = xstrdup(request->host ? request->host : "127.0.0.1");
	session->expires_ms =
		expires_ms > 0 && expires_ms < last_ms ? expires_ms : last_ms;
	session->due_ms = session->expires_ms;
	timer_add_session(session);
}

static void
add_setup(Request *request, Session *session)
{
	Setup *setup = book_new_setup();

	setup->customer = session->customer;
	copy_metadata(request, "setup_intent_data[metadata]", &setup->metadata);
	session->setup = setup->number;
	journal_setup(setup);
}

void
session_create(Request *request)
{
	SessionParams *params = request->prepared;
	Session		  *session = book_new_session(PSP_STRIPE);
	Buf			   items = { 0 };

	request->executed = true;
	session->amount = params->amount + (request->wrong_amount ? 1 : 0);
	session->currency = request->wrong_currency
							? currency_other(params->currency)
							: params->currency;
	session->customer = params->customer;
	session->makes_customer = params->customer_creation == 1;
	session->saves_method = params->future_usage >= 0;
	session->capture_method = (uint8_t) params->capture_method;
	session->success_url = xstrdup(params->success_url);
	session->cancel_url = xstrdup(params->cancel_url);
	session->reference = xstrdup(params->reference);
	session->email = xstrdup(params->email);
	session->description = xstrdup(params->description);
	session->transfer_group = xstrdup(params->transfer_group);
	take_items(request, params, &items);
	session->items = items.data;
	request_metadata(request, &session->metadata);
	copy_metadata(request, "payment_intent_data[metadata]",
				  &session->intent_metadata);
	if (params->mode == MODE_SETUP)
		add_setup(request, session);
	session_open(session, request, params->expires_at * 1000);
	journal_session(session);
	answer_session(request, session, params->expand);
}

static Session *
find_session(Request *request)
{
	Session *session = book_find_session(PSP_STRIPE, request->id);

	if (session == NULL)
		answer_missing_object(request, "session", "checkout.session",
							  request->id);
	return session;
}

bool
session_prepare_get(Request *request)
{
	SessionParams *params = xcalloc(1, sizeof(SessionParams));

	request->prepared = params;
	return param_expand(request, "", &params->expand) &&
		   params_known(request) && find_session(request) != NULL;
}

void
session_get(Request *request)
{
	const SessionParams *params = request->prepared;

	answer_session(request, find_session(request), params->expand);
}

/* With it goes what was tried and did not succeed. */
void
session_expire(Session *session)
{
	Intent *intent =
		session->intent == NONE ? NULL : book_intent(session->intent);

	session->status = SESSION_EXPIRED;
	session->due_ms = 0;
	journal_session(session);
	if (session->psp != PSP_STRIPE)
		return;
	if (intent != NULL && (intent->status == INTENT_REQUIRES_PAYMENT_METHOD ||
						   intent->status == INTENT_REQUIRES_ACTION))
	{
		intent->status = INTENT_CANCELED;
		intent->canceled_ms = book.now_ms;
		intent->cancellation_reason = xstrdup("abandoned");
		journal_intent(intent);
		stripe_event_intent("payment_intent.canceled", intent);
	}
	stripe_event_session("checkout.session.expired", session);
}

bool
session_prepare_expire(Request *request)
{
	return session_prepare_get(request);
}

void
session_expire_now(Request *request)
{
	const SessionParams *params = request->prepared;
	Session				*session = find_session(request);

	if (session->status != SESSION_OPEN)
	{
		answer_invalid(request, NULL, NULL,
					   "Only a session that is open can be expired.");
		return;
	}
	request->executed = true;
	session_expire(session);
	answer_session(request, session, params->expand);
}

static int64_t
session_created_s(uint32_t number)
{
	return book_session(number)->created_ms / 1000;
}

static uint32_t
session_number(const char *id)
{
	const Session *session = book_find_session(PSP_STRIPE, id);

	return session ? session->number : NONE;
}

static void
put_session(Buf *b, uint32_t number, unsigned expand)
{
	session_json(b, NULL, book_session(number), expand);
}

static const ListSource session_source = { .url = "/v1/checkout/sessions",
										   .kind = "checkout.session",
										   .shelf = &book.sessions,
										   .created_s = session_created_s,
										   .number_of = session_number,
										   .put = put_session };

static bool
is_wanted(uint32_t number, const ListParams *params)
{
	const Session *session = book_session(number);

	return session->psp == PSP_STRIPE &&
		   (params->intent == NULL ||
			params->intent->number == session->intent);
}

bool
session_prepare_list(Request *request)
{
	return list_prepare(request, &session_source) &&
		   list_prepare_charge(request) && params_known(request);
}

void
session_list(Request *request)
{
	list_answer(request, &session_source, is_wanted);
}

/* What the payer's card is kept for, once it is known to work. */
static void
keep_method(Session *session, const char *method)
{
	Setup		*setup = is_setup(session) ? book_setup(session->setup) : NULL;
	SavedMethod *saved;

	if (session->customer == NONE &&
		(session->makes_customer || setup != NULL))
	{
		Customer *customer = book_new_customer();

		customer->email = xstrdup(session->email);
		session->customer = customer->number;
		journal_customer(customer);
	}
	if (setup == NULL && !(session->saves_method && session->customer != NONE))
		return;
	saved = customer_save_method(session->customer, method);
	if (setup == NULL)
		return;
	setup->customer = session->customer;
	setup->method = saved->number;
	journal_setup(setup);
	stripe_event_setup("setup_intent.succeeded", setup);
}

static PageOutcome
complete(Session *session, const char *method)
{
	keep_method(session, method);
	session->status = SESSION_COMPLETE;
	session->due_ms = 0;
	if (session->intent != NONE)
	{
		Intent *intent = book_intent(session->intent);

		intent->customer = session->customer;
		journal_intent(intent);
	}
	journal_session(session);
	stripe_event_session("checkout.session.completed", session);
	return PAGE_DONE;
}

static void
copy_all(Metadata *to, const Metadata *from)
{
	for (uint32_t i = 0; i < from->count; i++)
		metadata_add(to, from->items[i].key, from->items[i].value);
}

/* Its payment intent, which the first attempt makes. */
static Intent *
intent_of(Session *session)
{
	Intent *intent;

	if (session->intent != NONE)
		return book_intent(session->intent);
	intent = book_new_intent(PSP_STRIPE);
	session->intent = intent->number;
	intent->session = session->number;
	intent->customer = session->customer;
	intent->amount = session->amount;
	intent->currency = session->currency;
	intent->capture_method = session->capture_method;
	intent->description = xstrdup(session->description);
	intent->transfer_group = xstrdup(session->transfer_group);
	copy_all(&intent->metadata, &session->intent_metadata);
	journal_session(session);
	stripe_event_intent("payment_intent.created", intent);
	return intent;
}

/* What the payer sees next, by what the intent has become. */
static PageOutcome
outcome_of(Session *session, const Intent *intent, const char *method,
		   const char **message)
{
	switch ((IntentStatus) intent->status)
	{
		case INTENT_REQUIRES_ACTION:
			return PAGE_AUTHENTICATE;
		case INTENT_SUCCEEDED:
		case INTENT_REQUIRES_CAPTURE:
		case INTENT_PROCESSING:
			return complete(session, method);
		default:
			*message = intent->not_authenticated
						   ? "Your bank could not confirm that it is you."
						   : test_method_find(method)->message;
			return PAGE_DECLINED;
	}
}

static PageOutcome
set_up(Session *session, const TestMethod *method, const char **message)
{
	if (method->outcome == METHOD_DECLINES)
	{
		*message = method->message;
		return PAGE_DECLINED;
	}
	if (method->outcome != METHOD_AUTHENTICATES &&
		method->outcome != METHOD_AUTHENTICATES_ONCE)
		return complete(session, method->name);
	free(session->method);
	session->method = xstrdup(method->name);
	journal_session(session);
	return PAGE_AUTHENTICATE;
}

static PageOutcome
pay(Session *session, const char *name, const char **message)
{
	const TestMethod *method = test_method_find(name);
	Intent			 *intent;
	PageOutcome		  outcome;

	if (method == NULL)
	{
		*message = "Choose one of the cards.";
		return PAGE_DECLINED;
	}
	if (is_setup(session))
		return set_up(session, method, message);
	intent = intent_of(session);
	if (intent->status == INTENT_CANCELED)
		return PAGE_GONE;
	free(intent->payment_method);
	intent->payment_method = xstrdup(method->name);
	payment_intent_attempt(intent, true, NULL);
	outcome = outcome_of(session, intent, method->name, message);
	journal_intent(intent);
	return outcome;
}

static PageOutcome
authenticate_setup(Session *session, bool succeeds, const char **message)
{
	char	   *method = session->method;
	PageOutcome outcome = PAGE_DECLINED;

	if (method == NULL)
		return PAGE_DECLINED;
	session->method = NULL;
	*message = "Your bank could not confirm that it is you.";
	if (succeeds)
		outcome = complete(session, method);
	else
		journal_session(session);
	free(method);
	return outcome;
}

static PageOutcome
authenticate(Session *session, bool succeeds, const char **message)
{
	Intent	   *intent;
	char	   *method;
	PageOutcome outcome;

	if (is_setup(session))
		return authenticate_setup(session, succeeds, message);
	if (session->intent == NONE)
		return PAGE_DECLINED;
	intent = book_intent(session->intent);
	if (intent->status != INTENT_REQUIRES_ACTION)
		return intent->status == INTENT_CANCELED ? PAGE_GONE : PAGE_DECLINED;
	method = xstrdup(intent->payment_method);
	payment_intent_authenticate(intent, succeeds);
	outcome = outcome_of(session, intent, method, message);
	journal_intent(intent);
	free(method);
	return outcome;
}

void
session_tell_outcome(const Intent *intent)
{
	if (intent->session == NONE)
		return;
	stripe_event_session(intent->status == INTENT_SUCCEEDED ||
								 intent->status == INTENT_REQUIRES_CAPTURE
							 ? "checkout.session.async_payment_succeeded"
							 : "checkout.session.async_payment_failed",
						 book_session(intent->session));
}

/* {CHECKOUT_SESSION_ID} stands for the id. */
static void
put_return_url(Buf *url, const Session *session)
{
	static const char variable[] = "{CHECKOUT_SESSION_ID}";
	const char		 *at = session->success_url;
	const char		 *found;

	while ((found = strstr(at, variable)) != NULL)
	{
		buf_put(url, at, (size_t) (found - at));
		buf_puts(url, session->id);
		at = found + strlen(variable);
	}
	buf_puts(url, at);
}

static const PageCard cards[] = {
	{ "pm_card_visa", "Visa ending in 4242", "The payment succeeds." },
	{ "pm_card_mastercard", "Mastercard ending in 4444",
	  "The payment succeeds." },
	{ "pm_card_authenticationRequired", "Visa ending in 3184",
	  "Your bank asks you to confirm the payment (3-D Secure)." },
	{ "pm_card_authenticationRequiredOnSetup", "Visa ending in 3155",
	  "The same, but not when it is used again." },
	{ "pm_card_chargeDeclined", "Visa ending in 0002",
	  "The card is declined." },
	{ "pm_card_chargeDeclinedInsufficientFunds", "Visa ending in 9995",
	  "The card is declined: it does not hold enough money." },
	{ "pm_card_chargeDeclinedExpiredCard", "Visa ending in 0069",
	  "The card is declined: it has expired." },
	{ "pm_sandbox_processing", "Visa ending in 4243",
	  "The payment takes a while and then succeeds." },
	{ "pm_sandbox_processing_fails", "Visa ending in 0003",
	  "The payment takes a while and then fails." },
	{ "pm_card_refundFail", "Visa ending in 5126",
	  "The payment succeeds, its refunds fail." },
	{ NULL, NULL, NULL }
};

const PageOwner stripe_page = { .cards = cards,
								.pay = pay,
								.authenticate = authenticate,
								.put_return_url = put_return_url };
