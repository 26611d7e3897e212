/*-------------------------------------------------------------------------
 *
 * claim.h
 *	  What a claim is made of: shared by the files that read, decide and write.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_CLAIM_H
#define PAYMENT_CLAIM_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

#include "order/lane.h"
#include "order/operation.h"
#include "psp/psp.h"

typedef enum ClaimFate
{
	FATE_CLAIM,	 /* goes to the dispatcher */
	FATE_REMOVE, /* nothing is left to do */
	FATE_BURY	 /* only people can go on with it */
} ClaimFate;

/* a task and the object it is for */
typedef struct Claim
{
	pg_uuid_t		 task_id;
	const Operation *operation;
	bool			 registers; /* a hosted page */
	bool			 of_page;	/* that, or closes it */
	const char		*step;
	pg_uuid_t		 object_id;
	int32			 tries;
	bool			 has_lapsed; /* an earlier claim was never recorded */
	pg_uuid_t		 lapsed_id;
	TimestampTz		 first_sent_at; /* 0: never sent */
	TimestampTz		 last_sent_at;
	const char		*last_error;

	/* the object; status is NULL when there is none */
	const char *status;
	int32		attempt_no;
	pg_uuid_t	payment_id;
	bool		payment_created;
	int64		amount;
	const char *currency;
	const char *payer;
	const char *payment_method;
	const char *destination;
	const char *description;
	const char *psp_reference;
	bool		may_be_charged; /* at another PSP, or unknown to us */
	const char *capture_method;
	const char *parent_reference; /* of what a follow-up is done to */
	bool		final;
	const char *reason_given; /* of a refund */
	const char *evidence;	  /* of an answer to a dispute */
	int64		total_amount;
	int64		captured_amount;

	/* a hosted page */
	const char *success_url;
	const char *cancel_url;
	const char *locale;
	int32		lifetime_s; /* 0: as the PSP likes */
	bool		setup;		/* it takes no money, but a payment method */
	bool		hosted;		/* there is nothing yet to pay it with */

	ClaimFate	fate;
	const char *reason;	  /* of being buried */
	bool		begins;	  /* its first claim */
	bool		in_doubt; /* whether it went out */
	bool		is_lost;  /* accepted, and no telling what became of it */
	pg_uuid_t	attempt_id;
	const char *psp_key;
} Claim;

typedef struct ClaimBatch
{
	pg_uuid_t		  psp_id;
	const PspAdapter *adapter; /* NULL: none that is known */
	bool			  paused;
	int32			  max_attempts;
	int32			  key_lifetime_s;
	TimestampTz		  now;
	TimestampTz		  lease_until;
	LaneLimits		  limits;
	Claim			 *claims;
	int				  count;
} ClaimBatch;

/* claim_read.c: choose due tasks, lock them, and read their objects */
extern void claim_read_psp(ClaimBatch *batch);
extern void claim_lock_tasks(ClaimBatch *batch, int32 max_tasks);
extern void claim_read_objects(ClaimBatch *batch);

/* claim_decide.c: what becomes of one; in memory */
extern void claim_decide(const ClaimBatch *batch, Claim *claim);

/* claim_write.c: all that a batch changes but its attempts and leases ... */
extern void claim_write(ClaimBatch *batch);
/* ... and those */
extern void claim_open_attempts(const ClaimBatch *batch);

#endif /* PAYMENT_CLAIM_H */
