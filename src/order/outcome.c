/*-------------------------------------------------------------------------
 *
 * outcome.c
 *	  Record what came of attempts.
 *
 * An outcome says two things: something about the money, which is evidence
 * (evidence.c), and something about what to do next, which is decided here.
 * Only the attempt that its task waits for decides that; one that was given
 * up since (its lease ran out) still counts as evidence.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "errcodes.h"
#include "order/backoff.h"
#include "order/batch.h"
#include "order/evidence.h"
#include "order/hosted.h"
#include "order/new_key.h"
#include "order/outcome.h"
#include "order/plan.h"
#include "psp/psp.h"
#include "reconcile/exception.h"

PG_FUNCTION_INFO_V1(payment_record_outcomes);

/* A PSP that asks for a longer pause is asked again anyway. */
#define PAGE_POLL_MAX_MS INT64CONST(900000)
#define RETRY_AFTER_MAX_MS INT64CONST(86400000)

/* the task as it was claimed, with the settings of its PSP */
typedef struct Task
{
	int			number; /* of its outcome */
	pg_uuid_t	id;
	pg_uuid_t	attempt_id; /* all zero: none is under way */
	int32		tries;
	TimestampTz first_sent_at;
	TimestampTz last_sent_at;
	int32		backoff_base_ms;
	int32		backoff_max_ms;
	int32		lookup_delay_ms;
	int32		poll_interval_ms;
	int32		key_lifetime_s;
	bool		key_spent;	  /* it can never succeed */
	bool		can_be_asked; /* in a way that executes nothing */
} Task;

/* when and how a task goes on */
typedef struct NextRun
{
	const char *step;
	int64		delay_ms;
	int32		tries;
	bool		key_spent;
	bool		new_key;	 /* under the next attempt number */
	bool		unsent;		 /* nothing has reached the PSP under this key */
	const char *dead_reason; /* NULL: it goes on */
} NextRun;

/* Where each outcome's attempt is found; raises PY012 when one is not. */
static void
read_attempts(Outcome *outcomes, int count)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, INT4ARRAYOID };
	Column			  ids;
	Column			  numbers;
	Datum			  values[2];
	uint64			  found;

	column_init(&ids, UUIDOID);
	column_init(&numbers, INT4OID);
	for (int i = 0; i < count; i++)
	{
		column_add_uuid(&ids, &outcomes[i].attempt_id);
		column_add_int32(&numbers, i);
	}
	values[0] = column_array(&ids);
	values[1] = column_array(&numbers);
	found = batch_run(
		plan_keep(&plan,
				  "SELECT u.number, a.task_id, a.object_id, a.psp_id,"
				  " a.operation, a.step, a.attempt_no"
				  " FROM unnest($1, $2) AS u (id, number)"
				  " JOIN payment.attempt AS a ON a.id = u.id",
				  2, types),
		values, NULL);
	for (uint64 row = 0; row < found; row++)
	{
		Outcome *outcome = &outcomes[row_int32(row, 1)];

		outcome->known = row_uuid(row, 2, &outcome->task_id);
		row_uuid(row, 3, &outcome->object_id);
		row_uuid(row, 4, &outcome->psp_id);
		outcome->operation = row_text(row, 5);
		outcome->lookup = strcmp(row_text(row, 6), "lookup") == 0;
		outcome->attempt_no = row_int32(row, 7);
	}
	for (int i = 0; i < count; i++)
	{
		if (!outcomes[i].known)
			ereport(ERROR, (errcode(ERRCODE_PAYMENT_UNKNOWN_OBJECT),
							errmsg("attempt does not exist"),
							errdetail("There is no attempt %s.",
									  uuid_text(&outcomes[i].attempt_id))));
		/* still authorised: the capture or void has not been executed */
		if (outcomes[i].kind == OUTCOME_AUTHORIZED &&
			operation_is_follow_up(outcomes[i].operation))
			outcomes[i].kind =
				outcomes[i].lookup ? OUTCOME_NOT_FOUND : OUTCOME_UNKNOWN;
		if (outcomes[i].kind == OUTCOME_NOT_FOUND && !outcomes[i].lookup)
			ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
							errmsg("a send cannot have the outcome "
								   "\"not_found\""),
							errdetail("Attempt %s did not look anything up.",
									  uuid_text(&outcomes[i].attempt_id))));
		if (outcomes[i].kind == OUTCOME_KEY_SPENT && outcomes[i].lookup)
			ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
							errmsg("a lookup cannot have the outcome "
								   "\"key_spent\""),
							errdetail("Attempt %s did not send anything.",
									  uuid_text(&outcomes[i].attempt_id))));
	}
}

