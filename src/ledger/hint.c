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
 * which keeps most addresses of others from being looked at.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "payment.h"
#include "port/atomics.h"
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

#define OFFSET_BITS 16
#define BLOCK_BITS 32
#define TAG_BITS 16

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

/* the words of a set, and the tag of the account among them */
static pg_atomic_uint64 *
words_of(HintKind kind, const pg_uuid_t *account_id, uint64 *tag)
{
	uint64 hash =
		hash_bytes_extended(account_id->data, UUID_LEN, MyDatabaseId);

	if (sets == NULL)
		use_memory(MemoryContextAlloc(TopMemoryContext,
									  memory_size(LOCAL_SETS)),
				   LOCAL_SETS, true);
	*tag = hash >> (64 - TAG_BITS);
	return sets[hash & set_mask].words[kind];
}

static uint64
tag_of(uint64 word)
{
	return word >> (BLOCK_BITS + OFFSET_BITS);
}

void
hint_set(HintKind kind, const pg_uuid_t *account_id,
		 const ItemPointerData *tid)
{
	uint64			  tag;
	pg_atomic_uint64 *words = words_of(kind, account_id, &tag);
	int				  way = tag % WAYS;
	uint64			  word = tag << (BLOCK_BITS + OFFSET_BITS) |
				  (uint64) ItemPointerGetBlockNumber(tid) << OFFSET_BITS |
				  ItemPointerGetOffsetNumber(tid);

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

bool
hint_get(HintKind kind, const pg_uuid_t *account_id, ItemPointerData *tid)
{
	uint64			  tag;
	pg_atomic_uint64 *words = words_of(kind, account_id, &tag);

	for (int i = 0; i < WAYS; i++)
	{
		uint64 word = pg_atomic_read_u64(&words[i]);

		if (word != 0 && tag_of(word) == tag)
		{
			ItemPointerSet(tid, (BlockNumber) (word >> OFFSET_BITS),
						   (OffsetNumber) word);
			return true;
		}
	}
	return false;
}

/*
 * Does the table have the block?  It may have become shorter since the address
 * was kept.  The number of blocks that this backend knows is no more than
 * there are: the table is locked, and who cut it off before told us when we
 * got the lock.
 */
bool
hint_block_exists(Relation rel, BlockNumber block)
{
	BlockNumber known =
		RelationGetSmgr(rel)->smgr_cached_nblocks[MAIN_FORKNUM];

	return (known != InvalidBlockNumber && block < known) ||
		   block < RelationGetNumberOfBlocks(rel);
}
