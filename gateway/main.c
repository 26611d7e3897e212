/*
 * main.c
 *		Start, wait for a signal, stop.
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "options.h"
#include "report.h"
#include "server.h"

/* Whoever sees the file sees all of it. */
static void
write_number_file(const char *path, long number)
{
	char  part[PATH_MAX];
	FILE *file;

	if (path == NULL)
		return;
	if (snprintf(part, sizeof(part), "%s.part", path) >= (int) sizeof(part))
		die("\"%s\" is too long a name", path);
	file = fopen(part, "we");
	if (file == NULL)
		die("could not create \"%s\": %s", part, strerror(errno));
	fprintf(file, "%ld\n", number);
	if (fclose(file) != 0 || rename(part, path) != 0)
		die("could not write \"%s\": %s", path, strerror(errno));
}

static void
remove_file(const char *path)
{
	if (path != NULL)
		unlink(path);
}

int
main(int argc, char **argv)
{
	sigset_t stop_signals;
	int		 signal_number;
	int		 port;

	options_parse(argc, argv);

	/* Blocked before any thread is made: only sigwait sees them. */
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&stop_signals);
	sigaddset(&stop_signals, SIGTERM);
	sigaddset(&stop_signals, SIGINT);
	pthread_sigmask(SIG_BLOCK, &stop_signals, NULL);

	port = server_start();
	write_number_file(options.pid_file, (long) getpid());
	write_number_file(options.port_file, port);
	report("payment-gateway listens on %s port %d", options.bind, port);

	sigwait(&stop_signals, &signal_number);
	server_quiesce();
	server_stop();
	remove_file(options.port_file);
	remove_file(options.pid_file);
	return 0;
}