static bool
is_of_page(const Outcome *outcome)
{
	return operation_is_of_page(outcome->operation);
}

static bool
answers_dispute(const Outcome *outcome)
{
	return operation_of(outcome->operation)->object == OBJECT_DISPUTE_RESPONSE;
}

/* What a lookup could not tell changes nothing of what is known. */
static EvidenceKind
evidence_kind(const Outcome *outcome)
{
	switch (outcome->kind)
	{
		case OUTCOME_SUCCEEDED:
			return EVIDENCE_SUCCEEDED;
		case OUTCOME_PENDING:
			return EVIDENCE_PENDING;
		case OUTCOME_DECLINED:
			return EVIDENCE_DECLINED;
		case OUTCOME_FAILED:
			return EVIDENCE_FAILED;
		case OUTCOME_UNKNOWN:
		case OUTCOME_KEY_SPENT:
			return outcome->lookup ? EVIDENCE_NOTHING : EVIDENCE_UNKNOWN;
		case OUTCOME_AUTHORIZED:
			return EVIDENCE_AUTHORIZED;
		case OUTCOME_VOIDED:
			return EVIDENCE_VOIDED;
		case OUTCOME_EXPIRED:
			return EVIDENCE_EXPIRED;
		case OUTCOME_REQUIRES_ACTION:
			return EVIDENCE_REQUIRES_ACTION;
		case OUTCOME_TOKENIZED:
			return EVIDENCE_TOKENIZED;
		case OUTCOME_RETRY:
		case OUTCOME_NOT_FOUND:
			break;
	}
	return EVIDENCE_NOTHING;
}

/*
 * Only what says nothing against the payer or the card is worth another PSP: a
 * soft decline, a request that this PSP refuses, a PSP that cannot be reached.
 */
static EvidenceFailover
failover(const Outcome *outcome)
{
	const char *class = outcome->decline_class;

	if (outcome->lookup || strcmp(outcome->operation, OPERATION_PAY) != 0)
		return FAILOVER_NEVER;
	switch (outcome->kind)
	{
		case OUTCOME_DECLINED:
			return class && strcmp(class, "soft") == 0 ? FAILOVER_NOW
													   : FAILOVER_NEVER;
		case OUTCOME_FAILED:
			return class && (strcmp(class, "soft") == 0 ||
							 strcmp(class, "not_applicable") == 0)
					   ? FAILOVER_NOW
					   : FAILOVER_NEVER;
		case OUTCOME_RETRY:
			return !outcome->has_http_status || outcome->http_status < 500
					   ? FAILOVER_IF_EXHAUSTED
					   : FAILOVER_NEVER;
		default:
			return FAILOVER_NEVER;
	}
}

static Settled
settled(const Outcome *outcome)
{
	return (Settled){
		.currency =
			outcome->has_settled_amount ? outcome->settled_currency : NULL,
		.amount = outcome->settled_amount,
		.has_psp_fee = outcome->has_psp_fee,
		.psp_fee = outcome->psp_fee,
		.exchange_rate = outcome->exchange_rate,
	};
}

