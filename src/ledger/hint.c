/*-------------------------------------------------------------------------
 *
 * hint.c
 *	  Where the rows of accounts were seen last.
 *
 * A posting reads each account's row and updates one of its balance slots.
 * The way to a row through the index costs several times as much as the row
 * itself, so the addresses of rows are kept: in shared memory when the module
 * is preloaded, since accounts are many and each backend meets few of them
 * twice, else in the backend.
 *
 * An address is only where to look first.  Who looks has to check that the
 * row there is the one he wants, and go through the index otherwise.  So there
 * are no locks, nothing is ever removed, databases share the table without
 * being told apart, and where too many accounts fall together one gives way.
 * Each address is one word, read and written at once, with part of the hash,
 * which keeps most addresses of others from being looked at, and the buffer
 * that held the page, which most likely still does.
 *
 * Of 100,000 accounts hardly one is in the processor's caches.  What a posting
 * waits for is memory, one word leading to the next; so the words of all its
 * accounts are asked for at once, before any of them is needed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "payment.h"
#include "port/atomics.h"
#include "storage/buf_internals.h"
#include "storage/bufmgr.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "storage/smgr.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "ledger/posting.h"

/*
 * Both kinds of four accounts that fall together lie in one cache line, since
 * a posting asks for both.
 */
#define WAYS 4
#define SHARED_SETS (1 << 16) /* 4 MB: good for 200,000 accounts */
#define LOCAL_SETS (1 << 9)

/*
 * A word: tag, buffer, block, offset.  Rows behind the last block that has
 * room here (128 GB of pages) are found through the index, and a buffer that
 * has none through the server's own table of buffers.
 */
#define OFFSET_BITS (BLCKSZ > 8192 ? 11 : 9)
#define BLOCK_BITS 24
#define TAG_BITS 7
#define BUFFER_BITS (64 - TAG_BITS - BLOCK_BITS - OFFSET_BITS)
#define BITS(count) ((UINT64CONST(1) << (count)) - 1)

StaticAssertDecl(MaxHeapTuplesPerPage <= BITS(OFFSET_BITS),
				 "offsets of rows do not fit into a hint");

/* as many as a processor has misses under way, roughly */
#define PREFETCH_ACCOUNTS 8

typedef struct HintSet
{
	pg_atomic_uint64 words[HINT_KIND_COUNT][WAYS];
} HintSet;

static HintSet *sets = NULL;
static uint64	set_mask = 0;

static Size
memory_size(Size count)
{
	/* room to begin at a cache line */
	return add_size(mul_size(count, sizeof(HintSet)), PG_CACHE_LINE_SIZE);
}

void
hint_request_memory(void)
{
	RequestAddinShmemSpace(memory_size(SHARED_SETS));
}

static void
use_memory(void *memory, uint64 count, bool clear)
{
	sets = (HintSet *) CACHELINEALIGN(memory);
	set_mask = count - 1;
	if (!clear)
		return;
	for (uint64 i = 0; i < count; i++)
	{
		for (int way = 0; way < WAYS; way++)
		{
			pg_atomic_init_u64(&sets[i].words[HINT_ACCOUNT][way], 0);
			pg_atomic_init_u64(&sets[i].words[HINT_SLOT][way], 0);
		}
	}
}

/* the caller holds AddinShmemInitLock */
void
hint_attach_memory(void)
{
	bool  found;
	void *memory = ShmemInitStruct("payment ledger hints",
								   memory_size(SHARED_SETS), &found);

	use_memory(memory, SHARED_SETS, !found);
}

static HintSet *
set_of(const pg_uuid_t *account_id, uint64 *tag)
{
	uint64 hash =
		hash_bytes_extended(account_id->data, UUID_LEN, MyDatabaseId);

	if (sets == NULL)
		use_memory(MemoryContextAlloc(TopMemoryContext,
									  memory_size(LOCAL_SETS)),
				   LOCAL_SETS, true);
	*tag = hash >> (64 - TAG_BITS);
	return &sets[hash & set_mask];
}

static uint64
tag_of(uint64 word)
{
	return word >> (64 - TAG_BITS);
}

