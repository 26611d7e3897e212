/*-------------------------------------------------------------------------
 *
 * settled_write.c
 *	  Write down what is known of how PSPs settle orders and refunds.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "order/plan.h"
#include "order/settled_write.h"

static const Oid settled_types[SETTLED_COLUMNS] = { TEXTOID, INT8OID, INT8OID,
													TEXTOID, INT8OID, INT8OID,
													INT8OID };

void
settled_columns_init(Column *columns, Oid *array_types)
{
	for (int i = 0; i < SETTLED_COLUMNS; i++)
	{
		column_init(&columns[i], settled_types[i]);
		array_types[i] =
			settled_types[i] == TEXTOID ? TEXTARRAYOID : INT8ARRAYOID;
	}
}

static void
add_known(Column *column, bool known, int64 number)
{
	if (known)
		column_add_int64(column, number);
	else
		column_add_null(column);
}

void
settled_columns_add(Column *columns, const Subject *order)
{
	const SettledMoney *settled = &order->settled;
	bool known = settled->captured_amount > 0 || settled->amount != 0;
	bool exchanged =
		settled->currency && strcmp(settled->currency, order->currency) != 0;

	column_add_text(&columns[0], settled->currency);
	add_known(&columns[1], known, settled->captured_amount);
	add_known(&columns[2], known, settled->amount);
	column_add_text(&columns[3], settled->exchange_rate);
	add_known(&columns[4], settled->has_psp_fee, settled->psp_fee);
	add_known(&columns[5], exchanged, settled->exchanged_amount);
	add_known(&columns[6], exchanged, settled->exchanged_for);
}

static void
write_columns(SPIPlanPtr *plan, const char *sql, const Column *columns,
			  const Oid *types, int count)
{
	Datum values[SETTLED_COLUMNS + 1];

	if (columns[0].count == 0)
		return;
	for (int i = 0; i < count; i++)
		values[i] = column_array(&columns[i]);
	order_write(plan_keep(plan, sql, count, types), values, NULL,
				CAUSE_POLICY);
}

/* orders that get no new status */
static void
write_orders(const SubjectSet *set)
{
	static SPIPlanPtr plan = NULL;
	Oid				  types[SETTLED_COLUMNS + 1] = { UUIDARRAYOID };
	Column			  columns[SETTLED_COLUMNS + 1];

	column_init(&columns[0], UUIDOID);
	settled_columns_init(&columns[1], &types[1]);
	for (int i = 0; i < set->count; i++)
	{
		const Subject *s = &set->subjects[i];

		if (s->object != OBJECT_PAYMENT_ORDER || !s->settled.changed ||
			s->path.step_count > 0)
			continue;
		column_add_uuid(&columns[0], &s->id);
		settled_columns_add(&columns[1], s);
	}
	write_columns(&plan,
				  "UPDATE payment.order_record AS o SET " SETTLED_COLUMN_SET
				  " FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)"
				  " AS u (id, " SETTLED_COLUMN_NAMES ") WHERE o.id = u.id",
				  columns, types, lengthof(columns));
}

static void
write_refunds(const SubjectSet *set)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDARRAYOID, TEXTARRAYOID, INT8ARRAYOID,
								  TEXTARRAYOID, INT8ARRAYOID };
	Column			  columns[lengthof(types)];

	column_init(&columns[0], UUIDOID);
	column_init(&columns[1], TEXTOID);
	column_init(&columns[2], INT8OID);
	column_init(&columns[3], TEXTOID);
	column_init(&columns[4], INT8OID);
	for (int i = 0; i < set->count; i++)
	{
		const Subject *s = &set->subjects[i];

		if (s->object != OBJECT_REFUND || !s->settled.changed)
			continue;
		column_add_uuid(&columns[0], &s->id);
		column_add_text(&columns[1], s->settled.currency);
		column_add_int64(&columns[2], s->settled.amount);
		column_add_text(&columns[3], s->settled.exchange_rate);
		add_known(&columns[4], s->settled.is_exchanged,
				  s->settled.exchanged_for);
	}
	write_columns(&plan,
				  "UPDATE payment.refund_record AS r"
				  " SET settled_currency = u.currency,"
				  " settled_amount = u.amount,"
				  " exchange_rate = u.rate::numeric,"
				  " exchanged_for = u.exchanged_for"
				  " FROM unnest($1, $2, $3, $4, $5) AS u (id, currency,"
				  " amount, rate, exchanged_for) WHERE r.id = u.id",
				  columns, types, lengthof(types));
}

/* The row of an order captured just now is made with its fee, by a trigger. */
static void
write_fees(const SubjectSet *set)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDARRAYOID, TEXTARRAYOID, INT8ARRAYOID };
	Column			  columns[lengthof(types)];

	column_init(&columns[0], UUIDOID);
	column_init(&columns[1], TEXTOID);
	column_init(&columns[2], INT8OID);
	for (int i = 0; i < set->count; i++)
	{
		const Subject *s = &set->subjects[i];

		if (s->settled.new_fee == 0 || s->captured_before == 0)
			continue;
		column_add_uuid(&columns[0], &s->id);
		column_add_text(&columns[1], s->settled.currency);
		column_add_int64(&columns[2], s->settled.new_fee);
	}
	write_columns(&plan,
				  "UPDATE payment.unsettled_order AS o"
				  " SET settled_currency = u.currency,"
				  " psp_fee = coalesce(o.psp_fee, 0) + u.fee"
				  " FROM unnest($1, $2, $3) AS u (id, currency, fee)"
				  " WHERE o.order_id = u.id",
				  columns, types, lengthof(types));
}

void
settled_write(const SubjectSet *set)
{
	write_orders(set);
	write_refunds(set);
	write_fees(set);
}
