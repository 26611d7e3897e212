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
#include "order/plan.h"

typedef struct Psp
{
	pg_uuid_t id;
	char	 *name;
	bool	  active;
	bool	  payouts;
} Psp;

/* There are few, so all are read at once. */
static Psp *
read_psps(int *count)
{
	static SPIPlanPtr plan = NULL;
	Psp				 *psps;

	plan_keep(&plan,
			  "SELECT id, name, CASE WHEN state = 'active' THEN 1 ELSE 0 END, "
			  "CASE WHEN payouts THEN 1 ELSE 0 END FROM payment.psp",
			  0, NULL);
	*count = (int) spi_read(plan, NULL, NULL);
	psps = palloc0(sizeof(Psp) * (*count + 1));
	for (int i = 0; i < *count; i++)
	{
		row_uuid(i, 1, &psps[i].id);
		psps[i].name = row_text(i, 2);
		psps[i].active = row_int32(i, 3) != 0;
		psps[i].payouts = row_int32(i, 4) != 0;
	}
	return psps;
}

static const Psp *
find_psp(const Psp *psps, int count, const Event *event)
{
	for (int i = 0; i < count; i++)
	{
		if (strcmp(psps[i].name, event->psp) != 0)
			continue;
		if (event->type == EVENT_PAY_OUT && !psps[i].payouts)
			ereport(ERROR,
					(errcode(ERRCODE_PAYMENT_UNKNOWN_PSP),
					 errmsg("\"%s\" makes no payouts",
							event_path(&event->place, "psp")),
					 errdetail("The PSP \"%s\" is registered with payouts "
							   "off.",
							   psps[i].name),
					 errhint("Name another PSP, or call "
							 "payment.register_psp() to turn them on.")));
		return &psps[i];
	}
	ereport(ERROR, (errcode(ERRCODE_PAYMENT_UNKNOWN_PSP),
					errmsg("\"%s\" is no registered PSP",
						   event_path(&event->place, "psp")),
					errdetail("There is none of that name."),
					errhint("payment.register_psp() registers one.")));
}

/* the only one that could do it */
static const Psp *
choose_psp(const Psp *psps, int count, const Event *event)
{
	const Psp *chosen = NULL;
	int		   candidates = 0;

	for (int i = 0; i < count; i++)
	{
		if (!psps[i].active ||
			(event->type == EVENT_PAY_OUT && !psps[i].payouts))
			continue;
		chosen = &psps[i];
		candidates++;
	}
	if (candidates != 1)
		ereport(ERROR,
				(errcode(ERRCODE_PAYMENT_UNKNOWN_PSP),
				 errmsg("\"%s\" has to be chosen",
						event_path(&event->place, "psp")),
				 errdetail("%d active PSPs could do it.", candidates),
				 candidates > 1
					 ? errhint("Pass the name of one of them.")
					 : errhint("payment.register_psp() registers one.")));
	return chosen;
}

void
psp_resolve(Event **events, int count)
{
	int	 psp_count;
	Psp *psps = read_psps(&psp_count);

	for (int i = 0; i < count; i++)
	{
		const Psp *psp = events[i]->psp
							 ? find_psp(psps, psp_count, events[i])
							 : choose_psp(psps, psp_count, events[i]);

		events[i]->psp_id = psp->id;
	}
}