static Evidence *
apply_evidence(const Outcome *outcomes, int count)
{
	Evidence *evidence = palloc0((Size) count * sizeof(Evidence));

	for (int i = 0; i < count; i++)
	{
		const Outcome *o = &outcomes[i];

		evidence[i] = (Evidence){
			.object = operation_of(o->operation)->object,
			.operation = o->operation,
			.object_id = o->object_id,
			.psp_id = o->psp_id,
			.kind = evidence_kind(o),
			.cause = o->lookup ? CAUSE_LOOKUP : CAUSE_RESPONSE,
			.attempt_no = o->attempt_no,
			/* a page's name is none of the charge that it made */
			/* ... nor is a dispute's of our answer to it */
			.psp_reference = answers_dispute(o) ? NULL
							 : is_of_page(o)	? o->child_reference
												: o->psp_reference,
			.amount = o->amount,
			.currency = o->currency,
			.is_total = strcmp(o->operation, OPERATION_CAPTURE) != 0,
			.authorized_until = o->authorized_until,
			.child_reference = is_of_page(o) ? NULL : o->child_reference,
			.payment_method = o->payment_method,
			.told = settled(o),
			.failure_code = o->error_code,
			.failure_message = o->error_message,
			.attempt_id = &o->attempt_id,
			.failover = failover(o),
		};
	}
	order_apply_evidence(evidence, count);
	return evidence;
}

static void
read_task(Task *task, uint64 row)
{
	memset(task, 0, sizeof(Task));
	task->number = row_int32(row, 1);
	row_uuid(row, 2, &task->id);
	(void) row_uuid(row, 3, &task->attempt_id);
	task->tries = row_int32(row, 4);
	task->first_sent_at = row_time(row, 5);
	task->backoff_base_ms = row_int32(row, 6);
	task->backoff_max_ms = row_int32(row, 7);
	task->lookup_delay_ms = row_int32(row, 8);
	task->poll_interval_ms = row_int32(row, 9);
	task->key_lifetime_s = row_int32(row, 10);
	task->key_spent = row_bool(row, 11);
	task->last_sent_at = row_time(row, 12);
}

/* What it has accepted, it has named. */
static bool
can_ask_about_pending(const PspAdapter *adapter, const Outcome *outcome)
{
	const PspInquiry *inquiry;
	PspOperation	  operation;

	if (adapter == NULL || !psp_operation_of(outcome->operation, &operation))
		return true;
	inquiry = &adapter->inquiry[operation];
	return inquiry->by_listing || inquiry->by_reference;
}

static bool
key_is_alive(const Task *task, TimestampTz now)
{
	return task->first_sent_at == 0 ||
		   now - task->first_sent_at <
			   (int64) task->key_lifetime_s * USECS_PER_SEC;
}

static bool
was_sent_once(const Task *task)
{
	return task->first_sent_at == task->last_sent_at;
}

/*
 * Whether the only request that went out under the key left no trace of it.
 * Not after a 5xx that asks for a repeat: the PSP keeps that with the key.
 */
static bool
left_no_trace(const Outcome *outcome, const Task *task)
{
	return outcome->kind == OUTCOME_RETRY && !outcome->lookup &&
		   was_sent_once(task) &&
		   (!outcome->has_http_status || outcome->http_status < 500);
}

/*
 * Webhooks tell sooner, and are lost rarely: the longer a page is open, the
 * less often it is looked at.
 */
static int64
page_poll_ms(const Task *task, TimestampTz now)
{
	int64 age_ms = task->first_sent_at == 0
					   ? 0
					   : (now - task->first_sent_at) / INT64CONST(1000);

	return Max(task->poll_interval_ms, Min(age_ms / 8, PAGE_POLL_MAX_MS));
}

