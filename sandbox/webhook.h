/*
 * webhook.h
 *		Posting a body to an http URL.
 */
#ifndef SANDBOX_WEBHOOK_H
#define SANDBOX_WEBHOOK_H

#include <stdbool.h>

#define WEBHOOK_PART_MAX 256

typedef struct Webhook
{
	char host[WEBHOOK_PART_MAX];
	char port[8];
	char path[WEBHOOK_PART_MAX];
} Webhook;

extern bool webhook_parse(Webhook *webhook, const char *url);

/* The headers end with a CRLF each. True: confirmed with a status of 2xx. */
extern bool webhook_post(const Webhook *webhook, const char *headers,
						 const char *body);

#endif
