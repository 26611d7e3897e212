/*-------------------------------------------------------------------------
 *
 * transition.c
 *	  The one table of legal status changes, and writing under a cause.
 *
 * Every object with a status follows this table.  The guard triggers read it,
 * so that it also binds an UPDATE written by hand.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "order/transition.h"

PG_FUNCTION_INFO_V1(payment_transitions);

typedef struct Transition
{
	TransitionObject object;
	const char		*from; /* NULL: the first status */
	const char		*to;
	int				 causes;
} Transition;

static const char *const object_names[OBJECT_COUNT] = {
	[OBJECT_PAYMENT] = "payment",
	[OBJECT_PAYMENT_ORDER] = "payment_order",
	[OBJECT_REFUND] = "refund",
	[OBJECT_PAYOUT] = "payout",
	[OBJECT_DISPUTE] = "dispute",
	[OBJECT_DISPUTE_RESPONSE] = "dispute_response",
	[OBJECT_SETTLEMENT_FILE] = "settlement_file",
	[OBJECT_EXCEPTION] = "exception",
};

static const char *const cause_names[] = {
	"api",		  "claim", "response", "lookup",   "webhook",
	"settlement", "lease", "policy",   "decision", "operator",
};

/*
 * An outcome turns unknown when the answer says nothing, when it never came,
 * and when an operator wants the PSP asked: that moves no money.
 */
#define TO_UNKNOWN \
	(CAUSE_RESPONSE | CAUSE_LOOKUP | CAUSE_LEASE | CAUSE_OPERATOR)
/* what was accepted: no lookup tells what became of it */
#define LOST (CAUSE_LOOKUP | CAUSE_OPERATOR)
/* out of doubt: by evidence or by people, never by a timer */
#define OUT_OF_UNKNOWN (CAUSE_EVIDENCE | CAUSE_DECISION)
/* nobody paid in time: our own rule, or the PSP's word */
#define EXPIRY (CAUSE_POLICY | CAUSE_EVIDENCE)
#define WITHDRAWAL (CAUSE_API | CAUSE_POLICY | CAUSE_DECISION)

/*
 * A dispute's status is written stage/status.  Within each stage the same
 * changes are legal.
 */
/* clang-format off */
#define DISPUTE_STAGE(stage) \
	{ OBJECT_DISPUTE, NULL, stage "/open", CAUSE_EVIDENCE }, \
	{ OBJECT_DISPUTE, stage "/open", stage "/challenged", CAUSE_API | CAUSE_EVIDENCE }, \
	{ OBJECT_DISPUTE, stage "/open", stage "/accepted", CAUSE_API | CAUSE_POLICY | CAUSE_EVIDENCE }, \
	{ OBJECT_DISPUTE, stage "/open", stage "/expired", EXPIRY }, \
	{ OBJECT_DISPUTE, stage "/open", stage "/withdrawn", CAUSE_EVIDENCE }, \
	{ OBJECT_DISPUTE, stage "/open", stage "/won", CAUSE_EVIDENCE }, \
	{ OBJECT_DISPUTE, stage "/open", stage "/lost", CAUSE_EVIDENCE }, \
	{ OBJECT_DISPUTE, stage "/challenged", stage "/withdrawn", CAUSE_EVIDENCE }, \
	{ OBJECT_DISPUTE, stage "/challenged", stage "/won", CAUSE_EVIDENCE }, \
	{ OBJECT_DISPUTE, stage "/challenged", stage "/lost", CAUSE_EVIDENCE }, \
	{ OBJECT_DISPUTE, stage "/accepted", stage "/withdrawn", CAUSE_EVIDENCE }, \
	{ OBJECT_DISPUTE, stage "/accepted", stage "/won", CAUSE_EVIDENCE }, \
	{ OBJECT_DISPUTE, stage "/accepted", stage "/lost", CAUSE_EVIDENCE | CAUSE_POLICY }, \
	{ OBJECT_DISPUTE, stage "/expired", stage "/withdrawn", CAUSE_EVIDENCE }, \
	{ OBJECT_DISPUTE, stage "/expired", stage "/won", CAUSE_EVIDENCE }, \
	{ OBJECT_DISPUTE, stage "/expired", stage "/lost", CAUSE_EVIDENCE | CAUSE_POLICY }, \
	/* the bank gave in after all */ \
	{ OBJECT_DISPUTE, stage "/lost", stage "/won", CAUSE_EVIDENCE }

