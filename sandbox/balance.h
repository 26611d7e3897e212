/*
 * balance.h
 *		The balance, the transactions it is made of, and charges by id.
 */
#ifndef SANDBOX_BALANCE_H
#define SANDBOX_BALANCE_H

#include "book.h"
#include "buf.h"
#include "request.h"

extern bool balance_prepare(Request *request);
extern void balance_get(Request *request);
extern bool balance_prepare_tx_list(Request *request);
extern void balance_tx_list(Request *request);
extern bool balance_prepare_tx(Request *request);
extern void balance_get_tx(Request *request);
extern bool balance_prepare_charge(Request *request);
extern void balance_get_charge(Request *request);

extern void balance_tx_json(Buf *b, const char *key, const BalanceTx *tx);

extern bool		   balance_tx_is_stripes(const BalanceTx *tx);
extern bool		   balance_tx_is_payout(const BalanceTx *tx);
extern const char *balance_tx_category(const BalanceTx *tx);
extern const char *balance_tx_source_id(const BalanceTx *tx);

/* The one it is about; not for those of payouts. */
extern const Charge *balance_tx_charge(const BalanceTx *tx);

#endif
