/*-------------------------------------------------------------------------
 *
 * seller.c
 *	  Whose orders they are.
 *
 * A caller names a seller by the reference of its own system or by our id.
 * Our id counts first: nobody can register a reference to pass for another.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "errcodes.h"
#include "order/batch.h"
#include "order/event.h"
#include "order/fee.h"
#include "order/plan.h"
#include "order/typed_argument.h"
#include "text_guard.h"
#include "uuid7.h"

PG_FUNCTION_INFO_V1(payment_register_seller);
PG_FUNCTION_INFO_V1(payment_seller_id);

/* One order of an event, and where it stands. */
typedef struct PlacedOrder
{
	EventOrder *order;
	EventPlace	place;
	int			lookup; /* number of the seller and currency asked for */
} PlacedOrder;

/* A seller and a currency that orders name, asked for once. */
typedef struct SellerLookup
{
	const SellerName *seller;
	const char		 *currency;
	bool			  found;
	bool			  suspended;
	pg_uuid_t		  id;
	FeeSchedule		 *fee_schedules; /* that may concern them */
	int				  fee_schedule_count;
} SellerLookup;

static PlacedOrder *
collect_orders(Event **events, int count, int *order_count)
{
	PlacedOrder *orders;
	int			 total = 0;

	for (int i = 0; i < count; i++)
		total += events[i]->order_count;
	orders = palloc(sizeof(PlacedOrder) * total);
	total = 0;
	for (int i = 0; i < count; i++)
	{
		for (int n = 0; n < events[i]->order_count; n++)
		{
			orders[total].order = &events[i]->orders[n];
			orders[total].place.event = events[i]->place.event;
			orders[total].place.order =
				events[i]->type == EVENT_PAY_IN ? n + 1 : 0;
			total++;
		}
	}
	*order_count = total;
	return orders;
}

static int
compare_lookups(const PlacedOrder *left, const PlacedOrder *right)
{
	int order =
		strcmp(left->order->seller.reference, right->order->seller.reference);

	return order != 0 ? order
					  : strcmp(left->order->currency, right->order->currency);
}

/* Details before none, so that a lookup has them if any order has. */
static int
compare_orders(const void *a, const void *b)
{
	const PlacedOrder *left = *(PlacedOrder *const *) a;
	const PlacedOrder *right = *(PlacedOrder *const *) b;
	int				   order = compare_lookups(left, right);

	if (order == 0)
		order = (int) right->order->seller.with_details -
				(int) left->order->seller.with_details;
	return order;
}

static SellerLookup *
group_orders(PlacedOrder *orders, int count, int *lookup_count)
{
	PlacedOrder **sorted = palloc(sizeof(PlacedOrder *) * count);
	SellerLookup *lookups = palloc0(sizeof(SellerLookup) * count);
	int			  total = 0;

	for (int i = 0; i < count; i++)
		sorted[i] = &orders[i];
	qsort(sorted, count, sizeof(PlacedOrder *), compare_orders);
	for (int i = 0; i < count; i++)
	{
		if (i == 0 || compare_lookups(sorted[i - 1], sorted[i]) != 0)
		{
			lookups[total].seller = &sorted[i]->order->seller;
			lookups[total].currency = sorted[i]->order->currency;
			total++;
		}
		sorted[i]->lookup = total - 1;
	}
	*lookup_count = total;
	return lookups;
}

/*
 * Scalar subqueries, because COALESCE stops at the first that finds a row;
 * OFFSET 0 keeps the planner from evaluating the seller's once for each use.
 * The schedules of fees come with the sellers, one in a row.
 */
#define LOOKUP_QUERY                                                          \
	"SELECT q.n, q.seller_id, s.state, " FEE_COLUMNS                          \
	" FROM (SELECT u.n, u.currency, COALESCE( "                               \
	"  (SELECT x.id FROM payment.seller x WHERE x.id = u.id), "               \
	"  (SELECT x.id FROM payment.seller x WHERE x.reference = u.reference)) " \
	"  AS seller_id "                                                         \
	"  FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), "        \
	"  pg_catalog.unnest($3)) WITH ORDINALITY "                               \
	"  AS u (reference, id, currency, n) OFFSET 0) q "                        \
	"LEFT JOIN payment.seller s ON s.id = q.seller_id " FEE_JOIN(             \
		"q.seller_id", "q.currency", "$4") "ORDER BY q.n"

