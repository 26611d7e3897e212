/*-------------------------------------------------------------------------
 *
 * instance.c
 *	  Which copy of this database may send payments.
 *
 * A copy of the database is a second shop with the same debts.  So the table
 * payment.instance says where payments are sent from, and its last row counts;
 * dumps leave it out.  Nothing is claimed anywhere else, until somebody says
 * by payment.adopt() that this is the shop now.
 *
 * CREATE EXTENSION adopts the place where it runs.  A dump that is restored
 * runs it, too: then the rows of payment.psp come by hand, and the trigger on
 * them takes that back in the same transaction.  Without a PSP there is
 * nothing to send to, so that no claim can come in between.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "argument.h"
#include "errcodes.h"
#include "instance/instance.h"
#include "instance/sync_standby.h"
#include "order/batch.h"
#include "order/guard.h"
#include "order/plan.h"
#include "order/queue.h"
#include "order/typed_argument.h"
#include "payment.h"
#include "text_guard.h"

PG_FUNCTION_INFO_V1(payment_sending_refusal);
PG_FUNCTION_INFO_V1(payment_adopt);
PG_FUNCTION_INFO_V1(payment_mark_restored);

/* ---- the last row ---- */

typedef struct InstanceRow
{
	const char *cause; /* NULL: there is no row */
	Identity	identity;
} InstanceRow;

static void
read_row(InstanceRow *row)
{
	static SPIPlanPtr plan = NULL;

	memset(row, 0, sizeof(*row));
	if (batch_run(plan_keep(&plan,
							"SELECT cause, system_identifier,"
							" database_id::bigint, timeline, data_directory,"
							" control_file_inode, control_file_born_at,"
							" machine FROM payment.instance"
							" ORDER BY generation DESC LIMIT 1",
							0, NULL),
				  NULL, NULL) == 0)
		return;
	row->cause = row_text(0, 1);
	row->identity.system_identifier = row_int64(0, 2);
	row->identity.database_id = (Oid) row_int64(0, 3);
	row->identity.timeline = row_int32(0, 4);
	row->identity.data_directory = row_text(0, 5);
	row->identity.control_file_inode = row_int64(0, 6);
	row->identity.control_file_born_at = row_time(0, 7);
	row->identity.machine = row_text(0, 8);
}

/*
 * Generations are counted, not timed: a promoted standby's clock may be behind.
 */
void
instance_add(const char *cause, bool may_have_sent, const char *reason)
{
	static SPIPlanPtr lock_plan = NULL;
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { TEXTOID,		  INT8OID, INT8OID, INT4OID,
								  TEXTOID,		  INT8OID, TEXTOID, BOOLOID,
								  TIMESTAMPTZOID, TEXTOID, TEXTOID, TIMESTAMPTZOID };
	Datum			  values[lengthof(types)];
	char			  nulls[] = "            ";
	Identity		  identity;

	identity_read(&identity);
	values[0] = CStringGetTextDatum(cause);
	values[1] = Int64GetDatum(identity.system_identifier);
	values[2] = Int64GetDatum((int64) identity.database_id);
	values[3] = Int32GetDatum(identity.timeline);
	values[4] = CStringGetTextDatum(identity.data_directory);
	values[5] = Int64GetDatum(identity.control_file_inode);
	values[6] = CStringGetTextDatum(identity.machine);
	values[7] = BoolGetDatum(may_have_sent);
	values[8] = TimestampTzGetDatum(identity.control_file_born_at);
	nulls[8] = identity.control_file_born_at == 0 ? 'n' : ' ';
	values[9] = CStringGetTextDatum(reason);
	values[10] =
		CStringGetTextDatum(GetUserNameFromId(GetSessionUserId(), false));
	values[11] = TimestampTzGetDatum(GetCurrentTimestamp());

	/* one after the other, each on top of what is committed */
	batch_run(plan_keep(&lock_plan,
						"LOCK TABLE payment.instance"
						" IN SHARE ROW EXCLUSIVE MODE",
						0, NULL),
			  NULL, NULL);
	order_write(plan_keep(&plan,
						  "INSERT INTO payment.instance (generation, cause,"
						  " system_identifier, database_id, timeline,"
						  " data_directory, control_file_inode, machine,"
						  " may_have_sent, control_file_born_at, reason,"
						  " recorded_by, recorded_at)"
						  " SELECT coalesce(max(i.generation), 0) + 1, $1, $2,"
						  " $3::oid, $4, $5, $6, $7, $8, $9, $10, $11, $12"
						  " FROM payment.instance AS i",
						  lengthof(types), types),
				values, nulls, CAUSE_API);
}

/* ---- may it send? ---- */

static char *
describe_copy(const char *differences)
{
	char *name = failover_own_name();

	if (name == NULL)
		return psprintf("payments of this database are sent from another "
						"place: not the same %s",
						differences);
	return psprintf("payments of this database are sent from another place, "
					"and the standby \"%s\", which this was, was not "
					"expected to take over",
					name);
}

