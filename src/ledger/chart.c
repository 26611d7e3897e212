/*-------------------------------------------------------------------------
 *
 * chart.c
 *	  The chart of accounts, and finding its accounts.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "payment.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "uuid7.h"

#include "ledger/posting.h"
#include "order/plan.h"

#define CACHE_MAX_ACCOUNTS 65536

typedef enum AccountOwner
{
	OWNER_PLATFORM,
	OWNER_PSP,
	OWNER_SELLER
} AccountOwner;

typedef enum AccountLimit
{
	NO_LIMIT,
	NEVER_DEBIT, /* max_balance 0 */
	NEVER_CREDIT /* min_balance 0 */
} AccountLimit;

typedef struct ChartEntry
{
	const char	*code;
	const char	*kind;
	AccountOwner owner;
	AccountLimit limit;
} ChartEntry;

/* clang-format off */
static const ChartEntry chart[ACCOUNT_CODE_COUNT] = {
	[ACCOUNT_PSP_RECEIVABLE] = { "psp_receivable", "asset", OWNER_PSP, NO_LIMIT },
	[ACCOUNT_PSP_FEE] = { "psp_fee", "expense", OWNER_PSP, NO_LIMIT },
	[ACCOUNT_SETTLEMENT_IN_TRANSIT] = { "settlement_in_transit", "asset", OWNER_PSP, NO_LIMIT },
	[ACCOUNT_UNIDENTIFIED_RECEIPTS] = { "unidentified_receipts", "liability", OWNER_PSP, NO_LIMIT },
	[ACCOUNT_RECON_SUSPENSE] = { "recon_suspense", "asset", OWNER_PSP, NO_LIMIT },
	[ACCOUNT_PLATFORM_FEE] = { "platform_fee", "revenue", OWNER_PLATFORM, NO_LIMIT },
	[ACCOUNT_BANK] = { "bank", "asset", OWNER_PLATFORM, NO_LIMIT },
	[ACCOUNT_WRITE_OFF] = { "write_off", "expense", OWNER_PLATFORM, NO_LIMIT },
	[ACCOUNT_FX_CLEARING] = { "fx_clearing", "equity", OWNER_PLATFORM, NO_LIMIT },
	[ACCOUNT_FX_GAIN] = { "fx_gain", "revenue", OWNER_PLATFORM, NO_LIMIT },
	[ACCOUNT_SELLER_PENDING] = { "seller_pending", "liability", OWNER_SELLER, NEVER_DEBIT },
	[ACCOUNT_SELLER_AVAILABLE] = { "seller_available", "liability", OWNER_SELLER, NEVER_DEBIT },
	[ACCOUNT_SELLER_RECEIVABLE] = { "seller_receivable", "asset", OWNER_SELLER, NEVER_CREDIT },
	[ACCOUNT_SELLER_DISPUTE_HOLD] = { "seller_dispute_hold", "liability", OWNER_SELLER, NEVER_DEBIT },
	[ACCOUNT_PAYOUT_CLEARING] = { "payout_clearing", "liability", OWNER_SELLER, NEVER_DEBIT },
	[ACCOUNT_REFUND_CLEARING] = { "refund_clearing", "liability", OWNER_PSP, NO_LIMIT },
	[ACCOUNT_DISPUTE_RECEIVABLE] = { "dispute_receivable", "asset", OWNER_PSP, NO_LIMIT },
	[ACCOUNT_DISPUTE_FEE] = { "dispute_fee", "expense", OWNER_PLATFORM, NO_LIMIT },
};
/* clang-format on */

static const int64 zero_limit = 0;

typedef struct CacheKey
{
	int32	  code;
	char	  currency[CURRENCY_CODE_LENGTH + 1];
	pg_uuid_t owner; /* zeros when it has none */
} CacheKey;

typedef struct CacheEntry
{
	CacheKey  key;
	pg_uuid_t account_id;
} CacheEntry;

static HTAB	 *cache = NULL;
static uint64 cache_generation = 0;

bool
chart_lookup(const char *name, AccountCode *code)
{
	for (int i = 0; i < ACCOUNT_CODE_COUNT; i++)
	{
		if (strcmp(chart[i].code, name) == 0)
		{
			*code = (AccountCode) i;
			return true;
		}
	}
	return false;
}

const char *
chart_kind(AccountCode code)
{
	return chart[code].kind;
}

bool
chart_has_owner(AccountCode code)
{
	return chart[code].owner != OWNER_PLATFORM;
}

