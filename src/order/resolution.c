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
#include "order/resolution.h"
#include "order/subject.h"
#include "order/typed_argument.h"
#include "text_guard.h"

PG_FUNCTION_INFO_V1(payment_resolve_unknown);
PG_FUNCTION_INFO_V1(payment_reject_unknown_resolution);

#define PERSON_MAX_BYTES 255
#define REFERENCE_MAX_BYTES 255

/* what somebody says became of the object */
typedef struct Verdict
{
	pg_uuid_t	object_id;
	const char *outcome; /* succeeded or failed */
	const char *psp_reference;
	const char *person;
	const char *reason;
} Verdict;

/* the proposal that waits for a second person */
typedef struct Proposal
{
	bool		exists;
	pg_uuid_t	id;
	const char *outcome;
	const char *psp_reference; /* or NULL */
	const char *person;
} Proposal;

/* ---- arguments ---- */

static char *
needed_text(FunctionCallInfo fcinfo, int number, const char *name,
			int max_bytes)
{
	char *text = text_argument(fcinfo, number, name);

	if (text == NULL || text[strspn(text, " \t\r\n")] == '\0')
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("argument \"%s\" must not be empty", name),
						errdetail("It is kept with the decision."),
						errhint("Say who decides, and why.")));
	if (max_bytes > 0 && strlen(text) > (size_t) max_bytes)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_LIMIT_EXCEEDED),
						errmsg("argument \"%s\" is too long", name),
						errdetail("It has %zu bytes, the limit is %d.",
								  strlen(text), max_bytes),
						errhint("Shorten it.")));
	return text;
}

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
	verdict->person = needed_text(fcinfo, 2, "person", PERSON_MAX_BYTES);
	verdict->reason = needed_text(fcinfo, 3, "reason", 0);
	verdict->psp_reference =
		PG_ARGISNULL(4)
			? NULL
			: needed_text(fcinfo, 4, "psp_reference", REFERENCE_MAX_BYTES);
	check_outcome(verdict);
}

/* ---- the object ---- */

/* its kind, and its task's operation */
static void
find_object(const pg_uuid_t *id, SubjectKey *key)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID };
	Datum			  value = UUIDPGetDatum(id);

	batch_run(plan_keep(&plan,
						"SELECT EXISTS (SELECT FROM payment.order_record"
						" WHERE id = $1), EXISTS (SELECT"
						" FROM payment.payout_record WHERE id = $1)",
						1, types),
			  &value, NULL);
	key->id = *id;
	if (row_bool(0, 1))
	{
		key->object = OBJECT_PAYMENT_ORDER;
		key->operation = OPERATION_PAY;
	}
	else if (row_bool(0, 2))
	{
		key->object = OBJECT_PAYOUT;
		key->operation = OPERATION_PAYOUT;
	}
	else
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_UNKNOWN_OBJECT),
				 errmsg("unknown payment order or payout"),
				 errdetail("There is none with the id %s.", uuid_text(id)),
				 errhint("Pass an id of payment.payment_order or "
						 "payment.payout.")));
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

/* ---- proposals ---- */

static void
read_proposal(const pg_uuid_t *object_id, Proposal *proposal)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID };
	Datum			  value = UUIDPGetDatum(object_id);

	memset(proposal, 0, sizeof(Proposal));
	if (batch_run(plan_keep(&plan,
							"SELECT id, outcome, psp_reference, proposed_by"
							" FROM payment.resolution WHERE object_id = $1"
							" AND status = 'proposed' FOR UPDATE",
							1, types),
				  &value, NULL) == 0)
		return;
	proposal->exists = row_uuid(0, 1, &proposal->id);
	proposal->outcome = row_text(0, 2);
	proposal->psp_reference = row_text(0, 3);
	proposal->person = row_text(0, 4);
}

bool
was_decided(const pg_uuid_t *object_id, const char *outcome)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, TEXTOID };
	Datum			  values[] = { UUIDPGetDatum(object_id),
								   CStringGetTextDatum(outcome) };

	return batch_run(plan_keep(&plan,
							   "SELECT FROM payment.resolution"
							   " WHERE object_id = $1 AND status = 'applied'"
							   " AND outcome = $2",
							   2, types),
					 values, NULL) > 0;
}

/* has this been decided already, and so? */
static bool
was_applied(const Verdict *verdict)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, TEXTOID, TEXTOID };
	Datum			  values[3] = { 0 };
	char			  nulls[] = "  n";

	values[0] = UUIDPGetDatum(&verdict->object_id);
	values[1] = CStringGetTextDatum(verdict->outcome);
	if (verdict->psp_reference)
	{
		values[2] = CStringGetTextDatum(verdict->psp_reference);
		nulls[2] = ' ';
	}
	return batch_run(plan_keep(&plan,
							   "SELECT FROM payment.resolution"
							   " WHERE object_id = $1 AND status = 'applied'"
							   " AND outcome = $2"
							   " AND psp_reference IS NOT DISTINCT FROM $3",
							   3, types),
					 values, nulls) > 0;
}

/*
 * In REPEATABLE READ a concurrent first proposal that our snapshot does not
 * show makes this a serialization failure.
 */
