/*-------------------------------------------------------------------------
 *
 * money.h
 *	  ISO 4217 currencies and exact arithmetic on minor units.
 *
 * An amount is a signed 64-bit count of minor units and never travels without
 * its currency.  Nothing here rounds silently and nothing wraps: what does not
 * fit raises PY004.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_MONEY_H
#define PAYMENT_MONEY_H

#define CURRENCY_CODE_LENGTH 3

/* decimals of the currency (0, 2, 3 or 4), or -1 when ISO 4217 has none such */
extern int currency_exponent(const char *code);

/* raises PY002 unless code is an upper-case ISO 4217 code in use */
extern void currency_check(const char *code);

/* raise PY004 on overflow */
extern int64 money_add(int64 a, int64 b);
extern int64 money_negate(int64 a);
extern int64 money_from_int128(int128 sum);

/* amount * basis_points / 10000, half-even; exact for every int64 amount */
extern int64 money_basis_points(int64 amount, int32 basis_points);

/* amount * part / whole, half-even; 0 <= part <= whole, whole > 0 */
extern int64 money_share(int64 amount, int64 part, int64 whole);

/*
 * Split amount into count parts by weights: each is rounded half-even, and the
 * last one whose weight is not zero takes the remainder, so that the parts sum
 * to amount.  No part ever has the other sign.  Raises PY001 on negative
 * weights and when all are zero.
 */
extern void money_split(int64 amount, const int64 *weights, int count,
						int64 *parts);

/*
 * Parse "-12.34" (major units, '.' as decimal mark, at most the currency's
 * decimals that are not zero) into minor units.  Returns false when the text
 * is not such a number or does not fit; *overflow says which.  Never raises,
 * so that pure parsers can use it.
 */
extern bool money_parse(const char *text, int length, int exponent,
						int64 *amount, bool *overflow);

/* writes "-12.34"; buffer of MONEY_TEXT_SIZE bytes */
#define MONEY_TEXT_SIZE 32
extern char *money_format(int64 amount, int exponent, char *buffer);

#endif /* PAYMENT_MONEY_H */
