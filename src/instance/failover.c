/*-------------------------------------------------------------------------
 *
 * failover.c
 *	  A standby that takes over by itself, because it was expected to.
 *
 * The primary's worker notes in a table, and so on every standby, which
 * standbys are synchronous: they know of everything that was sent.  One that
 * is promoted finds there whether it is one of them; payment.failover_standbys
 * may name others.  A clone for other purposes has another name, or none.
 *
 * That it was a standby, it knows from what its walreceiver left in shared
 * memory: a restored backup has the primary's settings, but has received
 * nothing from it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <libpq-fe.h>

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "replication/syncrep.h"
#include "replication/walreceiver.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "argument.h"
#include "errcodes.h"
#include "instance/instance.h"
#include "order/batch.h"
#include "order/plan.h"
#include "order/queue.h"
#include "order/transition.h"
#include "payment.h"

PG_FUNCTION_INFO_V1(payment_take_over);
PG_FUNCTION_INFO_V1(payment_note_standbys);

#define MAX_STANDBYS 1000

/* what a standby is called that was given no name */
#define DEFAULT_STANDBY_NAME "walreceiver"

/* ---- what this server was called ---- */

/* The name in a connection string; NULL without one. */
static char *
name_in_conninfo(const char *conninfo)
{
	PQconninfoOption *options;
	char			 *name = NULL;
	char			 *fallback = NULL;
	char			 *error = NULL;

	if (conninfo == NULL || conninfo[0] == '\0')
		return NULL;
	options = PQconninfoParse(conninfo, &error);
	if (options == NULL)
	{
		if (error)
			PQfreemem(error);
		return NULL;
	}
	for (PQconninfoOption *o = options; o->keyword; o++)
	{
		if (o->val == NULL || o->val[0] == '\0')
			continue;
		if (strcmp(o->keyword, "application_name") == 0)
			name = pstrdup(o->val);
		else if (strcmp(o->keyword, "fallback_application_name") == 0)
			fallback = pstrdup(o->val);
	}
	PQconninfoFree(options);
	return name ? name : fallback;
}

/* Has the walreceiver heard of its primary since this server started? */
static bool
has_streamed(char *conninfo)
{
	bool streamed;

	SpinLockAcquire(&WalRcv->mutex);
	streamed = WalRcv->latestWalEnd != 0;
	memcpy(conninfo, WalRcv->conninfo, MAXCONNINFO);
	SpinLockRelease(&WalRcv->mutex);
	conninfo[MAXCONNINFO - 1] = '\0';
	return streamed;
}

char *
failover_own_name(void)
{
	char  conninfo[MAXCONNINFO];
	char *name;

	if (!has_streamed(conninfo))
		return NULL;
	name = name_in_conninfo(conninfo);
	if (name == NULL)
		name = name_in_conninfo(PrimaryConnInfo);
	if (name == NULL && cluster_name && cluster_name[0] != '\0')
		name = pstrdup(cluster_name);
	return name ? name : pstrdup(DEFAULT_STANDBY_NAME);
}

/* ---- taking over ---- */

static bool
is_in_setting(const char *name)
{
	char	 *copy = pstrdup(payment_failover_standbys);
	List	 *names;
	ListCell *cell;

	if (!SplitGUCList(copy, ',', &names))
		return false;
	foreach (cell, names)
	{
		if (pg_strcasecmp(lfirst(cell), name) == 0)
			return true;
	}
	return false;
}

static bool
is_in_table(const char *name)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { TEXTOID };
	Datum			  value = CStringGetTextDatum(name);

	return batch_run(plan_keep(&plan,
							   "SELECT FROM payment.synchronous_standby"
							   " WHERE name = pg_catalog.lower($1)",
							   1, types),
					 &value, NULL) > 0;
}

/*
 * A synchronous standby knows of every claim that was sent; one that is only
 * listed may lack some, so that the PSPs are asked first.
 */
static bool
take_over(void)
{
	InstanceFinding finding;
	char		   *name;
	char		   *reason;
	bool			synchronous;
	int64			doubtful;

	instance_look(&finding);
	if (finding.state != INSTANCE_COPY || !finding.same_database)
		return false;
	name = failover_own_name();
	if (name == NULL)
		return false;
	synchronous = is_in_table(name);
	if (!synchronous && !is_in_setting(name))
		return false;
	reason = psprintf("the %s standby \"%s\" was promoted",
					  synchronous ? "synchronous" : "listed", name);
	instance_add(INSTANCE_PROMOTION, !synchronous, reason);
	doubtful = queue_doubt(!synchronous);
	ereport(LOG, (errmsg("payments are sent from this database from now on"),
				  errdetail("By itself, because %s. " INT64_FORMAT
							" tasks are looked up at the PSPs first.",
							reason, doubtful)));
	return true;
}

