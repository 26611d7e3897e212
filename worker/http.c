/*-------------------------------------------------------------------------
 *
 * http.c
 *	  Many HTTP requests at once, beside the latch.
 *
 * libcurl tells which sockets it waits for; they go into an epoll set, and
 * that goes as one descriptor into a WaitEventSet together with the latch and
 * the postmaster's death.  libcurl's timer is the wait's timeout.
 *
 * Two rules keep libcurl and the server apart.  A callback never raises an
 * error: it would jump over libcurl's frames.  And all signals are blocked
 * while libcurl runs, so that the threads in which it resolves names inherit
 * that and never run a signal handler of the server's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <curl/curl.h>
#include <signal.h>
#include <sys/epoll.h>

#include "compat.h"
#include "http.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "payment.h"
#include "portability/instr_time.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#define EPOLL_BATCH 64
#define IDLE_HANDLES_MAX 64
#define BODY_FIRST_BYTES 4096
#define BACKEND_WAIT_EVENTS 3

/*
 * How long an unused connection is taken again.  Peers close theirs after a
 * minute or so, and a request that meets that moment becomes unknown.
 */
#define IDLE_CONNECTION_S 20L

/*
 * What OpenSSL says of a certificate (X509_V_ERR_...).  Its header is not
 * needed for three numbers that never change.
 */
#define CERTIFICATE_UNSPECIFIED 1
#define CERTIFICATE_NOT_YET_VALID 9
#define CERTIFICATE_HAS_EXPIRED 10

/*
 * When nobody looked for so long, a commit took its time.  What has timed out
 * meanwhile may have its answer waiting in the socket: it gets a little more.
 */
#define STALL_US 20000
#define GRACE_MS 500

/* how often to look at everything, while events and timers do not tell all */
#define SWEEP_MS 50

static CURLM		*multi = NULL;
static int			 epoll_fd = -1;
static WaitEventSet *wait_set = NULL;
static int64		 timer_at_us = -1; /* -1: libcurl has no timer */
static int			 in_flight = 0;
static dlist_head	 exchanges = DLIST_STATIC_INIT(exchanges);
static int64		 attended_at_us = 0; /* when sockets were last looked at */
static int			 grace_count = 0;	 /* exchanges that have it */
static bool			 has_unwatched = false; /* a socket that epoll refused */
static int			 unwatched_errno = 0;	/* ... to be told */

/* Handles are kept for reuse: setting one up costs more than resetting it. */
static CURL *idle_handles[IDLE_HANDLES_MAX];
static int	 idle_count = 0;

static int64
now_us(void)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

static void
block_signals(void)
{
	(void) sigprocmask(SIG_SETMASK, &BlockSig, NULL);
}

static void
unblock_signals(void)
{
	(void) sigprocmask(SIG_SETMASK, &UnBlockSig, NULL);
}

/* ---- callbacks: no errors from here ---- */

static int
on_socket(CURL *easy pg_attribute_unused(), curl_socket_t fd, int what,
		  void *unused pg_attribute_unused(), void *known)
{
	struct epoll_event event;

	memset(&event, 0, sizeof(event));
	event.data.fd = fd;
	if (what == CURL_POLL_REMOVE)
	{
		/* fails when the socket is closed already, which removed it */
		(void) epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, &event);
		(void) curl_multi_assign(multi, fd, NULL);
		return 0;
	}
	if (what & CURL_POLL_IN)
		event.events |= EPOLLIN;
	if (what & CURL_POLL_OUT)
		event.events |= EPOLLOUT;
	if (epoll_ctl(epoll_fd, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd,
				  &event) == 0)
		(void) curl_multi_assign(multi, fd, &epoll_fd);
	else
	{
		/*
		 * An error returned from here would end every transfer, now and to
		 * come.  Without events of this socket it is looked at unasked.
		 */
		has_unwatched = true;
		unwatched_errno = errno;
	}
	return 0;
}

static int
on_timer(CURLM *unused1 pg_attribute_unused(), long timeout_ms,
		 void *unused2 pg_attribute_unused())
{
	timer_at_us = timeout_ms < 0 ? -1 : now_us() + (int64) timeout_ms * 1000;
	return 0;
}

