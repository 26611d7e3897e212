/*
 * deadline.c
 *		Ends connections whose request or answer takes too long.
 *
 * libmicrohttpd closes connections that are silent; one that sends a byte now
 * and then would stay for ever.
 */
#include "deadline.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "report.h"

#define LOOK_EVERY_MS 100

struct Deadline
{
	int		  descriptor;
	int64_t	  at_ms;
	Deadline *next;
	Deadline *previous;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Deadline		  *all;
static bool			   stopping;
static pthread_t	   thread;

Deadline *
deadline_new(int descriptor)
{
	Deadline *deadline = get_memory(NULL, sizeof(Deadline));

	deadline->descriptor = descriptor;
	deadline->at_ms = INT64_MAX;
	pthread_mutex_lock(&lock);
	deadline->next = all;
	if (all)
		all->previous = deadline;
	all = deadline;
	pthread_mutex_unlock(&lock);
	return deadline;
}

void
deadline_set(Deadline *deadline, int timeout_ms)
{
	pthread_mutex_lock(&lock);
	deadline->at_ms = clock_ms() + timeout_ms;
	pthread_mutex_unlock(&lock);
}

void
deadline_free(Deadline *deadline)
{
	pthread_mutex_lock(&lock);
	if (deadline->previous)
		deadline->previous->next = deadline->next;
	else
		all = deadline->next;
	if (deadline->next)
		deadline->next->previous = deadline->previous;
	pthread_mutex_unlock(&lock);
	free(deadline);
}

/* libmicrohttpd sees the end of a connection that is shut down */
static int
end_late_ones(void)
{
	int64_t now = clock_ms();
	int		ended = 0;

	pthread_mutex_lock(&lock);
	for (Deadline *deadline = all; deadline; deadline = deadline->next)
	{
		if (deadline->at_ms > now)
			continue;
		shutdown(deadline->descriptor, SHUT_RDWR);
		deadline->at_ms = INT64_MAX;
		ended++;
	}
	pthread_mutex_unlock(&lock);
	return ended;
}

static bool
is_stopping(void)
{
	bool answer;

	pthread_mutex_lock(&lock);
	answer = stopping;
	pthread_mutex_unlock(&lock);
	return answer;
}

static void *
watch(void *argument)
{
	const struct timespec pause = { .tv_nsec = LOOK_EVERY_MS * 1000000 };

	(void) argument;
	while (!is_stopping())
	{
		int ended = end_late_ones();

		if (ended > 0)
			report_sometimes("%d connections were too slow and were ended",
							 ended);
		nanosleep(&pause, NULL);
	}
	return NULL;
}

void
deadline_start(void)
{
	if (pthread_create(&thread, NULL, watch, NULL) != 0)
		die("could not start a thread");
}

void
deadline_stop(void)
{
	pthread_mutex_lock(&lock);
	stopping = true;
	pthread_mutex_unlock(&lock);
	pthread_join(thread, NULL);
}
