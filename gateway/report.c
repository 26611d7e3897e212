/*
 * report.c
 *		What the operator reads: lines on standard error.
 */
#include "report.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LINE_LENGTH_MAX 1024
#define SOMETIMES_MS 1000

static _Atomic int64_t quiet_until;
static atomic_int	   left_out;

/* one write a line, so that those of several threads do not mix */
static void
write_line(const char *format, va_list arguments)
{
	char line[LINE_LENGTH_MAX + 2];
	int	 length = vsnprintf(line, LINE_LENGTH_MAX, format, arguments);

	if (length < 0)
		return;
	if (length >= LINE_LENGTH_MAX)
		length = LINE_LENGTH_MAX - 1;
	for (int i = 0; i < length; i++)
	{
		/* a line is a line */
		if ((unsigned char) line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	}
	line[length++] = '\n';
	(void) !fwrite(line, 1, (size_t) length, stderr);
}

void
report(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	write_line(format, arguments);
	va_end(arguments);
}

void
report_sometimes(const char *format, ...)
{
	int64_t now = clock_ms();
	int64_t until = atomic_load(&quiet_until);
	int		missing;
	va_list arguments;

	if (now < until || !atomic_compare_exchange_strong(&quiet_until, &until,
													   now + SOMETIMES_MS))
	{
		atomic_fetch_add(&left_out, 1);
		return;
	}
	missing = atomic_exchange(&left_out, 0);
	if (missing > 0)
		report("%d more messages like these were left out", missing);
	va_start(arguments, format);
	write_line(format, arguments);
	va_end(arguments);
}

void
die(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	write_line(format, arguments);
	va_end(arguments);
	exit(2);
}

int64_t
clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void *
get_memory(void *old, size_t size)
{
	void *memory = realloc(old, size);

	if (memory == NULL)
		die("out of memory");
	if (old == NULL)
		memset(memory, 0, size);
	return memory;
}
