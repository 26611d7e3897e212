/*-------------------------------------------------------------------------
 *
 * hold_api.c
 *	  The SQL functions for holds; see hold.c for what keeps them right.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "order/idempotency.h"
#include "payment.h"
#include "text_guard.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "uuid7.h"

#include "ledger/hold.h"
#include "ledger/input.h"

PG_FUNCTION_INFO_V1(payment_create_hold);
PG_FUNCTION_INFO_V1(payment_post_hold);
PG_FUNCTION_INFO_V1(payment_void_hold);
PG_FUNCTION_INFO_V1(payment_expire_holds);

#define HOLD_MAX_LEGS 1000
#define EXPIRE_MAX_HOLDS 100000

static void
refuse_amount(int64 amount, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_AMOUNT),
					errmsg("invalid amount of a hold"),
					errdetail("It is " INT64_FORMAT " minor units.", amount),
					errhint("%s", hint)));
}

static void
refuse_hold(const pg_uuid_t *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_UNKNOWN_OBJECT), errmsg("unknown hold"),
			 errdetail("There is no hold %s.", uuid_text(id)),
			 errhint("payment.hold lists the holds.")));
}

/* ---- create ---- */

/* the account's row is locked: what it holds and has cannot become less;
 * returns what is held */
static int64
check_room(const TouchedAccount *account, int64 amount)
{
	int	   count;
	int64  held = hold_sum_locked(&account->id, &count);
	bool   is_debit = account_is_debit_normal(account);
	int128 balance;

	if (count >= LEDGER_MAX_OPEN_HOLDS)
		refuse_size("open holds of one account", count + 1,
					LEDGER_MAX_OPEN_HOLDS);
	if (is_debit ? !account->has_min : !account->has_max)
		return held;
	balance = ledger_balance(&account->id);
	if (is_debit ? balance - held - amount >= account->min_balance
				 : balance + held + amount <= account->max_balance)
		return held;
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_BALANCE_LIMIT),
			 errmsg("account \"%s\" has too little to hold", account->code),
			 errdetail(
				 "Its balance is %s "
				 "minor units of %s (debits positive), of which " INT64_FORMAT
				 " are held; the %s is " INT64_FORMAT ".",
				 int128_text(balance), account->currency, held,
				 is_debit ? "minimum" : "maximum",
				 is_debit ? account->min_balance : account->max_balance),
			 errhint("Hold a smaller amount, or wait for money to come in.")));
}

static void
insert_checked(const Hold *hold, const pg_uuid_t *subject,
			   const char *description)
{
	TouchedAccount account = { .id = hold->account_id };
	AccountReader  reader;

	PreventCommandIfReadOnly("holding an amount");
	PreventCommandIfParallelMode("holding an amount");
	account_reader_begin(&reader, RowShareLock);
	if (!account_read(&reader, &account))
		refuse_account(&account.id);
	account_lock(&reader, &account);
	account_reader_end(&reader);
	if (strcmp(account.state, "open") != 0)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_ACCOUNT_NOT_OPEN),
						errmsg("account \"%s\" (%s) is %s", account.code,
							   account.currency, account.state),
						errdetail("Its id is %s.", uuid_text(&account.id)),
						errhint("Only open accounts can be held.")));
	/* what is held in all is an amount itself */
	(void) money_add(check_room(&account, hold->amount), hold->amount);
	hold_insert(hold, subject, description);
}

/* true when the key is new, or there is none */
static bool
take_hold_key(const char *key, Hold *hold, const pg_uuid_t *subject,
			  const char *description)
{
	Fingerprint fingerprint;
	uint8		digest[FINGERPRINT_SIZE];

	if (key == NULL)
		return true;
	fingerprint_begin(&fingerprint);
	fingerprint_bytes(&fingerprint, &hold->account_id, UUID_LEN);
	fingerprint_bytes(&fingerprint, &hold->amount, sizeof(hold->amount));
	fingerprint_bytes(&fingerprint, subject, subject ? UUID_LEN : 0);
	fingerprint_bytes(&fingerprint, &hold->expires_at,
					  sizeof(hold->expires_at));
	fingerprint_text(&fingerprint, description);
	fingerprint_end(&fingerprint, digest);
	return idempotency_take(key, "create_hold", digest, &hold->id, 1);
}

Datum
payment_create_hold(PG_FUNCTION_ARGS)
{
	char	  *description = text_argument(fcinfo, 5, "description");
	char	  *key = key_argument(fcinfo, 2);
	pg_uuid_t *subject = PG_ARGISNULL(3) ? NULL : PG_GETARG_UUID_P(3);
	Hold	   hold = { .expires_at = DT_NOEND };
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));

	hold.account_id = *uuid_argument(fcinfo, 0, "account");
	hold.amount = int64_argument(fcinfo, 1, "amount");
	if (hold.amount <= 0)
		refuse_amount(hold.amount, "Pass an amount above zero, in minor "
								   "units.");
	if (!PG_ARGISNULL(4))
		hold.expires_at = time_argument(fcinfo, 4, "expires_at");
	if (description)
		check_text("description", description, strlen(description));

	uuid7_generate(&hold.id);
	if (take_hold_key(key, &hold, subject, description))
	{
		if (hold_is_over(&hold))
			refuse_argument("expires_at", timestamptz_to_str(hold.expires_at),
							"Pass a time to come.");
		insert_checked(&hold, subject, description);
	}
	*id = hold.id;
	PG_RETURN_UUID_P(id);
}

