/*
 * paypal_payout.c
 *		Payouts v1: a batch of one item. A sender_batch_id that was used is
 *		refused, with a link to the batch that used it.
 */
#include "paypal.h"

#include <stdlib.h>
#include <string.h>

#include "currency.h"
#include "hash.h"
#include "idempotency.h"
#include "iso_time.h"
#include "json.h"
#include "payout.h"

#define BATCH_ID_MAX 256
#define NOTE_MAX 1000
#define RECEIVER_MAX 127

typedef struct BatchParams
{
	int64_t		amount;
	int			currency;
	const char *batch;
	const char *receiver;
	const char *item;
	const char *note;
} BatchParams;

/* The youngest for each sender_batch_id. */
static Hash by_batch;

void
paypal_payout_restore(Payout *payout)
{
	if (payout->psp == PSP_PAYPAL && payout->batch != NULL)
		hash_put(&by_batch, payout->batch, payout);
}

static bool
prepare_item(Request *request, BatchParams *params)
{
	JsonValue *items = json_at(request->json, "items");
	JsonValue *item = items ? items->first : NULL;

	if (items == NULL || items->type != JSON_ARRAY || item == NULL)
		return paypal_error(request, 400, "VALIDATION_ERROR", "items",
							"Required field missing", NULL);
	if (item->next != NULL)
		return paypal_error(request, 400, "VALIDATION_ERROR", "items",
							"The sandbox takes one item for each batch", NULL);
	if (!paypal_amount(request, json_at(item, "amount"), "currency",
					   "items[0].amount", &params->amount,
					   &params->currency) ||
		!paypal_text(request, item, "receiver", RECEIVER_MAX,
					 &params->receiver) ||
		!paypal_text(request, item, "sender_item_id", 63, &params->item) ||
		!paypal_text(request, item, "note", NOTE_MAX, &params->note))
		return false;
	return params->receiver != NULL ||
		   paypal_error(request, 400, "VALIDATION_ERROR", "items[0].receiver",
						"Required field missing", NULL);
}

static bool
answer_duplicate(Request *request, const Payout *payout)
{
	Buf *b = &request->answer.body;

	paypal_error(request, 400, "USER_BUSINESS_ERROR", "SENDER_BATCH_ID",
				 "Batch with given sender_batch_id already exists", NULL);
	/* The link stands in the detail: open it again. */
	b->len -= strlen("}],\"links\":[]}");
	json_open(b, "link", '[');
	paypal_link(request, b, "self", "GET", "/v1/payments/payouts/",
				public_id(payout->id));
	json_close(b, ']');
	buf_puts(b, "}],\"links\":[]}");
	return false;
}

static bool
is_new_batch(Request *request, const char *batch)
{
	const Payout *known = batch ? hash_get(&by_batch, batch) : NULL;

	if (known == NULL ||
		known->created_ms + idempotency_life_s(KEEP_30_DAYS) * 1000 <=
			book.now_ms)
		return true;
	return answer_duplicate(request, known);
}

bool
paypal_payout_prepare(Request *request)
{
	BatchParams *params = xcalloc(1, sizeof(BatchParams));
	JsonValue	*header = json_at(request->json, "sender_batch_header");

	request->prepared = params;
	if (header == NULL)
		return paypal_error(request, 400, "VALIDATION_ERROR",
							"sender_batch_header", "Required field missing",
							NULL);
	return paypal_text(request, header, "sender_batch_id", BATCH_ID_MAX,
					   &params->batch) &&
		   prepare_item(request, params) &&
		   is_new_batch(request, params->batch);
}

static const char *
batch_status(const Payout *payout)
{
	static const char *const statuses[] = { "PENDING", "PROCESSING", "SUCCESS",
											"CANCELED", "SUCCESS" };

	if (payout->unclaimed)
		return "SUCCESS";
	if (payout->status == PAYOUT_FAILED &&
		strcmp(payout->destination, "ba_sandbox_denied") == 0)
		return "DENIED";
	return statuses[payout->status];
}