/*
 * libcurl repeats a request by itself when a connection that it had kept open
 * dies before the answer.  A request that may have been executed is not
 * repeated unasked: whoever sent it looks it up first.
 */
static int
on_request(void *owner, char *peer_ip pg_attribute_unused(),
		   char *local_ip pg_attribute_unused(),
		   int peer_port  pg_attribute_unused(),
		   int local_port pg_attribute_unused())
{
	HttpExchange *exchange = owner;

	if (exchange->begun && !exchange->repeatable)
		return CURL_PREREQFUNC_ABORT;
	exchange->begun = true;
	return CURL_PREREQFUNC_OK;
}

static size_t
on_header(char *data, size_t size, size_t count, void *owner)
{
	HttpExchange *exchange = owner;
	size_t		  length = size * count;

	/* A new status line: what came before was "100 Continue". */
	if (length >= 5 && memcmp(data, "HTTP/", 5) == 0)
		exchange->headers_length = 0;

	/* Headers beyond the bound are left out; none of ours is that late. */
	if (exchange->headers_length + length <= HTTP_HEADER_BYTES_MAX)
	{
		memcpy(exchange->headers + exchange->headers_length, data, length);
		exchange->headers_length += (int) length;
	}
	return length;
}

static bool
grow_body(HttpExchange *exchange, int64 needed)
{
	int64 capacity = Max(exchange->body_capacity, BODY_FIRST_BYTES);
	char *body;

	while (capacity < needed)
		capacity *= 2;
	body = MemoryContextAllocExtended(exchange->context, (Size) capacity,
									  MCXT_ALLOC_NO_OOM);
	if (body == NULL)
		return false;
	if (exchange->body)
	{
		memcpy(body, exchange->body, exchange->body_length);
		pfree(exchange->body);
	}
	exchange->body = body;
	exchange->body_capacity = (int) capacity;
	return true;
}

static size_t
on_body(char *data, size_t size, size_t count, void *owner)
{
	HttpExchange *exchange = owner;
	size_t		  length = size * count;
	int64		  needed = (int64) exchange->body_length + (int64) length;

	if (needed > exchange->body_max ||
		(needed > exchange->body_capacity && !grow_body(exchange, needed)))
	{
		exchange->body_refused = true;
		return 0; /* ends the transfer */
	}
	memcpy(exchange->body + exchange->body_length, data, length);
	exchange->body_length = (int) needed;
	return length;
}

/* ---- setting up ---- */

void
http_startup(void)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		ereport(ERROR, (errcode(ERRCODE_PAYMENT_WORKER),
						errmsg("could not initialize libcurl")));
	multi = curl_multi_init();
	if (multi == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY),
						errmsg("could not initialize libcurl")));
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);

	/* Connections kept open: as many as may be busy at once. */
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS,
					  (long) payment_max_in_flight);

	ReserveExternalFD();
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		ereport(ERROR, (errcode_for_socket_access(),
						errmsg("could not create an epoll set: %m")));

	wait_set = worker_wait_set(TopMemoryContext, BACKEND_WAIT_EVENTS);
	AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL,
					  NULL);
	AddWaitEventToSet(wait_set, WL_SOCKET_READABLE, epoll_fd, NULL, NULL);
}

static CURL *
take_handle(void)
{
	return idle_count > 0 ? idle_handles[--idle_count] : curl_easy_init();
}

static void
give_back_handle(CURL *easy)
{
	if (idle_count == IDLE_HANDLES_MAX)
	{
		curl_easy_cleanup(easy);
		return;
	}
	curl_easy_reset(easy);
	idle_handles[idle_count++] = easy;
}

static struct curl_slist *
make_header_list(const HttpRequest *request)
{
	struct curl_slist *list = NULL;

	/* No "100 Continue" round trip before a body. */
	for (int i = -1; i < request->header_count; i++)
	{
		struct curl_slist *longer =
			curl_slist_append(list, i < 0 ? "Expect:" : request->headers[i]);

		if (longer == NULL)
		{
			curl_slist_free_all(list);
			return NULL;
		}
		list = longer;
	}
	return list;
}

