/*-------------------------------------------------------------------------
 *
 * exception.h
 *	  Differences that people work off.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_EXCEPTION_H
#define PAYMENT_EXCEPTION_H

#include "utils/uuid.h"

typedef struct ExceptionReport
{
	const char		*type; /* amount, currency, late_success, ... */
	const pg_uuid_t *psp_id;
	const pg_uuid_t *order_id; /* or NULL */
	const pg_uuid_t *line_id;  /* or NULL */
	const char		*currency; /* or NULL */
	bool			 has_amounts;
	int64			 expected_amount;
	int64			 actual_amount;
	bool			 in_ledger;
	const char		*detail; /* a sentence for people; the same one: no news */
} ExceptionReport;

/*
 * Open an exception.  One that is already there for the same type, order and
 * line takes a new sentence in: closed, it opens again with these amounts; open,
 * charges add up and other amounts are the latest.  What was proposed for it
 * has to be proposed anew.
 */
extern void exception_open(const ExceptionReport *report);

/*
 * The outcome of an order or payout stays unknown after every lookup: open an
 * exception for people, or open it again.
 */
extern void exception_open_unknown(const ExceptionReport *report);

/* ... and now it is known: close those that nobody has begun to work on */
extern void exception_close_unknown(Datum object_ids);

#endif /* PAYMENT_EXCEPTION_H */
