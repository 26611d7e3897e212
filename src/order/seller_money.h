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

typedef struct SellerKey
{
	pg_uuid_t	seller_id;
	const char *currency;
} SellerKey;

/*
 * Who moves the money of several sellers in one transaction locks them first,
 * all at once: two that began with different ones would wait for each other.
 */
extern void sellers_lock(SellerKey *sellers, int count);

/*
 * Both lock the seller's accounts first, so that nobody takes what they found
 * until the transaction ends.  Need an SPI connection.
 *
 * A debit takes what is available, less what is held and what will have been
 * taken before it is posted; the seller owes the rest.  A credit first pays what the seller owes.
 */
extern SellerMoney seller_debit(const pg_uuid_t *seller_id,
								const char *currency, int64 amount,
								int64 taken_before);
extern SellerMoney seller_credit(const pg_uuid_t *seller_id,
								 const char *currency, int64 amount);

#endif /* PAYMENT_SELLER_MONEY_H */
