/*
 * csv.h
 *		Writing CSV as RFC 4180 has it.
 */
#ifndef SANDBOX_CSV_H
#define SANDBOX_CSV_H

#include <stdbool.h>
#include <stdint.h>

#include "buf.h"

extern void csv_field(Buf *b, const char *value);
extern void csv_int(Buf *b, int64_t value);
extern void csv_end(Buf *b, bool crlf);

/* "YYYY-MM-DD HH:MM:SS" in UTC */
extern void csv_time(Buf *b, int64_t time_ms);

/* A CSV answer that is written while it is sent, some rows at a time. */
typedef struct CsvStream CsvStream;
struct CsvStream
{
	/* Appends rows to "pending"; false when there are no more. */
	bool (*fill)(CsvStream *stream);
	Buf		 pending;
	size_t	 sent;
	uint64_t next;
	uint64_t end;
	void	*source;
	bool	 crlf;
	bool	 with_payouts;
	bool	 in_payouts;
};

#endif
