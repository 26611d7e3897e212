/*-------------------------------------------------------------------------
 *
 * post.c
 *	  ledger_post(): the one function that posts.
 *
 * The order of its steps is what keeps concurrent postings right:
 *
 *	1. check everything that needs no lock;
 *	2. lock, in ascending order of id, the accounts that are moved towards a
 *	   limit, and check the limits on the balance after all journals;
 *	3. write journals and entries;
 *	4. write one balance slot of each account, again in ascending order, last,
 *	   so that slots are held for the shortest time;
 *	5. look whether an account was changed meanwhile (see account.c).
 *
 * Two postings towards a limit of one account follow one another through the
 * row lock of step 2, and the later one sees what the earlier committed,
 * because it reads the slots by the latest snapshot after it got the lock.  A
 * posting away from the limit takes no lock; while it is not committed the
 * others do not count it, which errs on the safe side.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "payment.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "uuid7.h"

#include "ledger/hold.h"

/* where a leg stands, and its account */
typedef struct LegRef
{
	pg_uuid_t account_id;
	int		  position;
	int64	  amount;
} LegRef;

typedef struct Posting
{
	LedgerJournal  *journals;
	int				count;
	TouchedAccount *accounts; /* ascending */
	int				account_count;
	int			   *leg_accounts; /* for each leg of all, its account */
	int				leg_count;
} Posting;

typedef struct CurrencySum
{
	char   currency[CURRENCY_CODE_LENGTH + 1];
	int128 sum;
} CurrencySum;

static bool
is_name(const char *name)
{
	int length = 0;

	if (name[0] < 'a' || name[0] > 'z')
		return false;
	for (; name[length] != '\0'; length++)
	{
		char c = name[length];

		if ((c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_')
			return false;
	}
	return length <= LEDGER_MAX_NAME_LENGTH;
}

/* a kind or code: lower-case letters, digits and underscores */
void
ledger_check_name(const char *argument, const char *name)
{
	if (!is_name(name))
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
				 errmsg("invalid %s \"%s\"", argument, name),
				 errdetail("It has 1 to %d lower-case letters, digits and "
						   "underscores, a letter first.",
						   LEDGER_MAX_NAME_LENGTH),
				 errhint("Write it like \"manual_correction\".")));
}

void
refuse_size(const char *what, int64 count, int limit)
{
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_LIMIT_EXCEEDED),
					errmsg("too many %s", what),
					errdetail("There are " INT64_FORMAT ", the limit is %d.",
							  count, limit),
					errhint("Post in several calls.")));
}

static void
check_leg(const LedgerJournal *journal, int number, int leg)
{
	int64 amount = journal->legs[leg].amount;

	/* what has no negative could not be shown as a credit, nor reversed */
	if (amount != 0 && amount != PG_INT64_MIN)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_INVALID_AMOUNT),
			 errmsg("leg %d of journal %d (%s) has no valid amount", leg + 1,
					number + 1, journal->kind),
			 errdetail("Its amount is " INT64_FORMAT " minor units.", amount),
			 errhint("Leave out legs of zero.")));
}

/* what can be said of the journals without looking at accounts */
static int
check_shape(LedgerJournal *journals, int count)
{
	int64 legs = 0;

	if (count > LEDGER_MAX_JOURNALS)
		refuse_size("journals in one call", count, LEDGER_MAX_JOURNALS);
	for (int i = 0; i < count; i++)
	{
		LedgerJournal *journal = &journals[i];

		/* those of a batch often share one text */
		if (i == 0 || journal->kind != journals[i - 1].kind)
			ledger_check_name("kind", journal->kind ? journal->kind : "");
		if (journal->leg_count < 2)
			ereport(ERROR, (errcode(ERRCODE_PAYMENT_UNBALANCED_JOURNAL),
							errmsg("journal %d (%s) needs two legs or more",
								   i + 1, journal->kind),
							errdetail("It has %d.", journal->leg_count),
							errhint("Each debit needs a credit.")));
		if (journal->leg_count > LEDGER_MAX_JOURNAL_LEGS)
			refuse_size("legs in one journal", journal->leg_count,
						LEDGER_MAX_JOURNAL_LEGS);
		for (int leg = 0; leg < journal->leg_count; leg++)
			check_leg(journal, i, leg);
		legs += journal->leg_count;
	}
	if (legs > LEDGER_MAX_LEGS)
		refuse_size("legs in one call", legs, LEDGER_MAX_LEGS);
	return (int) legs;
}

