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
 * being told apart, and of two accounts that fall on one place the later wins.
 * Each place is one word, read and written at once: address and part of the
 * hash, which keeps most addresses of others from being looked at.
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

#define SHARED_PLACES (1 << 19) /* 4 MB for each kind of row */
#define LOCAL_PLACES (1 << 12)

#define OFFSET_BITS 16
#define BLOCK_BITS 32
#define TAG_BITS 16

static pg_atomic_uint64 *places = NULL;
static uint64			 place_mask = 0;

static Size
shared_size(void)
{
	return mul_size(HINT_KIND_COUNT * SHARED_PLACES, sizeof(pg_atomic_uint64));
}

void
hint_request_memory(void)
{
	RequestAddinShmemSpace(shared_size());
}

static void
clear_places(uint64 count)
{
	for (uint64 i = 0; i < HINT_KIND_COUNT * count; i++)
		pg_atomic_init_u64(&places[i], 0);
}

/* the caller holds AddinShmemInitLock */
void
hint_attach_memory(void)
{
	bool found;

	places = ShmemInitStruct("payment ledger hints", shared_size(), &found);
	place_mask = SHARED_PLACES - 1;
	if (!found)
		clear_places(SHARED_PLACES);
}

static pg_atomic_uint64 *
place_of(HintKind kind, const pg_uuid_t *account_id, uint64 *tag)
{
	uint64 hash =
		hash_bytes_extended(account_id->data, UUID_LEN, MyDatabaseId);

	if (places == NULL)
	{
		places = MemoryContextAlloc(TopMemoryContext,
									HINT_KIND_COUNT * LOCAL_PLACES *
										sizeof(pg_atomic_uint64));
		place_mask = LOCAL_PLACES - 1;
		clear_places(LOCAL_PLACES);
	}
	*tag = hash >> (64 - TAG_BITS);
	return &places[kind * (place_mask + 1) + (hash & place_mask)];
}

void
hint_set(HintKind kind, const pg_uuid_t *account_id,
		 const ItemPointerData *tid)
{
	uint64			  tag;
	pg_atomic_uint64 *place = place_of(kind, account_id, &tag);
	uint64			  word = tag << (BLOCK_BITS + OFFSET_BITS) |
				  (uint64) ItemPointerGetBlockNumber(tid) << OFFSET_BITS |
				  ItemPointerGetOffsetNumber(tid);

	/* others keep the line in their caches while nothing changes */
	if (pg_atomic_read_u64(place) != word)
		pg_atomic_write_u64(place, word);
}

bool
hint_get(HintKind kind, const pg_uuid_t *account_id, ItemPointerData *tid)
{
	uint64 tag;
	uint64 word = pg_atomic_read_u64(place_of(kind, account_id, &tag));

	if (word == 0 || word >> (BLOCK_BITS + OFFSET_BITS) != tag)
		return false;
	ItemPointerSet(tid, (BlockNumber) (word >> OFFSET_BITS),
				   (OffsetNumber) word);
	return true;
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
