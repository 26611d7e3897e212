/*
 * notification.h
 *		The outbox of webhooks, and who takes them to their receiver.
 */
#ifndef SANDBOX_NOTIFICATION_H
#define SANDBOX_NOTIFICATION_H

#include "book.h"
#include "request.h"

/* Is there anybody who would get what this PSP tells? */
extern bool notification_wanted(Psp psp);

/* Into the outbox, under the book's lock; the texts are copied. */
extern void notification_add(Psp psp, const char *event, const char *signature,
							 const Buf *body);

/*
 * Adds one more item to a batch that has not been sent, if there is one with
 * room: its body ends so, and each of its items holds that name.
 */
extern bool notification_join(Psp psp, const char *end, const char *name,
							  const char *item);

/* The same in two steps, for a body that says the notification's id. */
extern Notification *notification_new(Psp psp, const char *event);
extern void			 notification_finish(Notification *notification,
										 const char *signature, const Buf *body);

/* HMAC-SHA256 in base64 with the key of the command line; "" without one. */
extern void notification_sign(const Buf *text, char *out, size_t size);

/* Where to send to from now on; NULL: nowhere. False when it is no URL. */
extern bool notification_set_url(Psp psp, const char *url);

extern void notification_start(void);
extern void notification_stop(void);

extern void control_notifications(Request *request);
extern void control_notification(Request *request);
extern void control_set_notifications(Request *request);

#endif
