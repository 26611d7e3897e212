/*-------------------------------------------------------------------------
 *
 * guard.h
 *	  What the guard triggers share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_GUARD_H
#define PAYMENT_GUARD_H

#include "commands/trigger.h"

#include "order/transition.h"

extern TriggerData	   *trigger_data(FunctionCallInfo fcinfo, const char *name,
									 TriggerEvent timing, bool for_row);
extern TransitionObject trigger_object(const TriggerData *trigdata);
/* without a row in it or its partitions, whoever is writing them */
extern bool table_is_empty(Relation rel);
/* a table of the extension that is empty */
extern bool restore_may_insert(Relation rel);
/* INSERT, UPDATE, DELETE or TRUNCATE */
extern const char *event_name(TriggerEvent event);
extern int column_number(TupleDesc desc, const char *name, int likely_attnum);

#endif /* PAYMENT_GUARD_H */
