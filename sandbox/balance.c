/*
 * balance.c
 *		What the account holds: charges not settled yet are pending, all the
 *		rest is available. Both together are the sum of all transactions.
 */
#include "balance.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "currency.h"
#include "json.h"
#include "listing.h"
#include "payment_intent.h"
#include "payout.h"

/* As they are numbered; NULL-terminated for those who ask by type. */
static const char *const types[] = { "charge",		  "payout",
									 "payout_cancel", "payout_failure",
									 "refund",		  "refund_failure",
									 "adjustment",	  "adjustment",
									 "adjustment",	  NULL };

static const char *const reporting_categories[] = {
	"charge",		   "payout",		   "payout_reversal",
	"payout_reversal", "refund",		   "refund_failure",
	"dispute",		   "dispute_reversal", "capture_failure"
};

static bool
is_dispute(const BalanceTx *tx)
{
	return tx->type == TX_DISPUTE || tx->type == TX_DISPUTE_REVERSAL;
}

bool
balance_tx_is_payout(const BalanceTx *tx)
{
	return tx->type == TX_PAYOUT || tx->type == TX_PAYOUT_CANCEL ||
		   tx->type == TX_PAYOUT_FAILURE;
}

const Charge *
balance_tx_charge(const BalanceTx *tx)
{
	if (tx->type == TX_CHARGE || tx->type == TX_CAPTURE_FAILURE)
		return book_charge(tx->source);
	if (is_dispute(tx))
		return book_charge(book_dispute(tx->source)->charge);
	return book_charge(book_modification(tx->source)->charge);
}

const char *
balance_tx_category(const BalanceTx *tx)
{
	return reporting_categories[tx->type];
}

/* The book is one, but each PSP shows only what is its own. */
bool
balance_tx_is_stripes(const BalanceTx *tx)
{
	if (balance_tx_is_payout(tx))
		return book_payout(tx->source)->psp == PSP_STRIPE;
	return charge_psp(balance_tx_charge(tx)) == PSP_STRIPE;
}

static bool
is_pending(const BalanceTx *tx)
{
	return !balance_tx_is_payout(tx) && tx->settlement == NONE;
}

const char *
balance_tx_source_id(const BalanceTx *tx)
{
	if (balance_tx_is_payout(tx))
		return book_payout(tx->source)->id;
	if (tx->type == TX_CHARGE)
		return book_charge(tx->source)->id;
	if (is_dispute(tx))
		return book_dispute(tx->source)->id;
	return book_modification(tx->source)->id;
}

static const char *
tx_description(const BalanceTx *tx)
{
	if (balance_tx_is_payout(tx))
		return book_payout(tx->source)->description;
	return book_intent(balance_tx_charge(tx)->intent)->description;
}

/* As a number with the decimals that it needs. */
static void
put_rate(Buf *b, const BalanceTx *tx)
{
	char text[32];
	int	 len;

	if (tx->rate == 0)
	{
		json_null(b, "exchange_rate");
		return;
	}
	len = snprintf(text, sizeof(text), "%lld.%08lld",
				   (long long) (tx->rate / RATE_ONE),
				   (long long) (tx->rate % RATE_ONE));
	while (text[len - 1] == '0' && text[len - 2] != '.')
		text[--len] = '\0';
	json_raw(b, "exchange_rate", text);
}

void
balance_tx_json(Buf *b, const char *key, const BalanceTx *tx)
{
	const char *currency = currency_lower(tx->currency);

	json_open(b, key, '{');
	json_str(b, "id", tx->id);
	json_str(b, "object", "balance_transaction");
	json_int(b, "amount", tx->amount);
	json_int(b, "available_on", tx->created_ms / 1000);
	json_int(b, "created", tx->created_ms / 1000);
	json_str(b, "currency", currency);
	json_str(b, "description", tx_description(tx));
	put_rate(b, tx);
	json_int(b, "fee", tx->fee);
	json_open(b, "fee_details", '[');
	if (tx->fee != 0)
	{
		json_open(b, NULL, '{');
		json_int(b, "amount", tx->fee);
		json_null(b, "application");
		json_str(b, "currency", currency);
		json_str(b, "description",
				 is_dispute(tx) ? "Dispute fee" : "Processing fee");
		json_str(b, "type", "stripe_fee");
		json_close(b, '}');
	}
	json_close(b, ']');
	json_int(b, "net", tx->amount - tx->fee);
	json_str(b, "reporting_category", balance_tx_category(tx));
	json_str(b, "source", balance_tx_source_id(tx));
	json_str(b, "status", is_pending(tx) ? "pending" : "available");
	json_str(b, "type", types[tx->type]);
	json_close(b, '}');
}

bool
balance_prepare(Request *request)
{
	return params_known(request);
}

