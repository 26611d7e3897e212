/*-------------------------------------------------------------------------
 *
 * decision.c
 *	  Two people work off an exception about an order, refund or payout.
 *
 * One proposes what became of the money, another one who has looked for
 * himself approves the very same; status, ledger and exception change in that
 * commit.  New evidence that comes in between ends the proposal, since it was
 * made without it; evidence that comes after opens the exception again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "errcodes.h"
#include "order/batch.h"
#include "order/decision.h"
#include "order/evidence.h"
#include "order/exchange.h"
#include "order/plan.h"
#include "order/psp_reference.h"
#include "order/typed_argument.h"

PG_FUNCTION_INFO_V1(payment_propose_resolution);
PG_FUNCTION_INFO_V1(payment_approve_resolution);
PG_FUNCTION_INFO_V1(payment_reject_resolution);

#define OPERATION_EXCEPTION "exception"

static const char *const decidable[] = {
	"late_success", "duplicate", "amount", "currency",
	"status",		"dispute",	 NULL
};
static const char *const outcomes[] = { "captured",			"kept",
										"refunded_outside", "not_executed",
										"written_off",		NULL };

static bool
one_of(const char *text, const char *const *list)
{
	for (; *list; list++)
	{
		if (strcmp(text, *list) == 0)
			return true;
	}
	return false;
}

static void
read_verdict(FunctionCallInfo fcinfo, Verdict *verdict)
{
	const char *outcome = text_argument(fcinfo, 1, "resolution");

	verdict->object_id = *uuid_argument(fcinfo, 0, "exception");
	verdict->person =
		proposal_text(fcinfo, 2, "person", PROPOSAL_PERSON_MAX_BYTES);
	verdict->reason = proposal_text(fcinfo, 3, "reason", 0);
	verdict->psp_reference = PG_ARGISNULL(4)
								 ? NULL
								 : proposal_text(fcinfo, 4, "psp_reference",
												 PROPOSAL_REFERENCE_MAX_BYTES);
	if (outcome == NULL || !one_of(outcome, outcomes))
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
				 errmsg("invalid resolution"),
				 errdetail("It is \"%s\".", outcome ? outcome : "null"),
				 errhint("Say \"captured\", \"kept\", \"refunded_outside\", "
						 "\"not_executed\" or \"written_off\".")));
	if (verdict->psp_reference && strcmp(outcome, "captured") != 0)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("only what is captured has a reference"),
						errdetail("The resolution is \"%s\".", outcome),
						errhint("Leave \"psp_reference\" away.")));
	verdict->outcome = outcome;
}

#define EXCEPTION_QUERY                                                 \
	"SELECT x.type, x.status, x.psp_id, x.order_id, x.line_id,"         \
	" x.actual_amount, x.currency, x.in_ledger,"                        \
	" x.actual_amount IS NOT NULL AND x.currency IS NOT NULL, EXISTS (" \
	"SELECT FROM payment.payout_record AS o WHERE o.id = x.order_id),"  \
	" EXISTS (SELECT FROM payment.refund_record AS o"                   \
	" WHERE o.id = x.order_id)"                                         \
	" FROM payment.exception_record AS x WHERE x.id = $1"

/* the kind of its object */
static TransitionObject
read_exception(SPIPlanPtr *plan, const char *query, const pg_uuid_t *id,
			   DecidedException *exception)
{
	const Oid types[] = { UUIDOID };
	Datum	  value = UUIDPGetDatum(id);
	pg_uuid_t line;

	if (batch_run(plan_keep(plan, query, 1, types), &value, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_UNKNOWN_OBJECT),
				 errmsg("unknown exception"),
				 errdetail("There is none with the id %s.", uuid_text(id)),
				 errhint("Pass an id of payment.exception.")));
	exception->id = *id;
	exception->type = row_text(0, 1);
	exception->status = row_text(0, 2);
	row_uuid(0, 3, &exception->psp_id);
	exception->has_object = row_uuid(0, 4, &exception->object_id);
	exception->has_line = row_uuid(0, 5, &line);
	exception->actual_amount = row_int64(0, 6);
	exception->currency = row_text(0, 7);
	exception->in_ledger = row_bool(0, 8);
	exception->has_amount = row_bool(0, 9);
	if (row_bool(0, 10))
		return OBJECT_PAYOUT;
	return row_bool(0, 11) ? OBJECT_REFUND : OBJECT_PAYMENT_ORDER;
}

