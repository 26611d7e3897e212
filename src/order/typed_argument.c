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
#include "order/json_object.h"
#include "order/typed_argument.h"
#include "text_guard.h"

char *
text_argument(FunctionCallInfo fcinfo, int number, const char *name)
{
	char *value;

	if (PG_ARGISNULL(number))
		return NULL;
	value = text_to_cstring(PG_GETARG_TEXT_PP(number));
	if (contains_card_number(value, strlen(value)))
		refuse_card_number(name);
	return value;
}

Jsonb *
json_argument(FunctionCallInfo fcinfo, int number, const char *name)
{
	Jsonb *value;

	if (PG_ARGISNULL(number))
		return NULL;
	value = PG_GETARG_JSONB_P(number);
	jsonb_refuse_cards(value, name);
	return value;
}

Jsonb *
object_argument(FunctionCallInfo fcinfo, int number, const char *name)
{
	Jsonb *object = json_argument(fcinfo, number, name);

	if (object == NULL)
		return event_empty_metadata();
	if (!JB_ROOT_IS_OBJECT(object))
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("\"%s\" must be a JSON object", name),
						errdetail("It is an array or a single value."),
						errhint("Pass something like {\"key\": \"value\"}.")));
	check_metadata(name, object);
	return object;
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
