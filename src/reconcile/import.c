/*-------------------------------------------------------------------------
 *
 * import.c
 *	  Store a settlement file: its lines, and what they mean for the ledger.
 *
 * All or nothing.  The parser is fed piece by piece, and the lines of a piece
 * are written before the next, so that memory does not grow with the file.
 * The parser's memory is its own; a reset callback frees it also when an
 * error ends the import.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/progress.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/backend_progress.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "money.h"
#include "order/batch.h"
#include "order/plan.h"
#include "order/transition.h"
#include "payment.h"
#include "reconcile/exchange_line.h"
#include "reconcile/reconcile.h"
#include "reconcile/settlement_posting.h"
#include "settlement/settlement.h"
#include "text_guard.h"
#include "uuid7.h"

PG_FUNCTION_INFO_V1(payment_import_settlement);

#define PIECE_BYTES 65536
#define LINES_PER_INSERT 1000
#define FILE_NAME_BYTES_MAX 255

/* the columns of a line that differ from line to line */
typedef enum LineColumn
{
	LINE_ID,
	LINE_NO,
	LINE_CATEGORY,
	LINE_EXTERNAL_ID,
	LINE_PSP_REFERENCE,
	LINE_CLAIMED_ORDER,
	LINE_CURRENCY,
	LINE_GROSS,
	LINE_FEE,
	LINE_NET,
	LINE_OCCURRED_AT,
	LINE_AVAILABLE_ON,
	LINE_PAYOUT,
	LINE_DESCRIPTION,
	LINE_REPEATED,
	LINE_MATCH,
	LINE_PRESENTMENT_CURRENCY,
	LINE_PRESENTMENT_AMOUNT,
	LINE_COLUMNS
} LineColumn;

static const struct
{
	Oid	  element;
	Oid	  array;
	int16 length;
	bool  by_value;
	char  align;
} line_types[LINE_COLUMNS] = {
	[LINE_ID] = { UUIDOID, UUIDARRAYOID, UUID_LEN, false, TYPALIGN_CHAR },
	[LINE_NO] = { INT8OID, INT8ARRAYOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE },
	[LINE_CATEGORY] = { TEXTOID, TEXTARRAYOID, -1, false, TYPALIGN_INT },
	[LINE_EXTERNAL_ID] = { TEXTOID, TEXTARRAYOID, -1, false, TYPALIGN_INT },
	[LINE_PSP_REFERENCE] = { TEXTOID, TEXTARRAYOID, -1, false, TYPALIGN_INT },
	[LINE_CLAIMED_ORDER] = { UUIDOID, UUIDARRAYOID, UUID_LEN, false,
							 TYPALIGN_CHAR },
	[LINE_CURRENCY] = { TEXTOID, TEXTARRAYOID, -1, false, TYPALIGN_INT },
	[LINE_GROSS] = { INT8OID, INT8ARRAYOID, 8, FLOAT8PASSBYVAL,
					 TYPALIGN_DOUBLE },
	[LINE_FEE] = { INT8OID, INT8ARRAYOID, 8, FLOAT8PASSBYVAL,
				   TYPALIGN_DOUBLE },
	[LINE_NET] = { INT8OID, INT8ARRAYOID, 8, FLOAT8PASSBYVAL,
				   TYPALIGN_DOUBLE },
	[LINE_OCCURRED_AT] = { TIMESTAMPTZOID, TIMESTAMPTZARRAYOID, 8,
						   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE },
	[LINE_AVAILABLE_ON] = { TIMESTAMPTZOID, TIMESTAMPTZARRAYOID, 8,
							FLOAT8PASSBYVAL, TYPALIGN_DOUBLE },
	[LINE_PAYOUT] = { TEXTOID, TEXTARRAYOID, -1, false, TYPALIGN_INT },
	[LINE_DESCRIPTION] = { TEXTOID, TEXTARRAYOID, -1, false, TYPALIGN_INT },
	[LINE_REPEATED] = { BOOLOID, BOOLARRAYOID, 1, true, TYPALIGN_CHAR },
	[LINE_MATCH] = { TEXTOID, TEXTARRAYOID, -1, false, TYPALIGN_INT },
	[LINE_PRESENTMENT_CURRENCY] = { TEXTOID, TEXTARRAYOID, -1, false,
									TYPALIGN_INT },
	[LINE_PRESENTMENT_AMOUNT] = { INT8OID, INT8ARRAYOID, 8, FLOAT8PASSBYVAL,
								  TYPALIGN_DOUBLE },
};

