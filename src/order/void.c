/*-------------------------------------------------------------------------
 *
 * void.c
 *	  Give back what was authorised: by voiding one order, or by cancelling a
 *	  payment, of which some orders may not even have been sent.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"

#include "errcodes.h"
#include "order/batch.h"
#include "order/idempotency.h"
#include "order/plan.h"
#include "order/typed_argument.h"
#include "order/withdraw.h"

PG_FUNCTION_INFO_V1(payment_void);
PG_FUNCTION_INFO_V1(payment_cancel);

/* false: the key did its work before, and *answer is what it answered */
static bool
take_key(const char *key, const char *operation, const pg_uuid_t *object_id,
		 int32 *answer)
{
	Fingerprint fingerprint;
	uint8		digest[FINGERPRINT_SIZE];
	pg_uuid_t	ids[] = { *object_id, number_as_id(*answer) };
	bool		is_new;

	fingerprint_begin(&fingerprint);
	fingerprint_text(&fingerprint, uuid_text(object_id));
	fingerprint_end(&fingerprint, digest);
	is_new = idempotency_take(key, operation, digest, ids, lengthof(ids));
	*answer = id_as_number(&ids[1]);
	return is_new;
}

static void
pg_attribute_noreturn() refuse_void(const Subject *subject)
{
	const char *status = subject->path.now;
	const char *hint = "Only what is authorised can be voided.";

	if (strcmp(status, "capturing") == 0)
		hint = "A capture is under way: wait for its result. What was "
			   "captured can be refunded.";
	else if (strcmp(status, "voiding") == 0)
		hint = "It is being voided already.";
	else if (strcmp(status, "captured") == 0)
		hint = "It has been captured: refund it.";
	else if (strcmp(status, "created") == 0)
		hint = "It has not been sent: cancel it by payment.cancel().";
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_WRONG_STATE),
			 errmsg("payment order cannot be voided"),
			 errdetail("Order %s is %s.", uuid_text(&subject->id), status),
			 errhint("%s", hint)));
}

/*
 * payment.void(payment_order, idempotency_key) -> boolean: true
 */
Datum
payment_void(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = uuid_argument(fcinfo, 0, "payment_order");
	const char *key = idempotency_argument(fcinfo, 1);
	int32		answer = 1;
	SubjectSet	set;
	Subject	   *subject;
	int			nest_level = batch_begin();

	subject = order_lock(&set, id, OPERATION_VOID);
	if (take_key(key, "void", id, &answer))
	{
		if (!order_begin_void(subject, CAUSE_API))
			refuse_void(subject);
		check_performs(subject, OPERATION_VOID);
		subjects_write(&set);
		orders_withdrawn(&set);
	}
	batch_end(nest_level);
	PG_RETURN_BOOL(true);
}

/*
 * Keys of the order itself, or of all orders of the payment; PY012: neither
 * exists
 */
static SubjectKey *
find_orders(const pg_uuid_t *id, int *count)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID };
	Datum			  value = UUIDPGetDatum(id);
	SubjectKey		 *keys;
	uint64			  found;

	found = batch_run(plan_keep(&plan,
								"SELECT id FROM payment.order_record"
								" WHERE id = $1 UNION ALL"
								" SELECT id FROM payment.order_record"
								" WHERE payment_id = $1 AND id > $1",
								1, types),
					  &value, NULL);
	if (found == 0)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_UNKNOWN_OBJECT),
				 errmsg("\"object\" is no payment and no payment order"),
				 errdetail("There is none with the id %s.", uuid_text(id)),
				 errhint("Pass an id that checkout() or submit() "
						 "returned.")));
	keys = palloc0(found * WITHDRAW_KEYS * sizeof(SubjectKey));
	for (uint64 row = 0; row < found; row++)
	{
		pg_uuid_t order_id;

		row_uuid(row, 1, &order_id);
		order_withdraw_keys(&order_id, &keys[row * WITHDRAW_KEYS]);
	}
	*count = (int) found * WITHDRAW_KEYS;
	return keys;
}

static int32
withdraw_all(SubjectSet *set)
{
	int32 count = 0;

	for (int i = 0; i < set->count; i++)
	{
		Subject *subject = &set->subjects[i];

		if (!order_withdraw(subject, CAUSE_API))
			continue;
		count++;
	}
	return count;
}

static void
pg_attribute_noreturn() refuse_cancel(const SubjectSet *set)
{
	const Subject *first = &set->subjects[0];

	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_WRONG_STATE),
			 errmsg("nothing of it can be cancelled"),
			 errdetail("Order %s is %s.", uuid_text(&first->id),
					   first->path.now),
			 errhint("Only what has not been sent, is authorised, or waits "
					 "for the payer at a page that the PSP closes when it is "
					 "asked to, can be. What was captured can be "
					 "refunded.")));
}

/*
 * payment.cancel(object, idempotency_key) -> integer: how many orders were
 * cancelled, are being voided, or wait until their page is closed
 */
Datum
payment_cancel(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = uuid_argument(fcinfo, 0, "object");
	const char *key = idempotency_argument(fcinfo, 1);
	int			nest_level = batch_begin();
	SubjectSet	set;
	SubjectKey *keys;
	int			count;
	int32		cancelled;
	int32		answer;

	keys = find_orders(id, &count);
	subjects_lock(&set, keys, count);
	cancelled = withdraw_all(&set);
	answer = cancelled;
	if (take_key(key, "cancel", id, &answer))
	{
		if (cancelled == 0)
			refuse_cancel(&set);
		subjects_write(&set);
		orders_withdrawn(&set);
	}
	batch_end(nest_level);
	PG_RETURN_INT32(answer);
}
