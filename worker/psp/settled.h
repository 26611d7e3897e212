/*-------------------------------------------------------------------------
 *
 * settled.h
 *	  What a PSP credits for what was charged, perhaps in another currency.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_PSP_SETTLED_H
#define PAYMENT_PSP_SETTLED_H

#include "psp/adapter.h"

/* minor units: sums of them must fit, too */
#define PSP_SETTLED_AMOUNT_MAX INT64CONST(10000000000000000)

typedef struct PspSettled
{
	char		currency[4];
	int64		amount; /* before the fee */
	bool		has_fee;
	int64		fee;
	const char *rate; /* as member_rate() gives it */
} PspSettled;

/*
 * A number or text member that is a decimal number above zero, without sign or
 * exponent; NULL when it is no such.
 */
extern char *member_rate(const JsonDocument *json, const JsonNode *object,
						 const char *name);

/*
 * Of money that moved the PSP says also this.  What does not fit the amount of
 * the outcome is about something else, or wrong: it is left unsaid, and the
 * settlement line will tell.
 */
extern void outcome_settled(PspOutcome *outcome, const PspSettled *settled);

#endif /* PAYMENT_PSP_SETTLED_H */
