/*
 * json_read.h
 *		Reading JSON bodies into a tree.
 *
 * Strict: RFC 8259 and nothing beyond it; a name given twice, a zero byte
 * and invalid UTF-8 are errors. Numbers stay text, since money is no double.
 * All functions take NULL for "there is no such value".
 */
#ifndef SANDBOX_JSON_READ_H
#define SANDBOX_JSON_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_DEPTH_MAX 32
#define JSON_VALUES_MAX 5000

typedef enum JsonType
{
	JSON_NULL,
	JSON_FALSE,
	JSON_TRUE,
	JSON_NUMBER,
	JSON_STRING,
	JSON_ARRAY,
	JSON_OBJECT
} JsonType;

typedef struct JsonValue JsonValue;
struct JsonValue
{
	JsonType   type;
	char	  *name; /* in an object */
	char	  *text; /* of a number or a string, decoded */
	JsonValue *first;
	JsonValue *next;

	const char *raw; /* in the text that was parsed */
	size_t		raw_len;
};

/* NULL when the text is no JSON; json_free takes the result. */
extern JsonValue *json_parse(const char *text, size_t len);
extern void		  json_free(JsonValue *value);

/* What a dotted path such as "amount.value" leads to. */
extern JsonValue *json_at(JsonValue *value, const char *path);

/* The text of a string, else NULL. */
extern const char *json_text(JsonValue *value, const char *path);

/* False unless it is a number without fraction and exponent that fits. */
extern bool json_integer(JsonValue *value, const char *path, int64_t *number);

/* The first member that is none of the names, or NULL. */
extern const char *json_unknown(const JsonValue	  *object,
								const char *const *names);

#endif
