/*-------------------------------------------------------------------------
 *
 * slot.c
 *	  Balances as sums of slots, so that postings to one account need not
 *	  wait for each other.
 *
 * A posting adds to any slot of the account that no other transaction has
 * written to, and adds a slot when there is none.  It finds out by trying: an
 * update that does not wait.  No snapshot of the caller's plays a part, so it
 * is the same at every isolation level, and a posting is never a write
 * conflict.  For the same reason a REPEATABLE READ transaction that posted
 * may see both an old version of a slot and its own new one: balances are
 * read by the latest snapshot only.
 *
 * Scans use a dirty snapshot: it shows slots that others write to, and takes
 * no predicate locks, so that serializable postings do not fail each other.
 * Such a scan can miss a slot that just moved to another page.  That costs
 * nothing: one slot more than necessary, perhaps.
 *
 * A new slot is numbered by the transaction that adds it, and a transaction
 * adds at most one to an account, so two never add the same.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "payment.h"
#include "storage/backendid.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "ledger/posting.h"

/* full transaction ids stay far below; above it, see new_slot_number() */
#define SLOT_NUMBER_STEP (INT64CONST(1) << 48)

/* few, so that they stay in the nearest cache of the processor */
#define HINT_COUNT 64

/* room for some more versions of slots, also of postings under way */
#define PRUNE_BELOW_BYTES 1024

/*
 * Where hint.c knows of every account the version of a slot that anybody wrote
 * last, this knows the one that this backend wrote, of those accounts alone of
 * which the other turned out to be taken.  So of an account that all post to,
 * each backend has a slot that is its own for the most part; and a transaction
 * of very many postings need not search among all the versions that it made.
 */
typedef struct SlotHint
{
	pg_uuid_t account_id;
	Hint	  hint;
} SlotHint;

static SlotHint slot_hints[HINT_COUNT];

static SlotHint *
hint_of(const pg_uuid_t *account_id)
{
	return &slot_hints[hash_bytes(account_id->data, UUID_LEN) % HINT_COUNT];
}

/* the version in *new_row is the one to try first the next time */
static void
remember_hint(SlotTable *table, const pg_uuid_t *account_id, Buffer buffer)
{
	SlotHint *own = hint_of(account_id);
	Hint	  hint = { .tid = table->new_row->tts_tid, .buffer = buffer };

	if (table->searching ||
		memcmp(&own->account_id, account_id, UUID_LEN) == 0)
	{
		own->account_id = *account_id;
		own->hint = hint;
	}
	hint_set(HINT_SLOT, account_id, &hint);
}

void
slot_table_begin(SlotTable *table)
{
	table->rel = ledger_open(LEDGER_BALANCE_SLOT, RowExclusiveLock);
	table->scan = NULL;
	table->searching = false;
	InitDirtySnapshot(table->dirty);
	table->row = table_slot_create(table->rel, NULL);
	table->new_row = table_slot_create(table->rel, NULL);
}

/* most postings find their slots by address and need none of them */
void
slot_table_open_indexes(SlotTable *table)
{
	Relation primary_key = NULL;

	if (table->scan)
		return;
	index_set_open(&table->indexes, table->rel);
	for (int i = 0; i < table->indexes.count; i++)
	{
		if (table->indexes.indexes[i]->rd_index->indisprimary)
			primary_key = table->indexes.indexes[i];
	}
	if (primary_key == NULL)
		elog(ERROR, "table \"balance_slot\" has no primary key");
	table->scan =
		index_beginscan(table->rel, primary_key, &table->dirty, 1, 0);
}

void
slot_table_end(SlotTable *table)
{
	ExecDropSingleTupleTableSlot(table->row);
	ExecDropSingleTupleTableSlot(table->new_row);
	if (table->scan)
	{
		index_endscan(table->scan);
		index_set_close(&table->indexes);
	}
	table_close(table->rel, NoLock);
}

static void
start_scan(SlotTable *table, const pg_uuid_t *account_id)
{
	ScanKeyData key;

	ScanKeyInit(&key, SLOT_ACCOUNT_ID, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(account_id));
	slot_table_open_indexes(table);
	index_rescan(table->scan, &key, 1, NULL, 0);
}

