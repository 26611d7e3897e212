/*
 * adyen_transfer.c
 *		Transfers to a bank account: taken in with 202; notifications and a
 *		listing by reference and time tell what became of them.
 */
#include "adyen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "currency.h"
#include "iso_time.h"
#include "journal.h"
#include "json.h"
#include "options.h"
#include "payout.h"

#define DESCRIPTION_MAX 140
#define PAGE_DEFAULT 10
#define PAGE_MAX 100
#define INVALID "30_081"

typedef struct TransferParams
{
	int64_t		amount;
	int			currency;
	const char *reference;
	const char *account;
	const char *instrument;
	const char *description;
} TransferParams;

typedef struct TransferList
{
	int64_t		since_ms;
	int64_t		until_ms;
	int64_t		limit;
	int64_t		start; /* as many as have been shown */
	bool		newest_first;
	const char *reference;
	const char *category;
	const char *account;
} TransferList;

static const char *const fields[] = { "amount",
									  "balanceAccountId",
									  "category",
									  "counterparty",
									  "description",
									  "executionDate",
									  "id",
									  "paymentInstrumentId",
									  "priorities",
									  "priority",
									  "reference",
									  "referenceForBeneficiary",
									  "review",
									  "type",
									  "ultimateParty",
									  NULL };

static bool
prepare_counterparty(Request *request, TransferParams *params)
{
	const char		  *category = json_text(request->json, "category");
	DestinationOutcome outcome;

	if (category == NULL || strcmp(category, "bank") != 0)
		return adyen_invalid(request, INVALID,
							 "category: the sandbox knows bank only");
	params->instrument =
		json_text(request->json, "counterparty.transferInstrumentId");
	if (params->instrument == NULL)
		return adyen_invalid(request, INVALID,
							 "counterparty.transferInstrumentId is missing");
	if (!test_destination_find(params->instrument, &outcome))
		return adyen_invalid(request, INVALID,
							 "counterparty.transferInstrumentId: there is no "
							 "such transfer instrument");
	return true;
}

bool
adyen_transfer_prepare(Request *request)
{
	TransferParams *params = xcalloc(1, sizeof(TransferParams));

	request->prepared = params;
	if (!adyen_known(request, fields) ||
		!adyen_amount(request, &params->amount, &params->currency) ||
		!adyen_reference(request, false, &params->reference) ||
		!prepare_counterparty(request, params))
		return false;
	if (params->amount == 0)
		return adyen_invalid(request, INVALID, "amount.value must be above 0");
	params->account = json_text(request->json, "balanceAccountId");
	if (params->account == NULL ||
		strcmp(params->account, options.adyen_balance_account) != 0)
		return adyen_error(request, 403, "00_403", "security",
						   "There is no such balance account, or it is not "
						   "yours");
	params->description = json_text(request->json, "description");
	if (params->description != NULL &&
		strlen(params->description) > DESCRIPTION_MAX)
		return adyen_invalid(request, INVALID,
							 "description is longer than %d characters",
							 DESCRIPTION_MAX);
	return true;
}

static const char *
transfer_status(const Payout *payout)
{
	static const char *const statuses[] = { "received", "authorised", "booked",
											"cancelled", "failed" };

	return payout->returned ? "returned" : statuses[payout->status];
}

static void
put_fields(Buf *b, const Payout *payout)
{
	bool failed = payout->status == PAYOUT_FAILED;

	json_str(b, "id", public_id(payout->id));
	json_open(b, "accountHolder", '{');
	json_str(b, "id", "AH_sandbox");
	json_close(b, '}');
	adyen_amount_json(b, payout->currency, payout->amount);
	json_open(b, "balanceAccount", '{');
	json_str(b, "id", payout->account);
	json_close(b, '}');
	json_str(b, "category", "bank");
	json_open(b, "counterparty", '{');
	json_str(b, "transferInstrumentId", payout->destination);
	json_close(b, '}');
	iso_time_json(b, "createdAt", payout->created_ms);
	if (payout->description != NULL)
		json_str(b, "description", payout->description);
	json_str(b, "direction", "outgoing");
	json_str(b, "reason", failed ? "counterpartyAccountNotFound" : "approved");
	if (payout->reference != NULL)
		json_str(b, "reference", payout->reference);
	json_str(b, "status", transfer_status(payout));
}

static void
put_transfer(Buf *b, const Payout *payout)
{
	json_open(b, NULL, '{');
	put_fields(b, payout);
	json_close(b, '}');
}

static void
notify(const Payout *payout, const char *type)
{
	Buf b = { 0 };

	json_open(&b, NULL, '{');
	json_open(&b, "data", '{');
	json_str(&b, "balancePlatform", options.adyen_merchant);
	put_fields(&b, payout);
	json_close(&b, '}');
	json_str(&b, "environment", "test");
	iso_time_json(&b, "timestamp", book.now_ms);
	json_str(&b, "type", type);
	json_close(&b, '}');
	adyen_notify_platform(type, &b);
	buf_free(&b);
}

void
adyen_transfer_moved(const Payout *payout)
{
	notify(payout, "balancePlatform.transfer.updated");
}