/* ... and the payer's bank may take it to the next stage. */
#define DISPUTE_ESCALATION(stage, next) \
	{ OBJECT_DISPUTE, stage "/open", next "/open", CAUSE_EVIDENCE }, \
	{ OBJECT_DISPUTE, stage "/challenged", next "/open", CAUSE_EVIDENCE }, \
	{ OBJECT_DISPUTE, stage "/accepted", next "/open", CAUSE_EVIDENCE }, \
	{ OBJECT_DISPUTE, stage "/expired", next "/open", CAUSE_EVIDENCE }, \
	{ OBJECT_DISPUTE, stage "/withdrawn", next "/open", CAUSE_EVIDENCE }, \
	{ OBJECT_DISPUTE, stage "/won", next "/open", CAUSE_EVIDENCE }, \
	{ OBJECT_DISPUTE, stage "/lost", next "/open", CAUSE_EVIDENCE }

/* sorted by object; transition_is_legal() relies on that */
static const Transition transitions[] = {
	{ OBJECT_PAYMENT, NULL, "created", CAUSE_API },
	{ OBJECT_PAYMENT, "created", "awaiting_customer", CAUSE_API | CAUSE_CLAIM | CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT, "created", "processing", CAUSE_CLAIM | CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT, "created", "cancelled", WITHDRAWAL },
	{ OBJECT_PAYMENT, "created", "expired", EXPIRY },
	{ OBJECT_PAYMENT, "awaiting_customer", "processing", CAUSE_CLAIM | CAUSE_EVIDENCE },
	/* by the PSP's word: it has closed the page, as it was asked to */
	{ OBJECT_PAYMENT, "awaiting_customer", "cancelled", WITHDRAWAL | CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT, "awaiting_customer", "expired", EXPIRY },
	{ OBJECT_PAYMENT, "processing", "succeeded", CAUSE_EVIDENCE | CAUSE_DECISION | CAUSE_POLICY },
	{ OBJECT_PAYMENT, "processing", "partially_succeeded", CAUSE_EVIDENCE | WITHDRAWAL },
	{ OBJECT_PAYMENT, "processing", "failed", CAUSE_EVIDENCE | WITHDRAWAL },
	{ OBJECT_PAYMENT, "failed", "processing", CAUSE_API | CAUSE_CLAIM | CAUSE_EVIDENCE | CAUSE_DECISION },
	{ OBJECT_PAYMENT, "partially_succeeded", "processing", CAUSE_API | CAUSE_CLAIM | CAUSE_EVIDENCE | CAUSE_DECISION },
	/* an order of it was captured after all */
	{ OBJECT_PAYMENT, "cancelled", "processing", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT, "expired", "processing", CAUSE_EVIDENCE },

	{ OBJECT_PAYMENT_ORDER, NULL, "created", CAUSE_API },
	{ OBJECT_PAYMENT_ORDER, "created", "registering", CAUSE_CLAIM },
	{ OBJECT_PAYMENT_ORDER, "created", "executing", CAUSE_CLAIM },
	{ OBJECT_PAYMENT_ORDER, "created", "cancelled", WITHDRAWAL },
	{ OBJECT_PAYMENT_ORDER, "created", "expired", EXPIRY },
	/* there is no page at which it could be paid */
	{ OBJECT_PAYMENT_ORDER, "created", "failed", OUT_OF_UNKNOWN },
	{ OBJECT_PAYMENT_ORDER, "registering", "requires_action", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "registering", "failed", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "registering", "unknown", TO_UNKNOWN },
	{ OBJECT_PAYMENT_ORDER, "requires_action", "executing", CAUSE_CLAIM | CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "requires_action", "cancelled", WITHDRAWAL | CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "requires_action", "expired", EXPIRY },
	{ OBJECT_PAYMENT_ORDER, "executing", "authorized", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "executing", "captured", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "executing", "pending", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "executing", "declined", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "executing", "failed", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "executing", "unknown", TO_UNKNOWN },
	{ OBJECT_PAYMENT_ORDER, "executing", "conflicted", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "pending", "authorized", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "pending", "captured", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "pending", "declined", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "pending", "failed", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "pending", "unknown", LOST },
	{ OBJECT_PAYMENT_ORDER, "pending", "conflicted", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "authorized", "capturing", CAUSE_API | CAUSE_CLAIM | CAUSE_POLICY },
	{ OBJECT_PAYMENT_ORDER, "authorized", "voiding", CAUSE_API | CAUSE_CLAIM | CAUSE_POLICY },
	{ OBJECT_PAYMENT_ORDER, "authorized", "expired", EXPIRY },
	/* by hand, at the PSP */
	{ OBJECT_PAYMENT_ORDER, "authorized", "captured", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "authorized", "partially_captured", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "authorized", "voided", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "partially_captured", "capturing", CAUSE_API | CAUSE_CLAIM | CAUSE_POLICY },
	{ OBJECT_PAYMENT_ORDER, "partially_captured", "voiding", CAUSE_API | CAUSE_CLAIM | CAUSE_POLICY },
	/* nothing more will be captured: the rest was, or it is free again */
	{ OBJECT_PAYMENT_ORDER, "partially_captured", "captured", CAUSE_EVIDENCE | CAUSE_POLICY },
	{ OBJECT_PAYMENT_ORDER, "capturing", "captured", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "capturing", "partially_captured", CAUSE_EVIDENCE },
	/* refused: what was authorised still is, or is not any more */
	{ OBJECT_PAYMENT_ORDER, "capturing", "authorized", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "capturing", "voided", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "capturing", "expired", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "capturing", "unknown", TO_UNKNOWN },
	{ OBJECT_PAYMENT_ORDER, "capturing", "conflicted", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "voiding", "voided", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "voiding", "expired", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "voiding", "authorized", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "voiding", "partially_captured", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "voiding", "captured", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "voiding", "conflicted", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "voiding", "unknown", TO_UNKNOWN },
	/* the PSP has never seen it: send again, under the same key */
	{ OBJECT_PAYMENT_ORDER, "unknown", "executing", CAUSE_LOOKUP },
	{ OBJECT_PAYMENT_ORDER, "unknown", "registering", CAUSE_LOOKUP },
	{ OBJECT_PAYMENT_ORDER, "unknown", "capturing", CAUSE_LOOKUP },
	{ OBJECT_PAYMENT_ORDER, "unknown", "voiding", CAUSE_LOOKUP },
	{ OBJECT_PAYMENT_ORDER, "unknown", "requires_action", OUT_OF_UNKNOWN },
	{ OBJECT_PAYMENT_ORDER, "unknown", "authorized", OUT_OF_UNKNOWN },
	{ OBJECT_PAYMENT_ORDER, "unknown", "captured", OUT_OF_UNKNOWN },
	{ OBJECT_PAYMENT_ORDER, "unknown", "partially_captured", OUT_OF_UNKNOWN },
	{ OBJECT_PAYMENT_ORDER, "unknown", "pending", OUT_OF_UNKNOWN },
	{ OBJECT_PAYMENT_ORDER, "unknown", "declined", OUT_OF_UNKNOWN },
	{ OBJECT_PAYMENT_ORDER, "unknown", "failed", OUT_OF_UNKNOWN },
	{ OBJECT_PAYMENT_ORDER, "unknown", "voided", OUT_OF_UNKNOWN },
	{ OBJECT_PAYMENT_ORDER, "unknown", "expired", OUT_OF_UNKNOWN },
	{ OBJECT_PAYMENT_ORDER, "unknown", "conflicted", OUT_OF_UNKNOWN },
	{ OBJECT_PAYMENT_ORDER, "declined", "executing", CAUSE_API | CAUSE_CLAIM },
	{ OBJECT_PAYMENT_ORDER, "declined", "failed", WITHDRAWAL | CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "conflicted", "captured", CAUSE_DECISION },
	{ OBJECT_PAYMENT_ORDER, "conflicted", "failed", CAUSE_DECISION },
	/* late success: money that came although we had given up */
	{ OBJECT_PAYMENT_ORDER, "declined", "captured", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "failed", "captured", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "expired", "captured", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "cancelled", "captured", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "voided", "captured", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "declined", "conflicted", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "failed", "conflicted", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "expired", "conflicted", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "cancelled", "conflicted", CAUSE_EVIDENCE },
	{ OBJECT_PAYMENT_ORDER, "captured", "reversed", CAUSE_EVIDENCE | CAUSE_DECISION },

	{ OBJECT_REFUND, NULL, "created", CAUSE_API },
	{ OBJECT_REFUND, "created", "submitting", CAUSE_CLAIM },
	{ OBJECT_REFUND, "created", "cancelled", WITHDRAWAL },
	{ OBJECT_REFUND, "submitting", "pending", CAUSE_EVIDENCE },
	{ OBJECT_REFUND, "submitting", "succeeded", CAUSE_EVIDENCE },
	{ OBJECT_REFUND, "submitting", "failed", CAUSE_EVIDENCE },
	{ OBJECT_REFUND, "submitting", "unknown", TO_UNKNOWN },
	{ OBJECT_REFUND, "unknown", "submitting", CAUSE_LOOKUP },
	{ OBJECT_REFUND, "unknown", "pending", OUT_OF_UNKNOWN },
	{ OBJECT_REFUND, "unknown", "succeeded", OUT_OF_UNKNOWN },
	{ OBJECT_REFUND, "unknown", "failed", OUT_OF_UNKNOWN },
	{ OBJECT_REFUND, "pending", "requires_action", CAUSE_EVIDENCE },
	{ OBJECT_REFUND, "pending", "succeeded", CAUSE_EVIDENCE },
	{ OBJECT_REFUND, "pending", "failed", CAUSE_EVIDENCE },
	{ OBJECT_REFUND, "pending", "cancelled", CAUSE_EVIDENCE },
	{ OBJECT_REFUND, "pending", "unknown", LOST | CAUSE_EVIDENCE },
	{ OBJECT_REFUND, "requires_action", "pending", CAUSE_EVIDENCE },
	{ OBJECT_REFUND, "requires_action", "unknown", LOST | CAUSE_EVIDENCE },
	{ OBJECT_REFUND, "succeeded", "failed", CAUSE_EVIDENCE },
	/* late success: two people keep what went out all the same */
	{ OBJECT_REFUND, "failed", "succeeded", CAUSE_DECISION },
	{ OBJECT_REFUND, "cancelled", "succeeded", CAUSE_DECISION },

	{ OBJECT_PAYOUT, NULL, "created", CAUSE_API },
	{ OBJECT_PAYOUT, "created", "pending_approval", CAUSE_API | CAUSE_POLICY },
	{ OBJECT_PAYOUT, "created", "cancelled", WITHDRAWAL },
	{ OBJECT_PAYOUT, "pending_approval", "approved", CAUSE_POLICY | CAUSE_DECISION },
	{ OBJECT_PAYOUT, "pending_approval", "rejected", CAUSE_POLICY | CAUSE_DECISION },
	{ OBJECT_PAYOUT, "pending_approval", "cancelled", WITHDRAWAL },
	/* bank details changed in between: approval again */
	{ OBJECT_PAYOUT, "approved", "pending_approval", CAUSE_POLICY },
	{ OBJECT_PAYOUT, "approved", "scheduled", CAUSE_POLICY | CAUSE_DECISION },
	{ OBJECT_PAYOUT, "approved", "cancelled", WITHDRAWAL },
	{ OBJECT_PAYOUT, "scheduled", "pending_approval", CAUSE_POLICY },
	{ OBJECT_PAYOUT, "scheduled", "submitting", CAUSE_CLAIM },
	{ OBJECT_PAYOUT, "scheduled", "cancelled", WITHDRAWAL },
	{ OBJECT_PAYOUT, "submitting", "in_transit", CAUSE_EVIDENCE },
	{ OBJECT_PAYOUT, "submitting", "failed", CAUSE_EVIDENCE },
	/* any evidence may contradict a payout, which has no conflicted */
	{ OBJECT_PAYOUT, "submitting", "unknown", TO_UNKNOWN | CAUSE_EVIDENCE },
	{ OBJECT_PAYOUT, "unknown", "submitting", CAUSE_LOOKUP },
	{ OBJECT_PAYOUT, "unknown", "in_transit", OUT_OF_UNKNOWN },
	{ OBJECT_PAYOUT, "unknown", "failed", OUT_OF_UNKNOWN },
	{ OBJECT_PAYOUT, "in_transit", "paid", OUT_OF_UNKNOWN },
	{ OBJECT_PAYOUT, "in_transit", "failed", CAUSE_EVIDENCE },
	{ OBJECT_PAYOUT, "in_transit", "returned", CAUSE_EVIDENCE },
	{ OBJECT_PAYOUT, "in_transit", "unknown", LOST | CAUSE_EVIDENCE },
	{ OBJECT_PAYOUT, "paid", "returned", CAUSE_EVIDENCE | CAUSE_DECISION },

	DISPUTE_STAGE("inquiry"),
	DISPUTE_ESCALATION("inquiry", "chargeback"),
	DISPUTE_STAGE("chargeback"),
	DISPUTE_ESCALATION("chargeback", "pre_arbitration"),
	DISPUTE_STAGE("pre_arbitration"),
	DISPUTE_ESCALATION("pre_arbitration", "arbitration"),
	DISPUTE_STAGE("arbitration"),
	/* there is no further stage to take it to */
	{ OBJECT_DISPUTE, "arbitration/won", "arbitration/lost", CAUSE_EVIDENCE },

	{ OBJECT_DISPUTE_RESPONSE, NULL, "created", CAUSE_API },
	{ OBJECT_DISPUTE_RESPONSE, "created", "submitting", CAUSE_CLAIM },
	{ OBJECT_DISPUTE_RESPONSE, "submitting", "succeeded", CAUSE_EVIDENCE },
	{ OBJECT_DISPUTE_RESPONSE, "submitting", "failed", CAUSE_EVIDENCE },
	{ OBJECT_DISPUTE_RESPONSE, "submitting", "unknown", TO_UNKNOWN },
	{ OBJECT_DISPUTE_RESPONSE, "unknown", "submitting", CAUSE_LOOKUP },
	{ OBJECT_DISPUTE_RESPONSE, "unknown", "succeeded", OUT_OF_UNKNOWN },
	{ OBJECT_DISPUTE_RESPONSE, "unknown", "failed", OUT_OF_UNKNOWN },

	{ OBJECT_SETTLEMENT_FILE, NULL, "received", CAUSE_API | CAUSE_SETTLEMENT },
	{ OBJECT_SETTLEMENT_FILE, "received", "parsed", CAUSE_API | CAUSE_SETTLEMENT },
	{ OBJECT_SETTLEMENT_FILE, "received", "rejected", CAUSE_API | CAUSE_SETTLEMENT | CAUSE_DECISION },
	{ OBJECT_SETTLEMENT_FILE, "received", "superseded", CAUSE_API | CAUSE_SETTLEMENT | CAUSE_DECISION },
	{ OBJECT_SETTLEMENT_FILE, "parsed", "matched", CAUSE_API | CAUSE_SETTLEMENT },
	{ OBJECT_SETTLEMENT_FILE, "parsed", "partially_matched", CAUSE_API | CAUSE_SETTLEMENT },
	{ OBJECT_SETTLEMENT_FILE, "parsed", "unmatched", CAUSE_API | CAUSE_SETTLEMENT },
	{ OBJECT_SETTLEMENT_FILE, "parsed", "rejected", CAUSE_API | CAUSE_SETTLEMENT | CAUSE_DECISION },
	{ OBJECT_SETTLEMENT_FILE, "parsed", "superseded", CAUSE_API | CAUSE_SETTLEMENT | CAUSE_DECISION },
	/* its exceptions were worked off */
	{ OBJECT_SETTLEMENT_FILE, "unmatched", "partially_matched", CAUSE_API | CAUSE_SETTLEMENT | CAUSE_DECISION },
	{ OBJECT_SETTLEMENT_FILE, "unmatched", "matched", CAUSE_API | CAUSE_SETTLEMENT | CAUSE_DECISION },
	{ OBJECT_SETTLEMENT_FILE, "unmatched", "superseded", CAUSE_API | CAUSE_SETTLEMENT | CAUSE_DECISION },
	{ OBJECT_SETTLEMENT_FILE, "partially_matched", "matched", CAUSE_API | CAUSE_SETTLEMENT | CAUSE_DECISION },
	{ OBJECT_SETTLEMENT_FILE, "partially_matched", "superseded", CAUSE_API | CAUSE_SETTLEMENT | CAUSE_DECISION },
	{ OBJECT_SETTLEMENT_FILE, "matched", "awaiting_funds", CAUSE_API | CAUSE_SETTLEMENT | CAUSE_POLICY },
	{ OBJECT_SETTLEMENT_FILE, "matched", "superseded", CAUSE_API | CAUSE_SETTLEMENT | CAUSE_DECISION },
	{ OBJECT_SETTLEMENT_FILE, "awaiting_funds", "reconciled", CAUSE_API | CAUSE_SETTLEMENT | CAUSE_DECISION },
	{ OBJECT_SETTLEMENT_FILE, "awaiting_funds", "underfunded", CAUSE_API | CAUSE_SETTLEMENT },
	{ OBJECT_SETTLEMENT_FILE, "awaiting_funds", "superseded", CAUSE_API | CAUSE_SETTLEMENT | CAUSE_DECISION },
	/* the rest of the money came, or people accept the loss */
	{ OBJECT_SETTLEMENT_FILE, "underfunded", "reconciled", CAUSE_SETTLEMENT | CAUSE_DECISION },
	{ OBJECT_SETTLEMENT_FILE, "underfunded", "superseded", CAUSE_API | CAUSE_SETTLEMENT | CAUSE_DECISION },

	{ OBJECT_EXCEPTION, NULL, "open", CAUSE_EVIDENCE | CAUSE_API | CAUSE_POLICY },
	{ OBJECT_EXCEPTION, "open", "in_review", CAUSE_API | CAUSE_DECISION },
	{ OBJECT_EXCEPTION, "open", "auto_resolved", CAUSE_EVIDENCE | CAUSE_POLICY },
	{ OBJECT_EXCEPTION, "in_review", "proposed", CAUSE_API | CAUSE_DECISION },
	/* ... or the PSP says something new */
	{ OBJECT_EXCEPTION, "proposed", "in_review", CAUSE_DECISION | CAUSE_EVIDENCE },
	{ OBJECT_EXCEPTION, "proposed", "approved", CAUSE_DECISION },
	{ OBJECT_EXCEPTION, "approved", "resolved", CAUSE_DECISION | CAUSE_POLICY },
	{ OBJECT_EXCEPTION, "approved", "written_off", CAUSE_DECISION | CAUSE_POLICY },
	{ OBJECT_EXCEPTION, "resolved", "reopened", CAUSE_EVIDENCE | CAUSE_DECISION },
	{ OBJECT_EXCEPTION, "written_off", "reopened", CAUSE_EVIDENCE | CAUSE_DECISION },
	{ OBJECT_EXCEPTION, "auto_resolved", "reopened", CAUSE_EVIDENCE | CAUSE_DECISION },
	{ OBJECT_EXCEPTION, "reopened", "in_review", CAUSE_API | CAUSE_DECISION },
	{ OBJECT_EXCEPTION, "reopened", "auto_resolved", CAUSE_EVIDENCE | CAUSE_POLICY },
};
/* clang-format on */

