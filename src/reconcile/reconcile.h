/*-------------------------------------------------------------------------
 *
 * reconcile.h
 *	  What the parts of src/reconcile share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_RECONCILE_H
#define PAYMENT_RECONCILE_H

#include "fmgr.h"
#include "utils/uuid.h"

/* raises PY001 when the argument is null */
extern void reconcile_refuse_null(FunctionCallInfo fcinfo, int argument,
								  const char *name);

/* the PSP of that name, else PY010; needs an SPI connection */
extern void reconcile_find_psp(Datum name, pg_uuid_t *psp_id);

#endif /* PAYMENT_RECONCILE_H */
