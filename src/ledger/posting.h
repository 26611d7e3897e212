/*-------------------------------------------------------------------------
 *
 * posting.h
 *	  What the files of the ledger share, and nobody else needs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_POSTING_H
#define PAYMENT_POSTING_H

#include "access/genam.h"
#include "executor/tuptable.h"
#include "money.h"
#include "nodes/execnodes.h"
#include "storage/buf.h"
#include "storage/itemptr.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

#include "ledger/ledger.h"

#define LEDGER_MAX_JOURNALS 100000 /* in one call */
#define LEDGER_MAX_JOURNAL_LEGS 10000
#define LEDGER_MAX_LEGS 1000000	  /* in one call */
#define LEDGER_MAX_NAME_LENGTH 63 /* of kinds and codes */

/* columns, as the script creates them */
#define ACCOUNT_ID 1
#define ACCOUNT_CODE 2
#define ACCOUNT_OWNER 3
#define ACCOUNT_CURRENCY 4
#define ACCOUNT_KIND 5
#define ACCOUNT_MIN_BALANCE 6
#define ACCOUNT_MAX_BALANCE 7
#define ACCOUNT_STATE 8
#define ACCOUNT_COLUMNS 8

#define JOURNAL_ID 1
#define JOURNAL_KIND 2
#define JOURNAL_SUBJECT 3
#define JOURNAL_REVERSES 4
#define JOURNAL_EFFECTIVE_AT 5
#define JOURNAL_RECORDED_AT 6
#define JOURNAL_DESCRIPTION 7
#define JOURNAL_COLUMNS 7

#define ENTRY_JOURNAL_ID 1
#define ENTRY_LEG 2
#define ENTRY_ACCOUNT_ID 3
#define ENTRY_AMOUNT 4
#define ENTRY_COLUMNS 4

#define SLOT_ACCOUNT_ID 1
#define SLOT_SLOT 2
#define SLOT_BALANCE 3
#define SLOT_COLUMNS 3

#define HOLD_ID 1
#define HOLD_ACCOUNT_ID 2
#define HOLD_AMOUNT 3
#define HOLD_POSTED 4
#define HOLD_STATE 5
#define HOLD_EXPIRES_AT 6

typedef enum LedgerTable
{
	LEDGER_ACCOUNT,
	LEDGER_JOURNAL,
	LEDGER_ENTRY,
	LEDGER_BALANCE_SLOT,
	LEDGER_HOLD,
	LEDGER_TABLE_COUNT
} LedgerTable;

/* an account that a call posts to, and by how much in all */
typedef struct TouchedAccount
{
	pg_uuid_t		id;
	int64			delta;
	ItemPointerData tid; /* the version that was checked */
	TupleTableSlot *row; /* that version, kept in its buffer, or NULL */
	char			currency[CURRENCY_CODE_LENGTH + 1];
	char			code[LEDGER_MAX_NAME_LENGTH + 1];
	char			kind[16];
	char			state[16];
	bool			has_min;
	bool			has_max;
	int64			min_balance;
	int64			max_balance;
	bool			has_balance; /* the check of its limit told the next */
	int64			balance;	 /* after the posting, debits positive */
} TouchedAccount;

/* a balance after a posting, on the side that is normal for the account */
typedef struct LedgerBalance
{
	pg_uuid_t account_id;
	int64	  posted;
} LedgerBalance;

/* what a file of the ledger may ask of a posting beyond the posting itself */
typedef struct PostingExtras
{
	/* the balances after it, ascending by account, in the caller's memory */
	bool		   wants_balances;
	LedgerBalance *balances;
	int			   balance_count;
} PostingExtras;

/* relations.c */
extern Relation ledger_open(LedgerTable table, LOCKMODE lockmode);
/* against being altered, until the end of the transaction */
extern void ledger_lock(LedgerTable table);
/* counts up whenever one of the tables may have been replaced */
extern uint64 ledger_generation(void);

/* hint.c */
typedef enum HintKind
{
	HINT_ACCOUNT, /* the account's row */
	HINT_SLOT,	  /* a balance slot of it */
	HINT_KIND_COUNT
} HintKind;

/* where a row was seen last, and the buffer that had its page then, if known */
typedef struct Hint
{
	ItemPointerData tid;
	Buffer			buffer;
} Hint;

extern void	  hint_set(HintKind kind, const pg_uuid_t *account_id,
					   const Hint *hint);
extern bool	  hint_get(HintKind kind, const pg_uuid_t *account_id, Hint *hint);
extern void	  hint_prefetch_begin(const TouchedAccount *accounts, int count);
extern void	  hint_prefetch(const TouchedAccount *accounts, int count,
							int position);
extern Buffer hint_buffer(TupleTableSlot *row);
extern bool	  hint_fetch(Relation rel, const Hint *hint, Snapshot snapshot,
						 TupleTableSlot *row);

