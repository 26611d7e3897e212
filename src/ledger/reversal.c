/*-------------------------------------------------------------------------
 *
 * reversal.c
 *	  Taking a journal back, whole or in parts, never more than there was.
 *
 * A journal's row is never written again, and may lie in any partition, so
 * what reversals of it lock is a row of their own in the table "reversal",
 * made with the first of them.  It names the journals that reverse it.  Under
 * its lock, what is left of each account is the sum of the entries of all
 * these, the original's included; it goes towards zero and never beyond.
 *
 * What counts is what a journal does to each account in sum.  Reversals
 * themselves are not reversed: the original can be posted again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "order/idempotency.h"
#include "order/plan.h"
#include "payment.h"
#include "text_guard.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "uuid7.h"

#include "ledger/input.h"
#include "ledger/record.h"

PG_FUNCTION_INFO_V1(payment_reverse_journal);

#define REVERSAL_KIND "reversal"
#define MAX_REVERSALS 1000 /* of one journal */

/* arguments of reverse_journal */
enum
{
	ARG_JOURNAL,
	ARG_AMOUNT,
	ARG_ACCOUNTS,
	ARG_AMOUNTS,
	ARG_KEY,
	ARG_EFFECTIVE_AT,
	ARG_DESCRIPTION
};

/* an account of the original */
typedef struct Remainder
{
	pg_uuid_t account_id;
	char	  currency[CURRENCY_CODE_LENGTH + 1];
	int64	  left;	 /* of what the original did to it */
	int128	  taken; /* by this reversal, of the other sign */
} Remainder;

typedef struct Reversal
{
	LedgerJournal journal;
	bool		  has_amount;
	int64		  amount; /* a part of the whole, or */
	LedgerLeg	 *legs;	  /* as the caller wants it, or all: NULL */
	int			  leg_count;
	Remainder	 *remainders; /* ascending by account */
	int			  remainder_count;
} Reversal;

static void
pg_attribute_noreturn()
	refuse_excess(const Reversal *reversal, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_REVERSAL_EXCEEDED),
			 errmsg("more than is left of the journal cannot be reversed"),
			 errdetail("Journal %s: %s",
					   uuid_text(&reversal->journal.reverses), detail),
			 errhint("See the journal's entries, and those of the journals "
					 "that reverse it.")));
}

/* ---- the original ---- */

static void
check_original(Reversal *reversal)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID };
	LedgerJournal	 *journal = &reversal->journal;
	Datum			  values[] = { UUIDPGetDatum(&journal->reverses) };
	HeapTuple		  row;
	Datum			  subject;
	bool			  isnull;

	plan_keep(&plan,
			  "SELECT subject, reverses IS NOT NULL FROM payment.journal "
			  "WHERE id = $1",
			  lengthof(types), types);
	if (record_execute(plan, values, NULL) != 1)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_UNKNOWN_OBJECT),
						errmsg("unknown journal"),
						errdetail("There is no journal %s.",
								  uuid_text(&journal->reverses)),
						errhint("payment.journal lists the journals.")));
	row = SPI_tuptable->vals[0];
	if (DatumGetBool(SPI_getbinval(row, SPI_tuptable->tupdesc, 2, &isnull)))
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_NOT_REVERSIBLE),
						errmsg("a reversal cannot be reversed"),
						errdetail("Journal %s reverses another one.",
								  uuid_text(&journal->reverses)),
						errhint("Post the original journal again.")));
	subject = SPI_getbinval(row, SPI_tuptable->tupdesc, 1, &isnull);
	journal->has_subject = !isnull;
	if (!isnull)
		journal->subject = *DatumGetUUIDP(subject);
}

/*
 * Take the lock, and return the journals that reverse it so far.  Of two that
 * are the first, one waits in its INSERT for the other.
 */