typedef struct Import
{
	pg_uuid_t			  psp_id;
	pg_uuid_t			  file_id;
	const char			 *file_name;
	SettlementParser	 *parser;
	MemoryContextCallback callback; /* destroys the parser */
	MemoryContext		  batch_context;
	List				 *postings;
	bool				  fees_told; /* answers of this PSP tell fees */
	List				 *fees;		 /* ToldFee, one for each currency */
	int64				  line_count;
	/* one INSERT's worth */
	int		  count;
	Datum	  values[LINE_COLUMNS][LINES_PER_INSERT];
	bool	  nulls[LINE_COLUMNS][LINES_PER_INSERT];
	pg_uuid_t ids[LINES_PER_INSERT];
} Import;

void
reconcile_refuse_null(FunctionCallInfo fcinfo, int argument, const char *name)
{
	if (PG_ARGISNULL(argument))
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("argument \"%s\" must not be null", name),
						errdetail("It was null."), errhint("Pass a value.")));
}

void
reconcile_find_psp(Datum name, pg_uuid_t *psp_id)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TEXTOID };
	bool			  isnull;

	plan_keep(&plan, "SELECT id FROM payment.psp WHERE name = $1", 1, types);
	if (spi_read(plan, &name, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_UNKNOWN_PSP), errmsg("unknown PSP"),
				 errdetail("No PSP is registered under this name."),
				 errhint("payment.register_psp() registers one.")));
	*psp_id = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[0],
										   SPI_tuptable->tupdesc, 1, &isnull));
}

static void
destroy_parser(void *arg)
{
	settlement_destroy(((Import *) arg)->parser);
}

static const SettlementFormat *
find_format(text *name)
{
	const SettlementFormat *format =
		settlement_find_format(text_to_cstring(name));

	if (format == NULL)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("unknown settlement file format"),
						errdetail("There is no importer of this name."),
						errhint("The format is \"stripe_csv\".")));
	return format;
}

static void
check_file(text *file_name, bytea *content)
{
	int length = VARSIZE_ANY_EXHDR(file_name);

	check_text("file_name", VARDATA_ANY(file_name), length);
	if (length < 1 || length > FILE_NAME_BYTES_MAX)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("file name has an unusable length"),
						errdetail("It has %d bytes.", length),
						errhint("Pass 1 to %d bytes, without the folder.",
								FILE_NAME_BYTES_MAX)));
	if (VARSIZE_ANY_EXHDR(content) > (Size) payment_max_settlement_bytes)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_LIMIT_EXCEEDED),
				 errmsg("settlement file is too large"),
				 errdetail("It has %zu bytes, the limit is %d.",
						   (size_t) VARSIZE_ANY_EXHDR(content),
						   payment_max_settlement_bytes),
				 errhint("Raise payment.max_settlement_bytes, or have the PSP "
						 "split the file.")));
}

static bytea *
hash_content(bytea *content)
{
	bytea			  *hash = palloc(VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	pg_cryptohash_ctx *context = pg_cryptohash_create(PG_SHA256);

	SET_VARSIZE(hash, VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	if (pg_cryptohash_init(context) < 0 ||
		pg_cryptohash_update(context, (uint8 *) VARDATA_ANY(content),
							 VARSIZE_ANY_EXHDR(content)) < 0 ||
		pg_cryptohash_final(context, (uint8 *) VARDATA(hash),
							PG_SHA256_DIGEST_LENGTH) < 0)
		elog(ERROR, "could not compute SHA-256: %s",
			 pg_cryptohash_error(context));
	pg_cryptohash_free(context);
	return hash;
}

static void
refuse_duplicate(Datum psp_id, Datum hash)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID, BYTEAOID };
	Datum			  values[2] = { psp_id, hash };

	plan_keep(&plan,
			  "SELECT file_name FROM payment.settlement_file "
			  "WHERE psp_id = $1 AND sha256 = $2",
			  lengthof(types), types);
	if (spi_read(plan, values, NULL) == 0)
		elog(ERROR, "the earlier settlement file is not visible");
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_SETTLEMENT_DUPLICATE),
			 errmsg("settlement file was imported before"),
			 errdetail("\"%s\" has the same content.",
					   SPI_getvalue(SPI_tuptable->vals[0],
									SPI_tuptable->tupdesc, 1)),
			 errhint("There is nothing to do. A corrected file has another "
					 "content.")));
}

