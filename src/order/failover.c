/*-------------------------------------------------------------------------
 *
 * failover.c
 *	  Which PSP an order goes on to when one has not executed it.
 *
 * Going on is safe only when nothing that was ever sent for the order can
 * still charge the payer.  So it takes three things: the order is executing
 * (not unknown, not pending: there the money may have moved), every request
 * that any PSP got for it has been answered with a definite no, and nobody
 * looks into a charge of it.  Waiting costs a sale; not waiting, a payer's
 * trust.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "order/move.h"
#include "order/plan.h"
#include "payment.h"

#define STOP_REASON \
	"another PSP says that it has charged it: see payment.exception"

/*
 * An attempt's own outcome is not written yet when it is asked about.  An
 * order's attempts have later ids than the order: older partitions need not be
 * looked into.
 */
#define FIND_QUERY                                                            \
	"SELECT o.id, next.id, p.payment_methods ->> next.name"                   \
	" FROM unnest($1, $2, $3) AS u (id, attempt_id, only_if_unsent)"          \
	" JOIN payment.order_record AS o ON o.id = u.id"                          \
	" JOIN payment.payment_record AS p ON p.id = o.payment_id"                \
	" CROSS JOIN LATERAL (SELECT v.id, v.name"                                \
	"  FROM unnest(p.route) WITH ORDINALITY AS r (psp_id, number)"            \
	"  JOIN payment.psp AS v ON v.id = r.psp_id"                              \
	"  LEFT JOIN payment.circuit_breaker AS b ON b.psp_id = v.id"             \
	"  WHERE v.state = 'active' AND v.id <> o.psp_id"                         \
	"  AND p.payment_methods ? v.name AND NOT EXISTS (SELECT"                 \
	"   FROM payment.attempt AS a WHERE a.object_id = o.id AND a.id > o.id"   \
	"   AND a.operation = 'pay' AND a.psp_id = v.id)"                         \
	"  ORDER BY coalesce(b.state = 'open', false), r.number LIMIT 1) AS next" \
	" WHERE o.routed AND o.status = 'executing' AND o.attempt_no < $4"        \
	" AND NOT EXISTS (SELECT FROM payment.attempt AS a"                       \
	"  WHERE a.object_id = o.id AND a.id > o.id AND a.operation = 'pay'"      \
	"  AND a.step = 'send' AND a.id <> u.attempt_id AND (a.outcome IS NULL"   \
	"  OR a.outcome NOT IN ('declined', 'failed', 'retry')"                   \
	"  OR a.outcome = 'retry' AND a.http_status >= 500))"                     \
	" AND (NOT u.only_if_unsent OR EXISTS (SELECT FROM payment.task AS t"     \
	"  JOIN payment.psp AS v ON v.id = t.psp_id"                              \
	"  WHERE t.object_id = o.id AND t.operation = 'pay'"                      \
	"  AND t.attempt_id = u.attempt_id AND t.dead_at IS NULL"                 \
	"  AND t.tries >= v.max_attempts AND t.first_sent_at = t.last_sent_at))"  \
	" AND NOT " MAY_BE_CHARGED("o.id") " ORDER BY o.id"

NextPsp *
failover_find(const MoveRequest *requests, int request_count, int *count)
{
	static SPIPlanPtr plan = NULL;
	const Oid types[] = { UUIDARRAYOID, UUIDARRAYOID, BOOLARRAYOID, INT4OID };
	Column	  orders, attempts, only_if_unsent;
	Datum	  values[lengthof(types)];
	NextPsp	 *found;

	*count = 0;
	if (request_count == 0)
		return NULL;
	column_init(&orders, UUIDOID);
	column_init(&attempts, UUIDOID);
	column_init(&only_if_unsent, BOOLOID);
	for (int i = 0; i < request_count; i++)
	{
		column_add_uuid(&orders, &requests[i].order_id);
		column_add_uuid(&attempts, &requests[i].attempt_id);
		column_add_bool(&only_if_unsent, requests[i].only_if_unsent);
	}
	values[0] = column_array(&orders);
	values[1] = column_array(&attempts);
	values[2] = column_array(&only_if_unsent);
	values[3] = Int32GetDatum(payment_max_attempts_per_order);
	*count =
		(int) batch_run(plan_keep(&plan, FIND_QUERY, lengthof(types), types),
						values, NULL);
	found = palloc0(sizeof(NextPsp) * Max(*count, 1));
	for (int row = 0; row < *count; row++)
	{
		row_uuid(row, 1, &found[row].order_id);
		row_uuid(row, 2, &found[row].psp_id);
		found[row].payment_method = row_text(row, 3);
	}
	return found;
}

static int
next_compare(const void *a, const void *b)
{
	return uuid_compare(&((const NextPsp *) a)->order_id,
						&((const NextPsp *) b)->order_id);
}

const NextPsp *
failover_of(const NextPsp *found, int count, const pg_uuid_t *order_id)
{
	NextPsp key = { .order_id = *order_id };

	if (count == 0)
		return NULL;
	return bsearch(&key, found, count, sizeof(NextPsp), next_compare);
}

/*
 * A request that is under way cannot be called back; claim_decide.c keeps it
 * from being repeated.
 */
void
failover_stop(const Column *orders)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, TIMESTAMPTZOID, TEXTOID };
	Datum			  values[3];

	if (orders->count == 0)
		return;
	values[0] = column_array(orders);
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[2] = CStringGetTextDatum(STOP_REASON);
	batch_run(plan_keep(&plan,
						"UPDATE payment.task SET dead_at = $2,"
						" last_error = $3 WHERE object_id = ANY ($1)"
						" AND operation = 'pay' AND step = 'send'"
						" AND attempt_id IS NULL AND dead_at IS NULL",
						lengthof(types), types),
			  values, NULL);
}
