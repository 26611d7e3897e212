/*-------------------------------------------------------------------------
 *
 * route.h
 *	  PSPs, and which of them executes a payment whose caller named none.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_ROUTE_H
#define PAYMENT_ROUTE_H

#include "order/event.h"

typedef struct Psp
{
	pg_uuid_t	id;
	const char *name;
	bool		active;
	bool		payouts;
	bool		broken; /* its circuit breaker is open */
} Psp;

typedef struct PspList
{
	Psp *psps;
	int	 count;
} PspList;

/* There are few, so all are read at once; needs an SPI connection. */
extern void psp_read_all(PspList *list);

/* NULL when there is none of that name, or id */
extern const Psp *psp_by_name(const PspList *list, const char *name);
extern const Psp *psp_by_id(const PspList *list, const pg_uuid_t *id);

extern void pg_attribute_noreturn()
	psp_refuse_unknown(const EventPlace *place, const char *field);

/* psp.c: who executes those whose caller says it, and payouts */
extern void psp_resolve(const PspList *list, Event **events, int count);
/* the only one that could do it, else PY010 */
extern const Psp *psp_choose_only(const PspList *list, const Event *event);

/* what the PSP calls the event's payment method; NULL: it cannot charge it */
extern const char *psp_token(const Event *event, const Psp *psp);

/* route.c: who executes pay-ins whose sellers are resolved, by the rules */
extern void route_resolve(const PspList *list, Event **events, int count);

/* may * in the pattern stand for something, so that it is the text? */
extern bool route_pattern_matches(const char *pattern, const char *text);

#endif /* PAYMENT_ROUTE_H */
