/*-------------------------------------------------------------------------
 *
 * expire.c
 *	  Authorisations, and hosted pages, whose time is over.
 *
 * A PSP lets go of what was authorised after some days, and may not tell.  We
 * take it for gone a while after that: until then a capture that went out in
 * time may still be reported, and so may the PSP's own word.
 *
 * The same holds for a page of a PSP that tells nothing of pages.  Of any other
 * PSP only its own word ends a page.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/timestamp.h"

#include "errcodes.h"
#include "order/batch.h"
#include "order/hosted.h"
#include "order/plan.h"
#include "order/subject.h"
#include "order/typed_argument.h"
#include "payment.h"
#include "psp/psp.h"

PG_FUNCTION_INFO_V1(payment_expire_authorizations);

#define EXPIRE_MAX 10000

static int
find_expired(TimestampTz before, int32 most, SubjectKey *keys)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { TIMESTAMPTZOID, INT4OID };
	Datum values[] = { TimestampTzGetDatum(before), Int32GetDatum(most) };
	int	  count = (int) batch_run(
		  plan_keep(&plan,
					"SELECT o.id FROM payment.order_record AS o"
					  " WHERE o.status IN ('authorized', 'partially_captured')"
					  " AND o.authorized_until IS NOT NULL"
					  " AND o.authorized_until < $1 LIMIT $2",
					2, types),
		  values, NULL);
	for (int row = 0; row < count; row++)
	{
		keys[row].object = OBJECT_PAYMENT_ORDER;
		keys[row].operation = OPERATION_CAPTURE;
		row_uuid(row, 1, &keys[row].id);
	}
	return count;
}

/* PSPs that cannot be asked what became of a page */
static bool
find_silent(Column *psps)
{
	static SPIPlanPtr plan = NULL;
	uint64			  count =
		batch_run(plan_keep(&plan,
							"SELECT v.id, v.adapter FROM payment.psp AS v", 0,
							NULL),
				  NULL, NULL);

	column_init(psps, UUIDOID);
	for (uint64 row = 0; row < count; row++)
	{
		const PspAdapter *adapter = psp_adapter(row_text(row, 2));
		pg_uuid_t		 *id;

		if (adapter == NULL || !adapter->performs[PSP_OPERATION_REGISTER] ||
			adapter->inquiry[PSP_OPERATION_REGISTER].by_reference)
			continue;
		id = palloc(sizeof(pg_uuid_t));
		row_uuid(row, 1, id);
		column_add_uuid(psps, id);
	}
	return psps->count > 0;
}

static int
find_pages(TimestampTz before, int32 most, SubjectKey *keys)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { TIMESTAMPTZOID, INT4OID, UUIDARRAYOID };
	Datum			  values[lengthof(types)];
	Column			  psps;
	int				  count;

	if (!find_silent(&psps))
		return 0;
	values[0] = TimestampTzGetDatum(before);
	values[1] = Int32GetDatum(most);
	values[2] = column_array(&psps);
	count = (int) batch_run(
		plan_keep(&plan,
				  "SELECT h.order_id FROM payment.hosted_page AS h"
				  " JOIN payment.order_record AS o ON o.id = h.order_id"
				  " WHERE h.open_until < $1 AND o.status = 'requires_action'"
				  " AND o.psp_id = ANY ($3) LIMIT $2",
				  lengthof(types), types),
		values, NULL);
	for (int row = 0; row < count; row++)
	{
		keys[row] = (SubjectKey){ .object = OBJECT_PAYMENT_ORDER,
								  .operation = OPERATION_REGISTER };
		row_uuid(row, 1, &keys[row].id);
	}
	return count;
}

static bool
expire_page(Subject *subject)
{
	if (strcmp(subject->path.now, "requires_action") != 0 || !subject->hosted)
		return false;
	subject->page_over = subject_step(subject, "expired", CAUSE_POLICY);
	return subject->page_over;
}

/* their tasks would look once more */
static void
end_pages(SubjectSet *set)
{
	SubjectKey *ended = palloc(Max(set->count, 1) * sizeof(SubjectKey));
	int			count = 0;

	for (int i = 0; i < set->count; i++)
	{
		if (set->subjects[i].page_over)
			ended[count++] = (SubjectKey){ .object = OBJECT_PAYMENT_ORDER,
										   .id = set->subjects[i].id,
										   .operation = OPERATION_REGISTER };
	}
	subjects_end_tasks(ended, count);
	pages_write(set);
}

/* what was captured stays, and nothing will follow */
static bool
expire(Subject *subject, TimestampTz before)
{
	if (subject->authorized_until == 0 || subject->authorized_until >= before)
		return false;
	if (strcmp(subject->path.now, "authorized") == 0)
		return subject_step(subject, "expired", CAUSE_POLICY);
	return strcmp(subject->path.now, "partially_captured") == 0 &&
		   subject_step(subject, "captured", CAUSE_POLICY);
}

/*
 * payment.expire_authorizations(max_orders) -> bigint
 */
Datum
payment_expire_authorizations(PG_FUNCTION_ARGS)
{
	int32		most = int32_argument(fcinfo, 0, "max_orders");
	TimestampTz before = GetCurrentTimestamp() -
						 (int64) payment_authorization_grace_s * USECS_PER_SEC;
	SubjectKey *keys;
	SubjectSet	set;
	int			count;
	int64		expired = 0;
	int			nest_level;

	if (most < 1 || most > EXPIRE_MAX)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("\"max_orders\" is not valid"),
						errdetail("It is %d and must be from 1 to %d.", most,
								  EXPIRE_MAX),
						errhint("Call it again when there are more.")));
	nest_level = batch_begin();
	keys = palloc0(most * 2 * sizeof(SubjectKey));
	count = find_expired(before, most, keys);
	count += find_pages(before, most, keys + count);
	if (count > 0)
	{
		subjects_lock(&set, keys, count);
		for (int i = 0; i < set.count; i++)
		{
			if (expire(&set.subjects[i], before) ||
				expire_page(&set.subjects[i]))
				expired++;
		}
		subjects_write(&set);
		end_pages(&set);
	}
	batch_end(nest_level);
	PG_RETURN_INT64(expired);
}