/* ---- post ---- */

typedef struct HoldPosting
{
	Hold		   hold;
	TouchedAccount account; /* the held one */
	LedgerLeg	  *legs;	/* the held account's first */
	int			   leg_count;
	bool		   has_amounts;
	bool		   close;
	int64		   part;
} HoldPosting;

/* accounts and amounts of the other side; without amounts one takes the rest */
static void
read_counter_legs(FunctionCallInfo fcinfo, HoldPosting *posting)
{
	int				 count;
	const pg_uuid_t *accounts =
		uuid_array_argument(fcinfo, 1, "accounts", &count);
	LedgerLeg *others = NULL;

	posting->has_amounts = !PG_ARGISNULL(2);
	if (count > HOLD_MAX_LEGS)
		refuse_size("accounts to post a hold to", count, HOLD_MAX_LEGS);
	if (posting->has_amounts)
		others = legs_argument(fcinfo, 1, 2, &count);
	else if (count != 1)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
				 errmsg("argument \"amounts\" must not be null"),
				 errdetail("There are %d accounts.", count),
				 errhint("Only with a single account it can be left away: "
						 "all that is still held is posted then.")));
	posting->leg_count = count + 1;
	posting->legs = palloc0_array(LedgerLeg, posting->leg_count);
	for (int i = 0; i < count; i++)
	{
		posting->legs[i + 1].account_id = accounts[i];
		if (others)
			posting->legs[i + 1].amount = others[i].amount;
	}
}

/* the held account's own leg makes the legs of its currency sum to zero */
static int128
sum_of_others(HoldPosting *posting, AccountReader *reader)
{
	int128 sum = 0;

	for (int i = 1; i < posting->leg_count; i++)
	{
		TouchedAccount other = { .id = posting->legs[i].account_id };

		if (uuid_compare(&other.id, &posting->account.id) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
					 errmsg("a hold is posted to other accounts than its own"),
					 errdetail("Account %d is the held one.", i),
					 errhint("Leave it out: its leg is added.")));
		if (!account_read(reader, &other))
			refuse_account(&other.id);
		if (strcmp(other.currency, posting->account.currency) == 0)
			sum += posting->legs[i].amount;
	}
	return sum;
}

static int
compare_accounts(const void *a, const void *b)
{
	return uuid_compare(&((const TouchedAccount *) a)->id,
						&((const TouchedAccount *) b)->id);
}

/*
 * The held account, and those of the others that a limit may make the posting
 * lock, in the order in which it would.
 */
static void
lock_posting_accounts(HoldPosting *posting, AccountReader *reader)
{
	TouchedAccount *accounts =
		palloc0_array(TouchedAccount, posting->leg_count);

	for (int i = 0; i < posting->leg_count; i++)
		accounts[i].id = posting->legs[i].account_id;
	qsort(accounts, posting->leg_count, sizeof(TouchedAccount),
		  compare_accounts);
	for (int i = 0; i < posting->leg_count; i++)
	{
		TouchedAccount *account = &accounts[i];

		if (i > 0 && compare_accounts(account - 1, account) == 0)
			continue;
		if (!account_read(reader, account))
			refuse_account(&account->id);
		if (account->has_min || account->has_max ||
			uuid_compare(&account->id, &posting->hold.account_id) == 0)
			account_lock(reader, account);
	}
	pfree(accounts);
}

static void
check_hold_open(const Hold *hold)
{
	bool is_over = strcmp(hold->state, "open") == 0 && hold_is_over(hold);

	if (strcmp(hold->state, "open") == 0 && !is_over)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_HOLD_NOT_OPEN),
			 errmsg("the hold is %s", is_over ? "expired" : hold->state),
			 errdetail("Of hold %s " INT64_FORMAT " of " INT64_FORMAT
					   " minor units were posted.",
					   uuid_text(&hold->id), hold->posted, hold->amount),
			 errhint("Make a new hold, or post without one.")));
}

/* how much of the hold the legs post; it is locked */
static void
set_part(HoldPosting *posting, int128 others)
{
	const Hold *hold = &posting->hold;
	int64		rest = hold->amount - hold->posted;
	bool		is_debit = account_is_debit_normal(&posting->account);
	int128		part = is_debit ? others : -others;

	if (!posting->has_amounts)
	{
		part = rest;
		posting->legs[1].amount = is_debit ? rest : -rest;
	}
	if (part > rest)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_HOLD_EXCEEDED),
				 errmsg("more than is held cannot be posted"),
				 errdetail("Of hold %s " INT64_FORMAT
						   " minor units of %s are left.",
						   uuid_text(&hold->id), rest,
						   posting->account.currency),
				 errhint("Post what is left, and the remainder by itself.")));
	if (part <= 0)
		refuse_amount(money_from_int128(part),
					  "A hold is posted the way it was made: out of the "
					  "account, so that the other accounts get debits for "
					  "an asset, credits for a liability.");
	posting->part = (int64) part;
	posting->legs[0].account_id = hold->account_id;
	posting->legs[0].amount = is_debit ? -posting->part : posting->part;
}

