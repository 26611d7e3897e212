/*-------------------------------------------------------------------------
 *
 * money.c
 *	  ISO 4217 currencies and exact arithmetic on minor units.
 *
 * Rounding is half-even everywhere.  Products are formed in 128 bits, so that
 * the only overflow there is, is a result that does not fit.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "argument.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "errcodes.h"
#include "fmgr.h"
#include "money.h"
#include "utils/array.h"
#include "utils/builtins.h"

#ifndef HAVE_INT128
#error "payment needs a compiler with 128-bit integers"
#endif

#define MAX_SPLIT_PARTS 10000

typedef struct Currency
{
	char code[CURRENCY_CODE_LENGTH + 1];
	int8 exponent;
} Currency;

/*
 * Every code of ISO 4217 that has a minor unit and is in use.  Metals, testing
 * and "no currency" codes have none and are no money here.  Sorted by code.
 */
/* clang-format off */
static const Currency currencies[] = {
	{"AED", 2}, {"AFN", 2}, {"ALL", 2}, {"AMD", 2}, {"AOA", 2}, {"ARS", 2},
	{"AUD", 2}, {"AWG", 2}, {"AZN", 2}, {"BAM", 2}, {"BBD", 2}, {"BDT", 2},
	{"BGN", 2}, {"BHD", 3}, {"BIF", 0}, {"BMD", 2}, {"BND", 2}, {"BOB", 2},
	{"BOV", 2}, {"BRL", 2}, {"BSD", 2}, {"BTN", 2}, {"BWP", 2}, {"BYN", 2},
	{"BZD", 2}, {"CAD", 2}, {"CDF", 2}, {"CHE", 2}, {"CHF", 2}, {"CHW", 2},
	{"CLF", 4}, {"CLP", 0}, {"CNY", 2}, {"COP", 2}, {"COU", 2}, {"CRC", 2},
	{"CUP", 2}, {"CVE", 2}, {"CZK", 2}, {"DJF", 0}, {"DKK", 2}, {"DOP", 2},
	{"DZD", 2}, {"EGP", 2}, {"ERN", 2}, {"ETB", 2}, {"EUR", 2}, {"FJD", 2},
	{"FKP", 2}, {"GBP", 2}, {"GEL", 2}, {"GHS", 2}, {"GIP", 2}, {"GMD", 2},
	{"GNF", 0}, {"GTQ", 2}, {"GYD", 2}, {"HKD", 2}, {"HNL", 2}, {"HTG", 2},
	{"HUF", 2}, {"IDR", 2}, {"ILS", 2}, {"INR", 2}, {"IQD", 3}, {"IRR", 2},
	{"ISK", 0}, {"JMD", 2}, {"JOD", 3}, {"JPY", 0}, {"KES", 2}, {"KGS", 2},
	{"KHR", 2}, {"KMF", 0}, {"KPW", 2}, {"KRW", 0}, {"KWD", 3}, {"KYD", 2},
	{"KZT", 2}, {"LAK", 2}, {"LBP", 2}, {"LKR", 2}, {"LRD", 2}, {"LSL", 2},
	{"LYD", 3}, {"MAD", 2}, {"MDL", 2}, {"MGA", 2}, {"MKD", 2}, {"MMK", 2},
	{"MNT", 2}, {"MOP", 2}, {"MRU", 2}, {"MUR", 2}, {"MVR", 2}, {"MWK", 2},
	{"MXN", 2}, {"MXV", 2}, {"MYR", 2}, {"MZN", 2}, {"NAD", 2}, {"NGN", 2},
	{"NIO", 2}, {"NOK", 2}, {"NPR", 2}, {"NZD", 2}, {"OMR", 3}, {"PAB", 2},
	{"PEN", 2}, {"PGK", 2}, {"PHP", 2}, {"PKR", 2}, {"PLN", 2}, {"PYG", 0},
	{"QAR", 2}, {"RON", 2}, {"RSD", 2}, {"RUB", 2}, {"RWF", 0}, {"SAR", 2},
	{"SBD", 2}, {"SCR", 2}, {"SDG", 2}, {"SEK", 2}, {"SGD", 2}, {"SHP", 2},
	{"SLE", 2}, {"SOS", 2}, {"SRD", 2}, {"SSP", 2}, {"STN", 2}, {"SVC", 2},
	{"SYP", 2}, {"SZL", 2}, {"THB", 2}, {"TJS", 2}, {"TMT", 2}, {"TND", 3},
	{"TOP", 2}, {"TRY", 2}, {"TTD", 2}, {"TWD", 2}, {"TZS", 2}, {"UAH", 2},
	{"UGX", 0}, {"USD", 2}, {"USN", 2}, {"UYI", 0}, {"UYU", 2}, {"UYW", 4},
	{"UZS", 2}, {"VED", 2}, {"VES", 2}, {"VND", 0}, {"VUV", 0}, {"WST", 2},
	{"XAF", 0}, {"XCD", 2}, {"XCG", 2}, {"XOF", 0}, {"XPF", 0}, {"YER", 2},
	{"ZAR", 2}, {"ZMW", 2}, {"ZWG", 2},
};
/* clang-format on */

