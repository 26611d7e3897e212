/*
 * route.c
 *		From a request to its answer: which handler, the idempotency key, the
 *		faults, and the order in which they meet.
 */
#include "request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "adyen.h"
#include "balance.h"
#include "book.h"
#include "control.h"
#include "customer.h"
#include "dialect.h"
#include "dispute.h"
#include "fault.h"
#include "idempotency.h"
#include "notification.h"
#include "options.h"
#include "page.h"
#include "payment_intent.h"
#include "payout.h"
#include "paypal.h"
#include "refund.h"
#include "request_log.h"
#include "session.h"
#include "settlement.h"
#include "stripe_event.h"
#include "wait.h"

static const Route routes[] = {
	{ "POST", "/v1/payment_intents", true, payment_intent_prepare_create,
	  payment_intent_create },
	{ "GET", "/v1/payment_intents", false, payment_intent_prepare_list,
	  payment_intent_list },
	{ "GET", "/v1/payment_intents/{id}", false, payment_intent_prepare_get,
	  payment_intent_get },
	{ "POST", "/v1/payment_intents/{id}/confirm", false,
	  payment_intent_prepare_confirm, payment_intent_confirm },
	{ "POST", "/v1/payment_intents/{id}/capture", true,
	  payment_intent_prepare_capture, payment_intent_capture },
	{ "POST", "/v1/payment_intents/{id}/cancel", true,
	  payment_intent_prepare_cancel, payment_intent_cancel },
	{ "GET", "/v1/charges/{id}", false, balance_prepare_charge,
	  balance_get_charge },
	{ "POST", "/v1/refunds", true, refund_prepare_create, refund_create },
	{ "GET", "/v1/refunds", false, refund_prepare_list, refund_list },
	{ "GET", "/v1/refunds/{id}", false, refund_prepare_get, refund_get },
	{ "POST", "/v1/refunds/{id}/cancel", true, refund_prepare_cancel,
	  refund_cancel },
	{ "POST", "/v1/checkout/sessions", true, session_prepare_create,
	  session_create },
	{ "GET", "/v1/checkout/sessions", false, session_prepare_list,
	  session_list },
	{ "GET", "/v1/checkout/sessions/{id}", false, session_prepare_get,
	  session_get },
	{ "POST", "/v1/checkout/sessions/{id}/expire", true,
	  session_prepare_expire, session_expire_now },
	{ "POST", "/v1/customers", true, customer_prepare_create,
	  customer_create },
	{ "GET", "/v1/customers/{id}", false, customer_prepare_get, customer_get },
	{ "GET", "/v1/setup_intents/{id}", false, setup_intent_prepare_get,
	  setup_intent_get },
	{ "GET", "/v1/payment_methods/{id}", false, payment_method_prepare_get,
	  payment_method_get },
	{ "GET", "/pay/{id}", false, NULL, page_show },
	{ "POST", "/pay/{id}", false, NULL, page_pay },
	{ "GET", "/pay/{id}/authenticate", false, NULL, page_show_authentication },
	{ "POST", "/pay/{id}/authenticate", false, NULL, page_authenticate },
	{ "GET", "/v1/disputes", false, dispute_prepare_list, dispute_list },
	{ "GET", "/v1/disputes/{id}", false, dispute_prepare_get, dispute_get },
	{ "POST", "/v1/disputes/{id}", true, dispute_prepare_update,
	  dispute_update },
	{ "POST", "/v1/disputes/{id}/close", true, dispute_prepare_close,
	  dispute_close },
	{ "GET", "/v1/events", false, stripe_event_prepare_list,
	  stripe_event_list },
	{ "GET", "/v1/events/{id}", false, stripe_event_prepare_get,
	  stripe_event_get },
	{ "POST", "/v1/payouts", true, payout_prepare_create, payout_create },
	{ "GET", "/v1/payouts", false, payout_prepare_list, payout_list },
	{ "GET", "/v1/payouts/{id}", false, payout_prepare_get, payout_get },
	{ "POST", "/v1/payouts/{id}/cancel", false, payout_prepare_cancel,
	  payout_cancel },
	{ "GET", "/v1/balance", false, balance_prepare, balance_get },
	{ "GET", "/v1/balance_transactions", false, balance_prepare_tx_list,
	  balance_tx_list },
	{ "GET", "/v1/balance_transactions/{id}", false, balance_prepare_tx,
	  balance_get_tx },
	{ "POST", "/v71/payments", true, adyen_payment_prepare,
	  adyen_payment_create },
	{ "POST", "/v71/sessions", true, adyen_session_prepare,
	  adyen_session_create },
	{ "GET", "/v71/sessions/{id}", false, adyen_session_prepare_get,
	  adyen_session_get },
	{ "POST", "/v71/payments/{id}/cancels", true, adyen_prepare_cancel,
	  adyen_modify },
	{ "POST", "/v71/payments/{id}/captures", true, adyen_prepare_capture,
	  adyen_modify },
	{ "POST", "/v71/payments/{id}/refunds", true, adyen_prepare_refund,
	  adyen_modify },
	{ "POST", "/v71/payments/{id}/reversals", true, adyen_prepare_reversal,
	  adyen_modify },
	{ "POST", "/btl/v4/transfers", true, adyen_transfer_prepare,
	  adyen_transfer_create },
	{ "GET", "/btl/v4/transfers", false, adyen_transfer_prepare_list,
	  adyen_transfer_list },
	{ "GET", "/btl/v4/transfers/{id}", false, adyen_transfer_prepare_get,
	  adyen_transfer_get },
	{ "POST", "/v1/oauth2/token", false, paypal_token_prepare,
	  paypal_token_create },
	{ "POST", "/v2/checkout/orders", true, paypal_order_prepare,
	  paypal_order_create },
	{ "GET", "/v2/checkout/orders/{id}", false, paypal_order_prepare_get,
	  paypal_order_get },
	{ "POST", "/v2/checkout/orders/{id}/capture", true,
	  paypal_order_prepare_capture, paypal_order_capture },
	{ "POST", "/v2/checkout/orders/{id}/authorize", true,
	  paypal_order_prepare_authorize, paypal_order_capture },
	{ "GET", "/v2/payments/authorizations/{id}", false,
	  paypal_authorization_prepare_get, paypal_authorization_get },
	{ "POST", "/v2/payments/authorizations/{id}/capture", true,
	  paypal_authorization_prepare_capture, paypal_authorization_capture },
	{ "POST", "/v2/payments/authorizations/{id}/void", true,
	  paypal_authorization_prepare_void, paypal_authorization_void },
	{ "POST", "/v1/notifications/verify-webhook-signature", true,
	  paypal_verify_prepare, paypal_verify },
	{ "GET", "/v1/customer/disputes/{id}", false, paypal_dispute_prepare_get,
	  paypal_dispute_get },
	{ "GET", "/v2/payments/captures/{id}", false, paypal_capture_prepare_get,
	  paypal_capture_get },
	{ "POST", "/v2/payments/captures/{id}/refund", true, paypal_refund_prepare,
	  paypal_refund_create },
	{ "GET", "/v2/payments/refunds/{id}", false, paypal_refund_prepare_get,
	  paypal_refund_get },
	{ "POST", "/v1/payments/payouts", true, paypal_payout_prepare,
	  paypal_payout_create },
	{ "GET", "/v1/payments/payouts/{id}", false, paypal_payout_prepare_get,
	  paypal_payout_get },
	{ "POST", "/_sandbox/tokens", false, NULL, control_tokens },
	{ "GET", "/_sandbox/healthz", false, NULL, control_healthz },
	{ "GET", "/_sandbox/book", false, NULL, control_book },
	{ "GET", "/_sandbox/requests", false, NULL, control_requests },
	{ "GET", "/_sandbox/requests.csv", false, NULL, control_requests_csv },
	{ "GET", "/_sandbox/charges.csv", false, NULL, control_charges_csv },
	{ "GET", "/_sandbox/payouts.csv", false, NULL, control_payouts_csv },
	{ "GET", "/_sandbox/faults", false, NULL, control_faults },
	{ "POST", "/_sandbox/faults", false, NULL, control_set_faults },
	{ "GET", "/_sandbox/notifications", false, NULL, control_notifications },
	{ "POST", "/_sandbox/notifications", false, NULL,
	  control_set_notifications },
	{ "GET", "/_sandbox/notifications/{id}", false, NULL,
	  control_notification },
	{ "POST", "/_sandbox/refunds", false, NULL, control_refunds },
	{ "POST", "/_sandbox/adyen/events", false, NULL, control_adyen_events },
	{ "POST", "/_sandbox/paypal/events", false, NULL, control_paypal_events },
	{ "POST", "/_sandbox/disputes", false, NULL, control_disputes },
	{ "POST", "/_sandbox/settle", false, NULL, settlement_settle },
	{ "GET", "/_sandbox/settlement.csv", false, NULL, settlement_csv }
};

