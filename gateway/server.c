/*
 * server.c
 *		libmicrohttpd in front of the queue.
 *
 * One thread serves all connections.  A request that is complete is set aside
 * until a thread of database.c has its answer.
 */
#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "database.h"
#include "deadline.h"
#include "header_json.h"
#include "options.h"
#include "queue.h"
#include "report.h"
#include "request.h"

/* headers and what is read ahead; more of them are answered with 431 */
#define CONNECTION_MEMORY (32 * 1024)
#define PSP_NAME_LENGTH_MAX 255
#define WEBHOOKS "/webhooks/"
#define FILES_EXTRA 64
#define STOP_LOOK_EVERY_MS 20

static struct MHD_Daemon *server;
static atomic_int		  under_way;

static Deadline *
deadline_of(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection,
								MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info ? info->socket_context : NULL;
}

static void
on_connection(void *cls, struct MHD_Connection *connection,
			  void **socket_context, enum MHD_ConnectionNotificationCode code)
{
	const union MHD_ConnectionInfo *info;

	(void) cls;
	if (code == MHD_CONNECTION_NOTIFY_STARTED)
	{
		info = MHD_get_connection_info(connection,
									   MHD_CONNECTION_INFO_CONNECTION_FD);
		*socket_context = deadline_new(info->connect_fd);
		deadline_set(*socket_context, options.request_timeout_ms);
		return;
	}
	deadline_free(*socket_context);
	*socket_context = NULL;
}

/* the request line is there */
static void *
on_uri(void *cls, const char *uri, struct MHD_Connection *connection)
{
	(void) cls;
	deadline_set(deadline_of(connection), options.request_timeout_ms);
	return request_new(uri);
}

static void
on_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
			 enum MHD_RequestTerminationCode code)
{
	Request *request = *con_cls;

	(void) cls;
	if (request == NULL)
		return;
	if (request->is_set_aside)
		atomic_fetch_sub(&under_way, 1);
	if (options.verbose)
		report("%s %d %zu bytes %lld ms%s",
			   is_utf8(request->path) ? request->path : "?", request->status,
			   request->body_seen,
			   (long long) (clock_ms() - request->started_ms),
			   code == MHD_REQUEST_TERMINATED_COMPLETED_OK ? "" : ", cut off");
	/* the next one on this connection may be a while in coming */
	deadline_set(deadline_of(connection),
				 options.idle_timeout_s * 1000 + options.request_timeout_ms);
	request_free(request);
	*con_cls = NULL;
}

static enum MHD_Result
respond(struct MHD_Connection *connection, Request *request)
{
	const char			*body = request->answer ? request->answer : "";
	struct MHD_Response *response;
	enum MHD_Result		 result;

	if (request->status < 200 || request->status > 599)
		request->status = 500;
	response = MHD_create_response_from_buffer(strlen(body), (void *) body,
											   MHD_RESPMEM_MUST_COPY);
	if (response == NULL)
		return MHD_NO;
	MHD_add_response_header(response, "Content-Type",
							request->content_type
								? request->content_type
								: "text/plain; charset=utf-8");
	if (request->status == 503)
		MHD_add_response_header(response, "Retry-After", "5");
	if (request->status == 405)
		MHD_add_response_header(response, "Allow",
								strcmp(request->path, "/healthz") == 0
									? "GET, HEAD"
									: "POST");
	/* what is not read to its end cannot be followed by another request */
	if (request->status == 413)
		MHD_add_response_header(response, "Connection", "close");
	deadline_set(deadline_of(connection), options.request_timeout_ms);
	result =
		MHD_queue_response(connection, (unsigned) request->status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result
refuse(struct MHD_Connection *connection, Request *request, int status,
	   const char *answer)
{
	request_answer(request, status, NULL, answer);
	return respond(connection, request);
}

/* the name in the path, or NULL */
static char *
psp_of(const char *path)
{
	char *name;

	if (strncmp(path, WEBHOOKS, strlen(WEBHOOKS)) != 0)
		return NULL;
	name = strdup(path + strlen(WEBHOOKS));
	if (name == NULL)
		die("out of memory");
	/* a zero byte ends it: no PSP has one in its name */
	MHD_http_unescape(name);
	if (*name == '\0' || strlen(name) > PSP_NAME_LENGTH_MAX ||
		!is_utf8(name) || strchr(name, '/'))
	{
		free(name);
		return NULL;
	}
	return name;
}

static enum MHD_Result
answer_health(struct MHD_Connection *connection, Request *request,
			  const char *method)
{
	if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
		return refuse(connection, request, 405, "GET, please\n");
	if (!database_is_up())
		return refuse(connection, request, 503, "no database\n");
	return refuse(connection, request, 200, "ok\n");
}

static bool
announces_too_much(struct MHD_Connection *connection)
{
	const char *length =
		MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
									"Content-Length");

	/* what is no number, libmicrohttpd refuses */
	return length && strtoull(length, NULL, 10) > options.body_bytes_max;
}

/* The headers have come.  What is refused here need not send its body. */
static enum MHD_Result
begin(struct MHD_Connection *connection, Request *request, const char *method)
{
	request->begun = true;
	request->connection = connection;
	if (strcmp(request->path, "/healthz") == 0)
		return answer_health(connection, request, method);
	request->psp = psp_of(request->path);
	if (request->psp == NULL)
		return refuse(connection, request, 404, "there is nothing here\n");
	if (strcmp(method, "POST") != 0)
		return refuse(connection, request, 405, "POST, please\n");
	if (announces_too_much(connection))
		return refuse(connection, request, 413, "too large\n");
	return MHD_YES;
}

/* a thread of database.c has the answer */
static void
on_done(Request *request)
{
	struct MHD_Connection *connection = request->connection;

	MHD_resume_connection(connection);
}

/* Set aside first: the answer may be there before this function ends. */
static enum MHD_Result
submit(struct MHD_Connection *connection, Request *request)
{
	if (request_is_too_large(request))
		return refuse(connection, request, 413, "too large\n");
	request->headers = header_json(connection);
	/* once waiting in the queue, once for the call */
	deadline_set(deadline_of(connection),
				 2 * options.database_timeout_ms + options.request_timeout_ms);
	request->queued_ms = clock_ms();
	request->is_set_aside = true;
	atomic_fetch_add(&under_way, 1);
	MHD_suspend_connection(connection);
	if (!queue_push(request))
	{
		request_answer(request, 503, NULL, "too busy\n");
		report_sometimes("%d requests wait already: one was turned away",
						 options.queue_length);
		on_done(request);
	}
	return MHD_YES;
}

static enum MHD_Result
on_request(void *cls, struct MHD_Connection *connection, const char *url,
		   const char *method, const char *version, const char *upload_data,
		   size_t *upload_data_size, void **con_cls)
{
	Request *request = *con_cls;

	(void) cls;
	(void) url;
	(void) version;
	if (request == NULL)
		return MHD_NO;
	if (!request->begun)
		return begin(connection, request, method);
	if (request->answered)
		return respond(connection, request);
	if (*upload_data_size > 0)
	{
		if (!request_take_body(request, upload_data, *upload_data_size))
			return MHD_NO;
		*upload_data_size = 0;
		return MHD_YES;
	}
	return submit(connection, request);
}

static void
on_log(void *cls, const char *format, va_list arguments)
{
	char line[512];

	(void) cls;
	/* of senders' mistakes, which it has many messages for */
	if (!options.verbose)
		return;
	vsnprintf(line, sizeof(line), format, arguments);
	report_sometimes("http: %.*s", (int) strcspn(line, "\n"), line);
}

static void
allow_files(void)
{
	rlim_t wanted = (rlim_t) options.clients_max +
					(rlim_t) options.database_connections + FILES_EXTRA;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
		return;
	limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur < wanted)
		report("only %llu open files are allowed, --max-clients needs %llu",
			   (unsigned long long) limit.rlim_cur,
			   (unsigned long long) wanted);
}