static void
check_kind(const DecidedException *exception)
{
	if (exception->has_object && !exception->has_line &&
		one_of(exception->type, decidable))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_WRONG_STATE),
			 errmsg("such an exception is not decided so"),
			 errdetail("Exception %s is of the type \"%s\"%s.",
					   uuid_text(&exception->id), exception->type,
					   exception->has_line ? ", of a settlement line" : ""),
			 errhint("An unknown outcome is decided by "
					 "payment.resolve_unknown(); what settlement differs in "
					 "is corrected by payment.post_journal().")));
}

/* task, payment, order, refund or payout, then the exception: as evidence does */
static Subject *
lock_exception(const pg_uuid_t *id, DecidedException *exception,
			   SubjectSet *set, SubjectKey *key)
{
	static SPIPlanPtr plan = NULL;
	static SPIPlanPtr lock_plan = NULL;
	Subject			 *subject;

	key->object = read_exception(&plan, EXCEPTION_QUERY, id, exception);
	check_kind(exception);
	if (key->object == OBJECT_PAYOUT)
		key->operation = OPERATION_PAYOUT;
	else
		key->operation =
			key->object == OBJECT_REFUND ? OPERATION_REFUND : OPERATION_PAY;
	key->id = exception->object_id;
	subjects_lock(set, key, 1);
	(void) read_exception(&lock_plan, EXCEPTION_QUERY " FOR UPDATE OF x", id,
						  exception);
	subject = subject_find(set, &key->id);
	if (subject == NULL)
		elog(ERROR, "the object of an exception is missing");
	return subject;
}

static void
set_status(DecidedException *exception, const char *status, bool closes)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, TEXTOID, TIMESTAMPTZOID };
	Datum			  values[] = { UUIDPGetDatum(&exception->id),
								   CStringGetTextDatum(status),
								   TimestampTzGetDatum(GetCurrentTimestamp()) };

	order_write(plan_keep(&plan,
						  "UPDATE payment.exception_record SET status = $2,"
						  " closed_at = $3 WHERE id = $1",
						  lengthof(types), types),
				values, closes ? NULL : "  n", CAUSE_DECISION);
	exception->status = status;
}

/* New evidence has sent it back: what was proposed before is void. */
static void
read_valid_proposal(const DecidedException *exception, Proposal *proposal)
{
	proposal_read(&exception->id, proposal);
	if (!proposal->exists || strcmp(exception->status, "proposed") == 0)
		return;
	proposal_end(proposal, "withdrawn", "payment",
				 "the PSP has said something new");
	proposal->exists = false;
}

static void
pg_attribute_noreturn() refuse_closed(const DecidedException *exception)
{
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_WRONG_STATE),
					errmsg("the exception is not open"),
					errdetail("Exception %s is %s.", uuid_text(&exception->id),
							  exception->status),
					errhint("New evidence opens it again.")));
}

static bool
is_closed(const DecidedException *exception)
{
	static const char *const closed[] = { "resolved", "written_off",
										  "auto_resolved", NULL };

	return one_of(exception->status, closed);
}

/* the order of a refund, else NULL */
static Subject *
order_of(const SubjectSet *set, const Subject *subject)
{
	return subject->object == OBJECT_REFUND
			   ? subject_find(set, &subject->order_id)
			   : NULL;
}

