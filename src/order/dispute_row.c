/*-------------------------------------------------------------------------
 *
 * dispute_row.c
 *	  Disputes in their table: read under a lock, written with their steps.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "order/batch.h"
#include "order/dispute.h"
#include "order/plan.h"

/* id, status, and what changes */
#define CHANGING_COLUMNS 14

int64
dispute_borne(const pg_uuid_t *order_id)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID };
	Datum			  id = UUIDPGetDatum(order_id);

	batch_run(plan_keep(&plan,
						"SELECT coalesce(sum(platform_loss), 0)::bigint"
						" FROM payment.dispute_record"
						" WHERE order_id = $1 AND id > $1 AND is_taken",
						lengthof(types), types),
			  &id, NULL);
	return row_int64(0, 1);
}

bool
dispute_read(Dispute *dispute, const pg_uuid_t *id)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID };
	Datum			  values[] = { UUIDPGetDatum(id) };

	plan_keep(&plan,
			  "SELECT d.order_id, d.seller_id, d.psp_id, d.amount, d.currency,"
			  " d.psp_reference, d.reason, d.respond_by, d.status, d.is_taken,"
			  " d.from_pending, d.from_available, d.from_receivable,"
			  " d.fee_share, d.platform_loss, d.fee, d.fee_currency,"
			  " d.sequence FROM payment.dispute_record AS d WHERE d.id = $1"
			  " FOR NO KEY UPDATE OF d",
			  lengthof(types), types);
	if (batch_run(plan, values, NULL) == 0)
		return false;
	memset(dispute, 0, sizeof(Dispute));
	dispute->id = *id;
	row_uuid(0, 1, &dispute->order_id);
	row_uuid(0, 2, &dispute->seller_id);
	row_uuid(0, 3, &dispute->psp_id);
	dispute->amount = row_int64(0, 4);
	dispute->currency = row_text(0, 5);
	dispute->psp_reference = row_text(0, 6);
	dispute->reason = row_text(0, 7);
	dispute->respond_by = row_time(0, 8);
	dispute->path.first = dispute->path.now = row_text(0, 9);
	dispute->is_taken = row_bool(0, 10);
	dispute->from_pending = row_int64(0, 11);
	dispute->from_available = row_int64(0, 12);
	dispute->from_receivable = row_int64(0, 13);
	dispute->fee_share = row_int64(0, 14);
	dispute->platform_loss = row_int64(0, 15);
	dispute->fee = row_int64(0, 16);
	dispute->fee_currency = row_text(0, 17);
	dispute->sequence = row_int64(0, 18);
	return true;
}

static void
put_text(Datum *values, char *nulls, int column, const char *text)
{
	nulls[column] = text ? ' ' : 'n';
	values[column] = text ? CStringGetTextDatum(text) : (Datum) 0;
}

static void
put_changing(const Dispute *dispute, const char *status, Datum *values,
			 char *nulls)
{
	memset(nulls, ' ', CHANGING_COLUMNS);
	values[0] = UUIDPGetDatum(&dispute->id);
	values[1] = CStringGetTextDatum(status);
	values[2] = Int64GetDatum(dispute->amount);
	put_text(values, nulls, 3, dispute->reason);
	values[4] = TimestampTzGetDatum(dispute->respond_by);
	nulls[4] = dispute->respond_by ? ' ' : 'n';
	values[5] = BoolGetDatum(dispute->is_taken);
	values[6] = Int64GetDatum(dispute->from_pending);
	values[7] = Int64GetDatum(dispute->from_available);
	values[8] = Int64GetDatum(dispute->from_receivable);
	values[9] = Int64GetDatum(dispute->fee_share);
	values[10] = Int64GetDatum(dispute->platform_loss);
	values[11] = Int64GetDatum(dispute->fee);
	put_text(values, nulls, 12, dispute->fee_currency);
	values[13] = Int64GetDatum(dispute->sequence);
}

#define CHANGING_TYPES                                                    \
	UUIDOID, TEXTOID, INT8OID, TEXTOID, TIMESTAMPTZOID, BOOLOID, INT8OID, \
		INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, TEXTOID, INT8OID

/* The first step is how it begins: with its first event. */
void
dispute_insert(const Dispute *dispute, TransitionCause cause)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { CHANGING_TYPES, UUIDOID, UUIDOID,
								  UUIDOID,		  TEXTOID, TEXTOID,
								  TIMESTAMPTZOID };
	Datum			  values[lengthof(types)];
	char			  nulls[lengthof(types)];

	put_changing(dispute, dispute->path.steps[0].to, values, nulls);
	memset(nulls + CHANGING_COLUMNS, ' ', lengthof(types) - CHANGING_COLUMNS);
	values[14] = UUIDPGetDatum(&dispute->order_id);
	values[15] = UUIDPGetDatum(&dispute->seller_id);
	values[16] = UUIDPGetDatum(&dispute->psp_id);
	values[17] = CStringGetTextDatum(dispute->currency);
	values[18] = CStringGetTextDatum(dispute->psp_reference);
	values[19] = TimestampTzGetDatum(GetCurrentTimestamp());
	plan_keep(&plan,
			  "INSERT INTO payment.dispute_record (id, status, amount, reason,"
			  " respond_by, is_taken, from_pending, from_available,"
			  " from_receivable, fee_share, platform_loss, fee, fee_currency,"
			  " sequence, order_id, seller_id, psp_id, currency,"
			  " psp_reference, updated_at, event_count) VALUES ($1, $2, $3,"
			  " $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,"
			  " $17, $18, $19, $20, 1)",
			  lengthof(types), types);
	order_write(plan, values, nulls, cause);
}

static void
update(const Dispute *dispute, const char *status, TransitionCause cause)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { CHANGING_TYPES };
	Datum			  values[lengthof(types)];
	char			  nulls[lengthof(types)];

	put_changing(dispute, status, values, nulls);
	plan_keep(&plan,
			  "UPDATE payment.dispute_record SET status = $2, amount = $3,"
			  " reason = $4, respond_by = $5, is_taken = $6,"
			  " from_pending = $7, from_available = $8, from_receivable = $9,"
			  " fee_share = $10, platform_loss = $11, fee = $12,"
			  " fee_currency = $13, sequence = $14 WHERE id = $1",
			  lengthof(types), types);
	if (order_write(plan, values, nulls, cause) != 1)
		elog(ERROR, "a dispute vanished while locked");
}

/* Once for each status it goes through, so that the history is complete */
void
dispute_write(const Dispute *dispute, TransitionCause cause)
{
	const StatusPath *path = &dispute->path;
	int				  first = path->first ? 0 : 1;

	if (path->first == NULL)
		dispute_insert(dispute, cause);
	for (int i = first; i < path->step_count; i++)
		update(dispute, path->steps[i].to, path->steps[i].cause);
	if (path->first && path->step_count == 0)
		update(dispute, path->now, cause);
}
