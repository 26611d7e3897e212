/*-------------------------------------------------------------------------
 *
 * hosted.h
 *	  Payments that the payer makes at a page of the PSP's.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_HOSTED_H
#define PAYMENT_HOSTED_H

#include "order/event.h"
#include "order/operation.h"
#include "order/subject.h"

/* Stands for the payment method, which nobody here will ever know. */
#define HOSTED_PAYMENT_METHOD "hosted_page"

typedef struct HostedPage
{
	const char *success_url;
	const char *cancel_url;
	const char *locale;		/* or NULL */
	int32		lifetime_s; /* 0: as the PSP likes */
} HostedPage;

/* The argument of checkout(); raises PY001 for what is wrong with it. */
extern HostedPage *hosted_parse(const EventPlace *place, Jsonb *hosted);

/* Rows for those of the payments that have a page; needs SPI. */
extern void hosted_create(Event **events, int count);

/* What can be done about news of a page, which are worth a look at it */
typedef enum PageNews
{
	PAGE_IS_OVER,	  /* nothing: nobody waits for it */
	PAGE_IS_BUSY,	  /* it is just being looked at, perhaps too early */
	PAGE_IS_LOOKED_AT /* soon */
} PageNews;

extern PageNews page_look_soon(const pg_uuid_t *psp_id,
							   const pg_uuid_t *order_id);

/*
 * After subjects_write(): what became of their pages, with the tasks that
 * charge the orders or close the page.
 */
extern void pages_write(const SubjectSet *set);

#endif /* PAYMENT_HOSTED_H */
