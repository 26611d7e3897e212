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

/* Of something that was surely not sent: whatever it was, ask again. */
static PspOutcomeKind
not_sent_kind(const Delivery *delivery)
{
	return delivery->task.step == PSP_STEP_SEND ? PSP_RETRY : PSP_UNKNOWN;
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
	if (task->step != PSP_STEP_LOOKUP || task->page_count > 0)
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

bool
delivery_send(Delivery *delivery)
{
	Psp			 *psp = delivery->psp;
	PspRequest	 *request = &delivery->request;
	HttpRequest	  http;
	MemoryContext old;
	const char	 *problem;
	const char	 *secret = secret_get(psp->secret_name, &problem);

	if (secret == NULL)
	{
		complain_about_secret(psp, problem);
		set_outcome(delivery, not_sent_kind(delivery), "secret_unavailable",
					problem);
		delivery->outcome.retry_after_ms = SECRET_RETRY_MS;
		return false;
	}

	set_time_of_making(delivery);
	old = MemoryContextSwitchTo(delivery->context);
	delivery->adapter->build(&delivery->task, psp->base_url, secret, request);
	MemoryContextSwitchTo(old);

	http.method = request->method;
	http.url = request->url.data;
	http.headers = request->headers;
	http.header_count = request->header_count;
	http.body = request->body.data;
	http.body_length = request->body.len;
	http.connect_timeout_ms = psp->connect_timeout_ms;
	http.timeout_ms = psp->timeout_ms;
	if (http_send(delivery->context, &http, delivery) == NULL)
	{
		set_outcome(delivery, not_sent_kind(delivery), "not_sent",
					"the request could not be begun");
		return false;
	}
	psp->tokens -= 1;
	return true;
}

static void
judge_transport(Delivery *delivery, const HttpExchange *exchange)
{
	switch (exchange->transport)
	{
		case HTTP_NOT_SENT:
			set_outcome(delivery, not_sent_kind(delivery), "connect_failed",
						exchange->error);
			break;
		case HTTP_BODY_TOO_LARGE:
			set_outcome(delivery, PSP_UNKNOWN, "answer_too_large",
						"the answer is longer than payment.max_body_bytes");
			break;
		case HTTP_LOST:
		case HTTP_ANSWERED:
			set_outcome(delivery, PSP_UNKNOWN, "answer_lost", exchange->error);
			break;
	}
}

static void
read_answer(Delivery *delivery, const HttpExchange *exchange)
{
	PspResponse	  response;
	MemoryContext old = MemoryContextSwitchTo(delivery->context);

	response.status = exchange->status;
	response.retry_after_ms = exchange->retry_after_ms;
	response.headers = exchange->headers;
	response.headers_length = exchange->headers_length;
	response.body = exchange->body ? exchange->body : "";
	response.body_length = exchange->body_length;
	delivery->adapter->read(&delivery->task, &response, &delivery->outcome);
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

/* Ask for the next page of a listing, if there is time for it. */
static bool
send_next_page(Delivery *delivery)
{
	if (GetCurrentTimestamp() > delivery->give_up_at)
	{
		set_outcome(delivery, PSP_UNKNOWN, "listing_too_long",
					"the PSP's listing could not be read within the lease");
		return false;
	}
	delivery->task.cursor = delivery->outcome.cursor;
	delivery->task.page_count++;
	return delivery_send(delivery);
}

/*
 * Text from outside, fit to be stored: in the database's encoding, and without
 * a card number.
 */
static const char *
clean_text(Delivery *delivery, const char *text)
{
	char *copy;

	if (text == NULL)
		return NULL;
	if (contains_card_number(text, (int) strlen(text)))
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

bool
delivery_receive(Delivery *delivery, HttpExchange *exchange)
{
	delivery->http_status = exchange->status;
	delivery->latency_ms = Max(delivery->latency_ms, 0) + exchange->latency_ms;
	learn_clock(delivery->psp, exchange);
	if (exchange->transport == HTTP_ANSWERED)
		read_answer(delivery, exchange);
	else
		judge_transport(delivery, exchange);
	free_exchange(exchange);

	if (delivery->outcome.kind == PSP_MORE && send_next_page(delivery))
		return false;

	delivery->outcome.reference =
		clean_text(delivery, delivery->outcome.reference);
	delivery->outcome.error_code =
		clean_text(delivery, delivery->outcome.error_code);
	delivery->outcome.error_message =
		clean_text(delivery, delivery->outcome.error_message);
	return true;
}