static NextRun
next_run(const Outcome *outcome, const Evidence *evidence, const Task *task,
		 TimestampTz now)
{
	int64 backoff =
		backoff_ms(task->tries, task->backoff_base_ms, task->backoff_max_ms);
	bool accepted =
		evidence->status &&
		(strcmp(evidence->status, "pending") == 0 ||
		 strcmp(evidence->status, "in_transit") == 0 ||
		 (strcmp(evidence->status, "requires_action") == 0 &&
		  strcmp(outcome->operation, OPERATION_REFUND) == 0) ||
		 (strcmp(evidence->status, "unknown") == 0 && evidence->named));
	NextRun next = { .step = "lookup",
					 .delay_ms = Max(backoff, task->lookup_delay_ms),
					 .tries = task->tries,
					 .key_spent = task->key_spent,
					 .unsent = left_no_trace(outcome, task) };

	switch (outcome->kind)
	{
		case OUTCOME_PENDING:
			/* an answer, if not the last one: the count starts again */
			next.tries = 0;
			next.delay_ms = task->poll_interval_ms;

			/* One that would only repeat itself will report the result. */
			if (!task->can_be_asked)
				next.delay_ms = (int64) task->key_lifetime_s * 1000;
			break;
		case OUTCOME_REQUIRES_ACTION:
			/* the payer takes as long as he likes */
			next.tries = 0;
			next.delay_ms = page_poll_ms(task, now);

			/* One that would only show it again: it ends by time at last. */
			if (!task->can_be_asked)
				next.delay_ms = (int64) task->key_lifetime_s * 1000;
			break;
		case OUTCOME_RETRY:
			next.step = outcome->lookup ? "lookup" : "send";
			next.delay_ms = backoff;
			break;
		case OUTCOME_NOT_FOUND:
			if (accepted)
				break; /* it was accepted: wait until it shows */
			next.new_key = task->key_spent;
			next.key_spent = false;
			if (!next.new_key && !key_is_alive(task, now))
				next.dead_reason = "the PSP does not know it, and may have "
								   "forgotten its idempotency key";
			next.step = next.dead_reason ? "lookup" : "send";
			next.delay_ms = backoff;
			break;
		case OUTCOME_KEY_SPENT:
			next.key_spent = true;

			/* Nobody knows when that request went out, so none can look. */
			if (was_sent_once(task))
				next.dead_reason = "the PSP knew its idempotency key before "
								   "this database had sent it";
			break;
		default:
			break;
	}
	if (outcome->has_retry_after && outcome->kind != OUTCOME_PENDING &&
		outcome->kind != OUTCOME_REQUIRES_ACTION)
		next.delay_ms = outcome->retry_after_ms;
	next.delay_ms = Min(next.delay_ms, RETRY_AFTER_MAX_MS);
	return next;
}

static const char *
last_error(const Outcome *outcome, const NextRun *next)
{
	if (next->dead_reason)
		return next->dead_reason;
	if (outcome->error_code && outcome->error_message)
		return psprintf("%s: %s", outcome->error_code, outcome->error_message);
	return outcome->error_code ? outcome->error_code : outcome->error_message;
}

static void
write_tasks(const Column *columns)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID,		   TEXTARRAYOID,
								  TIMESTAMPTZARRAYOID, INT4ARRAYOID,
								  TIMESTAMPTZARRAYOID, TEXTARRAYOID,
								  BOOLARRAYOID,		   BOOLARRAYOID };
	Datum			  values[lengthof(types)];

	if (columns[0].count == 0)
		return;
	for (int i = 0; i < (int) lengthof(types); i++)
		values[i] = column_array(&columns[i]);
	batch_run(
		plan_keep(&plan,
				  "UPDATE payment.task AS t SET attempt_id = NULL,"
				  " step = u.step, run_at = u.run_at, tries = u.tries,"
				  " dead_at = u.dead_at, last_error = u.last_error,"
				  " key_spent = u.key_spent, first_sent_at ="
				  " CASE WHEN u.unsent THEN NULL ELSE t.first_sent_at END,"
				  " last_sent_at ="
				  " CASE WHEN u.unsent THEN NULL ELSE t.last_sent_at END"
				  " FROM unnest($1, $2, $3, $4, $5, $6, $7, $8) AS u (id,"
				  " step, run_at, tries, dead_at, last_error, key_spent,"
				  " unsent) WHERE t.id = ANY (ARRAY[u.id])",
				  lengthof(types), types),
		values, NULL);
}

