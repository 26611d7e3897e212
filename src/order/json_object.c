/*-------------------------------------------------------------------------
 *
 * json_object.c
 *	  Reading JSON objects whose keys are known, and nothing else.
 *
 * A misspelt key that is silently ignored is a description lost or, worse, an
 * amount read from elsewhere; so unknown keys are errors.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "errcodes.h"
#include "order/json_object.h"
#include "text_guard.h"

#define SHOWN_KEY_BYTES 64

static JsonField *
find_field(JsonField *fields, int count, const JsonbValue *key)
{
	for (int i = 0; i < count; i++)
	{
		if (key->val.string.len == (int) strlen(fields[i].key) &&
			memcmp(key->val.string.val, fields[i].key, key->val.string.len) ==
				0)
			return &fields[i];
	}
	return NULL;
}

/* The key may hold anything; it is shown only when it looks like a name. */
static void
refuse_key(const JsonbValue *key, const JsonField *fields, int count,
		   const char *path)
{
	StringInfoData known;
	int			   length = key->val.string.len;
	bool		   harmless = length <= SHOWN_KEY_BYTES;

	for (int i = 0; i < length && harmless; i++)
		harmless =
			(key->val.string.val[i] >= 'a' && key->val.string.val[i] <= 'z') ||
			(key->val.string.val[i] >= 'A' && key->val.string.val[i] <= 'Z') ||
			key->val.string.val[i] == '_';

	initStringInfo(&known);
	for (int i = 0; i < count; i++)
		appendStringInfo(&known, "%s%s", i > 0 ? ", " : "", fields[i].key);
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
					errmsg("\"%s\" has an unknown key", path),
					harmless ? errdetail("The key is \"%.*s\".", length,
										 key->val.string.val)
							 : errdetail("The key has %d bytes.", length),
					errhint("The known keys are: %s.", known.data)));
}

void
jsonb_read_object(JsonbContainer *object, JsonField *fields, int count,
				  const char *path)
{
	JsonbIterator	  *iterator = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue		   value;
	JsonField		  *field = NULL;

	for (int i = 0; i < count; i++)
		fields[i].present = false;
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			field = find_field(fields, count, &value);
			if (field == NULL)
				refuse_key(&value, fields, count, path);
		}
		else if (token == WJB_VALUE && field && value.type != jbvNull)
		{
			field->value = value;
			field->present = true;
		}
	}
}

JsonbContainer *
jsonb_object_of(const JsonbValue *value)
{
	if (value->type == jbvBinary &&
		JsonContainerIsObject(value->val.binary.data))
		return value->val.binary.data;
	return NULL;
}

JsonbContainer *
jsonb_array_of(const JsonbValue *value)
{
	if (value->type == jbvBinary &&
		JsonContainerIsArray(value->val.binary.data))
		return value->val.binary.data;
	return NULL;
}

const char *
jsonb_kind(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvNull:
			return "null";
		case jbvString:
			return "a string";
		case jbvNumeric:
			return "a number";
		case jbvBool:
			return "a boolean";
		default:
			return jsonb_array_of(value) ? "an array" : "an object";
	}
}

char *
jsonb_string(const JsonbValue *value)
{
	Assert(value->type == jbvString);
	return pnstrdup(value->val.string.val, value->val.string.len);
}

char *
jsonb_number_text(const JsonbValue *value)
{
	Assert(value->type == jbvNumeric);
	return DatumGetCString(
		DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
}

/* One step into a document, for errors. */
typedef struct JsonPath
{
	const struct JsonPath *parent;
	const char			  *name; /* of the document, for the first */
	JsonbValue			   key;
	int					   element; /* from 1, 0: a key */
} JsonPath;

static void
append_path(StringInfo text, const JsonPath *path)
{
	if (path->parent == NULL)
	{
		appendStringInfoString(text, path->name);
		return;
	}
	append_path(text, path->parent);
	if (path->element > 0)
		appendStringInfo(text, "[%d]", path->element);
	else
		appendStringInfo(text, ".%.*s", path->key.val.string.len,
						 path->key.val.string.val);
}

static void
pg_attribute_noreturn() refuse_card_at(const JsonPath *path)
{
	StringInfoData text;

	initStringInfo(&text);
	append_path(&text, path);
	refuse_card_number(text.data);
}

static bool
holds_card(const JsonbValue *value)
{
	char *text;

	if (value->type == jbvString)
		return contains_card_number(value->val.string.val,
									value->val.string.len);
	if (value->type != jbvNumeric)
		return false;
	text = jsonb_number_text(value);
	return contains_card_number(text, strlen(text));
}

static void
search_container(JsonbContainer *container, const JsonPath *path)
{
	JsonbIterator	  *iterator = JsonbIteratorInit(container);
	JsonbIteratorToken token;
	JsonbValue		   value;
	JsonPath		   child = { .parent = path };

	check_stack_depth();
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			if (holds_card(&value))
				refuse_card_at(path);
			child.key = value;
		}
		else if (token == WJB_ELEM || token == WJB_VALUE)
		{
			child.element += token == WJB_ELEM ? 1 : 0;
			if (value.type == jbvBinary)
				search_container(value.val.binary.data, &child);
			else if (holds_card(&value))
				refuse_card_at(&child);
		}
	}
}

void
jsonb_refuse_cards(Jsonb *document, const char *name)
{
	JsonPath path = { .name = name };

	search_container(&document->root, &path);
}
