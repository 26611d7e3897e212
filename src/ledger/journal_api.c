/*-------------------------------------------------------------------------
 *
 * journal_api.c
 *	  The SQL functions that post journals by hand: one, or very many.
 *
 * Many come as columns: journals as kinds, subjects and so on, their legs as
 * journal numbers, accounts and amounts.  Every driver can pass such arrays,
 * SQL makes them with array_agg(), and the legs are read where they lie.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "order/idempotency.h"
#include "payment.h"
#include "text_guard.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "uuid7.h"

#include "ledger/input.h"

PG_FUNCTION_INFO_V1(payment_post_journal);
PG_FUNCTION_INFO_V1(payment_post_journals);

/* arguments of post_journals */
enum
{
	ARG_KINDS,
	ARG_JOURNALS,
	ARG_ACCOUNTS,
	ARG_AMOUNTS,
	ARG_SUBJECTS,
	ARG_EFFECTIVE_ATS,
	ARG_DESCRIPTIONS,
	ARG_KEY,
	ARG_RETURN_BALANCES
};

/*
 * Not SECURITY DEFINER, as all other writers are.  Changing the user and the
 * search_path costs as much as an index entry or two, since leaving such a
 * function goes through all of the server's settings; and here it would change
 * nothing: whoever may execute this reaches the tables through the table
 * access method, which knows neither privileges nor names.  So nothing below
 * ledger_post() may run SQL.
 */
Datum
payment_post_journal(PG_FUNCTION_ARGS)
{
	LedgerJournal journal = { 0 };
	pg_uuid_t	 *id = palloc(sizeof(pg_uuid_t));

	journal.description = text_argument(fcinfo, 5, "description");
	journal.kind = required_text(fcinfo, 0, "kind");
	check_manual_kind(journal.kind);
	journal.legs = legs_argument(fcinfo, 1, 2, &journal.leg_count);
	if (!PG_ARGISNULL(3))
	{
		journal.subject = *PG_GETARG_UUID_P(3);
		journal.has_subject = true;
	}
	if (!PG_ARGISNULL(4))
	{
		journal.effective_at = time_argument(fcinfo, 4, "effective_at");
		journal.has_effective_at = true;
	}
	if (journal.description)
		check_text("description", journal.description,
				   strlen(journal.description));
	ledger_post(&journal, 1);
	*id = journal.id;
	PG_RETURN_UUID_P(id);
}

/* each has a kind; most have few different ones */
static LedgerJournal *
start_journals(FunctionCallInfo fcinfo, int *count)
{
	Datum *kinds = text_array_argument(fcinfo, ARG_KINDS, "kinds", count);
	LedgerJournal *journals;

	if (*count > LEDGER_MAX_JOURNALS)
		refuse_size("journals in one call", *count, LEDGER_MAX_JOURNALS);
	journals = palloc0(sizeof(LedgerJournal) * *count);
	for (int i = 0; i < *count; i++)
	{
		text *kind = DatumGetTextPP(kinds[i]);
		int	  length = VARSIZE_ANY_EXHDR(kind);

		if (i > 0 && (int) strlen(journals[i - 1].kind) == length &&
			memcmp(VARDATA_ANY(kind), journals[i - 1].kind, length) == 0)
			journals[i].kind = journals[i - 1].kind;
		else
		{
			journals[i].kind = text_to_cstring(kind);
			check_text("kind", journals[i].kind, length);
		}
	}
	return journals;
}

static void
check_kinds(const LedgerJournal *journals, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (i == 0 || journals[i].kind != journals[i - 1].kind)
			check_manual_kind(journals[i].kind);
	}
}

static void
refuse_journal_number(int leg, int number, int count)
{
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
			 errmsg("legs are not in the order of their journals"),
			 errdetail("Leg %d belongs to journal %d of %d.", leg + 1, number,
					   count),
			 errhint("Pass for each leg the number of its journal: all legs "
					 "of 1, then all of 2, and so on.")));
}

/* the legs come in the order of their journals, numbered from 1 */
static void
share_legs(FunctionCallInfo fcinfo, LedgerJournal *journals, int count)
{
	int		   leg_count;
	int		   number_count;
	LedgerLeg *legs =
		legs_argument(fcinfo, ARG_ACCOUNTS, ARG_AMOUNTS, &leg_count);
	const int32 *numbers = integer_array_argument(fcinfo, ARG_JOURNALS,
												  "journals", &number_count);
	int			 current = 0;

	if (number_count != leg_count)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("journals and accounts differ in number"),
						errdetail("There are %d journal numbers and %d "
								  "accounts.",
								  number_count, leg_count),
						errhint("Pass for each leg the number of its "
								"journal.")));
	for (int leg = 0; leg < leg_count; leg++)
	{
		if (numbers[leg] == current + 1 && current < count)
			journals[current++].legs = &legs[leg];
		else if (numbers[leg] != current || current == 0)
			refuse_journal_number(leg, numbers[leg], count);
		journals[current - 1].leg_count++;
	}
}

static void
describe_journals(FunctionCallInfo fcinfo, LedgerJournal *journals, int count)
{
	OptionalArray subjects =
		optional_array_argument(fcinfo, ARG_SUBJECTS, "subjects", UUIDOID,
								count);
	OptionalArray times =
		optional_array_argument(fcinfo, ARG_EFFECTIVE_ATS, "effective_ats",
								TIMESTAMPTZOID, count);
	OptionalArray texts =
		optional_array_argument(fcinfo, ARG_DESCRIPTIONS, "descriptions",
								TEXTOID, count);

	for (int i = 0; i < count; i++)
	{
		LedgerJournal *journal = &journals[i];

		if (subjects.values && !subjects.nulls[i])
		{
			journal->subject = *DatumGetUUIDP(subjects.values[i]);
			journal->has_subject = true;
		}
		if (times.values && !times.nulls[i])
		{
			journal->effective_at = DatumGetTimestampTz(times.values[i]);
			journal->has_effective_at = true;
			if (TIMESTAMP_NOT_FINITE(journal->effective_at))
				refuse_argument("effective_at", "infinity", "Pass a time.");
		}
		if (texts.values && !texts.nulls[i])
		{
			char *description = TextDatumGetCString(texts.values[i]);

			check_text("description", description, strlen(description));
			journal->description = description;
		}
	}
}

