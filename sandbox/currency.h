/*
 * currency.h
 *		ISO 4217 currencies, what a charge costs in each, and major units.
 */
#ifndef SANDBOX_CURRENCY_H
#define SANDBOX_CURRENCY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CURRENCY_UNKNOWN (-1)

extern int		   currency_find(const char *code); /* in any case */
extern int		   currency_count(void);
extern const char *currency_lower(int currency);

/* Writes the code in capitals. */
extern void currency_upper(char code[4], int currency);

extern int currency_exponent(int currency);

/* Another currency with the same exponent. */
extern int currency_other(int currency);

/* "USD=30,290": fixed part in minor units, then basis points. */
extern bool currency_set_fee(const char *setting);

/* "eur=usd:1.0845": what is charged in one is settled in another. */
extern bool currency_set_settlement(const char *setting);

/* What it is settled in, and for how many (1: itself, RATE_ONE) of them. */
#define RATE_ONE INT64_C(100000000)
extern int	   currency_settled_in(int currency);
extern int64_t currency_rate(int currency);

/* An amount at its rate in the currency it is settled in, half-even. */
extern int64_t currency_settle(int currency, int64_t amount);

/* Fixed part plus the half-even rounded share, in minor units. */
extern int64_t currency_fee(int currency, int64_t amount);

/* Major units with exactly the currency's decimals. */
extern void currency_major(char *out, size_t size, int currency,
						   int64_t amount);

#endif
