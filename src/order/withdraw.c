/*-------------------------------------------------------------------------
 *
 * withdraw.c
 *	  What capturing, voiding and cancelling an order share.
 *
 * Each locks the order's task and row first, and so takes turns with the
 * claim, with evidence, and with each other: of two that race exactly one
 * finds the order as it needs it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "errcodes.h"
#include "order/batch.h"
#include "order/event.h"
#include "order/hosted.h"
#include "order/plan.h"
#include "order/typed_argument.h"
#include "order/withdraw.h"
#include "payment.h"
#include "text_guard.h"

Subject *
order_lock(SubjectSet *set, const pg_uuid_t *order_id, const char *operation)
{
	SubjectKey key = { .object = OBJECT_PAYMENT_ORDER,
					   .id = *order_id,
					   .operation = operation };
	Subject	  *subject;

	subjects_lock(set, &key, 1);
	subject = subject_find(set, order_id);
	if (subject == NULL)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_UNKNOWN_OBJECT),
						errmsg("\"payment_order\" is no payment order"),
						errdetail("There is none with that id."),
						errhint("Pass an id that checkout() or submit() "
								"returned.")));
	return subject;
}

const char *
idempotency_argument(FunctionCallInfo fcinfo, int number)
{
	static const EventPlace here = { 0, 0 };
	char *key = text_argument(fcinfo, number, "idempotency_key");

	event_check_text(&here, "idempotency_key", key);
	check_idempotency_key(key, strlen(key));
	return key;
}

const PspAdapter *
adapter_of(const pg_uuid_t *psp_id)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID };
	Datum			  id = UUIDPGetDatum(psp_id);

	if (batch_run(plan_keep(&plan,
							"SELECT adapter FROM payment.psp WHERE id = $1", 1,
							types),
				  &id, NULL) != 1)
		elog(ERROR, "a PSP vanished");
	return psp_adapter(row_text(0, 1));
}

bool
performs(const pg_uuid_t *psp_id, const char *operation)
{
	const PspAdapter *adapter = adapter_of(psp_id);
	PspOperation	  number;

	return adapter == NULL ||
		   (psp_operation_of(operation, &number) && adapter->performs[number]);
}

void
check_performs(const Subject *subject, const char *operation)
{
	if (performs(&subject->psp_id, operation))
		return;
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_WRONG_STATE),
					errmsg("its PSP cannot be asked to do this"),
					errdetail("The operation is \"%s\".", operation),
					errhint("Do it at the PSP: what it reports is taken "
							"over.")));
}

void
task_queue(const pg_uuid_t *psp_id, const char *operation,
		   const pg_uuid_t *object_id)
{
	static SPIPlanPtr plan = NULL;
	const Oid types[] = { UUIDOID, UUIDOID, TEXTOID, UUIDOID, TIMESTAMPTZOID };
	Datum	  values[lengthof(types)];
	pg_uuid_t id;

	uuid7_generate(&id);
	values[0] = UUIDPGetDatum(&id);
	values[1] = UUIDPGetDatum(psp_id);
	values[2] = CStringGetTextDatum(operation);
	values[3] = UUIDPGetDatum(object_id);
	values[4] = TimestampTzGetDatum(GetCurrentTimestamp());
	batch_run(
		plan_keep(&plan,
				  "INSERT INTO payment.task (id, psp_id, operation, object_id,"
				  " run_at) VALUES ($1, $2, $3, $4, $5)"
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
order_withdraw_keys(const pg_uuid_t *order_id, SubjectKey *keys)
{
	static const char *const operations[WITHDRAW_KEYS] = {
		OPERATION_PAY, OPERATION_REGISTER
	};

	for (int i = 0; i < WITHDRAW_KEYS; i++)
		keys[i] = (SubjectKey){ .object = OBJECT_PAYMENT_ORDER,
								.id = *order_id,
								.operation = operations[i] };
}

bool
order_begin_void(Subject *subject, TransitionCause cause)
{
	if (!subject_step(subject, "voiding", cause))
		return false;
	subject->operation_no++;
	subject->failure_code = NULL;
	subject->failure_message = NULL;
	return true;
}

/*
 * Is its payer at a page, or about to be?  Then only the PSP knows whether he
 * has paid, and is asked to close it; where it is in doubt whether there is a
 * page, as soon as there is one.
 */
static bool
is_at_page(const Subject *subject)
{
	const char *status = subject->path.now;

	return subject->hosted &&
		   (strcmp(status, "registering") == 0 ||
			strcmp(status, "requires_action") == 0 ||
			strcmp(subject_operation(subject), OPERATION_REGISTER) == 0);
}

bool
order_withdraw(Subject *subject, TransitionCause cause)
{
	if (is_at_page(subject))
	{
		if (!performs(&subject->psp_id, OPERATION_CLOSE))
			return false;
		subject->cancel_requested = true;
		return true;
	}
	if (strcmp(subject->path.now, "created") == 0 ||
		strcmp(subject->path.now, "requires_action") == 0)
		return subject_step(subject, "cancelled", cause);
	return performs(&subject->psp_id, OPERATION_VOID) &&
		   order_begin_void(subject, cause);
}

void
orders_withdrawn(SubjectSet *set)
{
	SubjectKey *ended = palloc(Max(set->count, 1) * 2 * sizeof(SubjectKey));
	int			count = 0;

	for (int i = 0; i < set->count; i++)
	{
		Subject *subject = &set->subjects[i];

		if (subject->path.step_count == 0)
			continue;
		if (strcmp(subject->path.now, "voiding") == 0)
			task_queue(&subject->psp_id, OPERATION_VOID, &subject->id);
		else
		{
			subject->page_over = subject->hosted;
			ended[count++] = (SubjectKey){ .object = subject->object,
										   .id = subject->id,
										   .operation = OPERATION_PAY };
			ended[count++] = (SubjectKey){ .object = subject->object,
										   .id = subject->id,
										   .operation = OPERATION_REGISTER };
		}
	}
	subjects_end_tasks(ended, count);
	pages_write(set);
}
