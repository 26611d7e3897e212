/*
 * paypal_event.c
 *		What PayPal tells by itself, and whether it did: the receiver cannot
 *		check the signature by a secret, but may ask.
 */
#include "paypal.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <string.h>

#include "charge.h"
#include "currency.h"
#include "dispute.h"
#include "iso_time.h"
#include "journal.h"
#include "json.h"
#include "notification.h"
#include "options.h"

#define AUTH_ALGO "SHA256withRSA"
#define CERT_URL "https://sandbox.invalid/v1/notifications/certs/CERT-sandbox"
#define SHA256_SIZE 32

/* Wraps the resource and puts it into the outbox; frees the resource. */
static void
tell(const char *type, const char *resource_type, Buf *resource)
{
	Notification *n = notification_new(PSP_PAYPAL, type);
	Buf			  id = { 0 };
	Buf			  b = { 0 };

	buf_printf(&id, "WH-%s", public_id(n->id));
	json_open(&b, NULL, '{');
	json_str(&b, "id", id.data);
	json_str(&b, "event_version", "1.0");
	iso_time_json(&b, "create_time", n->created_ms);
	json_str(&b, "resource_type", resource_type);
	json_str(&b, "resource_version", "2.0");
	json_str(&b, "event_type", type);
	json_str(&b, "summary", "Something happened in the sandbox");
	json_raw(&b, "resource", resource->data);
	json_empty(&b, "links", "[]");
	json_close(&b, '}');
	notification_finish(n, NULL, &b);
	buf_free(&id);
	buf_free(&b);
	buf_free(resource);
}

void
paypal_event_capture(const char *type, const Charge *charge)
{
	Buf resource = { 0 };

	if (!notification_wanted(PSP_PAYPAL))
		return;
	paypal_capture_json(NULL, &resource, NULL, charge);
	tell(type, "capture", &resource);
}

void
paypal_event_authorization(const char *type, const Charge *charge)
{
	Buf resource = { 0 };

	if (!notification_wanted(PSP_PAYPAL))
		return;
	paypal_authorization_json(NULL, &resource, NULL, charge);
	tell(type, "authorization", &resource);
}

void
paypal_event_order(const char *type, const Intent *intent)
{
	Buf resource = { 0 };

	if (!notification_wanted(PSP_PAYPAL))
		return;
	paypal_order_json(NULL, &resource, intent, true);
	tell(type, "checkout-order", &resource);
}

void
paypal_event_refund(const char *type, const Modification *refund)
{
	Buf resource = { 0 };

	if (!notification_wanted(PSP_PAYPAL))
		return;
	paypal_refund_json(NULL, &resource, refund, true);
	tell(type, "refund", &resource);
}

void
paypal_event_payout(const Payout *payout)
{
	const char *status = paypal_payout_item_status(payout);
	Buf			type = { 0 };
	Buf			resource = { 0 };

	if (!notification_wanted(PSP_PAYPAL) || strcmp(status, "PENDING") == 0)
		return;
	paypal_payout_item_json(NULL, &resource, payout);
	buf_printf(&type, "PAYMENT.PAYOUTS-ITEM.%s",
			   strcmp(status, "SUCCESS") == 0 ? "SUCCEEDED" : status);
	tell(type.data, "payouts_item", &resource);
	buf_free(&type);
}

/* Over the transmission and the body's checksum, as PayPal's is. */
static void
put_signature(Buf *b, const char *transmission, const char *webhook,
			  const char *body, size_t len, bool forged)
{
	Buf			   text = { 0 };
	unsigned char  digest[SHA256_SIZE];
	gnutls_datum_t raw = { digest, sizeof(digest) };
	gnutls_datum_t encoded;
	unsigned char  sum[SHA256_SIZE];

	if (gnutls_hash_fast(GNUTLS_DIG_SHA256, body, len, sum) != 0)
		die("could not sign an event");
	buf_printf(&text, "%s|%s|", transmission, webhook);
	buf_put(&text, sum, sizeof(sum));
	if (forged)
		buf_putc(&text, 'x');
	if (gnutls_hmac_fast(GNUTLS_MAC_SHA256, options.secret_key,
						 strlen(options.secret_key), text.data, text.len,
						 digest) != 0 ||
		gnutls_base64_encode2(&raw, &encoded) != 0)
		die("could not sign an event");
	buf_put(b, encoded.data, encoded.size);
	gnutls_free(encoded.data);
	buf_free(&text);
}

static void
put_time(Buf *b, int64_t time_ms)
{
	Buf json = { 0 };

	/* "key":"…" without what is around it. */
	iso_time_json(&json, "t", time_ms);
	buf_printf(b, "%.*s", (int) (json.len - strlen("\"t\":\"\"")),
			   json.data + strlen("\"t\":\""));
	buf_free(&json);
}

