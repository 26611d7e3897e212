/*-------------------------------------------------------------------------
 *
 * stripe_csv_fuzz.c
 *	  Feed the Stripe CSV parser with anything.
 *
 * Beside not crashing: a file means the same whether it comes at once or in
 * pieces, and every line that comes out keeps what settlement.h promises.
 *
 *	  stripe_csv_fuzz FILE...				files as they are
 *	  stripe_csv_fuzz -n COUNT [-s SEED]	mutations of built-in files
 *
 * LLVMFuzzerTestOneInput is there for libFuzzer; define NO_MAIN then.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <stdlib.h>

#include "mb/pg_wchar.h"
#include "money.h"
#include "settlement/settlement.h"

#define INPUT_BYTES_MAX (256 * 1024)

/* what came out of one pass, boiled down to what two passes must agree on */
typedef struct Outcome
{
	bool   failed;
	int64  lines;
	int64  last_line_no;
	uint64 digest;
} Outcome;

extern int LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

/* not Assert: this must hold in every build */
#define REQUIRE(condition)                                          \
	do                                                              \
	{                                                               \
		if (!(condition))                                           \
		{                                                           \
			fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
			abort();                                                \
		}                                                           \
	} while (0)

static uint64
digest_bytes(uint64 digest, const void *bytes, size_t length)
{
	const uint8 *at = bytes;

	for (size_t i = 0; i < length; i++)
		digest = (digest ^ at[i]) * UINT64CONST(1099511628211);
	return digest;
}

static uint64
digest_text(uint64 digest, const char *text, size_t max)
{
	size_t length;

	if (text == NULL)
		return digest_bytes(digest, "\1", 1);
	length = strlen(text);
	REQUIRE(length <= max);
	REQUIRE(pg_encoding_verifymbstr(PG_UTF8, text, (int) length) ==
			(int) length);
	return digest_bytes(digest, text, length + 1);
}

static void
check_line(const SettlementLine *line, Outcome *outcome)
{
	uint64 digest = outcome->digest;

	REQUIRE(line->line_no > outcome->last_line_no);
	REQUIRE(line->external_id != NULL && line->external_id[0] != '\0');
	REQUIRE(line->category != NULL && line->category[0] != '\0');
	REQUIRE(currency_exponent(line->currency) >= 0);
	REQUIRE(line->gross <= SETTLEMENT_AMOUNT_MAX);
	REQUIRE(line->fee >= -SETTLEMENT_AMOUNT_MAX);
	digest =
		digest_text(digest, line->external_id, SETTLEMENT_REFERENCE_BYTES_MAX);
	digest =
		digest_text(digest, line->category, SETTLEMENT_CATEGORY_BYTES_MAX);
	digest = digest_text(digest, line->psp_reference,
						 SETTLEMENT_REFERENCE_BYTES_MAX);
	digest = digest_text(digest, line->payout_reference,
						 SETTLEMENT_REFERENCE_BYTES_MAX);
	digest =
		digest_text(digest, line->description, SETTLEMENT_FIELD_BYTES_MAX);
	digest = digest_bytes(digest, &line->gross, sizeof(line->gross));
	digest = digest_bytes(digest, &line->fee, sizeof(line->fee));
	digest = digest_bytes(digest, &line->net, sizeof(line->net));
	digest =
		digest_bytes(digest, &line->occurred_at, sizeof(line->occurred_at));
	digest = digest_bytes(digest, line->claimed_order_id,
						  sizeof(line->claimed_order_id));
	outcome->last_line_no = line->line_no;
	outcome->digest = digest;
	outcome->lines++;
}

static void
check_batch(const SettlementParser *parser, Outcome *outcome)
{
	for (int i = 0; i < parser->line_count && !parser->failed; i++)
		check_line(&parser->lines[i], outcome);
}

/* each piece in memory of its own, so that reading past its end is seen */
static bool
feed_piece(SettlementParser *parser, const uint8 *data, size_t length)
{
	char *piece = malloc(Max(length, 1));
	bool  ok;

	REQUIRE(piece != NULL);
	memcpy(piece, data, length);
	ok = settlement_feed(parser, piece, length);
	free(piece);
	return ok;
}

static Outcome
run(const uint8 *data, size_t size, size_t piece)
{
	SettlementParser *parser = settlement_create(&stripe_csv_format);
	Outcome			  outcome = { 0 };
	bool			  ok = true;

	REQUIRE(parser != NULL);
	for (size_t at = 0; ok && at < size; at += piece)
	{
		ok = feed_piece(parser, data + at, Min(piece, size - at));
		check_batch(parser, &outcome);
	}
	if (ok)
	{
		ok = settlement_finish(parser);
		check_batch(parser, &outcome);
	}
	REQUIRE(ok == !parser->failed);
	REQUIRE(parser->warning_count <= SETTLEMENT_WARNINGS_MAX);
	outcome.failed = parser->failed;
	if (outcome.failed)
	{
		REQUIRE(!parser->error.out_of_memory);
		REQUIRE(parser->error.line_no > 0);
		REQUIRE(parser->error.problem[0] != '\0');
		outcome.last_line_no = parser->error.line_no;
		outcome.digest =
			digest_text(0, parser->error.column, sizeof(parser->error.column));
		outcome.digest = digest_text(outcome.digest, parser->error.problem,
									 sizeof(parser->error.problem));
		outcome.lines = 0;
	}
	settlement_destroy(parser);
	return outcome;
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	Outcome whole;
	Outcome pieces;

	if (size < 1)
		return 0;
	whole = run(data + 1, size - 1, Max(size, 1));
	pieces = run(data + 1, size - 1, 1 + data[0]);
	REQUIRE(whole.failed == pieces.failed);
	REQUIRE(whole.lines == pieces.lines);
	REQUIRE(whole.last_line_no == pieces.last_line_no);
	REQUIRE(whole.digest == pieces.digest);
	return 0;
}

