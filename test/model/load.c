/*-------------------------------------------------------------------------
 *
 * load.c
 *	  Runs the clients, in one process, and disturbs them.
 *
 * Statements are cancelled, sessions terminated, and server processes killed.
 * (The postmaster is killed from outside.)  A process beside them looks, all
 * the time, whether what is committed keeps the limits: one snapshot shows
 * the committed state of one moment.
 *
 *-------------------------------------------------------------------------
 */
#include "client.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define START_ACCOUNTS 60
#define STATEMENT_MAX_S 90.0 /* longer is a hang */
#define FINISH_MAX_S 120.0
#define CLOCK_STEP_S 0.0002
#define VERIFY_EVERY 40 /* samples */

static Client *clients;

/* true when the statements would return any row */
static const char sample_sql[] =
	"WITH s AS (SELECT account_id, sum(balance) AS balance "
	"FROM payment.balance_slot GROUP BY account_id), "
	"h AS (SELECT account_id, sum(amount - posted) AS held "
	"FROM payment.hold WHERE state = 'open' AND (expires_at IS NULL OR "
	"expires_at > clock_timestamp()) GROUP BY account_id) "
	"SELECT a.code || ' ' || s.balance || ' held ' || coalesce(h.held, 0) || "
	"' state ' || a.state || ' min ' || "
	"coalesce(a.min_balance::text, '') || ' max ' || "
	"coalesce(a.max_balance::text, '') "
	"FROM payment.account a JOIN s ON s.account_id = a.id "
	"LEFT JOIN h ON h.account_id = a.id "
	"WHERE (s.balance < a.min_balance OR s.balance > a.max_balance "
	"OR a.kind = 'asset' AND s.balance - h.held < a.min_balance "
	"OR a.kind = 'liability' AND s.balance + h.held > a.max_balance "
	"OR a.state = 'closed' AND (s.balance <> 0 OR h.held > 0)) "
	"UNION ALL SELECT a.currency || ' sums to ' || sum(s.balance) "
	"FROM payment.account a JOIN s ON s.account_id = a.id "
	"GROUP BY a.currency HAVING sum(s.balance) <> 0";

static const char verify_sql[] =
	"SELECT check_name || ' ' || object_id || ' ' || detail || ' ' || "
	"coalesce(expected::text, '') || ' ' || coalesce(actual::text, '') "
	"FROM payment.verify()";

typedef struct Samples
{
	int taken;
	int verified;
	int wrong;
} Samples;

static volatile sig_atomic_t sampler_stop = 0;

static void
stop_sampler(int signal_number)
{
	(void) signal_number;
	sampler_stop = 1;
}

