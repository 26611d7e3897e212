/*
 * report.h
 *		What the operator reads: lines on standard error.
 */
#ifndef GATEWAY_REPORT_H
#define GATEWAY_REPORT_H

#include <stddef.h>
#include <stdint.h>

/* no text in it comes from a sender, but for the PSP's name and the path */
extern void report(const char *format, ...)
	__attribute__((format(printf, 1, 2)));
extern void die(const char *format, ...)
	__attribute__((format(printf, 1, 2), noreturn));

/* of things that can happen thousands of times a second, one line a second */
extern void report_sometimes(const char *format, ...)
	__attribute__((format(printf, 1, 2)));

/* milliseconds of a clock that nobody sets */
extern int64_t clock_ms(void);

/* memory, or the end */
extern void *get_memory(void *old, size_t size);

#endif /* GATEWAY_REPORT_H */
