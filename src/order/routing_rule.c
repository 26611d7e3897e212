/*-------------------------------------------------------------------------
 *
 * routing_rule.c
 *	  The rules by which payments find their PSP, as administrators set them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"

#include "errcodes.h"
#include "money.h"
#include "order/batch.h"
#include "order/event.h"
#include "order/plan.h"
#include "order/route.h"
#include "order/typed_argument.h"
#include "payment.h"

PG_FUNCTION_INFO_V1(payment_set_routing_rule);
PG_FUNCTION_INFO_V1(payment_remove_routing_rule);

#define RULE_COLUMNS 10
#define MAX_PRIORITY 1000000
#define MAX_WEIGHT 1000

static const EventPlace here = { 0, 0 };

typedef struct RoutingRule
{
	char	  *name;
	char	  *psp;
	int32	   priority;
	char	  *currency;
	bool	   has_min_amount;
	int64	   min_amount;
	bool	   has_max_amount;
	int64	   max_amount;
	pg_uuid_t *seller;
	char	  *payment_method;
	int32	   weight;
	char	  *state;
} RoutingRule;

static void
check_range(const char *name, int32 value, int32 maximum)
{
	if (value < 1 || value > maximum)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("\"%s\" is not valid", name),
						errdetail("It is %d and must be from 1 to %d.", value,
								  maximum),
						errhint("The comments on the columns of "
								"payment.routing_rule say what each is "
								"for.")));
}

static void
check_amounts(const RoutingRule *rule)
{
	if ((rule->has_min_amount && rule->min_amount <= 0) ||
		(rule->has_max_amount && rule->max_amount <= 0))
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_AMOUNT),
				 errmsg("an amount must be positive"),
				 errdetail("A payment's total is at least 1 minor unit."),
				 errhint("Pass null for no limit.")));
	if (rule->has_min_amount && rule->has_max_amount &&
		rule->min_amount > rule->max_amount)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_AMOUNT),
				 errmsg("\"min_amount\" is above \"max_amount\""),
				 errdetail("No payment's total lies between " INT64_FORMAT
						   " and " INT64_FORMAT ".",
						   rule->min_amount, rule->max_amount),
				 errhint("Both count as inside.")));
	if ((rule->has_min_amount || rule->has_max_amount) &&
		rule->currency == NULL)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("an amount needs a currency"),
						errdetail("The same number of minor units is worth "
								  "different money in each."),
						errhint("Set a rule for each currency.")));
}

static void
check_rule(const RoutingRule *rule)
{
	event_check_text(&here, "name", rule->name);
	event_check_text(&here, "psp", rule->psp);
	event_check_optional(&here, "payment_method", rule->payment_method);
	check_range("priority", rule->priority, MAX_PRIORITY);
	check_range("weight", rule->weight, MAX_WEIGHT);
	if (rule->currency)
		currency_check(rule->currency);
	check_amounts(rule);
	if (rule->state == NULL || (strcmp(rule->state, "active") != 0 &&
								strcmp(rule->state, "paused") != 0))
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("\"state\" is not valid"),
						errdetail("It must be \"active\" or \"paused\"."),
						errhint("A rule that is paused is not asked.")));
}

static void
read_rule(FunctionCallInfo fcinfo, RoutingRule *rule)
{
	rule->name = text_argument(fcinfo, 0, "name");
	rule->psp = text_argument(fcinfo, 1, "psp");
	rule->currency = text_argument(fcinfo, 3, "currency");
	rule->payment_method = text_argument(fcinfo, 7, "payment_method");
	rule->state = text_argument(fcinfo, 9, "state");
	rule->priority = int32_argument(fcinfo, 2, "priority");
	rule->has_min_amount = !PG_ARGISNULL(4);
	rule->min_amount = rule->has_min_amount ? PG_GETARG_INT64(4) : 0;
	rule->has_max_amount = !PG_ARGISNULL(5);
	rule->max_amount = rule->has_max_amount ? PG_GETARG_INT64(5) : 0;
	rule->seller = PG_ARGISNULL(6) ? NULL : PG_GETARG_UUID_P(6);
	rule->weight = int32_argument(fcinfo, 8, "weight");
	check_rule(rule);
}

static void
put(Datum *values, char *nulls, int column, bool present, Datum value)
{
	nulls[column] = present ? ' ' : 'n';
	values[column] = value;
}

static Datum
text_datum(const char *text)
{
	return text ? CStringGetTextDatum(text) : (Datum) 0;
}

static void
store_rule(const RoutingRule *rule, const Psp *psp)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[RULE_COLUMNS] = { TEXTOID, INT4OID, TEXTOID,
											  INT8OID, INT8OID, UUIDOID,
											  TEXTOID, UUIDOID, INT4OID,
											  TEXTOID };
	Datum			  values[RULE_COLUMNS];
	char			  nulls[RULE_COLUMNS];

	put(values, nulls, 0, true, text_datum(rule->name));
	put(values, nulls, 1, true, Int32GetDatum(rule->priority));
	put(values, nulls, 2, rule->currency != NULL, text_datum(rule->currency));
	put(values, nulls, 3, rule->has_min_amount,
		Int64GetDatum(rule->min_amount));
	put(values, nulls, 4, rule->has_max_amount,
		Int64GetDatum(rule->max_amount));
	put(values, nulls, 5, rule->seller != NULL, UUIDPGetDatum(rule->seller));
	put(values, nulls, 6, rule->payment_method != NULL,
		text_datum(rule->payment_method));
	put(values, nulls, 7, true, UUIDPGetDatum(&psp->id));
	put(values, nulls, 8, true, Int32GetDatum(rule->weight));
	put(values, nulls, 9, true, text_datum(rule->state));
	batch_run(plan_keep(&plan,
						"INSERT INTO payment.routing_rule (name, priority,"
						" currency, min_amount, max_amount, seller_id,"
						" payment_method, psp_id, weight, state)"
						" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
						" ON CONFLICT (name) DO UPDATE SET"
						" priority = excluded.priority,"
						" currency = excluded.currency,"
						" min_amount = excluded.min_amount,"
						" max_amount = excluded.max_amount,"
						" seller_id = excluded.seller_id,"
						" payment_method = excluded.payment_method,"
						" psp_id = excluded.psp_id, weight = excluded.weight,"
						" state = excluded.state",
						RULE_COLUMNS, types),
			  values, nulls);
}

/* Two that count at once would both find room for the last one. */
static void
lock_rules(void)
{
	static SPIPlanPtr plan = NULL;

	batch_run(plan_keep(&plan,
						"LOCK TABLE payment.routing_rule"
						" IN SHARE ROW EXCLUSIVE MODE",
						0, NULL),
			  NULL, NULL);
}

