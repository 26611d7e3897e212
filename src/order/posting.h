/*-------------------------------------------------------------------------
 *
 * posting.h
 *	  Journals of business events, written down by account code and owner and
 *	  posted together.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_ORDER_POSTING_H
#define PAYMENT_ORDER_POSTING_H

#include "ledger/ledger.h"
#include "money.h"

#define POSTING_MAX_LEGS 6

typedef struct PostingLeg
{
	AccountCode		 code;
	const pg_uuid_t *owner;	   /* NULL: the platform */
	int64			 amount;   /* debit > 0, credit < 0; 0: left away */
	const char		*currency; /* NULL: the posting's */
} PostingLeg;

typedef struct Posting
{
	const char *kind;
	pg_uuid_t	subject;
	char		currency[CURRENCY_CODE_LENGTH + 1];
	PostingLeg	legs[POSTING_MAX_LEGS];
	int			leg_count;
} Posting;

/*
 * Post one journal for each, with one call of the ledger.  The accounts are
 * found, or made, in one order in every transaction.
 */
extern void posting_post(const Posting *postings, int count);

#endif /* PAYMENT_ORDER_POSTING_H */
