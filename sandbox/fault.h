/*
 * fault.h
 *		Faults: what goes wrong on purpose, how often, and how often it did.
 *
 * Everything but fault_set at start is called under the book's lock.
 */
#ifndef SANDBOX_FAULT_H
#define SANDBOX_FAULT_H

#include <stdbool.h>
#include <stdint.h>

#include "buf.h"
#include "form.h"

typedef enum Fault
{
	FAULT_RESET,
	FAULT_RATE_LIMIT,
	FAULT_CONFLICT_409,
	FAULT_ERROR_500_BEFORE,
	FAULT_WRONG_AMOUNT,
	FAULT_WRONG_CURRENCY,
	FAULT_ERROR_500_AFTER,
	FAULT_LOST_ANSWER,
	FAULT_HANG_AFTER,
	FAULT_RESET_AFTER,
	FAULT_TRUNCATED_BODY,
	FAULT_HTML_BODY,
	FAULT_SHOULD_RETRY_FALSE,
	FAULT_SHOULD_RETRY_TRUE,
	FAULT_LOOKUP_DOWN,
	FAULT_REFUND_PENDING,
	FAULT_REFUND_FAILS,
	FAULT_REFUND_FAILS_LATER,
	FAULT_WEBHOOK_DUPLICATE,
	FAULT_WEBHOOK_REORDER,
	FAULT_WEBHOOK_LOST,
	FAULT_WEBHOOK_FORGED,
	FAULT_COUNT
} Fault;

extern const char *fault_name(int fault);
extern const char *fault_help(int fault);

/* NULL, or what is wrong with the setting. */
extern const char *fault_set(const char *name, const char *value);

/* Applies a whole form or, when something is wrong with it, nothing. */
extern const char *fault_apply(Form *form);

/* Draws; true counts as fired. */
extern bool		fault_fires(Fault fault);
extern uint64_t fault_fired(Fault fault);

extern int64_t fault_latency_ms(void);
extern int64_t fault_page_latency_ms(void);
extern int64_t fault_hang_ms(void);
extern int64_t fault_webhook_delay_ms(void);
extern int64_t fault_webhook_reorder_ms(void);
extern int64_t fault_webhook_batch(void);
extern int	   fault_retry_after_s(void);

extern void fault_json(Buf *b);

#endif