/*
 * payment.take_over() -> boolean
 *
 * For the worker, when it starts.
 */
Datum
payment_take_over(PG_FUNCTION_ARGS)
{
	bool taken;
	int	 nest_level;

	(void) fcinfo;
	if (RecoveryInProgress())
		PG_RETURN_BOOL(false);
	nest_level = batch_begin();
	taken = take_over();
	batch_end(nest_level);
	PG_RETURN_BOOL(taken);
}

/* ---- who may ---- */

/*
 * Names that say which standby it is: listed one by one, and no name that a
 * clone gets by itself.
 */
static void
add_listed_names(Column *names, bool *any)
{
	const char *name = SyncRepConfig->member_names;

	for (int i = 0; i < SyncRepConfig->nmembers; i++)
	{
		if (strcmp(name, "*") == 0)
			*any = true;
		else if (pg_strcasecmp(name, DEFAULT_STANDBY_NAME) != 0 &&
				 pg_strcasecmp(name, cluster_name) != 0)
			column_add_text(names, name);
		name += strlen(name) + 1;
	}
}

#define STANDBYS                                                        \
	"WITH listed AS (SELECT DISTINCT pg_catalog.lower(n) AS name"       \
	" FROM pg_catalog.unnest($1) AS n LIMIT $3),"                       \
	" attached AS (SELECT pg_catalog.lower(r.application_name) AS name" \
	" FROM pg_catalog.pg_stat_replication AS r GROUP BY 1"              \
	" HAVING pg_catalog.count(*) = 1 AND"                               \
	" pg_catalog.bool_and(r.sync_state IN ('sync', 'quorum'))),"        \
	" present AS (SELECT name FROM listed JOIN attached USING (name)),"

/*
 * While none is attached, the last ones stay: the next thing may be a
 * failover.  They do not when they are not to be synchronous any more.
 */
static int64
forget_standbys(Datum *values)
{
	static SPIPlanPtr plan = NULL;
	const Oid		  types[] = { TEXTARRAYOID, BOOLOID, INT4OID };

	return (int64) order_write(
		plan_keep(&plan,
				  STANDBYS " kept AS (SELECT name FROM present UNION ALL"
						   " SELECT s.name FROM payment.synchronous_standby s"
						   " WHERE NOT EXISTS (SELECT FROM present)"
						   " AND ($2 OR s.name IN (SELECT name FROM listed)))"
						   " DELETE FROM payment.synchronous_standby AS s"
						   " WHERE s.name NOT IN (SELECT name FROM kept)",
				  lengthof(types), types),
		values, NULL, CAUSE_POLICY);
}

static int64
remember_standbys(Datum *values)
{
	static SPIPlanPtr plan = NULL;
	const Oid types[] = { TEXTARRAYOID, BOOLOID, INT4OID, TIMESTAMPTZOID };

	return (int64)
		order_write(plan_keep(&plan,
							  STANDBYS
							  " fresh AS (SELECT name FROM present EXCEPT"
							  " SELECT name FROM payment.synchronous_standby)"
							  " INSERT INTO payment.synchronous_standby"
							  " (name, recorded_at) SELECT name, $4 FROM fresh"
							  " WHERE $2 IS NOT NULL",
							  lengthof(types), types),
					values, NULL, CAUSE_POLICY);
}

/*
 * payment.note_standbys(max_standbys integer) -> bigint
 *
 * Without synchronous replication nobody is expected, except when nothing is
 * sent without it: then nothing was, and nothing was lost.
 */
Datum
payment_note_standbys(PG_FUNCTION_ARGS)
{
	int32  limit = PG_ARGISNULL(0) ? 0 : PG_GETARG_INT32(0);
	Datum  values[4];
	Column names;
	bool   any = SyncRepConfig == NULL && payment_require_sync_standby;
	int64  changed;
	int	   nest_level;

	if (limit < 1 || limit > MAX_STANDBYS)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
				 errmsg("invalid value for argument \"max_standbys\""),
				 errdetail("It has to be between 1 and %d.", MAX_STANDBYS),
				 errhint("64 are enough for most.")));
	PreventCommandDuringRecovery("payment.note_standbys()");
	nest_level = batch_begin();
	column_init(&names, TEXTOID);
	if (SyncRepConfig)
		add_listed_names(&names, &any);
	values[0] = column_array(&names);
	values[1] = BoolGetDatum(any);
	values[2] = Int32GetDatum(limit);
	values[3] = TimestampTzGetDatum(GetCurrentTimestamp());
	changed = forget_standbys(values) + remember_standbys(values);
	batch_end(nest_level);
	PG_RETURN_INT64(changed);
}
