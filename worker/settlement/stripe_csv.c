/*-------------------------------------------------------------------------
 *
 * stripe_csv.c
 *	  Stripe's payout reconciliation and balance change reports as CSV.
 *
 * Whoever orders the report chooses its columns, so they are found by name, in
 * any order.  Amounts are in major units with a decimal point, unlike those of
 * Stripe's API.
 *
 * libcsv takes the fields apart.  It does not count lines, so it is given the
 * file one physical line at a time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <csv.h>
#include <stdlib.h>

#include "mb/pg_wchar.h"
#include "money.h"
#include "settlement/settlement.h"

#define CSV_BLOCK_BYTES 4096
#define COLUMN_NAME_BYTES_MAX 63

typedef enum Column
{
	COLUMN_EXTERNAL_ID,
	COLUMN_CATEGORY,
	COLUMN_CURRENCY,
	COLUMN_GROSS,
	COLUMN_FEE,
	COLUMN_NET,
	COLUMN_CREATED_UTC,
	COLUMN_CREATED,
	COLUMN_AVAILABLE_UTC,
	COLUMN_AVAILABLE,
	COLUMN_PAYOUT,
	COLUMN_PAYMENT_INTENT,
	COLUMN_CHARGE,
	COLUMN_SOURCE,
	COLUMN_CLAIMED_ORDER,
	COLUMN_DESCRIPTION,
	COLUMN_PRESENTMENT_AMOUNT,
	COLUMN_PRESENTMENT_CURRENCY,
	COLUMN_COUNT
} Column;

typedef struct ColumnRule
{
	const char *name;
	bool		required;  /* the header must have it */
	bool		filled;	   /* and no line may leave it empty */
	size_t		bytes_max; /* of a line's field */
} ColumnRule;

static const ColumnRule rules[COLUMN_COUNT] = {
	[COLUMN_EXTERNAL_ID] = { "balance_transaction_id", true, true,
							 SETTLEMENT_REFERENCE_BYTES_MAX },
	[COLUMN_CATEGORY] = { "reporting_category", true, true,
						  SETTLEMENT_CATEGORY_BYTES_MAX },
	[COLUMN_CURRENCY] = { "currency", true, true, 3 },
	[COLUMN_GROSS] = { "gross", true, true, 64 },
	[COLUMN_FEE] = { "fee", true, true, 64 },
	[COLUMN_NET] = { "net", true, true, 64 },
	[COLUMN_CREATED_UTC] = { "created_utc", false, false, 64 },
	[COLUMN_CREATED] = { "created", false, false, 64 },
	[COLUMN_AVAILABLE_UTC] = { "available_on_utc", false, false, 64 },
	[COLUMN_AVAILABLE] = { "available_on", false, false, 64 },
	[COLUMN_PAYOUT] = { "automatic_payout_id", false, false,
						SETTLEMENT_REFERENCE_BYTES_MAX },
	[COLUMN_PAYMENT_INTENT] = { "payment_intent_id", false, false,
								SETTLEMENT_REFERENCE_BYTES_MAX },
	[COLUMN_CHARGE] = { "charge_id", false, false,
						SETTLEMENT_REFERENCE_BYTES_MAX },
	[COLUMN_SOURCE] = { "source_id", false, false,
						SETTLEMENT_REFERENCE_BYTES_MAX },
	[COLUMN_CLAIMED_ORDER] = { "payment_metadata[payment_order]", false, false,
							   SETTLEMENT_FIELD_BYTES_MAX },
	[COLUMN_DESCRIPTION] = { "description", false, false,
							 SETTLEMENT_FIELD_BYTES_MAX },
	[COLUMN_PRESENTMENT_AMOUNT] = { "customer_facing_amount", false, false,
									64 },
	[COLUMN_PRESENTMENT_CURRENCY] = { "customer_facing_currency", false, false,
									  3 },
};

typedef struct StripeParser
{
	SettlementParser  base;
	struct csv_parser csv;
	int				  bom_bytes; /* of it seen, -1 when past it */
	int64			  line_no;	 /* of the physical line being read */
	bool			  after_cr;	 /* a line feed now ends no further line */
	bool			  in_row;
	int64			  row_line_no;
	int				  field_count;	/* of the row so far */
	int				  header_count; /* -1 until the header is read */
	int16			  map[SETTLEMENT_COLUMNS_MAX]; /* field to Column or -1 */
	char			 *text; /* the row's wanted fields, zero-terminated */
	size_t			  text_used;
	size_t			  text_size;
	bool			  present[COLUMN_COUNT]; /* in the header */
	size_t			  offset[COLUMN_COUNT];
	size_t			  length[COLUMN_COUNT];
} StripeParser;