const int64 *
chart_min_balance(AccountCode code)
{
	return chart[code].limit == NEVER_CREDIT ? &zero_limit : NULL;
}

const int64 *
chart_max_balance(AccountCode code)
{
	return chart[code].limit == NEVER_DEBIT ? &zero_limit : NULL;
}

/*
 * The cache holds committed accounts only, which are never removed.  It
 * starts anew when the table may be another one, and when it is full.
 */
static HTAB *
current_cache(void)
{
	HASHCTL control = { 0 };

	if (cache != NULL && (cache_generation != ledger_generation() ||
						  hash_get_num_entries(cache) >= CACHE_MAX_ACCOUNTS))
	{
		hash_destroy(cache);
		cache = NULL;
	}
	if (cache == NULL)
	{
		control.keysize = sizeof(CacheKey);
		control.entrysize = sizeof(CacheEntry);
		control.hcxt = TopMemoryContext;
		cache_generation = ledger_generation();
		cache = hash_create("ledger chart accounts", 256, &control,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	return cache;
}

/*
 * Look for the account by the latest snapshot.  *committed tells whether it
 * is there for good, and not only if this transaction commits.
 */
static bool
find_account(const char *code, const pg_uuid_t *owner, const char *currency,
			 pg_uuid_t *account_id, bool *committed)
{
	static SPIPlanPtr plans[2] = { NULL, NULL };
	static const Oid  types[] = { TEXTOID, TEXTOID, UUIDOID };
	Datum			  values[] = { CStringGetTextDatum(code),
								   CStringGetTextDatum(currency),
					   owner ? UUIDPGetDatum(owner) : (Datum) 0 };
	bool			  found;

	spi_begin();
	plan_keep(&plans[owner != NULL],
			  owner ? "SELECT id, xmin FROM payment.account WHERE code = $1 "
					  "AND currency = $2 AND owner = $3"
					: "SELECT id, xmin FROM payment.account WHERE code = $1 "
					  "AND currency = $2 AND owner IS NULL",
			  owner ? 3 : 2, types);
	SPI_execute_snapshot(plans[owner != NULL], values, NULL,
						 GetLatestSnapshot(), InvalidSnapshot, true, false, 1);
	found = SPI_processed > 0;
	if (found)
	{
		HeapTuple	  row = SPI_tuptable->vals[0];
		TupleDesc	  desc = SPI_tuptable->tupdesc;
		bool		  isnull;
		TransactionId xmin;

		*account_id = *DatumGetUUIDP(SPI_getbinval(row, desc, 1, &isnull));
		xmin = DatumGetTransactionId(SPI_getbinval(row, desc, 2, &isnull));
		*committed = !TransactionIdIsCurrentTransactionId(xmin);
	}
	spi_end();
	return found;
}

static void
check_chart_arguments(const ChartEntry *entry, const pg_uuid_t *owner,
					  const char *currency)
{
	if (entry->owner == OWNER_PLATFORM && owner != NULL)
		elog(ERROR, "account \"%s\" has no owner", entry->code);
	if (entry->owner != OWNER_PLATFORM && owner == NULL)
		elog(ERROR, "account \"%s\" needs an owner", entry->code);
	currency_check(currency);
}

/*
 * Two transactions that create the same account follow one another: the later
 * one waits in its INSERT, finds that there is nothing to add, and then sees
 * the other's by the latest snapshot.
 */
void
ledger_chart_account(AccountCode code, const pg_uuid_t *owner,
					 const char *currency, pg_uuid_t *account_id)
{
	const ChartEntry *entry = &chart[code];
	CacheKey		  key = { 0 };
	CacheEntry		 *cached;
	bool			  committed = false;

	key.code = code;
	strlcpy(key.currency, currency, sizeof(key.currency));
	if (owner)
		key.owner = *owner;
	cached = hash_search(current_cache(), &key, HASH_FIND, NULL);
	if (cached != NULL)
	{
		*account_id = cached->account_id;
		return;
	}

	check_chart_arguments(entry, owner, currency);
	while (!find_account(entry->code, owner, currency, account_id, &committed))
	{
		pg_uuid_t id;

		uuid7_generate(&id);
		account_insert(&id, entry->code, owner, currency, entry->kind,
					   chart_min_balance(code), chart_max_balance(code));
	}
	if (committed)
	{
		/* from here on we hear of it when the table goes away */
		table_close(ledger_open(LEDGER_ACCOUNT, AccessShareLock), NoLock);
		cached = hash_search(current_cache(), &key, HASH_ENTER, NULL);
		cached->account_id = *account_id;
	}
}
