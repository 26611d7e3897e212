/*
 * http.c
 *		libmicrohttpd in front of request_run: one thread for each connection,
 *		so that a request that is made slow delays nobody else.
 */
#include "http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dialect.h"
#include "options.h"
#include "random.h"
#include "request.h"
#include "wait.h"

/* What is sent beyond the limit is read and thrown away, up to here. */
#define BODY_DRAIN_MAX (16 * 1024 * 1024)
#define CONNECTION_MEMORY (64 * 1024)
#define THREAD_STACK_SIZE (256 * 1024)
#define STREAM_BLOCK_SIZE (64 * 1024)
#define FILES_EXTRA 64

static struct MHD_Daemon *server;
static char				 *tls_cert;
static char				 *tls_key;

/* Called with the request line: the request begins. */
static void *
on_uri(void *cls, const char *uri, struct MHD_Connection *connection)
{
	Request *request = xcalloc(1, sizeof(Request));

	(void) cls;
	(void) connection;
	request->uri = xstrdup(uri);
	request->path = xstrndup(uri, strcspn(uri, "?"));
	return request;
}

static void
on_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
			 enum MHD_RequestTerminationCode code)
{
	(void) cls;
	(void) connection;
	(void) code;
	if (*con_cls != NULL)
		request_free(*con_cls);
	*con_cls = NULL;
}

static const char *
header(struct MHD_Connection *connection, const char *name)
{
	return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

static bool
is_loopback(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection,
								MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	const struct sockaddr *address = info ? info->client_addr : NULL;
	const struct in6_addr *in6;

	if (address == NULL)
		return false;
	if (address->sa_family == AF_INET)
		return (ntohl(
					((const struct sockaddr_in *) address)->sin_addr.s_addr) >>
				24) == IN_LOOPBACKNET;
	if (address->sa_family != AF_INET6)
		return false;
	in6 = &((const struct sockaddr_in6 *) address)->sin6_addr;
	return IN6_IS_ADDR_LOOPBACK(in6) ||
		   (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == IN_LOOPBACKNET);
}

static void
begin(Request *request, struct MHD_Connection *connection, const char *method)
{
	request->method = method;
	request->dialect = dialect_of(request->path);
	request->authorization = header(connection, "Authorization");
	request->api_key = header(connection, "X-API-Key");
	request->host = header(connection, "Host");
	request->prefer = header(connection, "Prefer");
	request->content_type = header(connection, "Content-Type");
	request->idempotency_key =
		header(connection, request->dialect->key_header);
	request->from_loopback = is_loopback(connection);
}

/* False when the sender goes on and on. */
static bool
take_body(Request *request, const char *data, size_t len)
{
	if (!request->body_too_large &&
		request->body.len + len <= REQUEST_BODY_MAX)
	{
		buf_put(&request->body, data, len);
		return true;
	}
	request->body_too_large = true;
	request->body_drained += len;
	return request->body_drained <= BODY_DRAIN_MAX;
}

/*
 * With SO_LINGER zero the close sends RST instead of FIN. The descriptor
 * stays valid for libmicrohttpd: another socket takes its place.
 */
static void
abort_connection(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct linger at_once = { 1, 0 };
	int			  other = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (info == NULL || other < 0)
		die("could not reset a connection: %s", strerror(errno));
	setsockopt(info->connect_fd, SOL_SOCKET, SO_LINGER, &at_once,
			   sizeof(at_once));
	dup3(other, info->connect_fd, O_CLOEXEC);
	close(other);
}

static ssize_t
read_stream(void *cls, uint64_t pos, char *buf, size_t max)
{
	CsvStream *stream = cls;
	size_t	   len;

	(void) pos;
	while (stream->sent == stream->pending.len)
	{
		stream->pending.len = 0;
		stream->sent = 0;
		if (stream->fill == NULL)
			return MHD_CONTENT_READER_END_OF_STREAM;
		if (!stream->fill(stream))
			stream->fill = NULL;
	}
	len = stream->pending.len - stream->sent;
	len = len > max ? max : len;
	memcpy(buf, stream->pending.data + stream->sent, len);
	stream->sent += len;
	return (ssize_t) len;
}

static void
free_stream(void *cls)
{
	CsvStream *stream = cls;

	buf_free(&stream->pending);
	free(stream);
}

static struct MHD_Response *
make_response(Answer *answer)
{
	struct MHD_Response *response;

	if (answer->stream != NULL)
	{
		response =
			MHD_create_response_from_callback(MHD_SIZE_UNKNOWN,
											  STREAM_BLOCK_SIZE, read_stream,
											  answer->stream, free_stream);
		if (response == NULL)
			free_stream(answer->stream);
		answer->stream = NULL;
		return response;
	}
	response =
		MHD_create_response_from_buffer(answer->body.len, answer->body.data,
										MHD_RESPMEM_MUST_FREE);
	if (response != NULL)
		memset(&answer->body, 0, sizeof(answer->body));
	return response;
}

static void
add_headers(struct MHD_Response *response, const Request *request)
{
	const Answer *answer = &request->answer;
	char		  text[64];

	if (answer->status != 204)
		MHD_add_response_header(response, "Content-Type",
								answer->content_type);
	MHD_add_response_header(response, "Cache-Control", "no-store");
	random_id(text, sizeof(text), "req_");
	MHD_add_response_header(response, "Request-Id", text);
	for (int i = 0; i < answer->header_count; i++)
		MHD_add_response_header(response, answer->headers[i].name,
								answer->headers[i].value);
	if (answer->status == 429)
	{
		snprintf(text, sizeof(text), "%d", answer->retry_after_s);
		MHD_add_response_header(response, "Retry-After", text);
	}
}

static enum MHD_Result
deliver(struct MHD_Connection *connection, Request *request)
{
	struct MHD_Response *response;
	enum MHD_Result		 result;

	if (request->answer.delivery == DELIVER_RESET)
		abort_connection(connection);
	if (request->answer.delivery != DELIVER_ANSWER)
		return MHD_NO;
	response = make_response(&request->answer);
	if (response == NULL)
		return MHD_NO;
	add_headers(response, request);
	result =
		MHD_queue_response(connection, (unsigned int) request->answer.status,
						   response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result
on_request(void *cls, struct MHD_Connection *connection, const char *url,
		   const char *method, const char *version, const char *data,
		   size_t *data_len, void **con_cls)
{
	Request *request = *con_cls;

	(void) cls;
	(void) url;
	(void) version;
	if (request->method == NULL)
	{
		begin(request, connection, method);
		return MHD_YES;
	}
	if (*data_len > 0)
	{
		bool go_on = take_body(request, data, *data_len);

		*data_len = 0;
		return go_on ? MHD_YES : MHD_NO;
	}
	request_run(request);
	return deliver(connection, request);
}

static int
listen_socket(int *port)
{
	struct addrinfo			hints = { .ai_family = AF_UNSPEC,
									  .ai_socktype = SOCK_STREAM,
									  .ai_flags = AI_NUMERICHOST | AI_PASSIVE };
	struct addrinfo		   *address;
	struct sockaddr_storage bound;
	socklen_t				bound_len = sizeof(bound);
	char					service[16];
	int						fd;
	int						on = 1;

	snprintf(service, sizeof(service), "%d", options.port);
	if (getaddrinfo(options.bind, service, &hints, &address) != 0)
		die("--bind must be an IP address, not \"%s\"", options.bind);
	fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("could not create a socket: %s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, address->ai_addr, address->ai_addrlen) != 0 ||
		listen(fd, SOMAXCONN) != 0 ||
		getsockname(fd, (struct sockaddr *) &bound, &bound_len) != 0 ||
		getnameinfo((struct sockaddr *) &bound, bound_len, NULL, 0, service,
					sizeof(service), NI_NUMERICSERV) != 0)
		die("could not listen on %s port %d: %s", options.bind, options.port,
			strerror(errno));
	freeaddrinfo(address);
	*port = atoi(service);
	return fd;
}

/* Each connection takes a descriptor. */
static void
raise_file_limit(void)
{
	struct rlimit limit;
	rlim_t		  wanted = (rlim_t) options.connections_max + FILES_EXTRA;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
		return;
	limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur < wanted)
		fprintf(stderr,
				"payment-sandbox: only %llu files may be open, fewer than "
				"--max-connections %d needs\n",
				(unsigned long long) limit.rlim_cur, options.connections_max);
}

/* The whole of a small file; http_stop frees it. */
static char *
read_file(const char *path)
{
	Buf	   text = { 0 };
	char   part[4096];
	size_t len;
	FILE  *file = fopen(path, "re");

	if (file == NULL)
		die("could not open \"%s\": %s", path, strerror(errno));
	while ((len = fread(part, 1, sizeof(part), file)) > 0)
		buf_put(&text, part, len);
	fclose(file);
	if (text.len == 0)
		die("\"%s\" is empty", path);
	return text.data;
}

/* The options that make it TLS, or none. */
static unsigned
prepare_tls(struct MHD_OptionItem tls[3])
{
	if (options.tls_cert == NULL)
	{
		tls[0] = (struct MHD_OptionItem){ MHD_OPTION_END, 0, NULL };
		return 0;
	}
	tls_cert = read_file(options.tls_cert);
	tls_key = read_file(options.tls_key);
	tls[0] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_MEM_CERT, 0, tls_cert };
	tls[1] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_MEM_KEY, 0, tls_key };
	tls[2] = (struct MHD_OptionItem){ MHD_OPTION_END, 0, NULL };
	return MHD_USE_TLS;
}

