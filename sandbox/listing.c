/*
 * listing.c
 *		Pages of a shelf. Numbers rise with the time of creation, so a range of
 *		time is a range of numbers, found by halving.
 */
#include "listing.h"

#include <string.h>

#include "currency.h"
#include "json.h"

#define LIMIT_DEFAULT 10
#define LIMIT_MAX 100

static bool
prepare_created(Request *request, ListParams *params)
{
	int64_t exactly = -1;
	int64_t gt = -1;
	int64_t lt = INT64_MAX;

	params->created_max = INT64_MAX;
	if (!param_int(request, "created", 0, INT64_MAX - 1, &exactly) ||
		!param_int(request, "created[gte]", 0, INT64_MAX - 1,
				   &params->created_min) ||
		!param_int(request, "created[lte]", 0, INT64_MAX - 1,
				   &params->created_max) ||
		!param_int(request, "created[gt]", 0, INT64_MAX - 1, &gt) ||
		!param_int(request, "created[lt]", 0, INT64_MAX - 1, &lt))
		return false;
	if (gt + 1 > params->created_min)
		params->created_min = gt + 1;
	if (lt - 1 < params->created_max)
		params->created_max = lt - 1;
	if (exactly >= 0)
		params->created_min = params->created_max = exactly;
	return true;
}

static bool
check_cursor(Request *request, const ListSource *source, const char *name,
			 const char *id)
{
	if (id == NULL || source->number_of(id) != NONE)
		return true;
	return answer_invalid(request, "resource_missing", name,
						  "No such %s: '%.100s'", source->kind, id);
}

bool
list_prepare(Request *request, const ListSource *source)
{
	ListParams *params = xcalloc(1, sizeof(ListParams));

	request->prepared = params;
	params->limit = LIMIT_DEFAULT;
	params->type = -1;
	params->currency = CURRENCY_UNKNOWN;
	params->starting_after = form_take(request->params, "starting_after");
	params->ending_before = form_take(request->params, "ending_before");
	if (!param_int(request, "limit", 1, LIMIT_MAX, &params->limit) ||
		!prepare_created(request, params) ||
		!param_expand(request, "data.", &params->expand) ||
		!check_cursor(request, source, "starting_after",
					  params->starting_after) ||
		!check_cursor(request, source, "ending_before", params->ending_before))
		return false;
	if (params->starting_after != NULL && params->ending_before != NULL)
		return answer_invalid(request, NULL, "ending_before",
							  "Only one of starting_after and ending_before "
							  "can be given.");
	return true;
}

bool
list_prepare_charge(Request *request)
{
	ListParams *params = request->prepared;
	const char *intent = form_take(request->params, "payment_intent");
	const char *charge = form_take(request->params, "charge");

	if (intent != NULL)
		params->intent = book_find_intent(PSP_STRIPE, intent);
	if (charge != NULL)
		params->charge = book_find_charge(PSP_STRIPE, charge);
	if (intent != NULL && params->intent == NULL)
		return answer_invalid(request, "resource_missing", "payment_intent",
							  "No such payment_intent: '%.100s'", intent);
	if (charge != NULL && params->charge == NULL)
		return answer_invalid(request, "resource_missing", "charge",
							  "No such charge: '%.100s'", charge);
	return true;
}

bool
list_wants_charge(const ListParams *params, const Charge *charge)
{
	return (params->charge == NULL || params->charge == charge) &&
		   (params->intent == NULL ||
			params->intent->number == charge->intent);
}

/* The first number created at or after that second. */
static uint32_t
first_from(const ListSource *source, int64_t created_s)
{
	uint32_t low = 0;
	uint32_t high = source->shelf->count;

	while (low < high)
	{
		uint32_t middle = low + (high - low) / 2;

		if (source->created_s(middle) < created_s)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The page's numbers, newest first; sets whether more would follow. */
static int
collect(const ListSource *source, const ListParams			   *params,
		bool (*wanted)(uint32_t, const ListParams *), uint32_t *page,
		bool *has_more)
{
	uint32_t low = first_from(source, params->created_min);
	uint32_t high = params->created_max == INT64_MAX
						? source->shelf->count
						: first_from(source, params->created_max + 1);
	bool	 upwards = params->ending_before != NULL;
	int		 count = 0;

	if (params->starting_after != NULL &&
		source->number_of(params->starting_after) < high)
		high = source->number_of(params->starting_after);
	if (upwards && source->number_of(params->ending_before) + 1 > low)
		low = source->number_of(params->ending_before) + 1;
	*has_more = false;
	for (uint32_t i = 0; low + i < high; i++)
	{
		uint32_t number = upwards ? low + i : high - 1 - i;

		if (wanted != NULL && !wanted(number, params))
			continue;
		if (count == params->limit)
		{
			*has_more = true;
			break;
		}
		page[count++] = number;
	}
	for (int i = 0; upwards && i < count / 2; i++)
	{
		uint32_t swap = page[i];

		page[i] = page[count - 1 - i];
		page[count - 1 - i] = swap;
	}
	return count;
}

void
list_answer(Request *request, const ListSource *source,
			bool (*wanted)(uint32_t number, const ListParams *params))
{
	const ListParams *params = request->prepared;
	Buf				 *b = &request->answer.body;
	uint32_t		  page[LIMIT_MAX];
	bool			  has_more;
	int				  count = collect(source, params, wanted, page, &has_more);

	json_open(b, NULL, '{');
	json_str(b, "object", "list");
	json_open(b, "data", '[');
	for (int i = 0; i < count; i++)
		source->put(b, page[i], params->expand);
	json_close(b, ']');
	json_bool(b, "has_more", has_more);
	json_str(b, "url", source->url);
	json_close(b, '}');
}