#define ROUTE_COUNT ((int) (sizeof(routes) / sizeof(routes[0])))

static RouteCounts counts[ROUTE_COUNT];

int
route_count(void)
{
	return ROUTE_COUNT;
}

const Route *
route_at(int index)
{
	return &routes[index];
}

const RouteCounts *
route_counts(int index)
{
	return &counts[index];
}

static RouteCounts *
counts_of(const Request *request)
{
	return &counts[request->route - routes];
}

/* Compares a path with a pattern and copies what stands for {id}. */
static bool
matches(const char *pattern, const char *path, char *id)
{
	const char *brace = strchr(pattern, '{');
	size_t		head;
	size_t		id_len;

	if (brace == NULL)
		return strcmp(pattern, path) == 0;
	head = (size_t) (brace - pattern);
	if (strncmp(pattern, path, head) != 0)
		return false;
	id_len = strcspn(path + head, "/");
	if (id_len == 0 || id_len >= REQUEST_ID_SIZE ||
		strcmp(brace + strlen("{id}"), path + head + id_len) != 0)
		return false;
	memcpy(id, path + head, id_len);
	id[id_len] = '\0';
	return true;
}

const Dialect *
dialect_of(const char *path)
{
	if (strncmp(path, "/v71/", 5) == 0 || strncmp(path, "/btl/", 5) == 0)
		return &adyen_dialect;
	if (strncmp(path, "/v2/", 4) == 0 ||
		strncmp(path, "/v1/oauth2/", 11) == 0 ||
		strncmp(path, "/v1/payments/", 13) == 0 ||
		strncmp(path, "/v1/notifications/", 18) == 0 ||
		strncmp(path, "/v1/customer/", 13) == 0)
		return &paypal_dialect;
	if (strncmp(path, "/pay/", 5) == 0)
		return &page_dialect;
	return &stripe_dialect;
}

