/*
 * json.h
 *		Writing JSON into a buffer.
 *
 * A key of NULL writes an element of an array. Commas come by themselves:
 * what was written last decides.
 */
#ifndef SANDBOX_JSON_H
#define SANDBOX_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "buf.h"

extern void json_open(Buf *b, const char *key, char bracket);
extern void json_close(Buf *b, char bracket);
extern void json_str(Buf *b, const char *key, const char *value);
extern void json_int(Buf *b, const char *key, int64_t value);
extern void json_double(Buf *b, const char *key, double value);
extern void json_bool(Buf *b, const char *key, bool value);
extern void json_null(Buf *b, const char *key);

/* Text that is JSON already. */
extern void json_raw(Buf *b, const char *key, const char *text);
extern void json_empty(Buf *b, const char *key, const char *brackets);

/* Length of the UTF-8 sequence at s, 0 when it is not valid. */
extern int utf8_length(const unsigned char *s, size_t len);

#endif
