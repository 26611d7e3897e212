/*-------------------------------------------------------------------------
 *
 * apply.c
 *	  What events say is weighed as any other evidence.
 *
 * An event comes at any time: before the answer to our request is recorded,
 * twice, late, or about what nobody here knows.  What cannot be weighed now is
 * parked; what fails to be, for a lock or a conflict, stays as received.  Both
 * are tried again by the worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "payment.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "order/batch.h"
#include "order/evidence.h"
#include "order/hosted.h"
#include "order/plan.h"
#include "reconcile/exception.h"
#include "webhook/dispute_event.h"
#include "webhook/event.h"

/* attempt_no of evidence that is about none of our requests */
#define NO_REQUEST (-1)

/* What is known of the object, read without a lock */
typedef struct Target
{
	bool exists;
	bool is_manual; /* authorised first, and captured when we ask for it */
} Target;

static bool
is_one_of(const char *text, const char *const *list)
{
	for (; *list; list++)
		if (strcmp(text, *list) == 0)
			return true;
	return false;
}

static void
set_state(WebhookEvent *event, const char *state, const char *detail)
{
	event->state = state;
	event->detail = detail;
	event->effect = NULL;
	event->waits_for_reference = false;
	event->waits_for_parent = false;
}

/* ---- what it is about ---- */

static bool
find_by_reference(const WebhookEvent *event, const char *reference,
				  pg_uuid_t *object_id)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, TEXTOID };
	Datum			  values[2];

	if (reference == NULL)
		return false;
	values[0] = UUIDPGetDatum(&event->psp_id);
	values[1] = CStringGetTextDatum(reference);
	plan_keep(&plan,
			  "SELECT r.object_id FROM payment.psp_reference AS r"
			  " WHERE r.psp_id = $1 AND r.reference = $2",
			  lengthof(types), types);
	return batch_run(plan, values, NULL) > 0 && row_uuid(0, 1, object_id);
}

static Target
find_target(const WebhookEvent *event, TransitionObject object)
{
	static const char *const queries[OBJECT_COUNT] = {
		[OBJECT_PAYMENT_ORDER] = "SELECT p.capture_method = 'manual'"
								 " FROM payment.order_record AS o"
								 " JOIN payment.payment_record AS p"
								 " ON p.id = o.payment_id WHERE o.id = $1",
		[OBJECT_REFUND] = "SELECT false FROM payment.refund_record AS r"
						  " WHERE r.id = $1",
		[OBJECT_PAYOUT] = "SELECT false FROM payment.payout_record AS p"
						  " WHERE p.id = $1",
	};
	static SPIPlanPtr plans[OBJECT_COUNT] = { NULL };
	const Oid		  types[] = { UUIDOID };
	Datum			  values[] = { UUIDPGetDatum(&event->object_id) };
	Target			  target = { .exists = false };

	plan_keep(&plans[object], queries[object], lengthof(types), types);
	target.exists = batch_run(plans[object], values, NULL) > 0;
	target.is_manual = target.exists && row_bool(0, 1);
	return target;
}

/* Which attempt was given that name; 0: none that is known */
static int
attempt_by_reference(const WebhookEvent *event)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, UUIDOID, TEXTOID };
	Datum			  values[3];

	if (event->psp_reference == NULL)
		return 0;
	values[0] = UUIDPGetDatum(&event->object_id);
	values[1] = UUIDPGetDatum(&event->psp_id);
	values[2] = CStringGetTextDatum(event->psp_reference);
	plan_keep(&plan,
			  "SELECT a.attempt_no FROM payment.attempt AS a"
			  " WHERE a.object_id = $1 AND a.id > $1 AND a.psp_id = $2"
			  " AND a.psp_reference = $3 ORDER BY a.id DESC LIMIT 1",
			  lengthof(types), types);
	return batch_run(plan, values, NULL) > 0 ? row_int32(0, 1) : 0;
}

