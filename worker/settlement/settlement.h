/*-------------------------------------------------------------------------
 *
 * settlement.h
 *	  Settlement files: bytes in, lines out.
 *
 * Pure code: no SQL, no server state, nothing is raised.  A parser takes a file
 * in pieces of any size and after each piece holds the lines that ended in it.
 * Memory comes from malloc and is bounded by the limits below, however large
 * the file is.
 *
 * What breaks the layout (a truncated or ragged line, a bad number) is an
 * error that names line and column and ends the file.  What is only odd (fees
 * that do not add up, a category that nothing is matched with) is a warning,
 * and the line is kept.  Neither ever repeats what a field held: it could be
 * a card number.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_SETTLEMENT_H
#define PAYMENT_SETTLEMENT_H

/* limits, in bytes where they are no counts */
#define SETTLEMENT_COLUMNS_MAX 1024
#define SETTLEMENT_FIELD_BYTES_MAX 65536
#define SETTLEMENT_CATEGORY_BYTES_MAX 63
#define SETTLEMENT_REFERENCE_BYTES_MAX 255
#define SETTLEMENT_WARNINGS_MAX 64

/* minor units of one line, either sign: sums must fit, too */
#define SETTLEMENT_AMOUNT_MAX INT64CONST(10000000000000000)

/* What a line is to us; says how it is posted and what it is matched with. */
typedef enum SettlementKind
{
	SETTLEMENT_CHARGE,
	SETTLEMENT_REFUND,
	SETTLEMENT_DISPUTE,
	SETTLEMENT_ADJUSTMENT, /* of a payment's amount, by the PSP */
	SETTLEMENT_FEE,		   /* the PSP's own charges, of no single payment */
	SETTLEMENT_PAYOUT, /* what the other lines add up to, sent to the bank */
	SETTLEMENT_OTHER   /* everything else, and what is not known yet */
} SettlementKind;

/* Strings are UTF-8, owned by the parser and valid until it is fed again. */
typedef struct SettlementLine
{
	int64		   line_no; /* where it begins in the file, from 1 */
	SettlementKind kind;
	const char	  *category; /* in the file's words */
	const char	  *external_id;
	const char	  *psp_reference; /* or NULL */
	bool		   has_claimed_order;
	uint8		   claimed_order_id[16];
	char		   currency[4];
	int64		   gross; /* minor units, signed */
	int64		   fee;
	int64		   net;
	char		   presentment_currency[4]; /* empty: the same as currency */
	int64		   presentment_amount;		/* what the payer saw */
	bool		   has_occurred_at;
	int64		   occurred_at; /* microseconds since 2000-01-01 UTC */
	bool		   has_available_on;
	int64		   available_on;
	const char	  *payout_reference; /* or NULL */
	const char	  *description;		 /* or NULL */
} SettlementLine;

typedef struct SettlementWarning
{
	const char *name; /* arithmetic, category, ... */
	char		category[SETTLEMENT_CATEGORY_BYTES_MAX + 1]; /* or empty */
	int64		lines;
	int64		first_line_no;
} SettlementWarning;

typedef struct SettlementError
{
	bool  out_of_memory; /* the rest says nothing then */
	int64 line_no;
	char  column[64]; /* its name or number; empty: the whole line */
	char  problem[160];
	char  hint[160]; /* or empty */
} SettlementError;

typedef struct SettlementParser SettlementParser;

/* One file format.  feed and finish return false when there is an error. */
typedef struct SettlementFormat
{
	const char *name;
	SettlementParser *(*create)(void); /* NULL: out of memory */
	bool (*feed)(SettlementParser *parser, const char *bytes, size_t length);
	bool (*finish)(SettlementParser *parser);
	void (*destroy)(SettlementParser *parser);
} SettlementFormat;

extern const SettlementFormat stripe_csv_format;

typedef struct SettlementBlock SettlementBlock;

/* What every format's parser begins with. */
struct SettlementParser
{
	const SettlementFormat *format;
	SettlementLine		   *lines; /* of the last piece */
	int						line_count;
	int						line_space;
	SettlementBlock		   *blocks; /* their strings */
	SettlementWarning		warnings[SETTLEMENT_WARNINGS_MAX];
	int						warning_count;
	bool					failed;
	SettlementError			error;
};

/* for callers */
extern const SettlementFormat *settlement_find_format(const char *name);
extern SettlementParser *settlement_create(const SettlementFormat *format);
extern bool settlement_feed(SettlementParser *parser, const char *bytes,
							size_t length);
extern bool settlement_finish(SettlementParser *parser);
extern void settlement_destroy(SettlementParser *parser);

/* for formats; those that return NULL or false have set the error */
extern SettlementLine *settlement_add_line(SettlementParser *parser);
extern char *settlement_copy(SettlementParser *parser, const char *text,
							 size_t length);
extern void	 settlement_release(SettlementParser *parser);
extern bool	 settlement_fail(SettlementParser *parser, int64 line_no,
							 const char *column, const char *problem,
							 const char *hint);
extern bool	 settlement_fail_memory(SettlementParser *parser);
extern void	 settlement_warn(SettlementParser *parser, const char *name,
							 const char *category, int64 line_no);
extern bool	 settlement_parse_time(const char *text, size_t length, int64 *at);
extern bool	 settlement_parse_uuid(const char *text, size_t length,
								   uint8 *bytes);

#endif /* PAYMENT_SETTLEMENT_H */
