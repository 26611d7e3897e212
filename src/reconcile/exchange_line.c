/*-------------------------------------------------------------------------
 *
 * exchange_line.c
 *	  What settlement lines tell of exchanges and fees that answers did not
 *	  tell, or told otherwise.
 *
 * The file's journal has taken gross and fee out of psp_receivable in the
 * currency of the line.  What the PSP's answers had not told of is put there
 * now, out of the payer's currency; what they told otherwise is made good, and
 * the difference is gain or loss.  So nothing is left of the order in
 * psp_receivable, in neither currency.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "money.h"
#include "order/batch.h"
#include "order/exchange.h"
#include "order/plan.h"
#include "reconcile/exchange_line.h"
#include "reconcile/statements.h"

#define LINES_PER_PAGE 1000
#define ORDER_COLUMNS 6
#define REFUND_COLUMNS 4

/* what a page of lines changes */
typedef struct LinePage
{
	const pg_uuid_t *psp_id;
	Posting			*postings;
	int				 posting_count;
	Column			 orders[ORDER_COLUMNS];
	Column			 refunds[REFUND_COLUMNS];
} LinePage;

void
exchange_lines_lock(const pg_uuid_t *psp_id)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID };
	Datum			  values[] = { UUIDPGetDatum(psp_id) };

	plan_keep(&plan, lock_exchanged_sql, lengthof(types), types);
	(void) batch_run(plan, values, NULL);
}

static void
page_init(LinePage *page, const pg_uuid_t *psp_id, int lines)
{
	page->psp_id = psp_id;
	page->postings = palloc0(sizeof(Posting) * Max(lines, 1));
	page->posting_count = 0;
	for (int i = 0; i < ORDER_COLUMNS; i++)
		column_init(&page->orders[i], i == 0   ? UUIDOID
									  : i == 1 ? TEXTOID
											   : INT8OID);
	for (int i = 0; i < REFUND_COLUMNS; i++)
		column_init(&page->refunds[i], i == 0	? UUIDOID
									   : i == 1 ? TEXTOID
												: INT8OID);
}

/* a column only points to its ids */
static void
add_id(Column *column, const pg_uuid_t *id)
{
	pg_uuid_t *copy = palloc(sizeof(pg_uuid_t));

	*copy = *id;
	column_add_uuid(column, copy);
}

static void
add_order(LinePage *page, const pg_uuid_t *id, const SettledMoney *settled,
		  bool is_charge)
{
	Column *columns = page->orders;

	add_id(&columns[0], id);
	column_add_text(&columns[1], settled->currency);
	column_add(&columns[2], Int64GetDatum(settled->captured_amount),
			   !is_charge);
	column_add(&columns[3], Int64GetDatum(settled->amount), !is_charge);
	column_add_int64(&columns[4], settled->exchanged_amount);
	column_add_int64(&columns[5], settled->exchanged_for);
}

/*
 * A journal of the subject: so much of the payer's currency for so much of the
 * line's, carried at that value.  None when there is nothing to move.
 */
static void
post(LinePage *page, const pg_uuid_t *subject, const char *currency,
	 const char *settled_currency, int64 amount, int64 settled_amount,
	 int64 value)
{
	Posting *posting = &page->postings[page->posting_count];

	if (amount == 0 && settled_amount == 0)
		return;
	posting->kind = amount == 0 ? "exchange_corrected" : "exchange";
	posting->subject = *subject;
	strlcpy(posting->currency, currency, sizeof(posting->currency));
	exchange_legs(posting, page->psp_id, settled_currency, amount,
				  settled_amount, value);
	page->posting_count++;
}

static void
write_columns(SPIPlanPtr *plan, const char *sql, const Column *columns,
			  int count)
{
	Oid	  types[ORDER_COLUMNS];
	Datum values[ORDER_COLUMNS];

	if (columns[0].count == 0)
		return;
	for (int i = 0; i < count; i++)
	{
		types[i] = i == 0	? UUIDARRAYOID
				   : i == 1 ? TEXTARRAYOID
							: INT8ARRAYOID;
		values[i] = column_array(&columns[i]);
	}
	order_write(plan_keep(plan, sql, count, types), values, NULL,
				CAUSE_SETTLEMENT);
}

static void
page_write(const LinePage *page)
{
	static SPIPlanPtr order_plan = NULL;
	static SPIPlanPtr refund_plan = NULL;

	write_columns(&order_plan, update_exchanged_orders_sql, page->orders,
				  ORDER_COLUMNS);
	write_columns(&refund_plan, update_exchanged_refunds_sql, page->refunds,
				  REFUND_COLUMNS);
	posting_post(page->postings, page->posting_count);
}

