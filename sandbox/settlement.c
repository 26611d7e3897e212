/*
 * settlement.c
 *		Closing a settlement, with differences planted on request. Only the
 *		file is told wrong: the book keeps the truth.
 */
#include "settlement.h"

#include <stdlib.h>
#include <string.h>

#include "balance.h"
#include "currency.h"
#include "journal.h"
#include "json.h"
#include "payout.h"
#include "random.h"
#include "settlement_line.h"

#define PLANTS_MAX 10000

static const char *const plant_names[PLANT_COUNT] = {
	"", "amount", "missing", "unknown", "duplicate", "fee", "currency"
};

/* Reads "kind:count". */
static bool
parse_plant(const char *text, size_t len, int64_t *counts)
{
	const char *colon = memchr(text, ':', len);
	size_t		name_len = colon ? (size_t) (colon - text) : len;
	char		number[8] = "1";
	char	   *end;

	if (colon != NULL)
	{
		size_t number_len = len - name_len - 1;

		if (number_len == 0 || number_len >= sizeof(number))
			return false;
		memcpy(number, colon + 1, number_len);
		number[number_len] = '\0';
	}
	for (int kind = PLANT_NOTHING + 1; kind < PLANT_COUNT; kind++)
	{
		long count;

		if (strlen(plant_names[kind]) != name_len ||
			memcmp(plant_names[kind], text, name_len) != 0)
			continue;
		count = strtol(number, &end, 10);
		if (*end != '\0' || count < 0 || count > PLANTS_MAX)
			return false;
		counts[kind] += count;
		return true;
	}
	return false;
}

static bool
take_plants(Request *request, int64_t *counts, int64_t *total)
{
	for (int i = 0; i < request->params->count; i++)
	{
		FormParam  *param = &request->params->params[i];
		const char *at = param->value;

		if (strcmp(param->name, "plant") != 0)
			continue;
		param->taken = true;
		while (*at != '\0')
		{
			size_t len = strcspn(at, ",");

			if (!parse_plant(at, len, counts))
				return answer_invalid(
					request, NULL, "plant",
					"plant is KIND:COUNT, with a kind of amount, missing, "
					"unknown, duplicate, fee, currency.");
			at += len;
			at += *at == ',' ? 1 : 0;
		}
	}
	for (int kind = 0; kind < PLANT_COUNT; kind++)
		*total += counts[kind];
	return params_known(request);
}

/* The file is Stripe's: of what others charged it says nothing. */
static bool
is_to_settle(const BalanceTx *tx)
{
	return tx->settlement == NONE && !balance_tx_is_payout(tx) &&
		   balance_tx_is_stripes(tx);
}

/* All that is in no settlement yet: charges, and what else moved money. */
static void
take_unsettled(Settlement *settlement)
{
	uint32_t first = book.first_unsettled;
	uint32_t end = book.balance_txs.count;

	while (first < end && !is_to_settle(book_balance_tx(first)))
		first++;
	book.first_unsettled = first;
	settlement->charges = xcalloc(end - first, sizeof(uint32_t));
	settlement->others = xcalloc(end - first, sizeof(uint32_t));
	for (uint32_t i = first; i < end; i++)
	{
		const BalanceTx *tx = book_balance_tx(i);

		if (!is_to_settle(tx))
			continue;
		if (tx->type == TX_CHARGE)
			settlement->charges[settlement->charge_count++] = tx->source;
		else
			settlement->others[settlement->other_count++] = i;
	}
}

static int
compare_plants(const void *a, const void *b)
{
	const Plant *x = a;
	const Plant *y = b;

	return (x->charge > y->charge) - (x->charge < y->charge);
}

/* Each difference gets a charge of its own, drawn from the seed. */
static void
plant_differences(Settlement *settlement, const int64_t *counts, int64_t total)
{
	uint32_t  n = settlement->charge_count;
	uint32_t *pool = xcalloc(n, sizeof(uint32_t));
	uint32_t  drawn = 0;

	memcpy(pool, settlement->charges, n * sizeof(uint32_t));
	settlement->plants = xcalloc((size_t) total, sizeof(Plant));
	for (int kind = PLANT_NOTHING + 1; kind < PLANT_COUNT; kind++)
	{
		for (int64_t i = 0; i < counts[kind]; i++)
		{
			Plant	*plant = &settlement->plants[drawn];
			uint32_t pick = drawn + (uint32_t) random_below(n - drawn);

			plant->kind = (uint8_t) kind;
			plant->charge = pool[pick];
			pool[pick] = pool[drawn++];
			random_id(plant->balance_tx_id, ID_SIZE, "txn_");
			random_id(plant->charge_id, ID_SIZE, "ch_");
			random_id(plant->intent_id, ID_SIZE, "pi_");
		}
	}
	settlement->plant_count = drawn;
	qsort(settlement->plants, drawn, sizeof(Plant), compare_plants);
	free(pool);
}

/* Of charges first, then of all else. */
static BalanceTx *
settled_tx(const Settlement *settlement, uint32_t index)
{
	if (index < settlement->charge_count)
		return book_balance_tx(
			book_charge(settlement->charges[index])->balance_tx);
	return book_balance_tx(
		settlement->others[index - settlement->charge_count]);
}

