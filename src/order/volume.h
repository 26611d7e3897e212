/*-------------------------------------------------------------------------
 *
 * volume.h
 *	  What a seller has captured in a currency, for tiers of fees.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_VOLUME_H
#define PAYMENT_VOLUME_H

#include "datatype/timestamp.h"
#include "utils/date.h"
#include "utils/uuid.h"

#include "money.h"

typedef enum VolumeWindow
{
	VOLUME_MONTH,		   /* this calendar month */
	VOLUME_ROLLING_30_DAYS /* today and the 29 days before */
} VolumeWindow;

/* days are those of UTC */
#define VOLUME_KEPT_DAYS 62

typedef struct Capture
{
	pg_uuid_t	seller_id;
	const char *currency;
	int64		amount; /* > 0 */
} Capture;

typedef struct VolumeQuery
{
	pg_uuid_t	 seller_id;
	const char	*currency;
	VolumeWindow window;
	int64		 volume; /* the answer; what fits no bigint is the largest */
} VolumeQuery;

/* All need an SPI connection. */

/* what is captured counts, where somebody's fee depends on it */
extern void volume_add(const Capture *captures, int count);

/*
 * What was captured until then: all that is committed now, and what this
 * transaction did itself.
 */
extern void volume_read(VolumeQuery *queries, int count, TimestampTz at);

/* from now on, and since the last VOLUME_KEPT_DAYS; seller NULL: of all */
extern void volume_count_for(const pg_uuid_t *seller, const char *currency);

extern const char *volume_window_name(VolumeWindow window);
extern bool volume_window_by_name(const char *name, VolumeWindow *window);

#endif /* PAYMENT_VOLUME_H */