/* the rows of one lookup, from row on; returns the first of the next one */
static uint64
read_lookup(SellerLookup *lookup, uint64 row, uint64 rows)
{
	int64  number = row_int64(row, 1);
	uint64 end = row;

	lookup->found = row_uuid(row, 2, &lookup->id);
	lookup->suspended =
		lookup->found && strcmp(row_text(row, 3), "active") != 0;
	while (end < rows && row_int64(end, 1) == number)
		end++;
	lookup->fee_schedules = palloc(sizeof(FeeSchedule) * (end - row));
	lookup->fee_schedule_count = 0;
	for (; row < end; row++)
	{
		if (fee_schedule_read(
				row, 4, &lookup->fee_schedules[lookup->fee_schedule_count]))
			lookup->fee_schedule_count++;
	}
	return end;
}

static void
look_up(SellerLookup *lookups, int count, TimestampTz at)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TEXTARRAYOID, UUIDARRAYOID, TEXTARRAYOID,
								  TIMESTAMPTZOID };
	Column			  references;
	Column			  ids;
	Column			  currencies;
	Datum			  values[lengthof(types)];
	uint64			  rows;
	uint64			  row = 0;

	column_init(&references, TEXTOID);
	column_init(&ids, UUIDOID);
	column_init(&currencies, TEXTOID);
	for (int i = 0; i < count; i++)
	{
		const SellerName *seller = lookups[i].seller;

		column_add_text(&references, seller->reference);
		column_add_uuid(&ids, seller->is_uuid ? &seller->id : NULL);
		column_add_text(&currencies, lookups[i].currency);
	}
	values[0] = column_array(&references);
	values[1] = column_array(&ids);
	values[2] = column_array(&currencies);
	values[3] = TimestampTzGetDatum(at);
	plan_keep(&plan, LOOKUP_QUERY, lengthof(types), types);
	rows = spi_read(plan, values, NULL);
	for (int i = 0; i < count; i++)
	{
		if (row >= rows)
			elog(ERROR, "lookup of sellers lost rows");
		row = read_lookup(&lookups[i], row, rows);
	}
}

/*
 * Register the sellers that are new and come with details.  Lookups are in
 * the order of references, so that calls with the same new sellers wait for
 * each other in one direction only.  Returns whether there were any.
 */
static bool
register_new(const SellerLookup *lookups, int count)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
								  JSONBARRAYOID };
	Column			  ids;
	Column			  references;
	Column			  names;
	Column			  metadata;
	Datum			  values[lengthof(types)];

	column_init(&ids, UUIDOID);
	column_init(&references, TEXTOID);
	column_init(&names, TEXTOID);
	column_init(&metadata, JSONBOID);
	for (int i = 0; i < count; i++)
	{
		const SellerName *seller = lookups[i].seller;
		pg_uuid_t		 *id;

		if (lookups[i].found || !seller->with_details)
			continue;
		id = palloc(sizeof(pg_uuid_t));
		uuid7_generate(id);
		column_add_uuid(&ids, id);
		column_add_text(&references, seller->reference);
		column_add_text(&names,
						seller->name ? seller->name : seller->reference);
		column_add(&metadata,
				   JsonbPGetDatum(seller->metadata ? seller->metadata
												   : event_empty_metadata()),
				   false);
	}
	if (ids.count == 0)
		return false;
	values[0] = column_array(&ids);
	values[1] = column_array(&references);
	values[2] = column_array(&names);
	values[3] = column_array(&metadata);
	plan_keep(&plan,
			  "INSERT INTO payment.seller (id, reference, name, metadata) "
			  "SELECT i, r, n, m FROM ROWS FROM (pg_catalog.unnest($1), "
			  "pg_catalog.unnest($2), pg_catalog.unnest($3), "
			  "pg_catalog.unnest($4)) AS u (i, r, n, m) "
			  "ON CONFLICT (reference) DO NOTHING",
			  lengthof(types), types);
	batch_run(plan, values, NULL);
	return true;
}

static void
check_seller(const SellerLookup *lookup, const EventPlace *place)
{
	if (!lookup->found)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_UNKNOWN_SELLER),
				 errmsg("\"%s\" is no registered seller",
						event_path(place, "seller")),
				 errdetail("There is none with that reference or id."),
				 errhint("payment.register_seller() registers one; submit() "
						 "does so when given the seller as an object.")));
	if (lookup->suspended)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_WRONG_STATE),
				 errmsg("\"%s\" is suspended", event_path(place, "seller")),
				 errdetail("A suspended seller neither sells nor is "
						   "paid."),
				 errhint("Have the seller's state looked into.")));
}

