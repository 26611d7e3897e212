/*-------------------------------------------------------------------------
 *
 * retry.c
 *	  A declined order is tried again, because the application says so.
 *
 * Only what was declined for sure can be: a decline is the one status in which
 * neither the money may have moved nor the order is given up for good.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"

#include "errcodes.h"
#include "order/evidence.h"
#include "order/hosted.h"
#include "order/idempotency.h"
#include "order/move.h"
#include "order/plan.h"
#include "order/route.h"
#include "order/typed_argument.h"
#include "payment.h"
#include "text_guard.h"

PG_FUNCTION_INFO_V1(payment_retry_order);

typedef struct Retry
{
	pg_uuid_t	order_id;
	const char *key;
	const char *psp;			/* or NULL: the present one */
	const char *payment_method; /* or NULL: as is known */

	/* where it goes */
	pg_uuid_t	psp_id;
	const char *token; /* or NULL: the payment's */
} Retry;

static const EventPlace here = { 0, 0 };

/* why what is in this status cannot be tried again, and what can be done */
static const struct
{
	const char *status;
	const char *hint;
} refusals[] = {
	{ "unknown",
	  "The PSP may have executed it: another try, there or elsewhere, could "
	  "charge the payer twice. It is being looked up; what no lookup can "
	  "tell, payment.resolve_unknown() decides." },
	{ "pending", "The PSP has accepted it and has yet to decide: another try "
				 "could charge the payer twice." },
	{ "executing", "It is under way: wait for its result." },
	{ "created", "It has not been sent yet: wait for its result." },
	{ "conflicted",
	  "The PSP's answer contradicts the order: people look into it." },
	{ "captured", "It has been paid." },
	{ "failed", "It will never be executed: make a new payment." },
};

static void
check_status(const Subject *subject)
{
	const char *hint = "Only a declined order can be tried again.";

	if (strcmp(subject->path.now, "declined") == 0)
		return;
	for (int i = 0; i < (int) lengthof(refusals); i++)
	{
		if (strcmp(subject->path.now, refusals[i].status) == 0)
			hint = refusals[i].hint;
	}
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_WRONG_STATE),
					errmsg("payment order cannot be tried again"),
					errdetail("Order %s is %s.", uuid_text(&subject->id),
							  subject->path.now),
					errhint("%s", hint)));
}

/* what the others are being undone for cannot be tried again */
static void
check_policy(const SubjectSet *set)
{
	if (set->payments[0].all_or_nothing && set->payments[0].order_count > 1)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_WRONG_STATE),
				 errmsg("the payment is all or nothing"),
				 errdetail("One of its orders has come to nothing: the others "
						   "are undone."),
				 errhint("Make a new payment.")));
}

static void
check_facts(const Subject *subject, bool may_be_charged, bool suspended)
{
	if (may_be_charged)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_WRONG_STATE),
				 errmsg("payment order may have been charged already"),
				 errdetail("Order %s has an open exception.",
						   uuid_text(&subject->id)),
				 errhint("See payment.exception: people have to look into it "
						 "first.")));
	if (suspended)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_WRONG_STATE),
						errmsg("the seller is suspended"),
						errdetail("A suspended seller neither sells nor is "
								  "paid."),
						errhint("Have the seller's state looked into.")));
	if (subject->attempt_no >= payment_max_attempts_per_order)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_LIMIT_EXCEEDED),
						errmsg("payment order was tried too often"),
						errdetail("Order %s has had %d attempts, the limit is "
								  "%d.",
								  uuid_text(&subject->id), subject->attempt_no,
								  payment_max_attempts_per_order),
						errhint("Make a new payment with another payment "
								"method.")));
}

/* The payer waits for an answer: what is not sent now is no try. */
static void
check_active(const Psp *psp)
{
	if (!psp->active)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_UNKNOWN_PSP),
						errmsg("the PSP \"%s\" is paused", psp->name),
						errdetail("Nothing is sent to it."),
						errhint("Name another PSP, or have it resumed by "
								"payment.register_psp().")));
}

/* The token of the PSP it goes to; no other one is worth anything there. */
static void
choose_token(Retry *retry, const Subject *subject, const char *known)
{
	bool stays = uuid_compare(&retry->psp_id, &subject->psp_id) == 0;

	retry->token = retry->payment_method;
	if (retry->token == NULL && stays && subject->hosted)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
				 errmsg("\"payment_method\" is missing"),
				 errdetail("The payer paid at a page of the PSP's, which kept "
						   "no payment method for later."),
				 errhint("Pass what the PSP calls another payment method, or "
						 "make a new payment with a page of its own.")));
	if (retry->token || (stays && subject->payment_method == NULL))
		return;
	retry->token = stays ? subject->payment_method : known;
	if (retry->token == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
				 errmsg("\"payment_method\" is missing"),
				 errdetail("The payment has none for the PSP \"%s\".",
						   retry->psp),
				 errhint("Pass what that PSP calls the payment method.")));
}