#ifndef NO_MAIN

#define HEADER                                                              \
	"balance_transaction_id,created_utc,currency,gross,fee,net,"            \
	"reporting_category,payment_intent_id,payment_metadata[payment_order]," \
	"description\n"

static const char *const seeds[] = {
	HEADER
	"txn_1,2025-01-31 23:59:59,usd,100.00,3.20,96.80,charge,pi_1,"
	"0195d5a0-0000-7000-8000-000000000001,Shoes\n"
	"txn_2,2025-02-01 00:00:00,jpy,1000000,36000,964000,charge,pi_2,,\"two\r\n"
	"lines, \"\"quoted\"\"\"\n"
	"txn_3,,kwd,-1.234,0,-1.234,refund,pi_3,,\xC3\xA9\n"
	"txn_4,,usd,-50,0,-50,payout,,,\n",
	"\xEF\xBB\xBF" HEADER "txn_1,,EUR,1.00,0.10,0.90,charge,,,\r\n\r\n",
	"net,fee,gross,currency,reporting_category,balance_transaction_id,created,"
	"available_on,extra\n"
	"0.9,0.1,1,eur,fee,\"txn_1\",2024-02-29T12:30Z,2024-03-01,\"\"\n",
};

static const char *const tokens[] = {
	"\"",
	"\"\"",
	",",
	"\n",
	"\r\n",
	"\r",
	"-",
	".",
	"usd",
	"JPY",
	"0.005",
	"1e9",
	"NaN",
	"charge",
	"9223372036854775807",
	"-92233720368547758.08",
	"2025-02-29 10:00:00",
	"\xFF",
	"\xEF\xBB\xBF",
	"\xF0\x9F\x92\xB6",
	"payout",
	"gross",
};

static uint64 random_state = 1;

/* xorshift; repeatable from its seed */
static uint32
random_below(uint32 limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32) ((random_state >> 16) % limit);
}

/* replace removed bytes at a place by others */
static size_t
splice(uint8 *data, size_t size, size_t at, size_t removed, const void *added,
	   size_t length)
{
	removed = Min(removed, size - at);
	if (size - removed + length > INPUT_BYTES_MAX)
		return size;
	memmove(data + at + length, data + at + removed, size - at - removed);
	memcpy(data + at, added, length);
	return size - removed + length;
}

static size_t
mutate(uint8 *data, size_t size)
{
	size_t		at = 1 + random_below((uint32) Max(size - 1, 1));
	const char *token = tokens[random_below(lengthof(tokens))];
	uint8		byte = (uint8) random_below(256);
	uint8		copy[4096];
	size_t		length;

	at = Min(at, size);
	switch (random_below(6))
	{
		case 0:
			return splice(data, size, at, 1, &byte, 1);
		case 1:
			return splice(data, size, at, 0, token, strlen(token));
		case 2:
			return splice(data, size, at, random_below(8), token,
						  strlen(token));
		case 3: /* lose a piece */
			return splice(data, size, at, random_below(64), "", 0);
		case 4: /* truncate */
			return random_below(8) == 0 ? at : size;
		default: /* repeat a piece, sometimes often */
			length = Min(size - at, random_below(sizeof(copy)));
			memcpy(copy, data + at, length);
			for (int i = random_below(16) == 0 ? 40 : 1; i > 0; i--)
				size = splice(data, size, at, 0, copy, length);
			return size;
	}
}

static void
run_mutations(long count)
{
	uint8 *data = malloc(INPUT_BYTES_MAX);

	REQUIRE(data != NULL);
	for (long i = 0; i < count; i++)
	{
		const char *seed = seeds[random_below(lengthof(seeds))];
		size_t		size = 1 + strlen(seed);

		data[0] = (uint8) random_below(256);
		memcpy(data + 1, seed, size - 1);
		for (int changes = (int) random_below(6); changes > 0; changes--)
			size = mutate(data, size);
		LLVMFuzzerTestOneInput(data, size);
	}
	free(data);
}

static void
run_file(const char *name)
{
	FILE  *file = fopen(name, "rb");
	uint8 *data = malloc(INPUT_BYTES_MAX);
	size_t size;

	if (file == NULL || data == NULL)
	{
		perror(name);
		exit(1);
	}
	data[0] = 7;
	size = 1 + fread(data + 1, 1, INPUT_BYTES_MAX - 1, file);
	LLVMFuzzerTestOneInput(data, size);
	fclose(file);
	free(data);
}

int
main(int argc, char **argv)
{
	long count = 0;

	for (int i = 1; i < argc; i++)
	{
		if (strcmp(argv[i], "-n") == 0 && i + 1 < argc)
			count = atol(argv[++i]);
		else if (strcmp(argv[i], "-s") == 0 && i + 1 < argc)
			random_state = strtoull(argv[++i], NULL, 10) * 2 + 1;
		else
			run_file(argv[i]);
	}
	for (int i = 0; i < (int) lengthof(seeds); i++)
	{
		Outcome outcome = run((const uint8 *) seeds[i], strlen(seeds[i]), 100);

		REQUIRE(!outcome.failed && outcome.lines > 0);
	}
	run_mutations(count);
	return 0;
}

#endif /* NO_MAIN */
