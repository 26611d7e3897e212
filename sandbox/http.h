/*
 * http.h
 *		The HTTP server.
 */
#ifndef SANDBOX_HTTP_H
#define SANDBOX_HTTP_H

/* Listens; returns the port. */
extern int http_start(void);

/* Ends what still runs and waits for it. */
extern void http_stop(void);

#endif
