/*
 * iso_time.h
 *		Times as ISO 8601 has them.
 */
#ifndef SANDBOX_ISO_TIME_H
#define SANDBOX_ISO_TIME_H

#include <stdbool.h>
#include <stdint.h>

#include "buf.h"

/* In UTC, with seconds. */
extern void iso_time_json(Buf *b, const char *key, int64_t time_ms);

/* A date and a time to the second or better, with Z or an offset. */
extern bool iso_time_parse(const char *text, int64_t *time_ms);

#endif
