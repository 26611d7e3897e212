/*-------------------------------------------------------------------------
 *
 * account_api.c
 *	  The SQL functions for accounts: opening, changing, locking, balance.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "payment.h"
#include "utils/builtins.h"
#include "uuid7.h"

#include "ledger/hold.h"
#include "ledger/input.h"

PG_FUNCTION_INFO_V1(payment_open_account);
PG_FUNCTION_INFO_V1(payment_set_account_state);
PG_FUNCTION_INFO_V1(payment_set_account_limits);
PG_FUNCTION_INFO_V1(payment_lock_accounts);
PG_FUNCTION_INFO_V1(payment_balance);

static const char *const account_kinds[] = { "asset",	"liability", "equity",
											 "revenue", "expense",	 "memo" };
static const char *const account_states[] = { "open", "frozen", "closed" };

/* a limit of zero or on its own side of zero, where every account begins */
static void
check_limits(const int64 *min_balance, const int64 *max_balance)
{
	if ((min_balance == NULL || *min_balance <= 0) &&
		(max_balance == NULL || *max_balance >= 0))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
			 errmsg("invalid balance limits"),
			 errdetail("An account begins with a balance of zero, which has "
					   "to be within its limits."),
			 errhint("Pass a min_balance of at most zero and a max_balance of "
					 "at least zero; debits are positive.")));
}

/* an account of the chart is opened as the chart has it */
static void
check_chart_account(AccountCode code, const char *name, const char *kind,
					const pg_uuid_t *owner, const int64 **min_balance,
					const int64 **max_balance)
{
	if (strcmp(kind, chart_kind(code)) != 0)
		refuse_argument("kind of an account of the chart", kind,
						"Pass the kind that payment gives this code.");
	if (chart_has_owner(code) != (owner != NULL))
		refuse_argument("owner of an account of the chart", name,
						"Accounts of PSPs and sellers have an owner, the "
						"platform's have none.");
	if (*min_balance != NULL || *max_balance != NULL)
		refuse_argument("limits of an account of the chart", name,
						"Leave the limits out: the chart sets them.");
	*min_balance = chart_min_balance(code);
	*max_balance = chart_max_balance(code);
}

Datum
payment_open_account(PG_FUNCTION_ARGS)
{
	char		*code = required_text(fcinfo, 0, "code");
	char		*kind = required_text(fcinfo, 1, "kind");
	char		*currency = required_text(fcinfo, 2, "currency");
	pg_uuid_t	*owner = PG_ARGISNULL(3) ? NULL : PG_GETARG_UUID_P(3);
	pg_uuid_t	*id = palloc(sizeof(pg_uuid_t));
	const int64 *min_balance = NULL;
	const int64 *max_balance = NULL;
	int64		 limits[2];
	AccountCode	 chart_code;

	if (!PG_ARGISNULL(4))
	{
		limits[0] = PG_GETARG_INT64(4);
		min_balance = &limits[0];
	}
	if (!PG_ARGISNULL(5))
	{
		limits[1] = PG_GETARG_INT64(5);
		max_balance = &limits[1];
	}
	ledger_check_name("code", code);
	if (!is_one_of(kind, account_kinds, lengthof(account_kinds)))
		refuse_argument("kind of account", kind,
						"Pass asset, liability, equity, revenue, expense or "
						"memo.");
	currency_check(currency);
	check_limits(min_balance, max_balance);
	if (chart_lookup(code, &chart_code))
		check_chart_account(chart_code, code, kind, owner, &min_balance,
							&max_balance);

	uuid7_generate(id);
	if (!account_insert(id, code, owner, currency, kind, min_balance,
						max_balance))
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_ACCOUNT_EXISTS),
				 errmsg("account \"%s\" exists already", code),
				 errdetail("There is one of that owner in %s.", currency),
				 errhint("Use it, or choose another code.")));
	PG_RETURN_UUID_P(id);
}

/*
 * Once this has committed no posting commits that saw the account in its
 * former state: new ones wait for us, and for those under way we wait here.
 * From here on the account's row is ours, and its balance what it will be.
 */
static void
change_account(bool changed, const TouchedAccount *account)
{
	if (!changed)
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						errmsg("account \"%s\" was added after this "
							   "transaction began",
							   account->code),
						errhint("Retry the transaction.")));
	slot_wait_for_postings(&account->id);
}

static void
check_empty(const TouchedAccount *account)
{
	int128 balance = ledger_balance(&account->id);
	int	   hold_count;

	(void) hold_sum_locked(&account->id, &hold_count);
	if (balance != 0)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_WRONG_STATE),
				 errmsg("account \"%s\" is not empty", account->code),
				 errdetail("Its balance is %s minor units of %s (debits "
						   "positive).",
						   int128_text(balance), account->currency),
				 errhint("Move the balance to another account first.")));
	if (hold_count > 0)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_WRONG_STATE),
						errmsg("account \"%s\" has open holds", account->code),
						errdetail("There are %d.", hold_count),
						errhint("Post or void them first.")));
}

