/*-------------------------------------------------------------------------
 *
 * move.c
 *	  Orders that are tried anew, under the next key.
 *
 * The attempt number is part of the key, so that no PSP takes the new request
 * for the old one.  What the old try left behind (the PSP's name of it, why it
 * failed) stays with its attempt; a lookup by it would find the wrong thing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/timestamp.h"

#include "order/move.h"
#include "order/plan.h"
#include "payment.h"

void
subject_move(Subject *subject, const pg_uuid_t *psp_id,
			 const char *payment_method, bool routed)
{
	Assert(subject->object == OBJECT_PAYMENT_ORDER);
	Assert(strcmp(subject->path.now, "executing") == 0);
	subject->psp_id = *psp_id;
	subject->payment_method = payment_method;
	subject->routed = routed;
	subject->attempt_no++;
	subject->psp_reference = NULL;
	subject->failure_code = NULL;
	subject->failure_message = NULL;
	subject->moved = true;
}

static void
write_orders(const Datum *columns, int count)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, UUIDARRAYOID, TEXTARRAYOID,
								  INT4ARRAYOID, BOOLARRAYOID };
	Datum			  values[lengthof(types)];

	memcpy(values, columns, sizeof(values));
	if (order_write(
			plan_keep(&plan,
					  "UPDATE payment.order_record AS o"
					  " SET psp_id = u.psp_id,"
					  " payment_method = u.payment_method,"
					  " attempt_no = u.attempt_no, routed = u.routed,"
					  " psp_reference = NULL, failure_code = NULL,"
					  " failure_message = NULL"
					  " FROM unnest($1, $2, $3, $4, $5) AS u (id, psp_id,"
					  " payment_method, attempt_no, routed)"
					  " WHERE o.id = u.id AND o.status = 'executing'",
					  lengthof(types), types),
			values, NULL, CAUSE_POLICY) != (uint64) count)
		elog(ERROR, "an order to try anew is not executing");
}

/* Whatever its task was, it is a new one: no tries, nothing sent. */
static void
write_tasks(const Datum *columns, const Column *ids)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, UUIDARRAYOID, UUIDARRAYOID,
								  TIMESTAMPTZOID };
	Datum			  values[] = { column_array(ids), columns[0], columns[1],
								   TimestampTzGetDatum(GetCurrentTimestamp()) };

	batch_run(
		plan_keep(&plan,
				  "INSERT INTO payment.task (id, operation, object_id, psp_id,"
				  " run_at) SELECT u.id, 'pay', u.object_id, u.psp_id, $4"
				  " FROM unnest($1, $2, $3) AS u (id, object_id, psp_id)"
				  " ON CONFLICT (object_id, operation) DO UPDATE"
				  " SET psp_id = excluded.psp_id, step = 'send',"
				  " run_at = excluded.run_at, tries = 0, attempt_id = NULL,"
				  " first_sent_at = NULL, last_sent_at = NULL,"
				  " key_spent = false, dead_at = NULL, last_error = NULL",
				  lengthof(types), types),
		values, NULL);
	payment_wake_dispatcher_at_commit();
}

void
subjects_write_moved(const SubjectSet *set)
{
	Column orders, psps, methods, attempt_numbers, routed, task_ids;
	Datum  columns[5];

	column_init(&orders, UUIDOID);
	column_init(&psps, UUIDOID);
	column_init(&methods, TEXTOID);
	column_init(&attempt_numbers, INT4OID);
	column_init(&routed, BOOLOID);
	column_init(&task_ids, UUIDOID);
	for (int i = 0; i < set->count; i++)
	{
		const Subject *subject = &set->subjects[i];
		pg_uuid_t	  *task_id;

		if (!subject->moved)
			continue;
		task_id = palloc(sizeof(pg_uuid_t));
		uuid7_generate(task_id);
		column_add_uuid(&task_ids, task_id);
		column_add_uuid(&orders, &subject->id);
		column_add_uuid(&psps, &subject->psp_id);
		column_add_text(&methods, subject->payment_method);
		column_add_int32(&attempt_numbers, subject->attempt_no);
		column_add_bool(&routed, subject->routed);
	}
	if (orders.count == 0)
		return;
	columns[0] = column_array(&orders);
	columns[1] = column_array(&psps);
	columns[2] = column_array(&methods);
	columns[3] = column_array(&attempt_numbers);
	columns[4] = column_array(&routed);
	write_orders(columns, orders.count);
	write_tasks(columns, &task_ids);
}
