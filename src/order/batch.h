/*-------------------------------------------------------------------------
 *
 * batch.h
 *	  Statements that handle many rows at once.
 *
 * A batch hands its rows to a statement as one array per column and joins
 * unnest() of them with the table, so that the number of statements does not
 * grow with the batch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_BATCH_H
#define PAYMENT_BATCH_H

#include "datatype/timestamp.h"
#include "executor/spi.h"
#include "utils/uuid.h"
#include "uuid7.h"

/* One parameter of a statement: a column of values, grown as needed. */
typedef struct Column
{
	Oid	   type;
	Datum *values;
	bool  *nulls;
	int	   count;
	int	   capacity;
} Column;

/* the values that mean NULL: a NULL pointer, the time 0 */
extern void	 column_init(Column *column, Oid type);
extern void	 column_add_uuid(Column *column, const pg_uuid_t *id);
extern void	 column_add_text(Column *column, const char *text);
extern void	 column_add_int32(Column *column, int32 number);
extern void	 column_add_int64(Column *column, int64 number);
extern void	 column_add_time(Column *column, TimestampTz at);
extern void	 column_add_bool(Column *column, bool truth);
extern void	 column_add_null(Column *column);
extern void	 column_add(Column *column, Datum value, bool isnull);
extern Datum column_array(const Column *column);

/*
 * Fields of a row of SPI_tuptable.  NULL becomes false, NULL, or 0.
 */
extern bool		   row_uuid(uint64 row, int column, pg_uuid_t *id);
extern char		  *row_text(uint64 row, int column);
extern int32	   row_int32(uint64 row, int column);
extern int64	   row_int64(uint64 row, int column);
extern TimestampTz row_time(uint64 row, int column);
extern bool		   row_bool(uint64 row, int column);
extern bool		   row_is_null(uint64 row, int column);

/*
 * Connect to SPI and, until batch_end(), plan every statement once, by
 * indexes: a plan made while the tables were still empty must not scan them
 * when they have grown.  Returns what batch_end() needs.
 */
extern int	batch_begin(void);
extern void batch_end(int nest_level);

/* have a session's statements planned so for as long as it lasts */
extern void batch_session(void);

/* run a kept plan on an unguarded table; returns SPI_processed */
extern uint64 batch_run(SPIPlanPtr plan, Datum *values, const char *nulls);

#endif /* PAYMENT_BATCH_H */
