/*-------------------------------------------------------------------------
 *
 * account.c
 *	  Reading and locking accounts for a posting; adding and changing them.
 *
 * A posting must never act on an account that somebody is just freezing,
 * closing or limiting.  It does not lock the account for that (every payment
 * touches the same few).  Instead both sides first write, then look:
 *
 *	posting		waits out a change in progress, checks the account, writes
 *				its balance slot, and looks at the account once more; if it
 *				has changed, or is being changed, the posting fails with a
 *				serialization failure;
 *	change		updates the account, then waits for all transactions that
 *				hold a slot of it.
 *
 * Whichever writes second sees the other.  The second look never waits, so
 * the two cannot deadlock there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "ledger/posting.h"
#include "order/plan.h"

/* above zero while this backend's own functions write to the table account */
static int account_writes = 0;

void
account_reader_begin(AccountReader *reader, LOCKMODE lockmode)
{
	reader->rel = ledger_open(LEDGER_ACCOUNT, lockmode);
	reader->index = NULL;
	reader->scan = NULL;
	InitDirtySnapshot(reader->dirty);
	reader->row = table_slot_create(reader->rel, NULL);
	reader->kept_count = 0;
}

static void
open_index(AccountReader *reader)
{
	Oid index_id;

	if (reader->scan)
		return;
	index_id = RelationGetPrimaryKeyIndex(reader->rel);
	if (!OidIsValid(index_id))
		elog(ERROR, "table \"account\" has no primary key");
	reader->index = index_open(index_id, AccessShareLock);
	reader->scan =
		index_beginscan(reader->rel, reader->index, &reader->dirty, 1, 0);
}

void
account_reader_end(AccountReader *reader)
{
	for (int i = 0; i < reader->kept_count; i++)
		ExecDropSingleTupleTableSlot(reader->kept[i]);
	ExecDropSingleTupleTableSlot(reader->row);
	if (reader->scan)
	{
		index_endscan(reader->scan);
		index_close(reader->index, AccessShareLock);
	}
	table_close(reader->rel, NoLock);
}

static void
copy_name(char *target, size_t size, Datum value)
{
	text  *name = DatumGetTextPP(value);
	size_t length = Min((size_t) VARSIZE_ANY_EXHDR(name), size - 1);

	memcpy(target, VARDATA_ANY(name), length);
	target[length] = '\0';
	if (name != (text *) DatumGetPointer(value))
		pfree(name);
}

/* take over what the row says; code and kind are cut only in messages */
static void
load_account(TupleTableSlot *row, TouchedAccount *account)
{
	bool isnull;

	slot_getallattrs(row);
	account->tid = row->tts_tid;
	copy_name(account->code, sizeof(account->code),
			  row->tts_values[ACCOUNT_CODE - 1]);
	copy_name(account->currency, sizeof(account->currency),
			  row->tts_values[ACCOUNT_CURRENCY - 1]);
	copy_name(account->kind, sizeof(account->kind),
			  row->tts_values[ACCOUNT_KIND - 1]);
	copy_name(account->state, sizeof(account->state),
			  row->tts_values[ACCOUNT_STATE - 1]);
	account->min_balance =
		DatumGetInt64(slot_getattr(row, ACCOUNT_MIN_BALANCE, &isnull));
	account->has_min = !isnull;
	account->max_balance =
		DatumGetInt64(slot_getattr(row, ACCOUNT_MAX_BALANCE, &isnull));
	account->has_max = !isnull;
}

/* the committed version, without waiting for anybody */
static bool
read_committed(AccountReader *reader, TouchedAccount *account)
{
	Snapshot	  snapshot = RegisterSnapshot(GetLatestSnapshot());
	IndexScanDesc scan;
	ScanKeyData	  key;
	bool		  found;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(&account->id));
	open_index(reader);
	scan = index_beginscan(reader->rel, reader->index, snapshot, 1, 0);
	index_rescan(scan, &key, 1, NULL, 0);
	found = index_getnext_slot(scan, ForwardScanDirection, reader->row);
	if (found)
		load_account(reader->row, account);
	index_endscan(scan);
	UnregisterSnapshot(snapshot);
	return found;
}

bool
account_find(const pg_uuid_t *id, TouchedAccount *account)
{
	AccountReader reader;
	bool		  found;

	account->id = *id;
	account->row = NULL;
	account_reader_begin(&reader, AccessShareLock);
	found = read_committed(&reader, account);
	account_reader_end(&reader);
	return found;
}

