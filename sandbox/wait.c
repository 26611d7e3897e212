/*
 * wait.c
 *		One condition variable that all sleepers share.
 */
#include "wait.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t  stopped;
static bool			   stopping;

static void __attribute__((constructor)) use_monotonic_clock(void)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&stopped, &attr);
	pthread_condattr_destroy(&attr);
}

bool
wait_ms(int64_t delay_ms)
{
	struct timespec until;
	bool			go_on;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += delay_ms / 1000;
	until.tv_nsec += delay_ms % 1000 * 1000000;
	if (until.tv_nsec >= 1000000000)
	{
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&lock);
	while (!stopping &&
		   pthread_cond_timedwait(&stopped, &lock, &until) != ETIMEDOUT)
		;
	go_on = !stopping;
	pthread_mutex_unlock(&lock);
	return go_on;
}

void
wait_stop_all(void)
{
	pthread_mutex_lock(&lock);
	stopping = true;
	pthread_cond_broadcast(&stopped);
	pthread_mutex_unlock(&lock);
}
