/*
 * queue.c
 *		Requests that wait for a connection to the database.
 */
#include "queue.h"

#include <pthread.h>
#include <stddef.h>
#include <time.h>

#include "options.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t  not_empty = PTHREAD_COND_INITIALIZER;
static Request		  *first;
static Request		  *last;
static int			   length;
static bool			   closed;

bool
queue_push(Request *request)
{
	bool taken;

	pthread_mutex_lock(&lock);
	taken = !closed && length < options.queue_length;
	if (taken)
	{
		request->next = NULL;
		if (last)
			last->next = request;
		else
			first = request;
		last = request;
		length++;
		pthread_cond_signal(&not_empty);
	}
	pthread_mutex_unlock(&lock);
	return taken;
}

Request *
queue_pop(int timeout_ms)
{
	struct timespec until;
	Request		   *request;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += timeout_ms / 1000;
	until.tv_nsec += (long) (timeout_ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000)
	{
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&lock);
	while (first == NULL && !closed &&
		   pthread_cond_timedwait(&not_empty, &lock, &until) == 0)
		;
	request = first;
	if (request)
	{
		first = request->next;
		if (first == NULL)
			last = NULL;
		length--;
	}
	pthread_mutex_unlock(&lock);
	return request;
}

void
queue_close(void)
{
	pthread_mutex_lock(&lock);
	closed = true;
	pthread_cond_broadcast(&not_empty);
	pthread_mutex_unlock(&lock);
}

bool
queue_is_over(void)
{
	bool answer;

	pthread_mutex_lock(&lock);
	answer = closed && first == NULL;
	pthread_mutex_unlock(&lock);
	return answer;
}