static bool
find_route(Request *request)
{
	for (int i = 0; i < ROUTE_COUNT; i++)
	{
		if (strcmp(routes[i].method, request->method) == 0 &&
			matches(routes[i].pattern, request->path, request->id))
		{
			request->route = &routes[i];
			return true;
		}
	}
	request->dialect->trouble(request, TROUBLE_NO_ROUTE, NULL);
	return false;
}

static bool
is_control(const Request *request)
{
	return strncmp(request->path, "/_sandbox/", 10) == 0;
}

bool
is_secret_key(const char *given)
{
	size_t		  len = strlen(options.secret_key);
	size_t		  given_len = strlen(given);
	unsigned char different = given_len != len;

	for (size_t i = 0; i < given_len; i++)
		different |= (unsigned char) (given[i] ^ options.secret_key[i % len]);
	return different == 0;
}

static bool
authorized(Request *request)
{
	if (!is_control(request))
		return request->dialect->authorized(request);
	if (!request->from_loopback)
		request->dialect->trouble(request, TROUBLE_NOT_LOOPBACK, NULL);
	return request->from_loopback;
}

static bool
parse_form(Request *request, Form *form, const char *text, size_t len)
{
	const char *problem = form_parse(form, text, len);

	if (problem != NULL)
		request->dialect->trouble(request, TROUBLE_UNREADABLE, problem);
	return problem == NULL;
}