static bool
is_negative(const WebhookEvent *event)
{
	static const char *const negative[] = { "declined", "failed", NULL };

	return is_one_of(event->outcome, negative);
}

/* Whether there was ever more than one attempt */
static bool
was_tried_again(const WebhookEvent *event)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID };
	Datum			  values[] = { UUIDPGetDatum(&event->object_id) };

	plan_keep(&plan,
			  "SELECT FROM payment.attempt AS a WHERE a.object_id = $1"
			  " AND a.id > $1 AND a.attempt_no > 1 LIMIT 1",
			  lengthof(types), types);
	return batch_run(plan, values, NULL) > 0;
}

/* What was captured or voided, and does not say by which of our requests */
static bool
is_of_no_request(const WebhookEvent *event)
{
	return event->attempt_no == 0 &&
		   operation_is_follow_up(operation_of(event->about)->name);
}

/*
 * That an attempt failed says nothing of the next one.  So what does not say
 * which one it means, and has a name that none was given, counts only while
 * there was but one.
 */
static bool
find_attempt(WebhookEvent *event)
{
	if (!is_negative(event) || event->attempt_no > 0 ||
		is_of_no_request(event))
		return true;
	event->attempt_no = attempt_by_reference(event);
	return event->attempt_no > 0 || !was_tried_again(event);
}

/* Nothing of the kind is kept here yet; the order helps people find it. */
static void
park_other(WebhookEvent *event)
{
	if (!event->has_object)
		event->has_object = find_by_reference(event, event->parent_reference,
											  &event->object_id);
	set_state(event, STATE_PARKED,
			  psprintf("nothing here is a %s that it could be about",
					   event->about));
}

/* One that somebody asked the PSP for, and we did not */
static bool
is_foreign_refund(WebhookEvent *event)
{
	if (strcmp(event->about, "refund") != 0 || event->has_object)
		return false;
	event->has_object =
		find_by_reference(event, event->psp_reference, &event->object_id);
	return !event->has_object;
}

static const char *
object_name(const WebhookEvent *event)
{
	switch (operation_of(event->about)->object)
	{
		case OBJECT_PAYOUT:
			return "payout";
		case OBJECT_REFUND:
			return "refund";
		default:
			return "payment order";
	}
}

static bool
is_about_payment(const WebhookEvent *event)
{
	return strcmp(event->about, "pay") == 0;
}

/* Something happened at a hosted page: a look at it tells what. */
static void
look_at_page(WebhookEvent *event)
{
	switch (event->has_object
				? page_look_soon(&event->psp_id, &event->object_id)
				: PAGE_IS_OVER)
	{
		case PAGE_IS_LOOKED_AT:
			set_state(event, STATE_APPLIED, "the page is looked at");
			event->effect = "no_effect";
			break;
		case PAGE_IS_BUSY:
			set_state(event, STATE_PARKED, "the page is being looked at");
			break;
		case PAGE_IS_OVER:
			set_state(event, STATE_IGNORED,
					  "it says nothing that counts here");
			break;
	}
}

/* The payment that is disputed: from there on it is that order's */
static bool
prepare_dispute(WebhookEvent *event)
{
	event->has_object =
		find_by_reference(event, event->parent_reference, &event->object_id);
	if (event->has_object && find_target(event, OBJECT_PAYMENT_ORDER).exists)
		return true;
	event->has_object = false;
	set_state(event, STATE_PARKED,
			  "the payment that is disputed is not known");
	event->waits_for_parent = true;
	return false;
}

