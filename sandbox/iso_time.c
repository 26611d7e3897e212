/*
 * iso_time.c
 *		ISO 8601, as much of it as protocols use.
 */
#include "iso_time.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "json.h"

void
iso_time_json(Buf *b, const char *key, int64_t time_ms)
{
	char	  text[40];
	time_t	  seconds = time_ms / 1000;
	struct tm parts;

	gmtime_r(&seconds, &parts);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
	json_str(b, key, text);
}

/* ".5" is half a second; digits beyond the third are dropped. */
static const char *
read_fraction(const char *at, int64_t *ms)
{
	int64_t unit = 100;

	if (*at != '.')
		return at;
	for (at++; *at >= '0' && *at <= '9'; at++)
	{
		*ms += (*at - '0') * unit;
		unit /= 10;
	}
	return at;
}

static bool
read_offset(const char *at, int64_t *ms)
{
	char sign;
	int	 hours;
	int	 minutes;
	int	 end = 0;

	if (strcmp(at, "Z") == 0)
		return true;
	if (sscanf(at, "%c%2d:%2d%n", &sign, &hours, &minutes, &end) != 3 ||
		at[end] != '\0' || (sign != '+' && sign != '-'))
		return false;
	*ms -= (sign == '-' ? -1 : 1) * (hours * 60 + minutes) * INT64_C(60000);
	return true;
}

bool
iso_time_parse(const char *text, int64_t *time_ms)
{
	struct tm	parts = { 0 };
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &parts);

	if (rest == NULL)
		return false;
	*time_ms = timegm(&parts) * INT64_C(1000);
	return read_offset(read_fraction(rest, time_ms), time_ms);
}