Datum
payment_set_account_state(PG_FUNCTION_ARGS)
{
	TouchedAccount account;
	char		  *state;

	account_argument(fcinfo, 0, &account);
	state = required_text(fcinfo, 1, "state");
	if (!is_one_of(state, account_states, lengthof(account_states)))
		refuse_argument("state", state, "Pass open, frozen or closed.");

	change_account(account_update_state(&account.id, state), &account);
	if (strcmp(state, "closed") == 0)
		check_empty(&account);
	PG_RETURN_VOID();
}

/* the account has the limits already, and they are to hold for its balance */
static void
check_new_limits(const TouchedAccount *account)
{
	int128 balance = ledger_balance(&account->id);
	int	   hold_count;
	int64  held = hold_sum_locked(&account->id, &hold_count);
	bool   is_debit = account_is_debit_normal(account);
	bool   below = account->has_min &&
				 balance - (is_debit ? held : 0) < account->min_balance;

	if (!below && !(account->has_max &&
					balance + (is_debit ? 0 : held) > account->max_balance))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_BALANCE_LIMIT),
			 errmsg("account \"%s\" is past this limit", account->code),
			 errdetail(
				 "Its balance is %s "
				 "minor units of %s (debits positive), of which " INT64_FORMAT
				 " are held; the %s would be " INT64_FORMAT ".",
				 int128_text(balance), account->currency, held,
				 below ? "minimum" : "maximum",
				 below ? account->min_balance : account->max_balance),
			 errhint("Pass limits that the present balance keeps, or move "
					 "money first.")));
}

/*
 * Like a change of the state: a posting under way that knows nothing of the
 * limit is waited for, and counted; a later one finds the limit, or fails.
 */
Datum
payment_set_account_limits(PG_FUNCTION_ARGS)
{
	TouchedAccount account;
	bool		   changed;

	account_argument(fcinfo, 0, &account);
	account.has_min = !PG_ARGISNULL(1);
	account.has_max = !PG_ARGISNULL(2);
	account.min_balance = account.has_min ? PG_GETARG_INT64(1) : 0;
	account.max_balance = account.has_max ? PG_GETARG_INT64(2) : 0;
	if (account.has_min && account.has_max &&
		account.min_balance > account.max_balance)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("invalid balance limits"),
						errdetail("The minimum " INT64_FORMAT
								  " is above the maximum " INT64_FORMAT ".",
								  account.min_balance, account.max_balance),
						errhint("Debits are positive.")));

	changed =
		account_update_limits(&account.id,
							  account.has_min ? &account.min_balance : NULL,
							  account.has_max ? &account.max_balance : NULL);
	change_account(changed, &account);
	check_new_limits(&account);
	PG_RETURN_VOID();
}

static int
compare_ids(const void *a, const void *b)
{
	return uuid_compare(a, b);
}

void
ledger_lock_accounts(const pg_uuid_t *accounts, int count)
{
	AccountReader  reader;
	TouchedAccount account;
	pg_uuid_t	  *ids = palloc_array(pg_uuid_t, count);

	memcpy(ids, accounts, sizeof(pg_uuid_t) * count);
	qsort(ids, count, sizeof(pg_uuid_t), compare_ids);
	account_reader_begin(&reader, RowShareLock);
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		account.id = ids[i];
		if (i > 0 && uuid_compare(&ids[i - 1], &ids[i]) == 0)
			continue;
		if (!account_read(&reader, &account))
			refuse_account(&account.id);
		account_lock(&reader, &account);
	}
	account_reader_end(&reader);
}

/*
 * Row locks as a posting towards a limit takes them, all at once and in the
 * same order: whoever posts several times begins with this.
 */
Datum
payment_lock_accounts(PG_FUNCTION_ARGS)
{
	int				 count;
	const pg_uuid_t *accounts =
		uuid_array_argument(fcinfo, 0, "accounts", &count);

	if (count > LEDGER_MAX_JOURNAL_LEGS)
		refuse_size("accounts", count, LEDGER_MAX_JOURNAL_LEGS);
	PreventCommandIfReadOnly("locking accounts");
	PreventCommandIfParallelMode("locking accounts");
	ledger_lock_accounts(accounts, count);
	PG_RETURN_VOID();
}

/*
 * Amounts on the side that is normal for the kind of account: what a seller
 * is owed is positive on a liability, as is what a PSP owes on an asset.
 */
Datum
payment_balance(PG_FUNCTION_ARGS)
{
	TouchedAccount account;
	BalanceReader  reader;
	TupleDesc	   desc;
	Datum		   row;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "balance() must return a row");
	account_argument(fcinfo, 0, &account);

	/* by one snapshot, so that a hold being posted is in one of the two */
	ledger_lock(LEDGER_HOLD);
	balance_reader_begin(&reader);
	row = balance_row(BlessTupleDesc(desc), &account, &reader);
	balance_reader_end(&reader);
	PG_RETURN_DATUM(row);
}