static inline int
compare_leg_refs(const LegRef *a, const LegRef *b)
{
	return uuid_compare(&a->account_id, &b->account_id);
}

#define ST_SORT sort_leg_refs
#define ST_ELEMENT_TYPE LegRef
#define ST_COMPARE(a, b) compare_leg_refs(a, b)
#define ST_SCOPE static
#define ST_DEFINE
#include "lib/sort_template.h"

/* the distinct accounts in ascending order, with what each is moved by */
static void
collect_accounts(Posting *posting)
{
	LegRef *refs =
		palloc_extended(sizeof(LegRef) * posting->leg_count, MCXT_ALLOC_HUGE);
	int	   position = 0;
	int128 delta = 0;

	for (int i = 0; i < posting->count; i++)
	{
		for (int leg = 0; leg < posting->journals[i].leg_count; leg++)
		{
			refs[position].account_id =
				posting->journals[i].legs[leg].account_id;
			refs[position].amount = posting->journals[i].legs[leg].amount;
			refs[position].position = position;
			position++;
		}
	}
	sort_leg_refs(refs, position);

	posting->accounts =
		palloc_extended(sizeof(TouchedAccount) * posting->leg_count,
						MCXT_ALLOC_HUGE);
	posting->leg_accounts = palloc(sizeof(int) * posting->leg_count);
	posting->account_count = 0;
	for (int i = 0; i < position; i++)
	{
		if (i == 0 || compare_leg_refs(&refs[i - 1], &refs[i]) != 0)
		{
			posting->accounts[posting->account_count].id = refs[i].account_id;
			posting->accounts[posting->account_count++].has_balance = false;
			delta = 0;
		}
		delta += refs[i].amount;
		posting->leg_accounts[refs[i].position] = posting->account_count - 1;

		/* only the last one of an account counts */
		if (i + 1 == position || compare_leg_refs(&refs[i], &refs[i + 1]) != 0)
			posting->accounts[posting->account_count - 1].delta =
				money_from_int128(delta);
	}
	pfree(refs);
}

/* the first journal with a leg on the account, for messages */
static int
journal_of_account(const Posting *posting, int account)
{
	int position = 0;

	for (int i = 0; i < posting->count; i++)
	{
		for (int leg = 0; leg < posting->journals[i].leg_count; leg++)
		{
			if (posting->leg_accounts[position++] == account)
				return i;
		}
	}
	pg_unreachable();
}

static void
pg_attribute_noreturn()
	refuse_unknown_account(const Posting *posting, int account)
{
	int journal = journal_of_account(posting, account);

	ereport(ERROR, (errcode(ERRCODE_PAYMENT_UNKNOWN_ACCOUNT),
					errmsg("journal %d (%s) posts to an unknown account",
						   journal + 1, posting->journals[journal].kind),
					errdetail("There is no account %s.",
							  uuid_text(&posting->accounts[account].id)),
					errhint("Open the account first.")));
}

static void
check_open(const Posting *posting, int account)
{
	const TouchedAccount *a = &posting->accounts[account];
	int					  journal;

	if (strcmp(a->state, "open") == 0)
		return;
	journal = journal_of_account(posting, account);
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_ACCOUNT_NOT_OPEN),
					errmsg("account \"%s\" (%s) is %s", a->code, a->currency,
						   a->state),
					errdetail("Journal %d (%s) posts to it; its id is %s.",
							  journal + 1, posting->journals[journal].kind,
							  uuid_text(&a->id)),
					errhint("Only open accounts take postings.")));
}

/* 128 bits as decimal digits */
char *
int128_text(int128 value)
{
	char	buffer[48];
	char   *at = buffer + sizeof(buffer) - 1;
	uint128 rest = value < 0 ? -(uint128) value : (uint128) value;

	*at = '\0';
	do
	{
		*--at = '0' + (int) (rest % 10);
		rest /= 10;
	} while (rest > 0);
	if (value < 0)
		*--at = '-';
	return pstrdup(at);
}

