/*-------------------------------------------------------------------------
 *
 * plan.h
 *	  SPI plans that a backend keeps.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_PLAN_H
#define PAYMENT_PLAN_H

#include "executor/spi.h"

/*
 * The plan of sql, prepared on first use and kept in *plan (a static of the
 * caller) for the life of the backend.  Needs an SPI connection.  Plans hold
 * names, not OIDs: PostgreSQL analyses them anew when an object they name has
 * been dropped and created again.
 */
extern SPIPlanPtr plan_keep(SPIPlanPtr *plan, const char *sql, int nargs,
							const Oid *argtypes);

/* connect and disconnect, raising instead of returning codes */
extern void spi_begin(void);
extern void spi_end(void);

/* run a kept plan that only reads, with a snapshot of its own */
extern uint64 spi_read(SPIPlanPtr plan, Datum *values, const char *nulls);

#endif /* PAYMENT_PLAN_H */
