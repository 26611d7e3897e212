/*
 * buf.h
 *		A byte buffer that grows, and allocation that cannot fail: a sandbox
 *		without memory stops with a message instead of losing a charge.
 */
#ifndef SANDBOX_BUF_H
#define SANDBOX_BUF_H

#include <stdarg.h>
#include <stddef.h>

typedef struct Buf
{
	char  *data;
	size_t len;
	size_t cap;
} Buf;

extern void die(const char *fmt, ...)
	__attribute__((noreturn, format(printf, 1, 2)));
extern void *xcalloc(size_t count, size_t size);
extern void *xrealloc(void *ptr, size_t size);
extern char *xstrdup(const char *s);
extern char *xstrndup(const char *s, size_t len);

extern void buf_reserve(Buf *b, size_t more);
extern void buf_put(Buf *b, const void *data, size_t len);
extern void buf_puts(Buf *b, const char *s);
extern void buf_putc(Buf *b, char c);
extern void buf_printf(Buf *b, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
extern void buf_vprintf(Buf *b, const char *fmt, va_list args);
extern void buf_free(Buf *b);

#endif