/*
 * A balance on the side that is normal for the kind of account: debits for
 * asset, expense and memo, credits for the others.
 */
bool
account_is_debit_normal(const TouchedAccount *account)
{
	return strcmp(account->kind, "asset") == 0 ||
		   strcmp(account->kind, "expense") == 0 ||
		   strcmp(account->kind, "memo") == 0;
}

int64
account_normal_side(const TouchedAccount *account, int64 balance)
{
	return account_is_debit_normal(account) ? balance : money_negate(balance);
}

/* somebody is changing the version in *row, which a dirty snapshot showed */
static TransactionId
changer_of(const AccountReader *reader)
{
	return TransactionIdIsValid(reader->dirty.xmin) ? reader->dirty.xmin
													: reader->dirty.xmax;
}

static void
keep_hint(AccountReader *reader, const TouchedAccount *account)
{
	Hint hint = { .tid = account->tid, .buffer = hint_buffer(reader->row) };

	hint_set(HINT_ACCOUNT, &account->id, &hint);
}

/* the newest version, when it is still where it was seen last */
static bool
read_at_hint(AccountReader *reader, TouchedAccount *account)
{
	Hint hint;

	if (!hint_get(HINT_ACCOUNT, &account->id, &hint) ||
		!hint_fetch(reader->rel, &hint, &reader->dirty, reader->row) ||
		TransactionIdIsValid(changer_of(reader)))
		return false;
	slot_getallattrs(reader->row);
	if (memcmp(DatumGetUUIDP(reader->row->tts_values[ACCOUNT_ID - 1]),
			   &account->id, UUID_LEN) != 0)
		return false;
	load_account(reader->row, account);
	if (hint_buffer(reader->row) != hint.buffer)
		keep_hint(reader, account);
	return true;
}

/* the newest version, through the index */
static bool
read_newest(AccountReader *reader, TouchedAccount *account)
{
	ScanKeyData key;

	open_index(reader);
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(&account->id));
	for (;;)
	{
		TransactionId changer;

		CHECK_FOR_INTERRUPTS();
		index_rescan(reader->scan, &key, 1, NULL, 0);
		if (!index_getnext_slot(reader->scan, ForwardScanDirection,
								reader->row))
		{
			if (!read_committed(reader, account))
				return false;
			continue;
		}
		changer = changer_of(reader);
		if (!TransactionIdIsValid(changer))
			break;
		XactLockTableWait(changer, reader->rel, &reader->row->tts_tid,
						  XLTW_Lock);
	}
	load_account(reader->row, account);
	keep_hint(reader, account);
	return true;
}

/*
 * The row read last stays with its account, as long as there are few: to look
 * at it again its buffer need not be found again.  *row is for the next.
 */
static void
keep_row(AccountReader *reader, TouchedAccount *account)
{
	account->row = NULL;
	if (reader->kept_count == KEPT_ACCOUNT_ROWS)
		return;
	account->row = reader->row;
	reader->kept[reader->kept_count++] = reader->row;
	reader->row = table_slot_create(reader->rel, NULL);
}

/*
 * Read the newest version of an account, at every isolation level, after
 * waiting for whoever is changing it.  False when there is no such account.
 *
 * The dirty snapshot shows changes in progress, and leaves no predicate locks
 * that would make serializable postings to one account fail each other.  But
 * a scan with it can miss a row that just moved to another page, so only an
 * MVCC snapshot can say that there is none.
 */
bool
account_read(AccountReader *reader, TouchedAccount *account)
{
	if (!read_at_hint(reader, account) && !read_newest(reader, account))
		return false;
	keep_row(reader, account);
	return true;
}

/*
 * Take the row lock under which postings towards a limit follow one another,
 * and read the account again: it may have changed before the lock was ours.
 */
void
account_lock(AccountReader *reader, TouchedAccount *account)
{
	TupleTableSlot *row = account->row ? account->row : reader->row;
	TM_FailureData	failure;
	TM_Result		result;

	result = table_tuple_lock(reader->rel, &account->tid, InvalidSnapshot, row,
							  GetCurrentCommandId(false),
							  LockTupleNoKeyExclusive, LockWaitBlock,
							  TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure);
	if (result != TM_Ok)
		elog(ERROR, "account row could not be locked: status %d",
			 (int) result);
	load_account(row, account);
}

