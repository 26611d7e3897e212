/*-------------------------------------------------------------------------
 *
 * queue.h
 *	  The queue of tasks seen from outside.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_ORDER_QUEUE_H
#define PAYMENT_ORDER_QUEUE_H

/*
 * Another copy of this database may have sent the tasks since (or only those
 * that are claimed here): have each looked up first.  Returns their number.
 */
extern int64 queue_doubt(bool all);

#endif /* PAYMENT_ORDER_QUEUE_H */
