/*
 * options.h
 *		What the command line decides.
 */
#ifndef SANDBOX_OPTIONS_H
#define SANDBOX_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#define SECRET_KEY_MAX 255

typedef struct Options
{
	const char *bind;
	int			port;
	int			connections_max;
	int			idle_timeout_s;
	char		secret_key[SECRET_KEY_MAX + 1];
	const char *book_file;
	const char *pid_file;
	const char *port_file;
	uint64_t	seed;
	int64_t		payout_delay_ms;
	int64_t		payout_return_delay_ms;
	int64_t		processing_delay_ms;
	int64_t		idempotency_ttl_s;
	bool		verbose;
} Options;

extern Options options;

/* Exits by itself for --help and for what it does not understand. */
extern void options_parse(int argc, char **argv);

#endif