static Datum
lock_reversals(const Reversal *reversal)
{
	static SPIPlanPtr insert_plan = NULL;
	static SPIPlanPtr lock_plan = NULL;
	static const Oid  types[] = { UUIDOID };
	Datum			  values[1];
	Datum			  reversals;
	bool			  isnull;

	values[0] = UUIDPGetDatum(&reversal->journal.reverses);
	plan_keep(&insert_plan,
			  "INSERT INTO payment.reversal (journal_id, reversals) "
			  "VALUES ($1, '{}') ON CONFLICT (journal_id) DO NOTHING",
			  lengthof(types), types);
	plan_keep(&lock_plan,
			  "SELECT reversals FROM payment.reversal WHERE journal_id = $1 "
			  "FOR NO KEY UPDATE",
			  lengthof(types), types);
	record_execute(insert_plan, values, NULL);
	if (record_execute(lock_plan, values, NULL) != 1)
		elog(ERROR, "reversal could not be locked");
	reversals = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
							  &isnull);
	if (ArrayGetNItems(ARR_NDIM(DatumGetArrayTypeP(reversals)),
					   ARR_DIMS(DatumGetArrayTypeP(reversals))) >=
		MAX_REVERSALS)
		refuse_size("reversals of one journal", MAX_REVERSALS + 1,
					MAX_REVERSALS);
	return reversals;
}

/* what was detached with its partition cannot be added up */
static void
check_reversals_present(const Reversal *reversal, Datum reversals)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDARRAYOID };
	Datum			  values[] = { reversals };

	plan_keep(&plan,
			  "SELECT FROM pg_catalog.unnest($1) AS r (id) WHERE NOT EXISTS "
			  "(SELECT FROM payment.journal j WHERE j.id = r.id)",
			  lengthof(types), types);
	if (record_execute(plan, values, NULL) == 0)
		return;
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_NOT_REVERSIBLE),
					errmsg("journals that reverse this one were detached"),
					errdetail("What is left of journal %s cannot be told.",
							  uuid_text(&reversal->journal.reverses)),
					errhint("Post a journal that corrects it.")));
}

/* what is left of the original, account by account */
static void
read_remainders(Reversal *reversal, Datum reversals)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID, UUIDARRAYOID };
	Datum			  values[2];

	check_reversals_present(reversal, reversals);
	values[0] = UUIDPGetDatum(&reversal->journal.reverses);
	values[1] = reversals;
	plan_keep(&plan,
			  "SELECT e.account_id, a.currency, "
			  "pg_catalog.sum(e.amount)::pg_catalog.int8 "
			  "FROM pg_catalog.unnest($2 || $1) AS j (id) "
			  "CROSS JOIN LATERAL (SELECT account_id, amount "
			  "FROM payment.entry WHERE journal_id = j.id OFFSET 0) e "
			  "JOIN payment.account a ON a.id = e.account_id "
			  "GROUP BY e.account_id, a.currency ORDER BY e.account_id",
			  lengthof(types), types);
	reversal->remainder_count = (int) record_execute(plan, values, NULL);
	reversal->remainders =
		SPI_palloc(sizeof(Remainder) * Max(1, reversal->remainder_count));
	for (int i = 0; i < reversal->remainder_count; i++)
	{
		Remainder *remainder = &reversal->remainders[i];
		HeapTuple  row = SPI_tuptable->vals[i];
		TupleDesc  desc = SPI_tuptable->tupdesc;
		bool	   isnull;

		remainder->account_id =
			*DatumGetUUIDP(SPI_getbinval(row, desc, 1, &isnull));
		strlcpy(remainder->currency, SPI_getvalue(row, desc, 2),
				sizeof(remainder->currency));
		remainder->left = DatumGetInt64(SPI_getbinval(row, desc, 3, &isnull));
		remainder->taken = 0;
	}
}

/* ---- what to reverse of it ---- */

static int
compare_remainders(const void *a, const void *b)
{
	return uuid_compare(&((const Remainder *) a)->account_id,
						&((const Remainder *) b)->account_id);
}

