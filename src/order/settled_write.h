/*-------------------------------------------------------------------------
 *
 * settled_write.h
 *	  Write down what is known of how PSPs settle orders and refunds.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_SETTLED_WRITE_H
#define PAYMENT_SETTLED_WRITE_H

#include "order/batch.h"
#include "order/subject.h"

/* columns that go with each write of an order, in this order */
#define SETTLED_COLUMNS 7
#define SETTLED_COLUMN_NAMES                                     \
	"settled_currency, settled_captured_amount, settled_amount," \
	" exchange_rate, psp_fee, exchanged_amount, exchanged_for"
#define SETTLED_COLUMN_SET                                         \
	"settled_currency = u.settled_currency,"                       \
	" settled_captured_amount = u.settled_captured_amount,"        \
	" settled_amount = u.settled_amount,"                          \
	" exchange_rate = u.exchange_rate::numeric,"                   \
	" psp_fee = u.psp_fee, exchanged_amount = u.exchanged_amount," \
	" exchanged_for = u.exchanged_for"

extern void settled_columns_init(Column *columns, Oid *array_types);
extern void settled_columns_add(Column *columns, const Subject *order);

/* what has changed of those whose status stays, of refunds, of fees */
extern void settled_write(const SubjectSet *set);

#endif /* PAYMENT_SETTLED_WRITE_H */
