/*-------------------------------------------------------------------------
 *
 * hold.h
 *	  Amounts of accounts that are reserved for postings to come.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_HOLD_H
#define PAYMENT_HOLD_H

#include "ledger/posting.h"

#define LEDGER_MAX_OPEN_HOLDS 10000 /* of one account */
#define LEDGER_HOLD_KIND "hold_posted"

typedef struct Hold
{
	pg_uuid_t	id;
	pg_uuid_t	account_id;
	int64		amount;
	int64		posted;
	char		state[16];
	TimestampTz expires_at; /* DT_NOEND when it never does */
} Hold;

/* past its time, though nobody may have written so yet */
extern bool hold_is_over(const Hold *hold);

/* what is held of an account, and by how many */
extern int64 hold_sum(const pg_uuid_t *account_id, Snapshot snapshot,
					  int *count);

/* hold_sum, for whoever has the account's row lock */
extern int64 hold_sum_locked(const pg_uuid_t *account_id, int *count);

/*
 * The rows, one at a time, by the latest snapshot.  hold_lock waits for
 * whoever is posting, voiding or expiring it.
 */
extern bool hold_find(const pg_uuid_t *id, Hold *hold);
extern bool hold_lock(const pg_uuid_t *id, Hold *hold);
extern void hold_insert(const Hold *hold, const pg_uuid_t *subject,
						const char *description);
/* state and posted, as they are in *hold */
extern void	 hold_update(const Hold *hold);
extern int64 hold_expire(int count);

#endif /* PAYMENT_HOLD_H */
