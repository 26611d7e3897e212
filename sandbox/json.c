/*
 * json.c
 *		Writing JSON. Whatever bytes come in, what goes out is valid UTF-8.
 */
#include "json.h"

#include <inttypes.h>
#include <string.h>

static bool
is_continuation(unsigned char c)
{
	return (c & 0xC0) == 0x80;
}

int
utf8_length(const unsigned char *s, size_t len)
{
	if (len == 0)
		return 0;
	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xC2 && s[0] <= 0xDF)
		return len >= 2 && is_continuation(s[1]) ? 2 : 0;
	if ((s[0] & 0xF0) == 0xE0)
	{
		if (len < 3 || !is_continuation(s[1]) || !is_continuation(s[2]))
			return 0;
		/* overlong forms and surrogates */
		if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F))
			return 0;
		return 3;
	}
	if (s[0] >= 0xF0 && s[0] <= 0xF4)
	{
		if (len < 4 || !is_continuation(s[1]) || !is_continuation(s[2]) ||
			!is_continuation(s[3]))
			return 0;
		if ((s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F))
			return 0;
		return 4;
	}
	return 0;
}

static void
put_escaped(Buf *b, unsigned char c)
{
	switch (c)
	{
		case '"':
			buf_puts(b, "\\\"");
			break;
		case '\\':
			buf_puts(b, "\\\\");
			break;
		case '\n':
			buf_puts(b, "\\n");
			break;
		case '\r':
			buf_puts(b, "\\r");
			break;
		case '\t':
			buf_puts(b, "\\t");
			break;
		default:
			buf_printf(b, "\\u%04x", c);
	}
}

static void
put_string(Buf *b, const char *value)
{
	const unsigned char *s = (const unsigned char *) value;
	size_t				 left = strlen(value);

	buf_putc(b, '"');
	while (left > 0)
	{
		int n = utf8_length(s, left);

		if (n == 0)
		{
			buf_puts(b, "\\ufffd");
			n = 1;
		}
		else if (n == 1 &&
				 (s[0] < 0x20 || s[0] == '"' || s[0] == '\\' || s[0] == 0x7F))
			put_escaped(b, s[0]);
		else
			buf_put(b, s, (size_t) n);
		s += n;
		left -= (size_t) n;
	}
	buf_putc(b, '"');
}

static void
put_key(Buf *b, const char *key)
{
	if (b->len > 0 && strchr("{[:", b->data[b->len - 1]) == NULL)
		buf_putc(b, ',');
	if (key != NULL)
	{
		put_string(b, key);
		buf_putc(b, ':');
	}
}

void
json_open(Buf *b, const char *key, char bracket)
{
	put_key(b, key);
	buf_putc(b, bracket);
}

void
json_close(Buf *b, char bracket)
{
	buf_putc(b, bracket);
}

void
json_str(Buf *b, const char *key, const char *value)
{
	put_key(b, key);
	if (value == NULL)
		buf_puts(b, "null");
	else
		put_string(b, value);
}

void
json_int(Buf *b, const char *key, int64_t value)
{
	put_key(b, key);
	buf_printf(b, "%" PRId64, value);
}

void
json_double(Buf *b, const char *key, double value)
{
	put_key(b, key);
	buf_printf(b, "%.6g", value);
}

void
json_bool(Buf *b, const char *key, bool value)
{
	put_key(b, key);
	buf_puts(b, value ? "true" : "false");
}

void
json_null(Buf *b, const char *key)
{
	json_str(b, key, NULL);
}

void
json_empty(Buf *b, const char *key, const char *brackets)
{
	put_key(b, key);
	buf_puts(b, brackets);
}

void
json_raw(Buf *b, const char *key, const char *text)
{
	json_empty(b, key, text);
}
