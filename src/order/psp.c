/*-------------------------------------------------------------------------
 *
 * psp.c
 *	  Which payment service provider executes an event.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/spi.h"

#include "errcodes.h"
#include "order/batch.h"
#include "order/event.h"
#include "order/json_object.h"
#include "order/plan.h"
#include "order/route.h"

void
psp_read_all(PspList *list)
{
	static SPIPlanPtr plan = NULL;

	plan_keep(&plan,
			  "SELECT p.id, p.name, p.state = 'active', p.payouts, "
			  "coalesce(b.state = 'open', false) FROM payment.psp AS p "
			  "LEFT JOIN payment.circuit_breaker AS b ON b.psp_id = p.id",
			  0, NULL);
	list->count = (int) spi_read(plan, NULL, NULL);
	list->psps = palloc0(sizeof(Psp) * (list->count + 1));
	for (int i = 0; i < list->count; i++)
	{
		row_uuid(i, 1, &list->psps[i].id);
		list->psps[i].name = row_text(i, 2);
		list->psps[i].active = row_bool(i, 3);
		list->psps[i].payouts = row_bool(i, 4);
		list->psps[i].broken = row_bool(i, 5);
	}
}

const Psp *
psp_by_name(const PspList *list, const char *name)
{
	for (int i = 0; i < list->count; i++)
	{
		if (strcmp(list->psps[i].name, name) == 0)
			return &list->psps[i];
	}
	return NULL;
}

const Psp *
psp_by_id(const PspList *list, const pg_uuid_t *id)
{
	for (int i = 0; i < list->count; i++)
	{
		if (uuid_compare(&list->psps[i].id, id) == 0)
			return &list->psps[i];
	}
	return NULL;
}

void
psp_refuse_unknown(const EventPlace *place, const char *field)
{
	ereport(ERROR,
			(errcode(ERRCODE_PAYMENT_UNKNOWN_PSP),
			 errmsg("\"%s\" is no registered PSP", event_path(place, field)),
			 errdetail("There is none of that name."),
			 errhint("payment.register_psp() registers one.")));
}

const char *
psp_token(const Event *event, const Psp *psp)
{
	JsonbValue	buffer;
	JsonbValue *value;

	if (event->payment_methods == NULL)
		return event->payment_method;
	value =
		getKeyJsonValueFromContainer(&event->payment_methods->root, psp->name,
									 strlen(psp->name), &buffer);
	return value ? jsonb_string(value) : NULL;
}

/* A misspelt name would cost a payment its second chance, unnoticed. */
static void
check_methods(const PspList *list, const Event *event)
{
	JsonbIterator	  *iterator;
	JsonbIteratorToken token;
	JsonbValue		   value;

	if (event->payment_methods == NULL)
		return;
	iterator = JsonbIteratorInit(&event->payment_methods->root);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		char *name;

		if (token != WJB_KEY)
			continue;
		name = jsonb_string(&value);
		if (psp_by_name(list, name) == NULL)
			psp_refuse_unknown(&event->place,
							   psprintf("payment_methods.%s", name));
	}
}

static const Psp *
find_psp(const PspList *list, Event *event)
{
	const Psp *psp = psp_by_name(list, event->psp);

	if (psp == NULL)
		psp_refuse_unknown(&event->place, "psp");
	if (event->type == EVENT_PAY_OUT && !psp->payouts)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_UNKNOWN_PSP),
						errmsg("\"%s\" makes no payouts",
							   event_path(&event->place, "psp")),
						errdetail("The PSP \"%s\" is registered with payouts "
								  "off.",
								  psp->name),
						errhint("Name another PSP, or call "
								"payment.register_psp() to turn them on.")));
	if (event->type == EVENT_PAY_IN && psp_token(event, psp) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_INVALID_ARGUMENT),
				 errmsg("\"%s\" has nothing for the PSP",
						event_path(&event->place, "payment_methods")),
				 errdetail("The PSP \"%s\" is to execute it.", psp->name),
				 errhint("Pass what that PSP calls the payment method.")));
	return psp;
}

static bool
could_do(const Psp *psp, const Event *event)
{
	if (!psp->active)
		return false;
	return event->type == EVENT_PAY_OUT ? psp->payouts
										: psp_token(event, psp) != NULL;
}

const Psp *
psp_choose_only(const PspList *list, const Event *event)
{
	const Psp *chosen = NULL;
	int		   candidates = 0;

	for (int i = 0; i < list->count; i++)
	{
		if (!could_do(&list->psps[i], event))
			continue;
		chosen = &list->psps[i];
		candidates++;
	}
	if (candidates != 1)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_UNKNOWN_PSP),
				 errmsg("\"%s\" has to be chosen",
						event_path(&event->place, "psp")),
				 errdetail("%d active PSPs could do it.", candidates),
				 candidates == 0
					 ? errhint("payment.register_psp() registers one.")
					 : (event->type == EVENT_PAY_IN
							? errhint("Pass the name of one of them, or have "
									  "a routing rule choose.")
							: errhint("Pass the name of one of them."))));
	return chosen;
}

void
psp_resolve(const PspList *list, Event **events, int count)
{
	for (int i = 0; i < count; i++)
	{
		Event	  *event = events[i];
		const Psp *psp;

		check_methods(list, event);
		if (event->psp)
			psp = find_psp(list, event);
		else if (event->type == EVENT_PAY_OUT)
			psp = psp_choose_only(list, event);
		else
			continue;
		event->psp_id = psp->id;
		if (event->type == EVENT_PAY_IN)
			event->payment_method = psp_token(event, psp);
	}
}
