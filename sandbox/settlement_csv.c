/*
 * settlement_csv.c
 *		A settlement in the vendor's itemised payout reconciliation layout.
 */
#include "settlement_line.h"

#include <stdlib.h>
#include <string.h>

#include "balance.h"
#include "csv.h"
#include "currency.h"
#include "payout.h"
#include "settlement.h"

#define ROWS_PER_FILL 500
#define FEE_TOO_HIGH 25

static const char *const columns[] = { "automatic_payout_id",
									   "automatic_payout_effective_at_utc",
									   "balance_transaction_id",
									   "created_utc",
									   "available_on_utc",
									   "currency",
									   "gross",
									   "fee",
									   "net",
									   "reporting_category",
									   "source_id",
									   "description",
									   "customer_facing_amount",
									   "customer_facing_currency",
									   "charge_id",
									   "payment_intent_id",
									   "payment_metadata[payment_order]",
									   "payment_metadata[payment]",
									   "trace_id" };

static const Payout *
automatic_payout(const Settlement *settlement, int32_t currency)
{
	for (uint32_t i = 0; i < settlement->payout_count; i++)
	{
		const Payout *payout = book_payout(settlement->payouts[i]);

		if (payout->currency == currency)
			return payout;
	}
	return NULL;
}

/* What the payer's side saw of it, in the currency of the charge. */
static int64_t
facing_amount(const BalanceTx *tx)
{
	switch ((BalanceTxType) tx->type)
	{
		case TX_CHARGE:
			return book_charge(tx->source)->amount_captured;
		case TX_REFUND:
			return -book_modification(tx->source)->amount;
		case TX_REFUND_FAILURE:
			return book_modification(tx->source)->amount;
		case TX_DISPUTE:
			return -book_dispute(tx->source)->amount;
		case TX_DISPUTE_REVERSAL:
			return book_dispute(tx->source)->amount;
		default:
			return tx->amount;
	}
}

void
settlement_line(const Settlement *settlement, const BalanceTx *tx,
				SettlementLine *line)
{
	const Charge *charge = balance_tx_charge(tx);
	const Intent *intent = book_intent(charge->intent);
	const Payout *payout = automatic_payout(settlement, tx->currency);

	line->payout_id = payout->id;
	line->trace_id = payout->id + strlen("po_");
	line->effective_ms = settlement->created_ms;
	line->balance_tx_id = tx->id;
	line->created_ms = tx->created_ms;
	line->currency = tx->currency;
	line->gross = tx->amount;
	line->facing_currency =
		tx->rate == 0 ? CURRENCY_UNKNOWN : charge->currency;
	line->facing_amount = tx->rate == 0 ? 0 : facing_amount(tx);
	line->fee = tx->fee;
	line->category = balance_tx_category(tx);
	line->source_id = balance_tx_source_id(tx);
	line->description = intent->description;
	line->charge_id = charge->id;
	line->intent_id = intent->id;
	line->payment_order = metadata_get(&intent->metadata, "payment_order");
	line->payment = metadata_get(&intent->metadata, "payment");
}

void
settlement_line_falsify(SettlementLine *line, const Plant *plant)
{
	switch ((PlantKind) plant->kind)
	{
		case PLANT_AMOUNT:
			line->gross++;
			break;
		case PLANT_FEE:
			line->fee += FEE_TOO_HIGH;
			break;
		case PLANT_CURRENCY:
			line->currency = currency_other(line->currency);
			break;
		case PLANT_DUPLICATE:
			line->balance_tx_id = plant->balance_tx_id;
			break;
		case PLANT_UNKNOWN:
			line->balance_tx_id = plant->balance_tx_id;
			line->source_id = plant->charge_id;
			line->charge_id = plant->charge_id;
			line->intent_id = plant->intent_id;
			line->description = NULL;
			line->payment_order = NULL;
			line->payment = NULL;
			break;
		case PLANT_NOTHING:
		case PLANT_MISSING:
		case PLANT_COUNT:
			break;
	}
}

static void
put_amount(Buf *b, int32_t currency, int64_t amount)
{
	char text[32];

	currency_major(text, sizeof(text), currency, amount);
	csv_field(b, text);
}

static void
put_facing(Buf *b, const SettlementLine *line)
{
	bool changed = line->facing_currency != CURRENCY_UNKNOWN;

	if (line->charge_id == NULL)
	{
		csv_field(b, NULL);
		csv_field(b, NULL);
		return;
	}
	put_amount(b, changed ? line->facing_currency : line->currency,
			   changed ? line->facing_amount : line->gross);
	csv_field(b, currency_lower(changed ? line->facing_currency
										: line->currency));
}

static void
put_line(CsvStream *stream, const SettlementLine *line)
{
	Buf		   *b = &stream->pending;
	const char *currency = currency_lower(line->currency);

	csv_field(b, line->payout_id);
	if (line->payout_id != NULL)
		csv_time(b, line->effective_ms);
	else
		csv_field(b, NULL);
	csv_field(b, line->balance_tx_id);
	csv_time(b, line->created_ms);
	csv_time(b, line->created_ms);
	csv_field(b, currency);
	put_amount(b, line->currency, line->gross);
	put_amount(b, line->currency, line->fee);
	put_amount(b, line->currency, line->gross - line->fee);
	csv_field(b, line->category);
	csv_field(b, line->source_id);
	csv_field(b, line->description);
	put_facing(b, line);
	csv_field(b, line->charge_id);
	csv_field(b, line->intent_id);
	csv_field(b, line->payment_order);
	csv_field(b, line->payment);
	csv_field(b, line->trace_id);
	csv_end(b, stream->crlf);
}

