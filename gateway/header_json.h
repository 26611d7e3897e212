/*
 * header_json.h
 *		A request's headers as the JSON object that receive_webhook() takes.
 */
#ifndef GATEWAY_HEADER_JSON_H
#define GATEWAY_HEADER_JSON_H

#include <microhttpd.h>
#include <stdbool.h>

/* the caller frees it */
extern char *header_json(struct MHD_Connection *connection);

/* no byte of it has to be repaired, and none is zero */
extern bool is_utf8(const char *text);

#endif /* GATEWAY_HEADER_JSON_H */
