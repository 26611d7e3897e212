/*-------------------------------------------------------------------------
 *
 * http.h
 *	  Many HTTP requests at once, beside the latch.
 *
 * http_send starts a request and returns; http_wait drives all of them until
 * something happens; http_next hands out what is finished.  Nothing here
 * knows of tasks or PSPs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_WORKER_HTTP_H
#define PAYMENT_WORKER_HTTP_H

#include "lib/ilist.h"

#define HTTP_HEADER_BYTES_MAX 8192
#define HTTP_ERROR_SIZE 256

typedef struct HttpRequest
{
	const char		  *method;
	const char		  *url;
	const char *const *headers;
	int				   header_count;
	const char		  *body; /* stays valid until the exchange is finished */
	int				   body_length;
	int				   connect_timeout_ms;
	int				   timeout_ms;
	int				   answer_max; /* bytes; 0: payment.max_body_bytes */
	int				   purpose;	   /* the sender's own, as is owner */
} HttpRequest;

/* What is certain about the request, not what went wrong */
typedef enum HttpTransport
{
	HTTP_ANSWERED,		/* status and the whole body are there */
	HTTP_NOT_SENT,		/* the peer cannot have seen anything of it */
	HTTP_LOST,			/* it may have been executed, or not */
	HTTP_BODY_TOO_LARGE /* answered, with more than is taken */
} HttpTransport;

/* What went wrong, as far as people can mend it */
typedef enum HttpProblem
{
	HTTP_PROBLEM_NONE,
	HTTP_PROBLEM_CONNECT, /* no connection */
	HTTP_PROBLEM_TLS_UNTRUSTED,
	HTTP_PROBLEM_TLS_HOST_NAME, /* the certificate is for another host */
	HTTP_PROBLEM_TLS_EXPIRED,	/* or not valid yet */
	HTTP_PROBLEM_TLS_CA_FILE,	/* payment.ca_file cannot be read */
	HTTP_PROBLEM_TLS_OTHER,		/* no protocol version in common, ... */
	HTTP_PROBLEM_LOST
} HttpProblem;

typedef struct HttpExchange
{
	HttpTransport transport;
	HttpProblem	  problem; /* NONE when HTTP_ANSWERED */
	int			  purpose;
	int			  status;
	int			  latency_ms;
	int64		  retry_after_ms; /* -1: not said */
	int64		  date_s;		  /* the peer's clock, 0: not said */
	char		 *headers;
	int			  headers_length;
	char		 *body;
	int			  body_length;
	char		  error[HTTP_ERROR_SIZE]; /* unless HTTP_ANSWERED */
	void		 *owner;

	/* private */
	void		 *easy;
	void		 *header_list;
	MemoryContext context;
	int			  body_capacity;
	int			  body_max;
	bool		  body_refused;
	bool		  repeatable; /* by libcurl, without asking */
	bool		  begun;
	int64		  sent_at_us;
	int			  timeout_ms;
	bool		  has_grace; /* its time was over when nobody looked */
	dlist_node	  node;
} HttpExchange;

/* once per process, before anything else */
extern void http_startup(void);

/*
 * Start a request whose exchange and answer live in context.  NULL when it
 * could not even be begun: then nothing was sent.
 */
extern HttpExchange *http_send(MemoryContext	  context,
							   const HttpRequest *request, void *owner);

/*
 * Wait until a request makes progress, the latch is set or the time is over.
 * Returns true when the latch was set (and resets it).
 */
extern bool http_wait(long timeout_ms, uint32 wait_event);

/* drive what is ready, without waiting */
extern void http_drive(void);

/* the next finished exchange, or NULL; it is out of http.c's hands then */
extern HttpExchange *http_next(void);

extern int http_in_flight(void);

/* the error code of an attempt that met the problem */
extern const char *http_problem_name(HttpProblem problem);

#endif /* PAYMENT_WORKER_HTTP_H */
