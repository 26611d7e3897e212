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

#include "journal.h"
#include "json.h"
#include "options.h"
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
static Webhook		   webhook; /* under the book's lock, as all below */
static bool			   has_webhook;
static uint32_t		   first_open; /* none before it is unconfirmed */

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

void
notification_add(Psp psp, const char *event, const char *signature,
				 const Buf *body)
{
	Notification *notification = book_new_notification(psp);

	notification->event = xstrdup(event);
	notification->signature = xstrdup(signature);
	notification->body = xstrdup(body->data);
	journal_notification(notification);
	wake();
}

bool
notification_set_url(const char *url)
{
	Webhook parsed;

	if (url == NULL)
	{
		has_webhook = false;
		return true;
	}
	if (!webhook_parse(&parsed, url))
		return false;
	webhook = parsed;
	has_webhook = true;
	wake();
	return true;
}

static int64_t
retry_ms(const Notification *n)
{
	int64_t delay_ms = RETRY_MS_MIN;

	for (uint32_t i = 1; i < n->attempts && delay_ms < RETRY_MS_MAX; i++)
		delay_ms *= 2;
	return n->tried_ms + (delay_ms < RETRY_MS_MAX ? delay_ms : RETRY_MS_MAX);
}

/* The next that is due, or NULL and when there will be one, -1: never. */
static Notification *
next_due(int64_t *wait_ms)
{
	*wait_ms = -1;
	if (!has_webhook)
		return NULL;
	for (uint32_t i = first_open; i < book.notifications.count; i++)
	{
		Notification *n = book_notification(i);
		int64_t		  left_ms;

		if (n->delivered_ms != 0)
		{
			first_open += i == first_open ? 1 : 0;
			continue;
		}
		left_ms = n->attempts > 0 ? retry_ms(n) - book.now_ms : 0;
		if (left_ms <= 0)
			return n;
		if (*wait_ms < 0 || left_ms < *wait_ms)
			*wait_ms = left_ms;
	}
	return NULL;
}

/* Sends one, without the lock while it is on its way. */
static bool
send_one(int64_t *wait_ms)
{
	Notification *n;
	Webhook		  to;
	bool		  confirmed;

	book_lock();
	n = next_due(wait_ms);
	to = webhook;
	book_unlock();
	if (n == NULL)
		return false;
	confirmed = webhook_post(&to, n->body, n->signature);
	book_lock();
	n->attempts++;
	n->tried_ms = book.now_ms;
	if (confirmed)
		n->delivered_ms = book.now_ms;
	journal_notification(n);
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
	if (options.webhook_url != NULL &&
		!notification_set_url(options.webhook_url))
		die("--webhook-url must be http://HOST[:PORT][/PATH], not \"%s\"",
			options.webhook_url);
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
	if (n->signature != NULL)
		answer_header(request, "HmacSignature", "%s", n->signature);
	buf_puts(&request->answer.body, n->body);
}

/* Sends what is confirmed already once more. */
static void
resend(int64_t number)
{
	Notification *n = book_notification((uint32_t) number - 1);

	n->delivered_ms = 0;
	n->attempts = 0;
	if (n->number < first_open)
		first_open = n->number;
	journal_notification(n);
	wake();
}

void
control_set_notifications(Request *request)
{
	const char *url = form_take(request->params, "url");
	int64_t		number = 0;

	if (!param_int(request, "resend", 1, book.notifications.count, &number) ||
		!params_known(request))
		return;
	if (url != NULL && !notification_set_url(*url ? url : NULL))
	{
		answer_invalid(request, NULL, "url",
					   "url must be http://HOST[:PORT][/PATH] or empty.");
		return;
	}
	if (number > 0)
		resend(number);
	json_open(&request->answer.body, NULL, '{');
	json_bool(&request->answer.body, "sends", has_webhook);
	json_close(&request->answer.body, '}');
}