/* ---- charges ---- */

static void
take_charge(LinePage *page, uint64 row)
{
	pg_uuid_t	 order_id;
	int64		 gross = row_int64(row, 2);
	int64		 rest = row_int64(row, 5) - row_int64(row, 6);
	int64		 difference = gross - row_int64(row, 7);
	int64		 value = rest > 0 ? difference : 0;
	SettledMoney settled = {
		.currency = row_text(row, 1),
		.captured_amount = row_int64(row, 5),
		.amount = gross,
		.exchanged_amount = row_int64(row, 8) + rest,
		.exchanged_for = row_int64(row, 9) + value,
	};

	row_uuid(row, 3, &order_id);
	post(page, &order_id, row_text(row, 4), settled.currency, rest, difference,
		 value);
	add_order(page, &order_id, &settled, true);
}

static void
post_charges(const pg_uuid_t *psp_id, Datum lines)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDARRAYOID };
	uint64			  rows;
	LinePage		  page;

	plan_keep(&plan, exchanged_charges_sql, lengthof(types), types);
	rows = batch_run(plan, &lines, NULL);
	page_init(&page, psp_id, (int) rows);
	for (uint64 row = 0; row < rows; row++)
		take_charge(&page, row);
	SPI_freetuptable(SPI_tuptable);
	page_write(&page);
}

/* ---- refunds ---- */

/* rows of one order follow one another: what it is after those before */
typedef struct RefundedOrder
{
	pg_uuid_t	 id;
	SettledMoney settled;
	bool		 changed;
} RefundedOrder;

static void
add_refund(LinePage *page, const pg_uuid_t *id, const char *currency,
		   int64 amount, bool exchanged, int64 exchanged_for)
{
	add_id(&page->refunds[0], id);
	column_add_text(&page->refunds[1], currency);
	column_add_int64(&page->refunds[2], amount);
	column_add(&page->refunds[3], Int64GetDatum(exchanged_for), !exchanged);
}

/* What came back otherwise than it had been taken */
static void
take_failure(LinePage *page, uint64 row, const pg_uuid_t *refund_id)
{
	if (!row_is_null(row, 7))
		post(page, refund_id, row_text(row, 4), row_text(row, 1), 0,
			 row_int64(row, 2) - row_int64(row, 7), 0);
}

/*
 * One that has failed is exchanged no more: what went and what comes back are
 * in the line's currency only.
 */
static void
take_refund(LinePage *page, uint64 row, const pg_uuid_t *refund_id,
			RefundedOrder *order)
{
	const char *currency = row_text(row, 1);
	int64		taken = money_negate(row_int64(row, 2));
	int64		amount = row_int64(row, 6);
	bool		exchanged = !row_is_null(row, 8);
	bool		failed = row_bool(row, 9);
	int64		value = row_int64(row, 8);

	if (exchanged)
		post(page, refund_id, row_text(row, 4), currency, 0,
			 row_int64(row, 7) - taken, 0);
	else if (!failed)
	{
		value = exchange_value(&order->settled, amount, taken);
		post(page, refund_id, row_text(row, 4), currency, -amount, -taken,
			 -value);
		order->settled.currency = currency;
		order->settled.exchanged_amount -= amount;
		order->settled.exchanged_for -= value;
		order->changed = true;
	}
	add_refund(page, refund_id, currency, taken, exchanged || !failed, value);
}

static void
leave_order(LinePage *page, RefundedOrder *order)
{
	if (order->changed)
		add_order(page, &order->id, &order->settled, false);
	order->changed = false;
}

static void
enter_order(LinePage *page, uint64 row, RefundedOrder *order)
{
	pg_uuid_t id;

	row_uuid(row, 3, &id);
	if (uuid_compare(&id, &order->id) == 0)
		return;
	leave_order(page, order);
	order->id = id;
	order->settled = (SettledMoney){ .exchanged_amount = row_int64(row, 11),
									 .exchanged_for = row_int64(row, 12) };
}

static void
post_refunds(const pg_uuid_t *psp_id, Datum lines)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDARRAYOID, UUIDOID };
	Datum			  values[] = { lines, UUIDPGetDatum(psp_id) };
	RefundedOrder	  order = { .changed = false };
	uint64			  rows;
	LinePage		  page;

	plan_keep(&plan, exchanged_refunds_sql, lengthof(types), types);
	rows = batch_run(plan, values, NULL);
	page_init(&page, psp_id, (int) rows);
	for (uint64 row = 0; row < rows; row++)
	{
		pg_uuid_t refund_id;

		row_uuid(row, 5, &refund_id);
		enter_order(&page, row, &order);
		if (row_bool(row, 10))
			take_failure(&page, row, &refund_id);
		else
			take_refund(&page, row, &refund_id, &order);
	}
	leave_order(&page, &order);
	SPI_freetuptable(SPI_tuptable);
	page_write(&page);
}

