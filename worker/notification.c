/*-------------------------------------------------------------------------
 *
 * notification.c
 *	  One event on its way to an application.
 *
 * The signature is over the time and the body as they are sent, so that the
 * application knows who sent it, and that it was not sent long ago and
 * recorded by somebody.  Each try has a time of its own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hmac.h"
#include "common/sha2.h"
#include "delivery.h"
#include "notification.h"
#include "payment.h"
#include "secret.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"
#include "uuid7.h"

/* nobody reads more of an answer than its status */
#define ANSWER_MAX (16 * 1024)

/* between log lines about the same endpoint's secret */
#define COMPLAINT_INTERVAL_MS (60 * 1000)

static void
set_failed(Notification *notification, const char *error)
{
	notification->error = MemoryContextStrdup(notification->context, error);
}

static void
complain_about_secret(Endpoint *endpoint, const char *problem)
{
	TimestampTz now = GetCurrentTimestamp();

	if (endpoint->complained_at != 0 &&
		!TimestampDifferenceExceeds(endpoint->complained_at, now,
									COMPLAINT_INTERVAL_MS))
		return;
	endpoint->complained_at = now;
	ereport(LOG, (errcode(ERRCODE_PAYMENT_WORKER),
				  errmsg("no events can be posted to consumer \"%s\"",
						 endpoint->consumer),
				  errdetail("%s.", problem),
				  errhint("The secret is read from a file of that name in the "
						  "directory payment.secrets_dir.")));
}

static bool
hmac_sha256(const char *key, const char *time, const char *body, uint8 *digest)
{
	pg_hmac_ctx *hmac = pg_hmac_create(PG_SHA256);
	bool		 done;

	if (hmac == NULL)
		return false;
	done = pg_hmac_init(hmac, (const uint8 *) key, strlen(key)) >= 0 &&
		   pg_hmac_update(hmac, (const uint8 *) time, strlen(time)) >= 0 &&
		   pg_hmac_update(hmac, (const uint8 *) ".", 1) >= 0 &&
		   pg_hmac_update(hmac, (const uint8 *) body, strlen(body)) >= 0 &&
		   pg_hmac_final(hmac, digest, PG_SHA256_DIGEST_LENGTH) >= 0;
	pg_hmac_free(hmac);
	return done;
}

/* NULL: there was no memory for it */
static char *
signature_header(const Notification *notification, const char *secret)
{
	uint8 digest[PG_SHA256_DIGEST_LENGTH];
	char  hex[PG_SHA256_DIGEST_LENGTH * 2 + 1];
	char *time =
		psprintf(INT64_FORMAT,
				 (int64) timestamptz_to_time_t(GetCurrentTimestamp()));

	if (!hmac_sha256(secret, time, notification->body, digest))
		return NULL;
	hex[hex_encode((const char *) digest, sizeof(digest), hex)] = '\0';
	return psprintf("Payment-Signature: t=%s,v1=%s", time, hex);
}

/*
 * The server's HMAC belongs to a transaction's resources, so that is where
 * this runs, a moment before the request goes out.
 */
void
notification_sign(Notification *notification)
{
	const char *problem;
	const char *secret =
		secret_get(notification->endpoint->secret_name, &problem);
	MemoryContext old;

	Assert(CurrentResourceOwner != NULL);
	notification->retry_after_ms = -1;
	if (secret == NULL)
	{
		complain_about_secret(notification->endpoint, problem);
		set_failed(notification, "the secret could not be read");
		return;
	}
	old = MemoryContextSwitchTo(notification->context);
	notification->signature = signature_header(notification, secret);
	MemoryContextSwitchTo(old);
	if (notification->signature == NULL)
		set_failed(notification, "the event could not be signed");
}

static bool
post(Notification *notification)
{
	Endpoint   *endpoint = notification->endpoint;
	const char *headers[3];
	HttpRequest http = { 0 };

	headers[0] = "Content-Type: application/json";
	headers[1] =
		psprintf("Payment-Event-Id: %s", uuid_text(&notification->event_id));
	headers[2] = notification->signature;
	http.method = "POST";
	http.url = endpoint->url;
	http.headers = headers;
	http.header_count = lengthof(headers);
	http.body = notification->body;
	http.body_length = (int) strlen(notification->body);
	http.connect_timeout_ms = endpoint->connect_timeout_ms;
	http.timeout_ms = endpoint->timeout_ms;
	http.answer_max = ANSWER_MAX;
	http.purpose = EXCHANGE_NOTIFICATION;
	return http_send(notification->context, &http, notification) != NULL;
}

bool
notification_send(Notification *notification)
{
	MemoryContext old;
	bool		  sent;

	if (notification->error)
		return false;
	old = MemoryContextSwitchTo(notification->context);
	sent = post(notification);
	MemoryContextSwitchTo(old);
	if (!sent)
		set_failed(notification, "the request could not be begun");
	return sent;
}

/* 2xx, however much is said beside it */
static bool
is_acknowledged(const HttpExchange *exchange)
{
	return (exchange->transport == HTTP_ANSWERED ||
			exchange->transport == HTTP_BODY_TOO_LARGE) &&
		   exchange->status >= 200 && exchange->status < 300;
}

void
notification_receive(Notification *notification, const HttpExchange *exchange)
{
	bool answered = exchange->transport == HTTP_ANSWERED ||
					exchange->transport == HTTP_BODY_TOO_LARGE;

	notification->http_status = answered ? exchange->status : 0;
	notification->retry_after_ms = exchange->retry_after_ms;
	if (is_acknowledged(exchange))
		return;
	if (answered)
		set_failed(notification, "the answer was no acknowledgement");
	else
		set_failed(notification, exchange->error);
}
