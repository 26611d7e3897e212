/*-------------------------------------------------------------------------
 *
 * input.c
 *	  The arguments of the ledger's SQL functions, checked.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "payment.h"
#include "text_guard.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "uuid7.h"

#include "ledger/hold.h"
#include "ledger/input.h"

/* verify() compares these with what they belong to: nobody else posts them */
static const char *const reserved_kinds[] = { "capture",
											  "release",
											  "payout",
											  "payout_paid",
											  "payout_failed",
											  LEDGER_HOLD_KIND,
											  "reversal",
											  "exchange",
											  "exchange_reversed",
											  "exchange_corrected",
											  "psp_fee",
											  "psp_fee_settled" };

bool
is_one_of(const char *word, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
	{
		if (strcmp(word, words[i]) == 0)
			return true;
	}
	return false;
}

void
refuse_argument(const char *name, const char *value, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
			 errmsg("invalid %s", name), errdetail("It is \"%.100s\".", value),
			 errhint("%s", hint)));
}

char *
required_text(FunctionCallInfo fcinfo, int argument, const char *name)
{
	refuse_null(fcinfo, argument, name);
	return text_argument(fcinfo, argument, name);
}

TimestampTz
time_argument(FunctionCallInfo fcinfo, int argument, const char *name)
{
	TimestampTz value = PG_GETARG_TIMESTAMPTZ(argument);

	if (TIMESTAMP_NOT_FINITE(value))
		refuse_argument(name, "infinity", "Pass a time.");
	return value;
}

char *
key_argument(FunctionCallInfo fcinfo, int argument)
{
	char *key;

	if (PG_ARGISNULL(argument))
		return NULL;
	key = text_to_cstring(PG_GETARG_TEXT_PP(argument));
	check_idempotency_key(key, strlen(key));
	return key;
}

static void
refuse_array(const char *name)
{
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
					errmsg("\"%s\" must be a list of values", name),
					errdetail("The array is empty, has several dimensions or "
							  "holds a null."),
					errhint("Pass one element for each leg.")));
}

static ArrayType *
array_argument(FunctionCallInfo fcinfo, int argument, const char *name,
			   int *count)
{
	ArrayType *array;

	refuse_null(fcinfo, argument, name);
	array = PG_GETARG_ARRAYTYPE_P(argument);
	if (ARR_NDIM(array) != 1 || array_contains_nulls(array))
		refuse_array(name);
	*count = ARR_DIMS(array)[0];
	return array;
}

const pg_uuid_t *
uuid_array_argument(FunctionCallInfo fcinfo, int argument, const char *name,
					int *count)
{
	return (pg_uuid_t *) ARR_DATA_PTR(
		array_argument(fcinfo, argument, name, count));
}

const int64 *
bigint_array_argument(FunctionCallInfo fcinfo, int argument, const char *name,
					  int *count)
{
	return (int64 *) ARR_DATA_PTR(
		array_argument(fcinfo, argument, name, count));
}

const int32 *
integer_array_argument(FunctionCallInfo fcinfo, int argument, const char *name,
					   int *count)
{
	return (int32 *) ARR_DATA_PTR(
		array_argument(fcinfo, argument, name, count));
}

Datum *
text_array_argument(FunctionCallInfo fcinfo, int argument, const char *name,
					int *count)
{
	Datum *values;

	deconstruct_array(array_argument(fcinfo, argument, name, count), TEXTOID,
					  -1, false, TYPALIGN_INT, &values, NULL, count);
	return values;
}

OptionalArray
optional_array_argument(FunctionCallInfo fcinfo, int argument,
						const char *name, Oid type, int count)
{
	OptionalArray result = { NULL, NULL };
	ArrayType	 *array;
	int16		  length;
	bool		  by_value;
	char		  align;
	int			  elements;

	if (PG_ARGISNULL(argument))
		return result;
	array = PG_GETARG_ARRAYTYPE_P(argument);
	if (ARR_NDIM(array) != 1 || ARR_DIMS(array)[0] != count)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
				 errmsg("\"%s\" must have one element for each journal", name),
				 errdetail("There are %d journals, and %d elements.", count,
						   ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array))),
				 errhint("Pass null elements for journals that have none, or "
						 "null for the whole.")));
	get_typlenbyvalalign(type, &length, &by_value, &align);
	deconstruct_array(array, type, length, by_value, align, &result.values,
					  &result.nulls, &elements);
	return result;
}

LedgerLeg *
legs_argument(FunctionCallInfo fcinfo, int accounts, int amounts, int *count)
{
	int				 amount_count;
	const pg_uuid_t *ids =
		uuid_array_argument(fcinfo, accounts, "accounts", count);
	const int64 *values =
		bigint_array_argument(fcinfo, amounts, "amounts", &amount_count);
	LedgerLeg *legs;

	if (*count != amount_count)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("accounts and amounts differ in number"),
						errdetail("There are %d accounts and %d amounts.",
								  *count, amount_count),
						errhint("Pass one amount for each account.")));
	legs = palloc_array(LedgerLeg, *count);
	for (int i = 0; i < *count; i++)
	{
		legs[i].account_id = ids[i];
		legs[i].amount = values[i];
	}
	return legs;
}

void
check_manual_kind(const char *kind)
{
	ledger_check_name("kind", kind);
	if (is_one_of(kind, reserved_kinds, lengthof(reserved_kinds)))
		refuse_argument(
			"kind of journal", kind,
			"Journals of this kind come with what they are named for; "
			"choose another kind.");
}

void
refuse_account(const pg_uuid_t *id)
{
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_UNKNOWN_ACCOUNT),
					errmsg("unknown account"),
					errdetail("There is no account %s.", uuid_text(id)),
					errhint("payment.account lists the accounts.")));
}

void
account_argument(FunctionCallInfo fcinfo, int argument,
				 TouchedAccount *account)
{
	pg_uuid_t *id = uuid_argument(fcinfo, argument, "account");

	if (!account_find(id, account))
		refuse_account(id);
}
