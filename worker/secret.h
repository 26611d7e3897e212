/*-------------------------------------------------------------------------
 *
 * secret.h
 *	  The PSPs' secret keys, read from files.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_WORKER_SECRET_H
#define PAYMENT_WORKER_SECRET_H

/*
 * The content of the file of that name in payment.secrets_dir, without the
 * line's end; read again when the file has changed.  NULL when it cannot be
 * had; then *problem says why, without anything of the content.  The result
 * stays valid until the next call.
 */
extern const char *secret_get(const char *name, const char **problem);

#endif /* PAYMENT_WORKER_SECRET_H */