/* Whether it is evidence for an order or payout that is known */
static bool
prepare(WebhookEvent *event)
{
	static const char *const silent[] = { "other", NULL };
	static const char *const evidence[] = { "pay",	  "capture", "void",
											"refund", "payout",	 NULL };
	bool					 is_payout = strcmp(event->about, "payout") == 0;
	Target					 target;

	if (event->state && strcmp(event->state, STATE_RECEIVED) != 0 &&
		strcmp(event->state, STATE_PARKED) != 0)
		return false;
	if (dispute_event_counts(event))
		return prepare_dispute(event);
	if (strcmp(event->about, "session") == 0)
		look_at_page(event);
	else if (is_one_of(event->about, silent) ||
			 (event->outcome == NULL &&
			  (is_payout || is_about_payment(event))))
		set_state(event, STATE_IGNORED, "it says nothing that counts here");
	else if (!is_one_of(event->about, evidence) || event->outcome == NULL ||
			 is_foreign_refund(event))
		park_other(event);
	else if (!event->has_object &&
			 !(event->has_object =
				   find_by_reference(event, event->psp_reference,
									 &event->object_id)))
	{
		set_state(event, STATE_PARKED, "what it is about is not known");
		event->waits_for_reference = true;
	}
	else
	{
		target = find_target(event, operation_of(event->about)->object);
		event->is_manual = target.is_manual;
		if (!target.exists)
			set_state(event, STATE_PARKED,
					  psprintf("there is no such %s", object_name(event)));
		else if (!find_attempt(event))
		{
			set_state(event, STATE_APPLIED,
					  "which attempt it is about is not known");
			event->effect = "no_effect";
		}
		else
			return true;
	}
	return false;
}

/* ---- evidence ---- */

/*
 * What is not to be captured by hand is captured as it is authorised, by the
 * PSPs that tell of nothing but the authorisation.
 */
static EvidenceKind
kind_of(const WebhookEvent *event)
{
	const char *outcome = event->outcome;

	if (strcmp(outcome, "authorized") == 0)
		return event->is_manual ? EVIDENCE_AUTHORIZED : EVIDENCE_SUCCEEDED;
	if (strcmp(outcome, "voided") == 0)
		return EVIDENCE_VOIDED;
	if (strcmp(outcome, "expired") == 0)
		return EVIDENCE_EXPIRED;
	if (strcmp(outcome, "succeeded") == 0)
		return EVIDENCE_SUCCEEDED;
	if (strcmp(outcome, "pending") == 0)
		return EVIDENCE_PENDING;
	if (strcmp(outcome, "requires_action") == 0)
		return EVIDENCE_REQUIRES_ACTION;
	if (strcmp(outcome, "declined") == 0)
		return EVIDENCE_DECLINED;
	if (strcmp(outcome, "failed") == 0)
		return EVIDENCE_FAILED;
	return EVIDENCE_NOTHING;
}

static Evidence
evidence_of(const WebhookEvent *event)
{
	const Operation *operation = operation_of(event->about);

	return (Evidence){
		.object = operation->object,
		.operation = operation->name,
		.object_id = event->object_id,
		.psp_id = event->psp_id,
		.kind = kind_of(event),
		.cause = CAUSE_WEBHOOK,
		.attempt_no = is_of_no_request(event) ? NO_REQUEST : event->attempt_no,
		.psp_reference = event->psp_reference,
		.amount = event->amount,
		.currency = event->currency,
		.is_total = is_about_payment(event),
		.failure_code = event->error_code,
		.failure_message = event->error_message,
	};
}

static bool
is_true_of(SPIPlanPtr *plan, const char *sql, const WebhookEvent *event)
{
	const Oid types[] = { UUIDOID, UUIDOID, TEXTOID };
	Datum	  values[] = { UUIDPGetDatum(&event->object_id),
						   UUIDPGetDatum(&event->psp_id),
					   event->psp_reference
							   ? CStringGetTextDatum(event->psp_reference)
							   : (Datum) 0 };
	char	  nulls[] = { ' ', ' ', event->psp_reference ? ' ' : 'n', '\0' };

	plan_keep(plan, sql, lengthof(types), types);
	return batch_run(*plan, values, nulls) > 0;
}

static void
open_exception(const WebhookEvent *event, const char *type, const char *what,
			   bool in_ledger)
{
	ExceptionReport report = {
		.in_ledger = in_ledger,
		.type = type,
		.psp_id = &event->psp_id,
		.order_id = &event->object_id,
		.detail = psprintf("%s (%s, %s)", what, event->event_id,
						   event->psp_reference ? event->psp_reference
												: "no reference"),
	};

	exception_open(&report);
}

