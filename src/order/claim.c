/*-------------------------------------------------------------------------
 *
 * claim.c
 *	  Hand due tasks to the dispatcher.
 *
 * A claim commits before anything is sent.  Whatever happens to the
 * dispatcher then, the task falls due again when its lease runs out; and as
 * nobody knows by then whether the request went out, the PSP is asked before
 * it is sent again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "errcodes.h"
#include "instance/instance.h"
#include "order/batch.h"
#include "order/claim.h"

PG_FUNCTION_INFO_V1(payment_claim_tasks);

#define CLAIM_MAX_TASKS 10000
#define CLAIM_MAX_LEASE_MS (24 * 3600 * 1000)
#define CLAIMED_TASK_COLUMNS 31

static void
put_text(Datum *values, bool *nulls, int column, const char *text)
{
	nulls[column] = text == NULL;
	if (text)
		values[column] = CStringGetTextDatum(text);
}

static void
put_claimed_task(ReturnSetInfo *rsinfo, const ClaimBatch *batch,
				 const Claim *claim)
{
	Datum		values[CLAIMED_TASK_COLUMNS] = { 0 };
	bool		nulls[CLAIMED_TASK_COLUMNS] = { false };
	bool		sends = strcmp(claim->step, "send") == 0;
	TimestampTz first_sent_at =
		claim->first_sent_at == 0 && sends ? batch->now : claim->first_sent_at;
	TimestampTz last_sent_at = sends ? batch->now : claim->last_sent_at;

	values[0] = UUIDPGetDatum(&claim->attempt_id);
	values[1] = UUIDPGetDatum(&claim->task_id);
	values[2] = UUIDPGetDatum(&batch->psp_id);
	put_text(values, nulls, 3, claim->operation->name);
	put_text(values, nulls, 4, claim->step);
	values[5] = UUIDPGetDatum(&claim->object_id);
	values[6] = UUIDPGetDatum(&claim->payment_id);
	nulls[6] = claim->operation->object == OBJECT_PAYOUT ||
			   claim->operation->object == OBJECT_DISPUTE_RESPONSE;
	put_text(values, nulls, 7, claim->psp_key);
	values[8] = Int32GetDatum(claim->attempt_no);
	values[9] = Int64GetDatum(claim->amount);
	put_text(values, nulls, 10, claim->currency);
	put_text(values, nulls, 11, claim->payment_method);
	put_text(values, nulls, 12, claim->destination);
	put_text(values, nulls, 13, claim->description);
	put_text(values, nulls, 14, claim->psp_reference);
	values[15] = TimestampTzGetDatum(first_sent_at);
	nulls[15] = first_sent_at == 0;
	values[16] = TimestampTzGetDatum(last_sent_at);
	nulls[16] = last_sent_at == 0;
	put_text(values, nulls, 17, claim->payer);
	values[18] = Int32GetDatum(claim->tries + 1);
	put_text(values, nulls, 19, claim->capture_method);
	put_text(values, nulls, 20, claim->parent_reference);
	values[21] = BoolGetDatum(claim->final);
	nulls[21] = claim->total_amount == 0;
	put_text(values, nulls, 22, claim->reason_given);
	values[23] = Int64GetDatum(claim->total_amount);
	nulls[23] = claim->total_amount == 0;
	values[24] = Int64GetDatum(claim->captured_amount);
	nulls[24] = claim->total_amount == 0;
	put_text(values, nulls, 25, claim->success_url);
	put_text(values, nulls, 26, claim->cancel_url);
	put_text(values, nulls, 27, claim->locale);
	/* the same whenever it is sent again under its key */
	nulls[28] = claim->lifetime_s == 0 || first_sent_at == 0;
	values[28] = TimestampTzGetDatum(
		TimestampTzPlusMilliseconds(first_sent_at,
									claim->lifetime_s * INT64CONST(1000)));
	values[29] = BoolGetDatum(claim->setup);
	nulls[29] = !claim->of_page;
	put_text(values, nulls, 30, claim->evidence);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static void
claim_batch(ClaimBatch *batch, int32 max_tasks)
{
	claim_read_psp(batch);
	if (batch->paused)
		return;
	claim_lock_tasks(batch, max_tasks);
	if (batch->count == 0)
		return;
	claim_read_objects(batch);
	for (int i = 0; i < batch->count; i++)
		claim_decide(batch, &batch->claims[i]);
	claim_write(batch);
	claim_open_attempts(batch);
}

static int32
checked_argument(FunctionCallInfo fcinfo, int number, const char *name,
				 int32 maximum)
{
	int32 value = PG_ARGISNULL(number) ? 0 : PG_GETARG_INT32(number);

	if (value < 1 || value > maximum)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("invalid value for argument \"%s\"", name),
						errdetail("It has to be between 1 and %d.", maximum)));
	return value;
}

/*
 * payment.claim_tasks(psp uuid, max_tasks int, lease_ms int,
 * lane_limits int[]) -> setof payment.claimed_task
 */
Datum
payment_claim_tasks(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	ClaimBatch	   batch = { .count = 0 };
	int32		   max_tasks;
	int32		   lease_ms;
	int			   nest_level;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("argument \"psp\" must not be null")));
	batch.psp_id = *PG_GETARG_UUID_P(0);
	max_tasks = checked_argument(fcinfo, 1, "max_tasks", CLAIM_MAX_TASKS);
	lease_ms = checked_argument(fcinfo, 2, "lease_ms", CLAIM_MAX_LEASE_MS);
	lane_limits(fcinfo, 3, max_tasks, &batch.limits);
	batch.now = GetCurrentTimestamp();
	batch.lease_until = TimestampTzPlusMilliseconds(batch.now, lease_ms);

	InitMaterializedSRF(fcinfo, 0);
	nest_level = batch_begin();
	instance_refuse();
	claim_batch(&batch, max_tasks);
	for (int i = 0; i < batch.count; i++)
	{
		if (batch.claims[i].fate == FATE_CLAIM)
			put_claimed_task(rsinfo, &batch, &batch.claims[i]);
	}
	batch_end(nest_level);
	return (Datum) 0;
}
