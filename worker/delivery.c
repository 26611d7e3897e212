/*-------------------------------------------------------------------------
 *
 * delivery.c
 *	  One claimed task on its way to the PSP and back.
 *
 * The adapter says what to send and what an answer means.  What never became
 * an answer is judged here, by what is certain about the request: not sent at
 * all, it may be sent again; anything else is unknown.  A lookup that fails
 * leaves the outcome unknown in any case.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "delivery.h"
#include "mb/pg_wchar.h"
#include "payment.h"
#include "secret.h"
#include "text_guard.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* between log lines about the same PSP's secret */
#define COMPLAINT_INTERVAL_MS (60 * 1000)

/* how soon to try again with a secret that could not be read */
#define SECRET_RETRY_MS 5000

/*
 * A lookup by listing asks for what was made around the time of sending.  How
 * far around: what two clocks may differ by, less once the PSP told its time.
 */
#define CLOCK_MARGIN_S 120
#define KNOWN_CLOCK_MARGIN_S 10

/* ... and how far a clock may be set, or a Date be wrong, when it matters */
#define CLOCK_STEP_MARGIN_S 300

/* requests of one conversation; a listing ends sooner by its own bound */
#define CONVERSATION_MAX 200

/* how long after the last request a PSP may begin to execute it */
#define EXECUTION_DELAY_S 60

static void
set_outcome(Delivery *delivery, PspOutcomeKind kind, const char *code,
			const char *message)
{
	PspOutcome *outcome = &delivery->outcome;

	memset(outcome, 0, sizeof(*outcome));
	outcome->retry_after_ms = -1;
	outcome->kind = kind;
	outcome->error_code = MemoryContextStrdup(delivery->context, code);
	outcome->error_message = MemoryContextStrdup(delivery->context, message);
}

/*
 * Of something that was surely not sent: whatever it was, ask again.  But when
 * it continues what the PSP has answered already, that has left its trace.
 */
static void
set_not_sent(Delivery *delivery, const char *code, const char *message,
			 PspErrorClass class)
{
	bool untouched = delivery->task.step == PSP_STEP_SEND &&
					 delivery->task.answer_count == 0;

	set_outcome(delivery, untouched ? PSP_RETRY : PSP_UNKNOWN, code, message);
	delivery->outcome.error_class = class;
}

static void
complain_about_secret(Psp *psp, const char *problem)
{
	TimestampTz now = GetCurrentTimestamp();

	if (psp->complained_at != 0 &&
		!TimestampDifferenceExceeds(psp->complained_at, now,
									COMPLAINT_INTERVAL_MS))
		return;
	psp->complained_at = now;
	ereport(LOG, (errcode(ERRCODE_PAYMENT_WORKER),
				  errmsg("nothing can be sent to PSP \"%s\"", psp->name),
				  errdetail("%s.", problem),
				  errhint("The secret is read from a file of that name in the "
						  "directory payment.secrets_dir.")));
}

static int64
unix_time(TimestampTz at)
{
	return (int64) timestamptz_to_time_t(at);
}

/*
 * When, by the PSP's clock, was it made, if it was?  Of what was sent more
 * than once the answer decides whether it is made again under a new key: then
 * neither clock is trusted, as one may have been set since, nor the PSP's
 * Date, which need not be the clock that its objects are stamped by.
 */
static void
set_time_of_making(Delivery *delivery)
{
	const Psp *psp = delivery->psp;
	PspTask	  *task = &delivery->task;
	int64	   offset_s = psp->clock_known ? psp->clock_offset_s : 0;
	int64 margin_s = psp->clock_known ? KNOWN_CLOCK_MARGIN_S : CLOCK_MARGIN_S;
	int64 before_s = margin_s - offset_s;
	int64 after_s = margin_s + offset_s;

	/* Of a listing under way the bounds stay as they are. */
	if (task->step != PSP_STEP_LOOKUP || task->answer_count > 0)
		return;
	if (delivery->last_sent_at != delivery->first_sent_at)
	{
		before_s = CLOCK_STEP_MARGIN_S + Max(-offset_s, 0);
		after_s = CLOCK_STEP_MARGIN_S + Max(offset_s, 0);
	}
	if (delivery->first_sent_at != 0)
		task->made_from_s = unix_time(delivery->first_sent_at) - before_s;
	if (delivery->last_sent_at != 0)
		task->made_to_s = unix_time(delivery->last_sent_at) +
						  psp->timeout_ms / 1000 + EXECUTION_DELAY_S + after_s;
}

static void
learn_clock(Psp *psp, const HttpExchange *exchange)
{
	if (exchange->transport != HTTP_ANSWERED || exchange->date_s == 0)
		return;
	psp->clock_offset_s = exchange->date_s - unix_time(GetCurrentTimestamp());
	psp->clock_known = true;
}