static bool
is_content_type(Request *request, const char *type)
{
	if (request->content_type != NULL &&
		strncasecmp(request->content_type, type, strlen(type)) == 0)
		return true;
	request->dialect->trouble(request, TROUBLE_CONTENT_TYPE, type);
	return false;
}

static bool
read_json_body(Request *request)
{
	/* A capture of all there is may have no body at all. */
	if (request->body.len > 0 && !is_content_type(request, "application/json"))
		return false;
	request->json = request->body.len > 0
						? json_parse(request->body.data, request->body.len)
						: json_parse("{}", 2);
	if (request->json != NULL && request->json->type == JSON_OBJECT)
		return true;
	request->dialect->trouble(request, TROUBLE_UNREADABLE,
							  "The body is not a JSON object.");
	return false;
}

static bool
read_form_body(Request *request)
{
	if (request->query_form.count > 0)
		return answer_invalid(request, "parameter_unknown",
							  request->query_form.params[0].name,
							  "Parameters of a POST belong into its body.");
	request->params = &request->body_form;
	if (request->body.len == 0)
		return true;
	return is_content_type(request, "application/x-www-form-urlencoded") &&
		   parse_form(request, &request->body_form, request->body.data,
					  request->body.len);
}

static bool
takes_json(const Request *request)
{
	const Dialect *dialect = request->dialect;

	return dialect->json && (dialect->form_path == NULL ||
							 strcmp(dialect->form_path, request->path) != 0);
}

static bool
read_params(Request *request)
{
	const char *query = strchr(request->uri, '?');

	if (request->body_too_large)
	{
		request->dialect->trouble(request, TROUBLE_TOO_LARGE, NULL);
		return false;
	}
	if (query != NULL && !parse_form(request, &request->query_form, query + 1,
									 strlen(query + 1)))
		return false;
	request->params = &request->query_form;
	if (strcmp(request->method, "POST") != 0)
		return true;
	if (takes_json(request))
		return read_json_body(request);
	return read_form_body(request);
}

static bool
is_printable(const char *text)
{
	for (; *text; text++)
	{
		if (*text < ' ' || *text > '~')
			return false;
	}
	return true;
}

static bool
check_key(Request *request)
{
	size_t len;

	if (request->idempotency_key == NULL || is_control(request))
		return true;
	len = strlen(request->idempotency_key);
	if (len >= 1 && len <= request->dialect->key_max &&
		is_printable(request->idempotency_key))
		return true;
	request->idempotency_key = NULL;
	request->dialect->trouble(request, TROUBLE_BAD_KEY, NULL);
	return false;
}

static Fingerprint
request_fingerprint(const Request *request)
{
	Buf			text = { 0 };
	Fingerprint print;

	buf_put(&text, request->path, strlen(request->path) + 1);
	if (request->json != NULL)
		buf_put(&text, request->body.data, request->body.len);
	else
		form_canonical(request->params, &text);
	print = fingerprint_of(&text);
	buf_free(&text);
	return print;
}

/* Draws; the fault's name goes into the log. */
static bool
fires(Request *request, Fault fault)
{
	size_t len = strlen(request->faults);

	if (!fault_fires(fault))
		return false;
	snprintf(request->faults + len, sizeof(request->faults) - len, "%s%s",
			 len > 0 ? "+" : "", fault_name(fault));
	return true;
}

/* What a 500 says of trying again is drawn before it is said. */
static void
draw_should_retry(Request *request)
{
	if (fault_fires(FAULT_SHOULD_RETRY_FALSE))
		request->answer.should_retry = 0;
	else if (fault_fires(FAULT_SHOULD_RETRY_TRUE))
		request->answer.should_retry = 1;
}

static void
answer_500(Request *request)
{
	request->dialect->trouble(request, TROUBLE_INTERNAL, NULL);
}

