/*
 * timer.h
 *		What happens to objects by the mere passing of time.
 *
 * Nothing runs in the background: whoever takes the book's lock first lets
 * everything happen that is due.
 */
#ifndef SANDBOX_TIMER_H
#define SANDBOX_TIMER_H

#include "book.h"

/* Called when due_ms was set to something else than 0. */
extern void timer_add_intent(Intent *intent);
extern void timer_add_payout(Payout *payout);
extern void timer_add_modification(Modification *modification);
extern void timer_add_session(Session *session);
extern void timer_add_dispute(Dispute *dispute);

extern void timer_run_due(int64_t now_ms);

#endif
