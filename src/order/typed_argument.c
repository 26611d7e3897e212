/*-------------------------------------------------------------------------
 *
 * typed_argument.c
 *	  Arguments of SQL functions, where NULL is one of the values.
 *
 * The functions are not STRICT: a NULL would make them do nothing and return
 * NULL, which a caller takes for success.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "argument.h"
#include "errcodes.h"
#include "order/event.h"
#include "order/typed_argument.h"
#include "text_guard.h"

char *
text_argument(FunctionCallInfo fcinfo, int number)
{
	if (PG_ARGISNULL(number))
		return NULL;
	return text_to_cstring(PG_GETARG_TEXT_PP(number));
}

Jsonb *
metadata_argument(FunctionCallInfo fcinfo, int number)
{
	Jsonb *metadata;

	if (PG_ARGISNULL(number))
		return event_empty_metadata();
	metadata = PG_GETARG_JSONB_P(number);
	if (!JB_ROOT_IS_OBJECT(metadata))
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("\"metadata\" must be a JSON object"),
						errdetail("It is an array or a single value."),
						errhint("Pass something like {\"key\": \"value\"}.")));
	check_metadata("metadata", metadata);
	return metadata;
}

pg_uuid_t *
uuid_argument(FunctionCallInfo fcinfo, int number, const char *name)
{
	refuse_null(fcinfo, number, name);
	return PG_GETARG_UUID_P(number);
}

int64
int64_argument(FunctionCallInfo fcinfo, int number, const char *name)
{
	refuse_null(fcinfo, number, name);
	return PG_GETARG_INT64(number);
}

int32
int32_argument(FunctionCallInfo fcinfo, int number, const char *name)
{
	refuse_null(fcinfo, number, name);
	return PG_GETARG_INT32(number);
}

Jsonb *
json_argument(FunctionCallInfo fcinfo, int number, const char *name)
{
	refuse_null(fcinfo, number, name);
	return PG_GETARG_JSONB_P(number);
}
