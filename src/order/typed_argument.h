/*-------------------------------------------------------------------------
 *
 * typed_argument.h
 *	  Arguments of SQL functions, where NULL is one of the values.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_TYPED_ARGUMENT_H
#define PAYMENT_TYPED_ARGUMENT_H

#include "fmgr.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

/*
 * Texts and JSON documents are searched for card numbers as soon as they are
 * fetched: any later error would leave the statement, with the number in it,
 * in the log.  So fetch all arguments before checking any.
 */

/* NULL stays NULL */
extern char *text_argument(FunctionCallInfo fcinfo, int number,
						   const char *name);

/* a JSON object that passes the guard; NULL becomes an empty one */
extern Jsonb *object_argument(FunctionCallInfo fcinfo, int number,
							  const char *name);

/* raise PY001 for NULL; name is the argument's */
extern pg_uuid_t *uuid_argument(FunctionCallInfo fcinfo, int number,
								const char *name);
extern int64	  int64_argument(FunctionCallInfo fcinfo, int number,
								 const char *name);
extern int32	  int32_argument(FunctionCallInfo fcinfo, int number,
								 const char *name);
/* NULL stays NULL */
extern Jsonb *json_argument(FunctionCallInfo fcinfo, int number,
							const char *name);

#endif /* PAYMENT_TYPED_ARGUMENT_H */