static void
set_options(CURL *easy, const HttpRequest *request, HttpExchange *exchange)
{
	curl_easy_setopt(easy, CURLOPT_URL, request->url);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, exchange->header_list);
	exchange->repeatable = strcmp(request->method, "GET") == 0;
	if (exchange->repeatable)
		curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
	else
	{
		curl_easy_setopt(easy, CURLOPT_POST, 1L);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE,
						 (long) request->body_length);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->body);
		if (strcmp(request->method, "POST") != 0)
			curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
	}
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
					 (long) request->connect_timeout_ms);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long) request->timeout_ms);

	/* Where a request goes and whom it trusts depends on nothing else. */
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	if (payment_ca_file && payment_ca_file[0] != '\0')
	{
		/* these, and none of the system's */
		curl_easy_setopt(easy, CURLOPT_CAINFO, payment_ca_file);
		curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	}
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, IDLE_CONNECTION_S);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);

	/* Do not wait for a thread whose name server hangs. */
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "payment/1.0 (PostgreSQL)");

	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, exchange->error);
	curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_request);
	curl_easy_setopt(easy, CURLOPT_PREREQDATA, exchange);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, exchange);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, exchange);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, exchange);
}

StaticAssertDecl(HTTP_ERROR_SIZE >= CURL_ERROR_SIZE,
				 "libcurl writes that much");

HttpExchange *
http_send(MemoryContext context, const HttpRequest *request, void *owner)
{
	HttpExchange *exchange =
		MemoryContextAllocZero(context, sizeof(HttpExchange));
	CURL	 *easy;
	CURLMcode code;

	exchange->context = context;
	exchange->owner = owner;
	exchange->purpose = request->purpose;
	exchange->body_max =
		request->answer_max > 0 ? request->answer_max : payment_max_body_bytes;
	exchange->headers = MemoryContextAlloc(context, HTTP_HEADER_BYTES_MAX);
	exchange->header_list = make_header_list(request);
	easy = exchange->header_list ? take_handle() : NULL;
	if (easy == NULL)
	{
		curl_slist_free_all(exchange->header_list);
		return NULL;
	}
	set_options(easy, request, exchange);
	exchange->easy = easy;
	exchange->sent_at_us = now_us();
	exchange->timeout_ms = request->timeout_ms;

	block_signals();
	code = curl_multi_add_handle(multi, easy);
	unblock_signals();
	if (code != CURLM_OK)
	{
		curl_slist_free_all(exchange->header_list);
		give_back_handle(easy);
		return NULL;
	}
	in_flight++;
	dlist_push_tail(&exchanges, &exchange->node);
	return exchange;
}

/* ---- driving ---- */

static void
drive_socket(const struct epoll_event *event)
{
	int flags = 0;
	int running;

	if (event->events & (EPOLLIN | EPOLLHUP | EPOLLRDHUP))
		flags |= CURL_CSELECT_IN;
	if (event->events & EPOLLOUT)
		flags |= CURL_CSELECT_OUT;
	if (event->events & EPOLLERR)
		flags |= CURL_CSELECT_ERR;
	(void) curl_multi_socket_action(multi, event->data.fd, flags, &running);
}

/*
 * libcurl looks at the clock before it reads, and would call a request lost
 * whose answer has been there for long.
 */
static void
heed_stall(void)
{
	int64	   now = now_us();
	bool	   stalled = now - attended_at_us > STALL_US;
	dlist_iter iter;

	attended_at_us = now;
	if (!stalled)
		return;
	dlist_foreach(iter, &exchanges)
	{
		HttpExchange *exchange = dlist_container(HttpExchange, node, iter.cur);
		int64		  elapsed_ms = (now - exchange->sent_at_us) / 1000;

		if (exchange->has_grace || elapsed_ms < exchange->timeout_ms)
			continue;
		exchange->has_grace = true;
		grace_count++;
		(void) curl_easy_setopt(exchange->easy, CURLOPT_TIMEOUT_MS,
								(long) elapsed_ms + GRACE_MS);
	}
}

