/*-------------------------------------------------------------------------
 *
 * guard.c
 *	  Triggers that refuse every write to the ledger but its own.
 *
 * Postings go through the table access method and fire no triggers, so what
 * arrives here was written by hand.  An INSERT into an empty table of the
 * extension itself passes: it is what the COPY of a restored dump meets.  The
 * triggers are ENABLE ALWAYS, so that session_replication_role does not switch
 * them off.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "fmgr.h"
#include "payment.h"
#include "utils/rel.h"

#include "ledger/posting.h"
#include "ledger/record.h"
#include "order/guard.h"

PG_FUNCTION_INFO_V1(payment_guard_ledger);
PG_FUNCTION_INFO_V1(payment_guard_account);
PG_FUNCTION_INFO_V1(payment_guard_record);

static void
pg_attribute_noreturn() refuse_write(const TriggerData *trigdata,
									 const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_LEDGER_GUARD),
			 errmsg("%s on \"%s\" is refused", event_name(trigdata->tg_event),
					RelationGetRelationName(trigdata->tg_relation)),
			 errdetail("%s", detail), errhint("%s", hint)));
}

/* BEFORE any statement on journal, entry and balance_slot */
Datum
payment_guard_ledger(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata =
		trigger_data(fcinfo, "guard_ledger", TRIGGER_EVENT_BEFORE, false);

	if (TRIGGER_FIRED_BY_INSERT(trigdata->tg_event) &&
		restore_may_insert(trigdata->tg_relation))
		return PointerGetDatum(NULL);
	refuse_write(
		trigdata,
		"Posted journals stay as they are; only posting adds to them.",
		"Post a journal that reverses the wrong one.");
}

/* BEFORE any statement on account */
Datum
payment_guard_account(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata =
		trigger_data(fcinfo, "guard_account", TRIGGER_EVENT_BEFORE, false);
	TriggerEvent event = trigdata->tg_event;

	if (TRIGGER_FIRED_BY_INSERT(event) &&
		(account_write_active() || restore_may_insert(trigdata->tg_relation)))
		return PointerGetDatum(NULL);
	if (TRIGGER_FIRED_BY_UPDATE(event) && account_write_active())
		return PointerGetDatum(NULL);
	refuse_write(trigdata,
				 "Accounts are opened and changed by functions only, and "
				 "never removed.",
				 "Call payment.open_account, set_account_state or "
				 "set_account_limits.");
}

/* BEFORE any statement on hold and reversal */
Datum
payment_guard_record(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata =
		trigger_data(fcinfo, "guard_record", TRIGGER_EVENT_BEFORE, false);
	TriggerEvent event = trigdata->tg_event;

	if (TRIGGER_FIRED_BY_INSERT(event) &&
		(record_write_active() || restore_may_insert(trigdata->tg_relation)))
		return PointerGetDatum(NULL);
	if (TRIGGER_FIRED_BY_UPDATE(event) && record_write_active())
		return PointerGetDatum(NULL);
	refuse_write(trigdata,
				 "Holds and reversals change by functions only, and are "
				 "never removed.",
				 "Call payment.create_hold, post_hold, void_hold or "
				 "reverse_journal.");
}
