/*-------------------------------------------------------------------------
 *
 * settlement.c
 *	  What the parsers of all settlement formats share.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <stdlib.h>

#include "settlement/settlement.h"

#define BLOCK_BYTES 65536
#define FIRST_LINES 256

#define DAYS_BEFORE_2000 INT64CONST(730425) /* since 0000-03-01 */
#define FIRST_YEAR 1970
#define LAST_YEAR 2999

/* The strings of a batch lie in blocks, so that none moves when one is added. */
struct SettlementBlock
{
	SettlementBlock *next;
	size_t			 size;
	size_t			 used;
	char			 bytes[FLEXIBLE_ARRAY_MEMBER];
};

static const SettlementFormat *const formats[] = { &stripe_csv_format };

const SettlementFormat *
settlement_find_format(const char *name)
{
	for (int i = 0; i < (int) lengthof(formats); i++)
	{
		if (strcmp(formats[i]->name, name) == 0)
			return formats[i];
	}
	return NULL;
}

SettlementParser *
settlement_create(const SettlementFormat *format)
{
	SettlementParser *parser = format->create();

	if (parser != NULL)
		parser->format = format;
	return parser;
}

/* forget the lines of the last piece; one block is kept for the next */
static void
clear_batch(SettlementParser *parser)
{
	parser->line_count = 0;
	while (parser->blocks != NULL && parser->blocks->next != NULL)
	{
		SettlementBlock *next = parser->blocks->next;

		free(parser->blocks);
		parser->blocks = next;
	}
	if (parser->blocks != NULL)
		parser->blocks->used = 0;
}

bool
settlement_feed(SettlementParser *parser, const char *bytes, size_t length)
{
	clear_batch(parser);
	if (parser->failed)
		return false;
	return parser->format->feed(parser, bytes, length);
}

bool
settlement_finish(SettlementParser *parser)
{
	clear_batch(parser);
	if (parser->failed)
		return false;
	return parser->format->finish(parser);
}

void
settlement_destroy(SettlementParser *parser)
{
	if (parser != NULL)
		parser->format->destroy(parser);
}

/* free what the formats' own destroy functions do not know of */
void
settlement_release(SettlementParser *parser)
{
	while (parser->blocks != NULL)
	{
		SettlementBlock *next = parser->blocks->next;

		free(parser->blocks);
		parser->blocks = next;
	}
	free(parser->lines);
	parser->lines = NULL;
}

/* a new line of the batch, all zero */
SettlementLine *
settlement_add_line(SettlementParser *parser)
{
	SettlementLine *line;

	if (parser->line_count == parser->line_space)
	{
		int	  space = Max(parser->line_space * 2, FIRST_LINES);
		void *lines = realloc(parser->lines, space * sizeof(SettlementLine));

		if (lines == NULL)
		{
			settlement_fail_memory(parser);
			return NULL;
		}
		parser->lines = lines;
		parser->line_space = space;
	}
	line = &parser->lines[parser->line_count++];
	memset(line, 0, sizeof(*line));
	return line;
}

char *
settlement_copy(SettlementParser *parser, const char *text, size_t length)
{
	SettlementBlock *block = parser->blocks;
	char			*copy;

	if (block == NULL || block->size - block->used < length + 1)
	{
		size_t size = Max(length + 1, BLOCK_BYTES);

		block = malloc(offsetof(SettlementBlock, bytes) + size);
		if (block == NULL)
		{
			settlement_fail_memory(parser);
			return NULL;
		}
		block->next = parser->blocks;
		block->size = size;
		block->used = 0;
		parser->blocks = block;
	}
	copy = block->bytes + block->used;
	memcpy(copy, text, length);
	copy[length] = '\0';
	block->used += length + 1;
	return copy;
}

/* the first error stands; always returns false */
bool
settlement_fail(SettlementParser *parser, int64 line_no, const char *column,
				const char *problem, const char *hint)
{
	SettlementError *error = &parser->error;

	if (parser->failed)
		return false;
	parser->failed = true;
	error->line_no = line_no;
	strlcpy(error->column, column, sizeof(error->column));
	strlcpy(error->problem, problem, sizeof(error->problem));
	strlcpy(error->hint, hint, sizeof(error->hint));
	return false;
}

bool
settlement_fail_memory(SettlementParser *parser)
{
	parser->failed = true;
	parser->error.out_of_memory = true;
	return false;
}

/*
 * Count a warning.  A file that invents a category for each of its lines must
 * not fill memory: the last place collects all that found none.
 */