/* libcurl has set no timer for a time that was changed under way. */
static bool
needs_sweep(void)
{
	return has_unwatched || grace_count > 0;
}

static void
sweep(void)
{
	int running;

	if (unwatched_errno != 0)
	{
		errno = unwatched_errno;
		unwatched_errno = 0;
		ereport(LOG,
				(errcode(ERRCODE_PAYMENT_WORKER),
				 errmsg("a socket could not be added to an epoll set: %m"),
				 errdetail("Requests under way are looked at every %d ms "
						   "instead.",
						   SWEEP_MS)));
	}
	block_signals();
	(void) curl_multi_perform(multi, &running);
	unblock_signals();
}

void
http_drive(void)
{
	struct epoll_event events[EPOLL_BATCH];
	int				   count;
	int				   running;

	heed_stall();
	block_signals();
	if (timer_at_us >= 0 && timer_at_us <= now_us())
	{
		timer_at_us = -1;
		(void) curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0,
										&running);
	}
	do
	{
		count = epoll_wait(epoll_fd, events, EPOLL_BATCH, 0);
		for (int i = 0; i < count; i++)
			drive_socket(&events[i]);
	} while (count == EPOLL_BATCH);
	unblock_signals();
	if (needs_sweep())
		sweep();
	attended_at_us = now_us();
}

bool
http_wait(long timeout_ms, uint32 wait_event)
{
	WaitEvent events[BACKEND_WAIT_EVENTS];
	int		  count;
	bool	  latch_set = false;

	heed_stall();
	if (needs_sweep())
		timeout_ms = Min(timeout_ms, SWEEP_MS);
	if (timer_at_us >= 0)
	{
		int64 timer_us = Max(timer_at_us - now_us(), 0);

		timeout_ms = Min(timeout_ms, (long) ((timer_us + 999) / 1000));
	}
	count = WaitEventSetWait(wait_set, timeout_ms, events, BACKEND_WAIT_EVENTS,
							 wait_event);
	for (int i = 0; i < count; i++)
		if (events[i].events & WL_LATCH_SET)
			latch_set = true;
	if (latch_set)
		ResetLatch(MyLatch);
	attended_at_us = now_us();
	http_drive();
	return latch_set;
}

/* ---- finishing ---- */

/* What the peer's clock said when it answered; Unix time. */
static int64
read_date(CURL *easy)
{
	struct curl_header *header;
	time_t				date;

	if (curl_easy_header(easy, "Date", 0, CURLH_HEADER, -1, &header) !=
		CURLHE_OK)
		return 0;
	date = curl_getdate(header->value, NULL);
	return date > 0 ? (int64) date : 0;
}

/*
 * Only errors of the time before a request is written, and only when nothing
 * was written, prove that it was not sent.
 */
static bool
was_surely_not_sent(CURL *easy, CURLcode code)
{
	long written = -1;

	if (curl_easy_getinfo(easy, CURLINFO_REQUEST_SIZE, &written) != CURLE_OK ||
		written != 0)
		return false;
	switch (code)
	{
		case CURLE_UNSUPPORTED_PROTOCOL:
		case CURLE_URL_MALFORMAT:
		case CURLE_COULDNT_RESOLVE_HOST:
		case CURLE_COULDNT_CONNECT:
		case CURLE_OPERATION_TIMEDOUT:
		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CERTPROBLEM:
		case CURLE_SSL_CIPHER:
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_SSL_ISSUER_ERROR:
		case CURLE_SSL_INVALIDCERTSTATUS:
			return true;
		default:
			return false;
	}
}

