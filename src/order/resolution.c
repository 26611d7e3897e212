/*-------------------------------------------------------------------------
 *
 * resolution.c
 *	  People decide what no machine could find out.
 *
 * An order or payout whose outcome stays unknown after every lookup is never
 * guessed at.  One person proposes what became of it, with a reason; nothing
 * happens until another one, who has looked for himself, says the same.  Then
 * it counts like evidence.  Who proposes something else than what is proposed
 * already is told so, and not taken for an approval.
 *
 * Who acts is an argument, since applications share a role; the role that was
 * logged in is kept beside it.
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
#include "order/evidence.h"
#include "order/plan.h"
#include "order/proposal.h"
#include "order/subject.h"
#include "order/typed_argument.h"
#include "text_guard.h"

PG_FUNCTION_INFO_V1(payment_resolve_unknown);
PG_FUNCTION_INFO_V1(payment_reject_unknown_resolution);

/* ---- arguments ---- */

static void
check_outcome(const Verdict *verdict)
{
	bool succeeded;

	if (verdict->outcome == NULL ||
		(strcmp(verdict->outcome, "succeeded") != 0 &&
		 strcmp(verdict->outcome, "failed") != 0))
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
				 errmsg("invalid outcome"),
				 errdetail("It is \"%s\".",
						   verdict->outcome ? verdict->outcome : "null"),
				 errhint("Say \"succeeded\" when the money moved, \"failed\" "
						 "when it certainly did not and never will.")));
	succeeded = strcmp(verdict->outcome, "succeeded") == 0;
	if (succeeded == (verdict->psp_reference != NULL))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
			 errmsg(succeeded ? "a success needs the PSP's reference"
							  : "a failure has no reference at the PSP"),
			 errdetail("The outcome is \"%s\".", verdict->outcome),
			 errhint("The reference is what proves a success, and keeps one "
					 "charge from counting for two orders.")));
}

static void
read_verdict(FunctionCallInfo fcinfo, Verdict *verdict)
{
	verdict->object_id = *uuid_argument(fcinfo, 0, "object");
	verdict->outcome = text_argument(fcinfo, 1, "outcome");
	verdict->person =
		proposal_text(fcinfo, 2, "person", PROPOSAL_PERSON_MAX_BYTES);
	verdict->reason = proposal_text(fcinfo, 3, "reason", 0);
	verdict->psp_reference = PG_ARGISNULL(4)
								 ? NULL
								 : proposal_text(fcinfo, 4, "psp_reference",
												 PROPOSAL_REFERENCE_MAX_BYTES);
	check_outcome(verdict);
}

/* ---- the object ---- */

#define OBJECT_KEYS 5

/*
 * The kind of object, with every operation that its task may be for; PY012:
 * there is no such object.  Returns the number of keys.
 */
static int
find_object(const pg_uuid_t *id, SubjectKey *keys)
{
	static SPIPlanPtr		 plan = NULL;
	static const char *const of_order[OBJECT_KEYS] = {
		OPERATION_PAY, OPERATION_REGISTER, OPERATION_CLOSE, OPERATION_CAPTURE,
		OPERATION_VOID
	};
	const Oid types[] = { UUIDOID };
	Datum	  value = UUIDPGetDatum(id);

	batch_run(plan_keep(&plan,
						"SELECT EXISTS (SELECT FROM payment.order_record"
						" WHERE id = $1), EXISTS (SELECT"
						" FROM payment.payout_record WHERE id = $1),"
						" EXISTS (SELECT FROM payment.refund_record"
						" WHERE id = $1)",
						1, types),
			  &value, NULL);
	for (int i = 0; i < OBJECT_KEYS; i++)
		keys[i] = (SubjectKey){ .object = OBJECT_PAYMENT_ORDER,
								.id = *id,
								.operation = of_order[i] };
	if (row_bool(0, 1))
		return OBJECT_KEYS;
	if (row_bool(0, 3))
	{
		keys[0].object = OBJECT_REFUND;
		keys[0].operation = OPERATION_REFUND;
		return 1;
	}
	if (!row_bool(0, 2))
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_UNKNOWN_OBJECT),
				 errmsg("unknown payment order, refund or payout"),
				 errdetail("There is none with the id %s.", uuid_text(id)),
				 errhint("Pass an id of payment.payment_order, "
						 "payment.refund or payment.payout.")));
	keys[0].object = OBJECT_PAYOUT;
	keys[0].operation = OPERATION_PAYOUT;
	return 1;
}

/* the one that it is, once the object is locked */
static void
lock_object(const pg_uuid_t *id, SubjectKey *key, SubjectSet *set)
{
	SubjectKey keys[OBJECT_KEYS];
	int		   count = find_object(id, keys);
	Subject	  *subject;

	subjects_lock(set, keys, count);
	subject = subject_find(set, id);
	if (subject == NULL)
		elog(ERROR, "an object vanished");
	*key = keys[0];
	key->operation = subject_operation(subject);
}