const char *
paypal_payout_item_status(const Payout *payout)
{
	static const char *const statuses[] = { "PENDING", "PENDING", "SUCCESS",
											"CANCELED", "FAILED" };

	if (payout->unclaimed)
		return payout->status == PAYOUT_FAILED ? "RETURNED" : "UNCLAIMED";
	return payout->returned ? "REVERSED" : statuses[payout->status];
}

static void
put_header(Buf *b, const Payout *payout, bool whole)
{
	json_open(b, "batch_header", '{');
	json_str(b, "payout_batch_id", public_id(payout->id));
	json_str(b, "batch_status", batch_status(payout));
	if (whole)
	{
		iso_time_json(b, "time_created", payout->created_ms);
		paypal_amount_json(b, "amount", "currency", payout->currency,
						   payout->amount);
		paypal_amount_json(b, "fees", "currency", payout->currency, 0);
	}
	json_open(b, "sender_batch_header", '{');
	if (payout->batch != NULL)
		json_str(b, "sender_batch_id", payout->batch);
	json_close(b, '}');
	json_close(b, '}');
}

static void
put_errors(Buf *b, const Payout *payout)
{
	const char *name = payout->unclaimed ? "RECEIVER_UNREGISTERED"
										 : "RECEIVER_ACCOUNT_LOCKED";

	if (!payout->unclaimed && payout->status != PAYOUT_FAILED)
		return;
	json_open(b, "errors", '{');
	json_str(b, "name", name);
	json_str(b, "message",
			 payout->unclaimed ? "Receiver is unregistered"
							   : "The receiver's account is locked");
	json_close(b, '}');
}

void
paypal_payout_item_json(Request *request, Buf *b, const Payout *payout)
{
	Buf id = { 0 };

	buf_printf(&id, "%sI", public_id(payout->id));
	json_open(b, NULL, '{');
	json_str(b, "payout_item_id", id.data);
	json_str(b, "transaction_status", paypal_payout_item_status(payout));
	json_str(b, "payout_batch_id", public_id(payout->id));
	if (payout->batch != NULL)
		json_str(b, "sender_batch_id", payout->batch);
	json_open(b, "payout_item", '{');
	json_str(b, "recipient_type", "EMAIL");
	paypal_amount_json(b, "amount", "currency", payout->currency,
					   payout->amount);
	json_str(b, "receiver", payout->destination);
	if (payout->reference != NULL)
		json_str(b, "sender_item_id", payout->reference);
	json_close(b, '}');
	put_errors(b, payout);
	json_open(b, "links", '[');
	paypal_link(request, b, "item", "GET", "/v1/payments/payouts-item/",
				id.data);
	json_close(b, ']');
	json_close(b, '}');
	buf_free(&id);
}

static void
put_batch(Request *request, const Payout *payout, bool whole)
{
	Buf *b = &request->answer.body;

	b->len = 0;
	json_open(b, NULL, '{');
	put_header(b, payout, whole);
	if (whole)
	{
		json_open(b, "items", '[');
		paypal_payout_item_json(request, b, payout);
		json_close(b, ']');
	}
	json_open(b, "links", '[');
	paypal_link(request, b, "self", "GET", "/v1/payments/payouts/",
				public_id(payout->id));
	json_close(b, ']');
	json_close(b, '}');
}

void
paypal_payout_answer(Request *request, const Payout *payout)
{
	put_batch(request, payout, false);
}

void
paypal_payout_create(Request *request)
{
	const BatchParams *params = request->prepared;
	Payout			  *payout;

	/* Another may have been faster while this one was slowed down. */
	if (!is_new_batch(request, params->batch))
		return;
	payout = book_new_payout(PSP_PAYPAL);
	payout->destination = xstrdup(params->receiver);
	payout->description = xstrdup(params->note);
	payout->reference = xstrdup(params->item);
	payout->batch = xstrdup(params->batch);
	paypal_payout_restore(payout);
	payout_start(request, payout, params->amount, params->currency);
	request->answer.status = 201;
	paypal_payout_answer(request, payout);
}

bool
paypal_payout_prepare_get(Request *request)
{
	return book_find_payout(PSP_PAYPAL, request->id) != NULL ||
		   paypal_not_found(request);
}

void
paypal_payout_get(Request *request)
{
	put_batch(request, book_find_payout(PSP_PAYPAL, request->id), true);
}
