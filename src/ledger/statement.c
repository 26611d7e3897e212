/*-------------------------------------------------------------------------
 *
 * statement.c
 *	  What happened on an account, and what its balance was.
 *
 * A statement lists entries in the order of their journals' ids, which is that
 * of posting as far as one clock tells.  Each call reads by one snapshot, so
 * that opening balance plus entries is the closing balance, whatever is
 * posted meanwhile.  A transaction that was long under way may commit entries
 * in the middle of what was read before; then the next page opens with
 * another balance than the last one closed with.
 *
 * The opening balance is a sum over what comes before, or the balance less
 * what comes after, whichever is the shorter way.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "argument.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "money.h"
#include "payment.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "uuid7.h"

#include "ledger/input.h"
#include "order/plan.h"

PG_FUNCTION_INFO_V1(payment_statement);
PG_FUNCTION_INFO_V1(payment_balance_as_of);

#define STATEMENT_MAX_PAGE 10000
#define STATEMENT_COLUMNS 11
/* of the query's columns, those that a line begins with */
#define ENTRY_TEXT_COLUMNS 7

typedef struct StatementPage
{
	TouchedAccount account;
	pg_uuid_t	   after; /* entries after this journal and leg ... */
	int32		   after_leg;
	pg_uuid_t	   until; /* ... and before this journal */
	int32		   size;
} StatementPage;

static const char before_sql[] =
	"SELECT (coalesce(sum(amount), 0) + (SELECT coalesce(sum(amount), 0) "
	"FROM payment.detached_balance WHERE account_id = $1))::bigint "
	"FROM payment.entry WHERE account_id = $1 AND journal_id <= $2 "
	"AND (journal_id < $2 OR leg <= $3)";

static const char after_sql[] =
	"SELECT ((SELECT coalesce(sum(balance), 0) FROM payment.balance_slot "
	"WHERE account_id = $1) - coalesce(sum(amount), 0))::bigint "
	"FROM payment.entry WHERE account_id = $1 AND journal_id >= $2 "
	"AND (journal_id > $2 OR leg > $3)";

static const char page_sql[] =
	"SELECT e.journal_id, e.leg::integer, j.kind, j.subject, j.effective_at, "
	"j.recorded_at, j.description, e.amount "
	"FROM payment.entry e JOIN payment.journal j ON j.id = e.journal_id "
	"WHERE e.account_id = $1 AND e.journal_id >= $2 "
	"AND (e.journal_id > $2 OR e.leg > $3) AND e.journal_id < $4 "
	"ORDER BY e.journal_id, e.leg LIMIT $5";

static const char as_of_sql[] =
	"SELECT (coalesce(sum(e.amount), 0) + (SELECT coalesce(sum(amount), 0) "
	"FROM payment.detached_balance WHERE account_id = $1))::bigint "
	"FROM payment.entry e JOIN payment.journal j ON j.id = e.journal_id "
	"WHERE e.account_id = $1 AND j.effective_at <= $2";

static const char last_detached_sql[] =
	"SELECT max(p.last_effective_at) FROM payment.detached_balance b "
	"JOIN payment.detached_partition p ON p.parent = 'journal' "
	"AND p.from_id = b.from_id WHERE b.account_id = $1";

/*
 * Read by one snapshot, the latest.  Which partitions there are is no matter
 * of snapshots, so the tables are locked before it is taken: what it does not
 * show as detached will stay attached.
 */
void
ledger_read_begin(void)
{
	ledger_lock(LEDGER_JOURNAL);
	ledger_lock(LEDGER_ENTRY);
	ledger_lock(LEDGER_BALANCE_SLOT);
	PushActiveSnapshot(GetLatestSnapshot());
	spi_begin();
}

void
ledger_read_end(void)
{
	spi_end();
	PopActiveSnapshot();
}

/* run a plan by that snapshot */
static void
read_plan(SPIPlanPtr plan, Datum *values)
{
	int code = SPI_execute_plan(plan, values, NULL, true, 0);

	if (code != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_plan failed: %s",
			 SPI_result_code_string(code));
}