PG_FUNCTION_INFO_V1(payment_currency_exponent);
PG_FUNCTION_INFO_V1(payment_format_money);
PG_FUNCTION_INFO_V1(payment_parse_money);
PG_FUNCTION_INFO_V1(payment_split_money);

static int
compare_currency(const void *key, const void *element)
{
	return strcmp((const char *) key, ((const Currency *) element)->code);
}

int
currency_exponent(const char *code)
{
	const Currency *found;

	found = bsearch(code, currencies, lengthof(currencies), sizeof(Currency),
					compare_currency);
	return found == NULL ? -1 : found->exponent;
}

void
currency_check(const char *code)
{
	if (currency_exponent(code) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_CURRENCY),
				 errmsg("unknown currency \"%.16s\"", code),
				 errdetail("ISO 4217 has no such code in use with a minor "
						   "unit."),
				 errhint("Pass three upper-case letters, as in EUR.")));
}

static void
pg_attribute_noreturn() raise_overflow(void)
{
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_AMOUNT_OVERFLOW),
					errmsg("amount out of range"),
					errdetail("An amount is a signed 64-bit count of minor "
							  "units."),
					errhint("Split the sum over several amounts.")));
}

int64
money_add(int64 a, int64 b)
{
	int64 sum;

	if (pg_add_s64_overflow(a, b, &sum))
		raise_overflow();
	return sum;
}

int64
money_negate(int64 a)
{
	if (a == PG_INT64_MIN)
		raise_overflow();
	return -a;
}

int64
money_from_int128(int128 sum)
{
	if (sum < PG_INT64_MIN || sum > PG_INT64_MAX)
		raise_overflow();
	return (int64) sum;
}

/* dividend / divisor, half-even; divisor > 0 */
static int128
divide_half_even(int128 dividend, int128 divisor)
{
	int128 quotient = dividend / divisor;
	int128 twice = (dividend % divisor) * 2;

	if (twice < 0)
		twice = -twice;
	if (twice > divisor || (twice == divisor && quotient % 2 != 0))
		quotient += dividend < 0 ? -1 : 1;
	return quotient;
}

int64
money_basis_points(int64 amount, int32 basis_points)
{
	return money_from_int128(
		divide_half_even((int128) amount * basis_points, 10000));
}

int64
money_share(int64 amount, int64 part, int64 whole)
{
	Assert(part >= 0 && part <= whole && whole > 0);
	return (int64) divide_half_even((int128) amount * part, whole);
}

/* sum of the weights; *last is the last one that is not zero */
static int128
total_weight(const int64 *weights, int count, int *last)
{
	int128 total = 0;

	for (int i = 0; i < count; i++)
	{
		if (weights[i] < 0)
			ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
							errmsg("weight %d of a split is negative", i + 1),
							errdetail("It is " INT64_FORMAT ".", weights[i]),
							errhint("Weights are zero or more.")));
		total += weights[i];
		if (weights[i] > 0)
			*last = i;
	}
	if (total == 0)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("a split needs a weight above zero"),
						errdetail("%d weights were given, each zero.", count),
						errhint("Give at least one part a weight.")));
	return total;
}

/*
 * A part is never larger than what is left: rounding up many small parts must
 * not make the last one change its sign.  A part of weight zero is zero, also
 * when it is the last.
 */
void
money_split(int64 amount, const int64 *weights, int count, int64 *parts)
{
	int	   last = 0;
	int128 total = total_weight(weights, count, &last);
	int64  left = amount;

	for (int i = 0; i < count; i++)
	{
		int128 part = left;

		if (i != last)
			part = divide_half_even((int128) amount * weights[i], total);
		if (amount >= 0 ? part > left : part < left)
			part = left;
		parts[i] = (int64) part;
		left -= parts[i];
	}
	Assert(left == 0);
}

/* append a digit to a number kept negative, which reaches INT64_MIN too */
static bool
append_digit(int64 *negative, char digit)
{
	return !pg_mul_s64_overflow(*negative, 10, negative) &&
		   !pg_sub_s64_overflow(*negative, digit - '0', negative);
}