/*
 * Is the version that was checked still the newest, and nobody changing it?
 * Our snapshot keeps the version from being removed, so its address cannot
 * belong to another row yet.
 */
bool
account_is_unchanged(AccountReader *reader, const TouchedAccount *account)
{
	ItemPointerData tid = account->tid;
	bool			found;

	if (account->row)
		found = table_tuple_satisfies_snapshot(reader->rel, account->row,
											   &reader->dirty);
	else
		found = table_tuple_fetch_row_version(reader->rel, &tid,
											  &reader->dirty, reader->row);
	return found && !TransactionIdIsValid(changer_of(reader));
}

bool
account_write_active(void)
{
	return account_writes > 0;
}

/* run a plan that changes the table, past the guard */
static uint64
account_execute(SPIPlanPtr plan, Datum *values, const char *nulls)
{
	int code;

	account_writes++;
	PG_TRY();
	{
		code = SPI_execute_plan(plan, values, nulls, false, 0);
	}
	PG_FINALLY();
	{
		account_writes--;
	}
	PG_END_TRY();
	if (code < 0)
		elog(ERROR, "SPI_execute_plan failed: %s",
			 SPI_result_code_string(code));
	return SPI_processed;
}

/*
 * Add an account; false when there is one of that code, owner and currency.
 * In REPEATABLE READ one that was added after our snapshot makes this raise a
 * serialization failure.
 */
bool
account_insert(const pg_uuid_t *id, const char *code, const pg_uuid_t *owner,
			   const char *currency, const char *kind,
			   const int64 *min_balance, const int64 *max_balance)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID, TEXTOID, UUIDOID, TEXTOID,
								  TEXTOID, INT8OID, INT8OID };
	Datum			  values[lengthof(types)];
	char			  nulls[] = "       ";
	bool			  added;

	values[0] = UUIDPGetDatum(id);
	values[1] = CStringGetTextDatum(code);
	values[2] = owner ? UUIDPGetDatum(owner) : (Datum) 0;
	values[3] = CStringGetTextDatum(currency);
	values[4] = CStringGetTextDatum(kind);
	values[5] = min_balance ? Int64GetDatum(*min_balance) : (Datum) 0;
	values[6] = max_balance ? Int64GetDatum(*max_balance) : (Datum) 0;
	nulls[2] = owner ? ' ' : 'n';
	nulls[5] = min_balance ? ' ' : 'n';
	nulls[6] = max_balance ? ' ' : 'n';

	spi_begin();
	plan_keep(&plan,
			  "INSERT INTO payment.account (id, code, owner, currency, kind, "
			  "min_balance, max_balance) VALUES ($1, $2, $3, $4, $5, $6, $7) "
			  "ON CONFLICT DO NOTHING",
			  lengthof(types), types);
	added = account_execute(plan, values, nulls) > 0;
	spi_end();
	return added;
}

static bool
account_update(SPIPlanPtr *plan, const char *sql, int count, const Oid *types,
			   Datum *values, const char *nulls)
{
	bool updated;

	spi_begin();
	plan_keep(plan, sql, count, types);
	updated = account_execute(*plan, values, nulls) == 1;
	spi_end();
	return updated;
}

/*
 * False when the account exists, but only since after the snapshot of this
 * REPEATABLE READ transaction.
 */
bool
account_update_state(const pg_uuid_t *id, const char *state)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID, TEXTOID };
	Datum values[] = { UUIDPGetDatum(id), CStringGetTextDatum(state) };

	return account_update(&plan,
						  "UPDATE payment.account SET state = $2 "
						  "WHERE id = $1",
						  lengthof(types), types, values, NULL);
}

bool
account_update_limits(const pg_uuid_t *id, const int64 *min_balance,
					  const int64 *max_balance)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID, INT8OID, INT8OID };
	Datum			  values[] = { UUIDPGetDatum(id),
					   min_balance ? Int64GetDatum(*min_balance) : (Datum) 0,
					   max_balance ? Int64GetDatum(*max_balance) : (Datum) 0 };
	char nulls[] = { ' ', min_balance ? ' ' : 'n', max_balance ? ' ' : 'n',
					 '\0' };

	return account_update(&plan,
						  "UPDATE payment.account SET min_balance = $2, "
						  "max_balance = $3 WHERE id = $1",
						  lengthof(types), types, values, nulls);
}
