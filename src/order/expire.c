/*-------------------------------------------------------------------------
 *
 * expire.c
 *	  Authorisations whose time is over.
 *
 * A PSP lets go of what was authorised after some days, and may not tell.  We
 * take it for gone a while after that: until then a capture that went out in
 * time may still be reported, and so may the PSP's own word.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/timestamp.h"

#include "errcodes.h"
#include "order/batch.h"
#include "order/plan.h"
#include "order/subject.h"
#include "order/typed_argument.h"
#include "payment.h"

PG_FUNCTION_INFO_V1(payment_expire_authorizations);

#define EXPIRE_MAX 10000

static SubjectKey *
find_expired(TimestampTz before, int32 most, int *count)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { TIMESTAMPTZOID, INT4OID };
	Datum values[] = { TimestampTzGetDatum(before), Int32GetDatum(most) };
	SubjectKey *keys;

	*count = (int) batch_run(
		plan_keep(&plan,
				  "SELECT o.id FROM payment.order_record AS o"
				  " WHERE o.status IN ('authorized', 'partially_captured')"
				  " AND o.authorized_until IS NOT NULL"
				  " AND o.authorized_until < $1 LIMIT $2",
				  2, types),
		values, NULL);
	keys = palloc0(Max(*count, 1) * sizeof(SubjectKey));
	for (int row = 0; row < *count; row++)
	{
		keys[row].object = OBJECT_PAYMENT_ORDER;
		keys[row].operation = OPERATION_CAPTURE;
		row_uuid(row, 1, &keys[row].id);
	}
	return keys;
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
	keys = find_expired(before, most, &count);
	if (count > 0)
	{
		subjects_lock(&set, keys, count);
		for (int i = 0; i < set.count; i++)
			expired += expire(&set.subjects[i], before) ? 1 : 0;
		subjects_write(&set);
	}
	batch_end(nest_level);
	PG_RETURN_INT64(expired);
}
