/*-------------------------------------------------------------------------
 *
 * settled.c
 *	  What a PSP credits for what was charged, perhaps in another currency.
 *
 * An answer may show what was settled of another capture, or of all of them
 * together.  So amounts have to fit: in one currency they are equal, in two
 * they differ by the rate, as far as rounding and the PSP's own margin go.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "money.h"
#include "psp/settled.h"

#define RATE_LENGTH_MAX 32
#define RATE_DIGITS 15 /* those behind change no amount */
#define RATE_DECIMALS 18
#define RATE_MISFIT_PART 20

char *
member_rate(const JsonDocument *json, const JsonNode *object, const char *name)
{
	const JsonNode *node = json_member(json, object, name);
	char		   *text = json_string(json, node);
	int				digits = 0;
	int				points = 0;
	bool			is_zero = true;

	if (node && node->type == JSON_NUMBER)
		text = pnstrdup(json->text + node->start, node->length);
	if (text == NULL || strlen(text) > RATE_LENGTH_MAX)
		return NULL;
	for (const char *c = text; *c; c++)
	{
		if (*c == '.' && digits > 0 && c[1] != '\0')
			points++;
		else if (*c < '0' || *c > '9')
			return NULL;
		else
			digits++;
		if (*c > '0')
			is_zero = false;
	}
	return is_zero || points > 1 ? NULL : text;
}

static int128
power_of_ten(int exponent)
{
	int128 power = 1;

	for (; exponent > 0; exponent--)
		power *= 10;
	return power;
}

/*
 * Is "to" what "from" comes to, when one unit of the one is rate units of the
 * other and each has so many minor units?
 */
static bool
fits(int64 from, int from_exponent, int64 to, int to_exponent,
	 const char *rate)
{
	int128 product = 0;
	int128 wanted;
	int128 difference;
	int	   scale = 0;
	int	   digits = 0;
	bool   fraction = false;

	for (; *rate; rate++)
	{
		if (*rate == '.')
			fraction = true;
		else if (fraction && (digits == RATE_DIGITS || scale == RATE_DECIMALS))
			break;
		else if (digits == RATE_DIGITS)
			return false;
		else
		{
			product = product * 10 + (*rate - '0');
			digits += product > 0;
			scale += fraction;
		}
	}
	product *= from * power_of_ten(to_exponent - from_exponent);
	wanted = to * power_of_ten(from_exponent - to_exponent);
	wanted *= power_of_ten(scale);
	difference = wanted > product ? wanted - product : product - wanted;
	return difference <=
		   product / RATE_MISFIT_PART +
			   power_of_ten(scale + Max(from_exponent - to_exponent, 0));
}

/* Whether a rate is of whole or of minor units is not the same everywhere. */
static bool
is_plausible(const PspOutcome *outcome, const PspSettled *settled)
{
	int from = currency_exponent(outcome->currency);
	int to = currency_exponent(settled->currency);

	if (from < 0 || to < 0 || settled->amount < 0 ||
		settled->amount > PSP_SETTLED_AMOUNT_MAX ||
		outcome->amount > PSP_SETTLED_AMOUNT_MAX ||
		(settled->has_fee &&
		 (settled->fee < 0 || settled->fee > PSP_SETTLED_AMOUNT_MAX)))
		return false;
	if (strcmp(settled->currency, outcome->currency) == 0)
		return settled->amount == outcome->amount;
	return settled->rate &&
		   (fits(outcome->amount, from, settled->amount, to, settled->rate) ||
			fits(outcome->amount, 0, settled->amount, 0, settled->rate));
}

void
outcome_settled(PspOutcome *outcome, const PspSettled *settled)
{
	if (outcome->kind != PSP_SUCCEEDED || !outcome->has_amount ||
		!is_plausible(outcome, settled))
		return;
	outcome->has_settled_amount = true;
	outcome->settled_amount = settled->amount;
	outcome->has_psp_fee = settled->has_fee;
	outcome->psp_fee = settled->has_fee ? settled->fee : 0;
	memcpy(outcome->settled_currency, settled->currency,
		   sizeof(outcome->settled_currency));
	if (strcmp(settled->currency, outcome->currency) != 0)
		outcome->exchange_rate = settled->rate;
}