/* 0 outside order_write; causes are bits, so none of them is 0 */
static int write_cause = 0;

static bool
same_status(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return strcmp(a, b) == 0;
}

bool
transition_is_legal(TransitionObject object, const char *from, const char *to,
					TransitionCause cause)
{
	for (int i = 0; i < (int) lengthof(transitions); i++)
	{
		const Transition *t = &transitions[i];

		if (t->object < object)
			continue;
		if (t->object > object)
			break;
		if ((t->causes & cause) != 0 && same_status(t->from, from) &&
			same_status(t->to, to))
			return true;
	}
	return false;
}

const char *
transition_object_name(TransitionObject object)
{
	Assert(object >= 0 && object < OBJECT_COUNT);
	return object_names[object];
}

const char *
transition_cause_name(TransitionCause cause)
{
	for (int i = 0; i < (int) lengthof(cause_names); i++)
	{
		if (cause == (TransitionCause) (1 << i))
			return cause_names[i];
	}
	elog(ERROR, "unrecognized cause %d", (int) cause);
}

/*
 * PG_FINALLY, not a transaction callback: an error may be caught inside the
 * transaction by PL/pgSQL, and what runs then is by hand again.
 */
uint64
order_write_at(SPIPlanPtr plan, Datum *values, const char *nulls,
			   Snapshot snapshot, TransitionCause cause)
{
	int			 saved_cause = write_cause;
	volatile int code = 0;

	Assert(cause != 0);
	PG_TRY();
	{
		write_cause = cause;
		code = SPI_execute_snapshot(plan, values, nulls, snapshot,
									InvalidSnapshot, false, true, 0);
	}
	PG_FINALLY();
	{
		write_cause = saved_cause;
	}
	PG_END_TRY();

	if (code < 0)
		elog(ERROR, "SPI_execute_snapshot failed: %s",
			 SPI_result_code_string(code));
	return SPI_processed;
}

