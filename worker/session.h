/*-------------------------------------------------------------------------
 *
 * session.h
 *	  A dispatcher's life as a process and as a database session.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_WORKER_SESSION_H
#define PAYMENT_WORKER_SESSION_H

#include <signal.h>

#include "shared.h"

/* What a transaction finds when it looks around */
typedef enum Presence
{
	EXTENSION_PRESENT,
	EXTENSION_ABSENT,
	EXTENSION_BUSY, /* being dropped, perhaps */
	DATABASE_WANTED /* somebody wants to be alone in it */
} Presence;

extern DispatcherSlot *session_slot;

/* for what lives no longer than a turn of the loop */
extern MemoryContext session_context;

/* work although the database is wanted: to finish what is under way */
extern bool session_stays;

/* how often somebody asked to cancel what this process does */
extern volatile sig_atomic_t session_cancel_count;

/* connect, and leave again unless there is something to serve here */
extern void session_start(Datum argument);

/*
 * Begin a transaction; SPI is connected only if the extension is there.  End
 * it with session_commit, or with session_abort in a PG_CATCH block, which
 * reports the error.
 */
extern Presence session_begin(const char *activity);
extern void		session_commit(Presence presence);
extern void		session_abort(void);

/* be woken by commits, or not (NULL) */
extern void session_set_latch(Latch *latch);

extern void session_leave(SlotVerdict verdict) pg_attribute_noreturn();
extern void session_leave_if_absent(void) pg_attribute_noreturn();

#endif /* PAYMENT_WORKER_SESSION_H */
