/*-------------------------------------------------------------------------
 *
 * payout.c
 *	  A seller's available money goes to the seller's bank.
 *
 * The money leaves the seller's available balance together with the request,
 * so that it can be asked for only once; the ledger refuses what is not there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "errcodes.h"
#include "order/batch.h"
#include "order/event.h"
#include "order/plan.h"
#include "order/posting.h"
#include "order/transition.h"
#include "order/typed_argument.h"

PG_FUNCTION_INFO_V1(payment_payout);

static void
insert_payouts(Event **events, int count)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDARRAYOID, UUIDARRAYOID,  UUIDARRAYOID,
								  INT8ARRAYOID, TEXTARRAYOID,  TEXTARRAYOID,
								  TEXTOID,		TIMESTAMPTZOID };
	Column			  ids, sellers, psps, amounts, currencies, destinations;
	Datum			  values[lengthof(types)];

	column_init(&ids, UUIDOID);
	column_init(&sellers, UUIDOID);
	column_init(&psps, UUIDOID);
	column_init(&amounts, INT8OID);
	column_init(&currencies, TEXTOID);
	column_init(&destinations, TEXTOID);
	for (int i = 0; i < count; i++)
	{
		column_add_uuid(&ids, &events[i]->id);
		column_add_uuid(&sellers, &events[i]->orders[0].seller.id);
		column_add_uuid(&psps, &events[i]->psp_id);
		column_add_int64(&amounts, events[i]->orders[0].amount);
		column_add_text(&currencies, events[i]->orders[0].currency);
		column_add_text(&destinations, events[i]->destination);
	}
	values[0] = column_array(&ids);
	values[1] = column_array(&sellers);
	values[2] = column_array(&psps);
	values[3] = column_array(&amounts);
	values[4] = column_array(&currencies);
	values[5] = column_array(&destinations);
	values[6] =
		CStringGetTextDatum(GetUserNameFromId(GetSessionUserId(), false));
	values[7] = TimestampTzGetDatum(GetCurrentTimestamp());
	plan_keep(&plan,
			  "INSERT INTO payment.payout_record (id, seller_id, psp_id, "
			  "amount, currency, destination, status, requested_by, "
			  "updated_at) SELECT i, s, p, a, c, d, 'created', $7, $8 "
			  "FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), "
			  "pg_catalog.unnest($3), pg_catalog.unnest($4), "
			  "pg_catalog.unnest($5), pg_catalog.unnest($6)) "
			  "AS u (i, s, p, a, c, d)",
			  lengthof(types), types);
	order_write(plan, values, NULL, CAUSE_API);
}

static void
pg_attribute_noreturn() refuse_balance(const Event *event, int64 available)
{
	const EventOrder *order = event->orders;
	int				  exponent = currency_exponent(order->currency);
	char			  has[MONEY_TEXT_SIZE];
	char			  wants[MONEY_TEXT_SIZE];

	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_BALANCE_LIMIT),
			 errmsg("\"%s\" is more than the seller has available",
					event_path(&event->place, "amount")),
			 errdetail("Available are %s %s, asked for are %s.",
					   money_format(available, exponent, has), order->currency,
					   money_format(order->amount, exponent, wants)),
			 errhint("payment.release() makes money of delivered orders "
					 "available; the view payment.wallet shows it.")));
}

/*
 * To say clearly what is missing.  The ledger decides: it sees what others
 * take at this moment, and several payouts of one seller together.
 */
static void
check_available(Event **events, int count)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDARRAYOID, TEXTARRAYOID };
	Column			  sellers;
	Column			  currencies;
	Datum			  values[lengthof(types)];

	column_init(&sellers, UUIDOID);
	column_init(&currencies, TEXTOID);
	for (int i = 0; i < count; i++)
	{
		column_add_uuid(&sellers, &events[i]->orders[0].seller.id);
		column_add_text(&currencies, events[i]->orders[0].currency);
	}
	values[0] = column_array(&sellers);
	values[1] = column_array(&currencies);
	plan_keep(&plan,
			  "SELECT COALESCE((SELECT pg_catalog.sum(-b.balance) "
			  "FROM payment.account a "
			  "JOIN payment.balance_slot b ON b.account_id = a.id "
			  "WHERE a.code = 'seller_available' AND a.owner = u.s "
			  "AND a.currency = u.c), 0)::bigint "
			  "FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) "
			  "WITH ORDINALITY AS u (s, c, n) ORDER BY u.n",
			  lengthof(types), types);
	spi_read(plan, values, NULL);
	for (int i = 0; i < count; i++)
	{
		int64 available = row_int64(i, 1);

		if (available < events[i]->orders[0].amount)
			refuse_balance(events[i], available);
	}
}