static const Plant *
find_plant(const Settlement *settlement, uint32_t charge)
{
	uint32_t low = 0;
	uint32_t high = settlement->plant_count;

	while (low < high)
	{
		uint32_t middle = low + (high - low) / 2;

		if (settlement->plants[middle].charge < charge)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < settlement->plant_count &&
		settlement->plants[low].charge == charge)
		return &settlement->plants[low];
	return NULL;
}

static void
put_charge(CsvStream *stream, const Settlement *settlement, uint32_t number)
{
	const Plant	  *plant = find_plant(settlement, number);
	SettlementLine line;

	settlement_line(settlement,
					book_balance_tx(book_charge(number)->balance_tx), &line);
	if (plant == NULL)
	{
		put_line(stream, &line);
		return;
	}
	if (plant->kind == PLANT_MISSING)
		return;
	if (plant->kind == PLANT_UNKNOWN || plant->kind == PLANT_DUPLICATE)
		put_line(stream, &line);
	settlement_line_falsify(&line, plant);
	put_line(stream, &line);
}

/* Payouts made by the API, and what came back of them. */
static void
put_payout_tx(CsvStream *stream, const BalanceTx *tx)
{
	const Payout  *payout;
	SettlementLine line = { 0 };

	if (!balance_tx_is_payout(tx) || !balance_tx_is_stripes(tx) ||
		payout_is_automatic(book_payout(tx->source)))
		return;
	payout = book_payout(tx->source);
	line.balance_tx_id = tx->id;
	line.created_ms = tx->created_ms;
	line.currency = tx->currency;
	line.gross = tx->amount;
	line.fee = tx->fee;
	line.category = balance_tx_category(tx);
	line.source_id = payout->id;
	line.description = payout->description;
	line.payment_order = metadata_get(&payout->metadata, "payment_order");
	line.payment = metadata_get(&payout->metadata, "payment");
	put_line(stream, &line);
}

/* Refunds and whatever else is no charge: never falsified. */
static void
put_other(CsvStream *stream, const Settlement *settlement, uint32_t number)
{
	SettlementLine line;

	settlement_line(settlement, book_balance_tx(number), &line);
	put_line(stream, &line);
}

static void
put_settled(CsvStream *stream, const Settlement *settlement, uint32_t index)
{
	if (index < settlement->charge_count)
		put_charge(stream, settlement, settlement->charges[index]);
	else
		put_other(stream, settlement,
				  settlement->others[index - settlement->charge_count]);
}

static bool
fill(CsvStream *stream)
{
	const Settlement *settlement = stream->source;
	uint64_t		  end;

	book_lock();
	end = stream->in_payouts
			  ? settlement->tx_to
			  : settlement->charge_count + settlement->other_count;
	for (int i = 0; i < ROWS_PER_FILL && stream->next < end; i++)
	{
		uint32_t next = (uint32_t) stream->next++;

		if (stream->in_payouts)
			put_payout_tx(stream, book_balance_tx(next));
		else
			put_settled(stream, settlement, next);
	}
	book_unlock();
	if (stream->next < end)
		return true;
	if (stream->in_payouts || !stream->with_payouts)
		return false;
	stream->in_payouts = true;
	stream->next = settlement->tx_from;
	return true;
}

static bool
take_flag(Request *request, const char *name)
{
	const char *value = form_take(request->params, name);

	return value != NULL && strcmp(value, "1") == 0;
}

static Settlement *
find_settlement(const char *id)
{
	if (strcmp(id, "latest") != 0)
		return book_find_settlement(id);
	if (book.settlements.count == 0)
		return NULL;
	return book_settlement(book.settlements.count - 1);
}

void
settlement_csv(Request *request)
{
	const char *id;
	bool		crlf = take_flag(request, "crlf");
	bool		bom = take_flag(request, "bom");
	bool		payouts = take_flag(request, "payouts");
	Settlement *settlement;
	CsvStream  *stream;

	if (!param_required(request, "settlement", &id) || !params_known(request))
		return;
	settlement = find_settlement(id);
	if (settlement == NULL)
	{
		answer_missing_object(request, "settlement", "settlement", id);
		return;
	}
	stream = xcalloc(1, sizeof(CsvStream));
	stream->fill = fill;
	stream->source = settlement;
	stream->crlf = crlf;
	stream->with_payouts = payouts;
	if (bom)
		buf_puts(&stream->pending, "\xEF\xBB\xBF");
	for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++)
		buf_printf(&stream->pending, "%s%s", i ? "," : "", columns[i]);
	csv_end(&stream->pending, crlf);
	request->answer.content_type = "text/csv; charset=utf-8";
	request->answer.stream = stream;
}