/* ---- pages ---- */

typedef void (*PostPage)(const pg_uuid_t *psp_id, Datum lines);

static void
post_pages(const pg_uuid_t *psp_id, Datum lines, PostPage post_page)
{
	Datum		 *ids;
	int			  count;
	MemoryContext context;
	MemoryContext caller;

	if (lines == 0)
		return;
	deconstruct_array(DatumGetArrayTypeP(lines), UUIDOID, UUID_LEN, false,
					  TYPALIGN_CHAR, &ids, NULL, &count);
	context = AllocSetContextCreate(CurrentMemoryContext, "exchanged lines",
									ALLOCSET_DEFAULT_SIZES);
	for (int first = 0; first < count; first += LINES_PER_PAGE)
	{
		CHECK_FOR_INTERRUPTS();
		caller = MemoryContextSwitchTo(context);
		post_page(psp_id, PointerGetDatum(construct_array(
							  ids + first, Min(count - first, LINES_PER_PAGE),
							  UUIDOID, UUID_LEN, false, TYPALIGN_CHAR)));
		MemoryContextSwitchTo(caller);
		MemoryContextReset(context);
	}
	MemoryContextDelete(context);
}

void
exchange_lines_post(const pg_uuid_t *psp_id, Datum charges, Datum refunds)
{
	post_pages(psp_id, charges, post_charges);
	post_pages(psp_id, refunds, post_refunds);
}

/* ---- fees ---- */

bool
exchange_lines_fees_told(const pg_uuid_t *psp_id)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID };
	Datum			  values[] = { UUIDPGetDatum(psp_id) };

	plan_keep(&plan,
			  "SELECT FROM payment.journal"
			  " WHERE subject = $1 AND kind = 'psp_fee' LIMIT 1",
			  lengthof(types), types);
	return batch_run(plan, values, NULL) > 0;
}

ToldFee *
exchange_lines_forget_fees(const pg_uuid_t *psp_id, Datum references,
						   Datum claimed, int *count)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID, TEXTARRAYOID, UUIDARRAYOID };
	Datum	 values[] = { UUIDPGetDatum(psp_id), references, claimed };
	ToldFee *fees;

	plan_keep(&plan, forget_fees_sql, lengthof(types), types);
	*count = (int) order_write(plan, values, NULL, CAUSE_SETTLEMENT);
	fees = palloc(sizeof(ToldFee) * Max(*count, 1));
	for (int row = 0; row < *count; row++)
	{
		strlcpy(fees[row].currency, row_text(row, 1),
				sizeof(fees[row].currency));
		fees[row].fee = row_int64(row, 2);
	}
	SPI_freetuptable(SPI_tuptable);
	return fees;
}

ToldFee *
exchange_lines_fees(Datum currencies, Datum sums, int *count)
{
	Datum	*names;
	Datum	*values;
	ToldFee *fees;

	*count = 0;
	if (currencies == 0)
		return NULL;
	deconstruct_array(DatumGetArrayTypeP(currencies), TEXTOID, -1, false,
					  TYPALIGN_INT, &names, NULL, count);
	deconstruct_array(DatumGetArrayTypeP(sums), INT8OID, 8, FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &values, NULL, count);
	fees = palloc(sizeof(ToldFee) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
	{
		strlcpy(fees[i].currency, TextDatumGetCString(names[i]),
				sizeof(fees[i].currency));
		fees[i].fee = DatumGetInt64(values[i]);
	}
	return fees;
}

void
exchange_lines_take_fees_back(const pg_uuid_t *psp_id,
							  const pg_uuid_t *subject, const ToldFee *fees,
							  int count)
{
	Posting *postings = palloc0(sizeof(Posting) * Max(count, 1));

	for (int i = 0; i < count; i++)
	{
		postings[i].kind = "psp_fee_settled";
		postings[i].subject = *subject;
		strlcpy(postings[i].currency, fees[i].currency,
				sizeof(postings[i].currency));
		weigh_leg(&postings[i], ACCOUNT_PSP_RECEIVABLE, psp_id, fees[i].fee);
		weigh_leg(&postings[i], ACCOUNT_PSP_FEE, psp_id, -fees[i].fee);
	}
	posting_post(postings, count);
}
