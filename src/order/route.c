/*-------------------------------------------------------------------------
 *
 * route.c
 *	  Which PSPs a payment goes to when its caller names none.
 *
 * The rules are asked once, at checkout.  All that match, in their order, are
 * the payment's route: its orders begin at the first PSP, and one that was
 * certainly not executed there goes on to the next (failover.c).  What the
 * rules say later changes nothing for a payment that is on its way.
 *
 * Chance among rules of one priority is drawn from the payment's id, so that
 * whoever looks at a payment can tell why it went where it went.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "common/int.h"

#include "order/batch.h"
#include "order/plan.h"
#include "order/route.h"

typedef struct Rule
{
	int32		priority;
	const char *currency; /* or NULL, as the others */
	int64		min_amount;
	int64		max_amount; /* PG_INT64_MAX: any */
	bool		has_seller;
	pg_uuid_t	seller_id;
	const char *payment_method;
	const Psp  *psp;
	int32		weight;
} Rule;

/* what rules ask of a payment */
typedef struct Facts
{
	const char		*currency;	/* NULL: several */
	const pg_uuid_t *seller_id; /* NULL: several */
	int64			 total;		/* of the one currency */
} Facts;

/* by priority, then name: what has no order of its own gets one */
static Rule *
read_rules(const PspList *list, int *count)
{
	static SPIPlanPtr plan = NULL;
	Rule			 *rules;
	int				  rows;

	plan_keep(&plan,
			  "SELECT priority, currency, coalesce(min_amount, 0), "
			  "coalesce(max_amount, 9223372036854775807), seller_id, "
			  "payment_method, psp_id, weight FROM payment.routing_rule "
			  "WHERE state = 'active' ORDER BY priority, name",
			  0, NULL);
	rows = (int) spi_read(plan, NULL, NULL);
	rules = palloc0(sizeof(Rule) * Max(rows, 1));
	*count = 0;
	for (int row = 0; row < rows; row++)
	{
		Rule	 *rule = &rules[*count];
		pg_uuid_t psp_id;

		rule->priority = row_int32(row, 1);
		rule->currency = row_text(row, 2);
		rule->min_amount = row_int64(row, 3);
		rule->max_amount = row_int64(row, 4);
		rule->has_seller = row_uuid(row, 5, &rule->seller_id);
		rule->payment_method = row_text(row, 6);
		row_uuid(row, 7, &psp_id);
		rule->psp = psp_by_id(list, &psp_id);
		rule->weight = row_int32(row, 8);
		if (rule->psp && rule->psp->active)
			(*count)++;
	}
	return rules;
}

static void
collect_facts(const Event *event, Facts *facts)
{
	if (event->orders == NULL || event->order_count < 1)
		elog(ERROR, "a payment without orders cannot be routed");
	facts->currency = event->orders[0].currency;
	facts->seller_id = &event->orders[0].seller.id;
	facts->total = 0;
	for (int i = 0; i < event->order_count; i++)
	{
		const EventOrder *order = &event->orders[i];

		if (facts->currency && strcmp(order->currency, facts->currency) != 0)
			facts->currency = NULL;
		if (facts->seller_id &&
			uuid_compare(&order->seller.id, facts->seller_id) != 0)
			facts->seller_id = NULL;
		if (pg_add_s64_overflow(facts->total, order->amount, &facts->total))
			facts->total = PG_INT64_MAX;
	}
}

/* the last * that can take one more character does */
bool
route_pattern_matches(const char *pattern, const char *text)
{
	const char *star = NULL;
	const char *taken = NULL;

	while (*text != '\0')
	{
		if (*pattern == '*')
		{
			star = pattern++;
			taken = text;
		}
		else if (*pattern == *text)
		{
			pattern++;
			text++;
		}
		else if (star)
		{
			pattern = star + 1;
			text = ++taken;
		}
		else
			return false;
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}

static bool
rule_matches(const Rule *rule, const Event *event, const Facts *facts)
{
	const char *token = psp_token(event, rule->psp);

	if (token == NULL)
		return false;
	if (rule->currency && (facts->currency == NULL ||
						   strcmp(rule->currency, facts->currency) != 0))
		return false;
	if (facts->total < rule->min_amount || facts->total > rule->max_amount)
		return false;
	if (rule->has_seller &&
		(facts->seller_id == NULL ||
		 uuid_compare(&rule->seller_id, facts->seller_id) != 0))
		return false;
	return rule->payment_method == NULL ||
		   route_pattern_matches(rule->payment_method, token);
}

static void
add_psp(Event *event, const Psp *psp)
{
	for (int i = 0; i < event->route_count; i++)
	{
		if (uuid_compare(&event->route[i], &psp->id) == 0)
			return;
	}
	event->route[event->route_count++] = psp->id;
}

/* All of one priority, each draw by the weights of those that are left. */
static void
draw_psps(Event *event, const Rule **rules, int count)
{
	while (count > 0)
	{
		uint64 total = 0;
		uint64 draw;
		int	   drawn = 0;

		for (int i = 0; i < count; i++)
			total += rules[i]->weight;
		draw = hash_bytes_extended(event->id.data, UUID_LEN, count) % total;
		while (draw >= (uint64) rules[drawn]->weight)
			draw -= rules[drawn++]->weight;
		add_psp(event, rules[drawn]->psp);
		memmove(&rules[drawn], &rules[drawn + 1],
				sizeof(Rule *) * (count - drawn - 1));
		count--;
	}
}

/* Those that are left alone at present come last, in the same order. */
static void
put_broken_last(const PspList *list, Event *event)
{
	pg_uuid_t *broken = palloc(sizeof(pg_uuid_t) * event->route_count);
	int		   broken_count = 0;
	int		   count = 0;

	for (int i = 0; i < event->route_count; i++)
	{
		if (psp_by_id(list, &event->route[i])->broken)
			broken[broken_count++] = event->route[i];
		else
			event->route[count++] = event->route[i];
	}
	memcpy(&event->route[count], broken, sizeof(pg_uuid_t) * broken_count);
	pfree(broken);
}

static void
find_route(const PspList *list, Event *event, const Rule *rules, int count)
{
	const Rule **equals = palloc(sizeof(Rule *) * Max(count, 1));
	Facts		 facts;
	int			 equal_count = 0;

	collect_facts(event, &facts);
	event->route = palloc(sizeof(pg_uuid_t) * Max(count, 1));
	event->route_count = 0;
	for (int i = 0; i < count; i++)
	{
		if (i > 0 && rules[i].priority != rules[i - 1].priority)
		{
			draw_psps(event, equals, equal_count);
			equal_count = 0;
		}
		if (rule_matches(&rules[i], event, &facts))
			equals[equal_count++] = &rules[i];
	}
	draw_psps(event, equals, equal_count);
	/* a single token may well be the first one's */
	if (event->payment_methods && event->route_count > 1)
		put_broken_last(list, event);
	pfree(equals);
}

void
route_resolve(const PspList *list, Event **events, int count)
{
	Rule *rules = NULL;
	int	  rule_count = 0;

	for (int i = 0; i < count; i++)
	{
		Event	  *event = events[i];
		const Psp *psp;

		if (event->psp)
			continue;
		if (rules == NULL)
			rules = read_rules(list, &rule_count);
		find_route(list, event, rules, rule_count);
		psp = event->route_count > 0 ? psp_by_id(list, &event->route[0])
									 : psp_choose_only(list, event);
		event->psp_id = psp->id;
		event->payment_method = psp_token(event, psp);

		/* a single token is worth nothing elsewhere */
		if (event->payment_methods == NULL || event->route_count == 1)
			event->route_count = 0;
	}
}