void
delivery_fill_http(const Psp *psp, const PspRequest *request,
				   HttpRequest *http)
{
	memset(http, 0, sizeof(*http));
	http->method = request->method;
	http->url = request->url.data;
	http->headers = request->headers;
	http->header_count = request->header_count;
	http->body = request->body.data;
	http->body_length = request->body.len;
	http->connect_timeout_ms = psp->connect_timeout_ms;
	http->timeout_ms = psp->timeout_ms;
}

void
delivery_fill_response(const HttpExchange *exchange, PspResponse *response)
{
	response->status = exchange->status;
	response->retry_after_ms = exchange->retry_after_ms;
	response->headers = exchange->headers;
	response->headers_length = exchange->headers_length;
	response->body = exchange->body ? exchange->body : "";
	response->body_length = exchange->body_length;
}

/* The request that presents the secret or token. */
static bool
send_request(Delivery *delivery, const char *credential)
{
	Psp			 *psp = delivery->psp;
	HttpRequest	  http;
	MemoryContext old;
	bool		  built;

	set_time_of_making(delivery);
	memset(&delivery->outcome, 0, sizeof(delivery->outcome));
	delivery->outcome.retry_after_ms = -1;
	old = MemoryContextSwitchTo(delivery->context);
	built =
		delivery->adapter->build(&delivery->task, psp->base_url, credential,
								 &delivery->request, &delivery->outcome);
	MemoryContextSwitchTo(old);
	if (!built)
		return false;

	delivery_fill_http(psp, &delivery->request, &http);
	http.purpose = EXCHANGE_DELIVERY;
	if (http_send(delivery->context, &http, delivery) == NULL)
	{
		set_not_sent(delivery, "not_sent", "the request could not be begun",
					 PSP_ERROR_CONNECTION);
		return false;
	}
	psp->tokens -= 1;
	return true;
}

static void
set_token_unavailable(Delivery *delivery)
{
	const TokenCache *token = &delivery->psp->token;

	set_not_sent(delivery, token->error_code, token->error_message,
				 token->error_class);
	if (token->is_refused)
		delivery->outcome.retry_after_ms = SECRET_RETRY_MS;
}

static bool
try_send(Delivery *delivery)
{
	Psp		   *psp = delivery->psp;
	const char *problem;
	const char *token;
	const char *secret = secret_get(psp->secret_name, &problem);

	if (secret == NULL)
	{
		complain_about_secret(psp, problem);
		set_not_sent(delivery, "secret_unavailable", problem,
					 PSP_ERROR_ACCESS);
		delivery->outcome.retry_after_ms = SECRET_RETRY_MS;
		return false;
	}
	if (delivery->adapter->build_token == NULL)
		return send_request(delivery, secret);

	/* What was claimed for another adapter has no token here. */
	if (delivery->adapter != psp->adapter)
	{
		set_not_sent(delivery, "adapter_changed",
					 "the PSP has another adapter by now", PSP_ERROR_NONE);
		return false;
	}
	switch (token_get(psp, secret, &token))
	{
		case TOKEN_READY:
			delivery->token = MemoryContextStrdup(delivery->context, token);
			return send_request(delivery, delivery->token);
		case TOKEN_AWAITED:
			dlist_push_tail(&psp->waiting, &delivery->node);
			return true;
		case TOKEN_UNAVAILABLE:
			break;
	}
	set_token_unavailable(delivery);
	return false;
}

/* Does the PSP quote what was presented to it?  Of "id:key", the key alone. */
static bool
holds_credential(const Delivery *delivery, const char *text)
{
	const char *problem;
	const char *secret = secret_get(delivery->psp->secret_name, &problem);
	const char *colon = secret ? strchr(secret, ':') : NULL;

	if (colon && colon[1] != '\0')
		secret = colon + 1;
	return (secret && strstr(text, secret) != NULL) ||
		   (delivery->token && strstr(text, delivery->token) != NULL);
}

/*
 * Text from outside, fit to be stored: in the database's encoding, and without
 * a card number or a secret.
 */
static const char *
clean_text(Delivery *delivery, const char *text)
{
	char *copy;

	if (text == NULL)
		return NULL;
	if (contains_card_number(text, (int) strlen(text)) ||
		holds_credential(delivery, text))
		return "[redacted]";
	if (pg_encoding_verifymbstr(PG_UTF8, text, (int) strlen(text)) ==
			(int) strlen(text) &&
		GetDatabaseEncoding() == PG_UTF8)
		return text;
	copy = MemoryContextStrdup(delivery->context, text);
	for (char *c = copy; *c; c++)
		if (IS_HIGHBIT_SET(*c))
			*c = '?';
	return copy;
}

static void
clean_outcome(Delivery *delivery)
{
	PspOutcome *outcome = &delivery->outcome;

	outcome->reference = clean_text(delivery, outcome->reference);
	outcome->child_reference = clean_text(delivery, outcome->child_reference);
	outcome->error_code = clean_text(delivery, outcome->error_code);
	outcome->error_message = clean_text(delivery, outcome->error_message);
}

/* What was not sent may still quote what the PSP said of a token. */
bool
delivery_send(Delivery *delivery)
{
	if (try_send(delivery))
		return true;
	clean_outcome(delivery);
	return false;
}

