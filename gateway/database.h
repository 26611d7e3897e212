/*
 * database.h
 *		Threads with a connection each that take requests to the database.
 */
#ifndef GATEWAY_DATABASE_H
#define GATEWAY_DATABASE_H

#include <stdbool.h>

#include "request.h"

/* done is called with each request that has been answered */
extern void database_start(void (*done)(Request *request));
/* answers all that are in the queue, which has been closed, and ends */
extern void database_stop(void);
/* did it answer when it was asked last? */
extern bool database_is_up(void);

#endif /* GATEWAY_DATABASE_H */
