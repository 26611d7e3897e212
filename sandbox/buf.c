/*
 * buf.c
 *		A byte buffer that grows. The byte after the last one is always zero,
 *		so that the content can be read as a C string.
 */
#include "buf.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
die(const char *fmt, ...)
{
	va_list args;

	fputs("payment-sandbox: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	fflush(stderr);
	_Exit(1);
}

void *
xcalloc(size_t count, size_t size)
{
	void *ptr = calloc(count ? count : 1, size ? size : 1);

	if (ptr == NULL)
		die("out of memory");
	return ptr;
}

void *
xrealloc(void *ptr, size_t size)
{
	void *grown = realloc(ptr, size ? size : 1);

	if (grown == NULL)
		die("out of memory");
	return grown;
}

char *
xstrndup(const char *s, size_t len)
{
	char *copy = xrealloc(NULL, len + 1);

	memcpy(copy, s, len);
	copy[len] = '\0';
	return copy;
}

char *
xstrdup(const char *s)
{
	return s ? xstrndup(s, strlen(s)) : NULL;
}

void
buf_reserve(Buf *b, size_t more)
{
	size_t cap = b->cap ? b->cap : 256;

	if (more >= SIZE_MAX / 2 - b->len)
		die("out of memory");
	while (cap < b->len + more + 1)
		cap *= 2;
	if (cap != b->cap)
	{
		b->data = xrealloc(b->data, cap);
		b->cap = cap;
	}
}

void
buf_put(Buf *b, const void *data, size_t len)
{
	buf_reserve(b, len);
	if (len > 0)
		memcpy(b->data + b->len, data, len);
	b->len += len;
	b->data[b->len] = '\0';
}

void
buf_puts(Buf *b, const char *s)
{
	buf_put(b, s, strlen(s));
}

void
buf_putc(Buf *b, char c)
{
	buf_put(b, &c, 1);
}

void
buf_vprintf(Buf *b, const char *fmt, va_list args)
{
	va_list again;
	int		len;

	va_copy(again, args);
	len = vsnprintf(NULL, 0, fmt, args);
	if (len < 0)
		die("could not format text");
	buf_reserve(b, (size_t) len);
	vsnprintf(b->data + b->len, (size_t) len + 1, fmt, again);
	va_end(again);
	b->len += (size_t) len;
}

void
buf_printf(Buf *b, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	buf_vprintf(b, fmt, args);
	va_end(args);
}

void
buf_free(Buf *b)
{
	free(b->data);
	memset(b, 0, sizeof(*b));
}
