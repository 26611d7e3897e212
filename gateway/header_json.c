/*
 * header_json.c
 *		A request's headers as the JSON object that receive_webhook() takes.
 *
 * Names become lower case.  A header that comes several times is one whose
 * values are joined by commas, as HTTP has it.  Values that are not UTF-8 are
 * left out: no signature is among them.
 */
#include "header_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "report.h"

#define HEADERS_MAX 100

typedef struct Text
{
	char  *data;
	size_t length;
	size_t room;
} Text;

typedef struct Header
{
	const char *name;
	const char *value;
} Header;

typedef struct HeaderList
{
	Header headers[HEADERS_MAX];
	int	   count;
} HeaderList;

static void
put(Text *text, const char *data, size_t length)
{
	if (text->length + length + 1 > text->room)
	{
		text->room = (text->length + length + 1) * 2;
		text->data = get_memory(text->data, text->room);
	}
	memcpy(text->data + text->length, data, length);
	text->length += length;
	text->data[text->length] = '\0';
}

static void
put_escaped(Text *text, const char *value, bool lower)
{
	for (; *value; value++)
	{
		unsigned char c = (unsigned char) *value;
		char		  escaped[8];

		if (c < ' ' || c == '"' || c == '\\' || c == 0x7f)
		{
			snprintf(escaped, sizeof(escaped), "\\u%04x", c);
			put(text, escaped, 6);
			continue;
		}
		if (lower && c >= 'A' && c <= 'Z')
			c += 'a' - 'A';
		put(text, (const char *) &c, 1);
	}
}

/* bytes that follow the first one of a character, or -1 */
static int
following(unsigned char first)
{
	if (first < 0x80)
		return 0;
	if (first >= 0xc2 && first <= 0xdf)
		return 1;
	if (first >= 0xe0 && first <= 0xef)
		return 2;
	if (first >= 0xf0 && first <= 0xf4)
		return 3;
	return -1;
}

bool
is_utf8(const char *text)
{
	const unsigned char *at = (const unsigned char *) text;

	while (*at)
	{
		unsigned char first = *at;
		int			  count = following(first);

		if (count < 0)
			return false;
		for (int i = 1; i <= count; i++)
		{
			if ((at[i] & 0xc0) != 0x80)
				return false;
		}
		/* longer than needed, a surrogate, or above the last character */
		if ((first == 0xe0 && at[1] < 0xa0) ||
			(first == 0xed && at[1] > 0x9f) ||
			(first == 0xf0 && at[1] < 0x90) || (first == 0xf4 && at[1] > 0x8f))
			return false;
		at += count + 1;
	}
	return true;
}

static enum MHD_Result
take_header(void *cls, enum MHD_ValueKind kind, const char *name,
			const char *value)
{
	HeaderList *list = cls;

	(void) kind;
	if (list->count < HEADERS_MAX && is_utf8(name) && value && is_utf8(value))
		list->headers[list->count++] =
			(Header){ .name = name, .value = value };
	return MHD_YES;
}

static void
put_header(Text *text, HeaderList *list, int first)
{
	put(text, text->length > 1 ? ",\"" : "\"", text->length > 1 ? 2 : 1);
	put_escaped(text, list->headers[first].name, true);
	put(text, "\":\"", 3);
	put_escaped(text, list->headers[first].value, false);
	for (int i = first + 1; i < list->count; i++)
	{
		if (list->headers[i].name == NULL ||
			strcasecmp(list->headers[i].name, list->headers[first].name) != 0)
			continue;
		put(text, ",", 1);
		put_escaped(text, list->headers[i].value, false);
		list->headers[i].name = NULL;
	}
	put(text, "\"", 1);
}

char *
header_json(struct MHD_Connection *connection)
{
	HeaderList list = { .count = 0 };
	Text	   text = { NULL, 0, 0 };

	MHD_get_connection_values(connection, MHD_HEADER_KIND, take_header, &list);
	put(&text, "{", 1);
	for (int i = 0; i < list.count; i++)
	{
		if (list.headers[i].name)
			put_header(&text, &list, i);
	}
	put(&text, "}", 1);
	return text.data;
}
