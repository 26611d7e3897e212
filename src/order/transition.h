/*-------------------------------------------------------------------------
 *
 * transition.h
 *	  The state machines: which status may follow which, and by what cause.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_TRANSITION_H
#define PAYMENT_TRANSITION_H

#include "executor/spi.h"

typedef enum TransitionObject
{
	OBJECT_PAYMENT,
	OBJECT_PAYMENT_ORDER,
	OBJECT_REFUND,
	OBJECT_PAYOUT,
	OBJECT_DISPUTE,
	OBJECT_DISPUTE_RESPONSE,
	OBJECT_SETTLEMENT_FILE,
	OBJECT_EXCEPTION,
	OBJECT_COUNT
} TransitionObject;

/* Bits, so that one row of the table can name several. */
typedef enum TransitionCause
{
	CAUSE_API = 1 << 0,		   /* the application asked */
	CAUSE_CLAIM = 1 << 1,	   /* the dispatcher took the task */
	CAUSE_RESPONSE = 1 << 2,   /* evidence: the PSP's answer to our request */
	CAUSE_LOOKUP = 1 << 3,	   /* evidence: what the PSP says when asked */
	CAUSE_WEBHOOK = 1 << 4,	   /* evidence: what the PSP told unasked */
	CAUSE_SETTLEMENT = 1 << 5, /* evidence: a line of a settlement file */
	CAUSE_LEASE = 1 << 6,	   /* a claim's lease ran out unanswered */
	CAUSE_POLICY = 1 << 7,	   /* a rule of configuration */
	CAUSE_DECISION = 1 << 8,   /* people, with approval */
	CAUSE_OPERATOR = 1 << 9	   /* an UPDATE written by hand */
} TransitionCause;

#define CAUSE_EVIDENCE \
	(CAUSE_RESPONSE | CAUSE_LOOKUP | CAUSE_WEBHOOK | CAUSE_SETTLEMENT)

/* from NULL: the status an object begins with */
extern bool transition_is_legal(TransitionObject object, const char *from,
								const char *to, TransitionCause cause);

/* names as status_history and payment.transitions() show them */
extern const char *transition_object_name(TransitionObject object);
extern const char *transition_cause_name(TransitionCause cause);

/*
 * Run a prepared INSERT or UPDATE on a guarded table (payment_record,
 * order_record, payout_record, status_history, attempt, psp_reference,
 * idempotency) as the extension itself, for the given cause.  The guard
 * triggers let writes through only while this runs; anything else is an
 * UPDATE by hand and gets CAUSE_OPERATOR.  Returns SPI_processed; with a
 * RETURNING clause SPI_tuptable holds the rows.  Each changed status is
 * checked and recorded in status_history by the triggers.
 */
extern uint64 order_write(SPIPlanPtr plan, Datum *values, const char *nulls,
						  TransitionCause cause);

/* the same by a given snapshot; InvalidSnapshot: a new one */
extern uint64 order_write_at(SPIPlanPtr plan, Datum *values, const char *nulls,
							 Snapshot snapshot, TransitionCause cause);

/* the cause of the write in progress, CAUSE_OPERATOR outside order_write */
extern TransitionCause order_write_cause(void);
extern bool			   order_write_active(void);

#endif /* PAYMENT_TRANSITION_H */