/* 0, which no address is, when it does not fit */
static uint64
pack(uint64 tag, const ItemPointerData *tid, Buffer buffer)
{
	BlockNumber block = ItemPointerGetBlockNumber(tid);
	uint64		held_by = 0;

	if (block > BITS(BLOCK_BITS))
		return 0;
	/* below zero are the buffers of temporary tables, for one backend only */
	if (buffer > 0 && (uint64) buffer <= BITS(BUFFER_BITS))
		held_by = (uint64) buffer;
	return ((tag << BUFFER_BITS | held_by) << BLOCK_BITS | block)
			   << OFFSET_BITS |
		   ItemPointerGetOffsetNumber(tid);
}

static void
unpack(uint64 word, Hint *hint)
{
	ItemPointerSet(&hint->tid,
				   (BlockNumber) (word >> OFFSET_BITS & BITS(BLOCK_BITS)),
				   (OffsetNumber) (word & BITS(OFFSET_BITS)));
	hint->buffer =
		(Buffer) (word >> (OFFSET_BITS + BLOCK_BITS) & BITS(BUFFER_BITS));
}

void
hint_set(HintKind kind, const pg_uuid_t *account_id, const Hint *hint)
{
	uint64			  tag;
	pg_atomic_uint64 *words = set_of(account_id, &tag)->words[kind];
	int				  way = tag % WAYS;
	uint64			  word = pack(tag, &hint->tid, hint->buffer);

	/* its own place, else a free one, else that of whoever is there */
	for (int i = 0; i < WAYS; i++)
	{
		uint64 present = pg_atomic_read_u64(&words[i]);

		/* others keep the line in their caches while nothing changes */
		if (present == word)
			return;
		if (present == 0)
			way = i;
		else if (tag_of(present) == tag)
		{
			way = i;
			break;
		}
	}
	pg_atomic_write_u64(&words[way], word);
}

static bool
find(HintSet *set, HintKind kind, uint64 tag, Hint *hint)
{
	for (int i = 0; i < WAYS; i++)
	{
		uint64 word = pg_atomic_read_u64(&set->words[kind][i]);

		if (word != 0 && tag_of(word) == tag)
		{
			unpack(word, hint);
			return true;
		}
	}
	return false;
}

bool
hint_get(HintKind kind, const pg_uuid_t *account_id, Hint *hint)
{
	uint64	 tag;
	HintSet *set = set_of(account_id, &tag);

	return find(set, kind, tag, hint);
}

static void
ask_for_sets(const TouchedAccount *accounts, int count)
{
	uint64 tag;

	for (int i = 0; i < count; i++)
		__builtin_prefetch(set_of(&accounts[i].id, &tag));
}

/* every hint of the accounts whose buffer is known */
static int
find_all(const TouchedAccount *accounts, int count, Hint *hints)
{
	int found = 0;

	for (int i = 0; i < count; i++)
	{
		uint64	 tag;
		HintSet *set = set_of(&accounts[i].id, &tag);

		for (int kind = 0; kind < HINT_KIND_COUNT; kind++)
		{
			if (find(set, kind, tag, &hints[found]) &&
				hints[found].buffer > 0 && hints[found].buffer <= NBuffers)
				found++;
		}
	}
	return found;
}

static ItemId
line_pointer(const Hint *hint)
{
	return PageGetItemId((Page) BufferGetBlock(hint->buffer),
						 ItemPointerGetOffsetNumber(&hint->tid));
}

/*
 * Nobody keeps the page in its buffer: whatever is there by now, it is memory
 * of this process, and nothing is decided by it.
 */
static void
ask_for_pages(const TouchedAccount *accounts, int count)
{
	Hint hints[PREFETCH_ACCOUNTS * HINT_KIND_COUNT];
	int	 found = find_all(accounts, count, hints);

	for (int i = 0; i < found; i++)
	{
		__builtin_prefetch(GetBufferDescriptor(hints[i].buffer - 1), 1);
		__builtin_prefetch(BufferGetBlock(hints[i].buffer));
		__builtin_prefetch(line_pointer(&hints[i]));
	}
}

static void
ask_for_rows(const TouchedAccount *accounts, int count)
{
	Hint hints[PREFETCH_ACCOUNTS * HINT_KIND_COUNT];
	int	 found = find_all(accounts, count, hints);

	for (int i = 0; i < found; i++)
	{
		char *row = (char *) BufferGetBlock(hints[i].buffer) +
					ItemIdGetOffset(line_pointer(&hints[i]));

		__builtin_prefetch(row);
		__builtin_prefetch(row + PG_CACHE_LINE_SIZE / 2);
	}
}