void
seller_resolve(Event **events, int count, TimestampTz at)
{
	PlacedOrder	 *orders;
	SellerLookup *lookups;
	int			  order_count;
	int			  lookup_count;

	orders = collect_orders(events, count, &order_count);
	lookups = group_orders(orders, order_count, &lookup_count);
	look_up(lookups, lookup_count, at);
	if (register_new(lookups, lookup_count))
		look_up(lookups, lookup_count, at);

	for (int i = 0; i < order_count; i++)
	{
		const SellerLookup *lookup = &lookups[orders[i].lookup];
		EventOrder		   *order = orders[i].order;

		check_seller(lookup, &orders[i].place);
		order->fee_schedules = lookup->fee_schedules;
		order->fee_schedule_count = lookup->fee_schedule_count;
		order->seller.id = lookup->id;
	}
}

void
seller_check_exists(const pg_uuid_t *seller)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID };
	Datum			  values[] = { UUIDPGetDatum(seller) };

	plan_keep(&plan, "SELECT FROM payment.seller WHERE id = $1 FOR KEY SHARE",
			  lengthof(types), types);
	if (spi_read(plan, values, NULL) != 1)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_UNKNOWN_SELLER),
						errmsg("\"seller\" is no registered seller"),
						errdetail("There is none with that id."),
						errhint("payment.seller_id() finds the id of a "
								"reference.")));
}

/*
 * payment.register_seller(reference, name, metadata) -> uuid
 */
Datum
payment_register_seller(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr		plan = NULL;
	static const Oid		types[] = { UUIDOID, TEXTOID, TEXTOID, JSONBOID };
	static const EventPlace here = { 0, 0 };
	Datum					values[lengthof(types)];
	char				   *reference = text_argument(fcinfo, 0, "reference");
	char				   *name = text_argument(fcinfo, 1, "name");
	Jsonb				   *metadata = object_argument(fcinfo, 2, "metadata");
	pg_uuid_t				id;
	pg_uuid_t			   *result = palloc(sizeof(pg_uuid_t));
	int						nest_level;

	event_check_text(&here, "reference", reference);
	event_check_text(&here, "name", name);
	uuid7_generate(&id);
	values[0] = UUIDPGetDatum(&id);
	values[1] = CStringGetTextDatum(reference);
	values[2] = CStringGetTextDatum(name);
	values[3] = JsonbPGetDatum(metadata);

	nest_level = batch_begin();
	plan_keep(
		&plan,
		"INSERT INTO payment.seller AS s (id, reference, name, metadata) "
		"VALUES ($1, $2, $3, $4) ON CONFLICT (reference) DO UPDATE "
		"SET name = excluded.name, metadata = excluded.metadata "
		"RETURNING s.id",
		lengthof(types), types);
	if (batch_run(plan, values, NULL) != 1 || !row_uuid(0, 1, result))
		elog(ERROR, "registering a seller gave no id");
	batch_end(nest_level);
	PG_RETURN_UUID_P(result);
}

/*
 * payment.seller_id(reference) -> uuid
 */
Datum
payment_seller_id(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr		plan = NULL;
	static const Oid		types[] = { TEXTOID };
	static const EventPlace here = { 0, 0 };
	char				   *reference = text_argument(fcinfo, 0, "reference");
	pg_uuid_t			   *result = palloc(sizeof(pg_uuid_t));
	Datum					values[lengthof(types)];
	int						nest_level;
	bool					found;

	event_check_text(&here, "reference", reference);
	values[0] = CStringGetTextDatum(reference);
	nest_level = batch_begin();
	plan_keep(&plan, "SELECT id FROM payment.seller WHERE reference = $1",
			  lengthof(types), types);
	found = spi_read(plan, values, NULL) == 1 && row_uuid(0, 1, result);
	batch_end(nest_level);
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_UNKNOWN_SELLER),
				 errmsg("\"reference\" is that of no registered seller"),
				 errdetail("There is none with it."),
				 errhint("payment.register_seller() registers one.")));
	PG_RETURN_UUID_P(result);
}