static void
judge_transport(Delivery *delivery, const HttpExchange *exchange)
{
	switch (exchange->transport)
	{
		case HTTP_NOT_SENT:
			set_not_sent(delivery, http_problem_name(exchange->problem),
						 exchange->error, PSP_ERROR_CONNECTION);
			break;
		case HTTP_BODY_TOO_LARGE:
			set_outcome(delivery, PSP_UNKNOWN, "answer_too_large",
						"the answer is longer than payment.max_body_bytes");
			delivery->outcome.error_class = PSP_ERROR_ANSWER;
			break;
		case HTTP_LOST:
		case HTTP_ANSWERED:
			set_outcome(delivery, PSP_UNKNOWN, "answer_lost", exchange->error);
			delivery->outcome.error_class = PSP_ERROR_LOST;
			break;
	}
}

static void
read_answer(Delivery *delivery, const HttpExchange *exchange)
{
	PspResponse	  response;
	MemoryContext old = MemoryContextSwitchTo(delivery->context);

	delivery_fill_response(exchange, &response);
	delivery->adapter->read(&delivery->task, &response, &delivery->outcome);
	psp_classify(&delivery->outcome, exchange->status);
	MemoryContextSwitchTo(old);
}

/* Give back what an exchange of a listing's page held. */
static void
free_exchange(HttpExchange *exchange)
{
	if (exchange->body)
		pfree(exchange->body);
	pfree(exchange->headers);
	pfree(exchange);
}

static bool
is_too_late(Delivery *delivery, const char *code)
{
	if (GetCurrentTimestamp() <= delivery->give_up_at)
		return false;
	set_not_sent(delivery, code, "no time was left within the lease",
				 PSP_ERROR_NONE);
	return true;
}

/* Send the next request of the conversation, if there is time for it. */
static bool
send_next(Delivery *delivery)
{
	if (delivery->task.answer_count >= CONVERSATION_MAX)
	{
		set_outcome(delivery, PSP_UNKNOWN, "conversation_too_long",
					"the PSP asks for ever more requests");
		return false;
	}
	delivery->task.cursor = delivery->outcome.cursor;
	delivery->task.answer_count++;
	return !is_too_late(delivery, "conversation_too_slow") &&
		   delivery_send(delivery);
}

/*
 * The PSP does not accept the token, and so has not executed anything: once,
 * get another one and repeat the request.
 */
static bool
renew_token(Delivery *delivery, const HttpExchange *exchange)
{
	if (delivery->token == NULL || delivery->renewed_token ||
		exchange->transport != HTTP_ANSWERED || exchange->status != 401 ||
		GetCurrentTimestamp() > delivery->give_up_at)
		return false;
	token_refused(delivery->psp, delivery->token);
	delivery->renewed_token = true;
	return true;
}

static void
finish(Delivery *delivery, dlist_head *finished)
{
	PspOutcome *outcome = &delivery->outcome;

	/* the answer is lost that would have named it again */
	if (outcome->kind == PSP_UNKNOWN && outcome->reference == NULL)
		outcome->reference = delivery->known_reference;
	clean_outcome(delivery);
	dlist_push_tail(finished, &delivery->node);
}

static void
receive_answer(Delivery *delivery, HttpExchange *exchange,
			   dlist_head *finished)
{
	bool again;

	delivery->http_status = exchange->status;
	delivery->latency_ms = Max(delivery->latency_ms, 0) + exchange->latency_ms;
	learn_clock(delivery->psp, exchange);
	again = renew_token(delivery, exchange);
	if (!again && exchange->transport == HTTP_ANSWERED)
		read_answer(delivery, exchange);
	else if (!again)
		judge_transport(delivery, exchange);
	free_exchange(exchange);

	if (delivery->outcome.kind == PSP_MORE && delivery->outcome.reference)
		delivery->known_reference = delivery->outcome.reference;
	if (again)
		again = delivery_send(delivery);
	else if (delivery->outcome.kind == PSP_MORE)
		again = send_next(delivery);
	if (!again)
		finish(delivery, finished);
}

/* Those who waited go on, or learn why they cannot. */
static void
receive_token(Psp *psp, HttpExchange *exchange, dlist_head *finished)
{
	dlist_head waiting = DLIST_STATIC_INIT(waiting);

	token_receive(psp, exchange);
	while (!dlist_is_empty(&psp->waiting))
		dlist_push_tail(&waiting, dlist_pop_head_node(&psp->waiting));
	while (!dlist_is_empty(&waiting))
	{
		dlist_node *node = dlist_pop_head_node(&waiting);
		Delivery   *delivery = dlist_container(Delivery, node, node);

		if (is_too_late(delivery, "token_too_late") ||
			!delivery_send(delivery))
			finish(delivery, finished);
	}
}

void
delivery_receive(HttpExchange *exchange, dlist_head *finished)
{
	if (exchange->purpose == EXCHANGE_TOKEN)
		receive_token(exchange->owner, exchange, finished);
	else
		receive_answer(exchange->owner, exchange, finished);
}
