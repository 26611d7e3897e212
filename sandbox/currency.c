/*
 * currency.c
 *		Currencies by index into one table, sorted by code.
 */
#include "currency.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BASIS_POINTS_DEFAULT 290
#define BASIS_POINTS_ONE 10000

typedef struct Currency
{
	char	code[4];
	int		exponent;
	int64_t fee_fixed;
	int64_t fee_basis_points;
	int		settled_in;
	int64_t rate; /* of the whole units, in 1/RATE_ONE */
} Currency;

static const char codes[] =
	"aed2afn2all2amd2ang2aoa2ars2aud2awg2azn2bam2bbd2bdt2bgn2bhd3bif0bmd2bnd2"
	"bob2bov2brl2bsd2btn2bwp2byn2bzd2cad2cdf2che2chf2chw2clf4clp0cny2cop2cou2"
	"crc2cup2cve2czk2djf0dkk2dop2dzd2egp2ern2etb2eur2fjd2fkp2gbp2gel2ghs2gip2"
	"gmd2gnf0gtq2gyd2hkd2hnl2htg2huf2idr2ils2inr2iqd3irr2isk0jmd2jod3jpy0kes2"
	"kgs2khr2kmf0kpw2krw0kwd3kyd2kzt2lak2lbp2lkr2lrd2lsl2lyd3mad2mdl2mga2mkd2"
	"mmk2mnt2mop2mru2mur2mvr2mwk2mxn2mxv2myr2mzn2nad2ngn2nio2nok2npr2nzd2omr3"
	"pab2pen2pgk2php2pkr2pln2pyg0qar2ron2rsd2rub2rwf0sar2sbd2scr2sdg2sek2sgd2"
	"shp2sle2sos2srd2ssp2stn2svc2syp2szl2thb2tjs2tmt2tnd3top2try2ttd2twd2tzs2"
	"uah2ugx0usd2usn2uyi0uyu2uyw4uzs2ved2ves2vnd0vuv0wst2xaf0xcd2xof0xpf0yer2"
	"zar2zmw2zwl2";

#define CURRENCY_COUNT ((int) (sizeof(codes) / 4))

static Currency currencies[CURRENCY_COUNT];

static const struct
{
	const char *code;
	int64_t		fixed;
} default_fixed_fees[] = {
	{ "usd", 30 }, { "eur", 25 }, { "jpy", 30 }, { "kwd", 100 }
};

static const struct
{
	const char *code;
	int64_t		basis_points;
} default_basis_points[] = { { "eur", 150 }, { "jpy", 360 } };

static int
compare_code(const void *key, const void *element)
{
	return strcmp(key, ((const Currency *) element)->code);
}

static int
find_lower(const char *code)
{
	const Currency *found = bsearch(code, currencies, CURRENCY_COUNT,
									sizeof(Currency), compare_code);

	return found ? (int) (found - currencies) : CURRENCY_UNKNOWN;
}

static void __attribute__((constructor)) fill_table(void)
{
	for (int i = 0; i < CURRENCY_COUNT; i++)
	{
		memcpy(currencies[i].code, codes + 4 * i, 3);
		currencies[i].exponent = codes[4 * i + 3] - '0';
		currencies[i].fee_basis_points = BASIS_POINTS_DEFAULT;
		currencies[i].settled_in = i;
		currencies[i].rate = RATE_ONE;
	}
	for (size_t i = 0;
		 i < sizeof(default_fixed_fees) / sizeof(default_fixed_fees[0]); i++)
		currencies[find_lower(default_fixed_fees[i].code)].fee_fixed =
			default_fixed_fees[i].fixed;
	for (size_t i = 0;
		 i < sizeof(default_basis_points) / sizeof(default_basis_points[0]);
		 i++)
		currencies[find_lower(default_basis_points[i].code)].fee_basis_points =
			default_basis_points[i].basis_points;
}

int
currency_find(const char *code)
{
	char lower[4] = "";

	if (strlen(code) != 3)
		return CURRENCY_UNKNOWN;
	for (int i = 0; i < 3; i++)
		lower[i] = (char) tolower((unsigned char) code[i]);
	return find_lower(lower);
}

int
currency_count(void)
{
	return CURRENCY_COUNT;
}

const char *
currency_lower(int currency)
{
	return currencies[currency].code;
}

void
currency_upper(char code[4], int currency)
{
	for (int i = 0; i < 4; i++)
		code[i] = (char) toupper((unsigned char) currencies[currency].code[i]);
}