static void
put_amounts(Buf *b, const char *key, const int64_t *amounts, const bool *used)
{
	json_open(b, key, '[');
	for (int i = 0; i < currency_count(); i++)
	{
		if (!used[i])
			continue;
		json_open(b, NULL, '{');
		json_int(b, "amount", amounts[i]);
		json_str(b, "currency", currency_lower(i));
		json_close(b, '}');
	}
	json_close(b, ']');
}

void
balance_get(Request *request)
{
	size_t	 count = (size_t) currency_count();
	int64_t *available = xcalloc(count, sizeof(int64_t));
	int64_t *pending = xcalloc(count, sizeof(int64_t));
	bool	*used = xcalloc(count, sizeof(bool));
	Buf		*b = &request->answer.body;

	for (uint32_t i = 0; i < book.balance_txs.count; i++)
	{
		const BalanceTx *tx = book_balance_tx(i);
		int64_t			*sum;

		if (!balance_tx_is_stripes(tx))
			continue;
		sum = is_pending(tx) ? pending : available;
		sum[tx->currency] += tx->amount - tx->fee;
		used[tx->currency] = true;
	}
	json_open(b, NULL, '{');
	json_str(b, "object", "balance");
	put_amounts(b, "available", available, used);
	json_bool(b, "livemode", false);
	put_amounts(b, "pending", pending, used);
	json_close(b, '}');
	free(available);
	free(pending);
	free(used);
}

static int64_t
tx_created_s(uint32_t number)
{
	return book_balance_tx(number)->created_ms / 1000;
}

static uint32_t
tx_number(const char *id)
{
	const BalanceTx *tx = book_find_balance_tx(id);

	return tx ? tx->number : NONE;
}

static void
put_tx(Buf *b, uint32_t number, unsigned expand)
{
	(void) expand;
	balance_tx_json(b, NULL, book_balance_tx(number));
}

static const ListSource tx_source = { .url = "/v1/balance_transactions",
									  .kind = "balance_transaction",
									  .shelf = &book.balance_txs,
									  .created_s = tx_created_s,
									  .number_of = tx_number,
									  .put = put_tx };

bool
balance_prepare_tx_list(Request *request)
{
	ListParams *params;
	const char *currency = form_take(request->params, "currency");

	if (!list_prepare(request, &tx_source))
		return false;
	params = request->prepared;
	params->payout = form_take(request->params, "payout");
	params->source = form_take(request->params, "source");
	if (!param_choice(request, "type", types, &params->type) ||
		!params_known(request))
		return false;
	if (params->payout != NULL &&
		book_find_payout(PSP_STRIPE, params->payout) == NULL)
		return answer_invalid(request, "resource_missing", "payout",
							  "No such payout: '%.100s'", params->payout);
	if (currency == NULL)
		return true;
	params->currency = currency_find(currency);
	if (params->currency != CURRENCY_UNKNOWN)
		return true;
	return answer_invalid(request, NULL, "currency",
						  "Invalid currency: %.100s", currency);
}

/*
 * The transactions of a payout are, for an automatic one, what it settles and
 * itself; for any other only itself.
 */
static bool
belongs_to_payout(const BalanceTx *tx, const Payout *payout)
{
	if (balance_tx_is_payout(tx))
		return tx->source == payout->number;
	return payout_is_automatic(payout) && tx->currency == payout->currency &&
		   tx->settlement == payout->settlement;
}

static bool
is_wanted_tx(uint32_t number, const ListParams *params)
{
	const BalanceTx *tx = book_balance_tx(number);

	if (!balance_tx_is_stripes(tx) ||
		(params->type >= 0 &&
		 strcmp(types[tx->type], types[params->type]) != 0))
		return false;
	if (params->currency != CURRENCY_UNKNOWN &&
		tx->currency != params->currency)
		return false;
	if (params->source != NULL &&
		strcmp(balance_tx_source_id(tx), params->source) != 0)
		return false;
	return params->payout == NULL ||
		   belongs_to_payout(tx, book_find_payout(PSP_STRIPE, params->payout));
}

void
balance_tx_list(Request *request)
{
	list_answer(request, &tx_source, is_wanted_tx);
}

bool
balance_prepare_tx(Request *request)
{
	const BalanceTx *tx;

	if (!params_known(request))
		return false;
	tx = book_find_balance_tx(request->id);
	return (tx != NULL && balance_tx_is_stripes(tx)) ||
		   answer_missing_object(request, "id", "balance transaction",
								 request->id);
}

void
balance_get_tx(Request *request)
{
	balance_tx_json(&request->answer.body, NULL,
					book_find_balance_tx(request->id));
}

bool
balance_prepare_charge(Request *request)
{
	if (!params_known(request))
		return false;
	return book_find_charge(PSP_STRIPE, request->id) != NULL ||
		   answer_missing_object(request, "id", "charge", request->id);
}

void
balance_get_charge(Request *request)
{
	charge_json(&request->answer.body, NULL,
				book_find_charge(PSP_STRIPE, request->id), 0);
}