static CurrencySum *
sum_of_currency(CurrencySum *sums, int *count, const char *currency)
{
	for (int i = 0; i < *count; i++)
	{
		if (strcmp(sums[i].currency, currency) == 0)
			return &sums[i];
	}
	strlcpy(sums[*count].currency, currency, sizeof(sums[*count].currency));
	sums[*count].sum = 0;
	return &sums[(*count)++];
}

/* each journal sums to zero in each of its currencies */
static void
check_zero_sums(const Posting *posting)
{
	int position = 0;

	for (int i = 0; i < posting->count; i++)
	{
		const LedgerJournal *journal = &posting->journals[i];
		CurrencySum *sums = palloc(sizeof(CurrencySum) * journal->leg_count);
		int			 count = 0;

		for (int leg = 0; leg < journal->leg_count; leg++)
		{
			int account = posting->leg_accounts[position++];

			sum_of_currency(sums, &count, posting->accounts[account].currency)
				->sum += journal->legs[leg].amount;
		}
		for (int c = 0; c < count; c++)
		{
			if (sums[c].sum == 0)
				continue;
			ereport(
				ERROR,
				(errcode(ERRCODE_PAYMENT_UNBALANCED_JOURNAL),
				 errmsg("journal %d (%s) does not balance in %s", i + 1,
						journal->kind, sums[c].currency),
				 errdetail("Its entries sum to %s minor units, the first "
						   "is on account \"%s\".",
						   int128_text(sums[c].sum),
						   posting
							   ->accounts[posting->leg_accounts
											  [position - journal->leg_count]]
							   .code),
				 errhint("Debits are positive, credits negative, and they "
						 "sum to zero in each currency.")));
		}
		pfree(sums);
	}
}

static bool
moves_towards_limit(const TouchedAccount *account)
{
	return (account->delta < 0 && account->has_min) ||
		   (account->delta > 0 && account->has_max);
}

/*
 * What is held counts on the side where money leaves the account: for one
 * that is normally in debit it is as if credits had been posted already.
 */
static int64
held_towards_limit(const TouchedAccount *account)
{
	bool  is_debit = account_is_debit_normal(account);
	int	  count;
	int64 held;

	if (is_debit ? !account->has_min || account->delta > 0
				 : !account->has_max || account->delta < 0)
		return 0;
	held = hold_sum_locked(&account->id, &count);
	return is_debit ? -held : held;
}

static void
pg_attribute_noreturn() refuse_limit(const Posting *posting, int account,
									 int128 balance, int64 held)
{
	const TouchedAccount *a = &posting->accounts[account];
	int					  journal = journal_of_account(posting, account);
	bool				  below = a->delta < 0;

	ereport(
		ERROR,
		(errcode(ERRCODE_PAYMENT_BALANCE_LIMIT),
		 errmsg("account \"%s\" would pass its limit", a->code),
		 errdetail("Journal %d (%s) would leave a balance of %s minor "
				   "units of %s (debits positive)%s; the %s is " INT64_FORMAT
				   ".",
				   journal + 1, posting->journals[journal].kind,
				   int128_text(balance), a->currency,
				   held != 0 ? psprintf(", with " INT64_FORMAT " held",
										below ? -held : held)
							 : "",
				   below ? "minimum" : "maximum",
				   below ? a->min_balance : a->max_balance),
		 errhint("Post a smaller amount, or wait for money to come in.")));
}

/* the account is locked: nobody else moves it towards its limit */
static void
check_limit(const Posting *posting, int account)
{
	TouchedAccount *a = &posting->accounts[account];
	int128			balance;
	int64			held;

	if (!moves_towards_limit(a))
		return;
	balance = ledger_balance(&a->id) + a->delta;
	held = held_towards_limit(a);
	if ((a->delta < 0 && a->has_min && balance + held < a->min_balance) ||
		(a->delta > 0 && a->has_max && balance + held > a->max_balance))
		refuse_limit(posting, account, balance, held);
	a->balance = (int64) balance;
	a->has_balance = a->balance == balance;
}

static void
read_accounts(Posting *posting, AccountReader *reader)
{
	for (int i = 0; i < posting->account_count; i++)
	{
		hint_prefetch(posting->accounts, posting->account_count, i);
		if (!account_read(reader, &posting->accounts[i]))
			refuse_unknown_account(posting, i);
		check_open(posting, i);
	}
}

