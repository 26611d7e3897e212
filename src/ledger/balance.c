/*-------------------------------------------------------------------------
 *
 * balance.c
 *	  Reading balances: the sums of an account's slots.
 *
 * By the latest snapshot whatever the isolation level: slots that this
 * transaction wrote are newer than its own snapshot.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "funcapi.h"
#include "money.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "ledger/hold.h"
#include "ledger/posting.h"

PG_FUNCTION_INFO_V1(payment_latest_balance);

/*
 * A snapshot is taken after the tables are locked: rows that an ALTER TABLE
 * writes anew while we wait are rows of its own transaction, which an older
 * snapshot does not see.
 */
static void
begin_at(BalanceReader *reader, Snapshot snapshot)
{
	reader->index =
		index_open(RelationGetPrimaryKeyIndex(reader->rel), AccessShareLock);
	reader->snapshot = snapshot;
	reader->scan = index_beginscan(reader->rel, reader->index, snapshot, 1, 0);
	reader->row = table_slot_create(reader->rel, NULL);
}

void
balance_reader_begin(BalanceReader *reader)
{
	reader->rel = ledger_open(LEDGER_BALANCE_SLOT, AccessShareLock);
	begin_at(reader, RegisterSnapshot(GetLatestSnapshot()));
}

/*
 * Each slot keeps to 64 bits, their sum may not: postings that do not see each
 * other can lead there.
 */
static int128
read_sum(BalanceReader *reader, const pg_uuid_t *account_id)
{
	ScanKeyData key;
	int128		sum = 0;

	ScanKeyInit(&key, SLOT_ACCOUNT_ID, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(account_id));
	index_rescan(reader->scan, &key, 1, NULL, 0);
	while (index_getnext_slot(reader->scan, ForwardScanDirection, reader->row))
	{
		slot_getallattrs(reader->row);
		sum += DatumGetInt64(reader->row->tts_values[SLOT_BALANCE - 1]);
	}
	return sum;
}

int64
balance_read(BalanceReader *reader, const pg_uuid_t *account_id)
{
	return money_from_int128(read_sum(reader, account_id));
}

static void
end_at(BalanceReader *reader)
{
	index_endscan(reader->scan);
	index_close(reader->index, AccessShareLock);
	ExecDropSingleTupleTableSlot(reader->row);
	table_close(reader->rel, NoLock);
}

void
balance_reader_end(BalanceReader *reader)
{
	end_at(reader);
	UnregisterSnapshot(reader->snapshot);
}

int128
ledger_balance(const pg_uuid_t *account_id)
{
	BalanceReader reader;
	int128		  balance;

	balance_reader_begin(&reader);
	balance = read_sum(&reader, account_id);
	balance_reader_end(&reader);
	return balance;
}

int64
ledger_held(const pg_uuid_t *account_id)
{
	int count;

	return hold_sum_locked(account_id, &count);
}

/* posted, pending and available, on the side that is normal for the account */
Datum
balance_row(TupleDesc desc, const TouchedAccount *account,
			BalanceReader *reader)
{
	int64 posted =
		account_normal_side(account, balance_read(reader, &account->id));
	int	  hold_count;
	int64 held = hold_sum(&account->id, reader->snapshot, &hold_count);
	Datum values[3];
	bool  nulls[3] = { false, false, false };

	values[0] = Int64GetDatum(posted);
	values[1] = Int64GetDatum(held);
	values[2] = Int64GetDatum(money_add(posted, -held));
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

/* what all calls of one expression in one query share */
typedef struct QueryState
{
	SnapshotData snapshot;
	TimestampTz	 statement_start;
	CommandId	 command;
	TupleDesc	 desc;
} QueryState;

static TransactionId *
copy_xids(const TransactionId *xids, uint32 count)
{
	TransactionId *copy = palloc(sizeof(TransactionId) * Max(count, 1));

	if (count > 0)
		memcpy(copy, xids, sizeof(TransactionId) * count);
	return copy;
}

/*
 * A query reads many balances: those of one wallet, or of all.  They have to
 * be of the same moment, so the latest snapshot is taken once and kept with
 * the expression that calls.  It needs no registration: the query's own
 * snapshot is older, and keeps all rows that this one shows.
 */
static QueryState *
query_state(FunctionCallInfo fcinfo)
{
	FmgrInfo	 *flinfo = fcinfo->flinfo;
	QueryState	 *kept = flinfo->fn_extra;
	MemoryContext previous;
	Snapshot	  latest;

	if (kept != NULL &&
		kept->statement_start == GetCurrentStatementStartTimestamp() &&
		kept->command == GetCurrentCommandId(false))
		return kept;
	previous = MemoryContextSwitchTo(flinfo->fn_mcxt);
	kept = palloc(sizeof(QueryState));
	if (get_call_result_type(fcinfo, NULL, &kept->desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "latest_balance() must return a row");
	kept->desc = BlessTupleDesc(CreateTupleDescCopy(kept->desc));
	ledger_lock(LEDGER_BALANCE_SLOT);
	ledger_lock(LEDGER_HOLD);
	latest = GetLatestSnapshot();
	kept->snapshot = *latest;
	kept->snapshot.xip = copy_xids(latest->xip, latest->xcnt);
	kept->snapshot.subxip = copy_xids(latest->subxip, latest->subxcnt);
	kept->statement_start = GetCurrentStatementStartTimestamp();
	kept->command = GetCurrentCommandId(false);
	flinfo->fn_extra = kept;
	MemoryContextSwitchTo(previous);
	return kept;
}

/* as balance(), of an account whose kind the caller has read already */
Datum
payment_latest_balance(PG_FUNCTION_ARGS)
{
	QueryState	  *state = query_state(fcinfo);
	TouchedAccount account;
	BalanceReader  reader;
	Datum		   row;

	account.id = *PG_GETARG_UUID_P(0);
	text_to_cstring_buffer(PG_GETARG_TEXT_PP(1), account.kind,
						   sizeof(account.kind));
	reader.rel = ledger_open(LEDGER_BALANCE_SLOT, AccessShareLock);
	begin_at(&reader, &state->snapshot);
	row = balance_row(state->desc, &account, &reader);
	end_at(&reader);
	PG_RETURN_DATUM(row);
}