uint64
order_write(SPIPlanPtr plan, Datum *values, const char *nulls,
			TransitionCause cause)
{
	return order_write_at(plan, values, nulls, InvalidSnapshot, cause);
}

TransitionCause
order_write_cause(void)
{
	return write_cause != 0 ? (TransitionCause) write_cause : CAUSE_OPERATOR;
}

bool
order_write_active(void)
{
	return write_cause != 0;
}

static Datum
causes_array(int causes)
{
	Datum names[lengthof(cause_names)];
	int	  count = 0;

	for (int i = 0; i < (int) lengthof(cause_names); i++)
	{
		if ((causes & (1 << i)) != 0)
			names[count++] = CStringGetTextDatum(cause_names[i]);
	}
	return PointerGetDatum(
		construct_array(names, count, TEXTOID, -1, false, TYPALIGN_INT));
}

/*
 * payment.transitions() -> table(object, from_status, to_status, causes)
 */
Datum
payment_transitions(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < (int) lengthof(transitions); i++)
	{
		const Transition *t = &transitions[i];
		Datum			  values[4];
		bool			  nulls[4] = { false };

		values[0] = CStringGetTextDatum(object_names[t->object]);
		nulls[1] = t->from == NULL;
		values[1] = nulls[1] ? (Datum) 0 : CStringGetTextDatum(t->from);
		values[2] = CStringGetTextDatum(t->to);
		values[3] = causes_array(t->causes);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values,
							 nulls);
	}
	return (Datum) 0;
}