static const struct
{
	const char	  *category;
	SettlementKind kind;
} kinds[] = {
	{ "charge", SETTLEMENT_CHARGE },
	{ "charge_failure", SETTLEMENT_ADJUSTMENT },
	{ "dispute", SETTLEMENT_DISPUTE },
	{ "dispute_reversal", SETTLEMENT_DISPUTE },
	{ "fee", SETTLEMENT_FEE },
	{ "network_cost", SETTLEMENT_FEE },
	{ "partial_capture_reversal", SETTLEMENT_ADJUSTMENT },
	{ "payout", SETTLEMENT_PAYOUT },
	{ "payout_reversal", SETTLEMENT_PAYOUT },
	{ "refund", SETTLEMENT_REFUND },
	{ "refund_failure", SETTLEMENT_REFUND },
	{ "tax", SETTLEMENT_FEE },
};

/* an error in a row, at a column known by its name */
static bool
fail_column(StripeParser *parser, Column column, const char *problem,
			const char *hint)
{
	return settlement_fail(&parser->base, parser->row_line_no,
						   rules[column].name, problem, hint);
}

/* an error in the field that is being read, known by its name or number */
static bool
fail_field(StripeParser *parser, const char *problem, const char *hint)
{
	char number[32];
	int	 field = parser->field_count;

	if (field < parser->header_count && parser->map[field] >= 0)
		return fail_column(parser, parser->map[field], problem, hint);
	snprintf(number, sizeof(number), "number %d", field + 1);
	return settlement_fail(&parser->base, parser->row_line_no, number, problem,
						   hint);
}

static bool
fail_row(StripeParser *parser, const char *problem, const char *hint)
{
	return settlement_fail(&parser->base, parser->row_line_no, "", problem,
						   hint);
}

/* libcsv's buffer: a field that outgrows the limit ends the file */
static void *
bounded_realloc(void *pointer, size_t size)
{
	if (size > SETTLEMENT_FIELD_BYTES_MAX + 1)
		return NULL;
	return realloc(pointer, size);
}

/* append a wanted field to the row's text */
static bool
keep_field(StripeParser *parser, Column column, const char *bytes,
		   size_t length)
{
	if (parser->text_size - parser->text_used < length + 1)
	{
		size_t size = Max(parser->text_size * 2, 1024);
		char  *text;

		size = Max(size, parser->text_used + length + 1);
		text = realloc(parser->text, size);
		if (text == NULL)
			return settlement_fail_memory(&parser->base);
		parser->text = text;
		parser->text_size = size;
	}
	parser->offset[column] = parser->text_used;
	parser->length[column] = length;
	memcpy(parser->text + parser->text_used, bytes, length);
	parser->text[parser->text_used + length] = '\0';
	parser->text_used += length + 1;
	return true;
}

/* which column a header's field names; -1 for one that is not needed */
static void
map_header_field(StripeParser *parser, const char *bytes, size_t length)
{
	parser->map[parser->field_count] = -1;
	if (length > COLUMN_NAME_BYTES_MAX)
		return;
	for (int i = 0; i < COLUMN_COUNT; i++)
	{
		if (strlen(rules[i].name) != length ||
			pg_strncasecmp(rules[i].name, bytes, length) != 0)
			continue;
		if (parser->present[i])
			fail_column(parser, i, "the header names this column twice",
						"Export the report with each column once.");
		parser->present[i] = true;
		parser->map[parser->field_count] = i;
		return;
	}
}