static void
sample(PGconn *conn, Samples *samples)
{
	bool	  verify = samples->taken % VERIFY_EVERY == 0;
	PGresult *result;

	PQclear(PQexec(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"));
	result = PQexec(conn, verify ? verify_sql : sample_sql);
	if (PQresultStatus(result) == PGRES_TUPLES_OK)
	{
		samples->taken++;
		samples->verified += verify;
		for (int i = 0; i < PQntuples(result); i++)
		{
			samples->wrong++;
			printf("# %s saw: %s\n", verify ? "verify" : "a snapshot",
				   PQgetvalue(result, i, 0));
		}
	}
	PQclear(result);
	PQclear(PQexec(conn, "COMMIT"));
}

void
say_nothing(void *argument, const char *message)
{
	(void) argument;
	(void) message;
}

static void
run_sampler(const char *conninfo, int report)
{
	struct sigaction action = { .sa_handler = stop_sampler };
	Samples			 samples = { 0 };
	PGconn			*conn = NULL;

	sigaction(SIGTERM, &action, NULL);
	while (!sampler_stop)
	{
		if (conn == NULL)
		{
			conn = PQconnectdb(conninfo);
			PQsetNoticeProcessor(conn, say_nothing, NULL);
		}
		if (PQstatus(conn) == CONNECTION_OK)
			sample(conn, &samples);
		if (PQstatus(conn) != CONNECTION_OK)
		{
			PQfinish(conn);
			conn = NULL;
		}
		usleep(20 * 1000);
	}
	PQfinish(conn);
	fflush(stdout);
	if (write(report, &samples, sizeof(samples)) != sizeof(samples))
		_exit(1);
	_exit(0);
}

static pid_t
start_sampler(const char *conninfo, int *report)
{
	int	  ends[2];
	pid_t pid;

	fflush(stdout);
	if (pipe(ends) != 0 || (pid = fork()) < 0)
	{
		perror("sampler");
		exit(2);
	}
	if (pid == 0)
		run_sampler(conninfo, ends[1]);
	close(ends[1]);
	*report = ends[0];
	return pid;
}

static void
end_sampler(pid_t pid, int report)
{
	Samples samples = { 0 };

	kill(pid, SIGTERM);
	if (read(report, &samples, sizeof(samples)) != sizeof(samples))
		fail("the sampler did not report");
	close(report);
	waitpid(pid, NULL, 0);
	test(samples.taken > 0 && samples.wrong == 0,
		 "limits kept in each of %d snapshots, and %d times verify() found "
		 "nothing, under load",
		 samples.taken - samples.verified, samples.verified);
}

/* the order of commit timestamps means something while this does not happen */
static void
watch_clock(void)
{
	static double	highest = -1e300;
	struct timespec before;
	struct timespec real;
	struct timespec after;
	double			offset;

	clock_gettime(CLOCK_MONOTONIC, &before);
	clock_gettime(CLOCK_REALTIME, &real);
	clock_gettime(CLOCK_MONOTONIC, &after);
	if (after.tv_sec != before.tv_sec ||
		after.tv_nsec - before.tv_nsec > 20000)
		return;
	offset = (double) (real.tv_sec - before.tv_sec) +
			 (real.tv_nsec - before.tv_nsec) / 1e9;
	if (offset < highest - CLOCK_STEP_S)
		world.clock_stepped = true;
	if (offset > highest)
		highest = offset;
}

static void
open_first_accounts(const char *conninfo, Random *random)
{
	PGconn *conn = PQconnectdb(conninfo);
	Text   *sql = text_create();

	for (int i = 0; i < START_ACCOUNTS; i++)
	{
		Txn		 *txn = allocate(sizeof(Txn));
		PGresult *result;

		memset(txn, 0, sizeof(Txn));
		txn->ops = open_op_create(random);
		txn->op_count = 1;
		txn_number(txn);
		op_sql(txn->ops, sql);
		result = PQexec(conn, sql->data);
		if (PQresultStatus(result) != PGRES_TUPLES_OK)
		{
			fprintf(stderr, "%s: %s", sql->data, PQerrorMessage(conn));
			exit(2);
		}
		op_answer(txn->ops, result);
		PQclear(result);
		txn->outcome = OUTCOME_COMMITTED;
		txn->ops->happened = true;
		world.names[txn->ops->account].usable = true;
		model_force(world.live, txn->ops);
	}
	text_free(sql);
	PQfinish(conn);
}

static void
disturb(const Load *load, Random *random, double *next, int *kills_left,
		double end)
{
	double	time = now_s();
	Client *client = &clients[random_below(random, load->clients)];

	if (world.exact || time < *next || client->state != CLIENT_BUSY)
		return;
	*next = time + random_below(random, 100) / 500.0;
	if (*kills_left > 0 && end - time < *kills_left * (double) load->seconds /
											(load->backend_kills + 1))
	{
		(*kills_left)--;
		kill(PQbackendPID(client->conn), SIGKILL);
	}
	else if (random_below(random, 10) == 0)
		kill(PQbackendPID(client->conn), SIGTERM);
	else
	{
		PGcancel *cancel = PQgetCancel(client->conn);
		char	  error[256];

		if (cancel)
			PQcancel(cancel, error, sizeof(error));
		PQfreeCancel(cancel);
	}
}

static void
wait_for_answers(const Load *load, struct pollfd *polls)
{
	for (int i = 0; i < load->clients; i++)
	{
		Client *client = &clients[i];

		polls[i].fd = client->conn ? PQsocket(client->conn) : -1;
		polls[i].events = POLLIN;
		if (client->conn && client->state >= CLIENT_BUSY &&
			PQflush(client->conn) > 0)
			polls[i].events |= POLLOUT;
		polls[i].revents = 0;
	}
	poll(polls, load->clients, 10);
	for (int i = 0; i < load->clients; i++)
	{
		Client *client = &clients[i];

		if (client->conn == NULL)
			continue;
		if (polls[i].revents != 0 || PQstatus(client->conn) != CONNECTION_OK)
			client_read(client);
	}
}

static bool
is_hanging(const Client *client, double time)
{
	if (client->state < CLIENT_BUSY ||
		time - client->busy_since < STATEMENT_MAX_S)
		return false;
	fail("client %d waits for an answer for %.0f s (backend %d)",
		 client->number, time - client->busy_since,
		 PQbackendPID(client->conn));
	return true;
}

/* false when there is nothing more to do for the client */
static bool
advance(Client *client, const Load *load, bool more)
{
	if (client->state == CLIENT_AWAY)
	{
		if (now_s() >= client->wake_at)
			client_connect(client, load->conninfo);
		return true;
	}
	if (client->state == CLIENT_READY)
	{
		if (client->txn == NULL && !more)
			return false;
		client_start(client);
	}
	return true;
}

static void
run_clients(const Load *load, Random *random)
{
	struct pollfd *polls = allocate(sizeof(struct pollfd) * load->clients);
	double		   end = now_s() + load->seconds;
	double		   next = 0;
	int			   kills_left = load->backend_kills;
	bool		   busy = true;

	while (busy)
	{
		double time = now_s();
		bool   more = time < end && world.txn_count < load->max_txns;

		busy = false;
		for (int i = 0; i < load->clients; i++)
		{
			busy |= advance(&clients[i], load, more);
			if (is_hanging(&clients[i], time))
				return;
		}
		if (time > end + FINISH_MAX_S)
		{
			fail("clients do not come to an end");
			return;
		}
		if (more)
			disturb(load, random, &next, &kills_left, end);
		wait_for_answers(load, polls);
		watch_clock();
	}
	free(polls);
}

static void
report(void)
{
	printf("# %llu transactions committed, %llu rolled back, %llu refused, "
		   "%llu given up, %llu in doubt\n",
		   (unsigned long long) counts.committed,
		   (unsigned long long) counts.rolled_back,
		   (unsigned long long) counts.refused,
		   (unsigned long long) counts.given_up,
		   (unsigned long long) counts.doubts);
	printf("# %llu tried again, %llu connections lost, %llu with a key "
		   "sent again\n",
		   (unsigned long long) counts.retried,
		   (unsigned long long) counts.lost,
		   (unsigned long long) counts.sent_again);
	for (int i = 0; i < OP_KIND_COUNT; i++)
		printf("#   %-12s %8llu done %8llu refused\n", op_kind_name(i),
			   (unsigned long long) counts.ops[i],
			   (unsigned long long) counts.refused_ops[i]);
}

void
load_run(const Load *load)
{
	Random random = { world.seed };
	int	   sampler_report;
	pid_t  sampler;

	open_first_accounts(load->conninfo, &random);
	sampler = start_sampler(load->conninfo, &sampler_report);
	clients = allocate(sizeof(Client) * load->clients);
	memset(clients, 0, sizeof(Client) * load->clients);
	for (int i = 0; i < load->clients; i++)
	{
		clients[i].number = i;
		clients[i].random.state = random_next(&random);
	}
	run_clients(load, &random);
	for (int i = 0; i < load->clients; i++)
		PQfinish(clients[i].conn);
	report();
	end_sampler(sampler, sampler_report);
}
