/*
 * server.h
 *		libmicrohttpd in front of the queue.
 */
#ifndef GATEWAY_SERVER_H
#define GATEWAY_SERVER_H

/* returns the port */
extern int server_start(void);
/* no new connections; waits for what is under way, within a limit */
extern void server_quiesce(void);
extern void server_stop(void);

#endif /* GATEWAY_SERVER_H */