static void
look_at_identity(InstanceFinding *finding)
{
	InstanceRow row;
	Identity	here;
	char	   *differences;

	read_row(&row);
	if (row.cause == NULL || strcmp(row.cause, INSTANCE_RESTORE) == 0)
	{
		finding->state = INSTANCE_RESTORED;
		finding->reason =
			pstrdup("this database was restored from a dump of another");
		return;
	}
	identity_read(&here);
	differences = identity_differences(&row.identity, &here);
	if (differences == NULL)
		return;
	finding->state = INSTANCE_COPY;
	finding->same_database =
		here.system_identifier == row.identity.system_identifier &&
		here.database_id == row.identity.database_id;
	finding->reason = describe_copy(differences);
}

void
instance_look(InstanceFinding *finding)
{
	memset(finding, 0, sizeof(*finding));
	finding->state = INSTANCE_MAY_SEND;
	if (RecoveryInProgress())
	{
		finding->state = INSTANCE_STANDBY;
		finding->reason = pstrdup("the server is a standby");
		return;
	}
	look_at_identity(finding);
	if (finding->state == INSTANCE_MAY_SEND && payment_require_sync_standby &&
		!sync_standby_attached())
	{
		finding->state = INSTANCE_UNPROTECTED;
		finding->reason = pstrdup("no synchronous standby is attached, and "
								  "payment.require_sync_standby asks for one");
	}
}

void
instance_refuse(void)
{
	InstanceFinding finding;

	instance_look(&finding);
	if (finding.state == INSTANCE_MAY_SEND)
		return;
	if (finding.state == INSTANCE_UNPROTECTED)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_NO_SYNC_STANDBY),
				 errmsg("nothing may be sent without a synchronous standby"),
				 errdetail("payment.require_sync_standby is on, and as many "
						   "as synchronous_standby_names asks for are not "
						   "attached."),
				 errhint("Tasks wait until one is.")));
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_NOT_ADOPTED),
			 errmsg("nothing may be sent from this copy of the database"),
			 errdetail("Because %s.", finding.reason),
			 errhint("If this is to be the only one that sends, call "
					 "payment.adopt().")));
}

/*
 * payment.sending_refusal() -> text
 *
 * NULL when payments are sent.
 */
Datum
payment_sending_refusal(PG_FUNCTION_ARGS)
{
	InstanceFinding finding;
	text		   *result = NULL;
	MemoryContext	caller = CurrentMemoryContext;
	int				nest_level = batch_begin();

	(void) fcinfo;
	instance_look(&finding);
	if (finding.reason)
	{
		MemoryContext old = MemoryContextSwitchTo(caller);

		result = cstring_to_text(finding.reason);
		MemoryContextSwitchTo(old);
	}
	batch_end(nest_level);
	if (result == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(result);
}

/* ---- somebody says so ---- */

static char *
reason_argument(FunctionCallInfo fcinfo)
{
	char *reason = text_argument(fcinfo, 0, "reason");

	refuse_null(fcinfo, 0, "reason");
	check_text("reason", reason, (int) strlen(reason));
	if (strspn(reason, " \t\r\n") == strlen(reason))
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("\"reason\" must not be empty"),
						errdetail("It is kept in payment.instance."),
						errhint("Say why this copy is the one that sends.")));
	return reason;
}

static void
announce(int64 doubtful, const char *reason)
{
	const char *user = GetUserNameFromId(GetSessionUserId(), false);

	ereport(LOG, (errmsg("payments are sent from this database from now on"),
				  errdetail("Adopted by \"%s\": %s. " INT64_FORMAT
							" tasks are looked up at the PSPs first.",
							user, reason, doubtful)));
	ereport(NOTICE,
			(errmsg("payments are sent from this database from now on"),
			 errdetail(INT64_FORMAT " tasks are looked up at the PSPs first.",
					   doubtful),
			 errhint("No other copy of it may send any more.")));
}

/*
 * payment.adopt(reason text, may_have_sent boolean DEFAULT true) -> bigint
 */
Datum
payment_adopt(PG_FUNCTION_ARGS)
{
	char *reason = reason_argument(fcinfo);
	bool  may_have_sent;
	int64 doubtful;
	int	  nest_level;

	refuse_null(fcinfo, 1, "may_have_sent");
	may_have_sent = PG_GETARG_BOOL(1);
	PreventCommandDuringRecovery("payment.adopt()");

	nest_level = batch_begin();
	instance_add(creating_extension ? INSTANCE_CREATE : INSTANCE_ADOPT,
				 may_have_sent, reason);
	doubtful = queue_doubt(may_have_sent);
	batch_end(nest_level);
	if (!creating_extension)
		announce(doubtful, reason);
	payment_wake_dispatcher_at_commit();
	PG_RETURN_INT64(doubtful);
}

/*
 * BEFORE INSERT on payment.psp, for each statement: rows that did not come
 * from register_psp() come from a dump.
 */
Datum
payment_mark_restored(PG_FUNCTION_ARGS)
{
	int nest_level;

	(void) trigger_data(fcinfo, "mark_restored", TRIGGER_EVENT_BEFORE, false);
	if (order_write_active())
		return PointerGetDatum(NULL);
	nest_level = batch_begin();
	instance_add(INSTANCE_RESTORE, true, "rows were restored from a dump");
	batch_end(nest_level);
	ereport(LOG, (errmsg("payments are not sent from this database any more"),
				  errdetail("Rows of payment.psp were restored from a dump."),
				  errhint("If this is to be the only one that sends, call "
						  "payment.adopt().")));
	return PointerGetDatum(NULL);
}