/* each account's legs go against what is left of it, and not beyond */
static void
check_legs(Reversal *reversal)
{
	for (int i = 0; i < reversal->leg_count; i++)
	{
		Remainder  key = { .account_id = reversal->legs[i].account_id };
		Remainder *found =
			bsearch(&key, reversal->remainders, reversal->remainder_count,
					sizeof(Remainder), compare_remainders);

		if (found != NULL)
			found->taken += reversal->legs[i].amount;
		else
			refuse_excess(reversal, psprintf("it has no entry on account %s.",
											 uuid_text(&key.account_id)));
	}
	for (int i = 0; i < reversal->remainder_count; i++)
	{
		const Remainder *r = &reversal->remainders[i];

		if (r->left >= 0 ? r->taken <= 0 && r->left + r->taken >= 0
						 : r->taken >= 0 && r->left + r->taken <= 0)
			continue;
		refuse_excess(reversal,
					  psprintf("on account %s " INT64_FORMAT
							   " minor units of %s (debits positive) are "
							   "left.",
							   uuid_text(&r->account_id), r->left,
							   r->currency));
	}
}

/* all that is left */
static void
set_whole(Reversal *reversal)
{
	for (int i = 0; i < reversal->remainder_count; i++)
		reversal->remainders[i].taken = -(int128) reversal->remainders[i].left;
}

/* the sum of debits that are left: what a part is a part of */
static int64
whole_amount(const Reversal *reversal)
{
	int128 whole = 0;

	for (int i = 0; i < reversal->remainder_count; i++)
	{
		const Remainder *r = &reversal->remainders[i];

		if (strcmp(r->currency, reversal->remainders[0].currency) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
					 errmsg("a journal in several currencies has no amount"),
					 errdetail("It moves %s and %s.",
							   reversal->remainders[0].currency, r->currency),
					 errhint("Pass accounts and amounts instead.")));
		if (r->left > 0)
			whole += r->left;
	}
	return money_from_int128(whole);
}

/* amount / whole of a part of the whole, half up */
static int128
share_of(int128 part, int64 amount, int64 whole)
{
	return (2 * part * amount + whole) / (2 * (int128) whole);
}

/*
 * A part of each account's remainder.  Rounding the running sums, and not
 * each part, gives every side exactly the amount, and no account more than is
 * left of it; what the last part leaves is zero everywhere.
 */
static void
set_part(Reversal *reversal)
{
	int64  whole = whole_amount(reversal);
	int128 debits = 0;
	int128 credits = 0;

	if (reversal->amount <= 0)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_AMOUNT),
						errmsg("invalid amount of a reversal"),
						errdetail("It is " INT64_FORMAT " minor units.",
								  reversal->amount),
						errhint("Pass an amount above zero.")));
	if (reversal->amount > whole)
		refuse_excess(reversal,
					  psprintf(INT64_FORMAT " minor units are left.", whole));
	for (int i = 0; i < reversal->remainder_count; i++)
	{
		Remainder *r = &reversal->remainders[i];
		int128	  *sum = r->left > 0 ? &debits : &credits;
		int128	   before = share_of(*sum, reversal->amount, whole);
		int128	   part;

		*sum += r->left > 0 ? r->left : -(int128) r->left;
		part = share_of(*sum, reversal->amount, whole) - before;
		r->taken = r->left > 0 ? -part : part;
	}
}

static void
set_legs(Reversal *reversal)
{
	LedgerJournal *journal = &reversal->journal;

	if (reversal->legs != NULL)
	{
		check_legs(reversal);
		journal->legs = reversal->legs;
		journal->leg_count = reversal->leg_count;
		return;
	}
	if (reversal->has_amount)
		set_part(reversal);
	else
		set_whole(reversal);
	journal->legs = palloc_array(LedgerLeg, Max(1, reversal->remainder_count));
	for (int i = 0; i < reversal->remainder_count; i++)
	{
		const Remainder *r = &reversal->remainders[i];

		if (r->taken == 0)
			continue;
		journal->legs[journal->leg_count].account_id = r->account_id;
		journal->legs[journal->leg_count].amount = money_from_int128(r->taken);
		journal->leg_count++;
	}
	if (journal->leg_count == 0)
		refuse_excess(reversal, "nothing is left of it.");
}