/* A key that is not new is answered from what is known about it. */
static void
answer_known_key(Request *request, IdempotencyState state,
				 const IdempotencyKey *key)
{
	RouteCounts *c = counts_of(request);
	bool		 differs = state == IDEMPOTENCY_MISMATCH;

	if (differs)
		c->mismatched++;
	if (differs && request->dialect->compares_requests)
		request->dialect->trouble(request, TROUBLE_KEY_MISMATCH, NULL);
	else if (key->status == 0)
	{
		c->in_use++;
		request->dialect->trouble(request, TROUBLE_KEY_IN_USE, NULL);
	}
	else
	{
		c->replayed++;
		request->answer.status = key->status;
		request->answer.replayed = true;
		request->answer.should_retry = key->should_retry;
		idempotency_body(key, &request->answer.body);
		if (request->dialect->refresh != NULL)
			request->dialect->refresh(request);
	}
}

/* Faults that keep a new request from being executed at all. */
static bool
refused_by_fault(Request *request)
{
	if (!request->route->creates)
		return false;
	if (fires(request, FAULT_RATE_LIMIT))
	{
		request->dialect->trouble(request, TROUBLE_RATE_LIMIT, NULL);
		request->answer.retry_after_s = fault_retry_after_s();
		return true;
	}
	if (fires(request, FAULT_CONFLICT_409))
	{
		request->dialect->trouble(request, TROUBLE_KEY_IN_USE, NULL);
		return true;
	}
	return false;
}

/* Executes it, unless a fault says 500 first; true when it did. */
static bool
execute(Request *request)
{
	if (request->route->creates)
	{
		if (fires(request, FAULT_ERROR_500_BEFORE))
		{
			draw_should_retry(request);
			answer_500(request);
			return false;
		}
		request->wrong_amount = fires(request, FAULT_WRONG_AMOUNT);
		request->wrong_currency =
			!request->wrong_amount && fires(request, FAULT_WRONG_CURRENCY);
	}
	request->route->execute(request);
	return true;
}

static void
cut_body(Request *request)
{
	request->answer.body.len /= 2;
}

static void
answer_html(Request *request)
{
	Buf *b = &request->answer.body;

	b->len = 0;
	buf_puts(b,
			 "<!DOCTYPE html>\n<html><head><title>Maintenance</title>"
			 "</head>\n<body><h1>We will be back soon</h1></body></html>\n");
	request->answer.status = 200;
	request->answer.content_type = "text/html; charset=utf-8";
}

/* Faults on the way back: what is stored under the key stays as it is. */
static void
spoil_answer(Request *request)
{
	Answer *answer = &request->answer;

	if (!request->route->creates || !request->executed ||
		answer->status >= 500)
		return;
	if (fires(request, FAULT_LOST_ANSWER))
		answer->delivery = DELIVER_NOTHING;
	else if (fires(request, FAULT_HANG_AFTER))
	{
		answer->hold_ms = fault_hang_ms();
		answer->delivery = DELIVER_NOTHING;
	}
	else if (fires(request, FAULT_RESET_AFTER))
		answer->delivery = DELIVER_RESET;
	else if (fires(request, FAULT_TRUNCATED_BODY))
		cut_body(request);
	else if (fires(request, FAULT_HTML_BODY))
		answer_html(request);
}

/* Sleeps without the lock; false when the sandbox is stopping. */
static bool
sleep_unlocked(int64_t delay_ms)
{
	bool go_on;

	if (delay_ms <= 0)
		return true;
	book_unlock();
	go_on = wait_ms(delay_ms);
	book_lock();
	return go_on;
}

