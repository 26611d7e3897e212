/*-------------------------------------------------------------------------
 *
 * adyen_session.c
 *	  Adyen's hosted page: a session in the mode hosted.
 *
 * Adyen tells of a session only to who brings the result that the payer's
 * browser was given, and of what was paid there by its notifications.  So a
 * page is made, and not looked at: the same request again is answered with the
 * same page.  Each card that the payer tries is a payment of its own, under our
 * order's id; one that is refused ends nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "psp/adyen.h"

static void
add_expiry(StringInfo body, int64 at_s)
{
	time_t	  at = (time_t) at_s;
	struct tm parts;
	char	  text[32];

	if (at_s <= 0 || gmtime_r(&at, &parts) == NULL ||
		strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
		return;
	json_append_member(body, "expiresAt", text);
}

bool
adyen_build_session(const PspTask *task, StringInfo body, PspOutcome *outcome)
{
	appendStringInfoChar(body, '{');
	json_append_member(body, "merchantAccount",
					   task->config[CONFIG_MERCHANT_ACCOUNT]);
	if (!adyen_add_amount(task, body, outcome))
		return false;
	json_append_member(body, "reference", task->object_id);
	json_append_member(body, "mode", "hosted");
	json_append_member(body, "returnUrl", task->success_url);
	json_append_member(body, "shopperReference", task->payer);
	json_append_member(body, "shopperLocale", task->locale);
	add_expiry(body, task->expires_at_s);
	adyen_add_capture(task, body);
	adyen_add_names(task, body);
	appendStringInfoChar(body, '}');
	return true;
}

static bool
read_number(const char **at, int digits, int *number)
{
	*number = 0;
	for (int i = 0; i < digits; i++, (*at)++)
	{
		if (**at < '0' || **at > '9')
			return false;
		*number = *number * 10 + **at - '0';
	}
	return true;
}

static bool
read_separator(const char **at, char separator)
{
	return *(*at)++ == separator;
}

/* "Z" or "+01:00", in seconds ahead of UTC */
static bool
read_zone(const char *at, int *ahead_s)
{
	int sign = *at == '-' ? -1 : 1;
	int hours;
	int minutes;

	*ahead_s = 0;
	if (strcmp(at, "Z") == 0)
		return true;
	if (*at != '+' && *at != '-')
		return false;
	at++;
	if (!read_number(&at, 2, &hours) || !read_separator(&at, ':') ||
		!read_number(&at, 2, &minutes) || *at != '\0')
		return false;
	*ahead_s = sign * (hours * 3600 + minutes * 60);
	return true;
}

/* 0: it does not say a time that can be read */
static int64
read_time(const char *text)
{
	struct tm parts = { 0 };
	int		  ahead_s;

	if (text == NULL || strlen(text) > 40 ||
		!read_number(&text, 4, &parts.tm_year) ||
		!read_separator(&text, '-') || !read_number(&text, 2, &parts.tm_mon) ||
		!read_separator(&text, '-') ||
		!read_number(&text, 2, &parts.tm_mday) ||
		!read_separator(&text, 'T') ||
		!read_number(&text, 2, &parts.tm_hour) ||
		!read_separator(&text, ':') || !read_number(&text, 2, &parts.tm_min) ||
		!read_separator(&text, ':') || !read_number(&text, 2, &parts.tm_sec))
		return 0;
	if (*text == '.')
		for (text++; *text >= '0' && *text <= '9';)
			text++;
	if (!read_zone(text, &ahead_s))
		return 0;
	parts.tm_year -= 1900;
	parts.tm_mon -= 1;
	return Max((int64) timegm(&parts) - ahead_s, 0);
}

/* Nobody is sent to a page that asks for another order, or another amount. */
void
adyen_read_session(const PspTask *task, const JsonDocument *json,
				   const JsonNode *root, PspOutcome *outcome)
{
	const char *url = json_string(json, json_member(json, root, "url"));
	PspOutcome	asked = { .kind = PSP_UNKNOWN };

	outcome->reference = member_reference(json, root, "id");
	if (outcome->reference == NULL || !is_page_address(url) ||
		!member_equals(json, root, "reference", task->object_id) ||
		!adyen_read_amount(json, root, &asked) ||
		asked.amount != task->amount ||
		strcmp(asked.currency, task->currency) != 0)
	{
		outcome_unreadable(outcome);
		return;
	}
	outcome->kind = PSP_REQUIRES_ACTION;
	outcome->hosted_url = url;
	outcome->hosted_until_s =
		read_time(member_text(json, root, "expiresAt", PSP_CODE_LENGTH_MAX));
}
