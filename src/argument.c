/*-------------------------------------------------------------------------
 *
 * argument.c
 *	  Checks of SQL arguments that every function makes alike.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "argument.h"
#include "errcodes.h"

void
refuse_null(FunctionCallInfo fcinfo, int argument, const char *name)
{
	if (PG_ARGISNULL(argument))
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
						errmsg("argument \"%s\" must not be null", name),
						errdetail("It was null."), errhint("Pass a value.")));
}
