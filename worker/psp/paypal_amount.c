/*-------------------------------------------------------------------------
 *
 * paypal_amount.c
 *	  PayPal's decimal amounts.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/int.h"
#include "money.h"
#include "psp/paypal.h"

#define DECIMALS_MAX 4
#define DIGITS_MAX 18

/* Currencies that PayPal takes no decimals of, although ISO 4217 has some */
static int
decimals_of(const char *currency)
{
	static const char *const whole[] = { "HUF", "TWD", NULL };

	return adapter_one_of(currency, whole) ? 0 : currency_exponent(currency);
}

bool
paypal_format_amount(int64 amount, const char *currency, char *text, int size)
{
	int	  exponent = currency_exponent(currency);
	int	  decimals = decimals_of(currency);
	int64 unit = 1;

	if (exponent < 0 || amount < 0)
		return false;
	for (; exponent > decimals; exponent--)
	{
		if (amount % 10 != 0)
			return false;
		amount /= 10;
	}
	for (int i = 0; i < decimals; i++)
		unit *= 10;
	if (decimals == 0)
		snprintf(text, size, INT64_FORMAT, amount);
	else
		snprintf(text, size, INT64_FORMAT ".%0*d", amount / unit, decimals,
				 (int) (amount % unit));
	return true;
}

bool
paypal_parse_amount(const char *text, const char *currency, int64 *amount)
{
	int			exponent = currency_exponent(currency);
	const char *digit = text;
	int			decimals = -1; /* -1: before the point */
	int64		value = 0;

	if (exponent < 0)
		return false;
	for (; *digit; digit++)
	{
		if (*digit == '.' && decimals < 0 && digit > text)
		{
			decimals = 0;
			continue;
		}
		if (*digit < '0' || *digit > '9' || digit - text > DIGITS_MAX)
			return false;
		if (decimals >= 0 && ++decimals > exponent)
		{
			/* more of them than the currency has: only if they say nothing */
			if (*digit != '0' || decimals > DECIMALS_MAX)
				return false;
			continue;
		}
		if (pg_mul_s64_overflow(value, 10, &value) ||
			pg_add_s64_overflow(value, *digit - '0', &value))
			return false;
	}
	if (digit == text || decimals == 0)
		return false;
	for (decimals = Max(decimals, 0); decimals < exponent; decimals++)
		if (pg_mul_s64_overflow(value, 10, &value))
			return false;
	*amount = value;
	return true;
}

bool
paypal_read_money(const JsonDocument *json, const JsonNode *amount,
				  const char *currency_name, PspOutcome *outcome)
{
	char *text = json_string(json, json_member(json, amount, "value"));

	if (text == NULL ||
		!member_currency(json, amount, currency_name, outcome->currency) ||
		!paypal_parse_amount(text, outcome->currency, &outcome->amount))
	{
		outcome->currency[0] = '\0';
		return false;
	}
	outcome->has_amount = true;
	return true;
}