/* libcsv found a field */
static void
field_ended(void *field, size_t length, void *data)
{
	StripeParser *parser = data;
	const char	 *bytes = field == NULL ? "" : field;

	if (parser->base.failed)
		return;
	if (parser->field_count >= SETTLEMENT_COLUMNS_MAX)
	{
		fail_row(parser, "too many columns",
				 "Export only the columns that are needed.");
		return;
	}
	if (parser->header_count >= 0 &&
		parser->field_count >= parser->header_count)
	{
		fail_row(parser, "more fields than the header has columns",
				 "A comma in a field needs quotes around the field.");
		return;
	}
	if (length > SETTLEMENT_FIELD_BYTES_MAX)
		fail_field(parser, "the field is too long", "");
	else if (memchr(bytes, '\0', length) != NULL)
		fail_field(parser, "a zero byte",
				   "The file is damaged, or not in UTF-8.");
	else if (pg_encoding_verifymbstr(PG_UTF8, bytes, (int) length) !=
			 (int) length)
		fail_field(parser, "not valid UTF-8",
				   "The file is damaged, or in another encoding.");
	else if (parser->header_count < 0)
		map_header_field(parser, bytes, length);
	else if (parser->map[parser->field_count] >= 0)
		keep_field(parser, parser->map[parser->field_count], bytes, length);
	parser->field_count++;
}

static void
check_header(StripeParser *parser)
{
	for (int i = 0; i < COLUMN_COUNT; i++)
	{
		if (rules[i].required && !parser->present[i])
		{
			fail_column(parser, i, "the header lacks this column",
						"Export the report with it.");
			return;
		}
	}
	parser->header_count = parser->field_count;
}

static bool
parse_currency(StripeParser *parser, Column column, char *currency,
			   int *exponent)
{
	const char *code = parser->text + parser->offset[column];

	for (int i = 0; i < 3 && code[i] != '\0'; i++)
		currency[i] = pg_ascii_toupper((unsigned char) code[i]);
	*exponent = currency_exponent(currency);
	if (*exponent < 0)
		return fail_column(parser, column, "not an ISO 4217 currency", "");
	return true;
}

static bool
parse_amount(StripeParser *parser, Column column, int exponent, int64 *amount)
{
	bool overflow;

	bool parsed;

	parsed =
		money_parse(parser->text + parser->offset[column],
					(int) parser->length[column], exponent, amount, &overflow);
	if (parsed && *amount >= -SETTLEMENT_AMOUNT_MAX &&
		*amount <= SETTLEMENT_AMOUNT_MAX)
		return true;
	if (parsed || overflow)
		return fail_column(parser, column, "the amount is out of range", "");
	return fail_column(parser, column, "not an amount of this currency",
					   "Amounts are in major units with a decimal point and "
					   "no grouping.");
}

/* a time of the UTC column, or else of the one in the account's time zone */
static bool
parse_time(StripeParser *parser, SettlementLine *line, Column utc,
		   Column local, bool *has, int64 *at)
{
	Column column = parser->present[utc] ? utc : local;

	*has = parser->present[column] && parser->length[column] > 0;
	if (!*has)
		return true;
	if (!settlement_parse_time(parser->text + parser->offset[column],
							   parser->length[column], at))
		return fail_column(parser, column, "not a time",
						   "Times look like 2025-01-31 23:59:59.");
	if (column == local)
		settlement_warn(&parser->base, "zone_taken_as_utc", "", line->line_no);
	return true;
}

/* a copy of a text, NULL when the column is absent or the field empty */
static bool
copy_text(StripeParser *parser, Column column, const char **copy)
{
	*copy = NULL;
	if (!parser->present[column] || parser->length[column] == 0)
		return true;
	*copy =
		settlement_copy(&parser->base, parser->text + parser->offset[column],
						parser->length[column]);
	return *copy != NULL;
}

static bool
check_fields(StripeParser *parser)
{
	if (parser->field_count < parser->header_count)
		return fail_row(parser, "fewer fields than the header has columns",
						"The file may be truncated.");
	for (int i = 0; i < COLUMN_COUNT; i++)
	{
		if (!parser->present[i])
			continue;
		if (parser->length[i] > rules[i].bytes_max)
			return fail_column(parser, i, "the field is too long", "");
		if (rules[i].filled && parser->length[i] == 0)
			return fail_column(parser, i, "the field is empty", "");
	}
	return true;
}

static SettlementKind
find_kind(const char *category)
{
	for (int i = 0; category && i < (int) lengthof(kinds); i++)
	{
		if (strcmp(kinds[i].category, category) == 0)
			return kinds[i].kind;
	}
	return SETTLEMENT_OTHER;
}

