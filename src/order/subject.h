/*-------------------------------------------------------------------------
 *
 * subject.h
 *	  The orders, payouts and payments that a batch of evidence is about:
 *	  locked, read, changed in memory, and written back together.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_SUBJECT_H
#define PAYMENT_SUBJECT_H

#include "datatype/timestamp.h"
#include "order/operation.h"
#include "utils/uuid.h"

/* No machine has a longer way of evidence only; none of them has a cycle. */
#define STATUS_PATH_MAX 8

/* A status, and the statuses it goes through in this transaction. */
typedef struct StatusPath
{
	const char *first; /* as read */
	const char *now;
	struct
	{
		const char	   *to;
		TransitionCause cause;
	} steps[STATUS_PATH_MAX];
	int step_count;
} StatusPath;

typedef struct PaymentState
{
	pg_uuid_t		id;
	StatusPath		path;
	int32			order_count;
	int32			succeeded_count;
	int32			failed_count;
	bool			all_or_nothing;
	bool			counted; /* the counts differ from the table's */
	bool			refund_failed;
	bool			recovers;	/* what had failed was captured after all */
	bool			undo_later; /* partial_failure.c */
	bool			expires;	/* for an order of it has expired */
	bool			cancels;	/* ... was cancelled */
	bool			hosted;		/* what it is paid with is chosen at a page */
	const char	   *token;		/* that it is paid with from now on; or NULL */
	TransitionCause cause;		/* of the last change of an order */
} PaymentState;

/* What is known of how the PSP settles it: see exchange.h */
typedef struct SettledMoney
{
	const char *currency;		 /* NULL: nothing is known */
	int64		captured_amount; /* of an order: what the rest is about */
	int64		amount;			 /* before the fee */
	bool		has_psp_fee;
	int64		psp_fee;
	const char *exchange_rate;
	bool		is_exchanged; /* of a refund */
	int64		exchanged_amount;
	int64		exchanged_for;
	int64		new_fee; /* told in this batch */
	bool		claimed; /* no settlement line has told, nor can now */
	bool		changed;
} SettledMoney;

typedef struct Subject
{
	TransitionObject object;
	pg_uuid_t		 id;
	pg_uuid_t		 payment_id; /* orders only */
	pg_uuid_t		 seller_id;
	pg_uuid_t		 psp_id;
	int64			 amount;
	const char		*currency;
	int64			 platform_fee;	  /* orders only */
	int64			 captured_amount; /* orders only */
	int64			 captured_before; /* as read */
	TimestampTz		 captured_at;	  /* orders only */

	/* of an order that is authorised before it is captured */
	int64		authorized_amount; /* 0: it is not */
	TimestampTz authorized_until;
	const char *authorization_reference;
	const char *capture_reference;
	int32		capture_no;
	int32		operation_no;	  /* of the last capture or void */
	int64		capturing_amount; /* 0: no capture is under way */
	bool		capture_final;

	/* of an order: the seller's part of it that is pending, and refunds */
	int64 pending_amount;
	int64 captured_fee; /* the platform's part */
	bool  released;
	bool  books_changed; /* what refunds and disputes change of it */
	bool  refund_failed; /* a refund of it came to nothing */

	/* ... and disputes: what they have taken, refunds left out */
	int64 disputed_amount;
	int64 disputed_fee;
	int32 open_disputes; /* inquiries left out */

	/* of a refund: its order, and where its money comes from */
	pg_uuid_t order_id;
	int64	  fee_share;
	int64	  from_pending;
	int64	  from_available;
	int64	  from_receivable;
	int64	  refunded_amount;
	int64	  fee_returned;

	/* of an answer to a dispute */
	pg_uuid_t	dispute_id;
	const char *answers_by; /* its operation */

	int32		attempt_no;
	const char *psp_reference;
	const char *failure_code;
	const char *failure_message;
	const char *payment_method; /* of an order: or NULL, the payment's */
	bool		routed;			/* of an order: it may go to another PSP */
	bool		moved;			/* of an order: it is tried anew (move.h) */

	/* of an order whose payer is at a page of the PSP's */
	bool	   hosted; /* nothing is known to pay it with otherwise */
	bool	   cancel_requested; /* while the page was open */
	bool	   is_charged;		 /* from now on: the page is done */
	bool	   page_over;
	StatusPath path;

	SettledMoney settled; /* of an order or refund */
} Subject;

/* What to lock: the object and the operation whose task belongs to it. */
typedef struct SubjectKey
{
	TransitionObject object;
	pg_uuid_t		 id;
	const char		*operation;
} SubjectKey;

typedef struct SubjectSet
{
	Subject		 *subjects; /* by id */
	int			  count;
	PaymentState *payments; /* by id */
	int			  payment_count;
} SubjectSet;

/*
 * All need an SPI connection from batch_begin().  subjects_lock() takes the
 * locks of tasks, payments, orders, refunds and payouts, in this order; with a
 * refund comes its order.
 */
extern void subjects_lock(SubjectSet *set, const SubjectKey *keys, int count);
extern Subject		*subject_find(const SubjectSet *set, const pg_uuid_t *id);
extern PaymentState *payment_find(const SubjectSet *set, const pg_uuid_t *id);
/* what was begun last with it: while it is unknown, that is in doubt */
extern const char *subject_operation(const Subject *subject);
/* the next status, if that is legal */
extern bool subject_step(Subject *subject, const char *to,
						 TransitionCause cause);
extern bool status_path_step(StatusPath *path, TransitionObject object,
							 const char *to, TransitionCause cause);
extern void subjects_write(SubjectSet *set);

/* the operation of each key is done with: its task goes */
extern void subjects_end_tasks(const SubjectKey *keys, int count);
/* ... or needs people: its task goes to the dead letters */
extern void subjects_bury_tasks(const SubjectKey  *keys,
								const char *const *reasons, int count);

/*
 * What people had to go on with tells of itself again: its PSP is asked again.
 */
extern void subjects_revive_tasks(Datum object_ids);

#endif /* PAYMENT_SUBJECT_H */
