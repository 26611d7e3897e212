/*-------------------------------------------------------------------------
 *
 * text.c
 *	  Strings that grow, to build SQL and messages in.
 *
 *-------------------------------------------------------------------------
 */
#include "model.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Text *
text_create(void)
{
	Text *text = allocate(sizeof(Text));

	text->capacity = 256;
	text->data = allocate(text->capacity);
	text_reset(text);
	return text;
}

void
text_free(Text *text)
{
	free(text->data);
	free(text);
}

void
text_reset(Text *text)
{
	text->length = 0;
	text->data[0] = '\0';
}

void
text_add_string(Text *text, const char *string)
{
	text_add(text, "%s", string);
}

void
text_add(Text *text, const char *format, ...)
{
	for (;;)
	{
		size_t	room = text->capacity - text->length;
		va_list arguments;
		int		length;

		va_start(arguments, format);
		length = vsnprintf(text->data + text->length, room, format, arguments);
		va_end(arguments);
		if (length < 0)
			return;
		if ((size_t) length < room)
		{
			text->length += length;
			return;
		}
		text->capacity = text->capacity * 2 + length;
		text->data = enlarge(text->data, text->capacity);
	}
}