static void
propose(const Verdict *verdict, DecidedException *exception,
		const SubjectSet *set, const Subject *subject)
{
	Proposal	   proposal;
	DecisionEffect effect;

	if (is_closed(exception))
		refuse_closed(exception);
	decision_effect(exception, verdict, subject, order_of(set, subject),
					&effect);
	read_valid_proposal(exception, &proposal);
	if (proposal.exists)
	{
		if (proposal_same_person(verdict->person, proposal.person))
		{
			if (proposal_agrees(verdict, &proposal))
				return;
			proposal_end(&proposal, "withdrawn", verdict->person,
						 verdict->reason);
		}
		else
			ereport(ERROR,
					(errcode(ERRCODE_PAYMENT_DECISION_DIFFERS),
					 errmsg("a resolution is proposed already"),
					 errdetail("\"%s\" proposes \"%s\".", proposal.person,
							   proposal.outcome),
					 errhint("Approve it by payment.approve_resolution(), or "
							 "end it by payment.reject_resolution().")));
	}
	else
	{
		if (strcmp(exception->status, "in_review") != 0)
			set_status(exception, "in_review", false);
		set_status(exception, "proposed", false);
	}
	proposal_insert(verdict, OPERATION_EXCEPTION);
}

static void
claim_reference(const Verdict *verdict, Subject *subject)
{
	PspReference reference = { .psp_id = subject->psp_id,
							   .reference = verdict->psp_reference,
							   .object_id = subject->id };

	if (verdict->psp_reference == NULL)
		return;
	psp_references_claim(&reference, 1);
	if (reference.foreign)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_DECISION_DIFFERS),
				 errmsg("the decision contradicts what is known"),
				 errdetail("Reference \"%s\" belongs to another object.",
						   verdict->psp_reference),
				 errhint("Look the payment up at the PSP once more.")));
	subject->psp_reference = verdict->psp_reference;
}

/* in memory: what is captured of an order, or given back by a refund */
static void
change_books(const DecisionEffect *effect, const DecidedException *exception,
			 Subject *subject, Subject *order)
{
	if (effect->captures)
	{
		subject->captured_amount =
			exception->has_amount ? exception->actual_amount : subject->amount;
		subject->captured_at = GetCurrentTimestamp();
		subject->captured_fee =
			Min(subject->platform_fee, subject->captured_amount);
		subject->pending_amount =
			subject->captured_amount - subject->captured_fee;
		subject->capturing_amount = 0;
	}
	if (effect->refunds)
	{
		order->refunded_amount += subject->amount;
		order->fee_returned += subject->fee_share;
		order->pending_amount -= effect->from_pending;
		order->books_changed = true;
	}
}

static void
apply(const Verdict *verdict, const Proposal *proposal,
	  DecidedException *exception, SubjectSet *set, Subject *subject)
{
	bool		   written_off = strcmp(verdict->outcome, "written_off") == 0;
	bool		   exchanged = false;
	Posting		   exchange;
	DecisionEffect effect;
	Subject		  *order = order_of(set, subject);

	decision_effect(exception, verdict, subject, order, &effect);
	proposal_end(proposal, "applied", verdict->person, verdict->reason);
	claim_reference(verdict, subject);
	change_books(&effect, exception, subject, order);
	if (effect.to && strcmp(effect.to, "reversed") == 0)
	{
		subject->pending_amount = 0;
		exchanged = exchange_reverse(subject, &exchange);
	}
	if (effect.to)
	{
		bool succeeds;

		if (!subject_step(subject, effect.to, CAUSE_DECISION))
			elog(ERROR, "%s cannot become %s by decision", subject->path.now,
				 effect.to);
		succeeds = effect.captures || effect.refunds;
		subject->failure_code = succeeds ? NULL : "decision";
		subject->failure_message = succeeds ? NULL : verdict->reason;
		subjects_write(set);
	}
	set_status(exception, "approved", false);
	set_status(exception, written_off ? "written_off" : "resolved", true);
	if (effect.posting.leg_count > 0)
		posting_post(&effect.posting, 1);
	if (exchanged)
		posting_post(&exchange, 1);
}