#define FACTS_QUERY                                                           \
	"SELECT " MAY_BE_CHARGED(                                                 \
		"o.id") ", s.state <> 'active',"                                      \
				" coalesce(p.payment_methods ->> $2, CASE WHEN p.psp_id = $3" \
				" AND p.payment_method <> '" HOSTED_PAYMENT_METHOD "'"        \
				" THEN p.payment_method END) FROM payment.order_record AS o"  \
				" JOIN payment.payment_record AS p ON p.id = o.payment_id"    \
				" JOIN payment.seller AS s ON s.id = o.seller_id WHERE o.id " \
				"= $1"

static void
plan_retry(Retry *retry, const Subject *subject)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID, TEXTOID, UUIDOID };
	Datum			  values[3];
	PspList			  psps;
	const Psp		 *psp;

	psp_read_all(&psps);
	psp = retry->psp ? psp_by_name(&psps, retry->psp)
					 : psp_by_id(&psps, &subject->psp_id);
	if (psp == NULL)
		psp_refuse_unknown(&here, "psp");
	check_active(psp);
	retry->psp_id = psp->id;
	values[0] = UUIDPGetDatum(&subject->id);
	values[1] = CStringGetTextDatum(psp->name);
	values[2] = UUIDPGetDatum(&psp->id);
	if (batch_run(plan_keep(&plan, FACTS_QUERY, lengthof(types), types),
				  values, NULL) != 1)
		elog(ERROR, "a payment order vanished");
	check_facts(subject, row_bool(0, 1), row_bool(0, 2));
	choose_token(retry, subject, row_text(0, 3));
}

/* false: the key did its work before, and *attempt_no is what it answered */
static bool
take_key(const Retry *retry, int32 *attempt_no)
{
	Fingerprint fingerprint;
	uint8		digest[FINGERPRINT_SIZE];
	pg_uuid_t	answer[] = { retry->order_id, number_as_id(*attempt_no) };
	bool		is_new;

	fingerprint_begin(&fingerprint);
	fingerprint_text(&fingerprint, uuid_text(&retry->order_id));
	fingerprint_text(&fingerprint, retry->psp);
	fingerprint_text(&fingerprint, retry->payment_method);
	fingerprint_end(&fingerprint, digest);
	is_new = idempotency_take(retry->key, "retry_order", digest, answer,
							  lengthof(answer));
	*attempt_no = id_as_number(&answer[1]);
	return is_new;
}

static void
read_retry(FunctionCallInfo fcinfo, Retry *retry)
{
	char *key = text_argument(fcinfo, 1, "idempotency_key");

	retry->psp = text_argument(fcinfo, 2, "psp");
	retry->payment_method = text_argument(fcinfo, 3, "payment_method");
	retry->order_id = *uuid_argument(fcinfo, 0, "payment_order");
	event_check_text(&here, "idempotency_key", key);
	check_idempotency_key(key, strlen(key));
	retry->key = key;
	event_check_optional(&here, "psp", retry->psp);
	event_check_optional(&here, "payment_method", retry->payment_method);
}

/*
 * The order's row is locked before the key is taken: of two calls the second
 * finds what the first has made.
 */
static int32
retry_locked(Retry *retry, SubjectSet *set)
{
	Subject *subject = subject_find(set, &retry->order_id);
	int32	 attempt_no;

	if (subject == NULL)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_UNKNOWN_OBJECT),
						errmsg("\"payment_order\" is no payment order"),
						errdetail("There is none with that id."),
						errhint("Pass an id that checkout() or submit() "
								"returned.")));
	attempt_no = subject->attempt_no + 1;
	if (!take_key(retry, &attempt_no))
		return attempt_no;
	check_status(subject);
	check_policy(set);
	plan_retry(retry, subject);
	if (!subject_step(subject, "executing", CAUSE_API))
		elog(ERROR, "a declined order cannot be tried again");
	/* whoever chooses where, or with what, chooses for good */
	subject_move(subject, &retry->psp_id, retry->token,
				 subject->routed && retry->psp == NULL &&
					 retry->payment_method == NULL);
	subjects_write(set);
	return attempt_no;
}

/*
 * payment.retry_order(payment_order, idempotency_key, psp, payment_method)
 * -> integer: the number of the attempt
 */
Datum
payment_retry_order(PG_FUNCTION_ARGS)
{
	Retry	   retry = { 0 };
	SubjectKey key = { .object = OBJECT_PAYMENT_ORDER,
					   .operation = OPERATION_PAY };
	SubjectSet set;
	int32	   attempt_no;
	int		   nest_level;

	read_retry(fcinfo, &retry);
	key.id = retry.order_id;
	nest_level = batch_begin();
	subjects_lock(&set, &key, 1);
	attempt_no = retry_locked(&retry, &set);
	batch_end(nest_level);
	PG_RETURN_INT32(attempt_no);
}
