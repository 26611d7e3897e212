/*-------------------------------------------------------------------------
 *
 * json_object.h
 *	  Reading JSON objects whose keys are known, and nothing else.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_JSON_OBJECT_H
#define PAYMENT_JSON_OBJECT_H

#include "utils/jsonb.h"

typedef struct JsonField
{
	const char *key;
	bool		present; /* false for null, too */
	JsonbValue	value;
} JsonField;

/*
 * Fill the fields from the object.  path names the object in errors: PY001
 * when it has a key that is not among the fields.
 */
extern void jsonb_read_object(JsonbContainer *object, JsonField *fields,
							  int count, const char *path);

/* the container when the value is an object or array, else NULL */
extern JsonbContainer *jsonb_object_of(const JsonbValue *value);
extern JsonbContainer *jsonb_array_of(const JsonbValue *value);

/* "a string", "a number", ...: what it is, for errors */
extern const char *jsonb_kind(const JsonbValue *value);

/* a copy with a zero at its end */
extern char *jsonb_string(const JsonbValue *value);
extern char *jsonb_number_text(const JsonbValue *value);

/* raise PY005 when a key, string or number anywhere holds a card number */
extern void jsonb_refuse_cards(Jsonb *document, const char *name);

#endif /* PAYMENT_JSON_OBJECT_H */