/* ---- the function ---- */

static void
add_reversal(const LedgerJournal *journal)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = { UUIDOID, UUIDOID };
	Datum			  values[] = { UUIDPGetDatum(&journal->reverses),
								   UUIDPGetDatum(&journal->id) };

	plan_keep(&plan,
			  "UPDATE payment.reversal SET reversals = reversals || $2 "
			  "WHERE journal_id = $1",
			  lengthof(types), types);
	if (record_execute(plan, values, NULL) != 1)
		elog(ERROR, "reversal could not be updated though it is locked");
}

static void
reverse(Reversal *reversal)
{
	PreventCommandIfReadOnly("reversing a journal");
	PreventCommandIfParallelMode("reversing a journal");
	spi_begin();
	check_original(reversal);
	read_remainders(reversal, lock_reversals(reversal));
	add_reversal(&reversal->journal);
	spi_end();
	set_legs(reversal);
	ledger_post(&reversal->journal, 1);
}

static void
read_arguments(FunctionCallInfo fcinfo, Reversal *reversal)
{
	LedgerJournal *journal = &reversal->journal;
	char *description = text_argument(fcinfo, ARG_DESCRIPTION, "description");

	journal->kind = REVERSAL_KIND;
	journal->reverses = *uuid_argument(fcinfo, ARG_JOURNAL, "journal");
	journal->has_reverses = true;
	reversal->has_amount = !PG_ARGISNULL(ARG_AMOUNT);
	if (reversal->has_amount)
		reversal->amount = PG_GETARG_INT64(ARG_AMOUNT);
	if (!PG_ARGISNULL(ARG_ACCOUNTS) || !PG_ARGISNULL(ARG_AMOUNTS))
		reversal->legs = legs_argument(fcinfo, ARG_ACCOUNTS, ARG_AMOUNTS,
									   &reversal->leg_count);
	if (reversal->legs && reversal->has_amount)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
				 errmsg("amount and amounts exclude each other"),
				 errdetail("Both were passed."),
				 errhint("Pass an amount for a part of each leg, or "
						 "accounts and amounts, or neither for all that is "
						 "left.")));
	journal->has_effective_at = !PG_ARGISNULL(ARG_EFFECTIVE_AT);
	if (journal->has_effective_at)
		journal->effective_at =
			time_argument(fcinfo, ARG_EFFECTIVE_AT, "effective_at");
	if (description)
		check_text("description", description, strlen(description));
	journal->description = description;
}

static bool
take_key(const char *key, Reversal *reversal)
{
	LedgerJournal *journal = &reversal->journal;
	Fingerprint	   fingerprint;
	uint8		   digest[FINGERPRINT_SIZE];

	if (key == NULL)
		return true;
	fingerprint_begin(&fingerprint);
	fingerprint_bytes(&fingerprint, &journal->reverses, UUID_LEN);
	fingerprint_bytes(&fingerprint, &reversal->amount,
					  reversal->has_amount ? sizeof(int64) : 0);
	fingerprint_bytes(&fingerprint, reversal->legs,
					  sizeof(LedgerLeg) * reversal->leg_count);
	fingerprint_bytes(&fingerprint, &journal->effective_at,
					  journal->has_effective_at ? sizeof(TimestampTz) : 0);
	fingerprint_text(&fingerprint, journal->description);
	fingerprint_end(&fingerprint, digest);
	return idempotency_take(key, "reverse_journal", digest, &journal->id, 1);
}

Datum
payment_reverse_journal(PG_FUNCTION_ARGS)
{
	Reversal   reversal = { 0 };
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));
	char	  *key = key_argument(fcinfo, ARG_KEY);

	read_arguments(fcinfo, &reversal);
	uuid7_generate(&reversal.journal.id);
	if (take_key(key, &reversal))
		reverse(&reversal);
	*id = reversal.journal.id;
	PG_RETURN_UUID_P(id);
}