static void
approve(const Verdict *verdict, DecidedException *exception, SubjectSet *set,
		Subject *subject)
{
	Proposal proposal;

	if (is_closed(exception))
	{
		if (proposal_was_applied(verdict))
			return;
		refuse_closed(exception);
	}
	read_valid_proposal(exception, &proposal);
	if (!proposal.exists)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_WRONG_STATE),
				 errmsg("nothing is proposed"),
				 errdetail("Exception %s is %s.", uuid_text(&exception->id),
						   exception->status),
				 errhint("Propose it by "
						 "payment.propose_resolution().")));
	if (proposal_same_person(verdict->person, proposal.person))
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_WRONG_STATE),
						errmsg("who proposed cannot approve"),
						errdetail("\"%s\" proposes \"%s\".", proposal.person,
								  proposal.outcome),
						errhint("Have another person look and approve.")));
	if (!proposal_agrees(verdict, &proposal))
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_DECISION_DIFFERS),
				 errmsg("another resolution is proposed"),
				 errdetail("\"%s\" proposes \"%s\"%s%s.", proposal.person,
						   proposal.outcome,
						   proposal.psp_reference ? " as " : "",
						   proposal.psp_reference ? proposal.psp_reference
												  : ""),
				 errhint("Agree with it, or end it by "
						 "payment.reject_resolution().")));
	apply(verdict, &proposal, exception, set, subject);
}

/*
 * payment.propose_resolution(exception, resolution, person, reason,
 * psp_reference) -> text: the exception's status
 */
Datum
payment_propose_resolution(PG_FUNCTION_ARGS)
{
	Verdict			 verdict;
	DecidedException exception;
	SubjectSet		 set;
	SubjectKey		 key;
	Subject			*subject;
	int				 nest_level;

	read_verdict(fcinfo, &verdict);
	nest_level = batch_begin();
	subject = lock_exception(&verdict.object_id, &exception, &set, &key);
	propose(&verdict, &exception, &set, subject);
	batch_end(nest_level);
	PG_RETURN_TEXT_P(cstring_to_text("proposed"));
}

/*
 * payment.approve_resolution(exception, resolution, person, reason,
 * psp_reference) -> text: the exception's status
 */
Datum
payment_approve_resolution(PG_FUNCTION_ARGS)
{
	Verdict			 verdict;
	DecidedException exception;
	SubjectSet		 set;
	SubjectKey		 key;
	Subject			*subject;
	text			*status;
	int				 nest_level;
	MemoryContext	 caller = CurrentMemoryContext;

	read_verdict(fcinfo, &verdict);
	nest_level = batch_begin();
	subject = lock_exception(&verdict.object_id, &exception, &set, &key);
	approve(&verdict, &exception, &set, subject);
	MemoryContextSwitchTo(caller);
	status = cstring_to_text(exception.status);
	batch_end(nest_level);
	PG_RETURN_TEXT_P(status);
}

/*
 * payment.reject_resolution(exception, person, reason) -> boolean
 *
 * False when nothing is proposed.
 */
Datum
payment_reject_resolution(PG_FUNCTION_ARGS)
{
	pg_uuid_t *id = uuid_argument(fcinfo, 0, "exception");
	char	  *person =
		proposal_text(fcinfo, 1, "person", PROPOSAL_PERSON_MAX_BYTES);
	char			*reason = proposal_text(fcinfo, 2, "reason", 0);
	DecidedException exception;
	SubjectSet		 set;
	SubjectKey		 key;
	Proposal		 proposal;
	int				 nest_level = batch_begin();

	(void) lock_exception(id, &exception, &set, &key);
	read_valid_proposal(&exception, &proposal);
	if (proposal.exists)
	{
		proposal_end(&proposal,
					 proposal_same_person(person, proposal.person)
						 ? "withdrawn"
						 : "rejected",
					 person, reason);
		set_status(&exception, "in_review", false);
	}
	batch_end(nest_level);
	PG_RETURN_BOOL(proposal.exists);
}