/* what *row and the dirty snapshot say */
static void
load_slot(SlotTable *table, FoundSlot *found)
{
	TransactionId xmin;
	bool		  isnull;

	slot_getallattrs(table->row);
	found->number = DatumGetInt64(table->row->tts_values[SLOT_SLOT - 1]);
	found->balance = DatumGetInt64(table->row->tts_values[SLOT_BALANCE - 1]);
	found->tid = table->row->tts_tid;
	found->buffer = hint_buffer(table->row);
	found->adder = table->dirty.xmin;
	found->busy = TransactionIdIsValid(table->dirty.xmin) ||
				  TransactionIdIsValid(table->dirty.xmax);
	xmin = DatumGetTransactionId(
		slot_getsysattr(table->row, MinTransactionIdAttributeNumber, &isnull));
	found->own = !found->busy && TransactionIdIsCurrentTransactionId(xmin);
}

static bool
next_slot(SlotTable *table, FoundSlot *found)
{
	if (!index_getnext_slot(table->scan, ForwardScanDirection, table->row))
		return false;
	load_slot(table, found);
	return true;
}

/* set *new_row to the account's slot with this balance */
static void
fill_slot(SlotTable *table, const pg_uuid_t *account_id, int64 number,
		  int64 balance)
{
	TupleTableSlot *row = table->new_row;

	ExecClearTuple(row);
	row->tts_values[SLOT_ACCOUNT_ID - 1] = UUIDPGetDatum(account_id);
	row->tts_values[SLOT_SLOT - 1] = Int64GetDatum(number);
	row->tts_values[SLOT_BALANCE - 1] = Int64GetDatum(balance);
	memset(row->tts_isnull, false, sizeof(bool) * SLOT_COLUMNS);
	/* columns that somebody added */
	memset(row->tts_isnull + SLOT_COLUMNS, true,
		   sizeof(bool) * (row->tts_tupleDescriptor->natts - SLOT_COLUMNS));
	ExecStoreVirtualTuple(row);
}

static void
insert_index_entries(SlotTable *table)
{
	slot_table_open_indexes(table);
	index_set_enter(&table->indexes, &table->new_row, 1);
}

#ifdef USE_ASSERT_CHECKING
/*
 * heap_update() can be told not to wait, and then says that the row is taken;
 * but no caller of the server's own does, and servers that were built with
 * assertions stop there.  For their sake the row is locked first.
 */
static bool
lock_free_slot(SlotTable *table, const ItemPointerData *address)
{
	ItemPointerData tid = *address;
	TM_FailureData	failure;

	return table_tuple_lock(table->rel, &tid, InvalidSnapshot, table->row,
							GetCurrentCommandId(true), LockTupleNoKeyExclusive,
							LockWaitSkip, 0, &failure) == TM_Ok;
}
#endif

/*
 * Add to a slot unless another transaction got there first.  "wait" is for a
 * slot that this transaction has locked: there is nothing to wait for then.
 */
bool
slot_try(SlotTable *table, const pg_uuid_t *account_id, const FoundSlot *found,
		 int64 delta, bool wait)
{
	ItemPointerData tid = found->tid;
	TM_FailureData	failure;
	LockTupleMode	lock_mode;
	bool			update_indexes;

	fill_slot(table, account_id, found->number,
			  money_add(found->balance, delta));
#ifdef USE_ASSERT_CHECKING
	if (!wait && !lock_free_slot(table, &tid))
		return false;
	wait = true;
#endif
	if (table_tuple_update(table->rel, &tid, table->new_row,
						   GetCurrentCommandId(true), InvalidSnapshot,
						   InvalidSnapshot, wait, &failure, &lock_mode,
						   &update_indexes) != TM_Ok)
		return false;
	if (update_indexes)
		insert_index_entries(table);

	remember_hint(table, account_id,
				  ItemPointerGetBlockNumber(&table->new_row->tts_tid) ==
						  ItemPointerGetBlockNumber(&found->tid)
					  ? found->buffer
					  : InvalidBuffer);
	return true;
}

/*
 * An index scan prunes the page that it leads to, a look by address does not.
 * Updates stay on their page, and need no index entries, as long as there is
 * room; so the page is pruned here when there is little left.  That is once
 * for many updates, where a scan would prune a page as this one, with half of
 * it kept free, each time.
 */