/* tasks of the outcomes that settled nothing */
static uint64
select_open_tasks(const Outcome *outcomes, const Evidence *evidence, int count)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, INT4ARRAYOID };
	Column			  ids;
	Column			  numbers;
	Datum			  values[2];

	column_init(&ids, UUIDOID);
	column_init(&numbers, INT4OID);
	for (int i = 0; i < count; i++)
	{
		if (evidence[i].settled)
			continue;
		column_add_uuid(&ids, &outcomes[i].task_id);
		column_add_int32(&numbers, i);
	}
	if (ids.count == 0)
		return 0;
	values[0] = column_array(&ids);
	values[1] = column_array(&numbers);
	return batch_run(
		plan_keep(&plan,
				  "SELECT u.number, t.id, t.attempt_id, t.tries,"
				  " t.first_sent_at, p.backoff_base_ms, p.backoff_max_ms,"
				  " p.lookup_delay_ms, p.poll_interval_ms, p.key_lifetime_s,"
				  " t.key_spent, t.last_sent_at, p.adapter"
				  " FROM unnest($1, $2) AS u (id, number)"
				  " JOIN payment.task AS t ON t.id = ANY (ARRAY[u.id])"
				  " JOIN payment.psp AS p ON p.id = t.psp_id"
				  " WHERE t.dead_at IS NULL",
				  2, types),
		values, NULL);
}

/* only people can find out now what became of it */
static void
report_unknown(const Outcome *outcome, const Evidence *evidence,
			   const char *reason)
{
	ExceptionReport report = { .type = "unknown_outcome",
							   .psp_id = &outcome->psp_id,
							   .order_id = &outcome->object_id,
							   .detail = reason };

	if (reason && evidence->status && strcmp(evidence->status, "unknown") == 0)
		exception_open_unknown(&report);
}

/* all of them first: what is decided of one may run statements */
static Task *
read_open_tasks(const Outcome *outcomes, const Evidence *evidence, int count,
				uint64 *found)
{
	Task *tasks;

	*found = select_open_tasks(outcomes, evidence, count);
	tasks = palloc(Max(*found, 1) * sizeof(Task));
	for (uint64 row = 0; row < *found; row++)
	{
		Task *task = &tasks[row];

		read_task(task, row);
		task->can_be_asked =
			can_ask_about_pending(psp_adapter(row_text(row, 13)),
								  &outcomes[task->number]);
	}
	return tasks;
}

static void
reschedule_tasks(const Outcome *outcomes, const Evidence *evidence, int count,
				 TimestampTz now)
{
	uint64 found;
	Task  *tasks = read_open_tasks(outcomes, evidence, count, &found);
	Column columns[8];

	column_init(&columns[0], UUIDOID);
	column_init(&columns[1], TEXTOID);
	column_init(&columns[2], TIMESTAMPTZOID);
	column_init(&columns[3], INT4OID);
	column_init(&columns[4], TIMESTAMPTZOID);
	column_init(&columns[5], TEXTOID);
	column_init(&columns[6], BOOLOID);
	column_init(&columns[7], BOOLOID);

	for (uint64 t = 0; t < found; t++)
	{
		Task		  *task = &tasks[t];
		int			   i = task->number;
		const Outcome *outcome = &outcomes[i];
		NextRun		   next;

		if (uuid_compare(&task->attempt_id, &outcome->attempt_id) != 0)
			continue; /* another attempt is under way, or has been recorded */
		next = next_run(outcome, &evidence[i], task, now);
		column_add_uuid(&columns[0], &task->id);
		column_add_text(&columns[1], next.step);
		column_add_time(&columns[2],
						TimestampTzPlusMilliseconds(now, next.delay_ms));
		column_add_int32(&columns[3], next.tries);
		column_add_time(&columns[4], next.dead_reason ? now : 0);
		column_add_text(&columns[5], last_error(outcome, &next));
		column_add_bool(&columns[6], next.key_spent);
		column_add_bool(&columns[7], next.new_key || next.unsent);
		report_unknown(outcome, &evidence[i], next.dead_reason);
		if (next.new_key)
			new_key_take(outcome->operation, &outcome->object_id);
	}
	write_tasks(columns);
}

