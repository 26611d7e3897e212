/*-------------------------------------------------------------------------
 *
 * dispute.h
 *	  Disputes: money of an order that its payer's bank wants back.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_DISPUTE_H
#define PAYMENT_DISPUTE_H

#include "order/evidence.h"
#include "order/subject.h"
#include "psp/psp.h"

/* What a PSP says of a dispute, which may not be known here yet */
typedef struct DisputeReport
{
	pg_uuid_t		order_id;
	pg_uuid_t		psp_id;
	const char	   *psp_reference; /* its name of the dispute */
	int64			amount;
	const char	   *currency;
	PspDispute		said;
	TransitionCause cause;

	/* answers */
	EvidenceEffect effect;
	pg_uuid_t	   dispute_id; /* when applied, or known already */
	bool		   is_known;
} DisputeReport;

/*
 * Take them in, in the given order: statuses with their history, what is held
 * of the seller and given back, exceptions, journals.  What cannot be true
 * opens an exception, posts nothing and raises no error.
 */
extern void disputes_apply(DisputeReport *reports, int count);

/* ---- for the files about disputes ---- */

typedef struct Dispute
{
	pg_uuid_t	id;
	pg_uuid_t	order_id;
	pg_uuid_t	seller_id;
	pg_uuid_t	psp_id;
	int64		amount;
	const char *currency;
	const char *psp_reference;
	const char *reason;		/* or NULL */
	TimestampTz respond_by; /* 0: not said */
	StatusPath	path;		/* first is NULL: it is new */

	/* the PSP has the money, and where it comes from */
	bool  is_taken;
	int64 from_pending;
	int64 from_available;
	int64 from_receivable;
	int64 fee_share;
	int64 platform_loss;

	int64		fee; /* that the PSP charged, in all */
	const char *fee_currency;
	int64		sequence;
} Dispute;

/* dispute_status.c: in memory */
extern bool dispute_is(const Dispute *dispute, const char *status);
extern bool dispute_is_inquiry(const Dispute *dispute);
extern bool dispute_is_open(const Dispute *dispute); /* and no inquiry */
extern void dispute_begin(Dispute *dispute, const PspDispute *said,
						  TransitionCause cause);

typedef enum DisputeMove
{
	DISPUTE_OVERTAKEN,	/* it is over, and this is not newer: no effect */
	DISPUTE_FOLLOWED,	/* it stands as the PSP says, or better known */
	DISPUTE_UNREACHABLE /* no way leads to where the PSP says it is */
} DisputeMove;

extern DisputeMove dispute_follow(Dispute *dispute, const PspDispute *said,
								  TransitionCause cause);

/* what we have answered, as long as it is open; whether it is news */
extern bool dispute_answer(Dispute *dispute, const char *status,
						   TransitionCause cause);

/* dispute_money.c: books of order and dispute, and journals */
extern void dispute_move_money(Dispute *dispute, Subject *order, bool taken,
							   bool was_lost);
extern void dispute_charge_fee(Dispute *dispute, const PspDispute *said,
							   bool takes);

/* dispute_row.c */
/* of an order: what its PSP has taken that neither seller nor platform gave */
extern int64 dispute_borne(const pg_uuid_t *order_id);
extern bool	 dispute_read(Dispute *dispute, const pg_uuid_t *id);
extern void	 dispute_insert(const Dispute *dispute, TransitionCause cause);
extern void	 dispute_write(const Dispute *dispute, TransitionCause cause);

#endif /* PAYMENT_DISPUTE_H */
