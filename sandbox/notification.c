/*
 * notification.c
 *		Notifications in the order in which things happened. Each stays in the
 *		outbox for good; a thread of its own takes what nobody has confirmed
 *		to the URL, again and again, more and more seldom.
 */
#include "notification.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fault.h"
#include "journal.h"
#include "json.h"
#include "options.h"
#include "paypal.h"
#include "stripe_event.h"
#include "webhook.h"

#define SHA256_SIZE 32
#define RETRY_MS_MIN 500
#define RETRY_MS_MAX 60000
#define LIST_MAX 1000

static pthread_t	   sender;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t  changed = PTHREAD_COND_INITIALIZER;
static bool			   has_news;
static bool			   stopping;

/* Under the book's lock, as all below. */
static struct
{
	Webhook	 webhook;
	bool	 has_webhook;
	uint32_t sent; /* one more than the last number that was sent */
} receivers[PSP_COUNT];

static uint32_t first_open; /* none before it is unconfirmed */

static void
wake(void)
{
	pthread_mutex_lock(&lock);
	has_news = true;
	pthread_cond_signal(&changed);
	pthread_mutex_unlock(&lock);
}

void
notification_sign(const Buf *text, char *out, size_t size)
{
	unsigned char  digest[SHA256_SIZE];
	gnutls_datum_t raw = { digest, sizeof(digest) };
	gnutls_datum_t encoded;

	out[0] = '\0';
	if (options.hmac_key_len == 0)
		return;
	if (gnutls_hmac_fast(GNUTLS_MAC_SHA256, options.hmac_key,
						 options.hmac_key_len, text->data, text->len,
						 digest) != 0 ||
		gnutls_base64_encode2(&raw, &encoded) != 0)
		die("could not sign a notification");
	snprintf(out, size, "%.*s", (int) encoded.size, encoded.data);
	gnutls_free(encoded.data);
}

bool
notification_wanted(Psp psp)
{
	return receivers[psp].has_webhook || psp == PSP_ADYEN ||
		   (psp == PSP_STRIPE && options.stripe_webhook_secrets != NULL) ||
		   (psp == PSP_PAYPAL && options.paypal_webhook_id != NULL);
}

Notification *
notification_new(Psp psp, const char *event)
{
	Notification *notification = book_new_notification(psp);

	notification->event = xstrdup(event);
	return notification;
}

static int64_t
count_of(const char *text, const char *name)
{
	int64_t count = 0;

	while ((text = strstr(text, name)) != NULL)
	{
		count++;
		text += strlen(name);
	}
	return count;
}

bool
notification_join(Psp psp, const char *end, const char *name, const char *item)
{
	Notification *last = book.notifications.count == 0
							 ? NULL
							 : book_notification(book.notifications.count - 1);
	Buf			  body = { 0 };
	size_t		  len;

	if (last == NULL || last->psp != psp || last->attempts > 0 ||
		last->due_ms <= book.now_ms ||
		count_of(last->body, name) >= fault_webhook_batch())
		return false;
	len = strlen(last->body);
	if (len < strlen(end) || strcmp(last->body + len - strlen(end), end) != 0)
		return false;
	buf_printf(&body, "%.*s,%s%s", (int) (len - strlen(end)), last->body, item,
			   end);
	free(last->body);
	last->body = body.data;
	journal_notification(last);
	return true;
}

/* What goes wrong on its way is drawn when it sets out. */
static void
draw_faults(Notification *notification)
{
	notification->due_ms = book.now_ms + fault_webhook_delay_ms();
	notification->forged =
		notification->psp != PSP_ADYEN && fault_fires(FAULT_WEBHOOK_FORGED);
	notification->lost = fault_fires(FAULT_WEBHOOK_LOST);
	notification->copies = fault_fires(FAULT_WEBHOOK_DUPLICATE) ? 1 : 0;
	notification->overtaken = fault_fires(FAULT_WEBHOOK_REORDER);
}

void
notification_finish(Notification *notification, const char *signature,
					const Buf *body)
{
	notification->signature = xstrdup(signature);
	notification->body = xstrdup(body->data);
	draw_faults(notification);
	journal_notification(notification);
	wake();
}

void
notification_add(Psp psp, const char *event, const char *signature,
				 const Buf *body)
{
	notification_finish(notification_new(psp, event), signature, body);
}

bool
notification_set_url(Psp psp, const char *url)
{
	Webhook parsed;

	if (url == NULL)
	{
		receivers[psp].has_webhook = false;
		return true;
	}
	if (!webhook_parse(&parsed, url))
		return false;
	receivers[psp].webhook = parsed;
	receivers[psp].has_webhook = true;
	wake();
	return true;
}

