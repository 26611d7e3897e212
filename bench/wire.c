/*-------------------------------------------------------------------------
 *
 * wire.c
 *	  How long it takes from the COMMIT of a checkout until the request for it
 *	  is on the wire, beside one HTTP round trip on the same way.
 *
 *	wire -l PORT_FILE -s SANDBOX_PORT -d DATABASE -p PSP -k KEY_FILE -n COUNT
 *
 * It stands between the worker and the sandbox and passes bytes on, so that
 * one clock sees both ends: when the COMMIT is acknowledged, and when the
 * first byte of the worker's request arrives.  In between nothing is sent
 * for a while: the worker is idle, as it is most of a shop's day.
 *
 * The reference is a POST of the same kind to the same sandbox over a
 * connection that is kept open, through the same relay.
 *
 * One line each: "wire<TAB>microseconds" and "trip<TAB>microseconds".
 *
 *-------------------------------------------------------------------------
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_RELAYS 64
#define IDLE_MS 60
#define HANG_MS 30000
#define WARM_UP 20

/* a connection from the worker (or from us), and ours to the sandbox */
typedef struct Relay
{
	int	 near;
	int	 far;
	bool is_trip; /* it is the reference */
} Relay;

static Relay  relays[MAX_RELAYS];
static int	  relay_count;
static int	  listener;
static int	  sandbox_port;
static double request_at; /* when the worker's last request began to arrive */
static bool	  answered;	  /* ... and has its answer gone back? */
static char	  secret[256];

static double
now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec * 1e6 + (double) now.tv_nsec / 1e3;
}

static struct sockaddr_in
loopback(int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
								   .sin_port = htons((uint16_t) port) };

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return address;
}

static void
no_delay(int fd)
{
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static int
connect_to(int port)
{
	struct sockaddr_in address = loopback(port);
	int				   fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *) &address, sizeof(address)))
		err(1, "cannot connect to port %d", port);
	no_delay(fd);
	return fd;
}

static int
listen_anywhere(const char *port_file)
{
	struct sockaddr_in address = loopback(0);
	socklen_t		   length = sizeof(address);
	FILE			  *file;

	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 ||
		bind(listener, (struct sockaddr *) &address, sizeof(address)) ||
		listen(listener, 16) ||
		getsockname(listener, (struct sockaddr *) &address, &length))
		err(1, "cannot listen");
	file = fopen(port_file, "w");
	if (file == NULL || fprintf(file, "%d\n", ntohs(address.sin_port)) < 0 ||
		fclose(file))
		err(1, "%s", port_file);
	return ntohs(address.sin_port);
}

static void
read_secret(const char *path)
{
	FILE *file = fopen(path, "r");

	if (file == NULL || fgets(secret, sizeof(secret), file) == NULL)
		err(1, "%s", path);
	fclose(file);
	secret[strcspn(secret, "\r\n")] = '\0';
}

static void
send_all(int fd, const char *data, ssize_t length)
{
	while (length > 0)
	{
		ssize_t sent = send(fd, data, (size_t) length, MSG_NOSIGNAL);

		if (sent < 0)
			err(1, "send");
		data += sent;
		length -= sent;
	}
}

/* ---- the relay ---- */

static void
accept_relay(void)
{
	int fd = accept(listener, NULL, NULL);

	if (fd < 0)
		err(1, "accept");
	if (relay_count == MAX_RELAYS)
		errx(1, "too many connections");
	no_delay(fd);
	relays[relay_count++] =
		(Relay){ .near = fd, .far = connect_to(sandbox_port) };
}

static void
drop_relay(int number)
{
	close(relays[number].near);
	close(relays[number].far);
	relays[number] = relays[--relay_count];
}

/* false when the connection has ended */
static bool
pass_on(Relay *relay, bool request)
{
	char	buffer[65536];
	int		from = request ? relay->near : relay->far;
	int		to = request ? relay->far : relay->near;
	double	at = now_us();
	ssize_t length = recv(from, buffer, sizeof(buffer), 0);

	if (length <= 0)
		return false;
	if (request && !relay->is_trip && request_at == 0)
		request_at = at;
	send_all(to, buffer, length);
	if (!request && !relay->is_trip)
		answered = true;
	return true;
}

/* wait for something to pass on, or for extra to be readable */
static bool
relay_once(int extra, int timeout_ms)
{
	struct pollfd fds[2 * MAX_RELAYS + 2];
	int			  count = relay_count;

	fds[0] = (struct pollfd){ .fd = listener, .events = POLLIN };
	fds[1] = (struct pollfd){ .fd = extra, .events = POLLIN };
	for (int i = 0; i < count; i++)
	{
		fds[2 + 2 * i] =
			(struct pollfd){ .fd = relays[i].near, .events = POLLIN };
		fds[3 + 2 * i] =
			(struct pollfd){ .fd = relays[i].far, .events = POLLIN };
	}
	if (poll(fds, (nfds_t) 2 + 2 * (nfds_t) count, timeout_ms) < 0 &&
		errno != EINTR)
		err(1, "poll");
	for (int i = count - 1; i >= 0; i--)
	{
		if ((fds[2 + 2 * i].revents != 0 && !pass_on(&relays[i], true)) ||
			(fds[3 + 2 * i].revents != 0 && !pass_on(&relays[i], false)))
			drop_relay(i);
	}
	if (fds[0].revents != 0)
		accept_relay();
	return fds[1].revents != 0;
}

static void
relay_for(int ms)
{
	double until = now_us() + ms * 1e3;
	double left;

	while ((left = until - now_us()) > 0)
		relay_once(-1, (int) (left / 1e3) + 1);
}

