/*
 * param.c
 *		Reading parameters with the vendor's errors for what is wrong.
 */
#include "request.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "book.h"
#include "currency.h"

#define METADATA_COUNT_MAX 50
#define METADATA_KEY_MAX 40
#define METADATA_VALUE_MAX 500
#define ECHO_MAX 100

bool
param_required(Request *request, const char *name, const char **value)
{
	*value = form_take(request->params, name);
	if (*value != NULL && **value != '\0')
		return true;
	return answer_invalid(request, "parameter_missing", name,
						  "Missing required param: %s.", name);
}

bool
param_text(Request *request, const char *name, size_t max, const char **value)
{
	*value = form_take(request->params, name);
	if (*value == NULL || strlen(*value) <= max)
		return true;
	return answer_invalid(request, "parameter_invalid_string_too_long", name,
						  "%s must be at most %zu bytes long.", name, max);
}

bool
param_int(Request *request, const char *name, int64_t min, int64_t max,
		  int64_t *value)
{
	const char *text = form_take(request->params, name);
	char	   *end;

	if (text == NULL)
		return true;
	errno = 0;
	*value = strtoll(text, &end, 10);
	if ((!isdigit((unsigned char) *text) && *text != '-') || *end != '\0' ||
		end == text)
		return answer_invalid(request, "parameter_invalid_integer", name,
							  "Invalid integer: %.*s", ECHO_MAX, text);
	if (errno != 0 || *value < min || *value > max)
		return answer_invalid(request, "parameter_invalid_integer", name,
							  "%s must be from %" PRId64 " to %" PRId64 ".",
							  name, min, max);
	return true;
}

bool
param_amount(Request *request, const char *name, int64_t *amount)
{
	const char *text;
	char	   *end;

	if (!param_required(request, name, &text))
		return false;
	errno = 0;
	*amount = strtoll(text, &end, 10);
	if ((!isdigit((unsigned char) *text) && *text != '-') || *end != '\0' ||
		end == text)
		return answer_invalid(request, "parameter_invalid_integer", name,
							  "Invalid integer: %.*s", ECHO_MAX, text);
	if (*amount < 1)
		return answer_invalid(request, "amount_too_small", name,
							  "%s must be at least 1 minor unit.", name);
	if (errno != 0 || *amount > AMOUNT_MAX)
		return answer_invalid(request, "amount_too_large", name,
							  "%s must be at most %" PRId64 " minor units.",
							  name, AMOUNT_MAX);
	return true;
}

bool
param_bool(Request *request, const char *name, bool *value, bool *given)
{
	const char *text = form_take(request->params, name);

	if (given != NULL)
		*given = text != NULL;
	if (text == NULL)
		return true;
	*value = strcmp(text, "true") == 0;
	if (*value || strcmp(text, "false") == 0)
		return true;
	return answer_invalid(request, NULL, name, "Invalid boolean: %.*s",
						  ECHO_MAX, text);
}

bool
param_choice(Request *request, const char *name, const char *const *choices,
			 int *choice)
{
	const char *text = form_take(request->params, name);

	if (text == NULL)
		return true;
	for (int i = 0; choices[i] != NULL; i++)
	{
		if (strcmp(choices[i], text) == 0)
		{
			*choice = i;
			return true;
		}
	}
	return answer_invalid(request, NULL, name, "Invalid %s: %.*s", name,
						  ECHO_MAX, text);
}

bool
param_currency(Request *request, int *currency)
{
	const char *text;

	if (!param_required(request, "currency", &text))
		return false;
	*currency = currency_find(text);
	if (*currency != CURRENCY_UNKNOWN)
		return true;
	return answer_invalid(request, NULL, "currency",
						  "Invalid currency: %.*s is not one of ISO 4217.",
						  ECHO_MAX, text);
}

/* Checks only: the handler's execute walks over them once more. */
bool
param_metadata(Request *request)
{
	char	   key[METADATA_KEY_MAX + 2];
	FormParam *param;
	int		   at = 0;
	int		   count = 0;

	while ((param = form_take_sub(request->params, "metadata", &at, key,
								  sizeof(key))) != NULL)
	{
		if (key[0] == '\0' || strlen(key) > METADATA_KEY_MAX)
			return answer_invalid(request, NULL, "metadata",
								  "Metadata keys have 1 to %d bytes.",
								  METADATA_KEY_MAX);
		if (strlen(param->value) > METADATA_VALUE_MAX)
			return answer_invalid(request, NULL, param->name,
								  "Metadata values have at most %d bytes.",
								  METADATA_VALUE_MAX);
		if (++count > METADATA_COUNT_MAX)
			return answer_invalid(request, NULL, "metadata",
								  "Metadata has at most %d keys.",
								  METADATA_COUNT_MAX);
	}
	return true;
}

void
request_metadata(Request *request, Metadata *metadata)
{
	char	   key[METADATA_KEY_MAX + 2];
	FormParam *param;
	int		   at = 0;

	while ((param = form_take_sub(request->params, "metadata", &at, key,
								  sizeof(key))) != NULL)
	{
		/* An empty value means that there is none. */
		if (param->value[0] != '\0')
			metadata_add(metadata, key, param->value);
	}
}

bool
param_expand(Request *request, const char *prefix, unsigned *expand)
{
	char	   sub[8];
	FormParam *param;
	int		   at = 0;
	size_t	   len = strlen(prefix);

	*expand = 0;
	while ((param = form_take_sub(request->params, "expand", &at, sub,
								  sizeof(sub))) != NULL)
	{
		const char *what = param->value;

		if (strncmp(what, prefix, len) != 0)
			what = "";
		else
			what += len;
		/* Of a session, down to its payment intent. */
		if (strcmp(what, "payment_intent") == 0)
		{
			*expand |= EXPAND_INTENT;
			continue;
		}
		if (strcmp(what, "setup_intent") == 0)
		{
			*expand |= EXPAND_SETUP;
			continue;
		}
		if (strncmp(what, "payment_intent.", 15) == 0)
		{
			*expand |= EXPAND_INTENT;
			what += 15;
		}
		if (strcmp(what, "balance_transaction") == 0)
			*expand |= EXPAND_BALANCE_TX;
		else if (strcmp(what, "latest_charge") == 0)
			*expand |= EXPAND_LATEST_CHARGE;
		else if (strcmp(what, "latest_charge.balance_transaction") == 0)
			*expand |= EXPAND_LATEST_CHARGE | EXPAND_BALANCE_TX;
		else
			return answer_invalid(request, NULL, "expand",
								  "This property cannot be expanded: %.*s",
								  ECHO_MAX, param->value);
	}
	return true;
}

bool
params_known(Request *request)
{
	const char *name = form_untaken(request->params);

	if (name == NULL)
		return true;
	return answer_invalid(request, "parameter_unknown", name,
						  "Received unknown parameter: %.*s", ECHO_MAX, name);
}