/*
 * The seller's money came back, and nothing here says so yet.  That a try
 * before the one that paid has failed is no news.
 */
static void
report_payout_failure(const WebhookEvent *event, const Evidence *evidence)
{
	static SPIPlanPtr plan = NULL;

	if (evidence->kind == EVIDENCE_FAILED && evidence->status &&
		evidence->object == OBJECT_PAYOUT &&
		strcmp(evidence->status, "paid") == 0 &&
		is_true_of(&plan,
				   "SELECT FROM payment.payout_record WHERE id = $1"
				   " AND psp_id = $2 AND ($3 IS NULL OR psp_reference IS NULL"
				   " OR psp_reference = $3)",
				   event))
		open_exception(event, "status",
					   "The PSP says that a payout has failed which was paid",
					   false);
}

/*
 * Was that capture booked?  From its first claim until the next operation's,
 * whatever was captured is it; of one that does not say which it is, any.
 */
static bool
capture_was_booked(const WebhookEvent *event)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, INT4OID };
	Datum			  values[] = { UUIDPGetDatum(&event->object_id),
								   Int32GetDatum(event->attempt_no) };

	plan_keep(&plan,
			  "SELECT FROM payment.journal AS j WHERE j.subject = $1"
			  " AND j.kind = 'capture' AND ($2 = 0 OR j.id > (SELECT a.id"
			  "  FROM payment.attempt AS a WHERE a.object_id = $1"
			  "  AND a.id > $1 AND a.operation = 'capture'"
			  "  AND a.attempt_no = $2 ORDER BY a.id LIMIT 1)"
			  " AND NOT EXISTS (SELECT FROM payment.attempt AS a"
			  "  WHERE a.object_id = $1 AND a.id > $1"
			  "  AND a.operation IN ('capture', 'void')"
			  "  AND a.attempt_no > $2 AND a.id < j.id)) LIMIT 1",
			  lengthof(types), types);
	return batch_run(plan, values, NULL) > 0;
}

/*
 * The payer's bank took back what was captured.  How much of it the seller has
 * by now, and who bears it, is for people to say.
 */
static void
report_capture_failure(WebhookEvent *event, const Evidence *evidence)
{
	if (evidence->kind != EVIDENCE_FAILED ||
		strcmp(evidence->operation, OPERATION_CAPTURE) != 0 ||
		!capture_was_booked(event))
		return;
	open_exception(event, "status",
				   "The PSP says that a capture has failed which had "
				   "succeeded",
				   true);
	set_state(event, STATE_APPLIED,
			  "it contradicts what is known: an exception is open");
	event->effect = "contradicted";
}

/*
 * A PSP may never have been asked, as far as the database knows after it lost
 * its last claims.  When the order's way leads by it, what it took is somebody's
 * money; for any other PSP it is somebody else's order.
 */
static bool
report_lost_success(const WebhookEvent *event, const Evidence *evidence)
{
	static SPIPlanPtr plan = NULL;

	if ((evidence->kind != EVIDENCE_SUCCEEDED &&
		 evidence->kind != EVIDENCE_AUTHORIZED) ||
		evidence->object != OBJECT_PAYMENT_ORDER ||
		!is_true_of(&plan,
					"SELECT $3 FROM payment.order_record AS o"
					" JOIN payment.payment_record AS p ON p.id = o.payment_id"
					" WHERE o.id = $1 AND $2 = ANY (p.route)",
					event))
		return false;
	open_exception(event, "unmatched_event",
				   "A PSP that the order went on from has executed it", false);
	return true;
}

