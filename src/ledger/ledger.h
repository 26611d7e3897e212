/*-------------------------------------------------------------------------
 *
 * ledger.h
 *	  The double-entry ledger: the only writer of journals and entries.
 *
 * Amounts are signed: debit positive, credit negative.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PAYMENT_LEDGER_H
#define PAYMENT_LEDGER_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

/*
 * The chart of accounts.  Whose an account is (owner): nobody's (the
 * platform's own), a PSP's or a seller's.
 */
typedef enum AccountCode
{
	ACCOUNT_PSP_RECEIVABLE,		   /* psp, asset */
	ACCOUNT_PSP_FEE,			   /* psp, expense */
	ACCOUNT_SETTLEMENT_IN_TRANSIT, /* psp, asset */
	ACCOUNT_UNIDENTIFIED_RECEIPTS, /* psp, liability */
	ACCOUNT_RECON_SUSPENSE,		   /* psp, asset */
	ACCOUNT_PLATFORM_FEE,		   /* platform, revenue */
	ACCOUNT_BANK,				   /* platform, asset */
	ACCOUNT_WRITE_OFF,			   /* platform, expense */
	ACCOUNT_FX_CLEARING,		   /* platform, equity */
	ACCOUNT_FX_GAIN,			   /* platform, revenue */
	ACCOUNT_SELLER_PENDING,		 /* seller, liability, never a debit balance */
	ACCOUNT_SELLER_AVAILABLE,	 /* seller, liability, never a debit balance */
	ACCOUNT_SELLER_RECEIVABLE,	 /* seller, asset, never a credit balance */
	ACCOUNT_SELLER_DISPUTE_HOLD, /* seller, liability, never a debit balance */
	ACCOUNT_PAYOUT_CLEARING,	 /* seller, liability, never a debit balance */
	ACCOUNT_REFUND_CLEARING,	 /* psp, liability */
	ACCOUNT_DISPUTE_RECEIVABLE,	 /* psp, asset */
	ACCOUNT_DISPUTE_FEE,		 /* platform, expense */
	ACCOUNT_CODE_COUNT
} AccountCode;

typedef struct LedgerLeg
{
	pg_uuid_t account_id;
	int64	  amount; /* minor units; debit > 0, credit < 0 */
} LedgerLeg;

typedef struct LedgerJournal
{
	pg_uuid_t	id;		 /* made by ledger_post when all zero */
	const char *kind;	 /* capture, release, payout, ... */
	pg_uuid_t	subject; /* the order, payout or file it belongs to */
	bool		has_subject;
	pg_uuid_t	reverses;
	bool		has_reverses;
	TimestampTz effective_at;
	bool		has_effective_at; /* else it is now */
	const char *description;	  /* or NULL */
	LedgerLeg  *legs;
	int			leg_count;
} LedgerJournal;

/*
 * Account of the chart for owner (NULL for the platform's own) and currency,
 * created when it does not exist yet.
 */
extern void ledger_chart_account(AccountCode code, const pg_uuid_t *owner,
								 const char *currency, pg_uuid_t *account_id);

/*
 * Post journals: the one way into journal, entry and balance_slot.  Checks
 * that each sums to zero per currency, that accounts exist and are open and,
 * on the state after all of them, that limits hold; then writes each table
 * once.  Raises PY200..PY204; nothing is written then.
 */
extern void ledger_post(LedgerJournal *journals, int count);

/*
 * Posted balance, debit positive, by the latest snapshot.  Wide, so that an
 * account whose balance is no amount any more can be posted back.
 */
extern int128 ledger_balance(const pg_uuid_t *account_id);

/*
 * What is held of it for postings to come, on the side that is normal for the
 * account: nobody else may take that of the balance.
 */
extern int64 ledger_held(const pg_uuid_t *account_id);

/*
 * Lock accounts, in the order in which postings do: whoever posts towards a
 * limit of one waits.  For reading a balance that decides what is posted.
 */
extern void ledger_lock_accounts(const pg_uuid_t *accounts, int count);

#endif /* PAYMENT_LEDGER_H */