static void
add_attempt(Column *columns, const Outcome *outcome)
{
	column_add_uuid(&columns[0], &outcome->attempt_id);
	column_add_text(&columns[1], outcome->name);
	if (outcome->has_http_status)
		column_add_int32(&columns[2], outcome->http_status);
	else
		column_add_null(&columns[2]);
	if (outcome->has_latency)
		column_add_int32(&columns[3], outcome->latency_ms);
	else
		column_add_null(&columns[3]);
	column_add_text(&columns[4], outcome->psp_reference);
	column_add_text(&columns[5], outcome->error_code);
	column_add_text(&columns[6], outcome->error_message);
	column_add_text(&columns[7], outcome->decline_class);
}

/*
 * The first word on an attempt stays, unless it was only that we had heard
 * nothing; of several words in one batch the last.
 */
static uint64
write_attempts(const Outcome *outcomes, int count, TimestampTz now)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDARRAYOID, TEXTARRAYOID, INT4ARRAYOID,
								  INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
								  TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZOID };
	Column			  columns[lengthof(types) - 1];
	Datum			  values[lengthof(types)];

	column_init(&columns[0], UUIDOID);
	column_init(&columns[1], TEXTOID);
	column_init(&columns[2], INT4OID);
	column_init(&columns[3], INT4OID);
	for (int i = 4; i < (int) lengthof(columns); i++)
		column_init(&columns[i], TEXTOID);
	for (int i = 0; i < count; i++)
		add_attempt(columns, &outcomes[i]);
	for (int i = 0; i < (int) lengthof(columns); i++)
		values[i] = column_array(&columns[i]);
	values[lengthof(columns)] = TimestampTzGetDatum(now);
	return order_write(
		plan_keep(&plan,
				  "UPDATE payment.attempt AS a SET finished_at = $9,"
				  " outcome = u.outcome, http_status = u.http_status,"
				  " latency_ms = u.latency_ms,"
				  " psp_reference = u.psp_reference,"
				  " error_code = u.error_code,"
				  " error_message = u.error_message,"
				  " decline_class = u.decline_class"
				  " FROM (SELECT DISTINCT ON (v.id) v.*"
				  " FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)"
				  " WITH ORDINALITY AS v (id, outcome, http_status,"
				  " latency_ms, psp_reference, error_code, error_message,"
				  " decline_class, number) ORDER BY v.id, v.number DESC) AS u"
				  " WHERE a.id = u.id AND (a.outcome IS NULL"
				  " OR a.outcome = 'lease_expired'"
				  " OR (a.outcome = 'unknown' AND u.outcome <> 'unknown'))",
				  lengthof(types), types),
		values, NULL, CAUSE_RESPONSE);
}

/*
 * payment.record_outcomes(outcomes payment.attempt_outcome[]) -> integer
 */
Datum
payment_record_outcomes(PG_FUNCTION_ARGS)
{
	int			count;
	Outcome	   *outcomes;
	Evidence   *evidence;
	uint64		recorded = 0;
	TimestampTz now;
	int			nest_level;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("argument \"outcomes\" must not be null")));
	outcomes = outcomes_parse(PG_GETARG_ARRAYTYPE_P(0), &count);
	if (count > 0)
	{
		nest_level = batch_begin();
		read_attempts(outcomes, count);
		evidence = apply_evidence(outcomes, count);
		now = GetCurrentTimestamp();
		reschedule_tasks(outcomes, evidence, count, now);
		recorded = write_attempts(outcomes, count, now);
		batch_end(nest_level);
	}
	PG_RETURN_INT32((int32) recorded);
}