static void
conclude(WebhookEvent *event, const Evidence *evidence)
{
	switch (evidence->effect)
	{
		case EVIDENCE_APPLIED:
			set_state(event, STATE_APPLIED, NULL);
			event->effect = "applied";
			break;
		case EVIDENCE_NO_EFFECT:
			set_state(event, STATE_APPLIED, "known already, or overtaken");
			event->effect = "no_effect";
			report_payout_failure(event, evidence);
			report_capture_failure(event, evidence);
			break;
		case EVIDENCE_CONTRADICTED:
			set_state(event, STATE_APPLIED,
					  "it contradicts what is known: an exception is open");
			event->effect = "contradicted";
			break;
		case EVIDENCE_TOO_EARLY:
			set_state(event, STATE_PARKED,
					  "what it is about is under way, or has not been sent");
			break;
		case EVIDENCE_NO_OBJECT:
			if (report_lost_success(event, evidence))
				set_state(event, STATE_REJECTED,
						  "what it is about went on to another PSP: an "
						  "exception is open");
			else
				set_state(event, STATE_REJECTED,
						  "what it is about belongs to another PSP");
			break;
	}
}

/* Disputes last: a payment may have succeeded in the same batch. */
static void
weigh(WebhookEvent *const *events, int count)
{
	Evidence	  *evidence = palloc0(Max(count, 1) * sizeof(Evidence));
	WebhookEvent **sorted = palloc(Max(count, 1) * sizeof(WebhookEvent *));
	int			   others = 0;
	int			   disputes = 0;

	for (int i = 0; i < count; i++)
		if (!dispute_event_counts(events[i]))
			sorted[others++] = events[i];
	for (int i = 0; i < count; i++)
		if (dispute_event_counts(events[i]))
			sorted[others + disputes++] = events[i];
	for (int i = 0; i < others; i++)
		evidence[i] = evidence_of(sorted[i]);
	order_apply_evidence(evidence, others);
	dispute_events_weigh(sorted + others, evidence + others, disputes);
	for (int i = 0; i < count; i++)
		conclude(sorted[i], &evidence[i]);
}

/* A session that waits for less keeps to that. */
static void
limit_waiting(void)
{
	char limit[32];

	if (LockTimeout > 0 && LockTimeout <= payment_webhook_lock_timeout_ms)
		return;
	snprintf(limit, sizeof(limit), "%d", payment_webhook_lock_timeout_ms);
	(void) set_config_option("lock_timeout", limit, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

static bool
is_for_the_session(int sqlerrcode)
{
	return ERRCODE_TO_CATEGORY(sqlerrcode) ==
			   ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION) ||
		   ERRCODE_TO_CATEGORY(sqlerrcode) ==
			   ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES);
}

/* false, and nothing done, when it failed; *problem says how */
static bool
try_to_weigh(WebhookEvent *const *events, int count, const char **problem)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool done = false;
	volatile int  nest_level;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		nest_level = NewGUCNestLevel();
		limit_waiting();
		weigh(events, count);
		AtEOXact_GUC(true, nest_level);
		ReleaseCurrentSubTransaction();
		done = true;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		if (is_for_the_session(error->sqlerrcode))
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		*problem = psprintf("%s (SQLSTATE %s)", error->message,
							unpack_sql_state(error->sqlerrcode));
		ereport(LOG,
				(errmsg("could not apply a webhook event: %s", *problem)));
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return done;
}

void
webhook_apply(WebhookEvent *events, int count)
{
	WebhookEvent **ready = palloc(Max(count, 1) * sizeof(WebhookEvent *));
	int			   ready_count = 0;
	const char	  *problem = NULL;

	for (int i = 0; i < count; i++)
		if (prepare(&events[i]))
			ready[ready_count++] = &events[i];
	if (ready_count == 0 || try_to_weigh(ready, ready_count, &problem))
		return;

	/* one of them may be what all have failed for */
	for (int i = 0; i < ready_count; i++)
	{
		/* it may name a dispute by now that was rolled back */
		if (dispute_event_counts(ready[i]))
			(void) prepare_dispute(ready[i]);
		if (ready_count == 1 || !try_to_weigh(&ready[i], 1, &problem))
			set_state(ready[i], STATE_RECEIVED, problem);
	}
}
