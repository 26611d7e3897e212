/*-------------------------------------------------------------------------
 *
 * dispute_response.c
 *	  Answers to disputes: evidence that is submitted, or that the payer is
 *	  right.
 *
 * An answer is an object of its own, which the worker brings to the PSP as it
 * does refunds: under a key, and looked for when nothing came back.  It moves
 * no money.  The dispute follows once the PSP has it: what becomes of the
 * dispute then, the PSP tells.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "errcodes.h"
#include "order/batch.h"
#include "order/dispute.h"
#include "order/idempotency.h"
#include "order/json_object.h"
#include "order/plan.h"
#include "order/typed_argument.h"
#include "order/weigh.h"
#include "order/withdraw.h"
#include "payment.h"

PG_FUNCTION_INFO_V1(payment_submit_dispute_evidence);
PG_FUNCTION_INFO_V1(payment_accept_dispute);

#define EVIDENCE_KEYS_MAX 64
#define EVIDENCE_KEY_LENGTH_MAX 64

typedef struct Response
{
	pg_uuid_t	id;
	pg_uuid_t	dispute_id;
	const char *operation;
	const char *key;
	Jsonb	   *evidence; /* or NULL */
} Response;

/* ---- asked for ---- */

static void
pg_attribute_noreturn() refuse_evidence(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
			 errmsg("\"evidence\" is not valid"), errdetail("%s", detail),
			 errhint("Pass an object of texts by the names that the PSP has "
					 "for them, such as {\"uncategorized_text\": \"...\"}.")));
}

static void
check_key(const JsonbValue *key)
{
	for (int i = 0; i < key->val.string.len; i++)
	{
		char c = key->val.string.val[i];

		if ((c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_')
			refuse_evidence("A name may hold a to z, 0 to 9 and underscores.");
	}
	if (key->val.string.len == 0 ||
		key->val.string.len > EVIDENCE_KEY_LENGTH_MAX)
		refuse_evidence(psprintf("A name has 1 to %d characters.",
								 EVIDENCE_KEY_LENGTH_MAX));
}

static void
check_evidence(Jsonb *evidence)
{
	JsonbIterator	  *iterator;
	JsonbIteratorToken token;
	JsonbValue		   value;
	int64			   size = 0;

	if (evidence == NULL || !JB_ROOT_IS_OBJECT(evidence) ||
		JB_ROOT_COUNT(evidence) == 0 ||
		JB_ROOT_COUNT(evidence) > EVIDENCE_KEYS_MAX)
		refuse_evidence(psprintf("It is an object with 1 to %d texts.",
								 EVIDENCE_KEYS_MAX));
	iterator = JsonbIteratorInit(&evidence->root);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			check_key(&value);
		else if (token == WJB_VALUE && value.type != jbvString)
			refuse_evidence("It holds something else than a text.");
		if (token == WJB_KEY || token == WJB_VALUE)
			size += value.val.string.len;
	}
	if (size > payment_max_dispute_evidence_bytes)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_LIMIT_EXCEEDED),
				 errmsg("\"evidence\" is too long"),
				 errdetail("It has " INT64_FORMAT " bytes, the limit is %d.",
						   size, payment_max_dispute_evidence_bytes),
				 errhint("Shorten it, or raise "
						 "payment.max_dispute_evidence_bytes if the PSP takes "
						 "more.")));
}

static bool
take_key(Response *response)
{
	Fingerprint fingerprint;
	uint8		digest[FINGERPRINT_SIZE];

	uuid7_generate(&response->id);
	fingerprint_begin(&fingerprint);
	fingerprint_text(&fingerprint, uuid_text(&response->dispute_id));
	if (response->evidence)
		fingerprint_json(&fingerprint, &response->evidence->root,
						 VARSIZE_ANY_EXHDR(response->evidence));
	fingerprint_end(&fingerprint, digest);
	return idempotency_take(response->key, response->operation, digest,
							&response->id, 1);
}

static bool
is_answered(const pg_uuid_t *dispute_id)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { UUIDOID };
	Datum			  id = UUIDPGetDatum(dispute_id);

	plan_keep(&plan,
			  "SELECT FROM payment.dispute_response_record"
			  " WHERE dispute_id = $1"
			  " AND status IN ('created', 'submitting', 'unknown') LIMIT 1",
			  lengthof(types), types);
	return batch_run(plan, &id, NULL) > 0;
}

static void
lock_dispute(Dispute *dispute, const pg_uuid_t *id)
{
	if (!dispute_read(dispute, id))
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_UNKNOWN_OBJECT),
						errmsg("\"dispute\" is no dispute"),
						errdetail("There is none with that id."),
						errhint("Pass an id of payment.dispute.")));
}

