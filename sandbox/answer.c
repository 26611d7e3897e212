/*
 * answer.c
 *		Error objects.
 */
#include "request.h"

#include <stdlib.h>

#include "json.h"

static void
put_error(Request *request, int status, const char *type, const char *code,
		  const char *param, const char *fmt, va_list args)
{
	Buf	 message = { 0 };
	Buf *b = &request->answer.body;

	buf_vprintf(&message, fmt, args);
	request->answer.status = status;
	b->len = 0;
	json_open(b, NULL, '{');
	json_open(b, "error", '{');
	if (code != NULL)
		json_str(b, "code", code);
	json_str(b, "message", message.data);
	if (param != NULL)
		json_str(b, "param", param);
	json_str(b, "type", type);
	json_close(b, '}');
	json_close(b, '}');
	buf_free(&message);
}

void
answer_header(Request *request, const char *name, const char *fmt, ...)
{
	Answer *answer = &request->answer;
	Buf		value = { 0 };
	va_list args;

	if (answer->header_count == ANSWER_HEADERS_MAX)
		die("no room for the header %s", name);
	va_start(args, fmt);
	buf_vprintf(&value, fmt, args);
	va_end(args);
	answer->headers[answer->header_count++] =
		(AnswerHeader){ name, value.data };
}

bool
answer_error(Request *request, int status, const char *type, const char *code,
			 const char *param, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	put_error(request, status, type, code, param, fmt, args);
	va_end(args);
	return false;
}

bool
answer_invalid(Request *request, const char *code, const char *param,
			   const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	put_error(request, 400, "invalid_request_error", code, param, fmt, args);
	va_end(args);
	return false;
}

bool
answer_missing_object(Request *request, const char *param, const char *kind,
					  const char *id)
{
	return answer_error(request, 404, "invalid_request_error",
						"resource_missing", param, "No such %s: '%s'", kind,
						id);
}
