/*-------------------------------------------------------------------------
 *
 * hold.c
 *	  Amounts of accounts that are reserved for postings to come.
 *
 * A hold takes from what is available on the side that is normal for its
 * account: it stands for a debit to come on a liability, for a credit to come
 * on an asset.  Where that side has a limit, the limit is kept as if all that
 * is held were posted already.
 *
 * What makes holding safe is who takes which lock:
 *
 *	creating, posting	the account's row lock, as postings towards a limit
 *						do, then (to post) the hold's;
 *	voiding, expiring	the hold's alone, for they only set something free.
 *
 * So whoever checks a limit has the account's lock, and sees all holds that
 * can count.  One that is just being voided or expired still counts, unless
 * its time is over, which errs on the safe side.  A hold's own row lock
 * decides between posting, voiding and expiring it.
 *
 * From the moment of expires_at on a hold neither counts nor can be posted,
 * whether or not its row says so already: hold_expire() only tidies up.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "errcodes.h"
#include "executor/executor.h"
#include "order/plan.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "ledger/hold.h"
#include "ledger/record.h"

#define HOLD_COLUMNS_READ                                       \
	"SELECT id, account_id, amount, posted, state, expires_at " \
	"FROM payment.hold WHERE id = $1"

static Oid	  open_index_id = InvalidOid;
static uint64 open_index_generation = 0;

bool
hold_is_over(const Hold *hold)
{
	return hold->expires_at <= GetCurrentTimestamp();
}

/* the index of open holds by account; most accounts are not in it */
static Relation
open_index(void)
{
	Relation index;

	if (!OidIsValid(open_index_id) ||
		open_index_generation != ledger_generation())
	{
		Oid schema = get_namespace_oid("payment", false);

		open_index_generation = ledger_generation();
		open_index_id = get_relname_relid("hold_open_idx", schema);
		if (!OidIsValid(open_index_id))
			elog(ERROR, "index \"hold_open_idx\" is missing");
	}
	index = index_open(open_index_id, AccessShareLock);
	/* one that somebody makes anew may lack rows that count */
	if (!index->rd_index->indisvalid ||
		index->rd_index->indkey.values[0] != HOLD_ACCOUNT_ID)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_WRONG_STATE),
				 errmsg("index \"hold_open_idx\" is not valid"),
				 errdetail("What is held of an account cannot be told."),
				 errhint("Run REINDEX INDEX payment.hold_open_idx.")));
	return index;
}

/* the index may still lead to holds that are open no longer */
static int64
row_amount(TupleTableSlot *row)
{
	TimestampTz expires_at;
	bool		never;
	char	   *state;
	bool		is_open;

	slot_getallattrs(row);
	state = TextDatumGetCString(row->tts_values[HOLD_STATE - 1]);
	is_open = strcmp(state, "open") == 0;
	pfree(state);
	expires_at =
		DatumGetTimestampTz(slot_getattr(row, HOLD_EXPIRES_AT, &never));
	if (!is_open || (!never && expires_at <= GetCurrentTimestamp()))
		return 0;
	return DatumGetInt64(row->tts_values[HOLD_AMOUNT - 1]) -
		   DatumGetInt64(row->tts_values[HOLD_POSTED - 1]);
}

int64
hold_sum(const pg_uuid_t *account_id, Snapshot snapshot, int *count)
{
	Relation		rel = ledger_open(LEDGER_HOLD, AccessShareLock);
	Relation		index = open_index();
	IndexScanDesc	scan = index_beginscan(rel, index, snapshot, 1, 0);
	TupleTableSlot *row = table_slot_create(rel, NULL);
	int128			sum = 0;
	ScanKeyData		key;

	*count = 0;
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(account_id));
	index_rescan(scan, &key, 1, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, row))
	{
		int64 amount = row_amount(row);

		sum += amount;
		if (amount > 0)
			(*count)++;
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(row);
	index_close(index, AccessShareLock);
	table_close(rel, NoLock);
	return money_from_int128(sum);
}

/*
 * A dirty snapshot leaves no predicate locks, which would make serializable
 * postings to different accounts fail each other.  It sees no hold twice:
 * only voiding and expiring go on beside us, and they take rows out.
 */
int64
hold_sum_locked(const pg_uuid_t *account_id, int *count)
{
	SnapshotData dirty;

	InitDirtySnapshot(dirty);
	return hold_sum(account_id, &dirty, count);
}