static void
check_answerable(const Dispute *dispute, const char *operation)
{
	Subject subject = { .psp_id = dispute->psp_id };

	if (!dispute_is(dispute, "open") || is_answered(&dispute->id))
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_WRONG_STATE),
				 errmsg("the dispute takes no answer now"),
				 dispute_is(dispute, "open")
					 ? errdetail("An answer to it is on its way.")
					 : errdetail("It is %s.", dispute->path.now),
				 errhint("payment.dispute_response shows what became of "
						 "answers; only an open dispute takes one.")));
	check_performs(&subject, operation);
}

static void
insert_response(const Response *response, const Dispute *dispute)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID,	UUIDOID, UUIDOID,		TEXTOID,
								  JSONBOID, TEXTOID, TIMESTAMPTZOID };
	Datum			  values[lengthof(types)];
	char			  nulls[] = "       ";

	values[0] = UUIDPGetDatum(&response->id);
	values[1] = UUIDPGetDatum(&dispute->id);
	values[2] = UUIDPGetDatum(&dispute->psp_id);
	values[3] = CStringGetTextDatum(response->operation);
	nulls[4] = response->evidence ? ' ' : 'n';
	values[4] = JsonbPGetDatum(response->evidence);
	values[5] =
		CStringGetTextDatum(GetUserNameFromId(GetSessionUserId(), false));
	values[6] = TimestampTzGetDatum(GetCurrentTimestamp());
	order_write(plan_keep(&plan,
						  "INSERT INTO payment.dispute_response_record (id,"
						  " dispute_id, psp_id, operation, evidence,"
						  " requested_by, updated_at, status)"
						  " VALUES ($1, $2, $3, $4, $5, $6, $7, 'created')",
						  lengthof(types), types),
				values, nulls, CAUSE_API);
}

static Datum
respond(Response *response)
{
	pg_uuid_t *result = palloc(sizeof(pg_uuid_t));
	int		   nest_level = batch_begin();
	Dispute	   dispute;

	lock_dispute(&dispute, &response->dispute_id);
	if (take_key(response))
	{
		check_answerable(&dispute, response->operation);
		insert_response(response, &dispute);
		task_queue(&dispute.psp_id, response->operation, &response->id);
	}
	batch_end(nest_level);
	*result = response->id;
	PG_RETURN_UUID_P(result);
}

/*
 * payment.submit_dispute_evidence(dispute, evidence, idempotency_key) -> uuid
 */
Datum
payment_submit_dispute_evidence(PG_FUNCTION_ARGS)
{
	Response response = { .operation = OPERATION_DISPUTE_EVIDENCE };

	response.evidence = json_argument(fcinfo, 1, "evidence");
	response.key = idempotency_argument(fcinfo, 2);
	response.dispute_id = *uuid_argument(fcinfo, 0, "dispute");
	check_evidence(response.evidence);
	return respond(&response);
}

/*
 * payment.accept_dispute(dispute, idempotency_key) -> uuid
 */
Datum
payment_accept_dispute(PG_FUNCTION_ARGS)
{
	Response response = { .operation = OPERATION_DISPUTE_ACCEPT };

	response.key = idempotency_argument(fcinfo, 1);
	response.dispute_id = *uuid_argument(fcinfo, 0, "dispute");
	return respond(&response);
}

/* ---- answered ---- */

void
dispute_response_weigh(Subject *subject, Evidence *evidence)
{
	switch (evidence->kind)
	{
		case EVIDENCE_SUCCEEDED:
			weigh_step(subject, "succeeded", evidence);
			break;
		case EVIDENCE_DECLINED:
		case EVIDENCE_FAILED:
			weigh_step(subject, "failed", evidence);
			if (evidence->effect != EVIDENCE_APPLIED)
				break;
			subject->failure_code = evidence->failure_code;
			subject->failure_message = evidence->failure_message;
			break;
		default:
			break;
	}
}

/* The PSP may have told sooner, by webhook, or have decided already. */
static void
follow(const Subject *response)
{
	Dispute			dispute;
	TransitionCause cause =
		response->path.steps[response->path.step_count - 1].cause;

	if (!dispute_read(&dispute, &response->dispute_id))
		elog(ERROR, "the dispute of an answer is missing");
	if (dispute_answer(&dispute,
					   strcmp(response->answers_by,
							  OPERATION_DISPUTE_EVIDENCE) == 0
						   ? "challenged"
						   : "accepted",
					   cause))
		dispute_write(&dispute, cause);
}

void
disputes_answered(const SubjectSet *set)
{
	for (int i = 0; i < set->count; i++)
	{
		const Subject *subject = &set->subjects[i];

		if (subject->object == OBJECT_DISPUTE_RESPONSE &&
			subject->path.step_count > 0 &&
			strcmp(subject->path.now, "succeeded") == 0)
			follow(subject);
	}
}
