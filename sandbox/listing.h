/*
 * listing.h
 *		Lists in pages, newest first.
 */
#ifndef SANDBOX_LISTING_H
#define SANDBOX_LISTING_H

#include "book.h"
#include "request.h"

/* Parameters of lists; the filters at the end belong to one kind. */
typedef struct ListParams
{
	int64_t		limit;
	const char *starting_after;
	const char *ending_before;
	int64_t		created_min; /* both included */
	int64_t		created_max;
	unsigned	expand;

	const char	 *payout;
	const Intent *intent; /* whose refunds and disputes */
	const Charge *charge;
	const char	 *source;
	const char	 *event;
	int			  type;
	int			  currency;
} ListParams;

typedef struct ListSource
{
	const char	*url;
	const char	*kind;
	const Shelf *shelf;
	int64_t (*created_s)(uint32_t number);
	uint32_t (*number_of)(const char *id); /* NONE: not known */
	void (*put)(Buf *b, uint32_t number, unsigned expand);
} ListSource;

/* Takes the common parameters; request->prepared becomes a ListParams. */
extern bool list_prepare(Request *request, const ListSource *source);

/* The filters of what belongs to a charge: payment_intent and charge. */
extern bool list_prepare_charge(Request *request);
extern bool list_wants_charge(const ListParams *params, const Charge *charge);

/* "wanted" may be NULL. */
extern void list_answer(Request *request, const ListSource *source,
						bool (*wanted)(uint32_t			 number,
									   const ListParams *params));

#endif
