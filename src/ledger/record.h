/*-------------------------------------------------------------------------
 *
 * record.h
 *	  Writing the ledger's ordinary tables: holds and reversals.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_RECORD_H
#define PAYMENT_RECORD_H

#include "executor/spi.h"

/*
 * Run a kept plan past the guard, by the latest snapshot, so that what was
 * committed while we waited for a lock is seen at every isolation level.
 * Returns SPI_processed.
 */
extern uint64 record_execute(SPIPlanPtr plan, Datum *values,
							 const char *nulls);

/* for the guard: is record_execute() at work */
extern bool record_write_active(void);

#endif /* PAYMENT_RECORD_H */
