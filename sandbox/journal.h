/*
 * journal.h
 *		The book's file: what changed under one lock is one record, written
 *		with one write before anything of it is answered.
 */
#ifndef SANDBOX_JOURNAL_H
#define SANDBOX_JOURNAL_H

#include <stddef.h>
#include <sys/types.h>

#include "book.h"
#include "buf.h"
#include "idempotency.h"

/* Reads the book from the file, and from then on writes to it. */
extern void journal_open(const char *path);
extern void journal_close(void);

/* Put the present state into the record being made. */
extern void journal_intent(Intent *intent);
extern void journal_charge(Charge *charge);
extern void journal_payout(Payout *payout);
extern void journal_balance_tx(BalanceTx *tx);
extern void journal_settlement(Settlement *settlement);
extern void journal_modification(Modification *modification);
extern void journal_notification(Notification *notification);
extern void journal_customer(Customer *customer);
extern void journal_saved_method(SavedMethod *saved_method);
extern void journal_setup(Setup *setup);
extern void journal_session(Session *session);
extern void journal_dispute(Dispute *dispute);
extern void journal_key(IdempotencyKey *key);

extern void journal_commit(void);

/* Reads back an answer that is kept in the file only. */
extern void journal_read(off_t offset, size_t len, Buf *out);

#endif
