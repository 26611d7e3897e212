/*-------------------------------------------------------------------------
 *
 * json.c
 *	  A reader for the JSON that PSPs answer with.
 *
 * The text becomes a flat array of nodes in document order, each knowing its
 * first child and its next sibling.  Parsing keeps its own stack of open
 * containers, so that hostile nesting costs no C stack.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "psp/json.h"

typedef struct JsonParser
{
	JsonDocument *document;
	const char	 *position;
	const char	 *end;
	int			  depth;
	int			  open[JSON_DEPTH_MAX]; /* containers around position */
	int			  last[JSON_DEPTH_MAX]; /* their last child so far, or -1 */
} JsonParser;

static void
skip_space(JsonParser *p)
{
	while (p->position < p->end &&
		   (*p->position == ' ' || *p->position == '\t' ||
			*p->position == '\n' || *p->position == '\r'))
		p->position++;
}

static bool
take(JsonParser *p, char c)
{
	skip_space(p);
	if (p->position == p->end || *p->position != c)
		return false;
	p->position++;
	return true;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* the four hex digits after \u, or -1 */
static int
read_hex4(const char *text, const char *end)
{
	int value = 0;

	if (end - text < 4)
		return -1;
	for (int i = 0; i < 4; i++)
	{
		int digit = hex_digit(text[i]);

		if (digit < 0)
			return -1;
		value = value * 16 + digit;
	}
	return value;
}

/*
 * Step over a string whose opening quote is behind us.  UTF-8 was checked for
 * the whole text before.
 */
static bool
scan_string(JsonParser *p, int *start, int *length)
{
	*start = (int) (p->position - p->document->text);
	while (p->position < p->end)
	{
		unsigned char c = (unsigned char) *p->position++;

		if (c == '"')
		{
			*length = (int) (p->position - p->document->text) - *start - 1;
			return true;
		}
		if (c < ' ')
			return false;
		if (c == '\\')
		{
			char escape;

			if (p->position == p->end)
				return false;
			escape = *p->position++;
			if (escape == 'u')
			{
				if (read_hex4(p->position, p->end) < 0)
					return false;
				p->position += 4;
			}
			else if (escape == '\0' || strchr("\"\\/bfnrt", escape) == NULL)
				return false;
		}
	}
	return false;
}

static bool
scan_digits(JsonParser *p)
{
	const char *start = p->position;

	while (p->position < p->end && *p->position >= '0' && *p->position <= '9')
		p->position++;
	return p->position > start;
}

static bool
scan_number(JsonParser *p)
{
	if (p->position < p->end && *p->position == '-')
		p->position++;
	if (p->position < p->end && *p->position == '0')
		p->position++;
	else if (!scan_digits(p))
		return false;
	if (p->position < p->end && *p->position == '.')
	{
		p->position++;
		if (!scan_digits(p))
			return false;
	}
	if (p->position < p->end && (*p->position == 'e' || *p->position == 'E'))
	{
		p->position++;
		if (p->position < p->end &&
			(*p->position == '+' || *p->position == '-'))
			p->position++;
		if (!scan_digits(p))
			return false;
	}
	return true;
}

static bool
scan_word(JsonParser *p, const char *word)
{
	int length = (int) strlen(word);

	if (p->end - p->position < length ||
		memcmp(p->position, word, length) != 0)
		return false;
	p->position += length;
	return true;
}

/* Add a node and link it to what comes before it. */
static JsonNode *
add_node(JsonParser *p, int key_start, int key_length)
{
	JsonDocument *d = p->document;
	JsonNode	 *node;
	int			  index = d->count;

	if (index == JSON_NODES_MAX)
		return NULL;
	if (index == d->capacity)
	{
		d->capacity *= 2;
		d->nodes = repalloc(d->nodes, d->capacity * sizeof(JsonNode));
	}
	d->count++;
	node = &d->nodes[index];
	memset(node, 0, sizeof(JsonNode));
	node->key_start = key_start;
	node->key_length = key_length;
	node->child = -1;
	node->next = -1;
	if (p->depth > 0)
	{
		int *last = &p->last[p->depth - 1];

		if (*last < 0)
			d->nodes[p->open[p->depth - 1]].child = index;
		else
			d->nodes[*last].next = index;
		*last = index;
	}
	return node;
}

/* One value; of a container only the opening bracket. */
static bool
parse_value(JsonParser *p, int key_start, int key_length)
{
	JsonNode *node = add_node(p, key_start, key_length);

	skip_space(p);
	if (node == NULL || p->position == p->end)
		return false;
	node->start = (int) (p->position - p->document->text);
	switch (*p->position)
	{
		case '{':
		case '[':
			node->type = *p->position == '{' ? JSON_OBJECT : JSON_ARRAY;
			if (p->depth == JSON_DEPTH_MAX)
				return false;
			p->position++;
			p->open[p->depth] = (int) (node - p->document->nodes);
			p->last[p->depth++] = -1;
			return true;
		case '"':
			node->type = JSON_STRING;
			p->position++;
			return scan_string(p, &node->start, &node->length);
		case 't':
			node->type = JSON_TRUE;
			return scan_word(p, "true");
		case 'f':
			node->type = JSON_FALSE;
			return scan_word(p, "false");
		case 'n':
			node->type = JSON_NULL;
			return scan_word(p, "null");
		default:
			node->type = JSON_NUMBER;
			if (!scan_number(p))
				return false;
			node->length =
				(int) (p->position - p->document->text) - node->start;
			return true;
	}
}

/* The next element or member of the innermost container, or its end. */
static bool
parse_in_container(JsonParser *p)
{
	JsonDocument *d = p->document;
	JsonNode	 *container = &d->nodes[p->open[p->depth - 1]];
	bool		  is_object = container->type == JSON_OBJECT;
	bool		  is_first = p->last[p->depth - 1] < 0;
	int			  key_start = 0;
	int			  key_length = 0;

	if (take(p, is_object ? '}' : ']'))
	{
		container->length = (int) (p->position - d->text) - container->start;
		p->depth--;
		return true;
	}
	if (!is_first && !take(p, ','))
		return false;
	if (is_object &&
		(!take(p, '"') || !scan_string(p, &key_start, &key_length) ||
		 !take(p, ':')))
		return false;
	return parse_value(p, key_start, key_length);
}

bool
json_parse(JsonDocument *document, const char *text, int length)
{
	JsonParser parser;

	memset(&parser, 0, offsetof(JsonParser, open));
	parser.document = document;
	parser.position = text;
	parser.end = text + length;
	document->text = text;
	document->length = length;
	document->count = 0;
	document->capacity = 64;
	document->nodes = palloc(document->capacity * sizeof(JsonNode));

	/* also refuses bytes of zero */
	if (pg_encoding_verifymbstr(PG_UTF8, text, length) != length)
		return false;
	if (!parse_value(&parser, 0, 0))
		return false;
	while (parser.depth > 0)
		if (!parse_in_container(&parser))
			return false;
	skip_space(&parser);
	return parser.position == parser.end;
}

void
json_free(JsonDocument *document)
{
	pfree(document->nodes);
	document->nodes = NULL;
	document->count = 0;
}

const JsonNode *
json_root(const JsonDocument *document)
{
	return document->count > 0 ? &document->nodes[0] : NULL;
}

/*
 * The member of that name.  Names are compared as written, so one spelled with
 * escapes is not found; of duplicates the last one counts.
 */
const JsonNode *
json_member(const JsonDocument *document, const JsonNode *object,
			const char *name)
{
	const JsonNode *found = NULL;
	int				length = (int) strlen(name);

	if (object == NULL || object->type != JSON_OBJECT)
		return NULL;
	for (int i = object->child; i >= 0; i = document->nodes[i].next)
	{
		const JsonNode *node = &document->nodes[i];

		if (node->key_length == length &&
			memcmp(document->text + node->key_start, name, length) == 0)
			found = node;
	}
	return found;
}

const JsonNode *
json_first(const JsonDocument *document, const JsonNode *array)
{
	if (array == NULL || array->type != JSON_ARRAY || array->child < 0)
		return NULL;
	return &document->nodes[array->child];
}

const JsonNode *
json_next(const JsonDocument *document, const JsonNode *node)
{
	return node->next < 0 ? NULL : &document->nodes[node->next];
}

static int
put_utf8(unsigned char *out, uint32 c)
{
	if (c < 0x80)
	{
		out[0] = c;
		return 1;
	}
	if (c < 0x800)
	{
		out[0] = 0xC0 | (c >> 6);
		out[1] = 0x80 | (c & 0x3F);
		return 2;
	}
	if (c < 0x10000)
	{
		out[0] = 0xE0 | (c >> 12);
		out[1] = 0x80 | ((c >> 6) & 0x3F);
		out[2] = 0x80 | (c & 0x3F);
		return 3;
	}
	out[0] = 0xF0 | (c >> 18);
	out[1] = 0x80 | ((c >> 12) & 0x3F);
	out[2] = 0x80 | ((c >> 6) & 0x3F);
	out[3] = 0x80 | (c & 0x3F);
	return 4;
}

/*
 * Decode the escape after the backslash at *from; 0 when it stands for no
 * character that text can hold.
 */
static uint32
decode_escape(const char **from, const char *end)
{
	static const char names[] = "bfnrt";
	static const char meanings[] = "\b\f\n\r\t";
	const char		 *name;
	int				  high;
	int				  low;

	if (**from != 'u')
	{
		name = strchr(names, **from);
		return (unsigned char) (name ? meanings[name - names] : **from);
	}
	high = read_hex4(*from + 1, end);
	*from += 4;
	if (high < 0xD800 || high > 0xDFFF)
		return (uint32) high;
	if (high > 0xDBFF || end - *from < 7 || (*from)[1] != '\\' ||
		(*from)[2] != 'u')
		return 0;
	low = read_hex4(*from + 3, end);
	if (low < 0xDC00 || low > 0xDFFF)
		return 0;
	*from += 6;
	return 0x10000 + ((uint32) (high - 0xD800) << 10) +
		   (uint32) (low - 0xDC00);
}

char *
json_string(const JsonDocument *document, const JsonNode *node)
{
	const char	  *from;
	const char	  *end;
	unsigned char *result;
	unsigned char *to;

	if (node == NULL || node->type != JSON_STRING)
		return NULL;
	from = document->text + node->start;
	end = from + node->length;

	/* No escape is shorter than what it stands for. */
	to = result = palloc(node->length + 1);
	for (; from < end; from++)
	{
		if (*from == '\\')
		{
			uint32 c;

			from++;
			c = decode_escape(&from, end);
			if (c == 0)
			{
				pfree(result);
				return NULL;
			}
			to += put_utf8(to, c);
		}
		else
			*to++ = (unsigned char) *from;
	}
	*to = '\0';
	return (char *) result;
}

bool
json_int64(const JsonDocument *document, const JsonNode *node, int64 *value)
{
	const char *digits;
	int			count;
	bool		negative;
	int64		result = 0;

	if (node == NULL || node->type != JSON_NUMBER)
		return false;
	digits = document->text + node->start;
	count = node->length;
	negative = *digits == '-';

	/* Counting down reaches the smallest number as well. */
	for (int i = negative ? 1 : 0; i < count; i++)
	{
		int digit = digits[i] - '0';

		if (digit < 0 || digit > 9)
			return false;
		if (result < (PG_INT64_MIN + digit) / 10)
			return false;
		result = result * 10 - digit;
	}
	if (!negative && result == PG_INT64_MIN)
		return false;
	*value = negative ? result : -result;
	return true;
}

bool
json_is_true(const JsonNode *node)
{
	return node != NULL && node->type == JSON_TRUE;
}