/*
 * The unique key waits for whoever imports the same content right now.
 */
static void
insert_file(Import *import, const char *format, text *file_name,
			bytea *content)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID, UUIDOID,	 TEXTOID,
								  TEXTOID, BYTEAOID, TEXTOID };
	Datum			  values[6];

	uuid7_generate(&import->file_id);
	values[0] = UUIDPGetDatum(&import->file_id);
	values[1] = UUIDPGetDatum(&import->psp_id);
	values[2] = CStringGetTextDatum(format);
	values[3] = PointerGetDatum(file_name);
	values[4] = PointerGetDatum(hash_content(content));
	values[5] =
		CStringGetTextDatum(GetUserNameFromId(GetSessionUserId(), false));
	plan_keep(&plan,
			  "INSERT INTO payment.settlement_file (id, psp_id, format, "
			  "file_name, sha256, status, imported_at, imported_by) "
			  "VALUES ($1, $2, $3, $4, $5, 'received', pg_catalog.now(), $6) "
			  "ON CONFLICT (psp_id, sha256) DO NOTHING",
			  lengthof(types), types);
	if (order_write(plan, values, NULL, CAUSE_API) == 0)
		refuse_duplicate(values[1], values[4]);
}

static Datum
line_array(Import *import, LineColumn column)
{
	int lower = 1;

	return PointerGetDatum(
		construct_md_array(import->values[column], import->nulls[column], 1,
						   &import->count, &lower, line_types[column].element,
						   line_types[column].length,
						   line_types[column].by_value,
						   line_types[column].align));
}

static void
set_text(Import *import, LineColumn column, const char *value)
{
	int i = import->count;

	import->nulls[column][i] = value == NULL;
	if (value != NULL)
		import->values[column][i] = CStringGetTextDatum(
			pg_any_to_server(value, (int) strlen(value), PG_UTF8));
}

/*
 * Free text may hold anything: it is left away when it holds a card number,
 * because the money of the line must be stored.  A reference is what the line
 * is known by, so that one cannot be left away.
 */
static void
check_line_texts(Import *import, SettlementLine *line)
{
	const char *references[] = { line->external_id, line->psp_reference,
								 line->payout_reference, line->category };

	if (line->description != NULL &&
		contains_card_number(line->description,
							 (int) strlen(line->description)))
	{
		line->description = NULL;
		settlement_warn(import->parser, "card_number_removed", "",
						line->line_no);
	}
	for (int i = 0; i < (int) lengthof(references); i++)
	{
		if (references[i] != NULL &&
			contains_card_number(references[i], (int) strlen(references[i])))
			ereport(ERROR,
					(errcode(ERRCODE_PAYMENT_CARD_NUMBER),
					 errmsg("settlement file holds a card number where a "
							"reference belongs"),
					 errdetail("Line " INT64_FORMAT ".", line->line_no),
					 errhint("Nothing was imported. Ask the PSP for a file "
							 "without card numbers."),
					 errhidestmt(true)));
	}
}

static void
add_line(Import *import, SettlementLine *line)
{
	int			  i = import->count;
	MemoryContext caller = MemoryContextSwitchTo(import->batch_context);
	bool		  to_match =
		line->kind == SETTLEMENT_CHARGE || line->kind == SETTLEMENT_REFUND;
	bool exchanged = line->presentment_currency[0] != '\0';

	check_line_texts(import, line);
	uuid7_generate(&import->ids[i]);
	import->values[LINE_ID][i] = UUIDPGetDatum(&import->ids[i]);
	import->values[LINE_NO][i] = Int64GetDatum(line->line_no);
	set_text(import, LINE_CATEGORY, line->category);
	set_text(import, LINE_EXTERNAL_ID, line->external_id);
	set_text(import, LINE_PSP_REFERENCE, line->psp_reference);
	import->nulls[LINE_CLAIMED_ORDER][i] = !line->has_claimed_order;
	import->values[LINE_CLAIMED_ORDER][i] =
		UUIDPGetDatum((pg_uuid_t *) line->claimed_order_id);
	set_text(import, LINE_CURRENCY, line->currency);
	import->values[LINE_GROSS][i] = Int64GetDatum(line->gross);
	import->values[LINE_FEE][i] = Int64GetDatum(line->fee);
	import->values[LINE_NET][i] = Int64GetDatum(line->net);
	import->nulls[LINE_OCCURRED_AT][i] = !line->has_occurred_at;
	import->values[LINE_OCCURRED_AT][i] =
		TimestampTzGetDatum(line->occurred_at);
	import->nulls[LINE_AVAILABLE_ON][i] = !line->has_available_on;
	import->values[LINE_AVAILABLE_ON][i] =
		TimestampTzGetDatum(line->available_on);
	set_text(import, LINE_PAYOUT, line->payout_reference);
	set_text(import, LINE_DESCRIPTION, line->description);
	import->values[LINE_REPEATED][i] = BoolGetDatum(true);
	set_text(import, LINE_MATCH, to_match ? "pending" : "ignored");
	set_text(import, LINE_PRESENTMENT_CURRENCY,
			 exchanged ? line->presentment_currency : NULL);
	import->nulls[LINE_PRESENTMENT_AMOUNT][i] = !exchanged;
	import->values[LINE_PRESENTMENT_AMOUNT][i] =
		Int64GetDatum(line->presentment_amount);
	import->count++;
	MemoryContextSwitchTo(caller);
}