/* all locks first, so that they stand before all slots in the order of waits */
static void
lock_and_check_limits(Posting *posting, AccountReader *reader)
{
	bool locked = false;

	for (int i = 0; i < posting->account_count; i++)
	{
		if (!moves_towards_limit(&posting->accounts[i]))
			continue;
		account_lock(reader, &posting->accounts[i]);
		check_open(posting, i);
		locked = true;
	}
	for (int i = 0; locked && i < posting->account_count; i++)
		check_limit(posting, i);
}

static void
check_unchanged(const Posting *posting, AccountReader *reader)
{
	for (int i = 0; i < posting->account_count; i++)
	{
		const TouchedAccount *a = &posting->accounts[i];

		if (account_is_unchanged(reader, a))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("account \"%s\" was changed while it was posted to",
						a->code),
				 errdetail("Its id is %s.", uuid_text(&a->id)),
				 errhint("Retry the transaction.")));
	}
}

static void
write_balances(const Posting *posting)
{
	SlotTable table;

	hint_prefetch_begin(posting->accounts, posting->account_count);
	slot_table_begin(&table);
	for (int i = 0; i < posting->account_count; i++)
	{
		hint_prefetch(posting->accounts, posting->account_count, i);
		slot_add(&table, &posting->accounts[i].id, posting->accounts[i].delta);
	}
	slot_table_end(&table);
}

static void
give_ids(LedgerJournal *journals, int count)
{
	static const pg_uuid_t none;

	for (int i = 0; i < count; i++)
	{
		if (memcmp(&journals[i].id, &none, UUID_LEN) == 0)
			uuid7_generate(&journals[i].id);
	}
}

/*
 * Where a limit was checked the balance is known; of the others it is what
 * the latest snapshot sees, the posting included.
 */
static void
read_balances(Posting *posting)
{
	BalanceReader reader;

	balance_reader_begin(&reader);
	for (int i = 0; i < posting->account_count; i++)
	{
		TouchedAccount *account = &posting->accounts[i];

		if (!account->has_balance)
			account->balance = balance_read(&reader, &account->id);
	}
	balance_reader_end(&reader);
}

static void
post(Posting *posting, PostingExtras *extras)
{
	AccountReader reader;

	collect_accounts(posting);
	hint_prefetch_begin(posting->accounts, posting->account_count);
	account_reader_begin(&reader, RowShareLock);
	read_accounts(posting, &reader);
	check_zero_sums(posting);
	lock_and_check_limits(posting, &reader);

	give_ids(posting->journals, posting->count);
	write_journals(posting->journals, posting->count);
	write_balances(posting);
	check_unchanged(posting, &reader);
	account_reader_end(&reader);

	/* the next posting of this transaction updates what this one wrote */
	CommandCounterIncrement();
	if (extras && extras->wants_balances)
		read_balances(posting);
}

/* take the balances out of the posting's memory */
static void
return_balances(const Posting *posting, PostingExtras *extras)
{
	extras->balance_count = posting->account_count;
	extras->balances =
		palloc_extended(sizeof(LedgerBalance) * posting->account_count,
						MCXT_ALLOC_HUGE);
	for (int i = 0; i < posting->account_count; i++)
	{
		const TouchedAccount *account = &posting->accounts[i];

		extras->balances[i].account_id = account->id;
		extras->balances[i].posted =
			account_normal_side(account, account->balance);
	}
}

void
ledger_post_with(LedgerJournal *journals, int count, PostingExtras *extras)
{
	Posting		  posting = { 0 };
	MemoryContext context;
	MemoryContext previous;

	/* the table access method does not ask these itself */
	PreventCommandIfReadOnly("posting to the ledger");
	PreventCommandIfParallelMode("posting to the ledger");
	if (count == 0)
		return;
	if (!ActiveSnapshotSet())
		elog(ERROR, "posting to the ledger needs an active snapshot");
	posting.journals = journals;
	posting.count = count;
	posting.leg_count = check_shape(journals, count);

	context = AllocSetContextCreate(CurrentMemoryContext, "ledger posting",
									ALLOCSET_DEFAULT_SIZES);
	previous = MemoryContextSwitchTo(context);
	post(&posting, extras);
	MemoryContextSwitchTo(previous);
	if (extras && extras->wants_balances)
		return_balances(&posting, extras);
	MemoryContextDelete(context);
}

void
ledger_post(LedgerJournal *journals, int count)
{
	ledger_post_with(journals, count, NULL);
}