static void
update_posted(HoldPosting *posting)
{
	Hold *hold = &posting->hold;

	hold->posted += posting->part;
	if (posting->close || hold->posted == hold->amount)
		strlcpy(hold->state, "posted", sizeof(hold->state));
	hold_update(hold);
}

/* the hold is updated before the limit is checked, which counts it */
static void
post_locked(HoldPosting *posting, LedgerJournal *journal)
{
	AccountReader reader;
	int128		  others;

	PreventCommandIfReadOnly("posting a hold");
	PreventCommandIfParallelMode("posting a hold");
	posting->legs[0].account_id = posting->hold.account_id;
	account_reader_begin(&reader, RowShareLock);
	lock_posting_accounts(posting, &reader);
	posting->account.id = posting->hold.account_id;
	if (!account_read(&reader, &posting->account))
		refuse_account(&posting->account.id);
	others = sum_of_others(posting, &reader);
	account_reader_end(&reader);

	if (!hold_lock(&posting->hold.id, &posting->hold))
		refuse_hold(&posting->hold.id);
	check_hold_open(&posting->hold);
	set_part(posting, others);
	update_posted(posting);

	journal->legs = posting->legs;
	journal->leg_count = posting->leg_count;
	ledger_post(journal, 1);
}

static bool
take_posting_key(const char *key, const HoldPosting *posting,
				 LedgerJournal *journal)
{
	Fingerprint fingerprint;
	uint8		digest[FINGERPRINT_SIZE];

	if (key == NULL)
		return true;
	fingerprint_begin(&fingerprint);
	fingerprint_bytes(&fingerprint, &posting->hold.id, UUID_LEN);
	fingerprint_bytes(&fingerprint, posting->legs,
					  sizeof(LedgerLeg) * posting->leg_count);
	fingerprint_bytes(&fingerprint, &posting->close, sizeof(bool));
	fingerprint_bytes(&fingerprint, &journal->effective_at,
					  journal->has_effective_at ? sizeof(TimestampTz) : 0);
	fingerprint_text(&fingerprint, journal->description);
	fingerprint_end(&fingerprint, digest);
	return idempotency_take(key, "post_hold", digest, &journal->id, 1);
}

Datum
payment_post_hold(PG_FUNCTION_ARGS)
{
	char		 *description = text_argument(fcinfo, 6, "description");
	char		 *key = key_argument(fcinfo, 4);
	LedgerJournal journal = { .kind = LEDGER_HOLD_KIND };
	HoldPosting	  posting = { 0 };
	pg_uuid_t	 *id = palloc(sizeof(pg_uuid_t));

	posting.hold.id = *uuid_argument(fcinfo, 0, "hold");
	posting.close = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3);
	read_counter_legs(fcinfo, &posting);
	if (!PG_ARGISNULL(5))
	{
		journal.effective_at = time_argument(fcinfo, 5, "effective_at");
		journal.has_effective_at = true;
	}
	if (description)
		check_text("description", description, strlen(description));
	journal.description = description;
	journal.subject = posting.hold.id;
	journal.has_subject = true;

	uuid7_generate(&journal.id);
	if (take_posting_key(key, &posting, &journal))
	{
		pg_uuid_t hold_id = posting.hold.id;

		if (!hold_find(&hold_id, &posting.hold))
			refuse_hold(&hold_id);
		post_locked(&posting, &journal);
	}
	*id = journal.id;
	PG_RETURN_UUID_P(id);
}

/* ---- void, expire ---- */

/* returns what is set free; again, nothing */
Datum
payment_void_hold(PG_FUNCTION_ARGS)
{
	pg_uuid_t id = *uuid_argument(fcinfo, 0, "hold");
	Hold	  hold;

	if (!hold_lock(&id, &hold))
		refuse_hold(&id);
	if (strcmp(hold.state, "voided") == 0)
		PG_RETURN_INT64(0);
	check_hold_open(&hold);
	strlcpy(hold.state, "voided", sizeof(hold.state));
	hold_update(&hold);
	PG_RETURN_INT64(hold.amount - hold.posted);
}

Datum
payment_expire_holds(PG_FUNCTION_ARGS)
{
	int32 count = int32_argument(fcinfo, 0, "max_holds");

	if (count < 1 || count > EXPIRE_MAX_HOLDS)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
				 errmsg("invalid max_holds"), errdetail("It is %d.", count),
				 errhint("Pass 1 to %d.", EXPIRE_MAX_HOLDS)));
	PG_RETURN_INT64(hold_expire(count));
}
