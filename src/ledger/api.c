/*-------------------------------------------------------------------------
 *
 * api.c
 *	  The ledger's SQL functions that write, and balance().
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "argument.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "payment.h"
#include "text_guard.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "uuid7.h"

#include "ledger/posting.h"

PG_FUNCTION_INFO_V1(payment_open_account);
PG_FUNCTION_INFO_V1(payment_set_account_state);
PG_FUNCTION_INFO_V1(payment_post_journal);
PG_FUNCTION_INFO_V1(payment_balance);

static const char *const account_kinds[] = { "asset",	"liability", "equity",
											 "revenue", "expense",	 "memo" };
static const char *const account_states[] = { "open", "frozen", "closed" };

/* verify() compares these with orders and payouts, so nobody else posts them */
static const char *const reserved_kinds[] = { "capture", "release", "payout",
											  "payout_paid", "payout_failed" };

static bool
is_one_of(const char *word, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
	{
		if (strcmp(word, words[i]) == 0)
			return true;
	}
	return false;
}

static char *
text_argument(FunctionCallInfo fcinfo, int argument, const char *name)
{
	refuse_null(fcinfo, argument, name);
	return text_to_cstring(PG_GETARG_TEXT_PP(argument));
}

static void
refuse_argument(const char *name, const char *value, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
			 errmsg("invalid %s", name), errdetail("It is \"%.100s\".", value),
			 errhint("%s", hint)));
}

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
	char		*code = text_argument(fcinfo, 0, "code");
	char		*kind = text_argument(fcinfo, 1, "kind");
	char		*currency = text_argument(fcinfo, 2, "currency");
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

static void
find_account_argument(FunctionCallInfo fcinfo, TouchedAccount *account)
{
	pg_uuid_t *id;

	refuse_null(fcinfo, 0, "account");
	id = PG_GETARG_UUID_P(0);
	if (!account_find(id, account))
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_UNKNOWN_ACCOUNT),
						errmsg("unknown account"),
						errdetail("There is no account %s.",
								  DatumGetCString(
									  DirectFunctionCall1(uuid_out,
														  UUIDPGetDatum(id)))),
						errhint("payment.account lists the accounts.")));
}

/*
 * Once this has committed no posting commits that saw the account in its
 * former state: new ones wait for us, and for those under way we wait here.
 */
Datum
payment_set_account_state(PG_FUNCTION_ARGS)
{
	TouchedAccount account;
	char		  *state;
	int64		   balance;

	find_account_argument(fcinfo, &account);
	state = text_argument(fcinfo, 1, "state");
	if (!is_one_of(state, account_states, lengthof(account_states)))
		refuse_argument("state", state, "Pass open, frozen or closed.");

	if (!account_update_state(&account.id, state))
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						errmsg("account \"%s\" was added after this "
							   "transaction began",
							   account.code),
						errhint("Retry the transaction.")));
	slot_wait_for_postings(&account.id);

	balance = ledger_balance(&account.id);
	if (strcmp(state, "closed") == 0 && balance != 0)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_WRONG_STATE),
				 errmsg("account \"%s\" is not empty", account.code),
				 errdetail("Its balance is " INT64_FORMAT
						   " minor units of %s (debits positive).",
						   balance, account.currency),
				 errhint("Move the balance to another account first.")));
	PG_RETURN_VOID();
}

/* the elements of a one-dimensional array without nulls */
static Datum *
array_argument(FunctionCallInfo fcinfo, int argument, const char *name,
			   Oid type, int *count)
{
	ArrayType *array;
	Datum	  *elements;
	bool	   by_value = type == INT8OID && FLOAT8PASSBYVAL;

	refuse_null(fcinfo, argument, name);
	array = PG_GETARG_ARRAYTYPE_P(argument);
	if (ARR_NDIM(array) != 1 || array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
				 errmsg("\"%s\" must be a list of values", name),
				 errdetail("The array is empty, has several dimensions or "
						   "holds a null."),
				 errhint("Pass one element for each leg.")));
	deconstruct_array(array, type, type == INT8OID ? sizeof(int64) : UUID_LEN,
					  by_value,
					  type == INT8OID ? TYPALIGN_DOUBLE : TYPALIGN_CHAR,
					  &elements, NULL, count);
	return elements;
}

static LedgerLeg *
legs_argument(FunctionCallInfo fcinfo, int *count)
{
	int		   amount_count;
	Datum	  *accounts;
	Datum	  *amounts;
	LedgerLeg *legs;

	accounts = array_argument(fcinfo, 1, "accounts", UUIDOID, count);
	amounts = array_argument(fcinfo, 2, "amounts", INT8OID, &amount_count);
	if (*count != amount_count)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("accounts and amounts differ in number"),
						errdetail("There are %d accounts and %d amounts.",
								  *count, amount_count),
						errhint("Pass one amount for each account.")));
	legs = palloc_array(LedgerLeg, *count);
	for (int i = 0; i < *count; i++)
	{
		legs[i].account_id = *DatumGetUUIDP(accounts[i]);
		legs[i].amount = DatumGetInt64(amounts[i]);
	}
	return legs;
}

static void
check_manual_kind(const char *kind)
{
	ledger_check_name("kind", kind);
	if (is_one_of(kind, reserved_kinds, lengthof(reserved_kinds)))
		refuse_argument("kind of journal", kind,
						"Journals of this kind come with an order or payout; "
						"choose another kind.");
}

Datum
payment_post_journal(PG_FUNCTION_ARGS)
{
	LedgerJournal journal = { 0 };
	pg_uuid_t	 *id = palloc(sizeof(pg_uuid_t));
	char		 *description;

	journal.kind = text_argument(fcinfo, 0, "kind");
	check_manual_kind(journal.kind);
	journal.legs = legs_argument(fcinfo, &journal.leg_count);
	if (!PG_ARGISNULL(3))
	{
		journal.subject = *PG_GETARG_UUID_P(3);
		journal.has_subject = true;
	}
	if (!PG_ARGISNULL(4))
	{
		journal.effective_at = PG_GETARG_TIMESTAMPTZ(4);
		if (TIMESTAMP_NOT_FINITE(journal.effective_at))
			refuse_argument("effective_at", "infinity", "Pass a time.");
	}
	if (!PG_ARGISNULL(5))
	{
		description = text_to_cstring(PG_GETARG_TEXT_PP(5));
		check_text("description", description, strlen(description));
		journal.description = description;
	}
	ledger_post(&journal, 1);
	*id = journal.id;
	PG_RETURN_UUID_P(id);
}

/*
 * Amounts on the side that is normal for the kind of account: what a seller
 * is owed is positive on a liability, as is what a PSP owes on an asset.
 */
Datum
payment_balance(PG_FUNCTION_ARGS)
{
	TouchedAccount account;
	TupleDesc	   desc;
	int64		   posted;
	Datum		   values[3];
	bool		   nulls[3] = { false, false, false };

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "balance() must return a row");
	find_account_argument(fcinfo, &account);
	posted = ledger_balance(&account.id);
	if (strcmp(account.kind, "asset") != 0 &&
		strcmp(account.kind, "expense") != 0 &&
		strcmp(account.kind, "memo") != 0)
		posted = money_negate(posted);

	values[0] = Int64GetDatum(posted);
	values[1] = Int64GetDatum(0);
	values[2] = Int64GetDatum(posted);
	PG_RETURN_DATUM(HeapTupleGetDatum(
		heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