static void
ask(void (*step)(const TouchedAccount *, int), const TouchedAccount *accounts,
	int count, int group)
{
	int first = group * PREFETCH_ACCOUNTS;

	if (first < count)
		step(&accounts[first], Min(PREFETCH_ACCOUNTS, count - first));
}

/* as soon as the accounts of a posting are known */
void
hint_prefetch_begin(const TouchedAccount *accounts, int count)
{
	for (int group = 0; group < 3; group++)
		ask(ask_for_sets, accounts, count, group);
}

/*
 * To be called before each account in turn is looked at.  A step needs what
 * the one before it has brought, so of groups of accounts that follow one
 * another each is a step ahead of the next.
 */
void
hint_prefetch(const TouchedAccount *accounts, int count, int position)
{
	int group = position / PREFETCH_ACCOUNTS;

	if (position % PREFETCH_ACCOUNTS != 0)
		return;
	if (group == 0)
	{
		ask(ask_for_pages, accounts, count, 0);
		ask(ask_for_pages, accounts, count, 1);
		ask(ask_for_rows, accounts, count, 0);
	}
	ask(ask_for_sets, accounts, count, group + 3);
	ask(ask_for_pages, accounts, count, group + 2);
	ask(ask_for_rows, accounts, count, group + 1);
}

/*
 * Does the table have the block?  It may have become shorter since the address
 * was kept.  The number of blocks that this backend knows is no more than
 * there are: the table is locked, and who cut it off before told us when we
 * got the lock.
 */
static bool
block_exists(Relation rel, BlockNumber block)
{
	BlockNumber known =
		RelationGetSmgr(rel)->smgr_cached_nblocks[MAIN_FORKNUM];

	return (known != InvalidBlockNumber && block < known) ||
		   block < RelationGetNumberOfBlocks(rel);
}

/* the buffer that the row in a slot holds on to; for hints, nothing else */
Buffer
hint_buffer(TupleTableSlot *row)
{
	return TTS_IS_BUFFERTUPLE(row) && !TTS_EMPTY(row)
			   ? ((BufferHeapTupleTableSlot *) row)->buffer
			   : InvalidBuffer;
}

/* the row, when the page is pinned in the buffer; keeps the pin in *row then */
static bool
fetch_pinned(Relation rel, const Hint *hint, Snapshot snapshot,
			 TupleTableSlot *row)
{
	BufferHeapTupleTableSlot *slot = (BufferHeapTupleTableSlot *) row;
	HeapTuple				  tuple = &slot->base.tupdata;
	OffsetNumber			  offset = ItemPointerGetOffsetNumber(&hint->tid);
	Page					  page = BufferGetPage(hint->buffer);
	bool					  visible = false;

	LockBuffer(hint->buffer, BUFFER_LOCK_SHARE);
	if (offset <= PageGetMaxOffsetNumber(page) &&
		ItemIdIsNormal(PageGetItemId(page, offset)))
	{
		ItemId item = PageGetItemId(page, offset);

		tuple->t_self = hint->tid;
		tuple->t_data = (HeapTupleHeader) PageGetItem(page, item);
		tuple->t_len = ItemIdGetLength(item);
		tuple->t_tableOid = RelationGetRelid(rel);
		visible = HeapTupleSatisfiesVisibility(tuple, snapshot, hint->buffer);
	}
	LockBuffer(hint->buffer, BUFFER_LOCK_UNLOCK);
	if (visible)
		ExecStorePinnedBufferHeapTuple(tuple, row, hint->buffer);
	else
		ReleaseBuffer(hint->buffer);
	return visible;
}

/*
 * The row at the address, whatever it is by now, if the snapshot, which must
 * be a dirty one, shows it.  When the buffer still has the page, the server's
 * table of buffers need not be asked where it is.
 */
bool
hint_fetch(Relation rel, const Hint *hint, Snapshot snapshot,
		   TupleTableSlot *row)
{
	ItemPointerData tid = hint->tid;
	BlockNumber		block = ItemPointerGetBlockNumber(&tid);

	ExecClearTuple(row);
	if (BufferIsValid(hint->buffer) && hint->buffer <= NBuffers &&
		ReadRecentBuffer(rel->rd_node, MAIN_FORKNUM, block, hint->buffer))
		return fetch_pinned(rel, hint, snapshot, row);
	return block_exists(rel, block) &&
		   table_tuple_fetch_row_version(rel, &tid, snapshot, row);
}
