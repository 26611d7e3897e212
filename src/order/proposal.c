/*-------------------------------------------------------------------------
 *
 * proposal.c
 *	  What one person proposes and another one decides.
 *
 * Who acts is an argument, since applications share a role; the role that was
 * logged in is kept beside it.  Whoever calls has locked the object, so that
 * of two at once the second sees what the first has proposed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "errcodes.h"
#include "order/batch.h"
#include "order/plan.h"
#include "order/proposal.h"
#include "order/transition.h"
#include "order/typed_argument.h"

char *
proposal_text(FunctionCallInfo fcinfo, int number, const char *name,
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

void
proposal_read(const pg_uuid_t *object_id, Proposal *proposal)
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
bool
proposal_was_applied(const Verdict *verdict)
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
void
proposal_insert(const Verdict *verdict, const char *operation)
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

void
proposal_end(const Proposal *proposal, const char *status, const char *person,
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
bool
proposal_same_person(const char *a, const char *b)
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

bool
proposal_agrees(const Verdict *verdict, const Proposal *proposal)
{
	const char *a = verdict->psp_reference ? verdict->psp_reference : "";
	const char *b = proposal->psp_reference ? proposal->psp_reference : "";

	return strcmp(verdict->outcome, proposal->outcome) == 0 &&
		   strcmp(a, b) == 0;
}
