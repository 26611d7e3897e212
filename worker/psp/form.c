/*-------------------------------------------------------------------------
 *
 * form.c
 *	  application/x-www-form-urlencoded, as bodies and query strings.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "psp/form.h"

static bool
is_unreserved(unsigned char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
		   (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' ||
		   c == '~';
}

void
form_encode(StringInfo out, const char *text)
{
	static const char digits[] = "0123456789ABCDEF";

	for (const char *p = text; *p; p++)
	{
		unsigned char c = (unsigned char) *p;

		if (is_unreserved(c))
			appendStringInfoCharMacro(out, (char) c);
		else
		{
			appendStringInfoCharMacro(out, '%');
			appendStringInfoCharMacro(out, digits[c >> 4]);
			appendStringInfoCharMacro(out, digits[c & 15]);
		}
	}
}

void
form_add(StringInfo out, int start, const char *name, const char *value)
{
	if (value == NULL)
		return;
	if (out->len > start)
		appendStringInfoChar(out, '&');
	form_encode(out, name);
	appendStringInfoChar(out, '=');
	form_encode(out, value);
}

void
form_add_int64(StringInfo out, int start, const char *name, int64 value)
{
	char text[32];

	snprintf(text, sizeof(text), INT64_FORMAT, value);
	form_add(out, start, name, text);
}
