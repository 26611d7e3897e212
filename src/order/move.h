/*-------------------------------------------------------------------------
 *
 * move.h
 *	  Orders that are tried anew, under the next key: at another PSP or at the
 *	  same one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_MOVE_H
#define PAYMENT_MOVE_H

#include "order/batch.h"
#include "order/subject.h"

/*
 * Where an order goes on, when its present PSP has certainly not executed it.
 */
typedef struct NextPsp
{
	pg_uuid_t	order_id;
	pg_uuid_t	psp_id;
	const char *payment_method; /* as that PSP calls it */
} NextPsp;

/* what asks for it; one for each order, in any order */
typedef struct MoveRequest
{
	pg_uuid_t order_id;
	pg_uuid_t attempt_id;	  /* whose answer it is */
	bool	  only_if_unsent; /* when no try is left, and none arrived */
} MoveRequest;

/*
 * SQL: do people look into whether this order was charged already?  Nothing is
 * sent for it then, for as long as they do.
 */
#define MAY_BE_CHARGED(order_id)                                        \
	"EXISTS (SELECT FROM payment.exception_record AS x WHERE x.type = " \
	"ANY ('{late_success,duplicate,status,amount,currency}'::text[])"   \
	" AND x.order_id = " order_id " AND x.closed_at IS NULL)"

/*
 * SQL: does a PSP tell of an order of which nothing here says that it was sent?
 * So it is when a standby was promoted without the last claims.  An event waits
 * until the order is sent, or was left to people after waiting for too long.
 */
#define SAYS_SENT(order_id)                                            \
	"(EXISTS (SELECT FROM payment.webhook_waiting AS w"                \
	"  JOIN payment.webhook_event AS e ON e.id = w.webhook_id"         \
	"  WHERE e.object_id = " order_id " AND e.about <> 'session')"     \
	" OR EXISTS (SELECT FROM"                                          \
	"  payment.exception_record AS x WHERE x.type = 'unmatched_event'" \
	"  AND x.order_id = " order_id " AND x.closed_at IS NULL))"

/*
 * failover.c: the next PSP of each order that may go on, by order; the caller
 * has locked them.
 */
extern NextPsp *failover_find(const MoveRequest *requests, int request_count,
							  int *count);
extern const NextPsp *failover_of(const NextPsp *found, int count,
								  const pg_uuid_t *order_id);
/* what waits to be sent for these orders is not sent: it goes to people */
extern void failover_stop(const Column *orders);

/*
 * move.c: in memory; subjects_write() writes the order and its task, which is
 * then as new.  The order is executing, or steps there.
 */
extern void subject_move(Subject *subject, const pg_uuid_t *psp_id,
						 const char *payment_method, bool routed);
extern void subjects_write_moved(const SubjectSet *set);

#endif /* PAYMENT_MOVE_H */
