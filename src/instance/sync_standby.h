/*-------------------------------------------------------------------------
 *
 * sync_standby.h
 *	  Whether a synchronous standby is there, and what it has.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_INSTANCE_SYNC_STANDBY_H
#define PAYMENT_INSTANCE_SYNC_STANDBY_H

#include "access/xlogdefs.h"

/* would a commit be confirmed, by as many as it has to be? */
extern bool sync_standby_attached(void);

/* has it been confirmed, whatever made the wait for it end? */
extern bool sync_standby_has_flushed(XLogRecPtr position);

#endif /* PAYMENT_INSTANCE_SYNC_STANDBY_H */