void
paypal_event_headers(Buf *headers, const Notification *n)
{
	Buf transmission = { 0 };

	buf_printf(&transmission, "tr-%s|", public_id(n->id));
	put_time(&transmission, n->created_ms);
	buf_printf(headers,
			   "PAYPAL-TRANSMISSION-ID: tr-%s\r\nPAYPAL-TRANSMISSION-TIME: ",
			   public_id(n->id));
	put_time(headers, n->created_ms);
	buf_printf(headers,
			   "\r\nPAYPAL-AUTH-ALGO: %s\r\nPAYPAL-CERT-URL: %s\r\n"
			   "PAYPAL-TRANSMISSION-SIG: ",
			   AUTH_ALGO, CERT_URL);
	put_signature(headers, transmission.data, paypal_webhook_id(), n->body,
				  strlen(n->body), n->forged);
	buf_puts(headers, "\r\n");
	buf_free(&transmission);
}

static const char *const verify_fields[] = { "auth_algo",
											 "cert_url",
											 "transmission_id",
											 "transmission_sig",
											 "transmission_time",
											 "webhook_id",
											 NULL };

bool
paypal_verify_prepare(Request *request)
{
	JsonValue *event = json_at(request->json, "webhook_event");

	for (int i = 0; verify_fields[i] != NULL; i++)
	{
		if (json_text(request->json, verify_fields[i]) == NULL)
			return paypal_error(request, 400, "VALIDATION_ERROR",
								verify_fields[i], "MISSING_REQUIRED_PARAMETER",
								"A required field is missing or no string.");
	}
	return (event != NULL && event->type == JSON_OBJECT) ||
		   paypal_error(request, 400, "VALIDATION_ERROR", "webhook_event",
						"MISSING_REQUIRED_PARAMETER",
						"A required field is missing or no object.");
}

/* The event counts byte by byte: one that was written anew is another. */
static bool
is_ours(Request *request)
{
	const JsonValue *event = json_at(request->json, "webhook_event");
	const char		*webhook = json_text(request->json, "webhook_id");
	Buf				 transmission = { 0 };
	Buf				 signature = { 0 };
	bool			 good;

	buf_printf(&transmission, "%s|%s",
			   json_text(request->json, "transmission_id"),
			   json_text(request->json, "transmission_time"));
	put_signature(&signature, transmission.data, webhook, event->raw,
				  event->raw_len, false);
	good = strcmp(webhook, paypal_webhook_id()) == 0 &&
		   strcmp(json_text(request->json, "auth_algo"), AUTH_ALGO) == 0 &&
		   strcmp(json_text(request->json, "cert_url"), CERT_URL) == 0 &&
		   strcmp(json_text(request->json, "transmission_sig"),
				  signature.data) == 0;
	buf_free(&transmission);
	buf_free(&signature);
	return good;
}

void
paypal_verify(Request *request)
{
	Buf *b = &request->answer.body;

	request->executed = true;
	json_open(b, NULL, '{');
	json_str(b, "verification_status",
			 is_ours(request) ? "SUCCESS" : "FAILURE");
	json_close(b, '}');
}

static const char *const stages[] = { "INQUIRY", "CHARGEBACK",
									  "PRE_ARBITRATION", "ARBITRATION", NULL };

static void
put_dispute(Buf *b, const Dispute *dispute)
{
	static const char *const statuses[] = { "OPEN", "UNDER_REVIEW",
											"RESOLVED" };
	Buf						 id = { 0 };

	buf_printf(&id, "PP-D-%s", public_id(dispute->id));
	json_open(b, NULL, '{');
	json_str(b, "dispute_id", id.data);
	iso_time_json(b, "create_time", dispute->created_ms);
	iso_time_json(b, "update_time", book.now_ms);
	json_open(b, "disputed_transactions", '[');
	json_open(b, NULL, '{');
	json_str(b, "seller_transaction_id",
			 public_id(book_charge(dispute->charge)->id));
	json_close(b, '}');
	json_close(b, ']');
	json_str(b, "reason", "MERCHANDISE_OR_SERVICE_NOT_RECEIVED");
	json_str(b, "status", statuses[dispute->status]);
	paypal_amount_json(b, "dispute_amount", "currency_code", dispute->currency,
					   dispute->amount);
	if (dispute->status == 2)
	{
		json_open(b, "dispute_outcome", '{');
		json_str(b, "outcome_code",
				 dispute->withdrawn ? "RESOLVED_BUYER_FAVOUR"
									: "RESOLVED_SELLER_FAVOUR");
		json_close(b, '}');
	}
	json_str(b, "dispute_life_cycle_stage", stages[dispute->reason]);
	json_close(b, '}');
	buf_free(&id);
}

