/*
 * stripe_event.c
 *		Stripe's events: made when something happened, signed whenever they
 *		are delivered.
 */
#include "stripe_event.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <string.h>

#include "customer.h"
#include "dispute.h"
#include "json.h"
#include "listing.h"
#include "notification.h"
#include "options.h"
#include "payment_intent.h"
#include "payout.h"
#include "refund.h"
#include "session.h"

#define API_VERSION "2024-06-20"
#define SHA256_SIZE 32
#define SECRET_LINE_MAX 256

/* Wraps the object and puts it into the outbox; frees the object. */
static void
tell(const char *type, Buf *object)
{
	Notification *notification = notification_new(PSP_STRIPE, type);
	Buf			  b = { 0 };

	json_open(&b, NULL, '{');
	json_str(&b, "id", notification->id);
	json_str(&b, "object", "event");
	json_str(&b, "api_version", API_VERSION);
	json_int(&b, "created", notification->created_ms / 1000);
	json_open(&b, "data", '{');
	json_raw(&b, "object", object->data);
	json_close(&b, '}');
	json_bool(&b, "livemode", false);
	json_int(&b, "pending_webhooks", 1);
	json_open(&b, "request", '{');
	json_null(&b, "id");
	json_null(&b, "idempotency_key");
	json_close(&b, '}');
	json_str(&b, "type", type);
	json_close(&b, '}');
	notification_finish(notification, NULL, &b);
	buf_free(&b);
	buf_free(object);
}

void
stripe_event_intent(const char *type, const Intent *intent)
{
	Buf object = { 0 };

	if (!notification_wanted(PSP_STRIPE))
		return;
	payment_intent_json(&object, NULL, intent, 0);
	tell(type, &object);
}

void
stripe_event_charge(const char *type, const Charge *charge)
{
	Buf object = { 0 };

	if (!notification_wanted(PSP_STRIPE))
		return;
	charge_json(&object, NULL, charge, 0);
	tell(type, &object);
}

void
stripe_event_refund(const char *type, const Modification *refund)
{
	Buf object = { 0 };

	if (!notification_wanted(PSP_STRIPE))
		return;
	refund_json(&object, NULL, refund, 0);
	tell(type, &object);
}

void
stripe_event_payout(const char *type, const Payout *payout)
{
	Buf object = { 0 };

	if (!notification_wanted(PSP_STRIPE))
		return;
	payout_json(&object, payout);
	tell(type, &object);
}

void
stripe_event_dispute(const char *type, const Dispute *dispute)
{
	Buf object = { 0 };

	if (!notification_wanted(PSP_STRIPE))
		return;
	dispute_json(&object, NULL, dispute);
	tell(type, &object);
}

void
stripe_event_setup(const char *type, const Setup *setup)
{
	Buf object = { 0 };

	if (!notification_wanted(PSP_STRIPE))
		return;
	setup_intent_json(&object, NULL, setup);
	tell(type, &object);
}

void
stripe_event_session(const char *type, const Session *session)
{
	Buf object = { 0 };

	if (!notification_wanted(PSP_STRIPE))
		return;
	session_json(&object, NULL, session, 0);
	tell(type, &object);
}

void
stripe_event_attempt(const Intent *intent)
{
	const Charge *charge = intent->latest_charge == NONE
							   ? NULL
							   : book_charge(intent->latest_charge);

	switch ((IntentStatus) intent->status)
	{
		case INTENT_SUCCEEDED:
			stripe_event_charge("charge.succeeded", charge);
			stripe_event_intent("payment_intent.succeeded", intent);
			break;
		case INTENT_REQUIRES_CAPTURE:
			stripe_event_charge("charge.succeeded", charge);
			stripe_event_intent("payment_intent.amount_capturable_updated",
								intent);
			break;
		case INTENT_PROCESSING:
			stripe_event_charge("charge.pending", charge);
			stripe_event_intent("payment_intent.processing", intent);
			break;
		case INTENT_REQUIRES_ACTION:
			stripe_event_intent("payment_intent.requires_action", intent);
			break;
		case INTENT_REQUIRES_PAYMENT_METHOD:
			if (!intent->not_authenticated)
				stripe_event_charge("charge.failed", charge);
			stripe_event_intent("payment_intent.payment_failed", intent);
			break;
		case INTENT_REQUIRES_CONFIRMATION:
		case INTENT_CANCELED:
			break;
	}
}

static void
put_signature(Buf *headers, const Buf *signed_text, const char *secret)
{
	unsigned char digest[SHA256_SIZE];

	if (gnutls_hmac_fast(GNUTLS_MAC_SHA256, secret, strlen(secret),
						 signed_text->data, signed_text->len, digest) != 0)
		die("could not sign an event");
	buf_puts(headers, ",v1=");
	for (size_t i = 0; i < sizeof(digest); i++)
		buf_printf(headers, "%02x", digest[i]);
}

/*
 * The file is read anew each time, so that secrets can be rotated: each of
 * its lines signs.
 */
void
stripe_event_sign(Buf *headers, const char *body, int64_t now_ms, bool forged)
{
	char  secret[SECRET_LINE_MAX];
	Buf	  text = { 0 };
	FILE *file;

	if (options.stripe_webhook_secrets == NULL)
		return;
	file = fopen(options.stripe_webhook_secrets, "re");
	if (file == NULL)
		die("could not open \"%s\": %s", options.stripe_webhook_secrets,
			strerror(errno));
	buf_printf(headers, "Stripe-Signature: t=%lld",
			   (long long) (now_ms / 1000));
	buf_printf(&text, "%lld.%s", (long long) (now_ms / 1000), body);
	while (fgets(secret, sizeof(secret), file) != NULL)
	{
		secret[strcspn(secret, "\r\n")] = '\0';
		if (secret[0] != '\0')
			put_signature(headers, &text, forged ? "forged" : secret);
	}
	buf_puts(headers, "\r\n");
	fclose(file);
	buf_free(&text);
}

static Notification *
find_event(Request *request)
{
	Notification *event = book_find_notification(PSP_STRIPE, request->id);

	if (event == NULL)
		answer_missing_object(request, "id", "event", request->id);
	return event;
}

bool
stripe_event_prepare_get(Request *request)
{
	return params_known(request) && find_event(request) != NULL;
}

void
stripe_event_get(Request *request)
{
	buf_puts(&request->answer.body, find_event(request)->body);
}

static int64_t
event_created_s(uint32_t number)
{
	return book_notification(number)->created_ms / 1000;
}

static uint32_t
event_number(const char *id)
{
	const Notification *event = book_find_notification(PSP_STRIPE, id);

	return event ? event->number : NONE;
}

static void
put_event(Buf *b, uint32_t number, unsigned expand)
{
	(void) expand;
	json_raw(b, NULL, book_notification(number)->body);
}

static const ListSource event_source = { .url = "/v1/events",
										 .kind = "event",
										 .shelf = &book.notifications,
										 .created_s = event_created_s,
										 .number_of = event_number,
										 .put = put_event };

static bool
is_wanted(uint32_t number, const ListParams *params)
{
	const Notification *event = book_notification(number);

	return event->psp == PSP_STRIPE &&
		   (params->event == NULL || strcmp(params->event, event->event) == 0);
}

bool
stripe_event_prepare_list(Request *request)
{
	if (!list_prepare(request, &event_source))
		return false;
	((ListParams *) request->prepared)->event =
		form_take(request->params, "type");
	return params_known(request);
}

void
stripe_event_list(Request *request)
{
	list_answer(request, &event_source, is_wanted);
}
