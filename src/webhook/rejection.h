/*-------------------------------------------------------------------------
 *
 * rejection.h
 *	  A bounded memory of webhooks that were refused.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_REJECTION_H
#define PAYMENT_REJECTION_H

typedef struct Rejection
{
	const char *psp; /* as the caller named it */
	const char *reason;
	int			http_status;
	const char *body;
	int			length;
	bool		is_hashed;
} Rejection;

/* Write over the oldest.  Needs an SPI connection. */
extern void rejection_note(const Rejection *rejection);

/* Take away what is beyond the limit since that was lowered. */
extern void rejection_shrink(void);

#endif /* PAYMENT_REJECTION_H */