/* The headers that prove where it comes from, as of now. */
static void
put_headers(Buf *headers, const Notification *n)
{
	if (n->psp == PSP_STRIPE)
		stripe_event_sign(headers, n->body, book.now_ms, n->forged);
	else if (n->psp == PSP_PAYPAL)
		paypal_event_headers(headers, n);
	else if (n->signature != NULL)
		buf_printf(headers, "HmacSignature: %s\r\nProtocol: HmacSHA256\r\n",
				   n->signature);
}

static int64_t
retry_ms(const Notification *n)
{
	int64_t delay_ms = RETRY_MS_MIN;

	for (uint32_t i = 1; i < n->attempts && delay_ms < RETRY_MS_MAX; i++)
		delay_ms *= 2;
	return n->tried_ms + (delay_ms < RETRY_MS_MAX ? delay_ms : RETRY_MS_MAX);
}

/* When it may be sent next. */
static int64_t
next_try_ms(const Notification *n)
{
	int64_t at_ms = n->attempts > 0 ? retry_ms(n) : n->due_ms;

	if (n->overtaken && n->attempts == 0 &&
		receivers[n->psp].sent <= n->number)
		at_ms += fault_webhook_reorder_ms();
	return at_ms;
}

/* The next that is due, or NULL and when there will be one, -1: never. */
static Notification *
next_due(int64_t *wait_ms)
{
	*wait_ms = -1;
	for (uint32_t i = first_open; i < book.notifications.count; i++)
	{
		Notification *n = book_notification(i);
		int64_t		  left_ms;

		if (n->delivered_ms != 0 || n->lost)
		{
			first_open += i == first_open ? 1 : 0;
			continue;
		}
		if (!receivers[n->psp].has_webhook)
			continue;
		left_ms = next_try_ms(n) - book.now_ms;
		if (left_ms <= 0)
			return n;
		if (*wait_ms < 0 || left_ms < *wait_ms)
			*wait_ms = left_ms;
	}
	return NULL;
}

static void
note_attempt(Notification *n, bool confirmed)
{
	n->attempts++;
	n->tried_ms = book.now_ms;
	if (confirmed && n->copies > 0)
		n->copies--;
	else if (confirmed)
		n->delivered_ms = book.now_ms;
	if (receivers[n->psp].sent <= n->number)
		receivers[n->psp].sent = n->number + 1;
	journal_notification(n);
}

/* Sends one, without the lock while it is on its way. */
static bool
send_one(int64_t *wait_ms)
{
	Notification *n;
	Webhook		  to = { 0 };
	Buf			  headers = { 0 };
	bool		  confirmed;

	book_lock();
	n = next_due(wait_ms);
	if (n != NULL)
	{
		to = receivers[n->psp].webhook;
		put_headers(&headers, n);
	}
	book_unlock();
	if (n == NULL)
		return false;
	confirmed = webhook_post(&to, headers.data ? headers.data : "", n->body);
	buf_free(&headers);
	book_lock();
	note_attempt(n, confirmed);
	book_unlock();
	return true;
}

/* Until there is something to do; things that time does come by book_lock. */
static bool
wait_for_work(int64_t wait_ms)
{
	struct timespec until;
	bool			go_on;

	if (wait_ms < 0 || wait_ms > RETRY_MS_MIN)
		wait_ms = RETRY_MS_MIN;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += wait_ms * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&lock);
	if (!has_news && !stopping)
		pthread_cond_timedwait(&changed, &lock, &until);
	has_news = false;
	go_on = !stopping;
	pthread_mutex_unlock(&lock);
	return go_on;
}

static bool
is_stopping(void)
{
	bool answer;

	pthread_mutex_lock(&lock);
	answer = stopping;
	pthread_mutex_unlock(&lock);
	return answer;
}

static void *
send_all(void *unused)
{
	int64_t wait_ms = -1;

	(void) unused;
	do
	{
		while (!is_stopping() && send_one(&wait_ms))
			;
	} while (wait_for_work(wait_ms));
	return NULL;
}

void
notification_start(void)
{
	for (int psp = 0; psp < PSP_COUNT; psp++)
	{
		const char *url = options.webhook_urls[psp];

		if (url != NULL && !notification_set_url((Psp) psp, url))
			die("--webhook-url must be http://HOST[:PORT][/PATH], not "
				"\"%s\"",
				url);
	}
	if (pthread_create(&sender, NULL, send_all, NULL) != 0)
		die("could not start a thread");
}

void
notification_stop(void)
{
	pthread_mutex_lock(&lock);
	stopping = true;
	pthread_cond_signal(&changed);
	pthread_mutex_unlock(&lock);
	pthread_join(sender, NULL);
}

