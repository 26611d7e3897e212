/*
 * page.h
 *		The pages on which a payer pays: plain HTML, no scripts, and no field
 *		for a card number.
 */
#ifndef SANDBOX_PAGE_H
#define SANDBOX_PAGE_H

#include "book.h"
#include "request.h"

typedef enum PageOutcome
{
	PAGE_DONE,		   /* back to the merchant */
	PAGE_AUTHENTICATE, /* to the bank's page first */
	PAGE_DECLINED,	   /* another card may do */
	PAGE_GONE		   /* there is nothing to pay any more */
} PageOutcome;

typedef struct PageCard
{
	const char *method;
	const char *label;
	const char *hint;
} PageCard;

/* What differs between the PSPs whose pages these are. */
typedef struct PageOwner
{
	const PageCard *cards; /* the last has no method */
	PageOutcome (*pay)(Session *session, const char *method,
					   const char **message);
	PageOutcome (*authenticate)(Session *session, bool succeeds,
								const char **message);

	/* Where the payer goes when it is over, or wants no more. */
	void (*put_return_url)(Buf *url, const Session *session);
} PageOwner;

extern void page_show(Request *request);
extern void page_pay(Request *request);
extern void page_show_authentication(Request *request);
extern void page_authenticate(Request *request);

/* The address of a session's page. */
extern void page_put_url(Buf *url, const Session *session);

#endif