/*
 * Claim the names of the lines for this PSP, for ever.  Those that are new are
 * not repeated; they come back in the order of the lines.
 */
static void
claim_references(Import *import)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID, TEXTARRAYOID, UUIDARRAYOID };
	Datum			  values[3];
	uint64			  claimed;
	int				  line = 0;

	plan_keep(&plan,
			  "INSERT INTO payment.settlement_reference "
			  "(psp_id, external_id, line_id) "
			  "SELECT $1, e, i FROM ROWS FROM (pg_catalog.unnest($2), "
			  "pg_catalog.unnest($3)) AS u (e, i) "
			  "ON CONFLICT (psp_id, external_id) DO NOTHING "
			  "RETURNING line_id",
			  lengthof(types), types);
	values[0] = UUIDPGetDatum(&import->psp_id);
	values[1] = line_array(import, LINE_EXTERNAL_ID);
	values[2] = line_array(import, LINE_ID);
	claimed = order_write(plan, values, NULL, CAUSE_API);
	for (uint64 i = 0; i < claimed; i++)
	{
		bool	   isnull;
		pg_uuid_t *id =
			DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[i],
										SPI_tuptable->tupdesc, 1, &isnull));

		while (line < import->count &&
			   memcmp(&import->ids[line], id, UUID_LEN) != 0)
			line++;
		if (line == import->count)
			elog(ERROR, "claimed references are out of order");
		import->values[LINE_REPEATED][line] = BoolGetDatum(false);
	}
	SPI_freetuptable(SPI_tuptable);
}

static void
insert_lines(Import *import)
{
	static SPIPlanPtr plan = NULL;
	Oid				  types[LINE_COLUMNS + 2];
	Datum			  values[LINE_COLUMNS + 2];

	for (int i = 0; i < LINE_COLUMNS; i++)
	{
		types[i] = line_types[i].array;
		values[i] = line_array(import, i);
	}
	types[LINE_COLUMNS] = types[LINE_COLUMNS + 1] = UUIDOID;
	values[LINE_COLUMNS] = UUIDPGetDatum(&import->file_id);
	values[LINE_COLUMNS + 1] = UUIDPGetDatum(&import->psp_id);

	plan_keep(
		&plan,
		"INSERT INTO payment.settlement_line (id, line_no, category, "
		"external_id, psp_reference, claimed_order_id, currency, gross, fee, "
		"net, occurred_at, available_on, payout_reference, description, "
		"repeated, match, presentment_currency, presentment_amount, file_id, "
		"psp_id) SELECT u.*, $19, $20 FROM ROWS FROM (pg_catalog.unnest($1), "
		"pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4), "
		"pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7), "
		"pg_catalog.unnest($8), pg_catalog.unnest($9), "
		"pg_catalog.unnest($10), pg_catalog.unnest($11), "
		"pg_catalog.unnest($12), pg_catalog.unnest($13), "
		"pg_catalog.unnest($14), pg_catalog.unnest($15), "
		"pg_catalog.unnest($16), pg_catalog.unnest($17), "
		"pg_catalog.unnest($18)) AS u",
		LINE_COLUMNS + 2, types);
	order_write(plan, values, NULL, CAUSE_API);
}

