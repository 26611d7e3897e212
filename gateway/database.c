/*
 * database.c
 *		Threads with a connection each that take requests to the database.
 *
 * One call is one statement and one transaction, with nothing kept in the
 * session, so that a pooler may stand in between.  What the database does not
 * answer in time, or not at all, is answered with 503: the PSP sends it
 * again, and receive_webhook() takes an event once however often it comes.
 */
#include "database.h"

#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "options.h"
#include "queue.h"
#include "report.h"

#define TEXT_OID 25
#define BYTEA_OID 17

/* of the time for a call that one host may take to answer at all */
#define HOST_SHARE 4
/* at the end, for statements that are still being cancelled */
#define CANCEL_WAIT_MS 1000
#define CANCEL_LOOK_EVERY_MS 20

/* how often an idle thread asks whether the database is there */
#define PING_EVERY_MS 5000
#define PAUSE_MIN_MS 100
#define PAUSE_MAX_MS 5000

static const char call[] =
	"SELECT (answer).http_status, (answer).content_type, (answer).body"
	" FROM (SELECT payment.receive_webhook($1, $2::pg_catalog.jsonb, $3)"
	" AS answer OFFSET 0) AS received";

typedef struct Link
{
	PGconn *connection;
	int64_t retry_at_ms; /* not before, after it could not connect */
	int		pause_ms;
} Link;

static pthread_t  *threads;
static atomic_bool is_up;
static atomic_int  cancelling;
static void (*when_done)(Request *request);

bool
database_is_up(void)
{
	return atomic_load(&is_up);
}

/* the first line of a message of libpq's, which ends each with a newline */
static void
report_failure(const char *what, const char *message)
{
	report_sometimes("%s: %.*s", what, (int) strcspn(message, "\n"), message);
}

static void
disconnect(Link *link)
{
	PQfinish(link->connection);
	link->connection = NULL;
}

/* wait for the socket; false when the time is over */
static bool
wait_for(PGconn *connection, short events, int64_t until_ms)
{
	struct pollfd descriptor = { .fd = PQsocket(connection),
								 .events = events };
	int64_t		  left = until_ms - clock_ms();

	if (left <= 0)
		return false;
	return poll(&descriptor, 1, (int) left) > 0 || errno == EINTR;
}

static bool
finish_connecting(PGconn *connection, int64_t until_ms)
{
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;

	if (PQstatus(connection) == CONNECTION_BAD)
		return false;
	while (status != PGRES_POLLING_OK && status != PGRES_POLLING_FAILED)
	{
		if (!wait_for(connection,
					  status == PGRES_POLLING_READING ? POLLIN : POLLOUT,
					  until_ms))
			return false;
		status = PQconnectPoll(connection);
	}
	return status == PGRES_POLLING_OK;
}

static bool
open_link(Link *link, int64_t until_ms)
{
	char			  host_timeout[16];
	const char *const keywords[] = { "tcp_user_timeout", "dbname",
									 "client_encoding",
									 "fallback_application_name", NULL };
	const char *const values[] = { host_timeout,
								   options.database ? options.database : "",
								   "UTF8", "payment-gateway", NULL };

	if (clock_ms() < link->retry_at_ms)
		return false;
	/* of several hosts, one that is silent must not cost the others' turn */
	snprintf(host_timeout, sizeof(host_timeout), "%d",
			 options.database_timeout_ms / HOST_SHARE);
	link->connection = PQconnectStartParams(keywords, values, 1);
	if (link->connection == NULL)
		die("out of memory");
	if (finish_connecting(link->connection, until_ms) &&
		PQsetnonblocking(link->connection, 1) == 0)
	{
		link->pause_ms = 0;
		return true;
	}
	report_failure("could not connect to the database",
				   PQerrorMessage(link->connection));
	disconnect(link);
	link->pause_ms = link->pause_ms == 0 ? PAUSE_MIN_MS : link->pause_ms * 2;
	if (link->pause_ms > PAUSE_MAX_MS)
		link->pause_ms = PAUSE_MAX_MS;
	link->retry_at_ms = clock_ms() + link->pause_ms;
	return false;
}

/* have all of it on its way; the server may want to be read meanwhile */
static bool
flush(PGconn *connection, int64_t until_ms)
{
	for (;;)
	{
		int left = PQflush(connection);

		if (left <= 0)
			return left == 0;
		if (!wait_for(connection, POLLIN | POLLOUT, until_ms) ||
			!PQconsumeInput(connection))
			return false;
	}
}

/* the last result of the statement, or NULL when there is none in time */
static PGresult *
read_result(PGconn *connection, int64_t until_ms)
{
	PGresult *result = NULL;

	for (;;)
	{
		PGresult *next;

		while (PQisBusy(connection))
		{
			if (!wait_for(connection, POLLIN, until_ms) ||
				!PQconsumeInput(connection))
			{
				PQclear(result);
				return NULL;
			}
		}
		next = PQgetResult(connection);
		if (next == NULL)
			return result;
		PQclear(result);
		result = next;
	}
}

