/*-------------------------------------------------------------------------
 *
 * fee_tier.c
 *	  Tiers of a fee schedule, from JSON and back.
 *
 * What is stored was written here, so that reading it cannot fail later, in
 * somebody's checkout, unless the limit on their number came down meanwhile:
 * so that is checked by whoever sets a schedule, not here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "errcodes.h"
#include "money.h"
#include "order/fee.h"
#include "order/json_object.h"

static void
pg_attribute_noreturn() refuse_tier(const char *path, const char *wanted)
{
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
			 errmsg("\"%s\" is not valid", path),
			 errdetail("It must be %s.", wanted),
			 errhint("Pass something like [{\"from_volume\": 1000000, "
					 "\"fixed\": 0, \"basis_points\": 250}]; below the first "
					 "tier the schedule's own rate counts.")));
}

static int64
read_number(const JsonField *field, int tier, int64 minimum, int64 maximum)
{
	char *path = psprintf("tiers[%d].%s", tier, field->key);
	char *wanted =
		psprintf("a whole number from " INT64_FORMAT " to " INT64_FORMAT,
				 minimum, maximum);
	char *text;
	int64 number;
	bool  overflow;

	if (!field->present || field->value.type != jbvNumeric)
		refuse_tier(path, wanted);
	text = jsonb_number_text(&field->value);
	if (strchr(text, '.') != NULL ||
		!money_parse(text, strlen(text), 0, &number, &overflow) ||
		number < minimum || number > maximum)
		refuse_tier(path, wanted);
	return number;
}

static void
read_tier(JsonbContainer *object, int number, FeeTier *tier)
{
	JsonField fields[] = { { .key = "from_volume" },
						   { .key = "fixed" },
						   { .key = "basis_points" } };

	jsonb_read_object(object, fields, lengthof(fields),
					  psprintf("tiers[%d]", number));
	tier->from_volume = read_number(&fields[0], number, 1, PG_INT64_MAX);
	tier->fixed = 0;
	if (fields[1].present)
		tier->fixed = read_number(&fields[1], number, 0, PG_INT64_MAX);
	tier->basis_points =
		(int32) read_number(&fields[2], number, 0, FEE_MAX_BASIS_POINTS);
}

FeeTier *
fee_tiers_read(Jsonb *document, int *count)
{
	JsonbIterator	  *iterator;
	JsonbIteratorToken token;
	JsonbValue		   value;
	FeeTier			  *tiers;

	if (!JB_ROOT_IS_ARRAY(document) || JB_ROOT_IS_SCALAR(document) ||
		JB_ROOT_COUNT(document) == 0)
		refuse_tier("tiers", "an array of tiers, or null for none");
	tiers = palloc(sizeof(FeeTier) * JB_ROOT_COUNT(document));
	*count = 0;
	iterator = JsonbIteratorInit(&document->root);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		FeeTier *tier = &tiers[*count];

		if (token != WJB_ELEM)
			continue;
		(*count)++;
		if (jsonb_object_of(&value) == NULL)
			refuse_tier(psprintf("tiers[%d]", *count),
						"an object with from_volume, fixed and basis_points");
		read_tier(jsonb_object_of(&value), *count, tier);
		if (*count > 1 && tier->from_volume <= tier[-1].from_volume)
			refuse_tier(psprintf("tiers[%d].from_volume", *count),
						"above that of the tier before");
	}
	return tiers;
}

static void
push_number(JsonbParseState **state, const char *name, int64 number)
{
	JsonbValue key = { .type = jbvString };
	JsonbValue value = { .type = jbvNumeric };

	key.val.string.val = unconstify(char *, name);
	key.val.string.len = strlen(name);
	value.val.numeric = int64_to_numeric(number);
	pushJsonbValue(state, WJB_KEY, &key);
	pushJsonbValue(state, WJB_VALUE, &value);
}

Jsonb *
fee_tiers_write(const FeeTier *tiers, int count)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < count; i++)
	{
		pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		push_number(&state, "from_volume", tiers[i].from_volume);
		push_number(&state, "fixed", tiers[i].fixed);
		push_number(&state, "basis_points", tiers[i].basis_points);
		pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL));
}
