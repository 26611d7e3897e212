/*
 * csv.c
 *		Writing CSV: fields are quoted only where they must be.
 */
#include "csv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static void
separate(Buf *b)
{
	if (b->len > 0 && b->data[b->len - 1] != '\n')
		buf_putc(b, ',');
}

/*
 * A first field that is empty would leave no trace for separate() to see, so
 * it is written as a quoted empty string.
 */
void
csv_field(Buf *b, const char *value)
{
	bool		first = b->len == 0 || b->data[b->len - 1] == '\n';
	const char *s = value ? value : "";

	separate(b);
	if (strpbrk(s, ",\"\r\n") == NULL && !(first && *s == '\0'))
	{
		buf_puts(b, s);
		return;
	}
	buf_putc(b, '"');
	for (; *s; s++)
	{
		if (*s == '"')
			buf_putc(b, '"');
		buf_putc(b, *s);
	}
	buf_putc(b, '"');
}

void
csv_int(Buf *b, int64_t value)
{
	separate(b);
	buf_printf(b, "%" PRId64, value);
}

void
csv_end(Buf *b, bool crlf)
{
	buf_puts(b, crlf ? "\r\n" : "\n");
}

void
csv_time(Buf *b, int64_t time_ms)
{
	time_t	  seconds = (time_t) (time_ms / 1000);
	struct tm tm;
	char	  text[32] = "";

	if (gmtime_r(&seconds, &tm) != NULL)
		strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
	csv_field(b, text);
}