static HttpProblem
find_problem(CURL *easy, CURLcode code, HttpTransport transport)
{
	long verdict = 0;

	switch (code)
	{
		case CURLE_OK:
			return HTTP_PROBLEM_NONE;
		case CURLE_SSL_CACERT_BADFILE:
			return HTTP_PROBLEM_TLS_CA_FILE;
		case CURLE_PEER_FAILED_VERIFICATION:
			/*
			 * Of a chain in order it is the host's name that is not; libcurl
			 * has noted no verdict of OpenSSL's then.
			 */
			(void) curl_easy_getinfo(easy, CURLINFO_SSL_VERIFYRESULT,
									 &verdict);
			if (verdict <= CERTIFICATE_UNSPECIFIED)
				return HTTP_PROBLEM_TLS_HOST_NAME;
			if (verdict == CERTIFICATE_HAS_EXPIRED ||
				verdict == CERTIFICATE_NOT_YET_VALID)
				return HTTP_PROBLEM_TLS_EXPIRED;
			return HTTP_PROBLEM_TLS_UNTRUSTED;
		case CURLE_SSL_ISSUER_ERROR:
		case CURLE_SSL_INVALIDCERTSTATUS:
			return HTTP_PROBLEM_TLS_UNTRUSTED;
		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_SSL_CERTPROBLEM:
		case CURLE_SSL_CIPHER:
			return HTTP_PROBLEM_TLS_OTHER;
		default:
			return transport == HTTP_NOT_SENT ? HTTP_PROBLEM_CONNECT
											  : HTTP_PROBLEM_LOST;
	}
}

const char *
http_problem_name(HttpProblem problem)
{
	switch (problem)
	{
		case HTTP_PROBLEM_TLS_UNTRUSTED:
			return "tls_untrusted_certificate";
		case HTTP_PROBLEM_TLS_HOST_NAME:
			return "tls_wrong_host_name";
		case HTTP_PROBLEM_TLS_EXPIRED:
			return "tls_expired_certificate";
		case HTTP_PROBLEM_TLS_CA_FILE:
			return "tls_ca_file";
		case HTTP_PROBLEM_TLS_OTHER:
			return "tls_failed";
		case HTTP_PROBLEM_CONNECT:
			return "connect_failed";
		case HTTP_PROBLEM_LOST:
		case HTTP_PROBLEM_NONE:
			break;
	}
	return "answer_lost";
}

/* Seconds or a date. */
static int64
read_retry_after(CURL *easy)
{
	curl_off_t seconds = 0;

	if (curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &seconds) != CURLE_OK ||
		seconds <= 0)
		return -1;
	return Min(seconds, (curl_off_t) 86400) * 1000;
}

static void
finish(HttpExchange *exchange, CURL *easy, CURLcode code)
{
	long status = 0;

	exchange->latency_ms = (int) Min((now_us() - exchange->sent_at_us) / 1000,
									 (int64) PG_INT32_MAX);
	exchange->retry_after_ms = read_retry_after(easy);
	exchange->date_s = read_date(easy);
	(void) curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	exchange->status = (int) status;
	if (code == CURLE_OK)
		exchange->transport = HTTP_ANSWERED;
	else if (exchange->body_refused)
		exchange->transport = HTTP_BODY_TOO_LARGE;
	else if (was_surely_not_sent(easy, code))
		exchange->transport = HTTP_NOT_SENT;
	else
		exchange->transport = HTTP_LOST;
	exchange->problem = find_problem(easy, code, exchange->transport);
	if (code == CURLE_ABORTED_BY_CALLBACK)
		strlcpy(exchange->error, "the connection was closed before the answer",
				sizeof(exchange->error));
	else if (code != CURLE_OK && exchange->error[0] == '\0')
		strlcpy(exchange->error, curl_easy_strerror(code),
				sizeof(exchange->error));
}

HttpExchange *
http_next(void)
{
	CURLMsg *message;
	int		 left;

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		HttpExchange *exchange = NULL;
		CURL		 *easy = message->easy_handle;
		CURLcode	  code = message->data.result;

		if (message->msg != CURLMSG_DONE)
			continue;
		(void) curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &exchange);
		finish(exchange, easy, code);

		block_signals();
		(void) curl_multi_remove_handle(multi, easy);
		unblock_signals();
		curl_slist_free_all(exchange->header_list);
		exchange->header_list = NULL;
		exchange->easy = NULL;
		give_back_handle(easy);
		in_flight--;
		dlist_delete(&exchange->node);
		if (exchange->has_grace)
			grace_count--;
		if (in_flight == 0)
			has_unwatched = false;
		return exchange;
	}
	return NULL;
}

int
http_in_flight(void)
{
	return in_flight;
}
