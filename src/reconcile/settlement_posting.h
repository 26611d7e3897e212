/*-------------------------------------------------------------------------
 *
 * settlement_posting.h
 *	  What settlement lines mean for the ledger.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_SETTLEMENT_POSTING_H
#define PAYMENT_SETTLEMENT_POSTING_H

#include "nodes/pg_list.h"
#include "utils/uuid.h"

#include "settlement/settlement.h"

/* of one file, one list element for each currency */
typedef struct SettlementPosting
{
	char  currency[4];
	int64 receivable; /* debit positive, as in the ledger */
	int64 fee;
	int64 in_transit;
} SettlementPosting;

/* add a line; repeated: the PSP has reported it before */
extern List *settlement_posting_add(List *postings, const SettlementLine *line,
									bool repeated);

/* post them, one journal for each currency */
extern void settlement_posting_post(List *postings, const pg_uuid_t *psp_id,
									const pg_uuid_t *file_id,
									const char		*file_name);

#endif /* PAYMENT_SETTLEMENT_POSTING_H */
