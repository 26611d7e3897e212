/*-------------------------------------------------------------------------
 *
 * load.c
 *	  Runs contenders in turn, a slice of time each, round after round.
 *
 *	load -c CLIENTS -r ROUNDS -s SLICE_MS [-d DATABASE] CONTENDER...
 *
 * What else goes on on the machine hits all contenders of a round alike, so
 * the ratio of two rates of one round says more than either rate.  The same
 * connections, and so the same server processes, serve all contenders of a
 * database.  A round before the first is run and not counted.
 *
 * One line for each slice on stdout: round, contender, journals, seconds.
 * A slice ends when the last transaction begun in it has ended.
 *
 *-------------------------------------------------------------------------
 */
#include <err.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "contender.h"

#define MAX_CLIENTS 1000
#define MAX_CONTENDERS 32
#define MAX_DATABASES 4
#define HANG_MS 120000

typedef struct Client
{
	PGconn	  *connection;
	Parameters parameters;
	bool	   busy;
	bool	   prepared[WAY_COUNT];
} Client;

typedef struct Database
{
	const char *name;
	Client	   *clients;
	Uuid	   *account_ids;
	int			account_count;
	int			epoll;
} Database;

static int		client_count = 1;
static int		round_count = 5;
static int		slice_ms = 500;
static Database databases[MAX_DATABASES];
static int		database_count;

static double
now_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

static PGconn *
connect_to(const char *database)
{
	const char *const keywords[] = { "dbname", "application_name", NULL };
	const char *const values[] = { database, "bench", NULL };
	PGconn			 *connection = PQconnectdbParams(keywords, values, 0);

	if (PQstatus(connection) != CONNECTION_OK)
		errx(1, "%s", PQerrorMessage(connection));
	return connection;
}

/* accounts in order of their codes, which is how the references number them */
static void
read_accounts(Database *database)
{
	PGconn	 *connection = database->clients[0].connection;
	PGresult *result =
		PQexecParams(connection,
					 "SELECT id FROM payment.account WHERE code LIKE 'bench%' "
					 "ORDER BY code",
					 0, NULL, NULL, NULL, NULL, 1);

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		errx(1, "%s", PQerrorMessage(connection));
	database->account_count = PQntuples(result);
	database->account_ids =
		calloc((size_t) database->account_count + 1, sizeof(Uuid));
	if (database->account_ids == NULL)
		errx(1, "out of memory");
	for (int i = 0; i < database->account_count; i++)
		memcpy(&database->account_ids[i], PQgetvalue(result, i, 0),
			   UUID_BYTES);
	PQclear(result);
}

static Database *
find_database(const char *name)
{
	Database *database;

	for (int i = 0; i < database_count; i++)
	{
		if (strcmp(databases[i].name, name) == 0)
			return &databases[i];
	}
	if (database_count == MAX_DATABASES)
		errx(2, "too many databases");
	database = &databases[database_count++];
	database->name = name;
	database->clients = calloc((size_t) client_count, sizeof(Client));
	database->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (database->clients == NULL || database->epoll < 0)
		err(1, "cannot begin");
	for (int i = 0; i < client_count; i++)
	{
		Client			  *client = &database->clients[i];
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = client };

		client->connection = connect_to(name);
		if (epoll_ctl(database->epoll, EPOLL_CTL_ADD,
					  PQsocket(client->connection), &event) < 0)
			err(1, "epoll");
	}
	read_accounts(database);
	return database;
}

static void
prepare(Client *client, Way way)
{
	PGresult *result;

	if (client->prepared[way])
		return;
	result = PQprepare(client->connection, way_name(way), way_statement(way),
					   0, NULL);
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		errx(1, "%s", PQerrorMessage(client->connection));
	PQclear(result);
	client->prepared[way] = true;
}

static void
send_posting(Client *client, const Contender *contender,
			 const Database *database)
{
	static const int formats[MAX_PARAMETERS] = { 1, 1, 1, 1, 1, 1, 1, 1 };
	const char		*values[MAX_PARAMETERS];
	Parameters		*p = &client->parameters;

	contender_parameters(contender, database->account_ids, p);
	if (p->count != way_parameter_count(contender->way))
		errx(1, "wrong number of parameters");
	for (int i = 0; i < p->count; i++)
		values[i] = p->data + p->starts[i];
	if (!PQsendQueryPrepared(client->connection, way_name(contender->way),
							 p->count, values, p->lengths, formats, 1))
		errx(1, "%s", PQerrorMessage(client->connection));
	client->busy = true;
}

