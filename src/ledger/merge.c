/*-------------------------------------------------------------------------
 *
 * merge.c
 *	  Puts the balance slots of accounts gone quiet together again.
 *
 * All slots but the lowest are deleted and their sum is added to that one, in
 * one transaction, so that every snapshot shows either the old slots or the
 * new one and a balance is the same before and after.  Nothing here waits,
 * neither for a posting nor for another merge: what somebody writes to is
 * left for the next time.  A posting that finds all slots taken by a merge
 * adds one, as it would with another posting.
 *
 * An account is quiet when nobody is writing to any of its slots.  A busy one
 * that is caught in between grows its slots again; that costs little.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "argument.h"
#include "common/int.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "payment.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "ledger/posting.h"

PG_FUNCTION_INFO_V1(payment_merge_balance_slots);

#define MERGE_MAX_ACCOUNTS 100000
/* slots that one call looks at, for each account that it may merge */
#define MERGE_SCAN_FACTOR 100

/* where this session's next call goes on */
static pg_uuid_t merge_after;

typedef struct Candidates
{
	pg_uuid_t *accounts;
	int		   count;
	int		   capacity;
	int64	   scan_limit;
} Candidates;

/*
 * Walk along the slots in order of accounts, and note those that have several.
 * At the end of the table the next walk begins at its start.
 */
static void
find_candidates(SlotTable *table, Candidates *candidates)
{
	Snapshot	  snapshot = RegisterSnapshot(GetLatestSnapshot());
	IndexScanDesc scan;
	ScanKeyData	  key;
	pg_uuid_t	  previous = merge_after;
	int64		  seen = 0;
	bool		  noted = false;
	bool		  more;

	ScanKeyInit(&key, SLOT_ACCOUNT_ID, BTGreaterStrategyNumber, F_UUID_GT,
				UUIDPGetDatum(&merge_after));
	slot_table_open_indexes(table);
	scan = index_beginscan(table->rel, table->scan->indexRelation, snapshot, 1,
						   0);
	index_rescan(scan, &key, 1, NULL, 0);
	while ((more = index_getnext_slot(scan, ForwardScanDirection, table->row)))
	{
		pg_uuid_t *account;

		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(table->row);
		account = DatumGetUUIDP(table->row->tts_values[SLOT_ACCOUNT_ID - 1]);
		if (seen++ == 0 || memcmp(account, &previous, UUID_LEN) != 0)
		{
			if (seen > candidates->scan_limit ||
				candidates->count == candidates->capacity)
				break;
			noted = false;
			previous = *account;
		}
		else if (!noted)
		{
			candidates->accounts[candidates->count++] = *account;
			noted = true;
		}
	}
	index_endscan(scan);
	UnregisterSnapshot(snapshot);

	if (more)
		merge_after = previous;
	else
		memset(&merge_after, 0, sizeof(merge_after));
}

/* nobody, this transaction included, is writing to any of them */
static bool
is_quiet(const FoundSlots *found)
{
	for (int i = 0; i < found->count; i++)
	{
		if (found->slots[i].busy || found->slots[i].own)
			return false;
	}
	return true;
}

static bool
lock_slot(SlotTable *table, FoundSlot *slot)
{
	TM_FailureData failure;

	return table_tuple_lock(table->rel, &slot->tid, InvalidSnapshot,
							table->row, GetCurrentCommandId(false),
							LockTupleNoKeyExclusive, LockWaitSkip, 0,
							&failure) == TM_Ok;
}

static bool
delete_slot(SlotTable *table, FoundSlot *slot)
{
	TM_FailureData failure;

	return table_tuple_delete(table->rel, &slot->tid,
							  GetCurrentCommandId(true), InvalidSnapshot,
							  InvalidSnapshot, false, &failure,
							  false) == TM_Ok;
}

/*
 * Each step works on the version that was found: one that changed since is
 * not locked, or not deleted, and keeps what it holds.
 */
static bool
merge_account(SlotTable *table, const pg_uuid_t *account_id, FoundSlots *found)
{
	FoundSlot *target;
	int64	   sum;
	int		   deleted = 0;

	slot_find_all(table, account_id, found);
	if (found->count < 2 || !is_quiet(found))
		return false;
	target = &found->slots[0];
	if (!lock_slot(table, target))
		return false;
	sum = target->balance;
	for (int i = 1; i < found->count; i++)
	{
		int64 with;
		int64 added;

		if (pg_add_s64_overflow(sum, found->slots[i].balance, &with) ||
			pg_sub_s64_overflow(with, target->balance, &added) ||
			!delete_slot(table, &found->slots[i]))
			continue;
		sum = with;
		deleted++;
	}
	if (deleted == 0)
		return false;
	if (!slot_try(table, account_id, target, sum - target->balance, true))
		elog(ERROR, "balance slot could not be updated though it is locked");
	return true;
}

Datum
payment_merge_balance_slots(PG_FUNCTION_ARGS)
{
	FoundSlots found = { 0 };
	Candidates candidates = { 0 };
	SlotTable  table;
	int64	   merged = 0;

	refuse_null(fcinfo, 0, "max_accounts");
	candidates.capacity = PG_GETARG_INT32(0);
	if (candidates.capacity < 1 || candidates.capacity > MERGE_MAX_ACCOUNTS)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("invalid max_accounts"),
						errdetail("It is %d.", candidates.capacity),
						errhint("Pass 1 to %d.", MERGE_MAX_ACCOUNTS)));
	PreventCommandIfReadOnly("merging balance slots");
	PreventCommandIfParallelMode("merging balance slots");

	candidates.scan_limit = (int64) candidates.capacity * MERGE_SCAN_FACTOR;
	candidates.accounts = palloc(sizeof(pg_uuid_t) * candidates.capacity);
	slot_table_begin(&table);
	find_candidates(&table, &candidates);
	for (int i = 0; i < candidates.count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (merge_account(&table, &candidates.accounts[i], &found))
			merged++;
	}
	slot_table_end(&table);
	CommandCounterIncrement();
	PG_RETURN_INT64(merged);
}