bool
paypal_dispute_prepare_get(Request *request)
{
	const char *id = request->id;

	return (strncmp(id, "PP-D-", 5) == 0 &&
			book_find_dispute(PSP_PAYPAL, id + 5) != NULL) ||
		   paypal_not_found(request);
}

void
paypal_dispute_get(Request *request)
{
	put_dispute(&request->answer.body,
				book_find_dispute(PSP_PAYPAL, request->id + 5));
}

/* Status 0 to 2 opens, updates or resolves it. */
static const char *
move_dispute(Charge *charge, int status, int stage, bool seller_wins,
			 int64_t amount)
{
	Dispute *dispute =
		charge->dispute == NONE ? NULL : book_dispute(charge->dispute);
	bool is_open = dispute != NULL && dispute->status != 2;
	bool withdrawn;

	if (charge->status != CHARGE_SUCCEEDED ||
		amount > charge->amount_captured || is_open == (status == 0))
		return "there is nothing to dispute, or it is disputed already, or "
			   "not";
	if (status == 0)
	{
		dispute = book_new_dispute(charge);
		dispute->amount = amount > 0 ? amount : charge->amount_captured;
		charge->dispute = dispute->number;
	}
	dispute->status = (uint8_t) status;
	dispute->reason = (uint8_t) stage; /* PayPal's stage */
	withdrawn = status == 2 ? !seller_wins : stage > 0;
	if (withdrawn != dispute->withdrawn)
		dispute_move_money(dispute, withdrawn);
	journal_dispute(dispute);
	return NULL;
}

static const char *
tell_dispute(Charge *charge, int status, int stage, bool seller_wins,
			 int64_t amount)
{
	static const char *const types[] = { "CUSTOMER.DISPUTE.CREATED",
										 "CUSTOMER.DISPUTE.UPDATED",
										 "CUSTOMER.DISPUTE.RESOLVED" };
	const char				*problem =
		move_dispute(charge, status, stage, seller_wins, amount);
	Buf resource = { 0 };

	if (problem != NULL)
		return problem;
	journal_charge(charge);
	put_dispute(&resource, book_dispute(charge->dispute));
	tell(types[status], "dispute", &resource);
	return NULL;
}

static const char *
reverse(Charge *charge)
{
	if (charge->status != CHARGE_SUCCEEDED || charge_refundable(charge) == 0 ||
		!charge_take_back_capture(charge, charge_refundable(charge)))
		return "the capture is not completed";
	journal_charge(charge);
	paypal_event_capture("PAYMENT.CAPTURE.REVERSED", charge);
	return NULL;
}

static const char *
approve(Intent *intent)
{
	if (intent->status != INTENT_REQUIRES_PAYMENT_METHOD &&
		intent->status != INTENT_REQUIRES_ACTION)
		return "the order does not wait for a payer";
	if (intent->payment_method == NULL)
		intent->payment_method = xstrdup("sandbox_success");
	intent->status = INTENT_REQUIRES_CONFIRMATION;
	journal_intent(intent);
	paypal_event_order("CHECKOUT.ORDER.APPROVED", intent);
	return NULL;
}

void
control_paypal_events(Request *request)
{
	static const char *const types[] = {
		"CUSTOMER.DISPUTE.CREATED",	 "CUSTOMER.DISPUTE.UPDATED",
		"CUSTOMER.DISPUTE.RESOLVED", "PAYMENT.CAPTURE.REVERSED",
		"CHECKOUT.ORDER.APPROVED",	 NULL
	};
	static const char *const outcomes[] = { "buyer", "seller", NULL };
	const char				*id;
	const char				*problem;
	int						 type = -1;
	int						 stage = 0;
	int						 outcome = 0;
	int64_t					 amount = 0;
	Charge					*charge;
	Intent					*intent;

	if (!param_required(request, "id", &id) ||
		!param_choice(request, "event", types, &type) ||
		!param_choice(request, "stage", stages, &stage) ||
		!param_choice(request, "outcome", outcomes, &outcome) ||
		!param_int(request, "amount", 1, AMOUNT_MAX, &amount) ||
		!params_known(request))
		return;
	charge = book_find_charge(PSP_PAYPAL, id);
	intent = book_find_intent(PSP_PAYPAL, id);
	if (type == 4 && intent != NULL)
		problem = approve(intent);
	else if (type >= 0 && type < 3 && charge != NULL)
		problem = tell_dispute(charge, type, stage, outcome == 1, amount);
	else if (type == 3 && charge != NULL)
		problem = reverse(charge);
	else
	{
		answer_missing_object(request, "id", "capture or order", id);
		return;
	}
	if (problem != NULL)
	{
		answer_invalid(request, NULL, "event", "It cannot be: %s.", problem);
		return;
	}
	json_open(&request->answer.body, NULL, '{');
	json_int(&request->answer.body, "notification", book.notifications.count);
	json_close(&request->answer.body, '}');
}
