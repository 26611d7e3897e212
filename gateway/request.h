/*
 * request.h
 *		One webhook on its way: what came, and what to answer.
 */
#ifndef GATEWAY_REQUEST_H
#define GATEWAY_REQUEST_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct Request
{
	struct MHD_Connection *connection;
	char				  *path;
	char				  *psp;
	char				  *headers; /* JSON */
	char				  *body;
	size_t				   body_length;
	size_t				   body_room;
	size_t				   body_seen; /* what was thrown away included */
	bool				   begun;	  /* its headers were read */
	bool				   answered;
	bool				   is_set_aside; /* until the database has answered */
	int64_t				   started_ms;
	int64_t				   queued_ms;

	int				status;
	char		   *content_type; /* NULL: plain text */
	char		   *answer;
	struct Request *next; /* in the queue */
} Request;

extern Request *request_new(const char *uri);
extern void		request_free(Request *request);

/* false when the sender goes on and on, far above the limit */
extern bool request_take_body(Request *request, const char *data, size_t size);
extern bool request_is_too_large(const Request *request);
extern void request_answer(Request *request, int status,
						   const char *content_type, const char *answer);

#endif /* GATEWAY_REQUEST_H */
