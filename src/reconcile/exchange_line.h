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
 * Fees that answers told and lines told again, as text[] and bigint[] or 0:
 * the lines' count.
 */
extern void exchange_lines_take_fees_back(const pg_uuid_t *psp_id,
										  const pg_uuid_t *run_id,
										  Datum currencies, Datum fees);

#endif /* PAYMENT_EXCHANGE_LINE_H */
