/*
 * options.h
 *		What the command line decides.
 */
#ifndef SANDBOX_OPTIONS_H
#define SANDBOX_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "book.h"

#define SECRET_KEY_MAX 255
#define HMAC_KEY_MAX 64

typedef struct Options
{
	const char	 *bind;
	int			  port;
	int			  connections_max;
	int			  idle_timeout_s;
	char		  secret_key[SECRET_KEY_MAX + 1];
	const char	 *book_file;
	const char	 *tls_cert; /* NULL: no TLS */
	const char	 *tls_key;
	const char	 *pid_file;
	const char	 *port_file;
	uint64_t	  seed;
	int64_t		  payout_delay_ms;
	int64_t		  payout_return_delay_ms;
	int64_t		  processing_delay_ms;
	int64_t		  modification_delay_ms;
	int64_t		  session_lifetime_s;
	int64_t		  dispute_fee; /* minor units, whatever the currency */
	int64_t		  authorization_lifetime_s; /* 0: as each PSP has it */
	int64_t		  idempotency_ttl_s;		/* 0: as each PSP has it */
	const char	 *adyen_merchant;
	const char	 *adyen_balance_account;
	bool		  adyen_manual_capture;
	bool		  adyen_multiple_captures;
	const char	 *paypal_client;
	const char	 *paypal_webhook_id; /* NULL: a default, and no events */
	int64_t		  token_lifetime_s;
	const char	 *webhook_urls[PSP_COUNT]; /* NULL: they stay in the outbox */
	const char	 *stripe_webhook_secrets;  /* a file's name */
	unsigned char hmac_key[HMAC_KEY_MAX];
	size_t		  hmac_key_len; /* 0: notifications are not signed */
	bool		  verbose;
} Options;

extern Options options;

/* Exits by itself for --help and for what it does not understand. */
extern void options_parse(int argc, char **argv);

#endif