static void
make_room(SlotTable *table, BlockNumber block)
{
	Buffer buffer;
	Size   room;

	if (!TTS_IS_BUFFERTUPLE(table->row))
		return;
	/* without a lock, as heap_page_prune_opt() itself looks first */
	buffer = ((BufferHeapTupleTableSlot *) table->row)->buffer;
	room = PageGetHeapFreeSpace(BufferGetPage(buffer));
	if (room >= PRUNE_BELOW_BYTES)
		return;
	/* rows move on the page, so *row must not point into it any more */
	buffer = ReadBuffer(table->rel, block);
	ExecClearTuple(table->row);
	heap_page_prune_opt(table->rel, buffer);
	ReleaseBuffer(buffer);
}

/*
 * Whatever row is at the address by now, it is tried only when it is a slot
 * of this account that nobody else is writing to.
 */
static bool
try_address(SlotTable *table, const pg_uuid_t *account_id, const Hint *hint,
			int64 delta)
{
	FoundSlot found;

	if (!hint_fetch(table->rel, hint, &table->dirty, table->row))
		return false;
	load_slot(table, &found);
	if (found.busy ||
		memcmp(DatumGetUUIDP(table->row->tts_values[SLOT_ACCOUNT_ID - 1]),
			   account_id, UUID_LEN) != 0)
		return false;
	make_room(table, ItemPointerGetBlockNumber(&hint->tid));
	return slot_try(table, account_id, &found, delta, false);
}

/* the slot that this backend wrote last, else the one that anybody did */
static bool
try_hint(SlotTable *table, const pg_uuid_t *account_id, int64 delta)
{
	const SlotHint *slot = hint_of(account_id);
	bool known = memcmp(&slot->account_id, account_id, UUID_LEN) == 0;
	Hint own = slot->hint;
	Hint hint;

	if (known && try_address(table, account_id, &own, delta))
		return true;
	return hint_get(HINT_SLOT, account_id, &hint) &&
		   (!known || !ItemPointerEquals(&own.tid, &hint.tid)) &&
		   try_address(table, account_id, &hint, delta);
}

/*
 * All slots of the account, in order of their numbers.  Of one that is being
 * updated the scan shows the old and the new version; they count as one.
 */
void
slot_find_all(SlotTable *table, const pg_uuid_t *account_id, FoundSlots *found)
{
	FoundSlot slot;

	found->count = 0;
	start_scan(table, account_id);
	while (next_slot(table, &slot))
	{
		FoundSlot *last =
			found->count > 0 ? &found->slots[found->count - 1] : NULL;

		if (last != NULL && last->number == slot.number)
		{
			/* the old version is the one to wait for */
			if (!TransactionIdIsValid(slot.adder))
				*last = slot;
			last->busy = true;
			continue;
		}
		if (found->count == found->capacity)
		{
			found->capacity = Max(8, found->capacity * 2);
			found->slots = found->slots
							   ? repalloc(found->slots,
										  sizeof(FoundSlot) * found->capacity)
							   : palloc(sizeof(FoundSlot) * found->capacity);
		}
		found->slots[found->count++] = slot;
	}
}

/* own slots before others, those from a place of this backend's own on */
static bool
try_found(SlotTable *table, const pg_uuid_t *account_id,
		  const FoundSlots *found, int64 delta)
{
	for (int i = 0; i < found->count; i++)
	{
		if (found->slots[i].own)
			return slot_try(table, account_id, &found->slots[i], delta, false);
	}
	for (int i = 0; i < found->count; i++)
	{
		int at = (MyBackendId + i) % found->count;

		if (!found->slots[at].busy &&
			slot_try(table, account_id, &found->slots[at], delta, false))
			return true;
	}
	return false;
}

/*
 * The number of this transaction's slot.  A dump restored elsewhere brings
 * slots with numbers that transactions of the new server have yet to get;
 * stepping over those by a fixed distance keeps every transaction's numbers
 * its own.
 */
static int64
new_slot_number(const FoundSlots *found)
{
	int64 number = (int64) U64FromFullTransactionId(GetTopFullTransactionId());

	for (int i = 0; i < found->count; i++)
	{
		if (found->slots[i].number == number)
			number += SLOT_NUMBER_STEP;
	}
	return number;
}