void
adyen_transfer_create(Request *request)
{
	const TransferParams *params = request->prepared;
	Payout				 *payout = book_new_payout(PSP_ADYEN);

	payout->destination = xstrdup(params->instrument);
	payout->description = xstrdup(params->description);
	payout->reference = xstrdup(params->reference);
	payout->account = xstrdup(params->account);
	payout_start(request, payout, params->amount, params->currency);
	notify(payout, "balancePlatform.transfer.created");
	request->answer.status = 202;
	put_transfer(&request->answer.body, payout);
}

static bool
take_time(Request *request, const char *name, int64_t *time_ms)
{
	const char *text = form_take(request->params, name);

	return (text != NULL && iso_time_parse(text, time_ms)) ||
		   adyen_invalid(request, INVALID, "%s must be an ISO 8601 time",
						 name);
}

static bool
take_number(Request *request, const char *name, const char *prefix,
			int64_t max, int64_t *number)
{
	const char *text = form_take(request->params, name);
	size_t		len = strlen(prefix);
	char	   *end;

	if (text == NULL)
		return true;
	if (strncmp(text, prefix, len) == 0 && text[len] >= '0' &&
		text[len] <= '9')
	{
		*number = strtoll(text + len, &end, 10);
		if (*end == '\0' && *number >= 1 && *number <= max)
			return true;
	}
	return adyen_invalid(request, INVALID, "%s is not valid", name);
}

static bool
take_whose(Request *request, TransferList *list)
{
	const char *platform = form_take(request->params, "balancePlatform");
	const char *holder = form_take(request->params, "accountHolderId");

	list->account = form_take(request->params, "balanceAccountId");
	return platform != NULL || holder != NULL || list->account != NULL ||
		   adyen_invalid(request, INVALID,
						 "One of balancePlatform, accountHolderId and "
						 "balanceAccountId is needed");
}

bool
adyen_transfer_prepare_list(Request *request)
{
	TransferList *list = xcalloc(1, sizeof(TransferList));
	const char	 *order = form_take(request->params, "sortOrder");
	const char	 *unknown;

	request->prepared = list;
	list->limit = PAGE_DEFAULT;
	list->reference = form_take(request->params, "reference");
	list->category = form_take(request->params, "category");
	list->newest_first = order != NULL && strcmp(order, "desc") == 0;
	if (!take_whose(request, list) ||
		!take_time(request, "createdSince", &list->since_ms) ||
		!take_time(request, "createdUntil", &list->until_ms) ||
		!take_number(request, "limit", "", PAGE_MAX, &list->limit) ||
		!take_number(request, "cursor", "S2B-", UINT32_MAX, &list->start))
		return false;
	unknown = form_untaken(request->params);
	return unknown == NULL ||
		   adyen_invalid(request, INVALID, "Unknown parameter %.100s",
						 unknown);
}

static bool
is_wanted(const TransferList *list, const Payout *payout)
{
	const char *reference = payout->reference ? payout->reference : "";

	return payout->psp == PSP_ADYEN && payout->created_ms >= list->since_ms &&
		   payout->created_ms <= list->until_ms &&
		   (list->reference == NULL ||
			strcmp(list->reference, reference) == 0) &&
		   (list->category == NULL || strcmp(list->category, "bank") == 0) &&
		   (list->account == NULL ||
			strcmp(list->account, payout->account) == 0);
}

/* The address of the next page is that of this one with another cursor. */
static void
put_next(Request *request, int64_t start)
{
	Buf	  url = { 0 };
	Form *form = request->params;

	buf_printf(&url, "%s://%s%s?", options.tls_cert ? "https" : "http",
			   request->host ? request->host : "sandbox.invalid",
			   request->path);
	for (int i = 0; i < form->count; i++)
	{
		if (strcmp(form->params[i].name, "cursor") == 0)
			continue;
		form_encode(&url, form->params[i].name);
		buf_putc(&url, '=');
		form_encode(&url, form->params[i].value);
		buf_putc(&url, '&');
	}
	buf_printf(&url, "cursor=S2B-%lld", (long long) start);
	json_open(&request->answer.body, "next", '{');
	json_str(&request->answer.body, "href", url.data);
	json_close(&request->answer.body, '}');
	buf_free(&url);
}

void
adyen_transfer_list(Request *request)
{
	const TransferList *list = request->prepared;
	Buf				   *b = &request->answer.body;
	int64_t				found = 0;
	uint32_t			count = book.payouts.count;

	json_open(b, NULL, '{');
	json_open(b, "data", '[');
	for (uint32_t i = 0; i < count && found <= list->start + list->limit; i++)
	{
		const Payout *payout =
			book_payout(list->newest_first ? count - 1 - i : i);

		if (!is_wanted(list, payout))
			continue;
		if (found >= list->start && found < list->start + list->limit)
			put_transfer(b, payout);
		found++;
	}
	json_close(b, ']');
	json_open(b, "_links", '{');
	if (found > list->start + list->limit)
		put_next(request, list->start + list->limit);
	json_close(b, '}');
	json_close(b, '}');
}

bool
adyen_transfer_prepare_get(Request *request)
{
	return book_find_payout(PSP_ADYEN, request->id) != NULL ||
		   adyen_error(request, 404, "30_112", "validation",
					   "There is no such transfer");
}

void
adyen_transfer_get(Request *request)
{
	put_transfer(&request->answer.body,
				 book_find_payout(PSP_ADYEN, request->id));
}
