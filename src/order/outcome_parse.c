/*-------------------------------------------------------------------------
 *
 * outcome_parse.c
 *	  Read and check what the worker says came of an attempt.
 *
 * What the worker itself gets wrong is an error: the attempt then counts as
 * never answered, and the PSP is asked again.  What a PSP writes is free text
 * that may be long, or hold a card number: that is cut or removed, the outcome
 * is not lost for it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "errcodes.h"
#include "money.h"
#include "order/outcome.h"
#include "order/psp_reference.h"
#include "text_guard.h"

#define OUTCOMES_MAX 10000
#define ERROR_CODE_MAX_BYTES 100
#define ERROR_MESSAGE_MAX_BYTES 500
#define HTTP_STATUS_MAX 999
#define RATE_LENGTH_MAX 32

/* minor units: sums of them must fit, too */
#define SETTLED_AMOUNT_MAX INT64CONST(10000000000000000)

/* columns of payment.attempt_outcome */
enum
{
	FIELD_ATTEMPT_ID,
	FIELD_OUTCOME,
	FIELD_HTTP_STATUS,
	FIELD_LATENCY_MS,
	FIELD_PSP_REFERENCE,
	FIELD_AMOUNT,
	FIELD_CURRENCY,
	FIELD_ERROR_CODE,
	FIELD_ERROR_MESSAGE,
	FIELD_RETRY_AFTER_MS,
	FIELD_DECLINE_CLASS,
	FIELD_AUTHORIZED_UNTIL,
	FIELD_CHILD_REFERENCE,
	FIELD_SETTLED_AMOUNT,
	FIELD_SETTLED_CURRENCY,
	FIELD_EXCHANGE_RATE,
	FIELD_PSP_FEE,
	FIELD_PAYMENT_METHOD,
	FIELD_COUNT
};

static const Oid field_types[FIELD_COUNT] = {
	UUIDOID, TEXTOID, INT4OID, INT4OID,	   TEXTOID, INT8OID,
	TEXTOID, TEXTOID, TEXTOID, INT8OID,	   TEXTOID, TIMESTAMPTZOID,
	TEXTOID, INT8OID, TEXTOID, NUMERICOID, INT8OID, TEXTOID,
};

static const char *const kind_names[] = {
	[OUTCOME_SUCCEEDED] = "succeeded",
	[OUTCOME_PENDING] = "pending",
	[OUTCOME_DECLINED] = "declined",
	[OUTCOME_FAILED] = "failed",
	[OUTCOME_RETRY] = "retry",
	[OUTCOME_UNKNOWN] = "unknown",
	[OUTCOME_NOT_FOUND] = "not_found",
	[OUTCOME_KEY_SPENT] = "key_spent",
	[OUTCOME_AUTHORIZED] = "authorized",
	[OUTCOME_VOIDED] = "voided",
	[OUTCOME_EXPIRED] = "expired",
	[OUTCOME_REQUIRES_ACTION] = "requires_action",
	[OUTCOME_TOKENIZED] = "tokenized",
};

static const char *const decline_classes[] = {
	"soft",
	"hard",
	"authentication_required",
	"not_applicable",
};

static void
pg_attribute_noreturn() refuse(int number, const char *detail)
{
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
					errmsg("outcome %d is invalid", number + 1),
					errdetail("%s", detail),
					errhint("See the comment of the type "
							"payment.attempt_outcome.")));
}

static const char *
field_text(const Datum *values, const bool *nulls, int field)
{
	return nulls[field] ? NULL : TextDatumGetCString(values[field]);
}

/* a name at the PSP; an empty one is none */
static const char *
field_reference(const Datum *values, const bool *nulls, int field, int number)
{
	const char *reference = field_text(values, nulls, field);

	if (reference == NULL || *reference == '\0')
		return NULL;
	if (strlen(reference) > PSP_REFERENCE_MAX_BYTES)
		refuse(number, "The PSP's reference is longer than 255 bytes.");
	return reference;
}

/* an empty text says nothing */
static const char *
safe_text(const char *text, int max_bytes)
{
	int length;

	if (text == NULL || *text == '\0')
		return NULL;
	length = (int) strlen(text);
	if (contains_card_number(text, length))
		return "[removed]";
	if (length > max_bytes)
		return pnstrdup(text, pg_mbcliplen(text, length, max_bytes));
	return text;
}

