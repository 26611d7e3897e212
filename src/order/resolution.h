/*-------------------------------------------------------------------------
 *
 * resolution.h
 *	  What people decided about what no machine could find out.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_RESOLUTION_H
#define PAYMENT_RESOLUTION_H

#include "utils/uuid.h"

/* Did two people decide this outcome of the object?  Needs SPI. */
extern bool was_decided(const pg_uuid_t *object_id, const char *outcome);

#endif /* PAYMENT_RESOLUTION_H */