/* what the call asked for; the way it asked for balances is no part of it */
static void
fingerprint_journals(const LedgerJournal *journals, int count, uint8 *result)
{
	Fingerprint fingerprint;

	fingerprint_begin(&fingerprint);
	for (int i = 0; i < count; i++)
	{
		const LedgerJournal *journal = &journals[i];

		fingerprint_text(&fingerprint, journal->kind);
		fingerprint_bytes(&fingerprint, &journal->subject,
						  journal->has_subject ? UUID_LEN : 0);
		fingerprint_bytes(&fingerprint, &journal->effective_at,
						  journal->has_effective_at ? sizeof(TimestampTz) : 0);
		fingerprint_text(&fingerprint, journal->description);
		fingerprint_bytes(&fingerprint, journal->legs,
						  sizeof(LedgerLeg) * journal->leg_count);
	}
	fingerprint_end(&fingerprint, result);
}

/* false when the key's call has been made, and journals have its ids */
static bool
take_key(const char *key, LedgerJournal *journals, int count)
{
	uint8	   fingerprint[FINGERPRINT_SIZE];
	pg_uuid_t *ids = palloc_array(pg_uuid_t, count);
	bool	   is_new;

	fingerprint_journals(journals, count, fingerprint);
	for (int i = 0; i < count; i++)
	{
		uuid7_generate(&journals[i].id);
		ids[i] = journals[i].id;
	}
	is_new = idempotency_take(key, "post_journals", fingerprint, ids, count);
	for (int i = 0; i < count; i++)
		journals[i].id = ids[i];
	return is_new;
}

static int
compare_balances(const void *a, const void *b)
{
	return uuid_compare(&((const LedgerBalance *) a)->account_id,
						&((const LedgerBalance *) b)->account_id);
}

/* the balances as they are now, of all accounts of the journals */
static void
present_balances(const LedgerJournal *journals, int count,
				 PostingExtras *extras)
{
	const LedgerJournal *last = &journals[count - 1];
	int total = (int) (last->legs + last->leg_count - journals[0].legs);
	LedgerBalance *balances =
		palloc_extended(sizeof(LedgerBalance) * total, MCXT_ALLOC_HUGE);
	BalanceReader reader;
	int			  used = 0;

	for (int i = 0; i < total; i++)
		balances[i].account_id = journals[0].legs[i].account_id;
	qsort(balances, total, sizeof(LedgerBalance), compare_balances);
	balance_reader_begin(&reader);
	for (int i = 0; i < total; i++)
	{
		TouchedAccount account;

		if (i > 0 && compare_balances(&balances[used - 1], &balances[i]) == 0)
			continue;
		balances[used] = balances[i];
		if (!account_find(&balances[used].account_id, &account))
			refuse_account(&balances[used].account_id);
		balances[used].posted =
			account_normal_side(&account, balance_read(&reader, &account.id));
		used++;
	}
	balance_reader_end(&reader);
	extras->balances = balances;
	extras->balance_count = used;
}

static ArrayType *
uuid_array(Datum *ids, int count)
{
	return construct_array(ids, count, UUIDOID, UUID_LEN, false,
						   TYPALIGN_CHAR);
}

static Datum
posting_result(FunctionCallInfo fcinfo, LedgerJournal *journals, int count,
			   PostingExtras *extras)
{
	Datum	 *ids = palloc_array(Datum, Max(count, extras->balance_count));
	Datum	 *amounts = palloc_array(Datum, Max(1, extras->balance_count));
	Datum	  values[3] = { 0 };
	bool	  nulls[3] = { false, !extras->wants_balances,
						   !extras->wants_balances };
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "post_journals() must return a row");
	for (int i = 0; i < count; i++)
		ids[i] = UUIDPGetDatum(&journals[i].id);
	values[0] = PointerGetDatum(uuid_array(ids, count));
	if (extras->wants_balances)
	{
		for (int i = 0; i < extras->balance_count; i++)
		{
			ids[i] = UUIDPGetDatum(&extras->balances[i].account_id);
			amounts[i] = Int64GetDatum(extras->balances[i].posted);
		}
		values[1] = PointerGetDatum(uuid_array(ids, extras->balance_count));
		values[2] = PointerGetDatum(
			construct_array(amounts, extras->balance_count, INT8OID,
							sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	}
	return HeapTupleGetDatum(
		heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

Datum
payment_post_journals(PG_FUNCTION_ARGS)
{
	int			   count;
	LedgerJournal *journals = start_journals(fcinfo, &count);
	char		  *key = key_argument(fcinfo, ARG_KEY);
	PostingExtras  extras = { 0 };

	describe_journals(fcinfo, journals, count);
	check_kinds(journals, count);
	share_legs(fcinfo, journals, count);
	extras.wants_balances = !PG_ARGISNULL(ARG_RETURN_BALANCES) &&
							PG_GETARG_BOOL(ARG_RETURN_BALANCES);

	if (key == NULL || take_key(key, journals, count))
		ledger_post_with(journals, count, &extras);
	else if (extras.wants_balances)
		present_balances(journals, count, &extras);
	PG_RETURN_DATUM(posting_result(fcinfo, journals, count, &extras));
}
