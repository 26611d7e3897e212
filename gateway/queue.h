/*
 * queue.h
 *		Requests that wait for a connection to the database.
 */
#ifndef GATEWAY_QUEUE_H
#define GATEWAY_QUEUE_H

#include <stdbool.h>

#include "request.h"

/* false when it is full, or closed */
extern bool queue_push(Request *request);
/* NULL when none came within that time, or when it is closed and empty */
extern Request *queue_pop(int timeout_ms);
/* takes no more; those in it are still given out */
extern void queue_close(void);
/* closed, and what was in it was given out */
extern bool queue_is_over(void);

#endif /* GATEWAY_QUEUE_H */