/* One automatic payout for each currency; when less than nothing, a debit. */
static void
pay_out(Settlement *settlement)
{
	size_t	 currencies = (size_t) currency_count();
	int64_t *net = xcalloc(currencies, sizeof(int64_t));
	bool	*used = xcalloc(currencies, sizeof(bool));
	uint32_t count = settlement->charge_count + settlement->other_count;

	for (uint32_t i = 0; i < count; i++)
	{
		BalanceTx *tx = settled_tx(settlement, i);

		tx->settlement = settlement->number;
		net[tx->currency] += tx->amount - tx->fee;
		used[tx->currency] = true;
	}
	settlement->payouts = xcalloc(currencies, sizeof(uint32_t));
	for (size_t i = 0; i < currencies; i++)
	{
		if (used[i])
			settlement->payouts[settlement->payout_count++] =
				payout_make_automatic(settlement->number, (int32_t) i, net[i])
					->number;
	}
	free(net);
	free(used);
}

/* Charges and, when there are any, the rest apart from them. */
static void
put_payout(Buf *b, const Settlement *settlement, const Payout *payout)
{
	int64_t	 counts[2] = { 0, 0 };
	int64_t	 gross[2] = { 0, 0 };
	int64_t	 fee[2] = { 0, 0 };
	uint32_t count = settlement->charge_count + settlement->other_count;

	for (uint32_t i = 0; i < count; i++)
	{
		const BalanceTx *tx = settled_tx(settlement, i);
		int				 part = i >= settlement->charge_count;

		if (tx->currency != payout->currency)
			continue;
		counts[part]++;
		gross[part] += tx->amount;
		fee[part] += tx->fee;
	}
	json_open(b, NULL, '{');
	json_str(b, "id", payout->id);
	json_str(b, "currency", currency_lower(payout->currency));
	json_int(b, "amount", payout->amount);
	json_int(b, "charges", counts[0]);
	json_int(b, "gross", gross[0]);
	json_int(b, "fee", fee[0]);
	json_int(b, "net", gross[0] - fee[0]);
	json_int(b, "others", counts[1]);
	json_int(b, "others_gross", gross[1]);
	json_int(b, "others_fee", fee[1]);
	json_int(b, "others_net", gross[1] - fee[1]);
	json_close(b, '}');
}

static void
put_line(Buf *b, const char *key, const SettlementLine *line)
{
	json_open(b, key, '{');
	json_str(b, "balance_transaction", line->balance_tx_id);
	json_str(b, "currency", currency_lower(line->currency));
	json_int(b, "gross", line->gross);
	json_int(b, "fee", line->fee);
	json_int(b, "net", line->gross - line->fee);
	json_close(b, '}');
}

/* Whom the difference is about, what is true and what the file states. */
static void
put_plant(Buf *b, const Settlement *settlement, const Plant *plant)
{
	SettlementLine truth;
	SettlementLine stated;

	settlement_line(settlement,
					book_balance_tx(book_charge(plant->charge)->balance_tx),
					&truth);
	stated = truth;
	settlement_line_falsify(&stated, plant);
	json_open(b, NULL, '{');
	json_str(b, "kind", plant_names[plant->kind]);
	json_str(b, "payment_order", stated.payment_order);
	json_str(b, "payment", stated.payment);
	json_str(b, "payment_intent", stated.intent_id);
	json_str(b, "charge", stated.charge_id);
	if (plant->kind == PLANT_UNKNOWN)
		json_null(b, "truth");
	else
		put_line(b, "truth", &truth);
	if (plant->kind == PLANT_MISSING)
		json_null(b, "stated");
	else
		put_line(b, "stated", &stated);
	json_close(b, '}');
}

static void
answer_settlement(Request *request, const Settlement *settlement)
{
	Buf	   *b = &request->answer.body;
	int64_t lines = settlement->charge_count + settlement->other_count;

	json_open(b, NULL, '{');
	json_str(b, "id", settlement->id);
	json_str(b, "object", "settlement");
	json_int(b, "created", settlement->created_ms / 1000);
	json_int(b, "charges", settlement->charge_count);
	json_int(b, "others", settlement->other_count);
	json_open(b, "payouts", '[');
	for (uint32_t i = 0; i < settlement->payout_count; i++)
		put_payout(b, settlement, book_payout(settlement->payouts[i]));
	json_close(b, ']');
	json_open(b, "planted", '[');
	for (uint32_t i = 0; i < settlement->plant_count; i++)
	{
		const Plant *plant = &settlement->plants[i];

		put_plant(b, settlement, plant);
		if (plant->kind == PLANT_MISSING)
			lines--;
		else if (plant->kind == PLANT_UNKNOWN ||
				 plant->kind == PLANT_DUPLICATE)
			lines++;
	}
	json_close(b, ']');
	json_int(b, "lines", lines);
	json_close(b, '}');
}

void
settlement_settle(Request *request)
{
	int64_t		counts[PLANT_COUNT] = { 0 };
	int64_t		total = 0;
	Settlement	taken = { 0 };
	Settlement *settlement;

	if (!take_plants(request, counts, &total))
		return;
	take_unsettled(&taken);
	if (total > taken.charge_count)
	{
		free(taken.charges);
		free(taken.others);
		answer_invalid(request, NULL, "plant",
					   "There are more differences to plant than charges to "
					   "settle (%u).",
					   taken.charge_count);
		return;
	}
	settlement = book_new_settlement();
	settlement->charges = taken.charges;
	settlement->charge_count = taken.charge_count;
	settlement->others = taken.others;
	settlement->other_count = taken.other_count;
	if (settlement->number > 0)
		settlement->tx_from = book_settlement(settlement->number - 1)->tx_to;
	pay_out(settlement);
	settlement->tx_to = book.balance_txs.count;
	plant_differences(settlement, counts, total);
	journal_settlement(settlement);
	answer_settlement(request, settlement);
}