static void
add_slot(SlotTable *table, const pg_uuid_t *account_id,
		 const FoundSlots *found, int64 delta)
{
	int64 number = new_slot_number(found);

	fill_slot(table, account_id, number, delta);
	table_tuple_insert(table->rel, table->new_row, GetCurrentCommandId(true),
					   0, NULL);
	insert_index_entries(table);
	remember_hint(table, account_id, InvalidBuffer);
}

/*
 * Every slot is taken and there may be no more: wait for one.  A posting asks
 * for slots in ascending order of accounts, after all its account locks, and
 * holds no other slot of this account, so that postings cannot wait for each
 * other in a circle.  (A transaction that posts several times can be part of
 * one; the deadlock detector ends that.)  Which slot to wait for depends on
 * the backend, so that not all wait for the same.
 */
static bool
wait_for_slot(SlotTable *table, const pg_uuid_t *account_id,
			  const FoundSlots *found, int64 delta)
{
	FoundSlot	   slot = found->slots[MyBackendId % found->count];
	TM_FailureData failure;
	bool		   isnull;

	if (TransactionIdIsValid(slot.adder))
	{
		XactLockTableWait(slot.adder, table->rel, &slot.tid, XLTW_Update);
		return false;
	}
	if (table_tuple_lock(table->rel, &slot.tid, InvalidSnapshot, table->row,
						 GetCurrentCommandId(false), LockTupleNoKeyExclusive,
						 LockWaitBlock, TUPLE_LOCK_FLAG_FIND_LAST_VERSION,
						 &failure) != TM_Ok)
		return false;
	slot.tid = table->row->tts_tid;
	slot.balance =
		DatumGetInt64(slot_getattr(table->row, SLOT_BALANCE, &isnull));
	return slot_try(table, account_id, &slot, delta, true);
}

/*
 * One transaction at a time adds a slot to an account, lest all that found
 * one missing do.  Whoever holds this lock waits for nothing else, and gives
 * it back at once; two accounts with one hash only wait a little more.
 */
static void
slot_count_tag(SlotTable *table, const pg_uuid_t *account_id, LOCKTAG *tag)
{
	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId, RelationRelationId,
					   RelationGetRelid(table->rel),
					   (uint16) hash_bytes(account_id->data, UUID_LEN));
}

/* false when there may be no more slots, and all are taken */
static bool
add_slot_if_allowed(SlotTable *table, const pg_uuid_t *account_id,
					FoundSlots *found, int64 delta)
{
	LOCKTAG tag;
	bool	done;

	if (found->count >= payment_max_balance_slots)
		return false;
	slot_count_tag(table, account_id, &tag);
	LockAcquire(&tag, ExclusiveLock, false, false);
	slot_find_all(table, account_id, found);
	done = try_found(table, account_id, found, delta);
	if (!done && found->count < payment_max_balance_slots)
	{
		add_slot(table, account_id, found, delta);
		done = true;
	}
	LockRelease(&tag, ExclusiveLock, false);
	return done;
}

/* add to the balance of an account */
void
slot_add(SlotTable *table, const pg_uuid_t *account_id, int64 delta)
{
	FoundSlots found = { 0 };

	table->searching = false;
	if (try_hint(table, account_id, delta))
		return;
	table->searching = true;
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		slot_find_all(table, account_id, &found);
		if (try_found(table, account_id, &found, delta))
			break;
		if (add_slot_if_allowed(table, account_id, &found, delta))
			break;
		if (found.count > 0 && wait_for_slot(table, account_id, &found, delta))
			break;
	}
	if (found.slots)
		pfree(found.slots);
}

/*
 * Wait for every other transaction that has posted to the account and is not
 * finished.  The caller has updated the account before; see account.c.
 */
void
slot_wait_for_postings(const pg_uuid_t *account_id)
{
	SlotTable table;
	bool	  waited;

	slot_table_begin(&table);
	do
	{
		waited = false;
		start_scan(&table, account_id);
		for (FoundSlot slot; !waited && next_slot(&table, &slot);)
		{
			TransactionId holder = TransactionIdIsValid(table.dirty.xmin)
									   ? table.dirty.xmin
									   : table.dirty.xmax;

			if (!slot.busy)
				continue;
			XactLockTableWait(holder, table.rel, &slot.tid, XLTW_Update);
			waited = true;
		}
		CHECK_FOR_INTERRUPTS();
	} while (waited);
	slot_table_end(&table);
}