/* true when the transaction has ended; an error ends the program */
static bool
receive(Client *client, const Contender *contender)
{
	if (!PQconsumeInput(client->connection))
		errx(1, "%s", PQerrorMessage(client->connection));
	while (!PQisBusy(client->connection))
	{
		PGresult	  *result = PQgetResult(client->connection);
		ExecStatusType status;

		if (result == NULL)
		{
			client->busy = false;
			return true;
		}
		status = PQresultStatus(result);
		if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
			errx(1, "%s: %s", contender->name, PQresultErrorMessage(result));
		PQclear(result);
	}
	return false;
}

/* returns the number of transactions, and the seconds they took */
static int64_t
run_slice(const Contender *contender, Database *database, double *seconds)
{
	struct epoll_event events[MAX_CLIENTS];
	double			   start = now_seconds();
	double			   end = start + slice_ms / 1000.0;
	int64_t			   ended = 0;
	int				   busy = client_count;

	for (int i = 0; i < client_count; i++)
		send_posting(&database->clients[i], contender, database);
	while (busy > 0)
	{
		int ready = epoll_wait(database->epoll, events, MAX_CLIENTS, HANG_MS);

		if (ready < 0)
			err(1, "epoll");
		if (ready == 0)
			errx(1, "%s: no answer for %d s", contender->name, HANG_MS / 1000);
		for (int i = 0; i < ready; i++)
		{
			Client *client = events[i].data.ptr;

			if (!client->busy || !receive(client, contender))
				continue;
			ended++;
			if (now_seconds() < end)
				send_posting(client, contender, database);
			else
				busy--;
		}
	}
	*seconds = now_seconds() - start;
	return ended;
}

/* each round begins with another contender */
static void
run(Contender *contenders, int count)
{
	for (int round = 0; round <= round_count; round++)
	{
		for (int i = 0; i < count; i++)
		{
			Contender *contender = &contenders[(i + round) % count];
			Database  *database = find_database(contender->database);
			double	   seconds;
			int64_t	   ended;

			ended = run_slice(contender, database, &seconds);
			if (round == 0)
				continue;
			printf("%d\t%s\t%lld\t%.6f\n", round, contender->name,
				   (long long) ended * way_journals(contender->way), seconds);
			fflush(stdout);
		}
	}
}

static int
number(const char *text, int max)
{
	char *end;
	long  value = strtol(text, &end, 10);

	if (*text == '\0' || *end != '\0' || value < 1 || value > max)
		errx(2, "not a number from 1 to %d: %s", max, text);
	return (int) value;
}

int
main(int argc, char **argv)
{
	Contender	contenders[MAX_CONTENDERS];
	const char *database = "bench";
	int			option;
	int			count = 0;

	while ((option = getopt(argc, argv, "c:r:s:d:")) != -1)
	{
		switch (option)
		{
			case 'c':
				client_count = number(optarg, MAX_CLIENTS);
				break;
			case 'r':
				round_count = number(optarg, 1000);
				break;
			case 's':
				slice_ms = number(optarg, 3600000);
				break;
			case 'd':
				database = optarg;
				break;
			default:
				errx(2, "usage: load -c CLIENTS -r ROUNDS -s SLICE_MS [-d "
						"DATABASE] CONTENDER...");
		}
	}
	if (argc - optind < 1 || argc - optind > MAX_CONTENDERS)
		errx(2, "name 1 to %d contenders", MAX_CONTENDERS);
	for (int i = optind; i < argc; i++)
	{
		Contender *contender = &contenders[count++];
		Database  *connected;

		contender_parse(contender, argv[i], database);
		connected = find_database(contender->database);
		for (int c = 0; c < client_count; c++)
			prepare(&connected->clients[c], contender->way);
	}
	pick_begin(databases[0].account_count, (uint64_t) time(NULL));
	run(contenders, count);
	return 0;
}
