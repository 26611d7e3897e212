/*-------------------------------------------------------------------------
 *
 * seller_money.h
 *	  From where a seller's part of money that goes back is taken, and where a
 *	  seller's credits go.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_SELLER_MONEY_H
#define PAYMENT_SELLER_MONEY_H

#include "utils/uuid.h"

/* parts of one amount */
typedef struct SellerMoney
{
	int64 available;
	int64 receivable; /* what the seller owes */
} SellerMoney;

/*
 * Both lock the seller's accounts first, so that nobody takes what they found
 * until the transaction ends.  Need an SPI connection.
 *
 * A debit takes what is available; the seller owes the rest.  A credit first
 * pays what the seller owes.
 */
extern SellerMoney seller_debit(const pg_uuid_t *seller_id,
								const char *currency, int64 amount);
extern SellerMoney seller_credit(const pg_uuid_t *seller_id,
								 const char *currency, int64 amount);

#endif /* PAYMENT_SELLER_MONEY_H */