int
currency_exponent(int currency)
{
	return currencies[currency].exponent;
}

int
currency_other(int currency)
{
	static const char *const choices[] = { "eur", "usd", "jpy", "krw",
										   "kwd", "bhd", "clf", "uyw" };

	for (size_t i = 0; i < sizeof(choices) / sizeof(choices[0]); i++)
	{
		int other = find_lower(choices[i]);

		if (other != currency &&
			currencies[other].exponent == currencies[currency].exponent)
			return other;
	}
	return currency;
}

bool
currency_set_fee(const char *setting)
{
	char	  code[4];
	long long fixed;
	long long basis_points;
	int		  end = 0;
	int		  currency;

	if (sscanf(setting, "%3[A-Za-z]=%12lld,%6lld%n", code, &fixed,
			   &basis_points, &end) != 3 ||
		setting[end] != '\0')
		return false;
	currency = currency_find(code);
	if (currency == CURRENCY_UNKNOWN || fixed < 0 || basis_points < 0 ||
		basis_points > BASIS_POINTS_ONE)
		return false;
	currencies[currency].fee_fixed = fixed;
	currencies[currency].fee_basis_points = basis_points;
	return true;
}

/* "1.0845", with up to eight decimals; 0 when it is no such number. */
static int64_t
parse_rate(const char *text)
{
	size_t whole = strspn(text, "0123456789");
	size_t part =
		text[whole] == '.' ? strspn(text + whole + 1, "0123456789") : 0;
	int64_t rate;

	if (whole == 0 || whole > 6 || part > 8 ||
		text[whole + (text[whole] == '.' ? 1 + part : 0)] != '\0')
		return 0;
	rate = strtoll(text, NULL, 10) * RATE_ONE;
	if (part > 0)
	{
		int64_t fraction = strtoll(text + whole + 1, NULL, 10);

		for (size_t i = part; i < 8; i++)
			fraction *= 10;
		rate += fraction;
	}
	return rate;
}

bool
currency_set_settlement(const char *setting)
{
	char from_code[4];
	char to_code[4];
	int	 end = 0;
	int	 from;
	int	 to;

	if (sscanf(setting, "%3[A-Za-z]=%3[A-Za-z]:%n", from_code, to_code,
			   &end) != 2 ||
		end == 0)
		return false;
	from = currency_find(from_code);
	to = currency_find(to_code);
	if (from == CURRENCY_UNKNOWN || to == CURRENCY_UNKNOWN || from == to ||
		parse_rate(setting + end) == 0)
		return false;
	currencies[from].settled_in = to;
	currencies[from].rate = parse_rate(setting + end);
	return true;
}

int
currency_settled_in(int currency)
{
	return currencies[currency].settled_in;
}

int64_t
currency_rate(int currency)
{
	return currencies[currency].rate;
}

int64_t
currency_settle(int currency, int64_t amount)
{
	int shift = currencies[currencies[currency].settled_in].exponent -
				currencies[currency].exponent;
	__int128 product = (__int128) amount * currencies[currency].rate;
	__int128 one = RATE_ONE;
	__int128 share;
	__int128 twice;

	for (; shift > 0; shift--)
		product *= 10;
	for (; shift < 0; shift++)
		one *= 10;
	share = product / one;
	twice = product % one * 2;
	if (twice > one || (twice == one && share % 2 == 1))
		share++;
	else if (twice < -one || (twice == -one && share % 2 == -1))
		share--;
	return (int64_t) share;
}

int64_t
currency_fee(int currency, int64_t amount)
{
	int64_t product = amount * currencies[currency].fee_basis_points;
	int64_t share = product / BASIS_POINTS_ONE;
	int64_t twice = product % BASIS_POINTS_ONE * 2;

	if (twice > BASIS_POINTS_ONE ||
		(twice == BASIS_POINTS_ONE && share % 2 == 1))
		share++;
	return currencies[currency].fee_fixed + share;
}

void
currency_major(char *out, size_t size, int currency, int64_t amount)
{
	int			exponent = currencies[currency].exponent;
	int64_t		unit = 1;
	int64_t		magnitude = amount < 0 ? -amount : amount;
	const char *sign = amount < 0 ? "-" : "";

	for (int i = 0; i < exponent; i++)
		unit *= 10;
	if (exponent == 0)
		snprintf(out, size, "%s%" PRId64, sign, magnitude);
	else
		snprintf(out, size, "%s%" PRId64 ".%0*" PRId64, sign, magnitude / unit,
				 exponent, magnitude % unit);
}