static void
check_count(void)
{
	static SPIPlanPtr plan = NULL;
	int64			  count;

	batch_run(plan_keep(&plan, "SELECT count(*) FROM payment.routing_rule", 0,
						NULL),
			  NULL, NULL);
	count = row_int64(0, 1);
	if (count > payment_max_routing_rules)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_LIMIT_EXCEEDED),
				 errmsg("too many routing rules"),
				 errdetail("There would be " INT64_FORMAT ", the limit is %d.",
						   count, payment_max_routing_rules),
				 errhint("Remove some, or raise "
						 "payment.max_routing_rules.")));
}

/*
 * payment.set_routing_rule(name, psp, priority, currency, min_amount,
 * max_amount, seller, payment_method, weight, state)
 */
Datum
payment_set_routing_rule(PG_FUNCTION_ARGS)
{
	RoutingRule rule;
	PspList		list;
	const Psp  *psp;
	int			nest_level;

	read_rule(fcinfo, &rule);
	nest_level = batch_begin();
	psp_read_all(&list);
	psp = psp_by_name(&list, rule.psp);
	if (psp == NULL)
		psp_refuse_unknown(&here, "psp");
	if (rule.seller)
		seller_check_exists(rule.seller);
	lock_rules();
	store_rule(&rule, psp);
	check_count();
	batch_end(nest_level);
	PG_RETURN_VOID();
}

/*
 * payment.remove_routing_rule(name) -> boolean
 */
Datum
payment_remove_routing_rule(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { TEXTOID };
	char			 *name = text_argument(fcinfo, 0, "name");
	Datum			  value;
	uint64			  removed;
	int				  nest_level;

	event_check_text(&here, "name", name);
	value = CStringGetTextDatum(name);
	nest_level = batch_begin();
	removed =
		batch_run(plan_keep(&plan,
							"DELETE FROM payment.routing_rule WHERE name = $1",
							lengthof(types), types),
				  &value, NULL);
	batch_end(nest_level);
	PG_RETURN_BOOL(removed > 0);
}