static void
add_fee(Import *import, const ToldFee *fee)
{
	ToldFee	 *sum;
	ListCell *cell;

	foreach (cell, import->fees)
	{
		sum = lfirst(cell);
		if (strcmp(sum->currency, fee->currency) == 0)
		{
			sum->fee = money_add(sum->fee, fee->fee);
			return;
		}
	}
	sum = palloc(sizeof(ToldFee));
	*sum = *fee;
	import->fees = lappend(import->fees, sum);
}

/* Fees of charges that answers had told: the lines' count from now on. */
static void
forget_fees(Import *import, const SettlementLine *lines)
{
	MemoryContext caller;
	ToldFee		 *fees;
	Column		  named[2];
	int			  count;

	column_init(&named[0], TEXTOID);
	column_init(&named[1], UUIDOID);
	for (int i = 0; i < import->count; i++)
	{
		if (lines[i].kind != SETTLEMENT_CHARGE ||
			DatumGetBool(import->values[LINE_REPEATED][i]))
			continue;
		column_add(&named[0], import->values[LINE_PSP_REFERENCE][i],
				   import->nulls[LINE_PSP_REFERENCE][i]);
		column_add(&named[1], import->values[LINE_CLAIMED_ORDER][i],
				   import->nulls[LINE_CLAIMED_ORDER][i]);
	}
	if (named[0].count == 0)
		return;
	caller = MemoryContextSwitchTo(import->batch_context);
	fees = exchange_lines_forget_fees(&import->psp_id, column_array(&named[0]),
									  column_array(&named[1]), &count);
	MemoryContextSwitchTo(caller);
	for (int i = 0; i < count; i++)
		add_fee(import, &fees[i]);
}

static void
take_fees_back(const Import *import)
{
	ToldFee	 *fees = palloc(sizeof(ToldFee) * (list_length(import->fees) + 1));
	int		  count = 0;
	ListCell *cell;

	foreach (cell, import->fees)
		fees[count++] = *(ToldFee *) lfirst(cell);
	exchange_lines_take_fees_back(&import->psp_id, &import->file_id, fees,
								  count);
}

/* write what add_line() collected; lines are the parser's, for the postings */
static void
flush_lines(Import *import, const SettlementLine *lines)
{
	MemoryContext caller;

	if (import->count == 0)
		return;
	caller = MemoryContextSwitchTo(import->batch_context);
	claim_references(import);
	insert_lines(import);
	MemoryContextSwitchTo(caller);
	if (import->fees_told)
		forget_fees(import, lines);

	for (int i = 0; i < import->count; i++)
		import->postings =
			settlement_posting_add(import->postings, &lines[i],
								   DatumGetBool(
									   import->values[LINE_REPEATED][i]));
	import->line_count += import->count;
	import->count = 0;
	MemoryContextReset(import->batch_context);
}

static void
raise_format_error(const Import *import)
{
	const SettlementError *error = &import->parser->error;

	if (error->out_of_memory)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_SETTLEMENT_FORMAT),
			 errmsg("settlement file cannot be read as %s",
					import->parser->format->name),
			 error->column[0] == '\0'
				 ? errdetail("Line " INT64_FORMAT ": %s.", error->line_no,
							 error->problem)
				 : errdetail("Line " INT64_FORMAT ", column %s: %s.",
							 error->line_no, error->column, error->problem),
			 error->hint[0] == '\0'
				 ? errhint(
					   "Nothing was imported. Ask the PSP for the file again.")
				 : errhint("Nothing was imported. %s", error->hint)));
}

/* write the lines that the parser holds now */
static void
take_lines(Import *import)
{
	SettlementParser *parser = import->parser;

	if (parser->failed)
		raise_format_error(import);
	for (int first = 0; first < parser->line_count; first += LINES_PER_INSERT)
	{
		int count = Min(parser->line_count - first, LINES_PER_INSERT);

		for (int i = 0; i < count; i++)
			add_line(import, &parser->lines[first + i]);
		flush_lines(import, &parser->lines[first]);
	}
	pgstat_progress_update_param(PROGRESS_COPY_TUPLES_PROCESSED,
								 import->line_count);
}

static void
start_progress(int64 bytes_total)
{
	const int	index[] = { PROGRESS_COPY_COMMAND, PROGRESS_COPY_TYPE,
							PROGRESS_COPY_BYTES_TOTAL };
	const int64 value[] = { PROGRESS_COPY_COMMAND_FROM,
							PROGRESS_COPY_TYPE_CALLBACK, bytes_total };
	Oid			relid;

	relid = get_relname_relid("settlement_line",
							  get_namespace_oid("payment", false));
	pgstat_progress_start_command(PROGRESS_COMMAND_COPY, relid);
	pgstat_progress_update_multi_param(lengthof(index), index, value);
}