/* A new operation: under its key, when it has one. */
static void
run_new(Request *request, const char *scoped_key, Fingerprint print,
		int64_t latency_ms)
{
	IdempotencyKey *key = NULL;
	Answer		   *answer = &request->answer;
	bool			executed;
	bool			fails_after;
	bool			keeps_500;

	if (scoped_key != NULL)
		key = idempotency_begin(scoped_key,
								request->dialect->key_life(request), print);
	if (!sleep_unlocked(latency_ms))
	{
		answer->delivery = DELIVER_NOTHING;
		if (key != NULL)
			idempotency_abandon(key);
		return;
	}
	executed = execute(request);
	if (request->executed)
		counts_of(request)->executed++;
	fails_after = request->executed && request->route->creates &&
				  fires(request, FAULT_ERROR_500_AFTER);
	if (fails_after)
		draw_should_retry(request);
	keeps_500 = request->dialect->keeps_500(request);
	if (fails_after && keeps_500)
		answer_500(request);
	/* 404: there was nothing to execute it on. */
	if (key != NULL &&
		(answer->status == 404 || (!executed && !keeps_500) ||
		 (answer->status >= 400 && request->dialect->forgets_errors)))
		idempotency_abandon(key);
	else if (key != NULL)
		idempotency_finish(key, answer->status,
						   fails_after && !keeps_500 ? SHOULD_RETRY_ABSENT
													 : answer->should_retry,
						   &answer->body);
	if (fails_after && !keeps_500)
		answer_500(request);
	spoil_answer(request);
}

static void
run_post_keyed(Request *request, const char *scoped_key)
{
	Fingerprint		 print = request_fingerprint(request);
	IdempotencyKey	*known = NULL;
	IdempotencyState state = IDEMPOTENCY_NEW;
	int64_t			 latency_ms = fault_latency_ms();

	if (request->route->creates && fires(request, FAULT_RESET))
	{
		request->answer.delivery = DELIVER_RESET;
		return;
	}
	if (scoped_key != NULL)
		state = idempotency_look(scoped_key, print, &known);
	if (state == IDEMPOTENCY_NEW)
	{
		if (request->route->prepare(request) && !refused_by_fault(request))
		{
			run_new(request, scoped_key, print, latency_ms);
			return;
		}
	}
	else
		answer_known_key(request, state, known);
	if (!sleep_unlocked(latency_ms))
		request->answer.delivery = DELIVER_NOTHING;
}

static void
run_post(Request *request)
{
	Buf scoped = { 0 };

	if (request->idempotency_key != NULL)
		request->dialect->scope_key(request, &scoped);
	run_post_keyed(request, scoped.data);
	buf_free(&scoped);
}

static void
run_get(Request *request)
{
	if (!sleep_unlocked(fault_latency_ms()))
		request->answer.delivery = DELIVER_NOTHING;
	else if (fires(request, FAULT_LOOKUP_DOWN))
	{
		draw_should_retry(request);
		answer_500(request);
	}
	else if (request->route->prepare(request))
		request->route->execute(request);
}

/* The operator's, which nothing holds up, and payers' pages. */
static void
run_unprepared(Request *request)
{
	if (!is_control(request) && !sleep_unlocked(fault_page_latency_ms()))
		request->answer.delivery = DELIVER_NOTHING;
	else
		request->route->execute(request);
}

static void
run_under_lock(Request *request)
{
	counts_of(request)->requests++;
	if (request->route->prepare == NULL)
		run_unprepared(request);
	else if (strcmp(request->method, "POST") == 0)
		run_post(request);
	else
		run_get(request);
}

void
request_run(Request *request)
{
	bool ready;

	request->answer.status = 200;
	request->answer.content_type = "application/json";
	request->answer.should_retry = SHOULD_RETRY_ABSENT;
	ready = find_route(request) && authorized(request) &&
			read_params(request) && check_key(request);
	book_lock();
	if (ready)
		run_under_lock(request);
	if (!is_control(request))
	{
		request_log_add(request);
		request->dialect->add_headers(request);
	}
	book_unlock();
	if (request->answer.hold_ms > 0)
		wait_ms(request->answer.hold_ms);
}

void
request_free(Request *request)
{
	form_free(&request->query_form);
	form_free(&request->body_form);
	buf_free(&request->body);
	buf_free(&request->answer.body);
	for (int i = 0; i < request->answer.header_count; i++)
		free(request->answer.headers[i].value);
	json_free(request->json);
	free(request->prepared);
	free(request->uri);
	free(request->path);
	free(request);
}