static bool
is_filled(const StripeParser *parser, Column column)
{
	return parser->present[column] && parser->length[column] > 0;
}

/* The file may say it without a sign: money goes one way in both currencies. */
static bool
parse_presentment(StripeParser *parser, SettlementLine *line)
{
	char  currency[4] = "";
	int	  exponent;
	int64 amount;

	if (!is_filled(parser, COLUMN_PRESENTMENT_AMOUNT) ||
		!is_filled(parser, COLUMN_PRESENTMENT_CURRENCY))
		return true;
	if (!parse_currency(parser, COLUMN_PRESENTMENT_CURRENCY, currency,
						&exponent))
		return false;
	if (strcmp(currency, line->currency) == 0)
		return true;
	if (!parse_amount(parser, COLUMN_PRESENTMENT_AMOUNT, exponent, &amount))
		return false;
	if ((amount < 0 && line->gross > 0) || (amount > 0 && line->gross < 0))
		amount = -amount;
	memcpy(line->presentment_currency, currency, sizeof(currency));
	line->presentment_amount = amount;
	return true;
}

static bool
parse_amounts(StripeParser *parser, SettlementLine *line)
{
	int exponent;

	if (!parse_currency(parser, COLUMN_CURRENCY, line->currency, &exponent) ||
		!parse_amount(parser, COLUMN_GROSS, exponent, &line->gross) ||
		!parse_amount(parser, COLUMN_FEE, exponent, &line->fee) ||
		!parse_amount(parser, COLUMN_NET, exponent, &line->net))
		return false;
	if (line->gross - line->fee != line->net)
		settlement_warn(&parser->base, "arithmetic", "", line->line_no);
	return parse_presentment(parser, line);
}

static bool
parse_texts(StripeParser *parser, SettlementLine *line)
{
	static const Column of_payment[] = { COLUMN_PAYMENT_INTENT, COLUMN_CHARGE,
										 COLUMN_SOURCE };
	static const Column of_refund[] = { COLUMN_SOURCE, COLUMN_PAYMENT_INTENT,
										COLUMN_CHARGE };
	const Column	   *references;

	if (!copy_text(parser, COLUMN_EXTERNAL_ID, &line->external_id) ||
		!copy_text(parser, COLUMN_CATEGORY, &line->category) ||
		!copy_text(parser, COLUMN_PAYOUT, &line->payout_reference) ||
		!copy_text(parser, COLUMN_DESCRIPTION, &line->description))
		return false;
	line->kind = find_kind(line->category);
	references = line->kind == SETTLEMENT_REFUND ? of_refund : of_payment;
	/* the first that is there: what we know it by comes first */
	for (int i = 0; i < (int) lengthof(of_payment); i++)
	{
		if (line->psp_reference == NULL &&
			!copy_text(parser, references[i], &line->psp_reference))
			return false;
	}
	return true;
}

static void
parse_line(StripeParser *parser)
{
	SettlementLine *line;

	if (!check_fields(parser) ||
		(line = settlement_add_line(&parser->base)) == NULL)
		return;
	line->line_no = parser->row_line_no;
	if (!parse_amounts(parser, line) || !parse_texts(parser, line) ||
		!parse_time(parser, line, COLUMN_CREATED_UTC, COLUMN_CREATED,
					&line->has_occurred_at, &line->occurred_at) ||
		!parse_time(parser, line, COLUMN_AVAILABLE_UTC, COLUMN_AVAILABLE,
					&line->has_available_on, &line->available_on))
		return;
	if (parser->present[COLUMN_CLAIMED_ORDER])
		line->has_claimed_order =
			settlement_parse_uuid(parser->text +
									  parser->offset[COLUMN_CLAIMED_ORDER],
								  parser->length[COLUMN_CLAIMED_ORDER],
								  line->claimed_order_id);

	if (line->kind == SETTLEMENT_DISPUTE ||
		line->kind == SETTLEMENT_ADJUSTMENT || line->kind == SETTLEMENT_OTHER)
		settlement_warn(&parser->base, "not_matched", line->category,
						line->line_no);
}

/* libcsv found the end of a row */
static void
row_ended(int terminator pg_attribute_unused(), void *data)
{
	StripeParser *parser = data;

	if (!parser->base.failed && parser->header_count < 0)
		check_header(parser);
	else if (!parser->base.failed)
		parse_line(parser);
	parser->field_count = 0;
	parser->text_used = 0;
	parser->in_row = false;
}