static struct addrinfo *
find_address(void)
{
	const struct addrinfo hints = { .ai_flags = AI_PASSIVE | AI_NUMERICHOST |
												AI_NUMERICSERV,
									.ai_socktype = SOCK_STREAM };
	struct addrinfo		 *address;
	char				  port[16];
	int					  error;

	snprintf(port, sizeof(port), "%d", options.port);
	error = getaddrinfo(options.bind, port, &hints, &address);
	if (error != 0)
		die("--bind %s: %s", options.bind, gai_strerror(error));
	return address;
}

int
server_start(void)
{
	struct addrinfo *address = find_address();
	unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME |
					 MHD_USE_ERROR_LOG;
	const union MHD_DaemonInfo *info;

	allow_files();
	if (address->ai_family == AF_INET6)
		flags |= MHD_USE_IPv6;
	deadline_start();
	database_start(on_done);
	server = MHD_start_daemon(flags, (uint16_t) options.port, NULL, NULL,
							  on_request, NULL, MHD_OPTION_EXTERNAL_LOGGER,
							  on_log, NULL, MHD_OPTION_SOCK_ADDR,
							  address->ai_addr, MHD_OPTION_URI_LOG_CALLBACK,
							  on_uri, NULL, MHD_OPTION_NOTIFY_COMPLETED,
							  on_completed, NULL, MHD_OPTION_NOTIFY_CONNECTION,
							  on_connection, NULL, MHD_OPTION_CONNECTION_LIMIT,
							  (unsigned) options.clients_max,
							  MHD_OPTION_PER_IP_CONNECTION_LIMIT,
							  (unsigned) options.clients_per_address,
							  MHD_OPTION_CONNECTION_TIMEOUT,
							  (unsigned) options.idle_timeout_s,
							  MHD_OPTION_CONNECTION_MEMORY_LIMIT,
							  (size_t) CONNECTION_MEMORY,
							  MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u,
							  MHD_OPTION_END);
	freeaddrinfo(address);
	if (server == NULL)
		die("could not listen on %s port %d: %s", options.bind, options.port,
			strerror(errno));
	info = MHD_get_daemon_info(server, MHD_DAEMON_INFO_BIND_PORT);
	return info ? info->port : options.port;
}

void
server_quiesce(void)
{
	const struct timespec pause = { .tv_nsec = STOP_LOOK_EVERY_MS * 1000000 };
	int64_t				  until_ms = clock_ms() + options.stop_timeout_ms;
	int					  listener = MHD_quiesce_daemon(server);

	if (listener >= 0)
		close(listener);
	while (atomic_load(&under_way) > 0 && clock_ms() < until_ms)
		nanosleep(&pause, NULL);
	if (atomic_load(&under_way) > 0)
		report("%d requests were under way at the end",
			   atomic_load(&under_way));
}

/* Nothing may be set aside any more when libmicrohttpd is stopped. */
void
server_stop(void)
{
	queue_close();
	database_stop();
	MHD_stop_daemon(server);
	deadline_stop();
}