/* as long as machines may find out, people do not decide */
static void
check_given_up(const SubjectKey *key)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, TEXTOID };
	Datum			  values[2];

	values[0] = UUIDPGetDatum(&key->id);
	values[1] = CStringGetTextDatum(key->operation);
	if (batch_run(plan_keep(&plan,
							"SELECT FROM payment.task WHERE object_id = $1"
							" AND operation = $2 AND dead_at IS NULL",
							2, types),
				  values, NULL) == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_WRONG_STATE),
			 errmsg("the PSP is still being asked what became of it"),
			 errdetail("Object %s is in the queue.", uuid_text(&key->id)),
			 errhint("Decide when it is in payment.dead_letter.")));
}

/* ---- deciding ---- */

/* What is voided did not move: its success has a word of its own. */
static EvidenceKind
evidence_kind(const SubjectKey *key, bool succeeded)
{
	if (!succeeded)
		return EVIDENCE_FAILED;
	return strcmp(key->operation, OPERATION_VOID) == 0 ? EVIDENCE_VOIDED
													   : EVIDENCE_SUCCEEDED;
}

static void
apply(const Verdict *verdict, const SubjectKey *key, const Subject *subject)
{
	bool	 succeeded = strcmp(verdict->outcome, "succeeded") == 0;
	bool	 capture = strcmp(key->operation, OPERATION_CAPTURE) == 0;
	Evidence evidence = {
		.object = key->object,
		.operation = key->operation,
		.object_id = key->id,
		.psp_id = subject->psp_id,
		.kind = evidence_kind(key, succeeded),
		.cause = CAUSE_DECISION,
		.psp_reference = verdict->psp_reference,
		.amount = capture ? subject->capturing_amount : subject->amount,
		.currency = subject->currency,
		.is_total = !capture,
		.failure_code = succeeded ? NULL : "decision",
		.failure_message = succeeded ? NULL : verdict->reason,
	};

	order_apply_evidence(&evidence, 1);
	if (evidence.effect == EVIDENCE_APPLIED)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_DECISION_DIFFERS),
			 errmsg("the decision contradicts what is known"),
			 errdetail("Reference \"%s\" belongs to another object.",
					   verdict->psp_reference ? verdict->psp_reference : ""),
			 errhint("Look the payment up at the PSP once more.")));
}

static const char *
propose_or_apply(const Verdict *verdict, const SubjectKey *key,
				 const Subject *subject)
{
	Proposal proposal;
	bool	 own;

	proposal_read(&key->id, &proposal);
	if (!proposal.exists)
	{
		proposal_insert(verdict, key->operation);
		return "proposed";
	}
	own = proposal_same_person(verdict->person, proposal.person);
	if (own && proposal_agrees(verdict, &proposal))
		return "proposed";
	if (own)
	{
		proposal_end(&proposal, "withdrawn", verdict->person, verdict->reason);
		proposal_insert(verdict, key->operation);
		return "proposed";
	}
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
						 "payment.reject_unknown_resolution().")));
	proposal_end(&proposal, "applied", verdict->person, verdict->reason);
	apply(verdict, key, subject);
	return "applied";
}

static void
pg_attribute_noreturn() refuse_status(const Subject *subject)
{
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_WRONG_STATE),
					errmsg("its outcome is not unknown"),
					errdetail("Object %s is %s.", uuid_text(&subject->id),
							  subject->path.now),
					errhint("Only what is unknown is decided by people.")));
}

/*
 * payment.resolve_unknown(object, outcome, person, reason, psp_reference)
 * -> text: proposed or applied
 */
Datum
payment_resolve_unknown(PG_FUNCTION_ARGS)
{
	Verdict		verdict;
	SubjectKey	key;
	SubjectSet	set;
	Subject	   *subject;
	const char *result;
	int			nest_level;

	read_verdict(fcinfo, &verdict);
	nest_level = batch_begin();
	lock_object(&verdict.object_id, &key, &set);
	subject = subject_find(&set, &key.id);
	if (strcmp(subject->path.now, "unknown") == 0)
	{
		check_given_up(&key);
		result = propose_or_apply(&verdict, &key, subject);
	}
	else if (proposal_was_applied(&verdict))
		result = "applied";
	else
		refuse_status(subject);
	batch_end(nest_level);
	PG_RETURN_TEXT_P(cstring_to_text(result));
}

/*
 * payment.reject_unknown_resolution(object, person, reason) -> boolean
 *
 * False when nothing is proposed.
 */
Datum
payment_reject_unknown_resolution(PG_FUNCTION_ARGS)
{
	pg_uuid_t *id = uuid_argument(fcinfo, 0, "object");
	char	  *person =
		proposal_text(fcinfo, 1, "person", PROPOSAL_PERSON_MAX_BYTES);
	char	  *reason = proposal_text(fcinfo, 2, "reason", 0);
	SubjectKey key;
	SubjectSet set;
	Proposal   proposal;
	int		   nest_level = batch_begin();

	lock_object(id, &key, &set);
	proposal_read(id, &proposal);
	if (proposal.exists)
		proposal_end(&proposal,
					 proposal_same_person(person, proposal.person)
						 ? "withdrawn"
						 : "rejected",
					 person, reason);
	batch_end(nest_level);
	PG_RETURN_BOOL(proposal.exists);
}