/* The ledger names an account; the caller asked for a payout. */
static void
post_payouts(const Posting *postings, int count)
{
	MemoryContext caller = CurrentMemoryContext;

	PG_TRY();
	{
		posting_post(postings, count);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_PAYMENT_BALANCE_LIMIT)
			PG_RE_THROW();
		FlushErrorState();
		error->message =
			pstrdup("payouts are more than the seller has available");
		error->hint = pstrdup("The view payment.wallet shows what is.");
		ReThrowError(error);
	}
	PG_END_TRY();
}

static void
move_money(Event **events, int count)
{
	Posting *postings = palloc0(sizeof(Posting) * count);

	for (int i = 0; i < count; i++)
	{
		const EventOrder *order = events[i]->orders;
		Posting			 *posting = &postings[i];

		posting->kind = "payout";
		posting->subject = events[i]->id;
		strlcpy(posting->currency, order->currency, sizeof(posting->currency));
		posting->leg_count = 2;
		posting->legs[0].code = ACCOUNT_SELLER_AVAILABLE;
		posting->legs[0].owner = &order->seller.id;
		posting->legs[0].amount = order->amount;
		posting->legs[1].code = ACCOUNT_PAYOUT_CLEARING;
		posting->legs[1].owner = &order->seller.id;
		posting->legs[1].amount = -order->amount;
	}
	post_payouts(postings, count);
}

static void
set_status(Datum ids, const char *status)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDARRAYOID, TEXTOID };
	Datum			  values[lengthof(types)];

	values[0] = ids;
	values[1] = CStringGetTextDatum(status);
	plan_keep(&plan,
			  "UPDATE payment.payout_record SET status = $2 "
			  "WHERE id = ANY ($1)",
			  lengthof(types), types);
	order_write(plan, values, NULL, CAUSE_POLICY);
}

/* Every payout is approved by policy: there are no rules for people yet. */
static void
approve_by_policy(Event **events, int count)
{
	Column ids;
	Datum  array;

	column_init(&ids, UUIDOID);
	for (int i = 0; i < count; i++)
		column_add_uuid(&ids, &events[i]->id);
	array = column_array(&ids);
	set_status(array, "pending_approval");
	set_status(array, "approved");
	set_status(array, "scheduled");
}

void
payout_create(Event **events, int count)
{
	check_available(events, count);
	insert_payouts(events, count);
	move_money(events, count);
	approve_by_policy(events, count);
}

/*
 * payment.payout(seller, amount, currency, destination, idempotency_key, psp)
 * -> uuid
 */
Datum
payment_payout(PG_FUNCTION_ARGS)
{
	Event	   event = { 0 };
	EventOrder order = { 0 };
	char	  *currency;
	pg_uuid_t *result = palloc(sizeof(pg_uuid_t));

	order.seller.id = *uuid_argument(fcinfo, 0, "seller");
	order.seller.is_uuid = true;
	order.seller.reference = DatumGetCString(
		DirectFunctionCall1(uuid_out, UUIDPGetDatum(&order.seller.id)));
	order.amount = int64_argument(fcinfo, 1, "amount");
	currency = text_argument(fcinfo, 2, "currency");
	event.destination = text_argument(fcinfo, 3, "destination");
	event.key = text_argument(fcinfo, 4, "idempotency_key");
	event.psp = text_argument(fcinfo, 5, "psp");
	event_set_currency(&order, currency, &event.place);
	event.orders = &order;
	event.order_count = 1;
	event_prepare_pay_out(&event);
	event_accept(&event, 1);

	*result = event.id;
	PG_RETURN_UUID_P(result);
}
