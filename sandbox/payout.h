/*
 * payout.h
 *		Payouts: made by the API, or automatic ones made by a settlement.
 */
#ifndef SANDBOX_PAYOUT_H
#define SANDBOX_PAYOUT_H

#include "book.h"
#include "request.h"

extern bool payout_prepare_create(Request *request);
extern void payout_create(Request *request);
extern bool payout_prepare_get(Request *request);
extern void payout_get(Request *request);
extern bool payout_prepare_list(Request *request);
extern void payout_list(Request *request);
extern bool payout_prepare_cancel(Request *request);
extern void payout_cancel(Request *request);

/* Puts a new payout on its way; the caller has filled in the rest of it. */
extern void payout_start(Request *request, Payout *payout, int64_t amount,
						 int currency);

/* Called when a payout's next status is due. */
extern void payout_move_on(Payout *payout);

extern bool		   payout_is_automatic(const Payout *payout);
extern void		   payout_json(Buf *b, const Payout *payout);
extern const char *payout_status(const Payout *payout);

/* A payout that is paid at once; negative amounts are debits. */
extern Payout *payout_make_automatic(uint32_t settlement, int32_t currency,
									 int64_t amount);

#endif
