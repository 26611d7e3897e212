/*-------------------------------------------------------------------------
 *
 * form.h
 *	  application/x-www-form-urlencoded, as bodies and query strings.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_PSP_FORM_H
#define PAYMENT_PSP_FORM_H

#include "lib/stringinfo.h"

/* percent-encodes everything but unreserved characters */
extern void form_encode(StringInfo out, const char *text);

/*
 * Append name=value after start, the offset where the form begins.  The name
 * is a literal of the caller's ("metadata[order]"); nothing is added for a
 * value that is NULL.
 */
extern void form_add(StringInfo out, int start, const char *name,
					 const char *value);
extern void form_add_int64(StringInfo out, int start, const char *name,
						   int64 value);

#endif /* PAYMENT_PSP_FORM_H */
