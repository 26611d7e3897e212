/*-------------------------------------------------------------------------
 *
 * refusal.c
 *	  Whether this copy of the database may send payments.
 *
 * The database knows, and would refuse a claim; the worker asks first, so that
 * outcomes are recorded all the same, and tells people what it heard: in
 * payment.worker_status, and in the log when it changes and now and then.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "executor/spi.h"
#include "instance/sync_standby.h"
#include "payment.h"
#include "refusal.h"
#include "session.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#define REMINDER_INTERVAL_MS (10 * 60 * 1000)

static SPIPlanPtr  refusal_plan = NULL;
static TimestampTz told_at = 0;

static const char *
ask(void)
{
	if (refusal_plan == NULL)
	{
		SPIPlanPtr fresh =
			SPI_prepare("SELECT payment.sending_refusal()", 0, NULL);

		if (fresh == NULL || SPI_keepplan(fresh) != 0)
			elog(ERROR, "could not prepare payment.sending_refusal");
		refusal_plan = fresh;
	}
	if (SPI_execute_plan(refusal_plan, NULL, NULL, false, 0) !=
			SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not call payment.sending_refusal");
	return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
}

static void
tell(const char *reason, bool changed)
{
	TimestampTz now = GetCurrentTimestamp();

	if (reason[0] == '\0')
	{
		if (changed)
			ereport(LOG, (errmsg("payments of this database are sent again")));
		return;
	}
	if (!changed &&
		!TimestampDifferenceExceeds(told_at, now, REMINDER_INTERVAL_MS))
		return;
	told_at = now;
	ereport(LOG, (errcode(ERRCODE_PAYMENT_WORKER),
				  errmsg("payments of this database are not sent"),
				  errdetail("Because %s.", reason),
				  errhint("If this copy of it is to be the only one that "
						  "sends, see payment.adopt().")));
}

bool
refusal_absent(void)
{
	char		reason[WORKER_ERROR_SIZE] = "";
	const char *answer = ask();
	bool		changed;

	if (answer)
		strlcpy(reason, answer, sizeof(reason));
	SpinLockAcquire(&worker_shared->mutex);
	changed = strcmp(session_slot->refusal, reason) != 0;
	memcpy(session_slot->refusal, reason, sizeof(reason));
	SpinLockRelease(&worker_shared->mutex);
	tell(reason, changed);
	return reason[0] == '\0';
}

void
refusal_take_over(void)
{
	if (SPI_execute("SELECT payment.take_over()", false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not call payment.take_over");
}

/*
 * The claims' commit is on the disk.  The session commits synchronously; but
 * what makes it do so is a setting, and a payment sent under a claim that a
 * crash forgets is sent again.
 */
static bool
is_on_disk(void)
{
	if (XactLastCommitEnd <= GetFlushRecPtr(NULL))
		return true;
	ereport(LOG, (errcode(ERRCODE_PAYMENT_WORKER),
				  errmsg("claimed payments are not sent: their claims are "
						 "not on the disk"),
				  errdetail("They are looked up when their lease is over.")));
	return false;
}

bool
refusal_commit_is_safe(void)
{
	if (!is_on_disk())
		return false;
	if (!payment_require_sync_standby ||
		sync_standby_has_flushed(XactLastCommitEnd))
		return true;
	ereport(LOG, (errcode(ERRCODE_PAYMENT_WORKER),
				  errmsg("claimed payments are not sent: no synchronous "
						 "standby has confirmed the claims"),
				  errdetail("They are looked up when their lease is over.")));
	return false;
}