static void *
cancel_and_disconnect(void *argument)
{
	PGconn	 *connection = argument;
	PGcancel *handle = PQgetCancel(connection);
	char	  message[256];

	if (handle)
		PQcancel(handle, message, sizeof(message));
	PQfreeCancel(handle);
	PQfinish(connection);
	atomic_fetch_sub(&cancelling, 1);
	return NULL;
}

/*
 * What is still running there should not go on without anybody waiting.  libpq
 * waits for the server's answer to that without a limit, so requests do not
 * wait for it; and where many are stuck, no more are begun.
 */
static void
cancel(Link *link)
{
	pthread_t thread;

	if (atomic_fetch_add(&cancelling, 1) < options.database_connections &&
		pthread_create(&thread, NULL, cancel_and_disconnect,
					   link->connection) == 0)
	{
		pthread_detach(thread);
		link->connection = NULL;
		return;
	}
	atomic_fetch_sub(&cancelling, 1);
	disconnect(link);
}

static PGresult *
run(Link *link, const Request *request, int64_t until_ms)
{
	const Oid	types[] = { TEXT_OID, TEXT_OID, BYTEA_OID };
	const char *values[] = { request->psp, request->headers,
							 request->body ? request->body : "" };
	const int	lengths[] = { 0, 0, (int) request->body_length };
	const int	formats[] = { 0, 0, 1 };
	PGresult   *result = NULL;

	if (PQsendQueryParams(link->connection, call, 3, types, values, lengths,
						  formats, 0) &&
		flush(link->connection, until_ms))
		result = read_result(link->connection, until_ms);
	if (result == NULL && PQstatus(link->connection) == CONNECTION_OK)
		cancel(link);
	else if (result == NULL || PQstatus(link->connection) != CONNECTION_OK)
		disconnect(link);
	return result;
}

static void
answer_unavailable(Request *request)
{
	request_answer(request, 503, NULL, "try again later\n");
}

/*
 * An error is never the sender's fault: that, the function answers.  Which one
 * it was says the SQLSTATE; messages may hold what the sender wrote.
 */
static void
take_result(Request *request, const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1 &&
		!PQgetisnull(result, 0, 0))
	{
		request_answer(request, atoi(PQgetvalue(result, 0, 0)),
					   PQgetisnull(result, 0, 1) ? NULL
												 : PQgetvalue(result, 0, 1),
					   PQgetvalue(result, 0, 2));
		return;
	}
	report_sometimes("the database could not take a webhook: SQLSTATE %s",
					 state ? state : "unknown");
	answer_unavailable(request);
}

/*
 * A connection that was idle may have ended long ago without anybody having
 * noticed, so a failure of the connection is tried once more with another.
 */
static void
handle(Link *link, Request *request)
{
	int64_t	  until_ms = clock_ms() + options.database_timeout_ms;
	PGresult *result = NULL;

	/* whoever has waited so long will have gone, and comes again */
	if (clock_ms() - request->queued_ms > options.database_timeout_ms)
	{
		report_sometimes("webhooks wait too long for the database");
		answer_unavailable(request);
		return;
	}
	for (int try = 0; try < 2 && result == NULL && clock_ms() < until_ms;
		 try++)
	{
		bool was_open = link->connection != NULL;

		if (!was_open && !open_link(link, until_ms))
			break;
		result = run(link, request, until_ms);
		if (!was_open)
			break;
	}
	atomic_store(&is_up, result != NULL);
	if (result)
		take_result(request, result);
	else
		answer_unavailable(request);
	PQclear(result);
}

static void
ping(Link *link)
{
	int64_t	  until_ms = clock_ms() + options.database_timeout_ms;
	PGresult *result = NULL;

	if (link->connection == NULL && !open_link(link, until_ms))
	{
		atomic_store(&is_up, false);
		return;
	}
	if (PQsendQuery(link->connection, "SELECT 1") &&
		flush(link->connection, until_ms))
		result = read_result(link->connection, until_ms);
	atomic_store(&is_up, PQresultStatus(result) == PGRES_TUPLES_OK);
	if (!database_is_up())
		disconnect(link);
	PQclear(result);
}

static void *
serve(void *argument)
{
	Link link = { NULL, 0, 0 };

	(void) argument;
	ping(&link);
	for (;;)
	{
		Request *request = queue_pop(PING_EVERY_MS);

		if (request)
		{
			handle(&link, request);
			when_done(request);
		}
		else if (queue_is_over())
			break;
		else
			ping(&link);
	}
	disconnect(&link);
	return NULL;
}

void
database_start(void (*done)(Request *request))
{
	when_done = done;
	threads = get_memory(NULL, sizeof(pthread_t) *
								   (size_t) options.database_connections);
	for (int i = 0; i < options.database_connections; i++)
	{
		if (pthread_create(&threads[i], NULL, serve, NULL) != 0)
			die("could not start a thread");
	}
}

void
database_stop(void)
{
	const struct timespec pause = { .tv_nsec =
										CANCEL_LOOK_EVERY_MS * 1000000 };
	int64_t				  until_ms;

	for (int i = 0; i < options.database_connections; i++)
		pthread_join(threads[i], NULL);
	free(threads);
	until_ms = clock_ms() + CANCEL_WAIT_MS;
	while (atomic_load(&cancelling) > 0 && clock_ms() < until_ms)
		nanosleep(&pause, NULL);
}