static Datum
single_value(bool *isnull)
{
	Datum value =
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, isnull);

	SPI_freetuptable(SPI_tuptable);
	return value;
}

/* an account cannot have entries of before its id was made */
static bool
starts_in_first_half(const StatementPage *page)
{
	TimestampTz opened_at = uuid7_time(&page->account.id);
	TimestampTz starts_at = uuid7_time(&page->after);

	return starts_at - opened_at < GetCurrentTimestamp() - starts_at;
}

static int64
opening_balance(const StatementPage *page)
{
	static SPIPlanPtr before_plan = NULL;
	static SPIPlanPtr after_plan = NULL;
	Oid				  types[] = { UUIDOID, UUIDOID, INT4OID };
	Datum			  values[] = { UUIDPGetDatum(&page->account.id),
								   UUIDPGetDatum(&page->after),
								   Int32GetDatum(page->after_leg) };
	bool			  isnull;

	if (starts_in_first_half(page))
		read_plan(plan_keep(&before_plan, before_sql, lengthof(types), types),
				  values);
	else
		read_plan(plan_keep(&after_plan, after_sql, lengthof(types), types),
				  values);
	return DatumGetInt64(single_value(&isnull));
}

/* the line's name and balance; the caller puts in what else there is */
static void
put_line(ReturnSetInfo *result, const char *line, const StatementPage *page,
		 int64 balance, Datum *values, bool *nulls)
{
	values[0] = CStringGetTextDatum(line);
	nulls[0] = false;
	values[STATEMENT_COLUMNS - 1] =
		Int64GetDatum(account_normal_side(&page->account, balance));
	nulls[STATEMENT_COLUMNS - 1] = false;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
put_bare_line(ReturnSetInfo *result, const char *line,
			  const StatementPage *page, int64 balance)
{
	Datum values[STATEMENT_COLUMNS] = { 0 };
	bool  nulls[STATEMENT_COLUMNS];

	memset(nulls, true, sizeof(nulls));
	put_line(result, line, page, balance, values, nulls);
}

/* the entry in a row of page_sql; returns the balance after it */
static int64
put_entry(ReturnSetInfo *result, const StatementPage *page, HeapTuple row,
		  int64 balance)
{
	TupleDesc desc = SPI_tuptable->tupdesc;
	Datum	  values[STATEMENT_COLUMNS] = { 0 };
	bool	  nulls[STATEMENT_COLUMNS];
	bool	  isnull;
	int64	  amount = DatumGetInt64(
			SPI_getbinval(row, desc, ENTRY_TEXT_COLUMNS + 1, &isnull));
	int side = amount > 0 ? 8 : 9;

	memset(nulls, true, sizeof(nulls));
	for (int i = 1; i <= ENTRY_TEXT_COLUMNS; i++)
		values[i] = SPI_getbinval(row, desc, i, &nulls[i]);
	values[side] = Int64GetDatum(amount > 0 ? amount : -amount);
	nulls[side] = false;
	balance = money_add(balance, amount);
	put_line(result, "entry", page, balance, values, nulls);
	return balance;
}

/* with the key of the last entry where more follow */
static void
put_closing(ReturnSetInfo *result, const StatementPage *page, int64 balance,
			HeapTuple last)
{
	Datum values[STATEMENT_COLUMNS] = { 0 };
	bool  nulls[STATEMENT_COLUMNS];

	memset(nulls, true, sizeof(nulls));
	for (int i = 1; last != NULL && i <= 2; i++)
		values[i] = SPI_getbinval(last, SPI_tuptable->tupdesc, i, &nulls[i]);
	put_line(result, "closing", page, balance, values, nulls);
}

static void
read_page(ReturnSetInfo *result, const StatementPage *page)
{
	static SPIPlanPtr plan = NULL;
	Oid	   types[] = { UUIDOID, UUIDOID, INT4OID, UUIDOID, INT4OID };
	Datum  values[] = { UUIDPGetDatum(&page->account.id),
						UUIDPGetDatum(&page->after),
						Int32GetDatum(page->after_leg),
						UUIDPGetDatum(&page->until),
						Int32GetDatum(page->size + 1) };
	int64  balance = opening_balance(page);
	uint64 count;

	put_bare_line(result, "opening", page, balance);
	read_plan(plan_keep(&plan, page_sql, lengthof(types), types), values);
	count = Min(SPI_processed, (uint64) page->size);
	for (uint64 i = 0; i < count; i++)
		balance = put_entry(result, page, SPI_tuptable->vals[i], balance);
	put_closing(result, page, balance,
				SPI_processed > count ? SPI_tuptable->vals[count - 1] : NULL);
}

static void
page_arguments(FunctionCallInfo fcinfo, StatementPage *page)
{
	account_argument(fcinfo, 0, &page->account);
	uuid7_floor(PG_ARGISNULL(1) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(1),
				&page->after);
	page->after_leg = 0;
	uuid7_floor(PG_ARGISNULL(2) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(2),
				&page->until);
	if (PG_ARGISNULL(3) != PG_ARGISNULL(4))
		refuse_argument("key of a page", PG_ARGISNULL(3) ? "leg" : "journal",
						"Pass after_journal and after_leg, as in the closing "
						"line of the page before.");
	if (!PG_ARGISNULL(3))
	{
		page->after = *PG_GETARG_UUID_P(3);
		page->after_leg = PG_GETARG_INT32(4);
	}
	refuse_null(fcinfo, 5, "page_size");
	page->size = PG_GETARG_INT32(5);
	if (page->size < 1 || page->size > STATEMENT_MAX_PAGE)
		refuse_argument("page_size", psprintf("%d", page->size),
						"Pass 1 to " CppAsString2(STATEMENT_MAX_PAGE) ".");
}

Datum
payment_statement(PG_FUNCTION_ARGS)
{
	StatementPage page;

	page_arguments(fcinfo, &page);
	InitMaterializedSRF(fcinfo, 0);
	ledger_read_begin();
	read_page((ReturnSetInfo *) fcinfo->resultinfo, &page);
	ledger_read_end();
	return (Datum) 0;
}

/* what was detached counts as a whole: nothing can be said of in between */
static void
check_not_detached(const TouchedAccount *account, TimestampTz at)
{
	static SPIPlanPtr plan = NULL;
	Oid				  types[] = { UUIDOID };
	Datum			  values[] = { UUIDPGetDatum(&account->id) };
	bool			  isnull;
	Datum			  last;

	read_plan(plan_keep(&plan, last_detached_sql, lengthof(types), types),
			  values);
	last = single_value(&isnull);
	if (isnull || DatumGetTimestampTz(last) <= at)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_PERIOD_DETACHED),
			 errmsg("the balance of account \"%s\" at that time is not known "
					"any more",
					account->code),
			 errdetail("Journals of that time were detached, the last one of "
					   "%s.",
					   timestamptz_to_str(DatumGetTimestampTz(last))),
			 errhint("Pass a later time, or look into what was detached: "
					 "payment.detached_partition.")));
}

Datum
payment_balance_as_of(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	Oid				  types[] = { UUIDOID, TIMESTAMPTZOID };
	Datum			  values[2];
	TouchedAccount	  account;
	int64			  balance;
	bool			  isnull;

	account_argument(fcinfo, 0, &account);
	refuse_null(fcinfo, 1, "effective_at");
	values[0] = UUIDPGetDatum(&account.id);
	values[1] = PG_GETARG_DATUM(1);
	ledger_read_begin();
	check_not_detached(&account, PG_GETARG_TIMESTAMPTZ(1));
	read_plan(plan_keep(&plan, as_of_sql, lengthof(types), types), values);
	balance = DatumGetInt64(single_value(&isnull));
	ledger_read_end();
	PG_RETURN_INT64(account_normal_side(&account, balance));
}
