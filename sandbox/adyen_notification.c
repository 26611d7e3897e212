/*
 * adyen_notification.c
 *		What Adyen tells by itself, signed.
 */
#include "adyen.h"

#include <stdio.h>
#include <string.h>

#include "currency.h"
#include "fault.h"
#include "iso_time.h"
#include "json.h"
#include "notification.h"
#include "options.h"

#define SIGNATURE_SIZE 64

static const char *
or_empty(const char *text)
{
	return text ? text : "";
}

static void
sign(const AdyenEvent *event, char *signature)
{
	Buf	 text = { 0 };
	char code[4];

	currency_upper(code, event->currency);
	buf_printf(&text, "%s:%s:%s:%s:%lld:%s:%s:%s", event->psp_reference,
			   or_empty(event->original_reference), options.adyen_merchant,
			   or_empty(event->merchant_reference), (long long) event->amount,
			   code, event->code, event->reason ? "false" : "true");
	if (fault_fires(FAULT_WEBHOOK_FORGED))
		buf_putc(&text, 'x');
	notification_sign(&text, signature, SIGNATURE_SIZE);
	buf_free(&text);
}

static void
put_additional(Buf *b, const AdyenEvent *event)
{
	char signature[SIGNATURE_SIZE];

	sign(event, signature);
	json_open(b, "additionalData", '{');
	if (event->action != NULL)
		json_str(b, "modification.action", event->action);
	if (event->dispute_status != NULL && *event->dispute_status != '\0')
		json_str(b, "disputeStatus", event->dispute_status);
	if (*signature != '\0')
		json_str(b, "hmacSignature", signature);
	json_close(b, '}');
}

static void
put_item(Buf *b, const AdyenEvent *event)
{
	put_additional(b, event);
	adyen_amount_json(b, event->currency, event->amount);
	json_str(b, "eventCode", event->code);
	iso_time_json(b, "eventDate", book.now_ms);
	json_str(b, "merchantAccountCode", options.adyen_merchant);
	json_str(b, "merchantReference", or_empty(event->merchant_reference));
	if (event->can_modify)
	{
		json_open(b, "operations", '[');
		json_str(b, NULL, "CANCEL");
		json_str(b, NULL, "CAPTURE");
		json_str(b, NULL, "REFUND");
		json_close(b, ']');
	}
	if (event->original_reference != NULL)
		json_str(b, "originalReference", event->original_reference);
	json_str(b, "paymentMethod", "visa");
	json_str(b, "pspReference", event->psp_reference);
	json_str(b, "reason",
			 or_empty(event->reason ? event->reason : event->note));
	json_str(b, "success", event->reason ? "false" : "true");
}

static void
put_wrapped_item(Buf *b, const AdyenEvent *event)
{
	json_open(b, NULL, '{');
	json_open(b, "NotificationRequestItem", '{');
	put_item(b, event);
	json_close(b, '}');
	json_close(b, '}');
}

void
adyen_notify(const AdyenEvent *event)
{
	Buf item = { 0 };
	Buf b = { 0 };

	put_wrapped_item(&item, event);
	if (!notification_join(PSP_ADYEN, "]}", "NotificationRequestItem",
						   item.data))
	{
		json_open(&b, NULL, '{');
		json_str(&b, "live", "false");
		json_open(&b, "notificationItems", '[');
		json_raw(&b, NULL, item.data);
		json_close(&b, ']');
		json_close(&b, '}');
		notification_add(PSP_ADYEN, event->code, NULL, &b);
		buf_free(&b);
	}
	buf_free(&item);
}

void
adyen_notify_platform(const char *type, const Buf *body)
{
	char signature[SIGNATURE_SIZE];

	notification_sign(body, signature, sizeof(signature));
	notification_add(PSP_ADYEN, type, *signature ? signature : NULL, body);
}
