/*-------------------------------------------------------------------------
 *
 * signature.h
 *	  Whether a webhook is its PSP's.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_SIGNATURE_H
#define PAYMENT_SIGNATURE_H

typedef enum SignatureVerdict
{
	SIGNATURE_GOOD,
	SIGNATURE_MISSING,
	SIGNATURE_MALFORMED,
	SIGNATURE_BAD,
	SIGNATURE_OLD,
	SIGNATURE_FUTURE
} SignatureVerdict;

/* Any of them may have signed it. */
typedef struct WebhookSecrets
{
	char **values;
	int	   count;
	bool   some_unreadable;
} WebhookSecrets;

/*
 * Read the files of these names; what is wrong with one is logged.  An error
 * leaves what was read so far to secrets_wipe().
 */
extern void secrets_init(WebhookSecrets *secrets, int count);
extern void secrets_read(WebhookSecrets *secrets, char *const *names,
						 int count);
extern void secrets_wipe(WebhookSecrets *secrets);

/* "t=…,v1=…[,v1=…]": HMAC-SHA256 of the time, a dot and the body, in hex */
extern SignatureVerdict signature_check_stripe(const WebhookSecrets *secrets,
											   const char			*header,
											   const char *body, int length,
											   int64 now_s, int64 tolerance_s);

/* HMAC-SHA256 of the text, in base64, by keys that are in hex */
extern SignatureVerdict signature_check_adyen(const WebhookSecrets *secrets,
											  const char		   *signature,
											  const char *text, int length);

#endif /* PAYMENT_SIGNATURE_H */