/* ---- what is measured ---- */

static void
finish_query(PGconn *connection)
{
	PGresult *result;

	while ((result = PQgetResult(connection)) != NULL)
	{
		ExecStatusType status = PQresultStatus(result);

		if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
			errx(1, "%s", PQerrorMessage(connection));
		PQclear(result);
	}
}

/* run it while the relay goes on; returns when its answer was there */
static double
run(PGconn *connection, const char *sql)
{
	double at;

	if (!PQsendQuery(connection, sql))
		errx(1, "%s", PQerrorMessage(connection));
	for (;;)
	{
		if (!relay_once(PQsocket(connection), HANG_MS))
			continue;
		at = now_us();
		if (!PQconsumeInput(connection))
			errx(1, "%s", PQerrorMessage(connection));
		if (!PQisBusy(connection))
			break;
	}
	finish_query(connection);
	return at;
}

static double
measure_wire(PGconn *connection, const char *psp, int number)
{
	char   sql[512];
	double committed_at;
	double give_up_at;

	relay_for(IDLE_MS);
	snprintf(sql, sizeof(sql),
			 "SELECT payment.checkout('wire %d %d', 'payer', "
			 "'[{\"seller\": \"bench 1\", \"amount\": 1000, \"currency\": "
			 "\"EUR\"}]', psp => '%s', payment_method => 'pm_card_visa')",
			 (int) getpid(), number, psp);
	run(connection, "BEGIN");
	run(connection, sql);
	request_at = 0;
	answered = false;
	committed_at = run(connection, "COMMIT");
	give_up_at = now_us() + HANG_MS * 1e3;
	while (!answered)
	{
		if (now_us() > give_up_at)
			errx(1, "the worker sends nothing");
		relay_once(-1, 1000);
	}
	return request_at > committed_at ? request_at - committed_at : 0;
}

/* one POST over a connection of our own; the answer ends with the JSON */
static double
measure_trip(int fd, int number)
{
	char	body[256];
	char	request[1024];
	char	answer[65536];
	int		length;
	ssize_t got = 0;
	double	start;
	char   *end = NULL;
	long	content = -1;

	snprintf(body, sizeof(body),
			 "amount=1000&currency=eur&payment_method=pm_card_visa"
			 "&confirm=true&metadata%%5Bpayment_order%%5D=trip-%d-%d",
			 (int) getpid(), number);
	length = snprintf(request, sizeof(request),
					  "POST /v1/payment_intents HTTP/1.1\r\n"
					  "Host: 127.0.0.1\r\nAuthorization: Bearer %s\r\n"
					  "Content-Type: application/x-www-form-urlencoded\r\n"
					  "Idempotency-Key: trip-%d-%d\r\n"
					  "Content-Length: %zu\r\n\r\n%s",
					  secret, (int) getpid(), number, strlen(body), body);
	relay_for(IDLE_MS);
	start = now_us();
	send_all(fd, request, length);
	for (;;)
	{
		ssize_t part;

		if (!relay_once(fd, HANG_MS))
			continue;
		part = recv(fd, answer + got, sizeof(answer) - 1 - (size_t) got, 0);
		if (part <= 0)
			err(1, "the sandbox closed the connection");
		got += part;
		answer[got] = '\0';
		if (end == NULL && (end = strstr(answer, "\r\n\r\n")) != NULL)
		{
			char *header = strcasestr(answer, "Content-Length:");

			if (strncmp(answer, "HTTP/1.1 200", 12) != 0 || header == NULL)
				errx(1, "unexpected answer: %.200s", answer);
			content = atol(header + strlen("Content-Length:"));
		}
		if (end != NULL && answer + got - (end + 4) >= content)
			return now_us() - start;
	}
}

int
main(int argc, char **argv)
{
	const char *database = "bench";
	const char *psp = "wire";
	const char *port_file = NULL;
	const char *key_file = NULL;
	int			count = 100;
	int			option;
	int			port;
	int			trip;
	char		conninfo[256];
	PGconn	   *connection;

	while ((option = getopt(argc, argv, "l:s:d:p:k:n:")) != -1)
	{
		switch (option)
		{
			case 'l':
				port_file = optarg;
				break;
			case 's':
				sandbox_port = atoi(optarg);
				break;
			case 'd':
				database = optarg;
				break;
			case 'p':
				psp = optarg;
				break;
			case 'k':
				key_file = optarg;
				break;
			case 'n':
				count = atoi(optarg);
				break;
			default:
				errx(2, "see the head of wire.c");
		}
	}
	if (port_file == NULL || key_file == NULL || sandbox_port == 0)
		errx(2, "-l, -s and -k are needed");
	read_secret(key_file);
	port = listen_anywhere(port_file);
	snprintf(conninfo, sizeof(conninfo), "dbname=%s", database);
	connection = PQconnectdb(conninfo);
	if (PQstatus(connection) != CONNECTION_OK)
		errx(1, "%s", PQerrorMessage(connection));
	snprintf(conninfo, sizeof(conninfo),
			 "UPDATE payment.psp SET base_url = 'http://127.0.0.1:%d' "
			 "WHERE name = '%s'",
			 port, psp);
	run(connection, conninfo);
	trip = connect_to(port);
	relay_once(-1, 1000);
	relays[0].is_trip = true;
	for (int i = 0; i < count + WARM_UP; i++)
	{
		double wire = measure_wire(connection, psp, i);
		double round_trip = measure_trip(trip, i);

		if (i < WARM_UP)
			continue;
		printf("wire\t%.0f\ntrip\t%.0f\n", wire, round_trip);
	}
	PQfinish(connection);
	return 0;
}
