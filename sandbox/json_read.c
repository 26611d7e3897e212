/*
 * json_read.c
 *		A recursive descent parser with limits on depth and count.
 */
#include "json_read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "json.h"

typedef struct Reader
{
	const char *at;
	const char *end;
	int			depth;
	int			values;
} Reader;

static JsonValue *read_value(Reader *r);

static void
skip_space(Reader *r)
{
	while (r->at < r->end && strchr(" \t\r\n", *r->at) != NULL)
		r->at++;
}

static bool
take_char(Reader *r, char c)
{
	skip_space(r);
	if (r->at == r->end || *r->at != c)
		return false;
	r->at++;
	return true;
}

static bool
take_word(Reader *r, const char *word)
{
	size_t len = strlen(word);

	if ((size_t) (r->end - r->at) < len || memcmp(r->at, word, len) != 0)
		return false;
	r->at += len;
	return true;
}

static bool
read_hex4(Reader *r, uint32_t *code)
{
	*code = 0;
	if (r->end - r->at < 4)
		return false;
	for (int i = 0; i < 4; i++)
	{
		const char *digits = "0123456789abcdef0123456789ABCDEF";
		const char *found = strchr(digits, *r->at++);

		if (found == NULL || *found == '\0')
			return false;
		*code = *code * 16 + (uint32_t) (found - digits) % 16;
	}
	return true;
}

static void
put_utf8(Buf *b, uint32_t code)
{
	if (code < 0x80)
		buf_putc(b, (char) code);
	else if (code < 0x800)
	{
		buf_putc(b, (char) (0xC0 | code >> 6));
		buf_putc(b, (char) (0x80 | (code & 0x3F)));
	}
	else if (code < 0x10000)
	{
		buf_putc(b, (char) (0xE0 | code >> 12));
		buf_putc(b, (char) (0x80 | (code >> 6 & 0x3F)));
		buf_putc(b, (char) (0x80 | (code & 0x3F)));
	}
	else
	{
		buf_putc(b, (char) (0xF0 | code >> 18));
		buf_putc(b, (char) (0x80 | (code >> 12 & 0x3F)));
		buf_putc(b, (char) (0x80 | (code >> 6 & 0x3F)));
		buf_putc(b, (char) (0x80 | (code & 0x3F)));
	}
}

/* After \u; a lone surrogate is no character, U+0000 no text. */
static bool
read_unicode(Reader *r, Buf *b)
{
	uint32_t code;
	uint32_t low;

	if (!read_hex4(r, &code) || code == 0 || (code >= 0xDC00 && code < 0xE000))
		return false;
	if (code >= 0xD800 && code < 0xDC00)
	{
		if (!take_word(r, "\\u") || !read_hex4(r, &low) || low < 0xDC00 ||
			low >= 0xE000)
			return false;
		code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
	}
	put_utf8(b, code);
	return true;
}

static bool
read_escape(Reader *r, Buf *b)
{
	static const char from[] = "\"\\/bfnrt";
	static const char to[] = "\"\\/\b\f\n\r\t";
	const char		 *found;

	if (r->at == r->end)
		return false;
	if (*r->at == 'u')
	{
		r->at++;
		return read_unicode(r, b);
	}
	found = strchr(from, *r->at++);
	if (found == NULL || *found == '\0')
		return false;
	buf_putc(b, to[found - from]);
	return true;
}

/* After the opening quote; NULL when it is malformed. */
static char *
read_string(Reader *r)
{
	Buf	 b = { 0 };
	bool failed = false;

	buf_reserve(&b, 1);
	b.data[0] = '\0';
	while (!failed && r->at < r->end && *r->at != '"')
	{
		int n = utf8_length((const unsigned char *) r->at,
							(size_t) (r->end - r->at));

		if (*r->at == '\\')
		{
			r->at++;
			failed = !read_escape(r, &b);
			continue;
		}
		failed = n == 0 || (unsigned char) *r->at < ' ';
		buf_put(&b, r->at, (size_t) n);
		r->at += n;
	}
	if (!failed && r->at < r->end)
	{
		r->at++;
		return b.data;
	}
	buf_free(&b);
	return NULL;
}

static bool
skip_digits(Reader *r)
{
	const char *start = r->at;

	while (r->at < r->end && *r->at >= '0' && *r->at <= '9')
		r->at++;
	return r->at > start;
}

static bool
read_number(Reader *r, JsonValue *value)
{
	const char *start = r->at;

	take_word(r, "-");
	if (!take_word(r, "0") && !skip_digits(r))
		return false;
	if (take_word(r, ".") && !skip_digits(r))
		return false;
	if (take_word(r, "e") || take_word(r, "E"))
	{
		if (!take_word(r, "+"))
			take_word(r, "-");
		if (!skip_digits(r))
			return false;
	}
	value->type = JSON_NUMBER;
	value->text = xstrndup(start, (size_t) (r->at - start));
	return true;
}