void
settlement_warn(SettlementParser *parser, const char *name,
				const char *category, int64 line_no)
{
	SettlementWarning *warning = parser->warnings;
	SettlementWarning *end = warning + parser->warning_count;

	for (; warning < end; warning++)
	{
		if (strcmp(warning->name, name) == 0 &&
			strcmp(warning->category, category) == 0)
			break;
	}
	if (warning == end && parser->warning_count < SETTLEMENT_WARNINGS_MAX)
	{
		bool last = ++parser->warning_count == SETTLEMENT_WARNINGS_MAX;

		warning->name = last ? "further" : name;
		strlcpy(warning->category, last ? "" : category,
				sizeof(warning->category));
		warning->lines = 0;
		warning->first_line_no = line_no;
	}
	else if (warning == end)
		warning--;
	warning->lines++;
}

/* digits of a fixed count as a number, -1 when they are not all digits */
static int
parse_digits(const char *text, int count)
{
	int value = 0;

	for (int i = 0; i < count; i++)
	{
		if (text[i] < '0' || text[i] > '9')
			return -1;
		value = value * 10 + (text[i] - '0');
	}
	return value;
}

static bool
parse_date(const char *text, int64 *day_no)
{
	static const int days[] = {
		31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31
	};
	int	 year = parse_digits(text, 4);
	int	 month = parse_digits(text + 5, 2);
	int	 day = parse_digits(text + 8, 2);
	bool leap;

	if (text[4] != '-' || text[7] != '-' || year < FIRST_YEAR ||
		year > LAST_YEAR || month < 1 || month > 12)
		return false;
	leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
	if (day < 1 || day > days[month - 1] + (leap && month == 2 ? 1 : 0))
		return false;

	/* counting years from March puts the leap day last */
	if (month < 3)
	{
		year--;
		month += 12;
	}
	*day_no = year * INT64CONST(365) + year / 4 - year / 100 + year / 400 +
			  (153 * (month - 3) + 2) / 5 + day - 1 - DAYS_BEFORE_2000;
	return true;
}

/* "HH:MM[:SS[.ffffff]]" */
static bool
parse_clock(const char *text, size_t length, int64 *microseconds)
{
	int	  hour = length < 5 ? -1 : parse_digits(text, 2);
	int	  minute = length < 5 ? -1 : parse_digits(text + 3, 2);
	int	  second = 0;
	int64 fraction = 0;

	if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || text[2] != ':')
		return false;
	if (length > 5)
	{
		second = length < 8 ? -1 : parse_digits(text + 6, 2);
		if (text[5] != ':' || second < 0 || second > 59)
			return false;
	}
	if (length > 8)
	{
		int decimals = (int) Min(length - 9, 7);

		if (text[8] != '.' || decimals < 1 || decimals > 6)
			return false;
		fraction = parse_digits(text + 9, decimals);
		if (fraction < 0)
			return false;
		for (; decimals < 6; decimals++)
			fraction *= 10;
	}
	*microseconds =
		((hour * 60 + minute) * 60 + second) * INT64CONST(1000000) + fraction;
	return true;
}

/*
 * "YYYY-MM-DD", "YYYY-MM-DD HH:MM", "... HH:MM:SS", with a T for the space, a
 * fraction or a Z after it; in UTC.
 */
bool
settlement_parse_time(const char *text, size_t length, int64 *at)
{
	int64 day_no;
	int64 clock = 0;

	if (length < 10 || !parse_date(text, &day_no))
		return false;
	if (length > 10)
	{
		if (text[length - 1] == 'Z')
			length--;
		if (length < 11 || (text[10] != ' ' && text[10] != 'T') ||
			!parse_clock(text + 11, length - 11, &clock))
			return false;
	}
	*at = day_no * INT64CONST(86400000000) + clock;
	return true;
}

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* the usual form with hyphens only */
bool
settlement_parse_uuid(const char *text, size_t length, uint8 *bytes)
{
	int count = 0;

	if (length != 36)
		return false;
	for (int i = 0; i < 36;)
	{
		int high;
		int low;

		if (i == 8 || i == 13 || i == 18 || i == 23)
		{
			if (text[i++] != '-')
				return false;
			continue;
		}
		high = hex_value(text[i]);
		low = hex_value(text[i + 1]);
		if (high < 0 || low < 0)
			return false;
		bytes[count++] = (uint8) (high << 4 | low);
		i += 2;
	}
	return true;
}
