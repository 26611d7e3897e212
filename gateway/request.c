/*
 * request.c
 *		One webhook on its way: what came, and what to answer.
 */
#include "request.h"

#include <stdlib.h>
#include <string.h>

#include "options.h"
#include "report.h"

/* A sender that is refused should read why: so much is read first. */
#define DRAIN_FACTOR 4
#define BODY_ROOM_MIN 4096

Request *
request_new(const char *uri)
{
	Request *request = get_memory(NULL, sizeof(Request));

	request->path = strndup(uri, strcspn(uri, "?"));
	if (request->path == NULL)
		die("out of memory");
	request->started_ms = clock_ms();
	return request;
}

void
request_free(Request *request)
{
	free(request->path);
	free(request->psp);
	free(request->headers);
	free(request->body);
	free(request->content_type);
	free(request->answer);
	free(request);
}

bool
request_is_too_large(const Request *request)
{
	return request->body_seen > options.body_bytes_max;
}

bool
request_take_body(Request *request, const char *data, size_t size)
{
	request->body_seen += size;
	if (request_is_too_large(request))
	{
		free(request->body);
		request->body = NULL;
		request->body_length = request->body_room = 0;
		return request->body_seen <= options.body_bytes_max * DRAIN_FACTOR;
	}
	if (request->body_length + size > request->body_room)
	{
		size_t room = request->body_room ? request->body_room : BODY_ROOM_MIN;

		while (room < request->body_length + size)
			room *= 2;
		request->body = get_memory(request->body, room);
		request->body_room = room;
	}
	memcpy(request->body + request->body_length, data, size);
	request->body_length += size;
	return true;
}

static char *
copy_text(const char *text)
{
	char *copy = text ? strdup(text) : NULL;

	if (text && copy == NULL)
		die("out of memory");
	return copy;
}

void
request_answer(Request *request, int status, const char *content_type,
			   const char *answer)
{
	free(request->content_type);
	free(request->answer);
	request->status = status;
	request->content_type = copy_text(content_type);
	request->answer = copy_text(answer);
	request->answered = true;
}
