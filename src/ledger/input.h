/*-------------------------------------------------------------------------
 *
 * input.h
 *	  The arguments of the ledger's SQL functions, checked.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_LEDGER_INPUT_H
#define PAYMENT_LEDGER_INPUT_H

#include "datatype/timestamp.h"
#include "fmgr.h"

#include "argument.h"
#include "ledger/posting.h"
#include "order/typed_argument.h"

/* an argument that may be null, element by element when it is there */
typedef struct OptionalArray
{
	Datum *values; /* NULL when the argument is null */
	bool  *nulls;
} OptionalArray;

extern bool is_one_of(const char *word, const char *const *words,
					  size_t count);

/* raises PY001 */
extern void refuse_argument(const char *name, const char *value,
							const char *hint) pg_attribute_noreturn();

/* Arguments are counted from 0; all of these raise PY001. */
/* A text is searched for a card number as soon as it is fetched. */
extern char		  *required_text(FunctionCallInfo fcinfo, int argument,
								 const char *name);
extern TimestampTz time_argument(FunctionCallInfo fcinfo, int argument,
								 const char *name);
/* NULL when it is null */
extern char *key_argument(FunctionCallInfo fcinfo, int argument);

/* the elements of a one-dimensional array without nulls, in place */
extern const pg_uuid_t *uuid_array_argument(FunctionCallInfo fcinfo,
											int argument, const char *name,
											int *count);
extern const int64	   *bigint_array_argument(FunctionCallInfo fcinfo,
											  int argument, const char *name,
											  int *count);
extern const int32	   *integer_array_argument(FunctionCallInfo fcinfo,
											   int argument, const char *name,
											   int *count);
extern Datum *text_array_argument(FunctionCallInfo fcinfo, int argument,
								  const char *name, int *count);
/* null, or an array of count elements of which each may be null */
extern OptionalArray optional_array_argument(FunctionCallInfo fcinfo,
											 int argument, const char *name,
											 Oid type, int count);

/* accounts and amounts, one of each for a leg */
extern LedgerLeg *legs_argument(FunctionCallInfo fcinfo, int accounts,
								int amounts, int *count);

/* a kind that orders, payouts, holds and reversals do not use */
extern void check_manual_kind(const char *kind);

extern void refuse_account(const pg_uuid_t *id) pg_attribute_noreturn();
/* the account that the argument names, else PY204 */
extern void account_argument(FunctionCallInfo fcinfo, int argument,
							 TouchedAccount *account);

#endif /* PAYMENT_LEDGER_INPUT_H */