static bool
has_member(const JsonValue *object, const char *name)
{
	for (const JsonValue *v = object->first; v != NULL; v = v->next)
	{
		if (strcmp(v->name, name) == 0)
			return true;
	}
	return false;
}

static char *
read_name(Reader *r, const JsonValue *object)
{
	char *name = take_char(r, '"') ? read_string(r) : NULL;

	if (name != NULL && !has_member(object, name) && take_char(r, ':'))
		return name;
	free(name);
	return NULL;
}

/* Members of an object or elements of an array, after the bracket. */
static bool
read_children(Reader *r, JsonValue *parent, char close)
{
	JsonValue **last = &parent->first;

	if (take_char(r, close))
		return true;
	do
	{
		char *name = NULL;

		if (parent->type == JSON_OBJECT &&
			(name = read_name(r, parent)) == NULL)
			return false;
		*last = read_value(r);
		if (*last == NULL)
		{
			free(name);
			return false;
		}
		(*last)->name = name;
		last = &(*last)->next;
	} while (take_char(r, ','));
	return take_char(r, close);
}

static bool
fill_value(Reader *r, JsonValue *value)
{
	if (take_char(r, '{'))
	{
		value->type = JSON_OBJECT;
		return read_children(r, value, '}');
	}
	if (take_char(r, '['))
	{
		value->type = JSON_ARRAY;
		return read_children(r, value, ']');
	}
	if (take_char(r, '"'))
	{
		value->type = JSON_STRING;
		value->text = read_string(r);
		return value->text != NULL;
	}
	if (take_word(r, "null"))
		return true;
	if (take_word(r, "true"))
	{
		value->type = JSON_TRUE;
		return true;
	}
	if (take_word(r, "false"))
	{
		value->type = JSON_FALSE;
		return true;
	}
	return read_number(r, value);
}

static JsonValue *
read_value(Reader *r)
{
	JsonValue *value;
	bool	   good;

	if (r->depth == JSON_DEPTH_MAX || r->values == JSON_VALUES_MAX)
		return NULL;
	value = xcalloc(1, sizeof(JsonValue));
	r->values++;
	r->depth++;
	skip_space(r);
	value->raw = r->at;
	good = fill_value(r, value);
	value->raw_len = (size_t) (r->at - value->raw);
	r->depth--;
	if (good)
		return value;
	json_free(value);
	return NULL;
}

JsonValue *
json_parse(const char *text, size_t len)
{
	Reader	   r = { .at = text, .end = text + len };
	JsonValue *value;

	/* strchr would find a zero byte in any list. */
	if (len == 0 || memchr(text, '\0', len) != NULL)
		return NULL;
	value = read_value(&r);
	skip_space(&r);
	if (value != NULL && r.at < r.end)
	{
		json_free(value);
		return NULL;
	}
	return value;
}

void
json_free(JsonValue *value)
{
	while (value != NULL)
	{
		JsonValue *next = value->next;

		json_free(value->first);
		free(value->name);
		free(value->text);
		free(value);
		value = next;
	}
}

JsonValue *
json_at(JsonValue *value, const char *path)
{
	while (value != NULL && *path != '\0')
	{
		size_t	   len = strcspn(path, ".");
		JsonValue *child = value->type == JSON_OBJECT ? value->first : NULL;

		while (child != NULL && (strncmp(child->name, path, len) != 0 ||
								 child->name[len] != '\0'))
			child = child->next;
		value = child;
		path += len + (path[len] == '.');
	}
	/* null is as good as absent */
	return value != NULL && value->type != JSON_NULL ? value : NULL;
}

const char *
json_text(JsonValue *value, const char *path)
{
	value = json_at(value, path);
	return value != NULL && value->type == JSON_STRING ? value->text : NULL;
}

bool
json_integer(JsonValue *value, const char *path, int64_t *number)
{
	char *end;

	value = json_at(value, path);
	if (value == NULL || value->type != JSON_NUMBER)
		return false;
	errno = 0;
	*number = strtoll(value->text, &end, 10);
	return errno == 0 && *end == '\0';
}

const char *
json_unknown(const JsonValue *object, const char *const *names)
{
	for (const JsonValue *v = object->first; v != NULL; v = v->next)
	{
		int i = 0;

		while (names[i] != NULL && strcmp(names[i], v->name) != 0)
			i++;
		if (names[i] == NULL)
			return v->name;
	}
	return NULL;
}
