/*-------------------------------------------------------------------------
 *
 * claim_decide.c
 *	  What becomes of a due task: sent, asked after, removed or given to people.
 *
 * Everything is decided in memory, from what claim_read.c found; nothing here
 * reads or writes a table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "order/claim.h"

/* NULL: that status there is not */
static bool
status_is(const Claim *claim, const char *status)
{
	return status && strcmp(claim->status, status) == 0;
}

/*
 * Statuses that never change by sending or asking; a decline rests.  Of a
 * capture or void: all but its own, and doubt.
 */
static bool
is_over(const Claim *claim)
{
	static const char *const over[] = {
		"captured",	 "declined", "failed",
		"cancelled", "expired",	 "conflicted",
		"reversed",	 "voided",	 "authorized",
		"capturing", "voiding",	 "paid",
		"returned",	 "rejected", "partially_captured",
		"succeeded", NULL
	};

	/* a page is over once it is known what is paid with, or that nobody pays */
	if (claim->of_page && !claim->hosted)
		return true;
	if (claim->of_page && !claim->registers)
		return !status_is(claim, claim->operation->sent);
	if (operation_is_follow_up(claim->operation->name))
		return !status_is(claim, claim->operation->sent) &&
			   !status_is(claim, "unknown");
	for (int i = 0; over[i]; i++)
	{
		if (strcmp(claim->status, over[i]) == 0)
			return true;
	}
	return false;
}

static void
bury(Claim *claim, const char *reason)
{
	claim->fate = FATE_BURY;
	claim->reason = claim->last_error
						? psprintf("%s; %s", reason, claim->last_error)
						: reason;
}

/*
 * What the PSP had accepted and tells no more about is as unknown as what it
 * never answered: people can decide it then.
 */
static void
give_up(Claim *claim, const char *reason)
{
	claim->begins = false;
	claim->is_lost =
		status_is(claim, claim->operation->accepted) ||
		(claim->registers && status_is(claim, claim->operation->sent)) ||
		(claim->operation->object == OBJECT_REFUND &&
		 status_is(claim, "requires_action"));
	bury(claim, reason);
}

static bool
key_is_alive(const ClaimBatch *batch, const Claim *claim)
{
	return claim->first_sent_at == 0 ||
		   batch->now - claim->first_sent_at <
			   (int64) batch->key_lifetime_s * USECS_PER_SEC;
}

/* The payer has left there what it is paid with now. */
static bool
was_at_page(const Claim *claim)
{
	return strcmp(claim->operation->name, OPERATION_PAY) == 0 &&
		   status_is(claim, "requires_action");
}

static bool
can_perform(const ClaimBatch *batch, const Claim *claim)
{
	PspOperation operation;

	return batch->adapter == NULL ||
		   (psp_operation_of(claim->operation->name, &operation) &&
			batch->adapter->performs[operation] &&
			(claim->capture_method == NULL ||
			 strcmp(claim->capture_method, "manual") != 0 ||
			 batch->adapter->performs[PSP_OPERATION_CAPTURE]));
}

/* Is there a way to ask that cannot execute anything? */
static bool
can_look_up(const ClaimBatch *batch, const Claim *claim)
{
	const PspInquiry *inquiry;
	PspOperation	  operation;

	if (batch->adapter == NULL ||
		!psp_operation_of(claim->operation->name, &operation))
		return true;
	inquiry = &batch->adapter->inquiry[operation];
	return inquiry->by_listing ||
		   (inquiry->by_reference && claim->psp_reference);
}

/*
 * Send or ask?  A PSP that has forgotten the key would execute it a second
 * time, so that it is asked then.  One that cannot be asked gets the same
 * request again while it remembers the key: it answers with what it did.
 * After that there is nothing left to do for a machine.
 */
static void
choose_step(const ClaimBatch *batch, Claim *claim)
{
	bool alive = key_is_alive(batch, claim);

	if (strcmp(claim->step, "send") == 0 && !alive)
		claim->step = "lookup";
	if (strcmp(claim->step, "lookup") != 0 || can_look_up(batch, claim))
		return;
	if (alive)
	{
		claim->step = "send";
		return;
	}
	give_up(claim, "the PSP answers only a repeated request, and may have "
				   "forgotten its idempotency key");
	/* a capture or void has no status of its own for what was accepted */
	if (operation_is_follow_up(claim->operation->name))
		claim->is_lost = status_is(claim, claim->operation->sent);
}

static void
hold_back(Claim *claim)
{
	if (!claim->may_be_charged || claim->fate != FATE_CLAIM ||
		strcmp(claim->step, "send") != 0)
		return;
	claim->begins = false;
	bury(claim, "it may have been charged already: see payment.exception");
}

/* A page has its own end: however often a look fails, the payer may pay there. */
static bool
waits_for_payer(const Claim *claim)
{
	return claim->registers && status_is(claim, "requires_action") &&
		   strcmp(claim->step, "lookup") == 0;
}

void
claim_decide(const ClaimBatch *batch, Claim *claim)
{
	if (claim->status == NULL)
	{
		bury(claim, "the object is missing");
		return;
	}
	if (is_over(claim))
	{
		claim->fate = FATE_REMOVE;
		return;
	}
	if (!can_perform(batch, claim))
	{
		bury(claim, "its PSP cannot be asked to do this");
		return;
	}
	if (claim->hosted && !claim->of_page &&
		!operation_is_follow_up(claim->operation->name))
	{
		bury(claim, "it has no payment method");
		return;
	}
	claim->begins =
		status_is(claim, claim->operation->waits) || was_at_page(claim);
	if (!claim->begins && !status_is(claim, claim->operation->sent) &&
		!status_is(claim, claim->operation->accepted) &&
		!status_is(claim, "requires_action") && !status_is(claim, "unknown"))
	{
		bury(claim,
			 psprintf("nothing can be sent while it is %s", claim->status));
		return;
	}

	/* It may have been sent, and it may not: ask before anything else. */
	if (claim->has_lapsed && strcmp(claim->step, "send") == 0)
	{
		claim->in_doubt = status_is(claim, claim->operation->sent) &&
						  (claim->registers || !claim->of_page);
		claim->step = "lookup";
	}
	if (claim->tries >= batch->max_attempts && !waits_for_payer(claim))
	{
		give_up(claim, psprintf("no final answer in %d tries", claim->tries));
		return;
	}
	choose_step(batch, claim);
	hold_back(claim);
}
