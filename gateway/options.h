/*
 * options.h
 *		The command line.
 */
#ifndef GATEWAY_OPTIONS_H
#define GATEWAY_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

typedef struct Options
{
	const char *bind;
	int			port;
	const char *database; /* connection string, or NULL: the environment's */
	int			database_connections;
	int			database_timeout_ms; /* for one call, connecting included */
	int			queue_length;		 /* requests that wait for a connection */
	int			clients_max;		 /* connections at once */
	int			clients_per_address; /* 0: no limit, as behind a proxy */
	size_t		body_bytes_max;
	int			request_timeout_ms; /* to receive one, to send its answer */
	int			idle_timeout_s;
	int			stop_timeout_ms;
	const char *pid_file;
	const char *port_file;
	bool		verbose;
} Options;

extern Options options;

extern void options_parse(int argc, char **argv);

#endif /* GATEWAY_OPTIONS_H */