static void
parse_kind(Outcome *outcome, const char *name, int number)
{
	for (int i = 0; i < (int) lengthof(kind_names); i++)
	{
		if (name && strcmp(name, kind_names[i]) == 0)
		{
			outcome->kind = (OutcomeKind) i;
			outcome->name = kind_names[i];
			return;
		}
	}
	refuse(number, "The outcome is none of succeeded, authorized, pending, "
				   "declined, failed, voided, expired, retry, unknown, "
				   "not_found, key_spent, requires_action and tokenized.");
}

static bool
is_currency_code(const char *code)
{
	return strlen(code) == CURRENCY_CODE_LENGTH &&
		   strspn(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == CURRENCY_CODE_LENGTH;
}

static void
parse_money(Outcome *outcome, const Datum *values, const bool *nulls,
			int number)
{
	if (outcome->kind != OUTCOME_SUCCEEDED &&
		outcome->kind != OUTCOME_AUTHORIZED)
		return;
	if (nulls[FIELD_AMOUNT] || nulls[FIELD_CURRENCY])
		refuse(number, "A success needs an amount and a currency.");
	outcome->amount = DatumGetInt64(values[FIELD_AMOUNT]);
	outcome->currency = field_text(values, nulls, FIELD_CURRENCY);
	if (outcome->amount < 0)
		refuse(number, "The amount is negative.");
	if (!is_currency_code(outcome->currency))
		refuse(number, "The currency is not three upper-case letters.");
}

/* A rate is a finite number above zero, of no more digits than are of use. */
static void
parse_rate(Outcome *outcome, const Datum *values, const bool *nulls,
		   int number)
{
	char *rate;

	if (nulls[FIELD_EXCHANGE_RATE])
		return;
	rate = DatumGetCString(
		DirectFunctionCall1(numeric_out, values[FIELD_EXCHANGE_RATE]));
	if (strlen(rate) > RATE_LENGTH_MAX ||
		strspn(rate, "0123456789.") != strlen(rate) ||
		strpbrk(rate, "123456789") == NULL)
		refuse(number, "The exchange rate is not a finite number above zero "
					   "of at most 32 characters.");
	outcome->exchange_rate = rate;
}

/* What the PSP credits and keeps for it, perhaps in another currency. */
static void
parse_settled(Outcome *outcome, const Datum *values, const bool *nulls,
			  int number)
{
	outcome->has_settled_amount = !nulls[FIELD_SETTLED_AMOUNT];
	if (outcome->has_settled_amount)
		outcome->settled_amount = DatumGetInt64(values[FIELD_SETTLED_AMOUNT]);
	outcome->has_psp_fee = !nulls[FIELD_PSP_FEE];
	if (outcome->has_psp_fee)
		outcome->psp_fee = DatumGetInt64(values[FIELD_PSP_FEE]);
	outcome->settled_currency =
		field_text(values, nulls, FIELD_SETTLED_CURRENCY);
	if (outcome->settled_currency == NULL)
	{
		if (outcome->has_settled_amount || outcome->has_psp_fee)
			refuse(number, "What is settled needs a currency.");
	}
	else if (!is_currency_code(outcome->settled_currency))
		refuse(number, "The settled currency is not three upper-case "
					   "letters.");
	else if (currency_exponent(outcome->settled_currency) < 0)
		refuse(number, "The settled currency is none of ISO 4217.");
	if (outcome->settled_amount < 0 ||
		outcome->settled_amount > SETTLED_AMOUNT_MAX)
		refuse(number, "The settled amount is negative or too large.");
	if (outcome->psp_fee < 0 || outcome->psp_fee > SETTLED_AMOUNT_MAX)
		refuse(number, "The PSP's fee is negative or too large.");
	parse_rate(outcome, values, nulls, number);
}

static void
parse_numbers(Outcome *outcome, const Datum *values, const bool *nulls,
			  int number)
{
	outcome->has_http_status = !nulls[FIELD_HTTP_STATUS];
	if (outcome->has_http_status)
		outcome->http_status = DatumGetInt32(values[FIELD_HTTP_STATUS]);
	if (outcome->http_status < 0 || outcome->http_status > HTTP_STATUS_MAX)
		refuse(number, "The HTTP status is out of range.");

	outcome->has_latency = !nulls[FIELD_LATENCY_MS];
	if (outcome->has_latency)
		outcome->latency_ms = DatumGetInt32(values[FIELD_LATENCY_MS]);
	if (outcome->latency_ms < 0)
		refuse(number, "The latency is negative.");

	outcome->has_retry_after = !nulls[FIELD_RETRY_AFTER_MS];
	if (outcome->has_retry_after)
		outcome->retry_after_ms = DatumGetInt64(values[FIELD_RETRY_AFTER_MS]);
	if (outcome->retry_after_ms < 0)
		refuse(number, "The time to retry after is negative.");
}

/* Whoever decides where it may be tried again relies on the word. */
static void
parse_decline_class(Outcome *outcome, const char *name, int number)
{
	if (name == NULL)
		return;
	if (outcome->kind != OUTCOME_DECLINED && outcome->kind != OUTCOME_FAILED)
		refuse(number, "Only what was declined or failed has a decline "
					   "class.");
	for (int i = 0; i < (int) lengthof(decline_classes); i++)
	{
		if (strcmp(name, decline_classes[i]) == 0)
		{
			outcome->decline_class = decline_classes[i];
			return;
		}
	}
	refuse(number, "The decline class is none of soft, hard, "
				   "authentication_required and not_applicable.");
}

static void
parse_outcome(Outcome *outcome, const Datum *values, const bool *nulls,
			  int number)
{
	if (nulls[FIELD_ATTEMPT_ID])
		refuse(number, "It names no attempt.");
	outcome->attempt_id = *DatumGetUUIDP(values[FIELD_ATTEMPT_ID]);
	parse_kind(outcome, field_text(values, nulls, FIELD_OUTCOME), number);
	parse_money(outcome, values, nulls, number);
	parse_settled(outcome, values, nulls, number);
	parse_numbers(outcome, values, nulls, number);
	parse_decline_class(outcome,
						field_text(values, nulls, FIELD_DECLINE_CLASS),
						number);

	outcome->psp_reference =
		field_reference(values, nulls, FIELD_PSP_REFERENCE, number);
	outcome->child_reference =
		field_reference(values, nulls, FIELD_CHILD_REFERENCE, number);
	outcome->payment_method =
		field_reference(values, nulls, FIELD_PAYMENT_METHOD, number);
	if (outcome->kind == OUTCOME_TOKENIZED &&
		(outcome->payment_method == NULL || *outcome->payment_method == '\0'))
		refuse(number, "What is tokenized needs a payment method.");
	if (!nulls[FIELD_AUTHORIZED_UNTIL])
		outcome->authorized_until =
			DatumGetTimestampTz(values[FIELD_AUTHORIZED_UNTIL]);
	outcome->error_code =
		safe_text(field_text(values, nulls, FIELD_ERROR_CODE),
				  ERROR_CODE_MAX_BYTES);
	outcome->error_message =
		safe_text(field_text(values, nulls, FIELD_ERROR_MESSAGE),
				  ERROR_MESSAGE_MAX_BYTES);
}

/* The type is ours, but ALTER TYPE may have been at it. */
static void
check_row_type(TupleDesc desc)
{
	bool same = desc->natts >= FIELD_COUNT;

	for (int i = 0; same && i < FIELD_COUNT; i++)
		same = TupleDescAttr(desc, i)->atttypid == field_types[i];
	if (!same)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("type payment.attempt_outcome was altered")));
}