static void
read_content(Import *import, bytea *content)
{
	const char *bytes = VARDATA_ANY(content);
	size_t		length = VARSIZE_ANY_EXHDR(content);

	start_progress(length);
	for (size_t at = 0; at < length; at += PIECE_BYTES)
	{
		size_t piece = Min(PIECE_BYTES, length - at);

		CHECK_FOR_INTERRUPTS();
		settlement_feed(import->parser, bytes + at, piece);
		take_lines(import);
		pgstat_progress_update_param(PROGRESS_COPY_BYTES_PROCESSED,
									 at + piece);
	}
	settlement_finish(import->parser);
	take_lines(import);
	pgstat_progress_end_command();
}

/* [{"warning": "not_matched", "category": "topup", "lines": 2, ...}, ...] */
static Datum
warnings_json(const SettlementParser *parser)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoChar(&json, '[');
	for (int i = 0; i < parser->warning_count; i++)
	{
		const SettlementWarning *warning = &parser->warnings[i];

		appendStringInfo(&json, "%s{\"warning\": \"%s\", ", i > 0 ? ", " : "",
						 warning->name);
		if (warning->category[0] != '\0')
		{
			appendStringInfoString(&json, "\"category\": ");
			escape_json(&json,
						pg_any_to_server(warning->category,
										 (int) strlen(warning->category),
										 PG_UTF8));
			appendStringInfoString(&json, ", ");
		}
		appendStringInfo(&json,
						 "\"lines\": " INT64_FORMAT
						 ", \"first_line\": " INT64_FORMAT "}",
						 warning->lines, warning->first_line_no);
	}
	appendStringInfoChar(&json, ']');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

static void
finish_file(Import *import)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID, INT8OID, JSONBOID };
	Datum			  values[3];

	values[0] = UUIDPGetDatum(&import->file_id);
	values[1] = Int64GetDatum(import->line_count);
	values[2] = warnings_json(import->parser);
	plan_keep(&plan,
			  "UPDATE payment.settlement_file SET status = 'parsed', "
			  "line_count = $2, warnings = $3 WHERE id = $1",
			  lengthof(types), types);
	if (order_write(plan, values, NULL, CAUSE_SETTLEMENT) != 1)
		elog(ERROR, "the settlement file is gone");
}

static Import *
start_import(const SettlementFormat *format, text *file_name)
{
	Import *import = palloc0(sizeof(Import));

	import->file_name = text_to_cstring(file_name);
	import->batch_context =
		AllocSetContextCreate(CurrentMemoryContext, "settlement lines",
							  ALLOCSET_DEFAULT_SIZES);
	import->callback.func = destroy_parser;
	import->callback.arg = import;
	MemoryContextRegisterResetCallback(CurrentMemoryContext,
									   &import->callback);
	import->parser = settlement_create(format);
	if (import->parser == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return import;
}

/*
 * payment.import_settlement(psp, format, file_name, content) -> uuid
 */
Datum
payment_import_settlement(PG_FUNCTION_ARGS)
{
	static const char *const names[] = { "psp", "format", "file_name",
										 "content" };
	const SettlementFormat	*format;
	text					*file_name;
	bytea					*content;
	Import					*import;
	pg_uuid_t				*file_id = palloc(sizeof(pg_uuid_t));

	for (int i = 0; i < (int) lengthof(names); i++)
		reconcile_refuse_null(fcinfo, i, names[i]);
	format = find_format(PG_GETARG_TEXT_PP(1));
	file_name = PG_GETARG_TEXT_PP(2);
	content = PG_GETARG_BYTEA_PP(3);
	check_file(file_name, content);

	/* within SPI's memory, which is gone when this ends, well or not */
	spi_begin();
	import = start_import(format, file_name);
	reconcile_find_psp(PG_GETARG_DATUM(0), &import->psp_id);
	insert_file(import, format->name, file_name, content);
	import->fees_told = exchange_lines_fees_told(&import->psp_id);
	read_content(import, content);
	settlement_posting_post(import->postings, &import->psp_id,
							&import->file_id, import->file_name);
	take_fees_back(import);
	finish_file(import);
	*file_id = import->file_id;
	spi_end();
	PG_RETURN_UUID_P(file_id);
}
