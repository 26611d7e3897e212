/*-------------------------------------------------------------------------
 *
 * guard.h
 *	  What the trigger functions of src/order share.
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
extern int column_number(TupleDesc desc, const char *name, int likely_attnum);

#endif /* PAYMENT_GUARD_H */