static void
parse_row(Outcome *outcome, HeapTupleHeader row, int number)
{
	TupleDesc	  desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(row),
												HeapTupleHeaderGetTypMod(row));
	HeapTupleData tuple = { .t_len = HeapTupleHeaderGetDatumLength(row),
							.t_data = row };
	Datum		 *values = palloc(desc->natts * sizeof(Datum));
	bool		 *nulls = palloc(desc->natts * sizeof(bool));

	check_row_type(desc);
	heap_deform_tuple(&tuple, desc, values, nulls);
	parse_outcome(outcome, values, nulls, number);
	ReleaseTupleDesc(desc);
}

Outcome *
outcomes_parse(ArrayType *array, int *count)
{
	Datum	*rows;
	bool	*nulls;
	Outcome *outcomes;
	int16	 typlen;
	bool	 typbyval;
	char	 typalign;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("argument \"outcomes\" must have one "
							   "dimension")));
	get_typlenbyvalalign(ARR_ELEMTYPE(array), &typlen, &typbyval, &typalign);
	deconstruct_array(array, ARR_ELEMTYPE(array), typlen, typbyval, typalign,
					  &rows, &nulls, count);
	if (*count > OUTCOMES_MAX)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_LIMIT_EXCEEDED),
						errmsg("too many outcomes at once"),
						errdetail("There are %d; %d are allowed.", *count,
								  OUTCOMES_MAX)));
	outcomes = palloc0(Max(*count, 1) * sizeof(Outcome));
	for (int i = 0; i < *count; i++)
	{
		if (nulls[i])
			refuse(i, "It is null.");
		parse_row(&outcomes[i], DatumGetHeapTupleHeader(rows[i]), i);
	}
	return outcomes;
}
