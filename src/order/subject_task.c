/*-------------------------------------------------------------------------
 *
 * subject_task.c
 *	  The tasks of what a batch of evidence is about: ended, buried, revived.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/timestamp.h"

#include "order/batch.h"
#include "order/plan.h"
#include "order/subject.h"
#include "payment.h"

void
subjects_end_tasks(const SubjectKey *keys, int count)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, TEXTARRAYOID };
	Column			  ids;
	Column			  operations;
	Datum			  values[2];

	if (count == 0)
		return;
	column_init(&ids, UUIDOID);
	column_init(&operations, TEXTOID);
	for (int i = 0; i < count; i++)
	{
		column_add_uuid(&ids, &keys[i].id);
		column_add_text(&operations, keys[i].operation);
	}
	values[0] = column_array(&ids);
	values[1] = column_array(&operations);
	batch_run(plan_keep(&plan,
						"DELETE FROM payment.task AS t"
						" USING unnest($1, $2) AS u (object_id, operation)"
						" WHERE t.object_id = ANY (ARRAY[u.object_id])"
						" AND t.operation = u.operation",
						2, types),
			  values, NULL);
}

void
subjects_bury_tasks(const SubjectKey *keys, const char *const *reasons,
					int count)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
								  TIMESTAMPTZOID };
	Column			  columns[3];
	Datum			  values[4];

	if (count == 0)
		return;
	column_init(&columns[0], UUIDOID);
	column_init(&columns[1], TEXTOID);
	column_init(&columns[2], TEXTOID);
	for (int i = 0; i < count; i++)
	{
		column_add_uuid(&columns[0], &keys[i].id);
		column_add_text(&columns[1], keys[i].operation);
		column_add_text(&columns[2], reasons[i]);
	}
	for (int i = 0; i < 3; i++)
		values[i] = column_array(&columns[i]);
	values[3] = TimestampTzGetDatum(GetCurrentTimestamp());
	batch_run(plan_keep(&plan,
						"UPDATE payment.task AS t SET dead_at = $4,"
						" step = 'lookup', attempt_id = NULL,"
						" last_error = u.reason"
						" FROM unnest($1, $2, $3)"
						" AS u (object_id, operation, reason)"
						" WHERE t.object_id = ANY (ARRAY[u.object_id])"
						" AND t.operation = u.operation",
						4, types),
			  values, NULL);
}

void
subjects_revive_tasks(Datum object_ids)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, TIMESTAMPTZOID };
	Datum			  values[2];

	values[0] = object_ids;
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	if (batch_run(plan_keep(&plan,
							"UPDATE payment.task AS t SET dead_at = NULL,"
							" step = 'lookup', tries = 0,"
							" run_at = $2 + p.poll_interval_ms"
							" * interval '1 millisecond'"
							" FROM payment.psp AS p"
							" WHERE t.object_id = ANY ($1)"
							" AND t.dead_at IS NOT NULL AND p.id = t.psp_id",
							2, types),
				  values, NULL) > 0)
		payment_wake_dispatcher_at_commit();
}
