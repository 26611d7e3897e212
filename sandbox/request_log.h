/*
 * request_log.h
 *		The last requests to the API, for tests to look at.
 */
#ifndef SANDBOX_REQUEST_LOG_H
#define SANDBOX_REQUEST_LOG_H

#include "csv.h"
#include "request.h"

extern void request_log_add(const Request *request);

/* A stream over what is there now. */
extern CsvStream *request_log_stream(void);

#endif
