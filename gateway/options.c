/*
 * options.c
 *		The command line.
 */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

Options options = { .bind = "127.0.0.1",
					.port = 8089,
					.database_connections = 4,
					.database_timeout_ms = 10000,
					.queue_length = 1000,
					.clients_max = 2000,
					.clients_per_address = 0,
					.body_bytes_max = 1024 * 1024,
					.request_timeout_ms = 10000,
					.idle_timeout_s = 60,
					.stop_timeout_ms = 20000 };

enum
{
	OPT_BIND = 1,
	OPT_PORT,
	OPT_DATABASE,
	OPT_CONNECTIONS,
	OPT_DATABASE_TIMEOUT,
	OPT_QUEUE,
	OPT_CLIENTS,
	OPT_PER_ADDRESS,
	OPT_BODY,
	OPT_REQUEST_TIMEOUT,
	OPT_IDLE,
	OPT_STOP,
	OPT_PID,
	OPT_PORT_FILE,
	OPT_VERBOSE,
	OPT_HELP
};

static const struct option long_options[] = {
	{ "bind", required_argument, NULL, OPT_BIND },
	{ "port", required_argument, NULL, OPT_PORT },
	{ "database", required_argument, NULL, OPT_DATABASE },
	{ "database-connections", required_argument, NULL, OPT_CONNECTIONS },
	{ "database-timeout-ms", required_argument, NULL, OPT_DATABASE_TIMEOUT },
	{ "queue-length", required_argument, NULL, OPT_QUEUE },
	{ "max-clients", required_argument, NULL, OPT_CLIENTS },
	{ "max-clients-per-address", required_argument, NULL, OPT_PER_ADDRESS },
	{ "max-body-bytes", required_argument, NULL, OPT_BODY },
	{ "request-timeout-ms", required_argument, NULL, OPT_REQUEST_TIMEOUT },
	{ "idle-timeout-s", required_argument, NULL, OPT_IDLE },
	{ "stop-timeout-ms", required_argument, NULL, OPT_STOP },
	{ "pid-file", required_argument, NULL, OPT_PID },
	{ "port-file", required_argument, NULL, OPT_PORT_FILE },
	{ "verbose", no_argument, NULL, OPT_VERBOSE },
	{ "help", no_argument, NULL, OPT_HELP },
	{ NULL, 0, NULL, 0 }
};

static const char help[] =
	"payment-gateway: takes PSPs' webhooks to the database\n"
	"\n"
	"Usage: payment-gateway [OPTION]...\n"
	"\n"
	"  --bind ADDRESS               address to listen on (127.0.0.1)\n"
	"  --port N                     port, 0 chooses one (8089)\n"
	"  --database CONNINFO          connection string or URI; without it the\n"
	"                               environment's PGHOST, PGDATABASE, ...\n"
	"  --database-connections N     connections to the database (4)\n"
	"  --database-timeout-ms N      longest wait for its answer (10000)\n"
	"  --queue-length N             requests waiting for a connection (1000)\n"
	"  --max-clients N              connections of senders at once (2000)\n"
	"  --max-clients-per-address N  of one address, 0 is no limit (0)\n"
	"  --max-body-bytes N           larger bodies are refused (1048576)\n"
	"  --request-timeout-ms N       to receive a request (10000)\n"
	"  --idle-timeout-s N           silent connections are closed (60)\n"
	"  --stop-timeout-ms N          to finish requests on SIGTERM (20000)\n"
	"  --pid-file FILE              write the process id\n"
	"  --port-file FILE             write the port once it listens\n"
	"  --verbose                    a line for each request\n"
	"\n"
	"POST /webhooks/PSP calls payment.receive_webhook(PSP, headers, body) "
	"and\n"
	"answers what it returns. GET /healthz tells whether the database "
	"answers.\n";

static long
number(const char *option, const char *text, long min, long max)
{
	char *end;
	long  value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || value < min ||
		value > max)
		die("--%s takes a whole number from %ld to %ld, not \"%s\"", option,
			min, max, text);
	return value;
}

static void
set_option(int option, const char *name, const char *value)
{
	switch (option)
	{
		case OPT_BIND:
			options.bind = value;
			break;
		case OPT_PORT:
			options.port = (int) number(name, value, 0, 65535);
			break;
		case OPT_DATABASE:
			options.database = value;
			break;
		case OPT_CONNECTIONS:
			options.database_connections = (int) number(name, value, 1, 256);
			break;
		case OPT_DATABASE_TIMEOUT:
			options.database_timeout_ms =
				(int) number(name, value, 100, 600000);
			break;
		case OPT_QUEUE:
			options.queue_length = (int) number(name, value, 1, 100000);
			break;
		case OPT_CLIENTS:
			options.clients_max = (int) number(name, value, 1, 100000);
			break;
		case OPT_PER_ADDRESS:
			options.clients_per_address = (int) number(name, value, 0, 100000);
			break;
		case OPT_BODY:
			options.body_bytes_max =
				(size_t) number(name, value, 1024, 64 * 1024 * 1024);
			break;
		case OPT_REQUEST_TIMEOUT:
			options.request_timeout_ms =
				(int) number(name, value, 100, 600000);
			break;
		case OPT_IDLE:
			options.idle_timeout_s = (int) number(name, value, 1, 3600);
			break;
		case OPT_STOP:
			options.stop_timeout_ms = (int) number(name, value, 0, 600000);
			break;
		case OPT_PID:
			options.pid_file = value;
			break;
		case OPT_PORT_FILE:
			options.port_file = value;
			break;
		case OPT_VERBOSE:
			options.verbose = true;
			break;
		default:
			fputs(help, stdout);
			exit(0);
	}
}

void
options_parse(int argc, char **argv)
{
	int option;
	int index = 0;

	while ((option = getopt_long(argc, argv, "", long_options, &index)) != -1)
	{
		if (option == '?')
			die("see payment-gateway --help");
		set_option(option, long_options[index].name, optarg);
	}
	if (optind < argc)
		die("\"%s\" is no option; see payment-gateway --help", argv[optind]);
}
