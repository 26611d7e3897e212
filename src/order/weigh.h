/*-------------------------------------------------------------------------
 *
 * weigh.h
 *	  Weighing a batch of evidence in memory: what the files share that know
 *	  what follows for an order, for a refund and for a payout.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_WEIGH_H
#define PAYMENT_WEIGH_H

#include "order/batch.h"
#include "order/evidence.h"
#include "order/move.h"
#include "order/posting.h"
#include "order/psp_reference.h"
#include "order/subject.h"
#include "reconcile/exception.h"

typedef struct Weighing
{
	SubjectSet		 set;
	const Evidence	*evidence;
	bool			*asked; /* by evidence: was its PSP ever asked? */
	NextPsp			*nexts; /* where orders may go on */
	int				 next_count;
	Column			 stopped; /* orders of which nothing more is sent */
	PspReference	*references;
	int				 reference_count;
	Posting			*postings;
	int				 posting_count;
	ExceptionReport *reports;
	int				 report_count;
	SubjectKey		*ended; /* tasks with nothing left to do */
	int				 ended_count;
	SubjectKey		*buried; /* tasks that only people can go on with */
	const char	   **buried_reasons;
	int				 buried_count;
} Weighing;

/* order_evidence.c, refund_evidence.c, payout_evidence.c */
extern void order_weigh(Weighing *w, Subject *subject, Evidence *evidence);
extern void order_weigh_left(Weighing *w, Subject *subject,
							 Evidence *evidence);
extern bool order_fail_over(const Weighing *w, Subject *subject,
							Evidence *evidence);
extern void refunds_lock_sellers(const SubjectSet *set,
								 const Evidence *evidence, int count);
extern void refund_weigh(Weighing *w, Subject *subject, Evidence *evidence);
extern void dispute_response_weigh(Subject *subject, Evidence *evidence);
/* disputes whose answers have arrived, after subjects_write() */
extern void disputes_answered(const SubjectSet *set);
extern void payout_weigh(Weighing *w, Subject *subject, Evidence *evidence);

/*
 * page_evidence.c: what is said of a hosted page, which others follow.  True:
 * there is nothing more to weigh.
 */
extern bool page_weigh(Weighing *w, Subject *subject, Evidence *evidence);
extern void page_follow(Weighing *w, const Subject *subject,
						const Evidence *evidence);
/* nobody needs the page of this subject any more, if so */
extern void page_end(Weighing *w, Subject *subject, const Evidence *evidence);
/* what has to be locked for all this evidence */
extern SubjectKey *page_keys(const Evidence *evidence, int count,
							 int *key_count);

/* evidence.c: for these */
extern bool status_is_one_of(const char *status, const char *const *statuses);
extern bool weigh_is_settled(const Subject *subject, const char *operation);
extern void weigh_end_task(Weighing *w, const Evidence *evidence,
						   const char *operation);
extern bool weigh_has_foreign_reference(const Weighing *w,
										const Evidence *evidence);

/*
 * The next status, if that is legal: then the evidence is applied.  With it
 * comes the PSP's name of the object.
 */
extern void weigh_step(Subject *subject, const char *to, Evidence *evidence);

/* an exception about the subject, of that type */
extern void weigh_report(Weighing *w, const Subject *subject, const char *type,
						 const Evidence *evidence, int64 expected,
						 const char *detail);

/* what cannot be true goes to people; so does the object */
extern void weigh_contradict(Weighing *w, Subject *subject, Evidence *evidence,
							 const char *type, int64 expected,
							 const char *detail);

/*
 * NULL: the PSP reports what was expected; else the type of the difference,
 * and what to say of it.
 */
extern const char *weigh_difference(const Subject  *subject,
									const Evidence *evidence, int64 expected,
									const char **detail);

/* success again: see there */
extern void weigh_repeat(Weighing *w, Subject *subject, Evidence *evidence,
						 int64 expected);

/* the PSP takes back what two people said had succeeded */
extern bool weigh_takes_back(Weighing *w, Subject *subject,
							 Evidence *evidence);

/* a journal of the subject, to be posted at the end, and its legs */
extern Posting *weigh_posting(Weighing *w, const Subject *subject,
							  const char *kind);
extern void		weigh_leg(Posting *posting, AccountCode code,
						  const pg_uuid_t *owner, int64 amount);

#endif /* PAYMENT_WEIGH_H */