static void
insert_proposal(const Verdict *verdict, const char *operation)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID, UUIDOID, TEXTOID,		TEXTOID,
								  TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID };
	Datum			  values[lengthof(types)] = { 0 };
	char			  nulls[] = "       n";
	pg_uuid_t		  id;

	uuid7_generate(&id);
	values[0] = UUIDPGetDatum(&id);
	values[1] = UUIDPGetDatum(&verdict->object_id);
	values[2] = CStringGetTextDatum(operation);
	values[3] = CStringGetTextDatum(verdict->outcome);
	values[4] = CStringGetTextDatum(verdict->person);
	values[5] = CStringGetTextDatum(verdict->reason);
	values[6] = TimestampTzGetDatum(GetCurrentTimestamp());
	if (verdict->psp_reference)
	{
		values[7] = CStringGetTextDatum(verdict->psp_reference);
		nulls[7] = ' ';
	}
	if (order_write(
			plan_keep(&plan,
					  "INSERT INTO payment.resolution (id, object_id,"
					  " operation, outcome, proposed_by, proposed_reason,"
					  " proposed_at, psp_reference, proposed_role, status)"
					  " VALUES ($1, $2, $3, $4, $5, $6, $7, $8,"
					  " session_user, 'proposed')"
					  " ON CONFLICT (object_id) WHERE status = 'proposed'"
					  " DO NOTHING",
					  lengthof(types), types),
			values, nulls, CAUSE_DECISION) != 1)
		elog(ERROR, "there is a proposal although its object is locked");
}

static void
end_proposal(const Proposal *proposal, const char *status, const char *person,
			 const char *reason)
{
	static SPIPlanPtr plan = NULL;
	const Oid types[] = { UUIDOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID };
	Datum	  values[lengthof(types)];

	values[0] = UUIDPGetDatum(&proposal->id);
	values[1] = CStringGetTextDatum(status);
	values[2] = CStringGetTextDatum(person);
	values[3] = CStringGetTextDatum(reason);
	values[4] = TimestampTzGetDatum(GetCurrentTimestamp());
	order_write(plan_keep(&plan,
						  "UPDATE payment.resolution SET status = $2,"
						  " decided_by = $3, decided_reason = $4,"
						  " decided_at = $5, decided_role = session_user"
						  " WHERE id = $1",
						  lengthof(types), types),
				values, NULL, CAUSE_DECISION);
}

/* "Ann" who signs as "ann " is still one person */
static bool
same_person(const char *a, const char *b)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { TEXTOID, TEXTOID };
	Datum			  values[2];

	values[0] = CStringGetTextDatum(a);
	values[1] = CStringGetTextDatum(b);
	batch_run(plan_keep(&plan,
						"SELECT lower(regexp_replace($1, '\\s+', '', 'g'))"
						" = lower(regexp_replace($2, '\\s+', '', 'g'))",
						2, types),
			  values, NULL);
	return row_bool(0, 1);
}

static bool
same_verdict(const Verdict *verdict, const Proposal *proposal)
{
	const char *a = verdict->psp_reference ? verdict->psp_reference : "";
	const char *b = proposal->psp_reference ? proposal->psp_reference : "";

	return strcmp(verdict->outcome, proposal->outcome) == 0 &&
		   strcmp(a, b) == 0;
}

/* ---- deciding ---- */

static void
apply(const Verdict *verdict, const SubjectKey *key, const Subject *subject)
{
	bool	 succeeded = strcmp(verdict->outcome, "succeeded") == 0;
	Evidence evidence = {
		.object = key->object,
		.operation = key->operation,
		.object_id = key->id,
		.psp_id = subject->psp_id,
		.kind = succeeded ? EVIDENCE_SUCCEEDED : EVIDENCE_FAILED,
		.cause = CAUSE_DECISION,
		.attempt_no = subject->attempt_no,
		.psp_reference = verdict->psp_reference,
		.amount = subject->amount,
		.currency = subject->currency,
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

	read_proposal(&key->id, &proposal);
	if (!proposal.exists)
	{
		insert_proposal(verdict, key->operation);
		return "proposed";
	}
	own = same_person(verdict->person, proposal.person);
	if (own && same_verdict(verdict, &proposal))
		return "proposed";
	if (own)
	{
		end_proposal(&proposal, "withdrawn", verdict->person, verdict->reason);
		insert_proposal(verdict, key->operation);
		return "proposed";
	}
	if (!same_verdict(verdict, &proposal))
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
	end_proposal(&proposal, "applied", verdict->person, verdict->reason);
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
	find_object(&verdict.object_id, &key);
	subjects_lock(&set, &key, 1);
	subject = subject_find(&set, &key.id);
	if (subject == NULL)
		elog(ERROR, "an order or payout vanished");
	if (strcmp(subject->path.now, "unknown") == 0)
	{
		check_given_up(&key);
		result = propose_or_apply(&verdict, &key, subject);
	}
	else if (was_applied(&verdict))
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
	char	  *person = needed_text(fcinfo, 1, "person", PERSON_MAX_BYTES);
	char	  *reason = needed_text(fcinfo, 2, "reason", 0);
	SubjectKey key;
	SubjectSet set;
	Proposal   proposal;
	int		   nest_level = batch_begin();

	find_object(id, &key);
	subjects_lock(&set, &key, 1);
	read_proposal(id, &proposal);
	if (proposal.exists)
		end_proposal(&proposal,
					 same_person(person, proposal.person) ? "withdrawn"
														  : "rejected",
					 person, reason);
	batch_end(nest_level);
	PG_RETURN_BOOL(proposal.exists);
}