static void
put_notification(Buf *b, const Notification *n)
{
	json_open(b, NULL, '{');
	json_int(b, "number", (int64_t) n->number + 1);
	json_str(b, "psp", psp_name((Psp) n->psp));
	json_str(b, "event", n->event);
	json_int(b, "created_ms", n->created_ms);
	json_int(b, "attempts", n->attempts);
	json_bool(b, "delivered", n->delivered_ms != 0);
	json_bool(b, "lost", n->lost);
	json_str(b, "signature", n->signature);
	json_raw(b, "body", n->body);
	json_close(b, '}');
}

void
control_notifications(Request *request)
{
	Buf	   *b = &request->answer.body;
	int64_t after = 0;
	int64_t limit = LIST_MAX;
	int64_t count = book.notifications.count;

	if (!param_int(request, "after", 0, UINT32_MAX, &after) ||
		!param_int(request, "limit", 1, LIST_MAX, &limit) ||
		!params_known(request))
		return;
	json_open(b, NULL, '{');
	json_int(b, "count", count);
	json_open(b, "notifications", '[');
	for (int64_t i = after; i < count && i < after + limit; i++)
		put_notification(b, book_notification((uint32_t) i));
	json_close(b, ']');
	json_close(b, '}');
}

/* The lines of put_headers as headers of the answer. */
static void
answer_headers(Request *request, const Notification *n)
{
	static const char *const names[] = {
		"Stripe-Signature",		   "HmacSignature",
		"PAYPAL-TRANSMISSION-ID",  "PAYPAL-TRANSMISSION-TIME",
		"PAYPAL-TRANSMISSION-SIG", "PAYPAL-CERT-URL",
		"PAYPAL-AUTH-ALGO"
	};
	Buf headers = { 0 };

	put_headers(&headers, n);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		const char *at = headers.data ? strstr(headers.data, names[i]) : NULL;

		if (at == NULL)
			continue;
		at += strlen(names[i]) + strlen(": ");
		answer_header(request, names[i], "%.*s", (int) strcspn(at, "\r"), at);
	}
	buf_free(&headers);
}

/* One, byte for byte as it is sent. */
void
control_notification(Request *request)
{
	char			   *end;
	unsigned long		number = strtoul(request->id, &end, 10);
	const Notification *n;

	if (*end != '\0' || number < 1 || number > book.notifications.count)
	{
		answer_missing_object(request, "number", "notification", request->id);
		return;
	}
	n = book_notification((uint32_t) number - 1);
	answer_headers(request, n);
	buf_puts(&request->answer.body, n->body);
}

/* Sends what is confirmed already, or was lost, once more. */
static void
resend(int64_t number)
{
	Notification *n = book_notification((uint32_t) number - 1);

	n->delivered_ms = 0;
	n->attempts = 0;
	n->lost = false;
	n->overtaken = false;
	if (n->number < first_open)
		first_open = n->number;
	journal_notification(n);
	wake();
}

/* What a test made up itself, signed as if it were true. */
static bool
add_made_up(Request *request, int psp)
{
	const char *event = form_take(request->params, "event");
	const char *body = form_take(request->params, "body");
	Buf			text = { 0 };

	if ((event == NULL) != (body == NULL) || (event != NULL && psp < 0))
		return answer_invalid(request, "parameter_missing", "event",
							  "psp, event and body belong together.");
	if (event == NULL)
		return true;
	buf_puts(&text, body);
	notification_add((Psp) psp, event, NULL, &text);
	buf_free(&text);
	return true;
}

/* Of one PSP, or of all when none is named. */
static bool
set_urls(Request *request, int psp)
{
	const char *url = form_take(request->params, "url");

	for (int i = 0; url != NULL && i < PSP_COUNT; i++)
	{
		if ((psp < 0 || psp == i) &&
			!notification_set_url((Psp) i, *url ? url : NULL))
			return answer_invalid(request, NULL, "url",
								  "url must be http://HOST[:PORT][/PATH] or "
								  "empty.");
	}
	return true;
}

void
control_set_notifications(Request *request)
{
	static const char *const psps[] = { "stripe", "adyen", "paypal", NULL };
	int						 psp = -1;
	int64_t					 number = 0;

	if (!param_choice(request, "psp", psps, &psp) ||
		!param_int(request, "resend", 1, book.notifications.count, &number) ||
		!set_urls(request, psp) || !add_made_up(request, psp) ||
		!params_known(request))
		return;
	if (number > 0)
		resend(number);
	json_open(&request->answer.body, NULL, '{');
	json_bool(&request->answer.body, "sends",
			  receivers[PSP_STRIPE].has_webhook ||
				  receivers[PSP_ADYEN].has_webhook ||
				  receivers[PSP_PAYPAL].has_webhook);
	json_int(&request->answer.body, "count", book.notifications.count);
	json_close(&request->answer.body, '}');
}
