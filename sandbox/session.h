/*
 * session.h
 *		Stripe's Checkout Sessions, and what pages of any PSP have in common.
 */
#ifndef SANDBOX_SESSION_H
#define SANDBOX_SESSION_H

#include "book.h"
#include "page.h"
#include "request.h"

extern bool session_prepare_create(Request *request);
extern void session_create(Request *request);
extern bool session_prepare_get(Request *request);
extern void session_get(Request *request);
extern bool session_prepare_expire(Request *request);
extern void session_expire_now(Request *request);
extern bool session_prepare_list(Request *request);
extern void session_list(Request *request);

extern void session_json(Buf *b, const char *key, const Session *session,
						 unsigned expand);

/* Called when its time is over. */
extern void session_expire(Session *session);

/* Called when a payment that took its time has an outcome. */
extern void session_tell_outcome(const Intent *intent);

/* Starts its clock; the caller has filled it and journals it. */
extern void session_open(Session *session, const Request *request,
						 int64_t expires_ms);

/* An address to redirect to: http or https, absolute, printable. */
extern bool session_is_url(const char *url);

extern const PageOwner stripe_page;

#endif
