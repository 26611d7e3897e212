/*-------------------------------------------------------------------------
 *
 * exchange_line.h
 *	  What settlement lines tell of exchanges and fees that answers did not
 *	  tell, or told otherwise.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_EXCHANGE_LINE_H
#define PAYMENT_EXCHANGE_LINE_H

#include "utils/uuid.h"

/* Lock the orders that lines waiting for reconciliation tell exchanges of. */
extern void exchange_lines_lock(const pg_uuid_t *psp_id);

/*
 * Lines that are matched, as uuid[] or 0: what they tell is booked, in pages.
 * Those of charges first, so that refunds know what was exchanged.
 */
extern void exchange_lines_post(const pg_uuid_t *psp_id, Datum charges,
								Datum refunds);

/*
 * Fees that answers told and lines told again, each sum with its currency: the
 * lines' count.  The subject is the file, or the run that found their orders.
 */
typedef struct ToldFee
{
	char  currency[4];
	int64 fee;
} ToldFee;

extern void exchange_lines_take_fees_back(const pg_uuid_t *psp_id,
										  const pg_uuid_t *subject,
										  const ToldFee *fees, int count);

/* ... from text[] and bigint[], or 0 */
extern ToldFee *exchange_lines_fees(Datum currencies, Datum sums, int *count);

/* Has the PSP ever told a fee? */
extern bool exchange_lines_fees_told(const pg_uuid_t *psp_id);

/*
 * Of charges just imported, text[] and uuid[]: let go of the fees that were
 * told of their orders.
 */
extern ToldFee *exchange_lines_forget_fees(const pg_uuid_t *psp_id,
										   Datum references, Datum claimed,
										   int *count);

#endif /* PAYMENT_EXCHANGE_LINE_H */
