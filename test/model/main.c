/*-------------------------------------------------------------------------
 *
 * main.c
 *	  ledger-model: see model.h.  Writes TAP lines without a plan.
 *
 *-------------------------------------------------------------------------
 */
#include "model.h"

#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TELL_FAILURES 20

World world;

static int tests_failed = 0;

void
fail(const char *format, ...)
{
	va_list arguments;

	if (world.failures++ >= TELL_FAILURES)
		return;
	printf("# ");
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
}

void
test(bool passed, const char *format, ...)
{
	va_list arguments;

	tests_failed += !passed;
	printf(passed ? "ok - " : "not ok - ");
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	fflush(stdout);
}

void *
enlarge(void *memory, size_t size)
{
	memory = realloc(memory, size > 0 ? size : 1);
	if (memory == NULL)
	{
		fprintf(stderr, "out of memory\n");
		exit(2);
	}
	return memory;
}

void *
allocate(size_t size)
{
	return enlarge(NULL, size);
}

static void
usage(void)
{
	fprintf(stderr, "usage: ledger-model --conninfo=TEXT [--clients=N] "
					"[--seconds=N] [--seed=N] [--kills=N] [--txns=N]\n");
	exit(2);
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "conninfo", required_argument, NULL, 'd' },
		{ "clients", required_argument, NULL, 'c' },
		{ "seconds", required_argument, NULL, 's' },
		{ "seed", required_argument, NULL, 'r' },
		{ "kills", required_argument, NULL, 'k' },
		{ "txns", required_argument, NULL, 't' },
		{ NULL, 0, NULL, 0 }
	};
	Load load = { NULL, 24, 30, 0, UINT32_MAX / 16 };

	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
	{
		if (c == 'd')
			load.conninfo = optarg;
		else if (c == 'c')
			load.clients = atoi(optarg);
		else if (c == 's')
			load.seconds = atoi(optarg);
		else if (c == 'r')
			world.seed = strtoull(optarg, NULL, 10);
		else if (c == 'k')
			load.backend_kills = atoi(optarg);
		else if (c == 't')
			load.max_txns = strtoull(optarg, NULL, 10);
		else
			usage();
	}
	if (load.conninfo == NULL || load.clients < 1 || load.seconds < 1)
		usage();

	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	world.exact = load.clients == 1;
	world.live = model_create();
	load_run(&load);
	test(world.failures == 0, world.exact
								  ? "every answer was the model's"
								  : "every answer was one that may be");
	world.failures = 0;
	printf("# checking\n");
	check_all(load.conninfo);
	test(world.failures == 0, "nothing else is wrong");
	return tests_failed > 0;
}