bool
money_parse(const char *text, int length, int exponent, int64 *amount,
			bool *overflow)
{
	const char *end = text + length;
	bool		negative = false;
	bool		fits = true;
	int			decimals = 0;
	int64		value = 0;
	const char *digits;

	*overflow = false;
	if (text < end && *text == '-')
	{
		negative = true;
		text++;
	}

	for (digits = text; text < end && *text >= '0' && *text <= '9'; text++)
		fits = fits && append_digit(&value, *text);
	if (text == digits)
		return false;

	if (text < end && *text == '.')
	{
		for (digits = ++text; text < end && *text >= '0' && *text <= '9';
			 text++)
		{
			if (decimals == exponent && *text != '0')
				return false;
			if (decimals == exponent)
				continue;
			decimals++;
			fits = fits && append_digit(&value, *text);
		}
		if (text == digits)
			return false;
	}
	if (text != end)
		return false;

	for (; decimals < exponent; decimals++)
		fits = fits && append_digit(&value, '0');
	if (!fits || (!negative && value == PG_INT64_MIN))
	{
		*overflow = true;
		return false;
	}
	*amount = negative ? value : -value;
	return true;
}

char *
money_format(int64 amount, int exponent, char *buffer)
{
	/* the magnitude as unsigned, because that of INT64_MIN has no signed one */
	uint64 magnitude = amount < 0 ? 0 - (uint64) amount : (uint64) amount;
	uint64 unit = 1;

	for (int i = 0; i < exponent; i++)
		unit *= 10;
	if (exponent == 0)
		snprintf(buffer, MONEY_TEXT_SIZE, "%s" UINT64_FORMAT,
				 amount < 0 ? "-" : "", magnitude);
	else
		snprintf(buffer, MONEY_TEXT_SIZE,
				 "%s" UINT64_FORMAT ".%0*" INT64_MODIFIER "u",
				 amount < 0 ? "-" : "", magnitude / unit, exponent,
				 magnitude % unit);
	return buffer;
}

/* exponent of the currency in an argument, which must be known */
static int
exponent_argument(FunctionCallInfo fcinfo, int argument)
{
	char *code;

	refuse_null(fcinfo, argument, "currency");
	code = text_to_cstring(PG_GETARG_TEXT_PP(argument));
	currency_check(code);
	return currency_exponent(code);
}

Datum
payment_currency_exponent(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(exponent_argument(fcinfo, 0));
}

Datum
payment_format_money(PG_FUNCTION_ARGS)
{
	char buffer[MONEY_TEXT_SIZE];

	refuse_null(fcinfo, 0, "amount");
	PG_RETURN_TEXT_P(
		cstring_to_text(money_format(PG_GETARG_INT64(0),
									 exponent_argument(fcinfo, 1), buffer)));
}

Datum
payment_parse_money(PG_FUNCTION_ARGS)
{
	text *value;
	int	  exponent = exponent_argument(fcinfo, 1);
	int64 amount;
	bool  overflow;

	refuse_null(fcinfo, 0, "amount");
	value = PG_GETARG_TEXT_PP(0);
	if (money_parse(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), exponent,
					&amount, &overflow))
		PG_RETURN_INT64(amount);
	if (overflow)
		raise_overflow();
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_INVALID_AMOUNT),
			 errmsg("not an amount of this currency"),
			 errdetail("The currency has %d decimals.", exponent),
			 errhint("Write major units with a point as decimal mark and no "
					 "grouping, as in -1234.50.")));
}

Datum
payment_split_money(PG_FUNCTION_ARGS)
{
	ArrayType *weights;
	int		   count;
	int64	  *parts;
	Datum	  *result;

	refuse_null(fcinfo, 0, "amount");
	refuse_null(fcinfo, 1, "weights");
	weights = PG_GETARG_ARRAYTYPE_P(1);
	if (ARR_NDIM(weights) != 1 || array_contains_nulls(weights))
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
				 errmsg("weights must be a list of numbers"),
				 errdetail("The array is empty, has several dimensions or "
						   "holds a null."),
				 errhint("Pass one weight for each part.")));
	count = ARR_DIMS(weights)[0];
	if (count > MAX_SPLIT_PARTS)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_LIMIT_EXCEEDED),
						errmsg("too many parts in a split"),
						errdetail("%d were given, the limit is %d.", count,
								  MAX_SPLIT_PARTS),
						errhint("Split in several steps.")));

	parts = palloc(sizeof(int64) * count);
	money_split(PG_GETARG_INT64(0), (int64 *) ARR_DATA_PTR(weights), count,
				parts);
	result = palloc(sizeof(Datum) * count);
	for (int i = 0; i < count; i++)
		result[i] = Int64GetDatum(parts[i]);
	PG_RETURN_ARRAYTYPE_P(construct_array(result, count, INT8OID,
										  sizeof(int64), FLOAT8PASSBYVAL,
										  TYPALIGN_DOUBLE));
}