int
http_start(void)
{
	int					  port = 0;
	int					  fd = listen_socket(&port);
	struct MHD_OptionItem tls[3];
	unsigned			  flags = MHD_USE_THREAD_PER_CONNECTION |
					 MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL |
					 MHD_USE_ITC;

	raise_file_limit();
	flags |= prepare_tls(tls);
	if (options.verbose)
		flags |= MHD_USE_ERROR_LOG;
	server = MHD_start_daemon(flags, 0, NULL, NULL, on_request, NULL,
							  MHD_OPTION_LISTEN_SOCKET, fd,
							  MHD_OPTION_URI_LOG_CALLBACK, on_uri, NULL,
							  MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
							  MHD_OPTION_CONNECTION_LIMIT,
							  (unsigned int) options.connections_max,
							  MHD_OPTION_CONNECTION_TIMEOUT,
							  (unsigned int) options.idle_timeout_s,
							  MHD_OPTION_CONNECTION_MEMORY_LIMIT,
							  (size_t) CONNECTION_MEMORY,
							  MHD_OPTION_THREAD_STACK_SIZE,
							  (size_t) THREAD_STACK_SIZE, MHD_OPTION_ARRAY,
							  tls, MHD_OPTION_END);
	if (server == NULL && options.tls_cert != NULL)
		die("could not start the HTTPS server: do certificate and key fit?");
	if (server == NULL)
		die("could not start the HTTP server");
	return port;
}

void
http_stop(void)
{
	wait_stop_all();
	MHD_stop_daemon(server);
	free(tls_cert);
	free(tls_key);
}
