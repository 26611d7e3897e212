/*-------------------------------------------------------------------------
 *
 * time_told.h
 *	  Times as a PSP writes them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_TIME_TOLD_H
#define PAYMENT_TIME_TOLD_H

#include "datatype/timestamp.h"
#include "utils/timestamp.h"

/* the end of the year 9999, in Unix time */
#define TIME_TOLD_MAX_S INT64CONST(253402300799)

/*
 * Whoever writes a time may write any number.  One that is no time of ours is
 * as if it had not been said: 0.
 */
static inline TimestampTz
time_told(int64 unix_s)
{
	return unix_s <= 0 || unix_s > TIME_TOLD_MAX_S
			   ? 0
			   : time_t_to_timestamptz((pg_time_t) unix_s);
}

#endif /* PAYMENT_TIME_TOLD_H */
