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
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "ledger/posting.h"

PG_FUNCTION_INFO_V1(payment_snapshot_is_latest);
PG_FUNCTION_INFO_V1(payment_latest_balance);

void
balance_reader_begin(BalanceReader *reader)
{
	reader->rel = ledger_open(LEDGER_BALANCE_SLOT, AccessShareLock);
	reader->index =
		index_open(RelationGetPrimaryKeyIndex(reader->rel), AccessShareLock);
	reader->snapshot = RegisterSnapshot(GetLatestSnapshot());
	reader->scan =
		index_beginscan(reader->rel, reader->index, reader->snapshot, 1, 0);
	reader->row = table_slot_create(reader->rel, NULL);
}

int64
balance_read(BalanceReader *reader, const pg_uuid_t *account_id)
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
	return money_from_int128(sum);
}

void
balance_reader_end(BalanceReader *reader)
{
	index_endscan(reader->scan);
	index_close(reader->index, AccessShareLock);
	UnregisterSnapshot(reader->snapshot);
	ExecDropSingleTupleTableSlot(reader->row);
	table_close(reader->rel, NoLock);
}

int64
ledger_balance(const pg_uuid_t *account_id)
{
	BalanceReader reader;
	int64		  balance;

	balance_reader_begin(&reader);
	balance = balance_read(&reader, account_id);
	balance_reader_end(&reader);
	return balance;
}

/*
 * Whether SQL may sum slots by its own snapshot.  A transaction that keeps its
 * snapshot sees its own new version of a slot beside an old one.
 */
Datum
payment_snapshot_is_latest(PG_FUNCTION_ARGS pg_attribute_unused())
{
	PG_RETURN_BOOL(!IsolationUsesXactSnapshot());
}

Datum
payment_latest_balance(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(ledger_balance(PG_GETARG_UUID_P(0)));
}
