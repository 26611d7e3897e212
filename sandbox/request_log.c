/*
 * request_log.c
 *		A ring that grows up to its limit and then forgets the oldest.
 */
#include "request_log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "book.h"
#include "options.h"

#define LOG_MAX UINT64_C(1000000)
#define LOG_PATH_MAX 200
#define ROWS_PER_FILL 500

typedef struct LogEntry
{
	int64_t time_ms;
	int16_t status; /* 0: no answer */
	bool	executed;
	bool	replayed;
	char   *text; /* method, path, key, faults: one after the other */
} LogEntry;

static LogEntry *entries;
static uint64_t	 entries_cap;
static uint64_t	 seq_next;

/* Paths come from anybody: what is not printable ASCII becomes '?'. */
static void
put_path(Buf *b, const char *path)
{
	for (int i = 0; i < LOG_PATH_MAX && path[i]; i++)
		buf_putc(b, path[i] >= ' ' && path[i] <= '~' ? path[i] : '?');
	buf_putc(b, '\0');
}

/* Grows by doubling as long as nothing has been forgotten. */
static LogEntry *
next_entry(void)
{
	if (seq_next == entries_cap && entries_cap < LOG_MAX)
	{
		uint64_t cap = entries_cap ? entries_cap * 2 : 1024;

		cap = cap > LOG_MAX ? LOG_MAX : cap;
		entries = xrealloc(entries, cap * sizeof(LogEntry));
		memset(entries + entries_cap, 0,
			   (cap - entries_cap) * sizeof(LogEntry));
		entries_cap = cap;
	}
	return &entries[seq_next++ % entries_cap];
}

static void
put_part(Buf *b, const char *part, size_t max)
{
	if (part != NULL)
		buf_put(b, part, strnlen(part, max));
	buf_putc(b, '\0');
}

void
request_log_add(const Request *request)
{
	LogEntry	 *entry = next_entry();
	const Answer *answer = &request->answer;
	Buf			  text = { 0 };

	put_part(&text, request->method, 16);
	put_path(&text, request->path);
	put_part(&text, request->idempotency_key, 255);
	put_part(&text, request->faults, sizeof(request->faults));
	free(entry->text);
	entry->text = xrealloc(text.data, text.len);
	entry->time_ms = book.now_ms;
	entry->status =
		answer->delivery == DELIVER_ANSWER ? (int16_t) answer->status : 0;
	entry->executed = request->executed;
	entry->replayed = answer->replayed;
	if (options.verbose)
		fprintf(stderr, "%s %.*s -> %d%s %s\n", request->method, LOG_PATH_MAX,
				request->path, entry->status,
				answer->replayed ? " replayed" : "", request->faults);
}

static void
put_row(Buf *b, uint64_t seq)
{
	const LogEntry *entry = &entries[seq % entries_cap];
	const char	   *part = entry->text;

	csv_int(b, (int64_t) seq + 1);
	csv_time(b, entry->time_ms);
	for (int i = 0; i < 3; i++)
	{
		csv_field(b, part);
		part += strlen(part) + 1;
	}
	csv_int(b, entry->status);
	csv_field(b, entry->executed ? "yes" : "no");
	csv_field(b, entry->replayed ? "yes" : "no");
	csv_field(b, part);
	csv_end(b, false);
}

static bool
fill(CsvStream *stream)
{
	uint64_t oldest;

	book_lock();
	oldest = seq_next > entries_cap ? seq_next - entries_cap : 0;
	if (stream->next < oldest)
		stream->next = oldest;
	for (int i = 0; i < ROWS_PER_FILL && stream->next < stream->end; i++)
		put_row(&stream->pending, stream->next++);
	book_unlock();
	return stream->next < stream->end;
}

CsvStream *
request_log_stream(void)
{
	CsvStream *stream = xcalloc(1, sizeof(CsvStream));

	stream->fill = fill;
	stream->end = seq_next;
	buf_puts(&stream->pending, "seq,time,method,path,idempotency_key,status,"
							   "executed,replayed,faults\n");
	return stream;
}