/* account.c */
#define KEPT_ACCOUNT_ROWS 4

typedef struct AccountReader
{
	Relation		rel;
	Relation		index; /* opened when needed, as is scan */
	IndexScanDesc	scan;
	SnapshotData	dirty;
	TupleTableSlot *row;					 /* read last */
	TupleTableSlot *kept[KEPT_ACCOUNT_ROWS]; /* those of the first accounts */
	int				kept_count;
} AccountReader;

extern void account_reader_begin(AccountReader *reader, LOCKMODE lockmode);
extern bool account_read(AccountReader *reader, TouchedAccount *account);
extern void account_lock(AccountReader *reader, TouchedAccount *account);
extern bool account_is_unchanged(AccountReader		  *reader,
								 const TouchedAccount *account);
extern void account_reader_end(AccountReader *reader);

/* what is committed, or this transaction's own */
extern bool account_find(const pg_uuid_t *id, TouchedAccount *account);
extern bool account_write_active(void);
extern bool account_insert(const pg_uuid_t *id, const char *code,
						   const pg_uuid_t *owner, const char *currency,
						   const char *kind, const int64 *min_balance,
						   const int64 *max_balance);

extern bool account_update_state(const pg_uuid_t *id, const char *state);
extern bool account_update_limits(const pg_uuid_t *id,
								  const int64	  *min_balance,
								  const int64	  *max_balance);

extern bool	 account_is_debit_normal(const TouchedAccount *account);
extern int64 account_normal_side(const TouchedAccount *account, int64 balance);

/* index_rows.c: a table's indexes while rows are written to it */
typedef struct IndexSet
{
	Relation	   table;
	Relation	  *indexes;
	int			   count;
	EState		  *estate; /* NULL: the executor is not needed */
	ResultRelInfo *result;
} IndexSet;

extern void index_set_open(IndexSet *set, Relation table);
extern void index_set_enter(IndexSet *set, TupleTableSlot **rows, int count);
extern void index_set_close(IndexSet *set);

/* slot.c */
typedef struct SlotTable
{
	Relation		rel;
	IndexSet		indexes; /* opened when needed, as is scan */
	IndexScanDesc	scan;	 /* NULL: both are not open */
	SnapshotData	dirty;
	TupleTableSlot *row;
	TupleTableSlot *new_row;
	bool			searching; /* among the slots, no hint having led to one */
} SlotTable;

/* one slot, as a scan found it */
typedef struct FoundSlot
{
	int64			number;
	int64			balance;
	ItemPointerData tid;
	TransactionId	adder;	/* another transaction that is adding it */
	Buffer			buffer; /* that had it, not pinned */
	bool			busy;	/* another transaction writes to it */
	bool			own;	/* this transaction wrote to it */
} FoundSlot;

typedef struct FoundSlots
{
	FoundSlot *slots;
	int		   count;
	int		   capacity;
} FoundSlots;

extern void slot_table_begin(SlotTable *table);
extern void slot_table_open_indexes(SlotTable *table);
extern void slot_add(SlotTable *table, const pg_uuid_t *account_id,
					 int64 delta);
extern void slot_table_end(SlotTable *table);
extern void slot_find_all(SlotTable *table, const pg_uuid_t *account_id,
						  FoundSlots *found);
extern bool slot_try(SlotTable *table, const pg_uuid_t *account_id,
					 const FoundSlot *found, int64 delta, bool wait);
extern void slot_wait_for_postings(const pg_uuid_t *account_id);

/* statement.c: SPI by one snapshot, the latest, of all that is attached */
extern void ledger_read_begin(void);
extern void ledger_read_end(void);

/* write.c */
extern void write_journals(const LedgerJournal *journals, int count);

/* chart.c */
extern bool			chart_lookup(const char *name, AccountCode *code);
extern const char  *chart_kind(AccountCode code);
extern bool			chart_has_owner(AccountCode code);
extern const int64 *chart_min_balance(AccountCode code);
extern const int64 *chart_max_balance(AccountCode code);

/* balance.c */
typedef struct BalanceReader
{
	Relation		rel;
	Relation		index;
	Snapshot		snapshot;
	IndexScanDesc	scan;
	TupleTableSlot *row;
} BalanceReader;

extern void	 balance_reader_begin(BalanceReader *reader);
extern int64 balance_read(BalanceReader *reader, const pg_uuid_t *account_id);
extern void	 balance_reader_end(BalanceReader *reader);
extern Datum balance_row(TupleDesc desc, const TouchedAccount *account,
						 BalanceReader *reader);

/* post.c */
extern void	 ledger_post_with(LedgerJournal *journals, int count,
							  PostingExtras *extras);
extern char *int128_text(int128 value);
extern void	 ledger_check_name(const char *argument, const char *name);
extern void	 refuse_size(const char *what, int64 count, int limit);

#endif /* PAYMENT_POSTING_H */