static bool
has_text(const char *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
	{
		if (strchr(" \t\r\n", bytes[i]) == NULL || bytes[i] == '\0')
			return true;
	}
	return false;
}

/* give libcsv bytes that end no later than the physical line does */
static bool
parse_piece(StripeParser *parser, const char *bytes, size_t length)
{
	if (!parser->in_row && has_text(bytes, length))
	{
		parser->in_row = true;
		parser->row_line_no = parser->line_no;
	}
	if (csv_parse(&parser->csv, bytes, length, field_ended, row_ended,
				  parser) == length ||
		parser->base.failed)
		return !parser->base.failed;

	if (csv_error(&parser->csv) == CSV_EPARSE)
		return fail_field(parser, "misplaced quotes",
						  "A quote inside a quoted field is written twice.");
	if (csv_get_buffer_size(&parser->csv) + CSV_BLOCK_BYTES >
		SETTLEMENT_FIELD_BYTES_MAX)
		return fail_field(parser, "the field is too long", "");
	return settlement_fail_memory(&parser->base);
}

/* skip a byte order mark, which may come in pieces */
static void
skip_bom(StripeParser *parser, const char **bytes, size_t *length)
{
	static const char bom[] = "\xEF\xBB\xBF";

	while (parser->bom_bytes >= 0 && *length > 0)
	{
		if (**bytes != bom[parser->bom_bytes])
		{
			int seen = parser->bom_bytes;

			parser->bom_bytes = -1;
			if (seen > 0)
				parse_piece(parser, bom, seen);
			return;
		}
		(*bytes)++;
		(*length)--;
		if (++parser->bom_bytes == 3)
			parser->bom_bytes = -1;
	}
}

/* bytes up to and with the next carriage return or line feed, or all */
static size_t
piece_length(const char *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
	{
		if (bytes[i] == '\n' || bytes[i] == '\r')
			return i + 1;
	}
	return length;
}

static bool
stripe_feed(SettlementParser *base, const char *bytes, size_t length)
{
	StripeParser *parser = (StripeParser *) base;

	skip_bom(parser, &bytes, &length);
	while (length > 0 && !base->failed)
	{
		size_t piece = piece_length(bytes, length);
		char   last = bytes[piece - 1];

		if (!parse_piece(parser, bytes, piece))
			return false;
		if (last == '\r' ||
			(last == '\n' && !(parser->after_cr && piece == 1)))
			parser->line_no++;
		parser->after_cr = last == '\r';
		bytes += piece;
		length -= piece;
	}
	return !base->failed;
}

static bool
stripe_finish(SettlementParser *base)
{
	StripeParser *parser = (StripeParser *) base;

	if (parser->in_row)
	{
		settlement_warn(base, "no_newline_at_end", "", parser->line_no);
		if (csv_fini(&parser->csv, field_ended, row_ended, parser) != 0 &&
			!base->failed)
			return fail_field(parser, "the quoted field does not end",
							  "The file is truncated.");
	}
	if (!base->failed && parser->header_count < 0)
		return settlement_fail(base, 1, "", "the file is empty",
							   "A file without payments still has a header.");
	return !base->failed;
}

static void
stripe_destroy(SettlementParser *base)
{
	StripeParser *parser = (StripeParser *) base;

	csv_free(&parser->csv);
	free(parser->text);
	settlement_release(base);
	free(parser);
}

static SettlementParser *
stripe_create(void)
{
	StripeParser *parser = calloc(1, sizeof(StripeParser));

	if (parser == NULL)
		return NULL;
	if (csv_init(&parser->csv, CSV_STRICT | CSV_STRICT_FINI) != 0)
	{
		free(parser);
		return NULL;
	}
	csv_set_realloc_func(&parser->csv, bounded_realloc);
	csv_set_blk_size(&parser->csv, CSV_BLOCK_BYTES);
	parser->line_no = 1;
	parser->header_count = -1;
	return &parser->base;
}

const SettlementFormat stripe_csv_format = {
	.name = "stripe_csv",
	.create = stripe_create,
	.feed = stripe_feed,
	.finish = stripe_finish,
	.destroy = stripe_destroy,
};
