/*
 * settlement_line.h
 *		One line of a settlement file, true or falsified.
 */
#ifndef SANDBOX_SETTLEMENT_LINE_H
#define SANDBOX_SETTLEMENT_LINE_H

#include "book.h"

typedef struct SettlementLine
{
	const char *payout_id; /* NULL: in no automatic payout */
	const char *trace_id;
	int64_t		effective_ms;
	const char *balance_tx_id;
	int64_t		created_ms;
	int32_t		currency;
	int64_t		gross;
	int32_t		facing_currency; /* the payer's, when it is another */
	int64_t		facing_amount;
	int64_t		fee;
	const char *category;
	const char *source_id;
	const char *description;
	const char *charge_id;
	const char *intent_id;
	const char *payment_order;
	const char *payment;
} SettlementLine;

/* The truth about what was settled. */
extern void settlement_line(const Settlement *settlement, const BalanceTx *tx,
							SettlementLine *line);

/* Turns the truth into what the planted difference states. */
extern void settlement_line_falsify(SettlementLine *line, const Plant *plant);

#endif
