/*-------------------------------------------------------------------------
 *
 * argument.h
 *	  Checks of SQL arguments that every function makes alike.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_ARGUMENT_H
#define PAYMENT_ARGUMENT_H

#include "fmgr.h"

/* raise PY001 when the argument (counted from 0) is null */
extern void refuse_null(FunctionCallInfo fcinfo, int argument,
						const char *name);

#endif /* PAYMENT_ARGUMENT_H */