static bool
read_hold(SPIPlanPtr *plan, const char *sql, const pg_uuid_t *id, Hold *hold)
{
	static const Oid types[] = { UUIDOID };
	Datum			 values[] = { UUIDPGetDatum(id) };
	bool			 found;

	spi_begin();
	plan_keep(plan, sql, lengthof(types), types);
	found = record_execute(*plan, values, NULL) == 1;
	if (found)
	{
		HeapTuple row = SPI_tuptable->vals[0];
		TupleDesc desc = SPI_tuptable->tupdesc;
		bool	  isnull;
		Datum	  expires_at;

		hold->id = *DatumGetUUIDP(SPI_getbinval(row, desc, 1, &isnull));
		hold->account_id =
			*DatumGetUUIDP(SPI_getbinval(row, desc, 2, &isnull));
		hold->amount = DatumGetInt64(SPI_getbinval(row, desc, 3, &isnull));
		hold->posted = DatumGetInt64(SPI_getbinval(row, desc, 4, &isnull));
		strlcpy(hold->state, SPI_getvalue(row, desc, 5), sizeof(hold->state));
		expires_at = SPI_getbinval(row, desc, 6, &isnull);
		hold->expires_at = isnull ? DT_NOEND : DatumGetTimestampTz(expires_at);
	}
	spi_end();
	return found;
}

bool
hold_find(const pg_uuid_t *id, Hold *hold)
{
	static SPIPlanPtr plan = NULL;

	return read_hold(&plan, HOLD_COLUMNS_READ, id, hold);
}

bool
hold_lock(const pg_uuid_t *id, Hold *hold)
{
	static SPIPlanPtr plan = NULL;

	return read_hold(&plan, HOLD_COLUMNS_READ " FOR NO KEY UPDATE", id, hold);
}

void
hold_insert(const Hold *hold, const pg_uuid_t *subject,
			const char *description)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID, UUIDOID,		   INT8OID,
								  UUIDOID, TIMESTAMPTZOID, TEXTOID };
	Datum			  values[lengthof(types)];
	char			  nulls[] = "      ";

	values[0] = UUIDPGetDatum(&hold->id);
	values[1] = UUIDPGetDatum(&hold->account_id);
	values[2] = Int64GetDatum(hold->amount);
	values[3] = subject ? UUIDPGetDatum(subject) : (Datum) 0;
	values[4] = TimestampTzGetDatum(hold->expires_at);
	values[5] = description ? CStringGetTextDatum(description) : (Datum) 0;
	nulls[3] = subject ? ' ' : 'n';
	nulls[4] = hold->expires_at == DT_NOEND ? 'n' : ' ';
	nulls[5] = description ? ' ' : 'n';
	spi_begin();
	plan_keep(&plan,
			  "INSERT INTO payment.hold (id, account_id, amount, subject, "
			  "expires_at, description) VALUES ($1, $2, $3, $4, $5, $6)",
			  lengthof(types), types);
	record_execute(plan, values, nulls);
	spi_end();
}

void
hold_update(const Hold *hold)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID, TEXTOID, INT8OID };
	Datum			  values[lengthof(types)];

	values[0] = UUIDPGetDatum(&hold->id);
	values[1] = CStringGetTextDatum(hold->state);
	values[2] = Int64GetDatum(hold->posted);
	spi_begin();
	plan_keep(&plan,
			  "UPDATE payment.hold SET state = $2, posted = $3, closed_at = "
			  "CASE WHEN $2 <> 'open' THEN pg_catalog.clock_timestamp() END "
			  "WHERE id = $1",
			  lengthof(types), types);
	if (record_execute(plan, values, NULL) != 1)
		elog(ERROR, "hold could not be updated though it is locked");
	spi_end();
}

/* one that somebody is posting or voiding is left for the next time */
int64
hold_expire(int count)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { INT4OID, TIMESTAMPTZOID };
	Datum			  values[] = { Int32GetDatum(count),
								   TimestampTzGetDatum(GetCurrentTimestamp()) };
	int64			  expired;

	spi_begin();
	plan_keep(&plan,
			  "UPDATE payment.hold SET state = 'expired', closed_at = $2 "
			  "WHERE id = ANY (ARRAY(SELECT id FROM payment.hold "
			  "WHERE state = 'open' AND expires_at <= $2 "
			  "ORDER BY expires_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED))",
			  lengthof(types), types);
	expired = (int64) record_execute(plan, values, NULL);
	spi_end();
	return expired;
}
